// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>

#include "support/backends.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using dro::status;
using test::real;

template <class T>
struct found_coefficients {
  dro::host_matrix<T> selector, generator;
  dro::host_matrix<std::int32_t> status_of;
  [[nodiscard]] status state(index_t q) const { return static_cast<status>(status_of(q, 0)); }
};

template <class Objective, class B, class T>
found_coefficients<T> coefficients_of(B& b, const dro::scored_draws<T>& scores, index_t query_count = 0) {
  const auto w = dro::importance_weights(b, scores);
  const auto c = dro::coefficients(b, Objective{}, scores, w, query_count);
  return {read(b, c.selector), read(b, c.generator), read(b, c.status)};
}

/// Log-probabilities of 4 queries with 9 samples each, in the host's and in the backend's memory.
template <class B, class T>
struct samples {
  static constexpr index_t queries = 4;
  static constexpr index_t m = 9;
  dro::host_matrix<T> selector = test::random_matrix<T>(queries, m, -4, 0, 11);
  dro::host_matrix<T> likelihood = test::random_matrix<T>(queries, m, -8, 0, 12);
  dro::host_matrix<T> proposal = test::random_matrix<T>(queries, m, -4, 0, 13);
  dro::matrix_t<B, T> on_selector, on_likelihood, on_proposal;

  explicit samples(B& b)
      : on_selector(write(b, selector)), on_likelihood(write(b, likelihood)), on_proposal(write(b, proposal)) {}

  [[nodiscard]] dro::scored_draws<T> on_policy(B& b) const { return dro::on_policy(b, on_likelihood); }
  [[nodiscard]] dro::scored_draws<T> off_policy(B& b) const {
    return dro::off_policy(b, on_selector, on_likelihood, on_proposal);
  }
  /// log ρ of query q.
  [[nodiscard]] std::vector<real> log_ratios(index_t q) const {
    std::vector<real> r = test::row(selector, q);
    for (index_t i = 0; i < m; ++i) r[static_cast<std::size_t>(i)] -= static_cast<real>(proposal(q, i));
    return r;
  }
};

std::vector<real> sum(std::vector<real> a, const std::vector<real>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

// Rounding: log-weights are below 16 and exact in float (multiples of 2^-10 below 2^4); their offsets therefore too.
// exp is within 2 u (u = ε/2), a sum of 9 terms within 2 (9/8 + 3) u, division, product, difference and the factor
// 1/queries within 1 u each: 16 u of a number of size 1.
template <class T>
constexpr real tolerance = 16 * static_cast<real>(test::unit_roundoff<T>);

}  // namespace

TEST_CASE_TEMPLATE("evidence without a baseline: both coefficients are the weights", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const samples<typename S::backend, T> x(b);
  const auto on = coefficients_of<dro::evidence<dro::baseline::none>>(b, x.on_policy(b));
  const auto off = coefficients_of<dro::evidence<dro::baseline::none>>(b, x.off_policy(b));
  CHECK(test::same(on.selector, on.generator));
  CHECK(test::same(off.selector, off.generator));
  for (index_t q = 0; q < x.queries; ++q) {
    const auto w_on = test::softmax(test::row(x.likelihood, q));
    const auto w_off = test::softmax(sum(x.log_ratios(q), test::row(x.likelihood, q)));
    for (index_t i = 0; i < x.m; ++i) {
      DRO_CHECK_NEAR(on.selector(q, i), w_on[static_cast<std::size_t>(i)] / x.queries, tolerance<T> / x.queries);
      DRO_CHECK_NEAR(off.selector(q, i), w_off[static_cast<std::size_t>(i)] / x.queries, tolerance<T> / x.queries);
    }
  }
}

TEST_CASE_TEMPLATE("weighed in one go: weights and then coefficients, to the bit", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  samples<typename S::backend, T> x(b);
  for (index_t i = 0; i < x.m; ++i) x.likelihood(2, i) = -test::infinity<T>;
  x.on_likelihood = write(b, x.likelihood);
  const auto check = [&](const dro::scored_draws<T>& scores, const auto& target) {
    const auto w = dro::importance_weights(b, scores);
    const auto c = dro::coefficients(b, target, scores, w, 7);
    const auto in_one_go = dro::weigh(b, target, scores, 7);
    const auto same = [&](const auto& one, const auto& other) { return test::same(read(b, one), read(b, other)); };
    CHECK(same(in_one_go.weights.normalised, w.normalised));
    CHECK(same(in_one_go.weights.log_evidence, w.log_evidence));
    CHECK(same(in_one_go.weights.elbo, w.elbo));
    CHECK(same(in_one_go.weights.effective_sample_size, w.effective_sample_size));
    CHECK(same(in_one_go.weights.largest_weight, w.largest_weight));
    CHECK(same(in_one_go.weights.entropy, w.entropy));
    CHECK(same(in_one_go.weights.status, w.status));
    CHECK(same(in_one_go.coefficients.selector, c.selector));
    CHECK(same(in_one_go.coefficients.generator, c.generator));
    CHECK(same(in_one_go.coefficients.log_scale, c.log_scale));
    CHECK(same(in_one_go.coefficients.status, c.status));
  };
  for (const auto& scores : {x.on_policy(b), x.off_policy(b)}) {
    check(scores, dro::evidence<>{});
    check(scores, dro::expected_log_likelihood<>{});
  }
  const dro::matrix_t<typename S::backend, T> single = write(b, test::random_matrix<T>(3, 1, -4, 0, 14));
  CHECK_THROWS_AS(static_cast<void>(dro::weigh(b, dro::expected_log_likelihood<>{}, dro::on_policy(b, single))),
                  dro::option_error);
}

