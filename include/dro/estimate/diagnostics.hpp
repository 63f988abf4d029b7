// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_DIAGNOSTICS_HPP
#define DRO_ESTIMATE_DIAGNOSTICS_HPP

/// \file
/// What the weights and the draws of each query say of a step, beyond what importance_weights_result holds.
///
/// Two questions, two calls. `diagnose_weights` tells how far the weights can be trusted: call it for the raw weights
/// first, and for the calibrated ones to see what is used. `diagnose_draws` tells what the weights cannot: where no
/// sample contains the answer, all weights are equal and the effective sample size is m, as where all are equally good.

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/math/exp.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// What one set of weights says, [queries × 1] each; NaN for a query that is not used, but for `samples`. Where draws
/// have multiplicities n_i, sums are over equal draws, as in importance_weights_result.
template <backend B, class T>
struct weight_diagnostics {
  matrix_t<B, T> samples;  ///< m = Σ n_i
  /// Standard error of log_evidence, nats; NaN where it cannot be estimated (a single independent block of draws).
  matrix_t<B, T> standard_error;
  matrix_t<B, T> chi_square;  ///< m/ESS − 1, in [0, m − 1]: the χ² divergence of the posterior from q, and Var(m w̄)
  matrix_t<B, T> perplexity;  ///< e^entropy of w̄, in [1, m]: how many draws the weights are spread over
};

namespace detail {

template <class T>
struct weight_diagnostics_program {
  scored_draws<T> scores;
  grouped_view<const T> weights;
  matrix_view<const T> entropy;
  matrix_view<const std::int32_t> status_of;
  matrix_view<T> samples, standard_error, chi_square, perplexity;

  [[nodiscard]] index_t width() const { return scores.groups().mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const index_t size = scores.size(q);
    const T m = team.template sum<T>(size, [&](index_t i) { return scores.count(q, i); });
    const bool used = is_used(static_cast<status>(status_of(q, 0)));
    // m Σ n (w̄/n − 1/m)² = m/ESS − 1, without the difference that cancels for weights that are almost equal.
    const T spread = team.template sum<T>(size, [&](index_t i) {
      const T n = scores.count(q, i);
      const T excess = n > T(0) ? weights(q, i) / n - T(1) / m : T(0);
      return n * excess * excess;
    });
    const T between = blocks_spread(team, q, size, m, spread);
    if (team.rank() == 0) {
      constexpr T unknown = std::numeric_limits<T>::quiet_NaN();
      samples(q, 0) = m;
      standard_error(q, 0) = used ? std::sqrt(between) : unknown;
      chi_square(q, 0) = used ? m * spread : unknown;
      perplexity(q, 0) = used ? math::exp(entropy(q, 0)) : unknown;
    }
  }

  /// Squared standard error: N/(N − 1) Σ (W_k − m_k/m)² over the N independent blocks, with W_k the weight and m_k the
  /// draws of block k. NaN for one block.
  template <class Team>
  DRO_HOST_DEVICE T blocks_spread(Team& team, index_t q, index_t size, T m, T spread) const {
    const index_t block = scores.traits().block;
    if (block == 1) return m > T(1) ? spread * m / (m - T(1)) : std::numeric_limits<T>::quiet_NaN();
    const index_t blocks = (size + block - 1) / block;
    if (blocks < 2) return std::numeric_limits<T>::quiet_NaN();
    const T sum = team.template sum<T>(blocks, [&](index_t k) {
      T excess = T(0);
      for (index_t i = k * block; i < size && i < (k + 1) * block; ++i) {
        excess += weights(q, i) - scores.count(q, i) / m;
      }
      return excess * excess;
    });
    const T n = static_cast<T>(blocks);
    return sum * n / (n - T(1));
  }
};

}  // namespace detail

