// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/estimate/calibration.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"

namespace {

using dro::host_matrix;
using dro::index_t;
using dro::status;
using dro::tail_fit;
using test::real;
namespace by = dro::calibration;

constexpr double epsilon = std::numeric_limits<double>::epsilon();

host_matrix<double> logs(index_t rows, index_t cols, const std::vector<double>& weights) {
  auto m = test::matrix<double>(rows, cols, weights);
  for (double& v : test::elements(m)) v = std::log(v);
  return m;
}

template <class Step, class Result>
double report(dro::host_backend& b, const Result& w, index_t q) {
  return read(b, w.template report<Step>(b))(q, 0);
}

/// Σ exp(β x)² is (Σ exp(β x))² / this.
real ess_at(const std::vector<real>& log_weights, real beta) {
  std::vector<real> x, twice;
  for (const real v : log_weights) {
    if (v == -test::infinity<real>) continue;
    x.push_back(beta * v);
    twice.push_back(2 * beta * v);
  }
  return std::exp(2 * test::log_sum_exp(x) - test::log_sum_exp(twice));
}

/// Log-weights of a few nats, a few of them far out: multiples of 2^-12.
host_matrix<double> ordinary_scores(index_t queries, index_t m, std::uint64_t seed) {
  auto x = test::random_matrix<double>(queries, m, -4, 0, seed);
  for (index_t q = 0; q < queries; ++q) x(q, q % m) += 3;
  return x;
}

}  // namespace

TEST_CASE("truncation is Ionides' min(w, mean √m)") {
  dro::host_backend b;
  // Mean 4 and m = 4: the limit is 8, and 5 of 16 are cut. The second query stays below its limit.
  const auto x = logs(2, 4, {1, 1, 1, 13, 1, 2, 3, 2});
  const auto w = dro::calibrate(b, dro::on_policy(b, x), by::truncate{});
  DRO_CHECK_NEAR(report<by::truncate>(b, w, 0), 5.0 / 16, 8 * epsilon);
  CHECK(report<by::truncate>(b, w, 1) == 0);
  const std::vector<double> expected = {1 / 11., 1 / 11., 1 / 11., 8 / 11., 1 / 8., 2 / 8., 3 / 8., 2 / 8.};
  for (index_t i = 0; i < 8; ++i) {
    DRO_CHECK_NEAR(w.used.normalised.data()[i], expected[static_cast<std::size_t>(i)], 8 * epsilon);
  }
  DRO_CHECK_NEAR(w.log_weights(0, 3), std::log(8), 8 * epsilon);
  // Raw diagnostics first, then those of what is used.
  DRO_CHECK_NEAR(w.raw.effective_sample_size(0, 0), 256. / 172, 32 * epsilon);
  DRO_CHECK_NEAR(w.used.effective_sample_size(0, 0), 121. / 67, 32 * epsilon);
  DRO_CHECK_NEAR(w.raw.log_evidence(0, 0), std::log(4), 8 * epsilon);
  DRO_CHECK_NEAR(w.used.log_evidence(0, 0), std::log(11. / 4), 8 * epsilon);
  DRO_CHECK_NEAR(w.used.elbo(0, 0), std::log(8) / 4, 8 * epsilon);
}

TEST_CASE("clipping is relative to the mean weight, and what is impossible stays so") {
  dro::host_backend b;
  auto x = logs(2, 4, {1, 2, 4, 9, 8, 8, 1, 1});
  x(1, 3) = -test::infinity<double>;
  const auto w = dro::calibrate(b, dro::on_policy(b, x), by::clip{-std::log(2), std::log(2)});
  // Mean 4, so [2, 8]: 1 → 2 and 9 → 8, 2 of 16 moved. Then mean 17/4: 1 → 17/8, 9/8 of 17 moved.
  DRO_CHECK_NEAR(report<by::clip>(b, w, 0), 2.0 / 16, 8 * epsilon);
  DRO_CHECK_NEAR(report<by::clip>(b, w, 1), 9.0 / (8 * 17), 8 * epsilon);
  const std::vector<double> expected = {2, 2, 4, 8, 8, 8, 17. / 8, 0};
  for (index_t i = 0; i < 8; ++i) {
    DRO_CHECK_NEAR(std::exp(w.log_weights.data()[i]), expected[static_cast<std::size_t>(i)], 32 * epsilon);
  }
  // Without limits nothing moves.
  CHECK(report<by::clip>(b, dro::calibrate(b, dro::on_policy(b, x), by::clip{}), 0) == 0);
}

