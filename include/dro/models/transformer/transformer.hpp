// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_TRANSFORMER_HPP
#define DRO_MODELS_TRANSFORMER_TRANSFORMER_HPP

/// \file
/// A decoder-only transformer of the Llama architecture (Touvron et al. 2023): forward and backward by hand, over
/// products and row programs, on any backend that has both.
///
/// Sizes: S sequences of L rows (sequence_layout.hpp), N = S L; width D, H heads over Hk key heads of dh numbers each,
/// F between gate and down, V tokens. A pass computes R rows of each sequence: all of them to score or to train, a few
/// to decode.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/models/llama_config.hpp>
#include <dro/models/transformer/attention.hpp>
#include <dro/models/transformer/embedding.hpp>
#include <dro/models/transformer/flat_memory.hpp>
#include <dro/models/transformer/linear.hpp>
#include <dro/models/transformer/lora.hpp>
#include <dro/models/transformer/normal_noise.hpp>
#include <dro/models/transformer/rms_norm.hpp>
#include <dro/models/transformer/rotary.hpp>
#include <dro/models/transformer/sequence_layout.hpp>
#include <dro/models/transformer/swiglu.hpp>
#include <dro/models/transformer/token_log_prob.hpp>

namespace dro::models {

/// A batch of token sequences in the backend's memory: row n is row n % L of sequence n / L.
struct token_batch {
  matrix_view<const token_t> tokens;  ///< [S·L × 1]
  sequence_layout layout;             ///< what a row is and sees
};

namespace detail {

/// The parameters of one layer, in the order of llama_tensors.
template <class T>
struct layer_view {
  linear_layer<T> query, key, value, output;    // [H·dh × D], [Hk·dh × D] twice, [D × H·dh]
  linear_layer<T> gate, up, down;               // [F × D] twice, [D × F]
  parameter_view<T> attention_norm, feed_norm;  // [1 × D]
};

/// New keys of branch i at a place ← those of branch parents(i), for all branches of a sequence at once.
template <class T>
struct reorder_branches_program {
  matrix_view<T> keys;                      // [S·Hk·L × dh]
  matrix_view<const std::int32_t> parents;  // [S·branches × 1], numbers within a sequence
  sequence_layout layout;
  index_t key_heads, branches, places;  // the first places of each branch

  [[nodiscard]] index_t width() const { return branches * keys.cols; }
  [[nodiscard]] std::size_t scratch_bytes() const { return sizeof(T) * static_cast<std::size_t>(branches * keys.cols); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    const index_t head = row / places;  // of S·Hk
    const index_t first = head * layout.length + layout.trunk + row % places;
    const index_t parent = head / key_heads * branches;
    T* const kept = team.template scratch<T>();
    team.for_each(branches * keys.cols, [&](index_t k) {
      kept[k] = keys(first + parents(parent + k / keys.cols, 0) * layout.branch, k % keys.cols);
    });
    team.barrier();
    team.for_each(branches * keys.cols,
                  [&](index_t k) { keys(first + k / keys.cols * layout.branch, k % keys.cols) = kept[k]; });
  }
};

}  // namespace detail

/// What a transformer's memory is for.
enum class transformer_use {
  score,   ///< one pass over all rows: the layers share their memory
  decode,  ///< passes over few rows each: keys and values of each layer are kept
  train,   ///< all that the backward pass needs of each layer is kept
};

/// The memory a transformer works in. It is laid out for a shape of batch by `fit` and allocates only when a shape
/// needs more than any before.
template <backend B, class T>
class transformer_memory {
 public:
  transformer_memory() = default;
  transformer_memory(B& b, const llama_config& config, index_t sequences, index_t length, transformer_use use) {
    fit(b, config, sequences, length, use);
  }

  /// Lays it out for `sequences` of `length` rows; what is in it is lost, unless it is laid out so already and not to
  /// decode. Throws option_error as check(config) does, shape_error for sizes below 1. To decode, it queues a program
  /// for the keys and one for the values of each layer.
  void fit(B& b, const llama_config& config, index_t sequences, index_t length, transformer_use use) {
    if (sequences != sequences_ || length != length_ || use != use_) {
      sequences_ = 0;  // no layout, should there not be enough memory
      size_ = 0;
      layers_.clear();
      memory_.grow(b, plan(config, sequences, length, use));
      sequences_ = sequences;
      length_ = length;
      use_ = use;
    }
    if (use != transformer_use::decode) return;
    // Rows that no pass has written yet count 0 times: no NaN there, not even from weights that were NaN for a while.
    for (const layer_slots& layer : layers_) {
      fill(b, at(layer.k), T(0));
      fill(b, at(layer.v), T(0));
    }
  }

