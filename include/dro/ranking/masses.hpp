// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_MASSES_HPP
#define DRO_RANKING_MASSES_HPP

/// \file
/// The masses left before each pick of a ranking, M_t = Σ exp(s_j) over the documents that no earlier pick took: of one
/// draw by its logarithms, with the whole team, and of several draws at once as multiples of exp(largest score).
///
/// The second way takes n exponentials a query in place of n a draw. It is right wherever the least mass of a draw is
/// not too small beside the query's largest document (`least_mass`); other draws go the first way.

#include <cstdint>
#include <limits>
#include <type_traits>

#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/math/binary_format.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/lanes.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/math/quotient.hpp>
#include <dro/ranking/constants.hpp>
#include <dro/ranking/slots.hpp>

namespace dro::detail {

/// A ranking whose membership flags stand in `chosen` [documents]; false if an entry is out of range or repeated.
template <class Team>
DRO_HOST_DEVICE bool mark_chosen(Team& team, const matrix_view<const document_t>& rankings, index_t draw,
                                 index_t documents, document_t* chosen) {
  team.barrier();
  team.for_each(documents, [&](index_t j) { chosen[j] = 0; });
  team.barrier();
  const index_t wrong = team.template sum<index_t>(1, [&](index_t) {
    index_t count = 0;
    for (index_t t = 0; t < rankings.cols; ++t) {
      const document_t j = rankings(draw, t);
      if (j < 0 || j >= documents || chosen[j] != 0) {
        ++count;
      } else {
        chosen[j] = 1;
      }
    }
    return count;
  });
  team.barrier();
  return wrong == 0;
}

/// log Σ exp(s_j) over the documents that are not chosen. −inf if there is none, NaN if one of them has NaN.
template <class T, class Team>
DRO_HOST_DEVICE T log_mass_left(Team& team, const matrix_view<const T>& scores, index_t query,
                                const document_t* chosen) {
  const index_t n = scores.cols;
  const auto score = [&](index_t j) { return chosen[j] != 0 ? minus_infinity<T> : scores(query, j); };
  const T largest = team.max(n, minus_infinity<T>, score);
  const T shift = largest > minus_infinity<T> ? largest : T(0);  // max() passes over NaN, the sum does not
  const T sum = team.template sum<T>(n, [&](index_t j) { return math::exp(score(j) - shift); });
  return shift + math::log(sum);
}

/// Flags the documents of the ranking in row `draw` in `chosen` [documents]; false if it is not a ranking (an entry out
/// of range or repeated) or holds an impossible document.
template <class T, class Team>
DRO_HOST_DEVICE bool mark_possible(Team& team, const matrix_view<const T>& scores, index_t query,
                                   const matrix_view<const document_t>& rankings, index_t draw, document_t* chosen) {
  bool possible = mark_chosen(team, rankings, draw, scores.cols, chosen);
  for (index_t t = 0; possible && t < rankings.cols; ++t) {
    possible = scores(query, rankings(draw, t)) != minus_infinity<T>;
  }
  return possible;
}

/// Writes L_t, the log of the mass left before pick t, to `log_mass` [K + 1] for t = 0 … K; L_K is the log of what no
/// pick takes. The masses are summed from the last pick backwards, adding only. O(n) exp and K log.
template <class T, class Team>
DRO_HOST_DEVICE void log_masses_left(Team& team, const matrix_view<const T>& scores, index_t query,
                                     const matrix_view<const document_t>& rankings, index_t draw,
                                     const document_t* chosen, T* log_mass) {
  const T left = log_mass_left(team, scores, query, chosen);
  if (team.rank() == 0) {
    log_mass[rankings.cols] = left;
    for (index_t t = rankings.cols; t-- > 0;) {
      log_mass[t] = math::log_add_exp(log_mass[t + 1], scores(query, rankings(draw, t)));
    }
  }
  team.barrier();
}

/// a_t ← Σ_{u ≤ t} a_u exp(L_t − L_u), t < `select`. The mass left never rises, so no factor exceeds 1: then
/// Σ_{u ≤ t} a_u exp(s_j − L_u) = exp(s_j − L_t) a_t is a product that neither overflows nor divides by 0. One thread.
template <class T>
DRO_HOST_DEVICE void carry_forward(const T* log_mass, T* a, index_t select) {
  for (index_t t = 1; t < select; ++t) a[t] += a[t - 1] * math::exp(log_mass[t] - log_mass[t - 1]);
}

/// log p of the ranking in row `draw`, whose documents are the ones flagged in `chosen`. The denominators are summed
/// from the last pick backwards, adding only, so that nothing cancels. O(n) exp and K log.
template <class T, class Team, class Rankings>
DRO_HOST_DEVICE T plackett_luce_log_prob(Team& team, const matrix_view<const T>& scores, index_t query,
                                         const Rankings& rankings, index_t draw, const document_t* chosen) {
  T mass = log_mass_left(team, scores, query, chosen);
  T total = T(0);
  for (index_t t = rankings.cols; t-- > 0;) {
    const T score = scores(query, rankings(draw, t));
    if (score == minus_infinity<T>) return minus_infinity<T>;
    mass = math::log_add_exp(mass, score);
    total += score - mass;
  }
  return total;
}

/// Masses below this are too close to where T underflows: 2^24 or more times the smallest normal number, so that what
/// underflows in a sum of n documents is below n 2^-47 of it (float).
template <class T>
inline constexpr T least_mass = std::numeric_limits<T>::min() * T(1 << 26);

/// The number of documents rounded up to a multiple of 4.
[[nodiscard]] DRO_HOST_DEVICE constexpr index_t padded(index_t documents) { return (documents + 3) / 4 * 4; }

/// Copies the scores of a query to `memory` [n], calls with(s) for each, and returns the largest, −inf if there is
/// none; NaN does not count. The team has to meet before it reads what another thread copied.
template <class T, class Team, class F>
[[nodiscard]] DRO_HOST_DEVICE T copy_scores(Team& team, const matrix_view<const T>& scores, index_t query, T* memory,
                                            F&& with) {
  if constexpr (is_one_thread<Team>) {  // vector code
    return team.max(scores.cols, minus_infinity<T>, [&](index_t j) {
      with(scores(query, j));
      return memory[j] = scores(query, j);
    });
  } else {
    T largest = minus_infinity<T>;
    const auto take = [&](index_t j, T s) {
      with(s);
      memory[j] = s;
      largest = s > largest ? s : largest;
    };
    read_rows(team, scores.cols, take, row_view<const T>{&scores(query, 0), scores.col_stride});
    return team.max(team.size(), minus_infinity<T>, [&](index_t) { return largest; });
  }
}

/// Rankings of one query and its documents' masses relative to the largest.
template <class T>
struct relative_masses {
  matrix_view<const T> scores;  // [queries × n]
  matrix_view<const document_t> rankings;
  index_t query;
  const T* mass;  // [n, then zeros up to a multiple of 4] exp(s_j − largest)
  T largest;      // 0 where there is none
  double total;   // Σ mass, where a double has room for what T cannot hold; else 0

