// SPDX-License-Identifier: Apache-2.0
// How rows are laid over a GPU: arithmetic, so it is tested without one.
#include <doctest/doctest.h>

#include <bit>
#include <cstddef>

#include <dro/backend/cuda/row_plan.hpp>

namespace {

using dro::index_t;
using dro::detail::cuda::device_limits;
using dro::detail::cuda::kernel_limits;
using dro::detail::cuda::plan_rows;
using dro::detail::cuda::row_plan;

// An H200.
constexpr device_limits device{132, 2048, 228 * 1024, 1024, 227 * 1024};
constexpr kernel_limits kernel{1024, 227 * 1024 - 384};

row_plan plan(index_t rows, index_t width, std::size_t scratch = 0) {
  return plan_rows(device, kernel, rows, width, [=](int) { return scratch; });
}

}  // namespace

TEST_CASE("every plan can be launched and covers its rows") {
  for (const index_t rows : {1, 2, 100, 264, 265, 4096, 65536, 10'000'000}) {
    for (const index_t width : {0, 1, 2, 3, 16, 20, 33, 100, 255, 256, 1000, 1'000'000}) {
      for (const std::size_t scratch : {0U, 1U, 100U, 4096U, 60'000U, 200'000U, 232'064U, 232'065U, 5'000'000U}) {
        for (const kernel_limits& k : {kernel, kernel_limits{256, 100 * 1024}, kernel_limits{768, 48 * 1024}}) {
          CAPTURE(rows);
          CAPTURE(width);
          CAPTURE(scratch);
          const row_plan p = plan_rows(device, k, rows, width, [=](int) { return scratch; });
          REQUIRE(p.grid >= 1);
          REQUIRE(p.block % 32 == 0);
          REQUIRE(p.block <= k.threads);
          REQUIRE(std::has_single_bit(static_cast<unsigned>(p.team)));
          REQUIRE(p.block % p.team == 0);
          REQUIRE((p.team <= 32 || p.team == p.block));
          REQUIRE(p.scratch >= scratch);
          REQUIRE(p.scratch % (p.team < 32 ? 8 : 16) == 0);
          const auto of_block = static_cast<std::size_t>(p.teams_of_block()) * p.scratch;
          if (p.shared) {
            // Blocks are as many as rows need, and not one more.
            REQUIRE(of_block <= k.shared);
            REQUIRE(p.teams() >= static_cast<std::size_t>(rows));
            REQUIRE(p.teams() - static_cast<std::size_t>(p.teams_of_block()) < static_cast<std::size_t>(rows));
          } else {
            REQUIRE((p.grid == 1 || p.teams() * p.scratch <= std::size_t{256} << 20));
            REQUIRE(static_cast<index_t>(p.grid) * p.block <= index_t{device.processors} * device.threads);
          }
        }
      }
    }
  }
}

TEST_CASE("the team is as wide as the row") {
  CHECK(plan(100, 1).team == 1);
  CHECK(plan(100, 5).team == 8);
  CHECK(plan(100, 16).team == 16);
  CHECK(plan(100, 20).team == 32);
  CHECK(plan(100, 255).team == 32);
}

TEST_CASE("a few wide rows take a block each") {
  CHECK(plan(1, 256).team == 256);
  CHECK(plan(1, 65536).team == 1024);
  CHECK(plan(264, 65536).team == 1024);  // two for each multiprocessor
  CHECK(plan_rows(device, {768, 0}, 1, 65536, [](int) { return std::size_t{0}; }).team ==
        512);  // a kernel with many registers
}

TEST_CASE("wide rows that warps would not fill the device with take blocks that do so twice") {
  // 270,336 threads are resident.
  CHECK(plan(1000, 65536).team == 1024);  // 541 would fill it twice
  CHECK(plan(1000, 300).team == 512);     // no more than items
  CHECK(plan(2000, 65536).team == 512);
  CHECK(plan(8447, 65536).team == 128);
  CHECK(plan(8448, 65536).team == 32);       // with warps it is full
  CHECK(plan(1000, 255).team == 32);         // not wide
  CHECK(plan(265, 65536, 1000).team == 32);  // a block would have to share scratch memory
  CHECK(plan(264, 65536, 1000).team == 1024);
  for (index_t rows = 1; rows < 8448; ++rows) {
    const row_plan p = plan(rows, 65536);
    REQUIRE((p.team == 1024 || rows * p.team >= 2 * 270'336));
    REQUIRE(p.block == p.team);
  }
}

TEST_CASE("where rows are many, few threads are left without an item") {
  CHECK(plan(1'000'000, 16).team == 16);   // 16 of 16
  CHECK(plan(1'000'000, 20).team == 8);    // 20 of 24; 16 threads have 20 items for 32 turns
  CHECK(plan(1'000'000, 100).team == 16);  // 100 of 112; 32 threads 100 for 128
  CHECK(plan(1'000'000, 5).team == 2);     // 5 of 6
}

TEST_CASE("where rows are many, a thread has as many items as the program asks for") {
  const auto team = [](index_t rows, index_t width, index_t items) {
    return plan_rows(
               device, kernel, rows, width, [](int) { return std::size_t{0}; }, items)
        .team;
  };
  CHECK(team(1'000'000, 16, 4) == 4);
  CHECK(team(1'000'000, 16, 8) == 2);
  CHECK(team(1'000'000, 16, 100) == 1);
  CHECK(team(1'000'000, 20, 4) == 4);  // of 8 threads each would have 3
  // Not below a third of 270,336 threads.
  CHECK(team(65'536, 16, 4) == 4);
  CHECK(team(65'536, 16, 100) == 2);
  CHECK(team(22'528, 16, 4) == 4);
  CHECK(team(22'527, 16, 4) == 8);
  CHECK(team(5'632, 16, 4) == 16);
  CHECK(team(1, 16, 4) == 16);
}

TEST_CASE("scratch memory") {
  SUBCASE("of neighbouring teams begins in different banks") {
    CHECK(plan(1'000'000, 1, 64).scratch == 72);
    CHECK(plan(1'000'000, 1, 72).scratch == 72);
    CHECK(plan(1'000'000, 32, 72).scratch == 80);
  }
  SUBCASE("makes teams larger rather than leave a multiprocessor empty") {
    // 400 bytes are 51 words of 8, an odd number: 228 KiB hold 572 teams, and 683 threads are a third of 2048.
    CHECK(plan(1'000'000, 1, 400).team == 2);
    CHECK(plan(1'000'000, 1, 4000).team == 16);
  }
  SUBCASE("moves to device memory when no block can hold it") {
    CHECK(plan(100, 32, 227 * 1024 - 384).shared);
    const row_plan p = plan(100'000, 32, 227 * 1024);
    CHECK_FALSE(p.shared);
    CHECK(p.teams() * p.scratch <= std::size_t{256} << 20);
    CHECK(p.teams() > 1000);                                // 256 MiB hold 1154 of them
    CHECK(plan(1, 32, std::size_t{1} << 30).teams() == 4);  // one block at least, whatever it takes
  }
}
