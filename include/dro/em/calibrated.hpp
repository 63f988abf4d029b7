// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_CALIBRATED_HPP
#define DRO_EM_CALIBRATED_HPP

/// \file
/// An objective on calibrated weights, as a target of an M-step.

#include <tuple>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/config.hpp>
#include <dro/em/e_step.hpp>
#include <dro/estimate/calibration.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/objective.hpp>

namespace dro {

namespace detail {

/// An expectation of a reward, in which self-normalised weights have no part.
template <class O>
concept rewards_directly = requires {
  O::rewards_likelihood;
};

}  // namespace detail

/// `target` on weights that went through the calibration steps, in their order (see calibrate):
///
///     em(…, dro::calibrated(dro::evidence<>{}, dro::calibration::truncate{}, dro::calibration::temper{0.5}), …);
///
/// The E-step keeps its raw weights: diagnostics are of what the models said. Objectives that use the weights w̄ are
/// changed by this (the evidence, the bound off-policy); those that use ℓ and ρ themselves are not, and are refused.
/// Where the target's coefficients may be kept over several gradient steps, these may, too.
template <objective Objective, calibration_step... Steps>
class calibrated {
  static_assert(detail::stages_ascend<Steps...>(),
                "dro: the steps of a calibration are length_normalise, truncate, clip, pareto_smooth, temper, in this "
                "order and each at most once");
  static_assert(!detail::rewards_directly<Objective>,
                "dro: an expected reward does not use the self-normalised weights: there is nothing to calibrate");

 public:
  static constexpr bool valid_over_steps = Objective::valid_over_steps;

  explicit calibrated(Objective target, Steps... steps) : target_(std::move(target)), steps_(std::move(steps)...) {}

  template <backend B, class T, class Selector, class Generator, class Queries>
  [[nodiscard]] gradient_coefficients<B, T> coefficients(B& b, const Selector&, const Generator&, const Queries&,
                                                         const e_step_result<B, T>& e, index_t query_count) const {
    const auto scores = e.scores(b);
    const auto weights = std::apply([&](const Steps&... steps) { return calibrate(b, scores, steps...); }, steps_);
    return dro::coefficients(b, target_, scores, weights.used, query_count);
  }

 private:
  Objective target_;
  std::tuple<Steps...> steps_;
};

}  // namespace dro

#endif
