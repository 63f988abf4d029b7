// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_SUBSTREAM_HPP
#define DRO_RANDOM_SUBSTREAM_HPP

/// \file
/// Streams of random numbers that part from one another, for proposals made of proposals.

#include <cstdint>

#include <dro/random/philox.hpp>
#include <dro/random/random_state.hpp>

namespace dro {

/// The `number`-th stream below `random`: the same step, and a seed that is a Philox word pair of the seed and
/// `number`.
///
/// A proposal that draws from several others gives each a stream of its own, and itself one for its own choices. With
/// one stream for all, a mixture within a mixture would choose as the outer one did. Streams below streams are distinct
/// too, but for coincidences of 64-bit seeds.
[[nodiscard]] inline random_source substream(const random_source& random, std::uint32_t number) {
  constexpr std::uint32_t nobody = 0xFFFFFFFFU;  // no draw has this query, sample and step: see random_block
  const random_words seed =
      philox({{number, nobody, nobody, nobody}},
             {{static_cast<std::uint32_t>(random.seed), static_cast<std::uint32_t>(random.seed >> 32U)}});
  return {(static_cast<std::uint64_t>(seed[1]) << 32U) | seed[0], random.step, random.first_query};
}

}  // namespace dro

#endif
