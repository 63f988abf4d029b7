// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_REGULARISED_HPP
#define DRO_GRADIENT_REGULARISED_HPP

/// \file
/// An entropy bonus and a Kullback–Leibler penalty for the selector, around any objective.

#include <cmath>
#include <limits>
#include <string>

#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/baseline.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/objective.hpp>

namespace dro {

/// `target` + λ H(p) − β KL(p ‖ p_ref), with H the entropy of the selector p(z|x) over rankings and p_ref another
/// selector. Both terms are expectations under p of −λ log p(z) − β (log p(z) − log p_ref(z)), whose unbiased gradient,
/// with leave-one-out as the baseline, is added to c; c′ is the target's. Keeps a selector from putting all its mass on
/// a few rankings early, or from leaving a ranker it started from.
///
/// In units of the target's coefficients: where those stand for e^log_scale times themselves, so do these. A draw that
/// the reference calls impossible makes the query impossible where β ≠ 0. Valid for one gradient step.
template <objective Objective, class T = double>
struct regularised {
  static constexpr const char* name = Objective::name;
  static constexpr const char* baseline_name = "regularised";
  static constexpr index_t least_samples = Objective::least_samples > 2 ? Objective::least_samples : 2;
  static constexpr bool valid_over_steps = false;

  Objective target = {};
  double entropy = 0;                        ///< λ
  double divergence = 0;                     ///< β
  grouped_view<const T> log_reference = {};  ///< log p_ref(z|x), nats, one for each draw; not needed if β = 0

  /// Throws option_error unless log p(z|x) is known, and log p_ref(z|x) where β ≠ 0.
  void require(const scored_draws<T>& scores) const {
    if constexpr (requires { target.require(scores); }) target.require(scores);
    if (!std::isfinite(entropy) || !std::isfinite(divergence)) {
      throw option_error("regularised: entropy is " + std::to_string(entropy) + " and divergence " +
                         std::to_string(divergence));
    }
    if (scores.groups().total() == 0) return;
    if (!scores.has_log_selector()) throw option_error("regularised: these draws do not know log p(z|x)");
    if (divergence != 0 && !log_reference) throw option_error("regularised: divergence without log_reference");
    if (divergence != 0) require_groups(log_reference, scores.groups(), "regularised: log_reference");
  }

  template <class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const query_draws<T>& draws, const Out& out) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const status state = target(team, draws, out);
    if (!is_used(state)) return state;
    const index_t q = draws.query();
    const T lambda = static_cast<T>(entropy);
    const T beta = static_cast<T>(divergence);
    // An impossible draw has ρ = 0: its reward has no say, but must not be 0 · ∞ either.
    const auto reward = [&](index_t i) {
      if (!(draws.count(i) > T(0))) return T(0);
      const T log_p = draws.log_selector(i);
      if (log_p == -infinity) return T(0);
      return -(lambda + beta) * log_p + (beta == T(0) ? T(0) : beta * log_reference(q, i));
    };
    const T lowest = -team.max(draws.size(), -infinity, [&](index_t i) { return -reward(i); });
    if (lowest == -infinity) return status::impossible;
    team.barrier();
    const status found = detail::reward_coefficients(
        baseline::leave_one_out{}, team, draws, T(0), reward, [](T v) { return v; },
        [&](index_t i, T c) { out.add(i, c); });
    return is_used(found) ? state : found;
  }
};

}  // namespace dro

#endif
