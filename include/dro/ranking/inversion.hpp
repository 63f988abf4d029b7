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
  /// Sums that `ends` has room for: those beyond the last document are as large as can be, so that a search need not
  /// look whether it is there.
  [[nodiscard]] static DRO_HOST_DEVICE constexpr index_t size(index_t documents) {
    return (documents + block - 1) / block * block;
  }
  static constexpr Word beyond = static_cast<Word>(~Word{0});

  DRO_HOST_DEVICE mass_sums(const Word* ends, index_t documents)
      : ends_(ends),
        documents_(static_cast<std::uint32_t>(documents)),
        first_step_((1U << noise::bit_width(documents_ - 1)) / 2) {}

  [[nodiscard]] DRO_HOST_DEVICE Word total() const { return ends_[documents_ - 1]; }
  [[nodiscard]] DRO_HOST_DEVICE Word begin(std::uint32_t j) const { return j == 0 ? 0 : ends_[j - 1]; }
  [[nodiscard]] DRO_HOST_DEVICE Word end(std::uint32_t j) const { return ends_[j]; }

  /// The document in whose mass a place below the total lies. log₂ n steps without branches.
  [[nodiscard]] DRO_HOST_DEVICE std::uint32_t document_at(Word place) const {
    std::uint32_t j = 0;
    for (std::uint32_t step = first_step_; step >= block; step /= 2) {
      const std::uint32_t probe = j + step < documents_ ? j + step : documents_;
      j += ends_[probe - 1] <= place ? step : 0;
    }
    DRO_UNROLL
    for (std::uint32_t step = block / 2; step > 0; step /= 2) j += ends_[j + step - 1] <= place ? step : 0;
    return j;
  }

 private:
  static constexpr std::uint32_t block = 32;

  const Word* ends_;
  std::uint32_t documents_;
  std::uint32_t first_step_;  // the largest power of two below the number of documents
};

/// What a pick took away, as an interval of the mass that was left before it. With it a place in what is left
/// afterwards becomes the place in what was left before.
template <class Word>
struct taken_mass {
  Word begin;
  Word size;
};

/// What the picks of `Lanes` draws took, in registers: up to `Slots` picks.
template <class Word, index_t Slots, index_t Lanes>
struct taken_in_registers {
  static constexpr int slots = static_cast<int>(Slots);
  static constexpr index_t lanes = Lanes;
  math::lanes<taken_mass<Word>, Lanes> pick[static_cast<std::size_t>(Slots)];
  DRO_HOST_DEVICE math::lanes<taken_mass<Word>, Lanes>& operator[](int t) { return pick[t]; }
};

/// The same for any number of picks, in memory, `stride` apart.
template <class Word, index_t Lanes>
struct taken_in_memory {
  static constexpr int slots = 0;
  static constexpr index_t lanes = Lanes;
  math::lanes<taken_mass<Word>, Lanes>* pick;
  index_t stride;
  DRO_HOST_DEVICE math::lanes<taken_mass<Word>, Lanes>& operator[](int t) { return pick[t * stride]; }
};

/// One pick of several draws side by side.
template <class Word, index_t Lanes>
struct picks_of_lanes {
  math::lanes<bool, Lanes> is_made;  // whether enough was left; the rest says nothing where not
  math::lanes<document_t, Lanes> document;
  math::lanes<Word, Lanes> left;  // the mass of all that was left before it
};

/// Draws `select` picks for Taken::lanes samples from `source` on, and calls each(t, pick) for pick t of all lanes, as
/// long as at least least_left is left for one of them. The picks t < first are made: lane l's is made(l, t). One
/// thread; O(log n + t) for pick t.
template <class Word, class Taken, class Made, class F>
DRO_HOST_DEVICE void draw_by_inversion(const mass_sums<Word>& sums, const noise_source& source, int first, int select,
                                       Taken taken, Made&& made, F&& each) {
  constexpr index_t Lanes = Taken::lanes;
  math::lanes<std::uint32_t, Lanes> words[4] = {};
  picks_of_lanes<Word, Lanes> pick;
  for (index_t l = 0; l < Lanes; ++l) pick.left[l] = sums.total();
  const int last = Taken::slots == 0 ? select : Taken::slots;  // known when compiled, or not
  DRO_UNROLL
  for (int t = 0; t < last; ++t) {
    if (t >= select) break;
    if (t % 4 == 0) source.words_alone(static_cast<std::uint32_t>(t / 4), words);
    bool any = false;
    for (index_t l = 0; l < Lanes; ++l) {
      pick.is_made[l] = t < first || pick.left[l] >= least_left<Word>;
      any = any || pick.is_made[l];
    }
    if (!any) return;
    for (index_t l = 0; l < Lanes; ++l) {
      std::uint32_t j = 0;
      Word begin = 0;  // of the document's mass in all, then in what is left
      if (t < first) {
        j = static_cast<std::uint32_t>(made(l, t));
        begin = sums.begin(j);
        for (int u = 0; u < t; ++u) begin -= made(l, u) < static_cast<document_t>(j) ? taken[u][l].size : 0;
      } else {
        const Word drawn = noise::uniform_place(words[0][l], pick.left[l]);
        Word place = drawn;
        DRO_UNROLL
        for (int u = t - 1; u >= 0; --u) {
          const taken_mass<Word> before = taken[u][l];
          place += place >= before.begin ? before.size : 0;
        }
        j = sums.document_at(pick.is_made[l] ? place : 0);
        begin = drawn - (place - sums.begin(j));
      }
      taken[t][l] = {begin, sums.end(j) - sums.begin(j)};
      pick.document[l] = static_cast<document_t>(j);
    }
    each(t, pick);
    for (index_t l = 0; l < Lanes; ++l) {
      pick.left[l] -= pick.is_made[l] ? taken[t][l].size : 0;
      words[0][l] = words[1][l];
      words[1][l] = words[2][l];
      words[2][l] = words[3][l];
    }
  }
}

}  // namespace dro::detail

#endif