  [[nodiscard]] index_t sequences() const { return sequences_; }
  [[nodiscard]] index_t length() const { return length_; }
  [[nodiscard]] transformer_use use() const { return use_; }
  /// Numbers it holds.
  [[nodiscard]] index_t size() const { return size_; }

 private:
  template <multiplies, class>
  friend class transformer;

  struct slot {
    index_t offset = 0, rows = 0, cols = 0;
  };
  /// What the backward pass needs of a layer.
  struct layer_slots {
    slot input, inverse_1;   // [N × D], [N × 1]
    slot q, k, v, o;         // [S·H·L × dh], [S·Hk·L × dh] twice, [S·H·L × dh]
    slot log_sum;            // [S·H·L × 1]
    slot middle, inverse_2;  // [N × D], [N × 1]
    slot gates;              // [2 N × F]: of n rows n gates, and then their factors
  };

  [[nodiscard]] index_t plan(const llama_config& config, index_t sequences, index_t length, transformer_use use) {
    check(config);
    if (sequences < 1 || length < 1) {
      throw shape_error("transformer_memory: " + std::to_string(sequences) + " sequences of " + std::to_string(length) +
                        " rows, expected at least one of each");
    }
    const index_t n = sequences * length;
    const index_t d = config.hidden_size;
    const index_t f = config.intermediate_size;
    const index_t heads = config.num_attention_heads * config.head_dim;
    const index_t q_rows = n * config.num_attention_heads;
    const index_t k_rows = n * config.num_key_value_heads;
    const auto place = [this](index_t rows, index_t cols) {
      const slot s{size_, rows, cols};
      size_ += rows * cols;
      return s;
    };
    const auto place_layer = [&] {
      layer_slots s;
      s.input = place(n, d);
      s.inverse_1 = place(n, 1);
      s.q = place(q_rows, config.head_dim);
      s.k = place(k_rows, config.head_dim);
      s.v = place(k_rows, config.head_dim);
      s.o = place(q_rows, config.head_dim);
      s.log_sum = place(q_rows, 1);
      s.middle = place(n, d);
      s.inverse_2 = place(n, 1);
      s.gates = place(2 * n, f);
      return s;
    };
    const attention_shape shape{sequences,       config.num_attention_heads, config.num_key_value_heads,
                                config.head_dim, row_span{length},           sequence_layout::plain(length)};
    // Numbers: 64 MiB of float, or 512 MiB for a GPU, whose products of this many logits fill it.
    constexpr index_t logits_at_once = index_t{1} << (host_executed<B> ? 24 : 27);
    const index_t logits_of_row = config.vocab_size + 2 * d;  // with what an adapter of the output layer, r ≤ D, needs
    const index_t all_logits = n * logits_of_row;
    const index_t logits =
        all_logits < logits_at_once ? all_logits : (logits_of_row > logits_at_once ? logits_of_row : logits_at_once);
    const index_t scores = shape.ample_workspace();
    const index_t work = logits > scores ? logits : scores;
    for (index_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      if (layer == 0 || use == transformer_use::train) {
        layers_.push_back(place_layer());
      } else {
        layers_.push_back(layers_.front());
        if (use == transformer_use::decode) {
          layers_.back().k = place(k_rows, config.head_dim);
          layers_.back().v = place(k_rows, config.head_dim);
        }
      }
    }
    last_ = place(n, d);
    inverse_last_ = place(n, 1);
    hidden_ = place(n, d);
    normed_ = place(n, d);
    joined_ = place(n, heads);
    activated_ = place(n, f);
    work_ = place(work, 1);
    if (use == transformer_use::train) {
      d_x_ = place(n, d);
      d_normed_ = place(n, d);
      d_q_ = place(q_rows, config.head_dim);
      d_k_ = place(k_rows, config.head_dim);
      d_v_ = place(k_rows, config.head_dim);
      d_o_ = place(q_rows, config.head_dim);
      delta_ = place(q_rows, 1);
      d_scores_ = place(scores > d ? scores : d, 1);  // D: the largest rank of an adapter
      parts_ = place(rms_norm_parts(n), d);
    }
    return size_;
  }

