// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_SET_PROBABILITY_HPP
#define DRO_RANKING_SET_PROBABILITY_HPP

/// \file
/// The probability that Plackett–Luce chooses a set of documents, in whatever order, and its gradient by the scores.
///
/// A generator that ignores order makes ∇ log p(z) noisier than it needs to be: given the set, the order says nothing
/// of the reward, and E[∇ log p(z) | set] = ∇ log P(set). With the latter in place of the former an estimator keeps its
/// mean and loses variance (Rao–Blackwell).
///
///     P(S) = Σ over the orders of S of p(order) = Π_{j∈S} e^{s_j} · H(S),
///     H(U) = Σ_{j∈U} H(U∖j) / D(U),   H(∅) = 1,   D(U) = Σ_{j∉S} e^{s_j} + Σ_{j∈U} e^{s_j}
///
/// with U the documents of S that are still to be taken: 2^K subsets in place of K! orders, and denominators that are
/// only ever added up.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

/// Most items whose 2^items subsets the library goes through.
inline constexpr index_t most_set_items = 12;

namespace detail {

/// Throws option_error if there are more than most_set_items.
inline void require_few_items(index_t items, const char* what) {
  if (items > most_set_items) {
    throw option_error(std::string(what) + " is " + std::to_string(items) + ", expected at most " +
                       std::to_string(most_set_items) + ", since all subsets are gone through");
  }
}

/// Number of members of a subset, given by its bits: sums of 2, 4, 8, then of all bytes.
[[nodiscard]] DRO_HOST_DEVICE constexpr index_t subset_size(index_t subset) {
  auto x = static_cast<std::uint32_t>(subset);
  x -= x >> 1U & 0x55555555U;
  x = (x & 0x33333333U) + (x >> 2U & 0x33333333U);
  x = (x + (x >> 4U)) & 0x0F0F0F0FU;
  return static_cast<index_t>(x * 0x01010101U >> 24U);
}

/// Calls f(k, subset without k) for each member k of `subset`, from the smallest up.
template <class F>
DRO_HOST_DEVICE void for_each_member(index_t subset, F&& f) {
  for (index_t k = 0; subset >> k != 0; ++k) {
    if ((subset >> k & 1) != 0) f(k, subset ^ (index_t{1} << k));
  }
}

/// For each subset U of `items` items: log_denominator[U] = log D(U), D(U) = e^{log_rest} + Σ_{k∈U} e^{log_mass(k)},
/// and log_orders[U] = log H(U), the sum over the orders in which U can be taken of Π 1 / D(what is left). NaN shows.
/// Both [2^items]. items · 2^items exp and 2^items log.
template <class T, class Team, class LogMass>
DRO_HOST_DEVICE void sum_over_orders(Team& team, index_t items, T log_rest, const LogMass& log_mass, T* log_denominator,
                                     T* log_orders) {
  if (team.rank() == 0) {
    log_denominator[0] = log_rest;
    log_orders[0] = T(0);
  }
  team.barrier();
  for (index_t size = 1; size <= items; ++size) {
    team.for_each(index_t{1} << items, [&](index_t subset) {
      if (subset_size(subset) != size) return;
      index_t last = 0;
      while (subset >> (last + 1) != 0) ++last;
      const T denominator = math::log_add_exp(log_denominator[subset ^ (index_t{1} << last)], log_mass(last));
      T largest = minus_infinity<T>;
      for_each_member(subset, [&](index_t, index_t others) {
        largest = log_orders[others] > largest ? log_orders[others] : largest;
      });
      T sum = T(0);
      for_each_member(subset, [&](index_t, index_t others) { sum += math::exp(log_orders[others] - largest); });
      log_denominator[subset] = denominator;
      log_orders[subset] = largest + math::log(sum) - denominator;
    });
    team.barrier();
  }
}

/// What both programs do for one ranking: flags its documents in `chosen` and fills the tables of its subsets. Returns
/// log P of its set, −inf if it is not a ranking or holds an impossible document.
template <class T, class Team>
DRO_HOST_DEVICE T tabulate_set(Team& team, const matrix_view<const T>& scores,
                               const matrix_view<const document_t>& rankings, index_t query, index_t draw,
                               T* log_denominator, T* log_orders, document_t* chosen) {
  if (!mark_chosen(team, rankings, draw, scores.cols, chosen)) return minus_infinity<T>;
  T total = T(0);
  for (index_t t = 0; t < rankings.cols; ++t) total += scores(query, rankings(draw, t));
  if (total == minus_infinity<T>) return total;
  sum_over_orders(
      team, rankings.cols, log_mass_left(team, scores, query, chosen),
      [&](index_t t) { return scores(query, rankings(draw, t)); }, log_denominator, log_orders);
  return total + log_orders[(index_t{1} << rankings.cols) - 1];
}

template <class T>
struct set_log_prob_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<T> log_prob;
  grouping groups;

