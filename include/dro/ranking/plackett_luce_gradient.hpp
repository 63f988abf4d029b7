// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_PLACKETT_LUCE_GRADIENT_HPP
#define DRO_RANKING_PLACKETT_LUCE_GRADIENT_HPP

/// \file
/// The row program behind plackett_luce_gradient and accumulate_plackett_luce_gradient.

#include <cstddef>
#include <cstdint>

#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/lanes.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/ranking/constants.hpp>
#include <dro/ranking/masses.hpp>

namespace dro::detail {

/// 1 / x for normal x whose reciprocal is normal, on a device within 1 ulp: one instruction, where division has ten.
[[nodiscard]] DRO_HOST_DEVICE inline float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0F / x;
#endif
}
[[nodiscard]] DRO_HOST_DEVICE inline double reciprocal(double x) { return 1.0 / x; }

/// With B_t = Σ_{u ≤ t} 1 / M_u, M_u the mass left before pick u, ∂ log p / ∂ s_j = 1 − exp(s_j) B_t if j is pick t,
/// and −exp(s_j) B_{K−1} if j is not picked. Some draws at a time: a thread finds B of the draws it takes and writes
/// for each a row of what it adds to some documents; then each of these documents adds up its column of the rows, in
/// the order of the draws, and the next documents' turn comes. The differences 1 − exp(s_j) B_t are taken draw by draw:
/// sums of ones and of B apart would lose digits where exp(s_j) B_t is near 1.
template <class T>
struct plackett_luce_gradient_program {
  matrix_view<const T> scores;
  matrix_view<const document_t> rankings;
  grouped_view<const T> coefficients;
  matrix_view<T> gradient;  // [queries × n]
  grouping groups;
  bool adds;  // to what is in the gradient, or takes its place

