// SPDX-License-Identifier: Apache-2.0
// What a reader says about a file it cannot take. Each test states the whole message.

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/data/read_questions.hpp>
#include <dro/data/write_questions.hpp>
#include <dro/error.hpp>

#include "data_files.hpp"

using dro::data::read_options;
using dro::data::read_questions;

namespace {

const std::string good_line =
    R"({"id": "q1", "question": "Who?", "answers": ["Ada"], "documents": [{"title": "T", "text": "Ada."}]})";

struct outcome {
  std::string message;   ///< after the path
  std::size_t line = 0;  ///< of a data_error
  bool is_data = false;  ///< a data_error, not a mere file_error
};

/// What reading the file throws; an empty message where it throws nothing.
outcome read_failure(const std::string& path, const read_options& options = {}) {
  const auto after_path = [&](const std::string& what) {
    return what.starts_with(path) ? what.substr(path.size()) : "another path: " + what;
  };
  try {
    (void)read_questions(path, options);
  } catch (const dro::data_error& error) {
    CHECK(error.path() == path);
    return {after_path(error.what()), error.line(), true};
  } catch (const dro::file_error& error) {
    CHECK(error.path() == path);
    return {after_path(error.what()), 0, false};
  }
  return {};
}

/// What reading a file of this content throws.
outcome failure_of(const std::string& content, const read_options& options = {}) {
  const temporary_folder folder;
  return read_failure(folder.write("data", content), options);
}

std::string message_of(const std::string& content, const read_options& options = {}) {
  const outcome found = failure_of(content, options);
  CHECK(found.is_data);
  return found.message;
}

}  // namespace

TEST_CASE("missing file") {
  const temporary_folder folder;
  const outcome found = read_failure((folder.path() / "none.jsonl").string());
  CHECK(found.message == ": cannot be opened: No such file or directory");
  CHECK_FALSE(found.is_data);
}

TEST_CASE("a folder") {
  const temporary_folder folder;
  const outcome found = read_failure(folder.path().string());
  CHECK(found.message == ": is a folder, expected a file");
  CHECK_FALSE(found.is_data);
}

TEST_CASE("empty file") {
  CHECK(message_of("") == ":1: the file is empty");
  CHECK(message_of("\xEF\xBB\xBF \r\n\n") == ":3: the file is empty");
  CHECK(message_of(gzipped("")) == ":1: the file is empty");
  CHECK(message_of("[ ]\n") == ":1: the file is empty: an array without records");
}

TEST_CASE("truncated gzip, wherever it is cut") {
  const std::string packed = gzipped(good_line + "\n");
  REQUIRE(failure_of(packed).message.empty());
  for (std::size_t size = 2; size < packed.size(); ++size) {
    CAPTURE(size);
    const outcome found = failure_of(packed.substr(0, size));
    CHECK(found.message == ": gzip data end early: the file is truncated");
    CHECK_FALSE(found.is_data);
  }
}

TEST_CASE("truncated gzip of many records returns none of them") {
  std::string lines;
  for (int i = 0; i < 20000; ++i) {  // 2 MB, many times the size of the buffers
    lines += R"({"id": )" + std::to_string(i) + good_line.substr(good_line.find(", \"question\"")) + "\n";
  }
  const std::string packed = gzipped(lines);
  CHECK(failure_of(packed.substr(0, packed.size() - 1)).message == ": gzip data end early: the file is truncated");
  CHECK(failure_of(packed.substr(0, packed.size() / 2)).message == ": gzip data end early: the file is truncated");
}

TEST_CASE("damaged gzip") {
  std::string packed = gzipped(good_line + "\n");
  packed[packed.size() - 8] = static_cast<char>(packed[packed.size() - 8] ^ 1);  // the checksum
  const outcome found = failure_of(packed);
  CHECK(found.message.starts_with(": gzip data are damaged: "));
  CHECK(found.message.ends_with("incorrect data check"));
  CHECK_FALSE(found.is_data);
}

