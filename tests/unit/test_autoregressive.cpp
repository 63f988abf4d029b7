// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/ranking/autoregressive.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"
#include "support/pair_scorer.hpp"

namespace {

using dro::index_t;
using test::pair_scorer;
using test::real;
using test::toy_query;
using batch = dro::item_batch<toy_query>;
using selector = dro::autoregressive_selector<pair_scorer>;

static_assert(dro::step_scorer<pair_scorer, toy_query>);
static_assert(dro::scored_selector<selector, dro::host_backend, batch>);
static_assert(dro::scored_selector<selector, dro::deferred_backend, batch>);
static_assert(dro::trainable<selector>);

constexpr std::size_t most_documents = 5;

pair_scorer scorer(bool looks_back = true) {
  pair_scorer s(most_documents);
  test::numbers next(51);
  const auto parameters = s.parameters();
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    const double value = next.between(-1, 1);
    parameters[k] = k < most_documents || looks_back ? value : 0;
  }
  return s;
}

const std::vector<toy_query> queries = {{4, 1.0}, {5, 0.5}, {2, 2.0}};

/// One query's rankings as draws of log q 0.
template <class B>
dro::draws<B, double> as_draws(B& b, const std::vector<test::ranking>& list, const dro::grouping& groups) {
  return {b, dro::write(b, test::ranking_matrix(list)), dro::make_filled<double>(b, groups.total(), 1, 0.0), groups};
}

std::vector<double> log_probs(const selector& s, const toy_query& query, const std::vector<test::ranking>& list) {
  dro::host_backend b(1);
  const auto z = as_draws(b, list, dro::grouping::uniform(1, static_cast<index_t>(list.size())));
  const auto p = s.log_prob(b, batch(std::span(&query, 1)), z);
  return std::vector<double>(p.data(), p.data() + p.rows());
}

std::vector<double> gradient_of(selector& s) {
  std::vector<double> g;
  s.for_each_parameter([&](auto, dro::matrix_view<double> gradient) {
    for (index_t k = 0; k < gradient.cols; ++k) g.push_back(gradient(0, k));
  });
  return g;
}

// Scores are below 10, their log-sums rounded as in typed/test_plackett_luce.cpp; at most 5 picks: 5 · 120 u.
constexpr real tolerance = 600 * static_cast<real>(test::unit_roundoff<double>);

}  // namespace

TEST_CASE("log p is the product over picks that look back, and sums to 1 over all rankings") {
  const selector s(scorer());
  for (const toy_query& query : queries) {
    for (index_t select = 1; select <= query.documents; ++select) {
      const auto list = test::all_rankings(query.documents, select);
      const auto p = log_probs(s, query, list);
      real total = 0;
      for (std::size_t i = 0; i < list.size(); ++i) {
        DRO_CHECK_NEAR(p[i], s.scorer().log_prob(query, list[i]), tolerance);
        total += std::exp(static_cast<real>(p[i]));
      }
      DRO_CHECK_NEAR(total, 1, 2 * tolerance);
    }
  }
}

TEST_CASE("what is not a ranking has log p = −inf and no gradient") {
  selector s(scorer());
  const std::vector<test::ranking> bad = {{0, 0}, {0, 4}, {-1, 2}, {1, dro::no_document}};
  for (const double p : log_probs(s, queries[0], bad)) CHECK(p == -test::infinity<double>);
  dro::host_backend b(1);
  const auto groups = dro::grouping::uniform(1, 4);
  s.accumulate_gradient(b, batch(std::span(queries).first(1)), as_draws(b, bad, groups),
                        test::column(std::vector{1.0, 1.0, 1.0, 1.0}));
  for (const double g : gradient_of(s)) CHECK(g == 0);
}

TEST_CASE("rankings are drawn with their probabilities, and carry them") {
  dro::host_backend b(1);
  const selector s(scorer());
  const dro::random_state<dro::host_backend> random(b, 52);
  constexpr index_t count = 50000;
  const std::vector<toy_query> two = {queries[0], queries[1]};
  const auto z = s.draw(b, batch(two), {count, 3}, random.source(b));
  for (index_t q = 0; q < 2; ++q) {
    std::map<test::ranking, real> probability;
    for (const auto& ranking : test::all_rankings(two[static_cast<std::size_t>(q)].documents, 3)) {
      probability[ranking] = std::exp(s.scorer().log_prob(two[static_cast<std::size_t>(q)], ranking));
    }
    std::map<test::ranking, std::size_t> counts;
    real worst = 0;
    for (index_t i = q * count; i < (q + 1) * count; ++i) {
      const auto ranking = test::ranking_of(z.rankings(), i);
      ++counts[ranking];
      REQUIRE(probability.contains(ranking));
      worst = std::max(worst, std::abs(std::exp(static_cast<real>(z.log_proposal()(i, 0))) / probability[ranking] - 1));
    }
    DRO_CHECK_NEAR(worst, 0, 2 * tolerance);
    CHECK(test::chi_square(counts, probability, count) < test::chi_square_bound(probability.size() - 1));
  }
}

