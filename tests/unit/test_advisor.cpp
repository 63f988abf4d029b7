// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/em/advisor.hpp>

#include "support/matrices.hpp"

namespace {

using dro::advise;
using dro::estimator;
using dro::finding;
using dro::step_summary;

/// A healthy iteration of 100 queries of 8 samples.
step_summary healthy() {
  step_summary s;
  s.queries[0] = 100;
  s.samples = 8;
  s.effective_sample_size = 4;
  s.effective_share = 0.5;
  s.weight_variance = 1;
  s.distinct_share = 0.9;
  return s;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// What is found once `change` was made to a healthy summary, and not before.
template <class Change>
dro::advice found_after(const Change& change, const dro::advice_context& context = {}) {
  CHECK(advise(healthy(), context).what == finding::fine);
  step_summary s = healthy();
  change(s);
  return advise(s, context);
}

void count(step_summary& s, dro::status what, std::int64_t queries) {
  s.queries[0] -= queries;
  s.queries[static_cast<std::size_t>(what)] += queries;
}

}  // namespace

TEST_CASE("a healthy iteration and one that nobody measured need no advice") {
  const auto a = advise(healthy());
  CHECK(a.what == finding::fine);
  CHECK(a.line == "ESS 4.0 of 8: nothing to change");
  step_summary s = healthy();
  s.hits_known = 100;
  s.no_hit = 25;
  CHECK(advise(s).line == "ESS 4.0 of 8, no sample hits in 25 %: nothing to change");
  CHECK(advise(step_summary{}).what == finding::fine);
}

TEST_CASE("each finding has its trigger, and its line says what to do") {
  SUBCASE("numerical trouble") {
    const auto a = found_after([](step_summary& s) {
      count(s, dro::status::not_a_number, 2);
      count(s, dro::status::unbounded, 1);
    });
    CHECK(a.what == finding::numerical_trouble);
    CHECK(contains(a.line, "3 of 100 queries"));
    CHECK(contains(a.line, "NaN (2)"));
    CHECK(contains(a.line, "+inf (1)"));
    CHECK(found_after([](step_summary& s) { count(s, dro::status::unbounded, 1); }).what == finding::numerical_trouble);
  }
  SUBCASE("no gradient") {
    const auto with = [](std::int64_t queries) {
      return found_after([&](step_summary& s) {
        count(s, dro::status::impossible, 4);
        s.without_gradient = queries;
      });
    };
    CHECK(with(15).what == finding::no_gradient);
    CHECK(with(14).what == finding::fine);
    CHECK(contains(with(20).line, "no gradient in 20 % of the queries"));
  }
  SUBCASE("one sample") {
    step_summary s = healthy();
    s.samples = s.effective_sample_size = 1;
    CHECK(advise(s).what == finding::one_sample);
    dro::advice_context reward;
    reward.self_normalised = false;
    CHECK(advise(s, reward).what != finding::one_sample);
  }
  SUBCASE("impossible") {
    const auto a = found_after([](step_summary& s) { count(s, dro::status::impossible, 11); });
    CHECK(a.what == finding::impossible);
    CHECK(contains(a.line, "weight 0 in 11 % of the queries"));
    CHECK(found_after([](step_summary& s) { count(s, dro::status::impossible, 10); }).what == finding::fine);
  }
  SUBCASE("no hit") {
    const auto with = [](std::int64_t queries) {
      return found_after([&](step_summary& s) {
        s.hits_known = 50;
        s.no_hit = queries;
      });
    };
    CHECK(with(13).what == finding::no_hit);
    CHECK(with(12).what == finding::fine);
    CHECK(contains(with(20).line, "no sample hits in 40 % of the queries"));
    CHECK(contains(with(20).line, "mix in the retriever's order, draw more samples, or train the generator alone"));
  }
  SUBCASE("support") {
    const auto a = found_after([](step_summary& s) {
      count(s, dro::status::support, 100);
      s.kept_mass = 0.81;
    });
    CHECK(a.what == finding::support);
    CHECK(contains(a.line, "81 % of what the selector can"));
    CHECK(contains(found_after([](step_summary& s) { count(s, dro::status::support, 1); }).line, "an unknown share"));
    CHECK(found_after([](step_summary& s) {
            count(s, dro::status::support, 100);
            s.kept_mass = 0.995;
          }).what == finding::fine);
  }
  SUBCASE("repeated rankings") {
    const auto repeat = [](step_summary& s) { s.distinct_share = 0.25; };
    CHECK(found_after(repeat).what == finding::repeated);
    CHECK(found_after(repeat).line.substr(0, 29) == "2.0 different rankings of 8: ");
    CHECK(contains(found_after(repeat).line, "without replacement"));
    // Where there are only three rankings, two of them are no sign of anything.
    CHECK(found_after(repeat, {.rankings = 3}).what == finding::fine);
    CHECK(found_after(repeat, {.rankings = 6}).what == finding::repeated);
  }
  SUBCASE("heavy tails") {
    const auto a = found_after([](step_summary& s) {
      s.tails_fitted = 10;
      s.tails_heavy = 3;
    });
    CHECK(a.what == finding::heavy_tail);
    CHECK(contains(a.line, "30 % of the queries"));
    CHECK(found_after([](step_summary& s) {
            s.tails_fitted = 10;
            s.tails_heavy = 2;
          }).what == finding::fine);
  }
  SUBCASE("one weight") {
    const auto with = [](double ess) { return found_after([&](step_summary& s) { s.effective_sample_size = ess; }); };
    CHECK(with(1.4).what == finding::one_weight);
    CHECK(with(1.4).line == "ESS 1.4 of 8: raise samples, temper, or mix in the retriever's order");
    CHECK(with(1.8).what == finding::fine);
  }
  SUBCASE("all hit") {
    const auto a = found_after([](step_summary& s) {
      s.hits_known = 100;
      s.all_hit = 80;
    });
    CHECK(a.what == finding::all_hit);
    CHECK(contains(a.line, "every sample hits in 80 %"));
    CHECK(contains(a.line, "draw fewer samples"));
  }
  SUBCASE("low signal") {
    const auto with = [](double signal, double error, const dro::advice_context& context) {
      return found_after(
          [&](step_summary& s) {
            s.gradient = {.queries = 100, .signal = signal, .variance = 8, .signal_error = error};
          },
          context);
    };
    // In a batch of 16, 2 · 16 · (0.1 + 2 · 0.05)/8 = 0.8.
    CHECK(with(0.1, 0.05, {.batch_queries = 16}).what == finding::low_signal);
    CHECK(contains(with(0.1, 0.05, {.batch_queries = 16}).line, "at most 0.80 of its noise in a batch of 16"));
    CHECK(with(0.1, 0.05, {.batch_queries = 32}).what == finding::fine);
    CHECK(with(0.1, 0.5, {.batch_queries = 16}).what == finding::fine);  // too uncertain to say
    CHECK(with(0.1, test::nan<double>, {.batch_queries = 16}).what == finding::fine);
    const auto sets = with(0.1, 0, {.order_free_generator = true, .scored_selector = true, .centred = false}).line;
    CHECK(contains(sets, "centred"));
    CHECK(contains(sets, "scores of sets"));
    CHECK_FALSE(contains(with(0.1, 0, {.order_free_generator = true}).line, "sets"));
  }
}

TEST_CASE("equal weights: which of three findings it is depends on the hits, not on the effective sample size") {
  dro::host_backend b(1);
  const dro::draws<dro::host_backend, double> z(b, test::ranking_matrix({{0}, {1}, {2}, {3}}),
                                                dro::host_matrix<double>(4, 1), dro::grouping::uniform(1, 4));
  const auto advice_for = [&](double log_likelihood, const dro::hit_rule<double>& hits) {
    const auto likelihood = dro::make_filled<double>(b, 4, 1, log_likelihood);
    const auto scores = dro::on_policy(b, likelihood, z);
    dro::step_totals<dro::host_backend> totals(b);
    totals.add(b, z, scores, dro::importance_weights(b, scores), hits);
    const auto s = totals.take(b);
    CHECK(s.effective_sample_size == 4);
    return advise(s);
  };
  CHECK(advice_for(-30, {.threshold = -5}).what == finding::no_hit);
  CHECK(advice_for(-2, {.threshold = -5}).what == finding::all_hit);
  CHECK(advice_for(-30, {}).what == finding::flat);
  CHECK(advice_for(-2, {}).what == finding::flat);
  CHECK(contains(advice_for(-2, {}).line, "hit_rule"));
  // Some hit and some do not, and the generator does not care.
  const dro::host_matrix<std::int32_t> half(4, 1, {1, 1, 0, 0});
  const auto blind = advice_for(-2, {.stated = b.view(half)});
  CHECK(blind.what == finding::flat);
  CHECK(contains(blind.line, "does not tell its documents apart"));
}

TEST_CASE("the most pressing finding comes first") {
  step_summary s = healthy();
  const auto next = [&](auto&& change) {
    change();
    return advise(s, {.batch_queries = 1}).what;
  };
  // From the least pressing on, each taking the place of the one before.
  CHECK(next([&] { s.gradient = {.queries = 9, .signal = 0, .variance = 1, .signal_error = 0}; }) ==
        finding::low_signal);
  CHECK(next([&] { s.weight_variance = 0; }) == finding::flat);
  CHECK(next([&] { s.hits_known = s.all_hit = 100; }) == finding::all_hit);
  CHECK(next([&] { s.effective_sample_size = 1; }) == finding::one_weight);
  CHECK(next([&] { s.tails_fitted = s.tails_heavy = 9; }) == finding::heavy_tail);
  CHECK(next([&] { s.distinct_share = 0.2; }) == finding::repeated);
  CHECK(next([&] { count(s, dro::status::support, 50); }) == finding::support);
  CHECK(next([&] { s.no_hit = 60; }) == finding::no_hit);
  CHECK(next([&] { count(s, dro::status::impossible, 20); }) == finding::impossible);
  CHECK(next([&] { count(s, dro::status::not_a_number, 1); }) == finding::numerical_trouble);
}

TEST_CASE("no more samples are asked for where all rankings are drawn already") {
  step_summary s = healthy();
  s.effective_sample_size = 1.2;
  CHECK(contains(advise(s, {.rankings = 9}).line, "raise samples"));
  CHECK_FALSE(contains(advise(s, {.rankings = 8}).line, "raise samples"));
}

TEST_CASE("shares are not rounded to none and all") {
  step_summary s = healthy();
  s.hits_known = 1000;
  s.no_hit = 999;
  CHECK(contains(advise(s).line, "over 99 %"));
  s.no_hit = 1;
  CHECK(contains(advise(s).line, "under 1 %"));
  s.no_hit = 0;
  CHECK(contains(advise(s).line, "hits in 0 %"));
}

TEST_CASE("number of rankings") {
  CHECK(dro::count_rankings(5, 2) == 20);
  CHECK(dro::count_rankings(4, 4) == 24);
  CHECK(dro::count_rankings(3, 0) == 1);
  CHECK(dro::count_rankings(2, 3) == 0);
}

TEST_CASE("which estimator is recommended") {
  const auto choice = [](const dro::estimator_context& c) { return dro::recommend_estimator(c).choice; };
  CHECK(choice({}) == estimator::without_replacement);
  CHECK(choice({.samples = 6, .rankings = 6}) == estimator::exhaustive);
  CHECK(choice({.samples = 6, .rankings = 7}) == estimator::without_replacement);
  CHECK(choice({.proposal_covers = false}) == estimator::plain);
  CHECK(choice({.samples = 1}) == estimator::known_value);
  CHECK(choice({.samples = 2}) == estimator::antithetic);
  CHECK(choice({.samples = 3}) == estimator::centred);
  CHECK(choice({.samples = 2, .tail_index = 3.1}) == estimator::mixture);
  CHECK(choice({.samples = 4, .tail_index = 3.1}) == estimator::mixture);
  CHECK(choice({.samples = 4, .tail_index = 2.5}) == estimator::without_replacement);
  CHECK(choice({.samples = 5, .tail_index = 3.1}) == estimator::without_replacement);
  CHECK(choice({.library_draws = false}) == estimator::centred);
  CHECK(choice({.samples = 2, .library_draws = false, .tail_index = 5}) == estimator::mixture);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::recommend_estimator({.samples = 0})), "samples is 0, expected at least 1",
                       dro::option_error);
}

