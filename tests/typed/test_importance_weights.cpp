// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <dro/estimate/importance_weights.hpp>

#include "support/backends.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using dro::status;
using test::real;

/// What importance_weights says of one query, from the definitions.
struct expected_weights {
  std::vector<real> normalised;
  real log_evidence = 0, elbo = 0, effective_sample_size = 0, largest = 0, entropy = 0;
};

expected_weights from_definitions(const std::vector<real>& log_weights) {
  expected_weights e;
  e.normalised = test::softmax(log_weights);
  const auto m = static_cast<real>(log_weights.size());
  e.log_evidence = test::log_sum_exp(log_weights) - std::log(m);
  real squares = 0;
  for (std::size_t i = 0; i < log_weights.size(); ++i) {
    const real w = e.normalised[i];
    e.elbo += log_weights[i] / m;
    squares += w * w;
    e.largest = std::max(e.largest, w);
    if (w > 0) e.entropy -= w * std::log(w);
  }
  e.effective_sample_size = 1 / squares;
  return e;
}

/// Everything importance_weights returned, on the host.
template <class T>
struct found_weights {
  dro::host_matrix<T> normalised, log_evidence, elbo, effective_sample_size, largest_weight, entropy;
  dro::host_matrix<std::int32_t> status_of;

  [[nodiscard]] status state(index_t q) const { return static_cast<status>(status_of(q, 0)); }
};

template <class B, class T>
found_weights<T> weigh(B& b, const dro::scored_draws<T>& scores) {
  const auto w = dro::importance_weights(b, scores);
  return {read(b, w.normalised),     read(b, w.log_evidence), read(b, w.elbo),  read(b, w.effective_sample_size),
          read(b, w.largest_weight), read(b, w.entropy),      read(b, w.status)};
}

/// Rounding of w̄ and of what is computed from it, in units u of half an ulp of 1. `scale` bounds |log p(z|x)| +
/// |log p(y|x,d)| + |log q(z)|.
///
/// A log-weight is at most two roundings of numbers below `scale`, its offset from the largest a third one of a number
/// below 2 scale: an error of 4 scale u in the exponent. exp adds 2 u, the sum of m terms (m/8 + 3) 2 u, the reciprocal
/// and the product 2 u. So w̄ has a relative error below (8 scale + m/4 + 12) u: exponent error counted for the term and
/// for the sum. ESS = 1/Σw̄² has twice that and its own sum, at most m; entropy and the ELBO are sums of m such terms
/// with factors |offset| ≤ 2 scale.
template <class T>
struct rounding {
  real scale, m;
  [[nodiscard]] real relative() const { return (8 * scale + m / 4 + 12) * test::unit_roundoff<T>; }
  [[nodiscard]] real of_log() const {
    return relative() * (1 + 2 * scale) + (m / 4 + 6) * scale * test::unit_roundoff<T>;
  }
};

template <class T>
void check_query(const found_weights<T>& w, index_t q, const std::vector<T>& shares,
                 const std::vector<real>& log_weights, real scale) {
  const auto e = from_definitions(log_weights);
  const auto m = static_cast<real>(log_weights.size());
  const rounding<T> r{scale, m};
  CHECK(w.state(q) == status::ok);
  real total = 0;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    DRO_CHECK_NEAR(shares[i], e.normalised[i], r.relative() * e.normalised[i]);
    total += shares[i];
  }
  DRO_CHECK_NEAR(total, 1, 2 * m * std::numeric_limits<T>::epsilon());
  DRO_CHECK_NEAR(w.log_evidence(q, 0), e.log_evidence, r.of_log());
  DRO_CHECK_NEAR(w.elbo(q, 0), e.elbo, r.of_log());
  DRO_CHECK_NEAR(w.effective_sample_size(q, 0), e.effective_sample_size, 3 * r.relative() * e.effective_sample_size);
  DRO_CHECK_NEAR(w.largest_weight(q, 0), e.largest, r.relative());
  DRO_CHECK_NEAR(w.entropy(q, 0), e.entropy, r.of_log());
}

