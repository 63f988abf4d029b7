// SPDX-License-Identifier: Apache-2.0
// Gradients of the methods that treat documents one by one, against central differences of what they say they climb.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/gradient/document_independent.hpp>
#include <dro/gradient/relax.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/random/substream.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

constexpr index_t queries = 3;
constexpr index_t documents = 5;

dro::host_matrix<double> some_scores() { return test::random_matrix<double>(queries, documents, -2, 2, 111); }
dro::host_matrix<double> some_likelihoods() { return test::random_matrix<double>(queries, documents, -6, 0, 112); }

void check(const dro::host_matrix<double>& found, const std::vector<real>& expected) {
  const real size = test::largest_magnitude(expected);
  CHECK(size > 0.01);
  for (std::size_t i = 0; i < expected.size(); ++i) DRO_CHECK_NEAR(found.data()[i], expected[i], 1e-6 * size);
}

/// Rankings, and scores with noise of which they are the order.
struct perturbed_draws {
  dro::host_matrix<dro::document_t> rankings;
  dro::host_matrix<double> perturbed;
};

dro::host_matrix<double> conditional_noise(dro::host_backend& b, const dro::host_matrix<double>& scores,
                                           const dro::host_matrix<dro::document_t>& rankings, std::uint64_t seed) {
  const dro::random_state<dro::host_backend> random(b, seed);
  dro::host_matrix<double> perturbed(rankings.rows(), scores.cols());
  dro::plackett_luce_conditional_noise(b, scores, std::as_const(b).view(rankings),
                                       dro::grouping::uniform(scores.rows(), rankings.rows() / scores.rows()),
                                       dro::substream(random.source(b), 0), b.view(perturbed));
  return perturbed;
}

perturbed_draws draw_perturbed(dro::host_backend& b, const dro::host_matrix<double>& scores,
                               const dro::draw_options& options, std::uint64_t seed) {
  const dro::random_state<dro::host_backend> random(b, seed);
  const auto z = dro::draw_plackett_luce(b, scores, random.source(b), options);
  return {z.rankings(), conditional_noise(b, scores, z.rankings(), seed)};
}

/// The `select` documents of the largest perturbed scores, in descending order.
test::ranking largest_of(const dro::host_matrix<double>& perturbed, index_t draw, index_t select) {
  test::ranking order(static_cast<std::size_t>(perturbed.cols()));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](auto i, auto j) { return perturbed(draw, i) > perturbed(draw, j); });
  order.resize(static_cast<std::size_t>(select));
  return order;
}

/// Adds the straight-through gradient to d_scores.
void add_straight_through(dro::host_backend& b, const perturbed_draws& x, const dro::host_matrix<double>& gain,
                          dro::host_matrix<double>& d_scores, double temperature) {
  const dro::host_backend& view = b;
  dro::straight_through_gradient<dro::host_backend, double>(b, view.view(x.perturbed), view.view(x.rankings),
                                                            view.view(gain), b.view(d_scores), temperature);
}

std::vector<real> divided(std::vector<real> x, real by) {
  for (real& v : x) v /= by;
  return x;
}

}  // namespace

TEST_CASE("RAG-Sequence: the gradient of the log-marginal by scores and by log-likelihoods") {
  dro::host_backend b(1);
  auto scores = some_scores();
  auto likelihood = some_likelihoods();
  dro::host_matrix<double> d_scores(queries, documents);
  dro::host_matrix<double> responsibility(queries, documents);
  dro::rag_sequence_gradient<dro::host_backend, double>(
      b, std::as_const(b).view(scores), std::as_const(b).view(likelihood), b.view(d_scores), b.view(responsibility));
  const auto objective = [&] {
    real mean = 0;
    for (index_t q = 0; q < queries; ++q) {
      std::vector<real> joint = test::row(scores, q);
      const real total = test::log_sum_exp(joint);
      for (index_t i = 0; i < documents; ++i) joint[static_cast<std::size_t>(i)] += likelihood(q, i) - total;
      mean += test::log_sum_exp(joint) / queries;
    }
    return mean;
  };
  check(d_scores, test::central_differences(test::elements(scores), objective));
  check(responsibility, test::central_differences(test::elements(likelihood), objective));
}

