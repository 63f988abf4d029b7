// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <map>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

/// log p of each ranking of `list` under one row of scores.
template <class T>
std::vector<T> log_probs(const dro::host_matrix<T>& scores, const std::vector<test::ranking>& list) {
  dro::host_backend b(1);
  const auto rankings = test::ranking_matrix(list);
  const auto groups = dro::grouping::uniform(1, rankings.rows());
  dro::host_matrix<T> out(rankings.rows(), 1);
  dro::plackett_luce_log_prob(b, scores, std::as_const(b).view(rankings), groups, b.view(out));
  return std::vector<T>(out.data(), out.data() + out.rows());
}

/// Σ_i c_i ∂ log p(z_i) / ∂ s.
dro::host_matrix<double> gradient(const dro::host_matrix<double>& scores, const std::vector<test::ranking>& list,
                                  const std::vector<double>& coefficients) {
  dro::host_backend b(1);
  const auto rankings = test::ranking_matrix(list);
  const auto groups = dro::grouping::uniform(1, rankings.rows());
  dro::host_matrix<double> out(1, scores.cols());
  dro::accumulate_plackett_luce_gradient(b, scores, std::as_const(b).view(rankings), groups, test::column(coefficients),
                                         b.view(out));
  return out;
}

template <class T>
dro::draws<dro::host_backend, T> draw(const dro::host_matrix<T>& scores, const dro::draw_options& options,
                                      std::uint64_t seed = 1) {
  dro::host_backend b(1);
  const dro::random_state<dro::host_backend> random(b, seed);
  return dro::draw_plackett_luce(b, scores, random.source(b), options);
}

}  // namespace

TEST_CASE("log p of every ranking is the product of its picks, and they sum to 1") {
  for (const index_t select : {1, 2, 4, 5}) {
    CAPTURE(select);
    const auto scores = test::random_matrix<double>(1, 5, -3, 3, 41);
    const auto list = test::all_rankings(5, select);
    const auto p = log_probs(scores, list);
    // At most 5 terms, each with the rounding of a log-sum below 6 (see typed/test_plackett_luce.cpp): 300 u.
    constexpr real tolerance = 300 * static_cast<real>(test::unit_roundoff<double>);
    real total = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      DRO_CHECK_NEAR(p[i], test::plackett_luce_log_prob(test::row(scores, 0), list[i]), tolerance);
      total += std::exp(static_cast<real>(p[i]));
    }
    DRO_CHECK_NEAR(total, 1, 2 * tolerance);
  }
}

TEST_CASE("one document has probability 1") {
  const auto scores = test::matrix<double>(1, 1, std::vector{-7.0});
  CHECK(log_probs(scores, {{0}}).front() == 0);
  const auto z = draw(scores, {3, 1});
  for (index_t i = 0; i < 3; ++i) {
    CHECK(z.rankings()(i, 0) == 0);
    CHECK(z.log_proposal()(i, 0) == 0);
  }
  CHECK(gradient(scores, {{0}}, {1.0})(0, 0) == 0);
}

TEST_CASE("what is not a ranking, or impossible, has log p = −inf") {
  constexpr double inf = test::infinity<double>;
  const auto scores = test::matrix<double>(1, 4, std::vector{0.0, 1.0, -inf, 2.0});
  const std::vector<test::ranking> bad = {{0, 0}, {0, 4}, {-1, 0}, {0, dro::no_document}, {0, 2}, {2, 0}};
  for (const double p : log_probs(scores, bad)) CHECK(p == -inf);
  // A padded query has the distribution of the query without padding.
  const std::vector<real> possible = {0, 1, 2};
  DRO_CHECK_NEAR(log_probs(scores, {{0, 3}}).front(), test::plackett_luce_log_prob(possible, {0, 2}),
                 180 * test::unit_roundoff<double>);
  DRO_CHECK_NEAR(log_probs(scores, {{3, 1, 0}}).front(), test::plackett_luce_log_prob(possible, {2, 1, 0}),
                 180 * test::unit_roundoff<double>);
  CHECK(gradient(scores, {{0, 3}, {3, 0}}, {1.0, 0.5})(0, 2) == 0);
  // Draws whose coefficient is 0 are passed over, impossible or not.
  const auto none = gradient(scores, {{0, 2}, {1, 1}}, {0.0, 1.0});
  for (index_t j = 0; j < 4; ++j) CHECK(none(0, j) == 0);
}

