// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/models/table.hpp>
#include <dro/ranking/without_replacement.hpp>

#include "support/matrices.hpp"
#include "support/pair_scorer.hpp"

namespace {

using dro::index_t;
using test::ranking;
using test::real;
using batch = dro::item_batch<test::toy_query>;
using selector = dro::autoregressive_selector<test::pair_scorer>;
using host_draws = dro::without_replacement_draws<dro::host_backend, double>;

static_assert(dro::proposal<dro::without_replacement<selector>, dro::host_backend, batch>);
static_assert(dro::proposal<dro::without_replacement<dro::models::table_selector<dro::host_backend>>, dro::host_backend,
                            dro::models::table_rows>);

constexpr real u = test::unit_roundoff<double>;
// A pick's log-probability is off by at most 120 u for scores below 10 (typed/test_plackett_luce.cpp).
constexpr real per_pick = 120 * u;

/// `count` queries that all have the same scores.
dro::host_matrix<double> repeated(index_t count, const std::vector<double>& scores) {
  dro::host_matrix<double> m(count, static_cast<index_t>(scores.size()));
  for (index_t q = 0; q < count; ++q) {
    for (index_t j = 0; j < m.cols(); ++j) m(q, j) = scores[static_cast<std::size_t>(j)];
  }
  return m;
}

host_draws draw(const dro::host_matrix<double>& scores, const dro::draw_options& options, std::uint64_t seed = 61) {
  dro::host_backend b(1);
  const dro::random_state<dro::host_backend> random(b, seed);
  return dro::draw_without_replacement(b, scores, random.source(b), options);
}

/// Probabilities of all ordered lists of m different rankings, as numbers into `p`, drawn one after the other: each
/// from what is left.
std::map<ranking, real> sequences(const std::vector<real>& p, std::size_t m) {
  std::map<ranking, real> all;
  ranking list;
  const auto extend = [&](const auto& self, real probability) -> void {
    if (list.size() == m) {
      all[list] = probability;
      return;
    }
    real left = 0;
    const auto taken = [&](std::size_t z) { return std::ranges::count(list, static_cast<dro::document_t>(z)) > 0; };
    for (std::size_t z = 0; z < p.size(); ++z) left += taken(z) ? 0 : p[z];
    for (std::size_t z = 0; z < p.size(); ++z) {
      if (taken(z)) continue;
      list.push_back(static_cast<dro::document_t>(z));
      self(self, probability * p[z] / left);
      list.pop_back();
    }
  };
  extend(extend, 1);
  return all;
}

/// The same for sets: lists in ascending order.
std::map<ranking, real> sets(const std::vector<real>& p, std::size_t m) {
  std::map<ranking, real> all;
  for (const auto& [list, probability] : sequences(p, m)) {
    ranking members = list;
    std::ranges::sort(members);
    all[members] += probability;
  }
  return all;
}

/// Number of each ranking in a list of all.
std::map<ranking, dro::document_t> numbers_of(const std::vector<ranking>& list) {
  std::map<ranking, dro::document_t> number;
  for (std::size_t z = 0; z < list.size(); ++z) number[list[z]] = static_cast<dro::document_t>(z);
  return number;
}

/// The rankings drawn for a query, as numbers.
ranking drawn_numbers(const host_draws& drawn, const std::map<ranking, dro::document_t>& number, index_t query) {
  ranking list;
  const auto& groups = drawn.z.groups();
  for (index_t i = 0; i < groups.size(query); ++i) {
    list.push_back(number.at(test::ranking_of(drawn.z.rankings(), groups.begin(query) + i)));
  }
  return list;
}

std::vector<real> probabilities(const std::vector<double>& scores, const std::vector<ranking>& list) {
  const std::vector<real> exact(scores.begin(), scores.end());
  std::vector<real> p;
  for (const auto& z : list) p.push_back(std::exp(test::plackett_luce_log_prob(exact, z)));
  return p;
}

test::pair_scorer scorer(std::size_t documents, bool looks_back) {
  test::pair_scorer s(documents);
  test::numbers next(63);
  const auto parameters = s.parameters();
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    const double value = next.between(-0.5, 0.5);
    parameters[k] = k < documents || looks_back ? value : 0;
  }
  return s;
}

}  // namespace

