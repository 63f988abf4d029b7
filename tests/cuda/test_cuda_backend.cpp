// SPDX-License-Identifier: Apache-2.0
// cuda_backend itself: memory, copies, streams, teams of every size, products, graphs, errors. Compiled without nvcc.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <dro/backend/cuda.hpp>
#include <dro/backend/host.hpp>
#include <dro/em/e_step.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "cuda/devices.hpp"
#include "cuda/team_programs.hpp"
#include "support/check.hpp"
#include "support/matrices.hpp"

namespace {

using dro::cuda_backend;
using dro::host_matrix;
using dro::index_t;
using dro::matrix_view;
using test::device_count;
using test::has_devices;

template <class T>
std::vector<T> values_of(const host_matrix<T>& m) {
  return {m.data(), m.data() + m.rows() * m.cols()};
}

/// 0, 1, 2, … row by row.
template <class T>
host_matrix<T> counted(index_t rows, index_t cols) {
  host_matrix<T> m(rows, cols);
  for (index_t i = 0; i < rows * cols; ++i) m.data()[i] = static_cast<T>(i);
  return m;
}

/// A stream of the test's own, on the current device.
struct own_stream {
  cudaStream_t stream = nullptr;
  own_stream() { REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess); }
  ~own_stream() { cudaStreamDestroy(stream); }
  own_stream(const own_stream&) = delete;
  own_stream& operator=(const own_stream&) = delete;
};

}  // namespace

TEST_CASE_TEMPLATE("what was written is read, in any layout", T, float, double, std::int32_t, std::uint32_t) {
  if (!has_devices(1)) return;
  cuda_backend b;
  SUBCASE("whole") {
    const auto m = counted<T>(37, 21);
    CHECK(values_of(read(b, write(b, m))) == values_of(m));
  }
  SUBCASE("more than a megabyte, which is waited for") {
    auto m = counted<T>(1000, 700);
    const auto before = values_of(m);
    const auto on_device = write(b, m);
    std::fill_n(m.data(), 1000 * 700, T{});
    CHECK(values_of(read(b, on_device)) == before);
  }
  SUBCASE("many small ones in a row, each from memory that changes at once") {
    std::vector<dro::cuda_matrix<T>> all;
    for (int k = 0; k < 20; ++k) {
      auto m = counted<T>(k + 1, 100);
      all.push_back(write(b, m));
      std::fill_n(m.data(), (k + 1) * 100, T{});
    }
    for (int k = 0; k < 20; ++k) {
      CHECK(values_of(read(b, all[static_cast<std::size_t>(k)])) == values_of(counted<T>(k + 1, 100)));
    }
  }
  SUBCASE("a part, transposed, with every second element, backwards") {
    auto m = counted<T>(8, 10);
    auto on_device = write(b, m);
    const auto all = b.view(on_device);
    const matrix_view<T> part{&all.data[2 * 10 + 3], 4, 5, 10, 1};
    const matrix_view<T> column{&all.data[4], 8, 1, 10, 1};
    const matrix_view<T> sparse{all.data, 4, 5, 20, 2};
    const matrix_view<T> backwards{&all.data[79], 8, 10, -10, -1};
    for (const auto& view : {part, dro::transposed(part), column, dro::transposed(column), sparse, backwards}) {
      // Reading.
      const auto found = read(b, view);
      std::vector<T> expected;
      for (index_t i = 0; i < view.rows; ++i) {
        for (index_t j = 0; j < view.cols; ++j) expected.push_back(m.data()[&view(i, j) - all.data]);
      }
      CHECK(values_of(found) == expected);
      // Writing changes these elements and no other.
      auto changed = m;
      std::vector<T> fresh(expected.size());
      for (std::size_t k = 0; k < fresh.size(); ++k) fresh[k] = static_cast<T>(1000 + k);
      for (index_t k = 0; k < view.rows * view.cols; ++k) {
        changed.data()[&view(k / view.cols, k % view.cols) - all.data] = fresh[static_cast<std::size_t>(k)];
      }
      b.write(fresh.data(), view);
      CHECK(values_of(read(b, on_device)) == values_of(changed));
      b.write(m.data(), all);
    }
  }
  SUBCASE("nothing") {
    const auto empty = b.template make<T>(0, 5);
    CHECK(b.view(empty).data == nullptr);
    CHECK(read(b, empty).cols() == 5);
    auto other = b.template make<T>(3, 0);
    b.write(static_cast<const T*>(nullptr), b.view(other));
    dro::fill(b, b.view(other), T{1});
    CHECK_NOTHROW(b.synchronise());
  }
}

