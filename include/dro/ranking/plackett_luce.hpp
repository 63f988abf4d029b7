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
#include <limits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/sampling.hpp>
#include <dro/ranking/truncated_plackett_luce.hpp>

namespace dro {

namespace detail {

template <class T>
inline constexpr T minus_infinity = -std::numeric_limits<T>::infinity();

/// A ranking whose membership flags stand in `chosen` [documents]; false if an entry is out of range or repeated.
template <class Team>
DRO_HOST_DEVICE bool mark_chosen(Team& team, const matrix_view<const document_t>& rankings, index_t draw,
                                 index_t documents, document_t* chosen) {
  team.for_each(documents, [&](index_t j) { chosen[j] = 0; });
  team.barrier();
  bool valid = true;
  for (index_t t = 0; t < rankings.cols; ++t) {
    const document_t j = rankings(draw, t);
    if (j < 0 || j >= documents || chosen[j] != 0) {
      valid = false;
    } else {
      chosen[j] = 1;
    }
  }
  team.barrier();
  return valid;
}

/// log Σ exp(s_j) over the documents that are not chosen. −inf if there is none, NaN if one of them has NaN.
template <class T, class Team>
DRO_HOST_DEVICE T log_mass_left(Team& team, const matrix_view<const T>& scores, index_t query,
                                const document_t* chosen) {
  const index_t n = scores.cols;
  const auto score = [&](index_t j) { return chosen[j] != 0 ? minus_infinity<T> : scores(query, j); };
  const T largest = team.max(n, minus_infinity<T>, score);
  const T shift = largest > minus_infinity<T> ? largest : T(0);  // max() passes over NaN, the sum does not
  const T sum = team.template sum<T>(n, [&](index_t j) { return math::exp(score(j) - shift); });
  return shift + math::log(sum);
}

/// Flags the documents of the ranking in row `draw` in `chosen` [documents]; false if it is not a ranking (an entry out
/// of range or repeated) or holds an impossible document.
template <class T, class Team>
DRO_HOST_DEVICE bool mark_possible(Team& team, const matrix_view<const T>& scores, index_t query,
                                   const matrix_view<const document_t>& rankings, index_t draw, document_t* chosen) {
  bool possible = mark_chosen(team, rankings, draw, scores.cols, chosen);
  for (index_t t = 0; possible && t < rankings.cols; ++t) {
    possible = scores(query, rankings(draw, t)) != minus_infinity<T>;
  }
  return possible;
}

/// Writes L_t, the log of the mass left before pick t, to `log_mass` [K + 1] for t = 0 … K; L_K is the log of what no
/// pick takes. The masses are summed from the last pick backwards, adding only. O(n) exp and K log.
template <class T, class Team>
DRO_HOST_DEVICE void log_masses_left(Team& team, const matrix_view<const T>& scores, index_t query,
                                     const matrix_view<const document_t>& rankings, index_t draw,
                                     const document_t* chosen, T* log_mass) {
  const T left = log_mass_left(team, scores, query, chosen);
  if (team.rank() == 0) {
    log_mass[rankings.cols] = left;
    for (index_t t = rankings.cols; t-- > 0;) {
      log_mass[t] = math::log_add_exp(log_mass[t + 1], scores(query, rankings(draw, t)));
    }
  }
  team.barrier();
}

/// a_t ← Σ_{u ≤ t} a_u exp(L_t − L_u), t < `select`. The mass left never rises, so no factor exceeds 1: then
/// Σ_{u ≤ t} a_u exp(s_j − L_u) = exp(s_j − L_t) a_t is a product that neither overflows nor divides by 0. One thread.
template <class T>
DRO_HOST_DEVICE void carry_forward(const T* log_mass, T* a, index_t select) {
  for (index_t t = 1; t < select; ++t) a[t] += a[t - 1] * math::exp(log_mass[t] - log_mass[t - 1]);
}

/// log p of the ranking in row `draw`, whose documents are the ones flagged in `chosen`. The denominators are summed
/// from the last pick backwards, adding only, so that nothing cancels. O(n) exp and K log.
template <class T, class Team, class Rankings>
DRO_HOST_DEVICE T plackett_luce_log_prob(Team& team, const matrix_view<const T>& scores, index_t query,
                                         const Rankings& rankings, index_t draw, const document_t* chosen) {
  T mass = log_mass_left(team, scores, query, chosen);
  T total = T(0);
  for (index_t t = rankings.cols; t-- > 0;) {
    const T score = scores(query, rankings(draw, t));
    if (score == minus_infinity<T>) return minus_infinity<T>;
    mass = math::log_add_exp(mass, score);
    total += score - mass;
  }
  return total;
}

template <class T>
struct plackett_luce_draw_program {
  matrix_view<const T> scores;  // [queries × n]
  matrix_view<document_t> rankings;
  matrix_view<T> log_prob;
  index_t samples;
  random_source random;
  joint_noise noise;

