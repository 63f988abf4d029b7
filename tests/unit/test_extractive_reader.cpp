// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <dro/data/question.hpp>
#include <dro/error.hpp>
#include <dro/models/extractive_reader.hpp>
#include <dro/models/reader_features.hpp>
#include <dro/text/normalise.hpp>

using namespace dro;
using namespace dro::models;

namespace {

struct dense_gradient {
  std::vector<double> values;
  void add(std::uint32_t feature, double value) { values[feature] += value; }
};

const std::vector<data::document> library{
    {"Red River (film)",
     "Red River is a 1948 American western film directed by Anna Berg. It was shot in Austin, Texas."},
    {"Blue Hill", "Blue Hill is a 1961 French comedy film directed by Carl Duval."},
    {"Anna Berg", "Anna Berg (7 May 1901 – 2 June 1970) was an American director, born in Oslo. She made 12 films."},
    {"Carl Duval", "Carl Duval (1 April 1890 – 3 March 1955) was a French director and painter, born in Lyon."},
    {"Oslo", "Oslo is the capital of Norway. About 700,000 people live in the city."},
};

std::vector<data::question> questions() {
  std::vector<data::question> all{
      {"a", "Where was the director of film Red River born?", {"Oslo", "the Oslo."}, library, {0, 2}, {}},
      {"b", "Which film has the director who was born first, Red River or Blue Hill?", {"Blue Hill"}, library, {}, {}},
      {"c", "Are the directors of both films Red River and Blue Hill from the same country?", {"no"}, library, {}, {}},
      {"d", "When did the director of film Blue Hill die?", {"3 March 1955", "March 3, 1955"}, library, {1, 3}, {}},
      {"e", "How many people live in the city where Anna Berg was born?", {"700,000", "700 000"}, library, {}, {}},
  };
  return all;
}

reader_options keep_all() {
  reader_options options;
  options.minimum_count = 1;
  return options;
}

/// Parameters that are all different, of either sign, and large enough to make the distribution uneven.
void fill(extractive_reader& reader) {
  auto theta = reader.parameters();
  for (std::size_t f = 0; f < theta.size(); ++f) theta[f] = 0.3 * std::sin(1.7 * static_cast<double>(f) + 0.4);
}

struct fixture {
  std::vector<data::question> train = questions();
  reader_features features = reader_features::fit(train, keep_all());
  extractive_reader reader{features};
  extractive_reader::workspace space;
  fixture() { fill(reader); }
};

}  // namespace

TEST_CASE_FIXTURE(fixture, "p(y|x,d_z) sums to one over all strings") {
  for (const auto& source : train) {
    const auto q = features.prepare(source);
    for (const auto& z : std::vector<std::vector<document_t>>{{}, {1}, {0, 2}, {0, 1, 2, 3}}) {
      // Enumerated are the candidates; every other string has only ε₂ (1 - ρ) (ρ/256)^|y|, the candidates' part of
      // which is taken off the total ε₂.
      std::set<std::string> support;
      for (std::size_t c = 0; c < q.candidates(); ++c) support.insert(text::normalise_answer(q.surface(c)));
      CHECK(support.size() == q.candidates());
      double sum = 0;
      double tail = features.options().string_share;
      for (const auto& y : support) {
        sum += std::exp(reader.log_probability(q, y, z, space));
        tail -= features.options().string_share * 0.1 * std::pow(0.9 / 256, static_cast<double>(y.size()));
      }
      // About 200 terms, each exp(log p) with relative error of a few ulp: 200 · 4 · 2^-52 < 2e-13.
      CHECK(sum + tail == doctest::Approx(1).epsilon(1e-12));
    }
    // A string that nobody mentions has the tail's probability and no other.
    const double floor = reader.log_probability(q, "zebra", std::array<document_t, 1>{0}, space);
    CHECK(floor == doctest::Approx(std::log(features.options().string_share * 0.1) + 5 * std::log(0.9 / 256)));
  }
}

