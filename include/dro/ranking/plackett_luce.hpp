// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_PLACKETT_LUCE_HPP
#define DRO_RANKING_PLACKETT_LUCE_HPP

/// \file
/// The Plackett–Luce distribution over rankings of K of n documents, given one score for each document.
///
///     p(z) = Π_t exp(s_{z_t}) / Σ_{j not in z_<t} exp(s_j)          (Plackett 1975; Luce 1959)
///
/// Scores are [queries × documents] in nats. A score of −inf marks a document that cannot be chosen (padding).

#include <cstddef>
#include <cstdint>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/lanes.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/gumbel_top_k.hpp>
#include <dro/ranking/masses.hpp>
#include <dro/ranking/plackett_luce_draw.hpp>
#include <dro/ranking/plackett_luce_gradient.hpp>
#include <dro/ranking/sampling.hpp>
#include <dro/ranking/truncated_plackett_luce.hpp>

namespace dro {

namespace detail {

template <class T>
struct plackett_luce_log_prob_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<T> log_prob;
  grouping groups;

  // Masses, membership flags [n each, rounded up to a multiple of 4].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(padded(scores.cols)) * (sizeof(T) + sizeof(document_t));
  }
  static constexpr bool lives_in_scratch = true;
  static constexpr index_t items_of_thread = 2;
  static constexpr std::size_t scratch_word = sizeof(T);
  [[nodiscard]] index_t width() const { return groups.mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const std::size_t behind = static_cast<std::size_t>(padded(scores.cols)) * sizeof(T);
    const relative_masses<T> masses(team, scores, rankings, query, team.template scratch<T>());
    write_log_probs(team, masses, groups.begin(query), groups.size(query), log_prob,
                    team.template scratch<document_t>(behind));
  }
};

template <class T, class B, class M, class C>
void run_plackett_luce_gradient(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                                const C& coefficients, matrix_view<T> gradient, bool adds) {
  const matrix_view<const T> s = view_of(b, scores);
  const matrix_view<const T> c = view_of(b, coefficients);
  require_shape(s, groups.queries(), s.cols, "plackett_luce_gradient: scores");
  require_shape(rankings, groups.total(), rankings.cols, "plackett_luce_gradient: rankings");
  require_shape(gradient, s.rows, s.cols, "plackett_luce_gradient: gradient");
  const grouped_view<const T> by_query(c, groups, "plackett_luce_gradient: coefficients");
  with_exact_slots_for(rankings.cols, [&]<int Slots>(std::integral_constant<int, Slots>) {
    b.run(s.rows, plackett_luce_gradient_program<T, Slots>{s, rankings, by_query, gradient, groups, adds});
  });
}

}  // namespace detail

/// Draws `options.samples` rankings for each query. `scores` [queries × documents]. As a rule pick after pick, by
/// inverting the distribution function of what is left (inversion.hpp); where samples share noise, by Gumbel-top-K
/// (Kool et al. 2019, section 2.3), the K largest of s_j/τ + Gumbel noise in descending order; where `how` truncates,
/// pick by pick, each by Gumbel-max over what it may be. Masses and noise are made in integers, so bit-equal scores
/// give bit-equal rankings on every backend if top_p = 1. log q of the draws is their log-probability under the
/// distribution drawn from, see `sampling`; NaN if a score is NaN or +inf. A query with fewer than K possible documents
/// (those with a score that is neither −inf nor NaN) gets incomplete rankings of log-probability −inf. Throws
/// option_error if samples or K do not fit, or for options that `sampling` does not take. Queues one program, two if τ
/// ≠ 1: O(n + m K (log n + K)) a query; with shared noise O(n exp + m n K); truncated, O(n² + m K n exp).
template <backend B, viewable<B> M>
[[nodiscard]] auto draw_plackett_luce(B& b, const M& scores, const random_source& random, const draw_options& options,
                                      const sampling& how = {}) {
  using T = element_t<B, M>;
  const matrix_view<const T> given = detail::view_of(b, scores);
  require_drawable(options, given.cols);
  require_sampling(how);
  require_joint_noise(how.noise, options.samples);
  const detail::tempered_scores<B, T> tempered(b, given, how.temperature);
  const matrix_view<const T> s = tempered.view;
  const auto groups = grouping::uniform(s.rows, options.samples);
  auto rankings = b.template make<document_t>(groups.total(), options.select);
  auto log_prob = b.template make<T>(groups.total(), 1);
  if (!how.truncates()) {
    const matrix_view<document_t> z = b.view(rankings);
    if (how.noise.kind == noise_kind::independent) {
      detail::run_plackett_luce_draws(b,
                                      detail::plackett_luce_draws<T>{s, z, b.view(log_prob), options.samples, random});
    } else {
      b.run(s.rows, detail::gumbel_top_k_program<T>{s, z, b.view(log_prob), options.samples, random, how.noise});
    }
    return draws<B, T>(b, std::move(rankings), std::move(log_prob), groups, how.traits());
  }
  auto log_kept = b.template make<T>(groups.total(), 1);
  b.run(s.rows,
        detail::truncated_draw_program<T>{s, b.view(rankings), b.view(log_prob), b.view(log_kept), options.samples,
                                          random, how.noise, how.top_k, static_cast<T>(how.top_p)});
  draws<B, T> drawn(b, std::move(rankings), std::move(log_prob), groups, how.traits());
  drawn.set_log_kept(b, std::move(log_kept));
  return drawn;
}

