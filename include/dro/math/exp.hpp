// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MATH_EXP_HPP
#define DRO_MATH_EXP_HPP

/// \file
/// The exponential function without branches and without tables: a loop over it becomes vector code at plain -O3.

#include <concepts>

#include <dro/config.hpp>
#include <dro/math/binary_format.hpp>

namespace dro::math {
namespace detail {

/// e^r = 1 + r + r² q(r) for |r| ≤ ½ ln 2 (and a little beyond). Minimax coefficients of q for the error weighted with
/// r², by Remez' algorithm; the error of e^r is below 2^-28 (float) and 2^-57.9 (double).
template <class T>
struct exp_polynomial;

template <>
struct exp_polynomial<float> {
  static DRO_HOST_DEVICE float q(float r) noexcept {
    constexpr float c[] = {0x1p-1F, 0x1.55548ep-3F, 0x1.55545ep-5F, 0x1.123bdep-7F, 0x1.6db4e8p-10F};
    return horner(c, r);
  }
};

template <>
struct exp_polynomial<double> {
  static DRO_HOST_DEVICE double q(double r) noexcept {
    constexpr double c[] = {0x1.000000000000cp-1,  0x1.5555555555561p-3,  0x1.555555554ff92p-5,  0x1.111111110d5d0p-7,
                            0x1.6c16c185cac36p-10, 0x1.a01a01bb0696ep-13, 0x1.a0199630e8e87p-16, 0x1.71dddf79a8da9p-19,
                            0x1.28b0a6e23d983p-22, 0x1.af860b68cc92cp-26};
    return horner(c, r);
  }
};

/// Every |x| beyond this gives 0 or +inf, and 2^n for n = x / ln 2 up to here is still a product of two normal numbers.
template <class T>
inline constexpr T exp_limit = T(746);
template <>
inline constexpr float exp_limit<float> = 104.0F;

}  // namespace detail

/// e^x, for float and double, within 1 ulp of the exact value (subnormal results included) whether or not the compiler
/// contracts into FMA.
///
/// x = n ln 2 + r with n the nearest integer, e^x = 2^n e^r. The rounding to n adds a large constant, since baseline
/// x86-64 and AVX2 have no vector conversion from double to 64-bit integers; 2^n is applied as two factors, so that
/// the last product rounds once into the subnormal numbers and overflows by itself.
///
/// \param x any value: −inf gives 0, +inf gives +inf, NaN gives NaN, ±0 gives 1
/// \return  +inf where e^x exceeds the largest finite number, 0 where it is below half the smallest subnormal one
/// \note Selects only, no branch, no table, no errno. Assumes rounding to nearest and subnormal numbers (no -ftz).
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T exp(T x) noexcept {
  using format = detail::binary_format<T>;
  using word = typename format::word;
  constexpr int bits = format::significand_bits;
  constexpr T log2_e = T(0x1.71547652b82fep+0);
  constexpr T anchor = T(word{3} << (bits - 1));     // 1.5 · 2^bits: its last place counts units
  constexpr T shift = anchor + T(2 * format::bias);  // leaves n + 2 bias in the low bits, never negative

  const word size = detail::magnitude(x);
  const word beyond = detail::less_mask<T>(detail::bits(detail::exp_limit<T>), size) &
                      ~detail::less_mask<T>(detail::bits(detail::infinity<T>), size);  // NaN stays
  const word sign = detail::bits(x) ^ size;
  x = detail::select(beyond, bit_cast<T>(sign | detail::bits(detail::exp_limit<T>)), x);

  const T shifted = x * log2_e + shift;
  const T n = shifted - shift;
  const T high = x - n * detail::ln2_high<T>;  // exact
  const T low = n * detail::ln2_low<T>;
  const T r = high - low;
  const T mantissa = T(1) + (high + (r * r * detail::exp_polynomial<T>::q(r) - low));

  const word biased = detail::bits(shifted) - detail::bits(anchor);
  const word half = biased >> 1U;
  return mantissa * bit_cast<T>(half << bits) * bit_cast<T>((biased - half) << bits);
}

}  // namespace dro::math

#endif
