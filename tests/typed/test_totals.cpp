// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <dro/em/totals.hpp>
#include <dro/estimate/importance_weights.hpp>

#include "support/backends.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

}  // namespace

TEST_CASE_TEMPLATE("totals are means over the queries that were fine", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  dro::step_totals<typename S::backend> totals(b);
  const auto add = [&](const std::vector<T>& values) {
    const auto likelihood = write(b, test::matrix<T>(static_cast<index_t>(values.size()) / 2, 2, values));
    const auto scores = dro::on_policy(b, likelihood);
    const auto w = dro::importance_weights(b, scores);
    totals.add(b, w, w.status, scores.groups());
  };
  add({-1, -1, -test::infinity<T>, -test::infinity<T>});
  add({-3, -3});
  add({0, -test::infinity<T>, test::nan<T>, 0});
  const auto s = totals.take(b);
  CHECK(s.count(dro::status::ok) == 3);
  CHECK(s.count(dro::status::impossible) == 1);
  CHECK(s.count(dro::status::not_a_number) == 1);
  CHECK(s.flagged() == 2);
  // Evidence −1, −3 and −log 2; ESS 2, 2, 1; variance 0, 0, 1; largest ½, ½, 1; entropy log 2, log 2, 0. Each value has
  // at most 4 roundings of a number below 4.
  const real tolerance = 16 * static_cast<real>(test::unit_roundoff<T>);
  DRO_CHECK_NEAR(s.evidence, (-4 - std::log(real(2))) / 3, tolerance);
  DRO_CHECK_NEAR(s.effective_sample_size, real(5) / 3, tolerance);
  DRO_CHECK_NEAR(s.weight_variance, real(1) / 3, tolerance);
  DRO_CHECK_NEAR(s.largest_weight, real(2) / 3, tolerance);
  DRO_CHECK_NEAR(s.entropy, 2 * std::log(real(2)) / 3, tolerance);
  CHECK(s.elbo == -test::infinity<double>);
  const auto empty = totals.take(b);
  CHECK(empty.count(dro::status::ok) == 0);
  CHECK(std::isnan(empty.evidence));  // of no query there is no mean
}
