// SPDX-License-Identifier: Apache-2.0
// The whole transformer: against plain loops over one sequence at a time, its gradient against differences, and that
// padding, branches, passes over few rows and pieces of work change nothing.

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
#include <dro/backend/matmul.hpp>
#include <dro/backend/testing.hpp>
#include <dro/models/transformer/transformer.hpp>
#include <dro/optimize/optimizer.hpp>

#include "support/backends.hpp"
#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_transformer.hpp"
#include "teams.hpp"

namespace {

using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::models::llama_config;
using dro::models::no_token;
using dro::models::row_span;
using dro::models::sequence_layout;
using dro::models::token_t;
using dro::models::transformer;
using dro::models::transformer_memory;
using dro::models::transformer_use;
using test::real;

/// Sequences below each other, padded on the left to `length` rows.
host_matrix<token_t> padded(const std::vector<test::tokens>& sequences, index_t length) {
  host_matrix<token_t> m(static_cast<index_t>(sequences.size()) * length, 1);
  std::fill_n(m.data(), m.rows(), no_token);
  index_t end = 0;
  for (const auto& s : sequences) {
    end += length;
    std::copy(s.begin(), s.end(), m.data() + end - static_cast<index_t>(s.size()));
  }
  return m;
}

host_matrix<std::int32_t> starts_of(const std::vector<test::tokens>& sequences, index_t length) {
  host_matrix<std::int32_t> m(static_cast<index_t>(sequences.size()), 1);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    m.data()[s] = static_cast<std::int32_t>(length - static_cast<index_t>(sequences[s].size()));
  }
  return m;
}

/// The logits of a pass over some rows, [S·R × V].
template <class B, class T>
host_matrix<T> logits(B& b, const transformer<B, T>& model, const host_matrix<token_t>& tokens,
                      const sequence_layout& layout, const row_span& rows, transformer_memory<B, T>& memory) {
  const auto there = dro::write(b, tokens);
  const auto hidden = model.hidden(b, {std::as_const(b).view(there), layout}, rows, memory);
  auto out = b.template make<T>(hidden.rows, model.config().vocab_size);
  model.logits(b, hidden, b.view(out), memory);
  return dro::read(b, out);
}

template <class T>
void check_row(const host_matrix<T>& found, index_t row, const std::vector<real>& expected) {
  for (index_t v = 0; v < found.cols(); ++v) {
    DRO_CHECK_NEAR(found(row, v), expected[static_cast<std::size_t>(v)], test::logit_tolerance<T>);
  }
}

const std::vector<test::tokens> sentences = {{3, 1, 4, 1, 5, 9, 2}, {6, 5, 3, 5}, {8}};

std::vector<llama_config> configurations() {
  llama_config grouped = test::small_llama();
  llama_config tied = grouped;
  tied.tie_word_embeddings = true;
  tied.num_key_value_heads = 4;
  llama_config single = grouped;
  single.num_key_value_heads = 1;
  single.head_dim = 6;
  return {grouped, tied, single};
}

struct example {
  host_matrix<token_t> tokens, targets;
  host_matrix<std::int32_t> starts;
  host_matrix<double> coefficients;
  index_t sequences = 3, length = 7;
};

/// `sentences`, each row predicting some token, and coefficients in [−1, 1).
example training_example() {
  example e;
  e.tokens = padded(sentences, e.length);
  e.starts = starts_of(sentences, e.length);
  e.targets = host_matrix<token_t>(21, 1);
  test::numbers next(5);
  for (index_t n = 0; n < 21; ++n) {
    const auto target = static_cast<token_t>(next.between(0, 11));
    e.targets(n, 0) = e.tokens(n, 0) == no_token ? no_token : target;
  }
  e.coefficients = test::random_matrix<double>(21, 1, -1, 1, 6);
  return e;
}

template <class T>
struct outcome {
  host_matrix<T> log_prob;
  std::vector<host_matrix<T>> gradients;
};

