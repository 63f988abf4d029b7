// SPDX-License-Identifier: Apache-2.0
// Noise and signal of gradients from split halves, against the exact mean and variance of the estimator.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/gradient_noise.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>

#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using test::exact_world;
using test::real;
using backend = dro::host_backend;
using draws = dro::draws<backend, double>;
using matrix = dro::host_matrix<double>;
using vector = std::vector<real>;

/// All lists of m numbers below `kinds`.
std::vector<std::vector<std::size_t>> tuples(std::size_t kinds, std::size_t m) {
  std::vector<std::vector<std::size_t>> all{{}};
  for (std::size_t i = 0; i < m; ++i) {
    std::vector<std::vector<std::size_t>> longer;
    for (const auto& t : all) {
      for (std::size_t z = 0; z < kinds; ++z) {
        longer.push_back(t);
        longer.back().push_back(z);
      }
    }
    all = std::move(longer);
  }
  return all;
}

real dot(const vector& a, const vector& b) {
  real sum = 0;
  for (std::size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

/// What there is to know of one query of a world: log p(z), log p(y|z) and ∂ log p(z)/∂ s of each ranking.
struct enumerated {
  vector prior, likelihood;
  std::vector<vector> score;
  explicit enumerated(const exact_world& w) : prior(w.log_prior(0)), likelihood(w.log_likelihood(0)) {
    for (const auto& z : w.rankings) score.push_back(test::plackett_luce_score(test::row(w.scores, 0), z));
  }
  /// Σ c_i score_i.
  [[nodiscard]] vector gradient(const std::vector<std::size_t>& tuple, const vector& c) const {
    vector g(score[0].size(), 0);
    for (std::size_t i = 0; i < tuple.size(); ++i) {
      for (std::size_t j = 0; j < g.size(); ++j) g[j] += c[i] * score[tuple[i]][j];
    }
    return g;
  }
};

/// ‖E g‖² and tr Var(g) of an estimator over tuples of `probability`.
struct signal_and_variance {
  real signal = 0;
  real variance = 0;
};
template <class Gradient, class Probability>
signal_and_variance exact(std::size_t kinds, std::size_t m, const Gradient& gradient, const Probability& probability) {
  vector mean;
  real second = 0;
  for (const auto& t : tuples(kinds, m)) {
    const vector g = gradient(t);
    mean.resize(g.size(), 0);
    for (std::size_t j = 0; j < g.size(); ++j) mean[j] += probability(t) * g[j];
    second += probability(t) * dot(g, g);
  }
  return {dot(mean, mean), second - dot(mean, mean)};
}

/// w̄_i − ρ̄_i, from the definition.
vector centred(const enumerated& e, const std::vector<std::size_t>& tuple, bool on_policy) {
  vector log_w;
  vector log_ratio;
  for (const std::size_t z : tuple) {
    log_ratio.push_back(on_policy ? 0 : e.prior[z]);
    log_w.push_back(log_ratio.back() + e.likelihood[z]);
  }
  vector c = test::softmax(log_w);
  const vector share = test::softmax(log_ratio);
  for (std::size_t i = 0; i < c.size(); ++i) c[i] -= share[i];
  return c;
}

dro::gradient_noise_summary read_summary(const matrix& sums) { return dro::gradient_noise_summary::of(sums.data()); }

/// The world's query `count` times over.
matrix repeated_scores(const exact_world& w, index_t count) {
  matrix s(count, w.documents);
  for (index_t q = 0; q < count; ++q) {
    for (index_t j = 0; j < w.documents; ++j) s(q, j) = w.scores(0, j);
  }
  return s;
}

/// log p(y|x,d_z) of draws by their place among all rankings.
matrix likelihood_of(const exact_world& w, const enumerated& e, const dro::host_matrix<dro::document_t>& rankings) {
  matrix l(rankings.rows(), 1);
  for (index_t i = 0; i < rankings.rows(); ++i) {
    const auto z = test::ranking_of(rankings, i);
    std::size_t place = 0;
    while (w.rankings[place] != z) ++place;
    l(i, 0) = static_cast<double>(e.likelihood[place]);
  }
  return l;
}

}  // namespace

TEST_CASE("all lists of uniform draws once: signal and variance of half of them, exactly") {
  // q is uniform, so that every list of m rankings is as probable as any other, and the means over all lists are the
  // expectations themselves.
  const exact_world w(3, 2, 1, 3, 91);
  const enumerated e(w);
  for (const std::size_t m : {4U, 5U}) {
    const auto all = tuples(e.prior.size(), m);
    const auto count = static_cast<index_t>(all.size());
    std::vector<test::ranking> rankings;
    matrix p(count * static_cast<index_t>(m), 1);
    matrix l(p.rows(), 1);
    matrix log_q(p.rows(), 1);
    for (index_t s = 0; s < p.rows(); ++s) {
      const std::size_t z = all[static_cast<std::size_t>(s) / m][static_cast<std::size_t>(s) % m];
      rankings.push_back(w.rankings[z]);
      p(s, 0) = static_cast<double>(e.prior[z]);
      l(s, 0) = static_cast<double>(e.likelihood[z]);
      log_q(s, 0) = -std::log(static_cast<double>(e.prior.size()));
    }
    backend b(1);
    const draws z(b, test::ranking_matrix(rankings), log_q, dro::grouping::uniform(count, static_cast<index_t>(m)));
    const auto scores = dro::off_policy(b, p, l, z);
    const auto measured = [&](const auto& objective) {
      matrix sums(1, 4);
      dro::accumulate_gradient_noise(b, objective, repeated_scores(w, count), z, scores, {}, b.view(sums));
      return read_summary(sums);
    };
    const real uniform = 1 / static_cast<real>(e.prior.size());
    const auto check = [&](const dro::gradient_noise_summary& found, const auto& coefficients) {
      const auto truth = exact(
          e.prior.size(), 2, [&](const auto& t) { return e.gradient(t, coefficients(t)); },
          [&](const auto&) { return uniform * uniform; });
      CHECK(found.queries == count);
      CHECK(truth.signal > 1e-4);
      // Coefficients of about 30 u times scores below 2, in sums of 36 terms of at most 1.
      DRO_CHECK_NEAR(found.signal, truth.signal, 1e-13);
      DRO_CHECK_NEAR(found.variance, truth.variance, 1e-13);
      DRO_CHECK_NEAR(found.signal_to_noise(), truth.signal / truth.variance, 1e-13 / truth.variance);
    };
    check(measured(dro::evidence<>{}), [&](const auto& t) { return centred(e, t, false); });
    // (ρ_i/2) (ℓ_i − ρ_j ℓ_j): leave-one-out of two.
    check(measured(dro::expected_log_likelihood<>{}), [&](const auto& t) {
      const auto ratio = [&](std::size_t i) { return std::exp(e.prior[t[i]]) / uniform; };
      vector c(2);
      for (const std::size_t i : {0U, 1U}) {
        c[i] = ratio(i) / 2 * (e.likelihood[t[i]] - ratio(1 - i) * e.likelihood[t[1 - i]]);
      }
      return c;
    });
  }
}

TEST_CASE("draws of the selector itself: signal and variance within four standard errors, joined or not") {
  const exact_world w(3, 2, 1, 3, 93);
  const enumerated e(w);
  constexpr index_t count = 20000;
  const auto truth = exact(
      e.prior.size(), 3, [&](const auto& t) { return e.gradient(t, centred(e, t, true)); },
      [&](const auto& t) {
        real log_p = 0;
        for (const std::size_t z : t) log_p += e.prior[z];
        return std::exp(log_p);
      });
  backend b(1);
  dro::random_state<backend> random(b, 77);
  const matrix s = repeated_scores(w, count);
  for (const bool joined : {false, true}) {
    auto z = dro::draw_plackett_luce(b, s, random.source(b), {6, 2});
    if (joined) {
      // The first of equal draws stands for all of them.
      matrix copies(count * 6, 1);
      for (index_t i = 0; i < copies.rows(); ++i) {
        index_t first = i - i % 6;
        while (test::ranking_of(z.rankings(), first) != test::ranking_of(z.rankings(), i)) ++first;
        copies(first, 0) += 1;
      }
      z.set_multiplicity(b, std::move(copies));
    }
    const matrix l = likelihood_of(w, e, z.rankings());
    const auto scores = dro::on_policy(b, l, z);
    matrix sums(1, 4);
    dro::accumulate_gradient_noise(b, dro::evidence<>{}, s, z, scores, random.source(b), b.view(sums));
    const auto found = read_summary(sums);
    CHECK(found.queries == count);
    DRO_CHECK_NEAR(found.signal, truth.signal, 4 * found.signal_error);
    CHECK(4 * found.signal_error < 0.1 * static_cast<double>(truth.signal));
    // ‖g_A − g_B‖²/2 lies in [0, 2 max ‖g‖²], so its variance is at most its mean times that (Bhatia & Davis 2000).
    real largest = 0;
    for (const auto& t : tuples(e.prior.size(), 3)) {
      const auto g = e.gradient(t, centred(e, t, true));
      largest = std::max(largest, dot(g, g));
    }
    DRO_CHECK_NEAR(found.variance, truth.variance, 4 * std::sqrt(2 * largest * truth.variance / count));
    CHECK(4 * std::sqrt(2 * largest * truth.variance / count) < 0.1 * truth.variance);
    random.advance(b);
  }
}

TEST_CASE("halves are disjoint, equally large and made of whole blocks") {
  backend b(1);
  const auto halves_of = [&](index_t size, index_t block, const std::vector<double>& copies) {
    draws z(b, dro::host_matrix<dro::document_t>(size, 1), matrix(size, 1), dro::grouping::uniform(1, size),
            {.block = block});
    if (!copies.empty()) z.set_multiplicity(b, test::column(copies));
    const matrix l(size, 1);
    const auto h = dro::split_halves(b, z, dro::on_policy(b, l, z), {9, nullptr});
    return std::pair(vector(test::elements(h.first).begin(), test::elements(h.first).end()),
                     vector(test::elements(h.second).begin(), test::elements(h.second).end()));
  };
  CHECK(halves_of(4, 1, {}) == std::pair(vector{1, 1, 0, 0}, vector{0, 0, 1, 1}));
  CHECK(halves_of(5, 1, {}) == std::pair(vector{1, 1, 0, 0, 0}, vector{0, 0, 1, 1, 0}));
  CHECK(halves_of(1, 1, {}) == std::pair(vector{0}, vector{0}));
  CHECK(halves_of(6, 2, {}) == std::pair(vector{1, 1, 0, 0, 0, 0}, vector{0, 0, 1, 1, 0, 0}));
  CHECK(halves_of(5, 2, {}) == std::pair(vector{1, 1, 0, 0, 0}, vector{0, 0, 1, 1, 0}));
  CHECK(halves_of(4, 4, {}) == std::pair(vector{0, 0, 0, 0}, vector{0, 0, 0, 0}));
  const auto [first, second] = halves_of(4, 1, {3, 0, 1, 5});
  real in_first = 0;
  real in_second = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    in_first += first[i];
    in_second += second[i];
    CHECK(first[i] + second[i] <= vector{3, 0, 1, 5}[i]);
  }
  CHECK(in_first == 4);
  CHECK(in_second == 4);
}

