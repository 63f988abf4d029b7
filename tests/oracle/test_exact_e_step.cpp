// SPDX-License-Identifier: Apache-2.0
// The E-step against sums over all rankings: posterior, evidence, bound, and what sampling converges to.
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/em/e_step.hpp>
#include <dro/random/noise.hpp>
#include <dro/ranking/enumerate.hpp>

#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using test::exact_world;
using test::real;

// Log-probabilities are sums of log-sums below 10: 200 u each (see typed/test_plackett_luce.cpp); a weight and an
// evidence are made of three of them.
constexpr real tolerance = 1000 * static_cast<real>(test::unit_roundoff<double>);

/// Draws m rankings of each query from given distributions over all rankings, log q included.
struct tabled_proposal {
  using scalar_type = double;
  const exact_world* world;
  std::vector<std::vector<real>> probability;  // [query][ranking]

  template <dro::backend B>
  dro::draws<B, double> draw(B& b, const dro::models::table_rows& rows, const dro::draw_options& options,
                             const dro::random_source& random) const {
    std::vector<test::ranking> chosen;
    dro::host_matrix<double> log_q(rows.count * options.samples, 1);
    for (index_t q = 0; q < rows.count; ++q) {
      const auto& p = probability[static_cast<std::size_t>(rows.first + q)];
      for (index_t i = 0; i < options.samples; ++i) {
        const auto word =
            dro::random_word(random.key(), static_cast<std::uint32_t>(q), static_cast<std::uint32_t>(i), 0);
        real left = dro::noise::uniform<double>(word);
        std::size_t z = 0;
        while (z + 1 < p.size() && left > p[z]) left -= p[z++];
        log_q(q * options.samples + i, 0) = static_cast<double>(std::log(p[z]));
        chosen.push_back(world->rankings[z]);
      }
    }
    return {b, write(b, test::ranking_matrix(chosen)), write(b, log_q),
            dro::grouping::uniform(rows.count, options.samples)};
  }
};

std::vector<std::vector<real>> posteriors(const exact_world& w) {
  std::vector<std::vector<real>> p;
  for (index_t q = 0; q < w.queries; ++q) p.push_back(w.posterior(q));
  return p;
}

}  // namespace

TEST_CASE("with every ranking drawn once, weights are the posterior and the estimate is the evidence") {
  for (const auto& [n, k] : {std::pair<index_t, index_t>{4, 2}, {3, 3}, {5, 1}, {1, 1}}) {
    const exact_world w(n, k, 3, 4, 71);
    dro::host_backend b(1);
    const auto selector = w.selector(b);
    const auto generator = w.generator(b);
    dro::random_state<dro::host_backend> random(b, 1);
    const auto e = dro::e_step(b, selector, generator, dro::exhaustive<double>(n), w.all(), {1, k}, random);
    for (index_t q = 0; q < w.queries; ++q) {
      const auto posterior = w.posterior(q);
      const auto prior = w.log_prior(q);
      const auto likelihood = w.log_likelihood(q);
      real bound = 0;
      for (index_t z = 0; z < w.size(); ++z) {
        const auto i = static_cast<std::size_t>(z);
        DRO_CHECK_NEAR(e.weights.normalised(q * w.size() + z, 0), posterior[i], tolerance);
        DRO_CHECK_NEAR(e.log_selector(q * w.size() + z, 0), prior[i], tolerance);
        DRO_CHECK_NEAR(e.log_likelihood(q * w.size() + z, 0), likelihood[i], tolerance);
        bound += (prior[i] + likelihood[i] + std::log(static_cast<real>(w.size()))) / static_cast<real>(w.size());
      }
      DRO_CHECK_NEAR(e.weights.log_evidence(q, 0), w.log_evidence(q), tolerance);
      DRO_CHECK_NEAR(e.weights.elbo(q, 0), bound, tolerance);  // E_q[log p(y,z|x) − log q] for the uniform q
      CHECK(e.weights.elbo(q, 0) <= e.weights.log_evidence(q, 0) + static_cast<double>(tolerance));
    }
  }
}

