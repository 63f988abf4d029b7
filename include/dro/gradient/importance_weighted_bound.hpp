// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_IMPORTANCE_WEIGHTED_BOUND_HPP
#define DRO_GRADIENT_IMPORTANCE_WEIGHTED_BOUND_HPP

/// \file
/// The importance-weighted bound L_m = E log (1/m) Σ w_i ≤ log p(y|x), which m samples bound from below without bias.

#include <limits>
#include <type_traits>

#include <dro/config.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/baseline.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>

namespace dro {

namespace detail {

/// L_m and what it would be without draw i (without its block, if draws are dependent). The others' sum is never a
/// difference that cancels: the largest weight's others are summed by themselves, and any other draw's others still
/// hold the largest. O(m) for independent draws, O(m · block) else.
template <class T, class Team>
class bound_without {
 public:
  DRO_HOST_DEVICE bound_without(Team& team, const query_draws<T>& draws) : draws_(draws) {
    const index_t size = draws.size();
    const auto weight = [&](index_t i) { return this->log_weight(i); };
    first_ = team.arg_max(size, lowest, weight);
    largest_ = first_ < size ? weight(first_) : lowest;
    const auto runner_up = [&](index_t i) { return i == first_ && draws.count(i) < T(2) ? lowest : weight(i); };
    second_ = team.max(size, lowest, runner_up);
    sum_ = draws.sum(team, [&](index_t i) { return math::exp(weight(i) - largest_); });
    others_of_first_ = team.template sum<T>(size, [&](index_t i) {
      const T n = draws.count(i) - (i == first_ ? T(1) : T(0));
      return n > T(0) ? n * math::exp(weight(i) - second_) : T(0);
    });
    impossible_ = draws.sum(team, [&](index_t i) { return weight(i) == lowest ? T(1) : T(0); });
    finite_log_weights_ = draws.sum(team, [&](index_t i) { return weight(i) == lowest ? T(0) : weight(i) - largest_; });
  }

  [[nodiscard]] DRO_HOST_DEVICE T log_weight(index_t i) const {
    return draws_.count(i) > T(0) ? draws_.log_weight(i) : lowest;
  }
  /// L_m.
  [[nodiscard]] DRO_HOST_DEVICE T whole() const { return largest_ + math::log(sum_ / draws_.samples()); }
  /// Number of draws left when the block of draw i is taken out.
  [[nodiscard]] DRO_HOST_DEVICE T others(index_t i) const {
    return draws_.samples() - draws_.own(i, [](index_t) { return T(1); });
  }
  /// log Σ_j w_j over the draws that are left; −inf if all of them are impossible.
  [[nodiscard]] DRO_HOST_DEVICE T log_sum(index_t i) const {
    if (draws_.block() == 1) {
      if (i == first_) return second_ > lowest ? second_ + math::log(others_of_first_) : lowest;
      return largest_ + math::log(sum_ - math::exp(log_weight(i) - largest_));
    }
    const index_t begin = i - i % draws_.block();
    T total = lowest;
    for (index_t j = 0; j < draws_.size(); ++j) {
      if (j < begin || j >= begin + draws_.block()) total = math::log_add_exp(total, log_weight(j));
    }
    return total;
  }
  /// Mean of log w_j over the draws that are left; −inf if one of them is impossible.
  [[nodiscard]] DRO_HOST_DEVICE T mean_log(index_t i) const {
    const auto is_impossible = [&](index_t j) { return log_weight(j) == lowest ? T(1) : T(0); };
    const auto finite = [&](index_t j) { return log_weight(j) == lowest ? T(0) : log_weight(j) - largest_; };
    if (impossible_ - draws_.own(i, is_impossible) > T(0)) return lowest;
    return largest_ + (finite_log_weights_ - draws_.own(i, finite)) / others(i);
  }

 private:
  static constexpr T lowest = -std::numeric_limits<T>::infinity();

