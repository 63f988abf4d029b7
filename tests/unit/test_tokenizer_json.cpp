// SPDX-License-Identifier: Apache-2.0
// tokenizer.json: the same tokens as Hugging Face's tokenizers, a round trip, and what is refused.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <dro/data/tokenizer_json.hpp>
#include <dro/error.hpp>
#include <dro/text/byte_pair_trainer.hpp>

#include "data_files.hpp"
#include "fuzz/fuzz_tokenizer_json.cpp"

using dro::data::read_tokenizer_json;
using dro::data::write_tokenizer_json;
using dro::text::byte_pair_tokenizer;
using dro::text::split_pattern;
using dro::text::token_id;
using nlohmann::json;

namespace {

const std::filesystem::path tests = std::filesystem::path(__FILE__).parent_path().parent_path();
const std::filesystem::path golden = tests / "golden" / "tokenizer";

const std::vector<std::string> golden_names = {"gpt2",    "gpt2_prefix", "llama3", "qwen2",
                                               "removed", "whole",       "digits", "digit_runs"};

json golden_file(const std::string& name) { return json::parse(read_bytes(golden / (name + ".json"))); }

/// A small file: bytes 0 ... 255, then "ab" and "abc" with their merges, then the special token "<s>".
json small_file() {
  json vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    vocabulary[dro::text::to_byte_alphabet({&c, 1})] = byte;
  }
  vocabulary["ab"] = 256;
  vocabulary["abc"] = 257;
  const json special = {{"id", 258},       {"content", "<s>"},    {"single_word", false}, {"lstrip", false},
                        {"rstrip", false}, {"normalized", false}, {"special", true}};
  return {{"added_tokens", {special}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", std::move(vocabulary)},
            {"merges", json::array({json::array({"a", "b"}), json::array({"ab", "c"})})}}}};
}

byte_pair_tokenizer read_text(const std::string& text) {
  const temporary_folder folder;
  return read_tokenizer_json(folder.write("tokenizer.json", text));
}

/// What reading the file throws, after the path; it must be a data_error.
std::string refusal_of_text(const std::string& text) {
  const temporary_folder folder;
  const std::string path = folder.write("tokenizer.json", text);
  try {
    (void)read_tokenizer_json(path);
  } catch (const dro::data_error& e) {
    CHECK(e.path() == path);
    return std::string(e.what()).substr(path.size());
  }
  return "nothing thrown";
}

/// What is said about the small file after a change.
template <class Change>
std::string refusal(Change change) {
  json file = small_file();
  change(file);
  return refusal_of_text(file.dump());
}

template <class Change>
byte_pair_tokenizer read_changed(Change change) {
  json file = small_file();
  change(file);
  return read_text(file.dump());
}

}  // namespace

TEST_CASE("the same tokens as the peer, whatever the pre-tokenizer") {
  const json cases = golden_file("cases");
  const auto& texts = cases.at("texts");
  for (const std::string& name : golden_names) {
    CAPTURE(name);
    const auto tokenizer = read_tokenizer_json(golden / (name + ".json"));
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto text = texts[i].get<std::string>();
      CAPTURE(text);
      const auto plain = tokenizer.encode(text);
      CHECK(plain == cases.at(name).at("plain")[i].get<std::vector<token_id>>());
      CHECK(tokenizer.encode(text, {.recognise_special = true, .framed = true}) ==
            cases.at(name).at("special")[i].get<std::vector<token_id>>());
      if (name != "gpt2_prefix" && name != "qwen2") CHECK(tokenizer.decode(plain) == text);
    }
  }
}

TEST_CASE("training gives the ids and merges of the peer") {
  const std::string corpus = read_bytes(golden / "corpus.txt");
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < corpus.size();) {
    const std::size_t end = corpus.find('\n', begin);
    lines.push_back(corpus.substr(begin, end - begin));
    begin = end + 1;
  }
  dro::text::byte_pair_training options;
  options.vocabulary = 560;
  options.special_tokens = {"<s>", "</s>", "<|end of text|>"};
  const auto check = [&](const std::string& name, std::vector<split_pattern> splits) {
    CAPTURE(name);
    options.splits = std::move(splits);
    CHECK(train_byte_pairs(lines, options) == read_tokenizer_json(golden / (name + ".json")));
  };
  check("gpt2", {split_pattern::gpt2});
  check("whole", {});
  check("digits", {split_pattern::digits, split_pattern::gpt2});
  check("digit_runs", {split_pattern::digit_runs, split_pattern::gpt2});
}