TEST_CASE("log(1 − e^−x) and the log of the inclusion probability keep their precision") {
  for (const double x : {1e-300, 1e-20, 1e-9, 0.01, 0.5, 0.6931, 0.6932, 1.0, 5.0, 36.0, 40.0, 700.0}) {
    const auto exact = static_cast<real>(x);
    const real expected = x < 1 ? std::log(-std::expm1(-exact)) : std::log1p(-std::exp(-exact));
    // Six operations of 1 ulp on the argument of the last logarithm, which is below 0.5 or has |log| > 0.69; and its
    // own.
    DRO_CHECK_NEAR(dro::detail::log_one_minus_exp(x), expected, 16 * u * std::abs(expected));
  }
  CHECK(dro::detail::log_one_minus_exp(0.0) == -test::infinity<double>);
  CHECK(dro::detail::log_one_minus_exp(test::infinity<double>) == 0);
  for (double x = -800; x < 4; x += x < -60 ? 31 : 0.25) {
    CAPTURE(x);
    const real expected = std::log(-std::expm1(-std::exp(static_cast<real>(x))));
    // The rate e^x is off by 2 u of itself, which moves log(1 − e^−rate) by at most that.
    DRO_CHECK_NEAR(dro::detail::log_inclusion(x), expected, 20 * u * std::max<real>(1, std::abs(expected)));
  }
  CHECK(dro::detail::log_inclusion(-800.0) == -800);
  CHECK(dro::detail::log_inclusion(-90.0F) == -90);
  CHECK(dro::detail::log_inclusion(800.0) == 0);
  CHECK(dro::detail::log_inclusion(test::infinity<double>) == 0);
}

TEST_CASE("keys are moved to a given maximum: the largest exactly, the others as the formula says, in their order") {
  for (const double target : {-30.0, -1.5, 0.25, 3.0, 45.0}) {
    for (const double largest : {-40.0, -3.0, 2.0, 20.0}) {
      CHECK(dro::detail::key_given_largest(largest, largest, target) == target);
      CHECK(dro::detail::key_given_largest(-test::infinity<double>, largest, target) == -test::infinity<double>);
      double above = target;
      for (const double below : {0x1p-40, 0x1p-19, 0.01, 1.0, 7.0, 30.0}) {
        const double key = largest - below;
        const real gap = static_cast<real>(largest) - key;
        const real expected =
            -std::log(std::exp(-static_cast<real>(target)) - std::exp(-static_cast<real>(key)) * std::expm1(-gap));
        const double moved = dro::detail::key_given_largest(key, largest, target);
        // Six operations of at most 2 ulp on numbers below 128, whose ulp is 128 u.
        DRO_CHECK_NEAR(moved, expected, 6 * 2 * 128 * u);
        CHECK(moved <= above);
        above = moved;
      }
    }
  }
}

TEST_CASE("rankings are drawn one after the other from what is left, under Plackett–Luce") {
  const std::vector<double> scores = {0.5, -0.25, 0.75, 0.0};
  const auto list = test::all_rankings(4, 2);
  const auto number = numbers_of(list);
  const auto p = probabilities(scores, list);
  constexpr index_t count = 40000;
  for (const index_t m : {1, 2, 3}) {
    CAPTURE(m);
    const auto drawn = draw(repeated(count, scores), {m, 2});
    CHECK(drawn.z.traits().block == m);
    CHECK(drawn.z.traits().covers);
    // Best key first, the draws are a sequence; of three only the set is counted, there are too many sequences.
    const auto expected = m < 3 ? sequences(p, static_cast<std::size_t>(m)) : sets(p, 3);
    std::map<ranking, std::size_t> counts;
    for (index_t q = 0; q < count; ++q) {
      auto found = drawn_numbers(drawn, number, q);
      if (m == 3) std::ranges::sort(found);
      REQUIRE(expected.contains(found));
      ++counts[found];
    }
    CHECK(test::chi_square(counts, expected, count) < test::chi_square_bound(expected.size() - 1));
  }
}

