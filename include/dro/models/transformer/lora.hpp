// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_LORA_HPP
#define DRO_MODELS_TRANSFORMER_LORA_HPP

/// \file
/// Low-rank adapters of a transformer's linear layers (LoRA, Hu et al. 2022): see linear.hpp.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/models/llama_config.hpp>
#include <dro/models/transformer/flat_memory.hpp>
#include <dro/models/transformer/linear.hpp>

namespace dro::models {

/// Which linear layers get adapters, and of what kind.
struct lora_options {
  index_t rank = 8;   ///< r, at most the width of the model
  double alpha = 16;  ///< α: what an adapter says is scaled by α / r
  /// Of each block: q, k, v, o, gate, up or down_proj; and lm_head, the output layer, where it is not tied.
  std::vector<std::string> layers = {"q_proj", "v_proj"};
  bool freeze_base = true;  ///< the model's own tensors do not learn, and have no memory for gradients
  friend bool operator==(const lora_options&, const lora_options&) = default;
};

/// Throws option_error unless 1 ≤ rank ≤ the model's width, α is finite, and `layers` names linear layers of the model,
/// each once.
inline void check(const lora_options& options, const llama_config& config) {
  if (options.rank < 1 || options.rank > config.hidden_size) {
    throw option_error("lora_options: rank is " + std::to_string(options.rank) + ", expected 1 to " +
                       std::to_string(config.hidden_size) + ", the model's width");
  }
  if (!std::isfinite(options.alpha)) throw option_error("lora_options: alpha is not finite");
  if (options.layers.empty()) throw option_error("lora_options: no layers");
  for (auto name = options.layers.begin(); name != options.layers.end(); ++name) {
    constexpr std::string_view known[] = {"q_proj",    "k_proj",  "v_proj",    "o_proj",
                                          "gate_proj", "up_proj", "down_proj", "lm_head"};
    if (std::find(std::begin(known), std::end(known), *name) == std::end(known)) {
      throw option_error("lora_options: no linear layer \"" + *name +
                         "\", expected q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj or lm_head");
    }
    if (*name == "lm_head" && config.tie_word_embeddings) {
      throw option_error("lora_options: \"lm_head\" of a model whose output layer is tied to the embedding");
    }
    if (std::find(options.layers.begin(), name, *name) != name) {
      throw option_error("lora_options: layer \"" + *name + "\" is named twice");
    }
  }
}

/// The adapters of a model: for each adapted tensor A and then B, in the order of the model's tensors.
template <multiplies B, class T>
class lora_adapters {
 public:
  /// None.
  lora_adapters() = default;
  /// All values and gradients 0. Throws as check(options, config) does.
  lora_adapters(B& b, const llama_config& config, const std::vector<llama_tensor>& base, const lora_options& options)
      : options_(options) {
    check(options, config);
    const auto rank = static_cast<std::uint64_t>(options.rank);
    of_base_.assign(base.size(), none);
    index_t count = 0;
    for (std::size_t k = 0; k < base.size(); ++k) {
      const std::string stem = base[k].name.substr(0, base[k].name.rfind(".weight"));
      const std::string layer = stem.substr(stem.rfind('.') + 1);
      if (std::find(options.layers.begin(), options.layers.end(), layer) == options.layers.end()) continue;
      of_base_[k] = tensors_.size();
      tensors_.push_back({"base_model.model." + stem + ".lora_A.weight", {rank, base[k].shape[1]}});
      tensors_.push_back({"base_model.model." + stem + ".lora_B.weight", {base[k].shape[0], rank}});
      count += options.rank * (base[k].rows() + base[k].cols());
    }
    values_.grow(b, count);
    gradients_.grow(b, count);
    index_t offset = 0;
    for (const llama_tensor& tensor : tensors_) {
      parameters_.push_back(
          {values_.at(offset, tensor.rows(), tensor.cols()), gradients_.at(offset, tensor.rows(), tensor.cols())});
      fill(b, parameters_.back().value, T(0));
      fill(b, parameters_.back().gradient, T(0));
      offset += tensor.size();
    }
  }

  [[nodiscard]] const lora_options& options() const { return options_; }
  /// Names, as PEFT has them, and shapes.
  [[nodiscard]] const std::vector<llama_tensor>& tensors() const { return tensors_; }
  [[nodiscard]] const std::vector<parameter_view<T>>& parameters() const { return parameters_; }

  /// Throws shape_error, naming the tensor, unless the adapters were made for these tensors of a model. None fit any.
  void require_base(const std::vector<llama_tensor>& base) const {
    if (of_base_.empty()) return;
    if (of_base_.size() != base.size()) {
      throw shape_error("lora_adapters: for a model of " + std::to_string(of_base_.size()) + " tensors, but it has " +
                        std::to_string(base.size()));
    }
    for (std::size_t k = 0; k < base.size(); ++k) {
      if (of_base_[k] == none) continue;
      const index_t rows = tensors_[of_base_[k] + 1].rows();
      const index_t cols = tensors_[of_base_[k]].cols();
      if (rows == base[k].rows() && cols == base[k].cols()) continue;
      throw shape_error("lora_adapters: for a \"" + base[k].name + "\" of " + dro::detail::shape_text(rows, cols) +
                        ", but it is " + dro::detail::shape_text(base[k].rows(), base[k].cols()));
    }
  }

  /// The linear layer whose weight is tensor `k` of the model, with its adapter if it has one.
  [[nodiscard]] linear_layer<T> apply_to(std::size_t k, const parameter_view<T>& weight) const {
    if (of_base_.empty() || of_base_[k] == none) return {weight};
    const T scale = static_cast<T>(options_.alpha / static_cast<double>(options_.rank));
    return {weight, parameters_[of_base_[k]], parameters_[of_base_[k] + 1], scale};
  }

 private:
  static constexpr auto none = static_cast<std::size_t>(-1);

  lora_options options_;
  std::vector<llama_tensor> tensors_;
  std::vector<std::size_t> of_base_;
  detail::flat_memory<B, T> values_, gradients_;
  std::vector<parameter_view<T>> parameters_;
};

}  // namespace dro::models

#endif
