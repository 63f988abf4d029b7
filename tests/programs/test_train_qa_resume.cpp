// SPDX-License-Identifier: Apache-2.0
// Runs that are stopped, by the user or by kill -9, and resumed; runs that find no space; checkpoints of other runs.

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <dro/config.hpp>
#include <dro/data/checkpoint_file.hpp>

#include "train_qa.hpp"

namespace {

using json = nlohmann::json;
using dro::data::checkpoint_reader;
using std::chrono::steady_clock;

const std::vector<std::string> output_names = {"model.dro", "report.html", "report.json"};

/// Checks that two output folders hold the same results.
void check_same_results(const std::filesystem::path& a, const std::filesystem::path& b) {
  CHECK(report_without_timing(a) == report_without_timing(b));
  CHECK(read_bytes(a / "model.dro") == read_bytes(b / "model.dro"));
  CHECK(names_in(a) == names_in(b));
}

using position = std::vector<dro::index_t>;  ///< completed iterations, and batches of the current one

/// Where the run stands that was stopped in a folder.
position position_in(const std::filesystem::path& out) {
  return checkpoint_reader(out / "checkpoint.dro").get<dro::index_t>("position");
}

/// True once train_qa has read its questions and begins to prepare them.
bool has_started(const running_program& program) {
  return program.errors_so_far().find(" threads (") != std::string::npos;
}

/// Starts a run and stops it by `signal` as soon as it has kept a checkpoint. Returns how it ended.
outcome stop_after_first_checkpoint(const std::vector<std::string>& arguments, const std::filesystem::path& out,
                                    int signal) {
  running_program program(joined({DRO_TRAIN_QA}, arguments));
  REQUIRE(program.wait_until([&] { return std::filesystem::exists(out / "checkpoint.dro"); }));
  program.send(signal);
  return program.wait();
}

}  // namespace

TEST_CASE("kill -9 at ten moments, resumed each time") {
  const small_data data;
  const std::vector<std::string> options = {"--iterations", "8"};
  const auto whole = data.folder.path() / "whole";
  const auto start = steady_clock::now();
  REQUIRE(train_qa(data.arguments(whole, options)).status == 0);
  const std::chrono::duration<double> length = steady_clock::now() - start;
  REQUIRE(names_in(whole) == output_names);

  // Parts of the run's length, from the sequence of multiples of the golden ratio modulo 1, and two very early ones. A
  // resumed run is killed again half way on, every third time.
  constexpr std::array moments = {0.0, 0.004, 0.618, 0.236, 0.854, 0.472, 0.708, 0.944, 0.562, 0.798};
  int with_checkpoint = 0;
  for (std::size_t i = 0; i < moments.size(); ++i) {
    CAPTURE(moments[i]);
    const auto out = data.folder.path() / ("killed-" + std::to_string(i));
    const auto checkpoint = out / "checkpoint.dro";
    const auto kill_after = [&](double part, const std::vector<std::string>& arguments) {
      running_program program(joined({DRO_TRAIN_QA}, arguments));
      std::this_thread::sleep_for(length * part);
      program.send(SIGKILL);
      const outcome killed = program.wait();
      CHECK((killed.signal == SIGKILL || killed.status == 0));  // a faster run than the one measured may be done
      if (std::filesystem::exists(checkpoint)) {
        ++with_checkpoint;
        CHECK_NOTHROW((void)checkpoint_reader(checkpoint));
      }
    };
    kill_after(moments[i], data.arguments(out, options));
    const auto resumed = joined(data.arguments(out, options), {"--resume"});
    const auto finished = [&] {
      return std::filesystem::exists(out / "report.json") && !std::filesystem::exists(checkpoint);
    };
    if (i % 3 == 2 && !finished()) kill_after(0.5, resumed);
    const bool has_finished = finished();
    const outcome o = train_qa(resumed);
    CAPTURE(o.err);
    REQUIRE(o.status == (has_finished ? 2 : 0));
    if (has_finished) CHECK(o.err.find("holds a run that has finished") != std::string::npos);
    check_same_results(out, whole);
  }
  CHECK(with_checkpoint > 0);
}

