// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_STAGING_HPP
#define DRO_BACKEND_CUDA_STAGING_HPP

/// \file
/// Host memory that a copy to the device can be read from after the caller's own has changed.

#include <array>
#include <cstddef>
#include <cstring>

#include <cuda_runtime_api.h>

#include <dro/backend/cuda/error.hpp>

namespace dro::detail::cuda {

/// Two pieces of pinned memory, used in turn: a small copy waits only for the last but one before it.
class staging {
 public:
  /// The largest copy that goes through here.
  static constexpr std::size_t most_bytes = std::size_t{1} << 20;

  staging() = default;
  ~staging() {
    for (const slot& s : slots_) {
      if (s.copied != nullptr) static_cast<void>(cudaEventDestroy(s.copied));
      if (s.memory != nullptr) static_cast<void>(cudaFreeHost(s.memory));
    }
  }
  staging(const staging&) = delete;
  staging& operator=(const staging&) = delete;

  /// Queues the copy of `bytes` ≤ most_bytes from `source`, which may be changed when this returns.
  void copy(void* target, const void* source, std::size_t bytes, cudaStream_t stream) {
    slot& s = slots_[next_];
    next_ = 1 - next_;
    if (s.memory == nullptr) check(cudaMallocHost(&s.memory, most_bytes), "cudaMallocHost");
    if (s.copied == nullptr) {
      check(cudaEventCreateWithFlags(&s.copied, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    } else {
      check(cudaEventSynchronize(s.copied), "cudaEventSynchronize");
    }
    std::memcpy(s.memory, source, bytes);
    check(cudaMemcpyAsync(target, s.memory, bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
    check(cudaEventRecord(s.copied, stream), "cudaEventRecord");
  }

 private:
  struct slot {
    void* memory = nullptr;
    cudaEvent_t copied = nullptr;
  };
  std::array<slot, 2> slots_;
  std::size_t next_ = 0;
};

}  // namespace dro::detail::cuda

#endif
