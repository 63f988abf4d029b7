// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_BACKENDS_HPP
#define DRO_TESTS_SUPPORT_BACKENDS_HPP

/// \file
/// The settings typed tests run in: every backend, float and double.

#include <Eigen/Core>
#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>

namespace test {

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
