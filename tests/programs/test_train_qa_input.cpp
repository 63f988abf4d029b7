// SPDX-License-Identifier: Apache-2.0
// What train_qa says about options and files it cannot take: the message, exit status 2, and nothing overwritten.

#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/version.hpp>

#include "train_qa.hpp"

namespace {

/// What train_qa prints on its standard error for arguments that it must refuse before it trains.
std::string refusal(const std::vector<std::string>& arguments) {
  const outcome o = train_qa(arguments);
  CAPTURE(o.err);
  CHECK(o.status == 2);
  CHECK(o.out.empty());
  return o.err;
}

std::string record(
    const std::string& id, const std::string& answers = R"(["Ada"])",
    const std::string& documents = R"([{"title": "T", "text": "Ada."}, {"title": "U", "text": "Bo."}])") {
  return R"({"id": ")" + id + R"(", "question": "Who?", "answers": )" + answers + R"(, "documents": )" + documents +
         "}\n";
}

/// The refusal of a training file of this content, after "train_qa: <path>".
std::string file_refusal(const std::string& content) {
  const temporary_folder folder;
  const std::string path = folder.write("questions", content);
  const std::string kept = folder.write("report.json", "kept");
  const std::string message = refusal({"--train", path, "--out", folder.path().string()});
  CHECK(names_in(folder.path()) == std::vector<std::string>{"questions", "report.json"});
  CHECK(read_bytes(kept) == "kept");
  const std::string beginning = "train_qa: " + path;
  CHECK(message.starts_with(beginning));
  return message.substr(beginning.size());
}

}  // namespace

TEST_CASE("options out of range") {
  CHECK(refusal({"--samples", "0"}) == "train_qa: --samples is 0, expected at least 1\n");
  CHECK(refusal({"--select", "0"}) == "train_qa: --select is 0, expected at least 1\n");
  CHECK(refusal({"--iterations", "-1"}) == "train_qa: --iterations is -1, expected at least 0\n");
  CHECK(refusal({"--seeds", "0"}) == "train_qa: --seeds is 0, expected at least 1\n");
  CHECK(refusal({"--threads", "-1"}) == "train_qa: --threads is -1, expected at least 0\n");
  CHECK(refusal({"--seed", "-1"}).starts_with("--seed: is -1, expected at least 0\n"));
  CHECK(refusal({"--seed", "18446744073709551616"})
            .starts_with("--seed: is 18446744073709551616, expected at most 18446744073709551615\n"));
  CHECK(refusal({"--samples", "1000000000000"}) == "train_qa: --samples is 1000000000000, expected at most 4096\n");
  CHECK(refusal({"--seeds", "1000000000"}) == "train_qa: --seeds is 1000000000, expected at most 10000\n");
  CHECK(refusal({"--threads", "2147483647"}) == "train_qa: --threads is 2147483647, expected at most 4096\n");
}

TEST_CASE("departures of the published code are of one method, and have names") {
  const std::string belongs = "train_qa: --departure needs --method dro-plain, without --compare\n";
  CHECK(refusal({"--departure", "one-sample"}) == belongs);
  CHECK(refusal({"--departure", "one-sample", "--method", "dro-plain", "--compare"}) == belongs);
  const std::string unknown = refusal({"--method", "dro-plain", "--departure", "none"});
  CHECK(unknown.starts_with("train_qa: "));
  for (const char* name : {"none", "mean-token-weights", "one-sample", "duplicates-dropped", "unparsed-dropped",
                           "uncorrected-sampling", "divided-by-four"}) {
    CAPTURE(name);
    CHECK(unknown.find(name) != std::string::npos);
  }
}

TEST_CASE("a method that needs gold documents where there are none") {
  const temporary_folder folder;
  const std::string path = folder.write("questions", record("1") + record("2") + record("3"));
  CHECK(refusal({"--train", path, "--method", "gold-supervised", "--select", "1"}) ==
        "train_qa: --method gold-supervised: no question of " + path + " has gold documents (supporting)\n");
}

TEST_CASE("an unknown method lists those there are") {
  CHECK(refusal({"--method", "reinforce"}) ==
        "train_qa: --method: no method \"reinforce\"; there are retriever-order, rag-sequence, emdr2, replug, "
        "stochastic-rag, emdr2-linked, read-all, leave-one-out, gold-supervised, dro-plain, dro, published-code\n");
}

TEST_CASE("options that do not go together") {
  const std::string one_sample = "train_qa: --samples is 1, but leave-one-out needs at least 2\n";
  CHECK(refusal({"--samples", "1", "--method", "leave-one-out"}) == one_sample);
  CHECK(refusal({"--samples", "1", "--compare"}) == one_sample);
  CHECK(refusal({"--dev", "dev.jsonl"}) == "train_qa: --dev is given without --train\n");
  CHECK(refusal({"--resume"}) == "train_qa: --resume needs --out, the folder of the run to go on with\n");
}

