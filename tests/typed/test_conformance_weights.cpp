// SPDX-License-Identifier: Apache-2.0
#include <Eigen/Core>
#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/testing.hpp>
#include <dro/testing/conformance.hpp>

#include "support/backends.hpp"

DRO_CONFORMANCE_WEIGHTS("Eigen, column-major", dro::eigen_backend<Eigen::ColMajor>);
DRO_CONFORMANCE_WEIGHTS("deferred", dro::deferred_backend);
DRO_CONFORMANCE_WEIGHTS("a user's own", test::user_backend);
