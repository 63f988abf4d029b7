// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_CUH
#define DRO_BACKEND_CUDA_CUH

/// \file
/// cuda_backend for a file that nvcc compiles: any program can be run, those of the library and one's own.

#include <dro/backend/cuda.hpp>
#include <dro/backend/cuda/launch.cuh>

#endif
