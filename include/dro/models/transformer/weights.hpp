// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_WEIGHTS_HPP
#define DRO_MODELS_TRANSFORMER_WEIGHTS_HPP

/// \file
/// A transformer from and to the files in which Hugging Face keeps Llama models, and its adapters from and to those of
/// PEFT.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/config.hpp>
#include <dro/data/checkpoint_file.hpp>
#include <dro/data/json_document.hpp>
#include <dro/data/json_field.hpp>
#include <dro/data/safetensors.hpp>
#include <dro/data/write_safetensors.hpp>
#include <dro/error.hpp>
#include <dro/models/llama_config_file.hpp>
#include <dro/models/transformer/transformer.hpp>

namespace dro::models {

namespace detail {

/// Throws data_error unless all `tensors` are there, in the shapes expected and of a type that can be read.
template <class T>
void require_tensors(const data::tensor_collection& source, const std::vector<llama_tensor>& tensors) {
  for (const llama_tensor& t : tensors) {
    source.tensor(t.name).require_shape(t.shape);
    source.tensor(t.name).read(std::span<T>());  // whether its type can be read
  }
}

/// Reads `tensors`, which have passed require_tensors, into `values(k)`.
template <class T, multiplies B, class Values>
void read_tensors(B& b, const data::tensor_collection& source, const std::vector<llama_tensor>& tensors,
                  const Values& values) {
  for (std::size_t k = 0; k < tensors.size(); ++k) {
    host_matrix<T> here(tensors[k].rows(), tensors[k].cols());
    source.tensor(tensors[k].name).read(std::span(here.data(), static_cast<std::size_t>(tensors[k].size())));
    b.write(here.data(), values(k));
  }
}

template <class T, multiplies B, class Values>
void write_tensors(B& b, const std::vector<llama_tensor>& tensors, const Values& values,
                   const std::filesystem::path& path, const data::safetensors_options& options) {
  std::vector<host_matrix<T>> kept;
  std::vector<data::named_tensor<T>> named;
  kept.reserve(tensors.size());
  for (std::size_t k = 0; k < tensors.size(); ++k) {
    kept.push_back(read(b, values(k)));
    named.push_back({tensors[k].name,
                     tensors[k].shape,
                     {std::as_const(kept.back()).data(), static_cast<std::size_t>(tensors[k].size())}});
  }
  data::write_safetensors(path, named, options);
}

/// Adapters as PEFT describes them. Throws data_error for what this library's adapters are not.
[[nodiscard]] inline lora_options read_adapter_config(const std::filesystem::path& path) {
  const nlohmann::json document = data::read_json_document(path);
  const data::record_place place{path.string(), 0, 0, {}};
  const data::json_field fields(document, place);
  const auto require_text = [&](const char* key, const std::string& expected) {
    const auto field = fields.find(key);
    if (field && field->string() != expected) {
      field->fail("expected \"" + expected + "\", found \"" + field->string() + "\"");
    }
  };
  require_text("peft_type", "LORA");
  require_text("bias", "none");
  for (const char* const key : {"use_dora", "use_rslora", "fan_in_fan_out", "lora_bias", "use_qalora"}) {
    if (const auto field = fields.find(key); field && field->boolean()) field->fail("is true: not supported");
  }
  for (const char* const key :
       {"rank_pattern", "alpha_pattern", "modules_to_save", "exclude_modules", "layers_to_transform",
        "layer_replication", "trainable_token_indices", "alora_invocation_tokens"}) {
    const auto value = document.find(key);  // null or empty where there is none
    if (value != document.end() && !value->empty()) fields[key].fail("not supported");
  }
  lora_options options;
  options.rank = static_cast<index_t>(fields["r"].index(std::size_t{1} << 31U));
  options.alpha = fields["lora_alpha"].number();
  options.layers.clear();
  for (const data::json_field& name : fields["target_modules"].elements()) options.layers.push_back(name.string());
  return options;
}

}  // namespace detail

/// Reads the model's tensors by their names; others are passed over. Queues a write a tensor.
///
/// \throws data_error, before anything changes, where a tensor is missing, has another shape, or is no floating-point
///         number of 16 bits or more.
template <multiplies B, class T>
void read_weights(B& b, const data::tensor_collection& source, transformer<B, T>& model) {
  detail::require_tensors<T>(source, model.tensors());
  detail::read_tensors<T>(b, source, model.tensors(), [&](std::size_t k) { return model.value(k); });
}

/// Writes the model's tensors, without any adapters. Waits for the backend and holds a copy of all of them on the host.
/// \throws as data::write_safetensors does.
template <multiplies B, class T>
void write_weights(B& b, const transformer<B, T>& model, const std::filesystem::path& path,
                   const data::safetensors_options& options = {}) {
  detail::write_tensors<T>(
      b, model.tensors(), [&](std::size_t k) { return model.value(k); }, path, options);
}

/// The model in a folder that Hugging Face's save_pretrained, or save_transformer, wrote: config.json and
/// model.safetensors, or its shards and their index.
///
/// \throws file_error, data_error as read_llama_config, safetensors_set and read_weights do.
template <class T, multiplies B>
[[nodiscard]] transformer<B, T> load_transformer(B& b, const std::filesystem::path& folder,
                                                 matmul_precision precision = matmul_precision::full) {
  const llama_config config = read_llama_config(folder);
  const data::safetensors_set source(folder);
  detail::require_tensors<T>(source, llama_tensors(config));  // before memory is asked for that no file fills
  transformer<B, T> model(b, config, precision);
  read_weights(b, source, model);
  return model;
}

/// Writes config.json and model.safetensors (or its shards) to a folder, which is made if it is not there, as
/// LlamaForCausalLM.from_pretrained reads them. \throws file_error where a file cannot be written.
template <multiplies B, class T>
void save_transformer(B& b, const transformer<B, T>& model, const std::filesystem::path& folder,
                      const data::safetensors_options& options = {}) {
  std::error_code failed;  // what is wrong with the folder shows when a file in it is written
  std::filesystem::create_directories(folder, failed);
  write_weights(b, model, folder / "model.safetensors", options);
  write_llama_config(folder / "config.json", model.config());
}

/// Gives `model` the adapters in a folder that PEFT's save_pretrained, or save_adapters, wrote: adapter_config.json and
/// adapter_model.safetensors. Their values are read, so nothing is drawn.
///
/// \throws file_error, data_error, which name what is missing, of another shape, or of a kind that this library does
///         not have; option_error as check(lora_options) does. The model is then what it was.
template <multiplies B, class T>
void load_adapters(B& b, const std::filesystem::path& folder, transformer<B, T>& model, bool freeze_base = true) {
  lora_options options = detail::read_adapter_config(folder / "adapter_config.json");
  options.freeze_base = freeze_base;
  const data::safetensors_file file(folder / "adapter_model.safetensors");
  lora_adapters<B, T> adapters(b, model.config(), model.tensors(), options);
  // PEFT adds the base's own output layer where that is adapted; an adapter that nobody asked for is another matter.
  for (const auto& entry : file.tensors()) {
    const auto same_name = [&](const llama_tensor& t) { return t.name == entry.first; };
    if (entry.first.find(".lora_") != std::string::npos &&
        std::none_of(adapters.tensors().begin(), adapters.tensors().end(), same_name)) {
      throw data_error(file.path(), 0, "has a tensor \"" + entry.first + "\" that the configuration does not describe");
    }
  }
  detail::require_tensors<T>(file, adapters.tensors());
  detail::read_tensors<T>(b, file, adapters.tensors(), [&](std::size_t k) { return adapters.parameters()[k].value; });
  model.adapt(b, std::move(adapters));
}

/// Writes the adapters of a model to a folder, which is made if it is not there, as PEFT reads them. Waits for the
/// backend. \throws file_error where a file cannot be written, option_error for a model without adapters.
template <multiplies B, class T>
void save_adapters(B& b, const transformer<B, T>& model, const std::filesystem::path& folder,
                   const data::safetensors_options& options = {}) {
  const lora_adapters<B, T>& adapters = model.adapters();
  if (adapters.tensors().empty()) throw option_error("save_adapters: the model has none");
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  detail::write_tensors<T>(
      b, adapters.tensors(), [&](std::size_t k) { return adapters.parameters()[k].value; },
      folder / "adapter_model.safetensors", options);
  const nlohmann::ordered_json config = {
      {"peft_type", "LORA"},
      {"task_type", "CAUSAL_LM"},
      {"base_model_name_or_path", nullptr},
      {"r", adapters.options().rank},
      {"lora_alpha", adapters.options().alpha},
      {"lora_dropout", 0.0},
      {"bias", "none"},
      {"target_modules", adapters.options().layers},
      {"inference_mode", true},
  };
  data::write_file_atomically(folder / "adapter_config.json", config.dump(2) + "\n");
}

}  // namespace dro::models

#endif
