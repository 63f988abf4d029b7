// SPDX-License-Identifier: Apache-2.0
// The unordered-set estimator against its formula and, summed over all sets, against the exact gradient.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/gradient/unordered_set.hpp>

#include "support/exact_world.hpp"

namespace {

namespace objective = dro::unordered_set;
using dro::index_t;
using test::exact_world;
using test::real;
using host_draws = dro::without_replacement_draws<dro::host_backend, double>;
using members = std::vector<std::size_t>;

constexpr real u = test::unit_roundoff<double>;

/// Every set of m of `kinds`, ascending.
std::vector<members> all_sets(std::size_t kinds, std::size_t m) {
  std::vector<members> all;
  members set;
  const auto extend = [&](const auto& self, std::size_t first) -> void {
    if (set.size() == m) {
      all.push_back(set);
      return;
    }
    for (std::size_t z = first; z < kinds; ++z) {
      set.push_back(z);
      self(self, z + 1);
      set.pop_back();
    }
  };
  extend(extend, 0);
  return all;
}

/// The probability that the next |set| draws are the set, in any order, when `rest` is the mass of all others that are
/// still there: the sum over orders, each from its definition.
real probability(const std::vector<real>& p, members set, real rest) {
  if (rest == 0) return 1;
  std::ranges::sort(set);
  real total = 0;
  do {
    real order = 1;
    for (std::size_t i = 0; i < set.size(); ++i) {
      real left = rest;
      for (std::size_t k = i; k < set.size(); ++k) left += p[set[k]];
      order *= p[set[i]] / left;
    }
    total += order;
  } while (std::ranges::next_permutation(set).found);
  return total;
}

members without(members set, std::size_t z) {
  std::erase(set, z);
  return set;
}

/// Mass of the rankings that are not in the set.
real rest_of(const std::vector<real>& p, const members& set) {
  real rest = 0;
  for (std::size_t z = 0; z < p.size(); ++z) rest += std::ranges::count(set, z) == 0 ? p[z] : 0;
  return rest;
}

/// p_i R_i.
std::vector<real> weights_of(const std::vector<real>& p, const members& set) {
  const real rest = rest_of(p, set);
  const real whole = probability(p, set, rest);
  std::vector<real> w;
  for (const std::size_t i : set) w.push_back(p[i] * probability(p, without(set, i), rest) / whole);
  return w;
}

/// c_i as the paper states it.
std::vector<real> formula(const std::vector<real>& p, const std::vector<real>& f, const members& set) {
  const real rest = rest_of(p, set);
  std::vector<real> c = weights_of(p, set);
  for (std::size_t k = 0; k < set.size(); ++k) {
    const std::size_t i = set[k];
    const real of_others = probability(p, without(set, i), rest);
    real baseline = 0;
    for (const std::size_t j : set) {
      const real ratio = i == j ? 1 : probability(p, without(without(set, i), j), rest) / of_others;
      baseline += p[j] * ratio * f[j];
    }
    c[k] *= f[i] - baseline;
  }
  return c;
}

/// One query for each set, as if it had been drawn; log-likelihoods as a table.
struct set_batch {
  host_draws drawn;
  dro::host_matrix<double> likelihood;
};

set_batch batch_of(dro::host_backend& b, const std::vector<members>& sets, const std::vector<real>& p,
                   const std::vector<real>& log_likelihood) {
  const auto count = static_cast<index_t>(sets.size());
  const auto m = static_cast<index_t>(sets.front().size());
  const auto groups = dro::grouping::uniform(count, m);
  dro::host_matrix<double> log_prob(count * m, 1);
  dro::host_matrix<double> unsampled(count, 1);
  dro::host_matrix<double> likelihood(count, m);
  for (index_t q = 0; q < count; ++q) {
    const members& set = sets[static_cast<std::size_t>(q)];
    for (index_t i = 0; i < m; ++i) {
      const std::size_t z = set[static_cast<std::size_t>(i)];
      log_prob(q * m + i, 0) = static_cast<double>(std::log(p[z]));
      likelihood(q, i) = static_cast<double>(log_likelihood[z]);
    }
    unsampled(q, 0) = static_cast<double>(std::log(rest_of(p, set)));
  }
  return {{{b, dro::host_matrix<dro::document_t>(count * m, 2), dro::host_matrix<double>(count * m, 1), groups,
            dro::draw_traits{m, true}},
           std::move(log_prob),
           std::move(unsampled)},
          std::move(likelihood)};
}

/// p(z|x), ℓ and ∇ log p(z|x) of all rankings of a world of one query.
struct world_table {
  std::vector<real> p, log_likelihood, likelihood;
  std::vector<std::vector<real>> score;

