// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_SCORED_DRAWS_HPP
#define DRO_ESTIMATE_SCORED_DRAWS_HPP

/// \file
/// What the models said of each draw: the input of every estimator.

#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/error.hpp>
#include <dro/math/binary_format.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// What is known of the draws of a query before any of them is looked at. A loop over draws that are not `any` neither
/// asks which values there are nor multiplies by strides, and becomes vector code.
enum class row_form {
  any,          ///< nothing
  likelihoods,  ///< independent draws in consecutive memory, each counting once, of which log ρ is 0
  ratios,       ///< the same with log ρ = log p(z|x) − log q(z) of two values that there are
};

namespace detail {

/// How values of a row of this form are seen: `values[i]`.
template <row_form Form, class T>
using row_values = std::conditional_t<Form == row_form::any, row_view<T>, T*>;

template <row_form Form, class T>
[[nodiscard]] DRO_HOST_DEVICE constexpr row_values<Form, T> values_of(const row_view<T>& row) {
  if constexpr (Form == row_form::any) {
    return row;
  } else {
    return row.data;
  }
}

/// log p − log q, and −inf where both are. No branch.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE T log_quotient(T log_p, T log_q) {
  namespace bitwise = math::detail;
  using word = typename bitwise::binary_format<T>::word;
  constexpr T impossible = -bitwise::infinity<T>;
  const word other =
      (bitwise::bits(log_p) ^ bitwise::bits(impossible)) | (bitwise::bits(log_q) ^ bitwise::bits(impossible));
  const word both = ((other | (word{0} - other)) >> (bitwise::binary_format<T>::width - 1)) - 1;  // other == 0, a mask
  return bitwise::select(both, impossible, log_p - log_q);
}

}  // namespace detail

/// The scored draws of one query, of a form that is known: see the members of scored_draws of the same names.
template <class T, row_form Form = row_form::any>
struct scored_row {
  detail::row_values<Form, const T> log_selectors, log_likelihoods, log_proposals, log_ratios, multiplicities;

