// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/model/archetypes.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/model/proposals/fixed_order.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/model/proposals/sampled_selector.hpp>
#include <dro/model/proposals/several.hpp>
#include <dro/model/proposals/snapshot.hpp>
#include <dro/model/proposals/uniform.hpp>
#include <dro/ranking/autoregressive.hpp>
#include <dro/ranking/enumerate.hpp>

#include "support/pair_scorer.hpp"
#include "support/sampled_reference.hpp"

namespace {

using dro::index_t;
using dro::noise_kind;
using dro::sampling;
using test::pair_scorer;
using test::toy_query;
using batch = dro::item_batch<toy_query>;
using table = test::scored_table<double>;
using looking_back = dro::autoregressive_selector<pair_scorer>;

// Proposals ask of a model what its concept says and no more.
template <class B>
constexpr bool concepts_hold() {
  using queries = dro::archetype::queries;
  using scored = dro::archetype::scored_selector<B, float>;
  using unscored = dro::archetype::selector<B, float>;
  using only_draws = dro::archetype::proposal<B, float>;
  static_assert(dro::scoring_proposal<unscored, B, queries> && !dro::scoring_proposal<only_draws, B, queries>);
  static_assert(!dro::sampling_selector<scored, B, queries>);
  static_assert(dro::scoring_proposal<dro::sampled_selector<const scored&>, B, queries>);
  static_assert(dro::scoring_proposal<dro::uniform<float>, B, queries>);
  static_assert(dro::scoring_proposal<dro::uniform_over<scored>, B, queries>);
  static_assert(dro::scoring_proposal<dro::fixed_order<float>, B, queries>);
  static_assert(dro::scoring_proposal<dro::snapshot<unscored>, B, queries>);
  static_assert(dro::scoring_proposal<dro::mixture<const unscored&, dro::uniform<float>>, B, queries>);
  static_assert(dro::proposal<dro::several<const unscored&, dro::uniform<float>>, B, queries>);
  return true;
}
static_assert(concepts_hold<dro::host_backend>() && concepts_hold<dro::deferred_backend>());
static_assert(dro::sampling_selector<looking_back, dro::host_backend, batch>);

looking_back some_selector() {
  pair_scorer s(6);
  test::numbers next(91);
  for (double& parameter : s.parameters()) parameter = next.between(-1, 1);
  return looking_back(s);
}

table some_table() { return table({0.5, -1, 1.25, 0, 0.25, -0.5}); }

const std::vector<toy_query> queries(9, toy_query{6, 1.0});

/// What a proposal draws and says, on the host.
template <class B>
struct drawn {
  dro::host_matrix<dro::document_t> rankings;
  dro::host_matrix<double> log_q;

  template <class Proposal>
  drawn(B& b, const Proposal& proposal, const dro::draw_options& options, std::uint64_t seed = 92) {
    const dro::random_state random(b, seed);
    const auto z = proposal.draw(b, batch(queries), options, random.source(b));
    rankings = read(b, z.rankings());
    log_q = read(b, z.log_proposal());
  }
  template <class C>
  bool operator==(const drawn<C>& other) const {
    return test::same(rankings, other.rankings) && test::same(log_q, other.log_q);
  }
};

/// Calls f with one proposal of each kind, for rankings of 3 of 6 documents and 8 samples.
template <class F>
void for_each_proposal(const F& f) {
  const table scores = some_table();
  const looking_back chain = some_selector();
  const dro::sampled_selector narrow(scores, {.temperature = 1.5, .top_k = 4, .top_p = 0.8});
  const dro::sampled_selector narrow_chain(chain, {.temperature = 0.8, .top_p = 0.8});
  f(narrow, "truncated scores");
  f(narrow_chain, "truncated chain");
  f(dro::sampled_selector(scores, {.noise = {noise_kind::antithetic}}), "antithetic");
  f(dro::sampled_selector(chain, {.noise = {noise_kind::latin_hypercube, 4}}), "Latin hypercube");
  f(dro::uniform(6), "uniform");
  f(dro::uniform_over(chain), "uniform over");
  f(dro::fixed_order(6), "fixed order");
  f(dro::mixture(0.6, chain, narrow_chain), "mixture");
  f(dro::mixture(0.6, dro::mixture(0.5, scores, narrow), dro::fixed_order(6)), "mixture of mixtures");
  f(dro::several(dro::heuristic::power, {4, 2, 2}, chain, dro::uniform(6), dro::fixed_order(6)), "several");
}

}  // namespace