TEST_CASE("eleven of twelve: the one that is left out has the probability of being last") {
  const std::vector<double> scores = {0.5, -0.25, 0.75, 0.0};
  const auto list = test::all_rankings(4, 2);
  const auto number = numbers_of(list);
  const auto p = probabilities(scores, list);
  constexpr index_t count = 40000;
  const auto drawn = draw(repeated(count, scores), {11, 2});
  std::map<ranking, std::size_t> counts;
  for (index_t q = 0; q < count; ++q) {
    const auto found = drawn_numbers(drawn, number, q);
    REQUIRE(std::set(found.begin(), found.end()).size() == 11);
    ++counts[{66 - std::accumulate(found.begin(), found.end(), 0)}];  // 0 + 1 + … + 11 = 66
  }
  // Arrival times with rates p: ranking z is the last with probability Σ_A (−1)^|A| p_z / (p_z + p(A)), A over the sets
  // of others.
  std::map<ranking, real> last;
  for (std::size_t z = 0; z < p.size(); ++z) {
    real& sum = last[{static_cast<dro::document_t>(z)}];
    for (unsigned subset = 0; subset < 1U << p.size(); ++subset) {
      if ((subset >> z & 1U) != 0) continue;
      real total = p[z];
      for (std::size_t k = 0; k < p.size(); ++k) total += (subset >> k & 1U) != 0 ? p[k] : 0;
      sum += (std::popcount(subset) % 2 == 0 ? p[z] : -p[z]) / total;
    }
  }
  CHECK(test::chi_square(counts, last, count) < test::chi_square_bound(last.size() - 1));
}

TEST_CASE("rankings are drawn one after the other from what is left, under a scorer that looks back") {
  dro::host_backend b(1);
  const selector s(scorer(4, true));
  constexpr index_t count = 40000;
  const std::vector<test::toy_query> queries(count, test::toy_query{4, 1.0});
  const dro::random_state<dro::host_backend> random(b, 62);
  const dro::without_replacement<selector> proposal(s);
  const auto list = test::all_rankings(4, 3);
  const auto number = numbers_of(list);
  std::vector<real> p;
  for (const auto& z : list) p.push_back(std::exp(s.scorer().log_prob(queries[0], z)));
  const auto drawn = proposal.draw_set(b, batch(queries), {2, 3}, random.source(b));
  const auto expected = sequences(p, 2);
  std::map<ranking, std::size_t> counts;
  real worst = 0;
  real worst_unsampled = 0;
  for (index_t q = 0; q < count; ++q) {
    const auto found = drawn_numbers(drawn, number, q);
    ++counts[found];
    real rest = 1;
    for (std::size_t i = 0; i < 2; ++i) {
      const real z = p[static_cast<std::size_t>(found[i])];
      worst = std::max(worst, std::abs(drawn.log_prob(2 * q + static_cast<index_t>(i), 0) - std::log(z)));
      rest -= z;
    }
    worst_unsampled = std::max(worst_unsampled, std::abs(drawn.log_unsampled(q, 0) - std::log(rest)));
  }
  CHECK(test::chi_square(counts, expected, count) < test::chi_square_bound(expected.size() - 1));
  DRO_CHECK_NEAR(worst, 0, 3 * per_pick);
  // Each branch is off by that, and up to 3 · 3 · 4 + 1 of them are added, 4 u each.
  DRO_CHECK_NEAR(worst_unsampled, 0, 3 * per_pick + 37 * 4 * u);
}

TEST_CASE("a scorer that does not look back draws what Plackett–Luce draws") {
  dro::host_backend b(2);
  const selector s(scorer(5, false));
  const std::vector<test::toy_query> queries(200, test::toy_query{5, 2.0});
  const dro::random_state<dro::host_backend> random(b, 64);
  const auto scores = s.scores(b, batch(queries));
  const auto steps = dro::draw_without_replacement(b, s.scorer(), batch(queries), random.source(b), {4, 3});
  const auto whole = dro::draw_without_replacement(b, scores, random.source(b), {4, 3});
  // Keys differ by rounding alone, so that no order of them does.
  CHECK(test::same(steps.z.rankings(), whole.z.rankings()));
  real worst = 0;
  for (index_t i = 0; i < 800; ++i) {
    worst = std::max<real>(worst, std::abs(steps.log_prob(i, 0) - whole.log_prob(i, 0)));
    worst = std::max<real>(worst, std::abs(steps.z.log_proposal()(i, 0) - whole.z.log_proposal()(i, 0)));
  }
  // log q of log p and a threshold that are each off by 3 picks, two ways.
  DRO_CHECK_NEAR(worst, 0, 4 * 3 * per_pick);
}

