// SPDX-License-Identifier: Apache-2.0
// Every objective and baseline against the exact gradient of what it says it maximises.
#include <cmath>
#include <cstddef>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>
#include <dro/gradient/regularised.hpp>
#include <dro/gradient/variance_minimising.hpp>

#include "support/exact_moments.hpp"
#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using test::difference;
using test::exact_moments;
using test::exact_world;
using test::from_proposal;
using test::from_selector;
using test::norm;
using test::real;
using test::sample_table;
using test::sampling_plan;
namespace bl = dro::baseline;

// Coefficients are rounded to about 30 u (typed/test_coefficients.cpp), times scores below 2 and rewards below 10,
// summed with weights that sum to 1.
constexpr real rounding = 1e-13;
// Central differences with h = 1e-5: h²/6 of a third derivative, which is below 60 for sums of a few softmaxes, and
// rounding of the function to 1e-18 over h.
constexpr real difference_error = 1e-9;

std::vector<std::vector<real>> selector_scores(const exact_world& w) {
  std::vector<std::vector<real>> all;
  for (const auto& z : w.rankings) all.push_back(test::plackett_luce_score(test::row(w.scores, 0), z));
  return all;
}

/// ∇ E_p[reward] by the scores.
std::vector<real> expectation_gradient(const exact_world& w, const std::vector<real>& reward) {
  const auto prior = w.log_prior(0);
  const auto score = selector_scores(w);
  std::vector<real> g(score.front().size(), 0);
  for (std::size_t z = 0; z < reward.size(); ++z) {
    for (std::size_t j = 0; j < g.size(); ++j) g[j] += std::exp(prior[z]) * reward[z] * score[z][j];
  }
  return g;
}

std::vector<real> exponentials(std::vector<real> x) {
  for (real& v : x) v = std::exp(v);
  return x;
}

/// A proposal that is neither the selector nor uniform, and whose ratios are bounded.
std::vector<real> skewed(const exact_world& w) {
  std::vector<real> q = w.posterior(0);
  for (real& p : q) p = std::log(real(0.5) * p + real(0.5) / static_cast<real>(w.size()));
  return q;
}

/// Squared lengths of the selector's scores.
std::vector<real> squared_norms(const exact_world& w) {
  std::vector<real> all;
  for (const auto& s : selector_scores(w)) all.push_back(norm(s) * norm(s));
  return all;
}

template <template <class> class Reward>
void check_unbiased(const exact_world& w, const std::vector<real>& reward, const std::vector<real>& generator) {
  const auto truth = expectation_gradient(w, reward);
  REQUIRE(norm(truth) > 0.05);
  const auto norms = squared_norms(w);
  const auto prior = w.log_prior(0);
  dro::host_backend b(1);
  const dro::host_matrix<double> known(1, 1, {-0.7});
  const auto check = [&](const char* what, const test::moments& found) {
    CAPTURE(what);
    DRO_CHECK_NEAR(norm(difference(found.mean, truth)), 0, rounding);
    for (std::size_t z = 0; z < prior.size(); ++z) {
      DRO_CHECK_NEAR(found.generator_mean[z], std::exp(prior[z]) * generator[z], rounding);
    }
  };
  for (const std::size_t m : {2U, 3U, 5U}) {
    for (const auto& plan : {from_selector(w, m), from_proposal(m, skewed(w))}) {
      CAPTURE(m);
      CAPTURE(plan.on_policy);
      check("none", exact_moments<Reward<bl::none>>(w, plan));
      check("leave-one-out", exact_moments<Reward<bl::leave_one_out>>(w, plan));
      check("value", exact_moments(w, plan, [&](sample_table&) {
              return Reward<bl::value<double>>{.subtract = {std::as_const(b).view(known)}};
            }));
      for (const double shrinkage : {0.0, 0.5, 1.0}) {
        check("variance-minimising", exact_moments(w, plan, [&](sample_table& table) {
                return Reward<bl::variance_minimising<double>>{.subtract = {table.view(norms), shrinkage}};
              }));
      }
    }
  }
}

