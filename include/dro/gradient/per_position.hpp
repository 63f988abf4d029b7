// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_PER_POSITION_HPP
#define DRO_GRADIENT_PER_POSITION_HPP

/// \file
/// Coefficients and baselines for each position of a ranking, for Plackett–Luce selectors that show their scores.
///
/// ∇ log p(z) is the sum of ∇ log p(z_t|z_<t), one term for each pick, and the expectation of each is 0 given what came
/// before it. So each pick may have a baseline of its own:
///
///     Σ_i Σ_t c_it ∂ log p(z_it|z_i,<t) / ∂ s,   c_it = (ρ_i/m) (x_i − b_it),
///
/// unbiased as long as b_it depends on z_i,<t or on independent draws only. Early picks choose among many documents,
/// and late ones among few: a forced last pick (K = n) moves nothing, and its baseline has no say.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/gradient/score_norms.hpp>
#include <dro/math/exp.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

/// x = log p(y|x,d_z): the objective is the expected log-likelihood. A draw of log-likelihood −inf makes its query
/// impossible.
struct log_likelihood_reward {
  template <class T>
  DRO_HOST_DEVICE T operator()(const query_draws<T>& draws, index_t i, T) const {
    return draws.log_likelihood(i);
  }
  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE T log_scale(T) const {
    return T(0);
  }
};

/// x = p(y|x,d_z), in units of the largest of the query: the objective is the expected likelihood, and its coefficients
/// stand for e^log_scale times themselves.
struct likelihood_reward {
  template <class T>
  DRO_HOST_DEVICE T operator()(const query_draws<T>& draws, index_t i, T log_scale) const {
    return math::exp(draws.log_likelihood(i) - log_scale);
  }
  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE T log_scale(T largest) const {
    return largest;
  }
};

/// Coefficients of single picks; see position_coefficients.
template <backend B, class T>
struct position_coefficients_result {
  matrix_t<B, T> selector;           ///< c [draws × K], for accumulate_position_gradient
  matrix_t<B, T> log_scale;          ///< [queries × 1], nats: the coefficients stand for e^log_scale times themselves
  matrix_t<B, std::int32_t> status;  ///< [queries × 1]
};

namespace detail {

/// With π_t the softmax over what is left before pick t: ‖e_{z_t} − π_t‖² = (1 − π_t(z_t))² + Σ_{j left after} π_t(j)².
/// 1 − π_t(z_t) is the share of the mass that outlives the pick, exp(L_{t+1} − L_t), so that nothing cancels.
template <class T>
struct position_norms_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<T> norms;  // [draws × K]
  grouping groups;

  // L [K + 1], membership flags [n].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(rankings.cols + 1) * sizeof(T) +
           static_cast<std::size_t>(scores.cols) * sizeof(document_t);
  }

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t select = rankings.cols;
    T* log_mass = team.template scratch<T>();
    auto* chosen = team.template scratch<document_t>(static_cast<std::size_t>(select + 1) * sizeof(T));
    for (index_t i = 0; i < groups.size(query) && select > 0; ++i) {
      const index_t draw = groups.begin(query) + i;
      if (!mark_possible(team, scores, query, rankings, draw, chosen)) {
        team.for_each(select, [&](index_t t) { norms(draw, t) = T(0); });
        team.barrier();
        continue;
      }
      log_masses_left(team, scores, query, rankings, draw, chosen, log_mass);
      const T unpicked = team.template sum<T>(scores.cols, [&](index_t j) {
        const T p = chosen[j] != 0 ? T(0) : math::exp(scores(query, j) - log_mass[select - 1]);
        return p * p;
      });
      if (team.rank() == 0) {
        T squares = unpicked;  // Σ π_t(j)² over the documents left after pick t
        for (index_t t = select; t-- > 0;) {
          const T outlives = math::exp(log_mass[t + 1] - log_mass[t]);
          if (t + 1 < select) squares *= outlives * outlives;
          norms(draw, t) = outlives * outlives + squares;
          const T p = math::exp(scores(query, rankings(draw, t)) - log_mass[t]);
          squares += p * p;
        }
      }
      team.barrier();
    }
  }
};

