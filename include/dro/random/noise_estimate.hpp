// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_NOISE_ESTIMATE_HPP
#define DRO_RANDOM_NOISE_ESTIMATE_HPP

/// \file
/// Gumbel noise in a third of the time of `noise::gumbel`, for decisions that a small error seldom changes: an estimate
/// within a proven distance of the exact noise, so that whoever compares estimates knows when to ask for exact values.

#include <cstdint>

#include <dro/config.hpp>
#include <dro/math/binary_format.hpp>

namespace dro::noise {

/// The largest |gumbel_estimate(h) − gumbel<float>(h)| over all words h, on every backend, with any compiler and with
/// or without contraction into FMA: 2.29e-5. The parts of its proof:
///
/// - E ≈ −ln v is off by a relative 2^-17.2 for its polynomial and by at most 12 · 2^-24 for roundings, which g = −ln E
///   takes over as absolute errors: 7.3e-6. On a device the logarithm of v < ½ is off by a relative 2^-21.4 instead;
/// - −ln of the significand of E is off by 2^-16.8 for its polynomial and 4 · 2^-24 for roundings: 9.0e-6 (on a device
///   2 units in the last place of a number below 32, 2.7e-6);
/// - the exponent's multiple of ln 2, below 23, is off by 2^-27 of itself for the constant and by two
/// roundings: 2.9e-6;
/// - `gumbel` itself is off by 2^-19.8 from the exact variable: 1.1e-6.
///
/// 2.03e-5 in all. On the host the worst of all 2^32 words is off by 1.72e-5, with contraction by 1.63e-5.
inline constexpr float gumbel_estimate_error = 0x1.8p-16F;

namespace detail {

inline constexpr float ln2_rounded = 0x1.62e43p-1F;

/// −ln(1 − d) for 0 < d ≤ ½, as d times the best polynomial of degree 5 for −ln(1 − d) / d (Remez; relative error below
/// 2^-17.2).
[[nodiscard]] DRO_HOST_DEVICE inline float negative_log_estimate(float d) noexcept {
  constexpr float c[] = {0x1.ffff26p-1F, 0x1.00755ep-1F,  0x1.413300p-2F,
                         0x1.9d0b22p-2F, -0x1.3e8f62p-2F, 0x1.b158b2p-1F};
  return d * math::detail::horner(c, d);
}

/// −ln x for a positive normal x. Host: x = 2^k m, √½ ≤ m < √2, and the best polynomial of degree 5 for −ln m (Remez;
/// error below 2^-16.8). Device: its instruction for log₂ x, off by 2^-22 of the larger of log₂ x and 1.
[[nodiscard]] DRO_HOST_DEVICE inline float negative_log_of_any(float x) noexcept {
#if defined(__CUDA_ARCH__)
  float log2_x;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log2_x) : "f"(x));  // __log2f would look for subnormal x
  return -ln2_rounded * log2_x;
#else
  constexpr float c[] = {0x1.af033ap-18F, -0x1.fff2c4p-1F, 0x1.fefd3ap-2F,
                         -0x1.59aa3ep-2F, 0x1.19cf6ep-2F,  -0x1.6858eep-3F};
  constexpr std::uint32_t one = 0x3f800000U;
  constexpr std::uint32_t sqrt_half = math::detail::binary_format<float>::sqrt_half;
  const std::uint32_t w = math::detail::bits(x) + (one - sqrt_half);
  const float m = math::bit_cast<float>((w & 0x007fffffU) + sqrt_half);
  const auto exponent = static_cast<float>(static_cast<std::int32_t>(w >> 23U) - 127);
  return math::detail::horner(c, m - 1.0F) - exponent * ln2_rounded;
#endif
}

}  // namespace detail

/// An estimate of the standard Gumbel variable `gumbel<float>(word)`, off by at most `gumbel_estimate_error`.
///
/// With v = (h + ½) / 2^32: where v ≥ ½, E = −ln v comes from 1 − v, which keeps its relative accuracy where v is near
/// 1 and g = −ln E large; elsewhere from v = 2^-e (1 − d) as e ln 2 − ln(1 − d).
///
/// \note Selects only, no branch, no table: a loop over it is vector code at -O3. Its last bits depend on compiler,
/// flags and device; nothing but what `gumbel_estimate_error` covers may be concluded from it.
[[nodiscard]] DRO_HOST_DEVICE inline float gumbel_estimate(std::uint32_t word) noexcept {
  const std::uint32_t upper = 0U - (word >> 31U);  // all ones where v ≥ ½
  const float least =
      static_cast<float>(static_cast<std::int32_t>(word ^ upper)) * 0x1p-32F + 0x1p-33F;  // min(v, 1 − v)
#if defined(__CUDA_ARCH__)
  const float near_one = detail::negative_log_estimate(least);
  return detail::negative_log_of_any(upper != 0 ? near_one : detail::negative_log_of_any(least));
#else
  const std::uint32_t bits = math::detail::bits(least);
  const float half = math::bit_cast<float>((bits & 0x007fffffU) | 0x3f000000U);
  const auto exponent = static_cast<float>(static_cast<std::int32_t>((126U - (bits >> 23U)) & ~upper));
  const float d = math::detail::select(upper, least, 1.0F - half);
  return detail::negative_log_of_any(exponent * detail::ln2_rounded + detail::negative_log_estimate(d));
#endif
}

}  // namespace dro::noise

#endif
