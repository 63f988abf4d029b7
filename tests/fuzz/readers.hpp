// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_FUZZ_READERS_HPP
#define DRO_TESTS_FUZZ_READERS_HPP

/// \file
/// What a fuzzer does with a file: read it, and where that works, hold the reader to what it promises. A file may be
/// refused by one of the library's exceptions; any other end is a finding. `unit/test_fuzz_corpus.cpp` runs the same
/// functions over the seeds.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <dro/data/read_questions.hpp>
#include <dro/data/safetensors.hpp>
#include <dro/data/write_questions.hpp>
#include <dro/error.hpp>
#include <dro/models/llama_config_file.hpp>

namespace fuzz {

/// Ends the program where a reader broke a promise; a fuzzer keeps the input then.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// Runs `read`; true if it took the file, false if it refused it as it should.
template <class Read>
bool is_taken(Read read) {
  try {
    read();
  } catch (const dro::file_error& refusal) {
    require(!refusal.path().empty());
    return false;
  }
  return true;
}

/// Reads every element of every tensor that holds floating-point numbers.
inline void read_tensors(const dro::data::tensor_collection& collection) {
  std::vector<float> values;
  for (const auto& [name, tensor] : collection.tensors()) {
    require(name == tensor.name() && &collection.tensor(name) == &tensor);
    std::size_t count = 1;
    for (const auto size : tensor.shape()) count *= static_cast<std::size_t>(size);
    require(count == tensor.size() && count * size_of(tensor.type()) == tensor.bytes().size());
    values.resize(count);
    try {
      tensor.read(tensor.shape(), std::span<float>(values));
    } catch (const dro::data_error&) {
      require(tensor.type() > dro::data::element_type::bf16);
    }
  }
}

/// A safetensors file: its tensors cover it, each byte once.
inline bool safetensors(const std::filesystem::path& path) {
  return is_taken([&] {
    const dro::data::safetensors_file file(path);
    std::size_t bytes = 0;
    for (const auto& [name, tensor] : file.tensors()) bytes += tensor.bytes().size();
    require(bytes < std::filesystem::file_size(path));
    read_tensors(file);
  });
}

/// An index in a folder where `a.safetensors` and `b.safetensors` are.
inline bool safetensors_index(const std::filesystem::path& path) {
  return is_taken([&] { read_tensors(dro::data::safetensors_set(path)); });
}

/// A model's configuration: what was read can be written, and is the same when it is read again.
inline bool llama_config(const std::filesystem::path& path) {
  return is_taken([&] {
    const auto config = dro::models::read_llama_config(path);
    require(dro::models::parameter_count(config) > 0);
    for (const double frequency : dro::models::rotary_frequencies(config)) require(!std::isnan(frequency));
    const auto copy = std::filesystem::path(path.string() + ".copy");
    dro::models::write_llama_config(copy, config);
    require(dro::models::read_llama_config(copy) == config);
  });
}

/// Questions in any of the understood formats: what was read can be written, and is the same when it is read again.
inline bool questions(const std::filesystem::path& path) {
  return is_taken([&] {
    const auto questions = dro::data::read_questions(path);
    const auto copy = std::filesystem::path(path.string() + ".copy");
    dro::data::write_questions(copy, questions);
    require(dro::data::read_questions(copy) == questions);
  });
}

}  // namespace fuzz

#endif