TEST_CASE("a score of NaN shows in log p") {
  const auto scores = test::matrix<double>(1, 3, std::vector{0.0, test::nan<double>, 1.0});
  CHECK(std::isnan(log_probs(scores, {{0, 2}}).front()));
  CHECK(std::isnan(log_probs(scores, {{0, 1}}).front()));
}

TEST_CASE("the score gradient agrees with central differences") {
  auto scores = test::random_matrix<double>(1, 6, -2, 2, 42);
  for (const index_t select : {1, 3, 6}) {
    CAPTURE(select);
    const auto all = test::all_rankings(6, select);
    const std::vector<test::ranking> list = {all.front(), all[all.size() / 3], all.back()};
    const std::vector<double> c = {1.0, -0.5, 0.25};
    const auto expected = test::central_differences(test::elements(scores), [&] {
      real sum = 0;
      for (std::size_t i = 0; i < list.size(); ++i) {
        sum += static_cast<real>(c[i]) * test::plackett_luce_log_prob(test::row(scores, 0), list[i]);
      }
      return sum;
    });
    const auto g = gradient(scores, list, c);
    const real size = test::largest_magnitude(expected);
    CHECK(size > 0.1);
    real total = 0;
    for (index_t j = 0; j < 6; ++j) {
      DRO_CHECK_NEAR(g(0, j), expected[static_cast<std::size_t>(j)], 1e-6 * size);
      total += g(0, j);
    }
    DRO_CHECK_NEAR(total, 0, 1e-14);  // shifting all scores changes nothing; 18 terms below 3 with a rounding of ~20 u
  }
}

TEST_CASE("the last of n picks is forced and has no gradient") {
  const auto scores = test::random_matrix<double>(1, 4, -2, 2, 43);
  const auto whole = gradient(scores, {{2, 0, 3, 1}}, {1.0});
  const auto all_but_last = gradient(scores, {{2, 0, 3}}, {1.0});
  for (index_t j = 0; j < 4; ++j) DRO_CHECK_NEAR(whole(0, j), all_but_last(0, j), 60 * test::unit_roundoff<double>);
}

TEST_CASE_TEMPLATE("rankings are drawn with their probabilities", T, float, double) {
  for (const index_t select : {1, 2, 4}) {
    CAPTURE(select);
    const auto scores = test::matrix<T>(1, 4, std::vector<T>{T(0.5), T(-1), T(1.25), T(0)});
    constexpr index_t count = 100000;
    const auto z = draw(scores, {count, select}, 7);
    std::map<test::ranking, std::size_t> counts;
    for (index_t i = 0; i < count; ++i) ++counts[test::ranking_of(z.rankings(), i)];
    std::map<test::ranking, real> probability;
    for (const auto& ranking : test::all_rankings(4, select)) {
      probability[ranking] = std::exp(test::plackett_luce_log_prob(test::row(scores, 0), ranking));
    }
    for (const auto& [ranking, n] : counts) CHECK(probability.contains(ranking));
    // Masses and the words' 32 bits are off by 2^-26 or so, which moves a probability by less than a relative 1e-6:
    // nothing beside 1/√count.
    CHECK(test::chi_square(counts, probability, count) < test::chi_square_bound(probability.size() - 1));
  }
}

