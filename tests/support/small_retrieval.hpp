// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_SMALL_RETRIEVAL_HPP
#define DRO_TESTS_SUPPORT_SMALL_RETRIEVAL_HPP

/// \file
/// Two questions as tokens, and what a selector and a reader over a small transformer say of them, from the formulas.

#include <cstddef>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/models/llama_config.hpp>
#include <dro/models/retrieval_batch.hpp>

#include "support/reference.hpp"
#include "support/small_transformer.hpp"

namespace test {

/// Tokens 0 to 5 are text, 6 begins, 7 asks for a choice, 8 and 2 for an answer, 9 ends it, 10 to 13 are numbers.
inline dro::models::prompt_style small_style() { return {{6}, {10, 11, 12, 13}, {7}, {8, 2}, 9}; }

inline std::vector<dro::models::tokenised_question> small_questions() {
  return {{{5, 0}, {{1}, {2, 3}, {5}}, {2, 1}}, {{5}, {{3, 3}, {2, 1, 4}, {}, {4}}, {0}}};
}

/// A small transformer and the formulas of the two models over it.
struct small_language_model {
  dro::models::llama_config config = small_llama(14);
  std::vector<dro::host_matrix<double>> weights = small_weights(config);

  /// log p(z|x), the logits divided by `temperature`.
  [[nodiscard]] real log_choice(const dro::models::tokenised_question& x, const ranking& z,
                                real temperature = 1) const {
    const auto style = small_style();
    tokens prompt = style.begin;
    prompt.insert(prompt.end(), x.question.begin(), x.question.end());
    for (std::size_t j = 0; j < x.documents.size(); ++j) {
      prompt.push_back(style.identifiers[j]);
      prompt.insert(prompt.end(), x.documents[j].begin(), x.documents[j].end());
    }
    prompt.insert(prompt.end(), style.select.begin(), style.select.end());
    real total = 0;
    std::vector<bool> is_taken(x.documents.size(), false);
    for (const auto pick : z) {
      const auto logits = reference_logits(config, weights, prompt).back();
      std::vector<real> left;
      const auto logit = [&](std::size_t j) {
        return logits[static_cast<std::size_t>(style.identifiers[j])] / temperature;
      };
      for (std::size_t j = 0; j < x.documents.size(); ++j) {
        if (!is_taken[j]) left.push_back(logit(j));
      }
      const auto k = static_cast<std::size_t>(pick);
      total += logit(k) - log_sum_exp(left);
      is_taken[k] = true;
      prompt.push_back(style.identifiers[k]);
    }
    return total;
  }

  /// What the reader is shown.
  [[nodiscard]] static tokens reader_prompt(const dro::models::tokenised_question& x, const ranking& z) {
    const auto style = small_style();
    tokens prompt = style.begin;
    prompt.insert(prompt.end(), x.question.begin(), x.question.end());
    for (const auto pick : z) {
      if (pick < 0) continue;
      const auto& text = x.documents[static_cast<std::size_t>(pick)];
      prompt.insert(prompt.end(), text.begin(), text.end());
    }
    prompt.insert(prompt.end(), style.answer.begin(), style.answer.end());
    return prompt;
  }

  /// Σ log p of the tokens that continue `prompt`.
  [[nodiscard]] real log_continuation(const tokens& prompt, const tokens& continuation) const {
    tokens all = prompt;
    all.insert(all.end(), continuation.begin(), continuation.end());
    const auto logits = reference_logits(config, weights, all);
    real total = 0;
    for (std::size_t i = 0; i < continuation.size(); ++i) {
      const auto& row = logits[prompt.size() + i - 1];
      total += row[static_cast<std::size_t>(continuation[i])] - log_sum_exp(row);
    }
    return total;
  }

  /// log p(y|x,d_z) with the end.
  [[nodiscard]] real log_answer(const dro::models::tokenised_question& x, const ranking& z, tokens answer) const {
    answer.push_back(small_style().end);
    return log_continuation(reader_prompt(x, z), answer);
  }
};

/// A log-probability is a few logits less logarithms of sums of them: twice their error for each of at most 4.
inline constexpr real log_prob_tolerance = 8 * logit_tolerance<double>;

}  // namespace test

#endif