  explicit world_table(const exact_world& w) : log_likelihood(w.log_likelihood(0)) {
    for (const real x : w.log_prior(0)) p.push_back(std::exp(x));
    for (const real x : log_likelihood) likelihood.push_back(std::exp(x));
    for (const auto& z : w.rankings) score.push_back(test::plackett_luce_score(test::row(w.scores, 0), z));
  }

  /// Σ_z v_z ∇ log p(z|x).
  [[nodiscard]] std::vector<real> combine(const std::vector<real>& v) const {
    std::vector<real> sum(score[0].size(), 0);
    for (std::size_t z = 0; z < v.size(); ++z) {
      for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += v[z] * score[z][j];
    }
    return sum;
  }
  /// E[f ∇ log p(z|x)] = ∇ E f.
  [[nodiscard]] std::vector<real> gradient(std::vector<real> f) const {
    for (std::size_t z = 0; z < f.size(); ++z) f[z] *= p[z];
    return combine(f);
  }
};

/// Σ_S P(S) c at each ranking: the mean coefficient, by going through all sets.
template <class Objective>
std::pair<std::vector<real>, std::vector<real>> mean_coefficients(const world_table& w, std::size_t m,
                                                                  const Objective& target) {
  dro::host_backend b(1);
  const auto sets = all_sets(w.p.size(), m);
  const auto batch = batch_of(b, sets, w.p, w.log_likelihood);
  const auto c = dro::unordered_set_coefficients(b, target, batch.drawn, batch.likelihood, 1);
  std::pair<std::vector<real>, std::vector<real>> mean(std::vector<real>(w.p.size(), 0),
                                                       std::vector<real>(w.p.size(), 0));
  real total = 0;
  for (index_t q = 0; q < c.selector.rows(); ++q) {
    const members& set = sets[static_cast<std::size_t>(q)];
    const real chance = probability(w.p, set, rest_of(w.p, set));
    total += chance;
    for (index_t i = 0; i < c.selector.cols(); ++i) {
      mean.first[set[static_cast<std::size_t>(i)]] += chance * c.selector(q, i);
      mean.second[set[static_cast<std::size_t>(i)]] += chance * c.generator(q, i);
    }
  }
  DRO_CHECK_NEAR(total, 1, 1e-16);
  return mean;
}

real distance(const std::vector<real>& a, const std::vector<real>& b) {
  real squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(squares);
}

real norm(const std::vector<real>& x) { return distance(x, std::vector<real>(x.size(), 0)); }

// Entries of the tables of up to 5 items with |log D| < 7 are off by 5 (13 + 105) u (unit/test_set_probability.cpp); a
// coefficient is four sums of products of two of them and rewards below 8: 4 · 2 · 8 · 600 u. Scores are below 2.
constexpr real rounding = 40000 * u;

}  // namespace

