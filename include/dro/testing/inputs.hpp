// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTING_INPUTS_HPP
#define DRO_TESTING_INPUTS_HPP

/// \file
/// Inputs of the conformance suite: fixed numbers that float holds exactly, so that float and double see the same.

#include <cstdint>
#include <limits>

#include <dro/backend/host.hpp>
#include <dro/config.hpp>
#include <dro/random/philox.hpp>

namespace dro::testing {

template <class T>
inline constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
inline constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

/// [rows × cols] multiples of (high − low)/4096 in [low, high), made by Philox from `seed`: exact in float, and so are
/// sums and differences of a few of them, where low and high are whole numbers below 64.
template <class T>
[[nodiscard]] host_matrix<T> numbers(index_t rows, index_t cols, double low, double high, std::uint32_t seed) {
  host_matrix<T> m(rows, cols);
  for (index_t i = 0; i < rows * cols; ++i) {
    const auto number = static_cast<std::uint32_t>(i);
    const std::uint32_t word = philox({{number / 4, 0, 0, 0}}, {{seed, 0x636f6e66U}})[number % 4];
    m.data()[i] = static_cast<T>(low + (high - low) * static_cast<double>(word >> 20U) / 4096.0);
  }
  return m;
}

/// Sizes of one problem.
struct problem {
  index_t queries, samples, documents, select;
};

/// One query and one sample; one sample; K = 1; K = n; more documents than a warp has lanes; and a team's worth of
/// everything.
inline constexpr problem problems[] = {{1, 1, 1, 1},   {1, 1, 5, 5},   {3, 4, 20, 1},
                                       {2, 16, 33, 5}, {2, 3, 20, 20}, {1, 8, 100, 10}};

/// Scores in [−4, 4), [queries × documents].
template <class T>
[[nodiscard]] host_matrix<T> scores_of(const problem& p) {
  return numbers<T>(p.queries, p.documents, -4, 4, 101);
}

}  // namespace dro::testing

#endif