TEST_CASE("invalid UTF-8") {
  // the record's first 11 bytes are {"id": "q1x
  std::string second = good_line;
  second.replace(second.find("q1"), 2, "q2\xFF");
  CHECK(message_of(good_line + "\n" + second + "\n") ==
        ":2: invalid UTF-8 in record 2: found byte 0xFF (byte 11 of the record)");
  // an overlong encoding, a surrogate and a cut sequence are not UTF-8 either
  for (const std::string bad : {"\xC0\xAF", "\xED\xA0\x80", "\xE2\x82"}) {
    std::string line = good_line;
    line.replace(line.find("Ada."), 4, bad);
    CHECK(message_of(line).starts_with(":1: invalid UTF-8 in record 1: found byte 0x"));
  }
  // UTF-16
  CHECK(message_of(std::string("\xFF\xFE{\0", 4)) ==
        ":1: not JSON: expected '{' or '[' at the beginning, found byte 0xFF");
}

TEST_CASE("malformed JSON names file and line") {
  CHECK(message_of(good_line + "\n{\"id\": nil}\n") ==
        ":2: malformed JSON in record 2: syntax error while parsing value - invalid literal; last read: '\"id\": ni' "
        "(byte 9 of the record)");
  // an object that its line does not close ends there: the next line is not swallowed
  const outcome unclosed = failure_of(good_line + "\n\n{\"id\": 1,\n" + good_line + "\n");
  CHECK(unclosed.line == 3);
  CHECK(unclosed.message.starts_with(":3: malformed JSON in record 2: "));
  CHECK(failure_of(good_line + "\n{\"id\": \"1\n").message.starts_with(":2: malformed JSON in record 2: "));
  CHECK(failure_of(good_line.substr(0, 40)).message.starts_with(":1: malformed JSON in record 1: "));
  // within a record over several lines the line of the mistake is named, not the one where the record begins
  CHECK(failure_of("[\n{\n\"id\": 1,\n\"question\" 2}]").message.starts_with(":4: malformed JSON in record 1: "));
  CHECK(failure_of("{\"a\": 1e999}").message.starts_with(":1: malformed JSON in record 1: number overflow"));
}

TEST_CASE("of what the parser read a message quotes the last 60 characters") {
  const auto message = [](const std::string& value) { return message_of("{\"a\": " + value); };
  const std::string many(2000, 'x');
  // the closing quotation mark is one of the 60
  CHECK(message('"' + many) ==
        ":1: malformed JSON in record 1: syntax error while parsing value - invalid string: missing closing quote; "
        "last read: '..." +
            many.substr(0, 59) + "' (byte 2008 of the record)");
  CHECK(message('"' + many.substr(0, 58)).find("last read: '\"" + many.substr(0, 58) + "' (") != std::string::npos);
  // the mistake stands at the end
  CHECK(message('"' + many + "\\q\"").find(many.substr(0, 57) + "\\q' (") != std::string::npos);
  CHECK(message(std::string(2000, '9') + "}").find("overflow parsing '..." + std::string(59, '9') + "' (") !=
        std::string::npos);
  // a character of two bytes is quoted whole or not at all, whichever of the two the cut falls on
  std::string umlauts = "\"";
  for (int i = 0; i < 100; ++i) umlauts += "\xC3\xBC";
  for (const std::string last : {"", "x"}) {
    CHECK(message(umlauts + last).find("last read: '...\xC3\xBC") != std::string::npos);
  }
}

TEST_CASE("malformed JSON between records") {
  CHECK(message_of("id,question\n") == ":1: not JSON: expected '{' or '[' at the beginning, found 'i'");
  CHECK(message_of("[" + good_line) == ":1: malformed JSON: the file ends inside its array, after record 1");
  CHECK(message_of("[" + good_line + ",\n") == ":2: malformed JSON: the file ends inside its array, after record 1");
  CHECK(message_of("[") == ":1: malformed JSON: the file ends inside its array, after record 0");
  CHECK(message_of("[" + good_line + "\n;]") == ":2: malformed JSON: expected ',' or ']' after record 1, found ';'");
  CHECK(message_of("[" + good_line + ",]") == ":1: malformed JSON: expected '{' where record 2 begins, found ']'");
  CHECK(message_of("[7]") == ":1: malformed JSON: expected '{' where record 1 begins, found '7'");
  CHECK(message_of("[" + good_line + "]\nx") == ":2: malformed JSON: 'x' after the end of the array");
  CHECK(message_of(good_line + "\nnull\n") == ":2: malformed JSON: expected '{' where record 2 begins, found 'n'");
}