TEST_CASE("kill -9 in the middle of an iteration") {
  // A checkpoint is kept after every 32 steps: more than 32 batches of 16 questions, with little in them to prepare.
  const temporary_folder folder;
  std::vector<dro::data::question> questions;
  for (const char* part : {"train", "dev"}) {
    for (auto& q : dro::data::read_questions(std::string(DRO_SOURCE_DIR "/examples/data/") + part + ".jsonl.gz")) {
      q.documents.resize(2);
      std::erase_if(q.supporting, [](dro::document_t j) { return j >= 2; });
      questions.push_back(std::move(q));
    }
  }
  REQUIRE(questions.size() > 32 * 16);
  const std::string train = (folder.path() / "train.jsonl").string();
  dro::data::write_questions(train, questions);
  questions.resize(10);
  const std::string dev = (folder.path() / "dev.jsonl").string();
  dro::data::write_questions(dev, questions);
  const auto arguments = [&](const std::filesystem::path& out) {
    return std::vector<std::string>{"--train", train, "--dev", dev, "--select", "1", "--out", out, "--iterations", "2"};
  };
  const auto whole = folder.path() / "whole";
  REQUIRE(train_qa(arguments(whole)).status == 0);

  const auto out = folder.path() / "out";
  const auto killed_within_first_iteration = [&] {
    std::filesystem::remove_all(out);
    const outcome o = stop_after_first_checkpoint(arguments(out), out, SIGKILL);
    return o.signal == SIGKILL && position_in(out) == position{0, 32};
  };
  // The kill comes a few steps too late if the machine is busy elsewhere just then.
  bool killed = false;
  for (int attempt = 0; attempt < 10 && !killed; ++attempt) killed = killed_within_first_iteration();
  REQUIRE(killed);
  REQUIRE(train_qa(joined(arguments(out), {"--resume"})).status == 0);
  check_same_results(out, whole);
}

TEST_CASE("Ctrl-C finishes the step, saves, and says how to go on") {
  const small_data data;
  const auto whole = data.folder.path() / "whole";
  const std::vector<std::string> options = {"--iterations", "3"};
  REQUIRE(train_qa(data.arguments(whole, options)).status == 0);

  const auto out = data.folder.path() / "out";
  const std::string checkpoint = (out / "checkpoint.dro").string();
  // The signal comes while the questions are prepared: the run stops after the next step.
  const auto stop_early = [&](const std::vector<std::string>& arguments) {
    running_program program(joined({DRO_TRAIN_QA}, arguments));
    REQUIRE(program.wait_until([&] { return has_started(program); }));
    program.send(SIGINT);
    const outcome o = program.wait();
    CHECK(o.status == 130);
    CHECK(o.out.empty());
    CHECK(o.err.ends_with("\ninterrupted; everything done so far is in " + checkpoint +
                          "\nadd --resume to the same command to go on\n"));
    CHECK(names_in(out) == std::vector<std::string>{"checkpoint.dro"});
  };
  stop_early(data.arguments(out, options));
  CHECK(position_in(out) == position{0, 1});

  const auto before = files_in(out);
  const outcome anew = train_qa(data.arguments(out, options));
  CHECK(anew.status == 2);
  CHECK(anew.err ==
        "train_qa: " + out.string() + " holds a run that was stopped: go on with --resume, or name another folder\n");
  CHECK(files_in(out) == before);

  stop_early(joined(data.arguments(out, options), {"--resume"}));
  CHECK(position_in(out) == position{0, 2});
  REQUIRE(train_qa(joined(data.arguments(out, options), {"--resume"})).status == 0);
  check_same_results(out, whole);
}

TEST_CASE("Ctrl-C without --out says that nothing is kept") {
  const small_data data;
  running_program program({DRO_TRAIN_QA, "--train", data.train, "--dev", data.dev});
  REQUIRE(program.wait_until([&] { return has_started(program); }));
  program.send(SIGINT);
  const outcome o = program.wait();
  CHECK(o.status == 130);
  CHECK(o.err.ends_with("\ninterrupted; without --out nothing is kept\n"));
}

