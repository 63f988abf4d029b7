// SPDX-License-Identifier: Apache-2.0
// The generative reader: likelihoods against the formulas, answers against enumeration, and training with the
// generative selector.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/m_step.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/model/concepts.hpp>
#include <dro/models/generative_reader.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/optimize/optimizer.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_retrieval.hpp"
#include "teams.hpp"

namespace {

using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::models::generative_reader;
using dro::models::generative_reader_options;
using dro::models::repeated_rankings;
using dro::models::retrieval_batch;
using test::log_prob_tolerance;
using test::ranking;
using test::real;
using test::small_questions;
using test::small_style;

template <class B>
using reader = generative_reader<B, double>;
static_assert(dro::generator<reader<host_backend>, host_backend, retrieval_batch<host_backend>, double>);
static_assert(dro::trainable<reader<host_backend>>);

const test::small_language_model world;

template <class B>
reader<B> make_reader(B& b, const generative_reader_options& options = {}) {
  return reader<B>(test::transformer_of<double>(b, world.config, world.weights), options);
}

template <class B>
dro::draws<B, double> as_draws(B& b, const std::vector<ranking>& list, index_t queries) {
  const auto total = static_cast<index_t>(list.size());
  return {b, dro::write(b, test::ranking_matrix(list)), dro::make_filled<double>(b, total, 1, 0.0),
          dro::grouping::uniform(queries, total / queries)};
}

/// Some repeated, some with places that hold nothing.
const std::vector<ranking> some_rankings = {{0, 1}, {2, 0}, {0, 1}, {1, dro::no_document}, {2, 0},
                                            {3, 1}, {0, 2}, {0, 1}, {dro::no_document, 1}, {3, 1}};

}  // namespace

TEST_CASE_TEMPLATE("log p(y|x,d_z) is that of the formulas, however many are read at a time", B, host_backend,
                   dro::eigen_backend<>, dro::deferred_backend) {
  B b(1);
  const auto questions = small_questions();
  const retrieval_batch<B> batch(b, questions, small_style());
  const auto z = as_draws(b, some_rankings, 2);
  for (const auto repeated : {repeated_rankings::read_once, repeated_rankings::read_each}) {
    for (const index_t at_once : {1, 3, 4, 32}) {
      const auto r = make_reader(b, {at_once, repeated});
      const auto found = dro::read(b, r.log_likelihood(b, batch, z));
      for (std::size_t i = 0; i < some_rankings.size(); ++i) {
        const auto& x = questions[i / 5];
        DRO_CHECK_NEAR(found.data()[i], world.log_answer(x, some_rankings[i], x.answer), log_prob_tolerance);
      }
      CHECK(found(0, 0) == found(2, 0));
    }
  }
}

TEST_CASE("the probabilities of all answers sum to 1") {
  host_backend b(1);
  const auto x = small_questions()[1];
  const ranking z = {1, 0};
  std::vector<dro::models::tokenised_question> questions;
  const auto prompt = test::small_language_model::reader_prompt(x, z);
  const test::tokens end = {small_style().end};
  real total = std::exp(world.log_continuation(prompt, end));  // the empty answer
  for (int first = 0; first < 14; ++first) {
    if (first == end[0]) continue;
    questions.push_back({x.question, x.documents, {first}});
    for (int second = 0; second < 14; ++second) {
      if (second == end[0]) continue;
      questions.push_back({x.question, x.documents, {first, second}});
      test::tokens longer = prompt;
      longer.insert(longer.end(), {first, second});
      total += std::exp(world.log_continuation(prompt, {first, second})) *
               (1 - std::exp(world.log_continuation(longer, end)));  // all that begin so and go on
    }
  }
  const retrieval_batch<host_backend> batch(b, questions, small_style());
  const auto r = make_reader(b);
  const auto p = r.log_likelihood(
      b, batch, as_draws(b, std::vector<ranking>(questions.size(), z), static_cast<index_t>(questions.size())));
  for (const double v : test::elements(p)) total += std::exp(static_cast<real>(v));
  DRO_CHECK_NEAR(total, 1, log_prob_tolerance);
}