  /// Whether `total` is such that a pick's mass can be taken away from it.
  static constexpr bool has_total = 2 * std::numeric_limits<T>::digits < std::numeric_limits<double>::digits;

  /// Computes the masses into `memory` [n rounded up to a multiple of 4]. n exp.
  template <class Team>
  DRO_HOST_DEVICE relative_masses(Team& team, const matrix_view<const T>& s, const matrix_view<const document_t>& z,
                                  index_t q, T* memory)
      : scores(s), rankings(z), query(q), mass(memory), total(0) {
    const index_t n = scores.cols;
    largest = copy_scores(team, scores, query, memory, [](T) {});
    if (!(largest > minus_infinity<T>)) largest = T(0);
    team.barrier();
    const T shift = largest;
    team.for_each(n, [memory, shift](index_t j) { memory[j] = math::exp(memory[j] - shift); });
    team.for_each(padded(n) - n, [&](index_t j) { memory[n + j] = T(0); });
    team.barrier();
    if constexpr (has_total) {
      total = team.template sum<double>(n, [memory](index_t j) { return static_cast<double>(memory[j]); });
    }
  }

  DRO_HOST_DEVICE index_t documents() const { return scores.cols; }
  DRO_HOST_DEVICE index_t select() const { return rankings.cols; }
  DRO_HOST_DEVICE T score(index_t j) const { return scores(query, j); }
};

/// The picks of draws first … first + size − 1, size ≤ `Lanes`, in a matrix of rankings. Lanes beyond the size repeat
/// the last draw.
template <index_t Lanes>
class picks_of_matrix {
 public:
  DRO_HOST_DEVICE picks_of_matrix(const matrix_view<const document_t>& rankings, index_t first, index_t size)
      : stride_(rankings.col_stride) {
    row_[0] = &rankings(first, 0);
    for (index_t l = 1; l < Lanes; ++l) row_[l] = row_[l - 1] + (l < size ? rankings.row_stride : 0);
  }
  DRO_HOST_DEVICE document_t operator()(index_t l, index_t t) const { return row_[l][t * stride_]; }
  DRO_HOST_DEVICE void replace(index_t, int, document_t) {}
  static constexpr bool are_documents = false;  // entries may be anything
  static constexpr int slots = 0;

