// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <dro/ranking/plackett_luce.hpp>

#include "support/backends.hpp"
#include "support/log_q_error.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

constexpr index_t queries = 5;
constexpr index_t documents = 7;
constexpr index_t picks = 3;
constexpr index_t samples = 50;

/// Multiples of 2^-9 in [−4, 4): so are their differences, which are exact in float as in double, and the integer
/// masses made of them the same.
template <class T>
dro::host_matrix<T> scores() {
  auto s = test::random_matrix<T>(queries, documents, -4, 4, 21);
  s(3, 2) = -test::infinity<T>;
  s(3, 6) = -test::infinity<T>;
  return s;
}

// log p sums 3 terms s − L. Each L has the rounding of a score below 4 + log 7 (6 u, u = ε/2), of exp (2 u), of a sum
// of at most 7 terms (4 u · 2), of log and of log1p (2 u of a number below 6, each): below 40 u; the terms add 3 · 6 u
// more for differences and partial sums below 24. In all below 3 · 60 u.
template <class T>
constexpr real tolerance = 180 * static_cast<real>(test::unit_roundoff<T>);

}  // namespace

TEST_CASE_TEMPLATE("bit-equal scores give the same rankings everywhere", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  dro::host_backend reference(1);
  const auto on_backend = write(b, scores<T>());
  const auto on_host = scores<double>();
  const dro::random_state<typename S::backend> random(b, 99, 3);
  const dro::random_state<dro::host_backend> host_random(reference, 99, 3);
  const auto z = dro::draw_plackett_luce(b, on_backend, random.source(b), {samples, picks});
  const auto expected = dro::draw_plackett_luce(reference, on_host, host_random.source(reference), {samples, picks});
  CHECK(z.groups().queries() == queries);
  CHECK(z.groups().per_query() == samples);
  CHECK(z.select() == picks);
  const auto rankings = read(b, z.rankings());
  CHECK(test::same(rankings, expected.rankings()));
  // The draws' own log q is the Plackett–Luce probability of what was drawn, from the definition and as scored again.
  auto again = b.template make<T>(queries * samples, 1);
  dro::plackett_luce_log_prob(b, on_backend, std::as_const(b).view(z.rankings()), z.groups(), b.view(again));
  const auto drawn = read(b, z.log_proposal());
  const auto scored = read(b, again);
  const auto s = scores<T>();
  real worst = 0;
  real worst_again = 0;
  for (index_t draw = 0; draw < queries * samples; ++draw) {
    const real p = test::plackett_luce_log_prob(test::row(s, draw / samples), test::ranking_of(rankings, draw));
    worst = std::max(worst, std::abs(drawn(draw, 0) - p));
    worst_again = std::max<real>(worst_again, std::abs(drawn(draw, 0) - scored(draw, 0)));
  }
  DRO_CHECK_NEAR(worst, 0, tolerance<T>);
  DRO_CHECK_NEAR(worst_again, 0, tolerance<T>);
}

TEST_CASE_TEMPLATE("log-probabilities and gradients of a ragged list agree with the definition", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto s = scores<T>();
  const auto on_backend = write(b, s);
  const std::vector<std::int32_t> starts = {0, 2, 2, 5, 6, 8};
  const std::vector<test::ranking> list = {{0, 1, 2}, {6, 5, 4}, {3, 0, 6}, {1, 2, 0},
                                           {2, 6, 5}, {0, 1, 5}, {4, 2, 1}, {1, 4, 2}};
  const std::vector<double> weights = {0.5, -1.25, 0, 2, 0.125, 1, -0.75, 0.25};
  const auto offsets = write(b, test::column(starts));
  const auto rankings = write(b, test::ranking_matrix(list));
  const auto coefficients = write(b, test::matrix<T>(8, 1, weights));
  const auto groups = dro::grouping::ragged(std::as_const(b).view(offsets), 8);
  auto log_prob = b.template make<T>(8, 1);
  auto gradient = dro::make_filled<T>(b, queries, documents, T(0.5));  // added to, not overwritten
  dro::plackett_luce_log_prob(b, on_backend, std::as_const(b).view(rankings), groups, b.view(log_prob));
  dro::accumulate_plackett_luce_gradient(b, on_backend, std::as_const(b).view(rankings), groups, coefficients,
                                         b.view(gradient));
  const auto p = read(b, log_prob);
  const auto g = read(b, gradient);
  for (index_t q = 0; q < queries; ++q) {
    std::vector<real> expected(documents, real(0.5));
    for (auto i = starts[static_cast<std::size_t>(q)]; i < starts[static_cast<std::size_t>(q) + 1]; ++i) {
      const auto k = static_cast<std::size_t>(i);
      DRO_CHECK_NEAR(p(i, 0), test::plackett_luce_log_prob(test::row(s, q), list[k]), tolerance<T>);
      const auto score = test::plackett_luce_score(test::row(s, q), list[k]);
      for (std::size_t j = 0; j < score.size(); ++j) expected[j] += static_cast<real>(weights[k]) * score[j];
    }
    // Each of at most 3 draws adds coefficient · (1 − e^{…}) with an exponent that has the error of a log-sum, and a
    // factor e^{…} of at most 3: 3 · 3 times that of a term, coefficients are below 2.
    for (index_t j = 0; j < documents; ++j) {
      DRO_CHECK_NEAR(g(q, j), expected[static_cast<std::size_t>(j)], 2 * 9 * tolerance<T> / 3);
    }
  }
}

