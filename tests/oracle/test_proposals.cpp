// SPDX-License-Identifier: Apache-2.0
// Every proposal against the enumeration of all rankings: what it draws, what it says of it, and what the weights make.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/model/proposals/fixed_order.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/model/proposals/sampled_selector.hpp>
#include <dro/model/proposals/several.hpp>
#include <dro/model/proposals/uniform.hpp>
#include <dro/ranking/autoregressive.hpp>

#include "support/pair_scorer.hpp"
#include "support/sampled_reference.hpp"

namespace {

using dro::index_t;
using dro::noise_kind;
using dro::sampling;
using test::pair_scorer;
using test::real;
using test::toy_query;
using batch = dro::item_batch<toy_query>;

// Scores are below 10 and each log-sum is off by a few units of its rounding (see unit/test_autoregressive.cpp); at
// most 3 picks of 5 documents: 400 u.
constexpr real tolerance = 400 * static_cast<real>(test::unit_roundoff<double>);

constexpr index_t documents = 5;
constexpr index_t picks = 3;
constexpr index_t count = 20000;
const std::vector<toy_query> one_query = {{documents, 1.0}};

const std::vector<sampling> every_kind = {
    {.temperature = 0.5},
    {.temperature = 2.5},
    {.top_k = 1},
    {.top_k = 3},
    {.top_k = 9},
    {.top_p = 0.05},
    {.top_p = 0.6},
    {.top_p = 0.97},
    {.temperature = 1.5, .top_k = 4, .top_p = 0.8},
    {.top_p = 0.7, .noise = {noise_kind::antithetic}},
    {.temperature = 0.7, .top_k = 3, .noise = {noise_kind::latin_hypercube, 8}},
};

/// The distribution over all rankings of K of the documents, log q and log kept, from the definition.
template <class ScoresAfter>
std::map<test::ranking, test::sampled_log_prob> enumerate(const ScoresAfter& scores_after, const sampling& how) {
  std::map<test::ranking, test::sampled_log_prob> all;
  for (const auto& z : test::all_rankings(documents, picks)) all[z] = test::sampled_reference(scores_after, z, how);
  return all;
}

/// Every ranking once, for one query.
dro::draws<dro::host_backend, double> every_ranking(dro::host_backend& b) {
  const auto list = test::all_rankings(documents, picks);
  const auto n = static_cast<index_t>(list.size());
  return {b, test::ranking_matrix(list), dro::host_matrix<double>(n, 1), dro::grouping::uniform(1, n)};
}

/// Holds a proposal against its distribution: log_prob of every ranking, that they sum to 1, the frequencies of its
/// draws, and what the draws carry.
template <class Proposal, class Queries>
void check_distribution(const Proposal& proposal, const Queries& queries,
                        const std::map<test::ranking, test::sampled_log_prob>& expected, bool truncates) {
  dro::host_backend b(1);
  const auto all = every_ranking(b);
  const auto scored = proposal.log_prob(b, queries, all);
  real sum = 0;
  for (index_t i = 0; i < scored.rows(); ++i) {
    DRO_CHECK_NEAR(scored(i, 0), expected.at(test::ranking_of(all.rankings(), i)).log_q, tolerance);
    sum += std::exp(static_cast<real>(scored(i, 0)));
  }
  DRO_CHECK_NEAR(sum, 1, 2 * tolerance);

  const dro::random_state<dro::host_backend> random(b, 81);
  const auto z = proposal.draw(b, queries, {count, picks}, random.source(b));
  CHECK(z.has_log_kept() == truncates);
  CHECK(z.traits().covers != truncates);
  const auto own = proposal.log_prob(b, queries, z);
  std::map<test::ranking, std::size_t> counts;
  std::size_t counted = 0;
  std::size_t impossible = 0;
  real worst = 0;
  real worst_kept = 0;
  real worst_own = 0;
  for (index_t i = 0; i < count; ++i) {
    const auto ranking = test::ranking_of(z.rankings(), i);
    const auto& e = expected.at(ranking);
    if (e.log_q == -test::infinity<real>) {
      ++impossible;
      continue;
    }
    // One sample of each block, each time from another place: samples that share noise are not independent.
    const index_t block = z.traits().block;
    if (i % block == i / block % block) {
      ++counts[ranking];
      ++counted;
    }
    worst = std::max(worst, std::abs(z.log_proposal()(i, 0) - e.log_q));
    worst_own = std::max<real>(worst_own, std::abs(z.log_proposal()(i, 0) - own(i, 0)));
    if (truncates) worst_kept = std::max(worst_kept, std::abs(z.log_kept()(i, 0) - e.log_kept));
  }
  CHECK(impossible == 0);
  DRO_CHECK_NEAR(worst, 0, tolerance);
  DRO_CHECK_NEAR(worst_own, 0, tolerance);
  DRO_CHECK_NEAR(worst_kept, 0, tolerance);
  std::map<test::ranking, real> probability;
  for (const auto& [ranking, e] : expected) {
    if (e.log_q > -test::infinity<real>) probability[ranking] = std::exp(e.log_q);
  }
  CHECK(test::chi_square(counts, probability, counted) < test::chi_square_bound(probability.size() - 1));
}

pair_scorer looking_back() {
  pair_scorer s(documents);
  test::numbers next(82);
  for (double& parameter : s.parameters()) parameter = next.between(-1, 1);
  return s;
}

std::vector<double> some_scores() { return {0.5, -1, 1.25, 0, 0.25}; }

std::vector<real> as_real(const std::vector<double>& scores) { return {scores.begin(), scores.end()}; }

}  // namespace

