// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/xtensor.hpp>

#if __has_include(<xtensor/containers/xadapt.hpp>)
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/containers/xarray.hpp>
#include <xtensor/containers/xfixed.hpp>
#include <xtensor/views/xstrided_view.hpp>
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>
#include <xtensor/xfixed.hpp>
#include <xtensor/xstrided_view.hpp>
#include <xtensor/xview.hpp>
#endif

#include <dro/backend/testing.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using rows_first = dro::xtensor_backend<xt::layout_type::row_major>;
using columns_first = dro::xtensor_backend<xt::layout_type::column_major>;

static_assert(std::is_same_v<dro::xtensor_backend<>, rows_first>);
static_assert(dro::host_executed<rows_first> && dro::multiplies<columns_first>);
static_assert(dro::backend<dro::counting_backend<columns_first>>);
static_assert(std::is_same_v<dro::element_t<rows_first, xt::xtensor<float, 2>>, float>);

/// 10 i + j at (i, j).
template <class M>
M numbered(std::size_t rows, std::size_t cols) {
  M m(typename M::shape_type{rows, cols});
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < cols; ++j) {
      m(i, j) = 10 * static_cast<typename M::value_type>(i) + static_cast<typename M::value_type>(j);
    }
  }
  return m;
}

/// What the backend sees is what xtensor says, and what is written through the view arrives.
template <class B, class M>
void check_view(const B& b, M&& m) {
  const auto v = b.view(m);
  REQUIRE(v.rows == static_cast<index_t>(m.shape()[0]));
  REQUIRE(v.cols == (m.dimension() == 1 ? 1 : static_cast<index_t>(m.shape()[1])));
  for (index_t i = 0; i < v.rows; ++i) {
    for (index_t j = 0; j < v.cols; ++j) {
      const auto row = static_cast<std::size_t>(i);
      const auto& element = m.dimension() == 1 ? m(row) : m(row, static_cast<std::size_t>(j));
      CHECK(&v(i, j) == &element);
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("xtensor: what is written is read back, whatever the shape", B, rows_first, columns_first) {
  B b(1);
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{3, 4}, {1, 5}, {5, 1}, {1, 1}, {0, 3}, {3, 0}, {0, 0}}) {
    const auto source = test::random_matrix<double>(rows, cols, -1, 1, 3);
    auto m = dro::write(b, source);
    CHECK(test::same(dro::read(b, m), source));
    check_view(b, m);
    check_view(b, std::as_const(m));
    // Code may ask whether elements are neighbours, also where there is only one of them.
    const auto v = b.view(m);
    CHECK((v.row_stride == 1 || v.col_stride == 1));
    if (cols == 1) CHECK(v.row_stride == 1);
  }
  CHECK_THROWS_WITH_AS(static_cast<void>(b.template make<float>(2, -1)), "xtensor of shape [2 × -1]", dro::shape_error);
  const dro::matrix_t<B, double> nothing;
  CHECK(b.view(nothing).rows * b.view(nothing).cols == 0);
}

TEST_CASE_TEMPLATE("xtensor: memory stays where it is when a matrix is moved", B, rows_first, columns_first) {
  B b(1);
  auto m = numbered<dro::matrix_t<B, double>>(3, 4);
  const auto before = b.view(m);
  const dro::matrix_t<B, double> moved = std::move(m);
  CHECK(b.view(moved).data == before.data);
  CHECK(b.view(moved)(2, 3) == 23);
}

TEST_CASE_TEMPLATE("xtensor objects of many kinds are seen where they are", B, rows_first, columns_first) {
  const B b(1);
  check_view(b, numbered<xt::xtensor<double, 2>>(3, 4));
  check_view(b, numbered<xt::xtensor<double, 2, xt::layout_type::column_major>>(3, 4));
  check_view(b, numbered<xt::xtensor<std::int32_t, 2, xt::layout_type::dynamic>>(3, 4));
  xt::xtensor_fixed<double, xt::xshape<2, 3>> fixed = {{1, 2, 3}, {4, 5, 6}};
  check_view(b, fixed);

  std::vector<double> memory(12);
  std::iota(memory.begin(), memory.end(), 0.0);
  check_view(b, xt::adapt(memory, std::array<std::size_t, 2>{3, 4}));
  check_view(b, xt::adapt<xt::layout_type::column_major>(memory, std::array<std::size_t, 2>{3, 4}));
  check_view(b, xt::adapt(memory.data(), memory.size(), xt::no_ownership(), std::array<std::size_t, 2>{6, 2}));
  CHECK(b.view(xt::adapt(memory, std::array<std::size_t, 2>{3, 4}))(1, 2) == 6);

  auto m = numbered<xt::xtensor<double, 2>>(5, 6);
  check_view(b, xt::view(m, xt::range(1, 4), xt::range(2, 5)));
  check_view(b, xt::view(m, xt::range(0, 5, 2), xt::all()));
  check_view(b, xt::view(m, xt::all(), 3));  // one dimension: a column
  check_view(b, xt::view(m, xt::range(2, 3), xt::all()));
  check_view(b, xt::view(m, xt::all(), xt::range(5, 6)));
  check_view(b, xt::view(std::as_const(m), xt::range(1, 4), xt::range(2, 5)));
  check_view(b, xt::xtensor<double, 1>{1, 2, 3});
  CHECK(b.view(xt::view(m, xt::all(), 3)).row_stride == 6);
// xtensor before 0.26 cannot make arrays of any number of dimensions with clang 19: its partial specialisations of
// rebind_container are ambiguous there.
#if !defined(__clang__) || __clang_major__ < 19 || XTENSOR_VERSION_MAJOR > 0 || XTENSOR_VERSION_MINOR >= 26
  check_view(b, numbered<xt::xarray<float>>(3, 4));
  check_view(b, xt::strided_view(m, {xt::range(1, 3), xt::range(0, 6, 3)}));
#endif

  const auto cube = xt::xtensor<double, 3>::from_shape({2, 3, 4});
  CHECK_THROWS_WITH_AS(static_cast<void>(b.view(cube)), "xtensor_backend: an array of 3 dimensions, expected 2",
                       dro::shape_error);
}

TEST_CASE("xtensor: a program writes through a view of a part and leaves the rest alone") {
  rows_first b(1);
  auto m = numbered<xt::xtensor<double, 2>>(4, 5);
  auto part = xt::view(m, xt::range(1, 3), xt::range(1, 4, 2));
  dro::fill(b, b.view(part), -1.0);
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 5; ++j) {
      const bool inside = (i == 1 || i == 2) && (j == 1 || j == 3);
      CHECK(m(i, j) == (inside ? -1.0 : 10 * static_cast<double>(i) + static_cast<double>(j)));
    }
  }
}

