// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_BACKENDS_HPP
#define DRO_TESTS_SUPPORT_BACKENDS_HPP

/// \file
/// The backends and the settings that typed tests run in: every backend, float and double.

#include <cstddef>
#include <vector>

#include <Eigen/Core>
#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>

namespace test {

/// A user's tensor: every element has three neighbours of padding in its row, and rows have padding of their own.
template <class T>
struct sparse_tensor {
  dro::index_t rows = 0, cols = 0;
  std::vector<T> memory;
  [[nodiscard]] dro::index_t pitch() const { return 4 * cols + 5; }
};

/// A backend of the user's own, on two threads.
class user_backend : public dro::host_base {
 public:
  template <class T>
  using matrix = sparse_tensor<T>;

  explicit user_backend(int threads = 2) : dro::host_base(threads) {}

  template <class T>
  [[nodiscard]] matrix<T> make(dro::index_t rows, dro::index_t cols) const {
    matrix<T> m{rows, cols, {}};
    m.memory.assign(static_cast<std::size_t>(rows * m.pitch()), T(-77));
    return m;
  }
  template <class T>
  [[nodiscard]] dro::matrix_view<T> view(matrix<T>& m) const {
    return {m.memory.data(), m.rows, m.cols, m.pitch(), 4};
  }
  template <class T>
  [[nodiscard]] dro::matrix_view<const T> view(const matrix<T>& m) const {
    return {m.memory.data(), m.rows, m.cols, m.pitch(), 4};
  }
};

template <class Backend, class Scalar>
struct setting {
  using backend = Backend;
  using scalar = Scalar;
};

template <class T>
using on_host = setting<dro::host_backend, T>;
template <class T>
using on_eigen_columns = setting<dro::eigen_backend<Eigen::ColMajor>, T>;
template <class T>
using on_eigen_rows = setting<dro::eigen_backend<Eigen::RowMajor>, T>;
template <class T>
using on_deferred = setting<dro::deferred_backend, T>;
template <class T>
using on_counting = setting<dro::counting_backend<dro::host_backend>, T>;

}  // namespace test

/// The list for TEST_CASE_TEMPLATE.
#define DRO_TEST_SETTINGS                                                                                           \
  test::on_host<float>, test::on_host<double>, test::on_eigen_columns<float>, test::on_eigen_columns<double>,       \
      test::on_eigen_rows<float>, test::on_eigen_rows<double>, test::on_deferred<float>, test::on_deferred<double>, \
      test::on_counting<float>, test::on_counting<double>

TYPE_TO_STRING(test::on_host<float>);
TYPE_TO_STRING(test::on_host<double>);
TYPE_TO_STRING(test::on_eigen_columns<float>);
TYPE_TO_STRING(test::on_eigen_columns<double>);
TYPE_TO_STRING(test::on_eigen_rows<float>);
TYPE_TO_STRING(test::on_eigen_rows<double>);
TYPE_TO_STRING(test::on_deferred<float>);
TYPE_TO_STRING(test::on_deferred<double>);
TYPE_TO_STRING(test::on_counting<float>);
TYPE_TO_STRING(test::on_counting<double>);

#endif