  // Keys [n], membership flags [n], random words [n rounded up to whole blocks].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(scores.cols) * (sizeof(T) + sizeof(document_t)) +
           static_cast<std::size_t>(blocks()) * sizeof(random_words);
  }
  DRO_HOST_DEVICE index_t blocks() const { return (scores.cols + 3) / 4; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    T* keys = team.template scratch<T>();
    auto* chosen = team.template scratch<document_t>(static_cast<std::size_t>(n) * sizeof(T));
    auto* words = team.template scratch<std::uint32_t>(static_cast<std::size_t>(n) * (sizeof(T) + sizeof(document_t)));
    for (index_t sample = 0; sample < samples; ++sample) {
      const index_t draw = query * samples + sample;
      const noise_source source{random.key(), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(sample),
                                noise};
      // Words first, noise after: each loop vectorises alone, the two as one do not.
      team.for_each(blocks(), [&](index_t block) {
        const random_words four = source.words(static_cast<std::uint32_t>(block));
        for (std::uint32_t k = 0; k < 4; ++k) words[4 * block + k] = four[k];
      });
      team.barrier();
      team.for_each(n, [&](index_t j) {
        keys[j] = scores(query, j) + noise::gumbel<T>(words[j]);
        chosen[j] = 0;
      });
      team.barrier();
      bool complete = true;
      for (index_t t = 0; t < rankings.cols; ++t) {
        const index_t best = team.arg_max(n, minus_infinity<T>, [&](index_t j) { return keys[j]; });
        if (team.rank() == 0) {
          rankings(draw, t) = best < n ? static_cast<document_t>(best) : no_document;
          if (best < n) {
            chosen[best] = 1;
            keys[best] = minus_infinity<T>;
          }
        }
        complete = complete && best < n;
        team.barrier();
      }
      const T total =
          complete ? plackett_luce_log_prob(team, scores, query, rankings, draw, chosen) : minus_infinity<T>;
      if (team.rank() == 0) log_prob(draw, 0) = total;
    }
  }
};

template <class T>
struct plackett_luce_log_prob_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<T> log_prob;
  grouping groups;

  std::size_t scratch_bytes() const { return static_cast<std::size_t>(scores.cols) * sizeof(document_t); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    document_t* chosen = team.template scratch<document_t>();
    for (index_t i = 0; i < groups.size(query); ++i) {
      const index_t draw = groups.begin(query) + i;
      const bool valid = mark_chosen(team, rankings, draw, scores.cols, chosen);
      const T total = valid ? plackett_luce_log_prob(team, scores, query, rankings, draw, chosen) : minus_infinity<T>;
      if (team.rank() == 0) log_prob(draw, 0) = total;
    }
  }
};

/// With L_t the log of the mass left before pick t and A_t = log Σ_{u ≤ t} exp(−L_u),
/// ∂ log p / ∂ s_j = 1 − exp(s_j + A_t) if j is pick t, and −exp(s_j + A_{K−1}) if j is not picked.
template <class T>
struct plackett_luce_gradient_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  grouped_view<const T> coefficients;
  matrix_view<T> gradient;  // [queries × n], added to
  grouping groups;

  // L and then A [K], membership flags [n].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(rankings.cols) * sizeof(T) +
           static_cast<std::size_t>(scores.cols) * sizeof(document_t);
  }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    const index_t select = rankings.cols;
    T* log_sum = team.template scratch<T>();
    document_t* chosen = team.template scratch<document_t>(static_cast<std::size_t>(select) * sizeof(T));
    for (index_t i = 0; i < groups.size(query); ++i) {
      const T coefficient = coefficients(query, i);
      const index_t draw = groups.begin(query) + i;
      if (coefficient == T(0) || select == 0 || !mark_possible(team, scores, query, rankings, draw, chosen)) continue;
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
      team.for_each(n, [&](index_t j) {
        if (chosen[j] == 0) gradient(query, j) -= coefficient * math::exp(scores(query, j) + log_sum[select - 1]);
      });
      team.barrier();
    }
  }
};

}  // namespace detail

/// Draws `options.samples` rankings for each query. `scores` [queries × documents]. As a rule by Gumbel-top-K (Kool et
/// al. 2019, section 2.3): the K largest of s_j/τ + Gumbel noise, in descending order; where `how` truncates, pick by
/// pick, each by Gumbel-max over what it may be. The noise is the same on every backend, so bit-equal scores give
/// bit-equal rankings if top_p = 1. log q of the draws is their log-probability under the distribution drawn from, see
/// `sampling`. A query with fewer than K possible documents gets incomplete rankings of log-probability −inf.
/// Throws option_error if samples or K do not fit, or for options that `sampling` does not take. Queues one program,
/// two if τ ≠ 1: O(m (n K + n exp)) a query; truncated, O(n² + m K n exp).
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
    b.run(s.rows, detail::plackett_luce_draw_program<T>{s, b.view(rankings), b.view(log_prob), options.samples, random,
                                                        how.noise});
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
/// if τ ≠ 1: O(n exp + K log) a draw; truncated, O(n²) a query and O(K n exp) a draw.
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
/// shape_error. Queues one program: O(n exp + K log) a draw.
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
