// SPDX-License-Identifier: Apache-2.0
// Whatever draws, scores and compares rankings, with several threads a row.
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/model/proposals/fixed_order.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/model/proposals/sampled_selector.hpp>
#include <dro/model/proposals/several.hpp>
#include <dro/model/proposals/uniform.hpp>
#include <dro/models/table.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/deduplicate.hpp>
#include <dro/ranking/greedy.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/ranking/set_probability.hpp>
#include <dro/ranking/without_replacement.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "teams.hpp"

namespace {

using dro::index_t;

constexpr index_t queries = 4;
constexpr index_t documents = 9;
constexpr index_t picks = 3;
constexpr index_t samples = 4;
constexpr dro::models::table_rows all{0, queries};

/// Scores with impossible documents; query 2 has fewer than `picks` possible ones.
dro::host_matrix<double> some_scores() {
  auto s = test::random_matrix<double>(queries, documents, -2, 2, 41);
  s(1, 0) = s(1, 7) = -test::infinity<double>;
  for (index_t j = 2; j < documents; ++j) s(2, j) = -test::infinity<double>;
  return s;
}

/// One list of each kind for each query: rankings, a repeated document, one out of range, and an incomplete one.
dro::host_matrix<dro::document_t> some_rankings() {
  std::vector<test::ranking> list;
  for (index_t q = 0; q < queries; ++q) {
    list.push_back({2, 5, 8});
    list.push_back({8, 2, 5});
    list.push_back({1, 1, 4});
    list.push_back({6, 9, 0});
    list.push_back({0, 3, dro::no_document});
    list.push_back({7, 0, 3});
  }
  return test::ranking_matrix(list);
}

template <class B, class T>
void add_draws(B& b, test::results& out, const std::string& name, const dro::draws<B, T>& z) {
  out.add(b, name + ": rankings", z.rankings());
  out.add(b, name + ": log q", z.log_proposal());
  if (z.has_log_kept()) out.add(b, name + ": log kept", z.log_kept());
  if (z.has_multiplicity()) out.add(b, name + ": multiplicity", z.multiplicity());
  if (z.has_log_unsampled()) out.add(b, name + ": log unsampled", z.log_unsampled());
}

}  // namespace

TEST_CASE("rankings of Plackett–Luce, however drawn") {
  test::check_teams([](auto& b, test::results& out) {
    const dro::random_state random(b, 5);
    const auto scores = write(b, some_scores());
    const dro::draw_options options{samples, picks};
    const auto source = random.source(b);
    for (const auto kind :
         {dro::noise_kind::independent, dro::noise_kind::antithetic, dro::noise_kind::latin_hypercube}) {
      add_draws(b, out, "draws", dro::draw_plackett_luce(b, scores, source, options, {.noise = {kind}}));
    }
    add_draws(b, out, "τ", dro::draw_plackett_luce(b, scores, source, options, {.temperature = 2}));
    add_draws(b, out, "top-k", dro::draw_plackett_luce(b, scores, source, options, {.top_k = 4}));
    add_draws(b, out, "top-p", dro::draw_plackett_luce(b, scores, source, options, {.top_k = 6, .top_p = 0.7}));
    add_draws(b, out, "greedy", dro::greedy_plackett_luce(b, scores, picks));
  });
}

TEST_CASE("probabilities of rankings and of their sets, and the gradients") {
  test::check_teams([](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    const B& view = b;
    const auto scores = write(b, some_scores());
    const auto rankings = write(b, some_rankings());
    const auto groups = dro::grouping::uniform(queries, 6);
    const auto coefficients = write(b, test::random_matrix<double>(groups.total(), 1, -1, 1, 42));
    const auto z = view.view(rankings);
    auto log_prob = b.template make<double>(groups.total(), 1);
    for (const dro::sampling& how : {dro::sampling{}, dro::sampling{.top_k = 5}, dro::sampling{.top_p = 0.8}}) {
      dro::plackett_luce_log_prob(b, scores, z, groups, b.view(log_prob), how);
      out.add(b, "log p", log_prob);
    }
    dro::set_log_prob(b, scores, z, groups, b.view(log_prob));
    out.add(b, "log P(set)", log_prob);
    auto gradient = dro::make_filled<double>(b, queries, documents, 0.5);
    dro::accumulate_plackett_luce_gradient(b, scores, z, groups, coefficients, b.view(gradient));
    out.add(b, "gradient", gradient);
    dro::accumulate_set_gradient(b, scores, z, groups, coefficients, b.view(gradient));
    out.add(b, "gradient of sets", gradient);
  });
}

