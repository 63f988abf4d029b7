// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

#include "support/check.hpp"
#include "teams.hpp"

namespace {

using dro::index_t;

constexpr index_t most_items = 13;

/// Every member of a team, for each number of items up to most_items: row n works on n items.
struct members_program {
  dro::matrix_view<double> sums, largest, scans;
  dro::matrix_view<std::int32_t> first, visits;

  static double item(index_t i) { return i % 5 == 3 ? test::nan<double> : static_cast<double>((7 * i) % 5); }

  template <class Team>
  void operator()(Team& team, index_t n) const {
    // Twice each, so that what one call leaves behind meets the next.
    for (int repeat = 0; repeat < 2; ++repeat) {
      const double sum = team.template sum<double>(n, [](index_t i) { return static_cast<double>(i + 1); });
      const double best = team.max(n, -1.0, item);
      const index_t where = team.arg_max(n, -1.0, item);
      team.template inclusive_scan<double>(
          n, [](index_t i) { return static_cast<double>(i + 1); }, [&](index_t i, double x) { scans(n, i) = x; });
      team.for_each(most_items, [&](index_t i) { visits(n, i) += i < n ? 1 : 0; });
      team.barrier();
      if (team.rank() == team.size() - 1) {
        sums(n, 0) = sum;
        largest(n, 0) = best;
        first(n, 0) = static_cast<std::int32_t>(where);
      }
      team.barrier();
    }
  }
};

/// Each thread's writes to scratch, seen by another, and what is there at the start of a row.
struct scratch_program {
  dro::matrix_view<std::int32_t> before, after;

  [[nodiscard]] std::size_t scratch_bytes() const { return 8 * sizeof(std::int32_t); }

  template <class Team>
  void operator()(Team& team, index_t row) const {
    auto* numbers = team.template scratch<std::int32_t>(2 * sizeof(std::int32_t));
    team.for_each(6, [&](index_t i) { before(row, i) = numbers[i]; });
    team.barrier();
    team.for_each(6, [&](index_t i) { numbers[i] = static_cast<std::int32_t>(10 * row + i); });
    team.barrier();
    team.for_each(6, [&](index_t i) { after(row, i) = numbers[5 - i]; });
  }
};

}  // namespace

TEST_CASE("a team of several threads does what one thread does") {
  test::check_teams([](auto& b, test::results& out) {
    auto sums = dro::make_filled<double>(b, most_items + 1, 1, -7.0);
    auto largest = dro::make_filled<double>(b, most_items + 1, 1, -7.0);
    auto scans = dro::make_filled<double>(b, most_items + 1, most_items, 0.0);
    auto first = dro::make_filled<std::int32_t>(b, most_items + 1, 1, -7);
    auto visits = dro::make_filled<std::int32_t>(b, most_items + 1, most_items, 0);
    b.run(most_items + 1, members_program{b.view(sums), b.view(largest), b.view(scans), b.view(first), b.view(visits)});
    out.add(b, "sum", sums);
    out.add(b, "max", largest);
    out.add(b, "arg_max", first);
    out.add(b, "inclusive_scan", scans);
    out.add(b, "visits", visits);
  });
}

TEST_CASE("the members of a team by hand") {
  dro::concurrent_backend b(3);
  auto sums = dro::make_filled<double>(b, most_items + 1, 1, -7.0);
  auto largest = dro::make_filled<double>(b, most_items + 1, 1, -7.0);
  auto scans = dro::make_filled<double>(b, most_items + 1, most_items, 0.0);
  auto first = dro::make_filled<std::int32_t>(b, most_items + 1, 1, -7);
  auto visits = dro::make_filled<std::int32_t>(b, most_items + 1, most_items, 0);
  b.run(most_items + 1, members_program{b.view(sums), b.view(largest), b.view(scans), b.view(first), b.view(visits)});
  // Items 0 2 4 NaN 3, and again: the largest is 4, first at 2; NaN is passed over.
  for (index_t n = 0; n <= most_items; ++n) {
    CAPTURE(n);
    CHECK(sums(n, 0) == static_cast<double>(n * (n + 1)) / 2);
    CHECK(largest(n, 0) == (n == 0 ? -1 : n == 1 ? 0 : n == 2 ? 2 : 4));
    CHECK(first(n, 0) == (n == 0 ? 0 : n == 1 ? 0 : n == 2 ? 1 : 2));
    for (index_t i = 0; i < most_items; ++i) {
      CHECK(scans(n, i) == (i < n ? static_cast<double>((i + 1) * (i + 2)) / 2 : 0.0));
      CHECK(visits(n, i) == (i < n ? 2 : 0));  // twice each, by one thread at a time
    }
  }
}

