// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_DOCUMENT_INDEPENDENT_HPP
#define DRO_GRADIENT_DOCUMENT_INDEPENDENT_HPP

/// \file
/// Score-space gradients of methods that treat documents one by one: the baselines the method is compared with. With
/// scores s [queries × documents], π = softmax(s) and ℓ_i = log p(y|x, d_i) of document i read alone, all in nats.
/// Documents of score −inf are padding. Gradients point uphill.

#include <cstddef>
#include <limits>
#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/exp.hpp>

namespace dro {

namespace detail {

/// exp(f(i) − largest) / Σ exp(f(j) − largest), written through out(i, p_i); 0 everywhere if nothing is possible.
template <class T, class Team, class F, class Out>
DRO_HOST_DEVICE void softmax_row(Team& team, index_t n, F&& f, Out&& out) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const T largest = team.max(n, -infinity, f);
  if (!(largest > -infinity)) {
    team.for_each(n, [&](index_t i) { out(i, T(0)); });
    return;
  }
  const T sum = team.template sum<T>(n, [&](index_t i) { return math::exp(f(i) - largest); });
  team.for_each(n, [&](index_t i) { out(i, math::exp(f(i) - largest) / sum); });
}

template <class T>
struct rag_sequence_program {
  matrix_view<const T> scores, log_likelihood;
  matrix_view<T> d_scores, responsibility;
  T scale;

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const index_t n = scores.cols;
    softmax_row<T>(
        team, n, [&](index_t i) { return scores(q, i); }, [&](index_t i, T p) { d_scores(q, i) = -scale * p; });
    team.barrier();
    softmax_row<T>(
        team, n,
        [&](index_t i) {
          return scores(q, i) > -std::numeric_limits<T>::infinity() ? scores(q, i) + log_likelihood(q, i)
                                                                    : scores(q, i);
        },
        [&](index_t i, T r) {
          d_scores(q, i) += scale * r;
          responsibility(q, i) = scale * r;
        });
  }
};

template <class T>
struct replug_program {
  matrix_view<const T> scores, log_likelihood;
  matrix_view<T> d_scores;
  T target_temperature, temperature, scale;

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const index_t n = scores.cols;
    const T factor = scale / temperature;
    softmax_row<T>(
        team, n, [&](index_t i) { return scores(q, i) / temperature; },
        [&](index_t i, T p) { d_scores(q, i) = -factor * p; });
    team.barrier();
    softmax_row<T>(
        team, n,
        [&](index_t i) {
          return scores(q, i) > -std::numeric_limits<T>::infinity() ? log_likelihood(q, i) / target_temperature
                                                                    : scores(q, i);
        },
        [&](index_t i, T r) { d_scores(q, i) += factor * r; });
  }
};

template <class T>
struct straight_through_program {
  matrix_view<const T> perturbed;
  matrix_view<const document_t> rankings;
  matrix_view<const T> gain;
  matrix_view<T> d_scores;  // added to
  index_t samples;
  T temperature, scale;

  // Perturbed scores of what is left over τ [n], softmax [n].
  std::size_t scratch_bytes() const { return 2 * static_cast<std::size_t>(d_scores.cols) * sizeof(T); }

  [[nodiscard]] index_t width() const { return d_scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    constexpr T impossible = -std::numeric_limits<T>::infinity();
    const index_t n = d_scores.cols;
    T* left = team.template scratch<T>();
    T* soft = left + n;
    for (index_t draw = q * samples; draw < (q + 1) * samples; ++draw) {
      team.for_each(n, [&](index_t j) { left[j] = perturbed(draw, j) / temperature; });
      team.barrier();
      for (index_t t = 0; t < rankings.cols; ++t) {
        softmax_row<T>(
            team, n, [&](index_t j) { return left[j]; }, [&](index_t j, T p) { soft[j] = p; });
        team.barrier();
        const T mean =
            team.template sum<T>(n, [&](index_t j) { return left[j] != impossible ? soft[j] * gain(draw, j) : T(0); });
        team.for_each(n, [&](index_t j) {
          if (left[j] != impossible) d_scores(q, j) += scale / temperature * soft[j] * (gain(draw, j) - mean);
        });
        team.barrier();
        const document_t pick = rankings(draw, t);
        if (team.rank() == 0 && pick >= 0 && pick < n) left[pick] = impossible;
        team.barrier();
      }
    }
  }
};

}  // namespace detail

