// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_BYTE_ALPHABET_HPP
#define DRO_TEXT_BYTE_ALPHABET_HPP

/// \file
/// Bytes written as printable characters, so that any byte string can stand in a JSON file. Needs utf8proc.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <utf8proc.h>

namespace dro::text {

namespace detail {

/// The character of each byte (Radford et al. 2019, the released GPT-2 code): the printable ones of Latin-1 for
/// themselves, the other 68 in order U+0100 ... U+0143.
inline constexpr std::array<std::uint16_t, 256> byte_characters = [] {
  std::array<std::uint16_t, 256> characters{};
  std::uint16_t next = 0x100;
  for (std::uint16_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    characters[byte] = printable ? byte : next++;
  }
  return characters;
}();

/// The inverse: the byte of each character below U+0144, -1 for those that stand for none.
inline constexpr std::array<std::int16_t, 0x144> character_bytes = [] {
  std::array<std::int16_t, 0x144> bytes{};
  bytes.fill(-1);
  for (std::size_t byte = 0; byte < 256; ++byte) bytes[byte_characters[byte]] = static_cast<std::int16_t>(byte);
  return bytes;
}();

}  // namespace detail

/// Each byte as a character of the byte-level alphabet, in UTF-8: "a b\n" becomes "aĠbĊ". Injective; empty for empty
/// input; at most twice as long. O(bytes).
[[nodiscard]] inline std::string to_byte_alphabet(std::string_view bytes) {
  std::string characters;
  characters.reserve(bytes.size());
  for (const char c : bytes) {
    const unsigned character = detail::byte_characters[static_cast<unsigned char>(c)];
    if (character < 0x80) {
      characters.push_back(static_cast<char>(character));
    } else {
      characters.push_back(static_cast<char>(0xC0U | (character >> 6U)));
      characters.push_back(static_cast<char>(0x80U | (character & 0x3FU)));
    }
  }
  return characters;
}

/// The bytes that `to_byte_alphabet` writes as `characters`; nullopt where one of them stands for no byte (a space, any
/// character from U+0144 on) or the text is not UTF-8. O(bytes).
[[nodiscard]] inline std::optional<std::string> from_byte_alphabet(std::string_view characters) {
  std::string bytes;
  bytes.reserve(characters.size());
  for (std::size_t at = 0; at < characters.size();) {
    utf8proc_int32_t character = -1;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(characters.data()) + at,
                                         static_cast<utf8proc_ssize_t>(characters.size() - at), &character);
    if (length <= 0 || character >= static_cast<std::int32_t>(detail::character_bytes.size())) return std::nullopt;
    const int byte = detail::character_bytes[static_cast<std::size_t>(character)];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += static_cast<std::size_t>(length);
  }
  return bytes;
}

}  // namespace dro::text

#endif
