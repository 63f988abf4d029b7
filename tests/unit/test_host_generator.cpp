// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/em/em.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/host_generator.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/ranking/autoregressive.hpp>

#include "support/matrices.hpp"
#include "support/pair_scorer.hpp"

namespace {

using dro::index_t;
using test::real;
using test::toy_query;
using batch = dro::item_batch<toy_query>;

/// A yes/no question: log p(y|x,d_z) = log σ(scale · Σ_t w_{z_t} r_t) with r_t = 1/(t + 1), or 1 where the order of the
/// documents has no say. Counts how often it is asked.
template <bool OrderFree>
class sigmoid_scorer {
 public:
  struct workspace {
    std::vector<double> gains;
  };
  static constexpr bool order_free = OrderFree;

  explicit sigmoid_scorer(std::vector<double> weights) : weights_(std::move(weights)) {}

  double log_likelihood(const toy_query& query, std::span<const dro::document_t> z, workspace& space) const {
    ++*calls_;
    return -std::log1p(std::exp(-score(query, z, space)));
  }
  void accumulate_gradient(const toy_query& query, std::span<const dro::document_t> z, double coefficient,
                           dro::sparse_gradient& gradient, workspace& space) const {
    const double miss = 1 / (1 + std::exp(score(query, z, space)));
    for (std::size_t t = 0; t < z.size(); ++t) {
      gradient.add(static_cast<std::uint32_t>(z[t]), coefficient * miss * query.scale * rate(t));
    }
  }
  std::span<double> parameters() { return weights_; }

  [[nodiscard]] int calls() const { return *calls_; }
  [[nodiscard]] real exact(const toy_query& query, const test::ranking& z) const {
    real sum = 0;
    for (std::size_t t = 0; t < z.size(); ++t) sum += weights_[static_cast<std::size_t>(z[t])] * real(rate(t));
    return -std::log1p(std::exp(-query.scale * sum));
  }

 private:
  static double rate(std::size_t t) { return OrderFree ? 1.0 : 1.0 / static_cast<double>(t + 1); }
  double score(const toy_query& query, std::span<const dro::document_t> z, workspace& space) const {
    space.gains.clear();
    for (std::size_t t = 0; t < z.size(); ++t)
      space.gains.push_back(weights_[static_cast<std::size_t>(z[t])] * rate(t));
    double sum = 0;
    for (const double gain : space.gains) sum += gain;
    return query.scale * sum;
  }

  std::vector<double> weights_;
  std::unique_ptr<std::atomic<int>> calls_ = std::make_unique<std::atomic<int>>(0);
};

template <bool OrderFree>
using reader = dro::host_generator<sigmoid_scorer<OrderFree>>;

static_assert(dro::list_scorer<sigmoid_scorer<true>, toy_query>);
static_assert(dro::generator<reader<true>, dro::host_backend, batch, double>);
static_assert(dro::generator<reader<false>, dro::deferred_backend, batch, double>);
static_assert(dro::trainable<reader<true>>);

const std::vector<double> weights = {0.5, -1.0, 1.5, 0.25, -0.75};
const std::vector<toy_query> queries = {{5, 1.0}, {4, 2.0}};
const std::vector<test::ranking> lists = {{0, 1}, {1, 0}, {0, 1}, {4, 2},  //
                                          {3, 2}, {3, 2}, {2, 3}, {1, dro::no_document}};

template <class B>
dro::draws<B, double> as_draws(B& b, const std::vector<test::ranking>& z, index_t query_count) {
  const auto groups = dro::grouping::uniform(query_count, static_cast<index_t>(z.size()) / query_count);
  return {b, dro::write(b, test::ranking_matrix(z)), dro::make_filled<double>(b, groups.total(), 1, 0.0), groups};
}

template <class Model>
std::vector<double> gradient_of(Model& model) {
  std::vector<double> g;
  model.for_each_parameter([&](auto, dro::matrix_view<double> gradient) {
    for (index_t k = 0; k < gradient.cols; ++k) g.push_back(gradient(0, k));
  });
  return g;
}

}  // namespace

TEST_CASE_TEMPLATE("each draw has its list's log-likelihood, and no list is scored twice", Reader, reader<false>,
                   reader<true>) {
  dro::host_backend b(1);
  const Reader model{std::decay_t<decltype(std::declval<Reader&>().scorer())>(weights)};
  const auto p = model.log_likelihood(b, batch(queries), as_draws(b, lists, 2));
  for (std::size_t i = 0; i < 7; ++i) {
    // Scores below 5 from two products, exp, log1p: below 20 u.
    DRO_CHECK_NEAR(p(static_cast<index_t>(i), 0), model.scorer().exact(queries[i / 4], lists[i]),
                   20 * test::unit_roundoff<double>);
  }
  CHECK(p(7, 0) == -test::infinity<double>);  // a place without a document
  // {0,1} {1,0} {4,2} and {3,2} {2,3} where order counts; {0,1} {2,4} and {2,3} where it does not.
  const bool order_free = std::is_same_v<Reader, reader<true>>;
  CHECK(model.scorer().calls() == (order_free ? 3 : 5));
}