TEST_CASE("length normalisation takes the likelihood, and not the ratio, to the power 1/|y|") {
  dro::host_backend b;
  const auto prior = logs(3, 2, {0.5, 0.25, 0.5, 0.25, 0.5, 0.25});
  const auto proposal = logs(3, 2, {0.25, 0.25, 0.25, 0.25, 0.25, 0.25});
  const auto likelihood = logs(3, 2, {1. / 16, 1. / 256, 1. / 16, 1. / 256, 1. / 16, 1. / 256});
  const host_matrix<std::int32_t> lengths(3, 1, {4, 1, 0});
  const auto w =
      dro::calibrate(b, dro::off_policy(b, prior, likelihood, proposal), by::length_normalise{b.view(lengths)});
  // ρ = 2, 1; f^(1/4) = 1/2, 1/4; so w = 1, 1/4. With one token, or none: 1/8, 1/256.
  for (const auto& [q, first, second] : {std::tuple{0, 1., 1. / 4}, {1, 1. / 8, 1. / 256}, {2, 1. / 8, 1. / 256}}) {
    DRO_CHECK_NEAR(std::exp(w.log_weights(q, 0)), first, 16 * epsilon);
    DRO_CHECK_NEAR(std::exp(w.log_weights(q, 1)), second, 16 * epsilon);
    DRO_CHECK_NEAR(w.used.normalised(q, 0), first / (first + second), 16 * epsilon);
    CHECK(report<by::length_normalise>(b, w, q) == (q == 0 ? 0.25 : 1));
  }
  DRO_CHECK_NEAR(w.used.log_evidence(0, 0), std::log(5. / 8), 16 * epsilon);
}

TEST_CASE("tempering finds the largest power that reaches the effective sample size") {
  dro::host_backend b;
  // Two weights 1 and r: (1 + r)²/(1 + r²) = 1.6 at r = 1/3. From r = 1/81 that takes β = 1/4.
  const auto two = logs(1, 2, {1, 1. / 81});
  const auto w = dro::calibrate(b, dro::on_policy(b, two), by::temper{0.8});
  DRO_CHECK_NEAR(report<by::temper>(b, w, 0), 0.25, 8 * epsilon);
  DRO_CHECK_NEAR(w.used.normalised(0, 0), 0.75, 8 * epsilon);
  DRO_CHECK_NEAR(w.log_weights(0, 1), -std::log(3), 8 * epsilon);

  // Against the definition, over queries and targets. ESS is monotone in β, so β falls as the target rises.
  const index_t m = 12;
  const auto x = ordinary_scores(6, m, 1);
  std::vector<double> last(6, 1);
  for (const double target : {0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0}) {
    const auto t = dro::calibrate(b, dro::on_policy(b, x), by::temper{target});
    for (index_t q = 0; q < 6; ++q) {
      const double beta = report<by::temper>(b, t, q);
      CHECK(beta <= last[static_cast<std::size_t>(q)]);
      last[static_cast<std::size_t>(q)] = beta;
      const auto row = test::row(x, q);
      // Exponents below 8 with an error of a few u each, in 2 m terms.
      DRO_CHECK_NEAR(t.used.effective_sample_size(q, 0), ess_at(row, beta), m * 100 * epsilon);
      CHECK(ess_at(row, beta) >= target * m * (1 - 100 * epsilon));
      if (beta < 1) CHECK(ess_at(row, beta + 1e-6) < target * m * (1 + 100 * epsilon));
    }
  }
  CHECK(*std::max_element(last.begin(), last.end()) < 1e-6);

  // Three of eight possible: half of eight is out of reach, and the three weigh the same.
  auto few = host_matrix<double>(1, 8);
  std::fill_n(few.data(), 8, -test::infinity<double>);
  few(0, 1) = -1;
  few(0, 4) = -5;
  few(0, 6) = -30;
  const auto flat = dro::calibrate(b, dro::on_policy(b, few), by::temper{0.5});
  CHECK(report<by::temper>(b, flat, 0) == 0);
  for (index_t i = 0; i < 8; ++i) {
    DRO_CHECK_NEAR(flat.used.normalised(0, i), i == 1 || i == 4 || i == 6 ? 1. / 3 : 0, epsilon);
  }
}

