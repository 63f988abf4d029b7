// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_LLAMA_CONFIG_HPP
#define DRO_MODELS_LLAMA_CONFIG_HPP

/// \file
/// The sizes and constants of a decoder-only transformer of the Llama architecture, and the tensors they imply.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <numbers>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro::models {

/// How Llama 3.1 stretches its rotary frequencies over longer texts than it was first trained on (rope type "llama3").
struct llama_rope_scaling {
  double factor = 8;                                ///< wavelengths far above the first context grow by this, ≥ 1
  double low_freq_factor = 1;                       ///< longest wavelength left in part as it is: context / this
  double high_freq_factor = 4;                      ///< longest wavelength left wholly as it is: context / this
  index_t original_max_position_embeddings = 8192;  ///< the first context, in tokens
  friend bool operator==(const llama_rope_scaling&, const llama_rope_scaling&) = default;
};

/// A Llama model's configuration: plain data under the names of Hugging Face's `LlamaConfig`. Linear layers have no
/// biases and the gate's activation is SiLU, always. `check` says whether the values fit together.
struct llama_config {
  index_t vocab_size = 0;                          ///< tokens
  index_t hidden_size = 0;                         ///< width of the residual stream
  index_t intermediate_size = 0;                   ///< width between gate, up and down
  index_t num_hidden_layers = 0;                   ///< blocks of attention and feed-forward
  index_t num_attention_heads = 0;                 ///< heads of queries
  index_t num_key_value_heads = 0;                 ///< heads of keys and values, each shared by as many query heads
  index_t head_dim = 0;                            ///< width of a head, even
  index_t max_position_embeddings = 2048;          ///< longest sequence the model is meant for, in tokens
  double rms_norm_eps = 1e-6;                      ///< added to the mean square under the root
  double rope_theta = 10000;                       ///< base of the rotary wavelengths
  std::optional<llama_rope_scaling> rope_scaling;  ///< none: the frequencies as `rope_theta` gives them
  bool tie_word_embeddings = false;                ///< the output layer is the token embedding
  std::optional<std::int32_t> bos_token_id;        ///< the token a text begins with
  std::vector<std::int32_t> eos_token_ids;         ///< the tokens that end an answer
  friend bool operator==(const llama_config&, const llama_config&) = default;
};

namespace detail {

[[noreturn]] inline void refuse_llama(std::string_view field, const std::string& found, const std::string& expected) {
  throw option_error("llama_config: " + std::string(field) + " is " + found + ", expected " + expected);
}

inline void require_llama_number(std::string_view field, double value, double least, bool least_is_allowed) {
  const bool large_enough = least_is_allowed ? value >= least : value > least;
  if (large_enough && std::isfinite(value)) return;
  refuse_llama(
      field, std::to_string(value),
      std::string("a finite number ") + (least_is_allowed ? "of at least " : "above ") + std::to_string(least));
}

}  // namespace detail

/// Whether a model of this configuration can exist. Sizes are bounded (2³¹ tokens and positions, widths of 2²⁰, 2¹²
/// layers and heads, 2¹⁴ a head), so that no number made of them overflows.
///
/// \throws option_error, naming field and value, for a size out of its bounds, a width that is not a multiple of the
///         number of heads, query heads that keys and values cannot share evenly, a head of odd width, constants that
///         are not positive or not finite, a scaling that does not stretch, and the id of a token that there is not.
inline void check(const llama_config& config) {
  constexpr index_t most_tokens = (index_t{1} << 31) - 1;
  constexpr index_t widest = index_t{1} << 20;
  constexpr index_t most = index_t{1} << 12;
  struct bounded_size {
    std::string_view field;
    index_t value;
    index_t limit;
  };
  for (const auto& [field, value, limit] : {
           bounded_size{"vocab_size", config.vocab_size, most_tokens},
           bounded_size{"hidden_size", config.hidden_size, widest},
           bounded_size{"intermediate_size", config.intermediate_size, widest},
           bounded_size{"num_hidden_layers", config.num_hidden_layers, most},
           bounded_size{"num_attention_heads", config.num_attention_heads, most},
           bounded_size{"num_key_value_heads", config.num_key_value_heads, most},
           bounded_size{"head_dim", config.head_dim, index_t{1} << 14},
           bounded_size{"max_position_embeddings", config.max_position_embeddings, most_tokens},
       }) {
    if (value < 1 || value > limit) {
      detail::refuse_llama(field, std::to_string(value), "a number from 1 to " + std::to_string(limit));
    }
  }
  const auto require_multiple = [](std::string_view field, index_t value, index_t divisor, const std::string& of) {
    if (value % divisor != 0) detail::refuse_llama(field, std::to_string(value), "a multiple of " + of);
  };
  const std::string heads = "num_attention_heads, which is " + std::to_string(config.num_attention_heads);
  require_multiple("hidden_size", config.hidden_size, config.num_attention_heads, heads);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    detail::refuse_llama("num_key_value_heads", std::to_string(config.num_key_value_heads), "a divisor of " + heads);
  }
  require_multiple("head_dim", config.head_dim, 2, "2: the rotation takes pairs");
  detail::require_llama_number("rms_norm_eps", config.rms_norm_eps, 0, true);
  detail::require_llama_number("rope_theta", config.rope_theta, 0, false);
  if (const auto& scaling = config.rope_scaling) {
    detail::require_llama_number("rope_scaling.factor", scaling->factor, 1, true);
    detail::require_llama_number("rope_scaling.low_freq_factor", scaling->low_freq_factor, 0, false);
    detail::require_llama_number("rope_scaling.high_freq_factor", scaling->high_freq_factor, scaling->low_freq_factor,
                                 false);
    const index_t context = scaling->original_max_position_embeddings;
    if (context < 1 || context > most_tokens) {
      detail::refuse_llama("rope_scaling.original_max_position_embeddings", std::to_string(context),
                           "a number from 1 to " + std::to_string(most_tokens));
    }
  }
  const auto require_token = [&](std::string_view field, std::int32_t token) {
    if (token < 0 || token >= config.vocab_size) {
      detail::refuse_llama(field, std::to_string(token), "a token from 0 to " + std::to_string(config.vocab_size - 1));
    }
  };
  if (config.bos_token_id.has_value()) require_token("bos_token_id", *config.bos_token_id);
  for (const std::int32_t token : config.eos_token_ids) require_token("eos_token_ids", token);
}

