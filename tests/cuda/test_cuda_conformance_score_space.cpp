// SPDX-License-Identifier: Apache-2.0
#include <dro/backend/cuda.hpp>
#include <dro/testing/conformance.hpp>

#include "cuda/devices.hpp"

DRO_CUDA_CONFORMANCE("gradients by scores", check_score_space);
DRO_CUDA_CONFORMANCE("sets", check_sets);
