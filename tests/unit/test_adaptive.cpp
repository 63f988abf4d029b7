// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/em/adaptive.hpp>
#include <dro/em/allocation.hpp>
#include <dro/em/callbacks.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/em.hpp>
#include <dro/em/m_step.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/model/host_generator.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/models/table.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/ranking/autoregressive.hpp>

#include "support/matrices.hpp"
#include "support/pair_scorer.hpp"

namespace {

using dro::index_t;
using test::real;

using positions = std::vector<index_t>;
using list = std::vector<double>;

positions first_positions(index_t count) {
  positions p(static_cast<std::size_t>(count));
  std::iota(p.begin(), p.end(), index_t{0});
  return p;
}

/// Statistics of queries each seen once, with two draws.
dro::host_matrix<double> seen_once(const list& variance, const list& room) {
  dro::host_matrix<double> m(static_cast<index_t>(variance.size()), 4);
  for (index_t q = 0; q < m.rows(); ++q) {
    m(q, 0) = m(q, 2) = 1;
    m(q, 1) = variance[static_cast<std::size_t>(q)];
    m(q, 3) = room[static_cast<std::size_t>(q)];
  }
  return m;
}

/// Draws that each query gets.
std::vector<index_t> counts(const dro::host_matrix<std::int32_t>& offsets) {
  std::vector<index_t> n;
  for (index_t q = 0; q + 1 < offsets.rows(); ++q) n.push_back(offsets(q + 1, 0) - offsets(q, 0));
  return n;
}

std::vector<index_t> allocate(const dro::host_matrix<double>& statistics, const dro::allocation_options& options) {
  dro::host_backend b(1);
  dro::sample_allocation<dro::host_backend> a(b, statistics.rows(), options);
  a.matrix() = statistics;
  return counts(a.offsets(b, first_positions(statistics.rows())));
}

/// Σ share²/n.
real cost(const std::vector<real>& share, const std::vector<index_t>& n) {
  real sum = 0;
  for (std::size_t q = 0; q < n.size(); ++q) sum += share[q] * share[q] / static_cast<real>(n[q]);
  return sum;
}

/// The smallest cost of sharing `total` draws out between a floor and a cap, by trying all.
real best_cost(const std::vector<real>& share, index_t total, index_t least, index_t most, std::size_t from = 0) {
  const auto rest = static_cast<index_t>(share.size() - from);
  if (rest == 0) return total == 0 ? 0 : test::infinity<real>;
  real best = test::infinity<real>;
  for (index_t n = least; n <= std::min(most, total - least * (rest - 1)); ++n) {
    best = std::min(
        best, share[from] * share[from] / static_cast<real>(n) + best_cost(share, total - n, least, most, from + 1));
  }
  return best;
}

/// Table models of five queries over rankings of 2 of 4 documents, on backend B.
template <class B>
struct toy {
  static constexpr index_t queries = 5;
  B b;
  dro::models::table_selector<B> selector;
  dro::models::table_generator<B> generator;
  dro::sgd<B> selector_optimizer, generator_optimizer;
  dro::random_state<B> random;
  dro::sample_allocation<B> allocation;

  explicit toy(int threads = 1, const dro::allocation_options& options = {.samples = 6, .least = 2, .most = 12})
      : b(threads),
        selector(b, test::random_matrix<double>(queries, 4, -1, 1, 41)),
        generator(b, 4, 2, test::random_matrix<double>(queries * 12, 3, -3, 3, 42),
                  test::column(std::vector<std::int32_t>{1, 2, 0, 0, 1})),
        selector_optimizer(b, {.learning_rate = 0.2}),
        generator_optimizer(b, {.learning_rate = 0.2}),
        random(b, 9),
        allocation(b, queries, options) {}

  auto e_step() {
    return dro::adaptive_e_step(b, selector, generator, dro::models::table_rows{0, queries}, first_positions(queries),
                                2, allocation, random);
  }
  auto step() {
    auto e = e_step();
    dro::m_step(b, selector, generator, dro::models::table_rows{0, queries}, e, dro::evidence<>{}, selector_optimizer,
                generator_optimizer);
    return e;
  }
  [[nodiscard]] dro::host_matrix<std::int32_t> offsets() {
    return read(b, allocation.offsets(b, first_positions(queries)));
  }
};

}  // namespace