  // Two tables [2^K], membership flags [n].
  std::size_t scratch_bytes() const {
    return 2 * (sizeof(T) << rankings.cols) + static_cast<std::size_t>(scores.cols) * sizeof(document_t);
  }

  [[nodiscard]] index_t width() const { return std::max(scores.cols, index_t{1} << rankings.cols); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t subsets = index_t{1} << rankings.cols;
    T* log_denominator = team.template scratch<T>();
    T* log_orders = log_denominator + subsets;
    auto* chosen = reinterpret_cast<document_t*>(log_orders + subsets);
    for (index_t i = 0; i < groups.size(query); ++i) {
      const index_t draw = groups.begin(query) + i;
      const T total = tabulate_set(team, scores, rankings, query, draw, log_denominator, log_orders, chosen);
      if (team.rank() == 0) log_prob(draw, 0) = total;
      team.barrier();
    }
  }
};

/// With r(U) the probability, given the set, that U is what is left at some time,
/// ∂ log P / ∂ s_j = [j ∈ S] − Σ_U r(U) ∂ log D(U) / ∂ s_j, where ∂ log D(U) / ∂ s_j = e^{s_j} / D(U) for j ∈ U and for
/// j ∉ S, and 0 for a document of S that has been taken.
template <class T>
struct set_gradient_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  grouped_view<const T> coefficients;
  matrix_view<T> gradient;  // [queries × n], added to
  grouping groups;

  // Three tables [2^K], membership flags [n].
  std::size_t scratch_bytes() const {
    return 3 * (sizeof(T) << rankings.cols) + static_cast<std::size_t>(scores.cols) * sizeof(document_t);
  }

  [[nodiscard]] index_t width() const { return std::max(scores.cols, index_t{1} << rankings.cols); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t select = rankings.cols;
    const index_t subsets = index_t{1} << select;
    T* log_denominator = team.template scratch<T>();
    T* log_orders = log_denominator + subsets;
    T* reached = log_orders + subsets;
    auto* chosen = reinterpret_cast<document_t*>(reached + subsets);
    for (index_t i = 0; i < groups.size(query); ++i) {
      const T coefficient = coefficients(query, i);
      const index_t draw = groups.begin(query) + i;
      if (coefficient == T(0) || select == 0) continue;
      const T total = tabulate_set(team, scores, rankings, query, draw, log_denominator, log_orders, chosen);
      if (total == minus_infinity<T>) continue;
      reach(team, select, log_denominator, log_orders, reached);
      // Documents that were never chosen are in every D(U).
      const auto weight = [&](index_t u) {
        return u > 0 && reached[u] > T(0) ? -log_denominator[u] : minus_infinity<T>;
      };
      const T largest = team.max(subsets, minus_infinity<T>, weight);
      const T sum = team.template sum<T>(
          subsets, [&](index_t u) { return u > 0 ? reached[u] * math::exp(-log_denominator[u] - largest) : T(0); });
      const T log_sum = largest + math::log(sum);
      team.for_each(scores.cols, [&](index_t j) {
        if (chosen[j] == 0) gradient(query, j) -= coefficient * math::exp(scores(query, j) + log_sum);
      });
      for (index_t t = 0; t < select; ++t) {
        const document_t j = rankings(draw, t);
        const T score = scores(query, j);
        const T share = team.template sum<T>(subsets, [&](index_t u) {
          return (u >> t & 1) != 0 ? reached[u] * math::exp(score - log_denominator[u]) : T(0);
        });
        if (team.rank() == 0) gradient(query, j) += coefficient * (T(1) - share);
      }
      team.barrier();
    }
  }

 private:
  /// r(U) from the whole set downwards: U comes from U ∪ {k} with probability H(U) / Σ_{j∈U∪k} H((U ∪ k)∖j).
  template <class Team>
  DRO_HOST_DEVICE static void reach(Team& team, index_t items, const T* log_denominator, const T* log_orders,
                                    T* reached) {
    const index_t whole = (index_t{1} << items) - 1;
    if (team.rank() == 0) reached[whole] = T(1);
    team.barrier();
    for (index_t size = items - 1; size > 0; --size) {
      team.for_each(whole, [&](index_t subset) {
        if (subset_size(subset) != size) return;
        T sum = T(0);
        for_each_member(whole ^ subset, [&](index_t k, index_t) {
          const index_t before = subset | index_t{1} << k;
          sum += reached[before] * math::exp(log_orders[subset] - (log_orders[before] + log_denominator[before]));
        });
        reached[subset] = sum;
      });
      team.barrier();
    }
  }
};

}  // namespace detail

