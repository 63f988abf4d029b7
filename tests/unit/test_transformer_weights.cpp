// SPDX-License-Identifier: Apache-2.0
// Where a transformer's weights come from and go to: noise, Hugging Face's files, adapters and theirs.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/data/safetensors.hpp>
#include <dro/data/write_safetensors.hpp>
#include <dro/models/transformer/weights.hpp>
#include <dro/optimize/optimizer.hpp>

#include "data_files.hpp"
#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_transformer.hpp"

namespace {

using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::models::lora_options;
using dro::models::token_t;
using dro::models::transformer;
using dro::models::transformer_memory;
using dro::models::transformer_use;
using test::real;

template <class B, class T>
std::vector<host_matrix<T>> values_of(B& b, const transformer<B, T>& model) {
  std::vector<host_matrix<T>> values;
  for (std::size_t k = 0; k < model.tensors().size(); ++k) values.push_back(dro::read(b, model.value(k)));
  return values;
}

template <class T>
bool same(const std::vector<host_matrix<T>>& a, const std::vector<host_matrix<T>>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), test::same<T>);
}

const host_matrix<token_t> text(7, 1, {3, 1, 4, 1, 5, 9, 2}), targets(7, 1, {1, 4, 1, 5, 9, 2, 6});
const host_matrix<double> coefficients(7, 1, {1, -2, 0.5, 1, 0, 1, 3});

/// log p of the targets.
host_matrix<double> log_prob(host_backend& b, const transformer<host_backend, double>& model) {
  transformer_memory<host_backend, double> memory(b, model.config(), 1, 7, transformer_use::score);
  host_matrix<double> p(7, 1);
  model.log_prob(b, {b.view(text), dro::models::sequence_layout::plain(7)}, b.view(targets), b.view(p), memory);
  return p;
}

void accumulate(host_backend& b, transformer<host_backend, double>& model) {
  transformer_memory<host_backend, double> memory(b, model.config(), 1, 7, transformer_use::train);
  host_matrix<double> p(7, 1);
  model.accumulate_gradient(b, {b.view(text), dro::models::sequence_layout::plain(7)}, b.view(targets),
                            b.view(coefficients), b.view(p), memory);
}

transformer<host_backend, double> small(host_backend& b) {
  const auto config = test::small_llama();
  return test::transformer_of<double>(b, config, test::small_weights(config));
}

/// Adapters of every layer that say something.
void adapt(host_backend& b, transformer<host_backend, double>& model, bool freeze) {
  const lora_options options{
      3, 6, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, freeze};
  model.adapt(b, options, 4);
  for (std::size_t k = 1; k < model.adapters().parameters().size(); k += 2) {
    const auto up = model.adapters().parameters()[k].value;
    b.write(test::random_matrix<double>(up.rows, up.cols, -0.5, 0.5, k).data(), up);
  }
}

}  // namespace

TEST_CASE("weights to begin with are normal, smaller where they write to the residual stream") {
  host_backend b(1);
  dro::models::llama_config config = test::small_llama(500);
  config.hidden_size = 40;
  config.intermediate_size = 500;
  transformer<host_backend, double> model(b, config);
  model.initialise(b, 7);
  for (std::size_t k = 0; k < model.tensors().size(); ++k) {
    const auto& tensor = model.tensors()[k];
    CAPTURE(tensor.name);
    const auto values = dro::read(b, model.value(k));
    const auto n = static_cast<double>(tensor.size());
    if (tensor.shape.size() == 1) {
      for (const double v : test::elements(values)) CHECK(v == 1);
      continue;
    }
    const bool is_residual =
        tensor.name.find("o_proj") != std::string::npos || tensor.name.find("down") != std::string::npos;
    const double deviation = is_residual ? 0.01 : 0.02;  // √(2 · 2 layers) = 2
    double sum = 0, squares = 0, fourth = 0;
    for (const double v : test::elements(values)) {
      const double z = v / deviation;
      sum += z;
      squares += z * z;
      fourth += z * z * z * z;
      CHECK(std::abs(z) < 4.9);
    }
    // Means of n: deviations 1/√n, √1.85/√n and (eighth moment below 90) 9.5/√n; five of them.
    CHECK(std::abs(sum / n) < 5 / std::sqrt(n));
    CHECK(std::abs(squares / n - 1) < 5 * 1.4 / std::sqrt(n));
    CHECK(std::abs(fourth / n - 2.85) < 5 * 9.5 / std::sqrt(n));  // 3 − 1.2 / 8
  }
}

