// SPDX-License-Identifier: Apache-2.0
// Readers of question files: one hand-written fixture for each format and container, and the real files where present.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/data/read_questions.hpp>
#include <dro/data/write_questions.hpp>

#include "data_files.hpp"

using dro::data::document;
using dro::data::question;
using dro::data::question_format;
using dro::data::read_options;
using dro::data::read_questions;

namespace {

/// The questions of a file of this content, once its format is as expected.
std::vector<question> read_as(question_format format, const std::string& content, const read_options& options = {}) {
  const temporary_folder folder;
  const std::string path = folder.write("some.bin", content);
  CHECK(dro::data::detect_question_format(path) == format);
  return read_questions(path, options);
}

std::string line(int id) {
  return R"({"id": "q)" + std::to_string(id) + R"(", "question": "Who {[\"\\?", "answers": ["Ada", "A. L."],)" +
         R"( "documents": [{"title": "T", "text": "x}]"}, {"title": "", "text": "Ada \u00e9 é"}], "supporting": [1],)" +
         R"( "gold_missing": 1, "source": "here"})";
}

question expected(int id) {
  return {"q" + std::to_string(id), "Who {[\"\\?", {"Ada", "A. L."}, {{"T", "x}]"}, {"", "Ada é é"}}, {1}, 1};
}

}  // namespace

TEST_CASE("uniform lines") {
  const auto questions = read_as(question_format::uniform, line(1) + "\n" + line(2) + "\n");
  CHECK(questions == std::vector{expected(1), expected(2)});
}

TEST_CASE("every container gives the same questions") {
  const std::vector both = {expected(1), expected(2)};
  std::string spread = line(1);  // the first record over several lines
  for (std::size_t at = 0; (at = spread.find(", \"", at)) != std::string::npos; at += 3) {
    spread.replace(at, 2, ",\r\n  ");
  }
  const std::vector<std::string> contents = {
      line(1) + "\n" + line(2),                          // no line feed at the end
      "\n\n" + line(1) + "\r\n\r\n" + line(2) + "\r\n",  // CRLF and blank lines
      "\xEF\xBB\xBF" + line(1) + "\n" + line(2),         // byte order mark
      "[" + line(1) + "," + line(2) + "]",
      "\xEF\xBB\xBF\n [\n" + line(1) + "\n,\n" + line(2) + "\n]\n\n",
      line(1) + " " + line(2),
      spread + "\n" + spread.substr(0, 9) + "2" + spread.substr(10),
      "[" + spread + ",\r\n" + line(2) + "]",
  };
  for (const std::string& content : contents) {
    CAPTURE(content);
    CHECK(read_as(question_format::uniform, content) == both);
    CHECK(read_as(question_format::uniform, gzipped(content)) == both);
  }
  CHECK(read_as(question_format::uniform, line(1)) == std::vector{expected(1)});
  // members of a gzip file are read one after the other
  CHECK(read_as(question_format::uniform, gzipped(line(1) + "\n") + gzipped(line(2))) == both);
}

