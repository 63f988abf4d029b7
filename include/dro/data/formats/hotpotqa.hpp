// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_FORMATS_HOTPOTQA_HPP
#define DRO_DATA_FORMATS_HOTPOTQA_HPP

/// \file
/// HotpotQA (Yang et al. 2018), distractor and fullwiki, and 2WikiMultihopQA (Ho et al. 2020), which took over its
/// form.

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

/// The sentences of a paragraph in one string. HotpotQA's carry the space in front of them, 2WikiMultihopQA's do not:
/// a space is put between two sentences where neither has one.
[[nodiscard]] inline std::string join_sentences(const json_field& sentences) {
  std::string text;
  for (const json_field& element : sentences.elements()) {
    const std::string& sentence = element.string();
    if (!text.empty() && text.back() != ' ' && !sentence.empty() && sentence.front() != ' ') {
      text += ' ';
    }
    text += sentence;
  }
  return std::string(data::detail::trimmed(text));
}

/// Pairs, written as `[[a, b], ...]` (the data sets' own files) or as `{"<first>": [a, ...], "<second>": [b, ...]}`
/// (what the `datasets` library makes of them).
[[nodiscard]] inline std::vector<std::pair<json_field, json_field>> pairs(const json_field& field, const char* first,
                                                                          const char* second) {
  std::vector<std::pair<json_field, json_field>> all;
  if (field.is_object()) {
    const auto firsts = field[first].elements();
    const auto seconds = field[second].elements(firsts.size());
    for (std::size_t i = 0; i < firsts.size(); ++i) {
      all.emplace_back(firsts[i], seconds[i]);
    }
    return all;
  }
  for (const json_field& element : field.elements()) {
    auto pair = element.elements(2);
    all.emplace_back(std::move(pair[0]), std::move(pair[1]));
  }
  return all;
}

}  // namespace detail

/// `{"_id", "question", "answer", "context": [[title, [sentence, ...]], ...], "supporting_facts": [[title, n], ...]}`
///
/// Gold are all paragraphs whose title is among the supporting facts; a title that no paragraph has counts as missing.
/// Without `supporting_facts` (the fullwiki test set) gold is not annotated.
struct hotpotqa {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) { return record.contains("context"); }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    question_draft draft(record, options);
    draft.set_text(record["question"].string());
    if (const auto answer = record.find("answer"); answer || options.require_answers) {
      draft.add_answer(record["answer"].string());
    }
    std::vector<std::string_view> missing;
    const auto facts = record.find("supporting_facts");
    if (facts) {
      for (const auto& [title, sentence] : detail::pairs(*facts, "title", "sent_id")) {
        missing.push_back(title.string());
      }
      std::sort(missing.begin(), missing.end());
      missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
    }
    const std::vector<std::string_view> gold_titles = missing;
    for (const auto& [title, sentences] : detail::pairs(record["context"], "title", "sentences")) {
      const bool gold = std::binary_search(gold_titles.begin(), gold_titles.end(), title.string());
      missing.erase(std::remove(missing.begin(), missing.end(), title.string()), missing.end());
      draft.add_document(title.string(), detail::join_sentences(sentences), gold, sentences);
    }
    if (facts) {
      draft.set_gold_missing(static_cast<int>(missing.size()));
    }
    out.push_back(std::move(draft).finish());
  }
};

/// HotpotQA's form with the field `evidences`, which is not read.
struct two_wiki_multihopqa : hotpotqa {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) {
    return hotpotqa::recognises(record) && record.contains("evidences");
  }
};

}  // namespace dro::data::formats

#endif
