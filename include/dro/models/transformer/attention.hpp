// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_ATTENTION_HPP
#define DRO_MODELS_TRANSFORMER_ATTENTION_HPP

/// \file
/// Attention with grouped keys (Vaswani et al. 2017; Ainslie et al. 2023), by blocks of queries.
///
///     P = softmax(q kᵀ / √dh) over the keys that a query may see,  o = P v
///
/// Nothing of size length² is kept: the backward pass makes P again from q, k and the log of the softmax's sum, as Dao
/// et al. (2022, section 3.1) do. Matrices hold one head after the other, see head_layout.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/concept.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/models/transformer/sequence_layout.hpp>

namespace dro::models {

/// The sizes of an attention.
struct attention_shape {
  index_t sequences;         ///< S
  index_t heads;             ///< H
  index_t key_heads;         ///< Hk, a divisor of H: heads h with equal ⌊h Hk / H⌋ share a key
  index_t dimension;         ///< dh
  row_span rows;             ///< the R rows of each sequence that ask
  sequence_layout sequence;  ///< the L rows of each sequence that are asked

  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t group() const { return heads / key_heads; }
  [[nodiscard]] constexpr index_t query_rows() const { return sequences * heads * rows.count; }
  [[nodiscard]] constexpr index_t key_rows() const { return sequences * key_heads * sequence.length; }
  /// Elements of workspace with which a block is as large as it need be; any number from L on will do.
  [[nodiscard]] constexpr index_t ample_workspace() const {
    const index_t at_once = rows.count < 256 ? rows.count : 256;
    const index_t all = sequences * key_heads * at_once * sequence.length;
    constexpr index_t most = index_t{1} << 26;
    return all < most ? all : (most > sequence.length ? most : sequence.length);
  }
  /// Whether to keep P in bfloat16 where that is allowed: it saves 4 bytes a score, and rounding a key takes 6 a
  /// number.
  [[nodiscard]] constexpr bool rounds_scores(matmul_precision precision) const {
    return precision == matmul_precision::bf16 && group() * rows.count >= 2 * dimension;
  }
};

namespace detail {

/// A block of queries: rows [first, first + rows) of one head of each of `groups` groups, against the first `keys`
/// keys.
struct attention_block {
  attention_shape shape;
  index_t group, groups;  // of S·Hk
  index_t head;           // within its group
  index_t first, rows;
  index_t keys;

  /// Row of q, o and the log-sums where the queries of group g (counted within the block) begin.
  [[nodiscard]] DRO_HOST_DEVICE constexpr index_t query_row(index_t g) const {
    return ((group + g) * shape.group() + head) * shape.rows.count + first;
  }
  /// What row `row` of the block's scores sees.
  [[nodiscard]] DRO_HOST_DEVICE constexpr sequence_layout::sight seen_from(index_t row) const {
    const index_t sequence = (group + row / rows) / shape.key_heads;
    return shape.sequence.seen_from(sequence, shape.rows(first + row % rows));
  }

  template <class T>
  [[nodiscard]] matrix_view<T> queries_of(const matrix_view<T>& all) const {
    return row_major_view(all.data + query_row(0) * shape.dimension, rows, shape.dimension);
  }
  template <class T>
  [[nodiscard]] matrix_view<T> keys_of(const matrix_view<T>& all) const {
    return row_major_view(all.data + group * shape.sequence.length * shape.dimension, keys, shape.dimension);
  }
  template <class T>
  [[nodiscard]] matrix_view<T> scores_in(const matrix_view<T>& workspace) const {
    return row_major_view(workspace.data, rows, keys);
  }
  [[nodiscard]] index_t query_stride() const { return shape.group() * shape.rows.count * shape.dimension; }
  [[nodiscard]] index_t key_stride() const { return shape.sequence.length * shape.dimension; }
  [[nodiscard]] index_t score_stride() const { return rows * keys; }
};

/// Calls f(block) for blocks that cover every query once and whose scores fit into `elements`.
template <class F>
void for_each_attention_block(const attention_shape& shape, index_t elements, F&& f) {
  const index_t all_groups = shape.sequences * shape.key_heads;
  const index_t most_rows = shape.rows.count < 256 ? shape.rows.count : 256;
  const index_t fitting = elements / shape.sequence.length;
  const index_t rows = fitting < most_rows ? fitting : most_rows;
  for (index_t first = 0; first < shape.rows.count; first += rows) {
    const index_t count = shape.rows.count - first < rows ? shape.rows.count - first : rows;
    const index_t keys = shape.rows(first + count - 1) + 1;
    const index_t fit = elements / (count * keys);
    for (index_t group = 0; group < all_groups; group += fit) {
      const index_t groups = all_groups - group < fit ? all_groups - group : fit;
      for (index_t head = 0; head < shape.group(); ++head) {
        f(attention_block{shape, group, groups, head, first, count, keys});
      }
    }
  }
}

/// p ← softmax of the scores that are seen, 0 elsewhere; log_sum ← log Σ exp(score). A row that sees nothing, as
/// padding on the left does, is all 0. `p` may be `scores`.
template <class T, class P>
struct attention_softmax_program {
  attention_block block;
  matrix_view<const T> scores;  // [groups·rows × keys], row-major
  matrix_view<P> p;             // [groups·rows × keys], row-major
  matrix_view<T> log_sum;       // [S·H·R × 1]

