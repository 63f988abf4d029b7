// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/error.hpp>
#include <dro/models/feature_selector.hpp>
#include <dro/models/selector_features.hpp>
#include <dro/text/bm25.hpp>

using dro::document_t;
using dro::models::feature_selector;
using dro::models::selector_features;
using dro::models::selector_options;
using dro::models::selector_question;
using document_feature = dro::models::document_feature;
using pair_feature = dro::models::pair_feature;

namespace {

// Features are sums of at most 64 floats in [0, 1], rounded to float: a relative error of 2^-24 each, 64 · 2^-24 <
// 4e-6.
constexpr double feature_tolerance = 4e-6;

void check_feature(float found, double expected) {
  CHECK(std::abs(static_cast<double>(found) - expected) < feature_tolerance);
}

/// Without a fitted collection all words are equally rare: idf = 1, and each of Q question words has the mass 1 / Q.
selector_features unfitted() { return {dro::text::idf_table{}, dro::text::idf_table{}}; }

dro::data::question founder_question() {
  dro::data::question question;
  question.id = "founder";
  question.text = "Who founded Acme in Berlin?";  // five words, a mass of 0.2 each; names: Acme, Berlin
  question.answers = {"Jane Roe"};
  question.documents = {{"Acme (company)", "Acme was founded by Jane Roe."},
                        {"Jane Roe", "Jane Roe lived in Berlin. She died."},
                        {"", "Nothing here."}};
  return question;
}

/// A question of `size` documents over a small vocabulary, so that titles, links and shared names abound.
dro::data::question random_question(std::size_t size, std::uint64_t seed) {
  static const std::vector<std::string> vocabulary{"Acme", "Berlin", "Roe", "the",  "river",   "Žižek's",
                                                   "1902", ". He",   "or",  "film", "founded", ",",
                                                   "(b.",  "Anna",   "of",  "Łódź"};
  std::uint64_t state = seed;
  const auto text = [&](std::size_t words) {
    std::string result;
    for (std::size_t k = 0; k < words; ++k) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      result += (k == 0 ? "" : " ") + vocabulary[static_cast<std::size_t>(state >> 33) % vocabulary.size()];
    }
    return result;
  };
  dro::data::question question;
  question.text = text(9) + "?";
  question.answers = {"x"};
  for (std::size_t j = 0; j < size; ++j) question.documents.push_back({text(j % 4), text(5 + j % 30)});
  return question;
}

std::vector<double> scores_of(const feature_selector& selector, const selector_question& question,
                              const std::vector<document_t>& prefix) {
  std::vector<double> scores(question.documents);
  selector.scores(question, prefix, scores);
  return scores;
}

/// Weights that are all different and no round numbers.
void set_weights(feature_selector& selector) {
  double value = 0.37;
  for (double& w : selector.parameters()) w = value = 4 * value * (1 - value);
}

/// Weight 1 for the parameter of that name, 0 for all others.
void set_only(feature_selector& selector, const std::string& name) {
  bool found = false;
  for (std::size_t k = 0; k < selector.parameter_count(); ++k) {
    const bool is_it = selector.parameter_name(k) == name;
    selector.parameters()[k] = is_it ? 1 : 0;
    found = found || is_it;
  }
  REQUIRE(found);
}

}  // namespace

TEST_CASE("features of a document, by hand") {
  using enum document_feature;
  const auto source = founder_question();
  const auto q = unfitted().prepare(source);
  REQUIRE(q.documents == 3);
  // Document 0 covers "founded" and "acme", document 1 "in" and "berlin", document 2 nothing.
  const std::vector<std::pair<document_feature, std::array<double, 3>>> expected{
      {coverage, {0.4, 0.4, 0}},
      {sentence_coverage, {0.4, 0.4, 0}},
      {entity_coverage, {0.5, 0.5, 0}},  // of the mass 0.4 of Acme and Berlin
      {bigram_coverage, {0, 0.25, 0}},   // "in berlin" of four pairs of equal mass
      {phrase, {0.2, 0.4, 0}},           // "acme" or "founded" alone; "in berlin"
      {title_match, {1, 0, 0}},          // "Acme": what is in brackets does not count
      {title_share, {0.5, 0, 0}},        // "acme" of "acme company"
      {title_coverage, {0.2, 0, 0}},
      {title_match_or, {0, 0, 0}},
      {title_match_yes_no, {0, 0, 0}},
      {title_share_comparison, {0, 0, 0}},
      {log_length, {0.5477932451, 0.8552366381, -1.4030298833}}};  // z-scores of log 7, log 8, log 3
  for (const auto& [feature, values] : expected) {
    CAPTURE(dro::models::document_feature_names[static_cast<std::size_t>(feature)]);
    for (std::size_t j = 0; j < 3; ++j) check_feature(q.document(j, feature), values[j]);
  }

  auto relevance = dro::text::bm25_scores(source);  // its z-scores, computed once more
  double mean = 0;
  double square = 0;
  for (const double s : relevance) mean += s / 3;
  for (const double s : relevance) square += s * s / 3;
  for (std::size_t j = 0; j < 3; ++j) {
    check_feature(q.document(j, bm25), (relevance[j] - mean) / std::sqrt(square - mean * mean));
  }
}

