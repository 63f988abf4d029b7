// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_READER_MENTIONS_HPP
#define DRO_MODELS_READER_MENTIONS_HPP

/// \file
/// Spans of a text that could be the answer to a question.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include <dro/models/reader_lexicon.hpp>
#include <dro/text/tokens.hpp>

namespace dro::models {

/// What a mention looks like. Of several that fit a span the first in this order is taken.
enum class mention_kind : std::uint8_t {
  full_date,   ///< day, month and year
  part_date,   ///< month and year, or day and month
  year,        ///< a number from 1000 to 2100
  year_range,  ///< "1914–1918"
  number,      ///< digits or a numeral
  quantity,    ///< a number and what is counted: "60 million people", "$4"
  country,     ///< a country or its adjective
  quoted,      ///< what stands between quotation marks
  place,       ///< names with a comma between: "Austin, Texas"
  name1,       ///< capitalised run of one word
  name2,       ///< of two words
  name3,       ///< of three words
  name_long,   ///< of more words, or with "of", "the", "von" inside
  name_part,   ///< proper part of a capitalised run
  word,        ///< one word without a capital
  phrase,      ///< several words without a capital
  mixed,       ///< some words with and some without
  title,       ///< a document's title, or its part before a bracket or comma
  option,      ///< one of the two options of the question
  yes,
  no
};
inline constexpr std::size_t mention_kinds = 21;

/// Tokens [first, last) of one text.
struct mention {
  std::uint32_t first;
  std::uint32_t last;
  mention_kind kind;
  friend bool operator==(const mention&, const mention&) = default;
};

/// A calendar day; month and day are 0 where the text does not say.
struct calendar_day {
  int year = 0;
  int month = 0;
  int day = 0;

  /// Negative, 0 or positive as `a` is before, indistinguishable from or after `b`, compared as far as both say.
  friend int difference(const calendar_day& a, const calendar_day& b) {
    if (a.year != b.year) return a.year - b.year;
    if (a.month == 0 || b.month == 0 || a.month != b.month) return a.month == 0 || b.month == 0 ? 0 : a.month - b.month;
    return a.day == 0 || b.day == 0 ? 0 : a.day - b.day;
  }
};

namespace detail {

/// Value of the leading digits of a number token, commas skipped; -1 if there are more than nine.
inline int leading_integer(std::string_view form) {
  int value = 0;
  int digits = 0;
  for (const char c : form) {
    if (c == ',') continue;
    if (c < '0' || c > '9') break;
    if (++digits > 9) return -1;
    value = 10 * value + (c - '0');
  }
  return value;
}

}  // namespace detail

/// Finds the mentions of texts: capitalised runs and their parts, dates, numbers with what they count, quotations and
/// short phrases. It prefers to find too much: which of them answers a question is for the reader to learn.
class mention_finder {
 public:
  /// `words` numbers the words of the tokens, traits[w] belongs to word w. Both must outlive the finder.
  mention_finder(const text::vocabulary& words, std::span<const word_traits> traits) : words_(words), traits_(traits) {}

  /// Mentions among the tokens of one text, ascending by first and last token, each span once. Phrases have at most
  /// four words and neither begin nor end with a function word; names at most twelve words. O(tokens · log(tokens)).
  std::vector<mention> find(std::span<const text::token> tokens) {
    tokens_ = tokens;
    found_.clear();
    find_dates_and_numbers();
    find_names();
    find_quotations();
    find_phrases();
    std::sort(found_.begin(), found_.end(), [](const mention& a, const mention& b) {
      return std::tie(a.first, a.last, a.kind) < std::tie(b.first, b.last, b.kind);
    });
    const auto same_span = [](const mention& a, const mention& b) { return a.first == b.first && a.last == b.last; };
    found_.erase(std::unique(found_.begin(), found_.end(), same_span), found_.end());
    return found_;
  }

  /// The day that a mention of kind full_date, part_date, year or year_range (then its first year) names.
  calendar_day day_of(std::span<const text::token> tokens, const mention& m) const {
    calendar_day day;
    for (auto t = m.first; t < m.last; ++t) {
      if (const int month = traits_[tokens[t].word].month; month != 0) {
        day.month = month;
      } else if (tokens[t].kind == text::token_kind::number) {
        const int value = detail::leading_integer(words_[tokens[t].word]);
        if (value > 31) {
          if (day.year == 0) day.year = value;
        } else {
          day.day = value;
        }
      }
    }
    return day;
  }

