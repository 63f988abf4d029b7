// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <set>
#include <vector>

#include <doctest/doctest.h>

#include <dro/math/binary_format.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/philox.hpp>

namespace {

using dro::random_block;
using dro::random_key;
using dro::random_words;
namespace noise = dro::noise;

constexpr std::uint32_t last_word = std::numeric_limits<std::uint32_t>::max();

// The words of sample 0 of query 0.
std::vector<std::uint32_t> some_words(std::size_t n, random_key key = {2024, 7}) {
  std::vector<std::uint32_t> words(n);
  for (std::size_t i = 0; i < n; ++i) words[i] = random_block(key, 0, 0, static_cast<std::uint32_t>(i / 4))[i % 4];
  return words;
}

// −ln v for v = (h + ½) / 2^32, without cancellation near v = 1.
long double exact_exponential(std::uint32_t word) {
  const long double below_one = (static_cast<long double>(last_word - word) + 0.5L) * 0x1p-32L;  // 1 − v, exact
  return word >> 31U != 0 ? -std::log1p(-below_one) : -std::log((static_cast<long double>(word) + 0.5L) * 0x1p-32L);
}

// Calls f for every 65521st word and for all words within 2000 of the ends and within 4 of a power of two from either
// end; for every word if DRO_EXHAUSTIVE is set.
template <class F>
void for_many_words(F f) {
  const std::uint64_t step = std::getenv("DRO_EXHAUSTIVE") != nullptr ? 1 : 65521;
  for (std::uint64_t h = 0; h <= last_word; h += step) f(static_cast<std::uint32_t>(h));
  for (std::uint32_t i = 0; i < 2000; ++i) {
    f(i);
    f(last_word - i);
  }
  for (std::uint32_t bit = 11; bit < 32; ++bit) {
    for (std::uint32_t i = 0; i < 8; ++i) {
      f((std::uint32_t{1} << bit) + i - 4);
      f(last_word - (std::uint32_t{1} << bit) - i + 4);
    }
  }
}

// FNV-1a over the bytes of the values, low byte first.
class checksum {
 public:
  void add(std::uint64_t value) {
    for (int byte = 0; byte < 8; ++byte) {
      hash_ = (hash_ ^ (value & 0xffU)) * 0x100000001b3U;
      value >>= 8U;
    }
  }
  [[nodiscard]] std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325U;
};

// The largest distance between the sample's distribution function and the true one (Kolmogorov, Smirnov).
template <class Cdf>
double kolmogorov_distance(std::vector<double> sample, Cdf cdf) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double distance = 0;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const double p = cdf(sample[i]);
    distance = std::max({distance, p - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - p});
  }
  return distance;
}

TEST_CASE("philox has the known answers of the Random123 distribution") {
  struct known_answer {
    random_words counter;
    dro::philox_key key;
    random_words result;
  };
  // philox4x32 with 10 rounds, from the file kat_vectors of Random123.
  const known_answer answers[] = {
      {{{0, 0, 0, 0}}, {{0, 0}}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{last_word, last_word, last_word, last_word}},
       {{last_word, last_word}},
       {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       {{0xa4093822, 0x299f31d0}},
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const auto& answer : answers) CHECK(dro::philox(answer.counter, answer.key) == answer.result);
}

TEST_CASE("a random block is philox of (block, sample, query, step) under the seed") {
  const random_key key{0x299f31d0a4093822U, 0x03707344U};
  const random_words expected = {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
  CHECK(random_block(key, 0x13198a2e, 0x85a308d3, 0x243f6a88) == expected);
  for (std::uint32_t position = 0; position < 40; ++position) {
    CHECK(dro::random_word(key, 5, 6, position) == random_block(key, 5, 6, position / 4)[position % 4]);
  }
}

TEST_CASE("changing any field of the key changes all words, and no two blocks coincide") {
  std::set<std::array<std::uint32_t, 4>> blocks;
  std::size_t count = 0;
  const std::uint32_t values[] = {0, 1, 2, 3, 0x10000, 0x80000000, last_word};
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32U}) {
    for (const std::uint32_t step : values) {
      for (const std::uint32_t query : values) {
        for (const std::uint32_t sample : values) {
          for (const std::uint32_t block : values) {
            const random_words w = random_block({seed, step}, query, sample, block);
            blocks.insert({w[0], w[1], w[2], w[3]});
            ++count;
          }
        }
      }
    }
  }
  CHECK(blocks.size() == count);

  const random_words base = random_block({1, 2}, 3, 4, 5);
  for (const random_words& other :
       {random_block({0, 2}, 3, 4, 5), random_block({1 | (std::uint64_t{1} << 32U), 2}, 3, 4, 5),
        random_block({1, 3}, 3, 4, 5), random_block({1, 2}, 2, 4, 5), random_block({1, 2}, 3, 5, 5),
        random_block({1, 2}, 3, 4, 4)}) {
    for (std::size_t i = 0; i < 4; ++i) CHECK(other[i] != base[i]);  // by chance with probability 6e-9
  }
}

