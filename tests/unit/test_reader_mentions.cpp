// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <dro/models/question_type.hpp>
#include <dro/models/reader_lexicon.hpp>
#include <dro/models/reader_mentions.hpp>
#include <dro/text/tokens.hpp>

using namespace dro;
using namespace dro::models;

namespace {

/// A text with its tokens and mentions.
struct read_text {
  explicit read_text(std::string what) : source(std::move(what)), tokens(text::tokenise(source, words)) {
    for (std::size_t w = 0; w < words.size(); ++w) traits.push_back(traits_of(words[static_cast<text::word_id>(w)]));
    mentions = mention_finder(words, traits).find(tokens);
  }
  std::string surface(const mention& m) const {
    return source.substr(tokens[m.first].begin, tokens[m.last - 1].end - tokens[m.first].begin);
  }
  std::optional<mention_kind> kind_of(std::string_view what) const {
    for (const auto& m : mentions) {
      if (surface(m) == what) return m.kind;
    }
    return std::nullopt;
  }
  calendar_day day_of(std::string_view what) const {
    for (const auto& m : mentions) {
      if (surface(m) == what) return mention_finder(words, traits).day_of(tokens, m);
    }
    return {};
  }

  std::string source;
  text::vocabulary words;
  std::vector<text::token> tokens;
  std::vector<word_traits> traits;
  std::vector<mention> mentions;
};

question_type type_of(const std::string& question) {
  const read_text q(question);
  return type_of_question(q.tokens, q.words, q.traits);
}

}  // namespace

TEST_CASE("dates are found in the orders in which they are written") {
  const read_text t("She was born on 7 November 1728, wed in May 1750 and died February 14, 1779. He ruled 1801–1809.");
  CHECK(t.kind_of("7 November 1728") == mention_kind::full_date);
  CHECK(t.kind_of("February 14, 1779") == mention_kind::full_date);
  CHECK(t.kind_of("May 1750") == mention_kind::part_date);
  CHECK(t.kind_of("1728") == mention_kind::year);
  CHECK(t.kind_of("1801–1809") == mention_kind::year_range);
  const auto day = t.day_of("February 14, 1779");
  CHECK(day.year == 1779);
  CHECK(day.month == 2);
  CHECK(day.day == 14);
  CHECK(t.day_of("1801–1809").year == 1801);
}

TEST_CASE("days compare as far as both are known") {
  CHECK(difference(calendar_day{1728, 11, 7}, calendar_day{1728, 11, 8}) < 0);
  CHECK(difference(calendar_day{1728, 11, 7}, calendar_day{1728, 10, 9}) > 0);
  CHECK(difference(calendar_day{1728, 11, 7}, calendar_day{1728, 0, 0}) == 0);
  CHECK(difference(calendar_day{1728, 11, 0}, calendar_day{1728, 11, 9}) == 0);
  CHECK(difference(calendar_day{1729, 0, 0}, calendar_day{1728, 11, 9}) > 0);
}

TEST_CASE("numbers come alone, with a currency and with what they count") {
  const read_text t("It cost $1.18 trillion, 60 million people saw it, and it has 12 % more of five unit loads.");
  CHECK(t.kind_of("60") == mention_kind::number);
  CHECK(t.kind_of("$1.18 trillion") == mention_kind::quantity);
  CHECK(t.kind_of("60 million people") == mention_kind::quantity);
  CHECK(t.kind_of("12 %") == mention_kind::quantity);
  CHECK(t.kind_of("five unit loads") == mention_kind::quantity);
}