TEST_CASE("joined copies are dealt evenly over the halves, every way as often as any other") {
  // 2 copies of one ranking and 2 of another: the first half gets (2, 0), (1, 1), (0, 2) with probability 1, 4, 1 in 6.
  backend b(1);
  constexpr index_t queries = 6000;
  draws z(b, dro::host_matrix<dro::document_t>(2 * queries, 1), matrix(2 * queries, 1),
          dro::grouping::uniform(queries, 2));
  z.set_multiplicity(b, dro::make_filled<double>(b, 2 * queries, 1, 2.0));
  const matrix l(2 * queries, 1);
  dro::random_state<backend> random(b, 5);
  const auto h = dro::split_halves(b, z, dro::on_policy(b, l, z), random.source(b));
  std::vector<real> seen(3, 0);
  for (index_t q = 0; q < queries; ++q) {
    CHECK(h.first(2 * q, 0) + h.first(2 * q + 1, 0) == 2);
    seen[static_cast<std::size_t>(h.first(2 * q, 0))] += 1;
  }
  const std::vector<real> expected{queries / 6.0L, queries * 4 / 6.0L, queries / 6.0L};
  real chi_square = 0;
  for (std::size_t k = 0; k < 3; ++k) chi_square += (seen[k] - expected[k]) * (seen[k] - expected[k]) / expected[k];
  CHECK(static_cast<double>(chi_square) < test::chi_square_bound(2));
}

