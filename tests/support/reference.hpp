// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_REFERENCE_HPP
#define DRO_TESTS_SUPPORT_REFERENCE_HPP

/// \file
/// Plain loops in long double that the library is held against. None of them calls the library.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include <dro/config.hpp>

#include "support/check.hpp"

namespace test {

using ranking = std::vector<dro::document_t>;

/// A fixed sequence of numbers (SplitMix64, Steele, Lea & Flood 2014).
class numbers {
 public:
  explicit numbers(std::uint64_t seed) : state_(seed) {}

  std::uint64_t word() {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t x = state_;
    x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31U);
  }
  /// In [low, high), a multiple of (high − low) / 2^12: exact in float where low and high are small whole numbers.
  double between(double low, double high) { return low + (high - low) * static_cast<double>(word() >> 52U) / 4096.0; }

 private:
  std::uint64_t state_;
};

/// log Σ exp(x); −inf for none.
inline real log_sum_exp(const std::vector<real>& x) {
  real largest = -infinity<real>;
  for (const real v : x) largest = std::max(largest, v);
  if (largest == -infinity<real>) return largest;
  real sum = 0;
  for (const real v : x) sum += std::exp(v - largest);
  return largest + std::log(sum);
}

/// exp(x_i) / Σ exp(x_j).
inline std::vector<real> softmax(const std::vector<real>& x) {
  const real total = log_sum_exp(x);
  std::vector<real> p;
  for (const real v : x) p.push_back(std::exp(v - total));
  return p;
}

/// Every ranking of `select` of `documents`, by depth-first search.
inline std::vector<ranking> all_rankings(dro::index_t documents, dro::index_t select) {
  std::vector<ranking> all;
  ranking z;
  const auto extend = [&](const auto& self) -> void {
    if (static_cast<dro::index_t>(z.size()) == select) {
      all.push_back(z);
      return;
    }
    for (dro::document_t j = 0; j < documents; ++j) {
      if (std::find(z.begin(), z.end(), j) != z.end()) continue;
      z.push_back(j);
      self(self);
      z.pop_back();
    }
  };
  extend(extend);
  return all;
}

/// log Π_t exp(s_{z_t}) / Σ_{j not in z_<t} exp(s_j), each factor from its definition.
inline real plackett_luce_log_prob(const std::vector<real>& scores, const ranking& z) {
  real total = 0;
  std::vector<real> left = scores;
  for (const dro::document_t j : z) {
    const auto k = static_cast<std::size_t>(j);
    if (left[k] == -infinity<real>) return -infinity<real>;
    total += left[k] - log_sum_exp(left);
    left[k] = -infinity<real>;
  }
  return total;
}

/// ∂ plackett_luce_log_prob / ∂ scores: Σ_t (1[j = z_t] − softmax over what is left).
inline std::vector<real> plackett_luce_score(const std::vector<real>& scores, const ranking& z) {
  std::vector<real> gradient(scores.size(), 0);
  std::vector<real> left = scores;
  for (const dro::document_t pick : z) {
    const auto p = softmax(left);
    for (std::size_t j = 0; j < p.size(); ++j) gradient[j] -= p[j];
    gradient[static_cast<std::size_t>(pick)] += 1;
    left[static_cast<std::size_t>(pick)] = -infinity<real>;
  }
  return gradient;
}

/// (f(x + h) − f(x − h)) / 2h by each of the variables, which are put back. Error h²/6 · f''' for the difference and
/// (rounding of f) / h.
template <class Variables, class F>
std::vector<real> central_differences(Variables&& x, const F& f, double h = 1e-5) {
  std::vector<real> gradient;
  for (auto& variable : x) {
    const auto kept = variable;
    variable = kept + h;
    const auto above = variable;
    const real high = f();
    variable = kept - h;
    const auto below = variable;
    const real low = f();
    variable = kept;
    gradient.push_back((high - low) / (static_cast<real>(above) - static_cast<real>(below)));
  }
  return gradient;
}

/// A bound that a chi-square variable of `freedom` degrees exceeds with probability below e^−16 = 1.2e-7:
/// k + 2 √(k t) + 2 t at t = 16 (Laurent & Massart 2000, lemma 1).
inline double chi_square_bound(std::size_t freedom) {
  const auto k = static_cast<double>(freedom);
  return k + 2 * std::sqrt(16 * k) + 32;
}

/// Pearson's Σ (observed − expected)² / expected of counted outcomes against their probabilities.
inline double chi_square(const std::map<ranking, std::size_t>& counts, const std::map<ranking, real>& probability,
                         std::size_t total) {
  real sum = 0;
  for (const auto& [z, p] : probability) {
    const real expected = p * static_cast<real>(total);
    const auto found = counts.find(z);
    const real observed = found == counts.end() ? 0 : static_cast<real>(found->second);
    sum += (observed - expected) * (observed - expected) / expected;
  }
  return static_cast<double>(sum);
}

}  // namespace test

#endif
