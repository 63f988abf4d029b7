// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_FORMATS_DPR_HPP
#define DRO_DATA_FORMATS_DPR_HPP

/// \file
/// The forms in which dense passage retrieval (Karpukhin et al. 2020) and readers built on it, such as
/// fusion-in-decoder (Izacard and Grave 2021), exchange questions with passages.

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <dro/data/json_field.hpp>
#include <dro/data/question.hpp>
#include <dro/data/question_draft.hpp>
#include <dro/data/read_options.hpp>

namespace dro::data::formats {

/// Retrieved passages: `{"question", "answers": [...], "ctxs": [{"title", "text", "has_answer"}, ...]}`
///
/// Gold is what `isgold` or `is_gold` marks where a passage has that field; one counts as missing if it marks none.
/// Else it is distant supervision: the passages with `has_answer` (or `hasanswer`) true, `gold_missing` then being
/// unknown. Order: that of the retrieval, best first.
struct dpr_retrieval {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) { return record.contains("ctxs"); }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    question_draft draft(record, options);
    draft.set_text(record["question"].string());
    add_answers(record, options, draft);
    const auto passages = record["ctxs"].elements();
    const bool annotated = std::any_of(passages.begin(), passages.end(), [](const json_field& passage) {
      return mark(passage, "isgold", "is_gold").has_value();
    });
    bool any_gold = false;
    for (const json_field& passage : passages) {
      const auto flag = annotated ? mark(passage, "isgold", "is_gold") : mark(passage, "has_answer", "hasanswer");
      const bool gold = flag && flag->boolean();
      any_gold = any_gold || gold;
      add_passage(passage, gold, draft);
    }
    if (annotated) {
      draft.set_gold_missing(any_gold ? 0 : 1);
    }
    out.push_back(std::move(draft).finish());
  }

  /// `answers`, or `answer` where only that is there; a string or a list.
  static void add_answers(const json_field& record, const read_options& options, question_draft& draft) {
    if (const auto single = record.find("answer"); single && !record.find("answers")) {
      draft.add_answers(*single);
    } else if (record.find("answers") || options.require_answers) {
      draft.add_answers(record["answers"]);
    }
  }

  /// A passage; its title may be absent.
  static void add_passage(const json_field& passage, bool gold, question_draft& draft) {
    const auto title = passage.find("title");
    const auto text = passage["text"];
    draft.add_document(title ? title->string() : std::string{}, text.string(), gold, text);
  }

 private:
  [[nodiscard]] static std::optional<json_field> mark(const json_field& passage, const char* key, const char* variant) {
    auto found = passage.find(key);
    return found ? found : passage.find(variant);
  }
};

/// Training data of the retriever: `{"question", "answers": [...], "positive_ctxs": [{"title", "text"}, ...],
/// "hard_negative_ctxs": [...], "negative_ctxs": [...]}`
///
/// Candidates are the positive passages, which are gold, then the hard negatives, then the negatives: the order gives
/// gold away, so shuffle where a model could see it. A question without positive passages counts as not annotated.
struct dpr_training {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) { return record.contains("positive_ctxs"); }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    question_draft draft(record, options);
    draft.set_text(record["question"].string());
    dpr_retrieval::add_answers(record, options, draft);
    for (const json_field& passage : record["positive_ctxs"].elements()) {
      draft.set_gold_missing(0);
      dpr_retrieval::add_passage(passage, true, draft);
    }
    for (const char* const key : {"hard_negative_ctxs", "negative_ctxs"}) {
      if (const auto passages = record.find(key)) {
        for (const json_field& passage : passages->elements()) {
          dpr_retrieval::add_passage(passage, false, draft);
        }
      }
    }
    out.push_back(std::move(draft).finish());
  }
};

}  // namespace dro::data::formats

#endif
