// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_JOINT_NOISE_HPP
#define DRO_RANDOM_JOINT_NOISE_HPP

/// \file
/// Noise that is shared within small blocks of a query's samples, so that their errors cancel.

#include <cstdint>
#include <string>

#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// How the random words of one query's samples hang together. Each sample alone has the same distribution under all of
/// them, so whatever is the mean of one sample keeps its value; samples of different blocks are independent.
enum class noise_kind : std::uint8_t {
  /// Every sample has words of its own.
  independent,
  /// Sample 2k + 1 has the bitwise complements of the words of sample 2k, which stand for 1 − v where those stand for v
  /// (Hammersley & Morton 1956). Sample 2k has the words it would have alone.
  antithetic,
  /// At each position the samples of a block of r fall one into each of the r intervals [k/r, (k + 1)/r) of v, in an
  /// order of its own for each position (Latin hypercube sampling, McKay, Beckman & Conover 1979). Of what is additive
  /// over positions the variance of a mean of r samples falls from the order of 1/r to that of 1/r³; of nothing does it
  /// exceed that of r − 1 independent samples (Owen 1997). A shifted lattice of so few points does worse here: keys are
  /// compared with each other, and positions that move in step lose what the others gain.
  latin_hypercube
};

/// A kind of noise and the size of its blocks.
struct joint_noise {
  noise_kind kind = noise_kind::independent;
  index_t strata = 4;  ///< r, samples in a hypercube: a power of two from 2 to 256; of no effect for the other kinds

  /// Samples of a block: 1 where all are independent.
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t block() const {
    return kind == noise_kind::independent ? 1 : kind == noise_kind::antithetic ? 2 : strata;
  }
};

/// Throws option_error unless the blocks have a size that their kind allows and `samples` is a multiple of it.
inline void require_joint_noise(const joint_noise& noise, index_t samples) {
  const index_t r = noise.strata;
  if (noise.kind == noise_kind::latin_hypercube && (r < 2 || r > 256 || (r & (r - 1)) != 0)) {
    throw option_error("strata is " + std::to_string(r) + ", expected a power of two from 2 to 256");
  }
  if (samples % noise.block() != 0) {
    throw option_error("samples is " + std::to_string(samples) + ", expected a multiple of " +
                       std::to_string(noise.block()) + ", the samples that share " +
                       (noise.kind == noise_kind::antithetic ? "antithetic" : "Latin hypercube") + " noise");
  }
}

}  // namespace dro

#endif
