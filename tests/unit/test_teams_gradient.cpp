// SPDX-License-Identifier: Apache-2.0
// Estimators that look into the scores, with several threads a query.
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/estimate/importance_weights.hpp>
#include <dro/gradient/document_independent.hpp>
#include <dro/gradient/per_position.hpp>
#include <dro/gradient/pl_rank.hpp>
#include <dro/gradient/relax.hpp>
#include <dro/gradient/score_norms.hpp>
#include <dro/gradient/unordered_set.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/ranking/without_replacement.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "teams.hpp"

namespace {

using dro::index_t;

constexpr index_t queries = 4;
constexpr index_t documents = 9;
constexpr index_t picks = 3;
constexpr index_t samples = 6;

/// Scores, query 1's with impossible documents, and one list of each kind for each query: rankings, a repeated
/// document, one out of range, an incomplete one.
template <class B>
struct ranked {
  dro::matrix_t<B, double> scores;
  dro::matrix_t<B, dro::document_t> rankings;
  dro::grouping groups = dro::grouping::uniform(queries, samples);

  explicit ranked(B& b) : scores(write(b, some_scores())), rankings(write(b, some_rankings())) {}

  [[nodiscard]] auto z(B& b) const { return std::as_const(b).view(rankings); }

  static dro::host_matrix<double> some_scores() {
    auto s = test::random_matrix<double>(queries, documents, -2, 2, 61);
    s(1, 1) = s(1, 7) = -test::infinity<double>;
    return s;
  }
  static dro::host_matrix<dro::document_t> some_rankings() {
    std::vector<test::ranking> list;
    for (index_t q = 0; q < queries; ++q) {
      list.push_back({2, 5, 8});
      list.push_back({8, 2, 5});
      list.push_back({1, 1, 4});
      list.push_back({6, 9, 0});
      list.push_back({0, 3, dro::no_document});
      list.push_back({7, 0, 3});
    }
    return test::ranking_matrix(list);
  }
};

}  // namespace

TEST_CASE("norms, gradients and coefficients of single picks, and norms of whole rankings") {
  test::check_teams([](auto& b, test::results& out) {
    const auto view = [&](const auto& m) { return std::as_const(b).view(m); };
    const ranked r(b);
    auto whole = b.template make<double>(r.groups.total(), 1);
    dro::plackett_luce_score_norms(b, r.scores, r.z(b), r.groups, b.view(whole));
    out.add(b, "norms", whole);
    auto norms = b.template make<double>(r.groups.total(), picks);
    dro::plackett_luce_position_norms(b, r.scores, r.z(b), r.groups, b.view(norms));
    out.add(b, "norms of picks", norms);
    auto log_p = test::random_matrix<double>(r.groups.total(), 1, -4, -1, 62);
    auto log_q = test::random_matrix<double>(r.groups.total(), 1, -4, -1, 63);
    auto likelihood = test::random_matrix<double>(r.groups.total(), 1, -6, -1, 64);
    log_q(samples + 1, 0) = -800;  // a ratio beyond the numbers
    likelihood(2 * samples, 0) = -test::infinity<double>;
    const auto selector = write(b, log_p);
    const auto generator = write(b, likelihood);
    const auto proposal = write(b, log_q);
    const auto scores = dro::off_policy(b, selector, generator, proposal, r.groups);
    const auto weights = dro::importance_weights(b, scores);
    const auto add = [&](const auto& reward) {
      for (const auto& s : {scores, scores.with({.block = 2}, {}), scores.with({.covers = false}, {})}) {
        const auto c = dro::position_coefficients(b, reward, s, weights, view(norms));
        out.add(b, "coefficients", c.selector);
        out.add(b, "log scale", c.log_scale);
        out.add(b, "status", c.status);
        auto gradient = dro::make_filled<double>(b, queries, documents, 0.25);
        dro::accumulate_position_gradient(b, r.scores, r.z(b), r.groups, c.selector, b.view(gradient));
        out.add(b, "gradient", gradient);
      }
    };
    add(dro::log_likelihood_reward{});
    add(dro::likelihood_reward{});
  });
}

TEST_CASE("PL-Rank-3") {
  test::check_teams([](auto& b, test::results& out) {
    const ranked r(b);
    const auto relevance = write(b, test::random_matrix<double>(queries, documents, 0, 1, 65));
    const auto discounts = write(b, test::matrix<double>(1, picks, std::vector<double>{1, 0.63, 0.5}));
    auto gradient = dro::make_filled<double>(b, queries, documents, 0.25);
    dro::pl_rank_3_gradient(b, r.scores, r.z(b), r.groups, relevance, discounts, b.view(gradient));
    out.add(b, "gradient", gradient);
  });
}

