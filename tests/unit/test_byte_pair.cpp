// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding: against a plain reading of its definition, round trips of any bytes, and what a model may not
// say.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/error.hpp>
#include <dro/text/byte_pair_trainer.hpp>

using namespace dro::text;

namespace {

/// Numbers that look random, the same everywhere.
class numbers {
 public:
  explicit numbers(std::uint64_t seed) : state_(seed) {}
  /// In [0, limit), not quite evenly.
  std::size_t below(std::size_t limit) {
    state_ += 0x9E3779B97F4A7C15U;
    return static_cast<std::size_t>(detail::mixed(state_)) % limit;
  }
  std::string bytes(std::size_t count, std::string_view alphabet = {}) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
      text.push_back(alphabet.empty() ? static_cast<char>(below(256)) : alphabet[below(alphabet.size())]);
    }
    return text;
  }

 private:
  std::uint64_t state_;
};

std::vector<std::string> pieces(std::string_view text, std::vector<split_pattern> patterns) {
  std::vector<std::string> all;
  for_each_piece(text, patterns, [&](std::string_view piece) { all.emplace_back(piece); });
  return all;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}

using strings = std::vector<std::string>;
using ids = std::vector<token_id>;

/// Bytes 0 ... 255, then one token for each merge, given as bytes.
byte_pair_model model_of(const std::vector<std::pair<std::string, std::string>>& merges) {
  byte_pair_model model;
  std::map<std::string, token_id> by_bytes;
  const auto add = [&](const std::string& bytes) {
    if (by_bytes.emplace(bytes, static_cast<token_id>(model.tokens.size())).second) model.tokens.push_back(bytes);
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (const auto& [left, right] : merges) {
    add(left + right);
    model.merges.push_back({by_bytes.at(left), by_bytes.at(right)});
  }
  return model;
}

/// The definition, word by word: of all neighbours that are a merge, make the first in the list, leftmost.
ids by_definition(const byte_pair_model& model, std::string_view piece) {
  strings parts;
  for (const char c : piece) parts.emplace_back(1, c);
  for (;;) {
    std::size_t best = model.merges.size();
    std::size_t where = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        const auto [left, right] = model.merges[rank];
        if (model.tokens[static_cast<std::size_t>(left)] == parts[i] &&
            model.tokens[static_cast<std::size_t>(right)] == parts[i + 1]) {
          best = rank;
          where = i;
        }
      }
    }
    if (best == model.merges.size()) break;
    parts[where] += parts[where + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
  ids found;
  for (const std::string& part : parts) {
    found.push_back(
        static_cast<token_id>(std::find(model.tokens.begin(), model.tokens.end(), part) - model.tokens.begin()));
  }
  return found;
}

byte_pair_tokenizer trained_on(const strings& texts, std::size_t vocabulary, strings special = {},
                               std::uint64_t least_count = 2) {
  byte_pair_training options;
  options.vocabulary = vocabulary;
  options.special_tokens = std::move(special);
  options.least_count = least_count;
  return train_byte_pairs(texts, options);
}

/// What is said about the model.
std::string refusal(const byte_pair_model& model) {
  try {
    const byte_pair_tokenizer tokenizer(model);
  } catch (const dro::option_error& e) {
    return e.what();
  }
  return "nothing thrown";
}

const strings prose = {"the queen wrote the letter", "the queen kept the letters", "who kept the queen's letters?",
                       "she wrote 12 letters in 1902", "  the\tletters  "};

}  // namespace