TEST_CASE_TEMPLATE("centred evidence: the selector's own share is taken off, once", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const samples<typename S::backend, T> x(b);
  const auto on = coefficients_of<dro::evidence<>>(b, x.on_policy(b));
  const auto off = coefficients_of<dro::evidence<>>(b, x.off_policy(b));
  for (index_t q = 0; q < x.queries; ++q) {
    const auto w_on = test::softmax(test::row(x.likelihood, q));
    const auto w_off = test::softmax(sum(x.log_ratios(q), test::row(x.likelihood, q)));
    const auto share = test::softmax(x.log_ratios(q));
    real total_on = 0;
    real total_off = 0;
    for (index_t i = 0; i < x.m; ++i) {
      const auto k = static_cast<std::size_t>(i);
      DRO_CHECK_NEAR(on.selector(q, i), (w_on[k] - real(1) / x.m) / x.queries, 2 * tolerance<T> / x.queries);
      DRO_CHECK_NEAR(off.selector(q, i), (w_off[k] - share[k]) / x.queries, 2 * tolerance<T> / x.queries);
      // The generator's coefficient never carries a baseline.
      DRO_CHECK_NEAR(on.generator(q, i), w_on[k] / x.queries, tolerance<T> / x.queries);
      DRO_CHECK_NEAR(off.generator(q, i), w_off[k] / x.queries, tolerance<T> / x.queries);
      total_on += on.selector(q, i);
      total_off += off.selector(q, i);
    }
    // Each of the two shares sums to 1 within `tolerance`, whatever its size.
    DRO_CHECK_NEAR(total_on, 0, 2 * tolerance<T>);
    DRO_CHECK_NEAR(total_off, 0, 2 * tolerance<T>);
  }
}

TEST_CASE_TEMPLATE("expected log-likelihood: reward less that of the other samples", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const samples<typename S::backend, T> x(b);
  const auto on = coefficients_of<dro::expected_log_likelihood<>>(b, x.on_policy(b));
  const auto off = coefficients_of<dro::expected_log_likelihood<>>(b, x.off_policy(b));
  const auto direct = [&](index_t q, bool drawn_by_selector) {
    const auto log_ratio = x.log_ratios(q);
    const auto likelihood = test::row(x.likelihood, q);
    std::vector<real> rho(likelihood.size(), 1);
    if (!drawn_by_selector) std::ranges::transform(log_ratio, rho.begin(), [](real r) { return std::exp(r); });
    std::vector<real> c(likelihood.size());
    for (std::size_t i = 0; i < c.size(); ++i) {
      real others = 0;
      for (std::size_t j = 0; j < c.size(); ++j) others += j == i ? 0 : rho[j] * likelihood[j];
      c[i] = rho[i] / static_cast<real>(x.m) * (likelihood[i] - others / static_cast<real>(x.m - 1));
    }
    return std::pair(c, rho);
  };
  for (index_t q = 0; q < x.queries; ++q) {
    const auto [c_on, one] = direct(q, true);
    const auto [c_off, rho] = direct(q, false);
    const real largest_ratio = test::largest_magnitude(rho);
    real total_on = 0;
    for (index_t i = 0; i < x.m; ++i) {
      const auto k = static_cast<std::size_t>(i);
      // Rewards are below 8, so each bracket is below 8 + 8 ρ and its sums of 9 terms have a relative error of 16 u.
      DRO_CHECK_NEAR(on.selector(q, i), c_on[k] / x.queries, 16 * tolerance<T> / (x.m * x.queries));
      DRO_CHECK_NEAR(off.selector(q, i), c_off[k] / x.queries,
                     rho[k] * (8 + 8 * 2 * largest_ratio) * 2 * tolerance<T> / (x.m * x.queries));
      DRO_CHECK_NEAR(on.generator(q, i), one[k] / (x.m * x.queries), tolerance<T> / (x.m * x.queries));
      DRO_CHECK_NEAR(off.generator(q, i), rho[k] / (x.m * x.queries), rho[k] * tolerance<T> / (x.m * x.queries));
      total_on += on.selector(q, i);
    }
    DRO_CHECK_NEAR(total_on, 0, 16 * tolerance<T>);
  }
}