TEST_CASE_TEMPLATE("padding is never drawn and leaves the other probabilities alone", T, float, double) {
  const T inf = test::infinity<T>;
  const auto padded = test::matrix<T>(1, 5, std::vector<T>{T(0.5), -inf, T(-1), T(1.25), -inf});
  constexpr index_t count = 50000;
  const auto z = draw(padded, {count, 2}, 8);
  std::map<test::ranking, std::size_t> counts;
  for (index_t i = 0; i < count; ++i) ++counts[test::ranking_of(z.rankings(), i)];
  const std::vector<real> possible = {0.5, -1, 1.25};
  const std::vector<dro::document_t> position = {0, 2, 3};
  std::map<test::ranking, real> probability;
  for (const auto& ranking : test::all_rankings(3, 2)) {
    probability[{position[static_cast<std::size_t>(ranking[0])], position[static_cast<std::size_t>(ranking[1])]}] =
        std::exp(test::plackett_luce_log_prob(possible, ranking));
  }
  for (const auto& [ranking, n] : counts) CHECK(probability.contains(ranking));
  CHECK(test::chi_square(counts, probability, count) < test::chi_square_bound(probability.size() - 1));
}

TEST_CASE("scores far apart: the order is certain, the numbers stay finite") {
  const auto scores = test::matrix<float>(1, 4, std::vector<float>{-1e4F, 1e4F, 0, -5e3F});
  const auto z = draw(scores, {32, 4}, 9);
  for (index_t i = 0; i < 32; ++i) {
    CHECK(test::ranking_of(z.rankings(), i) == test::ranking{1, 2, 3, 0});
    CHECK(z.log_proposal()(i, 0) == 0);
  }
  // 0 before 1 costs 20000, and 3 before 2 costs 5000: whole numbers below 2^24.
  CHECK(log_probs(scores, {{0, 1, 3, 2}}).front() == -25000);
  dro::host_backend b(1);
  const auto rankings = test::ranking_matrix({{0, 1, 3, 2}});
  dro::host_matrix<float> g(1, 4);
  dro::accumulate_plackett_luce_gradient(b, scores, std::as_const(b).view(rankings), dro::grouping::uniform(1, 1),
                                         test::column(std::vector{1.0F}), b.view(g));
  // Σ_t (1[j = z_t] − softmax), each softmax certain: 1 loses at both picks up to its own, 2 likewise. The exponents
  // are differences of numbers near 10^4, so they are off by 10^4 ε at most, and so are the factors 1 and 2 made of
  // them.
  const float expected[] = {1, -1, -1, 1};
  for (index_t j = 0; j < 4; ++j) {
    DRO_CHECK_NEAR(g(0, j), expected[j], 2e4 * std::numeric_limits<float>::epsilon());
  }
}

TEST_CASE_TEMPLATE("a new gradient is what is added to nothing, for queries without draws, too", T, float, double) {
  constexpr index_t n = 37;
  constexpr index_t counts[] = {0, 150, 3, 0, 64, 1};  // more than a team has rows for, and none
  constexpr index_t queries = std::size(counts);
  dro::host_matrix<std::int32_t> offsets(queries + 1, 1);
  std::vector<test::ranking> list;
  for (index_t q = 0; q < queries; ++q) {
    for (index_t i = 0; i < counts[q]; ++i) {
      const auto j = static_cast<dro::document_t>(i % n);
      list.push_back({j, (j + 5) % 37, (j + 11) % 37});
    }
    offsets(q + 1, 0) = static_cast<std::int32_t>(list.size());
  }
  const auto total = static_cast<index_t>(list.size());
  const auto rankings = test::ranking_matrix(list);
  const auto coefficients = test::random_matrix<T>(total, 1, -1, 1, 92);
  auto scores = test::random_matrix<T>(queries, n, -3, 3, 91);
  for (index_t j = 0; j < n; ++j) scores(2, j) *= T(60);  // by logarithms
  dro::host_backend b(1);
  const auto groups = dro::grouping::ragged(std::as_const(b).view(offsets), total);
  const auto z = std::as_const(b).view(rankings);
  const auto made = dro::plackett_luce_gradient(b, scores, z, groups, coefficients);
  dro::host_matrix<T> added(queries, n);
  dro::accumulate_plackett_luce_gradient(b, scores, z, groups, coefficients, b.view(added));
  CHECK(test::same(made, added));
  // Whatever the memory held before.
  dro::host_matrix<T> used(queries, n);
  for (index_t q = 0; q < queries; ++q) {
    for (index_t j = 0; j < n; ++j) used(q, j) = test::nan<T>;
  }
  dro::detail::run_plackett_luce_gradient<T>(b, scores, z, groups, coefficients, b.view(used), false);
  CHECK(test::same(used, added));
  const auto of_none = test::matrix<dro::document_t>(total, 0, std::vector<dro::document_t>{});
  const auto zero = dro::plackett_luce_gradient(b, scores, std::as_const(b).view(of_none), groups, coefficients);
  CHECK(test::same(zero, dro::host_matrix<T>(queries, n)));
}