/// One pass forward and back over `sequences` of the example from `first` on, added to what the model has.
template <class B, class T>
host_matrix<T> accumulate(B& b, transformer<B, T>& model, const example& e, index_t first, index_t sequences) {
  const auto part = [&](const auto& all, index_t rows) {
    using element = std::remove_cvref_t<decltype(all(0, 0))>;
    host_matrix<element> m(sequences * rows, 1);
    std::copy_n(all.data() + first * rows, m.rows(), m.data());
    return dro::write(b, m);
  };
  const auto tokens = part(e.tokens, e.length);
  const auto targets = part(e.targets, e.length);
  const auto starts = part(e.starts, 1);
  const auto coefficients =
      dro::write(b, test::matrix<T>(sequences * e.length, 1,
                                    std::vector<double>(e.coefficients.data() + first * e.length,
                                                        e.coefficients.data() + (first + sequences) * e.length)));
  auto log_prob = b.template make<T>(sequences * e.length, 1);
  const B& view = b;
  transformer_memory<B, T> memory(b, model.config(), sequences, e.length, transformer_use::train);
  model.accumulate_gradient(b, {view.view(tokens), {e.length, e.length, 1, view.view(starts)}}, view.view(targets),
                            view.view(coefficients), b.view(log_prob), memory);
  return dro::read(b, log_prob);
}

template <class B, class T>
std::vector<host_matrix<T>> gradients_of(B& b, transformer<B, T>& model) {
  std::vector<host_matrix<T>> all;
  model.for_each_parameter([&](auto, dro::matrix_view<T> gradient) { all.push_back(dro::read(b, gradient)); });
  return all;
}

template <class T, class B>
outcome<T> train_once(B& b, const llama_config& config) {
  auto model = test::transformer_of<T>(b, config, test::small_weights(config));
  outcome<T> o{accumulate(b, model, training_example(), 0, 3), {}};
  o.gradients = gradients_of(b, model);
  return o;
}

}  // namespace

TEST_CASE_TEMPLATE("logits are those of plain loops, whatever pads a sequence on the left", S, test::on_host<float>,
                   test::on_eigen_columns<double>, test::on_eigen_rows<double>, test::on_deferred<double>) {
  using T = typename S::scalar;
  typename S::backend b;
  for (const llama_config& config : configurations()) {
    const auto weights = test::small_weights(config);
    const auto model = test::transformer_of<T>(b, config, weights);
    transformer_memory<typename S::backend, T> memory(b, config, 3, 7, transformer_use::score);
    const auto starts = dro::write(b, starts_of(sentences, 7));
    const auto found = logits(b, model, padded(sentences, 7), {7, 7, 1, std::as_const(b).view(starts)}, {7}, memory);
    for (std::size_t s = 0; s < sentences.size(); ++s) {
      const auto expected = test::reference_logits(config, weights, sentences[s]);
      const index_t first = 7 * static_cast<index_t>(s + 1) - static_cast<index_t>(expected.size());
      for (std::size_t p = 0; p < expected.size(); ++p) {
        check_row(found, first + static_cast<index_t>(p), expected[p]);
      }
    }
  }
}

TEST_CASE("a later token, and padding on the right, change no bit of what comes before") {
  host_backend b(1);
  const llama_config config = test::small_llama();
  const auto model = test::transformer_of<double>(b, config, test::small_weights(config));
  transformer_memory<host_backend, double> memory(b, config, 1, 7, transformer_use::score);
  host_matrix<token_t> tokens = padded({sentences[0]}, 7);
  const auto before = logits(b, model, tokens, sequence_layout::plain(7), {7}, memory);
  for (const token_t other : {0, 7, no_token}) {
    host_matrix<token_t> changed = tokens;
    changed(5, 0) = changed(6, 0) = other;
    const auto after = logits(b, model, changed, sequence_layout::plain(7), {7}, memory);
    for (index_t v = 0; v < config.vocab_size; ++v) {
      for (index_t n = 0; n < 5; ++n) CHECK(after(n, v) == before(n, v));
    }
    CHECK(after(5, 0) != before(5, 0));
  }
}

