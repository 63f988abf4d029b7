// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_UNORDERED_SET_HPP
#define DRO_GRADIENT_UNORDERED_SET_HPP

/// \file
/// The unordered-set estimator (Kool, van Hoof & Welling 2020, "Estimating gradients for discrete random variables by
/// sampling without replacement", arXiv 2002.06043): coefficients for the m different rankings S of each query that
/// draw_without_replacement drew.
///
///     c_i = p_i R_i (f_i − Σ_{j∈S} p_j R_ij f_j),   R_i = P(S∖i) / P(S),   R_ij = P(S∖{i,j}) / P(S∖i),   R_ii = 1,
///
/// where P(U) is the probability that U is what is drawn next once the other rankings of S are gone. Without the term
/// in f_j it is the estimator of one draw, averaged over the orders in which S could have been drawn (Rao–Blackwell);
/// with it, it is still unbiased.
///
/// All P(U) = Π_{j∈U} p_j · H(U) come out of one pass over the 2^m subsets (see set_probability.hpp), with denominators
/// that are what was not sampled plus what is still to be drawn. Since Σ_{j≠i} p_j R_ij = 1 − p_i,
///
///     c_i = Σ_{j≠i} W_ij (f_i − f_j),   W_ij = p_i p_j P(S∖{i,j}) / P(S) = H(S∖{i,j}) / H(S),
///
/// which is computed: nothing is left of a common part of the rewards, and no 1 − p_i cancels.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/math/exp.hpp>
#include <dro/ranking/set_probability.hpp>
#include <dro/ranking/without_replacement.hpp>

namespace dro {

namespace detail {

/// A reward f, as a function of log-likelihoods: e^{log_weight} (f_a − f_b), and e^{log_weight} times the coefficient
/// of ∇ log p(y|x,d_a) in ∇ f_a. Here f = p(y|x,d_z) = e^ℓ.
struct likelihood_reward {
  static constexpr bool takes_impossible = true;
  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE static T difference(T log_weight, T a, T b) {
    return math::exp(log_weight + a) - math::exp(log_weight + b);
  }
  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE static T generator(T log_weight, T a) {
    return math::exp(log_weight + a);
  }
};

/// The reward f = ℓ.
struct log_likelihood_reward {
  static constexpr bool takes_impossible = false;
  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE static T difference(T log_weight, T a, T b) {
    return math::exp(log_weight) * (a - b);
  }
  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE static T generator(T log_weight, T) {
    return math::exp(log_weight);
  }
};

}  // namespace detail

/// What the unordered-set estimator estimates the gradient of. Coefficients hold for one gradient step.
namespace unordered_set {

/// The evidence log p(y|x): the estimate of ∇ p(y|x) below, divided by the unbiased estimate Σ p_i R_i f_i of p(y|x)
/// from the same set. c′_i = p_i R_i f_i / Σ_j p_j R_j f_j. A ratio of unbiased estimates, hence biased, and exact
/// where the set holds every ranking: then c is posterior less prior.
struct evidence {
  static constexpr const char* name = "evidence, unordered set";
  static constexpr bool is_ratio = true;
  using reward = detail::likelihood_reward;

  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE T origin(T, T heaviest) const {
    return heaviest;
  }
};

/// The expected likelihood E_z[p(y|x,d_z)] = p(y|x). Unbiased; c′_i = p_i R_i f_i.
struct expected_likelihood {
  static constexpr const char* name = "expected likelihood, unordered set";
  static constexpr bool is_ratio = false;
  using reward = detail::likelihood_reward;
  likelihood_scale scale = likelihood_scale::absolute;
  double log_offset = 0;  ///< nats added to every log-likelihood where the scale is absolute

  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE T origin(T largest, T) const {
    return scale == likelihood_scale::absolute ? -static_cast<T>(log_offset) : largest;
  }
};

/// The expected log-likelihood E_z[log p(y|x,d_z)]. Unbiased; c′_i = p_i R_i. A ranking of log-likelihood −inf makes
/// the query impossible.
struct expected_log_likelihood {
  static constexpr const char* name = "expected log-likelihood, unordered set";
  static constexpr bool is_ratio = false;
  using reward = detail::log_likelihood_reward;

  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE T origin(T, T) const {
    return T(0);
  }
};

}  // namespace unordered_set

namespace detail {

template <class T, class Objective>
struct unordered_set_program {
  Objective target;
  grouped_view<const T> log_prob, log_likelihood;
  matrix_view<const T> log_unsampled;
  grouped_view<T> selector, generator;
  matrix_view<T> log_scale;
  matrix_view<std::int32_t> status_of;
  index_t samples;
  T scale;

