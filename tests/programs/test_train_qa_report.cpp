// SPDX-License-Identifier: Apache-2.0
// What train_qa leaves in its output folder.

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/version.hpp>

#include "train_qa.hpp"

namespace {

using json = nlohmann::json;

/// Checks the scores of an evaluation with m samples a question.
void check_scores(const json& scores, double samples) {
  CAPTURE(scores.dump());
  for (const char* key : {"em", "f1", "recall_at_k", "all_gold_at_k", "no_hit_share", "all_hit_share"}) {
    CAPTURE(key);
    REQUIRE(scores.at(key).is_number());
    CHECK(scores[key].get<double>() >= 0);
    CHECK(scores[key].get<double>() <= 1);
  }
  CHECK(scores["em"].get<double>() <= scores["f1"].get<double>());
  CHECK(scores["all_gold_at_k"].get<double>() <= scores["recall_at_k"].get<double>());
  CHECK(scores["no_hit_share"].get<double>() + scores["all_hit_share"].get<double>() <= 1);
  // The evidence is the log of a mean of probabilities, the ELBO the mean of their logs.
  const auto evidence = scores.at("evidence").get<double>();
  CHECK(evidence < 0);
  CHECK(scores.at("elbo").get<double>() <= evidence);
  CHECK(scores.at("ess").get<double>() >= 1);
  CHECK(scores["ess"].get<double>() <= samples);
  CHECK(scores.at("weight_variance").get<double>() >= 0);
  CHECK(scores.at("flagged") == 0);
}

}  // namespace

TEST_CASE("report.json has all of the run") {
  const small_data data;
  const auto out = data.folder.path() / "new" / "out";
  const outcome o =
      train_qa(data.arguments(out, {"--iterations", "3", "--samples", "4", "--select", "2", "--seed", "7"}));
  CAPTURE(o.err);
  REQUIRE(o.status == 0);
  CHECK(names_in(out) == std::vector<std::string>{"model.dro", "report.html", "report.json"});
  const json report = report_in(out);

  CHECK(report.at("version") == dro::version_string);
  CHECK(report.at("options") == json{{"method", "dro"},
                                     {"samples", 4},
                                     {"select", 2},
                                     {"iterations", 3},
                                     {"seed", 7},
                                     {"seeds", 1},
                                     {"compare", false},
                                     {"departures", json::array()},
                                     {"train", "train.jsonl"},
                                     {"dev", "dev.jsonl"}});
  CHECK(report.at("data").at("train_questions") == 80);
  CHECK(report["data"].at("dev_questions") == 31);
  CHECK(report["data"].at("mean_documents").get<double>() >= 10);

  check_scores(report.at("initial"), 4);
  check_scores(report.at("final"), 4);
  REQUIRE(report.at("iterations").size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    const json& iteration = report["iterations"][i];
    CHECK(iteration.at("iteration") == i + 1);
    check_scores(iteration, 4);
    CHECK(iteration.at("training").at("elbo") <= iteration["training"].at("evidence"));
    CHECK(iteration["training"].at("ess").get<double>() >= 1);
    CHECK(iteration["training"].at("weight_variance").get<double>() >= 0);
    double queries = 0;
    for (const json& count : iteration.at("status")) queries += count.get<double>();
    CHECK(queries == 80);
  }
  json last = report["iterations"][2];
  for (const char* key : {"iteration", "training", "status"}) last.erase(key);
  CHECK(last == report["final"]);
  CHECK(report["final"]["evidence"] > report["initial"]["evidence"]);

  const json& timing = report.at("timing");
  CHECK(timing.at("peak_memory_mib").get<double>() > 1);
  CHECK(timing.at("read_seconds").get<double>() > 0);
  CHECK(timing.at("prepare_seconds").get<double>() > 0);
  REQUIRE(timing.at("iteration_seconds").size() == 3);
  CHECK(timing["iteration_seconds"][0] < timing["iteration_seconds"][2]);
  CHECK(timing.at("seconds") > timing["iteration_seconds"][2]);

  CHECK(o.out.find("report: " + (out / "report.html").string()) != std::string::npos);
  CHECK(o.out.find("80 training and 31 dev questions, 2 of about") != std::string::npos);
}

