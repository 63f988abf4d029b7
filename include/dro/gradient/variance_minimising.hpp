// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_VARIANCE_MINIMISING_HPP
#define DRO_GRADIENT_VARIANCE_MINIMISING_HPP

/// \file
/// The scalar baseline that minimises the variance of the selector's gradient, as far as the other draws can tell.

#include <string>

#include <dro/backend/grouping.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/gradient/score_norms.hpp>

namespace dro::baseline {

/// b_i estimates E[ρ² x ‖s‖²] / E[ρ² ‖s‖²], s = ∇ log p(z|x) by the scores, from the other draws, shrunk towards their
/// mean (see variance_minimising_advantage). Unbiased. `norms` are those of plackett_luce_score_norms, one for each
/// draw. O(m²) a query.
template <class T>
struct variance_minimising {
  static constexpr const char* name = "variance-minimising";
  static constexpr index_t least_samples = 2;
  grouped_view<const T> norms;
  double shrinkage = 0.75;  ///< 0: the plug-in; 1: the (self-normalised) leave-one-out mean

  /// Throws shape_error without norms for these draws; option_error unless 0 ≤ shrinkage ≤ 1.
  void require(const scored_draws<T>& scores) const {
    require_groups(norms, scores.groups(), "variance_minimising: norms");
    if (!(shrinkage >= 0 && shrinkage <= 1)) {
      throw option_error("variance_minimising: shrinkage is " + std::to_string(shrinkage) + ", expected 0 to 1");
    }
  }

  template <class Team, class Offset, class Write>
  DRO_HOST_DEVICE status operator()(Team& team, const query_draws<T>& draws, T, const Offset& offset,
                                    const Write& write) const {
    const index_t q = draws.query();
    team.for_each(draws.size(), [&](index_t i) {
      write(i, variance_minimising_advantage(
                   draws, i, offset, [&](index_t j) { return draws.ratio(j); }, [&](index_t j) { return norms(q, j); },
                   static_cast<T>(shrinkage)));
    });
    return status::ok;
  }
};

}  // namespace dro::baseline

#endif
