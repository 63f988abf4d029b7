// SPDX-License-Identifier: Apache-2.0
// Trains two small language models together from scratch, one that chooses documents and one that answers from them,
// and compares with other ways of training the same two networks.
//
//     train_generative                                       a generated world of two-hop questions
//     train_generative --compare --seeds 3 --out results     every method, three seeds: the table of docs/generative.md
//     train_generative --train mine.jsonl                    your own questions: any format of docs/data-formats.md
//
// Ctrl-C finishes the step, saves, and says how to resume. Exit status: 0 done, 2 something in the input or options is
// wrong, 1 something in this program is, 130 interrupted.

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <dro/data/output_file.hpp>
#include <dro/error.hpp>

#include "generative/example_set.hpp"
#include "generative/options.hpp"
#include "generative/run.hpp"
#include "output_folder.hpp"
#include "program.hpp"
#include "qa/table.hpp"

namespace {

using generative::json;

std::atomic<bool> interrupted{false};

extern "C" void on_interrupt(int) {
  interrupted = true;
  std::signal(SIGINT, SIG_DFL);  // a second Ctrl-C ends the program at once
}

/// Mean and, of two or more, its standard error.
struct mean_of {
  std::vector<double> values;
  [[nodiscard]] std::optional<double> mean() const {
    double sum = 0;
    for (const double v : values) sum += v;
    return values.empty() ? std::nullopt : std::optional(sum / static_cast<double>(values.size()));
  }
  [[nodiscard]] std::optional<double> standard_error() const {
    if (values.size() < 2) return std::nullopt;
    double squares = 0;
    for (const double v : values) squares += (v - *mean()) * (v - *mean());
    const auto n = static_cast<double>(values.size());
    return std::sqrt(squares / (n - 1) / n);
  }
};

/// A row for each method: its results, means over seeds.
[[nodiscard]] qa::table results_table(const json& results) {
  using column = qa::table::column;
  constexpr auto right = qa::table::side::right;
  qa::table table({column{"method"},
                   column{"what it is"},
                   {"EM %", right},
                   {"recall@K %", right},
                   {"all-gold@K %", right},
                   {"seconds", right}});
  for (const generative::method& m : generative::methods) {
    mean_of em, recall, all_gold, seconds;
    for (const json& run : results) {
      if (run["method"] != m.name) continue;
      const json& final = run["final"];
      em.values.push_back(100 * final["em"].get<double>());
      if (!final["recall_at_k"].is_null()) {
        recall.values.push_back(100 * final["recall_at_k"].get<double>());
        all_gold.values.push_back(100 * final["all_gold_at_k"].get<double>());
      }
      seconds.values.push_back(run["seconds"]);
    }
    if (em.values.empty()) continue;
    const auto cell = [](const mean_of& v) { return qa::table::cell(v.mean(), 1, v.standard_error()); };
    table.add_row({std::string(m.name), std::string(m.description), cell(em), cell(recall), cell(all_gold),
                   qa::table::cell(seconds.mean(), 1)});
  }
  return table;
}

int run(const generative::options& o) {
  generative::check(o);
  std::optional<program::output_folder> folder;
  if (!o.out.empty()) folder.emplace(o.out, o.resume);
  const generative::example_set data = generative::load(o);
  generative::session session(o, data, interrupted);
  if (o.resume && !session.resumed()) std::fprintf(stderr, "nothing to resume in %s: starting\n", o.out.c_str());
  std::fprintf(stderr, "%zu annotated, %zu training, %zu dev and %zu test questions, %zu tokens\n",
               data.annotated.size(), data.train.size(), data.dev.size(), data.test.size(), data.tokens.size());
  if (!session.train()) {
    if (o.out.empty()) {
      std::fprintf(stderr, "\ninterrupted; without --out nothing is kept\n");
    } else {
      std::fprintf(stderr,
                   "\ninterrupted; everything done so far is in %s\nadd --resume to the same command to go on\n",
                   session.checkpoint_path().c_str());
    }
    return 130;
  }
  if (!o.out.empty()) {
    const std::string report =
        json{{"options", session.options_and_files()}, {"runs", session.results()}}.dump(2) + "\n";
    dro::data::write_file_atomically(o.out / "report.json", {report.data(), report.size()});
    session.remove_checkpoint();
  }
  std::printf("%s", results_table(session.results()).render().c_str());
  std::printf("%s questions; K = %td\n", o.on_dev ? "dev" : "test", o.training.draw.select);
  program::finish_standard_output();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  generative::options o;
  CLI::App app("Trains two small language models together: one chooses documents, one answers from them.",
               "train_generative");
  generative::add_options(app, o);
  std::signal(SIGINT, on_interrupt);
  return program::start(app, argc, argv, [&] { return run(o); });
}
