// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_TOKENIZER_JSON_HPP
#define DRO_DATA_TOKENIZER_JSON_HPP

/// \file
/// Byte-level byte-pair tokenizers in the file format of Hugging Face's `tokenizers`. Needs nlohmann-json, utf8proc
/// and zlib.

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/checkpoint_file.hpp>
#include <dro/data/json_field.hpp>
#include <dro/data/json_records.hpp>
#include <dro/error.hpp>
#include <dro/text/byte_alphabet.hpp>
#include <dro/text/byte_pair.hpp>

namespace dro::data {

namespace detail {

struct known_pattern {
  text::split_pattern pattern;
  std::string_view regex;
};

inline constexpr std::array<known_pattern, 3> known_patterns{{
    {text::split_pattern::gpt2, R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {text::split_pattern::llama3,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
     R"(|\s+(?!\S)|\s+)"},
    {text::split_pattern::qwen2,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
     R"(|\s+(?!\S)|\s+)"},
}};

/// Turns the object of a tokenizer.json into a model, field by field. What it does not check, the tokenizer does.
class tokenizer_fields {
 public:
  explicit tokenizer_fields(const json_field& root) : root_(root) {}

  [[nodiscard]] text::byte_pair_model read() {
    for (const char* const step : {"truncation", "padding"}) {
      if (const auto found = root_.find(step)) found->fail("is not supported, expected null");
    }
    const json_field model = root_["model"];
    read_model_options(model);
    read_tokens(model["vocab"]);
    read_merges(model["merges"]);
    if (const auto normalizer = root_.find("normalizer")) read_normalizer(*normalizer);
    read_pre_tokenizer(root_["pre_tokenizer"]);
    if (const auto processor = root_.find("post_processor")) read_post_processor(*processor);
    if (const auto decoder = root_.find("decoder")) require((*decoder)["type"], {"ByteLevel"});
    return std::move(model_);
  }

 private:
  /// \throws data_error where the string is none of those.
  static const std::string& require(const json_field& field, std::initializer_list<std::string_view> supported) {
    const std::string& found = field.string();
    if (std::find(supported.begin(), supported.end(), found) == supported.end()) {
      std::string list;
      for (const std::string_view one : supported) list += (list.empty() ? "\"" : ", \"") + std::string(one) + "\"";
      field.fail("\"" + found + "\" is not supported, expected " + list);
    }
    return found;
  }

  /// \throws data_error where the member is there and is not `supported`.
  static void require(const json_field& object, const char* key, bool supported) {
    const auto found = object.find(key);
    if (found && found->boolean() != supported) {
      found->fail(std::string("is not supported, expected ") + (supported ? "true" : "false"));
    }
  }

  [[nodiscard]] static bool flag(const json_field& object, const char* key, bool otherwise) {
    const auto found = object.find(key);
    return found ? found->boolean() : otherwise;
  }

  /// The members of a sequence, or the one step itself.
  [[nodiscard]] static std::vector<json_field> steps(const json_field& field, const char* list) {
    return field["type"].string() == "Sequence" ? field[list].elements() : std::vector<json_field>{field};
  }

  void read_model_options(const json_field& model) {
    if (const auto type = model.find("type")) require(*type, {"BPE"});
    if (const auto dropout = model.find("dropout")) dropout->fail("is not supported, expected null");
    for (const char* const affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (const auto found = model.find(affix)) require(*found, {""});
    }
    require(model, "byte_fallback", false);
    model_.whole_pieces = flag(model, "ignore_merges", false);
    // unk_token and fuse_unk mean nothing where every byte has a token
  }

  /// The vocabulary and the added tokens, which may also stand in the vocabulary: together ids 0, 1, ... without gaps.
  void read_tokens(const json_field& vocabulary) {
    const auto entries = vocabulary.members();
    for (const auto& [key, field] : entries) {
      keys_.emplace(key, static_cast<text::token_id>(field.index(std::size_t{1} << 30U)));
    }
    std::unordered_set<std::string_view> added_keys;
    std::vector<std::pair<text::token_id, json_field>> beside;
    if (const auto added = root_.find("added_tokens")) {
      for (const json_field& field : added->elements()) {
        const text::added_token& token = model_.added.emplace_back(read_added_token(field));
        const auto key = keys_.find(token.content);
        if (key == keys_.end()) {
          beside.emplace_back(token.id, field);
        } else if (key->second != token.id) {
          field["id"].fail("is " + std::to_string(token.id) + ", but the vocabulary says " +
                           std::to_string(key->second));
        } else {
          added_keys.insert(key->first);
        }
      }
    }
    model_.tokens.resize(entries.size() + beside.size());
    std::vector<bool> taken(model_.tokens.size());
    for (const auto& [key, field] : entries) {
      auto bytes = added_keys.count(key) > 0 ? key : text::from_byte_alphabet(key);
      if (!bytes) field.fail("is neither written in the byte alphabet nor an added token");
      place_token(keys_.find(key)->second, *std::move(bytes), field, taken);
    }
    for (const auto& [id, field] : beside) place_token(id, field["content"].string(), field["id"], taken);
    std::sort(model_.added.begin(), model_.added.end(),
              [](const text::added_token& a, const text::added_token& b) { return a.id < b.id; });
  }

  [[nodiscard]] static text::added_token read_added_token(const json_field& field) {
    require(field, "single_word", false);
    return {.id = static_cast<text::token_id>(field["id"].index(std::size_t{1} << 30U)),
            .content = field["content"].string(),
            .special = field["special"].boolean(),
            .strip_left = flag(field, "lstrip", false),
            .strip_right = flag(field, "rstrip", false),
            .composed = flag(field, "normalized", false)};
  }

  void place_token(text::token_id id, std::string bytes, const json_field& field, std::vector<bool>& taken) {
    const auto place = static_cast<std::size_t>(id);
    if (place >= taken.size()) {
      field.fail("has id " + std::to_string(id) + ", expected ids from 0 to " + std::to_string(taken.size() - 1) +
                 " without gaps");
    }
    if (taken[place]) field.fail("has id " + std::to_string(id) + ", which another token has");
    taken[place] = true;
    model_.tokens[place] = std::move(bytes);
  }

  void read_merges(const json_field& merges) {
    for (const json_field& field : merges.elements()) {
      if (field.is_array()) {
        const auto pair = field.elements(2);
        model_.merges.push_back({operand(pair[0].string(), field), operand(pair[1].string(), field)});
        continue;
      }
      const std::string& line = field.string();
      const std::size_t space = line.find(' ');
      if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
        field.fail("expected two tokens with a space between, found \"" + line + "\"");
      }
      model_.merges.push_back({operand(line.substr(0, space), field), operand(line.substr(space + 1), field)});
    }
  }

  [[nodiscard]] text::token_id operand(const std::string& key, const json_field& field) const {
    const auto found = keys_.find(key);
    if (found == keys_.end()) field.fail("\"" + key + "\" is not in the vocabulary");
    return found->second;
  }

  void read_normalizer(const json_field& normalizer) {
    for (const json_field& step : steps(normalizer, "normalizers")) {
      require(step["type"], {"NFC"});
      model_.composed = true;
    }
  }

  void read_pre_tokenizer(const json_field& pre_tokenizer) {
    const auto all = steps(pre_tokenizer, "pretokenizers");
    model_.splits.clear();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const json_field& step = all[i];
      const std::string& type = require(step["type"], {"ByteLevel", "Split", "Digits"});
      if ((type == "ByteLevel") != (i + 1 == all.size()))
        step["type"].fail("expected ByteLevel as the last step, once");
      if (type == "Digits") {
        const bool alone = flag(step, "individual_digits", false);
        model_.splits.push_back(alone ? text::split_pattern::digits : text::split_pattern::digit_runs);
      } else if (type == "Split") {
        model_.splits.push_back(read_split(step));
      } else {
        if (all.size() > 1) require(step, "add_prefix_space", false);
        model_.prefix_space = flag(step, "add_prefix_space", true);
        if (flag(step, "use_regex", true)) model_.splits.push_back(text::split_pattern::gpt2);
      }
    }
    if (all.empty()) pre_tokenizer.fail("expected ByteLevel as the last step");
  }

