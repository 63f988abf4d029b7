// SPDX-License-Identifier: Apache-2.0
// RELAX: the law of the conditional noise, its derivatives, and an estimate whose mean is the exact gradient.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/gradient/relax.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/enumerate.hpp>
#include <dro/ranking/plackett_luce.hpp>

#include "support/matrices.hpp"

namespace {

using dro::grouping;
using dro::index_t;
using test::ranking;
using test::real;
using matrix = dro::host_matrix<double>;
using view = dro::matrix_view<const double>;
using random_state = dro::random_state<dro::host_backend>;

/// c(z) = φ_0 tanh(Σ_j φ_{j+1} e_j), e_j = z_j / (1 + z_j²): bounded, neither linear in φ nor a function of the
/// softmax.
struct bounded_control {
  view parameters;  // [1 × n + 1]

  [[nodiscard]] index_t parameter_count() const { return parameters.cols; }
  static double feature(double z) { return z > -1e30 ? z / (1 + z * z) : 0; }
  static double slope(double z) { return z > -1e30 ? (1 - z * z) / ((1 + z * z) * (1 + z * z)) : 0; }
  [[nodiscard]] double inner(const double* z, index_t n) const {
    double total = 0;
    for (index_t j = 0; j < n; ++j) total += parameters(0, j + 1) * feature(z[j]);
    return std::tanh(total);
  }

  template <class Team>
  double value(Team&, index_t, const double* z, index_t n, double*) const {
    return parameters(0, 0) * inner(z, n);
  }
  template <class Team>
  void gradient(Team&, index_t, const double* z, index_t n, double* out, double*) const {
    const double h = inner(z, n);
    for (index_t j = 0; j < n; ++j) out[j] = parameters(0, 0) * (1 - h * h) * parameters(0, j + 1) * slope(z[j]);
  }
  template <class Team>
  void accumulate_parameter_gradient(Team&, index_t query, const double* z, index_t n, double weight,
                                     const double* direction, dro::matrix_view<double> out, double*) const {
    const double h = inner(z, n);
    const double d = 1 - h * h;
    double along = 0;  // Σ_j direction_j ∂(argument of tanh)/∂z_j
    for (index_t j = 0; j < n; ++j) along += direction[j] * parameters(0, j + 1) * slope(z[j]);
    out(query, 0) += weight * h + d * along;
    for (index_t j = 0; j < n; ++j) {
      out(query, j + 1) += parameters(0, 0) * (weight * d * feature(z[j]) - 2 * h * d * feature(z[j]) * along +
                                               d * direction[j] * slope(z[j]));
    }
  }
};
static_assert(dro::control_variate<bounded_control, double>);
static_assert(dro::control_variate<dro::softmax_control_variate<float>, float>);

matrix repeated(const matrix& m, index_t times) {
  matrix all(times, m.cols());
  for (index_t i = 0; i < times; ++i) std::copy(m.data(), m.data() + m.cols(), all.data() + i * m.cols());
  return all;
}

/// x of documents that each have a weight of their own, for `queries` queries.
matrix identity_features(index_t queries, index_t n) {
  matrix x(queries * n, n);
  for (index_t i = 0; i < queries * n; ++i) x(i, i % n) = 1;
  return x;
}

matrix conditional_noise(dro::host_backend& b, const matrix& scores, const dro::host_matrix<dro::document_t>& z,
                         const random_state& random) {
  matrix noise(z.rows(), scores.cols());
  dro::plackett_luce_conditional_noise(b, scores, b.view(z), grouping::uniform(scores.rows(), z.rows() / scores.rows()),
                                       random.source(b), b.view(noise));
  return noise;
}

}  // namespace