  [[nodiscard]] DRO_HOST_DEVICE T log_ratio(index_t i) const {
    if constexpr (Form == row_form::likelihoods) {
      return T(0);
    } else if constexpr (Form == row_form::ratios) {
      return detail::log_quotient(log_selectors[i], log_proposals[i]);
    } else {
      if (log_ratios) return log_ratios[i];
      if (!log_selectors) return T(0);
      return detail::log_quotient(log_selectors[i], log_proposals ? log_proposals[i] : log_selectors[i]);
    }
  }
  [[nodiscard]] DRO_HOST_DEVICE T log_likelihood(index_t i) const { return log_likelihoods[i]; }
  [[nodiscard]] DRO_HOST_DEVICE T log_weight(index_t i) const { return log_ratio(i) + log_likelihood(i); }
  [[nodiscard]] DRO_HOST_DEVICE T log_selector(index_t i) const { return log_selectors[i]; }
  [[nodiscard]] DRO_HOST_DEVICE T count(index_t i) const {
    if constexpr (Form != row_form::any) {
      return T(1);
    } else {
      return multiplicities ? multiplicities[i] : T(1);
    }
  }
};

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

  /// The same draws with how they hang together, and how often each counts (an empty view: once). Throws option_error
  /// for blocks below 1, shape_error.
  [[nodiscard]] scored_draws with(const draw_traits& traits, grouped_view<const T> multiplicity) const {
    if (traits.block < 1) throw option_error("scored_draws: blocks of " + std::to_string(traits.block));
    if (multiplicity) require_groups(multiplicity, groups_, "scored_draws: multiplicity");
    scored_draws s = *this;
    s.traits_ = traits;
    s.multiplicity_ = multiplicity;
    return s;
  }

  /// The same draws with these log ρ, one for each draw, in place of log p(z|x) − log q(z): smoothed ones, for example.
  [[nodiscard]] scored_draws with_log_ratio(grouped_view<const T> log_ratio) const {
    require_groups(log_ratio, groups_, "scored_draws: log_ratio");
    scored_draws s = *this;
    s.log_ratio_ = log_ratio;
    return s;
  }

  /// log ρ = log p(z|x) − log q(z); exactly 0 where the selector itself drew, and −inf for a draw that both call
  /// impossible (a ranking that could not be completed).
  [[nodiscard]] DRO_HOST_DEVICE T log_ratio(index_t query, index_t i) const { return row(query).log_ratio(i); }
  /// log p(y|x,d_z).
  [[nodiscard]] DRO_HOST_DEVICE T log_likelihood(index_t query, index_t i) const { return log_likelihood_(query, i); }
  /// log w = log ρ + log p(y|x,d_z).
  [[nodiscard]] DRO_HOST_DEVICE T log_weight(index_t query, index_t i) const {
    return log_ratio(query, i) + log_likelihood_(query, i);
  }
  /// log p(z|x); of draws by the selector itself only where it was given.
  [[nodiscard]] DRO_HOST_DEVICE T log_selector(index_t query, index_t i) const { return log_selector_(query, i); }
  [[nodiscard]] DRO_HOST_DEVICE bool has_log_selector() const { return static_cast<bool>(log_selector_); }
  /// Whether the selector drew with the parameters it has now, so that p(z|x) and q(z) cancel.
  [[nodiscard]] DRO_HOST_DEVICE bool is_on_policy() const { return !log_proposal_; }
  [[nodiscard]] DRO_HOST_DEVICE index_t size(index_t query) const { return groups_.size(query); }
  /// How many equal draws draw i stands for; one that stands for none is passed over, whatever its values.
  [[nodiscard]] DRO_HOST_DEVICE T count(index_t query, index_t i) const {
    return multiplicity_ ? multiplicity_(query, i) : T(1);
  }
  [[nodiscard]] DRO_HOST_DEVICE bool has_multiplicity() const { return static_cast<bool>(multiplicity_); }
  [[nodiscard]] DRO_HOST_DEVICE const draw_traits& traits() const { return traits_; }

  /// The draws of one query: what a loop over them takes once.
  [[nodiscard]] DRO_HOST_DEVICE scored_row<T> row(index_t query) const {
    return {log_selector_.row(query), log_likelihood_.row(query), log_proposal_.row(query), log_ratio_.row(query),
            multiplicity_.row(query)};
  }
  /// The same, of a form that form_of(query) allows.
  template <row_form Form>
  [[nodiscard]] DRO_HOST_DEVICE scored_row<T, Form> row_as(index_t query) const {
    const scored_row<T> r = row(query);
    return {detail::values_of<Form>(r.log_selectors), detail::values_of<Form>(r.log_likelihoods),
            detail::values_of<Form>(r.log_proposals ? r.log_proposals : r.log_selectors),
            detail::values_of<Form>(r.log_ratios), detail::values_of<Form>(r.multiplicities)};
  }
  /// The narrowest form of a query's draws.
  [[nodiscard]] DRO_HOST_DEVICE row_form form_of(index_t query) const {
    const scored_row<T> r = row(query);
    if (r.multiplicities || r.log_ratios || traits_.block != 1 || r.log_likelihoods.stride != 1) return row_form::any;
    if (!r.log_selectors) return row_form::likelihoods;
    return r.log_selectors.stride == 1 && (!r.log_proposals || r.log_proposals.stride == 1) ? row_form::ratios
                                                                                            : row_form::any;
  }

  [[nodiscard]] DRO_HOST_DEVICE const grouping& groups() const { return groups_; }
  /// Shape in which values for each draw are returned: that of log_likelihood.
  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }

 private:
  grouped_view<const T> log_selector_;
  grouped_view<const T> log_likelihood_;
  grouped_view<const T> log_proposal_;
  grouped_view<const T> log_ratio_;
  grouped_view<const T> multiplicity_;
  grouping groups_;
  draw_traits traits_;
  index_t rows_;
  index_t cols_;
};

namespace detail {

template <class B, class T>
[[nodiscard]] grouped_view<const T> multiplicity_of(const B& b, const draws<B, T>& z) {
  if (!z.has_multiplicity()) return {};
  return {b.view(z.multiplicity()), z.groups(), "multiplicity"};
}

}  // namespace detail

