// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_PRE_TOKENIZE_HPP
#define DRO_TEXT_PRE_TOKENIZE_HPP

/// \file
/// Text cut into the pieces within which byte pairs are merged. Needs utf8proc.

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include <utf8proc.h>

namespace dro::text {

/// The ways to cut a text. Each covers all of it, so pieces one after the other are the text. The regular expressions
/// are the published ones of the models named, taken over Unicode; L, N are the general categories, \s is White_Space.
enum class split_pattern : std::uint8_t {
  /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` (Radford et al. 2019)
  gpt2,
  /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
  /// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  /// of Llama 3 and, as cl100k, of GPT-4
  llama3,
  /// as `llama3` with `\p{N}` for `\p{N}{1,3}`: each digit alone
  qwen2,
  /// `\p{N}` and what is between
  digits,
  /// `\p{N}+` and what is between
  digit_runs,
};

namespace detail {

enum class split_kind : std::uint8_t { letter, number, newline, space, other, end };

/// What the patterns ask of a character; `newline` is \r or \n, `space` the rest of \s, `end` is behind the text.
struct split_character {
  std::size_t length;
  split_kind kind;
};

inline constexpr std::array<split_kind, 128> ascii_split_kinds = [] {
  std::array<split_kind, 128> kinds{};
  for (std::size_t c = 0; c < kinds.size(); ++c) {
    kinds[c] = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ? split_kind::letter
               : c >= '0' && c <= '9'                           ? split_kind::number
               : c == '\n' || c == '\r'                         ? split_kind::newline
               : c == ' ' || (c >= '\t' && c <= '\r')           ? split_kind::space
                                                                : split_kind::other;
  }
  return kinds;
}();

inline split_kind split_kind_of(utf8proc_int32_t code_point) {
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return split_kind::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return split_kind::number;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return split_kind::space;
    default:
      return code_point == 0x85 ? split_kind::space : split_kind::other;
  }
}

/// The character at byte `at`; a byte that is not UTF-8 is `other`, of length 1.
inline split_character split_character_at(std::string_view text, std::size_t at) {
  if (at >= text.size()) return {0, split_kind::end};
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {1, ascii_split_kinds[byte]};
  utf8proc_int32_t code_point = -1;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                                       static_cast<utf8proc_ssize_t>(text.size() - at), &code_point);
  if (length <= 0) return {1, split_kind::other};
  return {static_cast<std::size_t>(length), split_kind_of(code_point)};
}

inline bool is_white_space(split_kind kind) { return kind == split_kind::space || kind == split_kind::newline; }

/// End of the run of at most `most` characters from byte `at` on whose kind satisfies `belongs`.
template <class Belongs>
std::size_t run_end(std::string_view text, std::size_t at, Belongs belongs,
                    std::size_t most = std::numeric_limits<std::size_t>::max()) {
  for (std::size_t count = 0; count < most; ++count) {
    const auto c = split_character_at(text, at);
    if (c.kind == split_kind::end || !belongs(c.kind)) break;
    at += c.length;
  }
  return at;
}

inline std::size_t run_end(std::string_view text, std::size_t at, split_kind kind,
                           std::size_t most = std::numeric_limits<std::size_t>::max()) {
  return run_end(
      text, at, [kind](split_kind k) { return k == kind; }, most);
}

/// Length of the contraction (`'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`) that `rest` begins with, 0 without one.
inline std::size_t contraction_length(std::string_view rest, bool any_case) {
  if (rest.empty() || rest.front() != '\'') return 0;
  const auto letter = [&](std::size_t at) {
    const char c = at < rest.size() ? rest[at] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char a = letter(1);
  const char b = letter(2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
  if (any_case && rest.substr(1).starts_with("\u017F")) return 3;  // the long s, the one other letter that folds to s
  return 0;
}

/// `\s+(?!\S)|\s+`, and where `lines` is set `\s*[\r\n]+` before it: white space up to its last line break, or all but
/// the character in front of what follows.
inline std::size_t white_space_end(std::string_view text, std::size_t begin, bool lines) {
  std::size_t last = begin;  // where the last character of the run begins
  std::size_t last_line_end = begin;
  std::size_t end = begin;
  for (;;) {
    const auto c = split_character_at(text, end);
    if (!is_white_space(c.kind)) break;
    last = end;
    end += c.length;
    if (c.kind == split_kind::newline) last_line_end = end;
  }
  if (lines && last_line_end > begin) return last_line_end;
  return end == text.size() || last == begin ? end : last;
}

inline std::size_t gpt2_end(std::string_view text, std::size_t begin) {
  if (const auto length = contraction_length(text.substr(begin), false)) return begin + length;
  const std::size_t body = text[begin] == ' ' ? begin + 1 : begin;
  const auto kind = split_character_at(text, body).kind;
  if (kind == split_kind::end || is_white_space(kind)) return white_space_end(text, begin, false);
  return run_end(text, body, kind);
}

inline std::size_t llama3_end(std::string_view text, std::size_t begin, std::size_t longest_number) {
  if (const auto length = contraction_length(text.substr(begin), true)) return begin + length;
  const auto first = split_character_at(text, begin);
  if (first.kind == split_kind::letter) return run_end(text, begin, split_kind::letter);
  if (first.kind == split_kind::number) return run_end(text, begin, split_kind::number, longest_number);
  const std::size_t after = begin + first.length;
  const auto second = split_character_at(text, after).kind;
  if (first.kind != split_kind::newline && second == split_kind::letter) return run_end(text, after, second);
  if (first.kind == split_kind::other || (text[begin] == ' ' && second == split_kind::other)) {
    return run_end(text, run_end(text, after, split_kind::other), split_kind::newline);
  }
  return white_space_end(text, begin, true);
}

inline std::size_t digits_end(std::string_view text, std::size_t begin, std::size_t longest_number) {
  if (split_character_at(text, begin).kind == split_kind::number) {
    return run_end(text, begin, split_kind::number, longest_number);
  }
  return run_end(text, begin, [](split_kind kind) { return kind != split_kind::number; });
}

}  // namespace detail

/// End of the piece that begins at byte `begin` < text.size(); larger than `begin`. Bytes that are not UTF-8 count as
/// characters that are neither letter nor number nor space. O(piece), plus the white space that follows a piece of it.
[[nodiscard]] inline std::size_t piece_end(std::string_view text, std::size_t begin, split_pattern pattern) {
  constexpr auto any_number = std::numeric_limits<std::size_t>::max();
  switch (pattern) {
    case split_pattern::gpt2:
      return detail::gpt2_end(text, begin);
    case split_pattern::llama3:
      return detail::llama3_end(text, begin, 3);
    case split_pattern::qwen2:
      return detail::llama3_end(text, begin, 1);
    case split_pattern::digits:
      return detail::digits_end(text, begin, 1);
    case split_pattern::digit_runs:
      return detail::digits_end(text, begin, any_number);
  }
  return text.size();
}

/// Calls take(piece) for the pieces of a text in order, never with an empty one. The first pattern cuts the text, the
/// next each of its pieces, and so on; without patterns the text is one piece. O(bytes · patterns).
template <class Take>
void for_each_piece(std::string_view text, std::span<const split_pattern> patterns, Take&& take) {
  if (patterns.empty()) {
    if (!text.empty()) take(text);
    return;
  }
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = piece_end(text, begin, patterns.front());
    for_each_piece(text.substr(begin, end - begin), patterns.subspan(1), take);
    begin = end;
  }
}

}  // namespace dro::text

#endif