TEST_CASE("weights to begin with are the same on every backend, and others for every seed") {
  host_backend one(1);
  dro::deferred_backend two(2);
  dro::concurrent_backend three(3);
  const auto config = test::small_llama();
  const auto made = [&](auto& b, std::uint64_t seed, auto zero) {
    transformer<std::remove_reference_t<decltype(b)>, decltype(zero)> model(b, config);
    model.initialise(b, seed);
    return values_of(b, model);
  };
  const auto values = made(one, 5, 0.0F);
  CHECK(same(values, made(two, 5, 0.0F)));
  CHECK(same(values, made(three, 5, 0.0F)));
  CHECK(!same(values, made(one, 6, 0.0F)));
  CHECK(values[2](0, 0) != values[3](0, 0));  // k_proj and v_proj, of one shape
}

TEST_CASE("a folder that Hugging Face wrote is loaded, in shards") {
  host_backend b(1);
  const auto model = dro::models::load_transformer<double>(
      b, std::filesystem::path(DRO_SOURCE_DIR) / "tests/golden/safetensors/tiny_llama");
  CHECK(model.config().head_dim == 6);
  // Element i of tensor k is (1000 k + i) / 1024, tensors counted by sorted name.
  std::vector<std::string> names;
  for (const auto& t : model.tensors()) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  for (std::size_t n = 0; n < names.size(); ++n) {
    const auto values = dro::read(b, model.value(n));
    const auto k = std::find(names.begin(), names.end(), model.tensors()[n].name) - names.begin();
    for (index_t i = 0; i < values.rows() * values.cols(); ++i) {
      CHECK(values.data()[i] == static_cast<double>(1000 * k + i) / 1024);
    }
  }
}

TEST_CASE("what is saved is loaded again, and other tensors are passed over") {
  host_backend b(1);
  dro::deferred_backend other;
  const temporary_folder folder;
  const auto model = small(b);
  dro::models::save_transformer(b, model, folder.path() / "one", {.type = dro::data::element_type::f64});
  dro::models::save_transformer(b, model, folder.path() / "shards", {.shard_bytes = 1000});
  for (const char* name : {"one", "shards"}) {
    const auto again = dro::models::load_transformer<double>(other, folder.path() / name);
    CHECK(again.config() == model.config());
    CHECK(same(values_of(other, again), values_of(b, model)));
  }
}

TEST_CASE("weights that are missing or of another shape or type change nothing") {
  host_backend b(1);
  const temporary_folder folder;
  const std::string path = (folder.path() / "model.safetensors").string();
  auto model = small(b);
  const auto before = values_of(b, model);
  auto tensors = model.tensors();
  std::vector<float> numbers(1000, 3);
  const auto write = [&](dro::data::tensor_shape last) {
    std::vector<dro::data::named_tensor<float>> named;
    for (const auto& t : tensors)
      named.push_back({t.name, t.shape, {numbers.data(), static_cast<std::size_t>(t.size())}});
    if (last.empty()) {
      named.pop_back();
    } else {
      named.back().shape = std::move(last);
    }
    dro::data::write_safetensors(path, named);
  };
  write({});
  CHECK_THROWS_WITH_AS(dro::models::read_weights(b, dro::data::safetensors_file(path), model),
                       (path + ": has no tensor \"lm_head.weight\"").c_str(), dro::data_error);
  write({8, 11});
  CHECK_THROWS_WITH_AS(dro::models::read_weights(b, dro::data::safetensors_file(path), model),
                       (path + ": tensor \"lm_head.weight\": has the shape [8, 11], expected [11, 8]").c_str(),
                       dro::data_error);
  CHECK(same(values_of(b, model), before));
}

TEST_CASE("a configuration that asks for more memory than there is, and has no file for it") {
  host_backend b(1);
  const temporary_folder folder;
  const auto model = small(b);
  dro::models::save_transformer(b, model, folder.path());
  auto config = nlohmann::json::parse(read_bytes(folder.path() / "config.json"));
  const std::string before = "[" + config["vocab_size"].dump() + ", " + config["hidden_size"].dump() + "]";
  config["vocab_size"] = 2147483647;
  static_cast<void>(folder.write("config.json", config.dump()));
  CHECK_THROWS_WITH_AS(
      static_cast<void>(dro::models::load_transformer<double>(b, folder.path())),
      ((folder.path() / "model.safetensors").string() + ": tensor \"model.embed_tokens.weight\": has the shape " +
       before + ", expected [2147483647, " + config["hidden_size"].dump() + "]")
          .c_str(),
      dro::data_error);
}

