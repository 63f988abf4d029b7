// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/ranking/set_probability.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::ranking;
using test::real;

constexpr real u = test::unit_roundoff<double>;

/// log Σ over the orders of the set, each straight from the definition.
real set_log_prob(const std::vector<real>& scores, ranking set) {
  std::ranges::sort(set);
  std::vector<real> orders;
  do {
    orders.push_back(test::plackett_luce_log_prob(scores, set));
  } while (std::ranges::next_permutation(set).found);
  return test::log_sum_exp(orders);
}

/// The library's, for one query.
template <class T>
std::vector<T> log_probs(const dro::host_matrix<T>& scores, const std::vector<ranking>& list) {
  dro::host_backend b(1);
  const auto rankings = test::ranking_matrix(list);
  dro::host_matrix<T> out(rankings.rows(), 1);
  dro::set_log_prob(b, scores, std::as_const(b).view(rankings), dro::grouping::uniform(1, rankings.rows()),
                    b.view(out));
  return {out.data(), out.data() + out.rows()};
}

dro::host_matrix<double> gradient(const dro::host_matrix<double>& scores, const std::vector<ranking>& list,
                                  const std::vector<double>& coefficients) {
  dro::host_backend b(1);
  const auto rankings = test::ranking_matrix(list);
  dro::host_matrix<double> out(1, scores.cols());
  dro::accumulate_set_gradient(b, scores, std::as_const(b).view(rankings), dro::grouping::uniform(1, rankings.rows()),
                               test::column(coefficients), b.view(out));
  return out;
}

/// Rankings in ascending order: one for each set.
std::vector<ranking> all_sets(index_t documents, index_t select) {
  auto list = test::all_rankings(documents, select);
  std::erase_if(list, [](const ranking& z) { return !std::ranges::is_sorted(z); });
  return list;
}

// A table entry is a sum over at most K members of the level below, less a denominator. With |log D| ≤ L a level adds
// (K + 8) u for sum, exp and log, and three roundings of numbers below K L: K levels, and K scores at the end.
constexpr real tolerance(index_t select, real largest) {
  const auto k = static_cast<real>(select);
  return k * (k + 8 + 3 * k * largest) * u;
}

}  // namespace

TEST_CASE("the probability of a set is the sum over its orders, and that of all sets is 1") {
  const auto scores = test::random_matrix<double>(1, 6, -2, 2, 71);
  for (index_t select = 1; select <= 6; ++select) {
    CAPTURE(select);
    const auto list = all_sets(6, select);
    const auto p = log_probs(scores, list);
    real total = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      DRO_CHECK_NEAR(p[i], set_log_prob(test::row(scores, 0), list[i]), tolerance(select, 4));
      total += std::exp(static_cast<real>(p[i]));
    }
    DRO_CHECK_NEAR(total, 1, tolerance(select, 4));
    // The order in which the documents are given does not matter.
    auto turned = list;
    for (ranking& z : turned) std::ranges::reverse(z);
    const auto q = log_probs(scores, turned);
    for (std::size_t i = 0; i < list.size(); ++i) DRO_CHECK_NEAR(q[i], p[i], tolerance(select, 4));
  }
}

TEST_CASE("scores that span hundreds of nats lose nothing") {
  const auto scores = test::matrix<double>(1, 6, std::vector{300.0, -350.0, 2.0, -340.0, 1.0, -700.0});
  for (const index_t select : {2, 3, 5}) {
    const auto list = all_sets(6, select);
    const auto p = log_probs(scores, list);
    for (std::size_t i = 0; i < list.size(); ++i) {
      DRO_CHECK_NEAR(p[i], set_log_prob(test::row(scores, 0), list[i]), tolerance(select, 700));
    }
  }
  // Twelve of twelve: certain, whatever the scores.
  const auto many = test::random_matrix<double>(1, 12, -3, 3, 72);
  DRO_CHECK_NEAR(log_probs(many, {test::ranking{3, 1, 2, 0, 4, 5, 6, 7, 8, 9, 10, 11}}).front(), 0, tolerance(12, 6));
}

