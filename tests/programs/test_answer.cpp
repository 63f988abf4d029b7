// SPDX-License-Identifier: Apache-2.0
// Answers from a model that train_qa has left.

#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/text/answer_metrics.hpp>

#include "train_qa.hpp"

namespace {

using json = nlohmann::json;

/// A folder with a model, trained once for all tests of this file.
const small_data& trained() {
  static const small_data data;
  static const bool done = train_qa(data.arguments(data.folder.path() / "model", {"--iterations", "2"})).status == 0;
  REQUIRE(done);
  return data;
}

std::string model() { return (trained().folder.path() / "model").string(); }

/// Every line of the output as JSON.
std::vector<json> lines_of(const outcome& o) {
  std::vector<json> lines;
  std::istringstream in(o.out);
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
  return lines;
}

/// What answer says on its standard error about something it must refuse.
std::string refusal(const std::vector<std::string>& arguments) {
  const outcome o = answer(arguments);
  CAPTURE(o.err);
  CHECK(o.status == 2);
  CHECK(o.out.empty());
  return o.err;
}

}  // namespace

TEST_CASE("answers the shipped questions") {
  const outcome o = answer({"--model", model(), "--limit", "5"});
  CAPTURE(o.err);
  REQUIRE(o.status == 0);
  const auto lines = lines_of(o);
  REQUIRE(lines.size() == 5);
  const auto dev = dro::data::read_questions(DRO_SOURCE_DIR "/examples/data/dev.jsonl.gz");
  const auto select = report_in(model()).at("options").at("select").get<std::size_t>();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    CAPTURE(lines[i].dump());
    CHECK(lines[i].at("id") == dev[i].id);
    CHECK(lines[i].at("question") == dev[i].text);
    const auto text = lines[i].at("answer").get<std::string>();
    CHECK_FALSE(text.empty());
    CHECK(lines[i].at("documents").size() == select);
    CHECK(lines[i].at("em").get<bool>() == dro::text::exact_match(text, dev[i].answers));
    CHECK(lines[i].at("f1") == dro::text::f1(text, dev[i].answers));
  }
  CHECK(o.err.starts_with("5 questions: EM "));
}

TEST_CASE("agrees with the report of the training") {
  const outcome o = answer({"--model", model(), "--questions", trained().dev});
  REQUIRE(o.status == 0);
  const auto lines = lines_of(o);
  const json report = report_in(model());
  REQUIRE(lines.size() == report.at("data").at("dev_questions"));
  double em = 0;
  double f1 = 0;
  for (const json& line : lines) {
    em += line.at("em").get<bool>() ? 1 : 0;
    f1 += line.at("f1").get<double>();
  }
  // The same numbers are added in the same order and divided by the same count.
  const auto count = static_cast<double>(lines.size());
  CHECK(em / count == report.at("final").at("em"));
  CHECK(f1 / count == report["final"].at("f1"));
  for (const json& example : report.at("examples")) {
    const json& line = lines.at(example.at("at").get<std::size_t>());
    CHECK(line.at("answer") == example.at("after").at("answer"));
    std::vector<std::string> titles;
    for (const json& document : example["after"].at("documents")) titles.push_back(document.at("title"));
    CHECK(line.at("documents") == titles);
  }
}

TEST_CASE("questions without answers are answered the same") {
  auto questions = dro::data::read_questions(trained().dev);
  for (auto& q : questions) {
    q.answers.clear();
    q.supporting.clear();
  }
  const auto path = trained().folder.path() / "unanswered.jsonl";
  dro::data::write_questions(path, questions);
  const outcome o = answer({"--model", model(), "--questions", path.string()});
  CAPTURE(o.err);
  REQUIRE(o.status == 0);
  CHECK(o.err.empty());
  const auto lines = lines_of(o);
  auto answered = lines_of(answer({"--model", model(), "--questions", trained().dev}));
  for (json& line : answered) {
    line.erase("em");
    line.erase("f1");
  }
  CHECK(lines == answered);
}

TEST_CASE("a model folder that is none") {
  const temporary_folder folder;
  const std::string path = folder.path().string();
  const std::string none = ": holds no model of train_qa (neither model.dro nor checkpoint.dro)\n";
  CHECK(refusal({"--model", path}) == "answer: " + path + none);
  CHECK(refusal({"--model", path + "/none"}) == "answer: " + path + "/none" + none);
  const std::string file = folder.write("model.dro", "{}");
  CHECK(refusal({"--model", file}) == "answer: " + file + none);
  CHECK(refusal({"--model", path}) ==
        "answer: " + file + ": is not a whole checkpoint (damaged, or not one of dro's)\n");
}

TEST_CASE("questions that cannot be taken") {
  const temporary_folder folder;
  const std::string none = (folder.path() / "none").string();
  CHECK(refusal({"--model", model(), "--questions", none}) ==
        "answer: " + none + ": cannot be opened: No such file or directory\n");
  const std::string bad = folder.write("bad", "{\"id\": nil}\n");
  CHECK(refusal({"--model", model(), "--questions", bad})
            .starts_with("answer: " + bad + ":1: malformed JSON in record 1: syntax error"));
  const std::string few = folder.write("few", R"({"id": "q", "question": "Who?", "documents": [{"text": "Ada."}]})");
  CHECK(refusal({"--model", model(), "--questions", few}) ==
        "answer: question \"q\" has 1 documents, the model selects 3\n");
  CHECK(refusal({"--model", model(), "--limit", "-1"}).starts_with("--limit: is -1, expected at least 0\n"));
  CHECK(refusal({"--model", model(), "--limit", "few"}).starts_with("Could not convert: --limit = few\n"));
  CHECK(refusal({"--models", model()}).starts_with("The following argument"));
}

TEST_CASE("answers that cannot be written") {
  const outcome full = answer({"--model", model(), "--limit", "2"}, {.standard_output = "/dev/full"});
  CHECK(full.status == 2);
  CHECK(full.err.ends_with("answer: standard output: cannot be written: No space left on device\n"));
  const std::string file = (trained().folder.path() / "answers").string();
  const outcome limited = answer({"--model", model(), "--limit", "2"}, {.file_size = 100, .standard_output = file});
  CHECK(limited.status == 2);
  CHECK(limited.signal == 0);
}

TEST_CASE("the checkpoint of a stopped run answers too") {
  const auto out = trained().folder.path() / "stopped";
  {
    running_program program(joined({DRO_TRAIN_QA}, trained().arguments(out, {"--iterations", "1000"})));
    REQUIRE(program.wait_until([&] { return std::filesystem::exists(out / "checkpoint.dro"); }));
    program.send(SIGINT);
    REQUIRE(program.wait().status == 130);
  }
  const outcome o = answer({"--model", out.string(), "--limit", "3"});
  CAPTURE(o.err);
  CHECK(o.status == 0);
  CHECK(lines_of(o).size() == 3);
}
