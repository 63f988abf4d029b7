// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTING_BASICS_HPP
#define DRO_TESTING_BASICS_HPP

/// \file
/// What every algorithm takes for granted of a backend: matrices, views, copies, the order of work.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/models/table.hpp>
#include <dro/random/random_state.hpp>
#include <dro/testing/inputs.hpp>
#include <dro/testing/transcript.hpp>

namespace dro::testing {

namespace detail {

inline constexpr struct shape {
  index_t rows, cols;
} shapes[] = {{1, 1}, {1, 5}, {5, 1}, {3, 4}, {7, 33}, {0, 3}, {3, 0}, {0, 0}};

[[nodiscard]] inline std::string name_of(const shape& s) { return dro::detail::shape_text(s.rows, s.cols); }

/// 1, 2, 3, … row by row: no two elements alike.
template <class U>
[[nodiscard]] host_matrix<U> counted(index_t rows, index_t cols) {
  host_matrix<U> m(rows, cols);
  for (index_t i = 0; i < rows * cols; ++i) m.data()[i] = static_cast<U>(i + 1);
  return m;
}

template <class U>
[[nodiscard]] host_matrix<U> filled(index_t rows, index_t cols, U value) {
  host_matrix<U> m(rows, cols);
  std::fill_n(m.data(), rows * cols, value);
  return m;
}

/// Whether a matrix or view of `b` holds `expected`, to the bit.
template <class B, class M, class U>
void expect(B& b, const char* what, const shape& s, const M& m, const host_matrix<U>& expected, findings& found) {
  host_backend host(1);
  transcript wanted, seen;
  wanted.note(host, what, expected);
  seen.note(b, what, m);
  wanted.compare(seen, true, "basics " + name_of(s), "what was put there", found.list);
}

/// Shapes and strides of views: every element has a place of its own. Nothing is dereferenced.
template <class U, class B>
void check_view(B& b, const shape& s, findings& found) {
  const std::string where = "basics " + name_of(s);
  auto m = b.template make<U>(s.rows, s.cols);
  const matrix_view<U> view = b.view(m);
  const matrix_view<const U> same = b.view(std::as_const(m));
  if (view.rows != s.rows || view.cols != s.cols) {
    found.add(where, "view", "is " + name_of({view.rows, view.cols}));
    return;
  }
  if (same.data != view.data || same.rows != view.rows || same.cols != view.cols ||
      (s.rows > 1 && same.row_stride != view.row_stride) || (s.cols > 1 && same.col_stride != view.col_stride)) {
    found.add(where, "view", "of the constant matrix is another");
  }
  std::set<index_t> places;
  for (index_t i = 0; i < s.rows; ++i) {
    for (index_t j = 0; j < s.cols; ++j) places.insert(i * view.row_stride + j * view.col_stride);
  }
  if (static_cast<index_t>(places.size()) != s.rows * s.cols) {
    found.add(where, "view",
              "has strides " + std::to_string(view.row_stride) + " and " + std::to_string(view.col_stride) +
                  " that show one element at two places");
  }
}

/// Copies there and back, of wholes, parts and transposes, and fills; each in the order in which it was asked for.
template <class U, class B>
void check_copies(B& b, const shape& s, findings& found) {
  auto values = counted<U>(s.rows, s.cols);
  auto m = write(b, values);
  expect(b, "what was written", s, m, values, found);
  expect(b, "what was written, read again", s, m, values, found);

  // The source of a write is the caller's again when write returns, and work happens in order.
  auto source = values;
  auto other = b.template make<U>(s.rows, s.cols);
  fill(b, b.view(other), U(9));
  b.write(source.data(), b.view(other));
  std::fill_n(source.data(), s.rows * s.cols, U(77));
  expect(b, "a write after a fill, its source changed later", s, other, values, found);
  fill(b, b.view(other), U(5));
  expect(b, "a fill after a write", s, other, filled<U>(s.rows, s.cols, U(5)), found);
  b.synchronise();
  expect(b, "a fill, after synchronise", s, other, filled<U>(s.rows, s.cols, U(5)), found);

  if (s.rows > 1 && s.cols > 1) {
    matrix_view<U> part = b.view(m);
    matrix_view<const U> turned{part.data, part.cols, part.rows, part.col_stride, part.row_stride};
    host_matrix<U> transposed(s.cols, s.rows);
    for (index_t i = 0; i < s.rows; ++i) {
      for (index_t j = 0; j < s.cols; ++j) transposed(j, i) = values(i, j);
    }
    expect(b, "a transposed view", s, turned, transposed, found);
    part.data += part.row_stride + part.col_stride;
    part.rows -= 1;
    part.cols -= 1;
    fill(b, part, U(3));
    auto expected = values;
    for (index_t i = 1; i < s.rows; ++i) {
      for (index_t j = 1; j < s.cols; ++j) expected(i, j) = U(3);
    }
    expect(b, "a fill of a part", s, m, expected, found);
    const auto patch = counted<U>(s.rows - 1, s.cols - 1);
    b.write(patch.data(), part);
    expect(b, "a part of a matrix", s, part, patch, found);
    for (index_t i = 1; i < s.rows; ++i) {
      for (index_t j = 1; j < s.cols; ++j) expected(i, j) = patch(i - 1, j - 1);
    }
    expect(b, "a write to a part", s, m, expected, found);
  }
}

/// Each row of a program is run once, and matrices that are moved or destroyed live on in the work queued on them.
template <class U, class B>
void check_work(B& b, const shape& s, findings& found) {
  using add_rows = models::detail::add_rows_program<U>;
  const auto values = counted<U>(s.rows, s.cols);
  auto sum = write(b, values);
  {
    auto one = make_filled<U>(b, s.rows, s.cols, U(1));
    b.run(s.rows, add_rows{b.view(std::as_const(one)), b.view(sum), true});
    fill(b, b.view(one), U(20));  // too late for the program above
    b.run(s.rows, add_rows{b.view(std::as_const(one)), b.view(sum), true});
  }
  auto in_its_place = make_filled<U>(b, s.rows, s.cols, U(50));
  auto expected = values;
  for (index_t i = 0; i < s.rows * s.cols; ++i) expected.data()[i] += U(21);
  expect(b, "two sums over a matrix that was destroyed before they were read", s, sum, expected, found);
  expect(b, "a matrix made after another was destroyed", s, in_its_place, filled<U>(s.rows, s.cols, U(50)), found);

  const matrix_view<U> view = b.view(sum);
  b.run(s.rows, add_rows{b.view(std::as_const(in_its_place)), view, false});
  const auto moved = std::move(sum);
  expect(b, "a matrix moved while work on it was queued", s, moved, filled<U>(s.rows, s.cols, U(50)), found);
  b.run(0, add_rows{b.view(std::as_const(in_its_place)), view, true});
  expect(b, "after a program over no row", s, moved, filled<U>(s.rows, s.cols, U(50)), found);
}

template <class U, class B>
void check_values(B& b, const std::vector<U>& special, findings& found) {
  const auto n = static_cast<index_t>(special.size());
  host_matrix<U> values(1, n);
  std::copy(special.begin(), special.end(), values.data());
  expect(b, "special values", {1, n}, write(b, values), values, found);
}

}  // namespace detail

/// Matrices of any shape, views with strides, copies both ways, fills, programs over all rows, and the order of all of
/// them. For element types float, double, std::int32_t and std::uint32_t.
template <backend B>
void check_basics(B& b, findings& found) {
  const auto of_type = [&]<class U>(U) {
    ++found.cases;
    try {
      for (const detail::shape& s : detail::shapes) {
        detail::check_view<U>(b, s, found);
        detail::check_copies<U>(b, s, found);
      }
      const matrix_t<B, U> empty{};
      const matrix_view<const U> nothing = b.view(empty);
      if (nothing.rows * nothing.cols != 0) found.add("basics", "a default-constructed matrix", "has elements");
      if constexpr (std::floating_point<U>) {
        for (const detail::shape& s : detail::shapes) detail::check_work<U>(b, s, found);
        detail::check_values<U>(b,
                                {infinity<U>, -infinity<U>, not_a_number<U>, U(0), -U(0),
                                 std::numeric_limits<U>::denorm_min(), std::numeric_limits<U>::max()},
                                found);
      } else {
        detail::check_values<U>(b, {std::numeric_limits<U>::max(), std::numeric_limits<U>::min()}, found);
      }
    } catch (const std::exception& e) {
      found.add("basics", "all", std::string("throws: ") + e.what());
    }
  };
  of_type(float{});
  of_type(double{});
  of_type(std::int32_t{});
  of_type(std::uint32_t{});

  run_case(
      b, "the random step",
      [](auto& on, transcript& t) {
        random_state state(on, 7, 41);
        t.note(on, "step", state.step());
        for (int i = 0; i < 3; ++i) state.advance(on);
        t.note(on, "step after three", state.step());
      },
      found);
}

}  // namespace dro::testing

#endif
