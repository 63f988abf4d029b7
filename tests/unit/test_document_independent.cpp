// SPDX-License-Identifier: Apache-2.0
// Gradients of the methods that treat documents one by one, against central differences of what they say they climb.
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/gradient/document_independent.hpp>
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
  for (const auto& [tau, tau_selector] : {std::pair{1.0, 1.0}, {0.5, 2.0}, {3.0, 0.25}}) {
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
    const dro::random_state<dro::host_backend> random(b, 113, 2);
    const auto z = dro::draw_plackett_luce(b, scores, random.source(b), {samples, picks});
    const auto gain = test::random_matrix<double>(queries * samples, documents, -1, 1, 114);
    const dro::random_key key = random.source(b).key();
    dro::host_matrix<double> d_scores(queries, documents);
    dro::straight_through_gradient<dro::host_backend, double>(
        b, std::as_const(b).view(scores), std::as_const(b).view(z.rankings()), std::as_const(b).view(gain), key,
        b.view(d_scores), temperature);
    check(d_scores, test::central_differences(test::elements(scores), [&] {
            real mean = 0;
            for (index_t draw = 0; draw < queries * samples; ++draw) {
              const dro::noise_source noise{key, static_cast<std::uint32_t>(draw / samples),
                                            static_cast<std::uint32_t>(draw % samples)};
              std::vector<real> perturbed = test::row(scores, draw / samples);
              for (std::size_t j = 0; j < perturbed.size(); ++j) {
                perturbed[j] = (perturbed[j] + noise.gumbel<double>(static_cast<std::uint32_t>(j))) / temperature;
              }
              for (const dro::document_t pick : test::ranking_of(z.rankings(), draw)) {
                const auto soft = test::softmax(perturbed);
                for (std::size_t j = 0; j < soft.size(); ++j) {
                  mean += soft[j] * gain(draw, static_cast<index_t>(j)) / (queries * samples);
                }
                perturbed[static_cast<std::size_t>(pick)] = -test::infinity<real>;
              }
            }
            return mean;
          }));
    // The choice is the one the softmax leads to as τ → 0: each pick is the largest of what is left.
    const dro::noise_source first{key, 0, 0};
    std::vector<double> keys;
    for (std::uint32_t j = 0; j < documents; ++j) keys.push_back(scores(0, j) + first.gumbel<double>(j));
    CHECK(z.rankings()(0, 0) == std::ranges::max_element(keys) - keys.begin());
    // It adds to what is there.
    const auto once = d_scores;
    dro::straight_through_gradient<dro::host_backend, double>(
        b, std::as_const(b).view(scores), std::as_const(b).view(z.rankings()), std::as_const(b).view(gain), key,
        b.view(d_scores), temperature);
    for (index_t i = 0; i < queries * documents; ++i) {
      DRO_CHECK_NEAR(d_scores.data()[i], 2 * once.data()[i], 1e-14);
    }
  }
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
  const dro::host_matrix<double> gain(4, 2);
  const auto z = std::as_const(b).view(rankings);
  CHECK_THROWS_WITH_AS(
      (dro::straight_through_gradient<B, double>(b, r, z, std::as_const(b).view(gain), {}, b.view(right))),
      "straight_through_gradient: gain is [4 × 2], expected [4 × 3]", dro::shape_error);
  CHECK_THROWS_AS((dro::straight_through_gradient<B, double>(b, r, z, r, {}, b.view(right), -1.0)), dro::option_error);
}
