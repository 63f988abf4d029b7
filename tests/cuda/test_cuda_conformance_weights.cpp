// SPDX-License-Identifier: Apache-2.0
#include <dro/backend/cuda.hpp>
#include <dro/testing/conformance.hpp>

#include "cuda/devices.hpp"

DRO_CUDA_CONFORMANCE("weights", check_weights);
DRO_CUDA_CONFORMANCE("calibrations", check_calibrations);
DRO_CUDA_CONFORMANCE("objectives", check_objectives);