TEST_CASE("REPLUG: the gradient of minus the divergence from the reader's preference") {
  for (const auto& temperatures : {std::pair{1.0, 1.0}, {0.5, 2.0}, {3.0, 0.25}}) {
    const double tau = temperatures.first;
    const double tau_selector = temperatures.second;
    dro::host_backend b(1);
    auto scores = some_scores();
    const auto likelihood = some_likelihoods();
    dro::host_matrix<double> d_scores(queries, documents);
    dro::replug_gradient<dro::host_backend, double>(b, std::as_const(b).view(scores), std::as_const(b).view(likelihood),
                                                    b.view(d_scores), {tau, tau_selector});
    check(d_scores, test::central_differences(test::elements(scores), [&] {
            real mean = 0;
            for (index_t q = 0; q < queries; ++q) {
              const auto target = test::softmax(divided(test::row(likelihood, q), tau));
              const auto p = test::softmax(divided(test::row(scores, q), tau_selector));
              for (std::size_t i = 0; i < p.size(); ++i) mean -= target[i] * std::log(target[i] / p[i]) / queries;
            }
            return mean;
          }));
  }
}

TEST_CASE("straight-through: the gradient of the sum of successive softmaxes, with choice and noise held fixed") {
  constexpr index_t samples = 4;
  constexpr index_t picks = 3;
  for (const double temperature : {1.0, 0.5}) {
    dro::host_backend b(1);
    auto scores = some_scores();
    const auto x = draw_perturbed(b, scores, {samples, picks}, 113);
    const auto gain = test::random_matrix<double>(queries * samples, documents, -1, 1, 114);
    dro::host_matrix<double> d_scores(queries, documents);
    add_straight_through(b, x, gain, d_scores, temperature);
    const auto drawn_with = scores;
    check(d_scores, test::central_differences(test::elements(scores), [&] {
            real mean = 0;
            for (index_t draw = 0; draw < queries * samples; ++draw) {
              const index_t query = draw / samples;
              std::vector<real> left = test::row(x.perturbed, draw);
              for (index_t j = 0; j < documents; ++j) {
                left[static_cast<std::size_t>(j)] += scores(query, j) - drawn_with(query, j);
              }
              for (const dro::document_t pick : test::ranking_of(x.rankings, draw)) {
                const auto soft = test::softmax(divided(left, temperature));
                for (std::size_t j = 0; j < soft.size(); ++j) {
                  mean += soft[j] * gain(draw, static_cast<index_t>(j)) / (queries * samples);
                }
                left[static_cast<std::size_t>(pick)] = -test::infinity<real>;
              }
            }
            return mean;
          }));
    // The choice is the one the softmax leads to as τ → 0: each pick is the largest of what is left.
    for (index_t draw = 0; draw < queries * samples; ++draw) {
      CHECK(largest_of(x.perturbed, draw, picks) == test::ranking_of(x.rankings, draw));
    }
    // It adds to what is there.
    const auto once = d_scores;
    add_straight_through(b, x, gain, d_scores, temperature);
    for (index_t i = 0; i < queries * documents; ++i) {
      DRO_CHECK_NEAR(d_scores.data()[i], 2 * once.data()[i], 1e-14);
    }
  }
}

