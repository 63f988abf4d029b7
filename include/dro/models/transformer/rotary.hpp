// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_ROTARY_HPP
#define DRO_MODELS_TRANSFORMER_ROTARY_HPP

/// \file
/// Rotary positions (Su et al. 2021), and the layouts in which attention takes queries, keys and values.
///
/// A head's vector of dh numbers is dh/2 pairs (i, i + dh/2), as in Hugging Face's Llama; at position p pair i turns by
/// the angle p θ^(−2i/dh).

#include <string>
#include <type_traits>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/models/transformer/sequence_layout.hpp>

namespace dro::models {

/// How a projection [S·R × H·dh], R rows of each of S sequences, becomes a matrix for each sequence and head,
/// [S·H·L × dh]. The heads of a sequence lie below each other, so that those which share a key form one block of rows.
struct head_layout {
  index_t heads;      ///< H
  index_t dimension;  ///< dh
  row_span rows;      ///< the R rows and their place in a sequence
  bool in_place;      ///< whether row i goes to its place among L rows (keys, values), or L = R (queries)
  sequence_layout sequence;

  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t split_length() const {
    return in_place ? sequence.length : rows.count;
  }
  /// Row of the split matrix that holds head h of row n of the projection.
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t row(index_t n, index_t h) const {
    const index_t i = n % rows.count;
    return (n / rows.count * heads + h) * split_length() + (in_place ? rows(i) : i);
  }
};

namespace detail {

/// Splits heads and turns them, or, the other way round, turns them back and joins them: each is the other's transpose,
/// so each is the gradient of the other.
template <class T, class J, bool Join>
struct rotary_program {
  matrix_view<J> joined;              // [S·R × H·dh]
  matrix_view<T> split;               // [S·H·L × dh]
  matrix_view<const T> cosine, sine;  // [positions × dh/2]; no data: nothing turns
  head_layout layout;

  [[nodiscard]] index_t width() const { return layout.dimension / 2; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t n) const {
    const index_t pairs = layout.dimension / 2;
    const index_t position = layout.sequence.position(layout.rows(n % layout.rows.count));
    for (index_t h = 0; h < layout.heads; ++h) {  // no division for each pair
      const index_t row = layout.row(n, h);
      team.for_each(pairs, [&](index_t i) {
        const index_t col = h * layout.dimension + i;
        const T c = cosine.data == nullptr ? T(1) : cosine(position, i);
        const T s = cosine.data == nullptr ? T(0) : sine(position, i);
        if constexpr (Join) {
          const T x = split(row, i);
          const T y = split(row, i + pairs);
          joined(n, col) = rounded_to<J>(x * c + y * s);
          joined(n, col + pairs) = rounded_to<J>(y * c - x * s);
        } else {
          const T x = joined(n, col);
          const T y = joined(n, col + pairs);
          split(row, i) = x * c - y * s;
          split(row, i + pairs) = y * c + x * s;
        }
      });
    }
  }
};

template <class T, class J>
void require_heads(const matrix_view<J>& joined, const matrix_view<T>& split, const matrix_view<const T>& cosine,
                   const matrix_view<const T>& sine, const head_layout& layout) {
  if (layout.dimension % 2 != 0 || layout.heads < 1 || layout.rows.count < 1 || joined.rows % layout.rows.count != 0 ||
      layout.rows.end() > layout.sequence.length) {
    throw shape_error("rotary: " + std::to_string(joined.rows) + " rows, " + std::to_string(layout.rows.count) +
                      " of each sequence of " + std::to_string(layout.sequence.length) + ", " +
                      std::to_string(layout.heads) + " heads of " + std::to_string(layout.dimension) +
                      ": expected whole sequences, rows within them, and an even number");
  }
  require_shape(joined, joined.rows, layout.heads * layout.dimension, "rotary: joined heads");
  require_shape(split, joined.rows / layout.rows.count * layout.heads * layout.split_length(), layout.dimension,
                "rotary: split heads");
  if (cosine.data == nullptr) return;
  require_shape(cosine, sine.rows, layout.dimension / 2, "rotary: cosine");
  require_shape(sine, cosine.rows, layout.dimension / 2, "rotary: sine");
  const index_t last = layout.sequence.trunk + layout.sequence.branch;
  const index_t positions = last < layout.sequence.length ? last : layout.sequence.length;
  if (positions > cosine.rows) {
    throw shape_error("rotary: " + std::to_string(positions) + " positions, but a table of " +
                      std::to_string(cosine.rows));
  }
}

}  // namespace detail

/// Splits `joined` [S·R × H·dh] into heads [S·H·L × dh] and turns each by its position. `cosine` and `sine`
/// [positions × dh/2]; views of nothing turn nothing. Throws shape_error. Queues one program.
template <backend B, class T>
void split_heads(B& b, matrix_view<T> joined, matrix_view<T> split, std::type_identity_t<matrix_view<const T>> cosine,
                 std::type_identity_t<matrix_view<const T>> sine, const head_layout& layout) {
  detail::require_heads(joined, split, cosine, sine, layout);
  b.run(joined.rows, detail::rotary_program<T, T, false>{joined, split, cosine, sine, layout});
}

/// The inverse of split_heads, which is also its gradient; the numbers of `joined` may be bfloat16. Throws shape_error.
/// Queues one program.
template <backend B, class T, class J>
void join_heads(B& b, matrix_view<T> split, matrix_view<J> joined, std::type_identity_t<matrix_view<const T>> cosine,
                std::type_identity_t<matrix_view<const T>> sine, const head_layout& layout) {
  detail::require_heads(joined, split, cosine, sine, layout);
  b.run(joined.rows, detail::rotary_program<T, J, true>{joined, split, cosine, sine, layout});
}

}  // namespace dro::models

#endif