TEST_CASE("the gradient agrees with central differences in every parameter") {
  dro::host_backend b(2);
  selector s(scorer());
  const std::vector<test::ranking> list = {{3, 1}, {0, 2}, {1, 4}, {4, 0}, {0, 1}, {1, 0}};
  const std::vector<double> c = {1.0, -0.5, 0.75, 0.25, -1.0, 0.5};
  const auto groups = dro::grouping::uniform(3, 2);
  s.accumulate_gradient(b, batch(queries), as_draws(b, list, groups), test::column(c));
  const auto g = gradient_of(s);
  const auto expected = test::central_differences(s.scorer().parameters(), [&] {
    real sum = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      sum += static_cast<real>(c[i]) * s.scorer().log_prob(queries[i / 2], list[i]);
    }
    return sum;
  });
  const real size = test::largest_magnitude(expected);
  CHECK(size > 0.1);
  for (std::size_t k = 0; k < g.size(); ++k) DRO_CHECK_NEAR(g[k], expected[k], 1e-6 * size);
  // A second call adds.
  s.accumulate_gradient(b, batch(queries), as_draws(b, list, groups), test::column(c));
  const auto twice = gradient_of(s);
  for (std::size_t k = 0; k < g.size(); ++k) CHECK(twice[k] == 2 * g[k]);
}

TEST_CASE("threads and the deferred backend change no bit") {
  const std::vector<toy_query> many(9, toy_query{5, 0.75});
  const auto train = [&](auto& b) {
    selector s(scorer());
    const dro::random_state random(b, 53);
    const auto z = s.draw(b, batch(many), {6, 3}, random.source(b));
    auto c = dro::make_filled<double>(b, 54, 1, 0.125);
    s.accumulate_gradient(b, batch(many), z, c);
    const auto rankings = read(b, z.rankings());
    return std::pair(std::vector<dro::document_t>(rankings.data(), rankings.data() + 54 * 3), gradient_of(s));
  };
  dro::host_backend one(1);
  const auto expected = train(one);
  for (const int threads : {2, 4}) {
    dro::host_backend b(threads);
    CHECK(train(b) == expected);
  }
  dro::deferred_backend deferred;
  CHECK(train(deferred) == expected);
}

TEST_CASE("a beam wide enough finds the best ranking; greedy takes the best pick at a time") {
  const auto s = scorer();
  for (const toy_query& query : {queries[0], queries[1]}) {
    auto list = test::all_rankings(query.documents, 3);
    std::ranges::sort(list, [&](const auto& a, const auto& b) { return s.log_prob(query, a) > s.log_prob(query, b); });
    const auto beam = dro::beam_search(s, query, 3, static_cast<index_t>(list.size()));
    REQUIRE(beam.size() == list.size());
    for (std::size_t i = 0; i < beam.size(); ++i) {
      CHECK(beam[i].ranking == list[i]);
      DRO_CHECK_NEAR(beam[i].log_prob, s.log_prob(query, list[i]), tolerance);
    }
    test::ranking greedy;
    while (greedy.size() < 3) {
      test::ranking best;
      for (dro::document_t j = 0; j < query.documents; ++j) {
        if (std::ranges::find(greedy, j) != greedy.end()) continue;
        auto longer = greedy;
        longer.push_back(j);
        if (best.empty() || s.log_prob(query, longer) > s.log_prob(query, best)) best = longer;
      }
      greedy = best;
    }
    CHECK(dro::greedy_ranking(s, query, 3) == greedy);
    CHECK(dro::beam_search(s, query, 3, 1).front().ranking == greedy);
  }
}

TEST_CASE("a narrow beam keeps what greedy search throws away") {
  // Document 0 is best at first and ruins the rest; 1 is second and makes 2 nearly certain.
  pair_scorer s(3);
  const auto parameters = s.parameters();
  parameters[0] = 0.5;              // a_0
  parameters[3 * (1 + 1) + 2] = 5;  // after 1, choose 2
  const toy_query query{3, 1.0};
  CHECK(dro::greedy_ranking(s, query, 2).front() == 0);
  CHECK(dro::beam_search(s, query, 2, 2).front().ranking == test::ranking{1, 2});
  // Equal scores: the smaller document number comes first.
  CHECK(dro::beam_search(pair_scorer(3), query, 2, 2).front().ranking == test::ranking{0, 1});
}