  const query_draws<T>& draws_;
  index_t first_;
  T largest_, second_, sum_, others_of_first_, impossible_, finite_log_weights_;
};

/// L_{−i}: the bound without draw i, by the baseline's rule; `floor` if all other draws are impossible.
template <class Baseline, class T, class Team>
DRO_HOST_DEVICE T left_out_bound(const bound_without<T, Team>& bound, const query_draws<T>& draws, index_t i, T floor) {
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  const T others = bound.others(i);
  const T log_sum = bound.log_sum(i);
  if (log_sum == lowest) return floor;
  if constexpr (std::is_same_v<Baseline, baseline::arithmetic>) {
    return log_sum - math::log(others);
  } else {
    const T left_out = draws.samples() - others;
    return math::log_add_exp(log_sum, bound.mean_log(i) + math::log(left_out)) - math::log(draws.samples());
  }
}

/// emit(i, n_i (L_m − L_{−i})) for each draw.
template <class Baseline, class T, class Team, class Emit>
DRO_HOST_DEVICE void bound_advantages(Team& team, const query_draws<T>& draws, T floor, const Emit& emit) {
  const bound_without<T, Team> bound(team, draws);
  team.for_each(draws.size(), [&](index_t i) {
    T c = bound.whole();
    if constexpr (!std::is_same_v<Baseline, baseline::none>) c -= left_out_bound<Baseline>(bound, draws, i, floor);
    const T n = draws.count(i);
    emit(i, n > T(0) ? n * c : T(0));
  });
}

}  // namespace detail

/// The importance-weighted bound (Burda et al. 2016; Mnih & Rezende 2016), with baseline::arithmetic, geometric or
/// none.
///
/// On-policy, where the selector is its own proposal, c_i = L_m − L_{−i} with L_{−i} the bound that the other draws
/// give (L_m itself without a baseline): unbiased for ∇ L_m. With any other proposal, whose parameters are not these,
/// c_i = w̄_i, which is unbiased too; see `importance_weighted_bound_of_proposal` for a proposal that learns. c′_i =
/// w̄_i. If all other draws are impossible, L_{−i} is `floor`, a constant that does not depend on draw i. Valid for one
/// gradient step. O(m) for independent draws; of dependent ones the block is left out, O(m · block).
template <class Baseline = baseline::arithmetic>
struct importance_weighted_bound {
  static constexpr bool takes = std::is_same_v<Baseline, baseline::none> ||
                                std::is_same_v<Baseline, baseline::arithmetic> ||
                                std::is_same_v<Baseline, baseline::geometric>;
  static_assert(takes,
                "dro: the importance-weighted bound takes baseline::arithmetic (the default), geometric or none");
  static constexpr const char* name = "importance-weighted bound";
  static constexpr const char* baseline_name = Baseline::name;
  static constexpr index_t least_samples = 2;
  static constexpr bool valid_over_steps = false;
  double floor = 0;  ///< nats

  template <class T, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const query_draws<T>& draws, const Out& out) const {
    if (!draws.on_policy()) return evidence<baseline::none>{}(team, draws, out);
    detail::bound_advantages<Baseline>(team, draws, static_cast<T>(floor),
                                       [&](index_t i, T c) { out(i, c, draws.weight(i)); });
    return status::ok;
  }
};

/// The same bound for a proposal q that learns beside the selector: its gradient is Σ c_i ∇ log q(z_i) with
/// c_i = (L_m − L_{−i}) − w̄_i (Mnih & Rezende 2016, equation 9); the generator's coefficients are 0. Give the result's
/// `selector` coefficients to the proposal's accumulate_gradient.
template <class Baseline = baseline::arithmetic>
struct importance_weighted_bound_of_proposal {
  static_assert(importance_weighted_bound<Baseline>::takes);
  static constexpr const char* name = "importance-weighted bound, of the proposal";
  static constexpr const char* baseline_name = Baseline::name;
  static constexpr index_t least_samples = 2;
  static constexpr bool valid_over_steps = false;
  double floor = 0;  ///< nats

  template <class T, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const query_draws<T>& draws, const Out& out) const {
    detail::bound_advantages<Baseline>(team, draws, static_cast<T>(floor),
                                       [&](index_t i, T c) { out(i, c - draws.weight(i), T(0)); });
    return status::ok;
  }
};

}  // namespace dro

#endif
