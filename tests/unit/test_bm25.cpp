// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/error.hpp>
#include <dro/text/bm25.hpp>
#include <dro/text/idf.hpp>
#include <dro/text/stem.hpp>

using dro::text::bm25;
using dro::text::idf_table;
using words = std::vector<dro::text::word_id>;

// Sums of at most four terms of a few operations each, all positive and below 4: 16 roundings of 2^-53 relative.
constexpr double tolerance = 1e-14;

TEST_CASE("BM25 of three documents by hand") {
  // Words 0, 1, 2. N = 3, mean length 2. n_0 = 1: idf = log(1 + 2.5/1.5) = log(8/3). n_1 = 2: log(1 + 1.5/2.5) =
  // log(1.6).
  const std::vector<words> documents{{0, 0, 1}, {1, 2}, {2}};
  const bm25 index(documents);
  const auto scores = index.scores(words{0, 1});
  REQUIRE(scores.size() == 3);
  // Document 0: k1 (1 - b + b 3/2) = 1.2 · 1.375 = 1.65; word 0 twice, word 1 once. Document 1 has the mean length.
  CHECK(std::abs(scores[0] - (std::log(8.0 / 3) * 2 * 2.2 / (2 + 1.65) + std::log(1.6) * 2.2 / (1 + 1.65))) <
        tolerance);
  CHECK(std::abs(scores[0] - 1.5725612026839) < 1e-12);
  CHECK(std::abs(scores[1] - std::log(1.6)) < tolerance);
  CHECK(scores[2] == 0);

  SUBCASE("a repeated query word counts twice, an unknown one not at all") {
    const auto twice = index.scores(words{0, 1, 0, 1, 99});
    for (std::size_t d = 0; d < 3; ++d) CHECK(std::abs(twice[d] - 2 * scores[d]) < tolerance);
  }
  SUBCASE("k1 = 0 counts presence, b = 0 ignores length") {
    const auto presence = bm25(documents, {.k1 = 0}).scores(words{0});
    CHECK(std::abs(presence[0] - std::log(8.0 / 3)) < tolerance);
    const auto plain = bm25(documents, {.b = 0}).scores(words{2});
    CHECK(plain[1] == plain[2]);
    CHECK(std::abs(plain[1] - std::log(1.6)) < tolerance);
  }
}

TEST_CASE("BM25 of nothing") {
  CHECK(bm25({}).scores(words{1}).empty());
  CHECK(bm25(std::vector<words>{{}, {}}).scores(words{1}) == std::vector<double>{0, 0});
  CHECK(bm25(std::vector<words>{{1}}).scores({}) == std::vector<double>{0});
}

TEST_CASE("BM25 refuses options outside their range") {
  CHECK_THROWS_AS(bm25({}, {.k1 = -1}), dro::option_error);
  CHECK_THROWS_AS(bm25({}, {.k1 = std::numeric_limits<double>::quiet_NaN()}), dro::option_error);
  CHECK_THROWS_AS(bm25({}, {.b = 1.5}), dro::option_error);
}

TEST_CASE("candidates of a question are scored by title and text together") {
  dro::data::question question;
  question.text = "Alpha, beta!";
  question.documents = {{"ALPHA", "alpha: beta"}, {"", "beta - gamma"}, {"Gamma", "?!"}};
  // The same words as in the example by hand; punctuation and case make no difference.
  const auto by_hand = bm25(std::vector<words>{{0, 0, 1}, {1, 2}, {2}}).scores(words{0, 1});
  CHECK(dro::text::bm25_scores(question) == by_hand);
}

TEST_CASE("retriever order falls, ties by position") {
  CHECK(dro::text::retriever_order(std::vector<double>{1, 3, 1, 2}) == std::vector<dro::document_t>{1, 3, 0, 2});
  CHECK(dro::text::retriever_order(std::vector<double>(40, 0.0)).back() == 39);
  CHECK(dro::text::retriever_order({}).empty());
}

TEST_CASE("idf is scaled to [0, 1]") {
  CHECK(idf_table()("anything") == 1);
  idf_table table;
  table.add_document({"The Cat", "the cat sat."});
  table.add_document({"", "The dog"});
  table.add_document({"", "the end"});
  CHECK(table.documents() == 3);
  CHECK(table("the") == 0);                         // in all three
  CHECK(std::abs(table("cat") - 0.5) < tolerance);  // log(4/2) / log(4): title and text count once
  CHECK(table("unicorn") == 1);
  CHECK(table(".") == 1);  // punctuation is not counted

  std::vector<std::string> forms;
  for (dro::text::word_id w = 0; w < table.words().size(); ++w) forms.push_back(table.words()[w]);
  idf_table restored(table.documents(), forms, table.frequencies());
  CHECK(restored("cat") == table("cat"));
  restored.add_document({"cat", "bird"});  // goes on counting where the original stood
  table.add_document({"cat", "bird"});
  for (const auto* word : {"the", "cat", "bird", "dog"}) CHECK(restored(word) == table(word));
}

TEST_CASE("an idf table refuses lists that do not belong together") {
  const std::vector<std::string> two{"a", "b"};
  const std::vector<std::string> same{"a", "a"};
  const std::vector<std::uint32_t> frequencies{1, 2};
  CHECK_NOTHROW(idf_table(2, two, frequencies));
  CHECK_THROWS_AS(idf_table(1, two, frequencies), dro::option_error);
  CHECK_THROWS_AS(idf_table(2, same, frequencies), dro::option_error);
  CHECK_THROWS_AS(idf_table(2, std::vector<std::string>{"a"}, frequencies), dro::shape_error);
}

TEST_CASE("stems of the Snowball rules") {
  const dro::text::stemmer english;
  CHECK(english("directed") == "direct");
  CHECK(english("directs") == "direct");
  CHECK(english("1902") == "1902");
  CHECK(english("") == "");
  CHECK(dro::text::stemmer("german")("häuser") == "haus");
  CHECK_THROWS_AS(dro::text::stemmer("klingon"), dro::option_error);
}