TEST_CASE("queries never seen share evenly, and what does not divide goes to the first of them") {
  const dro::host_matrix<double> nothing(5, 4);
  CHECK(allocate(nothing, {.samples = 8}) == std::vector<index_t>(5, 8));
  CHECK(allocate(nothing, {.samples = 2, .least = 2}) == std::vector<index_t>(5, 2));
  CHECK(allocate(nothing, {.samples = 3.4, .least = 1}) == std::vector<index_t>{4, 4, 3, 3, 3});
  CHECK(allocate(dro::host_matrix<double>(0, 4), {}).empty());
}

TEST_CASE("the sum is the budget, between floor and cap, and no other allocation has a smaller error") {
  test::numbers next(51);
  for (int trial = 0; trial < 40; ++trial) {
    const std::size_t size = 2 + next.word() % 3;
    list variance;
    std::vector<real> sigma;
    for (std::size_t q = 0; q < size; ++q) {
      variance.push_back(next.between(0, 4) * next.between(0, 4) + 0.01);
      sigma.push_back(std::sqrt(static_cast<real>(variance.back())));
    }
    const auto least = static_cast<index_t>(1 + next.word() % 3);
    const auto most = static_cast<index_t>(6 + next.word() % 6);
    const double samples = next.between(static_cast<double>(least), static_cast<double>(most));
    const auto n = allocate(seen_once(variance, list(size, 0.5)),
                            {.samples = samples, .least = least, .most = most, .exploration = 0, .prior = 0});
    const index_t total = std::accumulate(n.begin(), n.end(), index_t{0});
    CHECK(total == static_cast<index_t>(std::lround(samples * static_cast<double>(size))));
    CHECK(*std::min_element(n.begin(), n.end()) >= least);
    CHECK(*std::max_element(n.begin(), n.end()) <= most);
    const real smallest = best_cost(sigma, total, least, most);
    // Both are sums of the same few quotients of numbers below 16; a tie may be decided by their rounding.
    DRO_CHECK_NEAR(cost(sigma, n), smallest, 1e-12 * smallest);
  }
}

TEST_CASE("the exploration share goes where the answer was not found") {
  // The first two know neither more nor less of their weights than each other, nor do the last two.
  const auto statistics = seen_once({0, 0, 1, 1}, {1, 0, 0, 0});
  CHECK(allocate(statistics, {.samples = 10, .least = 1, .most = 40, .exploration = 0.5, .prior = 0}) ==
        std::vector<index_t>{19, 1, 10, 10});
  const auto without = allocate(statistics, {.samples = 10, .least = 1, .most = 40, .exploration = 0, .prior = 0});
  CHECK(without == std::vector<index_t>{1, 1, 19, 19});
  const auto all = allocate(statistics, {.samples = 10, .least = 1, .most = 37, .exploration = 1, .prior = 0});
  CHECK(all == std::vector<index_t>{37, 1, 1, 1});
  // Where nothing is left to be found the share is spread evenly; where all weights were equal, so is the other one.
  CHECK(allocate(seen_once({0, 0, 0, 0}, {0, 0, 0, 0}), {.samples = 10}) == std::vector<index_t>(4, 10));
}

TEST_CASE("what the caps leave goes to the others evenly") {
  CHECK(allocate(seen_once({9, 0, 0, 0}, {0, 0, 0, 0}),
                 {.samples = 8, .least = 2, .most = 11, .exploration = 0, .prior = 0}) ==
        std::vector<index_t>{11, 7, 7, 7});
}

