// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_GUMBEL_TOP_K_HPP
#define DRO_RANKING_GUMBEL_TOP_K_HPP

/// \file
/// The K largest of score + Gumbel noise, in descending order: what a draw from a Plackett–Luce distribution consists
/// of.
///
/// The order of the exact keys fl(s_j + g_j) is what a draw means. Keys made of estimated noise are far cheaper and
/// have a known error, so they are sorted instead, and wherever consecutive ones among the K + 1 largest lie further
/// apart than their errors the exact keys are in that very order. Where they do not (about one sample in 1000 for 20
/// documents of scores a few nats apart, more for more documents, larger K or scores in the ten thousands) the exact
/// keys are made. Either way the ranking is the one of the exact keys.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <dro/backend/matrix_view.hpp>
#include <dro/backend/team.hpp>
#include <dro/config.hpp>
#include <dro/math/binary_format.hpp>
#include <dro/math/lanes.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_estimate.hpp>
#include <dro/random/noise_source.hpp>

namespace dro::detail {

template <class T>
inline constexpr T minus_infinity = -std::numeric_limits<T>::infinity();
template <class T>
inline constexpr T machine_epsilon = std::numeric_limits<T>::epsilon();

/// How many draws of a query one thread of a Team works on at once: on the host as many as fill its vector registers.
/// On a GPU each thread has one and neighbouring threads its neighbours.
template <class Team>
inline constexpr index_t draws_together = 1;
template <>
inline constexpr index_t draws_together<host_team> = 8;

/// An estimated key stands in a float whose lowest `bits` bits hold the document's number: then a minimum and a maximum
/// move a key and its document together, and no two documents have the same key.
struct estimated_keys {
  std::uint32_t number;  // mask of the bits that hold the document
  float absolute;        // |estimated key − (exact key − shift)| ≤ absolute + relative · |estimated key|
  float relative;

  /// Stands for documents that cannot be picked, and for none. Its error is so large that no order is certain in which
  /// it is picked.
  static constexpr float none = -0x1p100F;
  /// More documents than this leave too few bits for the key.
  static constexpr index_t most_documents = 4096;

  /// For n documents, where keys are taken relative to `shift`. The exact key is rounded once, by u (|shift| + |key|)
  /// at most, u = ε/2 of T. s_j − shift is a difference of two differences in T, rounded to float; the sum with the
  /// noise and the number's bits change the estimate once more. The noise is below 23, so s_j − shift is below
  /// |key| + 23, and s_j less the largest score, up to 5 from the shift, below |key| + 28: in all 2^-24 (4 |key| + 74)
  /// beside 2 u |shift|.
  template <class T>
  DRO_HOST_DEVICE estimated_keys(index_t documents, T shift) : number(3) {
    while (static_cast<index_t>(number) < documents - 1) number = 2 * number + 1;
    absolute =
        noise::gumbel_estimate_error + 0x1.4p-18F +
        static_cast<float>(machine_epsilon<T> * (shift < T(0) ? -shift : shift));  // 2 u: room for these roundings
    relative = static_cast<float>(static_cast<std::int32_t>(number) + 1) * 0x1p-23F + 0x1p-21F;
  }

  DRO_HOST_DEVICE float with_number(float key, index_t document) const {
    return math::bit_cast<float>((math::detail::bits(key) & ~number) | static_cast<std::uint32_t>(document));
  }
  DRO_HOST_DEVICE document_t document(float key) const {
    return static_cast<document_t>(math::detail::bits(key) & number);
  }
  DRO_HOST_DEVICE float error(float key) const { return absolute + relative * (key < 0.0F ? -key : key); }
};

/// s_j − shift as a float; estimated_keys::none where that is NaN, −inf or far below what can be drawn.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE float relative_score(T score, T shift) {
  const T difference = score - shift;
  return difference > static_cast<T>(estimated_keys::none) ? static_cast<float>(difference) : estimated_keys::none;
}

