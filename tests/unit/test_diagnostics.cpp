// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/estimate/diagnostics.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;
using backend = dro::host_backend;
using draws = dro::draws<backend, double>;
using matrix = dro::host_matrix<double>;

/// One ranking a draw, of log q 0.
draws drawn(backend& b, const std::vector<test::ranking>& rankings, index_t queries, dro::draw_traits traits = {}) {
  const auto total = static_cast<index_t>(rankings.size());
  return {b, test::ranking_matrix(rankings), matrix(total, 1),
          dro::grouping::uniform(queries, queries == 0 ? 0 : total / queries), traits};
}

/// Draws of which only the number matters.
draws same_rankings(backend& b, index_t queries, index_t samples, dro::draw_traits traits = {}) {
  return drawn(b, std::vector<test::ranking>(static_cast<std::size_t>(queries * samples), {0}), queries, traits);
}

/// Standard error of the mean of x over that mean, from the textbook: s/√N / mean.
real relative_error(const std::vector<real>& x) {
  const auto n = static_cast<real>(x.size());
  real mean = 0;
  for (const real v : x) mean += v / n;
  real squares = 0;
  for (const real v : x) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / (n - 1) / n) / mean;
}

}  // namespace

TEST_CASE("weight diagnostics are what their definitions say, with and without multiplicities") {
  backend b(1);
  constexpr index_t queries = 5;
  constexpr index_t size = 7;
  const auto prior = test::random_matrix<double>(queries * size, 1, -4, -1, 31);
  const auto proposal = test::random_matrix<double>(queries * size, 1, -4, -1, 32);
  auto likelihood = test::random_matrix<double>(queries * size, 1, -9, -2, 33);
  likelihood(3, 0) = -test::infinity<double>;
  test::numbers next(34);
  for (const bool joined : {false, true}) {
    draws z(b, test::ranking_matrix(std::vector<test::ranking>(queries * size, {0})), proposal,
            dro::grouping::uniform(queries, size));
    matrix copies(queries * size, 1);
    for (double& n : test::elements(copies)) n = joined ? static_cast<double>(next.word() % 4) : 1.0;
    if (joined) z.set_multiplicity(b, copies);
    const auto scores = dro::off_policy(b, prior, likelihood, z);
    const auto w = dro::importance_weights(b, scores);
    const auto d = dro::diagnose_weights(b, scores, w);
    for (index_t q = 0; q < queries; ++q) {
      std::vector<real> weights;  // every copy by itself
      for (index_t i = q * size; i < (q + 1) * size; ++i) {
        const real v = std::exp(static_cast<real>(prior(i, 0)) + likelihood(i, 0) - proposal(i, 0));
        for (int c = 0; c < static_cast<int>(copies(i, 0)); ++c) weights.push_back(v);
      }
      const auto m = static_cast<real>(weights.size());
      REQUIRE(m > 1);
      real sum = 0;
      real squares = 0;
      real entropy = 0;
      for (const real v : weights) sum += v;
      for (const real v : weights) squares += v / sum * v / sum;
      for (const real v : weights) entropy -= v > 0 ? v / sum * std::log(v / sum) : 0;
      CHECK(d.samples(q, 0) == static_cast<double>(m));
      // Weights are rounded to about 30 u (typed/test_importance_weights.cpp), and no result exceeds 28 = 7 · 4.
      constexpr real tolerance = 1e-13;
      DRO_CHECK_NEAR(d.chi_square(q, 0), m * squares - 1, tolerance);
      DRO_CHECK_NEAR(d.chi_square(q, 0), m / static_cast<real>(w.effective_sample_size(q, 0)) - 1, tolerance);
      DRO_CHECK_NEAR(d.standard_error(q, 0), relative_error(weights), tolerance);
      DRO_CHECK_NEAR(d.perplexity(q, 0), std::exp(entropy), tolerance);
    }
  }
}

TEST_CASE("draws in blocks: the standard error is that of the blocks' means") {
  backend b(1);
  const auto likelihood = test::random_matrix<double>(3, 12, -4, 0, 41);
  for (const index_t block : {2, 3, 6}) {
    const auto z = same_rankings(b, 3, 12, {.block = block});
    const auto scores = dro::on_policy(b, likelihood, z);
    const auto d = dro::diagnose_weights(b, scores, dro::importance_weights(b, scores));
    for (index_t q = 0; q < 3; ++q) {
      std::vector<real> means(static_cast<std::size_t>(12 / block), 0);
      for (index_t i = 0; i < 12; ++i) {
        means[static_cast<std::size_t>(i / block)] += std::exp(static_cast<real>(likelihood(q, i)));
      }
      DRO_CHECK_NEAR(d.standard_error(q, 0), relative_error(means), 1e-14);
    }
  }
  // A single block says nothing of its own error.
  const auto z = same_rankings(b, 3, 12, {.block = 12});
  const auto scores = dro::on_policy(b, likelihood, z);
  const auto d = dro::diagnose_weights(b, scores, dro::importance_weights(b, scores));
  for (index_t q = 0; q < 3; ++q) CHECK(std::isnan(d.standard_error(q, 0)));
  CHECK(d.chi_square(0, 0) > 0);
}

