// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_CONTEXT_HPP
#define DRO_BACKEND_CUDA_CONTEXT_HPP

/// \file
/// What a cuda_backend and its matrices share: a device, a stream, a pool of memory, a cuBLAS handle.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <dro/backend/cuda/error.hpp>
#include <dro/backend/cuda/row_plan.hpp>
#include <dro/backend/cuda/staging.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// How a cuda_backend is set up. A stream and a handle of the caller's are used, never destroyed, and must outlive the
/// backend and its matrices.
struct cuda_options {
  int device = 0;                         ///< number of the GPU, as CUDA counts them
  cudaStream_t stream = nullptr;          ///< nullptr: a stream of its own; cudaStreamLegacy is CUDA's default one
  cublasHandle_t blas = nullptr;          ///< nullptr: a handle of its own, made when first needed
  std::uint64_t keep_bytes = UINT64_MAX;  ///< freed memory the pool keeps at a wait; default: all of it
};

/// Bytes of device memory of a cuda_backend.
struct cuda_memory {
  std::uint64_t used = 0;      ///< held by matrices and workspaces now
  std::uint64_t peak = 0;      ///< the most that was held at once since the last reset_peak
  std::uint64_t reserved = 0;  ///< taken from the device; what is not used is kept for later matrices
};

namespace detail::cuda {

/// Makes `device` the current one of this thread, and the one before it again at the end.
class device_scope {
 public:
  explicit device_scope(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ == device) return;
    check(cudaSetDevice(device), "cudaSetDevice");
    moved_ = true;
  }
  ~device_scope() {
    if (moved_) static_cast<void>(cudaSetDevice(before_));
  }
  device_scope(const device_scope&) = delete;
  device_scope& operator=(const device_scope&) = delete;

 private:
  int before_ = 0;
  bool moved_ = false;
};

class context;

/// A piece of device memory. Its end is queued: what was queued before it may still use the memory.
class block {
 public:
  block(std::shared_ptr<context> home, void* data, std::size_t bytes)
      : home_(std::move(home)), data_(data), bytes_(bytes) {}
  ~block();
  block(const block&) = delete;
  block& operator=(const block&) = delete;

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<context> home_;
  void* data_;
  std::size_t bytes_;
};

/// Memory that a captured graph works in. Allocations do not become nodes of the graph: a replay is kernels only, and
/// everything the kernels point to stays for as long as the graph.
struct captured_memory {
  std::vector<std::shared_ptr<block>> made;     ///< during the capture; what has no other owner is given out again
  std::vector<std::shared_ptr<block>> adopted;  ///< older, and let go by its owner during the capture
};