TEST_CASE("matrices move and end while work on them is queued") {
  if (!has_devices(1)) return;
  cuda_backend b;
  auto a = write(b, counted<float>(100, 100));
  auto c = std::move(a);
  CHECK(a.rows() == 0);  // NOLINT(bugprone-use-after-move): what is left is stated
  CHECK(a.data() == nullptr);
  auto out = b.make<float>(100, 100);
  {
    const auto gone = write(b, counted<float>(100, 100));
    dro::copy(b, b.view(gone), b.view(out));
  }
  // Takes the memory of what has just gone, in the order of the stream.
  const auto next = dro::make_filled<float>(b, 100, 100, -1);
  CHECK(values_of(read(b, out)) == values_of(counted<float>(100, 100)));
  CHECK(values_of(read(b, c)) == values_of(counted<float>(100, 100)));

  SUBCASE("and outlive the backend") {
    std::optional<cuda_backend> first(std::in_place);
    auto m = write(*first, counted<float>(5, 5));
    first->synchronise();
    first.reset();
    CHECK(values_of(read(b, m)) == values_of(counted<float>(5, 5)));
  }
}

TEST_CASE("memory is counted, kept and reused") {
  if (!has_devices(1)) return;
  cuda_backend b;
  b.synchronise();
  const auto before = b.memory();
  CHECK(before.used == 0);
  constexpr std::uint64_t bytes = std::uint64_t{64} << 20;
  {
    auto m = b.make<float>(1 << 12, 1 << 12);
    CHECK(b.memory().used == bytes);
  }
  b.synchronise();
  CHECK(b.memory().used == 0);
  CHECK(b.memory().peak == bytes);
  CHECK(b.memory().reserved >= bytes);
  b.reset_peak();
  CHECK(b.memory().peak == 0);
}

TEST_CASE("shapes and sizes that cannot be had") {
  if (!has_devices(1)) return;
  cuda_backend b;
  CHECK_THROWS_AS(static_cast<void>(b.make<float>(-1, 2)), dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(b.make<double>(std::numeric_limits<index_t>::max() / 4, 2)), dro::shape_error);
  const index_t tera = index_t{1} << 40;
  try {
    static_cast<void>(b.make<float>(tera, 4));
    FAIL("16 TiB were found");
  } catch (const dro::device_memory_error& e) {
    CHECK(e.bytes_asked() == static_cast<std::size_t>(tera) * 16);
    CHECK(e.bytes_free() > 0);
    CHECK(e.bytes_free() < e.bytes_asked());
    CHECK(std::string(e.what()).find("cudaMallocFromPoolAsync") != std::string::npos);
  }
  // The backend goes on.
  CHECK(values_of(read(b, write(b, counted<float>(3, 3)))) == values_of(counted<float>(3, 3)));
}

TEST_CASE("a device number that is not there") {
  if (!has_devices(1)) return;
  const std::string last = std::to_string(device_count() - 1);
  CHECK_THROWS_WITH_AS(cuda_backend(dro::cuda_options{.device = 1000}),
                       ("cuda_options: device is 1000, expected 0 to " + last).c_str(), dro::option_error);
  CHECK_THROWS_AS(cuda_backend(dro::cuda_options{.device = -1}), dro::option_error);
}

TEST_CASE("two backends on two streams") {
  if (!has_devices(1)) return;
  cuda_backend a, c;
  CHECK(a.stream() != c.stream());
  auto x = dro::make_filled<float>(a, 1000, 100, 1);
  auto y = dro::make_filled<float>(c, 1000, 100, 2);
  CHECK(read(a, x)(999, 99) == 1);
  CHECK(read(c, y)(999, 99) == 2);
}

