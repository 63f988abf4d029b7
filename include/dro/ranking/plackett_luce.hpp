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
#include <dro/ranking/plackett_luce_gradient.hpp>
#include <dro/ranking/sampling.hpp>
#include <dro/ranking/truncated_plackett_luce.hpp>

namespace dro {

namespace detail {

/// Draws of a query that a row of a program makes: some, since they share the masses, but few enough for a GPU to have
/// rows for all its threads. A multiple of what the vector registers of a host take at once.
inline constexpr index_t draws_of_row = 16;

/// Draws rankings and scores them, `draws_of_row` of a query in each row. `Slots`: keys that are kept at once, see
/// estimated_top_k; `Joint`: whether samples may share noise.
template <class T, index_t Slots, bool Joint>
struct plackett_luce_draw_program {
  matrix_view<const T> scores;  // [queries × n]
  matrix_view<document_t> rankings;
  matrix_view<T> log_prob;
  index_t samples;
  random_source random;
  joint_noise noise;

  [[nodiscard]] DRO_HOST_DEVICE index_t rows_of_query() const { return (samples + draws_of_row - 1) / draws_of_row; }
  /// Rows of the program.
  [[nodiscard]] index_t rows() const { return scores.rows * rows_of_query(); }

  // Masses or exact keys, and relative scores, random words or membership flags [n rounded up to a multiple of 4 each];
  // picks [K × draws_of_row].
  std::size_t scratch_bytes() const {
    return before_picks() + static_cast<std::size_t>(rankings.cols * draws_of_row) * sizeof(document_t);
  }
  static constexpr bool lives_in_scratch = true;
  static constexpr std::size_t scratch_word = sizeof(T);
  [[nodiscard]] index_t width() const { return samples < draws_of_row ? samples : draws_of_row; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    constexpr index_t together = draws_together<Team>;
    constexpr index_t tiles = draws_of_row / together;
    const index_t rows = rows_of_query();
    const index_t query = rows == 1 ? row : row / rows;  // divisions are dear on a GPU
    const index_t begin = (row - query * rows) * draws_of_row;
    const index_t count = samples - begin < draws_of_row ? samples - begin : draws_of_row;
    const index_t first = query * samples + begin;
    const index_t n = scores.cols;
    T* const mass = team.template scratch<T>();
    const std::size_t behind = static_cast<std::size_t>(padded(n)) * sizeof(T);
    auto* const relative = team.template scratch<float>(behind);
    auto* const picks = team.template scratch<math::lanes<document_t, together>>(before_picks());
    const auto source = [&](index_t i) {
      return noise_source{random.key(), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(begin + i),
                          noise};
    };

    // Keys near 0 are the more exact ones. The largest are about the log of all mass, which lies between the largest
    // score, where one document has nearly all, and log n above it, where all have the same: the middle.
    const T above = T(-0.5) * static_cast<T>(noise::detail::negative_log_of_any(static_cast<float>(n)));
    relative_masses<T> masses(team, scores, rankings, query, mass,
                              [&](index_t j, T score) { relative[j] = relative_score(score, above); });
    team.for_each(padded(n) - n, [&](index_t j) { relative[n + j] = estimated_keys::none; });
    team.barrier();
    const T shift = masses.largest + above;
    const estimated_keys estimates(n, shift);
    constexpr document_t uncertain = no_document - 1;
    bool left_over = false;
    team.for_each((count + together - 1) / together, [&](index_t tile) {
      const picks_side_by_side<together> drawn{picks + tile, tiles};
      const auto write = [&](index_t l, index_t t, document_t j) { drawn(l, t) = j; };
      math::lanes<bool, together> certain = {};
      if (n <= estimated_keys::most_documents) {
        estimated_top_k<Slots, Joint>(relative, n, estimates, source(tile * together), rankings.cols, certain, write);
      } else {
        for (index_t k = 0; k < together * rankings.cols; ++k) write(k % together, k / together, 0);
      }
      const auto value = log_probs(drawn_tile<T, together, picks_side_by_side<together>>(masses, drawn));
      for (index_t l = 0; l < together; ++l) {
        if (tile * together + l >= count) break;
        const index_t draw = first + tile * together + l;
        for (index_t t = 0; t < rankings.cols; ++t) rankings(draw, t) = drawn(l, t);
        log_prob(draw, 0) = value[l];
        if (!certain[l]) rankings(draw, 0) = uncertain;
        left_over = left_over || !certain[l] || value[l] == undecided<T>;
      }
    });
    if (!team.any(left_over)) return;
    team.barrier();
    // The exact keys and their words take the place of masses and relative scores, which are not needed meanwhile.
    for (index_t i = 0; i < count; ++i) {
      if (rankings(first + i, 0) != uncertain) continue;
      exact_top_k(team, scores, query, source(i), rankings, first + i, mass,
                  team.template scratch<std::uint32_t>(behind));
    }
    masses = relative_masses<T>(team, scores, rankings, query, mass);
    write_log_probs(team, masses, first, count, log_prob, team.template scratch<document_t>(behind));
  }

 private:
  [[nodiscard]] DRO_HOST_DEVICE std::size_t before_picks() const {
    return static_cast<std::size_t>(padded(scores.cols)) * (sizeof(T) + sizeof(float));
  }
};

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

}  // namespace detail

/// Draws `options.samples` rankings for each query. `scores` [queries × documents]. As a rule by Gumbel-top-K (Kool et
/// al. 2019, section 2.3): the K largest of s_j/τ + Gumbel noise, in descending order; where `how` truncates, pick by
/// pick, each by Gumbel-max over what it may be. The noise is the same on every backend, so bit-equal scores give
/// bit-equal rankings if top_p = 1. log q of the draws is their log-probability under the distribution drawn from, see
/// `sampling`. A query with fewer than K possible documents gets incomplete rankings of log-probability −inf.
/// Throws option_error if samples or K do not fit, or for options that `sampling` does not take. Queues one program,
/// two if τ ≠ 1: O(n exp + m (n K + K log)) a query; truncated, O(n² + m K n exp).
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
    detail::with_slots(options.select, how.noise, [&](auto slots, auto joint) {
      const detail::plackett_luce_draw_program<T, decltype(slots)::value, decltype(joint)::value> program{
          s, b.view(rankings), b.view(log_prob), options.samples, random, how.noise};
      b.run(program.rows(), program);
    });
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

/// Adds Σ_i c_i ∂ log p(z_i) / ∂ s to `gradient` [queries × documents], which may not alias `scores`. `coefficients`
/// holds one value for each draw; a draw whose coefficient is 0, or that is impossible, is passed over. Throws
/// shape_error. Queues one program: O(n exp) a query and O(n + K) a draw, O(n exp + K log) where masses are too small.
template <backend B, viewable<B> M, viewable<B> C, class T>
void accumulate_plackett_luce_gradient(B& b, const M& scores, matrix_view<const document_t> rankings,
                                       const grouping& groups, const C& coefficients, matrix_view<T> gradient) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  const matrix_view<const T> c = detail::view_of(b, coefficients);
  require_shape(s, groups.queries(), s.cols, "accumulate_plackett_luce_gradient: scores");
  require_shape(rankings, groups.total(), rankings.cols, "accumulate_plackett_luce_gradient: rankings");
  require_shape(gradient, s.rows, s.cols, "accumulate_plackett_luce_gradient: gradient");
  b.run(s.rows, detail::plackett_luce_gradient_program<T>{
                    s, rankings, {c, groups, "accumulate_plackett_luce_gradient: coefficients"}, gradient, groups});
}

}  // namespace dro

#endif
