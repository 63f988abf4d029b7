// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_RMS_NORM_HPP
#define DRO_MODELS_TRANSFORMER_RMS_NORM_HPP

/// \file
/// Root-mean-square layer normalisation (Zhang and Sennrich 2019): y = g ∘ x / √(mean(x²) + ε), row by row.

#include <cmath>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>

namespace dro::models {

namespace detail {

template <class T, class Y>
struct rms_norm_program {
  matrix_view<const T> x;     // [N × D]
  matrix_view<const T> gain;  // [1 × D]
  matrix_view<Y> y;           // [N × D]
  matrix_view<T> inverse;     // [N × 1], 1 / √(mean(x²) + ε)
  T epsilon;

  [[nodiscard]] index_t width() const { return x.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const T squares = team.template sum<T>(x.cols, [&](index_t j) { return x(row, j) * x(row, j); });
    const T mean = squares / static_cast<T>(x.cols) + epsilon;
    const T scale = mean == T(0) ? T(0) : T(1) / std::sqrt(mean);
    if (team.rank() == 0) inverse(row, 0) = scale;
    team.barrier();  // y may be x
    for_each_overlapped(
        team, x.cols, [&](index_t j) { return rounded_to<Y>(gain(0, j) * (x(row, j) * scale)); },
        [&](index_t j, Y value) { y(row, j) = value; });
  }
};

/// y again from what the first visit kept.
template <class T, class Y>
struct rms_norm_again_program {
  matrix_view<const T> x, gain, inverse;
  matrix_view<Y> y;

  [[nodiscard]] index_t width() const { return x.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const T scale = inverse(row, 0);
    for_each_overlapped(
        team, x.cols, [&](index_t j) { return rounded_to<Y>(gain(0, j) * (x(row, j) * scale)); },
        [&](index_t j, Y value) { y(row, j) = value; });
  }
};

/// With r = 1 / √(mean(x²) + ε): ∂/∂x_j = r (g_j d_j − x_j r² mean(g ∘ d ∘ x)).
template <class T>
struct rms_norm_gradient_program {
  matrix_view<const T> x, gain, inverse;
  matrix_view<const T> d_y;  // [N × D]
  matrix_view<T> d_x;        // [N × D], added to

  [[nodiscard]] index_t width() const { return x.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const T scale = inverse(row, 0);
    const T dot = team.template sum<T>(x.cols, [&](index_t j) { return gain(0, j) * d_y(row, j) * x(row, j); });
    const T shared = dot * scale * scale / static_cast<T>(x.cols);
    team.for_each(x.cols, [&](index_t j) { d_x(row, j) += scale * (gain(0, j) * d_y(row, j) - x(row, j) * shared); });
  }
};

/// Σ over the rows of one part of x r d_y, column by column: one row of the program is one (part, 32 columns).
template <class T>
struct rms_norm_gain_program {
  static constexpr index_t columns = 32;  // neighbouring threads read neighbouring columns
  matrix_view<const T> x, inverse, d_y;
  matrix_view<T> partial;  // [parts × D]

  [[nodiscard]] index_t width() const { return columns; }
  [[nodiscard]] DRO_HOST_DEVICE index_t blocks() const { return (x.cols + columns - 1) / columns; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const index_t part = row / blocks();
    const index_t first = row % blocks() * columns;
    const index_t begin = part * x.rows / partial.rows;
    const index_t end = (part + 1) * x.rows / partial.rows;
    const index_t count = x.cols - first < columns ? x.cols - first : columns;
    team.for_each(count, [&](index_t k) {
      const index_t j = first + k;
      T sum = T(0);
      for (index_t n = begin; n < end; ++n) sum += x(n, j) * inverse(n, 0) * d_y(n, j);
      partial(part, j) = sum;
    });
  }
};

/// Adds the sum over the rows of `partial` to `total`.
template <class T>
struct add_column_sums_program {
  matrix_view<const T> partial;  // [parts × D]
  matrix_view<T> total;          // [1 × D]

  [[nodiscard]] index_t width() const { return partial.rows; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t j) const {
    const T sum = team.template sum<T>(partial.rows, [&](index_t part) { return partial(part, j); });
    if (team.rank() == 0) total(0, j) += sum;
  }
};

}  // namespace detail

/// Parts in which a gain's gradient over N rows is summed: each adds about 64 rows, so that many threads take part.
[[nodiscard]] constexpr index_t rms_norm_parts(index_t rows) { return rows < 64 ? 1 : rows / 64; }

/// y ← g ∘ x r and r ← 1 / √(mean(x²) + ε), r [N × 1] being what the backward pass keeps; 0 where that is 1 / 0. x and
/// y [N × D], g [1 × D]. y may be x; its numbers may be bfloat16. Throws shape_error. Queues one program.
template <backend B, class T, class Y>
void rms_norm(B& b, matrix_view<const T> x, matrix_view<const T> gain, T epsilon, matrix_view<Y> y,
              matrix_view<T> inverse) {
  require_shape(gain, 1, x.cols, "rms_norm: gain");
  require_shape(y, x.rows, x.cols, "rms_norm: y");
  require_shape(inverse, x.rows, 1, "rms_norm: inverse");
  b.run(x.rows, detail::rms_norm_program<T, Y>{x, gain, y, inverse, epsilon});
}

/// y again, from the r that was kept: cheaper than keeping y. Throws shape_error. Queues one program.
template <backend B, class T, class Y>
void rms_norm_again(B& b, matrix_view<const T> x, matrix_view<const T> gain, matrix_view<const T> inverse,
                    matrix_view<Y> y) {
  require_shape(gain, 1, x.cols, "rms_norm_again: gain");
  require_shape(inverse, x.rows, 1, "rms_norm_again: inverse");
  require_shape(y, x.rows, x.cols, "rms_norm_again: y");
  b.run(x.rows, detail::rms_norm_again_program<T, Y>{x, gain, inverse, y});
}

/// Adds the gradients to `d_x` [N × D] and `d_gain` [1 × D], unless that is a view of nothing; `partial`
/// [rms_norm_parts(N) × D] is worked in. `d_x` may not be `d_y`. Throws shape_error. Queues three programs.
template <backend B, class T>
void rms_norm_gradient(B& b, matrix_view<const T> x, matrix_view<const T> gain, matrix_view<const T> inverse,
                       matrix_view<const T> d_y, matrix_view<T> d_x, matrix_view<T> d_gain, matrix_view<T> partial) {
  require_shape(gain, 1, x.cols, "rms_norm_gradient: gain");
  require_shape(inverse, x.rows, 1, "rms_norm_gradient: inverse");
  require_shape(d_y, x.rows, x.cols, "rms_norm_gradient: d_y");
  require_shape(d_x, x.rows, x.cols, "rms_norm_gradient: d_x");
  require_shape(partial, rms_norm_parts(x.rows), x.cols, "rms_norm_gradient: partial");
  if (d_gain.data != nullptr) {
    require_shape(d_gain, 1, x.cols, "rms_norm_gradient: d_gain");
    const detail::rms_norm_gain_program<T> of_gain{x, inverse, d_y, partial};
    b.run(partial.rows * of_gain.blocks(), of_gain);
    b.run(x.cols, detail::add_column_sums_program<T>{partial, d_gain});
  }
  b.run(x.rows, detail::rms_norm_gradient_program<T>{x, gain, inverse, d_y, d_x});
}

}  // namespace dro::models

#endif
