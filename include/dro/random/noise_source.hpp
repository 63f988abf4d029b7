// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_NOISE_SOURCE_HPP
#define DRO_RANDOM_NOISE_SOURCE_HPP

/// \file
/// The noise of one sample of one query.

#include <concepts>
#include <cstddef>
#include <cstdint>

#include <dro/config.hpp>
#include <dro/math/lanes.hpp>
#include <dro/random/joint_noise.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/philox_lanes.hpp>

namespace dro {

namespace detail {

/// a·b in the field of r = 2^k elements, 2 ≤ r ≤ 256: the product of two polynomials over {0, 1}, whose coefficients
/// are the bits of a and b, modulo an irreducible one of degree k.
[[nodiscard]] DRO_HOST_DEVICE constexpr std::uint32_t field_product(std::uint32_t a, std::uint32_t b,
                                                                    std::uint32_t r) noexcept {
  // x + 1 and x^k + x + 1, but for k = 5 x^5 + x^2 + 1 and for k = 8 x^8 + x^4 + x^3 + x + 1.
  const std::uint32_t modulus = r == 32 ? 37 : r == 256 ? 283 : r | 3U;
  std::uint32_t product = 0;
  for (std::uint32_t bit = r / 2; bit != 0; bit /= 2) {
    product *= 2;
    if (product >= r) product ^= modulus;
    if ((b & bit) != 0) product ^= a;
  }
  return product;
}

}  // namespace detail

/// The random numbers of one (key, query, sample), by position. Trivially copyable; holds no state that advances, so
/// positions may be visited in any order, by any number of threads.
struct noise_source {
  random_key key;
  std::uint32_t query = 0;
  std::uint32_t sample = 0;
  joint_noise joint = {};

  /// The random words of positions 4 `block` … 4 `block` + 3.
  ///
  /// Where samples share noise, i is the sample's place in its block of r:
  ///
  ///     antithetic        the word of the block's first sample, complemented for i = 1
  ///     latin_hypercube   the highest log₂ r bits are t ⊕ a·i, a product in the field of r elements, with t and a ≠ 0
  ///                       drawn for the block and the position; the others are the sample's own
  ///
  /// t is uniform, so each sample's words are, at every position independently. t ⊕ a·i and t ⊕ a·j are each pair of
  /// different intervals with the same probability, as under a random order of all r: so whatever depends on two
  /// samples at a time, as the variance of a mean does, is that of a Latin hypercube in random order.
  [[nodiscard]] DRO_HOST_DEVICE random_words words(std::uint32_t block) const noexcept {
    const auto r = static_cast<std::uint32_t>(joint.block());  // a power of two
    const std::uint32_t i = sample & (r - 1);
    if (joint.kind != noise_kind::latin_hypercube) {
      random_words four = random_block(key, query, sample - i, block);
      if (i == 1) {
        for (std::uint32_t& w : four.word) w = ~w;
      }
      return four;
    }
    random_words four = random_block(key, query, sample, block);
    const random_words shared = random_block(key, query, 0x80000000U | sample / r, block);  // no sample has this number
    for (std::size_t k = 0; k < 4; ++k) {
      const std::uint32_t t = noise::uniform_index(shared[k], r);
      const std::uint32_t a = 1 + noise::uniform_index(shared[k] * r, r - 1);  // of the bits that t does not use
      four.word[k] = (t ^ detail::field_product(a, i, r)) * (0x80000000U / (r / 2)) | four[k] / r;
    }
    return four;
  }

  /// out[k][l] = the random word of position 4 `block` + k of sample `sample` + l, where samples share no noise. On the
  /// host the samples share vector registers; a device has one sample a thread.
  template <index_t Lanes>
  DRO_HOST_DEVICE void words_alone(std::uint32_t block, math::lanes<std::uint32_t, Lanes> (&out)[4]) const noexcept {
    math::lanes<std::uint32_t, Lanes> own;
    for (index_t l = 0; l < Lanes; ++l) own[l] = sample + static_cast<std::uint32_t>(l);
    philox_lanes(block, own, key.first_query + query, key.step, key.philox(), out);
  }

  /// The standard Gumbel variable of one position. Computes a whole Philox block: see `gumbel_fill`.
  template <std::floating_point T>
  [[nodiscard]] DRO_HOST_DEVICE T gumbel(std::uint32_t position) const noexcept {
    return noise::gumbel<T>(words(position / 4)[position % 4]);
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
