// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_RUN_HPP
#define DRO_EXAMPLES_GENERATIVE_RUN_HPP

/// \file
/// Runs of methods and seeds, one after the other, that can be stopped anywhere and resumed.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/checkpoint_file.hpp>
#include <dro/dro.hpp>

#include "../program.hpp"
#include "evaluation.hpp"
#include "example_set.hpp"
#include "methods.hpp"
#include "options.hpp"
#include "trainer.hpp"

namespace generative {

using nlohmann::json;

[[nodiscard]] inline json to_json(const evaluation& e) {
  return {{"em", e.em},
          {"f1", e.f1},
          {"recall_at_k", program::number(e.recall_at_k)},
          {"all_gold_at_k", program::number(e.all_gold_at_k)}};
}

/// One method with one seed.
struct planned_run {
  method how;
  std::uint64_t seed;
};

/// The runs that `o` asks for; those of its own method are first.
[[nodiscard]] inline std::vector<planned_run> plan(const options& o) {
  std::vector<planned_run> runs;
  const auto add = [&](const method& m) {
    for (dro::index_t s = 0; s < o.seeds; ++s) runs.push_back({m, o.training.seed + static_cast<std::uint64_t>(s)});
  };
  const method& main = find_method(o.method);
  add(main);
  if (o.compare) {
    for (const method& m : methods) {
      if (m.id != main.id) add(m);
    }
  }
  return runs;
}

/// All that decides what the runs compute. Throws dro::file_error.
[[nodiscard]] inline json fingerprint(const options& o) {
  const training_options& t = o.training;
  const auto file = [](const std::filesystem::path& path) {
    return path.empty() ? json(nullptr) : json{path.string(), program::file_crc(path)};
  };
  return {{"version", dro::version_string},
          {"train", file(o.train)},
          {"dev", file(o.dev)},
          {"test", file(o.test)},
          {"world", {o.world.families, o.world.names, o.world.homes, o.world_seed}},
          {"questions", {o.annotated, o.train_questions, o.held_out}},
          {"tokens", {o.vocabulary, o.limits.question, o.limits.document, o.limits.answer}},
          {"model", {o.width, o.layers, o.heads}},
          {"method", o.method},
          {"compare", o.compare},
          {"draw", {t.draw.samples, t.draw.select}},
          {"batch", {t.batch_size, t.annotated_batch, t.piece_size}},
          {"passes", {t.warm_up, t.iterations, o.patience}},
          {"rates", {json(t.warm_up_rate), o.rate ? json(*o.rate) : json(nullptr)}},
          {"seeds", {t.seed, o.seeds}},
          {"on_dev", o.on_dev}};
}

/// Trains and evaluates all planned runs. With an output folder, a checkpoint is kept there: `checkpoint.dro`, which
/// names the folder with the models that belongs to it, so that the two are never from different moments.
class session {
 public:
  /// `interrupted` is looked at after each step. Throws dro::checkpoint_error if there is a checkpoint of other
  /// options.
  session(const options& o, const example_set& data, const std::atomic<bool>& interrupted)
      : options_(o),
        data_(data),
        interrupted_(interrupted),
        backend_(o.threads),
        runs_(plan(o)),
        fingerprint_(fingerprint(o)) {
    if (o.resume) load_finished();
  }

  [[nodiscard]] bool resumed() const { return saved_.has_value() || !finished_.empty(); }
  /// Results of the finished runs in the order of the plan.
  [[nodiscard]] const json& results() const { return finished_; }
  [[nodiscard]] const json& options_and_files() const { return fingerprint_; }
  [[nodiscard]] std::filesystem::path checkpoint_path() const { return options_.out / "checkpoint.dro"; }

  /// Runs what is left of the plan. False if it was interrupted, in which case the checkpoint is up to date.
  bool train() {
    while (finished_.size() < runs_.size()) {
      if (!train_one(runs_[finished_.size()])) return false;
    }
    return true;
  }

  /// To be called when the report is written: what the checkpoint kept is in there.
  void remove_checkpoint() const {
    std::filesystem::remove(checkpoint_path());
    remove_models_but({});
  }

