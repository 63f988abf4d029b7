// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_RELAX_HPP
#define DRO_GRADIENT_RELAX_HPP

/// \file
/// RELAX for Plackett–Luce selectors: policy gradient with a learned control variate (Grathwohl et al. 2018; for
/// rankings, Gadetsky et al. 2020, arXiv 1911.10036).
///
/// A ranking b is the order of z = s + Gumbel noise, cut to K. Let z̃ be perturbed scores drawn anew given b, and c a
/// differentiable function of n numbers. Then, f being the reward,
///
///     g = (f(b) − c(z̃)) ∂ log p(b)/∂s + ∂c(z)/∂s − ∂c(z̃)/∂s
///
/// has the mean ∇ E[f] whatever c is: by the first part c(z̃) is taken off in expectation, by the others it is put back
/// along a path of low variance. Where c(z) ≈ f(b) its variance is small; c's parameters φ are moved to minimise E‖g‖²,
/// of which one draw gives an unbiased gradient since E g does not depend on φ. No second sample is needed: m = 1 will
/// do.
///
/// z given b and z̃ have the same law, and the mean of a sum does not ask how its terms depend on each other. So one
/// draw given b stands for both here, and with J = ∂z̃/∂s
///
///     g = (f(b) − c(z̃)) ∂ log p(b)/∂s + (1 − Jᵀ) ∇c(z̃),
///
/// at half the cost. (On six problems of 4 documents the variance after learning φ was within 1 % of that with two
/// independent draws on five and 5 % below it on one.)

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/team.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/status.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/random/substream.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

/// A function c_φ(z) of a query's n perturbed scores, continuous and differentiable but for a null set, as part of a
/// row program: trivially copyable, its parameters in the backend's memory, its members DRO_HOST_DEVICE templates over
/// the team. `z` [n] holds −inf for a document that cannot be chosen; c must not depend on it, and its derivative there
/// is 0. `work` [n] is memory for c's own use. c may depend on the query but not on its scores s other than through z.
///
///     index_t parameter_count() const;
///     T value(team, query, const T* z, index_t n, T* work) const;                              // c(z)
///     void gradient(team, query, const T* z, index_t n, T* out, T* work) const;                // out_j = ∂c/∂z_j
///     void accumulate_parameter_gradient(team, query, const T* z, index_t n, T weight, const T* direction,
///                                        matrix_view<T> out, T* work) const;
///         // out(query, k) += ∂/∂φ_k (weight c(z) + Σ_j direction_j ∂c/∂z_j)
///
/// Each returns with its writes visible to the whole team, and with no thread still reading `work`. A member `void
/// require(queries, documents) const`, if there is one, is called on the host before work is queued, to throw if c does
/// not fit. E‖g‖² and E|c|² must be finite.
template <class C, class T>
concept control_variate = std::is_trivially_copyable_v<C> &&
    requires(const C& c, host_team& team, index_t n, const T* z, T* out, T weight, matrix_view<T> parameters) {
  { c.parameter_count() } -> std::same_as<index_t>;
  { c.value(team, n, z, n, out) } -> std::same_as<T>;
  c.gradient(team, n, z, n, out, out);
  c.accumulate_parameter_gradient(team, n, z, n, weight, z, parameters, out);
};

/// c(z) = φ_0 + Σ_j p_j Σ_k φ_k x_jk, p = softmax(z/τ): a constant, and a mean of what the documents' features x
/// promise under a soft choice that follows the ranking's order. With x the identity every document has a weight of its
/// own.
template <class T>
class softmax_control_variate {
 public:
  /// `features` x [queries · n × d], the documents of a query in consecutive rows; those of impossible documents must
  /// be finite. `parameters` φ [1 × d + 1]. τ > 0: a larger one lets later picks have more of a say. Throws
  /// shape_error, option_error.
  softmax_control_variate(matrix_view<const T> features, matrix_view<const T> parameters, double temperature = 1)
      : features_(features), parameters_(parameters), temperature_(static_cast<T>(temperature)) {
    require_shape(parameters, 1, features.cols + 1, "softmax_control_variate: parameters");
    if (!(temperature_ > T(0)) || !std::isfinite(temperature_)) {
      throw option_error("softmax_control_variate: temperature is " + std::to_string(temperature) +
                         ", expected more than 0");
    }
  }