TEST_CASE("tempered, truncated: Plackett–Luce scores") {
  const test::scored_table<double> selector(some_scores());
  for (const sampling& how : every_kind) {
    CAPTURE(how.temperature);
    CAPTURE(how.top_k);
    CAPTURE(how.top_p);
    const auto expected = enumerate([](const test::ranking&) { return as_real(some_scores()); }, how);
    check_distribution(dro::sampled_selector(selector, how), one_query, expected, how.truncates());
  }
}

TEST_CASE("tempered, truncated: a selector that looks back") {
  const dro::autoregressive_selector<pair_scorer> selector(looking_back());
  for (const sampling& how : every_kind) {
    CAPTURE(how.temperature);
    CAPTURE(how.top_k);
    CAPTURE(how.top_p);
    const auto expected = enumerate(
        [&](const test::ranking& prefix) {
          std::vector<double> scores(documents);
          selector.scorer().scores(one_query[0], prefix, scores);
          return as_real(scores);
        },
        how);
    check_distribution(dro::sampled_selector(selector, how), batch(one_query), expected, how.truncates());
  }
}

TEST_CASE("equal scores: the smaller document number is kept") {
  for (const sampling& how : {sampling{.top_k = 2}, {.top_p = 0.39}, {.top_k = 4, .top_p = 0.55}}) {
    const auto flat = [](const test::ranking&) { return std::vector<real>(documents, 0); };
    const test::scored_table<double> table(std::vector<double>(documents, 0.0));
    check_distribution(dro::sampled_selector(table, how), one_query, enumerate(flat, how), true);
    const dro::autoregressive_selector<pair_scorer> selector{pair_scorer(documents)};
    check_distribution(dro::sampled_selector(selector, how), batch(one_query), enumerate(flat, how), true);
  }
}

TEST_CASE("uniform: every ranking alike, over n documents or over those that a selector can choose") {
  std::map<test::ranking, test::sampled_log_prob> expected;
  for (const auto& z : test::all_rankings(documents, picks)) expected[z].log_q = -std::log(real{60});
  check_distribution(dro::uniform<double>(documents), one_query, expected, false);

  constexpr double inf = test::infinity<double>;
  for (auto& [z, e] : expected) {
    e.log_q = std::ranges::find(z, 1) == z.end() ? -std::log(real{24}) : -test::infinity<real>;
  }
  check_distribution(dro::uniform_over(test::scored_table<double>({0.5, -inf, 3, -2, 7})), one_query, expected, false);
}

