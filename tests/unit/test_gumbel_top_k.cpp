// SPDX-License-Identifier: Apache-2.0
// Rankings drawn by estimated keys are those of the exact keys, in every lane, for every kind of scores.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/random/noise_estimate.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/philox_lanes.hpp>
#include <dro/ranking/gumbel_top_k.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"
#include "support/noise_estimate_error.hpp"

namespace {

using dro::document_t;
using dro::index_t;
using dro::joint_noise;
using dro::noise_kind;
using dro::noise_source;
using dro::detail::estimated_keys;
using test::real;

constexpr dro::random_key key{2025, 11};

/// The noise of each document in one sample, at full precision.
template <class T>
std::vector<T> exact_noise(const noise_source& source, index_t documents) {
  std::vector<T> noise;
  for (index_t j = 0; j < documents; ++j) noise.push_back(source.gumbel<T>(static_cast<std::uint32_t>(j)));
  return noise;
}

/// What a draw is by definition: documents in descending order of fl(score + noise), the smaller number first among
/// equals, without keys of NaN and −inf.
template <class T>
test::ranking exact_ranking(const std::vector<T>& scores, const noise_source& source, index_t select) {
  const std::vector<T> noise = exact_noise<T>(source, std::ssize(scores));
  std::vector<T> keys(scores.size());
  test::ranking order;
  for (std::size_t j = 0; j < scores.size(); ++j) {
    keys[j] = scores[j] + noise[j];
    if (keys[j] > -test::infinity<T>) order.push_back(static_cast<document_t>(j));
  }
  std::sort(order.begin(), order.end(), [&](document_t a, document_t b) {
    const T first = keys[static_cast<std::size_t>(a)];
    const T second = keys[static_cast<std::size_t>(b)];
    return first > second || (first == second && a < b);
  });
  order.resize(static_cast<std::size_t>(select), dro::no_document);
  return order;
}

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
    std::size_t bytes = 0;
    if constexpr (requires { program.scratch_bytes(); }) bytes = program.scratch_bytes();
    std::vector<std::max_align_t> scratch(bytes / sizeof(std::max_align_t) + 1);
    Team team(reinterpret_cast<std::byte*>(scratch.data()));
    for (index_t row = 0; row < rows; ++row) program(team, row);
  }
};

/// Score rows on which rounding, ties and the missing of documents decide.
template <class T>
std::vector<std::vector<T>> awkward_scores(index_t n) {
  const T inf = test::infinity<T>;
  std::vector<std::vector<T>> rows;
  const auto add = [&](auto score) {
    std::vector<T> row;
    for (index_t j = 0; j < n; ++j) row.push_back(static_cast<T>(score(j)));
    rows.push_back(std::move(row));
  };
  test::numbers next(static_cast<std::uint64_t>(n));
  add([](index_t) { return 0; });
  add([&](index_t) { return next.between(-4, 4); });
  add([&](index_t) { return next.between(-60, 60); });
  add([&](index_t) { return 1e5 + next.between(-2, 2); });   // in float the keys are multiples of 2^-7: ties
  add([&](index_t) { return -3e6 + next.between(-2, 2); });  // multiples of 1/4
  add([&](index_t) { return next.between(-1, 1) * 1e30; });
  add([&](index_t j) { return j % 3 == 1 ? T(-1e9) : static_cast<T>(next.between(-1, 1)); });  // masked by a number
  add([&](index_t j) { return j % 3 == 1 ? -inf : static_cast<T>(next.between(-1, 1)); });
  add([&](index_t j) { return j == n / 2 ? T(1) : -inf; });
  add([&](index_t) { return -inf; });
  add([&](index_t j) { return j == n / 2 ? test::nan<T> : static_cast<T>(next.between(-1, 1)); });
  add([&](index_t j) { return j % 4 == 2 ? inf : T(0); });
  return rows;
}

/// For each sample the ranking by estimated keys, and which were certain.
struct estimated {
  std::vector<test::ranking> rankings;
  std::vector<bool> certain;
};

