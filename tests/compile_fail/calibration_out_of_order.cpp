// SPDX-License-Identifier: Apache-2.0
// Tempering what is smoothed and smoothing what is tempered are different weights: the steps have one order.
// EXPECT: dro: the steps of a calibration are length_normalise, truncate, clip, pareto_smooth, temper, in this order
#include <dro/backend/host.hpp>
#include <dro/estimate/calibration.hpp>

void calibrate(dro::host_backend& b, const dro::scored_draws<float>& scores) {
  const dro::calibration::pareto_smooth smooth;
  const dro::calibration::temper temper;
#ifdef DRO_COMPILE_FAIL_CONTROL
  static_cast<void>(dro::calibrate(b, scores, smooth, temper));
#else
  static_cast<void>(dro::calibrate(b, scores, temper, smooth));
#endif
}