namespace {

/// A selector that shows its scores but draws in a way of its own.
struct with_own_noise : table {
  using table::table;
  template <class B, class Queries>
  [[nodiscard]] dro::draws<B, double> draw(B& b, const Queries& batch_of, const dro::draw_options& options,
                                           const dro::random_source& random) const {
    return table::draw(b, batch_of, options, dro::substream(random, 7));
  }
};

}  // namespace

TEST_CASE("sampling options that change nothing give the selector's own draws") {
  dro::host_backend b(1);
  const dro::random_state random(b, 93);
  const auto source = random.source(b);
  const auto compare = [&](const auto& selector) {
    const dro::sampled_selector same(selector, {});
    const auto own = selector.draw(b, batch(queries), {8, 3}, source);
    const auto z = same.draw(b, batch(queries), {8, 3}, source);
    CHECK(test::same(z.rankings(), own.rankings()));
    CHECK(test::same(z.log_proposal(), own.log_proposal()));
    CHECK(test::same(same.log_prob(b, batch(queries), z), selector.log_prob(b, batch(queries), z)));
    CHECK_FALSE(z.has_log_kept());
    CHECK(z.traits().block == 1);
    CHECK(z.traits().covers);
    // Other options do change the draws.
    for (const sampling& how :
         {sampling{.temperature = 3}, {.top_k = 2}, {.top_p = 0.3}, {.noise = {noise_kind::antithetic}}}) {
      CHECK_FALSE(how.is_plain());
      CHECK_FALSE(test::same(dro::sampled_selector(selector, how).draw(b, batch(queries), {8, 3}, source).rankings(),
                             own.rankings()));
    }
  };
  compare(some_table());
  compare(some_selector());
  compare(with_own_noise({0.5, -1, 1.25, 0, 0.25, -0.5}));
}

TEST_CASE("a cut that cuts nothing keeps all mass and the tempered distribution") {
  dro::host_backend b(1);
  const dro::random_state random(b, 94);
  const table selector = some_table();
  const auto z =
      dro::sampled_selector(selector, {.temperature = 2, .top_k = 6}).draw(b, batch(queries), {8, 3}, random.source(b));
  const auto p = dro::sampled_selector(selector, {.temperature = 2}).log_prob(b, batch(queries), z);
  for (index_t i = 0; i < 72; ++i) {
    CHECK(z.log_kept()(i, 0) == 0);
    DRO_CHECK_NEAR(z.log_proposal()(i, 0), p(i, 0), 300 * test::unit_roundoff<double>);
  }
  CHECK_FALSE(z.traits().covers);  // known from the options alone
}

TEST_CASE("threads and the deferred backend change no bit, and nothing is read back") {
  for_each_proposal([](const auto& proposal, const char* name) {
    CAPTURE(name);
    const dro::draw_options options{8, 3};
    dro::host_backend one(1);
    const drawn<dro::host_backend> expected(one, proposal, options);
    for (const int threads : {2, 4}) {
      dro::host_backend b(threads);
      CHECK(drawn<dro::host_backend>(b, proposal, options) == expected);
    }
    dro::deferred_backend deferred;
    CHECK(drawn<dro::deferred_backend>(deferred, proposal, options) == expected);
    CHECK(deferred.reads() == 2);  // those of the test
    CHECK(deferred.synchronisations() == 0);
    dro::counting_backend<dro::host_backend> counting(1);
    const dro::random_state random(counting, 92);
    const auto z = proposal.draw(counting, batch(queries), options, random.source(counting));
    CHECK(counting.reads() == 0);
    CHECK(z.groups().per_query() == 8);
    const bool same_with_another_seed = drawn<dro::host_backend>(one, proposal, options, 95) == expected;
    CHECK(same_with_another_seed == (std::string(name) == "fixed order"));
  });
}