/// The greater and the lesser of two numbers that are no NaN: one instruction each, for one lane or for four of a host.
[[nodiscard]] DRO_HOST_DEVICE inline float greater(float a, float b) {
#if defined(__CUDA_ARCH__)
  return fmaxf(a, b);
#else
  return a > b ? a : b;
#endif
}
[[nodiscard]] DRO_HOST_DEVICE inline float lesser(float a, float b) {
#if defined(__CUDA_ARCH__)
  return fminf(a, b);
#else
  return a > b ? b : a;
#endif
}
#if defined(__SSE__) && !defined(__CUDA_ARCH__)
[[nodiscard]] inline __m128 greater(__m128 a, __m128 b) { return _mm_max_ps(a, b); }
[[nodiscard]] inline __m128 lesser(__m128 a, __m128 b) { return _mm_min_ps(a, b); }
#endif

/// Puts the greater of two keys first.
template <class Key>
DRO_HOST_DEVICE void exchange(Key& first, Key& second) {
  const Key upper = greater(first, second);
  second = lesser(first, second);
  first = upper;
}

/// Puts four keys into their places in a list of `Slots` ≥ 3 keys in descending order; the least ones drop out.
///
/// Sorts the four (Knuth 1998, section 5.3.4). The `Slots` largest of all are the larger ones of each pair of a slot,
/// from the first to the last, and a fresh key, from the least to the largest: they descend and then ascend, which half
/// cleaners sort (Batcher 1968), as if as many endless keys stood before them as are missing to a power of two.
template <index_t Slots, class Key>
DRO_HOST_DEVICE void merge(Key (&list)[static_cast<std::size_t>(Slots)], Key (&fresh)[4]) {
  static_assert(Slots >= 3);
  exchange(fresh[0], fresh[1]);
  exchange(fresh[2], fresh[3]);
  exchange(fresh[0], fresh[2]);
  exchange(fresh[1], fresh[3]);
  exchange(fresh[1], fresh[2]);
  for (index_t k = 0; k < 4 && k < Slots; ++k) list[Slots - 1 - k] = greater(list[Slots - 1 - k], fresh[k]);
  constexpr auto size = static_cast<index_t>(std::bit_ceil(static_cast<std::size_t>(Slots)));
  constexpr index_t missing = size - Slots;
  for (index_t half = size / 2; half > 0; half /= 2) {
    for (index_t i = missing; i < size; ++i) {
      if ((i & half) == 0) exchange(list[i - missing], list[i - missing + half]);
    }
  }
}

/// `merge` in each lane.
template <index_t Slots, index_t Lanes>
DRO_HOST_DEVICE void merge_lanes(math::lanes<float, Lanes>* list, const math::lanes<float, Lanes> (&fresh)[4]) {
#if defined(__SSE__) && !defined(__CUDA_ARCH__)
  // A comparison of floats may trap on NaN, so compilers would keep its branch and a loop over lanes scalar.
  if constexpr (Lanes % 4 == 0) {
    for (index_t l = 0; l < Lanes; l += 4) {
      __m128 held[static_cast<std::size_t>(Slots)];
      __m128 keys[4];
      for (index_t t = 0; t < Slots; ++t) held[t] = _mm_loadu_ps(list[t].lane + l);
      for (index_t k = 0; k < 4; ++k) keys[k] = _mm_loadu_ps(fresh[k].lane + l);
      merge<Slots>(held, keys);
      for (index_t t = 0; t < Slots; ++t) _mm_storeu_ps(list[t].lane + l, held[t]);
    }
    return;
  }
#endif
  for (index_t l = 0; l < Lanes; ++l) {
    float held[static_cast<std::size_t>(Slots)];
    float keys[4];
    for (index_t t = 0; t < Slots; ++t) held[t] = list[t][l];
    for (index_t k = 0; k < 4; ++k) keys[k] = fresh[k][l];
    merge<Slots>(held, keys);
    for (index_t t = 0; t < Slots; ++t) list[t][l] = held[t];
  }
}

