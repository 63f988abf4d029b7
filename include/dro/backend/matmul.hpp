// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_MATMUL_HPP
#define DRO_BACKEND_MATMUL_HPP

/// \file
/// Matrix products: the one operation that a backend brings itself, since every tensor library has a tuned one.

#include <concepts>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// How exactly float products have to be computed, at least. Double products are always full, and so are those of a
/// backend without the faster unit.
enum class matmul_precision {
  full,  ///< products and sums in the number type of the matrices
  tf32,  ///< factors rounded to 11 significant bits, summed in float
  bf16,  ///< factors rounded to 8 significant bits, summed in float; or to 11, where rounding to 8 takes too long
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

/// A backend that also multiplies bfloat16 matrices into float ones.
///
///     void matmul(float alpha, matrix_view<const bfloat16> a, matrix_view<const bfloat16> x, float beta,
///                 matrix_view<float> c, const matmul_options&);        // queued; the shapes have been checked
///     static constexpr index_t rounding_pays;          // so many products with an element gain what rounding it takes
template <class B>
concept multiplies_bfloat16 = multiplies<B> && requires(B& b, float factor, matrix_view<const bfloat16> in,
                                                        matrix_view<float> out, const matmul_options& options) {
  b.matmul(factor, in, in, factor, out, options);
  { B::rounding_pays } -> std::convertible_to<index_t>;
};

/// Whether products of T's on B are of bfloat16 where they may be.
template <class B, class T>
inline constexpr bool has_rounded_products = false;
template <multiplies_bfloat16 B>
inline constexpr bool has_rounded_products<B, float> = true;

/// Whether rounding pays for a factor each of whose elements takes part in so many products.
template <class B, class T>
[[nodiscard]] constexpr bool rounding_pays(index_t products) {
  if constexpr (has_rounded_products<B, T>) {
    return products >= B::rounding_pays;
  } else {
    return false;
  }
}

/// A factor of products: a matrix, the same rounded, or both.
template <class T>
struct factor_view {
  matrix_view<const T> exact;                ///< no data, but a shape, where only the rounded one is there
  matrix_view<const bfloat16> rounded = {};  ///< or a view of nothing

  constexpr factor_view() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): the matrix itself
  constexpr factor_view(const matrix_view<const T>& all, const matrix_view<const bfloat16>& rounding = {})
      : exact(all), rounded(rounding) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  constexpr factor_view(const matrix_view<T>& all) : exact(all) {}

  [[nodiscard]] constexpr bool is_rounded() const { return rounded.data != nullptr; }
  [[nodiscard]] constexpr bool is_exact() const { return exact.data != nullptr || !is_rounded(); }
};

template <class T>
[[nodiscard]] constexpr factor_view<T> transposed(const factor_view<T>& f) {
  return {transposed(f.exact), transposed(f.rounded)};
}

namespace detail {

struct no_matrix {};

}  // namespace detail

/// A factor of several products, which is rounded once where `precision` allows it and B multiplies bfloat16.
template <multiplies B, class T>
class factor {
 public:
  /// A matrix, which has to stay as it is for as long as this is used; it may be rounded already. Queues one program or
  /// none.
  factor(B& b, const factor_view<T>& all, matmul_precision precision) : view_(all) {
    if constexpr (has_rounded_products<B, T>) {
      if (precision == matmul_precision::bf16 && !all.is_rounded()) round_all(b);
    }
  }
  /// What write(target) writes: `target` is `place` or, where it is rounded, a matrix_view<bfloat16> of its shape, and
  /// then nothing goes to `place`.
  template <class F>
  requires std::invocable<F&, matrix_view<T>> factor(B& b, const matrix_view<T>& place, matmul_precision precision,
                                                     F&& write)
      : view_(place) {
    if constexpr (has_rounded_products<B, T>) {
      if (precision == matmul_precision::bf16) {
        memory_ = b.template make<bfloat16>(place.rows, place.cols);
        write(b.view(memory_));
        view_.exact.data = nullptr;
        view_.rounded = std::as_const(b).view(std::as_const(memory_));
        return;
      }
    }
    write(place);
  }

  /// Valid for as long as this is.
  [[nodiscard]] const factor_view<T>& view() const { return view_; }

 private:
  /// In the order of the memory, and without gaps.
  void round_all(B& b) {
    const bool upright = view_.exact.col_stride == 1;
    const matrix_view<const T> source = upright ? view_.exact : transposed(view_.exact);
    memory_ = b.template make<bfloat16>(source.rows, source.cols);
    copy_rounded(b, source, b.view(memory_));
    const matrix_view<const bfloat16> rounded = std::as_const(b).view(std::as_const(memory_));
    view_.rounded = upright ? rounded : transposed(rounded);
  }

