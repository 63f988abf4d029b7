// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_M_STEP_HPP
#define DRO_EM_M_STEP_HPP

/// \file
/// The M-step: hand the models their coefficients and move their parameters.

#include <string>
#include <type_traits>

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
};

/// Moves both models uphill on Σ c_i log p(z_i|x) + c′_i log p(y|x,d_{z_i}). An optimiser is anything with
/// `step(b, model)`; give `frozen{}` for a model that is not to change. With several steps, the coefficients of an
/// objective that is `valid_over_steps` are kept; for any other the draws are scored and weighed again before each
/// further step, so `e` is that of the last step afterwards. Reads nothing back.
/// Returns the coefficients of the last step. Throws option_error if steps < 1.
template <backend B, class T, class Selector, class Generator, class Queries, objective Objective,
          class SelectorOptimizer, class GeneratorOptimizer>
gradient_coefficients<B, T> m_step(B& b, Selector& selector, Generator& generator, const Queries& queries,
                                   e_step_result<B, T>& e, const Objective& target,
                                   SelectorOptimizer&& selector_optimizer, GeneratorOptimizer&& generator_optimizer,
                                   const m_step_options& options = {}) {
  if constexpr (!detail::is_frozen<SelectorOptimizer>) check_gradient<Selector, B, Queries, T>();
  if constexpr (!detail::is_frozen<GeneratorOptimizer>) check_gradient<Generator, B, Queries, T>();
  if (options.steps < 1)
    throw option_error("M-step: steps is " + std::to_string(options.steps) + ", expected 1 or more");
  auto c = coefficients(b, target, e.scores(b), e.weights, options.query_count);
  for (index_t step = 0; step < options.steps; ++step) {
    if (step > 0 && !Objective::valid_over_steps) {
      reweigh(b, selector, generator, queries, e);
      c = coefficients(b, target, e.scores(b), e.weights, options.query_count);
    }
    if constexpr (!detail::is_frozen<SelectorOptimizer>) {
      selector.accumulate_gradient(b, queries, e.z, c.selector);
      selector_optimizer.step(b, selector);
    }
    if constexpr (!detail::is_frozen<GeneratorOptimizer>) {
      generator.accumulate_gradient(b, queries, e.z, c.generator);
      generator_optimizer.step(b, generator);
    }
  }
  return c;
}

}  // namespace dro

#endif
