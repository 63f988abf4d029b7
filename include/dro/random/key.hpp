// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_KEY_HPP
#define DRO_RANDOM_KEY_HPP

/// \file
/// Random words as a pure function of where they are used: (seed, step, query, sample, position).

#include <cstdint>

#include <dro/config.hpp>
#include <dro/random/philox.hpp>

namespace dro {

/// What the random words of one step depend on besides query, sample and position. The step may live in a backend's
/// memory: read it there and build the key in the row program, so that a replayed step draws anew.
struct random_key {
  std::uint64_t seed = 0;  ///< chosen by the user, one for a run
  std::uint32_t step = 0;  ///< number of the training step
  /// Added to the number of every query: where a part of a batch is drawn for, the number of its first query there.
  std::uint32_t first_query = 0;
  friend bool operator==(const random_key&, const random_key&) = default;
  /// The key of Philox: low half and high half of the seed.
  [[nodiscard]] DRO_HOST_DEVICE constexpr philox_key philox() const noexcept {
    return {{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U)}};
  }
};

/// The four random words for positions 4 `block` … 4 `block` + 3 of one sample of one query:
/// philox(counter = {block, sample, first_query + query, step}, key = {low half, high half of the seed}).
///
/// Distinct (step, query, sample, block) under one seed give distinct blocks, since Philox is a bijection of the
/// counter. \note Integers only: equal on every backend, compiler and flag. About 100 integer operations.
[[nodiscard]] DRO_HOST_DEVICE inline random_words random_block(random_key key, std::uint32_t query,
                                                               std::uint32_t sample, std::uint32_t block) noexcept {
  return philox({{block, sample, key.first_query + query, key.step}}, key.philox());
}

/// The random word of one position: word `position` mod 4 of block `position` / 4. It costs a whole block: where
/// several positions are needed, take them by blocks.
[[nodiscard]] DRO_HOST_DEVICE inline std::uint32_t random_word(random_key key, std::uint32_t query,
                                                               std::uint32_t sample, std::uint32_t position) noexcept {
  return random_block(key, query, sample, position / 4)[position % 4];
}

}  // namespace dro

#endif