/// `widen` changes the errors of the keys.
template <index_t Lanes, class T, class Widen>
estimated by_estimates(const std::vector<T>& scores, std::uint32_t query, index_t samples, index_t select,
                       const joint_noise& joint, Widen widen) {
  const index_t n = std::ssize(scores);
  const T largest = *std::max_element(scores.begin(), scores.end());
  std::vector<float> relative(static_cast<std::size_t>((n + 3) / 4 * 4), estimated_keys::none);
  for (std::size_t j = 0; j < scores.size(); ++j) relative[j] = dro::detail::relative_score(scores[j], largest);
  estimated_keys keys(n, largest);
  widen(keys);
  estimated result;
  result.rankings.assign(static_cast<std::size_t>(samples), test::ranking(static_cast<std::size_t>(select)));
  result.certain.resize(static_cast<std::size_t>(samples));
  for (index_t first = 0; first < samples; first += Lanes) {
    dro::math::lanes<bool, Lanes> certain{};
    dro::detail::with_slots(select, joint, [&](auto slots, auto is_joint) {
      dro::detail::estimated_top_k<decltype(slots)::value, decltype(is_joint)::value>(
          relative.data(), n, keys, noise_source{key, query, static_cast<std::uint32_t>(first), joint}, select, certain,
          [&](index_t l, index_t t, document_t j) {
            result.rankings[static_cast<std::size_t>(first + l)][static_cast<std::size_t>(t)] = j;
          });
    });
    for (index_t l = 0; l < Lanes; ++l) result.certain[static_cast<std::size_t>(first + l)] = certain[l];
  }
  return result;
}

/// Of `samples` estimated rankings, how many were certain, and how many of those were wrong.
struct verdict {
  index_t certain = 0;
  index_t wrong = 0;
};
template <index_t Lanes, class T, class Widen>
verdict judge(const std::vector<T>& scores, std::uint32_t query, index_t samples, index_t select,
              const joint_noise& joint, Widen widen) {
  const estimated found = by_estimates<Lanes>(scores, query, samples, select, joint, widen);
  verdict v;
  for (index_t i = 0; i < samples; ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (!found.certain[k]) continue;
    ++v.certain;
    const noise_source source{key, query, static_cast<std::uint32_t>(i), joint};
    if (found.rankings[k] != exact_ranking(scores, source, select)) ++v.wrong;
  }
  return v;
}

constexpr auto as_proven = [](estimated_keys&) {};

}  // namespace

TEST_CASE("estimated Gumbel noise is as near to the exact as it says") {
  dro::host_backend b(1);
  constexpr index_t count = 4096;  // words a row
  const bool all = std::getenv("DRO_EXHAUSTIVE") != nullptr;
  const auto worst_of = [&](index_t rows) {
    dro::host_matrix<float> worst(rows, 1);
    b.run(rows, test::noise_estimate_error_program{b.view(worst), count});
    return *std::max_element(worst.data(), worst.data() + rows);
  };
  if (all) {
    CHECK(worst_of((index_t{1} << 32U) / count) <= dro::noise::gumbel_estimate_error);
  } else {
    // The first words, then 2^20 over the whole range, then those about every power of two from either end, where the
    // arguments of the two logarithms are split differently.
    CHECK(worst_of(16) <= dro::noise::gumbel_estimate_error);
    float worst = 0;
    const auto look_at = [&](std::uint64_t h) {
      const auto word = static_cast<std::uint32_t>(h);
      const float error = std::abs(dro::noise::gumbel_estimate(word) - dro::noise::gumbel<float>(word));
      worst = error <= worst ? worst : error;  // NaN stays
    };
    for (std::uint64_t h = 0; h < std::uint64_t{1} << 32U; h += 4093) look_at(h);
    for (unsigned bit = 4; bit < 32; ++bit) {
      for (std::uint64_t i = 0; i < 2048; ++i) {
        const std::uint64_t near = (std::uint64_t{1} << bit) + i - (bit > 11 ? 1024 : 0);
        look_at(near);
        look_at(~near);
      }
    }
    // e^-g is 2^k √½ at the other break points, v = exp(−2^k √½).
    for (int k = -33; k < 5; ++k) {
      const double v = std::exp(-std::ldexp(std::sqrt(0.5), k));
      const auto h = static_cast<std::uint64_t>(v * 0x1p32);
      for (std::uint64_t i = 0; i < 64; ++i) look_at(h + i - 32);
    }
    CHECK(worst <= dro::noise::gumbel_estimate_error);
    CHECK(worst > dro::noise::gumbel_estimate_error / 2);  // and the bound is not idle
  }
}

