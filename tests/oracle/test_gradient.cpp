// SPDX-License-Identifier: Apache-2.0
// Fisher's identity and the ascent of EM: the M-step against the exact gradient of the exact evidence.
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/m_step.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/ranking/enumerate.hpp>

#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using test::exact_world;
using test::real;

template <class Objective>
std::pair<dro::host_matrix<double>, dro::host_matrix<double>> exact_gradients(const exact_world& w, Objective target) {
  dro::host_backend b(1);
  auto selector = w.selector(b);
  auto generator = w.generator(b);
  dro::random_state<dro::host_backend> random(b, 1);
  auto e = dro::e_step(b, selector, generator, dro::exhaustive<double>(w.documents), w.all(), {1, w.picks}, random);
  test::gradient_recorder for_selector;
  test::gradient_recorder for_generator;
  dro::m_step(b, selector, generator, w.all(), e, target, for_selector, for_generator);
  return {for_selector.gradient, for_generator.gradient};
}

void check_gradient(const dro::host_matrix<double>& found, const std::vector<real>& expected) {
  const real size = test::largest_magnitude(expected);
  CHECK(size > 0.01);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    DRO_CHECK_NEAR(found.data()[i], expected[i], 1e-6 * size);  // 1e-10 of the difference quotient, see reference.hpp
  }
}

}  // namespace

TEST_CASE_TEMPLATE(
    "Fisher's identity: with the exact posterior, the M-step's direction is the gradient of the evidence", Objective,
    dro::evidence<dro::baseline::none>, dro::evidence<dro::baseline::centred>) {
  for (const auto& [n, k] : {std::pair<index_t, index_t>{4, 2}, {3, 3}}) {
    exact_world w(n, k, 2, 3, 81);
    const auto [selector, generator] = exact_gradients(w, Objective{});
    check_gradient(selector,
                   test::central_differences(test::elements(w.scores), [&] { return w.mean_log_evidence(); }));
    check_gradient(generator,
                   test::central_differences(test::elements(w.logits), [&] { return w.mean_log_evidence(); }));
  }
}

TEST_CASE("with every ranking drawn, expected log-likelihood follows the gradient of Σ p(z|x) log p(y|x,d_z)") {
  // All rankings once with q uniform is not a sample of independent draws: what leave-one-out takes off,
  // Σ_{j≠i} ρ_j ℓ_j / (m − 1), depends on ρ_i. The part that does not cancel is Σ ρ_i² ℓ_i ∇ log p_i / (m (m − 1)).
  exact_world w(4, 2, 1, 3, 82);
  const auto [selector, generator] = exact_gradients(w, dro::expected_log_likelihood<>{});
  const auto prior = w.log_prior(0);
  const auto likelihood = w.log_likelihood(0);
  const auto m = static_cast<real>(w.size());
  std::vector<real> expected = test::central_differences(test::elements(w.scores), [&] {
    const auto p = w.log_prior(0);
    real sum = 0;
    for (std::size_t z = 0; z < p.size(); ++z) sum += std::exp(p[z]) * likelihood[z];
    return sum;
  });
  for (std::size_t z = 0; z < prior.size(); ++z) {
    const real rho = m * std::exp(prior[z]);
    const auto score = test::plackett_luce_score(test::row(w.scores, 0), w.rankings[z]);
    for (std::size_t j = 0; j < score.size(); ++j) expected[j] += rho * rho * likelihood[z] * score[j] / (m * (m - 1));
  }
  check_gradient(selector, expected);
  check_gradient(generator, test::central_differences(test::elements(w.logits), [&] {
                   const auto values = w.log_likelihood(0);
                   real sum = 0;
                   for (std::size_t z = 0; z < values.size(); ++z) sum += std::exp(prior[z]) * values[z];
                   return sum;
                 }));
}