/// For one host thread at a time. Lives until the backend and the last of its matrices and graphs are gone.
class context : public std::enable_shared_from_this<context> {
 public:
  explicit context(const cuda_options& options) : device_(options.device) {
    int devices = 0;
    check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
    if (device_ < 0 || device_ >= devices) {
      throw option_error("cuda_options: device is " + std::to_string(device_) + ", expected 0 to " +
                         std::to_string(devices - 1));
    }
    const device_scope scope(device_);
    check(cudaFree(nullptr), "cudaFree");  // starts the device, or says why it cannot be started
    limits_.processors = attribute(cudaDevAttrMultiProcessorCount);
    limits_.threads = attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
    limits_.shared = static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
    limits_.shared_reserved = static_cast<std::size_t>(attribute(cudaDevAttrReservedSharedMemoryPerBlock));
    limits_.shared_per_block = static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));

    cudaMemPoolProps props{};
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    props.location.id = device_;
    try {
      check(cudaMemPoolCreate(&pool_, &props), "cudaMemPoolCreate");
      std::uint64_t keep = options.keep_bytes;
      check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
      if (options.stream != nullptr) {
        stream_ = options.stream;
      } else {
        check(cudaStreamCreateWithFlags(&own_stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
        stream_ = own_stream_;
      }
    } catch (...) {
      destroy();
      throw;
    }
    blas_ = options.blas;
  }
  ~context() { destroy(); }
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  [[nodiscard]] int device() const { return device_; }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] const device_limits& limits() const { return limits_; }
  [[nodiscard]] bool capturing() const { return capture_ != nullptr; }

  /// The handle, on this context's stream or, if it is the caller's, on whatever stream the caller set.
  [[nodiscard]] cublasHandle_t blas() {
    if (blas_ == nullptr) {
      check(cublasCreate(&own_blas_), "cublasCreate");
      check(cublasSetStream(own_blas_, stream_), "cublasSetStream");
      blas_ = own_blas_;
    }
    return blas_;
  }

  /// Memory for what is queued from now on; null for 0 bytes. Contents unspecified. Throws device_memory_error.
  [[nodiscard]] std::shared_ptr<block> allocate(std::size_t bytes) {
    if (bytes == 0) return nullptr;
    const device_scope scope(device_);
    if (capture_ == nullptr) return std::make_shared<block>(shared_from_this(), take(bytes, stream_), bytes);
    // In the order of the stream, memory that nobody owns any more is free for what is queued next.
    const auto unused = std::find_if(capture_->made.begin(), capture_->made.end(),
                                     [&](const auto& made) { return made.use_count() == 1 && made->bytes() == bytes; });
    if (unused != capture_->made.end()) return *unused;
    cudaStream_t aside = nullptr;  // the pool cannot be asked on a stream that is being captured
    check(cudaStreamCreateWithFlags(&aside, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    void* data = nullptr;
    try {
      data = take(bytes, aside);
      check(cudaStreamSynchronize(aside), "cudaStreamSynchronize");
    } catch (...) {
      static_cast<void>(cudaStreamDestroy(aside));
      throw;
    }
    check(cudaStreamDestroy(aside), "cudaStreamDestroy");
    capture_->made.push_back(std::make_shared<block>(shared_from_this(), data, bytes));
    return capture_->made.back();
  }

  /// Queues the end of memory from `allocate`. During a capture the graph keeps it.
  void release(void* data, std::size_t bytes) noexcept {
    if (capture_ != nullptr) {
      capture_->adopted.push_back(std::make_shared<block>(shared_from_this(), data, bytes));
    } else {
      // Nothing can be done about a failure, and after a failed kernel or at the end of the process there are some.
      int before = device_;
      static_cast<void>(cudaGetDevice(&before));
      if (before != device_) static_cast<void>(cudaSetDevice(device_));
      static_cast<void>(cudaFreeAsync(data, stream_));
      if (before != device_) static_cast<void>(cudaSetDevice(before));
    }
  }

  /// Remembers the name of a program that is about to be queued, for the message of an error that shows later.
  void note(const char* program) {
    noted_[next_note_] = program;
    next_note_ = (next_note_ + 1) % noted_.size();
  }

  /// `check` for calls that report what went wrong in work queued before.
  void check_queued(cudaError_t code, const char* call) const {
    if (code == cudaSuccess) return;
    std::string programs;
    for (std::size_t i = 0; i < noted_.size(); ++i) {
      const char* program = noted_[(next_note_ + i) % noted_.size()];
      if (program != nullptr) programs += (programs.empty() ? "" : ", then ") + std::string(program);
    }
    fail(code, programs.empty() ? call : std::string(call) + " (queued last: " + programs + ")");
  }

  /// Queues a copy to the device. `source` may be changed when this returns: a large copy is waited for.
  void upload(void* target, const void* source, std::size_t bytes) {
    if (bytes <= staging::most_bytes) {
      if (staging_ == nullptr) staging_ = std::make_unique<staging>();
      staging_->copy(target, source, bytes, stream_);
    } else {
      check_queued(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
      synchronise();
    }
  }

  void synchronise() const { check_queued(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  /// Throws device_capture_error during a capture.
  void refuse_in_capture(const char* what, const char* reason) const {
    if (capturing()) throw device_capture_error(what, reason);
  }

  void begin_capture() {
    refuse_in_capture("capture", "a capture is under way on this stream");
    static_cast<void>(blas());  // its workspace cannot be made during a capture
    auto memory = std::make_unique<captured_memory>();
    // Relaxed: what must not happen in a capture the backend refuses, by name, and first uses of kernels may load them.
    check_queued(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    capture_ = std::move(memory);
  }

  /// What was captured, and the memory it works in. The caller destroys the graph.
  [[nodiscard]] std::pair<cudaGraph_t, std::unique_ptr<captured_memory>> end_capture() {
    cudaGraph_t graph = nullptr;
    const cudaError_t code = cudaStreamEndCapture(stream_, &graph);
    auto memory = std::move(capture_);
    check(code, "cudaStreamEndCapture");
    return {graph, std::move(memory)};
  }

  [[nodiscard]] cuda_memory memory() const {
    cuda_memory m;
    check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemCurrent, &m.used), "cudaMemPoolGetAttribute");
    check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &m.peak), "cudaMemPoolGetAttribute");
    check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &m.reserved), "cudaMemPoolGetAttribute");
    return m;
  }
  void reset_peak() const {
    std::uint64_t zero = 0;
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &zero), "cudaMemPoolSetAttribute");
  }

 private:
  [[nodiscard]] int attribute(cudaDeviceAttr which) const {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device_), "cudaDeviceGetAttribute");
    return value;
  }

  [[nodiscard]] void* take(std::size_t bytes, cudaStream_t stream) const {
    void* data = nullptr;
    const cudaError_t code = cudaMallocFromPoolAsync(&data, bytes, pool_, stream);
    if (code == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      std::size_t free = 0, total = 0;
      check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
      throw device_memory_error("cudaMallocFromPoolAsync on device " + std::to_string(device_), bytes, free);
    }
    check_queued(code, "cudaMallocFromPoolAsync");
    return data;
  }

  void destroy() noexcept {
    int before = device_;
    static_cast<void>(cudaGetDevice(&before));
    if (before != device_) static_cast<void>(cudaSetDevice(device_));
    staging_.reset();
    if (own_blas_ != nullptr) static_cast<void>(cublasDestroy(own_blas_));
    if (own_stream_ != nullptr) static_cast<void>(cudaStreamDestroy(own_stream_));
    if (pool_ != nullptr) static_cast<void>(cudaMemPoolDestroy(pool_));
    if (before != device_) static_cast<void>(cudaSetDevice(before));
  }

  int device_;
  device_limits limits_;
  cudaMemPool_t pool_ = nullptr;
  cudaStream_t own_stream_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cublasHandle_t own_blas_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  std::unique_ptr<staging> staging_;
  std::unique_ptr<captured_memory> capture_;
  std::array<const char*, 4> noted_ = {};
  std::size_t next_note_ = 0;
};

inline block::~block() { home_->release(data_, bytes_); }

}  // namespace detail::cuda
}  // namespace dro

#endif
