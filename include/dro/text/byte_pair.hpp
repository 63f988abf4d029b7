// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TEXT_BYTE_PAIR_HPP
#define DRO_TEXT_BYTE_PAIR_HPP

/// \file
/// Text to the token numbers of a language model and back: byte-level byte-pair encoding. Needs utf8proc.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dro/error.hpp>
#include <dro/text/added_tokens.hpp>
#include <dro/text/byte_alphabet.hpp>
#include <dro/text/nfc.hpp>
#include <dro/text/pre_tokenize.hpp>

namespace dro::text {

/// Two neighbouring tokens that become one, the token of their bytes.
struct byte_pair_merge {
  token_id left = 0;
  token_id right = 0;
  friend bool operator==(const byte_pair_merge&, const byte_pair_merge&) = default;
};

/// All that says which tokens a text has: what `tokenizer.json` holds.
///
/// A *text token* stands for bytes of text: those that are not in `added`, and of those in `added` the ones that are
/// not special and that the byte alphabet writes as they are.
struct byte_pair_model {
  std::vector<std::string> tokens;      ///< [vocabulary] the bytes of each token; of an added one its content
  std::vector<byte_pair_merge> merges;  ///< the first applies first
  std::vector<added_token> added;       ///< by rising id
  std::vector<split_pattern> splits = {split_pattern::gpt2};  ///< one after the other; at most 8, none: no split
  bool prefix_space = false;     ///< a space goes in front of a text without one, and behind each added token
  bool composed = false;         ///< text is put into `nfc` first: bytes come back composed
  bool whole_pieces = false;     ///< a piece that is a token is that token, whether merges lead there or not
  std::vector<token_id> before;  ///< what frames a text: in front of it (beginning of text, say) ...
  std::vector<token_id> after;   ///< ... and behind
  friend bool operator==(const byte_pair_model&, const byte_pair_model&) = default;
};

struct encode_options {
  /// Special tokens written in the text become their numbers. Only for text that the program itself wrote: in a
  /// document or a question anybody could end the prompt this way. Unset, they are text like any other.
  bool recognise_special = false;
  /// `before` and `after` of the model stand around the text.
  bool framed = false;
};

struct decode_options {
  bool skip_special = false;  ///< leave special tokens out
};

namespace detail {

/// A hash table of numbers whose keys stand elsewhere: the caller hashes and compares. Fixed capacity.
class number_table {
 public:
  /// For up to `most` numbers.
  explicit number_table(std::size_t most = 0) {
    std::size_t capacity = 2;
    while (capacity < 2 * most) capacity *= 2;
    slots_.resize(capacity);
  }

  /// The number under this hash for which is_it(number) holds, -1 if there is none. O(1) on average.
  template <class IsIt>
  [[nodiscard]] std::int32_t find(std::uint64_t hash, IsIt is_it) const {
    const auto tag = static_cast<std::uint32_t>(hash >> 32U);
    for (std::size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      const slot& s = slots_[at];
      if (s.number < 0 || (s.tag == tag && is_it(s.number))) return s.number;
    }
  }