TEST_CASE("unknown format lists what is understood") {
  CHECK(message_of("\n{\"query\": 1, \"text\": 2}") ==
        ":2: unknown format: the first record has the fields [query, text]; understood are, each by its fields: "
        "uniform (documents); MuSiQue (paragraphs); 2WikiMultihopQA (context and evidences); HotpotQA (context); "
        "DPR retrieval (ctxs); DPR training (positive_ctxs); DRO repository (positive and retrieval); "
        "DRO generator training (prompt and response); Wizard of Wikipedia (dialog); "
        "Wizard of Wikipedia (few-shot) (dialogue and meta)");
}

TEST_CASE("missing field names record and field") {
  CHECK(message_of(good_line + "\n" + R"({"id": "q2", "answers": ["a"], "documents": []})") ==
        R"(:2: record 2 (id "q2"), field "question": is missing)");
  CHECK(
      message_of(R"({"id": 7, "question": "Who?", "answers": ["a"], "documents": [{"text": "a"}, {"title": "T"}]})") ==
      R"(:1: record 1 (id "7"), field "documents[1].text": is missing)");
  CHECK(message_of(R"({"question": "Who?", "answers": null, "documents": []})") ==
        R"(:1: record 1, field "answers": is missing)");
}

TEST_CASE("wrong type shows the value found") {
  CHECK(message_of(R"({"id": "q", "question": 7, "answers": ["a"], "documents": []})") ==
        R"(:1: record 1 (id "q"), field "question": expected a string, found 7)");
  CHECK(message_of(R"({"id": "q", "question": "Who?", "answers": [["a"]], "documents": []})") ==
        R"(:1: record 1 (id "q"), field "answers[0]": expected a string, found ["a"])");
  CHECK(message_of(R"({"id": "q", "question": "Who?", "answers": ["a"], "documents": {"a": 1}})") ==
        R"(:1: record 1 (id "q"), field "documents": expected a list, found {"a":1})");
  CHECK(message_of(R"({"id": "q", "question": "Who?", "answers": ["a"], "documents": ["a"]})") ==
        R"(:1: record 1 (id "q"), field "documents[0]": expected an object, found "a")");
  CHECK(message_of(R"({"_id": "q", "question": "Who?", "answer": "a", "context": [["T", ["a"]], ["T"]]})") ==
        R"(:1: record 1 (id "q"), field "context[1]": expected a list of 2, found ["T"])");
  CHECK(message_of(R"({"id": "q", "question": "Who?", "answer": "a", "answerable": 1, "paragraphs": []})") ==
        R"(:1: record 1 (id "q"), field "answerable": expected true or false, found 1)");
  // a long value is cut after 60 characters
  // Written out it would be as deep a recursion as the list: this one overflowed the stack.
  CHECK(message_of(R"({"id": "q", "documents": [{"text": "a"}], "question": )" + std::string(100000, '[') +
                   std::string(100000, ']') + "}") ==
        R"(:1: record 1 (id "q"), field "question": expected a string, found a deeply nested list)");
  CHECK(message_of(R"({"id": "q", "question": [")" + std::string(100, 'x') + R"("], "documents": []})") ==
        R"(:1: record 1 (id "q"), field "question": expected a string, found [")" + std::string(58, 'x') + "...");
}

TEST_CASE("no documents") {
  CHECK(message_of(R"({"id": "q", "question": "Who?", "answers": ["a"], "documents": []})") ==
        R"(:1: record 1 (id "q"): no documents)");
}

