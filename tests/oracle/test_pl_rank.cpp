// SPDX-License-Identifier: Apache-2.0
// PL-Rank-3 against the exact gradient, by going through all rankings, and against its formula written out.
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/gradient/pl_rank.hpp>

#include "support/matrices.hpp"

namespace {

using dro::grouping;
using dro::index_t;
using test::ranking;
using test::real;
using matrix = dro::host_matrix<double>;

// Scores lie in [−4, 4), relevances and position weights in [−2, 2): what is to come is below 4 · 4. A share exp(s − L)
// is off by below 90 u of itself (L by 40 u, see typed/test_plackett_luce.cpp), and at most 4 of them are carried into
// a sum: 4 · 16 · 100 u, twice.
constexpr real rounding = 2 * 6400 * static_cast<real>(test::unit_roundoff<double>);

struct problem {
  index_t n, k;
  std::vector<ranking> rankings;
  matrix scores, relevance, weights;

  problem(index_t documents, index_t picks, std::uint64_t seed)
      : n(documents),
        k(picks),
        rankings(test::all_rankings(documents, picks)),
        scores(test::random_matrix<double>(1, documents, -4, 4, seed)),
        relevance(test::random_matrix<double>(1, documents, -2, 2, seed + 1)),
        weights(test::random_matrix<double>(1, picks, -2, 2, seed + 2)) {}

  [[nodiscard]] std::vector<real> values() const { return test::row(scores, 0); }
  [[nodiscard]] real reward(const ranking& z) const {
    real total = 0;
    for (std::size_t t = 0; t < z.size(); ++t) {
      total += static_cast<real>(weights(0, static_cast<index_t>(t))) * relevance(0, z[t]);
    }
    return total;
  }
  /// Σ p(z) R(z) ∇ log p(z).
  [[nodiscard]] std::vector<real> gradient() const {
    std::vector<real> total(static_cast<std::size_t>(n), 0);
    for (const ranking& z : rankings) {
      const real p = std::exp(test::plackett_luce_log_prob(values(), z));
      if (p == 0) continue;
      const auto score = test::plackett_luce_score(values(), z);
      for (std::size_t j = 0; j < total.size(); ++j) total[j] += p * reward(z) * score[j];
    }
    return total;
  }
  /// The estimate from each ranking alone, [rankings × n]: every one as a query of its own.
  [[nodiscard]] matrix estimates() const {
    dro::deferred_backend b;
    const auto count = static_cast<index_t>(rankings.size());
    matrix s(count, n);
    matrix r(count, n);
    for (index_t i = 0; i < count; ++i) {
      for (index_t j = 0; j < n; ++j) {
        s(i, j) = scores(0, j);
        r(i, j) = relevance(0, j);
      }
    }
    const auto z = dro::write(b, test::ranking_matrix(rankings));
    const auto s_there = dro::write(b, s);
    const auto r_there = dro::write(b, r);
    const auto w_there = dro::write(b, weights);
    auto gradient = dro::make_filled<double>(b, count, n, 0);
    dro::pl_rank_3_gradient(b, s_there, std::as_const(b).view(z), grouping::uniform(count, 1), r_there, w_there,
                            b.view(gradient), 1);
    CHECK(b.reads() == 0);
    return dro::read(b, gradient);
  }
};

void check_unbiased(const problem& p) {
  const auto truth = p.gradient();
  CHECK(test::largest_magnitude(truth) > 0.01);
  const auto found = p.estimates();
  std::vector<real> mean(truth.size(), 0);
  for (std::size_t i = 0; i < p.rankings.size(); ++i) {
    const real probability = std::exp(test::plackett_luce_log_prob(p.values(), p.rankings[i]));
    for (std::size_t j = 0; j < mean.size(); ++j) {
      mean[j] += probability * found(static_cast<index_t>(i), static_cast<index_t>(j));
    }
  }
  for (std::size_t j = 0; j < mean.size(); ++j) DRO_CHECK_NEAR(mean[j], truth[j], rounding);
}

}  // namespace

TEST_CASE("the mean over all rankings is the exact gradient") {
  for (const index_t k : {1, 2, 3, 4}) {
    for (const std::uint64_t seed : {41U, 42U, 43U}) check_unbiased(problem(4, k, seed));
  }
}

TEST_CASE("the mean is exact with equal scores, equal relevances and padding") {
  for (const index_t k : {1, 2, 3, 4}) {
    problem p(4, k, 51);
    p.scores = matrix(1, 4, {0.5, 0.5, -1, 0.5});
    p.relevance = matrix(1, 4, {1, 0, 1, -1.5});
    if (k == 4) p.weights = matrix(1, 4, {1, 0.75, 0.5, 0.25});
    check_unbiased(p);
  }
  problem padded(5, 3, 52);
  padded.scores(0, 2) = -test::infinity<double>;
  check_unbiased(padded);
  const auto found = padded.estimates();
  for (index_t i = 0; i < found.rows(); ++i) CHECK(found(i, 2) == 0);
}

