// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_FORMATS_WIZARD_OF_WIKIPEDIA_HPP
#define DRO_DATA_FORMATS_WIZARD_OF_WIKIPEDIA_HPP

/// \file
/// Wizard of Wikipedia (Dinan et al. 2019): dialogues between an apprentice and a wizard who looks things up. Each turn
/// of the wizard is a question: the dialogue so far, to be answered by what the wizard said.

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

/// The dialogue so far, one utterance a line.
class dialogue_history {
 public:
  void add(std::string_view utterance) {
    lines_ += lines_.empty() ? "" : "\n";
    lines_ += one_line(utterance);
  }

  [[nodiscard]] const std::string& lines() const noexcept { return lines_; }

  /// An utterance without white space at its ends, line breaks in it replaced by spaces.
  [[nodiscard]] static std::string one_line(std::string_view utterance) {
    std::string line(data::detail::trimmed(utterance));
    std::replace_if(
        line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    return line;
  }

 private:
  std::string lines_;
};

/// `7-2` for the second turn of the seventh dialogue, or `<id>-2` where the dialogue has an id.
[[nodiscard]] inline std::string turn_id(const json_field& record, std::size_t turn) {
  const record_place& place = record.place();
  return (place.id.empty() ? std::to_string(place.number) : place.id) + "-" + std::to_string(turn);
}

}  // namespace detail

/// The data set's own files (ParlAI): `{"chosen_topic", "chosen_topic_passage": [sentence, ...], "dialog":
/// [{"speaker", "text", "retrieved_passages": [{title: [sentence, ...]}, ...], "checked_sentence": {key: sentence}},
/// ...]}`
///
/// Candidates of a turn are the sentences that the wizard was shown: the passage on the chosen topic, those retrieved
/// for the apprentice's last utterance, and those for the wizard's last one; of two passages of one title the first.
/// Gold is the sentence that the wizard checked (the first of its kind). Turns for which the wizard used none count as
/// not annotated. Where the wizard opens the dialogue the question is the chosen topic.
struct wizard_of_wikipedia {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) { return record.contains("dialog"); }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    const auto turns = record["dialog"].elements();
    detail::dialogue_history history;
    for (std::size_t t = 0; t < turns.size(); ++t) {
      const std::string& utterance = turns[t]["text"].string();
      if (turns[t]["speaker"].string().find("Wizard") != std::string::npos) {
        question_draft draft(record, options);
        draft.set_id(detail::turn_id(record, t + 1));
        draft.set_text(history.lines().empty() ? record["chosen_topic"].string() : history.lines());
        draft.add_answer(detail::dialogue_history::one_line(utterance));
        add_candidates(record, turns, t, draft);
        out.push_back(std::move(draft).finish());
      }
      history.add(utterance);
    }
  }

 private:
  static void add_candidates(const json_field& record, const std::vector<json_field>& turns, std::size_t turn,
                             question_draft& draft) {
    std::vector<std::pair<std::string, json_field>> passages;
    passages.emplace_back(record["chosen_topic"].string(), record["chosen_topic_passage"]);
    for (const std::size_t back : {std::size_t{1}, std::size_t{2}}) {
      if (turn < back) {
        break;
      }
      for (const json_field& retrieved : turns[turn - back]["retrieved_passages"].elements()) {
        for (auto& passage : retrieved.members()) {
          const auto has_its_title = [&](const auto& earlier) { return earlier.first == passage.first; };
          if (std::none_of(passages.begin(), passages.end(), has_its_title)) {
            passages.push_back(std::move(passage));
          }
        }
      }
    }
    const std::string checked = checked_sentence(turns[turn]);
    bool found = false;
    for (const auto& [title, sentences] : passages) {
      for (const json_field& sentence : sentences.elements()) {
        const bool gold = !found && !checked.empty() && sentence.string() == checked;
        found = found || gold;
        draft.add_document(title, sentence.string(), gold, sentence);
      }
    }
    if (!checked.empty()) {
      draft.set_gold_missing(found ? 0 : 1);
    }
  }

  /// The sentence that the wizard checked; empty where there is none.
  [[nodiscard]] static std::string checked_sentence(const json_field& turn) {
    const auto checked = turn.find("checked_sentence");
    if (!checked) {
      return {};
    }
    const auto sentences = checked->members();
    if (sentences.empty() || sentences.front().second.string() == "no_passages_used") {
      return {};
    }
    return sentences.front().second.string();
  }
};

/// The few-shot form of FSB (Madotto et al. 2021): `{"dialogue": [[apprentice, wizard], ...], "meta": [[sentence, ...],
/// ...]}` with one list of knowledge sentences a turn.
///
/// Candidates of every turn are all knowledge sentences of the dialogue, each once; gold are those of the turn. A turn
/// without any counts as not annotated; a dialogue without any is left out, there being nothing to choose from.
struct wizard_few_shot {
  [[nodiscard]] static bool recognises(const nlohmann::json& record) {
    return record.contains("dialogue") && record.contains("meta");
  }

  static void read(const json_field& record, const read_options& options, std::vector<question>& out) {
    const auto turns = record["dialogue"].elements();
    const auto knowledge = record["meta"].elements(turns.size());
    std::vector<json_field> sentences;
    for (const json_field& of_turn : knowledge) {
      for (json_field& sentence : of_turn.elements()) {
        if (!is_among(sentences, sentence)) {
          sentences.push_back(std::move(sentence));
        }
      }
    }
    if (sentences.empty()) {
      return;
    }
    detail::dialogue_history history;
    for (std::size_t t = 0; t < turns.size(); ++t) {
      const auto utterances = turns[t].elements(2);
      history.add(utterances[0].string());
      question_draft draft(record, options);
      draft.set_id(detail::turn_id(record, t + 1));
      draft.set_text(history.lines());
      draft.add_answer(detail::dialogue_history::one_line(utterances[1].string()));
      const auto gold = knowledge[t].elements();
      for (const json_field& sentence : sentences) {
        draft.add_document({}, sentence.string(), is_among(gold, sentence), sentence);
      }
      if (!gold.empty()) {
        draft.set_gold_missing(0);
      }
      out.push_back(std::move(draft).finish());
      history.add(utterances[1].string());
    }
  }

 private:
  [[nodiscard]] static bool is_among(const std::vector<json_field>& sentences, const json_field& sentence) {
    return std::any_of(sentences.begin(), sentences.end(),
                       [&](const json_field& other) { return other.string() == sentence.string(); });
  }
};

}  // namespace dro::data::formats

#endif
