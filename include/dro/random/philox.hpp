// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_PHILOX_HPP
#define DRO_RANDOM_PHILOX_HPP

/// \file
/// Philox4x32 with 10 rounds, the counter-based generator of Salmon, Moraes, Dror and Shaw (2011, "Parallel random
/// numbers: as easy as 1, 2, 3", SC'11), from the Random123 library.

#include <cstddef>
#include <cstdint>

#include <Random123/philox.h>

#include <dro/config.hpp>

namespace dro {

/// Four random words: what one call of Philox gives. An aggregate of its own because std::array's operators cannot be
/// called from device code without nvcc's relaxed-constexpr option.
struct random_words {
  std::uint32_t word[4];
  [[nodiscard]] DRO_HOST_DEVICE constexpr std::uint32_t operator[](std::size_t i) const noexcept { return word[i]; }
  friend bool operator==(const random_words&, const random_words&) = default;
};

/// The two key words of Philox4x32.
struct philox_key {
  std::uint32_t word[2];
};

/// philox4x32-10(counter, key): for each key a bijection of the 2^128 counters whose values pass as random.
/// \note Integers only: equal on every backend, compiler and flag.
[[nodiscard]] DRO_HOST_DEVICE inline random_words philox(random_words counter, philox_key key) noexcept {
  const r123::Philox4x32::ctr_type in = {{counter.word[0], counter.word[1], counter.word[2], counter.word[3]}};
  const r123::Philox4x32::key_type k = {{key.word[0], key.word[1]}};
  const r123::Philox4x32::ctr_type out = r123::Philox4x32{}(in, k);
  return {{out.v[0], out.v[1], out.v[2], out.v[3]}};
}

}  // namespace dro

#endif