TEST_CASE_TEMPLATE("leave-one-out does not see a constant common to the likelihoods", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  // Exact in float: multiples of 1/512 below 2^15 (24 bits). One-pass formulas would lose the differences here.
  const auto values = test::random_matrix<T>(2, 6, -8, 0, 14);
  dro::host_matrix<T> shifted(2, 6);
  std::ranges::transform(test::elements(values), shifted.data(), [](T v) { return v - T(20000); });
  const auto near_zero = write(b, values);
  const auto far = write(b, shifted);
  const auto a = coefficients_of<dro::expected_log_likelihood<>>(b, dro::on_policy(b, near_zero));
  const auto c = coefficients_of<dro::expected_log_likelihood<>>(b, dro::on_policy(b, far));
  CHECK(test::largest_magnitude(test::elements(a.selector)) > 0.05);
  CHECK(test::same(a.selector, c.selector));
}

TEST_CASE_TEMPLATE("micro-batches with the whole batch's query count add up to the batch", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto values = test::random_matrix<T>(5, 3, -8, 0, 15);
  const auto part = [&](index_t first, index_t count) {
    dro::host_matrix<T> rows(count, 3);
    std::copy_n(values.data() + first * 3, count * 3, rows.data());
    const auto likelihood = write(b, rows);
    return coefficients_of<dro::evidence<>>(b, dro::on_policy(b, likelihood), 5).selector;
  };
  const auto all = write(b, values);
  const auto whole = coefficients_of<dro::evidence<>>(b, dro::on_policy(b, all)).selector;
  std::vector<T> joined;
  for (const auto& micro : {part(0, 2), part(2, 1), part(3, 2)}) {
    joined.insert(joined.end(), micro.data(), micro.data() + micro.rows() * micro.cols());
  }
  CHECK(std::ranges::equal(joined, test::elements(whole)));  // the same operations: bit for bit
  // Without the count each micro-batch is normalised by its own size.
  dro::host_matrix<T> first(1, 3);
  std::copy_n(values.data(), 3, first.data());
  const auto alone = write(b, first);
  const auto own = coefficients_of<dro::evidence<>>(b, dro::on_policy(b, alone)).selector;
  for (index_t i = 0; i < 3; ++i) DRO_CHECK_NEAR(own(0, i), 5 * static_cast<real>(whole(0, i)), 5 * tolerance<T>);
}

TEST_CASE_TEMPLATE("a query in trouble has coefficients 0 and still counts in the division", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  constexpr T inf = test::infinity<T>;
  typename S::backend b;
  const auto likelihood = write(b, test::matrix<T>(4, 2,
                                                   std::vector<T>{-1, -2,            //
                                                                  -inf, -inf,        //
                                                                  test::nan<T>, -1,  //
                                                                  -1, -inf}));
  const auto scores = dro::on_policy(b, likelihood);
  const auto plain = coefficients_of<dro::evidence<dro::baseline::none>>(b, scores);
  const auto reward = coefficients_of<dro::expected_log_likelihood<>>(b, scores);
  CHECK(plain.state(0) == status::ok);
  CHECK(plain.state(1) == status::impossible);
  CHECK(plain.state(2) == status::not_a_number);
  CHECK(plain.state(3) == status::ok);
  CHECK(reward.state(0) == status::ok);
  CHECK(reward.state(3) == status::impossible);  // a reward of −inf
  for (const index_t q : {1, 2}) {
    for (index_t i = 0; i < 2; ++i) {
      CHECK(plain.selector(q, i) == 0);
      CHECK(plain.generator(q, i) == 0);
      CHECK(reward.selector(q, i) == 0);
    }
  }
  CHECK(reward.selector(3, 0) == 0);
  CHECK(reward.generator(3, 1) == 0);
  DRO_CHECK_NEAR(plain.selector(0, 0), 1 / (1 + std::exp(real(-1))) / 4, tolerance<T> / 4);
  CHECK(plain.selector(3, 0) == T(0.25));
  CHECK(plain.selector(3, 1) == 0);
}

TEST_CASE_TEMPLATE("ragged: a query with too few samples is degenerate, the others are not", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto offsets = write(b, test::column(std::vector<std::int32_t>{0, 1, 3, 3}));
  const auto likelihood = write(b, test::column(std::vector<T>{-1, -2, -4}));
  const auto groups = dro::grouping::ragged(std::as_const(b).view(offsets), 3);
  const auto c = coefficients_of<dro::expected_log_likelihood<>>(b, dro::on_policy(b, likelihood, groups));
  CHECK(c.state(0) == status::degenerate);
  CHECK(c.state(1) == status::ok);
  CHECK(c.state(2) == status::degenerate);
  CHECK(c.selector(0, 0) == 0);
  // (1/2) (−2 + 4) / 3 queries and its opposite: small whole numbers, so only the division rounds.
  DRO_CHECK_NEAR(c.selector(1, 0), real(1) / 3, 2 * test::unit_roundoff<T>);
  DRO_CHECK_NEAR(c.selector(2, 0), real(-1) / 3, 2 * test::unit_roundoff<T>);
}