  /// The known patterns match all of a text, so that to keep the matches is to cut at them.
  [[nodiscard]] static text::split_pattern read_split(const json_field& step) {
    const std::string& behaviour = require(step["behavior"], {"Isolated", "Removed"});
    require(step, "invert", behaviour == "Removed");
    const json_field regex = step["pattern"]["Regex"];
    for (const auto& known : known_patterns) {
      if (regex.string() == known.regex) return known.pattern;
    }
    regex.fail("expected the pattern of GPT-2, Llama 3 or Qwen2, found " + regex.string());
  }

  void read_post_processor(const json_field& post_processor) {
    bool framed = false;
    for (const json_field& step : steps(post_processor, "processors")) {
      if (require(step["type"], {"ByteLevel", "TemplateProcessing"}) == "ByteLevel") continue;  // it is about offsets
      if (std::exchange(framed, true)) step.fail("is a second template");
      read_template(step);
    }
  }

  void read_template(const json_field& step) {
    bool behind = false;
    for (const json_field& part : step["single"].elements()) {
      if (const auto sequence = part.find("Sequence")) {
        require((*sequence)["id"], {"A"});
        if (std::exchange(behind, true)) part.fail("is a second place for the text");
        continue;
      }
      const std::string& name = part["SpecialToken"]["id"].string();
      const json_field named = step["special_tokens"][name.c_str()];
      for (const json_field& id : named["ids"].elements()) {
        auto& frame = behind ? model_.after : model_.before;
        frame.push_back(static_cast<text::token_id>(id.index(model_.tokens.size())));
      }
    }
    if (!behind) step["single"].fail("has no place for the text, Sequence A");
  }