TEST_CASE("the byte alphabet has a printable character for each byte, and back") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  const std::string written = to_byte_alphabet(all);
  CHECK(written.starts_with("ĀāĂăĄąĆćĈĉĊ"));
  CHECK(written.find("Ġ!\"#$%&'()*+,-./0123456789:;<=>?@ABC") != std::string::npos);
  CHECK(written.ends_with("ùúûüýþÿ"));
  CHECK(from_byte_alphabet(written) == all);
  CHECK(to_byte_alphabet("") == "");
  CHECK(from_byte_alphabet("") == "");
  CHECK_FALSE(from_byte_alphabet("a b"));     // a space is Ġ
  CHECK_FALSE(from_byte_alphabet("\u00AD"));  // not printable: byte 0xAD is ł + 1
  CHECK(from_byte_alphabet("\u0143") == "\xAD");
  CHECK_FALSE(from_byte_alphabet("\u0144"));
  CHECK_FALSE(from_byte_alphabet("\u4E00"));
  CHECK_FALSE(from_byte_alphabet("a\xC4"));
}

TEST_CASE("composed form") {
  CHECK(nfc("plain") == "plain");
  CHECK(nfc("e\u0301") == "\u00E9");
  CHECK(nfc("\u1112\u1161\u11AB") == "\uD55C");
  CHECK(nfc("\u212B") == "\u00C5");
  CHECK(nfc("").empty());
  CHECK(nfc("e\xFF\u0301"
            "e\u0301") == "e\xFF\u0301\u00E9");  // nothing composes across a byte that is not UTF-8
  CHECK(nfc("\xE2\x82") == "\xE2\x82");
  CHECK(nfc(std::string("e\u0301\0e\u0301", 7)) == std::string("\u00E9\0\u00E9", 5));
}

TEST_CASE("pieces of the patterns") {
  const std::string text = "I'll  see 1234 Bücher!!\r\n\n  It'S\t\tok \n";
  CHECK(pieces(text, {split_pattern::gpt2}) == strings{"I", "'ll", " ", " see", " 1234", " Bücher", "!!", "\r\n\n ",
                                                       " It", "'", "S", "\t", "\t", "ok", " \n"});
  CHECK(pieces(text, {split_pattern::llama3}) == strings{"I", "'ll", " ", " see", " ", "123", "4", " Bücher",
                                                         "!!\r\n\n", " ", " It", "'S", "\t", "\tok", " \n"});
  CHECK(pieces("it'\u017Fa", {split_pattern::llama3}) == strings{"it", "'\u017F", "a"});  // the long s folds to s
  CHECK(pieces("a 12", {split_pattern::qwen2}) == strings{"a", " ", "1", "2"});
  CHECK(pieces("a12b 3", {split_pattern::digits}) == strings{"a", "1", "2", "b ", "3"});
  CHECK(pieces("a12b 3", {split_pattern::digit_runs}) == strings{"a", "12", "b ", "3"});
  CHECK(pieces("a12 b", {split_pattern::digit_runs, split_pattern::gpt2}) == strings{"a", "12", " b"});
  CHECK(pieces(text, {}) == strings{text});
  CHECK(pieces("", {}).empty());
  CHECK(pieces("", {split_pattern::gpt2}).empty());
  CHECK(pieces("a\xFF\xFE b", {split_pattern::gpt2}) == strings{"a", "\xFF\xFE", " b"});
}

TEST_CASE("pieces one after the other are the text, whatever it is, and a piece is cut no further") {
  numbers random(1);
  const std::string_view alphabet = "a b'sS\n\r\t1!\xC3\xA9\xE2\x80\x83\xF0\x9F";
  for (const auto pattern : {split_pattern::gpt2, split_pattern::llama3, split_pattern::qwen2, split_pattern::digits,
                             split_pattern::digit_runs}) {
    for (int repeat = 0; repeat < 2000; ++repeat) {
      const std::string text = random.bytes(random.below(30), repeat % 2 == 0 ? alphabet : "");
      const auto all = pieces(text, {pattern});
      REQUIRE(joined(all) == text);
      for (const auto& piece : all) {
        REQUIRE_FALSE(piece.empty());
        REQUIRE(pieces(piece, {pattern}).size() == 1);
      }
    }
  }
}