TEST_CASE("each estimate is the published formula, summed pick by pick and document by document") {
  for (const index_t k : {1, 2, 3, 5}) {
    const problem p(5, k, 61);
    const auto found = p.estimates();
    const auto s = p.values();
    for (std::size_t i = 0; i < p.rankings.size(); ++i) {
      const ranking& z = p.rankings[i];
      const auto picks = static_cast<std::size_t>(k);
      const auto earned = [&](std::size_t from) {  // Σ_{v ≥ from} θ_v r(z_v)
        real total = 0;
        for (std::size_t v = from; v < picks; ++v) {
          total += static_cast<real>(p.weights(0, static_cast<index_t>(v))) * p.relevance(0, z[v]);
        }
        return total;
      };
      for (std::size_t j = 0; j < s.size(); ++j) {
        std::size_t own = picks;  // the pick that j is
        for (std::size_t t = 0; t < picks; ++t) own = z[t] == static_cast<int>(j) ? t : own;
        real expected = own < picks ? earned(own + 1) : 0;
        auto left = s;
        for (std::size_t u = 0; u < picks && u <= own; ++u) {
          const real direct =
              static_cast<real>(p.weights(0, static_cast<index_t>(u))) * p.relevance(0, static_cast<index_t>(j));
          expected += std::exp(s[j] - test::log_sum_exp(left)) * (direct - earned(u));
          left[static_cast<std::size_t>(z[u])] = -test::infinity<real>;
        }
        DRO_CHECK_NEAR(found(static_cast<index_t>(i), static_cast<index_t>(j)), expected, rounding);
      }
    }
  }
}

TEST_CASE(
    "a constant taken off all relevances leaves the mean; the variance is well below that of the policy gradient") {
  problem p(4, 3, 71);
  p.weights = matrix(1, 3, {1, 0.63, 0.5});  // discounts, as of a ranking metric
  for (double& r : test::elements(p.relevance)) r = (r + 2) / 4;
  const auto variance = [&] {
    const auto found = p.estimates();
    real total = 0;
    for (std::size_t i = 0; i < p.rankings.size(); ++i) {
      const real probability = std::exp(test::plackett_luce_log_prob(p.values(), p.rankings[i]));
      for (index_t j = 0; j < 4; ++j) {
        const real g = found(static_cast<index_t>(i), j);
        total += probability * g * g;
      }
    }
    for (const real g : p.gradient()) total -= g * g;
    return total;
  };
  real policy = 0;
  for (const ranking& z : p.rankings) {
    real squares = 0;
    for (const real v : test::plackett_luce_score(p.values(), z)) squares += v * v;
    policy += std::exp(test::plackett_luce_log_prob(p.values(), z)) * p.reward(z) * p.reward(z) * squares;
  }
  for (const real g : p.gradient()) policy -= g * g;
  const real plain = variance();
  CHECK(plain < policy / 2);
  check_unbiased(p);
  const auto truth = p.gradient();
  for (double& r : test::elements(p.relevance)) r -= 0.5;
  check_unbiased(p);
  for (std::size_t j = 0; j < 4; ++j) DRO_CHECK_NEAR(p.gradient()[j], truth[j], rounding);
  CHECK(variance() < plain / 2);
}

TEST_CASE("draws are averaged and queries divided; what is not a ranking counts as 0") {
  dro::host_backend b(1);
  const problem p(4, 2, 81);
  const auto each = p.estimates();
  matrix s(2, 4);
  matrix r(2, 4);
  for (index_t q = 0; q < 2; ++q) {
    for (index_t j = 0; j < 4; ++j) {
      s(q, j) = p.scores(0, j);
      r(q, j) = p.relevance(0, j);
    }
  }
  auto z = test::ranking_matrix({p.rankings[0], p.rankings[5], p.rankings[7], p.rankings[1]});
  z(3, 1) = dro::no_document;
  matrix gradient(2, 4, {1, 1, 1, 1, 1, 1, 1, 1});
  dro::pl_rank_3_gradient(b, s, b.view(std::as_const(z)), grouping::uniform(2, 2), r, p.weights, b.view(gradient));
  for (index_t j = 0; j < 4; ++j) {
    // A sum of three numbers below 16.
    DRO_CHECK_NEAR(gradient(0, j), 1 + (each(0, j) + each(5, j)) / 4, 1e-14);
    DRO_CHECK_NEAR(gradient(1, j), 1 + each(7, j) / 4, 1e-14);
  }
  matrix micro(2, 4);
  dro::pl_rank_3_gradient(b, s, b.view(std::as_const(z)), grouping::uniform(2, 2), r, p.weights, b.view(micro), 8);
  for (index_t j = 0; j < 4; ++j) DRO_CHECK_NEAR(micro(1, j), each(7, j) / 16, 1e-14);
}

TEST_CASE("shapes that do not fit are refused") {
  dro::host_backend b(1);
  const problem p(4, 2, 91);
  const auto z = test::ranking_matrix({p.rankings[0]});
  const auto groups = grouping::uniform(1, 1);
  matrix gradient(1, 4);
  const matrix three(1, 3);
  const auto call = [&](const matrix& s, const matrix& r, const matrix& w) {
    dro::pl_rank_3_gradient(b, s, b.view(z), groups, r, w, b.view(gradient));
  };
  CHECK_NOTHROW(call(p.scores, p.relevance, p.weights));
  CHECK_THROWS_AS(call(p.scores, three, p.weights), dro::shape_error);
  CHECK_THROWS_AS(call(p.scores, p.relevance, three), dro::shape_error);
  CHECK_THROWS_AS(call(matrix(2, 4), p.relevance, p.weights), dro::shape_error);
  const dro::host_matrix<dro::document_t> none(1, 0);
  CHECK_THROWS_AS(
      dro::pl_rank_3_gradient(b, p.scores, b.view(none), groups, p.relevance, matrix(1, 0), b.view(gradient)),
      dro::option_error);
}
