// SPDX-License-Identifier: Apache-2.0
// log p and its gradient by masses relative to the largest document, and by logarithms where those are too small.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/ranking/masses.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/log_q_error.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

/// `count` rankings of `select` of `documents`.
std::vector<test::ranking> some_rankings(index_t count, index_t documents, index_t select, std::uint64_t seed) {
  test::numbers next(seed);
  std::vector<test::ranking> list;
  for (index_t i = 0; i < count; ++i) {
    test::ranking all;
    for (index_t j = 0; j < documents; ++j) all.push_back(static_cast<dro::document_t>(j));
    for (index_t t = 0; t < select; ++t) {
      const auto rest = static_cast<std::uint64_t>(documents - t);
      std::swap(all[static_cast<std::size_t>(t)], all[static_cast<std::size_t>(t) + next.word() % rest]);
    }
    all.resize(static_cast<std::size_t>(select));
    list.push_back(std::move(all));
  }
  return list;
}

struct size {
  index_t documents;
  index_t select;
};

}  // namespace

TEST_CASE_TEMPLATE("log p and gradient agree with the definition however far the scores lie apart", T, float, double) {
  // More draws in a query than are worked on at once, none in another; more documents than a word has bits, more than
  // fit beside each other in scratch memory, and just one.
  const std::vector<std::int32_t> starts = {0, 45, 45, 48};
  for (const auto& [n, select] : {size{1, 1}, {6, 6}, {31, 4}, {70, 9}, {700, 3}}) {
    for (const double spread : {1.0, 60.0, 120.0, 400.0, 3000.0}) {
      CAPTURE(n);
      CAPTURE(spread);
      dro::host_backend b(1);
      auto scores = test::random_matrix<T>(3, n, -1, 1, 51);
      for (T& s : test::elements(scores)) s *= static_cast<T>(spread / 2);
      const auto list = some_rankings(48, n, select, 52);
      const auto rankings = test::ranking_matrix(list);
      auto coefficients = test::random_matrix<T>(48, 1, -1, 1, 53);
      coefficients(7, 0) = 0;
      const auto groups = dro::grouping::ragged({starts.data(), 4, 1, 1, 1}, 48);
      const auto z = std::as_const(b).view(rankings);
      dro::host_matrix<T> log_prob(48, 1);
      dro::host_matrix<T> gradient(3, n);
      dro::plackett_luce_log_prob(b, scores, z, groups, b.view(log_prob));
      dro::accumulate_plackett_luce_gradient(b, scores, z, groups, coefficients, b.view(gradient));
      // A term s − largest − log M of log p: differences and logarithms below `spread` + log n, each rounded a few
      // times, and a sum of n masses in four parts and K more, whose relative error is an absolute one of its
      // logarithm.
      const real u = test::unit_roundoff<T>;
      const auto terms = static_cast<real>(n) / 4 + static_cast<real>(select) + 8;
      const real term = u * (6 * (static_cast<real>(spread) + std::log(static_cast<real>(n))) + terms);
      for (index_t q = 0; q < 3; ++q) {
        std::vector<real> expected(static_cast<std::size_t>(n), 0);
        for (auto i = starts[static_cast<std::size_t>(q)]; i < starts[static_cast<std::size_t>(q) + 1]; ++i) {
          const auto& ranking = list[static_cast<std::size_t>(i)];
          const real p = test::plackett_luce_log_prob(test::row(scores, q), ranking);
          DRO_CHECK_NEAR(log_prob(i, 0), p, static_cast<real>(select) * (term + u * std::abs(p)));
          const auto score = test::plackett_luce_score(test::row(scores, q), ranking);
          for (std::size_t j = 0; j < score.size(); ++j) {
            expected[j] += static_cast<real>(coefficients(i, 0)) * score[j];
          }
        }
        // A draw adds 1 − e^s B at most K in magnitude, whose factors have the relative error of a term; 45 draws with
        // coefficients below 1, whose sum is rounded 45 times.
        real worst = 0;
        for (index_t j = 0; j < n; ++j) {
          worst = std::max(worst, std::abs(static_cast<real>(gradient(q, j)) - expected[static_cast<std::size_t>(j)]));
        }
        DRO_CHECK_NEAR(worst, 0, 45 * static_cast<real>(select) * (2 * term + 45 * u));
      }
    }
  }
}

