// SPDX-License-Identifier: Apache-2.0
// Score norms, gradients of single picks and their baselines, against definitions summed over all rankings.
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/gradient/per_position.hpp>
#include <dro/gradient/score_norms.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"

namespace {

using dro::grouping;
using dro::index_t;
using test::ranking;
using test::real;
using matrix = dro::host_matrix<double>;
using view = dro::matrix_view<const double>;

// Scores lie in [−4, 4). The log of a mass L is off by below 40 u (typed/test_plackett_luce.cpp), so a share exp(s − L)
// by below 90 u of itself, and a sum of at most 5 of them, carried or not, by below 5 · 100 u. What is compared is at
// most a square of such a sum, which is below 5: 2 · 5 · 500 u.
constexpr real rounding = 5000 * static_cast<real>(test::unit_roundoff<double>);

/// ∂ log p(z_t|z_<t) / ∂ scores: what pick t adds to the score function.
std::vector<real> pick_score(const std::vector<real>& scores, const ranking& z, std::size_t t) {
  const auto last = z.begin() + static_cast<std::ptrdiff_t>(t);
  auto score = test::plackett_luce_score(scores, ranking(z.begin(), last + 1));
  const auto before = test::plackett_luce_score(scores, ranking(z.begin(), last));
  for (std::size_t j = 0; j < score.size(); ++j) score[j] -= before[j];
  return score;
}

real squared_length(const std::vector<real>& x) {
  real sum = 0;
  for (const real v : x) sum += v * v;
  return sum;
}

/// The first row of `m`, as often as asked.
matrix repeated(const matrix& m, index_t times) {
  matrix all(times, m.cols());
  for (index_t i = 0; i < times; ++i) std::copy(m.data(), m.data() + m.cols(), all.data() + i * m.cols());
  return all;
}

/// Scores of n documents; the last but one is padding if `padded`.
matrix scores_of(index_t n, bool padded, std::uint64_t seed) {
  auto s = test::random_matrix<double>(1, n, -4, 4, seed);
  if (padded) s(0, n - 2) = -test::infinity<double>;
  return s;
}

}  // namespace

TEST_CASE("score norms and the norms of single picks are those of the definition, for every ranking") {
  dro::host_backend b(1);
  for (const bool padded : {false, true}) {
    for (index_t k = 1; k <= 5; ++k) {
      const auto s = scores_of(5, padded, 311);
      const auto rankings = test::all_rankings(5, k);
      const auto z = test::ranking_matrix(rankings);
      const auto groups = grouping::uniform(1, z.rows());
      matrix norms(z.rows(), 1);
      matrix of_picks(z.rows(), k);
      dro::plackett_luce_score_norms(b, s, b.view(z), groups, b.view(norms));
      dro::plackett_luce_position_norms(b, s, b.view(z), groups, b.view(of_picks));
      const auto values = test::row(s, 0);
      for (index_t r = 0; r < z.rows(); ++r) {
        const ranking& one = rankings[static_cast<std::size_t>(r)];
        if (test::plackett_luce_log_prob(values, one) == -test::infinity<real>) {
          CHECK(norms(r, 0) == 0);
          for (index_t t = 0; t < k; ++t) CHECK(of_picks(r, t) == 0);
          continue;
        }
        DRO_CHECK_NEAR(norms(r, 0), squared_length(test::plackett_luce_score(values, one)), rounding);
        for (index_t t = 0; t < k; ++t) {
          DRO_CHECK_NEAR(of_picks(r, t), squared_length(pick_score(values, one, static_cast<std::size_t>(t))),
                         rounding);
        }
      }
    }
  }
}

