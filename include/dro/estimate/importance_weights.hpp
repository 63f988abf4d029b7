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
/// rest is [queries × 1]. A query that is not used (see dro::status) has weights 0, effective_sample_size 0,
/// largest_weight 0, entropy 0; its log_evidence and elbo are −inf if it is impossible, else NaN. Where draws have
/// multiplicities n_i, m = Σ n_i and every sum is over equal draws: n_i w_i stands for w_i in it.
template <backend B, class T>
struct importance_weights_result {
  matrix_t<B, T> normalised;             ///< w̄_i = n_i w_i / Σ_j n_j w_j
  matrix_t<B, T> log_evidence;           ///< log (1/m) Σ w_i, nats: consistent for log p(y|x), biased low by Jensen
  matrix_t<B, T> elbo;                   ///< (1/m) Σ log w_i, nats: unbiased for the bound E_q[log p(y,z|x) − log q]
  matrix_t<B, T> effective_sample_size;  ///< 1 / Σ w̄², in [1, m] (Kong 1992)
  matrix_t<B, T> largest_weight;         ///< max w̄ of a single draw, in [1/m, 1]
  matrix_t<B, T> entropy;                ///< −Σ w̄ log w̄, nats, in [0, log m]
  matrix_t<B, std::int32_t> status;      ///< dro::status of each query
};

namespace detail {

/// Where the weights of one query and what they say are written.
template <class T>
struct weight_outputs {
  grouped_view<T> normalised;
  matrix_view<T> log_evidence, elbo, effective_sample_size, largest_weight, entropy;
  matrix_view<std::int32_t> status_of;

  /// Weights of query q from log_weight(i), i in [0, size), where draw i counts count(i) times.
  template <class Team, class LogWeight, class Count>
  DRO_HOST_DEVICE void write(Team& team, index_t q, index_t size, bool covers, LogWeight&& log_weight,
                             Count&& count) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    // A draw that counts for nothing must not spoil anything either.
    const auto value = [&](index_t i) { return count(i) > T(0) ? log_weight(i) : -infinity; };
    const T m = team.template sum<T>(size, count);
    const T largest = team.max(size, -infinity, value);
    // NaN is the only value that is unequal to itself, and max() passes over it.
    const index_t nans = team.template sum<index_t>(size, [&](index_t i) {
      const T v = value(i);
      const T n = count(i);
      return static_cast<index_t>(v != v || !(n >= T(0)) || n == infinity);  // no number of draws, or no number
    });
    status state = covers ? status::ok : status::support;
    if (nans > 0) {
      state = status::not_a_number;
    } else if (!(m > T(0))) {
      state = status::degenerate;
    } else if (largest == infinity) {
      state = status::unbounded;
    } else if (largest == -infinity) {
      state = status::impossible;
    }
    if (!is_used(state)) {
      team.for_each(size, [&](index_t i) { normalised(q, i) = T(0); });
      if (team.rank() == 0) {
        const T evidence = state == status::impossible ? -infinity : std::numeric_limits<T>::quiet_NaN();
        write_row(q, evidence, evidence, T(0), T(0), T(0), state);
      }
      return;
    }
    team.for_each(size, [&](index_t i) { normalised(q, i) = count(i) * math::exp(value(i) - largest); });
    team.barrier();
    const T sum = team.template sum<T>(size, [&](index_t i) { return normalised(q, i); });
    const T log_sum = math::log(sum);
    const T inverse = T(1) / sum;
    team.for_each(size, [&](index_t i) { normalised(q, i) *= inverse; });
    team.barrier();
    // Sums over equal draws: n (w̄/n)², and (w̄/n) log (w̄/n) n times.
    const T squares = team.template sum<T>(size, [&](index_t i) {
      const T n = count(i);
      return n > T(0) ? normalised(q, i) * normalised(q, i) / n : T(0);
    });
    // −Σ w̄ log w̄ = log Σ e^δ − Σ w̄ δ with δ = log w − largest; a weight of 0 adds nothing.
    const T mean_offset = team.template sum<T>(size, [&](index_t i) {
      const T offset = value(i) - largest;
      return offset > -infinity ? normalised(q, i) * offset : T(0);
    });
    const T mean = team.template sum<T>(size, [&](index_t i) {
      const T n = count(i);
      return n > T(0) ? n * (log_weight(i) - largest) : T(0);
    }) / m;
    const T spread = log_sum - mean_offset;
    if (team.rank() == 0) {
      write_row(q, largest + (log_sum - math::log(m)), largest + mean, T(1) / squares, inverse,
                spread > T(0) ? spread : T(0), state);
    }
  }

 private:
  DRO_HOST_DEVICE void write_row(index_t q, T evidence, T bound, T ess, T heaviest, T spread, status state) const {
    log_evidence(q, 0) = evidence;
    elbo(q, 0) = bound;
    effective_sample_size(q, 0) = ess;
    largest_weight(q, 0) = heaviest;
    entropy(q, 0) = spread;
    status_of(q, 0) = static_cast<std::int32_t>(state);
  }
};

template <class T>
struct importance_weights_program {
  scored_draws<T> scores;
  weight_outputs<T> out;

  [[nodiscard]] index_t width() const { return scores.groups().mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const auto write = [&](auto&& count) {
      out.write(
          team, q, scores.size(q), scores.traits().covers, [&](index_t i) { return scores.log_weight(q, i); }, count);
    };
    if (scores.has_multiplicity()) {
      write([&](index_t i) { return scores.count(q, i); });
    } else {
      write([](index_t) { return T(1); });
    }
  }
};

/// Unwritten weights for these draws.
template <backend B, class T>
[[nodiscard]] importance_weights_result<B, T> make_weights(B& b, const scored_draws<T>& scores) {
  const index_t queries = scores.groups().queries();
  const auto row = [&] { return b.template make<T>(queries, 1); };
  return {b.template make<T>(scores.rows(), scores.cols()), row(), row(), row(), row(), row(),
          b.template make<std::int32_t>(queries, 1)};
}

template <backend B, class T>
[[nodiscard]] weight_outputs<T> outputs_of(B& b, importance_weights_result<B, T>& w, const grouping& groups) {
  return {{b.view(w.normalised), groups, "normalised"},
          b.view(w.log_evidence),
          b.view(w.elbo),
          b.view(w.effective_sample_size),
          b.view(w.largest_weight),
          b.view(w.entropy),
          b.view(w.status)};
}

}  // namespace detail

/// Self-normalised importance weights, w_i = p(z_i|x) p(y|x,d_{z_i}) / q(z_i), all in log space: shifting every
/// log-likelihood of a query by a constant changes no weight. A sample of log-weight −inf has weight 0; if all have, or
/// if one is NaN or +inf, the query's status says so. Σ w̄ = 1 within m ulp otherwise.
/// Queues one program; two exp a draw. Source: Shi et al. 2025, section 3; Owen 2013, chapter 9.
template <backend B, class T>
[[nodiscard]] importance_weights_result<B, T> importance_weights(B& b, const scored_draws<T>& scores) {
  auto w = detail::make_weights<B, T>(b, scores);
  b.run(scores.groups().queries(),
        detail::importance_weights_program<T>{scores, detail::outputs_of(b, w, scores.groups())});
  return w;
}

}  // namespace dro

#endif