TEST_CASE_TEMPLATE("what is drawn has the log p of its ranking however far the scores lie apart", T, float, double) {
  for (const double spread : {1.0, 400.0, 3000.0}) {
    CAPTURE(spread);
    dro::host_backend b(1);
    auto scores = test::random_matrix<T>(3, 6, -1, 1, 56);
    for (T& s : test::elements(scores)) s *= static_cast<T>(spread / 2);
    dro::random_state random(b, 57);
    const auto z = dro::draw_plackett_luce(b, scores, random.source(b), {20, 6});
    dro::host_matrix<T> log_prob(60, 1);
    dro::plackett_luce_log_prob(b, scores, std::as_const(b).view(z.rankings()), z.groups(), b.view(log_prob));
    if (sizeof(T) > sizeof(float) || spread > 100) {  // the same floating-point masses, or logarithms
      CHECK(test::same(z.log_proposal(), log_prob));
      continue;
    }
    for (index_t i = 0; i < 60; ++i) {  // the draw's are of integer masses; each is off by its error
      const auto row = test::row(scores, i / 20);
      DRO_CHECK_NEAR(z.log_proposal()(i, 0), log_prob(i, 0),
                     2 * test::log_q_error(std::vector<T>(row.begin(), row.end()), 6));
    }
  }
}

TEST_CASE("log p of more picks than a product of significands may have in float") {
  dro::host_backend b(1);
  const auto scores = test::random_matrix<float>(1, 400, -1, 1, 58);
  const auto list = some_rankings(1, 400, 390, 59);
  const auto rankings = test::ranking_matrix(list);
  dro::host_matrix<float> log_prob(1, 1);
  dro::plackett_luce_log_prob(b, scores, std::as_const(b).view(rankings), dro::grouping::uniform(1, 1),
                              b.view(log_prob));
  const real p = test::plackett_luce_log_prob(test::row(scores, 0), list[0]);
  // Each of the 390 terms as above, with scores in (-1, 1).
  const real u = test::unit_roundoff<float>;
  DRO_CHECK_NEAR(log_prob(0, 0), p, 390 * (u * (6 * (2 + std::log(400.0)) + 100 + 390 + 8) + u * std::abs(p)));
}

TEST_CASE("a large number added to all scores costs log p no digits") {
  // 10^5 and its sums with multiples of 2^-7 are exact in float, so the differences of the scores are the same.
  auto near_zero = test::random_matrix<float>(1, 20, -16, 16, 54);  // multiples of 2^-7
  auto far_away = near_zero;
  for (float& s : test::elements(far_away)) s += 1e5F;
  const auto list = some_rankings(30, 20, 5, 55);
  const auto rankings = test::ranking_matrix(list);
  const auto solve = [&](const dro::host_matrix<float>& scores) {
    dro::host_backend b(1);
    dro::host_matrix<float> log_prob(30, 1);
    dro::plackett_luce_log_prob(b, scores, std::as_const(b).view(rankings), dro::grouping::uniform(1, 30),
                                b.view(log_prob));
    return log_prob;
  };
  CHECK(test::same(solve(near_zero), solve(far_away)));
}

TEST_CASE_TEMPLATE("the least mass decides between the two ways, and both give the same there", T, float, double) {
  // Documents 0 and 1 are left with 2, whose mass is a little above or below the threshold beside that of document 3.
  const T edge = std::log(dro::detail::least_mass<T>);
  for (const T offset : {T(-2), T(-0.25), T(0.25), T(2)}) {
    dro::host_backend b(1);
    const auto scores =
        test::matrix<T>(1, 4, std::vector<T>{edge + offset - 9, edge + offset - 8, edge + offset, T(0)});
    const auto rankings = test::ranking_matrix({{3, 2}});
    const auto z = std::as_const(b).view(rankings);
    const auto groups = dro::grouping::uniform(1, 1);
    dro::host_matrix<T> log_prob(1, 1);
    dro::host_matrix<T> gradient(1, 4);
    dro::plackett_luce_log_prob(b, scores, z, groups, b.view(log_prob));
    dro::accumulate_plackett_luce_gradient(b, scores, z, groups, test::column(std::vector<T>{1}), b.view(gradient));
    const auto row = test::row(scores, 0);
    // log p is the difference of two numbers as large as the edge, each rounded a few times; the gradient's exponents
    // have that error too.
    const real tolerance = 8 * std::abs(static_cast<real>(edge)) * static_cast<real>(test::unit_roundoff<T>);
    DRO_CHECK_NEAR(log_prob(0, 0), test::plackett_luce_log_prob(row, {3, 2}), tolerance);
    const auto expected = test::plackett_luce_score(row, {3, 2});
    for (index_t j = 0; j < 4; ++j) DRO_CHECK_NEAR(gradient(0, j), expected[static_cast<std::size_t>(j)], tolerance);
  }
}

