// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_DEDUPLICATE_HPP
#define DRO_RANKING_DEDUPLICATE_HPP

/// \file
/// Equal draws of a query joined into one that counts for all of them.

#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

struct deduplicate_options {
  /// Whether the draw that stays counts for its copies. Without it a ranking counts once however often it was drawn:
  /// its weight then is too small by the number of copies, and no estimator of this library is consistent any more. It
  /// is what some published training code does, and here to be compared with.
  bool keep_multiplicity = true;
  /// Whether rankings of the same documents in different orders are equal, too; see deduplicate.
  bool as_sets = false;
};

namespace detail {

template <class T>
struct deduplicate_program {
  matrix_view<const document_t> rankings;
  matrix_view<const T> log_proposal;
  grouped_view<const T> given;  // multiplicities so far; empty: 1
  grouped_view<T> multiplicity;
  grouping groups;
  deduplicate_options options;

  [[nodiscard]] DRO_HOST_DEVICE T count(index_t q, index_t i) const { return given ? given(q, i) : T(1); }

  [[nodiscard]] DRO_HOST_DEVICE bool same_ranking(index_t a, index_t b) const {
    for (index_t t = 0; t < rankings.cols; ++t) {
      if (rankings(a, t) != rankings(b, t)) return false;
    }
    return log_proposal(a, 0) == log_proposal(b, 0);
  }
  /// Whether every entry of ranking a is one of ranking b.
  [[nodiscard]] DRO_HOST_DEVICE bool within(index_t a, index_t b) const {
    for (index_t t = 0; t < rankings.cols; ++t) {
      index_t u = 0;
      while (u < rankings.cols && rankings(b, u) != rankings(a, t)) ++u;
      if (u == rankings.cols) return false;
    }
    return true;
  }
  [[nodiscard]] DRO_HOST_DEVICE bool same(index_t a, index_t b) const {
    return options.as_sets ? within(a, b) && within(b, a) : same_ranking(a, b);
  }

  [[nodiscard]] index_t width() const { return groups.mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const index_t begin = groups.begin(q);
    const index_t size = groups.size(q);
    team.for_each(size, [&](index_t i) {
      const auto is_copy = [&](index_t j) { return count(q, j) > T(0) && same(begin + i, begin + j); };
      T copies = count(q, i);
      for (index_t j = 0; j < i && copies > T(0); ++j) copies = is_copy(j) ? T(0) : copies;
      for (index_t j = i + 1; j < size && copies > T(0); ++j) copies += is_copy(j) ? count(q, j) : T(0);
      multiplicity(q, i) = copies > T(0) && !options.keep_multiplicity ? T(1) : copies;
    });
  }
};

}  // namespace detail

/// The same draws, in the same places, of which the first of several equal ones counts for all of them and the others
/// for nothing (draws::multiplicity): every estimator gives what it gave before, and a generator that passes over draws
/// of multiplicity 0 scores each list once. Draws are equal if they are the same ranking of the same log q: copies
/// whose log q differ (they came from different proposals) stay apart, since neither could stand for the other.
/// Multiplicities that the draws already have are added up, so that doing it twice changes nothing.
///
/// With `as_sets`, orders of the same documents are equal. Only for draws of the selector itself and a generator that
/// ignores the order, neither of which can be checked here: then equal sets have equal weights, and evidence, weights
/// and the generator's gradient stay exactly what they were. The selector's gradient has the whole set's coefficient on
/// the order that came first. Given the sets drawn, any order comes first with its probability given its set, so the
/// mean of the gradient is unchanged; its variance is larger. Off-policy p(z|x)/q(z) differs within a set: do not.
///
/// Throws option_error if the draws are not independent, or as_sets is asked of a proposal that does not cover the
/// selector. Queues one program and reads nothing: at most O(m² K) comparisons a query (as_sets: O(m² K²)), of which
/// draws that differ in the first place cost one.
template <backend B, class T>
[[nodiscard]] draws<B, T> deduplicate(B& b, draws<B, T> z, const deduplicate_options& options = {}) {
  if (options.as_sets && !z.traits().covers) {
    throw option_error("deduplicate: as_sets of draws by a truncated proposal, expected draws of the selector itself");
  }
  const B& view = b;
  const grouping& groups = z.groups();
  auto multiplicity = b.template make<T>(groups.total(), 1);
  grouped_view<const T> given;
  if (z.has_multiplicity()) given = {view.view(z.multiplicity()), groups, "multiplicity"};
  b.run(groups.queries(), detail::deduplicate_program<T>{view.view(z.rankings()),
                                                         view.view(z.log_proposal()),
                                                         given,
                                                         {b.view(multiplicity), groups, "multiplicity"},
                                                         groups,
                                                         options});
  z.set_multiplicity(b, std::move(multiplicity));
  return z;
}

}  // namespace dro

#endif