TEST_CASE("tokens are those of the definition, for short and for long pieces") {
  // merges of bytes and of merges, in an order that no training gives: later ones make way for earlier ones
  auto model = model_of({{"b", "c"},
                         {"a", "b"},
                         {"c", "a"},
                         {"a", "a"},
                         {"bc", "a"},
                         {"ab", "ca"},
                         {"aa", "aa"},
                         {"ca", "b"},
                         {"b", "b"},
                         {"bca", "bca"},
                         {"bb", "bb"}});
  std::swap(model.merges[4], model.merges[0]);
  model.splits.clear();
  const byte_pair_tokenizer tokenizer(model);
  numbers random(2);
  for (int repeat = 0; repeat < 3000; ++repeat) {
    const std::string text = random.bytes(random.below(repeat % 10 == 0 ? 150 : 40), repeat % 3 == 0 ? "ab" : "abcd");
    CAPTURE(text);
    REQUIRE(tokenizer.encode(text) == by_definition(model, text));
  }
  // the two ways to merge part at 48 bytes
  for (std::size_t size = 44; size < 54; ++size) {
    CHECK(tokenizer.encode(std::string(size, 'a')) == by_definition(model, std::string(size, 'a')));
  }
}

TEST_CASE("a token that merges do not lead to is used only where pieces are matched whole") {
  auto model = model_of({{"a", "b"}});
  model.tokens.push_back("abc");
  model.splits.clear();
  CHECK(byte_pair_tokenizer(model).encode("abc") == ids{256, 'c'});
  model.whole_pieces = true;
  CHECK(byte_pair_tokenizer(model).encode("abc") == ids{257});
  CHECK(byte_pair_tokenizer(model).encode("abcd") == ids{256, 'c', 'd'});
}

TEST_CASE("any bytes come back") {
  numbers random(3);
  for (const auto& patterns : std::vector<std::vector<split_pattern>>{
           {}, {split_pattern::gpt2}, {split_pattern::llama3}, {split_pattern::digits, split_pattern::gpt2}}) {
    byte_pair_training options;
    options.vocabulary = 300;
    options.splits = patterns;
    const auto tokenizer = train_byte_pairs(prose, options);
    for (int repeat = 0; repeat < 500; ++repeat) {
      const std::string text = random.bytes(random.below(60), repeat % 2 == 0 ? "the queen'\n\xC3\xA9" : "");
      REQUIRE(tokenizer.decode(tokenizer.encode(text)) == text);
    }
  }
}

TEST_CASE("where two texts meet at the edge of a piece their tokens stand one after the other") {
  const auto tokenizer = trained_on(prose, 320);
  for (const std::string& text : prose) {
    const auto whole = tokenizer.encode(text);
    std::size_t edge = 0;
    for (const auto& piece : pieces(text, {split_pattern::gpt2})) {
      edge += piece.size();
      // what follows white space decides where that is cut: the text in front must be cut as it was
      if (pieces(text.substr(0, edge), {split_pattern::gpt2}).back() != piece) continue;
      auto parts = tokenizer.encode(text.substr(0, edge));
      const auto rest = tokenizer.encode(text.substr(edge));
      parts.insert(parts.end(), rest.begin(), rest.end());
      CHECK(parts == whole);
    }
  }
}

