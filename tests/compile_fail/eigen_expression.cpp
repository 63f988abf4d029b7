// SPDX-License-Identifier: Apache-2.0
// An Eigen expression that has yet to be evaluated has no memory to look at: the message says what to do.
// EXPECT: dro: eigen_backend sees only objects with memory of their own; call .eval() on the expression
#include <dro/backend/eigen.hpp>
#include <dro/estimate/importance_weights.hpp>

double first_evidence(dro::eigen_backend<>& b, const Eigen::MatrixXd& log_likelihood) {
#ifdef DRO_COMPILE_FAIL_CONTROL
  const Eigen::MatrixXd shifted = (2 * log_likelihood).eval();
  return dro::importance_weights(b, dro::on_policy(b, shifted)).log_evidence(0, 0);
#else
  return dro::importance_weights(b, dro::on_policy(b, 2 * log_likelihood)).log_evidence(0, 0);
#endif
}
