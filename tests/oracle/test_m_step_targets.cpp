// SPDX-License-Identifier: Apache-2.0
// What an M-step can maximise beside plain objectives, and how it holds over many steps.
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/em/advisor.hpp>
#include <dro/em/baselines.hpp>
#include <dro/em/calibrated.hpp>
#include <dro/em/em.hpp>
#include <dro/em/set_scores.hpp>
#include <dro/em/unordered_sets.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/model/proposals/uniform.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/ranking/enumerate.hpp>
#include <dro/ranking/without_replacement.hpp>

#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using test::exact_world;
using test::real;
using backend = dro::host_backend;
using e_step_of_world = dro::e_step_result<backend, double>;
namespace bl = dro::baseline;

/// A world with its models, an E-step of m draws, and what an M-step on a target asks of the two models.
struct scene {
  backend b{1};
  exact_world w{4, 2, 3, 3, 71};
  test::world_selector selector = w.selector(b);
  test::world_generator generator = w.generator(b);
  dro::random_state<backend> random{b, 5};
  e_step_of_world e;

  explicit scene(index_t m = 6) : e(dro::e_step(b, selector, generator, w.all(), {m, 2}, random)) {}

  struct outcome {
    dro::host_matrix<double> d_scores, d_logits;
    dro::gradient_coefficients<backend, double> c;
  };
  template <class Target>
  outcome m_step(const Target& target) {
    test::gradient_recorder of_selector;
    test::gradient_recorder of_generator;
    auto c = dro::m_step(b, selector, generator, w.all(), e, target, of_selector, of_generator);
    return {std::move(of_selector.gradient), std::move(of_generator.gradient), std::move(c)};
  }
};

/// All queries as one batch, whatever the order.
struct whole_table {
  index_t queries;
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(queries); }
  [[nodiscard]] dro::models::table_rows batch(std::span<const index_t>) const { return {0, queries}; }
};

}  // namespace

TEST_CASE("greedy baseline: the reward of the largest scores' ranking is taken off") {
  scene s;
  dro::host_matrix<double> greedy(3, 1);
  for (index_t q = 0; q < 3; ++q) {
    const auto score = test::row(s.w.scores, q);
    test::ranking best(2);
    for (std::size_t j = 1; j < 4; ++j) {
      if (score[j] > score[static_cast<std::size_t>(best[0])]) best[0] = static_cast<dro::document_t>(j);
    }
    best[1] = best[0] == 0 ? 1 : 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const auto document = static_cast<dro::document_t>(j);
      if (document != best[0] && score[j] > score[static_cast<std::size_t>(best[1])]) best[1] = document;
    }
    for (std::size_t z = 0; z < s.w.rankings.size(); ++z) {
      if (s.w.rankings[z] == best) greedy(q, 0) = static_cast<double>(s.w.log_likelihood(q)[z]);
    }
  }
  const auto check = [&](auto recipe, auto known) {
    known.subtract = {std::as_const(s.b).view(greedy)};
    const auto expected = dro::coefficients(s.b, known, s.e.scores(s.b), s.e.weights);
    const auto found = s.m_step(recipe);
    // The table's softmax and the reference's agree to a few ulp of numbers below 16.
    for (std::size_t i = 0; i < 18; ++i) {
      DRO_CHECK_NEAR(found.c.selector.data()[i], expected.selector.data()[i], 1e-14);
      DRO_CHECK_NEAR(found.c.generator.data()[i], expected.generator.data()[i], 1e-14);
    }
  };
  check(dro::greedy_baseline<dro::expected_log_likelihood>{}, dro::expected_log_likelihood<bl::value<double>>{});
  check(dro::greedy_baseline<dro::expected_likelihood>{}, dro::expected_likelihood<bl::value<double>>{});
}

