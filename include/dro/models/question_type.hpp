// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_QUESTION_TYPE_HPP
#define DRO_MODELS_QUESTION_TYPE_HPP

/// \file
/// What a question asks for, read off its words.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dro/models/reader_lexicon.hpp>
#include <dro/text/tokens.hpp>

namespace dro::models {

/// Which way a comparing question looks.
enum class comparison : std::uint8_t { none, least, most };

/// The words of a question that say what kind of answer it wants.
struct question_type {
  std::string interrogative;         ///< "who", "how many"; "" if there is none; "polar" for a yes/no question
  std::string focus;                 ///< head noun of what is asked for: "film" in "Which film ..."; may be empty
  std::string last;                  ///< last word without a capital: "born"; may be empty
  std::vector<std::string> content;  ///< words without a capital that are no function words, each once, in order
  comparison direction = comparison::none;  ///< "first", "older": least; "later", "younger": most
  std::string divider;                      ///< "or", "and": stands between the two options of a choice; else ""
  bool polar = false;                       ///< answered by yes or no

  /// Whether the answer is one of two options that the question names.
  [[nodiscard]] bool choice() const { return !divider.empty(); }
};

namespace detail {

inline constexpr std::array least_words{"first",  "earlier", "older",   "earliest",
                                        "oldest", "before",  "smaller", "fewer"};
inline constexpr std::array most_words{"later",  "younger", "latest", "youngest", "recent", "recently", "newer",
                                       "newest", "last",    "longer", "larger",   "bigger", "more",     "second"};

template <typename Words>
bool holds(const Words& words, std::string_view word) {
  return std::any_of(words.begin(), words.end(), [word](std::string_view w) { return w == word; });
}

}  // namespace detail

/// Shared key of related words: the folded word without a plural "s", cut to its first five bytes. Coarser than a
/// stemmer on purpose, so that "directed" and "director" agree. The view points into `folded`. O(1).
inline std::string_view word_stem(std::string_view folded) {
  if (folded.size() > 3 && folded.back() == 's' && folded[folded.size() - 2] != 's') folded.remove_suffix(1);
  return folded.substr(0, 5);
}

/// Reads the type of an English question from its tokens; `words` numbers their words, traits[w] belongs to word w.
/// A question without tokens has an empty type. O(tokens · content words).
inline question_type type_of_question(std::span<const text::token> tokens, const text::vocabulary& words,
                                      std::span<const word_traits> traits) {
  question_type type;
  const auto form = [&](std::size_t t) -> std::string_view { return words[tokens[t].word]; };
  const auto plain = [&](std::size_t t) {
    return tokens[t].kind == text::token_kind::word && (!tokens[t].capitalised || t == 0) &&
           !traits[tokens[t].word].function_word;
  };
  static constexpr std::array interrogatives{"who", "whom", "whose", "which", "what", "when", "where", "why", "how"};
  std::size_t asked = tokens.size();
  bool out_of = false;  // "out of A and B"
  bool pair = false;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const auto word = form(t);
    if (asked == tokens.size() && detail::holds(interrogatives, word)) asked = t;
    if (word == "or" && t > 0) type.divider = word;
    out_of |= word == "between" || (word == "of" && t > 0 && form(t - 1) == "out");
    pair |= word == "and" && !tokens[t].capitalised;
    if (type.direction == comparison::none) {
      if (detail::holds(detail::least_words, word)) type.direction = comparison::least;
      if (detail::holds(detail::most_words, word)) type.direction = comparison::most;
    }
    if (plain(t) && t > 0) {
      type.last = word;
      if (!detail::holds(type.content, word)) type.content.emplace_back(word);
    }
  }
  if (type.divider.empty() && type.direction != comparison::none && out_of && pair) type.divider = "and";
  if (!tokens.empty() && traits[tokens.front().word].auxiliary) {
    type.polar = type.divider.empty();
    type.interrogative = type.polar ? "polar" : "choice";
    asked = tokens.size();
  }
  if (asked < tokens.size()) {
    type.interrogative = form(asked);
    std::size_t t = asked + 1;
    if (type.interrogative == "how" && t < tokens.size()) {
      type.interrogative += ' ';
      type.interrogative += form(t++);
    }
    // The head noun is the last of the first run of plain words behind the question word.
    const auto skipped = [&](std::size_t at) {
      return !plain(at) && tokens[at].kind != text::token_kind::punctuation && at < asked + 6;
    };
    while (t < tokens.size() && skipped(t)) ++t;
    for (; t < tokens.size() && plain(t); ++t) type.focus = form(t);
  }
  return type;
}

}  // namespace dro::models

#endif