TEST_CASE("weights that are almost equal keep their small variance") {
  backend b(1);
  // w = 1 ± 2^-10 in float: χ² = 2^-20, of which m/ESS − 1 would keep about one bit in eight.
  dro::host_matrix<float> likelihood(1, 8);
  for (index_t i = 0; i < 8; ++i) likelihood(0, i) = static_cast<float>(std::log1p((i % 2 == 0 ? 1 : -1) * 0x1p-10));
  const auto scores = dro::on_policy(b, likelihood);
  const auto d = dro::diagnose_weights(b, scores, dro::importance_weights(b, scores));
  // ℓ is rounded by 2^-35 and each weight by a few 2^-25 of itself: 2^-13 of the differences, doubled by the square.
  DRO_CHECK_NEAR(d.chi_square(0, 0), 0x1p-20L, 0x1p-20L * 0x1p-11L);
  DRO_CHECK_NEAR(d.standard_error(0, 0), std::sqrt(0x1p-20L / 7), 0x1p-10L * 0x1p-11L);
}

TEST_CASE("weight diagnostics at the edges") {
  backend b(1);
  SUBCASE("one sample: no standard error") {
    const matrix likelihood(1, 1, {-20000});
    const auto scores = dro::on_policy(b, likelihood);
    const auto d = dro::diagnose_weights(b, scores, dro::importance_weights(b, scores));
    CHECK(std::isnan(d.standard_error(0, 0)));
    CHECK(d.chi_square(0, 0) == 0);
    CHECK(d.perplexity(0, 0) == 1);
    CHECK(d.samples(0, 0) == 1);
  }
  SUBCASE("one possible sample of many: the largest error that can be stated") {
    constexpr double none = -test::infinity<double>;
    const matrix likelihood(1, 4, {none, -3, none, none});
    const auto scores = dro::on_policy(b, likelihood);
    const auto d = dro::diagnose_weights(b, scores, dro::importance_weights(b, scores));
    DRO_CHECK_NEAR(d.standard_error(0, 0), 1, 1e-15);
    DRO_CHECK_NEAR(d.chi_square(0, 0), 3, 1e-15);
    CHECK(d.perplexity(0, 0) == 1);
  }
  SUBCASE("queries that are not used") {
    constexpr double none = -test::infinity<double>;
    const matrix likelihood(3, 2, {none, none, 0, test::nan<double>, 0, test::infinity<double>});
    const auto scores = dro::on_policy(b, likelihood);
    const auto d = dro::diagnose_weights(b, scores, dro::importance_weights(b, scores));
    for (index_t q = 0; q < 3; ++q) {
      CHECK(std::isnan(d.standard_error(q, 0)));
      CHECK(std::isnan(d.chi_square(q, 0)));
      CHECK(std::isnan(d.perplexity(q, 0)));
      CHECK(d.samples(q, 0) == 2);
    }
  }
  SUBCASE("no queries") {
    const auto z = same_rankings(b, 0, 0);
    const matrix likelihood(0, 1);
    const auto scores = dro::on_policy(b, likelihood, z);
    CHECK(dro::diagnose_weights(b, scores, dro::importance_weights(b, scores)).samples.rows() == 0);
    CHECK(dro::diagnose_draws(b, z, scores).distinct.rows() == 0);
  }
  SUBCASE("weights of other queries") {
    const matrix two(2, 3);
    const matrix three(3, 3);
    const auto w = dro::importance_weights(b, dro::on_policy(b, two));
    CHECK_THROWS_AS(static_cast<void>(dro::diagnose_weights(b, dro::on_policy(b, three), w)), dro::shape_error);
  }
}

