// SPDX-License-Identifier: Apache-2.0
// The expected log-likelihood names the baseline it takes.
// EXPECT: dro: the expected log-likelihood takes baseline::leave_one_out (the default), none, group_mean,
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>

#ifdef DRO_COMPILE_FAIL_CONTROL
const dro::expected_log_likelihood<> target{};
#else
const dro::expected_log_likelihood<dro::baseline::centred> target{};
#endif
