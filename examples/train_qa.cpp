// SPDX-License-Identifier: Apache-2.0
// Trains a document selector and an answer reader together on questions with candidate documents, reports how well they
// do, and compares with other ways of training the same two models.
//
//     train_qa                                             the questions that ship with the project
//     train_qa --train mine.jsonl.gz --dev dev.jsonl.gz    your own, in any format of docs/data-formats.md
//     train_qa --compare --seeds 5 --out results           every method, five seeds, table and plots
//
// Ctrl-C finishes the step, saves, and says how to resume. Exit status: 0 done, 2 something in the input or options is
// wrong, 1 something in this program is, 130 interrupted.

#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include <dro/data/output_file.hpp>
#include <dro/error.hpp>

#include "output_folder.hpp"
#include "program.hpp"
#include "qa/html_report.hpp"
#include "qa/options.hpp"
#include "qa/question_set.hpp"
#include "qa/report.hpp"
#include "qa/run.hpp"
#include "qa/table.hpp"

namespace {

std::atomic<bool> interrupted{false};

extern "C" void on_interrupt(int) {
  interrupted = true;
  std::signal(SIGINT, SIG_DFL);  // a second Ctrl-C ends the program at once
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  dro::data::write_file_atomically(path, {text.data(), text.size()});
}

void print_results(const qa::json& report) {
  if (report.contains("comparison")) {
    std::printf("\n%s\n* was shown the gold documents in training\n",
                qa::comparison_table(report.at("comparison")).render().c_str());
    std::printf("F1 gain: above %s, ± the standard error paired over dev questions\n\n",
                report.at("options").at("method").get<std::string>().c_str());
  } else {
    std::printf("\n%s\n", qa::summary_table(report).render().c_str());
  }
  const qa::json& data = report.at("data");
  std::printf("%d training and %d dev questions, %d of about %.0f documents selected; peak memory %.0f MiB\n",
              data.at("train_questions").get<int>(), data.at("dev_questions").get<int>(),
              report.at("options").at("select").get<int>(), data.at("mean_documents").get<double>(),
              report.at("timing").at("peak_memory_mib").get<double>());
}

int run(const qa::options& o) {
  const program::stopwatch watch;
  qa::check(o);
  std::optional<program::output_folder> folder;
  if (!o.out.empty()) folder.emplace(o.out, o.resume);
  const qa::question_set data = qa::load(o, DRO_EXAMPLE_DATA);
  const double read_seconds = watch.seconds();
  qa::session session(o, data, interrupted);
  if (o.resume && !session.resumed()) std::fprintf(stderr, "nothing to resume in %s: starting\n", o.out.c_str());
  std::fprintf(stderr, "%zu training and %zu dev questions, %d threads (%s)\n", data.train.size(), data.dev.size(),
               session.device().threads(), dro::thread_pool::library);
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
  qa::json report = qa::make_report(o, data, session);
  report["timing"]["read_seconds"] = read_seconds;
  report["timing"]["seconds"] = watch.seconds();
  if (!o.out.empty()) {
    write_text(o.out / "report.json", report.dump(2, ' ', false, qa::json::error_handler_t::replace) + "\n");
    write_text(o.out / "report.html", qa::render_html(qa::with_seconds(report)));
    session.remove_checkpoint();
  }
  print_results(qa::with_seconds(report));
  std::printf("%.1f s in all\n", watch.seconds());
  if (!o.out.empty()) std::printf("report: %s\n", (o.out / "report.html").c_str());
  program::finish_standard_output();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  qa::options o;
  CLI::App app("Trains a document selector and an answer reader together.", "train_qa");
  qa::add_options(app, o);
  std::signal(SIGINT, on_interrupt);
  return program::start(app, argc, argv, [&] { return run(o); });
}
