// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/estimate/calibration.hpp>

#include "support/backends.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using dro::status;
using dro::tail_fit;
namespace by = dro::calibration;

/// A query of 24 draws, all at `value` but the first.
template <class T>
std::vector<T> row_of(T first, T value) {
  std::vector<T> row(24, value);
  row[0] = first;
  return row;
}

}  // namespace

TEST_CASE_TEMPLATE("calibration at the edges", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  constexpr T inf = test::infinity<T>;
  typename S::backend b;

  struct edge {
    const char* what;
    std::vector<T> log_likelihood;
    status state;
    tail_fit tail;
  };
  std::vector<T> far_apart(24), duplicates(24), one_impossible(24);
  for (std::size_t i = 0; i < 24; ++i) {
    far_apart[i] = T(-20000) - T(7 * i);
    duplicates[i] = T(-2) - T(i / 12);
    one_impossible[i] = i == 5 ? -inf : -T(i) / 8;
  }
  const edge edges[] = {
      {"all equal", row_of<T>(-3, -3), status::ok, tail_fit::tied},
      {"all −inf", row_of<T>(-inf, -inf), status::impossible, tail_fit::unused},
      {"one −inf", one_impossible, status::ok, tail_fit::fitted},
      {"NaN", row_of<T>(test::nan<T>, -3), status::not_a_number, tail_fit::unused},
      {"+inf", row_of<T>(inf, -3), status::unbounded, tail_fit::unused},
      {"one weight of 1", row_of<T>(-3, -inf), status::ok, tail_fit::impossible},
      {"near −20000", far_apart, status::ok, tail_fit::fitted},
      {"duplicates", duplicates, status::ok, tail_fit::tied},
  };
  dro::host_matrix<T> values(8, 24);
  for (index_t q = 0; q < 8; ++q) {
    std::copy(edges[q].log_likelihood.begin(), edges[q].log_likelihood.end(), values.data() + q * 24);
  }
  dro::host_matrix<std::int32_t> tokens(8, 1);
  std::fill_n(tokens.data(), 8, 2);
  const auto likelihood = write(b, values);
  const auto lengths = write(b, tokens);
  const auto scores = dro::on_policy(b, likelihood);
  const auto w = dro::calibrate(b, scores, by::length_normalise{std::as_const(b).view(lengths)}, by::truncate{},
                                by::clip{-30, 3}, by::pareto_smooth{}, by::temper{0.75});
  const auto log_weights = read(b, w.log_weights), normalised = read(b, w.used.normalised);
  const auto reports = read(b, w.reports), ess = read(b, w.used.effective_sample_size);
  const auto raw_ess = read(b, w.raw.effective_sample_size);
  const auto raw_state = read(b, w.raw.status), state = read(b, w.used.status), tail = read(b, w.tail);
  for (index_t q = 0; q < 8; ++q) {
    const edge& e = edges[q];
    CAPTURE(e.what);
    CHECK(static_cast<status>(raw_state(q, 0)) == e.state);
    CHECK(static_cast<status>(state(q, 0)) == e.state);
    CHECK(static_cast<tail_fit>(tail(q, 0)) == e.tail);
    test::real total = 0;
    for (index_t i = 0; i < 24; ++i) {
      total += normalised(q, i);
      const bool was_impossible = values(q, i) == -inf;
      CHECK((log_weights(q, i) == -inf) == was_impossible);
    }
    if (e.state == status::ok) {
      DRO_CHECK_NEAR(total, 1, 2 * 24 * test::real(std::numeric_limits<T>::epsilon()));
      CHECK(ess(q, 0) >= 1 - 24 * std::numeric_limits<T>::epsilon());
      CHECK(ess(q, 0) <= 24 * (1 + 24 * std::numeric_limits<T>::epsilon()));
      CHECK(reports(q, 0) == T(0.5));
      CHECK(reports(q, 1) >= 0);
      CHECK(reports(q, 2) >= 0);
      CHECK(std::isnan(reports(q, 3)) == (e.tail != tail_fit::fitted));
      CHECK(reports(q, 4) >= 0);
      CHECK(reports(q, 4) <= 1);
    } else {
      CHECK(total == 0);
      CHECK(ess(q, 0) == 0);
      for (index_t s = 0; s < 5; ++s) CHECK(std::isnan(reports(q, s)));
    }
  }
  // All equal: nothing is cut, and no step but the stated power touches a weight.
  CHECK(reports(0, 1) == 0);
  CHECK(reports(0, 2) == 0);
  CHECK(reports(0, 4) == 1);
  CHECK(log_weights(0, 7) == T(-1.5));
  CHECK(normalised(5, 0) == 1);
  // A single possible draw: no β reaches 18 of 24.
  CHECK(reports(5, 4) == 0);
  CHECK(raw_ess(6, 0) < T(1.01));
  CHECK(ess(6, 0) >= T(18) * (1 - 24 * std::numeric_limits<T>::epsilon()));
}

TEST_CASE_TEMPLATE("calibration of one sample, of no sample and of no query", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto starts = write(b, test::column<std::int32_t>({0, 1, 1}));
  const auto likelihood = write(b, test::column<T>({-20000}));
  const auto groups = dro::grouping::ragged(std::as_const(b).view(starts), 1);
  const auto w =
      dro::calibrate(b, dro::on_policy(b, likelihood, groups), by::truncate{}, by::pareto_smooth{}, by::temper{1});
  CHECK(read(b, w.used.normalised)(0, 0) == 1);
  CHECK(read(b, w.log_weights)(0, 0) == -20000);
  CHECK(read(b, w.used.log_evidence)(0, 0) == -20000);
  const auto reports = read(b, w.reports);
  CHECK(reports(0, 0) == 0);
  CHECK(std::isnan(reports(0, 1)));
  CHECK(reports(0, 2) == 1);
  const auto tail = read(b, w.tail), state = read(b, w.used.status);
  CHECK(static_cast<tail_fit>(tail(0, 0)) == tail_fit::too_short);
  CHECK(static_cast<tail_fit>(tail(1, 0)) == tail_fit::unused);
  CHECK(static_cast<status>(state(1, 0)) == status::degenerate);

  const auto nothing = write(b, dro::host_matrix<T>(0, 1));
  const auto none = dro::calibrate(b, dro::on_policy(b, nothing, dro::grouping::uniform(0, 8)), by::pareto_smooth{});
  CHECK(read(b, none.reports).rows() == 0);
  CHECK(read(b, none.used.normalised).rows() == 0);
}
