// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MATH_BINARY_FORMAT_HPP
#define DRO_MATH_BINARY_FORMAT_HPP

/// \file
/// What exp, log and the noise need to know about IEEE 754 binary32 and binary64, and a bit_cast for host and device.

#include <cstddef>
#include <cstdint>
#include <limits>

#include <dro/config.hpp>

namespace dro::math {

/// The object representation of `x` read as a `To`: std::bit_cast, but callable from device code without nvcc's
/// relaxed-constexpr option.
template <class To, class From>
[[nodiscard]] DRO_HOST_DEVICE constexpr To bit_cast(From x) noexcept {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, x);
}

namespace detail {

/// Layout of an IEEE 754 binary format: `word`, an unsigned integer as wide as T; its width; the number of stored
/// significand bits; the exponent bias; the bit pattern of √½.
template <class T>
struct binary_format;

template <>
struct binary_format<float> {
  using word = std::uint32_t;
  static constexpr int width = 32;
  static constexpr int significand_bits = 23;
  static constexpr word bias = 127;
  static constexpr word sqrt_half = 0x3f3504f3U;
};

template <>
struct binary_format<double> {
  using word = std::uint64_t;
  static constexpr int width = 64;
  static constexpr int significand_bits = 52;
  static constexpr word bias = 1023;
  static constexpr word sqrt_half = 0x3fe6a09e667f3bcdU;
};

static_assert(std::numeric_limits<float>::is_iec559 && std::numeric_limits<double>::is_iec559,
              "dro needs IEEE 754 float and double");

// Selection by masks on the bit patterns. `x < c ? a : b` on floating-point numbers would say the same, but such a
// comparison may trap on NaN, so g++ keeps the branch and the loop around it stays scalar; and baseline x86-64 has no
// 64-bit vector comparison. Subtraction and shift exist everywhere.

/// The bit pattern of `x`.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE constexpr typename binary_format<T>::word bits(T x) noexcept {
  return bit_cast<typename binary_format<T>::word>(x);
}

/// The bit pattern of |x|; these are ordered as 0 < subnormal < normal < inf < NaN.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE constexpr typename binary_format<T>::word magnitude(T x) noexcept {
  return bits(x) & (~typename binary_format<T>::word{0} >> 1U);
}

/// All ones where a < b, else 0. Both must be below half the range of Word, as magnitudes are.
template <class T, class Word = typename binary_format<T>::word>
[[nodiscard]] DRO_HOST_DEVICE constexpr Word less_mask(Word a, Word b) noexcept {
  return Word{0} - ((a - b) >> (binary_format<T>::width - 1));
}

/// All ones where the sign bit of `x` is set, else 0.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE constexpr typename binary_format<T>::word sign_mask(T x) noexcept {
  return typename binary_format<T>::word{0} - (bits(x) >> (binary_format<T>::width - 1));
}

/// `a` where the mask is all ones, `b` where it is 0.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE constexpr T select(typename binary_format<T>::word mask, T a, T b) noexcept {
  return bit_cast<T>((bits(a) & mask) | (bits(b) & ~mask));
}

// Constants at namespace scope, since device code cannot call the functions of std::numeric_limits.
template <class T>
inline constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
inline constexpr T quiet_nan = std::numeric_limits<T>::quiet_NaN();
template <class T>
inline constexpr T smallest_normal = std::numeric_limits<T>::min();

/// ln 2 = ln2_high + ln2_low. The high part has so few bits that its product with any exponent of T is exact, with or
/// without contraction into FMA.
template <class T>
inline constexpr T ln2_high = T(0x1.62e42feep-1);
template <class T>
inline constexpr T ln2_low = T(0x1.a39ef35793c76p-33);
template <>
inline constexpr float ln2_high<float> = 0x1.62e4p-1F;
template <>
inline constexpr float ln2_low<float> = 0x1.7f7d1cp-20F;

/// c[0] + x (c[1] + x (c[2] + …)), from the last coefficient down.
template <class T, std::size_t N>
[[nodiscard]] DRO_HOST_DEVICE constexpr T horner(const T (&c)[N], T x) noexcept {
  T sum = c[N - 1];
  for (std::size_t i = N - 1; i-- > 0;) sum = sum * x + c[i];
  return sum;
}

}  // namespace detail
}  // namespace dro::math

#endif
