// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_EXPECTED_REWARD_HPP
#define DRO_GRADIENT_EXPECTED_REWARD_HPP

/// \file
/// Objectives that are an expectation under the selector: of the likelihood of the answer, and of its logarithm.

#include <limits>
#include <type_traits>

#include <dro/config.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/baseline.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/math/exp.hpp>

namespace dro {

namespace detail {

/// c_i = n_i (ρ_i/m) (x_i − b_i) for the reward x_i = origin + offset(i), through emit(i, c_i).
/// `known(v)` makes a reward of a baseline given as a log-likelihood.
template <class Baseline, class Draws, class Team, class Offset, class Known, class Emit>
DRO_HOST_DEVICE status reward_coefficients(const Baseline& subtract, Team& team, const Draws& draws,
                                           typename Draws::scalar_type origin, const Offset& offset, const Known& known,
                                           const Emit& emit) {
  using T = typename Draws::scalar_type;
  const auto write = [&](index_t i, T advantage) {
    const T n = draws.count(i);
    emit(i, n > T(0) ? n * draws.ratio(i) / draws.samples() * advantage : T(0));
  };
  if constexpr (requires { subtract.at(index_t{}); }) {
    // Where q does not cover p, E_q[ρ ∇ log p] is not 0, and whatever is taken off adds bias.
    const T b = draws.covers() ? known(subtract.at(draws.query())) : T(0);
    if (b != b) return status::not_a_number;
    if (b == -std::numeric_limits<T>::infinity()) return status::impossible;
    return baseline::none{}(team, draws, origin - b, offset, write);
  } else if (!draws.covers()) {
    return baseline::none{}(team, draws, origin, offset, write);
  } else {
    return subtract(team, draws, origin, offset, write);
  }
}

}  // namespace detail

/// The expected log-likelihood E_z[log p(y|x,d_z)] under the selector: what a policy gradient with the log-likelihood
/// as its reward maximises. A lower bound of the evidence, without the posterior's pull towards the good samples.
///
/// c_i = (ρ_i/m) (ℓ_i − b_i), c′_i = ρ_i/m, with ℓ = log p(y|x,d_z). Unbiased with baseline::none, leave_one_out, value
/// and variance_minimising, for which see baseline.hpp. A sample with ℓ = −inf makes the query impossible. Valid for
/// one gradient step.
template <class Baseline = baseline::leave_one_out>
struct expected_log_likelihood {
  static_assert(baseline::of_reward<Baseline>,
                "dro: the expected log-likelihood takes baseline::leave_one_out (the default), none, group_mean, "
                "group_normalised, value or variance_minimising; for a greedy or moving-average baseline see "
                "dro/em/baselines.hpp");
  static constexpr const char* name = "expected log-likelihood";
  static constexpr const char* baseline_name = Baseline::name;
  static constexpr index_t least_samples = Baseline::least_samples;
  static constexpr bool valid_over_steps = false;
  static constexpr bool rewards_likelihood = false;  ///< whether the reward is p(y|x,d_z), else its logarithm
  [[no_unique_address]] Baseline subtract = {};

  template <class T>
  void require(const scored_draws<T>& scores) const {
    if constexpr (requires { subtract.require(scores); }) subtract.require(scores);
  }

  template <class Draws, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, const Out& out) const {
    using T = typename Draws::scalar_type;
    constexpr T infinity = std::numeric_limits<T>::infinity();
    // ℓ = best + δ: the large common part drops out exactly where all ratios are 1.
    bool found_impossible = false;  // in what this thread saw
    const T best = team.max(draws.size(), -infinity, [&](index_t i) {
      if (!(draws.count(i) > T(0))) return -infinity;
      const T l = draws.log_likelihood(i);
      found_impossible |= l == -infinity;
      return l;
    });
    if (team.any(found_impossible)) return status::impossible;
    return detail::reward_coefficients(
        subtract, team, draws, best, [&](index_t i) { return draws.log_likelihood(i) - best; }, [](T v) { return v; },
        [&](index_t i, T c) {
          const T n = draws.count(i);
          out(i, c, n > T(0) ? n * draws.ratio(i) / draws.samples() : T(0));
        });
  }
};

/// What the coefficients of the expected likelihood are relative to.
enum class likelihood_scale {
  absolute,   ///< e^{−log_offset} for every query: the objective itself, up to one factor
  per_query,  ///< each query's largest likelihood: no underflow, but queries no longer have their weight in the sum
};

/// The expected likelihood E_z[p(y|x,d_z)] = p(y|x) under the selector, not its logarithm: a batch is ruled by the
/// queries whose answers are likely already.
///
/// c_i = (ρ_i/m) (f_i − b_i), c′_i = ρ_i f_i/m, with f = p(y|x,d_z) (see baseline.hpp). f is far below the smallest
/// number for long answers: coefficients are computed relative to the query's largest f and then stand for e^L times
/// themselves, L the log_scale of `gradient_coefficients`. With baseline::none they are weights of a bounded objective
/// and may be kept over several gradient steps.
template <class Baseline = baseline::leave_one_out>
struct expected_likelihood {
  static_assert(baseline::of_reward<Baseline>,
                "dro: the expected likelihood takes baseline::leave_one_out (the default), none, group_mean, "
                "group_normalised, value or variance_minimising; for a greedy or moving-average baseline see "
                "dro/em/baselines.hpp");
  static constexpr const char* name = "expected likelihood";
  static constexpr const char* baseline_name = Baseline::name;
  static constexpr index_t least_samples = Baseline::least_samples;
  static constexpr bool valid_over_steps = std::is_same_v<Baseline, baseline::none>;
  static constexpr bool rewards_likelihood = true;
  [[no_unique_address]] Baseline subtract = {};
  likelihood_scale scale = likelihood_scale::absolute;
  double log_offset = 0;  ///< nats added to every log-likelihood where the scale is absolute

  template <class T>
  void require(const scored_draws<T>& scores) const {
    if constexpr (requires { subtract.require(scores); }) subtract.require(scores);
  }

  template <class Draws, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, const Out& out) const {
    using T = typename Draws::scalar_type;
    constexpr T infinity = std::numeric_limits<T>::infinity();
    T largest = team.max(draws.size(), -infinity,
                         [&](index_t i) { return draws.count(i) > T(0) ? draws.log_likelihood(i) : -infinity; });
    if constexpr (requires { subtract.at(index_t{}); }) {
      const T known = subtract.at(draws.query());
      largest = known > largest ? known : largest;
    }
    const bool is_absolute = scale == likelihood_scale::absolute;
    // Normalised rewards have no unit left that could be put back.
    const bool has_unit = !std::is_same_v<Baseline, baseline::group_normalised>;
    const T factor = is_absolute && has_unit ? math::exp(largest + static_cast<T>(log_offset)) : T(1);
    if (team.rank() == 0) out.log_scale(has_unit ? (is_absolute ? -static_cast<T>(log_offset) : largest) : T(0));
    const auto likelihood = [&](index_t i) { return math::exp(draws.log_likelihood(i) - largest); };
    return detail::reward_coefficients(
        subtract, team, draws, T(0), likelihood, [&](T v) { return math::exp(v - largest); },
        [&](index_t i, T c) {
          const T n = draws.count(i);
          const T own = n > T(0) ? n * draws.ratio(i) / draws.samples() * likelihood(i) : T(0);
          out(i, factor * c, (is_absolute ? math::exp(largest + static_cast<T>(log_offset)) : T(1)) * own);
        });
  }
};

}  // namespace dro

#endif