TEST_CASE("new adapters change no bit, and only they learn where the base is frozen") {
  host_backend b(1);
  auto model = small(b);
  const auto before = log_prob(b, model);
  const auto base = values_of(b, model);
  model.adapt(b, {.rank = 2, .layers = {"q_proj", "down_proj"}}, 3);
  CHECK(test::same(log_prob(b, model), before));
  std::size_t shown = 0;
  model.for_each_parameter([&](auto, auto) { ++shown; });
  CHECK(shown == 8);  // A and B of two layers in each of two blocks
  CHECK(model.adapters().tensors()[0].name == "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  CHECK(model.adapters().tensors()[7].name == "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
  CHECK(model.adapters().tensors()[7].shape == std::vector<std::uint64_t>{8, 2});
  dro::sgd<host_backend, double> ascent(b, {.learning_rate = 0.1});
  for (int step = 0; step < 3; ++step) {
    accumulate(b, model);
    ascent.step(b, model);
  }
  CHECK(same(values_of(b, model), base));
  const auto objective = [](const host_matrix<double>& p) {
    double sum = 0;
    for (index_t n = 0; n < 7; ++n) sum += coefficients(n, 0) * p(n, 0);
    return sum;
  };
  CHECK(objective(log_prob(b, model)) > objective(before));
}

TEST_CASE("the gradient of adapters, with the base frozen and not") {
  host_backend b(1);
  for (const bool freeze : {true, false}) {
    auto model = small(b);
    adapt(b, model, freeze);
    accumulate(b, model);
    test::check_differences(model, 8.5, [&] {
      const auto p = log_prob(b, model);
      real sum = 0;
      for (index_t n = 0; n < 7; ++n) sum += static_cast<real>(coefficients(n, 0)) * static_cast<real>(p(n, 0));
      return sum;
    });
    std::size_t shown = 0;
    model.for_each_parameter([&](auto, auto) { ++shown; });
    CHECK(shown == (freeze ? 28U : 28U + 21U));
  }
}

TEST_CASE("merged adapters compute the same, and the model learns as a whole again") {
  host_backend b(1);
  auto model = small(b);
  adapt(b, model, true);
  const auto separate = log_prob(b, model);
  const auto base = dro::read(b, model.value(1));
  const auto down = dro::read(b, model.adapters().parameters()[0].value);
  const auto up = dro::read(b, model.adapters().parameters()[1].value);
  auto merged = std::move(model);
  merged.merge_adapters(b);
  const auto together = log_prob(b, merged);
  // The log-probability is a logit less a logarithm of them; weights are up to 3 times as large with adapters.
  for (index_t n = 0; n < 7; ++n) {
    DRO_CHECK_NEAR(together(n, 0), separate(n, 0), 3 * 2 * test::logit_tolerance<double>);
  }
  CHECK(merged.adapters().tensors().empty());
  // q_proj of the first block: W + (6 / 3) B A, of three products below 1/4 · 2
  const auto q = dro::read(b, merged.value(1));
  for (index_t i = 0; i < q.rows(); ++i) {
    for (index_t j = 0; j < q.cols(); ++j) {
      real sum = base(i, j);
      for (index_t k = 0; k < 3; ++k) sum += 2 * static_cast<real>(up(i, k)) * static_cast<real>(down(k, j));
      DRO_CHECK_NEAR(q(i, j), sum, 64 * test::unit_roundoff<double>);
    }
  }
  std::size_t shown = 0;
  merged.for_each_parameter([&](auto, dro::matrix_view<double> gradient) {
    ++shown;
    CHECK(gradient(0, 0) == 0);
  });
  CHECK(shown == merged.tensors().size());
}

TEST_CASE("adapters are saved and loaded") {
  host_backend b(1);
  const temporary_folder folder;
  auto model = small(b);
  CHECK_THROWS_AS(dro::models::save_adapters(b, model, folder.path()), dro::option_error);
  adapt(b, model, true);
  dro::models::save_adapters(b, model, folder.path(), {.type = dro::data::element_type::f64});
  auto again = small(b);
  dro::models::load_adapters(b, folder.path(), again, false);
  CHECK(again.adapters().options().rank == 3);
  CHECK(again.adapters().options().alpha == 6);
  CHECK(test::same(log_prob(b, again), log_prob(b, model)));
  CHECK(again.gradient(0).data != nullptr);

  const std::string path = (folder.path() / "adapter_config.json").string();
  const auto refusal = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json config = nlohmann::json::parse(read_bytes(path));
    config[key] = value;
    const temporary_folder changed;
    std::filesystem::copy(folder.path() / "adapter_model.safetensors", changed.path() / "adapter_model.safetensors");
    const std::string file = changed.write("adapter_config.json", config.dump());
    try {
      auto untouched = small(b);
      dro::models::load_adapters(b, changed.path(), untouched);
    } catch (const dro::data_error& e) {
      return std::string(e.what()).substr(changed.path().string().size() + 1);
    }
    return std::string("nothing thrown");
  };
  CHECK(refusal("peft_type", "LOHA") == "adapter_config.json: field \"peft_type\": expected \"LORA\", found \"LOHA\"");
  CHECK(refusal("use_dora", true) == "adapter_config.json: field \"use_dora\": is true: not supported");
  CHECK(refusal("rank_pattern", {{"q_proj", 4}}) == "adapter_config.json: field \"rank_pattern\": not supported");
  CHECK(refusal("modules_to_save", {"lm_head"}) == "adapter_config.json: field \"modules_to_save\": not supported");
  nlohmann::json fewer = nlohmann::json::parse(read_bytes(path))["target_modules"];
  fewer.erase(0);
  CHECK(
      refusal("target_modules", fewer) ==
      "adapter_model.safetensors: has a tensor \"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\" that "
      "the configuration does not describe");
  CHECK(refusal("lora_bias", true) == "adapter_config.json: field \"lora_bias\": is true: not supported");
  CHECK(refusal("layers_to_transform", 0) == "adapter_config.json: field \"layers_to_transform\": not supported");
  CHECK(refusal("layer_replication", {{0, 2}}) == "adapter_config.json: field \"layer_replication\": not supported");
  CHECK(refusal("exclude_modules", "q_proj") == "adapter_config.json: field \"exclude_modules\": not supported");
  CHECK(refusal("trainable_token_indices", nullptr) == "nothing thrown");
  CHECK(refusal("r", 2) ==
        "adapter_model.safetensors: tensor \"base_model.model.model.layers.0.self_attn.q_proj.lora_A.wei...: has the "
        "shape [3, 8], expected [2, 8]");
  CHECK(refusal("lora_dropout", 0.5) == "nothing thrown");

  // PEFT keeps the base's own output layer in the file where that is adapted.
  const auto& adapters = model.adapters();
  std::vector<dro::data::named_tensor<double>> named;
  for (std::size_t k = 0; k < adapters.tensors().size(); ++k) {
    const auto value = adapters.parameters()[k].value;
    named.push_back({adapters.tensors()[k].name,
                     adapters.tensors()[k].shape,
                     {value.data, static_cast<std::size_t>(value.rows * value.cols)}});
  }
  const std::vector<double> output(8, 0.5);
  named.push_back({"base_model.model.lm_head.base_layer.weight", {1, 8}, output});
  dro::data::write_safetensors(folder.path() / "adapter_model.safetensors", named,
                               {.type = dro::data::element_type::f64});
  auto third = small(b);
  dro::models::load_adapters(b, folder.path(), third, false);
  CHECK(test::same(log_prob(b, third), log_prob(b, model)));
}

