// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_M_STEP_HPP
#define DRO_EM_M_STEP_HPP

/// \file
/// The M-step: hand the models their coefficients and move their parameters.

#include <concepts>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/em/e_step.hpp>
#include <dro/error.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/model/concepts.hpp>

namespace dro {

/// The optimiser of a model that is not trained: `step` does nothing, and no gradient is asked of the model.
struct frozen {};

namespace detail {

template <class Optimizer>
inline constexpr bool is_frozen = std::is_same_v<std::remove_cvref_t<Optimizer>, frozen>;

}  // namespace detail

struct m_step_options {
  index_t steps = 1;        ///< gradient steps on the same draws
  index_t query_count = 0;  ///< queries of the whole batch, of which these may be a part; 0: these are all
  bool moves = true;        ///< false: gradients stay in the models, for the next part of the batch to add to
};

namespace detail {

/// An estimator that turns an E-step into coefficients by itself, since it needs more than log-probabilities.
template <class O, class B, class T, class Selector, class Generator, class Queries>
concept makes_coefficients = requires(const O& o, B& b, const Selector& s, const Generator& g, const Queries& queries,
                                      const e_step_result<B, T>& e) {
  { o.coefficients(b, s, g, queries, e, index_t{}) } -> std::same_as<gradient_coefficients<B, T>>;
};

/// One whose gradient of the selector is a gradient of its scores.
template <class O, class B, class T>
concept makes_score_gradient = requires(const O& o, B& b, const matrix_t<B, T>& scores, const e_step_result<B, T>& e,
                                        matrix_t<B, T>& d_scores) {
  { o.score_gradient(b, scores, e, index_t{}, d_scores) } -> std::same_as<gradient_coefficients<B, T>>;
};

}  // namespace detail

/// What an M-step can maximise: an `objective`, whose coefficients follow from the log-probabilities of the draws
/// alone, or an estimator that needs more of the models and brings one of these members:
///
///     // makes both models' coefficients, for example with another call of the generator
///     gradient_coefficients<B, T> coefficients(B&, const Selector&, const Generator&, const Queries&,
///                                              const e_step_result<B, T>&, index_t query_count) const;
///     // adds the selector's gradient to d_scores [queries × documents]; only `generator` of what it returns is used.
///     // For a scored_selector.
///     gradient_coefficients<B, T> score_gradient(B&, const matrix_t<B, T>& scores, const e_step_result<B, T>&,
///                                                index_t query_count, matrix_t<B, T>& d_scores) const;
///
/// and states `static constexpr bool valid_over_steps`, and `one_step` if it is of no use after the first gradient
/// step.
template <class O, class B, class T, class Selector, class Generator, class Queries>
concept m_step_target = objective<O> || detail::makes_coefficients<O, B, T, Selector, Generator, Queries> ||
    detail::makes_score_gradient<O, B, T>;

/// Moves both models uphill on Σ c_i log p(z_i|x) + c′_i log p(y|x,d_{z_i}). An optimiser is anything with
/// `step(b, model)`; give `frozen{}` for a model that is not to change. With several steps, the coefficients of a
/// target that is `valid_over_steps` are kept; for any other the draws are scored and weighed again before each
/// further step, so `e` is that of the last step afterwards. Reads nothing back.
///
/// A batch may be gone through in parts, in any sizes, to the same step but for rounding: give `query_count` with each
/// and `moves = false` with all but the last, whose M-step takes the sum of their gradients.
/// Returns the coefficients of the last step. Throws option_error if steps < 1.
template <backend B, class T, class Selector, class Generator, class Queries, class Target, class SelectorOptimizer,
          class GeneratorOptimizer>
requires m_step_target<Target, B, T, Selector, Generator, Queries> gradient_coefficients<B, T> m_step(
    B& b, Selector& selector, Generator& generator, const Queries& queries, e_step_result<B, T>& e,
    const Target& target, SelectorOptimizer&& selector_optimizer, GeneratorOptimizer&& generator_optimizer,
    const m_step_options& options = {}) {
  constexpr bool in_score_space = detail::makes_score_gradient<Target, B, T>;
  constexpr bool moves_selector = !detail::is_frozen<SelectorOptimizer>;
  static_assert(!in_score_space || scored_selector<Selector, B, Queries>,
                "dro: this estimator works on the scores of a Plackett–Luce selector: it needs `scores` and "
                "`accumulate_score_gradient`; see dro::scored_selector in dro/model/concepts.hpp");
  if constexpr (moves_selector) check_gradient<Selector, B, Queries, T>();
  if constexpr (!detail::is_frozen<GeneratorOptimizer>) check_gradient<Generator, B, Queries, T>();
  if (options.steps < 1)
    throw option_error("M-step: steps is " + std::to_string(options.steps) + ", expected 1 or more");
  if (!options.moves && options.steps > 1) {
    throw option_error("M-step: steps is " + std::to_string(options.steps) + " on a part of a batch, expected 1");
  }
  if constexpr (requires { Target::one_step; }) {
    if (options.steps > 1) {
      throw option_error("M-step: steps is " + std::to_string(options.steps) +
                         ", but this estimator holds for one step on the draws of an E-step");
    }
  }
  matrix_t<B, T> d_scores;
  const auto estimate = [&] {
    if constexpr (in_score_space) {
      const auto scores = selector.scores(b, queries);
      const auto shape = std::as_const(b).view(scores);
      d_scores = make_filled<T>(b, shape.rows, shape.cols, T(0));
      return target.score_gradient(b, scores, e, options.query_count, d_scores);
    } else if constexpr (detail::makes_coefficients<Target, B, T, Selector, Generator, Queries>) {
      return target.coefficients(b, selector, generator, queries, e, options.query_count);
    } else {
      return coefficients(b, target, e.scores(b), e.weights, options.query_count);
    }
  };
  auto c = estimate();
  for (index_t step = 0; step < options.steps; ++step) {
    if (step > 0 && !Target::valid_over_steps) {
      reweigh(b, selector, generator, queries, e);
      c = estimate();
    }
    if constexpr (moves_selector) {
      if constexpr (in_score_space) {
        selector.accumulate_score_gradient(b, queries, d_scores);
      } else {
        selector.accumulate_gradient(b, queries, e.z, c.selector);
      }
      if (options.moves) selector_optimizer.step(b, selector);
    }
    if constexpr (!detail::is_frozen<GeneratorOptimizer>) {
      generator.accumulate_gradient(b, queries, e.z, c.generator);
      if (options.moves) generator_optimizer.step(b, generator);
    }
  }
  return c;
}

}  // namespace dro

#endif
