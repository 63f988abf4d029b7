// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_EIGEN_HPP
#define DRO_BACKEND_EIGEN_HPP

/// \file
/// Eigen matrices, column-major (Eigen's default) or row-major.

#include <Eigen/Core>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>

namespace dro {

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