TEST_CASE("moving average: of the steps before, corrected for its start, never of the current draws") {
  const double decay = 0.75;
  const auto check = [&](auto make, auto mean_reward, auto to_known) {
    scene s;
    auto target = make(s.b);
    real average = 0;
    for (int step = 0; step < 4; ++step) {
      const auto l = read(s.b, s.e.log_likelihood);
      const real weight = 1 - std::pow(real(decay), step);
      const dro::host_matrix<double> known(1, 1, {static_cast<double>(to_known(step == 0 ? 0 : average / weight))});
      const auto expected = dro::coefficients(s.b, target.with(known), s.e.scores(s.b), s.e.weights);
      const auto found = s.m_step(target.recipe);
      for (std::size_t i = 0; i < 18; ++i) {
        DRO_CHECK_NEAR(found.c.selector.data()[i], expected.selector.data()[i], 1e-14);
      }
      real mean = 0;
      for (std::size_t i = 0; i < 18; ++i) mean += mean_reward(l.data()[i]) / 18;
      average = decay * average + (1 - real(decay)) * mean;
      s.e = dro::e_step(s.b, s.selector, s.generator, s.w.all(), {6, 2}, s.random);
    }
  };
  struct of_log {
    dro::moving_average_baseline<dro::expected_log_likelihood, backend> recipe;
    [[nodiscard]] auto with(const dro::host_matrix<double>& v) const {
      return dro::expected_log_likelihood<bl::value<double>>{{{v.data(), 1, 1, 1, 1}}};
    }
  };
  struct of_likelihood {
    dro::moving_average_baseline<dro::expected_likelihood, backend> recipe;
    [[nodiscard]] auto with(const dro::host_matrix<double>& v) const {
      return dro::expected_likelihood<bl::value<double>>{{{v.data(), 1, 1, 1, 1}}};
    }
  };
  check(
      [&](backend& b) { return of_log{dro::moving_average_baseline<dro::expected_log_likelihood, backend>(b, decay)}; },
      [](double l) { return real(l); }, [](real x) { return x; });
  check(
      [&](backend& b) {
        return of_likelihood{dro::moving_average_baseline<dro::expected_likelihood, backend>(b, decay)};
      },
      [](double l) { return std::exp(real(l)); }, [](real x) { return std::log(x); });
  backend b(1);
  using average = dro::moving_average_baseline<dro::expected_log_likelihood, backend>;
  CHECK_THROWS_WITH_AS(average(b, 1.0), "moving_average_baseline: decay is 1.000000, expected 0 to below 1",
                       dro::option_error);
}

TEST_CASE("variance-minimising baseline: norms at the current scores, and all of the mean of leave-one-out at λ = 1") {
  scene s;
  // On-policy λ = 1 is leave-one-out: the same coefficients to rounding.
  const auto a = s.m_step(dro::variance_minimising_baseline<dro::expected_log_likelihood>{1.0});
  const auto l = s.m_step(dro::expected_log_likelihood<>{});
  const auto d = s.m_step(dro::variance_minimising_baseline<dro::expected_log_likelihood>{0.0});
  real apart = 0;
  for (std::size_t i = 0; i < 18; ++i) {
    DRO_CHECK_NEAR(a.c.selector.data()[i], l.c.selector.data()[i], 1e-14);
    apart += std::abs(real(d.c.selector.data()[i]) - l.c.selector.data()[i]);
  }
  CHECK(apart > 1e-3);
}

TEST_CASE("set scores: the gradient of log P(set) with the coefficients of the objective within") {
  scene s;
  const auto found = s.m_step(dro::set_scores<dro::evidence<>>{});
  const auto plain = s.m_step(dro::evidence<>{});
  CHECK(test::same(found.c.selector, plain.c.selector));
  CHECK(test::same(found.d_logits, plain.d_logits));
  const auto z = read(s.b, s.e.z.rankings());
  for (index_t q = 0; q < 3; ++q) {
    const auto score = test::row(s.w.scores, q);
    std::vector<real> expected(4, 0);
    for (index_t i = 0; i < 6; ++i) {
      // P(set) of two documents is the sum over both orders, whose scores are weighed by their probabilities.
      const auto one = test::ranking_of(z, q * 6 + i);
      const test::ranking other = {one[1], one[0]};
      const real p = std::exp(test::plackett_luce_log_prob(score, one));
      const real r = std::exp(test::plackett_luce_log_prob(score, other));
      const auto of_one = test::plackett_luce_score(score, one);
      const auto of_other = test::plackett_luce_score(score, other);
      for (std::size_t j = 0; j < 4; ++j) {
        expected[j] += real(plain.c.selector(q * 6 + i, 0)) * (p * of_one[j] + r * of_other[j]) / (p + r);
      }
    }
    for (std::size_t j = 0; j < 4; ++j) {
      DRO_CHECK_NEAR(found.d_scores(q, static_cast<index_t>(j)), expected[j], 1e-14);
    }
  }
}

TEST_CASE("calibrated: the coefficients are those of the weights after calibration, the E-step's stay raw") {
  scene s;
  const auto raw = read(s.b, s.e.weights.normalised);
  const dro::calibration::temper temper{0.9};
  const auto found = s.m_step(dro::calibrated(dro::evidence<>{}, dro::calibration::truncate{}, temper));
  const auto used = dro::calibrate(s.b, s.e.scores(s.b), dro::calibration::truncate{}, temper).used;
  const auto expected = dro::coefficients(s.b, dro::evidence<>{}, s.e.scores(s.b), used);
  CHECK(test::same(found.c.selector, expected.selector));
  CHECK_FALSE(test::same(used.normalised, s.e.weights.normalised));
  CHECK(test::same(raw, s.e.weights.normalised));
}