TEST_CASE("a mixture draws from α p + (1 − α) q, and no weight exceeds 1/α") {
  const test::scored_table<double> selector(some_scores());
  const auto plain = enumerate([](const test::ranking&) { return as_real(some_scores()); }, {});
  const auto mixed_with = [&](double alpha, auto&& log_second) {
    auto all = plain;
    for (auto& [z, e] : all) {
      const real first = std::log(static_cast<real>(alpha)) + e.log_q;
      e.log_q = test::log_sum_exp({first, std::log1p(-static_cast<real>(alpha)) + log_second(z)});
    }
    return all;
  };
  const auto first_in_order = [](const test::ranking& z) {
    return z == test::ranking{0, 1, 2} ? real{0} : -test::infinity<real>;
  };
  for (const double alpha : {0.25, 0.7}) {
    check_distribution(dro::mixture(alpha, selector, dro::fixed_order(documents)), one_query,
                       mixed_with(alpha, first_in_order), false);
    const sampling narrow{.top_k = 2};
    const auto cut = enumerate([](const test::ranking&) { return as_real(some_scores()); }, narrow);
    const dro::mixture with_narrow(alpha, selector, dro::sampled_selector(selector, narrow));
    check_distribution(with_narrow, one_query, mixed_with(alpha, [&](const auto& z) { return cut.at(z).log_q; }),
                       false);

    dro::host_backend b(1);
    const dro::random_state<dro::host_backend> random(b, 83);
    const auto z = with_narrow.draw(b, one_query, {1000, picks}, random.source(b));
    const auto p = selector.log_prob(b, one_query, z);
    double largest = 0;
    for (index_t i = 0; i < 1000; ++i) largest = std::max(largest, std::exp(p(i, 0) - z.log_proposal()(i, 0)));
    CHECK(largest <= 1 / alpha * (1 + static_cast<double>(tolerance)));
    CHECK(largest > 0.5 / alpha);
  }
}

TEST_CASE("a mixture within a mixture makes its choices apart from the outer one") {
  const test::scored_table<double> selector(some_scores());
  // Each part gives one ranking: what is drawn shows what was chosen. {2, 0, 4} is the order of the scores.
  const dro::sampled_selector best(selector, {.top_k = 1});
  const auto half = dro::mixture(0.5, dro::mixture(0.5, best, dro::fixed_order(documents)), dro::uniform(documents));
  std::map<test::ranking, test::sampled_log_prob> expected;
  for (const auto& z : test::all_rankings(documents, picks)) {
    const real certain = z == test::ranking{2, 0, 4} || z == test::ranking{0, 1, 2} ? 0.25L : 0;
    expected[z].log_q = std::log(certain + 0.5L / 60);
  }
  check_distribution(half, one_query, expected, false);
}

namespace {

/// Gives the rankings it is told to, each query its own, and scores by a table: for going through all possible draws.
struct scripted {
  using scalar_type = double;
  std::map<test::ranking, real> log_q;
  std::vector<std::vector<test::ranking>> samples;  // of each query

  template <class Queries>
  dro::draws<dro::host_backend, double> draw(dro::host_backend& b, const Queries& queries, const dro::draw_options& o,
                                             const dro::random_source&) const {
    std::vector<test::ranking> list;
    for (const auto& of_query : samples) list.insert(list.end(), of_query.begin(), of_query.end());
    const auto groups = dro::grouping::uniform(static_cast<index_t>(std::size(queries)), o.samples);
    return {b, test::ranking_matrix(list), dro::host_matrix<double>(groups.total(), 1), groups};
  }
  template <class Queries>
  dro::host_matrix<double> log_prob(dro::host_backend&, const Queries&,
                                    const dro::draws<dro::host_backend, double>& z) const {
    dro::host_matrix<double> out(z.groups().total(), 1);
    for (index_t i = 0; i < out.rows(); ++i) {
      out(i, 0) = static_cast<double>(log_q.at(test::ranking_of(z.rankings(), i)));
    }
    return out;
  }
};

/// E (1/m) Σ_i f(z_i) / q(z_i) over all possible samples of `m` draws of each of the proposals, of the library's q.
real exact_mean(dro::heuristic share, const std::array<index_t, 2>& m,
                const std::array<std::map<test::ranking, real>, 2>& log_q, const std::map<test::ranking, real>& f) {
  std::vector<test::ranking> kinds;
  for (const auto& [z, value] : f) kinds.push_back(z);
  const auto total = static_cast<std::size_t>(m[0] + m[1]);
  std::vector<std::size_t> pick(total, 0);
  scripted first{log_q[0], {}};
  scripted second{log_q[1], {}};
  std::vector<real> probability;
  for (bool more = true; more;) {
    real p = 1;
    std::vector<test::ranking> drawn;
    for (std::size_t i = 0; i < total; ++i) {
      drawn.push_back(kinds[pick[i]]);
      p *= std::exp(log_q[i < static_cast<std::size_t>(m[0]) ? 0 : 1].at(drawn.back()));
    }
    if (p > 0) {
      probability.push_back(p);
      first.samples.emplace_back(drawn.begin(), drawn.begin() + m[0]);
      second.samples.emplace_back(drawn.begin() + m[0], drawn.end());
    }
    std::size_t i = 0;
    while (i < total && ++pick[i] == kinds.size()) pick[i++] = 0;
    more = i < total;
  }
  dro::host_backend b(1);
  const dro::several proposals(share, {m[0], m[1]}, first, second);
  const auto z = proposals.draw(b, probability, {proposals.samples(), 2}, {});
  real mean = 0;
  for (std::size_t q = 0; q < probability.size(); ++q) {
    real estimate = 0;
    for (std::size_t i = 0; i < total; ++i) {
      const auto draw = static_cast<index_t>(q * total + i);
      estimate += f.at(test::ranking_of(z.rankings(), draw)) / std::exp(static_cast<real>(z.log_proposal()(draw, 0)));
    }
    mean += probability[q] * estimate / static_cast<real>(total);
  }
  return mean;
}

}  // namespace

