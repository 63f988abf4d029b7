// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BENCH_ESTIMATOR_QUALITY_MEASURE_HPP
#define DRO_BENCH_ESTIMATOR_QUALITY_MEASURE_HPP

/// \file
/// How far an estimator is from the exact gradient, over a batch of 64 queries.

#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "estimators.hpp"
#include "fixture.hpp"

namespace quality {

/// Moments over independent batches. A batch's gradient is the list of its queries' gradients by their scores.
struct measured {
  double relative_bias = 0;  ///< ‖E g − ∇‖ / ‖∇‖, ∇ of what the estimator estimates; NaN where noise hides it
  double bias_z = 0;         ///< ‖E g − ∇‖² in standard errors of its estimate, were it 0
  double relative_variance = 0;  ///< tr Var g / ‖∇‖², ∇ of what it estimates, or of the evidence
  double cosine = 0;             ///< of E g and the gradient of the evidence; NaN where noise hides E g
  double error = 0;              ///< E‖g‖² ‖∇‖² / (E g·∇)² − 1, ∇ of the evidence
  double calls = 0;              ///< different lists scored, a query

  double nanoseconds = 0;  ///< a draw, all of the step
};

inline constexpr index_t groups = 16;  ///< independent parts whose means are compared with each other

/// `replicates` batches in each of the 16 groups.
inline measured measure(const fixture& f, const estimator& e, index_t m, index_t replicates, std::uint64_t seed) {
  backend b(1);
  const rows batch{query_count * replicates};
  row_selector selector(f);
  row_generator generator(f);
  dro::random_state<backend> random(b, seed);
  constexpr std::size_t size = static_cast<std::size_t>(query_count * documents);
  std::vector<vector> mean(groups, vector(size, 0.0));
  double square = 0;
  double seconds = 0;
  for (vector& part : mean) {
    const auto start = std::chrono::steady_clock::now();
    e.gradient(b, selector, generator, batch, m, random);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (index_t r = 0; r < batch.count; ++r) {
      for (index_t j = 0; j < documents; ++j) {
        const double g = selector.gradient(r, j);
        part[static_cast<std::size_t>((r % query_count) * documents + j)] += g / static_cast<double>(replicates);
        square += g * g;
      }
    }
  }
  square /= static_cast<double>(groups * replicates);

  const auto flat = [&](const std::vector<vector>& by_query) {
    vector v;
    for (const vector& g : by_query) v.insert(v.end(), g.begin(), g.end());
    return v;
  };
  const auto dot = [](const vector& x, const vector& y) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
    return sum;
  };
  const vector evidence = flat(f.evidence);
  const vector own = e.of == target::likelihood       ? flat(f.likelihood)
                     : e.of == target::log_likelihood ? flat(f.log_likelihood_mean)
                                                      : evidence;
  // Products of two different groups: unbiased for squares of means.
  double squared_mean = 0;
  double squared_bias = 0;
  double noise = 0;
  double noise_of_mean = 0;
  index_t pairs = 0;
  std::vector<vector> off = mean;
  for (vector& d : off) {
    for (std::size_t i = 0; i < size; ++i) d[i] -= own[i];
  }
  for (std::size_t g = 0; g < mean.size(); ++g) {
    for (std::size_t h = 0; h < g; ++h, ++pairs) {
      const double product = dot(mean[g], mean[h]);
      squared_mean += product;
      noise_of_mean += product * product;
      const double p = dot(off[g], off[h]);
      squared_bias += p;
      noise += p * p;
    }
  }
  squared_mean /= static_cast<double>(pairs);
  squared_bias /= static_cast<double>(pairs);
  double along = 0;
  for (const vector& part : mean) along += dot(part, evidence) / groups;

  measured out;
  const double length = dot(own, own);
  constexpr double hidden = std::numeric_limits<double>::quiet_NaN();
  out.bias_z = squared_bias / (std::sqrt(noise) / static_cast<double>(pairs));
  out.relative_bias = out.bias_z > 4 ? std::sqrt(squared_bias / length) : hidden;
  out.relative_variance = (square - squared_mean) / length;
  const bool is_seen = squared_mean > 4 * std::sqrt(noise_of_mean) / static_cast<double>(pairs);
  out.cosine = is_seen ? along / std::sqrt(squared_mean * dot(evidence, evidence)) : hidden;
  out.error = square * dot(evidence, evidence) / (along * along) - 1;
  out.calls = static_cast<double>(generator.calls()) / static_cast<double>(groups * batch.count);

  out.nanoseconds = seconds * 1e9 / static_cast<double>(groups * batch.count * m);
  return out;
}

}  // namespace quality

#endif
