// SPDX-License-Identifier: Apache-2.0
// Adapters of the output layer, which other code than that of the blocks runs through: log p, beam search, the
// selector's choice of few tokens, and its files. Those of the blocks: test_transformer_weights.cpp.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/data/safetensors.hpp>
#include <dro/models/generative_reader.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/models/transformer/weights.hpp>

#include "data_files.hpp"
#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_retrieval.hpp"
#include "support/small_transformer.hpp"
#include "teams.hpp"

namespace {

using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::models::retrieval_batch;
using dro::models::token_t;
using dro::models::transformer;
using dro::models::transformer_memory;
using dro::models::transformer_use;
using test::real;

const test::small_language_model world;

/// The model with adapters of its output layer and of one layer in each block, all of which say something.
template <class B>
transformer<B, double> adapted(B& b, bool freeze = true) {
  auto model = test::transformer_of<double>(b, world.config, world.weights);
  model.adapt(b, {.rank = 3, .alpha = 6, .layers = {"lm_head", "up_proj"}, .freeze_base = freeze}, 4);
  for (std::size_t k = 1; k < model.adapters().parameters().size(); k += 2) {
    const auto up = model.adapters().parameters()[k].value;
    b.write(test::random_matrix<double>(up.rows, up.cols, -0.5, 0.5, k).data(), up);
  }
  return model;
}

/// The formulas with W + s B A, s = 6/3, in place of the adapted weights.
test::small_language_model merged_world() {
  host_backend b(1);
  const auto model = adapted(b);
  test::small_language_model merged = world;
  const auto& tensors = model.adapters().tensors();
  for (std::size_t k = 0; k < tensors.size(); k += 2) {
    const std::string of = tensors[k].name.substr(17, tensors[k].name.find(".lora_A") - 17) + ".weight";
    std::size_t at = 0;
    while (model.tensors()[at].name != of) ++at;
    const auto down = dro::read(b, model.adapters().parameters()[k].value);
    const auto up = dro::read(b, model.adapters().parameters()[k + 1].value);
    auto& w = merged.weights[at];
    for (index_t i = 0; i < w.rows(); ++i) {
      for (index_t j = 0; j < w.cols(); ++j) {
        for (index_t r = 0; r < 3; ++r) w(i, j) += 2 * up(i, r) * down(r, j);
      }
    }
  }
  return merged;
}

// Weights are up to 3 times as large with adapters.
constexpr real tolerance = 3 * test::log_prob_tolerance;

dro::draws<host_backend, double> lists(host_backend& b, const std::vector<test::ranking>& list) {
  const auto total = static_cast<index_t>(list.size());
  return {b, test::ranking_matrix(list), dro::make_filled<double>(b, total, 1, 0.0),
          dro::grouping::uniform(2, total / 2)};
}
const std::vector<test::ranking> four = {{0, 1}, {2, 0}, {3, 1}, {1, 2}};
const host_matrix<double> coefficients(4, 1, {1, -0.5, 0.75, 2});

real weighted(const host_matrix<double>& p) {
  real sum = 0;
  for (index_t i = 0; i < 4; ++i) sum += static_cast<real>(coefficients(i, 0)) * static_cast<real>(p(i, 0));
  return sum;
}

}  // namespace

TEST_CASE("with an adapted output layer both models say what the sum of weight and adapter says") {
  host_backend b(1);
  const auto expected = merged_world();
  const auto questions = test::small_questions();
  const retrieval_batch<host_backend> batch(b, questions, test::small_style());
  const auto z = lists(b, four);
  const dro::models::generative_selector<host_backend, double> selector(adapted(b));
  const dro::models::generative_reader<host_backend, double> reader(adapted(b));
  const auto choice = selector.log_prob(b, batch, z);
  const auto answer = reader.log_likelihood(b, batch, z);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& x = questions[i / 2];
    DRO_CHECK_NEAR(choice.data()[i], expected.log_choice(x, four[i]), tolerance);
    DRO_CHECK_NEAR(answer.data()[i], expected.log_answer(x, four[i], x.answer), tolerance);
    CHECK(std::abs(expected.log_choice(x, four[i]) - world.log_choice(x, four[i])) > 1e-3L);
  }
  const dro::random_state<host_backend> random(b, 3);
  const auto drawn = selector.draw(b, batch, {4, 2}, random.source(b));
  for (index_t i = 0; i < 8; ++i) {
    DRO_CHECK_NEAR(
        drawn.log_proposal()(i, 0),
        expected.log_choice(questions[static_cast<std::size_t>(i / 4)], test::ranking_of(drawn.rankings(), i)),
        tolerance);
  }
  const auto found = reader.answers(b, batch, z, {.beam = 3, .max_tokens = 2});
  for (std::size_t i = 0; i < 4; ++i) {
    REQUIRE(found[i].size() == 3);
    for (const auto& c : found[i]) {
      DRO_CHECK_NEAR(c.log_prob, expected.log_answer(questions[i / 2], four[i], c.tokens), tolerance);
    }
  }
}