TEST_CASE("the noise is bit-identical whatever compiler and flags made it") {
  checksum sum;
  for (const std::uint32_t word : some_words(std::size_t{1} << 20U)) {
    sum.add(static_cast<std::uint64_t>(static_cast<std::int64_t>(noise::gumbel_fixed(word))));
    sum.add(noise::exponential_fixed(word));
    sum.add(dro::math::bit_cast<std::uint32_t>(noise::gumbel<float>(word)));
    sum.add(dro::math::bit_cast<std::uint64_t>(noise::gumbel<double>(word)));
    sum.add(dro::math::bit_cast<std::uint32_t>(noise::exponential<float>(word)));
    sum.add(dro::math::bit_cast<std::uint64_t>(noise::exponential<double>(word)));
    sum.add(dro::math::bit_cast<std::uint32_t>(noise::uniform<float>(word)));
    sum.add(dro::math::bit_cast<std::uint64_t>(noise::uniform<double>(word)));
  }
  CHECK(sum.value() == 0x786a2c5380f1855dU);

  // The vector code of a loop gives the same values as one call at a time.
  const auto words = some_words(4099);
  std::vector<float> looped(words.size());
  for (std::size_t i = 0; i < words.size(); ++i) looped[i] = noise::gumbel<float>(words[i]);
  for (std::size_t i = 0; i < words.size(); ++i) {
    volatile std::uint32_t word = words[i];
    REQUIRE(looped[i] == noise::gumbel<float>(word));
  }
}

TEST_CASE("float and double hold the same noise") {
  for_many_words([](std::uint32_t word) {
    REQUIRE(static_cast<double>(noise::gumbel<float>(word)) == noise::gumbel<double>(word));
    REQUIRE(noise::gumbel<double>(word) == noise::gumbel_fixed(word) * 0x1p-19);
    REQUIRE(static_cast<double>(noise::exponential<float>(word)) == noise::exponential<double>(word));
    REQUIRE(static_cast<double>(noise::uniform<float>(word)) == noise::uniform<double>(word));
  });
}

TEST_CASE("uniform noise lies strictly between 0 and 1, symmetric about one half") {
  CHECK(noise::uniform<float>(0) == 0x1p-24F);
  CHECK(noise::uniform<float>(last_word) == 1 - 0x1p-24F);
  for_many_words([](std::uint32_t word) {
    const double v = noise::uniform<double>(word);
    REQUIRE(v == (2.0 * (word >> 9U) + 1) * 0x1p-24);
    REQUIRE(noise::uniform<double>(last_word - word) == 1 - v);
  });
}

