// SPDX-License-Identifier: Apache-2.0
// train_generative: the world it makes up, what it learns in seconds, runs that are stopped and resumed, refusals.

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <dro/data/checkpoint_file.hpp>
#include <dro/data/tokenizer_json.hpp>

#include "../../examples/generative/example_set.hpp"
#include "../../examples/generative/one_by_one.hpp"
#include "../../examples/generative/world.hpp"
#include "train_qa.hpp"

namespace {

using json = nlohmann::json;
using generative::world_part;

[[nodiscard]] outcome train_generative(const std::vector<std::string>& arguments, run_limits limits = {}) {
  return run_program(joined({DRO_TRAIN_GENERATIVE, "--threads", "1"}, arguments), std::move(limits));
}

/// Arguments of a short run on a small world.
[[nodiscard]] std::vector<std::string> small_run(const std::filesystem::path& out,
                                                 const std::vector<std::string>& more = {}, int iterations = 3) {
  return joined({"--families",
                 "4",
                 "--annotated",
                 "64",
                 "--train-questions",
                 "64",
                 "--held-out",
                 "16",
                 "--warm-up",
                 "4",
                 "--width",
                 "16",
                 "--layers",
                 "1",
                 "--batch",
                 "8",
                 "--samples",
                 "4",
                 "--patience",
                 "99",
                 "--iterations",
                 std::to_string(iterations),
                 "--out",
                 out.string()},
                more);
}

/// Every file below a folder by its path there; the report without how long runs took.
[[nodiscard]] std::map<std::string, std::string> all_files(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = std::filesystem::relative(entry.path(), folder).string();
    files[name] = read_bytes(entry.path());
    if (name != "report.json") continue;
    json report = json::parse(files[name]);
    for (json& run : report["runs"]) run.erase("seconds");
    files[name] = report.dump();
  }
  return files;
}

/// How many checkpoints the run in a folder has kept so far.
[[nodiscard]] std::uint64_t checkpoints_in(const std::filesystem::path& out) {
  const auto path = out / "checkpoint.dro";
  if (!std::filesystem::exists(path)) return 0;
  const dro::data::checkpoint_reader reader(path);
  return reader.has("checkpoints") ? reader.get<std::uint64_t>("checkpoints").at(0) : 0;
}

[[nodiscard]] std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> list;
  for (std::string word; in >> word;) list.push_back(word);
  return list;
}

}  // namespace

TEST_CASE("a question of the world is answered by its gold documents in their order") {
  const generative::world_options o;
  std::array<int, 6> seconds{};
  constexpr int count = 600;
  for (int i = 0; i < count; ++i) {
    const auto w = generative::make_question(o, 3, world_part::train, i);
    const auto document = [&](dro::document_t j) {
      return words(w.question.documents[static_cast<std::size_t>(j)].text);
    };
    const auto first = document(w.gold[0]);  // "dilo knows juna home tafe"
    const auto second = document(w.gold[1]);
    CHECK(words(w.question.text) == std::vector<std::string>{first[0], "visits"});
    CHECK(second[0] == first[2]);
    CHECK(w.question.answers == std::vector<std::string>{first[4] + " " + second[4]});
    CHECK(w.gold[0] != w.gold[1]);
    CHECK(w.question.supporting.front() == std::min(w.gold[0], w.gold[1]));
    CHECK(w.question.supporting.back() == std::max(w.gold[0], w.gold[1]));
    // No other document is about either person, and the question has no word of the second document.
    for (const auto& d : w.question.documents) {
      const auto text = words(d.text);
      CHECK(text.size() == 5);
      CHECK((text[0] == first[0]) == (text == first));
      CHECK((text[0] == second[0]) == (text == second));
    }
    CHECK(std::find(second.begin(), second.end(), "visits") == second.end());
    ++seconds[static_cast<std::size_t>((w.gold[1] - w.gold[0] + 6) % 6)];
  }
  // Each of the five others is the second document with probability 1/5: 120 ± 5 √(600 · 0.2 · 0.8) = 49.
  CHECK(seconds[0] == 0);
  for (std::size_t k = 1; k < seconds.size(); ++k) CHECK(std::abs(seconds[k] - count / 5) < 49);
  // The same again, and another for another place, part or seed.
  const auto text = [&](std::uint64_t seed, world_part part, int i) {
    const auto w = generative::make_question(o, seed, part, i);
    std::string all = w.question.text;
    for (const auto& d : w.question.documents) all += "\n" + d.text;
    return all;
  };
  CHECK(text(3, world_part::train, 5) == text(3, world_part::train, 5));
  CHECK(text(3, world_part::train, 5) != text(3, world_part::train, 6));
  CHECK(text(3, world_part::train, 5) != text(3, world_part::test, 5));
  CHECK(text(3, world_part::train, 5) != text(4, world_part::train, 5));
}

