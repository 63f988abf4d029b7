// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_PLACKETT_LUCE_GRADIENT_HPP
#define DRO_RANKING_PLACKETT_LUCE_GRADIENT_HPP

/// \file
/// The row program behind plackett_luce_gradient and accumulate_plackett_luce_gradient.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/lanes.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/math/quotient.hpp>
#include <dro/ranking/constants.hpp>
#include <dro/ranking/masses.hpp>
#include <dro/ranking/slots.hpp>

namespace dro::detail {

/// With B_t = Σ_{u ≤ t} 1 / M_u, M_u the mass left before pick u, ∂ log p / ∂ s_j = 1 − exp(s_j) B_t if j is pick t,
/// and −exp(s_j) B_{K−1} if j is not picked. A thread finds B of the draws it takes and adds them up in a row of its
/// own, with an element for each document; then the rows are summed in the order of the threads. Of many documents some
/// have their turn after others. The differences 1 − exp(s_j) B_t are taken draw by draw: sums of ones and of B apart
/// would lose digits where exp(s_j) B_t is near 1. `Slots`: the picks of a draw that registers hold, see slots.hpp.
template <class T, int Slots>
struct plackett_luce_gradient_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  grouped_view<const T> coefficients;
  matrix_view<T> gradient;  // [queries × n]
  grouping groups;
  bool adds;  // to what is in the gradient, or takes its place

