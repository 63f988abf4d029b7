// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>
#include <dro/gradient/per_position.hpp>
#include <dro/gradient/regularised.hpp>
#include <dro/gradient/variance_minimising.hpp>
#include <dro/ranking/deduplicate.hpp>

#include "support/matrices.hpp"

namespace {

using dro::document_t;
using dro::index_t;
using test::ranking;
using test::real;

constexpr double never = -test::infinity<double>;

using list = std::vector<double>;

/// Draws of one query, with log q = −1 for all.
dro::draws<dro::host_backend, double> draws_of(dro::host_backend& b, const std::vector<ranking>& rankings) {
  const auto count = static_cast<index_t>(rankings.size());
  return {b, test::ranking_matrix(rankings), test::column(list(rankings.size(), -1.0)),
          dro::grouping::uniform(1, count)};
}

list counts(const dro::draws<dro::host_backend, double>& z) {
  const auto values = test::elements(z.multiplicity());
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("the first of equal rankings counts for all of them, each query by itself") {
  dro::host_backend b(1);
  const std::vector<ranking> rankings{{2, 0}, {1, 0}, {2, 0}, {0, 2}, {2, 0}, {2, 0}, {1, 0}, {1, 0}};
  // Queries of 5, 0 and 3 draws: draw 5 equals draw 0, but is another query's.
  dro::draws<dro::host_backend, double> z(b, test::ranking_matrix(rankings), test::column(list(8, -1.0)),
                                          test::column(std::vector<std::int32_t>{0, 5, 5, 8}));
  z = deduplicate(b, std::move(z));
  CHECK(counts(z) == list{3, 1, 0, 1, 0, 1, 2, 0});
  CHECK(test::same(z.rankings(), test::ranking_matrix(rankings)));
  // What is joined already stays as it is.
  z = deduplicate(b, std::move(z));
  CHECK(counts(z) == list{3, 1, 0, 1, 0, 1, 2, 0});
  z = deduplicate(b, std::move(z), {.keep_multiplicity = false});
  CHECK(counts(z) == list{1, 1, 0, 1, 0, 1, 1, 0});
}

TEST_CASE("multiplicities that draws have already are added up; a draw that counts for nothing stands for none") {
  dro::host_backend b(1);
  auto z = draws_of(b, {{0, 1}, {0, 1}, {1, 0}, {0, 1}, {1, 0}});
  z.set_multiplicity(b, test::column(list{0, 2, 1, 3, 4}));
  z = deduplicate(b, std::move(z));
  CHECK(counts(z) == list{0, 5, 5, 0, 0});
}

TEST_CASE("as sets, orders of the same documents are equal") {
  dro::host_backend b(1);
  const std::vector<ranking> rankings{{2, 0, 3}, {3, 2, 0}, {0, 2, 1}, {0, 3, 2}, {1, 2, 0}, {4, 5, 6}};
  CHECK(counts(deduplicate(b, draws_of(b, rankings))) == list{1, 1, 1, 1, 1, 1});
  CHECK(counts(deduplicate(b, draws_of(b, rankings), {.as_sets = true})) == list{3, 0, 2, 0, 0, 1});
  CHECK(counts(deduplicate(b, draws_of(b, rankings), {.keep_multiplicity = false, .as_sets = true})) ==
        list{1, 0, 1, 0, 0, 1});
  // Incomplete rankings: empty places are no document that could make two lists the same.
  constexpr document_t none = dro::no_document;
  CHECK(counts(deduplicate(b, draws_of(b, {{3, none, none}, {3, 5, none}, {3, none, none}}), {.as_sets = true})) ==
        list{2, 1, 0});
}

TEST_CASE("copies of different log q stay apart, impossible ones do not") {
  dro::host_backend b(1);
  const std::vector<ranking> rankings{{0, 1}, {0, 1}, {0, 1}, {1, dro::no_document}, {1, dro::no_document}};
  dro::draws<dro::host_backend, double> z(b, test::ranking_matrix(rankings),
                                          test::column(list{-1, -2, -1, never, never}), dro::grouping::uniform(1, 5));
  CHECK(counts(deduplicate(b, std::move(z))) == list{2, 1, 0, 2, 0});
}

TEST_CASE("draws that cannot be joined are refused") {
  dro::host_backend b(1);
  const auto make = [&](const dro::draw_traits& traits) {
    return dro::draws<dro::host_backend, double>(b, test::ranking_matrix({{0, 1}, {0, 1}}), test::column(list{-1, -1}),
                                                 dro::grouping::uniform(1, 2), traits);
  };
  CHECK_THROWS_WITH_AS(static_cast<void>(deduplicate(b, make({.block = 2}))),
                       "draws: multiplicities of draws in blocks of 2, expected independent draws", dro::option_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(deduplicate(b, make({.covers = false}), {.as_sets = true})),
                       "deduplicate: as_sets of draws by a truncated proposal, expected draws of the selector itself",
                       dro::option_error);
  CHECK_NOTHROW(static_cast<void>(deduplicate(b, make({.covers = false}))));
  // Nothing to join is no trouble.
  CHECK(counts(deduplicate(b, draws_of(b, {}))).empty());
}

TEST_CASE("joining reads nothing back, and strides make no difference") {
  dro::deferred_backend b;  // column-major
  const auto rankings = test::ranking_matrix({{2, 0}, {1, 0}, {2, 0}, {1, 0}, {1, 0}, {0, 1}});
  dro::draws<dro::deferred_backend, double> z(b, write(b, rankings), write(b, test::column(list(6, -1.0))),
                                              dro::grouping::uniform(2, 3));
  // The second time replaces the multiplicities that queued work has still to read.
  z = deduplicate(b, deduplicate(b, std::move(z)));
  CHECK(b.reads() == 0);
  CHECK(b.synchronisations() == 0);
  CHECK(test::same(read(b, z.multiplicity()), test::column(list{2, 1, 0, 2, 0, 1})));
}

namespace {

/// Three queries of 9, 2 and 6 draws of few kinds, with log-probabilities that depend on the ranking alone.
struct repeated_draws {
  dro::host_backend b{1};
  std::vector<std::int32_t> starts{0, 9, 11, 17};
  dro::host_matrix<double> scores = test::random_matrix<double>(3, 4, -1, 1, 71);
  std::vector<ranking> rankings;
  list log_p, log_q, log_reference, likelihood;

  repeated_draws() {
    const auto kinds = test::all_rankings(4, 2);
    const auto values = test::random_matrix<double>(3, 12, -6, 0, 72);
    const auto reference = test::random_matrix<double>(3, 12, -4, -1, 73);
    test::numbers next(74);
    for (index_t q = 0; q < 3; ++q) {
      for (auto i = starts[static_cast<std::size_t>(q)]; i < starts[static_cast<std::size_t>(q) + 1]; ++i) {
        const auto kind = next.word() % 4;
        rankings.push_back(kinds[3 * kind]);
        log_p.push_back(static_cast<double>(test::plackett_luce_log_prob(test::row(scores, q), rankings.back())));
        log_q.push_back(-1.5 - 0.25 * static_cast<double>(kind));
        likelihood.push_back(values(q, static_cast<index_t>(kind)));
        log_reference.push_back(reference(q, static_cast<index_t>(kind)));
      }
    }
  }

  [[nodiscard]] dro::draws<dro::host_backend, double> draws(bool on_policy) {
    return {b, test::ranking_matrix(rankings), test::column(on_policy ? log_p : log_q), test::column(starts)};
  }
  [[nodiscard]] dro::scored_draws<double> scored(const dro::draws<dro::host_backend, double>& z,
                                                 const dro::host_matrix<double>& log_selector,
                                                 const dro::host_matrix<double>& log_likelihood, bool on_policy) {
    return on_policy ? dro::on_policy(b, log_likelihood, z) : dro::off_policy(b, log_selector, log_likelihood, z);
  }
  /// For each draw the first of its query that is equal to it.
  [[nodiscard]] std::size_t first(std::size_t i) const {
    std::size_t j = 0;
    while (j < i && (query(j) != query(i) || rankings[j] != rankings[i])) ++j;
    return j;
  }
  [[nodiscard]] std::size_t query(std::size_t i) const {
    std::size_t q = 0;
    while (static_cast<std::size_t>(starts[q + 1]) <= i) ++q;
    return q;
  }
  [[nodiscard]] std::vector<real> summed(const dro::host_matrix<double>& values, index_t column = 0) const {
    std::vector<real> sums(rankings.size(), 0);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[first(i)] += values(static_cast<index_t>(i), column);
    return sums;
  }
};

// At most 9 draws, so each coefficient is a few sums of 9 terms and 10 exp of 2 u; rewards are below 6, ratios below
// e^2 and their sums below 70, and no difference is of larger numbers: 70 · 60 u.
constexpr real rounding = 4200 * test::unit_roundoff<double>;

/// Coefficients of `target` on the draws, on each query by itself as a uniform list, and on the draws joined, of which
/// those that count for nothing hold NaN everywhere.
template <class Objective>
void check_same(repeated_draws& w, const Objective& target, bool on_policy) {
  CAPTURE(dro::objective_name<Objective>());
  CAPTURE(on_policy);
  auto& b = w.b;
  const auto z = w.draws(on_policy);
  const auto log_selector = test::column(w.log_p);
  const auto log_likelihood = test::column(w.likelihood);
  const auto scores = w.scored(z, log_selector, log_likelihood, on_policy);
  const auto weights = dro::importance_weights(b, scores);
  const auto c = dro::coefficients(b, target, scores, weights);

  const auto joined = deduplicate(b, w.draws(on_policy));
  auto poisoned_selector = log_selector;
  auto poisoned_likelihood = log_likelihood;
  for (index_t i = 0; i < log_selector.rows(); ++i) {
    if (joined.multiplicity()(i, 0) > 0) continue;
    poisoned_selector(i, 0) = poisoned_likelihood(i, 0) = test::nan<double>;
  }
  const auto joined_scores = w.scored(joined, poisoned_selector, poisoned_likelihood, on_policy);
  const auto joined_weights = dro::importance_weights(b, joined_scores);
  const auto joined_c = dro::coefficients(b, target, joined_scores, joined_weights);

  CHECK(test::same(joined_c.status, c.status));
  const auto expected = w.summed(c.selector);
  const auto expected_generator = w.summed(c.generator);
  for (std::size_t i = 0; i < w.rankings.size(); ++i) {
    const auto row = static_cast<index_t>(i);
    const auto q = static_cast<index_t>(w.query(i));
    CHECK(c.status(q, 0) == static_cast<std::int32_t>(dro::status::ok));
    DRO_CHECK_NEAR(joined_c.selector(row, 0), expected[i], rounding);
    DRO_CHECK_NEAR(joined_c.generator(row, 0), expected_generator[i], rounding);
    if (w.first(i) != i) CHECK((joined_c.selector(row, 0) == 0 && joined_c.generator(row, 0) == 0));
    DRO_CHECK_NEAR(joined_c.log_scale(q, 0), c.log_scale(q, 0), rounding);
    // Diagnostics of an effective number up to 9 and log-weights down to −10.
    for (const auto part : {&dro::importance_weights_result<dro::host_backend, double>::log_evidence,
                            &dro::importance_weights_result<dro::host_backend, double>::elbo,
                            &dro::importance_weights_result<dro::host_backend, double>::effective_sample_size,
                            &dro::importance_weights_result<dro::host_backend, double>::largest_weight,
                            &dro::importance_weights_result<dro::host_backend, double>::entropy}) {
      DRO_CHECK_NEAR((joined_weights.*part)(q, 0), (weights.*part)(q, 0), rounding);
    }
  }
}

/// A list of one length for each query is the same as that many lists: bit for bit, the sums being those of the query.
template <class Objective>
void check_ragged(repeated_draws& w, const Objective& target, bool on_policy) {
  CAPTURE(dro::objective_name<Objective>());
  auto& b = w.b;
  const auto z = w.draws(on_policy);
  const auto log_selector = test::column(w.log_p);
  const auto log_likelihood = test::column(w.likelihood);
  const auto scores = w.scored(z, log_selector, log_likelihood, on_policy);
  const auto c = dro::coefficients(b, target, scores, dro::importance_weights(b, scores));
  for (std::size_t q = 0; q < 3; ++q) {
    const auto begin = w.starts[q];
    const index_t size = w.starts[q + 1] - begin;
    const auto part = [&](const list& all) { return dro::row_major_view<const double>(all.data() + begin, 1, size); };
    const auto own = on_policy ? dro::on_policy(b, part(w.likelihood))
                               : dro::off_policy(b, part(w.log_p), part(w.likelihood), part(w.log_q));
    const auto expected = dro::coefficients(b, target, own, dro::importance_weights(b, own), 3);
    for (index_t i = 0; i < size; ++i) {
      CHECK(c.selector(begin + i, 0) == expected.selector(0, i));
      CHECK(c.generator(begin + i, 0) == expected.generator(0, i));
    }
  }
}

}  // namespace

TEST_CASE("every objective gives joined draws the coefficients of all their copies, and ragged lists those of each") {
  repeated_draws w;
  // The fixture has what it is for: copies in every query, and rankings that were drawn once.
  std::vector<int> copies(3, 0);
  for (std::size_t i = 0; i < w.rankings.size(); ++i) copies[w.query(i)] += w.first(i) != i ? 1 : 0;
  CHECK(copies[0] >= 3);
  CHECK(copies[2] >= 2);
  const dro::host_matrix<double> known(1, 1, {-1.25});
  auto norms_of_draws = dro::host_matrix<double>(17, 1);
  dro::plackett_luce_score_norms(w.b, w.scores, std::as_const(w.b).view(test::ranking_matrix(w.rankings)),
                                 w.draws(true).groups(), w.b.view(norms_of_draws));
  for (const bool on_policy : {true, false}) {
    const auto z = w.draws(on_policy);
    const dro::baseline::variance_minimising<double> minimising{
        {w.b.view(std::as_const(norms_of_draws)), z.groups(), "norms"}};
    const dro::baseline::value<double> value{w.b.view(known)};
    const auto both = [&](const auto& target) {
      check_same(w, target, on_policy);
      check_ragged(w, target, on_policy);
    };
    using namespace dro;  // NOLINT(google-build-using-namespace): the names of eleven types
    both(evidence<baseline::none>{});
    both(evidence<baseline::centred>{});
    both(evidence<baseline::ratio>{});
    both(importance_weighted_bound<baseline::none>{});
    both(importance_weighted_bound<baseline::arithmetic>{});
    both(importance_weighted_bound<baseline::geometric>{});
    both(importance_weighted_bound_of_proposal<>{});
    both(expected_log_likelihood<baseline::none>{});
    both(expected_log_likelihood<baseline::group_mean>{});
    both(expected_log_likelihood<baseline::leave_one_out>{});
    both(expected_log_likelihood<baseline::group_normalised>{});
    both(expected_likelihood<baseline::none>{});
    both(expected_likelihood<baseline::leave_one_out>{.scale = likelihood_scale::per_query});
    check_same(w, expected_log_likelihood<baseline::value<double>>{value}, on_policy);
    check_same(w, expected_likelihood<baseline::value<double>>{value}, on_policy);
    check_same(w, expected_log_likelihood<baseline::variance_minimising<double>>{minimising}, on_policy);
    const auto reference = test::column(w.log_reference);
    const regularised<evidence<>, double> held{{}, 0.5, 0.25, {w.b.view(reference), z.groups(), "reference"}};
    check_same(w, held, on_policy);
  }
}

TEST_CASE("coefficients of single picks are those of all copies, too") {
  repeated_draws w;
  auto& b = w.b;
  const auto rankings = test::ranking_matrix(w.rankings);
  for (const bool on_policy : {true, false}) {
    const auto z = w.draws(on_policy);
    const auto joined = deduplicate(b, w.draws(on_policy));
    dro::host_matrix<double> norms(17, 2);
    dro::plackett_luce_position_norms(b, w.scores, std::as_const(b).view(rankings), z.groups(), b.view(norms));
    const auto log_selector = test::column(w.log_p);
    const auto log_likelihood = test::column(w.likelihood);
    const auto of = [&](const auto& draws, const auto& reward) {
      const auto scores = w.scored(draws, log_selector, log_likelihood, on_policy);
      return dro::position_coefficients(b, reward, scores, dro::importance_weights(b, scores),
                                        b.view(std::as_const(norms)));
    };
    const auto check = [&](const auto& reward) {
      const auto c = of(z, reward);
      const auto joined_c = of(joined, reward);
      for (const index_t t : {0, 1}) {
        const auto expected = w.summed(c.selector, t);
        for (std::size_t i = 0; i < expected.size(); ++i) {
          DRO_CHECK_NEAR(joined_c.selector(static_cast<index_t>(i), t), expected[i], rounding);
        }
      }
    };
    check(dro::log_likelihood_reward{});
    check(dro::likelihood_reward{});
  }
}

TEST_CASE("without multiplicities a ranking drawn often counts too little") {
  dro::host_backend b(1);
  // Three draws of one ranking and one of another, equally likely answers: ¾ and ¼, but ½ and ½ if copies are dropped.
  const auto likelihood = test::column(list(4, -2.0));
  const auto weights = [&](bool keep) {
    const auto z = deduplicate(b, draws_of(b, {{0, 1}, {0, 1}, {1, 0}, {0, 1}}), {.keep_multiplicity = keep});
    const auto w = dro::importance_weights(b, dro::on_policy(b, likelihood, z));
    return list(w.normalised.data(), w.normalised.data() + 4);
  };
  CHECK(weights(true) == list{0.75, 0, 0.25, 0});
  CHECK(weights(false) == list{0.5, 0, 0.5, 0});
}
