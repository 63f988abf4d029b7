// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_PLACKETT_LUCE_DRAW_HPP
#define DRO_RANKING_PLACKETT_LUCE_DRAW_HPP

/// \file
/// The row program behind draw_plackett_luce where samples share no noise.
///
/// A pick is the document at a uniform place in the integer mass that is left (inversion.hpp). By definition the masses
/// are relative to the largest one of the query and summed in 32 bits, as long as least_left of that is left; then in
/// 64 bits; then, for each pick anew, relative to the largest one that is left. The first program goes as far as 32
/// bits do, which is all the way unless a few documents have nearly all the mass; the second one does what remains.
/// Both take word t of a sample's noise for pick t.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>
#include <dro/math/lanes.hpp>
#include <dro/random/integer_mass.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/constants.hpp>
#include <dro/ranking/inversion.hpp>
#include <dro/ranking/masses.hpp>
#include <dro/ranking/slots.hpp>

namespace dro::detail {

/// Integer masses of one query's documents, and running sums of them in `Word`s: where those are too small, without the
/// last bits, so that the total has as many as there are.
template <class Word>
struct summed_masses {
  mass_sums<Word> sums;
  int shift;  // bits that a sum lacks
};

/// Makes them of score(j) for the documents j, relative to the `largest`: the masses into `own` [n], their sums into
/// `all` [mass_sums::size], where `own` may be all + 1. Calls with(j, mass) for each. 0 where the score is −inf or NaN.
/// O(n), with the team.
template <class Word, class T, class Team, class F, class G>
DRO_HOST_DEVICE summed_masses<Word> sum_masses(Team& team, index_t documents, T largest, std::uint64_t* own, Word* all,
                                               F&& score, G&& with) {
  const auto n = static_cast<int>(documents);  // a GPU counts in 32 bits
  const int bits = noise::mass_bits(documents);
  // A thread has documents side by side, so that the team works together for one scan and not for every few of them.
  const auto threads = static_cast<int>(team.size());
  const int chunk = static_cast<int>((static_cast<unsigned>(n) + static_cast<unsigned>(threads) - 1) /
                                     static_cast<unsigned>(threads));
  int begin = 0;
  int end = 0;
  std::uint64_t sum = 0;
  const auto total = team.template inclusive_scan<std::uint64_t>(
      threads,
      [&](index_t thread) {
        begin = static_cast<int>(thread) * chunk;
        end = begin + chunk < n ? begin + chunk : n;
        std::uint64_t of_chunk = 0;
        for (int j = begin; j < end; ++j) {
          const T s = score(index_t{j});
          own[j] = s > minus_infinity<T> ? noise::integer_mass(s == largest ? T(0) : largest - s, bits) : 0;
          with(j, own[j]);
          of_chunk += own[j];
        }
        return of_chunk;
      },
      [&](index_t, std::uint64_t up_to) { sum = up_to; });
  constexpr int width = 8 * static_cast<int>(sizeof(Word));
  const int shift = noise::bit_width(total) > width ? noise::bit_width(total) - width : 0;
  for (int j = end; j-- > begin;) {
    const std::uint64_t mass = own[j];
    all[j + 1] = static_cast<Word>(sum >> shift);
    sum -= mass;
  }
  using sums = mass_sums<Word>;
  if (team.rank() == 0) all[0] = 0;
  team.for_each(sums::size(documents) - 1 - documents, [&](index_t j) { all[1 + documents + j] = sums::beyond; });
  team.barrier();
  return {{all, documents}, shift};
}

/// Draws to make. A row is `draws_of_row` draws of a query: some, since they share the masses,
/// but few enough for a GPU to have rows for all its threads.
template <class T>
struct plackett_luce_draws {
  /// A multiple of what the vector registers of a host take at once.
  static constexpr index_t draws_of_row = 16;

  matrix_view<const T> scores;  // [queries × n]
  matrix_view<document_t> rankings;
  matrix_view<T> log_prob;
  index_t samples;
  random_source random;

