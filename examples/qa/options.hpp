// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_OPTIONS_HPP
#define DRO_EXAMPLES_QA_OPTIONS_HPP

/// \file
/// What the user of train_qa can choose.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <dro/backend/thread_pool.hpp>
#include <dro/config.hpp>
#include <dro/version.hpp>

#include "../program.hpp"
#include "departures.hpp"
#include "methods.hpp"

namespace qa {

struct options {
  std::filesystem::path train;
  std::filesystem::path dev;
  std::string method = "dro";
  std::vector<std::string> departures;
  dro::index_t samples = 8;
  std::optional<dro::index_t> select;
  dro::index_t iterations = 12;
  std::uint64_t seed = 1;
  dro::index_t seeds = 1;
  int threads = 0;
  std::filesystem::path out;
  bool resume = false;
  bool compare = false;
};

/// Describes the options to `app`, which writes what the user says to `o`.
inline void add_options(CLI::App& app, options& o) {
  std::string names;
  for (const method& m : methods) names += (names.empty() ? "" : ", ") + std::string(m.name);
  app.add_option("--train", o.train,
                 "questions to train on, any format of docs/data-formats.md; the shipped ones if none");
  app.add_option("--dev", o.dev,
                 "questions to report on; every fifth training question, held out, if only --train is given");
  app.add_option("--method", o.method, "how to train: " + names)->capture_default_str();
  std::string departure_names;
  for (const named_departure& d : named_departures) {
    departure_names += (departure_names.empty() ? "" : ", ") + std::string(d.name);
  }
  app.add_option(
      "--departure", o.departures,
      "with --method dro-plain, what the published code does otherwise; may be repeated: " + departure_names);
  app.add_option("--samples", o.samples, "rankings drawn for each question and step (m)")->capture_default_str();
  app.add_option(
      "--select", o.select,
      "documents chosen for each question (K); as many as 95 % of the training questions have gold documents");
  app.add_option("--iterations", o.iterations, "passes over the training questions")->capture_default_str();
  app.add_option("--seed", o.seed, "of draws and of the order of questions")
      ->check(program::is_natural)
      ->capture_default_str();
  app.add_option("--seeds", o.seeds, "runs with so many seeds from --seed on, and reports mean and standard error")
      ->capture_default_str();
  app.add_option("--threads", o.threads, "threads; 0: all")->capture_default_str();
  app.add_option("--out", o.out, "folder for report.json, report.html, the model and the checkpoint");
  app.add_flag("--resume", o.resume, "go on where the run in --out was stopped");
  app.add_flag("--compare", o.compare, "run every method and print the table");
  app.set_version_flag("--version", std::string("train_qa ") + dro::version_string);
}

/// Throws dro::option_error if an option is out of range. Nothing has been read by then.
inline void check(const options& o) {
  (void)find_method(o.method);
  (void)find_departures(o.departures);
  if (!o.departures.empty() && (o.method != "dro-plain" || o.compare)) {
    throw dro::option_error("--departure needs --method dro-plain, without --compare");
  }
  const auto at_least = [](const char* name, dro::index_t value, dro::index_t least) {
    if (value < least) {
      throw dro::option_error(std::string(name) + " is " + std::to_string(value) + ", expected at least " +
                              std::to_string(least));
    }
  };
  at_least("--samples", o.samples, 1);
  at_least("--iterations", o.iterations, 0);
  at_least("--seeds", o.seeds, 1);
  at_least("--threads", o.threads, 0);
  if (o.select) at_least("--select", *o.select, 1);
  const auto at_most = [](const char* name, dro::index_t value, dro::index_t most) {
    if (value > most) {
      throw dro::option_error(std::string(name) + " is " + std::to_string(value) + ", expected at most " +
                              std::to_string(most));
    }
  };
  at_most("--samples", o.samples, 4096);
  at_most("--iterations", o.iterations, 1'000'000);
  at_most("--seeds", o.seeds, 10'000);
  at_most("--threads", o.threads, dro::thread_pool::most_threads);
  const bool compares_samples = o.compare || o.method == "leave-one-out";
  if (compares_samples && o.samples < 2) throw dro::option_error("--samples is 1, but leave-one-out needs at least 2");
  if (!o.dev.empty() && o.train.empty()) throw dro::option_error("--dev is given without --train");
  if (o.resume && o.out.empty()) throw dro::option_error("--resume needs --out, the folder of the run to go on with");
}

}  // namespace qa

#endif
