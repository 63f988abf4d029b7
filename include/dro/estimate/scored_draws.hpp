// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_SCORED_DRAWS_HPP
#define DRO_ESTIMATE_SCORED_DRAWS_HPP

/// \file
/// What the models said of each draw: the input of every estimator.

#include <limits>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>

namespace dro {

/// Log-probabilities, in nats, of each draw z of each query: log p(z|x), log p(y|x,d_z) and log q(z). Views only;
/// trivially copyable. Made by `on_policy` or `off_policy`.
template <class T>
class scored_draws {
 public:
  using scalar_type = T;

  scored_draws(grouped_view<const T> log_selector, grouped_view<const T> log_likelihood,
               grouped_view<const T> log_proposal, const grouping& groups, index_t rows, index_t cols)
      : log_selector_(log_selector),
        log_likelihood_(log_likelihood),
        log_proposal_(log_proposal),
        groups_(groups),
        rows_(rows),
        cols_(cols) {}

  /// log ρ = log p(z|x) − log q(z); exactly 0 where the selector itself drew, and −inf for a draw that both call
  /// impossible (a ranking that could not be completed).
  [[nodiscard]] DRO_HOST_DEVICE T log_ratio(index_t query, index_t i) const {
    if (!log_selector_) return T(0);
    constexpr T impossible = -std::numeric_limits<T>::infinity();
    const T prior = log_selector_(query, i);
    const T proposal = log_proposal_(query, i);
    return prior == impossible && proposal == impossible ? impossible : prior - proposal;
  }
  /// log p(y|x,d_z).
  [[nodiscard]] DRO_HOST_DEVICE T log_likelihood(index_t query, index_t i) const { return log_likelihood_(query, i); }
  /// log w = log ρ + log p(y|x,d_z).
  [[nodiscard]] DRO_HOST_DEVICE T log_weight(index_t query, index_t i) const {
    return log_ratio(query, i) + log_likelihood_(query, i);
  }
  [[nodiscard]] DRO_HOST_DEVICE index_t size(index_t query) const { return groups_.size(query); }

  [[nodiscard]] const grouping& groups() const { return groups_; }
  /// Shape in which values for each draw are returned: that of log_likelihood.
  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }

 private:
  grouped_view<const T> log_selector_;
  grouped_view<const T> log_likelihood_;
  grouped_view<const T> log_proposal_;
  grouping groups_;
  index_t rows_;
  index_t cols_;
};

/// Draws made by the selector itself with its current parameters: p(z|x) and q(z) cancel, so only
/// `log_likelihood` = log p(y|x,d_z) is needed. It is flat, [draws × 1], or a table [queries × samples].
template <backend B, viewable<B> M>
[[nodiscard]] auto on_policy(B& b, const M& log_likelihood, const grouping& groups) {
  using T = element_t<B, M>;
  const matrix_view<const T> likelihood = detail::view_of(b, log_likelihood);
  return scored_draws<T>({}, {likelihood, groups, "log_likelihood"}, {}, groups, likelihood.rows, likelihood.cols);
}

/// The same for a table [queries × samples].
template <backend B, viewable<B> M>
[[nodiscard]] auto on_policy(B& b, const M& log_likelihood) {
  const auto table = detail::view_of(b, log_likelihood);
  return on_policy(b, log_likelihood, grouping::uniform(table.rows, table.cols));
}

/// Draws made by any proposal q: `log_selector` = log p(z|x), `log_likelihood` = log p(y|x,d_z) and `log_proposal` =
/// log q(z), each flat, [draws × 1], or a table [queries × samples].
template <backend B, viewable<B> S, viewable<B> G, viewable<B> Q>
[[nodiscard]] auto off_policy(B& b, const S& log_selector, const G& log_likelihood, const Q& log_proposal,
                              const grouping& groups) {
  using T = element_t<B, G>;
  const matrix_view<const T> prior = detail::view_of(b, log_selector);
  const matrix_view<const T> likelihood = detail::view_of(b, log_likelihood);
  const matrix_view<const T> proposal = detail::view_of(b, log_proposal);
  return scored_draws<T>({prior, groups, "log_selector"}, {likelihood, groups, "log_likelihood"},
                         {proposal, groups, "log_proposal"}, groups, likelihood.rows, likelihood.cols);
}

/// The same for tables [queries × samples].
template <backend B, viewable<B> S, viewable<B> G, viewable<B> Q>
[[nodiscard]] auto off_policy(B& b, const S& log_selector, const G& log_likelihood, const Q& log_proposal) {
  const auto table = detail::view_of(b, log_likelihood);
  return off_policy(b, log_selector, log_likelihood, log_proposal, grouping::uniform(table.rows, table.cols));
}

}  // namespace dro

#endif
