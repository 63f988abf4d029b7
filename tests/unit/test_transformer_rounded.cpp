// SPDX-License-Identifier: Apache-2.0
// The transformer where factors of products are rounded to bfloat16: what is rounded, and how far off that puts the
// gradient.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/testing.hpp>
#include <dro/models/transformer/transformer.hpp>

#include "support/matrices.hpp"
#include "support/rounding_backend.hpp"

namespace {

using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::matmul_precision;
using dro::models::llama_config;
using dro::models::no_token;
using dro::models::token_t;
using dro::models::transformer;
using dro::models::transformer_memory;
using dro::models::transformer_use;
using test::real;
using test::rounding_backend;

constexpr index_t sequences = 2;
constexpr index_t length = 40;

llama_config configuration(bool is_tied) {
  llama_config c;
  c.vocab_size = 50;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 8;
  c.max_position_embeddings = length;
  c.tie_word_embeddings = is_tied;
  return c;
}

/// Log-probabilities, and the gradients of all that learns, one after the other. Some rows of the second sequence are
/// padding.
template <class T, class B>
std::vector<real> train(B& b, transformer<B, T>& model) {
  host_matrix<token_t> tokens(sequences * length, 1), targets(sequences * length, 1);
  const host_matrix<std::int32_t> starts(2, 1, {0, 3});
  test::numbers next(8);
  for (index_t n = 0; n < tokens.rows(); ++n) {
    const bool is_text = n % length >= starts(n / length, 0);
    const auto token = [&] { return static_cast<token_t>(next.between(0, 50)); };
    tokens(n, 0) = is_text ? token() : no_token;
    targets(n, 0) = is_text ? token() : no_token;
  }
  const auto numbers = test::random_matrix<double>(tokens.rows(), 1, -1, 1, 9);
  const auto there = dro::write(b, tokens), wanted = dro::write(b, targets);
  const auto padding = dro::write(b, starts);
  const auto coefficients = dro::write(b, test::matrix<T>(tokens.rows(), 1, test::elements(numbers)));
  auto log_prob = b.template make<T>(tokens.rows(), 1);
  const B& view = b;
  transformer_memory<B, T> memory(b, model.config(), sequences, length, transformer_use::train);
  model.accumulate_gradient(b, {view.view(there), {length, length, 1, view.view(padding)}}, view.view(wanted),
                            view.view(coefficients), b.view(log_prob), memory);
  std::vector<real> all;
  const auto add = [&](const host_matrix<T>& m) {
    for (index_t i = 0; i < m.rows() * m.cols(); ++i) all.push_back(static_cast<real>(m.data()[i]));
  };
  add(dro::read(b, log_prob));
  model.for_each_parameter([&](auto, auto gradient) { add(dro::read(b, gradient)); });
  return all;
}

template <class T, class B>
std::vector<real> train(B& b, const llama_config& config, matmul_precision precision, bool is_adapted) {
  transformer<B, T> model(b, config, precision);
  model.initialise(b, 7, 0.2);
  if (is_adapted) {
    model.adapt(b, {.rank = 3, .layers = {"q_proj", "o_proj", "gate_proj", "down_proj"}, .freeze_base = false}, 3);
    for (std::size_t k = 1; k < model.adapters().parameters().size(); k += 2) {  // B, which begins as 0
      dro::models::fill_normal(b, model.adapters().parameters()[k].value, 5, static_cast<std::uint32_t>(k), 0.2);
    }
  }
  return train<T>(b, model);
}

/// √(Σ (a − b)² / Σ b²).
real distance(const std::vector<real>& a, const std::vector<real>& b) {
  REQUIRE(a.size() == b.size());
  real off = 0;
  real all = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    off += (a[i] - b[i]) * (a[i] - b[i]);
    all += b[i] * b[i];
  }
  return std::sqrt(off / all);
}

// A factor is off by at most 2^-8 of itself. A gradient goes through some 40 products one after the other, each of two
// factors, whose errors add up as if independent to √80 < 9 of these; four times that, since norms and softmaxes
// stretch them.
constexpr real off_by_rounding = 36 * 0x1p-8L;

}  // namespace

TEST_CASE("with factors in bfloat16 the gradient is off by their rounding") {
  for (const bool is_tied : {false, true}) {
    for (const bool is_adapted : {false, true}) {
      CAPTURE(is_tied);
      CAPTURE(is_adapted);
      const auto config = configuration(is_tied);
      host_backend host(1);
      const auto expected = train<double>(host, config, matmul_precision::full, is_adapted);
      rounding_backend<host_backend> b(1);
      const real off = distance(train<float>(b, config, matmul_precision::bf16, is_adapted), expected);
      CHECK(off < off_by_rounding);
      CHECK(off > 0x1p-9L);  // in float alone it is off by less than 2^-17
    }
  }
}

TEST_CASE("what may be rounded is: all factors but those of the scores") {
  const auto config = configuration(false);
  rounding_backend<host_backend> b(1);
  const auto found = train<float>(b, config, matmul_precision::bf16, false);
  // Attention, in a layer, takes two blocks, one for each query head of a key. Scores: q kᵀ forward and back, d_o vᵀ.
  CHECK(b.exact() == config.num_hidden_layers * 2 * 3);
  // P v, and d_v, d_k and d_q; seven projections of three products each, the output layer as well.
  CHECK(b.rounded() == config.num_hidden_layers * (2 * 4 + 7 * 3) + 3);
  CHECK(std::all_of(found.begin(), found.end(), [](real v) { return std::isfinite(v); }));
}

TEST_CASE("where factors may not be rounded, nothing is") {
  for (const auto precision : {matmul_precision::full, matmul_precision::tf32}) {
    const auto config = configuration(true);
    host_backend host(1);
    rounding_backend<host_backend> b(1);
    CHECK(train<float>(b, config, precision, false) == train<float>(host, config, precision, false));
    CHECK(b.rounded() == 0);
  }
  rounding_backend<host_backend> b(1);  // double numbers never are
  host_backend host(1);
  CHECK(train<double>(b, configuration(true), matmul_precision::bf16, false) ==
        train<double>(host, configuration(true), matmul_precision::full, false));
}

TEST_CASE("programs that round what they write keep to what teams may do") {
  const auto config = configuration(true);
  rounding_backend<host_backend> b(1);
  const auto expected = train<float>(b, config, matmul_precision::bf16, false);
  for (const int size : {1, 3}) {
    rounding_backend<dro::concurrent_backend> teams(size, 2);
    // A sum in another order moves some factors to the neighbouring bfloat16: no more than rounding them does.
    CHECK(distance(train<float>(teams, config, matmul_precision::bf16, false), expected) < off_by_rounding);
  }
}
