// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_LINEAR_ROWS_HPP
#define DRO_MODELS_TRANSFORMER_LINEAR_ROWS_HPP

/// \file
/// Some rows of a linear layer, one for each token, for a head that needs few of the output layer's logits.

#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/models/transformer/embedding.hpp>
#include <dro/models/transformer/linear.hpp>

namespace dro::models {

/// rows [n × in] ← those of W + s B A [out × in] that `tokens` [n × 1] name; zeros for a token out of range. Throws
/// shape_error. Queues a program; where the layer is adapted, another one and a product.
template <multiplies B, class T>
void linear_rows(B& b, const linear_layer<T>& layer, matrix_view<const token_t> tokens, matrix_view<T> rows) {
  embedding<B, T>(b, layer.weight.value, tokens, rows);
  if (!layer.is_adapted()) return;
  auto up = b.template make<T>(rows.rows, layer.rank());
  embedding<B, T>(b, layer.up.value, tokens, b.view(up));
  matmul(b, layer.scale, up, layer.down.value, T(1), rows);
}

/// Adds to the gradients of those parameters that have a place for theirs, given that of the rows, d_rows [n × in].
/// Throws shape_error. Queues a program; where the layer is adapted, two more and two products.
template <multiplies B, class T>
void linear_rows_gradient(B& b, const linear_layer<T>& layer, matrix_view<const token_t> tokens,
                          matrix_view<const T> d_rows) {
  if (layer.weight.has_gradient()) embedding_gradient<B, T>(b, tokens, d_rows, layer.weight.gradient);
  if (!layer.is_adapted()) return;
  auto up = b.template make<T>(d_rows.rows, layer.rank());
  embedding<B, T>(b, layer.up.value, tokens, b.view(up));
  matmul(b, layer.scale, transposed(std::as_const(b).view(std::as_const(up))), d_rows, T(1), layer.down.gradient);
  matmul(b, layer.scale, d_rows, transposed(layer.down.value), T(0), b.view(up));
  embedding_gradient<B, T>(b, tokens, std::as_const(b).view(std::as_const(up)), layer.up.gradient);
}

}  // namespace dro::models

#endif