TEST_CASE("draws may be ragged, and are then read once each ranking") {
  host_backend b(1);
  const auto questions = small_questions();
  const retrieval_batch<host_backend> batch(b, questions, small_style());
  const std::vector<ranking> list = {{0, 1}, {1, 0}, {0, 1}, {1, 0}};
  const dro::draws<host_backend, double> z(b, test::ranking_matrix(list), host_matrix<double>(4, 1),
                                           host_matrix<std::int32_t>(3, 1, {0, 1, 4}));
  const auto p = make_reader(b).log_likelihood(b, batch, z);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& x = questions[i < 1 ? 0 : 1];
    DRO_CHECK_NEAR(p.data()[i], world.log_answer(x, list[i], x.answer), log_prob_tolerance);
  }
  CHECK_THROWS_WITH_AS((void)make_reader(b, {4, repeated_rankings::read_each}).log_likelihood(b, batch, z),
                       "generative_reader: repeated_rankings::read_each needs equal numbers of draws a question",
                       dro::shape_error);
}

TEST_CASE("the gradient is that of differences") {
  host_backend b(1);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const auto z = as_draws(b, some_rankings, 2);
  const auto c = test::column<double>({1, -0.5, 0.75, 2, -1, 0.5, 0, 1, -2, 0.25});
  auto r = make_reader(b, {3, repeated_rankings::read_once});
  r.accumulate_gradient(b, batch, z, c);
  test::check_differences(r, 9 * 3, [&] {  // answers have at most three tokens, coefficients sum to 9
    const auto p = r.log_likelihood(b, batch, z);
    real sum = 0;
    for (index_t i = 0; i < 10; ++i) sum += static_cast<real>(c(i, 0)) * static_cast<real>(p(i, 0));
    return sum;
  });
  auto each = make_reader(b, {4, repeated_rankings::read_each});
  each.accumulate_gradient(b, batch, z, c);
  for (std::size_t k = 0; k < each.model().tensors().size(); ++k) {
    const auto found = dro::read(b, each.model().gradient(k));
    const auto expected = dro::read(b, r.model().gradient(k));
    // The same terms, fewer than 500 of them and below 16, in another order.
    for (index_t i = 0; i < found.rows() * found.cols(); ++i) {
      DRO_CHECK_NEAR(found.data()[i], expected.data()[i], 500 * 500 * 16 * test::unit_roundoff<double>);
    }
  }
}

TEST_CASE("teams of any size read, learn and answer the same") {
  test::check_teams([](auto& b, test::results& r) {
    using B = std::remove_reference_t<decltype(b)>;
    const retrieval_batch<B> batch(b, small_questions(), small_style());
    const auto z = as_draws(b, {{0, 1}, {0, 1}, {3, 2}, {1, dro::no_document}}, 2);
    auto model = make_reader(b, {2, repeated_rankings::read_once});
    r.add(b, "log p", model.log_likelihood(b, batch, z));
    model.accumulate_gradient(b, batch, z, dro::write(b, test::column<double>({1, -1, 2, 0.5})));
    model.for_each_parameter([&](auto, auto gradient) { r.add(b, "gradient", gradient); });
    for (const auto& found : model.answers(b, batch, z, {.beam = 3, .max_tokens = 2})) {
      CHECK(found.size() == 3);
      for (const auto& answer : found) {
        host_matrix<dro::models::token_t> tokens(static_cast<index_t>(answer.tokens.size()), 1);
        std::copy(answer.tokens.begin(), answer.tokens.end(), tokens.data());
        r.add(b, "answer", dro::write(b, tokens));
        r.add(b, "log p of it", dro::write(b, test::column<double>({answer.log_prob})));
      }
    }
  });
}

TEST_CASE("reading each draw waits for nothing, reading each ranking once for the rankings") {
  for (const auto repeated : {repeated_rankings::read_each, repeated_rankings::read_once}) {
    dro::deferred_backend b;
    auto model = make_reader(b, {3, repeated});
    const retrieval_batch<dro::deferred_backend> batch(b, small_questions(), small_style());
    const auto z = as_draws(b, some_rankings, 2);
    const auto p = model.log_likelihood(b, batch, z);
    model.accumulate_gradient(b, batch, z, p);
    CHECK(b.reads() == (repeated == repeated_rankings::read_each ? 0 : 2));
    CHECK(b.synchronisations() == 0);
  }
}

