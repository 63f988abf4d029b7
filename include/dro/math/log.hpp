// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MATH_LOG_HPP
#define DRO_MATH_LOG_HPP

/// \file
/// Natural logarithms without branches and without tables: a loop over them becomes vector code at plain -O3.

#include <concepts>

#include <dro/config.hpp>
#include <dro/math/binary_format.hpp>
#include <dro/math/quotient.hpp>

namespace dro::math {
namespace detail {

/// With s = f / (2 + f) and z = s²: log(1 + f) = 2 artanh(s) = 2 s + s R(z), for √½ ≤ 1 + f ≤ √2. Minimax coefficients
/// of R(z) / z by Remez' algorithm; the error of R is below 2^-29 (float) and 2^-58 (double), relative to 2.
template <class T>
struct log_polynomial;

template <>
struct log_polynomial<float> {
  static DRO_HOST_DEVICE float r(float z) noexcept {
    constexpr float c[] = {0x1.55557ap-1F, 0x1.995eb6p-2F, 0x1.31e34cp-2F};
    return z * horner(c, z);
  }
};

template <>
struct log_polynomial<double> {
  static DRO_HOST_DEVICE double r(double z) noexcept {
    constexpr double c[] = {0x1.5555555555592p-1, 0x1.999999997fd77p-2, 0x1.24924941f4f9ap-2, 0x1.c71c5206090c9p-3,
                            0x1.74663fa1fa5f3p-3, 0x1.39a1a6faa1df0p-3, 0x1.2f06346bb211dp-3};
    return z * horner(c, z);
  }
};

/// A positive normal number as 2^exponent · significand with √½ ≤ significand < √2.
template <class T>
struct scaled {
  T exponent;
  T significand;
};

/// Splits a positive normal x. The exponent becomes a T by placing it in the low bits of 2^significand_bits: baseline
/// x86-64 and AVX2 have no vector conversion from 64-bit integers to double.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE inline scaled<T> split(T x) noexcept {
  using format = binary_format<T>;
  using word = typename format::word;
  constexpr int width = format::significand_bits;
  constexpr word one = format::bias << width;
  constexpr T anchor = T(word{1} << width);
  const word w = bits(x) + (one - format::sqrt_half);
  const T exponent = bit_cast<T>((w >> width) | bits(anchor)) - (anchor + T(format::bias));
  return {exponent, bit_cast<T>((w & ((word{1} << width) - 1)) + format::sqrt_half)};
}

/// exponent · ln 2 + log(1 + f) + correction, smallest terms first; s = f / (2 + f).
template <class T>
[[nodiscard]] DRO_HOST_DEVICE inline T assemble_log(T exponent, T f, T s, T correction) noexcept {
  const T half_square = T(0.5) * f * f;
  const T tail = s * (half_square + log_polynomial<T>::r(s * s)) + (exponent * ln2_low<T> + correction);
  return exponent * ln2_high<T> - ((half_square - tail) - f);
}

/// `finite` where x is positive and finite; −inf at ±0, NaN for x < 0, x itself where it is +inf or NaN.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE inline T with_special_cases(T x, T finite) noexcept {
  using word = typename binary_format<T>::word;
  const T positive = select(less_mask<T>(magnitude(x), bits(infinity<T>)), finite, x);
  const T nonzero = select(sign_mask(x), quiet_nan<T>, positive);
  return select(less_mask<T>(magnitude(x), word{1}), -infinity<T>, nonzero);
}

}  // namespace detail

/// log x (natural), for float and double, within 1 ulp of the exact value whether or not the compiler contracts into
/// FMA; subnormal arguments included.
///
/// x = 2^e m with √½ ≤ m < √2, f = m − 1 (exact), log x = e ln 2 + log(1 + f); the last by its odd series in
/// s = f / (2 + f), arranged as f − (f²/2 − s (f²/2 + R)) so that the leading term is exact (the arrangement of
/// FDLIBM).
///
/// \param x any value: ±0 gives −inf, x < 0 gives NaN, +inf gives +inf, NaN gives NaN, 1 gives +0
/// \note Selects only, no branch, no table, no errno. Assumes rounding to nearest and subnormal numbers (no -ftz).
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T log(T x) noexcept {
  using format = detail::binary_format<T>;
  constexpr T lift = T(typename format::word{1} << format::significand_bits);

  const auto subnormal = detail::less_mask<T>(detail::bits(x), detail::bits(detail::smallest_normal<T>));
  const auto [exponent, m] = detail::split(detail::select(subnormal, x * lift, x));
  const T e = exponent - detail::select(subnormal, T(format::significand_bits), T(0));
  const T f = m - T(1);
  return detail::with_special_cases(x, detail::assemble_log(e, f, f / (T(2) + f), T(0)));
}

/// log(x · 2^power) (natural) for positive normal x and a whole number `power`: log without what it does for other
/// arguments. Within 1 ulp of the exact value, on a device in float within 3.
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T log_of_normal(T x, T power) noexcept {
  const auto [exponent, m] = detail::split(x);
  const T f = m - T(1);
  return detail::assemble_log(exponent + power, f, quotient(f, T(2) + f), T(0));
}

/// log(1 + x) (natural), for float and double, without the cancellation of log(1 + x) near 0: within 1 ulp of the exact
/// value whether or not the compiler contracts into FMA.
///
/// 1 + x = u + c with u rounded and c the exact rest (Knuth's two-sum), so log(1 + x) = log u + c / u up to c²/u²;
/// where u has exponent 0, f = x itself and no rest.
///
/// \param x any value: −1 gives −inf, x < −1 gives NaN, +inf gives +inf, NaN gives NaN, ±0 gives 0, tiny x gives x
/// \note Selects only, no branch, no table, no errno. Assumes rounding to nearest and subnormal numbers (no -ftz).
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T log1p(T x) noexcept {
  using word = typename detail::binary_format<T>::word;
  const T u = T(1) + x;
  const T x_rounded = u - T(1);
  const T rest = (T(1) - (u - x_rounded)) + (x - x_rounded);
  const auto [e, m] = detail::split(u);
  const auto near_zero = detail::less_mask<T>(detail::magnitude(e), word{1});
  const T f = detail::select(near_zero, x, m - T(1));
  const T correction = detail::select(near_zero, T(0), rest / u);
  return detail::with_special_cases(u, detail::assemble_log(e, f, f / (T(2) + f), correction));
}

}  // namespace dro::math

#endif