TEST_CASE("the coefficients are those of the paper's formula, and sum to 0") {
  const world_table w(exact_world(4, 2, 1, 3, 81));
  dro::host_backend b(1);
  for (const std::size_t m : {2U, 3U, 5U}) {
    const auto sets = all_sets(12, m);
    const auto batch = batch_of(b, sets, w.p, w.log_likelihood);
    const auto likelihood =
        dro::unordered_set_coefficients(b, objective::expected_likelihood{}, batch.drawn, batch.likelihood, 1);
    const auto logarithm =
        dro::unordered_set_coefficients(b, objective::expected_log_likelihood{}, batch.drawn, batch.likelihood, 1);
    const auto evidence = dro::unordered_set_coefficients(b, objective::evidence{}, batch.drawn, batch.likelihood, 1);
    for (index_t q = 0; q < likelihood.selector.rows(); q += 7) {
      const members& set = sets[static_cast<std::size_t>(q)];
      const auto of_likelihood = formula(w.p, w.likelihood, set);
      const auto of_logarithm = formula(w.p, w.log_likelihood, set);
      const auto weight = weights_of(w.p, set);
      real evidence_estimate = 0;
      for (std::size_t i = 0; i < m; ++i) evidence_estimate += weight[i] * w.likelihood[set[i]];
      real sums[3] = {0, 0, 0};
      for (std::size_t i = 0; i < m; ++i) {
        const auto k = static_cast<index_t>(i);
        const real f = w.likelihood[set[i]];
        DRO_CHECK_NEAR(likelihood.selector(q, k), of_likelihood[i], rounding);
        DRO_CHECK_NEAR(likelihood.generator(q, k), weight[i] * f, rounding);
        DRO_CHECK_NEAR(logarithm.selector(q, k), of_logarithm[i], rounding);
        DRO_CHECK_NEAR(logarithm.generator(q, k), weight[i], rounding);
        // A ratio of two such numbers.
        DRO_CHECK_NEAR(evidence.selector(q, k), of_likelihood[i] / evidence_estimate, 2 * rounding / evidence_estimate);
        DRO_CHECK_NEAR(evidence.generator(q, k), weight[i] * f / evidence_estimate, 2 * rounding / evidence_estimate);
        sums[0] += likelihood.selector(q, k);
        sums[1] += logarithm.selector(q, k);
        sums[2] += evidence.generator(q, k);
      }
      DRO_CHECK_NEAR(sums[0], 0, rounding);
      DRO_CHECK_NEAR(sums[1], 0, rounding);
      DRO_CHECK_NEAR(sums[2], 1, 16 * u);
      CHECK(likelihood.status(q, 0) == 0);
      CHECK(likelihood.log_scale(q, 0) == 0);
      CHECK(logarithm.log_scale(q, 0) == 0);
      CHECK(evidence.log_scale(q, 0) == 0);
    }
  }
}

TEST_CASE("over all sets the mean is the exact gradient of the expected likelihood and log-likelihood") {
  for (const std::uint64_t seed : {81U, 82U}) {
    const world_table w(exact_world(4, 2, 1, 3, seed));
    for (const std::size_t m : {2U, 3U, 4U}) {
      CAPTURE(m);
      const auto [c, generator] = mean_coefficients(w, m, objective::expected_likelihood{});
      CHECK(norm(w.gradient(w.likelihood)) > 0.05);
      DRO_CHECK_NEAR(distance(w.combine(c), w.gradient(w.likelihood)), 0, 4 * rounding);
      const auto [c_log, generator_log] = mean_coefficients(w, m, objective::expected_log_likelihood{});
      CHECK(norm(w.gradient(w.log_likelihood)) > 0.2);
      DRO_CHECK_NEAR(distance(w.combine(c_log), w.gradient(w.log_likelihood)), 0, 4 * rounding);
      for (std::size_t z = 0; z < w.p.size(); ++z) {
        DRO_CHECK_NEAR(generator[z], w.p[z] * w.likelihood[z], rounding);
        DRO_CHECK_NEAR(generator_log[z], w.p[z], rounding);
      }
    }
  }
}

TEST_CASE("the bias of the evidence gradient falls with m, and is none where the set is everything") {
  exact_world world(4, 2, 1, 3, 83);
  const world_table w(world);
  const auto truth = test::central_differences(test::elements(world.scores), [&] { return world.log_evidence(0); });
  CHECK(norm(truth) > 0.1);
  real last = norm(truth);
  for (const std::size_t m : {2U, 3U, 4U, 5U}) {
    const real bias = distance(w.combine(mean_coefficients(w, m, objective::evidence{}).first), truth);
    CHECK(bias < last / 1.5L);
    last = bias;
  }
  // Differences: h² /6 times a third derivative below 10, h = 1e-5.
  DRO_CHECK_NEAR(distance(w.combine(mean_coefficients(w, 12, objective::evidence{}).first), truth), 0, 1e-9);
}