/// E log (1/m) Σ w_i over a plan, with the world's p(z|x) by `prior`.
real bound(const sampling_plan& plan, const std::vector<real>& log_weight, const std::vector<real>& log_probability) {
  real total = 0;
  for (std::size_t s = 0; s < plan.samples.size(); ++s) {
    std::vector<real> w;
    for (const std::size_t z : plan.samples[s]) w.push_back(log_weight[z]);
    total += std::exp(log_probability[s]) * (test::log_sum_exp(w) - std::log(static_cast<real>(w.size())));
  }
  return total;
}

std::vector<real> sum(std::vector<real> a, const std::vector<real>& b, real factor = 1) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += factor * b[i];
  return a;
}

}  // namespace

TEST_CASE("expected likelihood: unbiased for ∇ E[p(y|x,d_z)], on- and off-policy, with every baseline that says so") {
  const exact_world w(3, 2, 1, 3, 91);
  const auto likelihood = exponentials(w.log_likelihood(0));
  check_unbiased<dro::expected_likelihood>(w, likelihood, likelihood);
}

TEST_CASE("expected log-likelihood: unbiased for ∇ E[log p(y|x,d_z)], on- and off-policy") {
  const exact_world w(3, 2, 1, 3, 91);
  check_unbiased<dro::expected_log_likelihood>(w, w.log_likelihood(0), std::vector<real>(6, 1));
}

TEST_CASE("the group mean gives (m − 1)/m of the gradient, and so is no baseline for one sample") {
  const exact_world w(3, 2, 1, 3, 92);
  const auto truth = expectation_gradient(w, w.log_likelihood(0));
  for (const std::size_t m : {2U, 3U, 5U}) {
    auto found = exact_moments<dro::expected_log_likelihood<bl::group_mean>>(w, from_selector(w, m)).mean;
    for (real& g : found) g *= static_cast<real>(m) / static_cast<real>(m - 1);
    DRO_CHECK_NEAR(norm(difference(found, truth)), 0, rounding);
  }
}

TEST_CASE("the greedy value and leave-one-out lower the variance of a reward far from 0") {
  exact_world w(3, 2, 1, 3, 93);
  for (const std::size_t m : {3U, 5U}) {
    const auto plan = from_selector(w, m);
    const real without = exact_moments<dro::expected_log_likelihood<bl::none>>(w, plan).variance;
    CHECK(exact_moments<dro::expected_log_likelihood<>>(w, plan).variance < without);
  }
}

TEST_CASE("likelihood scales: per query the same direction, absolute with an offset the same number") {
  const exact_world w(3, 2, 1, 3, 94);
  const auto plan = from_selector(w, 3);
  const auto plain = exact_moments<dro::expected_likelihood<>>(w, plan);
  auto shifted = exact_moments(w, plan, [](sample_table&) { return dro::expected_likelihood<>{.log_offset = 3}; }).mean;
  for (real& g : shifted) g *= std::exp(real(-3));
  DRO_CHECK_NEAR(norm(difference(shifted, plain.mean)), 0, rounding);

  // log-likelihoods near −20000 are 0 in every number type; per query nothing is lost.
  dro::host_backend b(1);
  const dro::host_matrix<double> far(1, 3, {-20000.0, -20001.0, -20002.0});
  const dro::host_matrix<double> near(1, 3, {0.0, -1.0, -2.0});
  const auto c = [&](const dro::host_matrix<double>& l, dro::likelihood_scale scale) {
    const auto scores = dro::on_policy(b, l);
    return dro::coefficients(b, dro::expected_likelihood<>{.scale = scale}, scores, dro::importance_weights(b, scores));
  };
  const auto a = c(far, dro::likelihood_scale::per_query);
  const auto expected = c(near, dro::likelihood_scale::absolute);
  CHECK(test::same(a.selector, expected.selector));
  CHECK(test::same(a.generator, expected.generator));
  CHECK(a.log_scale(0, 0) == -20000);
  CHECK(c(far, dro::likelihood_scale::absolute).selector(0, 0) == 0);
}

