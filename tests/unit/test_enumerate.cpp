// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/model/concepts.hpp>
#include <dro/models/table.hpp>
#include <dro/ranking/enumerate.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;

static_assert(dro::proposal<dro::exhaustive<double>, dro::host_backend, dro::models::table_rows>);
static_assert(dro::proposal<dro::exhaustive<float>, dro::host_backend, dro::models::table_rows>);

}  // namespace

TEST_CASE("the number of rankings") {
  CHECK(dro::ranking_count(1, 1) == 1);
  CHECK(dro::ranking_count(5, 2) == 20);
  CHECK(dro::ranking_count(5, 5) == 120);
  CHECK(dro::ranking_count(20, 5) == 1860480);
  CHECK(dro::ranking_count(20, 20) == 2432902008176640000);  // 20!, the largest factorial below 2^63
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::ranking_count(21, 21)),
                       "rankings of 21 of 21 documents are too many to count", dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::ranking_count(3, 4)),
                       "select is 4, expected 1 to 3, the number of documents", dro::option_error);
  CHECK_THROWS_AS(static_cast<void>(dro::ranking_count(3, 0)), dro::option_error);
}

TEST_CASE("all rankings once, in lexicographic order, and back to their number") {
  for (index_t n = 1; n <= 5; ++n) {
    for (index_t select = 1; select <= n; ++select) {
      const auto all = dro::enumerate_rankings(n, select);
      const auto expected = test::all_rankings(n, select);
      REQUIRE(all.rows() == static_cast<index_t>(expected.size()));
      const auto view = dro::row_major_view(all.data(), all.rows(), all.cols());
      for (index_t row = 0; row < all.rows(); ++row) {
        CHECK(test::ranking_of(all, row) == expected[static_cast<std::size_t>(row)]);
        CHECK(dro::ranking_code(view, row, n) == row);
      }
    }
  }
}

TEST_CASE("more rankings than there is memory for are refused") {
  CHECK_THROWS_WITH_AS((void)dro::enumerate_rankings(30, 8),
                       "rankings of 8 of 30 documents are 235989936000, too many to enumerate", dro::option_error);
}

TEST_CASE("what is not a ranking has no number") {
  const auto list = test::ranking_matrix({{0, 0}, {0, 3}, {-1, 2}, {2, dro::no_document}});
  const auto view = dro::row_major_view(list.data(), list.rows(), list.cols());
  for (index_t row = 0; row < 4; ++row) CHECK(dro::ranking_code(view, row, 3) == -1);
}

TEST_CASE("the exhaustive proposal gives every query every ranking, with log q uniform") {
  dro::host_backend b(1);
  const auto z = dro::exhaustive<double>(4).draw(b, dro::models::table_rows{0, 3}, {1, 2});
  CHECK(z.groups().queries() == 3);
  CHECK(z.groups().per_query() == 12);
  CHECK(z.select() == 2);
  const auto expected = test::all_rankings(4, 2);
  for (index_t draw = 0; draw < 36; ++draw) {
    CHECK(test::ranking_of(z.rankings(), draw) == expected[static_cast<std::size_t>(draw % 12)]);
    // Two roundings of numbers below 3.
    DRO_CHECK_NEAR(z.log_proposal()(draw, 0), -std::log(test::real(12)), 6 * test::unit_roundoff<double>);
  }
}

TEST_CASE("draws check their shapes") {
  dro::host_backend b(1);
  using draws = dro::draws<dro::host_backend, double>;
  using rankings = dro::host_matrix<dro::document_t>;
  using column = dro::host_matrix<double>;
  CHECK_THROWS_WITH_AS(draws(b, rankings(5, 2), column(5, 1), dro::grouping::uniform(2, 3)),
                       "draws: rankings is [5 × 2] for 6 draws", dro::shape_error);
  CHECK_THROWS_WITH_AS(draws(b, rankings(6, 2), column(5, 1), dro::grouping::uniform(2, 3)),
                       "draws: log_proposal is [5 × 1], expected [6 × 1]", dro::shape_error);
  const draws ragged(b, rankings(6, 2), column(6, 1), test::column(std::vector<std::int32_t>{0, 4, 4, 6}));
  CHECK(ragged.groups().queries() == 3);
  CHECK(ragged.groups().size(1) == 0);
  CHECK(ragged.groups().total() == 6);
  // Offsets move along with the draws.
  draws source(b, rankings(6, 2), column(6, 1), test::column(std::vector<std::int32_t>{0, 4, 6}));
  const draws moved = std::move(source);
  CHECK(moved.groups().begin(1) == 4);
}