TEST_CASE("the gradient of more draws, documents and picks than a team has rows, columns and registers for") {
  constexpr index_t lists = 41;
  const auto calculate = [&](auto& b, test::results& out) {
    const auto& view = b;
    const auto groups = dro::grouping::uniform(queries, lists);
    const auto coefficients = write(b, test::random_matrix<double>(groups.total(), 1, -1, 1, 45));
    const auto add = [&](dro::document_t n, const std::vector<test::ranking>& list) {
      const auto scores = write(b, test::random_matrix<double>(queries, n, -2, 2, 44));
      const auto rankings = write(b, test::ranking_matrix(list));
      auto gradient = dro::make_filled<double>(b, queries, n, 0.5);
      dro::accumulate_plackett_luce_gradient(b, scores, view.view(rankings), groups, coefficients, b.view(gradient));
      out.add(b, "gradient", gradient);
    };
    for (const dro::document_t n : {60, 132}) {
      std::vector<test::ranking> few, many;
      for (dro::document_t i = 0; i < queries * lists; ++i) {
        few.push_back({i % n, (i * 7 + 1 + i % n) % n, (i * 11 + 31) % n});  // some with a document twice
        many.emplace_back();
        for (dro::document_t t = 0; t < 12; ++t) many.back().push_back((i + (i % 3 + 1) * t) % n);
      }
      many[5][7] = many[5][2];
      many[6][11] = n;
      add(n, few);
      add(n, many);
    }
  };
  test::check_teams(calculate);
  test::results expected;
  dro::host_backend host(1);
  calculate(host, expected);
  test::results of_block;
  dro::concurrent_backend block(40);  // more threads than a warp has: other numbers of rows and columns
  calculate(block, of_block);
  of_block.check_against(expected);
}

TEST_CASE("rankings without replacement") {
  test::check_teams([](auto& b, test::results& out) {
    const dro::random_state random(b, 6);
    const auto scores = write(b, some_scores());
    const auto drawn = dro::draw_without_replacement(b, scores, random.source(b), {5, picks});
    add_draws(b, out, "draws", drawn.z);
    out.add(b, "log p", drawn.log_prob);
    out.add(b, "log unsampled", drawn.log_unsampled);
  });
}

TEST_CASE("proposals made of others") {
  test::check_teams([](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    const dro::random_state random(b, 7);
    const auto source = random.source(b);
    const dro::models::table_selector<B> selector(b, some_scores());
    const dro::fixed_order first(documents);
    const dro::uniform even(documents);
    const dro::uniform_over possible(selector);
    add_draws(b, out, "uniform", even.draw(b, all, {samples, picks}, source));
    add_draws(b, out, "uniform over", possible.draw(b, all, {samples, picks}, source));
    const dro::mixture defensive(0.6, selector, first);
    const auto mixed = defensive.draw(b, all, {samples, picks}, source);
    add_draws(b, out, "mixture", mixed);
    out.add(b, "fixed_order: log q", first.log_prob(b, all, mixed));
    for (const auto share : {dro::heuristic::balance, dro::heuristic::power}) {
      const dro::several many(share, {4, 2, 2}, selector, even, first);
      add_draws(b, out, "several", many.draw(b, all, {8, picks}, source));
    }
  });
}

TEST_CASE("equal draws joined") {
  test::check_teams([](auto& b, test::results& out) {
    const dro::random_state random(b, 8);
    const auto scores = write(b, test::random_matrix<double>(queries, 4, -1, 1, 43));
    for (const bool as_sets : {false, true}) {
      auto z = dro::draw_plackett_luce(b, scores, random.source(b), {12, 2});
      z = dro::deduplicate(b, std::move(z), {.as_sets = as_sets});
      add_draws(b, out, "once", z);
      add_draws(b, out, "twice", dro::deduplicate(b, std::move(z), {.keep_multiplicity = false, .as_sets = true}));
    }
  });
}