TEST_CASE("draws depend on seed, step, query and sample, and on nothing else") {
  dro::host_backend b(1);
  const auto scores = test::matrix<double>(2, 6, std::vector<double>(12, 0.0));
  dro::random_state<dro::host_backend> random(b, 3);
  const auto first = dro::draw_plackett_luce(b, scores, random.source(b), {20, 3});
  const auto again = dro::draw_plackett_luce(b, scores, random.source(b), {20, 3});
  const auto fewer = dro::draw_plackett_luce(b, scores, random.source(b), {4, 3});
  random.advance(b);
  const auto next = dro::draw_plackett_luce(b, scores, random.source(b), {20, 3});
  CHECK(test::same(first.rankings(), again.rankings()));
  CHECK_FALSE(test::same(first.rankings(), next.rankings()));
  CHECK_FALSE(test::same(first.rankings(), draw(scores, {20, 3}, 4).rankings()));
  for (index_t q = 0; q < 2; ++q) {
    for (index_t i = 0; i < 4; ++i) {
      CHECK(test::ranking_of(fewer.rankings(), 4 * q + i) == test::ranking_of(first.rankings(), 20 * q + i));
    }
  }
  CHECK(test::ranking_of(first.rankings(), 0) != test::ranking_of(first.rankings(), 20));
  const dro::random_state<dro::host_backend> resumed(b, 3, 1);
  CHECK(test::same(dro::draw_plackett_luce(b, scores, resumed.source(b), {20, 3}).rankings(), next.rankings()));
}

TEST_CASE("wrong sizes are refused by name") {
  dro::host_backend b(1);
  const dro::host_matrix<double> scores(2, 3);
  const dro::random_state<dro::host_backend> random(b, 1);
  const auto source = random.source(b);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::draw_plackett_luce(b, scores, source, {0, 2})),
                       "samples is 0, expected at least 1", dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::draw_plackett_luce(b, scores, source, {1, 4})),
                       "select is 4, expected 1 to 3, the number of documents", dro::option_error);
  CHECK_THROWS_AS(static_cast<void>(dro::draw_plackett_luce(b, scores, source, {1, 0})), dro::option_error);

  const dro::host_matrix<dro::document_t> rankings(4, 2);
  const dro::host_matrix<double> flat(4, 1);
  dro::host_matrix<double> out(3, 1);
  const auto groups = dro::grouping::uniform(2, 2);
  const auto z = std::as_const(b).view(rankings);
  CHECK_THROWS_WITH_AS(dro::plackett_luce_log_prob(b, scores, z, groups, b.view(out)),
                       "plackett_luce_log_prob: log_prob is [3 × 1], expected [4 × 1]", dro::shape_error);
  CHECK_THROWS_WITH_AS(dro::plackett_luce_log_prob(b, scores, z, dro::grouping::uniform(4, 1), b.view(out)),
                       "plackett_luce_log_prob: scores is [2 × 3], expected [4 × 3]", dro::shape_error);
  CHECK_THROWS_WITH_AS(dro::accumulate_plackett_luce_gradient(b, scores, z, groups, flat, b.view(out)),
                       "plackett_luce_gradient: gradient is [3 × 1], expected [2 × 3]", dro::shape_error);
  dro::host_matrix<double> gradient_of_scores(2, 3);
  CHECK_THROWS_WITH_AS(dro::accumulate_plackett_luce_gradient(b, scores, z, groups, out, b.view(gradient_of_scores)),
                       "plackett_luce_gradient: coefficients is [3 × 1], expected [4 × 1] or [2 × 2]",
                       dro::shape_error);
}