  // Masses [n rounded up to a multiple of 4]. A row for each thread [columns], and where Slots is 0 picks and values
  // for each [K together]; in their place, where masses are too small, logarithms of sums [K] and membership flags [n].
  template <class Team>
  std::size_t scratch_bytes(index_t threads) const {
    const table_shape table = shape_of_table<Team>(threads);
    const auto select = static_cast<std::size_t>(rankings.cols);
    const std::size_t slots = Slots == 0 ? select * static_cast<std::size_t>(side_by_side<Team>) : 0;
    const std::size_t rows =
        static_cast<std::size_t>(table.rows) *
        (static_cast<std::size_t>(table.stride) * sizeof(T) + slots * (sizeof(T) + sizeof(document_t)));
    const std::size_t in_log_space = select * sizeof(T) + static_cast<std::size_t>(scores.cols) * sizeof(document_t);
    return static_cast<std::size_t>(padded(scores.cols)) * sizeof(T) + (rows > in_log_space ? rows : in_log_space);
  }
  static constexpr bool lives_in_scratch = true;
  static constexpr index_t items_of_thread = 2;
  // What is rarely needed and takes more of them lies in memory.
  static constexpr int registers = Slots == 10 ? 112 : 80;
  // Rows are read and written 16 bytes at a time, so scratch begins at a multiple of that; and eight neighbouring words
  // of four teams lie in different banks.
  static constexpr std::size_t scratch_word = 32;
  /// Draws, up to where more threads would cost more than they do: each has a row that is to be summed.
  [[nodiscard]] index_t width() const { return groups.mean_size() < 16 ? groups.mean_size() : 16; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    constexpr int together = side_by_side<Team>;
    // In 32 bits, which a GPU counts in: a loop of a team has fewer items than 2^31.
    const auto n = static_cast<int>(scores.cols);
    const int select = picks_in<Slots>(rankings.cols);
    const auto threads = static_cast<int>(team.size());
    const auto samples = select > 0 ? static_cast<int>(groups.size(query)) : 0;
    const index_t first_draw = groups.begin(query);
    const row_view<const T> coefficient = coefficients.row(query);
    const table_shape shape = shape_of_table<Team>(threads);
    if (samples == 0 && !adds) team.for_each(n, [&](index_t j) { gradient(query, j) = T(0); });
    if (samples == 0) return;
    T* const mass = team.template scratch<T>();
    T* const table = mass + padded(n);
    const int tiles = (samples + together - 1) / together;
    const int rows = tiles < threads ? tiles : threads;
    const auto row = static_cast<int>(team.rank());  // of this thread
    contributions<together> terms = {};
    if constexpr (Slots == 0) {
      auto* const values = reinterpret_cast<math::lanes<T, together>*>(table + shape.rows * shape.stride);
      auto* const picks = reinterpret_cast<lanes_of_picks<together>*>(values + shape.rows * select);
      terms.value = {values + row, shape.rows};
      terms.pick = {picks + row, shape.rows};
    }
    const auto load = [&](int tile) {
      const int i = tile * together;
      if (tile < tiles) {
        const int size = samples - i < together ? samples - i : together;
        copy_picks(picks_of_matrix<together>(rankings, first_draw + i, size), select, terms.pick);
        for (int l = 0; l < together; ++l) terms.factor[l] = l < size ? coefficient[i + l] : T(0);
      }
    };
    load(row);  // it arrives while the masses are computed
    const relative_masses<T> masses(team, scores, rankings, query, mass);

    const bool at_once = shape.columns >= n;
    const bool can_write_four = !is_one_thread<Team> && gradient.col_stride == 1 &&
                                reinterpret_cast<std::uintptr_t>(&gradient(query, 0)) % sizeof(four) == 0;
    bool too_small = false;
    bool has_sums = adds;  // in the gradient
    for (int begin = 0; begin < tiles; begin += threads) {
      const bool has_draws = begin + row < tiles;
      if (has_draws) {
        const bool done = differentiate(masses, terms);
        too_small = too_small || !done;
      }
      for (int first = 0; first < n; first += shape.columns) {
        if (has_draws) {
          add_to_row(terms, masses, table + row * shape.stride, first, shape.columns, at_once && begin > 0);
        }
        if (at_once && begin + threads < tiles) break;  // all rows at the end
        const int columns = n - first < shape.columns ? n - first : shape.columns;
        const int count = at_once || tiles - begin > threads ? rows : tiles - begin;
        team.barrier();
        team.for_each((columns + 3) / 4, [&](index_t tile) {
          const int j = static_cast<int>(tile) * 4;
          four sum = *reinterpret_cast<const four*>(table + j);
          for (int i = 1; i < count; ++i) {
            const four term = *reinterpret_cast<const four*>(table + i * shape.stride + j);
            for (int k = 0; k < 4; ++k) sum.element[k] += term.element[k];
          }
          T* const out = &gradient(query, first + j);
          if (can_write_four && !has_sums && j + 4 <= columns) {
            *reinterpret_cast<four*>(out) = sum;
            return;
          }
          for (int k = 0; k < 4; ++k) {
            if (j + k < columns) sum_to(out[k * gradient.col_stride], sum.element[k], has_sums);
          }
        });
        team.barrier();
      }
      has_sums = has_sums || !at_once;
      load(begin + threads + row);
    }
    if (!team.any(too_small)) return;
    auto* const chosen = reinterpret_cast<document_t*>(table + select);
    for (int i = 0; i < samples; ++i) {
      const T c = coefficient[i];
      const index_t draw = first_draw + i;
      if (c == T(0) || !is_too_small(tile_of<1>(masses, {rankings, draw, 1}))) continue;
      add_in_log_space(team, query, draw, c, table, chosen);
    }
  }

 private:
  template <class Element>
  using slots_of = std::conditional_t<Slots == 0, slots_in_memory<Element>, slots_in_registers<Element, Slots>>;
  template <index_t Lanes>
  using lanes_of_picks = math::lanes<document_t, Lanes>;
  template <index_t Lanes>
  using tile_of = drawn_tile<T, Lanes, picks_of_matrix<Lanes>>;
  template <index_t Lanes>
  using copied_tile = drawn_tile<T, Lanes, copied_picks<slots_of<lanes_of_picks<Lanes>>>>;

  /// What draws that one thread works on at once add to the gradient: for each pick its document and a value, and to
  /// every other document a multiple of its mass.
  template <index_t Lanes>
  struct contributions {
    slots_of<lanes_of_picks<Lanes>> pick;
    slots_of<math::lanes<T, Lanes>> value;
    math::lanes<T, Lanes> factor;
  };

