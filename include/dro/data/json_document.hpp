// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_JSON_DOCUMENT_HPP
#define DRO_DATA_JSON_DOCUMENT_HPP

/// \file
/// A file that is one JSON object: a configuration, an index.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/json_records.hpp>
#include <dro/data/memory_map.hpp>
#include <dro/error.hpp>

namespace dro::data {

/// What a file may ask of the memory and the stack of its reader.
struct json_document_limits {
  std::size_t bytes = std::size_t{1} << 24U;  ///< of the file
  int depth = 32;                             ///< lists and objects within each other, the document itself counted
};

namespace detail {

/// Refuses, while a document is being parsed, what a parser lets pass: a name twice in one object, and depth.
class json_document_check {
 public:
  json_document_check(const std::string& path, int depth) : path_(path), depth_(depth) {}

  bool operator()(int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using event_t = nlohmann::json::parse_event_t;
    if ((event == event_t::object_start || event == event_t::array_start) && depth >= depth_) {
      throw data_error(path_, 0, "lists and objects more than " + std::to_string(depth_) + " deep");
    }
    if (event == event_t::object_start) {
      names_.emplace_back();
    } else if (event == event_t::object_end) {
      names_.pop_back();
    } else if (event == event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names_.back().insert(name).second) {
        throw data_error(path_, 0, "the name " + show_text(name) + " stands twice in one object");
      }
    }
    return true;
  }

 private:
  const std::string& path_;
  int depth_;
  std::vector<std::unordered_set<std::string>> names_;  // of the objects that are open
};

}  // namespace detail

/// The object that a file consists of.
///
/// Stricter than a JSON parser has to be: a name may stand only once in an object, since readers differ in which of two
/// they take, and neither size nor depth is the file's to choose.
///
/// \throws file_error where the file cannot be read; data_error, with the line where there is one, for an empty or too
///         large file, malformed JSON, invalid UTF-8, a name twice, too great a depth, and what is not an object.
///
/// Memory: the file as a map of the address space, and the document.
[[nodiscard]] inline nlohmann::json read_json_document(const std::filesystem::path& path,
                                                       const json_document_limits& limits = {}) {
  const memory_map file(path);
  const std::string_view text = file.bytes();
  const auto line_of = [&](std::size_t byte) {
    const std::string_view before = text.substr(0, byte);
    return 1 + static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n'));
  };
  if (text.empty()) throw data_error(file.path(), 1, "the file is empty");
  if (text.size() > limits.bytes) {
    throw data_error(file.path(), 0,
                     "has " + std::to_string(text.size()) + " bytes, expected at most " + std::to_string(limits.bytes));
  }
  // to the parser it is the end, whatever stands behind it
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    throw data_error(file.path(), line_of(zero), "malformed JSON: found byte 0x00");
  }
  nlohmann::json document;
  try {
    document = nlohmann::json::parse(text.begin(), text.end(), detail::json_document_check(file.path(), limits.depth));
  } catch (const nlohmann::json::parse_error& error) {
    throw data_error(file.path(), line_of(error.byte == 0 ? 0 : error.byte - 1),
                     "malformed JSON: " + detail::parser_complaint(error.what()));
  } catch (const nlohmann::json::exception& error) {
    throw data_error(file.path(), 0, "malformed JSON: " + detail::parser_complaint(error.what()));
  }
  if (!document.is_object()) throw data_error(file.path(), 1, "expected an object");
  return document;
}

}  // namespace dro::data

#endif