  [[nodiscard]] DRO_HOST_DEVICE index_t rows_of_query() const { return (samples + draws_of_row - 1) / draws_of_row; }
  /// Rows of the program.
  [[nodiscard]] index_t rows() const { return scores.rows * rows_of_query(); }
  [[nodiscard]] DRO_HOST_DEVICE index_t width() const { return samples < draws_of_row ? samples : draws_of_row; }

  /// The draws of one row.
  struct range {
    index_t query;
    index_t draw;  // the first one's row in the rankings
    int sample;    // its number among those of the query
    int count;
  };
  [[nodiscard]] DRO_HOST_DEVICE range range_of(index_t row) const {
    const index_t rows = rows_of_query();
    const index_t query = rows == 1 ? row : row / rows;  // divisions are dear on a GPU
    const index_t sample = (row - query * rows) * draws_of_row;
    const index_t rest = samples - sample;
    return {query, query * samples + sample, static_cast<int>(sample),
            static_cast<int>(rest < draws_of_row ? rest : draws_of_row)};
  }
  [[nodiscard]] DRO_HOST_DEVICE noise_source source(index_t query, index_t sample) const {
    return {random.key(), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(sample)};
  }

  using wide = std::uint64_t;
  using narrow = std::uint32_t;
  static DRO_HOST_DEVICE constexpr std::size_t sums_of(index_t documents) {
    return static_cast<std::size_t>(mass_sums<wide>::size(documents));
  }
};

/// Picks and scores those of a row's draws whose log_prob is `undecided`; no_document stands for each pick they lack.
template <class T>
struct undecided_draws : plackett_luce_draws<T> {
  using base = plackett_luce_draws<T>;
  using typename base::wide;

  // Running sums of integer masses, or masses [mass_sums::size]; what picks took [K] for each thread, or membership
  // flags [n].
  std::size_t scratch_bytes(index_t threads) const {
    const auto taken = static_cast<std::size_t>(this->rankings.cols * threads) * sizeof(taken_mass<wide, 1>);
    const std::size_t flags = static_cast<std::size_t>(this->scores.cols) * sizeof(document_t);
    return behind_sums() + (taken > flags ? taken : flags);
  }

  template <class Team>
  DRO_HOST_DEVICE void decide(Team& team, index_t row) const {
    const auto draws = this->range_of(row);
    bool incomplete = false;
    team.for_each(draws.count, [&](index_t i) { incomplete = incomplete || lacks_pick(draws.draw + i); });
    if (team.any(incomplete)) complete(team, draws);
    team.barrier();
    const relative_masses<T> masses(team, this->scores, this->rankings, draws.query, team.template scratch<T>());
    constexpr bool only_undecided = true;
    write_log_probs(team, masses, draws.draw, draws.count, this->log_prob,
                    team.template scratch<document_t>(behind_sums()), only_undecided);
  }

 private:
  [[nodiscard]] DRO_HOST_DEVICE bool lacks_pick(index_t draw) const {
    return this->rankings(draw, this->rankings.cols - 1) == no_document;
  }

  /// Picks what rankings of a row lack: each by a thread as far as 64 bits go, the rest one by one with the team.
  template <class Team>
  DRO_HOST_DEVICE void complete(Team& team, const typename base::range& draws) const {
    auto* const memory = team.template scratch<wide>();
    const auto sums = sum_all(
        team, [&](index_t j) { return this->scores(draws.query, j); }, memory);
    auto* const taken = team.template scratch<taken_mass<wide, 1>>(behind_sums());
    bool incomplete = false;
    team.for_each(draws.count, [&](index_t i) {
      const index_t draw = draws.draw + i;
      if (!lacks_pick(draw)) return;
      draw_one(sums, this->source(draws.query, draws.sample + i), draw,
               slots_in_memory<taken_mass<wide, 1>>{taken + team.rank(), team.size()});
      incomplete = incomplete || lacks_pick(draw);
    });
    if (!team.any(incomplete)) return;
    team.barrier();
    auto* const chosen = team.template scratch<document_t>(behind_sums());
    for (index_t i = 0; i < draws.count; ++i) {
      const index_t draw = draws.draw + i;
      if (lacks_pick(draw)) {
        draw_with_team(team, draws.query, this->source(draws.query, draws.sample + i), draw, memory, chosen);
      }
    }
  }