/// The angle by which pair i of a head turns from one position to the next, in radians, for i = 0 … head_dim/2 − 1:
///
///     f_i = rope_theta^(−2i / head_dim).
///
/// With scaling, and λ = 2π / f_i, c = original_max_position_embeddings: f_i where λ < c / high_freq_factor,
/// f_i / factor where λ > c / low_freq_factor, and between the two (1 − s) f_i / factor + s f_i with
/// s = (c / λ − low_freq_factor) / (high_freq_factor − low_freq_factor).
///
/// Computed in double, where Hugging Face computes in float. \throws option_error as `check` does.
///
/// Source: Su et al. (2021), RoFormer, section 3.2.2; the scaling is that of the Llama 3.1 models (Dubey et al. 2024).
[[nodiscard]] inline std::vector<double> rotary_frequencies(const llama_config& config) {
  check(config);
  std::vector<double> frequencies;
  for (index_t i = 0; i < config.head_dim / 2; ++i) {
    const double f = std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim));
    double scaled = f;
    if (const auto& scaling = config.rope_scaling) {
      const double turns = static_cast<double>(scaling->original_max_position_embeddings) * f / (2 * std::numbers::pi);
      if (turns < scaling->low_freq_factor) {
        scaled = f / scaling->factor;
      } else if (turns <= scaling->high_freq_factor) {
        const double kept = (turns - scaling->low_freq_factor) / (scaling->high_freq_factor - scaling->low_freq_factor);
        scaled = (1 - kept) * f / scaling->factor + kept * f;
      }
    }
    frequencies.push_back(scaled);
  }
  return frequencies;
}

/// A parameter tensor as Hugging Face names and shapes it.
struct llama_tensor {
  std::string name;
  std::vector<std::uint64_t> shape;  ///< [outputs, inputs] of a linear layer, [width] of a norm's gains

  /// As a matrix: the gains of a norm are one row.
  [[nodiscard]] index_t rows() const { return shape.size() == 1 ? 1 : static_cast<index_t>(shape.front()); }
  [[nodiscard]] index_t cols() const { return static_cast<index_t>(shape.back()); }
  [[nodiscard]] index_t size() const { return rows() * cols(); }
  friend bool operator==(const llama_tensor&, const llama_tensor&) = default;
};

/// All parameter tensors of a model, in the order of `LlamaForCausalLM`: the embedding, the layers, the last norm, and
/// the output layer unless it is tied. Cost: nine names a layer. \throws option_error as `check` does.
[[nodiscard]] inline std::vector<llama_tensor> llama_tensors(const llama_config& config) {
  check(config);
  std::vector<llama_tensor> tensors;
  const auto add = [&](std::string name, std::initializer_list<index_t> shape) {
    std::vector<std::uint64_t> sizes;
    for (const index_t size : shape) sizes.push_back(static_cast<std::uint64_t>(size));
    tensors.push_back({std::move(name), std::move(sizes)});
  };
  const index_t width = config.hidden_size;
  const index_t queries = config.num_attention_heads * config.head_dim;
  const index_t keys = config.num_key_value_heads * config.head_dim;
  add("model.embed_tokens.weight", {config.vocab_size, width});
  for (index_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "self_attn.q_proj.weight", {queries, width});
    add(prefix + "self_attn.k_proj.weight", {keys, width});
    add(prefix + "self_attn.v_proj.weight", {keys, width});
    add(prefix + "self_attn.o_proj.weight", {width, queries});
    add(prefix + "mlp.gate_proj.weight", {config.intermediate_size, width});
    add(prefix + "mlp.up_proj.weight", {config.intermediate_size, width});
    add(prefix + "mlp.down_proj.weight", {width, config.intermediate_size});
    add(prefix + "input_layernorm.weight", {width});
    add(prefix + "post_attention_layernorm.weight", {width});
  }
  add("model.norm.weight", {width});
  if (!config.tie_word_embeddings) add("lm_head.weight", {config.vocab_size, width});
  return tensors;
}

/// The number of parameters, those of a tied output layer counted once. \throws option_error as `check` does.
[[nodiscard]] inline index_t parameter_count(const llama_config& config) {
  index_t count = 0;
  for (const llama_tensor& tensor : llama_tensors(config)) count += tensor.size();
  return count;
}

}  // namespace dro::models

#endif
