// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_LOG_Q_ERROR_HPP
#define DRO_TESTS_SUPPORT_LOG_Q_ERROR_HPP

/// \file
/// The error of the log-probability that comes with a drawn ranking.

#include <algorithm>
#include <cmath>
#include <vector>

#include <dro/config.hpp>

#include "support/check.hpp"

namespace test {

/// How far log q of a draw of `select` documents may be from the exact one, u the unit roundoff of T, D the largest
/// |score| of a possible document, L = 4 D + log n no less than any difference of scores and logarithms of sums:
///
/// - By logarithms, or floating-point masses: K 2u (1 + n/2 + L + (K + 1)/2 L), as tests/reproducibility derives it.
/// - By integer masses (float): own and left are made of differences off by 2 D u each, which K 2u L covers. A mass is
///   off by 2^-26; the picked one has 25 bits, of which the cut takes one at most: 2^-25. The sum of what is left, 2^26
///   units at least, lacks less than a unit for each of the t masses taken before and for itself: (t + 1) 2^-26. Hence
///   per pick 2^-26 (1 + 2 + 1), and K (K + 1)/2 · 2^-26 in all for the units. A pick rounds four times (both numbers
///   to T, both products): K 4u. The logarithm of what the products of significands come to, at most 33 ln 2 < 23, the
///   exponents' ln 2, no larger than |log q| + 23, and the sum are off by no more than 4 u (K L + 23).
template <class T>
real log_q_error(const std::vector<T>& scores, dro::index_t select) {
  real largest = 0;
  for (const T s : scores) {
    if (s > -infinity<T>) largest = std::max(largest, std::abs(static_cast<real>(s)));
  }
  const auto n = static_cast<real>(scores.size());
  const auto k = static_cast<real>(select);
  const auto u = static_cast<real>(unit_roundoff<T>);
  const real term = 4 * largest + std::log(n);
  const real floating = k * 2 * u * (1 + n / 2 + term + (k + 1) / 2 * term);
  if (sizeof(T) > sizeof(float)) return floating;
  return floating + k * (4 + (k + 1) / 2) * 0x1p-26L + k * 4 * u + 4 * u * (k * term + 23);
}

}  // namespace test

#endif
