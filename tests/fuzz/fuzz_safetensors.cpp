// SPDX-License-Identifier: Apache-2.0
// libFuzzer: safetensors files.
//
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude -Itests tests/fuzz/fuzz_safetensors.cpp
//     -lutf8proc -lz -o fuzz_safetensors
//   ./fuzz_safetensors -rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=10 -max_total_time=600 new_corpus
//     tests/fuzz/corpus/safetensors

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fuzz/fuzz_file.hpp"
#include "fuzz/readers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz_file file;
  (void)fuzz::safetensors(file.write("model.safetensors", data, size));
  // few changes leave a header's length right: once more with one that the file can have
  std::uint64_t length = 0;
  if (size <= sizeof length) return 0;
  std::memcpy(&length, data, sizeof length);
  length %= size - sizeof length + 1;
  std::vector<std::uint8_t> fitted(data, data + size);
  std::memcpy(fitted.data(), &length, sizeof length);
  (void)fuzz::safetensors(file.write("model.safetensors", fitted.data(), size));
  return 0;
}
