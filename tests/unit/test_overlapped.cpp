// SPDX-License-Identifier: Apache-2.0
// Loops of a team that read for several items before they write.

#include <cstddef>
#include <cstdint>
#include <utility>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>

#include "teams.hpp"

namespace {

using dro::index_t;
using dro::matrix_view;

/// Row n: to each of its first n elements adds what it is times its place plus one; and the sum of these.
struct overlapped_program {
  matrix_view<std::int32_t> values;
  matrix_view<std::int32_t> sums;

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    dro::for_each_overlapped(
        team, row, [&](index_t i) { return values(row, i) * static_cast<std::int32_t>(i + 1); },
        [&](index_t i, std::int32_t v) { values(row, i) += v; });
    team.barrier();
    const auto sum = dro::sum_overlapped<std::int32_t>(team, row, [&](index_t i) { return values(row, i); });
    if (team.rank() == 0) sums(row, 0) = sum;
  }
};

/// Row n: out(n, i) = 3 a(n, i) + b(n, i) for i < n, through scratch memory.
struct gathering_program {
  matrix_view<const std::int32_t> a, b;
  matrix_view<std::int32_t> out;

  [[nodiscard]] std::size_t scratch_bytes() const { return static_cast<std::size_t>(a.cols) * sizeof(std::int32_t); }
  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    auto* const kept = team.template scratch<std::int32_t>();
    const auto row_of = [&](const auto& m) { return dro::row_view{&m(row, 0), m.col_stride}; };
    dro::read_rows(
        team, row, [&](index_t i, std::int32_t x, std::int32_t y) { kept[i] = 3 * x + y; }, row_of(a), row_of(b));
    team.barrier();
    dro::write_row(team, row, row_of(out), [&](index_t i) { return kept[i]; });
  }
};

}  // namespace

TEST_CASE("rows are read and written whole, whatever their alignment, stride and size") {
  // 16 bytes are four of these numbers: rows begin at each of the four places, or all at the same.
  for (const index_t pitch : {index_t{41}, index_t{44}}) {
    for (const bool is_transposed : {false, true}) {
      CAPTURE(pitch);
      CAPTURE(is_transposed);
      test::check_teams([&](auto& b, test::results& r) {
        constexpr index_t most = 40;
        dro::host_matrix<std::int32_t> values(is_transposed ? pitch : most, is_transposed ? most : pitch);
        for (index_t i = 0; i < most * pitch; ++i) values.data()[i] = static_cast<std::int32_t>(i % 101 - 50);
        const auto first = dro::write(b, values);
        auto second = dro::write(b, values);
        const auto seen = [&](auto view) {
          auto m = is_transposed ? dro::transposed(view) : view;
          m.cols = most;
          return m;
        };
        auto out = dro::make_filled<std::int32_t>(b, values.rows(), values.cols(), -7);
        const auto& there = b;
        b.run(most,
              gathering_program{seen(there.view(first)), seen(there.view(std::as_const(second))), seen(b.view(out))});
        const auto found = dro::read(b, out);
        for (index_t row = 0; row < most; ++row) {
          for (index_t i = 0; i < pitch; ++i) {
            const std::int32_t v = is_transposed ? values(i, row) : values(row, i);
            CHECK((is_transposed ? found(i, row) : found(row, i)) == (i < row ? 4 * v : -7));
          }
        }
        r.add(b, "out", out);
      });
    }
  }
}

TEST_CASE("fill sets what a view shows and nothing else") {
  test::check_teams([](auto& b, test::results& r) {
    // Pieces of 1024 elements: less than one, exactly one, a few and a rest.
    for (const index_t cols : {1, 16, 64, 77, 100}) {
      auto m = b.template make<std::int32_t>(64, cols);
      dro::fill(b, b.view(m), 3);
      auto inner = b.view(m);  // rows 1, 3, 5, …, without the last column: in no one piece
      inner.data += inner.row_stride;
      inner.row_stride *= 2;
      inner.rows = 32;
      inner.cols = cols - 1;
      dro::fill(b, inner, 5);
      const auto found = dro::read(b, m);
      for (index_t i = 0; i < 64; ++i) {
        for (index_t j = 0; j < cols; ++j) CHECK(found(i, j) == (i % 2 == 1 && j < cols - 1 ? 5 : 3));
      }
      r.add(b, "filled", m);
    }
  });
}

TEST_CASE("overlapped loops take each item once, in place, whatever their number") {
  test::check_teams([](auto& b, test::results& r) {
    constexpr index_t most = 40;
    dro::host_matrix<std::int32_t> values(most, most);
    for (index_t i = 0; i < most * most; ++i) values.data()[i] = static_cast<std::int32_t>(i % 97 - 40);
    auto there = dro::write(b, values);
    auto sums = b.template make<std::int32_t>(most, 1);
    b.run(most, overlapped_program{b.view(there), b.view(sums)});
    const auto found = dro::read(b, there);
    const auto totals = dro::read(b, sums);
    for (index_t row = 0; row < most; ++row) {
      std::int32_t sum = 0;
      for (index_t i = 0; i < most; ++i) {
        const std::int32_t v = values(row, i);
        const std::int32_t expected = i < row ? v + v * static_cast<std::int32_t>(i + 1) : v;
        CHECK(found(row, i) == expected);
        if (i < row) sum += expected;
      }
      CHECK(totals(row, 0) == sum);
    }
    r.add(b, "values", there);
  });
}
