// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_INTEGER_MASS_HPP
#define DRO_RANDOM_INTEGER_MASS_HPP

/// \file
/// Probability mass as integers, for drawing.
///
/// Floating-point exponentials depend on the compiler, its flags (contraction into FMA) and the device, and so does
/// what sums of them are rounded to. Here masses are made in fixed point, and sums of integers are exact in whatever
/// order they are taken: what is drawn with the same word is the same everywhere.

#include <bit>
#include <concepts>
#include <cstdint>

#include <dro/config.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/philox_lanes.hpp>

namespace dro::noise {

/// The number of bits that x has, 0 for 0.
[[nodiscard]] DRO_HOST_DEVICE inline int bit_width(std::uint64_t x) noexcept {
#if defined(__CUDA_ARCH__)
  return 64 - __clzll(static_cast<long long>(x));
#else
  return static_cast<int>(std::bit_width(x));
#endif
}

/// The largest b for which n integers of up to 2^b add up to 2^62 at most, n ≥ 1.
[[nodiscard]] DRO_HOST_DEVICE inline int mass_bits(index_t n) noexcept {
  return 62 - bit_width(static_cast<std::uint64_t>(n - 1));
}

/// 2^bits e^{−x} as an integer, for x ≥ 0 and 33 ≤ bits ≤ 62: 0 from x = 44.25 on, where it would be below 1, and where
/// x is NaN.
///
/// Cut to an integer, and off by a relative 2^-26 at most: x is cut to a multiple of 2^-26 (2^-26.5, since a float
/// below 44.25 that is not such a multiple is below ¼, it is 0 for floats above that); log₂ e has 32 bits, so that the
/// exponent, below 64, is off by 2^-26.8 and the result by 2^-27.3, less for smaller x; 2^u for 0 ≤ u < 1 is 1 + u P(u)
/// with P of degree 6 (Remez; relative error of 2^u below 2^-34.4), in steps of 2^-32. All coefficients are positive
/// and add up to less than 1, so nothing overflows.
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline std::uint64_t integer_mass(T x, int bits) noexcept {
  constexpr std::uint32_t log2_e = 3098164010U;  // in units of 2^-31
  constexpr std::uint32_t c[] = {2977044488U, 1031764553U, 238392258U, 41293031U, 5763423U, 617496U, 92043U};
  const bool is_some = x < T(44.25);
  const auto fixed = static_cast<std::uint32_t>(static_cast<std::int64_t>((is_some ? x : T(0)) * T(0x1p26)));
  const std::uint64_t y = dro::detail::wide_product(fixed, log2_e);  // x log₂ e = n + f in units of 2^-57
  // 2^−f = 2^u / 2 with u = 1 − f but for 2^-32.
  const std::uint32_t u = ~static_cast<std::uint32_t>(y >> 25U);
  std::uint32_t p = c[6];
  for (int k = 5; k >= 0; --k) p = c[k] + detail::multiply_high(p, u);
  const std::uint64_t power = (std::uint64_t{1} << 32U) + detail::multiply_high(p, u);  // 2^u in units of 2^-32
  return is_some ? (power << (bits - 33)) >> (y >> 57U) : 0;
}

/// ⌊word · mass / 2^32⌋ for mass < 2^63: a place in [0, mass), each as likely as any other but for one word.
[[nodiscard]] DRO_HOST_DEVICE inline std::uint64_t uniform_place(std::uint32_t word, std::uint64_t mass) noexcept {
  return dro::detail::wide_product(word, static_cast<std::uint32_t>(mass >> 32U)) +
         (dro::detail::wide_product(word, static_cast<std::uint32_t>(mass)) >> 32U);
}
[[nodiscard]] DRO_HOST_DEVICE inline std::uint32_t uniform_place(std::uint32_t word, std::uint32_t mass) noexcept {
  return detail::multiply_high(word, mass);
}

/// The same for several draws.
template <class Word, index_t Lanes>
[[nodiscard]] DRO_HOST_DEVICE math::lanes<Word, Lanes> uniform_places(const math::lanes<std::uint32_t, Lanes>& words,
                                                                      const math::lanes<Word, Lanes>& masses) noexcept {
  math::lanes<Word, Lanes> places;
  for (index_t l = 0; l < Lanes; ++l) places[l] = uniform_place(words[l], masses[l]);
  return places;
}

}  // namespace dro::noise

#endif
