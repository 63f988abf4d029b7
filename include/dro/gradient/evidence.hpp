// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_GRADIENT_EVIDENCE_HPP
#define DRO_GRADIENT_EVIDENCE_HPP

/// \file
/// The objective of DRO: the evidence log p(y|x), estimated with self-normalised weights.

#include <limits>
#include <type_traits>

#include <dro/config.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/baseline.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/math/exp.hpp>

namespace dro {

/// The evidence log p(y|x) (Shi et al. 2025). Bias O(1/m): it is a ratio of two means.
template <class Baseline = baseline::centred>
struct evidence {
  static_assert(!std::is_same_v<Baseline, Baseline>,
                "dro: the evidence objective takes baseline::centred (the default), baseline::none or baseline::ratio");
};

/// c_i = c′_i = w̄_i: the M-step of the paper, re-weighted maximum likelihood. A lower bound is maximised, so the
/// coefficients stay valid over any number of gradient steps.
template <>
struct evidence<baseline::none> {
  static constexpr const char* name = "evidence";
  static constexpr const char* baseline_name = "no baseline";
  static constexpr index_t least_samples = 1;
  static constexpr bool valid_over_steps = true;

  template <class Draws, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, const Out& out) const {
    team.for_each(draws.size(), [&](index_t i) { out(i, draws.weight(i), draws.weight(i)); });
    return status::ok;
  }
};

/// c_i = w̄_i − ρ̄_i with ρ̄ the self-normalised ratios p(z|x)/q(z), which is 1/m where the selector drew; c′_i = w̄_i.
/// Centring leaves the on-policy mean unchanged, since E Σ ∇ log p(z_i|x) = 0. Valid for one gradient step: held
/// fixed, the coefficients are an objective without an upper bound. Where q does not cover p, c_i = w̄_i.
template <>
struct evidence<baseline::centred> {
  static constexpr const char* name = "evidence";
  static constexpr const char* baseline_name = "centred";
  static constexpr index_t least_samples = 1;
  static constexpr bool valid_over_steps = false;

  template <class Draws, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, const Out& out) const {
    using T = typename Draws::scalar_type;
    if (!draws.covers()) return evidence<baseline::none>{}(team, draws, out);
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const auto log_ratio = [&](index_t i) { return draws.count(i) > T(0) ? draws.log_ratio(i) : -infinity; };
    const T largest = team.max(draws.size(), -infinity, log_ratio);
    const auto share = [&](index_t i) { return math::exp(log_ratio(i) - largest); };
    const T sum = draws.sum(team, share);
    team.for_each(draws.size(),
                  [&](index_t i) { out(i, draws.weight(i) - draws.count(i) * share(i) / sum, draws.weight(i)); });
    return status::ok;
  }
};

/// c_i = w̄_i − ρ_i/m, c′_i = w̄_i: what is taken off has mean 0 under any proposal that covers the selector, so the mean
/// is unchanged off-policy too, where `centred` adds O(1/m). Its variance grows with that of ρ: for proposals that
/// bound ρ, such as a mixture with the selector. Valid for one gradient step. Where q does not cover p, c_i = w̄_i.
template <>
struct evidence<baseline::ratio> {
  static constexpr const char* name = "evidence";
  static constexpr const char* baseline_name = "less the ratio";
  static constexpr index_t least_samples = 1;
  static constexpr bool valid_over_steps = false;

  template <class Draws, class Team, class Out>
  DRO_HOST_DEVICE status operator()(Team& team, const Draws& draws, const Out& out) const {
    using T = typename Draws::scalar_type;
    if (!draws.covers()) return evidence<baseline::none>{}(team, draws, out);
    team.for_each(draws.size(), [&](index_t i) {
      const T n = draws.count(i);
      out(i, draws.weight(i) - (n > T(0) ? n * draws.ratio(i) / draws.samples() : T(0)), draws.weight(i));
    });
    return status::ok;
  }
};

}  // namespace dro

#endif
