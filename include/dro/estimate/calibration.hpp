// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_CALIBRATION_HPP
#define DRO_ESTIMATE_CALIBRATION_HPP

/// \file
/// Calibration: what is done to importance weights between the models and the M-step, to trade their variance for
/// bias. Steps compose in one order; each says for each query what it changed, and the diagnostics of the raw weights
/// stay beside those of the weights that are used.

#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/pareto.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>

namespace dro {

/// The weights of one query on their way through a calibration: log w_i = origin + offset(i), where a step changes
/// either. Large common parts of log-likelihoods stay in the origin, so that no step rounds against them. On entry no
/// offset is NaN or above 0 and the largest is 0. A sum over draws takes each as often as it counts.
template <class T>
struct weight_row {
  const scored_draws<T>& scores;
  grouped_view<T> offsets;
  tail_workspace<T> tail;                  ///< only where pareto_smooth is among the steps
  matrix_view<std::int32_t> tail_outcome;  ///< likewise
  index_t query;
  T origin;

  [[nodiscard]] DRO_HOST_DEVICE index_t size() const { return scores.size(query); }
  [[nodiscard]] DRO_HOST_DEVICE T count(index_t i) const { return scores.count(query, i); }
  [[nodiscard]] DRO_HOST_DEVICE T& offset(index_t i) const { return offsets(query, i); }

  /// m = Σ n.
  template <class Team>
  [[nodiscard]] DRO_HOST_DEVICE T samples(Team& team) const {
    return team.template sum<T>(size(), [&](index_t i) { return count(i); });
  }
  template <class Team>
  [[nodiscard]] DRO_HOST_DEVICE T largest(Team& team) const {
    return team.max(size(), -std::numeric_limits<T>::infinity(), [&](index_t i) { return offset(i); });
  }
  /// Σ n f(offset(i)).
  template <class Team, class F>
  [[nodiscard]] DRO_HOST_DEVICE T sum(Team& team, const F& f) const {
    return team.template sum<T>(size(), [&](index_t i) { return count(i) * f(offset(i)); });
  }
};

namespace detail {

/// Moves every offset into [low, high], apart from those of weight 0. Returns Σ |w − w′| / Σ w, where Σ w is e^largest
/// `mass`.
template <class T, class Team>
DRO_HOST_DEVICE T limit(Team& team, const weight_row<T>& row, T low, T high, T largest, T mass) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const auto limited = [&](T x) { return x == -infinity ? x : (x < low ? low : (x > high ? high : x)); };
  const T moved = row.sum(team, [&](T x) {
    const T difference = math::exp(limited(x) - largest) - math::exp(x - largest);
    return difference < T(0) ? -difference : difference;
  });
  team.barrier();
  team.for_each(row.size(), [&](index_t i) { row.offset(i) = limited(row.offset(i)); });
  team.barrier();
  return moved / mass;
}

}  // namespace detail

/// The steps of a calibration, in their order. Each is called for every query whose raw weights can be used, and
/// returns what it reports of that query.
namespace calibration {

/// The likelihood to the power β = 1/|y|, with |y| the answer's length in tokens: w = ρ p(y|x,d_z)^β. The target
/// changes to p(z|x) p(y|x,d_z)^β: the answer counts as one token whatever its length. (Shi et al.'s published code
/// does this.) Reports β. `lengths` is [queries × 1]; below 1 counts as 1.
struct length_normalise {
  static constexpr int stage = 10;
  matrix_view<const std::int32_t> lengths;

  void check(index_t queries) const { require_shape(lengths, queries, 1, "length_normalise: lengths"); }

  template <class T, class Team>
  DRO_HOST_DEVICE T operator()(Team& team, weight_row<T>& row) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const index_t q = row.query;
    const std::int32_t length = lengths(q, 0);
    const T beta = T(1) / static_cast<T>(length < 1 ? 1 : length);
    const T best = team.max(row.size(), -infinity, [&](index_t i) {
      return row.count(i) > T(0) ? row.scores.log_likelihood(q, i) : -infinity;
    });
    team.for_each(row.size(), [&](index_t i) {
      if (row.offset(i) == -infinity) return;
      row.offset(i) = row.scores.log_ratio(q, i) + beta * (row.scores.log_likelihood(q, i) - best);
    });
    team.barrier();
    row.origin = beta * best;
    return beta;
  }
};

/// w ← min(w, √m · (1/m) Σ w): bounds the variance at a bias that vanishes with m (Ionides 2008, "Truncated importance
/// sampling", section 2). Reports the share of Σ w that was cut, in [0, 1).
struct truncate {
  static constexpr int stage = 20;