TEST_CASE("importance-weighted bound: unbiased for ∇ L_m when the selector draws, with and without a baseline") {
  exact_world w(3, 2, 1, 3, 95);
  for (const std::size_t m : {2U, 3U, 5U}) {
    const auto plan = from_selector(w, m);
    const auto truth = test::central_differences(test::elements(w.scores), [&] {
      const auto now = from_selector(w, m);
      return bound(now, w.log_likelihood(0), now.log_probability);
    });
    REQUIRE(norm(truth) > 0.02);
    const auto none = exact_moments<dro::importance_weighted_bound<bl::none>>(w, plan);
    const auto arithmetic = exact_moments<dro::importance_weighted_bound<>>(w, plan);
    const auto geometric = exact_moments<dro::importance_weighted_bound<bl::geometric>>(w, plan);
    DRO_CHECK_NEAR(norm(difference(none.mean, truth)), 0, difference_error);
    DRO_CHECK_NEAR(norm(difference(arithmetic.mean, truth)), 0, difference_error);
    DRO_CHECK_NEAR(norm(difference(geometric.mean, truth)), 0, difference_error);
    CHECK(arithmetic.variance < none.variance);
    CHECK(geometric.variance < none.variance);
    // With one other sample its arithmetic and its geometric mean are the same.
    if (m == 2) DRO_CHECK_NEAR(norm(difference(arithmetic.mean, geometric.mean)), 0, rounding);
  }
}

TEST_CASE("importance-weighted bound with a proposal of its own: unbiased for both") {
  exact_world w(3, 2, 1, 3, 96);
  exact_world proposal(3, 2, 1, 3, 97);  // another Plackett–Luce, whose scores learn too
  for (const std::size_t m : {2U, 4U}) {
    const auto log_weight = [&] { return sum(w.log_joint(0), proposal.log_prior(0), -1); };
    const auto plan = from_proposal(m, proposal.log_prior(0));
    const auto by_selector = test::central_differences(test::elements(w.scores),
                                                       [&] { return bound(plan, log_weight(), plan.log_probability); });
    const auto found = exact_moments<dro::importance_weighted_bound<>>(w, plan);
    DRO_CHECK_NEAR(norm(difference(found.mean, by_selector)), 0, difference_error);

    const auto by_proposal = test::central_differences(test::elements(proposal.scores), [&] {
      const auto now = from_proposal(m, proposal.log_prior(0));
      return bound(now, log_weight(), now.log_probability);
    });
    const auto score = selector_scores(proposal);
    const auto arithmetic = exact_moments(
        w, plan, [](sample_table&) { return dro::importance_weighted_bound_of_proposal<>{}; }, score);
    const auto geometric = exact_moments(
        w, plan, [](sample_table&) { return dro::importance_weighted_bound_of_proposal<bl::geometric>{}; }, score);
    DRO_CHECK_NEAR(norm(difference(arithmetic.mean, by_proposal)), 0, difference_error);
    DRO_CHECK_NEAR(norm(difference(geometric.mean, by_proposal)), 0, difference_error);
  }
}

TEST_CASE("if all other samples are impossible, L_{−i} is a constant that does not depend on the sample") {
  dro::host_backend b(1);
  const auto selector = [&](double l, auto target) {
    const dro::host_matrix<double> likelihood(1, 3, {l, -test::infinity<double>, -test::infinity<double>});
    const auto scores = dro::on_policy(b, likelihood);
    return dro::coefficients(b, target, scores, dro::importance_weights(b, scores)).selector;
  };
  for (const double floor : {0.0, -5.0}) {
    const auto a = selector(-1, dro::importance_weighted_bound<>{floor});
    const auto g = selector(-3, dro::importance_weighted_bound<bl::geometric>{floor});
    DRO_CHECK_NEAR(a(0, 0), -1 - std::log(real(3)) - floor, rounding);
    DRO_CHECK_NEAR(g(0, 0), -3 - std::log(real(3)) - floor, rounding);
    // For the others sample 0 is there: L − log(w_0/2), and with a geometric mean of 0, L − log(w_0/3) = 0.
    DRO_CHECK_NEAR(a(0, 1), std::log(real(2)) - std::log(real(3)), rounding);
    DRO_CHECK_NEAR(g(0, 2), 0, rounding);
  }
}