TEST_CASE("a forced pick moves nothing: its norm is exactly 0 and its coefficient has no say") {
  dro::host_backend b(1);
  const auto s = test::random_matrix<double>(1, 4, -30, 30, 5);
  const auto z = test::ranking_matrix(test::all_rankings(4, 4));
  const auto groups = grouping::uniform(1, z.rows());
  matrix norms(z.rows(), 4);
  dro::plackett_luce_position_norms(b, s, b.view(z), groups, b.view(norms));
  for (index_t r = 0; r < z.rows(); ++r) CHECK(norms(r, 3) == 0);

  matrix gradient(1, 4);
  matrix c(z.rows(), 4);
  for (index_t r = 0; r < z.rows(); ++r) c(r, 3) = 1 + static_cast<double>(r);
  dro::accumulate_position_gradient(b, s, b.view(z), groups, c, b.view(gradient));
  for (const double g : test::elements(gradient)) CHECK(g == 0);
}

TEST_CASE("norms of incomplete and malformed rankings are 0, of NaN scores NaN; nothing is added for the former") {
  dro::host_backend b(1);
  const auto s = test::matrix<double>(2, 3, std::vector<double>{1, 2, 3, 1, test::nan<double>, 3});
  const auto z = test::ranking_matrix({{0, -1}, {1, 1}, {0, 3}, {0, 2}});
  const auto groups = grouping::uniform(2, 2);
  matrix norms(4, 1, {7, 7, 7, 7});
  matrix of_picks(4, 2, {7, 7, 7, 7, 7, 7, 7, 7});
  dro::plackett_luce_score_norms(b, s, b.view(z), groups, b.view(norms));
  dro::plackett_luce_position_norms(b, s, b.view(z), groups, b.view(of_picks));
  for (index_t r = 0; r < 3; ++r) {
    CHECK(norms(r, 0) == 0);
    CHECK(of_picks(r, 0) == 0);
    CHECK(of_picks(r, 1) == 0);
  }
  CHECK(std::isnan(norms(3, 0)));
  CHECK(std::isnan(of_picks(3, 0)));

  matrix gradient(2, 3);
  const matrix c(4, 2, {1, 2, 3, 4, 5, 6, 0, 0});
  dro::accumulate_position_gradient(b, s, b.view(z), groups, c, b.view(gradient));
  for (const double g : test::elements(gradient)) CHECK(g == 0);
}

TEST_CASE("gradients of picks are those of the definition, with coefficients of both signs, and nothing is read") {
  for (const bool padded : {false, true}) {
    for (index_t k = 1; k <= 4; ++k) {
      dro::deferred_backend b;
      const auto s = scores_of(5, padded, 77);
      std::vector<ranking> rankings;
      for (const auto& z : test::all_rankings(5, k)) {
        if (test::plackett_luce_log_prob(test::row(s, 0), z) > -test::infinity<real>) rankings.push_back(z);
      }
      const auto z = dro::write(b, test::ranking_matrix(rankings));
      const auto count = static_cast<index_t>(rankings.size());
      const auto c = test::random_matrix<double>(count, k, -1, 1, 13);
      const auto on_backend = dro::write(b, s);
      const auto c_there = dro::write(b, c);
      auto gradient = dro::make_filled<double>(b, count, 5, 0.25);  // each ranking as a query of its own
      const auto scores = dro::write(b, repeated(s, count));
      const auto& view_of = std::as_const(b);
      dro::accumulate_position_gradient(b, scores, view_of.view(z), grouping::uniform(count, 1), c_there,
                                        b.view(gradient));
      CHECK(b.reads() == 0);
      const auto found = dro::read(b, gradient);
      for (index_t r = 0; r < count; ++r) {
        std::vector<real> expected(5, 0.25);
        for (index_t t = 0; t < k; ++t) {
          const auto score =
              pick_score(test::row(s, 0), rankings[static_cast<std::size_t>(r)], static_cast<std::size_t>(t));
          for (std::size_t j = 0; j < 5; ++j) expected[j] += c(r, t) * score[j];
        }
        for (index_t j = 0; j < 5; ++j) DRO_CHECK_NEAR(found(r, j), expected[static_cast<std::size_t>(j)], rounding);
      }
    }
  }
}