TEST_CASE("set scores over several steps: the gradient of log P(set) is that of the scores as they are") {
  // One gradient step of the M-step against one made by hand at the scores after the first.
  const auto scores_after = [](index_t steps) {
    scene s;
    dro::sgd<backend, double> of_selector(s.b, {.learning_rate = 1});
    dro::m_step(s.b, s.selector, s.generator, s.w.all(), s.e, dro::set_scores<dro::evidence<bl::none>>{}, of_selector,
                dro::frozen{}, {.steps = steps});
    return read(s.b, s.selector.scores());
  };
  scene s;
  dro::sgd<backend, double> of_selector(s.b, {.learning_rate = 1});
  for (int step = 0; step < 2; ++step) {
    dro::m_step(s.b, s.selector, s.generator, s.w.all(), s.e, dro::set_scores<dro::evidence<bl::none>>{}, of_selector,
                dro::frozen{});
    dro::reweigh(s.b, s.selector, s.generator, s.w.all(), s.e);
  }
  CHECK(test::same(scores_after(2), s.selector.scores()));
  CHECK(test::largest_magnitude(test::elements(scores_after(50))) < 10);
}

TEST_CASE("what would find its own draws in its state is refused a second step on them") {
  scene s;
  test::gradient_recorder ignore;
  dro::moving_average_baseline<dro::expected_log_likelihood, backend> average(s.b);
  CHECK_THROWS_WITH_AS(dro::m_step(s.b, s.selector, s.generator, s.w.all(), s.e, average, ignore, ignore, {.steps = 2}),
                       "M-step: steps is 2, but this estimator holds for one step on the draws of an E-step",
                       dro::option_error);
}

TEST_CASE("em counts the queries that the objective gives nothing, whatever their weights") {
  scene s;
  // One answer is impossible given one list: a weight of 0 among others, and a reward of −inf.
  s.w.logits(0, s.w.right(0, 0)) = -test::infinity<double>;
  auto generator = s.w.generator(s.b);
  dro::sgd<backend, double> of_selector(s.b, {.learning_rate = 0.1});
  dro::step_summary summary;
  struct keep {
    dro::step_summary& to;
    void on_iteration(const dro::loop_progress&, const dro::step_summary& now) { to = now; }
  };
  const dro::em_options options{.loop = {.iterations = 1, .batch_size = 3}, .draw = {64, 2}, .hit_log_likelihood = -50};
  dro::em(s.b, s.selector, generator, whole_table{3}, dro::expected_log_likelihood<>{}, of_selector, dro::frozen{},
          options, keep{summary});
  CHECK(summary.flagged() == 0);
  CHECK(summary.without_gradient == 1);
  CHECK(summary.hits_known == 3);
  CHECK(summary.all_hit == 2);
  CHECK(dro::advise(summary).what == dro::finding::no_gradient);
  dro::em(s.b, s.selector, generator, whole_table{3}, dro::evidence<>{}, of_selector, dro::frozen{}, options,
          keep{summary});
  CHECK(summary.without_gradient == 0);
}

TEST_CASE("unordered sets: draws without replacement in the E-step, their estimator in the M-step") {
  scene s;
  const auto distinct = dro::without_replacement(s.selector);
  const dro::unordered_sets<dro::unordered_set::evidence> target;
  CHECK_THROWS_WITH_AS(s.m_step(target),
                       "unordered_sets: these draws were not made without replacement: the proposal of the E-step is "
                       "to be dro::without_replacement(selector)",
                       dro::option_error);
  // All twelve rankings: the exact gradient of the evidence.
  s.e = dro::e_step(s.b, s.selector, s.generator, distinct, s.w.all(), {12, 2}, s.random);
  const auto found = s.m_step(target);
  for (index_t q = 0; q < 3; ++q) {
    auto one = s.w;
    const auto truth = test::central_differences(test::elements(one.scores), [&] { return one.log_evidence(q) / 3; });
    for (index_t j = 0; j < 4; ++j) {
      // Central differences at h = 1e-5: see test_objectives.cpp.
      DRO_CHECK_NEAR(found.d_scores(q, j), truth[static_cast<std::size_t>(4 * q + j)], 1e-9);
    }
  }
  test::gradient_recorder ignore;
  CHECK_THROWS_AS(dro::m_step(s.b, s.selector, s.generator, s.w.all(), s.e, target, ignore, ignore, {.steps = 2}),
                  dro::option_error);
}

