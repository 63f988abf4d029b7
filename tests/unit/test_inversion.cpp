// SPDX-License-Identifier: Apache-2.0
// Rankings drawn pick by pick, by inversion of integer masses: bit for bit what the definition says, and as often as
// they are likely.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/random/integer_mass.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/inversion.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/log_q_error.hpp"
#include "support/matrices.hpp"

namespace {

using dro::document_t;
using dro::index_t;
using dro::noise_source;
using dro::detail::mass_sums;
using dro::noise::integer_mass;
using test::real;

__extension__ using uint128 = unsigned __int128;

constexpr dro::random_key key{2025, 11};
const bool is_exhaustive = std::getenv("DRO_EXHAUSTIVE") != nullptr;

// The definition ------------------------------------------------------------------------------------------------------

std::uint64_t total_of(const std::vector<std::uint64_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0});
}

/// Masses relative to the largest score of the documents that are not taken.
template <class T>
std::vector<std::uint64_t> masses_of(const std::vector<T>& scores, const std::vector<bool>& taken) {
  T largest = -test::infinity<T>;
  for (std::size_t j = 0; j < scores.size(); ++j) {
    if (!taken[j] && scores[j] > largest) largest = scores[j];
  }
  std::vector<std::uint64_t> masses(scores.size());
  for (std::size_t j = 0; j < scores.size(); ++j) {
    if (taken[j] || !(scores[j] > -test::infinity<T>)) continue;
    const T distance = scores[j] == largest ? T(0) : largest - scores[j];
    masses[j] = integer_mass(distance, dro::noise::mass_bits(std::ssize(scores)));
  }
  return masses;
}

enum class level : std::uint8_t { narrow, wide, anew };

/// A ranking, and how each of its picks was drawn.
struct drawn {
  test::ranking ranking;
  std::vector<level> levels;
};

/// A draw by its definition (plackett_luce_draw.hpp), with nothing but loops over the documents.
template <class T>
drawn by_definition(const std::vector<T>& scores, const noise_source& source, index_t select) {
  std::vector<bool> taken(scores.size());
  std::vector<std::uint64_t> wide = masses_of(scores, taken);
  const int bits = static_cast<int>(std::bit_width(total_of(wide)));
  std::vector<std::uint64_t> narrow;
  for (std::uint64_t end = 0; const std::uint64_t mass : wide) {
    const std::uint64_t begin = end;
    end += mass;
    narrow.push_back((end >> std::max(bits - 32, 0)) - (begin >> std::max(bits - 32, 0)));
  }
  level how = level::narrow;
  drawn result;
  for (index_t t = 0; t < select; ++t) {
    if (how == level::narrow && total_of(narrow) < std::uint64_t{1} << 26U) how = level::wide;
    if (how == level::wide && total_of(wide) < std::uint64_t{1} << 32U) how = level::anew;
    if (how == level::anew) wide = masses_of(scores, taken);
    const std::vector<std::uint64_t>& masses = how == level::narrow ? narrow : wide;
    if (total_of(masses) == 0) break;
    const std::uint32_t word = source.words(static_cast<std::uint32_t>(t / 4))[static_cast<std::size_t>(t % 4)];
    auto place = static_cast<std::uint64_t>(uint128{word} * total_of(masses) >> 32U);
    std::size_t j = 0;
    while (place >= masses[j]) place -= masses[j++];
    taken[j] = true;
    narrow[j] = wide[j] = 0;
    result.ranking.push_back(static_cast<document_t>(j));
    result.levels.push_back(how);
  }
  result.ranking.resize(static_cast<std::size_t>(select), dro::no_document);
  return result;
}

// What draws ----------------------------------------------------------------------------------------------------------

/// A host team whose threads take one draw at a time, as those of a GPU do.
class single_lane_team : public dro::host_team {
 public:
  using dro::host_team::host_team;
};
static_assert(dro::detail::draws_together<single_lane_team> == 1 && dro::detail::draws_together<dro::host_team> > 1);

