// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_EXCHANGE_FILE_HPP
#define DRO_DATA_EXCHANGE_FILE_HPP

/// \file
/// An E-step over files: draws are written, with their log q, something else scores them, and a later process reads
/// both and forms the weights. The format is that of docs/log-probability-exchange.md.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/config.hpp>
#include <dro/data/checkpoint_file.hpp>
#include <dro/data/exchange_format.hpp>
#include <dro/data/exchange_requests.hpp>
#include <dro/data/json_field.hpp>
#include <dro/data/json_records.hpp>
#include <dro/error.hpp>
#include <dro/model/concepts.hpp>
#include <dro/ranking/draws.hpp>

namespace dro::data {

/// Draws that were read from a file, and the requests that the file makes of a scorer. The names of the queries, in the
/// order of the batch they were drawn for, are `requests.names()`.
template <backend B, class T>
struct stored_draws {
  draws<B, T> z;
  exchange_requests requests;
};

/// Writes draws to a file, one a line, each with its log q; the first draw of each distinct list is a request to a
/// scorer, and carries what the describer adds. The file is there as a whole or not at all. Returns the requests.
/// Reads from the backend: rankings, log q, and what else the draws have. Memory: the text of the file.
///
/// \throws file_error where the file cannot be written, option_error where a text is not valid UTF-8, shape_error where
/// queries and draws differ in number.
template <backend B, class T, query_batch Queries, class Describer = query_positions>
requires request_describer<Describer, Queries> exchange_requests write_draws(B& b, const Queries& queries,
                                                                             const draws<B, T>& z,
                                                                             const std::filesystem::path& path,
                                                                             const Describer& describer = {},
                                                                             const exchange_options& options = {}) {
  using json = nlohmann::ordered_json;
  exchange_requests requests(b, z, query_names(queries, describer), options);
  const auto log_proposal = read(b, z.log_proposal());
  const auto multiplicity = z.has_multiplicity() ? read(b, z.multiplicity()) : host_matrix<T>();
  const auto log_kept = z.has_log_kept() ? read(b, z.log_kept()) : host_matrix<T>();

  std::string text;
  json head = {{"dro_draws", 1}, {"queries", requests.names()}};
  if (z.groups().is_uniform()) {
    head["samples"] = z.groups().per_query();
  } else {
    head["offsets"] = requests.offsets();
  }
  head.update({{"select", z.select()},
               {"order_free", requests.order_free()},
               {"block", z.traits().block},
               {"covers", z.traits().covers},
               {"multiplicity", z.has_multiplicity()},
               {"log_kept", z.has_log_kept()}});
  if (z.has_log_unsampled()) {
    const auto log_unsampled = read(b, z.log_unsampled());
    head["log_unsampled"] = json::array();
    for (index_t q = 0; q < log_unsampled.rows(); ++q) {
      head["log_unsampled"].push_back(exchange_number(static_cast<double>(log_unsampled(q, 0))));
    }
  }
  append_exchange_line(text, head, "the list of queries");
  for (index_t q = 0; q < z.groups().queries(); ++q) {
    const auto place = static_cast<std::size_t>(q);
    for (index_t i = requests.offsets()[place]; i < requests.offsets()[place + 1]; ++i) {
      json line = json::object();
      if (const auto request = requests.request_of(i)) line[requests.is_first(i) ? "request" : "repeats"] = *request;
      line["query"] = requests.names()[place];
      line["documents"] = exchange_list(requests.documents_of_draw(i));
      line["log_proposal"] = exchange_number(static_cast<double>(log_proposal(i, 0)));
      if (z.has_multiplicity()) line["multiplicity"] = exchange_number(static_cast<double>(multiplicity(i, 0)));
      if (z.has_log_kept()) line["log_kept"] = exchange_number(static_cast<double>(log_kept(i, 0)));
      if (requests.is_first(i)) describe_request(describer, line, queries, q, requests.documents_of_draw(i));
      append_exchange_line(text, line, "query \"" + requests.names()[place] + "\"");
    }
  }
  write_file_atomically(path, text);
  return requests;
}

namespace detail {

/// The first line of a file of draws.
struct draws_head {
  std::vector<std::string> names;
  std::optional<index_t> samples;     // the same number for each query, or
  std::vector<std::int32_t> offsets;  // ragged
  index_t total = 0;
  index_t select = 0;
  exchange_options options;
  draw_traits traits;
  bool multiplicity = false;
  bool log_kept = false;
  std::optional<std::vector<double>> log_unsampled;  // of each query

