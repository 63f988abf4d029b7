// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_SEQUENCE_LAYOUT_HPP
#define DRO_MODELS_TRANSFORMER_SEQUENCE_LAYOUT_HPP

/// \file
/// Where the tokens of a sequence stand and what each of them sees.

#include <cstdint>

#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>

namespace dro::models {

/// A sequence of L rows: a trunk, and after it branches of equal length that continue the trunk each for itself, as
/// several answers to one prompt do. A row sees the trunk up to itself and its own branch up to itself, so that the
/// trunk is computed once for all. A plain causal sequence is all trunk.
///
/// Shorter sequences are padded on the left, where `starts` says how far, so that all trunks end at one row; only
/// differences of positions matter to a rotary transformer. Padding on the right needs nothing: nobody sees it.
struct sequence_layout {
  index_t length;                               ///< L = trunk + branches · branch
  index_t trunk;                                ///< rows of the trunk, at least 1
  index_t branch = 1;                           ///< rows of each branch, at least 1
  matrix_view<const std::int32_t> starts = {};  ///< [S × 1]: the first row of each sequence that is no padding, or none

  /// A causal sequence without branches.
  [[nodiscard]] static constexpr sequence_layout plain(index_t length) { return {length, length}; }

  /// Position of row a: branches all begin where the trunk ends.
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t position(index_t a) const {
    return a < trunk ? a : trunk + (a - trunk) % branch;
  }
  /// What row a of a sequence sees: rows [begin, end) of the trunk, and [own, a] of its branch.
  struct sight {
    index_t begin, end, own, last;
    [[nodiscard]] DRO_HOST_DEVICE constexpr index_t of_trunk() const { return begin < end ? end - begin : 0; }
    /// How many rows that are.
    [[nodiscard]] DRO_HOST_DEVICE constexpr index_t count() const {
      return of_trunk() + (own <= last ? last - own + 1 : 0);
    }
    /// The k-th of them.
    [[nodiscard]] DRO_HOST_DEVICE constexpr index_t row(index_t k) const {
      return k < of_trunk() ? begin + k : own + (k - of_trunk());
    }
    /// Calls f(j) for each of the first `rows` rows, at least last + 1, that is not one of them. No barrier.
    template <class Team, class F>
    DRO_HOST_DEVICE void for_each_unseen(Team& team, index_t rows, F&& f) const {
      const auto between = [&](index_t from, index_t to) {
        team.for_each(to > from ? to - from : 0, [&](index_t k) { f(from + k); });
      };
      between(0, begin < end ? begin : end);
      between(end, own);
      between(last + 1, rows);
    }
  };
  [[nodiscard]] DRO_HOST_DEVICE constexpr sight seen_from(index_t sequence, index_t a) const {
    const index_t begin = starts.data == nullptr ? 0 : starts(sequence, 0);
    return a < trunk ? sight{begin, a + 1, a + 1, a} : sight{begin, trunk, trunk + (a - trunk) / branch * branch, a};
  }
};

/// Rows first, first + stride, … of every sequence: those a pass computes. Keys and values of the rows before them are
/// there already.
struct row_span {
  index_t count;
  index_t first = 0;
  index_t stride = 1;
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t operator()(index_t i) const { return first + i * stride; }
  [[nodiscard]] constexpr index_t end() const { return count > 0 ? (*this)(count - 1) + 1 : first; }
};

}  // namespace dro::models

#endif
