// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_INVERSION_HPP
#define DRO_RANKING_INVERSION_HPP

/// \file
/// Documents drawn one after the other, each in proportion to its mass among those left, by inverting the distribution
/// function (Devroye 1986, section III.2): a random place in all the mass that is left, and the document that lies
/// there.
///
/// Masses are integers (integer_mass.hpp), so what a pick takes away can be subtracted from the whole without loss. The
/// masses' running sums are made once for all draws of a query; a pick then takes a word of noise, a search among n
/// sums and as many comparisons as there were picks before it, where Gumbel-top-K (Kool et al. 2019) takes noise for
/// every document.

#include <cstddef>
#include <cstdint>

#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/math/lanes.hpp>
#include <dro/random/integer_mass.hpp>
#include <dro/random/noise_source.hpp>

namespace dro::detail {

/// As long as this much is left, a document's share of it is exact enough: cutting a mass to an integer changes the
/// share by less than 1 / least_left. A Word of 32 bits is as good as a word of noise while no more than the better
/// part is taken, and takes half the instructions; one of 64 serves until next to nothing is left.
template <class Word>
inline constexpr Word least_left = Word{1} << (sizeof(Word) == 4 ? 26U : 32U);

/// Running sums of the masses of a query's documents.
template <class Word>
class mass_sums {
 public:
  /// Sums that there is room for: a 0 before the first document; those beyond the last one are as large as can be, so
  /// that a search need not look whether it is there.
  [[nodiscard]] static DRO_HOST_DEVICE constexpr index_t size(index_t documents) {
    return 1 + (documents + block - 1) / block * block;
  }
  static constexpr Word beyond = static_cast<Word>(~Word{0});

  /// Sums of 32 bits begin at a multiple of 16 bytes.
  DRO_HOST_DEVICE mass_sums(const Word* sums, index_t documents)
      : sums_(sums),
        documents_(static_cast<std::uint32_t>(documents)),
        first_step_((1U << noise::bit_width(documents_ - 1)) / 2) {
    for (index_t k = 0; k < 7; ++k) fourth_[k] = sums[4 * (k + 1)];
  }

  [[nodiscard]] DRO_HOST_DEVICE Word total() const { return sums_[documents_]; }
  [[nodiscard]] DRO_HOST_DEVICE Word begin(std::uint32_t j) const { return sums_[j]; }
  [[nodiscard]] DRO_HOST_DEVICE Word end(std::uint32_t j) const { return sums_[j + 1]; }

  /// The document in whose mass a place below the total lies. log₂ n steps without branches, of which those that a GPU
  /// would wait for are few: of up to 32 documents the first three look at registers, the last two read together.
  [[nodiscard]] DRO_HOST_DEVICE std::uint32_t document_at(Word place) const {
    std::uint32_t j = 0;
    if (documents_ <= block) {
      const bool upper = place >= fourth_[3];
      j = upper ? 16 : 0;
      DRO_UNROLL
      for (int k = 0; k < 3; ++k) math::add_if_reached(j, place, upper ? fourth_[k + 4] : fourth_[k], 4);
    } else {
      for (std::uint32_t step = first_step_; step >= block; step /= 2) {
        const std::uint32_t probe = j + step < documents_ ? j + step : documents_;
        j += sums_[probe] <= place ? step : 0;
      }
      DRO_UNROLL
      for (std::uint32_t step = block / 2; step > 2; step /= 2) math::add_if_reached(j, place, sums_[j + step], step);
    }
    if constexpr (sizeof(Word) == sizeof(std::uint32_t)) {
      const auto begin = reinterpret_cast<const piece<Word>*>(sums_)[j / 4];
      DRO_UNROLL
      for (int k = 1; k < 4; ++k) math::add_if_reached(j, place, begin.values[k], 1);
    } else {
      for (std::uint32_t step = 2; step > 0; step /= 2) math::add_if_reached(j, place, sums_[j + step], step);
    }
    return j;
  }

  /// The same for several places. The host counts the sums up to each place, all places at once, while they are few.
  template <index_t Lanes>
  [[nodiscard]] DRO_HOST_DEVICE math::lanes<std::uint32_t, Lanes> documents_at(
      const math::lanes<Word, Lanes>& places) const {
    if constexpr (Lanes > 1 && sizeof(Word) == sizeof(std::uint32_t)) {
      if (documents_ <= counted) return math::count_reached(sums_ + 1, static_cast<index_t>(documents_), places);
    }
    math::lanes<std::uint32_t, Lanes> j;
    for (index_t l = 0; l < Lanes; ++l) j[l] = document_at(places[l]);
    return j;
  }

