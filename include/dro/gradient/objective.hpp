// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_OBJECTIVE_HPP
#define DRO_GRADIENT_OBJECTIVE_HPP

/// \file
/// What an M-step maximises, as types. An objective turns the scored draws of one query into two sets of coefficients:
/// c for the selector, whose gradient is Σ c_i ∇ log p(z_i|x), and c′ for the generator, Σ c′_i ∇ log p(y|x,d_{z_i}).
/// Coefficients point uphill. A baseline lowers the variance of c; c′ never carries one. The objectives that the
/// library brings: evidence.hpp, importance_weighted_bound.hpp, expected_reward.hpp, and regularised.hpp around any.

#include <concepts>
#include <string>

#include <dro/backend/grouping.hpp>
#include <dro/config.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/math/exp.hpp>

namespace dro {

/// The draws of one query as an objective sees them. Draw i stands for count(i) equal ones; m = Σ count.
template <class T>
class query_draws {
 public:
  using scalar_type = T;

  DRO_HOST_DEVICE query_draws(const scored_draws<T>& scores, const grouped_view<const T>& weights, index_t query,
                              T samples)
      : row_(scores.row(query)),
        weights_(weights.row(query)),
        query_(query),
        size_(scores.size(query)),
        block_(scores.traits().block),
        samples_(samples),
        covers_(scores.traits().covers),
        on_policy_(scores.is_on_policy()) {}

  [[nodiscard]] DRO_HOST_DEVICE index_t query() const { return query_; }
  [[nodiscard]] DRO_HOST_DEVICE index_t size() const { return size_; }
  /// m.
  [[nodiscard]] DRO_HOST_DEVICE T samples() const { return samples_; }
  [[nodiscard]] DRO_HOST_DEVICE T count(index_t i) const { return row_.count(i); }
  /// Draws in a block of dependent ones; draws of different blocks are independent.
  [[nodiscard]] DRO_HOST_DEVICE index_t block() const { return block_; }
  /// Whether the proposal covers the selector; if not, E_q[ρ ∇ log p] is not 0 and a baseline would add bias.
  [[nodiscard]] DRO_HOST_DEVICE bool covers() const { return covers_; }
  /// Whether the selector itself drew, with the parameters it has now.
  [[nodiscard]] DRO_HOST_DEVICE bool on_policy() const { return on_policy_; }

  /// log p(z_i|x) − log q(z_i), nats.
  [[nodiscard]] DRO_HOST_DEVICE T log_ratio(index_t i) const { return row_.log_ratio(i); }
  /// ρ_i = p(z_i|x) / q(z_i).
  [[nodiscard]] DRO_HOST_DEVICE T ratio(index_t i) const {
    const T nats = log_ratio(i);
    return nats == T(0) ? T(1) : math::exp(nats);  // on-policy no exponential is computed
  }
  /// log p(z_i|x), nats, where scored_draws has it (dro::on_policy of bare likelihoods has not).
  [[nodiscard]] DRO_HOST_DEVICE T log_selector(index_t i) const { return row_.log_selector(i); }
  /// log p(y|x,d_{z_i}), nats.
  [[nodiscard]] DRO_HOST_DEVICE T log_likelihood(index_t i) const { return row_.log_likelihood(i); }
  /// log w_i = log ρ_i + log p(y|x,d_{z_i}), nats.
  [[nodiscard]] DRO_HOST_DEVICE T log_weight(index_t i) const { return row_.log_weight(i); }
  /// Self-normalised importance weight w̄_i of all copies of draw i.
  [[nodiscard]] DRO_HOST_DEVICE T weight(index_t i) const { return weights_[i]; }

  /// Σ count(i) f(i) over the draws that count; f(i) is a number or a pack of them.
  template <class Team, class F>
  [[nodiscard]] DRO_HOST_DEVICE auto sum(Team& team, const F& f) const {
    using total = decltype(T(1) * f(index_t{}));
    return team.template sum<total>(size(), [&](index_t i) {
      const T n = count(i);
      return n > T(0) ? n * f(i) : total{};
    });
  }
  /// Σ count(j) f(j) over the block of draw i if draws are dependent, f(i) if not: what leave-one-out leaves out.
  template <class F>
  [[nodiscard]] DRO_HOST_DEVICE T own(index_t i, F&& f) const {
    if (block() == 1) return f(i);
    T total = T(0);
    const index_t first = i - i % block();
    const index_t last = first + block() < size() ? first + block() : size();
    for (index_t j = first; j < last; ++j) total += f(j);
    return total;
  }

