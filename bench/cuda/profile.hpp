// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BENCH_CUDA_PROFILE_HPP
#define DRO_BENCH_CUDA_PROFILE_HPP

/// \file
/// Where the time of a step goes on a GPU: kernel by kernel, product by product.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/cuda.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>

#include "stopwatch.hpp"

namespace dro_bench {

/// A cuda_backend that, while it is told to, puts an event before and behind all that it queues.
class profiling_backend : public dro::cuda_backend {
 public:
  using dro::cuda_backend::cuda_backend;

  ~profiling_backend() {
    for (const piece& p : pieces_) {
      static_cast<void>(cudaEventDestroy(p.start));
      static_cast<void>(cudaEventDestroy(p.stop));
    }
  }
  profiling_backend(const profiling_backend&) = delete;
  profiling_backend& operator=(const profiling_backend&) = delete;

  template <class Program>
  void run(dro::index_t rows, const Program& program) {
    time(program_name<Program>(), [&] { cuda_backend::run(rows, program); });
  }
  template <class T>
  void matmul(T alpha, dro::matrix_view<const T> a, dro::matrix_view<const T> x, T beta, dro::matrix_view<T> c,
              const dro::matmul_options& options) {
    time(product_name(a, x, beta != T(0), options, ""), [&] { cuda_backend::matmul(alpha, a, x, beta, c, options); });
  }
  void matmul(float alpha, dro::matrix_view<const dro::bfloat16> a, dro::matrix_view<const dro::bfloat16> x, float beta,
              dro::matrix_view<float> c, const dro::matmul_options& options) {
    time(product_name(a, x, beta != 0, options, " of bfloat16"),
         [&] { cuda_backend::matmul(alpha, a, x, beta, c, options); });
  }

  /// Prints what f() queues, dearest first: milliseconds, how often, and what.
  template <class F>
  void profile(F&& f) {
    is_on_ = true;
    std::forward<F>(f)();
    is_on_ = false;
    synchronise();
    std::map<std::string, std::pair<double, int>> by_name;
    double total = 0;
    for (const piece& p : pieces_) {
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, p.start, p.stop), "cudaEventElapsedTime");
      auto& [sum, count] = by_name[p.name];
      sum += static_cast<double>(milliseconds);
      total += static_cast<double>(milliseconds);
      ++count;
    }
    std::vector<std::pair<std::string, std::pair<double, int>>> sorted(by_name.begin(), by_name.end());
    std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    std::printf("%8.3f ms %5zu in all\n", total, pieces_.size());
    for (const auto& [name, cost] : sorted) std::printf("%8.3f ms %5d %s\n", cost.first, cost.second, name.c_str());
  }

 private:
  struct piece {
    std::string name;
    cudaEvent_t start = nullptr, stop = nullptr;
  };

  template <class F>
  void time(std::string name, F&& f) {
    if (!is_on_) return f();
    piece& p = pieces_.emplace_back(piece{std::move(name)});
    check(cudaEventCreate(&p.start), "cudaEventCreate");
    check(cudaEventCreate(&p.stop), "cudaEventCreate");
    check(cudaEventRecord(p.start, stream()), "cudaEventRecord");
    f();
    check(cudaEventRecord(p.stop, stream()), "cudaEventRecord");
  }

  template <class Program>
  static std::string program_name() {
    constexpr std::string_view whole = __PRETTY_FUNCTION__;  // "… [with Program = dro::detail::fill_program<float>; …]"
    const std::size_t from = whole.find("Program = ") + 10;
    return std::string(whole.substr(from, whole.find_first_of(";]", from) - from));
  }

  template <class F>
  static std::string product_name(const dro::matrix_view<const F>& a, const dro::matrix_view<const F>& x, bool adds,
                                  const dro::matmul_options& options, const char* type) {
    const auto shape = [](const dro::matrix_view<const F>& m) {
      return dro::detail::shape_text(m.rows, m.cols) + (m.col_stride == 1 ? "" : " transposed");
    };
    return std::string(adds ? "C + " : "") + shape(a) + " · " + shape(x) +
           (options.batch > 1 ? ", " + std::to_string(options.batch) + " of them" : "") + type;
  }

  bool is_on_ = false;
  std::vector<piece> pieces_;
};

}  // namespace dro_bench

#endif
