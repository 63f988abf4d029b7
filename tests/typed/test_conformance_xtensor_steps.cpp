// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#if __has_include(<xtensor/xtensor.hpp>) || __has_include(<xtensor/containers/xtensor.hpp>)

#include <dro/backend/xtensor.hpp>
#include <dro/testing/conformance.hpp>

namespace {

using rows = dro::xtensor_backend<xt::layout_type::row_major>;
using columns = dro::xtensor_backend<xt::layout_type::column_major>;

}  // namespace

DRO_CONFORMANCE_STEPS("xtensor, row-major", rows);
DRO_CONFORMANCE_PROPOSAL_STEPS("xtensor, row-major", rows);
DRO_CONFORMANCE_SCORE_SPACE("xtensor, column-major", columns);

#else

TEST_CASE("xtensor is not installed" * doctest::skip()) {}

#endif
