// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/em/callbacks.hpp>
#include <dro/em/em.hpp>
#include <dro/em/training_loop.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/models/table.hpp>
#include <dro/optimize/optimizer.hpp>

#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using dro::loop_position;

const std::vector<int> items = {10, 11, 12, 13, 14, 15, 16};
const dro::item_source<int> source{std::span(items)};

std::vector<int> values(const dro::item_batch<int>& batch) {
  std::vector<int> v;
  for (std::size_t i = 0; i < batch.size(); ++i) v.push_back(batch[static_cast<index_t>(i)]);
  return v;
}

/// The batches visited from `position` on; stops after `steps` of them (negative: never).
std::vector<std::vector<int>> visit(const dro::loop_options& options, loop_position& position, int steps = -1) {
  std::vector<std::vector<int>> batches;
  dro::callback::stop_when enough([&] { return steps >= 0 && static_cast<int>(batches.size()) >= steps; });
  dro::training_loop(
      source, options, position, [&](const auto& batch) { batches.push_back(values(batch)); }, [] { return 0; },
      enough);
  return batches;
}

/// Two tables as a source of single queries.
struct table_source {
  index_t count;
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(count); }
  [[nodiscard]] dro::models::table_rows batch(std::span<const index_t> positions) const {
    if (positions.size() != 1) throw std::logic_error("table_source: batches of one only");
    return {positions[0], 1};
  }
};

}  // namespace

TEST_CASE("a shuffle is a permutation that depends on seed, iteration and count alone") {
  for (const index_t count : {0, 1, 2, 100}) {
    auto order = dro::shuffled_order(count, 5, 3);
    CHECK(order == dro::shuffled_order(count, 5, 3));
    std::ranges::sort(order);
    std::vector<index_t> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), index_t{0});
    CHECK(order == all);
  }
  CHECK(dro::shuffled_order(100, 5, 3) != dro::shuffled_order(100, 5, 4));
  CHECK(dro::shuffled_order(100, 5, 3) != dro::shuffled_order(100, 6, 3));
}

TEST_CASE("every order of three is about as frequent") {
  std::map<std::vector<index_t>, int> counts;
  constexpr int trials = 6000;
  for (int i = 0; i < trials; ++i) ++counts[dro::shuffled_order(3, 9, i)];
  CHECK(counts.size() == 6);
  double chi = 0;
  for (const auto& [order, n] : counts) chi += (n - trials / 6.0) * (n - trials / 6.0) / (trials / 6.0);
  CHECK(chi < test::chi_square_bound(5));
}

TEST_CASE("an iteration visits each query once, in batches of the given size") {
  loop_position position;
  const auto batches = visit({.iterations = 2, .batch_size = 3, .seed = 4}, position);
  REQUIRE(batches.size() == 6);
  CHECK(position == loop_position{2, 0});
  for (const std::size_t first : {0U, 3U}) {
    CHECK(batches[first].size() == 3);
    CHECK(batches[first + 2].size() == 1);  // 7 = 3 + 3 + 1
    std::set<int> seen;
    for (std::size_t i = first; i < first + 3; ++i) seen.insert(batches[i].begin(), batches[i].end());
    CHECK(seen == std::set<int>(items.begin(), items.end()));
  }
  CHECK(visit({.iterations = 2, .batch_size = 3, .seed = 4}, position).empty());  // nothing is left to do
  loop_position large;
  CHECK(visit({.iterations = 1, .batch_size = 100, .seed = 4}, large).size() == 1);
}

TEST_CASE("a run stopped after any step goes on with the batches of an uninterrupted run") {
  const dro::loop_options options{.iterations = 3, .batch_size = 2, .seed = 11};
  loop_position start;
  const auto whole = visit(options, start);
  REQUIRE(whole.size() == 12);
  for (int stop = 1; stop <= 12; ++stop) {
    CAPTURE(stop);
    loop_position position;
    auto parts = visit(options, position, stop);
    CHECK(parts.size() == static_cast<std::size_t>(stop));
    CHECK(position == loop_position{stop / 4, stop % 4});
    const auto rest = visit(options, position);
    parts.insert(parts.end(), rest.begin(), rest.end());
    CHECK(parts == whole);
  }
}

namespace {

/// Writes down what it is told, and may stop the run.
struct listener {
  std::vector<std::string>* log;
  std::string name;
  std::string stop_at;

  dro::loop_control on_batch(const dro::loop_progress& p) { return note("batch", p); }
  dro::loop_control on_iteration(const dro::loop_progress& p, int summary) {
    return note("iteration(" + std::to_string(summary) + ")", p);
  }

