// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTING_SCORE_SPACE_HPP
#define DRO_TESTING_SCORE_SPACE_HPP

/// \file
/// Estimators that work on the scores of documents, and those of sets, on any backend against the host.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/gradient/document_independent.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/gradient_noise.hpp>
#include <dro/gradient/per_position.hpp>
#include <dro/gradient/pl_rank.hpp>
#include <dro/gradient/relax.hpp>
#include <dro/gradient/score_norms.hpp>
#include <dro/gradient/unordered_set.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/ranking/set_probability.hpp>
#include <dro/ranking/without_replacement.hpp>
#include <dro/testing/inputs.hpp>
#include <dro/testing/rankings.hpp>
#include <dro/testing/transcript.hpp>
#include <dro/testing/weights.hpp>

namespace dro::testing {

namespace detail {

/// Of a probability exp(s_j − L_t), relative: the mass, the difference, exp.
[[nodiscard]] inline double share_roundings(const problem& p, double S) {
  return mass_roundings(p, S) + 2 * S + std::log(static_cast<double>(p.documents)) + 2;
}

/// Of z̃ given a ranking, absolute: K times added in log space, each off by its mass and by sums of numbers below
/// 25 + S + log n, of which the noise is exact and its logarithm off by 2 · 3.
[[nodiscard]] inline double conditional_roundings(const problem& p, double S) {
  const double K = static_cast<double>(p.select);
  return (K + 1) * (mass_roundings(p, S) + 3 * (25 + S + std::log(static_cast<double>(p.documents))) + 10);
}

/// Of log P(set), absolute. A sum over orders of products of K probabilities has the error of the worst of them; K
/// log-sums of up to K numbers below K (2S + log n) add theirs.
[[nodiscard]] inline double set_roundings(const problem& p, double S) {
  const double K = static_cast<double>(p.select);
  const double size = K * (2 * S + std::log(static_cast<double>(p.documents)));
  return log_prob_roundings(p, S) + K * (3 * size + K + 4);
}

/// Scores on a backend and rankings drawn with them.
template <backend B, class T>
struct drawn_lists {
  problem size;
  matrix_t<B, T> scores;
  random_state<B> random;
  draws<B, T> z;

  drawn_lists(B& b, const problem& p, bool with_impossible)
      : size(p),
        scores(write(b, table(p, with_impossible))),
        random(b, 31, 2),
        z(draw_plackett_luce(b, scores, random.source(b), {p.samples, p.select})) {}

  [[nodiscard]] matrix_view<const document_t> rankings(const B& b) const { return b.view(z.rankings()); }
  [[nodiscard]] matrix_t<B, T> zeros(B& b) const { return make_filled<T>(b, size.queries, size.documents, T(0)); }

