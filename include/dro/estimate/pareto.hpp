// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_PARETO_HPP
#define DRO_ESTIMATE_PARETO_HPP

/// \file
/// The upper tail of a query's weights as a generalised Pareto distribution: how heavy it is, and the tail smoothed.

#include <cmath>
#include <cstdint>
#include <limits>

#include <dro/backend/grouping.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>

namespace dro {

/// Whether a tail could be fitted. Kept as std::int32_t, [queries × 1], in the backend's memory.
enum class tail_fit : std::int32_t {
  fitted = 0,
  too_short = 1,   ///< fewer than 5 draws in the tail, that is, fewer than 21 draws
  tied = 2,        ///< all of the tail equal, or its lower quarter equal to the largest draw below it
  impossible = 3,  ///< the tail reaches down to draws of weight 0
  unused = 4       ///< the query's weights are unusable: its dro::status says why
};

/// The outcome as words.
[[nodiscard]] constexpr const char* to_string(tail_fit f) {
  switch (f) {
    case tail_fit::fitted:
      return "fitted";
    case tail_fit::too_short:
      return "too short";
    case tail_fit::tied:
      return "tied";
    case tail_fit::impossible:
      return "impossible";
    case tail_fit::unused:
      return "unused";
  }
  return "unknown";
}

/// ⌈min(S/5, 3 √(S/r))⌉: how many of S draws are the tail, where r is their effective number divided by S (1:
/// independent). Source: Vehtari et al. 2024 ("Pareto smoothed importance sampling", JMLR 25:72), section 2.
[[nodiscard]] DRO_HOST_DEVICE inline index_t pareto_tail_length(index_t samples, double relative_efficiency = 1) {
  const auto s = static_cast<double>(samples);
  const double fifth = s / 5;
  const double root = 3 * std::sqrt(s / relative_efficiency);
  return static_cast<index_t>(std::ceil(fifth < root ? fifth : root));
}

/// min(1 − 1/log10 S, 0.7): above it, k̂ says that an estimate from S draws is not to be trusted (Vehtari et al. 2024,
/// section 3). Below 0 for S < 10, NaN for S < 1.
[[nodiscard]] inline double pareto_shape_threshold(index_t samples) {
  const double bound = 1 - 1 / std::log10(static_cast<double>(samples));
  return bound > 0.7 ? 0.7 : bound;
}

/// What the tail of one query said. `shape` is k̂, NaN unless `fit` is tail_fit::fitted: a tail that cannot be fitted is
/// neither light nor heavy.
template <class T>
struct pareto_tail {
  T shape;
  tail_fit fit;
};

/// Memory that smooth_tail needs for each query: one value for each draw.
template <class T>
struct tail_workspace {
  grouped_view<std::int32_t> draw;  ///< the draws of the tail, largest first
  grouped_view<std::int32_t> rank;  ///< how many equal draws come before it
  grouped_view<T> log_excess;       ///< log (w − cut-off), less that of the tail's lower quartile
};

namespace detail {

/// log ((e^y − 1) / y), 0 at y = 0: without cancellation near 0 and without overflow. NaN for NaN.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE inline T log_exprel(T y) {
  const T size = y < T(0) ? -y : y;
  T value;
  if (size > T(1)) {
    value = size + math::log1p(-math::exp(-size)) - math::log(size);
  } else {
    // (u − 1) / log u with u = e^y rounded is free of cancellation (Higham 2002, section 1.14.1).
    const T u = math::exp(size);
    value = u == T(1) ? size / 2 : math::log((u - T(1)) / math::log(u));
  }
  return y < T(0) ? value - size : value;
}

/// log (e^y − 1) for y ≥ 0; −inf at 0.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE inline T log_expm1(T y) {
  return math::log(y) + log_exprel(y);
}

/// The generalised Pareto distribution of Zhang and Stephens (2009, "A new and efficient estimation method for the
/// generalized Pareto distribution", Technometrics 51(3)), for `length` exceedances x of which `entries` are distinct.
/// φ = θ x*, with x* the lower quartile, is their θ without its scale.
template <class T, class Team, class Copies, class LogExcess>
struct pareto_profile {
  Team& team;
  index_t entries;
  T length;
  const Copies& copies;
  const LogExcess& log_excess;

  /// k = (1/M) Σ log (1 − φ x/x*), from log (x/x*): neither ratio need be representable.
  [[nodiscard]] DRO_HOST_DEVICE T shape(T phi) const {
    const T size = math::log(phi < T(0) ? -phi : phi);
    const T sum = team.template sum<T>(entries, [&](index_t t) {
      const T y = size + log_excess(t);
      return copies(t) * (phi < T(0) ? math::log_add_exp(T(0), y) : math::log1p(-math::exp(y)));
    });
    return sum / length;
  }

  /// The mean of φ over the profile likelihood exp(M (log(−φ/k) − k − 1)) on Zhang and Stephens' grid of prior
  /// quantiles.
  [[nodiscard]] DRO_HOST_DEVICE T posterior_mean() const {
    const T points = T(30) + std::floor(std::sqrt(length));
    const T reciprocal_largest = math::exp(-log_excess(0));
    T best = -std::numeric_limits<T>::infinity(), mass = T(0), mean = T(0);
    for (T j = T(0.5); j < points; j += T(1)) {
      const T phi = usable(reciprocal_largest + (T(1) - std::sqrt(points / j)) / T(3));
      const T k = shape(phi);
      const T log_likelihood = length * (math::log(-phi / k) - k);
      const bool better = log_likelihood > best;
      const T kept = better ? math::exp(best - log_likelihood) : T(1);
      const T added = better ? T(1) : math::exp(log_likelihood - best);
      mass = mass * kept + added;
      mean = mean * kept + added * phi;
      best = better ? log_likelihood : best;
    }
    return usable(mean / mass);
  }