TEST_CASE("what is no ranking, or impossible, has log q = −inf under every cut") {
  dro::host_backend b(1);
  constexpr double inf = test::infinity<double>;
  const std::vector<test::ranking> bad = {{0, 0}, {0, 6}, {-1, 2}, {1, dro::no_document}, {3, 0}, {0, 3}};
  const dro::draws<dro::host_backend, double> z(b, test::ranking_matrix(bad), dro::host_matrix<double>(6, 1),
                                                dro::grouping::uniform(1, 6));
  const table selector({0.5, -1, 1.25, -inf, 0.25, -0.5});
  for (const sampling& how : {sampling{.temperature = 2}, {.top_k = 6}, {.top_p = 0.999}}) {
    const auto p = dro::sampled_selector(selector, how).log_prob(b, std::vector<int>(1), z);
    for (index_t i = 0; i < 6; ++i) CHECK(p(i, 0) == -inf);
  }
  const auto under_fixed = dro::fixed_order(6).log_prob(b, std::vector<int>(1), z);
  for (index_t i = 0; i < 6; ++i) CHECK(under_fixed(i, 0) == -inf);
}

TEST_CASE("too few possible documents, or NaN, show in truncated draws") {
  dro::host_backend b(1);
  constexpr double inf = test::infinity<double>;
  const dro::random_state random(b, 96);
  const std::vector<int> one(1);
  for (const sampling& how : {sampling{.top_k = 2}, {.top_p = 0.9}}) {
    const auto few = dro::sampled_selector(table({-inf, 1.0, -inf}), how).draw(b, one, {2, 2}, random.source(b));
    for (index_t i = 0; i < 2; ++i) {
      CHECK(test::ranking_of(few.rankings(), i) == test::ranking{1, dro::no_document});
      CHECK(few.log_proposal()(i, 0) == -inf);
    }
    const auto none = dro::sampled_selector(table({-inf, -inf}), how).draw(b, one, {1, 1}, random.source(b));
    CHECK(test::ranking_of(none.rankings(), 0) == test::ranking{dro::no_document});
    CHECK(none.log_proposal()(0, 0) == -inf);
    const dro::sampled_selector bad(table({0.5, test::nan<double>, 1.0}), how);
    const auto drawn = bad.draw(b, one, {1, 2}, random.source(b));
    CHECK(std::isnan(drawn.log_proposal()(0, 0)));
    CHECK(std::isnan(drawn.log_kept()(0, 0)));
    const dro::draws<dro::host_backend, double> z(b, test::ranking_matrix({{2, 0}}), dro::host_matrix<double>(1, 1),
                                                  dro::grouping::uniform(1, 1));
    CHECK(std::isnan(bad.log_prob(b, one, z)(0, 0)));
  }
}

TEST_CASE("K = n, one document, top-1: certain picks have log q 0") {
  dro::host_backend b(1);
  const dro::random_state random(b, 97);
  const std::vector<int> one(1);
  const auto greedy = dro::sampled_selector(some_table(), {.top_k = 1}).draw(b, one, {3, 6}, random.source(b));
  for (index_t i = 0; i < 3; ++i) {
    CHECK(test::ranking_of(greedy.rankings(), i) == test::ranking{2, 0, 4, 3, 5, 1});
    CHECK(greedy.log_proposal()(i, 0) == 0);
  }
  // The mass kept is that of the selector's greedy ranking.
  DRO_CHECK_NEAR(greedy.log_kept()(0, 0),
                 test::plackett_luce_log_prob({0.5, -1, 1.25, 0, 0.25, -0.5}, {2, 0, 4, 3, 5, 1}),
                 600 * test::unit_roundoff<double>);
  const auto single = dro::sampled_selector(table({-7.0}), {.top_p = 0.5}).draw(b, one, {2, 1}, random.source(b));
  CHECK(single.rankings()(1, 0) == 0);
  CHECK(single.log_proposal()(1, 0) == 0);
  CHECK(single.log_kept()(1, 0) == 0);
}

TEST_CASE("a sampled selector follows its selector, a snapshot stays until it is refreshed") {
  dro::deferred_backend b;
  looking_back selector = some_selector();
  dro::snapshot frozen(b, selector);
  const dro::sampled_selector warm(selector, {.temperature = 2});
  const looking_back before = selector;
  const auto draws_of = [&](const auto& proposal) { return drawn<dro::deferred_backend>(b, proposal, {4, 3}); };
  const auto warm_before = draws_of(warm);
  CHECK(draws_of(frozen) == draws_of(selector));
  // A change that is only queued when the snapshot is refreshed: it must be in the copy.
  b.run(1, [&selector](auto&, index_t) { selector.scorer().parameters()[0] = 5; });
  CHECK(draws_of(frozen) == draws_of(before));
  CHECK_FALSE(draws_of(selector) == draws_of(before));
  CHECK_FALSE(draws_of(warm) == warm_before);
  b.run(1, [&selector](auto&, index_t) { selector.scorer().parameters()[1] = -5; });
  frozen.refresh(b, selector);
  CHECK(draws_of(frozen) == draws_of(selector));
  const auto z = frozen.draw(b, batch(queries), {2, 3}, {});
  CHECK(test::same(read(b, frozen.log_prob(b, batch(queries), z)), read(b, selector.log_prob(b, batch(queries), z))));
}