TEST_CASE_TEMPLATE("branches are sequences of their own, and passes over few rows are one pass over all", B,
                   host_backend, dro::deferred_backend) {
  B b(1);
  const llama_config config = test::small_llama();
  const auto weights = test::small_weights(config);
  const auto model = test::transformer_of<double>(b, config, weights);
  const std::vector<test::tokens> trunks = {{3, 1, 4, 1}, {5, 9}};
  const std::vector<std::vector<test::tokens>> branches = {{{2, 6, 5}, {3, 5, 8}}, {{9, 7, 9}, {3, 2, 3}}};
  const auto starts = dro::write(b, starts_of(trunks, 4));
  const sequence_layout layout{10, 4, 3, std::as_const(b).view(starts)};
  std::vector<test::tokens> whole = trunks;
  for (std::size_t s = 0; s < 2; ++s) {
    whole[s].insert(whole[s].begin(), 4 - whole[s].size(), no_token);
    for (const auto& branch : branches[s]) whole[s].insert(whole[s].end(), branch.begin(), branch.end());
  }
  transformer_memory<B, double> score(b, config, 2, 10, transformer_use::score);
  transformer_memory<B, double> decode(b, config, 2, 10, transformer_use::decode);
  const auto together = logits(b, model, padded(whole, 10), layout, {10}, score);
  const auto trunk_rows = logits(b, model, padded({whole[0], whole[1]}, 10), layout, {10}, decode);
  CHECK(test::same(trunk_rows, together));

  transformer_memory<B, double> few(b, config, 2, 10, transformer_use::decode);
  const auto prompt = padded(
      {test::tokens(whole[0].begin(), whole[0].begin() + 4), test::tokens(whole[1].begin(), whole[1].begin() + 4)}, 4);
  const auto ends = logits(b, model, prompt, layout, {4}, few);
  for (std::size_t s = 0; s < 2; ++s)
    check_row(ends, 4 * static_cast<index_t>(s) + 3, test::reference_logits(config, weights, trunks[s]).back());
  for (index_t t = 0; t < 3; ++t) {
    host_matrix<token_t> step(4, 1);
    for (index_t i = 0; i < 4; ++i) {
      step(i, 0) =
          branches[static_cast<std::size_t>(i / 2)][static_cast<std::size_t>(i % 2)][static_cast<std::size_t>(t)];
    }
    const auto found = logits(b, model, step, layout, row_span{2, 4 + t, 3}, few);
    for (index_t i = 0; i < 4; ++i) {
      test::tokens own = trunks[static_cast<std::size_t>(i / 2)];
      const auto& branch = branches[static_cast<std::size_t>(i / 2)][static_cast<std::size_t>(i % 2)];
      own.insert(own.end(), branch.begin(), branch.begin() + t + 1);
      const auto expected = test::reference_logits(config, weights, own).back();
      check_row(found, i, expected);
      check_row(together, i / 2 * 10 + 4 + i % 2 * 3 + t, expected);
    }
  }
}

TEST_CASE("reordered branches go on from those they were made of") {
  host_backend b(1);
  const llama_config config = test::small_llama();
  const auto weights = test::small_weights(config);
  const auto model = test::transformer_of<double>(b, config, weights);
  const sequence_layout layout{2 + 3 * 2, 2, 2};
  transformer_memory<host_backend, double> memory(b, config, 2, 8, transformer_use::decode);
  (void)logits(b, model, padded({{1, 2}, {3, 4}}, 2), layout, {2}, memory);
  (void)logits(b, model, padded({{5, 6, 7}, {8, 9, 10}}, 3), layout, row_span{3, 2, 2}, memory);
  const host_matrix<std::int32_t> parents(6, 1, {2, 0, 0, 1, 1, 2});
  model.reorder_branches(b, layout, b.view(parents), 1, memory);
  const auto found = logits(b, model, padded({{0, 0, 1}, {2, 3, 2}}, 3), layout, row_span{3, 3, 2}, memory);
  const std::vector<test::tokens> expected = {{1, 2, 7, 0}, {1, 2, 5, 0}, {1, 2, 5, 1},
                                              {3, 4, 9, 2}, {3, 4, 9, 3}, {3, 4, 10, 2}};
  for (std::size_t i = 0; i < 6; ++i) {
    check_row(found, static_cast<index_t>(i), test::reference_logits(config, weights, expected[i]).back());
  }
}

TEST_CASE("the gradient of every parameter is that of differences") {
  host_backend b(1);
  for (const llama_config& config : configurations()) {
    const example e = training_example();
    auto model = test::transformer_of<double>(b, config, test::small_weights(config));
    accumulate(b, model, e, 0, 3);
    transformer_memory<host_backend, double> memory(b, config, 3, 7, transformer_use::score);
    const auto value = [&] {
      host_matrix<double> p(21, 1);
      model.log_prob(b, {b.view(e.tokens), {7, 7, 1, b.view(e.starts)}}, b.view(e.targets), b.view(p), memory);
      real sum = 0;
      for (index_t n = 0; n < 21; ++n) sum += static_cast<real>(e.coefficients(n, 0)) * static_cast<real>(p(n, 0));
      return sum;
    };
    test::check_differences(model, 12, value);  // 12 rows predict, coefficients are below 1
  }
}

