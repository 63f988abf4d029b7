// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_SAMPLED_REFERENCE_HPP
#define DRO_TESTS_SUPPORT_SAMPLED_REFERENCE_HPP

/// \file
/// What sampling options make of a distribution over rankings, from its definition in long double; and a selector that
/// shows its scores.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/ranking/sampling.hpp>

#include "support/matrices.hpp"

namespace test {

/// log q of a ranking, and the log of the mass kept along it.
struct sampled_log_prob {
  real log_q = 0;
  real log_kept = 0;
};

/// `scores_after(prefix)` gives the scores of all documents in real, of which those of the prefix are not looked at.
template <class ScoresAfter>
sampled_log_prob sampled_reference(const ScoresAfter& scores_after, const ranking& z, const dro::sampling& how) {
  sampled_log_prob result;
  for (std::size_t t = 0; t < z.size(); ++t) {
    const ranking prefix(z.begin(), z.begin() + static_cast<std::ptrdiff_t>(t));
    std::vector<real> left = scores_after(prefix);
    for (real& s : left) s /= static_cast<real>(how.temperature);
    for (const dro::document_t j : prefix) left[static_cast<std::size_t>(j)] = -infinity<real>;
    const auto p = softmax(left);
    std::vector<std::size_t> order(p.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t i, std::size_t j) { return p[i] != p[j] ? p[i] > p[j] : i < j; });
    if (how.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(how.top_k)));
    const auto mass = [&] {
      real sum = 0;
      for (const std::size_t j : order) sum += p[j];
      return sum;
    };
    const real after_top_k = mass();
    // The last document goes as long as the others hold enough without it.
    while (order.size() > 1 && mass() - p[order.back()] >= static_cast<real>(how.top_p) * after_top_k) order.pop_back();
    const auto pick = static_cast<std::size_t>(z[t]);
    if (std::find(order.begin(), order.end(), pick) == order.end() || p[pick] == 0) {
      return {-infinity<real>, -infinity<real>};
    }
    result.log_q += std::log(p[pick] / mass());
    result.log_kept += std::log(mass());
  }
  return result;
}

/// Plackett–Luce selector over a table of scores, the same row for every query, for backends that run on the host. The
/// batch of queries is anything with a size.
template <class T>
class scored_table {
 public:
  using scalar_type = T;
  explicit scored_table(std::vector<T> scores) : scores_(std::move(scores)) {}

  std::vector<T>& row() { return scores_; }

  template <class B, class Queries>
  [[nodiscard]] dro::matrix_t<B, T> scores(B& b, const Queries& queries) const {
    dro::host_matrix<T> table(static_cast<dro::index_t>(std::size(queries)), static_cast<dro::index_t>(scores_.size()));
    for (dro::index_t q = 0; q < table.rows(); ++q) {
      std::copy(scores_.begin(), scores_.end(), table.data() + q * table.cols());
    }
    return dro::write(b, table);
  }
  template <class B, class Queries>
  [[nodiscard]] dro::draws<B, T> draw(B& b, const Queries& queries, const dro::draw_options& options,
                                      const dro::random_source& random) const {
    return dro::draw_plackett_luce(b, scores(b, queries), random, options);
  }
  template <class B, class Queries>
  [[nodiscard]] dro::matrix_t<B, T> log_prob(B& b, const Queries& queries, const dro::draws<B, T>& z) const {
    auto out = b.template make<T>(z.groups().total(), 1);
    dro::plackett_luce_log_prob(b, scores(b, queries), std::as_const(b).view(z.rankings()), z.groups(), b.view(out));
    return out;
  }
  template <class B, class Queries>
  void accumulate_gradient(B&, const Queries&, const dro::draws<B, T>&, const dro::matrix_t<B, T>&) {}
  template <class B, class Queries>
  void accumulate_score_gradient(B&, const Queries&, const dro::matrix_t<B, T>&) {}

 private:
  std::vector<T> scores_;
};

}  // namespace test

#endif