 private:
  /// The last query has a single document too many that cannot be chosen, or too few that can.
  static host_matrix<T> table(const problem& p, bool with_impossible) {
    auto s = scores_of<T>(p);
    if (with_impossible) {
      s(p.queries - 1, 1) = -infinity<T>;
      if (p.queries > 1) {
        for (index_t j = p.select - 1; j < p.documents; ++j) s(0, j) = -infinity<T>;
      }
    }
    return s;
  }
};

}  // namespace detail

/// Norms of the score function, gradients and coefficients by position, PL-Rank, RELAX and its noise, marginals over
/// single documents, and the measure of gradient noise.
template <class T, backend B>
void check_score_space(B& b, findings& found) {
  constexpr problem sizes[] = {{3, 6, 9, 3}, {1, 16, 33, 5}, {2, 4, 6, 6}, {2, 1, 5, 1}};
  for (const problem& p : sizes) {
    for (const bool with_impossible : {false, true}) {
      if (with_impossible && p.select + 1 > p.documents) continue;
      run_case(
          b,
          std::string("gradients by scores") + (with_impossible ? " with impossible documents" : "") +
              detail::name_of(p),
          [&]<backend C>(C& on, transcript& t) {
            const C& view = on;
            const detail::drawn_lists<C, T> x(on, p, with_impossible);
            const auto rankings = x.rankings(on);
            const auto& groups = x.z.groups();
            const auto total = groups.total();
            const double n = static_cast<double>(p.documents), K = static_cast<double>(p.select),
                         m = static_cast<double>(p.samples), Q = static_cast<double>(p.queries);
            const double share = detail::share_roundings(p, 4), gradient = detail::gradient_roundings(p, 4);

            // A slope 1 − share · Σ is off by K (2 share + 2 K) and Σ |slope| ≤ 2 K; squares double that.
            auto norms = on.template make<T>(total, 1);
            plackett_luce_score_norms(on, x.scores, rankings, groups, on.view(norms));
            t.note(on, "score norms", norms, bound::absolute(4 * K * K * (2 * share + 2 * K) + 2 * n * K * K, 1));
            // Likewise for one pick, of which the slopes add up to 2 at most.
            auto by_position = on.template make<T>(total, p.select);
            plackett_luce_position_norms(on, x.scores, rankings, groups, on.view(by_position));
            t.note(on, "position norms", by_position, bound::absolute(4 * 2 * share + 2 * n, 1));

            const auto each = write(on, numbers<T>(total, p.select, -1, 1, 301));
            auto d_scores = x.zeros(on);
            accumulate_position_gradient(on, x.scores, rankings, groups, each, on.view(d_scores));
            t.note(on, "position gradient", d_scores, bound::absolute(gradient, 1));

            // Rewards to come are below 2 K, the two sums carried forward below 2 K² with K factors exp.
            const auto relevance = write(on, numbers<T>(p.queries, p.documents, 0, 2, 302));
            const auto positions = write(on, numbers<T>(1, p.select, 0, 1, 303));
            auto ranked = x.zeros(on);
            pl_rank_3_gradient(on, x.scores, rankings, groups, relevance, positions, on.view(ranked));
            t.note(on, "PL-Rank-3", ranked, bound::absolute(4 * K * K * (2 * K * share + m + 4 * K), 1 / Q));

            // z̃, and everything made of ratios of times: 1 − exp(z̃_t − z̃_{t−1}) is off by two errors of z̃.
            const double of_noise = detail::conditional_roundings(p, 4);
            auto noise = on.template make<T>(total, p.documents);
            plackett_luce_conditional_noise(on, x.scores, rankings, groups, x.random.source(on), on.view(noise));
            t.note(on, "conditional noise", noise, bound::absolute(of_noise, 1));
            const auto cotangent = write(on, numbers<T>(total, p.documents, -1, 1, 304));
            auto pulled = on.template make<T>(total, p.documents);
            conditional_noise_pullback(on, x.scores, rankings, groups, view.view(std::as_const(noise)),
                                       view.view(cotangent), on.view(pulled));
            const double of_pullback = n * K * (4 * of_noise + 2 * share + n);
            t.note(on, "pullback", pulled, bound::absolute(of_pullback, 1));

            // c and ∇c are below 4, rewards below 8: g is a score function times 12 and a pullback times 4. ∂‖g‖² is a
            // product of two such, Σ |g| below 24 K + 8 n, and pushes it forward once more.
            const auto features = write(on, numbers<T>(p.queries * p.documents, 2, -1, 1, 305));
            const auto phi = write(on, numbers<T>(1, 3, -1, 1, 306));
            const auto rewards = write(on, numbers<T>(total, 1, -8, 0, 307));
            const softmax_control_variate<T> control(view.view(features), view.view(phi), 0.5);
            auto relaxed = x.zeros(on);
            auto d_phi = make_filled<T>(on, 1, 3, T(0));
            t.note(on, "RELAX: status",
                   relax_gradient(on, x.scores, rankings, groups, rewards, control, x.random.source(on),
                                  on.view(relaxed), on.view(d_phi)));
            const double of_g = 16 * (of_pullback + n * K * 2 * share);
            t.note(on, "RELAX: d_scores", relaxed, bound::absolute(of_g + m, 1));
            t.note(on, "RELAX: d_parameters", d_phi, bound::absolute(4 * of_g * (24 * K + 8 * n) * 4, 1));
          },
          found);
    }
  }

  run_case(
      b, "rewards that are no numbers, for RELAX",
      [&]<backend C>(C& on, transcript& t) {
        const C& view = on;
        constexpr problem p{4, 2, 5, 2};
        const detail::drawn_lists<C, T> x(on, p, false);
        const auto features = write(on, numbers<T>(20, 1, -1, 1, 308));
        const auto phi = write(on, numbers<T>(1, 2, -1, 1, 309));
        const auto rewards = write(
            on, host_matrix<T>(4, 2, {T(-1), T(-2), not_a_number<T>, T(0), infinity<T>, T(0), -infinity<T>, T(0)}));
        auto d_scores = x.zeros(on);
        auto d_phi = make_filled<T>(on, 1, 2, T(0));
        const softmax_control_variate<T> control(view.view(features), view.view(phi));
        t.note(on, "status",
               relax_gradient(on, x.scores, x.rankings(on), x.z.groups(), rewards, control, x.random.source(on),
                              on.view(d_scores), on.view(d_phi)));
        const double share = detail::share_roundings(p, 4);
        const double of_g = 16 * (5 * 2 * (4 * detail::conditional_roundings(p, 4) + 4 * share + 5));
        t.note(on, "d_scores", d_scores, bound::absolute(of_g, 1));
      },
      found);

  run_case(
      b, "coefficients by position",
      [&]<backend C>(C& on, transcript& t) {
        constexpr index_t queries = 12, m = 8;
        const C& view = on;
        const detail::scored_sample<C, T> plain(on, queries, m), strange(on, queries, m, true);
        const auto norms = write(on, numbers<T>(queries * m, 3, 1, 2, 310));
        const auto note = [&](const std::string& what, const scored_draws<T>& scores, const auto& reward) {
          const auto w = importance_weights(on, scores);
          const auto c = position_coefficients(on, reward, scores, w, view.view(norms), {.shrinkage = 0.5});
          // As the variance-minimising baseline of one reward: see check_objectives.
          const double roundings = 3 * m * (3 * m + 16.0) + 40;
          t.note(on, {what, "selector"}, c.selector,
                 bound::absolute(roundings, 2.72 * (8 + 16 * 2.72) / (m * queries)));
          t.note(on, {what, "log_scale"}, c.log_scale);
          t.note(on, {what, "status"}, c.status);
        };
        note("on-policy, log-likelihood", plain.on(on), log_likelihood_reward{});
        note("on-policy, likelihood", plain.on(on), likelihood_reward{});
        note("off-policy, log-likelihood", plain.off(on), log_likelihood_reward{});
        note("off-policy, likelihood", strange.off(on), likelihood_reward{});
        note("strange queries", strange.on(on), log_likelihood_reward{});
        note("of pairs", plain.off(on).with({.block = 2}, {}), log_likelihood_reward{});
        note("of a proposal that does not cover", plain.off(on).with({.block = 1, .covers = false}, {}),
             log_likelihood_reward{});
      },
      found);

  run_case(
      b, "marginals over single documents",
      [&]<backend C>(C& on, transcript& t) {
        constexpr problem p{4, 6, 20, 3};
        const C& view = on;
        const detail::drawn_lists<C, T> x(on, p, true);
        auto table = numbers<T>(p.queries, p.documents, -8, 0, 311);
        for (index_t j = 0; j < p.documents; ++j) table(2, j) = -infinity<T>;
        const auto likelihood = write(on, table);
        // A softmax of sums below 12: arguments 2 · 12, exp 2, a sum of n, a quotient; two of them and a factor.
        const double softmax = 2 * 12 + 20 + 6;
        const auto note = [&](const char* what, const auto& m, double scale) {
          t.note(on, what, m, bound::absolute(2 * softmax + 4, scale));
        };
        auto d_scores = x.zeros(on);
        auto responsibility = x.zeros(on);
        rag_sequence_gradient(on, view.view(x.scores), view.view(likelihood), on.view(d_scores),
                              on.view(responsibility));
        note("RAG-Sequence: d_scores", d_scores, 1.0 / p.queries);
        note("RAG-Sequence: responsibility", responsibility, 1.0 / p.queries);
        replug_gradient(on, view.view(x.scores), view.view(likelihood), on.view(d_scores),
                        {.target_temperature = 2, .temperature = 0.5});
        note("REPLUG: d_scores", d_scores, 2.0 / p.queries);

        // Of each draw K softmaxes of perturbed scores over τ, below 16/τ, times gains less their mean, below 2, over
        // τ. What is impossible is so in the perturbed scores too; the first query has no rankings.
        auto noisy = numbers<T>(p.queries * p.samples, p.documents, -4, 16, 314);
        for (index_t i = 0; i < p.samples; ++i) {
          for (index_t j = 0; j < p.documents; ++j) noisy(i, j) = -infinity<T>;
          noisy((p.queries - 1) * p.samples + i, 1) = -infinity<T>;
        }
        const auto perturbed = write(on, noisy);
        const auto gain = write(on, numbers<T>(p.queries * p.samples, p.documents, -1, 1, 312));
        constexpr double temperature = 0.5;
        auto through = x.zeros(on);
        straight_through_gradient(on, view.view(perturbed), x.rankings(on), view.view(gain), on.view(through),
                                  temperature);
        const double one = 2 * (3 * 20 + 2 * 16 / temperature + 16 / temperature + 12) + 6 * 3;
        t.note(on, "straight-through: d_scores", through, bound::absolute(3 * one, 1 / (temperature * p.queries)));
      },
      found);

  run_case(
      b, "gradient noise",
      [&]<backend C>(C& on, transcript& t) {
        const auto noise_of = [&](const char* what, const auto& objective, const problem& p, bool pairs) {
          const detail::drawn_lists<C, T> x(on, p, false);
          const auto likelihood = write(on, numbers<T>(p.queries * p.samples, 1, -2, 0, 313));
          const auto scores = on_policy(on, likelihood, x.z);
          auto sums = make_filled<double>(on, 1, dro::detail::gradient_noise_columns, 0.0);
          accumulate_gradient_noise(on, objective, x.scores, x.z, pairs ? scores.with({.block = 2}, {}) : scores,
                                    x.random.source(on), on.view(sums));
          // Coefficients of a half are below 4 and off by 3 m (3 m + 16) + 40; a gradient's elements add up to 8 K. The
          // signal squared is below (8 K)⁴, and off by 4 (8 K)³ times the error of an element.
          const double K = static_cast<double>(p.select), m = static_cast<double>(p.samples);
          const double of_element = 4 * detail::gradient_roundings(p, 4) + 2 * K * (3 * m * (3 * m + 16) + 40);
          const auto read_back = read(on, sums);
          host_backend host(1);
          host_matrix<T> rounded(1, read_back.cols());
          std::transform(read_back.data(), read_back.data() + read_back.cols(), rounded.data(),
                         [](double v) { return static_cast<T>(v); });
          t.note(host, what, rounded,
                 bound::absolute(4 * std::pow(8 * K, 3) * of_element * static_cast<double>(p.queries), 1));
        };
        noise_of("of the evidence", evidence<>{}, {5, 8, 9, 3}, false);
        noise_of("of the expected log-likelihood, of pairs", expected_log_likelihood<>{}, {5, 8, 9, 3}, true);
      },
      found);
}

/// Probabilities and gradients of sets, draws without replacement and the unordered-set estimator.
template <class T, backend B>
void check_sets(B& b, findings& found) {
  constexpr problem sizes[] = {{3, 6, 9, 3}, {2, 4, 20, 5}, {2, 3, 4, 4}};
  for (const problem& p : sizes) {
    run_case(
        b, "sets" + detail::name_of(p),
        [&]<backend C>(C& on, transcript& t) {
          const detail::drawn_lists<C, T> x(on, p, p.select < p.documents);
          const auto rankings = x.rankings(on);
          const double K = static_cast<double>(p.select), m = static_cast<double>(p.samples);
          const double of_set = detail::set_roundings(p, 4);
          auto log_prob = on.template make<T>(x.z.groups().total(), 1);
          set_log_prob(on, x.scores, rankings, x.z.groups(), on.view(log_prob));
          t.note(on, "log P", log_prob, bound::absolute(of_set, 1));
          // Shares of orders are quotients of two sums over orders, K of them multiplied; 2^K terms are added.
          const auto coefficients = write(on, numbers<T>(x.z.groups().total(), 1, -1, 1, 320));
          auto gradient = x.zeros(on);
          accumulate_set_gradient(on, x.scores, rankings, x.z.groups(), coefficients, on.view(gradient));
          t.note(on, "gradient", gradient,
                 bound::absolute(m * K * (2 * K * of_set + std::pow(2, K) + detail::share_roundings(p, 4) + m), 1));
        },
        found);
  }

  constexpr problem beams[] = {{3, 6, 9, 3}, {2, 8, 5, 2}, {2, 4, 33, 4}, {1, 12, 3, 2}};
  for (const problem& p : beams) {
    run_case(
        b, "without replacement" + detail::name_of(p),
        [&]<backend C>(C& on, transcript& t) {
          auto table = scores_of<T>(p);
          if (p.queries > 1) table(1, 0) = -infinity<T>;
          const auto scores = write(on, table);
          random_state random(on, 19);
          auto drawn = draw_without_replacement(on, scores, random.source(on), {p.samples, p.select});
          const double m = static_cast<double>(p.samples);
          const double of_log_p = detail::log_prob_roundings(p, 4);
          // Keys are off as log p is, and log q by the difference of a log p and a key, through log(1 − exp(−exp)):
          // its slope is at most 1. What was not sampled is a sum over what was pruned, at each of K picks.
          const double of_log_q = 4 * of_log_p + 100;
          t.note(on, "rankings", drawn.z.rankings());
          t.note(on, "log p", drawn.log_prob, bound::absolute(of_log_p, 1));
          t.note(on, "log q", drawn.z.log_proposal(), bound::absolute(of_log_q, 1));
          t.note(on, "log of what was not sampled", drawn.log_unsampled,
                 bound::absolute(of_log_q + m * static_cast<double>(p.select), 1));
          const auto likelihood = write(on, numbers<T>(p.queries * p.samples, 1, -8, 0, 321));
          const auto note = [&](const char* what, const auto& target) {
            const auto c = unordered_set_coefficients(on, target, drawn, likelihood);
            // W_ij is a quotient of two sums over orders of m products, each factor off as log p and what is left are.
            const bound of_weights =
                bound::absolute(4 * m * (of_log_p + of_log_q + 20 * m), 16 / static_cast<double>(p.queries));
            t.note(on, {what, "selector"}, c.selector, of_weights);
            t.note(on, {what, "generator"}, c.generator, of_weights);
            t.note(on, {what, "log_scale"}, c.log_scale, of_weights);
            t.note(on, {what, "status"}, c.status);
          };
          note("evidence", unordered_set::evidence{});
          note("expected likelihood", unordered_set::expected_likelihood{});
          note("expected likelihood, per query", unordered_set::expected_likelihood{likelihood_scale::per_query});
          note("expected log-likelihood", unordered_set::expected_log_likelihood{});
        },
        found);
  }
}

}  // namespace dro::testing

#endif