TEST_CASE("names are capitalised runs, whole and in parts") {
  const read_text t("The Duke of York met President James K. Polk in Austin, Texas. In Paris he was an Irish poet.");
  CHECK(t.kind_of("Duke of York") == mention_kind::name_long);
  CHECK(t.kind_of("York") == mention_kind::name_part);
  CHECK(t.kind_of("James K. Polk") == mention_kind::name_part);
  CHECK(t.kind_of("Austin, Texas") == mention_kind::place);
  CHECK(t.kind_of("Paris") == mention_kind::name1);
  CHECK(t.kind_of("Irish") == mention_kind::country);
  CHECK(t.kind_of("Irish poet") == mention_kind::mixed);
  CHECK_FALSE(t.kind_of("In Paris").has_value());  // a function word that opens a sentence is no part of a name
  CHECK_FALSE(t.kind_of("Texas. In Paris").has_value());
}

TEST_CASE("phrases begin and end with content words; hyphens join, punctuation parts") {
  const read_text t("A board of well-known doctors, \"a night at the opera\", heart attack.");
  CHECK(t.kind_of("board of well-known doctors") == mention_kind::phrase);
  CHECK(t.kind_of("well-known") == mention_kind::phrase);
  CHECK(t.kind_of("a night at the opera") == mention_kind::quoted);
  CHECK(t.kind_of("heart attack") == mention_kind::phrase);
  CHECK_FALSE(t.kind_of("of well-known").has_value());
  CHECK_FALSE(t.kind_of("doctors, \"a night").has_value());
}

TEST_CASE("mentions are ordered, distinct and inside the text") {
  const read_text t(
      "On May 5, 1821 Napoleon of France - 51 years old - died on \"Saint Helena\", 1,950 km west of Angola.");
  for (std::size_t k = 0; k < t.mentions.size(); ++k) {
    const auto& m = t.mentions[k];
    CHECK(m.first < m.last);
    CHECK(m.last <= t.tokens.size());
    if (k == 0) continue;
    const auto& before = t.mentions[k - 1];
    CHECK((before.first < m.first || (before.first == m.first && before.last < m.last)));
  }
  CHECK(read_text("").mentions.empty());
  CHECK(read_text("...").mentions.empty());
  CHECK(read_text("of the").mentions.empty());
}

TEST_CASE("countries are one across their forms") {
  CHECK(traits_of("french").country == traits_of("france").country);
  CHECK(traits_of("texas").country == traits_of("u.s").country);
  CHECK(traits_of("new zealand").country != 0);
  CHECK(traits_of("french").country != traits_of("german").country);
  CHECK(traits_of("table").country == 0);
}

TEST_CASE("question types") {
  const auto film = type_of("Which film has the director who was born later, Alpha or Beta?");
  CHECK(film.interrogative == "which");
  CHECK(film.focus == "film");
  CHECK(film.last == "later");
  CHECK(film.direction == comparison::most);
  CHECK(film.choice());
  CHECK(film.divider == "or");
  CHECK_FALSE(film.polar);

  const auto spouse = type_of("Who is the spouse of the director of Jump for Glory?");
  CHECK(spouse.interrogative == "who");
  CHECK(spouse.focus == "spouse");
  CHECK_FALSE(spouse.choice());

  const auto many = type_of("How many people work in the city?");
  CHECK(many.interrogative == "how many");
  CHECK(many.focus == "work");  // the last of a run of plain words: verbs are not told from nouns

  const auto polar = type_of("Are Anna and Bela of the same nationality?");
  CHECK(polar.polar);
  CHECK(polar.interrogative == "polar");
  CHECK(type_of("Was Anna or Bela born first?").choice());

  const auto pair = type_of("Who was born first out of Anna Ang and Bela Bok?");
  CHECK(pair.divider == "and");
  CHECK(pair.direction == comparison::least);
  CHECK(type_of("Who wrote first for Anna and Bela?").divider.empty());

  CHECK(type_of("").interrogative.empty());
}

TEST_CASE("related words share a stem key") {
  CHECK(word_stem("directed") == word_stem("directors"));
  CHECK(word_stem("film") == word_stem("films"));
  CHECK(word_stem("glass") == "glass");
  CHECK(word_stem("born") != word_stem("borne"));
}
