// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_CONCEPTS_HPP
#define DRO_MODEL_CONCEPTS_HPP

/// \file
/// What a model has to answer to take part: draw, score, accumulate Σ c ∇ log p.
///
/// `Queries` is whatever the models of a program understand as a batch of queries; the library only asks how many there
/// are (std::size). T is the number type of log-probabilities, float or double.

#include <concepts>
#include <iterator>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// A batch of queries, of which the library asks only the number.
template <class Q>
concept query_batch = requires(const Q& queries) {
  std::size(queries);
};

namespace detail {

template <class P, class B, class Q>
concept has_draw = requires(const P& p, B& b, const Q& queries, const draw_options& options,
                            const random_source& random) {
  typename P::scalar_type;
  { p.draw(b, queries, options, random) } -> std::same_as<draws<B, typename P::scalar_type>>;
};

template <class S, class B, class Q>
concept has_log_prob = requires(const S& s, B& b, const Q& queries, const draws<B, typename S::scalar_type>& z) {
  { s.log_prob(b, queries, z) } -> std::same_as<matrix_t<B, typename S::scalar_type>>;
};

template <class G, class B, class Q, class T>
concept has_log_likelihood = requires(const G& g, B& b, const Q& queries, const draws<B, T>& z) {
  { g.log_likelihood(b, queries, z) } -> std::same_as<matrix_t<B, T>>;
};

template <class M, class B, class Q, class T>
concept has_accumulate_gradient = requires(M& m, B& b, const Q& queries, const draws<B, T>& z,
                                           const matrix_t<B, T>& coefficients) {
  m.accumulate_gradient(b, queries, z, coefficients);
};

struct any_parameter {
  template <class T>
  void operator()(matrix_view<T>, matrix_view<T>) const {}
};

}  // namespace detail

/// Draws rankings and says with what probability.
///
///     using scalar_type = double;
///     draws<B, scalar_type> draw(B&, const Queries&, const draw_options&, const random_source&) const;
template <class P, class B, class Q>
concept proposal = backend<B> && query_batch<Q> && detail::has_draw<P, B, Q>;

/// A proposal that also says with what probability it would have drawn rankings that anybody drew; −inf for those it
/// never draws. What proposals made of several ask of their parts.
///
///     matrix_t<B, scalar_type> log_prob(B&, const Queries&, const draws<B, scalar_type>&) const;   // [draws × 1]
template <class P, class B, class Q>
concept scoring_proposal = proposal<P, B, Q> && detail::has_log_prob<P, B, Q>;

/// A scoring proposal that learns. The draws' own log_proposal must be log p(z|x).
///
///     void accumulate_gradient(B&, const Queries&, const draws<B, scalar_type>&,
///                              const matrix_t<B, scalar_type>& coefficients);            // += Σ c_i ∇ log p(z_i|x)
template <class S, class B, class Q>
concept selector = scoring_proposal<S, B, Q> && detail::has_accumulate_gradient<S, B, Q, typename S::scalar_type>;

/// Scores the answers given the selected documents and learns.
///
///     matrix_t<B, T> log_likelihood(B&, const Queries&, const draws<B, T>&) const;                 // [draws × 1]
///     void accumulate_gradient(B&, const Queries&, const draws<B, T>&,
///                              const matrix_t<B, T>& coefficients);                // += Σ c_i ∇ log p(y|x,d_{z_i})
template <class G, class B, class Q, class T>
concept generator = backend<B> && query_batch<Q> && detail::has_log_likelihood<G, B, Q, T> &&
    detail::has_accumulate_gradient<G, B, Q, T>;

/// A selector whose scores do not depend on earlier choices (Plackett–Luce) and are there to see.
///
///     matrix_t<B, scalar_type> scores(B&, const Queries&) const;              // [queries × documents], −inf: padding
///     void accumulate_score_gradient(B&, const Queries&, const matrix_t<B, scalar_type>& d_scores);
template <class S, class B, class Q>
concept scored_selector = selector<S, B, Q> &&
    requires(const S& s, S& m, B& b, const Q& queries, const matrix_t<B, typename S::scalar_type>& d_scores) {
  { s.scores(b, queries) } -> std::same_as<matrix_t<B, typename S::scalar_type>>;
  m.accumulate_score_gradient(b, queries, d_scores);
};

/// A model whose parameters the library's optimisers can move.
///
///     template <class F> void for_each_parameter(F&& f);      // f(matrix_view<T> value, matrix_view<T> gradient), in
///                                                             // the same order at each call
template <class M>
concept trainable = requires(M& m) {
  m.for_each_parameter(detail::any_parameter{});
};

/// Stops the compilation with a message that names what is missing of what an E-step asks of a selector.
template <class S, class B, class Q>
constexpr void check_selector() {
  static_assert(query_batch<Q>, "dro: the batch of queries has no size; see docs/bring-your-own-model.md");
  static_assert(detail::has_draw<S, B, Q>,
                "dro: the selector needs `using scalar_type` and `draws<B, scalar_type> draw(B&, const Queries&, const "
                "draw_options&, const random_source&) const`; see docs/bring-your-own-model.md");
  static_assert(detail::has_log_prob<S, B, Q>,
                "dro: the selector needs `matrix_t<B, scalar_type> log_prob(B&, const Queries&, const draws<B, "
                "scalar_type>&) const`; see docs/bring-your-own-model.md");
}

/// As check_selector, for something that only draws.
template <class P, class B, class Q>
constexpr void check_proposal() {
  static_assert(query_batch<Q>, "dro: the batch of queries has no size; see docs/bring-your-own-model.md");
  static_assert(detail::has_draw<P, B, Q>,
                "dro: the proposal needs `using scalar_type` and `draws<B, scalar_type> draw(B&, const Queries&, const "
                "draw_options&, const random_source&) const`; see docs/bring-your-own-model.md");
}

/// As check_proposal, for one that must score the rankings of others.
template <class P, class B, class Q>
constexpr void check_scoring_proposal() {
  check_proposal<P, B, Q>();
  static_assert(detail::has_log_prob<P, B, Q>,
                "dro: a part of a mixture of proposals needs `matrix_t<B, scalar_type> log_prob(B&, const Queries&, "
                "const draws<B, scalar_type>&) const`; see docs/bring-your-own-model.md");
}

/// As check_selector, for a generator of number type T.
template <class G, class B, class Q, class T>
constexpr void check_generator() {
  static_assert(query_batch<Q>, "dro: the batch of queries has no size; see docs/bring-your-own-model.md");
  static_assert(detail::has_log_likelihood<G, B, Q, T>,
                "dro: the generator needs `matrix_t<B, T> log_likelihood(B&, const Queries&, const draws<B, T>&) "
                "const`; see docs/bring-your-own-model.md");
}

/// What an M-step asks of a model that is to learn.
template <class M, class B, class Q, class T>
constexpr void check_gradient() {
  static_assert(
      detail::has_accumulate_gradient<M, B, Q, T>,
      "dro: a model that learns needs `void accumulate_gradient(B&, const Queries&, const draws<B, T>&, const "
      "matrix_t<B, T>& coefficients)` (or give `frozen{}` as its optimiser); see "
      "docs/bring-your-own-model.md");
}

}  // namespace dro

#endif
