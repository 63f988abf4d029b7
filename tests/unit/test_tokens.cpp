// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <dro/text/tokens.hpp>

using dro::text::token;
using dro::text::token_kind;
using dro::text::tokenise;
using dro::text::vocabulary;

namespace {

/// The tokens as the text writes them, joined by '|'.
std::string pieces(const std::string& text) {
  vocabulary words;
  std::string joined;
  for (const auto& t : tokenise(text, words)) {
    joined += (joined.empty() ? "" : "|") + text.substr(t.begin, t.end - t.begin);
  }
  return joined;
}

/// The folded forms, joined by '|'.
std::string forms(std::string_view text) {
  vocabulary words;
  std::string joined;
  for (const auto& t : tokenise(text, words)) joined += (joined.empty() ? "" : "|") + words[t.word];
  return joined;
}

/// The tokens for which `keep` holds, as the text writes them, joined by '|'.
template <class Keep>
std::string pieces_where(const std::string& text, Keep keep) {
  vocabulary words;
  std::string joined;
  for (const auto& t : tokenise(text, words)) {
    if (keep(t)) joined += (joined.empty() ? "" : "|") + text.substr(t.begin, t.end - t.begin);
  }
  return joined;
}

}  // namespace

TEST_CASE("a vocabulary numbers words in the order of first sight") {
  vocabulary words;
  CHECK(words.size() == 0);
  CHECK(words.add("b") == 0);
  CHECK(words.add("a") == 1);
  CHECK(words.add("b") == 0);
  CHECK(words.size() == 2);
  CHECK(words[0] == "b");
  CHECK(words.find("a") == std::optional<dro::text::word_id>(1));
  CHECK(words.find("c") == std::nullopt);

  const vocabulary copy = words;  // a copy does not look into the original
  words = vocabulary{};
  CHECK(copy.find("a") == std::optional<dro::text::word_id>(1));
  CHECK(copy[1] == "a");
}

TEST_CASE("words, numbers and punctuation are split") {
  CHECK(pieces("") == "");
  CHECK(pieces(" \t\n\u00a0\u2003 ") == "");
  CHECK(pieces("The end.") == "The|end|.");
  CHECK(pieces("a well-known 1990–1995 tour") == "a|well|-|known|1990|–|1995|tour");
  CHECK(pieces("1,500 or 3.14, then 3rd; 7.") == "1,500|or|3.14|,|then|3rd|;|7|.");
  CHECK(pieces("12:30 $5 50%") == "12|:|30|$|5|50|%");
  CHECK(pieces("(O'Brien) don’t rock 'n' roll") == "(|O'Brien|)|don’t|rock|'|n|'|roll");
  CHECK(pieces("東京 B2B") == "東京|B2B");
}

TEST_CASE("a possessive is a word of its own") {
  CHECK(pieces("Rowling's and Hopkins' and Ann’S") == "Rowling|'s|and|Hopkins|'|and|Ann|’S");
  CHECK(forms("Ann’S") == "ann|'s");
  CHECK(pieces("the 1990's") == "the|1990|'s");
  CHECK(pieces("'s-Hertogenbosch") == "'|s|-|Hertogenbosch");  // nothing in front that could possess
  CHECK(pieces("it'sy") == "it'sy");
}

TEST_CASE("initials with periods are one word") {
  CHECK(pieces("the U.S. Army, the U.S-led") == "the|U.S.|Army|,|the|U.S|-|led");
  CHECK(forms("U.S. U.S u.s.") == "u.s|u.s|u.s");
  CHECK(pieces("J. K. Rowling and J.K. Rowling") == "J|.|K|.|Rowling|and|J.K.|Rowling");
  CHECK(pieces("J.Smith") == "J|.|Smith");
  CHECK(pieces("Washington, D.C.") == "Washington|,|D.C.");
}

TEST_CASE("forms are case-folded and normalised, diacritics are kept") {
  CHECK(forms("ÉCOLE école E\u0301cole") == "école|école|école");
  CHECK(forms("Straße STRASSE") == "strasse|strasse");
  CHECK(forms("O’Brien O'BRIEN") == "o'brien|o'brien");
  CHECK(forms("ﬁlm") == "film");
  CHECK(forms("co\u00adoperate") == "cooperate");  // soft hyphen
  CHECK(forms("Žižek Zizek") == "žižek|zizek");
}

TEST_CASE("kinds and capitals") {
  const std::string text = "In 1902 Éva met ǅ and 3 iPods, x2.";
  const auto kind_is = [](token_kind kind) { return [kind](const token& t) { return t.kind == kind; }; };
  CHECK(pieces_where(text, kind_is(token_kind::number)) == "1902|3");
  CHECK(pieces_where(text, kind_is(token_kind::punctuation)) == ",|.");
  CHECK(pieces_where(text, [](const token& t) { return t.capitalised; }) == "In|Éva|ǅ");
}

TEST_CASE("sentence starts") {
  const auto starts = [](const std::string& text) {
    return pieces_where(text, [](const token& t) { return t.sentence_start; });
  };
  CHECK(starts("It ends. He left! Who? \"Me,\" she said.") == "It|He|Who|\"|Me");
  CHECK(starts("He said \"Stop.\" Then") == "He|\"|Then");
  CHECK(starts("Mr. Smith met Dr. Roe. They") == "Mr|They");
  CHECK(starts("George W. Bush of the U.S. Army. He") == "George|He");
  CHECK(starts("終。次") == "終|次");
  CHECK(starts("(1902) is") == "(|1902");
}

TEST_CASE("tokens of any bytes are ordered, disjoint, and leave out nothing but space") {
  // A linear congruential sequence over an alphabet of the cases that matter, broken UTF-8 included.
  const std::vector<std::string> alphabet{"a", "B", "é",  "'",  "’",    "s",    ".", ",",      " ",      "7",
                                          "-", "(", "\n", "東", "\xff", "\xc3", "´", "\u0301", "\u00ad", "。"};
  std::uint64_t state = 1;
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int k = 0; k < 12; ++k) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      text += alphabet[static_cast<std::size_t>(state >> 33) % alphabet.size()];
    }
    CAPTURE(text);
    vocabulary words;
    std::uint32_t end = 0;
    std::string left_out;
    for (const auto& t : tokenise(text, words)) {
      REQUIRE(t.begin >= end);
      REQUIRE(t.end > t.begin);
      REQUIRE(t.word < words.size());
      left_out += text.substr(end, t.begin - end);
      end = t.end;
    }
    REQUIRE(end <= text.size());
    left_out += text.substr(end);
    for (std::size_t k = 0; k < left_out.size(); ++k) {
      const bool soft_hyphen = left_out.compare(k, 2, "\u00ad") == 0;
      CHECK((left_out[k] == ' ' || left_out[k] == '\n' || soft_hyphen));
      if (soft_hyphen) ++k;
    }
  }
}