TEST_CASE("fixed order: the first K documents, always") {
  dro::host_backend b(1);
  const dro::fixed_order<float> fixed(4);
  const auto z = fixed.draw(b, batch(queries), {2, 3});
  CHECK_FALSE(z.traits().covers);
  for (index_t i = 0; i < 18; ++i) {
    CHECK(test::ranking_of(z.rankings(), i) == test::ranking{0, 1, 2});
    CHECK(z.log_proposal()(i, 0) == 0);
  }
  CHECK(test::same(fixed.log_prob(b, batch(queries), z), z.log_proposal()));
  const dro::draws<dro::host_backend, float> others(b, test::ranking_matrix({{0, 1, 3}, {1, 0, 2}, {0, 1, 2}}),
                                                    dro::host_matrix<float>(3, 1), dro::grouping::uniform(1, 3));
  const auto p = fixed.log_prob(b, std::vector<int>(1), others);
  CHECK(p(0, 0) == -test::infinity<float>);
  CHECK(p(1, 0) == -test::infinity<float>);
  CHECK(p(2, 0) == 0);
}

TEST_CASE("traits: what of samples drawn together is independent, and whether they cover the selector") {
  dro::host_backend b(1);
  const table selector = some_table();
  const dro::sampled_selector pairs(selector, {.noise = {noise_kind::antithetic}});
  const dro::sampled_selector cubes(selector, {.noise = {noise_kind::latin_hypercube, 4}});
  const dro::sampled_selector narrow(selector, {.top_k = 3});
  const dro::fixed_order<double> fixed(6);
  const auto traits = [&](const auto& proposal, index_t samples) {
    const auto z = proposal.draw(b, std::vector<int>(2), {samples, 3}, {});
    return std::pair(z.traits().block, z.traits().covers);
  };
  using expected = std::pair<index_t, bool>;
  CHECK(traits(pairs, 8) == expected{2, true});
  CHECK(traits(cubes, 8) == expected{4, true});
  CHECK(traits(narrow, 8) == expected{1, false});
  CHECK(traits(dro::mixture(0.5, selector, fixed), 8) == expected{1, true});
  CHECK(traits(dro::mixture(0.5, pairs, cubes), 8) == expected{4, true});
  CHECK(traits(dro::mixture(0.5, narrow, fixed), 8) == expected{1, false});
  const auto balance = dro::heuristic::balance;
  CHECK(traits(dro::several(balance, {8}, selector), 8) == expected{1, true});
  CHECK(traits(dro::several(balance, {6, 2}, selector, fixed), 8) == expected{4, true});
  CHECK(traits(dro::several(balance, {4, 4}, narrow, fixed), 8) == expected{2, false});
  CHECK(traits(dro::several(balance, {5, 2}, selector, fixed), 7) == expected{7, true});
  // Pairs may not be torn apart: 4 of them and 4 others make 4 blocks of 3, not 8 of 1.5.
  CHECK(traits(dro::several(balance, {8, 4}, pairs, selector), 12) == expected{3, true});
  CHECK(traits(dro::several(balance, {4, 2}, cubes, selector), 6) == expected{6, true});
}

TEST_CASE("the parts of several proposals draw from streams of their own") {
  dro::host_backend b(1);
  const dro::uniform<double> a(6);
  const dro::several proposals(dro::heuristic::balance, {100, 100}, a, a);
  const auto z = proposals.draw(b, std::vector<int>(1), {200, 3}, {});
  index_t equal = 0;
  for (index_t i = 0; i < 200; i += 2) {
    equal += test::ranking_of(z.rankings(), i) == test::ranking_of(z.rankings(), i + 1) ? 1 : 0;
  }
  CHECK(equal < 10);  // of 100 pairs that are equal with probability 1/120 each; 10 and more has probability 1e-8
}

