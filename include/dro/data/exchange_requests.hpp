// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_EXCHANGE_REQUESTS_HPP
#define DRO_DATA_EXCHANGE_REQUESTS_HPP

/// \file
/// What a scorer in another process is asked about draws: each distinct list of documents of each query, once.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/data/question.hpp>
#include <dro/error.hpp>
#include <dro/model/concepts.hpp>
#include <dro/ranking/draws.hpp>

namespace dro::data {

/// What both ends of an exchange agree on beforehand.
struct exchange_options {
  /// Whether the order of a list has no say in its log-likelihood: lists of the same documents are asked once then, in
  /// the order of the first that was drawn.
  bool order_free = false;
};

/// Says what a request tells the scorer of its query.
///
///     std::string name(const Queries&, index_t q) const;                // becomes the field "query"
///     void describe(nlohmann::ordered_json& request, const Queries&, index_t q,
///                   std::span<const document_t> z) const;               // optional: adds fields of its own
template <class D, class Queries>
concept request_describer = requires(const D& d, const Queries& queries, index_t q) {
  { d.name(queries, q) } -> std::convertible_to<std::string>;
};

/// Names a query by its position in the batch, and adds nothing: for files, where the batch stays the same.
struct query_positions {
  template <query_batch Queries>
  [[nodiscard]] std::string name(const Queries&, index_t q) const {
    return std::to_string(q);
  }
};

/// For batches of `question`, such as item_batch<question>: names a query by its id and adds "question", its text,
/// "answer", the first accepted answer, and "texts", a {"title", "text"} for each document of the list.
struct question_texts {
  template <query_batch Queries>
  [[nodiscard]] std::string name(const Queries& queries, index_t q) const {
    return queries[q].id;
  }

  /// Throws shape_error where the question has no such candidate.
  template <query_batch Queries>
  void describe(nlohmann::ordered_json& request, const Queries& queries, index_t q,
                std::span<const document_t> z) const {
    const question& asked = queries[q];
    auto texts = nlohmann::ordered_json::array();
    for (const document_t j : z) {
      if (j < 0 || static_cast<std::size_t>(j) >= asked.documents.size()) {
        throw shape_error("question \"" + asked.id + "\" has " + std::to_string(asked.documents.size()) +
                          " candidates, and a draw has number " + std::to_string(j));
      }
      const document& d = asked.documents[static_cast<std::size_t>(j)];
      texts.push_back({{"title", d.title}, {"text", d.text}});
    }
    request["question"] = asked.text;
    if (asked.answers.empty()) throw shape_error("question \"" + asked.id + "\" has no answer to score");
    request["answer"] = asked.answers.front();
    request["texts"] = std::move(texts);
  }
};

/// The describer's names of all queries of a batch.
template <query_batch Queries, request_describer<Queries> Describer>
[[nodiscard]] std::vector<std::string> query_names(const Queries& queries, const Describer& describer) {
  std::vector<std::string> names;
  names.reserve(std::size(queries));
  for (index_t q = 0; q < static_cast<index_t>(std::size(queries)); ++q) names.push_back(describer.name(queries, q));
  return names;
}

namespace detail {

/// The number of the first draw of the next query.
struct draw_ends_program {
  grouping groups;
  matrix_view<std::int32_t> ends;

  [[nodiscard]] index_t width() const { return 1; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    if (team.rank() == 0) ends(q, 0) = static_cast<std::int32_t>(groups.begin(q) + groups.size(q));
  }
};

/// Where the draws of each query begin, and at the end their number. Reads once from the backend if they are ragged.
/// Throws shape_error where ragged offsets do not ascend from 0 to the number of draws.
template <backend B>
[[nodiscard]] std::vector<index_t> draw_offsets(B& b, const grouping& groups) {
  std::vector<index_t> offsets{0};
  if (groups.is_uniform()) {
    for (index_t q = 0; q < groups.queries(); ++q) offsets.push_back(offsets.back() + groups.per_query());
    return offsets;
  }
  auto ends = b.template make<std::int32_t>(groups.queries(), 1);
  b.run(groups.queries(), draw_ends_program{groups, b.view(ends)});
  const auto host = read(b, ends);
  for (index_t q = 0; q < groups.queries(); ++q) {
    if (host(q, 0) < offsets.back()) throw shape_error("draws: the offsets of query " + std::to_string(q) + " descend");
    offsets.push_back(host(q, 0));
  }
  if (offsets.back() != groups.total()) {
    throw shape_error("draws: the offsets end at " + std::to_string(offsets.back()) + ", but there are " +
                      std::to_string(groups.total()) + " draws");
  }
  return offsets;
}

}  // namespace detail

/// The requests that draws give rise to, numbered from 0 in the order of the draws, and which of them each draw is.
/// Nothing is asked for a draw with a place that holds no document, whose log-likelihood is −inf, nor for one of
/// multiplicity 0, which no estimator looks at. Equal draws give equal requests. In host memory.
class exchange_requests {
 public:
  /// `names`: one for each query. Reads from the backend once, once more for ragged draws and once more for draws with
  /// multiplicities. O(m log m) comparisons of lists a query of m draws. Throws shape_error if names and draws differ.
  template <backend B, class T>
  exchange_requests(B& b, const draws<B, T>& z, std::vector<std::string> names, const exchange_options& options = {})
      : names_(std::move(names)), order_free_(options.order_free) {
    require_queries(names_, z.groups(), "exchange");
    rankings_ = read(b, z.rankings());
    offsets_ = detail::draw_offsets(b, z.groups());
    std::vector<char> counts(static_cast<std::size_t>(z.groups().total()), 1);
    if (z.has_multiplicity()) {
      const auto multiplicity = read(b, z.multiplicity());
      for (index_t i = 0; i < multiplicity.rows(); ++i) {
        counts[static_cast<std::size_t>(i)] = multiplicity(i, 0) > T(0) ? 1 : 0;
      }
    }
    collect(counts);
  }