  /// Throws shape_error unless there are features for `queries` of `documents` each.
  void require(index_t queries, index_t documents) const {
    require_shape(features_, queries * documents, features_.cols, "softmax_control_variate: features");
  }
  [[nodiscard]] DRO_HOST_DEVICE index_t parameter_count() const { return features_.cols + 1; }

  template <class Team>
  DRO_HOST_DEVICE T value(Team& team, index_t query, const T* z, index_t n, T* p) const {
    choose(team, z, n, p);
    const T average = mean(team, query, n, p);
    team.barrier();
    return parameters_(0, 0) + average;
  }

  template <class Team>
  DRO_HOST_DEVICE void gradient(Team& team, index_t query, const T* z, index_t n, T* out, T* p) const {
    choose(team, z, n, p);
    const T average = mean(team, query, n, p);
    team.for_each(n, [&](index_t j) { out[j] = p[j] * (weight(query, n, j) - average) / temperature_; });
    team.barrier();
  }

  template <class Team>
  DRO_HOST_DEVICE void accumulate_parameter_gradient(Team& team, index_t query, const T* z, index_t n, T weight,
                                                     const T* direction, matrix_view<T> out, T* p) const {
    choose(team, z, n, p);
    const T average = team.template sum<T>(n, [&](index_t j) { return p[j] * direction[j]; });
    team.barrier();
    team.for_each(n, [&](index_t j) { p[j] *= weight + (direction[j] - average) / temperature_; });
    team.barrier();
    team.for_each(parameter_count(), [&](index_t k) {
      T total = weight;
      if (k > 0) {
        total = T(0);
        for (index_t j = 0; j < n; ++j) total += p[j] * features_(query * n + j, k - 1);
      }
      out(query, k) += total;
    });
    team.barrier();
  }

 private:
  /// p = softmax(z/τ).
  template <class Team>
  DRO_HOST_DEVICE void choose(Team& team, const T* z, index_t n, T* p) const {
    const T largest = team.max(n, -std::numeric_limits<T>::infinity(), [&](index_t j) { return z[j]; });
    team.for_each(n, [&](index_t j) { p[j] = math::exp((z[j] - largest) / temperature_); });
    team.barrier();
    const T total = team.template sum<T>(n, [&](index_t j) { return p[j]; });
    team.barrier();
    team.for_each(n, [&](index_t j) { p[j] /= total; });
    team.barrier();
  }
  /// Σ_k φ_k x_jk.
  DRO_HOST_DEVICE T weight(index_t query, index_t n, index_t j) const {
    T total = T(0);
    for (index_t k = 0; k < features_.cols; ++k) total += parameters_(0, k + 1) * features_(query * n + j, k);
    return total;
  }
  template <class Team>
  DRO_HOST_DEVICE T mean(Team& team, index_t query, index_t n, const T* p) const {
    return team.template sum<T>(n, [&](index_t j) { return p[j] * weight(query, n, j); });
  }

  matrix_view<const T> features_;
  matrix_view<const T> parameters_;
  T temperature_;
};

namespace detail {

// e^{−z_j} is the arrival time T_j of a clock of rate exp(s_j). Given the ranking, the waiting time before pick t is
// exponential with rate exp(L_t), the mass left, and after the last pick every other clock starts anew:
//
//     T_t = T_{t−1} + E_t exp(−L_t),   T_j = T_{K−1} + E_j exp(−s_j),   z̃ = −log T,   E independent, standard
//     exponential.
//
// Everything below is in ratios of times, T_{t−1}/T_t = exp(z̃_t − z̃_{t−1}) ≤ 1 and (T_t − T_{t−1})/T_t = 1 less that,
// so that the derivatives at fixed E are functions of z̃ alone, and shares of mass, so that nothing overflows.

/// A ranking of possible documents, with what its row of a program knows of it.
template <class T>
struct ranked_row {
  const matrix_view<const T>& scores;
  const matrix_view<const document_t>& rankings;
  index_t query, draw;
  const document_t* chosen;
  const T* log_mass;  // L [K + 1]