TEST_CASE("lanes of Philox and of a noise source are the blocks of their samples") {
  dro::math::lanes<std::uint32_t, 8> samples{};
  for (index_t l = 0; l < 8; ++l) samples[l] = static_cast<std::uint32_t>(0xfffffffdU + 3 * l);
  const dro::philox_key philox_key{{0xa4093822U, 0x299f31d0U}};
  dro::math::lanes<std::uint32_t, 8> out[4];
  dro::philox_lanes(0x243f6a88U, samples, 0x13198a2eU, 0x03707344U, philox_key, out);
  for (index_t l = 0; l < 8; ++l) {
    const auto one = dro::philox({{0x243f6a88U, samples[l], 0x13198a2eU, 0x03707344U}}, philox_key);
    for (std::size_t k = 0; k < 4; ++k) CHECK(out[k][l] == one[k]);
  }
  for (const joint_noise& joint :
       {joint_noise{}, joint_noise{noise_kind::antithetic}, joint_noise{noise_kind::latin_hypercube, 4}}) {
    const noise_source first{key, 3, 16, joint};
    first.words<true>(5, out);
    for (std::uint32_t l = 0; l < 8; ++l) {
      const auto words = noise_source{key, 3, 16 + l, joint}.words(5);
      for (std::size_t k = 0; k < 4; ++k) CHECK(out[k][static_cast<index_t>(l)] == words[k]);
    }
    dro::math::lanes<std::uint32_t, 1> alone[4];
    first.words<true>(5, alone);
    for (std::size_t k = 0; k < 4; ++k) CHECK(alone[k][0] == out[k][0]);
  }
}

TEST_CASE_TEMPLATE("what estimates make certain is the exact ranking, in eight lanes and in one", T, float, double) {
  const joint_noise antithetic{noise_kind::antithetic};
  std::uint32_t query = 0;
  for (const auto& [n, select] : {std::pair<index_t, index_t>{1, 1},
                                  {2, 1},
                                  {5, 5},
                                  {20, 5},
                                  {23, 23},
                                  {64, 9},
                                  {100, 10},
                                  {300, 3},
                                  {1000, 17},
                                  {4096, 2}}) {
    const index_t samples = n > 200 ? 16 : 160;
    for (const auto& scores : awkward_scores<T>(n)) {
      CAPTURE(n);
      CAPTURE(query);
      const verdict eight = judge<8>(scores, query, samples, select, antithetic, as_proven);
      const verdict one = judge<1>(scores, query, samples, select, {}, as_proven);
      CHECK(eight.wrong == 0);
      CHECK(one.wrong == 0);
      ++query;
    }
  }
  // Scores a few nats apart: nearly every sample is certain (the gap after the t-th largest key is exponential with
  // mean 1/t, so one of the first K is below twice the error of a key, about 2^-15, with probability K² 2^-15).
  test::numbers next(8);
  std::vector<T> scores;
  for (index_t j = 0; j < 20; ++j) scores.push_back(static_cast<T>(next.between(-3, 3)));
  CHECK(judge<8>(scores, 500, 4000, 5, {}, as_proven).certain > 3960);
  CHECK(judge<1>(scores, 501, 4000, 5, {}, as_proven).certain > 3960);
  scores.resize(4);  // fewer documents than the list has slots
  CHECK(judge<8>(scores, 502, 4000, 3, {}, as_proven).certain > 3960);
}

TEST_CASE("lanes do not know of each other") {
  test::numbers next(9);
  std::vector<float> scores;
  for (index_t j = 0; j < 37; ++j) scores.push_back(static_cast<float>(next.between(-3, 3)));
  for (const index_t select : {1, 2, 3, 5, 6, 10, 11, 15, 16, 31, 32, 37}) {
    CAPTURE(select);
    const estimated eight = by_estimates<8>(scores, 7, 64, select, {}, as_proven);
    const estimated one = by_estimates<1>(scores, 7, 64, select, {}, as_proven);
    CHECK(eight.rankings == one.rankings);
  }
}

TEST_CASE("a smaller error than the proven one lets wrong rankings pass, a larger one none at all") {
  test::numbers next(10);
  std::vector<float> scores;
  for (index_t j = 0; j < 100; ++j) scores.push_back(static_cast<float>(next.between(-1, 1)));
  const verdict careless = judge<8>(scores, 20, 20000, 10, {}, [](estimated_keys& keys) {
    keys.absolute = 0;
    keys.relative = 0;
  });
  CHECK(careless.certain == 20000);
  CHECK(careless.wrong > 0);
  // Each of the two parts is needed.
  std::vector<float> far(scores);
  for (float& s : far) s += 3e4F;
  CHECK(judge<8>(far, 21, 4000, 10, {}, [](estimated_keys& keys) { keys.absolute = 3e-5F; }).wrong > 0);
  std::vector<float> one_ahead(scores);
  one_ahead[50] += 60;  // the others' keys are near −60, where a float holds less beside the document's number
  CHECK(judge<8>(one_ahead, 22, 20000, 10, {}, [](estimated_keys& keys) { keys.relative = 0; }).wrong > 0);
  const auto wide = [](estimated_keys& keys) { keys.absolute = 100; };
  CHECK(judge<8>(scores, 23, 64, 10, {}, wide).certain == 0);
}

