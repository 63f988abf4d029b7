// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_FORMATS_DRO_REPOSITORY_HPP
#define DRO_DATA_FORMATS_DRO_REPOSITORY_HPP

/// \file
/// The form of the data in the repository published with the DRO paper (Shi et al. 2025).

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dro/data/json_field.hpp>
#include <dro/data/question.hpp>
#include <dro/data/question_draft.hpp>
#include <dro/data/read_options.hpp>

namespace dro::data::formats {

namespace detail {

/// Without the quotation marks around it, and with doubled ones in it undone (titles come from a CSV file).
[[nodiscard]] inline std::string unquoted(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') {
    return std::string(text);
  }
  text = text.substr(1, text.size() - 2);
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    result += text[i];
    i += text.substr(i, 2) == "\"\"" ? 1U : 0U;
  }
  return result;
}

/// Takes a passage written as `Title: T. Content: C` or `Title: "T" Text: C` apart at the first such mark; without a
/// title all of it is text.
[[nodiscard]] inline document split_passage(std::string_view passage) {
  constexpr std::string_view head = "Title:";
  passage = data::detail::trimmed(passage);
  std::size_t title_end = std::string_view::npos;
  std::size_t text_begin = 0;
  for (const std::string_view mark : {". Content:", "Content:", " Text:"}) {
    const std::size_t at = passage.find(mark);
    if (at < title_end) {
      title_end = at;
      text_begin = at + mark.size();
    }
  }
  if (passage.substr(0, head.size()) != head || title_end == std::string_view::npos) {
    return {{}, std::string(passage)};
  }
  const std::string_view title = data::detail::trimmed(passage.substr(head.size(), title_end - head.size()));
  return {unquoted(title), std::string(data::detail::trimmed(passage.substr(text_begin)))};
}

}  // namespace detail

/// `{"question", "answer", "positive": [passage, ...], "retrieval": [passage, ...], "query_id"}` with each passage one
/// string that begins with its title.
///
/// Candidates are the positive passages, which are gold, then the retrieved ones, as that code concatenates them; the
/// same passage is taken once, where it first stands. A question without positive passages counts as not annotated.
struct dro_repository {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) {
    return record.contains("positive") && record.contains("retrieval");
  }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    question_draft draft(record, options);
    draft.set_text(record["question"].string());
    if (const auto answer = record.find("answer"); answer || options.require_answers) {
      draft.add_answers(record["answer"]);
    }
    std::vector<document> seen;
    for (const char* const key : {"positive", "retrieval"}) {
      const bool gold = key == std::string_view("positive");
      for (const json_field& passage : record[key].elements()) {
        document split = detail::split_passage(passage.string());
        if (gold) {
          draft.set_gold_missing(0);
        }
        if (std::find(seen.begin(), seen.end(), split) == seen.end()) {
          seen.push_back(split);
          draft.add_document(std::move(split.title), std::move(split.text), gold, passage);
        }
      }
    }
    out.push_back(std::move(draft).finish());
  }
};

/// That repository's training examples of the generator: `{"prompt", "response", "query_id", "sample_id"}`, the prompt
/// listing the passages as `[1] Title: T Text: C`, one a line, and ending in `Question: ...` and `Your answer:`.
///
/// Candidates are the passages in the order of the prompt; gold is not annotated. Examples of one query are told apart
/// as `<query_id>-<sample_id>`.
struct dro_generator_training {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) {
    return record.contains("prompt") && record.contains("response");
  }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    constexpr std::string_view question_mark = "\nQuestion:";
    constexpr std::string_view answer_mark = "\nYour answer:";
    const json_field prompt = record["prompt"];
    const std::string_view text = prompt.string();
    const std::size_t answer_at = text.rfind(answer_mark);
    const std::size_t question_at = text.rfind(question_mark, answer_at);
    std::size_t passage_at = text.find("\n[1] ");
    if (answer_at == std::string_view::npos || question_at == std::string_view::npos || passage_at > question_at) {
      prompt.fail("expected passages as \"[1] Title: ...\", then \"Question:\" and \"Your answer:\", each on its line");
    }
    question_draft draft(record, options);
    if (const auto sample = record.find("sample_id")) {
      draft.set_id(record.place().id + "-" + std::to_string(sample->index(max_samples)));
    }
    const std::size_t question_begin = question_at + question_mark.size();
    draft.set_text(std::string(data::detail::trimmed(text.substr(question_begin, answer_at - question_begin))));
    draft.add_answers(record["response"]);
    for (int number = 2; passage_at < question_at; ++number) {
      passage_at = text.find("] ", passage_at) + 2;
      const std::size_t end = std::min(text.find("\n[" + std::to_string(number) + "] ", passage_at), question_at);
      document passage = detail::split_passage(text.substr(passage_at, end - passage_at));
      draft.add_document(std::move(passage.title), std::move(passage.text), false, prompt);
      passage_at = end;
    }
    out.push_back(std::move(draft).finish());
  }

 private:
  static constexpr std::size_t max_samples = 1'000'000;
};

}  // namespace dro::data::formats

#endif