  [[nodiscard]] DRO_HOST_DEVICE index_t documents() const { return scores.cols; }
  [[nodiscard]] DRO_HOST_DEVICE index_t select() const { return rankings.cols; }
  [[nodiscard]] DRO_HOST_DEVICE index_t pick(index_t t) const { return rankings(draw, t); }
  [[nodiscard]] DRO_HOST_DEVICE T score(index_t j) const { return scores(query, j); }
  /// exp(s_j − L_t), the probability of document j as pick t.
  [[nodiscard]] DRO_HOST_DEVICE T share(index_t j, index_t t) const { return math::exp(score(j) - log_mass[t]); }
  /// Share of the mass before pick t that is left after it.
  [[nodiscard]] DRO_HOST_DEVICE T outlives(index_t t) const { return math::exp(log_mass[t + 1] - log_mass[t]); }
  /// T_{t−1}/T_t, 0 for the first pick.
  [[nodiscard]] DRO_HOST_DEVICE T elapsed(const T* z, index_t t) const {
    return t == 0 ? T(0) : math::exp(z[pick(t)] - z[pick(t - 1)]);
  }
  /// T_{K−1}/T_j of a document that is not picked.
  [[nodiscard]] DRO_HOST_DEVICE T elapsed_at_end(const T* z, index_t j) const {
    return math::exp(z[j] - z[pick(select() - 1)]);
  }
};

/// z̃ of a ranking from the exponential noise of the documents, in place: z [n].
template <class T, class Team>
DRO_HOST_DEVICE void exponential_to_conditional(Team& team, const ranked_row<T>& row, T* z) {
  const index_t last = row.select() - 1;
  if (team.rank() == 0) {
    T log_time = minus_infinity<T>;
    for (index_t t = 0; t <= last; ++t) {
      T& value = z[row.pick(t)];
      log_time = math::log_add_exp(log_time, math::log(value) - row.log_mass[t]);
      value = -log_time;
    }
  }
  team.barrier();
  team.for_each(row.documents(), [&](index_t j) {
    if (row.chosen[j] == 0) z[j] = -math::log_add_exp(-z[row.pick(last)], math::log(z[j]) - row.score(j));
  });
  team.barrier();
}

/// Fills z [n] with z̃ of one sample; `words` holds n random words rounded up to whole blocks.
template <class T, class Team>
DRO_HOST_DEVICE void draw_conditional(Team& team, const ranked_row<T>& row, const noise_source& source,
                                      std::uint32_t* words, T* z) {
  team.for_each((row.documents() + 3) / 4, [&](index_t block) {
    const random_words four = source.words(static_cast<std::uint32_t>(block));
    for (std::uint32_t k = 0; k < 4; ++k) words[4 * block + k] = four[k];
  });
  team.barrier();
  team.for_each(row.documents(), [&](index_t j) { z[j] = noise::exponential<T>(words[j]); });
  team.barrier();
  exponential_to_conditional(team, row, z);
}

/// Calls add(j, (∂z̃/∂s)ᵀ a at j); carried [K] is memory to work in.
template <class T, class Team, class Add>
DRO_HOST_DEVICE void conditional_pullback(Team& team, const ranked_row<T>& row, const T* z, const T* a, T* carried,
                                          Add&& add) {
  const index_t n = row.documents();
  const index_t last = row.select() - 1;
  const T unpicked =
      team.template sum<T>(n, [&](index_t j) { return row.chosen[j] != 0 ? T(0) : a[j] * row.elapsed_at_end(z, j); });
  if (team.rank() == 0) {
    // Σ over what comes no sooner than pick t of a / T, times T_t: what T_t's last wait moves.
    T later = unpicked;
    for (index_t t = last + 1; t-- > 0;) {
      later += a[row.pick(t)];
      const T elapsed = row.elapsed(z, t);
      carried[t] = later * (T(1) - elapsed);
      later *= elapsed;
    }
    carry_forward(row.log_mass, carried, row.select());
  }
  team.barrier();
  team.for_each(row.select(), [&](index_t t) { add(row.pick(t), row.share(row.pick(t), t) * carried[t]); });
  team.for_each(n, [&](index_t j) {
    if (row.chosen[j] == 0) {
      add(j, row.share(j, last) * carried[last] + a[j] * (T(1) - row.elapsed_at_end(z, j)));
    }
  });
  team.barrier();
}

/// out [n] = (∂z̃/∂s) h; mean [K] is memory to work in. `out` may not alias h.
template <class T, class Team>
DRO_HOST_DEVICE void conditional_pushforward(Team& team, const ranked_row<T>& row, const T* z, const T* h, T* mean,
                                             T* out) {
  const index_t n = row.documents();
  const index_t last = row.select() - 1;
  const T unpicked =
      team.template sum<T>(n, [&](index_t j) { return row.chosen[j] != 0 ? T(0) : row.share(j, last) * h[j]; });
  if (team.rank() == 0) {
    for (index_t t = last + 1; t-- > 0;) {  // ∂L_t: the mean of h over what is left
      mean[t] = (t == last ? unpicked : row.outlives(t) * mean[t + 1]) + row.share(row.pick(t), t) * h[row.pick(t)];
    }
    T moved = T(0);
    for (index_t t = 0; t <= last; ++t) {
      const T elapsed = row.elapsed(z, t);
      moved = elapsed * moved + (T(1) - elapsed) * mean[t];
      out[row.pick(t)] = moved;
    }
  }
  team.barrier();
  team.for_each(n, [&](index_t j) {
    if (row.chosen[j] != 0) return;
    const T elapsed = row.elapsed_at_end(z, j);
    out[j] = elapsed * out[row.pick(last)] + (T(1) - elapsed) * h[j];
  });
  team.barrier();
}

/// Calls put(j, ∂ log p / ∂ s_j); carried [K] is memory to work in.
template <class T, class Team, class Put>
DRO_HOST_DEVICE void score_function(Team& team, const ranked_row<T>& row, T* carried, Put&& put) {
  const index_t last = row.select() - 1;
  team.for_each(row.select(), [&](index_t t) { carried[t] = T(1); });
  team.barrier();
  if (team.rank() == 0) carry_forward(row.log_mass, carried, row.select());
  team.barrier();
  team.for_each(row.select(), [&](index_t t) { put(row.pick(t), T(1) - row.share(row.pick(t), t) * carried[t]); });
  team.for_each(row.documents(), [&](index_t j) {
    if (row.chosen[j] == 0) put(j, -row.share(j, last) * carried[last]);
  });
  team.barrier();
}

/// Calls work(row, i) for each draw of a query that is a ranking of possible documents, others(draw) for the rest.
/// `log_mass` [K + 1], `chosen` [n].
template <class T, class Team, class Work, class Others>
DRO_HOST_DEVICE void for_each_ranked(Team& team, const matrix_view<const T>& scores,
                                     const matrix_view<const document_t>& rankings, const grouping& groups,
                                     index_t query, T* log_mass, document_t* chosen, Work&& work, Others&& others) {
  for (index_t i = 0; i < groups.size(query); ++i) {
    const index_t draw = groups.begin(query) + i;
    if (mark_possible(team, scores, query, rankings, draw, chosen)) {
      log_masses_left(team, scores, query, rankings, draw, chosen, log_mass);
      work(ranked_row<T>{scores, rankings, query, draw, chosen, log_mass}, i);
    } else {
      others(draw);
    }
    team.barrier();
  }
}

template <class T>
struct conditional_noise_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<T> noise;  // [draws × n]
  grouping groups;
  random_source random;

