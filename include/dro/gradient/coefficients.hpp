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
#include <dro/math/binary_format.hpp>

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

  /// What an objective writes to. Notes in `trouble`, a variable of each thread, whether all was finite.
  template <row_form Form>
  struct output {
    using word = typename math::detail::binary_format<T>::word;
    row_values<Form, T> selector, generator;
    T* scale_of_row;
    T scale;
    word& trouble;

    DRO_HOST_DEVICE void operator()(index_t i, T c, T c_generator) const {
      selector[i] = noted(scale * c);
      generator[i] = noted(scale * c_generator);
    }
    /// Adds to what the selector's coefficient is already.
    DRO_HOST_DEVICE void add(index_t i, T c) const { selector[i] = noted(selector[i] + scale * c); }
    DRO_HOST_DEVICE void log_scale(T nats) const { *scale_of_row = nats; }

   private:
    // x − x is +0, all bits of which are clear, or NaN.
    [[nodiscard]] DRO_HOST_DEVICE T noted(T x) const {
      trouble |= math::detail::bits(x - x);
      return x;
    }
  };

  /// As for the weights: four draws a thread.
  [[nodiscard]] index_t width() const { return (scores.groups().mean_size() + 3) / 4; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const row_form form = scores.form_of(q);
    const bool is_dense = weights.row(q).stride == 1 && selector.row(q).stride == 1 && generator.row(q).stride == 1;
    if (is_dense && form == row_form::likelihoods) {
      write<row_form::likelihoods>(team, q, formed_draws<T, row_form::likelihoods>(scores, weights, q));
    } else if (is_dense && form == row_form::ratios) {
      write<row_form::ratios>(team, q, formed_draws<T, row_form::ratios>(scores, weights, q));
    } else {
      const T samples =
          scores.has_multiplicity()
              ? team.template sum<T>(scores.size(q), [row = scores.row(q)](index_t i) { return row.count(i); })
              : static_cast<T>(scores.size(q));
      write<row_form::any>(team, q, query_draws<T>(scores, weights, q, samples));
    }
  }

 private:
  // Flattened, as that of the weights is.
  template <row_form Form, class Team, class Draws>
  [[gnu::flatten]] DRO_HOST_DEVICE void write(Team& team, index_t q, const Draws& draws) const {
    const index_t size = draws.size();
    const auto to_selector = values_of<Form>(selector.row(q));
    const auto to_generator = values_of<Form>(generator.row(q));
    auto state = static_cast<status>(weight_status(q, 0));
    const T block = static_cast<T>(draws.block());
    if (is_used(state) && draws.samples() < block * static_cast<T>(Objective::least_samples))
      state = status::degenerate;
    if (team.rank() == 0) log_scale(q, 0) = T(0);
    if (is_used(state)) {
      typename output<Form>::word trouble = 0;
      const status found =
          target(team, draws, output<Form>{to_selector, to_generator, &log_scale(q, 0), scale, trouble});
      if (found != status::ok) state = found;
      // Log-weights can be fine where ratios or rewards overflow: nothing but numbers comes out.
      if (is_used(state) && team.any(trouble != 0)) {
        team.barrier();
        const index_t nans = team.template sum<index_t>(size, [&](index_t i) {
          const T c = to_selector[i];
          const T c_generator = to_generator[i];
          return static_cast<index_t>(c != c || c_generator != c_generator);
        });
        state = nans > 0 ? status::not_a_number : status::unbounded;
      }
    }
    if (!is_used(state)) {
      team.barrier();
      team.for_each(size, [&](index_t i) { to_selector[i] = to_generator[i] = T(0); });
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
