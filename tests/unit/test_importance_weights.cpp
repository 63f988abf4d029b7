// SPDX-License-Identifier: Apache-2.0
// What is not a matter of the backend: arguments, shapes and views. The numbers are in
// typed/test_importance_weights.cpp.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/estimate/importance_weights.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

static_assert(std::is_trivially_copyable_v<dro::scored_draws<double>>);

}  // namespace

TEST_CASE("arguments of other shapes are refused by name") {
  dro::host_backend b(1);
  const dro::host_matrix<double> table(2, 3);
  const dro::host_matrix<double> other(3, 2);
  const dro::host_matrix<double> flat(6, 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::off_policy(b, other, table, table)),
                       "log_selector is [3 × 2], expected [6 × 1] or [2 × 3]", dro::shape_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::off_policy(b, table, table, other)),
                       "log_proposal is [3 × 2], expected [6 × 1] or [2 × 3]", dro::shape_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::on_policy(b, flat, dro::grouping::uniform(2, 4))),
                       "log_likelihood is [6 × 1], expected [8 × 1] or [2 × 4]", dro::shape_error);
  CHECK_NOTHROW(static_cast<void>(dro::off_policy(b, flat, table, flat)));
}

TEST_CASE("a proposal equal to the selector is the on-policy case, bit for bit") {
  dro::host_backend b(1);
  const auto likelihood = test::random_matrix<double>(3, 7, -9, 0, 101);
  const auto log_q = test::random_matrix<double>(3, 7, -9, 0, 102);
  const auto on = dro::importance_weights(b, dro::on_policy(b, likelihood));
  const auto off = dro::importance_weights(b, dro::off_policy(b, log_q, likelihood, log_q));
  CHECK(test::same(on.normalised, off.normalised));
  CHECK(test::same(on.log_evidence, off.log_evidence));
  CHECK(test::same(on.elbo, off.elbo));
}

TEST_CASE("the bound is below the estimate of the evidence, and both lie between the extremes") {
  dro::host_backend b(1);
  const auto likelihood = test::random_matrix<double>(50, 6, -9, 0, 103);
  const auto w = dro::importance_weights(b, dro::on_policy(b, likelihood));
  for (index_t q = 0; q < 50; ++q) {
    const auto values = test::row(likelihood, q);
    CHECK(w.elbo(q, 0) <= w.log_evidence(q, 0));
    CHECK(w.log_evidence(q, 0) <= static_cast<double>(*std::ranges::max_element(values)));
    CHECK(w.elbo(q, 0) >= static_cast<double>(*std::ranges::min_element(values)));
    CHECK(w.effective_sample_size(q, 0) >= 1);
    CHECK(w.effective_sample_size(q, 0) <= 6);
    CHECK(w.largest_weight(q, 0) >= 1.0 / 6);
    // Perplexity and 1/Σw̄² are Rényi counts of orders 1 and 2, 1/max w̄ that of order ∞: they fall in this order.
    CHECK(std::exp(w.entropy(q, 0)) >= w.effective_sample_size(q, 0) - 1e-12);
    CHECK(w.effective_sample_size(q, 0) >= 1 / w.largest_weight(q, 0) - 1e-12);
  }
}

TEST_CASE("a draw that selector and proposal both call impossible has weight 0") {
  // Such is a ranking that could not be completed: −inf − −inf is no number, but nothing here is not a number.
  dro::host_backend b(1);
  constexpr double never = -std::numeric_limits<double>::infinity();
  const dro::host_matrix<double> log_q(2, 2, {never, -1.0, never, never});
  const dro::host_matrix<double> likelihood(2, 2, {never, -2.0, never, never});
  const auto w = dro::importance_weights(b, dro::off_policy(b, log_q, likelihood, log_q));
  CHECK(w.normalised(0, 0) == 0);
  CHECK(w.normalised(0, 1) == 1);
  CHECK(w.status(0, 0) == static_cast<std::int32_t>(dro::status::ok));
  CHECK(w.status(1, 0) == static_cast<std::int32_t>(dro::status::impossible));
}

TEST_CASE("memory that is not the backend's own: a strided view and Eigen blocks") {
  dro::host_backend b(1);
  std::vector<double> memory(100, test::nan<double>);
  const dro::matrix_view<double> view{memory.data(), 2, 3, 40, 7};
  const auto values = test::random_matrix<double>(2, 3, -9, 0, 104);
  b.write(values.data(), view);
  const auto expected = dro::importance_weights(b, dro::on_policy(b, values));
  CHECK(test::same(dro::importance_weights(b, dro::on_policy(b, view)).normalised, expected.normalised));

  dro::eigen_backend<> eigen(1);
  Eigen::MatrixXd all = Eigen::MatrixXd::Constant(5, 6, test::nan<double>);
  for (index_t q = 0; q < 2; ++q) {
    for (index_t i = 0; i < 3; ++i) all(q + 1, i + 2) = values(q, i);
  }
  const auto block = all.block(1, 2, 2, 3);
  const auto w = dro::importance_weights(eigen, dro::on_policy(eigen, block));
  CHECK(test::same(read(eigen, w.normalised), expected.normalised));
}

TEST_CASE("every status has a word") {
  const char* words[] = {"ok", "impossible", "not a number", "unbounded", "degenerate", "support"};
  for (int s = 0; s < dro::status_count; ++s) {
    CHECK(std::string(dro::to_string(static_cast<dro::status>(s))) == words[s]);
  }
  CHECK(std::string(dro::to_string(static_cast<dro::status>(99))) == "unknown");
}
