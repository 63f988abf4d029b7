// SPDX-License-Identifier: Apache-2.0
// libFuzzer: the JSON beside a model's weights, its configuration and the index of its shards. Built and run as
// fuzz_safetensors, with the seeds of corpus/llama_config and corpus/safetensors_index.

#include <cstddef>
#include <cstdint>
#include <vector>

#include <dro/data/write_safetensors.hpp>

#include "fuzz/fuzz_file.hpp"
#include "fuzz/readers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz_file file;
  static const bool has_shards = [] {
    const std::vector<float> values = {1, 2, 3};
    for (const char* const shard : {"a", "b"}) {
      dro::data::write_safetensors<float>(file.folder() / (shard + std::string(".safetensors")),
                                          {{shard, {3}, values}, {"both", {1, 2}, std::span(values).first(2)}});
    }
    return true;
  }();
  fuzz::require(has_shards);
  const auto path = file.write("model.json", data, size);
  (void)fuzz::llama_config(path);
  (void)fuzz::safetensors_index(path);
  return 0;
}
