// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/em/totals.hpp>
#include <dro/estimate/diagnostics.hpp>
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

TEST_CASE_TEMPLATE("totals of all that a step says, in one read", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  using B = typename S::backend;
  constexpr T none = -test::infinity<T>;
  B b;
  dro::step_totals<B> totals(b);
  // Queries: no sample hits, all hit, one of two hits, nothing is possible, NaN.
  const auto likelihood =
      write(b, test::matrix<T>(5, 2, std::vector<T>{-9, -9, -1, -1, 0, none, none, none, 0, test::nan<T>}));
  auto rankings = write(b, test::ranking_matrix({{0}, {0}, {0}, {1}, {0}, {1}, {0}, {1}, {0}, {1}}));
  dro::draws<B, T> z(b, std::move(rankings), dro::make_filled<T>(b, 10, 1, T(0)), dro::grouping::uniform(5, 2));
  z.set_multiplicity(b, write(b, test::matrix<T>(10, 1, std::vector<T>{1, 1, 1, 1, 3, 1, 1, 1, 1, 1})));
  z.set_log_kept(b, dro::make_filled<T>(b, 10, 1, T(0)));
  const auto scores = dro::on_policy(b, likelihood, z);
  const auto w = dro::importance_weights(b, scores);
  totals.add(b, z, scores, w, {.threshold = -2});
  totals.add_calibrated(b, scores, w);
  const auto shapes = write(b, test::matrix<T>(5, 1, std::vector<T>{T(0.9), T(0.1), test::nan<T>, T(0.71), T(0.7)}));
  totals.add_tails(b, std::as_const(b).view(shapes), static_cast<double>(T(0.7)));
  const auto noise = write(b, test::matrix<double>(1, 4, std::vector<double>{2, 6, 8, 20}));
  b.run(4, dro::detail::add_rows_program{std::as_const(b).view(noise), totals.gradient_noise_sums(b)});
  const auto s = totals.take(b);
  CHECK(s.count(dro::status::support) == 3);
  CHECK(s.flagged() == 2);
  CHECK(s.all() == 5);
  // Of the three queries used: m 2, 2, 4; ESS 2, 2, 3; χ² 0, 0, 1/3; standard error 0, 0, 1/3 (= √(χ²/(m − 1))).
  const real tolerance = 16 * static_cast<real>(test::unit_roundoff<T>);
  DRO_CHECK_NEAR(s.samples, real(8) / 3, tolerance);
  DRO_CHECK_NEAR(s.effective_share, real(7) / 8, tolerance);
  DRO_CHECK_NEAR(s.weight_variance, real(1) / 9, tolerance);
  DRO_CHECK_NEAR(s.standard_error, real(1) / 9, tolerance);
  DRO_CHECK_NEAR(s.evidence_error, real(1) / 9, tolerance);
  DRO_CHECK_NEAR(s.calibrated_sample_size, real(7) / 3, tolerance);
  DRO_CHECK_NEAR(s.calibrated_variance, real(1) / 9, tolerance);
  DRO_CHECK_NEAR(s.distinct_share, real(5) / 8, tolerance);
  DRO_CHECK_NEAR(s.kept_mass, 1, tolerance);
  // Hit shares 0, 1, ¾, and 0 where nothing is possible; with NaN nobody knows.
  CHECK(s.hits_known == 4);
  CHECK(s.no_hit == 2);
  CHECK(s.all_hit == 1);
  DRO_CHECK_NEAR(s.hit_share, real(7) / 16, tolerance);
  CHECK(s.tails_fitted == 4);
  CHECK(s.tails_heavy == 2);
  // Means of 3 and 4, and √((20/2 − 3²)/(2 − 1)) as the error.
  CHECK(s.gradient.queries == 2);
  CHECK(s.gradient.signal == 3);
  CHECK(s.gradient.variance == 4);
  CHECK(s.gradient.signal_error == 1);
  CHECK(s.gradient.signal_to_noise() == 0.75);
  const auto empty = totals.take(b);
  CHECK(empty.hits_known == 0);
  CHECK(empty.all() == 0);
  CHECK(std::isnan(empty.standard_error));
  CHECK(std::isnan(empty.distinct_share));
  CHECK(std::isnan(empty.gradient.signal));
}

TEST_CASE("adding waits for nothing, and one read takes all") {
  dro::deferred_backend b;
  dro::step_totals<dro::deferred_backend> totals(b);
  dro::draws<dro::deferred_backend, double> z(b, write(b, test::ranking_matrix({{0}, {1}, {1}, {0}})),
                                              dro::make_filled<double>(b, 4, 1, 0.0), dro::grouping::uniform(2, 2));
  const auto likelihood = write(b, test::matrix<double>(2, 2, std::vector<double>{-1, -2, -1, -1}));
  for (int step = 0; step < 3; ++step) {
    const auto scores = dro::on_policy(b, likelihood, z);
    const auto w = dro::importance_weights(b, scores);
    totals.add(b, z, scores, w);
    totals.add_calibrated(b, scores, w);
  }
  CHECK(b.reads() == 0);
  const auto s = totals.take(b);
  CHECK(b.reads() == 1);
  CHECK(s.used() == 6);
  CHECK(s.distinct_share == 1);
  CHECK(s.hits_known == 0);  // nobody said what a hit is
  CHECK(std::isnan(s.hit_share));
  CHECK(s.kept_mass == 1);
}

TEST_CASE("an error of the mean evidence needs one of every query") {
  dro::host_backend b(1);
  dro::step_totals<dro::host_backend> totals(b);
  const auto add = [&](dro::index_t samples) {
    const dro::draws<dro::host_backend, double> z(b, dro::host_matrix<dro::document_t>(samples, 1),
                                                  dro::host_matrix<double>(samples, 1),
                                                  dro::grouping::uniform(1, samples));
    dro::host_matrix<double> likelihood(samples, 1);
    likelihood(0, 0) = 1;
    const auto scores = dro::on_policy(b, likelihood, z);
    totals.add(b, z, scores, dro::importance_weights(b, scores));
  };
  add(4);
  const auto four = totals.take(b);
  CHECK(four.evidence_error == four.standard_error);
  add(4);
  add(1);
  const auto mixed = totals.take(b);
  CHECK(mixed.standard_error == four.standard_error);
  CHECK(std::isnan(mixed.evidence_error));
}
