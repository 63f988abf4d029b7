// SPDX-License-Identifier: Apache-2.0
// Every objective on the queries that break estimators, on every backend: what is said of them, and that nothing else
// than a number comes out.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>

#include "support/backends.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using dro::status;
using test::real;
namespace bl = dro::baseline;

template <class T>
struct edge_case {
  const char* name;
  std::vector<T> log_likelihood;
  status of_evidence;
};

template <class T>
std::vector<edge_case<T>> edge_cases() {
  constexpr T inf = test::infinity<T>;
  return {{"all equal", {-3, -3, -3, -3}, status::ok},
          {"all impossible", {-inf, -inf, -inf, -inf}, status::impossible},
          {"one impossible", {-1, -inf, -2, -3}, status::ok},
          {"only one possible", {-inf, -2, -inf, -inf}, status::ok},
          {"NaN", {-1, test::nan<T>, -2, -3}, status::not_a_number},
          {"+inf", {-1, inf, -2, -3}, status::unbounded},
          {"near -20000", {-20000, -20001, -20002, -20000}, status::ok},
          {"duplicates", {-1, -1, -2, -2}, status::ok},
          {"one weight is all", {0, -5000, -6000, -7000}, status::ok}};
}

/// What an objective makes of a batch, with the rules that hold for all of them checked.
template <class Objective, class B, class T>
std::vector<status> statuses(B& b, const std::vector<edge_case<T>>& cases, bool sums_to_zero) {
  CAPTURE(dro::objective_name<Objective>());
  const auto m = static_cast<index_t>(cases.front().log_likelihood.size());
  std::vector<T> all;
  for (const auto& c : cases) all.insert(all.end(), c.log_likelihood.begin(), c.log_likelihood.end());
  const auto likelihood = write(b, test::matrix<T>(static_cast<index_t>(cases.size()), m, all));
  const auto scores = dro::on_policy(b, likelihood);
  const auto weights = dro::importance_weights(b, scores);
  const auto c = dro::coefficients(b, Objective{}, scores, weights, 1);
  const auto selector = read(b, c.selector);
  const auto generator = read(b, c.generator);
  const auto state = read(b, c.status);
  std::vector<status> found;
  for (std::size_t k = 0; k < cases.size(); ++k) {
    CAPTURE(cases[k].name);
    const auto q = static_cast<index_t>(k);
    const auto s = static_cast<status>(state(q, 0));
    found.push_back(s);
    real total = 0;
    real size = 0;
    real weight = 0;
    bool finite = true;
    for (index_t i = 0; i < m; ++i) {
      finite = finite && std::isfinite(selector(q, i)) && std::isfinite(generator(q, i));
      total += selector(q, i);
      size += std::abs(selector(q, i));
      weight += generator(q, i);
    }
    CHECK(finite);
    if (!dro::is_used(s)) {
      CHECK(size == 0);
      CHECK(weight == 0);
    } else if (sums_to_zero) {
      // Each of m coefficients is rounded to within 16 u of its parts (typed/test_coefficients.cpp), which are below
      // the largest reward, or below 1.
      const real largest = std::max<real>(1, test::largest_magnitude(cases[k].log_likelihood));
      DRO_CHECK_NEAR(total, 0,
                     16 * static_cast<real>(m) * test::unit_roundoff<T> * (std::isfinite(largest) ? largest : 1));
    }
  }
  return found;
}

}  // namespace

// Each backend once: thirteen objectives on each are costly to compile, and their parts have run in every setting.
#define DRO_EACH_BACKEND                                                                                       \
  test::on_host<float>, test::on_eigen_columns<double>, test::on_eigen_rows<float>, test::on_deferred<double>, \
      test::on_counting<float>

TEST_CASE_TEMPLATE("edge cases of a query", S, DRO_EACH_BACKEND) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto cases = edge_cases<T>();
  std::vector<status> evidence;
  std::vector<status> reward;  // a log-likelihood of −inf is a reward of −inf
  for (const auto& c : cases) {
    const bool has_impossible = test::infinity<T> == test::largest_magnitude(c.log_likelihood);
    evidence.push_back(c.of_evidence);
    reward.push_back(c.of_evidence == status::ok && has_impossible ? status::impossible : c.of_evidence);
  }
  CHECK(statuses<dro::evidence<bl::none>>(b, cases, false) == evidence);
  CHECK(statuses<dro::evidence<bl::centred>>(b, cases, true) == evidence);
  CHECK(statuses<dro::evidence<bl::ratio>>(b, cases, true) == evidence);
  CHECK(statuses<dro::importance_weighted_bound<bl::none>>(b, cases, false) == evidence);
  CHECK(statuses<dro::importance_weighted_bound<bl::arithmetic>>(b, cases, false) == evidence);
  CHECK(statuses<dro::importance_weighted_bound<bl::geometric>>(b, cases, false) == evidence);
  CHECK(statuses<dro::expected_likelihood<bl::none>>(b, cases, false) == evidence);
  CHECK(statuses<dro::expected_likelihood<bl::leave_one_out>>(b, cases, true) == evidence);
  CHECK(statuses<dro::expected_log_likelihood<bl::none>>(b, cases, false) == reward);
  CHECK(statuses<dro::expected_log_likelihood<bl::group_mean>>(b, cases, true) == reward);
  CHECK(statuses<dro::expected_log_likelihood<bl::leave_one_out>>(b, cases, true) == reward);
  // A group of equal rewards has no scale.
  evidence.front() = reward.front() = status::degenerate;
  CHECK(statuses<dro::expected_likelihood<bl::group_normalised>>(b, cases, false) == evidence);
  CHECK(statuses<dro::expected_log_likelihood<bl::group_normalised>>(b, cases, false) == reward);
}