TEST_CASE("the gradient agrees with central differences of the sum over orders") {
  auto scores = test::random_matrix<double>(1, 6, -2, 2, 73);
  for (const index_t select : {1, 2, 3, 5}) {
    CAPTURE(select);
    const auto sets = all_sets(6, select);
    const std::vector<ranking> list = {sets.front(), sets[sets.size() / 2], sets.back()};
    const std::vector<double> c = {1.0, -0.5, 0.25};
    const auto g = gradient(scores, list, c);
    const auto expected = test::central_differences(test::elements(scores), [&] {
      real sum = 0;
      for (std::size_t i = 0; i < list.size(); ++i) {
        sum += static_cast<real>(c[i]) * set_log_prob(test::row(scores, 0), list[i]);
      }
      return sum;
    });
    CHECK(test::largest_magnitude(expected) > 0.1);
    real total = 0;
    for (index_t j = 0; j < 6; ++j) {
      // h² /6 times the third derivative (below 2 K) with h = 1e-5, and rounding 1e-18 / h in long double.
      DRO_CHECK_NEAR(g(0, j), expected[static_cast<std::size_t>(j)], 1e-9);
      total += g(0, j);
    }
    DRO_CHECK_NEAR(total, 0, 6 * tolerance(select, 4));  // a shift of all scores changes nothing
  }
  // All documents: the set is certain.
  const auto certain = gradient(scores, {{5, 0, 3, 1, 2, 4}}, {1.0});
  for (index_t j = 0; j < 6; ++j) DRO_CHECK_NEAR(certain(0, j), 0, 2 * tolerance(6, 4));
}

TEST_CASE("the score of the set is the mean of the scores of its orders: same estimate, less variance") {
  const auto scores = test::random_matrix<double>(1, 5, -1, 1, 74);
  const auto exact = test::row(scores, 0);
  test::numbers next(75);
  for (const index_t select : {2, 3, 4}) {
    CAPTURE(select);
    std::vector<real> mean(5, 0);
    std::vector<real> set_mean(5, 0);
    real square = 0;
    real set_square = 0;
    for (const auto& set : all_sets(5, select)) {
      const real reward = next.between(-1, 1);  // of a generator that ignores the order
      const auto of_set = gradient(scores, {set}, {1.0});
      std::vector<real> mean_of_orders(5, 0);
      ranking z = set;
      do {
        const real p = std::exp(test::plackett_luce_log_prob(exact, z));
        const auto score = test::plackett_luce_score(exact, z);
        for (std::size_t j = 0; j < 5; ++j) {
          mean[j] += p * reward * score[j];
          square += p * reward * score[j] * reward * score[j];
          mean_of_orders[j] += p * score[j];
        }
      } while (std::ranges::next_permutation(z).found);
      const real p = std::exp(set_log_prob(exact, set));
      for (std::size_t j = 0; j < 5; ++j) {
        const real s = of_set(0, static_cast<index_t>(j));
        DRO_CHECK_NEAR(s, mean_of_orders[j] / p, 2 * tolerance(select, 4));
        set_mean[j] += p * reward * s;
        set_square += p * reward * s * reward * s;
      }
    }
    for (std::size_t j = 0; j < 5; ++j) DRO_CHECK_NEAR(set_mean[j], mean[j], 2 * tolerance(select, 4));
    // Equal means: the second moments say which variance is smaller.
    CHECK(test::largest_magnitude(mean) > 0.01);
    CHECK(set_square < 0.97L * square);
  }
}

TEST_CASE("what is not a ranking, or impossible, has log P = −inf and no gradient; NaN shows") {
  constexpr double inf = test::infinity<double>;
  const auto scores = test::matrix<double>(1, 4, std::vector{0.0, 1.0, -inf, 2.0});
  const std::vector<ranking> bad = {{0, 0}, {0, 4}, {-1, 0}, {0, dro::no_document}, {0, 2}, {2, 0}};
  for (const double p : log_probs(scores, bad)) CHECK(p == -inf);
  const auto none = gradient(scores, bad, std::vector(bad.size(), 1.0));
  for (index_t j = 0; j < 4; ++j) CHECK(none(0, j) == 0);
  // Padding changes nothing.
  DRO_CHECK_NEAR(log_probs(scores, {{3, 0}}).front(), set_log_prob({0, 1, 2}, {0, 2}), tolerance(2, 4));
  CHECK(log_probs(scores, {{3, 1, 0}}).front() <= 0);
  DRO_CHECK_NEAR(log_probs(scores, {{3, 1, 0}}).front(), 0, tolerance(3, 4));
  CHECK(gradient(scores, {{3, 0}}, {1.0})(0, 2) == 0);
  const auto nan = test::matrix<double>(1, 3, std::vector{0.0, test::nan<double>, 1.0});
  CHECK(std::isnan(log_probs(nan, {{0, 2}}).front()));
  CHECK(std::isnan(log_probs(nan, {{0, 1}}).front()));
}

