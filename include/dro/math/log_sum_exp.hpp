// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MATH_LOG_SUM_EXP_HPP
#define DRO_MATH_LOG_SUM_EXP_HPP

/// \file
/// Sums of numbers that are given by their logarithms.

#include <concepts>

#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>

namespace dro::math {

/// log(e^a + e^b), as max + log1p(e^{min − max}): no overflow, symmetric in a and b.
///
/// \param a,b logarithms in nats. −inf adds nothing (both −inf: −inf); +inf gives +inf; NaN gives NaN.
/// \return  off by at most 2.5 u, u half an ulp of 1, plus half an ulp of the result
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T log_add_exp(T a, T b) noexcept {
  const bool ordered = a > b;  // a NaN in either argument ends up in `lesser`, or in both
  const T greater = ordered ? a : b;
  const T lesser = ordered ? b : a;
  const T difference = lesser == greater ? T(0) : lesser - greater;  // inf − inf
  return greater + log1p(exp(difference));
}

namespace detail {

/// Partial sums and maxima that log_sum_exp keeps.
inline constexpr index_t lanes = 8;

/// `log_sum_exp` of x(0) … x(n − 1).
template <class T, class Terms>
[[nodiscard]] DRO_HOST_DEVICE inline T log_sum_exp(index_t n, Terms x) noexcept {
  constexpr T lowest = -infinity<T>;
  const index_t whole = n - n % lanes;

  T top[lanes] = {lowest, lowest, lowest, lowest, lowest, lowest, lowest, lowest};
  for (index_t i = 0; i < whole; i += lanes) {
    for (index_t j = 0; j < lanes; ++j) top[j] = x(i + j) > top[j] ? x(i + j) : top[j];  // steps over NaN
  }
  for (index_t i = whole; i < n; ++i) top[0] = x(i) > top[0] ? x(i) : top[0];
  T largest = top[0];
  for (index_t j = 1; j < lanes; ++j) largest = top[j] > largest ? top[j] : largest;
  const T shift = (largest == infinity<T> || largest == lowest) ? T(0) : largest;

  T sum[lanes] = {};
  for (index_t i = 0; i < whole; i += lanes) {
    for (index_t j = 0; j < lanes; ++j) sum[j] += exp(x(i + j) - shift);
  }
  for (index_t i = whole; i < n; ++i) sum[i - whole] += exp(x(i) - shift);
  return shift + log(((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7])));
}

}  // namespace detail

/// log Σ_i e^{x_i}, i = 0 … n − 1, with x_i = `x[i * stride]`: max + log Σ e^{x_i − max}, in two passes.
///
/// The terms go into 8 partial sums, term i into sum i mod 8, which are then added as ((0 + 4) + (2 + 6)) + ((1 + 5) +
/// (3 + 7)); so the order of the additions, and with it the result, does not depend on the width of the machine's
/// vectors.
///
/// \param x      logarithms in nats, not written to. −inf adds nothing; any NaN gives NaN; else any +inf gives +inf.
/// \param n      number of terms; none, or only −inf, gives −inf
/// \param stride distance between terms in elements, of any sign
/// \return  off by at most (n/8 + 3 ln n + 5) u, u half an ulp of 1, plus one ulp of the result
/// \note One thread; no allocation; 2 n reads, n exponentials; vector code where stride = 1.
template <std::floating_point T>
[[nodiscard]] DRO_HOST_DEVICE inline T log_sum_exp(const T* x, index_t n, index_t stride = 1) noexcept {
  if (stride == 1) return detail::log_sum_exp<T>(n, [x](index_t i) { return x[i]; });
  return detail::log_sum_exp<T>(n, [x, stride](index_t i) { return x[i * stride]; });
}

}  // namespace dro::math

#endif
