// SPDX-License-Identifier: Apache-2.0
#include <dro/backend/cuda.hpp>
#include <dro/testing/conformance.hpp>

#include "cuda/devices.hpp"

DRO_CUDA_CONFORMANCE("steps with proposals", check_proposal_steps);