template <class T>
std::vector<T> table_row(const dro::host_matrix<T>& m, index_t q) {
  return std::vector<T>(m.data() + q * m.cols(), m.data() + (q + 1) * m.cols());
}

}  // namespace

TEST_CASE_TEMPLATE("weights of a table of samples agree with their definitions", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto log_selector = test::random_matrix<T>(5, 11, -8, 0, 1);
  const auto log_likelihood = test::random_matrix<T>(5, 11, -16, 0, 2);
  const auto log_proposal = test::random_matrix<T>(5, 11, -8, 0, 3);
  const auto prior = write(b, log_selector);
  const auto likelihood = write(b, log_likelihood);
  const auto proposal = write(b, log_proposal);

  const auto on = weigh(b, dro::on_policy(b, likelihood));
  const auto off = weigh(b, dro::off_policy(b, prior, likelihood, proposal));
  for (index_t q = 0; q < 5; ++q) {
    check_query(on, q, table_row(on.normalised, q), test::row(log_likelihood, q), 16);
    std::vector<real> log_weights = test::row(log_likelihood, q);
    for (index_t i = 0; i < 11; ++i) {
      log_weights[static_cast<std::size_t>(i)] += static_cast<real>(log_selector(q, i)) - log_proposal(q, i);
    }
    check_query(off, q, table_row(off.normalised, q), log_weights, 32);
  }
}

TEST_CASE_TEMPLATE("a flat list gives the same numbers as a table", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto values = test::random_matrix<T>(4, 6, -16, 0, 4);
  const auto table = write(b, values);
  const auto flat = write(b, test::matrix<T>(24, 1, test::elements(values)));
  const auto groups = dro::grouping::uniform(4, 6);
  const auto from_table = weigh(b, dro::on_policy(b, table));
  const auto from_flat = weigh(b, dro::on_policy(b, flat, groups));
  CHECK(from_flat.normalised.rows() == 24);
  CHECK(from_flat.normalised.cols() == 1);
  CHECK(std::ranges::equal(test::elements(from_flat.normalised), test::elements(from_table.normalised)));
  CHECK(test::same(from_flat.log_evidence, from_table.log_evidence));
  CHECK(test::same(from_flat.elbo, from_table.elbo));
  CHECK(test::same(from_flat.entropy, from_table.entropy));
  // A table of one operand and flat lists of the others may be mixed.
  const auto zero = write(b, dro::host_matrix<T>(24, 1));
  const auto mixed = weigh(b, dro::off_policy(b, zero, table, zero, groups));
  CHECK(test::same(mixed.normalised, from_table.normalised));
}

TEST_CASE_TEMPLATE("a ragged list is weighed query by query", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const std::vector<std::int32_t> starts = {0, 3, 3, 4, 13};
  const auto offsets = write(b, test::column(starts));
  const auto log_likelihood = test::random_matrix<T>(13, 1, -16, 0, 5);
  const auto likelihood = write(b, log_likelihood);
  const auto groups = dro::grouping::ragged(std::as_const(b).view(offsets), 13);
  const auto w = weigh(b, dro::on_policy(b, likelihood, groups));
  for (const index_t q : {0, 2, 3}) {
    const auto begin = starts[static_cast<std::size_t>(q)];
    const auto end = starts[static_cast<std::size_t>(q) + 1];
    const std::vector<T> shares(w.normalised.data() + begin, w.normalised.data() + end);
    check_query(w, q, shares, std::vector<real>(log_likelihood.data() + begin, log_likelihood.data() + end), 16);
  }
  CHECK(w.state(1) == status::degenerate);
  CHECK(std::isnan(w.log_evidence(1, 0)));
  CHECK(w.effective_sample_size(1, 0) == 0);
  CHECK(w.normalised(3, 0) == 1);  // the one sample of query 2
}