TEST_CASE("a second Ctrl-C ends the program at once") {
  running_program program({DRO_TRAIN_QA});
  REQUIRE(program.wait_until([&] { return has_started(program); }));  // preparing all questions takes far over 20 ms
  program.send(SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  program.send(SIGINT);
  CHECK(program.wait().signal == SIGINT);
}

TEST_CASE("a comparison stopped among its methods goes on with the next") {
  const small_data data;
  const std::vector<std::string> options = {"--iterations", "1", "--samples", "2", "--compare"};
  const auto whole = data.folder.path() / "whole";
  REQUIRE(train_qa(data.arguments(whole, options)).status == 0);

  const auto out = data.folder.path() / "out";
  {
    running_program program(joined({DRO_TRAIN_QA}, data.arguments(out, options)));
    const auto finished = [&] {
      const auto checkpoint = out / "checkpoint.dro";
      return std::filesystem::exists(checkpoint) ? json::parse(checkpoint_reader(checkpoint).text("finished")).size()
                                                 : 0;
    };
    REQUIRE(program.wait_until([&] { return finished() >= 3; }));
    program.send(SIGKILL);
    CHECK(program.wait().signal == SIGKILL);
    CHECK(finished() < 12);
  }
  const outcome o = train_qa(joined(data.arguments(out, options), {"--resume"}));
  REQUIRE(o.status == 0);
  CHECK(o.err.find("dro (1 of 12)") == std::string::npos);  // what was done is not done again
  CHECK(o.err.find("(12 of 12)") != std::string::npos);
  check_same_results(out, whole);
}

TEST_CASE("nothing to resume is a run from the beginning") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  const outcome o = train_qa(data.arguments(out, {"--iterations", "0", "--resume"}));
  CHECK(o.status == 0);
  CHECK(o.err.starts_with("nothing to resume in " + out.string() + ": starting\n"));
  CHECK(names_in(out) == output_names);
}

TEST_CASE("a checkpoint that does not fit the command") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  const std::vector<std::string> options = {"--iterations", "50"};
  (void)stop_after_first_checkpoint(data.arguments(out, options), out, SIGKILL);
  const auto before = files_in(out);
  const std::string checkpoint = (out / "checkpoint.dro").string();
  // Says what the resumed run refuses, after the path, and sees that all files are as they were.
  const auto refusal = [&](const std::vector<std::string>& arguments) {
    const auto files = files_in(out);
    const outcome o = train_qa(joined(arguments, {"--resume"}));
    CHECK(o.status == 2);
    CHECK(o.out.empty());
    CHECK(files_in(out) == files);
    const std::string beginning = "train_qa: " + checkpoint + ": ";
    CHECK(o.err.starts_with(beginning));
    return o.err.substr(beginning.size());
  };
  const auto other = [](const std::string& what) { return "was written by a run with other options: " + what + "\n"; };

  SUBCASE("other options") {
    CHECK(refusal(data.arguments(out, {"--iterations", "51"})) == other("iterations is 51, it was 50"));
    CHECK(refusal(data.arguments(out, joined(options, {"--seed", "2"}))) == other("seed is 2, it was 1"));
    CHECK(refusal(data.arguments(out, joined(options, {"--seeds", "2"}))) == other("seeds is 2, it was 1"));
    CHECK(refusal(data.arguments(out, joined(options, {"--samples", "9"}))) == other("samples is 9, it was 8"));
    CHECK(refusal(data.arguments(out, joined(options, {"--select", "2"}))) == other("select is 2, it was 3"));
    CHECK(refusal(data.arguments(out, joined(options, {"--method", "emdr2"}))) ==
          other("method is \"emdr2\", it was \"dro\""));
    CHECK(refusal(data.arguments(out, joined(options, {"--compare"}))) == other("compare is true, it was false"));
  }
  SUBCASE("other questions under the same name") {
    auto questions = dro::data::read_questions(data.train);
    questions[0].text += "?";
    dro::data::write_questions(data.train, questions);
    CHECK(refusal(data.arguments(out, options)).starts_with("was written by a run with other options: train is "));
  }
  SUBCASE("damaged, cut, or no checkpoint at all") {
    const std::string damaged = "is not a whole checkpoint (damaged, or not one of dro's)\n";
    std::string bytes = before.at("checkpoint.dro");
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    for (const std::string& content : {bytes, bytes.substr(0, bytes.size() / 3), std::string(), std::string("{}\n")}) {
      std::filesystem::remove(checkpoint);
      std::ofstream(checkpoint, std::ios::binary) << content;
      CHECK(refusal(data.arguments(out, options)) == damaged);
    }
  }
  SUBCASE("a model instead of a checkpoint") {
    dro::data::checkpoint_writer writer;
    writer.add("method", "dro");
    writer.write(checkpoint);
    CHECK(refusal(data.arguments(out, options)) == "has no \"fingerprint\"\n");
  }
}