  template <class Team, class F>
  [[nodiscard]] DRO_HOST_DEVICE mass_sums<wide> sum_all(Team& team, const F& score, wide* sums) const {
    const index_t n = this->scores.cols;
    const T largest = team.max(n, minus_infinity<T>, score);
    return sum_masses<wide>(team, n, largest, sums + 1, sums, score, [](index_t, wide) {}).sums;
  }

  [[nodiscard]] DRO_HOST_DEVICE std::size_t behind_sums() const {
    return base::sums_of(this->scores.cols) * sizeof(wide);
  }

  /// Picks what ranking `draw` lacks, as far as 64 bits go.
  DRO_HOST_DEVICE void draw_one(const mass_sums<wide>& sums, const noise_source& words, index_t draw,
                                slots_in_memory<taken_mass<wide, 1>> taken) const {
    const auto select = static_cast<int>(this->rankings.cols);
    int made = 0;
    while (this->rankings(draw, made) != no_document) ++made;
    draw_by_inversion<1>(
        sums, words, made, select, taken, [&](index_t, int t) { return this->rankings(draw, t); },
        [&](int t, const picks_of_lanes<wide, 1>& pick) { this->rankings(draw, t) = pick.document[0]; });
  }

  /// Picks what it still lacks with the whole team: each pick by masses relative to the largest one that is left.
  /// no_document remains where none is possible. O(n) a pick.
  template <class Team>
  DRO_HOST_DEVICE void draw_with_team(Team& team, index_t query, const noise_source& words, index_t draw,
                                      std::uint64_t* memory, document_t* chosen) const {
    team.barrier();
    team.for_each(this->scores.cols, [&](index_t j) { chosen[j] = 0; });
    team.barrier();
    for (index_t t = 0; t < this->rankings.cols; ++t) {
      document_t pick = this->rankings(draw, t);
      if (pick == no_document) {
        const auto left = sum_all(
            team, [&](index_t j) { return chosen[j] == 0 ? this->scores(query, j) : minus_infinity<T>; }, memory);
        if (left.total() == 0) break;
        const std::uint32_t word = words.words(static_cast<std::uint32_t>(t / 4))[static_cast<std::size_t>(t % 4)];
        pick = static_cast<document_t>(left.document_at(noise::uniform_place(word, left.total())));
      }
      team.barrier();
      if (team.rank() == 0) {
        this->rankings(draw, t) = pick;
        chosen[pick] = 1;
      }
      team.barrier();
    }
  }
};

/// Draws rankings and scores them: those for which 32 bits do a thread each, the others all threads together. `Slots`:
/// the picks of a draw that registers hold, 0 where they are too many.
template <class T, int Slots>
struct plackett_luce_draw_program : plackett_luce_draws<T> {
  using base = plackett_luce_draws<T>;
  using typename base::narrow;
  using typename base::wide;

  explicit plackett_luce_draw_program(const base& draws) : base(draws) {
    const index_t n = draws.scores.cols;
    const index_t staged = Slots > 0 ? draws.width() * draws.rankings.cols * index_t{sizeof(document_t)} : 0;
    sums_at_ = aligned(std::max(n * index_t{sizeof(wide)}, staged));
    masses_at_ = sums_at_ + aligned(mass_sums<narrow>::size(n) * index_t{sizeof(narrow)});
    taken_at_ = masses_at_ + aligned(n * index_t{sizeof(T)});
  }