/// Writes log P of the set of documents of each ranking to `log_prob` [draws × 1], in nats; −inf for a ranking that is
/// not one (an entry out of range or repeated) or that holds an impossible document; NaN if a score is. `scores`
/// [queries × documents], `rankings` [draws × K]. Throws option_error if K > 12, shape_error. Queues one program:
/// O(n exp + K 2^K exp + 2^K log) a draw, scratch of 2^(K+1) numbers a row.
template <backend B, viewable<B> M, class T>
void set_log_prob(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                  matrix_view<T> log_prob) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  detail::require_few_items(rankings.cols, "set_log_prob: select");
  require_shape(s, groups.queries(), s.cols, "set_log_prob: scores");
  require_shape(rankings, groups.total(), rankings.cols, "set_log_prob: rankings");
  require_shape(log_prob, groups.total(), 1, "set_log_prob: log_prob");
  b.run(s.rows, detail::set_log_prob_program<T>{s, rankings, log_prob, groups});
}

/// Adds Σ_i c_i ∂ log P(set of z_i) / ∂ s to `gradient` [queries × documents], which may not alias `scores`:
/// accumulate_plackett_luce_gradient averaged over the orders of each set. `coefficients` holds one value for each
/// draw; a draw whose coefficient is 0 or whose set is impossible is passed over. Throws option_error if K > 12,
/// shape_error. Queues one program: O(n exp + K 2^K exp + 2^K log) a draw, scratch of 3 · 2^K numbers a row.
template <backend B, viewable<B> M, viewable<B> C, class T>
void accumulate_set_gradient(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                             const C& coefficients, matrix_view<T> gradient) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  const matrix_view<const T> c = detail::view_of(b, coefficients);
  detail::require_few_items(rankings.cols, "accumulate_set_gradient: select");
  require_shape(s, groups.queries(), s.cols, "accumulate_set_gradient: scores");
  require_shape(rankings, groups.total(), rankings.cols, "accumulate_set_gradient: rankings");
  require_shape(gradient, s.rows, s.cols, "accumulate_set_gradient: gradient");
  b.run(s.rows, detail::set_gradient_program<T>{
                    s, rankings, {c, groups, "accumulate_set_gradient: coefficients"}, gradient, groups});
}

}  // namespace dro

#endif
