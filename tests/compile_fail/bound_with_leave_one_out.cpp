// SPDX-License-Identifier: Apache-2.0
// The importance-weighted bound has leave-one-out forms of its own.
// EXPECT: dro: the importance-weighted bound takes baseline::arithmetic (the default), geometric or none
#include <dro/gradient/importance_weighted_bound.hpp>

#ifdef DRO_COMPILE_FAIL_CONTROL
const dro::importance_weighted_bound<> target{};
#else
const dro::importance_weighted_bound<dro::baseline::leave_one_out> target{};
#endif
