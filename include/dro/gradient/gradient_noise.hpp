// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_GRADIENT_NOISE_HPP
#define DRO_GRADIENT_GRADIENT_NOISE_HPP

/// \file
/// How much of a gradient is noise, measured as training goes on: the draws of each query are split into two halves,
/// and two gradients that should be equal are compared.

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/random_state.hpp>
#include <dro/random/substream.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

/// Two disjoint, equally large parts of the draws of each query, independent of each other, as multiplicities of the
/// draws, [draws × 1]: scores.with(traits, first) are the scores of the first half.
template <backend B, class T>
struct draw_halves {
  matrix_t<B, T> first, second;
};

namespace detail {

template <class T>
struct split_program {
  scored_draws<T> scores;
  matrix_view<T> first, second;
  random_source random;
  bool deal;

  [[nodiscard]] index_t width() const { return 1; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const index_t size = scores.size(q);
    const index_t begin = scores.groups().begin(q);
    const index_t block = scores.traits().block;
    const auto copies = static_cast<index_t>(team.template sum<T>(size, [&](index_t i) { return scores.count(q, i); }));
    if (team.rank() != 0) return;
    // What is dealt: copies of independent draws, or whole blocks of dependent ones.
    index_t left = block == 1 ? copies : size / block;
    index_t for_first = left / 2;
    index_t for_second = left / 2;
    T in_first = T(0);
    T in_second = T(0);
    for (index_t i = 0; i < size; ++i) {
      if (i % block == 0) {
        in_first = in_second = T(0);
        const index_t units = block == 1 ? static_cast<index_t>(scores.count(q, i)) : index_t{i + block <= size};
        for (index_t unit = 0; unit < units; ++unit, --left) {
          // Without dealing, place 0: the first half until it is full, then the second.
          const index_t place = deal ? random_place(q, i, unit, left) : 0;
          if (place < for_first) {
            in_first += T(1);
            --for_first;
          } else if (place < for_first + for_second) {
            in_second += T(1);
            --for_second;
          }
        }
      }
      first(begin + i, 0) = in_first;
      second(begin + i, 0) = in_second;
    }
  }

  DRO_HOST_DEVICE index_t random_place(index_t q, index_t i, index_t unit, index_t places) const {
    const std::uint32_t word = random_word(random.key(), static_cast<std::uint32_t>(q), static_cast<std::uint32_t>(i),
                                           static_cast<std::uint32_t>(unit));
    return static_cast<index_t>(noise::uniform_index(word, static_cast<std::uint32_t>(places)));
  }
};

inline constexpr index_t gradient_noise_columns = 4;  // queries, Σ signal, Σ variance, Σ signal²

template <class T>
struct compare_halves_program {
  matrix_view<const T> first, second;  // gradients [queries × n]
  grouped_view<const T> half;          // multiplicities of the first half
  matrix_view<const std::int32_t> status_first, status_second;
  matrix_view<double> rows;  // [queries × gradient_noise_columns]
  T least_draws;

  [[nodiscard]] index_t width() const { return first.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const T draws = team.template sum<T>(half.size(q), [&](index_t i) { return half(q, i); });
    const auto value = [](const matrix_view<const T>& g, index_t q_, index_t j) {
      return static_cast<double>(g(q_, j));
    };
    const double signal =
        team.template sum<double>(first.cols, [&](index_t j) { return value(first, q, j) * value(second, q, j); });
    const double variance = team.template sum<double>(first.cols, [&](index_t j) {
      const double d = value(first, q, j) - value(second, q, j);
      return d * d;
    }) / 2;
    // A half in which nothing is possible teaches nothing, as in a step: its gradient of 0 counts. NaN counts nowhere.
    const bool counts = draws >= least_draws && is_finite(status_first(q, 0)) && is_finite(status_second(q, 0)) &&
                        signal - signal == 0 && variance - variance == 0;
    if (team.rank() == 0) {
      rows(q, 0) = counts ? 1 : 0;
      rows(q, 1) = counts ? signal : 0;
      rows(q, 2) = counts ? variance : 0;
      rows(q, 3) = counts ? signal * signal : 0;
    }
  }

  static DRO_HOST_DEVICE bool is_finite(std::int32_t s) {
    return static_cast<status>(s) != status::not_a_number && static_cast<status>(s) != status::unbounded;
  }
};

struct add_rows_program {
  matrix_view<const double> rows;
  matrix_view<double> sums;  // [1 × columns]

  [[nodiscard]] index_t width() const { return rows.rows; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t column) const {
    const double sum = team.template sum<double>(rows.rows, [&](index_t q) { return rows(q, column); });
    if (team.rank() == 0) sums(0, column) += sum;
  }
};

}  // namespace detail