TEST_CASE("straight-through: the mean over rankings and noise of two documents") {
  // Perturbed scores differ by d + L, d = s_0 − s_1 and L of the logistic distribution with distribution function σ. At
  // τ = 1 the first pick's gradient is (gain_0 − gain_1) σ'(d + L), and σ' is L's own density: its mean is the density
  // at d of a difference of two such variables, e^d ((d − 2) e^d + d + 2) / (e^d − 1)³. The second pick is certain.
  constexpr index_t count = 1 << 16;
  dro::host_backend b(1);
  for (const double d : {1.0, -2.5}) {
    const auto scores = test::matrix<double>(1, 2, std::vector{d, 0.0});
    const double up = std::exp(d);
    const double expected = up * ((d - 2) * up + d + 2) / std::pow(up - 1, 3);
    for (const index_t picks : {1, 2}) {
      dro::host_matrix<double> gain(count, 2);
      for (index_t draw = 0; draw < count; ++draw) gain(draw, 0) = 3;
      dro::host_matrix<double> d_scores(1, 2);
      add_straight_through(b, draw_perturbed(b, scores, {count, picks}, 115), gain, d_scores, 1);
      // Each draw's is in (0, 3/4). Off by t with probability 2 exp(−2 N t² / (3/4)²) at most (Hoeffding 1963): 1e-7.
      const double t = 0.75 * std::sqrt(std::log(2e7) / (2.0 * count));
      DRO_CHECK_NEAR(d_scores(0, 0), 3 * expected, t);
      DRO_CHECK_NEAR(d_scores(0, 1), -3 * expected, t);
    }
  }
}

TEST_CASE("straight-through: rankings with noise drawn for them are as good as the order of scores with Gumbel noise") {
  constexpr index_t count = 1 << 16;
  constexpr index_t n = 4;
  constexpr index_t picks = 2;
  constexpr double temperature = 0.5;
  dro::host_backend b(1);
  const auto scores = test::matrix<double>(1, n, std::vector{1.0, 0.0, -1.5, 0.5});
  const std::vector<double> gains{1.0, -1.0, 0.5, 0.0};
  dro::host_matrix<double> gain(count, n);
  for (index_t draw = 0; draw < count; ++draw) std::copy(gains.begin(), gains.end(), gain.data() + draw * n);

  const perturbed_draws inverted = draw_perturbed(b, scores, {count, picks}, 116);
  perturbed_draws sorted{dro::host_matrix<dro::document_t>(count, picks), dro::host_matrix<double>(count, n)};
  for (index_t draw = 0; draw < count; ++draw) {
    const dro::noise_source noise{{117, 0}, 0, static_cast<std::uint32_t>(draw)};
    for (index_t j = 0; j < n; ++j) {
      sorted.perturbed(draw, j) = scores(0, j) + noise.gumbel<double>(static_cast<std::uint32_t>(j));
    }
    const auto order = largest_of(sorted.perturbed, draw, picks);
    std::copy(order.begin(), order.end(), sorted.rankings.data() + draw * picks);
  }

  // As many queries of one draw each, so that every draw's gradient is seen.
  const auto mean_and_variance = [&](const perturbed_draws& x, index_t j) {
    dro::host_matrix<double> each(count, n);
    add_straight_through(b, x, gain, each, temperature);
    double mean = 0;
    double square = 0;
    for (index_t draw = 0; draw < count; ++draw) {
      mean += each(draw, j);  // they are divided by the number of draws
      square += each(draw, j) * each(draw, j) * count;
    }
    return std::pair{mean, square - mean * mean};
  };
  for (index_t j = 0; j < n; ++j) {
    const auto [found, of_found] = mean_and_variance(inverted, j);
    const auto [expected, of_expected] = mean_and_variance(sorted, j);
    // A mean of N numbers in an interval of length R is off by √(2 V log(2/δ)/N) + 7 R log(2/δ)/(3 (N − 1)) with
    // probability δ at most, V being their variance (Maurer & Pontil 2009, theorem 4); δ = 1e-7 for each of the two and
    // of the two directions. A pick moves p (gain_j − mean)/τ, at most p (1 − p) 2/τ ≤ 1/(2τ) in size.
    constexpr double range = picks / temperature;
    const double log_odds = std::log(2e7);
    const auto off = [&](double variance) {
      return std::sqrt(2 * variance * log_odds / count) + 7 * range * log_odds / (3.0 * (count - 1));
    };
    DRO_CHECK_NEAR(found, expected, off(of_found) + off(of_expected));
  }
}

