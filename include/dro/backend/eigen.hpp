// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_EIGEN_HPP
#define DRO_BACKEND_EIGEN_HPP

/// \file
/// Eigen matrices, column-major (Eigen's default) or row-major.

#include <Eigen/Core>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>

namespace dro {

namespace detail {

/// C ← α A X + β C by Eigen's product, see dro::matmul. Not a part of the backend, so that its two layouts share it.
template <class T>
class eigen_product {
 public:
  static void multiply(T alpha, const matrix_view<const T>& a, const matrix_view<const T>& x, T beta,
                       const matrix_view<T>& c) {
    if (c.row_stride != 1 && c.col_stride == 1) {  // row-major: Cᵀ = Xᵀ Aᵀ is column-major
      return multiply(alpha, transposed(x), transposed(a), beta, transposed(c));
    }
    if (c.row_stride == 1 && c.col_stride >= 0) {
      add_product(alpha, a, x, beta, map<columns>(c.data, c.rows, c.cols, Eigen::OuterStride<>(c.col_stride)));
      return;
    }
    columns product(c.rows, c.cols);
    add_product(alpha, a, x, T(0), map<columns>(product.data(), c.rows, c.cols, Eigen::OuterStride<>(c.rows)));
    for (index_t i = 0; i < c.rows; ++i) {
      for (index_t j = 0; j < c.cols; ++j) c(i, j) = product(i, j) + (beta == T(0) ? T(0) : beta * c(i, j));
    }
  }

 private:
  using columns = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
  template <class M>
  using map = Eigen::Map<M, Eigen::Unaligned, Eigen::OuterStride<>>;

  static void add_product(T alpha, const matrix_view<const T>& a, const matrix_view<const T>& x, T beta,
                          map<columns> c) {
    if (beta == T(0)) {
      c.setZero();
    } else {
      c *= beta;
    }
    if (alpha == T(0)) return;
    with_factor(
        a, [&](const auto& left) { with_factor(x, [&](const auto& right) { c.noalias() += alpha * left * right; }); });
  }

  /// Calls f with an Eigen object that has the elements of `view`: the memory itself where one of the strides is 1.
  template <class F>
  static void with_factor(const matrix_view<const T>& view, F&& f) {
    if (view.row_stride == 1 && view.col_stride >= 0) {
      f(map<const columns>(view.data, view.rows, view.cols, Eigen::OuterStride<>(view.col_stride)));
    } else if (view.col_stride == 1 && view.row_stride >= 0) {
      f(map<const columns>(view.data, view.cols, view.rows, Eigen::OuterStride<>(view.row_stride)).transpose());
    } else {
      const columns copy = columns::NullaryExpr(view.rows, view.cols, view);
      f(map<const columns>(copy.data(), copy.rows(), copy.cols(), Eigen::OuterStride<>(copy.rows())));
    }
  }
};

}  // namespace detail

/// Host backend whose matrices are Eigen::Matrix<T, Dynamic, Dynamic, Layout>.
template <int Layout = Eigen::ColMajor>
class eigen_backend : public host_base {
 public:
  template <class T>
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Layout>;

  using host_base::host_base;

  template <class T>
  [[nodiscard]] matrix<T> make(index_t rows, index_t cols) const {
    return matrix<T>(rows, cols);
  }
  /// Any Eigen object with plain storage: a matrix, a vector, a Map, a Ref or a block of one. An expression that has
  /// yet to be evaluated does not compile: call eval() first.
  template <class Derived>
  [[nodiscard]] auto view(Eigen::DenseBase<Derived>& m) const {
    return view_of<typename Derived::Scalar>(m.derived());
  }
  template <class Derived>
  [[nodiscard]] auto view(const Eigen::DenseBase<Derived>& m) const {
    return view_of<const typename Derived::Scalar>(m.derived());
  }

  /// C ← α A X + β C, see dro::matmul, by Eigen's product. An operand without a unit stride is copied first. Products
  /// of a batch are spread over the backend's threads; Eigen's own threads inside a product are as Eigen is set up.
  template <class T>
  void matmul(T alpha, matrix_view<const T> a, matrix_view<const T> x, T beta, matrix_view<T> c,
              const matmul_options& options) const {
    pool().for_ranges(options.batch, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) {
        const auto part = [i](auto view, index_t stride) {
          view.data += i * stride;
          return view;
        };
        detail::eigen_product<T>::multiply(alpha, part(a, options.stride_a), part(x, options.stride_b), beta,
                                           part(c, options.stride_c));
      }
    });
  }

 private:
  template <class T, class Derived>
  static matrix_view<T> view_of(Derived& m) {
    static_assert((Eigen::internal::traits<std::remove_const_t<Derived>>::Flags & Eigen::DirectAccessBit) != 0,
                  "dro: eigen_backend sees only objects with memory of their own; call .eval() on the expression");
    const bool row_major = std::remove_const_t<Derived>::IsRowMajor;
    return {m.data(), m.rows(), m.cols(), row_major ? m.outerStride() : m.innerStride(),
            row_major ? m.innerStride() : m.outerStride()};
  }
};

static_assert(backend<eigen_backend<Eigen::ColMajor>> && backend<eigen_backend<Eigen::RowMajor>>);

}  // namespace dro

#endif