 private:
  math::lanes<const document_t*, Lanes> row_;
  index_t stride_;
};

/// Copies them to `slots` (slots.hpp) of math::lanes<document_t, Lanes>. All are read before anything is computed: then
/// the reads wait together.
template <index_t Lanes, class Slots>
DRO_HOST_DEVICE void copy_picks(const picks_of_matrix<Lanes>& picks, int select, Slots& slots) {
  for_each_slot<Slots::slots>(select, [&](auto t, auto is_pick) {
    for (index_t l = 0; l < Lanes; ++l) slots[t][l] = is_pick ? picks(l, t) : -1 - t;  // no two are equal
  });
}

/// Picks copied to slots.
template <class Slots>
struct copied_picks {
  Slots copy;

  DRO_HOST_DEVICE document_t operator()(index_t l, int t) const { return copy[t][l]; }
  DRO_HOST_DEVICE void replace(index_t l, int t, document_t j) { copy[t][l] = j; }
  static constexpr bool are_documents = true;  // after what does not exist has been replaced
  static constexpr int slots = Slots::slots;
};

/// sum + own, or sum where bit k of `taken` is set.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE T add_unless_taken(std::uint32_t taken, int k, T sum, T own) {
#if defined(__CUDA_ARCH__)
  if ((taken >> k & 1U) == 0) sum += own;
  return sum;
#else
  return sum + math::detail::select(typename math::detail::binary_format<T>::word{0} - (taken >> k & 1U), T(0), own);
#endif
}

/// `Lanes` draws of one query side by side, and the masses of what they do not pick. For one thread.
template <class T, index_t Lanes, class Picks>
struct drawn_tile {
  static constexpr int slots = Picks::slots;

  const relative_masses<T>* query;
  Picks picks;                                    // picks(l, t): entry t of lane l
  math::lanes<std::uint32_t, Lanes> faults = {};  // 0 for a ranking: all entries in range, none repeated
  math::lanes<T, Lanes> left;                     // Σ mass over what is not picked

