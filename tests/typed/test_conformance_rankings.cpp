// SPDX-License-Identifier: Apache-2.0
#include <Eigen/Core>
#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/testing.hpp>
#include <dro/testing/conformance.hpp>

#include "support/backends.hpp"

DRO_CONFORMANCE_BASICS("Eigen, column-major", dro::eigen_backend<Eigen::ColMajor>);
DRO_CONFORMANCE_RANKINGS("Eigen, column-major", dro::eigen_backend<Eigen::ColMajor>);
DRO_CONFORMANCE_BASICS("Eigen, row-major", dro::eigen_backend<Eigen::RowMajor>);
DRO_CONFORMANCE_RANKINGS("Eigen, row-major", dro::eigen_backend<Eigen::RowMajor>);
DRO_CONFORMANCE_BASICS("deferred", dro::deferred_backend);
DRO_CONFORMANCE_RANKINGS("deferred", dro::deferred_backend);
DRO_CONFORMANCE_BASICS("a user's own", test::user_backend);
DRO_CONFORMANCE_RANKINGS("a user's own", test::user_backend);