TEST_CASE("float and the deferred backend: several queries, ragged, nothing read back") {
  const auto scores = test::random_matrix<float>(2, 5, -2, 2, 76);
  const std::vector<ranking> list = {{0, 1, 2}, {4, 2, 3}, {1, 3, 4}};
  const std::vector<float> c = {0.5F, -1.0F, 0.25F};
  dro::deferred_backend b;
  const auto own_scores = dro::write(b, scores);
  const auto rankings = dro::write(b, test::ranking_matrix(list));
  const auto coefficients = dro::write(b, test::column(c));
  const std::vector<std::int32_t> offsets = {0, 1, 3};
  const auto groups = dro::grouping::ragged({offsets.data(), 3, 1, 1, 1}, 3);
  auto p = b.make<float>(3, 1);
  auto g = dro::make_filled<float>(b, 2, 5, 1.0F);
  const auto z = std::as_const(b).view(rankings);
  dro::set_log_prob(b, own_scores, z, groups, b.view(p));
  dro::accumulate_set_gradient(b, own_scores, z, groups, coefficients, b.view(g));
  CHECK(b.reads() == 0);
  CHECK(b.synchronisations() == 0);
  const auto found = dro::read(b, p);
  const auto added = dro::read(b, g);
  constexpr real in_float = tolerance(3, 4) * test::unit_roundoff<float> / u;
  std::vector<std::vector<real>> expected(2, std::vector<real>(5, 1));
  for (std::size_t i = 0; i < 3; ++i) {
    const std::size_t q = i == 0 ? 0 : 1;
    const auto exact = test::row(scores, static_cast<index_t>(q));
    const real total = set_log_prob(exact, list[i]);
    DRO_CHECK_NEAR(found(static_cast<index_t>(i), 0), total, in_float);
    ranking order = list[i];
    std::ranges::sort(order);
    do {
      const real share = std::exp(test::plackett_luce_log_prob(exact, order) - total);
      const auto score = test::plackett_luce_score(exact, order);
      for (std::size_t j = 0; j < 5; ++j) expected[q][j] += static_cast<real>(c[i]) * share * score[j];
    } while (std::ranges::next_permutation(order).found);
  }
  for (index_t q = 0; q < 2; ++q) {
    for (index_t j = 0; j < 5; ++j) {
      DRO_CHECK_NEAR(added(q, j), expected[static_cast<std::size_t>(q)][static_cast<std::size_t>(j)], 2 * in_float);
    }
  }
}

TEST_CASE("sets that are too large and shapes that do not fit are refused") {
  dro::host_backend b(1);
  const dro::host_matrix<double> scores(2, 14);
  dro::host_matrix<double> out(4, 1);
  const auto groups = dro::grouping::uniform(2, 2);
  const dro::host_matrix<dro::document_t> large(4, 13);
  const dro::host_matrix<dro::document_t> small(4, 2);
  const auto too_large = std::as_const(b).view(large);
  const auto z = std::as_const(b).view(small);
  CHECK_THROWS_WITH_AS(dro::set_log_prob(b, scores, too_large, groups, b.view(out)),
                       "set_log_prob: select is 13, expected at most 12, since all subsets are gone through",
                       dro::option_error);
  CHECK_THROWS_AS(dro::accumulate_set_gradient(b, scores, too_large, groups, out, b.view(out)), dro::option_error);
  CHECK_THROWS_WITH_AS(dro::set_log_prob(b, scores, z, dro::grouping::uniform(4, 1), b.view(out)),
                       "set_log_prob: scores is [2 × 14], expected [4 × 14]", dro::shape_error);
  CHECK_THROWS_WITH_AS(dro::accumulate_set_gradient(b, scores, z, groups, out, b.view(out)),
                       "accumulate_set_gradient: gradient is [4 × 1], expected [2 × 14]", dro::shape_error);
}