TEST_CASE("steps together are the steps one after the other") {
  dro::host_backend b;
  const auto x = ordinary_scores(5, 60, 2);
  const auto all =
      dro::calibrate(b, dro::on_policy(b, x), by::truncate{}, by::clip{-2, 1.5}, by::pareto_smooth{}, by::temper{0.9});
  const auto truncated = dro::calibrate(b, dro::on_policy(b, x), by::truncate{});
  const auto clipped = dro::calibrate(b, dro::on_policy(b, truncated.log_weights), by::clip{-2, 1.5});
  const auto smoothed = dro::calibrate(b, dro::on_policy(b, clipped.log_weights), by::pareto_smooth{});
  const auto tempered = dro::calibrate(b, dro::on_policy(b, smoothed.log_weights), by::temper{0.9});
  // Each path rounds log-weights of a few nats a few times more; k̂ and β pass such errors on by less than 1e3.
  constexpr double tolerance = 1e4 * epsilon;
  for (index_t q = 0; q < 5; ++q) {
    DRO_CHECK_NEAR(report<by::truncate>(b, all, q), report<by::truncate>(b, truncated, q), tolerance);
    DRO_CHECK_NEAR(report<by::clip>(b, all, q), report<by::clip>(b, clipped, q), tolerance);
    DRO_CHECK_NEAR(report<by::pareto_smooth>(b, all, q), report<by::pareto_smooth>(b, smoothed, q), tolerance);
    DRO_CHECK_NEAR(report<by::temper>(b, all, q), report<by::temper>(b, tempered, q), tolerance);
    CHECK(report<by::clip>(b, all, q) > 0);
    CHECK(report<by::temper>(b, all, q) < 1);
    for (index_t i = 0; i < 60; ++i) {
      DRO_CHECK_NEAR(all.used.normalised(q, i), tempered.used.normalised(q, i), tolerance);
      DRO_CHECK_NEAR(all.log_weights(q, i), tempered.log_weights(q, i), tolerance);
    }
  }
}

TEST_CASE("calibrated weights: sum, effective sample size, shifts and permutations") {
  dro::host_backend b;
  for (const index_t m : {1, 2, 8, 21, 90}) {
    CAPTURE(m);
    const auto x = ordinary_scores(7, m, 3);
    const auto weigh = [&](const host_matrix<double>& values) {
      return dro::calibrate(b, dro::on_policy(b, values), by::truncate{}, by::clip{-3, 2}, by::pareto_smooth{},
                            by::temper{0.6});
    };
    const auto w = weigh(x);
    for (index_t q = 0; q < 7; ++q) {
      const auto row = test::row(w.used.normalised, q);
      const real slack = static_cast<real>(m) * 2 * epsilon;
      DRO_CHECK_NEAR(std::accumulate(row.begin(), row.end(), real(0)), 1, slack);
      CHECK(w.used.effective_sample_size(q, 0) >= 1 - slack);
      CHECK(w.used.effective_sample_size(q, 0) <= m * (1 + slack));
    }

    // Multiples of 2^-12 below 2^15 are exact after the shift: the same bits come out.
    auto shifted = x;
    for (double& v : test::elements(shifted)) v -= 20000;
    const auto far = weigh(shifted);
    CHECK(test::same(far.used.normalised, w.used.normalised));
    for (index_t q = 0; q < 7; ++q) {
      for (index_t s = 0; s < 4; ++s) {
        CHECK((far.reports(q, s) == w.reports(q, s) || std::isnan(w.reports(q, s))));
      }
      DRO_CHECK_NEAR(far.raw.log_evidence(q, 0), w.raw.log_evidence(q, 0) - 20000, 4 * 20000 * epsilon);
    }

    // Reversed: sums round in another order.
    auto reversed = x;
    for (index_t q = 0; q < 7; ++q) std::reverse(reversed.data() + q * m, reversed.data() + (q + 1) * m);
    const auto back = weigh(reversed);
    for (index_t q = 0; q < 7; ++q) {
      // Equal draws are put in order by their place, so only the sorted weights of a query can be compared.
      auto ours = test::row(w.used.normalised, q), theirs = test::row(back.used.normalised, q);
      std::sort(ours.begin(), ours.end());
      std::sort(theirs.begin(), theirs.end());
      for (std::size_t i = 0; i < ours.size(); ++i) DRO_CHECK_NEAR(ours[i], theirs[i], 1e4 * epsilon);
      if (std::set<double>(x.data() + q * m, x.data() + (q + 1) * m).size() != static_cast<std::size_t>(m)) continue;
      for (index_t i = 0; i < m; ++i) {
        DRO_CHECK_NEAR(back.used.normalised(q, m - 1 - i), w.used.normalised(q, i), 1e4 * epsilon);
      }
    }
  }
}