  /// As a rule the picks' masses are subtracted from the sum of all in double, which has so many more digits than T
  /// that nothing is lost while 2^-24 of it is left before the last pick: n + K + 4 roundings of 2^-53 of the whole are
  /// then (n + K + 4)/32 of a rounding of T, and adding up what is left has n/4 of them. Where less is left, and in
  /// double, masses are added only, so that nothing cancels, in an order that depends on the number of documents alone.
  /// O(K²), or O(n + n K / 32), a draw.
  DRO_HOST_DEVICE drawn_tile(const relative_masses<T>& q, const Picks& p) : query(&q), picks(p) {
    const int select = picks_in<slots>(q.select());
    if constexpr (slots > 0) {
      for_each_slot<slots>(select, [&](auto t, bool) {
        for (int l = 0; l < Lanes; ++l) {
          DRO_UNROLL
          for (int u = 0; u < t; ++u) faults[l] |= picks(l, t) == picks(l, u) ? 1U : 0U;
        }
      });
    }
    for_each_slot<slots>(select, [&](auto t, auto is_pick) {
      for (int l = 0; l < Lanes; ++l) {
        const document_t j = picks(l, t);
        const bool exists = static_cast<std::uint32_t>(j) < static_cast<std::uint32_t>(q.documents());
        faults[l] |= is_pick && !exists ? 1U : 0U;
        picks.replace(l, t, exists ? j : 0);
        if constexpr (slots > 0) own_[t][l] = is_pick ? q.mass[exists ? j : 0] : T(0);
      }
    });
    math::lanes<std::uint32_t, Lanes> subtracted = {};
    std::uint32_t all_subtracted = 0;
    if constexpr (relative_masses<T>::has_total) {
      math::lanes<double, Lanes> rest;
      for (int l = 0; l < Lanes; ++l) rest[l] = q.total;
      math::lanes<T, Lanes> last = {};
      for_each_slot<slots>(select, [&](auto t, auto) {
        for (int l = 0; l < Lanes; ++l) {
          last[l] = t == select - 1 ? mass(l, t) : last[l];
          rest[l] -= static_cast<double>(mass(l, t));
        }
      });
      all_subtracted = 1;
      const T least = static_cast<T>(q.total) * T(0x1p-24);
      for (int l = 0; l < Lanes; ++l) {
        left[l] = rest[l] > 0.0 ? static_cast<T>(rest[l]) : T(0);
        subtracted[l] = left[l] + last[l] >= least ? 1U : 0U;
        all_subtracted &= subtracted[l];
      }
    }
    if (slots == 0 || all_subtracted == 0) look_at_rest(all_subtracted == 0, subtracted);
  }

  DRO_HOST_DEVICE bool valid(index_t l) const { return faults[l] == 0; }
  /// Of pick t in lane l; of a slot without a pick 0.
  template <class Slot>
  DRO_HOST_DEVICE T mass(int l, Slot t) const {
    if constexpr (slots > 0) {
      return own_[t][l];
    } else {
      return query->mass[pick(l, t)];
    }
  }
  /// Pick t of lane l, document 0 in place of one that does not exist.
  DRO_HOST_DEVICE index_t pick(index_t l, int t) const {
    const document_t j = picks(l, t);
    if constexpr (Picks::are_documents) return j;
    return static_cast<std::uint32_t>(j) < static_cast<std::uint32_t>(query->documents()) ? j : 0;
  }

 private:
  /// Notes repeated picks; with `adds`, adds up what is left in the lanes where it is not `known`.
  DRO_HOST_DEVICE void look_at_rest(bool adds, const math::lanes<std::uint32_t, Lanes>& known) {
    constexpr int width = 32;  // documents whose membership one word holds
    const auto documents = static_cast<int>(query->documents());
    math::lanes<T, Lanes> partial[4] = {};
    for (int begin = 0; begin < documents; begin += width) {
      math::lanes<std::uint32_t, Lanes> taken = {};
      for_each_slot<slots>(picks_in<slots>(query->select()), [&](auto t, auto is_pick) {
        for (int l = 0; l < Lanes; ++l) {
          const std::uint32_t place = static_cast<std::uint32_t>(picks(l, t)) - static_cast<std::uint32_t>(begin);
          const std::uint32_t bit = (is_pick && place < width ? 1U : 0U) << (place % width);
          faults[l] |= taken[l] & bit;
          taken[l] |= bit;
        }
      });
      if (adds) add_untaken(taken, query->mass + begin, documents - begin < width ? documents - begin : width, partial);
    }
    for (int l = 0; l < Lanes; ++l) {
      const T sum = (partial[0][l] + partial[2][l]) + (partial[1][l] + partial[3][l]);
      left[l] = known[l] != 0 ? left[l] : sum;
    }
  }

