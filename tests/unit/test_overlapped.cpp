// SPDX-License-Identifier: Apache-2.0
// Loops of a team that read for several items before they write.

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

}  // namespace

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