TEST_CASE("a stream and a cuBLAS handle of the caller's") {
  if (!has_devices(1)) return;
  const own_stream mine, other;
  cublasHandle_t handle = nullptr;
  REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasSetStream(handle, other.stream) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE) == CUBLAS_STATUS_SUCCESS);
  {
    cuda_backend b(dro::cuda_options{.stream = mine.stream, .blas = handle});
    CHECK(b.stream() == mine.stream);
    auto a = write(b, host_matrix<float>(2, 2, {1, 2, 3, 4}));
    auto c = b.make<float>(2, 2);
    dro::matmul(b, 1, a, a, 0, b.view(c));
    CHECK(values_of(read(b, c)) == std::vector<float>{7, 10, 15, 22});
  }
  // Both as they were, and still there.
  cudaStream_t stream = nullptr;
  cublasPointerMode_t mode = CUBLAS_POINTER_MODE_HOST;
  CHECK(cublasGetStream(handle, &stream) == CUBLAS_STATUS_SUCCESS);
  CHECK(stream == other.stream);
  CHECK(cublasGetPointerMode(handle, &mode) == CUBLAS_STATUS_SUCCESS);
  CHECK(mode == CUBLAS_POINTER_MODE_DEVICE);
  CHECK(cudaStreamSynchronize(mine.stream) == cudaSuccess);
  CHECK(cublasDestroy(handle) == CUBLAS_STATUS_SUCCESS);

  SUBCASE("CUDA's default stream") {
    cuda_backend b(dro::cuda_options{.stream = cudaStreamLegacy});
    CHECK(values_of(read(b, write(b, counted<float>(3, 3)))) == values_of(counted<float>(3, 3)));
    CHECK_THROWS_AS(static_cast<void>(dro::capture(b, [] {})), dro::device_capture_error);
    CHECK(values_of(read(b, write(b, counted<float>(3, 3)))) == values_of(counted<float>(3, 3)));
  }
}

TEST_CASE("two devices in one program") {
  if (!has_devices(2)) return;
  int before = -1;
  REQUIRE(cudaGetDevice(&before) == cudaSuccess);
  cuda_backend a(dro::cuda_options{.device = 0}), c(dro::cuda_options{.device = 1});
  auto x = write(a, counted<double>(50, 50));
  auto y = write(c, counted<double>(50, 50));
  auto xx = a.make<double>(50, 50), yy = c.make<double>(50, 50);
  dro::matmul(a, 1, x, x, 0, a.view(xx));
  dro::matmul(c, 1, y, y, 0, c.view(yy));
  CHECK(values_of(read(a, xx)) == values_of(read(c, yy)));
  auto step = dro::capture(c, [&] { dro::fill(c, c.view(yy), 3); });
  step.launch();
  CHECK(read(c, yy)(49, 49) == 3);
  int after = -1;
  REQUIRE(cudaGetDevice(&after) == cudaSuccess);
  CHECK(after == before);
}

namespace {

/// Row widths around every size of a team, and some columns of each.
const std::vector<index_t> team_widths{1, 2, 4, 8, 16, 32, 256, 512, 1024};
const std::vector<index_t> item_counts{0,  1,   2,   3,   5,   7,   8,   9,   31,   32,   33,   63,  64,
                                       65, 100, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 1100};

}  // namespace

TEST_CASE("each item goes to one thread, on teams of every size") {
  if (!has_devices(1)) return;
  cuda_backend b;
  for (const index_t width : team_widths) {
    for (const index_t n : item_counts) {
      CAPTURE(width);
      CAPTURE(n);
      auto visits = dro::make_filled<std::int32_t>(b, 7, n, 0);
      auto sizes = dro::make_filled<std::int32_t>(b, 7, 1, 0);
      b.run(7, dro::testing::team_visits_program{b.view(visits), b.view(sizes), width});
      CHECK(values_of(read(b, visits)) == std::vector<std::int32_t>(static_cast<std::size_t>(7 * n), 1));
      CHECK(values_of(read(b, sizes)) == std::vector<std::int32_t>(7, static_cast<std::int32_t>(width)));
    }
  }
}

