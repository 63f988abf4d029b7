// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_TOTALS_HPP
#define DRO_EM_TOTALS_HPP

/// \file
/// Sums of the diagnostics over the queries of many steps, kept in the backend's memory and read once.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/estimate/diagnostics.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/gradient_noise.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// Means over the queries that took part in the step (NaN if none did), and how many queries had which status. What was
/// not added (see step_totals) is NaN, or counted as 0. Of the raw weights, apart from `calibrated`.
struct step_summary {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

  double evidence = 0;               ///< mean of log (1/m) Σ w, nats
  double elbo = 0;                   ///< mean of (1/m) Σ log w, nats; −inf if a sample had weight 0
  double effective_sample_size = 0;  ///< mean
  double largest_weight = 0;         ///< mean of max w̄
  double entropy = 0;                ///< mean, nats
  double weight_variance = 0;        ///< mean over queries of the variance of m w̄, that is χ² = m / ESS − 1
  std::array<std::int64_t, status_count> queries{};  ///< by status

  std::int64_t without_gradient = 0;  ///< queries whose coefficients the M-step set to 0, for whatever reason

  double samples = unknown;          ///< mean of m
  double effective_share = unknown;  ///< Σ ESS / Σ m over all queries
  double standard_error = unknown;   ///< mean of a query's standard error of log (1/m) Σ w, where estimable, nats
  double evidence_error = unknown;   ///< that of `evidence`, of sampling alone; NaN unless all are estimable, nats
  double distinct_share = unknown;   ///< different rankings over draws, Σ distinct / Σ m
  double hit_share = unknown;        ///< mean share of draws that hit, over the queries where it is known
  std::int64_t hits_known = 0;       ///< queries where it is known; those in which nothing is possible, too
  std::int64_t no_hit = 0;           ///< of these, queries of which no draw hits
  std::int64_t all_hit = 0;          ///< of these, queries of which every draw hits
  double kept_mass = unknown;        ///< mean share of the selector's mass that its proposal can draw
  std::int64_t tails_fitted = 0;     ///< queries whose Pareto k̂ was estimable
  std::int64_t tails_heavy = 0;      ///< of these, those with k̂ above the threshold
  double calibrated_sample_size = unknown;  ///< mean effective sample size of the weights as they were used
  double calibrated_variance = unknown;     ///< mean χ² of the weights as they were used
  gradient_noise_summary gradient;          ///< of the selector's gradient

  /// Queries of this status.
  [[nodiscard]] std::int64_t count(status s) const { return queries[static_cast<std::size_t>(s)]; }
  /// Queries that took part in the step.
  [[nodiscard]] std::int64_t used() const { return count(status::ok) + count(status::support); }
  /// Queries whose coefficients were 0 because of numerical trouble.
  [[nodiscard]] std::int64_t flagged() const { return all() - used(); }
  /// Queries of any status.
  [[nodiscard]] std::int64_t all() const {
    std::int64_t sum = 0;
    for (const std::int64_t n : queries) sum += n;
    return sum;
  }
};

namespace detail {

/// Columns of the sums. Each comes with the number of queries behind it where that is not the number of those used.
namespace total {
enum column : index_t {
  evidence,
  elbo,
  effective,
  largest,
  entropy,
  variance,
  samples,
  error,
  squared_error,
  error_known,
  distinct,
  drawn,
  hit_share,
  hits_known,
  no_hit,
  all_hit,
  kept,
  kept_known,
  tails_fitted,
  tails_heavy,
  calibrated_effective,
  calibrated_variance,
  calibrated_known,
  without_gradient,
  gradient,
  statuses = gradient + gradient_noise_columns,
  columns = statuses + status_count
};
}  // namespace total

/// Adds values of queries to the sums.
template <class Team>
struct total_adder {
  Team& team;
  matrix_view<double> totals;  // [1 × total::columns]
  index_t queries;

