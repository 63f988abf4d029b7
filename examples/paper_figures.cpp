// SPDX-License-Identifier: Apache-2.0
// The studies of the paper (Shi et al. 2025), on question data and with the models that come with the library: variance
// of the weights by iteration and by number of samples, quality by iteration, what is lost when one of the two models
// is not trained, and what each departure of the published code costs. Everything is the paper's method, plain weights
// with m samples from the selector, but for what a row says.
//
//     paper_figures                                                   the questions that ship with the project
//     paper_figures --train mine.jsonl.gz --dev dev.jsonl.gz --seeds 5 --out figures.html
//
// docs/paper-figures.md has tables that it made and what to see in them.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <dro/data/checkpoint_file.hpp>
#include <dro/dro.hpp>
#include <dro/error.hpp>
#include <dro/models/question_models.hpp>

#include "program.hpp"
#include "qa/departures.hpp"
#include "qa/evaluation.hpp"
#include "qa/html_report.hpp"
#include "qa/options.hpp"
#include "qa/question_set.hpp"
#include "qa/report.hpp"
#include "qa/svg_plot.hpp"
#include "qa/table.hpp"
#include "qa/trainer.hpp"

namespace {

constexpr std::array<dro::index_t, 8> sample_counts = {1, 2, 4, 6, 8, 10, 12, 14};
constexpr dro::index_t usual_samples = 8;

/// What is measured after an iteration.
struct point {
  double em = 0, f1 = 0, recall = 0, all_gold = 0;  ///< on the dev questions
  double weight_variance = 0;  ///< of m w̄ in the iteration's E-steps, mean over training questions
};

/// One way of training, and what came of it.
struct variant {
  std::string name;
  dro::index_t samples = usual_samples;
  qa::variation how = {};
  const char* method = "dro-plain";
  bool is_warmed_up = false;

  std::vector<std::vector<point>> paths = {};  ///< [seeds][iterations + 1], from before training on
  std::vector<double> question_f1 = {};        ///< of each dev question at the end, mean over seeds

  [[nodiscard]] qa::mean_and_error at(std::size_t iteration, double point::*value, double scale = 1) const {
    std::vector<double> values;
    for (const auto& path : paths) values.push_back(scale * path[iteration].*value);
    return qa::summarise(values);
  }
  /// How far the final F1 lies above that of `other`, with the standard error paired over dev questions.
  [[nodiscard]] qa::mean_and_error gain_over(const variant& other) const {
    std::vector<double> gain;
    for (std::size_t i = 0; i < question_f1.size(); ++i) gain.push_back(100 * (question_f1[i] - other.question_f1[i]));
    return qa::summarise(gain);
  }
};

/// The questions, prepared, and the runs over them.
class laboratory {
 public:
  laboratory(const qa::options& o, qa::question_set data)
      : options_(o),
        data_(std::move(data)),
        backend_(o.threads),
        features_(dro::models::question_features::fit(data_.train)),
        train_(features_.prepare(backend_, data_.train)),
        dev_(features_.prepare(backend_, data_.dev)) {
    for (const dro::data::question& q : data_.train) gold_.push_back(q.supporting);
  }

  [[nodiscard]] const qa::question_set& data() const { return data_; }
  [[nodiscard]] bool has_gold() const {
    return std::any_of(gold_.begin(), gold_.end(), [](const auto& list) { return !list.empty(); });
  }

  /// Trains `v` with each seed.
  void run(variant& v, const std::string& label) {
    v.question_f1.assign(data_.dev.size(), 0.0);
    for (dro::index_t s = 0; s < options_.seeds; ++s) {
      const std::uint64_t seed = options_.seed + static_cast<std::uint64_t>(s);
      qa::trainer t = make_trainer(v.method, v.samples, options_.iterations, seed, v.how);
      if (v.is_warmed_up) warm_up(t, seed);
      std::vector<point> path;
      qa::evaluation last = qa::evaluate(backend_, t, data_.dev, dev_, {v.samples, data_.select});
      path.push_back(to_point(last, std::numeric_limits<double>::quiet_NaN()));
      struct {
        std::function<void(const dro::step_summary&)> call;
        void on_iteration(const dro::loop_progress&, const dro::step_summary& summary) const { call(summary); }
      } record{[&](const dro::step_summary& summary) {
        last = qa::evaluate(backend_, t, data_.dev, dev_, {v.samples, data_.select});
        path.push_back(to_point(last, summary.weight_variance));
      }};
      dro::callback::progress progress(stderr, ::isatty(STDERR_FILENO) != 0,
                                       label + ", " + v.name + ", seed " + std::to_string(seed));
      t.train(train_, gold_, record, progress);
      v.paths.push_back(std::move(path));
      for (std::size_t i = 0; i < v.question_f1.size(); ++i) {
        v.question_f1[i] += last.questions[i].f1 / static_cast<double>(options_.seeds);
      }
    }
  }

