// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_CHECK_HPP
#define DRO_TESTS_SUPPORT_CHECK_HPP

/// \file
/// Comparison of numbers, with infinities equal to themselves.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <doctest/doctest.h>

namespace test {

/// The number type of reference values.
using real = long double;

template <class T>
inline constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
inline constexpr T nan = std::numeric_limits<T>::quiet_NaN();

/// Half the distance from 1 to the next number: the largest relative error of one rounding.
template <class T>
inline constexpr T unit_roundoff = std::numeric_limits<T>::epsilon() / 2;

/// |value − expected| ≤ tolerance, or both are the same infinity. NaN is near nothing.
inline bool near(real value, real expected, real tolerance) {
  return value == expected || std::abs(value - expected) <= tolerance;
}

/// The largest of |v|.
template <class Values>
real largest_magnitude(const Values& values) {
  real largest = 0;
  for (const auto v : values) largest = std::max<real>(largest, std::abs(static_cast<real>(v)));
  return largest;
}

/// Checks that `value` is near `expected` and says where, what and by how much if it is not. A function of its own, and
/// no template, since typed tests expand it hundreds of times.
inline void check_near(real value, real expected, real tolerance, const char* what, const char* file, int line) {
  const bool is_near = near(value, expected, tolerance);
  CHECK_MESSAGE(is_near, std::string(file), ":", line, ": ", std::string(what), " is ", value, ", expected ", expected,
                " ± ", tolerance, ", off by ", std::abs(value - expected));
}

}  // namespace test

/// Checks |value − expected| ≤ tolerance.
#define DRO_CHECK_NEAR(value, expected, tolerance)                                    \
  test::check_near(static_cast<test::real>(value), static_cast<test::real>(expected), \
                   static_cast<test::real>(tolerance), #value, __FILE__, __LINE__)

#endif
