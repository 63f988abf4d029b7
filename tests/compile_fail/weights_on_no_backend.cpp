// SPDX-License-Identifier: Apache-2.0
// What is not a backend is refused at the call, by the concept, and not deep inside.
// EXPECT(GNU): no matching function for call to 'importance_weights(
// EXPECT(GNU): constraints not satisfied
// EXPECT(Clang): no matching function for call to 'importance_weights'
// EXPECT(Clang): constraints not satisfied
#include <dro/backend/host.hpp>
#include <dro/estimate/importance_weights.hpp>

#ifdef DRO_COMPILE_FAIL_CONTROL
using place = dro::host_backend;
#else
using place = dro::host_base;  // runs programs, but knows no matrix
#endif

void weigh(place& b, const dro::scored_draws<double>& scores) { static_cast<void>(dro::importance_weights(b, scores)); }