/// ∂/∂ s_j of Σ_t c_t log p(z_t|z_<t) is c_t − exp(s_j) Σ_{u ≤ t} c_u exp(−L_u) if j is pick t, and the second term
/// with all picks if j is not picked.
template <class T>
struct position_gradient_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<const T> coefficients;  // [draws × K]
  matrix_view<T> gradient;            // [queries × n], added to
  grouping groups;

  // L [K + 1], carried coefficients [K], membership flags [n].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(2 * rankings.cols + 1) * sizeof(T) +
           static_cast<std::size_t>(scores.cols) * sizeof(document_t);
  }

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t select = rankings.cols;
    T* log_mass = team.template scratch<T>();
    T* carried = log_mass + select + 1;
    auto* chosen = team.template scratch<document_t>(static_cast<std::size_t>(2 * select + 1) * sizeof(T));
    for (index_t i = 0; i < groups.size(query); ++i) {
      const index_t draw = groups.begin(query) + i;
      const index_t used = team.template sum<index_t>(
          select, [&](index_t t) { return static_cast<index_t>(coefficients(draw, t) != T(0)); });
      if (used == 0 || !mark_possible(team, scores, query, rankings, draw, chosen)) continue;
      log_masses_left(team, scores, query, rankings, draw, chosen, log_mass);
      team.for_each(select, [&](index_t t) { carried[t] = coefficients(draw, t); });
      team.barrier();
      if (team.rank() == 0) carry_forward(log_mass, carried, select);
      team.barrier();
      team.for_each(select, [&](index_t t) {
        const document_t j = rankings(draw, t);
        gradient(query, j) += coefficients(draw, t) - math::exp(scores(query, j) - log_mass[t]) * carried[t];
      });
      team.for_each(scores.cols, [&](index_t j) {
        if (chosen[j] == 0) {
          gradient(query, j) -= math::exp(scores(query, j) - log_mass[select - 1]) * carried[select - 1];
        }
      });
      team.barrier();
    }
  }
};

template <class T, class Reward>
struct position_coefficients_program {
  scored_draws<T> scores;
  grouped_view<const T> weights;
  matrix_view<const std::int32_t> weight_status;
  matrix_view<const T> norms;  // [draws × K]
  grouped_view<T> ratios;      // workspace: ρ over the query's largest
  matrix_view<T> selector;     // [draws × K]
  matrix_view<T> log_scales;
  matrix_view<std::int32_t> status_of;
  T scale, shrinkage;
  Reward reward;