TEST_CASE("exponential noise is -ln v, positive and finite for every word") {
  CHECK(noise::exponential_fixed(last_word) == std::uint64_t{1} << 14U);  // 2^-33
  CHECK(noise::exponential<float>(last_word) == 0x1p-33F);
  long double worst_fixed = 0;
  long double worst = 0;
  std::uint32_t previous_word = 0;
  std::uint64_t previous = noise::exponential_fixed(0);
  for_many_words([&](std::uint32_t word) {
    const long double exact = exact_exponential(word);
    const std::uint64_t fixed = noise::exponential_fixed(word);
    REQUIRE(noise::exponential<double>(word) > 0);
    worst_fixed = std::max(worst_fixed, std::fabs(static_cast<long double>(fixed) * 0x1p-47L / exact - 1));
    worst = std::max(worst, std::fabs(static_cast<long double>(noise::exponential<double>(word)) / exact - 1));
    if (word >= previous_word) REQUIRE(fixed <= previous);
    previous_word = word;
    previous = fixed;
  });
  // Cutting δ² S to 2^-47 loses at most 2^-47 / δ, or all of it, δ / 2: the two meet at δ = 2^-23, losing 2^-24. The
  // polynomial is off by at most 2^-25.6, but there, at large δ, the cut loses less than 2^-40. Hence 2^-23.9 with
  // room for 32-bit steps; cutting to 24 significant bits loses up to 2^-23 more.
  CHECK(worst_fixed < std::pow(2.0L, -23.9L));
  CHECK(worst < std::pow(2.0L, -23.9L) + 0x1p-23L);
}

TEST_CASE("Gumbel noise is -ln(-ln v) to half a unit, rising, finite for every word") {
  CHECK(noise::gumbel_fixed(0) == -1641019);          // −ln(33 ln 2) = −3.12999, in units of 2^-19
  CHECK(noise::gumbel_fixed(last_word) == 11992489);  // 33 ln 2 = 22.87386
  long double worst = 0;
  std::uint32_t previous_word = 0;
  std::int32_t previous = noise::gumbel_fixed(0);
  for_many_words([&](std::uint32_t word) {
    const std::int32_t fixed = noise::gumbel_fixed(word);
    const long double exact = -std::log(exact_exponential(word));
    worst = std::max(worst, std::fabs(static_cast<long double>(fixed) * 0x1p-19L - exact));
    if (word >= previous_word) REQUIRE(fixed >= previous);
    previous_word = word;
    previous = fixed;
  });
  // Half a unit, 2^-20; the relative error of E, 2^-23.9 (see above); the outer logarithm's polynomial, ½ · 2^-25.6.
  CHECK(worst < 0x1p-20L + std::pow(2.0L, -23.9L) + std::pow(2.0L, -26.6L));
}

// n = 2^20 values from one seed, so the outcome is fixed; the thresholds are those that a right generator would exceed
// with probability below 1e-6: five standard errors, and √(ln(2e6) / 2n) for the Kolmogorov distance, plus what
// the steps of the noise (2^-23 for uniform, 2^-19 at a density of at most 1/e for Gumbel) add to it.
TEST_CASE("moments and distribution functions") {
  const std::size_t count = std::size_t{1} << 20U;
  const auto n = static_cast<double>(count);
  const auto words = some_words(count);
  const double kolmogorov = std::sqrt(std::log(2e6) / (2 * n));
  const auto moments = [&](const std::vector<double>& sample) {
    double mean = 0;
    double square = 0;
    for (const double x : sample) mean += x / n;
    for (const double x : sample) square += (x - mean) * (x - mean) / n;
    return std::array{mean, square};
  };
  std::vector<double> sample(count);

  std::transform(words.begin(), words.end(), sample.begin(), [](auto w) { return noise::uniform<double>(w); });
  CHECK(std::fabs(moments(sample)[0] - 0.5) < 5 * std::sqrt(1 / (12 * n)));
  CHECK(std::fabs(moments(sample)[1] - 1.0 / 12) < 5 * std::sqrt(1 / (180 * n)));  // E x⁴ − σ⁴ = 1/80 − 1/144
  CHECK(kolmogorov_distance(sample, [](double x) { return x; }) < kolmogorov + 0x1p-23);

  std::transform(words.begin(), words.end(), sample.begin(), [](auto w) { return noise::exponential<double>(w); });
  CHECK(std::fabs(moments(sample)[0] - 1) < 5 * std::sqrt(1 / n));
  CHECK(std::fabs(moments(sample)[1] - 1) < 5 * std::sqrt(8 / n));  // fourth central moment 9
  CHECK(kolmogorov_distance(sample, [](double x) { return -std::expm1(-x); }) < kolmogorov + 0x1p-23);

  std::transform(words.begin(), words.end(), sample.begin(), [](auto w) { return noise::gumbel<double>(w); });
  const double euler = 0.57721566490153286;
  const double variance = 1.6449340668482264;  // π²/6; excess kurtosis 12/5
  CHECK(std::fabs(moments(sample)[0] - euler) < 5 * std::sqrt(variance / n));
  CHECK(std::fabs(moments(sample)[1] - variance) < 5 * variance * std::sqrt(4.4 / n));
  CHECK(kolmogorov_distance(sample, [](double x) { return std::exp(-std::exp(-x)); }) < kolmogorov + 0x1p-20);
}

