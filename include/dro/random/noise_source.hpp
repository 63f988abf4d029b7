// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_NOISE_SOURCE_HPP
#define DRO_RANDOM_NOISE_SOURCE_HPP

/// \file
/// The noise of one sample of one query.

#include <concepts>
#include <cstdint>

#include <dro/config.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>

namespace dro {

/// The random numbers of one (key, query, sample), by position. Trivially copyable; holds no state that advances, so
/// positions may be visited in any order, by any number of threads.
struct noise_source {
  random_key key;
  std::uint32_t query = 0;
  std::uint32_t sample = 0;

  /// The random words of positions 4 `block` … 4 `block` + 3.
  [[nodiscard]] DRO_HOST_DEVICE random_words words(std::uint32_t block) const noexcept {
    return random_block(key, query, sample, block);
  }

  /// The standard Gumbel variable of one position. Computes a whole Philox block: see `gumbel_fill`.
  template <std::floating_point T>
  [[nodiscard]] DRO_HOST_DEVICE T gumbel(std::uint32_t position) const noexcept {
    return noise::gumbel<T>(random_word(key, query, sample, position));
  }

  /// out[p] = gumbel<T>(p) for p = 0 … n − 1, one Philox block for four positions.
  ///
  /// Words are made 64 at a time into a buffer on the stack and then turned into noise, since compilers make vector
  /// code of each of the two loops but not of their fusion.
  template <std::floating_point T>
  DRO_HOST_DEVICE void gumbel_fill(T* out, std::uint32_t n) const noexcept {
    constexpr std::uint32_t chunk = 64;
    std::uint32_t word[chunk];
    for (std::uint32_t first = 0; first < n; first += chunk, out += chunk) {
      const std::uint32_t count = n - first < chunk ? n - first : chunk;
      for (std::uint32_t block = 0; 4 * block < count; ++block) {
        const random_words four = words(first / 4 + block);
        for (std::uint32_t j = 0; j < 4; ++j) word[4 * block + j] = four[j];
      }
      for (std::uint32_t i = 0; i < count; ++i) out[i] = noise::gumbel<T>(word[i]);
    }
  }
};

}  // namespace dro

#endif