  // L [K + 1], z̃ [n], membership flags [n], random words [n rounded up to whole blocks].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(rankings.cols + 1 + scores.cols) * sizeof(T) +
           static_cast<std::size_t>(2 * scores.cols + 3) * sizeof(std::uint32_t);
  }

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    T* log_mass = team.template scratch<T>();
    T* z = log_mass + rankings.cols + 1;
    auto* chosen = team.template scratch<document_t>(static_cast<std::size_t>(rankings.cols + 1 + n) * sizeof(T));
    auto* words = reinterpret_cast<std::uint32_t*>(chosen + n);
    for_each_ranked(
        team, scores, rankings, groups, query, log_mass, chosen,
        [&](const ranked_row<T>& row, index_t i) {
          const noise_source source{random.key(), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(i)};
          draw_conditional(team, row, source, words, z);
          team.for_each(n, [&](index_t j) { noise(row.draw, j) = z[j]; });
        },
        [&](index_t draw) { team.for_each(n, [&](index_t j) { noise(draw, j) = minus_infinity<T>; }); });
  }
};

template <class T>
struct conditional_noise_pullback_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  matrix_view<const T> noise, cotangent;
  matrix_view<T> out;
  grouping groups;

  // L [K + 1], carried [K], z̃ [n], cotangent [n], membership flags [n].
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(2 * rankings.cols + 1 + 2 * scores.cols) * sizeof(T) +
           static_cast<std::size_t>(scores.cols) * sizeof(document_t);
  }

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    const index_t select = rankings.cols;
    T* log_mass = team.template scratch<T>();
    T* carried = log_mass + select + 1;
    T* z = carried + select;
    T* a = z + n;
    auto* chosen = team.template scratch<document_t>(static_cast<std::size_t>(2 * select + 1 + 2 * n) * sizeof(T));
    for_each_ranked(
        team, scores, rankings, groups, query, log_mass, chosen,
        [&](const ranked_row<T>& row, index_t) {
          team.for_each(n, [&](index_t j) {
            z[j] = noise(row.draw, j);
            a[j] = cotangent(row.draw, j);
          });
          team.barrier();
          conditional_pullback(team, row, z, a, carried, [&](index_t j, T value) { out(row.draw, j) = value; });
        },
        [&](index_t draw) { team.for_each(n, [&](index_t j) { out(draw, j) = T(0); }); });
  }
};

