// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_BYTE_PAIR_TRAINER_HPP
#define DRO_TEXT_BYTE_PAIR_TRAINER_HPP

/// \file
/// A tokenizer learned from text.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <dro/error.hpp>
#include <dro/text/byte_alphabet.hpp>
#include <dro/text/byte_pair.hpp>

namespace dro::text {

struct byte_pair_training {
  std::size_t vocabulary = 8192;  ///< tokens in all, the special ones and the 256 bytes included; at least those
  std::uint64_t least_count = 2;  ///< a pair that occurs less often is not merged
  std::vector<std::string> special_tokens;                    ///< these get the ids 0, 1, ... in this order
  std::vector<split_pattern> splits = {split_pattern::gpt2};  ///< as in `byte_pair_model`
  bool prefix_space = false;                                  ///< as in `byte_pair_model`
  bool composed = false;                                      ///< as in `byte_pair_model`
};

/// Learns merges from text (Sennrich et al. 2016): the pair of neighbouring tokens that occurs most often within the
/// pieces of all texts becomes a token, over and over. Of pairs that occur equally often the one with the lower ids is
/// taken, the left one first, so the outcome depends on the texts alone, not on their order. Ids: special tokens, bytes
/// in the order of their characters in the byte alphabet, then merges in the order made; with the same texts and
/// options these are the ids that Hugging Face's `tokenizers` gives.
class byte_pair_trainer {
 public:
  /// \throws option_error where the vocabulary is too small for the bytes and special tokens, and for special tokens
  /// that `byte_pair_tokenizer` would refuse.
  explicit byte_pair_trainer(byte_pair_training options) : options_(std::move(options)) {
    const std::size_t least = 256 + options_.special_tokens.size();
    if (options_.vocabulary < least || options_.vocabulary > most_tokens) {
      throw option_error("byte_pair_trainer: a vocabulary of " + std::to_string(options_.vocabulary) + ", expected " +
                         std::to_string(least) + " (bytes and special tokens) to 2^30");
    }
    (void)byte_pair_tokenizer(start());
  }

  /// Counts the pieces of one more text. Special tokens in it are text. O(bytes).
  void add(std::string_view text) {
    std::string changed;
    if (options_.composed) text = changed = nfc(text);
    if (options_.prefix_space && !text.empty() && !text.starts_with(' ')) {
      changed = ' ' + std::string(text);
      text = changed;
    }
    for_each_piece(text, options_.splits, [this](std::string_view piece) {
      const auto found = pieces_.find(piece);
      ++(found != pieces_.end() ? found : pieces_.emplace(piece, 0).first)->second;
    });
  }

  /// The tokenizer of the texts so far; smaller than asked for where no pair occurs `least_count` times any more. A
  /// pair whose merge would be written like a special token is passed over. Cost: the bytes of the distinct pieces and,
  /// for each merge, of those in which the pair occurs, not those of the texts.
  [[nodiscard]] byte_pair_tokenizer train() const {
    run training(start(), options_, pieces_);
    return byte_pair_tokenizer(std::move(training).finish());
  }

 private:
  static constexpr std::size_t most_tokens = std::size_t{1} << 30U;