TEST_CASE("RELAX, and the noise that it draws") {
  test::check_teams([](auto& b, test::results& out) {
    const auto view = [&](const auto& m) { return std::as_const(b).view(m); };
    const ranked r(b);
    const dro::random_state random(b, 10);
    auto noise = b.template make<double>(r.groups.total(), documents);
    dro::plackett_luce_conditional_noise(b, r.scores, r.z(b), r.groups, random.source(b), b.view(noise));
    out.add(b, "noise", noise);
    const auto cotangent = write(b, test::random_matrix<double>(r.groups.total(), documents, -1, 1, 66));
    auto pulled = b.template make<double>(r.groups.total(), documents);
    dro::conditional_noise_pullback(b, r.scores, r.z(b), r.groups, view(noise), view(cotangent), b.view(pulled));
    out.add(b, "pullback", pulled);

    auto rewards = test::random_matrix<double>(r.groups.total(), 1, -1, 1, 67);
    rewards(3 * samples + 1, 0) = test::nan<double>;
    const auto f = write(b, rewards);
    const auto features = write(b, test::random_matrix<double>(queries * documents, 4, -1, 1, 68));
    const auto parameters = write(b, test::random_matrix<double>(1, 5, -1, 1, 69));
    const dro::softmax_control_variate<double> control(view(features), view(parameters), 0.7);
    auto d_scores = dro::make_filled<double>(b, queries, documents, 0.25);
    auto d_parameters = dro::make_filled<double>(b, 1, 5, 0.25);
    const auto status = dro::relax_gradient(b, r.scores, r.z(b), r.groups, f, control, random.source(b),
                                            b.view(d_scores), b.view(d_parameters));
    out.add(b, "d_scores", d_scores);
    out.add(b, "d_parameters", d_parameters);
    out.add(b, "status", status);
  });
}

TEST_CASE("gradients that ignore how documents go together") {
  test::check_teams([](auto& b, test::results& out) {
    const auto view = [&](const auto& m) { return std::as_const(b).view(m); };
    const ranked r(b);
    auto utilities = test::random_matrix<double>(queries, documents, -4, -1, 70);
    utilities(0, 3) = -test::infinity<double>;
    for (index_t j = 0; j < documents; ++j) utilities(2, j) = -test::infinity<double>;
    const auto likelihood = write(b, utilities);
    auto d_scores = b.template make<double>(queries, documents);
    auto responsibility = b.template make<double>(queries, documents);
    dro::rag_sequence_gradient(b, view(r.scores), view(likelihood), b.view(d_scores), b.view(responsibility));
    out.add(b, "RAG-Sequence", d_scores);
    out.add(b, "responsibility", responsibility);
    dro::replug_gradient(b, view(r.scores), view(likelihood), b.view(d_scores),
                         {.target_temperature = 0.5, .temperature = 2});
    out.add(b, "REPLUG", d_scores);
    const auto gain = write(b, test::random_matrix<double>(r.groups.total(), documents, -1, 1, 71));
    const dro::random_state random(b, 12);
    auto perturbed = b.template make<double>(r.groups.total(), documents);
    dro::plackett_luce_conditional_noise(b, r.scores, r.z(b), r.groups, random.source(b), b.view(perturbed));
    dro::straight_through_gradient(b, view(perturbed), r.z(b), view(gain), b.view(d_scores), 0.8);
    out.add(b, "straight through", d_scores);
  });
}

TEST_CASE("unordered sets") {
  test::check_teams([](auto& b, test::results& out) {
    const ranked r(b);
    const dro::random_state random(b, 11);
    const auto drawn = dro::draw_without_replacement(b, r.scores, random.source(b), {samples, picks});
    auto values = test::random_matrix<double>(r.groups.total(), 1, -5, -1, 72);
    values(samples + 2, 0) = -test::infinity<double>;
    values(2 * samples + 2, 0) = test::nan<double>;
    values(3 * samples + 2, 0) = 800;  // a likelihood beyond the numbers
    const auto likelihood = write(b, values);
    const auto add = [&](const auto& target) {
      const auto c = dro::unordered_set_coefficients(b, target, drawn.log_prob, drawn.log_unsampled, likelihood,
                                                     drawn.z.groups(), 0);
      out.add(b, "selector", c.selector);
      out.add(b, "generator", c.generator);
      out.add(b, "log scale", c.log_scale);
      out.add(b, "status", c.status);
    };
    add(dro::unordered_set::evidence{});
    add(dro::unordered_set::expected_likelihood{});
    add(dro::unordered_set::expected_likelihood{.scale = dro::likelihood_scale::per_query});
    add(dro::unordered_set::expected_log_likelihood{});
  });
}