  [[nodiscard]] matrix_view<T> at(const slot& s) const { return memory_.at(s.offset, s.rows, s.cols); }
  /// The first of it, for a pass over fewer rows.
  [[nodiscard]] matrix_view<T> at(const slot& s, index_t rows) const { return memory_.at(s.offset, rows, s.cols); }
  /// As much of `work_` as there is of `d_scores_`.
  [[nodiscard]] matrix_view<T> scores() const { return at(work_, d_scores_.rows); }

  index_t size_ = 0;
  index_t sequences_ = 0;
  index_t length_ = 0;
  transformer_use use_ = transformer_use::score;
  std::vector<layer_slots> layers_;
  slot last_, inverse_last_, hidden_, normed_, joined_, activated_, work_;
  slot d_x_, d_normed_, d_q_, d_k_, d_v_, d_o_, delta_, d_scores_, parts_;
  detail::flat_memory<B, T> memory_;
};

/// The model: parameters and their gradients, under the names and in the shapes of Hugging Face's LlamaForCausalLM.
/// The backend outlives the model.
template <multiplies B, class T>
class transformer {
 public:
  using scalar_type = T;

  /// All parameters 0 but the gains of the norms, which are 1. Throws option_error as check(config) does.
  transformer(B& b, const llama_config& config, matmul_precision precision = matmul_precision::full)
      : config_(config),
        precision_(precision),
        tensors_(llama_tensors(config)),
        values_(b, parameter_count(config)),
        cosine_(b.template make<T>(config.max_position_embeddings, config.head_dim / 2)),
        sine_(b.template make<T>(config.max_position_embeddings, config.head_dim / 2)),
        backend_(&b) {
    index_t offset = 0;
    for (const llama_tensor& tensor : tensors_) {
      parameters_.push_back({values_.at(offset, tensor.rows(), tensor.cols()), {}});
      fill(b, parameters_.back().value, tensor.shape.size() == 1 ? T(1) : T(0));
      offset += tensor.size();
    }
    make_gradients(b);
    write_rotary_table(b);
  }

  [[nodiscard]] const llama_config& config() const { return config_; }
  [[nodiscard]] const std::vector<llama_tensor>& tensors() const { return tensors_; }
  /// Value and gradient of the tensor of this number, [rows × cols] in the backend's memory. The gradient of a frozen
  /// tensor is a view of nothing.
  [[nodiscard]] matrix_view<T> value(std::size_t tensor) const { return parameters_[tensor].value; }
  [[nodiscard]] matrix_view<T> gradient(std::size_t tensor) const { return parameters_[tensor].gradient; }

  /// Those that learn: the tensors unless they are frozen, and the adapters.
  template <class F>
  void for_each_parameter(F&& f) {
    for (const auto& p : parameters_) {
      if (p.has_gradient()) f(p.value, p.gradient);
    }
    for (const auto& p : adapters_.parameters()) f(p.value, p.gradient);
  }

  /// Weights to train from: normal with mean 0, those that write to the residual stream (o_proj and down_proj) with a
  /// deviation smaller by √(2 layers), since so many of them add up there (Radford et al. 2019); gains 1. The same for
  /// the same seed on every backend. Queues one program a tensor.
  void initialise(B& b, std::uint64_t seed, double deviation = 0.02) {
    const double residual = deviation / std::sqrt(2.0 * static_cast<double>(config_.num_hidden_layers));
    for (std::size_t k = 0; k < tensors_.size(); ++k) {
      const std::string& name = tensors_[k].name;
      if (tensors_[k].shape.size() == 1) {
        fill(b, parameters_[k].value, T(1));
      } else {
        const bool is_residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        fill_normal(b, parameters_[k].value, seed, static_cast<std::uint32_t>(k), is_residual ? residual : deviation);
      }
    }
  }

  /// Gives linear layers low-rank adapters, in place of any there were: A normal with deviation 1/√inputs, the same for
  /// the same seed on every backend, B = 0, so that nothing changes until they have learnt. Throws option_error for
  /// options that do not fit the model.
  void adapt(B& b, const lora_options& options, std::uint64_t seed) {
    lora_adapters<B, T> adapters(b, config_, tensors_, options);
    for (std::size_t k = 0; k < adapters.tensors().size(); k += 2) {
      const auto inputs = static_cast<double>(adapters.tensors()[k].cols());
      const auto stream = static_cast<std::uint32_t>(tensors_.size() + k);  // none of initialise's
      fill_normal(b, adapters.parameters()[k].value, seed, stream, 1 / std::sqrt(inputs));
    }
    adapt(b, std::move(adapters));
  }
  /// The same with adapters that were made for a model of this configuration. Throws shape_error for others.
  void adapt(B& b, lora_adapters<B, T> adapters) {
    adapters.require_base(tensors_);
    adapters_ = std::move(adapters);
    if (adapters_.options().freeze_base) {
      for (auto& p : parameters_) p.gradient = {};
      gradients_ = {};
    } else {
      make_gradients(b);
    }
  }

