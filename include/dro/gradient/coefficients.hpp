// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_COEFFICIENTS_HPP
#define DRO_GRADIENT_COEFFICIENTS_HPP

/// \file
/// From scored draws to the coefficients the models take back.

#include <cstdint>
#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/objective.hpp>

namespace dro {

/// One value for each draw, in the shape of the log-likelihoods, for each of the two models.
template <backend B, class T>
struct gradient_coefficients {
  matrix_t<B, T> selector;           ///< c: the selector's gradient is Σ c_i ∇ log p(z_i|x)
  matrix_t<B, T> generator;          ///< c′: the generator's gradient is Σ c′_i ∇ log p(y|x,d_{z_i})
  matrix_t<B, T> log_scale;          ///< [queries × 1], nats: the objective's gradient is e^log_scale times the above
  matrix_t<B, std::int32_t> status;  ///< [queries × 1]: that of the weights, or what the objective found
};

namespace detail {

template <class T, class Objective>
struct coefficients_program {
  scored_draws<T> scores;
  grouped_view<const T> weights;
  matrix_view<const std::int32_t> weight_status;
  grouped_view<T> selector, generator;
  matrix_view<T> log_scale;
  matrix_view<std::int32_t> status_of;
  T scale;
  Objective target;

  /// What an objective writes to.
  struct output {
    const coefficients_program& to;
    index_t q;
    DRO_HOST_DEVICE void operator()(index_t i, T c, T c_generator) const {
      to.selector(q, i) = to.scale * c;
      to.generator(q, i) = to.scale * c_generator;
    }
    /// Adds to what the selector's coefficient is already.
    DRO_HOST_DEVICE void add(index_t i, T c) const { to.selector(q, i) += to.scale * c; }
    DRO_HOST_DEVICE void log_scale(T nats) const { to.log_scale(q, 0) = nats; }
  };

  [[nodiscard]] index_t width() const { return scores.groups().mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const T samples = team.template sum<T>(scores.size(q), [&](index_t i) { return scores.count(q, i); });
    auto state = static_cast<status>(weight_status(q, 0));
    const T block = static_cast<T>(scores.traits().block);
    if (is_used(state) && samples < block * static_cast<T>(Objective::least_samples)) state = status::degenerate;
    if (team.rank() == 0) log_scale(q, 0) = T(0);
    if (is_used(state)) {
      const status found = target(team, query_draws<T>{scores, weights, q, samples}, output{*this, q});
      if (found != status::ok) state = found;
      team.barrier();
      // Log-weights can be fine where ratios or rewards overflow: nothing but numbers comes out.
      const auto count = [&](auto&& matches) {
        return team.template sum<index_t>(scores.size(q), [&](index_t i) {
          return static_cast<index_t>(matches(selector(q, i)) || matches(generator(q, i)));
        });
      };
      if (is_used(state) && count([](T x) { return x - x != T(0); }) > 0) {
        state = count([](T x) { return x != x; }) > 0 ? status::not_a_number : status::unbounded;
        team.barrier();
      }
    }
    if (!is_used(state)) {
      team.for_each(scores.size(q), [&](index_t i) { selector(q, i) = generator(q, i) = T(0); });
    }
    if (team.rank() == 0) status_of(q, 0) = static_cast<std::int32_t>(state);
  }
};

}  // namespace detail

/// Coefficients of `target` for the draws behind `scores` and their `weights`, divided by `query_count`: the queries
/// of the whole batch, so that neither micro-batches nor devices change a step (0: the queries of these scores). A
/// query that is not used has coefficients 0 and still counts in the division; one with a coefficient that is not
/// finite is not used. Throws option_error if every query has fewer samples than the objective is defined for,
/// shape_error if weights and scores differ. Queues one program; O(m) a query.
template <backend B, class T, objective Objective>
[[nodiscard]] gradient_coefficients<B, T> coefficients(B& b, const Objective& target, const scored_draws<T>& scores,
                                                       const importance_weights_result<B, T>& weights,
                                                       index_t query_count = 0) {
  const grouping& groups = scores.groups();
  const index_t block = scores.traits().block;
  if (groups.is_uniform() && groups.queries() > 0 && groups.per_query() < block * Objective::least_samples) {
    throw option_error("samples is " + std::to_string(groups.per_query()) + ", but \"" + objective_name<Objective>() +
                       "\" needs at least " + std::to_string(Objective::least_samples) +
                       (block > 1 ? " independent blocks of " + std::to_string(block) : ""));
  }
  require_shape(b.view(weights.status), groups.queries(), 1, "coefficients: status of the weights");
  if constexpr (requires { target.require(scores); }) target.require(scores);
  const index_t divisor = query_count > 0 ? query_count : (groups.queries() > 0 ? groups.queries() : 1);
  gradient_coefficients<B, T> c{
      b.template make<T>(scores.rows(), scores.cols()), b.template make<T>(scores.rows(), scores.cols()),
      b.template make<T>(groups.queries(), 1), b.template make<std::int32_t>(groups.queries(), 1)};
  b.run(groups.queries(), detail::coefficients_program<T, Objective>{scores,
                                                                     {b.view(weights.normalised), groups, "weights"},
                                                                     b.view(weights.status),
                                                                     {b.view(c.selector), groups, "selector"},
                                                                     {b.view(c.generator), groups, "generator"},
                                                                     b.view(c.log_scale),
                                                                     b.view(c.status),
                                                                     T(1) / static_cast<T>(divisor),
                                                                     target});
  return c;
}

}  // namespace dro

#endif