TEST_CASE("a query never seen is taken for an average one") {
  auto statistics = seen_once({4, 0, 0, 4}, {0.75, 0, 0.25, 0.5});
  for (index_t column = 0; column < 4; ++column) statistics(1, column) = 0;
  const auto n = allocate(statistics, {.samples = 16, .least = 1, .most = 64, .exploration = 0, .prior = 0});
  const std::vector<real> sigma{2, std::sqrt(8.0L / 3), 0, 2};
  // See above for the tolerance; the query without variance has the floor, whatever its share.
  const real smallest = best_cost(sigma, 64, 1, 64);
  DRO_CHECK_NEAR(cost(sigma, n), smallest, 1e-12 * smallest);
  CHECK(n[2] == 1);
  // Room left: ¾, the mean ½, ¼, ½.
  const auto by_room = allocate(statistics, {.samples = 16, .least = 1, .most = 64, .exploration = 1});
  CHECK(by_room == std::vector<index_t>{24, 16, 8, 16});
}

TEST_CASE("few draws are drawn towards the variance of the batch, many are not") {
  // Pooled variance (0 + 300)/(1 + 99) = 3, prior 3: (0 + 9)/(1 + 3) = 9/4 and (300 + 9)/(99 + 3) = 103/34.
  dro::host_matrix<double> statistics(2, 4);
  statistics(0, 0) = 1;
  statistics(1, 0) = 99;
  statistics(1, 1) = 300;
  for (const index_t q : {0, 1}) statistics(q, 2) = 1;
  const auto n = allocate(statistics, {.samples = 500, .least = 1, .most = 999, .exploration = 0, .prior = 3});
  const std::vector<real> sigma{1.5L, std::sqrt(103.0L / 34)};
  const real smallest = best_cost(sigma, 1000, 1, 999);
  DRO_CHECK_NEAR(cost(sigma, n), smallest, 1e-12 * smallest);
  CHECK(n == std::vector<index_t>{463, 537});
}

TEST_CASE("statistics are those of the formulas, discounted by visits") {
  dro::host_backend b(1);
  dro::sample_allocation<dro::host_backend> a(b, 6, {.memory = 0.25});
  const auto rankings = test::ranking_matrix({{0}, {0}, {1}, {2}, {0}, {1}, {0}, {0}, {0}, {1}});
  // Query 0: four draws, three rankings. 1: two, both impossible. 2: one ranking twice. 3: two draws, one of NaN.
  auto z =
      deduplicate(b, dro::draws<dro::host_backend, double>(b, rankings, test::column(list(10, -1.0)),
                                                           test::column(std::vector<std::int32_t>{0, 4, 6, 8, 10})));
  const double never = -test::infinity<double>;
  const double half = std::log(0.5);
  const auto likelihood = test::column(
      list{std::log(0.25), std::log(0.25), half, never, never, never, half, half, test::nan<double>, half});
  const auto weights = dro::importance_weights(b, dro::on_policy(b, likelihood, z));
  const positions where{4, 0, 1, 2};
  a.observe(b, where, z, weights);
  // m w̄ = 1, 1, 2, 0: squares 0 + 0 + 1 + 1. p̂ = (1/4 + 1/4 + 1/2)/4 = 1/4, three of four draws distinct.
  // Each is a handful of operations on numbers below 4: 60 u.
  const real tolerance = 60 * test::unit_roundoff<double>;
  const auto check = [&](index_t q, const std::vector<real>& expected) {
    for (index_t column = 0; column < 4; ++column) {
      DRO_CHECK_NEAR(a.matrix()(q, column), expected[static_cast<std::size_t>(column)], tolerance);
    }
  };
  check(4, {3, 2, 1, 0.75L * 0.75L});
  check(0, {0, 0, 1, 1});  // nothing is known of weights that are all 0
  check(1, {1, 0, 1, 0.25L});
  // A query of which nothing is known, or whose weights could not be used, is as if never visited.
  for (const index_t q : {2, 3, 5}) CHECK(test::row(a.matrix(), q) == std::vector<real>{0, 0, 0, 0});

  a.observe(b, where, z, weights);
  check(4, {3.75L, 2.5L, 1.25L, 1.25L * 0.75L * 0.75L});
  // A likelihood above 1, as densities have, leaves no room; one draw says nothing of the variance.
  dro::draws<dro::host_backend, double> one(b, test::ranking_matrix({{0}}), test::column(list{-1.0}),
                                            dro::grouping::uniform(1, 1));
  const auto three = test::column(list{3.0});
  a.observe(b, positions{5}, one, dro::importance_weights(b, dro::on_policy(b, three, one)));
  CHECK(test::row(a.matrix(), 5) == std::vector<real>{0, 0, 1, 0});
}

