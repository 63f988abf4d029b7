// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/math/lanes.hpp>
#include <dro/random/joint_noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/philox_lanes.hpp>
#include <dro/random/substream.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using dro::joint_noise;
using dro::noise_kind;
using dro::noise_source;
using test::real;

constexpr dro::random_key key{71, 3};
constexpr joint_noise antithetic{noise_kind::antithetic};

joint_noise latin(index_t r) { return {noise_kind::latin_hypercube, r}; }

std::uint32_t word_of(const joint_noise& joint, std::uint32_t query, std::uint32_t sample, std::uint32_t position) {
  return noise_source{key, query, sample, joint}.words(position / 4)[position % 4];
}

/// Pearson's statistic of counts that are to be equal.
double chi_square(const std::vector<std::size_t>& counts) {
  real total = 0;
  for (const std::size_t c : counts) total += static_cast<real>(c);
  const real expected = total / static_cast<real>(counts.size());
  real sum = 0;
  for (const std::size_t c : counts) sum += (static_cast<real>(c) - expected) * (static_cast<real>(c) - expected);
  return static_cast<double>(sum / expected);
}

}  // namespace

TEST_CASE("antithetic: the odd samples hold the complements of the even ones, which are as they were") {
  for (std::uint32_t sample = 0; sample < 6; sample += 2) {
    for (std::uint32_t position = 0; position < 9; ++position) {
      const std::uint32_t even = word_of(antithetic, 5, sample, position);
      CHECK(even == dro::random_word(key, 5, sample, position));
      CHECK(word_of(antithetic, 5, sample + 1, position) == static_cast<std::uint32_t>(~even));
    }
  }
  // The complement of h stands for 1 − v: v = (h + ½)/2^32, and the two exponentials are −ln v and −ln(1 − v).
  const std::uint32_t h = word_of(antithetic, 5, 0, 0);
  const double v = (h + 0.5) * 0x1p-32;
  const double e = dro::noise::exponential<double>(static_cast<std::uint32_t>(~h));
  DRO_CHECK_NEAR(e, -std::log1p(-v), 0x1p-22 * e);  // the error that noise::exponential states
}

TEST_CASE("multiplication in the field of r elements") {
  for (const std::uint32_t r : {2U, 4U, 8U, 16U, 32U, 64U, 128U, 256U}) {
    CAPTURE(r);
    for (std::uint32_t a = 1; a < r; ++a) {
      std::set<std::uint32_t> multiples;
      bool linear = true;
      for (std::uint32_t i = 0; i < r; ++i) {
        multiples.insert(dro::detail::field_product(a, i, r));
        linear = linear && dro::detail::field_product(a, i ^ a, r) ==
                               (dro::detail::field_product(a, i, r) ^ dro::detail::field_product(a, a, r));
      }
      REQUIRE(multiples.size() == r);  // no divisors of 0, so the modulus is irreducible
      REQUIRE(*multiples.rbegin() == r - 1);
      REQUIRE(linear);
      REQUIRE(dro::detail::field_product(a, 1, r) == a);
      REQUIRE(dro::detail::field_product(1, a, r) == a);
    }
  }
  CHECK(dro::detail::field_product(0x57, 0x83, 256) == 0xC1);  // the worked example of FIPS 197, section 4.2
}

TEST_CASE("Latin hypercube: at each position the samples of a block fall one into each interval of length 1/r") {
  for (const std::uint32_t r : {2U, 4U, 8U, 64U, 256U}) {
    CAPTURE(r);
    for (const std::uint32_t position : {0U, 1U, 6U}) {
      for (const std::uint32_t first : {0U, r, 3 * r}) {
        std::set<std::uint32_t> intervals;
        bool own = true;
        for (std::uint32_t i = 0; i < r; ++i) {
          const std::uint32_t word = word_of(latin(r), 2, first + i, position);
          intervals.insert(static_cast<std::uint32_t>(std::uint64_t{word} * r >> 32U));
          own = own && word % (0x80000000U / (r / 2)) == dro::random_word(key, 2, first + i, position) / r;
        }
        CHECK(intervals.size() == r);
        CHECK(*intervals.rbegin() == r - 1);
        CHECK(own);
      }
    }
  }
}