  /// Adds the adapters to the weights they belong to and drops them: a model that computes the same, but for rounding,
  /// at the cost of one without. All its tensors learn, with gradients of 0. Queues a product for each adapted layer.
  void merge_adapters(B& b) {
    for (std::size_t k = 0; k < tensors_.size(); ++k) merge_adapter(b, adapters_.apply_to(k, parameters_[k]));
    adapters_ = {};
    make_gradients(b);
  }

  /// The adapters: their options, tensors (named as PEFT does) and parameters, in that order. None: no tensors.
  [[nodiscard]] const lora_adapters<B, T>& adapters() const { return adapters_; }

  /// log_prob [N × 1] ← log p(target_n | what row n sees), nats; 0 where the target is no_token. `targets` [N × 1].
  /// Throws shape_error. Queued.
  void log_prob(B& b, const token_batch& batch, matrix_view<const token_t> targets, matrix_view<T> log_prob,
                transformer_memory<B, T>& memory) const {
    const matrix_view<const T> h = hidden(b, batch, memory);
    token_log_prob<B, T>(b, h, output(), targets, log_prob, memory.at(memory.work_), precision_);
  }

  /// Adds the gradient of Σ_n c_n log p(target_n | …) to that of every parameter, and writes log_prob as above.
  /// `coefficients` [N × 1]. Throws shape_error; option_error unless `memory` is laid out to train. Queued.
  void accumulate_gradient(B& b, const token_batch& batch, matrix_view<const token_t> targets,
                           matrix_view<const T> coefficients, matrix_view<T> log_prob,
                           transformer_memory<B, T>& memory) {
    require_training(memory);
    const matrix_view<const T> h = hidden(b, batch, memory);
    token_log_prob_gradient<B, T>(b, h, output(), targets, coefficients, log_prob, d_hidden(memory),
                                  memory.at(memory.work_), precision_);
    accumulate_hidden_gradient(b, batch, memory);
  }

  // The parts of the above, for a head of one's own.

  /// The normed output of the last layer for all rows, [N × D]; it lies in `memory`.
  [[nodiscard]] matrix_view<const T> hidden(B& b, const token_batch& batch, transformer_memory<B, T>& memory) const {
    return hidden(b, batch, row_span{batch.layout.length}, memory);
  }

  /// The same for some rows of each sequence, [S·R × D], in the order of the sequences; `batch.tokens` [S·R × 1] are
  /// theirs alone. What they see among other rows was computed by passes before. Throws shape_error; option_error for
  /// less than all rows unless `memory` is laid out to decode.
  [[nodiscard]] matrix_view<const T> hidden(B& b, const token_batch& batch, const row_span& rows,
                                            transformer_memory<B, T>& memory) const {
    require(batch, rows, memory);
    const index_t n = memory.sequences() * rows.count;
    embedding<B, T>(b, parameters_.front().value, batch.tokens, memory.at(memory.layers_.front().input, n));
    for (index_t l = 0; l < config_.num_hidden_layers; ++l) {
      const bool is_last = l + 1 == config_.num_hidden_layers;
      const auto& next = is_last ? memory.last_ : memory.layers_[static_cast<std::size_t>(l) + 1].input;
      attention_layer(b, l, batch.layout, rows, memory);
      feed_forward(b, l, memory.at(next, n), memory);
    }
    const matrix_view<T> h = memory.at(memory.hidden_, n);
    rms_norm<B, T>(b, memory.at(memory.last_, n), parameters_[norm_index()].value, static_cast<T>(config_.rms_norm_eps),
                   h, memory.at(memory.inverse_last_, n));
    return h;
  }