TEST_CASE("conditional noise keeps the ranking, and averaged over rankings it is the selector's own noise") {
  dro::host_backend b(1);
  constexpr index_t n = 4;
  constexpr index_t count = 40000;
  const auto scores = test::random_matrix<double>(1, n, -1.5, 1.5, 7);
  const auto s = test::row(scores, 0);
  for (const index_t k : {1, 2, 3, 4}) {
    const random_state first(b, 11);
    const random_state second(b, 12);
    const auto drawn = dro::draw_plackett_luce(b, scores, first.source(b), {count, k});
    const auto noise = conditional_noise(b, scores, drawn.rankings(), second);
    std::map<ranking, std::size_t> orders;
    bool kept = true;
    for (index_t r = 0; r < count; ++r) {
      ranking order(n);
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](auto i, auto j) { return noise(r, i) > noise(r, j); });
      for (index_t t = 0; t < k; ++t) kept = kept && order[static_cast<std::size_t>(t)] == drawn.rankings()(r, t);
      ++orders[order];
    }
    CHECK(kept);
    // The order of all n is Plackett–Luce again, so what comes after the K picks is right given them.
    std::map<ranking, real> probability;
    for (const auto& z : test::all_rankings(n, n)) probability[z] = std::exp(test::plackett_luce_log_prob(s, z));
    CHECK(test::chi_square(orders, probability, count) < test::chi_square_bound(probability.size() - 1));
    // Each z̃_j − s_j, and their sum over two documents' maximum (s_0 and s_3 merge to log(e^s_0 + e^s_3)), is Gumbel.
    // P(√N D > 2.9) ≤ 2 exp(−2 · 2.9²) = 1e-7 (Massart 1990); the noise's own granularity adds below 1e-6.
    const auto distance = [&](const auto& sample) {
      std::vector<double> x;
      for (index_t r = 0; r < count; ++r) x.push_back(sample(r));
      std::sort(x.begin(), x.end());
      double largest = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double cdf = std::exp(-std::exp(-x[i]));
        const double below = static_cast<double>(i) / count;
        largest = std::max({largest, cdf - below, below + 1.0 / count - cdf});
      }
      return largest;
    };
    const double bound = 2.9 / std::sqrt(static_cast<double>(count)) + 1e-6;
    for (index_t j = 0; j < n; ++j) {
      CHECK(distance([&](index_t r) { return noise(r, j) - scores(0, j); }) < bound);
    }
    const auto merged = static_cast<double>(test::log_sum_exp({s[0], s[3]}));
    CHECK(distance([&](index_t r) { return std::max(noise(r, 0), noise(r, 3)) - merged; }) < bound);
  }
}

TEST_CASE(
    "conditional noise is −inf for impossible documents and for what is not a ranking; scores far apart are fine") {
  dro::host_backend b(1);
  const double inf = test::infinity<double>;
  const auto scores = test::matrix<double>(2, 4, std::vector<double>{1, -inf, 0, 2, 900, -900, 0, 899});
  const auto z = test::ranking_matrix({{3, 0}, {3, 1}, {3, -1}, {0, 3}, {1, 0}, {0, 0}});
  const random_state random(b, 5);
  const auto noise = conditional_noise(b, scores, z, random);
  CHECK(noise(0, 1) == -inf);
  CHECK(noise(0, 3) >= noise(0, 0));
  CHECK(noise(0, 0) >= noise(0, 2));
  CHECK(noise(0, 2) > -inf);
  for (const index_t r : {1, 2, 5}) {
    for (index_t j = 0; j < 4; ++j) CHECK(noise(r, j) == -inf);
  }
  for (const index_t r : {3, 4}) {
    for (index_t j = 0; j < 4; ++j) CHECK(std::isfinite(noise(r, j)));
  }
  CHECK(noise(4, 1) > 800);  // dragged above its better
}

