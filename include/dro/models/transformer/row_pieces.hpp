// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_ROW_PIECES_HPP
#define DRO_MODELS_TRANSFORMER_ROW_PIECES_HPP

/// \file
/// Some rows of a matrix: the ends of sequences, or pieces of which what is made fits into a workspace.

#include <string>
#include <type_traits>

#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro::models {

/// Rows [first, first + count) of a matrix.
template <class T>
[[nodiscard]] constexpr matrix_view<T> rows_of(const matrix_view<T>& all, index_t first, index_t count) {
  return {all.data + first * all.row_stride, count, all.cols, all.row_stride, all.col_stride};
}

template <class T>
[[nodiscard]] constexpr factor_view<T> rows_of(const factor_view<T>& all, index_t first, index_t count) {
  const auto part = [=](const auto& view) {
    return view.data == nullptr ? std::remove_cvref_t<decltype(view)>{nullptr, count, view.cols}
                                : rows_of(view, first, count);
  };
  return {part(all.exact), part(all.rounded)};
}

/// The last of each `length` rows.
template <class T>
[[nodiscard]] constexpr matrix_view<T> ends_of_sequences(const matrix_view<T>& all, index_t length) {
  return {all.data + (length - 1) * all.row_stride, all.rows / length, all.cols, length * all.row_stride,
          all.col_stride};
}

/// Calls f(first, count) for pieces of `rows` rows, in their order, of which `cols` numbers each fit into `workspace`
/// [elements × 1]. Throws shape_error, which begins with `who`, where not even one row fits.
template <class T, class F>
void for_each_row_piece(index_t rows, index_t cols, const matrix_view<T>& workspace, const char* who, F&& f) {
  if (workspace.cols != 1 || workspace.row_stride != 1 || workspace.rows < cols) {
    throw shape_error(std::string(who) + ": workspace is " + dro::detail::shape_text(workspace.rows, workspace.cols) +
                      ", expected one column of at least " + std::to_string(cols));
  }
  const index_t most = cols > 0 ? workspace.rows / cols : rows;
  for (index_t first = 0; first < rows; first += most) f(first, rows - first < most ? rows - first : most);
}

}  // namespace dro::models

#endif
