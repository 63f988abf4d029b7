// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_UNORDERED_SETS_HPP
#define DRO_EM_UNORDERED_SETS_HPP

/// \file
/// The unordered-set estimator as a target of an M-step.

#include <dro/backend/concept.hpp>
#include <dro/config.hpp>
#include <dro/em/e_step.hpp>
#include <dro/error.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/unordered_set.hpp>

namespace dro {

/// unordered_set_coefficients of `target` for an E-step whose proposal is `without_replacement(selector)`:
///
///     em(b, selector, generator, dro::without_replacement(selector), source,
///        dro::unordered_sets<dro::unordered_set::evidence>{}, …);
///
/// 2 to 12 samples. One gradient step on each E-step's draws: the estimator knows how a set came about only under the
/// selector that drew it. Throws option_error for draws that were made in another way.
template <class Objective>
struct unordered_sets {
  static constexpr bool valid_over_steps = false;
  static constexpr bool one_step = true;
  [[no_unique_address]] Objective target = {};

  template <backend B, class T, class Selector, class Generator, class Queries>
  [[nodiscard]] gradient_coefficients<B, T> coefficients(B& b, const Selector&, const Generator&, const Queries&,
                                                         const e_step_result<B, T>& e, index_t query_count) const {
    if (!e.z.has_log_unsampled()) {
      throw option_error(
          "unordered_sets: these draws were not made without replacement: the proposal of the E-step is "
          "to be dro::without_replacement(selector)");
    }
    return unordered_set_coefficients(b, target, e.log_selector, e.z.log_unsampled(), e.log_likelihood, e.z.groups(),
                                      query_count);
  }
};

}  // namespace dro

#endif