TEST_CASE_FIXTURE(fixture, "log_likelihood is the log of the summed probability of distinct accepted answers") {
  for (const auto& source : train) {
    const auto q = features.prepare(source);
    const std::array<document_t, 2> z{2, 3};
    std::set<std::string> normal;
    for (const auto& y : source.answers) normal.insert(text::normalise_answer(y));
    double sum = 0;
    for (const auto& y : normal) sum += std::exp(reader.log_probability(q, y, z, space));
    CHECK(reader.log_likelihood(q, z, space) == doctest::Approx(std::log(sum)).epsilon(1e-12));
  }
}

TEST_CASE_FIXTURE(fixture, "an answer in no chosen document has a finite probability that does not depend on z") {
  const auto q = features.prepare(train[4]);  // 700,000 is in document 4 only
  const std::array<document_t, 2> without{0, 1};
  const std::array<document_t, 2> other{3, 2};
  const std::array<document_t, 2> with{4, 1};
  CHECK(std::isfinite(reader.log_likelihood(q, without, space)));
  CHECK(reader.log_likelihood(q, without, space) == reader.log_likelihood(q, other, space));
  CHECK(reader.log_likelihood(q, with, space) > reader.log_likelihood(q, without, space));
  // Its lower bound is ε₁ / |C|.
  CHECK(reader.log_likelihood(q, without, space) >=
        std::log(features.options().uniform_share / static_cast<double>(q.candidates())));

  // In no candidate document at all, and so long that (ρ/256)^|y| is no double.
  auto far = train[0];
  far.answers = {std::string(2000, 'q')};
  const auto p = reader.log_likelihood(features.prepare(far), with, space);
  CHECK(p == doctest::Approx(std::log(features.options().string_share * 0.1) + 2000 * std::log(0.9 / 256)));
}

TEST_CASE_FIXTURE(fixture, "the order of the chosen documents has no say") {
  static_assert(extractive_reader::order_free);
  for (const auto& source : train) {
    const auto q = features.prepare(source);
    std::vector<document_t> z{0, 1, 3};
    const double p = reader.log_likelihood(q, z, space);
    const auto y = reader.answer(q, z, space);
    while (std::next_permutation(z.begin(), z.end())) {
      CHECK(reader.log_likelihood(q, z, space) == p);  // bit for bit
      CHECK(reader.answer(q, z, space) == y);
    }
  }
}

TEST_CASE_FIXTURE(fixture, "the gradient is that of central differences") {
  for (const auto& source : train) {
    const auto q = features.prepare(source);
    const std::array<document_t, 4> z{3, 0, 4, 2};
    dense_gradient gradient{std::vector<double>(features.feature_count(), 0.0)};
    reader.accumulate_gradient(q, z, 2.5, gradient, space);
    double largest = 0;
    for (const double g : gradient.values) largest = std::max(largest, std::abs(g));
    REQUIRE(largest > 0);
    // Step h = 1e-5: truncation h²/6 · |f'''| with |f'''| of order 10 is 2e-10, rounding 2^-52 · |log p| / h about
    // 2e-10.
    const double h = 1e-5;
    auto theta = reader.parameters();
    for (std::size_t f = 0; f < theta.size(); f += 41) {
      const double at = theta[f];
      theta[f] = at + h;
      const double up = reader.log_likelihood(q, z, space);
      theta[f] = at - h;
      const double down = reader.log_likelihood(q, z, space);
      theta[f] = at;
      CHECK(std::abs(2.5 * (up - down) / (2 * h) - gradient.values[f]) < 1e-6 * largest);
    }
  }
}