  template <class T, class Team>
  DRO_HOST_DEVICE T operator()(Team& team, weight_row<T>& row) const {
    const T largest = row.largest(team);
    const T mass = row.sum(team, [&](T x) { return math::exp(x - largest); });
    const T high = largest + (math::log(mass) - math::log(row.samples(team)) / 2);
    return detail::limit(team, row, -std::numeric_limits<T>::infinity(), high, largest, mass);
  }
};

/// Every weight that is not 0 into [e^log_low, e^log_high] times the query's mean weight (1/m) Σ w. Limits are in nats
/// and may be infinite. Reports Σ |w − w′| / Σ w, what was cut and what was added together. Throws option_error unless
/// log_low ≤ log_high.
struct clip {
  static constexpr int stage = 30;
  double log_low = -std::numeric_limits<double>::infinity();
  double log_high = std::numeric_limits<double>::infinity();

  void check(index_t) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    if (!(log_low <= log_high) || log_low == infinity || log_high == -infinity) {
      throw option_error("clip: log_low is " + std::to_string(log_low) + " and log_high is " +
                         std::to_string(log_high) + ", expected log_low <= log_high, not both infinite alike");
    }
  }

  template <class T, class Team>
  DRO_HOST_DEVICE T operator()(Team& team, weight_row<T>& row) const {
    const T largest = row.largest(team);
    const T mass = row.sum(team, [&](T x) { return math::exp(x - largest); });
    const T log_mean = largest + (math::log(mass) - math::log(row.samples(team)));
    return detail::limit(team, row, log_mean + static_cast<T>(log_low), log_mean + static_cast<T>(log_high), largest,
                         mass);
  }
};

/// The largest weights replaced by the expected order statistics of a Pareto tail fitted to them: see smooth_tail.
/// Reports k̂, NaN where it is not estimable; `calibrated_weights::tail` says why. It takes 21 draws or more: below
/// that, see smooth_ratios. k̂ is that of the weights as this step finds them: after truncate or clip it cannot show
/// what those hid. `relative_efficiency` is the effective number of independent draws divided by their number. Throws
/// option_error unless that is above 0 and finite.
struct pareto_smooth {
  static constexpr int stage = 40;
  double relative_efficiency = 1;

  void check(index_t) const {
    if (!(relative_efficiency > 0 && relative_efficiency < std::numeric_limits<double>::infinity())) {
      throw option_error("pareto_smooth: relative_efficiency is " + std::to_string(relative_efficiency) +
                         ", expected a number above 0");
    }
  }

  template <class T, class Team>
  DRO_HOST_DEVICE T operator()(Team& team, weight_row<T>& row) const {
    const auto found = smooth_tail<T>(
        team, row.query, row.size(), [&](index_t i) -> T& { return row.offset(i); },
        [&](index_t i) { return row.count(i); }, row.tail, relative_efficiency);
    if (team.rank() == 0) row.tail_outcome(row.query, 0) = static_cast<std::int32_t>(found.fit);
    return found.shape;
  }
};

/// w ← w^β with the largest β in [0, 1] at which the effective sample size is `target` · m or more. It falls as β
/// grows, so β is found by bisection, to the last bit. Where draws of weight 0 keep it below the target at any β, β is
/// 0: all possible draws weigh the same. The target distribution changes. Reports β. Throws option_error unless
/// `target` is in [0, 1]. Cost: two exp a draw for each bit of T.
struct temper {
  static constexpr int stage = 50;
  double target = 0.5;

  void check(index_t) const {
    if (!(target >= 0 && target <= 1)) {
      throw option_error("temper: target is " + std::to_string(target) + ", expected a share in [0, 1]");
    }
  }

  template <class T, class Team>
  DRO_HOST_DEVICE T operator()(Team& team, weight_row<T>& row) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const T largest = row.largest(team);
    const T least = static_cast<T>(target) * row.samples(team);
    const auto reaches = [&](T beta) {
      const auto power = [&](T x) { return math::exp(beta * (x - largest)); };  // β > 0: 0 at −inf
      const T sum = row.sum(team, power);
      return sum * sum >= least * row.sum(team, [&](T x) { return power(x) * power(x); });
    };
    if (reaches(T(1))) return T(1);
    T low = T(0), high = T(1);
    for (int bit = 0; bit < std::numeric_limits<T>::digits; ++bit) {
      const T middle = (low + high) / 2;
      (reaches(middle) ? low : high) = middle;
    }
    team.barrier();
    team.for_each(row.size(), [&](index_t i) {
      if (row.offset(i) != -infinity) row.offset(i) = low * (row.offset(i) - largest);
    });
    team.barrier();
    row.origin = low * (row.origin + largest);
    return low;
  }
};

}  // namespace calibration

