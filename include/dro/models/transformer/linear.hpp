// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_LINEAR_HPP
#define DRO_MODELS_TRANSFORMER_LINEAR_HPP

/// \file
/// A linear layer, with or without a low-rank adapter (LoRA, Hu et al. 2022):
///
///     y = x Wᵀ + s (x Aᵀ) Bᵀ,   A [r × in], B [out × r], s = α / r.

#include <type_traits>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/concept.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/models/transformer/row_pieces.hpp>

namespace dro::models {

/// A parameter and where its gradient goes; without a place for it no gradient is computed.
template <class T>
struct parameter_view {
  matrix_view<T> value, gradient;
  [[nodiscard]] constexpr bool has_gradient() const { return gradient.data != nullptr; }
};

/// The parameters of a linear layer.
template <class T>
struct linear_layer {
  parameter_view<T> weight;                         ///< W [out × in]
  parameter_view<T> down = {};                      ///< A [r × in], or nothing
  parameter_view<T> up = {};                        ///< B [out × r]
  T scale = T(0);                                   ///< s
  matrix_view<const bfloat16> rounded_weight = {};  ///< W rounded, if somebody has done that
  [[nodiscard]] constexpr bool is_adapted() const { return down.value.data != nullptr; }
  [[nodiscard]] constexpr bool learns() const { return weight.has_gradient() || is_adapted(); }
  /// r; 0 without an adapter.
  [[nodiscard]] constexpr index_t rank() const { return down.value.rows; }
  /// W as a factor.
  [[nodiscard]] constexpr factor_view<T> factor() const { return {weight.value, rounded_weight}; }
};

/// y ← x Wᵀ + s (x Aᵀ) Bᵀ, or y plus that. x [N × in], y [N × out], which is not x. `workspace` [elements × 1], at
/// least r, is worked in where the layer is adapted, and then factors are exact. Throws shape_error. Queues a product,
/// and two more for each piece of elements / r rows.
template <multiplies B, class T>
void linear(B& b, const std::type_identity_t<factor_view<T>>& x, const linear_layer<T>& layer, matrix_view<T> y,
            bool add, matrix_view<T> workspace, matmul_precision precision = matmul_precision::full) {
  matmul(b, T(1), x, transposed(layer.factor()), add ? T(1) : T(0), y, precision);
  if (!layer.is_adapted()) return;
  for_each_row_piece(y.rows, layer.rank(), workspace, "linear", [&](index_t first, index_t count) {
    const matrix_view<T> u = row_major_view(workspace.data, count, layer.rank());
    matmul(b, T(1), rows_of(x.exact, first, count), transposed(layer.down.value), T(0), u, {.precision = precision});
    matmul(b, layer.scale, u, transposed(layer.up.value), T(1), rows_of(y, first, count), {.precision = precision});
  });
}

/// Adds the gradients of those parameters that have a place for theirs, given that of y; d_x ← d_y (W + s B A), or d_x
/// plus that. d_x may be x, but not d_y. `workspace` and `d_workspace` as above. Throws shape_error. Queues two
/// products, and five more for each piece, and to round d_y.
template <multiplies B, class T>
void linear_gradient(B& b, const std::type_identity_t<factor_view<T>>& x, const linear_layer<T>& layer,
                     const std::type_identity_t<factor_view<T>>& d_y, matrix_view<T> d_x, bool add,
                     matrix_view<T> workspace, matrix_view<T> d_workspace,
                     matmul_precision precision = matmul_precision::full) {
  const matmul_options options{.precision = precision};
  const factor<B, T> d(b, d_y, precision);
  if (layer.weight.has_gradient()) {
    matmul(b, T(1), transposed(d.view()), x, T(1), layer.weight.gradient, precision);
  }
  const T kept = add ? T(1) : T(0);
  if (!layer.is_adapted()) {
    matmul(b, T(1), d.view(), layer.factor(), kept, d_x, precision);
    return;
  }
  require_shape(d_workspace, workspace.rows, 1, "linear_gradient: d_workspace");
  for_each_row_piece(d_x.rows, layer.rank(), workspace, "linear_gradient", [&](index_t first, index_t count) {
    const matrix_view<T> u = row_major_view(workspace.data, count, layer.rank());
    const matrix_view<T> d_u = row_major_view(d_workspace.data, count, layer.rank());
    const matrix_view<const T> here = rows_of(x.exact, first, count);
    const matrix_view<const T> d_here = rows_of(d_y.exact, first, count);
    const matrix_view<T> d_out = rows_of(d_x, first, count);
    matmul(b, T(1), here, transposed(layer.down.value), T(0), u, options);
    matmul(b, layer.scale, transposed(d_here), u, T(1), layer.up.gradient, options);
    matmul(b, layer.scale, d_here, layer.up.value, T(0), d_u, options);
    matmul(b, T(1), transposed(d_u), here, T(1), layer.down.gradient, options);
    matmul(b, T(1), d_here, layer.weight.value, kept, d_out, options);
    matmul(b, T(1), d_u, layer.down.value, T(1), d_out, options);
  });
}

/// W ← W + s B A, after which the layer without its adapter computes the same. Throws shape_error. Queues one product.
template <multiplies B, class T>
void merge_adapter(B& b, const linear_layer<T>& layer) {
  if (layer.is_adapted()) matmul(b, layer.scale, layer.up.value, layer.down.value, T(1), layer.weight.value);
}

}  // namespace dro::models

#endif