  /// Adds masses to four partial sums a lane in turn, `count` and up to the next multiple of 4 of them, without those
  /// whose bit is set. Apart from what gathers the bits: only then does g++ make vector code of it.
#if !defined(__CUDACC__)
  [[gnu::noinline]]
#endif
  DRO_HOST_DEVICE static void
  add_untaken(const math::lanes<std::uint32_t, Lanes>& of_word, const T* mass, int count,
              math::lanes<T, Lanes> (&partial)[4]) {
    math::lanes<std::uint32_t, Lanes> taken = of_word;
    for (int j = 0; j < count; j += 4) {
      for (int k = 0; k < 4; ++k) {
        const T own = mass[j + k];
        for (int l = 0; l < Lanes; ++l) partial[k][l] = add_unless_taken(taken[l], k, partial[k][l], own);
      }
      for (int l = 0; l < Lanes; ++l) taken[l] >>= 4U;
    }
  }

  struct nothing {};
  std::conditional_t<(slots > 0), slots_in_registers<math::lanes<T, Lanes>, slots>, nothing> own_;  // masses of picks
};

/// log Π x / y of positive normal numbers with one logarithm, `Lanes` products side by side: significands are
/// multiplied, exponents added. Each factor rounds once.
template <class T, index_t Lanes>
class log_of_quotients {
  using format = math::detail::binary_format<T>;
  using word = typename format::word;
  static constexpr word one = static_cast<word>(format::bias) << format::significand_bits;
  static constexpr word significand = (word{1} << format::significand_bits) - 1;

 public:
  DRO_HOST_DEVICE log_of_quotients() {
    for (index_t l = 0; l < Lanes; ++l) above_[l] = below_[l] = T(1);
  }
  /// The number of quotients before this one is `earlier`.
  DRO_HOST_DEVICE void multiply(const math::lanes<T, Lanes>& x, const math::lanes<T, Lanes>& y, index_t earlier) {
    for (index_t l = 0; l < Lanes; ++l) {
      above_[l] *= significand_of(x[l]);
      below_[l] *= significand_of(y[l]);
      exponent_[l] += exponent_of(x[l]) - exponent_of(y[l]);
    }
    if (earlier % 32 == 31) take_exponents();  // 2^33 at most until here
  }
  /// The same for x and y between 2^-20 and 2^20, whose products are parted now and then only.
  DRO_HOST_DEVICE void multiply_moderate(const math::lanes<T, Lanes>& x, const math::lanes<T, Lanes>& y,
                                         index_t earlier) {
    const auto multiply = [](auto& product, const auto& factor) { product *= factor; };
    math::for_lanes(above_, multiply, x);
    math::for_lanes(below_, multiply, y);
    if (earlier % 6 == 5) take_exponents();  // 2^-120 to 2^121 until here
  }
  [[nodiscard]] DRO_HOST_DEVICE T log(index_t l) const {
    const word exponent = exponent_[l] + exponent_of(above_[l]) - exponent_of(below_[l]);
    return math::log_of_normal(math::quotient(significand_of(above_[l]), significand_of(below_[l])),
                               static_cast<T>(static_cast<std::int32_t>(exponent)));
  }

 private:
  static DRO_HOST_DEVICE word exponent_of(T x) { return math::detail::bits(x) >> format::significand_bits; }
  static DRO_HOST_DEVICE T significand_of(T x) {
    return math::bit_cast<T>((math::detail::bits(x) & significand) | one);
  }
  DRO_HOST_DEVICE void take_exponents() {
    for (index_t l = 0; l < Lanes; ++l) {
      exponent_[l] += exponent_of(above_[l]) - exponent_of(below_[l]);
      above_[l] = significand_of(above_[l]);
      below_[l] = significand_of(below_[l]);
    }
  }

