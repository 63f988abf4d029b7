// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_SAMPLING_HPP
#define DRO_RANKING_SAMPLING_HPP

/// \file
/// How a ranking is drawn from a selector's scores, other than by its own probabilities.

#include <cmath>
#include <limits>
#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/random/joint_noise.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// Each pick is drawn from softmax(s/τ) over the documents left, cut to the `top_k` most probable ones, then to the
/// fewest most probable ones that hold a share of at least `top_p` of what is left, and made to sum to 1 again. Among
/// equal scores the smaller document number counts as more probable. The defaults change nothing.
///
/// log q of the draws is that of this distribution. One that cuts (`truncates()`) gives rankings outside the cut the
/// probability 0, so weights cannot make it stand for the selector: its draws say so (`draw_traits::covers`) and carry
/// the log of the mass that each pick kept, summed over the picks (`draws::log_kept`), of softmax(s/τ).
struct sampling {
  double temperature = 1;  ///< τ
  index_t top_k = 0;       ///< 0: all
  double top_p = 1;        ///< 1: all
  joint_noise noise = {};  ///< how the samples of a query share their noise

  [[nodiscard]] constexpr bool truncates() const { return top_k > 0 || top_p < 1; }
  /// Whether rankings are drawn just as the selector itself draws them.
  [[nodiscard]] constexpr bool is_plain() const {
    return temperature == 1 && !truncates() && noise.kind == noise_kind::independent;
  }
  [[nodiscard]] draw_traits traits() const { return {noise.block(), !truncates()}; }
};

/// Throws option_error unless 0 < τ < ∞, top_k ≥ 0 and 0 < top_p ≤ 1.
inline void require_sampling(const sampling& how) {
  if (!(how.temperature > 0) || !std::isfinite(how.temperature)) {
    throw option_error("temperature is " + std::to_string(how.temperature) + ", expected more than 0");
  }
  if (how.top_k < 0) {
    throw option_error("top_k is " + std::to_string(how.top_k) + ", expected 0 (all documents) or more");
  }
  if (!(how.top_p > 0) || !(how.top_p <= 1)) {
    throw option_error("top_p is " + std::to_string(how.top_p) + ", expected more than 0 and at most 1");
  }
}

namespace detail {

template <class T>
struct divide_program {
  matrix_view<const T> numerator;
  T denominator;
  matrix_view<T> quotient;
  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.for_each(quotient.cols, [&](index_t col) { quotient(row, col) = numerator(row, col) / denominator; });
  }
};

/// Scores / τ, kept alive beside their view; the scores themselves where τ = 1.
template <class B, class T>
struct tempered_scores {
  matrix_t<B, T> own;
  matrix_view<const T> view;

  tempered_scores(B& b, const matrix_view<const T>& scores, double temperature) : view(scores) {
    if (temperature == 1) return;
    if (!(static_cast<T>(temperature) >= std::numeric_limits<T>::min()) ||
        !std::isfinite(static_cast<T>(temperature))) {
      throw option_error("temperature is " + std::to_string(temperature) + ", beyond the number type of the scores");
    }
    own = b.template make<T>(scores.rows, scores.cols);
    const matrix_view<T> target = b.view(own);
    b.run(scores.rows, divide_program<T>{scores, static_cast<T>(temperature), target});
    view = target;
  }
};

}  // namespace detail
}  // namespace dro

#endif
