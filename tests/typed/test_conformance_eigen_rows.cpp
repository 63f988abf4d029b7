// SPDX-License-Identifier: Apache-2.0
// Weights, steps and proposals on Eigen's row-major matrices.
#include <Eigen/Core>

#include <dro/backend/eigen.hpp>
#include <dro/testing/conformance.hpp>

DRO_CONFORMANCE_WEIGHTS("Eigen, row-major", dro::eigen_backend<Eigen::RowMajor>);
DRO_CONFORMANCE_STEPS("Eigen, row-major", dro::eigen_backend<Eigen::RowMajor>);
DRO_CONFORMANCE_PROPOSAL_STEPS("Eigen, row-major", dro::eigen_backend<Eigen::RowMajor>);
