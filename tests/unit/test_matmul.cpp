// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <doctest/doctest.h>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/testing.hpp>
#include <dro/math/float16.hpp>

#include "support/backends.hpp"
#include "support/matrices.hpp"
#include "support/rounding_backend.hpp"

namespace {

using dro::index_t;
using dro::matrix_view;
using test::real;

static_assert(dro::multiplies<dro::host_backend> && dro::multiplies<dro::eigen_backend<>>);
static_assert(dro::multiplies<dro::eigen_backend<Eigen::RowMajor>> && dro::multiplies<dro::deferred_backend>);
static_assert(dro::multiplies<dro::counting_backend<dro::host_backend>>);
static_assert(!dro::multiplies_bfloat16<dro::host_backend> && !dro::multiplies_bfloat16<dro::eigen_backend<>>);
static_assert(!dro::multiplies_bfloat16<dro::deferred_backend>);
using rounding_backend = test::rounding_backend<dro::host_backend>;
static_assert(dro::multiplies_bfloat16<rounding_backend>);

enum class storage { rows, columns, padded_rows, scattered, backwards };
constexpr storage all_storages[] = {storage::rows, storage::columns, storage::padded_rows, storage::scattered,
                                    storage::backwards};

/// Some matrices of one shape in one piece of memory, with NaN between their elements.
template <class T>
class stored {
 public:
  stored(storage how, index_t rows, index_t cols, std::uint64_t seed, index_t count = 1) {
    first_ = {nullptr, rows, cols, cols, 1};
    if (how == storage::columns) first_ = {nullptr, rows, cols, 1, rows};
    if (how == storage::padded_rows) first_ = {nullptr, rows, cols, cols + 3, 1};
    if (how == storage::scattered) first_ = {nullptr, rows, cols, 3, 3 * rows + 2};
    if (how == storage::backwards) first_ = {nullptr, rows, cols, -cols, 1};
    const index_t extent = (rows + 2) * (cols + 3) * 3;
    stride_ = extent;
    memory_.assign(static_cast<std::size_t>(extent * count), test::nan<T>);
    if (how == storage::backwards) offset_ = rows * cols;
    test::numbers next(seed);
    for (index_t p = 0; p < count; ++p) {
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < cols; ++j) view(p)(i, j) = static_cast<T>(next.between(-1, 1));
      }
    }
  }

  matrix_view<T> view(index_t product = 0) {
    matrix_view<T> v = first_;
    v.data = memory_.data() + offset_ + product * stride_;
    return v;
  }
  [[nodiscard]] index_t stride() const { return stride_; }
  [[nodiscard]] std::ptrdiff_t holes() const {
    return std::count_if(memory_.begin(), memory_.end(), [](T v) { return std::isnan(v); });
  }

 private:
  std::vector<T> memory_;
  matrix_view<T> first_;
  index_t stride_ = 0;
  index_t offset_ = 0;
};

template <class T>
dro::host_matrix<T> copy_of(matrix_view<T> view) {
  dro::host_matrix<T> copy(view.rows, view.cols);
  dro::host_backend(1).read(matrix_view<const T>(view), copy.data());
  return copy;
}

/// α A X + β C within what dro::matmul states: a sum of k products in any order is off by at most k u Σ|a||x|, with
/// u = ε/2, and α, β and the last addition round once each: (k + 3) u, which is below (k + 2) ε.
template <class T>
void check_product(T alpha, matrix_view<T> a, matrix_view<T> x, T beta, const dro::host_matrix<T>& before,
                   matrix_view<T> c) {
  for (index_t i = 0; i < c.rows; ++i) {
    for (index_t j = 0; j < c.cols; ++j) {
      real sum = 0;
      real size = 0;
      for (index_t p = 0; alpha != 0 && p < a.cols; ++p) {
        sum += static_cast<real>(alpha) * static_cast<real>(a(i, p)) * static_cast<real>(x(p, j));
        size += std::abs(static_cast<real>(alpha) * static_cast<real>(a(i, p)) * static_cast<real>(x(p, j)));
      }
      const real kept = beta == 0 ? real(0) : static_cast<real>(beta) * static_cast<real>(before(i, j));
      const real bound = (static_cast<real>(a.cols) + 2) * std::numeric_limits<T>::epsilon();
      DRO_CHECK_NEAR(c(i, j), sum + kept, bound * (size + std::abs(kept)));
    }
  }
}

