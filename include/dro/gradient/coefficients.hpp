// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_COEFFICIENTS_HPP
#define DRO_GRADIENT_COEFFICIENTS_HPP

/// \file
/// From scored draws to the coefficients the models take back.

#include <cstddef>
#include <cstdint>
#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/packed_draws.hpp>
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

/// The draws of a query that were packed: formed_draws that reads what it says of them from there.
template <class T, row_form Form>
class packed_query : public formed_draws<T, Form> {
 public:
  DRO_HOST_DEVICE packed_query(const scored_draws<T>& scores, const grouped_view<const T>& weights, index_t query,
                               index_t size, const row_view<const T>& weights_of_query, const T* log_likelihoods,
                               const T* log_ratios)
      : formed_draws<T, Form>(scores, weights, query),
        size_(size),
        weights_(weights_of_query),
        log_likelihoods_(log_likelihoods),
        log_ratios_(log_ratios) {}

  [[nodiscard]] DRO_HOST_DEVICE index_t size() const { return size_; }
  [[nodiscard]] DRO_HOST_DEVICE T samples() const { return static_cast<T>(size_); }
  template <class Team, class F>
  [[nodiscard]] DRO_HOST_DEVICE auto sum(Team& team, const F& f) const {
    return team.template sum<decltype(T(1) * f(index_t{}))>(size_, f);
  }
  [[nodiscard]] DRO_HOST_DEVICE T log_ratio(index_t i) const {
    if constexpr (Form == row_form::likelihoods) {
      return T(0);
    } else {
      return log_ratios_[i];
    }
  }
  [[nodiscard]] DRO_HOST_DEVICE T ratio(index_t i) const {
    if constexpr (Form == row_form::likelihoods) {
      return T(1);
    } else {
      return math::exp(log_ratio(i));
    }
  }
  [[nodiscard]] DRO_HOST_DEVICE T log_likelihood(index_t i) const { return log_likelihoods_[i]; }
  [[nodiscard]] DRO_HOST_DEVICE T log_weight(index_t i) const { return log_ratio(i) + log_likelihood(i); }
  [[nodiscard]] DRO_HOST_DEVICE T weight(index_t i) const { return weights_[i]; }

 private:
  index_t size_;
  row_view<const T> weights_;
  const T* log_likelihoods_;
  const T* log_ratios_;
};

template <class T, class Objective>
struct coefficients_program {
  scored_draws<T> scores;
  grouped_view<const T> weights;
  matrix_view<const std::int32_t> weight_status;
  grouped_view<T> selector, generator;
  matrix_view<T> log_scale;
  matrix_view<std::int32_t> status_of;
  T scale;
  packed_draws<T> packed;
  even_rows<const T> packed_weights;  ///< those of packed draws, as the two below
  even_rows<T> packed_selector, packed_generator;
  bool is_dense = false;  ///< nothing would lie better in scratch memory: on the host they stay where they are
  Objective target;       ///< last: compilers do not agree how much room an objective without data takes

  coefficients_program(const scored_draws<T>& s, const grouped_view<const T>& w,
                       matrix_view<const std::int32_t> of_weights, const grouped_view<T>& c,
                       const grouped_view<T>& c_generator, matrix_view<T> logs, matrix_view<std::int32_t> states,
                       T factor, const Objective& o)
      : scores(s),
        weights(w),
        weight_status(of_weights),
        selector(c),
        generator(c_generator),
        log_scale(logs),
        status_of(states),
        scale(factor),
        packed(s),
        target(o) {
    if (packed.size() == 0) return;
    packed_weights = even_rows_of(w);
    packed_selector = even_rows_of(c);
    packed_generator = even_rows_of(c_generator);
    is_dense =
        packed.is_dense() && packed_weights.is_dense() && packed_selector.is_dense() && packed_generator.is_dense();
  }

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

  static constexpr bool lives_in_scratch = true;
  static constexpr std::size_t scratch_word = sizeof(T);
  /// Both coefficients of packed draws, log p(y|x,d_z), and log ρ unless it is 0.
  [[nodiscard]] std::size_t scratch_bytes() const {
    return (packed.form() == row_form::likelihoods ? 3 : 4) * static_cast<std::size_t>(packed.size()) * sizeof(T);
  }
  static constexpr index_t items_of_thread = importance_weights_program<T>::items_of_thread;
  [[nodiscard]] index_t width() const { return scores.groups().mean_size(); }

