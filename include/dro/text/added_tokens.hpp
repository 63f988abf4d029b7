// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_ADDED_TOKENS_HPP
#define DRO_TEXT_ADDED_TOKENS_HPP

/// \file
/// Tokens that stand beside those of the merges and are looked for in the text itself, such as "<|end_of_text|>".

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dro/error.hpp>
#include <dro/text/nfc.hpp>
#include <dro/text/pre_tokenize.hpp>

namespace dro::text {

/// Number of a token, from 0.
using token_id = std::int32_t;

/// A string that is one token wherever it stands in a text, whatever is around it.
struct added_token {
  token_id id = 0;
  std::string content;       ///< valid UTF-8, not empty
  bool special = true;       ///< steers the model: looked for only where the caller allows it, never made by merges
  bool strip_left = false;   ///< the white space in front goes with it, and is lost
  bool strip_right = false;  ///< the white space behind goes with it, and is lost
  bool composed = false;     ///< looked for in the text after the normalisation, and normalised itself
  friend bool operator==(const added_token&, const added_token&) = default;
};

namespace detail {

/// \throws option_error, beginning with `name`, where this cannot be the content of an added token.
inline void check_added_content(std::string_view content, const std::string& name) {
  constexpr std::size_t longest = 1024;
  if (content.empty()) throw option_error(name + " is empty");
  if (content.size() > longest) {
    throw option_error(name + " has " + std::to_string(content.size()) + " bytes, at most 1024");
  }
  for (std::size_t at = 0; at < content.size();) {
    utf8proc_int32_t ignored = -1;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(content.data()) + at,
                                         static_cast<utf8proc_ssize_t>(content.size() - at), &ignored);
    if (length <= 0) throw option_error(name + " is not UTF-8");
    at += static_cast<std::size_t>(length);
  }
}

/// Finds added tokens in a text: the leftmost, of several at the same place the longest, then on behind it.
class added_token_matcher {
 public:
  added_token_matcher() = default;

  /// Of `tokens` those that `belongs(token)` holds for, with their contents in Normalization Form C if `composed`.
  template <class Belongs>
  added_token_matcher(const std::vector<added_token>& tokens, Belongs belongs, bool composed) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (!belongs(tokens[i])) continue;
      entries_.emplace_back(composed ? nfc(tokens[i].content) : tokens[i].content, i);
    }
    std::sort(entries_.begin(), entries_.end());
    for (const auto& [content, token] : entries_) begins_[static_cast<unsigned char>(content.front())] = true;
  }

  /// Calls, from left to right, take_token(id) for the tokens found and take_text(part) for what is between, never with
  /// an empty part. A special token is text unless `recognise_special`. O(bytes · longest token · log tokens), and
  /// O(bytes) for text in which the tokens' first bytes do not occur.
  template <class TakeToken, class TakeText>
  void split(std::string_view text, const std::vector<added_token>& tokens, bool recognise_special,
             TakeToken&& take_token, TakeText&& take_text) const {
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
      const entry* const found = begins_[static_cast<unsigned char>(text[at])] ? longest_at(text, at) : nullptr;
      if (found == nullptr) {
        ++at;
        continue;
      }
      const added_token& token = tokens[found->second];
      std::size_t begin = at;
      std::size_t end = at + found->first.size();
      at = end;
      if (token.special && !recognise_special) continue;
      if (token.strip_left) begin = white_space_begin(text, begin);
      if (token.strip_right) end = run_end(text, end, is_white_space);
      if (begin > done) take_text(text.substr(done, begin - done));
      take_token(token.id);
      done = at = end;
    }
    if (done < text.size()) take_text(text.substr(done));
  }

 private:
  using entry = std::pair<std::string, std::size_t>;  // what to look for, and which of the added tokens it is

  /// Narrows the entries down to those that agree with the text byte by byte.
  [[nodiscard]] const entry* longest_at(std::string_view text, std::size_t at) const {
    const entry* longest = nullptr;
    auto first = entries_.begin();
    auto last = entries_.end();
    for (std::size_t length = 0; at + length <= text.size() && first != last; ++length) {
      if (first->first.size() == length) longest = &*first;
      if (at + length == text.size()) break;
      const auto wanted = static_cast<unsigned char>(text[at + length]);
      const auto byte = [length](const entry& e) {  // -1 for one that ends here: it is sorted first
        return e.first.size() == length ? -1 : static_cast<int>(static_cast<unsigned char>(e.first[length]));
      };
      first = std::partition_point(first, last, [&](const entry& e) { return byte(e) < wanted; });
      last = std::partition_point(first, last, [&](const entry& e) { return byte(e) == wanted; });
    }
    return longest;
  }

  /// Where the white space in front of byte `end` begins.
  [[nodiscard]] static std::size_t white_space_begin(std::string_view text, std::size_t end) {
    while (end > 0) {
      std::size_t last = end - 1;
      while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0U) == 0x80U) --last;
      const auto c = split_character_at(text, last);
      if (last + c.length != end || !is_white_space(c.kind)) break;
      end = last;
    }
    return end;
  }

  std::vector<entry> entries_;  // sorted
  std::array<bool, 256> begins_{};
};

}  // namespace detail

}  // namespace dro::text

#endif