TEST_CASE("what is written is read as an equal tokenizer") {
  const temporary_folder folder;
  const auto path = folder.path() / "tokenizer.json";
  for (const std::string& name : golden_names) {
    CAPTURE(name);
    const auto tokenizer = read_tokenizer_json(golden / (name + ".json"));
    write_tokenizer_json(tokenizer, path);
    CHECK(read_tokenizer_json(path) == tokenizer);
  }
  CHECK_THROWS_AS(write_tokenizer_json(read_text(small_file().dump()), folder.path()), dro::file_error);
}

TEST_CASE("what the fields say arrives in the model") {
  const auto llama = read_tokenizer_json(golden / "llama3.json");
  CHECK(llama.model().whole_pieces);
  CHECK(llama.model().splits == std::vector{split_pattern::llama3});
  CHECK(llama.model().before == std::vector{llama.find_added("<s>").value()});
  CHECK(llama.model().after.empty());
  const auto qwen = read_tokenizer_json(golden / "qwen2.json");
  CHECK(qwen.model().composed);
  CHECK(qwen.encode("<mask>").size() > 1);
  CHECK(qwen.encode("<mask>", {.recognise_special = true}) == std::vector{qwen.find_added("<mask>").value()});
  CHECK(qwen.encode("<tool>") == std::vector{qwen.find_added("<tool>").value()});  // added, not special
}