  // Integer masses [n] and in their place rankings [draws_of_row × K], if these are staged; running sums of 32 bits
  // [mass_sums::size]; masses [n]; where Slots is 0, what picks took [K] for each thread.
  template <class Team>
  std::size_t scratch_bytes(index_t threads) const {
    const auto taken = static_cast<std::size_t>(this->rankings.cols * threads) * sizeof(taken_of<Team>);
    const std::size_t own = taken_at_ + (Slots > 0 ? 0 : taken);
    const std::size_t of_rest = rest().scratch_bytes(threads);
    return own > of_rest ? own : of_rest;
  }
  static constexpr bool lives_in_scratch = true;
  static constexpr index_t items_of_thread = 4;
  static constexpr std::size_t scratch_word = 16;          // what is read at once
  static constexpr int registers = Slots == 10 ? 96 : 72;  // what the rest takes more of lies in memory

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    constexpr index_t together = draws_together<Team>;
    const auto draws = this->range_of(row);
    const masses all = masses_of(team, draws.query);
    const index_t select = this->rankings.cols;
    auto* const staged = team.template scratch<document_t>();
    const row_view<T> log_probs{&this->log_prob(draws.draw, 0), this->log_prob.row_stride};
    bool is_decided = true;
    team.for_each((draws.count + together - 1) / together, [&](index_t tile) {
      const index_t begin = tile * together;
      const index_t lanes = draws.count - begin < together ? draws.count - begin : together;
      const noise_source words = this->source(draws.query, draws.sample + begin);
      const row_view<T> log_q{&log_probs[begin], log_probs.stride};
      const auto draw_to = [&](const matrix_view<document_t>& out) {
        if constexpr (Slots > 0) {
          return draw_lanes<together>(all, words, out, log_q, slots_in_registers<taken_of<Team>, Slots>{});
        } else {
          auto* const taken = team.template scratch<taken_of<Team>>(taken_at_) + team.rank();
          return draw_lanes<together>(all, words, out, log_q, slots_in_memory<taken_of<Team>>{taken, team.size()});
        }
      };
      if constexpr (is_staged<Team>) {
        is_decided &= draw_to(row_major_view(staged + begin * select, lanes, select));
      } else {
        const auto& to = this->rankings;
        is_decided &= draw_to({&to(draws.draw + begin, 0), lanes, select, to.row_stride, to.col_stride});
      }
    });
    if constexpr (is_staged<Team>) {
      team.barrier();
      copy_rankings(team, staged, draws);
    }
    if (!team.any(!is_decided)) return;
    team.barrier();
    rest().decide(team, row);
  }

 private:
  /// What a pick of the draws that a thread works on took away.
  template <class Team>
  using taken_of = taken_mass<narrow, draws_together<Team>>;

  [[nodiscard]] DRO_HOST_DEVICE undecided_draws<T> rest() const { return {static_cast<const base&>(*this)}; }

  struct masses {
    mass_sums<narrow> sums;
    T unit;         // of the sums
    const T* mass;  // [n]
    T least;        // that a pick may have for its ranking to be scored by them; +inf if a score is NaN or +inf
  };
  /// Of the masses as numbers, so that neither they nor what is left are far from 1: both are at most 2^62 before.
  static constexpr T scale = T(0x1p-44);
  /// Masses below this have fewer digits than a float: what is cut off would show. All have fewer than a double.
  static constexpr T exact_enough = sizeof(T) == sizeof(float) ? T(0x1p25) * scale : std::numeric_limits<T>::infinity();
  static constexpr T finite = std::numeric_limits<T>::max();

  static std::size_t aligned(index_t bytes) {
    return (static_cast<std::size_t>(bytes) + scratch_word - 1) / scratch_word * scratch_word;
  }
  // Where in scratch memory something begins, in bytes. Made on the host, since a GPU is slow at it.
  std::size_t sums_at_, masses_at_, taken_at_;

  /// Whether the rankings of a row are written together, since those of neighbouring threads do not lie side by side:
  /// for a GPU five numbers here and five there are as much as whole lines of its memory.
  template <class Team>
  static constexpr bool is_staged = Slots > 0 && !is_one_thread<Team>;

