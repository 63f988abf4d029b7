// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_BASELINES_HPP
#define DRO_EM_BASELINES_HPP

/// \file
/// Baselines that need more than the log-probabilities of the draws, as targets of an M-step. `Reward` is
/// dro::expected_log_likelihood or dro::expected_likelihood:
///
///     em(b, selector, generator, source, dro::greedy_baseline<dro::expected_log_likelihood>{}, …);

#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/em/e_step.hpp>
#include <dro/error.hpp>
#include <dro/gradient/baseline.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/score_norms.hpp>
#include <dro/gradient/variance_minimising.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/ranking/greedy.hpp>

namespace dro {

namespace detail {

template <template <class> class Reward>
inline constexpr bool rewards_expectation =
    std::is_same_v<Reward<baseline::none>, expected_log_likelihood<baseline::none>> ||
    std::is_same_v<Reward<baseline::none>, expected_likelihood<baseline::none>>;

}  // namespace detail

/// The reward of the selector's greedy ranking is taken off (ReMax; Li et al. 2023): known before anything is drawn, so
/// the gradient stays unbiased, at m = 1 too. One more generator call a query. A query whose greedy ranking is
/// impossible has no baseline where the reward is a likelihood, and is impossible where it is a log-likelihood.
template <template <class> class Reward>
struct greedy_baseline {
  static_assert(
      detail::rewards_expectation<Reward>,
      "dro: Reward is dro::expected_log_likelihood or dro::expected_likelihood; the evidence has baselines of its own");
  static constexpr bool valid_over_steps = false;

  template <backend B, class T, class Selector, class Generator, class Queries>
  [[nodiscard]] gradient_coefficients<B, T> coefficients(B& b, const Selector& selector, const Generator& generator,
                                                         const Queries& queries, const e_step_result<B, T>& e,
                                                         index_t query_count) const {
    const auto log_likelihood = generator.log_likelihood(b, queries, greedy_draws(b, selector, queries, e.z.select()));
    const Reward<baseline::value<T>> target{.subtract = {std::as_const(b).view(log_likelihood)}};
    return dro::coefficients(b, target, e.scores(b), e.weights, query_count);
  }
};

/// The baseline that minimises the variance of the gradient by the scores (see baseline::variance_minimising), for a
/// selector that shows its scores.
template <template <class> class Reward>
struct variance_minimising_baseline {
  static_assert(
      detail::rewards_expectation<Reward>,
      "dro: Reward is dro::expected_log_likelihood or dro::expected_likelihood; the evidence has baselines of its own");
  static constexpr bool valid_over_steps = false;
  double shrinkage = 0.75;

  template <backend B, class T, class Selector, class Generator, class Queries>
  requires requires(const Selector& s, B& b, const Queries& queries) { s.scores(b, queries); }
  [[nodiscard]] gradient_coefficients<B, T> coefficients(B& b, const Selector& selector, const Generator&,
                                                         const Queries& queries, const e_step_result<B, T>& e,
                                                         index_t query_count) const {
    const B& view = b;
    const grouping& groups = e.z.groups();
    auto norms = b.template make<T>(groups.total(), 1);
    plackett_luce_score_norms(b, selector.scores(b, queries), view.view(e.z.rankings()), groups, b.view(norms));
    const Reward<baseline::variance_minimising<T>> target{.subtract = {{view.view(norms), groups, "norms"}, shrinkage}};
    return dro::coefficients(b, target, e.scores(b), e.weights, query_count);
  }
};

namespace detail {

/// b = state / (1 − β^t), and, where rewards are likelihoods, the logarithm of it; then the step's mean reward goes in.
template <class T>
struct moving_average_program {
  scored_draws<T> scores;
  matrix_view<const std::int32_t> status_of;
  matrix_view<T> state;  // [1 × 2]: the average (its logarithm), and β^t
  matrix_view<T> value;  // [1 × 1]
  T decay;
  bool of_likelihood;

