// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_SCORE_NORMS_HPP
#define DRO_GRADIENT_SCORE_NORMS_HPP

/// \file
/// Lengths of the score function of Plackett–Luce draws, and the baseline they make possible.
///
/// The constant b that minimises the variance of (x − b) ∇ log p(z) is not the mean of x but E[x ‖∇ log p‖²] / E‖∇ log
/// p‖² (Greensmith, Bartlett & Baxter 2004, section 4): draws that move the scores far count more.

#include <cstddef>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/math/exp.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

namespace detail {

/// Calls f(j, copies) for each draw of the query that is independent of draw i: those of other blocks, and, where draw
/// i stands for several equal draws, all of these but one.
template <class T, class F>
DRO_HOST_DEVICE void for_each_other(const query_draws<T>& draws, index_t i, F&& f) {
  const index_t block = draws.block();
  for (index_t j = 0; j < draws.size(); ++j) {
    const T copies = j == i && block == 1 ? draws.count(j) - T(1) : (j / block == i / block ? T(0) : draws.count(j));
    if (copies > T(0)) f(j, copies);
  }
}

template <class T>
struct score_norms_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<T> norms;
  grouping groups;

  // L [K + 1], carried ones [K], membership flags [n].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(2 * rankings.cols + 1) * sizeof(T) +
           static_cast<std::size_t>(scores.cols) * sizeof(document_t);
  }

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    const index_t select = rankings.cols;
    T* log_mass = team.template scratch<T>();
    T* carried = log_mass + select + 1;
    auto* chosen = team.template scratch<document_t>(static_cast<std::size_t>(2 * select + 1) * sizeof(T));
    for (index_t i = 0; i < groups.size(query); ++i) {
      const index_t draw = groups.begin(query) + i;
      T norm = T(0);
      if (select > 0 && mark_possible(team, scores, query, rankings, draw, chosen)) {
        log_masses_left(team, scores, query, rankings, draw, chosen, log_mass);
        team.for_each(select, [&](index_t t) { carried[t] = T(1); });
        team.barrier();
        if (team.rank() == 0) carry_forward(log_mass, carried, select);
        team.barrier();
        const T picked = team.template sum<T>(select, [&](index_t t) {
          const T slope = T(1) - math::exp(scores(query, rankings(draw, t)) - log_mass[t]) * carried[t];
          return slope * slope;
        });
        const T others = team.template sum<T>(n, [&](index_t j) {
          const T slope =
              chosen[j] != 0 ? T(0) : math::exp(scores(query, j) - log_mass[select - 1]) * carried[select - 1];
          return slope * slope;
        });
        norm = picked + others;
      }
      if (team.rank() == 0) norms(draw, 0) = norm;
      team.barrier();
    }
  }
};

}  // namespace detail

/// x_i − b_i for a baseline b_i that minimises the variance of Σ_i (ρ_i/m) (x_i − b_i) s_i, as far as the other draws
/// can tell:
///
///     b_i = Σ_{j≠i} u_j x_j / Σ_{j≠i} u_j,   u_j = ρ_j ((1 − λ) ρ_j v_j + λ a_i),   a_i = mean of ρ_j v_j over j ≠ i,
///
/// with v_j = `norm`(j) the squared length of whatever the advantage multiplies, ρ_j = `ratio`(j) (any common factor
/// drops out), x_j = `value`(j) and λ = `shrinkage`. λ = 0 is the plug-in of E[ρ² x v] / E[ρ² v], λ = 1 the
/// self-normalised leave-one-out mean Σ ρ_j x_j / Σ ρ_j, between them the plug-in's noise is damped. Whatever λ, b_i is
/// a function of draws that are independent of draw i (see query_draws: not of its block), so the gradient keeps its
/// mean under any proposal that covers the selector; and it is an average, so that a constant added to every x drops
/// out before it can cancel. Where all u_j are 0, b_i is the plain mean of the others. Needs another independent draw
/// (else NaN). One thread; O(m) for one i.
template <class T, class Value, class Ratio, class Norm>
[[nodiscard]] DRO_HOST_DEVICE T variance_minimising_advantage(const query_draws<T>& draws, index_t i,
                                                              const Value& value, const Ratio& ratio, const Norm& norm,
                                                              T shrinkage) {
  T others = T(0);
  T length = T(0);
  detail::for_each_other(draws, i, [&](index_t j, T copies) {
    others += copies;
    length += copies * ratio(j) * norm(j);
  });
  const T pull = shrinkage * (length / others);
  const T own = value(i);
  T total = T(0);
  T weighted = T(0);
  T plain = T(0);
  detail::for_each_other(draws, i, [&](index_t j, T copies) {
    const T weight = copies * ratio(j) * ((T(1) - shrinkage) * ratio(j) * norm(j) + pull);
    const T gain = own - value(j);
    total += weight;
    weighted += weight * gain;
    plain += copies * gain;
  });
  return total > T(0) ? weighted / total : plain / others;
}

/// Writes ‖∂ log p(z)/∂ s‖² of each ranking to `norms` [draws × 1]: the squared Euclidean length of the gradient that
/// accumulate_plackett_luce_gradient adds for coefficient 1. `scores` [queries × documents], `rankings` [draws × K]. 0
/// for what is not a ranking or holds an impossible document (no coefficient of it is ever used); NaN if a score is.
/// Throws shape_error. Queues one program: O(n exp + K log) a draw.
template <backend B, viewable<B> M, class T>
void plackett_luce_score_norms(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                               matrix_view<T> norms) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  require_shape(s, groups.queries(), s.cols, "plackett_luce_score_norms: scores");
  require_shape(rankings, groups.total(), rankings.cols, "plackett_luce_score_norms: rankings");
  require_shape(norms, groups.total(), 1, "plackett_luce_score_norms: norms");
  b.run(s.rows, detail::score_norms_program<T>{s, rankings, norms, groups});
}

}  // namespace dro

#endif
