// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_PROPOSALS_FIXED_ORDER_HPP
#define DRO_MODEL_PROPOSALS_FIXED_ORDER_HPP

/// \file
/// The retriever's order as a proposal.

#include <iterator>
#include <limits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

namespace detail {

struct first_documents_program {
  matrix_view<document_t> rankings;

  [[nodiscard]] index_t width() const { return rankings.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    team.for_each(rankings.cols, [&](index_t t) { rankings(draw, t) = static_cast<document_t>(t); });
  }
};

template <class T>
struct is_first_documents_program {
  static constexpr T never = -std::numeric_limits<T>::infinity();

  matrix_view<const document_t> rankings;
  matrix_view<T> log_prob;

  [[nodiscard]] index_t width() const { return rankings.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    const index_t others = team.template sum<index_t>(
        rankings.cols, [&](index_t t) { return rankings(draw, t) == t ? index_t{0} : index_t{1}; });
    if (team.rank() == 0) log_prob(draw, 0) = others == 0 ? T(0) : never;
  }
};

}  // namespace detail

/// Always the first K candidates as they stand, 0, 1, …, K − 1: log q = 0 for that ranking and −inf for all others.
/// It covers no selector, so it is of use as a part of a `mixture` or of `several`: there it makes sure that the
/// retriever's own list is among the samples.
template <class T = double>
class fixed_order {
 public:
  using scalar_type = T;

  /// `documents`: the fewest candidates that a query has. Drawing throws option_error if K is more.
  explicit fixed_order(index_t documents) : documents_(documents) {}

  template <backend B, class Queries>
  [[nodiscard]] draws<B, T> draw(B& b, const Queries& queries, const draw_options& options,
                                 const random_source& = {}) const {
    require_drawable(options, documents_);
    const auto groups = grouping::uniform(static_cast<index_t>(std::size(queries)), options.samples);
    auto rankings = b.template make<document_t>(groups.total(), options.select);
    b.run(groups.total(), detail::first_documents_program{b.view(rankings)});
    return draws<B, T>(b, std::move(rankings), make_filled<T>(b, groups.total(), 1, T(0)), groups,
                       {.block = 1, .covers = false});
  }

  /// 0 or −inf, [draws × 1].
  template <backend B, class Queries>
  [[nodiscard]] matrix_t<B, T> log_prob(B& b, const Queries& queries, const draws<B, T>& z) const {
    require_queries(queries, z.groups(), "fixed_order");
    auto out = b.template make<T>(z.groups().total(), 1);
    b.run(z.groups().total(), detail::is_first_documents_program<T>{std::as_const(b).view(z.rankings()), b.view(out)});
    return out;
  }

 private:
  index_t documents_;
};

}  // namespace dro

#endif
