// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_PHILOX_LANES_HPP
#define DRO_RANDOM_PHILOX_LANES_HPP

/// \file
/// Philox4x32-10 for the counters of several samples at once, in the vector registers of the host.

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <dro/config.hpp>
#include <dro/math/lanes.hpp>
#include <dro/random/philox.hpp>

namespace dro {
namespace detail {

/// The multipliers and the steps of the key of Philox4x32 (Salmon et al. 2011, section 3.3).
inline constexpr std::uint32_t philox_first_multiplier = 0xD2511F53U;
inline constexpr std::uint32_t philox_second_multiplier = 0xCD9E8D57U;
[[nodiscard]] DRO_HOST_DEVICE constexpr philox_key philox_next_key(philox_key key) noexcept {
  return {{key.word[0] + 0x9E3779B9U, key.word[1] + 0xBB67AE85U}};
}
inline constexpr int philox_rounds = 10;

/// a b. A device has one instruction for it; where the compiler sees a 64-bit constant it adds the upper half of that.
[[nodiscard]] DRO_HOST_DEVICE inline std::uint64_t wide_product(std::uint32_t a, std::uint32_t b) noexcept {
#if defined(__CUDA_ARCH__)
  unsigned long long product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
#else
  return std::uint64_t{a} * b;
#endif
}

}  // namespace detail

/// out[k][l] = word k of philox({block, sample[l], query, step}, key) for `Lanes` samples.
///
/// Compilers turn a loop over `philox` into scalar code on baseline x86-64: it has one vector instruction that
/// multiplies, 32 × 32 → 64 bits on every other element, and they spend more on sorting halves into place than the
/// product costs. Here each state word stays in a 64-bit element whose upper half may hold anything, since that
/// instruction reads lower halves only: two products, two shifts and four xors make a round of two counters. On a
/// device the products below are one instruction each.
template <index_t Lanes>
DRO_HOST_DEVICE inline void philox_lanes(std::uint32_t block, const math::lanes<std::uint32_t, Lanes>& sample,
                                         std::uint32_t query, std::uint32_t step, philox_key key,
                                         math::lanes<std::uint32_t, Lanes> (&out)[4]) noexcept {
#if defined(__SSE2__) && !defined(__CUDA_ARCH__)
  if constexpr (Lanes % 4 == 0) {
    const auto everywhere = [](std::uint32_t x) { return _mm_set1_epi32(static_cast<int>(x)); };
    const auto two = [](std::uint32_t low, std::uint32_t high) {
      return _mm_set_epi32(0, static_cast<int>(high), 0, static_cast<int>(low));
    };
    const __m128i first_multiplier = everywhere(detail::philox_first_multiplier);
    const __m128i second_multiplier = everywhere(detail::philox_second_multiplier);
    for (index_t l = 0; l < Lanes; l += 4) {
      __m128i x[4][2] = {{everywhere(block), everywhere(block)},
                         {two(sample[l], sample[l + 1]), two(sample[l + 2], sample[l + 3])},
                         {everywhere(query), everywhere(query)},
                         {everywhere(step), everywhere(step)}};
      philox_key k = key;
      for (int round = 0; round < detail::philox_rounds; ++round) {
        for (int pair = 0; pair < 2; ++pair) {
          const __m128i first = _mm_mul_epu32(x[0][pair], first_multiplier);
          const __m128i second = _mm_mul_epu32(x[2][pair], second_multiplier);
          x[0][pair] = _mm_xor_si128(_mm_xor_si128(_mm_srli_epi64(second, 32), x[1][pair]), everywhere(k.word[0]));
          x[2][pair] = _mm_xor_si128(_mm_xor_si128(_mm_srli_epi64(first, 32), x[3][pair]), everywhere(k.word[1]));
          x[1][pair] = second;
          x[3][pair] = first;
        }
        k = detail::philox_next_key(k);
      }
      for (int i = 0; i < 4; ++i) {
        const __m128 lower_halves = _mm_shuffle_ps(_mm_castsi128_ps(x[i][0]), _mm_castsi128_ps(x[i][1]), 0x88);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out[i].lane + l), _mm_castps_si128(lower_halves));
      }
    }
    return;
  }
#endif
  math::lanes<std::uint32_t, Lanes> x0;
  math::lanes<std::uint32_t, Lanes> x1 = sample;
  math::lanes<std::uint32_t, Lanes> x2;
  math::lanes<std::uint32_t, Lanes> x3;
  for (index_t l = 0; l < Lanes; ++l) {
    x0[l] = block;
    x2[l] = query;
    x3[l] = step;
  }
  for (int round = 0; round < detail::philox_rounds; ++round) {
    for (index_t l = 0; l < Lanes; ++l) {
      const std::uint64_t first = detail::wide_product(detail::philox_first_multiplier, x0[l]);
      const std::uint64_t second = detail::wide_product(detail::philox_second_multiplier, x2[l]);
      x0[l] = static_cast<std::uint32_t>(second >> 32U) ^ x1[l] ^ key.word[0];
      x2[l] = static_cast<std::uint32_t>(first >> 32U) ^ x3[l] ^ key.word[1];
      x1[l] = static_cast<std::uint32_t>(second);
      x3[l] = static_cast<std::uint32_t>(first);
    }
    key = detail::philox_next_key(key);
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
}

}  // namespace dro

#endif