  void insert(std::uint64_t hash, std::int32_t number) {
    std::size_t at = hash & (slots_.size() - 1);
    while (slots_[at].number >= 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {static_cast<std::uint32_t>(hash >> 32U), number};
  }

 private:
  struct slot {
    std::uint32_t tag = 0;
    std::int32_t number = -1;
  };
  std::vector<slot> slots_;  // a power of two of them, at most half of them taken
};

/// A pair as one number; the order of the numbers is that of the pairs.
inline std::uint64_t pair_key(token_id left, token_id right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32U) | static_cast<std::uint32_t>(right);
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
inline std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

inline std::uint64_t hash_of(std::string_view bytes) { return mixed(std::hash<std::string_view>{}(bytes)); }

}  // namespace detail

/// Byte-pair encoding (Gage 1994; Sennrich et al. 2016) over bytes (Radford et al. 2019). A text is cut into pieces
/// (`model().splits`); each begins as its bytes, and as long as two neighbours of a piece are a merge, the one that
/// stands first in the list, leftmost where it occurs more than once, is made. Every byte is a token, so every text has
/// tokens, valid UTF-8 or not, and decode(encode(text)) == text but for what the model itself asks for (`composed`,
/// `prefix_space`, added tokens that strip).
///
/// Immutable: one object serves any number of threads. Trained by `byte_pair_trainer`, read from a file by
/// `data::read_tokenizer_json`.
class byte_pair_tokenizer {
 public:
  /// Takes the model over and checks it. O(bytes of all tokens + merges). \throws option_error that names the token,
  /// merge or added token, where
  /// - a byte has no token, a token is empty, or two text tokens are the same bytes;
  /// - a merge names what is no text token, has no token as its result or stands in the list twice;
  /// - an added token is empty, longer than 1024 bytes, not UTF-8, there twice, not the token of its id, or in the
  ///   byte alphabet the same as another token (a file could not tell them apart); or a special one can come out of
  ///   merges, which would let text produce it;
  /// - `before` or `after` name what is no added token; there are more than 8 splits or 2^30 tokens or merges; or
  ///   `prefix_space` is set with other splits than none or `gpt2` (a file could not say so).
  explicit byte_pair_tokenizer(byte_pair_model model) : model_(std::move(model)) {
    check_sizes();
    index_added();
    index_text_tokens();
    index_merges();
    find_whole_tokens();
  }

  [[nodiscard]] const byte_pair_model& model() const noexcept { return model_; }

  /// How many tokens there are: ids are 0 ... size() - 1.
  [[nodiscard]] std::size_t size() const noexcept { return model_.tokens.size(); }

  /// The bytes of a token, need not be UTF-8. \throws option_error where there is no such id.
  [[nodiscard]] std::string_view operator[](token_id id) const {
    if (!has(id)) {
      throw option_error("token " + std::to_string(id) + ": the vocabulary has " + std::to_string(size()));
    }
    return model_.tokens[static_cast<std::size_t>(id)];
  }

  /// The text token of these bytes, nullopt if there is none. O(length).
  [[nodiscard]] std::optional<token_id> find(std::string_view bytes) const {
    const token_id id = text_token(bytes);
    return id < 0 ? std::nullopt : std::optional<token_id>(id);
  }

  /// The added token, special or not, of this content, nullopt if there is none. O(added tokens).
  [[nodiscard]] std::optional<token_id> find_added(std::string_view content) const {
    const auto found = std::find_if(model_.added.begin(), model_.added.end(),
                                    [content](const added_token& token) { return token.content == content; });
    return found == model_.added.end() ? std::nullopt : std::optional<token_id>(found->id);
  }

  /// The tokens of a text: any bytes; empty for an empty text, but for the frame. O(n) for pieces of a few dozen
  /// bytes, as those of the published patterns mostly are; a piece of n bytes costs O(n log n). \throws shape_error for
  /// 2^30 bytes or more in which no added token stands.
  [[nodiscard]] std::vector<token_id> encode(std::string_view text, const encode_options& options = {}) const {
    std::vector<token_id> ids;
    ids.reserve(text.size() / 3 + model_.before.size() + model_.after.size());
    if (options.framed) ids.insert(ids.end(), model_.before.begin(), model_.before.end());
    workspace space;
    const auto take_token = [&](token_id id) { ids.push_back(id); };
    const auto take_text = [&](std::string_view part) {
      added_.split(part, model_.added, options.recognise_special, take_token,
                   [&](std::string_view rest) { encode_text(rest, space, ids); });
    };
    added_before_composing_.split(
        text, model_.added, options.recognise_special, take_token,
        [&](std::string_view part) { model_.composed ? take_text(nfc(part)) : take_text(part); });
    if (options.framed) ids.insert(ids.end(), model_.after.begin(), model_.after.end());
    return ids;
  }

  /// The bytes of the tokens one after the other; those of tokens that end inside a character need not be UTF-8.
  /// \throws option_error for an id that there is not. O(bytes).
  [[nodiscard]] std::string decode(std::span<const token_id> ids, const decode_options& options = {}) const {
    std::string text;
    for (const token_id id : ids) {
      const std::string_view bytes = (*this)[id];
      if (!options.skip_special || !is_special(id)) text.append(bytes);
    }
    return text;
  }

  /// Whether this is one of the special added tokens. O(1).
  [[nodiscard]] bool is_special(token_id id) const { return has(id) && role_[static_cast<std::size_t>(id)].special; }

