// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_PACKED_DRAWS_HPP
#define DRO_ESTIMATE_PACKED_DRAWS_HPP

/// \file
/// Scored draws in the scratch memory of a row program: read once, and then one after the other wherever they came
/// from.

#include <dro/backend/grouping.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/estimate/scored_draws.hpp>

namespace dro::detail {

/// Rows of a grouped_view whose queries have equally many values: each one product away from the first.
template <class T>
class even_rows {
 public:
  even_rows() = default;
  /// Rows 0 and 1 say where all are.
  even_rows(const row_view<T>& first, const row_view<T>& second) : first_(first), step_(second.data - first.data) {}

  [[nodiscard]] DRO_HOST_DEVICE row_view<T> row(index_t q) const { return {first_.data + q * step_, first_.stride}; }
  [[nodiscard]] DRO_HOST_DEVICE bool is_dense() const { return first_.stride == 1; }

 private:
  row_view<T> first_;
  index_t step_ = 0;
};

/// Those of `values`, which has a query at least. On the host.
template <class T>
[[nodiscard]] even_rows<T> even_rows_of(const grouped_view<T>& values) {
  return {values.row(0), values.row(values.groups().queries() > 1 ? 1 : 0)};
}

/// Scored draws that can be packed: independent ones that count once, equally many of each query and few enough. What
/// scored_draws finds row by row is looked at once, on the host.
template <class T>
class packed_draws {
 public:
  explicit packed_draws(const scored_draws<T>& scores) {
    constexpr index_t most = 256;
    const grouping& groups = scores.groups();
    if (!groups.is_uniform() || groups.total() == 0 || groups.per_query() > most || scores.traits().block != 1) return;
    const scored_row<T> first = scores.row(0);
    if (first.multiplicities || first.log_ratios) return;
    const scored_row<T> second = scores.row(groups.queries() > 1 ? 1 : 0);
    size_ = groups.per_query();
    log_likelihoods_ = {first.log_likelihoods, second.log_likelihoods};
    if (!first.log_selectors) return;
    form_ = row_form::ratios;
    log_selectors_ = {first.log_selectors, second.log_selectors};
    log_proposals_ =
        first.log_proposals ? even_rows<const T>{first.log_proposals, second.log_proposals} : log_selectors_;
  }

  /// Draws of each query; 0 if they cannot be packed.
  [[nodiscard]] DRO_HOST_DEVICE index_t size() const { return size_; }
  /// Once they are packed.
  [[nodiscard]] DRO_HOST_DEVICE row_form form() const { return form_; }
  /// Whether each row lies in consecutive memory as it is.
  [[nodiscard]] DRO_HOST_DEVICE bool is_dense() const {
    return log_likelihoods_.is_dense() &&
           (form_ == row_form::likelihoods || (log_selectors_.is_dense() && log_proposals_.is_dense()));
  }

  /// Calls take(i, log ρ, log p(y|x,d_z)) for each draw i of query q.
  template <row_form Form, class Team, class Take>
  DRO_HOST_DEVICE void read(Team& team, index_t q, const Take& take) const {
    if constexpr (Form == row_form::likelihoods) {
      read_rows(
          team, size_, [&](index_t i, T likelihood) { take(i, T(0), likelihood); }, log_likelihoods_.row(q));
    } else {
      read_rows(
          team, size_,
          [&](index_t i, T likelihood, T selector, T proposal) {
            take(i, log_quotient(selector, proposal), likelihood);
          },
          log_likelihoods_.row(q), log_selectors_.row(q), log_proposals_.row(q));
    }
  }

 private:
  index_t size_ = 0;
  row_form form_ = row_form::likelihoods;
  even_rows<const T> log_likelihoods_, log_selectors_, log_proposals_;
};

}  // namespace dro::detail

#endif
