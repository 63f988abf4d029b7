// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_SMALL_TRANSFORMER_HPP
#define DRO_TESTS_SUPPORT_SMALL_TRANSFORMER_HPP

/// \file
/// Small transformers with weights from a seed, and what they compute in plain loops over one sequence at a time.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/config.hpp>
#include <dro/models/llama_config.hpp>
#include <dro/models/transformer/transformer.hpp>

#include "support/matrices.hpp"
#include "support/reference.hpp"

namespace test {

using tokens = std::vector<dro::models::token_t>;

/// Two layers, four query heads on two key heads.
inline dro::models::llama_config small_llama(dro::index_t vocabulary = 11) {
  dro::models::llama_config c;
  c.vocab_size = vocabulary;
  c.hidden_size = 8;
  c.intermediate_size = 12;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 4;
  c.max_position_embeddings = 64;
  c.rope_theta = 20;
  return c;
}

/// Element numbers in [−0.5, 0.5), gains one more; exact in float.
inline std::vector<dro::host_matrix<double>> small_weights(const dro::models::llama_config& config,
                                                           std::uint64_t seed = 1) {
  std::vector<dro::host_matrix<double>> weights;
  for (const auto& tensor : dro::models::llama_tensors(config)) {
    const double least = tensor.shape.size() == 1 ? 0.5 : -0.5;
    weights.push_back(
        random_matrix<double>(tensor.rows(), tensor.cols(), least, least + 1, 100 * seed + weights.size()));
  }
  return weights;
}

/// A model with these weights.
template <class T, class B>
dro::models::transformer<B, T> transformer_of(B& b, const dro::models::llama_config& config,
                                              const std::vector<dro::host_matrix<double>>& weights) {
  dro::models::transformer<B, T> model(b, config);
  for (std::size_t k = 0; k < weights.size(); ++k) {
    b.write(matrix<T>(weights[k].rows(), weights[k].cols(), elements(weights[k])).data(), model.value(k));
  }
  return model;
}

/// Logits after each token of one sequence, from the formulas of the architecture, in long double.
inline std::vector<std::vector<real>> reference_logits(const dro::models::llama_config& c,
                                                       const std::vector<dro::host_matrix<double>>& weights,
                                                       const tokens& sequence) {
  using row = std::vector<real>;
  const auto times = [](const dro::host_matrix<double>& w, const row& x) {  // W x
    row y(static_cast<std::size_t>(w.rows()), 0);
    for (dro::index_t i = 0; i < w.rows(); ++i) {
      for (dro::index_t j = 0; j < w.cols(); ++j) {
        y[static_cast<std::size_t>(i)] += static_cast<real>(w(i, j)) * x[static_cast<std::size_t>(j)];
      }
    }
    return y;
  };
  const auto norm = [&](const dro::host_matrix<double>& gain, const row& x) {
    real squares = 0;
    for (const real v : x) squares += v * v;
    const real scale = 1 / std::sqrt(squares / static_cast<real>(x.size()) + static_cast<real>(c.rms_norm_eps));
    row y;
    for (std::size_t j = 0; j < x.size(); ++j) y.push_back(x[j] * scale * static_cast<real>(gain.data()[j]));
    return y;
  };
  const auto frequencies = dro::models::rotary_frequencies(c);
  const auto turned = [&](row x, std::size_t position) {
    const auto half = frequencies.size();
    for (std::size_t first = 0; first < x.size(); first += 2 * half) {
      for (std::size_t i = 0; i < half; ++i) {
        const real angle = static_cast<real>(position) * static_cast<real>(frequencies[i]);
        const real a = x[first + i];
        const real b = x[first + half + i];
        x[first + i] = a * std::cos(angle) - b * std::sin(angle);
        x[first + half + i] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
    return x;
  };
  const auto plus = [](row x, const row& y) {
    for (std::size_t j = 0; j < x.size(); ++j) x[j] += y[j];
    return x;
  };

  std::vector<row> x;
  for (const auto token : sequence) x.push_back(test::row(weights.front(), token));
  const auto dh = static_cast<std::size_t>(c.head_dim);
  const auto heads = static_cast<std::size_t>(c.num_attention_heads);
  const auto shared = heads / static_cast<std::size_t>(c.num_key_value_heads);
  for (dro::index_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const auto* w = &weights[1 + 9 * static_cast<std::size_t>(layer)];  // q k v o gate up down norm norm
    std::vector<row> q, k, v;
    for (std::size_t p = 0; p < x.size(); ++p) {
      const row normed = norm(w[7], x[p]);
      q.push_back(turned(times(w[0], normed), p));
      k.push_back(turned(times(w[1], normed), p));
      v.push_back(times(w[2], normed));
    }
    for (std::size_t p = 0; p < x.size(); ++p) {
      row o(heads * dh, 0);
      for (std::size_t h = 0; h < heads; ++h) {
        row scores;
        for (std::size_t s = 0; s <= p; ++s) {
          real dot = 0;
          for (std::size_t i = 0; i < dh; ++i) dot += q[p][h * dh + i] * k[s][h / shared * dh + i];
          scores.push_back(dot / std::sqrt(static_cast<real>(dh)));
        }
        const row weight = softmax(scores);
        for (std::size_t s = 0; s <= p; ++s) {
          for (std::size_t i = 0; i < dh; ++i) o[h * dh + i] += weight[s] * v[s][h / shared * dh + i];
        }
      }
      x[p] = plus(x[p], times(w[3], o));
      const row normed = norm(w[8], x[p]);
      const row up = times(w[5], normed);
      row activated = times(w[4], normed);
      for (std::size_t j = 0; j < up.size(); ++j) activated[j] *= up[j] / (1 + std::exp(-activated[j]));
      x[p] = plus(x[p], times(w[6], activated));
    }
  }
  std::vector<row> logits;
  for (const row& last : x) {
    const row h = norm(weights[1 + 9 * static_cast<std::size_t>(c.num_hidden_layers)], last);
    logits.push_back(times(c.tie_word_embeddings ? weights.front() : weights.back(), h));
  }
  return logits;
}

/// How far an element of the model's logits may be from reference_logits. Each of some 10 sums a layer has at most 16
/// terms of a size below 4, so is off by 16 u · 4 and what came before grows by at most the row sums of a weight, 4 on
/// average over the residual stream: (2 layers · 10 sums) · 64 u · 4 · 4 < 2^15 u.
template <class T>
inline constexpr real logit_tolerance = 32768 * static_cast<real>(unit_roundoff<T>);

/// For differences of Σ c log p, c of magnitudes that sum to `weight`, with a step of h = 2^-16. Each log p is a logit
/// less a logarithm of logits, so a difference is off by 2 · 2 logit_tolerance / 2h; and by h²/6 f‴, where third
/// derivatives of one log p stay below 10^4: the first norm makes them large where the embedding of a token is small.
inline constexpr double difference_step = 0x1p-16;
inline real difference_tolerance(real weight) {
  const real h = difference_step;
  return weight * (2 * logit_tolerance<double> / h + h * h / 6 * 10000);
}

/// Checks the gradients of a trainable model against differences of f by its parameters, which lie in one piece each.
template <class Model, class F>
void check_differences(Model& model, real weight, const F& f) {
  std::size_t number = 0;
  model.for_each_parameter([&](dro::matrix_view<double> x, dro::matrix_view<double> gradient) {
    CAPTURE(number);
    const auto size = static_cast<std::size_t>(x.rows * x.cols);
    const auto expected = central_differences(std::span(x.data, size), f, difference_step);
    for (std::size_t i = 0; i < size; ++i) DRO_CHECK_NEAR(gradient.data[i], expected[i], difference_tolerance(weight));
    CHECK(largest_magnitude(expected) > 100 * difference_tolerance(weight));
    ++number;
  });
}

}  // namespace test

#endif