TEST_CASE("straight-through: what is impossible or no ranking takes no part, whatever its gain") {
  constexpr double inf = test::infinity<double>;
  constexpr double strange = test::nan<double>;
  dro::host_backend b(1);
  const auto scores = test::matrix<double>(1, 4, std::vector{0.5, -inf, -1.0, 0.25});
  // A ranking; an impossible pick, a repeated one and a missing one.
  const auto rankings = test::ranking_matrix({{3, 0}, {3, 1}, {0, 0}, {2, dro::no_document}});
  const perturbed_draws x{rankings, conditional_noise(b, scores, rankings, 118)};
  auto gain = dro::make_filled<double>(b, 4, 4, strange);
  const std::vector<double> gains{0.5, -1.0, 2.0};
  const std::vector<index_t> possible{0, 2, 3};
  for (std::size_t i = 0; i < 3; ++i) gain(0, possible[i]) = gains[i];
  dro::host_matrix<double> d_scores(1, 4);
  add_straight_through(b, x, gain, d_scores, 1);

  std::vector<real> expected(3, 0);
  std::vector<real> left;
  for (const index_t j : possible) left.push_back(x.perturbed(0, j));
  for (const std::size_t pick : {2U, 0U}) {
    const auto p = test::softmax(left);
    real mean = 0;
    for (std::size_t i = 0; i < 3; ++i) mean += p[i] * gains[i];
    for (std::size_t i = 0; i < 3; ++i) expected[i] += p[i] * (gains[i] - mean) / 4;  // of four draws
    left[pick] = -test::infinity<real>;
  }
  CHECK(test::largest_magnitude(expected) > 0.01);
  // Softmaxes of three arguments below 16: 2 · 16 + 8 roundings each, times gains less their mean, below 3, of two
  // picks and two factors p.
  const real tolerance = 2 * 2 * 3 * 40 * test::unit_roundoff<double>;
  for (std::size_t i = 0; i < 3; ++i) DRO_CHECK_NEAR(d_scores(0, possible[i]), expected[i], tolerance);
  CHECK(d_scores(0, 1) == 0);
}

TEST_CASE("padding takes no part") {
  constexpr double inf = test::infinity<double>;
  dro::host_backend b(1);
  const auto scores = test::matrix<double>(1, 4, std::vector{0.5, -inf, -1.0, -inf});
  // What a reader would say of padding does not matter, not even if it is NaN.
  const auto likelihood = test::matrix<double>(1, 4, std::vector{-1.0, test::nan<double>, -0.25, inf});
  dro::host_matrix<double> d_scores(1, 4);
  dro::host_matrix<double> responsibility(1, 4);
  dro::rag_sequence_gradient<dro::host_backend, double>(
      b, std::as_const(b).view(scores), std::as_const(b).view(likelihood), b.view(d_scores), b.view(responsibility));
  const auto r = test::softmax({real(-0.5), real(-1.25)});
  const auto pi = test::softmax({real(0.5), real(-1)});
  constexpr real tolerance =
      16 * static_cast<real>(test::unit_roundoff<double>);  // one softmax of two, see typed tests
  DRO_CHECK_NEAR(responsibility(0, 0), r[0], tolerance);
  DRO_CHECK_NEAR(d_scores(0, 2), r[1] - pi[1], 2 * tolerance);
  dro::host_matrix<double> d_replug(1, 4);
  dro::replug_gradient<dro::host_backend, double>(b, std::as_const(b).view(scores), std::as_const(b).view(likelihood),
                                                  b.view(d_replug));
  const auto target = test::softmax({real(-1), real(-0.25)});
  DRO_CHECK_NEAR(d_replug(0, 0), target[0] - pi[0], 2 * tolerance);
  for (const index_t j : {1, 3}) {
    CHECK(responsibility(0, j) == 0);
    CHECK(d_scores(0, j) == 0);
    CHECK(d_replug(0, j) == 0);
  }
}

