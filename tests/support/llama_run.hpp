// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_LLAMA_RUN_HPP
#define DRO_TESTS_SUPPORT_LLAMA_RUN_HPP

/// \file
/// Logits, gradients and the losses of ten steps of a transformer on the batch of tests/golden/llama/make_golden.py.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/config.hpp>
#include <dro/models/transformer/transformer.hpp>
#include <dro/optimize/optimizer.hpp>

#include "support/reference.hpp"

namespace test {

struct llama_run {
  static constexpr dro::index_t sequences = 2, length = 12, padding = 3, steps = 10, rows = sequences * length;

  dro::host_matrix<float> logits;                  // [S·L × V]
  std::vector<dro::host_matrix<float>> gradients;  // of the loss, in the order of llama_tensors
  std::vector<float> losses;

  /// Whether row n is no padding.
  [[nodiscard]] static bool is_text(dro::index_t n) { return n < length || n % length >= padding; }

  /// Runs `model`, whose parameters change.
  template <class B>
  static llama_run of(B& b, dro::models::transformer<B, float>& model) {
    using dro::models::no_token;
    const auto vocabulary = model.config().vocab_size;
    dro::host_matrix<dro::models::token_t> tokens(rows, 1), targets(rows, 1);
    dro::host_matrix<float> coefficients(rows, 1);
    dro::host_matrix<std::int32_t> starts(sequences, 1, {0, padding});
    numbers next(1000);
    for (dro::index_t n = 0; n < rows; ++n) {
      const auto token = static_cast<dro::models::token_t>(next.between(0, 1) * static_cast<double>(vocabulary));
      tokens(n, 0) = is_text(n) ? token : no_token;
    }
    float predicted = 0;
    for (dro::index_t n = 0; n < rows; ++n) {
      const bool is_predicting = is_text(n) && n % length + 1 < length;
      targets(n, 0) = is_predicting ? tokens(n + 1, 0) : no_token;
      predicted += is_predicting ? 1.0F : 0.0F;
    }
    for (dro::index_t n = 0; n < rows; ++n) coefficients(n, 0) = targets(n, 0) == no_token ? 0 : 1 / predicted;

    const auto tokens_there = write(b, tokens);
    const auto targets_there = write(b, targets);
    const auto starts_there = write(b, starts);
    const auto coefficients_there = write(b, coefficients);
    auto log_prob = b.template make<float>(rows, 1);
    const B& view = b;
    const dro::models::token_batch batch{view.view(tokens_there), {length, length, 1, view.view(starts_there)}};
    dro::models::transformer_memory<B, float> memory(b, model.config(), sequences, length,
                                                     dro::models::transformer_use::train);
    llama_run run;
    auto logits = b.template make<float>(rows, vocabulary);
    model.logits(b, model.hidden(b, batch, memory), b.view(logits), memory);
    run.logits = read(b, logits);
    dro::sgd<B, float> descent(b, {.learning_rate = 0.5});
    for (dro::index_t step = 0; step < steps; ++step) {
      model.accumulate_gradient(b, batch, view.view(targets_there), view.view(coefficients_there), b.view(log_prob),
                                memory);
      const auto p = read(b, log_prob);
      double sum = 0;
      for (dro::index_t n = 0; n < rows; ++n) sum += static_cast<double>(p(n, 0));
      run.losses.push_back(static_cast<float>(-sum / static_cast<double>(predicted)));
      if (step == 0) {
        model.for_each_parameter([&](auto, dro::matrix_view<float> gradient) {
          auto g = read(b, gradient);
          for (dro::index_t i = 0; i < g.rows() * g.cols(); ++i) g.data()[i] = -g.data()[i];
          run.gradients.push_back(std::move(g));
        });
      }
      descent.step(b, model);
    }
    return run;
  }
};

}  // namespace test

#endif