TEST_CASE_FIXTURE(fixture, "a document has no ties to itself") {
  const auto q = features.prepare(train[0]);
  const auto touched_ties = [&](std::vector<document_t> z) {
    dense_gradient gradient{std::vector<double>(features.feature_count(), 0.0)};
    reader.accumulate_gradient(q, z, 1.0, gradient, space);
    std::size_t touched = 0;
    for (std::size_t tie = 1; tie < reader_layout::is_asked; ++tie) {
      for (std::size_t shape = 0; shape < reader_layout::shapes; ++shape) {
        const auto bundle = reader_layout::tie_bundle(tie, shape);
        for (auto f = q.bundle_offsets[bundle]; f < q.bundle_offsets[bundle + 1]; ++f) {
          if (gradient.values[q.bundle_features[f]] != 0) ++touched;
        }
      }
    }
    return touched;
  };
  CHECK(touched_ties({2}) == 0);
  CHECK(touched_ties({2, 0}) > 0);  // Red River names Anna Berg
}

TEST_CASE_FIXTURE(fixture, "without an accepted answer among the mentions the gradient is zero") {
  const auto q = features.prepare(train[4]);
  dense_gradient gradient{std::vector<double>(features.feature_count(), 0.0)};
  reader.accumulate_gradient(q, std::array<document_t, 2>{0, 1}, 1.0, gradient, space);
  CHECK(std::all_of(gradient.values.begin(), gradient.values.end(), [](double g) { return g == 0; }));
}

namespace {

/// A reader after `steps` steps of gradient ascent on questions with their chosen documents.
extractive_reader train_reader(const reader_features& features, const std::vector<data::question>& train,
                               const std::vector<std::vector<document_t>>& chosen, int steps) {
  extractive_reader learner(features);
  extractive_reader::workspace space;
  std::vector<reader_question> prepared;
  for (const auto& q : train) prepared.push_back(features.prepare(q));
  for (int step = 0; step < steps; ++step) {
    dense_gradient gradient{std::vector<double>(features.feature_count(), 0.0)};
    for (std::size_t q = 0; q < train.size(); ++q) {
      learner.accumulate_gradient(prepared[q], chosen[q], 0.05, gradient, space);
    }
    for (std::size_t f = 0; f < gradient.values.size(); ++f) learner.parameters()[f] += gradient.values[f];
  }
  return learner;
}

}  // namespace

TEST_CASE_FIXTURE(fixture, "gradient ascent teaches the answers") {
  const std::vector<std::vector<document_t>> gold{{0, 2}, {0, 1, 2, 3}, {0, 1, 2, 3}, {1, 3}, {2, 4}};
  const auto learner = train_reader(features, train, gold, 60);
  for (std::size_t q = 0; q < train.size(); ++q) {
    CHECK(text::normalise_answer(learner.answer(features.prepare(train[q]), gold[q], space)) ==
          text::normalise_answer(train[q].answers.front()));
  }
}

TEST_CASE_FIXTURE(fixture, "a comparison is decided by the dates in the documents that the options link to") {
  const auto with_birth = [](data::question q, const std::string& year, const std::string& answer) {
    q.documents[2].text = "Anna Berg (7 May " + year + " – 2 June 1970) was an American director, born in Oslo.";
    q.answers = {answer};
    return q;
  };
  auto turned = train[1];
  turned.text = "Which film has the director who was born first, Blue Hill or Red River?";
  // Answers and their places among the options are balanced so far as three questions go; only dates tell the fourth.
  const std::vector<data::question> known{with_birth(train[1], "1901", "Blue Hill"),
                                          with_birth(train[1], "1880", "Red River"),
                                          with_birth(turned, "1901", "Blue Hill")};
  const std::vector<document_t> all{0, 1, 2, 3};
  const auto learner = train_reader(features, known, {all, all, all}, 60);
  const auto fourth = features.prepare(with_birth(turned, "1880", "Red River"));
  CHECK(learner.answer(fourth, all, space) == "Red River");
}