TEST_CASE("equal weights: hits tell no sample with the answer from all of them") {
  backend b(1);
  // Query 0: no document helps, all at what the generator says without any. Query 1: all help as much.
  const matrix likelihood(2, 4, {-30, -30, -30, -30, -2, -2, -2, -2});
  const auto z = same_rankings(b, 2, 4);
  const auto scores = dro::on_policy(b, likelihood, z);
  const auto w = dro::importance_weights(b, scores);
  const auto d = dro::diagnose_weights(b, scores, w);
  for (index_t q = 0; q < 2; ++q) {
    CHECK(w.effective_sample_size(q, 0) == 4);
    CHECK(d.chi_square(q, 0) == 0);
    CHECK(d.standard_error(q, 0) == 0);
  }
  const matrix without(2, 1, {-30, -30});
  const auto told = dro::diagnose_draws(b, z, scores, {.floor = std::as_const(b).view(without)});
  CHECK(told.hit_share(0, 0) == 0);
  CHECK(told.hit_share(1, 0) == 1);
  // Nobody who was told nothing guesses.
  const auto unknown = dro::diagnose_draws(b, z, scores);
  CHECK(std::isnan(unknown.hit_share(0, 0)));
  CHECK(std::isnan(unknown.hit_share(1, 0)));
}

TEST_CASE("what is a hit") {
  backend b(1);
  constexpr double none = -test::infinity<double>;
  const double gain = std::log(2.0);
  // Floors −5 and −inf; NaN is no floor.
  const matrix likelihood(3, 4, {-5 + 0.99 * gain, -5 + 1.01 * gain, -9, -1, -1e4, none, none, -1, 0, 0, 0, 0});
  const matrix floor(3, 1, {-5, none, test::nan<double>});
  const auto z = same_rankings(b, 3, 4);
  const auto scores = dro::on_policy(b, likelihood, z);
  const auto share = [&](const dro::hit_rule<double>& rule, index_t q) {
    return dro::diagnose_draws(b, z, scores, rule).hit_share(q, 0);
  };
  const auto view = std::as_const(b).view(floor);
  SUBCASE("above a floor by the gain") {
    CHECK(share({.floor = view}, 0) == 0.5);
    CHECK(share({.floor = view}, 1) == 0.5);
    CHECK(std::isnan(share({.floor = view}, 2)));
    CHECK(share({.floor = view, .gain = 0}, 0) == 0.75);
    CHECK(share({.floor = view, .gain = 4.5}, 0) == 0);
  }
  SUBCASE("above a threshold") {
    CHECK(share({.threshold = -2}, 0) == 0.25);
    CHECK(share({.threshold = -2}, 1) == 0.25);
    CHECK(share({.threshold = -2}, 2) == 1);
    CHECK(share({.threshold = none}, 1) == 0.5);
  }
  SUBCASE("as stated, whatever the likelihood") {
    const dro::host_matrix<std::int32_t> stated(3, 4, {0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 7, 1});
    const dro::hit_rule<double> rule{.stated = std::as_const(b).view(stated)};
    CHECK(share(rule, 0) == 0);
    CHECK(share(rule, 1) == 0.25);
    CHECK(share(rule, 2) == 1);
  }
  SUBCASE("a query in which nothing is possible has no hit, one with NaN is unknown") {
    const matrix spoilt(3, 4, {none, none, none, none, 0, 0, test::nan<double>, 0, 0, 0, 0, 0});
    const auto empty = dro::on_policy(b, spoilt, z);
    const auto d = dro::diagnose_draws(b, z, empty, {.threshold = -2});
    CHECK(d.hit_share(0, 0) == 0);
    CHECK(std::isnan(d.hit_share(1, 0)));
    CHECK(d.hit_share(2, 0) == 1);
  }
  SUBCASE("refused") {
    const auto diagnose = [&](const dro::hit_rule<double>& rule) {
      static_cast<void>(dro::diagnose_draws(b, z, scores, rule));
    };
    CHECK_THROWS_WITH_AS(diagnose({.floor = view, .threshold = 1}),
                         "hit_rule: 2 of stated, floor and threshold, expected at most one", dro::option_error);
    CHECK_THROWS_AS(diagnose({.floor = view, .gain = test::nan<double>}), dro::option_error);
    CHECK_THROWS_AS(diagnose({.floor = view, .gain = test::infinity<double>}), dro::option_error);
    const matrix two(2, 1);
    CHECK_THROWS_AS(diagnose({.floor = std::as_const(b).view(two)}), dro::shape_error);
    const dro::host_matrix<std::int32_t> five(5, 1);
    CHECK_THROWS_AS(diagnose({.stated = std::as_const(b).view(five)}), dro::shape_error);
  }
}

