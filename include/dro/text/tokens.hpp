// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_TOKENS_HPP
#define DRO_TEXT_TOKENS_HPP

/// \file
/// Text as a sequence of numbered words. Needs utf8proc.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <utf8proc.h>

#include <dro/error.hpp>

namespace dro::text {

/// Number of a word in a `vocabulary`.
using word_id = std::uint32_t;

/// String <-> number. Numbers are dense from 0 in the order in which words were first added.
class vocabulary {
 public:
  /// Number of `word`, a new one if it was not there. Amortised O(length).
  word_id add(std::string_view word) {
    if (const auto found = ids_.find(word); found != ids_.end()) return found->second;
    const auto id = static_cast<word_id>(words_.size());
    words_.emplace_back(word);
    ids_.emplace(words_.back(), id);
    return id;
  }

  /// Number of `word`, nullopt if it was never added. O(length).
  [[nodiscard]] std::optional<word_id> find(std::string_view word) const {
    const auto found = ids_.find(word);
    return found == ids_.end() ? std::nullopt : std::optional<word_id>(found->second);
  }

  /// The word with number `id`, which must be below `size()`. The reference holds until the next `add`.
  [[nodiscard]] const std::string& operator[](word_id id) const { return words_[id]; }

  /// How many distinct words were added.
  [[nodiscard]] std::size_t size() const noexcept { return words_.size(); }

 private:
  struct hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view word) const noexcept { return std::hash<std::string_view>{}(word); }
  };
  std::unordered_map<std::string, word_id, hash, std::equal_to<>> ids_;
  std::vector<std::string> words_;
};

enum class token_kind : std::uint8_t {
  word,        ///< begins with a letter or a mark, or is a possessive "'s"
  number,      ///< begins with a digit: "1902", "1,500", "3.14", "3rd"
  punctuation  ///< one code point that is none of the above and not space: ",", "$", "–"
};

/// One token of a text.
struct token {
  std::uint32_t begin;  ///< first byte in the text
  std::uint32_t end;    ///< one past the last byte
  word_id word;         ///< number of the case-folded form
  token_kind kind;
  bool capitalised;     ///< the first code point is upper or title case
  bool sentence_start;  ///< up to and including the first word or number of a sentence
  friend bool operator==(const token&, const token&) = default;
};

namespace detail {

enum class char_class : std::uint8_t { space, format, mark, letter, digit, other };

struct code_point {
  std::int32_t value;  ///< -1 for a byte that is not UTF-8
  std::uint32_t length;
  char_class kind;
  bool upper;
};

inline char_class classify(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return char_class::letter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return char_class::mark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return char_class::digit;
    case UTF8PROC_CATEGORY_CF:
      return char_class::format;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
      return char_class::space;
    default:
      return char_class::other;
  }
}

/// The code point at byte `at` < text.size(); a byte that does not begin one is `other`, of length 1.
inline code_point decode(std::string_view text, std::size_t at) {
  utf8proc_int32_t value = -1;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                                       static_cast<utf8proc_ssize_t>(text.size() - at), &value);
  if (length <= 0) return {-1, 1, char_class::other, false};
  const auto category = utf8proc_category(value);
  return {value, static_cast<std::uint32_t>(length), classify(category),
          category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT};
}

/// What `decode` gives, and a space behind the end of the text.
inline code_point decode_or_space(std::string_view text, std::size_t at) {
  return at < text.size() ? decode(text, at) : code_point{' ', 0, char_class::space, false};
}

inline bool begins_word(char_class kind) {
  return kind == char_class::letter || kind == char_class::digit || kind == char_class::mark;
}
inline bool continues_word(char_class kind) { return begins_word(kind) || kind == char_class::format; }
inline bool is_apostrophe(std::int32_t value) { return value == '\'' || value == 0x2019; }

/// End of the possessive "'s" at byte `at`; `at` itself if there is none.
inline std::size_t possessive_end(std::string_view text, std::size_t at) {
  const auto apostrophe = decode_or_space(text, at);
  if (!is_apostrophe(apostrophe.value)) return at;
  const auto s = decode_or_space(text, at + apostrophe.length);
  if (s.value != 's' && s.value != 'S') return at;
  const auto end = at + apostrophe.length + s.length;
  return continues_word(decode_or_space(text, end).kind) ? at : end;
}

/// End of at least two single letters with periods between them ("U.S.", "U.S"); `begin` itself if there are none.
inline std::size_t initials_end(std::string_view text, std::size_t begin) {
  auto end = begin;
  for (int letters = 1;; ++letters) {
    const auto letter = decode_or_space(text, end);
    const auto after = end + letter.length;
    const auto next = decode_or_space(text, after);
    if (letter.kind != char_class::letter || continues_word(next.kind)) return letters > 2 ? end : begin;
    if (next.value != '.') return letters > 1 ? after : begin;
    end = after + 1;
  }
}

