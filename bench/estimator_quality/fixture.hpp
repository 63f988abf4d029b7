// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BENCH_ESTIMATOR_QUALITY_FIXTURE_HPP
#define DRO_BENCH_ESTIMATOR_QUALITY_FIXTURE_HPP

/// \file
/// Batches of queries that are small enough to know everything about: what an estimator should have found.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/random/key.hpp>
#include <dro/ranking/enumerate.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace quality {

using dro::index_t;
using vector = std::vector<double>;

inline constexpr index_t documents = 5;
inline constexpr index_t select = 2;
inline constexpr index_t query_count = 64;

/// Scores of the selector and log-likelihoods of every ranking, with the exact gradients by the scores.
struct fixture {
  std::string name;
  bool order_free = true;  ///< whether the generator ignores the order of the documents
  dro::host_matrix<double> scores{query_count, documents};
  dro::host_matrix<double> log_likelihood;  ///< [queries × rankings], in the order of enumerate_rankings
  dro::host_matrix<double> log_prior;       ///< log p(z|x), [queries × rankings]
  std::vector<vector> evidence, likelihood, log_likelihood_mean;  ///< ∇ log p(y|x), ∇ E p(y|x,d_z), ∇ E log p(y|x,d_z)
};

/// Standard normal numbers by position, for what a fixture is made of (Box & Muller 1958).
class normal_numbers {
 public:
  explicit normal_numbers(std::uint64_t seed) : key_{seed, 0} {}
  double operator()() {
    const auto words = dro::random_block(key_, 0, 0, next_++);
    const double u = dro::noise::uniform<double>(words[0]);
    const double v = dro::noise::uniform<double>(words[1]);
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

 private:
  dro::random_key key_;
  std::uint32_t next_ = 0;
};

/// Fills in what follows from scores and log-likelihoods.
inline void solve(dro::host_backend& b, fixture& f) {
  const auto rankings = dro::enumerate_rankings(documents, select);
  const index_t lists = rankings.rows();
  f.log_prior = dro::host_matrix<double>(query_count, lists);
  const auto one = dro::grouping::uniform(1, lists);
  for (index_t q = 0; q < query_count; ++q) {
    dro::host_matrix<double> scores(1, documents);
    for (index_t j = 0; j < documents; ++j) scores(0, j) = f.scores(q, j);
    dro::host_matrix<double> prior(lists, 1);
    dro::plackett_luce_log_prob(b, scores, std::as_const(b).view(rankings), one, b.view(prior));
    double largest = -INFINITY;
    for (index_t z = 0; z < lists; ++z) {
      f.log_prior(q, z) = prior(z, 0);
      largest = std::max(largest, prior(z, 0) + f.log_likelihood(q, z));
    }
    double evidence = 0;
    for (index_t z = 0; z < lists; ++z) evidence += std::exp(prior(z, 0) + f.log_likelihood(q, z) - largest);
    const auto gradient = [&](auto&& coefficient) {
      dro::host_matrix<double> c(lists, 1);
      for (index_t z = 0; z < lists; ++z) c(z, 0) = coefficient(z);
      dro::host_matrix<double> g(1, documents);
      dro::accumulate_plackett_luce_gradient(b, scores, std::as_const(b).view(rankings), one, c, b.view(g));
      return vector(g.data(), g.data() + documents);
    };
    const auto p = [&](index_t z) { return std::exp(prior(z, 0)); };
    f.evidence.push_back(
        gradient([&](index_t z) { return std::exp(prior(z, 0) + f.log_likelihood(q, z) - largest) / evidence; }));
    f.likelihood.push_back(gradient([&](index_t z) { return p(z) * std::exp(f.log_likelihood(q, z)); }));
    f.log_likelihood_mean.push_back(gradient([&](index_t z) { return p(z) * f.log_likelihood(q, z); }));
  }
}

/// The four fixtures. In each the evidences of the queries are spread over 10 nats by a constant of each query.
inline std::vector<fixture> fixtures(dro::host_backend& b) {
  struct recipe {
    const char* name;
    bool order_free;
    double score_scale;
    double spread;   ///< standard deviation of log-likelihoods over lists, nats
    double jackpot;  ///< nats by which one list (set) exceeds all others
  };
  const recipe recipes[] = {{"flat", true, 0.3, 1.0, 0},
                            {"peaked", true, 2.5, 1.5, 0},
                            {"heavy-tailed", true, 1.0, 0.5, 6},
                            {"order-dependent", false, 1.0, 2.0, 0}};
  const auto rankings = dro::enumerate_rankings(documents, select);
  std::vector<fixture> all;
  std::uint64_t seed = 20260101;
  for (const recipe& r : recipes) {
    normal_numbers normal(seed++);
    fixture f;
    f.name = r.name;
    f.order_free = r.order_free;
    f.log_likelihood = dro::host_matrix<double>(query_count, rankings.rows());
    for (index_t q = 0; q < query_count; ++q) {
      for (index_t j = 0; j < documents; ++j) f.scores(q, j) = r.score_scale * normal();
      dro::host_matrix<double> of_pair(documents, documents);
      for (index_t i = 0; i < documents; ++i) {
        for (index_t j = 0; j < documents; ++j) of_pair(i, j) = r.spread * normal();
      }
      of_pair(0, 1) += r.jackpot;
      const double level = -10.0 * static_cast<double>(q) / (query_count - 1);
      for (index_t z = 0; z < rankings.rows(); ++z) {
        const index_t first = rankings(z, 0);
        const index_t second = rankings(z, 1);
        f.log_likelihood(q, z) =
            level + (r.order_free ? of_pair(std::min(first, second), std::max(first, second)) : of_pair(first, second));
      }
    }
    solve(b, f);
    all.push_back(std::move(f));
  }
  return all;
}

}  // namespace quality

#endif