TEST_CASE("a scorer that does not look back is Plackett–Luce") {
  dro::host_backend b(1);
  selector s(scorer(false));
  const auto scores = s.scores(b, batch(queries));
  CHECK(scores.cols() == 5);
  CHECK(scores(2, 2) == -test::infinity<double>);  // beyond the query's own documents
  const std::vector<test::ranking> list = {{3, 1}, {0, 2}, {1, 4}, {4, 0}, {0, 1}, {1, 0}};
  const std::vector<double> c = {1.0, -0.5, 0.75, 0.25, -1.0, 0.5};
  const auto groups = dro::grouping::uniform(3, 2);
  const auto z = as_draws(b, list, groups);
  const auto own = s.log_prob(b, batch(queries), z);
  dro::host_matrix<double> expected(6, 1);
  dro::plackett_luce_log_prob(b, scores, std::as_const(b).view(z.rankings()), groups, b.view(expected));
  for (index_t i = 0; i < 6; ++i) DRO_CHECK_NEAR(own(i, 0), expected(i, 0), 2 * tolerance);

  // Its score gradient, handed back through accumulate_score_gradient, is its own gradient.
  s.accumulate_gradient(b, batch(queries), z, test::column(c));
  selector other(scorer(false));
  dro::host_matrix<double> d_scores(3, 5);
  dro::accumulate_plackett_luce_gradient(b, scores, std::as_const(b).view(z.rankings()), groups, test::column(c),
                                         b.view(d_scores));
  other.accumulate_score_gradient(b, batch(queries), d_scores);
  const auto g = gradient_of(s);
  const auto h = gradient_of(other);
  for (std::size_t k = 0; k < most_documents; ++k) DRO_CHECK_NEAR(g[k], h[k], 4 * tolerance);
  for (std::size_t k = most_documents; k < h.size(); ++k) CHECK(h[k] == 0);  // nothing was chosen before
}

namespace {

/// Scores as given, whatever was chosen.
struct fixed_scores {
  std::vector<double> values;
  [[nodiscard]] index_t document_count(const toy_query& query) const { return query.documents; }
  void scores(const toy_query&, std::span<const dro::document_t>, std::span<double> out) const {
    std::ranges::copy(values, out.begin());
  }
  void accumulate_score_gradient(const toy_query&, std::span<const dro::document_t>, std::span<const double>,
                                 std::span<double>) const {}
  std::span<double> parameters() { return {}; }
};

}  // namespace

TEST_CASE("too few possible documents, or NaN, show in the draws") {
  constexpr double inf = test::infinity<double>;
  dro::host_backend b(1);
  const dro::random_state<dro::host_backend> random(b, 54);
  const std::vector<toy_query> one = {{3, 1.0}};
  const dro::autoregressive_selector<fixed_scores> few({{-inf, 1.0, -inf}});
  const auto z = few.draw(b, batch(one), {2, 2}, random.source(b));
  for (index_t i = 0; i < 2; ++i) {
    CHECK(test::ranking_of(z.rankings(), i) == test::ranking{1, dro::no_document});
    CHECK(z.log_proposal()(i, 0) == -inf);
  }
  for (std::vector<double> scores : {std::vector<double>{test::nan<double>, 0.5, 1.0},
                                     {0.0, test::nan<double>, 1.0},
                                     {0.0, 0.5, test::nan<double>},
                                     {-inf, -inf, test::nan<double>}}) {
    const dro::autoregressive_selector<fixed_scores> bad({std::move(scores)});
    const auto drawn = bad.draw(b, batch(one), {1, 2}, random.source(b));
    CHECK(std::isnan(drawn.log_proposal()(0, 0)));
  }
  CHECK(dro::greedy_ranking(fixed_scores{{-inf, 1.0, -inf}}, one[0], 2).empty());
  const auto impossible = few.log_prob(b, batch(one), as_draws(b, {{1, 0}}, dro::grouping::uniform(1, 1)));
  CHECK(impossible(0, 0) == -inf);
}

TEST_CASE("what cannot be selected is refused") {
  dro::host_backend b(1);
  selector s(scorer());
  const dro::random_state<dro::host_backend> random(b, 55);
  CHECK_THROWS_WITH_AS(static_cast<void>(s.draw(b, batch(queries), {8, 3}, random.source(b))),
                       "select is 3, expected 1 to 2, the number of documents", dro::option_error);
  CHECK_THROWS_AS(static_cast<void>(dro::beam_search(s.scorer(), queries[0], 5, 1)), dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::beam_search(s.scorer(), queries[0], 2, 0)),
                       "beam width is 0, expected at least 1", dro::option_error);
  const auto z = as_draws(b, {{0, 1}, {1, 0}}, dro::grouping::uniform(2, 1));
  CHECK_THROWS_WITH_AS(static_cast<void>(s.log_prob(b, batch(queries), z)),
                       "autoregressive_selector: 3 queries, but draws of 2", dro::shape_error);
  CHECK_THROWS_AS(s.accumulate_gradient(b, batch(std::span(queries).first(2)), z, dro::host_matrix<double>(3, 1)),
                  dro::shape_error);
}