 private:
  using size_type = std::uint32_t;
  static constexpr size_type longest_phrase = 4;
  static constexpr size_type longest_name = 12;

  size_type size() const { return static_cast<size_type>(tokens_.size()); }
  const word_traits& traits(size_type t) const { return traits_[tokens_[t].word]; }
  std::string_view form(size_type t) const { return words_[tokens_[t].word]; }
  bool is_word(size_type t) const { return t < size() && tokens_[t].kind == text::token_kind::word; }
  bool is_number(size_type t) const { return t < size() && tokens_[t].kind == text::token_kind::number; }
  bool is(size_type t, std::string_view what) const { return t < size() && form(t) == what; }
  bool touches_next(size_type t) const { return t + 1 < size() && tokens_[t].end == tokens_[t + 1].begin; }
  bool is_dash(size_type t) const {
    return t < size() && (form(t) == "-" || form(t) == "–" || form(t) == "—" || form(t) == "−");
  }
  /// A hyphen with no space on either side.
  bool is_inner_hyphen(size_type t) const {
    return t > 0 && t + 1 < size() && is_dash(t) && touches_next(t - 1) && touches_next(t);
  }
  bool is_year(size_type t) const {
    if (!is_number(t) || form(t).size() != 4) return false;
    const auto digits = form(t);
    if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) return false;
    const int value = detail::leading_integer(digits);
    return value >= 1000 && value <= 2100;
  }
  bool is_day(size_type t) const {
    return is_number(t) && form(t).size() <= 4 && detail::leading_integer(form(t)) >= 1 &&
           detail::leading_integer(form(t)) <= 31;
  }
  bool is_month(size_type t) const { return is_word(t) && traits(t).month != 0 && tokens_[t].capitalised; }
  /// A capital that means a name: not the first word of a sentence if that is a function word.
  bool is_capital(size_type t) const {
    return is_word(t) && tokens_[t].capitalised && !(traits(t).function_word && tokens_[t].sentence_start);
  }
  void add(size_type first, size_type last, mention_kind kind) { found_.push_back({first, last, kind}); }

  void find_dates_and_numbers() {
    for (size_type t = 0; t < size(); ++t) {
      if (is_day(t) && is_month(t + 1)) {
        const size_type year = is(t + 2, ",") ? t + 3 : t + 2;
        if (is_year(year)) add(t, year + 1, mention_kind::full_date);
        add(t, t + 2, mention_kind::part_date);
      } else if (is_month(t)) {
        const size_type comma = is(t + 2, ",") ? t + 3 : t + 2;
        if (is_day(t + 1) && is_year(comma)) add(t, comma + 1, mention_kind::full_date);
        if (is_day(t + 1)) add(t, t + 2, mention_kind::part_date);
        if (is_year(t + 1)) add(t, t + 2, mention_kind::part_date);
      }
      if (is_year(t)) {
        add(t, t + 1, mention_kind::year);
        if (is_dash(t + 1) && is_number(t + 2)) add(t, t + 3, mention_kind::year_range);
        if (is(t + 1, "to") && is_year(t + 2)) add(t, t + 3, mention_kind::year_range);
      } else if (is_number(t) || (is_word(t) && traits(t).numeral)) {
        add_number(t);
      }
    }
  }

  void add_number(size_type t) {
    const bool currency = t > 0 && touches_next(t - 1) && (is(t - 1, "$") || is(t - 1, "£") || is(t - 1, "€"));
    size_type end = t + 1;
    add(t, end, mention_kind::number);
    if (currency) add(t - 1, end, mention_kind::quantity);
    while (is_word(end) && traits(end).numeral) ++end;
    if (is(end, "%")) ++end;
    if (end > t + 1) add(currency ? t - 1 : t, end, mention_kind::quantity);
    for (size_type unit = end; unit < end + 3; ++unit) {  // what is counted: up to three words
      if (is_inner_hyphen(unit)) continue;
      if (!is_word(unit) || (traits(unit).function_word && !is(unit, "of") && !is(unit, "and"))) break;
      if (!traits(unit).function_word) add(currency ? t - 1 : t, unit + 1, mention_kind::quantity);
    }
  }