TEST_CASE("scratch is shared by the team and holds nothing of the row before") {
  for (const int size : {1, 2, 3, 5}) {
    CAPTURE(size);
    dro::concurrent_backend b(size);
    auto before = b.make<std::int32_t>(4, 6);
    auto after = b.make<std::int32_t>(4, 6);
    b.run(4, scratch_program{b.view(before), b.view(after)});
    for (index_t row = 0; row < 4; ++row) {
      for (index_t i = 0; i < 6; ++i) {
        CHECK(before(row, i) == -1);
        CHECK(after(row, i) == 10 * row + 5 - i);
      }
    }
  }
}

TEST_CASE("the mistakes that teams of one thread forgive") {
  dro::host_backend host(1);
  dro::concurrent_backend b(3);
  // A local variable changed by the items: each thread has one of its own.
  const auto count = [](auto& on) {
    auto out = on.template make<std::int32_t>(1, 1);
    on.run(1, [view = on.view(out)](auto& team, index_t) {
      std::int32_t items = 0;
      team.for_each(9, [&](index_t) { ++items; });
      if (team.rank() == 0) view(0, 0) = items;
    });
    return read(on, out)(0, 0);
  };
  CHECK(count(host) == 9);
  CHECK(count(b) == 3);
  // A variable that only one thread sets.
  const auto set_by_first = [](auto& on) {
    auto out = on.template make<std::int32_t>(1, 5);
    on.run(1, [view = on.view(out)](auto& team, index_t) {
      std::int32_t value = 0;
      if (team.rank() == 0) value = 4;
      team.for_each(5, [&](index_t i) { view(0, i) = value; });
    });
    const auto values = read(on, out);
    std::int32_t total = 0;
    for (index_t i = 0; i < 5; ++i) total += values(0, i);
    return total;
  };
  CHECK(set_by_first(host) == 20);
  CHECK(set_by_first(b) < 20);
  // Memory taken to be 0.
  CHECK(std::isnan(b.make<double>(1, 1)(0, 0)));
  CHECK(b.make<std::int32_t>(1, 1)(0, 0) == -1);
}

TEST_CASE("items go to another thread at each call") {
  dro::concurrent_backend b(4);
  auto who = b.make<std::int32_t>(3, 4);
  b.run(1, [view = b.view(who)](auto& team, index_t) {
    for (index_t call = 0; call < 3; ++call) {
      team.for_each(4, [&](index_t i) { view(call, i) = static_cast<std::int32_t>(team.rank()); });
      team.barrier();
    }
  });
  for (index_t i = 0; i < 4; ++i) CHECK(who(0, i) != who(1, i));
}

TEST_CASE("sums are the same at every run") {
  dro::concurrent_backend b(5);
  const auto sum = [&] {
    auto out = b.make<double>(20, 1);
    b.run(20, [view = b.view(out)](auto& team, index_t row) {
      const double s =
          team.template sum<double>(40, [&](index_t i) { return 1.0 / static_cast<double>(1 + row + 3 * i); });
      if (team.rank() == 0) view(row, 0) = s;
    });
    return out;
  };
  const auto once = sum();
  const auto again = sum();
  for (index_t row = 0; row < 20; ++row) CHECK(once(row, 0) == again(row, 0));
}

TEST_CASE("teams of no threads, or of too many, are refused") {
  CHECK_THROWS_WITH_AS(dro::concurrent_backend(0), "concurrent_backend: 2 teams of 0, expected 1 to 64 of 1 to 64",
                       dro::option_error);
  CHECK_THROWS_AS(dro::concurrent_backend(65), dro::option_error);
  CHECK_THROWS_AS(dro::concurrent_backend(3, 0), dro::option_error);
  CHECK_THROWS_AS(dro::concurrent_backend(3, 65), dro::option_error);
  CHECK(dro::concurrent_backend(64, 1).team_size() == 64);
  CHECK(dro::concurrent_backend(1, 64).teams() == 64);
  static_assert(!dro::host_executed<dro::concurrent_backend>);
}
