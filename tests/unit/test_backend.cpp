// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>

#include "support/backends.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

static_assert(dro::backend<dro::host_backend> && dro::host_executed<dro::host_backend>);
static_assert(dro::backend<dro::eigen_backend<Eigen::ColMajor>> && dro::backend<dro::eigen_backend<Eigen::RowMajor>>);
static_assert(dro::backend<dro::deferred_backend> && dro::host_executed<dro::deferred_backend>);
static_assert(dro::backend<dro::counting_backend<dro::eigen_backend<>>>);
static_assert(!dro::backend<int> && !dro::backend<dro::host_base>);
static_assert(dro::viewable<dro::matrix_view<float>, dro::host_backend>);
static_assert(dro::viewable<Eigen::VectorXd, dro::eigen_backend<>>);
static_assert(!dro::viewable<Eigen::VectorXd, dro::host_backend>);
static_assert(std::is_same_v<dro::element_t<dro::eigen_backend<>, Eigen::Map<const Eigen::MatrixXf>>, float>);

/// Multiplies each element by its row number plus 1.
struct scale_rows {
  dro::matrix_view<double> m;
  template <class Team>
  void operator()(Team& team, index_t row) const {
    team.for_each(m.cols, [&](index_t col) { m(row, col) *= static_cast<double>(row + 1); });
  }
};

}  // namespace

TEST_CASE_TEMPLATE("what is written is read back, row by row", S, DRO_TEST_SETTINGS) {
  typename S::backend b;
  using T = typename S::scalar;
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{3, 4}, {1, 5}, {5, 1}, {0, 3}, {1, 1}}) {
    const auto source = test::random_matrix<T>(rows, cols, -1, 1, 61);
    const auto m = write(b, source);
    CHECK(test::same(read(b, m), source));
    CHECK(b.view(m).rows == rows);
    CHECK(b.view(m).cols == cols);
  }
  const auto filled = dro::make_filled<T>(b, 2, 3, T(2.5));
  CHECK(test::same(read(b, filled), test::matrix<T>(2, 3, std::vector<T>(6, T(2.5)))));
}

TEST_CASE_TEMPLATE("a program runs once for each row, in the order in which programs were queued", S,
                   DRO_TEST_SETTINGS) {
  typename S::backend b;
  auto m = dro::make_filled<double>(b, 4, 3, 1.0);
  b.run(4, scale_rows{b.view(m)});
  b.run(4, scale_rows{b.view(m)});
  b.run(0, scale_rows{b.view(m)});
  dro::fill(b, dro::matrix_view<double>(b.view(m).data + b.view(m).row_stride, 1, 3, 1, b.view(m).col_stride), -1.0);
  const auto found = read(b, m);
  for (index_t row = 0; row < 4; ++row) {
    for (index_t col = 0; col < 3; ++col) CHECK(found(row, col) == (row == 1 ? -1 : (row + 1) * (row + 1)));
  }
}

TEST_CASE("Eigen objects are seen where they are") {
  dro::eigen_backend<> b(1);
  Eigen::MatrixXd m(3, 4);
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 4; ++j) m(i, j) = 10 * i + j;
  }
  const auto check = [&](auto&& object, double first_row_second, double second_row_first) {
    const auto view = b.view(object);
    CHECK(view.rows == object.rows());
    CHECK(view.cols == object.cols());
    if (view.cols > 1) CHECK(view(0, 1) == first_row_second);
    if (view.rows > 1) CHECK(view(1, 0) == second_row_first);
  };
  check(m, 1, 10);
  check(m.block(1, 1, 2, 2), 12, 21);
  check(m.col(2), 0, 12);
  check(m.row(1), 11, 0);
  check(Eigen::Ref<Eigen::MatrixXd>(m), 1, 10);
  const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = m;
  check(rows, 1, 10);
  check(rows.block(0, 2, 3, 2), 3, 12);
  const Eigen::Vector3d fixed(1, 2, 3);
  check(fixed, 0, 2);
  double memory[12];
  std::iota(memory, memory + 12, 0.0);
  check(Eigen::Map<Eigen::MatrixXd, 0, Eigen::Stride<6, 2>>(memory, 3, 2), 6, 2);
  // Writing through a view of a block changes the matrix.
  auto block = m.block(2, 0, 1, 2);
  dro::fill(b, b.view(block), 7.0);
  CHECK(m(2, 0) == 7);
  CHECK(m(2, 1) == 7);
  CHECK(m(2, 2) == 22);
}