/// A step of a calibration: a small value type that states its place, `static constexpr int stage`, and is called as
/// `T step(team, weight_row<T>&)` by the whole team; what it returns is its report. If it has a member
/// `check(queries)`, that is called first and may throw. Stages of the library's steps are 10, 20, …, 50.
template <class S>
concept calibration_step = std::copyable<S> && requires {
  { S::stage } -> std::convertible_to<int>;
};

/// Weights before and after a calibration. `used` goes wherever importance weights go. Its diagnostics describe the
/// weights as they are used: an evidence estimated from them is biased, and a healthy effective sample size is no sign
/// of healthy draws. For those see `raw`.
template <backend B, class T, calibration_step... Steps>
struct calibrated_weights {
  importance_weights_result<B, T> raw;
  importance_weights_result<B, T> used;
  matrix_t<B, T> log_weights;      ///< log w after the last step, nats, not normalised; shaped as the log-likelihoods
  matrix_t<B, T> reports;          ///< [queries × steps]: column s is step s's; NaN for a query that cannot be used
  matrix_t<B, std::int32_t> tail;  ///< [queries × 1]: dro::tail_fit; empty without pareto_smooth

  /// The column of `Step`, [queries × 1], for `read`.
  template <class Step>
  [[nodiscard]] matrix_view<const T> report(B& b) const {
    static_assert((std::is_same_v<Step, Steps> || ...), "dro: this calibration has no such step");
    index_t column = 0;
    static_cast<void>(((std::is_same_v<Step, Steps> || (++column, false)) || ...));
    matrix_view<const T> view = b.view(reports);
    view.data += column * view.col_stride;
    view.cols = 1;
    return view;
  }
};

namespace detail {

template <class... Steps>
[[nodiscard]] constexpr bool stages_ascend() {
  int last = std::numeric_limits<int>::min();
  bool ascend = true;
  ((ascend = ascend && Steps::stage > last, last = Steps::stage), ...);
  return ascend;
}

/// Steps one after the other; std::tuple cannot be taken apart in device code.
template <class... Steps>
struct step_list {
  template <class T, class Team>
  DRO_HOST_DEVICE void operator()(Team&, weight_row<T>&, const matrix_view<T>&, index_t = 0) const {}
};
template <class First, class... Rest>
struct step_list<First, Rest...> {
  First first;
  step_list<Rest...> rest;

  template <class T, class Team>
  DRO_HOST_DEVICE void operator()(Team& team, weight_row<T>& row, const matrix_view<T>& reports,
                                  index_t column = 0) const {
    const T report = first(team, row);
    if (team.rank() == 0) reports(row.query, column) = report;
    rest(team, row, reports, column + 1);
  }
};

inline step_list<> list_steps() { return {}; }
template <class First, class... Rest>
[[nodiscard]] step_list<First, Rest...> list_steps(const First& first, const Rest&... rest) {
  return {first, list_steps(rest...)};
}

template <class T, class... Steps>
struct calibration_program {
  scored_draws<T> scores;
  matrix_view<const std::int32_t> raw_status;
  grouped_view<T> log_weights;
  tail_workspace<T> tail;
  matrix_view<std::int32_t> tail_outcome;
  matrix_view<T> reports;
  weight_outputs<T> out;
  step_list<Steps...> steps;

  [[nodiscard]] index_t width() const { return scores.groups().mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const index_t size = scores.size(q);
    const auto raw = [&](index_t i) { return scores.count(q, i) > T(0) ? scores.log_weight(q, i) : -infinity; };
    weight_row<T> row{scores, log_weights, tail, tail_outcome, q, T(0)};
    if (is_used(static_cast<status>(raw_status(q, 0)))) {
      row.origin = team.max(size, -infinity, raw);
      team.for_each(size, [&](index_t i) { row.offset(i) = raw(i) - row.origin; });
      team.barrier();
      steps(team, row, reports);
    } else {
      team.for_each(size, [&](index_t i) { row.offset(i) = raw(i); });
      team.for_each(reports.cols, [&](index_t s) { reports(q, s) = std::numeric_limits<T>::quiet_NaN(); });
      if (team.rank() == 0 && tail_outcome.data != nullptr) {
        tail_outcome(q, 0) = static_cast<std::int32_t>(tail_fit::unused);
      }
    }
    team.barrier();
    out.write(
        team, q, size, scores.traits().covers, [&](index_t i) { return row.offset(i); },
        [&](index_t i) { return row.count(i); });
    team.barrier();
    if (team.rank() == 0) {
      out.log_evidence(q, 0) += row.origin;
      out.elbo(q, 0) += row.origin;
    }
    team.for_each(size, [&](index_t i) {
      row.offset(i) = row.count(i) > T(0) ? row.origin + row.offset(i) : scores.log_weight(q, i);
    });
  }
};

}  // namespace detail

