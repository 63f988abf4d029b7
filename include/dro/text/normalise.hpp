// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_NORMALISE_HPP
#define DRO_TEXT_NORMALISE_HPP

/// \file
/// The form in which answers are compared: the normalisation of the SQuAD and KILT evaluations.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <utf8proc.h>

namespace dro::text {

namespace detail {

/// What a code point means to the normalisation.
enum class character_kind : std::uint8_t {
  word,         ///< letters and digits: what Python's `\w` matches, less the underscore, which is punctuation here
  space,        ///< what Python's `str.split()` splits at
  punctuation,  ///< Python's `string.punctuation`, which is ASCII only
  other,        ///< everything else; it ends a word and stays
};

[[nodiscard]] constexpr character_kind ascii_kind(unsigned char c) noexcept {
  if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) {
    return character_kind::word;
  }
  if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F)) {
    return character_kind::space;
  }
  return c > ' ' && c < 0x7F ? character_kind::punctuation : character_kind::other;
}

inline constexpr std::array<character_kind, 128> ascii_kinds = [] {
  std::array<character_kind, 128> kinds{};
  for (std::size_t c = 0; c < kinds.size(); ++c) {
    kinds[c] = ascii_kind(static_cast<unsigned char>(c));
  }
  return kinds;
}();

[[nodiscard]] inline character_kind unicode_kind(utf8proc_int32_t code_point) noexcept {
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return character_kind::word;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return character_kind::space;
    default:
      return code_point == 0x85 ? character_kind::space : character_kind::other;
  }
}

/// Takes lower-cased code points one by one and keeps the normalised text built so far.
class answer_builder {
 public:
  explicit answer_builder(std::size_t size_hint) { text_.reserve(size_hint); }

  void append(char ascii, character_kind kind) {
    if (makes_text(kind)) {
      text_.push_back(ascii);
    }
  }

  void append(std::string_view code_point, character_kind kind) {
    if (makes_text(kind)) {
      text_.append(code_point);
    }
  }

  [[nodiscard]] std::string finish() && {
    end_word();
    if (!text_.empty() && text_.back() == ' ') {
      text_.pop_back();
    }
    return std::move(text_);
  }

 private:
  /// Makes ready for a character of that kind; whether it then belongs into the text.
  [[nodiscard]] bool makes_text(character_kind kind) {
    if (kind == character_kind::punctuation) {
      return false;
    }
    if (kind != character_kind::word) {
      end_word();
    }
    if (kind == character_kind::space) {
      space_pending_ = true;
      return false;
    }
    if (space_pending_) {
      put_space();
    }
    if (kind == character_kind::word && !in_word_) {
      in_word_ = true;
      word_begin_ = text_.size();
    }
    return true;
  }

  void end_word() {
    if (!in_word_) {
      return;
    }
    in_word_ = false;
    const std::string_view word = std::string_view{text_}.substr(word_begin_);
    if (word == "a" || word == "an" || word == "the") {
      text_.resize(word_begin_);
      space_pending_ = true;
    }
  }

  void put_space() {
    space_pending_ = false;
    if (!text_.empty() && text_.back() != ' ') {
      text_.push_back(' ');
    }
  }

  std::string text_;
  std::size_t word_begin_ = 0;
  bool in_word_ = false;
  bool space_pending_ = false;
};

}  // namespace detail

/// The form of an answer that exact match and F1 compare: lower case, no ASCII punctuation, no English articles, single
/// spaces. The steps and their order are those of SQuAD's evaluation script (Rajpurkar et al. 2016), which HotpotQA
/// and KILT (Petroni et al. 2021) took over:
///
/// 1. lower case, for all of Unicode;
/// 2. the 32 characters of ASCII punctuation deleted, not replaced: `U.S.` becomes `us`, `well-known` `wellknown`;
/// 3. the words `a`, `an`, `the` replaced by a space, a word being a maximal run of letters and digits of any script;
/// 4. runs of white space, Unicode's included, folded to one space; none at the ends.
///
/// As in that script, everything else in Unicode stays: accents are not stripped, composed and decomposed letters
/// differ, and quotation marks and dashes outside ASCII are kept (they end a word, so `the–` loses its article).
/// One difference: a final Greek sigma is lower-cased without looking at its neighbours, to σ.
///
/// \param utf8 any text. Bytes that are not UTF-8 are kept as they are and end a word.
/// \returns valid UTF-8 where the input is; empty for text that consists of articles, punctuation and space.
///
/// Cost: one pass, O(bytes), one allocation.
[[nodiscard]] inline std::string normalise_answer(std::string_view utf8) {
  detail::answer_builder builder(utf8.size());
  std::size_t at = 0;
  while (at < utf8.size()) {
    const auto byte = static_cast<unsigned char>(utf8[at]);
    if (byte < 0x80) {
      const char lower = static_cast<char>(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
      builder.append(lower, detail::ascii_kinds[byte]);
      ++at;
      continue;
    }
    utf8proc_int32_t code_point = -1;
    const utf8proc_ssize_t length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(utf8.data() + at),
                                                     static_cast<utf8proc_ssize_t>(utf8.size() - at), &code_point);
    if (length <= 0) {
      builder.append(utf8.substr(at, 1), detail::character_kind::other);
      ++at;
      continue;
    }
    at += static_cast<std::size_t>(length);
    if (code_point == 0x130) {  // İ is the one letter whose lower case is two code points: i and a combining dot
      builder.append("i", detail::character_kind::word);
      builder.append("\u0307", detail::character_kind::other);
      continue;
    }
    const utf8proc_int32_t lower = utf8proc_tolower(code_point);
    std::array<utf8proc_uint8_t, 4> bytes{};
    const auto written = static_cast<std::size_t>(utf8proc_encode_char(lower, bytes.data()));
    builder.append({reinterpret_cast<const char*>(bytes.data()), written}, detail::unicode_kind(lower));
  }
  return std::move(builder).finish();
}

}  // namespace dro::text

#endif
