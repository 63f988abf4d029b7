// SPDX-License-Identifier: Apache-2.0
// The transformer, and the generative selector and reader over it, on a GPU: against the host and the formulas, in
// every precision, from run to run, and as a captured step.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include <dro/backend/cuda.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/models/generative_reader.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/models/transformer/transformer.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/random/random_state.hpp>

#include "cuda/devices.hpp"
#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_retrieval.hpp"
#include "support/small_transformer.hpp"

namespace {

using dro::cuda_backend;
using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::matmul_precision;
using dro::models::generative_reader;
using dro::models::generative_selector;
using dro::models::llama_config;
using dro::models::no_token;
using dro::models::repeated_rankings;
using dro::models::retrieval_batch;
using dro::models::token_t;
using dro::models::transformer;
using dro::models::transformer_memory;
using dro::models::transformer_use;
using test::has_devices;
using test::logit_tolerance;
using test::real;

/// Sequences padded on the left, what each row predicts, and coefficients in [−1, 1).
struct example {
  index_t sequences, length;
  host_matrix<token_t> tokens, targets;
  host_matrix<std::int32_t> starts;
  host_matrix<double> coefficients;

  example(index_t s, index_t l, index_t vocabulary, std::uint64_t seed)
      : sequences(s), length(l), tokens(s * l, 1), targets(s * l, 1), starts(s, 1) {
    test::numbers next(seed);
    for (index_t n = 0; n < s * l; ++n) {
      starts(n / l, 0) = static_cast<std::int32_t>(n / l * l / (s + 1));
      const bool is_text = n % l >= starts(n / l, 0);
      tokens(n, 0) = is_text ? static_cast<token_t>(next.between(0, static_cast<double>(vocabulary))) : no_token;
      targets(n, 0) = is_text ? static_cast<token_t>(next.between(0, static_cast<double>(vocabulary))) : no_token;
    }
    coefficients = test::random_matrix<double>(s * l, 1, -1, 1, seed + 1);
  }
};

/// The parameters' gradients one after the other, behind the log-probabilities.
template <class T>
using outcome = std::vector<host_matrix<T>>;

template <class B, class Model>
void add_gradients(B& b, Model& model, outcome<typename Model::scalar_type>& out) {
  model.for_each_parameter([&](auto, auto gradient) { out.push_back(dro::read(b, gradient)); });
}

template <class T, class B>
outcome<T> train(B& b, transformer<B, T>& model, const example& e) {
  const auto tokens = dro::write(b, e.tokens);
  const auto targets = dro::write(b, e.targets);
  const auto starts = dro::write(b, e.starts);
  const auto coefficients = dro::write(b, test::matrix<T>(e.coefficients.rows(), 1, test::elements(e.coefficients)));
  auto log_prob = b.template make<T>(e.tokens.rows(), 1);
  const B& view = b;
  transformer_memory<B, T> memory(b, model.config(), e.sequences, e.length, transformer_use::train);
  model.accumulate_gradient(b, {view.view(tokens), {e.length, e.length, 1, view.view(starts)}}, view.view(targets),
                            view.view(coefficients), b.view(log_prob), memory);
  outcome<T> out;
  out.push_back(dro::read(b, log_prob));
  add_gradients(b, model, out);
  return out;
}

template <class T, class U>
void check_near(const outcome<T>& found, const outcome<U>& expected, real tolerance) {
  REQUIRE(found.size() == expected.size());
  real most = 0;
  for (std::size_t k = 0; k < expected.size(); ++k) {
    REQUIRE(found[k].rows() * found[k].cols() == expected[k].rows() * expected[k].cols());
    for (index_t i = 0; i < expected[k].rows() * expected[k].cols(); ++i) {
      const real value = found[k].data()[i];
      const real off = std::abs(value - static_cast<real>(expected[k].data()[i]));
      most = std::max(most, std::isnan(off) ? test::infinity<real> : off);
    }
  }
  MESSAGE("off by at most ", static_cast<double>(most), " of ", static_cast<double>(tolerance));
  CHECK(most <= tolerance);
}

template <class T>
bool same(const outcome<T>& a, const outcome<T>& b) {
  bool equal = a.size() == b.size();
  for (std::size_t k = 0; equal && k < a.size(); ++k) equal = test::same(a[k], b[k]);
  return equal;
}

/// √(Σ (a − b)² / Σ b²) over all gradients.
template <class T>
real distance(const outcome<T>& a, const outcome<double>& b) {
  real off = 0;
  real all = 0;
  for (std::size_t k = 1; k < b.size(); ++k) {
    for (index_t i = 0; i < b[k].rows() * b[k].cols(); ++i) {
      const real x = b[k].data()[i];
      off += (a[k].data()[i] - x) * (a[k].data()[i] - x);
      all += x * x;
    }
  }
  return std::sqrt(off / all);
}

std::vector<llama_config> configurations() {
  const llama_config grouped = test::small_llama();
  llama_config tied = grouped;
  tied.tie_word_embeddings = true;
  tied.num_key_value_heads = 4;
  return {grouped, tied};
}

/// Wide enough for whole blocks of threads to share a row, and longer than one block of queries.
llama_config medium() {
  llama_config c;
  c.vocab_size = 2000;
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 16;
  c.max_position_embeddings = 300;
  return c;
}

template <class T, class B>
outcome<T> train_medium(B& b, matmul_precision precision = matmul_precision::full) {
  transformer<B, T> model(b, medium(), precision);
  model.initialise(b, 7);
  return train<T>(b, model, example(2, 300, model.config().vocab_size, 8));
}

const test::small_language_model world;

template <class T, class B>
generative_selector<B, T> make_selector(B& b) {
  return generative_selector<B, T>(test::transformer_of<T>(b, world.config, world.weights));
}
template <class T, class B>
generative_reader<B, T> make_reader(B& b, const dro::models::generative_reader_options& options) {
  return generative_reader<B, T>(test::transformer_of<T>(b, world.config, world.weights), options);
}

constexpr index_t samples = 6;

/// Repeated ones, and one with a place that holds nothing.
template <class T, class B>
dro::draws<B, T> some_draws(B& b) {
  const std::vector<test::ranking> list = {{0, 1}, {2, 0}, {0, 1}, {1, dro::no_document}, {2, 0}, {1, 0},
                                           {3, 1}, {0, 2}, {0, 1}, {dro::no_document, 1}, {3, 1}, {2, 3}};
  return {b, dro::write(b, test::ranking_matrix(list)), dro::make_filled<T>(b, 12, 1, T(0)),
          dro::grouping::uniform(2, samples)};
}

/// Log-probabilities of a draw and of its scores, and the selector's gradient.
template <class T>
struct selection {
  host_matrix<dro::document_t> rankings;
  outcome<T> numbers;
};

template <class T, class B>
selection<T> select(B& b) {
  auto s = make_selector<T>(b);
  const retrieval_batch<B> batch(b, test::small_questions(), test::small_style());
  const dro::random_state<B> random(b, 8);
  const auto z = s.draw(b, batch, {samples, 3}, random.source(b));
  selection<T> out{dro::read(b, z.rankings()), {}};
  out.numbers.push_back(dro::read(b, z.log_proposal()));
  out.numbers.push_back(dro::read(b, s.log_prob(b, batch, z)));
  s.accumulate_gradient(b, batch, z, dro::write(b, test::random_matrix<T>(2 * samples, 1, -1, 1, 4)));
  add_gradients(b, s, out.numbers);
  return out;
}

template <class T, class B>
outcome<T> read_answers(B& b, repeated_rankings repeated) {
  auto r = make_reader<T>(b, {5, repeated});
  const retrieval_batch<B> batch(b, test::small_questions(), test::small_style());
  const auto z = some_draws<T>(b);
  outcome<T> out;
  out.push_back(dro::read(b, r.log_likelihood(b, batch, z)));
  r.accumulate_gradient(b, batch, z, dro::write(b, test::random_matrix<T>(2 * samples, 1, -1, 1, 5)));
  add_gradients(b, r, out);
  return out;
}

/// A selector and a reader that learn together: the selector from log p(y|x,d_z), the reader from log q(z).
template <class T>
class joint_training {
 public:
  explicit joint_training(cuda_backend& b)
      : selector_(make_selector<T>(b)),
        reader_(make_reader<T>(b, {5, repeated_rankings::read_each})),
        batch_(b, test::small_questions(), test::small_style()),
        random_(b, 9),
        of_selector_(b, {1e-3}),
        of_reader_(b, {1e-3}) {}