 private:
  bool train_one(const planned_run& run) {
    training_options training = options_.training;
    training.seed = run.seed;
    training.rate = options_.rate.value_or(run.how.rate);
    trainer t(backend_, run.how, model_config(options_, data_), data_.style, data_.annotated, data_.train, training);
    json result = {{"method", run.how.name}, {"seed", run.seed}, {"iterations", json::array()}, {"seconds", 0.0}};
    if (saved_) {
      result = saved_result_;
      t.for_each_state([&](const std::string& name, auto values) { saved_->get_into(name, values); });
      t.load_models(options_.out / saved_->text("models"));
      saved_.reset();
    }
    const program::stopwatch watch;
    const double seconds_before = result["seconds"];
    const auto measure = [&](const std::vector<example>& questions) {
      return to_json(evaluate(backend_, t, questions, data_.style, data_.tokens,
                              static_cast<dro::index_t>(data_.longest_answer())));
    };
    const auto save = [&] {
      result["seconds"] = seconds_before + watch.seconds();
      if (!options_.out.empty()) write_checkpoint(&t, result);
    };
    const std::string label = std::string(run.how.name) + ", seed " + std::to_string(run.seed);
    std::fprintf(stderr, "%s (%zu of %zu)\n", label.c_str(), finished_.size() + 1, runs_.size());
    dro::callback::checkpoint checkpoint(save, 64);
    dro::callback::stop_when stop([&] { return interrupted_.load(); });
    if (!t.warm_up(checkpoint, stop)) {
      save();
      return false;
    }
    if (!result.contains("warm")) {
      result["warm"] = measure(data_.dev);
      std::fprintf(stderr, "  warm: %s; %.1f s\n", on_dev(result["warm"]).c_str(), seconds_before + watch.seconds());
    }
    program::stopwatch of_iteration;
    struct {
      std::function<dro::loop_control(const dro::loop_progress&, const dro::step_summary&)> call;
      dro::loop_control on_iteration(const dro::loop_progress& p, const dro::step_summary& s) const {
        return call(p, s);
      }
    } record{[&](const dro::loop_progress& p, const dro::step_summary& s) {
      const double speed = static_cast<double>(t.take_tokens()) / of_iteration.seconds();
      json entry = {{"iteration", p.position.iteration},
                    {"dev", measure(data_.dev)},
                    {"evidence", program::number(s.evidence)},
                    {"ess", program::number(s.effective_sample_size)}};
      std::fprintf(stderr, "  iteration %td of %td: ", p.position.iteration, p.iterations);
      // Not every method has a use for lists that it would have to weigh.
      if (s.used() > 0) std::fprintf(stderr, "evidence %.3f, ESS %.2f, ", s.evidence, s.effective_sample_size);
      std::fprintf(stderr, "%s; %.0f k tokens/s, %.1f s\n", on_dev(entry["dev"]).c_str(), speed / 1000,
                   seconds_before + watch.seconds());
      result["iterations"].push_back(std::move(entry));
      of_iteration = {};
      return has_stalled(result) ? dro::loop_control::stop : dro::loop_control::proceed;
    }};
    if (!has_stalled(result) && !t.train(record, checkpoint, stop) && !has_stalled(result)) {
      save();
      return false;
    }
    result["final"] = measure(options_.on_dev ? data_.dev : data_.test);
    result["seconds"] = seconds_before + watch.seconds();
    if (!options_.out.empty()) {
      const auto folder = options_.out / (std::string(run.how.name) + "-" + std::to_string(run.seed));
      t.save_models(folder);
      data_.tokens.save(folder);
    }
    finished_.push_back(result);
    if (!options_.out.empty()) write_checkpoint(nullptr, {});
    return true;
  }

  /// How well the models do on dev; without recall where nobody annotated gold documents.
  [[nodiscard]] static std::string on_dev(const json& e) {
    char text[64];
    std::snprintf(text, sizeof text, "dev EM %.1f %%", 100 * e["em"].get<double>());
    std::string line = text;
    if (e["recall_at_k"].is_null()) return line;
    std::snprintf(text, sizeof text, ", recall %.1f %%", 100 * e["recall_at_k"].get<double>());
    return line + text;
  }

  /// Whether the exact match on dev has not risen for as long as the user has patience. It follows from what a
  /// checkpoint keeps, so that a resumed run stops where the whole one does.
  [[nodiscard]] bool has_stalled(const json& result) const {
    double best = result.contains("warm") ? result["warm"]["em"].get<double>() : 0;
    dro::index_t waited = 0;
    for (const json& entry : result["iterations"]) {
      const double em = entry["dev"]["em"];
      waited = em > best ? 0 : waited + 1;
      best = std::max(best, em);
    }
    return waited >= options_.patience;
  }

