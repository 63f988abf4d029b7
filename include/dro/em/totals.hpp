// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_TOTALS_HPP
#define DRO_EM_TOTALS_HPP

/// \file
/// Sums of the diagnostics over the queries of many steps, kept in the backend's memory and read once.

#include <array>
#include <cstddef>
#include <cstdint>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/status.hpp>

namespace dro {

/// Means over the queries that took part in the step (NaN if none did), and how many queries had which status.
struct step_summary {
  double evidence = 0;               ///< mean of log (1/m) Σ w, nats
  double elbo = 0;                   ///< mean of (1/m) Σ log w, nats; −inf if a sample had weight 0
  double effective_sample_size = 0;  ///< mean
  double largest_weight = 0;         ///< mean of max w̄
  double entropy = 0;                ///< mean, nats
  double weight_variance = 0;        ///< mean over queries of the variance of m w̄, that is m / ESS − 1
  std::array<std::int64_t, status_count> queries{};  ///< by status

  /// Queries of this status.
  [[nodiscard]] std::int64_t count(status s) const { return queries[static_cast<std::size_t>(s)]; }
  /// Queries that took part in the step.
  [[nodiscard]] std::int64_t used() const { return count(status::ok) + count(status::support); }
  /// Queries whose coefficients were 0 because of numerical trouble.
  [[nodiscard]] std::int64_t flagged() const {
    std::int64_t sum = 0;
    for (const std::int64_t n : queries) sum += n;
    return sum - used();
  }
};

namespace detail {

inline constexpr index_t summed_values = 6;

template <class T>
struct add_totals_program {
  matrix_view<const T> evidence, elbo, ess, largest, entropy;
  matrix_view<const std::int32_t> status_of;
  matrix_view<double> totals;  // [1 × summed_values + status_count]
  grouping groups;

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const auto is = [&](index_t q, status s) { return status_of(q, 0) == static_cast<std::int32_t>(s); };
    const auto add = [&](index_t where, auto&& value) {
      const double sum = team.template sum<double>(groups.queries(), [&](index_t q) {
        return is_used(static_cast<status>(status_of(q, 0))) ? static_cast<double>(value(q)) : 0.0;
      });
      if (team.rank() == 0) totals(0, where) += sum;
    };
    add(0, [&](index_t q) { return evidence(q, 0); });
    add(1, [&](index_t q) { return elbo(q, 0); });
    add(2, [&](index_t q) { return ess(q, 0); });
    add(3, [&](index_t q) { return largest(q, 0); });
    add(4, [&](index_t q) { return entropy(q, 0); });
    add(5, [&](index_t q) { return static_cast<double>(groups.size(q)) / ess(q, 0) - 1.0; });
    for (int s = 0; s < status_count; ++s) {
      const double count = team.template sum<double>(
          groups.queries(), [&](index_t q) { return is(q, static_cast<status>(s)) ? 1.0 : 0.0; });
      if (team.rank() == 0) totals(0, summed_values + s) += count;
    }
  }
};

}  // namespace detail

/// Adds up the diagnostics of E-steps without reading them.
template <backend B>
class step_totals {
 public:
  explicit step_totals(B& b) : totals_(make_filled<double>(b, 1, detail::summed_values + status_count, 0.0)) {}

  /// Adds one E-step. `statuses` [queries × 1] are those of the weights or of the coefficients. Throws shape_error.
  /// Queues one program.
  template <class T>
  void add(B& b, const importance_weights_result<B, T>& weights, const matrix_t<B, std::int32_t>& statuses,
           const grouping& groups) {
    const B& const_b = b;
    require_shape(const_b.view(weights.log_evidence), groups.queries(), 1, "step_totals: weights");
    require_shape(const_b.view(statuses), groups.queries(), 1, "step_totals: statuses");
    b.run(1, detail::add_totals_program<T>{const_b.view(weights.log_evidence), const_b.view(weights.elbo),
                                           const_b.view(weights.effective_sample_size),
                                           const_b.view(weights.largest_weight), const_b.view(weights.entropy),
                                           const_b.view(statuses), b.view(totals_), groups});
  }

  /// Reads the means, waits, and starts again from 0.
  [[nodiscard]] step_summary take(B& b) {
    const host_matrix<double> sums = read(b, totals_);
    fill(b, b.view(totals_), 0.0);
    step_summary s;
    for (int k = 0; k < status_count; ++k) {
      s.queries[static_cast<std::size_t>(k)] = static_cast<std::int64_t>(sums(0, detail::summed_values + k));
    }
    const auto n = static_cast<double>(s.used());
    // 0 / 0 where no query was used: there is no mean.
    s.evidence = sums(0, 0) / n;
    s.elbo = sums(0, 1) / n;
    s.effective_sample_size = sums(0, 2) / n;
    s.largest_weight = sums(0, 3) / n;
    s.entropy = sums(0, 4) / n;
    s.weight_variance = sums(0, 5) / n;
    return s;
  }

  /// The sums themselves, for a checkpoint.
  [[nodiscard]] matrix_t<B, double>& matrix() { return totals_; }

 private:
  matrix_t<B, double> totals_;
};

}  // namespace dro

#endif
