// SPDX-License-Identifier: Apache-2.0
// Scored draws look at log q of the caller's draws: draws that are gone after the call are refused.
// EXPECT: deleted function
#include <dro/backend/host.hpp>
#include <dro/estimate/importance_weights.hpp>

dro::draws<dro::host_backend, double> drawn();

double first_evidence(dro::host_backend& b, const dro::host_matrix<double>& log_likelihood) {
#ifdef DRO_COMPILE_FAIL_CONTROL
  const auto z = drawn();
  const auto scores = dro::off_policy(b, log_likelihood, log_likelihood, z);
#else
  const auto scores = dro::off_policy(b, log_likelihood, log_likelihood, drawn());
#endif
  return dro::importance_weights(b, scores).log_evidence(0, 0);
}
