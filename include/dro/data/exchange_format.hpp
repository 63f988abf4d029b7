// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_EXCHANGE_FORMAT_HPP
#define DRO_DATA_EXCHANGE_FORMAT_HPP

/// \file
/// The lines of a log-probability exchange, docs/log-probability-exchange.md: how numbers are spelled, how a list of
/// documents is written and how answers are read.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/config.hpp>
#include <dro/data/exchange_requests.hpp>
#include <dro/data/json_field.hpp>
#include <dro/error.hpp>

namespace dro::data {

/// A log-probability as JSON: a number that reads back as the same double, or "-inf", "inf" or "nan", which JSON has no
/// numbers for.
[[nodiscard]] inline nlohmann::ordered_json exchange_number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  return value;
}

/// The log-probability that a value stands for; nullopt where it stands for none.
[[nodiscard]] inline std::optional<double> parse_exchange_number(const nlohmann::json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
  return std::nullopt;
}

/// The log-probability that `value` stands for. \throws data_error where it stands for none; `field` is its place.
[[nodiscard]] inline double take_exchange_number(const nlohmann::json& value, const json_field& field) {
  const auto number = parse_exchange_number(value);
  if (!number.has_value()) {
    const std::string found = value.is_structured() ? value.type_name() : value.dump(-1, ' ', true).substr(0, 60);
    field.fail("expected a number, \"-inf\", \"inf\" or \"nan\", found " + found);
  }
  return *number;
}

/// The log-probability in a field of a record. \throws data_error where there is none.
[[nodiscard]] inline double take_exchange_number(const nlohmann::json& record, const char* key,
                                                 const record_place& place) {
  const json_field field = json_field(record, place)[key];
  return take_exchange_number(record.at(key), field);
}

/// A list of documents as JSON: positions from 0, null where there is no document.
[[nodiscard]] inline nlohmann::ordered_json exchange_list(std::span<const document_t> z) {
  auto list = nlohmann::ordered_json::array();
  for (const document_t j : z) list.push_back(j == no_document ? nlohmann::ordered_json() : nlohmann::ordered_json(j));
  return list;
}

/// A record as a line, its line feed included. \throws option_error where a text is not valid UTF-8; `what` names it.
inline void append_exchange_line(std::string& text, const nlohmann::ordered_json& record, const std::string& what) {
  try {
    text += record.dump();
  } catch (const nlohmann::json::type_error&) {
    throw option_error(what + " cannot be written: a text is not valid UTF-8");
  }
  text += '\n';
}

/// Adds to a record whatever a describer has to say of a list.
template <class Describer, class Queries>
void describe_request(const Describer& describer, nlohmann::ordered_json& record, const Queries& queries, index_t q,
                      std::span<const document_t> z) {
  if constexpr (requires { describer.describe(record, queries, q, z); }) describer.describe(record, queries, q, z);
}

/// Takes the answers to requests, in any order, and refuses what does not answer them.
class exchange_answers {
 public:
  /// `first`: the number under which request 0 was sent. The requests outlive this object.
  explicit exchange_answers(const exchange_requests& requests, std::uint64_t first = 0)
      : requests_(&requests), first_(first), values_(requests.size()), lines_(requests.size(), 0) {}

  /// An answer: {"request": r, "log_likelihood": x}. "query" and "documents" may be repeated and are compared then;
  /// other fields are passed over.
  /// \throws data_error where a field is missing or of the wrong kind, and for a request that was not made, that was
  /// answered before, or whose query or documents are others.
  void take(const nlohmann::json& record, const record_place& place) {
    const json_field answer(record, place);
    const json_field number = answer["request"];
    const std::size_t given = number.index(first_ + values_.size());
    if (given < first_) {
      number.fail("request " + std::to_string(given) + " belongs to an earlier batch: this one begins at " +
                  std::to_string(first_));
    }
    const std::size_t r = given - first_;
    if (lines_[r] != 0) {
      number.fail("request " + std::to_string(given) + " was answered before, in line " + std::to_string(lines_[r]));
    }
    if (const auto query = answer.find("query"); query.has_value() && query->string() != name(r)) {
      query->fail("request " + std::to_string(given) + " was about query \"" + name(r) + "\", found \"" +
                  query->string() + "\"");
    }
    if (const auto documents = answer.find("documents");
        documents.has_value() && record.at("documents") != nlohmann::json(exchange_list(requests_->documents(r)))) {
      documents->fail("request " + std::to_string(given) + " was about " +
                      exchange_list(requests_->documents(r)).dump());
    }
    values_[r] = take_exchange_number(record, "log_likelihood", place);
    lines_[r] = place.line;
    ++answered_;
  }

  /// Log-likelihoods by request. \throws data_error where an answer is missing; `source` names where they come from.
  [[nodiscard]] std::span<const double> values(const std::string& source) const {
    for (std::size_t r = 0; r < lines_.size(); ++r) {
      if (lines_[r] != 0) continue;
      throw data_error(source, 0,
                       std::to_string(lines_.size() - answered_) + " of " + std::to_string(lines_.size()) +
                           " requests are not answered, the first is request " + std::to_string(first_ + r) +
                           " (query \"" + name(r) + "\", documents " + exchange_list(requests_->documents(r)).dump() +
                           ")");
    }
    return values_;
  }

 private:
  [[nodiscard]] const std::string& name(std::size_t r) const {
    return requests_->names()[static_cast<std::size_t>(requests_->query(r))];
  }

  const exchange_requests* requests_;
  std::uint64_t first_;
  std::vector<double> values_;
  std::vector<std::size_t> lines_;  // where each was answered; 0: not yet
  std::size_t answered_ = 0;
};

}  // namespace dro::data

#endif