TEST_CASE("options that make no distribution are refused by name") {
  dro::host_backend b(1);
  const table selector = some_table();
  const looking_back chain = some_selector();
  const auto refuses = [&](const sampling& how, const char* message) {
    CHECK_THROWS_WITH_AS(static_cast<void>(dro::sampled_selector(selector, how)), message, dro::option_error);
    CHECK_THROWS_WITH_AS(static_cast<void>(chain.draw(b, batch(queries), {8, 3}, {}, how)), message, dro::option_error);
    const auto scores = selector.scores(b, queries);
    CHECK_THROWS_WITH_AS(static_cast<void>(dro::draw_plackett_luce(b, scores, {}, {8, 3}, how)), message,
                         dro::option_error);
  };
  refuses({.temperature = 0}, "temperature is 0.000000, expected more than 0");
  refuses({.temperature = -1}, "temperature is -1.000000, expected more than 0");
  refuses({.temperature = test::nan<double>}, "temperature is nan, expected more than 0");
  refuses({.temperature = test::infinity<double>}, "temperature is inf, expected more than 0");
  refuses({.top_k = -1}, "top_k is -1, expected 0 (all documents) or more");
  refuses({.top_p = 0}, "top_p is 0.000000, expected more than 0 and at most 1");
  refuses({.top_p = 1.5}, "top_p is 1.500000, expected more than 0 and at most 1");
  refuses({.top_p = test::nan<double>}, "top_p is nan, expected more than 0 and at most 1");

  const char* odd = "samples is 7, expected a multiple of 2, the samples that share antithetic noise";
  const sampling antithetic{.noise = {noise_kind::antithetic}};
  CHECK_THROWS_WITH_AS(static_cast<void>(chain.draw(b, batch(queries), {7, 3}, {}, antithetic)), odd,
                       dro::option_error);
  CHECK_THROWS_WITH_AS(
      static_cast<void>(dro::sampled_selector(selector, antithetic).draw(b, batch(queries), {7, 3}, {})), odd,
      dro::option_error);

  for (const double alpha : {0.0, 1.0, -0.5, test::nan<double>}) {
    CHECK_THROWS_WITH_AS(
        static_cast<void>(dro::mixture(alpha, selector, selector)),
        ("mixture: alpha is " + std::to_string(alpha) + ", expected more than 0 and less than 1").c_str(),
        dro::option_error);
  }
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::fixed_order(2).draw(b, batch(queries), {1, 3})),
                       "select is 3, expected 1 to 2, the number of documents", dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::uniform(2).draw(b, batch(queries), {1, 3}, {})),
                       "select is 3, expected 1 to 2, the number of documents", dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::several(dro::heuristic::balance, {2, 0}, selector, selector)),
                       "several: samples of a proposal are 0, expected at least 1", dro::option_error);
  const dro::several both(dro::heuristic::balance, {6, 2}, selector, selector);
  CHECK(both.samples() == 8);
  CHECK_THROWS_WITH_AS(static_cast<void>(both.draw(b, batch(queries), {6, 3}, {})),
                       "several: samples is 6, expected 8, the sum over the proposals", dro::option_error);
}

namespace {

/// Gives every ranking once, whatever it is asked for, and scores them alike.
struct all_of_them : dro::exhaustive<double> {
  all_of_them() : dro::exhaustive<double>(6) {}
  template <class B, class Queries>
  [[nodiscard]] dro::matrix_t<B, double> log_prob(B& b, const Queries&, const dro::draws<B, double>& z) const {
    return dro::make_filled<double>(b, z.groups().total(), 1, -std::log(120.0));
  }
};

}  // namespace

TEST_CASE("a part that does not draw what it is asked for is refused") {
  dro::host_backend b(1);
  CHECK_THROWS_WITH_AS(
      static_cast<void>(dro::mixture(0.5, dro::uniform(6), all_of_them()).draw(b, queries, {4, 3}, {})),
      "mixture: a part drew rankings [1080 × 3] for 9 queries, asked for 4 of 3 documents each", dro::shape_error);
  const dro::several proposals(dro::heuristic::balance, {2, 2}, all_of_them(), dro::uniform(6));
  CHECK_THROWS_WITH_AS(static_cast<void>(proposals.draw(b, queries, {4, 3}, {})),
                       "several: a part drew rankings [1080 × 3] for 9 queries, asked for 2 of 3 documents each",
                       dro::shape_error);
  const auto z = dro::uniform(6).draw(b, std::vector<int>(2), {4, 3}, {});
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::fixed_order(6).log_prob(b, queries, z)),
                       "fixed_order: 9 queries, but draws of 2", dro::shape_error);
}
