// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_RUN_HPP
#define DRO_EXAMPLES_QA_RUN_HPP

/// \file
/// Runs of methods and seeds, one after the other, that can be stopped anywhere and resumed.

#include <sys/resource.h>
#include <unistd.h>

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
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/checkpoint_file.hpp>
#include <dro/dro.hpp>
#include <dro/models/question_models.hpp>

#include "../program.hpp"
#include "evaluation.hpp"
#include "methods.hpp"
#include "options.hpp"
#include "question_set.hpp"
#include "trainer.hpp"

namespace qa {

using nlohmann::json;

/// Most memory the process has held, MiB.
[[nodiscard]] inline double peak_memory_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

[[nodiscard]] inline json to_json(const evaluation& e) {
  return {{"em", e.em},
          {"f1", e.f1},
          {"recall_at_k", program::number(e.recall_at_k)},
          {"all_gold_at_k", program::number(e.all_gold_at_k)},
          {"evidence", program::number(e.evidence)},
          {"elbo", program::number(e.elbo)},
          {"ess", program::number(e.ess)},
          {"weight_variance", program::number(e.weight_variance)},
          {"no_hit_share", e.no_hit_share},
          {"all_hit_share", e.all_hit_share},
          {"flagged", e.flagged}};
}

/// One method with one seed.
struct planned_run {
  method how;
  std::uint64_t seed;
};

/// The runs `o` asks for; the one whose iterations the report shows is first.
/// Throws dro::option_error if the method needs gold documents that `data` does not have; a comparison leaves it out.
[[nodiscard]] inline std::vector<planned_run> plan(const options& o, const question_set& data) {
  std::vector<planned_run> runs;
  const method& main = find_method(o.method);
  const bool has_gold = std::any_of(data.train.begin(), data.train.end(),
                                    [](const dro::data::question& q) { return !q.supporting.empty(); });
  if (main.id == method_id::gold_supervised && !has_gold) {
    throw dro::option_error("--method gold-supervised: no question of " + data.train_path.string() +
                            " has gold documents (supporting)");
  }
  const auto add = [&](const method& m) {
    for (dro::index_t s = 0; s < o.seeds; ++s) runs.push_back({m, o.seed + static_cast<std::uint64_t>(s)});
  };
  add(main);
  if (o.compare) {
    for (const method& m : methods) {
      if (m.id != main.id && (m.id != method_id::gold_supervised || has_gold)) add(m);
    }
  }
  return runs;
}

/// Everything that decides what a run computes. Two runs with equal fingerprints give equal results.
[[nodiscard]] inline json fingerprint(const options& o, const question_set& data) {
  json f = {{"version", dro::version_string},
            {"method", o.method},
            {"samples", o.samples},
            {"select", data.select},
            {"iterations", o.iterations},
            {"seed", o.seed},
            {"seeds", o.seeds},
            {"compare", o.compare},
            {"departures", o.departures},
            {"train", program::file_crc(data.train_path)}};
  f["dev"] = data.dev_path.empty() ? json("held out") : json(program::file_crc(data.dev_path));
  return f;
}

/// Trains and evaluates all planned runs, keeping a checkpoint in the output folder.
class session {
 public:
  /// `interrupted` is looked at after each step. Throws dro::checkpoint_error if there is a checkpoint of other
  /// options.
  session(const options& o, const question_set& data, const std::atomic<bool>& interrupted)
      : options_(o),
        data_(data),
        interrupted_(interrupted),
        backend_(o.threads),
        runs_(plan(o, data)),
        fingerprint_(fingerprint(o, data)) {
    if (o.resume) load_finished();
  }

  [[nodiscard]] backend& device() { return backend_; }
  [[nodiscard]] const std::vector<planned_run>& runs() const { return runs_; }
  [[nodiscard]] bool resumed() const { return saved_.has_value() || !finished_.empty(); }