TEST_CASE("a set of all rankings gives the exact gradient, also with room for more") {
  dro::host_backend b(1);
  for (const auto& [documents, m] : {std::pair<index_t, index_t>{4, 12}, {3, 6}, {3, 9}}) {
    CAPTURE(m);
    const exact_world world(documents, 2, 1, 3, 84);
    const dro::random_state<dro::host_backend> random(b, 85);
    const auto drawn = dro::draw_without_replacement(b, world.scores, random.source(b), {m, 2});
    const auto posterior = world.posterior(0);
    const world_table w(world);
    const auto generator = world.generator(b);
    auto likelihood = generator.log_likelihood(b, world.all(), drawn.z);
    for (index_t i = world.size(); i < m; ++i) likelihood(i, 0) = test::nan<double>;  // not looked at
    const auto evidence = dro::unordered_set_coefficients(b, objective::evidence{}, drawn, likelihood);
    const auto reward = dro::unordered_set_coefficients(b, objective::expected_log_likelihood{}, drawn, likelihood);
    real mean = 0;
    for (std::size_t z = 0; z < w.p.size(); ++z) mean += w.p[z] * w.log_likelihood[z];
    // Tables of 12 items with |log D| < 7: 12 (20 + 252) u, then as `rounding`.
    constexpr real exact = 64 * 3264 * u;
    for (index_t i = 0; i < m; ++i) {
      if (i >= world.size()) {
        CHECK(evidence.selector(i, 0) == 0);
        CHECK(evidence.generator(i, 0) == 0);
        continue;
      }
      const auto z = static_cast<std::size_t>(
          std::ranges::find(world.rankings, test::ranking_of(drawn.z.rankings(), i)) - world.rankings.begin());
      DRO_CHECK_NEAR(evidence.selector(i, 0), posterior[z] - w.p[z], exact);
      DRO_CHECK_NEAR(evidence.generator(i, 0), posterior[z], exact);
      DRO_CHECK_NEAR(reward.selector(i, 0), w.p[z] * (w.log_likelihood[z] - mean), exact);
      DRO_CHECK_NEAR(reward.generator(i, 0), w.p[z], exact);
    }
    CHECK(evidence.status(0, 0) == 0);
  }
}

TEST_CASE("a peaked selector loses no precision") {
  // p of the first is 1 − 1e-12, which no 1 − Σp would survive.
  const std::vector<real> p = {1 - 1e-12L, 6e-13L, 3e-13L, 1e-13L};
  const std::vector<real> likelihood = {-1, -0.25, -3, -2};
  dro::host_backend b(1);
  // Tables of 3 items with |log D| < 31: 3 (11 + 279) u, and p itself is given with 16 u.
  constexpr real relative = 2000 * u;
  for (const members& set : {members{0, 1}, members{0, 3}, members{1, 2}}) {
    const auto batch = batch_of(b, {set}, p, likelihood);
    const auto c =
        dro::unordered_set_coefficients(b, objective::expected_log_likelihood{}, batch.drawn, batch.likelihood);
    const real rest = rest_of(p, set);
    // Two draws: W = 1 / (1/(rest + p_j) + 1/(rest + p_i)).
    const real pair = 1 / (1 / (rest + p[set[0]]) + 1 / (rest + p[set[1]]));
    const real expected = pair * (likelihood[set[0]] - likelihood[set[1]]);
    DRO_CHECK_NEAR(c.selector(0, 0), expected, relative * std::abs(expected));
    DRO_CHECK_NEAR(c.selector(0, 1), -expected, relative * std::abs(expected));
    // p_i R_i = p_i p_j / (rest + p_j) / P(S).
    const real share = pair / (rest + p[set[0]]);
    DRO_CHECK_NEAR(c.generator(0, 1), share, relative * share);
  }
  // Three: Σ_j W_ij (f_i − f_j) with W from the sum over orders.
  const members set = {0, 1, 3};
  const auto batch = batch_of(b, {set}, p, likelihood);
  const auto c =
      dro::unordered_set_coefficients(b, objective::expected_log_likelihood{}, batch.drawn, batch.likelihood);
  const real whole = probability(p, set, rest_of(p, set));
  for (std::size_t i = 0; i < 3; ++i) {
    real expected = 0;
    real size = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      if (i == j) continue;
      const real pair =
          p[set[i]] * p[set[j]] * probability(p, without(without(set, set[i]), set[j]), rest_of(p, set)) / whole;
      expected += pair * (likelihood[set[i]] - likelihood[set[j]]);
      size += pair * std::abs(likelihood[set[i]] - likelihood[set[j]]);
    }
    DRO_CHECK_NEAR(c.selector(0, static_cast<index_t>(i)), expected, relative * size);
  }
}

