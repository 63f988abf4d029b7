// SPDX-License-Identifier: Apache-2.0
// E- and M-steps, models, optimisers and the allocation of samples, with several threads a row.
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/em/adaptive.hpp>
#include <dro/em/allocation.hpp>
#include <dro/em/baselines.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/m_step.hpp>
#include <dro/em/set_scores.hpp>
#include <dro/em/unordered_sets.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/models/table.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/without_replacement.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "teams.hpp"

namespace {

using dro::index_t;

constexpr index_t queries = 4;
constexpr index_t documents = 5;
constexpr index_t picks = 2;
constexpr index_t answers = 6;
constexpr index_t samples = 6;
constexpr dro::models::table_rows all{0, queries};

/// A table selector and generator on backend B, with what trains them.
template <class B>
struct toy {
  dro::models::table_selector<B> selector;
  dro::models::table_generator<B> generator;
  dro::adamw<B> selector_optimizer;
  dro::sgd<B> generator_optimizer;
  dro::random_state<B> random;

  explicit toy(B& b)
      : selector(b, test::random_matrix<double>(queries, documents, -2, 2, 81)),
        generator(b, documents, picks, test::random_matrix<double>(queries * 20, answers, -2, 2, 82),
                  test::column(std::vector<std::int32_t>{1, 3, 0, 5})),
        selector_optimizer(b, {.learning_rate = 0.1}, {}, 0.5),
        generator_optimizer(b, {.learning_rate = 0.5, .momentum = 0.5}),
        random(b, 12) {}

  template <class Target>
  void m_step(B& b, dro::e_step_result<B, double>& e, const Target& target) {
    dro::m_step(b, selector, generator, all, e, target, selector_optimizer, generator_optimizer);
  }
  void add(B& b, test::results& out) {
    selector.for_each_parameter([&](auto value, auto) { out.add(b, "selector", value); });
    generator.for_each_parameter([&](auto value, auto) { out.add(b, "generator", value); });
    selector_optimizer.for_each_state([&](const std::string& name, const auto& m) { out.add(b, name, m); });
    out.add(b, "norm", selector_optimizer.gradient_norm());
  }
};

/// Two steps towards each target.
template <class... MakeTargets>
void check_training(const MakeTargets&... targets) {
  test::check_teams([&](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    const auto train = [&](const auto& make) {
      toy<B> models(b);
      const auto target = make(b);
      for (int i = 0; i < 2; ++i) {
        auto e = dro::e_step(b, models.selector, models.generator, all, {samples, picks}, models.random);
        models.m_step(b, e, target);
      }
      models.add(b, out);
    };
    (train(targets), ...);
  });
}

}  // namespace

TEST_CASE("steps towards objectives") {
  check_training([](auto&) { return dro::evidence<>{}; }, [](auto&) { return dro::set_scores<dro::evidence<>>{}; },
                 [](auto&) { return dro::expected_log_likelihood<>{}; });
}

TEST_CASE("steps with baselines that ask the models") {
  check_training([](auto&) { return dro::greedy_baseline<dro::expected_likelihood>{}; },
                 [](auto&) { return dro::variance_minimising_baseline<dro::expected_log_likelihood>{}; },
                 [](auto& b) {
                   using B = std::remove_cvref_t<decltype(b)>;
                   return dro::moving_average_baseline<dro::expected_log_likelihood, B>(b);
                 },
                 [](auto& b) {
                   using B = std::remove_cvref_t<decltype(b)>;
                   return dro::moving_average_baseline<dro::expected_likelihood, B>(b);
                 });
}

TEST_CASE("a step on rankings drawn without replacement") {
  test::check_teams([&](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    toy<B> models(b);
    auto e = dro::e_step(b, models.selector, models.generator, dro::without_replacement(models.selector), all,
                         {samples, picks}, models.random);
    models.m_step(b, e, dro::unordered_sets<dro::unordered_set::evidence>{});
    models.add(b, out);
  });
}

TEST_CASE("samples shared out by what earlier visits showed") {
  test::check_teams([&](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    toy<B> models(b);
    dro::sample_allocation<B> allocation(b, queries + 2, {.samples = 6.5, .least = 2, .most = 12});
    const std::vector<index_t> positions{4, 0, 3, 5};
    for (int i = 0; i < 3; ++i) {
      out.add(b, "offsets", allocation.offsets(b, positions));
      auto e =
          dro::adaptive_e_step(b, models.selector, models.generator, all, positions, picks, allocation, models.random);
      out.add(b, "rankings", e.z.rankings());
      out.add(b, "multiplicity", e.z.multiplicity());
      out.add(b, "weights", e.weights.normalised);
      models.m_step(b, e, dro::evidence<>{});
    }
    out.add(b, "statistics", allocation.matrix());
    models.add(b, out);
  });
}

TEST_CASE("parameters of many blocks") {
  test::check_teams([&](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    struct weights {
      dro::matrix_view<double> value, gradient;
      void for_each_parameter(const std::function<void(dro::matrix_view<double>, dro::matrix_view<double>)>& f) {
        f(value, gradient);
      }
    };
    auto value = write(b, test::random_matrix<double>(3, 700, -1, 1, 83));
    auto gradient = write(b, test::random_matrix<double>(3, 700, -1, 1, 84));
    weights model{b.view(value), b.view(gradient)};
    dro::adagrad<B> optimizer(b, {}, {}, 1.0);
    optimizer.step(b, model);
    out.add(b, "value", value);
    out.add(b, "gradient", gradient);
    out.add(b, "norm", optimizer.gradient_norm());
  });
}