TEST_CASE("adapters that do not fit a model are refused") {
  host_backend b(1);
  auto model = small(b);
  CHECK_THROWS_WITH_AS(model.adapt(b, {.rank = 9}, 1), "lora_options: rank is 9, expected 1 to 8, the model's width",
                       dro::option_error);
  CHECK_THROWS_AS(model.adapt(b, {.rank = 0}, 1), dro::option_error);
  CHECK_THROWS_AS(model.adapt(b, {.alpha = test::nan<double>}, 1), dro::option_error);
  CHECK_THROWS_AS(model.adapt(b, {.layers = {}}, 1), dro::option_error);
  CHECK_THROWS_WITH_AS(
      model.adapt(b, {.layers = {"embed_tokens"}}, 1),
      "lora_options: no linear layer \"embed_tokens\", expected q_proj, k_proj, v_proj, o_proj, gate_proj, "
      "up_proj, down_proj or lm_head",
      dro::option_error);
  CHECK_THROWS_WITH_AS(model.adapt(b, {.layers = {"q_proj", "v_proj", "q_proj"}}, 1),
                       "lora_options: layer \"q_proj\" is named twice", dro::option_error);
  auto wider = test::small_llama();
  wider.intermediate_size += 4;
  auto deeper = test::small_llama();
  ++deeper.num_hidden_layers;
  for (const auto& config : {wider, deeper}) {
    const transformer<host_backend, double> other(b, config);
    CHECK_THROWS_AS(model.adapt(b, {b, config, other.tensors(), {.layers = {"gate_proj", "q_proj"}}}),
                    dro::shape_error);
  }
  CHECK(model.gradient(0).data != nullptr);
}
