// SPDX-License-Identifier: Apache-2.0
// Rankings of samples that share noise: the order of scores plus that noise, bit for bit.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using dro::joint_noise;
using dro::noise_kind;

constexpr dro::random_key key{41, 7};
constexpr index_t queries = 8;
constexpr index_t samples = 8;

/// The K largest keys that are numbers above −inf, in descending order, of equal ones the first.
template <class T>
test::ranking by_definition(const std::vector<T>& scores, const dro::noise_source& source, index_t select) {
  std::vector<T> keys(scores.size());
  for (std::size_t j = 0; j < keys.size(); ++j) keys[j] = scores[j] + source.gumbel<T>(static_cast<std::uint32_t>(j));
  test::ranking order;
  for (std::size_t j = 0; j < keys.size(); ++j) {
    if (keys[j] > -test::infinity<T>) order.push_back(static_cast<dro::document_t>(j));
  }
  const auto key_of = [&](dro::document_t j) { return keys[static_cast<std::size_t>(j)]; };
  std::sort(order.begin(), order.end(), [&](dro::document_t a, dro::document_t b) {
    return key_of(a) > key_of(b) || (key_of(a) == key_of(b) && a < b);
  });
  order.resize(static_cast<std::size_t>(select), dro::no_document);
  return order;
}

/// Scores near to each other and far apart, equal ones, impossible ones and NaN.
template <class T>
dro::host_matrix<T> some_scores(index_t n) {
  auto scores = test::random_matrix<T>(queries, n, -3, 3, static_cast<std::uint64_t>(n));
  for (index_t j = 0; j < n; ++j) {
    scores(1, j) = T(0);
    scores(2, j) *= T(1e4);
    scores(3, j) = std::floor(scores(3, j)) * T(0x1p18);  // keys that round to equal ones (float)
    if (j % 3 != 1) scores(4, j) = -test::infinity<T>;
    if (j == n / 2) scores(5, j) = test::nan<T>;
    scores(6, j) = -test::infinity<T>;
  }
  return scores;
}

}  // namespace

TEST_CASE_TEMPLATE("samples that share noise are the order of their keys, by teams of any size", T, float, double) {
  index_t incomplete = 0;
  for (const index_t n : {1, 2, 5, 19, 70}) {
    const auto scores = some_scores<T>(n);
    for (const index_t select : {index_t{1}, (n + 1) / 2, n}) {
      for (const joint_noise& joint :
           {joint_noise{noise_kind::antithetic}, joint_noise{noise_kind::latin_hypercube, 4}}) {
        const auto check = [&](auto&& b) {
          const dro::random_state random(b, key.seed, key.step);
          const auto z =
              dro::draw_plackett_luce(b, write(b, scores), random.source(b), {samples, select}, {.noise = joint});
          const auto rankings = read(b, z.rankings());
          const auto log_q = read(b, z.log_proposal());
          for (index_t i = 0; i < queries * samples; ++i) {
            const auto q = i / samples;
            const std::vector<T> row(&scores(q, 0), &scores(q, 0) + n);
            const dro::noise_source source{key, static_cast<std::uint32_t>(q), static_cast<std::uint32_t>(i % samples),
                                           joint};
            const test::ranking expected = by_definition(row, source, select);
            REQUIRE(test::ranking_of(rankings, i) == expected);
            const bool lacks_one = expected.back() == dro::no_document;
            incomplete += lacks_one ? 1 : 0;
            if (lacks_one) CHECK(log_q(i, 0) == -test::infinity<T>);
            if (q == 5 && !lacks_one) CHECK(std::isnan(log_q(i, 0)));
          }
          auto log_p = b.template make<T>(queries * samples, 1);
          dro::plackett_luce_log_prob(b, write(b, scores), std::as_const(b).view(z.rankings()), z.groups(),
                                      b.view(log_p));
          const auto p = read(b, log_p);
          for (index_t i = 0; i < queries * samples; ++i) {
            if (i / samples != 5) CHECK(log_q(i, 0) == p(i, 0));
          }
        };
        check(dro::host_backend(1));
        if (select <= 5) check(dro::concurrent_backend(3));  // whose threads meet at each pick
      }
    }
  }
  CHECK(incomplete > 0);
}