TEST_CASE("the pullback of the noise is its derivative at fixed random words") {
  dro::host_backend b(1);
  constexpr index_t n = 5;
  for (const index_t k : {1, 2, 4, 5}) {
    auto scores = test::random_matrix<double>(1, n, -1.5, 1.5, 17);
    if (k < 4) scores(0, 1) = -test::infinity<double>;
    std::vector<ranking> rankings;
    for (const auto& z : test::all_rankings(n, k)) {
      if (test::plackett_luce_log_prob(test::row(scores, 0), z) > -test::infinity<real>) rankings.push_back(z);
    }
    const auto z = test::ranking_matrix(rankings);
    const auto groups = grouping::uniform(1, z.rows());
    const random_state random(b, 3);
    auto a = test::random_matrix<double>(z.rows(), n, -1, 1, 19);
    if (k < 4) {
      for (index_t r = 0; r < z.rows(); ++r) a(r, 1) = 0;
    }
    const auto noise = conditional_noise(b, scores, z, random);
    matrix found(z.rows(), n);
    dro::conditional_noise_pullback(b, scores, b.view(z), groups, view(b.view(noise)), view(b.view(a)), b.view(found));
    constexpr double h = 1e-5;
    for (index_t j = 0; j < n; ++j) {
      if (scores(0, j) == -test::infinity<double>) continue;
      auto above = scores;
      auto below = scores;
      above(0, j) += h;
      below(0, j) -= h;
      const auto high = conditional_noise(b, above, z, random);
      const auto low = conditional_noise(b, below, z, random);
      for (index_t r = 0; r < z.rows(); ++r) {
        real expected = 0;
        for (index_t i = 0; i < n; ++i) {
          if (scores(0, i) == -test::infinity<double>) continue;
          expected += a(r, i) * (high(r, i) - low(r, i)) / (static_cast<real>(above(0, j)) - below(0, j));
        }
        // z̃ is a log-sum-exp of log-sums: third derivatives below 6, h²/6 · 6 = 1e-10 each of 5; z̃ below 25 is rounded
        // to 100 u, over h: 1e-9 each of 5.
        DRO_CHECK_NEAR(found(r, j), expected, 6e-9);
      }
    }
    // A constant added to all scores is added to all z̃.
    for (index_t r = 0; r < z.rows(); ++r) {
      real sum = 0;
      real expected = 0;
      for (index_t j = 0; j < n; ++j) {
        sum += found(r, j);
        expected += a(r, j);
      }
      DRO_CHECK_NEAR(sum, expected, 1e-13);  // shares off by 100 u, sums of 5 below 5
    }
  }
}

namespace {

/// RELAX with one draw of a ranking for each row, the same for as many queries as asked, divided by 1.
struct relax_run {
  matrix g, d_parameters;
  dro::host_matrix<std::int32_t> status;
};

template <class Control>
relax_run run_relax(dro::host_backend& b, const matrix& scores, const dro::host_matrix<dro::document_t>& z,
                    const matrix& rewards, const Control& control, const random_state& random,
                    index_t query_count = 1) {
  relax_run out;
  out.g = matrix(scores.rows(), scores.cols());
  out.d_parameters = matrix(1, control.parameter_count());
  out.status =
      dro::relax_gradient(b, scores, b.view(z), grouping::uniform(scores.rows(), z.rows() / scores.rows()), rewards,
                          control, random.source(b), b.view(out.g), b.view(out.d_parameters), query_count);
  return out;
}

/// Checks that d_parameters is the derivative of −‖g‖² of a single draw.
template <class MakeControl>
void check_parameter_gradient(index_t k, bool padded, const MakeControl& make) {
  dro::host_backend b(1);
  constexpr index_t n = 4;
  auto scores = test::random_matrix<double>(1, n, -1.5, 1.5, 27);
  if (padded) scores(0, 2) = -test::infinity<double>;
  const random_state random(b, 6);
  const matrix reward(1, 1, {-0.7});
  for (const auto& z : test::all_rankings(n, k)) {
    if (test::plackett_luce_log_prob(test::row(scores, 0), z) == -test::infinity<real>) continue;
    auto parameters = test::random_matrix<double>(1, n + 1, -1, 1, 28);
    const auto drawn = test::ranking_matrix({z});
    const auto found = run_relax(b, scores, drawn, reward, make(b, parameters), random);
    CHECK(test::largest_magnitude(test::elements(found.d_parameters)) > 1e-3);
    if (padded) CHECK(found.g(0, 2) == 0);
    const auto expected = test::central_differences(test::elements(parameters), [&] {
      real squares = 0;
      const auto run = run_relax(b, scores, drawn, reward, make(b, parameters), random);
      for (const double v : test::elements(run.g)) squares += static_cast<real>(v) * v;
      return -squares;
    });
    for (index_t i = 0; i <= n; ++i) {
      // ‖g‖² and its derivatives are below 100: h²/6 · 100 = 2e-9, and ‖g‖² rounded to 100 · 50 u, over h: 5e-8.
      DRO_CHECK_NEAR(found.d_parameters(0, i), expected[static_cast<std::size_t>(i)], 1e-7);
    }
  }
}

}  // namespace

