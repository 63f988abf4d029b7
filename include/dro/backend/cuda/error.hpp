// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_ERROR_HPP
#define DRO_BACKEND_CUDA_ERROR_HPP

/// \file
/// What CUDA and cuBLAS return, as exceptions of dro/error.hpp.

#include <string>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <dro/error.hpp>

namespace dro::detail::cuda {

/// Throws the exception that `code` stands for; `call` names what returned it. An error that CUDA keeps for the next
/// call is taken from it, unless the device is lost to this process.
[[noreturn]] inline void fail(cudaError_t code, const std::string& call) {
  static_cast<void>(cudaGetLastError());
  const std::string reason = std::string(cudaGetErrorString(code)) + " (" + cudaGetErrorName(code) + ")";
  switch (code) {
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorInitializationError:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      throw no_device_error(call, reason);
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidKernelImage:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
      throw device_architecture_error(call, reason);
    default:
      if (code >= cudaErrorStreamCaptureUnsupported && code <= cudaErrorStreamCaptureWrongThread) {
        throw device_capture_error(call, reason);
      }
      throw device_error(call, reason);
  }
}

inline void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) fail(code, call);
}

inline void check(cublasStatus_t code, const std::string& call) {
  if (code == CUBLAS_STATUS_SUCCESS) return;
  const std::string reason = std::string(cublasGetStatusString(code)) + " (" + cublasGetStatusName(code) + ")";
  if (code == CUBLAS_STATUS_ARCH_MISMATCH) throw device_architecture_error(call, reason);
  throw device_error(call, reason);
}

}  // namespace dro::detail::cuda

#endif