  // Two tables [2^m], then log p, ℓ and the number of each ranking that exists [m].
  std::size_t scratch_bytes() const {
    return 2 * (sizeof(T) << samples) + static_cast<std::size_t>(samples) * (2 * sizeof(T) + sizeof(std::int32_t));
  }

  [[nodiscard]] index_t width() const { return index_t{1} << samples; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    team.for_each(samples, [&](index_t i) { selector(q, i) = generator(q, i) = T(0); });
    T* log_denominator = team.template scratch<T>();
    T* log_orders = log_denominator + (index_t{1} << samples);
    T* log_p = log_orders + (index_t{1} << samples);
    T* likelihood = log_p + samples;
    auto* number = reinterpret_cast<std::int32_t*>(likelihood + samples);
    index_t members = 0;
    for (index_t i = 0; i < samples; ++i) {
      if (log_prob(q, i) == minus_infinity<T>) continue;
      if (team.rank() == 0) {
        log_p[members] = log_prob(q, i);
        likelihood[members] = log_likelihood(q, i);
        number[members] = static_cast<std::int32_t>(i);
      }
      ++members;
    }
    team.barrier();
    status state = check(team, members, log_unsampled(q, 0), log_p, likelihood);
    T origin = T(0);
    if (is_used(state)) {
      sum_over_orders(
          team, members, log_unsampled(q, 0), [&](index_t i) { return log_p[i]; }, log_denominator, log_orders);
      origin = write(team, q, members, log_denominator, log_orders, likelihood, number);
      team.barrier();
      const index_t strange = team.template sum<index_t>(members, [&](index_t i) {
        const T c = selector(q, number[i]);
        const T g = generator(q, number[i]);
        return static_cast<index_t>(c - c != T(0) || g - g != T(0));
      });
      if (strange > 0) {  // a log p or a likelihood beyond the numbers
        state = status::unbounded;
        team.barrier();
        team.for_each(members, [&](index_t i) { selector(q, number[i]) = generator(q, number[i]) = T(0); });
      }
    }
    if (team.rank() == 0) {
      log_scale(q, 0) = Objective::is_ratio ? T(0) : origin;
      status_of(q, 0) = static_cast<std::int32_t>(state);
    }
  }

 private:
  using reward = typename Objective::reward;

  template <class Team>
  DRO_HOST_DEVICE static status check(Team& team, index_t members, T unsampled, const T* log_p, const T* likelihood) {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const index_t nans = team.template sum<index_t>(members, [&](index_t i) {
      return static_cast<index_t>(log_p[i] != log_p[i] || likelihood[i] != likelihood[i]);
    });
    const T largest = team.max(members, -infinity, [&](index_t i) { return likelihood[i]; });
    const T smallest = -team.max(members, -infinity, [&](index_t i) { return -likelihood[i]; });
    if (nans > 0 || unsampled != unsampled) return status::not_a_number;
    if (largest == infinity) return status::unbounded;
    if (largest == -infinity || (smallest == -infinity && !reward::takes_impossible)) return status::impossible;
    // One ranking and others that were not drawn: nothing to compare it with.
    if (members == 1 && unsampled > -infinity) return status::degenerate;
    return status::ok;
  }

