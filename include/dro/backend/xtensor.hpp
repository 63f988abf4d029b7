// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_XTENSOR_HPP
#define DRO_BACKEND_XTENSOR_HPP

/// \file
/// xtensor arrays, row-major (xtensor's default) or column-major.

#include <cstddef>
#include <string>
#include <type_traits>

// xtensor 0.26 moved its headers to folders.
#if __has_include(<xtensor/containers/xtensor.hpp>)
#include <xtensor/containers/xtensor.hpp>
#else
#include <xtensor/xtensor.hpp>
#endif

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

namespace detail {

/// An xtensor object whose elements lie in memory at fixed strides.
template <class E>
concept strided_xtensor = requires(E& m) {
  m.data();
  m.data_offset();
  m.strides();
  m.shape();
};

}  // namespace detail

/// Host backend whose matrices are xt::xtensor<T, 2, Layout>.
template <xt::layout_type Layout = xt::layout_type::row_major>
class xtensor_backend : public host_base {
 public:
  template <class T>
  using matrix = xt::xtensor<T, 2, Layout>;

  using host_base::host_base;

  /// Contents unspecified. Throws shape_error if a size is negative.
  template <class T>
  [[nodiscard]] matrix<T> make(index_t rows, index_t cols) const {
    if (rows < 0 || cols < 0) throw shape_error("xtensor of shape " + detail::shape_text(rows, cols));
    return matrix<T>(typename matrix<T>::shape_type{static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)});
  }

  /// Any xtensor object with plain storage and one or two dimensions: a container (xtensor, xarray, xtensor_fixed), an
  /// adaptor (xt::adapt) or a strided view of one; one dimension is a column. An expression that has yet to be
  /// evaluated does not compile: call xt::eval first. Throws shape_error for another number of dimensions.
  template <class E>
  requires xt::is_xexpression<E>::value [[nodiscard]] auto view(E& m) const { return view_of(m); }
  template <class E>
  requires xt::is_xexpression<E>::value [[nodiscard]] auto view(const E& m) const { return view_of(m); }

 private:
  template <class E>
  static auto view_of(E& m) {
    static_assert(detail::strided_xtensor<E>,
                  "dro: xtensor_backend sees only objects with memory of their own; call xt::eval on the expression");
    if (m.dimension() != 1 && m.dimension() != 2) {
      throw shape_error("xtensor_backend: an array of " + std::to_string(m.dimension()) + " dimensions, expected 2");
    }
    const bool is_column = m.dimension() == 1;
    matrix_view<std::remove_pointer_t<decltype(m.data())>> v{
        m.data() + m.data_offset(), static_cast<index_t>(m.shape()[0]),
        is_column ? 1 : static_cast<index_t>(m.shape()[1]), static_cast<index_t>(m.strides()[0]),
        is_column ? 1 : static_cast<index_t>(m.strides()[1])};
    // xtensor gives a dimension of length 1 the stride 0. Here it gets the one it would have in row-major memory.
    if (v.cols == 1) v.col_stride = 1;
    if (v.rows == 1) v.row_stride = v.cols * v.col_stride;
    return v;
  }
};

static_assert(backend<xtensor_backend<xt::layout_type::row_major>> &&
              backend<xtensor_backend<xt::layout_type::column_major>>);

}  // namespace dro

#endif