TEST_CASE("the gradient of both models with an adapted output layer, the base frozen and not") {
  host_backend b(1);
  const retrieval_batch<host_backend> batch(b, test::small_questions(), test::small_style());
  const auto z = lists(b, four);
  for (const bool freeze : {true, false}) {
    CAPTURE(freeze);
    dro::models::generative_selector<host_backend, double> selector(adapted(b, freeze));
    selector.accumulate_gradient(b, batch, z, coefficients);
    // Coefficients of 4.25 in all; two picks a draw, three tokens an answer; of weights up to 3 times as large.
    test::check_differences(selector, 3 * 2 * 4.25L, [&] { return weighted(selector.log_prob(b, batch, z)); });
    dro::models::generative_reader<host_backend, double> reader(adapted(b, freeze));
    reader.accumulate_gradient(b, batch, z, coefficients);
    test::check_differences(reader, 3 * 3 * 4.25L, [&] { return weighted(reader.log_likelihood(b, batch, z)); });
    // Once more adds as much again, but for the rounding of sums.
    const auto gradients = [&](auto& model) {
      std::vector<double> all;
      model.for_each_parameter([&](auto, dro::matrix_view<double> gradient) {
        all.insert(all.end(), gradient.data, gradient.data + gradient.rows * gradient.cols);
      });
      return all;
    };
    const auto once = std::pair(gradients(selector), gradients(reader));
    selector.accumulate_gradient(b, batch, z, coefficients);
    reader.accumulate_gradient(b, batch, z, coefficients);
    const auto twice = std::pair(gradients(selector), gradients(reader));
    for (std::size_t i = 0; i < once.first.size(); ++i) {
      DRO_CHECK_NEAR(twice.first[i], 2 * once.first[i], tolerance);
      DRO_CHECK_NEAR(twice.second[i], 2 * once.second[i], tolerance);
    }
    std::size_t shown = 0;
    selector.for_each_parameter([&](auto, auto) { ++shown; });
    CHECK(shown == (freeze ? 6U : 6U + 21U));
  }
}

TEST_CASE("log p and its gradient in pieces of any size") {
  host_backend b(1);
  const auto numbers = [](index_t rows, index_t cols, std::uint64_t seed) {
    return test::random_matrix<double>(rows, cols, -1, 1, seed);
  };
  const auto hidden = numbers(6, 5, 1);
  auto weight = numbers(9, 5, 2), down = numbers(2, 5, 3), up = numbers(9, 2, 4);
  const auto c = numbers(6, 1, 5);
  const host_matrix<token_t> targets(6, 1, {3, 8, dro::models::no_token, 0, 3, 5});
  std::vector<host_matrix<double>> expected;
  for (const index_t workspace : {1000, 13, 14, 30, 77}) {  // 13: one row of logits, and u and its gradient
    CAPTURE(workspace);
    std::vector<host_matrix<double>> found = {host_matrix<double>(6, 1), host_matrix<double>(6, 5),
                                              host_matrix<double>(9, 5), host_matrix<double>(2, 5),
                                              host_matrix<double>(9, 2), host_matrix<double>(6, 1)};
    host_matrix<double> work(workspace, 1);
    const dro::models::linear_layer<double> output{
        {b.view(weight), b.view(found[2])}, {b.view(down), b.view(found[3])}, {b.view(up), b.view(found[4])}, 1.5};
    const auto& in = b;
    dro::models::token_log_prob_gradient(b, in.view(hidden), output, in.view(targets), in.view(c), b.view(found[0]),
                                         b.view(found[1]), b.view(work));
    dro::models::token_log_prob(b, in.view(hidden), output, in.view(targets), b.view(found[5]), b.view(work));
    CHECK(test::same(found[5], found[0]));
    if (expected.empty()) expected = found;
    // Rows are apart from each other but in the parameters' gradients, each a sum of 6 terms below 4 in two orders.
    CHECK(test::same(found[0], expected[0]));
    CHECK(test::same(found[1], expected[1]));
    for (std::size_t k = 2; k < 5; ++k) {
      const auto sums = test::elements(expected[k]);
      for (std::size_t i = 0; i < sums.size(); ++i) {
        DRO_CHECK_NEAR(found[k].data()[i], sums[i], 2 * 6 * 6 * 4 * test::unit_roundoff<double>);
      }
    }
  }
  host_matrix<double> p(6, 1), d(6, 5), work(12, 1);
  const dro::models::linear_layer<double> output{{b.view(weight), {}}, {b.view(down), {}}, {b.view(up), {}}, 1.5};
  CHECK_THROWS_WITH_AS(
      dro::models::token_log_prob_gradient(b, std::as_const(b).view(hidden), output, std::as_const(b).view(targets),
                                           std::as_const(b).view(c), b.view(p), b.view(d), b.view(work)),
      "token_log_prob: workspace is [12 × 1], expected one column of at least 13", dro::shape_error);
}