  void step(cuda_backend& b) {
    const auto z = selector_.draw(b, batch_, {samples, 2}, random_.source(b));
    const auto read = reader_.log_likelihood(b, batch_, z);
    const auto chosen = selector_.log_prob(b, batch_, z);
    selector_.accumulate_gradient(b, batch_, z, read);
    reader_.accumulate_gradient(b, batch_, z, chosen);
    of_selector_.step(b, selector_);
    of_reader_.step(b, reader_);
    random_.advance(b);
  }

  [[nodiscard]] outcome<T> parameters(cuda_backend& b) {
    outcome<T> out;
    const auto add = [&](auto value, auto) { out.push_back(dro::read(b, value)); };
    selector_.for_each_parameter(add);
    reader_.for_each_parameter(add);
    return out;
  }

 private:
  generative_selector<cuda_backend, T> selector_;
  generative_reader<cuda_backend, T> reader_;
  retrieval_batch<cuda_backend> batch_;
  dro::random_state<cuda_backend> random_;
  dro::sgd<cuda_backend, T> of_selector_, of_reader_;
};

}  // namespace

TEST_CASE_TEMPLATE("log p and every gradient of a transformer are the host's", T, float, double) {
  if (!has_devices(1)) return;
  host_backend host(1);
  cuda_backend b;
  for (const llama_config& config : configurations()) {
    const auto weights = test::small_weights(config);
    const example e(3, 7, config.vocab_size, 5);
    auto expected = test::transformer_of<double>(host, config, weights);
    auto found = test::transformer_of<T>(b, config, weights);
    // A gradient sums as many terms as a logit, once more over at most 21 rows, of elements below 16; logit_tolerance
    // is eight times what it is for elements of 1.
    check_near(train<T>(b, found, e), train<double>(host, expected, e), 21 * 16 * logit_tolerance<T> / 8);
  }
}