  template <class F>
  DRO_HOST_DEVICE void operator()(index_t column, F&& value) const {
    const double sum = team.template sum<double>(queries, [&](index_t q) { return static_cast<double>(value(q)); });
    if (team.rank() == 0) totals(0, column) += sum;
  }
};

[[nodiscard]] DRO_HOST_DEVICE inline bool is_used_query(const matrix_view<const std::int32_t>& status_of, index_t q) {
  return is_used(static_cast<status>(status_of(q, 0)));
}

template <class T>
struct add_totals_program {
  matrix_view<const T> evidence, elbo, ess, largest, entropy;
  matrix_view<const T> samples, chi_square, error;  // no data: every draw counts once, and no errors
  matrix_view<const std::int32_t> status_of;
  matrix_view<double> totals;
  grouping groups;

  [[nodiscard]] index_t width() const { return groups.queries(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const total_adder<Team> add{team, totals, groups.queries()};
    const auto of_used = [&](const auto& value) {
      return [&](index_t q) { return is_used_query(status_of, q) ? static_cast<double>(value(q)) : 0.0; };
    };
    const auto column = [&](const matrix_view<const T>& view) {
      return [&](index_t q) { return is_used_query(status_of, q) ? static_cast<double>(view(q, 0)) : 0.0; };
    };
    const auto m = [&](index_t q) {
      return samples.data == nullptr ? static_cast<double>(groups.size(q)) : static_cast<double>(samples(q, 0));
    };
    add(total::evidence, column(evidence));
    add(total::elbo, column(elbo));
    add(total::effective, column(ess));
    add(total::largest, column(largest));
    add(total::entropy, column(entropy));
    add(total::samples, of_used(m));
    if (chi_square.data == nullptr) {
      add(total::variance, of_used([&](index_t q) { return m(q) / static_cast<double>(ess(q, 0)) - 1.0; }));
    } else {
      add(total::variance, column(chi_square));
      const auto known = [&](index_t q) { return error(q, 0) == error(q, 0); };
      const auto se = [&](index_t q) { return known(q) ? static_cast<double>(error(q, 0)) : 0.0; };
      add(total::error, se);
      add(total::squared_error, [&](index_t q) { return se(q) * se(q); });
      add(total::error_known, [&](index_t q) { return known(q) ? 1.0 : 0.0; });
    }
    for (int s = 0; s < status_count; ++s) {
      add(total::statuses + s, [&](index_t q) { return status_of(q, 0) == s ? 1.0 : 0.0; });
    }
  }
};

template <class T>
struct add_draws_program {
  matrix_view<const T> distinct, hit_share, kept, samples;
  matrix_view<const std::int32_t> status_of;
  matrix_view<double> totals;

  [[nodiscard]] index_t width() const { return distinct.rows; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const total_adder<Team> add{team, totals, distinct.rows};
    const auto used = [&](index_t q) { return is_used_query(status_of, q); };
    add(total::distinct, [&](index_t q) { return used(q) ? distinct(q, 0) : T(0); });
    add(total::drawn, [&](index_t q) { return used(q) ? samples(q, 0) : T(0); });
    const auto known = [&](index_t q) { return hit_share(q, 0) == hit_share(q, 0); };
    add(total::hit_share, [&](index_t q) { return known(q) ? hit_share(q, 0) : T(0); });
    add(total::hits_known, [&](index_t q) { return known(q) ? 1 : 0; });
    add(total::no_hit, [&](index_t q) { return hit_share(q, 0) == T(0) ? 1 : 0; });
    add(total::all_hit, [&](index_t q) { return hit_share(q, 0) == T(1) ? 1 : 0; });
    const auto has_kept = [&](index_t q) { return used(q) && kept(q, 0) == kept(q, 0); };
    add(total::kept, [&](index_t q) { return has_kept(q) ? kept(q, 0) : T(0); });
    add(total::kept_known, [&](index_t q) { return has_kept(q) ? 1 : 0; });
  }
};

template <class T>
struct add_calibrated_program {
  matrix_view<const T> ess, chi_square;
  matrix_view<const std::int32_t> status_of;
  matrix_view<double> totals;