  /// Models first, into a folder of their own, then the file that names it; what was there before goes last. Without a
  /// trainer, between two runs, there is nothing but results to keep.
  void write_checkpoint(trainer* t, const json& result) {
    dro::data::checkpoint_writer writer;
    writer.add("fingerprint", fingerprint_.dump());
    writer.add("finished", finished_.dump());
    std::string models;
    if (t != nullptr) {
      models = models_prefix + std::to_string(++checkpoints_);
      t->save_models(options_.out / models);
      writer.add("models", models);
      writer.add("checkpoints", std::span<const std::uint64_t>(&checkpoints_, 1));
      writer.add("result", result.dump());
      t->for_each_state([&](const std::string& name, auto values) {
        writer.add(name, std::span<const typename decltype(values)::element_type>(values));
      });
    }
    writer.write(checkpoint_path());
    remove_models_but(models);
  }

  void remove_models_but(const std::string& kept) const {
    std::vector<std::filesystem::path> old;
    for (const auto& entry : std::filesystem::directory_iterator(options_.out)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(models_prefix) && name != kept) old.push_back(entry.path());
    }
    for (const auto& folder : old) std::filesystem::remove_all(folder);
  }

  /// JSON that a checkpoint keeps. Throws dro::checkpoint_error if it is none.
  [[nodiscard]] json parse_saved(const dro::data::checkpoint_reader& reader, const char* name) const {
    json value = json::parse(reader.text(name), nullptr, false);
    if (value.is_discarded()) {
      throw dro::checkpoint_error(checkpoint_path().string(), std::string("\"") + name + "\" is not JSON");
    }
    return value;
  }

  /// Throws dro::checkpoint_error unless what stands under `name` is what write_checkpoint writes.
  void require_saved(bool is_right, const char* name) const {
    if (!is_right) {
      throw dro::checkpoint_error(checkpoint_path().string(),
                                  std::string("\"") + name + "\" is not what a run keeps there");
    }
  }
  [[nodiscard]] static bool is_evaluation(const json& e) {
    const auto has = [&](const char* name, bool may_be_null) {
      const json value = e.value(name, json("none"));
      return value.is_number() || (may_be_null && value.is_null());
    };
    return e.is_object() && has("em", false) && has("f1", false) && has("recall_at_k", true) &&
           has("all_gold_at_k", true);
  }
  [[nodiscard]] static bool is_result(const json& r) {
    if (!r.is_object() || !r.value("method", json()).is_string() || !r.value("seed", json()).is_number_unsigned() ||
        !r.value("seconds", json()).is_number() || !r.value("iterations", json()).is_array()) {
      return false;
    }
    if (r.contains("warm") && !is_evaluation(r["warm"])) return false;
    return std::all_of(r["iterations"].begin(), r["iterations"].end(), [](const json& entry) {
      return entry.is_object() && is_evaluation(entry.value("dev", json()));
    });
  }

  void load_finished() {
    std::error_code failure;
    if (!std::filesystem::exists(checkpoint_path(), failure)) return;
    dro::data::checkpoint_reader reader(checkpoint_path());
    const json other = parse_saved(reader, "fingerprint");
    require_saved(other.is_object(), "fingerprint");
    for (const auto& [key, value] : fingerprint_.items()) {
      if (other.value(key, json()) != value) {
        throw dro::checkpoint_error(checkpoint_path().string(), "was written by a run with other options: " + key +
                                                                    " is " + value.dump() + ", it was " +
                                                                    other.value(key, json()).dump());
      }
    }
    json finished = parse_saved(reader, "finished");
    require_saved(finished.is_array() && finished.size() <= runs_.size(), "finished");
    for (const json& result : finished)
      require_saved(is_result(result) && is_evaluation(result.value("final", json())), "finished");
    if (reader.has("result")) {
      saved_result_ = parse_saved(reader, "result");
      require_saved(is_result(saved_result_) && finished.size() < runs_.size(), "result");
      const auto checkpoints = reader.get<std::uint64_t>("checkpoints");
      require_saved(checkpoints.size() == 1, "checkpoints");
      checkpoints_ = checkpoints[0];
      saved_ = std::move(reader);
    }
    finished_ = std::move(finished);
  }

  static constexpr const char* models_prefix = "checkpoint-models-";

  options options_;
  const example_set& data_;
  const std::atomic<bool>& interrupted_;
  backend backend_;
  std::vector<planned_run> runs_;
  json fingerprint_;
  json finished_ = json::array();
  json saved_result_;  // of `saved_`
  std::uint64_t checkpoints_ = 0;
  std::optional<dro::data::checkpoint_reader> saved_;
};

}  // namespace generative

#endif
