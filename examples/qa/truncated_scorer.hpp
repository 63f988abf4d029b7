// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_TRUNCATED_SCORER_HPP
#define DRO_EXAMPLES_QA_TRUNCATED_SCORER_HPP

/// \file
/// A selector seen through a sampler's temperature and top-p.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include <dro/dro.hpp>

namespace qa {

/// Scores of another scorer divided by `temperature`, with −inf for all but the smallest set of documents whose
/// probability reaches `top_p` (Holtzman et al. 2020). For drawing only.
template <class Scorer>
class truncated_scorer {
 public:
  truncated_scorer(const Scorer& scorer, double temperature, double top_p)
      : scorer_(&scorer), temperature_(temperature), top_p_(top_p) {}

  template <class Query>
  [[nodiscard]] dro::index_t document_count(const Query& query) const {
    return scorer_->document_count(query);
  }

  template <class Query>
  void scores(const Query& query, std::span<const dro::document_t> prefix, std::span<double> out) const {
    scorer_->scores(query, prefix, out);
    for (double& score : out) score /= temperature_;
    const double log_sum = dro::detail::mask_and_log_sum(out, prefix);
    std::vector<std::size_t> order(out.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return out[a] != out[b] ? out[a] > out[b] : a < b; });
    double kept = 0;
    for (const std::size_t j : order) {
      if (kept >= top_p_) {
        out[j] = -std::numeric_limits<double>::infinity();
      } else {
        kept += std::exp(out[j] - log_sum);
      }
    }
  }

  static std::span<double> parameters() { return {}; }

 private:
  const Scorer* scorer_;
  double temperature_;
  double top_p_;
};

}  // namespace qa

#endif
