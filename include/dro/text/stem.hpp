// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_STEM_HPP
#define DRO_TEXT_STEM_HPP

/// \file
/// Words without their endings. Needs libstemmer (Snowball).

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include <libstemmer.h>

#include <dro/error.hpp>

namespace dro::text {

/// A Snowball stemmer: "directed" and "directs" both become "direct" by the rules of a language (Porter 2001 for
/// English). One object serves one thread at a time.
class stemmer {
 public:
  /// `language` as Snowball names it ("english", "german", "fr"). Throws `option_error` for one it does not have.
  explicit stemmer(const std::string& language = "english") : handle_(sb_stemmer_new(language.c_str(), "UTF_8")) {
    if (!handle_) throw option_error("stemmer: no rules for the language '" + language + "'");
  }

  /// Stem of a case-folded UTF-8 word; the view holds until the next call. O(length).
  [[nodiscard]] std::string_view operator()(std::string_view word) const {
    const auto* stem =
        sb_stemmer_stem(handle_.get(), reinterpret_cast<const sb_symbol*>(word.data()), static_cast<int>(word.size()));
    return {reinterpret_cast<const char*>(stem), static_cast<std::size_t>(sb_stemmer_length(handle_.get()))};
  }

 private:
  struct release {
    void operator()(sb_stemmer* handle) const noexcept { sb_stemmer_delete(handle); }
  };
  std::unique_ptr<sb_stemmer, release> handle_;
};

}  // namespace dro::text

#endif