  [[nodiscard]] index_t width() const { return ess.rows; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const total_adder<Team> add{team, totals, ess.rows};
    const auto used = [&](index_t q) { return is_used_query(status_of, q); };
    add(total::calibrated_effective, [&](index_t q) { return used(q) ? ess(q, 0) : T(0); });
    add(total::calibrated_variance, [&](index_t q) { return used(q) ? chi_square(q, 0) : T(0); });
    add(total::calibrated_known, [&](index_t q) { return used(q) ? 1 : 0; });
  }
};

struct add_statuses_program {
  matrix_view<const std::int32_t> status_of;
  matrix_view<double> totals;

  [[nodiscard]] index_t width() const { return status_of.rows; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const total_adder<Team> add{team, totals, status_of.rows};
    add(total::without_gradient, [&](index_t q) { return is_used_query(status_of, q) ? 0 : 1; });
  }
};

template <class T>
struct add_tails_program {
  matrix_view<const T> shapes;
  matrix_view<double> totals;
  double threshold;

  [[nodiscard]] index_t width() const { return shapes.rows; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const total_adder<Team> add{team, totals, shapes.rows};
    add(total::tails_fitted, [&](index_t q) { return shapes(q, 0) == shapes(q, 0) ? 1 : 0; });
    add(total::tails_heavy, [&](index_t q) { return static_cast<double>(shapes(q, 0)) > threshold ? 1 : 0; });
  }
};

}  // namespace detail

/// Adds up the diagnostics of E-steps without reading them. Add each E-step once, by either `add`; the rest as needed.
template <backend B>
class step_totals {
 public:
  explicit step_totals(B& b) : totals_(make_filled<double>(b, 1, detail::total::columns, 0.0)) {}

  /// Adds the raw weights of one E-step. `statuses` [queries × 1] are those of the weights or of the coefficients;
  /// every draw counts once. Throws shape_error. Queues one program.
  template <class T>
  void add(B& b, const importance_weights_result<B, T>& weights, const matrix_t<B, std::int32_t>& statuses,
           const grouping& groups) {
    add_weights(b, weights, statuses, groups, nullptr);
  }

  /// Adds all that one E-step says: its raw `weights`, and `z`, the draws behind `scores` and them. With `hits`, that
  /// tells queries no sample of which contains the answer from those where all do. Throws as diagnose_weights and
  /// diagnose_draws do. Queues four programs; O(m² K) a query.
  template <class T>
  void add(B& b, const draws<B, T>& z, const scored_draws<T>& scores, const importance_weights_result<B, T>& weights,
           const hit_rule<T>& hits = {}) {
    const B& view = b;
    const auto of_weights = diagnose_weights(b, scores, weights);
    const auto of_draws = diagnose_draws(b, z, scores, hits);
    add_weights(b, weights, weights.status, scores.groups(), &of_weights);
    b.run(1, detail::add_draws_program<T>{view.view(of_draws.distinct), view.view(of_draws.hit_share),
                                          view.view(of_draws.kept_mass), view.view(of_weights.samples),
                                          view.view(weights.status), b.view(totals_)});
  }

  /// Adds the weights of an E-step as they were used, after calibration. Throws shape_error. Queues two programs.
  template <class T>
  void add_calibrated(B& b, const scored_draws<T>& scores, const importance_weights_result<B, T>& used) {
    const B& view = b;
    const auto of_weights = diagnose_weights(b, scores, used);
    b.run(1, detail::add_calibrated_program<T>{view.view(used.effective_sample_size), view.view(of_weights.chi_square),
                                               view.view(used.status), b.view(totals_)});
  }

  /// Counts the queries without a gradient, by the status of the coefficients of an M-step, [queries × 1]: weights can
  /// be fine where an objective has nothing to say. Queues one program.
  void add_coefficients(B& b, const matrix_t<B, std::int32_t>& statuses) {
    b.run(1, detail::add_statuses_program{std::as_const(b).view(statuses), b.view(totals_)});
  }