template <class T, class Control>
struct relax_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  grouped_view<const T> rewards;
  matrix_view<T> d_scores;      // [queries × n], added to
  matrix_view<T> d_parameters;  // [queries × P], written
  matrix_view<std::int32_t> status_of;
  grouping groups;
  random_source random;
  T scale;
  Control control;

  // L [K + 1], carried [K]; z̃, the score function, g, ∇c and c's own memory [n each]; membership flags [n], random
  // words [n rounded up to whole blocks].
  static constexpr index_t vectors = 5;
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(2 * rankings.cols + 1 + vectors * scores.cols) * sizeof(T) +
           static_cast<std::size_t>(2 * scores.cols + 3) * sizeof(std::uint32_t);
  }

  [[nodiscard]] index_t width() const { return scores.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = scores.cols;
    const index_t select = rankings.cols;
    T* log_mass = team.template scratch<T>();
    T* carried = log_mass + select + 1;
    T* z = carried + select;
    T* score = z + n;
    T* g = score + n;
    T* slope = g + n;
    T* work = slope + n;
    auto* chosen =
        team.template scratch<document_t>(static_cast<std::size_t>(2 * select + 1 + vectors * n) * sizeof(T));
    auto* words = reinterpret_cast<std::uint32_t*>(chosen + n);

    team.for_each(d_parameters.cols, [&](index_t k) { d_parameters(query, k) = T(0); });
    const status state = check(team, query);
    if (team.rank() == 0) status_of(query, 0) = static_cast<std::int32_t>(state);
    team.barrier();
    if (state != status::ok) return;
    const T share = scale / static_cast<T>(groups.size(query));
    for_each_ranked(
        team, scores, rankings, groups, query, log_mass, chosen,
        [&](const ranked_row<T>& row, index_t i) {
          draw_conditional(team, row,
                           noise_source{random.key(), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(i)},
                           words, z);
          score_function(team, row, carried, [&](index_t j, T value) { score[j] = value; });
          const T rest = rewards(query, i) - control.value(team, query, z, n, work);
          control.gradient(team, query, z, n, slope, work);
          team.for_each(n, [&](index_t j) { g[j] = rest * score[j] + slope[j]; });
          team.barrier();
          conditional_pullback(team, row, z, slope, carried, [&](index_t j, T value) { g[j] -= value; });
          team.for_each(n, [&](index_t j) { d_scores(query, j) += share * g[j]; });

          // −∂‖g‖²/∂φ = 2 ⟨g, score⟩ ∂c/∂φ + 2 ∂⟨J g − g, ∇c⟩/∂φ, g on the right held fixed. ∇c has done its work: its
          // place takes J g − g.
          const T along = team.template sum<T>(n, [&](index_t j) { return g[j] * score[j]; });
          conditional_pushforward(team, row, z, g, carried, slope);
          team.for_each(n, [&](index_t j) { slope[j] = 2 * share * (slope[j] - g[j]); });
          team.barrier();
          control.accumulate_parameter_gradient(team, query, z, n, 2 * share * along, slope, d_parameters, work);
        },
        [](index_t) {});
  }

  template <class Team>
  DRO_HOST_DEVICE status check(Team& team, index_t query) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const auto count = [&](auto&& matches) {
      return team.template sum<index_t>(groups.size(query), [&](index_t i) {
        return static_cast<index_t>(matches(static_cast<T>(rewards(query, i))));
      });
    };
    if (groups.size(query) == 0) return status::degenerate;
    const index_t strange = team.template sum<index_t>(
        scores.cols, [&](index_t j) { return static_cast<index_t>(scores(query, j) != scores(query, j)); });
    if (strange > 0) return status::not_a_number;
    if (count([](T x) { return x != x; }) > 0) return status::not_a_number;
    if (count([&](T x) { return x == infinity; }) > 0) return status::unbounded;
    return count([&](T x) { return x == -infinity; }) > 0 ? status::impossible : status::ok;
  }
};

