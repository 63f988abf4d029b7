// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_PL_RANK_HPP
#define DRO_GRADIENT_PL_RANK_HPP

/// \file
/// PL-Rank-3: the gradient of rewards that add up over positions, at the cost of sorting (Oosterhuis 2022,
/// "Learning-to- rank at the speed of sampling").

#include <cstddef>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

namespace detail {

/// With G_t = Σ_{u ≥ t} θ_u r(z_u) what picks t and later bring,
///
///     ∂/∂s_j = G_{t+1} [j is pick t] + r_j Σ_u θ_u exp(s_j − L_u) − Σ_u G_u exp(s_j − L_u),
///
/// the sums over the picks u that j was there for: all of them, or up to its own.
template <class T>
struct pl_rank_3_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<const T> relevance;         // [queries × n]
  matrix_view<const T> position_weights;  // [1 × K]
  matrix_view<T> gradient;                // [queries × n], added to
  grouping groups;
  T scale;

  // L [K + 1], G [K + 1], the two sums [K each], membership flags [n].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(4 * rankings.cols + 2) * sizeof(T) +
           static_cast<std::size_t>(scores.cols) * sizeof(document_t);
  }

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    const index_t select = rankings.cols;
    T* log_mass = team.template scratch<T>();
    T* to_come = log_mass + select + 1;
    T* direct = to_come + select + 1;
    T* risked = direct + select;
    auto* chosen = team.template scratch<document_t>(static_cast<std::size_t>(4 * select + 2) * sizeof(T));
    const T share = scale / static_cast<T>(groups.size(query) > 0 ? groups.size(query) : 1);
    for (index_t i = 0; i < groups.size(query); ++i) {
      const index_t draw = groups.begin(query) + i;
      if (!mark_possible(team, scores, query, rankings, draw, chosen)) continue;
      log_masses_left(team, scores, query, rankings, draw, chosen, log_mass);
      if (team.rank() == 0) {
        to_come[select] = T(0);
        for (index_t t = select; t-- > 0;) {
          to_come[t] = to_come[t + 1] + position_weights(0, t) * relevance(query, rankings(draw, t));
          direct[t] = position_weights(0, t);
          risked[t] = to_come[t];
        }
        carry_forward(log_mass, direct, select);
        carry_forward(log_mass, risked, select);
      }
      team.barrier();
      const auto slope = [&](index_t j, index_t t) {
        return math::exp(scores(query, j) - log_mass[t]) * (relevance(query, j) * direct[t] - risked[t]);
      };
      team.for_each(select, [&](index_t t) {
        const index_t j = rankings(draw, t);
        gradient(query, j) += share * (to_come[t + 1] + slope(j, t));
      });
      team.for_each(n, [&](index_t j) {
        if (chosen[j] == 0) gradient(query, j) += share * slope(j, select - 1);
      });
      team.barrier();
    }
  }
};

}  // namespace detail

/// Adds an unbiased estimate of ∂/∂s E_z[Σ_t θ_t r(z_t)] to `gradient` [queries × documents]: the mean over the query's
/// draws of
///
///     Σ_{u > t} θ_u r(z_u) [j is pick t] + exp(s_j) Σ_u (θ_u r_j − Σ_{v ≥ u} θ_v r(z_v)) / Σ_{k not in z_<u} exp(s_k),
///
/// u over the picks up to j's own, or all if j is not picked; divided by `query_count`, the queries of the whole batch
/// (0: these). A reward is credited to the picks up to it only, and what a pick earns itself is weighed with the
/// probability of every document instead of the one that was drawn. On problems of 6 documents (graded and binary
/// relevance, discounts of a ranking metric) the variance was a half to a seventh of that of the policy gradient
/// without a baseline. It has no baseline of its own, but a constant taken off all relevances of a query leaves its
/// mean unchanged, and with relevances about their mean it is about level with the policy gradient that has the best
/// constant baseline: lower where scores are flat, higher where they are peaked. For warming a selector up on relevance
/// labels.
///
/// `rankings` [draws × K] must come from the selector with these `scores` [queries × documents]. `relevance` r [queries
/// × documents], finite, those of impossible documents included; `position_weights` θ [1 × K], any sign. A draw that is
/// not a ranking of possible documents counts in the mean as 0. Throws shape_error, option_error if K is not 1 to n or
/// query_count is negative.
/// Queues one program: O(n exp + K log) a draw.
template <backend B, viewable<B> M, viewable<B> R, viewable<B> W, class T>
void pl_rank_3_gradient(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                        const R& relevance, const W& position_weights, matrix_view<T> gradient,
                        index_t query_count = 0) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  const matrix_view<const T> r = detail::view_of(b, relevance);
  const matrix_view<const T> weights = detail::view_of(b, position_weights);
  require_shape(s, groups.queries(), s.cols, "pl_rank_3_gradient: scores");
  require_shape(rankings, groups.total(), rankings.cols, "pl_rank_3_gradient: rankings");
  require_shape(r, s.rows, s.cols, "pl_rank_3_gradient: relevance");
  require_shape(weights, 1, rankings.cols, "pl_rank_3_gradient: position_weights");
  require_shape(gradient, s.rows, s.cols, "pl_rank_3_gradient: gradient");
  require_drawable({1, rankings.cols}, s.cols);
  const index_t divisor = detail::batch_divisor(query_count, s.rows, "pl_rank_3_gradient");
  b.run(s.rows,
        detail::pl_rank_3_program<T>{s, rankings, r, weights, gradient, groups, T(1) / static_cast<T>(divisor)});
}

}  // namespace dro

#endif