  /// Draws that a thread works on at once. Two on a GPU, whose loads need not wait for each other.
  template <class Team>
  static constexpr int side_by_side = draws_together<Team> < 2 ? 2 : static_cast<int>(draws_together<Team>);

  /// Rows that a team has, the documents in each, and elements from one to the next.
  struct table_shape {
    int rows, columns, stride;
  };
  /// On a GPU short rows where there are many of them or many masses, since memory on the chip limits how many teams it
  /// runs at once. Rows are an odd number of 16-byte pieces apart (float), so that eight threads work on theirs in
  /// different banks.
  template <class Team>
  [[nodiscard]] DRO_HOST_DEVICE table_shape shape_of_table(index_t threads) const {
    constexpr int together = side_by_side<Team>;
    const auto n = static_cast<int>(padded(scores.cols));
    const bool is_short = !is_one_thread<Team> && (threads > 32 || n > 128);
    const int columns = is_short && n > 32 ? 32 : n;
    int rows = static_cast<int>(threads);
    if (groups.is_uniform() && groups.per_query() < index_t{rows} * together) {
      rows = (static_cast<int>(groups.per_query()) + together - 1) / together;
    }
    return {rows, columns, (columns / 4 | 1) * 4};
  }

  DRO_HOST_DEVICE static void sum_to(T& total, T term, bool adds_to_it) { total = adds_to_it ? total + term : term; }

  /// Four elements of a row, read and written together.
  struct alignas(16) four {
    T element[4];
  };

  /// Whether lane l holds a document that cannot be picked. Looks at scores only where a mass is 0.
  template <index_t Lanes, class Picks>
  DRO_HOST_DEVICE static bool is_impossible(const drawn_tile<T, Lanes, Picks>& draws, index_t l) {
    const relative_masses<T>& q = *draws.query;
    bool impossible = false;
    for_each_slot<Picks::slots>(picks_in<Picks::slots>(q.select()), [&](auto t, auto is_pick) {
      const index_t j = draws.pick(l, t);
      if (is_pick && q.mass[j] == T(0)) impossible = impossible || q.score(j) == minus_infinity<T>;
    });
    return impossible;
  }

  /// Whether differentiate would return false.
  DRO_HOST_DEVICE static bool is_too_small(const tile_of<1>& draw) {
    const relative_masses<T>& q = *draw.query;
    return draw.valid(0) && !is_impossible(draw, 0) &&
           !(draw.left[0] + draw.mass(0, static_cast<int>(q.select()) - 1) >= least_mass<T>);
  }

  /// Finds coefficient · ∂ log p / ∂ s of the draws whose picks stand in `terms`, and their coefficients in place of
  /// the factors: 0 where the coefficient is 0, a pick impossible or the ranking none, and also where masses are too
  /// small to be divided by; then it returns false.
  template <index_t Lanes>
  DRO_HOST_DEVICE static bool differentiate(const relative_masses<T>& q, contributions<Lanes>& terms) {
    const int select = picks_in<Slots>(q.select());
    const copied_tile<Lanes> draws(q, {terms.pick});
    math::lanes<T, Lanes> coefficient = terms.factor;
    math::lanes<T, Lanes> left = draws.left;
    math::lanes<T, Lanes> before_last = {};
    math::lanes<T, Lanes> least;
    for (int l = 0; l < Lanes; ++l) least[l] = T(1);
    terms.pick = draws.picks.copy;
    for_each_slot_backwards<Slots>(select, [&](auto t, auto is_pick) {
      for (int l = 0; l < Lanes; ++l) {
        const T mass = draws.mass(l, t);
        least[l] = is_pick && mass < least[l] ? mass : least[l];
        left[l] += mass;
        before_last[l] = t == select - 1 ? left[l] : before_last[l];
      }
      terms.value[t] = left;
    });
    bool done = true;
    for (int l = 0; l < Lanes; ++l) {
      if (!draws.valid(l) || (least[l] == T(0) && is_impossible(draws, l))) coefficient[l] = T(0);
      if (!(before_last[l] >= least_mass<T>)) {
        done = done && coefficient[l] == T(0);
        coefficient[l] = T(0);
      }
    }
    math::lanes<T, Lanes> all = {};
    for_each_slot<Slots>(select, [&](auto t, auto is_pick) {
      math::lanes<T, Lanes>& value = terms.value[t];
      for (int l = 0; l < Lanes; ++l) {
        all[l] = is_pick ? all[l] + math::reciprocal(value[l]) : all[l];
        value[l] = coefficient[l] * (T(1) - draws.mass(l, t) * all[l]);
      }
    });
    for (int l = 0; l < Lanes; ++l) terms.factor[l] = coefficient[l] != T(0) ? -coefficient[l] * all[l] : T(0);
    return done;
  }

