// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/proposals/sampled_selector.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/random/noise_source.hpp>

#include "support/backends.hpp"
#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_retrieval.hpp"
#include "teams.hpp"

namespace {

using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::models::generative_selector;
using dro::models::retrieval_batch;
using test::log_prob_tolerance;
using test::ranking;
using test::real;
using test::small_questions;
using test::small_style;

template <class B>
using selector = generative_selector<B, double>;
static_assert(dro::selector<selector<host_backend>, host_backend, retrieval_batch<host_backend>>);
static_assert(dro::trainable<selector<host_backend>>);

const test::small_language_model world;

template <class B>
selector<B> make_selector(B& b) {
  return selector<B>(test::transformer_of<double>(b, world.config, world.weights));
}

/// Rankings as draws, the same number for each of the questions.
template <class B>
dro::draws<B, double> as_draws(B& b, const std::vector<ranking>& list, index_t queries) {
  const auto total = static_cast<index_t>(list.size());
  return {b, dro::write(b, test::ranking_matrix(list)), dro::make_filled<double>(b, total, 1, 0.0),
          dro::grouping::uniform(queries, total / queries)};
}

/// log p(z|x) or −inf, of a ranking that may be none.
real expected_log_prob(std::size_t question, const ranking& z, real temperature = 1) {
  const auto x = small_questions()[question];
  std::set<int> different;
  for (const auto pick : z) {
    if (pick < 0 || pick >= static_cast<int>(x.documents.size())) return -test::infinity<real>;
    different.insert(pick);
  }
  return different.size() < z.size() ? -test::infinity<real> : world.log_choice(x, z, temperature);
}

}  // namespace

TEST_CASE_TEMPLATE("log p is the product over constrained picks, and sums to 1 over all rankings", B, host_backend,
                   dro::eigen_backend<>, dro::deferred_backend) {
  B b(1);
  const auto s = make_selector(b);
  for (std::size_t question = 0; question < 2; ++question) {
    const std::vector one = {small_questions()[question]};
    const retrieval_batch<B> batch(b, one, small_style());
    const auto documents = static_cast<index_t>(one[0].documents.size());
    for (index_t select = 1; select <= documents; ++select) {
      const auto list = test::all_rankings(documents, select);
      const auto p = dro::read(b, s.log_prob(b, batch, as_draws(b, list, 1)));
      real total = 0;
      for (std::size_t i = 0; i < list.size(); ++i) {
        const real found = p.data()[i];
        DRO_CHECK_NEAR(found, world.log_choice(one[0], list[i]), log_prob_tolerance);
        total += std::exp(found);
      }
      DRO_CHECK_NEAR(total, 1, log_prob_tolerance);
    }
  }
}