  /// For a search: among rows that passes over `memory` wrote, the first `rows` rows of branch i of sequence s become
  /// those of branch parents(s · branches + i), `parents` [S·branches × 1]. Throws option_error unless `memory` is laid
  /// out to decode, shape_error. Queues two programs a layer.
  void reorder_branches(B& b, const sequence_layout& layout, matrix_view<const std::int32_t> parents, index_t rows,
                        transformer_memory<B, T>& memory) const {
    if (memory.use() != transformer_use::decode) {
      throw option_error("transformer: to reorder branches needs memory laid out with transformer_use::decode");
    }
    const index_t branches = (memory.length() - layout.trunk) / layout.branch;
    require_shape(parents, memory.sequences() * branches, 1, "transformer: parents");
    if (layout.length != memory.length() || rows < 0 || rows > layout.branch) {
      throw shape_error("transformer: the first " + std::to_string(rows) + " rows of branches of " +
                        std::to_string(layout.branch) + ", in sequences of " + std::to_string(layout.length) +
                        "; memory for sequences of " + std::to_string(memory.length()));
    }
    if (rows == 0 || branches == 0) return;
    const index_t heads = config_.num_key_value_heads;
    const auto reorder = [&](const matrix_view<T>& keys) {
      b.run(memory.sequences() * heads * rows,
            detail::reorder_branches_program<T>{keys, parents, layout, heads, branches, rows});
    };
    for (const auto& slots : memory.layers_) {
      reorder(memory.at(slots.k));
      reorder(memory.at(slots.v));
    }
  }

  /// Where the gradient of `hidden` [N × D] is to be written before accumulate_hidden_gradient.
  [[nodiscard]] matrix_view<T> d_hidden(transformer_memory<B, T>& memory) const { return memory.at(memory.d_normed_); }

  /// Adds to the gradients of all parameters, given d_hidden; the last pass through `memory` was `hidden` for this
  /// batch. What `memory` kept is used up. Throws as accumulate_gradient.
  void accumulate_hidden_gradient(B& b, const token_batch& batch, transformer_memory<B, T>& memory) {
    require_training(memory);
    require(batch, row_span{batch.layout.length}, memory);
    const matrix_view<T> d_x = memory.at(memory.d_x_);
    fill(b, d_x, T(0));
    const auto& norm = parameters_[norm_index()];
    rms_norm_gradient<B, T>(b, memory.at(memory.last_), norm.value, memory.at(memory.inverse_last_), d_hidden(memory),
                            d_x, norm.gradient, memory.at(memory.parts_));
    for (index_t l = config_.num_hidden_layers; l-- > 0;) {
      feed_forward_gradient(b, l, memory);
      attention_layer_gradient(b, l, batch.layout, memory);
    }
    if (parameters_.front().has_gradient()) {
      embedding_gradient<B, T>(b, batch.tokens, d_x, parameters_.front().gradient);
    }
  }

  /// logits [rows × V] ← the output layer of `hidden` [rows × D], rows of what the last pass over `memory` gave. Throws
  /// shape_error. Queued.
  void logits(B& b, matrix_view<const T> hidden, matrix_view<T> logits, transformer_memory<B, T>& memory) const {
    project(b, hidden, output(), logits, false, memory);
  }

  /// The output layer, [V × D], which makes logits of the hidden state. Tied, its weight is the embedding.
  [[nodiscard]] linear_layer<T> output() const {
    if (config_.tie_word_embeddings) return {parameters_.front()};
    return adapters_.apply_to(parameters_.size() - 1, parameters_.back());
  }
  [[nodiscard]] matmul_precision precision() const { return precision_; }

 private:
  static constexpr std::size_t tensors_a_layer = 9;

  [[nodiscard]] std::size_t norm_index() const {
    return 1 + tensors_a_layer * static_cast<std::size_t>(config_.num_hidden_layers);
  }
  [[nodiscard]] detail::layer_view<T> layer(index_t l) const {
    const std::size_t first = 1 + tensors_a_layer * static_cast<std::size_t>(l);
    const auto linear_at = [&](std::size_t k) { return adapters_.apply_to(first + k, parameters_[first + k]); };
    return {linear_at(0), linear_at(1), linear_at(2),           linear_at(3),          linear_at(4),
            linear_at(5), linear_at(6), parameters_[first + 7], parameters_[first + 8]};
  }
  /// Gradients of 0 for all tensors.
  void make_gradients(B& b) {
    gradients_.grow(b, parameter_count(config_));
    index_t offset = 0;
    for (std::size_t k = 0; k < tensors_.size(); ++k) {
      parameters_[k].gradient = gradients_.at(offset, tensors_[k].rows(), tensors_[k].cols());
      fill(b, parameters_[k].gradient, T(0));
      offset += tensors_[k].size();
    }
  }
  [[nodiscard]] attention_shape attention_of(const sequence_layout& layout, const row_span& rows,
                                             const transformer_memory<B, T>& memory) const {
    return {
        memory.sequences(), config_.num_attention_heads, config_.num_key_value_heads, config_.head_dim, rows, layout};
  }
  [[nodiscard]] head_layout queries_of(const sequence_layout& layout, const row_span& rows) const {
    return {config_.num_attention_heads, config_.head_dim, rows, false, layout};
  }
  [[nodiscard]] head_layout keys_of(const sequence_layout& layout, const row_span& rows) const {
    return {config_.num_key_value_heads, config_.head_dim, rows, true, layout};
  }