TEST_CASE_TEMPLATE("numerical trouble becomes a status and weights of 0", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  constexpr T inf = test::infinity<T>;
  constexpr T nan = test::nan<T>;
  typename S::backend b;
  // log p(z|x), log p(y|x,d), log q: one row a query.
  const auto prior = write(b, test::matrix<T>(9, 3, std::vector<T>{0,    0,    0,   //
                                                                   0,    0,    0,   //
                                                                   0,    0,    0,   //
                                                                   0,    0,    0,   //
                                                                   0,    0,    0,   //
                                                                   0,    -inf, 0,   //
                                                                   0,    nan,  0,   //
                                                                   -inf, -1,   -1,  //
                                                                   0,    0,    0}));
  const auto likelihood = write(b, test::matrix<T>(9, 3, std::vector<T>{-1,   -2,   -3,    //
                                                                        -inf, -inf, -inf,  //
                                                                        -1,   -inf, -2,    //
                                                                        -1,   nan,  -inf,  //
                                                                        -1,   inf,  -2,    //
                                                                        -1,   -1,   -1,    //
                                                                        -1,   -1,   -1,    //
                                                                        -1,   -1,   -1,    //
                                                                        nan,  inf,  -inf}));
  const auto proposal = write(b, test::matrix<T>(9, 3, std::vector<T>{0,  0,    0,   //
                                                                      0,  0,    0,   //
                                                                      0,  0,    0,   //
                                                                      0,  0,    0,   //
                                                                      0,  0,    0,   //
                                                                      0,  0,    0,   //
                                                                      0,  0,    0,   //
                                                                      -1, -inf, -1,  //
                                                                      0,  0,    0}));
  const auto w = weigh(b, dro::off_policy(b, prior, likelihood, proposal));
  const status expected[] = {status::ok,           status::impossible, status::ok,
                             status::not_a_number, status::unbounded,  status::ok,
                             status::not_a_number, status::unbounded,  status::not_a_number};
  for (index_t q = 0; q < 9; ++q) {
    CAPTURE(q);
    CHECK(w.state(q) == expected[q]);
    T total = 0;
    for (index_t i = 0; i < 3; ++i) total += w.normalised(q, i);
    if (expected[q] == status::ok) {
      DRO_CHECK_NEAR(total, 1, 6 * std::numeric_limits<T>::epsilon());
      continue;
    }
    CHECK(total == 0);
    CHECK(w.effective_sample_size(q, 0) == 0);
    CHECK(w.largest_weight(q, 0) == 0);
    CHECK(w.entropy(q, 0) == 0);
    if (expected[q] == status::impossible) {
      CHECK(w.log_evidence(q, 0) == -inf);
      CHECK(w.elbo(q, 0) == -inf);
    } else {
      CHECK(std::isnan(w.log_evidence(q, 0)));
      CHECK(std::isnan(w.elbo(q, 0)));
    }
  }
  // One impossible sample among possible ones has weight exactly 0, and takes the ELBO to −inf but not the evidence.
  CHECK(w.normalised(2, 1) == 0);
  CHECK(w.elbo(2, 0) == -inf);
  DRO_CHECK_NEAR(w.log_evidence(2, 0), test::log_sum_exp({-1, -2}) - std::log(real(3)),
                 20 * std::numeric_limits<T>::epsilon());
  CHECK(w.normalised(5, 1) == 0);
}

TEST_CASE_TEMPLATE("no queries give empty results", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto likelihood = write(b, dro::host_matrix<T>(0, 1));
  const auto w = weigh(b, dro::on_policy(b, likelihood, dro::grouping::uniform(0, 8)));
  CHECK(w.normalised.rows() == 0);
  CHECK(w.log_evidence.rows() == 0);
  CHECK(w.status_of.rows() == 0);
}

