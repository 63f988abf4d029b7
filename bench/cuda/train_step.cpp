// SPDX-License-Identifier: Apache-2.0
// A step of training of a language model on a GPU: log p of 16 sequences of 1024 tokens, its gradient, AdamW. 124
// million parameters: 12 layers of width 768 with 12 heads, 2048 between gate and down, 50304 tokens, input and output
// layer the same. Parameters, gradients, activations and what the optimiser remembers are float; products are in bf16,
// tf32 or full precision. ../peers/train_step.py is the same in PyTorch. Compiled by any C++ compiler, linked with the
// library's unit of kernels. `bench_train_step --profile [bf16|tf32|full]` prints what a step consists of instead.
//
//   items_per_second   tokens a second
//   peak_bytes         the most device memory that was held, parameters included; cuBLAS's own is not counted
//   first_nats, nats   − log p a token in the first step, and in the last: the same tokens each time, so it falls
#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <benchmark/benchmark.h>

#include <dro/backend/cuda.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/models/transformer/transformer.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/random/key.hpp>

#include "profile.hpp"
#include "stopwatch.hpp"

namespace {

using dro::cuda_backend;
using dro::index_t;
using dro::matmul_precision;
using namespace dro::models;

constexpr index_t sequences = 16;
constexpr index_t length = 1024;

llama_config configuration() {
  llama_config c;
  c.vocab_size = 50304;
  c.hidden_size = 768;
  c.intermediate_size = 2048;
  c.num_hidden_layers = 12;
  c.num_attention_heads = 12;
  c.num_key_value_heads = 12;
  c.head_dim = 64;
  c.max_position_embeddings = length;
  c.tie_word_embeddings = true;
  return c;
}

/// The model, its optimiser and a batch of random tokens, each row predicting the next.
template <class B>
class training {
 public:
  training(B& b, matmul_precision precision)
      : backend_(b),
        model_(b, configuration(), precision),
        memory_(b, model_.config(), sequences, length, transformer_use::train),
        optimizer_(b, {.learning_rate = 3e-4}),
        tokens_(b.template make<token_t>(sequences * length, 1)),
        targets_(b.template make<token_t>(sequences * length, 1)),
        coefficients_(dro::make_filled<float>(b, sequences * length, 1, 1.0F / (sequences * length))),
        log_prob_(b.template make<float>(sequences * length, 1)) {
    model_.initialise(b, 1);
    const dro::random_key key{2, 0};
    dro::host_matrix<token_t> tokens(sequences * length, 1), targets(sequences * length, 1);
    for (index_t n = 0; n < tokens.rows(); ++n) {
      const std::uint32_t word = dro::random_block(key, static_cast<std::uint32_t>(n), 0, 0)[0];
      tokens(n, 0) = static_cast<token_t>(word % 50304U);
    }
    for (index_t n = 0; n < tokens.rows(); ++n) {
      targets(n, 0) = n % length + 1 < length ? tokens(n + 1, 0) : no_token;
    }
    b.write(tokens.data(), b.view(tokens_));
    b.write(targets.data(), b.view(targets_));
  }

  void step() {
    const B& view = backend_;
    model_.accumulate_gradient(backend_, {view.view(tokens_), sequence_layout::plain(length)}, view.view(targets_),
                               view.view(coefficients_), backend_.view(log_prob_), memory_);
    optimizer_.step(backend_, model_);
  }

  /// −log p a token that was predicted, nats, in the last step. Waits.
  [[nodiscard]] double nats() {
    const auto p = dro::read(backend_, log_prob_);
    double sum = 0;
    for (index_t n = 0; n < p.rows(); ++n) sum -= static_cast<double>(p(n, 0));
    return sum / static_cast<double>(sequences * (length - 1));
  }

  [[nodiscard]] index_t parameters() const { return parameter_count(model_.config()); }

 private:
  B& backend_;
  transformer<B, float> model_;
  transformer_memory<B, float> memory_;
  dro::adamw<B, float> optimizer_;
  cuda_backend::matrix<token_t> tokens_, targets_;
  cuda_backend::matrix<float> coefficients_, log_prob_;
};

void time_step(benchmark::State& state, matmul_precision precision, bool is_captured) {
  try {
    cuda_backend b;
    b.reset_peak();
    training t(b, precision);
    t.step();  // makes the optimiser's memory
    const double first = t.nats();
    std::optional<dro::cuda_graph> graph;
    if (is_captured) graph.emplace(dro::capture(b, [&] { t.step(); }));
    const auto step = [&] { is_captured ? graph->launch() : t.step(); };
    for (int i = 0; i < 3; ++i) step();
    dro_bench::stopwatch watch(b.stream());
    for (auto _ : state) state.SetIterationTime(watch.time(step));
    state.SetItemsProcessed(state.iterations() * sequences * length);
    state.counters["parameters"] = static_cast<double>(t.parameters());
    state.counters["peak_bytes"] = static_cast<double>(b.memory().peak);
    state.counters["first_nats"] = first;
    state.counters["nats"] = t.nats();
  } catch (const std::exception& e) {
    state.SkipWithError(e.what());
  }
}

constexpr std::array<std::pair<const char*, matmul_precision>, 3> precisions{
    {{"bf16", matmul_precision::bf16}, {"tf32", matmul_precision::tf32}, {"full", matmul_precision::full}}};

/// What the third step consists of. 0 if all went well.
int profile(matmul_precision precision) {
  try {
    dro_bench::profiling_backend b;
    training t(b, precision);
    for (int i = 0; i < 2; ++i) t.step();
    b.profile([&] { t.step(); });
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_train_step: %s\n", e.what());
    return 1;
  }
}

}  // namespace

// Name: train_step/cuda/<precision>/<queued or captured>.
int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--profile") {
    for (const auto& [name, precision] : precisions) {
      if (argc == 2 || (argc == 3 && std::string_view(argv[2]) == name)) return profile(precision);
    }
    std::fprintf(stderr, "bench_train_step: --profile bf16, tf32 or full, and nothing else\n");
    return 1;
  }
  for (const auto& [name, precision] : precisions) {
    for (const bool is_captured : {false, true}) {
      const std::string whole = std::string("train_step/cuda/") + name + (is_captured ? "/captured" : "/queued");
      benchmark::RegisterBenchmark(whole.c_str(),
                                   [p = precision, is_captured](benchmark::State& s) { time_step(s, p, is_captured); })
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
