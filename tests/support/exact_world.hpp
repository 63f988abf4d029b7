// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_EXACT_WORLD_HPP
#define DRO_TESTS_SUPPORT_EXACT_WORLD_HPP

/// \file
/// A problem small enough to know everything about it: table models, and sums over all rankings in long double that
/// share no code with the library.

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/em/e_step.hpp>
#include <dro/models/table.hpp>
#include <dro/ranking/draws.hpp>

#include "support/matrices.hpp"

namespace test {

using world_selector = dro::models::table_selector<dro::host_backend>;
using world_generator = dro::models::table_generator<dro::host_backend>;
using world_draws = dro::draws<dro::host_backend, double>;

/// Scores [queries × n], logits [queries · rankings × answers] and the right answers, with exact sums over them.
struct exact_world {
  dro::index_t documents, picks, queries, answers;
  std::vector<ranking> rankings;
  dro::host_matrix<double> scores, logits;
  dro::host_matrix<std::int32_t> right;

  exact_world(dro::index_t n, dro::index_t k, dro::index_t query_count, dro::index_t answer_count, std::uint64_t seed)
      : documents(n),
        picks(k),
        queries(query_count),
        answers(answer_count),
        rankings(all_rankings(n, k)),
        scores(random_matrix<double>(query_count, n, -1.5, 1.5, seed)),
        logits(random_matrix<double>(query_count * size(), answer_count, -3, 3, seed + 1)),
        right(query_count, 1) {
    numbers next(seed + 2);
    for (dro::index_t q = 0; q < queries; ++q) {
      right(q, 0) = static_cast<std::int32_t>(next.word() % static_cast<std::uint64_t>(answers));
    }
  }

  /// Rankings of a query.
  [[nodiscard]] dro::index_t size() const { return static_cast<dro::index_t>(rankings.size()); }
  [[nodiscard]] dro::models::table_rows all() const { return {0, queries}; }
  [[nodiscard]] world_selector selector(dro::host_backend& b) const { return {b, scores}; }
  [[nodiscard]] world_generator generator(dro::host_backend& b) const { return {b, documents, picks, logits, right}; }

  /// log p(z|x) of each ranking.
  [[nodiscard]] std::vector<real> log_prior(dro::index_t q) const {
    std::vector<real> p;
    for (const ranking& z : rankings) p.push_back(plackett_luce_log_prob(row(scores, q), z));
    return p;
  }
  /// log p(y|x,d_z) of each ranking.
  [[nodiscard]] std::vector<real> log_likelihood(dro::index_t q) const {
    std::vector<real> p;
    for (dro::index_t z = 0; z < size(); ++z) {
      const auto values = row(logits, q * size() + z);
      p.push_back(values[static_cast<std::size_t>(right(q, 0))] - log_sum_exp(values));
    }
    return p;
  }
  [[nodiscard]] std::vector<real> log_joint(dro::index_t q) const {
    std::vector<real> joint = log_prior(q);
    const auto likelihood = log_likelihood(q);
    for (std::size_t z = 0; z < joint.size(); ++z) joint[z] += likelihood[z];
    return joint;
  }
  /// log p(y|x) = log Σ_z p(z|x) p(y|x,d_z).
  [[nodiscard]] real log_evidence(dro::index_t q) const { return log_sum_exp(log_joint(q)); }
  /// p(z|x,y) of each ranking.
  [[nodiscard]] std::vector<real> posterior(dro::index_t q) const { return softmax(log_joint(q)); }
  /// Mean of log p(y|x) over the queries.
  [[nodiscard]] real mean_log_evidence() const {
    real sum = 0;
    for (dro::index_t q = 0; q < queries; ++q) sum += log_evidence(q);
    return sum / static_cast<real>(queries);
  }
};

/// An optimiser that moves nothing and keeps the gradient it was given, in `gradient`, as it stood at the last step.
struct gradient_recorder {
  dro::host_matrix<double> gradient;
  template <class Model>
  void step(dro::host_backend&, Model& model) {
    gradient = model.gradient();
    model.for_each_parameter([](auto, dro::matrix_view<double> g) {
      for (dro::index_t i = 0; i < g.rows; ++i) {
        for (dro::index_t j = 0; j < g.cols; ++j) g(i, j) = 0;
      }
    });
  }
};

}  // namespace test

#endif
