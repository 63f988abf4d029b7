// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_IDF_HPP
#define DRO_TEXT_IDF_HPP

/// \file
/// How rare words are in a collection.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dro/error.hpp>
#include <dro/text/tokens.hpp>

namespace dro::text {

/// In how many of N documents each word occurs, and the inverse document frequency that follows, scaled to [0, 1].
/// Words are the case-folded words and numbers of `tokenise`.
class idf_table {
 public:
  /// No documents: every word is as rare as can be.
  idf_table() = default;

  /// The table of N = `documents` documents in which words[k] occurs in frequencies[k]: what a checkpoint restores.
  /// Throws `shape_error` if the lists differ in length, `option_error` if a word stands twice or a frequency is above
  /// N.
  idf_table(std::size_t documents, std::span<const std::string> words, std::span<const std::uint32_t> frequencies)
      : documents_(documents), frequencies_(frequencies.begin(), frequencies.end()), last_(words.size(), 0) {
    if (words.size() != frequencies.size()) {
      throw shape_error("idf_table: " + std::to_string(words.size()) + " words, " + std::to_string(frequencies.size()) +
                        " frequencies");
    }
    for (std::size_t k = 0; k < words.size(); ++k) {
      if (words_.add(words[k]) != k) throw option_error("idf_table: the word '" + words[k] + "' stands twice");
      if (frequencies[k] > documents) {
        throw option_error("idf_table: '" + words[k] + "' in " + std::to_string(frequencies[k]) + " of " +
                           std::to_string(documents) + " documents");
      }
    }
  }

  /// Counts one more document, given in parts (title and text, say); a word counts once however often it occurs.
  void add_document(std::initializer_list<std::string_view> parts) {
    ++documents_;
    for (const std::string_view part : parts) {
      for (const auto& t : tokenise(part, words_)) {
        if (words_.size() > frequencies_.size()) {
          frequencies_.resize(words_.size(), 0);
          last_.resize(words_.size(), 0);
        }
        if (t.kind == token_kind::punctuation || last_[t.word] == documents_) continue;
        last_[t.word] = documents_;
        ++frequencies_[t.word];
      }
    }
  }

  /// log((N + 1) / (n_w + 1)) / log(N + 1) for a word in n_w documents: 1 for a word never seen, 0 for a word of every
  /// document; 1 for all if N = 0. `folded` is a form as `tokenise` numbers it. O(length).
  [[nodiscard]] double operator()(std::string_view folded) const {
    if (documents_ == 0) return 1;
    const auto id = words_.find(folded);
    const auto seen = id ? static_cast<double>(frequencies_[*id]) : 0.0;
    const auto all = static_cast<double>(documents_);
    return 1 - std::log1p(seen) / std::log1p(all);
  }

  /// N.
  [[nodiscard]] std::size_t documents() const noexcept { return documents_; }
  /// The words seen; punctuation is numbered, too, with frequency 0.
  [[nodiscard]] const vocabulary& words() const noexcept { return words_; }
  /// [words().size()]: number of documents with each word.
  [[nodiscard]] std::span<const std::uint32_t> frequencies() const noexcept { return frequencies_; }

 private:
  std::size_t documents_ = 0;
  vocabulary words_;
  std::vector<std::uint32_t> frequencies_;
  std::vector<std::size_t> last_;  // the last document, counted from 1, in which a word was seen
};

}  // namespace dro::text

#endif