TEST_CASE_TEMPLATE("xtensor: rankings, log-probabilities and weights are those of the host backend, bit for bit", B,
                   rows_first, columns_first) {
  const auto compute = [](auto& b) {
    using backend = std::remove_reference_t<decltype(b)>;
    const auto scores = dro::write(b, test::random_matrix<float>(5, 9, -2, 2, 17));
    dro::random_state<backend> random(b, 4);
    const auto z = dro::draw_plackett_luce(b, scores, random.source(b), {.samples = 6, .select = 3});
    const auto w = dro::importance_weights(b, dro::on_policy(b, z.log_proposal(), z));
    return std::tuple{dro::read(b, z.rankings()), dro::read(b, z.log_proposal()), dro::read(b, w.normalised)};
  };
  B b(2);
  dro::host_backend host(1);
  const auto [rankings, log_prob, weights] = compute(b);
  const auto [host_rankings, host_log_prob, host_weights] = compute(host);
  CHECK(test::same(rankings, host_rankings));
  CHECK(test::same(log_prob, host_log_prob));
  CHECK(test::same(weights, host_weights));
}

TEST_CASE_TEMPLATE("xtensor: products", B, rows_first, columns_first) {
  B b(1);
  const auto a = numbered<dro::matrix_t<B, double>>(3, 2);
  auto c = dro::make_filled<double>(b, 3, 3, 1.0);
  dro::matmul(b, 1, a, dro::transposed(b.view(a)), -1, b.view(c));
  CHECK(
      test::same(dro::read(b, c), test::matrix<double>(3, 3, std::vector<int>{0, 10, 20, 10, 220, 430, 20, 430, 840})));
}