TEST_CASE_TEMPLATE("teams of every size add and compare as one thread does", T, float, double) {
  if (!has_devices(1)) return;
  cuda_backend b;
  dro::host_backend host(1);
  for (const index_t n : item_counts) {
    // Integers up to 63: all sums are exact in any order, and values repeat.
    auto values = test::random_matrix<T>(5, n, 0, 64, 11 + static_cast<std::uint64_t>(n));
    for (T& v : test::elements(values)) v = std::floor(v);
    for (index_t i = 0; i < n; ++i) {
      if (i % 3 == 0) values(2, i) = test::nan<T>;
      values(3, i) = i % 2 == 0 ? test::nan<T> : -test::infinity<T>;
      if (i % 7 == 4) values(4, i) = test::infinity<T>;
    }
    const auto on_device = write(b, values);
    for (const index_t width : team_widths) {
      CAPTURE(n);
      CAPTURE(width);
      const auto compare = [&](auto& backend, const auto& m) {
        auto sums = backend.template make<T>(2, 2);
        auto scans = backend.template make<T>(2, n);
        auto largest = backend.template make<T>(5, 2);
        auto places = backend.template make<std::int32_t>(5, 2);
        const auto view = backend.view(m);
        backend.run(2, dro::testing::team_sum_program<T>{view, backend.view(sums), width});
        backend.run(2, dro::testing::team_scan_program<T>{view, backend.view(scans), width});
        backend.run(
            5, dro::testing::team_largest_program<T>{view, T(5), backend.view(largest), backend.view(places), width});
        return std::pair(std::pair(values_of(read(backend, sums)), values_of(read(backend, scans))),
                         std::pair(values_of(read(backend, largest)), values_of(read(backend, places))));
      };
      const auto found = compare(b, on_device), expected = compare(host, std::as_const(values));
      CHECK(found.first.first == expected.first.first);
      CHECK(found.first.second == expected.first.second);
      CHECK(found.second.first == expected.second.first);
      CHECK(found.second.second == expected.second.second);
    }
  }
}

TEST_CASE_TEMPLATE("sums of teams are within their bound, and the same from run to run", T, float, double) {
  if (!has_devices(1)) return;
  cuda_backend b;
  constexpr index_t n = 1100;
  const auto values = test::random_matrix<T>(3, n, -1, 1, 5);
  const auto on_device = write(b, values);
  for (const index_t width : team_widths) {
    CAPTURE(width);
    const auto sums_on_device = [&] {
      auto sums = b.template make<T>(3, 2);
      b.run(3, dro::testing::team_sum_program<T>{b.view(on_device), b.view(sums), width});
      return read(b, sums);
    };
    const auto sums = sums_on_device();
    for (int repeat = 0; repeat < 20; ++repeat) CHECK(values_of(sums_on_device()) == values_of(sums));
    for (index_t row = 0; row < 3; ++row) {
      test::real exact = 0, magnitude = 0;
      for (index_t i = 0; i < n; ++i) {
        exact += static_cast<test::real>(values(row, i));
        magnitude += std::abs(static_cast<test::real>(values(row, i)));
      }
      // A thread adds n/size numbers, then log2(size) partial sums: as many roundings on the way of each number.
      const test::real roundings = std::ceil(test::real(n) / test::real(width)) + std::log2(test::real(width));
      CHECK(test::near(sums(row, 0), exact, roundings * 2 * test::unit_roundoff<T> * magnitude));
      CHECK(sums(row, 1) == sums(row, 0));
    }
  }
}