/// Gradient of log Σ_i π_i exp(ℓ_i), the marginal of RAG-Sequence (Lewis et al. 2020) and REALM (Guu et al. 2020):
/// `responsibility` r_i ∝ π_i exp(ℓ_i) and `d_scores` r − π, both [queries × documents] and divided by the number of
/// queries. r is also the coefficient of ∇ log p(y|x, d_i). EMDR² (Sachan et al. 2021) uses d_scores for its retriever
/// and trains its reader on the top K read together. Impossible rows are 0. Throws shape_error. One program.
template <backend B, class T>
void rag_sequence_gradient(B& b, matrix_view<const T> scores, matrix_view<const T> log_likelihood,
                           matrix_view<T> d_scores, matrix_view<T> responsibility) {
  require_shape(log_likelihood, scores.rows, scores.cols, "rag_sequence_gradient: log_likelihood");
  require_shape(d_scores, scores.rows, scores.cols, "rag_sequence_gradient: d_scores");
  require_shape(responsibility, scores.rows, scores.cols, "rag_sequence_gradient: responsibility");
  b.run(scores.rows, detail::rag_sequence_program<T>{scores, log_likelihood, d_scores, responsibility,
                                                     T(1) / static_cast<T>(scores.rows)});
}

struct replug_options {
  double target_temperature = 1.0;  ///< τ of the reader's preference softmax(ℓ/τ)
  double temperature = 1.0;         ///< τ' of the selector's softmax(s/τ')
};

/// Gradient of −KL(softmax(ℓ/τ) ‖ softmax(s/τ')), REPLUG-LSR (Shi et al. 2023) and perplexity distillation of Atlas
/// (Izacard et al. 2022): `d_scores` = (softmax(ℓ/τ) − softmax(s/τ')) / τ', [queries × documents], divided by the
/// number of queries. Throws option_error unless both temperatures are positive, shape_error. One program.
template <backend B, class T>
void replug_gradient(B& b, matrix_view<const T> scores, matrix_view<const T> log_likelihood, matrix_view<T> d_scores,
                     const replug_options& options = {}) {
  if (!(options.target_temperature > 0) || !(options.temperature > 0)) {
    throw option_error("replug_gradient: temperatures are " + std::to_string(options.target_temperature) + " and " +
                       std::to_string(options.temperature) + ", expected more than 0");
  }
  require_shape(log_likelihood, scores.rows, scores.cols, "replug_gradient: log_likelihood");
  require_shape(d_scores, scores.rows, scores.cols, "replug_gradient: d_scores");
  b.run(scores.rows,
        detail::replug_program<T>{scores, log_likelihood, d_scores, static_cast<T>(options.target_temperature),
                                  static_cast<T>(options.temperature), T(1) / static_cast<T>(scores.rows)});
}

/// Straight-through gradient of Stochastic RAG (Zamani & Bendersky 2024): the forward pass takes the K largest of
/// s + Gumbel noise; the backward pass pretends that the choice was the sum of K successive softmaxes of (s + noise)/τ,
/// the noise held fixed, each softmax without the documents already taken:
///
///     ∂/∂s_j of Σ_t Σ_i p_i gain_i = Σ_t p_j (gain_j − Σ_i p_i gain_i) / τ,   p = softmax over what is left at pick t.
///
/// `perturbed` [draws × documents] is s + noise, whose K largest in descending order are `rankings` [draws × K].
/// draw_plackett_luce makes no such noise: plackett_luce_conditional_noise draws it given the rankings, from a stream
/// of its own (see substream), and both together are distributed as by Gumbel-top-K. `gain` [draws × documents] is
/// ∂ utility / ∂ (document j is read): for a generator that cannot be differentiated by its documents, the utility with
/// document j less the utility without it. The draws of a query, equally many of each, are in consecutive rows.
///
/// Adds to `d_scores` [queries × documents], divided by the number of draws. A document whose perturbed score is −inf,
/// being impossible, takes no part whatever its gain, nor does a draw of which all are, being no ranking. Throws
/// option_error unless τ > 0, shape_error. One program: O(K n) exp a draw, beside the noise.
template <backend B, class T>
void straight_through_gradient(B& b, matrix_view<const T> perturbed, matrix_view<const document_t> rankings,
                               matrix_view<const T> gain, matrix_view<T> d_scores, double temperature = 1.0) {
  if (!(temperature > 0)) {
    throw option_error("straight_through_gradient: temperature is " + std::to_string(temperature) +
                       ", expected more than 0");
  }
  const index_t samples = d_scores.rows == 0 ? 0 : rankings.rows / d_scores.rows;
  require_shape(rankings, d_scores.rows * samples, rankings.cols, "straight_through_gradient: rankings");
  require_shape(perturbed, rankings.rows, d_scores.cols, "straight_through_gradient: perturbed");
  require_shape(gain, rankings.rows, d_scores.cols, "straight_through_gradient: gain");
  b.run(d_scores.rows,
        detail::straight_through_program<T>{perturbed, rankings, gain, d_scores, samples, static_cast<T>(temperature),
                                            T(1) / static_cast<T>(rankings.rows)});
}

}  // namespace dro

#endif
