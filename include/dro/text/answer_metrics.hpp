// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_ANSWER_METRICS_HPP
#define DRO_TEXT_ANSWER_METRICS_HPP

/// \file
/// How good an answer is (exact match, F1) and how good a selection is (recall and all-gold at k), for one question.
/// A result over a set is the mean over its questions.

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dro/config.hpp>
#include <dro/text/normalise.hpp>

namespace dro::text {

namespace detail {

/// The words of a normalised answer, sorted; a word that occurs twice is there twice.
[[nodiscard]] inline std::vector<std::string_view> sorted_words(std::string_view normalised) {
  std::vector<std::string_view> words;
  while (!normalised.empty()) {
    const std::size_t length = std::min(normalised.find(' '), normalised.size());
    words.push_back(normalised.substr(0, length));
    normalised.remove_prefix(std::min(length + 1, normalised.size()));
  }
  std::sort(words.begin(), words.end());
  return words;
}

/// How many of the gold documents are among the first k of the ranking.
[[nodiscard]] inline std::size_t gold_found(std::span<const document_t> ranking, std::span<const document_t> supporting,
                                            std::size_t k) {
  const auto chosen = ranking.first(std::min(k, ranking.size()));
  return static_cast<std::size_t>(std::count_if(supporting.begin(), supporting.end(), [&](document_t gold) {
    return std::find(chosen.begin(), chosen.end(), gold) != chosen.end();
  }));
}

}  // namespace detail

/// F1 of two answers that have been through `normalise_answer`, as bags of words: with c the size of the multiset
/// intersection and p, a the number of words, 2 (c/p)(c/a) / (c/p + c/a) = 2 c / (p + a).
///
/// 0 where no word is shared, also where both are empty, as in SQuAD 1.1 and KILT (SQuAD 2.0 says 1 there).
/// O(w log w) in the words.
[[nodiscard]] inline double word_f1(std::string_view normalised_prediction, std::string_view normalised_answer) {
  const auto predicted = detail::sorted_words(normalised_prediction);
  const auto accepted = detail::sorted_words(normalised_answer);
  std::vector<std::string_view> common;
  std::set_intersection(predicted.begin(), predicted.end(), accepted.begin(), accepted.end(),
                        std::back_inserter(common));
  if (common.empty()) {
    return 0.0;
  }
  return 2.0 * static_cast<double>(common.size()) / static_cast<double>(predicted.size() + accepted.size());
}

/// Whether the prediction equals one of the accepted answers after normalisation (SQuAD's and KILT's exact match).
///
/// \param prediction, answers raw text, valid UTF-8. No answers: false. An empty prediction matches an answer that
///        normalises to nothing (`The`, `"?!"`), as in the official scripts.
[[nodiscard]] inline bool exact_match(std::string_view prediction, std::span<const std::string> answers) {
  const std::string normalised = normalise_answer(prediction);
  return std::any_of(answers.begin(), answers.end(),
                     [&](const std::string& answer) { return normalise_answer(answer) == normalised; });
}

/// The best `word_f1` over the accepted answers, as SQuAD 1.1 and KILT compute it.
///
/// HotpotQA's script differs in one case that is not followed here: it gives 0, not partial credit, where one of the
/// two is `yes`, `no` or `noanswer` and the other is not the same (`yes it was` against `yes`: 0.5 here, 0 there).
///
/// \returns a value in [0, 1]; 0 without answers.
[[nodiscard]] inline double f1(std::string_view prediction, std::span<const std::string> answers) {
  const std::string normalised = normalise_answer(prediction);
  double best = 0.0;
  for (const std::string& answer : answers) {
    best = std::max(best, word_f1(normalised, normalise_answer(answer)));
  }
  return best;
}

/// The share of the gold documents that the first k of a ranking hold: |first k ∩ gold| / |gold|.
///
/// \param ranking documents, best first, without repetition; k larger than its size means all of it.
/// \param supporting the gold documents among the candidates, without repetition.
/// \param gold_missing gold documents that are not among the candidates; they count as not found.
/// \returns nullopt where the question has no gold document, so that it can be left out of a mean. O(k |gold|).
[[nodiscard]] inline std::optional<double> recall_at_k(std::span<const document_t> ranking,
                                                       std::span<const document_t> supporting, std::size_t k,
                                                       std::size_t gold_missing = 0) {
  const std::size_t gold = supporting.size() + gold_missing;
  if (gold == 0) {
    return std::nullopt;
  }
  return static_cast<double>(detail::gold_found(ranking, supporting, k)) / static_cast<double>(gold);
}

/// Whether the first k of a ranking hold every gold document: `recall_at_k(...) == 1`. Same arguments; nullopt where
/// the question has no gold document. Never true for a question with more than k gold documents, or with missing ones.
[[nodiscard]] inline std::optional<bool> all_gold_at_k(std::span<const document_t> ranking,
                                                       std::span<const document_t> supporting, std::size_t k,
                                                       std::size_t gold_missing = 0) {
  const std::size_t gold = supporting.size() + gold_missing;
  if (gold == 0) {
    return std::nullopt;
  }
  return detail::gold_found(ranking, supporting, k) == gold;
}

}  // namespace dro::text

#endif