 private:
  static constexpr std::uint32_t block = 32;
  static constexpr std::uint32_t counted = 96;

  const Word* sums_;
  std::uint32_t documents_;
  std::uint32_t first_step_;  // the largest power of two below the number of documents
  Word fourth_[7];            // sums 4, 8, …, 28
};

/// What a pick of `Lanes` draws took away, as an interval of the mass that was left before it. With it a place in what
/// is left afterwards becomes the place in what was left before.
template <class Word, index_t Lanes>
struct taken_mass {
  math::lanes<Word, Lanes> begin;
  math::lanes<Word, Lanes> size;
};

/// One pick of several draws side by side.
template <class Word, index_t Lanes>
struct picks_of_lanes {
  math::lanes<document_t, Lanes> document;  // no_document where not enough was left
  math::lanes<Word, Lanes> left;            // the mass of all that was left before it

  /// x[l] = otherwise where not enough is left. A single lane is asked once, before it picks. Words and T have one size
  /// if there are several.
  template <class T>
  DRO_HOST_DEVICE void replace_where_exhausted(math::lanes<T, Lanes>& x, T otherwise) const {
    if constexpr (Lanes > 1) {
      math::for_lanes(
          x, [otherwise](auto& y, const auto& rest) { y = rest >= least_left<Word> ? y : y - y + otherwise; }, left);
    }
  }
};

/// Draws `select` picks for `Lanes` samples from `source` on, and calls each(t, pick) for pick t of all lanes, as long
/// as at least least_left is left for one of them. The picks t < first are made: lane l's is made(l, t). `taken`: slots
/// (slots.hpp) for a taken_mass<Word, Lanes> a pick. One thread; O(log n + t) for pick t.
template <index_t Lanes, class Word, class Taken, class Made, class F>
DRO_HOST_DEVICE void draw_by_inversion(const mass_sums<Word>& sums, const noise_source& source, int first, int select,
                                       Taken taken, Made&& made, F&& each) {
  math::lanes<std::uint32_t, Lanes> words[4] = {};
  picks_of_lanes<Word, Lanes> pick;
  for (index_t l = 0; l < Lanes; ++l) pick.left[l] = sums.total();
  const int last = Taken::slots == 0 ? select : Taken::slots;  // known when compiled, or not
  DRO_UNROLL
  for (int t = 0; t < last; ++t) {
    if (t >= select) break;
    if (t % 4 == 0) source.words_alone(static_cast<std::uint32_t>(t / 4), words);
    taken_mass<Word, Lanes>& own = taken[t];
    if (t < first) {
      for (index_t l = 0; l < Lanes; ++l) {
        pick.document[l] = made(l, t);
        const auto j = static_cast<std::uint32_t>(pick.document[l]);
        own.begin[l] = sums.begin(j);
        for (int u = 0; u < t; ++u) own.begin[l] -= made(l, u) < pick.document[l] ? taken[u].size[l] : 0;
        own.size[l] = sums.end(j) - sums.begin(j);
      }
    } else {
      Word enough = 0;
      for (index_t l = 0; l < Lanes; ++l) enough |= pick.left[l] >= least_left<Word> ? Word{1} : Word{0};
      if (enough == 0) return;
      const math::lanes<Word, Lanes> drawn = noise::uniform_places(words[0], pick.left);
      math::lanes<Word, Lanes> place = drawn;
      DRO_UNROLL
      for (int u = t - 1; u >= 0; --u) math::add_where_reached(place, taken[u].begin, taken[u].size);
      // A lane that has not enough left looks up nothing and takes nothing.
      pick.replace_where_exhausted(place, Word{0});
      const math::lanes<std::uint32_t, Lanes> j = sums.documents_at(place);
      math::lanes<Word, Lanes> begin;
      for (index_t l = 0; l < Lanes; ++l) begin[l] = sums.begin(j[l]);
      for (index_t l = 0; l < Lanes; ++l) own.size[l] = sums.end(j[l]);
      own.begin = drawn;
      math::for_lanes(
          own.begin, [](auto& y, const auto& at, const auto& start) { y -= at - start; }, place, begin);
      math::for_lanes(
          own.size, [](auto& y, const auto& start) { y -= start; }, begin);
      pick.replace_where_exhausted(own.size, Word{0});
      math::convert_lanes(pick.document, j);
      pick.replace_where_exhausted(pick.document, no_document);
    }
    each(t, pick);
    math::for_lanes(
        pick.left, [](auto& y, const auto& size) { y -= size; }, own.size);
    words[0] = words[1];
    words[1] = words[2];
    words[2] = words[3];
  }
}

}  // namespace dro::detail

#endif