TEST_CASE("what is no option or no number") {
  CHECK(refusal({"--samples", "many"}).starts_with("Could not convert: --samples = many\n"));
  CHECK(refusal({"--samples", "2.5"}).starts_with("Could not convert: --samples = 2.5\n"));
  CHECK(refusal({"--iterations", "3x"}).starts_with("Could not convert: --iterations = 3x\n"));
  CHECK(refusal({"--threads", "99999999999"}).starts_with("Could not convert: --threads = 99999999999\n"));
  CHECK(refusal({"--learn"}).starts_with("The following argument was not expected: --learn\n"));
  CHECK(refusal({"train.jsonl"}).starts_with("The following argument was not expected: train.jsonl\n"));
  CHECK(refusal({"--train"}).starts_with("--train: 1 required"));
}

TEST_CASE("help and version are no mistakes") {
  const outcome help = train_qa({"--help"});
  CHECK(help.status == 0);
  for (const char* option : {"--train", "--dev", "--method", "--samples", "--select", "--iterations", "--seed",
                             "--threads", "--out", "--resume", "--compare"}) {
    CHECK_MESSAGE(help.out.find(option) != std::string::npos, option);
  }
  const outcome version = train_qa({"--version"});
  CHECK(version.status == 0);
  CHECK(version.out == std::string("train_qa ") + dro::version_string + "\n");
}

TEST_CASE("more documents to select than a question has") {
  const temporary_folder folder;
  const std::string train = folder.write("train.jsonl", record("q1") + record("q2", R"(["a"])", R"([{"text": "a"}])"));
  const std::string two = "train_qa: question \"q2\" has 1 documents, fewer than the 2 to select (--select)\n";
  CHECK(refusal({"--train", train, "--dev", train, "--select", "2"}) == two);
  const std::string good = folder.write("good.jsonl", record("q1"));
  CHECK(refusal({"--train", good, "--dev", train, "--select", "2"}) == two);
}

TEST_CASE("files that are not there") {
  const temporary_folder folder;
  const std::string none = (folder.path() / "none").string();
  CHECK(refusal({"--train", none}) == "train_qa: " + none + ": cannot be opened: No such file or directory\n");
  const std::string train = folder.write("train.jsonl", record("q1"));
  CHECK(refusal({"--train", train, "--dev", none}) ==
        "train_qa: " + none + ": cannot be opened: No such file or directory\n");
  const std::string itself = folder.path().string();
  CHECK(refusal({"--train", itself}) == "train_qa: " + itself + ": is a folder, expected a file\n");
}

TEST_CASE("files that cannot be taken") {
  CHECK(file_refusal("") == ":1: the file is empty\n");
  const std::string packed = gzipped(record("q1") + record("q2"));
  CHECK(file_refusal(packed.substr(0, packed.size() / 2)) == ": gzip data end early: the file is truncated\n");
  CHECK(file_refusal(record("q1") + record("q2\xFF")) ==
        ":2: invalid UTF-8 in record 2: found byte 0xFF (byte 11 of the record)\n");
  CHECK(file_refusal(record("q1") + "{\"id\": nil}\n")
            .starts_with(":2: malformed JSON in record 2: syntax error while parsing value"));
  CHECK(file_refusal(record("q1") + R"({"id": "q2", "answers": ["a"], "documents": [{"text": "a"}]})") ==
        ":2: record 2 (id \"q2\"), field \"question\": is missing\n");
  CHECK(file_refusal(record("q1", R"(["Ada"])", "[]")) == ":1: record 1 (id \"q1\"): no documents\n");
  CHECK(file_refusal(record("q1", "[]")) == ":1: record 1 (id \"q1\"): no answers\n");
  CHECK(file_refusal(record("q1") + record("q1")) ==
        ":2: record 2 (id \"q1\"): duplicate id \"q1\", first used in line 1\n");
  CHECK(file_refusal(record("q1")) == ": has one question: none can be held out for --dev\n");
}

TEST_CASE("an output folder that cannot be") {
  const temporary_folder folder;
  const std::string file = folder.write("file", "kept");
  CHECK(refusal({"--out", file}).starts_with("train_qa: " + file + ": "));
  CHECK(refusal({"--out", file}).ends_with("Not a directory\n"));
  CHECK(refusal({"--out", file + "/results"}) == "train_qa: " + file + "/results: cannot be made: Not a directory\n");
  CHECK(read_bytes(file) == "kept");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"file"});
}

TEST_CASE("an output folder that takes no files") {
  // /proc refuses new files to everybody, root included
  CHECK(refusal({"--out", "/proc/results"}) == "train_qa: /proc/results: cannot be made: No such file or directory\n");
  CHECK(refusal({"--out", "/proc"}).starts_with("train_qa: /proc/.writable: cannot be written: "));
}
