// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_CONFIG_HPP
#define DRO_CONFIG_HPP

/// \file
/// Compiler settings every other header relies on.

#include <cstddef>
#include <cstdint>

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "dro represents impossible events as -inf: compile without -ffinite-math-only and -ffast-math"
#endif

#if defined(__CUDACC__)
/// Marks a function that a row program may call on the host and on a GPU.
#define DRO_HOST_DEVICE __host__ __device__
#else
#define DRO_HOST_DEVICE
#endif

#if defined(__CUDA_ARCH__)
/// Before a loop whose index picks from what is to lie in a GPU's registers: those cannot be indexed.
#define DRO_UNROLL _Pragma("unroll")
#else
#define DRO_UNROLL
#endif

namespace dro {

/// Sizes, row and column numbers, strides (in elements).
using index_t = std::ptrdiff_t;

/// Position of a document among the candidates of its query, 0-based; `no_document` where there is none.
using document_t = std::int32_t;
inline constexpr document_t no_document = -1;

}  // namespace dro

#endif