  [[nodiscard]] index_t width() const { return scores.groups().queries(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const index_t queries = scores.groups().queries();
    const auto is_ok = [&](index_t q) { return is_used(static_cast<status>(status_of(q, 0))); };
    const auto worst = [&](index_t q) {
      T lowest = T(0);
      for (index_t i = 0; i < scores.size(q); ++i) {
        const T l = scores.count(q, i) > T(0) ? scores.log_likelihood(q, i) : T(0);
        lowest = l < lowest ? l : lowest;
      }
      return lowest;
    };
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const auto counts = [&](index_t q) { return is_ok(q) && (of_likelihood || worst(q) > -infinity); };
    const T used = team.template sum<T>(queries, [&](index_t q) { return counts(q) ? T(1) : T(0); });
    const T largest = !of_likelihood ? T(0) : team.max(queries, -infinity, [&](index_t q) {
      T best = -infinity;
      for (index_t i = 0; i < scores.size(q) && counts(q); ++i) {
        const T w = scores.count(q, i) > T(0) ? scores.log_weight(q, i) : -infinity;
        best = w > best ? w : best;
      }
      return best;
    });
    const T sum = team.template sum<T>(queries, [&](index_t q) {
      if (!counts(q)) return T(0);
      T total = T(0);
      T samples = T(0);
      for (index_t i = 0; i < scores.size(q); ++i) {
        const T n = scores.count(q, i);
        samples += n;
        if (!(n > T(0))) continue;
        total += n * (of_likelihood ? math::exp(scores.log_weight(q, i) - largest)
                                    : math::exp(scores.log_ratio(q, i)) * scores.log_likelihood(q, i));
      }
      return total / samples;
    });
    if (team.rank() != 0) return;
    const T left = T(1) - state(0, 1);
    if (of_likelihood) {
      value(0, 0) = left > T(0) ? state(0, 0) - math::log(left) : -infinity;
    } else {
      value(0, 0) = left > T(0) ? state(0, 0) / left : T(0);
    }
    const T step_mean = sum / used;
    if (!(used > T(0)) || step_mean - step_mean != T(0)) return;  // one overflow must not stay in it for ever
    const T fresh = T(1) - decay;
    state(0, 0) = of_likelihood
                      ? math::log_add_exp(state(0, 0) + math::log(decay), largest + math::log(fresh * step_mean))
                      : decay * state(0, 0) + fresh * step_mean;
    state(0, 1) *= decay;
  }
};

}  // namespace detail

/// An exponential moving average of the mean reward of earlier steps is taken off: updated after it was used, since an
/// average that holds the current draws is no longer independent of them (one gradient step for each E-step), and
/// corrected by 1 − β^t for its start at 0 (Kingma & Ba 2015, section 3). The state is in the backend's memory. One
/// value for all queries.
template <template <class> class Reward, backend B, class T = double>
class moving_average_baseline {
  static_assert(
      detail::rewards_expectation<Reward>,
      "dro: Reward is dro::expected_log_likelihood or dro::expected_likelihood; the evidence has baselines of its own");

 public:
  static constexpr bool valid_over_steps = false;
  static constexpr bool one_step = true;  // a second step on the same draws would find them in the average

  /// `decay` β in [0, 1). Throws option_error.
  explicit moving_average_baseline(B& b, double decay = 0.9) : state_(b.template make<T>(1, 2)), decay_(decay) {
    if (!(decay >= 0 && decay < 1)) {
      throw option_error("moving_average_baseline: decay is " + std::to_string(decay) + ", expected 0 to below 1");
    }
    const T start[] = {of_likelihood ? -std::numeric_limits<T>::infinity() : T(0), T(1)};
    b.write(start, b.view(state_));
  }

  template <class Selector, class Generator, class Queries>
  [[nodiscard]] gradient_coefficients<B, T> coefficients(B& b, const Selector&, const Generator&, const Queries&,
                                                         const e_step_result<B, T>& e, index_t query_count) const {
    auto value = b.template make<T>(1, 1);
    const auto scores = e.scores(b);
    const B& view = b;
    b.run(1, detail::moving_average_program<T>{scores, view.view(e.weights.status), b.view(state_), b.view(value),
                                               static_cast<T>(decay_), of_likelihood});
    const Reward<baseline::value<T>> target{.subtract = {view.view(value)}};
    return dro::coefficients(b, target, scores, e.weights, query_count);
  }

  /// The average (its logarithm, where rewards are likelihoods) and β^t, [1 × 2], for a checkpoint.
  [[nodiscard]] matrix_t<B, T>& state() { return state_; }

 private:
  static constexpr bool of_likelihood = Reward<baseline::none>::rewards_likelihood;

  mutable matrix_t<B, T> state_;
  double decay_;
};

}  // namespace dro

#endif