TEST_CASE("tokens come back as the text") {
  const generative::tokenizer of_words(3, {"juna", "knows", "bado"});
  CHECK(of_words.size() == 4 + 3 + 3);
  CHECK(of_words.decode(of_words.encode("bado knows juna")) == "bado knows juna");
  CHECK(of_words.encode("").empty());
  CHECK_THROWS_WITH_AS((void)of_words.encode("bado fears juna"), "no token for the word \"fears\"", dro::option_error);
  const std::vector<std::string> texts = {"The river Loire.", "the river Rhône, the longest river"};
  const generative::tokenizer of_bytes(3, texts, 290);
  CHECK(of_bytes.size() <= 290);
  CHECK(of_bytes.decode(of_bytes.encode(texts[1])) == " " + texts[1]);
  const auto style = of_bytes.style();
  CHECK(style.identifiers == std::vector<generative::token_t>{4, 5, 6});
  CHECK(of_bytes.decode(style.identifiers).empty());
}

TEST_CASE("scores of single documents: independent of the others, and their gradient") {
  using generative::backend;
  using generative::number;
  backend b(1);
  generative::options o;
  o.world.families = 3;
  o.annotated = o.train_questions = o.held_out = 2;
  o.width = 16;
  o.layers = 1;
  const generative::example_set data = generative::load(o);
  dro::models::transformer<backend, number> model(b, generative::model_config(o, data));
  model.initialise(b, 5, 0.25);
  generative::one_by_one judge;
  const std::vector<dro::index_t> both = {0, 1};
  const generative::batch x(b, data.train, both, data.style);
  const auto scores = judge.scores(b, model, x);
  REQUIRE(scores.rows() == 2);
  REQUIRE(scores.cols() == 3);

  // With the documents of question 0 the other way round and one more question gone, they score what they did.
  std::vector<generative::example> turned = {data.train[0]};
  std::reverse(turned[0].tokens.documents.begin(), turned[0].tokens.documents.end());
  const std::vector<dro::index_t> only = {0};
  const auto again = judge.scores(b, model, generative::batch(b, turned, only, data.style));
  // Products of other shapes may sum in another order: some dozen roundings of numbers near 1.
  for (dro::index_t j = 0; j < 3; ++j) CHECK(again(0, 2 - j) == doctest::Approx(scores(0, j)).epsilon(1e-5));

  // d/dh Σ c s along a direction, by central differences: scores near 1 are rounded by 1e-7 or so a few dozen times,
  // which 2 h = 2e-2 turns into 1e-4; the third derivative is of the size of the first, so h² adds 1e-4 of it.
  generative::one_by_one::matrix c(2, 3);
  c << 0.5F, -1.0F, 0.25F, 1.0F, 0.75F, -0.5F;
  judge.accumulate_gradient(b, model, x, c);
  const auto weighted = [&] { return static_cast<double>(judge.scores(b, model, x).cwiseProduct(c).sum()); };
  constexpr float h = 1e-2F;
  int checked = 0;
  model.for_each_parameter([&](dro::matrix_view<number> value, dro::matrix_view<number> gradient) {
    dro::index_t row = 0, col = 0;  // the element whose gradient is largest
    for (dro::index_t i = 0; i < value.rows; ++i) {
      for (dro::index_t j = 0; j < value.cols; ++j) {
        if (std::abs(gradient(i, j)) > std::abs(gradient(row, col))) std::tie(row, col) = std::pair(i, j);
      }
    }
    const float before = value(row, col);
    value(row, col) = before + h;
    const double above = weighted();
    value(row, col) = before - h;
    const double below = weighted();
    value(row, col) = before;
    CHECK((above - below) / (2 * h) == doctest::Approx(gradient(row, col)).epsilon(1e-2).scale(1e-1));
    ++checked;
  });
  CHECK(checked == 11);  // embedding, nine of the layer, the last norm
}

