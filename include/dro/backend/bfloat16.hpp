// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_BFLOAT16_HPP
#define DRO_BACKEND_BFLOAT16_HPP

/// \file
/// Matrices of bfloat16, in which matrix units take factors of products: how row programs write them. Nothing else is
/// computed with them.

#include <type_traits>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/math/float16.hpp>

namespace dro {

using math::bfloat16;

/// `value` as a program writes it to a matrix of Y: as it is, or the nearest bfloat16, of two as near the one with an
/// even significand, |error| ≤ 2^-8 |value| for a normal number.
template <class Y, class T>
[[nodiscard]] DRO_HOST_DEVICE inline Y rounded_to(T value) {
  if constexpr (std::is_same_v<Y, bfloat16> && std::is_same_v<T, float>) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    bfloat16 nearest;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(nearest.bits) : "f"(value));
    return nearest;
#else
    return math::to_bfloat16(value);
#endif
  } else {
    static_assert(std::is_same_v<Y, T>);
    return value;
  }
}

namespace detail {

struct round_program {
  matrix_view<const float> source;
  matrix_view<bfloat16> target;
  [[nodiscard]] index_t width() const { return target.cols; }
  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    for_each_overlapped(
        team, target.cols, [&](index_t col) { return rounded_to<bfloat16>(source(row, col)); },
        [&](index_t col, bfloat16 value) { target(row, col) = value; });
  }
};

}  // namespace detail

/// Copies `source` to `target`, of the same shape and any strides, each number as the nearest bfloat16. Throws
/// shape_error. Queues one program.
template <backend B>
void copy_rounded(B& b, matrix_view<const float> source, matrix_view<bfloat16> target) {
  require_shape(source, target.rows, target.cols, "copy_rounded: source");
  b.run(target.rows, detail::round_program{source, target});
}

}  // namespace dro

#endif