TEST_CASE("noise at neighbouring positions, samples, queries and steps is uncorrelated") {
  const std::uint32_t n = 1U << 16U;
  const auto correlation = [&](auto first, auto second) {
    double sum = 0;
    for (std::uint32_t i = 0; i < n; ++i) {
      sum += (noise::uniform<double>(first(i)) - 0.5) * (noise::uniform<double>(second(i)) - 0.5);
    }
    return 12 * sum / n;
  };
  const auto base = [](std::uint32_t i) { return dro::random_word({1, 2}, 3, 4, i); };
  const double bound = 5 / std::sqrt(n);  // five standard errors of the correlation of independent uniforms
  CHECK(correlation(base, base) == doctest::Approx(1).epsilon(bound));
  CHECK(std::fabs(correlation(base, [](auto i) { return dro::random_word({1, 2}, 3, 4, i + 1); })) < bound);
  CHECK(std::fabs(correlation(base, [](auto i) { return dro::random_word({1, 2}, 3, 4, i + 4); })) < bound);
  CHECK(std::fabs(correlation(base, [](auto i) { return dro::random_word({1, 2}, 3, 5, i); })) < bound);
  CHECK(std::fabs(correlation(base, [](auto i) { return dro::random_word({1, 2}, 4, 4, i); })) < bound);
  CHECK(std::fabs(correlation(base, [](auto i) { return dro::random_word({1, 3}, 3, 4, i); })) < bound);
  CHECK(std::fabs(correlation(base, [](auto i) { return dro::random_word({2, 2}, 3, 4, i); })) < bound);
}

TEST_CASE("uniform_index gives each number the words that differ from 2^32 / n by less than one") {
  for (const std::uint32_t n : {1U, 2U, 3U, 7U, 1000U, 65537U, 0x80000001U, last_word}) {
    CHECK(noise::uniform_index(0, n) == 0);
    CHECK(noise::uniform_index(last_word, n) == n - 1);
    // Number k starts at word ⌈k 2^32 / n⌉, so it has ⌊2^32 / n⌋ or ⌈2^32 / n⌉ words.
    for (const std::uint32_t k : {1U, 2U, n / 2, n - 1}) {
      if (k == 0 || k >= n) continue;
      const auto start = static_cast<std::uint32_t>(((std::uint64_t{k} << 32U) + n - 1) / n);
      CHECK(noise::uniform_index(start, n) == k);
      CHECK(noise::uniform_index(start - 1, n) == k - 1);
    }
  }
}

TEST_CASE_TEMPLATE("a noise source fills what it gives position by position", T, float, double) {
  const dro::noise_source source{{11, 12}, 13, 14};
  CHECK(source.words(3) == random_block({11, 12}, 13, 14, 3));
  for (const std::uint32_t n : {0U, 1U, 3U, 4U, 5U, 63U, 64U, 65U, 127U, 130U, 1001U}) {
    std::vector<T> out(n + 8, T(-100));
    source.gumbel_fill(out.data(), n);
    for (std::uint32_t p = 0; p < n; ++p) {
      REQUIRE(out[p] == source.template gumbel<T>(p));
      REQUIRE(out[p] == noise::gumbel<T>(dro::random_word({11, 12}, 13, 14, p)));
    }
    for (std::size_t p = n; p < out.size(); ++p) REQUIRE(out[p] == T(-100));
  }
}

}  // namespace
