// SPDX-License-Identifier: Apache-2.0
// The transformer against what transformers' LlamaForCausalLM makes of the same weights: see
// tests/golden/llama/make_golden.py.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/data/safetensors.hpp>
#include <dro/models/llama_config_file.hpp>
#include <dro/models/transformer/transformer.hpp>

#include "support/check.hpp"
#include "support/llama_run.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::llama_run;

const std::filesystem::path golden = std::filesystem::path(DRO_SOURCE_DIR) / "tests/golden/llama";

/// Element i of parameter k as make_golden.py has it.
template <class B>
void seed(B& b, dro::models::transformer<B, float>& model) {
  for (std::size_t k = 0; k < model.tensors().size(); ++k) {
    const auto view = model.value(k);
    const double least = model.tensors()[k].shape.size() == 1 ? 0.75 : -0.25;
    b.write(test::random_matrix<float>(view.rows, view.cols, least, least + 0.5, k).data(), view);
  }
}

std::vector<float> expected(const dro::data::safetensors_file& file, const std::string& name) {
  const auto& tensor = file.tensor(name);
  std::vector<float> values(tensor.size());
  tensor.read(std::span(values));
  return values;
}

/// The largest |value − expected| and the largest |expected|.
template <class Values>
std::pair<double, double> difference(const Values& values, const std::vector<float>& expected) {
  REQUIRE(std::size(values) == expected.size());
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double off = std::abs(static_cast<double>(values[i]) - static_cast<double>(expected[i]));
    worst = std::isnan(off) ? test::infinity<double> : std::max(worst, off);
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return {worst, largest};
}

/// Every sum of a pass has fewer than 64 terms of at most about 4 and there are some 20 such sums one after the other;
/// each adds no more than 64 u · 4 with u = 2^-24, on either side: 2 · 20 · 64 · 4 · 6e-8 = 6e-4 at worst, and a
/// twentieth of it where errors are independent. What the project promises is less: 1e-4 for logits, 1e-4 of a
/// gradient's largest element, 1e-3 for losses.
template <class B>
void check_parity(const std::string& name) {
  CAPTURE(name);
  B b(1);
  dro::models::transformer<B, float> model(b, dro::models::read_llama_config(golden / name));
  seed(b, model);
  const llama_run run = llama_run::of(b, model);
  const dro::data::safetensors_file file(golden / name / "expected.safetensors");

  std::vector<float> logits = expected(file, "logits");
  for (index_t n = 0; n < llama_run::rows; ++n) {
    if (llama_run::is_text(n)) continue;  // what padding predicts is of no use, and not the same
    for (index_t v = 0; v < run.logits.cols(); ++v) {
      logits[static_cast<std::size_t>(n * run.logits.cols() + v)] = run.logits(n, v);
    }
  }
  const auto [off, largest] = difference(test::elements(run.logits), logits);
  CHECK(off <= 1e-4);
  CHECK(largest > 0.1);
  for (std::size_t k = 0; k < run.gradients.size(); ++k) {
    const std::string tensor = model.tensors()[k].name;
    CAPTURE(tensor);
    const auto [g_off, g_largest] = difference(test::elements(run.gradients[k]), expected(file, "gradient." + tensor));
    CHECK(g_off <= 1e-4 * g_largest);
    CHECK(g_largest > 0);
  }
  const std::vector<float> losses = expected(file, "losses");
  CHECK(difference(run.losses, losses).first <= 1e-3);
  CHECK(losses.front() > losses.back() + 0.1F);
}

}  // namespace

TEST_CASE("logits, gradients and ten losses are those of LlamaForCausalLM") {
  for (const char* name : {"grouped", "tied", "scaled"}) {
    check_parity<dro::host_backend>(name);
    check_parity<dro::eigen_backend<>>(name);
  }
}