 private:
  scored_row<T> row_;
  row_view<const T> weights_;
  index_t query_;
  index_t size_;
  index_t block_;
  T samples_;
  bool covers_;
  bool on_policy_;
};

/// The draws of a query whose form is known: says what query_draws does, and hides its members with ones that need not
/// look. An objective that is written for any `Draws` has loops without branches over them; one for query_draws<T>
/// takes them as well.
template <class T, row_form Form>
class formed_draws : public query_draws<T> {
 public:
  static_assert(Form != row_form::any);

  DRO_HOST_DEVICE formed_draws(const scored_draws<T>& scores, const grouped_view<const T>& weights, index_t query)
      : query_draws<T>(scores, weights, query, static_cast<T>(scores.size(query))),
        row_(scores.template row_as<Form>(query)),
        weights_(weights.row(query).data) {}

  [[nodiscard]] static DRO_HOST_DEVICE constexpr T count(index_t) { return T(1); }
  [[nodiscard]] static DRO_HOST_DEVICE constexpr index_t block() { return 1; }
  [[nodiscard]] DRO_HOST_DEVICE T log_ratio(index_t i) const { return row_.log_ratio(i); }
  [[nodiscard]] DRO_HOST_DEVICE T ratio(index_t i) const {
    if constexpr (Form == row_form::likelihoods) {
      return T(1);
    } else {
      return math::exp(log_ratio(i));
    }
  }
  [[nodiscard]] DRO_HOST_DEVICE T log_likelihood(index_t i) const { return row_.log_likelihood(i); }
  [[nodiscard]] DRO_HOST_DEVICE T log_weight(index_t i) const { return row_.log_weight(i); }
  [[nodiscard]] DRO_HOST_DEVICE T weight(index_t i) const { return weights_[i]; }
  template <class Team, class F>
  [[nodiscard]] DRO_HOST_DEVICE auto sum(Team& team, const F& f) const {
    return team.template sum<decltype(T(1) * f(index_t{}))>(this->size(), f);
  }
  template <class F>
  [[nodiscard]] DRO_HOST_DEVICE T own(index_t i, const F& f) const {
    return f(i);
  }

 private:
  scored_row<T, Form> row_;
  const T* weights_;
};

/// An objective states its name, the fewest independent blocks of draws it is defined for (samples, where all draws are
/// independent), whether its coefficients may be kept over several gradient steps, and is called once for each query
/// whose weights are fine, with a team, the query's draws and an output:
///
///     template <class T, class Team, class Out>
///     status operator()(Team&, const query_draws<T>&, const Out& out) const;      // out(i, c_i, c′_i) for each draw
///
/// or for `class Draws`, T being Draws::scalar_type, where its loops are worth compiling for draws of each row_form.
/// c_i and c′_i are those of all copies of draw i. An objective whose coefficients stand for e^L times themselves says
/// so with out.log_scale(L). out.add(i, c) adds to c_i afterwards. One that holds views of more inputs may have `void
/// require(const scored_draws<T>&) const`, which throws shape_error if they do not fit. A status that is not used (see
/// dro::status) makes the query's coefficients 0.
template <class O>
concept objective = requires(const O& o) {
  { O::name } -> std::convertible_to<const char*>;
  { O::least_samples } -> std::convertible_to<index_t>;
  { O::valid_over_steps } -> std::convertible_to<bool>;
};

/// The name of an objective with that of its baseline, where it has one.
template <objective O>
[[nodiscard]] std::string objective_name() {
  std::string name = O::name;
  if constexpr (requires { O::baseline_name; }) name += std::string(", ") + O::baseline_name;
  return name;
}

}  // namespace dro

#endif
