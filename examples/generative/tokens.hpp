// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_TOKENS_HPP
#define DRO_EXAMPLES_GENERATIVE_TOKENS_HPP

/// \file
/// Text to tokens and back: whole words where there are only a few, byte pairs trained on the texts otherwise.

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dro/config.hpp>
#include <dro/data/tokenizer_json.hpp>
#include <dro/error.hpp>
#include <dro/models/retrieval_batch.hpp>
#include <dro/text/byte_pair.hpp>
#include <dro/text/byte_pair_trainer.hpp>

namespace generative {

using dro::models::token_t;

/// Tokens of prompts (begin, select, answer, end, and one for each candidate's number), then those of text.
class tokenizer {
 public:
  /// One token a word. A text is words with single spaces between them.
  tokenizer(dro::index_t candidates, std::vector<std::string> words)
      : candidates_(candidates), words_(std::move(words)) {
    for (std::size_t i = 0; i < words_.size(); ++i) ids_.emplace(words_[i], static_cast<token_t>(prompt_tokens() + i));
  }

  /// Byte pairs of `texts`, `vocabulary` tokens in all. Throws option_error where that is too few for the bytes.
  tokenizer(dro::index_t candidates, std::span<const std::string> texts, std::size_t vocabulary)
      : candidates_(candidates) {
    std::vector<std::string> special = {"<begin>", "<select>", "<answer>", "<end>"};
    for (dro::index_t i = 1; i <= candidates; ++i) special.push_back("<" + std::to_string(i) + ">");
    byte_pairs_ = dro::text::train_byte_pairs(
        texts, {.vocabulary = vocabulary, .special_tokens = std::move(special), .prefix_space = true});
  }

  /// Tokens in all.
  [[nodiscard]] std::size_t size() const { return byte_pairs_ ? byte_pairs_->size() : prompt_tokens() + words_.size(); }

  /// Throws option_error for a word that is not known.
  [[nodiscard]] std::vector<token_t> encode(std::string_view text) const {
    if (byte_pairs_) return byte_pairs_->encode(text);
    std::vector<token_t> tokens;
    while (!text.empty()) {
      const std::string word(text.substr(0, text.find(' ')));
      const auto found = ids_.find(word);
      if (found == ids_.end()) throw dro::option_error("no token for the word \"" + word + "\"");
      tokens.push_back(found->second);
      text.remove_prefix(std::min(text.size(), word.size() + 1));
    }
    return tokens;
  }

  /// The text of tokens; those of prompts are left out.
  [[nodiscard]] std::string decode(std::span<const token_t> tokens) const {
    if (byte_pairs_) return byte_pairs_->decode(tokens, {.skip_special = true});
    std::string text;
    for (const token_t token : tokens) {
      const auto at = static_cast<std::size_t>(token);
      if (at < prompt_tokens()) continue;
      if (!text.empty()) text += ' ';
      text += words_[at - prompt_tokens()];
    }
    return text;
  }

  /// Writes byte pairs to tokenizer.json in the folders of both models; what is a word follows from the options.
  /// Throws dro::file_error.
  void save(const std::filesystem::path& folder) const {
    if (!byte_pairs_) return;
    for (const char* model : {"selector", "reader"}) {
      dro::data::write_tokenizer_json(*byte_pairs_, folder / model / "tokenizer.json");
    }
  }

  [[nodiscard]] dro::models::prompt_style style() const {
    dro::models::prompt_style s{{begin}, {}, {select}, {answer}, end};
    for (dro::index_t i = 0; i < candidates_; ++i) s.identifiers.push_back(static_cast<token_t>(first_identifier + i));
    return s;
  }

 private:
  static constexpr token_t begin = 0, select = 1, answer = 2, end = 3, first_identifier = 4;
  [[nodiscard]] std::size_t prompt_tokens() const { return static_cast<std::size_t>(first_identifier + candidates_); }

  dro::index_t candidates_;
  std::vector<std::string> words_;
  std::unordered_map<std::string, token_t> ids_;
  std::optional<dro::text::byte_pair_tokenizer> byte_pairs_;
};

}  // namespace generative

#endif
