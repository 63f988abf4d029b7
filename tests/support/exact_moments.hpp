// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_EXACT_MOMENTS_HPP
#define DRO_TESTS_SUPPORT_EXACT_MOMENTS_HPP

/// \file
/// Exact mean and variance of an estimator, by going through all possible samples.

#include <cmath>
#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/gradient/coefficients.hpp>

#include "support/exact_world.hpp"

namespace test {

/// Every way of drawing m of `kinds` rankings when order does not matter, as a sorted list of ranking numbers.
inline std::vector<std::vector<std::size_t>> multisets(std::size_t kinds, std::size_t m) {
  std::vector<std::vector<std::size_t>> all;
  std::vector<std::size_t> pick(m, 0);
  while (true) {
    all.push_back(pick);
    std::size_t i = m;
    while (i > 0 && pick[i - 1] + 1 == kinds) --i;
    if (i == 0) return all;
    const std::size_t next = pick[i - 1] + 1;
    for (std::size_t j = i - 1; j < m; ++j) pick[j] = next;
  }
}

/// log of the probability of a multiset of m independent draws: m! / Π count! · Π q.
inline real log_probability(const std::vector<std::size_t>& multiset, const std::vector<real>& log_q) {
  real total = std::lgamma(static_cast<real>(multiset.size()) + 1);
  real run = 0;
  for (std::size_t i = 0; i < multiset.size(); ++i) {
    run = i > 0 && multiset[i] == multiset[i - 1] ? run + 1 : 1;
    total += log_q[multiset[i]] - std::log(run);
  }
  return total;
}

/// Mean and total variance of Σ c_i ∇ log p(z_i|x) over the scores, and the mean of Σ c′_i at each ranking.
struct moments {
  std::vector<real> mean, generator_mean;
  real variance = 0;
};

/// What belongs to each draw of each sample, as a matrix the shape of the draws: `of(values)(s, i)` is the value of the
/// ranking that is draw i of sample s. The matrices live as long as the table.
class sample_table {
 public:
  explicit sample_table(const std::vector<std::vector<std::size_t>>& samples) : samples_(samples) {}

  const dro::host_matrix<double>& of(const std::vector<real>& values) {
    const auto columns = static_cast<dro::index_t>(samples_.front().size());
    auto& m = matrices_.emplace_back(static_cast<dro::index_t>(samples_.size()), columns);
    double* out = m.data();
    for (const auto& sample : samples_) {
      for (const std::size_t z : sample) *out++ = static_cast<double>(values[z]);
    }
    return m;
  }
  dro::grouped_view<const double> view(const std::vector<real>& values) {
    const auto& m = of(values);
    return {std::as_const(backend_).view(m), dro::grouping::uniform(m.rows(), m.cols()), "sample_table"};
  }

 private:
  const std::vector<std::vector<std::size_t>>& samples_;
  std::deque<dro::host_matrix<double>> matrices_;
  dro::host_backend backend_{1};
};

/// How the samples come about whose moments are asked for.
struct sampling_plan {
  std::vector<std::vector<std::size_t>> samples;
  std::vector<real> log_probability;  ///< of each sample
  std::vector<real> log_q;            ///< of each ranking
  bool on_policy = true;
  dro::draw_traits traits = {};
};

/// m independent draws from the selector.
inline sampling_plan from_selector(const exact_world& w, std::size_t m) {
  sampling_plan plan{multisets(w.rankings.size(), m), {}, w.log_prior(0)};
  for (const auto& s : plan.samples) plan.log_probability.push_back(log_probability(s, plan.log_q));
  return plan;
}

/// m independent draws from a proposal with these log-probabilities.
inline sampling_plan from_proposal(std::size_t m, std::vector<real> log_q) {
  sampling_plan plan{multisets(log_q.size(), m), {}, std::move(log_q), false};
  for (const auto& s : plan.samples) plan.log_probability.push_back(log_probability(s, plan.log_q));
  return plan;
}

/// Exact moments of an objective, which `make(table)` gives, over a plan. The gradient is that of log p(z|x) by the
/// selector's scores, or of whatever `score` says for each ranking.
template <class MakeObjective>
moments exact_moments(const exact_world& w, const sampling_plan& plan, const MakeObjective& make,
                      std::vector<std::vector<real>> score = {}) {
  dro::host_backend b(1);
  const auto prior = w.log_prior(0);
  const auto& samples = plan.samples;
  sample_table table(samples);
  const auto& l = table.of(w.log_likelihood(0));
  const auto p = table.view(prior);
  const auto groups = dro::grouping::uniform(l.rows(), l.cols());
  const auto scores =
      dro::scored_draws<double>(p, table.view(w.log_likelihood(0)),
                                plan.on_policy ? dro::grouped_view<const double>{} : table.view(plan.log_q), groups,
                                l.rows(), l.cols())
          .with(plan.traits, {});
  const auto weights = dro::importance_weights(b, scores);
  const auto c = dro::coefficients(b, make(table), scores, weights, 1);
  const auto count = l.rows();
  const auto columns = l.cols();
  if (score.empty()) {
    for (const auto& z : w.rankings) score.push_back(plackett_luce_score(row(w.scores, 0), z));
  }
  moments result;
  result.mean.assign(score[0].size(), 0);
  result.generator_mean.assign(prior.size(), 0);
  real second = 0;
  for (dro::index_t s = 0; s < count; ++s) {
    const auto& sample = samples[static_cast<std::size_t>(s)];
    const real probability = std::exp(plan.log_probability[static_cast<std::size_t>(s)]);
    std::vector<real> gradient(result.mean.size(), 0);
    for (dro::index_t i = 0; i < columns; ++i) {
      const std::size_t z = sample[static_cast<std::size_t>(i)];
      for (std::size_t j = 0; j < gradient.size(); ++j) gradient[j] += c.selector(s, i) * score[z][j];
      result.generator_mean[z] += probability * c.generator(s, i);
    }
    for (std::size_t j = 0; j < gradient.size(); ++j) {
      result.mean[j] += probability * gradient[j];
      second += probability * gradient[j] * gradient[j];
    }
  }
  result.variance = second;
  for (const real g : result.mean) result.variance -= g * g;
  return result;
}

/// The same for an objective without inputs of its own.
template <class Objective>
moments exact_moments(const exact_world& w, const sampling_plan& plan) {
  return exact_moments(w, plan, [](sample_table&) { return Objective{}; });
}

/// ∇ log p(y|x) of the first query by its scores.
inline std::vector<real> evidence_gradient(exact_world w) {
  return central_differences(elements(w.scores), [&] { return w.log_evidence(0); });
}

inline std::vector<real> difference(std::vector<real> a, const std::vector<real>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

inline real norm(const std::vector<real>& x) {
  real squares = 0;
  for (const real v : x) squares += v * v;
  return std::sqrt(squares);
}

}  // namespace test

#endif