TEST_CASE("text cannot produce a special token unless that is allowed") {
  const strings special = {"<s>", "</s>"};
  // the contents are also frequent text
  const auto tokenizer = trained_on({"<s></s><s></s><s></s> <s> </s>"}, 300, special);
  const std::string text = "x<s>y</s>";
  const auto plain = tokenizer.encode(text);
  CHECK(std::none_of(plain.begin(), plain.end(), [&](token_id id) { return tokenizer.is_special(id); }));
  CHECK(tokenizer.decode(plain) == text);
  const auto known = tokenizer.encode(text, {.recognise_special = true});
  CHECK(known == ids{tokenizer.find("x").value(), 0, tokenizer.find("y").value(), 1});
  CHECK(tokenizer.decode(known) == text);
  CHECK(tokenizer.decode(known, {.skip_special = true}) == "xy");
  CHECK_FALSE(tokenizer.find("<s>"));
  CHECK(tokenizer.find_added("</s>") == 1);
  CHECK_FALSE(tokenizer.find_added("<u>"));
  CHECK(tokenizer.is_special(0));
  CHECK_FALSE(tokenizer.is_special(2));
  CHECK_FALSE(tokenizer.is_special(-1));
  // training passes over the merge that a file would write like a special token
  const auto unsplit = train_byte_pairs(strings{"<s><s><s>", "<s>"},
                                        {.vocabulary = 300, .least_count = 1, .special_tokens = special, .splits = {}});
  CHECK(unsplit.encode("<s>") == ids{unsplit.find("<s").value(), unsplit.find(">").value()});
  CHECK(unsplit.find("><s"));
  // nor by way of a piece that is matched whole
  auto model = tokenizer.model();
  model.whole_pieces = true;
  model.splits.clear();
  CHECK(byte_pair_tokenizer(model).encode("<s>").size() > 1);
}

TEST_CASE("added tokens: leftmost, longest, with the white space they take") {
  auto model = model_of({});
  const auto add = [&](added_token token) {
    token.id = static_cast<token_id>(model.tokens.size());
    model.tokens.push_back(token.content);
    model.added.push_back(token);
  };
  add({.content = "<a>"});                                            // 256
  add({.content = "<a><b>", .special = false});                       // 257
  add({.content = "<l>", .strip_left = true});                        // 258
  add({.content = "<r>", .strip_right = true});                       // 259
  add({.content = "caf\u00E9", .special = false, .composed = true});  // 260
  model.composed = true;
  const byte_pair_tokenizer tokenizer(model);
  const auto special = [&](std::string_view text) { return tokenizer.encode(text, {.recognise_special = true}); };
  CHECK(special("<a><a><b>") == ids{256, 257});
  CHECK(special("<a><b") == ids{256, '<', 'b'});
  CHECK(special("x \u00A0\n<l> y") == ids{'x', 258, ' ', 'y'});
  CHECK(special(" <r> \u3000<l>") == ids{' ', 259, 258});
  CHECK(special("cafe\u0301!") == ids{260, '!'});
  CHECK(tokenizer.encode("<a><b><l>") == ids{257, '<', 'l', '>'});
  CHECK(special("").empty());
}

TEST_CASE("a space goes in front, the frame goes around") {
  auto model = model_of({{" ", "a"}});
  model.prefix_space = true;
  model.added = {{.id = 257, .content = "<s>"}, {.id = 258, .content = "</s>"}};
  model.tokens.insert(model.tokens.end(), {"<s>", "</s>"});
  model.before = {257};
  model.after = {258, 258};
  const byte_pair_tokenizer tokenizer(model);
  CHECK(tokenizer.encode("a") == ids{256});
  CHECK(tokenizer.encode(" a") == ids{256});
  CHECK(tokenizer.encode("a<s>a", {.recognise_special = true}) == ids{256, 257, 256});
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.encode("", {.framed = true}) == ids{257, 258, 258});
  CHECK(tokenizer.encode("a", {.framed = true}) == ids{257, 256, 258, 258});
}

TEST_CASE("ids that there are not") {
  const byte_pair_tokenizer tokenizer(model_of({}));
  CHECK(tokenizer.size() == 256);
  CHECK(tokenizer[97] == "a");
  CHECK_THROWS_WITH_AS((void)tokenizer[256], "token 256: the vocabulary has 256", dro::option_error);
  CHECK_THROWS_WITH_AS((void)tokenizer.decode(ids{97, -1}), "token -1: the vocabulary has 256", dro::option_error);
}