TEST_CASE("features of a pair, by hand") {
  using enum pair_feature;
  const auto q = unfitted().prepare(founder_question());
  const std::vector<std::tuple<pair_feature, double, double>> expected{
      // feature, of document 1 given 0, of document 0 given 1
      {linked_from, 1, 0},      // "Jane Roe" stands in the text about Acme
      {linked_from_new, 1, 0},  // and not in the question
      {weakly_linked_from_new, 0, 0},
      {link_share, 1, 0},  // the only link
      {links_to, 0, 1},
      {title_in_names, 1, 0},                        // "acme" is a question word, "company" no name
      {title_near_question, 0.4, 0},                 // "acme" and "founded" are near "Jane Roe"
      {shared_names, std::log(3.0), std::log(3.0)},  // log(1 + 1 + 1): jane, roe
      {bridge, 0.8, 0.8},                            // acme, founded in the one window; in, berlin in the other
      {title_bridge, 0.8, 0},
      {both_titles, 0, 0},
      {new_sentence, 0.4, 0.4}};
  for (const auto& [feature, forward, backward] : expected) {
    CAPTURE(dro::models::pair_feature_names[static_cast<std::size_t>(feature)]);
    check_feature(q.pair(0, 1, feature), forward);
    check_feature(q.pair(1, 0, feature), backward);
    check_feature(q.pair(1, 1, feature), 0);
    check_feature(q.pair(0, 2, feature), 0);
  }
}

TEST_CASE("a name counts with its occurrence nearest to the question") {
  auto source = founder_question();
  source.documents[0].text = "Jane Roe once rode out to see an old castle there. Acme was founded by Roe.";
  const auto q = unfitted().prepare(source);
  // "acme" and "founded" are near the second "Roe" (0.4); "Jane" has neither within 8 words.
  check_feature(q.pair(0, 1, pair_feature::title_near_question), 0.2);
  check_feature(q.pair(0, 1, pair_feature::title_in_names), 1);
}

TEST_CASE("links need the title's capitals and know its part before a comma") {
  using enum pair_feature;
  auto source = founder_question();
  source.documents = {{"Hub", "The defender from Selden met Ann Lee twice. Ann Lee won."},
                      {"Defender (football)", "A role."},
                      {"Selden, New York", "A hamlet."},
                      {"Ann Lee", "A person."},
                      {"Hub", "Another page called Hub."}};
  const auto q = unfitted().prepare(source);
  CHECK(q.pair(0, 1, linked_from) == 0);
  CHECK(q.pair(0, 1, weakly_linked_from_new) == 1);
  CHECK(q.pair(0, 2, linked_from) == 0);
  CHECK(q.pair(0, 2, weakly_linked_from_new) == 1);
  CHECK(q.pair(0, 3, linked_from) == 1);
  CHECK(q.pair(0, 3, link_share) == 1);
  CHECK(q.pair(4, 0, linked_from) == 0);  // a page does not link to its namesake
}

TEST_CASE("a title that is in the question is no new link, and a comparison is seen") {
  using enum document_feature;
  auto source = founder_question();
  source.text = "Is Ann Lee or Selden older?";
  source.documents = {{"Ann Lee", "She was in Selden, New York."}, {"Selden, New York", "A hamlet."}};
  const auto q = unfitted().prepare(source);
  check_feature(q.document(0, title_match), 1);
  check_feature(q.document(1, title_match), 0.5);
  check_feature(q.document(1, title_match_or), 0.5);
  check_feature(q.document(1, title_match_yes_no), 0.5);
  check_feature(q.document(1, title_share_comparison), 1.0 / 3);
  CHECK(q.pair(0, 1, pair_feature::linked_from) == 1);
  CHECK(q.pair(0, 1, pair_feature::linked_from_new) == 0);
  CHECK(q.pair(0, 1, pair_feature::link_share) == 0);
  CHECK(q.pair(0, 1, pair_feature::both_titles) == 1);
  CHECK(q.pair(1, 0, pair_feature::both_titles) == 1);
}