/// A host backend that runs programs with a Team of the caller's.
template <class Team>
class backend_with_team : public dro::host_backend {
 public:
  template <class Program>
  void run(index_t rows, const Program& program) const {
    const std::size_t bytes = dro::detail::scratch_bytes_of<Team>(program, 1);
    std::vector<std::max_align_t> scratch(bytes / sizeof(std::max_align_t) + 1);
    Team team(reinterpret_cast<std::byte*>(scratch.data()));
    for (index_t row = 0; row < rows; ++row) program(team, row);
  }
};

template <class T>
struct drawn_by_library {
  dro::host_matrix<document_t> rankings;
  dro::host_matrix<T> log_q;
};

template <class B, class T>
drawn_by_library<T> draw(B&& b, const dro::host_matrix<T>& scores, index_t samples, index_t select) {
  const dro::random_state<std::remove_cvref_t<B>> random(b, key.seed, key.step);
  const auto z = dro::draw_plackett_luce(b, write(b, scores), random.source(b), {samples, select});
  return {read(b, z.rankings()), read(b, z.log_proposal())};
}

template <class T>
std::vector<T> scores_of(const dro::host_matrix<T>& table, index_t query) {
  return std::vector<T>(table.data() + query * table.cols(), table.data() + (query + 1) * table.cols());
}

/// Rows of scores on which rounding, ties, gaps and the missing of documents decide.
template <class T>
dro::host_matrix<T> awkward_scores(index_t n) {
  const T inf = test::infinity<T>;
  std::vector<T> all;
  const auto add = [&](auto score) {
    for (index_t j = 0; j < n; ++j) all.push_back(static_cast<T>(score(j)));
  };
  test::numbers next(static_cast<std::uint64_t>(n));
  for (const double scale : {0.1, 1.0, 4.0, 9.0, 16.0, 30.0, 60.0})
    add([&](index_t) { return next.between(-1, 1) * scale; });
  add([&](index_t) { return 0; });
  add([&](index_t) { return std::floor(next.between(-3, 3)) * 8; });                // ties, also of the largest
  add([&](index_t j) { return (j == n / 2 ? 8 : 0) + next.between(-1, 1); });       // one document has nearly all
  add([&](index_t j) { return (j % 9 == 4 ? 14 : 0) + next.between(-1, 1); });      // a few have nearly all
  add([&](index_t j) { return (j % 5 == 1 ? 40 : 0) + next.between(-4, 4) * 3; });  // a fifth has all there is
  add([&](index_t) { return 1e5 + next.between(-2, 2); });
  add([&](index_t) { return next.between(-1, 1) * 1e30; });
  add([&](index_t j) { return j % 3 == 1 ? T(-1e9) : static_cast<T>(next.between(-1, 1)); });  // masked by a number
  add([&](index_t j) { return j % 3 == 1 ? -inf : static_cast<T>(next.between(-9, 9)); });
  add([&](index_t j) { return j == n / 2 ? T(1) : -inf; });
  add([&](index_t) { return -inf; });
  add([&](index_t j) { return j == n / 2 ? test::nan<T> : static_cast<T>(next.between(-9, 9)); });
  add([&](index_t j) { return j % 4 == 2 ? inf : static_cast<T>(next.between(-2, 2)); });
  return test::matrix<T>(std::ssize(all) / n, n, all);
}

/// How many picks were drawn in each of the three ways, and how many draws lacked one.
struct tally {
  std::map<level, index_t> picks;
  index_t incomplete = 0;
};