TEST_CASE("equal coefficients along a ranking give the gradient of the whole ranking, also for scores far apart") {
  dro::host_backend b(1);
  const matrix s(1, 4, {700, -700, 0, 699});
  const auto z = test::ranking_matrix({{0, 3, 2}, {1, 2, 0}, {3, 1, 2}});
  const auto groups = grouping::uniform(1, 3);
  const matrix whole(3, 1, {0.5, -2, 1.5});
  const matrix picks(3, 3, {0.5, 0.5, 0.5, -2, -2, -2, 1.5, 1.5, 1.5});
  matrix a(1, 4);
  matrix c(1, 4);
  dro::accumulate_plackett_luce_gradient(b, s, b.view(z), groups, whole, b.view(a));
  dro::accumulate_position_gradient(b, s, b.view(z), groups, picks, b.view(c));
  // s − L is a difference of numbers below 2^10, rounded to 2^-43 at worst, 2^10 u; three carried terms of size 2.
  for (index_t j = 0; j < 4; ++j) DRO_CHECK_NEAR(a(0, j), c(0, j), 20 * 1024 * test::unit_roundoff<real> + 1e-12);
  CHECK(std::abs(a(0, 0)) > 0.1);
}

namespace {

/// A query of n = 3, K = 2, all its rankings, and every tuple of m of them, each as a query of its own.
struct tuples {
  static constexpr index_t documents = 3;
  static constexpr index_t picks = 2;
  std::vector<ranking> rankings = test::all_rankings(documents, picks);
  matrix scores = test::random_matrix<double>(1, documents, -1.5, 1.5, 21);
  std::vector<real> likelihood, prior, proposal;  // logs, of each ranking
  index_t m, count = 1;

  tuples(index_t samples, double offset) : m(samples) {
    test::numbers next(22);
    for (const ranking& z : rankings) {
      likelihood.push_back(offset + next.between(-4, 0));
      prior.push_back(test::plackett_luce_log_prob(test::row(scores, 0), z));
      proposal.push_back(next.between(-1, 1));
    }
    proposal = test::softmax(proposal);
    for (real& q : proposal) q = std::log(q);
    for (index_t i = 0; i < m; ++i) count *= static_cast<index_t>(rankings.size());
  }

  /// Ranking of draw i of tuple r.
  [[nodiscard]] std::size_t at(index_t r, index_t i) const {
    for (; i > 0; --i) r /= static_cast<index_t>(rankings.size());
    return static_cast<std::size_t>(r) % rankings.size();
  }
  [[nodiscard]] dro::host_matrix<dro::document_t> drawn() const {
    std::vector<ranking> all;
    for (index_t r = 0; r < count; ++r) {
      for (index_t i = 0; i < m; ++i) all.push_back(rankings[at(r, i)]);
    }
    return test::ranking_matrix(all);
  }
  /// values[ranking] of each draw, [tuples × m].
  [[nodiscard]] matrix table(const std::vector<real>& values) const {
    matrix out(count, m);
    for (index_t r = 0; r < count; ++r) {
      for (index_t i = 0; i < m; ++i) out(r, i) = static_cast<double>(values[at(r, i)]);
    }
    return out;
  }
};

struct outcome {
  std::vector<real> mean;
  real variance = 0;
};

/// Exact mean and variance of the gradient over all tuples, drawn from the selector or from the proposal.
template <class Reward>
outcome exact_outcome(const tuples& w, const Reward& reward, double shrinkage, bool on_policy) {
  dro::host_backend b(1);
  const auto z = w.drawn();
  const auto groups = grouping::uniform(w.count, w.m);
  const auto likelihood = w.table(w.likelihood);
  const auto prior = w.table(w.prior);
  const auto proposal = w.table(w.proposal);
  const auto scored = on_policy ? dro::on_policy(b, likelihood) : dro::off_policy(b, prior, likelihood, proposal);
  const auto scores = repeated(w.scores, w.count);
  matrix norms(groups.total(), tuples::picks);
  dro::plackett_luce_position_norms(b, scores, b.view(z), groups, b.view(norms));
  const auto weights = dro::importance_weights(b, scored);
  const auto c = dro::position_coefficients(b, reward, scored, weights, view(b.view(norms)), {shrinkage, 1});
  matrix gradient(w.count, tuples::documents);
  dro::accumulate_position_gradient(b, scores, b.view(z), groups, c.selector, b.view(gradient));
  outcome result;
  result.mean.assign(tuples::documents, 0);
  for (index_t r = 0; r < w.count; ++r) {
    REQUIRE(c.status(r, 0) == 0);
    real log_p = 0;
    for (index_t i = 0; i < w.m; ++i) log_p += (on_policy ? w.prior : w.proposal)[w.at(r, i)];
    for (std::size_t j = 0; j < result.mean.size(); ++j) {
      const real g = std::exp(static_cast<real>(c.log_scale(r, 0))) * gradient(r, static_cast<index_t>(j));
      result.mean[j] += std::exp(log_p) * g;
      result.variance += std::exp(log_p) * g * g;
    }
  }
  result.variance -= squared_length(result.mean);
  return result;
}

/// ∇ E[x] = Σ p(z) x(z) ∇ log p(z).
template <class X>
std::vector<real> exact_gradient(const tuples& w, const X& x) {
  std::vector<real> truth(tuples::documents, 0);
  for (std::size_t z = 0; z < w.rankings.size(); ++z) {
    const auto score = test::plackett_luce_score(test::row(w.scores, 0), w.rankings[z]);
    for (std::size_t j = 0; j < truth.size(); ++j) truth[j] += std::exp(w.prior[z]) * x(w.likelihood[z]) * score[j];
  }
  return truth;
}

}  // namespace