TEST_CASE("DRO learns the second hop from answers alone") {
  // After warm-up the first hop is known and the second, one of two, is a guess; two seconds later neither is.
  const temporary_folder folder;
  const auto out = folder.path() / "out";
  REQUIRE(train_generative({"--families", "3", "--names", "2", "--homes", "8", "--train-questions", "512", "--held-out",
                            "128", "--annotated", "128", "--iterations", "4", "--out", out.string()})
              .status == 0);
  const json run = report_in(out)["runs"].at(0);
  CHECK(run["warm"]["em"] < 0.6);
  CHECK(run["final"]["em"] > 0.9);
  CHECK(run["final"]["all_gold_at_k"] > 0.9);
  CHECK(run["iterations"].back()["evidence"].get<double>() > run["iterations"].front()["evidence"].get<double>());
}

TEST_CASE("a run that is killed and resumed gives the bits of one that is not") {
  const temporary_folder folder;
  const auto arguments = [&](const std::filesystem::path& out, const std::vector<std::string>& more = {}) {
    return small_run(out, more, 20);
  };
  const auto whole = folder.path() / "whole";
  REQUIRE(train_generative(arguments(whole)).status == 0);
  const auto expected = all_files(whole);
  REQUIRE(expected.count("dro-1/selector/model.safetensors") == 1);
  REQUIRE(expected.count("dro-1/reader/model.safetensors") == 1);
  REQUIRE(expected.count("report.json") == 1);
  // There is a checkpoint after each of 4 passes of warm-up and 20 iterations. Killed in warm-up, at its end, and in an
  // iteration; and once more after it was resumed.
  for (const std::uint64_t kept : {1U, 4U, 8U}) {
    CAPTURE(kept);
    const auto out = folder.path() / ("killed-" + std::to_string(kept));
    const auto kill_after = [&](std::uint64_t checkpoints, const std::vector<std::string>& more) {
      running_program program(joined({DRO_TRAIN_GENERATIVE, "--threads", "1"}, arguments(out, more)));
      REQUIRE(program.wait_until([&] { return checkpoints_in(out) >= checkpoints; }));
      program.send(SIGKILL);
      CHECK(program.wait().signal == SIGKILL);
    };
    kill_after(kept, {});
    kill_after(kept + 2, {"--resume"});
    const outcome o = train_generative(arguments(out, {"--resume"}));
    CAPTURE(o.err);
    REQUIRE(o.status == 0);
    CHECK(o.err.find("nothing to resume") == std::string::npos);
    CHECK(all_files(out) == expected);
  }
}

TEST_CASE("the pieces in which a batch is gone through do not change what is learnt") {
  const temporary_folder folder;
  const auto run = [&](const std::string& name, const std::vector<std::string>& more) {
    const auto out = folder.path() / name;
    REQUIRE(train_generative(small_run(out, joined({"--compare"}, more))).status == 0);
    return report_in(out)["runs"];
  };
  const json whole = run("whole", {});
  const json pieces = run("pieces", {"--piece", "3"});  // 8 = 3 + 3 + 2
  REQUIRE(whole.size() == 7);
  REQUIRE(pieces.size() == 7);
  for (std::size_t k = 0; k < whole.size(); ++k) {
    CAPTURE(whole[k]["method"]);
    CHECK(pieces[k]["final"] == whole[k]["final"]);
    REQUIRE(pieces[k]["iterations"].size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      const json& expected = whole[k]["iterations"][i]["evidence"];
      const json& found = pieces[k]["iterations"][i]["evidence"];
      if (expected.is_null()) {
        CHECK(found.is_null());
        continue;
      }
      // Means of numbers near 10, rounded to 24 bits a few hundred times on the way through 56 steps: 10 · 1e-5. The
      // pieces' sizes in place of the batch's would make steps twice as long.
      CHECK(found.get<double>() == doctest::Approx(expected.get<double>()).epsilon(1e-5));
    }
  }
}

TEST_CASE("annotated questions are taken along by the models that train") {
  const temporary_folder folder;
  const auto models = [&](const std::string& method, const std::string& annotated_batch) {
    const auto out = folder.path() / (method + annotated_batch);
    REQUIRE(train_generative(small_run(out, {"--method", method, "--annotated-batch", annotated_batch}, 1)).status ==
            0);
    auto files = all_files(out);
    // selector and reader
    return std::pair(files.at(method + "-1/selector/model.safetensors"),
                     files.at(method + "-1/reader/model.safetensors"));
  };
  for (const std::string method :
       {"dro", "selector-frozen", "reader-frozen", "rag-sequence", "emdr2", "replug", "retriever-order"}) {
    CAPTURE(method);
    const auto with = models(method, "4");
    const auto without = models(method, "0");
    CHECK((with.first == without.first) == (method == "selector-frozen" || method == "retriever-order"));
    CHECK((with.second == without.second) == (method == "reader-frozen"));
  }
}

