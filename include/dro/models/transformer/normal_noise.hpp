// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_NORMAL_NOISE_HPP
#define DRO_MODELS_TRANSFORMER_NORMAL_NOISE_HPP

/// \file
/// Weights to begin with: nearly normal numbers that are the same on every backend.

#include <cstddef>
#include <cstdint>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/random/key.hpp>
#include <dro/random/substream.hpp>

namespace dro::models {

namespace detail {

/// Eight uniform integers of 16 bits, the halves of one Philox block, summed; their mean subtracted.
template <class T>
struct normal_noise_program {
  static constexpr double deviation = 53509.91992145;  // √(8 (2^32 − 1) / 12), of the sum
  matrix_view<T> target;
  random_key key;
  T scale;

  [[nodiscard]] index_t width() const { return target.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.for_each(target.cols, [&](index_t j) {
      const random_words four = random_block(key, static_cast<std::uint32_t>(row), 0, static_cast<std::uint32_t>(j));
      std::int32_t sum = -4 * 0xFFFF;
      for (std::size_t k = 0; k < 4; ++k) sum += static_cast<std::int32_t>((four[k] & 0xFFFFU) + (four[k] >> 16U));
      target(row, j) = scale * static_cast<T>(sum);
    });
  }
};

}  // namespace detail

/// Fills `target` with independent numbers of mean 0 and the given standard deviation, between ±4.9 of them: sums of
/// eight uniform ones, whose density is off the normal one by less than 0.02 of its peak. Made in integers and rounded
/// once, so equal on every backend; different for each `seed` and `stream`. Queues one program, one Philox block a
/// number.
template <backend B, class T>
void fill_normal(B& b, matrix_view<T> target, std::uint64_t seed, std::uint32_t stream, double deviation) {
  using program = detail::normal_noise_program<T>;
  const random_source source = substream({seed, nullptr}, stream);
  b.run(target.rows, program{target, source.key(), static_cast<T>(deviation / program::deviation)});
}

}  // namespace dro::models

#endif
