// SPDX-License-Identifier: Apache-2.0
// The estimator's step on a GPU: each phase and the whole, captured once and replayed, timed by events on the device.
// ../peers/compare.py --device cuda sets it beside PyTorch. Compiled by any C++ compiler, linked with the library's
// unit of kernels.
//
// Beside the whole stand what it is to be judged by:
//   copy_us                   a copy on the device that moves as many bytes as the step reads and writes, each once
//   memory_us                 the same bytes at the rate at which a copy of 1 GiB goes, which no cache holds
//   instruction_bound_us      what drawing costs in instructions alone, see instruction_bound
//   peak_bytes                the most device memory that a step held, inputs included
//   inputs_and_outputs_bytes  the least it could
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <dro/backend/cuda.hpp>

#include "../estimator_step.hpp"
#include "stopwatch.hpp"

namespace {

using dro::cuda_backend;
using dro_bench::check;
using dro_bench::estimator_step;
using dro_bench::step_shape;
using dro_bench::stopwatch;

/// Seconds of a copy on the device that reads and writes `bytes` altogether; median of 21.
double copy_seconds(cuda_backend& b, dro::index_t bytes) {
  const dro::index_t words = bytes / 2 / static_cast<dro::index_t>(sizeof(float));
  auto from = dro::make_filled<float>(b, words, 1, 1.0F);
  auto to = b.make<float>(words, 1);
  stopwatch watch(b.stream());
  std::vector<double> found;
  for (int i = 0; i < 21; ++i) {
    found.push_back(watch.time([&] {
      check(cudaMemcpyAsync(to.data(), from.data(), static_cast<std::size_t>(words) * sizeof(float),
                            cudaMemcpyDeviceToDevice, b.stream()),
            "cudaMemcpyAsync");
    }));
  }
  std::nth_element(found.begin(), found.begin() + 10, found.end());
  return found[10];
}

int attribute(cuda_backend& b, cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, b.device()), "cudaDeviceGetAttribute");
  return value;
}

/// Seconds below which no kernel can draw: B m K random words, each of them made, turned into a place in the mass that
/// is left and looked up, and a mass for each document and 16 samples. Counted from the definitions, for the two units
/// of a multiprocessor that take integers, with the results they give a clock (CUDA C++ Programming Guide, "Arithmetic
/// Instructions", compute capability 9.0: 64 products; 64 sums, comparisons and logical operations); the slower one
/// counts. Loads, stores, addresses, loop counters and log p(z) are left out, so it is a bound and no prediction.
///
///     a word of Philox4x32-10   10 rounds of 2 wide products and 2 xors of three numbers, for 4 words: 5 and 5
///     its place                 a product; a comparison and a sum for each earlier pick, (K − 1)/2 of them on average,
///                               and for each of the ⌈log₂ n⌉ steps of the search
///     a mass                    8 products; 6 sums, a shift by 64 bits (2) and another sum of 64 bits (2)
double instruction_bound(cuda_backend& b, const step_shape& s) {
  const auto words = static_cast<double>(s.queries * s.samples * s.select);
  const auto masses = static_cast<double>(s.queries * ((s.samples + 15) / 16) * s.documents);
  const double steps = std::ceil(std::log2(static_cast<double>(s.documents)));
  const double products = words * (5 + 1) + masses * 8;
  const double others = words * (5 + 2 * ((static_cast<double>(s.select) - 1) / 2 + steps)) + masses * 10;
  const double clocks_a_second = 1e3 * attribute(b, cudaDevAttrClockRate);
  return std::max(products, others) / 64 / (attribute(b, cudaDevAttrMultiProcessorCount) * clocks_a_second);
}

template <class T>
void add_yardsticks(benchmark::State& state, cuda_backend& b, const step_shape& shape) {
  constexpr double us = 1e6;
  constexpr dro::index_t large = dro::index_t{1} << 31;  // read and written: a copy of 1 GiB
  estimator_step<cuda_backend, T> step(b, shape);
  b.reset_peak();
  step.whole();
  b.synchronise();
  const auto bytes = static_cast<double>(step.bytes().whole);
  state.counters["peak_bytes"] = static_cast<double>(b.memory().peak);
  state.counters["inputs_and_outputs_bytes"] = bytes;
  state.counters["copy_us"] = us * copy_seconds(b, step.bytes().whole);
  state.counters["memory_us"] = us * bytes * copy_seconds(b, large) / static_cast<double>(large);
  state.counters["instruction_bound_us"] = us * instruction_bound(b, shape);
}

template <class T>
using run_phase = void (estimator_step<cuda_backend, T>::*)();

template <class T>
void time_phase(benchmark::State& state, const step_shape& shape, run_phase<T> run, bool with_yardsticks) {
  try {
    cuda_backend b;
    if (with_yardsticks) add_yardsticks<T>(state, b, shape);
    estimator_step<cuda_backend, T> step(b, shape);
    step.whole();  // every phase finds what the ones before it left
    auto graph = dro::capture(b, [&] { (step.*run)(); });
    stopwatch watch(b.stream());
    for (int i = 0; i < 3; ++i) graph.launch();
    for (auto _ : state) state.SetIterationTime(watch.time([&] { graph.launch(); }));
  } catch (const std::exception& e) {
    state.SkipWithError(e.what());
  }
}

// Name: step/cuda/<scalar>/<shape>/<phase>.
template <class T>
void register_steps(const char* scalar_name) {
  using step = estimator_step<cuda_backend, T>;
  constexpr std::array<const char*, 4> names{"draw", "weigh", "gradient", "whole"};
  constexpr std::array<run_phase<T>, 4> phases{&step::draw, &step::weigh, &step::differentiate, &step::whole};
  for (const step_shape& s : {step_shape{65536, 20, 16, 5}, step_shape{65536, 100, 16, 10},
                              step_shape{65536, 20, 64, 5}, step_shape{1, 20, 16, 5}}) {
    for (std::size_t i = 0; i < phases.size(); ++i) {
      const std::string name = std::string("step/cuda/") + scalar_name + "/queries:" + std::to_string(s.queries) +
                               "/documents:" + std::to_string(s.documents) + "/samples:" + std::to_string(s.samples) +
                               "/select:" + std::to_string(s.select) + "/" + names[i];
      benchmark::RegisterBenchmark(name.c_str(), [s, run = phases[i], whole = i == 3](
                                                     benchmark::State& state) { time_phase<T>(state, s, run, whole); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

// The whole over one size; the others are as in `base`.
template <class Set>
void register_growth(const char* name, const step_shape& base, Set set, std::int64_t first, std::int64_t last,
                     int factor) {
  benchmark::RegisterBenchmark(name,
                               [base, set](benchmark::State& state) {
                                 step_shape shape = base;
                                 set(shape, state.range(0));
                                 time_phase<float>(state, shape, &estimator_step<cuda_backend, float>::whole, false);
                                 state.SetComplexityN(state.range(0));
                               })
      ->RangeMultiplier(factor)
      ->Range(first, last)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Complexity(benchmark::oN);
}

}  // namespace

int main(int argc, char** argv) {
  register_steps<float>("float");
  register_steps<double>("double");
  register_growth(
      "growth/queries", {0, 20, 16, 5}, [](step_shape& s, dro::index_t n) { s.queries = n; }, 1 << 10, 1 << 20, 4);
  register_growth(
      "growth/documents", {8192, 0, 16, 5}, [](step_shape& s, dro::index_t n) { s.documents = n; }, 10, 1000, 10);
  register_growth(
      "growth/samples", {65536, 20, 0, 5}, [](step_shape& s, dro::index_t n) { s.samples = n; }, 2, 64, 2);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