/// Importance weights taken through `steps` and then self-normalised, Σ w̄ = 1: in their order length_normalise,
/// truncate, clip, pareto_smooth, temper, each at most once; another order does not compile. Shifting every
/// log-likelihood of a query by a constant changes neither weights nor reports. A query whose raw weights cannot be
/// used keeps its status, has weights 0 and NaN as its reports. A draw that counts for nothing keeps its log-weight. No
/// draw of weight 0 is ever given another. Throws what the steps say of their options. Queues two programs, all steps
/// being one.
template <backend B, class T, calibration_step... Steps>
[[nodiscard]] calibrated_weights<B, T, Steps...> calibrate(B& b, const scored_draws<T>& scores, const Steps&... steps) {
  static_assert(detail::stages_ascend<Steps...>(),
                "dro: the steps of a calibration are length_normalise, truncate, clip, pareto_smooth, temper, in this "
                "order and each at most once");
  constexpr bool smooths = (std::is_same_v<Steps, calibration::pareto_smooth> || ...);
  const grouping& groups = scores.groups();
  const index_t queries = groups.queries();
  const auto check = [&](const auto& step) {
    if constexpr (requires { step.check(queries); }) step.check(queries);
  };
  (check(steps), ...);

  calibrated_weights<B, T, Steps...> w{importance_weights(b, scores),
                                       detail::make_weights<B, T>(b, scores),
                                       b.template make<T>(scores.rows(), scores.cols()),
                                       b.template make<T>(queries, static_cast<index_t>(sizeof...(Steps))),
                                       {}};
  detail::calibration_program<T, Steps...> program{scores,
                                                   b.view(std::as_const(w.raw.status)),
                                                   {b.view(w.log_weights), groups, "log_weights"},
                                                   {},
                                                   {},
                                                   b.view(w.reports),
                                                   detail::outputs_of(b, w.used, groups),
                                                   detail::list_steps(steps...)};
  if constexpr (smooths) {
    auto draw = b.template make<std::int32_t>(groups.total(), 1);
    auto rank = b.template make<std::int32_t>(groups.total(), 1);
    auto log_excess = b.template make<T>(groups.total(), 1);
    w.tail = b.template make<std::int32_t>(queries, 1);
    program.tail = {
        {b.view(draw), groups, "draw"}, {b.view(rank), groups, "rank"}, {b.view(log_excess), groups, "log_excess"}};
    program.tail_outcome = b.view(w.tail);
    b.run(queries, program);
  } else {
    b.run(queries, program);
  }
  return w;
}

namespace detail {

/// log ρ of all draws in one list. One that is NaN or +inf spoils its own query only: it counts for nothing here.
template <class T>
struct pool_ratios_program {
  scored_draws<T> scores;
  grouping groups;
  matrix_view<T> log_ratio, counts;

  [[nodiscard]] index_t width() const { return groups.mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    team.for_each(groups.size(q), [&](index_t i) {
      const T value = scores.log_ratio(q, i);
      const index_t draw = groups.begin(q) + i;
      log_ratio(draw, 0) = value;
      counts(draw, 0) = value < std::numeric_limits<T>::infinity() ? scores.count(q, i) : T(0);
    });
  }
};

}  // namespace detail

/// Pareto smoothing where queries have too few draws for it: the ratios ρ = p(z|x)/q(z) of all queries are smoothed as
/// if they were those of one. `log_weights`, [draws × 1], is the smoothed log ρ, with one k̂ for all, and `raw` and
/// `used` describe ρ over the whole batch. It takes the place of ρ in the scores of an M-step:
///
///     const auto rho = dro::smooth_ratios(b, scores);
///     const auto smooth = scores.with_log_ratio({b.view(rho.log_weights), scores.groups(), "log_ratio"});
///
/// Only ρ is pooled: it has mean 1 in every query, whereas the likelihoods of different queries have no common scale.
/// Where the selector itself drew, every ρ is 1: nothing is estimable (tail_fit::tied) and nothing changes.
/// Queues three programs, the last over a single row.
template <backend B, class T>
[[nodiscard]] calibrated_weights<B, T, calibration::pareto_smooth> smooth_ratios(
    B& b, const scored_draws<T>& scores, const calibration::pareto_smooth& step = {}) {
  const grouping& groups = scores.groups();
  auto log_ratio = b.template make<T>(groups.total(), 1);
  auto counts = b.template make<T>(groups.total(), 1);
  b.run(groups.queries(), detail::pool_ratios_program<T>{scores, groups, b.view(log_ratio), b.view(counts)});
  const auto pool = grouping::uniform(1, groups.total());
  const auto pooled =
      on_policy(b, log_ratio, pool).with(scores.traits(), {b.view(std::as_const(counts)), pool, "counts"});
  return calibrate(b, pooled, step);
}

}  // namespace dro

#endif