/// Diagnostics of `weights`, those of `scores` raw or calibrated. Of calibrated weights they describe what is used: the
/// standard error does not see the bias that calibration brought.
///
/// The standard error is that of log (1/m) Σ w by the delta method (Owen 2013, chapter 9): the relative error of the
/// mean weight, for independent draws
///
///     se² = s²/(m μ²) = (m/ESS − 1)/(m − 1),   s² = Σ (w_i − μ)²/(m − 1),   μ = (1/m) Σ w_i,
///
/// and with the sums of blocks in place of the draws where draws come in blocks of dependent ones. It lies in [0, 1]:
/// one weight far above all others gives 1, and says only that the truth is not known to better than a nat. Throws
/// shape_error. Queues one program; O(m) a query.
template <backend B, class T>
[[nodiscard]] weight_diagnostics<B, T> diagnose_weights(B& b, const scored_draws<T>& scores,
                                                        const importance_weights_result<B, T>& weights) {
  const B& view = b;
  const grouping& groups = scores.groups();
  const index_t queries = groups.queries();
  require_shape(view.view(weights.status), queries, 1, "diagnose_weights: status of the weights");
  require_shape(view.view(weights.entropy), queries, 1, "diagnose_weights: entropy");
  const auto row = [&] { return b.template make<T>(queries, 1); };
  weight_diagnostics<B, T> d{row(), row(), row(), row()};
  b.run(queries, detail::weight_diagnostics_program<T>{scores,
                                                       {view.view(weights.normalised), groups, "weights"},
                                                       view.view(weights.entropy),
                                                       view.view(weights.status),
                                                       b.view(d.samples),
                                                       b.view(d.standard_error),
                                                       b.view(d.chi_square),
                                                       b.view(d.perplexity)});
  return d;
}

/// What makes a draw a hit, that is, says that its documents contain what the answer needs. Give one of `stated`,
/// `floor` and `threshold`; with none, nobody knows which draws hit, and nothing is guessed.
///
/// Likelihoods alone cannot tell: equal ones may be equally good or equally bad. They can be compared with what the
/// generator says without useful documents, or a model that knows better (an extractive reader that found the answer
/// among its candidates, an annotation) can state it.
template <class T>
struct hit_rule {
  /// One value for each draw, flat or a table: not 0 for a hit. Whatever else the draw's numbers are.
  matrix_view<const std::int32_t> stated = {};
  /// [queries × 1], nats: the log-likelihood of the answer with no documents, or with the worst. A draw hits if its own
  /// is above floor + gain. A floor of −inf is passed by every possible answer; NaN makes the query unknown.
  matrix_view<const T> floor = {};
  double gain = 0.6931471805599453;  ///< nats; by default the documents have to make the answer twice as likely
  /// Nats, the same for all queries, instead of a floor: a draw hits if its log-likelihood is above. For generators
  /// whose likelihoods have a known scale (a reader that spreads its mass evenly over what it cannot tell apart).
  double threshold = std::numeric_limits<double>::quiet_NaN();

  [[nodiscard]] bool has_stated() const { return stated.data != nullptr; }
  [[nodiscard]] bool has_floor() const { return floor.data != nullptr; }
  [[nodiscard]] bool has_threshold() const { return threshold == threshold; }
};

/// What the draws say whatever their weights, [queries × 1] each.
template <backend B, class T>
struct draw_diagnostics {
  matrix_t<B, T> distinct;   ///< different rankings among the draws; draws of multiplicity 0 are not there
  matrix_t<B, T> hit_share;  ///< of the m draws, those that hit, in [0, 1]; NaN: unknown
  matrix_t<B, T> kept_mass;  ///< share of the selector's mass that its proposal can draw; 1: all, NaN: unknown
};

namespace detail {

template <class T>
struct draw_diagnostics_program {
  scored_draws<T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<const T> log_kept;  // no data: not recorded
  grouped_view<const std::int32_t> stated;
  hit_rule<T> hits;
  matrix_view<T> distinct, hit_share, kept_mass;

  [[nodiscard]] index_t width() const { return scores.groups().mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const index_t size = scores.size(q);
    const index_t first = scores.groups().begin(q);
    const auto count = [&](index_t i) { return scores.count(q, i); };
    const T m = team.template sum<T>(size, count);
    const index_t different = team.template sum<index_t>(
        size, [&](index_t i) { return static_cast<index_t>(count(i) > T(0) && is_new(q, first, i)); });
    const T hit = m > T(0) ? hits_of(team, q, size) / m : std::numeric_limits<T>::quiet_NaN();
    T kept = scores.traits().covers ? T(1) : std::numeric_limits<T>::quiet_NaN();
    if (log_kept.data != nullptr) {
      kept = team.template sum<T>(size, [&](index_t i) {
        return count(i) > T(0) ? count(i) * math::exp(log_kept(first + i, 0)) : T(0);
      }) / m;
    }
    if (team.rank() == 0) {
      distinct(q, 0) = static_cast<T>(different);
      hit_share(q, 0) = hit;
      kept_mass(q, 0) = kept;
    }
  }

