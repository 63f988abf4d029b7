// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_MATRIX_VIEW_HPP
#define DRO_BACKEND_MATRIX_VIEW_HPP

/// \file
/// The one way every algorithm sees a tensor: a pointer, a shape and strides.

#include <string>
#include <type_traits>

#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// A non-owning [rows × cols] matrix with strides counted in elements. Trivially copyable, so row programs hold it by
/// value. Constness is shallow, as in std::span: `matrix_view<const T>` is the read-only view.
template <class T>
struct matrix_view {
  using element_type = T;

  T* data = nullptr;
  index_t rows = 0;
  index_t cols = 0;
  index_t row_stride = 0;
  index_t col_stride = 1;

  DRO_HOST_DEVICE constexpr T& operator()(index_t row, index_t col) const {
    return data[row * row_stride + col * col_stride];
  }
  // NOLINTNEXTLINE(google-explicit-constructor): adding const loses nothing
  DRO_HOST_DEVICE constexpr operator matrix_view<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, cols, row_stride, col_stride};
  }
};

/// A view of `rows × cols` elements that lie one row after the other.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE constexpr matrix_view<T> row_major_view(T* data, index_t rows, index_t cols) {
  return {data, rows, cols, cols, 1};
}

/// The same memory with rows and columns exchanged, [cols × rows]. Nothing is moved.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE constexpr matrix_view<T> transposed(const matrix_view<T>& view) {
  return {view.data, view.cols, view.rows, view.col_stride, view.row_stride};
}

namespace detail {

inline std::string shape_text(index_t rows, index_t cols) {
  return std::string("[") + std::to_string(rows) + " × " + std::to_string(cols) + "]";
}

}  // namespace detail

/// Throws shape_error unless `view` is [rows × cols]; `what` names the argument in the message.
template <class T>
void require_shape(const matrix_view<T>& view, index_t rows, index_t cols, const char* what) {
  if (view.rows != rows || view.cols != cols) {
    throw shape_error(std::string(what) + " is " + detail::shape_text(view.rows, view.cols) + ", expected " +
                      detail::shape_text(rows, cols));
  }
}

}  // namespace dro

#endif