  factor_view<T> view_;
  std::conditional_t<has_rounded_products<B, T>, matrix_t<B, bfloat16>, detail::no_matrix> memory_;
};

namespace detail {

/// dro::matmul, for shapes that are as they should be.
template <class B, class T>
void multiply(B& b, T alpha, const factor_view<T>& a, const factor_view<T>& x, T beta, const matrix_view<T>& c,
              const matmul_options& options) {
  if constexpr (has_rounded_products<B, T>) {
    const auto pays = [](const factor_view<T>& f, index_t uses) { return f.is_rounded() || rounding_pays<B, T>(uses); };
    const bool must = !a.is_exact() || !x.is_exact();
    const bool may = options.precision == matmul_precision::bf16 && options.batch == 1;
    if (must || (may && pays(a, c.cols) && pays(x, c.rows))) {
      const factor<B, T> left(b, a, matmul_precision::bf16), right(b, x, matmul_precision::bf16);
      b.matmul(alpha, left.view().rounded, right.view().rounded, beta, c, options);
      return;
    }
  }
  b.matmul(alpha, a.exact, x.exact, beta, c, options);
}

/// What dro::matmul says of shapes and options. Whether there is anything to compute.
template <class A, class X, class T>
[[nodiscard]] bool check_product(const matrix_view<A>& a, const matrix_view<X>& x, const matrix_view<T>& c,
                                 const matmul_options& options) {
  require_shape(x, a.cols, x.cols, "matmul: X");
  require_shape(c, a.rows, x.cols, "matmul: C");
  if (options.batch < 0 || (options.batch > 1 && options.stride_c == 0)) {
    throw option_error("matmul: batch is " + std::to_string(options.batch) + " with stride_c " +
                       std::to_string(options.stride_c) + ", expected 0 or more products with a C of their own");
  }
  return options.batch > 0 && c.rows > 0 && c.cols > 0;
}

}  // namespace detail

/// C ← α A X + β C for each product of the batch, with A [m × k], X [k × n] and C [m × n]. `transposed(view)` gives Aᵀ.
/// As in BLAS, β = 0 means that C is not read and α = 0 that A and X are not: NaN there does not matter. k = 0 gives
/// β C. C overlaps neither A nor X. Any strides; some backends refuse a view without a unit stride.
///
/// |error| ≤ (k + 2) ε (|α| |A| |X| + |β C|) element by element, ε = numeric_limits<T>::epsilon(), in full precision;
/// lower ones add up to 2^-9 (tf32) or 2.01 · 2^-8 (bf16) |α| |A| |X|.
/// Queued; does not synchronise. Throws shape_error if the shapes disagree, option_error for a negative batch or for
/// products that would share one C. Cost: 2 m n k operations a product.
template <multiplies B, viewable<B> A, viewable<B> X, class T>
requires std::same_as<element_t<B, A>, T> && std::same_as<element_t<B, X>, T>
void matmul(B& b, std::type_identity_t<T> alpha, const A& a, const X& x, std::type_identity_t<T> beta, matrix_view<T> c,
            const matmul_options& options = {}) {
  const matrix_view<const T> left = detail::view_of(b, a);
  const matrix_view<const T> right = detail::view_of(b, x);
  if (detail::check_product(left, right, c, options)) detail::multiply<B, T>(b, alpha, left, right, beta, c, options);
}

/// The same with factors of which either may be rounded already, a single product.
template <multiplies B, class T>
void matmul(B& b, std::type_identity_t<T> alpha, const factor_view<T>& a, const factor_view<T>& x,
            std::type_identity_t<T> beta, matrix_view<T> c, matmul_precision precision) {
  const matmul_options options{.precision = precision};
  if (detail::check_product(a.exact, x.exact, c, options)) detail::multiply<B, T>(b, alpha, a, x, beta, c, options);
}

/// The same with matrices that were rounded before.
template <multiplies_bfloat16 B>
void matmul(B& b, float alpha, matrix_view<const bfloat16> a, matrix_view<const bfloat16> x, float beta,
            matrix_view<float> c, const matmul_options& options = {}) {
  if (detail::check_product(a, x, c, options)) b.matmul(alpha, a, x, beta, c, options);
}

}  // namespace dro

#endif