TEST_CASE_TEMPLATE("one sample, and no query at all", S, DRO_EACH_BACKEND) {
  using T = typename S::scalar;
  typename S::backend b;
  const auto alone = write(b, test::matrix<T>(1, 1, std::vector<T>{-2}));
  const auto scores = dro::on_policy(b, alone);
  const auto w = dro::importance_weights(b, scores);
  const auto of = [&](auto target) {
    const auto c = dro::coefficients(b, target, scores, w);
    return std::pair(read(b, c.selector)(0, 0), read(b, c.generator)(0, 0));
  };
  CHECK(of(dro::evidence<bl::none>{}) == std::pair(T(1), T(1)));
  CHECK(of(dro::evidence<>{}) == std::pair(T(0), T(1)));
  CHECK(of(dro::expected_log_likelihood<bl::none>{}) == std::pair(T(-2), T(1)));
  CHECK_THROWS_AS(of(dro::expected_likelihood<>{}), dro::option_error);
  CHECK_THROWS_AS(of(dro::expected_likelihood<bl::group_normalised>{}), dro::option_error);
  CHECK_THROWS_AS(of(dro::importance_weighted_bound<>{}), dro::option_error);

  const auto nobody = b.template make<T>(0, 3);
  const auto none = dro::on_policy(b, nobody);
  const auto weights = dro::importance_weights(b, none);
  const auto rows = [&](auto target) { return read(b, dro::coefficients(b, target, none, weights).selector).rows(); };
  CHECK(rows(dro::evidence<>{}) == 0);
  CHECK(rows(dro::expected_likelihood<>{}) == 0);
  CHECK(rows(dro::importance_weighted_bound<>{}) == 0);
}

TEST_CASE_TEMPLATE("shifting ℓ changes nothing but the scale; permuting samples permutes coefficients", S,
                   DRO_EACH_BACKEND) {
  using T = typename S::scalar;
  typename S::backend b;
  const index_t m = 7;
  const auto values = test::random_matrix<T>(3, m, -8, 0, 21);
  dro::host_matrix<T> shifted(3, m);
  dro::host_matrix<T> turned(3, m);
  for (index_t q = 0; q < 3; ++q) {
    for (index_t i = 0; i < m; ++i) {
      shifted(q, i) = values(q, i) - 512;  // exact: multiples of 2^-10
      turned(q, i) = values(q, (i + 3) % m);
    }
  }
  const auto c = [&](auto target, const dro::host_matrix<T>& l) {
    const auto on = write(b, l);
    const auto scores = dro::on_policy(b, on);
    return read(b, dro::coefficients(b, target, scores, dro::importance_weights(b, scores), 1).selector);
  };
  const auto check = [&](auto target) {
    CAPTURE(dro::objective_name<decltype(target)>());
    const auto a = c(target, values);
    const auto moved = c(target, shifted);
    const auto permuted = c(target, turned);
    CHECK(test::largest_magnitude(test::elements(a)) > 0.01);
    for (index_t q = 0; q < 3; ++q) {
      for (index_t i = 0; i < m; ++i) {
        // 32 u of rewards below 8 twice; L_m itself is of the size of the shift.
        DRO_CHECK_NEAR(moved(q, i), a(q, i), 64 * 512 * test::unit_roundoff<T>);
        DRO_CHECK_NEAR(permuted(q, i), a(q, (i + 3) % m), 64 * 8 * test::unit_roundoff<T>);
      }
    }
  };
  check(dro::evidence<>{});
  check(dro::importance_weighted_bound<>{});
  check(dro::importance_weighted_bound<bl::geometric>{});
  check(dro::expected_likelihood<>{.scale = dro::likelihood_scale::per_query});
  check(dro::expected_log_likelihood<>{});
  check(dro::expected_log_likelihood<bl::group_normalised>{});
}