/// For `Lanes` samples from `source` on: the `select` documents with the largest estimated keys, in descending order,
/// to write(l, t, document) for lane l and pick t. `certain[l]` tells whether they are the ones with the largest exact
/// keys, in the same order, which no exact key equals.
///
/// `relative` [documents rounded up to a multiple of 4] holds the relative scores, estimated_keys::none beyond the
/// documents. The largest keys are kept in a sorted list of `Capacity` slots, into which those of four documents
/// are merged at a time; where Capacity ≤ select the documents are gone through several times. One thread;
/// Lanes · documents noise estimates each time.
template <index_t Capacity, bool Joint, index_t Lanes, class Write>
DRO_HOST_DEVICE void estimated_top_k(const float* relative, index_t documents, const estimated_keys& keys,
                                     const noise_source& source, index_t select, math::lanes<bool, Lanes>& certain,
                                     Write write) {
  math::lanes<float, Lanes> previous;
  for (index_t l = 0; l < Lanes; ++l) {
    previous[l] = -estimated_keys::none;
    certain[l] = true;
  }
  for (index_t first = 0; first <= select; first += Capacity) {
    const index_t slots = select + 1 - first < Capacity ? select + 1 - first : Capacity;
    math::lanes<float, Lanes> list[static_cast<std::size_t>(Capacity)];
    const math::lanes<float, Lanes> ceiling = previous;
    for (index_t t = 0; t < Capacity; ++t) {
      for (index_t l = 0; l < Lanes; ++l) list[t][l] = estimated_keys::none;
    }
    for (index_t block = 0; 4 * block < documents; ++block) {
      math::lanes<std::uint32_t, Lanes> words[4];
      source.template words<Joint>(static_cast<std::uint32_t>(block), words);
      math::lanes<float, Lanes> fresh[4];
      for (index_t k = 0; k < 4; ++k) {
        const float score = relative[4 * block + k];
        for (index_t l = 0; l < Lanes; ++l) {
          fresh[k][l] = keys.with_number(score + noise::gumbel_estimate(words[k][l]), 4 * block + k);
        }
      }
      if (first > 0) {  // what stands in an earlier list is not to come again
        for (index_t k = 0; k < 4; ++k) {
          for (index_t l = 0; l < Lanes; ++l)
            fresh[k][l] = fresh[k][l] < ceiling[l] ? fresh[k][l] : estimated_keys::none;
        }
      }
      merge_lanes<Capacity>(list, fresh);
    }
    for (index_t t = 0; t < Capacity; ++t) {  // without a way out, so that nothing is indexed in a GPU's registers
      const bool is_key = t < slots;
      for (index_t l = 0; l < Lanes; ++l) {
        const float key = list[t][l];
        const bool apart = previous[l] - key > keys.error(previous[l]) + keys.error(key);
        certain[l] = certain[l] && (apart || !is_key);
        previous[l] = is_key ? key : previous[l];
        if (first + t < select) write(l, first + t, keys.document(key));
      }
    }
  }
}

/// Calls f with the number of slots, a constant, of a list that is not much longer than `select` documents need, and
/// whether samples share noise. A program for each, since the longest list would otherwise take registers from all, and
/// the rare noise instructions from the usual one.
template <class F>
void with_slots(index_t select, const joint_noise& noise, F&& f) {
  if (noise.kind != noise_kind::independent) return f(std::integral_constant<index_t, 16>{}, std::true_type{});
  if (select < 3) return f(std::integral_constant<index_t, 3>{}, std::false_type{});
  if (select < 6) return f(std::integral_constant<index_t, 6>{}, std::false_type{});
  if (select < 11) return f(std::integral_constant<index_t, 11>{}, std::false_type{});
  f(std::integral_constant<index_t, 16>{}, std::false_type{});
}

/// What estimated_top_k finds, for one sample by its exact keys, with the whole team: pick t to rankings(draw, t). Ties
/// go to the smaller document; a key of −inf or NaN is never picked, and `no_document` stands where nothing is left.
/// `keys` [documents], `words` [documents rounded up to a multiple of 4].
template <class T, class Team>
DRO_HOST_DEVICE void exact_top_k(Team& team, const matrix_view<const T>& scores, index_t query,
                                 const noise_source& source, const matrix_view<document_t>& rankings, index_t draw,
                                 T* keys, std::uint32_t* words) {
  const index_t n = scores.cols;
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
      rankings(draw, t) = best < n ? static_cast<document_t>(best) : no_document;
      if (best < n) keys[best] = minus_infinity<T>;
    }
    team.barrier();
  }
}

}  // namespace dro::detail

#endif
