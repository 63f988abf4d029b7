// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_OPTIONS_HPP
#define DRO_EXAMPLES_GENERATIVE_OPTIONS_HPP

/// \file
/// What the user of train_generative can choose.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include <dro/backend/thread_pool.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/version.hpp>

#include "../program.hpp"
#include "examples.hpp"
#include "methods.hpp"
#include "trainer.hpp"
#include "world.hpp"

namespace generative {

struct options {
  std::filesystem::path train, dev, test;
  world_options world;
  std::uint64_t world_seed = 1;
  dro::index_t annotated = 256;
  dro::index_t train_questions = 4096;
  dro::index_t held_out = 512;
  dro::index_t vocabulary = 1024;
  text_limits limits;
  std::string method = "dro";
  training_options training;
  std::optional<double> rate;
  dro::index_t width = 32;
  dro::index_t layers = 2;
  dro::index_t heads = 2;
  dro::index_t patience = 4;
  dro::index_t seeds = 1;
  int threads = 0;
  std::filesystem::path out;
  bool compare = false;
  bool resume = false;
  bool on_dev = false;
};

/// Describes the options to `app`, which writes what the user says to `o`.
inline void add_options(CLI::App& app, options& o) {
  std::string names;
  for (const method& m : methods) names += (names.empty() ? "" : ", ") + std::string(m.name);
  app.add_option("--train", o.train,
                 "questions to train on, any format of docs/data-formats.md; a generated world if none");
  app.add_option("--dev", o.dev, "with --train, questions by which to stop early; held out of --train if none");
  app.add_option("--test", o.test, "with --train, questions to report on; held out of --train if none");
  app.add_option("--families", o.world.families, "documents of a question of the world")->capture_default_str();
  app.add_option("--names", o.world.names, "members of each family of the world")->capture_default_str();
  app.add_option("--homes", o.world.homes, "different answers in the world")->capture_default_str();
  app.add_option("--world-seed", o.world_seed, "of the world")->check(program::is_natural)->capture_default_str();
  app.add_option("--annotated", o.annotated, "questions with known gold documents")->capture_default_str();
  app.add_option("--train-questions", o.train_questions, "training questions of the world")->capture_default_str();
  app.add_option("--held-out", o.held_out, "dev questions of the world, and as many test questions")
      ->capture_default_str();
  app.add_option("--vocabulary", o.vocabulary, "with --train, byte pairs to train")->capture_default_str();
  app.add_option("--question-tokens", o.limits.question, "longer questions are cut off")
      ->check(program::is_natural)
      ->capture_default_str();
  app.add_option("--document-tokens", o.limits.document, "longer documents are cut off")
      ->check(program::is_natural)
      ->capture_default_str();
  app.add_option("--answer-tokens", o.limits.answer, "longer answers are cut off")
      ->check(program::is_natural)
      ->capture_default_str();
  app.add_option("--method", o.method, "how to train: " + names)->capture_default_str();
  training_options& t = o.training;
  app.add_option("--samples", t.draw.samples, "lists drawn for each question and step (m)")->capture_default_str();
  app.add_option("--select", t.draw.select, "documents chosen for each question (K)")->capture_default_str();
  app.add_option("--batch", t.batch_size, "questions in a step")->capture_default_str();
  app.add_option("--piece", t.piece_size,
                 "questions of a step that are worked on at once, for less memory; the step is the same but for "
                 "rounding; 0: all")
      ->capture_default_str();
  app.add_option("--warm-up", t.warm_up, "passes over the annotated questions")->capture_default_str();
  app.add_option("--iterations", t.iterations, "passes over the training questions")->capture_default_str();
  app.add_option("--annotated-batch", t.annotated_batch,
                 "annotated questions that each step on training questions takes along")
      ->capture_default_str();
  app.add_option("--warm-up-rate", t.warm_up_rate, "highest learning rate of warm-up")->capture_default_str();
  app.add_option("--rate", o.rate, "highest learning rate afterwards; the one found for the method if none");
  app.add_option("--width", o.width, "width of both models")->capture_default_str();
  app.add_option("--layers", o.layers, "layers of both models")->capture_default_str();
  app.add_option("--heads", o.heads, "attention heads of both models")->capture_default_str();
  app.add_option("--patience", o.patience, "iterations without a better exact match on dev before a run is stopped")
      ->capture_default_str();
  app.add_option("--seed", t.seed, "of weights, draws and the order of questions")
      ->check(program::is_natural)
      ->capture_default_str();
  app.add_option("--seeds", o.seeds, "runs with so many seeds from --seed on")->capture_default_str();
  app.add_option("--threads", o.threads, "threads; 0: all")->capture_default_str();
  app.add_option("--out", o.out, "folder for report.json, the models and the checkpoint");
  app.add_flag("--compare", o.compare, "run every method and print the table");
  app.add_flag("--resume", o.resume, "go on where the run in --out was stopped");
  app.add_flag("--on-dev", o.on_dev, "report on the dev questions, to choose options by");
  app.set_version_flag("--version", std::string("train_generative ") + dro::version_string);
}

/// Throws dro::option_error if an option is out of range. Nothing has been read by then.
inline void check(const options& o) {
  (void)find_method(o.method);
  check(o.world);
  const auto require = [](const char* name, dro::index_t value, dro::index_t least, dro::index_t most) {
    if (value >= least && value <= most) return;
    throw dro::option_error(std::string(name) + " is " + std::to_string(value) + ", expected " + std::to_string(least) +
                            " to " + std::to_string(most));
  };
  constexpr dro::index_t many = 1'000'000;
  require("--annotated", o.annotated, 1, many);
  require("--train-questions", o.train_questions, 1, many);
  require("--held-out", o.held_out, 1, many);
  require("--vocabulary", o.vocabulary, 1, many);
  require("--question-tokens", static_cast<dro::index_t>(o.limits.question), 1, many);
  require("--document-tokens", static_cast<dro::index_t>(o.limits.document), 1, many);
  require("--answer-tokens", static_cast<dro::index_t>(o.limits.answer), 1, many);
  require("--samples", o.training.draw.samples, 1, 4096);
  require("--select", o.training.draw.select, 1, 4096);
  for (const double rate : {o.training.warm_up_rate, o.rate.value_or(0)}) {
    if (!(rate >= 0) || rate > 1) {
      throw dro::option_error("learning rate is " + std::to_string(rate) + ", expected 0 to 1");
    }
  }
  require("--batch", o.training.batch_size, 1, many);
  require("--piece", o.training.piece_size, 0, many);
  require("--warm-up", o.training.warm_up, 0, many);
  require("--iterations", o.training.iterations, 0, many);
  require("--annotated-batch", o.training.annotated_batch, 0, many);
  require("--width", o.width, 1, 4096);
  require("--layers", o.layers, 1, 256);
  require("--heads", o.heads, 1, o.width);
  if (o.width % (2 * o.heads) != 0) throw dro::option_error("--width is no multiple of twice the --heads");
  require("--patience", o.patience, 1, many);
  require("--seeds", o.seeds, 1, 10'000);
  require("--threads", o.threads, 0, dro::thread_pool::most_threads);
  if (o.train.empty() && (!o.dev.empty() || !o.test.empty())) {
    throw dro::option_error("--dev and --test are given without --train");
  }
  if (o.resume && o.out.empty()) throw dro::option_error("--resume needs --out, the folder of the run to go on with");
}

}  // namespace generative

#endif
