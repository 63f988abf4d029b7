// SPDX-License-Identifier: Apache-2.0
// Joined draws and numbers of draws decided beforehand, against sums over everything that could have been drawn.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/em/adaptive.hpp>
#include <dro/em/allocation.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/m_step.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/ranking/deduplicate.hpp>

#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using test::exact_world;
using test::real;

using centred = dro::evidence<dro::baseline::centred>;
using leave_one_out = dro::expected_log_likelihood<dro::baseline::leave_one_out>;

/// Everything that `m` independent draws of `kinds` rankings could be, in order: kinds^m lists, the k-th of which holds
/// the digits of k.
struct all_draws {
  std::size_t kinds, m, count = 1;

  all_draws(std::size_t k, std::size_t samples) : kinds(k), m(samples) {
    for (std::size_t i = 0; i < m; ++i) count *= kinds;
  }
  [[nodiscard]] std::size_t kind(std::size_t outcome, std::size_t i) const {
    for (; i > 0; --i) outcome /= kinds;
    return outcome % kinds;
  }
  [[nodiscard]] real probability(std::size_t outcome, const std::vector<real>& log_p) const {
    real total = 0;
    for (std::size_t i = 0; i < m; ++i) total += log_p[kind(outcome, i)];
    return std::exp(total);
  }
  /// One query for each outcome.
  [[nodiscard]] test::world_draws draws(dro::host_backend& b, const exact_world& w) const {
    const auto prior = w.log_prior(0);
    std::vector<test::ranking> rankings;
    std::vector<double> log_p;
    for (std::size_t outcome = 0; outcome < count; ++outcome) {
      for (std::size_t i = 0; i < m; ++i) {
        rankings.push_back(w.rankings[kind(outcome, i)]);
        log_p.push_back(static_cast<double>(prior[kind(outcome, i)]));
      }
    }
    return {b, test::ranking_matrix(rankings), test::column(log_p),
            dro::grouping::uniform(static_cast<index_t>(count), static_cast<index_t>(m))};
  }
};

/// Mean and total variance of the selector's gradient Σ c_i ∇ log p(z_i), and the mean of Σ c′_i at each ranking.
struct moments {
  std::vector<real> mean, generator_mean;
  real variance = 0;
};

/// Over queries that are the outcomes of `all`, with these draws of each.
template <class Objective>
moments exact_moments(const exact_world& w, const all_draws& all, const test::world_draws& z,
                      const std::vector<real>& log_likelihood) {
  dro::host_backend b(1);
  const index_t total = z.groups().total();
  dro::host_matrix<double> likelihood(total, 1);
  std::vector<std::size_t> kind_of;
  for (index_t i = 0; i < total; ++i) {
    const auto ranking = test::ranking_of(z.rankings(), i);
    std::size_t kind = 0;
    while (w.rankings[kind] != ranking) ++kind;
    kind_of.push_back(kind);
    likelihood(i, 0) = static_cast<double>(log_likelihood[kind]);
  }
  const auto scores = dro::on_policy(b, likelihood, z);
  const auto c = dro::coefficients(b, Objective{}, scores, dro::importance_weights(b, scores), 1);
  const auto prior = w.log_prior(0);
  std::vector<std::vector<real>> score;
  for (const auto& r : w.rankings) score.push_back(test::plackett_luce_score(test::row(w.scores, 0), r));

  moments result;
  result.mean.assign(score[0].size(), 0);
  result.generator_mean.assign(w.rankings.size(), 0);
  real second = 0;
  for (std::size_t outcome = 0; outcome < all.count; ++outcome) {
    const auto q = static_cast<index_t>(outcome);
    const real probability = all.probability(outcome, prior);
    std::vector<real> gradient(result.mean.size(), 0);
    for (index_t i = z.groups().begin(q); i < z.groups().begin(q) + z.groups().size(q); ++i) {
      const std::size_t kind = kind_of[static_cast<std::size_t>(i)];
      for (std::size_t j = 0; j < gradient.size(); ++j) gradient[j] += c.selector(i, 0) * score[kind][j];
      result.generator_mean[kind] += probability * c.generator(i, 0);
    }
    for (std::size_t j = 0; j < gradient.size(); ++j) {
      result.mean[j] += probability * gradient[j];
      second += probability * gradient[j] * gradient[j];
    }
  }
  result.variance = second;
  for (const real g : result.mean) result.variance -= g * g;
  return result;
}

