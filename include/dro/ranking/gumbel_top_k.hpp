// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_GUMBEL_TOP_K_HPP
#define DRO_RANKING_GUMBEL_TOP_K_HPP

/// \file
/// The row program behind draw_plackett_luce where samples share noise: Gumbel-top-K (Kool et al. 2019, section 2.3).
///
/// A document of a sample has noise of its own, so a document that one sample takes for its noise is one that its
/// antithetic partner leaves, at every pick. The place in the mass that is left (inversion.hpp) would turn round one
/// pick at a time, and knows no more of a document than where it is stored.

#include <cstddef>
#include <cstdint>

#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/random/joint_noise.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/constants.hpp>
#include <dro/ranking/masses.hpp>

namespace dro::detail {

/// Draws and scores the rankings of a query. O(n) noise and O(K n) comparisons a draw.
template <class T>
struct gumbel_top_k_program {
  matrix_view<const T> scores;  // [queries × n]
  matrix_view<document_t> rankings;
  matrix_view<T> log_prob;
  index_t samples;
  random_source random;
  joint_noise noise;

  // Keys or masses, and random words or membership flags [n rounded up to a multiple of 4 each].
  std::size_t scratch_bytes() const {
    return behind_keys() + static_cast<std::size_t>(padded(scores.cols)) * sizeof(std::uint32_t);
  }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t first = query * samples;
    for (index_t i = 0; i < samples; ++i) {
      draw(team, query, {random.key(), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(i), noise},
           first + i);
    }
    const relative_masses<T> masses(team, scores, rankings, query, team.template scratch<T>());
    write_log_probs(team, masses, first, samples, log_prob, team.template scratch<document_t>(behind_keys()));
  }

 private:
  [[nodiscard]] DRO_HOST_DEVICE std::size_t behind_keys() const {
    return static_cast<std::size_t>(padded(scores.cols)) * sizeof(T);
  }

  /// Pick t is the document with the largest key left, of equal ones the first. A key of −inf or NaN is never picked;
  /// no_document stands where nothing is left.
  template <class Team>
  DRO_HOST_DEVICE void draw(Team& team, index_t query, const noise_source& source, index_t row) const {
    const index_t n = scores.cols;
    T* const keys = team.template scratch<T>();
    auto* const words = team.template scratch<std::uint32_t>(behind_keys());
    // Words first, noise after: each loop vectorises alone, the two as one do not.
    team.for_each((n + 3) / 4, [&](index_t block) {
      const random_words four = source.words(static_cast<std::uint32_t>(block));
      for (std::uint32_t k = 0; k < 4; ++k) words[4 * block + k] = four[k];
    });
    team.barrier();
    team.for_each(n, [&](index_t j) { keys[j] = scores(query, j) + noise::gumbel<T>(words[j]); });
    team.barrier();
    for (index_t t = 0; t < rankings.cols; ++t) {
      const index_t best = team.arg_max(n, minus_infinity<T>, [&](index_t j) { return keys[j]; });
      team.barrier();
      if (team.rank() == 0) {
        rankings(row, t) = best < n ? static_cast<document_t>(best) : no_document;
        if (best < n) keys[best] = minus_infinity<T>;
      }
      team.barrier();
    }
  }
};

}  // namespace dro::detail

#endif