TEST_CASE_TEMPLATE("the gradient agrees with central differences and adds up", Reader, reader<false>, reader<true>) {
  const std::vector<double> c = {1.0, -0.5, 0.25, 0.75, -1.0, 0.5, 2.0, 3.0};
  dro::host_backend b(1);
  Reader model{std::decay_t<decltype(std::declval<Reader&>().scorer())>(weights)};
  model.accumulate_gradient(b, batch(queries), as_draws(b, lists, 2), test::column(c));
  const auto expected = test::central_differences(model.scorer().parameters(), [&] {
    real sum = 0;
    for (std::size_t i = 0; i < 7; ++i) sum += real(c[i]) * model.scorer().exact(queries[i / 4], lists[i]);
    return sum;
  });
  const auto g = gradient_of(model);
  const real size = test::largest_magnitude(expected);
  for (std::size_t k = 0; k < g.size(); ++k) DRO_CHECK_NEAR(g[k], expected[k], 1e-6 * size);
  model.accumulate_gradient(b, batch(queries), as_draws(b, lists, 2), test::column(c));
  const auto twice = gradient_of(model);
  for (std::size_t k = 0; k < g.size(); ++k) DRO_CHECK_NEAR(twice[k], 2 * g[k], 1e-15);
}

TEST_CASE("threads and the deferred backend change no bit") {
  const std::vector<toy_query> many(16, toy_query{5, 0.75});
  std::vector<test::ranking> z;
  std::vector<double> c;
  test::numbers next(141);
  for (const auto& list : test::all_rankings(5, 2)) {
    for (int i = 0; i < 4; ++i) {
      z.push_back(list);
      c.push_back(next.between(-1, 1));
    }
  }
  const auto train = [&](auto& b) {
    reader<false> model{sigmoid_scorer<false>(weights)};
    const auto list = as_draws(b, z, 16);
    const auto likelihood = read(b, model.log_likelihood(b, batch(many), list));
    const auto coefficients = dro::write(b, test::column(c));
    model.accumulate_gradient(b, batch(many), list, coefficients);
    b.synchronise();
    return std::pair(std::vector<double>(likelihood.data(), likelihood.data() + likelihood.rows()), gradient_of(model));
  };
  dro::host_backend one(1);
  const auto expected = train(one);
  for (const int threads : {2, 4}) {
    dro::host_backend b(threads);
    CHECK(train(b) == expected);
  }
  dro::deferred_backend deferred;
  CHECK(train(deferred) == expected);
}

TEST_CASE("draws of other queries are refused") {
  dro::host_backend b(1);
  reader<true> model{sigmoid_scorer<true>(weights)};
  const auto z = as_draws(b, lists, 4);
  CHECK_THROWS_WITH_AS(static_cast<void>(model.log_likelihood(b, batch(queries), z)),
                       "host_generator: 2 queries, but draws of 4", dro::shape_error);
  CHECK_THROWS_AS(model.accumulate_gradient(b, batch(queries), as_draws(b, lists, 2), dro::host_matrix<double>(7, 1)),
                  dro::shape_error);
}

TEST_CASE("a sparse gradient gives what was touched, in order, and is empty afterwards") {
  dro::sparse_gradient g(4);
  g.add(2, 1.5);
  g.add(0, -1);
  g.add(2, 0.5);
  auto entries = g.take();
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].parameter == 2);
  CHECK(entries[0].value == 2);
  CHECK(entries[1].parameter == 0);
  CHECK(entries[1].value == -1);
  CHECK(g.take().empty());
  g.add(2, 1);
  entries = g.take();
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].value == 1);
}

TEST_CASE("EM over batches of items raises the evidence of an autoregressive selector and a reader") {
  const std::vector<toy_query> items = {{5, 1.0}, {4, 2.0}, {5, 0.5}, {3, 1.5}, {4, 1.0}};
  dro::host_backend b(1);
  dro::autoregressive_selector<test::pair_scorer> selector{test::pair_scorer(5)};
  reader<false> model{sigmoid_scorer<false>(weights)};
  const auto evidence = [&] {
    real sum = 0;
    for (const toy_query& query : items) {
      std::vector<real> joint;
      for (const auto& z : test::all_rankings(query.documents, 2)) {
        joint.push_back(selector.scorer().log_prob(query, z) + model.scorer().exact(query, z));
      }
      sum += test::log_sum_exp(joint);
    }
    return sum / static_cast<real>(items.size());
  };
  dro::sgd<dro::host_backend> selector_optimizer(b, {.learning_rate = 0.2});
  dro::sgd<dro::host_backend> reader_optimizer(b, {.learning_rate = 0.2});
  const dro::em_options options{.loop = {.iterations = 20, .batch_size = 2, .seed = 5}, .draw = {8, 2}};
  const real before = evidence();
  CHECK(dro::em(b, selector, model, dro::item_source<toy_query>(items), dro::evidence<>{}, selector_optimizer,
                reader_optimizer, options));
  CHECK(evidence() > before + 0.3);

  // The form that can be resumed makes the same run.
  dro::autoregressive_selector<test::pair_scorer> same_selector{test::pair_scorer(5)};
  reader<false> same_model{sigmoid_scorer<false>(weights)};
  dro::sgd<dro::host_backend> so(b, {.learning_rate = 0.2});
  dro::sgd<dro::host_backend> ro(b, {.learning_rate = 0.2});
  dro::em_run<dro::host_backend> run(b, 5);
  CHECK(dro::em(b, same_selector, same_model, dro::item_source<toy_query>(items), dro::evidence<>{}, so, ro, options,
                run));
  CHECK(std::ranges::equal(selector.scorer().parameters(), same_selector.scorer().parameters()));
  CHECK(std::ranges::equal(model.scorer().parameters(), same_model.scorer().parameters()));
}