  [[nodiscard]] index_t width() const { return block.keys; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    constexpr T nothing = -std::numeric_limits<T>::infinity();
    const auto sees = block.seen_from(row);
    const T* s = scores.data + row * block.keys;
    P* to = p.data + row * block.keys;
    const index_t count = sees.count();
    const T found = team.max(count, nothing, [&](index_t k) { return s[sees.row(k)]; });
    const T largest = found > nothing ? found : T(0);
    const T sum = sum_overlapped<T>(team, count, [&](index_t k) { return math::exp(s[sees.row(k)] - largest); });
    const T inverse = sum > T(0) ? T(1) / sum : sum;  // keeps NaN, gives 0 for nothing
    if (team.rank() == 0) {
      log_sum(block.query_row(row / block.rows) + row % block.rows, 0) = largest + math::log(sum);
    }
    team.barrier();  // all have read the scores, which p may be
    for_each_overlapped(
        team, count, [&](index_t k) { return rounded_to<P>(math::exp(s[sees.row(k)] - largest) * inverse); },
        [&](index_t k, P share) { to[sees.row(k)] = share; });
    sees.for_each_unseen(team, block.keys, [&](index_t j) { to[j] = rounded_to<P>(T(0)); });
  }
};

/// p ← P = exp(score − log_sum), d_s ← P ∘ (d_P − Δ), both 0 where a key is not seen. `p` may be `scores` and `d_s`
/// may be `d_p`.
template <class T, class P>
struct attention_softmax_gradient_program {
  attention_block block;
  matrix_view<const T> scores, d_p;     // [groups·rows × keys], row-major
  matrix_view<P> p, d_s;                // [groups·rows × keys], row-major
  matrix_view<const T> log_sum, delta;  // [S·H·R × 1]

  [[nodiscard]] index_t width() const { return block.keys; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const auto sees = block.seen_from(row);
    const index_t query = block.query_row(row / block.rows) + row % block.rows;
    const T log_of_sum = log_sum(query, 0);
    const T mean = delta(query, 0);
    const index_t first = row * block.keys;
    struct result {
      P share, slope;
    };
    for_each_overlapped(
        team, sees.count(),
        [&](index_t k) {
          const index_t at = first + sees.row(k);
          const T share = math::exp(scores.data[at] - log_of_sum);
          return result{rounded_to<P>(share), rounded_to<P>(share * (d_p.data[at] - mean))};
        },
        [&](index_t k, const result& r) {
          p.data[first + sees.row(k)] = r.share;
          d_s.data[first + sees.row(k)] = r.slope;
        });
    sees.for_each_unseen(team, block.keys, [&](index_t j) {
      p.data[first + j] = rounded_to<P>(T(0));
      d_s.data[first + j] = rounded_to<P>(T(0));
    });
  }
};

/// Δ_i = Σ_c o_ic d_ic, which is Σ_j P_ij d_P_ij.
template <class T>
struct attention_delta_program {
  matrix_view<const T> o, d_o;
  matrix_view<T> delta;