TEST_CASE("what a reader cannot do is refused") {
  host_backend b(1);
  CHECK_THROWS_WITH_AS(make_reader(b, {0}), "generative_reader: sequences is 0, expected at least 1",
                       dro::option_error);
  const auto r = make_reader(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  CHECK_THROWS_AS((void)r.log_likelihood(b, batch, as_draws(b, {{0, 1}}, 1)), dro::shape_error);
  auto questions = small_questions();
  questions[0].documents[0].resize(40, 1);
  const retrieval_batch<host_backend> too_long(b, questions, small_style());
  CHECK_THROWS_WITH_AS((void)r.log_likelihood(b, too_long, as_draws(b, {{0, 1}, {0, 1}}, 2)),
                       "rotary: 87 positions, but a table of 64", dro::shape_error);
}

TEST_CASE("tokens that the model does not have are refused, where a reader sees them") {
  host_backend b(1);
  const auto r = make_reader(b);
  const auto refusal = [&](const auto& change) {
    auto questions = small_questions();
    auto style = small_style();
    change(questions, style);
    const retrieval_batch<host_backend> batch(b, questions, style);
    const auto z = as_draws(b, {{0, 1}, {0, 1}}, 2);
    std::string text;
    try {
      (void)r.log_likelihood(b, batch, z);
      text = "nothing thrown";
    } catch (const dro::option_error& e) {
      text = e.what();
    }
    if (text != "nothing thrown") CHECK_THROWS_AS((void)r.answers(b, batch, z), dro::option_error);
    return text;
  };
  CHECK(refusal([](auto& q, auto&) { q[1].answer[0] = 27; }) ==
        "question 1, answer: token 27, but the model has 14 tokens");
  CHECK(refusal([](auto& q, auto&) { q[0].documents[1][0] = 14; }) ==
        "question 0, a document: token 14, but the model has 14 tokens");
  CHECK(refusal([](auto&, auto& s) { s.end = 25; }) == "prompt_style: end: token 25, but the model has 14 tokens");
  CHECK(refusal([](auto&, auto& s) { s.answer[0] = 14; }) ==
        "prompt_style: answer: token 14, but the model has 14 tokens");
  CHECK(refusal([](auto&, auto& s) { s.select[0] = 14; }) == "nothing thrown");  // a selector's
}

namespace {

/// log p(y|x) of each question, exactly.
template <class Selector>
std::vector<real> log_evidence(host_backend& b, const Selector& selector, const reader<host_backend>& r) {
  std::vector<real> all;
  for (const auto& x : small_questions()) {
    const retrieval_batch<host_backend> batch(b, {x}, small_style());
    const auto z = as_draws(b, test::all_rankings(static_cast<index_t>(x.documents.size()), 2), 1);
    const auto p = selector.log_prob(b, batch, z);
    const auto l = r.log_likelihood(b, batch, z);
    std::vector<real> terms;
    for (index_t i = 0; i < p.rows(); ++i) terms.push_back(static_cast<real>(p(i, 0)) + static_cast<real>(l(i, 0)));
    all.push_back(test::log_sum_exp(terms));
  }
  return all;
}

}  // namespace

TEST_CASE("both models together raise the evidence, with the same bits on one thread and on two") {
  const auto train = [](int threads) {
    host_backend b(threads);
    dro::models::generative_selector<host_backend, double> selector(
        test::transformer_of<double>(b, world.config, test::small_weights(world.config, 2)));
    auto r = make_reader(b);
    const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
    dro::sgd<host_backend, double> of_selector(b, {.learning_rate = 0.05}), of_reader(b, {.learning_rate = 0.05});
    dro::random_state<host_backend> random(b, 1);
    std::vector<std::vector<real>> evidence = {log_evidence(b, selector, r)};
    for (int step = 0; step < 12; ++step) {
      auto e = dro::e_step(b, selector, r, batch, {8, 2}, random);
      dro::m_step(b, selector, r, batch, e, dro::evidence<>{}, of_selector, of_reader);
      if (step % 6 == 5) evidence.push_back(log_evidence(b, selector, r));
    }
    return evidence;
  };
  const auto evidence = train(1);
  for (std::size_t question = 0; question < 2; ++question) {
    CHECK(evidence[1][question] > evidence[0][question] + 0.5L);
    CHECK(evidence[2][question] > evidence[1][question]);
  }
  CHECK(train(2) == evidence);
}

TEST_CASE("only the selector, or only the reader, can learn") {
  host_backend b(1);
  dro::models::generative_selector<host_backend, double> selector(
      test::transformer_of<double>(b, world.config, test::small_weights(world.config, 2)));
  auto r = make_reader(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  dro::sgd<host_backend, double> ascent(b, {.learning_rate = 0.1});
  dro::random_state<host_backend> random(b, 1);
  const auto before = log_evidence(b, selector, r);
  const auto reader_weights = dro::read(b, r.model().value(1));
  for (int step = 0; step < 10; ++step) {
    auto e = dro::e_step(b, selector, r, batch, {16, 2}, random);
    dro::m_step(b, selector, r, batch, e, dro::evidence<>{}, ascent, dro::frozen{});
  }
  const auto after = log_evidence(b, selector, r);
  CHECK(after[0] + after[1] > before[0] + before[1]);
  CHECK(test::same(dro::read(b, r.model().value(1)), reader_weights));
}
