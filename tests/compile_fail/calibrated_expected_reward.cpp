// SPDX-License-Identifier: Apache-2.0
// Calibration changes self-normalised weights, which an expected reward does not use.
// EXPECT: dro: an expected reward does not use the self-normalised weights: there is nothing to calibrate
#include <dro/em/calibrated.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>

#ifdef DRO_COMPILE_FAIL_CONTROL
const dro::calibrated target(dro::evidence<>{}, dro::calibration::truncate{});
#else
const dro::calibrated target(dro::expected_likelihood<>{}, dro::calibration::truncate{});
#endif