TEST_CASE(
    "a common part of the log-likelihoods drops out, and likelihoods far below the smallest number are told apart") {
  dro::host_backend b(1);
  const world_table w(exact_world(4, 2, 1, 3, 86));
  const std::vector<members> sets = {{0, 3, 5, 7}, {1, 2, 8, 11}};
  std::vector<real> near(12);
  test::numbers next(87);
  for (real& l : near) l = next.between(-4, 0);  // multiples of 2^-10, so that adding 20000 is exact
  std::vector<real> far = near;
  for (real& l : far) l -= 20000;
  const auto a = batch_of(b, sets, w.p, near);
  const auto z = batch_of(b, sets, w.p, far);
  const auto differ = [&](const auto& here, const auto& there) {
    const auto c = dro::unordered_set_coefficients(b, here, a.drawn, a.likelihood);
    const auto d = dro::unordered_set_coefficients(b, there, z.drawn, z.likelihood);
    real worst = 0;
    for (index_t q = 0; q < 2; ++q) {
      for (index_t i = 0; i < 4; ++i) {
        CHECK(c.selector(q, i) != 0);
        worst = std::max<real>(worst, std::abs(c.selector(q, i) - d.selector(q, i)));
        worst = std::max<real>(worst, std::abs(c.generator(q, i) - d.generator(q, i)));
      }
    }
    return worst;
  };
  CHECK(differ(objective::expected_log_likelihood{}, objective::expected_log_likelihood{}) == 0);
  CHECK(differ(objective::expected_likelihood{}, objective::expected_likelihood{{}, 20000}) == 0);
  constexpr auto per_query = dro::likelihood_scale::per_query;
  CHECK(differ(objective::expected_likelihood{per_query}, objective::expected_likelihood{per_query}) == 0);
  // The origin moves by rounding at 20000, in the sum and in each coefficient alike.
  DRO_CHECK_NEAR(differ(objective::evidence{}, objective::evidence{}), 0, rounding);

  const auto absolute =
      dro::unordered_set_coefficients(b, objective::expected_likelihood{{}, 20000}, z.drawn, z.likelihood);
  const auto relative =
      dro::unordered_set_coefficients(b, objective::expected_likelihood{per_query}, z.drawn, z.likelihood);
  for (index_t q = 0; q < 2; ++q) {
    // Both stand for e^log_scale times themselves.
    CHECK(absolute.log_scale(q, 0) == -20000);
    CHECK(relative.log_scale(q, 0) == *std::max_element(&z.likelihood(q, 0), &z.likelihood(q, 0) + 4));
    const real factor = std::exp(static_cast<real>(relative.log_scale(q, 0)) + 20000);
    for (index_t i = 0; i < 4; ++i) {
      DRO_CHECK_NEAR(factor * relative.selector(q, i), absolute.selector(q, i), 20 * u);
    }
  }

  // Float, and the only answer in a ranking of probability e^-110: below the smallest float, not below what counts.
  const auto groups = dro::grouping::uniform(1, 2);
  const dro::without_replacement_draws<dro::host_backend, float> rare{
      {b, dro::host_matrix<dro::document_t>(2, 1), dro::host_matrix<float>(2, 1), groups, dro::draw_traits{2, true}},
      test::column<float>({0, -110}),
      test::column<float>({-111})};
  const auto c = dro::unordered_set_coefficients(b, objective::evidence{}, rare, test::column<float>({-300, -1}));
  DRO_CHECK_NEAR(c.generator(1, 0), 1, 1e-5);  // tables with |log D| < 111: 2 (10 + 666) units of 6e-8
  DRO_CHECK_NEAR(c.selector(1, 0), 1, 1e-4);
  DRO_CHECK_NEAR(c.selector(0, 0), -1, 1e-4);
}