TEST_CASE_TEMPLATE("a query with too few possible documents gets incomplete rankings", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  constexpr T inf = test::infinity<T>;
  const auto s = write(b, test::matrix<T>(2, 3, std::vector<T>{-inf, 1, -inf, 0, 1, 2}));
  const dro::random_state<typename S::backend> random(b, 5);
  const auto z = dro::draw_plackett_luce(b, s, random.source(b), {4, 2});
  const auto rankings = read(b, z.rankings());
  const auto log_q = read(b, z.log_proposal());
  for (index_t draw = 0; draw < 4; ++draw) {
    CHECK(rankings(draw, 0) == 1);
    CHECK(rankings(draw, 1) == dro::no_document);
    CHECK(log_q(draw, 0) == -inf);
    CHECK(std::isfinite(log_q(draw + 4, 0)));
  }
}

TEST_CASE_TEMPLATE("K = n, K = 1, n = 1 and no query at all", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const dro::random_state<typename S::backend> random(b, 3);
  const auto run = [&](index_t rows, index_t n, index_t k) {
    const auto host = test::random_matrix<T>(rows, n, -2, 2, 77);
    const auto on = write(b, host);
    const auto z = dro::draw_plackett_luce(b, on, random.source(b), {5, k});
    auto again = b.template make<T>(z.groups().total(), 1);
    dro::plackett_luce_log_prob(b, on, std::as_const(b).view(z.rankings()), z.groups(), b.view(again));
    auto gradient = dro::make_filled<T>(b, rows, n, T(0));
    const auto ones = dro::make_filled<T>(b, z.groups().total(), 1, T(1));
    dro::accumulate_plackett_luce_gradient(b, on, std::as_const(b).view(z.rankings()), z.groups(), ones,
                                           b.view(gradient));
    const auto p = read(b, z.log_proposal());
    const auto p_again = read(b, again);
    if constexpr (sizeof(T) > sizeof(float)) CHECK(test::same(p, p_again));
    for (index_t i = 0; i < p.rows(); ++i) {  // float is scored by integer masses, off by an error of their own
      const auto row = test::row(host, i / 5);
      DRO_CHECK_NEAR(p(i, 0), p_again(i, 0), 2 * test::log_q_error(std::vector<T>(row.begin(), row.end()), k));
    }
    const auto g = read(b, gradient);
    for (index_t q = 0; q < rows; ++q) {
      real total = 0;
      for (const real x : test::row(g, q)) total += x;
      // Σ_j ∂ log p / ∂ s_j = 0: adding a constant to all scores changes nothing. 5 draws of K picks, 60 u each.
      DRO_CHECK_NEAR(total, 0, 5 * 60 * static_cast<real>(k * n) * test::unit_roundoff<T>);
    }
    return std::pair(read(b, z.rankings()), p);
  };
  const auto [all, p_all] = run(2, 4, 4);
  for (index_t i = 0; i < 10; ++i) {
    auto z = test::ranking_of(all, i);
    std::sort(z.begin(), z.end());
    CHECK(z == test::ranking{0, 1, 2, 3});
    CHECK(p_all(i, 0) < 0);
  }
  CHECK(run(2, 4, 1).first.cols() == 1);
  const auto [alone, p_alone] = run(3, 1, 1);
  for (index_t i = 0; i < 15; ++i) {
    CHECK(alone(i, 0) == 0);
    CHECK(p_alone(i, 0) == 0);
  }
  CHECK(run(0, 4, 2).first.rows() == 0);
}

TEST_CASE_TEMPLATE("another numbering of the documents changes nothing but the numbers", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  constexpr index_t n = 5;
  constexpr index_t turned[n] = {3, 0, 4, 1, 2};  // document j is called turned[j]
  const auto plain = test::random_matrix<T>(1, n, -2, 2, 78);
  dro::host_matrix<T> other(1, n);
  for (index_t j = 0; j < n; ++j) other(0, turned[j]) = plain(0, j);
  const std::vector<test::ranking> list = {{0, 1, 2}, {4, 3, 0}, {2, 4, 1}};
  std::vector<test::ranking> renamed = list;
  for (auto& z : renamed) {
    for (auto& j : z) j = static_cast<dro::document_t>(turned[j]);
  }
  const auto groups = dro::grouping::uniform(1, 3);
  const auto coefficients = write(b, test::column(std::vector<T>{1, -2, T(0.5)}));
  const auto solve = [&](const dro::host_matrix<T>& s, const std::vector<test::ranking>& z) {
    const auto on = write(b, s);
    const auto rankings = write(b, test::ranking_matrix(z));
    auto p = b.template make<T>(3, 1);
    auto g = dro::make_filled<T>(b, 1, n, T(0));
    const auto view = std::as_const(b).view(rankings);
    dro::plackett_luce_log_prob(b, on, view, groups, b.view(p));
    dro::accumulate_plackett_luce_gradient(b, on, view, groups, coefficients, b.view(g));
    return std::pair(read(b, p), read(b, g));
  };
  const auto [p, g] = solve(plain, list);
  const auto [p_other, g_other] = solve(other, renamed);
  // Sums over documents come in another order: 60 u of numbers below 8 (see the test of ragged lists).
  for (index_t i = 0; i < 3; ++i) DRO_CHECK_NEAR(p_other(i, 0), p(i, 0), 60 * 8 * test::unit_roundoff<T>);
  for (index_t j = 0; j < n; ++j) DRO_CHECK_NEAR(g_other(0, turned[j]), g(0, j), 60 * 8 * test::unit_roundoff<T>);
}