  /// Whether the models are equal.
  friend bool operator==(const byte_pair_tokenizer& a, const byte_pair_tokenizer& b) { return a.model_ == b.model_; }

 private:
  static constexpr std::int32_t no_merge = std::numeric_limits<std::int32_t>::max();
  static constexpr std::int32_t nothing = -1;

  struct role {
    bool added = false;
    bool special = false;
    bool whole = false;  // a piece of these bytes is this one token
  };

  /// A token of a piece that is being merged, in a list that shrinks.
  struct symbol {
    token_id id;  // nothing: merged into the one before it
    std::int32_t previous;
    std::int32_t next;
  };
  struct candidate {
    std::int32_t rank;
    std::int32_t at;
    friend bool operator>(const candidate& a, const candidate& b) {
      return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
    }
  };

  /// Memory used again from piece to piece.
  struct workspace {
    std::string text;
    std::vector<token_id> ids;
    std::vector<std::int32_t> ranks;
    std::vector<symbol> symbols;
    std::vector<candidate> candidates;  // a heap, the lowest rank first
  };

  [[nodiscard]] bool has(token_id id) const { return id >= 0 && static_cast<std::size_t>(id) < size(); }

  [[nodiscard]] const std::string& bytes(token_id id) const { return model_.tokens[static_cast<std::size_t>(id)]; }

  [[nodiscard]] token_id text_token(std::string_view wanted) const {
    return text_tokens_.find(detail::hash_of(wanted), [&](token_id id) { return bytes(id) == wanted; });
  }

  /// Place of the merge of two neighbours, no_merge if they are none.
  [[nodiscard]] std::int32_t rank_of(token_id left, token_id right) const {
    const auto rank = merge_ranks_.find(detail::mixed(detail::pair_key(left, right)), [&](std::int32_t place) {
      return model_.merges[static_cast<std::size_t>(place)] == byte_pair_merge{left, right};
    });
    return rank < 0 ? no_merge : rank;
  }

  void encode_text(std::string_view text, workspace& space, std::vector<token_id>& ids) const {
    if (model_.prefix_space && !text.starts_with(' ')) {
      space.text.assign(1, ' ').append(text);
      text = space.text;
    }
    constexpr std::size_t limit = std::size_t{1} << 30U;
    if (text.size() >= limit) {
      throw shape_error("byte_pair_tokenizer: a text of " + std::to_string(text.size()) +
                        " bytes, expected below 2^30");
    }
    for_each_piece(text, model_.splits, [&](std::string_view piece) {
      const token_id id = text_token(piece);
      if (id >= 0 && role_[static_cast<std::size_t>(id)].whole) {
        ids.push_back(id);
      } else {
        merge(piece, space, ids);
      }
    });
  }

  /// Appends the tokens of a piece. A scan for the lowest rank beats a heap for short pieces, which nearly all are.
  void merge(std::string_view piece, workspace& space, std::vector<token_id>& ids) const {
    constexpr std::size_t short_piece = 48;
    if (piece.size() <= short_piece) {
      merge_by_scan(piece, space);
    } else {
      merge_by_heap(piece, space);
    }
    ids.insert(ids.end(), space.ids.begin(), space.ids.end());
  }

  void start(std::string_view piece, std::vector<token_id>& ids) const {
    ids.resize(piece.size());
    std::transform(piece.begin(), piece.end(), ids.begin(),
                   [this](char c) { return byte_tokens_[static_cast<unsigned char>(c)]; });
  }

  /// O(n²) of a very small unit. ranks[i] is that of ids[i] and ids[i + 1].
  void merge_by_scan(std::string_view piece, workspace& space) const {
    auto& ids = space.ids;
    auto& ranks = space.ranks;
    start(piece, ids);
    ranks.assign(piece.size(), no_merge);
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) ranks[i] = rank_of(ids[i], ids[i + 1]);
    for (;;) {
      const auto lowest = std::min_element(ranks.begin(), ranks.end());
      if (lowest == ranks.end() || *lowest == no_merge) return;
      const auto i = static_cast<std::size_t>(lowest - ranks.begin());
      ids[i] = results_[static_cast<std::size_t>(*lowest)];
      ids.erase(ids.begin() + (lowest - ranks.begin()) + 1);
      ranks.erase(lowest + 1);
      ranks[i] = i + 1 < ids.size() ? rank_of(ids[i], ids[i + 1]) : no_merge;
      if (i > 0) ranks[i - 1] = rank_of(ids[i - 1], ids[i]);
    }
  }