TEST_CASE("the small file is well-formed, with what may be left out left out") {
  const auto small = read_text(small_file().dump());
  CHECK(small.encode("abcab") == std::vector<token_id>{257, 256});
  const auto no_added = read_changed([](json& f) { f.erase("added_tokens"); });
  CHECK(no_added.size() == 258);
  for (const char* const field : {"normalizer", "post_processor", "decoder"}) {
    CHECK(read_changed([&](json& f) { f.erase(field); }) == small);
  }
  CHECK(read_changed([](json& f) { f["model"].erase("type"); }) == small);
  CHECK(read_changed([](json& f) {
          f["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
        }) == small);
  CHECK(read_changed([](json& f) { f["model"]["merges"] = {"a b", "ab c"}; }) == small);
}

TEST_CASE("steps that are not supported are refused by name") {
  const auto step = [](const char* field, json value) { return refusal([&](json& f) { f[field] = value; }); };
  const auto model = [](const char* field, json value) { return refusal([&](json& f) { f["model"][field] = value; }); };
  CHECK(step("truncation", {{"max_length", 5}}) ==
        ":1: record 1, field \"truncation\": is not supported, expected null");
  CHECK(step("padding", true) == ":1: record 1, field \"padding\": is not supported, expected null");
  CHECK(step("normalizer", {{"type", "Lowercase"}}) ==
        ":1: record 1, field \"normalizer.type\": \"Lowercase\" is not supported, expected \"NFC\"");
  CHECK(step("normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Strip"}}}}}) ==
        ":1: record 1, field \"normalizer.normalizers[1].type\": \"Strip\" is not supported, expected \"NFC\"");
  CHECK(step("pre_tokenizer", nullptr) == ":1: record 1, field \"pre_tokenizer\": is missing");
  CHECK(
      step("pre_tokenizer", {{"type", "Metaspace"}}) ==
      ":1: record 1, field \"pre_tokenizer.type\": \"Metaspace\" is not supported, expected \"ByteLevel\", \"Split\", "
      "\"Digits\"");
  CHECK(step("pre_tokenizer", {{"type", "Digits"}}) ==
        ":1: record 1, field \"pre_tokenizer.type\": expected ByteLevel as the last step, once");
  CHECK(step("pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", json::array()}}) ==
        ":1: record 1, field \"pre_tokenizer\": expected ByteLevel as the last step");
  const json split = {
      {"type", "Split"}, {"pattern", {{"Regex", "\\d+|\\D+"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const auto sequence = [&](json first, bool prefix_space) {
    return step("pre_tokenizer",
                {{"type", "Sequence"},
                 {"pretokenizers", {first, {{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}}}}});
  };
  const std::string at_split = ":1: record 1, field \"pre_tokenizer.pretokenizers[0].";
  CHECK(sequence(split, false) ==
        at_split + "pattern.Regex\": expected the pattern of GPT-2, Llama 3 or Qwen2, found \\d+|\\D+");
  json merged = split;
  merged["behavior"] = "MergedWithNext";
  CHECK(sequence(merged, false) ==
        at_split + "behavior\": \"MergedWithNext\" is not supported, expected \"Isolated\", \"Removed\"");
  json inverted = split;
  inverted["invert"] = true;
  CHECK(sequence(inverted, false) == at_split + "invert\": is not supported, expected false");
  CHECK(sequence({{"type", "Digits"}, {"individual_digits", true}}, true) ==
        ":1: record 1, field \"pre_tokenizer.pretokenizers[1].add_prefix_space\": is not supported, expected false");
  CHECK(step("post_processor", {{"type", "BertProcessing"}}) ==
        ":1: record 1, field \"post_processor.type\": \"BertProcessing\" is not supported, expected \"ByteLevel\", "
        "\"TemplateProcessing\"");
  CHECK(step("decoder", {{"type", "WordPiece"}}) ==
        ":1: record 1, field \"decoder.type\": \"WordPiece\" is not supported, expected \"ByteLevel\"");
  CHECK(model("type", "Unigram") ==
        ":1: record 1, field \"model.type\": \"Unigram\" is not supported, expected \"BPE\"");
  CHECK(model("dropout", 0.1) == ":1: record 1, field \"model.dropout\": is not supported, expected null");
  CHECK(model("byte_fallback", true) ==
        ":1: record 1, field \"model.byte_fallback\": is not supported, expected false");
  CHECK(model("end_of_word_suffix", "</w>") ==
        ":1: record 1, field \"model.end_of_word_suffix\": \"</w>\" is not supported, expected \"\"");
  CHECK(refusal([](json& f) { f["added_tokens"][0]["single_word"] = true; }) ==
        ":1: record 1, field \"added_tokens[0].single_word\": is not supported, expected false");
}

TEST_CASE("ids that are missing, there twice, or no ids") {
  const auto id = [](const char* key, json value) {
    return refusal([&](json& f) { f["model"]["vocab"][key] = value; });
  };
  CHECK(id("abc", 256) == ":1: record 1, field \"model.vocab.abc\": has id 256, which another token has");
  CHECK(id("abc", 259) ==
        ":1: record 1, field \"model.vocab.abc\": has id 259, expected ids from 0 to 258 without gaps");
  CHECK(id("abc", 258) == ":1: record 1, field \"added_tokens[0].id\": has id 258, which another token has");
  CHECK(id("new", 260) ==
        ":1: record 1, field \"model.vocab.new\": has id 260, expected ids from 0 to 259 without gaps");
  const std::string no_id = ":1: record 1, field \"model.vocab.abc\": expected a number from 0 to 1073741823, found ";
  CHECK(id("abc", -1) == no_id + "-1");
  CHECK(id("abc", 2.5) == no_id + "2.5");
  CHECK(id("abc", "7") == no_id + "\"7\"");
  CHECK(id("abc", 18446744073709551615U) == no_id + "18446744073709551615");
  CHECK(id("abc", 1073741824) == no_id + "1073741824");
  CHECK(id("a b", 259) ==
        ":1: record 1, field \"model.vocab.a b\": is neither written in the byte alphabet nor an added token");
  CHECK(refusal([](json& f) { f["model"]["vocab"].erase("abc"); }) ==
        ":1: record 1, field \"added_tokens[0].id\": has id 258, expected ids from 0 to 257 without gaps");
  CHECK(refusal([](json& f) { f["model"]["vocab"] = json::array(); }) ==
        ":1: record 1, field \"model.vocab\": expected an object, found []");
  CHECK(refusal([](json& f) {
          f["model"]["vocab"].erase("Ġ");
          f["model"]["vocab"]["abcd"] = 32;
        }) == ":1: byte_pair_tokenizer: byte 32 (\"Ġ\") has no token");
}

TEST_CASE("added tokens that contradict the vocabulary") {
  const auto added = [](const char* field, json value) {
    return refusal([&](json& f) { f["added_tokens"][0][field] = value; });
  };
  const std::string at = ":1: record 1, field \"added_tokens[0].";
  CHECK(added("content", "abc") == at + "id\": is 258, but the vocabulary says 257");
  CHECK(added("content", 3) == at + "content\": expected a string, found 3");
  CHECK(added("content", "") == ":1: added token 258 is empty");
  CHECK(added("content", std::string(1025, 'x')) == ":1: added token 258 has 1025 bytes, at most 1024");
  CHECK(added("special", nullptr) == at + "special\": is missing");
  CHECK(added("lstrip", "no") == at + "lstrip\": expected true or false, found \"no\"");
  CHECK(refusal([](json& f) { f["added_tokens"].push_back(f["added_tokens"][0]); }) ==
        ":1: record 1, field \"added_tokens[1].id\": has id 258, which another token has");
  // text could produce a special token
  CHECK(refusal([](json& f) {
          f["added_tokens"][0]["content"] = "abc";
          f["added_tokens"][0]["id"] = 257;
        }) == ":1: merge 1 of 256 and 99: the result \"abc\" is no token of text");
  CHECK(refusal([](json& f) {
          f["added_tokens"][0]["content"] = "a";
          f["added_tokens"][0]["id"] = 97;
        }) == ":1: byte_pair_tokenizer: byte 97 (\"a\") has no token");
}

TEST_CASE("malformed merges") {
  const auto merge = [](json value) { return refusal([&](json& f) { f["model"]["merges"][1] = value; }); };
  const std::string at = ":1: record 1, field \"model.merges[1]\": ";
  CHECK(merge("ab") == at + "expected two tokens with a space between, found \"ab\"");
  CHECK(merge("a b c") == at + "expected two tokens with a space between, found \"a b c\"");
  CHECK(merge("ab ") == at + "\"\" is not in the vocabulary");
  CHECK(merge({"ab", "xyz"}) == at + "\"xyz\" is not in the vocabulary");
  CHECK(merge({"ab"}) == at + "expected a list of 2, found [\"ab\"]");
  CHECK(merge({"ab", 7}) == ":1: record 1, field \"model.merges[1][1]\": expected a string, found 7");
  CHECK(merge(7) == at + "expected a string, found 7");
  CHECK(merge({"a", "b"}) == ":1: merge 1 of 97 and 98: stands in the list twice");
  CHECK(merge({"b", "c"}) == ":1: merge 1 of 98 and 99: the result \"bc\" is no token of text");
}

TEST_CASE("malformed templates") {
  const json text_part = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json token_part = {{"SpecialToken", {{"id", "bos"}, {"type_id", 0}}}};
  const auto with = [](json single, json ids) {
    return json{{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", {{"bos", {{"ids", ids}}}}}};
  };
  const auto refused = [](json step) { return refusal([&](json& f) { f["post_processor"] = step; }); };
  const auto framed = read_changed([&](json& f) { f["post_processor"] = with({token_part, text_part}, {258, 258}); });
  CHECK(framed.encode("a", {.framed = true}) == std::vector<token_id>{258, 258, 97});
  const std::string at = ":1: record 1, field \"post_processor.";
  CHECK(refused(with(json::array({token_part}), {258})) == at + "single\": has no place for the text, Sequence A");
  CHECK(refused(with({text_part, text_part}, {258})) == at + "single[1]\": is a second place for the text");
  CHECK(refused(with({token_part, text_part}, {259})) ==
        at + "special_tokens.bos.ids[0]\": expected a number from 0 to 258, found 259");
  CHECK(refused(with({token_part, text_part}, {97})) ==
        ":1: byte_pair_tokenizer: the frame of texts names token 97, which is no added token");
  json other = token_part;
  other["SpecialToken"]["id"] = "eos";
  CHECK(refused(with({other, text_part}, {258})) == at + "special_tokens.eos\": is missing");
  const json one = with({token_part, text_part}, {258});
  CHECK(refused({{"type", "Sequence"}, {"processors", {one, one}}}) == at + "processors[1]\": is a second template");
}

TEST_CASE("what is no tokenizer.json") {
  CHECK(refusal_of_text("") == ":1: the file is empty");
  CHECK(refusal_of_text("{}") == ":1: record 1, field \"model\": is missing");
  CHECK(refusal_of_text("{\"model\": []}") == ":1: record 1, field \"model\": expected an object, found []");
  CHECK(refusal_of_text("{\"model\": {}}") == ":1: record 1, field \"model.vocab\": is missing");
  CHECK(refusal_of_text(small_file().dump() + "\n" + small_file().dump()) == ":2: a second object, expected one");
  const std::string whole = small_file().dump();
  CHECK(refusal_of_text(whole.substr(0, whole.size() - 1)).starts_with(":1: malformed JSON in record 1: "));
  std::string bad = whole;
  bad.replace(bad.find("\"abc\""), 5, "\"a\xFF\"");
  CHECK(refusal_of_text(bad).starts_with(":1: invalid UTF-8 in record 1: found byte 0xFF"));
  CHECK(refusal_of_text("{\"normalizer\": " + std::string(100000, '[') + std::string(100000, ']') +
                        ", \"model\": {\"vocab\": 1}}")
            .ends_with("expected an object, found 1"));
}

TEST_CASE("files that fuzzing found of interest are read, or refused with a message") {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(tests / "fuzz" / "corpus" / "tokenizer_json")) {
    CAPTURE(entry.path().filename().string());
    const std::string content = read_bytes(entry.path());
    CHECK(LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(content.data()), content.size()) == 0);
    ++count;
  }
  CHECK(count > 10);
}
