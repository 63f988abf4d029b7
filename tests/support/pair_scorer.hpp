// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_PAIR_SCORER_HPP
#define DRO_TESTS_SUPPORT_PAIR_SCORER_HPP

/// \file
/// The smallest scorer of an autoregressive selector whose scores depend on what was chosen before.

#include <cstddef>
#include <span>
#include <vector>

#include <dro/config.hpp>

#include "support/reference.hpp"

namespace test {

/// How many documents a query has, and a factor on its scores.
struct toy_query {
  dro::index_t documents;
  double scale;
};

/// s_j(z_<t) = scale · (a_j + Σ_{i in z_<t} A_ij (t − position of i)), parameters a [n] then A [n × n], n the most
/// documents a query may have. Depends on the order of the prefix; with A = 0 it is Plackett–Luce.
class pair_scorer {
 public:
  explicit pair_scorer(std::size_t documents) : documents_(documents), parameters_(documents * (documents + 1)) {}

  [[nodiscard]] dro::index_t document_count(const toy_query& query) const { return query.documents; }

  void scores(const toy_query& query, std::span<const dro::document_t> prefix, std::span<double> out) const {
    for (std::size_t j = 0; j < out.size(); ++j) {
      double score = parameters_[j];
      for_each_pair(prefix, j, [&](std::size_t where, double distance) { score += distance * parameters_[where]; });
      out[j] = query.scale * score;
    }
  }

  void accumulate_score_gradient(const toy_query& query, std::span<const dro::document_t> prefix,
                                 std::span<const double> d_scores, std::span<double> gradient) const {
    for (std::size_t j = 0; j < d_scores.size(); ++j) {
      gradient[j] += query.scale * d_scores[j];
      for_each_pair(prefix, j, [&](std::size_t where, double distance) {
        gradient[where] += query.scale * distance * d_scores[j];
      });
    }
  }

  [[nodiscard]] std::span<double> parameters() { return parameters_; }

  /// log p(z) straight from the definition.
  [[nodiscard]] real log_prob(const toy_query& query, const ranking& z) const {
    real total = 0;
    for (std::size_t t = 0; t < z.size(); ++t) {
      std::vector<real> left(static_cast<std::size_t>(query.documents));
      for (std::size_t j = 0; j < left.size(); ++j) {
        left[j] = parameters_[j];
        for (std::size_t u = 0; u < t; ++u) {
          left[j] += static_cast<real>(parameters_[documents_ * (1 + static_cast<std::size_t>(z[u])) + j]) *
                     static_cast<real>(t - u);
        }
        left[j] *= query.scale;
      }
      for (std::size_t u = 0; u < t; ++u) left[static_cast<std::size_t>(z[u])] = -infinity<real>;
      total += left[static_cast<std::size_t>(z[t])] - log_sum_exp(left);
    }
    return total;
  }

 private:
  template <class F>
  void for_each_pair(std::span<const dro::document_t> prefix, std::size_t j, const F& f) const {
    for (std::size_t u = 0; u < prefix.size(); ++u) {
      f(documents_ * (1 + static_cast<std::size_t>(prefix[u])) + j, static_cast<double>(prefix.size() - u));
    }
  }

  std::size_t documents_;
  std::vector<double> parameters_;
};

}  // namespace test

#endif
