// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTING_RANKINGS_HPP
#define DRO_TESTING_RANKINGS_HPP

/// \file
/// Draws, their log-probabilities and gradients, and every proposal, on any backend against the host.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/em/adaptive.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/proposals/fixed_order.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/model/proposals/sampled_selector.hpp>
#include <dro/model/proposals/several.hpp>
#include <dro/model/proposals/snapshot.hpp>
#include <dro/model/proposals/uniform.hpp>
#include <dro/models/table.hpp>
#include <dro/random/joint_noise.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/deduplicate.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/enumerate.hpp>
#include <dro/ranking/greedy.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/ranking/sampling.hpp>
#include <dro/ranking/without_replacement.hpp>
#include <dro/testing/inputs.hpp>
#include <dro/testing/transcript.hpp>

namespace dro::testing {

namespace detail {

// Roundings of Plackett–Luce for scores |s| ≤ S, in units of u.

/// Of the log of a mass left, an absolute error. log Σ exp(s_j − max) + max: an argument rounds by 2S, exp adds 2 and
/// the sum n, all relative to the sum, hence absolute in its log, which adds 2 log n; the shift adds S + log n. Each of
/// K picks put back by log_add_exp rounds an argument and a sum of size S + log n and adds 2 for exp and log1p.
[[nodiscard]] inline double mass_roundings(const problem& p, double S) {
  const auto n = static_cast<double>(p.documents), K = static_cast<double>(p.select);
  return n + (K + 1) * (3 * (S + std::log(n)) + 4);
}

/// Of log p(z), an absolute error: K differences of a score and a mass, each of size below 2S + log n, and their sum.
[[nodiscard]] inline double log_prob_roundings(const problem& p, double S) {
  const auto n = static_cast<double>(p.documents), K = static_cast<double>(p.select);
  return K * (mass_roundings(p, S) + (K + 1) * (2 * S + std::log(n)));
}

/// Of Σ_i c_i ∂ log p(z_i)/∂ s, |c_i| ≤ 1: 1 − exp(s_j + log Σ_u exp(−L_u)) has an exponent that is off by two errors
/// of a mass at most and a value below K, and m of them are added up.
[[nodiscard]] inline double gradient_roundings(const problem& p, double S) {
  const auto m = static_cast<double>(p.samples), K = static_cast<double>(p.select);
  return m * K * (2 * mass_roundings(p, S) + m + 4);
}

[[nodiscard]] inline std::string name_of(const problem& p) {
  return " of " + std::to_string(p.queries) + " queries, " + std::to_string(p.samples) + " samples, " +
         std::to_string(p.documents) + " documents, " + std::to_string(p.select) + " picks";
}

template <class B, class T>
void note_draws(B& b, transcript& t, const std::string& what, const draws<B, T>& z, double roundings) {
  t.note(b, {what, "rankings"}, z.rankings());
  t.note(b, {what, "log_proposal"}, z.log_proposal(), bound::absolute(roundings, 1));
  t.note({what, "block"}, static_cast<double>(z.traits().block));
  t.note({what, "covers"}, z.traits().covers ? 1 : 0);
  if (z.has_multiplicity()) t.note(b, {what, "multiplicity"}, z.multiplicity());
  if (z.has_log_kept()) t.note(b, {what, "log_kept"}, z.log_kept(), bound::absolute(roundings, 1));
  if (z.has_log_unsampled()) {
    t.note(b, {what, "log_unsampled"}, z.log_unsampled(), bound::absolute(roundings, 1));
  }
}

}  // namespace detail

/// Draws with every sampling option, log p(z), its gradient and the greedy ranking. Rankings are equal to the bit
/// everywhere: noise is made of integers, a key is one rounded sum, and for top_p the seeds are such that no share of
/// mass lies within rounding of it.
template <class T, backend B>
void check_draws(B& b, findings& found) {
  const auto draws_of = [&](const problem& p, const char* what, const sampling& how) {
    run_case(
        b, what + detail::name_of(p),
        [&](auto& on, transcript& t) {
          const auto scores = write(on, scores_of<T>(p));
          random_state random(on, 2024, 3);
          const auto z = draw_plackett_luce(on, scores, random.source(on), {p.samples, p.select}, how);
          // Scores up to 4; a temperature below 1 would make them larger.
          const double S = 4 / std::min(1.0, how.temperature);
          const double roundings = detail::log_prob_roundings(p, S) + 8 * S * static_cast<double>(p.select);
          detail::note_draws(on, t, "draws", z, roundings);
          const auto rankings = std::as_const(on).view(z.rankings());
          auto log_q = on.template make<T>(z.groups().total(), 1);
          plackett_luce_log_prob(on, scores, rankings, z.groups(), on.view(log_q), how);
          t.note(on, "log q", log_q, bound::absolute(roundings, 1));
        },
        found);
  };
  for (const problem& p : problems) draws_of(p, "draws", {});
  constexpr problem usual{2, 16, 33, 5};
  draws_of(usual, "antithetic draws", {.noise = {noise_kind::antithetic}});
  draws_of(usual, "Latin hypercube draws", {.noise = {noise_kind::latin_hypercube, 8}});
  draws_of(usual, "draws at temperature 2", {.temperature = 2});
  draws_of(usual, "draws at temperature ½", {.temperature = 0.5});
  draws_of(usual, "top-7 draws", {.top_k = 7});
  draws_of(usual, "top-p draws", {.top_p = 0.8});
  draws_of(usual, "top-9, top-p draws at temperature 1.5, antithetic",
           {.temperature = 1.5, .top_k = 9, .top_p = 0.9, .noise = {noise_kind::antithetic}});

  const auto gradient_of = [&](const problem& size) {
    run_case(
        b, "gradient" + detail::name_of(size),
        [&](auto& on, transcript& t) {
          const auto scores = write(on, scores_of<T>(size));
          random_state random(on, 5);
          const auto z = draw_plackett_luce(on, scores, random.source(on), {size.samples, size.select});
          const auto rankings = std::as_const(on).view(z.rankings());
          const auto coefficients = write(on, numbers<T>(z.groups().total(), 1, -1, 1, 102));
          auto gradient = make_filled<T>(on, size.queries, size.documents, T(0));
          accumulate_plackett_luce_gradient(on, scores, rankings, z.groups(), coefficients, on.view(gradient));
          t.note(on, "gradient", gradient, bound::absolute(detail::gradient_roundings(size, 4), 1));
          t.note(on, "greedy", greedy_plackett_luce(on, scores, size.select).rankings());
        },
        found);
  };
  for (const problem& size : problems) gradient_of(size);
  // More draws than a warp has at once, of many documents, of many picks, and with a block of threads.
  for (const problem& size : {problem{2, 80, 150, 3}, {2, 80, 20, 12}, {1, 300, 40, 4}}) gradient_of(size);

  run_case(
      b, "impossible documents and scores that are no numbers",
      [](auto& on, transcript& t) {
        constexpr index_t queries = 6, n = 9, K = 4, m = 3;
        auto table = scores_of<T>({queries, m, n, K});
        for (index_t j = 0; j < n; ++j) {
          if (j % 2 == 1) table(0, j) = -infinity<T>;  // five are possible
          if (j > 2) table(1, j) = -infinity<T>;       // three: too few
          table(2, j) = -infinity<T>;
          table(5, j) = T(1);  // all alike
        }
        table(3, 4) = not_a_number<T>;
        table(4, 4) = infinity<T>;
        const auto scores = write(on, table);
        random_state random(on, 11);
        const problem p{queries, m, n, K};
        const auto z = draw_plackett_luce(on, scores, random.source(on), {m, K});
        detail::note_draws(on, t, "draws", z, detail::log_prob_roundings(p, 4));
        detail::note_draws(on, t, "truncated draws",
                           draw_plackett_luce(on, scores, random.source(on), {m, K}, {.top_k = 6}),
                           detail::log_prob_roundings(p, 4));
        t.note(on, "greedy", greedy_plackett_luce(on, scores, K).rankings());
        // One ranking as it is, one that repeats a document and one that names none.
        host_matrix<document_t> given(queries * 3, K);
        for (index_t r = 0; r < queries * 3; ++r) {
          for (index_t k = 0; k < K; ++k) given(r, k) = static_cast<document_t>(2 * k);
          if (r % 3 == 1) given(r, 2) = given(r, 0);
          if (r % 3 == 2) given(r, 1) = no_document;
        }
        const auto rankings = write(on, given);
        const auto groups = grouping::uniform(queries, 3);
        auto log_p = on.template make<T>(queries * 3, 1);
        const auto view = std::as_const(on).view(rankings);
        plackett_luce_log_prob(on, scores, view, groups, on.view(log_p));
        t.note(on, "log p of given rankings", log_p, bound::absolute(detail::log_prob_roundings(p, 4), 1));
        auto gradient = make_filled<T>(on, queries, n, T(0));
        const auto ones = make_filled<T>(on, queries * 3, 1, T(1));
        accumulate_plackett_luce_gradient(on, scores, view, groups, ones, on.view(gradient));
        t.note(on, "gradient of given rankings", gradient, bound::absolute(detail::gradient_roundings(p, 4), 1));
      },
      found);

  run_case(
      b, "ragged lists of draws, joined where equal",
      [](auto& on, transcript& t) {
        const problem p{3, 16, 4, 2};  // twelve rankings: some are drawn again
        const auto scores = write(on, scores_of<T>(p));
        random_state random(on, 8);
        const auto plain = draw_plackett_luce(on, scores, random.source(on), {p.samples, p.select});
        host_matrix<std::int32_t> starts(4, 1, {0, 5, 5, 16});
        auto z = take_first(on, plain, write(on, starts), 16);
        detail::note_draws(on, t, "the first of each query", z, detail::log_prob_roundings(p, 4));
        const auto coefficients = write(on, numbers<T>(16, 1, -1, 1, 103));
        auto gradient = make_filled<T>(on, p.queries, p.documents, T(0));
        accumulate_plackett_luce_gradient(on, scores, std::as_const(on).view(z.rankings()), z.groups(), coefficients,
                                          on.view(gradient));
        t.note(on, "gradient", gradient, bound::absolute(detail::gradient_roundings(p, 4), 1));
        z = deduplicate(on, std::move(z));
        detail::note_draws(on, t, "equal ones joined", z, detail::log_prob_roundings(p, 4));
        z = deduplicate(on, std::move(z), {.keep_multiplicity = false, .as_sets = true});
        detail::note_draws(on, t, "equal sets joined", z, detail::log_prob_roundings(p, 4));
      },
      found);
}

/// Every proposal: its draws, their log q, and log q of another's draws.
template <class T, backend B>
void check_proposals(B& b, findings& found) {
  // The queries are rows 1 to 3 of a table of five.
  static constexpr problem p{3, 8, 9, 3};
  static constexpr models::table_rows rows{1, p.queries};
  const auto proposal_of = [&](const char* name, index_t samples, const auto& make, double parts) {
    run_case(
        b, name,
        [&]<backend C>(C& on, transcript& t) {
          const models::table_selector<C, T> selector(on, scores_of<T>({5, p.samples, p.documents, p.select}));
          random_state random(on, 77, 5);
          const auto source = make(on, selector);
          // Each part's log q, and a sum of exponentials of them all; a log q is below K (2S + log n).
          const double roundings = parts * (detail::log_prob_roundings(p, 4) + 16 * 3 * (8 + std::log(9.0)));
          const auto z = source.draw(on, rows, {samples, p.select}, random.source(on));
          detail::note_draws(on, t, "draws", z, roundings);
          if constexpr (scoring_proposal<std::remove_cvref_t<decltype(source)>, C, models::table_rows>) {
            random.advance(on);
            const auto others = selector.draw(on, rows, {samples, p.select}, random.source(on));
            t.note(on, "log q of the selector's draws", source.log_prob(on, rows, others),
                   bound::absolute(roundings, 1));
          }
        },
        found);
  };
  proposal_of(
      "uniform", 8, [](auto&, const auto&) { return uniform<T>(p.documents); }, 1);
  proposal_of(
      "uniform over what a selector can choose", 8, [](auto&, const auto& selector) { return uniform_over(selector); },
      1);
  proposal_of(
      "fixed order", 8, [](auto&, const auto&) { return fixed_order<T>(p.documents); }, 1);
  proposal_of(
      "all rankings", 8, [](auto&, const auto&) { return exhaustive<T>(p.documents); }, 1);
  proposal_of(
      "mixture", 8, [](auto&, const auto& selector) { return mixture(0.75, selector, uniform<T>(p.documents)); }, 2);
  proposal_of(
      "several, balance heuristic", 6,
      [](auto&, const auto& selector) {
        return several(heuristic::balance, {4, 2}, selector, uniform<T>(p.documents));
      },
      4);
  proposal_of(
      "several, power heuristic", 5,
      [](auto&, const auto& selector) {
        return several(heuristic::power, {2, 2, 1}, selector, uniform<T>(p.documents), fixed_order<T>(p.documents));
      },
      8);
  proposal_of(
      "selector at temperature 2, antithetic", 8,
      [](auto&, const auto& selector) {
        return sampled_selector(selector, {.temperature = 2, .noise = {noise_kind::antithetic}});
      },
      2);
  proposal_of(
      "selector cut to its top 4", 8,
      [](auto&, const auto& selector) { return sampled_selector(selector, {.top_k = 4}); }, 2);
  proposal_of(
      "without replacement", 8, [](auto&, const auto& selector) { return without_replacement(selector); }, 8);
  if constexpr (std::copyable<models::table_selector<B, T>>) {
    proposal_of(
        "snapshot", 8, [](auto& on, const auto& selector) { return snapshot(on, selector); }, 1);
  }
}

}  // namespace dro::testing

#endif