 private:
  dro::loop_control note(const std::string& what, const dro::loop_progress& p) {
    const std::string line = what + " " + std::to_string(p.position.iteration) + ":" + std::to_string(p.position.batch);
    log->push_back(name + " " + line);
    return line == stop_at ? dro::loop_control::stop : dro::loop_control::proceed;
  }
};

/// Hears of batches only, and has no say.
struct silent_listener {
  std::vector<std::string>* log;
  void on_batch(const dro::loop_progress& p) { log->push_back("c " + std::to_string(p.fraction())); }
};

bool run(std::vector<std::string>& log, loop_position& position, const std::string& stop_at) {
  listener a{&log, "a", stop_at};
  listener b{&log, "b", ""};
  silent_listener c{&log};
  int iterations = 0;
  return dro::training_loop(
      source, {.iterations = 2, .batch_size = 4, .seed = 1}, position, [&](const auto&) { log.push_back("step"); },
      [&] {
        log.push_back("finish");
        return ++iterations;
      },
      a, b, c);
}

}  // namespace

TEST_CASE("callbacks hear of each step and each iteration, in the order in which they were given") {
  std::vector<std::string> log;
  loop_position position;
  CHECK(run(log, position, ""));
  CHECK(log == std::vector<std::string>{"step",
                                        "a batch 0:1",
                                        "b batch 0:1",
                                        "c 0.250000",  //
                                        "step",
                                        "finish",
                                        "a batch 1:0",
                                        "b batch 1:0",
                                        "c 0.500000",  //
                                        "a iteration(1) 1:0",
                                        "b iteration(1) 1:0",  //
                                        "step",
                                        "a batch 1:1",
                                        "b batch 1:1",
                                        "c 0.750000",  //
                                        "step",
                                        "finish",
                                        "a batch 2:0",
                                        "b batch 2:0",
                                        "c 1.000000",  //
                                        "a iteration(2) 2:0",
                                        "b iteration(2) 2:0"});
}

TEST_CASE("one callback that stops is enough, and the others are still told") {
  std::vector<std::string> log;
  loop_position position;
  CHECK_FALSE(run(log, position, "batch 0:1"));
  CHECK(position == loop_position{0, 1});
  CHECK(log == std::vector<std::string>{"step", "a batch 0:1", "b batch 0:1", "c 0.250000"});

  log.clear();
  position = {};
  CHECK_FALSE(run(log, position, "batch 1:0"));  // the iteration is finished, with its summary
  CHECK(position == loop_position{1, 0});
  CHECK(log.back() == "b iteration(1) 1:0");

  log.clear();
  position = {};
  CHECK_FALSE(run(log, position, "iteration(1) 1:0"));
  CHECK(position == loop_position{1, 0});
  CHECK(run(log, position, "iteration(9) 9:9"));
  CHECK(position == loop_position{2, 0});

  log.clear();
  position = {};
  CHECK(run(log, position, "iteration(2) 2:0"));  // stopping at the end is finishing
}

TEST_CASE("options and positions that cannot be are refused") {
  loop_position position;
  const auto loop = [&](const dro::loop_options& options) {
    dro::training_loop(
        source, options, position, [](const auto&) {}, [] { return 0; });
  };
  CHECK_THROWS_WITH_AS(loop({.iterations = -1}), "iterations is -1", dro::option_error);
  CHECK_THROWS_WITH_AS(loop({.batch_size = 0}), "batch size is 0", dro::option_error);
  position = {0, 4};
  CHECK_THROWS_WITH_AS(loop({.batch_size = 2}), "training: no position 0:4 in iterations of 4 batches",
                       dro::option_error);
  position = {};
  CHECK_NOTHROW(loop({.iterations = 0}));
  const dro::item_source<int> empty{std::span<const int>()};
  CHECK_THROWS_WITH_AS(dro::training_loop(
                           empty, {}, position, [](const auto&) {}, [] { return 0; }),
                       "training: there are no queries", dro::option_error);
}