  /// Adds what draws add to the gradients of `columns` documents from `first` on to a row, or to zeros in its place.
  template <index_t Lanes>
  DRO_HOST_DEVICE static void add_to_row(contributions<Lanes>& terms, const relative_masses<T>& q, T* row, int first,
                                         int columns, bool has_sums) {
    const int select = picks_in<Slots>(q.select());
    const auto end = static_cast<int>(padded(q.documents())) - first;
    const int last = columns < end ? columns : end;
    DRO_UNROLL
    for (int l = 0; l < Lanes; ++l) {
      const auto for_each_own = [&](const auto& f) {
        for_each_slot<Slots>(select, [&](auto t, auto is_pick) {
          const int place = terms.pick[t][l] - first;
          if (is_pick && static_cast<std::uint32_t>(place) < static_cast<std::uint32_t>(last)) {
            f(row[place], terms.value[t][l]);
          }
        });
      };
      const T factor = terms.factor[l];
      const bool to_zeros = l == 0 && !has_sums;
      if (factor == T(0)) {  // nothing, whatever the masses and values
        for (int j = 0; to_zeros && j < last; ++j) row[j] = T(0);
        continue;
      }
      if (!to_zeros) for_each_own([](T sum, T& value) { value += sum; });
      for (int j = 0; j < last; j += 4) {
        const four mass = *reinterpret_cast<const four*>(q.mass + first + j);
        four sum = {};
        if (!to_zeros) sum = *reinterpret_cast<const four*>(row + j);
        for (int k = 0; k < 4; ++k) sum.element[k] += factor * mass.element[k];
        *reinterpret_cast<four*>(row + j) = sum;
      }
      for_each_own([](T& sum, T value) { sum = value; });
    }
  }

  /// One draw with the whole team, by the logarithms of its masses. `log_sum` [K], `chosen` [n]: scratch memory.
  template <class Team>
  DRO_HOST_DEVICE void add_in_log_space(Team& team, index_t query, index_t draw, T coefficient, T* log_sum,
                                        document_t* chosen) const {
    const index_t select = rankings.cols;
    mark_chosen(team, rankings, draw, scores.cols, chosen);
    const T left = log_mass_left(team, scores, query, chosen);
    if (team.rank() == 0) {
      T mass = left;
      for (index_t t = select; t-- > 0;) {
        mass = math::log_add_exp(mass, scores(query, rankings(draw, t)));
        log_sum[t] = -mass;
      }
      for (index_t t = 1; t < select; ++t) log_sum[t] = math::log_add_exp(log_sum[t], log_sum[t - 1]);
      for (index_t t = 0; t < select; ++t) {
        const document_t j = rankings(draw, t);
        gradient(query, j) += coefficient * (T(1) - math::exp(scores(query, j) + log_sum[t]));
      }
    }
    team.barrier();
    team.for_each(scores.cols, [&](index_t j) {
      if (chosen[j] == 0) gradient(query, j) -= coefficient * math::exp(scores(query, j) + log_sum[select - 1]);
    });
    team.barrier();
  }
};

}  // namespace dro::detail

#endif
