// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_TRUNCATED_PLACKETT_LUCE_HPP
#define DRO_RANKING_TRUNCATED_PLACKETT_LUCE_HPP

/// \file
/// The row programs behind draw_plackett_luce and plackett_luce_log_prob where the sampling truncates: each pick is one
/// of the documents left that top-k and top-p keep. Without the cut the noise of one pick could serve the later ones
/// too (Gumbel-top-K); with it a document may come into the cut at a later pick, so each pick has noise of its own.

#include <cstddef>
#include <cstdint>
#include <limits>

#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>

namespace dro::detail {

/// What one pick of a ranking may be. If a score is NaN nothing is cut, and the logarithms are NaN.
template <class T>
struct truncated_pick {
  index_t limit;  // of the documents left, those that stand before this place in the order are kept
  T log_sum;      // log Σ exp(s) over what is kept
  T log_kept;     // log of its share of all that is left
};

/// The documents of one query in falling order of their scores, and which of them are taken. Everything is indexed by
/// place in that order. The arrays lie in the team's scratch memory.
template <class T>
struct truncated_documents {
  matrix_view<const T> scores;  // [queries × n], tempered
  index_t query;
  index_t top_k;
  T top_p;
  T* mass;            // [n] Σ exp(s − largest) of what is left, up to and with a place
  document_t* order;  // [n] the document at a place
  document_t* taken;  // [n] 1 or 0
  document_t* left;   // [n] how many are left, up to and with a place

  static constexpr T lowest = -std::numeric_limits<T>::infinity();

  static std::size_t bytes(index_t n) { return static_cast<std::size_t>(n) * (sizeof(T) + 3 * sizeof(document_t)); }

  template <class Team>
  DRO_HOST_DEVICE truncated_documents(Team& team, const matrix_view<const T>& s, index_t q, index_t k, T p)
      : scores(s), query(q), top_k(k), top_p(p), mass(team.template scratch<T>()) {
    const index_t n = scores.cols;
    order = team.template scratch<document_t>(static_cast<std::size_t>(n) * sizeof(T));
    taken = order + n;
    left = taken + n;
    const auto comparable = [&](index_t j) {
      const T value = scores(query, j);
      return value == value ? value : lowest;
    };
    team.for_each(n, [&](index_t j) {
      const T own = comparable(j);
      index_t place = 0;
      for (index_t i = 0; i < n; ++i) {
        const T other = comparable(i);
        place += other > own || (other == own && i < j) ? 1 : 0;
      }
      order[place] = static_cast<document_t>(j);
    });
    team.barrier();
  }

  DRO_HOST_DEVICE T score(index_t place) const { return scores(query, order[place]); }

  /// Puts every document back.
  template <class Team>
  DRO_HOST_DEVICE void clear(Team& team) const {
    team.barrier();
    team.for_each(scores.cols, [&](index_t place) { taken[place] = 0; });
    team.barrier();
  }
  template <class Team>
  DRO_HOST_DEVICE void take(Team& team, index_t place) const {
    team.barrier();
    if (team.rank() == 0) taken[place] = 1;
    team.barrier();
  }

  /// The next pick, given what is taken. O(n) exp.
  template <class Team>
  DRO_HOST_DEVICE truncated_pick<T> next(Team& team) const {
    const index_t n = scores.cols;
    const T largest = team.max(n, lowest, [&](index_t place) { return taken[place] != 0 ? lowest : score(place); });
    const T shift = largest > lowest ? largest : T(0);
    team.template inclusive_scan<T>(
        n, [&](index_t place) { return taken[place] != 0 ? T(0) : math::exp(score(place) - shift); },
        [&](index_t place, T sum) { mass[place] = sum; });
    index_t limit = n;
    if (top_k > 0) {
      team.template inclusive_scan<document_t>(
          n, [&](index_t place) { return 1 - taken[place]; },
          [&](index_t place, document_t sum) { left[place] = sum; });
      team.barrier();
      const index_t before =
          team.template sum<index_t>(n, [&](index_t place) { return left[place] < top_k ? index_t{1} : index_t{0}; });
      limit = before < n ? before + 1 : n;
    }
    team.barrier();
    if (top_p < T(1)) {
      const T enough = top_p * mass[limit - 1];
      const index_t before = team.template sum<index_t>(
          limit, [&](index_t place) { return mass[place] < enough ? index_t{1} : index_t{0}; });
      limit = before < limit ? before + 1 : limit;
      // A top_p too small for T keeps what has any mass at all, not nothing.
      while (limit < n && !(mass[limit - 1] > T(0))) ++limit;
    }
    const T all = mass[n - 1];
    if (all != all) return {n, all, all};
    const T kept = mass[limit - 1];
    return {limit, shift + math::log(kept), math::log(kept / all)};
  }
};

template <class T>
struct truncated_draw_program {
  matrix_view<const T> scores;  // [queries × n], tempered
  matrix_view<document_t> rankings;
  matrix_view<T> log_prob;
  matrix_view<T> log_kept;
  index_t samples;
  random_source random;
  joint_noise noise;
  index_t top_k;
  T top_p;

