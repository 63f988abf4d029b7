// SPDX-License-Identifier: Apache-2.0
// From log-probabilities to importance weights, without any model of the library: a reader has scored the gold answer
// of each question once for each list of documents that was drawn, and the E-step says how much each list counts.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include <Eigen/Core>

#include <dro/backend/eigen.hpp>
#include <dro/dro.hpp>

namespace {

void print(const Eigen::MatrixXd& log_likelihood,
           const dro::importance_weights_result<dro::eigen_backend<>, double>& w) {
  std::printf("%-28s| %-24s| %5s  %8s  %7s  %s\n", "log p(y|x,d_z), 4 samples", "weight", "ESS", "evidence", "ELBO",
              "status");
  for (Eigen::Index q = 0; q < log_likelihood.rows(); ++q) {
    for (Eigen::Index i = 0; i < log_likelihood.cols(); ++i) std::printf("%6.1f ", log_likelihood(q, i));
    std::printf("|");
    for (Eigen::Index i = 0; i < log_likelihood.cols(); ++i) std::printf(" %5.3f", w.normalised(q, i));
    std::printf(" | %5.2f  %8.2f  %7.2f  %s\n", w.effective_sample_size(q, 0), w.log_evidence(q, 0), w.elbo(q, 0),
                dro::to_string(static_cast<dro::status>(w.status(q, 0))));
  }
}

}  // namespace

int main() {
  constexpr double never = -std::numeric_limits<double>::infinity();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();

  std::printf("The selector drew the lists itself: w is proportional to p(y|x,d_z).\n\n");
  // [on-policy]
  dro::eigen_backend b;
  Eigen::MatrixXd log_likelihood(6, 4);      // [queries × samples], nats
  log_likelihood << -1.0, -2.0, -3.0, -4.0,  // the better the answer is explained, the larger the weight
      -901.0, -902.0, -903.0, -904.0,        // only differences count: nothing underflows
      -2.0, -2.0, -2.0, -2.0,                // no list is better than another
      -1.0, -2.0, never, never,              // a list with which the answer is impossible has weight 0
      never, never, never, never,            // nothing to learn from this question in this step
      -1.0, nan, -3.0, -4.0;                 // trouble stays with its question
  const auto w = dro::importance_weights(b, dro::on_policy(b, log_likelihood));
  print(log_likelihood, w);
  // [on-policy]

  std::printf("\nSomebody else drew them: w is proportional to p(z|x) p(y|x,d_z) / q(z).\n\n");
  // [off-policy]
  Eigen::MatrixXd log_selector(2, 4), log_proposal(2, 4);
  log_selector << -2.3, -2.3, -2.3, -2.3,  // log p(z|x): the selector as it is now
      -0.7, -1.6, -3.0, -3.0;
  log_proposal << -2.3, -2.3, -2.3, -2.3,  // log q(z): the one that drew, an older selector say
      -3.0, -1.6, -0.7, -3.0;
  const Eigen::MatrixXd same = log_likelihood.row(0).replicate(2, 1);
  const auto off = dro::importance_weights(b, dro::off_policy(b, log_selector, same, log_proposal));
  print(same, off);
  // [off-policy]

  const bool as_said = w.normalised.row(0).isApprox(w.normalised.row(1)) && w.normalised.row(4).isZero() &&
                       w.status(5, 0) == static_cast<int>(dro::status::not_a_number) &&
                       std::abs(w.effective_sample_size(2, 0) - 4) < 1e-12 &&
                       off.normalised.row(0).isApprox(w.normalised.row(0));
  return as_said ? EXIT_SUCCESS : EXIT_FAILURE;
}
