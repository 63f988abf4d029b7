// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_QUESTION_DRAFT_HPP
#define DRO_DATA_QUESTION_DRAFT_HPP

/// \file
/// A question as the reader of a format puts it together, with the checks that all formats share.

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <dro/config.hpp>
#include <dro/data/json_field.hpp>
#include <dro/data/question.hpp>
#include <dro/data/read_options.hpp>

namespace dro::data {

namespace detail {

inline constexpr std::string_view json_space = " \t\r\n";

/// Without white space (ASCII) at the ends.
[[nodiscard]] inline std::string_view trimmed(std::string_view text) noexcept {
  text.remove_prefix(std::min(text.find_first_not_of(json_space), text.size()));
  return text.substr(0, text.find_last_not_of(json_space) + 1);
}

[[nodiscard]] inline bool is_blank(std::string_view text) noexcept { return trimmed(text).empty(); }

}  // namespace detail

/// Builds one question of a record. `finish` refuses a question that is blank, has no answers or no documents.
class question_draft {
 public:
  /// The id is the record's own, or its number in the file where it has none.
  question_draft(const json_field& record, const read_options& options) : record_(record), options_(options) {
    question_.id = record.place().id.empty() ? std::to_string(record.place().number) : record.place().id;
  }

  void set_id(std::string id) { question_.id = std::move(id); }
  void set_text(std::string text) { question_.text = std::move(text); }

  /// Adds an accepted answer. A blank one is passed over: nothing but a blank prediction would match it.
  void add_answer(const std::string& answer) {
    if (!detail::is_blank(answer)) {
      question_.answers.push_back(answer);
    }
  }

  /// Adds a string, or each string of a list.
  void add_answers(const json_field& field) {
    if (!field.is_array()) {
      add_answer(field.string());
      return;
    }
    for (const json_field& answer : field.elements()) {
      add_answer(answer.string());
    }
  }

  /// Adds a candidate.
  /// \param field where its text comes from, for the message.
  /// \throws data_error where the text is blank and such documents are not to be dropped.
  void add_document(std::string title, std::string text, bool gold, const json_field& field) {
    if (detail::is_blank(text)) {
      if (!options_.drop_empty_documents) {
        field.fail("the text of the document is empty");
      }
      dropped_gold_ += gold ? 1 : 0;
      return;
    }
    if (gold) {
      question_.supporting.push_back(static_cast<document_t>(question_.documents.size()));
    }
    question_.documents.push_back({std::move(title), std::move(text)});
  }

  /// Says that the source names its gold documents, and how many of them are not among the candidates. Without this
  /// call `gold_missing` stays nullopt.
  void set_gold_missing(int count) { question_.gold_missing = count; }

  /// \throws data_error where something that every question needs is missing.
  [[nodiscard]] question finish() && {
    if (detail::is_blank(question_.text)) {
      record_.fail("the question is empty");
    }
    if (question_.answers.empty() && options_.require_answers) {
      record_.fail("no answers");
    }
    if (question_.documents.empty()) {
      record_.fail("no documents");
    }
    if (question_.gold_missing.has_value()) {
      *question_.gold_missing += dropped_gold_;
    }
    return std::move(question_);
  }

 private:
  json_field record_;
  read_options options_;
  question question_;
  int dropped_gold_ = 0;
};

}  // namespace dro::data

#endif
