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

/// How the draws of one query hang together, known when they are made.
struct draw_traits {
  /// Draws of a query come in consecutive blocks of this many dependent ones, and blocks are independent of each other:
  /// 1, all independent; 2, antithetic pairs; as many as there are draws, none independent of another.
  index_t block = 1;
  /// Whether q > 0 wherever p > 0. Without it weights cannot make up for what was never drawn.
  bool covers = true;
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
  draws(B& b, matrix_t<B, document_t> rankings, matrix_t<B, T> log_proposal, grouping groups,
        const draw_traits& traits = {})
      : rankings_(std::move(rankings)), log_proposal_(std::move(log_proposal)), groups_(groups), traits_(traits) {
    check(b);
  }

  /// A ragged list: query q has offsets(q + 1, 0) − offsets(q, 0) of the draws; `offsets` is [queries + 1 × 1] and
  /// ascends from 0 to the number of draws, which is not checked: it may not be known on the host.
  draws(B& b, matrix_t<B, document_t> rankings, matrix_t<B, T> log_proposal, matrix_t<B, std::int32_t> offsets,
        const draw_traits& traits = {})
      : rankings_(std::move(rankings)),
        log_proposal_(std::move(log_proposal)),
        offsets_(std::move(offsets)),
        traits_(traits) {
    groups_ = grouping::ragged(b.view(offsets_), b.view(rankings_).rows);
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
  [[nodiscard]] const draw_traits& traits() const { return traits_; }
  /// K, documents in each ranking.
  [[nodiscard]] index_t select() const { return select_; }

  /// Draw i counts as `multiplicity`(i) equal draws, a whole number ≥ 0 kept as T, [draws × 1]; one of multiplicity 0
  /// is passed over by every estimator. Throws shape_error; option_error unless the draws are independent, since equal
  /// draws of different blocks cannot be told apart afterwards.
  void set_multiplicity(B& b, matrix_t<B, T> multiplicity) {
    require_shape(b.view(multiplicity), groups_.total(), 1, "draws: multiplicity");
    if (traits_.block != 1) {
      throw option_error("draws: multiplicities of draws in blocks of " + std::to_string(traits_.block) +
                         ", expected independent draws");
    }
    multiplicity_ = std::move(multiplicity);
    has_multiplicity_ = true;
  }
  [[nodiscard]] bool has_multiplicity() const { return has_multiplicity_; }
  /// Empty where every draw counts once.
  [[nodiscard]] const matrix_t<B, T>& multiplicity() const { return multiplicity_; }

  /// For draws of a truncated proposal: log of the selector's mass that the truncation kept along each draw, Σ_t of its
  /// picks, nats, [draws × 1]. Such a proposal does not cover the selector. Throws shape_error.
  void set_log_kept(B& b, matrix_t<B, T> log_kept) {
    require_shape(b.view(log_kept), groups_.total(), 1, "draws: log_kept");
    log_kept_ = std::move(log_kept);
    has_log_kept_ = true;
    traits_.covers = false;
  }
  [[nodiscard]] bool has_log_kept() const { return has_log_kept_; }
  /// Empty where nothing was truncated.
  [[nodiscard]] const matrix_t<B, T>& log_kept() const { return log_kept_; }

  /// For draws without replacement: log of the proposal's mass on the rankings that were not drawn, nats, [queries ×
  /// 1]. Throws shape_error.
  void set_log_unsampled(B& b, matrix_t<B, T> log_unsampled) {
    require_shape(b.view(log_unsampled), groups_.queries(), 1, "draws: log_unsampled");
    log_unsampled_ = std::move(log_unsampled);
    has_log_unsampled_ = true;
  }
  /// Whether the draws of a query are distinct rankings, drawn one after the other without putting any back.
  [[nodiscard]] bool has_log_unsampled() const { return has_log_unsampled_; }
  [[nodiscard]] const matrix_t<B, T>& log_unsampled() const { return log_unsampled_; }

 private:
  void check(B& b) {
    const auto view = b.view(rankings_);
    if (view.rows != groups_.total()) {
      throw shape_error("draws: rankings is " + detail::shape_text(view.rows, view.cols) + " for " +
                        std::to_string(groups_.total()) + " draws");
    }
    require_shape(b.view(log_proposal_), groups_.total(), 1, "draws: log_proposal");
    if (traits_.block < 1) throw option_error("draws: blocks of " + std::to_string(traits_.block));
    select_ = view.cols;
  }

  matrix_t<B, document_t> rankings_;
  matrix_t<B, T> log_proposal_;
  matrix_t<B, std::int32_t> offsets_;
  matrix_t<B, T> multiplicity_;
  matrix_t<B, T> log_kept_;
  matrix_t<B, T> log_unsampled_;
  grouping groups_;
  draw_traits traits_;
  index_t select_ = 0;
  bool has_multiplicity_ = false;
  bool has_log_kept_ = false;
  bool has_log_unsampled_ = false;
};

/// Throws shape_error unless there is one query for each group of draws; `who` begins the message.
template <class Queries>
void require_queries(const Queries& queries, const grouping& groups, const char* who) {
  if (static_cast<index_t>(std::size(queries)) != groups.queries()) {
    throw shape_error(std::string(who) + ": " + std::to_string(std::size(queries)) + " queries, but draws of " +
                      std::to_string(groups.queries()));
  }
}

/// Throws option_error unless samples ≥ 1 and 1 ≤ select ≤ documents ≤ 2^29.
inline void require_drawable(const draw_options& options, index_t documents) {
  if (options.samples < 1) {
    throw option_error("samples is " + std::to_string(options.samples) + ", expected at least 1");
  }
  if (options.select < 1 || options.select > documents) {
    throw option_error("select is " + std::to_string(options.select) + ", expected 1 to " + std::to_string(documents) +
                       ", the number of documents");
  }
  constexpr index_t most = index_t{1} << 29;
  if (documents > most) {
    throw option_error("documents is " + std::to_string(documents) + ", expected at most " + std::to_string(most));
  }
}

}  // namespace dro

#endif