TEST_CASE_TEMPLATE("what is left beside a large mass has all its digits, however little it is", T, float, double) {
  // Document 0 has nearly all the mass; the others have about 2^-e of it each. Of what is left after it no digit may be
  // lost, whether it is found by subtraction or by adding up.
  constexpr index_t n = 40;
  for (int e = 8; e <= 60; e += 2) {
    CAPTURE(e);
    dro::host_backend b(1);
    auto scores = test::random_matrix<T>(1, n, -1, 1, 71);
    for (T& s : test::elements(scores)) s -= static_cast<T>(e) * std::log(T(2));
    scores(0, 0) = 0;
    for (const index_t select : {2, 5, 7, 12}) {
      CAPTURE(select);
      test::ranking list;
      for (index_t t = 0; t < select; ++t) list.push_back(static_cast<dro::document_t>(t));
      const auto rankings = test::ranking_matrix({list});
      const auto z = std::as_const(b).view(rankings);
      const auto groups = dro::grouping::uniform(1, 1);
      dro::host_matrix<T> log_prob(1, 1);
      dro::plackett_luce_log_prob(b, scores, z, groups, b.view(log_prob));
      const auto gradient = dro::plackett_luce_gradient(b, scores, z, groups, test::column(std::vector<T>{1}));
      // Of the picks after document 0 (its own log p and share are 0 to within n 2^-e): differences of scores in (-1,
      // 1) and the logarithms of at most n masses of one size, and sums of n masses in four parts and K more.
      const real u = test::unit_roundoff<T>;
      const auto terms = static_cast<real>(n) / 4 + static_cast<real>(select) + 8;
      const real term = u * (6 * (2 + std::log(static_cast<real>(n))) + terms);
      const auto row = test::row(scores, 0);
      const real p = test::plackett_luce_log_prob(row, list);
      DRO_CHECK_NEAR(log_prob(0, 0), p, static_cast<real>(select) * (term + u * std::abs(p)));
      const auto expected = test::plackett_luce_score(row, list);
      for (index_t j = 0; j < n; ++j) {
        DRO_CHECK_NEAR(gradient(0, j), expected[static_cast<std::size_t>(j)], static_cast<real>(select) * 2 * term);
      }
    }
  }
}

TEST_CASE_TEMPLATE("a list that picks a document twice, or one that is not there, is no ranking", T, float, double) {
  constexpr index_t n = 40;
  dro::host_backend b(1);
  const auto scores = test::random_matrix<T>(1, n, -1, 1, 72);
  for (const index_t select : {2, 4, 7, 12}) {  // as many slots, more, none
    std::vector<test::ranking> list;
    const auto plain = some_rankings(1, n, select, 73)[0];
    for (index_t t = 0; t < select; ++t) {
      for (const dro::document_t wrong : {dro::no_document, static_cast<dro::document_t>(n)}) {
        list.push_back(plain);
        list.back()[static_cast<std::size_t>(t)] = wrong;
      }
      for (index_t u = 0; u < t; ++u) {
        list.push_back(plain);
        list.back()[static_cast<std::size_t>(t)] = list.back()[static_cast<std::size_t>(u)];
      }
    }
    const auto rankings = test::ranking_matrix(list);
    const auto z = std::as_const(b).view(rankings);
    const auto draws = static_cast<index_t>(list.size());
    const auto groups = dro::grouping::uniform(1, draws);
    dro::host_matrix<T> log_prob(draws, 1);
    dro::plackett_luce_log_prob(b, scores, z, groups, b.view(log_prob));
    for (index_t i = 0; i < draws; ++i) CHECK(log_prob(i, 0) == -test::infinity<T>);
    // One at a time: what two lists add could cancel.
    for (index_t i = 0; i < draws; ++i) {
      CAPTURE(select);
      CAPTURE(i);
      const auto one = test::ranking_matrix({list[static_cast<std::size_t>(i)]});
      const auto gradient = dro::plackett_luce_gradient(b, scores, std::as_const(b).view(one),
                                                        dro::grouping::uniform(1, 1), test::column(std::vector<T>{1}));
      for (const T g : test::elements(gradient)) CHECK(g == T(0));
    }
  }
}