TEST_CASE("per-position baselines leave the gradient unbiased on- and off-policy, whatever is added to the rewards") {
  for (const index_t m : {2, 3}) {
    for (const double offset : {0.0, -20000.0}) {
      const tuples w(m, offset);
      const auto of_log = exact_gradient(w, [&](real l) { return l - static_cast<real>(offset); });
      CHECK(squared_length(of_log) > 0.05);
      const auto of_likelihood = exact_gradient(w, [](real l) { return std::exp(l); });
      for (const double shrinkage : {0.0, 0.4, 1.0}) {
        for (const bool on_policy : {true, false}) {
          const auto log_reward = exact_outcome(w, dro::log_likelihood_reward{}, shrinkage, on_policy);
          // Rewards near 20000 are rounded to 2^14 u, and what is summed has coefficients below 10; without the offset,
          // 5000 u for scores and norms, times rewards below 4 and ratios below 10.
          const real tolerance = offset == 0 ? 40 * rounding : 10 * 16384 * test::unit_roundoff<double>;
          for (std::size_t j = 0; j < of_log.size(); ++j) {
            DRO_CHECK_NEAR(log_reward.mean[j], of_log[j], tolerance);
          }
          if (offset != 0) continue;  // e^−20000 is 0 in long double's range of interest
          const auto reward = exact_outcome(w, dro::likelihood_reward{}, shrinkage, on_policy);
          for (std::size_t j = 0; j < of_log.size(); ++j) {
            DRO_CHECK_NEAR(reward.mean[j], of_likelihood[j], 40 * rounding);
          }
        }
      }
    }
  }
}

TEST_CASE("the raw plug-in loses to leave-one-out with three draws, and shrinking makes up for most of it") {
  const tuples w(3, 0);
  const real raw = exact_outcome(w, dro::log_likelihood_reward{}, 0, true).variance;
  const real shrunk = exact_outcome(w, dro::log_likelihood_reward{}, 0.75, true).variance;
  const real others = exact_outcome(w, dro::log_likelihood_reward{}, 1, true).variance;
  CHECK(raw > 1.005 * others);
  CHECK(shrunk - others < (raw - others) / 4);
}

