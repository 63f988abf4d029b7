// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_NOISE_ESTIMATE_ERROR_HPP
#define DRO_TESTS_SUPPORT_NOISE_ESTIMATE_ERROR_HPP

/// \file
/// The largest error of noise::gumbel_estimate over ranges of words, as a row program: on a GPU the estimate is made of
/// other instructions, so all 2^32 words are gone through there as well.

#include <cstdint>

#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_estimate.hpp>

namespace test {

/// worst(r, 0) ← the largest |gumbel_estimate − gumbel| over words r · count … (r + 1) · count − 1; +inf if one is NaN.
struct noise_estimate_error_program {
  dro::matrix_view<float> worst;  // [rows × 1]
  dro::index_t count;

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, dro::index_t row) const {
    const float largest = team.max(count, 0.0F, [&](dro::index_t i) {
      const auto word = static_cast<std::uint32_t>(row * count + i);
      const float error = dro::noise::gumbel_estimate(word) - dro::noise::gumbel<float>(word);
      return error != error ? dro::math::detail::infinity<float> : error < 0.0F ? -error : error;
    });
    if (team.rank() == 0) worst(row, 0) = largest;
  }
};

}  // namespace test

#endif