TEST_CASE("Latin hypercube: two samples are equally likely in each pair of different intervals") {
  constexpr std::uint32_t r = 8;
  for (const auto& [i, j] : {std::pair(0U, 1U), std::pair(2U, 5U), std::pair(3U, 7U)}) {
    std::vector<std::size_t> pairs(r * r);
    for (std::uint32_t query = 0; query < 20000; ++query) {
      ++pairs[word_of(latin(r), query, i, 2) / 0x20000000U * r + word_of(latin(r), query, j, 2) / 0x20000000U];
    }
    std::vector<std::size_t> different;
    for (std::size_t k = 0; k < r * r; ++k) {
      if (k % (r + 1) == 0) {
        CHECK(pairs[k] == 0);
      } else {
        different.push_back(pairs[k]);
      }
    }
    CHECK(chi_square(different) < test::chi_square_bound(different.size() - 1));
  }
}

TEST_CASE("each sample alone has uniform words, and independent ones at different positions") {
  for (const joint_noise& joint : {antithetic, latin(2), latin(4), latin(16)}) {
    for (std::uint32_t sample = 0; sample < static_cast<std::uint32_t>(joint.block()); sample += 1 + sample / 3) {
      std::vector<std::size_t> high(64);
      std::vector<std::size_t> low(64);  // the highest and the lowest bits
      std::vector<std::size_t> pairs(64);
      for (std::uint32_t query = 0; query < 20000; ++query) {
        const auto words = noise_source{key, query, sample, joint}.words(1);
        ++high[words[0] >> 26U];
        ++low[(words[1] >> 29U << 3U) | (words[1] & 7U)];
        ++pairs[(words[2] >> 29U << 3U) | (words[3] >> 29U)];
      }
      CHECK(chi_square(high) < test::chi_square_bound(63));
      CHECK(chi_square(low) < test::chi_square_bound(63));
      CHECK(chi_square(pairs) < test::chi_square_bound(63));
    }
  }
}

TEST_CASE("samples of different blocks share nothing") {
  for (const joint_noise& joint : {antithetic, latin(4)}) {
    std::vector<std::size_t> pairs(64);
    const auto r = static_cast<std::uint32_t>(joint.block());
    for (std::uint32_t query = 0; query < 20000; ++query) {
      ++pairs[(word_of(joint, query, r - 1, 0) >> 29U << 3U) | (word_of(joint, query, r, 0) >> 29U)];
    }
    CHECK(chi_square(pairs) < test::chi_square_bound(63));
  }
}

