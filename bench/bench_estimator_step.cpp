// SPDX-License-Identifier: Apache-2.0
// The estimator's step on every backend of the host: draw, weigh, differentiate and the whole, by shape, scalar and
// number of threads; and how the time grows with queries, documents and samples. peers/compare.py sets it beside
// PyTorch. With --numbers FILE it writes a small step as JSON instead, for peers/estimator_step.py --verify.
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include <benchmark/benchmark.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#if defined(DRO_BENCH_XTENSOR)
#include <dro/backend/xtensor.hpp>
#endif

#include "estimator_step.hpp"

namespace {

using dro_bench::estimator_step;
using dro_bench::step_shape;

/// What a raw pointer costs: memory from new[], and nothing else.
class raw_backend : public dro::host_base {
 public:
  template <class T>
  struct matrix {
    std::unique_ptr<T[]> data;
    dro::index_t rows = 0, cols = 0;
  };
  using host_base::host_base;

  template <class T>
  [[nodiscard]] matrix<T> make(dro::index_t rows, dro::index_t cols) const {
    return {std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(rows * cols)), rows, cols};
  }
  template <class T>
  [[nodiscard]] dro::matrix_view<T> view(matrix<T>& m) const {
    return dro::row_major_view(m.data.get(), m.rows, m.cols);
  }
  template <class T>
  [[nodiscard]] dro::matrix_view<const T> view(const matrix<T>& m) const {
    return dro::row_major_view<const T>(m.data.get(), m.rows, m.cols);
  }
};

template <class Step>
struct phase {
  const char* name;
  void (Step::*run)();
};

template <class B, class T>
void time_phase(benchmark::State& state, const step_shape& shape, int threads, void (estimator_step<B, T>::*run)()) {
  B b(threads);
  estimator_step<B, T> step(b, shape);
  step.whole();  // every phase finds what the ones before it left
  for (auto _ : state) {
    (step.*run)();
    benchmark::ClobberMemory();
  }
}

std::string shape_name(const step_shape& s) {
  return "queries:" + std::to_string(s.queries) + "/documents:" + std::to_string(s.documents) +
         "/samples:" + std::to_string(s.samples) + "/select:" + std::to_string(s.select);
}

// Name: step/<backend>/<scalar>/<shape>/threads:<t>/<phase>.
template <class B, class T>
void register_steps(const char* backend_name, const char* scalar_name) {
  using step = estimator_step<B, T>;
  constexpr std::array<phase<step>, 4> phases{
      {{"draw", &step::draw}, {"weigh", &step::weigh}, {"gradient", &step::differentiate}, {"whole", &step::whole}}};
  for (const step_shape& shape : {step_shape{}, step_shape{4096, 100, 16, 10}, step_shape{4096, 20, 64, 5}}) {
    for (const int threads : {1, 2}) {
      for (const phase<step>& p : phases) {
        const std::string name = std::string("step/") + backend_name + "/" + scalar_name + "/" + shape_name(shape) +
                                 "/threads:" + std::to_string(threads) + "/" + p.name;
        benchmark::RegisterBenchmark(
            name.c_str(),
            [shape, threads, run = p.run](benchmark::State& state) { time_phase<B, T>(state, shape, threads, run); })
            ->UseRealTime()
            ->MeasureProcessCPUTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
}

template <class B>
void register_backend(const char* name) {
  register_steps<B, float>(name, "float");
  register_steps<B, double>(name, "double");
}

// The whole on one thread, over one size; the others are as in `base`.
template <class Set>
void register_growth(const char* name, step_shape base, Set set, std::int64_t first, std::int64_t last, int factor,
                     benchmark::BigO order) {
  benchmark::RegisterBenchmark(name,
                               [base, set](benchmark::State& state) {
                                 step_shape shape = base;
                                 set(shape, state.range(0));
                                 time_phase<raw_backend, float>(state, shape, 1,
                                                                &estimator_step<raw_backend, float>::whole);
                                 state.SetComplexityN(state.range(0));
                               })
      ->RangeMultiplier(factor)
      ->Range(first, last)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond)
      ->Complexity(order);
}

void register_all() {
  register_backend<raw_backend>("raw");
  register_backend<dro::host_backend>("host");
  register_backend<dro::eigen_backend<Eigen::RowMajor>>("eigen-row-major");
  register_backend<dro::eigen_backend<Eigen::ColMajor>>("eigen-column-major");
#if defined(DRO_BENCH_XTENSOR)
  register_backend<dro::xtensor_backend<xt::layout_type::row_major>>("xtensor-row-major");
  register_backend<dro::xtensor_backend<xt::layout_type::column_major>>("xtensor-column-major");
#endif
  register_growth(
      "growth/queries", {0, 20, 4, 5}, [](step_shape& s, dro::index_t n) { s.queries = n; }, 1 << 10, 1 << 20, 4,
      benchmark::oN);
  register_growth(
      "growth/documents", {512, 0, 16, 5}, [](step_shape& s, dro::index_t n) { s.documents = n; }, 10, 1000, 10,
      benchmark::oN);
  register_growth(
      "growth/samples", {4096, 20, 0, 5}, [](step_shape& s, dro::index_t n) { s.samples = n; }, 2, 64, 2,
      benchmark::oN);
}

// "name": [every element, row by row]
template <class M>
void write_array(std::ostream& out, raw_backend& b, const char* name, const M& m) {
  const auto x = dro::read(b, m);
  out << ",\n\"" << name << "\": [";
  for (dro::index_t i = 0; i < x.rows() * x.cols(); ++i) out << (i > 0 ? "," : "") << x.data()[i];
  out << "]";
}

// A step of 16 queries and everything it finds, in double.
int write_numbers(const char* path) {
  raw_backend b(1);
  const step_shape shape{16, 20, 16, 5};
  estimator_step<raw_backend, double> step(b, shape);
  step.whole();
  std::ofstream out(path);
  out.precision(17);
  out << "{\"shape\": [" << shape.queries << "," << shape.documents << "," << shape.samples << "," << shape.select
      << "]";
  write_array(out, b, "scores", step.scores());
  write_array(out, b, "log_likelihood", step.log_likelihood());
  write_array(out, b, "rankings", step.z().rankings());
  write_array(out, b, "log_prob", step.z().log_proposal());
  write_array(out, b, "weights", step.weights().normalised);
  write_array(out, b, "log_evidence", step.weights().log_evidence);
  write_array(out, b, "bound", step.weights().elbo);
  write_array(out, b, "effective_sample_size", step.weights().effective_sample_size);
  write_array(out, b, "largest_weight", step.weights().largest_weight);
  write_array(out, b, "entropy", step.weights().entropy);
  write_array(out, b, "coefficients", step.coefficients().selector);
  write_array(out, b, "gradient", step.gradient());
  out << "}\n";
  out.close();
  if (!out) std::cerr << "cannot write " << path << "\n";
  return out ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--numbers") == 0) return write_numbers(argv[2]);
  register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
