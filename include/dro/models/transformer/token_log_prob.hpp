// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_TOKEN_LOG_PROB_HPP
#define DRO_MODELS_TRANSFORMER_TOKEN_LOG_PROB_HPP

/// \file
/// log p of the token that comes next, from the hidden state, a piece of the rows at a time: the logits of all
/// positions, by far the largest matrix of a language model, never exist together.

#include <limits>

#include <dro/backend/concept.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/models/transformer/embedding.hpp>
#include <dro/models/transformer/row_pieces.hpp>

namespace dro::models {

namespace detail {

/// log p of each row's target; and, where coefficients are given, logits ← c (onehot − softmax).
template <class T>
struct token_log_prob_program {
  matrix_view<T> logits;               // [R × V]
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
    const T sum = team.template sum<T>(logits.cols, [&](index_t v) { return math::exp(logit(v) - largest); });
    if (team.rank() == 0) log_prob(row, 0) = known ? logit(target) - largest - math::log(sum) : T(0);
    if (coefficients.data == nullptr) return;
    team.barrier();
    const T share = c / sum;
    team.for_each(logits.cols, [&](index_t v) {
      const T p = c == T(0) ? T(0) : share * math::exp(logit(v) - largest);
      logits(row, v) = (v == target ? c : T(0)) - p;
    });
  }
};

}  // namespace detail

/// log_prob [N × 1] ← log p(target | hidden) in nats, where the logits are `hidden` [N × D] · `table`ᵀ [V × D]; 0 where
/// the target [N × 1] is no_token. `workspace` [elements × 1], at least V. Throws shape_error. Queues a product and a
/// program for each piece of elements / V rows.
template <multiplies B, class T>
void token_log_prob(B& b, matrix_view<const T> hidden, matrix_view<const T> table, matrix_view<const token_t> targets,
                    matrix_view<T> log_prob, matrix_view<T> workspace,
                    matmul_precision precision = matmul_precision::full) {
  require_shape(targets, hidden.rows, 1, "token_log_prob: targets");
  require_shape(log_prob, hidden.rows, 1, "token_log_prob: log_prob");
  for_each_row_piece(hidden.rows, table.rows, workspace, "token_log_prob", [&](index_t first, index_t count) {
    const matrix_view<T> logits = row_major_view(workspace.data, count, table.rows);
    matmul(b, T(1), rows_of(hidden, first, count), transposed(table), T(0), logits, {.precision = precision});
    b.run(count, detail::token_log_prob_program<T>{
                     logits, rows_of(targets, first, count), {}, rows_of(log_prob, first, count)});
  });
}

/// As token_log_prob, and the gradients of Σ c_n log p_n: writes `d_hidden` [N × D], adds to `d_table` [V × D],
/// unless that is a view of nothing.
/// `coefficients` [N × 1]. Throws shape_error. Queues three products and a program for each piece.
template <multiplies B, class T>
void token_log_prob_gradient(B& b, matrix_view<const T> hidden, matrix_view<const T> table,
                             matrix_view<const token_t> targets, matrix_view<const T> coefficients,
                             matrix_view<T> log_prob, matrix_view<T> d_hidden, matrix_view<T> d_table,
                             matrix_view<T> workspace, matmul_precision precision = matmul_precision::full) {
  require_shape(targets, hidden.rows, 1, "token_log_prob_gradient: targets");
  require_shape(coefficients, hidden.rows, 1, "token_log_prob_gradient: coefficients");
  require_shape(log_prob, hidden.rows, 1, "token_log_prob_gradient: log_prob");
  require_shape(d_hidden, hidden.rows, hidden.cols, "token_log_prob_gradient: d_hidden");
  if (d_table.data != nullptr) require_shape(d_table, table.rows, table.cols, "token_log_prob_gradient: d_table");
  for_each_row_piece(hidden.rows, table.rows, workspace, "token_log_prob", [&](index_t first, index_t count) {
    const matrix_view<T> logits = row_major_view(workspace.data, count, table.rows);
    const matrix_view<const T> h = rows_of(hidden, first, count);
    matmul(b, T(1), h, transposed(table), T(0), logits, {.precision = precision});
    b.run(count,
          detail::token_log_prob_program<T>{logits, rows_of(targets, first, count), rows_of(coefficients, first, count),
                                            rows_of(log_prob, first, count)});
    matmul(b, T(1), logits, table, T(0), rows_of(d_hidden, first, count), {.precision = precision});
    if (d_table.data != nullptr) {
      matmul(b, T(1), transposed(logits), h, T(1), d_table, {.precision = precision});
    }
  });
}

}  // namespace dro::models

#endif