TEST_CASE("flat weights: more draws where no sample hit than where all did") {
  dro::host_backend b(1);
  dro::sample_allocation<dro::host_backend> a(b, 2, {.samples = 8});
  const auto z =
      deduplicate(b, dro::draws<dro::host_backend, double>(b, test::ranking_matrix({{0}, {1}, {0}, {1}}),
                                                           test::column(list(4, -1.0)), dro::grouping::uniform(2, 2)));
  const auto likelihood = test::column(list{-9, -9, -0.01, -0.01});
  const auto weights = dro::importance_weights(b, dro::on_policy(b, likelihood, z));
  CHECK(weights.effective_sample_size(0, 0) == weights.effective_sample_size(1, 0));
  a.observe(b, first_positions(2), z, weights);
  const auto n = counts(a.offsets(b, first_positions(2)));
  CHECK(n[0] > n[1] + 2);
  CHECK(n[0] + n[1] == 16);
}

TEST_CASE("a first step of even shares is that of e_step, bit for bit") {
  toy<dro::host_backend> adaptive(1, {.samples = 6});
  toy<dro::host_backend> fixed;
  const dro::models::table_rows all{0, 5};
  const auto e = adaptive.e_step();
  const auto expected = dro::e_step(fixed.b, fixed.selector, fixed.generator, all, {6, 2}, fixed.random);
  CHECK(test::same(e.z.rankings(), expected.z.rankings()));
  CHECK(test::same(e.z.log_proposal(), expected.z.log_proposal()));
  CHECK(test::same(e.log_likelihood, expected.log_likelihood));
  CHECK(e.z.groups().total() == 30);
  CHECK(e.selector_drew);
  // Copies are joined: sums over them differ by a few roundings of numbers below 6.
  const real tolerance = 100 * test::unit_roundoff<double>;
  for (index_t q = 0; q < 5; ++q) {
    DRO_CHECK_NEAR(e.weights.log_evidence(q, 0), expected.weights.log_evidence(q, 0), tolerance);
    DRO_CHECK_NEAR(e.weights.effective_sample_size(q, 0), expected.weights.effective_sample_size(q, 0), tolerance);
  }
  CHECK(read(adaptive.b, adaptive.random.step())(0, 0) == 1);
}

TEST_CASE("later steps differ in numbers, and have the first draws of the selector") {
  toy<dro::host_backend> t;
  t.step();
  const auto offsets = t.offsets();
  const auto n = counts(offsets);
  CHECK(std::accumulate(n.begin(), n.end(), index_t{0}) == 30);
  CHECK(*std::max_element(n.begin(), n.end()) > *std::min_element(n.begin(), n.end()));
  const auto all = t.selector.draw(t.b, {0, 5}, {12, 2}, t.random.source(t.b));
  const auto e = t.e_step();
  for (index_t q = 0; q < 5; ++q) {
    CHECK(e.z.groups().size(q) == n[static_cast<std::size_t>(q)]);
    double copies = 0;
    for (index_t i = 0; i < e.z.groups().size(q); ++i) {
      const index_t draw = e.z.groups().begin(q) + i;
      CHECK(draw == offsets(q, 0) + i);
      CHECK(test::ranking_of(e.z.rankings(), draw) == test::ranking_of(all.rankings(), q * 12 + i));
      CHECK(e.z.log_proposal()(draw, 0) == all.log_proposal()(q * 12 + i, 0));
      copies += e.z.multiplicity()(draw, 0);
    }
    CHECK(copies == static_cast<double>(n[static_cast<std::size_t>(q)]));
  }
}