/// Splits the draws of each query. Independent draws, and whole blocks where draws come in blocks of dependent ones, go
/// to the first half in their order until it is full, then to the second; one too many belongs to neither, and a query
/// whose draws are one block has empty halves. Where equal draws were joined into multiplicities their order is lost:
/// the copies are dealt at random, on a stream of `random` of its own, which draws do not use. Throws shape_error.
/// Queues one program; one thread a query, O(m).
template <backend B, class T>
[[nodiscard]] draw_halves<B, T> split_halves(B& b, const draws<B, T>& z, const scored_draws<T>& scores,
                                             const random_source& random) {
  const index_t total = scores.groups().total();
  const B& view = b;
  require_shape(view.view(z.log_proposal()), total, 1, "split_halves: draws");
  draw_halves<B, T> halves{b.template make<T>(total, 1), b.template make<T>(total, 1)};
  constexpr std::uint32_t stream = 0x68616C66U;
  b.run(scores.groups().queries(), detail::split_program<T>{scores, b.view(halves.first), b.view(halves.second),
                                                            substream(random, stream), z.has_multiplicity()});
  return halves;
}

/// Adds to `sums` [1 × 4], in the backend's memory, what the gradients of `target` on the two halves of each query's
/// draws say, in the space of the selector's scores, g = Σ c_i ∂ log p(z_i)/∂ s:
///
///     ⟨g_A, g_B⟩, unbiased for ‖E g‖²,   and   ‖g_A − g_B‖²/2, unbiased for tr Var(g),
///
/// the number of queries, and the squares of the first. Read them as gradient_noise_summary, once an iteration.
///
/// g is the estimator with **half** of the draws (⌊m/2⌋): the gradient of m draws has about half the variance. The
/// noise is measured around the estimator's own mean: the bias of self-normalised weights is not seen. Coefficients are
/// taken as an M-step takes them, without their log_scale. Queries whose halves are smaller than `target` is defined
/// for, or whose numbers are not finite, are passed over; a half in which nothing is possible has the gradient 0, as in
/// a step.
///
/// `selector_scores` [queries × documents] are those of log p(z|x) in `scores`; what `target` holds views of has one
/// value for each draw or query of `z`, as in `coefficients`. Throws option_error as that does, shape_error. Queues 11
/// programs and reads nothing; about the cost of weights, coefficients and score gradient of the m draws once more, and
/// no call of a model.
template <backend B, class T, objective Objective, viewable<B> M>
void accumulate_gradient_noise(B& b, const Objective& target, const M& selector_scores, const draws<B, T>& z,
                               const scored_draws<T>& scores, const random_source& random, matrix_view<double> sums) {
  const B& view = b;
  const grouping& groups = scores.groups();
  const index_t queries = groups.queries();
  const matrix_view<const T> s = detail::view_of(b, selector_scores);
  require_shape(s, queries, s.cols, "accumulate_gradient_noise: selector_scores");
  require_shape(sums, 1, detail::gradient_noise_columns, "accumulate_gradient_noise: sums");
  const draw_halves<B, T> halves = split_halves(b, z, scores, random);

  struct half_gradient {
    matrix_t<B, T> gradient;
    matrix_t<B, std::int32_t> status;
  };
  const auto gradient_of = [&](const matrix_t<B, T>& multiplicity) {
    const auto part = scores.with(scores.traits(), {view.view(multiplicity), groups, "half"});
    auto c = coefficients(b, target, part, importance_weights(b, part), 1);
    auto gradient = make_filled<T>(b, queries, s.cols, T(0));
    accumulate_plackett_luce_gradient(b, s, view.view(z.rankings()), groups, c.selector, b.view(gradient));
    return half_gradient{std::move(gradient), std::move(c.status)};
  };
  const half_gradient first = gradient_of(halves.first);
  const half_gradient second = gradient_of(halves.second);
  auto rows = b.template make<double>(queries, detail::gradient_noise_columns);
  b.run(queries, detail::compare_halves_program<T>{view.view(first.gradient),
                                                   view.view(second.gradient),
                                                   {view.view(halves.first), groups, "half"},
                                                   view.view(first.status),
                                                   view.view(second.status),
                                                   b.view(rows),
                                                   static_cast<T>(scores.traits().block * Objective::least_samples)});
  b.run(detail::gradient_noise_columns, detail::add_rows_program{view.view(std::as_const(rows)), sums});
}

/// Means over the queries of accumulate_gradient_noise; NaN if there were none. The unit is that of squared
/// coefficients, of one query's gradient, not divided by the number of queries.
struct gradient_noise_summary {
  std::int64_t queries = 0;
  double signal = std::numeric_limits<double>::quiet_NaN();        ///< ‖E g‖²; by chance below 0 where it is small
  double variance = std::numeric_limits<double>::quiet_NaN();      ///< tr Var(g), for half of the draws
  double signal_error = std::numeric_limits<double>::quiet_NaN();  ///< standard error of `signal`; NaN for one query

  /// ‖E g‖² / tr Var(g) of one query with half of its draws. The sum over a batch of n queries that pull the same way
  /// has n times this, of queries that pull in unrelated ways the same: parameters lie between.
  [[nodiscard]] double signal_to_noise() const { return signal / variance; }

  /// From the four sums, in the host's memory.
  [[nodiscard]] static gradient_noise_summary of(const double* sums) {
    gradient_noise_summary s;
    const double n = sums[0];
    s.queries = static_cast<std::int64_t>(n);
    s.signal = sums[1] / n;
    s.variance = sums[2] / n;
    const double spread = sums[3] / n - s.signal * s.signal;
    s.signal_error = std::sqrt((spread > 0 ? spread : 0) / (n - 1));
    return s;
  }
};

}  // namespace dro

#endif