TEST_CASE("question words match by their stems") {
  auto source = founder_question();
  source.text = "Which films were directed there?";
  source.documents = {{"A", "She directs a film."}, {"B", "Nothing at all."}};
  const auto q = unfitted().prepare(source);
  check_feature(q.document(0, document_feature::coverage), 0.4);
  check_feature(q.document(1, document_feature::coverage), 0);
}

TEST_CASE("rare words weigh more, in documents and in questions") {
  std::vector<dro::data::question> train(3);
  for (auto& question : train) {
    question.text = "Which river?";
    question.documents = {{"The", "the river"}, {"", "the"}};
  }
  train[2].documents[1].text = "the Oder";
  const auto features = selector_features::fit(train);
  CHECK(features.documents().documents() == 6);
  CHECK(features.questions().documents() == 3);
  dro::data::question source;
  source.text = "Which Oder?";
  source.documents = {{"", "the Oder"}, {"", "which"}};
  // "which" is in no document, but in every question: mass 0. All of the mass is on "oder".
  const auto q = features.prepare(source);
  check_feature(q.document(0, document_feature::coverage), 1);
  check_feature(q.document(1, document_feature::coverage), 0);
}

TEST_CASE("features keep their ranges, and move with the documents") {
  for (const std::size_t n : {std::size_t{1}, std::size_t{2}, std::size_t{17}, std::size_t{100}}) {
    CAPTURE(n);
    auto source = random_question(n, n);
    const auto features = selector_features::fit(std::vector{source, random_question(5, 77)});
    const auto q = features.prepare(source);
    REQUIRE(q.document_features.size() == n * dro::models::document_feature_count);
    REQUIRE(q.pair_features.size() == n * n * dro::models::pair_feature_count);
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t f = 0; f < dro::models::document_feature_count; ++f) {
        const float value = q.document_features[j * dro::models::document_feature_count + f];
        const auto feature = static_cast<document_feature>(f);
        // A z-score among n values is at most sqrt(n - 1) in size.
        const bool z_score = feature == document_feature::bm25 || feature == document_feature::log_length;
        const double most = z_score ? std::sqrt(static_cast<double>(n - 1)) : 1;
        CHECK(static_cast<double>(value) <= most + feature_tolerance);
        CHECK(static_cast<double>(value) >= (z_score ? -most - feature_tolerance : 0));
      }
    }
    for (std::size_t k = 0; k < q.pair_features.size(); ++k) {
      CHECK(q.pair_features[k] >= 0);
      if (k % dro::models::pair_feature_count != static_cast<std::size_t>(pair_feature::shared_names)) {
        CHECK(static_cast<double>(q.pair_features[k]) <= 1 + feature_tolerance);
      }
    }
    // The last document first: row j of the new question is row j - 1 of the old one. BM25 and z-scores are summed in
    // another order, in double, so float features agree to a rounding of float.
    std::rotate(source.documents.begin(), source.documents.end() - 1, source.documents.end());
    const auto moved = features.prepare(source);
    const auto old = [n](std::size_t j) { return (j + n - 1) % n; };
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t f = 0; f < dro::models::document_feature_count; ++f) {
        check_feature(moved.document(j, static_cast<document_feature>(f)),
                      q.document(old(j), static_cast<document_feature>(f)));
      }
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t f = 0; f < dro::models::pair_feature_count; ++f) {
          CHECK(moved.pair(i, j, static_cast<pair_feature>(f)) == q.pair(old(i), old(j), static_cast<pair_feature>(f)));
        }
      }
    }
  }
}

TEST_CASE("questions and documents at the edges") {
  dro::data::question source;
  CHECK(unfitted().prepare(source).documents == 0);
  source.text = "?";
  source.documents = {{"", "..."}, {"(only brackets)", "x"}};
  const auto bare = unfitted().prepare(source);
  for (const float value : bare.document_features) CHECK(std::isfinite(value));
  for (const float value : bare.pair_features) CHECK(std::isfinite(value));

  source.text.clear();
  for (int k = 0; k < 100; ++k) source.text += "w" + std::to_string(k) + " ";  // more words than a set has bits
  source.documents = {{"", source.text}, {"", "w0 w99"}};
  const auto wide = unfitted().prepare(source);
  CHECK(wide.word_mass.size() == 64);
  CHECK(wide.bigram_mass.size() == 64);
  check_feature(wide.document(0, document_feature::coverage), 1);
  check_feature(wide.document(0, document_feature::bigram_coverage), 1);
}