  // Masses [n rounded up to a multiple of 4]. For each draw at once a row, values [K + 1] and picks [K], see slots; in
  // their place, where masses are too small, logarithms of sums [K] and membership flags [n].
  template <class Team>
  std::size_t scratch_bytes(index_t threads) const {
    const table_shape table = shape_of_table<Team>(threads);
    const index_t select = rankings.cols;
    const std::size_t rows = static_cast<std::size_t>(table.draws * (table.stride + select + 1)) * sizeof(T) +
                             static_cast<std::size_t>(table.draws * select) * sizeof(document_t);
    const std::size_t in_log_space =
        static_cast<std::size_t>(select) * sizeof(T) + static_cast<std::size_t>(scores.cols) * sizeof(document_t);
    return static_cast<std::size_t>(padded(scores.cols)) * sizeof(T) + (rows > in_log_space ? rows : in_log_space);
  }
  static constexpr bool lives_in_scratch = true;
  // Rows are read and written 16 bytes at a time, so scratch begins at a multiple of that; and eight neighbouring words
  // of four teams lie in different banks.
  static constexpr std::size_t scratch_word = 32;
  [[nodiscard]] index_t width() const { return groups.mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    constexpr int together = side_by_side<Team>;
    // In 32 bits, which a GPU counts in: a loop of a team has fewer items than 2^31.
    const auto n = static_cast<int>(scores.cols);
    const auto select = static_cast<int>(rankings.cols);
    const auto samples = select > 0 ? static_cast<int>(groups.size(query)) : 0;
    const index_t first_draw = groups.begin(query);
    const row_view<const T> coefficient = coefficients.row(query);
    const table_shape shape = shape_of_table<Team>(team.size());
    if (samples == 0 && !adds) team.for_each(n, [&](index_t j) { gradient(query, j) = T(0); });
    if (samples == 0) return;
    T* const mass = team.template scratch<T>();
    T* const table = mass + padded(n);
    T* const value = table + shape.draws * shape.stride;
    auto* const pick = reinterpret_cast<document_t*>(value + shape.draws * (select + 1));

    const relative_masses<T> masses(team, scores, rankings, query, mass);
    bool too_small = false;
    for (int begin = 0; begin < samples; begin += shape.draws) {
      const int count = samples - begin < shape.draws ? samples - begin : shape.draws;
      const int tiles = (count + together - 1) / together;
      const auto slots_of = [&](index_t tile) {
        const int i = static_cast<int>(tile) * together;
        return slots<together>{aligned(reinterpret_cast<lanes_of_picks<together>*>(pick + i)),
                               aligned(reinterpret_cast<math::lanes<T, together>*>(value + i)),
                               table + i * shape.stride, shape.draws / together, shape.stride};
      };
      team.for_each(tiles, [&](index_t tile) {
        const int i = begin + static_cast<int>(tile) * together;
        const int size = samples - i < together ? samples - i : together;
        math::lanes<T, together> c;
        for (int l = 0; l < together; ++l) c[l] = l < size ? coefficient[i + l] : T(0);
        const slots<together> own = slots_of(tile);
        const bool done = differentiate(
            copied_tile<together>(
                masses, {{rankings, first_draw + i, size}, static_cast<std::uint32_t>(n), own.pick, own.stride}),
            c, own);
        too_small = too_small || !done;
        write_rows(own, masses, 0, shape.columns);
      });
      for (int first = 0; first < n; first += shape.columns) {
        const int columns = n - first < shape.columns ? n - first : shape.columns;
        team.barrier();
        team.for_each((columns + 3) / 4, [&](index_t tile) {
          const int j = static_cast<int>(tile) * 4;
          four sum = {};
          for (int i = 0; i < count; ++i) {
            const four term = *reinterpret_cast<const four*>(table + i * shape.stride + j);
            for (int k = 0; k < 4; ++k) sum.element[k] += term.element[k];
          }
          T* const out = &gradient(query, first + j);
          for (int k = 0; k < 4; ++k) {
            if (j + k < columns) sum_to(out[k * gradient.col_stride], sum.element[k], adds || begin > 0);
          }
        });
        team.barrier();
        const int next = first + shape.columns;
        if (next >= n) break;
        team.for_each(tiles, [&](index_t tile) { write_rows(slots_of(tile), masses, next, shape.columns); });
      }
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
  template <index_t Lanes>
  using tile_of = drawn_tile<T, Lanes, picks_of_matrix<Lanes>>;
  template <index_t Lanes>
  using copied_tile = drawn_tile<T, Lanes, copied_picks<Lanes>>;
  template <index_t Lanes>
  using lanes_of_picks = math::lanes<document_t, Lanes>;

  /// Where draws that one thread works on at once have their picks, entries of `pick` and `value` `stride` apart, and
  /// their rows, `row_stride` apart.
  template <index_t Lanes>
  struct slots {
    lanes_of_picks<Lanes>* pick;   // [K]
    math::lanes<T, Lanes>* value;  // [K + 1] masses left before the picks, then what they add; last, what each of the
                                   // other documents adds as a multiple of its mass
    T* row;
    int stride, row_stride;
  };

  /// Draws that a thread works on at once. Two on a GPU, which so takes each mass from memory once for two.
  template <class Team>
  static constexpr int side_by_side = draws_together<Team> < 2 ? 2 : static_cast<int>(draws_together<Team>);

  /// Rows that a team has at once, the documents in each, and elements from one to the next.
  struct table_shape {
    int draws, columns, stride;
  };
  /// Few rows of few documents, since memory on the chip limits how many teams a GPU runs at once; more where a whole
  /// block is to have work, or on the host, which has caches. Rows are an odd number of 16-byte pieces apart (float),
  /// so that eight threads write theirs to different banks.
  template <class Team>
  [[nodiscard]] DRO_HOST_DEVICE table_shape shape_of_table(index_t threads) const {
    constexpr int together = side_by_side<Team>;
    const int all = groups.is_uniform() && groups.per_query() < 64
                        ? (static_cast<int>(groups.per_query()) + together - 1) / together * together
                        : 64;
    const int draws = threads > 32 ? 64 : 16;
    const int documents = together > 2 ? 512 : threads > 32 ? 64 : 32;
    const int columns = padded(scores.cols) < documents ? static_cast<int>(padded(scores.cols)) : documents;
    return {draws < all ? draws : all, columns, (columns / 4 | 1) * 4};
  }

  DRO_HOST_DEVICE static void sum_to(T& total, T term, bool adds_to_it) { total = adds_to_it ? total + term : term; }

  /// Lanes may be read and written together, up to 16 bytes: the compiler does where it knows that they are aligned.
  template <class U>
  [[nodiscard]] DRO_HOST_DEVICE static U* aligned(U* p) {
    return static_cast<U*>(__builtin_assume_aligned(p, sizeof(U) < 16 ? sizeof(U) : 16));
  }
  /// Four elements of a row, read and written together.
  struct alignas(16) four {
    T element[4];
  };

  /// Whether lane l holds a document that cannot be picked. Looks at scores only where a mass is 0.
  template <index_t Lanes, class Picks>
  DRO_HOST_DEVICE static bool is_impossible(const drawn_tile<T, Lanes, Picks>& draws, index_t l) {
    const relative_masses<T>& q = *draws.query;
    bool impossible = false;
    for (index_t t = 0; t < q.select(); ++t) {
      const index_t j = draws.pick(l, t);
      if (q.mass[j] == T(0)) impossible = impossible || q.score(j) == minus_infinity<T>;
    }
    return impossible;
  }

  /// Whether differentiate would return false.
  DRO_HOST_DEVICE static bool is_too_small(const tile_of<1>& draw) {
    const relative_masses<T>& q = *draw.query;
    return draw.valid(0) && !is_impossible(draw, 0) &&
           !(draw.left[0] + q.mass[draw.pick(0, q.select() - 1)] >= least_mass<T>);
  }

  /// Writes coefficient · ∂ log p / ∂ s of draws to their values: 0 where the coefficient is 0, a pick impossible or
  /// the ranking none, and also where masses are too small to be divided by; then it returns false.
  template <index_t Lanes>
  DRO_HOST_DEVICE static bool differentiate(const copied_tile<Lanes>& draws, math::lanes<T, Lanes> coefficient,
                                            const slots<Lanes>& own) {
    using format = math::detail::binary_format<T>;
    using word = typename format::word;
    constexpr word sign = word{1} << (format::width - 1);
    const relative_masses<T>& q = *draws.query;
    const auto select = static_cast<int>(q.select());
    math::lanes<T, Lanes> left = draws.left;
    math::lanes<word, Lanes> below = {};  // sign bit set once a mass is 0
    for (int t = select; t-- > 0;) {
      math::lanes<T, Lanes> mass;
      for (int l = 0; l < Lanes; ++l) mass[l] = q.mass[draws.pick(l, t)];
      for (int l = 0; l < Lanes; ++l) {
        below[l] |= math::detail::bits(mass[l]) - 1;
        left[l] += mass[l];
      }
      own.value[t * own.stride] = left;
    }
    bool done = true;
    for (int l = 0; l < Lanes; ++l) {
      if (!draws.valid(l) || ((below[l] & sign) != 0 && is_impossible(draws, l))) coefficient[l] = T(0);
      if (!(own.value[(select - 1) * own.stride][l] >= least_mass<T>)) {
        done = done && coefficient[l] == T(0);
        coefficient[l] = T(0);
      }
    }
    math::lanes<T, Lanes> all = {};
    for (int t = 0; t < select; ++t) {
      math::lanes<T, Lanes> mass;
      for (int l = 0; l < Lanes; ++l) mass[l] = q.mass[draws.pick(l, t)];
      math::lanes<T, Lanes>& value = own.value[t * own.stride];
      for (int l = 0; l < Lanes; ++l) {
        all[l] += reciprocal(value[l]);
        value[l] = coefficient[l] * (T(1) - mass[l] * all[l]);
      }
    }
    for (int l = 0; l < Lanes; ++l) {
      own.value[select * own.stride][l] = -coefficient[l] * all[l];
      if (coefficient[l] != T(0)) continue;
      for (int t = 0; t <= select; ++t) own.value[t * own.stride][l] = T(0);
    }
    return done;
  }

  /// Writes to the rows of draws what they add to the gradients of `columns` documents from `first` on.
  template <index_t Lanes>
  DRO_HOST_DEVICE static void write_rows(const slots<Lanes>& own, const relative_masses<T>& q, int first, int columns) {
    const auto select = static_cast<int>(q.select());
    const auto end = static_cast<int>(padded(q.documents())) - first;
    const math::lanes<T, Lanes> factor = own.value[select * own.stride];
    for (int j = 0; j < columns && j < end; j += 4) {
      const four mass = *reinterpret_cast<const four*>(q.mass + first + j);
      for (int l = 0; l < Lanes; ++l) {
        four product;
        for (int k = 0; k < 4; ++k) product.element[k] = factor[l] * mass.element[k];
        *reinterpret_cast<four*>(own.row + l * own.row_stride + j) = product;
      }
    }
    for (int l = 0; l < Lanes; ++l) {
      if (factor[l] != T(0)) continue;
      for (int j = 0; j < columns && j < end; ++j) own.row[l * own.row_stride + j] = T(0);  // whatever the mass
    }
    for (int t = 0; t < select; ++t) {
      const lanes_of_picks<Lanes> pick = own.pick[t * own.stride];
      const math::lanes<T, Lanes> value = own.value[t * own.stride];
      for (int l = 0; l < Lanes; ++l) {
        const auto place = static_cast<std::uint32_t>(pick[l] - first);
        if (place < static_cast<std::uint32_t>(columns))
          own.row[l * own.row_stride + static_cast<int>(place)] = value[l];
      }
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
