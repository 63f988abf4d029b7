// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_BLAS_HPP
#define DRO_BACKEND_CUDA_BLAS_HPP

/// \file
/// Matrix products by cuBLAS, which knows column-major matrices with a leading dimension.

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>

#include <cublas_v2.h>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/cuda/context.hpp>
#include <dro/backend/cuda/error.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro::detail::cuda {

/// A view as BLAS sees it: the column-major matrix at the same place, and whether that is the view or its transpose.
struct blas_operand {
  bool transposed;
  std::int64_t leading;  ///< elements from one column to the next
};

/// Throws shape_error if neither rows nor columns of `view` lie in one piece.
template <class T>
[[nodiscard]] blas_operand as_blas(const matrix_view<T>& view, const char* what) {
  const index_t rows = std::max<index_t>(1, view.rows), cols = std::max<index_t>(1, view.cols);
  if ((cols == 1 || view.col_stride == 1) && (rows == 1 || view.row_stride >= cols)) {
    return {true, rows == 1 ? cols : view.row_stride};
  }
  if ((rows == 1 || view.row_stride == 1) && (cols == 1 || view.col_stride >= rows)) {
    return {false, cols == 1 ? rows : view.col_stride};
  }
  throw shape_error(std::string("matmul: ") + what + " " + shape_text(view.rows, view.cols) + " has strides " +
                    std::to_string(view.row_stride) + " and " + std::to_string(view.col_stride) +
                    ", cuBLAS takes rows or columns that lie in one piece");
}

/// Puts a handle on a stream for a scope. A caller's handle gets its own stream and pointer mode back.
class handle_scope {
 public:
  handle_scope(cublasHandle_t handle, cudaStream_t stream) : handle_(handle) {
    check(cublasGetStream(handle, &before_), "cublasGetStream");
    check(cublasGetPointerMode(handle, &mode_), "cublasGetPointerMode");
    // Setting the stream takes a workspace that the caller gave to the handle: only where it is another one.
    if (before_ != stream) check(cublasSetStream(handle, stream), "cublasSetStream");
    moved_ = before_ != stream;
    if (mode_ != CUBLAS_POINTER_MODE_HOST) {
      check(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_HOST), "cublasSetPointerMode");
    }
  }
  ~handle_scope() {
    if (mode_ != CUBLAS_POINTER_MODE_HOST) static_cast<void>(cublasSetPointerMode(handle_, mode_));
    if (moved_) static_cast<void>(cublasSetStream(handle_, before_));
  }
  handle_scope(const handle_scope&) = delete;
  handle_scope& operator=(const handle_scope&) = delete;

 private:
  cublasHandle_t handle_;
  cudaStream_t before_ = nullptr;
  cublasPointerMode_t mode_ = CUBLAS_POINTER_MODE_HOST;
  bool moved_ = false;
};

/// What cuBLAS calls a type.
template <class T>
inline constexpr cudaDataType type_of = CUDA_R_32F;
template <>
inline constexpr cudaDataType type_of<double> = CUDA_R_64F;
template <>
inline constexpr cudaDataType type_of<bfloat16> = CUDA_R_16BF;

/// How products of F are computed. Double is always full precision.
template <class F>
[[nodiscard]] constexpr cublasComputeType_t compute_type(matmul_precision precision) {
  if constexpr (std::is_same_v<F, double>) {
    return CUBLAS_COMPUTE_64F;
  } else if constexpr (std::is_same_v<F, bfloat16>) {
    return CUBLAS_COMPUTE_32F;
  } else {
    // Pedantic, so that neither the handle's math mode nor the environment lowers the precision. What may be bf16 comes
    // here as float where rounding does not pay.
    return precision == matmul_precision::full ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F_FAST_TF32;
  }
}

/// C ← α A X + β C for shapes that fit, none of them empty.
template <class F, class T>
void gemm(context& c, T alpha, const matrix_view<const F>& a, const matrix_view<const F>& x, T beta,
          const matrix_view<T>& product, const matmul_options& options) {
  static_assert(std::is_same_v<F, T> || (std::is_same_v<F, bfloat16> && std::is_same_v<T, float>));
  const blas_operand left = as_blas(a, "A"), right = as_blas(x, "X"), out = as_blas(product, "C");
  const cublasComputeType_t compute = compute_type<F>(options.precision);
  // What cuBLAS computes is C or, where C is row-major, Cᵀ = Xᵀ Aᵀ. The operand at hand is the one asked for, or its
  // transpose.
  const bool swapped = out.transposed;
  const auto operation = [&](const blas_operand& o) { return o.transposed == swapped ? CUBLAS_OP_N : CUBLAS_OP_T; };
  const auto& first = swapped ? x : a;
  const auto& second = swapped ? a : x;
  const blas_operand& first_blas = swapped ? right : left;
  const blas_operand& second_blas = swapped ? left : right;
  const index_t m = swapped ? product.cols : product.rows;
  const index_t n = swapped ? product.rows : product.cols;

  const device_scope device(c.device());
  const cublasHandle_t handle = c.blas();
  const handle_scope scope(handle, c.stream());
  c.note("matmul");
  const cublasOperation_t of_first = operation(first_blas), of_second = operation(second_blas);
  // A single product is asked for as one: cuBLAS may then split its sums, which fills the device where C is small.
  const cublasStatus_t code =
      options.batch == 1
          ? cublasGemmEx_64(handle, of_first, of_second, m, n, a.cols, &alpha, first.data, type_of<F>,
                            first_blas.leading, second.data, type_of<F>, second_blas.leading, &beta, product.data,
                            type_of<T>, out.leading, compute, CUBLAS_GEMM_DEFAULT)
          : cublasGemmStridedBatchedEx_64(
                handle, of_first, of_second, m, n, a.cols, &alpha, first.data, type_of<F>, first_blas.leading,
                swapped ? options.stride_b : options.stride_a, second.data, type_of<F>, second_blas.leading,
                swapped ? options.stride_a : options.stride_b, &beta, product.data, type_of<T>, out.leading,
                options.stride_c, options.batch, compute, CUBLAS_GEMM_DEFAULT);
  if (code != CUBLAS_STATUS_SUCCESS) {
    check(code, std::string(options.batch == 1 ? "cublasGemmEx_64" : "cublasGemmStridedBatchedEx_64") + " (" +
                    shape_text(a.rows, a.cols) + " times " + shape_text(x.rows, x.cols) + ", batch " +
                    std::to_string(options.batch) + ")");
  }
}

}  // namespace dro::detail::cuda

#endif