template <class T>
void fill_with_nan(matrix_view<T> view) {
  dro::host_backend b(1);
  dro::fill(b, view, test::nan<T>);
}

struct shape {
  index_t m, k, n;
};

}  // namespace

TEST_CASE_TEMPLATE("a product is right for every layout of its operands", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const T factors[][2] = {{1, 0}, {T(2.5), T(0.5)}, {-1, 1}, {0, 2}, {0, 0}, {T(0.75), 0}, {1, 1}};
  std::size_t round = 0;
  for (const auto& [m, k, n] :
       {shape{1, 1, 1}, {3, 7, 5}, {17, 20, 33}, {40, 9, 1}, {1, 9, 40}, {6, 0, 5}, {2, 3, 0}}) {
    for (const storage of_a : all_storages) {
      for (const storage of_x : all_storages) {
        for (const storage of_c : all_storages) {
          stored<T> a(of_a, m, k, 2 * round);
          stored<T> x(of_x, k, n, 2 * round + 1);
          stored<T> c(of_c, m, n, 7);
          const auto [alpha, beta] = factors[round++ % std::size(factors)];
          const auto before = copy_of(c.view());
          const auto holes = c.holes();
          if (alpha == 0) fill_with_nan(a.view());
          if (beta == 0) fill_with_nan(c.view());
          dro::matmul(b, alpha, a.view(), x.view(), beta, c.view());
          b.synchronise();
          check_product(alpha, a.view(), x.view(), beta, before, c.view());
          CHECK(c.holes() == holes);  // nothing beside C was written
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("matrices of the backend, transposed and not", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto a = test::matrix<T>(2, 3, std::vector<int>{1, 2, 3, 4, 5, 6});
  const auto on_backend = dro::write(b, a);
  auto square = dro::make_filled<T>(b, 2, 2, T(1));
  dro::matmul(b, 1, on_backend, dro::transposed(b.view(on_backend)), 1, b.view(square));
  CHECK(test::same(dro::read(b, square), test::matrix<T>(2, 2, std::vector<int>{15, 33, 33, 78})));
  auto gram = b.template make<T>(3, 3);
  dro::matmul(b, 2, dro::transposed(b.view(on_backend)), on_backend, 0, b.view(gram));
  CHECK(test::same(dro::read(b, gram), test::matrix<T>(3, 3, std::vector<int>{34, 44, 54, 44, 58, 72, 54, 72, 90})));
}

TEST_CASE_TEMPLATE("a batch, with operands of its own or shared", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  constexpr index_t batch = 3;
  for (const bool share_a : {false, true}) {
    for (const bool share_x : {false, true}) {
      for (const storage how : {storage::rows, storage::columns, storage::scattered}) {
        for (const auto& [m, k, n] : {shape{4, 6, 19}, {19, 6, 4}}) {
          stored<T> a(how, m, k, 11, batch);
          stored<T> x(storage::rows, k, n, 12, batch);
          stored<T> c(how, m, n, 13, batch);
          const auto before = copy_of(c.view());
          dro::matmul(b, T(1.5), a.view(), x.view(), 0, c.view(),
                      {.batch = batch,
                       .stride_a = share_a ? 0 : a.stride(),
                       .stride_b = share_x ? 0 : x.stride(),
                       .stride_c = c.stride()});
          b.synchronise();
          for (index_t p = 0; p < batch; ++p) {
            check_product<T>(T(1.5), a.view(share_a ? 0 : p), x.view(share_x ? 0 : p), 0, before, c.view(p));
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("a product does not depend on the threads", T, float, double) {
  for (const auto& [m, k, n] : {shape{70, 40, 90}, {90, 40, 70}, {300, 11, 3}}) {
    stored<T> a(storage::rows, m, k, 21);
    stored<T> x(storage::columns, k, n, 22);
    stored<T> one(storage::rows, m, n, 23);
    stored<T> four(storage::rows, m, n, 23);
    dro::host_backend alone(1), together(4);
    dro::matmul(alone, 1, a.view(), x.view(), 1, one.view());
    dro::matmul(together, 1, a.view(), x.view(), 1, four.view());
    CHECK(test::same(copy_of(one.view()), copy_of(four.view())));
  }
}

TEST_CASE("the deferred backend multiplies when it is asked") {
  dro::deferred_backend b;
  auto a = dro::make_filled<double>(b, 2, 2, 3.0);
  auto c = b.make<double>(2, 2);
  dro::matmul(b, 1, a, a, 0, b.view(c));
  CHECK(std::isnan(b.view(c)(0, 0)));
  CHECK(b.reads() == 0);
  CHECK(dro::read(b, c)(1, 0) == 18);
}

TEST_CASE("products of the wrong shape, and batches on top of each other, are refused") {
  dro::host_backend b(1);
  dro::host_matrix<float> a(2, 3), x(4, 5), right(3, 5), c(2, 4);
  CHECK_THROWS_WITH_AS(dro::matmul(b, 1, a, x, 0, b.view(c)), "matmul: X is [4 × 5], expected [3 × 5]",
                       dro::shape_error);
  CHECK_THROWS_WITH_AS(dro::matmul(b, 1, a, right, 0, b.view(c)), "matmul: C is [2 × 4], expected [2 × 5]",
                       dro::shape_error);
  dro::host_matrix<float> fits(2, 5);
  CHECK_THROWS_WITH_AS(dro::matmul(b, 1, a, right, 0, b.view(fits), {.batch = 2}),
                       "matmul: batch is 2 with stride_c 0, expected 0 or more products with a C of their own",
                       dro::option_error);
  CHECK_THROWS_AS(dro::matmul(b, 1, a, right, 0, b.view(fits), {.batch = -1, .stride_c = 10}), dro::option_error);
  fits(1, 4) = 7;
  dro::matmul(b, 1, a, right, 0, b.view(fits), {.batch = 0});
  CHECK(fits(1, 4) == 7);
}

TEST_CASE("a product in bf16 is that of rounded factors, whoever has rounded them") {
  rounding_backend b;
  dro::host_backend exact;
  for (const storage of_a : all_storages) {
    for (const storage of_x : {storage::rows, storage::columns}) {
      stored<float> a(of_a, 5, 9, 1), x(of_x, 9, 4, 2);
      const auto before = test::random_matrix<float>(5, 4, -1, 1, 3);
      auto expected = before, found = before;
      auto a_rounded = copy_of(a.view()), x_rounded = copy_of(x.view());
      for (auto* m : {&a_rounded, &x_rounded}) {
        for (index_t i = 0; i < m->rows() * m->cols(); ++i) {
          m->data()[i] = dro::math::to_float(dro::math::to_bfloat16(m->data()[i]));
        }
      }
      dro::matmul(exact, 1.5F, a_rounded, x_rounded, 0.5F, exact.view(expected));
      const auto check = [&] {
        CHECK(test::same(found, expected));
        found = before;
      };
      constexpr auto bf16 = dro::matmul_precision::bf16;
      dro::matmul(b, 1.5F, a.view(), x.view(), 0.5F, b.view(found), {.precision = bf16});
      check();
      const dro::factor<rounding_backend, float> left(b, a.view(), bf16), right(b, dro::transposed(x.view()), bf16);
      CHECK(left.view().is_rounded());
      dro::matmul(b, 1.5F, left.view(), dro::transposed(right.view()), 0.5F, b.view(found), bf16);
      check();
      dro::matmul(b, 1.5F, left.view(), dro::factor_view<float>(x.view()), 0.5F, b.view(found), bf16);
      check();
      dro::matmul(b, 1.5F, left.view().rounded, dro::transposed(right.view()).rounded, 0.5F, b.view(found));
      check();
      // Written as bfloat16, it goes nowhere else.
      stored<float> place(storage::rows, 5, 9, 4);
      const auto untouched = copy_of(place.view());
      const dro::factor<rounding_backend, float> made(b, place.view(), bf16, [&](const auto& target) {
        for (index_t i = 0; i < 5; ++i) {
          for (index_t j = 0; j < 9; ++j) {
            target(i, j) =
                dro::rounded_to<typename std::remove_cvref_t<decltype(target)>::element_type>(a.view()(i, j));
          }
        }
      });
      CHECK(!made.view().is_exact());
      dro::matmul(b, 1.5F, made.view(), dro::factor_view<float>(x.view()), 0.5F, b.view(found), bf16);
      check();
      CHECK(test::same(copy_of(place.view()), untouched));
    }
  }
  CHECK(b.exact() == 0);
}

namespace {

/// Rounds where an element takes part in four products.
struct choosy_backend : rounding_backend {
  using rounding_backend::rounding_backend;
  static constexpr index_t rounding_pays = 4;
};

}  // namespace

TEST_CASE("what may not be rounded, or need not, is not") {
  constexpr auto bf16 = dro::matmul_precision::bf16;
  rounding_backend b;
  const dro::host_matrix<float> a(1, 1, {1 + 0x1p-9F});
  dro::host_matrix<float> c(2, 1);
  const auto one = dro::row_major_view(c.data(), 1, 1);
  for (const auto precision : {dro::matmul_precision::full, dro::matmul_precision::tf32}) {
    const dro::factor<rounding_backend, float> f(b, b.view(a), precision);
    CHECK(!f.view().is_rounded());
    dro::matmul(b, 1, f.view(), f.view(), 0, one, precision);
    CHECK(c(0, 0) == a(0, 0) * a(0, 0));
  }
  dro::matmul(b, 1, a, a, 0, one, {.batch = 2, .stride_c = 1, .precision = bf16});  // factors of a batch are not
  CHECK(c(1, 0) == a(0, 0) * a(0, 0));
  CHECK(b.rounded() == 0);
  const dro::host_matrix<double> fine(1, 1, {1 + 0x1p-9});
  dro::host_matrix<double> square(1, 1);
  dro::matmul(b, 1, fine, fine, 0, b.view(square), {.precision = bf16});
  CHECK(square(0, 0) == fine(0, 0) * fine(0, 0));
  dro::matmul(b, 1, a, a, 0, one, {.precision = bf16});
  CHECK(c(0, 0) == 1);

  choosy_backend choosy;
  const auto rounds = [&](index_t m, index_t n, bool left_is_rounded) {
    const dro::host_matrix<float> left(m, 2), right(2, n);
    dro::host_matrix<float> product(m, n);
    const int before = choosy.rounded();
    const dro::factor<choosy_backend, float> f(choosy, choosy.view(left),
                                               left_is_rounded ? bf16 : dro::matmul_precision::full);
    dro::matmul(choosy, 1, f.view(), dro::factor_view<float>(choosy.view(right)), 0, choosy.view(product), bf16);
    return choosy.rounded() > before;
  };
  CHECK(rounds(4, 4, false));
  CHECK(!rounds(4, 3, false));  // an element of the left factor is in three products
  CHECK(!rounds(3, 4, false));
  CHECK(rounds(4, 3, true));
  CHECK(!rounds(3, 4, true));
}