  const json_field& root_;
  text::byte_pair_model model_;
  std::unordered_map<std::string, text::token_id> keys_;  // the vocabulary as the file writes it
};

[[nodiscard]] inline nlohmann::ordered_json byte_level(bool prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

[[nodiscard]] inline nlohmann::ordered_json pre_tokenizer_json(const text::byte_pair_model& model) {
  const bool ends_with_gpt2 = !model.splits.empty() && model.splits.back() == text::split_pattern::gpt2;
  auto last = byte_level(model.prefix_space, ends_with_gpt2);
  const std::size_t before = model.splits.size() - (ends_with_gpt2 ? 1 : 0);
  if (before == 0) return last;
  auto steps = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < before; ++i) {
    const auto known = std::find_if(known_patterns.begin(), known_patterns.end(),
                                    [&](const known_pattern& k) { return k.pattern == model.splits[i]; });
    if (known == known_patterns.end()) {
      steps.push_back({{"type", "Digits"}, {"individual_digits", model.splits[i] == text::split_pattern::digits}});
    } else {
      steps.push_back(
          {{"type", "Split"}, {"pattern", {{"Regex", known->regex}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
  }
  steps.push_back(last);
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

[[nodiscard]] inline nlohmann::ordered_json post_processor_json(const text::byte_pair_tokenizer& tokenizer) {
  using json = nlohmann::ordered_json;
  const text::byte_pair_model& model = tokenizer.model();
  if (model.before.empty() && model.after.empty()) return byte_level(true, true);
  json special_tokens = json::object();
  const auto parts = [&](const char* sequence, int type) {
    json list = json::array();
    const auto add = [&](const std::vector<text::token_id>& frame) {
      for (const text::token_id id : frame) {
        const std::string name(tokenizer[id]);  // an added token's, so it is UTF-8
        special_tokens[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
        list.push_back({{"SpecialToken", {{"id", name}, {"type_id", type}}}});
      }
    };
    add(model.before);
    list.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
    add(model.after);
    return list;
  };
  json pair = parts("A", 0);
  for (auto& part : parts("B", 1)) pair.push_back(std::move(part));
  return {{"type", "TemplateProcessing"},
          {"single", parts("A", 0)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special_tokens)}};
}

}  // namespace detail

/// Reads a tokenizer.json with a byte-level BPE model.
///
/// Taken: model BPE, with or without `ignore_merges`; normalizer none or NFC; pre-tokenizer ByteLevel, alone or after
/// Split steps by the patterns of GPT-2, Llama 3 and Qwen2 and Digits steps; post-processor none, ByteLevel, or
/// TemplateProcessing, of which the template of one text becomes `before` and `after`; added tokens that strip, that
/// are looked for before or after the normalisation, special and not. Token for token the peer gives the same ids, with
/// `recognise_special` as it does from itself and without as it does with `encode_special_tokens`, as far as the two
/// libraries know the same version of Unicode.
///
/// Refused, because texts would get other tokens: every other model, normalizer, pre-tokenizer and post-processor,
/// truncation and padding, dropout, `byte_fallback`, affixes of words, and added tokens that are `single_word`.
///
/// \throws file_error where the file cannot be read; data_error that names the field and the value where it is not such
/// a file, where ids are missing or there twice, and where `byte_pair_tokenizer` refuses what it says.
/// Memory: the file and its JSON. O(size · log tokens).
[[nodiscard]] inline text::byte_pair_tokenizer read_tokenizer_json(const std::filesystem::path& path) {
  json_record_stream file(path);
  const auto record = file.next();
  if (!record) throw data_error(file.path(), 0, "holds no object");
  const record_place place{file.path(), record->line, record->number, {}};
  const json_field root(record->value, place);
  text::byte_pair_model model = detail::tokenizer_fields(root).read();
  if (const auto second = file.next()) throw data_error(file.path(), second->line, "a second object, expected one");
  try {
    return text::byte_pair_tokenizer(std::move(model));
  } catch (const option_error& refusal) {
    throw data_error(file.path(), record->line, refusal.what());
  }
}

/// Writes a tokenizer.json that `read_tokenizer_json` reads as an equal tokenizer and that Hugging Face's `tokenizers`
/// (0.20 or later) loads. The file is wholly there or not at all. \throws file_error where it cannot be written.
inline void write_tokenizer_json(const text::byte_pair_tokenizer& tokenizer, const std::filesystem::path& path) {
  using json = nlohmann::ordered_json;
  const text::byte_pair_model& model = tokenizer.model();
  std::vector<std::string> keys(model.tokens.size());
  std::transform(model.tokens.begin(), model.tokens.end(), keys.begin(), text::to_byte_alphabet);
  json added = json::array();
  for (const text::added_token& token : model.added) {
    keys[static_cast<std::size_t>(token.id)] = token.content;
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", false},
                     {"lstrip", token.strip_left},
                     {"rstrip", token.strip_right},
                     {"normalized", token.composed},
                     {"special", token.special}});
  }
  // The vocabulary is written by hand: an ordered_json object takes time quadratic in its members.
  for (std::string& key : keys) key = json(key).dump();
  std::string file = "{\n\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": ";
  file += added.dump(1);
  file += ",\n\"normalizer\": " + (model.composed ? json{{"type", "NFC"}} : json()).dump();
  file += ",\n\"pre_tokenizer\": " + detail::pre_tokenizer_json(model).dump(1);
  file += ",\n\"post_processor\": " + detail::post_processor_json(tokenizer).dump(1);
  file += ",\n\"decoder\": " + detail::byte_level(true, true).dump();
  file += ",\n\"model\": {\n\"type\": \"BPE\",\n\"dropout\": null,\n\"unk_token\": null,\n";
  file += "\"continuing_subword_prefix\": null,\n\"end_of_word_suffix\": null,\n\"fuse_unk\": false,\n";
  file += "\"byte_fallback\": false,\n\"ignore_merges\": " + json(model.whole_pieces).dump() + ",\n\"vocab\": {";
  for (std::size_t id = 0; id < keys.size(); ++id) {
    file += (id == 0 ? "\n" : ",\n") + keys[id] + ": " + std::to_string(id);
  }
  file += "\n},\n\"merges\": [";
  const char* separator = "\n";
  for (const auto& [left, right] : model.merges) {
    file += separator;
    file += '[' + keys[static_cast<std::size_t>(left)] + ", " + keys[static_cast<std::size_t>(right)] + ']';
    separator = ",\n";
  }
  file += "\n]\n}\n}\n";
  write_file_atomically(path, file);
}

}  // namespace dro::data

#endif