TEST_CASE("records that straddle the buffer") {
  std::string content;
  std::vector<question> all;
  for (int i = 0; i < 3000; ++i) {  // 0.7 MB, several times the buffer of 128 KiB
    content += line(i) + "\n";
    all.push_back(expected(i));
  }
  CHECK(read_as(question_format::uniform, content) == all);
  // one document longer than the buffer
  question longer = expected(0);
  longer.documents[0].text = std::string(300'000, '\\') + "\"";
  const temporary_folder folder;
  const auto path = folder.path() / "long";
  dro::data::write_questions(path, std::vector{longer, expected(1)});
  CHECK(read_questions(path) == std::vector{longer, expected(1)});
}

TEST_CASE("what may be absent from a uniform record") {
  const auto questions =
      read_as(question_format::uniform, "\n" + std::string(R"({"question": "Who?", "answers": ["a"],)") +
                                            R"( "documents": [{"text": "b"}], "gold_missing": null})");
  CHECK(questions == std::vector{question{"1", "Who?", {"a"}, {{"", "b"}}, {}, std::nullopt}});
}

TEST_CASE("limit stops early") {
  const std::string content = line(1) + "\n" + line(2) + "\nnot JSON";
  CHECK(read_as(question_format::uniform, content, {.limit = 2}).size() == 2);
  CHECK(read_as(question_format::uniform, content, {.limit = 0}).empty());
}

TEST_CASE("blank documents can be dropped; positions and missing gold follow") {
  const std::string content =
      R"({"id": 1, "question": "Who?", "answers": ["a"], "supporting": [0, 2], "gold_missing": 1,)"
      R"( "documents": [{"text": " "}, {"text": "b"}, {"text": "c"}]})";
  const auto questions = read_as(question_format::uniform, content, {.drop_empty_documents = true});
  CHECK(questions == std::vector{question{"1", "Who?", {"a"}, {{"", "b"}, {"", "c"}}, {1}, 2}});
}

TEST_CASE("written questions are read back unchanged") {
  const temporary_folder folder;
  const auto path = folder.path() / "out.jsonl";
  std::vector<question> questions = {expected(1), expected(2)};
  questions[1].gold_missing.reset();
  questions[1].supporting.clear();
  questions[1].text = "two\nlines \u2013 and \t a tab";
  dro::data::write_questions(path, questions);
  CHECK(read_questions(path) == questions);
  dro::data::write_questions(path, std::vector{expected(3)});  // replaces
  CHECK(read_questions(path) == std::vector{expected(3)});
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("HotpotQA") {
  const auto questions = read_as(question_format::hotpotqa, R"([{"_id": "5a7", "answer": "yes", "type": "bridge",
    "level": "hard", "question": "Is it?", "supporting_facts": [["B", 0], ["B", 1], ["Gone", 0], ["Gone", 1], ["A", 3]],
    "context": [["A", ["One.", " Two."]], ["C", ["Three."]], ["B", ["Four. ", "Five. "]]]},
    {"_id": "5a8", "answer": "no", "question": "Is it not?", "supporting_facts": [["A", 0]],
    "context": [["A", ["One."]], ["A", ["Other."]]]}])");
  REQUIRE(questions.size() == 2);
  CHECK(questions[0] ==
        question{"5a7", "Is it?", {"yes"}, {{"A", "One. Two."}, {"C", "Three."}, {"B", "Four. Five."}}, {0, 2}, 1});
  CHECK(questions[1].supporting == std::vector<dro::document_t>{0, 1});  // all paragraphs of the title
  CHECK(questions[1].gold_missing == 0);
}

TEST_CASE("HotpotQA as the datasets library writes it") {
  const auto questions = read_as(question_format::hotpotqa, R"({"id": "5a7", "answer": "yes", "question": "Is it?",
    "supporting_facts": {"title": ["B", "Gone"], "sent_id": [0, 1]},
    "context": {"title": ["A", "B"], "sentences": [["One.", " Two."], ["Four."]]}})");
  CHECK(questions == std::vector{question{"5a7", "Is it?", {"yes"}, {{"A", "One. Two."}, {"B", "Four."}}, {1}, 1}});
}

TEST_CASE("HotpotQA test set") {
  const auto questions =
      read_as(question_format::hotpotqa, R"([{"_id": "5a7", "question": "Is it?", "context": [["A", ["One."]]]}])",
              {.require_answers = false});
  CHECK(questions == std::vector{question{"5a7", "Is it?", {}, {{"A", "One."}}, {}, std::nullopt}});
}

TEST_CASE("2WikiMultihopQA puts the spaces between sentences") {
  const auto questions = read_as(question_format::two_wiki_multihopqa, R"([{"_id": "13f", "type": "compositional",
    "question": "Who?", "context": [["A", ["One.", "Two."]], ["B", ["Three."]]], "supporting_facts": [["B", 0]],
    "evidences": [["A", "is", "B"]], "answer": "Three"}])");
  CHECK(questions == std::vector{question{"13f", "Who?", {"Three"}, {{"A", "One. Two."}, {"B", "Three."}}, {1}, 0}});
}

TEST_CASE("MuSiQue") {
  const std::string twin = R"({"id": "2hop__1_2", "question": "When?", "answer": "1990", "answer_aliases": ["'90"],
    "paragraphs": [{"idx": 0, "title": "A", "paragraph_text": "One.", "is_supporting": false},
                   {"idx": 1, "title": "A", "paragraph_text": "Two.", "is_supporting": true}], "answerable": )";
  const auto questions = read_as(question_format::musique, twin + "true}\n" + twin + "false}\n");
  CHECK(questions ==
        std::vector{question{"2hop__1_2", "When?", {"1990", "'90"}, {{"A", "One."}, {"A", "Two."}}, {1}, 0}});
  const auto test_set = read_as(question_format::musique, R"({"id": "3hop1__1_2_3", "question": "When?",
    "paragraphs": [{"idx": 0, "title": "A", "paragraph_text": "One."}]})",
                                {.require_answers = false});
  CHECK(test_set == std::vector{question{"3hop1__1_2_3", "When?", {}, {{"A", "One."}}, {}, std::nullopt}});
}

