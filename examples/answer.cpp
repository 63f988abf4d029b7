// SPDX-License-Identifier: Apache-2.0
// Answers a file of questions with a model that train_qa left in its output folder.
//
//     answer --model out [--questions F] [--limit 20]
//
// Writes one JSON object a line: id, question, the documents chosen, the answer and, where the file has answers, EM and
// F1. Exit status: 0 done, 2 something in the input is wrong, 1 something in this program is.

#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <dro/data/checkpoint_file.hpp>
#include <dro/data/read_questions.hpp>
#include <dro/dro.hpp>
#include <dro/models/question_models.hpp>
#include <dro/text/answer_metrics.hpp>

#include "program.hpp"
#include "qa/evaluation.hpp"
#include "qa/methods.hpp"
#include "qa/options.hpp"

namespace {

struct options {
  std::filesystem::path model = "out";
  std::filesystem::path questions = std::filesystem::path(DRO_EXAMPLE_DATA) / "dev.jsonl.gz";
  std::size_t limit = std::numeric_limits<std::size_t>::max();
};

/// The model in an output folder of train_qa. A run that was stopped has a checkpoint but no model yet.
std::filesystem::path model_file(const std::filesystem::path& folder) {
  for (const char* name : {"model.dro", "checkpoint.dro"}) {
    std::error_code failure;
    if (std::filesystem::exists(folder / name, failure)) return folder / name;
  }
  throw dro::file_error(folder.string(), "holds no model of train_qa (neither model.dro nor checkpoint.dro)");
}

int run(const options& o) {
  const dro::data::checkpoint_reader file(model_file(o.model));
  const auto features = dro::models::question_features::load(file);
  const qa::method& method = qa::find_method(file.text("method"));
  dro::index_t select = 0;
  file.get_into("select", std::span<dro::index_t>(&select, 1));
  dro::models::feature_selector selector(qa::selector_for(method));
  dro::models::extractive_reader reader(features.reader.feature_count(), features.reader.options());
  file.get_into("selector", selector.parameters());
  file.get_into("reader", reader.parameters());

  dro::data::read_options how;
  how.limit = o.limit;
  how.require_answers = false;
  const auto questions = dro::data::read_questions(o.questions, how);
  for (const dro::data::question& q : questions) {
    if (static_cast<dro::index_t>(q.documents.size()) < select) {
      throw dro::option_error("question \"" + q.id + "\" has " + std::to_string(q.documents.size()) +
                              " documents, the model selects " + std::to_string(select));
    }
  }
  dro::host_backend backend;
  const auto prepared = features.prepare(backend, questions);
  dro::models::extractive_reader::workspace workspace;
  double em = 0;
  double f1 = 0;
  double scored = 0;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const dro::data::question& q = questions[i];
    const auto ranking = qa::choose(method, selector, prepared[i], select);
    nlohmann::json line = {
        {"id", q.id}, {"question", q.text}, {"answer", reader.answer(prepared[i], ranking, workspace)}};
    for (const dro::document_t j : ranking) line["documents"].push_back(q.documents[static_cast<std::size_t>(j)].title);
    if (!q.answers.empty()) {
      line["em"] = dro::text::exact_match(line["answer"].get<std::string>(), q.answers);
      line["f1"] = dro::text::f1(line["answer"].get<std::string>(), q.answers);
      em += line["em"].get<bool>() ? 1 : 0;
      f1 += line["f1"].get<double>();
      scored += 1;
    }
    std::printf("%s\n", line.dump().c_str());
  }
  if (scored > 0)
    std::fprintf(stderr, "%.0f questions: EM %.1f %%, F1 %.1f %%\n", scored, 100 * em / scored, 100 * f1 / scored);
  program::finish_standard_output();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app("Answers questions with a model trained by train_qa.", "answer");
  app.add_option("--model", o.model, "the --out folder of train_qa")->capture_default_str();
  app.add_option("--questions", o.questions,
                 "questions, any format of docs/data-formats.md; the shipped dev set if none");
  app.add_option("--limit", o.limit, "answer only so many")->check(program::is_natural);
  return program::start(app, argc, argv, [&] { return run(o); });
}