TEST_CASE("no space left") {
  const small_data data;
  const auto out = data.folder.path() / "out";
  const auto fails_on = [&](const outcome& o, const char* name) {
    CAPTURE(o.err);
    CHECK(o.status == 2);
    CHECK(o.signal == 0);
    CHECK(o.out.empty());
    CHECK(o.err.ends_with("train_qa: " + (out / name).string() + ": cannot be written: File too large\n"));
  };
  const std::vector<std::string> options = {"--iterations", "30"};

  SUBCASE("from the beginning: the results of an earlier run stay") {
    REQUIRE(train_qa(data.arguments(out, {"--iterations", "1"})).status == 0);
    const auto before = files_in(out);
    fails_on(train_qa(data.arguments(out, options), {.file_size = 1000}), "checkpoint.dro");
    CHECK(files_in(out) == before);
  }
  SUBCASE("in the middle of training: the model of an earlier run, of other questions, still answers the same") {
    REQUIRE(train_qa({"--train", data.dev, "--iterations", "1", "--out", out.string()}).status == 0);
    const auto before = files_in(out);
    const auto answers = [&] { return answer({"--model", out.string(), "--questions", data.dev}).out; };
    const std::string answers_before = answers();
    CHECK_FALSE(answers_before.empty());
    CHECK(stop_after_first_checkpoint(data.arguments(out, options), out, SIGINT).status == 130);
    CHECK(answers() == answers_before);
    auto after = files_in(out);
    after.erase("checkpoint.dro");
    CHECK(after == before);
  }
  SUBCASE("in the middle of training: the last checkpoint stays, and the run can go on") {
    // A checkpoint grows by an iteration's scores. One that was kept at some iteration is the size that a second run
    // can write up to there and not beyond.
    (void)stop_after_first_checkpoint(data.arguments(out, options), out, SIGKILL);
    const auto size = std::filesystem::file_size(out / "checkpoint.dro");
    std::filesystem::remove_all(out);
    fails_on(train_qa(data.arguments(out, options), {.file_size = size}), "checkpoint.dro");
    CHECK(names_in(out) == std::vector<std::string>{"checkpoint.dro"});
    CHECK(std::filesystem::file_size(out / "checkpoint.dro") <= size);
    CHECK_NOTHROW((void)checkpoint_reader(out / "checkpoint.dro"));

    REQUIRE(train_qa(joined(data.arguments(out, options), {"--resume"})).status == 0);
    const auto whole = data.folder.path() / "whole";
    REQUIRE(train_qa(data.arguments(whole, options)).status == 0);
    check_same_results(out, whole);
  }
}

TEST_CASE("a table that cannot be printed") {
  const small_data data;
  const outcome o =
      train_qa({"--train", data.train, "--dev", data.dev, "--iterations", "0"}, {.standard_output = "/dev/full"});
  CHECK(o.status == 2);
  CHECK(o.err.ends_with("train_qa: standard output: cannot be written: No space left on device\n"));
}