  /// Writes the coefficients; returns the log-likelihood they are relative to: the objective's choice between the
  /// largest ℓ_i and the largest log p_i R_i + ℓ_i.
  template <class Team>
  DRO_HOST_DEVICE T write(Team& team, index_t q, index_t members, const T* log_denominator, const T* log_orders,
                          const T* likelihood, const std::int32_t* number) const {
    const index_t set = (index_t{1} << members) - 1;
    const auto without = [](index_t subset, index_t i) { return subset ^ (index_t{1} << i); };
    // D(S) is 1 but for rounding; taken out, the p_i R_i sum to 1.
    const T log_whole = log_orders[set] + log_denominator[set];
    const auto log_weight = [&](index_t i) { return log_orders[without(set, i)] - log_whole; };  // log p_i R_i
    const T largest = team.max(members, minus_infinity<T>, [&](index_t i) { return likelihood[i]; });
    const T heaviest = team.max(members, minus_infinity<T>, [&](index_t i) { return log_weight(i) + likelihood[i]; });
    const T origin = target.origin(largest, heaviest);
    T factor = scale;
    if constexpr (Objective::is_ratio) {
      factor /= team.template sum<T>(
          members, [&](index_t i) { return reward::generator(log_weight(i), likelihood[i] - origin); });
    }
    team.for_each(members, [&](index_t i) {
      const T own = likelihood[i] - origin;
      T sum = T(0);
      for (index_t j = 0; j < members; ++j) {
        if (j == i) continue;
        const T log_pair = log_orders[without(without(set, i), j)] - log_whole;  // log W_ij
        sum += reward::difference(log_pair, own, likelihood[j] - origin);
      }
      selector(q, number[i]) = factor * sum;
      generator(q, number[i]) = factor * reward::generator(log_weight(i), own);
    });
    return origin;
  }
};

}  // namespace detail

/// Coefficients of the unordered-set estimator of `target`, one of unordered_set::evidence, expected_likelihood and
/// expected_log_likelihood, for rankings drawn without replacement: their `log_prob` log p(z|x) and `log_likelihood`
/// (each flat, [draws × 1], or a table [queries × m], nats) and `log_unsampled`, log of the mass of all other rankings,
/// [queries × 1]; divided by `query_count` (0: the queries of these draws). log p must be that of the selector that
/// drew. The c_i of a query sum to 0 and are ∇ itself where the set holds every ranking. Rankings of log p −inf, which
/// do not exist, get coefficients 0 and their log-likelihoods are not looked at; where a selector cannot complete some
/// of its rankings, the estimator is unbiased up to their mass only.
///
/// The query's status is not_a_number or unbounded if a log p or ℓ is, impossible if every f is 0 or no ranking exists,
/// degenerate if only one exists of a mass below 1; then its coefficients are 0.
/// Throws option_error unless 2 ≤ m ≤ 12 for every query and query_count ≥ 0, shape_error. Queues one program:
/// O(m 2^m exp + 2^m log + m² exp) a query, scratch of 2^(m+1) numbers a row.
template <backend B, class Objective, viewable<B> P, viewable<B> U, viewable<B> M>
[[nodiscard]] auto unordered_set_coefficients(B& b, const Objective& target, const P& log_prob, const U& log_unsampled,
                                              const M& log_likelihood, const grouping& groups, index_t query_count) {
  using T = element_t<B, M>;
  const matrix_view<const T> prior = detail::view_of(b, log_prob);
  const matrix_view<const T> unsampled = detail::view_of(b, log_unsampled);
  const matrix_view<const T> likelihood = detail::view_of(b, log_likelihood);
  const index_t samples = groups.is_uniform() ? groups.per_query() : 0;
  detail::require_few_items(samples, "unordered_set_coefficients: samples");
  if (samples < 2) {
    throw option_error("unordered_set_coefficients: samples is " + std::to_string(samples) + ", but \"" +
                       Objective::name + "\" needs at least 2, the same number for each query");
  }
  const index_t queries = groups.queries();
  require_shape(unsampled, queries, 1, "unordered_set_coefficients: log_unsampled");
  const index_t divisor = detail::batch_divisor(query_count, queries, "unordered_set_coefficients");
  gradient_coefficients<B, T> c{b.template make<T>(likelihood.rows, likelihood.cols),
                                b.template make<T>(likelihood.rows, likelihood.cols), b.template make<T>(queries, 1),
                                b.template make<std::int32_t>(queries, 1)};
  b.run(queries,
        detail::unordered_set_program<T, Objective>{target,
                                                    {prior, groups, "unordered_set_coefficients: log_prob"},
                                                    {likelihood, groups, "unordered_set_coefficients: log_likelihood"},
                                                    unsampled,
                                                    {b.view(c.selector), groups, "selector"},
                                                    {b.view(c.generator), groups, "generator"},
                                                    b.view(c.log_scale),
                                                    b.view(c.status),
                                                    samples,
                                                    T(1) / static_cast<T>(divisor)});
  return c;
}

/// The same for draws as draw_without_replacement gives them.
template <backend B, class T, class Objective, viewable<B> M>
[[nodiscard]] gradient_coefficients<B, T> unordered_set_coefficients(B& b, const Objective& target,
                                                                     const without_replacement_draws<B, T>& drawn,
                                                                     const M& log_likelihood, index_t query_count = 0) {
  return unordered_set_coefficients(b, target, drawn.log_prob, drawn.log_unsampled, log_likelihood, drawn.z.groups(),
                                    query_count);
}

}  // namespace dro

#endif