  /// At φ = 0, the exponential distribution, −φ/k is 0/0: its limit is taken close by.
  [[nodiscard]] static DRO_HOST_DEVICE T usable(T phi) {
    return phi == T(0) ? -std::numeric_limits<T>::epsilon() : phi;
  }
};

}  // namespace detail

/// Pareto smoothing of the weights of query q: its M = pareto_tail_length largest are replaced by the expected order
/// statistics of a generalised Pareto distribution fitted to them, log (c + F⁻¹((j − ½)/M)), none above the largest
/// log-weight found. c is the (M + 1)-th largest weight, and the fitted shape is drawn towards ½ by ten draws' worth,
/// k̂ = (M k + 5)/(M + 10). A tail that cannot be fitted stays as it is. Adding a constant to every log-weight adds it
/// to the smoothed ones; weights far apart (thousands of nats) are fitted like any others.
///
/// `log_weight(i)` refers to log w of draw i < `size`, nats, not NaN and below +inf; `count(i)`, a whole number, says
/// for how many equal draws it stands, and where that is 0, log w is −inf. Equal log-weights are put in order by their
/// index, as R's loo does, and a draw that stands for several gets the mean of their smoothed weights, so that joining
/// equal draws changes no sum. Called by the whole team; memory may not alias. Cost: M + 1 visits of all log-weights,
/// and O((30 + √M) M) logarithms.
/// Source: Vehtari et al. 2024, algorithm 1.
template <class T, class Team, class LogWeight, class Count>
DRO_HOST_DEVICE pareto_tail<T> smooth_tail(Team& team, index_t q, index_t size, const LogWeight& log_weight,
                                           const Count& count, const tail_workspace<T>& work,
                                           double relative_efficiency = 1) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const auto unfitted = [](tail_fit f) { return pareto_tail<T>{std::numeric_limits<T>::quiet_NaN(), f}; };
  const auto samples = static_cast<index_t>(team.template sum<T>(size, count));
  const index_t length = pareto_tail_length(samples, relative_efficiency);
  if (length < 5) return unfitted(tail_fit::too_short);

  // Downwards in the order of (log-weight, index): the next draw is the largest below the last one found.
  const index_t quartile = length - (length + 2) / 4;
  index_t entries = 0, rank = 0, draw = size;
  T value = infinity, largest = infinity, lower_quartile = infinity, smallest = infinity;
  while (rank <= length) {
    const index_t from_end = team.arg_max(size, -infinity, [&](index_t i) {
      const index_t candidate = size - 1 - i;
      const T w = log_weight(candidate);
      const bool below = w < value || (w == value && candidate < draw);
      return below ? w : -infinity;
    });
    if (from_end == size) return unfitted(tail_fit::impossible);
    draw = size - 1 - from_end;
    value = log_weight(draw);
    if (rank == length) break;
    if (team.rank() == 0) {
      work.draw(q, entries) = static_cast<std::int32_t>(draw);
      work.rank(q, entries) = static_cast<std::int32_t>(rank);
    }
    if (rank == 0) largest = value;
    if (rank <= quartile) lower_quartile = value;
    smallest = value;
    rank += static_cast<index_t>(count(draw));
    ++entries;
  }
  const T cutoff = value;
  if (smallest == largest || lower_quartile == cutoff) return unfitted(tail_fit::tied);
  team.barrier();

  const T log_quartile = detail::log_expm1(lower_quartile - cutoff);
  team.for_each(entries, [&](index_t t) {
    work.log_excess(q, t) = detail::log_expm1(log_weight(work.draw(q, t)) - cutoff) - log_quartile;
  });
  team.barrier();

  // Of the last draw some copies may be below the tail: equal to the cut-off, they add log(1 + 0).
  const auto copies = [&](index_t t) { return count(work.draw(q, t)); };
  const auto log_excess = [&](index_t t) { return work.log_excess(q, t); };
  const auto m = static_cast<T>(length);
  const detail::pareto_profile<T, Team, decltype(copies), decltype(log_excess)> profile{team, entries, m, copies,
                                                                                        log_excess};
  const T phi = profile.posterior_mean();
  const T k = profile.shape(phi);
  const T log_scale = math::log(-k / phi) + log_quartile + cutoff;
  const T shape = (m * k + T(5)) / (m + T(10));

  const auto smoothed = [&](index_t place) {  // place 0: the largest
    const T exponential = -math::log((static_cast<T>(place) + T(0.5)) / m);
    const T log_excess_here = log_scale + math::log(exponential) + detail::log_exprel(shape * exponential);
    const T here = math::log_add_exp(log_excess_here, cutoff);
    return here < largest ? here : largest;
  };
  team.for_each(entries, [&](index_t t) {
    const index_t first = work.rank(q, t);
    const T equal = count(work.draw(q, t));
    T sum = smoothed(first);
    for (index_t c = 1; c < static_cast<index_t>(equal); ++c) {
      sum = math::log_add_exp(sum, first + c < length ? smoothed(first + c) : cutoff);
    }
    log_weight(work.draw(q, t)) = sum - math::log(equal);
  });
  team.barrier();
  return {shape, tail_fit::fitted};
}

}  // namespace dro

#endif