TEST_CASE_FIXTURE(fixture, "questions show what they compare") {
  const auto choice = features.prepare(train[1]);
  CHECK(choice.has_options);
  CHECK(choice.subjects == std::array<document_t, 2>{0, 1});
  CHECK(choice.decided_by == criterion::first_date);
  CHECK_FALSE(choice.greatest);
  REQUIRE(choice.facts.size() == 5);
  CHECK(choice.facts[2].first.year == 1901);
  CHECK(choice.facts[2].second.year == 1970);
  CHECK(choice.facts[4].largest == 700000);
  CHECK(choice.facts[2].country == choice.facts[0].country);
  CHECK(choice.facts[2].country != choice.facts[3].country);
  CHECK(choice.links[0 * 5 + 2] != 0);  // Red River names Anna Berg
  CHECK(choice.links[2 * 5 + 0] == 0);
  CHECK(choice.title_in_question[0] != 0);
  CHECK(choice.title_in_question[2] == 0);

  const auto polar = features.prepare(train[2]);
  CHECK_FALSE(polar.has_options);
  CHECK(polar.asks_for_country);
  CHECK(std::set<document_t>(polar.subjects.begin(), polar.subjects.end()) == std::set<document_t>{0, 1});
}

TEST_CASE_FIXTURE(fixture, "features survive their dictionary") {
  const reader_features copy(features.dictionary(), features.options());
  REQUIRE(copy.feature_count() == features.feature_count());
  extractive_reader same(copy);
  fill(same);
  const std::array<document_t, 2> z{0, 2};
  for (const auto& q : train) {
    CHECK(same.log_likelihood(copy.prepare(q), z, space) == reader.log_likelihood(features.prepare(q), z, space));
  }
  auto broken = features.dictionary();
  broken.idf.pop_back();
  CHECK_THROWS_AS(reader_features(broken, keep_all()), shape_error);
}

TEST_CASE("rare features are left out; nothing to learn from is allowed") {
  const auto train = questions();
  auto options = keep_all();
  const auto all = reader_features::fit(train, options).feature_count();
  options.minimum_count = 3;
  const auto some = reader_features::fit(train, options).feature_count();
  CHECK(some > 0);
  CHECK(some < all);
  const auto none = reader_features::fit({}, options);
  CHECK(none.feature_count() == 0);
  extractive_reader reader(none);
  extractive_reader::workspace space;
  CHECK(std::isfinite(reader.log_likelihood(none.prepare(train[0]), std::array<document_t, 2>{0, 1}, space)));
}

TEST_CASE_FIXTURE(fixture, "bad arguments") {
  const auto q = features.prepare(train[0]);
  const auto score = [&](document_t d) { return reader.log_likelihood(q, std::array<document_t, 1>{d}, space); };
  CHECK_THROWS_AS((void)score(5), shape_error);
  CHECK_THROWS_AS((void)score(no_document), shape_error);
  auto options = keep_all();
  options.uniform_share = 0;
  CHECK_THROWS_AS(extractive_reader(3, options), option_error);
  options.uniform_share = 0.9;
  options.string_share = 0.1;
  CHECK_THROWS_AS(extractive_reader(3, options), option_error);
}

TEST_CASE("odd questions are read without harm") {
  const auto train = questions();
  const auto features = reader_features::fit(train, keep_all());
  extractive_reader reader(features);
  extractive_reader::workspace space;
  const std::vector<std::string> odd{
      "", "or", "or?", "Who or", "Is it (or", "Which (a or b)?", "first out of and between", "ä"};
  for (const auto& text : odd) {
    data::question q{"x", text, {"y"}, {{"", "."}, {"(", "A"}, {",", "of"}, {"A (b)", "A"}}, {}, {}};
    const auto prepared = features.prepare(q);
    CHECK(std::isfinite(reader.log_likelihood(prepared, std::array<document_t, 4>{0, 1, 2, 3}, space)));
    CHECK_FALSE(reader.answer(prepared, {}, space).empty());
  }
  // More documents than one 64-bit word of a set holds.
  data::question many{"m", "Which film is older, Red River or Blue Hill?", {"Oslo"}, {}, {}, {}};
  for (int i = 0; i < 70; ++i) many.documents.push_back(library[static_cast<std::size_t>(i) % library.size()]);
  const auto prepared = features.prepare(many);
  CHECK(prepared.set_words == 2);
  CHECK(std::isfinite(reader.log_likelihood(prepared, std::array<document_t, 3>{69, 0, 64}, space)));
}
