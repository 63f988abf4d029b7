// SPDX-License-Identifier: Apache-2.0
// A batch that is gone through in pieces, whose gradients add up, takes the step of the whole batch.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/em/allocation.hpp>
#include <dro/em/baselines.hpp>
#include <dro/em/em.hpp>
#include <dro/em/set_scores.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/model/proposals/sampled_selector.hpp>
#include <dro/model/proposals/uniform.hpp>
#include <dro/models/generative_reader.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/models/table.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/ranking/without_replacement.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_retrieval.hpp"

namespace {

using dro::batch_piece;
using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::models::table_rows;
using test::real;

constexpr index_t queries = 5;
constexpr index_t documents = 6;
constexpr index_t samples = 4;
constexpr index_t picks = 2;

host_matrix<double> scores() { return test::random_matrix<double>(queries, documents, -2, 2, 1); }

/// A selector and a generator with parameters of their own for each query.
struct tables {
  host_backend b{1};
  dro::models::table_selector<host_backend> selector{b, scores()};
  dro::models::table_generator<host_backend> generator{b, documents, picks,
                                                       test::random_matrix<double>(queries * 30, 3, -2, 2, 2),
                                                       test::column(std::vector<std::int32_t>{1, 0, 2, 2, 1})};
  // Clipped by the norm over all queries: what a piece alone would be clipped to differs.
  dro::sgd<host_backend> selector_ascent{b, {.learning_rate = 0.5, .momentum = 0.5}, {}, 0.1};
  dro::sgd<host_backend> generator_ascent{b, {.learning_rate = 0.5}, {}, 0.1};
  dro::random_state<host_backend> random{b, 7};

  [[nodiscard]] std::vector<host_matrix<double>> parameters() {
    std::vector<host_matrix<double>> all;
    const auto keep = [&](auto value, auto) { all.push_back(dro::read(b, value)); };
    selector.for_each_parameter(keep);
    generator.for_each_parameter(keep);
    return all;
  }
  /// A step on queries 0 to 4, `piece` at a time.
  template <class Target>
  void step(const Target& target, index_t piece) {
    for (index_t first = 0; first < queries; first += piece) {
      const table_rows part{first, std::min(piece, queries - first)};
      const bool is_last = first + part.count == queries;
      auto e = dro::e_step(b, selector, generator, part, {samples, picks}, random.source(b, first));
      dro::m_step(b, selector, generator, part, e, target, selector_ascent, generator_ascent,
                  {.query_count = queries, .moves = is_last});
    }
    random.advance(b);
  }
};

bool same(const std::vector<host_matrix<double>>& a, const std::vector<host_matrix<double>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), test::same<double>);
}

/// Questions of the small language model, in batches of any of them.
struct question_source {
  host_backend& b;
  std::vector<dro::models::tokenised_question> questions;
  [[nodiscard]] std::size_t size() const { return questions.size(); }
  [[nodiscard]] dro::models::retrieval_batch<host_backend> batch(std::span<const index_t> positions) const {
    std::vector<dro::models::tokenised_question> chosen;
    for (const index_t q : positions) chosen.push_back(questions[static_cast<std::size_t>(q)]);
    return {b, chosen, test::small_style()};
  }
};

std::vector<dro::models::tokenised_question> five_questions() {
  auto all = test::small_questions();
  all.push_back({{1, 2, 3}, {{4}, {1, 1}}, {3, 4}});
  all.push_back({{}, {{0, 5}, {2}, {3, 1, 2}}, {5}});
  all.push_back({{4, 4}, {{2, 2}, {1}, {0}, {5, 3}}, {1, 0, 2}});
  return all;
}

}  // namespace

TEST_CASE("a piece of a batch gets the draws that it has in the whole") {
  tables t;
  const auto whole_and_pieces = [&](const char* name, const auto& proposal, const auto& whole, const auto& piece_of) {
    CAPTURE(name);
    t.random.advance(t.b);
    const dro::draw_options options{samples, picks};
    const auto all = proposal.draw(t.b, whole, options, t.random.source(t.b));
    for (index_t first = 0; first < queries; ++first) {
      const auto z = proposal.draw(t.b, piece_of(first), options, t.random.source(t.b, first));
      for (index_t i = 0; i < samples; ++i) {
        CHECK(test::ranking_of(z.rankings(), i) == test::ranking_of(all.rankings(), first * samples + i));
      }
    }
  };
  const auto rows = [](index_t first) { return table_rows{first, 1}; };
  const table_rows all{0, queries};
  using selector = dro::models::table_selector<host_backend>;
  using sampled = dro::sampled_selector<const selector&>;
  const sampled tempered(t.selector, {.temperature = 2});
  whole_and_pieces("selector", t.selector, all, rows);
  whole_and_pieces("top-k", sampled(t.selector, {.top_k = 3}), all, rows);
  whole_and_pieces("antithetic", sampled(t.selector, {.noise = {dro::noise_kind::antithetic}}), all, rows);
  whole_and_pieces("hypercube", sampled(t.selector, {.noise = {dro::noise_kind::latin_hypercube, 4}}), all, rows);
  whole_and_pieces("without replacement", dro::without_replacement(t.selector), all, rows);
  whole_and_pieces("uniform", dro::uniform<>(documents), all, rows);
  whole_and_pieces("mixture", dro::mixture(0.5, tempered, dro::uniform<>(documents)), all, rows);

  const test::small_language_model language;
  const dro::models::generative_selector<host_backend, double> neural(
      test::transformer_of<double>(t.b, language.config, language.weights));
  const question_source source{t.b, five_questions()};
  const std::vector<index_t> everything = {0, 1, 2, 3, 4};
  whole_and_pieces("generative selector", neural, source.batch(everything),
                   [&](index_t first) { return source.batch(std::vector<index_t>{first}); });
}

