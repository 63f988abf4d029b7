// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MATH_FLOAT16_HPP
#define DRO_MATH_FLOAT16_HPP

/// \file
/// The two floating-point formats of 16 bits in which weights are kept, and their conversion. Nothing is computed in
/// them here.

#include <cstdint>

#include <dro/config.hpp>
#include <dro/math/binary_format.hpp>

namespace dro::math {

/// IEEE 754 binary16: sign, 5 bits of exponent, 10 of significand. Largest 65504, smallest normal 2⁻¹⁴, subnormals in
/// steps of 2⁻²⁴.
struct float16 {
  std::uint16_t bits;
};

/// The upper half of a binary32: sign, 8 bits of exponent, 7 of significand; the range of float, subnormals included.
struct bfloat16 {
  std::uint16_t bits;
};

/// The same number as a float, exactly; subnormals, infinities, the sign of zero and the payload of a NaN stay. Without
/// branches, so that loops vectorise, and not by way of subnormal floats, which a program may have switched off.
[[nodiscard]] DRO_HOST_DEVICE constexpr float to_float(float16 x) noexcept {
  constexpr std::uint32_t smallest_normal = 1U << 23U;
  constexpr std::uint32_t infinite = 31U << 23U;
  const std::uint32_t magnitude = (x.bits & 0x7fffU) << 13U;
  // the exponent's bias is 127 instead of 15, and the exponent of infinity and NaN all ones
  const std::uint32_t rebias = 112U << 23U;
  const std::uint32_t normal = magnitude + rebias + (rebias & ~detail::less_mask<float>(magnitude, infinite));
  // 2⁻¹⁴ (1 + m) − 2⁻¹⁴, both of them normal floats
  const std::uint32_t one_up = rebias + smallest_normal;
  const float subnormal = bit_cast<float>(magnitude + one_up) - bit_cast<float>(one_up);
  const std::uint32_t sign = (std::uint32_t{x.bits} & 0x8000U) << 16U;
  const std::uint32_t is_subnormal = detail::less_mask<float>(magnitude, smallest_normal);
  return bit_cast<float>((detail::bits(subnormal) & is_subnormal) | (normal & ~is_subnormal) | sign);
}

/// \copydoc to_float(float16)
[[nodiscard]] DRO_HOST_DEVICE constexpr float to_float(bfloat16 x) noexcept {
  return bit_cast<float>(std::uint32_t{x.bits} << 16U);
}

/// The nearest binary16, of two as near the one with an even significand; from 65520 on infinity; NaN stays a quiet NaN
/// of the same sign. Needs rounding to nearest, as programs start with.
[[nodiscard]] DRO_HOST_DEVICE constexpr float16 to_float16(float x) noexcept {
  const auto bits = bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  // ½ has a last place of 2⁻²⁴: adding it rounds to the subnormals' step
  const float above_half = bit_cast<float>(magnitude) + 0.5F;
  const std::uint32_t subnormal = bit_cast<std::uint32_t>(above_half) - bit_cast<std::uint32_t>(0.5F);
  const std::uint32_t normal = (magnitude + 0xfffU + ((magnitude >> 13U) & 1U) - (112U << 23U)) >> 13U;
  const std::uint32_t special = magnitude > 0x7f800000U ? 0x7e00U : 0x7c00U;
  const std::uint32_t finite = magnitude < (113U << 23U) ? subnormal : normal;
  const std::uint32_t value = magnitude >= 0x477ff000U ? special : finite;  // 65520
  return {static_cast<std::uint16_t>(value | ((bits >> 16U) & 0x8000U))};
}

/// The nearest bfloat16, of two as near the one with an even significand; beyond the largest infinity; NaN stays a
/// quiet NaN of the same sign.
[[nodiscard]] DRO_HOST_DEVICE constexpr bfloat16 to_bfloat16(float x) noexcept {
  const auto bits = bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16U) & 1U)) >> 16U;
  const std::uint32_t quiet_nan = ((bits >> 16U) & 0x8000U) | 0x7fc0U;
  return {static_cast<std::uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? quiet_nan : rounded)};
}

/// `x` as a float that rounds to any narrower format as `x` itself does: where it is no float, of the two around it the
/// one with an odd significand. Rounding twice, first to the nearest, can end a step off. Source: Boldo and Melquiond
/// (2008), theorem 3.
[[nodiscard]] DRO_HOST_DEVICE constexpr float round_to_odd(double x) noexcept {
  const auto nearest = static_cast<float>(x);
  if (x != x || static_cast<double>(nearest) == x) return nearest;
  const auto bits = bit_cast<std::uint32_t>(nearest);
  const double magnitude = x < 0 ? -x : x;
  const double away = static_cast<double>(nearest < 0 ? -nearest : nearest);
  return bit_cast<float>((away > magnitude ? bits - 1 : bits) | 1U);
}

/// \copydoc to_float16(float)
[[nodiscard]] DRO_HOST_DEVICE constexpr float16 to_float16(double x) noexcept { return to_float16(round_to_odd(x)); }

/// \copydoc to_bfloat16(float)
[[nodiscard]] DRO_HOST_DEVICE constexpr bfloat16 to_bfloat16(double x) noexcept { return to_bfloat16(round_to_odd(x)); }

}  // namespace dro::math

#endif