TEST_CASE_TEMPLATE("draws are the exact rankings whatever takes them: lanes, one at a time, any scores", T, float,
                   double) {
  for (const auto& [n, select] :
       {std::pair<index_t, index_t>{1, 1}, {4, 4}, {20, 5}, {33, 17}, {40, 40}, {130, 10}, {4200, 3}}) {
    const index_t samples = n > 1000 ? 4 : 44;  // more than are worked on at once, and not a multiple of the lanes
    const auto rows = awkward_scores<T>(n);
    dro::host_matrix<T> scores(std::ssize(rows), n);
    for (std::size_t q = 0; q < rows.size(); ++q) {
      std::copy(rows[q].begin(), rows[q].end(), &scores(static_cast<index_t>(q), 0));
    }
    for (const joint_noise& joint : {joint_noise{}, joint_noise{noise_kind::latin_hypercube, 4}}) {
      const auto solve = [&](auto&& b) {
        const dro::random_state<std::remove_cvref_t<decltype(b)>> random(b, key.seed, key.step);
        auto z = dro::draw_plackett_luce(b, scores, random.source(b), {samples, select}, {.noise = joint});
        return std::pair(read(b, z.rankings()), read(b, z.log_proposal()));
      };
      const auto [rankings, log_p] = solve(dro::host_backend(1));
      const auto [alone, log_alone] = solve(backend_with_team<single_lane_team>());
      CHECK(test::same(rankings, alone));
      index_t wrong = 0;
      for (index_t draw = 0; draw < rankings.rows(); ++draw) {
        const index_t q = draw / samples;
        const noise_source source{key, static_cast<std::uint32_t>(q), static_cast<std::uint32_t>(draw % samples),
                                  joint};
        const auto expected = exact_ranking(rows[static_cast<std::size_t>(q)], source, select);
        if (test::ranking_of(rankings, draw) != expected) ++wrong;
        // The same sums in the same order; only contraction into FMA could differ, by a rounding in each of the K
        // terms.
        const real size = std::max<real>(1, std::abs(static_cast<real>(log_p(draw, 0))));
        const bool both_nan = std::isnan(log_p(draw, 0)) && std::isnan(log_alone(draw, 0));
        if (!both_nan) {
          DRO_CHECK_NEAR(log_alone(draw, 0), log_p(draw, 0),
                         static_cast<real>(8 * select) * test::unit_roundoff<T> * size);
        }
      }
      CAPTURE(n);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE_TEMPLATE("keys that tie, or differ by their last bit, are told apart by the exact noise", T, float, double) {
  // The noise is a multiple of 2^-19 below 23 in magnitude, so −noise is exact, and so are small multiples of 2^-19 on
  // top of it: every key is the number that was aimed at.
  constexpr index_t n = 12;
  constexpr index_t select = 5;
  const noise_source source{key, 0, 0};
  const std::vector<T> noise = exact_noise<T>(source, n);
  const auto draw = [&](auto target) {
    dro::host_backend b(1);
    dro::host_matrix<T> scores(1, n);
    for (index_t j = 0; j < n; ++j) scores(0, j) = static_cast<T>(target(j)) - noise[static_cast<std::size_t>(j)];
    const dro::random_state<dro::host_backend> random(b, key.seed, key.step);
    const auto z = dro::draw_plackett_luce(b, scores, random.source(b), {1, select});
    const auto row = test::row(scores, 0);
    const auto found = by_estimates<8>(std::vector<T>(row.begin(), row.end()), 0, 8, select, {}, as_proven);
    CHECK_FALSE(found.certain[0]);
    return test::ranking_of(z.rankings(), 0);
  };
  CHECK(draw([](index_t) { return 0.0; }) == test::ranking{0, 1, 2, 3, 4});
  CHECK(draw([](index_t j) { return static_cast<double>(j) * 0x1p-19; }) == test::ranking{11, 10, 9, 8, 7});
  CHECK(draw([](index_t j) { return j == 7 ? 0x1p-19 : 0.0; }) == test::ranking{7, 0, 1, 2, 3});
  CHECK(draw([](index_t j) {
          return j < 5 ? 4.0 - static_cast<double>(j) : j == 9 ? 0x1p-19 : 0.0;
        }) == test::ranking{0, 1, 2, 3, 9});  // only the last pick is close
  CHECK(draw([](index_t j) { return j % 2 == 0 ? 0.0 : -0x1p-19; }) == test::ranking{0, 2, 4, 6, 8});
}
