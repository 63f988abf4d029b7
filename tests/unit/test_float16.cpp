// SPDX-License-Identifier: Apache-2.0
// The two formats of 16 bits, every number of them, against their definition.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <dro/math/float16.hpp>

using dro::math::bfloat16;
using dro::math::float16;
using dro::math::to_bfloat16;
using dro::math::to_float;
using dro::math::to_float16;

namespace {

/// What the definition says of a pattern of sign, `exponent_bits` of exponent and the rest of significand.
double by_definition(std::uint32_t bits, int exponent_bits) {
  const int significand_bits = 15 - exponent_bits;
  const std::uint32_t most = (1U << exponent_bits) - 1;
  const std::uint32_t exponent = (bits >> significand_bits) & most;
  const std::uint32_t significand = bits & ((1U << significand_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  double value = std::ldexp(significand, 1 - bias - significand_bits);
  if (exponent == most) {
    value = significand == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent > 0) {
    value = std::ldexp(significand + (1U << significand_bits), static_cast<int>(exponent) - bias - significand_bits);
  }
  return (bits & 0x8000U) != 0 ? -value : value;
}

/// Equal, also in the sign of zero; any NaN equals any.
bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

/// Rounds what lies between each two neighbours of a format: the midpoint, which a float or double holds exactly, goes
/// to the even pattern, and what is next to it to the nearer one.
template <class Number, class Format, class Round>
void check_rounding(int exponent_bits, Round round) {
  const std::uint32_t infinite = ((1U << exponent_bits) - 1) << (15 - exponent_bits);
  int wrong = 0;
  for (std::uint32_t low = 0; low < infinite; ++low) {
    // where the next would be infinite, what it would be were there one more exponent
    const double below = by_definition(low, exponent_bits);
    const double above = low + 1 < infinite ? by_definition(low + 1, exponent_bits)
                                            : below + (below - by_definition(low - 1, exponent_bits));
    const auto middle = static_cast<Number>(below / 2 + above / 2);
    if (static_cast<double>(middle) != below / 2 + above / 2) {
      ++wrong;  // the test itself would be
      continue;
    }
    const auto even = low + (low & 1U);
    const Number far = std::numeric_limits<Number>::infinity();
    for (const std::uint32_t sign : {0U, 0x8000U}) {
      const auto signed_number = [&](Number x) { return sign != 0 ? -x : x; };
      wrong += round(signed_number(static_cast<Number>(below))).bits != (low | sign);
      wrong += round(signed_number(middle)).bits != (even | sign);
      wrong += round(signed_number(std::nextafter(middle, Number(0)))).bits != (low | sign);
      wrong += round(signed_number(std::nextafter(middle, far))).bits != ((low + 1) | sign);
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("every pattern becomes the float that the definition says") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const auto word = static_cast<std::uint16_t>(bits);
    wrong += !same(to_float(float16{word}), by_definition(bits, 5));
    wrong += !same(to_float(bfloat16{word}), by_definition(bits, 8));
    wrong += std::signbit(to_float(float16{word})) != ((bits & 0x8000U) != 0);  // also of NaN
  }
  CHECK(wrong == 0);
}

TEST_CASE("the payload of a NaN stays") {
  CHECK(std::bit_cast<std::uint32_t>(to_float(float16{0x7e01})) == 0x7fc02000U);
  CHECK(std::bit_cast<std::uint32_t>(to_float(float16{0xfdff})) == 0xffbfe000U);
  CHECK(std::bit_cast<std::uint32_t>(to_float(bfloat16{0x7fc1})) == 0x7fc10000U);
}

TEST_CASE("floats and doubles round to the nearest, ties to even, over the whole range") {
  check_rounding<float, float16>(5, [](float x) { return to_float16(x); });
  check_rounding<double, float16>(5, [](double x) { return to_float16(x); });
  check_rounding<float, bfloat16>(8, [](float x) { return to_bfloat16(x); });
  check_rounding<double, bfloat16>(8, [](double x) { return to_bfloat16(x); });
}

TEST_CASE("infinities, NaN and numbers out of range") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(to_float16(infinity).bits == 0x7c00);
  CHECK(to_float16(-infinity).bits == 0xfc00);
  CHECK(to_float16(3e38F).bits == 0x7c00);
  CHECK(to_float16(-1e300).bits == 0xfc00);
  CHECK(to_float16(1e-300).bits == 0);
  CHECK(to_float16(-1e-300).bits == 0x8000);
  CHECK(to_bfloat16(infinity).bits == 0x7f80);
  CHECK(to_bfloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(to_bfloat16(-1e300).bits == 0xff80);
  CHECK(to_bfloat16(1e-300).bits == 0);
  for (const std::uint32_t nan : {0x7fc00000U, 0x7f800001U, 0x7fffffffU, 0xff800001U, 0xffffffffU}) {
    const auto x = std::bit_cast<float>(nan);
    CHECK(std::isnan(to_float(to_float16(x))));
    CHECK(std::isnan(to_float(to_bfloat16(x))));
    CHECK((to_float16(x).bits & 0x8000U) == (nan >> 16U & 0x8000U));
    CHECK((to_bfloat16(x).bits & 0x8000U) == (nan >> 16U & 0x8000U));
  }
}
