// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_FORMATS_MUSIQUE_HPP
#define DRO_DATA_FORMATS_MUSIQUE_HPP

/// \file
/// MuSiQue (Trivedi et al. 2022).

#include <vector>

#include <dro/data/json_field.hpp>
#include <dro/data/question.hpp>
#include <dro/data/question_draft.hpp>
#include <dro/data/read_options.hpp>

namespace dro::data::formats {

/// `{"id", "question", "answer", "answer_aliases": [...], "answerable",
///   "paragraphs": [{"title", "paragraph_text", "is_supporting"}, ...]}`
///
/// Gold goes by paragraph, as titles repeat. Records with `"answerable": false` (MuSiQue-Full) are left out: their
/// paragraphs do not hold the answer, and they share their id with the answerable twin.
struct musique {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) { return record.contains("paragraphs"); }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    if (const auto answerable = record.find("answerable"); answerable && !answerable->boolean()) {
      return;
    }
    question_draft draft(record, options);
    draft.set_text(record["question"].string());
    if (const auto answer = record.find("answer"); answer || options.require_answers) {
      draft.add_answer(record["answer"].string());
    }
    if (const auto aliases = record.find("answer_aliases")) {
      draft.add_answers(*aliases);
    }
    for (const json_field& paragraph : record["paragraphs"].elements()) {
      const auto text = paragraph["paragraph_text"];
      const auto supporting = paragraph.find("is_supporting");
      if (supporting) {
        draft.set_gold_missing(0);
      }
      draft.add_document(paragraph["title"].string(), text.string(), supporting && supporting->boolean(), text);
    }
    out.push_back(std::move(draft).finish());
  }
};

}  // namespace dro::data::formats

#endif