/// The first n(outcome) draws of each outcome, joined.
template <class Objective, class Count>
moments moments_of_first(const exact_world& w, const all_draws& all, const Count& n) {
  dro::host_backend b(1);
  std::vector<std::int32_t> offsets{0};
  for (std::size_t outcome = 0; outcome < all.count; ++outcome) {
    offsets.push_back(offsets.back() + static_cast<std::int32_t>(n(outcome)));
  }
  auto z = deduplicate(b, take_first(b, all.draws(b, w), test::column(offsets), offsets.back()));
  return exact_moments<Objective>(w, all, z, w.log_likelihood(0));
}

real distance(const std::vector<real>& a, const std::vector<real>& b) {
  real squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(squares);
}

// Coefficients are rounded to about 30 u (typed/test_coefficients.cpp), times scores below 2, summed with weights that
// sum to 1; log-likelihoods up to 8 nats multiply those of leave-one-out.
constexpr real rounding = 1e-13;

template <class Objective>
void check_given_counts() {
  const exact_world w(3, 2, 1, 3, 91);
  const all_draws four(6, 4);
  dro::host_backend b(1);
  for (const std::size_t m : {2U, 3U, 4U}) {
    const all_draws fixed(6, m);
    const auto expected = exact_moments<Objective>(w, fixed, fixed.draws(b, w), w.log_likelihood(0));
    const auto found = moments_of_first<Objective>(w, four, [&](std::size_t) { return m; });
    CHECK(distance(expected.mean, std::vector<real>(3, 0)) > 0.01);
    DRO_CHECK_NEAR(distance(found.mean, expected.mean), 0, rounding);
    DRO_CHECK_NEAR(distance(found.generator_mean, expected.generator_mean), 0, rounding);
    DRO_CHECK_NEAR(found.variance, expected.variance, rounding);
  }
}

}  // namespace

TEST_CASE("given its number of draws, a query's estimator is that of fixed m: mean and variance") {
  check_given_counts<centred>();
  check_given_counts<leave_one_out>();
}

TEST_CASE("a number that looked at its own draws would change the mean: why it depends on earlier steps only") {
  const exact_world w(3, 2, 1, 3, 91);
  const all_draws all(6, 4);
  dro::host_backend b(1);
  const auto fixed = [&](std::size_t m) {
    return moments_of_first<leave_one_out>(w, all, [&](std::size_t) { return m; }).mean;
  };
  // Leave-one-out is unbiased for every m, so any mixture of fixed numbers has the same mean.
  DRO_CHECK_NEAR(distance(fixed(2), fixed(4)), 0, rounding);
  const auto peeking = moments_of_first<leave_one_out>(
      w, all, [&](std::size_t outcome) { return all.kind(outcome, 0) == all.kind(outcome, 1) ? 4U : 2U; });
  CHECK(distance(peeking.mean, fixed(4)) > 0.01);
}