TEST_CASE("the deferred backend does nothing before it is asked") {
  dro::deferred_backend b;
  auto fresh = b.make<double>(2, 2);
  auto numbers = b.make<std::int32_t>(1, 1);
  CHECK(std::isnan(b.view(fresh)(0, 0)));
  CHECK(b.view(numbers)(0, 0) == -1);
  std::vector<double> values = {1, 2, 3, 4};
  b.write(values.data(), b.view(fresh));
  values.assign(4, 0);  // the backend has its own copy
  b.run(2, scale_rows{b.view(fresh)});
  CHECK(std::isnan(b.view(fresh)(1, 1)));
  CHECK(b.pending() == 2);
  CHECK(b.reads() == 0);
  const auto found = read(b, fresh);
  CHECK(b.reads() == 1);
  CHECK(b.pending() == 0);
  CHECK(test::same(found, test::matrix<double>(2, 2, std::vector<double>{1, 2, 6, 8})));
  b.run(2, scale_rows{b.view(fresh)});
  b.synchronise();
  CHECK(b.synchronisations() == 1);
  CHECK(b.view(fresh)(1, 1) == 16);
}

TEST_CASE("a matrix may go while work on it is queued") {
  dro::deferred_backend b;
  auto kept = dro::make_filled<double>(b, 2, 2, 3.0);
  {
    auto gone = dro::make_filled<double>(b, 2, 2, 1.0);
    b.run(2, scale_rows{b.view(gone)});
    b.run(1, [from = b.view(gone), to = b.view(kept)](auto&, index_t) { to(0, 0) = from(1, 1); });
  }
  CHECK(read(b, kept)(0, 0) == 2);
}

TEST_CASE("the counting backend counts") {
  dro::counting_backend<dro::host_backend> b(1);
  auto m = b.make<double>(2, 2);
  const double values[4] = {};
  b.write(values, b.view(m));
  b.run(2, scale_rows{b.view(m)});
  b.run(2, scale_rows{b.view(m)});
  static_cast<void>(read(b, m));
  b.synchronise();
  CHECK(b.writes() == 1);
  CHECK(b.runs() == 2);
  CHECK(b.reads() == 1);
  CHECK(b.synchronisations() == 1);
}

