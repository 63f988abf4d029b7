// SPDX-License-Identifier: Apache-2.0
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using plain = dro::evidence<dro::baseline::none>;
using centred = dro::evidence<dro::baseline::centred>;
using leave_one_out = dro::expected_log_likelihood<dro::baseline::leave_one_out>;

static_assert(dro::objective<plain> && dro::objective<centred> && dro::objective<leave_one_out>);
static_assert(std::is_same_v<dro::evidence<>, centred>);
static_assert(std::is_same_v<dro::expected_log_likelihood<>, leave_one_out>);
static_assert(std::is_trivially_copyable_v<centred>);
static_assert(!dro::objective<int>);
// A baseline makes coefficients that are an unbounded objective if they are kept.
static_assert(plain::valid_over_steps && !centred::valid_over_steps && !leave_one_out::valid_over_steps);

/// An objective of a user: the likelihood's sign, and trouble where the first weight exceeds ½.
struct user_objective {
  static constexpr const char* name = "user's";
  static constexpr index_t least_samples = 2;
  static constexpr bool valid_over_steps = true;
  double factor = 1;

  template <class T, class Team, class Out>
  dro::status operator()(Team& team, const dro::query_draws<T>& draws, const Out& out) const {
    if (draws.weight(0) > T(0.5)) return dro::status::degenerate;
    team.for_each(draws.size(),
                  [&](index_t i) { out(i, static_cast<T>(factor) * draws.log_likelihood(i), draws.log_ratio(i)); });
    return dro::status::ok;
  }
};
static_assert(dro::objective<user_objective>);

template <class Objective>
dro::gradient_coefficients<dro::host_backend, double> run(const dro::host_matrix<double>& log_likelihood,
                                                          Objective target, index_t query_count = 0) {
  dro::host_backend b(1);
  const auto scores = dro::on_policy(b, log_likelihood);
  const auto w = dro::importance_weights(b, scores);
  return dro::coefficients(b, target, scores, w, query_count);
}

}  // namespace

TEST_CASE("an objective of one's own: its members, its options and its status are used") {
  const auto likelihood = test::matrix<double>(2, 2, std::vector{-1.0, -1.0, -1.0, -4.0});
  const auto c = run(likelihood, user_objective{3});
  CHECK(c.status(0, 0) == static_cast<std::int32_t>(dro::status::ok));
  CHECK(c.selector(0, 0) == -1.5);  // 3 · −1 / 2 queries
  CHECK(c.generator(0, 0) == 0);    // log ρ is 0 where the selector drew
  CHECK(c.status(1, 0) == static_cast<std::int32_t>(dro::status::degenerate));
  CHECK(c.selector(1, 0) == 0);
  CHECK(c.selector(1, 1) == 0);
}

TEST_CASE("coefficients have the shape of the log-likelihoods") {
  dro::host_backend b(1);
  const dro::host_matrix<double> flat(6, 1);
  const auto scores = dro::on_policy(b, flat, dro::grouping::uniform(2, 3));
  const auto w = dro::importance_weights(b, scores);
  const auto c = dro::coefficients(b, centred{}, scores, w);
  CHECK(c.selector.rows() == 6);
  CHECK(c.selector.cols() == 1);
  CHECK(c.status.rows() == 2);
  const auto table = run(dro::host_matrix<double>(2, 3), centred{});
  CHECK(table.generator.rows() == 2);
  CHECK(table.generator.cols() == 3);
  const auto none = run(dro::host_matrix<double>(0, 3), centred{});
  CHECK(none.selector.rows() == 0);
}

TEST_CASE("two equal samples: plain weights pull, centred ones and leave-one-out do not") {
  const auto equal = test::matrix<double>(1, 2, std::vector{-2.0, -2.0});
  CHECK(run(equal, plain{}).selector(0, 0) == 0.5);
  CHECK(run(equal, centred{}).selector(0, 0) == 0);
  CHECK(run(equal, centred{}).generator(0, 0) == 0.5);
  CHECK(run(equal, leave_one_out{}).selector(0, 0) == 0);
  CHECK(run(equal, leave_one_out{}).generator(0, 0) == 0.5);
  CHECK(run(equal, plain{}, 4).selector(0, 0) == 0.125);
}

TEST_CASE("one sample is enough for the evidence, not for leave-one-out") {
  const dro::host_matrix<double> one(3, 1);
  CHECK(run(one, centred{}).selector(0, 0) == 0);
  CHECK(run(one, plain{}, 1).selector(0, 0) == 1);
  CHECK_THROWS_WITH_AS(run(one, leave_one_out{}),
                       "samples is 1, but \"expected log-likelihood, leave-one-out\" needs at least 2",
                       dro::option_error);
}

TEST_CASE("weights of other draws are refused") {
  dro::host_backend b(1);
  const dro::host_matrix<double> three(2, 3);
  const dro::host_matrix<double> four(2, 4);
  const auto w = dro::importance_weights(b, dro::on_policy(b, four));
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::coefficients(b, plain{}, dro::on_policy(b, three), w)),
                       "weights is [2 × 4], expected [6 × 1] or [2 × 3]", dro::shape_error);
}