TEST_CASE("parameters have a size, names, and begin as BM25") {
  const auto count = [](bool earlier, bool links) {
    return feature_selector({.earlier_choices = earlier, .static_links = links}).parameter_count();
  };
  // 13 of a document, 12 of a pair, 4 of coverage.
  CHECK(count(false, false) == 13);
  CHECK(count(false, true) == 13 + 12);
  CHECK(count(true, false) == 13 + 2 * (13 + 12 + 4));
  CHECK(count(true, true) == 25 + 2 * (25 + 12 + 4));

  for (const bool earlier : {false, true}) {
    const feature_selector selector({.earlier_choices = earlier, .static_links = true});
    std::set<std::string> names;
    for (std::size_t k = 0; k < selector.parameter_count(); ++k) {
      const auto name = selector.parameter_name(k);
      names.insert(name);
      const bool is_bm25 = name.substr(name.find('.')) == ".bm25";
      CHECK(selector.parameters()[k] == (is_bm25 ? 1 : 0));
    }
    CHECK(names.size() == selector.parameter_count());
    CHECK_THROWS_AS((void)selector.parameter_name(selector.parameter_count()), dro::shape_error);
  }

  const auto source = founder_question();
  const auto q = unfitted().prepare(source);
  CHECK(dro::text::retriever_order(scores_of(feature_selector{}, q, {2})) ==
        dro::text::retriever_order(dro::text::bm25_scores(source)));
}

TEST_CASE("each parameter reads its feature, in the block of its pick only") {
  const auto q = selector_features::fit(std::vector{random_question(8, 5)}).prepare(random_question(8, 5));
  const auto max_pair = [&](const std::vector<document_t>& prefix, std::size_t j, pair_feature f) {
    float best = 0;
    for (const document_t i : prefix) best = std::max(best, q.pair(static_cast<std::size_t>(i), j, f));
    return best;
  };
  feature_selector selector;
  const auto with_only = [&](const std::string& name, const std::vector<document_t>& prefix) {
    set_only(selector, name);
    return scores_of(selector, q, prefix);
  };
  const std::vector<document_t> one{3};
  const std::vector<document_t> two{3, 6};
  const std::vector<document_t> three{3, 6, 0};
  const std::vector<double> zero(8, 0.0);
  for (std::size_t j = 0; j < 8; ++j) {
    CHECK(with_only("first.phrase", {})[j] == static_cast<double>(q.document(j, document_feature::phrase)));
    CHECK(with_only("second.phrase", one)[j] == static_cast<double>(q.document(j, document_feature::phrase)));
    CHECK(with_only("second.bridge", one)[j] == static_cast<double>(max_pair(one, j, pair_feature::bridge)));
    CHECK(with_only("later.bridge", two)[j] == static_cast<double>(max_pair(two, j, pair_feature::bridge)));
    CHECK(with_only("later.new_sentence", three)[j] ==
          static_cast<double>(max_pair(three, j, pair_feature::new_sentence)));
  }
  CHECK(with_only("first.phrase", one) == zero);
  CHECK(with_only("second.bridge", two) == zero);
  CHECK(with_only("later.bridge", one) == zero);
}

TEST_CASE("coverage counts what the chosen documents leave open") {
  auto source = founder_question();
  source.documents.push_back({"Berlin Acme", "Founded in 1902."});  // covers acme, berlin, founded, in
  const auto q = unfitted().prepare(source);
  feature_selector selector;
  const auto only = [&](const std::string& name, const std::vector<document_t>& prefix) {
    set_only(selector, name);
    return scores_of(selector, q, prefix);
  };
  const auto check = [](const std::vector<double>& found, const std::vector<double>& expected) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t j = 0; j < found.size(); ++j) CHECK(std::abs(found[j] - expected[j]) < feature_tolerance);
  };
  check(only("second.uncovered_text", {0}), {0, 0.4, 0, 0.4});  // acme and founded are covered
  check(only("second.uncovered_title", {0}), {0, 0, 0, 0.2});   // berlin
  check(only("second.uncovered_names", {0}), {0, 0.2, 0, 0.2});
  check(only("second.uncovered_bigrams", {0}), {0, 0.25, 0, 0});  // "in berlin"
  check(only("later.uncovered_text", {0, 1}), {0, 0, 0, 0});
  check(only("later.uncovered_text", {2, 1}), {0.4, 0, 0, 0.4});
  // The same against one document and within the best sentence: of document 3 "berlin" and "in" are new to document 0.
  check_feature(q.pair(0, 3, pair_feature::new_sentence), 0.4);
  check_feature(q.pair(3, 1, pair_feature::new_sentence), 0);
}

