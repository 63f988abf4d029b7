// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_E_STEP_HPP
#define DRO_EM_E_STEP_HPP

/// \file
/// The E-step: draw rankings, score them, weigh them.

#include <iterator>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/model/concepts.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// Draws of an E-step, what the models said of them, and their weights. Everything is in the backend's memory.
template <backend B, class T>
struct e_step_result {
  draws<B, T> z;
  matrix_t<B, T>
      log_selector;  ///< log p(z|x), [draws × 1], nats; empty where the selector drew: it is z.log_proposal()
  matrix_t<B, T> log_likelihood;  ///< log p(y|x,d_z), [draws × 1], nats
  importance_weights_result<B, T> weights;
  bool selector_drew;

  /// Views of the log-probabilities, for `coefficients` and other estimators.
  [[nodiscard]] scored_draws<T> scores(B& b) const {
    return selector_drew ? on_policy(b, log_likelihood, z) : off_policy(b, log_selector, log_likelihood, z);
  }
};

namespace detail {

template <class B, class T, class Selector, class Generator, class Queries>
[[nodiscard]] e_step_result<B, T> weigh(B& b, const Selector& selector, const Generator& generator,
                                        const Queries& queries, draws<B, T> z, bool selector_drew) {
  auto log_selector = selector_drew ? matrix_t<B, T>{} : selector.log_prob(b, queries, z);
  auto log_likelihood = generator.log_likelihood(b, queries, z);
  e_step_result<B, T> result{std::move(z), std::move(log_selector), std::move(log_likelihood), {}, selector_drew};
  result.weights = importance_weights(b, result.scores(b));
  return result;
}

}  // namespace detail

/// E-step with the selector as the proposal, as in the paper: draws m rankings for each query from p(z|x), scores them
/// with the generator, and weighs them by w ∝ p(y|x,d_z). Reads nothing back.
/// Cost: one draw and one generator score a ranking. Source: Shi et al. 2025, section 3.
///
/// For queries that are a part of a batch, `random.source(b, first)` gives the draws that all of them together would
/// have got.
template <backend B, class Selector, class Generator, class Queries>
[[nodiscard]] auto e_step(B& b, const Selector& selector, const Generator& generator, const Queries& queries,
                          const draw_options& options, const random_source& random) {
  check_selector<Selector, B, Queries>();
  check_generator<Generator, B, Queries, typename Selector::scalar_type>();
  return detail::weigh(b, selector, generator, queries, selector.draw(b, queries, options, random), true);
}

/// The same for a whole batch, after which the random step is advanced.
template <backend B, class Selector, class Generator, class Queries>
[[nodiscard]] auto e_step(B& b, const Selector& selector, const Generator& generator, const Queries& queries,
                          const draw_options& options, random_state<B>& random) {
  auto e = e_step(b, selector, generator, queries, options, random.source(b));
  random.advance(b);
  return e;
}

/// E-step with another proposal q: w ∝ p(z|x) p(y|x,d_z) / q(z). With `exhaustive` as the proposal the weights are the
/// exact posterior.
template <backend B, class Selector, class Generator, class Proposal, class Queries>
[[nodiscard]] auto e_step(B& b, const Selector& selector, const Generator& generator, const Proposal& proposal,
                          const Queries& queries, const draw_options& options, const random_source& random) {
  check_selector<Selector, B, Queries>();
  check_proposal<Proposal, B, Queries>();
  check_generator<Generator, B, Queries, typename Selector::scalar_type>();
  return detail::weigh(b, selector, generator, queries, proposal.draw(b, queries, options, random), false);
}

/// The same for a whole batch, after which the random step is advanced.
template <backend B, class Selector, class Generator, class Proposal, class Queries>
[[nodiscard]] auto e_step(B& b, const Selector& selector, const Generator& generator, const Proposal& proposal,
                          const Queries& queries, const draw_options& options, random_state<B>& random) {
  auto e = e_step(b, selector, generator, proposal, queries, options, random.source(b));
  random.advance(b);
  return e;
}

/// Scores and weighs again the draws of an earlier E-step under the models as they are now. The draws keep the log q
/// they were drawn with.
template <backend B, class T, class Selector, class Generator, class Queries>
void reweigh(B& b, const Selector& selector, const Generator& generator, const Queries& queries,
             e_step_result<B, T>& result) {
  result.selector_drew = false;
  result.log_selector = selector.log_prob(b, queries, result.z);
  result.log_likelihood = generator.log_likelihood(b, queries, result.z);
  result.weights = importance_weights(b, result.scores(b));
}

}  // namespace dro

#endif