TEST_CASE("with another proposal, weights have its log q") {
  toy<dro::host_backend> t;
  const dro::models::table_selector<dro::host_backend> uniform(t.b, dro::host_matrix<double>(5, 4));
  const auto e = dro::adaptive_e_step(t.b, t.selector, t.generator, uniform, dro::models::table_rows{0, 5},
                                      first_positions(5), 2, t.allocation, t.random);
  CHECK(!e.selector_drew);
  CHECK(e.log_selector.rows() == 30);
  // 12 rankings, each as likely: log 12 is rounded, and the sum of two logs.
  for (index_t i = 0; i < 30; ++i) DRO_CHECK_NEAR(e.z.log_proposal()(i, 0), -std::log(12.0L), 1e-15);
}

TEST_CASE("steps read nothing and never wait, and their numbers are those of the host") {
  toy<dro::deferred_backend> deferred;
  toy<dro::host_backend> host;
  deferred.b.synchronise();
  const auto waits = deferred.b.synchronisations();
  for (int i = 0; i < 3; ++i) deferred.step();
  CHECK(deferred.b.reads() == 0);
  CHECK(deferred.b.synchronisations() == waits);
  CHECK(deferred.b.pending() > 0);
  for (int i = 0; i < 3; ++i) host.step();
  CHECK(counts(deferred.offsets()) == counts(host.offsets()));

  toy<dro::counting_backend<dro::host_backend>> counted;
  for (int i = 0; i < 3; ++i) counted.step();
  CHECK(counted.b.reads() == 0);
  CHECK(counted.b.synchronisations() == 0);
}

TEST_CASE(
    "the number of threads changes nothing, and a run whose statistics are put back goes on as if never stopped") {
  toy<dro::host_backend> one(1);
  toy<dro::host_backend> three(3);
  for (int i = 0; i < 3; ++i) {
    one.step();
    three.step();
  }
  CHECK(test::same(one.allocation.matrix(), three.allocation.matrix()));
  CHECK(test::same(one.selector.scores(), three.selector.scores()));

  toy<dro::host_backend> resumed;
  resumed.selector = one.selector;
  resumed.selector.for_each_parameter([](auto, auto gradient) { CHECK(gradient(0, 0) == 0); });
  resumed.generator = one.generator;
  resumed.random = dro::random_state<dro::host_backend>(resumed.b, 9, 3);
  resumed.allocation.matrix() = one.allocation.matrix();
  const auto e = one.e_step();
  const auto again = resumed.e_step();
  CHECK(test::same(e.z.rankings(), again.z.rankings()));
  CHECK(test::same(e.weights.normalised, again.weights.normalised));
  CHECK(test::same(one.allocation.matrix(), resumed.allocation.matrix()));
}

namespace {

/// log σ(a · scale · θ_j), j the first document of the list in the order of their numbers; counts its calls.
struct first_document_scorer {
  struct workspace {};
  static constexpr bool order_free = true;
  std::vector<double> theta;
  std::shared_ptr<int> calls = std::make_shared<int>(0);

  [[nodiscard]] double log_likelihood(const test::toy_query& query, std::span<const dro::document_t> z,
                                      workspace&) const {
    ++*calls;
    return -std::log1p(
        std::exp(-3 * query.scale * theta[static_cast<std::size_t>(*std::min_element(z.begin(), z.end()))]));
  }
  void accumulate_gradient(const test::toy_query& query, std::span<const dro::document_t> z, double coefficient,
                           dro::sparse_gradient& gradient, workspace& space) const {
    const double miss = 1 - std::exp(log_likelihood(query, z, space));
    gradient.add(static_cast<std::uint32_t>(*std::min_element(z.begin(), z.end())),
                 coefficient * 3 * query.scale * miss);
  }
  [[nodiscard]] std::span<double> parameters() { return theta; }
};

/// Training of an autoregressive selector and the reader above on seven queries in batches of 3, 3 and 1.
struct toy_run {
  using backend = dro::host_backend;
  std::vector<test::toy_query> queries{{4, 1}, {4, -1}, {3, 0.5}, {4, 2}, {4, 0}, {3, -2}, {4, 1.5}};
  backend b{1};
  dro::autoregressive_selector<test::pair_scorer> selector{test::pair_scorer(4)};
  dro::host_generator<first_document_scorer> generator{first_document_scorer{{2, 0, -1, -2}}};
  dro::sgd<backend> selector_optimizer{b, {.learning_rate = 0.3}};
  dro::sgd<backend> generator_optimizer{b, {.learning_rate = 0.3}};
  dro::sample_allocation<backend> allocation{b, 7, {.samples = 4, .least = 1, .most = 9}};
  dro::em_run<backend> run{b, 5};