TEST_CASE("evidence less the ratio: off-policy the mean of plain weights, where centring adds its own bias") {
  const exact_world w(3, 2, 1, 3, 98);
  for (const std::size_t m : {2U, 4U}) {
    const auto plan = from_proposal(m, skewed(w));
    const auto plain = exact_moments<dro::evidence<bl::none>>(w, plan);
    const auto ratio = exact_moments<dro::evidence<bl::ratio>>(w, plan);
    DRO_CHECK_NEAR(norm(difference(plain.mean, ratio.mean)), 0, rounding);
    CHECK(norm(difference(plain.mean, exact_moments<dro::evidence<>>(w, plan).mean)) > 1e-3);
    CHECK(ratio.variance < plain.variance);
  }
}

TEST_CASE("entropy bonus and divergence: exactly their gradients, added to any objective") {
  exact_world w(3, 2, 1, 3, 99);
  const exact_world reference(3, 2, 1, 3, 100);
  const double entropy = 0.3;
  const double divergence = 0.2;
  const auto term = [&] {
    const auto p = w.log_prior(0);
    const auto r = reference.log_prior(0);
    real total = 0;
    for (std::size_t z = 0; z < p.size(); ++z) {
      total -= std::exp(p[z]) * (entropy * p[z] + divergence * (p[z] - r[z]));
    }
    return total;
  };
  const auto truth = test::central_differences(test::elements(w.scores), term);
  REQUIRE(norm(truth) > 0.02);
  const auto check = [&]<class Objective>(Objective target, const sampling_plan& plan) {
    const auto with = exact_moments(w, plan, [&](sample_table& table) {
      return dro::regularised<Objective, double>{target, entropy, divergence, table.view(reference.log_prior(0))};
    });
    const auto without = exact_moments(w, plan, [&](sample_table&) { return target; });
    DRO_CHECK_NEAR(norm(difference(difference(with.mean, without.mean), truth)), 0, difference_error);
    for (std::size_t z = 0; z < with.generator_mean.size(); ++z) {
      CHECK(with.generator_mean[z] == without.generator_mean[z]);
    }
  };
  for (const std::size_t m : {2U, 4U}) {
    for (const auto& plan : {from_selector(w, m), from_proposal(m, skewed(w))}) {
      check(dro::evidence<>{}, plan);
      check(dro::expected_likelihood<>{}, plan);
      check(dro::importance_weighted_bound<>{}, plan);
    }
  }
}

TEST_CASE("dependent draws: leaving out the whole block keeps leave-one-out unbiased, leaving out one draw does not") {
  const exact_world w(3, 2, 1, 3, 101);
  const auto prior = w.log_prior(0);
  const auto truth = expectation_gradient(w, w.log_likelihood(0));
  // The strongest dependence there is: the second draw of a pair is the first. Two pairs.
  sampling_plan plan;
  plan.log_q = prior;
  for (std::size_t a = 0; a < prior.size(); ++a) {
    for (std::size_t c = 0; c < prior.size(); ++c) {
      plan.samples.push_back({a, a, c, c});
      plan.log_probability.push_back(prior[a] + prior[c]);
    }
  }
  plan.traits.block = 2;
  const auto check = [&]<class Objective>(Objective) {
    return norm(difference(exact_moments<Objective>(w, plan).mean, truth));
  };
  DRO_CHECK_NEAR(check(dro::expected_log_likelihood<bl::leave_one_out>{}), 0, rounding);
  const auto bounds = exact_moments<dro::importance_weighted_bound<>>(w, plan).mean;
  const auto geometric = exact_moments<dro::importance_weighted_bound<bl::geometric>>(w, plan).mean;
  const auto unreduced = exact_moments<dro::importance_weighted_bound<bl::none>>(w, plan).mean;
  DRO_CHECK_NEAR(norm(difference(bounds, unreduced)), 0, rounding);
  DRO_CHECK_NEAR(norm(difference(geometric, unreduced)), 0, rounding);
  plan.traits.block = 1;
  CHECK(check(dro::expected_log_likelihood<bl::leave_one_out>{}) > 0.05);
}

