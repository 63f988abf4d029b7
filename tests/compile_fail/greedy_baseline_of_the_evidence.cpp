// SPDX-License-Identifier: Apache-2.0
// A greedy ranking's reward is a baseline of rewards; the message says which there are.
// EXPECT: dro: Reward is dro::expected_log_likelihood or dro::expected_likelihood
#include <dro/em/baselines.hpp>
#include <dro/gradient/evidence.hpp>

#ifdef DRO_COMPILE_FAIL_CONTROL
const dro::greedy_baseline<dro::expected_likelihood> target{};
#else
const dro::greedy_baseline<dro::evidence> target{};
#endif