  template <class... Callbacks>
  bool train(Callbacks&&... callbacks) {
    const dro::item_source<test::toy_query> source{std::span<const test::toy_query>(queries)};
    return dro::em(b, selector, generator, allocation, source, dro::evidence<>{}, selector_optimizer,
                   generator_optimizer, {.loop = {.iterations = 4, .batch_size = 3, .seed = 5}, .draw = {1, 2}}, run,
                   callbacks...);
  }
  [[nodiscard]] std::vector<double> parameters() {
    std::vector<double> all;
    const auto add = [&](auto value, auto) { all.insert(all.end(), value.data, value.data + value.cols); };
    selector.for_each_parameter(add);
    generator.for_each_parameter(add);
    return all;
  }
  void set_parameters(const std::vector<double>& all) {
    auto next = all.begin();
    const auto set = [&](auto value, auto) {
      std::copy(next, next + value.cols, value.data);
      next += value.cols;
    };
    selector.for_each_parameter(set);
    generator.for_each_parameter(set);
  }
};

}  // namespace

TEST_CASE("em with an allocation: a run stopped within an iteration goes on as if it had not been") {
  toy_run whole;
  CHECK(whole.train());
  toy_run stopped;
  int batches = 0;
  CHECK(!stopped.train(dro::callback::stop_when([&] { return ++batches == 7; })));
  CHECK(stopped.run.position == dro::loop_position{2, 1});
  toy_run resumed;
  resumed.set_parameters(stopped.parameters());
  resumed.run.position = stopped.run.position;
  resumed.run.random = dro::random_state<dro::host_backend>(resumed.b, 5, 7);
  resumed.allocation.matrix() = stopped.allocation.matrix();
  CHECK(resumed.train());
  CHECK(resumed.parameters() == whole.parameters());
  CHECK(test::same(resumed.allocation.matrix(), whole.allocation.matrix()));
  // Without the statistics it would not have been the same run.
  toy_run forgetful;
  forgetful.set_parameters(stopped.parameters());
  forgetful.run.position = stopped.run.position;
  forgetful.run.random = dro::random_state<dro::host_backend>(forgetful.b, 5, 7);
  CHECK(forgetful.train());
  CHECK(forgetful.parameters() != whole.parameters());
}

TEST_CASE("the generator scores each set of a query once, and never more lists than the budget") {
  toy_run t;
  const dro::item_source<test::toy_query> source{std::span<const test::toy_query>(t.queries)};
  const positions all = first_positions(7);
  for (int i = 0; i < 3; ++i) {
    const int before = *t.generator.scorer().calls;
    const auto e =
        dro::adaptive_e_step(t.b, t.selector, t.generator, source.batch(all), all, 2, t.allocation, t.run.random);
    int sets = 0;
    for (index_t q = 0; q < 7; ++q) {
      std::vector<test::ranking> seen;
      for (index_t k = 0; k < e.z.groups().size(q); ++k) {
        auto z = test::ranking_of(e.z.rankings(), e.z.groups().begin(q) + k);
        std::sort(z.begin(), z.end());
        if (std::find(seen.begin(), seen.end(), z) == seen.end()) seen.push_back(z);
      }
      sets += static_cast<int>(seen.size());
    }
    CHECK(*t.generator.scorer().calls - before == sets);
    CHECK(sets < t.allocation.total(7));
  }
}

TEST_CASE("batches in any order find their own statistics") {
  auto statistics = seen_once({9, 0.01, 1, 4}, {0, 0, 0, 0});
  dro::host_backend b(1);
  dro::sample_allocation<dro::host_backend> a(b, 4, {.samples = 8, .exploration = 0, .prior = 0});
  a.matrix() = statistics;
  const auto n = counts(a.offsets(b, first_positions(4)));
  CHECK(counts(a.offsets(b, positions{3, 1, 0, 2})) == std::vector<index_t>{n[3], n[1], n[0], n[2]});
}