/// Holds draws of a table of scores against the definition, and a few of each query's log q against the exact ones.
template <class T>
void check_draws(const dro::host_matrix<T>& scores, index_t samples, const drawn_by_library<T>& found, tally& seen) {
  const index_t select = found.rankings.cols();
  index_t wrong = 0;
  for (index_t q = 0; q < scores.rows(); ++q) {
    const std::vector<T> of_query = scores_of(scores, q);
    const real tolerance = test::log_q_error(of_query, select);
    const bool has_log_q = std::all_of(of_query.begin(), of_query.end(), [](T s) { return s < test::infinity<T>; });
    for (index_t i = 0; i < samples; ++i) {
      const noise_source source{key, static_cast<std::uint32_t>(q), static_cast<std::uint32_t>(i)};
      const drawn expected = by_definition(of_query, source, select);
      const index_t row = q * samples + i;
      if (test::ranking_of(found.rankings, row) != expected.ranking) ++wrong;
      for (const level how : expected.levels) ++seen.picks[how];
      if (expected.ranking.back() == dro::no_document) {
        ++seen.incomplete;
        CHECK(found.log_q(row, 0) == -test::infinity<T>);
      } else if (has_log_q && i % 16 < 3) {
        const std::vector<real> exact(of_query.begin(), of_query.end());
        DRO_CHECK_NEAR(found.log_q(row, 0), test::plackett_luce_log_prob(exact, expected.ranking), tolerance);
      }
    }
  }
  CAPTURE(scores.cols());
  CAPTURE(select);
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("bits of masses: as many as n of them leave room for below 2^62") {
  std::vector<index_t> counts(5000);
  std::iota(counts.begin(), counts.end(), 1);
  for (int k = 13; k <= 29; ++k) {  // as far as masses have the 33 bits that integer_mass asks for
    for (const index_t off : {-1, 0, 1}) counts.push_back((index_t{1} << k) + (k < 29 ? off : 0));
  }
  for (const index_t n : counts) {
    CAPTURE(n);
    const int bits = dro::noise::mass_bits(n);
    const bool fits = (uint128{1} << bits) * static_cast<uint128>(n) <= uint128{1} << 62U;
    const bool one_more_would = (uint128{2} << bits) * static_cast<uint128>(n) <= uint128{1} << 62U;
    REQUIRE(fits);
    REQUIRE_FALSE(one_more_would);
    const std::uint64_t most = std::uint64_t{1} << bits;
    REQUIRE(integer_mass(0.0, bits) <= most);
  }
}

namespace {

/// The share of its error bound that integer_mass(x, bits) takes up.
template <class T>
real share_of_error(T x, int bits) {
  const real exact = std::ldexp(std::exp(-static_cast<real>(x)), bits);
  const auto mass = static_cast<real>(integer_mass(x, bits));
  // A relative 2^-26, and the cut, which takes away less than 1.
  return mass > exact ? (mass - exact) / (exact * 0x1p-26L) : (exact - mass) / (exact * 0x1p-26L + 1);
}

}  // namespace

TEST_CASE("integer masses are as near to exponentials as they say") {
  real worst = 0;
  const auto look_at = [&](auto x) {
    for (const int bits : {33, 47, 62}) worst = std::max(worst, share_of_error(x, bits));
  };
  const std::uint32_t end = std::bit_cast<std::uint32_t>(44.25F);
  for (std::uint32_t k = 0; k < end; k += is_exhaustive ? 1 : 1021) look_at(std::bit_cast<float>(k));
  test::numbers next(1);
  for (int k = 0; k < 200000; ++k) look_at(static_cast<double>(next.word() >> 11U) * 0x1p-53 * 44.25);
  // Just below multiples of 2^-26, where most is cut off, and about multiples of ln 2, where the result halves.
  for (int k = 1; k < 64; ++k) {
    const double half = std::floor(k * std::log(2.0) * 0x1p26) * 0x1p-26;
    for (int i = -64; i < 64; ++i) {
      const double x = half + i * 0x1p-26;
      if (x >= 44.25) break;
      look_at(x);
      look_at(std::nextafter(x, 0.0));
      look_at(static_cast<float>(x));
    }
  }
  CHECK(worst <= 1);
  CHECK(worst > 0.9L);  // and the bound is not idle
}

TEST_CASE("integer masses fall with the distance, to nothing, and are the same for float and double") {
  bool falls = true;
  const auto compare = [&](std::int64_t k) {  // neighbouring multiples of 2^-26: between them nothing changes
    const double x = static_cast<double>(k) * 0x1p-26;
    falls = falls && integer_mass(x, 62) >= integer_mass(x + 0x1p-26, 62) &&
            integer_mass(x, 62) == integer_mass(std::nextafter(x + 0x1p-26, 0.0), 62);
  };
  const auto last = static_cast<std::int64_t>(44.25 * 0x1p26) - 1;
  for (std::int64_t k = 0; k < last; k += is_exhaustive ? 1 : 2039) compare(k);
  for (int i = 1; i < 64; ++i) {
    const auto half = static_cast<std::int64_t>(i * std::log(2.0) * 0x1p26);
    for (std::int64_t k = half - 2048; k < std::min(half + 2048, last); ++k) compare(k);
  }
  CHECK(falls);

  for (const int bits : {33, 40, 62}) {
    CHECK(integer_mass(std::nextafter(44.25, 0.0), bits) == 0);
    const double inf = test::infinity<double>;
    for (const double x : {44.25, 44.5, 1e3, 0x1p37, 0x1p38, 1e30, 1e308, inf, test::nan<double>}) {
      CHECK(integer_mass(x, bits) == 0);
      CHECK(integer_mass(static_cast<float>(x), bits) == 0);
    }
    bool equal = true;
    for (std::uint32_t k = 0; k < std::bit_cast<std::uint32_t>(45.0F); k += 10007) {
      const auto x = std::bit_cast<float>(k);
      equal = equal && integer_mass(x, bits) == integer_mass(static_cast<double>(x), bits);
    }
    CHECK(equal);
  }
}

TEST_CASE("a uniform place is the upper part of the exact product") {
  test::numbers next(2);
  std::vector<std::uint32_t> words = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
  std::vector<std::uint64_t> masses = {0, 1, 0xFFFFFFFF, 0x100000000, (std::uint64_t{1} << 63U) - 1};
  for (int k = 0; k < 200; ++k) {
    words.push_back(static_cast<std::uint32_t>(next.word()));
    masses.push_back(next.word() >> (1 + k % 63));
  }
  for (const std::uint32_t word : words) {
    for (const std::uint64_t mass : masses) {
      const auto exact = static_cast<std::uint64_t>(uint128{word} * mass >> 32U);
      REQUIRE(dro::noise::uniform_place(word, mass) == exact);
      if (mass >> 32U == 0) REQUIRE(dro::noise::uniform_place(word, static_cast<std::uint32_t>(mass)) == exact);
    }
  }
  for (unsigned k = 0; k < 64; ++k) {
    CHECK(dro::noise::bit_width(std::uint64_t{1} << k) == static_cast<int>(k) + 1);
    CHECK(dro::noise::bit_width((std::uint64_t{1} << k) - 1) == static_cast<int>(k));
  }
}

namespace {

/// 0 and the sums of `sizes`, with room for a search.
template <class Word>
std::vector<Word> running_sums(const std::vector<Word>& sizes) {
  std::vector<Word> sums(static_cast<std::size_t>(mass_sums<Word>::size(std::ssize(sizes))), mass_sums<Word>::beyond);
  sums[0] = 0;
  std::partial_sum(sizes.begin(), sizes.end(), sums.begin() + 1);
  return sums;
}

}  // namespace

TEST_CASE_TEMPLATE("the document at a place is the one that a linear search finds", Word, std::uint32_t,
                   std::uint64_t) {
  test::numbers next(3);
  std::vector<index_t> counts(200);
  std::iota(counts.begin(), counts.end(), 1);
  counts.insert(counts.end(), {255, 256, 257, 1000, 1023, 1024, 1025});
  for (const index_t n : counts) {
    CAPTURE(n);
    for (const unsigned nothing : {0U, 1U, 3U, 15U}) {  // a sixteenth of the documents has no mass, or nearly all
      std::vector<Word> sizes;
      for (index_t j = 0; j < n; ++j) {
        const std::uint64_t word = next.word();
        sizes.push_back((word & 15U) < nothing ? Word{0} : static_cast<Word>(word >> (sizeof(Word) == 4 ? 43U : 13U)));
      }
      const std::vector<Word> all = running_sums(sizes);
      const mass_sums<Word> sums(all.data(), n);
      const std::span<const Word> ends = std::span(all).subspan(1);
      const Word total = ends[static_cast<std::size_t>(n - 1)];
      REQUIRE(sums.total() == total);
      std::uint32_t expected = 0;
      const auto look_at = [&](Word place) {  // places rise
        while (ends[expected] <= place) ++expected;
        REQUIRE(sums.document_at(place) == expected);
        REQUIRE(sums.begin(expected) <= place);
        REQUIRE(place < sums.end(expected));
      };
      for (std::size_t j = 0; j < sizes.size(); ++j) {
        if (sizes[j] == 0) continue;
        look_at(ends[j] - sizes[j]);
        look_at(ends[j] - sizes[j] / 2 - 1);
        look_at(ends[j] - 1);
      }
    }
  }
}

TEST_CASE_TEMPLATE("a second pick beside what the first one took: no place is lost, none is counted twice", Word,
                   std::uint32_t, std::uint64_t) {
  // Three documents. The first pick takes the second of them; that one's begin is laid exactly where the second pick's
  // place in what is left will be, which then belongs to the third document, or one further on, and it is the first's.
  const Word total = Word{1} << (sizeof(Word) == 4 ? 31U : 61U);
  index_t tried = 0;
  for (std::uint32_t sample = 0; sample < 64; ++sample) {
    const noise_source source{key, 0, sample};
    const dro::random_words words = source.words(0);
    const Word first_place = dro::noise::uniform_place(words[0], total);
    const Word size = total / 2;
    const Word second_place = dro::noise::uniform_place(words[1], static_cast<Word>(total - size));
    for (const Word further : {Word{0}, Word{1}}) {
      const Word begin = second_place + further;
      if (first_place < begin || first_place - begin >= size) continue;
      const std::vector<Word> sums = running_sums(std::vector<Word>{begin, size, total - size - begin});
      test::ranking picks;
      dro::detail::draw_by_inversion<1>(
          mass_sums<Word>(sums.data(), 3), source, 0, 2,
          dro::detail::slots_in_registers<dro::detail::taken_mass<Word, 1>, 2>{},
          [](index_t, int) { return dro::no_document; },
          [&](int, const dro::detail::picks_of_lanes<Word, 1>& pick) { picks.push_back(pick.document[0]); });
      CHECK(picks == test::ranking{1, further == 0 ? 2 : 0});
      ++tried;
    }
  }
  CHECK(tried > 16);
}

TEST_CASE_TEMPLATE("draws are what their definition says, in eight lanes and one at a time, for any scores", T, float,
                   double) {
  test::numbers next(4);
  tally seen;
  for (index_t n = 1; n <= 70; ++n) {
    if (n > 34 && n % 6 > 0 && n != 63 && n != 64 && n != 65) continue;  // the definition takes O(n²)
    const auto scores = awkward_scores<T>(n);
    const auto any = 1 + static_cast<index_t>(next.word() % static_cast<std::uint64_t>(n));
    for (const index_t select : {std::min<index_t>(n, 1 + n % 12), any, n}) {
      constexpr index_t samples = 21;  // not a multiple of 8, nor of 16
      const auto together = draw(dro::host_backend(1), scores, samples, select);
      check_draws(scores, samples, together, seen);
      const auto alone = draw(backend_with_team<single_lane_team>(), scores, samples, select);
      CHECK(test::same(together.rankings, alone.rankings));
    }
  }
  // Each of the ways was gone, often.
  CHECK(seen.picks[level::narrow] > 10000);
  CHECK(seen.picks[level::wide] > 10000);
  CHECK(seen.picks[level::anew] > 10000);
  CHECK(seen.incomplete > 1000);
}

TEST_CASE("rankings are written to wherever their matrix has them") {
  constexpr index_t samples = 20;
  const auto scores = awkward_scores<float>(33);
  for (const index_t select : {1, 5, 8, 12}) {
    CAPTURE(select);
    dro::concurrent_backend b(3);
    const auto expected = draw(b, scores, samples, select);
    const index_t rows = expected.rankings.rows();
    // Column by column, with gaps.
    constexpr document_t untouched = 77;
    std::vector<document_t> rankings(static_cast<std::size_t>(2 * rows * select), untouched);
    std::vector<float> log_q(static_cast<std::size_t>(3 * rows), 77);
    const auto s = write(b, scores);
    const dro::random_state<dro::concurrent_backend> random(b, key.seed, key.step);
    dro::detail::run_plackett_luce_draws(
        b, dro::detail::plackett_luce_draws<float>{std::as_const(b).view(s),
                                                   {rankings.data(), rows, select, 2, 2 * rows},
                                                   {log_q.data(), rows, 1, 3, 1},
                                                   samples,
                                                   random.source(b)});
    b.synchronise();
    for (index_t i = 0; i < rows; ++i) {
      for (index_t t = 0; t < select; ++t) {
        const auto place = static_cast<std::size_t>(2 * i + 2 * rows * t);
        REQUIRE(rankings[place] == expected.rankings(i, t));
        REQUIRE(rankings[place + 1] == untouched);
      }
      const float own = log_q[static_cast<std::size_t>(3 * i)];
      REQUIRE((own == expected.log_q(i, 0) || (std::isnan(own) && std::isnan(expected.log_q(i, 0)))));
    }
  }
}

TEST_CASE_TEMPLATE("draws are what their definition says, by teams of several threads", T, float, double) {
  tally seen;
  for (const auto& [n, select] : {std::pair<index_t, index_t>{1, 1}, {7, 7}, {33, 5}, {70, 12}}) {
    const auto scores = awkward_scores<T>(n);
    for (const int size : {2, 3, 5}) {
      check_draws(scores, 20, draw(dro::concurrent_backend(size), scores, 20, select), seen);
    }
  }
}

TEST_CASE_TEMPLATE("draws among many documents are what their definition says", T, float, double) {
  tally seen;
  for (const auto& [n, select] : {std::pair<index_t, index_t>{1000, 17}, {4200, 3}}) {
    const auto scores = awkward_scores<T>(n);
    check_draws(scores, 4, draw(dro::host_backend(1), scores, 4, select), seen);
    check_draws(scores, 4, draw(dro::concurrent_backend(3), scores, 4, select), seen);
  }
}

TEST_CASE("a document whose integer mass has few digits is scored all the same") {
  // A mass of 3.7 is 3 as an integer. Less than a unit of 32-bit sums, its document is drawn where the sum before it
  // ends just short of a unit that it completes. Documents 0 … 5 are fitted, from the heaviest to the lightest, so that
  // the place which the first word of noise stands for is that unit.
  constexpr index_t n = 8;
  constexpr document_t light = 6;
  constexpr index_t fitted = 6;
  std::vector<float> scores = {-1, -7, -13, -19, -25, -31, 0, 0};
  const int bits = dro::noise::mass_bits(n);
  scores[light] = static_cast<float>(-std::log(std::ldexp(1 / 3.7, bits)));
  REQUIRE(integer_mass(-scores[light], bits) == 3);
  std::uint32_t sample = 0;
  const auto word = [&] { return noise_source{key, 0, sample}.words(0)[0]; };
  while (word() < 0x50000000 || word() > 0x60000000) ++sample;  // about a third of the mass
  const noise_source source{key, 0, sample};
  const auto first_pick = [&] { return by_definition(scores, source, 1).ranking[0]; };
  REQUIRE(first_pick() == n - 1);  // so documents before it may be heavier
  for (std::size_t j = 0; j < fitted && first_pick() != light; ++j) {
    // The largest score that leaves the place behind the light document; the next float would pass over it.
    float low = scores[j];
    float high = scores[j] + 0.75F;
    while (std::nextafter(low, high) < high) {
      scores[j] = low + (high - low) / 2;
      (first_pick() >= light ? low : high) = scores[j];
      if (first_pick() == light) break;
    }
    if (first_pick() != light) scores[j] = low;
  }
  REQUIRE(first_pick() == light);
  const auto table = test::matrix<float>(1, n, scores);
  const auto samples = static_cast<index_t>(sample) + 1;
  for (const index_t select : {index_t{1}, n}) {
    const auto found = draw(dro::host_backend(1), table, samples, select);
    CHECK(found.rankings(samples - 1, 0) == light);
    const auto z = test::ranking_of(found.rankings, samples - 1);
    DRO_CHECK_NEAR(found.log_q(samples - 1, 0), test::plackett_luce_log_prob(test::row(table, 0), z),
                   test::log_q_error(scores, select));
  }
}

TEST_CASE_TEMPLATE("rankings are as frequent as they are likely, on each of the three ways", T, float, double) {
  constexpr index_t samples = 48000;
  constexpr index_t select = 4;
  struct example {
    level how;       // of the picks among the last four documents
    document_t far;  // so many documents come first
    std::vector<double> scores;
  };
  for (const example& e : {example{level::narrow, 0, {0.5, -1, 1.25, 0}},
                           {level::wide, 1, {16, 0.5, -1, 1.25, 0}},
                           {level::wide, 2, {16.5, 17, 0.5, -1, 1.25, 0}},
                           {level::anew, 1, {25, 0.5, -1, 1.25, 0}},
                           {level::anew, 2, {80.5, 80, 0.5, -1, 1.25, 0}}}) {
    const auto n = std::ssize(e.scores);
    const auto table = test::matrix<T>(1, n, e.scores);
    for (index_t i = 0; i < 16; ++i) {
      const auto levels = by_definition(scores_of(table, 0), {key, 0, static_cast<std::uint32_t>(i)}, select).levels;
      REQUIRE(levels[static_cast<std::size_t>(e.far)] == e.how);
    }
    // Those that do not begin with the far ones: below 48000 · 2e-6 of them are to be expected, and more than 3 come
    // with a probability below 4e-6.
    std::map<test::ranking, real> probability;
    for (const auto& z : test::all_rankings(n, select)) {
      if (*std::max_element(z.begin(), z.begin() + e.far + (e.far == 0)) < e.far || e.far == 0) {
        probability[z] = std::exp(test::plackett_luce_log_prob(test::row(table, 0), z));
      }
    }
    const auto found = draw(dro::host_backend(1), table, samples, select);
    std::map<test::ranking, std::size_t> counts;
    std::size_t others = 0;
    for (index_t i = 0; i < samples; ++i) {
      const auto z = test::ranking_of(found.rankings, i);
      ++(probability.count(z) != 0 ? counts[z] : others);
    }
    CAPTURE(e.scores[0]);
    CHECK(others <= 3);
    CHECK(test::chi_square(counts, probability, samples) < test::chi_square_bound(probability.size() - 1));
  }
}

TEST_CASE_TEMPLATE("log q of draws is what plackett_luce_log_prob gives for them", T, float, double) {
  for (const index_t n : {1, 5, 20, 70}) {
    for (const double scale : {0.1, 2.0, 12.0, 60.0}) {
      constexpr index_t samples = 40;
      const index_t select = std::min<index_t>(n, 5);
      auto scores = test::random_matrix<T>(3, n, -scale, scale, static_cast<std::uint64_t>(n));
      dro::host_backend b(1);
      const auto found = draw(b, scores, samples, select);
      dro::host_matrix<T> log_p(3 * samples, 1);
      dro::plackett_luce_log_prob(b, scores, std::as_const(b).view(found.rankings), dro::grouping::uniform(3, samples),
                                  b.view(log_p));
      if constexpr (sizeof(T) > sizeof(float)) CHECK(test::same(found.log_q, log_p));
      for (index_t i = 0; i < 3 * samples; ++i) {  // float is scored by integer masses, off by an error of their own
        CHECK(found.log_q(i, 0) <= T(0));
        DRO_CHECK_NEAR(found.log_q(i, 0), log_p(i, 0), 2 * test::log_q_error(scores_of(scores, i / samples), select));
      }
    }
  }
}

TEST_CASE_TEMPLATE("what is certain has a log q of 0 and never more", T, float, double) {
  dro::host_matrix<T> one(40, 1);
  for (index_t q = 0; q < 40; ++q) one(q, 0) = static_cast<T>(static_cast<double>(q - 20) * 1.37);
  const auto alone = draw(dro::host_backend(1), one, 3, 1);
  for (index_t i = 0; i < 120; ++i) CHECK(alone.log_q(i, 0) == T(0));
  // One document has all but some 2^-25 of the mass: log q is within its error of 0, on this side.
  for (index_t n = 2; n < 40; ++n) {
    auto scores = test::random_matrix<T>(20, n, -1, 1, 81);
    for (index_t q = 0; q < 20; ++q) scores(q, n / 2) += T(17);
    const auto found = draw(dro::host_backend(1), scores, 4, 1);
    for (index_t i = 0; i < 80; ++i) CHECK(found.log_q(i, 0) <= T(0));
  }
}

TEST_CASE_TEMPLATE("log q is NaN where a score is NaN or +inf", T, float, double) {
  for (const T wrong : {test::nan<T>, test::infinity<T>}) {
    auto scores = test::random_matrix<T>(3, 9, -1, 1, 82);
    scores(1, 4) = wrong;
    for (const index_t select : {index_t{1}, index_t{3}, index_t{8}}) {
      const auto found = draw(dro::host_backend(1), scores, 21, select);
      for (index_t i = 0; i < 63; ++i) CHECK(std::isnan(found.log_q(i, 0)) == (i / 21 == 1));
    }
  }
}

TEST_CASE_TEMPLATE("log q of a draw does not depend on what other samples drew", T, float, double) {
  // Where 30 documents with all mass but a 70th come first, the next pick is left to the second program: with a
  // probability of Π k / (k + 0.43) = 0.2, so it is for some of nearly every 16 samples that are drawn together.
  constexpr index_t heavy = 30;
  constexpr index_t select = heavy + 1;
  auto scores = test::random_matrix<T>(30, heavy + 3, -0.01, 0.01, 83);
  for (index_t q = 0; q < scores.rows(); ++q) {
    for (index_t j = heavy; j < heavy + 3; ++j) scores(q, j) -= T(1.94);
  }
  const auto together = draw(dro::host_backend(1), scores, 16, select);
  index_t left_over = 0;
  for (index_t row = 0; row < 480; ++row) {
    const auto z = test::ranking_of(together.rankings, row);
    left_over += *std::max_element(z.begin(), z.end() - 1) < heavy ? 1 : 0;
  }
  CHECK(left_over > 480 / 10);
  CHECK(left_over < 480 / 3);
  for (const index_t samples : {1, 3, 9}) {
    const auto fewer = draw(dro::host_backend(1), scores, samples, select);
    for (index_t q = 0; q < scores.rows(); ++q) {
      for (index_t i = 0; i < samples; ++i) {
        CHECK(fewer.log_q(q * samples + i, 0) == together.log_q(q * 16 + i, 0));
      }
    }
  }
}

TEST_CASE("more documents than masses are made for are refused") {
  CHECK_NOTHROW(dro::require_drawable({1, 1}, index_t{1} << 29));
  CHECK_THROWS_WITH_AS(dro::require_drawable({1, 1}, (index_t{1} << 29) + 1),
                       "documents is 536870913, expected at most 536870912", dro::option_error);
}

TEST_CASE_TEMPLATE("fewer possible documents than picks: what there is, then no document, and log q is −inf", T, float,
                   double) {
  const T inf = test::infinity<T>;
  for (const T far : {T(0), T(10), T(30), T(1000)}) {  // drawn on each of the ways
    const auto scores = test::matrix<T>(1, 6, std::vector<T>{-inf, 0, far, -inf, test::nan<T>, -inf});
    for (const index_t select : {index_t{3}, index_t{6}}) {
      const auto found = draw(dro::host_backend(1), scores, 20, select);
      for (index_t i = 0; i < 20; ++i) {
        test::ranking z = test::ranking_of(found.rankings, i);
        std::sort(z.begin(), z.begin() + 2);
        test::ranking expected(static_cast<std::size_t>(select), dro::no_document);
        expected[0] = 1;
        expected[1] = 2;
        CHECK(z == expected);
        CHECK(found.log_q(i, 0) == -inf);
      }
    }
  }
}