  static void require_training(const transformer_memory<B, T>& memory) {
    if (memory.use() != transformer_use::train) {
      throw option_error("transformer: a gradient needs memory laid out with transformer_use::train");
    }
  }
  static void require(const token_batch& batch, const row_span& rows, const transformer_memory<B, T>& memory) {
    const bool is_whole = rows.count == memory.length() && rows.first == 0 && rows.stride == 1;
    if (!is_whole && memory.use() != transformer_use::decode) {
      throw option_error("transformer: a pass over " + std::to_string(rows.count) + " of " +
                         std::to_string(memory.length()) + " rows needs memory laid out with transformer_use::decode");
    }
    if (batch.layout.length != memory.length() || rows.count < 1 || rows.end() > memory.length() ||
        batch.tokens.rows != memory.sequences() * rows.count) {
      throw shape_error("transformer: " + std::to_string(batch.tokens.rows) + " tokens for " +
                        std::to_string(rows.count) + " rows, up to row " + std::to_string(rows.end()) +
                        ", of sequences of " + std::to_string(batch.layout.length) + "; memory for " +
                        std::to_string(memory.sequences()) + " sequences of " + std::to_string(memory.length()));
    }
    if (batch.layout.starts.data != nullptr) {
      require_shape(batch.layout.starts, memory.sequences(), 1, "transformer: starts");
    }
  }

  void write_rotary_table(B& b) {
    const std::vector<double> frequencies = rotary_frequencies(config_);
    host_matrix<T> cosine(config_.max_position_embeddings, config_.head_dim / 2);
    host_matrix<T> sine(config_.max_position_embeddings, config_.head_dim / 2);
    for (index_t p = 0; p < cosine.rows(); ++p) {
      for (index_t i = 0; i < cosine.cols(); ++i) {
        const double angle = static_cast<double>(p) * frequencies[static_cast<std::size_t>(i)];
        cosine(p, i) = static_cast<T>(std::cos(angle));
        sine(p, i) = static_cast<T>(std::sin(angle));
      }
    }
    b.write(cosine.data(), b.view(cosine_));
    b.write(sine.data(), b.view(sine_));
  }

  /// What factors of `rows` rows may be rounded to that these layers multiply: an adapter needs them exact.
  template <class... Layers>
  [[nodiscard]] matmul_precision rounding(index_t rows, const Layers&... layers) const {
    const bool is_adapted = (layers.is_adapted() || ...);
    return rounding_pays<B, T>(rows) && !is_adapted ? precision_ : matmul_precision::full;
  }
  void project(B& b, const factor_view<T>& x, const linear_layer<T>& w, matrix_view<T> y, bool add,
               transformer_memory<B, T>& memory) const {
    linear<B, T>(b, x, w, y, add, memory.at(memory.work_), precision_);
  }
  void project_gradient(B& b, const factor_view<T>& x, const linear_layer<T>& w, const factor_view<T>& d_y,
                        matrix_view<T> d_x, bool add, transformer_memory<B, T>& memory) const {
    linear_gradient<B, T>(b, x, w, d_y, d_x, add, memory.scores(), memory.at(memory.d_scores_), precision_);
  }

