// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_SWIGLU_HPP
#define DRO_MODELS_TRANSFORMER_SWIGLU_HPP

/// \file
/// The gated activation y = silu(a) ∘ u with silu(a) = a / (1 + e^−a) (Shazeer 2020).

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>

namespace dro::models {

namespace detail {

template <class T, class Y>
struct swiglu_program {
  matrix_view<const T> gate, up;  // [N × F]
  matrix_view<Y> y;               // [N × F]

  [[nodiscard]] index_t width() const { return y.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    for_each_overlapped(
        team, y.cols,
        [&](index_t j) {
          const T a = gate(row, j);
          return rounded_to<Y>(a / (T(1) + math::exp(-a)) * up(row, j));
        },
        [&](index_t j, Y value) { y(row, j) = value; });
  }
};

/// With σ = 1 / (1 + e^−a): ∂y/∂a = u σ (1 + a (1 − σ)), ∂y/∂u = a σ.
template <class T, class Y>
struct swiglu_gradient_program {
  matrix_view<const T> gate, up, d_y;  // [N × F]
  matrix_view<Y> d_gate, d_up;         // [N × F]

  [[nodiscard]] index_t width() const { return d_y.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    struct result {
      Y gate, up;
    };
    for_each_overlapped(
        team, d_y.cols,
        [&](index_t j) {
          const T a = gate(row, j);
          const T d = d_y(row, j);
          const T sigma = T(1) / (T(1) + math::exp(-a));
          return result{rounded_to<Y>(d * up(row, j) * sigma * (T(1) + a * (T(1) - sigma))),
                        rounded_to<Y>(d * a * sigma)};
        },
        [&](index_t j, const result& r) {
          d_gate(row, j) = r.gate;
          d_up(row, j) = r.up;
        });
  }
};

}  // namespace detail

/// y ← silu(gate) ∘ up, all [N × F]; y may be either, and its numbers may be bfloat16. A gate of −inf gives NaN, as
/// 0 · inf does. Throws shape_error. Queues one program.
template <backend B, class T, class Y>
void swiglu(B& b, matrix_view<const T> gate, matrix_view<const T> up, matrix_view<Y> y) {
  require_shape(gate, y.rows, y.cols, "swiglu: gate");
  require_shape(up, y.rows, y.cols, "swiglu: up");
  b.run(y.rows, detail::swiglu_program<T, Y>{gate, up, y});
}

/// Writes the gradients of `gate` and `up`, given that of y, all [N × F]. They may be `gate` and `up`, and their
/// numbers may be bfloat16. Throws shape_error. Queues one program.
template <backend B, class T, class Y>
void swiglu_gradient(B& b, matrix_view<const T> gate, matrix_view<const T> up, matrix_view<const T> d_y,
                     matrix_view<Y> d_gate, matrix_view<Y> d_up) {
  require_shape(gate, d_y.rows, d_y.cols, "swiglu_gradient: gate");
  require_shape(up, d_y.rows, d_y.cols, "swiglu_gradient: up");
  require_shape(d_gate, d_y.rows, d_y.cols, "swiglu_gradient: d_gate");
  require_shape(d_up, d_y.rows, d_y.cols, "swiglu_gradient: d_up");
  b.run(d_y.rows, detail::swiglu_gradient_program<T, Y>{gate, up, d_y, d_gate, d_up});
}

}  // namespace dro::models

#endif