/// End of the word or number that begins at `begin`.
inline std::size_t word_end(std::string_view text, std::size_t begin) {
  if (const auto end = initials_end(text, begin); end != begin) return end;
  auto end = begin;
  auto last = char_class::letter;
  while (end < text.size()) {
    auto c = decode(text, end);
    if (!continues_word(c.kind)) {
      const auto next = decode_or_space(text, end + c.length);
      const bool inner =
          is_apostrophe(c.value)
              ? last == char_class::letter && next.kind == char_class::letter && possessive_end(text, end) == end
              : (c.value == '.' || c.value == ',') && last == char_class::digit && next.kind == char_class::digit;
      if (!inner) break;
      end += c.length;
      c = next;
    }
    if (c.kind == char_class::letter || c.kind == char_class::digit) last = c.kind;
    end += c.length;
  }
  return end;
}

/// Appends the folded form of a token to `out`.
inline void fold(std::string_view bytes, std::string& out) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::all_of(bytes.begin(), bytes.end(), is_ascii)) {
    std::transform(bytes.begin(), bytes.end(), std::back_inserter(out),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return;
  }
  utf8proc_uint8_t* folded = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(bytes.data()),
                                   static_cast<utf8proc_ssize_t>(bytes.size()), &folded,
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT |
                                                                  UTF8PROC_CASEFOLD | UTF8PROC_IGNORE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(folded, &std::free);
  if (length < 0) {  // not UTF-8: the bytes stand for themselves
    out.append(bytes);
    return;
  }
  const std::string_view view(reinterpret_cast<const char*>(folded), static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < view.size();) {
    const auto c = decode(view, i);
    if (is_apostrophe(c.value)) {
      out.push_back('\'');
    } else {
      out.append(view.substr(i, c.length));
    }
    i += c.length;
  }
}

/// Whether a period behind the folded word `word` belongs to it: an initial or a common abbreviation.
inline bool takes_period(std::string_view word) {
  static constexpr std::array<std::string_view, 30> abbreviations{
      "adm", "bros", "capt", "co",  "col", "corp", "dr", "etc",  "ft",  "gen", "gov", "hon", "inc", "jr",  "lt",
      "ltd", "maj",  "mr",   "mrs", "ms",  "mt",   "ph", "prof", "rev", "sen", "sgt", "sr",  "st",  "vol", "vs"};
  if (word.empty()) return false;
  const auto first = decode(word, 0);
  return (first.kind == char_class::letter && first.length == word.size()) ||
         std::binary_search(abbreviations.begin(), abbreviations.end(), word);
}

}  // namespace detail

/// Splits a text into words, numbers and punctuation, and numbers their case-folded forms in `words`.
///
/// - A word or number is a run of letters, marks and digits (Unicode categories L, M, N); format characters (Cf, such
///   as the soft hyphen) continue it. Its kind follows from its first code point. Scripts written without spaces are
///   not segmented.
/// - An apostrophe (' or ’) between letters is inside the word ("O'Brien", "don't"), except in a possessive "'s", which
///   is a word of its own so that a name is the same word with and without it. A period or comma between digits is
///   inside the number. Hyphens and dashes split.
/// - At least two single letters with periods between them are one word, its last period included ("U.S.", form "u.s").
/// - Everything else but space, control and format characters is punctuation, one token a code point. A byte that is
///   not UTF-8 is punctuation, too.
/// - Form: Unicode case folding under NFKC (ignorable code points dropped, ’ as '); diacritics are kept.
/// - A sentence begins with the text and behind ".", "!", "?" or "。", but not where the period follows a single letter
///   or an abbreviation such as "Mr". Quotation marks in between belong to the new sentence.
///
/// An empty text has no tokens. Throws `shape_error` if the text has 2^32 bytes or more. O(bytes).
inline std::vector<token> tokenise(std::string_view utf8, vocabulary& words) {
  if (utf8.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw shape_error("tokenise: a text of " + std::to_string(utf8.size()) + " bytes, the most is 2^32 - 1");
  }
  std::vector<token> tokens;
  tokens.reserve(utf8.size() / 5);
  std::string form;
  bool sentence_start = true;
  for (std::size_t begin = 0; begin < utf8.size();) {
    const auto first = detail::decode(utf8, begin);
    if (first.kind == detail::char_class::space || first.kind == detail::char_class::format) {
      begin += first.length;
      continue;
    }
    auto kind = token_kind::punctuation;
    auto end = begin + first.length;
    if (detail::begins_word(first.kind)) {
      kind = first.kind == detail::char_class::digit ? token_kind::number : token_kind::word;
      end = detail::word_end(utf8, begin);
    } else if (!tokens.empty() && tokens.back().end == begin && tokens.back().kind != token_kind::punctuation) {
      if (const auto possessive = detail::possessive_end(utf8, begin); possessive != begin) {
        kind = token_kind::word;
        end = possessive;
      }
    }
    auto bytes = utf8.substr(begin, end - begin);
    if (kind == token_kind::word && bytes.back() == '.') bytes.remove_suffix(1);
    form.clear();
    detail::fold(bytes, form);
    const bool ends_sentence =
        kind == token_kind::punctuation && (form == "!" || form == "?" || form == "。" ||
                                            (form == "." && (tokens.empty() || tokens.back().end != begin ||
                                                             !detail::takes_period(words[tokens.back().word]))));
    tokens.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end), words.add(form), kind,
                      first.upper, sentence_start});
    if (ends_sentence) {
      sentence_start = true;
    } else if (kind != token_kind::punctuation) {
      sentence_start = false;
    }
    begin = end;
  }
  return tokens;
}

}  // namespace dro::text

#endif