  /// Counts Pareto shapes k̂, [queries × 1], NaN where not estimable, and those above `threshold`: for m draws,
  /// pareto_shape_threshold(m). Throws shape_error. Queues one program.
  template <class T>
  void add_tails(B& b, matrix_view<const T> shapes, double threshold) {
    require_shape(shapes, shapes.rows, 1, "step_totals: shapes");
    b.run(1, detail::add_tails_program<T>{shapes, b.view(totals_), threshold});
  }

  /// The sums to which accumulate_gradient_noise adds.
  [[nodiscard]] matrix_view<double> gradient_noise_sums(B& b) {
    matrix_view<double> part = b.view(totals_);
    part.data += detail::total::gradient * part.col_stride;
    part.cols = detail::gradient_noise_columns;
    return part;
  }

  /// Reads the means, waits, and starts again from 0.
  [[nodiscard]] step_summary take(B& b) {
    namespace total = detail::total;
    const host_matrix<double> sums = read(b, totals_);
    fill(b, b.view(totals_), 0.0);
    const auto sum = [&](index_t column) { return sums(0, column); };
    const auto whole = [&](index_t column) { return static_cast<std::int64_t>(sums(0, column)); };
    step_summary s;
    for (int k = 0; k < status_count; ++k) s.queries[static_cast<std::size_t>(k)] = whole(total::statuses + k);
    const auto n = static_cast<double>(s.used());
    // 0 / 0 where no query was used, or nothing was added: there is no mean.
    s.evidence = sum(total::evidence) / n;
    s.elbo = sum(total::elbo) / n;
    s.effective_sample_size = sum(total::effective) / n;
    s.largest_weight = sum(total::largest) / n;
    s.entropy = sum(total::entropy) / n;
    s.weight_variance = sum(total::variance) / n;
    s.without_gradient = whole(total::without_gradient);
    s.samples = sum(total::samples) / n;
    s.effective_share = sum(total::effective) / sum(total::samples);
    s.standard_error = sum(total::error) / sum(total::error_known);
    if (sum(total::error_known) == n) s.evidence_error = std::sqrt(sum(total::squared_error)) / n;
    s.distinct_share = sum(total::distinct) / sum(total::drawn);
    s.hit_share = sum(total::hit_share) / sum(total::hits_known);
    s.hits_known = whole(total::hits_known);
    s.no_hit = whole(total::no_hit);
    s.all_hit = whole(total::all_hit);
    s.kept_mass = sum(total::kept) / sum(total::kept_known);
    s.tails_fitted = whole(total::tails_fitted);
    s.tails_heavy = whole(total::tails_heavy);
    s.calibrated_sample_size = sum(total::calibrated_effective) / sum(total::calibrated_known);
    s.calibrated_variance = sum(total::calibrated_variance) / sum(total::calibrated_known);
    s.gradient = gradient_noise_summary::of(&sums(0, total::gradient));
    return s;
  }

  /// The sums themselves, for a checkpoint.
  [[nodiscard]] matrix_t<B, double>& matrix() { return totals_; }

 private:
  template <class T>
  void add_weights(B& b, const importance_weights_result<B, T>& weights, const matrix_t<B, std::int32_t>& statuses,
                   const grouping& groups, const weight_diagnostics<B, std::type_identity_t<T>>* more) {
    const B& view = b;
    for (const auto* m : {&weights.log_evidence, &weights.elbo, &weights.effective_sample_size, &weights.largest_weight,
                          &weights.entropy}) {
      require_shape(view.view(*m), groups.queries(), 1, "step_totals: weights");
    }
    require_shape(view.view(statuses), groups.queries(), 1, "step_totals: statuses");
    using column = matrix_view<const T>;
    b.run(1, detail::add_totals_program<T>{
                 view.view(weights.log_evidence), view.view(weights.elbo), view.view(weights.effective_sample_size),
                 view.view(weights.largest_weight), view.view(weights.entropy),
                 more ? view.view(more->samples) : column{}, more ? view.view(more->chi_square) : column{},
                 more ? view.view(more->standard_error) : column{}, view.view(statuses), b.view(totals_), groups});
  }

  matrix_t<B, double> totals_;
};

}  // namespace dro

#endif
