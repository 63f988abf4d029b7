// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/grouping.hpp>

namespace {

using dro::grouping;
using dro::index_t;

static_assert(std::is_trivially_copyable_v<grouping>);
static_assert(std::is_trivially_copyable_v<dro::grouped_view<const float>>);

template <std::size_t Count>
grouping ragged(const std::int32_t (&offsets)[Count], index_t total) {
  return grouping::ragged({offsets, Count, 1, 1, 1}, total);
}

}  // namespace

TEST_CASE("uniform groups") {
  const auto g = grouping::uniform(3, 4);
  CHECK(g.queries() == 3);
  CHECK(g.total() == 12);
  CHECK(g.is_uniform());
  CHECK(g.per_query() == 4);
  for (index_t q = 0; q < 3; ++q) {
    CHECK(g.begin(q) == 4 * q);
    CHECK(g.size(q) == 4);
  }
  CHECK(grouping::uniform(0, 4).total() == 0);
  CHECK(grouping().queries() == 0);
  CHECK_THROWS_WITH_AS(static_cast<void>(grouping::uniform(2, -1)), "grouping: 2 queries of -1 samples",
                       dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(grouping::uniform(-2, 1)), dro::shape_error);
}

TEST_CASE("ragged groups") {
  const std::int32_t offsets[] = {0, 2, 2, 7};
  const auto g = ragged(offsets, 7);
  CHECK_FALSE(g.is_uniform());
  CHECK(g.queries() == 3);
  CHECK(g.total() == 7);
  CHECK(g.size(0) == 2);
  CHECK(g.size(1) == 0);
  CHECK(g.begin(2) == 2);
  CHECK(g.size(2) == 5);
}

TEST_CASE("offsets may lie apart") {
  const std::int32_t memory[] = {0, -9, -9, 2, -9, -9, 2, -9, -9, 7};
  const auto g = grouping::ragged({memory, 4, 1, 3, 1}, 7);
  CHECK(g.queries() == 3);
  for (index_t q = 0; q < 3; ++q) {
    CHECK(g.begin(q) == memory[3 * q]);
    CHECK(g.size(q) == memory[3 * q + 3] - memory[3 * q]);
    CHECK(g.offsets()(q + 1, 0) == memory[3 * q + 3]);
  }
  CHECK(g.offsets().rows == 4);
  CHECK(grouping::uniform(2, 2).offsets().rows == 0);
}

TEST_CASE("the mean size is rounded up") {
  const std::int32_t offsets[] = {0, 4, 4, 7};
  CHECK(grouping::uniform(4, 3).mean_size() == 3);
  CHECK(ragged(offsets, 7).mean_size() == 3);
  CHECK(grouping::uniform(5, 0).mean_size() == 0);
  CHECK(grouping::uniform(0, 3).mean_size() == 0);
}

TEST_CASE("a grouped view walks flat lists and tables, whatever their strides") {
  std::vector<int> values(48);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int>(i);
  const auto uniform = grouping::uniform(3, 4);
  const dro::grouped_view<int> flat({values.data(), 12, 1, 1, 1}, uniform, "x");
  const dro::grouped_view<int> strided({values.data(), 12, 1, 3, 1}, uniform, "x");
  const dro::grouped_view<int> rows({values.data(), 3, 4, 4, 1}, uniform, "x");
  const dro::grouped_view<int> columns({values.data(), 3, 4, 1, 3}, uniform, "x");
  const dro::grouped_view<int> padded({values.data(), 3, 4, 16, 2}, uniform, "x");
  for (int q = 0; q < 3; ++q) {
    for (int i = 0; i < 4; ++i) {
      CHECK(flat(q, i) == 4 * q + i);
      CHECK(strided(q, i) == 3 * (4 * q + i));
      CHECK(rows(q, i) == 4 * q + i);
      CHECK(columns(q, i) == q + 3 * i);
      CHECK(padded(q, i) == 16 * q + 2 * i);
    }
  }
  const std::int32_t offsets[] = {0, 2, 2, 7};
  const dro::grouped_view<int> list({values.data(), 7, 1, 5, 1}, ragged(offsets, 7), "x");
  CHECK(list(0, 1) == 5);
  CHECK(list(2, 0) == 10);
  CHECK(list(2, 4) == 30);
  CHECK(list.size(2) == 5);
  list(2, 4) = -1;
  CHECK(values[30] == -1);
}

TEST_CASE("one sample a query: a column is both a flat list and a table") {
  int values[] = {5, 6, 7};
  const dro::grouped_view<int> v({values, 3, 1, 1, 1}, grouping::uniform(3, 1), "x");
  CHECK(v(2, 0) == 7);
}

TEST_CASE("a grouped view of nothing is false") {
  CHECK_FALSE(dro::grouped_view<const double>());
  double one = 1;
  CHECK(dro::grouped_view<const double>({&one, 1, 1, 1, 1}, grouping::uniform(1, 1), "x"));
}

TEST_CASE("other shapes are refused by name") {
  double values[12] = {};
  using view = dro::grouped_view<double>;
  const auto uniform = grouping::uniform(3, 4);
  CHECK_THROWS_WITH_AS(view({values, 4, 3, 3, 1}, uniform, "log_q"), "log_q is [4 × 3], expected [12 × 1] or [3 × 4]",
                       dro::shape_error);
  CHECK_THROWS_AS(view({values, 1, 12, 12, 1}, uniform, "log_q"), dro::shape_error);
  const std::int32_t offsets[] = {0, 2, 4};
  CHECK_THROWS_WITH_AS(view({values, 2, 2, 2, 1}, ragged(offsets, 4), "weights"),
                       "weights is [2 × 2], expected [4 × 1]", dro::shape_error);
}