TEST_CASE("tail index: the gap of the bound over what is lost of the sample size") {
  step_summary s = healthy();
  s.evidence = -2;
  s.elbo = -2.6;
  s.effective_share = 0.7;
  CHECK(dro::tail_index(s) == doctest::Approx(2));
  s.elbo = -std::numeric_limits<double>::infinity();
  CHECK(std::isnan(dro::tail_index(s)));
  s.elbo = s.evidence;
  s.effective_share = 1;
  CHECK(std::isnan(dro::tail_index(s)));
}

TEST_CASE("every finding and estimator has a name of its own") {
  std::vector<std::string> names;
  for (int f = 0; f <= static_cast<int>(finding::fine); ++f) names.emplace_back(to_string(static_cast<finding>(f)));
  for (int e = 0; e <= static_cast<int>(estimator::mixture); ++e) {
    names.emplace_back(to_string(static_cast<estimator>(e)));
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    CHECK(names[i] != "unknown");
    for (std::size_t j = 0; j < i; ++j) CHECK(names[i] != names[j]);
  }
}

TEST_CASE("the callback writes when the finding changes") {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), &std::fclose);
  REQUIRE(file != nullptr);
  dro::callback::advice tell(file.get());
  step_summary low = healthy();
  low.effective_sample_size = 1.4;
  step_summary lower = low;
  lower.effective_sample_size = 1.2;
  dro::index_t iteration = 0;
  for (const auto& s : {healthy(), low, lower, healthy(), healthy()}) tell.on_iteration({{++iteration, 0}, 5, 1, 1}, s);
  std::rewind(file.get());
  std::string text;
  for (int c = std::fgetc(file.get()); c != EOF; c = std::fgetc(file.get())) text += static_cast<char>(c);
  CHECK(text ==
        "iteration 2 of 5: ESS 1.4 of 8: raise samples, temper, or mix in the retriever's order\n"
        "iteration 4 of 5: ESS 4.0 of 8: nothing to change\n");
}