TEST_CASE("a copy does not need the original") {
  auto original = std::make_unique<byte_pair_tokenizer>(trained_on(prose, 300));
  const auto before = original->encode(prose[0]);
  const byte_pair_tokenizer copy = *original;
  original.reset();
  CHECK(copy.encode(prose[0]) == before);
}

TEST_CASE("training takes the most frequent pair, of equal ones that with the lower ids") {
  // pairs: ab 3, bc 2, cd 2; then abc 2 and cd 2: equal, ab's id is higher than c's
  const auto tokenizer = trained_on({"abcd", "abcd", "ab"}, 260);
  const auto merge = [&](std::size_t rank) {
    const auto [left, right] = tokenizer.model().merges.at(rank);
    return std::string(tokenizer[left]) + "+" + std::string(tokenizer[right]);
  };
  CHECK(merge(0) == "a+b");
  CHECK(merge(1) == "c+d");
  CHECK(merge(2) == "ab+cd");
  CHECK(tokenizer.model().merges.size() == 3);  // nothing is left to merge
  CHECK(tokenizer.size() == 259);
}

TEST_CASE("training counts overlapping pairs as they can be merged") {
  // "aaaa": aa is merged to (aa)(aa), then those
  const auto tokenizer = trained_on({"aaaa"}, 300, {}, 1);
  CHECK(tokenizer.encode("aaaa").size() == 1);
  CHECK(tokenizer.model().merges.size() == 2);
}

TEST_CASE("training agrees with counting anew after each merge") {
  numbers random(4);
  for (int repeat = 0; repeat < 60; ++repeat) {
    strings texts;
    for (int i = 0; i < 20; ++i) texts.push_back(random.bytes(1 + random.below(16), repeat % 2 == 0 ? "aab" : "a"));
    const auto trained = trained_on(texts, 400, {}, 2).model();
    std::vector<ids> words;
    const auto first = byte_pair_tokenizer(trained_on({}, 256).model());
    for (const auto& text : texts) words.push_back(first.encode(text));
    std::vector<std::string> tokens = first.model().tokens;
    for (std::size_t rank = 0;; ++rank) {
      std::map<std::pair<token_id, token_id>, int> counts;
      for (const auto& word : words) {
        for (std::size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
      }
      const auto best = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;  // the first of the greatest: pairs are in order
      });
      if (best == counts.end() || best->second < 2 || tokens.size() == 400) {
        CHECK(trained.merges.size() == rank);
        break;
      }
      const auto [left, right] = best->first;
      REQUIRE(rank < trained.merges.size());
      REQUIRE(trained.merges[rank] == byte_pair_merge{left, right});
      const auto bytes = tokens[static_cast<std::size_t>(left)] + tokens[static_cast<std::size_t>(right)];
      auto place = std::find(tokens.begin(), tokens.end(), bytes);
      if (place == tokens.end()) place = tokens.insert(tokens.end(), bytes);
      const auto result = static_cast<token_id>(place - tokens.begin());
      for (auto& word : words) {
        ids merged;
        for (std::size_t i = 0; i < word.size(); ++i) {
          const bool here = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
          merged.push_back(here ? result : word[i]);
          if (here) ++i;
        }
        word = merged;
      }
    }
    CHECK(trained.tokens == tokens);
  }
}

TEST_CASE("training depends neither on the order of the texts nor on how often it is done") {
  strings reversed(prose.rbegin(), prose.rend());
  const auto once = trained_on(prose, 330, {"<s>"});
  CHECK(trained_on(reversed, 330, {"<s>"}) == once);
  byte_pair_trainer trainer({.vocabulary = 330, .special_tokens = {"<s>"}});
  for (const auto& text : prose) trainer.add(text);
  CHECK(trainer.train() == once);
  CHECK(trainer.train() == once);
}