  /// Whether no earlier draw that counts has the ranking of draw i.
  DRO_HOST_DEVICE bool is_new(index_t q, index_t first, index_t i) const {
    for (index_t j = 0; j < i; ++j) {
      if (!(scores.count(q, j) > T(0))) continue;
      bool equal = true;
      for (index_t t = 0; equal && t < rankings.cols; ++t) equal = rankings(first + i, t) == rankings(first + j, t);
      if (equal) return false;
    }
    return true;
  }

  /// How many draws hit; NaN if that cannot be known.
  template <class Team>
  DRO_HOST_DEVICE T hits_of(Team& team, index_t q, index_t size) const {
    constexpr T unknown = std::numeric_limits<T>::quiet_NaN();
    const T bound =
        hits.floor.data != nullptr ? hits.floor(q, 0) + static_cast<T>(hits.gain) : static_cast<T>(hits.threshold);
    if (!stated && bound != bound) return unknown;
    return team.template sum<T>(size, [&](index_t i) {
      const T n = scores.count(q, i);
      if (!(n > T(0))) return T(0);
      if (stated) return stated(q, i) != 0 ? n : T(0);
      const T likelihood = scores.log_likelihood(q, i);
      if (likelihood != likelihood) return unknown;
      return likelihood > bound ? n : T(0);
    });
  }
};

}  // namespace detail

/// Diagnostics of the draws `z` behind `scores`. A query none of whose samples is possible has a hit share as any
/// other: 0, unless `hits.stated` says otherwise. The hit share is that of the draws as they were made; of another
/// proposal's draws it is not the selector's own.
///
/// kept_mass: where draws carry log_kept, the mean of e^log_kept over the draws, which is unbiased for the selector's
/// mass on the rankings that the truncated proposal can draw, since q = p/kept on them: Σ q kept = Σ p.
///
/// Throws option_error if more than one hit rule is given or `gain` is not finite, shape_error. Queues one program;
/// O(m² K) a query, for the comparison of rankings.
template <backend B, class T>
[[nodiscard]] draw_diagnostics<B, T> diagnose_draws(B& b, const draws<B, T>& z, const scored_draws<T>& scores,
                                                    const hit_rule<T>& hits = {}) {
  const B& view = b;
  const grouping& groups = scores.groups();
  const index_t queries = groups.queries();
  const int rules = int{hits.has_stated()} + int{hits.has_floor()} + int{hits.has_threshold()};
  if (rules > 1) {
    throw option_error("hit_rule: " + std::to_string(rules) + " of stated, floor and threshold, expected at most one");
  }
  if (!(hits.gain - hits.gain == 0)) {
    throw option_error("hit_rule: gain is " + std::to_string(hits.gain) + " nats, expected a finite number");
  }
  require_shape(view.view(z.rankings()), groups.total(), z.select(), "diagnose_draws: rankings");
  if (hits.has_floor()) require_shape(hits.floor, queries, 1, "hit_rule: floor");
  grouped_view<const std::int32_t> stated;
  if (hits.has_stated()) stated = {hits.stated, groups, "hit_rule: stated"};
  const matrix_view<const T> log_kept = z.has_log_kept() ? view.view(z.log_kept()) : matrix_view<const T>{};
  const auto row = [&] { return b.template make<T>(queries, 1); };
  draw_diagnostics<B, T> d{row(), row(), row()};
  b.run(queries, detail::draw_diagnostics_program<T>{scores, view.view(z.rankings()), log_kept, stated, hits,
                                                     b.view(d.distinct), b.view(d.hit_share), b.view(d.kept_mass)});
  return d;
}

}  // namespace dro

#endif