TEST_CASE("DPR retrieval") {
  const auto distant = read_as(question_format::dpr_retrieval, R"([{"question": "who", "answers": ["Ada"], "ctxs": [
    {"id": "wiki:1", "title": "A", "text": "b", "score": "82.1", "has_answer": false},
    {"id": "wiki:2", "title": "B", "text": "Ada", "score": 81, "has_answer": true}]}])");
  CHECK(distant == std::vector{question{"1", "who", {"Ada"}, {{"A", "b"}, {"B", "Ada"}}, {1}, std::nullopt}});
  const auto annotated = read_as(
      question_format::dpr_retrieval,
      R"({"question": "who", "answers": ["Ada"], "ctxs": [{"title": "A", "text": "Ada", "hasanswer": true, "isgold": false},)"
      R"( {"title": "B", "text": "Ada", "hasanswer": true, "isgold": true}]})"
      "\n"
      R"({"question": "who", "answers": ["Ada"], "ctxs": [{"text": "Ada", "hasanswer": true, "isgold": false}]})");
  REQUIRE(annotated.size() == 2);
  CHECK(annotated[0].supporting == std::vector<dro::document_t>{1});
  CHECK(annotated[0].gold_missing == 0);
  CHECK(annotated[1] == question{"2", "who", {"Ada"}, {{"", "Ada"}}, {}, 1});
}

TEST_CASE("DPR training") {
  const auto questions = read_as(question_format::dpr_training, R"([{"dataset": "nq", "question": "who",
    "answers": ["Ada"], "positive_ctxs": [{"title": "P", "text": "p", "score": 1000, "passage_id": "7"}],
    "negative_ctxs": [{"title": "N", "text": "n"}], "hard_negative_ctxs": [{"title": "H", "text": "h"}]},
    {"question": "who else", "answers": ["Bob"], "positive_ctxs": [], "negative_ctxs": [{"title": "N", "text": "n"}]}])");
  REQUIRE(questions.size() == 2);
  CHECK(questions[0] == question{"1", "who", {"Ada"}, {{"P", "p"}, {"H", "h"}, {"N", "n"}}, {0}, 0});
  CHECK(questions[1] == question{"2", "who else", {"Bob"}, {{"N", "n"}}, {}, std::nullopt});
}

TEST_CASE("the DRO repository's questions") {
  const auto questions = read_as(question_format::dro_repository, R"([{"question": "where", "answer": "here",
    "query_id": "query_1", "positive": ["Title: Lakes. Content: Lakes are here. Content: x", "Title: Lakes. Content: Lakes are here. Content: x"],
    "retrieval": ["Title: \"Great \"\"Lakes\"\"\" Text:  Water. Content: none", "no title", "Title: B Content: b"]}])");
  CHECK(questions == std::vector{question{"query_1",
                                          "where",
                                          {"here"},
                                          {{"Lakes", "Lakes are here. Content: x"},
                                           {"Great \"Lakes\"", "Water. Content: none"},
                                           {"", "no title"},
                                           {"B", "b"}},
                                          {0},
                                          0}});
}

TEST_CASE("the DRO repository's training examples of the generator") {
  const auto questions = read_as(question_format::dro_generator_training, R"([{"prompt":
    "Answer: \"who is [2] \".\nThe passages:\n[1] Title: \"A b\" Text:  One [2] two.\nQuestion: none\n[2] Title: C Text:  Three\nQuestion: who is [2] \nYour answer: ",
    "response": "C", "sample_id": 3, "query_id": "17", "probs": 1.0}])");
  CHECK(questions ==
        std::vector{question{
            "17-3", "who is [2]", {"C"}, {{"A b", "One [2] two.\nQuestion: none"}, {"C", "Three"}}, {}, std::nullopt}});
}

