// SPDX-License-Identifier: Apache-2.0
// What the conformance suite is there for: backends that are wrong in one way each.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/testing/basics.hpp>
#include <dro/testing/rankings.hpp>
#include <dro/testing/weights.hpp>

namespace {

using dro::index_t;
using dro::matrix_view;
using dro::testing::findings;

/// Whether a finding about a result whose name begins with `quantity` is among them.
bool names(const findings& found, const std::string& quantity) {
  return std::any_of(found.list.begin(), found.list.end(),
                     [&](const auto& f) { return f.quantity.compare(0, quantity.size(), quantity) == 0; });
}

template <class B>
findings basics_of(B&& b) {
  findings found;
  check_basics(b, found);
  return found;
}

/// Says that columns are contiguous where rows are, for matrices that are not const.
struct wrong_strides : dro::host_backend {
  wrong_strides() : dro::host_backend(1) {}
  template <class T>
  matrix_view<T> view(matrix<T>& m) const {
    return {m.data(), m.rows(), m.cols(), 1, m.rows()};
  }
  template <class T>
  matrix_view<const T> view(const matrix<T>& m) const {
    return dro::host_backend::view(m);
  }
};

/// One row lies on the other.
struct overlapping_rows : dro::host_backend {
  overlapping_rows() : dro::host_backend(1) {}
  template <class T>
  matrix_view<T> view(matrix<T>& m) const {
    return {m.data(), m.rows(), m.cols(), m.cols() - 1, 1};
  }
  template <class T>
  matrix_view<const T> view(const matrix<T>& m) const {
    return {m.data(), m.rows(), m.cols(), m.cols() - 1, 1};
  }
};

struct rows_twice : dro::host_backend {
  rows_twice() : dro::host_backend(1) {}
  template <class Program>
  void run(index_t rows, const Program& program) const {
    dro::host_backend::run(rows, program);
    dro::host_backend::run(std::min<index_t>(rows, 1), program);
  }
};

struct last_row_left_out : dro::host_backend {
  last_row_left_out() : dro::host_backend(1) {}
  template <class Program>
  void run(index_t rows, const Program& program) const {
    dro::host_backend::run(rows > 1 ? rows - 1 : rows, program);
  }
};

/// Copies as if every view were a whole matrix.
struct strides_forgotten : dro::host_backend {
  strides_forgotten() : dro::host_backend(1) {}
  template <class T>
  void read(matrix_view<const T> source, T* target) const {
    std::copy_n(source.data, source.rows * source.cols, target);
  }
};

/// Queues writes with a pointer to what may have changed by then.
struct write_by_reference : dro::deferred_backend {
  write_by_reference() : dro::deferred_backend(1) {}
  template <class T>
  void write(const T* source, matrix_view<T> target) {
    run(target.rows, [=](auto&, index_t row) {
      for (index_t col = 0; col < target.cols; ++col) target(row, col) = source[row * target.cols + col];
    });
  }
};

/// Does work when asked to wait, and does not wait when it reads.
struct early_reads : dro::deferred_backend {
  early_reads() : dro::deferred_backend(1) {}
  template <class T>
  void read(matrix_view<const T> source, T* target) {
    dro::host_backend(1).read(source, target);
  }
};

/// Writes at once, while programs wait.
struct early_writes : dro::deferred_backend {
  early_writes() : dro::deferred_backend(1) {}
  template <class T>
  void write(const T* source, matrix_view<T> target) {
    dro::host_backend(1).write(source, target);
  }
};

/// Takes numbers below the smallest normal one for 0.
struct no_subnormals : dro::host_backend {
  no_subnormals() : dro::host_backend(1) {}
  template <class T>
  void write(const T* source, matrix_view<T> target) const {
    dro::host_backend::write(source, target);
    if constexpr (std::is_floating_point_v<T>) {
      for (index_t r = 0; r < target.rows; ++r) {
        for (index_t c = 0; c < target.cols; ++c) {
          if (target(r, c) > T(0) && target(r, c) < std::numeric_limits<T>::min()) target(r, c) = T(0);
        }
      }
    }
  }
};

struct throwing : dro::host_backend {
  throwing() : dro::host_backend(1) {}
  template <class T>
  matrix<T> make(index_t rows, index_t cols) const {
    if (rows * cols == 0) throw dro::option_error("no empty matrices here");
    return dro::host_backend::make<T>(rows, cols);
  }
};

/// A backend of its own programs, not the host's: results are held against bounds. `Team` carries them out.
template <class Team>
struct with_team : dro::host_backend {
  static constexpr bool runs_on_host = false;
  with_team() : dro::host_backend(1) {}