  struct hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view piece) const noexcept { return std::hash<std::string_view>{}(piece); }
  };
  using piece_counts = std::unordered_map<std::string, std::uint64_t, hash, std::equal_to<>>;

  /// Special tokens and bytes.
  [[nodiscard]] byte_pair_model start() const {
    byte_pair_model model;
    for (const std::string& content : options_.special_tokens) {
      model.added.push_back({.id = static_cast<token_id>(model.tokens.size()), .content = content});
      model.tokens.push_back(content);
    }
    for (const std::int16_t byte : detail::character_bytes) {
      if (byte >= 0) model.tokens.emplace_back(1, static_cast<char>(byte));
    }
    model.splits = options_.splits;
    model.prefix_space = options_.prefix_space;
    model.composed = options_.composed;
    return model;
  }

  /// One training: the pieces as tokens, and the pairs in them.
  class run {
   public:
    run(byte_pair_model model, const byte_pair_training& options, const piece_counts& pieces)
        : model_(std::move(model)), options_(options) {
      for (const added_token& token : model_.added) reserved_.insert(token.content);
      for (std::size_t id = model_.added.size(); id < model_.tokens.size(); ++id) {
        ids_.emplace(model_.tokens[id], static_cast<token_id>(id));
      }
      words_.reserve(pieces.size());
      for (const auto& [piece, count] : pieces) add_word(piece, count);
      for (const auto& [key, pair] : pairs_) queue_.push({pair.count, key});
    }

    [[nodiscard]] byte_pair_model finish() && {
      const std::uint64_t least = std::max<std::uint64_t>(1, options_.least_count);
      while (model_.tokens.size() < options_.vocabulary && !queue_.empty()) {
        const queued best = queue_.top();
        queue_.pop();
        const std::uint64_t count = pairs_[best.key].count;
        if (count != best.count) {  // it has changed since it was queued
          if (count > 0) queue_.push({count, best.key});
        } else if (count < least) {
          break;
        } else {
          merge(best.key);
        }
      }
      return std::move(model_);
    }

   private:
    struct word {
      std::vector<token_id> ids;
      std::uint64_t count;
    };
    struct pair_uses {
      std::uint64_t count = 0;
      std::vector<std::uint32_t> words;  // those in which it may occur; some may be there twice, or in vain
    };
    struct queued {
      std::uint64_t count;
      std::uint64_t key;
      friend bool operator<(const queued& a, const queued& b) {
        return a.count != b.count ? a.count < b.count : a.key > b.key;
      }
    };

    void add_word(const std::string& piece, std::uint64_t count) {
      word w{{}, count};
      for (const char byte : piece) w.ids.push_back(ids_.find(std::string(1, byte))->second);
      words_.push_back(std::move(w));
      const auto& ids = words_.back().ids;
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) increase(ids[i], ids[i + 1], words_.size() - 1);
    }

    std::uint64_t increase(token_id left, token_id right, std::size_t w) {
      const std::uint64_t key = detail::pair_key(left, right);
      pair_uses& pair = pairs_[key];
      pair.count += words_[w].count;
      const auto place = static_cast<std::uint32_t>(w);
      if (pair.words.empty() || pair.words.back() != place) pair.words.push_back(place);
      return key;
    }

    void decrease(token_id left, token_id right, std::size_t w) {
      pairs_[detail::pair_key(left, right)].count -= words_[w].count;
    }

    void merge(std::uint64_t key) {
      const auto left = static_cast<token_id>(key >> 32U);
      const auto right = static_cast<token_id>(key & 0xFFFFFFFFU);
      std::string bytes =
          model_.tokens[static_cast<std::size_t>(left)] + model_.tokens[static_cast<std::size_t>(right)];
      if (reserved_.count(to_byte_alphabet(bytes)) > 0) return;
      const auto [entry, is_new] = ids_.emplace(bytes, static_cast<token_id>(model_.tokens.size()));
      if (is_new) model_.tokens.push_back(std::move(bytes));  // else other merges led to the same bytes before
      model_.merges.push_back({left, right});
      const std::vector<std::uint32_t> uses = std::exchange(pairs_[key].words, {});
      for (const std::uint32_t w : uses) merge_in(w, left, right, entry->second);
      std::sort(increased_.begin(), increased_.end());
      increased_.erase(std::unique(increased_.begin(), increased_.end()), increased_.end());
      for (const std::uint64_t changed : increased_) {
        if (const std::uint64_t count = pairs_[changed].count; count > 0) queue_.push({count, changed});
      }
      increased_.clear();
    }

    /// Makes the merge wherever it occurs in the word, from left to right, and keeps the counts.
    void merge_in(std::size_t w, token_id left, token_id right, token_id result) {
      auto& ids = words_[w].ids;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (i + 1 == ids.size() || ids[i] != left || ids[i + 1] != right) {
          ids[kept++] = ids[i];
          continue;
        }
        decrease(left, right, w);
        if (kept > 0) {
          decrease(ids[kept - 1], left, w);
          increased_.push_back(increase(ids[kept - 1], result, w));
        }
        if (i + 2 < ids.size()) {
          decrease(right, ids[i + 2], w);
          increased_.push_back(increase(result, ids[i + 2], w));
        }
        ids[kept++] = result;
        ++i;
      }
      ids.resize(kept);
    }

    byte_pair_model model_;
    const byte_pair_training& options_;
    std::unordered_set<std::string> reserved_;       // contents of special tokens
    std::unordered_map<std::string, token_id> ids_;  // text tokens by their bytes
    std::vector<word> words_;
    std::unordered_map<std::uint64_t, pair_uses> pairs_;
    std::priority_queue<queued> queue_;  // counts may be those of earlier
    std::vector<std::uint64_t> increased_;
  };

  byte_pair_training options_;
  piece_counts pieces_;
};

/// The tokenizer trained on a range of texts. As `byte_pair_trainer`, for texts that are all there.
template <class Texts>
[[nodiscard]] byte_pair_tokenizer train_byte_pairs(const Texts& texts, const byte_pair_training& options = {}) {
  byte_pair_trainer trainer(options);
  for (const auto& text : texts) trainer.add(text);
  return trainer.train();
}

}  // namespace dro::text

#endif
