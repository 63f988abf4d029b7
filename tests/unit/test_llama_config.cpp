// SPDX-License-Identifier: Apache-2.0
// Configurations of Llama models: those that transformers wrote are read and imply its tensors, and what this library
// does not do is refused by name.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <dro/data/safetensors.hpp>
#include <dro/error.hpp>
#include <dro/models/llama_config.hpp>
#include <dro/models/llama_config_file.hpp>

#include "data_files.hpp"

using dro::models::check;
using dro::models::llama_config;
using dro::models::llama_rope_scaling;
using dro::models::llama_tensor;
using dro::models::llama_tensors;
using dro::models::read_llama_config;
using dro::models::rotary_frequencies;
using dro::models::write_llama_config;

namespace {

const std::filesystem::path golden = std::filesystem::path(DRO_SOURCE_DIR) / "tests/golden/safetensors";

llama_config tiny() {
  llama_config config;
  config.vocab_size = 12;
  config.hidden_size = 8;
  config.intermediate_size = 10;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 6;
  config.max_position_embeddings = 32;
  config.rms_norm_eps = 1e-5;
  config.rope_theta = 5000;
  config.eos_token_ids = {2, 3};
  return config;
}

nlohmann::json smallest() {
  return {{"model_type", "llama"},  {"vocab_size", 32},       {"hidden_size", 8},
          {"intermediate_size", 4}, {"num_hidden_layers", 1}, {"num_attention_heads", 2}};
}

/// The configuration in a file of this content.
llama_config read(const std::string& content) {
  const temporary_folder folder;
  return read_llama_config(folder.write("config.json", content));
}

/// The smallest configuration with one field changed.
llama_config read_with(const char* field, const nlohmann::json& value) {
  nlohmann::json config = smallest();
  config[field] = value;
  return read(config.dump());
}

/// What reading a file of this content throws, after its path; it must be a data_error.
std::string refusal(const std::string& content) {
  const temporary_folder folder;
  const std::string path = folder.write("config.json", content);
  try {
    (void)read_llama_config(path);
  } catch (const dro::data_error& e) {
    CHECK(e.path() == path);
    return std::string(e.what()).substr(path.size() + 1);
  }
  return "nothing thrown";
}

std::string refusal_with(const char* field, const nlohmann::json& value) {
  nlohmann::json config = smallest();
  config[field] = value;
  return refusal(config.dump());
}

/// What `check` throws for the tiny configuration, changed.
template <class Change>
std::string complaint(Change change) {
  llama_config config = tiny();
  change(config);
  try {
    check(config);
  } catch (const dro::option_error& e) {
    return e.what();
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("what transformers 5 wrote") {
  CHECK(read_llama_config(golden / "tiny_llama") == tiny());
  CHECK(read_llama_config(golden / "tiny_llama/config.json") == tiny());
  const llama_config scaled = read_llama_config(golden / "llama3_scaling");
  CHECK(scaled.rope_theta == 500000);
  CHECK(scaled.rope_scaling == llama_rope_scaling{8, 1, 4, 512});
  CHECK(scaled.tie_word_embeddings);
  CHECK(scaled.bos_token_id == 1);
  CHECK(scaled.eos_token_ids.empty());
  CHECK(scaled.head_dim == 32);
}

TEST_CASE("the tensors are those that transformers saved") {
  const dro::data::safetensors_set set(golden / "tiny_llama");
  const auto tensors = llama_tensors(tiny());
  CHECK(tensors.size() == set.tensors().size());
  for (const llama_tensor& tensor : tensors) {
    CAPTURE(tensor.name);
    REQUIRE(set.contains(tensor.name));
    CHECK(set.tensor(tensor.name).shape() == tensor.shape);
    CHECK(static_cast<std::size_t>(tensor.size()) == set.tensor(tensor.name).size());
  }
  CHECK(dro::models::parameter_count(tiny()) == 1864);  // "total_parameters" of the index
  CHECK(tensors.front().name == "model.embed_tokens.weight");
  CHECK(tensors.back() == llama_tensor{"lm_head.weight", {12, 8}});
  CHECK(tensors[2].rows() == 12);  // keys: 2 heads of 6
  CHECK(tensors[2].cols() == 8);
  CHECK(tensors[8].rows() == 1);
  CHECK(tensors[8].cols() == 8);
  llama_config tied = tiny();
  tied.tie_word_embeddings = true;
  CHECK(llama_tensors(tied).back().name == "model.norm.weight");
  CHECK(dro::models::parameter_count(tied) == 1864 - 12 * 8);
}

TEST_CASE("rotary frequencies") {
  struct pair {
    double plain, scaled;
  };
  const pair expected[] = {
#include "golden/safetensors/rotary_frequencies.inc"
  };
  llama_config config = read_llama_config(golden / "llama3_scaling");
  const auto scaled = rotary_frequencies(config);
  config.rope_scaling.reset();
  const auto plain = rotary_frequencies(config);
  REQUIRE(plain.size() == 16);
  // The reference computes in float, u = 2^-24. Its frequency f is a power whose exponent is exact here, within an ulp,
  // and a reciprocal: 3u. The turns c f / 2π, at most 4 where they matter, take three more roundings, so 24u of them,
  // and s, a third of their distance from 1, is off by less than 10u. The mean between f / 8 and f moves by 7/8 of that
  // times f, and by 3u + 5u for f and its own roundings: 17u f, which is 136u of the f / 8 that is the least it can be.
  const double u = std::ldexp(1.0, -24);
  for (std::size_t i = 0; i < 16; ++i) {
    CAPTURE(i);
    CHECK(std::abs(plain[i] - expected[i].plain) <= 3 * u * plain[i]);
    CHECK(std::abs(scaled[i] - expected[i].scaled) <= 136 * u * scaled[i]);
  }
  CHECK(plain[0] == 1);
  CHECK(scaled[0] == 1);
  CHECK(scaled[15] == plain[15] / 8);
}

TEST_CASE("what may be absent") {
  const llama_config config = read(smallest().dump());
  CHECK(config.num_key_value_heads == 2);
  CHECK(config.head_dim == 4);
  CHECK(config.max_position_embeddings == 2048);
  CHECK(config.rms_norm_eps == 1e-6);
  CHECK(config.rope_theta == 10000);
  CHECK_FALSE(config.rope_scaling.has_value());
  CHECK_FALSE(config.tie_word_embeddings);
  CHECK(config.bos_token_id == 1);
  CHECK(config.eos_token_ids == std::vector<std::int32_t>{2});
  nlohmann::json nulls = smallest();
  for (const char* const field : {"num_key_value_heads", "head_dim", "rope_scaling", "rope_parameters",
                                  "quantization_config", "hidden_act", "attention_bias"}) {
    nulls[field] = nullptr;
  }
  CHECK(read(nulls.dump()) == config);
  CHECK_FALSE(read_with("bos_token_id", nullptr).bos_token_id.has_value());
  CHECK(read_with("eos_token_id", nullptr).eos_token_ids.empty());
  CHECK(read_with("eos_token_id", 7).eos_token_ids == std::vector<std::int32_t>{7});
  for (const char* const field :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "model_type"}) {
    nlohmann::json without = smallest();
    without.erase(field);
    CHECK(refusal(without.dump()) == std::string(" field \"") + field + "\": is missing");
  }
}

TEST_CASE("the rotary constants, where they have been kept") {
  CHECK(read_with("rope_theta", 5e5).rope_theta == 5e5);
  CHECK(read_with("rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}).rope_theta == 5e5);
  const nlohmann::json scaling = {{"factor", 32}, {"low_freq_factor", 1.5}, {"high_freq_factor", 4}};
  for (const char* const field : {"rope_scaling", "rope_parameters"}) {
    for (const char* const type : {"rope_type", "type"}) {
      nlohmann::json config = smallest();
      config["rope_theta"] = 5e5;
      config[field] = scaling;
      config[field][type] = "llama3";
      // without one of its own, the first context is the longest sequence
      CHECK(read(config.dump()).rope_scaling == llama_rope_scaling{32, 1.5, 4, 2048});
      config[field]["original_max_position_embeddings"] = 64;
      CHECK(read(config.dump()).rope_scaling == llama_rope_scaling{32, 1.5, 4, 64});
      CHECK(read(config.dump()).rope_theta == 5e5);
      config[field]["rope_theta"] = 7e5;
      CHECK(read(config.dump()).rope_theta == 7e5);
    }
  }
}

TEST_CASE("models that are not this one") {
  CHECK(refusal_with("model_type", "mistral") == " field \"model_type\": expected \"llama\", found \"mistral\"");
  CHECK(refusal_with("hidden_act", "gelu") == " field \"hidden_act\": expected \"silu\", found \"gelu\"");
  CHECK(refusal_with("attention_bias", true) ==
        " field \"attention_bias\": is true: layers with biases are not supported");
  CHECK(refusal_with("mlp_bias", true) == " field \"mlp_bias\": is true: layers with biases are not supported");
  CHECK(refusal_with("quantization_config", {{"bits", 4}}) ==
        " field \"quantization_config\": quantised weights are not supported");
  CHECK(refusal_with("rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}) ==
        " field \"rope_scaling.rope_type\": expected \"default\" or \"llama3\", found \"yarn\"");
  CHECK(refusal_with("rope_scaling", {{"type", "linear"}, {"factor", 2}}) ==
        " field \"rope_scaling.type\": expected \"default\" or \"llama3\", found \"linear\"");
  CHECK(refusal_with("rope_parameters", {{"partial_rotary_factor", 0.5}}) ==
        " field \"rope_parameters.partial_rotary_factor\": heads that turn in part are not supported");
  CHECK(refusal_with("partial_rotary_factor", 0.5) ==
        " field \"partial_rotary_factor\": heads that turn in part are not supported");
}

TEST_CASE("malformed configurations") {
  CHECK(refusal("") == "1: the file is empty");
  CHECK(refusal("[]") == "1: expected an object");
  CHECK(refusal("{\n\"vocab_size\": }").starts_with("2: malformed JSON: "));
  CHECK(refusal(R"({"model_type": "llama", "model_type": "llama"})") ==
        " the name \"model_type\" stands twice in one object");
  CHECK(refusal("{\"model_type\": \"\xFF\"}").find("ill-formed UTF-8") != std::string::npos);
  for (const nlohmann::json& bad : {nlohmann::json(-8), nlohmann::json(8.0), nlohmann::json("8"), nlohmann::json(true),
                                    nlohmann::json(2147483648)}) {
    CHECK(refusal_with("hidden_size", bad) ==
          " field \"hidden_size\": expected a number from 0 to 2147483647, found " + bad.dump());
  }
  CHECK(refusal_with("rms_norm_eps", "1e-5") == " field \"rms_norm_eps\": expected a number, found \"1e-5\"");
  CHECK(refusal_with("rope_scaling", "llama3") == " field \"rope_scaling\": expected an object, found \"llama3\"");
  CHECK(refusal_with("rope_scaling", {{"rope_type", "llama3"}}) == " field \"rope_scaling.factor\": is missing");
  CHECK(refusal_with("eos_token_id", {2, -1}) ==
        " field \"eos_token_id[1]\": expected a number from 0 to 2147483647, found -1");
  CHECK(refusal_with("num_attention_heads", 0) == " field \"num_attention_heads\": expected at least 1, found 0");
  CHECK(refusal_with("num_attention_heads", 3) ==
        " llama_config: hidden_size is 8, expected a multiple of num_attention_heads, which is 3");
  // numbers without end: refused before anything is allocated by them
  CHECK(refusal_with("num_hidden_layers", 2147483647) ==
        " llama_config: num_hidden_layers is 2147483647, expected a number from 1 to 4096");
}

TEST_CASE("check") {
  CHECK(complaint([](llama_config&) {}) == "nothing thrown");
  CHECK(complaint([](llama_config& c) { c = {}; }) ==
        "llama_config: vocab_size is 0, expected a number from 1 to 2147483647");
  CHECK(complaint([](llama_config& c) { c.intermediate_size = (1 << 20) + 1; }) ==
        "llama_config: intermediate_size is 1048577, expected a number from 1 to 1048576");
  CHECK(complaint([](llama_config& c) { c.num_key_value_heads = 3; }) ==
        "llama_config: num_key_value_heads is 3, expected a divisor of num_attention_heads, which is 4");
  CHECK(complaint([](llama_config& c) { c.head_dim = 7; }) ==
        "llama_config: head_dim is 7, expected a multiple of 2: the rotation takes pairs");
  CHECK(complaint([](llama_config& c) { c.rms_norm_eps = -1; }).starts_with("llama_config: rms_norm_eps is -1.0"));
  CHECK(complaint([](llama_config& c) { c.rms_norm_eps = 0; }) == "nothing thrown");
  CHECK(complaint([](llama_config& c) { c.rope_theta = 0; }).starts_with("llama_config: rope_theta is 0.0"));
  CHECK(complaint([](llama_config& c) { c.rope_theta = NAN; }).starts_with("llama_config: rope_theta is nan"));
  CHECK(complaint([](llama_config& c) { c.rope_theta = INFINITY; }).starts_with("llama_config: rope_theta is inf"));
  const auto scaling = [](llama_rope_scaling s) { return complaint([&](llama_config& c) { c.rope_scaling = s; }); };
  CHECK(scaling({}) == "nothing thrown");
  CHECK(scaling({.factor = 0.5}).starts_with("llama_config: rope_scaling.factor is 0.5"));
  CHECK(scaling({.low_freq_factor = 0}).starts_with("llama_config: rope_scaling.low_freq_factor is 0.0"));
  CHECK(scaling({.high_freq_factor = 1}).starts_with("llama_config: rope_scaling.high_freq_factor is 1.0"));
  CHECK(scaling({.original_max_position_embeddings = 0}) ==
        "llama_config: rope_scaling.original_max_position_embeddings is 0, expected a number from 1 to 2147483647");
  CHECK(complaint([](llama_config& c) { c.bos_token_id = 12; }) ==
        "llama_config: bos_token_id is 12, expected a token from 0 to 11");
  CHECK(complaint([](llama_config& c) {
          c.eos_token_ids = {2, -1};
        }) == "llama_config: eos_token_ids is -1, expected a token from 0 to 11");
  llama_config odd = tiny();
  odd.head_dim = 7;
  CHECK_THROWS_AS((void)llama_tensors(odd), dro::option_error);
  CHECK_THROWS_AS((void)rotary_frequencies(odd), dro::option_error);
}

TEST_CASE("what is written is read back") {
  const temporary_folder folder;
  const auto path = folder.path() / "config.json";
  llama_config config = tiny();
  const auto comes_back = [&] {
    write_llama_config(path, config);
    return read_llama_config(folder.path()) == config;
  };
  CHECK(comes_back());
  config.rope_scaling = llama_rope_scaling{2.5, 0.5, 3, 16};
  config.tie_word_embeddings = true;
  config.bos_token_id = 0;
  config.eos_token_ids = {11};
  config.rms_norm_eps = 1.0 / 3;
  CHECK(comes_back());
  config.bos_token_id.reset();
  config.eos_token_ids.clear();
  CHECK(comes_back());
  config.head_dim = 7;
  CHECK_THROWS_AS(write_llama_config(path, config), dro::option_error);
  CHECK(read_llama_config(path).head_dim == 6);  // the old file
}
