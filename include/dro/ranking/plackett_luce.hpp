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
#include <dro/ranking/sampling.hpp>
#include <dro/ranking/truncated_plackett_luce.hpp>

namespace dro {

namespace detail {

/// Draws of a query that one row of a program makes or one tile of a thread holds: what the vector registers of a host
/// take at once, and few enough for a GPU to share a query out among several of its threads.
inline constexpr index_t draws_of_row = 8;

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

  // Masses or exact keys, and relative scores, random words or membership flags [n rounded up to a multiple of 4 each].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(padded(scores.cols)) * (sizeof(T) + sizeof(float));
  }
  static constexpr bool lives_in_scratch = true;
  static constexpr std::size_t scratch_word = sizeof(T);
  [[nodiscard]] index_t width() const { return samples < draws_of_row ? samples : draws_of_row; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    constexpr index_t together = draws_together<Team>;
    const index_t query = row / rows_of_query();
    const index_t begin = row % rows_of_query() * draws_of_row;
    const index_t count = samples - begin < draws_of_row ? samples - begin : draws_of_row;
    const index_t first = query * samples + begin;
    const index_t n = scores.cols;
    T* const mass = team.template scratch<T>();
    const std::size_t behind = static_cast<std::size_t>(padded(n)) * sizeof(T);
    auto* const relative = team.template scratch<float>(behind);
    const auto source = [&](index_t i) {
      return noise_source{random.key(), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(begin + i),
                          noise};
    };

    relative_masses<T> masses(team, scores, rankings, query, mass);
    // Relative to the log of all mass the largest keys are small, and small floats are the more exact ones.
    const T shift = masses.largest + math::log(team.template sum<T>(n, [&](index_t j) { return mass[j]; }));
    team.for_each(padded(n), [&](index_t j) {
      relative[j] = j < n ? relative_score(scores(query, j), shift) : estimated_keys::none;
    });
    team.barrier();
    const estimated_keys estimates(n, shift);
    constexpr document_t undecided = no_document - 1;
    const index_t left_over = team.template sum<index_t>((count + together - 1) / together, [&](index_t tile) {
      math::lanes<bool, together> certain = {};
      const auto write = [&](index_t lane, index_t t, document_t j) {
        if (tile * together + lane < count) rankings(first + tile * together + lane, t) = j;
      };
      if (n <= estimated_keys::most_documents) {
        estimated_top_k<Slots, Joint>(relative, n, estimates, source(tile * together), rankings.cols, certain, write);
      }
      index_t uncertain = 0;
      for (index_t lane = 0; lane < together; ++lane) {
        if (tile * together + lane >= count || certain[lane]) continue;
        write(lane, 0, undecided);
        ++uncertain;
      }
      return uncertain;
    });
    team.barrier();
    if (left_over > 0) {
      // The exact keys and their words take the place of masses and relative scores, which are not needed meanwhile.
      for (index_t i = 0; i < count; ++i) {
        if (rankings(first + i, 0) != undecided) continue;
        exact_top_k(team, scores, query, source(i), rankings, first + i, mass,
                    team.template scratch<std::uint32_t>(behind));
      }
      masses = relative_masses<T>(team, scores, rankings, query, mass);
    }
    write_log_probs(team, masses, first, count, log_prob, team.template scratch<document_t>(behind));
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

/// With B_t = Σ_{u ≤ t} 1 / M_u, M_u the mass left before pick u, ∂ log p / ∂ s_j = 1 − exp(s_j) B_t if j is pick t,
/// and −exp(s_j) B_{K−1} if j is not picked. A thread adds the draws it takes to a row of its own, in their order; at
/// the end a document adds up its column of these rows.
template <class T>
struct plackett_luce_gradient_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  grouped_view<const T> coefficients;
  matrix_view<T> gradient;  // [queries × n], added to
  grouping groups;

  /// Draws that are worked on at once, each with its row: as many as a team of so many threads takes, fewer where rows
  /// are long.
  template <class Team>
  DRO_HOST_DEVICE index_t chunk(index_t threads) const {
    constexpr index_t elements = 4096;
    const index_t most = draws_together<Team> * (threads < 32 ? threads : 32);
    const index_t fit = elements / stride();
    return fit < 1 ? 1 : fit < most ? fit : most;
  }
  /// From one row to the next. Odd, since a GPU's scratch memory has a power of two of banks and the threads of a team
  /// write to different rows at the same time.
  DRO_HOST_DEVICE index_t stride() const { return scores.cols | 1; }

  // Masses [n rounded up to a multiple of 4]; of each draw at once a row, M or B [K] and a count; membership flags [n].
  template <class Team>
  std::size_t scratch_bytes(index_t threads) const {
    const index_t most = chunk<Team>(threads);
    return static_cast<std::size_t>(padded(scores.cols) + most * (stride() + rankings.cols)) * sizeof(T) +
           static_cast<std::size_t>(most + scores.cols) * sizeof(document_t);
  }
  static constexpr bool lives_in_scratch = true;
  static constexpr std::size_t scratch_word = sizeof(T);
  [[nodiscard]] index_t width() const { return groups.mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    const index_t select = rankings.cols;
    if (select == 0) return;
    const index_t most = chunk<Team>(team.size());
    T* mass = team.template scratch<T>();
    T* rows = mass + padded(n);
    T* sums = rows + most * stride();
    auto* too_small = reinterpret_cast<document_t*>(sums + most * select);
    document_t* chosen = too_small + most;

    team.for_each(most * stride(), [&](index_t k) { rows[k] = T(0); });
    team.for_each(most, [&](index_t i) { too_small[i] = 0; });
    const relative_masses<T> masses(team, scores, rankings, query, mass);
    for (index_t begin = 0; begin < groups.size(query); begin += most) {
      const index_t count = groups.size(query) - begin < most ? groups.size(query) - begin : most;
      const index_t first = groups.begin(query) + begin;
      constexpr index_t together = draws_together<Team>;
      team.for_each((count + together - 1) / together, [&](index_t tile) {
        const drawn_tile<T, together> draws(masses, first + tile * together, count - tile * together);
        for (index_t l = 0; l < together; ++l) {  // l known when compiled: nothing is indexed in a GPU's registers
          if (l >= draws.size) break;
          const index_t i = tile * together + l;
          const T coefficient = draws.valid(l) ? coefficients(query, begin + i) : T(0);
          if (!add_to_row(draws, l, coefficient, sums + i * select, rows + i * stride())) ++too_small[i];
        }
      });
      team.barrier();
    }
    team.for_each(n, [&](index_t j) {
      T sum = T(0);
      for (index_t i = 0; i < most; ++i) sum += rows[i * stride() + j];
      gradient(query, j) += sum;
    });
    if (team.template sum<index_t>(most, [&](index_t i) { return static_cast<index_t>(too_small[i]); }) == 0) return;
    team.barrier();
    for (index_t i = 0; i < groups.size(query); ++i) {
      const T coefficient = coefficients(query, i);
      const index_t draw = groups.begin(query) + i;
      if (coefficient == T(0) || !is_too_small(drawn_tile<T, 1>(masses, draw, 1))) continue;
      add_in_log_space(team, query, draw, coefficient, sums, chosen);
    }
  }

 private:
  /// Whether add_to_row would return false.
  DRO_HOST_DEVICE static bool is_too_small(const drawn_tile<T, 1>& draw) {
    const relative_masses<T>& q = *draw.query;
    return draw.valid(0) && draw.scores[0] != minus_infinity<T> &&
           !(draw.left[0] + q.mass[draw.pick(0, q.select() - 1)] >= least_mass<T>);
  }

  /// Adds coefficient · ∂ log p / ∂ s of one draw to `row` [n]; nothing where the coefficient is 0 or a pick
  /// impossible, and also where it returns false, since masses are too small to be divided by. `sum` [K] is scratch
  /// memory.
  template <index_t Lanes>
  DRO_HOST_DEVICE static bool add_to_row(const drawn_tile<T, Lanes>& draws, index_t l, T coefficient, T* sum, T* row) {
    const relative_masses<T>& q = *draws.query;
    const index_t select = q.select();
    if (coefficient == T(0) || draws.scores[l] == minus_infinity<T>) return true;
    T left = draws.left[l];
    for (index_t t = select; t-- > 0;) sum[t] = left += q.mass[draws.pick(l, t)];
    if (!(sum[select - 1] >= least_mass<T>)) return false;
    T all = T(0);
    for (index_t t = 0; t < select; ++t) sum[t] = all += T(1) / sum[t];
    // What picked documents will hold, apart: the loop over all of them then has no exception.
    for (index_t t = 0; t < select; ++t) {
      const index_t j = draws.pick(l, t);
      sum[t] = row[j] + coefficient * (T(1) - q.mass[j] * sum[t]);
    }
    const T factor = -coefficient * all;
    for (index_t j = 0; j < q.documents(); ++j) row[j] += factor * q.mass[j];
    for (index_t t = 0; t < select; ++t) row[draws.pick(l, t)] = sum[t];
    return true;
  }

  /// One draw with the whole team, by the logarithms of its masses. `log_sum` [K], `chosen` [n]: scratch memory.
  template <class Team>
  DRO_HOST_DEVICE void add_in_log_space(Team& team, index_t query, index_t draw, T coefficient, T* log_sum,
                                        document_t* chosen) const {
    const index_t select = rankings.cols;
    mark_chosen(team, rankings, draw, scores.cols, chosen);
    const T left = log_mass_left(team, scores, query, chosen);
    if (team.rank() == 0) {
      T mass = left;
      for (index_t t = select; t-- > 0;) {
        mass = math::log_add_exp(mass, scores(query, rankings(draw, t)));
        log_sum[t] = -mass;
      }
      for (index_t t = 1; t < select; ++t) log_sum[t] = math::log_add_exp(log_sum[t], log_sum[t - 1]);
      for (index_t t = 0; t < select; ++t) {
        const document_t j = rankings(draw, t);
        gradient(query, j) += coefficient * (T(1) - math::exp(scores(query, j) + log_sum[t]));
      }
    }
    team.barrier();
    team.for_each(scores.cols, [&](index_t j) {
      if (chosen[j] == 0) gradient(query, j) -= coefficient * math::exp(scores(query, j) + log_sum[select - 1]);
    });
    team.barrier();
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
