// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_TOKEN_LOG_PROB_HPP
#define DRO_MODELS_TRANSFORMER_TOKEN_LOG_PROB_HPP

/// \file
/// log p of the token that comes next, from the hidden state, a piece of the rows at a time: the logits of all
/// positions, by far the largest matrix of a language model, never exist together.

#include <limits>
#include <type_traits>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/concept.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/models/transformer/embedding.hpp>
#include <dro/models/transformer/linear.hpp>
#include <dro/models/transformer/row_pieces.hpp>

namespace dro::models {

namespace detail {

/// log p of each row's target; and, where coefficients are given, d_logits ← c (onehot − softmax), which may be where
/// the logits are.
template <class T, class G>
struct token_log_prob_program {
  matrix_view<const T> logits;         // [R × V]
  matrix_view<G> d_logits;             // [R × V]
  matrix_view<const token_t> targets;  // [R × 1]
  matrix_view<const T> coefficients;   // [R × 1], or nothing
  matrix_view<T> log_prob;             // [R × 1]

  [[nodiscard]] index_t width() const { return logits.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const index_t target = targets(row, 0);
    const bool known = target >= 0 && target < logits.cols;
    const T c = known && coefficients.data != nullptr ? coefficients(row, 0) : T(0);
    const auto logit = [&](index_t v) { return logits(row, v); };
    const T largest = team.max(logits.cols, -std::numeric_limits<T>::infinity(), logit);
    const T sum = sum_overlapped<T>(team, logits.cols, [&](index_t v) { return math::exp(logit(v) - largest); });
    if (team.rank() == 0) log_prob(row, 0) = known ? logit(target) - largest - math::log(sum) : T(0);
    if (coefficients.data == nullptr) return;
    team.barrier();
    const T share = c / sum;
    for_each_overlapped(
        team, logits.cols,
        [&](index_t v) {
          const T p = c == T(0) ? T(0) : share * math::exp(logit(v) - largest);
          return rounded_to<G>((v == target ? c : T(0)) - p);
        },
        [&](index_t v, G value) { d_logits(row, v) = value; });
  }
};

/// The output layer for `rows` rows, its weight rounded once for all pieces of them if that pays. An adapter needs all
/// that is exact.
template <multiplies B, class T>
class rounded_layer {
 public:
  rounded_layer(B& b, const linear_layer<T>& layer, index_t rows, matmul_precision precision)
      : precision_(rounding_pays<B, T>(rows) && !layer.is_adapted() ? precision : matmul_precision::full),
        weight_(b, layer.factor(), precision_),
        layer_(layer) {
    layer_.rounded_weight = weight_.view().rounded;
  }

  [[nodiscard]] const linear_layer<T>& view() const { return layer_; }
  /// What the other factors may be rounded to.
  [[nodiscard]] matmul_precision precision() const { return precision_; }

 private:
  matmul_precision precision_;
  factor<B, T> weight_;
  linear_layer<T> layer_;
};

}  // namespace detail

/// log_prob [N × 1] ← log p(target | hidden) in nats, where `output` [V × D] makes the logits of `hidden` [N × D]; 0
/// where the target [N × 1] is no_token. `workspace` [elements × 1], at least V + r, the rank of an adapter. Throws
/// shape_error. Queues the layer and a program for each piece of elements / (V + r) rows.
template <multiplies B, class T>
void token_log_prob(B& b, matrix_view<const T> hidden, const linear_layer<T>& output,
                    matrix_view<const token_t> targets, matrix_view<T> log_prob, matrix_view<T> workspace,
                    matmul_precision precision = matmul_precision::full) {
  const index_t vocabulary = output.weight.value.rows;
  const index_t rank = output.rank();
  require_shape(targets, hidden.rows, 1, "token_log_prob: targets");
  require_shape(log_prob, hidden.rows, 1, "token_log_prob: log_prob");
  const detail::rounded_layer<B, T> layer(b, output, hidden.rows, precision);
  for_each_row_piece(hidden.rows, vocabulary + rank, workspace, "token_log_prob", [&](index_t first, index_t count) {
    const matrix_view<T> logits = row_major_view(workspace.data, count, vocabulary);
    const matrix_view<T> u = row_major_view(workspace.data + count * vocabulary, count * rank, 1);
    linear<B, T>(b, rows_of(hidden, first, count), layer.view(), logits, false, u, precision);
    b.run(count, detail::token_log_prob_program<T, T>{
                     logits, {}, rows_of(targets, first, count), {}, rows_of(log_prob, first, count)});
  });
}

/// As token_log_prob, and the gradients of Σ c_n log p_n: writes `d_hidden` [N × D], adds to those of the parameters of
/// `output` that have a place for theirs. `coefficients` [N × 1]; `workspace` at least V + 2 r. Throws shape_error.
/// Queues the layer, its gradient and a program for each piece.
template <multiplies B, class T>
void token_log_prob_gradient(B& b, matrix_view<const T> hidden, const linear_layer<T>& output,
                             matrix_view<const token_t> targets, matrix_view<const T> coefficients,
                             matrix_view<T> log_prob, matrix_view<T> d_hidden, matrix_view<T> workspace,
                             matmul_precision precision = matmul_precision::full) {
  const index_t vocabulary = output.weight.value.rows;
  const index_t rank = output.rank();
  require_shape(targets, hidden.rows, 1, "token_log_prob_gradient: targets");
  require_shape(coefficients, hidden.rows, 1, "token_log_prob_gradient: coefficients");
  require_shape(log_prob, hidden.rows, 1, "token_log_prob_gradient: log_prob");
  require_shape(d_hidden, hidden.rows, hidden.cols, "token_log_prob_gradient: d_hidden");
  const detail::rounded_layer<B, T> layer(b, output, hidden.rows, precision);
  for_each_row_piece(hidden.rows, vocabulary + 2 * rank, workspace, "token_log_prob",
                     [&](index_t first, index_t count) {
                       const matrix_view<T> logits = row_major_view(workspace.data, count, vocabulary);
                       const matrix_view<T> u = row_major_view(workspace.data + count * vocabulary, count * rank, 1);
                       const matrix_view<T> d_u = row_major_view(u.data + count * rank, count * rank, 1);
                       const factor<B, T> h(b, rows_of(hidden, first, count), layer.precision());
                       linear<B, T>(b, h.view(), layer.view(), logits, false, u, precision);
                       const factor<B, T> d_logits(b, logits, layer.precision(), [&](const auto& d) {
                         using G = typename std::remove_cvref_t<decltype(d)>::element_type;
                         b.run(count, detail::token_log_prob_program<T, G>{logits, d, rows_of(targets, first, count),
                                                                           rows_of(coefficients, first, count),
                                                                           rows_of(log_prob, first, count)});
                       });
                       linear_gradient<B, T>(b, h.view(), layer.view(), d_logits.view(),
                                             rows_of(d_hidden, first, count), false, u, d_u, precision);
                     });
}

}  // namespace dro::models

#endif