  /// What is done for packed draws.
  template <class Team>
  DRO_HOST_DEVICE void in_scratch(Team& team, index_t q) const {
    packed.form() == row_form::likelihoods ? write_packed<row_form::likelihoods>(team, q)
                                           : write_packed<row_form::ratios>(team, q);
  }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    if (packed.size() > 0 && !(is_one_thread<Team> && is_dense)) {
      return in_scratch(team, q);
    }
    if constexpr (is_one_thread<Team>) {  // as for the weights
      const bool is_flat = weights.row(q).stride == 1 && selector.row(q).stride == 1 && generator.row(q).stride == 1;
      const row_form form = is_flat ? scores.form_of(q) : row_form::any;
      if (form == row_form::likelihoods) {
        return write_rows<row_form::likelihoods>(team, q, formed_draws<T, row_form::likelihoods>(scores, weights, q));
      }
      if (form == row_form::ratios) {
        return write_rows<row_form::ratios>(team, q, formed_draws<T, row_form::ratios>(scores, weights, q));
      }
    }
    const T samples =
        scores.has_multiplicity()
            ? team.template sum<T>(scores.size(q), [row = scores.row(q)](index_t i) { return row.count(i); })
            : static_cast<T>(scores.size(q));
    write_rows<row_form::any>(team, q, query_draws<T>(scores, weights, q, samples));
  }

 private:
  template <row_form Form, class Team, class Draws>
  [[gnu::flatten]] DRO_HOST_DEVICE void write_rows(Team& team, index_t q, const Draws& draws) const {
    write<Form>(team, q, draws, values_of<Form>(selector.row(q)), values_of<Form>(generator.row(q)), status_before(q));
  }

  [[nodiscard]] DRO_HOST_DEVICE status status_before(index_t q) const {
    return static_cast<status>(weight_status(q, 0));
  }

  template <row_form Form, class Team>
  [[gnu::flatten]] DRO_HOST_DEVICE void write_packed(Team& team, index_t q) const {
    const status before = status_before(q);  // asked for before anything waits
    const index_t size = packed.size();
    T* const to_selector = team.template scratch<T>();
    T* const to_generator = to_selector + size;
    T* const likelihoods = to_generator + size;
    T* const ratios = likelihoods + size;  // of row_form::ratios
    packed.template read<Form>(team, q, [&](index_t i, T ratio, T likelihood) {
      likelihoods[i] = likelihood;
      if constexpr (Form == row_form::ratios) ratios[i] = ratio;
    });
    team.barrier();
    write<Form>(team, q, packed_query<T, Form>(scores, weights, q, size, packed_weights.row(q), likelihoods, ratios),
                to_selector, to_generator, before);
    team.barrier();
    write_row(team, size, packed_selector.row(q), [&](index_t i) { return to_selector[i]; });
    write_row(team, size, packed_generator.row(q), [&](index_t i) { return to_generator[i]; });
  }

  // Flattened, as that of the weights is.
  template <row_form Form, class Team, class Draws, class Row>
  [[gnu::flatten]] DRO_HOST_DEVICE void write(Team& team, index_t q, const Draws& draws, Row to_selector,
                                              Row to_generator, status state) const {
    const index_t size = draws.size();
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

/// Weights of a query and then the coefficients they make: what the first wrote is still near.
template <class T, class Objective>
struct weigh_program {
  importance_weights_program<T> weights;
  coefficients_program<T, Objective> coefficients;

  static constexpr bool lives_in_scratch = true;
  static constexpr std::size_t scratch_word = sizeof(T);
  [[nodiscard]] std::size_t scratch_bytes() const {
    return weights.scratch_bytes() < coefficients.scratch_bytes() ? coefficients.scratch_bytes()
                                                                  : weights.scratch_bytes();
  }
  static constexpr index_t items_of_thread = importance_weights_program<T>::items_of_thread;
  [[nodiscard]] index_t width() const { return weights.width(); }

  template <class Team>
  DRO_HOST_DEVICE void in_scratch(Team& team, index_t q) const {
    weights.in_scratch(team, q);
    team.barrier();
    coefficients.in_scratch(team, q);
  }
  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    weights(team, q);
    team.barrier();
    coefficients(team, q);
  }
};