  template <class Program>
  void run(index_t rows, const Program& program) const {
    std::size_t bytes = 0;
    if constexpr (requires { program.scratch_bytes(); }) bytes = program.scratch_bytes();
    std::vector<std::max_align_t> scratch(bytes / sizeof(std::max_align_t) + 1);
    Team team(reinterpret_cast<std::byte*>(scratch.data()));
    for (index_t row = 0; row < rows; ++row) program(team, row);
  }
};

/// Adds from the right: another rounding, and nothing wrong with it.
struct sums_from_the_right : dro::host_team {
  using dro::host_team::host_team;
  template <class T, class F>
  T sum(index_t n, F&& f) {
    T total{};
    for (index_t i = n; i-- > 0;) total += f(i);
    return total;
  }
};

/// Leaves the last term out where there are many.
struct sums_cut_short : dro::host_team {
  using dro::host_team::host_team;
  template <class T, class F>
  T sum(index_t n, F&& f) {
    return dro::host_team::sum<T>(n > 16 ? n - 1 : n, f);
  }
};

/// Adds from the left and from the right in turn.
struct sums_in_any_order : dro::host_team {
  using dro::host_team::host_team;
  template <class T, class F>
  T sum(index_t n, F&& f) {
    static bool from_the_left = false;
    from_the_left = !from_the_left;
    T total{};
    for (index_t i = 0; i < n; ++i) total += f(from_the_left ? i : n - 1 - i);
    return total;
  }
};

template <class Team>
findings weights_of() {
  with_team<Team> b;
  findings found;
  dro::testing::check_weights<float>(b, found);
  return found;
}

}  // namespace

TEST_CASE("a backend that is right is found to be right") {
  CHECK(basics_of(dro::host_backend(1)).empty());
  CHECK(basics_of(dro::deferred_backend(1)).empty());
}

TEST_CASE("strides that are wrong") {
  CHECK(names(basics_of(wrong_strides()), "view"));
  CHECK(names(basics_of(wrong_strides()), "what was written"));
  CHECK(names(basics_of(overlapping_rows()), "view"));
  CHECK(names(basics_of(strides_forgotten()), "a transposed view"));
}

TEST_CASE("rows run twice, or not at all") {
  CHECK(names(basics_of(rows_twice()), "two sums"));
  CHECK(names(basics_of(rows_twice()), "step after three"));
  CHECK(names(basics_of(last_row_left_out()), "a fill after a write"));
}

TEST_CASE("work out of order") {
  // Only where sources live on until they are read: elsewhere this backend reads what is no longer there.
  write_by_reference late;
  findings found;
  dro::testing::detail::check_copies<float>(late, {3, 4}, found);
  CHECK(names(found, "a write after a fill, its source changed later"));
  CHECK(names(basics_of(early_reads()), "what was written"));
  CHECK(names(basics_of(early_writes()), "a write after a fill"));
}

TEST_CASE("numbers that do not survive") { CHECK(names(basics_of(no_subnormals()), "special values")); }

TEST_CASE("an exception is a finding") {
  const findings found = basics_of(throwing());
  REQUIRE(!found.empty());
  CHECK(found.list.front().what == "throws: no empty matrices here");
}

TEST_CASE("another rounding is no finding, and takes a part of the bounds") {
  const findings found = weights_of<sums_from_the_right>();
  CHECK(found.empty());
  CHECK(found.used_share > 0);
  CHECK(found.used_share <= 1);
}

TEST_CASE("a term left out is found by its size, an order that changes by the second run") {
  CHECK(names(weights_of<sums_cut_short>(), "on-policy of 37 draws: normalised"));
  const findings found = weights_of<sums_in_any_order>();
  REQUIRE(!found.empty());
  CHECK(std::all_of(found.list.begin(), found.list.end(), [](const auto& f) {
    return f.what.find("the second time against the first") != std::string::npos;
  }));
}

TEST_CASE("a difference says where, what and by how much") {
  using namespace dro::testing;
  dro::host_backend b(1);
  transcript expected, found;
  expected.note(b, {"weights", "ratio"}, dro::host_matrix<float>(2, 2, {1, 2, 3, 4}), bound::absolute(4, 1));
  found.note(b, {"weights", "ratio"}, dro::host_matrix<float>(2, 2, {1, 2, 3.5F, 4}), bound::absolute(4, 1));
  std::vector<finding> list;
  expected.compare(found, false, "a case", "against the host", list);
  REQUIRE(list.size() == 1);
  CHECK(list[0].where == "a case");
  CHECK(list[0].quantity == "weights: ratio");
  // 2 · 4 roundings of 2^-24.
  CHECK(list[0].what ==
        "1 of 4 elements are off, the first (1, 0) 3.5, expected 3 ± 4.76837158203125e-07, the worst by 0.5 "
        "(against the host)");
  // Within the bound, of another shape, and missing.
  list.clear();
  transcript near, other, none;
  near.note(b, {"weights", "ratio"}, dro::host_matrix<float>(2, 2, {1, 2, 3 + 4e-7F, 4}), bound::absolute(4, 1));
  expected.compare(near, false, "", "", list);
  CHECK(list.empty());
  expected.compare(near, true, "", "", list);
  CHECK(list.size() == 1);
  other.note(b, {"weights", "ratio"}, dro::host_matrix<float>(1, 4, {1, 2, 3, 4}));
  expected.compare(other, false, "", "", list);
  expected.compare(none, false, "", "", list);
  none.compare(expected, false, "", "", list);
  CHECK(list.size() == 4);
}
