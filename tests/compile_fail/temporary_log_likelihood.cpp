// SPDX-License-Identifier: Apache-2.0
// Scored draws look at the caller's matrices: one that is gone after the call is refused.
// EXPECT: dro: what is returned looks at this matrix, so it must not be a temporary: give it a name
#include <dro/backend/host.hpp>
#include <dro/estimate/importance_weights.hpp>

dro::host_matrix<double> log_likelihood();

double first_evidence(dro::host_backend& b) {
#ifdef DRO_COMPILE_FAIL_CONTROL
  const auto named = log_likelihood();
  const auto scores = dro::on_policy(b, named);
#else
  const auto scores = dro::on_policy(b, log_likelihood());
#endif
  return dro::importance_weights(b, scores).log_evidence(0, 0);
}