TEST_CASE("draws from the posterior make every weight the evidence: the bound is tight") {
  const exact_world w(4, 2, 3, 4, 72);
  dro::host_backend b(1);
  const auto selector = w.selector(b);
  const auto generator = w.generator(b);
  dro::random_state<dro::host_backend> random(b, 2);
  constexpr index_t m = 40;
  const tabled_proposal posterior{&w, posteriors(w)};
  const auto e = dro::e_step(b, selector, generator, posterior, w.all(), {m, 2}, random);
  const auto scores = e.scores(b);
  for (index_t q = 0; q < w.queries; ++q) {
    for (index_t i = 0; i < m; ++i) DRO_CHECK_NEAR(scores.log_weight(q, i), w.log_evidence(q), tolerance);
    DRO_CHECK_NEAR(e.weights.elbo(q, 0), w.log_evidence(q), tolerance);
    DRO_CHECK_NEAR(e.weights.log_evidence(q, 0), w.log_evidence(q), tolerance);
    DRO_CHECK_NEAR(e.weights.effective_sample_size(q, 0), m, m * tolerance);
    CHECK(e.weights.effective_sample_size(q, 0) > m - 1e-9);  // no variance
  }
}

TEST_CASE("the expected bound lies below the evidence by KL(q, posterior)") {
  const exact_world w(3, 2, 2, 3, 73);
  dro::host_backend b(1);
  const auto selector = w.selector(b);
  const auto generator = w.generator(b);
  // The selector itself, the posterior, and mixtures of the two as q, from the library's log-probabilities.
  dro::random_state<dro::host_backend> random(b, 3);
  const auto e = dro::e_step(b, selector, generator, dro::exhaustive<double>(3), w.all(), {1, 2}, random);
  for (index_t q = 0; q < w.queries; ++q) {
    const auto posterior = w.posterior(q);
    const auto prior = w.log_prior(q);
    for (const real mix : {real(0), real(0.25), real(0.5), real(1)}) {
      real bound = 0;
      real divergence = 0;
      for (std::size_t z = 0; z < posterior.size(); ++z) {
        const auto draw = q * w.size() + static_cast<index_t>(z);
        const real density = mix * posterior[z] + (1 - mix) * std::exp(prior[z]);
        bound += density * (e.log_selector(draw, 0) + e.log_likelihood(draw, 0) - std::log(density));
        divergence += density * std::log(density / posterior[z]);
      }
      CHECK(bound <= w.log_evidence(q) + tolerance);
      DRO_CHECK_NEAR(bound, w.log_evidence(q) - divergence, tolerance);
      if (mix == 1) DRO_CHECK_NEAR(bound, w.log_evidence(q), tolerance);
    }
  }
}

TEST_CASE("weighing draws again under other models keeps the log q they were drawn with") {
  exact_world before(4, 2, 2, 3, 74);
  const exact_world after(4, 2, 2, 3, 75);
  dro::host_backend b(1);
  const auto old_selector = before.selector(b);
  const auto old_generator = before.generator(b);
  dro::random_state<dro::host_backend> random(b, 4);
  auto e = dro::e_step(b, old_selector, old_generator, before.all(), {6, 2}, random);
  CHECK(e.selector_drew);
  for (index_t i = 0; i < 12; ++i) CHECK(e.scores(b).log_ratio(i / 6, i % 6) == 0);

  before.scores = after.scores;
  before.logits = after.logits;
  const auto selector = before.selector(b);
  const auto generator = before.generator(b);
  const auto log_q = e.z.log_proposal();
  dro::reweigh(b, selector, generator, before.all(), e);
  CHECK(test::same(e.z.log_proposal(), log_q));
  for (index_t q = 0; q < 2; ++q) {
    const auto joint = before.log_joint(q);
    std::vector<real> log_weights;
    for (index_t i = 0; i < 6; ++i) {
      const auto code = dro::ranking_code(std::as_const(b).view(e.z.rankings()), 6 * q + i, 4);
      log_weights.push_back(joint[static_cast<std::size_t>(code)] - log_q(6 * q + i, 0));
      DRO_CHECK_NEAR(e.scores(b).log_weight(q, i), log_weights.back(), tolerance);
    }
    const auto expected = test::softmax(log_weights);
    for (index_t i = 0; i < 6; ++i) {
      DRO_CHECK_NEAR(e.weights.normalised(6 * q + i, 0), expected[static_cast<std::size_t>(i)], tolerance);
    }
  }
}