  math::lanes<T, Lanes> above_;
  math::lanes<T, Lanes> below_;
  math::lanes<word, Lanes> exponent_ = {};
};

/// What log_probs leaves to the logarithms of the masses.
template <class T>
inline constexpr T undecided = std::numeric_limits<T>::infinity();  // no log-probability

/// log p of each lane's draw; −inf for what is no ranking, `undecided` where a mass is too small. Σ_t log(mass of pick
/// t / M_t), M_t summed from the last pick backwards. O(K) and a logarithm.
template <class T, index_t Lanes, class Picks>
[[nodiscard]] DRO_HOST_DEVICE math::lanes<T, Lanes> log_probs(const drawn_tile<T, Lanes, Picks>& draws) {
  const relative_masses<T>& q = *draws.query;
  const int select = q.documents() > 0 ? static_cast<int>(q.select()) : 0;
  math::lanes<T, Lanes> left = draws.left;
  math::lanes<T, Lanes> least;
  for (index_t l = 0; l < Lanes; ++l) least[l] = T(1);
  log_of_quotients<T, Lanes> product;
  for (int t = select; t-- > 0;) {
    math::lanes<T, Lanes> own;
    for (int l = 0; l < Lanes; ++l) own[l] = draws.mass(l, t);
    for (index_t l = 0; l < Lanes; ++l) {
      left[l] += own[l];
      least[l] = own[l] >= least[l] ? least[l] : own[l];  // NaN if a pick's is
    }
    product.multiply(own, left, select - 1 - t);
  }
  math::lanes<T, Lanes> value;
  for (index_t l = 0; l < Lanes; ++l) {
    const T log_p = product.log(l) + (left[l] - left[l]);  // NaN if a mass is
    const bool decided = least[l] >= least_mass<T>;
    value[l] = !draws.valid(l) ? minus_infinity<T> : decided ? log_p : undecided<T>;
  }
  return value;
}

/// Writes log p of the draws first … first + count − 1 to `log_prob`, with the whole team; −inf for what is no ranking.
/// With `only_undecided` not of those that have one. `chosen` [documents] is scratch memory. O(n + K) and a logarithm a
/// draw, O(n exp + K log) where a mass is too small.
template <class T, class Team>
DRO_HOST_DEVICE void write_log_probs(Team& team, const relative_masses<T>& q, index_t first, index_t count,
                                     const matrix_view<T>& log_prob, document_t* chosen, bool only_undecided = false) {
  constexpr index_t together = draws_together<Team>;
  bool left_over = false;
  team.for_each((count + together - 1) / together, [&](index_t tile) {
    const index_t begin = first + tile * together;
    const index_t size = first + count - begin < together ? first + count - begin : together;
    const auto value = log_probs(drawn_tile<T, together, picks_of_matrix<together>>(q, {q.rankings, begin, size}));
    for (index_t l = 0; l < together; ++l) {
      if (l >= size) break;
      if (only_undecided && log_prob(begin + l, 0) != undecided<T>) continue;
      log_prob(begin + l, 0) = value[l];
      left_over = left_over || value[l] == undecided<T>;
    }
  });
  if (!team.any(left_over)) return;
  team.barrier();
  for (index_t i = 0; i < count; ++i) {
    if (log_prob(first + i, 0) != undecided<T>) continue;
    mark_chosen(team, q.rankings, first + i, q.documents(), chosen);
    const T total = plackett_luce_log_prob(team, q.scores, q.query, q.rankings, first + i, chosen);
    team.barrier();
    if (team.rank() == 0) log_prob(first + i, 0) = total;
    team.barrier();
  }
}

}  // namespace dro::detail

#endif
