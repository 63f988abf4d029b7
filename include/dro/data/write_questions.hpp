// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_WRITE_QUESTIONS_HPP
#define DRO_DATA_WRITE_QUESTIONS_HPP

/// \file
/// Questions to a file in the project's own form, which `read_questions` gives back unchanged.

#include <filesystem>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include <dro/data/output_file.hpp>
#include <dro/data/question.hpp>
#include <dro/error.hpp>

namespace dro::data {

/// Writes one JSON object a line, UTF-8: the uniform form of docs/data-formats.md. A file of that name is replaced only
/// once all is written.
///
/// \throws file_error where the file cannot be written, option_error where a text is not valid UTF-8.
inline void write_questions(const std::filesystem::path& path, std::span<const question> questions) {
  output_file file(path);
  for (const question& q : questions) {
    nlohmann::ordered_json record = {{"id", q.id}, {"question", q.text}, {"answers", q.answers}};
    record["documents"] = nlohmann::ordered_json::array();
    for (const document& d : q.documents) {
      record["documents"].push_back({{"title", d.title}, {"text", d.text}});
    }
    record["supporting"] = q.supporting;
    record["gold_missing"] = nullptr;
    if (q.gold_missing.has_value()) {
      record["gold_missing"] = *q.gold_missing;
    }
    try {
      file.write(record.dump() + '\n');
    } catch (const nlohmann::json::type_error&) {
      throw option_error("question \"" + q.id + "\" cannot be written: a text is not valid UTF-8");
    }
  }
  file.commit();
}

}  // namespace dro::data

#endif
