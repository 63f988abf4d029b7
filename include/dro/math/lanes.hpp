// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MATH_LANES_HPP
#define DRO_MATH_LANES_HPP

/// \file
/// The same number of several draws side by side, so that what one thread does to all of them becomes vector code.

#include <cstddef>

#include <dro/config.hpp>

namespace dro::math {

/// One T for each of `Lanes` draws. Trivially copyable; indexed 0 … Lanes − 1. With one lane it is a T.
template <class T, index_t Lanes>
struct lanes {
  T lane[static_cast<std::size_t>(Lanes)];

  DRO_HOST_DEVICE constexpr T& operator[](index_t l) { return lane[l]; }
  DRO_HOST_DEVICE constexpr const T& operator[](index_t l) const { return lane[l]; }
};

}  // namespace dro::math

#endif