TEST_CASE("from the draw to the gradient: the mean over many draws is the exact gradient") {
  const exact_world world(4, 2, 1, 3, 88);
  const world_table w(world);
  constexpr index_t count = 20000;
  constexpr index_t m = 3;
  const auto run = [&](auto& b) {
    dro::host_matrix<double> scores(count, 4);
    for (index_t q = 0; q < count; ++q) {
      for (index_t j = 0; j < 4; ++j) scores(q, j) = world.scores(0, j);
    }
    auto own = dro::write(b, scores);
    const dro::random_state random(b, 89);
    const auto drawn = dro::draw_without_replacement(b, own, random.source(b), {m, 2});
    // The generator, as a row program: the reward of ranking (i, j).
    dro::host_matrix<double> table(4, 4);
    for (std::size_t z = 0; z < w.p.size(); ++z) {
      table(world.rankings[z][0], world.rankings[z][1]) = static_cast<double>(w.log_likelihood[z]);
    }
    auto likelihood = b.template make<double>(count * m, 1);
    b.run(count * m, [table, z = std::as_const(b).view(drawn.z.rankings()), l = b.view(likelihood)](auto&, index_t i) {
      l(i, 0) = table(z(i, 0), z(i, 1));
    });
    const auto c = dro::unordered_set_coefficients(b, objective::expected_likelihood{}, drawn, likelihood, 1);
    auto gradient = dro::make_filled<double>(b, count, 4, 0.0);
    dro::accumulate_plackett_luce_gradient(b, own, std::as_const(b).view(drawn.z.rankings()), drawn.z.groups(),
                                           c.selector, b.view(gradient));
    if constexpr (requires { b.reads(); }) {
      CHECK(b.reads() == 0);
      CHECK(b.synchronisations() == 0);
    }
    return dro::read(b, gradient);
  };
  dro::host_backend host(2);
  const auto gradient = run(host);
  dro::deferred_backend deferred;
  CHECK(test::same(run(deferred), gradient));
  const auto truth = w.gradient(w.likelihood);
  for (std::size_t j = 0; j < 4; ++j) {
    real sum = 0;
    real squares = 0;
    for (index_t q = 0; q < count; ++q) {
      const real g = gradient(q, static_cast<index_t>(j));
      sum += g;
      squares += g * g;
    }
    const real mean = sum / count;
    DRO_CHECK_NEAR(mean, truth[j], 5 * std::sqrt((squares / count - mean * mean) / count));
  }
}

