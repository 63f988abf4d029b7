// SPDX-License-Identifier: Apache-2.0
// Arguments that do not fit together are refused before any work: each of these once read or wrote out of bounds.
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include <doctest/doctest.h>

#include <dro/dro.hpp>
#include <dro/models/table.hpp>

namespace {

using dro::index_t;
using backend = dro::host_backend;

constexpr index_t huge = index_t{1} << 40;

dro::models::table_generator<backend> generator_of(backend& b, std::int32_t answer) {
  const dro::host_matrix<double> logits(2 * 6, 3);  // two questions, six rankings of two of three documents
  return {b, 3, 2, logits, dro::host_matrix<std::int32_t>(2, 1, {0, answer})};
}

/// A model whose second gradient has the wrong shape.
struct half_mended_model {
  dro::host_matrix<double> first{2, 1}, first_gradient{2, 1}, second{3, 1}, second_gradient{2, 1};
  void for_each_parameter(auto&& f) {
    const backend b(1);
    f(b.view(first), b.view(first_gradient));
    f(b.view(second), b.view(second_gradient));
  }
};

}  // namespace

TEST_CASE("sizes whose product overflows") {
  CHECK_THROWS_AS(dro::host_matrix<double>(huge, huge), dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(dro::grouping::uniform(huge, huge)), dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(dro::enumerate_rankings(20, 20)), dro::option_error);
}

TEST_CASE("values that do not fill a matrix") {
  CHECK_THROWS_WITH_AS(dro::host_matrix<double>(2, 2, {1.0, 2.0, 3.0}), "host_matrix: 3 values for shape [2 × 2]",
                       dro::shape_error);
}

TEST_CASE("ragged draws without offsets, or with offsets in a row") {
  backend b(1);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::grouping::ragged({}, 4)),
                       "grouping: ragged by offsets [0 × 0] over 4 draws, expected one column of queries + 1",
                       dro::shape_error);
  using draws = dro::draws<backend, double>;
  const auto make = [&](dro::host_matrix<std::int32_t> offsets) {
    return draws(b, dro::host_matrix<dro::document_t>(4, 2), dro::host_matrix<double>(4, 1), std::move(offsets));
  };
  CHECK_THROWS_AS(make(dro::host_matrix<std::int32_t>(1, 3, {0, 2, 4})), dro::shape_error);
  CHECK_THROWS_AS(make(dro::host_matrix<std::int32_t>(0, 1)), dro::shape_error);
  const auto good = make(dro::host_matrix<std::int32_t>(3, 1, {0, 3, 4}));
  CHECK(good.groups().size(0) == 3);
  CHECK(good.groups().size(1) == 1);
}

TEST_CASE("draws move and do not copy: their groups point into their offsets") {
  static_assert(!std::is_copy_constructible_v<dro::draws<backend, double>>);
  static_assert(std::is_nothrow_move_constructible_v<dro::draws<backend, double>>);
}

TEST_CASE("coefficients and totals of weights for other queries") {
  backend b(1);
  const dro::host_matrix<double> flat(8, 1);
  const auto two = dro::importance_weights(b, dro::on_policy(b, flat, dro::grouping::uniform(2, 4)));
  const auto four = dro::on_policy(b, flat, dro::grouping::uniform(4, 2));
  CHECK_THROWS_AS(static_cast<void>(dro::coefficients(b, dro::evidence<>{}, four, two)), dro::shape_error);
  dro::step_totals<backend> totals(b);
  CHECK_THROWS_AS(totals.add(b, two, two.status, dro::grouping::uniform(4, 2)), dro::shape_error);
}

TEST_CASE("a source of randomness without a step is at step 0") {
  CHECK(dro::random_source{7}.key() == dro::random_key{7, 0});
}

TEST_CASE("rankings of no documents have no gradient") {
  backend b(1);
  const dro::host_matrix<double> scores(1, 3);
  const dro::host_matrix<dro::document_t> rankings(2, 0);
  const dro::host_matrix<double> c(2, 1, {1.0, -1.0});
  dro::host_matrix<double> gradient(1, 3);
  dro::accumulate_plackett_luce_gradient(b, scores, b.view(rankings), dro::grouping::uniform(1, 2), c,
                                         b.view(gradient));
  for (index_t j = 0; j < 3; ++j) CHECK(gradient(0, j) == 0);
}

TEST_CASE("table generator: answers, rows and K that it does not have") {
  backend b(1);
  CHECK_THROWS_WITH_AS(generator_of(b, 3), "table_generator: the answer of query 1 is 3, expected 0 to 2",
                       dro::shape_error);
  const auto generator = generator_of(b, 2);
  const auto lists = [&](index_t queries, index_t select) {
    return dro::exhaustive(3).draw(b, dro::models::table_rows{0, queries}, {1, select});
  };
  CHECK_NOTHROW(static_cast<void>(generator.log_likelihood(b, {0, 2}, lists(2, 2))));
  CHECK_THROWS_AS(static_cast<void>(generator.log_likelihood(b, {1, 2}, lists(2, 2))), dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(generator.log_likelihood(b, {0, 1}, lists(2, 2))), dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(generator.log_likelihood(b, {0, 2}, lists(2, 1))), dro::shape_error);
}

TEST_CASE("a batch larger than everything is one batch") {
  struct source {
    static std::size_t size() { return 3; }
    static index_t batch(std::span<const index_t> positions) { return static_cast<index_t>(positions.size()); }
  };
  dro::loop_position position;
  index_t seen = 0;
  const bool done = dro::training_loop(
      source{}, {.iterations = 2, .batch_size = std::numeric_limits<index_t>::max(), .seed = 1}, position,
      [&](index_t size) { seen += size; }, [] { return 0; });
  CHECK(done);
  CHECK(seen == 6);
}

TEST_CASE("an optimiser that refused a model takes it once it is mended") {
  backend b(1);
  dro::sgd<backend> optimizer(b);
  half_mended_model m;
  CHECK_THROWS_AS(optimizer.step(b, m), dro::shape_error);
  m.second_gradient = dro::host_matrix<double>(3, 1, {1.0, 1.0, 1.0});
  CHECK_NOTHROW(optimizer.step(b, m));
  CHECK(m.second(0, 0) == doctest::Approx(0.01));
}

TEST_CASE("rows of a table beyond its end, however far") {
  backend b(1);
  const dro::models::table_selector selector(b, dro::host_matrix<double>(2, 3));
  const dro::random_state random(b, 1);
  constexpr dro::index_t most = std::numeric_limits<dro::index_t>::max();
  for (const auto& rows : {dro::models::table_rows{1, 2}, {most, 1}, {1, most}, {most, most}, {-1, 1}, {0, -1}}) {
    CHECK_THROWS_AS((void)selector.draw(b, rows, {1, 1}, random.source(b)), dro::shape_error);
  }
}

TEST_CASE("threads beyond reason") {
  CHECK_THROWS_AS(dro::host_backend{std::numeric_limits<int>::max()}, dro::option_error);
}
