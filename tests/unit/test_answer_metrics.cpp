// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/text/answer_metrics.hpp>
#include <dro/text/normalise.hpp>

using dro::text::all_gold_at_k;
using dro::text::exact_match;
using dro::text::f1;
using dro::text::normalise_answer;
using dro::text::recall_at_k;
using strings = std::vector<std::string>;
using documents = std::vector<dro::document_t>;

TEST_CASE("normalisation gives what SQuAD's script gives") {
  // right-hand sides: the script's four steps as CPython 3.11 (Unicode 14) carries them out
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"", ""},
      {"The  Beatles", "beatles"},
      {" \t a \r\n", ""},
      {"The", ""},
      {"?!", ""},
      {"U.S.", "us"},
      {"well-known", "wellknown"},
      {"June 1 , 1954", "june 1 1954"},
      {"an_apple", "anapple"},                  // the underscore is punctuation, so no word boundary is left
      {"A-the", "athe"},                        // likewise
      {"theatre, another", "theatre another"},  // articles only as whole words
      {"the the the cat", "cat"},
      {"An apple a day", "apple day"},
      {"x\u0085y", "x y"},                          // next line
      {"a\u2013the", "\u2013"},                     // an en dash is not punctuation to the script; it ends words
      {"\u201CThe End\u201D", "\u201C end\u201D"},  // an article leaves a space
      {"x\u00A0the\u3000y", "x y"},                 // no-break and ideographic space are white space
      {"x\u200Bthe", "x\u200B"},                    // zero-width space is not
      {"x\x1Cy", "x y"},                            // the file separator is
      {"\u00C9COLE", "\u00E9cole"},
      {"th\u00C9 the\u00E9", "th\u00E9 the\u00E9"},
      {"\u0410\u0411", "\u0430\u0431"},
      {"\u4E00a\u4E8C a", "\u4E00a\u4E8C"},    // ideographs are letters: no boundary before that a
      {"\u00B2a a\u00B2", "\u00B2a a\u00B2"},  // so are superscript digits
      {"a\u0301 x", "\u0301 x"},               // a combining accent is not: the a stands alone
      {"\u0130B", "i\u0307b"},                 // the capital dotted I becomes two code points
      {"\u212A", "k"},                         // the Kelvin sign
      {"$100%", "100"},
      {"100\u20AC", "100\u20AC"},
  };
  for (const auto& [text, expected] : cases) {
    CAPTURE(text);
    CHECK(normalise_answer(text) == expected);
  }
}

TEST_CASE("normalisation keeps what is not UTF-8") {
  CHECK(normalise_answer("the\xFFthe X") == "\xFF x");
  CHECK(normalise_answer("x\xC3") == "x\xC3");
}

TEST_CASE("normalising twice changes nothing more") {
  for (const std::string_view text : {"The \"Great\" Gatsby, a novel", "a\u2013the  b", "An A. the"}) {
    const std::string once = normalise_answer(text);
    CHECK(normalise_answer(once) == once);
  }
}

TEST_CASE("exact match compares normalised forms with every alias") {
  const strings answers = {"New York City", "NYC", "The Big Apple"};
  CHECK(exact_match("new york city.", answers));
  CHECK(exact_match("N.Y.C.", answers));
  CHECK(exact_match("big apple", answers));
  CHECK_FALSE(exact_match("New York", answers));
  CHECK_FALSE(exact_match("", answers));
  CHECK_FALSE(exact_match("x", strings{}));
  CHECK(exact_match("", strings{"The"}));
}

TEST_CASE("F1 is that of bags of words, best over aliases") {
  // 2 c / (p + a) with c shared words, p predicted, a accepted; all quotients exact to rounding
  CHECK(f1("the cat sat", strings{"cat sat down"}) == doctest::Approx(2.0 * 2 / (2 + 3)).epsilon(1e-15));
  CHECK(f1("Paris", strings{"Paris"}) == 1.0);
  CHECK(f1("Paris", strings{"London"}) == 0.0);
  CHECK(f1("Paris France", strings{"London", "Paris"}) == doctest::Approx(2.0 / 3).epsilon(1e-15));
  CHECK(f1("Paris France", strings{"Paris", "France, Paris"}) == 1.0);  // order does not matter
  CHECK(f1("yes it was", strings{"yes"}) == 0.5);                       // KILT's, not HotpotQA's
  CHECK(f1("", strings{"Paris"}) == 0.0);
  CHECK(f1("the", strings{"a"}) == 0.0);  // both empty after normalisation: 0 as in SQuAD 1.1
  CHECK(f1("Paris", strings{}) == 0.0);
}

TEST_CASE("F1 counts a repeated word as often as both have it") {
  // {b, b, c} and {b, d}: one b is shared
  CHECK(f1("b b c", strings{"b d"}) == doctest::Approx(2.0 * 1 / (3 + 2)).epsilon(1e-15));
  // {b, b, c} and {b, b}: two
  CHECK(f1("b b c", strings{"b b"}) == doctest::Approx(2.0 * 2 / (3 + 2)).epsilon(1e-15));
}

TEST_CASE("recall at k counts gold documents among the first k") {
  const documents ranking = {4, 1, 7, 0};
  const documents gold = {0, 1, 7};
  CHECK(recall_at_k(ranking, gold, 0) == 0.0);
  CHECK(recall_at_k(ranking, gold, 1) == 0.0);
  CHECK(recall_at_k(ranking, gold, 2) == 1.0 / 3);
  CHECK(recall_at_k(ranking, gold, 3) == 2.0 / 3);
  CHECK(recall_at_k(ranking, gold, 4) == 1.0);
  CHECK(recall_at_k(ranking, gold, 100) == 1.0);
  CHECK(recall_at_k(documents{}, gold, 3) == 0.0);
}

TEST_CASE("all gold at k") {
  const documents ranking = {4, 1, 7, 0};
  CHECK(all_gold_at_k(ranking, documents{1, 7}, 2) == false);
  CHECK(all_gold_at_k(ranking, documents{1, 7}, 3) == true);
  CHECK(all_gold_at_k(ranking, documents{1, 7, 9}, 4) == false);
}

TEST_CASE("missing gold documents count as not found") {
  const documents ranking = {4, 1};
  CHECK(recall_at_k(ranking, documents{1}, 2, 1) == 0.5);
  CHECK(all_gold_at_k(ranking, documents{1}, 2, 1) == false);
  CHECK(recall_at_k(ranking, documents{}, 2, 2) == 0.0);
  CHECK(all_gold_at_k(ranking, documents{}, 2, 2) == false);
}

TEST_CASE("a question without gold documents has neither recall nor all gold") {
  const documents ranking = {4, 1};
  CHECK_FALSE(recall_at_k(ranking, documents{}, 2).has_value());
  CHECK_FALSE(all_gold_at_k(ranking, documents{}, 2).has_value());
}
