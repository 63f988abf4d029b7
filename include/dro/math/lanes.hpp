// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MATH_LANES_HPP
#define DRO_MATH_LANES_HPP

/// \file
/// The same number of several draws side by side, so that what one thread does to all of them becomes vector code.

#include <cstddef>
#include <cstdint>

#include <dro/config.hpp>

namespace dro::math {

/// One T for each of `Lanes` draws. Trivially copyable; indexed 0 … Lanes − 1. With one lane it is a T.
template <class T, index_t Lanes>
struct lanes {
  T lane[static_cast<std::size_t>(Lanes)];

  DRO_HOST_DEVICE constexpr T& operator[](index_t l) { return lane[l]; }
  DRO_HOST_DEVICE constexpr const T& operator[](index_t l) const { return lane[l]; }
};

namespace detail {

#if !defined(__CUDACC__)
/// A vector type of g++ and clang, for what they do not make vector code of by themselves. Not passed by value: how it
/// is depends on the compiler's flags.
template <class T, index_t Lanes>
struct vector_of {
  using type [[gnu::vector_size(static_cast<std::size_t>(Lanes) * sizeof(T))]] = T;
};
#endif

}  // namespace detail

/// x += by if value ≥ from. A device adds under a condition: it would otherwise choose what to add.
template <class T>
DRO_HOST_DEVICE void add_if_reached(std::uint32_t& x, T value, T from, std::uint32_t by) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == sizeof(std::uint32_t)) {
    asm("{ .reg .pred p; setp.ge.u32 p, %1, %2; @p add.u32 %0, %0, %3; }" : "+r"(x) : "r"(value), "r"(from), "r"(by));
    return;
  }
#endif
  x += value >= from ? by : 0;
}

/// x[l] += by[l] where x[l] ≥ from[l].
template <class T, index_t Lanes>
DRO_HOST_DEVICE void add_where_reached(lanes<T, Lanes>& x, const lanes<T, Lanes>& from, const lanes<T, Lanes>& by) {
#if !defined(__CUDACC__)
  if constexpr (Lanes > 1) {
    typename detail::vector_of<T, Lanes>::type value, bound, term;
    __builtin_memcpy(&value, &x, sizeof(x));
    __builtin_memcpy(&bound, &from, sizeof(x));
    __builtin_memcpy(&term, &by, sizeof(x));
    value += value >= bound ? term : term - term;
    __builtin_memcpy(&x, &value, sizeof(x));
    return;
  }
#endif
  for (index_t l = 0; l < Lanes; ++l) {
    if constexpr (sizeof(T) == sizeof(std::uint32_t)) {
      add_if_reached(x[l], x[l], from[l], by[l]);
    } else {
      x[l] += x[l] >= from[l] ? by[l] : T(0);
    }
  }
}

/// How many of the first n of `limits` are no larger than x[l].
template <class T, index_t Lanes>
[[nodiscard]] DRO_HOST_DEVICE lanes<T, Lanes> count_reached(const T* limits, index_t n, const lanes<T, Lanes>& x) {
  lanes<T, Lanes> count = {};
#if !defined(__CUDACC__)
  if constexpr (Lanes > 1) {
    typename detail::vector_of<T, Lanes>::type value;
    __builtin_memcpy(&value, &x, sizeof(x));
    const auto nothing = value - value;
    auto sum = nothing;
    for (index_t i = 0; i < n; ++i) sum += limits[i] <= value ? nothing + 1 : nothing;
    __builtin_memcpy(&count, &sum, sizeof(x));
    return count;
  }
#endif
  for (index_t i = 0; i < n; ++i) {
    for (index_t l = 0; l < Lanes; ++l) count[l] += limits[i] <= x[l] ? T(1) : T(0);
  }
  return count;
}

}  // namespace dro::math

#endif