TEST_CASE("the step does not depend on the pieces: to the bit where queries share no parameter") {
  const auto check = [](const auto& target) {
    tables whole;
    const auto before = whole.parameters();
    for (int i = 0; i < 3; ++i) whole.step(target, queries);
    CHECK_FALSE(same(whole.parameters(), before));
    for (const index_t piece : {1, 2, 4}) {
      CAPTURE(piece);
      tables parts;
      for (int i = 0; i < 3; ++i) parts.step(target, piece);
      CHECK(same(parts.parameters(), whole.parameters()));
      CHECK(test::same(parts.selector_ascent.gradient_norm(), whole.selector_ascent.gradient_norm()));
    }
  };
  check(dro::evidence<>{});
  check(dro::set_scores<dro::evidence<>>{});
  check(dro::expected_log_likelihood<>{});
  check(dro::greedy_baseline<dro::expected_likelihood>{});
}

TEST_CASE("language models trained by em in pieces of any size end where the whole batch does") {
  const test::small_language_model language;
  struct outcome {
    std::vector<host_matrix<double>> parameters;
    dro::step_summary summary;
  };
  const auto train = [&](index_t piece, auto&& make_optimizer) {
    host_backend b(1);
    dro::models::generative_selector<host_backend, double> selector(
        test::transformer_of<double>(b, language.config, language.weights));
    dro::models::generative_reader<host_backend, double> reader(
        test::transformer_of<double>(b, language.config, test::small_weights(language.config, 2)));
    auto of_selector = make_optimizer(b);
    dro::sgd<host_backend> of_reader(b, {.learning_rate = 0.02});
    outcome o;
    struct {
      dro::step_summary* summary;
      void on_iteration(const dro::loop_progress&, const dro::step_summary& s) const { *summary = s; }
    } keep{&o.summary};
    dro::em_run<host_backend> run(b, 5);
    // Two batches, of four questions and of one.
    dro::em(b, selector, reader, question_source{b, five_questions()}, dro::evidence<>{}, of_selector, of_reader,
            {.loop = {.iterations = 1, .batch_size = 4, .piece_size = piece}, .draw = {3, 2}}, run, keep);
    CHECK(dro::read(b, run.random.step())(0, 0) == 2);
    const auto show = [&](auto value, auto) { o.parameters.push_back(dro::read(b, value)); };
    selector.for_each_parameter(show);
    reader.for_each_parameter(show);
    return o;
  };
  const auto ascent = [](host_backend& b) { return dro::sgd<host_backend>(b, {.learning_rate = 0.02}, {}, 0.5); };
  const auto held = [](host_backend&) { return dro::frozen{}; };
  const auto whole = train(0, ascent);
  const auto unmoved = train(0, held);
  CHECK_FALSE(test::same(unmoved.parameters[0], whole.parameters[0]));
  // What a question says of a parameter depends on its piece by padding alone: the same sums with zeros elsewhere. As
  // in test::logit_tolerance a pass is off by 2^15 u, the way back by as much again, and gradients here are below 8;
  // a step is 0.02 of that, and the second step sees parameters that differ by the first.
  const real tolerance = 2 * 2 * 0.02L * 8 * 2 * test::logit_tolerance<double>;
  for (const index_t piece : {1, 2, 3, 4, 9}) {
    CAPTURE(piece);
    const auto parts = train(piece, ascent);
    REQUIRE(parts.parameters.size() == whole.parameters.size());
    for (std::size_t k = 0; k < whole.parameters.size(); ++k) {
      const auto expected = test::elements(whole.parameters[k]);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        DRO_CHECK_NEAR(parts.parameters[k].data()[i], expected[i], tolerance);
      }
    }
    CHECK(parts.summary.used() == whole.summary.used());
    DRO_CHECK_NEAR(parts.summary.evidence, whole.summary.evidence, test::log_prob_tolerance);
    DRO_CHECK_NEAR(parts.summary.effective_sample_size, whole.summary.effective_sample_size,
                   3 * test::log_prob_tolerance);
  }
  const auto held_parts = train(3, held);
  CHECK(test::same(held_parts.parameters[0], unmoved.parameters[0]));
}

