// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_FORMATS_UNIFORM_HPP
#define DRO_DATA_FORMATS_UNIFORM_HPP

/// \file
/// The project's own form of a question, one JSON object each.

#include <cstddef>
#include <limits>
#include <vector>

#include <dro/data/json_field.hpp>
#include <dro/data/question.hpp>
#include <dro/data/question_draft.hpp>
#include <dro/data/read_options.hpp>

namespace dro::data::formats {

/// `{"id", "question", "answers": [...], "documents": [{"title", "text"}, ...], "supporting": [...], "gold_missing"}`
///
/// `id`, `title`, `supporting` and `gold_missing` may be absent; `supporting` are positions in `documents`, from 0.
struct uniform {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) { return record.contains("documents"); }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    question_draft draft(record, options);
    draft.set_text(record["question"].string());
    if (const auto answers = record.find("answers"); answers || options.require_answers) {
      draft.add_answers(record["answers"]);
    }
    const auto documents = record["documents"].elements();
    std::vector<bool> gold(documents.size(), false);
    if (const auto supporting = record.find("supporting")) {
      for (const json_field& position : supporting->elements()) {
        gold[position.index(documents.size())] = true;
      }
    }
    if (const auto missing = record.find("gold_missing")) {
      draft.set_gold_missing(static_cast<int>(missing->index(std::size_t{1'000'000})));
    }
    for (std::size_t i = 0; i < documents.size(); ++i) {
      const auto title = documents[i].find("title");
      const auto text = documents[i]["text"];
      draft.add_document(title ? title->string() : std::string{}, text.string(), gold[i], text);
    }
    out.push_back(std::move(draft).finish());
  }
};

}  // namespace dro::data::formats

#endif