TEST_CASE(
    "the parameters' gradient is that of −‖g‖², for K below n and K = n, with padding, for two control variates") {
  const auto x = identity_features(1, 4);
  for (const index_t k : {1, 2, 3, 4}) {
    for (const bool padded : {false, true}) {
      if (padded && k == 4) continue;
      check_parameter_gradient(k, padded, [&](dro::host_backend& b, const matrix& parameters) {
        return dro::softmax_control_variate<double>(b.view(x), b.view(parameters), 0.7);
      });
      check_parameter_gradient(k, padded, [](dro::host_backend& b, const matrix& parameters) {
        return bounded_control{b.view(parameters)};
      });
    }
  }
}

TEST_CASE("with a constant control variate it is the policy gradient with that baseline") {
  dro::host_backend b(1);
  constexpr index_t n = 5;
  const auto z = test::ranking_matrix(test::all_rankings(n, 3));
  const auto scores = repeated(test::random_matrix<double>(1, n, -2, 2, 31), z.rows());
  const auto rewards = test::random_matrix<double>(z.rows(), 1, -3, 3, 32);
  const auto x = identity_features(z.rows(), n);
  const matrix parameters(1, n + 1, {0.75, 0, 0, 0, 0, 0});
  const random_state random(b, 9);
  const auto found =
      run_relax(b, scores, z, rewards, dro::softmax_control_variate<double>(b.view(x), b.view(parameters)), random);
  for (index_t r = 0; r < z.rows(); ++r) {
    const auto score = test::plackett_luce_score(test::row(scores, r), test::ranking_of(z, r));
    for (index_t j = 0; j < n; ++j) {
      // A score of at most 3 is off by below 500 u, times a reward below 4.
      DRO_CHECK_NEAR(found.g(r, j), (rewards(r, 0) - 0.75L) * score[static_cast<std::size_t>(j)],
                     2000 * test::unit_roundoff<double>);
    }
  }
}

namespace {

/// Rewards of the rankings of K of 4 documents, one random number each.
struct world {
  static constexpr index_t n = 4;
  index_t k;
  matrix scores = test::random_matrix<double>(1, n, -1.5, 1.5, 41);
  std::vector<ranking> rankings;
  std::vector<real> reward;

  explicit world(index_t picks) : k(picks), rankings(test::all_rankings(n, picks)) {
    test::numbers next(42);
    for (std::size_t z = 0; z < rankings.size(); ++z) reward.push_back(next.between(-2, 1));
  }
  [[nodiscard]] std::vector<real> gradient() const {
    std::vector<real> total(n, 0);
    for (std::size_t z = 0; z < rankings.size(); ++z) {
      const real p = std::exp(test::plackett_luce_log_prob(test::row(scores, 0), rankings[z]));
      const auto score = test::plackett_luce_score(test::row(scores, 0), rankings[z]);
      for (std::size_t j = 0; j < score.size(); ++j) total[j] += p * reward[z] * score[j];
    }
    return total;
  }
};

struct sample_moments {
  std::vector<real> mean, error;  // error: standard error of the mean
  real variance = 0;              // of g, all coordinates together
  std::vector<real> d_parameters;
};

/// `count` estimates from one draw each.
template <class MakeControl>
sample_moments sample_relax(const world& w, index_t count, std::uint64_t seed, const MakeControl& make) {
  dro::host_backend b(1);
  const random_state random(b, seed);
  const auto scores = repeated(w.scores, count);
  const auto drawn = dro::draw_plackett_luce(b, scores, random.source(b), {1, w.k});
  matrix rewards(count, 1);
  for (index_t r = 0; r < count; ++r) {
    rewards(r, 0) = static_cast<double>(
        w.reward[static_cast<std::size_t>(dro::ranking_code(b.view(drawn.rankings()), r, world::n))]);
  }
  const auto run = run_relax(b, scores, drawn.rankings(), rewards, make(b), random, 1);
  sample_moments m;
  for (index_t j = 0; j < world::n; ++j) {
    real sum = 0;
    real squares = 0;
    for (index_t r = 0; r < count; ++r) {
      sum += run.g(r, j);
      squares += static_cast<real>(run.g(r, j)) * run.g(r, j);
    }
    const real mean = sum / static_cast<real>(count);
    const real variance = squares / static_cast<real>(count) - mean * mean;
    m.mean.push_back(mean);
    m.error.push_back(std::sqrt(variance / static_cast<real>(count)));
    m.variance += variance;
  }
  for (const double d : test::elements(run.d_parameters)) m.d_parameters.push_back(d / static_cast<real>(count));
  return m;
}

}  // namespace