TEST_CASE_TEMPLATE("a constant added to a query's log-likelihoods changes no weight", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  // Multiples of 1/256 below 2^15 have 23 significant bits: the shifted values and all differences are exact in float,
  // so the weights are equal to the last bit and the evidence to its own rounding.
  const auto values = test::random_matrix<T>(3, 8, -16, 0, 6);
  constexpr T shift = -20000;
  dro::host_matrix<T> shifted(3, 8);
  std::ranges::transform(test::elements(values), shifted.data(), [](T v) { return v + shift; });
  const auto near_zero = write(b, values);
  const auto far = write(b, shifted);
  const auto a = weigh(b, dro::on_policy(b, near_zero));
  const auto c = weigh(b, dro::on_policy(b, far));
  CHECK(test::same(a.normalised, c.normalised));
  CHECK(test::same(a.effective_sample_size, c.effective_sample_size));
  CHECK(test::same(a.entropy, c.entropy));
  for (index_t q = 0; q < 3; ++q) {
    // One rounding of a number near 20000 (and of one near 16), on top of the error near 0.
    const real tolerance = 3 * 20016 * static_cast<real>(test::unit_roundoff<T>);
    DRO_CHECK_NEAR(c.log_evidence(q, 0), static_cast<real>(a.log_evidence(q, 0)) + shift, tolerance);
    DRO_CHECK_NEAR(c.elbo(q, 0), static_cast<real>(a.elbo(q, 0)) + shift, tolerance);
    check_query(a, q, table_row(a.normalised, q), test::row(values, q), 16);
  }
}

TEST_CASE_TEMPLATE("one sample has weight 1 whatever its likelihood", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const std::vector<T> values = {T(-0.5), T(-20000), T(0), T(30)};
  const auto likelihood = write(b, test::column(values));
  const auto w = weigh(b, dro::on_policy(b, likelihood));
  for (index_t q = 0; q < 4; ++q) {
    CHECK(w.normalised(q, 0) == 1);
    CHECK(w.effective_sample_size(q, 0) == 1);
    CHECK(w.largest_weight(q, 0) == 1);
    CHECK(w.entropy(q, 0) == 0);
    CHECK(w.log_evidence(q, 0) == values[static_cast<std::size_t>(q)]);
    CHECK(w.elbo(q, 0) == values[static_cast<std::size_t>(q)]);
  }
}

TEST_CASE_TEMPLATE("equal samples share the weight and the bound is tight", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  for (const index_t m : {2, 7, 64}) {
    dro::host_matrix<T> values(1, m);
    std::fill_n(values.data(), m, T(-20000.25));
    const auto likelihood = write(b, values);
    const auto w = weigh(b, dro::on_policy(b, likelihood));
    // The sum of m ones is exact and its reciprocal rounds once; m squares of it are within (m/8 + 6) u, u = ε/2.
    const auto u = static_cast<real>(test::unit_roundoff<T>);
    for (index_t i = 0; i < m; ++i) DRO_CHECK_NEAR(w.normalised(0, i), real(1) / m, u / m);
    DRO_CHECK_NEAR(w.effective_sample_size(0, 0), m, m * (m / 8 + 6) * u);
    DRO_CHECK_NEAR(w.entropy(0, 0), std::log(static_cast<real>(m)), 2 * u * std::log(static_cast<real>(m)));
    CHECK(w.log_evidence(0, 0) == T(-20000.25));
    CHECK(w.elbo(0, 0) == T(-20000.25));
  }
}

TEST_CASE_TEMPLATE("a sample far above the others takes all the weight", S, DRO_TEST_SETTINGS) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto likelihood =
      write(b, test::matrix<T>(2, 4,
                               std::vector<T>{-20000, -12000, -16000, -18000,  //
                                              -test::infinity<T>, -3, -test::infinity<T>, -test::infinity<T>}));
  const auto w = weigh(b, dro::on_policy(b, likelihood));
  for (index_t q = 0; q < 2; ++q) {
    for (index_t i = 0; i < 4; ++i) CHECK(w.normalised(q, i) == (i == 1 ? 1 : 0));
    CHECK(w.effective_sample_size(q, 0) == 1);
    CHECK(w.entropy(q, 0) == 0);
  }
  CHECK(w.elbo(0, 0) == -16500);  // sums of multiples of 2000: exact
  DRO_CHECK_NEAR(w.log_evidence(0, 0), -12000 - std::log(real(4)), 12000 * 2 * test::unit_roundoff<T>);
  CHECK(w.elbo(1, 0) == -test::infinity<T>);
}