TEST_CASE(
    "importance weights with the inclusion probability are unbiased, and κ is the same for all draws of a query") {
  const std::vector<double> scores = {1.5, -1.0, 0.5, 0.0};
  const auto list = test::all_rankings(4, 2);
  const auto number = numbers_of(list);
  const auto p = probabilities(scores, list);
  constexpr index_t count = 40000;
  constexpr index_t m = 3;
  const auto drawn = draw(repeated(count, scores), {m, 2});
  std::vector<real> mean(p.size(), 0);
  std::vector<real> square(p.size(), 0);
  real spread = 0;
  for (index_t q = 0; q < count; ++q) {
    const auto found = drawn_numbers(drawn, number, q);
    real lowest = test::infinity<real>;
    real highest = -test::infinity<real>;
    for (index_t i = 0; i < m; ++i) {
      const real log_p = drawn.log_prob(m * q + i, 0);
      const real log_q = drawn.z.log_proposal()(m * q + i, 0) + std::log(static_cast<real>(m));
      const real weight = std::exp(log_p - log_q);
      const auto z = static_cast<std::size_t>(found[static_cast<std::size_t>(i)]);
      mean[z] += weight;
      square[z] += weight * weight;
      // q_κ close to 1 says little of κ.
      if (log_q > -0.01L) continue;
      const real threshold = log_p - std::log(-std::log(-std::expm1(log_q)));
      lowest = std::min(lowest, threshold);
      highest = std::max(highest, threshold);
    }
    if (highest > lowest) spread = std::max(spread, highest - lowest);
  }
  for (std::size_t z = 0; z < p.size(); ++z) {
    mean[z] /= count;
    const real error = std::sqrt((square[z] / count - mean[z] * mean[z]) / count);
    DRO_CHECK_NEAR(mean[z], p[z], 5 * error);  // 12 tests, 6e-7 each
  }
  // κ from a log q below −0.01 magnifies its rounding by less than 1000; |log q| < 30.
  DRO_CHECK_NEAR(spread, 0, 1000 * 60 * u);
}

TEST_CASE("all rankings are there once where there are no more than m, and nothing is left") {
  const std::vector<double> scores = {1.5, -1.0, 0.5};
  const auto list = test::all_rankings(3, 2);
  for (const index_t m : {6, 7, 9}) {
    CAPTURE(m);
    const auto drawn = draw(repeated(1, scores), {m, 2});
    std::set<ranking> found;
    real total = 0;
    for (index_t i = 0; i < 6; ++i) {
      found.insert(test::ranking_of(drawn.z.rankings(), i));
      total += std::exp(static_cast<real>(drawn.log_prob(i, 0)));
      CHECK(drawn.z.log_proposal()(i, 0) == -dro::math::log(static_cast<double>(m)));  // included for certain
    }
    CHECK(found == std::set(list.begin(), list.end()));
    DRO_CHECK_NEAR(total, 1, 2 * per_pick);
    for (index_t i = 6; i < m; ++i) {
      CHECK(test::ranking_of(drawn.z.rankings(), i) == ranking{dro::no_document, dro::no_document});
      CHECK(drawn.log_prob(i, 0) == -test::infinity<double>);
      CHECK(drawn.z.log_proposal()(i, 0) == -test::infinity<double>);
    }
    CHECK(drawn.log_unsampled(0, 0) == -test::infinity<double>);
  }
  // One document: one ranking.
  const auto one = draw(repeated(1, {3.0}), {2, 1});
  CHECK(one.log_prob(0, 0) == 0);
  CHECK(one.z.rankings()(1, 0) == dro::no_document);
}

TEST_CASE("the draws of all rankings are an exact E-step") {
  dro::host_backend b(1);
  const auto drawn = draw(repeated(1, {1.5, -1.0, 0.5}), {8, 2});
  const auto likelihood = test::random_matrix<double>(8, 1, -3, 0, 65);
  const auto weights = dro::importance_weights(b, dro::off_policy(b, drawn.log_prob, likelihood, drawn.z));
  std::vector<real> joint;
  for (index_t i = 0; i < 6; ++i) joint.push_back(static_cast<real>(drawn.log_prob(i, 0)) + likelihood(i, 0));
  DRO_CHECK_NEAR(weights.log_evidence(0, 0), test::log_sum_exp(joint), 200 * u);
  const auto posterior = test::softmax(joint);
  for (index_t i = 0; i < 6; ++i) {
    DRO_CHECK_NEAR(weights.normalised(i, 0), posterior[static_cast<std::size_t>(i)], 100 * u);
  }
}

