// SPDX-License-Identifier: Apache-2.0
// On a machine without a GPU or a driver: what cuda_backend says. The toolkit is enough to build this.
#include <doctest/doctest.h>

#include <string>

#include <cuda_runtime_api.h>

#include <dro/backend/cuda.hpp>
#include <dro/error.hpp>

namespace {

int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace

TEST_CASE("a backend on a machine without a GPU says what is missing") {
  if (device_count() > 0) {
    MESSAGE("not tested: there is a GPU");
    return;
  }
  try {
    dro::cuda_backend b;
    FAIL("a backend without a device");
  } catch (const dro::no_device_error& e) {
    CHECK(e.call() == "cudaGetDeviceCount");
    const std::string what = e.what();
    CAPTURE(what);
    CHECK(what.starts_with("cudaGetDeviceCount: "));
    // The library's own words, and the name of the code to search for.
    const bool is_named = what.find("(cudaErrorNoDevice)") != std::string::npos ||
                          what.find("(cudaErrorInsufficientDriver)") != std::string::npos ||
                          what.find("(cudaErrorStubLibrary)") != std::string::npos;
    CHECK(is_named);
  }
  SUBCASE("as any error of the library") { CHECK_THROWS_AS(dro::cuda_backend{}, dro::error); }
  SUBCASE("and again the second time") { CHECK_THROWS_AS(dro::cuda_backend{}, dro::no_device_error); }
}

TEST_CASE("codes of CUDA and cuBLAS become the errors they stand for") {
  using dro::detail::cuda::check;
  CHECK_NOTHROW(check(cudaSuccess, "f"));
  CHECK_NOTHROW(check(CUBLAS_STATUS_SUCCESS, "f"));
  CHECK_THROWS_AS(check(cudaErrorNoDevice, "f"), dro::no_device_error);
  CHECK_THROWS_AS(check(cudaErrorInsufficientDriver, "f"), dro::no_device_error);
  CHECK_THROWS_AS(check(cudaErrorNoKernelImageForDevice, "f"), dro::device_architecture_error);
  CHECK_THROWS_AS(check(cudaErrorUnsupportedPtxVersion, "f"), dro::device_architecture_error);
  CHECK_THROWS_AS(check(CUBLAS_STATUS_ARCH_MISMATCH, "f"), dro::device_architecture_error);
  CHECK_THROWS_AS(check(cudaErrorStreamCaptureUnsupported, "f"), dro::device_capture_error);
  CHECK_THROWS_AS(check(cudaErrorStreamCaptureWrongThread, "f"), dro::device_capture_error);
  const std::string address = cudaGetErrorString(cudaErrorIllegalAddress);
  CHECK_THROWS_WITH_AS(check(cudaErrorIllegalAddress, "cudaStreamSynchronize"),
                       ("cudaStreamSynchronize: " + address + " (cudaErrorIllegalAddress)").c_str(), dro::device_error);
  const std::string unsupported = cublasGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK_THROWS_WITH_AS(check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasGemm"),
                       ("cublasGemm: " + unsupported + " (CUBLAS_STATUS_NOT_SUPPORTED)").c_str(), dro::device_error);
  const dro::device_memory_error memory("cudaMallocFromPoolAsync on device 0", 4096, 1024);
  CHECK(std::string(memory.what()) ==
        "cudaMallocFromPoolAsync on device 0: out of memory: 4096 bytes asked for, 1024 free on the device");
  CHECK(memory.bytes_asked() == 4096);
  CHECK(memory.bytes_free() == 1024);
}

TEST_CASE("cuBLAS sees a view as the column-major matrix at its place") {
  using dro::detail::cuda::as_blas;
  const auto seen = [](dro::index_t rows, dro::index_t cols, dro::index_t row_stride, dro::index_t col_stride) {
    return as_blas(dro::matrix_view<float>{nullptr, rows, cols, row_stride, col_stride}, "A");
  };
  const auto is = [](const dro::detail::cuda::blas_operand& o, bool transposed, std::int64_t leading) {
    return o.transposed == transposed && o.leading == leading;
  };
  CHECK(is(seen(3, 4, 4, 1), true, 4));   // row-major
  CHECK(is(seen(3, 4, 9, 1), true, 9));   // with padded rows
  CHECK(is(seen(3, 4, 1, 3), false, 3));  // column-major
  CHECK(is(seen(3, 4, 1, 7), false, 7));  // with padded columns
  CHECK(is(seen(3, 1, 5, 2), true, 5));   // a column of a matrix: each row is one element
  CHECK(is(seen(1, 4, 0, 5), false, 5));  // a row of a column-major one: each column is one element
  CHECK(is(seen(1, 4, 0, 1), true, 4));   // a row
  CHECK(is(seen(1, 1, 0, 0), true, 1));
  CHECK_THROWS_WITH_AS(static_cast<void>(seen(3, 4, 8, 2)),
                       "matmul: A [3 × 4] has strides 8 and 2, cuBLAS takes rows or columns that lie in one piece",
                       dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(seen(3, 4, 0, 1)), dro::shape_error);  // one row three times
}