/// Throws if these scores have no coefficients of `target`; what they are divided by otherwise.
template <class T, objective Objective>
[[nodiscard]] T coefficients_divisor(const Objective& target, const scored_draws<T>& scores, index_t query_count) {
  const grouping& groups = scores.groups();
  const index_t block = scores.traits().block;
  if (groups.is_uniform() && groups.queries() > 0 && groups.per_query() < block * Objective::least_samples) {
    throw option_error("samples is " + std::to_string(groups.per_query()) + ", but \"" + objective_name<Objective>() +
                       "\" needs at least " + std::to_string(Objective::least_samples) +
                       (block > 1 ? " independent blocks of " + std::to_string(block) : ""));
  }
  if constexpr (requires { target.require(scores); }) target.require(scores);
  return static_cast<T>(batch_divisor(query_count, groups.queries(), "coefficients"));
}

/// Unwritten coefficients for these draws.
template <backend B, class T>
[[nodiscard]] gradient_coefficients<B, T> make_coefficients(B& b, const scored_draws<T>& scores) {
  const index_t queries = scores.groups().queries();
  return {b.template make<T>(scores.rows(), scores.cols()), b.template make<T>(scores.rows(), scores.cols()),
          b.template make<T>(queries, 1), b.template make<std::int32_t>(queries, 1)};
}

template <backend B, class T, objective Objective>
[[nodiscard]] coefficients_program<T, Objective> coefficients_program_of(B& b, const Objective& target,
                                                                         const scored_draws<T>& scores,
                                                                         const importance_weights_result<B, T>& weights,
                                                                         T divisor, gradient_coefficients<B, T>& c) {
  const grouping& groups = scores.groups();
  return {scores,
          {b.view(weights.normalised), groups, "weights"},
          b.view(weights.status),
          {b.view(c.selector), groups, "selector"},
          {b.view(c.generator), groups, "generator"},
          b.view(c.log_scale),
          b.view(c.status),
          T(1) / divisor,
          target};
}

}  // namespace detail

/// Coefficients of `target` for the draws behind `scores` and their `weights`, divided by `query_count`: the queries
/// of the whole batch, so that neither micro-batches nor devices change a step (0: the queries of these scores). A
/// query that is not used has coefficients 0 and still counts in the division; one with a coefficient that is not
/// finite is not used. Throws option_error if every query has fewer samples than the objective is defined for or
/// query_count is negative, shape_error if weights and scores differ. Queues one program; O(m) a query.
template <backend B, class T, objective Objective>
[[nodiscard]] gradient_coefficients<B, T> coefficients(B& b, const Objective& target, const scored_draws<T>& scores,
                                                       const importance_weights_result<B, T>& weights,
                                                       index_t query_count = 0) {
  const T divisor = detail::coefficients_divisor(target, scores, query_count);
  require_shape(b.view(weights.status), scores.groups().queries(), 1, "coefficients: status of the weights");
  auto c = detail::make_coefficients<B, T>(b, scores);
  b.run(scores.groups().queries(), detail::coefficients_program_of(b, target, scores, weights, divisor, c));
  return c;
}

/// Weights of draws and the coefficients that an objective makes of them.
template <backend B, class T>
struct weighed_draws {
  importance_weights_result<B, T> weights;
  gradient_coefficients<B, T> coefficients;
};

/// importance_weights and then coefficients of `target`, where nothing calibrates the weights in between: one program
/// in place of two. On the host to the bit, elsewhere but for the order of sums. Throws as `coefficients` does. Code
/// that links a unit of kernels finds those of every objective with its default baseline; others it names to
/// dro_add_cuda_unit.
template <backend B, class T, objective Objective>
[[nodiscard]] weighed_draws<B, T> weigh(B& b, const Objective& target, const scored_draws<T>& scores,
                                        index_t query_count = 0) {
  const T divisor = detail::coefficients_divisor(target, scores, query_count);
  const grouping& groups = scores.groups();
  weighed_draws<B, T> w{detail::make_weights<B, T>(b, scores), detail::make_coefficients<B, T>(b, scores)};
  b.run(groups.queries(), detail::weigh_program<T, Objective>{
                              detail::importance_weights_program<T>(scores, detail::outputs_of(b, w.weights, groups)),
                              detail::coefficients_program_of(b, target, scores, w.weights, divisor, w.coefficients)});
  return w;
}

}  // namespace dro

#endif
