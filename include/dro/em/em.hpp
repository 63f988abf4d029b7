// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_EM_HPP
#define DRO_EM_EM_HPP

/// \file
/// Expectation maximisation: E-steps and M-steps over all queries, iteration after iteration.

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include <dro/backend/concept.hpp>
#include <dro/em/adaptive.hpp>
#include <dro/em/allocation.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/m_step.hpp>
#include <dro/em/totals.hpp>
#include <dro/em/training_loop.hpp>
#include <dro/error.hpp>
#include <dro/random/random_state.hpp>

namespace dro {

struct em_options {
  loop_options loop;
  draw_options draw;
  index_t m_steps = 1;  ///< gradient steps on the draws of each E-step
  /// From which log p(y|x,d_z) on, in nats, a sample counts as a hit in the diagnostics (see hit_rule); NaN: nobody
  /// knows.
  double hit_log_likelihood = std::numeric_limits<double>::quiet_NaN();
};

/// Where a run stands, and what a checkpoint of it keeps beside the models and optimisers.
template <backend B>
struct em_run {
  loop_position position;
  random_state<B> random;
  step_totals<B> totals;

  /// The beginning of a run whose draws are seeded with `seed`.
  em_run(B& b, std::uint64_t seed) : random(b, seed), totals(b) {}
};

/// Whose draws a run takes: the selector's own; a proposal's, weighed by p(z|x) p(y|x,d_z)/q(z); or as many a query as
/// a sample_allocation says.
struct selector_draws {};

namespace detail {

template <class D, class B>
inline constexpr bool is_allocation = std::is_same_v<D, sample_allocation<B>>;

}  // namespace detail

/// Trains a selector and a generator together (Shi et al. 2025, algorithm 1). For each batch: draw, weigh, and take
/// `m_steps` gradient steps on `target`, which is an objective or another m_step_target. Give `frozen{}` as the
/// optimiser of a model that is not to change.
///
/// `draws_from` says where rankings come from: `selector_draws{}` (the paper's choice; it may be left out), any
/// proposal, or a sample_allocation, made for the queries of `source`, which then shares out its own number of samples.
/// `run` is moved on, so a run that was stopped, or restored from a checkpoint, goes on as if it had not been.
/// Callbacks are those of training_loop, with a step_summary for each iteration; one that has
/// `on_e_step(B&, const Batch&, const e_step_result&)`, too, is shown each E-step before its M-step. One read an
/// iteration. Returns true if all iterations are done.
///
/// With `loop.piece_size`, E-step and gradient are those of a piece at a time: the draws are the same and so, but for
/// rounding, is the step of the whole batch. A target that remembers earlier calls (moving_average_baseline) is called
/// for each piece, and a callback's on_e_step, too. Throws option_error for pieces with several `m_steps`, which would
/// need all of them at once, or with a sample_allocation, which shares out a batch's samples.
template <backend B, class Selector, class Generator, class DrawsFrom, query_source Source, class Target,
          class SelectorOptimizer, class GeneratorOptimizer, class... Callbacks>
bool em(B& b, Selector& selector, Generator& generator, DrawsFrom&& draws_from, const Source& source,
        const Target& target, SelectorOptimizer&& selector_optimizer, GeneratorOptimizer&& generator_optimizer,
        const em_options& options, em_run<B>& run, Callbacks&&... callbacks) {
  using draws_type = std::remove_cvref_t<DrawsFrom>;
  const bool in_pieces = options.loop.piece_size > 0 && options.loop.piece_size < options.loop.batch_size;
  if (in_pieces && (options.m_steps > 1 || detail::is_allocation<draws_type, B>)) {
    throw option_error("em: piece size is " + std::to_string(options.loop.piece_size) +
                       ", but several M-steps and allocated samples need whole batches");
  }
  const auto show = [&](auto& callback, const auto& batch, const auto& e) {
    if constexpr (requires { callback.on_e_step(b, batch, e); }) callback.on_e_step(b, batch, e);
  };
  const auto step = [&](const auto& batch, const batch_piece& piece) {
    auto e = [&] {
      if constexpr (detail::is_allocation<draws_type, B>) {
        return adaptive_e_step(b, selector, generator, batch, piece.positions, options.draw.select, draws_from,
                               run.random);
      } else if constexpr (std::is_same_v<draws_type, selector_draws>) {
        return e_step(b, selector, generator, batch, options.draw, run.random.source(b, piece.first));
      } else {
        return e_step(b, selector, generator, draws_from, batch, options.draw, run.random.source(b, piece.first));
      }
    }();
    if (!detail::is_allocation<draws_type, B> && piece.is_last()) run.random.advance(b);
    (show(callbacks, batch, e), ...);
    // The diagnostics are those of the E-step, also where the M-step weighs the draws again.
    using scalar = typename Selector::scalar_type;
    run.totals.add(b, e.z, e.scores(b), e.weights, hit_rule<scalar>{.threshold = options.hit_log_likelihood});
    const auto c = m_step(b, selector, generator, batch, e, target, selector_optimizer, generator_optimizer,
                          {.steps = options.m_steps, .query_count = piece.batch_size, .moves = piece.is_last()});
    run.totals.add_coefficients(b, c.status);
  };
  return training_loop(
      source, options.loop, run.position, step, [&] { return run.totals.take(b); }, callbacks...);
}

/// The same with the selector as its own proposal.
template <backend B, class Selector, class Generator, query_source Source, class Target, class SelectorOptimizer,
          class GeneratorOptimizer, class... Callbacks>
bool em(B& b, Selector& selector, Generator& generator, const Source& source, const Target& target,
        SelectorOptimizer&& selector_optimizer, GeneratorOptimizer&& generator_optimizer, const em_options& options,
        em_run<B>& run, Callbacks&&... callbacks) {
  return em(b, selector, generator, selector_draws{}, source, target, selector_optimizer, generator_optimizer, options,
            run, callbacks...);
}

/// The same with draws from `draws_from`, from beginning to end, for a run that nobody resumes.
template <backend B, class Selector, class Generator, class DrawsFrom, query_source Source, class Target,
          class SelectorOptimizer, class GeneratorOptimizer, class... Callbacks>
bool em(B& b, Selector& selector, Generator& generator, DrawsFrom&& draws_from, const Source& source,
        const Target& target, SelectorOptimizer&& selector_optimizer, GeneratorOptimizer&& generator_optimizer,
        const em_options& options, Callbacks&&... callbacks) {
  em_run<B> run(b, options.loop.seed);
  return em(b, selector, generator, draws_from, source, target, selector_optimizer, generator_optimizer, options, run,
            callbacks...);
}

/// The same from beginning to end, for a run that nobody resumes: draws are seeded with `options.loop.seed`, as the
/// shuffling is.
template <backend B, class Selector, class Generator, query_source Source, class Target, class SelectorOptimizer,
          class GeneratorOptimizer, class... Callbacks>
bool em(B& b, Selector& selector, Generator& generator, const Source& source, const Target& target,
        SelectorOptimizer&& selector_optimizer, GeneratorOptimizer&& generator_optimizer, const em_options& options,
        Callbacks&&... callbacks) {
  em_run<B> run(b, options.loop.seed);
  return em(b, selector, generator, selector_draws{}, source, target, selector_optimizer, generator_optimizer, options,
            run, callbacks...);
}

}  // namespace dro

#endif