TEST_CASE("several proposals at once: the estimate is unbiased, by going through all possible draws") {
  // Of the six rankings, with `wide` both proposals can draw all; with `halves` one cannot draw those that begin with
  // 2, the other only those and the ones that end with 0.
  std::map<test::ranking, real> f;
  std::array<std::map<test::ranking, real>, 2> wide;
  std::array<std::map<test::ranking, real>, 2> halves;
  test::numbers next(84);
  real truth = 0;
  for (const auto& z : test::all_rankings(3, 2)) {
    f[z] = next.between(-1, 2);
    truth += f[z];
    for (std::size_t k = 0; k < 2; ++k) {
      wide[k][z] = next.between(0.125, 1);
      halves[k][z] = (k == 0 ? z[0] != 2 : z[0] == 2 || z[1] == 0) ? wide[k][z] : 0;
    }
  }
  for (auto* pair : {&wide, &halves}) {
    for (auto& q : *pair) {
      real sum = 0;
      for (const auto& [z, value] : q) sum += value;
      for (auto& [z, value] : q) value = std::log(value / sum);
    }
  }
  for (const auto& log_q : {wide, halves}) {
    for (const auto share : {dro::heuristic::balance, dro::heuristic::power}) {
      for (const std::array<index_t, 2>& m :
           {std::array<index_t, 2>{1, 1}, std::array<index_t, 2>{2, 1}, std::array<index_t, 2>{2, 2}}) {
        CAPTURE(m[0]);
        CAPTURE(m[1]);
        // 6^m terms, each a ratio of numbers below 10 with a rounding of about 20 u, weighed by probabilities.
        DRO_CHECK_NEAR(exact_mean(share, m, log_q, f), truth, 1000 * test::unit_roundoff<double>);
      }
    }
  }
}

TEST_CASE("several proposals at once: the balance heuristic's log q is the mixture's, whoever drew") {
  const test::scored_table<double> selector(some_scores());
  const dro::fixed_order<double> fixed(documents);
  const dro::sampled_selector warm(selector, {.temperature = 3});
  dro::host_backend b(1);
  const dro::random_state<dro::host_backend> random(b, 85);
  const auto own = enumerate([](const test::ranking&) { return as_real(some_scores()); }, {});
  const auto tempered = enumerate([](const test::ranking&) { return as_real(some_scores()); }, {.temperature = 3});
  for (const auto share : {dro::heuristic::balance, dro::heuristic::power}) {
    const dro::several proposals(share, {4, 2, 2}, selector, warm, fixed);
    const auto z = proposals.draw(b, std::vector<int>(50), {8, picks}, random.source(b));
    CHECK(z.traits().block == 4);
    CHECK(z.traits().covers);
    for (index_t i = 0; i < 400; ++i) {
      const auto ranking = test::ranking_of(z.rankings(), i);
      const bool is_first = ranking == test::ranking{0, 1, 2};
      const real q[] = {4 * std::exp(own.at(ranking).log_q), 2 * std::exp(tempered.at(ranking).log_q),
                        is_first ? 2.0L : 0.0L};
      // Blocks of four: two of the selector, one warm, one fixed.
      const std::size_t owner = i % 4 < 2 ? 0 : static_cast<std::size_t>(i % 4 - 1);
      if (owner == 2) CHECK(is_first);
      const real power = share == dro::heuristic::power ? 2 : 1;
      const real sum = std::pow(q[0], power) + std::pow(q[1], power) + std::pow(q[2], power);
      const real weight = std::pow(q[owner], power) / sum;
      DRO_CHECK_NEAR(z.log_proposal()(i, 0), std::log(q[owner] / 8 / weight), 2 * tolerance);
    }
  }
}