namespace {

/// Everything a checkpoint of an EM run keeps.
struct checkpoint {
  dro::host_matrix<double> scores, logits, totals;
  std::vector<dro::host_matrix<double>> states;
  std::vector<dro::host_matrix<std::uint32_t>> counters;
  loop_position position;
  std::uint32_t step = 0;
};

using adamw = dro::adamw<dro::host_backend>;

template <class F>
void for_each_state(adamw& optimizer, F&& f) {
  optimizer.for_each_state([&](const std::string&, auto& state) { f(state); });
}

struct steps_and_stop {
  int* steps;
  int stop_at;
  dro::loop_control on_batch(const dro::loop_progress&) {
    return ++*steps == stop_at ? dro::loop_control::stop : dro::loop_control::proceed;
  }
};

struct summaries {
  std::vector<double>* evidence;
  void on_iteration(const dro::loop_progress&, const dro::step_summary& s) { evidence->push_back(s.evidence); }
};

/// Starts EM from a checkpoint with objects that are all new, and runs it to step `stop_at` (0: to the end).
checkpoint run_em(const test::exact_world& w, const checkpoint& from, bool is_start, int stop_at,
                  std::vector<double>& evidence) {
  dro::host_backend b(1);
  test::world_selector selector(b, from.scores);
  test::world_generator generator(b, w.documents, w.picks, from.logits, w.right);
  adamw selector_optimizer(b, {.learning_rate = 0.05}, {}, 1.0);
  adamw generator_optimizer(b, {.learning_rate = 0.05});
  selector_optimizer.prepare(b, selector);
  generator_optimizer.prepare(b, generator);
  dro::em_run<dro::host_backend> run(b, 7);
  if (!is_start) {
    run.position = from.position;
    run.random = dro::random_state<dro::host_backend>(b, 7, from.step);
    run.totals.matrix() = from.totals;
    std::size_t next_state = 0;
    std::size_t next_counter = 0;
    for (adamw* optimizer : {&selector_optimizer, &generator_optimizer}) {
      for_each_state(*optimizer, [&](auto& state) {
        if constexpr (std::is_same_v<decltype(state), dro::host_matrix<double>&>) {
          state = from.states[next_state++];
        } else {
          state = from.counters[next_counter++];
        }
      });
    }
  }
  checkpoint to = from;
  int steps = 0;
  steps_and_stop stopper{&steps, stop_at};
  summaries listener{&evidence};
  dro::em(b, selector, generator, table_source{w.queries}, dro::evidence<>{}, selector_optimizer, generator_optimizer,
          {.loop = {.iterations = 2, .batch_size = 1, .seed = 3}, .draw = {4, w.picks}, .m_steps = 2}, run, stopper,
          listener);
  to.position = run.position;
  to.step = read(b, run.random.step())(0, 0);
  to.scores = selector.scores();
  generator.for_each_parameter([&](dro::matrix_view<double> value, auto) { b.read<double>(value, to.logits.data()); });
  to.totals = run.totals.matrix();
  to.states.clear();
  to.counters.clear();
  for (adamw* optimizer : {&selector_optimizer, &generator_optimizer}) {
    for_each_state(*optimizer, [&](auto& state) {
      if constexpr (std::is_same_v<decltype(state), dro::host_matrix<double>&>) {
        to.states.push_back(state);
      } else {
        to.counters.push_back(state);
      }
    });
  }
  return to;
}

}  // namespace

TEST_CASE("em, stopped at any step and started again from what a checkpoint keeps, ends bit for bit the same") {
  const test::exact_world w(4, 2, 5, 3, 131);
  checkpoint start;
  start.scores = w.scores;
  start.logits = w.logits;
  std::vector<double> whole_evidence;
  const auto whole = run_em(w, start, true, 0, whole_evidence);
  CHECK(whole.position == loop_position{2, 0});
  CHECK(whole.step == 10);
  CHECK(whole_evidence.size() == 2);
  CHECK_FALSE(test::same(whole.scores, w.scores));
  for (int stop = 1; stop <= 9; ++stop) {
    CAPTURE(stop);
    std::vector<double> evidence;
    const auto middle = run_em(w, start, true, stop, evidence);
    CHECK(middle.position == loop_position{stop / 5, stop % 5});
    const auto end = run_em(w, middle, false, 0, evidence);
    CHECK(end.position == whole.position);
    CHECK(end.step == whole.step);
    CHECK(test::same(end.scores, whole.scores));
    CHECK(test::same(end.logits, whole.logits));
    CHECK(evidence == whole_evidence);
  }
}

namespace {

struct e_step_listener {
  int calls = 0;
  int batches = 0;
  index_t draws = 0;
  void on_batch(const dro::loop_progress&) { ++batches; }
  template <class B, class Batch, class EStep>
  void on_e_step(B&, const Batch& batch, const EStep& e) {
    ++calls;
    draws += e.z.groups().total();
    CHECK(batch.size() == 1);
  }
};

}  // namespace

TEST_CASE("em shows callbacks each E-step, trains only what is not frozen, and raises the evidence") {
  test::exact_world w(4, 2, 6, 3, 132);
  dro::host_backend b(1);
  auto selector = w.selector(b);
  auto generator = w.generator(b);
  dro::sgd<dro::host_backend> moving(b, {.learning_rate = 0.3});
  dro::frozen still;
  dro::em_run<dro::host_backend> run(b, 8);
  e_step_listener listener;
  const auto before = w.mean_log_evidence();
  CHECK(dro::em(b, selector, generator, table_source{6}, dro::evidence<>{}, moving, still,
                {.loop = {.iterations = 10, .batch_size = 1, .seed = 1}, .draw = {16, 2}}, run, listener));
  CHECK(listener.calls == 60);
  CHECK(listener.batches == 60);
  CHECK(listener.draws == 60 * 16);
  generator.for_each_parameter([&](dro::matrix_view<double> value, auto) {
    dro::host_matrix<double> now(value.rows, value.cols);
    b.read<double>(value, now.data());
    CHECK(test::same(now, w.logits));
  });
  w.scores = selector.scores();
  CHECK(w.mean_log_evidence() > before + 0.1);
  CHECK(run.totals.take(b).count(dro::status::ok) == 0);  // em has taken them after the last iteration
}