TEST_CASE("numerical trouble is a status of its query") {
  constexpr double inf = test::infinity<double>;
  constexpr double nan = test::nan<double>;
  dro::host_backend b(1);
  struct trouble {
    double p0, p1, unsampled, l0, l1;
    dro::status likelihood, logarithm;
  };
  using dro::status;
  const std::vector<trouble> list = {
      {-1, -2, -0.7, -1, -2, status::ok, status::ok},
      {-1, -2, -0.7, -inf, -2, status::ok, status::impossible},
      {-1, -2, -0.7, -inf, -inf, status::impossible, status::impossible},
      {-1, -2, -0.7, nan, -2, status::not_a_number, status::not_a_number},
      {nan, -2, -0.7, -1, -2, status::not_a_number, status::not_a_number},
      {-1, -2, nan, -1, -2, status::not_a_number, status::not_a_number},
      {-1, -2, -0.7, inf, -2, status::unbounded, status::unbounded},
      {-inf, -inf, 0, -1, -2, status::impossible, status::impossible},  // no ranking could be completed
      {-1, -inf, -0.5, -1, nan, status::degenerate, status::degenerate},
      {0, -inf, -inf, -1, nan, status::ok, status::ok},  // there is only one ranking
  };
  const auto count = static_cast<index_t>(list.size());
  host_draws drawn{{b, dro::host_matrix<dro::document_t>(2 * count, 1), dro::host_matrix<double>(2 * count, 1),
                    dro::grouping::uniform(count, 2), dro::draw_traits{2, true}},
                   dro::host_matrix<double>(2 * count, 1),
                   dro::host_matrix<double>(count, 1)};
  dro::host_matrix<double> likelihood(count, 2);
  for (index_t q = 0; q < count; ++q) {
    const trouble& t = list[static_cast<std::size_t>(q)];
    drawn.log_prob(2 * q, 0) = t.p0;
    drawn.log_prob(2 * q + 1, 0) = t.p1;
    drawn.log_unsampled(q, 0) = t.unsampled;
    likelihood(q, 0) = t.l0;
    likelihood(q, 1) = t.l1;
  }
  const auto check = [&](const auto& target, auto expected) {
    const auto c = dro::unordered_set_coefficients(b, target, drawn, likelihood);
    for (index_t q = 0; q < count; ++q) {
      CAPTURE(q);
      const status wanted = list[static_cast<std::size_t>(q)].*expected;
      CHECK(c.status(q, 0) == static_cast<std::int32_t>(wanted));
      for (index_t i = 0; i < 2; ++i) {
        CHECK(std::isfinite(c.selector(q, i)));
        if (wanted != status::ok) CHECK(c.selector(q, i) == 0);
        if (wanted != status::ok) CHECK(c.generator(q, i) == 0);
      }
    }
    CHECK(c.selector(0, 0) > 0);
    CHECK(c.selector(count - 1, 0) == 0);  // nothing to choose: no gradient
    CHECK(c.generator(count - 1, 0) > 0);
  };
  check(objective::evidence{}, &trouble::likelihood);
  check(objective::expected_likelihood{}, &trouble::likelihood);
  check(objective::expected_log_likelihood{}, &trouble::logarithm);
}

TEST_CASE("the division by the batch's queries, the shape of the result, and what is refused") {
  dro::host_backend b(1);
  const world_table w(exact_world(4, 2, 1, 3, 90));
  const auto batch = batch_of(b, {{0, 1, 2}, {3, 4, 5}}, w.p, w.log_likelihood);
  const auto flat = test::matrix<double>(6, 1, test::elements(batch.likelihood));
  const auto half = dro::unordered_set_coefficients(b, objective::evidence{}, batch.drawn, batch.likelihood);
  const auto eighth = dro::unordered_set_coefficients(b, objective::evidence{}, batch.drawn, flat, 8);
  CHECK(half.selector.cols() == 3);
  CHECK(eighth.selector.cols() == 1);
  for (index_t k = 0; k < 6; ++k) {
    CHECK(eighth.selector(k, 0) == half.selector(k / 3, k % 3) / 4);
    CHECK(eighth.generator(k, 0) == half.generator(k / 3, k % 3) / 4);
  }
  const dro::random_state<dro::host_backend> random(b, 91);
  const auto draw = [&](index_t queries, index_t m) {
    return dro::draw_without_replacement(b, dro::host_matrix<double>(queries, 6), random.source(b), {m, 2});
  };
  CHECK_THROWS_WITH_AS(
      static_cast<void>(
          dro::unordered_set_coefficients(b, objective::evidence{}, draw(1, 13), dro::host_matrix<double>(13, 1))),
      "unordered_set_coefficients: samples is 13, expected at most 12, since all subsets are gone through",
      dro::option_error);
  CHECK_THROWS_WITH_AS(
      static_cast<void>(
          dro::unordered_set_coefficients(b, objective::evidence{}, draw(1, 1), dro::host_matrix<double>(1, 1))),
      "unordered_set_coefficients: samples is 1, but \"evidence, unordered set\" needs at least 2, the same number for "
      "each query",
      dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::unordered_set_coefficients(b, objective::evidence{}, draw(2, 3),
                                                                         dro::host_matrix<double>(5, 1))),
                       "unordered_set_coefficients: log_likelihood is [5 × 1], expected [6 × 1] or [2 × 3]",
                       dro::shape_error);
  CHECK(dro::unordered_set_coefficients(b, objective::evidence{}, draw(0, 3), dro::host_matrix<double>(0, 1))
            .selector.rows() == 0);
}