template <class T>
struct add_columns_program {
  matrix_view<const T> parts;
  matrix_view<T> total;  // [1 × parts.cols], added to

  [[nodiscard]] index_t width() const { return parts.rows; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t column) const {
    const T sum = team.template sum<T>(parts.rows, [&](index_t row) { return parts(row, column); });
    if (team.rank() == 0) total(0, column) += sum;
  }
};

}  // namespace detail

/// Draws perturbed scores given their order: `noise` [draws × documents] is distributed as s + Gumbel noise given that
/// its K largest, in descending order, are row r of `rankings` [draws × K]. Averaged over rankings drawn from the
/// selector it is s + Gumbel noise. −inf for impossible documents, and everywhere for what is not a ranking. `scores`
/// [queries × documents]. The same `random` gives the same noise: it should be no stream that drew the rankings (see
/// substream). Throws shape_error, option_error if K is 0. Queues one program: O(n exp + n log) a draw.
/// Source: Gadetsky et al. 2020, proposition 1 (K = n); for K < n the clocks of the documents not picked go on.
template <backend B, viewable<B> M, class T>
void plackett_luce_conditional_noise(B& b, const M& scores, matrix_view<const document_t> rankings,
                                     const grouping& groups, const random_source& random, matrix_view<T> noise) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  require_shape(s, groups.queries(), s.cols, "plackett_luce_conditional_noise: scores");
  require_shape(rankings, groups.total(), rankings.cols, "plackett_luce_conditional_noise: rankings");
  require_shape(noise, groups.total(), s.cols, "plackett_luce_conditional_noise: noise");
  require_drawable({1, rankings.cols}, s.cols);
  b.run(s.rows, detail::conditional_noise_program<T>{s, rankings, noise, groups, random});
}

