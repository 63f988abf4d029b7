// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_BM25_HPP
#define DRO_TEXT_BM25_HPP

/// \file
/// The lexical retriever: BM25 over any list of documents, be it a corpus or the candidates of one question.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <dro/config.hpp>
#include <dro/data/question.hpp>
#include <dro/error.hpp>
#include <dro/text/tokens.hpp>

namespace dro::text {

/// The two constants of BM25.
struct bm25_options {
  double k1 = 1.2;  ///< how slowly repeated occurrences saturate; >= 0, 0 counts presence only
  double b = 0.75;  ///< how much of the document's length is normalised away; in [0, 1]
};

/// An inverted index of N documents that scores all of them for a query:
///
///     score(d) = Σ_{w in query} log(1 + (N - n_w + 1/2) / (n_w + 1/2)) · f (k1 + 1) / (f + k1 (1 - b + b |d| / mean
///     |d|))
///
/// where f counts w in d, |d| is the number of words of d and n_w the number of documents with w. A word that occurs
/// twice in the query counts twice. Source: Robertson and Zaragoza 2009, eqs. 3.13 and 3.15; the 1 inside the logarithm
/// keeps a word of more than half of the documents from counting against a document, which matters for short lists.
class bm25 {
 public:
  /// Indexes `documents`, each a list of words; both the list and a document may be empty. O(words).
  /// Throws `option_error` if k1 or b is outside its range.
  explicit bm25(std::span<const std::vector<word_id>> documents, bm25_options options = {}) : k1_(options.k1) {
    if (!(options.k1 >= 0 && std::isfinite(options.k1))) {
      throw option_error("bm25: k1 must be finite and at least 0, found " + std::to_string(options.k1));
    }
    if (!(options.b >= 0 && options.b <= 1)) {
      throw option_error("bm25: b must be in [0, 1], found " + std::to_string(options.b));
    }
    double total = 0;
    for (const auto& words : documents) total += static_cast<double>(words.size());
    const double mean = total > 0 ? total / static_cast<double>(documents.size()) : 1;
    saturation_.reserve(documents.size());
    for (const auto& words : documents) {
      const auto d = static_cast<std::uint32_t>(saturation_.size());
      saturation_.push_back(k1_ * (1 - options.b + options.b * static_cast<double>(words.size()) / mean));
      for (const word_id word : words) {
        auto& list = postings_[word];
        if (list.empty() || list.back().document != d) list.push_back({d, 0});
        ++list.back().count;
      }
    }
  }

  /// Score of each of the N documents, 0 where no word of the query occurs. O(N + postings of the query's words).
  [[nodiscard]] std::vector<double> scores(std::span<const word_id> query) const {
    std::vector<double> result(saturation_.size(), 0);
    for (const word_id word : query) {
      const auto found = postings_.find(word);
      if (found == postings_.end()) continue;
      const auto containing = static_cast<double>(found->second.size());
      const double idf = std::log1p((static_cast<double>(result.size()) - containing + 0.5) / (containing + 0.5));
      for (const auto& [document, count] : found->second) {
        const auto f = static_cast<double>(count);
        result[document] += idf * f * (k1_ + 1) / (f + saturation_[document]);
      }
    }
    return result;
  }

 private:
  struct posting {
    std::uint32_t document;
    std::uint32_t count;
  };
  double k1_;
  std::vector<double> saturation_;  // k1 (1 - b + b |d| / mean |d|)
  std::unordered_map<word_id, std::vector<posting>> postings_;
};

/// The words and numbers of a text, punctuation left out, numbered in `words`.
inline std::vector<word_id> words_of(std::string_view utf8, vocabulary& words) {
  std::vector<word_id> result;
  for (const auto& t : tokenise(utf8, words)) {
    if (t.kind != token_kind::punctuation) result.push_back(t.word);
  }
  return result;
}

/// BM25 score of each candidate of a question (title and text together) with the candidates as the whole collection;
/// the query is the question's text. O(words).
inline std::vector<double> bm25_scores(const data::question& question, bm25_options options = {}) {
  vocabulary words;
  const auto query = words_of(question.text, words);
  std::vector<std::vector<word_id>> documents;
  documents.reserve(question.documents.size());
  for (const auto& document : question.documents) {
    auto& all = documents.emplace_back(words_of(document.title, words));
    const auto text = words_of(document.text, words);
    all.insert(all.end(), text.begin(), text.end());
  }
  return bm25(documents, options).scores(query);
}

/// Positions by falling score, equal scores by position: the order in which a retriever returns documents.
/// `scores` must not contain NaN. O(n log n).
inline std::vector<document_t> retriever_order(std::span<const double> scores) {
  std::vector<document_t> order(scores.size());
  std::iota(order.begin(), order.end(), document_t{0});
  std::sort(order.begin(), order.end(), [scores](document_t a, document_t b) {
    const double score_a = scores[static_cast<std::size_t>(a)];
    const double score_b = scores[static_cast<std::size_t>(b)];
    return score_a != score_b ? score_a > score_b : a < b;
  });
  return order;
}

}  // namespace dro::text

#endif