  draws_head(const nlohmann::json& record, const record_place& place) {
    constexpr auto limit = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max());
    const json_field head(record, place);
    if (const auto version = head["dro_draws"]; version.index(limit) != 1) {
      version.fail("expected 1, the version of the format that this library reads");
    }
    for (const json_field& name : head["queries"].elements()) names.push_back(name.string());
    if (const auto uniform = head.find("samples")) {
      samples = static_cast<index_t>(uniform->index(limit));
      if (!names.empty() && static_cast<std::size_t>(*samples) > limit / names.size()) uniform->fail("is too large");
      total = *samples * static_cast<index_t>(names.size());
    } else {
      for (const json_field& offset : head["offsets"].elements(names.size() + 1)) {
        offsets.push_back(static_cast<std::int32_t>(offset.index(limit)));
        if (offsets.back() < total || (offsets.size() == 1 && offsets.back() != 0)) {
          offset.fail("the offsets do not ascend from 0");
        }
        total = offsets.back();
      }
    }
    select = static_cast<index_t>(head["select"].index(limit));
    options.order_free = head["order_free"].boolean();
    traits.block = static_cast<index_t>(head["block"].index(limit));
    if (traits.block == 0) head["block"].fail("expected at least 1");
    traits.covers = head["covers"].boolean();
    multiplicity = head["multiplicity"].boolean();
    log_kept = head["log_kept"].boolean();
    if (multiplicity && traits.block != 1) head["multiplicity"].fail("draws in blocks have no multiplicities");
    if (const auto list = head.find("log_unsampled")) {
      log_unsampled.emplace();
      for (const json_field& field : list->elements(names.size())) {
        log_unsampled->push_back(take_exchange_number(record.at("log_unsampled")[log_unsampled->size()], field));
      }
    }
  }

  /// The query of a draw.
  [[nodiscard]] const std::string& name_of(index_t draw) const {
    if (samples.has_value()) return names[static_cast<std::size_t>(draw / *samples)];
    const auto next = std::upper_bound(offsets.begin(), offsets.end(), draw);
    return names[static_cast<std::size_t>(next - offsets.begin()) - 1];
  }
};

/// Which request a line says it makes or repeats.
struct stated_request {
  std::optional<std::size_t> makes;
  std::optional<std::size_t> repeats;
  record_place place;
};

template <class T, backend B>
[[nodiscard]] draws<B, T> make_draws(B& b, const draws_head& head, const host_matrix<document_t>& rankings,
                                     const host_matrix<T>& log_proposal) {
  if (head.samples.has_value()) {
    const auto groups = grouping::uniform(static_cast<index_t>(head.names.size()), *head.samples);
    return {b, write(b, rankings), write(b, log_proposal), groups, head.traits};
  }
  host_matrix<std::int32_t> offsets(static_cast<index_t>(head.offsets.size()), 1);
  std::copy(head.offsets.begin(), head.offsets.end(), offsets.data());
  return {b, write(b, rankings), write(b, log_proposal), write(b, offsets), head.traits};
}

}  // namespace detail