TEST_CASE("the loop cuts each batch into pieces and counts it once") {
  struct numbers_source {
    [[nodiscard]] std::size_t size() const { return 7; }
    [[nodiscard]] std::vector<index_t> batch(std::span<const index_t> positions) const {
      return {positions.begin(), positions.end()};
    }
  };
  const auto visit = [](index_t batch_size, index_t piece_size) {
    std::vector<std::string> seen;
    std::vector<index_t> order;
    dro::loop_position position;
    int steps = 0;
    struct {
      int* steps;
      void on_batch(const dro::loop_progress&) const { ++*steps; }
    } count{&steps};
    dro::training_loop(
        numbers_source{}, {.iterations = 1, .batch_size = batch_size, .piece_size = piece_size}, position,
        [&](const std::vector<index_t>& batch, const batch_piece& piece) {
          CHECK(std::equal(batch.begin(), batch.end(), piece.positions.begin(), piece.positions.end()));
          order.insert(order.end(), batch.begin(), batch.end());
          seen.push_back(std::to_string(piece.first) + "+" + std::to_string(batch.size()) + "/" +
                         std::to_string(piece.batch_size) + (piece.is_last() ? "!" : ""));
        },
        [] { return 0; }, count);
    CHECK(order == dro::shuffled_order(7, 1, 0));
    CHECK(steps == (7 + batch_size - 1) / batch_size);
    return seen;
  };
  using list = std::vector<std::string>;
  CHECK(visit(4, 0) == list{"0+4/4!", "0+3/3!"});
  CHECK(visit(4, 4) == list{"0+4/4!", "0+3/3!"});
  CHECK(visit(4, 9) == list{"0+4/4!", "0+3/3!"});
  CHECK(visit(4, 2) == list{"0+2/4", "2+2/4!", "0+2/3", "2+1/3!"});
  CHECK(visit(5, 3) == list{"0+3/5", "3+2/5!", "0+2/2!"});
  CHECK(visit(7, 3) == list{"0+3/7", "3+3/7", "6+1/7!"});

  dro::loop_position position;
  const auto run = [&](const dro::loop_options& options) {
    dro::training_loop(
        numbers_source{}, options, position, [](const std::vector<index_t>&) {}, [] { return 0; });
  };
  CHECK_THROWS_WITH_AS(run({.iterations = 1, .batch_size = 4, .piece_size = -1}), "piece size is -1",
                       dro::option_error);
  CHECK_THROWS_WITH_AS(run({.iterations = 1, .batch_size = 4, .piece_size = 3}),
                       "piece size is 3, but this step takes whole batches", dro::option_error);
  run({.iterations = 1, .batch_size = 4, .piece_size = 4});
  CHECK(position == dro::loop_position{1, 0});
}

TEST_CASE("what needs a whole batch says so") {
  tables t;
  const table_rows all{0, queries};
  auto e = dro::e_step(t.b, t.selector, t.generator, all, {samples, picks}, t.random);
  CHECK_THROWS_WITH_AS(dro::m_step(t.b, t.selector, t.generator, all, e, dro::evidence<>{}, t.selector_ascent,
                                   t.generator_ascent, {.steps = 2, .moves = false}),
                       "M-step: steps is 2 on a part of a batch, expected 1", dro::option_error);
  struct one_by_one {
    [[nodiscard]] std::size_t size() const { return queries; }
    [[nodiscard]] table_rows batch(std::span<const index_t> positions) const { return {positions[0], 1}; }
  };
  const auto run = [&](auto&& from, const dro::em_options& options) {
    dro::em_run<host_backend> place(t.b, 1);
    dro::em(t.b, t.selector, t.generator, from, one_by_one{}, dro::evidence<>{}, t.selector_ascent, t.generator_ascent,
            options, place);
  };
  const dro::loop_options in_pieces{.iterations = 1, .batch_size = 3, .piece_size = 1};
  const char* const refusal = "em: piece size is 1, but several M-steps and allocated samples need whole batches";
  CHECK_THROWS_WITH_AS(run(dro::selector_draws{}, {.loop = in_pieces, .draw = {samples, picks}, .m_steps = 2}), refusal,
                       dro::option_error);
  dro::sample_allocation<host_backend> allocation(t.b, queries, {.samples = 4});
  CHECK_THROWS_WITH_AS(run(allocation, {.loop = in_pieces, .draw = {samples, picks}}), refusal, dro::option_error);
}
