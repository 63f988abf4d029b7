// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_OPTIMIZE_UPDATE_RULE_HPP
#define DRO_OPTIMIZE_UPDATE_RULE_HPP

/// \file
/// How one parameter moves, given its gradient. The library maximises: every rule moves uphill. rule.at<T>(rate, step)
/// is what a step does to each parameter: what depends on the step alone is computed once there.

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

namespace detail {

/// Throws option_error unless least ≤ value < below.
inline void require_rule(const char* name, double value, double least, double below) {
  if (value >= least && value < below) return;
  throw option_error(std::string(name) + " is " + std::to_string(value) + ", expected " + std::to_string(least) +
                     " or more" + (std::isfinite(below) ? " and less than " + std::to_string(below) : ""));
}
inline constexpr double no_limit = std::numeric_limits<double>::infinity();

}  // namespace detail

/// Stochastic gradient ascent with momentum (Polyak 1964) and weight decay:
///     v ← μ v + g − λ θ,   θ ← θ + η v
struct sgd_rule {
  static constexpr const char* name = "sgd";
  static constexpr int states = 1;

  double learning_rate = 1e-2;  ///< η
  double momentum = 0.0;        ///< μ in [0, 1)
  double weight_decay = 0.0;    ///< λ ≥ 0

  /// Throws option_error.
  void require() const {
    detail::require_rule("momentum", momentum, 0, 1);
    detail::require_rule("weight decay", weight_decay, 0, detail::no_limit);
  }

  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE auto at(double rate, std::uint32_t) const {
    return [rule = *this, rate](T& value, T gradient, T* state) {
      // A parameter of −inf (padding) stays: 0 · ∞ is no decay.
      const T decay = rule.weight_decay != 0 ? static_cast<T>(rule.weight_decay) * value : T(0);
      state[0] = static_cast<T>(rule.momentum) * state[0] + gradient - decay;
      value += static_cast<T>(rate) * state[0];
    };
  }
};

/// Adagrad (Duchi, Hazan & Singer 2011), for sparse features: a parameter whose gradient is 0 neither moves nor decays.
///     g ← g − λ θ,   s ← s + g²,   θ ← θ + η g / (√s + ε)        where g ≠ 0
struct adagrad_rule {
  static constexpr const char* name = "adagrad";
  static constexpr int states = 1;

  double learning_rate = 1e-1;  ///< η
  double weight_decay = 0.0;    ///< λ ≥ 0
  double epsilon = 1e-8;        ///< ε ≥ 0

  /// Throws option_error.
  void require() const {
    detail::require_rule("weight decay", weight_decay, 0, detail::no_limit);
    detail::require_rule("epsilon", epsilon, 0, detail::no_limit);
  }

  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE auto at(double rate, std::uint32_t) const {
    return [rule = *this, rate](T& value, T gradient, T* state) {
      if (gradient == T(0)) return;
      const T g = gradient - static_cast<T>(rule.weight_decay) * value;
      state[0] += g * g;
      value += static_cast<T>(rate) * g / (std::sqrt(state[0]) + static_cast<T>(rule.epsilon));
    };
  }
};

/// AdamW (Loshchilov & Hutter 2019, algorithm 2): Adam with decoupled weight decay and bias correction.
///     m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
///     θ ← θ (1 − η λ) + η (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
struct adamw_rule {
  static constexpr const char* name = "adamw";
  static constexpr int states = 2;

  double learning_rate = 1e-3;  ///< η
  double beta1 = 0.9;           ///< in [0, 1)
  double beta2 = 0.999;         ///< in [0, 1)
  double epsilon = 1e-8;
  double weight_decay = 1e-2;  ///< λ ≥ 0

  /// Throws option_error.
  void require() const {
    detail::require_rule("beta1", beta1, 0, 1);
    detail::require_rule("beta2", beta2, 0, 1);
    detail::require_rule("epsilon", epsilon, 0, detail::no_limit);
    detail::require_rule("weight decay", weight_decay, 0, detail::no_limit);
  }

  /// `step` counts from 0.
  template <class T>
  [[nodiscard]] DRO_HOST_DEVICE auto at(double rate, std::uint32_t step) const {
    const double t = step + 1.0;
    const auto of_mean = static_cast<T>(1 - std::pow(beta1, t));
    const auto of_square = static_cast<T>(1 - std::pow(beta2, t));
    return [rule = *this, rate, of_mean, of_square](T& value, T gradient, T* state) {
      state[0] = static_cast<T>(rule.beta1) * state[0] + static_cast<T>(1 - rule.beta1) * gradient;
      state[1] = static_cast<T>(rule.beta2) * state[1] + static_cast<T>(1 - rule.beta2) * gradient * gradient;
      const T mean = state[0] / of_mean;
      const T square = state[1] / of_square;
      value = value * static_cast<T>(1 - rate * rule.weight_decay) +
              static_cast<T>(rate) * mean / (std::sqrt(square) + static_cast<T>(rule.epsilon));
    };
  }
};

}  // namespace dro

#endif