namespace {

/// Runs 50 EM iterations with an exact E-step; the exact evidence before the first and after each.
template <class Objective>
std::vector<real> exact_em(exact_world w, Objective target, index_t gradient_steps, bool selector_too,
                           bool generator_too) {
  dro::host_backend b(1);
  auto selector = w.selector(b);
  auto generator = w.generator(b);
  dro::random_state<dro::host_backend> random(b, 1);
  // The Hessian of log p(y|x) is a covariance plus the posterior mean of softmax Hessians, each of which bends down by
  // at most ½: K/2 = 1 a query, halved by the mean over two. A step η times the gradient rises for η < 2 / ½ = 4.
  dro::sgd<dro::host_backend> selector_optimizer(b, {.learning_rate = 0.2});
  dro::sgd<dro::host_backend> generator_optimizer(b, {.learning_rate = 0.2});
  dro::frozen still;
  std::vector<real> evidence = {w.mean_log_evidence()};
  for (int i = 0; i < 50; ++i) {
    auto e = dro::e_step(b, selector, generator, dro::exhaustive<double>(w.documents), w.all(), {1, w.picks}, random);
    const dro::m_step_options options{gradient_steps, 0};
    if (selector_too && generator_too) {
      dro::m_step(b, selector, generator, w.all(), e, target, selector_optimizer, generator_optimizer, options);
    } else if (selector_too) {
      dro::m_step(b, selector, generator, w.all(), e, target, selector_optimizer, still, options);
    } else {
      dro::m_step(b, selector, generator, w.all(), e, target, still, generator_optimizer, options);
    }
    w.scores = selector.scores();
    generator.for_each_parameter([&](dro::matrix_view<double> value, auto) { b.read<double>(value, w.logits.data()); });
    evidence.push_back(w.mean_log_evidence());
  }
  return evidence;
}

void check_rising(const std::vector<real>& evidence, real at_least) {
  REQUIRE(evidence.size() == 51);
  int falls = 0;
  for (std::size_t i = 1; i < evidence.size(); ++i) falls += evidence[i] < evidence[i - 1] ? 1 : 0;
  CHECK(falls == 0);
  CHECK(evidence.back() - evidence.front() > at_least);
  CHECK(evidence.back() < 0);
}

}  // namespace

TEST_CASE("with an exact E-step the evidence never falls over 50 M-steps") {
  const exact_world w(4, 2, 2, 3, 83);
  const dro::evidence<dro::baseline::none> plain;
  check_rising(exact_em(w, plain, 1, true, true), 0.1);
  check_rising(exact_em(w, plain, 5, true, true), 0.3);  // the weights are kept: each step raises the bound
  check_rising(exact_em(w, plain, 1, true, false), 0.05);
  check_rising(exact_em(w, plain, 1, false, true), 0.05);
  const dro::evidence<dro::baseline::centred> centred;
  check_rising(exact_em(w, centred, 1, true, true), 0.1);
  check_rising(exact_em(w, centred, 5, true, true), 0.3);  // weighed again before each step
  // Exact E-step and one step: the two are the same update, so centring changes the path by rounding only.
  const auto a = exact_em(w, plain, 1, true, true);
  const auto c = exact_em(w, centred, 1, true, true);
  for (std::size_t i = 0; i < a.size(); ++i) DRO_CHECK_NEAR(a[i], c[i], 1e-12);
}

TEST_CASE("a frozen model stays as it is and is asked for no gradient") {
  const exact_world w(3, 2, 1, 2, 84);
  dro::host_backend b(1);
  auto selector = w.selector(b);
  auto generator = w.generator(b);
  dro::random_state<dro::host_backend> random(b, 1);
  dro::sgd<dro::host_backend> moving(b, {.learning_rate = 0.5});
  dro::frozen still;
  auto e = dro::e_step(b, selector, generator, w.all(), {8, 2}, random);
  dro::m_step(b, selector, generator, w.all(), e, dro::evidence<>{}, still, moving);
  CHECK(test::same(selector.scores(), w.scores));
  for (const double g : test::elements(selector.gradient())) CHECK(g == 0);
  generator.for_each_parameter([&](dro::matrix_view<double> value, auto) {
    dro::host_matrix<double> now(value.rows, value.cols);
    b.read<double>(value, now.data());
    CHECK_FALSE(test::same(now, w.logits));
  });
}

TEST_CASE("several steps: plain weights are kept, centred ones are made anew") {
  const exact_world w(4, 2, 2, 3, 85);
  const auto run = [&](auto target) {
    dro::host_backend b(1);
    auto selector = w.selector(b);
    auto generator = w.generator(b);
    dro::random_state<dro::host_backend> random(b, 6);
    dro::sgd<dro::host_backend> so(b, {.learning_rate = 0.5});
    dro::sgd<dro::host_backend> go(b, {.learning_rate = 0.5});
    auto e = dro::e_step(b, selector, generator, w.all(), {6, 2}, random);
    const auto first = e.weights.normalised;
    dro::m_step(b, selector, generator, w.all(), e, target, so, go, {3, 0});
    return std::pair(test::same(first, e.weights.normalised), e.selector_drew);
  };
  CHECK(run(dro::evidence<dro::baseline::none>{}) == std::pair(true, true));
  CHECK(run(dro::evidence<dro::baseline::centred>{}) == std::pair(false, false));
  dro::host_backend b(1);
  auto selector = w.selector(b);
  auto generator = w.generator(b);
  dro::random_state<dro::host_backend> random(b, 6);
  dro::frozen still;
  auto e = dro::e_step(b, selector, generator, w.all(), {6, 2}, random);
  CHECK_THROWS_WITH_AS(dro::m_step(b, selector, generator, w.all(), e, dro::evidence<>{}, still, still, {0, 0}),
                       "M-step: steps is 0, expected 1 or more", dro::option_error);
}