TEST_CASE_TEMPLATE("other backends compute the same", S, test::on_eigen_columns<double>, test::on_eigen_rows<double>,
                   test::on_deferred<double>, test::on_host<float>) {
  using T = typename S::scalar;
  host_backend host(1);
  typename S::backend b;
  for (const llama_config& config : configurations()) {
    const auto expected = train_once<double>(host, config);
    const auto found = train_once<T>(b, config);
    // A gradient sums as many terms as a logit and once more over 12 rows, of elements below 16.
    constexpr real tolerance = 12 * 16 * test::logit_tolerance<T> / 8;
    for (index_t n = 0; n < 21; ++n) DRO_CHECK_NEAR(found.log_prob(n, 0), expected.log_prob(n, 0), tolerance);
    for (std::size_t k = 0; k < expected.gradients.size(); ++k) {
      for (index_t i = 0; i < expected.gradients[k].rows() * expected.gradients[k].cols(); ++i) {
        DRO_CHECK_NEAR(found.gradients[k].data()[i], expected.gradients[k].data()[i], tolerance);
      }
    }
  }
}

TEST_CASE("teams of any size compute the same, without a race") {
  llama_config config = test::small_llama();
  config.num_hidden_layers = 1;
  test::check_teams([&](auto& b, test::results& r) {
    auto model = test::transformer_of<double>(b, config, test::small_weights(config));
    const example e = training_example();
    r.add(b, "log_prob", dro::write(b, accumulate(b, model, e, 0, 2)));
    model.for_each_parameter([&](auto, auto gradient) { r.add(b, "gradient", gradient); });
  });
}

TEST_CASE("nothing is read and nothing waited for in a pass") {
  dro::deferred_backend b;
  const llama_config config = test::small_llama();
  auto model = test::transformer_of<double>(b, config, test::small_weights(config));
  const example e = training_example();
  const auto tokens = dro::write(b, e.tokens);
  const auto targets = dro::write(b, e.targets);
  const auto coefficients = dro::write(b, e.coefficients);
  auto log_prob = b.make<double>(21, 1);
  const auto& view = b;
  transformer_memory<dro::deferred_backend, double> memory(b, config, 3, 7, transformer_use::train);
  model.accumulate_gradient(b, {view.view(tokens), sequence_layout::plain(7)}, view.view(targets),
                            view.view(coefficients), b.view(log_prob), memory);
  CHECK(b.reads() == 0);
  CHECK(b.synchronisations() == 0);
  CHECK(b.pending() > 50);
}

TEST_CASE("micro-batches add up to the batch") {
  host_backend b(1);
  const llama_config config = test::small_llama();
  const auto expected = train_once<double>(b, config);
  auto model = test::transformer_of<double>(b, config, test::small_weights(config));
  accumulate(b, model, training_example(), 0, 1);
  accumulate(b, model, training_example(), 1, 2);
  const auto found = gradients_of(b, model);
  for (std::size_t k = 0; k < found.size(); ++k) {
    // 12 terms below 16 in another order: 12² u · 16 at most.
    for (index_t i = 0; i < found[k].rows() * found[k].cols(); ++i) {
      DRO_CHECK_NEAR(found[k].data()[i], expected.gradients[k].data()[i], 2304 * test::unit_roundoff<double>);
    }
  }
}

TEST_CASE("heads that share a key are heads with equal keys") {
  host_backend b(1);
  const llama_config grouped = test::small_llama();
  llama_config full = grouped;
  full.num_key_value_heads = 4;
  const auto weights = test::small_weights(grouped);
  auto repeated = weights;
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const std::string name = dro::models::llama_tensors(grouped)[k].name;
    if (!name.ends_with("k_proj.weight") && !name.ends_with("v_proj.weight")) continue;
    repeated[k] = host_matrix<double>(16, 8);
    for (index_t i = 0; i < 16; ++i) {
      for (index_t j = 0; j < 8; ++j) repeated[k](i, j) = weights[k](i / 8 * 4 + i % 4, j);
    }
  }
  transformer_memory<host_backend, double> memory(b, grouped, 1, 7, transformer_use::score);
  transformer_memory<host_backend, double> more(b, full, 1, 7, transformer_use::score);
  const auto tokens = padded({sentences[0]}, 7);
  CHECK(test::same(
      logits(b, test::transformer_of<double>(b, grouped, weights), tokens, sequence_layout::plain(7), {7}, memory),
      logits(b, test::transformer_of<double>(b, full, repeated), tokens, sequence_layout::plain(7), {7}, more)));
}