TEST_CASE("what a training may not ask for") {
  const auto refused = [](byte_pair_training options) {
    try {
      const byte_pair_trainer trainer(std::move(options));
    } catch (const dro::option_error& e) {
      return std::string(e.what());
    }
    return std::string("nothing thrown");
  };
  CHECK(refused({.vocabulary = 257, .special_tokens = {"<s>", "</s>"}}) ==
        "byte_pair_trainer: a vocabulary of 257, expected 258 (bytes and special tokens) to 2^30");
  CHECK(refused({.vocabulary = 258, .special_tokens = {"<s>", "</s>"}}) == "nothing thrown");
  CHECK(refused({.special_tokens = {"<s>", "<s>"}}) == "added tokens 0 and 1 are both \"<s>\"");
  CHECK(refused({.special_tokens = {""}}) == "added token 0 is empty");
  CHECK(refused({.special_tokens = {"x"}}) == "added token 0 (\"x\") cannot be told apart from token 88 (\"x\")");
  CHECK(trained_on({}, 300).size() == 256);
}

TEST_CASE("what a model may not say") {
  const auto changed = [](auto change) {
    byte_pair_model model = model_of({{"a", "b"}});
    model.tokens.push_back("<s>");
    model.added = {{.id = 257, .content = "<s>"}};
    change(model);
    return refusal(model);
  };
  CHECK(changed([](auto&) {}) == "nothing thrown");
  CHECK(changed([](auto& m) { m.tokens[7] = "xy"; }) == "byte_pair_tokenizer: byte 7 (\"ć\") has no token");
  CHECK(changed([](auto& m) { m.tokens[256] = ""; }) == "token 256 is empty");
  CHECK(changed([](auto& m) { m.tokens[256] = " "; }) == "token 256 (\"Ġ\") is the same as token 32");
  CHECK(changed([](auto& m) { m.merges.push_back({97, 98}); }) == "merge 1 of 97 and 98: stands in the list twice");
  CHECK(changed([](auto& m) {
          m.merges.push_back({97, 99});
        }) == "merge 1 of 97 and 99: the result \"ac\" is no token of text");
  CHECK(changed([](auto& m) { m.merges.push_back({97, 258}); }) == "merge 1 of 97 and 258: 258 is no token of text");
  CHECK(changed([](auto& m) { m.merges.push_back({-1, 97}); }) == "merge 1 of -1 and 97: -1 is no token of text");
  CHECK(changed([](auto& m) { m.merges.push_back({257, 97}); }) == "merge 1 of 257 and 97: 257 is no token of text");
  CHECK(changed([](auto& m) { m.added[0].id = 258; }) == "added token 258: expected rising ids below 258");
  CHECK(changed([](auto& m) { m.added.push_back(m.added[0]); }) == "added token 257: expected rising ids below 258");
  CHECK(changed([](auto& m) { m.added[0].content = "<t>"; }) ==
        "added token 257: its content is \"<t>\", but this is token 257 (\"<s>\")");
  CHECK(changed([](auto& m) { m.added[0].content = m.tokens[257] = "\xFF"; }) == "added token 257 is not UTF-8");
  CHECK(changed([](auto& m) { m.added[0].content = m.tokens[257] = "\u00E9"; }) ==
        "added token 257 (\"\u00E9\") cannot be told apart from token 233 (\"\u00E9\")");
  CHECK(changed([](auto& m) { m.after = {258}; }) ==
        "byte_pair_tokenizer: the frame of texts names token 258, which is no added token");
  CHECK(changed([](auto& m) { m.before = {97}; }) ==
        "byte_pair_tokenizer: the frame of texts names token 97, which is no added token");
  CHECK(changed([](auto& m) { m.splits.assign(9, split_pattern::gpt2); }) ==
        "byte_pair_tokenizer: 9 splits, at most 8");
  CHECK(changed([](auto& m) {
          m.prefix_space = true;
          m.splits = {split_pattern::llama3};
        }) == "byte_pair_tokenizer: a prefix space goes with no split, or with that of GPT-2 alone");
}