/// Writes log p(z) of each ranking to `log_prob` [draws × 1], in nats; −inf for a ranking that is not one (an entry out
/// of range or repeated), that holds an impossible document or that `how` does not draw; NaN if a score is.
/// `scores` [queries × documents], `rankings` [draws × K]. With `how` it is log q of rankings drawn with it; its noise
/// has no say. Throws shape_error, and option_error for options that `sampling` does not take. Queues one program, two
/// if τ ≠ 1: O(n exp) a query and O(n + K log) a draw, where masses are too small for T O(n exp + K log); truncated,
/// O(n²) a query and O(K n exp) a draw.
template <backend B, viewable<B> M, class T>
void plackett_luce_log_prob(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                            matrix_view<T> log_prob, const sampling& how = {}) {
  const matrix_view<const T> given = detail::view_of(b, scores);
  require_shape(given, groups.queries(), given.cols, "plackett_luce_log_prob: scores");
  require_shape(rankings, groups.total(), rankings.cols, "plackett_luce_log_prob: rankings");
  require_shape(log_prob, groups.total(), 1, "plackett_luce_log_prob: log_prob");
  require_sampling(how);
  const detail::tempered_scores<B, T> tempered(b, given, how.temperature);
  const matrix_view<const T> s = tempered.view;
  if (how.truncates()) {
    b.run(s.rows,
          detail::truncated_log_prob_program<T>{s, rankings, log_prob, groups, how.top_k, static_cast<T>(how.top_p)});
  } else {
    b.run(s.rows, detail::plackett_luce_log_prob_program<T>{s, rankings, log_prob, groups});
  }
}

/// Σ_i c_i ∂ log p(z_i) / ∂ s, [queries × documents]. `coefficients` holds one value for each draw; a draw whose
/// coefficient is 0, or that is impossible, is passed over. Throws shape_error. Queues one program: O(n exp) a query
/// and O(n + K) a draw, O(n exp + K log) where masses are too small.
template <backend B, viewable<B> M, viewable<B> C>
[[nodiscard]] auto plackett_luce_gradient(B& b, const M& scores, matrix_view<const document_t> rankings,
                                          const grouping& groups, const C& coefficients) {
  using T = element_t<B, M>;
  auto gradient = b.template make<T>(groups.queries(), detail::view_of(b, scores).cols);
  detail::run_plackett_luce_gradient<T>(b, scores, rankings, groups, coefficients, b.view(gradient), false);
  return gradient;
}

/// Adds it to `gradient` [queries × documents], which may not alias `scores`.
template <backend B, viewable<B> M, viewable<B> C, class T>
void accumulate_plackett_luce_gradient(B& b, const M& scores, matrix_view<const document_t> rankings,
                                       const grouping& groups, const C& coefficients, matrix_view<T> gradient) {
  detail::run_plackett_luce_gradient<T>(b, scores, rankings, groups, coefficients, gradient, true);
}

}  // namespace dro

#endif