TEST_CASE("each method can be stopped with Ctrl-C and goes on") {
  const temporary_folder folder;
  for (const std::string method : {"rag-sequence", "emdr2", "replug", "retriever-order", "reader-frozen"}) {
    CAPTURE(method);
    const auto whole = folder.path() / (method + "-whole");
    REQUIRE(train_generative(small_run(whole, {"--method", method})).status == 0);
    const auto out = folder.path() / method;
    running_program program(joined({DRO_TRAIN_GENERATIVE, "--threads", "1"}, small_run(out, {"--method", method})));
    REQUIRE(program.wait_until([&] { return checkpoints_in(out) >= 5; }));  // warm-up is over
    program.send(SIGINT);
    const outcome stopped = program.wait();
    if (stopped.status != 0) {  // else it was done before the signal came
      CHECK(stopped.status == 130);
      CHECK(stopped.err.ends_with("add --resume to the same command to go on\n"));
      const outcome refused = train_generative(small_run(out, {"--method", method}));
      CHECK(refused.status == 2);
      CHECK(refused.err.find("holds a run that was stopped") != std::string::npos);
      const outcome other = train_generative(small_run(out, {"--method", method, "--resume", "--rate", "0.5"}));
      CHECK(other.status == 2);
      CHECK(other.err.find("was written by a run with other options: rates is") != std::string::npos);
      REQUIRE(train_generative(small_run(out, {"--method", method, "--resume"})).status == 0);
    }
    CHECK(all_files(out) == all_files(whole));
  }
}

TEST_CASE("questions in a file") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  const outcome o = train_generative({"--train",      data.train, "--test",    data.dev,    "--document-tokens", "8",
                                      "--vocabulary", "300",      "--width",   "8",         "--layers",          "1",
                                      "--annotated",  "8",        "--warm-up", "1",         "--iterations",      "1",
                                      "--samples",    "2",        "--out",     out.string()});
  CAPTURE(o.err);
  REQUIRE(o.status == 0);
  CHECK(o.out.find("test questions; K = 2") != std::string::npos);
  const json run = report_in(out)["runs"].at(0);
  CHECK(run["iterations"].size() == 1);
  CHECK(run["iterations"][0]["evidence"].is_number());

  // What the models say cannot be read without the tokens that were made of the texts.
  for (const char* model : {"selector", "reader"}) {
    CAPTURE(model);
    const auto tokens = dro::data::read_tokenizer_json(out / "dro-1" / model / "tokenizer.json");
    CHECK(tokens.size() == 300);
  }
  const std::string report = read_bytes(out / "report.json");
  const outcome again = train_generative({"--train", data.train, "--out", out.string(), "--resume"});
  CHECK(again.status == 2);
  CHECK(again.err == "train_generative: " + out.string() +
                         " holds a run that has finished: name another folder, or leave out --resume to replace it\n");
  CHECK(read_bytes(out / "report.json") == report);
}