 private:
  [[nodiscard]] qa::trainer make_trainer(const char* method, dro::index_t samples, dro::index_t iterations,
                                         std::uint64_t seed, const qa::variation& how) {
    return {backend_,
            qa::find_method(method),
            features_.reader.feature_count(),
            features_.reader.options(),
            {samples, data_.select},
            {.iterations = iterations, .seed = seed},
            {},
            how};
  }

  /// One iteration in which the selector is taught the gold documents and the reader reads what it selects.
  void warm_up(qa::trainer& t, std::uint64_t seed) {
    qa::trainer teacher = make_trainer("gold-supervised", usual_samples, 1, seed, {});
    teacher.train(train_, gold_);
    std::map<std::string, std::vector<double>> learned;
    const auto of_a_model = [](const std::string& name) { return name == "selector" || name == "reader"; };
    teacher.for_each_state([&](const std::string& name, auto values) {
      if (of_a_model(name)) learned[name].assign(values.begin(), values.end());
    });
    t.for_each_state([&](const std::string& name, auto values) {
      if constexpr (std::is_same_v<typename decltype(values)::value_type, double>) {
        if (of_a_model(name)) std::copy(learned[name].begin(), learned[name].end(), values.begin());
      }
    });
  }

  [[nodiscard]] static point to_point(const qa::evaluation& e, double weight_variance) {
    return {e.em, e.f1, e.recall_at_k, e.all_gold_at_k, weight_variance};
  }