TEST_CASE("em draws from whatever it is told to, and from the selector as before") {
  const whole_table source{3};
  const dro::em_options options{.loop = {.iterations = 6, .batch_size = 3, .seed = 4}, .draw = {4, 2}};
  const auto scores_after = [&](auto&&... draws_from) {
    scene s;
    dro::sgd<backend, double> of_selector(s.b, {.learning_rate = 0.3});
    dro::sgd<backend, double> of_generator(s.b, {.learning_rate = 0.3});
    dro::em_run<backend> run(s.b, 4);
    double last = 0;
    struct watch {
      double& evidence;
      void on_iteration(const dro::loop_progress&, const dro::step_summary& summary) { evidence = summary.evidence; }
    };
    CHECK(dro::em(s.b, s.selector, s.generator, draws_from(s)..., source, dro::evidence<>{}, of_selector, of_generator,
                  options, run, watch{last}));
    CHECK(std::isfinite(last));
    return read(s.b, s.selector.scores());
  };
  const auto plain = scores_after();
  CHECK(test::same(plain, scores_after([](scene&) { return dro::selector_draws{}; })));
  const auto mixed = scores_after([](scene& s) { return dro::mixture(0.5, s.selector, dro::uniform<double>(4)); });
  CHECK_FALSE(test::same(plain, mixed));
  dro::allocation_options even{.samples = 4, .least = 4, .most = 4};
  const auto adaptive = scores_after([&](scene& s) { return dro::sample_allocation<backend>(s.b, 3, even); });
  // With four draws for everybody the draws are those of the selector; joining equal ones changes rounding only, which
  // six steps of rate 0.3 multiply by less than 2 each (the gradient is 2-Lipschitz in the scores).
  for (std::size_t i = 0; i < 12; ++i) {
    DRO_CHECK_NEAR(adaptive.data()[i], plain.data()[i], 64 * 16 * 60 * test::unit_roundoff<double>);
  }
}

TEST_CASE("3,000 steps on frozen draws stay bounded where the library allows them to be frozen") {
  const auto check = [](auto target) {
    static_assert(decltype(target)::valid_over_steps);
    CAPTURE(dro::objective_name<decltype(target)>());
    scene s;
    dro::sgd<backend, double> of_selector(s.b, {.learning_rate = 0.5});
    dro::sgd<backend, double> of_generator(s.b, {.learning_rate = 0.5});
    const auto c = dro::coefficients(s.b, target, s.e.scores(s.b), s.e.weights);
    // Σ c log p(z|x) + c′ log p(y|x,d_z) is what such steps climb; with coefficients ≥ 0 it is at most 0.
    const auto climbed = [&] {
      const auto prior = read(s.b, s.selector.log_prob(s.b, s.w.all(), s.e.z));
      const auto likelihood = read(s.b, s.generator.log_likelihood(s.b, s.w.all(), s.e.z));
      real total = 0;
      for (index_t i = 0; i < 18; ++i) {
        CHECK(c.selector(i, 0) >= 0);
        total += real(c.selector(i, 0)) * prior(i, 0) + real(c.generator(i, 0)) * likelihood(i, 0);
      }
      return total;
    };
    const real before = climbed();
    dro::m_step(s.b, s.selector, s.generator, s.w.all(), s.e, target, of_selector, of_generator, {.steps = 3000});
    const real after = climbed();
    CHECK(after > before);
    CHECK(after <= 0);
    // Weighted maximum likelihood has an optimum: what is left of the gradient is small beside what it was. Scores of
    // documents that no draw chose go to −∞, but ever slower: a score of −L moves by e^−L a step, so L ≤ log 3000 + 4.
    CHECK(test::largest_magnitude(test::elements(s.selector.scores())) < 12);
  };
  check(dro::evidence<bl::none>{});
  check(dro::expected_likelihood<bl::none>{});
  static_assert(!dro::evidence<>::valid_over_steps && !dro::evidence<bl::ratio>::valid_over_steps &&
                !dro::importance_weighted_bound<>::valid_over_steps && !dro::expected_likelihood<>::valid_over_steps &&
                !dro::expected_log_likelihood<bl::none>::valid_over_steps &&
                !dro::set_scores<dro::evidence<>>::valid_over_steps);
}

TEST_CASE("3,000 steps of every other objective, weighed again at each, stay bounded") {
  const auto check = [](auto target) {
    scene s(12);
    dro::sgd<backend, double> of_selector(s.b, {.learning_rate = 0.1});
    dro::sgd<backend, double> of_generator(s.b, {.learning_rate = 0.1});
    dro::m_step(s.b, s.selector, s.generator, s.w.all(), s.e, target, of_selector, of_generator, {.steps = 3000});
    // Ratios are those of the current selector: a draw that it no longer makes has no say, so nothing runs away.
    const real largest = test::largest_magnitude(test::elements(s.selector.scores()));
    CHECK(std::isfinite(largest));
    CHECK(largest < 40);
  };
  check(dro::evidence<>{});
  check(dro::evidence<bl::ratio>{});
  check(dro::importance_weighted_bound<>{});
  check(dro::expected_likelihood<>{});
  check(dro::expected_log_likelihood<>{});
  check(dro::set_scores<dro::evidence<>>{});
}
