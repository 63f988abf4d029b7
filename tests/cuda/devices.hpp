// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_CUDA_DEVICES_HPP
#define DRO_TESTS_CUDA_DEVICES_HPP

/// \file
/// How many GPUs there are, and the conformance suite on the CUDA backend, which needs one.

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

namespace test {

inline int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

/// Whether there are as many GPUs as a test wants; says so if not.
inline bool has_devices(int wanted) {
  const int count = device_count();
  if (count < wanted) MESSAGE("not tested: ", wanted, " GPUs needed, ", count, " there");
  return count >= wanted;
}

}  // namespace test

/// A group of the suite for float and double. Says what part of the derived bounds was used.
#define DRO_CUDA_CONFORMANCE(name, check)                                                               \
  TEST_CASE_TEMPLATE("conformance of the CUDA backend: " name, scalar, float, double) {                 \
    if (!test::has_devices(1)) return;                                                                  \
    dro::cuda_backend b;                                                                                \
    dro::testing::findings found;                                                                       \
    dro::testing::check<scalar>(b, found);                                                              \
    dro::testing::report(found);                                                                        \
    MESSAGE(name, ": ", found.cases, " cases, at most ", found.used_share, " of a derived bound used"); \
  }                                                                                                     \
  static_assert(true)

#endif
