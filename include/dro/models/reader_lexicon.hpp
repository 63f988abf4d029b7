// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_READER_LEXICON_HPP
#define DRO_MODELS_READER_LEXICON_HPP

/// \file
/// The closed classes of English words that the extractive reader knows: function words, words inside names, months,
/// numerals, and countries with their adjectives (and the states of two that texts often name instead).

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace dro::models {

/// What the lexicon says about a case-folded word; all zero for a word it does not hold.
struct word_traits {
  bool function_word = false;  ///< article, pronoun, preposition, conjunction, auxiliary, question word
  bool name_inner = false;     ///< may stand inside a name without a capital: "of", "the", "van"
  bool auxiliary = false;      ///< opens a yes/no question: "is", "did", "have"
  std::uint8_t month = 0;      ///< 1 to 12, 0: no month
  bool numeral = false;        ///< "two", "million", "third"
  std::uint16_t country = 0;   ///< 1-based number of the country that the name or adjective belongs to, 0: none
};

namespace detail {

// clang-format off
inline constexpr std::string_view function_words[] = {
    "a", "an", "the", "this", "that", "these", "those", "i", "he", "she", "it", "its", "his", "her", "hers", "they",
    "their", "them", "him", "who", "whom", "whose", "which", "what", "when", "where", "why", "how", "we", "our", "you",
    "your", "my", "me", "us", "of", "in", "on", "at", "by", "for", "from", "to", "with", "as", "into", "about", "after",
    "before", "during", "under", "over", "between", "through", "against", "among", "within", "without", "since",
    "until", "upon", "and", "or", "but", "nor", "so", "if", "then", "than", "because", "while", "although", "though",
    "is", "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "has", "have", "had", "having",
    "can", "could", "will", "would", "may", "might", "shall", "should", "must", "not", "no", "'s", "there", "here",
    "also", "such", "both", "each", "other", "some", "any", "all", "most", "more", "very", "only", "own", "same",
    "out", "up", "off", "too", "just", "where", "one", "it's", "s", "t"};
inline constexpr std::array name_inner_words{
    "of", "the", "and", "de", "la", "le", "les", "du", "des", "del", "della", "di", "da", "dos", "von", "van", "der",
    "den", "zu", "for", "in", "on", "to", "at", "a", "with", "from", "'s", "al", "el", "y", "e", "und", "et", "ibn",
    "bin", "or", "by", "d", "st", "an", "as"};
inline constexpr std::array auxiliary_words{"is",  "are", "was", "were", "do",    "does",  "did", "has",
                                            "have", "had", "can", "could", "would", "will"};
inline constexpr std::array month_words{"january", "february", "march",     "april",   "may",      "june",
                                        "july",    "august",   "september", "october", "november", "december"};
inline constexpr std::array numeral_words{
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty",
    "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million", "billion", "trillion", "dozen", "first",
    "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "once", "twice"};
// Forms of one country stand together, a "" ends the country.
inline constexpr std::string_view country_words[] = {
    "american", "america", "u.s", "u.s.a", "usa", "united states", "alabama", "alaska", "arizona", "arkansas",
    "california", "colorado", "connecticut", "delaware", "florida", "hawaii", "idaho", "illinois", "indiana", "iowa",
    "kansas", "kentucky", "louisiana", "maine", "maryland", "massachusetts", "michigan", "minnesota", "mississippi",
    "missouri", "montana", "nebraska", "nevada", "new hampshire", "new jersey", "new mexico", "new york",
    "north carolina", "north dakota", "ohio", "oklahoma", "oregon", "pennsylvania", "rhode island", "south carolina",
    "south dakota", "tennessee", "texas", "utah", "vermont", "virginia", "west virginia", "wisconsin", "wyoming", "",
    "british", "britain", "english", "england", "scottish", "scotland", "welsh", "wales", "u.k", "uk",
    "united kingdom", "",
    "canadian", "canada", "alberta", "british columbia", "manitoba", "nova scotia", "ontario", "quebec", "saskatchewan",
    "", "australian", "australia", "", "french", "france", "", "german", "germany", "",
    "italian", "italy", "", "spanish", "spain", "", "portuguese", "portugal", "", "dutch", "netherlands", "",
    "belgian", "belgium", "", "swiss", "switzerland", "", "austrian", "austria", "", "swedish", "sweden", "",
    "norwegian", "norway", "", "danish", "denmark", "", "finnish", "finland", "", "icelandic", "iceland", "",
    "irish", "ireland", "", "polish", "poland", "", "czech", "czechia", "czechoslovak", "czechoslovakia", "",
    "slovak", "slovakia", "", "hungarian", "hungary", "", "romanian", "romania", "", "bulgarian", "bulgaria", "",
    "greek", "greece", "", "turkish", "turkey", "", "russian", "russia", "soviet", "soviet union", "",
    "ukrainian", "ukraine", "", "belarusian", "belarus", "", "serbian", "serbia", "", "croatian", "croatia", "",
    "slovenian", "slovene", "slovenia", "", "bosnian", "bosnia", "", "yugoslav", "yugoslavia", "",
    "albanian", "albania", "", "macedonian", "macedonia", "", "estonian", "estonia", "", "latvian", "latvia", "",
    "lithuanian", "lithuania", "", "georgian", "georgia", "", "armenian", "armenia", "", "azerbaijani", "azerbaijan",
    "", "iranian", "iran", "persian", "", "iraqi", "iraq", "", "syrian", "syria", "", "lebanese", "lebanon", "",
    "israeli", "israel", "", "palestinian", "palestine", "", "egyptian", "egypt", "", "moroccan", "morocco", "",
    "algerian", "algeria", "", "tunisian", "tunisia", "", "libyan", "libya", "", "saudi", "saudi arabia", "",
    "emirati", "united arab", "", "kuwaiti", "kuwait", "", "qatari", "qatar", "", "yemeni", "yemen", "",
    "afghan", "afghanistan", "", "pakistani", "pakistan", "", "indian", "india", "", "bangladeshi", "bangladesh", "",
    "nepalese", "nepali", "nepal", "", "sri lanka", "sri lankan", "", "chinese", "china", "", "taiwanese", "taiwan",
    "", "hong kong", "", "japanese", "japan", "", "south korea", "south korean", "korean", "korea", "",
    "north korea", "north korean", "", "vietnamese", "vietnam", "", "thai", "thailand", "",
    "indonesian", "indonesia", "", "malaysian", "malaysia", "", "singaporean", "singapore", "",
    "filipino", "philippine", "philippines", "", "cambodian", "cambodia", "", "burmese", "myanmar", "",
    "mongolian", "mongolia", "", "kazakh", "kazakhstan", "", "uzbek", "uzbekistan", "", "new zealand", "",
    "mexican", "mexico", "", "cuban", "cuba", "", "jamaican", "jamaica", "", "haitian", "haiti", "",
    "puerto rico", "puerto rican", "", "brazilian", "brazil", "", "argentine", "argentinian", "argentina", "",
    "chilean", "chile", "", "colombian", "colombia", "", "venezuelan", "venezuela", "", "peruvian", "peru", "",
    "ecuadorian", "ecuador", "", "bolivian", "bolivia", "", "uruguayan", "uruguay", "", "paraguayan", "paraguay", "",
    "nigerian", "nigeria", "", "ghanaian", "ghana", "", "kenyan", "kenya", "", "ethiopian", "ethiopia", "",
    "south africa", "south african", "", "zimbabwean", "zimbabwe", "", "ugandan", "uganda", "",
    "tanzanian", "tanzania", "", "congolese", "congo", "", "senegalese", "senegal", "", "cameroonian", "cameroon", "",
    "maltese", "malta", "", "cypriot", "cyprus", "", "luxembourg", "", "prussian", "prussia", "",
    "ottoman", "", "byzantine", ""};
// clang-format on

inline std::unordered_map<std::string_view, word_traits> make_lexicon() {
  std::unordered_map<std::string_view, word_traits> words;
  for (const auto word : function_words) words[word].function_word = true;
  for (const auto* word : name_inner_words) words[word].name_inner = true;
  for (const auto* word : auxiliary_words) words[word].auxiliary = true;
  for (const auto* word : numeral_words) words[word].numeral = true;
  for (std::size_t m = 0; m < month_words.size(); ++m) words[month_words[m]].month = static_cast<std::uint8_t>(m + 1);
  std::uint16_t country = 1;
  for (const std::string_view word : country_words) {
    if (word.empty()) {
      ++country;
    } else {
      words[word].country = country;
    }
  }
  return words;
}

}  // namespace detail

/// What the lexicon knows of a case-folded word, or of two words with one space between them (countries only).
/// O(length).
inline word_traits traits_of(std::string_view folded) {
  static const auto lexicon = detail::make_lexicon();
  const auto found = lexicon.find(folded);
  return found == lexicon.end() ? word_traits{} : found->second;
}

}  // namespace dro::models

#endif
