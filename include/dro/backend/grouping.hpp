// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_GROUPING_HPP
#define DRO_BACKEND_GROUPING_HPP

/// \file
/// How a flat list of draws is split over queries, and how a row program walks the draws of one query.

#include <cstdint>
#include <limits>
#include <string>

#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// Says which of `total` consecutive draws belong to which query. Uniform: each query has `per_query` of them. Ragged:
/// query q has the draws offsets(q, 0) to offsets(q + 1, 0) − 1; the column `offsets` lies in the backend's memory and
/// outlives the grouping. Trivially copyable.
class grouping {
 public:
  constexpr grouping() = default;

  /// Every query has `samples` draws.
  [[nodiscard]] static grouping uniform(index_t queries, index_t samples) {
    if (queries < 0 || samples < 0 || (samples > 0 && queries > std::numeric_limits<index_t>::max() / samples)) {
      throw shape_error("grouping: " + std::to_string(queries) + " queries of " + std::to_string(samples) + " samples");
    }
    grouping g;
    g.queries_ = queries;
    g.total_ = queries * samples;
    g.per_query_ = samples;
    return g;
  }

  /// Query q has offsets(q + 1, 0) − offsets(q, 0) draws; `offsets` [queries + 1 × 1] ascends from 0 to `total`, which
  /// is not checked: it may not be known on the host.
  [[nodiscard]] static grouping ragged(const matrix_view<const std::int32_t>& offsets, index_t total) {
    if (offsets.data == nullptr || offsets.rows < 1 || offsets.cols != 1 || total < 0) {
      throw shape_error("grouping: ragged by offsets " + detail::shape_text(offsets.rows, offsets.cols) + " over " +
                        std::to_string(total) + " draws, expected one column of queries + 1");
    }
    grouping g;
    g.queries_ = offsets.rows - 1;
    g.total_ = total;
    g.offsets_ = offsets.data;
    g.offsets_stride_ = offsets.row_stride;
    return g;
  }

  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t queries() const { return queries_; }
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t total() const { return total_; }
  [[nodiscard]] DRO_HOST_DEVICE constexpr bool is_uniform() const { return offsets_ == nullptr; }
  /// Draws of every query; only for uniform groupings.
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t per_query() const { return per_query_; }
  /// Draws of a query on average, rounded up; 0 without queries.
  [[nodiscard]] constexpr index_t mean_size() const { return queries_ > 0 ? (total_ + queries_ - 1) / queries_ : 0; }
  /// Of a ragged grouping, [queries + 1 × 1] in the backend's memory; of a uniform one, a view of nothing.
  [[nodiscard]] constexpr matrix_view<const std::int32_t> offsets() const {
    if (is_uniform()) return {};
    return {offsets_, queries_ + 1, 1, offsets_stride_, 1};
  }
  /// Number of the first draw of query `q`.
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t begin(index_t q) const {
    return offsets_ == nullptr ? q * per_query_ : offsets_[q * offsets_stride_];
  }
  /// Number of draws of query `q`.
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t size(index_t q) const {
    return offsets_ == nullptr ? per_query_ : begin(q + 1) - begin(q);
  }

 private:
  index_t queries_ = 0;
  index_t total_ = 0;
  index_t per_query_ = 0;  // of a uniform grouping
  const std::int32_t* offsets_ = nullptr;
  index_t offsets_stride_ = 0;
};

/// One value for each draw of one query: `values[i]` is that of the i-th draw.
template <class T>
struct row_view {
  T* data = nullptr;
  index_t stride = 1;

  [[nodiscard]] DRO_HOST_DEVICE constexpr T& operator[](index_t i) const { return data[i * stride]; }
  /// False for a view of nothing.
  [[nodiscard]] DRO_HOST_DEVICE constexpr explicit operator bool() const { return data != nullptr; }
};

/// One value for each draw, seen query by query: `values(q, i)` is the value of the i-th draw of query q. The matrix
/// behind it is either flat, [total × 1], or, for a uniform grouping, a table [queries × per_query].
template <class T>
class grouped_view {
 public:
  constexpr grouped_view() = default;

  /// Throws shape_error unless `view` has one of the two shapes; `what` names the argument in the message.
  grouped_view(const matrix_view<T>& view, const grouping& groups, const char* what)
      : data_(view.data), groups_(groups) {
    if (view.rows == groups.total() && view.cols == 1) {
      sample_stride_ = view.row_stride;
    } else if (groups.is_uniform() && view.rows == groups.queries() && view.cols == groups.per_query()) {
      query_stride_ = view.row_stride;
      sample_stride_ = view.col_stride;
      table_ = true;
    } else {
      throw shape_error(std::string(what) + " is " + detail::shape_text(view.rows, view.cols) + ", expected " +
                        detail::shape_text(groups.total(), 1) +
                        (groups.is_uniform() ? " or " + detail::shape_text(groups.queries(), groups.per_query()) : ""));
    }
  }

  [[nodiscard]] DRO_HOST_DEVICE constexpr T& operator()(index_t q, index_t i) const {
    return data_[first(q) + i * sample_stride_];
  }
  /// Those of query q: what a loop over its draws takes once; of a view of nothing, a view of nothing.
  [[nodiscard]] DRO_HOST_DEVICE constexpr row_view<T> row(index_t q) const {
    return {data_ == nullptr ? data_ : data_ + first(q), sample_stride_};
  }
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t size(index_t q) const { return groups_.size(q); }
  [[nodiscard]] constexpr const grouping& groups() const { return groups_; }
  /// False for a view of nothing (an optional input that was not given).
  [[nodiscard]] DRO_HOST_DEVICE constexpr explicit operator bool() const { return data_ != nullptr; }

 private:
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t first(index_t q) const {
    return table_ ? q * query_stride_ : groups_.begin(q) * sample_stride_;
  }

  T* data_ = nullptr;
  grouping groups_;
  index_t query_stride_ = 0;
  index_t sample_stride_ = 0;
  bool table_ = false;
};

/// Throws shape_error unless `view` holds values for as many draws of as many queries as `groups` has.
template <class T>
void require_groups(const grouped_view<T>& view, const grouping& groups, const char* what) {
  const bool is_there = static_cast<bool>(view) || groups.total() == 0;
  if (!is_there || view.groups().total() != groups.total() || view.groups().queries() != groups.queries()) {
    throw shape_error(std::string(what) + " is for " + std::to_string(view.groups().total()) + " draws of " +
                      std::to_string(view.groups().queries()) + " queries, expected " + std::to_string(groups.total()) +
                      " of " + std::to_string(groups.queries()));
  }
}

namespace detail {

/// By what the gradient of `queries` queries is divided: `query_count`, all of the batch that they are a part of, or if
/// that is 0 themselves. Throws option_error if it is negative.
[[nodiscard]] inline index_t batch_divisor(index_t query_count, index_t queries, const char* what) {
  if (query_count < 0) {
    throw option_error(std::string(what) + ": query_count is " + std::to_string(query_count) + ", expected 0 or more");
  }
  return query_count > 0 ? query_count : (queries > 0 ? queries : 1);
}

}  // namespace detail

}  // namespace dro

#endif