TEST_CASE("every row belongs to one range, for any number of threads") {
  for (const int threads : {1, 2, 3, 8}) {
    const dro::thread_pool pool(threads);
    for (const index_t n : {0, 1, 7, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
      pool.for_ranges(n, [&](index_t begin, index_t end) {
        CHECK(begin < end);
        for (index_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
      });
      for (const auto& count : visits) CHECK(count == 1);
    }
  }
  CHECK_THROWS_WITH_AS(dro::thread_pool(-1), "threads is -1, expected 0 (all) to 4096", dro::option_error);
  CHECK(dro::host_backend(1).threads() == 1);
  CHECK(dro::host_backend().threads() >= 1);
}

TEST_CASE("ranges within ranges, of the same pool and of another, and programs run from programs") {
  constexpr index_t outer = 6, inner = 40;
  for (const int threads : {1, 3}) {
    const dro::thread_pool pool(threads);
    const dro::thread_pool another(2);
    for (const dro::thread_pool* within : {&pool, &another}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(outer * inner));
      pool.for_ranges(outer, [&](index_t begin, index_t end) {
        for (index_t i = begin; i < end; ++i) {
          within->for_ranges(inner, [&](index_t first, index_t last) {
            for (index_t j = first; j < last; ++j) ++visits[static_cast<std::size_t>(i * inner + j)];
          });
        }
      });
      for (const auto& count : visits) CHECK(count == 1);
    }
    dro::host_backend b(threads);
    auto m = dro::make_filled<double>(b, outer, inner, 0.0);
    b.run(outer, [&b, all = b.view(m)](auto&, index_t i) {
      b.run(inner, [all, i](auto&, index_t j) { all(i, j) += static_cast<double>(i * inner + j); });
    });
    for (index_t k = 0; k < outer * inner; ++k) CHECK(m.data()[k] == static_cast<double>(k));
  }
}

TEST_CASE("an exception in a program reaches the caller") {
  for (const int threads : {1, 4}) {
    dro::host_backend b(threads);
    CHECK_THROWS_WITH_AS(b.run(64,
                               [](auto&, index_t row) {
                                 if (row == 17) throw std::runtime_error("row 17");
                               }),
                         "row 17", std::runtime_error);
  }
}

TEST_CASE("a program's rows have the scratch memory it asks for") {
  struct program {
    std::vector<double>* out;
    std::size_t scratch_bytes() const { return 9 * sizeof(double) + 3; }
    void operator()(dro::host_team& team, index_t row) const {
      auto* numbers = team.scratch<double>();
      auto* bytes = team.scratch<char>(9 * sizeof(double));
      CHECK(reinterpret_cast<std::uintptr_t>(numbers) % alignof(double) == 0);
      for (int i = 0; i < 9; ++i) numbers[i] = static_cast<double>(row);
      for (int i = 0; i < 3; ++i) bytes[i] = 1;
      (*out)[static_cast<std::size_t>(row)] = numbers[8] + bytes[2];
    }
  };
  std::vector<double> out(20);
  dro::host_backend(2).run(20, program{&out});
  for (std::size_t row = 0; row < 20; ++row) CHECK(out[row] == static_cast<double>(row) + 1);
}

TEST_CASE_TEMPLATE("a team sums within its stated error", T, float, double) {
  dro::host_team team;
  for (const index_t n : {0, 1, 7, 8, 9, 1000}) {
    const auto values = test::random_matrix<T>(1, std::max<index_t>(n, 1), -1, 1, 62);
    real exact = 0;
    real size = 0;
    for (index_t i = 0; i < n; ++i) {
      const real v = static_cast<real>(values(0, i)) / 3;
      exact += static_cast<T>(v);
      size += std::abs(v);
    }
    const T sum =
        team.template sum<T>(n, [&](index_t i) { return static_cast<T>(static_cast<real>(values(0, i)) / 3); });
    DRO_CHECK_NEAR(sum, exact, (static_cast<real>(n) / 8 + 3) * std::numeric_limits<T>::epsilon() * size);
  }
}

TEST_CASE("a team's maxima and scans") {
  dro::host_team team;
  const double values[] = {-3, test::nan<double>, 5, 5, -test::infinity<double>};
  const auto at = [&](index_t i) { return values[i]; };
  CHECK(team.max(5, -test::infinity<double>, at) == 5);
  CHECK(team.max(2, -9.0, at) == -3);
  CHECK(team.max(0, -9.0, at) == -9);
  CHECK(team.arg_max(5, -test::infinity<double>, at) == 2);  // the first of equals
  CHECK(team.arg_max(5, 5.0, at) == 5);                      // nothing is larger
  CHECK(team.arg_max(0, 0.0, at) == 0);
  std::vector<int> running;
  team.inclusive_scan<int>(
      4, [](index_t i) { return static_cast<int>(i) + 1; }, [&](index_t, int v) { running.push_back(v); });
  CHECK(running == std::vector<int>{1, 3, 6, 10});
}

TEST_CASE("negative and wrong shapes are refused") {
  CHECK_THROWS_WITH_AS(dro::host_matrix<float>(-1, 2), "host_matrix of shape [-1 × 2]", dro::shape_error);
  CHECK_THROWS_AS(dro::host_matrix<float>(index_t{1} << 62, 0), dro::shape_error);
  CHECK_THROWS_AS(dro::host_matrix<float>(0, index_t{1} << 62), dro::shape_error);
  dro::host_matrix<float> full(2, 3);
  dro::host_matrix<float> other(std::move(full));
  CHECK(full.rows() + full.cols() == 0);  // NOLINT(bugprone-use-after-move): what is left has no shape
  full = std::move(other);
  CHECK(other.rows() + other.cols() == 0);  // NOLINT(bugprone-use-after-move)
  dro::host_matrix<float>& itself = full;
  full = std::move(itself);
  CHECK(full.rows() == 2);
  CHECK(full.cols() == 3);
  CHECK(full.data() != nullptr);
  dro::deferred_backend deferred;
  CHECK_THROWS_WITH_AS(static_cast<void>(deferred.make<float>(2, -1)), "deferred_matrix of shape [2 × -1]",
                       dro::shape_error);
  dro::host_matrix<float> m(2, 3);
  CHECK_THROWS_WITH_AS(dro::require_shape(dro::host_backend(1).view(m), 3, 2, "rewards"),
                       "rewards is [2 × 3], expected [3 × 2]", dro::shape_error);
}
