// SPDX-License-Identifier: Apache-2.0
// Exact mean and variance of the estimators, by going through all possible samples.
#include <cmath>
#include <cstddef>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>

#include "support/exact_moments.hpp"
#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using test::difference;
using test::evidence_gradient;
using test::exact_moments;
using test::exact_world;
using test::from_proposal;
using test::from_selector;
using test::log_probability;
using test::multisets;
using test::norm;
using test::real;

using plain = dro::evidence<dro::baseline::none>;
using centred = dro::evidence<dro::baseline::centred>;
using leave_one_out = dro::expected_log_likelihood<dro::baseline::leave_one_out>;

// Coefficients are rounded to about 30 u (typed/test_coefficients.cpp), times scores below 2, summed with weights that
// sum to 1.
constexpr real rounding = 1e-14;

}  // namespace

TEST_CASE("the samples gone through are all of them") {
  const exact_world w(3, 2, 1, 3, 91);
  const auto prior = w.log_prior(0);
  CHECK(multisets(6, 2).size() == 21);
  CHECK(multisets(6, 8).size() == 1287);
  for (const std::size_t m : {1U, 2U, 5U}) {
    real total = 0;
    for (const auto& s : multisets(prior.size(), m)) total += std::exp(log_probability(s, prior));
    DRO_CHECK_NEAR(total, 1, 1e-16);
  }
}

TEST_CASE("one sample: the expected selector gradient of the evidence objectives is zero") {
  const exact_world w(3, 2, 1, 3, 91);
  CHECK(norm(evidence_gradient(w)) > 0.05);
  DRO_CHECK_NEAR(norm(exact_moments<plain>(w, from_selector(w, 1)).mean), 0, rounding);
  DRO_CHECK_NEAR(norm(exact_moments<centred>(w, from_selector(w, 1)).mean), 0, rounding);
}

TEST_CASE("centring leaves the on-policy mean as it is and lowers the variance") {
  for (const std::uint64_t seed : {91U, 92U, 93U}) {
    const exact_world w(3, 2, 1, 3, seed);
    for (const std::size_t m : {2U, 3U, 6U}) {
      const auto a = exact_moments<plain>(w, from_selector(w, m));
      const auto c = exact_moments<centred>(w, from_selector(w, m));
      CHECK(norm(a.mean) > 0.01);
      DRO_CHECK_NEAR(norm(difference(a.mean, c.mean)), 0, rounding);
      CHECK(c.variance < 0.7 * a.variance);
      // The generator's coefficients are the weights in both.
      DRO_CHECK_NEAR(norm(difference(a.generator_mean, c.generator_mean)), 0, rounding);
    }
  }
}