TEST_CASE("its mean is the exact gradient, whatever the control variate, for K below n and K = n") {
  constexpr index_t count = 40000;
  const auto x = identity_features(count, world::n);
  const auto parameters = test::random_matrix<double>(1, world::n + 1, -2, 2, 43);
  for (const index_t k : {1, 2, 3, 4}) {
    const world w(k);
    const auto truth = w.gradient();
    const auto check = [&](const sample_moments& m) {
      for (std::size_t j = 0; j < truth.size(); ++j) {
        CHECK(m.error[j] < 0.01);
        DRO_CHECK_NEAR(m.mean[j], truth[j], 4 * m.error[j]);  // passed with probability 1 − 6e-5 over seeds
      }
    };
    CHECK(test::largest_magnitude(truth) > 0.07);
    check(sample_relax(w, count, 51, [&](dro::host_backend& b) {
      return dro::softmax_control_variate<double>(b.view(x), b.view(parameters));
    }));
    check(sample_relax(w, count, 52, [&](dro::host_backend& b) { return bounded_control{b.view(parameters)}; }));
  }
}

TEST_CASE("moving the parameters uphill lowers the variance below that of the best constant baseline") {
  world w(2);
  // A reward that the order of the documents explains: what RELAX is for.
  const double gain[] = {1, -0.5, 0.25, -1.5};
  for (std::size_t z = 0; z < w.rankings.size(); ++z) {
    w.reward[z] = gain[w.rankings[z][0]] + 0.6 * gain[w.rankings[z][1]];
  }
  real xx = 0;  // E[f² ‖s‖²], E[f ‖s‖²], E‖s‖²
  real fs = 0;
  real one = 0;
  real mean = 0;
  for (std::size_t z = 0; z < w.rankings.size(); ++z) {
    const real p = std::exp(test::plackett_luce_log_prob(test::row(w.scores, 0), w.rankings[z]));
    real squares = 0;
    for (const real v : test::plackett_luce_score(test::row(w.scores, 0), w.rankings[z])) squares += v * v;
    xx += p * w.reward[z] * w.reward[z] * squares;
    fs += p * w.reward[z] * squares;
    one += p * squares;
  }
  for (const real g : w.gradient()) mean += g * g;
  const real best_constant = xx - fs * fs / one - mean;

  constexpr index_t count = 2000;
  const auto x = identity_features(count, world::n);
  matrix parameters(1, world::n + 1);
  const auto make = [&](dro::host_backend& b) {
    return dro::softmax_control_variate<double>(b.view(x), b.view(parameters));
  };
  for (std::uint64_t step = 0; step < 60; ++step) {
    const auto m = sample_relax(w, count, 100 + step, make);
    for (index_t i = 0; i <= world::n; ++i) {
      parameters(0, i) += 0.2 * static_cast<double>(m.d_parameters[static_cast<std::size_t>(i)]);
    }
  }
  const auto learned = sample_relax(w, count, 999, make);
  // The variance of 2000 draws is itself known to about 10 %.
  CHECK(learned.variance < 0.8 * best_constant);
}

