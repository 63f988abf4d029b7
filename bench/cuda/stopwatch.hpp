// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BENCH_CUDA_STOPWATCH_HPP
#define DRO_BENCH_CUDA_STOPWATCH_HPP

/// \file
/// Time on a GPU, between two events on its stream.

#include <stdexcept>
#include <string>

#include <cuda_runtime_api.h>

namespace dro_bench {

/// Throws std::runtime_error, which names the call, unless it went well.
inline void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(code));
}

/// Two events around what is queued between them.
class stopwatch {
 public:
  explicit stopwatch(cudaStream_t stream) : stream_(stream) {
    check(cudaEventCreate(&start_), "cudaEventCreate");
    check(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  ~stopwatch() {
    static_cast<void>(cudaEventDestroy(start_));
    static_cast<void>(cudaEventDestroy(stop_));
  }
  stopwatch(const stopwatch&) = delete;
  stopwatch& operator=(const stopwatch&) = delete;

  /// Seconds that the device took for what f() queues. Waits.
  template <class F>
  [[nodiscard]] double time(F&& f) {
    check(cudaEventRecord(start_, stream_), "cudaEventRecord");
    f();
    check(cudaEventRecord(stop_, stream_), "cudaEventRecord");
    check(cudaEventSynchronize(stop_), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
};

}  // namespace dro_bench

#endif