TEST_CASE("sequences longer than a block of queries and rows shared by blocks of threads change nothing") {
  if (!has_devices(1)) return;
  host_backend host(2);
  cuda_backend b;
  const auto expected = train_medium<double>(host);
  // Weights of deviation 0.02 keep logits below 1. In each of 2 layers some 20 sums of at most 2000 terms are off by
  // 2000 u of the sum of magnitudes, below 16; a gradient sums 600 rows of such numbers with coefficients below 1:
  // 2 · 20 · 2000 · 16 · 600 u < 2^30 u.
  check_near(train_medium<double>(b), expected, 0x1p30 * test::unit_roundoff<double>);
  real largest = 0;
  for (const auto& m : expected) largest = std::max(largest, test::largest_magnitude(test::elements(m)));
  CHECK(largest > 1);
  // In float that bound says nothing, so the gradient as a whole. A product whose terms are rounded at random is off by
  // about u of its size, with sums of 300 terms by √300 < 18 times as much; a gradient goes through some 80 products
  // one after the other, whose errors add up as if independent to 9 of these; four times that, since norms and
  // softmaxes stretch them.
  const auto in_float = train_medium<float>(b);
  CHECK(distance(in_float, expected) < 36 * 18 * test::unit_roundoff<float>);
}

TEST_CASE("lower precisions are near") {
  if (!has_devices(1)) return;
  cuda_backend b;
  const auto expected = train_medium<double>(b);
  // As above; here it is the operands that are rounded, once: by 2^-8 for bf16, by 2^-10 for tf32, where bits may be
  // cut off. Sums are float still. With 600 rows rounding pays in all products but those of scores.
  const real bf16 = distance(train_medium<float>(b, matmul_precision::bf16), expected);
  const real tf32 = distance(train_medium<float>(b, matmul_precision::tf32), expected);
  MESSAGE("relative distance of the gradient: bf16 ", static_cast<double>(bf16), ", tf32 ", static_cast<double>(tf32));
  CHECK(bf16 < 36 * 0x1p-8);
  CHECK(bf16 > tf32);
  CHECK(tf32 < 36 * 0x1p-10);
}