/// Writes (∂z̃/∂s)ᵀ a, the vector–Jacobian product of `noise` z̃ as plackett_luce_conditional_noise made it, its random
/// words held fixed, to `out` [draws × documents]; `cotangent` a and `noise` have the same shape. 0 for what is not a
/// ranking. Throws shape_error, option_error if K is 0. Queues one program: O(n exp + K log) a draw.
template <backend B, viewable<B> M, class T>
void conditional_noise_pullback(B& b, const M& scores, matrix_view<const document_t> rankings, const grouping& groups,
                                matrix_view<const T> noise, matrix_view<const T> cotangent, matrix_view<T> out) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  require_shape(s, groups.queries(), s.cols, "conditional_noise_pullback: scores");
  require_shape(rankings, groups.total(), rankings.cols, "conditional_noise_pullback: rankings");
  require_shape(noise, groups.total(), s.cols, "conditional_noise_pullback: noise");
  require_shape(cotangent, groups.total(), s.cols, "conditional_noise_pullback: cotangent");
  require_shape(out, groups.total(), s.cols, "conditional_noise_pullback: out");
  require_drawable({1, rankings.cols}, s.cols);
  b.run(s.rows, detail::conditional_noise_pullback_program<T>{s, rankings, noise, cotangent, out, groups});
}

/// Adds the RELAX estimate of ∇ E[f], the mean of g over a query's draws, to `d_scores` [queries × documents], and the
/// gradient of −‖g‖² by φ, likewise averaged, to `d_parameters` [1 × control.parameter_count()]; both are divided by
/// `query_count`, the queries of the whole batch (0: these). So one optimiser moves both uphill: the scores to more
/// reward, φ to less variance.
///
/// `rankings` [draws × K] must come from the selector with these `scores` [queries × documents]; how they were drawn
/// does not matter, since z̃ is drawn here, given the ranking, from a stream of its own below `random`.
/// `rewards` f holds one value for each draw. A baseline made of other draws, or any constant, may be taken off f
/// first: φ need not learn what is known. A query with a reward that is not finite, or without draws, adds nothing and
/// its status says so; a draw that is not a ranking of possible documents counts in the mean as 0. Returns the
/// statuses, [queries × 1]. Throws shape_error, option_error if K is 0 or query_count negative. Queues two programs:
/// O(n (exp + log)) and one call of each member of c a draw.
template <backend B, viewable<B> M, viewable<B> R, class T, control_variate<T> Control>
[[nodiscard]] matrix_t<B, std::int32_t> relax_gradient(B& b, const M& scores, matrix_view<const document_t> rankings,
                                                       const grouping& groups, const R& rewards, const Control& control,
                                                       const random_source& random, matrix_view<T> d_scores,
                                                       matrix_view<T> d_parameters, index_t query_count = 0) {
  const matrix_view<const T> s = detail::view_of(b, scores);
  const matrix_view<const T> f = detail::view_of(b, rewards);
  require_shape(s, groups.queries(), s.cols, "relax_gradient: scores");
  require_shape(rankings, groups.total(), rankings.cols, "relax_gradient: rankings");
  require_shape(d_scores, s.rows, s.cols, "relax_gradient: d_scores");
  require_shape(d_parameters, 1, control.parameter_count(), "relax_gradient: d_parameters");
  require_drawable({1, rankings.cols}, s.cols);
  if constexpr (requires { control.require(s.rows, s.cols); }) control.require(s.rows, s.cols);
  const index_t divisor = detail::batch_divisor(query_count, s.rows, "relax_gradient");
  constexpr std::uint32_t stream = 0x52454c41U;  // far from the numbers that proposals of proposals use
  auto parts = b.template make<T>(s.rows, control.parameter_count());
  auto states = b.template make<std::int32_t>(s.rows, 1);
  b.run(s.rows, detail::relax_program<T, Control>{s,
                                                  rankings,
                                                  {f, groups, "relax_gradient: rewards"},
                                                  d_scores,
                                                  b.view(parts),
                                                  b.view(states),
                                                  groups,
                                                  substream(random, stream),
                                                  T(1) / static_cast<T>(divisor),
                                                  control});
  b.run(d_parameters.cols, detail::add_columns_program<T>{b.view(parts), d_parameters});
  return states;
}

}  // namespace dro

#endif