  [[nodiscard]] index_t width() const { return o.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const T sum = team.template sum<T>(o.cols, [&](index_t c) { return o(row, c) * d_o(row, c); });
    if (team.rank() == 0) delta(row, 0) = sum;
  }
};

template <class T>
void require_attention(const attention_shape& shape, const matrix_view<const T>& q, const matrix_view<const T>& k,
                       const matrix_view<const T>& v, const matrix_view<const T>& workspace) {
  if (shape.key_heads < 1 || shape.heads % shape.key_heads != 0 || shape.rows.count < 1 || shape.rows.first < 0 ||
      shape.sequence.trunk < 1 || shape.sequence.branch < 1 || shape.rows.end() > shape.sequence.length) {
    throw shape_error("attention: " + std::to_string(shape.heads) + " heads over " + std::to_string(shape.key_heads) +
                      " key heads, " + std::to_string(shape.rows.count) + " rows up to row " +
                      std::to_string(shape.rows.end()) + " of " + std::to_string(shape.sequence.length) + ", trunk " +
                      std::to_string(shape.sequence.trunk) + ", branches of " + std::to_string(shape.sequence.branch));
  }
  require_shape(q, shape.query_rows(), shape.dimension, "attention: q");
  require_shape(k, shape.key_rows(), shape.dimension, "attention: k");
  require_shape(v, shape.key_rows(), shape.dimension, "attention: v");
  if (workspace.rows < shape.sequence.length || workspace.cols != 1 || workspace.row_stride != 1) {
    throw shape_error("attention: workspace is " + dro::detail::shape_text(workspace.rows, workspace.cols) +
                      ", expected one column of at least " + std::to_string(shape.sequence.length));
  }
}

}  // namespace detail

/// o ← attention of q [S·H·R × dh] over k and v [S·Hk·L × dh]; `log_sum` [S·H·R × 1] is what the backward pass keeps.
/// All row-major without gaps. `workspace` [elements × 1] is worked in and bounds the memory for scores: see
/// attention_shape::ample_workspace. Where products may be of bfloat16, P is rounded when it is made, in half as much
/// memory again. Throws shape_error. Queues two products and a program a block, and a program or none.
template <multiplies B, class T>
void attention(B& b, const attention_shape& shape, matrix_view<const T> q, matrix_view<const T> k,
               matrix_view<const T> v, matrix_view<T> o, matrix_view<T> log_sum, matrix_view<T> workspace,
               matmul_precision precision = matmul_precision::full) {
  detail::require_attention<T>(shape, q, k, v, workspace);
  require_shape(o, shape.query_rows(), shape.dimension, "attention: o");
  require_shape(log_sum, shape.query_rows(), 1, "attention: log_sum");
  const index_t elements = std::min(workspace.rows, shape.ample_workspace());
  const T scale = T(1) / std::sqrt(static_cast<T>(shape.dimension));
  // P, in `shares`, and v are both numbers of one type: T, where P takes the place of the scores, or bfloat16.
  const auto attend = [&](const auto& shares, const auto& values) {
    using P = typename std::remove_cvref_t<decltype(shares)>::element_type;
    detail::for_each_attention_block(shape, elements, [&](const detail::attention_block& block) {
      const matrix_view<T> scores = block.scores_in(workspace);
      const matrix_view<P> p = block.scores_in(shares);
      matmul(b, scale, block.queries_of(q), transposed(block.keys_of(k)), T(0), scores,
             {block.groups, block.query_stride(), block.key_stride(), block.score_stride(), precision});
      b.run(block.groups * block.rows, detail::attention_softmax_program<T, P>{block, scores, p, log_sum});
      matmul(b, T(1), p, block.keys_of(values), T(0), block.queries_of(o),
             {block.groups, block.score_stride(), block.key_stride(), block.query_stride(), precision});
    });
  };
  if constexpr (has_rounded_products<B, T>) {
    if (shape.rounds_scores(precision)) {
      const factor<B, T> values(b, v, precision);
      auto shares = b.template make<bfloat16>(elements, 1);
      return attend(b.view(shares), values.view().rounded);
    }
  }
  attend(workspace, v);
}

/// Writes the gradients of q, k and v, given that of o, all in the shapes of `attention`. `delta` [S·H·R × 1],
/// `workspace` and `d_workspace` (of one size) are worked in. Throws shape_error. Queues five products and a program a
/// block, and three programs; three more where P and its gradient are rounded.
template <multiplies B, class T>
void attention_gradient(B& b, const attention_shape& shape, matrix_view<const T> q, matrix_view<const T> k,
                        matrix_view<const T> v, matrix_view<const T> o, matrix_view<const T> log_sum,
                        matrix_view<const T> d_o, matrix_view<T> d_q, matrix_view<T> d_k, matrix_view<T> d_v,
                        matrix_view<T> delta, matrix_view<T> workspace, matrix_view<T> d_workspace,
                        matmul_precision precision = matmul_precision::full) {
  detail::require_attention<T>(shape, q, k, v, workspace);
  require_shape(o, shape.query_rows(), shape.dimension, "attention_gradient: o");
  require_shape(d_o, shape.query_rows(), shape.dimension, "attention_gradient: d_o");
  require_shape(d_q, shape.query_rows(), shape.dimension, "attention_gradient: d_q");
  require_shape(d_k, shape.key_rows(), shape.dimension, "attention_gradient: d_k");
  require_shape(d_v, shape.key_rows(), shape.dimension, "attention_gradient: d_v");
  require_shape(log_sum, shape.query_rows(), 1, "attention_gradient: log_sum");
  require_shape(delta, shape.query_rows(), 1, "attention_gradient: delta");
  require_shape(d_workspace, workspace.rows, 1, "attention_gradient: d_workspace");
  const index_t elements = std::min(workspace.rows, shape.ample_workspace());
  const T scale = T(1) / std::sqrt(static_cast<T>(shape.dimension));
  b.run(o.rows, detail::attention_delta_program<T>{o, d_o, delta});
  fill(b, d_k, T(0));
  fill(b, d_v, T(0));
  // As above: P and the gradient of the scores, with what they are multiplied with.
  const auto descend = [&](const auto& shares, const auto& slopes, const auto& queries, const auto& keys,
                           const auto& d_out) {
    using P = typename std::remove_cvref_t<decltype(shares)>::element_type;
    detail::for_each_attention_block(shape, elements, [&](const detail::attention_block& block) {
      const matrix_view<T> scores = block.scores_in(workspace);
      const matrix_view<T> d_p = block.scores_in(d_workspace);
      const matrix_view<P> p = block.scores_in(shares);
      const matrix_view<P> d_s = block.scores_in(slopes);
      const index_t of_query = block.query_stride();
      const index_t of_key = block.key_stride();
      const index_t of_score = block.score_stride();
      const auto product = [&](T alpha, const auto& left, const auto& right, T beta, matrix_view<T> out, index_t a,
                               index_t x, index_t c) {
        matmul(b, alpha, left, right, beta, out, {block.groups, a, x, c, precision});
      };
      product(scale, block.queries_of(q), transposed(block.keys_of(k)), T(0), scores, of_query, of_key, of_score);
      product(T(1), block.queries_of(d_o), transposed(block.keys_of(v)), T(0), d_p, of_query, of_key, of_score);
      b.run(block.groups * block.rows,
            detail::attention_softmax_gradient_program<T, P>{block, scores, d_p, p, d_s, log_sum, delta});
      product(T(1), transposed(p), block.queries_of(d_out), T(1), block.keys_of(d_v), of_score, of_query, of_key);
      product(scale, transposed(d_s), block.queries_of(queries), T(1), block.keys_of(d_k), of_score, of_query, of_key);
      product(scale, d_s, block.keys_of(keys), T(0), block.queries_of(d_q), of_score, of_key, of_query);
    });
  };
  if constexpr (has_rounded_products<B, T>) {
    if (shape.rounds_scores(precision)) {
      const factor<B, T> queries(b, q, precision), keys(b, k, precision), d_out(b, d_o, precision);
      auto shares = b.template make<bfloat16>(elements, 1);
      auto slopes = b.template make<bfloat16>(elements, 1);
      return descend(b.view(shares), b.view(slopes), queries.view().rounded, keys.view().rounded, d_out.view().rounded);
    }
  }
  descend(workspace, d_workspace, q, k, d_o);
}

}  // namespace dro::models

#endif