  // The documents, and the random words of one pick [n rounded up to whole blocks].
  std::size_t scratch_bytes() const {
    return truncated_documents<T>::bytes(scores.cols) + static_cast<std::size_t>(blocks()) * sizeof(random_words);
  }
  DRO_HOST_DEVICE index_t blocks() const { return (scores.cols + 3) / 4; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const truncated_documents<T> documents(team, scores, query, top_k, top_p);
    auto* words = reinterpret_cast<std::uint32_t*>(documents.left + scores.cols);
    for (index_t sample = 0; sample < samples; ++sample) {
      const index_t draw = query * samples + sample;
      const noise_source source{random.key(), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(sample),
                                noise};
      documents.clear(team);
      T total = T(0);
      T kept = T(0);
      for (index_t t = 0; t < rankings.cols; ++t) {
        team.for_each(blocks(), [&](index_t block) {
          const random_words four = source.words(static_cast<std::uint32_t>(t * blocks() + block));
          for (std::uint32_t k = 0; k < 4; ++k) words[4 * block + k] = four[k];
        });
        const truncated_pick<T> pick = documents.next(team);
        const index_t place = team.arg_max(pick.limit, documents.lowest, [&](index_t i) {
          return documents.taken[i] != 0 ? documents.lowest
                                         : documents.score(i) + noise::gumbel<T>(words[documents.order[i]]);
        });
        const bool found = place < pick.limit;
        if (team.rank() == 0) rankings(draw, t) = found ? documents.order[place] : no_document;
        if (found) {
          total += documents.score(place) - pick.log_sum;
          kept += pick.log_kept;
          documents.take(team, place);
        } else {
          total = documents.lowest;
          team.barrier();
        }
      }
      if (team.rank() == 0) {
        log_prob(draw, 0) = total;
        log_kept(draw, 0) = kept;
      }
    }
  }
};

template <class T>
struct truncated_log_prob_program {
  matrix_view<const T> scores;  // [queries × n], tempered
  matrix_view<const document_t> rankings;
  matrix_view<T> log_prob;
  grouping groups;
  index_t top_k;
  T top_p;

  std::size_t scratch_bytes() const { return truncated_documents<T>::bytes(scores.cols); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const truncated_documents<T> documents(team, scores, query, top_k, top_p);
    for (index_t i = 0; i < groups.size(query); ++i) {
      const index_t draw = groups.begin(query) + i;
      documents.clear(team);
      T total = T(0);
      for (index_t t = 0; t < rankings.cols && total != documents.lowest; ++t) {
        const truncated_pick<T> pick = documents.next(team);
        const document_t j = rankings(draw, t);
        const index_t place =
            team.arg_max(scores.cols, T(0), [&](index_t p) { return documents.order[p] == j ? T(1) : T(0); });
        const bool possible =
            place < pick.limit && documents.taken[place] == 0 && documents.score(place) != documents.lowest;
        total = possible ? total + (documents.score(place) - pick.log_sum) : documents.lowest;
        if (possible) documents.take(team, place);
      }
      if (team.rank() == 0) log_prob(draw, 0) = total;
    }
  }
};

}  // namespace dro::detail

#endif