  /// middle ← input + attention(norm(input)) Woᵀ.
  void attention_layer(B& b, index_t l, const sequence_layout& layout, const row_span& rows,
                       transformer_memory<B, T>& memory) const {
    const auto& s = memory.layers_[static_cast<std::size_t>(l)];
    const auto w = layer(l);
    const index_t n = memory.sequences() * rows.count;
    const matrix_view<T> joined = memory.at(memory.joined_, n);
    const head_layout queries = queries_of(layout, rows);
    const head_layout keys = keys_of(layout, rows);
    const matrix_view<T> joined_keys = row_major_view(joined.data, n, keys.heads * keys.dimension);
    const matrix_view<T> q = memory.at(s.q, n * queries.heads);
    const matrix_view<T> o = memory.at(s.o, n * queries.heads);
    const matrix_view<T> middle = memory.at(s.middle, n);
    const auto [cosine, sine] = rotary_table();
    const auto of_qkv = rounding(n, w.query, w.key, w.value);
    const factor<B, T> x(b, memory.at(memory.normed_, n), of_qkv, [&](const auto& y) {
      rms_norm<B, T>(b, memory.at(s.input, n), w.attention_norm.value, static_cast<T>(config_.rms_norm_eps), y,
                     memory.at(s.inverse_1, n));
    });
    project(b, x.view(), w.query, joined, false, memory);
    split_heads(b, joined, q, cosine, sine, queries);
    project(b, x.view(), w.key, joined_keys, false, memory);
    split_heads(b, joined_keys, memory.at(s.k), cosine, sine, keys);
    project(b, x.view(), w.value, joined_keys, false, memory);
    split_heads(b, joined_keys, memory.at(s.v), {}, {}, keys);
    attention<B, T>(b, attention_of(layout, rows, memory), q, memory.at(s.k), memory.at(s.v), o,
                    memory.at(s.log_sum, n * queries.heads), memory.at(memory.work_), precision_);
    const factor<B, T> heads(b, joined, rounding(n, w.output),
                             [&](const auto& y) { join_heads<B, T>(b, o, y, {}, {}, queries); });
    copy<B, T>(b, memory.at(s.input, n), middle);
    project(b, heads.view(), w.output, middle, true, memory);
  }

  void attention_layer_gradient(B& b, index_t l, const sequence_layout& layout, transformer_memory<B, T>& memory) {
    const auto& s = memory.layers_[static_cast<std::size_t>(l)];
    const auto w = layer(l);
    const row_span rows{layout.length};
    const matrix_view<T> d_normed = memory.at(memory.d_normed_);
    const matrix_view<T> d_x = memory.at(memory.d_x_);
    const matrix_view<T> joined = memory.at(memory.joined_);
    const head_layout queries = queries_of(layout, rows);
    const head_layout keys = keys_of(layout, rows);
    const matrix_view<T> joined_keys = row_major_view(joined.data, joined.rows, keys.heads * keys.dimension);

    const auto of_output = rounding(joined.rows, w.output);
    const auto of_qkv = rounding(joined.rows, w.query, w.key, w.value);
    {
      const factor<B, T> heads(b, joined, of_output,
                               [&](const auto& y) { join_heads<B, T>(b, memory.at(s.o), y, {}, {}, queries); });
      project_gradient(b, heads.view(), w.output, matrix_view<const T>(d_x), joined, false, memory);
    }
    split_heads(b, joined, memory.at(memory.d_o_), {}, {}, queries);
    attention_gradient<B, T>(b, attention_of(layout, rows, memory), memory.at(s.q), memory.at(s.k), memory.at(s.v),
                             memory.at(s.o), memory.at(s.log_sum), memory.at(memory.d_o_), memory.at(memory.d_q_),
                             memory.at(memory.d_k_), memory.at(memory.d_v_), memory.at(memory.delta_), memory.scores(),
                             memory.at(memory.d_scores_), precision_);
    const factor<B, T> x(b, memory.at(memory.normed_), of_qkv, [&](const auto& y) {
      rms_norm_again<B, T>(b, memory.at(s.input), w.attention_norm.value, memory.at(s.inverse_1), y);
    });
    // Given the gradient of the heads; those of values did not turn, which `turn` without data says.
    const auto back = [&](const matrix_view<T>& d_split, const matrix_view<T>& d_joined, const head_layout& heads,
                          const std::pair<matrix_view<const T>, matrix_view<const T>>& turn,
                          const linear_layer<T>& projection, bool add) {
      const factor<B, T> d(b, d_joined, of_qkv,
                           [&](const auto& y) { join_heads<B, T>(b, d_split, y, turn.first, turn.second, heads); });
      project_gradient(b, x.view(), projection, d.view(), d_normed, add, memory);
    };
    back(memory.at(memory.d_q_), joined, queries, rotary_table(), w.query, false);
    back(memory.at(memory.d_k_), joined_keys, keys, rotary_table(), w.key, true);
    back(memory.at(memory.d_v_), joined_keys, keys, {}, w.value, true);
    rms_norm_gradient<B, T>(b, memory.at(s.input), w.attention_norm.value, memory.at(s.inverse_1), d_normed, d_x,
                            w.attention_norm.gradient, memory.at(memory.parts_));
  }