TEST_CASE("no answers") {
  const std::string none = R"({"id": "q", "question": "Who?", "answers": [], "documents": [{"text": "a"}]})";
  CHECK(message_of(none) == R"(:1: record 1 (id "q"): no answers)");
  CHECK(failure_of(none, {.require_answers = false}).message.empty());
  CHECK(message_of(R"({"id": "q", "question": "Who?", "answers": [" "], "documents": [{"text": "a"}]})") ==
        R"(:1: record 1 (id "q"): no answers)");
  // the test sets of HotpotQA come without the field
  const std::string test_set = R"([{"_id": "q", "question": "Who?", "context": [["T", ["a"]]]}])";
  CHECK(message_of(test_set) == R"(:1: record 1 (id "q"), field "answer": is missing)");
  CHECK(failure_of(test_set, {.require_answers = false}).message.empty());
}

TEST_CASE("empty question") {
  CHECK(message_of(R"({"id": "q", "question": " ", "answers": ["a"], "documents": [{"text": "a"}]})") ==
        R"(:1: record 1 (id "q"): the question is empty)");
}

TEST_CASE("empty document") {
  CHECK(message_of(
            R"({"id": "q", "question": "Who?", "answers": ["a"], "documents": [{"text": "a"}, {"text": " \n"}]})") ==
        R"(:1: record 1 (id "q"), field "documents[1].text": the text of the document is empty)");
  CHECK(message_of(R"([{"_id": "q", "question": "Who?", "answer": "a", "context": [["T", []]]}])") ==
        R"(:1: record 1 (id "q"), field "context[0][1]": the text of the document is empty)");
}

TEST_CASE("duplicate ids") {
  CHECK(message_of(good_line + "\n\n" + good_line + "\n") ==
        R"(:3: record 2 (id "q1"): duplicate id "q1", first used in line 1)");
}

TEST_CASE("supporting document out of range") {
  const auto with = [](const std::string& supporting) {
    return R"({"id": "q", "question": "Who?", "answers": ["a"], "documents": [{"text": "a"}, {"text": "b"}], "supporting": )" +
           supporting + "}";
  };
  CHECK(message_of(with("[0, 2]")) ==
        R"(:1: record 1 (id "q"), field "supporting[1]": expected a number from 0 to 1, found 2)");
  CHECK(message_of(with("[-1]")) ==
        R"(:1: record 1 (id "q"), field "supporting[0]": expected a number from 0 to 1, found -1)");
  CHECK(message_of(with("[0.0]")) ==
        R"(:1: record 1 (id "q"), field "supporting[0]": expected a number from 0 to 1, found 0.0)");
}

TEST_CASE("a bad record anywhere leaves nothing") {
  std::vector<dro::data::question> questions = {dro::data::question{}};
  const temporary_folder folder;
  const std::string path = folder.write("data.jsonl", good_line + "\n{}\n");
  CHECK_THROWS_AS(questions = read_questions(path), dro::data_error);
  CHECK(questions.size() == 1);
}

TEST_CASE("a file whose records are all left out") {
  CHECK(message_of(R"({"id": "q", "question": "Who?", "answerable": false, "paragraphs": []})") ==
        ": no record of the file gives a question");
}

TEST_CASE("a prompt that does not list passages") {
  CHECK(message_of(R"({"query_id": "4", "prompt": "Question: Who?", "response": "a"})") ==
        R"(:1: record 1 (id "4"), field "prompt": expected passages as "[1] Title: ...", then "Question:" and )"
        R"("Your answer:", each on its line)");
}

TEST_CASE("what cannot be written") {
  const temporary_folder folder;
  const std::string path = folder.write("kept", "before");
  dro::data::question q{"q", "Who?", {"a"}, {{"T", "\xFF"}}, {}, {}};
  CHECK_THROWS_WITH_AS(dro::data::write_questions(path, std::vector{q}),
                       "question \"q\" cannot be written: a text is not valid UTF-8", dro::option_error);
  CHECK(read_bytes(path) == "before");
  q.documents[0].text = "a";
  const std::string under_a_file = path + "/out";
  CHECK_THROWS_WITH_AS(dro::data::write_questions(under_a_file, std::vector{q}),
                       (under_a_file + ": cannot be written: Not a directory").c_str(), dro::file_error);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}