TEST_CASE("the coefficients are the formula's, with ratios and norms of other draws") {
  dro::host_backend b(1);
  const index_t m = 5;
  const auto p = test::random_matrix<double>(2, m, -3, 0, 1);
  const auto q = test::random_matrix<double>(2, m, -3, 0, 2);
  const auto l = test::random_matrix<double>(2, m, -6, 0, 3);
  const auto norms = test::random_matrix<double>(2 * m, 2, 0, 2, 4);
  const auto scored = dro::off_policy(b, p, l, q);
  const auto weights = dro::importance_weights(b, scored);
  for (const double shrinkage : {0.0, 0.3, 1.0}) {
    const auto c = dro::position_coefficients(b, dro::log_likelihood_reward{}, scored, weights, view(b.view(norms)),
                                              {shrinkage, 0});
    for (index_t query = 0; query < 2; ++query) {
      CHECK(c.log_scale(query, 0) == 0);
      for (index_t i = 0; i < m; ++i) {
        for (index_t t = 0; t < 2; ++t) {
          const auto rho = [&](index_t j) { return std::exp(static_cast<real>(p(query, j)) - q(query, j)); };
          const auto v = [&](index_t j) { return static_cast<real>(norms(query * m + j, t)); };
          real mean = 0;
          for (index_t j = 0; j < m; ++j) mean += j == i ? 0 : rho(j) * v(j) / (m - 1);
          real top = 0;
          real bottom = 0;
          for (index_t j = 0; j < m; ++j) {
            if (j == i) continue;
            const real u = (1 - static_cast<real>(shrinkage)) * rho(j) * rho(j) * v(j) + shrinkage * mean * rho(j);
            top += u * l(query, j);
            bottom += u;
          }
          // Two queries share the division. ρ up to e^3 and rewards up to 6, each off by a few u, in sums of 4.
          DRO_CHECK_NEAR(c.selector(query * m + i, t), rho(i) / m * (l(query, i) - top / bottom) / 2, 1e-13);
        }
      }
    }
  }
}

TEST_CASE("norms that are all 0 leave the mean of the other draws") {
  dro::host_backend b(1);
  const matrix l(1, 3, {-1, -2, -6});
  const matrix norms(3, 1);
  const auto scored = dro::on_policy(b, l);
  const auto weights = dro::importance_weights(b, scored);
  const auto c = dro::position_coefficients(b, dro::log_likelihood_reward{}, scored, weights, view(b.view(norms)));
  DRO_CHECK_NEAR(c.selector(0, 0), (-1 + 4.0) / 3, 1e-15);  // three operations on numbers below 8
  DRO_CHECK_NEAR(c.selector(1, 0), (-2 + 3.5) / 3, 1e-15);
  DRO_CHECK_NEAR(c.selector(2, 0), (-6 + 1.5) / 3, 1e-15);
}

TEST_CASE("equal draws counted once with their multiplicity weigh as much as when each is listed") {
  dro::host_backend b(1);
  const matrix l(1, 5, {-1, -3, -3, -3, -0.5});
  const matrix norms(5, 1, {0.3, 1.1, 1.1, 1.1, 0.7});
  const auto listed = dro::on_policy(b, l);
  const auto all = dro::position_coefficients(b, dro::log_likelihood_reward{}, listed,
                                              dro::importance_weights(b, listed), view(b.view(norms)), {0.25, 1});
  const matrix l_once(1, 4, {-1, -3, test::nan<double>, -0.5});
  const matrix norms_once(4, 1, {0.3, 1.1, 9, 0.7});
  const matrix times(1, 4, {1, 3, 0, 1});
  const auto groups = grouping::uniform(1, 4);
  const auto counted = dro::on_policy(b, l_once).with(
      {}, dro::grouped_view<const double>(dro::detail::view_of(b, times), groups, "multiplicity"));
  const auto once =
      dro::position_coefficients(b, dro::log_likelihood_reward{}, counted, dro::importance_weights(b, counted),
                                 view(b.view(norms_once)), {0.25, 1});
  REQUIRE(once.status(0, 0) == 0);
  // Sums of five numbers below 4.
  DRO_CHECK_NEAR(once.selector(0, 0), all.selector(0, 0), 1e-14);
  DRO_CHECK_NEAR(once.selector(1, 0), all.selector(1, 0) + all.selector(2, 0) + all.selector(3, 0), 1e-14);
  CHECK(once.selector(2, 0) == 0);
  DRO_CHECK_NEAR(once.selector(3, 0), all.selector(4, 0), 1e-14);
}