  /// Runs what is left of the plan. False if it was interrupted, in which case the checkpoint is up to date.
  bool train() {
    const program::stopwatch watch;
    const auto features = dro::models::question_features::fit(data_.train);
    const auto train = features.prepare(backend_, data_.train);
    const auto dev = features.prepare(backend_, data_.dev);
    timing_["prepare_seconds"] = watch.seconds();
    features.save(fitted_);
    gold_lists gold;
    for (const dro::data::question& q : data_.train) gold.push_back(q.supporting);
    while (finished_.size() < runs_.size()) {
      if (!train_one(runs_[finished_.size()], features, train, dev, gold)) return false;
    }
    return true;
  }

  /// Results of the finished runs in the order of the plan.
  [[nodiscard]] const json& results() const { return finished_; }
  /// Seconds and memory.
  [[nodiscard]] json timing() const {
    json t = timing_;
    t["peak_memory_mib"] = peak_memory_mib();
    return t;
  }

  [[nodiscard]] std::filesystem::path checkpoint_path() const { return options_.out / "checkpoint.dro"; }
  /// To be called when the report is written: what the checkpoint kept is in there.
  void remove_checkpoint() const { std::filesystem::remove(checkpoint_path()); }

 private:
  bool train_one(const planned_run& run, const dro::models::question_features& features,
                 std::span<const dro::models::prepared_question> train,
                 std::span<const dro::models::prepared_question> dev, const gold_lists& gold) {
    const dro::draw_options draw{options_.samples, data_.select};
    trainer t(backend_, run.how, features.reader.feature_count(), features.reader.options(), draw,
              {.iterations = options_.iterations, .seed = run.seed}, {},
              {.departs = find_departures(options_.departures)});
    json result = {{"method", run.how.name}, {"seed", run.seed}, {"iterations", json::array()}};
    json seconds = json::array();
    program::stopwatch watch;
    const bool first = finished_.empty();
    const auto measure = [&] { return evaluate(backend_, t, data_.dev, dev, draw); };
    if (saved_) {
      result = parse_saved(*saved_, "result");
      t.for_each_state([&](const std::string& name, auto values) { saved_->get_into(name, values); });
      saved_.reset();
    } else {
      const evaluation before = measure();
      result["initial"] = to_json(before);
      if (first) result["examples"] = shown(before, "before", json::array());
    }
    const auto save = [&] {
      if (!options_.out.empty()) write_checkpoint(t, result);
    };
    evaluation latest;
    struct {
      std::function<void(const dro::loop_progress&, const dro::step_summary&)> call;
      void on_iteration(const dro::loop_progress& p, const dro::step_summary& s) const { call(p, s); }
    } record{[&](const dro::loop_progress& p, const dro::step_summary& s) {
      if (!first) return;  // the report shows the iterations of the first run only
      latest = measure();
      json entry = to_json(latest);
      entry["iteration"] = p.position.iteration;
      entry["training"] = {{"evidence", program::number(s.evidence)},
                           {"elbo", program::number(s.elbo)},
                           {"ess", program::number(s.effective_sample_size)},
                           {"weight_variance", program::number(s.weight_variance)}};
      for (int k = 0; k < dro::status_count; ++k) {
        entry["status"][dro::to_string(static_cast<dro::status>(k))] = s.queries[static_cast<std::size_t>(k)];
      }
      result["iterations"].push_back(entry);
      seconds.push_back(watch.seconds());
    }};
    const bool is_terminal = ::isatty(STDERR_FILENO) != 0;
    std::string label(run.how.name);
    if (options_.seeds > 1) label += ", seed " + std::to_string(run.seed);
    if (runs_.size() > 1)
      label += " (" + std::to_string(finished_.size() + 1) + " of " + std::to_string(runs_.size()) + ")";
    dro::callback::progress progress(stderr, is_terminal, label);
    dro::callback::checkpoint checkpoint(save, 32);
    dro::callback::stop_when stop([&] { return interrupted_.load(); });
    if (!t.train(train, gold, record, checkpoint, progress, stop)) {
      save();
      return false;
    }
    if (latest.questions.empty()) latest = measure();
    result["final"] = to_json(latest);
    for (const answered_question& a : latest.questions) result["question_f1"].push_back(a.f1);
    if (first) {
      result["examples"] = shown(latest, "after", result["examples"]);
      timing_["iteration_seconds"] = seconds;
      if (!options_.out.empty()) write_model(t);
    }
    result["seconds"] = watch.seconds();
    finished_.push_back(result);
    if (!options_.out.empty()) write_checkpoint(t, nullptr);
    return true;
  }