  qa::options options_;
  qa::question_set data_;
  qa::backend backend_;
  dro::models::question_features features_;
  std::vector<dro::models::prepared_question> train_;
  std::vector<dro::models::prepared_question> dev_;
  qa::gold_lists gold_;
};

qa::table::cell cell(const qa::mean_and_error& m, int decimals) {
  return {std::isfinite(m.mean) ? std::optional(m.mean) : std::nullopt, decimals,
          std::isfinite(m.error) ? std::optional(m.error) : std::nullopt};
}

/// A table, its title, and a chart to go with it (no chart: empty).
struct exhibit {
  std::string title;
  std::string table;
  std::string chart;
};

std::vector<qa::table::column> columns(const std::string& first, std::vector<std::string> others) {
  std::vector<qa::table::column> all = {{first}};
  for (std::string& heading : others) all.push_back({std::move(heading), qa::table::side::right});
  return all;
}

exhibit variance_by_iteration(const std::vector<variant>& by_samples, double (*scale)(dro::index_t), std::string title,
                              const std::string& id) {
  const std::size_t iterations = by_samples.front().paths.front().size() - 1;
  std::vector<std::string> headings;
  for (std::size_t i = 1; i <= iterations; ++i) headings.push_back("iteration " + std::to_string(i));
  qa::table table(columns("m", headings));
  qa::line_chart chart{id, title, "iteration", "variance", 3, {0}, {}, {}};
  for (const variant& v : by_samples) {
    std::vector<qa::table::cell> row = {std::to_string(v.samples)};
    qa::line_series line{"m = " + std::to_string(v.samples), {}, {}};
    for (std::size_t i = 1; i <= iterations; ++i) {
      const auto value = v.at(i, &point::weight_variance, scale(v.samples));
      row.push_back(cell(value, 4));
      line.x.push_back(static_cast<double>(i));
      line.y.push_back(value.mean);
    }
    table.add_row(std::move(row));
    if (v.samples == 2 || v.samples == 4 || v.samples == 8 || v.samples == 14) chart.series.push_back(std::move(line));
  }
  return {std::move(title), table.render(), qa::render(chart)};
}

std::vector<qa::table::cell> scores_of(const variant& v, std::size_t iteration, std::string name) {
  return {std::move(name), cell(v.at(iteration, &point::em, 100), 1), cell(v.at(iteration, &point::f1, 100), 1),
          cell(v.at(iteration, &point::recall, 100), 1), cell(v.at(iteration, &point::all_gold, 100), 1)};
}
const std::vector<std::string> score_headings = {"EM %", "F1 %", "recall@K %", "all-gold@K %"};

exhibit quality_by_iteration(const std::vector<variant>& by_samples) {
  const auto usual =
      std::find_if(by_samples.begin(), by_samples.end(), [](const variant& v) { return v.samples == usual_samples; });
  qa::table table(columns("iteration", score_headings));
  qa::line_chart chart{"quality", "F1 by iteration", "iteration", "F1, % (dev questions)", 1, {0}, {}, {}};
  const std::size_t points = usual->paths.front().size();
  for (std::size_t i = 0; i < points; ++i) table.add_row(scores_of(*usual, i, std::to_string(i)));
  for (const variant& v : by_samples) {
    if (v.samples != 1 && v.samples != 2 && v.samples != 8 && v.samples != 14) continue;
    qa::line_series line{"m = " + std::to_string(v.samples), {}, {}};
    for (std::size_t i = 0; i < points; ++i) {
      line.x.push_back(static_cast<double>(i));
      line.y.push_back(v.at(i, &point::f1, 100).mean);
    }
    chart.series.push_back(std::move(line));
  }
  return {"Quality by iteration, m = 8 (table 3 of the paper)", table.render(), qa::render(chart)};
}

/// Final scores, one row a variant, with the paired difference of F1 to the reference each is given with.
exhibit final_scores(std::string title, const std::string& id,
                     const std::vector<std::pair<const variant*, const variant*>>& rows) {
  std::vector<std::string> headings = score_headings;
  headings.push_back("F1 difference, paired");
  qa::table table(columns("", headings));
  qa::bar_chart chart{id, title, "F1, % (dev questions)", 1, {{"", {}}}};
  for (const auto& [v, reference] : rows) {
    const std::size_t last = v->paths.front().size() - 1;
    auto row = scores_of(*v, last, v->name);
    row.push_back(v == reference ? qa::table::cell("") : cell(v->gain_over(*reference), 1));
    table.add_row(std::move(row));
    const auto f1 = v->at(last, &point::f1, 100);
    chart.groups.front().bars.push_back(
        {v->name, f1.mean, std::isfinite(f1.error) ? std::optional(f1.error) : std::nullopt, v == reference});
  }
  return {std::move(title), table.render(), qa::render(chart)};
}

std::string page(const std::string& heading, const std::vector<exhibit>& exhibits) {
  std::string body = "<h1>" + qa::escape_markup(heading) + "</h1>\n";
  for (const exhibit& e : exhibits) {
    body += "<h2>" + qa::escape_markup(e.title) + "</h2>\n<div class=\"figures\"><figure>" + e.chart +
            "</figure></div>\n<div class=\"scroll\"><pre>" + qa::escape_markup(e.table) + "</pre></div>\n";
  }
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         qa::escape_markup(heading) + "</title>\n<style>" + std::string(qa::detail::page_style) +
         std::string(qa::svg_style) + "</style>\n</head>\n<body>\n" + body + "</body>\n</html>\n";
}

int run(const qa::options& o, std::size_t limit) {
  qa::check(o);
  qa::question_set data = qa::load(o, DRO_EXAMPLE_DATA);
  if (limit > 0) {
    data.train.resize(std::min(limit, data.train.size()));
    data.dev.resize(std::min(limit, data.dev.size()));
  }
  laboratory lab(o, std::move(data));

  std::vector<variant> by_samples;
  for (const dro::index_t m : sample_counts) by_samples.push_back({"m = " + std::to_string(m), m});
  std::vector<variant> ablations = {
      {"selector frozen", usual_samples, {.selector_is_frozen = true}},
      {"reader frozen", usual_samples, {.reader_is_frozen = true}},
  };
  if (lab.has_gold()) {
    ablations.push_back({"both trained, after warm-up", usual_samples, {}, "dro-plain", true});
    ablations.push_back(
        {"selector frozen, after warm-up", usual_samples, {.selector_is_frozen = true}, "dro-plain", true});
    ablations.push_back({"reader frozen, after warm-up", usual_samples, {.reader_is_frozen = true}, "dro-plain", true});
  }
  std::vector<variant> departing;
  const auto depart = [&](const qa::named_departure& d, const char* suffix, bool is_corrected) {
    qa::variation how{.is_corrected = is_corrected};
    how.departs.*d.is_on = true;
    departing.push_back({std::string(d.name) + suffix, usual_samples, how});
  };
  for (const qa::named_departure& d : qa::named_departures) {
    depart(d, "", false);
    // For the departures that change which lists there are: what those lists would give with the right weights.
    const bool changes_lists =
        d.is_on == &qa::departures::unparsed_dropped || d.is_on == &qa::departures::uncorrected_sampling;
    if (changes_lists) depart(d, ", weights right", true);
  }
  departing.push_back({"published-code", usual_samples, {}, "published-code"});

  const std::size_t all = by_samples.size() + ablations.size() + departing.size();
  std::size_t done = 0;
  for (std::vector<variant>* group : {&by_samples, &ablations, &departing}) {
    for (variant& v : *group) lab.run(v, std::to_string(++done) + " of " + std::to_string(all));
  }

  variant& usual =
      *std::find_if(by_samples.begin(), by_samples.end(), [](const variant& v) { return v.samples == usual_samples; });
  std::vector<exhibit> exhibits;
  exhibits.push_back(variance_by_iteration(
      by_samples, [](dro::index_t) { return 1.0; },
      "Variance of m·w, w the normalised weights, by iteration (figure 4) and m (figure 6)", "relative"));
  exhibits.push_back(variance_by_iteration(
      by_samples, [](dro::index_t m) { return 1.0 / static_cast<double>(m * m); },
      "The same of the normalised weights themselves, 1/m² of it", "absolute"));
  exhibits.push_back(quality_by_iteration(by_samples));
  std::vector<std::pair<const variant*, const variant*>> rows;
  for (const variant& v : by_samples) rows.emplace_back(&v, &usual);
  exhibits.push_back(final_scores("Quality by number of samples, after the last iteration", "samples", rows));
  variant both = usual;
  both.name = "both trained";
  rows = {{&both, &both}};
  for (const variant& v : ablations) rows.emplace_back(&v, v.is_warmed_up ? &ablations[2] : &both);
  exhibits.push_back(final_scores("One model not trained (figure 5)", "ablations", rows));
  usual.name = "none (m = 8)";
  rows = {{&usual, &usual}};
  for (const variant& v : departing) rows.emplace_back(&v, &usual);
  exhibits.push_back(final_scores("Departures of the published code, one at a time", "departures", rows));

  const std::string heading =
      lab.data().train_path.filename().string() + ": " + std::to_string(lab.data().train.size()) + " training and " +
      std::to_string(lab.data().dev.size()) + " dev questions, K = " + std::to_string(lab.data().select) + ", " +
      std::to_string(o.iterations) + " iterations, seeds " + std::to_string(o.seed) + " to " +
      std::to_string(o.seed + static_cast<std::uint64_t>(o.seeds) - 1);
  std::printf("%s\n", heading.c_str());
  for (const exhibit& e : exhibits) std::printf("\n%s\n\n%s", e.title.c_str(), e.table.c_str());
  if (!o.out.empty()) {
    const std::string html = page(heading, exhibits);
    dro::data::write_file_atomically(o.out, {html.data(), html.size()});
  }
  program::finish_standard_output();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  qa::options o;
  o.method = "dro-plain";
  o.iterations = 5;
  std::size_t limit = 0;
  CLI::App app("Repeats the studies of the paper on question data.", "paper_figures");
  app.add_option("--train", o.train, "questions to train on; the shipped ones if none");
  app.add_option("--dev", o.dev, "questions to report on; every fifth training question if only --train is given");
  app.add_option("--select", o.select, "documents chosen for each question (K), as train_qa chooses it if not given");
  app.add_option("--iterations", o.iterations, "passes over the training questions")->capture_default_str();
  app.add_option("--seed", o.seed, "the first seed")->check(program::is_natural)->capture_default_str();
  app.add_option("--seeds", o.seeds, "seeds from there on; tables have mean and standard error")->capture_default_str();
  app.add_option("--threads", o.threads, "threads; 0: all")->capture_default_str();
  app.add_option("--limit", limit, "only the first so many questions of each file; 0: all")
      ->check(program::is_natural)
      ->capture_default_str();
  app.add_option("--out", o.out, "file for the tables and charts as a page (HTML)");
  return program::start(app, argc, argv, [&] { return run(o, limit); });
}