TEST_CASE("a row in which nothing is possible has no responsibility") {
  dro::host_backend b(1);
  const double inf = test::infinity<double>;
  const auto scores = test::matrix<double>(1, 2, std::vector{-inf, -inf});
  const dro::host_matrix<double> likelihood(1, 2);
  auto d_scores = test::matrix<double>(1, 2, std::vector{5.0, 5.0});
  auto responsibility = d_scores;
  dro::rag_sequence_gradient<dro::host_backend, double>(
      b, std::as_const(b).view(scores), std::as_const(b).view(likelihood), b.view(d_scores), b.view(responsibility));
  for (index_t j = 0; j < 2; ++j) {
    CHECK(d_scores(0, j) == 0);
    CHECK(responsibility(0, j) == 0);
  }
}

TEST_CASE("wrong shapes and temperatures are refused by name") {
  dro::host_backend b(1);
  dro::host_matrix<double> right(2, 3);
  dro::host_matrix<double> wrong(3, 2);
  const auto r = std::as_const(b).view(std::as_const(right));
  const auto w = std::as_const(b).view(std::as_const(wrong));
  using B = dro::host_backend;
  CHECK_THROWS_WITH_AS((dro::rag_sequence_gradient<B, double>(b, r, w, b.view(right), b.view(right))),
                       "rag_sequence_gradient: log_likelihood is [3 × 2], expected [2 × 3]", dro::shape_error);
  CHECK_THROWS_AS((dro::rag_sequence_gradient<B, double>(b, r, r, b.view(wrong), b.view(right))), dro::shape_error);
  CHECK_THROWS_AS((dro::rag_sequence_gradient<B, double>(b, r, r, b.view(right), b.view(wrong))), dro::shape_error);
  CHECK_THROWS_WITH_AS((dro::replug_gradient<B, double>(b, r, r, b.view(right), {0.0, 1.0})),
                       "replug_gradient: temperatures are 0.000000 and 1.000000, expected more than 0",
                       dro::option_error);
  CHECK_THROWS_AS((dro::replug_gradient<B, double>(b, r, r, b.view(right), {1.0, test::nan<double>})),
                  dro::option_error);
  CHECK_THROWS_AS((dro::replug_gradient<B, double>(b, r, w, b.view(right))), dro::shape_error);
  const dro::host_matrix<dro::document_t> rankings(4, 2);
  const dro::host_matrix<dro::document_t> too_many(5, 2);
  const dro::host_matrix<double> each(4, 3);
  const dro::host_matrix<double> narrow(4, 2);
  const auto z = std::as_const(b).view(rankings);
  const auto e = std::as_const(b).view(each);
  const auto n = std::as_const(b).view(narrow);
  CHECK_THROWS_WITH_AS(
      (dro::straight_through_gradient<B, double>(b, e, std::as_const(b).view(too_many), e, b.view(right))),
      "straight_through_gradient: rankings is [5 × 2], expected [4 × 2]", dro::shape_error);
  CHECK_THROWS_WITH_AS((dro::straight_through_gradient<B, double>(b, n, z, e, b.view(right))),
                       "straight_through_gradient: perturbed is [4 × 2], expected [4 × 3]", dro::shape_error);
  CHECK_THROWS_WITH_AS((dro::straight_through_gradient<B, double>(b, e, z, n, b.view(right))),
                       "straight_through_gradient: gain is [4 × 2], expected [4 × 3]", dro::shape_error);
  CHECK_THROWS_WITH_AS((dro::straight_through_gradient<B, double>(b, e, z, e, b.view(right), -1.0)),
                       "straight_through_gradient: temperature is -1.000000, expected more than 0", dro::option_error);
}
