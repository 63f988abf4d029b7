// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <dro/em/e_step.hpp>
#include <dro/em/m_step.hpp>
#include <dro/em/totals.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/models/table.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/ranking/enumerate.hpp>

#include "support/backends.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

constexpr index_t queries = 3;
constexpr index_t documents = 5;
constexpr index_t picks = 2;
constexpr index_t answers = 4;
constexpr dro::models::table_rows all{0, queries};

/// A table selector and generator on backend B, with what trains them.
template <class B, class T>
struct toy {
  dro::models::table_selector<B, T> selector;
  dro::models::table_generator<B, T> generator;
  dro::sgd<B, T> selector_optimizer, generator_optimizer;
  dro::random_state<B> random;

  explicit toy(B& b)
      : selector(b, test::random_matrix<T>(queries, documents, -2, 2, 31)),
        generator(b, documents, picks, test::random_matrix<T>(queries * 20, answers, -2, 2, 32),
                  test::column(std::vector<std::int32_t>{1, 3, 0})),
        selector_optimizer(b, {.learning_rate = 0.5}),
        generator_optimizer(b, {.learning_rate = 0.5}),
        random(b, 17) {}

  /// E- and M-step; what happened to the totals.
  void step(B& b, dro::step_totals<B>& totals, const dro::m_step_options& options = {}) {
    auto e = dro::e_step(b, selector, generator, all, {8, picks}, random);
    dro::m_step(b, selector, generator, all, e, dro::evidence<>{}, selector_optimizer, generator_optimizer, options);
    totals.add(b, e.weights, e.weights.status, e.z.groups());
  }
};

}  // namespace

// Each backend once: all of EM is costly to compile, and its parts have run in every setting.
TEST_CASE_TEMPLATE("three EM steps give the same models on every backend", S, test::on_host<float>,
                   test::on_eigen_columns<double>, test::on_eigen_rows<float>, test::on_deferred<double>,
                   test::on_counting<float>) {
  using T = typename S::scalar;
  using B = typename S::backend;
  B b;
  dro::host_backend host(1);
  toy<B, T> models(b);
  toy<dro::host_backend, double> reference(host);
  dro::step_totals<B> totals(b);
  dro::step_totals<dro::host_backend> reference_totals(host);
  for (int i = 0; i < 3; ++i) {
    models.step(b, totals, {.steps = 2});
    reference.step(host, reference_totals, {.steps = 2});
  }
  // Parameters below 3 move by at most 0.5 a gradient step. A gradient of 8 samples of size 1 has a rounding error
  // below 8 · 60 u (see typed/test_plackett_luce.cpp), which one step multiplies by at most 1 + 0.5 · 2 (the gradient
  // changes no faster than by 2 a unit); six steps: 0.5 · 480 u · (2^6 − 1) < 2^14 u. In float, equal rankings need the
  // scores not to lie within that of a tie, which fixed seeds decide once and for all.
  const real tolerance = 16384 * static_cast<real>(test::unit_roundoff<T>);
  const auto scores = read(b, models.selector.scores());
  const auto expected = read(host, reference.selector.scores());
  real worst = 0;
  for (index_t i = 0; i < queries * documents; ++i) {
    worst = std::max<real>(worst, std::abs(static_cast<real>(scores.data()[i]) - expected.data()[i]));
  }
  DRO_CHECK_NEAR(worst, 0, tolerance);
  const auto summary = totals.take(b);
  const auto expected_summary = reference_totals.take(host);
  DRO_CHECK_NEAR(summary.evidence, expected_summary.evidence, tolerance);
  DRO_CHECK_NEAR(summary.elbo, expected_summary.elbo, tolerance);
  DRO_CHECK_NEAR(summary.effective_sample_size, expected_summary.effective_sample_size, 8 * tolerance);
  DRO_CHECK_NEAR(summary.weight_variance, expected_summary.weight_variance, 8 * tolerance);
  CHECK(summary.count(dro::status::ok) == 9);
  CHECK(summary.flagged() == 0);
}

TEST_CASE_TEMPLATE("E- and M-step read nothing back and never wait", T, float, double) {
  dro::deferred_backend b;
  toy<dro::deferred_backend, T> models(b);
  dro::step_totals<dro::deferred_backend> totals(b);
  b.synchronise();
  CHECK(b.pending() == 0);
  const auto waits = b.synchronisations();
  for (int i = 0; i < 3; ++i) models.step(b, totals, {.steps = 2});
  CHECK(b.reads() == 0);
  CHECK(b.synchronisations() == waits);
  CHECK(b.pending() > 0);
  // Nothing has been carried out yet: the parameters are those of the beginning.
  const auto untouched = test::random_matrix<T>(queries, documents, -2, 2, 31);
  CHECK(b.view(models.selector.scores())(1, 2) == untouched(1, 2));
  const auto summary = totals.take(b);
  CHECK(b.reads() == 1);
  CHECK(b.pending() <= 1);  // the zeroing of the totals
  CHECK(summary.count(dro::status::ok) == 9);
  CHECK(b.view(models.selector.scores())(1, 2) != untouched(1, 2));

  dro::counting_backend<dro::host_backend> counted(1);
  toy<dro::counting_backend<dro::host_backend>, T> others(counted);
  dro::step_totals<dro::counting_backend<dro::host_backend>> other_totals(counted);
  const auto writes = counted.writes();
  const auto runs = counted.runs();
  others.step(counted, other_totals);
  CHECK(counted.reads() == 0);
  CHECK(counted.writes() == writes);
  CHECK(counted.synchronisations() == 0);
  CHECK(counted.runs() > runs);
}

TEST_CASE_TEMPLATE("the number of threads changes no bit", T, float, double) {
  const auto train = [](int threads) {
    dro::host_backend b(threads);
    toy<dro::host_backend, T> models(b);
    dro::step_totals<dro::host_backend> totals(b);
    for (int i = 0; i < 4; ++i) models.step(b, totals);
    return std::pair(read(b, models.selector.scores()), totals.take(b).evidence);
  };
  const auto [scores, evidence] = train(1);
  for (const int threads : {2, 4}) {
    const auto [other_scores, other_evidence] = train(threads);
    CHECK(test::same(scores, other_scores));
    CHECK(evidence == other_evidence);
  }
}