TEST_CASE("which queries count, and what is refused") {
  const exact_world w(3, 2, 1, 3, 94);
  backend b(1);
  dro::random_state<backend> random(b, 6);
  const matrix s = repeated_scores(w, 4);
  const auto z = dro::draw_plackett_luce(b, s, random.source(b), {4, 2});
  constexpr double none = -test::infinity<double>;
  // A half with nothing possible; all impossible; NaN; +inf.
  const matrix l(
      4, 4,
      {-1, -2, none, none, none, none, none, none, -1, test::nan<double>, -1, -1, -1, 0, 0, test::infinity<double>});
  const auto scores = dro::on_policy(b, l, z);
  matrix sums(1, 4);
  dro::accumulate_gradient_noise(b, dro::evidence<>{}, s, z, scores, {}, b.view(sums));
  const auto found = read_summary(sums);
  CHECK(found.queries == 2);
  CHECK(found.signal == 0);
  CHECK(std::isfinite(found.variance));
  // Half of two draws is one, too few for the bound: nothing is counted, and nothing added to what there was.
  const auto two = dro::draw_plackett_luce(b, s, random.source(b), {2, 2});
  const matrix l2(4, 2);
  dro::accumulate_gradient_noise(b, dro::importance_weighted_bound<>{}, s, two, dro::on_policy(b, l2, two), {},
                                 b.view(sums));
  CHECK(read_summary(sums).queries == 2);
  CHECK(std::isnan(dro::gradient_noise_summary::of(matrix(1, 4).data()).signal));
  matrix narrow(1, 3);
  CHECK_THROWS_AS(dro::accumulate_gradient_noise(b, dro::evidence<>{}, s, z, scores, {}, b.view(narrow)),
                  dro::shape_error);
  CHECK_THROWS_AS(
      dro::accumulate_gradient_noise(b, dro::evidence<>{}, repeated_scores(w, 3), z, scores, {}, b.view(sums)),
      dro::shape_error);
  // No queries: nothing happens.
  const auto empty = dro::draw_plackett_luce(b, matrix(0, 3), random.source(b), {4, 2});
  const matrix no_likelihood(0, 1);
  dro::accumulate_gradient_noise(b, dro::evidence<>{}, matrix(0, 3), empty, dro::on_policy(b, no_likelihood, empty), {},
                                 b.view(sums));
  CHECK(read_summary(sums).queries == 2);
}

TEST_CASE("noise is measured without a read") {
  const exact_world w(3, 2, 1, 3, 95);
  using deferred = dro::deferred_backend;
  deferred b;
  dro::random_state<deferred> random(b, 6);
  const auto s = write(b, repeated_scores(w, 5));
  const auto z = dro::draw_plackett_luce(b, s, random.source(b), {6, 2});
  const auto l = write(b, test::random_matrix<double>(30, 1, -4, 0, 3));
  auto sums = dro::make_filled<double>(b, 1, 4, 0.0);
  for (int step = 0; step < 2; ++step) {
    dro::accumulate_gradient_noise(b, dro::evidence<>{}, s, z, dro::on_policy(b, l, z), random.source(b), b.view(sums));
  }
  CHECK(b.reads() == 0);
  CHECK(b.synchronisations() == 0);
  const auto found = read_summary(read(b, sums));
  CHECK(found.queries == 10);
  CHECK(found.variance > 0);
}
