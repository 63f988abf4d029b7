// SPDX-License-Identifier: Apache-2.0
// An xtensor expression that has yet to be evaluated has no memory to look at: the message says what to do.
// EXPECT: dro: xtensor_backend sees only objects with memory of their own; call xt::eval on the expression
#include <dro/backend/xtensor.hpp>
#include <dro/estimate/importance_weights.hpp>

double first_evidence(dro::xtensor_backend<>& b, const xt::xtensor<double, 2>& log_likelihood) {
#ifdef DRO_COMPILE_FAIL_CONTROL
  const xt::xtensor<double, 2> shifted = 2 * log_likelihood;
  return dro::importance_weights(b, dro::on_policy(b, shifted)).log_evidence(0, 0);
#else
  return dro::importance_weights(b, dro::on_policy(b, 2 * log_likelihood)).log_evidence(0, 0);
#endif
}