TEST_CASE("the mass not sampled is that of the rankings that were not, however small") {
  for (const double peak : {0.0, 5.0, 40.0, 300.0}) {
    for (const index_t m : {1, 4}) {
      CAPTURE(peak);
      CAPTURE(m);
      const std::vector<double> scores = {0.5, peak, -1.0, 0.25, peak == 0 ? 1.0 : peak + 2.0};
      const std::vector<real> exact(scores.begin(), scores.end());
      constexpr index_t count = 50;
      const auto drawn = draw(repeated(count, scores), {m, 3});
      for (index_t q = 0; q < count; ++q) {
        std::set<ranking> found;
        for (index_t i = 0; i < m; ++i) {
          const auto z = test::ranking_of(drawn.z.rankings(), q * m + i);
          found.insert(z);
          DRO_CHECK_NEAR(drawn.log_prob(q * m + i, 0), test::plackett_luce_log_prob(exact, z),
                         3 * (per_pick + 4 * static_cast<real>(peak) * u));
        }
        std::vector<real> rest;
        for (const auto& z : test::all_rankings(5, 3)) {
          if (!found.contains(z)) rest.push_back(test::plackett_luce_log_prob(exact, z));
        }
        // At most 3 · 5 · 5 + 1 branches are added, 2.5 u and an ulp of the result each.
        const real expected = test::log_sum_exp(rest);
        DRO_CHECK_NEAR(drawn.log_unsampled(q, 0), expected,
                       3 * (per_pick + 4 * static_cast<real>(peak) * u) + 76 * (3 + 2 * std::abs(expected)) * u);
      }
    }
  }
}

TEST_CASE("nothing is read back, and neither threads nor the deferred backend change a bit") {
  const auto scores = test::random_matrix<float>(33, 7, -2, 2, 66);
  const auto draw_on = [&](auto& b, const auto& own) {
    const dro::random_state random(b, 67);
    return dro::draw_without_replacement(b, own, random.source(b), {5, 3});
  };
  dro::host_backend one(1);
  const auto expected = draw_on(one, scores);
  dro::host_backend three(3);
  const auto threaded = draw_on(three, scores);
  CHECK(test::same(threaded.z.rankings(), expected.z.rankings()));
  CHECK(test::same(threaded.log_unsampled, expected.log_unsampled));
  dro::deferred_backend deferred;
  const auto own = dro::write(deferred, scores);
  const auto lazy = draw_on(deferred, own);
  CHECK(deferred.reads() == 0);
  CHECK(deferred.synchronisations() == 0);
  CHECK(deferred.pending() == 3);  // scores, the random step, the draw
  CHECK(test::same(dro::read(deferred, lazy.z.rankings()), expected.z.rankings()));
  CHECK(test::same(dro::read(deferred, lazy.log_prob), expected.log_prob));
  CHECK(test::same(dro::read(deferred, lazy.z.log_proposal()), expected.z.log_proposal()));
  CHECK(test::same(dro::read(deferred, lazy.log_unsampled), expected.log_unsampled));
}

