// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MATH_LANES_HPP
#define DRO_MATH_LANES_HPP

/// \file
/// The same number of several draws side by side, so that what one thread does to all of them becomes vector code.

#include <cstddef>
#include <cstdint>
#include <type_traits>

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
/// A vector of g++ and clang, for what they do not make vector code of by themselves. Not passed by value: how it is
/// depends on the compiler's flags.
template <class T, index_t Size>
struct vector_of {
  using type [[gnu::vector_size(static_cast<std::size_t>(Size) * sizeof(T))]] = T;
  type value;

  explicit vector_of(const T* from) { __builtin_memcpy(&value, from, sizeof(value)); }
  void store(T* to) const { __builtin_memcpy(to, &value, sizeof(value)); }
};

/// Of the `Lanes` numbers of type T those that a register holds: compilers take larger vectors apart, number by number.
template <class T, index_t Lanes>
inline constexpr index_t register_lanes = [] {
#if defined(__AVX2__)
  constexpr index_t bytes = 32;
#else
  constexpr index_t bytes = 16;
#endif
  constexpr index_t size = bytes / index_t{sizeof(T)};
  return Lanes % size == 0 ? size : Lanes;
}();
#endif

}  // namespace detail

/// Calls f(y, x…) with what a lane holds, for each lane; on the host, if there are several, with vectors of them. `f`
/// is made of operators and of ?: alone; it may change y. All numbers are of one size.
template <class T, index_t Lanes, class F, class... X>
DRO_HOST_DEVICE void for_lanes(lanes<T, Lanes>& y, const F& f, const lanes<X, Lanes>&... x) {
  static_assert(((sizeof(X) == sizeof(T)) && ... && true));
#if !defined(__CUDACC__)
  if constexpr (Lanes > 1) {
    constexpr index_t size = detail::register_lanes<T, Lanes>;
    DRO_UNROLL
    for (index_t l = 0; l < Lanes; l += size) {
      detail::vector_of<T, size> result(&y[l]);
      f(result.value, detail::vector_of<X, size>(&x[l]).value...);
      result.store(&y[l]);
    }
    return;
  }
#endif
  for (index_t l = 0; l < Lanes; ++l) f(y[l], x[l]...);
}

/// y[l] = x[l] as a number of another type.
template <class T, class X, index_t Lanes>
DRO_HOST_DEVICE void convert_lanes(lanes<T, Lanes>& y, const lanes<X, Lanes>& x) {
#if !defined(__CUDACC__)
  if constexpr (Lanes > 1 && sizeof(T) == sizeof(X)) {
    constexpr index_t size = detail::register_lanes<T, Lanes>;
    using vector = detail::vector_of<T, size>;
    DRO_UNROLL
    for (index_t l = 0; l < Lanes; l += size) {
      const auto converted = __builtin_convertvector(detail::vector_of<X, size>(&x[l]).value, typename vector::type);
      __builtin_memcpy(&y[l], &converted, sizeof(converted));
    }
    return;
  }
#endif
  for (index_t l = 0; l < Lanes; ++l) y[l] = static_cast<T>(x[l]);
}

/// y[l] = the lesser one of x[l] and y[l], neither of which is NaN.
template <class T, index_t Lanes>
DRO_HOST_DEVICE void take_lesser(lanes<T, Lanes>& y, const lanes<T, Lanes>& x) {
#if defined(__CUDA_ARCH__)
  for (index_t l = 0; l < Lanes; ++l) y[l] = ::min(x[l], y[l]);  // one instruction
#else
  for_lanes(
      y, [](auto& least, const auto& next) { least = next < least ? next : least; }, x);
#endif
}

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
  if constexpr (Lanes == 1 && sizeof(T) == sizeof(std::uint32_t)) {
    add_if_reached(x[0], x[0], from[0], by[0]);
  } else {
    for_lanes(
        x, [](auto& sum, const auto& bound, const auto& term) { sum += sum >= bound ? term : term - term; }, from, by);
  }
}

/// How many of the first n of `limits` are no larger than x[l].
template <class T, index_t Lanes>
[[nodiscard]] DRO_HOST_DEVICE lanes<T, Lanes> count_reached(const T* limits, index_t n, const lanes<T, Lanes>& x) {
  lanes<T, Lanes> count = {};
#if !defined(__CUDACC__)
  if constexpr (Lanes > 1) {
    constexpr index_t size = detail::register_lanes<T, Lanes>;
    DRO_UNROLL
    for (index_t l = 0; l < Lanes; l += size) {
      const detail::vector_of<T, size> value(&x[l]);
      detail::vector_of<T, size> sum(&count[l]);
      const auto nothing = sum.value;
      for (index_t i = 0; i < n; ++i) sum.value += limits[i] <= value.value ? nothing + 1 : nothing;
      sum.store(&count[l]);
    }
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