TEST_CASE("the baseline of a draw looks at other blocks only, and at none where the proposal does not cover") {
  dro::host_backend b(1);
  matrix l(1, 4, {-1, -2, -4, -0.5});
  const matrix norms(4, 1, {0.3, 1.1, 0.6, 0.7});
  const auto coefficients = [&](const dro::draw_traits& traits) {
    const auto scored = dro::on_policy(b, l).with(traits, {});
    return dro::position_coefficients(b, dro::log_likelihood_reward{}, scored, dro::importance_weights(b, scored),
                                      view(b.view(norms)), {0.25, 1});
  };
  const auto before = coefficients({2, true});
  l(0, 1) = -3;
  const auto after = coefficients({2, true});
  CHECK(before.selector(0, 0) == after.selector(0, 0));  // its partner changed
  CHECK(before.selector(2, 0) != after.selector(2, 0));
  CHECK(coefficients({4, true}).status(0, 0) == static_cast<int>(dro::status::degenerate));
  CHECK(coefficients({4, true}).selector(1, 0) == 0);

  const auto truncated = coefficients({1, false});
  CHECK(truncated.status(0, 0) == static_cast<int>(dro::status::support));
  for (index_t i = 0; i < 4; ++i) CHECK(truncated.selector(i, 0) == l(0, i) / 4);
}

TEST_CASE("rewards that are not finite, and single draws, become statuses; options out of range throw") {
  dro::host_backend b(1);
  const double inf = test::infinity<double>;
  const matrix l(4, 2, {-1, -inf, -1, test::nan<double>, -1, inf, -1, -2});
  const matrix norms(8, 1, {1, 1, 1, 1, 1, 1, 1, 1});
  const auto scored = dro::on_policy(b, l);
  const auto weights = dro::importance_weights(b, scored);
  const auto c = dro::position_coefficients(b, dro::log_likelihood_reward{}, scored, weights, view(b.view(norms)));
  const dro::status expected[] = {dro::status::impossible, dro::status::not_a_number, dro::status::unbounded,
                                  dro::status::ok};
  for (index_t q = 0; q < 4; ++q) {
    CHECK(c.status(q, 0) == static_cast<int>(expected[q]));
    CHECK((c.selector(2 * q, 0) == 0) == (q < 3));
    CHECK((c.selector(2 * q + 1, 0) == 0) == (q < 3));
  }
  // A likelihood of 0 is a reward like any other.
  const auto f = dro::position_coefficients(b, dro::likelihood_reward{}, scored, weights, view(b.view(norms)));
  CHECK(f.status(0, 0) == 0);
  CHECK(f.log_scale(0, 0) == -1);
  CHECK(f.selector(0, 0) == doctest::Approx(1.0 / 8));  // (1 − 0)/2, of four queries
  CHECK(f.selector(1, 0) == doctest::Approx(-1.0 / 8));

  const matrix alone(1, 1, {-1});
  const auto one = dro::on_policy(b, alone);
  const auto degenerate = dro::position_coefficients(b, dro::log_likelihood_reward{}, one,
                                                     dro::importance_weights(b, one), view(b.view(alone)));
  CHECK(degenerate.status(0, 0) == static_cast<int>(dro::status::degenerate));
  CHECK(degenerate.selector(0, 0) == 0);

  for (const double shrinkage : {-0.1, 1.1, test::nan<double>}) {
    CHECK_THROWS_AS((void)dro::position_coefficients(b, dro::log_likelihood_reward{}, scored, weights,
                                                     view(b.view(norms)), {shrinkage, 0}),
                    dro::option_error);
  }
  CHECK_THROWS_AS(
      (void)dro::position_coefficients(b, dro::log_likelihood_reward{}, scored, weights, view(b.view(alone))),
      dro::shape_error);
}