TEST_CASE("the document-independent twin does not look at earlier choices, the list-wise selector does") {
  const auto q = selector_features::fit(std::vector{random_question(9, 3)}).prepare(random_question(9, 3));
  for (const bool links : {false, true}) {
    feature_selector twin({.earlier_choices = false, .static_links = links});
    set_weights(twin);
    CHECK(scores_of(twin, q, {}) == scores_of(twin, q, {4, 1, 7}));
    feature_selector list_wise({.earlier_choices = true, .static_links = links});
    set_weights(list_wise);
    CHECK(scores_of(list_wise, q, {4}) != scores_of(list_wise, q, {5}));
    CHECK(scores_of(list_wise, q, {4, 1}) == scores_of(list_wise, q, {1, 4}));  // what is chosen counts, not the order
  }
}

TEST_CASE("link features are the best relation to any other candidate") {
  const auto q = unfitted().prepare(random_question(7, 11));
  feature_selector selector({.earlier_choices = false, .static_links = true});
  set_only(selector, "any.link.shared_names");
  const auto scores = scores_of(selector, q, {});
  for (std::size_t j = 0; j < 7; ++j) {
    float best = 0;
    for (std::size_t i = 0; i < 7; ++i) {
      if (i != j) best = std::max(best, q.pair(i, j, pair_feature::shared_names));
    }
    CHECK(scores[j] == static_cast<double>(best));
  }
}

TEST_CASE("the gradient of scores agrees with central differences") {
  // Scores are linear in the parameters, so a difference with h = 1 has no truncation error. What is left is rounding:
  // sums of at most 66 terms below 4 in size, 66 · 66 · 4 · 2^-53 < 2e-12 for each of n = 9 scores.
  constexpr double tolerance = 2e-11;
  const auto q = selector_features::fit(std::vector{random_question(9, 3)}).prepare(random_question(9, 3));
  const std::vector<double> d_scores{0.3, -1, 0, 0.25, 2, -0.7, 0, 0.1, -0.05};
  for (const bool earlier : {false, true}) {
    for (const bool links : {false, true}) {
      feature_selector selector({.earlier_choices = earlier, .static_links = links});
      set_weights(selector);
      for (const std::vector<document_t>& prefix : {std::vector<document_t>{}, {4}, {2, 6}, {6, 2, 0}}) {
        const auto value = [&] {
          double sum = 0;
          const auto scores = scores_of(selector, q, prefix);
          for (std::size_t j = 0; j < scores.size(); ++j) sum += d_scores[j] * scores[j];
          return sum;
        };
        std::vector<double> gradient(selector.parameter_count(), 0.5);  // added to, not overwritten
        selector.accumulate_score_gradient(q, prefix, d_scores, gradient);
        double largest = 0;
        for (std::size_t k = 0; k < gradient.size(); ++k) {
          double& w = selector.parameters()[k];
          const double at = w;
          w = at + 1;
          const double above = value();
          w = at - 1;
          const double below = value();
          w = at;
          CHECK(std::abs(gradient[k] - 0.5 - (above - below) / 2) < tolerance);
          largest = std::max(largest, std::abs(gradient[k] - 0.5));
        }
        CHECK(largest > 0.1);
      }
    }
  }
}

TEST_CASE("sizes and prefixes that do not fit are refused") {
  const auto q = unfitted().prepare(founder_question());
  const feature_selector selector;
  std::vector<double> scores(3);
  std::vector<double> gradient(selector.parameter_count());
  const std::vector<document_t> none;
  std::vector<double> short_scores(2);
  CHECK_THROWS_AS(selector.scores(q, none, short_scores), dro::shape_error);
  CHECK_THROWS_AS(selector.scores(q, std::vector<document_t>{3}, scores), dro::shape_error);
  CHECK_THROWS_AS(selector.scores(q, std::vector<document_t>{-1}, scores), dro::shape_error);
  CHECK_THROWS_AS(selector.accumulate_score_gradient(q, none, short_scores, gradient), dro::shape_error);
  gradient.pop_back();
  CHECK_THROWS_AS(selector.accumulate_score_gradient(q, none, scores, gradient), dro::shape_error);
}