/// Reads draws back as they were: rankings, log q bit for bit (where T is what it was when they were written), traits,
/// and multiplicities, kept and unsampled masses where they had them.
///
/// \throws file_error where the file cannot be read; data_error, with the line, where it is not a whole file of draws.
template <class T, backend B>
[[nodiscard]] stored_draws<B, T> read_draws(B& b, const std::filesystem::path& path) {
  constexpr auto limit = static_cast<std::size_t>(std::numeric_limits<document_t>::max());
  json_record_stream file(path);
  const auto place_of = [&](const json_record& record) {
    return record_place{file.path(), record.line, record.number, {}};
  };
  const auto first = file.next();
  if (!first.has_value()) throw data_error(file.path(), 0, "the file is empty");
  const detail::draws_head head(first->value, place_of(*first));

  std::vector<document_t> documents;
  std::vector<T> log_proposal;
  std::vector<T> multiplicity;
  std::vector<T> log_kept;
  std::vector<detail::stated_request> stated;
  while (auto record = file.next()) {
    const record_place place = place_of(*record);
    const json_field line(record->value, place);
    const auto draw = static_cast<index_t>(stated.size());
    if (draw == head.total) {
      throw data_error(file.path(), place.line,
                       "more lines than the " + std::to_string(head.total) + " draws announced");
    }
    if (const auto query = line["query"]; query.string() != head.name_of(draw)) {
      query.fail("expected \"" + head.name_of(draw) + "\", whose draw this is");
    }
    const auto positions = line["documents"].elements(static_cast<std::size_t>(head.select));
    for (std::size_t t = 0; t < positions.size(); ++t) {
      const bool filled = !record->value.at("documents")[t].is_null();
      documents.push_back(filled ? static_cast<document_t>(positions[t].index(limit)) : no_document);
    }
    const auto number = [&](const char* key) {
      return static_cast<T>(take_exchange_number(record->value, key, place));
    };
    log_proposal.push_back(number("log_proposal"));
    if (head.multiplicity) {
      multiplicity.push_back(number("multiplicity"));
      const T n = multiplicity.back();
      if (!(n >= T(0)) || n - n != T(0) || n != std::floor(n)) {
        line["multiplicity"].fail("expected a whole number of draws");
      }
    }
    if (head.log_kept) log_kept.push_back(number("log_kept"));
    detail::stated_request& s = stated.emplace_back(detail::stated_request{{}, {}, place});
    if (const auto makes = line.find("request")) s.makes = makes->index(limit);
    if (const auto repeats = line.find("repeats")) s.repeats = repeats->index(limit);
  }
  if (static_cast<index_t>(stated.size()) != head.total) {
    throw data_error(file.path(), 0,
                     "ends after " + std::to_string(stated.size()) + " of " + std::to_string(head.total) + " draws");
  }

  const auto matrix = [](const auto& values, index_t rows, index_t cols) {
    host_matrix<typename std::decay_t<decltype(values)>::value_type> m(rows, cols);
    std::copy(values.begin(), values.end(), m.data());
    return m;
  };
  auto z =
      detail::make_draws<T>(b, head, matrix(documents, head.total, head.select), matrix(log_proposal, head.total, 1));
  if (head.multiplicity) z.set_multiplicity(b, write(b, matrix(multiplicity, head.total, 1)));
  if (head.log_kept) z.set_log_kept(b, write(b, matrix(log_kept, head.total, 1)));
  if (head.log_unsampled.has_value()) {
    const std::vector<T> of_queries(head.log_unsampled->begin(), head.log_unsampled->end());
    z.set_log_unsampled(b, write(b, matrix(of_queries, static_cast<index_t>(of_queries.size()), 1)));
  }
  exchange_requests requests(b, z, head.names, head.options);
  for (index_t i = 0; i < head.total; ++i) {
    const detail::stated_request& s = stated[static_cast<std::size_t>(i)];
    const auto request = requests.request_of(i);
    const auto none = std::optional<std::size_t>();
    if (s.makes != (requests.is_first(i) ? request : none) || s.repeats != (requests.is_first(i) ? none : request)) {
      throw data_error(file.path(), s.place.line,
                       "record " + std::to_string(s.place.number) + ": \"request\" or \"repeats\" is not the number " +
                           "that follows from the draws before it");
    }
  }
  return {std::move(z), std::move(requests)};
}

/// Reads a scorer's answers, {"request": r, "log_likelihood": x} in any order, in any container that
/// json_record_stream reads: log p(y|x,d_z) of each draw, [draws × 1], nats. Where nothing was asked the file is not
/// opened.
///
/// \throws file_error where the file cannot be read; data_error as exchange_answers does, with the line, and where an
/// answer is missing.
template <class T, backend B>
[[nodiscard]] matrix_t<B, T> read_log_likelihoods(B& b, const std::filesystem::path& path,
                                                  const exchange_requests& requests) {
  exchange_answers answers(requests);
  if (requests.size() > 0) {
    json_record_stream file(path);
    while (const auto record = file.next()) {
      answers.take(record->value, {file.path(), record->line, record->number, {}});
    }
  }
  return write(b, requests.spread<T>(answers.values(path.string())));
}

}  // namespace dro::data

#endif
