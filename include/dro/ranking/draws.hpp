// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_DRAWS_HPP
#define DRO_RANKING_DRAWS_HPP

/// \file
/// Drawn rankings, which never part from the log-probability with which they were drawn.

#include <cstdint>
#include <iterator>
#include <string>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// How many rankings to draw for each query, and how many documents each has.
struct draw_options {
  index_t samples = 8;  ///< m, rankings for each query
  index_t select = 5;   ///< K, documents in a ranking
};

/// A flat list of rankings. Ranking r is row r of `rankings`: K distinct positions into its query's candidates, in the
/// order in which they were chosen. `no_document` marks a place that could not be filled (fewer than K documents are
/// possible); such a ranking has log-probability −inf.
template <backend B, class T>
class draws {
 public:
  using scalar_type = T;

  /// `rankings` [draws × K], `log_proposal` [draws × 1] in nats: log q of each ranking under whatever drew it. There
  /// is no way to make draws without it. Throws shape_error if the shapes or `groups` disagree.
  draws(B& b, matrix_t<B, document_t> rankings, matrix_t<B, T> log_proposal, grouping groups)
      : rankings_(std::move(rankings)), log_proposal_(std::move(log_proposal)), groups_(groups) {
    check(b);
  }

  /// A ragged list: query q has offsets[q + 1] − offsets[q] of the draws; `offsets` is [queries + 1 × 1] and
  /// ascends from 0 to the number of draws, which is not checked: it may not be known on the host.
  draws(B& b, matrix_t<B, document_t> rankings, matrix_t<B, T> log_proposal, matrix_t<B, std::int32_t> offsets)
      : rankings_(std::move(rankings)), log_proposal_(std::move(log_proposal)), offsets_(std::move(offsets)) {
    const auto starts = b.view(offsets_);
    if (starts.cols != 1 || starts.rows < 1 || starts.row_stride != 1) {
      throw shape_error("draws: offsets is " + detail::shape_text(starts.rows, starts.cols) +
                        ", expected one column of queries + 1");
    }
    groups_ = grouping::ragged(starts.data, starts.rows - 1, b.view(rankings_).rows);
    check(b);
  }

  // `groups_` may point into `offsets_`: moving keeps that memory where it is, copying would not.
  draws(const draws&) = delete;
  draws& operator=(const draws&) = delete;
  draws(draws&&) noexcept = default;
  draws& operator=(draws&&) noexcept = default;

  [[nodiscard]] const matrix_t<B, document_t>& rankings() const { return rankings_; }
  [[nodiscard]] const matrix_t<B, T>& log_proposal() const { return log_proposal_; }
  [[nodiscard]] const grouping& groups() const { return groups_; }
  /// K, documents in each ranking.
  [[nodiscard]] index_t select() const { return select_; }

 private:
  void check(B& b) {
    const auto view = b.view(rankings_);
    if (view.rows != groups_.total()) {
      throw shape_error("draws: rankings is " + detail::shape_text(view.rows, view.cols) + " for " +
                        std::to_string(groups_.total()) + " draws");
    }
    require_shape(b.view(log_proposal_), groups_.total(), 1, "draws: log_proposal");
    select_ = view.cols;
  }

  matrix_t<B, document_t> rankings_;
  matrix_t<B, T> log_proposal_;
  matrix_t<B, std::int32_t> offsets_;
  grouping groups_;
  index_t select_ = 0;
};

/// Throws shape_error unless there is one query for each group of draws; `who` begins the message.
template <class Queries>
void require_queries(const Queries& queries, const grouping& groups, const char* who) {
  if (static_cast<index_t>(std::size(queries)) != groups.queries()) {
    throw shape_error(std::string(who) + ": " + std::to_string(std::size(queries)) + " queries, but draws of " +
                      std::to_string(groups.queries()));
  }
}

/// Throws option_error unless samples ≥ 1 and 1 ≤ select ≤ documents.
inline void require_drawable(const draw_options& options, index_t documents) {
  if (options.samples < 1) {
    throw option_error("samples is " + std::to_string(options.samples) + ", expected at least 1");
  }
  if (options.select < 1 || options.select > documents) {
    throw option_error("select is " + std::to_string(options.select) + ", expected 1 to " + std::to_string(documents) +
                       ", the number of documents");
  }
}

}  // namespace dro

#endif
