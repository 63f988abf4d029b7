// SPDX-License-Identifier: Apache-2.0
// live_parity FOLDER OUT: runs the model that Hugging Face wrote to FOLDER on the batch of make_golden.py. Writes to
// OUT/results.safetensors its logits, gradients and losses, and to OUT/model the model as it was read. If
// FOLDER/adapter is there, adapters are loaded, their logits written too, and they are written again to OUT/adapter.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include <dro/backend/eigen.hpp>
#include <dro/data/write_safetensors.hpp>
#include <dro/models/transformer/weights.hpp>

#include "support/llama_run.hpp"

namespace {

std::span<const float> elements(const dro::host_matrix<float>& m) {
  return {m.data(), static_cast<std::size_t>(m.rows() * m.cols())};
}

void run(const std::filesystem::path& folder, const std::filesystem::path& out) {
  dro::eigen_backend<> b;
  std::vector<dro::data::named_tensor<float>> results;
  auto model = dro::models::load_transformer<float>(b, folder);
  dro::models::save_transformer(b, model, out / "model");
  test::llama_run adapted;
  if (std::filesystem::exists(folder / "adapter")) {
    auto with_adapters = dro::models::load_transformer<float>(b, folder);
    dro::models::load_adapters(b, folder / "adapter", with_adapters);
    dro::models::save_adapters(b, with_adapters, out / "adapter");
    adapted = test::llama_run::of(b, with_adapters);
    results.push_back(
        {"adapted.logits", {2, 12, static_cast<std::uint64_t>(adapted.logits.cols())}, elements(adapted.logits)});
    for (std::size_t k = 0; k < adapted.gradients.size(); ++k) {
      const auto& tensor = with_adapters.adapters().tensors()[k];
      results.push_back({"adapted.gradient." + tensor.name, tensor.shape, elements(adapted.gradients[k])});
    }
    results.push_back({"adapted.losses", {adapted.losses.size()}, adapted.losses});
  }
  const test::llama_run plain = test::llama_run::of(b, model);
  results.push_back({"logits", {2, 12, static_cast<std::uint64_t>(plain.logits.cols())}, elements(plain.logits)});
  for (std::size_t k = 0; k < plain.gradients.size(); ++k) {
    results.push_back({"gradient." + model.tensors()[k].name, model.tensors()[k].shape, elements(plain.gradients[k])});
  }
  results.push_back({"losses", {plain.losses.size()}, plain.losses});
  dro::data::write_safetensors(out / "results.safetensors", results);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: live_parity FOLDER OUT\n";
    return 2;
  }
  try {
    run(argv[1], argv[2]);
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
