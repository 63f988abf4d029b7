// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_LLAMA_CONFIG_FILE_HPP
#define DRO_MODELS_LLAMA_CONFIG_FILE_HPP

/// \file
/// `config.json`, in which Hugging Face's Llama models keep their configuration.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <nlohmann/json.hpp>

#include <dro/config.hpp>
#include <dro/data/checkpoint_file.hpp>
#include <dro/data/json_document.hpp>
#include <dro/data/json_field.hpp>
#include <dro/error.hpp>
#include <dro/models/llama_config.hpp>

namespace dro::models {

namespace detail {

/// Refuses what would make the model another one than this library's.
inline void require_plain_llama(const data::json_field& config) {
  if (const auto type = config["model_type"]; type.string() != "llama") {
    type.fail("expected \"llama\", found \"" + type.string() + "\"");
  }
  if (const auto activation = config.find("hidden_act"); activation && activation->string() != "silu") {
    activation->fail("expected \"silu\", found \"" + activation->string() + "\"");
  }
  for (const char* const bias : {"attention_bias", "mlp_bias"}) {
    if (const auto field = config.find(bias); field && field->boolean()) {
      field->fail("is true: layers with biases are not supported");
    }
  }
  if (const auto quantised = config.find("quantization_config")) {
    quantised->fail("quantised weights are not supported");
  }
}

/// The rotary constants: in `rope_parameters` since transformers 5, before that in `rope_theta` and `rope_scaling`.
inline void read_rotation(const data::json_field& config, llama_config& result) {
  constexpr auto limit = std::size_t{1} << 31U;
  auto rope = config.find("rope_scaling");
  if (!rope) rope = config.find("rope_parameters");
  auto theta = rope ? rope->find("rope_theta") : std::nullopt;
  if (!theta) theta = config.find("rope_theta");
  if (theta) result.rope_theta = theta->number();
  for (const auto& place : {std::optional(config), rope}) {
    if (!place) continue;
    if (const auto part = place->find("partial_rotary_factor"); part && part->number() != 1) {
      part->fail("heads that turn in part are not supported");
    }
  }
  if (!rope) return;
  auto type = rope->find("rope_type");
  if (!type) type = rope->find("type");
  if (!type || type->string() == "default") return;
  if (type->string() != "llama3") {
    type->fail("expected \"default\" or \"llama3\", found \"" + type->string() + "\"");
  }
  const auto context = rope->find("original_max_position_embeddings");
  result.rope_scaling = llama_rope_scaling{
      (*rope)["factor"].number(), (*rope)["low_freq_factor"].number(), (*rope)["high_freq_factor"].number(),
      context ? static_cast<index_t>(context->index(limit)) : result.max_position_embeddings};
}

}  // namespace detail

/// A model's configuration from its `config.json`, or from the one in the folder that `path` names.
///
/// The five sizes without which there is no model must be there; the rest may be missing, or null, and is then what
/// `LlamaConfig` says: as many key and value heads as query heads, heads of hidden_size / num_attention_heads, 2048
/// positions, ε = 1e-6, θ = 10000, an output layer of its own, tokens 1 and 2 for begin and end (null: none). The
/// rotary constants are found where transformers 5 puts them and where its predecessors did. `attention_dropout` is
/// ignored, as is all that does not change what the model computes.
///
/// \throws file_error where the file cannot be read; data_error, naming the field and the value found, where it is not
///         JSON, a field is missing, of another type or out of range, and for what this library's model does not do:
///         another model_type or activation, biases, a rotary scaling other than "llama3", quantised weights.
[[nodiscard]] inline llama_config read_llama_config(const std::filesystem::path& path) {
  constexpr auto limit = std::size_t{1} << 31U;
  std::error_code unknown;  // opening the file will say what the matter is
  const std::filesystem::path file = std::filesystem::is_directory(path, unknown) ? path / "config.json" : path;
  const nlohmann::json document = data::read_json_document(file);
  const data::record_place place{file.string(), 0, 0, {}};
  const data::json_field fields(document, place);
  detail::require_plain_llama(fields);

  const auto size = [&](const char* key) { return static_cast<index_t>(fields[key].index(limit)); };
  const auto size_or = [&](const char* key, index_t otherwise) {
    const auto field = fields.find(key);
    return field ? static_cast<index_t>(field->index(limit)) : otherwise;
  };
  const auto token = [](const data::json_field& field) { return static_cast<std::int32_t>(field.index(limit)); };

  llama_config config;
  config.vocab_size = size("vocab_size");
  config.hidden_size = size("hidden_size");
  config.intermediate_size = size("intermediate_size");
  config.num_hidden_layers = size("num_hidden_layers");
  config.num_attention_heads = size("num_attention_heads");
  config.num_key_value_heads = size_or("num_key_value_heads", config.num_attention_heads);
  if (config.num_attention_heads == 0) fields["num_attention_heads"].fail("expected at least 1, found 0");
  config.head_dim = size_or("head_dim", config.hidden_size / config.num_attention_heads);
  config.max_position_embeddings = size_or("max_position_embeddings", config.max_position_embeddings);
  if (const auto epsilon = fields.find("rms_norm_eps")) config.rms_norm_eps = epsilon->number();
  if (const auto tied = fields.find("tie_word_embeddings")) config.tie_word_embeddings = tied->boolean();
  detail::read_rotation(fields, config);
  if (!document.contains("bos_token_id")) {
    config.bos_token_id = 1;
  } else if (const auto begin = fields.find("bos_token_id")) {
    config.bos_token_id = token(*begin);
  }
  if (!document.contains("eos_token_id")) {
    config.eos_token_ids = {2};
  } else if (const auto end = fields.find("eos_token_id"); end && end->is_array()) {
    for (const data::json_field& one : end->elements()) config.eos_token_ids.push_back(token(one));
  } else if (end) {
    config.eos_token_ids = {token(*end)};
  }
  try {
    check(config);
  } catch (const option_error& error) {
    throw data_error(file.string(), 0, error.what());
  }
  return config;
}

/// Writes the configuration as a `config.json` that both transformers 5 and its predecessors load as a
/// `LlamaForCausalLM`. The file is there as a whole or not at all.
///
/// \throws option_error as `check` does, file_error where the file cannot be written.
inline void write_llama_config(const std::filesystem::path& path, const llama_config& config) {
  using json = nlohmann::ordered_json;
  check(config);
  json scaling;  // null
  if (const auto& s = config.rope_scaling) {
    scaling = {{"rope_type", "llama3"},
               {"factor", s->factor},
               {"low_freq_factor", s->low_freq_factor},
               {"high_freq_factor", s->high_freq_factor},
               {"original_max_position_embeddings", s->original_max_position_embeddings}};
  }
  json end = config.eos_token_ids;
  if (config.eos_token_ids.empty()) end = nullptr;
  if (config.eos_token_ids.size() == 1) end = config.eos_token_ids.front();
  const json document = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.num_hidden_layers},
      {"num_attention_heads", config.num_attention_heads},
      {"num_key_value_heads", config.num_key_value_heads},
      {"head_dim", config.head_dim},
      {"hidden_act", "silu"},
      {"max_position_embeddings", config.max_position_embeddings},
      {"rms_norm_eps", config.rms_norm_eps},
      {"rope_theta", config.rope_theta},
      {"rope_scaling", scaling},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"bos_token_id", config.bos_token_id ? json(*config.bos_token_id) : json()},
      {"eos_token_id", end},
  };
  data::write_file_atomically(path, document.dump(2) + "\n");
}

}  // namespace dro::models

#endif