TEST_CASE_TEMPLATE("joint noise fills what it gives position by position", T, float, double) {
  for (const joint_noise& joint : {antithetic, latin(8)}) {
    for (const std::uint32_t sample : {2U, 3U, 7U}) {
      const noise_source source{key, 1, sample, joint};
      std::vector<T> out(70);
      source.gumbel_fill(out.data(), 70);
      for (std::uint32_t p = 0; p < 70; ++p) {
        REQUIRE(out[p] == source.template gumbel<T>(p));
        REQUIRE(out[p] == dro::noise::gumbel<T>(word_of(joint, 1, sample, p)));
      }
    }
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
  const noise_source first{key, 3, 16};
  first.words_alone(5, out);
  for (std::uint32_t l = 0; l < 8; ++l) {
    const auto words = noise_source{key, 3, 16 + l}.words(5);
    for (std::size_t k = 0; k < 4; ++k) CHECK(out[k][static_cast<index_t>(l)] == words[k]);
  }
  dro::math::lanes<std::uint32_t, 1> alone[4];
  first.words_alone(5, alone);
  for (std::size_t k = 0; k < 4; ++k) CHECK(alone[k][0] == out[k][0]);
}

TEST_CASE("each ranking of a block is drawn with the probabilities of a ranking drawn alone") {
  dro::host_backend b(1);
  constexpr index_t queries = 25000;
  const std::vector<double> scores = {0.5, -1, 1.25, 0};
  dro::host_matrix<double> table(queries, 4);
  for (index_t q = 0; q < queries; ++q) std::copy(scores.begin(), scores.end(), table.data() + 4 * q);
  std::map<test::ranking, real> probability;
  for (const auto& z : test::all_rankings(4, 2)) {
    probability[z] = std::exp(test::plackett_luce_log_prob(test::row(table, 0), z));
  }
  const dro::random_state<dro::host_backend> random(b, 72);
  for (const dro::sampling& how : {dro::sampling{.noise = antithetic}, {.noise = latin(4)}}) {
    const index_t r = how.noise.block();
    const auto z = dro::draw_plackett_luce(b, table, random.source(b), {r, 2}, how);
    CHECK(z.traits().block == r);
    CHECK(z.traits().covers);
    for (index_t i = 0; i < r; ++i) {
      std::map<test::ranking, std::size_t> counts;
      for (index_t q = 0; q < queries; ++q) ++counts[test::ranking_of(z.rankings(), q * r + i)];
      CHECK(test::chi_square(counts, probability, queries) < test::chi_square_bound(probability.size() - 1));
    }
  }
}

namespace {

/// Over many queries of `m` samples of two equal documents each: the variance of the share of samples that choose
/// document 0 first, times m / (¼) — 1 where samples are independent — and its standard error, were they.
std::pair<real, real> relative_variance(const joint_noise& joint, index_t m) {
  dro::host_backend b(1);
  constexpr index_t queries = 4000;
  const dro::host_matrix<double> table(queries, 2);
  const dro::random_state<dro::host_backend> random(b, 73);
  const auto z = dro::draw_plackett_luce(b, table, random.source(b), {m, 1}, {.noise = joint});
  real sum = 0;
  for (index_t q = 0; q < queries; ++q) {
    real share = 0;
    for (index_t i = 0; i < m; ++i) share += z.rankings()(q * m + i, 0) == 0 ? 1 : 0;
    share /= static_cast<real>(m);
    sum += (share - 0.5L) * (share - 0.5L);
  }
  // The variance of the squared deviation of a share of m fair coins is below 2 (1/4m)².
  return {sum / queries * 4 * static_cast<real>(m), std::sqrt(2.0L / queries)};
}

}  // namespace

TEST_CASE("the noise of a block cancels: the share of a document varies less than among independent samples") {
  const auto [alone, error] = relative_variance({}, 8);
  DRO_CHECK_NEAR(alone, 1, 4 * error);
  // Document 0 comes first where v_0 > v_1, and v → 1 − v turns that round: half of the samples, always.
  CHECK(relative_variance(antithetic, 8).first == 0);
  // Given one of them, document 0 comes first with probability v_0 or 1 − v_1; these parts have variances of 1/12 each
  // and are balanced to the order of 1/r². What is left of ¼ is 1/12, a third, times r/(r − 1) at most.
  for (const index_t r : {4, 8}) {
    const real factor = static_cast<real>(r) / static_cast<real>(r - 1);
    const real found = relative_variance(latin(r), 8).first;
    CHECK(found < factor / 3 + 2.0L / static_cast<real>(r * r) + 4 * error);
    CHECK(found > 0.25L);
  }
}

TEST_CASE("block sizes that do not fit are refused") {
  dro::host_backend b(1);
  const dro::host_matrix<double> scores(1, 3);
  const dro::random_state<dro::host_backend> random(b, 74);
  const auto draw = [&](index_t m, const joint_noise& joint) {
    static_cast<void>(dro::draw_plackett_luce(b, scores, random.source(b), {m, 2}, {.noise = joint}));
  };
  CHECK_THROWS_WITH_AS(draw(7, antithetic),
                       "samples is 7, expected a multiple of 2, the samples that share antithetic noise",
                       dro::option_error);
  CHECK_THROWS_WITH_AS(draw(6, latin(4)),
                       "samples is 6, expected a multiple of 4, the samples that share Latin hypercube noise",
                       dro::option_error);
  for (const index_t r : {-4, 0, 1, 3, 12}) CHECK_THROWS_AS(draw(24, latin(r)), dro::option_error);
  CHECK_THROWS_WITH_AS(draw(512, latin(512)), "strata is 512, expected a power of two from 2 to 256",
                       dro::option_error);
  CHECK_NOTHROW(draw(7, {noise_kind::independent, 3}));
  CHECK_NOTHROW(draw(6, latin(2)));
}

TEST_CASE("substreams part from their parent and from each other, and keep the step") {
  const std::uint32_t step = 9;
  const dro::random_source parent{123, &step};
  std::set<std::uint64_t> seeds = {parent.seed};
  for (std::uint32_t k = 0; k < 8; ++k) {
    const auto child = dro::substream(parent, k);
    CHECK(child.step == parent.step);
    CHECK(child.key() == dro::random_key{child.seed, 9});
    seeds.insert(child.seed);
    for (std::uint32_t l = 0; l < 8; ++l) seeds.insert(dro::substream(child, l).seed);
  }
  CHECK(seeds.size() == 1 + 8 + 64);
  CHECK(dro::substream({124, &step}, 0).seed != dro::substream(parent, 0).seed);
}
