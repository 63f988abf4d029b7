// SPDX-License-Identifier: Apache-2.0
// The E-step of the generated world on a GPU and on the host: lists drawn by the selector from a prompt that is read
// once, log p of the answer by the reader, importance weights. Questions and models are those of examples/
// train_generative as it is without options: 6 documents, m = 8 lists of K = 2, two transformers of 2 layers of width
// 32, float. Compiled by any C++ compiler, linked with the library's unit of kernels. `bench_e_step --profile
// <questions>` prints what an E-step consists of instead.
//
//   read_once     each list of a question that was drawn is read once; for that the host looks at them between drawing
//                 and reading, once an E-step
//   read_each     every draw is read; the host waits for nothing
//   draw          lists and their log p alone: K passes of the selector, of which the first is over the prompts
//   queued        kernel by kernel
//   captured      as a graph that was captured once; a capture refuses whatever would wait for the host
//
//   items_per_second          draws a second
//   reader_tokens_per_second  rows of the reader, padding included, as if every draw was read
//   distinct_lists            of a question's 8, in the first E-step
//   peak_bytes                the most device memory that was held, models and questions included; cuBLAS's own is not
//                             counted
//   nats_1, nats_2            − log of the evidence a question, in the first E-step and in the second: the draws are
//                             the same whatever runs them, so these are, but for rounding
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <dro/backend/cuda.hpp>
#include <dro/backend/host.hpp>
#include <dro/em/e_step.hpp>
#include <dro/models/generative_reader.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/models/retrieval_batch.hpp>
#include <dro/models/transformer/transformer.hpp>
#include <dro/random/random_state.hpp>

#include "../../examples/generative/tokens.hpp"
#include "../../examples/generative/world.hpp"
#include "profile.hpp"
#include "stopwatch.hpp"

namespace {

using dro::cuda_backend;
using dro::index_t;
using namespace dro::models;

/// m and K.
constexpr dro::draw_options drawing{8, 2};
/// Lists read at a time: enough to fill a GPU, and as many as fit a processor's caches.
constexpr index_t sequences_on_gpu = 4096, sequences_on_host = 64;

/// Questions, both models, and what an E-step found.
template <class B>
class world_step {
 public:
  world_step(B& b, index_t questions, const generative_reader_options& reading)
      : backend_(b),
        tokens_(world_.families, generative::world_words(world_)),
        batch_(b, make_questions(questions), tokens_.style()),
        selector_(make_model(2)),
        reader_(make_model(3), reading),
        random_(b, 1) {}

  void draw() {
    drawn_.reset();
    drawn_.emplace(selector_.draw(backend_, batch_, drawing, random_.source(backend_)));
    random_.advance(backend_);
  }
  void whole() {
    found_.reset();
    found_.emplace(dro::e_step(backend_, selector_, reader_, batch_, drawing, random_));
  }

  [[nodiscard]] index_t draws() const { return static_cast<index_t>(batch_.size()) * drawing.samples; }
  /// Rows of the reader for each draw: the answer's last token is seen by nobody.
  [[nodiscard]] index_t rows_of_draw() const {
    return batch_.heads().cols() + drawing.select * batch_.texts().cols() + batch_.marker().cols() +
           batch_.answers().cols() - 1;
  }

  /// − log of the evidence a question in the last E-step. Waits.
  [[nodiscard]] double nats() {
    const auto evidence = dro::read(backend_, found_->weights.log_evidence);
    double sum = 0;
    for (index_t q = 0; q < evidence.rows(); ++q) sum -= static_cast<double>(evidence(q, 0));
    return sum / static_cast<double>(evidence.rows());
  }
  /// How many different lists a question has among its draws in the last E-step, on average. Waits.
  [[nodiscard]] double distinct_lists() {
    const auto rankings = dro::read(backend_, found_->z.rankings());
    std::set<std::vector<std::int64_t>> seen;
    for (index_t i = 0; i < rankings.rows(); ++i) {
      std::vector<std::int64_t> list{i / drawing.samples};
      for (index_t t = 0; t < rankings.cols(); ++t) list.push_back(rankings(i, t));
      seen.insert(std::move(list));
    }
    return static_cast<double>(seen.size()) / static_cast<double>(batch_.size());
  }

 private:
  [[nodiscard]] std::vector<tokenised_question> make_questions(index_t count) const {
    std::vector<tokenised_question> all;
    for (index_t i = 0; i < count; ++i) {
      const auto q = generative::make_question(world_, 1, generative::world_part::train, i).question;
      tokenised_question x{tokens_.encode(q.text), {}, tokens_.encode(q.answers.front())};
      for (const auto& d : q.documents) x.documents.push_back(tokens_.encode(d.text));
      all.push_back(std::move(x));
    }
    return all;
  }

  [[nodiscard]] transformer<B, float> make_model(std::uint64_t seed) const {
    llama_config c;
    c.vocab_size = static_cast<index_t>(tokens_.size());
    c.hidden_size = 32;
    c.intermediate_size = 64;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.num_key_value_heads = 2;
    c.head_dim = 16;
    c.max_position_embeddings = batch_.prompt_length() + drawing.select;  // longer than what the reader sees
    c.tie_word_embeddings = true;
    transformer<B, float> model(backend_, c);
    model.initialise(backend_, seed, 1 / std::sqrt(static_cast<double>(c.hidden_size)));
    return model;
  }