TEST_CASE("a draw that counts n times is n equal draws") {
  dro::host_backend b;
  auto distinct = ordinary_scores(1, 30, 4);
  distinct(0, 0) += 3;
  test::numbers next(5);
  host_matrix<double> counts(30, 1);
  std::vector<double> repeated;
  for (index_t i = 0; i < 30; ++i) {
    counts(i, 0) = static_cast<double>(next.word() % 4);
    if (i == 0) counts(i, 0) = 2;
    if (i == 9) counts(i, 0) = 0;
    repeated.insert(repeated.end(), static_cast<std::size_t>(counts(i, 0)), distinct(0, i));
  }
  const auto m = static_cast<index_t>(repeated.size());
  REQUIRE(m > 40);
  distinct(0, 9) = test::nan<double>;  // counts for nothing, so it spoils nothing
  const auto groups = dro::grouping::uniform(1, 30);
  const auto expanded = test::matrix<double>(1, m, repeated);
  const auto counted = dro::on_policy(b, distinct, groups).with({}, {b.view(std::as_const(counts)), groups, "counts"});
  const auto compare = [&](const auto&... steps) {
    const auto w = dro::calibrate(b, counted, steps...);
    const auto e = dro::calibrate(b, dro::on_policy(b, expanded), steps...);
    for (index_t s = 0; s < w.reports.cols(); ++s) DRO_CHECK_NEAR(w.reports(0, s), e.reports(0, s), 1e4 * epsilon);
    index_t j = 0;
    for (index_t i = 0; i < 30; ++i) {
      real together = 0;
      for (index_t c = 0; c < static_cast<index_t>(counts(i, 0)); ++c) together += e.used.normalised(0, j++);
      DRO_CHECK_NEAR(w.used.normalised(0, i), together, 1e4 * epsilon);
      if (counts(i, 0) == 0) CHECK((w.log_weights(0, i) == distinct(0, i) || i == 9));
    }
    CHECK(std::isnan(w.log_weights(0, 9)));
    CHECK(w.used.normalised(0, 9) == 0);
    return w.reports(0, 0);
  };
  CHECK(compare(by::truncate{}) > 0);
  CHECK(compare(by::clip{-1, 1}) > 0);
  CHECK(compare(by::pareto_smooth{}) > 0);
  CHECK(compare(by::temper{0.9}) < 1);
}