TEST_CASE("Wizard of Wikipedia") {
  const auto questions = read_as(question_format::wizard_of_wikipedia, R"([{"chosen_topic": "Blue",
    "chosen_topic_passage": ["Blue is a colour.", "It is cold."], "wizard_eval": 5, "dialog": [
    {"speaker": "0_Wizard", "text": "I like blue. ", "checked_sentence": {"chosen_topic_0": "Blue is a colour."},
     "checked_passage": {"chosen_topic": "Blue"}, "retrieved_passages": [{"Sky": ["The sky is blue."]}]},
    {"speaker": "1_Apprentice", "text": "Why\nthat?", "retrieved_passages": [{"Why": ["Because."]}, {"Blue": ["Other."]}]},
    {"speaker": "0_Wizard", "text": "The sky has it.", "checked_sentence": {"self_Sky_0": "The sky is blue."},
     "retrieved_passages": []},
    {"speaker": "1_Apprentice", "text": "Nice", "retrieved_passages": []},
    {"speaker": "0_Wizard", "text": "Yes.", "checked_sentence": {"no_passages_used": "no_passages_used"},
     "retrieved_passages": []},
    {"speaker": "1_Apprentice", "text": "Bye", "retrieved_passages": []},
    {"speaker": "0_Wizard", "text": "Bye!", "checked_sentence": {"self_X_0": "Never shown."}, "retrieved_passages": []}
    ]}])");
  REQUIRE(questions.size() == 4);
  const std::vector<document> topic = {{"Blue", "Blue is a colour."}, {"Blue", "It is cold."}};
  CHECK(questions[0] == question{"1-1", "Blue", {"I like blue."}, topic, {0}, 0});
  CHECK(questions[1] == question{"1-3",
                                 "I like blue.\nWhy that?",
                                 {"The sky has it."},
                                 {topic[0], topic[1], {"Why", "Because."}, {"Sky", "The sky is blue."}},
                                 {3},
                                 0});
  CHECK(questions[2] ==
        question{"1-5", "I like blue.\nWhy that?\nThe sky has it.\nNice", {"Yes."}, topic, {}, std::nullopt});
  CHECK(questions[3].gold_missing == 1);
  CHECK(questions[3].supporting.empty());
}

TEST_CASE("Wizard of Wikipedia, few-shot form") {
  const auto questions = read_as(question_format::wizard_few_shot, R"([
    {"meta": [[]], "dialogue": [["Hm", "Hm."]]},
    {"meta": [["S one."], [], ["S two.", "S one."]], "dialogue": [["Hi ", " Hello"], ["How?", "So."], ["And?", "End."]]}])");
  REQUIRE(questions.size() == 3);
  const std::vector<document> sentences = {{"", "S one."}, {"", "S two."}};
  CHECK(questions[0] == question{"2-1", "Hi", {"Hello"}, sentences, {0}, 0});
  CHECK(questions[1] == question{"2-2", "Hi\nHello\nHow?", {"So."}, sentences, {}, std::nullopt});
  CHECK(questions[2] == question{"2-3", "Hi\nHello\nHow?\nSo.\nAnd?", {"End."}, sentences, {0, 1}, 0});
}

TEST_CASE("a dialogue can be cut by the limit") {
  CHECK(read_as(question_format::wizard_few_shot, R"({"meta": [["S."], ["S."]], "dialogue": [["a", "b"], ["c", "d"]]})",
                {.limit = 1})
            .size() == 1);
}

TEST_CASE("every format has a name of its own") {
  std::vector<std::string_view> names;
  for (const auto& entry : dro::data::detail::question_formats) {
    CHECK(dro::data::name(entry.format) == entry.name);
    names.push_back(entry.name);
  }
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
}

TEST_CASE("real files, where they are at hand") {
  // numbers of questions and of gold documents among the candidates, as the collection states them
  struct set {
    const char* name;
    std::size_t train, dev;
    std::size_t most_documents;
    bool all_gold;
  };
  const std::vector<set> sets = {{"hotpotqa", 1092, 358, 10, true},   {"2wiki", 665, 204, 10, true},
                                 {"musique", 332, 118, 20, true},     {"hotpotqa-fullwiki", 561, 195, 10, false},
                                 {"nq-dro", 585, 191, 5, false},      {"nq-pool", 1600, 547, 20, false},
                                 {"2wiki-pool", 649, 201, 20, false}, {"wow-pool", 1509, 527, 20, true}};
  const char* const given = std::getenv("DRO_TEST_DATA");
  const std::filesystem::path folder =
      given != nullptr ? std::filesystem::path(given) : std::filesystem::path(DRO_SOURCE_DIR) / "../shared/data";
  if (!std::filesystem::exists(folder / "hotpotqa-train.jsonl.gz")) {
    MESSAGE("skipped: no data in " << folder.string() << " (set DRO_TEST_DATA to a folder that has them)");
    return;
  }
  for (const set& s : sets) {
    for (const bool train : {true, false}) {
      const auto questions = read_questions(folder / (std::string(s.name) + (train ? "-train" : "-dev") + ".jsonl.gz"));
      CAPTURE(s.name);
      CHECK(questions.size() == (train ? s.train : s.dev));
      std::size_t most = 0;
      for (const question& q : questions) {
        most = std::max(most, q.documents.size());
        CHECK((!s.all_gold || (q.gold_missing == 0 && !q.supporting.empty())));
      }
      CHECK(most == s.most_documents);
    }
  }
}