TEST_CASE("at equal numbers of draws the gradient of unlike queries has a smaller error") {
  // Five queries whose answers hardly depend on the documents, and three where they do.
  exact_world w(3, 2, 8, 3, 95);
  for (index_t row = 0; row < 5 * w.size(); ++row) {
    for (index_t a = 0; a < w.answers; ++a) w.logits(row, a) /= 30;
  }
  exact_world moved = w;
  const auto truth = test::central_differences(test::elements(moved.scores), [&] { return moved.mean_log_evidence(); });
  dro::host_backend b(1);
  auto selector = w.selector(b);
  auto generator = w.generator(b);
  const std::vector<index_t> positions{0, 1, 2, 3, 4, 5, 6, 7};
  constexpr int steps = 400;
  // Mean of ‖g − ∇‖², and twice its standard error.
  const auto squared_error = [&](const auto& e_step) {
    real sum = 0;
    real squares = 0;
    for (int i = 0; i < steps; ++i) {
      auto e = e_step();
      test::gradient_recorder recorder;
      dro::m_step(b, selector, generator, w.all(), e, centred{}, recorder, dro::frozen{});
      const auto g = test::elements(recorder.gradient);
      const real error = std::pow(distance({g.begin(), g.end()}, truth), 2.0L);
      sum += error / steps;
      squares += error * error / steps;
    }
    return std::pair(sum, 2 * std::sqrt((squares - sum * sum) / steps));
  };
  dro::random_state<dro::host_backend> random(b, 12);
  dro::sample_allocation<dro::host_backend> allocation(b, 8, {.samples = 6, .least = 2, .most = 24});
  const auto adaptive_step = [&] {
    return dro::adaptive_e_step(b, selector, generator, w.all(), positions, 2, allocation, random);
  };
  for (int i = 0; i < 10; ++i) static_cast<void>(adaptive_step());
  const auto [adaptive, adaptive_margin] = squared_error(adaptive_step);
  const auto [fixed, fixed_margin] = squared_error([&] {
    return dro::e_step(b, selector, generator, w.all(), {6, 2}, random);
  });
  // Eight queries of 6 draws; Neyman's rule would give the three 2 or 3 times as many, less what exploration and prior
  // hold back: an error smaller by more than a quarter, four standard errors apart.
  CAPTURE(adaptive);
  CAPTURE(fixed);
  CHECK(adaptive + adaptive_margin < fixed - fixed_margin);
  CHECK(adaptive < 0.75 * fixed);
}

TEST_CASE("sets joined on-policy: the generator's gradient as it was, the selector's in the mean, with more variance") {
  exact_world w(3, 2, 1, 3, 91);
  // A generator that ignores the order: the likelihood of a ranking is that of its documents ascending.
  auto likelihood = w.log_likelihood(0);
  std::vector<std::size_t> ascending;
  for (const auto& z : w.rankings) {
    std::size_t kind = 0;
    const test::ranking sorted{std::min(z[0], z[1]), std::max(z[0], z[1])};
    while (w.rankings[kind] != sorted) ++kind;
    ascending.push_back(kind);
  }
  for (std::size_t z = 0; z < likelihood.size(); ++z) likelihood[z] = likelihood[ascending[z]];
  const auto by_set = [&](const std::vector<real>& of_rankings) {
    std::vector<real> sums(of_rankings.size(), 0);
    for (std::size_t z = 0; z < sums.size(); ++z) sums[ascending[z]] += of_rankings[z];
    return sums;
  };
  dro::host_backend b(1);
  const all_draws all(6, 4);
  const auto check = [&]<class Objective>(const Objective&) {
    const auto apart = exact_moments<Objective>(w, all, all.draws(b, w), likelihood);
    const auto joined =
        exact_moments<Objective>(w, all, deduplicate(b, all.draws(b, w), {.as_sets = true}), likelihood);
    CHECK(distance(apart.mean, std::vector<real>(3, 0)) > 0.01);
    DRO_CHECK_NEAR(distance(by_set(joined.generator_mean), by_set(apart.generator_mean)), 0, rounding);
    DRO_CHECK_NEAR(distance(joined.mean, apart.mean), 0, rounding);
    CHECK(joined.variance > 1.05 * apart.variance);
  };
  check(centred{});
  check(leave_one_out{});
}

TEST_CASE("without multiplicities the estimator of the evidence's gradient is not consistent") {
  // As m grows every ranking has been drawn, and those of small p count as much as the others: the mean of the
  // generator's coefficients tends to the normalised likelihoods, not to the posterior.
  const exact_world w(3, 1, 1, 3, 94);
  dro::host_backend b(1);
  const auto posterior = w.posterior(0);
  const auto error = [&](std::size_t m, bool keep) {
    const all_draws all(3, m);
    const auto z = deduplicate(b, all.draws(b, w), {.keep_multiplicity = keep});
    return distance(exact_moments<dro::evidence<dro::baseline::none>>(w, all, z, w.log_likelihood(0)).generator_mean,
                    posterior);
  };
  CHECK(error(9, true) < error(3, true) / 2);
  CHECK(error(9, false) > error(9, true) * 2);
  const auto limit = test::softmax(w.log_likelihood(0));
  CHECK(distance(limit, posterior) > 0.05);
}
