// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_JSON_FIELD_HPP
#define DRO_DATA_JSON_FIELD_HPP

/// \file
/// Typed access to the fields of a record; every failure names file, line, record and field and shows what was found.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/json_records.hpp>
#include <dro/error.hpp>

namespace dro::data {

/// Where a record stands, for messages.
struct record_place {
  std::string file;
  std::size_t line = 0;    ///< where the record begins, 1-based
  std::size_t number = 0;  ///< 1-based; 0 where the file is one document, not a list of records
  std::string id;          ///< empty where the record has none
};

/// A value within a record together with the way that leads to it, such as `documents[2].text`. A light view: the
/// record and its place must outlive it.
class json_field {
 public:
  /// The record itself; its way is empty.
  json_field(const nlohmann::json& value, const record_place& place) : value_(&value), place_(&place) {}

  [[nodiscard]] const record_place& place() const noexcept { return *place_; }
  [[nodiscard]] bool is_object() const noexcept { return value_->is_object(); }
  [[nodiscard]] bool is_array() const noexcept { return value_->is_array(); }

  /// The member of that name; nullopt where this object has none or says null.
  /// \throws data_error where this is not an object.
  [[nodiscard]] std::optional<json_field> find(const char* key) const {
    require(value_->is_object(), "an object");
    const auto member = value_->find(key);
    if (member == value_->end() || member->is_null()) {
      return std::nullopt;
    }
    return child(*member, key);
  }

  /// The member of that name. \throws data_error where there is none, or it is null.
  [[nodiscard]] json_field operator[](const char* key) const {
    auto member = find(key);
    if (!member.has_value()) {
      child(*value_, key).fail("is missing");
    }
    return *std::move(member);
  }

  /// The elements of this list. \throws data_error where it is not one.
  [[nodiscard]] std::vector<json_field> elements() const {
    require(value_->is_array(), "a list");
    std::vector<json_field> all;
    all.reserve(value_->size());
    for (const auto& element : *value_) {
      all.push_back(json_field(element, *place_, path_ + std::string("[") + std::to_string(all.size()) + "]"));
    }
    return all;
  }

  /// The elements of this list of exactly `count`. \throws data_error where it is none.
  [[nodiscard]] std::vector<json_field> elements(std::size_t count) const {
    require(value_->is_array() && value_->size() == count, "a list of " + std::to_string(count));
    return elements();
  }

  /// The members of this object with their names, sorted by name. \throws data_error where it is not an object.
  [[nodiscard]] std::vector<std::pair<std::string, json_field>> members() const {
    require(value_->is_object(), "an object");
    std::vector<std::pair<std::string, json_field>> all;
    for (const auto& [key, member] : value_->items()) {
      all.emplace_back(key, child(member, key));
    }
    return all;
  }

  /// \throws data_error where this is not a string.
  [[nodiscard]] const std::string& string() const {
    require(value_->is_string(), "a string");
    return value_->get_ref<const std::string&>();
  }

  /// \throws data_error where this is neither true nor false.
  [[nodiscard]] bool boolean() const {
    require(value_->is_boolean(), "true or false");
    return value_->get<bool>();
  }

  /// A whole number in [0, limit). \throws data_error where this is none.
  [[nodiscard]] std::size_t index(std::size_t limit) const {
    require(value_->is_number_unsigned() && value_->get<std::uint64_t>() < limit,
            limit == 0 ? "no number" : "a number from 0 to " + std::to_string(limit - 1));
    return value_->get<std::size_t>();
  }

  /// A finite number. \throws data_error where this is none.
  [[nodiscard]] double number() const {
    require(value_->is_number(), "a number");
    return value_->get<double>();  // the parser refuses what a double cannot hold
  }

  /// \throws data_error for this field, in the form `file:line: record 3 (id "q7"), field "answers": what`; of a file
  /// that is one document, `file: field "answers": what`.
  [[noreturn]] void fail(const std::string& what) const {
    std::string where = place_->number == 0 ? std::string() : "record " + std::to_string(place_->number);
    if (!place_->id.empty()) {
      where += " (id \"" + place_->id + "\")";
    }
    if (!path_.empty()) {
      where += (where.empty() ? "field \"" : ", field \"") + path_ + "\"";
    }
    throw data_error(place_->file, place_->line, where.empty() ? what : where + ": " + what);
  }

 private:
  json_field(const nlohmann::json& value, const record_place& place, std::string path)
      : value_(&value), place_(&place), path_(std::move(path)) {}

  [[nodiscard]] json_field child(const nlohmann::json& value, const std::string& key) const {
    return json_field(value, *place_, path_.empty() ? key : path_ + "." + key);
  }

  void require(bool holds, const std::string& expected) const {
    if (!holds) {
      fail("expected " + expected + ", found " + shown());
    }
  }

  // Whether no more than `levels` lists and objects stand in each other. To write deeper ones is to recurse as deeply.
  [[nodiscard]] static bool is_shallow(const nlohmann::json& value, int levels) {
    if (!value.is_structured()) return true;
    return levels > 0 && std::all_of(value.begin(), value.end(),
                                     [&](const nlohmann::json& inner) { return is_shallow(inner, levels - 1); });
  }

  /// The value as JSON, cut to a few characters.
  [[nodiscard]] std::string shown() const {
    if (!is_shallow(*value_, 8)) return value_->is_array() ? "a deeply nested list" : "a deeply nested object";
    constexpr std::size_t longest = 60;
    std::string text = value_->dump(-1, ' ', true);
    if (text.size() > longest) {
      text.resize(longest);
      text += "...";
    }
    return text;
  }

  const nlohmann::json* value_;
  const record_place* place_;
  std::string path_;
};

/// The first of these members that holds a string or a number, as text; empty where there is none. For ids.
[[nodiscard]] inline std::string first_identifier(const nlohmann::json& record,
                                                  std::initializer_list<const char*> keys) {
  for (const char* const key : keys) {
    const auto member = record.find(key);
    if (member == record.end()) {
      continue;
    }
    if (member->is_string()) {
      return member->get<std::string>();
    }
    if (member->is_number_integer()) {
      return member->dump();
    }
  }
  return {};
}

}  // namespace dro::data

#endif
