// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_HOST_MATMUL_HPP
#define DRO_BACKEND_HOST_MATMUL_HPP

/// \file
/// The matrix product of the host backends: blocked, over threads, for any strides, without a library.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/thread_pool.hpp>
#include <dro/config.hpp>

namespace dro::detail {

/// Columns of C that are computed together: a cache line of them.
template <class T>
inline constexpr index_t panel_width = 64 / static_cast<index_t>(sizeof(T));

/// Bytes of a vector register of the machine that is compiled for.
#if defined(__AVX512F__)
inline constexpr std::size_t register_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::size_t register_bytes = 32;
#else
inline constexpr std::size_t register_bytes = 16;
#endif

/// Rows [row, row + Rows) of one panel: sum[r][j] = Σ_p A(row + r, p) panel[p][j], summed from the left. Vector types
/// of the compiler (g++ and clang have the same): from loops over arrays g++ 12 makes code a fifth as fast at -O3. At
/// -O2 g++ leaves short loops as they are, and then the sums lie in memory: hence the pragmas, of which nvcc would
/// warn.
template <index_t Rows, class T>
void multiply_panel_rows(T alpha, const matrix_view<const T>& a, index_t row, const T* panel, T beta,
                         const matrix_view<T>& c) {
  using vector [[gnu::vector_size(register_bytes)]] = T;
  constexpr index_t width = panel_width<T>;
  constexpr index_t lanes = register_bytes / sizeof(T);
  vector sum[std::size_t{Rows}][std::size_t{width / lanes}] = {};
  for (index_t p = 0; p < a.cols; ++p, panel += width) {
#if !defined(__CUDACC__)
#pragma GCC unroll 4
#endif
    for (index_t r = 0; r < Rows; ++r) {
      const T factor = a(row + r, p);
#if !defined(__CUDACC__)
#pragma GCC unroll 4
#endif
      for (index_t v = 0; v < width / lanes; ++v) {
        vector part;
        std::memcpy(&part, panel + v * lanes, sizeof(part));
        sum[r][v] += factor * part;
      }
    }
  }
  for (index_t r = 0; r < Rows; ++r) {
    T product[std::size_t{width}];
    std::memcpy(product, sum[r], sizeof(product));
    for (index_t j = 0; j < c.cols; ++j) {
      T& element = c(row + r, j);
      element = beta == T(0) ? alpha * product[j] : alpha * product[j] + beta * element;
    }
  }
}

/// C ← α A X + β C for a C of at most panel_width columns. `panel` is memory for [k × panel_width] numbers: X is copied
/// there once, so that whatever its strides the inner loop reads whole cache lines. What a narrow X leaves of a line is
/// multiplied with the rest and not used.
template <class T>
void multiply_panel(T alpha, const matrix_view<const T>& a, const matrix_view<const T>& x, T beta,
                    const matrix_view<T>& c, T* panel) {
  for (index_t p = 0; p < x.rows; ++p) {
    for (index_t j = 0; j < x.cols; ++j) panel[p * panel_width<T> + j] = x(p, j);
  }
  // Rows a step. Their sums take 8 of the 16 registers of SSE and AVX, and 4 of the 32 of AVX-512.
  constexpr index_t block = register_bytes == 16 ? 2 : 4;
  index_t row = 0;
  for (; row + block <= c.rows; row += block) multiply_panel_rows<block>(alpha, a, row, panel, beta, c);
  for (; row < c.rows; ++row) multiply_panel_rows<1>(alpha, a, row, panel, beta, c);
}

/// What dro::matmul states. Each element is one sum from the left, so the result does not depend on the threads.
/// C is cut along its longer side into panels, which are the work of the threads: a tall C is computed as Cᵀ = Xᵀ Aᵀ.
/// Memory: k cache lines a thread.
template <class T>
void host_matmul(const thread_pool& pool, T alpha, const matrix_view<const T>& a, const matrix_view<const T>& x, T beta,
                 const matrix_view<T>& c, const matmul_options& options) {
  if (c.rows > c.cols) {
    matmul_options swapped = options;
    std::swap(swapped.stride_a, swapped.stride_b);
    return host_matmul(pool, alpha, transposed(x), transposed(a), beta, transposed(c), swapped);
  }
  constexpr index_t width = panel_width<T>;
  const index_t depth = alpha == T(0) ? 0 : a.cols;  // α = 0: A and X are not read
  const index_t panels = (c.cols + width - 1) / width;
  pool.for_ranges(options.batch * panels, [&](index_t begin, index_t end) {
    std::vector<T> panel(static_cast<std::size_t>(depth * width));
    for (index_t work = begin; work < end; ++work) {
      const index_t product = work / panels;
      const index_t col = work % panels * width;
      const index_t cols = std::min(width, c.cols - col);
      multiply_panel<T>(
          alpha, {a.data + product * options.stride_a, a.rows, depth, a.row_stride, a.col_stride},
          {x.data + product * options.stride_b + col * x.col_stride, depth, cols, x.row_stride, x.col_stride}, beta,
          {c.data + product * options.stride_c + col * c.col_stride, c.rows, cols, c.row_stride, c.col_stride},
          panel.data());
    }
  });
}

}  // namespace dro::detail

#endif