  template <class Team>
  DRO_HOST_DEVICE void copy_rankings(Team& team, const document_t* staged, const typename base::range& draws) const {
    const auto& to = this->rankings;
    const auto select = static_cast<int>(to.cols);
    if (to.col_stride == 1 && to.row_stride == to.cols) {
      copy_to_row(team, draws.count * select, row_view<document_t>{&to(draws.draw, 0), 1}, staged);
    } else {
      team.for_each(draws.count, [&](index_t i) {
        for (int t = 0; t < select; ++t) to(draws.draw + i, t) = staged[i * select + t];
      });
    }
  }

  template <class Team>
  DRO_HOST_DEVICE masses masses_of(Team& team, index_t query) const {
    const index_t n = this->scores.cols;
    T* const mass = team.template scratch<T>(masses_at_);
    bool is_wrong = false;
    const T largest = copy_scores(team, this->scores, query, mass, [&](T score) { is_wrong |= !(score <= finite); });
    team.barrier();
    const auto made = sum_masses<narrow>(
        team, n, largest, team.template scratch<wide>(), team.template scratch<narrow>(sums_at_),
        [mass](index_t j) { return mass[j]; },
        [mass](index_t j, wide own) { mass[j] = scale * static_cast<T>(static_cast<std::int64_t>(own)); });
    return {made.sums, scale * static_cast<T>(std::int64_t{1} << made.shift), mass,
            team.any(is_wrong) ? std::numeric_limits<T>::infinity() : exact_enough};
  }

  /// Rankings from `words` on, written to `out` [size × K], and their `log_probs` [size]; whether all are decided.
  template <index_t width, class Taken>
  DRO_HOST_DEVICE bool draw_lanes(const masses& all, const noise_source& words, const matrix_view<document_t>& out,
                                  const row_view<T>& log_probs, Taken taken) const {
    const index_t size = out.rows;
    const auto select = static_cast<int>(this->rankings.cols);
    document_t* to = out.data;  // for the next pick
    log_of_quotients<T, width> product;
    math::lanes<T, width> least;
    math::lanes<int, width> picked = {};
    for (index_t l = 0; l < width; ++l) least[l] = std::numeric_limits<T>::max();
    draw_by_inversion<width>(
        all.sums, words, 0, select, taken, [](index_t, int) { return no_document; },
        [&](int t, const picks_of_lanes<narrow, width>& pick) {
          math::lanes<T, width> own;
          math::lanes<T, width> left;
          for (index_t l = 0; l < width; ++l) {
            if (width == 1 || l < size) to[l * out.row_stride] = pick.document[l];
          }
          auto place = pick.document;
          pick.replace_where_exhausted(place, document_t{0});
          for (index_t l = 0; l < width; ++l) own[l] = all.mass[place[l]];
          math::convert_lanes(left, pick.left);
          const T unit = all.unit;
          math::for_lanes(left, [unit](auto& y) { y *= unit; });
          math::take_lesser(least, own);
          math::lanes<int, width> is_made;
          for (index_t l = 0; l < width; ++l) is_made[l] = 1;
          pick.replace_where_exhausted(is_made, 0);
          math::for_lanes(
              picked, [](auto& y, const auto& one) { y += one; }, is_made);
          product.multiply_moderate(own, left, t);
          to += out.col_stride;
        });
    math::lanes<T, width> log_q;
    for (index_t l = 0; l < width; ++l) log_q[l] = product.log(l);
    bool all_decided = true;
    for (index_t l = 0; l < width; ++l) {
      if (width > 1 && l >= size) break;
      const bool is_decided = picked[l] == select && least[l] >= all.least;
      all_decided = all_decided && is_decided;
      log_probs[l] = !is_decided ? undecided<T> : log_q[l] < T(0) ? log_q[l] : T(0);
      for (int t = picked[l]; t < select; ++t) out(l, t) = no_document;
    }
    return all_decided;
  }
};

/// Queues the program that makes `draws`.
template <class B, class T>
void run_plackett_luce_draws(B& b, const plackett_luce_draws<T>& draws) {
  with_slots_for(draws.rankings.cols, [&]<int Slots>(std::integral_constant<int, Slots>) {
    b.run(draws.rows(), plackett_luce_draw_program<T, Slots>{draws});
  });
}

}  // namespace dro::detail

#endif
