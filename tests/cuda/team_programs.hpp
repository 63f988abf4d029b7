// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_CUDA_TEAM_PROGRAMS_HPP
#define DRO_TESTS_CUDA_TEAM_PROGRAMS_HPP

/// \file
/// Row programs that use one member of a team each, with a width that the test chooses, so that it gets a team of the
/// size it wants.

#include <cstddef>
#include <cstdint>
#include <limits>

#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>

namespace dro::testing {

/// Σ of each row, as the team's first and last thread see it.
template <class T>
struct team_sum_program {
  matrix_view<const T> values;
  matrix_view<T> sums;  // [rows × 2]
  index_t items;
  [[nodiscard]] index_t width() const { return items; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const T sum = team.template sum<T>(values.cols, [&](index_t i) { return values(row, i); });
    if (team.rank() == 0) sums(row, 0) = sum;
    if (team.rank() == team.size() - 1) sums(row, 1) = sum;
  }
};

/// Largest value above `lowest` and where it is, as the first and the last thread see it.
template <class T>
struct team_largest_program {
  matrix_view<const T> values;
  T lowest;
  matrix_view<T> largest;            // [rows × 2]
  matrix_view<std::int32_t> places;  // [rows × 2]
  index_t items;
  [[nodiscard]] index_t width() const { return items; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const auto value = [&](index_t i) { return values(row, i); };
    const T best = team.max(values.cols, lowest, value);
    const auto place = static_cast<std::int32_t>(team.arg_max(values.cols, lowest, value));
    for (index_t end = 0; end < 2; ++end) {
      if (team.rank() != (end == 0 ? 0 : team.size() - 1)) continue;
      largest(row, end) = best;
      places(row, end) = place;
    }
  }
};

template <class T>
struct team_scan_program {
  matrix_view<const T> values;
  matrix_view<T> sums;  // as values
  index_t items;
  [[nodiscard]] index_t width() const { return items; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.template inclusive_scan<T>(
        values.cols, [&](index_t i) { return values(row, i); }, [&](index_t i, T sum) { sums(row, i) = sum; });
  }
};

/// Reverses each row by way of scratch memory, which another thread writes than reads.
struct team_reverse_program {
  matrix_view<const std::int32_t> values;
  matrix_view<std::int32_t> reversed;
  index_t items;
  [[nodiscard]] index_t width() const { return items; }
  [[nodiscard]] std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(values.cols) * sizeof(std::int32_t);
  }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    auto* copy = team.template scratch<std::int32_t>();
    team.for_each(values.cols, [&](index_t i) { copy[i] = values(row, i); });
    team.barrier();
    team.for_each(values.cols, [&](index_t i) { reversed(row, i) = copy[values.cols - 1 - i]; });
  }
};

/// Adds 1 for each visit of an item, and writes the size of the team.
struct team_visits_program {
  matrix_view<std::int32_t> visits;
  matrix_view<std::int32_t> sizes;  // [rows × 1]
  index_t items;
  [[nodiscard]] index_t width() const { return items; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.for_each(visits.cols, [&](index_t i) { visits(row, i) += 1; });
    if (team.rank() == 0) sizes(row, 0) = static_cast<std::int32_t>(team.size());
  }
};

/// Writes to address 0, which ends every GPU context.
struct out_of_bounds_program {
  matrix_view<float> target;

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    if (team.rank() == 0) target(row, 0) = 1;
  }
};

}  // namespace dro::testing

#endif