  /// What was chosen and answered for a few questions, before or after training.
  [[nodiscard]] json shown(const evaluation& e, const char* when, json examples) const {
    if (examples.empty()) {
      const std::size_t count = std::min<std::size_t>(8, data_.dev.size());
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t at = i * data_.dev.size() / count;
        examples.push_back({{"at", at},
                            {"id", data_.dev[at].id},
                            {"question", data_.dev[at].text},
                            {"answers", data_.dev[at].answers}});
      }
    }
    for (json& example : examples) {
      const auto at = example["at"].get<std::size_t>();
      const answered_question& a = e.questions[at];
      const dro::data::question& q = data_.dev[at];
      json documents = json::array();
      for (const dro::document_t j : a.ranking) {
        documents.push_back({{"title", q.documents[static_cast<std::size_t>(j)].title},
                             {"gold", std::find(q.supporting.begin(), q.supporting.end(), j) != q.supporting.end()}});
      }
      example[when] = {{"documents", documents}, {"answer", a.answer}, {"f1", a.f1}};
    }
    return examples;
  }

  void write_model(trainer& t) const {
    dro::data::checkpoint_writer writer = fitted_;
    add_model(writer, t);
    writer.write(options_.out / "model.dro");
  }

  void add_model(dro::data::checkpoint_writer& writer, trainer& t) const {
    writer.add("method", t.trained_by().name);
    writer.add("select", std::span<const dro::index_t>(&data_.select, 1));
    t.for_each_state([&](const std::string& name, auto values) {
      writer.add(name, std::span<const typename decltype(values)::element_type>(values));
    });
  }

  /// `result` is that of the run in progress, null between runs.
  void write_checkpoint(trainer& t, const json& result) const {
    dro::data::checkpoint_writer writer = fitted_;
    writer.add("fingerprint", fingerprint_.dump());
    writer.add("finished", finished_.dump());
    if (!result.is_null()) writer.add("result", result.dump());
    add_model(writer, t);
    writer.write(checkpoint_path());
  }

  /// JSON that a checkpoint keeps. Throws dro::checkpoint_error if it is none.
  [[nodiscard]] json parse_saved(const dro::data::checkpoint_reader& reader, const char* name) const {
    json value = json::parse(reader.text(name), nullptr, false);
    if (value.is_discarded()) {
      throw dro::checkpoint_error(checkpoint_path().string(), std::string("\"") + name + "\" is not JSON");
    }
    return value;
  }

  void load_finished() {
    std::error_code failure;
    if (!std::filesystem::exists(checkpoint_path(), failure)) return;
    dro::data::checkpoint_reader reader(checkpoint_path());
    const json other = parse_saved(reader, "fingerprint");
    for (const auto& [key, value] : fingerprint_.items()) {
      if (other.value(key, json()) != value) {
        throw dro::checkpoint_error(checkpoint_path().string(), "was written by a run with other options: " + key +
                                                                    " is " + value.dump() + ", it was " +
                                                                    other.value(key, json()).dump());
      }
    }
    finished_ = parse_saved(reader, "finished");
    if (reader.has("result")) saved_ = std::move(reader);
  }

  options options_;
  const question_set& data_;
  const std::atomic<bool>& interrupted_;
  backend backend_;
  std::vector<planned_run> runs_;
  json fingerprint_;
  json finished_ = json::array();
  json timing_ = json::object();
  dro::data::checkpoint_writer fitted_;  // the features, for which no model can do without the ones it was trained on
  std::optional<dro::data::checkpoint_reader> saved_;
};

}  // namespace qa

#endif