TEST_CASE("distinct rankings and hits of draws with multiplicities") {
  backend b(1);
  const std::vector<test::ranking> rankings{{0, 1},  {1, 0}, {0, 1},  {0, 2},     // 3 of 4
                                            {2, 1},  {2, 1}, {2, 1},  {2, 1},     // 1
                                            {0, -1}, {0, 1}, {0, -1}, {-1, -1}};  // 3
  auto z = drawn(b, rankings, 3);
  const matrix likelihood(12, 1, {0, 0, 0, -9, 0, 0, 0, 0, 0, -9, -9, -9});
  const auto distinct = [&] {
    const auto d = dro::diagnose_draws(b, z, dro::on_policy(b, likelihood, z), {.threshold = -1});
    return std::pair(test::row(d.distinct, 0)[0] * 100 + test::row(d.distinct, 1)[0] * 10 + d.distinct(2, 0),
                     std::vector<double>{d.hit_share(0, 0), d.hit_share(1, 0), d.hit_share(2, 0)});
  };
  CHECK(distinct().first == 313);
  CHECK(distinct().second == std::vector<double>{0.75, 1, 0.25});
  // A draw of multiplicity 0 is not there: neither its ranking nor its hit.
  z.set_multiplicity(b, matrix(12, 1, {3, 0, 0, 1, 1, 1, 1, 1, 0, 1, 3, 0}));
  CHECK(distinct().first == 212);
  CHECK(distinct().second == std::vector<double>{0.75, 1, 0});
  const dro::host_matrix<std::int32_t> stated(12, 1, {1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0});
  const auto d = dro::diagnose_draws(b, z, dro::on_policy(b, likelihood, z), {.stated = b.view(stated)});
  CHECK(d.hit_share(0, 0) == 0.75);
  CHECK(d.hit_share(1, 0) == 0.25);
  CHECK(d.hit_share(2, 0) == 0);
}

TEST_CASE("kept mass is what the selector has on the rankings that a truncated proposal draws") {
  backend b(1);
  const matrix scores(2, 4, {1, 0, -1, -2, 3, 3, 0, 0});
  dro::random_state<backend> random(b, 5);
  const auto likelihood_of = [](const draws& z) { return matrix(z.groups().total(), 1); };
  const auto kept = [&](const draws& z) {
    const auto likelihood = likelihood_of(z);
    return dro::diagnose_draws(b, z, dro::on_policy(b, likelihood, z)).kept_mass;
  };
  SUBCASE("one pick: known to every draw") {
    const auto z = dro::draw_plackett_luce(b, scores, random.source(b), {6, 1}, {.top_k = 2});
    const auto found = kept(z);
    for (index_t q = 0; q < 2; ++q) {
      const auto p = test::softmax(test::row(scores, q));
      DRO_CHECK_NEAR(found(q, 0), p[0] + p[1], 1e-14);
    }
  }
  SUBCASE("two picks: unbiased") {
    constexpr index_t samples = 4000;
    const auto z = dro::draw_plackett_luce(b, scores, random.source(b), {samples, 2}, {.top_k = 2});
    const auto found = kept(z);
    for (index_t q = 0; q < 2; ++q) {
      real mass = 0;
      std::set<test::ranking> support;
      for (index_t i = 0; i < samples; ++i) support.insert(test::ranking_of(z.rankings(), q * samples + i));
      for (const auto& r : support) mass += std::exp(test::plackett_luce_log_prob(test::row(scores, q), r));
      real squares = 0;
      for (index_t i = 0; i < samples; ++i) {
        const real d = std::exp(static_cast<real>(z.log_kept()(q * samples + i, 0))) - mass;
        squares += d * d;
      }
      // Four standard errors, and the rounding of a sum where all draws keep the same.
      DRO_CHECK_NEAR(found(q, 0), mass, 4 * std::sqrt(squares) / samples + 1e-13);
      CHECK(mass < 0.95);
    }
  }
  SUBCASE("nothing truncated, and nobody knows how much") {
    CHECK(kept(dro::draw_plackett_luce(b, scores, random.source(b), {6, 1}))(0, 0) == 1);
    CHECK(std::isnan(kept(same_rankings(b, 2, 3, {.covers = false}))(0, 0)));
  }
}

TEST_CASE("diagnostics wait for nothing") {
  dro::deferred_backend b;
  const auto scores_of_selector = write(b, matrix(2, 3, {0, 1, 2, 0, 0, 0}));
  dro::random_state<dro::deferred_backend> random(b, 1);
  const auto z = dro::draw_plackett_luce(b, scores_of_selector, random.source(b), {5, 2});
  const auto likelihood = write(b, test::random_matrix<double>(10, 1, -4, 0, 3));
  const auto scores = dro::on_policy(b, likelihood, z);
  const auto w = dro::importance_weights(b, scores);
  const auto d = dro::diagnose_weights(b, scores, w);
  const auto e = dro::diagnose_draws(b, z, scores, {.threshold = -2});
  CHECK(b.reads() == 0);
  CHECK(b.synchronisations() == 0);
  CHECK(read(b, d.samples)(1, 0) == 5);
  CHECK(read(b, e.distinct)(0, 0) >= 1);
}