  /// O(n log n).
  void merge_by_heap(std::string_view piece, workspace& space) const {
    start(piece, space.ids);
    auto& symbols = space.symbols;
    auto& candidates = space.candidates;
    const auto at = [&symbols](std::int32_t i) -> symbol& { return symbols[static_cast<std::size_t>(i)]; };
    const auto rank_at = [&](std::int32_t i) {
      const symbol& s = at(i);
      return s.id == nothing || s.next == nothing ? no_merge : rank_of(s.id, at(s.next).id);
    };
    const auto consider = [&](std::int32_t i) {
      if (const auto rank = rank_at(i); rank != no_merge) {
        candidates.push_back({rank, i});
        std::push_heap(candidates.begin(), candidates.end(), std::greater<>{});
      }
    };
    const auto count = static_cast<std::int32_t>(space.ids.size());
    symbols.clear();
    candidates.clear();
    for (std::int32_t i = 0; i < count; ++i) {
      symbols.push_back({space.ids[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : nothing});
    }
    for (std::int32_t i = 0; i < count; ++i) consider(i);
    while (!candidates.empty()) {
      const auto [rank, i] = candidates.front();
      std::pop_heap(candidates.begin(), candidates.end(), std::greater<>{});
      candidates.pop_back();
      if (rank_at(i) != rank) continue;  // one of the two has been merged since
      symbol& left = at(i);
      symbol& right = at(left.next);
      left.id = results_[static_cast<std::size_t>(rank)];
      left.next = right.next;
      right.id = nothing;
      if (left.next != nothing) at(left.next).previous = i;
      consider(i);
      if (left.previous != nothing) consider(left.previous);
    }
    space.ids.clear();
    for (std::int32_t i = 0; i != nothing; i = at(i).next) space.ids.push_back(at(i).id);
  }

  [[nodiscard]] std::string shown(token_id id) const {
    return "token " + std::to_string(id) + " (\"" + to_byte_alphabet(bytes(id)) + "\")";
  }

  void check_sizes() const {
    constexpr std::size_t most = std::size_t{1} << 30U;
    constexpr std::size_t most_splits = 8;
    if (size() > most || model_.merges.size() > most) {
      throw option_error("byte_pair_tokenizer: " + std::to_string(size()) + " tokens and " +
                         std::to_string(model_.merges.size()) + " merges, at most 2^30 of each");
    }
    if (model_.splits.size() > most_splits) {
      throw option_error("byte_pair_tokenizer: " + std::to_string(model_.splits.size()) + " splits, at most 8");
    }
    if (model_.prefix_space && !model_.splits.empty() && model_.splits != std::vector{split_pattern::gpt2}) {
      throw option_error("byte_pair_tokenizer: a prefix space goes with no split, or with that of GPT-2 alone");
    }
  }

  void index_added() {
    role_.resize(size());
    token_id last = -1;
    for (const added_token& token : model_.added) {
      const std::string name = "added token " + std::to_string(token.id);
      if (!has(token.id) || token.id <= last) {
        throw option_error(name + ": expected rising ids below " + std::to_string(size()));
      }
      last = token.id;
      detail::check_added_content(token.content, name);
      if (bytes(token.id) != token.content) {
        throw option_error(name + ": its content is \"" + token.content + "\", but this is " + shown(token.id));
      }
      role_[static_cast<std::size_t>(token.id)] = {true, token.special, false};
    }
    for (const auto* frame : {&model_.before, &model_.after}) {
      for (const token_id id : *frame) {
        if (!has(id) || !role_[static_cast<std::size_t>(id)].added) {
          throw option_error("byte_pair_tokenizer: the frame of texts names token " + std::to_string(id) +
                             ", which is no added token");
        }
      }
    }
    added_before_composing_ = detail::added_token_matcher(
        model_.added, [](const added_token& t) { return !t.composed; }, false);
    added_ = detail::added_token_matcher(
        model_.added, [](const added_token& t) { return t.composed; }, model_.composed);
  }

  void index_text_tokens() {
    text_tokens_ = detail::number_table(size());
    const auto insert = [this](token_id id) { text_tokens_.insert(detail::hash_of(bytes(id)), id); };
    for (std::size_t i = 0; i < size(); ++i) {
      if (role_[i].added) continue;
      const auto id = static_cast<token_id>(i);
      if (bytes(id).empty()) throw option_error("token " + std::to_string(id) + " is empty");
      if (const token_id other = text_token(bytes(id)); other >= 0) {
        throw option_error(shown(id) + " is the same as token " + std::to_string(other));
      }
      insert(id);
    }
    std::vector<const added_token*> by_content;
    for (const added_token& token : model_.added) {
      by_content.push_back(&token);
      // One that the byte alphabet writes differently can be no piece of text: a file has it as it is.
      const bool is_text = !token.special && to_byte_alphabet(token.content) == token.content;
      if (is_text && text_token(token.content) < 0) insert(token.id);
    }
    std::sort(by_content.begin(), by_content.end(),
              [](const added_token* a, const added_token* b) { return a->content < b->content; });
    const auto same = std::adjacent_find(by_content.begin(), by_content.end(),
                                         [](const auto* a, const auto* b) { return a->content == b->content; });
    if (same != by_content.end()) {
      throw option_error("added tokens " + std::to_string((*same)->id) + " and " + std::to_string((*(same + 1))->id) +
                         " are both \"" + (*same)->content + "\"");
    }
    for (const added_token& token : model_.added) {
      const auto stands_for = from_byte_alphabet(token.content);
      const token_id other = stands_for ? text_token(*stands_for) : nothing;
      if (other >= 0 && other != token.id) {
        throw option_error("added token " + std::to_string(token.id) + " (\"" + token.content +
                           "\") cannot be told apart from " + shown(other));
      }
    }
    for (std::size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
      const char c = static_cast<char>(byte);
      byte_tokens_[byte] = text_token({&c, 1});
      if (byte_tokens_[byte] < 0) {
        throw option_error("byte_pair_tokenizer: byte " + std::to_string(byte) + " (\"" + to_byte_alphabet({&c, 1}) +
                           "\") has no token");
      }
    }
  }

  void index_merges() {
    merge_ranks_ = detail::number_table(model_.merges.size());
    results_.reserve(model_.merges.size());
    std::string joined;
    for (const auto& merge : model_.merges) {
      const token_id left = merge.left;
      const token_id right = merge.right;
      const auto fail = [&, place = results_.size()](const std::string& what) {
        throw option_error("merge " + std::to_string(place) + " of " + std::to_string(left) + " and " +
                           std::to_string(right) + ": " + what);
      };
      for (const token_id id : {left, right}) {
        if (!has(id) || text_token(bytes(id)) != id) fail(std::to_string(id) + " is no token of text");
      }
      joined.assign(bytes(left)).append(bytes(right));
      const token_id result = text_token(joined);
      if (result < 0) fail("the result \"" + to_byte_alphabet(joined) + "\" is no token of text");
      if (rank_of(left, right) != no_merge) fail("stands in the list twice");
      merge_ranks_.insert(detail::mixed(detail::pair_key(left, right)), static_cast<std::int32_t>(results_.size()));
      results_.push_back(result);
    }
  }

  void find_whole_tokens() {
    workspace space;
    std::vector<token_id> ids;
    for (std::size_t i = 0; i < size(); ++i) {
      const auto id = static_cast<token_id>(i);
      if (text_token(bytes(id)) != id) continue;
      ids.clear();
      if (!model_.whole_pieces) merge(bytes(id), space, ids);
      role_[i].whole = model_.whole_pieces || (ids.size() == 1 && ids.front() == id);
    }
  }

  byte_pair_model model_;
  std::vector<role> role_;            // [vocabulary]
  detail::number_table text_tokens_;  // the text tokens, by their bytes
  std::array<token_id, 256> byte_tokens_{};
  detail::number_table merge_ranks_;  // places in model_.merges, by pair
  std::vector<token_id> results_;     // [merges]
  detail::added_token_matcher added_before_composing_;
  detail::added_token_matcher added_;
};

}  // namespace dro::text

#endif