TEST_CASE("dependent draws: one block is not enough for a baseline of the others") {
  dro::host_backend b(1);
  const dro::host_matrix<double> likelihood(1, 2, {-1.0, -2.0});
  const auto scores = dro::on_policy(b, likelihood).with({.block = 2}, {});
  const auto w = dro::importance_weights(b, scores);
  CHECK_THROWS_WITH_AS(
      static_cast<void>(dro::coefficients(b, dro::expected_log_likelihood<>{}, scores, w)),
      "samples is 2, but \"expected log-likelihood, leave-one-out\" needs at least 2 independent blocks of 2",
      dro::option_error);
}

TEST_CASE("the numbers themselves, by their formulas") {
  dro::host_backend b(1);
  const dro::host_matrix<double> known(1, 1, {-2.5});
  const auto of = [&](const dro::host_matrix<double>& likelihood, auto target, const dro::draw_traits& traits = {}) {
    const auto scores = dro::on_policy(b, likelihood).with(traits, {});
    return dro::coefficients(b, target, scores, dro::importance_weights(b, scores));
  };
  const dro::host_matrix<double> l(1, 4, {-1.0, -2.0, -4.0, -3.0});
  const std::vector<real> x = {-1, -2, -4, -3};

  // A known value b: (ℓ − b)/m and (f − e^b)/m.
  const auto value = of(l, dro::expected_log_likelihood<bl::value<double>>{{std::as_const(b).view(known)}});
  const auto likelihood = of(l, dro::expected_likelihood<bl::value<double>>{{std::as_const(b).view(known)}});
  // GRPO: mean −2.5, population standard deviation √1.25.
  const auto normalised = of(l, dro::expected_log_likelihood<bl::group_normalised>{});
  for (index_t i = 0; i < 4; ++i) {
    const real reward = x[static_cast<std::size_t>(i)];
    DRO_CHECK_NEAR(value.selector(0, i), (reward + 2.5) / 4, rounding);
    DRO_CHECK_NEAR(likelihood.selector(0, i), (std::exp(reward) - std::exp(real(-2.5))) / 4, rounding);
    DRO_CHECK_NEAR(normalised.selector(0, i), (reward + 2.5) / std::sqrt(real(1.25)) / 4, rounding);
  }

  // Blocks of two: without its block, the bound of a draw is that of the other two, or of those and their geometric
  // mean in the place of both.
  const auto arithmetic = of(l, dro::importance_weighted_bound<>{}, {.block = 2});
  const auto geometric = of(l, dro::importance_weighted_bound<bl::geometric>{}, {.block = 2});
  const real whole = test::log_sum_exp(x) - std::log(real(4));
  const real last_two = test::log_sum_exp({x[2], x[3]});
  DRO_CHECK_NEAR(arithmetic.selector(0, 0), whole - (last_two - std::log(real(2))), rounding);
  DRO_CHECK_NEAR(geometric.selector(0, 1),
                 whole - (test::log_sum_exp({x[2], x[3], real(-3.5), real(-3.5)}) - std::log(real(4))), rounding);

  // One weight is all: what the others come to is still a number, which a difference from the sum would not be.
  const dro::host_matrix<double> far(1, 3, {0.0, -2000.0, -2001.0});
  const auto alone = of(far, dro::importance_weighted_bound<>{});
  DRO_CHECK_NEAR(alone.selector(0, 0),
                 -std::log(real(3)) - (test::log_sum_exp({real(-2000), real(-2001)}) - std::log(real(2))),
                 2000 * rounding);

  // A group that differs by rounding alone has no scale.
  const double large = -20000;
  const dro::host_matrix<double> noise(1, 3, {large, std::nextafter(large, 0.0), large});
  CHECK(of(noise, dro::expected_log_likelihood<bl::group_normalised>{}).status(0, 0) ==
        static_cast<std::int32_t>(dro::status::degenerate));
}