TEST_CASE_TEMPLATE("a transformer's gradient is the same from run to run", T, float, double) {
  if (!has_devices(1)) return;
  cuda_backend b;
  const auto first = train_medium<T>(b);
  CHECK(same(train_medium<T>(b), first));
  cuda_backend another;
  CHECK(same(train_medium<T>(another), first));
}

TEST_CASE_TEMPLATE("a generative selector draws, scores and learns as on the host", T, float, double) {
  if (!has_devices(1)) return;
  host_backend host(1);
  cuda_backend b;
  const auto expected = select<T>(host);
  const auto found = select<T>(b);
  // With seed 8 the two largest keys of each of the 36 picks are at least 0.11 apart. A key is off by no more than a
  // logit, 0.002 in float, and a few roundings of its noise.
  CHECK(test::same(found.rankings, expected.rankings));
  // 12 draws of 3 picks with coefficients below 1: 36 logits less logarithms of sums of them, each with a gradient as
  // above.
  check_near(found.numbers, expected.numbers, 36 * 16 * logit_tolerance<T> / 8);
}

TEST_CASE_TEMPLATE("a generative reader says what the formulas say, and learns as on the host", T, float, double) {
  if (!has_devices(1)) return;
  host_backend host(1);
  cuda_backend b;
  const auto questions = test::small_questions();
  const auto rankings = dro::read(host, some_draws<T>(host).rankings());
  for (const auto repeated : {repeated_rankings::read_once, repeated_rankings::read_each}) {
    const auto found = read_answers<T>(b, repeated);
    for (index_t i = 0; i < 2 * samples; ++i) {
      const auto& x = questions[static_cast<std::size_t>(i / samples)];
      // Answers have at most 3 tokens, each a logit and the logarithm of a sum of logits.
      DRO_CHECK_NEAR(found[0](i, 0), world.log_answer(x, test::ranking_of(rankings, i), x.answer),
                     8 * logit_tolerance<T>);
    }
    check_near(found, read_answers<T>(host, repeated), 36 * 16 * logit_tolerance<T> / 8);
  }
}

TEST_CASE("a beam search finds the host's answers") {
  if (!has_devices(1)) return;
  const auto search = [](auto& b) {
    using B = std::remove_reference_t<decltype(b)>;
    const auto r = make_reader<double>(b, {5, repeated_rankings::read_once});
    const retrieval_batch<B> batch(b, test::small_questions(), test::small_style());
    return r.answers(b, batch, some_draws<double>(b), {3, 3});
  };
  host_backend host(1);
  cuda_backend b;
  const auto expected = search(host);
  const auto found = search(b);
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    REQUIRE(found[i].size() == expected[i].size());
    CHECK(found[i].size() == 3);
    for (std::size_t k = 0; k < expected[i].size(); ++k) {
      CHECK(found[i][k].tokens == expected[i][k].tokens);
      DRO_CHECK_NEAR(found[i][k].log_prob, expected[i][k].log_prob, test::log_prob_tolerance);
    }
  }
}

TEST_CASE_TEMPLATE("a step of selector and reader is captured, and replays what the next steps would have done", T,
                   float, double) {
  if (!has_devices(1)) return;
  cuda_backend b;
  joint_training<T> plain(b), captured(b);
  const auto before = plain.parameters(b);
  plain.step(b);  // the first step makes the memory
  captured.step(b);
  auto graph = dro::capture(b, [&] { captured.step(b); });
  for (int i = 0; i < 2; ++i) {
    plain.step(b);
    graph.launch();
  }
  CHECK(same(captured.parameters(b), plain.parameters(b)));
  CHECK(!same(plain.parameters(b), before));
}