TEST_CASE("the bias of the evidence gradient is a/m + O(1/m²) with the constant of theory, on- and off-policy") {
  exact_world w(3, 2, 1, 3, 91);
  // Weights and ratios that differ little reach the limit at small m.
  for (double& logit : test::elements(w.logits)) logit /= 4;
  for (double& score : test::elements(w.scores)) score /= 4;
  const auto truth = evidence_gradient(w);
  const auto prior = w.log_prior(0);
  const auto likelihood = w.log_likelihood(0);
  const std::vector<real> uniform(prior.size(), -std::log(static_cast<real>(prior.size())));
  std::vector<std::vector<real>> score;
  for (const auto& z : w.rankings) score.push_back(test::plackett_luce_score(test::row(w.scores, 0), z));

  // A ratio of means Σ v_i s_i / Σ v_i of draws from q is biased by −(1/m) E_q[v² (s − g)] / (E_q v)² + O(1/m²), where
  // g is its limit (Owen 2013, chapter 9). Plain weights are such a ratio; centring takes off another, that of ρ.
  const auto leading = [&](const std::vector<real>& log_v, const std::vector<real>& log_q) {
    std::vector<real> mean(truth.size(), 0);
    std::vector<real> a(truth.size(), 0);
    real total = 0;
    for (std::size_t z = 0; z < log_v.size(); ++z) total += std::exp(log_q[z] + log_v[z]);
    for (std::size_t z = 0; z < log_v.size(); ++z) {
      for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += std::exp(log_q[z] + log_v[z]) * score[z][j] / total;
    }
    for (std::size_t z = 0; z < log_v.size(); ++z) {
      const real squared = std::exp(log_q[z] + 2 * log_v[z]) / (total * total);
      for (std::size_t j = 0; j < mean.size(); ++j) a[j] -= squared * (score[z][j] - mean[j]);
    }
    return a;
  };
  const auto scaled_bias = [&](auto objective, std::size_t m, bool on_policy) {
    const auto found =
        exact_moments<decltype(objective)>(w, on_policy ? from_selector(w, m) : from_proposal(m, uniform));
    auto bias = difference(found.mean, truth);
    for (real& x : bias) x *= static_cast<real>(m);
    return bias;
  };
  // m × bias = a + b/m + c/m² + …: two and three sample sizes take off the first and the second term (Richardson), and
  // what the third moved bounds its own error, which is of the next order.
  const auto check = [&](auto objective, bool on_policy, const std::vector<real>& a) {
    const auto at_4 = scaled_bias(objective, 4, on_policy);
    const auto at_8 = scaled_bias(objective, 8, on_policy);
    const auto at_16 = scaled_bias(objective, 16, on_policy);
    std::vector<real> two;
    std::vector<real> three;
    for (std::size_t j = 0; j < a.size(); ++j) {
      two.push_back(2 * at_16[j] - at_8[j]);
      three.push_back((8 * at_16[j] - 6 * at_8[j] + at_4[j]) / 3);
    }
    CHECK(norm(difference(three, two)) < norm(a) / 100);  // else the bound would say nothing
    DRO_CHECK_NEAR(norm(difference(three, a)), 0, norm(difference(three, two)));
  };
  for (const bool on_policy : {true, false}) {
    std::vector<real> ratio(prior.size(), 0);
    std::vector<real> weight(likelihood);
    for (std::size_t z = 0; z < prior.size(); ++z) {
      if (!on_policy) ratio[z] = prior[z] - uniform[z];
      weight[z] += ratio[z];
    }
    const auto& log_q = on_policy ? prior : uniform;
    const auto of_weights = leading(weight, log_q);
    check(plain{}, on_policy, of_weights);
    check(centred{}, on_policy, difference(of_weights, leading(ratio, log_q)));
  }
}

TEST_CASE("leave-one-out is unbiased for the gradient of the expected log-likelihood, on- and off-policy") {
  exact_world w(3, 2, 1, 3, 91);
  const auto likelihood = w.log_likelihood(0);
  const auto prior = w.log_prior(0);
  std::vector<real> truth(3, 0);
  for (std::size_t z = 0; z < prior.size(); ++z) {
    const auto score = test::plackett_luce_score(test::row(w.scores, 0), w.rankings[z]);
    for (std::size_t j = 0; j < 3; ++j) truth[j] += std::exp(prior[z]) * likelihood[z] * score[j];
  }
  CHECK(norm(truth) > 0.1);
  std::vector<real> skewed = w.posterior(0);  // a proposal that is neither the selector nor uniform
  for (real& p : skewed) p = std::log(0.5 * p + 0.5 / static_cast<real>(w.size()));
  for (const std::size_t m : {2U, 3U, 5U}) {
    for (const bool on_policy : {true, false}) {
      const auto found = exact_moments<leave_one_out>(w, on_policy ? from_selector(w, m) : from_proposal(m, skewed));
      DRO_CHECK_NEAR(norm(difference(found.mean, truth)), 0, 10 * rounding);
      // c′: E Σ_i ρ_i/m 1[z_i = z] = p(z|x).
      for (std::size_t z = 0; z < prior.size(); ++z) {
        DRO_CHECK_NEAR(found.generator_mean[z], std::exp(prior[z]), rounding);
      }
    }
  }
}
