// SPDX-License-Identifier: Apache-2.0
// The seeds of the fuzzers, among them what fuzzing has found: each is read, or refused as a reader refuses. The name
// says which, so that a reader cannot come to refuse everything unnoticed.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <dro/data/write_safetensors.hpp>

#include "data_files.hpp"
#include "fuzz/readers.hpp"

namespace {

/// Runs `read` over copies of a folder's files, and returns how many there are.
std::size_t run_corpus(const std::string& reader, const temporary_folder& folder,
                       const std::function<bool(const std::filesystem::path&)>& read) {
  std::vector<std::filesystem::path> seeds;
  for (const auto& seed :
       std::filesystem::directory_iterator(std::filesystem::path(DRO_SOURCE_DIR) / "tests/fuzz/corpus" / reader)) {
    seeds.push_back(seed.path());
  }
  std::sort(seeds.begin(), seeds.end());
  for (const auto& seed : seeds) {
    const std::string name = seed.filename().string();
    CAPTURE(name);
    const auto copy = folder.path() / ("model" + seed.extension().string());
    std::filesystem::copy_file(seed, copy, std::filesystem::copy_options::overwrite_existing);
    CHECK(read(copy) == !name.starts_with("refused_"));
  }
  return seeds.size();
}

}  // namespace

TEST_CASE("seeds of the safetensors reader") {
  const temporary_folder folder;
  CHECK(run_corpus("safetensors", folder, fuzz::safetensors) >= 16);
}

TEST_CASE("seeds of the index reader") {
  const temporary_folder folder;
  const std::vector<float> values = {1, 2, 3};
  for (const std::string shard : {"a", "b"}) {
    dro::data::write_safetensors<float>(folder.path() / (shard + ".safetensors"),
                                        {{shard, {3}, values}, {"both", {3}, values}});
  }
  CHECK(run_corpus("safetensors_index", folder, fuzz::safetensors_index) >= 6);
}

TEST_CASE("seeds of the configuration reader") {
  const temporary_folder folder;
  CHECK(run_corpus("llama_config", folder, fuzz::llama_config) >= 10);
}

TEST_CASE("seeds of the question readers") {
  const temporary_folder folder;
  CHECK(run_corpus("questions", folder, fuzz::questions) >= 18);
}
