// SPDX-License-Identifier: Apache-2.0
// A transformer, the two models over it and its beam search, with several threads a row.
#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <dro/models/generative_reader.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/models/transformer/beam_search.hpp>
#include <dro/random/random_state.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_retrieval.hpp"
#include "support/small_transformer.hpp"
#include "teams.hpp"

namespace {

using dro::host_matrix;
using dro::index_t;
using dro::models::no_token;
using dro::models::retrieval_batch;
using dro::models::token_t;
using dro::models::transformer;

const test::small_language_model world;

template <class B>
transformer<B, double> make_model(B& b) {
  return test::transformer_of<double>(b, world.config, world.weights);
}

/// Two prompts of three rows, one with padding; `beam` continuations each.
template <class B>
void search(B& b, const transformer<B, double>& model, index_t beam, test::results& out) {
  const auto prompts = dro::write(b, host_matrix<token_t>(6, 1, {0, 1, 2, no_token, 4, 1}));
  const auto starts = dro::write(b, host_matrix<std::int32_t>(2, 1, {0, 1}));
  dro::models::transformer_memory<B, double> memory;
  const B& view = b;
  const auto found = dro::models::beam_search(b, model, view.view(prompts), 2, view.view(starts), 9,
                                              {.beam = beam, .max_tokens = 3}, memory);
  for (const auto& continuations : found) {
    for (const auto& c : continuations) {
      host_matrix<token_t> tokens(4, 1, {no_token, no_token, no_token, no_token});
      std::copy(c.tokens.begin(), c.tokens.end(), tokens.data());
      out.add(b, "tokens", dro::write(b, tokens));
      out.add(b, "log p", dro::write(b, host_matrix<double>(1, 1, {c.log_prob})));
    }
  }
}

}  // namespace

TEST_CASE("a beam search takes what all threads have computed") {
  // A thread that does not wait for the others reads NaN where a sum is to come, if it is the faster one: seldom.
  test::check_teams([](auto& b, test::results& out) {
    const auto model = make_model(b);
    for (int time = 0; time < 8; ++time) {
      for (const index_t beam : {1, 4}) search(b, model, beam, out);
    }
  });
}

TEST_CASE("sequences with padding and branches are learnt from") {
  test::check_teams([](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    auto model = make_model(b);
    model.adapt(b, {.rank = 2, .layers = {"k_proj", "lm_head"}, .freeze_base = false}, 5);
    // A trunk of three rows, the first of the second sequence padding, and two branches of two.
    const auto starts = dro::write(b, host_matrix<std::int32_t>(2, 1, {0, 1}));
    const auto tokens =
        dro::write(b, host_matrix<token_t>(14, 1, {0, 1, 2, 3, 4, 5, no_token, no_token, 3, 1, 2, no_token, 7, 8}));
    const auto targets =
        dro::write(b, host_matrix<token_t>(14, 1, {1, 2, 3, 4, 9, 9, no_token, no_token, 1, 2, 9, no_token, 8, 0}));
    const auto c = dro::write(b, test::random_matrix<double>(14, 1, -1, 1, 6));
    auto log_prob = b.template make<double>(14, 1);
    dro::models::transformer_memory<B, double> memory(b, model.config(), 2, 7, dro::models::transformer_use::train);
    const B& view = b;
    model.accumulate_gradient(b, {view.view(tokens), {7, 3, 2, view.view(starts)}}, view.view(targets), view.view(c),
                              b.view(log_prob), memory);
    out.add(b, "log p", log_prob);
    model.for_each_parameter([&](auto, auto gradient) { out.add(b, "gradient", gradient); });
    model.merge_adapters(b);
    model.initialise(b, 3);
    out.add(b, "embedding", model.value(0));
  });
}

TEST_CASE("a selector and a reader draw, score and learn") {
  test::check_teams([](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    dro::models::generative_selector<B, double> selector(make_model(b));
    const retrieval_batch<B> batch(b, test::small_questions(), test::small_style());
    const dro::random_state<B> random(b, 9);
    const auto z = selector.draw(b, batch, {3, 2}, random.source(b));
    out.add(b, "rankings", z.rankings());
    out.add(b, "log q", z.log_proposal());
    out.add(b, "log p", selector.log_prob(b, batch, z));
    const auto c = dro::write(b, test::random_matrix<double>(6, 1, -1, 1, 7));
    selector.accumulate_gradient(b, batch, z, c);
    selector.for_each_parameter([&](auto, auto gradient) { out.add(b, "selector", gradient); });
    for (const auto repeated : {dro::models::repeated_rankings::read_each, dro::models::repeated_rankings::read_once}) {
      dro::models::generative_reader<B, double> reader(make_model(b), {4, repeated});
      out.add(b, "log p(y)", reader.log_likelihood(b, batch, z));
      reader.accumulate_gradient(b, batch, z, c);
      reader.for_each_parameter([&](auto, auto gradient) { out.add(b, "reader", gradient); });
    }
  });
}