TEST_CASE("a memory is laid out anew for another shape, and keeps what it has for the same") {
  host_backend b(1);
  const llama_config config = test::small_llama();
  transformer_memory<host_backend, float> memory(b, config, 2, 5, transformer_use::train);
  const index_t training = memory.size();
  memory.fit(b, config, 2, 5, transformer_use::score);
  CHECK(memory.size() < training);
  memory.fit(b, config, 2, 50, transformer_use::train);
  CHECK(memory.size() > training);
  CHECK(memory.length() == 50);
}

namespace {

/// A host with little memory.
struct small_host : host_backend {
  using host_backend::host_backend;
  template <class T>
  [[nodiscard]] dro::host_matrix<T> make(index_t rows, index_t cols) const {
    if (rows * cols > most) throw std::bad_alloc();
    return host_backend::make<T>(rows, cols);
  }
  index_t most = 1 << 20;
};

}  // namespace

TEST_CASE("a memory that could not be had is asked for again") {
  small_host b(1);
  const llama_config config = test::small_llama();
  transformer_memory<small_host, float> memory(b, config, 2, 5, transformer_use::train);
  b.most = 16;
  for (int i = 0; i < 2; ++i) CHECK_THROWS_AS(memory.fit(b, config, 2, 50, transformer_use::train), std::bad_alloc);
  CHECK(memory.sequences() == 0);
  b.most = 1 << 20;
  memory.fit(b, config, 2, 50, transformer_use::train);
  CHECK(memory.sequences() == 2);
  CHECK(memory.length() == 50);
}

TEST_CASE("shapes that do not fit are refused") {
  host_backend b(1);
  const llama_config config = test::small_llama();
  transformer<host_backend, double> model(b, config);
  transformer_memory<host_backend, double> score(b, config, 2, 5, transformer_use::score);
  host_matrix<token_t> tokens(10, 1), targets(10, 1), few(9, 1);
  host_matrix<double> p(10, 1);
  CHECK_THROWS_WITH_AS(model.log_prob(b, {b.view(std::as_const(few)), sequence_layout::plain(5)},
                                      b.view(std::as_const(targets)), b.view(p), score),
                       "transformer: 9 tokens for 5 rows, up to row 5, of sequences of 5; memory for 2 sequences of 5",
                       dro::shape_error);
  CHECK_THROWS_WITH_AS(
      model.accumulate_gradient(b, {b.view(std::as_const(tokens)), sequence_layout::plain(5)},
                                b.view(std::as_const(targets)), b.view(std::as_const(p)), b.view(p), score),
      "transformer: a gradient needs memory laid out with transformer_use::train", dro::option_error);
  CHECK_THROWS_WITH_AS((void)model.hidden(b, {b.view(std::as_const(tokens)), sequence_layout::plain(5)}, {1, 4}, score),
                       "transformer: a pass over 1 of 5 rows needs memory laid out with transformer_use::decode",
                       dro::option_error);
  CHECK_THROWS_AS(model.reorder_branches(b, sequence_layout::plain(5), {}, 1, score), dro::option_error);
  CHECK_THROWS_WITH_AS(score.fit(b, config, 0, 5, transformer_use::score),
                       "transformer_memory: 0 sequences of 5 rows, expected at least one of each", dro::shape_error);
  transformer_memory<host_backend, double> too_long(b, config, 1, 65, transformer_use::score);
  host_matrix<token_t> long_text(65, 1);
  CHECK_THROWS_WITH_AS((void)model.hidden(b, {b.view(std::as_const(long_text)), sequence_layout::plain(65)}, too_long),
                       "rotary: 65 positions, but a table of 64", dro::shape_error);
  host_matrix<std::int32_t> one_start(1, 1);
  CHECK_THROWS_AS(
      (void)model.hidden(b, {b.view(std::as_const(tokens)), {5, 5, 1, b.view(std::as_const(one_start))}}, score),
      dro::shape_error);
  llama_config wrong = config;
  wrong.head_dim = 3;
  CHECK_THROWS_AS((transformer<host_backend, double>(b, wrong)), dro::option_error);
}
