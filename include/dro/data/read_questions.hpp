// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_READ_QUESTIONS_HPP
#define DRO_DATA_READ_QUESTIONS_HPP

/// \file
/// Questions from a file of any of the understood formats, recognised by its content.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dro/data/formats/dpr.hpp>
#include <dro/data/formats/dro_repository.hpp>
#include <dro/data/formats/hotpotqa.hpp>
#include <dro/data/formats/musique.hpp>
#include <dro/data/formats/uniform.hpp>
#include <dro/data/formats/wizard_of_wikipedia.hpp>
#include <dro/data/json_field.hpp>
#include <dro/data/json_records.hpp>
#include <dro/data/question.hpp>
#include <dro/data/read_options.hpp>
#include <dro/error.hpp>

namespace dro::data {

enum class question_format : std::uint8_t {
  uniform,
  musique,
  two_wiki_multihopqa,
  hotpotqa,
  dpr_retrieval,
  dpr_training,
  dro_repository,
  dro_generator_training,
  wizard_of_wikipedia,
  wizard_few_shot,
};

namespace detail {

/// What the dispatch knows about a format.
struct format_entry {
  question_format format;
  std::string_view name;
  std::string_view keys;  ///< the fields it is recognised by, for messages
  bool (*recognises)(const nlohmann::json& record);
  void (*read)(const json_field& record, const read_options& options, std::vector<question>& out);
};

template <class Format>
[[nodiscard]] constexpr format_entry make_entry(question_format format, std::string_view name, std::string_view keys) {
  return {format, name, keys, &Format::recognises, &Format::read};
}

/// In the order in which they are tried: a form that extends another stands before it.
inline constexpr std::array question_formats = {
    make_entry<formats::uniform>(question_format::uniform, "uniform", "documents"),
    make_entry<formats::musique>(question_format::musique, "MuSiQue", "paragraphs"),
    make_entry<formats::two_wiki_multihopqa>(question_format::two_wiki_multihopqa, "2WikiMultihopQA",
                                             "context and evidences"),
    make_entry<formats::hotpotqa>(question_format::hotpotqa, "HotpotQA", "context"),
    make_entry<formats::dpr_retrieval>(question_format::dpr_retrieval, "DPR retrieval", "ctxs"),
    make_entry<formats::dpr_training>(question_format::dpr_training, "DPR training", "positive_ctxs"),
    make_entry<formats::dro_repository>(question_format::dro_repository, "DRO repository", "positive and retrieval"),
    make_entry<formats::dro_generator_training>(question_format::dro_generator_training, "DRO generator training",
                                                "prompt and response"),
    make_entry<formats::wizard_of_wikipedia>(question_format::wizard_of_wikipedia, "Wizard of Wikipedia", "dialog"),
    make_entry<formats::wizard_few_shot>(question_format::wizard_few_shot, "Wizard of Wikipedia (few-shot)",
                                         "dialogue and meta"),
};

/// The entry of the format that a file's first record has. \throws data_error where it is none of them.
[[nodiscard]] inline const format_entry& recognise(const json_record& record, const std::string& file) {
  for (const format_entry& entry : question_formats) {
    if (entry.recognises(record.value)) {
      return entry;
    }
  }
  std::string found;
  for (const auto& [key, value] : record.value.items()) {
    found += (found.empty() ? "" : ", ") + key;
  }
  std::string understood;
  for (const format_entry& entry : question_formats) {
    understood += understood.empty() ? "" : "; ";
    understood.append(entry.name).append(" (").append(entry.keys).append(")");
  }
  throw data_error(file, record.line,
                   "unknown format: the first record has the fields [" + found +
                       "]; understood are, each by its fields: " + understood);
}

/// Refuses ids that occurred before.
class unique_ids {
 public:
  void add(const std::string& id, const json_field& record) {
    const auto [first, is_new] = lines_.emplace(id, record.place().line);
    if (!is_new) {
      record.fail("duplicate id \"" + id + "\", first used in line " + std::to_string(first->second));
    }
  }

 private:
  std::unordered_map<std::string, std::size_t> lines_;
};

}  // namespace detail

/// How a format is called in messages.
[[nodiscard]] constexpr std::string_view name(question_format format) noexcept {
  for (const detail::format_entry& entry : detail::question_formats) {
    if (entry.format == format) {
      return entry.name;
    }
  }
  return {};
}

/// The format of a file, by the fields of its first record. Reads no more than that.
/// \throws file_error, data_error as `read_questions` does.
[[nodiscard]] inline question_format detect_question_format(const std::filesystem::path& path) {
  json_record_stream records(path);
  const auto first = records.next();
  return detail::recognise(first.value(), records.path()).format;
}

/// All questions of a file, in its order. The format is recognised by content: gzip by its first bytes, the container
/// (JSON array, JSON Lines, a single object) by the first character, the data set by the fields of the first record,
/// which all others must follow. docs/data-formats.md says how fields are mapped.
///
/// \throws file_error where the file is missing, a folder, unreadable, truncated or damaged gzip.
/// \throws data_error, naming file, line, record and field, for an empty file, malformed JSON, invalid UTF-8, an
///         unknown format, a field that is missing or of the wrong type, an index out of range, a question that is
///         blank or has no documents or no answers, a blank document, an id used twice. Nothing partial is returned.
///
/// Memory: the questions, one record and a buffer. Time: about 0.1 s for 7 MB.
[[nodiscard]] inline std::vector<question> read_questions(const std::filesystem::path& path,
                                                          const read_options& options = {}) {
  json_record_stream records(path);
  std::vector<question> questions;
  const detail::format_entry* format = nullptr;
  detail::unique_ids ids;
  while (questions.size() < options.limit) {
    const auto record = records.next();
    if (!record.has_value()) {
      break;
    }
    if (format == nullptr) {
      format = &detail::recognise(*record, records.path());
    }
    const record_place place{records.path(), record->line, record->number,
                             first_identifier(record->value, {"_id", "id", "query_id", "question_id"})};
    const json_field root(record->value, place);
    const std::size_t before = questions.size();
    format->read(root, options, questions);
    for (std::size_t i = before; i < questions.size(); ++i) {
      ids.add(questions[i].id, root);
    }
  }
  if (questions.empty() && options.limit > 0) {
    throw data_error(records.path(), 0, "no record of the file gives a question");
  }
  if (questions.size() > options.limit) {
    questions.resize(options.limit);
  }
  return questions;
}

}  // namespace dro::data

#endif
