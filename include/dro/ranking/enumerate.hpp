// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_ENUMERATE_HPP
#define DRO_RANKING_ENUMERATE_HPP

/// \file
/// All rankings of K of n documents: the oracle's support. Drawing every ranking once, with q uniform, turns the E-step
/// into the exact one: the weights become the posterior p(z|x,y) and the evidence estimate becomes log p(y|x).

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// n! / (n − K)!, the number of rankings of K of n documents. Throws option_error unless 1 ≤ K ≤ n and the number fits
/// into index_t.
[[nodiscard]] inline index_t ranking_count(index_t documents, index_t select) {
  require_drawable({1, select}, documents);
  index_t count = 1;
  for (index_t t = 0; t < select; ++t) {
    if (count > std::numeric_limits<index_t>::max() / (documents - t)) {
      throw option_error("rankings of " + std::to_string(select) + " of " + std::to_string(documents) +
                         " documents are too many to count");
    }
    count *= documents - t;
  }
  return count;
}

/// Every ranking of K of n documents once, [n!/(n−K)! × K], in lexicographic order. Throws option_error as
/// ranking_count does, and for more than 2^31 picks in all. Memory: 4 K n!/(n−K)! bytes.
[[nodiscard]] inline host_matrix<document_t> enumerate_rankings(index_t documents, index_t select) {
  const index_t count = ranking_count(documents, select);
  if (count > (index_t{1} << 31) / select) {
    throw option_error("rankings of " + std::to_string(select) + " of " + std::to_string(documents) +
                       " documents are " + std::to_string(count) + ", too many to enumerate");
  }
  host_matrix<document_t> all(count, select);
  std::vector<document_t> left(static_cast<std::size_t>(documents));
  for (index_t row = 0; row < count; ++row) {
    for (std::size_t j = 0; j < left.size(); ++j) left[j] = static_cast<document_t>(j);
    index_t code = row;
    index_t block = count;
    for (index_t t = 0; t < select; ++t) {
      block /= documents - t;
      const auto pick = left.begin() + code / block;
      all(row, t) = *pick;
      std::copy(pick + 1, left.end() - t, pick);
      code %= block;
    }
  }
  return all;
}

/// The row of enumerate_rankings that holds ranking `draw` of `rankings` [· × K]; −1 if it is not a ranking.
/// O(K²).
template <class Rankings>
[[nodiscard]] DRO_HOST_DEVICE index_t ranking_code(const Rankings& rankings, index_t draw, index_t documents) {
  index_t code = 0;
  for (index_t t = 0; t < rankings.cols; ++t) {
    const document_t j = rankings(draw, t);
    if (j < 0 || j >= documents) return -1;
    index_t smaller = j;
    for (index_t u = 0; u < t; ++u) {
      if (rankings(draw, u) == j) return -1;
      if (rankings(draw, u) < j) --smaller;
    }
    code = code * (documents - t) + smaller;
  }
  return code;
}

/// A proposal that gives every ranking of K of n documents once, with log q = −log of their number. With it an E-step
/// is exact. `draw_options::samples` has no say. For small n: the number of draws is n!/(n−K)! a query.
template <class T = double>
class exhaustive {
 public:
  using scalar_type = T;

  /// `documents`: n, the same for all queries, and as many as the selector has: of fewer, the rankings that are left
  /// out are missing from the sums, which nothing can tell.
  explicit exhaustive(index_t documents) : documents_(documents) {}

  template <backend B, class Queries>
  [[nodiscard]] draws<B, T> draw(B& b, const Queries& queries, const draw_options& options,
                                 const random_source& = {}) const {
    const auto one = enumerate_rankings(documents_, options.select);
    const auto groups = grouping::uniform(static_cast<index_t>(std::size(queries)), one.rows());
    host_matrix<document_t> all(groups.total(), options.select);
    for (index_t q = 0; q < groups.queries(); ++q) {
      std::copy(one.data(), one.data() + one.rows() * one.cols(), all.data() + q * one.rows() * one.cols());
    }
    return draws<B, T>(b, write(b, all),
                       make_filled<T>(b, groups.total(), 1, static_cast<T>(-std::log(static_cast<double>(one.rows())))),
                       groups);
  }

 private:
  index_t documents_;
};

}  // namespace dro

#endif
