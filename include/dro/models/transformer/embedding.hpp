// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_EMBEDDING_HPP
#define DRO_MODELS_TRANSFORMER_EMBEDDING_HPP

/// \file
/// A vector for each token, and the gradient of that table without a race: each of its rows collects its own tokens.

#include <cstdint>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>

namespace dro::models {

/// A token's number in the vocabulary.
using token_t = std::int32_t;
/// Marks a place without a token: padding, or nothing to predict.
inline constexpr token_t no_token = -1;

namespace detail {

template <class T>
struct embedding_program {
  matrix_view<const T> table;         // [V × D]
  matrix_view<const token_t> tokens;  // [N × 1]
  matrix_view<T> out;                 // [N × D]

  [[nodiscard]] index_t width() const { return table.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const index_t token = tokens(row, 0);
    const bool known = token >= 0 && token < table.rows;
    team.for_each(table.cols, [&](index_t j) { out(row, j) = known ? table(token, j) : T(0); });
  }
};

template <class T>
struct embedding_gradient_program {
  static constexpr index_t span = 256;  // places that a team looks through at once
  matrix_view<const token_t> tokens;
  matrix_view<const T> d_out;  // [N × D]
  matrix_view<T> d_table;      // [V × D], added to

  [[nodiscard]] index_t width() const { return d_table.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t token) const {
    for (index_t first = 0; first < tokens.rows; first += span) {
      const index_t count = tokens.rows - first < span ? tokens.rows - first : span;
      const auto is_here = [&](index_t k) { return static_cast<index_t>(tokens(first + k, 0) == token); };
      if (team.template sum<index_t>(count, is_here) == 0) continue;
      for (index_t k = 0; k < count; ++k) {
        if (is_here(k) == 0) continue;
        team.for_each(d_out.cols, [&](index_t j) { d_table(token, j) += d_out(first + k, j); });
        team.barrier();
      }
    }
  }
};

}  // namespace detail

/// out [N × D] ← the rows of `table` [V × D] that `tokens` [N × 1] name; zeros for a token out of range, as no_token
/// is. Throws shape_error. Queues one program.
template <backend B, class T>
void embedding(B& b, matrix_view<const T> table, matrix_view<const token_t> tokens, matrix_view<T> out) {
  require_shape(tokens, out.rows, 1, "embedding: tokens");
  require_shape(out, tokens.rows, table.cols, "embedding: out");
  b.run(out.rows, detail::embedding_program<T>{table, tokens, out});
}

/// Adds to each row of `d_table` [V × D] the rows of `d_out` [N × D] of its token, in their order: the same sum each
/// time. Throws shape_error. Queues one program; V N comparisons, which is little beside any product with the table.
template <backend B, class T>
void embedding_gradient(B& b, matrix_view<const token_t> tokens, matrix_view<const T> d_out, matrix_view<T> d_table) {
  require_shape(tokens, d_out.rows, 1, "embedding_gradient: tokens");
  require_shape(d_table, d_table.rows, d_out.cols, "embedding_gradient: d_table");
  b.run(d_table.rows, detail::embedding_gradient_program<T>{tokens, d_out, d_table});
}

}  // namespace dro::models

#endif
