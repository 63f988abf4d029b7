// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_SET_SCORES_HPP
#define DRO_EM_SET_SCORES_HPP

/// \file
/// Rao–Blackwellisation over the order of a ranking, as a target of an M-step.

#include <dro/backend/concept.hpp>
#include <dro/config.hpp>
#include <dro/em/e_step.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/ranking/set_probability.hpp>

namespace dro {

/// Any objective with ∇ log P(the set of z_i) in place of ∇ log p(z_i|x). For a generator that does not look at the
/// order of its documents the coefficients depend on the set alone, E[∇ log p(z)|set] = ∇ log P(set), and so the mean
/// of the gradient stays and its variance falls (Casella & Robert 1996). With a generator that does look at the order
/// the result is biased. For a selector that shows its scores; K ≤ 12, O(K 2^K) a draw. On-policy, or where q too
/// depends on the set alone.
template <objective Objective>
struct set_scores {
  static constexpr bool valid_over_steps = false;  // coefficients may be kept, ∇ log P(set) at new scores may not
  [[no_unique_address]] Objective target = {};

  template <backend B, class T>
  [[nodiscard]] gradient_coefficients<B, T> score_gradient(B& b, const matrix_t<B, T>& scores,
                                                           const e_step_result<B, T>& e, index_t query_count,
                                                           matrix_t<B, T>& d_scores) const {
    auto c = coefficients(b, target, e.scores(b), e.weights, query_count);
    accumulate_set_gradient(b, scores, std::as_const(b).view(e.z.rankings()), e.z.groups(), c.selector,
                            b.view(d_scores));
    return c;
  }
};

}  // namespace dro

#endif
