// SPDX-License-Identifier: Apache-2.0
// Elementary functions and noise, per element of a loop, beside the same loop over the standard library.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>

namespace {

constexpr std::size_t count = 4096;  // input and output stay in the first and second level cache

// Random words turned into T in (low, high).
template <class T>
std::vector<T> arguments(T low, T high) {
  std::vector<T> x(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto word = dro::random_word({1, 0}, 0, 0, static_cast<std::uint32_t>(i));
    x[i] = low + (high - low) * dro::noise::uniform<T>(word);
  }
  return x;
}

std::vector<std::uint32_t> words() {
  std::vector<std::uint32_t> x(count);
  for (std::size_t i = 0; i < count; ++i) x[i] = dro::random_word({1, 0}, 0, 0, static_cast<std::uint32_t>(i));
  return x;
}

// Reports the time of one element as the counter `s_per_item`.
template <class In, class Out, class F>
void loop(benchmark::State& state, const std::vector<In>& in, std::vector<Out>& out, F f) {
  for (auto _ : state) {
    for (std::size_t i = 0; i < count; ++i) out[i] = f(in[i]);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.counters["s_per_item"] = benchmark::Counter(
      static_cast<double>(count), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

#define DRO_BENCH_FUNCTION(name, low, high)                                      \
  template <class T>                                                             \
  void dro_##name(benchmark::State& state) {                                     \
    std::vector<T> out(count);                                                   \
    loop(state, arguments<T>(low, high), out, dro::math::name<T>);               \
  }                                                                              \
  BENCHMARK_TEMPLATE(dro_##name, float);                                         \
  BENCHMARK_TEMPLATE(dro_##name, double);                                        \
  template <class T>                                                             \
  void std_##name(benchmark::State& state) {                                     \
    std::vector<T> out(count);                                                   \
    loop(state, arguments<T>(low, high), out, [](T x) { return std::name(x); }); \
  }                                                                              \
  BENCHMARK_TEMPLATE(std_##name, float);                                         \
  BENCHMARK_TEMPLATE(std_##name, double)

DRO_BENCH_FUNCTION(exp, -20, 0);
DRO_BENCH_FUNCTION(log, 0, 1);
DRO_BENCH_FUNCTION(log1p, -1, 1);

template <class T>
void dro_log_sum_exp(benchmark::State& state) {
  const std::vector<T> x = arguments<T>(-20, 0);
  for (auto _ : state) {
    benchmark::DoNotOptimize(dro::math::log_sum_exp(x.data(), static_cast<dro::index_t>(count)));
  }
  state.counters["s_per_item"] = benchmark::Counter(
      static_cast<double>(count), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK_TEMPLATE(dro_log_sum_exp, float);
BENCHMARK_TEMPLATE(dro_log_sum_exp, double);

void dro_gumbel(benchmark::State& state) {
  std::vector<float> out(count);
  loop(state, words(), out, dro::noise::gumbel<float>);
}
BENCHMARK(dro_gumbel);

void dro_exponential(benchmark::State& state) {
  std::vector<float> out(count);
  loop(state, words(), out, dro::noise::exponential<float>);
}
BENCHMARK(dro_exponential);

// In double, since in float v rounds to 1 for some words.
void std_gumbel(benchmark::State& state) {
  std::vector<float> out(count);
  loop(state, words(), out, [](std::uint32_t word) {
    return static_cast<float>(-std::log(-std::log((static_cast<double>(word) + 0.5) * 0x1p-32)));
  });
}
BENCHMARK(std_gumbel);

// Philox and Gumbel together, for as many positions as the argument says.
void dro_gumbel_fill(benchmark::State& state) {
  const auto n = static_cast<std::uint32_t>(state.range(0));
  std::vector<float> out(n);
  dro::noise_source source{{1, 2}, 3, 0};
  for (auto _ : state) {
    ++source.sample;
    source.gumbel_fill(out.data(), n);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.counters["s_per_item"] = benchmark::Counter(
      static_cast<double>(n), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(dro_gumbel_fill)->Arg(10)->Arg(100)->Arg(1000);

}  // namespace