TEST_CASE("scratch memory, from none to more than a multiprocessor has") {
  if (!has_devices(1)) return;
  cuda_backend b;
  for (const index_t width : team_widths) {
    for (const index_t n : {1, 100, 1000, 12'000, 40'000, 56'000, 60'000, 200'000}) {
      for (const index_t rows : {1, 50, 700}) {
        if (rows * n > 20'000'000) continue;
        CAPTURE(width);
        CAPTURE(n);
        CAPTURE(rows);
        const auto values = write(b, counted<std::int32_t>(rows, n));
        auto reversed = dro::make_filled<std::int32_t>(b, rows, n, -1);
        b.run(rows, dro::testing::team_reverse_program{b.view(values), b.view(reversed), width});
        const auto found = read(b, reversed);
        index_t wrong = 0;
        for (index_t i = 0; i < rows; ++i) {
          for (index_t j = 0; j < n; ++j) wrong += found(i, j) != static_cast<std::int32_t>(i * n + n - 1 - j);
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("many rows on few threads each") {
  if (!has_devices(1)) return;
  cuda_backend b;
  constexpr index_t rows = 1'000'000;
  for (const index_t width : {1, 3, 5, 20}) {
    CAPTURE(width);
    const auto values = dro::make_filled<float>(b, rows, width, 1);
    auto sums = dro::make_filled<float>(b, rows, 2, 0);
    b.run(rows, dro::testing::team_sum_program<float>{b.view(values), b.view(sums), width});
    const auto found = read(b, sums);
    CHECK(std::all_of(found.data(), found.data() + 2 * rows,
                      [&](float sum) { return sum == static_cast<float>(width); }));
  }
}

namespace {

/// Largest |found − expected| and the largest (|α| |A| |X| + |β C|), over all elements.
struct product_error {
  test::real error = 0, scale = 0;
};

struct layout {
  bool transposed;
  index_t padding;
};

/// The nearest bfloat16.
test::real nearest_bfloat16(test::real value) {
  return static_cast<test::real>(dro::math::to_float(dro::math::to_bfloat16(static_cast<float>(value))));
}

/// With `of_rounded` the product that is expected is that of the nearest bfloat16 numbers.
template <class T>
product_error product(cuda_backend& b, index_t m, index_t k, index_t n, const std::array<layout, 3>& layouts,
                      index_t batch, T alpha, T beta, dro::matmul_precision precision, bool of_rounded = false) {
  // Operand as the matrix it stands for, batch after batch, in memory as `how` says.
  struct operand {
    dro::cuda_matrix<T> memory;
    matrix_view<T> first;
    index_t stride;
    std::vector<test::real> values;
  };
  const auto make = [&](index_t rows, index_t cols, const layout& how, std::uint64_t seed) {
    const index_t outer = how.transposed ? cols : rows, inner = how.transposed ? rows : cols;
    const index_t leading = inner + how.padding;
    auto numbers = test::random_matrix<T>(batch * outer, leading, -1, 1, seed);
    // All significant bits, so that a factor that is rounded shows.
    for (index_t i = 0; i < batch * outer * leading; ++i) numbers.data()[i] *= T(0.73105857863000488);
    operand o{write(b, numbers), {}, outer * leading, {}};
    o.first = how.transposed ? matrix_view<T>{o.memory.data(), rows, cols, 1, leading}
                             : matrix_view<T>{o.memory.data(), rows, cols, leading, 1};
    for (index_t p = 0; p < batch; ++p) {
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < cols; ++j) {
          const auto view = dro::row_major_view(numbers.data() + p * o.stride, outer, leading);
          o.values.push_back(how.transposed ? view(j, i) : view(i, j));
        }
      }
    }
    return o;
  };
  operand a = make(m, k, layouts[0], 1), x = make(k, n, layouts[1], 2);
  if (of_rounded) {
    for (auto* o : {&a, &x}) std::transform(o->values.begin(), o->values.end(), o->values.begin(), nearest_bfloat16);
  }
  operand c = make(m, n, layouts[2], 3);
  if (beta == T(0)) dro::fill(b, b.view(c.memory), test::nan<T>);
  dro::matmul(
      b, alpha, a.first, x.first, beta, c.first,
      {.batch = batch, .stride_a = a.stride, .stride_b = x.stride, .stride_c = c.stride, .precision = precision});
  product_error e;
  for (index_t p = 0; p < batch; ++p) {
    matrix_view<T> part = c.first;
    part.data += p * c.stride;
    const auto found = read(b, part);
    for (index_t i = 0; i < m; ++i) {
      for (index_t j = 0; j < n; ++j) {
        const test::real old = c.values[static_cast<std::size_t>((p * m + i) * n + j)];
        test::real sum = 0, magnitude = 0;
        for (index_t l = 0; l < k; ++l) {
          const test::real term = a.values[static_cast<std::size_t>((p * m + i) * k + l)] *
                                  x.values[static_cast<std::size_t>((p * k + l) * n + j)];
          sum += term;
          magnitude += std::abs(term);
        }
        const test::real expected = test::real(alpha) * sum + (beta == T(0) ? 0 : test::real(beta) * old);
        const test::real difference = std::abs(test::real(found(i, j)) - expected);
        e.error = difference == difference ? std::max(e.error, difference) : test::infinity<test::real>;
        e.scale = std::max(e.scale, std::abs(test::real(alpha)) * magnitude + std::abs(test::real(beta) * old));
      }
    }
  }
  return e;
}

}  // namespace

TEST_CASE_TEMPLATE("products by cuBLAS", T, float, double) {
  if (!has_devices(1)) return;
  cuda_backend b;
  using precision = dro::matmul_precision;
  struct shape {
    index_t m, k, n;
  };
  for (const shape& s : {shape{1, 1, 1}, {5, 1, 3}, {1, 70, 1}, {1, 9, 40}, {40, 9, 1}, {33, 65, 17}, {128, 64, 96}}) {
    for (int layouts = 0; layouts < 8; ++layouts) {
      for (const index_t padding : {0, 3}) {
        for (const index_t batch : {1, 3}) {
          for (const T beta : {T(0), T(-0.5)}) {
            CAPTURE(s.m);
            CAPTURE(s.k);
            CAPTURE(s.n);
            CAPTURE(layouts);
            CAPTURE(padding);
            const std::array<layout, 3> how{layout{(layouts & 1) != 0, padding}, layout{(layouts & 2) != 0, padding},
                                            layout{(layouts & 4) != 0, padding}};
            const auto e = product<T>(b, s.m, s.k, s.n, how, batch, T(1.5), beta, precision::full);
            // The bound of dro::matmul: k products and sums, and two scalings.
            CHECK(e.error <= test::real(s.k + 2) * 2 * test::unit_roundoff<T> * e.scale);
          }
        }
      }
    }
  }
}

TEST_CASE("products in tf32 and bf16 are as exact as these are") {
  if (!has_devices(1)) return;
  cuda_backend b;
  using precision = dro::matmul_precision;
  constexpr index_t size = cuda_backend::rounding_pays;
  constexpr index_t depth = 256;
  const std::array<layout, 3> rows{layout{false, 0}, layout{false, 0}, layout{false, 0}};
  const auto error = [&](precision p, bool of_rounded = false) {
    return product<float>(b, size, depth, size, rows, 1, 1.0F, 0.0F, p, of_rounded);
  };
  // The factors in tf32 are off by up to 2^-11 of themselves (rounded) or 2^-10 (cut off), in bf16 by 2^-8; a product
  // by twice that; sums add the error of float.
  const auto sums = [](index_t k) { return static_cast<test::real>(k + 2) * 2 * test::unit_roundoff<float>; };
  const auto full = error(precision::full);
  const auto tf32 = error(precision::tf32);
  const auto bf16 = error(precision::bf16);
  CHECK(full.error <= sums(depth) * full.scale);
  CHECK(tf32.error <= (2 * std::ldexp(test::real(1), -10) + sums(depth)) * tf32.scale);
  CHECK(bf16.error <= (2.01L * std::ldexp(test::real(1), -8) + sums(depth)) * bf16.scale);
  // The option arrives: rounding to 11 bits makes errors of the order of 2^-11 √256 / 3. Products of bf16 are exact, so
  // that what is found is, but for the sums, the product of rounded factors, and off what tf32 would find.
  CHECK(tf32.error > 4 * full.error);
  CHECK(bf16.error > tf32.error);
  const auto of_rounded = error(precision::bf16, true);
  CHECK(of_rounded.error <= sums(depth) * of_rounded.scale);
  for (int layouts = 0; layouts < 8; ++layouts) {
    for (const index_t padding : {0, 3}) {
      CAPTURE(layouts);
      CAPTURE(padding);
      const std::array<layout, 3> how{layout{(layouts & 1) != 0, padding}, layout{(layouts & 2) != 0, padding},
                                      layout{(layouts & 4) != 0, padding}};
      const auto e = product<float>(b, size, 17, size + 5, how, 1, 1.5F, -0.5F, precision::bf16, true);
      CHECK(e.error <= sums(17) * e.scale);
    }
  }
  // Where rounding does not pay, and for batches, tf32 takes its place.
  for (const index_t batch : {1, 2}) {
    const auto e = product<float>(b, size, 64, batch == 1 ? size - 1 : size, rows, batch, 1.0F, 0.0F, precision::bf16);
    CHECK(e.error <= (2 * std::ldexp(test::real(1), -10) + sums(64)) * e.scale);
  }
  // Full precision is full even where the handle allows less.
  cublasHandle_t handle = nullptr;
  REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasSetMathMode(handle, CUBLAS_TF32_TENSOR_OP_MATH) == CUBLAS_STATUS_SUCCESS);
  {
    cuda_backend own(dro::cuda_options{.blas = handle});
    const auto e = product<float>(own, 256, 512, 256, rows, 1, 1.0F, 0.0F, precision::full);
    CHECK(e.error <= sums(512) * e.scale);
    own.synchronise();
  }
  CHECK(cublasDestroy(handle) == CUBLAS_STATUS_SUCCESS);
}

TEST_CASE("a GPU rounds to bfloat16 as the host does") {
  if (!has_devices(1)) return;
  cuda_backend b;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  host_matrix<float> values(300, 40);
  test::numbers next(4);
  for (index_t i = 0; i < 300 * 40; ++i) {
    values.data()[i] = std::ldexp(static_cast<float>(next.between(-1, 1)), static_cast<int>(i % 250) - 130);
  }
  const float special[] = {0.0F,
                           -0.0F,
                           1.0F,
                           1 + 0x1p-8F,
                           1 + 3 * 0x1p-8F,
                           0x1.FFp0F,
                           0x1p-149F,
                           infinity,
                           -infinity,
                           test::nan<float>,
                           0x1p-134F,
                           3 * 0x1p-134F,
                           std::numeric_limits<float>::max()};
  std::copy(std::begin(special), std::end(special), values.data());
  const auto there = write(b, values);
  auto rounded = b.make<dro::bfloat16>(300, 40);
  dro::copy_rounded(b, std::as_const(b).view(there), b.view(rounded));
  const auto found = read(b, rounded);
  for (index_t i = 0; i < 300 * 40; ++i) {
    const float expected = dro::math::to_float(dro::math::to_bfloat16(values.data()[i]));
    const auto value = dro::math::to_float(found.data()[i]);
    CAPTURE(values.data()[i]);
    CHECK((std::isnan(expected) ? std::isnan(value)
                                : value == expected && std::signbit(value) == std::signbit(expected)));
  }
}

TEST_CASE("products of nothing, by nothing, and of views cuBLAS cannot take") {
  if (!has_devices(1)) return;
  cuda_backend b;
  const auto nan = test::nan<float>;
  auto c = write(b, host_matrix<float>(2, 2, {1, 2, 3, 4}));
  const auto unknown = write(b, host_matrix<float>(2, 2, {nan, nan, nan, nan}));
  const auto empty = b.make<float>(2, 0), also_empty = b.make<float>(0, 2);
  dro::matmul(b, 1, empty, also_empty, 2, b.view(c));
  CHECK(values_of(read(b, c)) == std::vector<float>{2, 4, 6, 8});
  dro::matmul(b, 0, unknown, unknown, 0.5, b.view(c));
  CHECK(values_of(read(b, c)) == std::vector<float>{1, 2, 3, 4});
  auto batch = write(b, host_matrix<float>(4, 2, {nan, nan, nan, nan, nan, nan, nan, nan}));
  dro::matmul(b, 1, empty, also_empty, 0, matrix_view<float>{batch.data(), 2, 2, 2, 1}, {.batch = 2, .stride_c = 4});
  CHECK(values_of(read(b, batch)) == std::vector<float>(8, 0));
  const auto wide = b.make<float>(4, 4);
  const matrix_view<const float> sparse{wide.data(), 2, 2, 8, 2};
  CHECK_THROWS_AS(dro::matmul(b, 1, sparse, c, 0, b.view(batch)), dro::shape_error);
  CHECK_THROWS_WITH_AS(dro::matmul(b, 1, sparse, std::as_const(c), 0, b.view(c)),
                       "matmul: A [2 × 2] has strides 8 and 2, cuBLAS takes rows or columns that lie in one piece",
                       dro::shape_error);
}

namespace {

/// A step that draws anew each time: rankings, weights and coefficients, from random numbers to the last result.
struct training_step {
  cuda_backend& b;
  dro::random_state<cuda_backend> random;
  dro::cuda_matrix<float> scores, likelihood, gradient;
  std::optional<dro::draws<cuda_backend, float>> z;
  std::optional<dro::gradient_coefficients<cuda_backend, float>> c;

  explicit training_step(cuda_backend& backend)
      : b(backend),
        random(backend, 42),
        scores(write(backend, test::random_matrix<float>(64, 20, -2, 2, 1))),
        likelihood(write(backend, test::random_matrix<float>(64 * 16, 1, -5, 0, 2))),
        gradient(dro::make_filled<float>(backend, 64, 20, 0)) {}

  void operator()() {
    z.emplace(dro::draw_plackett_luce(b, scores, random.source(b), {16, 5}));
    random.advance(b);
    const auto scored = dro::on_policy(b, likelihood, *z);
    const auto weights = dro::importance_weights(b, scored);
    c.emplace(dro::coefficients(b, dro::expected_log_likelihood<>{}, scored, weights));
    dro::accumulate_plackett_luce_gradient(b, scores, b.view(std::as_const(*z).rankings()), z->groups(), c->selector,
                                           b.view(gradient));
  }

  auto results() {
    return std::pair(values_of(read(b, std::as_const(*z).rankings())),
                     std::pair(values_of(read(b, c->selector)), values_of(read(b, gradient))));
  }
};

}  // namespace

TEST_CASE("a captured step, launched again, is the step that would have come next") {
  if (!has_devices(1)) return;
  cuda_backend b;
  training_step plain(b), captured(b);
  plain();
  captured();
  const auto first = plain.results();
  CHECK(captured.results() == first);

  auto graph = dro::capture(b, [&] { captured(); });
  for (int step = 0; step < 3; ++step) {
    plain();
    graph.launch();
    const auto expected = plain.results();
    CHECK(captured.results() == expected);
    CHECK(expected.first != first.first);
  }
  SUBCASE("and neither other work nor a move of the graph disturbs it") {
    std::vector<dro::cuda_matrix<float>> other;
    for (int k = 0; k < 50; ++k) other.push_back(dro::make_filled<float>(b, 64, 20, test::nan<float>));
    auto moved = std::move(graph);
    plain();
    moved.launch();
    CHECK(captured.results() == plain.results());
  }
  SUBCASE("and its results outlive it") {
    { const auto gone = std::move(graph); }
    const auto spoiled = dro::make_filled<float>(b, 64 * 16, 16, test::nan<float>);
    CHECK(captured.results() == plain.results());
  }
}

TEST_CASE("what a capture must not do") {
  if (!has_devices(1)) return;
  cuda_backend b;
  auto m = write(b, counted<float>(4, 4));
  host_matrix<float> host(4, 4);
  const auto capture = [&](auto f) { static_cast<void>(dro::capture(b, f)); };
  CHECK_THROWS_WITH_AS(capture([&] { b.read(b.view(std::as_const(m)), host.data()); }),
                       "cuda_backend::read: a read waits, which a graph cannot", dro::device_capture_error);
  CHECK_THROWS_AS(capture([&] { b.write(host.data(), b.view(m)); }), dro::device_capture_error);
  CHECK_THROWS_AS(capture([&] { b.synchronise(); }), dro::device_capture_error);
  CHECK_THROWS_AS(capture([&] { capture([] {}); }), dro::device_capture_error);
  CHECK_THROWS_AS(capture([] { throw dro::option_error("mine"); }), dro::option_error);
  // After each the backend is as it was, and nothing that was captured has run.
  CHECK_THROWS(capture([&] {
    dro::fill(b, b.view(m), -1);
    throw dro::option_error("mine");
  }));
  CHECK(values_of(read(b, m)) == values_of(counted<float>(4, 4)));
}

TEST_CASE("a graph keeps the memory it works in") {
  if (!has_devices(1)) return;
  cuda_backend b;
  auto out = dro::make_filled<float>(b, 100, 100, 0);
  auto source = std::make_optional(dro::make_filled<float>(b, 100, 100, 7));
  auto graph = dro::capture(b, [&] {
    auto between = b.make<float>(100, 100);
    dro::copy(b, b.view(std::as_const(*source)), b.view(between));
    source.reset();  // used by every launch, though nobody owns it any more
    auto more = b.make<float>(100, 100);
    dro::fill(b, b.view(more), -1);  // must not be the source's memory
    dro::copy(b, b.view(std::as_const(between)), b.view(out));
  });
  for (int launch = 0; launch < 3; ++launch) {
    dro::fill(b, b.view(out), 0);
    const auto elsewhere = dro::make_filled<float>(b, 100, 100, -2);
    graph.launch();
    CHECK(values_of(read(b, out)) == std::vector<float>(10'000, 7));
  }
  const auto with_graph = b.memory().used;
  { const auto gone = std::move(graph); }
  b.synchronise();
  CHECK(b.memory().used + 3 * 40'000 <= with_graph);  // source, between and more are given back
}

// The last case, since it costs the process its device: run it as --test-case="a kernel that fails".
TEST_CASE("a kernel that fails is named where it is seen" * doctest::skip(true)) {
  if (!has_devices(1)) return;
  cuda_backend b;
  auto m = dro::make_filled<float>(b, 4, 4, 0);
  b.synchronise();
  b.run(4, dro::testing::out_of_bounds_program{{nullptr, 4, 4, 4, 1}});
  try {
    b.synchronise();
    FAIL("nothing was said");
  } catch (const dro::device_error& e) {
    const std::string what = e.what();
    CAPTURE(what);
    CHECK(what.find("cudaStreamSynchronize") != std::string::npos);
    CHECK(what.find("cudaErrorIllegalAddress") != std::string::npos);
    CHECK(what.find("then dro::testing::out_of_bounds_program)") != std::string::npos);
  }
  CHECK_THROWS_AS(static_cast<void>(read(b, m)), dro::device_error);  // and again: the device is lost
}