TEST_CASE("a run is not resumed on other data, or from what no run has written") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  const std::vector<std::string> arguments = {
      "--train",  data.train, "--test",       data.dev, "--document-tokens", "8",    "--width", "8",
      "--layers", "1",        "--vocabulary", "300",    "--warm-up",         "1000", "--out",   out.string()};
  running_program program(joined({DRO_TRAIN_GENERATIVE, "--threads", "1"}, arguments));
  REQUIRE(program.wait_until([&] { return checkpoints_in(out) >= 1; }));
  program.send(SIGINT);
  REQUIRE(program.wait().status == 130);
  const auto checkpoint = out / "checkpoint.dro";
  const auto refusal = [&] {
    const outcome o = train_generative(joined(arguments, {"--resume"}));
    CHECK(o.status == 2);
    return o.err;
  };
  const auto edited = [&](const std::string& fingerprint, const std::string& finished, const std::string& result,
                          std::vector<std::uint64_t> checkpoints) {
    dro::data::checkpoint_writer writer;
    writer.add("fingerprint", fingerprint);
    writer.add("finished", finished);
    writer.add("result", result);
    writer.add("checkpoints", std::span<const std::uint64_t>(checkpoints));
    writer.write(checkpoint);
    return refusal();
  };
  const dro::data::checkpoint_reader reader(checkpoint);
  const std::string fingerprint(reader.text("fingerprint"));
  const std::string result(reader.text("result"));
  const auto names = [&](const std::string& message, const std::string& what) {
    return message.find("checkpoint.dro: \"" + what + "\" is not what a run keeps there") != std::string::npos;
  };
  CHECK(names(edited("[]", "[]", result, {1}), "fingerprint"));
  for (const char* finished : {"{}", "\"x\"", "[{}]", "[[]]"}) {
    CAPTURE(finished);
    CHECK(names(edited(fingerprint, finished, result, {1}), "finished"));
  }
  CHECK(names(edited(fingerprint, "[" + result + "]", result, {1}), "finished"));  // without what was found in the end
  for (const char* wrong : {"{}", "[]", "3"}) {
    CAPTURE(wrong);
    CHECK(names(edited(fingerprint, "[]", wrong, {1}), "result"));
  }
  json other = json::parse(result);
  other["iterations"] = {json::object()};
  CHECK(names(edited(fingerprint, "[]", other.dump(), {1}), "result"));
  CHECK(names(edited(fingerprint, "[]", result, {}), "checkpoints"));

  REQUIRE(every_nth(data.folder, "train", 5) == data.train);  // other questions under the same name
  CHECK(edited(fingerprint, "[]", result, {1}).find("was written by a run with other options: train is") !=
        std::string::npos);
}

TEST_CASE("questions without annotations are warmed up with what the retriever found") {
  const temporary_folder folder;
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    lines += json{{"id", "q" + std::to_string(i)},
                  {"question", "where is it"},
                  {"answers", {"here"}},
                  {"documents", {{{"title", ""}, {"text", "it is here"}}}}}
                 .dump() +
             "\n";
  }
  const std::string path = folder.write("mine.jsonl", lines);
  const std::vector<std::string> small = {"--train",   path, "--width",      "8", "--layers",     "1",
                                          "--warm-up", "1",  "--iterations", "1", "--vocabulary", "300"};
  const outcome refused = train_generative(small);
  CHECK(refused.status == 2);
  CHECK(refused.err == "train_generative: question \"q0\" has 1 documents, fewer than the 2 to select (--select)\n");
  const outcome o = train_generative(joined(small, {"--select", "1"}));
  CAPTURE(o.err);
  CHECK(o.status == 0);
  CHECK(o.err.find("warm: dev EM") != std::string::npos);
  CHECK(o.err.find("recall") == std::string::npos);

  // They are for warm-up alone: later steps have none to take along.
  const auto models = [&](const std::string& name, const std::string& annotated_batch) {
    const auto out = folder.path() / name;
    const std::vector<std::string> more = {"--select",      "1",     "--annotated-batch",
                                           annotated_batch, "--out", out.string()};
    REQUIRE(train_generative(joined(small, more)).status == 0);
    auto files = all_files(out);
    files.erase("report.json");
    return files;
  };
  CHECK(models("four", "4") == models("none", "0"));
}

TEST_CASE("what is wrong with the options is said before anything is done") {
  const auto refusal = [](const std::vector<std::string>& arguments) {
    const outcome o = train_generative(arguments);
    CHECK(o.status == 2);
    CHECK(o.out.empty());
    return o.err;
  };
  CHECK(refusal({"--method", "best"}).starts_with("train_generative: --method: no method \"best\"; there are dro, "));
  CHECK(refusal({"--families", "9"}) == "train_generative: world: families is 9, expected 3 to 8\n");
  CHECK(refusal({"--width", "10"}) == "train_generative: --width is no multiple of twice the --heads\n");
  CHECK(refusal({"--dev", "x"}) == "train_generative: --dev and --test are given without --train\n");
  CHECK(refusal({"--resume"}) == "train_generative: --resume needs --out, the folder of the run to go on with\n");
  CHECK(refusal({"--select", "7"}) ==
        "train_generative: --families is 6, fewer documents than the 7 to select (--select)\n");
  CHECK(refusal({"--annotated-batch", "-1"}) == "train_generative: --annotated-batch is -1, expected 0 to 1000000\n");
  CHECK(refusal({"--piece", "-1"}) == "train_generative: --piece is -1, expected 0 to 1000000\n");
  CHECK(refusal({"--train", "/nowhere.jsonl"}).find("/nowhere.jsonl") != std::string::npos);
}