  B& backend_;
  generative::world_options world_;
  generative::tokenizer tokens_;
  retrieval_batch<B> batch_;
  generative_selector<B, float> selector_;
  generative_reader<B, float> reader_;
  dro::random_state<B> random_;
  std::optional<dro::draws<B, float>> drawn_;
  std::optional<dro::e_step_result<B, float>> found_;
};

enum class part { draw, whole };

/// What is timed.
struct way {
  const char* name;
  part timed;
  repeated_rankings repeated;
  bool is_captured = false;
};
constexpr std::array ways_on_gpu{way{"read_once/queued", part::whole, repeated_rankings::read_once},
                                 way{"read_each/queued", part::whole, repeated_rankings::read_each},
                                 way{"read_each/captured", part::whole, repeated_rankings::read_each, true},
                                 way{"draw/queued", part::draw, repeated_rankings::read_each},
                                 way{"draw/captured", part::draw, repeated_rankings::read_each, true}};
constexpr std::array ways_on_host{way{"read_once", part::whole, repeated_rankings::read_once},
                                  way{"read_each", part::whole, repeated_rankings::read_each},
                                  way{"draw", part::draw, repeated_rankings::read_each}};

/// Runs `step` once for what it finds, twice to warm up and then as often as it takes, each timed by `seconds_of`.
template <class B, class Step, class Clock>
void time_steps(benchmark::State& state, world_step<B>& w, const way& how, Step&& step, Clock&& seconds_of) {
  step();
  if (how.timed == part::whole) state.counters["nats_2"] = w.nats();
  for (int i = 0; i < 2; ++i) step();
  for (auto _ : state) state.SetIterationTime(seconds_of(step));
  const auto draws = static_cast<std::int64_t>(state.iterations()) * w.draws();
  state.SetItemsProcessed(draws);
  if (how.timed == part::whole) {
    state.counters["reader_tokens_per_second"] =
        benchmark::Counter(static_cast<double>(draws * w.rows_of_draw()), benchmark::Counter::kIsRate);
  }
}

/// The first E-step, which makes the memory.
template <class B>
void run_first(benchmark::State& state, world_step<B>& w) {
  w.whole();
  state.counters["nats_1"] = w.nats();
  state.counters["distinct_lists"] = w.distinct_lists();
}

void time_on_gpu(benchmark::State& state, index_t questions, const way& how) {
  try {
    cuda_backend b;
    b.reset_peak();
    world_step w(b, questions, {sequences_on_gpu, how.repeated});
    run_first(state, w);
    const auto queue = [&] { how.timed == part::draw ? w.draw() : w.whole(); };
    dro_bench::stopwatch watch(b.stream());
    const auto seconds_of = [&](const auto& step) { return watch.time(step); };
    if (how.is_captured) {
      auto graph = dro::capture(b, queue);
      time_steps(
          state, w, how, [&] { graph.launch(); }, seconds_of);
    } else {
      time_steps(state, w, how, queue, seconds_of);
    }
    state.counters["peak_bytes"] = static_cast<double>(b.memory().peak);
  } catch (const std::exception& e) {
    state.SkipWithError(e.what());
  }
}

void time_on_host(benchmark::State& state, index_t questions, const way& how) {
  try {
    dro::host_backend b;
    world_step w(b, questions, {sequences_on_host, how.repeated});
    run_first(state, w);
    const auto run = [&] { how.timed == part::draw ? w.draw() : w.whole(); };
    time_steps(state, w, how, run, [](const auto& step) {
      const auto start = std::chrono::steady_clock::now();
      step();
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    });
    state.counters["threads"] = b.threads();
  } catch (const std::exception& e) {
    state.SkipWithError(e.what());
  }
}

/// What the third E-step consists of. 0 if all went well.
int profile(index_t questions) {
  try {
    dro_bench::profiling_backend b;
    world_step w(b, questions, {sequences_on_gpu, repeated_rankings::read_each});
    for (int i = 0; i < 2; ++i) w.whole();
    b.profile([&] { w.whole(); });
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_e_step: %s\n", e.what());
    return 1;
  }
}

}  // namespace

// Name: e_step/<cuda or host>/questions:<questions>/<way>.
int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--profile") {
    const long questions = argc == 3 ? std::strtol(argv[2], nullptr, 10) : 0;
    if (questions > 0) return profile(questions);
    std::fprintf(stderr, "bench_e_step: --profile takes a number of questions, and nothing else\n");
    return 1;
  }
  for (const index_t questions : {8, 64, 512, 4096}) {
    const auto add = [questions](const char* backend, const way& how, auto run) {
      const std::string name =
          std::string("e_step/") + backend + "/questions:" + std::to_string(questions) + "/" + how.name;
      benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& s) { run(s, questions, how); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    };
    for (const way& how : ways_on_gpu) add("cuda", how, time_on_gpu);
    for (const way& how : ways_on_host) add("host", how, time_on_host);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
