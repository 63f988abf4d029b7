// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_IMPORTANCE_WEIGHTS_HPP
#define DRO_ESTIMATE_IMPORTANCE_WEIGHTS_HPP

/// \file
/// Self-normalised importance weights of draws, and what they say of the step.

#include <cstdint>
#include <limits>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>

namespace dro {

/// Weights of m draws a query and their diagnostics. Weights have the shape of the log-likelihoods they came from; the
/// rest is [queries × 1]. A query whose status is not ok has weights 0, effective_sample_size 0, largest_weight 0,
/// entropy 0; its log_evidence and elbo are −inf if it is impossible, else NaN.
template <backend B, class T>
struct importance_weights_result {
  matrix_t<B, T> normalised;             ///< w̄_i = w_i / Σ_j w_j
  matrix_t<B, T> log_evidence;           ///< log (1/m) Σ w_i, nats: consistent for log p(y|x), biased low by Jensen
  matrix_t<B, T> elbo;                   ///< (1/m) Σ log w_i, nats: unbiased for the bound E_q[log p(y,z|x) − log q]
  matrix_t<B, T> effective_sample_size;  ///< 1 / Σ w̄², in [1, m] (Kong 1992)
  matrix_t<B, T> largest_weight;         ///< max w̄, in [1/m, 1]
  matrix_t<B, T> entropy;                ///< −Σ w̄ log w̄, nats, in [0, log m]
  matrix_t<B, std::int32_t> status;      ///< dro::status of each query
};

namespace detail {

template <class T>
struct importance_weights_program {
  scored_draws<T> scores;
  grouped_view<T> normalised;
  matrix_view<T> log_evidence, elbo, effective_sample_size, largest_weight, entropy;
  matrix_view<std::int32_t> status_of;

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const index_t m = scores.size(q);
    const T largest = team.max(m, -infinity, [&](index_t i) { return scores.log_weight(q, i); });
    // NaN is the only value that is unequal to itself, and max() passes over it.
    const index_t nans = team.template sum<index_t>(m, [&](index_t i) {
      const T value = scores.log_weight(q, i);
      return static_cast<index_t>(value != value);
    });
    status state = status::ok;
    if (m == 0) {
      state = status::degenerate;
    } else if (nans > 0) {
      state = status::not_a_number;
    } else if (largest == infinity) {
      state = status::unbounded;
    } else if (largest == -infinity) {
      state = status::impossible;
    }
    if (state != status::ok) {
      team.for_each(m, [&](index_t i) { normalised(q, i) = T(0); });
      if (team.rank() == 0) {
        const T evidence = state == status::impossible ? -infinity : std::numeric_limits<T>::quiet_NaN();
        write_row(q, evidence, evidence, T(0), T(0), T(0), state);
      }
      return;
    }
    const T sum = team.template sum<T>(m, [&](index_t i) { return math::exp(scores.log_weight(q, i) - largest); });
    const T log_sum = math::log(sum);
    const T inverse = T(1) / sum;
    team.for_each(m, [&](index_t i) { normalised(q, i) = math::exp(scores.log_weight(q, i) - largest) * inverse; });
    team.barrier();
    const T squares = team.template sum<T>(m, [&](index_t i) { return normalised(q, i) * normalised(q, i); });
    // −Σ w̄ log w̄ = log Σ e^δ − Σ w̄ δ with δ = log w − largest; a weight of 0 adds nothing.
    const T mean_offset = team.template sum<T>(m, [&](index_t i) {
      const T offset = scores.log_weight(q, i) - largest;
      return offset > -infinity ? normalised(q, i) * offset : T(0);
    });
    const T mean = team.template sum<T>(m, [&](index_t i) { return scores.log_weight(q, i) - largest; }) / T(m);
    const T spread = log_sum - mean_offset;
    if (team.rank() == 0) {
      write_row(q, largest + (log_sum - math::log(T(m))), largest + mean, T(1) / squares, inverse,
                spread > T(0) ? spread : T(0), state);
    }
  }

  DRO_HOST_DEVICE void write_row(index_t q, T evidence, T bound, T ess, T heaviest, T spread, status state) const {
    log_evidence(q, 0) = evidence;
    elbo(q, 0) = bound;
    effective_sample_size(q, 0) = ess;
    largest_weight(q, 0) = heaviest;
    entropy(q, 0) = spread;
    status_of(q, 0) = static_cast<std::int32_t>(state);
  }
};

}  // namespace detail

/// Self-normalised importance weights, w_i = p(z_i|x) p(y|x,d_{z_i}) / q(z_i), all in log space: shifting every
/// log-likelihood of a query by a constant changes no weight. A sample of log-weight −inf has weight 0; if all have, or
/// if one is NaN or +inf, the query's status says so. Σ w̄ = 1 within m ulp otherwise.
/// Queues one program; two exp a draw. Source: Shi et al. 2025, section 3; Owen 2013, chapter 9.
template <backend B, class T>
[[nodiscard]] importance_weights_result<B, T> importance_weights(B& b, const scored_draws<T>& scores) {
  const index_t queries = scores.groups().queries();
  importance_weights_result<B, T> w{b.template make<T>(scores.rows(), scores.cols()),
                                    b.template make<T>(queries, 1),
                                    b.template make<T>(queries, 1),
                                    b.template make<T>(queries, 1),
                                    b.template make<T>(queries, 1),
                                    b.template make<T>(queries, 1),
                                    b.template make<std::int32_t>(queries, 1)};
  b.run(queries, detail::importance_weights_program<T>{scores,
                                                       {b.view(w.normalised), scores.groups(), "normalised"},
                                                       b.view(w.log_evidence),
                                                       b.view(w.elbo),
                                                       b.view(w.effective_sample_size),
                                                       b.view(w.largest_weight),
                                                       b.view(w.entropy),
                                                       b.view(w.status)});
  return w;
}

}  // namespace dro

#endif