TEST_CASE("take_first keeps what the draws carry") {
  dro::host_backend b(1);
  const auto make = [&](const dro::draw_traits& traits) {
    return dro::draws<dro::host_backend, double>(b, test::ranking_matrix({{0}, {1}, {2}, {3}, {4}, {5}}),
                                                 test::column(list{-1, -2, -3, -4, -5, -6}),
                                                 dro::grouping::uniform(2, 3), traits);
  };
  const auto offsets = test::column(std::vector<std::int32_t>{0, 1, 4});
  auto z = make({});
  z.set_multiplicity(b, test::column(list{1, 2, 3, 4, 5, 6}));
  z.set_log_kept(b, test::column(list{-0.1, -0.2, -0.3, -0.4, -0.5, -0.6}));
  const auto taken = take_first(b, z, offsets, 4);
  CHECK(test::same(taken.rankings(), test::ranking_matrix({{0}, {3}, {4}, {5}})));
  CHECK(test::same(taken.log_proposal(), test::column(list{-1, -4, -5, -6})));
  CHECK(test::same(taken.multiplicity(), test::column(list{1, 4, 5, 6})));
  CHECK(test::same(taken.log_kept(), test::column(list{-0.1, -0.4, -0.5, -0.6})));
  CHECK(!taken.traits().covers);
  CHECK(taken.groups().size(0) == 1);
  CHECK(taken.groups().size(1) == 3);
  CHECK(!take_first(b, make({}), offsets, 4).has_multiplicity());
  CHECK_THROWS_WITH_AS(static_cast<void>(take_first(b, make({.block = 3}), offsets, 4)),
                       "take_first: draws in blocks of 3, expected independent draws", dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(take_first(b, make({}), test::column(std::vector<std::int32_t>{0, 2}), 2)),
                       "take_first: offsets is [2 × 1], expected [3 × 1]", dro::shape_error);
}

TEST_CASE("options and positions out of range are refused with their values") {
  dro::host_backend b(1);
  using allocation = dro::sample_allocation<dro::host_backend>;
  CHECK_THROWS_WITH_AS(allocation(b, 3, {.least = 0}), "allocation: least is 0, expected at least 1",
                       dro::option_error);
  CHECK_THROWS_WITH_AS(allocation(b, 3, {.samples = 1.5, .least = 2}),
                       "allocation: samples is 1.500000, expected 2 (least) to 32 (most)", dro::option_error);
  CHECK_THROWS_AS(allocation(b, 3, {.samples = 33}), dro::option_error);
  CHECK_THROWS_AS(allocation(b, 3, {.samples = test::nan<double>}), dro::option_error);
  CHECK_THROWS_WITH_AS(allocation(b, 3, {.exploration = 1.5}), "allocation: exploration is 1.500000, expected 0 to 1",
                       dro::option_error);
  CHECK_THROWS_AS(allocation(b, 3, {.exploration = -0.1}), dro::option_error);
  CHECK_THROWS_WITH_AS(allocation(b, 3, {.prior = -1}), "allocation: prior is -1.000000, expected at least 0",
                       dro::option_error);
  CHECK_THROWS_WITH_AS(allocation(b, 3, {.memory = 1}), "allocation: memory is 1.000000, expected at least 0, below 1",
                       dro::option_error);
  CHECK_THROWS_AS(allocation(b, -1), dro::option_error);
  allocation a(b, 3);
  CHECK_THROWS_WITH_AS(static_cast<void>(a.offsets(b, positions{0, 3})),
                       "allocation: position 3 in a training set of 3 queries", dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(a.offsets(b, positions{-1})), dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(a.total(index_t{1} << 30)), dro::option_error);
  toy<dro::host_backend> t;
  CHECK_THROWS_WITH_AS(
      static_cast<void>(dro::adaptive_e_step(t.b, t.selector, t.generator, dro::models::table_rows{0, 5},
                                             positions{0, 1}, 2, t.allocation, t.random)),
      "adaptive_e_step: 2 positions for 5 queries", dro::shape_error);
  CHECK(read(t.b, t.random.step())(0, 0) == 0);
}
