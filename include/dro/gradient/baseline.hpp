// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_BASELINE_HPP
#define DRO_GRADIENT_BASELINE_HPP

/// \file
/// What is taken off a reward before it multiplies ∇ log p(z|x). An objective names the baselines that make sense for
/// it; any other does not compile.
///
/// Those of a reward are called with a query's draws (a query_draws<T>) and the reward x_i = origin + offset(i), split
/// so that a large common part of log-likelihoods drops out exactly, and write x_i − b_i. ρ_i = p(z_i|x)/q(z_i) is 1
/// on-policy.

#include <cmath>
#include <concepts>
#include <limits>

#include <dro/backend/matrix_view.hpp>
#include <dro/backend/team.hpp>
#include <dro/config.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/math/quotient.hpp>

namespace dro::baseline {

namespace detail {

/// Σ ρ_j and Σ ρ_j x_j.
template <class T, class Team, class Draws, class Reward>
[[nodiscard]] DRO_HOST_DEVICE pack<T, 2> sums_of_ratios(Team& team, const Draws& draws, const Reward& x) {
  return draws.sum(team, [&](index_t j) {
    const T ratio = draws.ratio(j);
    return pack<T, 2>{ratio, ratio * x(j)};
  });
}

}  // namespace detail

/// For the evidence: the selector's own share ρ̄_i is taken off, so that the coefficients of a query sum to 0.
struct centred {};
/// For the evidence: ρ_i/m is taken off, of which the mean is 0 under any covering proposal.
struct ratio {};
/// For the importance-weighted bound: the bound of the other samples alone, log Σ_{j≠i} w_j/(m − 1) (VIMCO's arithmetic
/// form; Mnih & Rezende 2016, section 2.5).
struct arithmetic {
  static constexpr const char* name = "arithmetic leave-one-out";
};
/// For the importance-weighted bound: sample i replaced by the geometric mean of the others (VIMCO, equation 8).
struct geometric {
  static constexpr const char* name = "geometric leave-one-out";
};

/// Nothing is taken off.
struct none {
  static constexpr const char* name = "no baseline";
  static constexpr index_t least_samples = 1;

  template <class Draws, class Team, class T, class Offset, class Write>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, T origin, const Offset& offset,
                                    const Write& write) const {
    team.for_each(draws.size(), [&](index_t i) { write(i, origin + offset(i)); });
    return status::ok;
  }
};

/// b = (1/m) Σ_j ρ_j x_j, the draw itself included: on-policy (m − 1)/m of leave-one-out, and biased by that factor.
struct group_mean {
  static constexpr const char* name = "group mean";
  static constexpr index_t least_samples = 2;

  template <class Draws, class Team, class T, class Offset, class Write>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, T origin, const Offset& offset,
                                    const Write& write) const {
    const auto sums = detail::sums_of_ratios<T>(team, draws, offset);
    const T common = origin * (T(1) - sums[0] / draws.samples());
    const T mean = sums[1] / draws.samples();
    team.for_each(draws.size(), [&](index_t i) { write(i, common + (offset(i) - mean)); });
    return status::ok;
  }
};

/// b_i = Σ_j ρ_j x_j / (m − 1) over the other draws (Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for
/// free!"): independent of draw i, so the gradient stays unbiased. Of dependent draws the whole block is left out.
struct leave_one_out {
  static constexpr const char* name = "leave-one-out";
  static constexpr index_t least_samples = 2;

  template <class Draws, class Team, class T, class Offset, class Write>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, T origin, const Offset& offset,
                                    const Write& write) const {
    const auto ratio = [&](index_t j) { return draws.ratio(j); };
    const auto reward = [&](index_t j) { return draws.ratio(j) * offset(j); };
    const auto sums = detail::sums_of_ratios<T>(team, draws, offset);
    team.for_each(draws.size(), [&](index_t i) {
      const T others = draws.samples() - draws.own(i, [](index_t) { return T(1); });
      const T common = origin * (T(1) - math::quotient(sums[0] - draws.own(i, ratio), others));
      write(i, common + (offset(i) - math::quotient(sums[1] - draws.own(i, reward), others)));
    });
    return status::ok;
  }
};

/// (x_i − mean)/sd over the query's draws, as in GRPO (Shao et al. 2024, equation 4). Not the unbiased gradient of
/// anything simple: queries are put on one scale. Two passes; a group whose sd is below 4 ε max|x| is degenerate.
struct group_normalised {
  static constexpr const char* name = "group-normalised";
  static constexpr index_t least_samples = 2;

  template <class Draws, class Team, class T, class Offset, class Write>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, T origin, const Offset& offset,
                                    const Write& write) const {
    const T m = draws.samples();
    const T mean = draws.sum(team, offset) / m;
    const T variance = draws.sum(team, [&](index_t i) { return (offset(i) - mean) * (offset(i) - mean); }) / m;
    const T largest = team.max(draws.size(), T(0), [&](index_t i) {
      const T x = draws.count(i) > T(0) ? origin + offset(i) : T(0);
      return x < T(0) ? -x : x;
    });
    const T sd = std::sqrt(variance);
    if (!(sd > 4 * std::numeric_limits<T>::epsilon() * largest)) return status::degenerate;
    team.for_each(draws.size(), [&](index_t i) { write(i, (offset(i) - mean) / sd); });
    return status::ok;
  }
};

/// A number known before the draws were made, in nats like the log-likelihood: of each query, [queries × 1], or one for
/// all, [1 × 1]. That of a greedy ranking (ReMax; Li et al. 2023), a moving average, a critic's.
template <class T>
struct value {
  static constexpr const char* name = "a known value";
  static constexpr index_t least_samples = 1;
  matrix_view<const T> log_likelihood;

  [[nodiscard]] DRO_HOST_DEVICE T at(index_t query) const {
    return log_likelihood(log_likelihood.rows == 1 ? 0 : query, 0);
  }
  void require(const scored_draws<T>& scores) const {
    if (log_likelihood.rows == 1 && log_likelihood.cols == 1) return;
    require_shape(log_likelihood, scores.groups().queries(), 1, "baseline::value");
  }
};

/// A baseline that a reward objective takes: one of the above that is called as described there, or a `value`.
template <class Baseline>
concept of_reward = requires(const Baseline& b) {
  { Baseline::name } -> std::convertible_to<const char*>;
  { Baseline::least_samples } -> std::convertible_to<index_t>;
};

}  // namespace dro::baseline

#endif
