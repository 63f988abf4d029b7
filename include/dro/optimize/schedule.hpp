// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_OPTIMIZE_SCHEDULE_HPP
#define DRO_OPTIMIZE_SCHEDULE_HPP

/// \file
/// Learning-rate schedules: a factor in [0, 1] for each step, computed where the step counter lives.

#include <cmath>
#include <cstdint>

#include <dro/config.hpp>

namespace dro {

/// The learning rate as it is.
struct constant_schedule {
  [[nodiscard]] DRO_HOST_DEVICE double operator()(std::uint32_t) const { return 1.0; }
};

/// Rises linearly from 1/warmup to 1 over the first `warmup` steps, then falls linearly to 0 at step `total`.
struct linear_schedule {
  std::uint32_t warmup = 0;
  std::uint32_t total = 0;

  /// `step` counts from 0.
  [[nodiscard]] DRO_HOST_DEVICE double operator()(std::uint32_t step) const {
    if (step < warmup) return (step + 1.0) / warmup;
    if (step >= total) return 0.0;
    return (total - step) / static_cast<double>(total - warmup);
  }
};

/// Rises linearly over `warmup` steps, then follows half a cosine down to `floor` at step `total`
/// (Loshchilov & Hutter 2017, equation 5, without restarts).
struct cosine_schedule {
  std::uint32_t warmup = 0;
  std::uint32_t total = 0;
  double floor = 0.0;

  /// `step` counts from 0.
  [[nodiscard]] DRO_HOST_DEVICE double operator()(std::uint32_t step) const {
    if (step < warmup) return (step + 1.0) / warmup;
    if (step >= total) return floor;
    const double part = (step - warmup) / static_cast<double>(total - warmup);
    return floor + (1.0 - floor) * 0.5 * (1.0 + std::cos(3.14159265358979323846 * part));
  }
};

}  // namespace dro

#endif
