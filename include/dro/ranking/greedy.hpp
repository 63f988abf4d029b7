// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_GREEDY_HPP
#define DRO_RANKING_GREEDY_HPP

/// \file
/// The greedy ranking of each query as draws, so that models can score it like any other.

#include <algorithm>
#include <cstddef>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/ranking/autoregressive.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

namespace detail {

template <class T>
struct greedy_program {
  matrix_view<const T> scores;
  matrix_view<document_t> rankings;

  std::size_t scratch_bytes() const { return static_cast<std::size_t>(scores.cols) * sizeof(T); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    T* left = team.template scratch<T>();
    team.for_each(n, [&](index_t j) { left[j] = scores(query, j); });
    team.barrier();
    for (index_t t = 0; t < rankings.cols; ++t) {
      const index_t best = team.arg_max(n, minus_infinity<T>, [&](index_t j) { return left[j]; });
      team.barrier();
      if (team.rank() == 0) {
        rankings(query, t) = best < n ? static_cast<document_t>(best) : no_document;
        if (best < n) left[best] = minus_infinity<T>;
      }
      team.barrier();
    }
  }
};

}  // namespace detail

/// The K documents of largest score in descending order, one ranking a query; ties go to the smaller document number.
/// `scores` [queries × documents]. A point mass: log q is 0, and it covers nothing but itself. A query with fewer than
/// K possible documents gets an incomplete ranking. Throws option_error unless 1 ≤ K ≤ documents. One program: O(n K).
template <backend B, viewable<B> M>
[[nodiscard]] auto greedy_plackett_luce(B& b, const M& scores, index_t select) {
  using T = element_t<B, M>;
  const matrix_view<const T> s = detail::view_of(b, scores);
  require_drawable({1, select}, s.cols);
  auto rankings = b.template make<document_t>(s.rows, select);
  b.run(s.rows, detail::greedy_program<T>{s, b.view(rankings)});
  return draws<B, T>(b, std::move(rankings), make_filled<T>(b, s.rows, 1, T(0)), grouping::uniform(s.rows, 1),
                     {.block = 1, .covers = false});
}

/// The greedy ranking of each query under a list-wise selector.
template <host_executed B, class Scorer, class Queries>
[[nodiscard]] draws<B, double> greedy_draws(B& b, const autoregressive_selector<Scorer>& selector,
                                            const Queries& queries, index_t select) {
  const auto count = static_cast<index_t>(std::size(queries));
  for (index_t q = 0; q < count; ++q) require_drawable({1, select}, selector.scorer().document_count(queries[q]));
  auto rankings = b.template make<document_t>(count, select);
  b.run(count, [&scorer = selector.scorer(), queries, select, z = b.view(rankings)](auto&, index_t q) {
    const auto best = greedy_ranking(scorer, queries[q], select);
    for (index_t t = 0; t < select; ++t) z(q, t) = best.empty() ? no_document : best[static_cast<std::size_t>(t)];
  });
  return draws<B, double>(b, std::move(rankings), make_filled<double>(b, count, 1, 0.0), grouping::uniform(count, 1),
                          {.block = 1, .covers = false});
}

/// The greedy ranking of each query under a selector that shows its scores.
template <backend B, class Selector, class Queries>
requires requires(const Selector& s, B& b, const Queries& queries) { s.scores(b, queries); }
[[nodiscard]] auto greedy_draws(B& b, const Selector& selector, const Queries& queries, index_t select) {
  return greedy_plackett_luce(b, selector.scores(b, queries), select);
}

}  // namespace dro

#endif