TEST_CASE("used weights go where importance weights go, and nothing is read back") {
  dro::deferred_backend b;
  const auto x = ordinary_scores(3, 8, 6);
  const auto likelihood = write(b, x);
  const auto scores = dro::on_policy(b, likelihood);
  const auto w = dro::calibrate(b, scores, by::truncate{}, by::temper{0.7});
  const auto c = dro::coefficients(b, dro::evidence<dro::baseline::none>{}, scores, w.used);
  CHECK(b.reads() == 0);
  CHECK(b.synchronisations() == 0);
  const auto weights = read(b, w.used.normalised), selector = read(b, c.selector);
  for (index_t q = 0; q < 3; ++q) {
    for (index_t i = 0; i < 8; ++i) DRO_CHECK_NEAR(3 * selector(q, i), weights(q, i), 4 * epsilon);
  }
}

TEST_CASE("ratios are smoothed over all queries together") {
  dro::host_backend b;
  // Six queries of 8 draws; one ρ is NaN and one +inf.
  const auto likelihood = test::random_matrix<double>(6, 8, -9, 0, 7);
  auto prior = test::random_matrix<double>(6, 8, -5, 0, 8);
  const auto proposal = test::random_matrix<double>(6, 8, -2, 0, 9);
  prior(1, 3) = test::nan<double>;
  prior(4, 0) = test::infinity<double>;
  const auto scores = dro::off_policy(b, prior, likelihood, proposal);
  const auto rho = dro::smooth_ratios(b, scores);
  CHECK(rho.log_weights.rows() == 48);
  CHECK(rho.log_weights.cols() == 1);
  // The same from a list of the 46 that are finite.
  std::vector<double> finite;
  for (index_t i = 0; i < 48; ++i) {
    if (i != 11 && i != 32) finite.push_back(prior.data()[i] - proposal.data()[i]);
  }
  const auto list = test::matrix<double>(1, 46, finite);
  const auto w = dro::calibrate(b, dro::on_policy(b, list), by::pareto_smooth{});
  CHECK(std::isfinite(report<by::pareto_smooth>(b, w, 0)));
  DRO_CHECK_NEAR(report<by::pareto_smooth>(b, rho, 0), report<by::pareto_smooth>(b, w, 0), 1e4 * epsilon);
  index_t changed = 0;
  for (index_t i = 0, j = 0; i < 48; ++i) {
    if (i == 11 || i == 32) continue;
    DRO_CHECK_NEAR(rho.log_weights(i, 0), w.log_weights(0, j), 1e4 * epsilon);
    changed += std::abs(rho.log_weights(i, 0) - list(0, j)) > 1e-6;
    ++j;
  }
  CHECK(changed <= dro::pareto_tail_length(46));
  CHECK(changed >= dro::pareto_tail_length(46) - 1);  // the largest may be held at where it was
  CHECK(std::isnan(rho.log_weights(11, 0)));
  CHECK(rho.log_weights(32, 0) == test::infinity<double>);

  const auto own = dro::smooth_ratios(b, dro::on_policy(b, likelihood));
  CHECK(static_cast<tail_fit>(own.tail(0, 0)) == tail_fit::tied);
  CHECK(std::isnan(report<by::pareto_smooth>(b, own, 0)));
  for (index_t i = 0; i < 48; ++i) CHECK(own.log_weights(i, 0) == 0);
}

TEST_CASE("options that make no sense are refused with their values") {
  dro::host_backend b;
  const host_matrix<double> x(2, 4);
  const host_matrix<std::int32_t> lengths(3, 1);
  const auto scores = dro::on_policy(b, x);
  constexpr double nan = test::nan<double>;
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::calibrate(b, scores, by::clip{1, -1})),
                       doctest::Contains("log_low is 1.0"), dro::option_error);
  CHECK_THROWS_AS(static_cast<void>(dro::calibrate(b, scores, by::clip{nan, 1})), dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::calibrate(b, scores, by::temper{1.5})),
                       doctest::Contains("target is 1.5"), dro::option_error);
  CHECK_THROWS_AS(static_cast<void>(dro::calibrate(b, scores, by::temper{nan})), dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::calibrate(b, scores, by::pareto_smooth{0})),
                       doctest::Contains("relative_efficiency is 0.0"), dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::calibrate(b, scores, by::length_normalise{b.view(lengths)})),
                       doctest::Contains("[3 × 1], expected [2 × 1]"), dro::shape_error);
}