  /// Number of requests.
  [[nodiscard]] std::size_t size() const { return first_draw_.size(); }
  /// Number of draws.
  [[nodiscard]] index_t draws_count() const { return rankings_.rows(); }
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  [[nodiscard]] bool order_free() const { return order_free_; }
  /// Where the draws of each query begin, and at the end their number, [queries + 1].
  [[nodiscard]] const std::vector<index_t>& offsets() const { return offsets_; }

  /// The query of a request, as its position in the batch.
  [[nodiscard]] index_t query(std::size_t request) const { return query_[request]; }
  /// The list that a request asks about.
  [[nodiscard]] std::span<const document_t> documents(std::size_t request) const {
    return documents_of_draw(first_draw_[request]);
  }
  [[nodiscard]] std::span<const document_t> documents_of_draw(index_t draw) const {
    return {rankings_.data() + draw * rankings_.cols(), static_cast<std::size_t>(rankings_.cols())};
  }
  /// The request that asks about a draw; nullopt where none does.
  [[nodiscard]] std::optional<std::size_t> request_of(index_t draw) const {
    return request_of_[static_cast<std::size_t>(draw)];
  }
  /// Whether this is the draw for which its request is made, not one that repeats it.
  [[nodiscard]] bool is_first(index_t draw) const {
    const auto request = request_of(draw);
    return request.has_value() && first_draw_[*request] == draw;
  }

  /// `values`, one for each request, at all of its draws, [draws × 1]; −inf where nothing was asked.
  template <class T>
  [[nodiscard]] host_matrix<T> spread(std::span<const double> values) const {
    host_matrix<T> out(draws_count(), 1);
    for (index_t i = 0; i < draws_count(); ++i) {
      const auto request = request_of(i);
      out(i, 0) = request.has_value() ? static_cast<T>(values[*request]) : -std::numeric_limits<T>::infinity();
    }
    return out;
  }

  /// The sum of `values`, one for each draw, over the draws of each request.
  template <class T>
  [[nodiscard]] std::vector<double> sum(std::span<const T> values) const {
    std::vector<double> sums(size(), 0.0);
    for (index_t i = 0; i < draws_count(); ++i) {
      if (const auto request = request_of(i))
        sums[*request] += static_cast<double>(values[static_cast<std::size_t>(i)]);
    }
    return sums;
  }

 private:
  void collect(const std::vector<char>& counts) {
    request_of_.resize(counts.size());
    for (index_t q = 0; q + 1 < static_cast<index_t>(offsets_.size()); ++q) {
      std::map<std::vector<document_t>, std::size_t> known;
      for (index_t i = offsets_[static_cast<std::size_t>(q)]; i < offsets_[static_cast<std::size_t>(q) + 1]; ++i) {
        const auto z = documents_of_draw(i);
        const bool complete = std::find(z.begin(), z.end(), no_document) == z.end();
        if (!complete || counts[static_cast<std::size_t>(i)] == 0) continue;
        std::vector<document_t> key(z.begin(), z.end());
        if (order_free_) std::sort(key.begin(), key.end());
        const auto [entry, is_new] = known.try_emplace(std::move(key), size());
        request_of_[static_cast<std::size_t>(i)] = entry->second;
        if (!is_new) continue;
        first_draw_.push_back(i);
        query_.push_back(q);
      }
    }
  }

  std::vector<std::string> names_;
  bool order_free_;
  host_matrix<document_t> rankings_;
  std::vector<index_t> offsets_;
  std::vector<std::optional<std::size_t>> request_of_;
  std::vector<index_t> first_draw_;
  std::vector<index_t> query_;
};

}  // namespace dro::data

#endif
