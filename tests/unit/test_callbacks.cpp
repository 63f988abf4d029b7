// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/em/callbacks.hpp>

#include "support/check.hpp"

namespace {

using dro::index_t;
using dro::loop_control;
using dro::loop_progress;

/// A file that is gone when the test ends, and what was written to it.
class scratch_file {
 public:
  scratch_file() : file_(std::tmpfile(), &std::fclose) { REQUIRE(file_ != nullptr); }
  [[nodiscard]] std::FILE* get() const { return file_.get(); }
  [[nodiscard]] std::string text() const {
    std::rewind(file_.get());
    std::string all;
    for (int c = std::fgetc(file_.get()); c != EOF; c = std::fgetc(file_.get())) all += static_cast<char>(c);
    return all;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> list(1);
  for (const char c : text) {
    if (c == '\n') {
      list.emplace_back();
    } else {
      list.back() += c;
    }
  }
  CHECK(list.back().empty());
  list.pop_back();
  return list;
}

loop_progress at(index_t iteration, index_t batch, index_t iterations, index_t batches) {
  return {{iteration, batch}, iterations, batches, batches};
}

/// Tells `callback` of every step of a run, as training_loop does.
template <class Callback>
void run(Callback& callback, index_t iterations, index_t batches) {
  for (index_t i = 0; i < iterations; ++i) {
    for (index_t j = 1; j < batches; ++j) callback.on_batch(at(i, j, iterations, batches));
    callback.on_batch(at(i + 1, 0, iterations, batches));
    if constexpr (requires { callback.on_iteration(at(0, 0, 0, 0), 0); }) {
      callback.on_iteration(at(i + 1, 0, iterations, batches), 0);
    }
  }
}

}  // namespace

TEST_CASE("the share of the run that is done") {
  CHECK(at(0, 0, 4, 5).fraction() == 0);
  CHECK(at(1, 0, 4, 5).fraction() == 0.25);
  CHECK(at(2, 5, 4, 5).fraction() == 0.75);
  CHECK(at(4, 0, 4, 5).fraction() == 1);
  CHECK(at(0, 0, 0, 5).fraction() == 1);
}

TEST_CASE("progress: a plain line a tenth where lines cannot be rewritten") {
  const scratch_file file;
  dro::callback::progress progress(file.get(), false, "em");
  run(progress, 4, 50);
  const auto written = lines(file.text());
  REQUIRE(written.size() == 10);
  for (std::size_t i = 0; i < 10; ++i) {
    const std::string start = "em " + std::to_string(10 * (i + 1)) + " %, ";
    CHECK(written[i].substr(0, start.size()) == start);
    CHECK(written[i].find('\r') == std::string::npos);
    CHECK(written[i].ends_with(" s"));
  }
}

TEST_CASE("progress: fewer steps than tenths give a line a step") {
  const scratch_file file;
  dro::callback::progress progress(file.get(), false);
  run(progress, 1, 3);
  const auto written = lines(file.text());
  REQUIRE(written.size() == 3);
  CHECK(written[0].starts_with("training 30 %, "));
  CHECK(written[2].starts_with("training 100 %, "));
}

TEST_CASE("progress: one rewritten line on a terminal, which ends with the run") {
  const scratch_file file;
  dro::callback::progress progress(file.get(), true, "em");
  run(progress, 3, 40);
  const std::string text = file.text();
  CHECK(text.front() == '\r');
  CHECK(text.back() == '\n');
  CHECK(lines(text).size() == 1);
  CHECK(text.find("em [##############################] 100 %  iteration 3 of 3, ") != std::string::npos);
}

TEST_CASE("log: one line of diagnostics an iteration") {
  const scratch_file file;
  dro::callback::log log(file.get());
  dro::step_summary s;
  s.evidence = -1.25;
  s.elbo = -test::infinity<double>;
  s.effective_sample_size = 6.5;
  s.weight_variance = 0.125;
  s.queries[0] = 7;
  log.on_iteration(at(1, 0, 3, 4), s);
  s.queries[1] = 2;
  s.queries[2] = 1;
  log.on_iteration(at(2, 0, 3, 4), s);
  const auto written = lines(file.text());
  REQUIRE(written.size() == 2);
  CHECK(written[0] == "iteration 1 of 3: evidence -1.2500, ELBO -inf, ESS 6.50, weight variance 0.125");
  CHECK(written[1] ==
        "iteration 2 of 3: evidence -1.2500, ELBO -inf, ESS 6.50, weight variance 0.125, 3 queries flagged");
}

TEST_CASE("early stop: after `patience` iterations without a gain") {
  std::vector<double> scores = {0.5, 0.6, 0.6, 0.59, 0.7, 0.65};
  std::size_t next = 0;
  dro::callback::early_stop stop([&] { return scores[next++]; }, 2);
  std::vector<bool> stopped;
  for (std::size_t i = 0; i < 4; ++i) {
    stopped.push_back(stop.on_iteration(at(static_cast<index_t>(i) + 1, 0, 6, 1), 0) == loop_control::stop);
  }
  CHECK(stopped == std::vector<bool>{false, false, false, true});
  CHECK(stop.best() == 0.6);
}

TEST_CASE("early stop: a gain below the least does not count, NaN is no gain, a gain starts the count again") {
  const std::vector<double> scores = {0.5, 0.54, 0.6, test::nan<double>, 0.7, 0.71, 0.72};
  std::size_t next = 0;
  dro::callback::early_stop stop([&] { return scores[next++]; }, 2, 0.05);
  std::vector<bool> stopped;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    stopped.push_back(stop.on_iteration(at(1, 0, 9, 1), 0) == loop_control::stop);
  }
  CHECK(stopped == std::vector<bool>{false, false, false, false, false, false, true});
  CHECK(stop.best() == 0.7);
  CHECK_THROWS_WITH_AS(dro::callback::early_stop([] { return 0.0; }, 0),
                       "early_stop: patience is 0, expected 1 or more", dro::option_error);
}

TEST_CASE("checkpoint: every so many steps of an iteration, and after each iteration, once") {
  const auto saves = [](index_t every, index_t iterations, index_t batches) {
    int count = 0;
    dro::callback::checkpoint checkpoint([&] { ++count; }, every);
    run(checkpoint, iterations, batches);
    return count;
  };
  CHECK(saves(2, 3, 5) == 9);  // steps 2 and 4, and the end, three times
  CHECK(saves(5, 3, 5) == 3);  // the fifth step is the end
  CHECK(saves(9, 3, 5) == 3);
  CHECK(saves(1, 2, 4) == 8);
  CHECK_THROWS_WITH_AS(dro::callback::checkpoint([] {}, 0), "checkpoint: every is 0, expected 1 or more",
                       dro::option_error);
}

TEST_CASE("stop_when asks after each step") {
  int asked = 0;
  dro::callback::stop_when stop([&] { return ++asked == 3; });
  CHECK(stop.on_batch(at(0, 1, 1, 9)) == loop_control::proceed);
  CHECK(stop.on_batch(at(0, 2, 1, 9)) == loop_control::proceed);
  CHECK(stop.on_batch(at(0, 3, 1, 9)) == loop_control::stop);
}