TEST_CASE("report.json shows what was chosen and answered before and after") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  REQUIRE(train_qa(data.arguments(out, {"--iterations", "1"})).status == 0);
  const auto dev = dro::data::read_questions(data.dev);
  const json examples = report_in(out).at("examples");
  CHECK(examples.size() == 8);
  for (const json& example : examples) {
    const dro::data::question& q = dev.at(example.at("at").get<std::size_t>());
    CHECK(example.at("id") == q.id);
    CHECK(example.at("question") == q.text);
    CHECK(example.at("answers") == q.answers);
    for (const char* when : {"before", "after"}) {
      CHECK(example.at(when).at("answer").is_string());
      CHECK(example[when].at("documents").size() == report_in(out).at("options").at("select"));
      for (const json& document : example[when]["documents"]) {
        bool among_gold = false;
        for (const auto j : q.supporting) {
          among_gold =
              among_gold || q.documents[static_cast<std::size_t>(j)].title == document.at("title").get<std::string>();
        }
        CHECK(document.at("gold") == among_gold);
      }
    }
  }
}

TEST_CASE("report.html stands alone") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  REQUIRE(train_qa(data.arguments(out, {"--iterations", "2"})).status == 0);
  const std::string page = read_bytes(out / "report.html");
  CHECK(page.starts_with("<!DOCTYPE html>"));
  CHECK(page.ends_with("</html>\n"));
  CHECK(page.find("<svg") != std::string::npos);
  for (const char* outside : {"http://", "https://", "<script src", "<link", "@import", "url("}) {
    CHECK_MESSAGE(page.find(outside) == std::string::npos, outside);
  }
}

TEST_CASE("without --dev every fifth training question is held out") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  REQUIRE(train_qa({"--train", data.train, "--iterations", "0", "--out", out.string()}).status == 0);
  const json report = report_in(out);
  CHECK(report.at("data").at("train_questions") == 64);
  CHECK(report["data"].at("dev_questions") == 16);
  CHECK(report.at("options").at("dev") == "held out");
  CHECK(report.at("iterations").empty());
  CHECK(report.at("final") == report.at("initial"));
}

TEST_CASE("the number of threads changes nothing") {
  const small_data data;
  const auto one = data.folder.path() / "one";
  const auto two = data.folder.path() / "two";
  REQUIRE(train_qa(data.arguments(one, {"--iterations", "2", "--threads", "1"})).status == 0);
  REQUIRE(train_qa(data.arguments(two, {"--iterations", "2", "--threads", "2"})).status == 0);
  CHECK(report_without_timing(one) == report_without_timing(two));
  CHECK(read_bytes(one / "model.dro") == read_bytes(two / "model.dro"));
}

TEST_CASE("another seed gives another run") {
  const small_data data;
  const auto one = data.folder.path() / "one";
  const auto two = data.folder.path() / "two";
  REQUIRE(train_qa(data.arguments(one, {"--iterations", "1", "--seed", "1"})).status == 0);
  REQUIRE(train_qa(data.arguments(two, {"--iterations", "1", "--seed", "2"})).status == 0);
  CHECK(report_in(one).at("initial") == report_in(two).at("initial"));
  CHECK(report_in(one).at("final") != report_in(two).at("final"));
}

TEST_CASE("a comparison has a row for each method and each seed a part in it") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  const outcome o = train_qa(data.arguments(out, {"--iterations", "1", "--samples", "2", "--seeds", "2", "--compare"}));
  REQUIRE(o.status == 0);
  const json report = report_in(out);
  REQUIRE(report.at("comparison").size() == 12);
  for (const json& row : report["comparison"]) {
    CAPTURE(row.dump());
    CHECK(row.at("runs") == 2);
    CHECK(row.at("f1").get<double>() >= 0);
    CHECK(row["f1"].get<double>() <= 1);
    CHECK(row.at("standard_error").at("f1").get<double>() >= 0);
    CHECK(row.at("uses_gold_documents").get<bool>() == (row.at("method") == "gold-supervised"));
    CHECK(row.contains("seconds") == false);  // times are in "timing" alone
    CHECK(o.out.find(row.at("method").get<std::string>()) != std::string::npos);
  }
  CHECK(report.at("timing").at("runs").size() == 24);
}
