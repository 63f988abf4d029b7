// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_NFC_HPP
#define DRO_TEXT_NFC_HPP

/// \file
/// Unicode's composed form. Needs utf8proc.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include <utf8proc.h>

namespace dro::text {

/// The text in Normalization Form C (Unicode Standard Annex 15): "e" and a combining acute become "é".
///
/// \param text any bytes. One that is not UTF-8 stays as it is, and what stands on its two sides does not interact.
/// \throws std::bad_alloc. Text of ASCII alone is copied as it is. O(bytes).
[[nodiscard]] inline std::string nfc(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    return std::string(text);
  }
  const auto* const bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  std::string composed;
  composed.reserve(text.size());
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = begin;
    for (utf8proc_ssize_t length = 1; end < text.size() && length > 0; end += static_cast<std::size_t>(length)) {
      utf8proc_int32_t ignored = -1;
      length = std::max<utf8proc_ssize_t>(
          0, utf8proc_iterate(bytes + end, static_cast<utf8proc_ssize_t>(text.size() - end), &ignored));
    }
    utf8proc_uint8_t* mapped = nullptr;
    const auto size = utf8proc_map(bytes + begin, static_cast<utf8proc_ssize_t>(end - begin), &mapped,
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
    if (size < 0) throw std::bad_alloc();  // the stretch is valid UTF-8, so nothing else can be wrong
    composed.append(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(size));
    if (end < text.size()) composed.push_back(text[end++]);
    begin = end;
  }
  return composed;
}

}  // namespace dro::text

#endif