/// Draws made by the selector itself with its current parameters: p(z|x) and q(z) cancel, so only
/// `log_likelihood` = log p(y|x,d_z) is needed. It is flat, [draws × 1], or a table [queries × samples], and has to
/// outlive what is returned, which only looks at it: a temporary matrix, or `z` below, does not compile.
template <backend B, viewable<B> M>
[[nodiscard]] auto on_policy(B& b, M&& log_likelihood, const grouping& groups) {
  using T = element_t<B, M>;
  const matrix_view<const T> likelihood = detail::kept_view_of(b, std::forward<M>(log_likelihood));
  return scored_draws<T>({}, {likelihood, groups, "log_likelihood"}, {}, groups, likelihood.rows, likelihood.cols);
}

/// The same for a table [queries × samples].
template <backend B, viewable<B> M>
[[nodiscard]] auto on_policy(B& b, M&& log_likelihood) {
  const auto table = detail::kept_view_of(b, std::forward<M>(log_likelihood));
  return on_policy(b, table, grouping::uniform(table.rows, table.cols));
}

/// The same for `z`, drawn by the selector itself with the parameters it has now: its log q is log p(z|x). Whether that
/// is so cannot be seen, but for draws without replacement, which throw option_error.
template <backend B, viewable<B> M, class T>
[[nodiscard]] scored_draws<T> on_policy(B& b, M&& log_likelihood, const draws<B, T>& z) {
  if (z.has_log_unsampled()) throw option_error("on_policy: draws without replacement, whose log q is not log p(z|x)");
  const B& view = b;
  const grouping& groups = z.groups();
  const matrix_view<const T> likelihood = detail::kept_view_of(b, std::forward<M>(log_likelihood));
  return scored_draws<T>({view.view(z.log_proposal()), groups, "log_selector"}, {likelihood, groups, "log_likelihood"},
                         {}, groups, likelihood.rows, likelihood.cols)
      .with(z.traits(), detail::multiplicity_of(b, z));
}

/// Draws made by any proposal q: `log_selector` = log p(z|x), `log_likelihood` = log p(y|x,d_z) and `log_proposal` =
/// log q(z), each flat, [draws × 1], or a table [queries × samples]; they have to outlive what is returned, as above.
template <backend B, viewable<B> S, viewable<B> G, viewable<B> Q>
[[nodiscard]] auto off_policy(B& b, S&& log_selector, G&& log_likelihood, Q&& log_proposal, const grouping& groups) {
  using T = element_t<B, G>;
  const matrix_view<const T> prior = detail::kept_view_of(b, std::forward<S>(log_selector));
  const matrix_view<const T> likelihood = detail::kept_view_of(b, std::forward<G>(log_likelihood));
  const matrix_view<const T> proposal = detail::kept_view_of(b, std::forward<Q>(log_proposal));
  return scored_draws<T>({prior, groups, "log_selector"}, {likelihood, groups, "log_likelihood"},
                         {proposal, groups, "log_proposal"}, groups, likelihood.rows, likelihood.cols);
}

/// The same for tables [queries × samples].
template <backend B, viewable<B> S, viewable<B> G, viewable<B> Q>
[[nodiscard]] auto off_policy(B& b, S&& log_selector, G&& log_likelihood, Q&& log_proposal) {
  const auto table = detail::kept_view_of(b, std::forward<G>(log_likelihood));
  return off_policy(b, std::forward<S>(log_selector), table, std::forward<Q>(log_proposal),
                    grouping::uniform(table.rows, table.cols));
}

/// The same for `z` and the log q it carries.
template <backend B, viewable<B> S, viewable<B> G, class T>
[[nodiscard]] scored_draws<T> off_policy(B& b, S&& log_selector, G&& log_likelihood, const draws<B, T>& z) {
  const B& view = b;
  return off_policy(b, std::forward<S>(log_selector), std::forward<G>(log_likelihood), view.view(z.log_proposal()),
                    z.groups())
      .with(z.traits(), detail::multiplicity_of(b, z));
}

// What is returned looks at z.
template <class B, class M, class T>
void on_policy(B&, M&&, const draws<B, T>&&) = delete;
template <class B, class S, class G, class T>
void off_policy(B&, S&&, G&&, const draws<B, T>&&) = delete;

}  // namespace dro

#endif
