// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_MATMUL_HPP
#define DRO_BACKEND_MATMUL_HPP

/// \file
/// Matrix products: the one operation that a backend brings itself, since every tensor library has a tuned one.

#include <concepts>
#include <string>
#include <type_traits>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// How exactly float products are computed. Double products are always full, and a backend without the faster unit
/// computes in full.
enum class matmul_precision {
  full,  ///< products and sums in the number type of the matrices
  tf32,  ///< factors rounded to 11 significant bits, summed in float
  bf16,  ///< factors rounded to 8 significant bits, summed in float
};

/// A product, or a batch of equal shape: the operands of product i begin i × stride elements after those of the first.
struct matmul_options {
  index_t batch = 1;     ///< number of products
  index_t stride_a = 0;  ///< elements from one A to the next; 0: all products share one A
  index_t stride_b = 0;  ///< elements from one X, the second factor, to the next; 0: all products share one X
  index_t stride_c = 0;  ///< elements from one C to the next; the matrices C must not overlap
  matmul_precision precision = matmul_precision::full;
};

namespace detail {

template <class B, class T>
concept multiplies_of = requires(B& b, T factor, matrix_view<const T> in, matrix_view<T> out,
                                 const matmul_options& options) {
  b.matmul(factor, in, in, factor, out, options);
};

}  // namespace detail

/// A backend that has a matrix product: every one of the library, and everything derived from host_base.
///
///     void matmul(T alpha, matrix_view<const T> a, matrix_view<const T> x, T beta, matrix_view<T> c,
///                 const matmul_options&);                              // queued; the shapes have been checked
template <class B>
concept multiplies = backend<B> && detail::multiplies_of<B, float> && detail::multiplies_of<B, double>;

/// C ← α A X + β C for each product of the batch, with A [m × k], X [k × n] and C [m × n]. `transposed(view)` gives Aᵀ.
/// As in BLAS, β = 0 means that C is not read and α = 0 that A and X are not: NaN there does not matter. k = 0 gives
/// β C. C overlaps neither A nor X. Any strides; some backends refuse a view without a unit stride.
///
/// |error| ≤ (k + 2) ε (|α| |A| |X| + |β C|) element by element, ε = numeric_limits<T>::epsilon(), in full precision.
/// Queued; does not synchronise. Throws shape_error if the shapes disagree, option_error for a negative batch or for
/// products that would share one C. Cost: 2 m n k operations a product.
template <multiplies B, viewable<B> A, viewable<B> X, class T>
requires std::same_as<element_t<B, A>, T> && std::same_as<element_t<B, X>, T>
void matmul(B& b, std::type_identity_t<T> alpha, const A& a, const X& x, std::type_identity_t<T> beta, matrix_view<T> c,
            const matmul_options& options = {}) {
  const matrix_view<const T> left = detail::view_of(b, a);
  const matrix_view<const T> right = detail::view_of(b, x);
  require_shape(right, left.cols, right.cols, "matmul: X");
  require_shape(c, left.rows, right.cols, "matmul: C");
  if (options.batch < 0 || (options.batch > 1 && options.stride_c == 0)) {
    throw option_error("matmul: batch is " + std::to_string(options.batch) + " with stride_c " +
                       std::to_string(options.stride_c) + ", expected 0 or more products with a C of their own");
  }
  if (options.batch == 0 || c.rows == 0 || c.cols == 0) return;
  b.matmul(alpha, left, right, beta, c, options);
}

}  // namespace dro

#endif