  /// next ← middle + (silu(norm(middle) Wgᵀ) ∘ norm(middle) Wuᵀ) Wdᵀ.
  void feed_forward(B& b, index_t l, matrix_view<T> next, transformer_memory<B, T>& memory) const {
    const auto& s = memory.layers_[static_cast<std::size_t>(l)];
    const auto w = layer(l);
    const index_t n = next.rows;
    const matrix_view<T> gates = memory.at(s.gates, 2 * n);
    const matrix_view<T> gate = rows_of(gates, 0, n);
    const matrix_view<T> up = rows_of(gates, n, n);
    {
      const factor<B, T> x(b, memory.at(memory.normed_, n), rounding(n, w.gate, w.up), [&](const auto& y) {
        rms_norm<B, T>(b, memory.at(s.middle, n), w.feed_norm.value, static_cast<T>(config_.rms_norm_eps), y,
                       memory.at(s.inverse_2, n));
      });
      project(b, x.view(), w.gate, gate, false, memory);
      project(b, x.view(), w.up, up, false, memory);
    }
    const factor<B, T> activated(b, memory.at(memory.activated_, n), rounding(n, w.down),
                                 [&](const auto& y) { swiglu<B, T>(b, gate, up, y); });
    copy<B, T>(b, memory.at(s.middle, n), next);
    project(b, activated.view(), w.down, next, true, memory);
  }

  void feed_forward_gradient(B& b, index_t l, transformer_memory<B, T>& memory) {
    const auto& s = memory.layers_[static_cast<std::size_t>(l)];
    const auto w = layer(l);
    const index_t n = memory.sequences() * memory.length();
    const matrix_view<T> gates = memory.at(s.gates);
    const matrix_view<T> gate = rows_of(gates, 0, n);
    const matrix_view<T> up = rows_of(gates, n, n);
    const matrix_view<T> d_normed = memory.at(memory.d_normed_);
    const matrix_view<T> d_activated = memory.at(memory.activated_);
    const matrix_view<T> d_x = memory.at(memory.d_x_);
    {
      const factor<B, T> activated(b, memory.at(memory.activated_), rounding(n, w.down),
                                   [&](const auto& y) { swiglu<B, T>(b, gate, up, y); });
      project_gradient(b, activated.view(), w.down, matrix_view<const T>(d_x), d_activated, false, memory);
    }
    const auto of_gates = rounding(n, w.gate, w.up);
    const factor<B, T> d_gates(b, gates, of_gates, [&](const auto& d) {
      swiglu_gradient<B, T>(b, gate, up, d_activated, rows_of(d, 0, n), rows_of(d, n, n));
    });
    const factor<B, T> x(b, memory.at(memory.normed_), of_gates, [&](const auto& y) {
      rms_norm_again<B, T>(b, memory.at(s.middle), w.feed_norm.value, memory.at(s.inverse_2), y);
    });
    project_gradient(b, x.view(), w.gate, rows_of(d_gates.view(), 0, n), d_normed, false, memory);
    project_gradient(b, x.view(), w.up, rows_of(d_gates.view(), n, n), d_normed, true, memory);
    rms_norm_gradient<B, T>(b, memory.at(s.middle), w.feed_norm.value, memory.at(s.inverse_2), d_normed, d_x,
                            w.feed_norm.gradient, memory.at(memory.parts_));
  }

  /// Cosine and sine, [positions × dh/2].
  [[nodiscard]] std::pair<matrix_view<const T>, matrix_view<const T>> rotary_table() const {
    return {std::as_const(*backend_).view(cosine_), std::as_const(*backend_).view(sine_)};
  }

  llama_config config_;
  matmul_precision precision_;
  std::vector<llama_tensor> tensors_;
  detail::flat_memory<B, T> values_, gradients_;
  std::vector<parameter_view<T>> parameters_;
  lora_adapters<B, T> adapters_;
  matrix_t<B, T> cosine_, sine_;
  B* backend_;
};

}  // namespace dro::models

#endif