  [[nodiscard]] index_t width() const { return scores.groups().mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const index_t size = scores.size(q);
    const index_t first = scores.groups().begin(q);
    const T samples = team.template sum<T>(size, [&](index_t i) { return scores.count(q, i); });
    const query_draws<T> draws(scores, weights, q, samples);
    const auto possible = [&](index_t i, T value) { return draws.count(i) > T(0) ? value : -infinity; };
    const T log_scale =
        reward.log_scale(team.max(size, -infinity, [&](index_t i) { return possible(i, draws.log_likelihood(i)); }));
    const auto value = [&](index_t i) { return reward(draws, i, log_scale); };
    auto state = static_cast<status>(weight_status(q, 0));
    if (is_used(state)) {
      const status found = check(team, draws, value);
      if (found != status::ok) state = found;
    }
    if (state == status::ok && !draws.covers()) state = status::support;
    if (is_used(state)) {
      const T largest = team.max(size, -infinity, [&](index_t i) { return possible(i, draws.log_ratio(i)); });
      team.for_each(size, [&](index_t i) { ratios(q, i) = math::exp(possible(i, draws.log_ratio(i)) - largest); });
      team.barrier();
      const auto ratio = [&](index_t i) { return ratios(q, i); };
      team.for_each(size, [&](index_t i) {
        const T count = draws.count(i);
        const T factor = count > T(0) ? scale * count * draws.ratio(i) / samples : T(0);
        for (index_t t = 0; t < norms.cols; ++t) {
          T advantage = T(0);
          if (factor > T(0)) {
            advantage = draws.covers()
                            ? variance_minimising_advantage(
                                  draws, i, value, ratio, [&](index_t j) { return norms(first + j, t); }, shrinkage)
                            : value(i);
          }
          selector(first + i, t) = factor * advantage;
        }
      });
      team.barrier();
      const index_t strange = team.template sum<index_t>(size * norms.cols, [&](index_t k) {
        const T c = selector(first + k / norms.cols, k % norms.cols);
        return static_cast<index_t>(c - c != T(0));
      });
      if (strange > 0) {  // a ratio beyond the numbers
        state = status::unbounded;
        team.barrier();
      }
    }
    if (!is_used(state)) {
      team.for_each(size * norms.cols, [&](index_t k) { selector(first + k / norms.cols, k % norms.cols) = T(0); });
    }
    if (team.rank() == 0) {
      log_scales(q, 0) = is_used(state) ? log_scale : T(0);
      status_of(q, 0) = static_cast<std::int32_t>(state);
    }
  }

  /// What rewards that are not finite, or a query without two independent draws, make of it.
  template <class Team, class Value>
  DRO_HOST_DEVICE status check(Team& team, const query_draws<T>& draws, const Value& value) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const auto count = [&](auto&& matches) {
      return team.template sum<index_t>(
          draws.size(), [&](index_t i) { return static_cast<index_t>(draws.count(i) > T(0) && matches(value(i))); });
    };
    if (count([](T x) { return x != x; }) > 0) return status::not_a_number;
    if (count([&](T x) { return x == infinity; }) > 0) return status::unbounded;
    if (count([&](T x) { return x == -infinity; }) > 0) return status::impossible;
    const T independent = draws.block() == 1 ? draws.samples() : static_cast<T>((draws.size() - 1) / draws.block() + 1);
    return independent < T(2) ? status::degenerate : status::ok;
  }
};

}  // namespace detail

struct position_options {
  /// λ of variance_minimising_advantage, 0 to 1. Over 27 problems of 4 and 6 documents (flat to peaked scores; random,
  /// exponential and additive rewards) the variance of the gradient was, against leave-one-out (geometric mean),
  /// 1.065, 1.032, 0.971 for m = 4, 8, 16 at λ = 0, and 1.003, 0.990, 0.978 at λ = ¾; it can reach 0.897 as m grows.
  double shrinkage = 0.75;
  /// Queries of the whole batch, by which coefficients are divided; 0: the queries of these draws.
  index_t query_count = 0;
};

/// Writes ‖∂ log p(z_t|z_<t)/∂ s‖² of each pick to `norms` [draws × K]; in [0, 2), and exactly 0 for a pick that was
/// forced. `scores` [queries × documents], `rankings` [draws × K]. 0 for what is not a ranking or holds an impossible
/// document; NaN if a score is. Throws shape_error. Queues one program: O(n exp + K log) a draw.
template <backend B, viewable<B> M, class T>
void plackett_luce_position_norms(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                                  matrix_view<T> norms) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  require_shape(s, groups.queries(), s.cols, "plackett_luce_position_norms: scores");
  require_shape(rankings, groups.total(), rankings.cols, "plackett_luce_position_norms: rankings");
  require_shape(norms, groups.total(), rankings.cols, "plackett_luce_position_norms: norms");
  b.run(s.rows, detail::position_norms_program<T>{s, rankings, norms, groups});
}

