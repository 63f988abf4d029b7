// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_NOISE_HPP
#define DRO_RANDOM_NOISE_HPP

/// \file
/// Uniform, exponential and Gumbel noise from random words, made in integers.
///
/// A floating-point −log(−log v) depends on the compiler, its flags (contraction into FMA) and the device. Here every
/// value is computed in fixed point and has at most 24 significant bits, so that it is exact in float and in double and
/// bit-identical everywhere. Nor can it be infinite: no word stands for 0 or 1.

#include <concepts>
#include <cstdint>

#include <dro/config.hpp>
#include <dro/math/binary_format.hpp>
#include <dro/random/key.hpp>

namespace dro {
namespace noise {
namespace detail {

/// Fractional bits of the fixed-point logarithms.
inline constexpr int log_bits = 47;
/// ln 2 in units of 2^-32, rounded to nearest: one 32-bit factor, so that its multiples are single products as well.
inline constexpr std::uint32_t ln2 = 2977044472U;

/// ⌊a b / 2^32⌋
[[nodiscard]] DRO_HOST_DEVICE inline std::uint32_t multiply_high(std::uint32_t a, std::uint32_t b) noexcept {
#if defined(__CUDA_ARCH__)
  return __umulhi(a, b);
#else
  return static_cast<std::uint32_t>((static_cast<std::uint64_t>(a) * b) >> 32U);
#endif
}

/// x = 2^exponent (1 + fraction / 2^32), the fraction cut to 32 bits.
struct normalised {
  std::uint32_t exponent;
  std::uint32_t fraction;
};

/// Normalises 1 ≤ x < 2^52. On the host by an exact conversion to double, which vectorises where counting leading zeros
/// and shifting by it do not: x in the low bits of 2^52 + x, less 2^52. A device counts zeros. Both are exact, so they
/// agree.
[[nodiscard]] DRO_HOST_DEVICE inline normalised normalise(std::uint64_t x) noexcept {
#if defined(__CUDA_ARCH__)
  const int zeros = __clzll(static_cast<long long>(x));
  return {static_cast<std::uint32_t>(63 - zeros), static_cast<std::uint32_t>((x << zeros) >> 31)};
#else
  constexpr double anchor = 0x1p52;
  const std::uint64_t bits =
      math::bit_cast<std::uint64_t>(math::bit_cast<double>(x | math::bit_cast<std::uint64_t>(anchor)) - anchor);
  return {static_cast<std::uint32_t>(bits >> 52U) - 1023U, static_cast<std::uint32_t>(bits >> 20U)};
#endif
}

/// −ln(x / 2^52) in units of 2^-47, for 1 ≤ x < 2^52.
///
/// x / 2^52 = 2^-e (1 − δ) with 0 < δ ≤ ½, so −ln(x / 2^52) = e ln 2 + δ + δ² S(δ), S(δ) = (−ln(1 − δ) / δ − 1) / δ.
/// S is replaced by its best polynomial in the powers 0, 1, 2, 3, 5, 6, 8 (Remez; error weighted with δ below 2^-25.6):
/// a set of exponents whose partial sums never change sign, so that unsigned 32-bit steps suffice. Coefficient k
/// carries a factor 2^-k and δ a factor 2, so each step is one high product; the order of the steps keeps their chain
/// short.
///
/// δ is kept to 33 bits, exactly where e = 0 and x has no more than 33 bits: near x = 2^52 the result is δ itself,
/// which gives small values their relative accuracy. Errors: δ² S is off by at most δ · 2^-25.6, plus 2^-47 for cutting
/// and 2^-33 for δ where e > 0.
[[nodiscard]] DRO_HOST_DEVICE inline std::uint64_t negative_log(std::uint64_t x) noexcept {
  const normalised n = normalise(x);
  const std::uint32_t e = 51U - n.exponent;
  const std::uint32_t d = ~n.fraction | 1U;  // δ in units of 2^-33
  const std::uint32_t d2 = multiply_high(d, d);
  const std::uint32_t d5 = multiply_high(multiply_high(d2, d2), d);
  const std::uint32_t upper = 77020256U - multiply_high(23273703U - multiply_high(10786971U, d2), d);
  const std::uint32_t middle = 264665173U + multiply_high(125380585U, d);
  const std::uint32_t lower = 2147472513U + multiply_high(716191333U, d);
  const std::uint32_t s = lower + multiply_high(middle, d2) + multiply_high(upper, d5);  // S in units of 2^-32
  const std::uint64_t square = static_cast<std::uint64_t>(multiply_high(s, d)) * d;      // δ² S in units of 2^-66
  return ((static_cast<std::uint64_t>(e) * ln2) << 15U) + (static_cast<std::uint64_t>(d) << 14U) + (square >> 19U);
}

}  // namespace detail

/// The uniform number (2 ⌊h / 2^9⌋ + 1) / 2^24 from a random word h: never 0 or 1, symmetric about ½, exact in T.
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T uniform(std::uint32_t word) noexcept {
  return static_cast<T>(static_cast<std::int32_t>(word >> 8U | 1U)) * T(0x1p-24);
}

/// The standard exponential variable −ln((h + ½) / 2^32) from a random word h, in units of 2^-47.
///
/// Falls with h from 33 ln 2 = 22.87 (h = 0) to 2^-33 (h = 2^32 − 1); relative error at most 2^-23.9 (the worst word:
/// 2^-24.00).
[[nodiscard]] DRO_HOST_DEVICE inline std::uint64_t exponential_fixed(std::uint32_t word) noexcept {
  return detail::negative_log((static_cast<std::uint64_t>(word) << 20U) | (std::uint64_t{1} << 19U));
}

/// The standard exponential variable of `exponential_fixed`, cut to 24 significant bits: positive, finite, exact in T.
///
/// E = −ln v, v = (h + ½) / 2^32, density e^{−E}; in [2^-33, 22.88]. Relative error below 2^-22.3.
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T exponential(std::uint32_t word) noexcept {
  constexpr double anchor = 0x1p52;
  const std::uint64_t fixed = exponential_fixed(word);
  const double exact = math::bit_cast<double>(fixed | math::bit_cast<std::uint64_t>(anchor)) - anchor;
  const std::uint64_t cut = math::bit_cast<std::uint64_t>(exact) & ~((std::uint64_t{1} << 29U) - 1);
  return static_cast<T>(math::bit_cast<double>(cut)) * T(0x1p-47);
}

/// The standard Gumbel variable g = −ln(−ln v), v = (h + ½) / 2^32, from a random word h, in units of 2^-19.
///
/// Rises with h from −3.13 (h = 0) to 22.87 (h = 2^32 − 1), so |value| < 2^24 and its conversion to float is exact.
/// Differs from the exact g by at most 2^-19.8 = 1.1e-6, half a unit and a little (the worst word: 2^-19.94). Two of n
/// independent values coincide with probability about n²/2 · 2^-21; whoever sorts them decides ties by position.
[[nodiscard]] DRO_HOST_DEVICE inline std::int32_t gumbel_fixed(std::uint32_t word) noexcept {
  // The inner value is E / 2^5 · 2^52, so the outer one is g + 5 ln 2, never negative.
  constexpr int cut = detail::log_bits - 19;
  constexpr std::uint64_t half = std::uint64_t{1} << (cut - 1);
  constexpr std::uint64_t offset = std::uint64_t{4} << detail::log_bits;  // keeps the shifted value positive
  constexpr std::uint64_t five_ln2 = (std::uint64_t{5} * detail::ln2) << 15U;
  const std::uint64_t raised = detail::negative_log(exponential_fixed(word)) + (offset - five_ln2 + half);
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(raised >> cut) - (4U << 19U));
}

/// `gumbel_fixed` as a T, without rounding: the same number in float and in double, on every backend.
///
/// The scaling by 2^-19 is exact too, so `score + gumbel<T>(word)` rounds once, contracted into FMA or not.
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T gumbel(std::uint32_t word) noexcept {
  return static_cast<T>(gumbel_fixed(word)) * T(0x1p-19);
}

/// A number in [0, n) from a random word h: ⌊h n / 2^32⌋ (Lemire 2019, without the rejection step). n ≥ 1.
///
/// Each number's probability differs from 1/n by less than 2^-32.
[[nodiscard]] DRO_HOST_DEVICE inline std::uint32_t uniform_index(std::uint32_t word, std::uint32_t n) noexcept {
  return detail::multiply_high(word, n);
}

}  // namespace noise
}  // namespace dro

#endif