TEST_CASE("draws are averaged and queries divided; rewards that are not finite become statuses; nothing is read") {
  dro::deferred_backend b;
  dro::host_backend host(1);
  const double inf = test::infinity<double>;
  const auto scores = test::random_matrix<double>(5, 4, -1.5, 1.5, 61);
  const auto z = test::ranking_matrix(
      {{0, 1}, {2, 3}, {1, 2}, {3, 0}, {0, 2}, {0, 1}, {1, 0}, {2, 1}, {3, 1}, {3, dro::no_document}});
  const matrix rewards(10, 1, {0.5, -1, 0, test::nan<double>, -inf, 1, inf, 1, 0.25, 5});
  const auto x = identity_features(5, 4);
  const auto parameters = test::random_matrix<double>(1, 5, -1, 1, 62);
  const random_state on_host(host, 63);
  const auto expected = run_relax(
      host, scores, z, rewards, dro::softmax_control_variate<double>(host.view(x), host.view(parameters)), on_host, 5);
  const dro::status states[] = {dro::status::ok, dro::status::not_a_number, dro::status::impossible,
                                dro::status::unbounded, dro::status::ok};
  for (index_t q = 0; q < 5; ++q) {
    CHECK(expected.status(q, 0) == static_cast<int>(states[q]));
    if (states[q] == dro::status::ok) continue;
    for (index_t j = 0; j < 4; ++j) CHECK(expected.g(q, j) == 0);
  }
  CHECK(test::largest_magnitude(test::row(expected.g, 0)) > 0.01);
  for (const double d : test::elements(expected.d_parameters)) CHECK(std::isfinite(d));

  // The malformed draw counts as 0: draw 8 alone, halved. It is the first draw of query 4 in both.
  const auto alone = run_relax(host, scores, test::ranking_matrix({{0, 1}, {1, 2}, {0, 2}, {1, 0}, {3, 1}}),
                               matrix(5, 1, {0.5, 0, 1, 1, 0.25}),
                               dro::softmax_control_variate<double>(host.view(x), host.view(parameters)), on_host, 5);
  for (index_t j = 0; j < 4; ++j) CHECK(expected.g(4, j) == alone.g(4, j) / 2);

  const auto& there = std::as_const(b);
  const auto s_there = dro::write(b, scores);
  const auto z_there = dro::write(b, z);
  const auto f_there = dro::write(b, rewards);
  const auto x_there = dro::write(b, x);
  const auto p_there = dro::write(b, parameters);
  const dro::random_state<dro::deferred_backend> random(b, 63);
  auto g = dro::make_filled<double>(b, 5, 4, 1);
  auto d = dro::make_filled<double>(b, 1, 5, 2);
  const auto status =
      dro::relax_gradient(b, s_there, there.view(z_there), grouping::uniform(5, 2), f_there,
                          dro::softmax_control_variate<double>(there.view(x_there), there.view(p_there)),
                          random.source(b), b.view(g), b.view(d));
  CHECK(b.reads() == 0);
  const auto g_back = dro::read(b, g);
  const auto d_back = dro::read(b, d);
  CHECK(test::same(dro::read(b, status), expected.status));
  for (index_t q = 0; q < 5; ++q) {
    for (index_t j = 0; j < 4; ++j) DRO_CHECK_NEAR(g_back(q, j), 1 + expected.g(q, j), 1e-15);  // 4 u for the sum
  }
  for (index_t i = 0; i < 5; ++i) DRO_CHECK_NEAR(d_back(0, i), 2 + expected.d_parameters(0, i), 1e-15);
}

TEST_CASE("shapes and options that do not fit are refused") {
  dro::host_backend b(1);
  const auto scores = test::random_matrix<double>(1, 4, -1, 1, 71);
  const auto z = test::ranking_matrix({{0, 1}});
  const auto x = identity_features(1, 4);
  const matrix parameters(1, 5);
  const random_state random(b, 1);
  using control = dro::softmax_control_variate<double>;
  CHECK_THROWS_AS(control(b.view(x), b.view(scores)), dro::shape_error);
  CHECK_THROWS_AS(control(b.view(x), b.view(parameters), 0), dro::option_error);
  CHECK_THROWS_AS(control(b.view(x), b.view(parameters), test::nan<double>), dro::option_error);
  const control fine(b.view(x), b.view(parameters));
  const matrix short_features(3, 4);
  const control of_three(b.view(short_features), b.view(parameters));
  CHECK_THROWS_AS((void)run_relax(b, scores, z, matrix(1, 1), of_three, random), dro::shape_error);
  CHECK_NOTHROW((void)run_relax(b, scores, z, matrix(1, 1), fine, random));
  CHECK_THROWS_AS((void)run_relax(b, scores, z, matrix(2, 1), fine, random), dro::shape_error);
  CHECK_THROWS_AS((void)run_relax(b, scores, dro::host_matrix<dro::document_t>(1, 0), matrix(1, 1), fine, random),
                  dro::option_error);
}
