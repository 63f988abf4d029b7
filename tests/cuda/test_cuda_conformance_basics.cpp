// SPDX-License-Identifier: Apache-2.0
#include <dro/backend/cuda.hpp>
#include <dro/testing/conformance.hpp>

#include "cuda/devices.hpp"

TEST_CASE("conformance of the CUDA backend: basics") {
  if (!test::has_devices(1)) return;
  dro::cuda_backend b;
  dro::testing::findings found;
  dro::testing::check_basics(b, found);
  dro::testing::report(found);
}
