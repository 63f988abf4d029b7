// SPDX-License-Identifier: Apache-2.0
// Leave-one-out belongs to another objective: the evidence names the baselines it takes.
// EXPECT: dro: the evidence objective takes baseline::centred (the default), baseline::none or baseline::ratio
#include <dro/gradient/evidence.hpp>

#ifdef DRO_COMPILE_FAIL_CONTROL
const dro::evidence<dro::baseline::centred> target{};
#else
const dro::evidence<dro::baseline::leave_one_out> target{};
#endif