TEST_CASE("merged into the output layer, an adapter says the same") {
  host_backend b(1);
  const auto expected = merged_world();
  auto model = adapted(b);
  model.merge_adapters(b);
  CHECK(model.adapters().tensors().empty());
  for (std::size_t k = 0; k < expected.weights.size(); ++k) {
    const auto value = dro::read(b, model.value(k));
    const auto w = test::elements(expected.weights[k]);
    for (std::size_t i = 0; i < w.size(); ++i) {  // W + 2 B A: three products below 1/2 · 2
      DRO_CHECK_NEAR(value.data()[i], w[i], 64 * test::unit_roundoff<double>);
    }
  }
  CHECK(model.output().learns());
  CHECK_FALSE(model.output().is_adapted());
}

TEST_CASE("the adapter of the output layer has the name that PEFT gives it, and is saved and loaded") {
  host_backend b(1);
  const temporary_folder folder;
  const auto model = adapted(b);
  const auto& tensors = model.adapters().tensors();
  REQUIRE(tensors.size() == 6);
  CHECK(tensors[4].name == "base_model.model.lm_head.lora_A.weight");
  CHECK(tensors[4].shape == std::vector<std::uint64_t>{3, 8});
  CHECK(tensors[5].name == "base_model.model.lm_head.lora_B.weight");
  CHECK(tensors[5].shape == std::vector<std::uint64_t>{14, 3});
  dro::models::save_adapters(b, model, folder.path(), {.type = dro::data::element_type::f64});
  const dro::data::safetensors_file file((folder.path() / "adapter_model.safetensors").string());
  for (const auto& t : tensors) CHECK_NOTHROW(file.tensor(t.name).require_shape(t.shape));
  auto again = test::transformer_of<double>(b, world.config, world.weights);
  dro::models::load_adapters(b, folder.path(), again);
  CHECK(again.adapters().options() == model.adapters().options());
  for (std::size_t k = 0; k < tensors.size(); ++k) {
    CHECK(test::same(dro::read(b, again.adapters().parameters()[k].value),
                     dro::read(b, model.adapters().parameters()[k].value)));
  }
}

TEST_CASE("an output layer that is tied to the embedding takes no adapter") {
  host_backend b(1);
  auto config = world.config;
  config.tie_word_embeddings = true;
  transformer<host_backend, double> model(b, config);
  CHECK_THROWS_WITH_AS(model.adapt(b, {.layers = {"q_proj", "lm_head"}}, 1),
                       "lora_options: \"lm_head\" of a model whose output layer is tied to the embedding",
                       dro::option_error);
  model.adapt(b, {.layers = {"q_proj"}}, 1);
  CHECK_FALSE(model.output().is_adapted());
}

TEST_CASE("adapters of the widest rank fit into the memory of one row") {
  host_backend b(1);
  auto model = test::transformer_of<double>(b, world.config, world.weights);
  model.adapt(b, {.rank = 8, .layers = {"lm_head"}}, 1);
  transformer_memory<host_backend, double> memory(b, model.config(), 1, 1, transformer_use::train);
  const host_matrix<token_t> token(1, 1, {3}), target(1, 1, {5});
  const host_matrix<double> one(1, 1, {1});
  host_matrix<double> p(1, 1);
  model.accumulate_gradient(b, {b.view(token), dro::models::sequence_layout::plain(1)}, b.view(target), b.view(one),
                            b.view(p), memory);
  DRO_CHECK_NEAR(p(0, 0), world.log_continuation({3}, {5}), test::log_prob_tolerance);  // B = 0
}

TEST_CASE("teams of any size choose and answer the same through an adapted output layer") {
  test::check_teams([](auto& b, test::results& r) {
    using B = std::remove_cvref_t<decltype(b)>;
    const retrieval_batch<B> batch(b, test::small_questions(), test::small_style());
    dro::models::generative_selector<B, double> selector(adapted(b));
    dro::models::generative_reader<B, double> reader(adapted(b));
    const dro::random_state<B> random(b, 9);
    const auto z = selector.draw(b, batch, {2, 2}, random.source(b));
    r.add(b, "rankings", z.rankings());
    const auto c = dro::write(b, coefficients);
    selector.accumulate_gradient(b, batch, z, c);
    reader.accumulate_gradient(b, batch, z, c);
    selector.for_each_parameter([&](auto, auto gradient) { r.add(b, "selector", gradient); });
    reader.for_each_parameter([&](auto, auto gradient) { r.add(b, "reader", gradient); });
  });
}
