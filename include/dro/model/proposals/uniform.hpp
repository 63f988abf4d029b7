// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_PROPOSALS_UNIFORM_HPP
#define DRO_MODEL_PROPOSALS_UNIFORM_HPP

/// \file
/// Every ranking alike: proposals that know nothing.

#include <iterator>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

namespace detail {

/// The Plackett–Luce distribution over scores that a derived class makes: what both uniform proposals are.
template <class Derived, class T>
class plackett_luce_proposal {
 public:
  using scalar_type = T;

  template <backend B, class Queries>
  [[nodiscard]] draws<B, T> draw(B& b, const Queries& queries, const draw_options& options,
                                 const random_source& random) const {
    return draw_plackett_luce(b, derived().scores(b, queries), random, options);
  }

  /// log q of rankings drawn by anybody, [draws × 1], nats.
  template <backend B, class Queries>
  [[nodiscard]] matrix_t<B, T> log_prob(B& b, const Queries& queries, const draws<B, T>& z) const {
    auto out = b.template make<T>(z.groups().total(), 1);
    plackett_luce_log_prob(b, derived().scores(b, queries), std::as_const(b).view(z.rankings()), z.groups(),
                           b.view(out));
    return out;
  }

 private:
  [[nodiscard]] const Derived& derived() const { return static_cast<const Derived&>(*this); }
};

template <class T>
struct flatten_program {
  matrix_view<T> scores;

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.for_each(scores.cols, [&](index_t col) {
      T& score = scores(row, col);
      score = score == minus_infinity<T> ? minus_infinity<T> : T(0);
    });
  }
};

}  // namespace detail

/// All rankings of K of the first n documents with equal probability, (n − K)! / n!. n is the same for all queries.
template <class T = double>
class uniform : public detail::plackett_luce_proposal<uniform<T>, T> {
 public:
  /// `documents`: n. Drawing throws option_error if it is less than K.
  explicit uniform(index_t documents) : documents_(documents) {}

  /// Zeros, [queries × n].
  template <backend B, class Queries>
  [[nodiscard]] matrix_t<B, T> scores(B& b, const Queries& queries) const {
    return make_filled<T>(b, static_cast<index_t>(std::size(queries)), documents_, T(0));
  }

 private:
  index_t documents_;
};

/// All rankings of K of those documents that a scored_selector can choose first (whose score is not −inf) with equal
/// probability; so queries may differ in their number of documents. Of the selector only `scores` is called. An lvalue
/// is referred to and must outlive the proposal, a temporary is kept.
template <class Selector>
class uniform_over : public detail::plackett_luce_proposal<uniform_over<Selector>,
                                                           typename std::remove_cvref_t<Selector>::scalar_type> {
 public:
  explicit uniform_over(Selector&& selector) : selector_(std::forward<Selector>(selector)) {}

  /// 0 where the selector can choose, −inf where it cannot, [queries × documents].
  template <backend B, class Queries>
  [[nodiscard]] auto scores(B& b, const Queries& queries) const {
    auto flat = selector_.scores(b, queries);
    b.run(static_cast<index_t>(std::size(queries)),
          detail::flatten_program<element_t<B, decltype(flat)>>{b.view(flat)});
    return flat;
  }

 private:
  Selector selector_;
};

template <class Selector>
uniform_over(Selector&&) -> uniform_over<Selector>;

}  // namespace dro

#endif