TEST_CASE("what cannot be completed is not a ranking, and NaN shows") {
  constexpr double inf = test::infinity<double>;
  // Two of four documents are possible: no ranking of three, and two of two.
  const auto none = draw(repeated(1, {-inf, 1.0, -inf, 0.0}), {2, 3});
  for (index_t i = 0; i < 2; ++i) {
    CHECK(none.log_prob(i, 0) == -inf);
    CHECK(none.z.log_proposal()(i, 0) == -inf);
    CHECK(test::ranking_of(none.z.rankings(), i)[2] == dro::no_document);
  }
  DRO_CHECK_NEAR(none.log_unsampled(0, 0), 0, 2 * per_pick);
  const auto two = draw(repeated(1, {-inf, 1.0, -inf, 0.0}), {3, 2});
  CHECK(two.log_unsampled(0, 0) == -inf);
  CHECK(std::set{test::ranking_of(two.z.rankings(), 0), test::ranking_of(two.z.rankings(), 1)} ==
        std::set<ranking>{{1, 3}, {3, 1}});
  CHECK(two.z.rankings()(2, 0) == dro::no_document);
  const auto bad = draw(repeated(1, {0.0, test::nan<double>, 1.0}), {2, 2});
  CHECK(std::isnan(bad.log_prob(0, 0)));
  CHECK(std::isnan(bad.log_unsampled(0, 0)));
  CHECK(std::isnan(draw(repeated(1, {0.0, inf, 1.0}), {2, 2}).log_prob(0, 0)));
  CHECK(draw(dro::host_matrix<double>(0, 4), {2, 2}).log_unsampled.rows() == 0);
}

namespace {

/// After document 0 nothing can be chosen; otherwise all are alike.
struct dead_end {
  [[nodiscard]] index_t document_count(const test::toy_query& query) const { return query.documents; }
  void scores(const test::toy_query&, std::span<const dro::document_t> prefix, std::span<double> out) const {
    std::ranges::fill(out, !prefix.empty() && prefix[0] == 0 ? -test::infinity<double> : 0.0);
  }
  void accumulate_score_gradient(const test::toy_query&, std::span<const dro::document_t>, std::span<const double>,
                                 std::span<double>) const {}
  std::span<double> parameters() { return {}; }
};

}  // namespace

TEST_CASE("a prefix that leads nowhere takes the place of a draw, so that the others' weights stay unbiased") {
  dro::host_backend b(1);
  const dead_end s;
  constexpr index_t count = 20000;
  const std::vector<test::toy_query> queries(count, test::toy_query{3, 1.0});
  const dro::random_state<dro::host_backend> random(b, 68);
  const auto drawn = dro::draw_without_replacement(b, s, batch(queries), random.source(b), {2, 2});
  // Rankings (1, ·) and (2, ·) have 1/6 each, (0, nothing) has 1/3.
  real sum = 0;
  real squares = 0;
  index_t ended = 0;
  real worst = 0;
  for (index_t q = 0; q < count; ++q) {
    real weight = 0;
    real mass = std::exp(static_cast<real>(drawn.log_unsampled(q, 0)));
    for (index_t i = 2 * q; i < 2 * q + 2; ++i) {
      if (drawn.log_prob(i, 0) == -test::infinity<double>) {
        CHECK(test::ranking_of(drawn.z.rankings(), i) == ranking{0, dro::no_document});
        ++ended;
        continue;
      }
      mass += std::exp(static_cast<real>(drawn.log_prob(i, 0)));
      weight += std::exp(static_cast<real>(drawn.log_prob(i, 0)) - drawn.z.log_proposal()(i, 0)) / 2;
    }
    sum += weight;
    squares += weight * weight;
    worst = std::max(worst, std::abs(mass - 1));
  }
  // In the first of two draws with 1/3, in the second with (2/3) (1/3) / (5/6): 3/5 of the queries.
  DRO_CHECK_NEAR(static_cast<real>(ended) / count, 0.6L, 5 * std::sqrt(0.24L / count));
  DRO_CHECK_NEAR(sum / count, real{2} / 3, 5 * std::sqrt((squares / count - sum * sum / count / count) / count));
  DRO_CHECK_NEAR(worst, 0, 4 * per_pick);
}

TEST_CASE("options that do not fit are refused") {
  dro::host_backend b(1);
  const dro::random_state<dro::host_backend> random(b, 69);
  const auto source = random.source(b);
  const auto scores = repeated(2, {0.0, 1.0, 2.0});
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::draw_without_replacement(b, scores, source, {0, 2})),
                       "samples is 0, expected at least 1", dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::draw_without_replacement(b, scores, source, {2, 4})),
                       "select is 4, expected 1 to 3, the number of documents", dro::option_error);
  const std::vector<test::toy_query> queries = {{3, 1.0}, {2, 1.0}};
  const auto s = scorer(3, true);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::draw_without_replacement(b, s, batch(queries), source, {2, 3})),
                       "select is 3, expected 1 to 2, the number of documents", dro::option_error);
}