TEST_CASE("a query with too few possible documents is flagged, and the others go on") {
  exact_world w(3, 2, 2, 3, 77);
  w.scores(0, 0) = w.scores(0, 2) = -test::infinity<double>;
  dro::host_backend b(1);
  const auto selector = w.selector(b);
  const auto generator = w.generator(b);
  dro::random_state<dro::host_backend> random(b, 6);
  const auto e = dro::e_step(b, selector, generator, w.all(), {5, 2}, random);
  CHECK(e.weights.status(0, 0) != static_cast<std::int32_t>(dro::status::ok));
  CHECK(e.weights.status(1, 0) == static_cast<std::int32_t>(dro::status::ok));
  real total = 0;
  for (index_t i = 0; i < 5; ++i) {
    CHECK(e.weights.normalised(i, 0) == 0);
    total += e.weights.normalised(5 + i, 0);
  }
  DRO_CHECK_NEAR(total, 1, 10 * std::numeric_limits<double>::epsilon());
}

TEST_CASE("sampled weights converge to the posterior at rate 1/√m") {
  // 64 queries with the same tables are 64 independent estimates of one posterior. The mean of the total variation
  // ½ Σ_z |Σ_i w̄_i 1[z_i = z] − p(z|x,y)| falls as c/√m (1 + O(1/√m)).
  constexpr index_t repetitions = 64;
  exact_world w(4, 2, 1, 3, 76);
  const auto posterior = w.posterior(0);
  dro::host_matrix<double> scores(repetitions, 4);
  dro::host_matrix<double> logits(repetitions * w.size(), 3);
  dro::host_matrix<std::int32_t> right(repetitions, 1);
  for (index_t r = 0; r < repetitions; ++r) {
    std::ranges::copy(test::elements(w.scores), scores.data() + r * 4);
    std::ranges::copy(test::elements(w.logits), logits.data() + r * w.size() * 3);
    right(r, 0) = w.right(0, 0);
  }
  dro::host_backend b;
  const test::world_selector selector(b, scores);
  const test::world_generator generator(b, 4, 2, logits, right);
  dro::random_state<dro::host_backend> random(b, 5);

  std::vector<real> log_m;
  std::vector<real> log_distance;
  for (const index_t m : {16, 64, 256, 1024, 4096}) {
    const auto e = dro::e_step(b, selector, generator, dro::models::table_rows{0, repetitions}, {m, 2}, random);
    const auto rankings = std::as_const(b).view(e.z.rankings());
    real total = 0;
    for (index_t r = 0; r < repetitions; ++r) {
      std::vector<real> mass(posterior.size(), 0);
      for (index_t i = r * m; i < (r + 1) * m; ++i) {
        mass[static_cast<std::size_t>(dro::ranking_code(rankings, i, 4))] += e.weights.normalised(i, 0);
      }
      for (std::size_t z = 0; z < mass.size(); ++z) total += std::abs(mass[z] - posterior[z]) / 2;
    }
    log_m.push_back(std::log(static_cast<real>(m)));
    log_distance.push_back(std::log(total / repetitions));
  }
  real mean_x = 0;
  real mean_y = 0;
  for (std::size_t i = 0; i < log_m.size(); ++i) {
    mean_x += log_m[i] / 5;
    mean_y += log_distance[i] / 5;
  }
  real covariance = 0;
  real variance = 0;
  for (std::size_t i = 0; i < log_m.size(); ++i) {
    covariance += (log_m[i] - mean_x) * (log_distance[i] - mean_y);
    variance += (log_m[i] - mean_x) * (log_m[i] - mean_x);
  }
  // One distance varies by about 0.35 of itself, the mean of 64 by 0.044, so the slope by 0.044 / √(10 ln² 4) = 0.010.
  // Five of that, for the higher-order term at m = 16 as well.
  const real slope = covariance / variance;
  DRO_CHECK_NEAR(slope, -0.5, 0.05);
}