/// Adds Σ_i Σ_t c_it ∂ log p(z_it|z_i,<t) / ∂ s to `gradient` [queries × documents], which may not alias `scores`.
/// `coefficients` [draws × K]; a draw whose coefficients are all 0, or that is not a ranking, is passed over. With
/// equal coefficients along a ranking it is accumulate_plackett_luce_gradient. Throws shape_error. Queues one program:
/// O(n exp + K log) a draw.
template <backend B, viewable<B> M, viewable<B> C, class T>
void accumulate_position_gradient(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                                  const C& coefficients, matrix_view<T> gradient) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  const matrix_view<const T> c = detail::view_of(b, coefficients);
  require_shape(s, groups.queries(), s.cols, "accumulate_position_gradient: scores");
  require_shape(rankings, groups.total(), rankings.cols, "accumulate_position_gradient: rankings");
  require_shape(c, groups.total(), rankings.cols, "accumulate_position_gradient: coefficients");
  require_shape(gradient, s.rows, s.cols, "accumulate_position_gradient: gradient");
  b.run(s.rows, detail::position_gradient_program<T>{s, rankings, c, gradient, groups});
}

/// Coefficients of single picks, each with a baseline of its own that minimises its variance:
///
///     c_it = (ρ_i/m) (x_i − b_it) / query_count,
///
/// b_it as in variance_minimising_advantage with v_jt the squared length of ∂ log p(z_jt|z_j,<t)/∂ s: `norms`
/// [draws × K], from plackett_luce_position_norms at the current scores. (The terms of different picks are uncorrelated
/// on-policy, so their baselines can be chosen one by one.) Unbiased for ∇ E[x] under any proposal that covers the
/// selector; where it does not, x is used without a baseline and the status is `support`. A constant added to every x
/// drops out. `weights` are those of `scores`: their status is taken over. A query with a reward that is not finite, or
/// without two independent draws, has coefficients 0 and a status that says so. Valid for one gradient step.
///
/// `reward` is a trivially copyable callable x = reward(draws, i, log_scale) of the query_draws, with a member
/// log_scale(largest log-likelihood of the query): log_likelihood_reward, likelihood_reward, or your own. The
/// generator's coefficients c′ are those of `coefficients` with the matching objective.
/// Throws shape_error; option_error unless 0 ≤ shrinkage ≤ 1 and query_count ≥ 0. Queues one program: O(m² K) a query.
template <backend B, class T, class Reward>
[[nodiscard]] position_coefficients_result<B, T> position_coefficients(B& b, const Reward& reward,
                                                                       const scored_draws<T>& scores,
                                                                       const importance_weights_result<B, T>& weights,
                                                                       matrix_view<const T> norms,
                                                                       const position_options& options = {}) {
  const grouping& groups = scores.groups();
  if (!(options.shrinkage >= 0 && options.shrinkage <= 1)) {
    throw option_error("position_coefficients: shrinkage is " + std::to_string(options.shrinkage) +
                       ", expected 0 to 1");
  }
  require_shape(norms, groups.total(), norms.cols, "position_coefficients: norms");
  require_shape(b.view(weights.status), groups.queries(), 1, "position_coefficients: status of the weights");
  const index_t divisor = detail::batch_divisor(options.query_count, groups.queries(), "position_coefficients");
  position_coefficients_result<B, T> c{b.template make<T>(groups.total(), norms.cols),
                                       b.template make<T>(groups.queries(), 1),
                                       b.template make<std::int32_t>(groups.queries(), 1)};
  auto ratios = b.template make<T>(groups.total(), 1);
  b.run(groups.queries(),
        detail::position_coefficients_program<T, Reward>{scores,
                                                         {b.view(weights.normalised), groups, "weights"},
                                                         b.view(weights.status),
                                                         norms,
                                                         {b.view(ratios), groups, "ratios"},
                                                         b.view(c.selector),
                                                         b.view(c.log_scale),
                                                         b.view(c.status),
                                                         T(1) / static_cast<T>(divisor),
                                                         static_cast<T>(options.shrinkage),
                                                         reward});
  return c;
}

}  // namespace dro

#endif
