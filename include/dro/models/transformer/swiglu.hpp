// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_SWIGLU_HPP
#define DRO_MODELS_TRANSFORMER_SWIGLU_HPP

/// \file
/// The gated activation y = silu(a) ∘ u with silu(a) = a / (1 + e^−a) (Shazeer 2020).

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>

namespace dro::models {

namespace detail {

template <class T>
struct swiglu_program {
  matrix_view<const T> gate, up;  // [N × F]
  matrix_view<T> y;               // [N × F]

  [[nodiscard]] index_t width() const { return y.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.for_each(y.cols, [&](index_t j) {
      const T a = gate(row, j);
      y(row, j) = a / (T(1) + math::exp(-a)) * up(row, j);
    });
  }
};

/// With σ = 1 / (1 + e^−a): ∂y/∂a = u σ (1 + a (1 − σ)), ∂y/∂u = a σ.
template <class T>
struct swiglu_gradient_program {
  matrix_view<T> gate, up;  // [N × F], replaced by their gradients
  matrix_view<const T> d_y;

  [[nodiscard]] index_t width() const { return d_y.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.for_each(d_y.cols, [&](index_t j) {
      const T a = gate(row, j);
      const T u = up(row, j);
      const T sigma = T(1) / (T(1) + math::exp(-a));
      gate(row, j) = d_y(row, j) * u * sigma * (T(1) + a * (T(1) - sigma));
      up(row, j) = d_y(row, j) * a * sigma;
    });
  }
};

}  // namespace detail

/// y ← silu(gate) ∘ up, all [N × F]; y may be either. A gate of −inf gives NaN, as 0 · inf does. Throws shape_error.
/// Queues one program.
template <backend B, class T>
void swiglu(B& b, matrix_view<const T> gate, matrix_view<const T> up, matrix_view<T> y) {
  require_shape(gate, y.rows, y.cols, "swiglu: gate");
  require_shape(up, y.rows, y.cols, "swiglu: up");
  b.run(y.rows, detail::swiglu_program<T>{gate, up, y});
}

/// Replaces `gate` and `up` by their gradients, given that of y, all [N × F]. Throws shape_error. Queues one program.
template <backend B, class T>
void swiglu_gradient(B& b, matrix_view<T> gate, matrix_view<T> up, matrix_view<const T> d_y) {
  require_shape(gate, d_y.rows, d_y.cols, "swiglu_gradient: gate");
  require_shape(up, d_y.rows, d_y.cols, "swiglu_gradient: up");
  b.run(d_y.rows, detail::swiglu_gradient_program<T>{gate, up, d_y});
}

}  // namespace dro::models

#endif