TEST_CASE("what is no ranking of a question's documents has probability 0") {
  host_backend b(1);
  const auto s = make_selector(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const std::vector<ranking> list = {{0, 0}, {3, 0}, {0, dro::no_document}, {1, 2}, {3, 0}, {2, 2}, {1, 7}, {0, 3}};
  const auto p = s.log_prob(b, batch, as_draws(b, list, 2));
  for (std::size_t i = 0; i < list.size(); ++i) {
    DRO_CHECK_NEAR(p.data()[i], expected_log_prob(i / 4, list[i]), log_prob_tolerance);
  }
  CHECK(p(1, 0) == -test::infinity<double>);
  CHECK(p(4, 0) > -test::infinity<double>);
}

TEST_CASE_TEMPLATE("draws say with what probability they were drawn", B, host_backend, dro::eigen_backend<>,
                   dro::deferred_backend) {
  B b(1);
  const auto s = make_selector(b);
  const retrieval_batch<B> batch(b, small_questions(), small_style());
  const dro::random_state<B> random(b, 3);
  for (const double temperature : {1.0, 0.4}) {
    const dro::sampled_selector<const selector<B>&> proposal(s, {.temperature = temperature});
    const auto z = proposal.draw(b, batch, {6, 3}, random.source(b));
    const auto again = proposal.log_prob(b, batch, z);
    const auto rankings = dro::read(b, z.rankings());
    const auto q = dro::read(b, z.log_proposal());
    const auto p = dro::read(b, again);
    for (index_t i = 0; i < 12; ++i) {
      const auto drawn = test::ranking_of(rankings, i);
      const real expected = expected_log_prob(static_cast<std::size_t>(i / 6), drawn, temperature);
      CHECK(expected > -test::infinity<real>);
      DRO_CHECK_NEAR(q(i, 0), expected, log_prob_tolerance / temperature);
      DRO_CHECK_NEAR(p(i, 0), expected, log_prob_tolerance / temperature);
    }
  }
}

TEST_CASE("each pick is the largest of logit and noise, with noise of its own at each place") {
  host_backend b(1);
  const auto s = make_selector(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const dro::random_state<host_backend> random(b, 4, 7);
  const auto z = s.draw(b, batch, {20, 3}, random.source(b));
  for (std::uint32_t question = 0; question < 2; ++question) {
    const auto x = small_questions()[question];
    for (std::uint32_t sample = 0; sample < 20; ++sample) {
      const dro::noise_source noise{{4, 7}, question, sample};
      ranking picked;
      for (std::uint32_t t = 0; t < 3; ++t) {
        std::pair<real, int> best{-test::infinity<real>, -1};
        for (int j = 0; j < static_cast<int>(x.documents.size()); ++j) {
          if (std::find(picked.begin(), picked.end(), j) != picked.end()) continue;
          ranking longer = picked;
          longer.push_back(j);
          const auto gumbel = noise.gumbel<double>(4 * t + static_cast<std::uint32_t>(j));  // blocks of four words
          best = std::max(best, {world.log_choice(x, longer) + static_cast<real>(gumbel), j});
        }
        picked.push_back(best.second);
      }
      CHECK(test::ranking_of(z.rankings(), question * 20 + sample) == picked);
    }
  }
}

TEST_CASE("rankings are as frequent as they are probable, at every temperature and with joint noise") {
  host_backend b(2);
  const auto s = make_selector(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const dro::random_state<host_backend> random(b, 11);
  constexpr index_t samples = 1000;
  for (const dro::sampling how :
       {dro::sampling{}, dro::sampling{.temperature = 2}, dro::sampling{.noise = {dro::noise_kind::antithetic}}}) {
    const auto z = s.draw(b, batch, {samples, 2}, random.source(b), how);
    CHECK(z.traits().block == how.noise.block());
    for (std::size_t question = 0; question < 2; ++question) {
      // Draws that share noise are counted one of each block, and so are independent.
      for (index_t member = 0; member < z.traits().block; ++member) {
        std::map<ranking, std::size_t> counts;
        for (index_t i = member; i < samples; i += z.traits().block) {
          ++counts[test::ranking_of(z.rankings(), static_cast<index_t>(question) * samples + i)];
        }
        std::map<ranking, real> probability;
        const auto documents = static_cast<index_t>(small_questions()[question].documents.size());
        for (const auto& list : test::all_rankings(documents, 2)) {
          probability[list] = std::exp(expected_log_prob(question, list, how.temperature));
        }
        for (const auto& [list, count] : counts) CHECK(probability.count(list) == 1);
        const auto total = static_cast<std::size_t>(samples / z.traits().block);
        CHECK(test::chi_square(counts, probability, total) < test::chi_square_bound(probability.size() - 1));
      }
    }
  }
}

TEST_CASE("antithetic draws differ from their partners more often than independent ones") {
  host_backend b(1);
  const auto s = make_selector(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const dro::random_state<host_backend> random(b, 12);
  const auto equal_pairs = [&](const dro::sampling& how) {
    const auto z = s.draw(b, batch, {1000, 1}, random.source(b), how);
    int equal = 0;
    for (index_t i = 0; i < 2000; i += 2) equal += z.rankings()(i, 0) == z.rankings()(i + 1, 0) ? 1 : 0;
    return equal;
  };
  CHECK(equal_pairs({.noise = {dro::noise_kind::antithetic}}) < equal_pairs({}) / 2);
}

TEST_CASE("a question with too few documents gets incomplete rankings of probability 0") {
  host_backend b(1);
  auto s = make_selector(b);
  auto questions = small_questions();
  questions[0].documents.resize(2);
  const retrieval_batch<host_backend> batch(b, questions, small_style());
  const dro::random_state<host_backend> random(b, 5);
  const auto z = s.draw(b, batch, {3, 3}, random.source(b));
  const auto p = s.log_prob(b, batch, z);
  for (index_t i = 0; i < 6; ++i) {
    CHECK((z.rankings()(i, 2) == dro::no_document) == (i < 3));
    CHECK((z.log_proposal()(i, 0) == -test::infinity<double>) == (i < 3));
    CHECK((p(i, 0) == -test::infinity<double>) == (i < 3));
    CHECK(z.rankings()(i, 0) != z.rankings()(i, 1));
  }
  // and nothing is learnt from them
  s.accumulate_gradient(b, batch, z, test::column<double>({1, 2, 3, 0, 0, 0}));
  s.for_each_parameter([](auto, dro::matrix_view<double> gradient) {
    for (index_t i = 0; i < gradient.rows * gradient.cols; ++i) CHECK(gradient.data[i] == 0);
  });
}

TEST_CASE("the gradient is that of differences") {
  host_backend b(1);
  auto s = make_selector(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const auto z = as_draws(b, {{0, 1, 2}, {2, 0, 1}, {0, 1, 0}, {3, 1, 0}, {1, 2, 3}, {0, 2, 1}}, 2);
  const auto c = test::column<double>({1, -0.5, 0.75, 2, -1, 0.5});
  s.accumulate_gradient(b, batch, z, c);
  const auto value = [&] {
    const auto p = s.log_prob(b, batch, z);
    real sum = 0;
    for (index_t i = 0; i < 6; ++i) {
      if (i != 2) sum += static_cast<real>(c(i, 0)) * static_cast<real>(p(i, 0));  // draw 2 is no ranking
    }
    return sum;
  };
  test::check_differences(s, 15, value);  // three picks a draw, coefficients of 5 in all
}

TEST_CASE("teams of any size draw and learn the same") {
  test::check_teams([](auto& b, test::results& r) {
    auto s = make_selector(b);
    using B = std::remove_reference_t<decltype(b)>;
    const retrieval_batch<B> batch(b, small_questions(), small_style());
    const dro::random_state<B> random(b, 9);
    const auto z = s.draw(b, batch, {2, 2}, random.source(b));
    r.add(b, "rankings", z.rankings());
    r.add(b, "log q", z.log_proposal());
    r.add(b, "log p", s.log_prob(b, batch, z));
    s.accumulate_gradient(b, batch, z, dro::write(b, test::column<double>({1, -1, 2, 0.5})));
    s.for_each_parameter([&](auto, auto gradient) { r.add(b, "gradient", gradient); });
  });
}

TEST_CASE("drawing, scoring and learning read nothing back") {
  dro::deferred_backend b;
  auto s = make_selector(b);
  const retrieval_batch<dro::deferred_backend> batch(b, small_questions(), small_style());
  const dro::random_state<dro::deferred_backend> random(b, 9);
  const auto z = s.draw(b, batch, {3, 3}, random.source(b));
  const auto p = s.log_prob(b, batch, z);
  s.accumulate_gradient(b, batch, z, p);
  CHECK(b.reads() == 0);
  CHECK(b.synchronisations() == 0);
}

TEST_CASE("a frozen base leaves the adapters to learn") {
  host_backend b(1);
  auto s = make_selector(b);
  auto adapted = make_selector(b);
  adapted.model().adapt(b, {.rank = 2, .freeze_base = false}, 1);
  auto frozen = make_selector(b);
  frozen.model().adapt(b, {.rank = 2, .freeze_base = true}, 1);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const auto z = as_draws(b, {{0, 1}, {2, 0}}, 2);
  const auto c = test::column<double>({1, -0.5});
  for (auto* model : {&s, &adapted, &frozen}) model->accumulate_gradient(b, batch, z, c);
  for (std::size_t k = 0; k < s.model().tensors().size(); ++k) {
    CHECK(test::same(dro::read(b, adapted.model().gradient(k)), dro::read(b, s.model().gradient(k))));
  }
  std::size_t number = 0;
  frozen.for_each_parameter([&](auto, dro::matrix_view<double> gradient) {
    const auto other = adapted.model().adapters().parameters()[number++].gradient;
    CHECK(test::same(dro::read(b, gradient), dro::read(b, other)));
  });
  CHECK(number == 8);
}

TEST_CASE("what a selector cannot do is refused") {
  host_backend b(1);
  auto s = make_selector(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const dro::random_state<host_backend> random(b, 9);
  const auto source = random.source(b);
  CHECK_THROWS_WITH_AS((void)s.draw(b, batch, {2, 5}, source), "select is 5, expected 1 to 4, the number of documents",
                       dro::option_error);
  CHECK_THROWS_WITH_AS((void)s.draw(b, batch, {2, 2}, source, {.top_k = 2}),
                       "generative_selector: top_k and top_p are not taken", dro::option_error);
  CHECK_THROWS_AS((void)s.draw(b, batch, {2, 2}, source, {.temperature = 0}), dro::option_error);
  CHECK_THROWS_AS((void)s.draw(b, batch, {3, 2}, source, {.noise = {dro::noise_kind::antithetic}}), dro::option_error);
  CHECK_THROWS_WITH_AS((void)s.log_prob(b, batch, as_draws(b, {{0, 1}}, 1)),
                       "generative_selector: 2 queries, but draws of 1", dro::shape_error);
  const dro::draws<host_backend, double> ragged(b, test::ranking_matrix({{0, 1}, {1, 2}, {2, 0}}),
                                                host_matrix<double>(3, 1), host_matrix<std::int32_t>(3, 1, {0, 1, 3}));
  CHECK_THROWS_WITH_AS((void)s.log_prob(b, batch, ragged),
                       "generative_selector: questions with different numbers of draws, expected equal numbers",
                       dro::shape_error);
  auto style = small_style();
  style.identifiers[3] = 14;
  const retrieval_batch<host_backend> unknown(b, small_questions(), style);
  CHECK_THROWS_WITH_AS((void)s.draw(b, unknown, {2, 2}, source),
                       "prompt_style: identifiers: token 14, but the model has 14 tokens", dro::option_error);
}

TEST_CASE("tokens that the model does not have are refused, where a selector sees them") {
  host_backend b(1);
  const auto model = make_selector(b);
  const dro::random_state random(b, 5);
  const auto source = random.source(b);
  const auto refusal = [&](const auto& change) {
    auto questions = small_questions();
    auto style = small_style();
    change(questions, style);
    const retrieval_batch<host_backend> batch(b, questions, style);
    try {
      (void)model.draw(b, batch, {2, 2}, source);
    } catch (const dro::option_error& e) {
      return std::string(e.what());
    }
    return std::string("nothing thrown");
  };
  CHECK(refusal([](auto& q, auto&) { q[1].question[0] = 99; }) == "question 1: token 99, but the model has 14 tokens");
  CHECK(refusal([](auto& q, auto&) { q[0].documents[1][0] = 14; }) ==
        "question 0, a document: token 14, but the model has 14 tokens");
  CHECK(refusal([](auto&, auto& s) { s.select[0] = 14; }) ==
        "prompt_style: select: token 14, but the model has 14 tokens");
  CHECK(refusal([](auto&, auto& s) { s.begin = {14}; }) ==
        "prompt_style: begin: token 14, but the model has 14 tokens");
  CHECK(refusal([](auto& q, auto& s) {  // a reader's
          q[0].answer[0] = s.answer[0] = s.end = 14;
        }) == "nothing thrown");
}

TEST_CASE("weights that were NaN for a while leave nothing behind") {
  host_backend b(1);
  auto s = make_selector(b);
  const retrieval_batch<host_backend> batch(b, small_questions(), small_style());
  const dro::random_state random(b, 5);
  const auto source = random.source(b);
  // Three picks: while the second is made, the row of the third has not been written yet.
  const auto before = s.draw(b, batch, {3, 3}, source);
  std::vector<double> weights;
  s.for_each_parameter([&](auto& value, auto&) {
    for (index_t i = 0; i < value.rows; ++i) {
      for (index_t j = 0; j < value.cols; ++j) {
        weights.push_back(value(i, j));
        value(i, j) = test::nan<double>;
      }
    }
  });
  (void)s.draw(b, batch, {3, 3}, source);
  std::size_t next = 0;
  s.for_each_parameter([&](auto& value, auto&) {
    for (index_t i = 0; i < value.rows; ++i) {
      for (index_t j = 0; j < value.cols; ++j) value(i, j) = weights[next++];
    }
  });
  const auto after = s.draw(b, batch, {3, 3}, source);
  CHECK(test::same(after.rankings(), before.rankings()));
  CHECK(test::same(after.log_proposal(), before.log_proposal()));
}

TEST_CASE("batches that make no prompts are refused") {
  host_backend b(1);
  const auto refusal = [&](const auto& change) {
    auto questions = small_questions();
    auto style = small_style();
    change(questions, style);
    try {
      const retrieval_batch<host_backend> batch(b, questions, style);
    } catch (const dro::option_error& e) {
      return std::string(e.what());
    }
    return std::string("nothing thrown");
  };
  CHECK(refusal([](auto&, auto&) {}) == "nothing thrown");
  CHECK(refusal([](auto& q, auto&) { q.clear(); }) == "nothing thrown");
  CHECK(refusal([](auto&, auto& s) { s.select.clear(); }) ==
        "prompt_style: `select` has 0 tokens, `answer` 2, and `end` is 9: expected at least one, at least one, and a "
        "token");
  CHECK(refusal([](auto&, auto& s) { s.identifiers.clear(); }) == "prompt_style: no identifiers");
  CHECK(refusal([](auto& q, auto& s) {
          q.clear();
          s.identifiers.clear();
        }) == "prompt_style: no identifiers");
  CHECK(refusal([](auto&, auto& s) { s.end = -1; }).find("`end` is -1") != std::string::npos);
  CHECK(refusal([](auto&, auto& s) { s.identifiers[0] = 13; }) == "prompt_style: two identifiers are the same token");
  CHECK(refusal([](auto&, auto& s) { s.answer[0] = -4; }) == "prompt_style: answer: token -4");
  CHECK(refusal([](auto& q, auto&) { q[1].documents.clear(); }) ==
        "question 1 has 0 documents, expected 1 to 4, the number of identifiers");
  CHECK(refusal([](auto& q, auto&) { q[0].documents.resize(5); }).find("question 0 has 5 documents") == 0);
  CHECK(refusal([](auto& q, auto&) { q[1].answer.clear(); }) == "question 1 has an empty answer");
  CHECK(refusal([](auto& q, auto&) { q[1].documents[0][1] = -1; }) == "question 1, a document: token -1");
}
