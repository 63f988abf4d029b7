// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_OBJECTIVE_HPP
#define DRO_GRADIENT_OBJECTIVE_HPP

/// \file
/// What an M-step maximises, as types. An objective turns the scored draws of one query into two sets of coefficients:
/// c for the selector, whose gradient is Σ c_i ∇ log p(z_i|x), and c′ for the generator, Σ c′_i ∇ log p(y|x,d_{z_i}).
/// Coefficients point uphill. A baseline lowers the variance of c; c′ never carries one.

#include <concepts>
#include <limits>
#include <type_traits>

#include <dro/backend/grouping.hpp>
#include <dro/config.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/math/exp.hpp>

namespace dro {

namespace baseline {
/// c_i as it is.
struct none {};
/// The selector's own share ρ̄_i is taken off, so that the coefficients of a query sum to 0.
struct centred {};
/// The mean reward of the query's other samples is taken off.
struct leave_one_out {};
}  // namespace baseline

/// The draws of one query as an objective sees them.
template <class T>
struct query_draws {
  const scored_draws<T>& scores;
  const grouped_view<const T>& weights;
  index_t query;

  [[nodiscard]] DRO_HOST_DEVICE index_t size() const { return scores.size(query); }
  /// log p(z_i|x) − log q(z_i), nats.
  [[nodiscard]] DRO_HOST_DEVICE T log_ratio(index_t i) const { return scores.log_ratio(query, i); }
  /// log p(y|x,d_{z_i}), nats.
  [[nodiscard]] DRO_HOST_DEVICE T log_likelihood(index_t i) const { return scores.log_likelihood(query, i); }
  /// Self-normalised importance weight w̄_i.
  [[nodiscard]] DRO_HOST_DEVICE T weight(index_t i) const { return weights(query, i); }
};

/// The evidence log p(y|x), estimated with self-normalised weights: DRO (Shi et al. 2025). Bias O(1/m).
template <class Baseline = baseline::centred>
struct evidence {
  static_assert(!std::is_same_v<Baseline, Baseline>,
                "dro: the evidence objective takes baseline::centred (the default) or baseline::none");
};

/// c_i = c′_i = w̄_i: the M-step of the paper, re-weighted maximum likelihood. A lower bound is maximised, so the
/// coefficients stay valid over any number of gradient steps.
template <>
struct evidence<baseline::none> {
  static constexpr const char* name = "evidence, no baseline";
  static constexpr index_t least_samples = 1;
  static constexpr bool valid_over_steps = true;

  template <class T, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const query_draws<T>& draws, const Out& out) const {
    team.for_each(draws.size(), [&](index_t i) { out(i, draws.weight(i), draws.weight(i)); });
    return status::ok;
  }
};

/// c_i = w̄_i − ρ̄_i with ρ̄ the self-normalised ratios p(z|x)/q(z), which is 1/m where the selector drew; c′_i = w̄_i.
/// Centring leaves the on-policy mean unchanged, since E Σ ∇ log p(z_i|x) = 0. Valid for one gradient step: held
/// fixed, the coefficients are an objective without an upper bound.
template <>
struct evidence<baseline::centred> {
  static constexpr const char* name = "evidence, centred";
  static constexpr index_t least_samples = 1;
  static constexpr bool valid_over_steps = false;

  template <class T, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const query_draws<T>& draws, const Out& out) const {
    const index_t m = draws.size();
    const T largest = team.max(m, -std::numeric_limits<T>::infinity(), [&](index_t i) { return draws.log_ratio(i); });
    const T sum = team.template sum<T>(m, [&](index_t i) { return math::exp(draws.log_ratio(i) - largest); });
    team.for_each(m, [&](index_t i) {
      out(i, draws.weight(i) - math::exp(draws.log_ratio(i) - largest) / sum, draws.weight(i));
    });
    return status::ok;
  }
};

/// The expected log-likelihood E_z[log p(y|x,d_z)] under the selector: what a policy gradient with the log-likelihood
/// as its reward maximises. A lower bound of the evidence, without the posterior's pull towards the good samples.
template <class Baseline = baseline::leave_one_out>
struct expected_log_likelihood {
  static_assert(!std::is_same_v<Baseline, Baseline>,
                "dro: the expected log-likelihood objective takes baseline::leave_one_out (the default)");
};

/// c_i = (ρ_i/m) (ℓ_i − Σ_{j≠i} ρ_j ℓ_j / (m − 1)), c′_i = ρ_i/m, with ℓ = log p(y|x,d_z): unbiased (Kool et al. 2019,
/// "Buy 4 REINFORCE samples, get a baseline for free!"). Needs m ≥ 2. A sample with ℓ = −inf makes the query
/// impossible. Valid for one gradient step.
template <>
struct expected_log_likelihood<baseline::leave_one_out> {
  static constexpr const char* name = "expected log-likelihood, leave-one-out";
  static constexpr index_t least_samples = 2;
  static constexpr bool valid_over_steps = false;

  template <class T, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const query_draws<T>& draws, const Out& out) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const index_t m = draws.size();
    const T others = static_cast<T>(m - 1);
    const auto ratio = [&](index_t i) { return math::exp(draws.log_ratio(i)); };
    const T best = team.max(m, -infinity, [&](index_t i) { return draws.log_likelihood(i); });
    const T worst = -team.max(m, -infinity, [&](index_t i) { return -draws.log_likelihood(i); });
    if (worst == -infinity) return status::impossible;
    // ℓ = best + δ: the large common part drops out exactly where all ratios are 1.
    const auto offset = [&](index_t i) { return draws.log_likelihood(i) - best; };
    const T ratios = team.template sum<T>(m, ratio);
    const T rewards = team.template sum<T>(m, [&](index_t i) { return ratio(i) * offset(i); });
    team.for_each(m, [&](index_t i) {
      const T rho = ratio(i);
      const T common = best * (T(1) - (ratios - rho) / others);
      const T own = offset(i) - (rewards - rho * offset(i)) / others;
      out(i, rho / static_cast<T>(m) * (common + own), rho / static_cast<T>(m));
    });
    return status::ok;
  }
};

/// An objective states its name, the fewest samples it is defined for, whether its coefficients may be kept over
/// several gradient steps, and is called once for each query whose weights are fine, with a team, the query's draws and
/// an output `out(i, c_i, c′_i)`. What it returns other than status::ok makes the query's coefficients 0.
template <class O>
concept objective = requires(const O& o) {
  { O::name } -> std::convertible_to<const char*>;
  { O::least_samples } -> std::convertible_to<index_t>;
  { O::valid_over_steps } -> std::convertible_to<bool>;
};

}  // namespace dro

#endif