  void find_names() {
    for (size_type t = 0; t < size();) {
      if (!is_capital(t)) {
        ++t;
        continue;
      }
      const size_type end = name_end(t);
      add_name(t, end);
      for (size_type first = t; first < end; ++first) {  // "Mayor of Austin, Texas" has "Austin, Texas", too
        if (tokens_[first].capitalised && (first == t || !tokens_[first - 1].capitalised)) add_places(first, end);
      }
      t = end;
    }
  }

  /// The name [first, end) with one or two more behind commas.
  void add_places(size_type first, size_type end) {
    for (int more = 0; more < 2 && is(end, ",") && end + 1 < size() && is_capital(end + 1); ++more) {
      end = name_end(end + 1);
      add(first, end, mention_kind::place);
    }
  }

  /// One past the capitalised run that begins at t: capitals, numbers, and inner words that a capital follows.
  size_type name_end(size_type t) const {
    size_type end = t + 1;
    while (end < size() && end - t < longest_name) {
      size_type next = end;
      while (next < size() && next < end + 3 &&
             ((is_word(next) && traits(next).name_inner && !tokens_[next].capitalised) || is_inner_hyphen(next) ||
              is(next, "&") || (is(next, ".") && touches_next(next - 1)))) {
        if (tokens_[next].sentence_start) break;
        ++next;
      }
      if (next >= size() || tokens_[next].sentence_start) break;
      const bool capital = is_word(next) && tokens_[next].capitalised;
      if (!capital && !(is_number(next) && next == end)) break;
      end = next + 1;
    }
    return end;
  }

  void add_name(size_type first, size_type last) {
    const bool inner = std::any_of(tokens_.begin() + first, tokens_.begin() + last, [this](const text::token& t) {
      return traits_[t.word].name_inner && !t.capitalised;
    });
    if (last - first == 1) {
      add(first, last, traits(first).country != 0 ? mention_kind::country : mention_kind::name1);
      return;
    }
    const auto kind = inner || last - first > 3 ? mention_kind::name_long
                      : last - first == 2       ? mention_kind::name2
                                                : mention_kind::name3;
    add(first, last, kind);
    // Parts: from every place where a name may begin to every place where it may end.
    for (size_type b = first; b < last; ++b) {
      if (!tokens_[b].capitalised || tokens_[b].kind != text::token_kind::word) continue;
      for (size_type e = b + 1; e <= last && e - b <= 6; ++e) {
        if (!tokens_[e - 1].capitalised && tokens_[e - 1].kind != text::token_kind::number) continue;
        if (e - b == 1 && traits(b).country != 0) {
          add(b, e, mention_kind::country);
        } else if (b != first || e != last) {
          add(b, e, mention_kind::name_part);
        }
      }
    }
  }

  void find_quotations() {
    size_type open = size();
    for (size_type t = 0; t < size(); ++t) {
      if (!is(t, "\"") && !is(t, "“") && !is(t, "”")) continue;
      if (open < t && t - open <= longest_name + 1 && t > open + 1) {
        add(open + 1, t, mention_kind::quoted);
        open = size();
      } else {
        open = t;
      }
    }
  }

  void find_phrases() {
    for (size_type first = 0; first < size(); ++first) {
      if (tokens_[first].kind == text::token_kind::punctuation || traits(first).function_word) continue;
      size_type words = 0;
      bool capital = false;
      bool lower = false;
      for (size_type t = first; t < size() && words < longest_phrase; ++t) {
        if (t > first && tokens_[t].sentence_start) break;
        if (is_inner_hyphen(t)) continue;
        if (tokens_[t].kind == text::token_kind::punctuation) break;
        const bool function_word = traits(t).function_word;
        if (function_word && !traits(t).name_inner) break;
        if (!(t > first && is_inner_hyphen(t - 1))) ++words;
        (tokens_[t].capitalised || tokens_[t].kind == text::token_kind::number ? capital : lower) = true;
        if (function_word) continue;
        const bool single = t == first;
        add(first, t + 1,
            single             ? mention_kind::word
            : capital && lower ? mention_kind::mixed
            : lower            ? mention_kind::phrase
                               : mention_kind::name_part);
      }
    }
  }

  const text::vocabulary& words_;
  std::span<const word_traits> traits_;
  std::span<const text::token> tokens_;
  std::vector<mention> found_;
};

}  // namespace dro::models

#endif
