// SPDX-License-Identifier: Apache-2.0
// libFuzzer: the readers of question files, JSON Lines, arrays and gzip. Built and run as fuzz_safetensors, with the
// seeds of corpus/questions.

#include <cstddef>
#include <cstdint>

#include "fuzz/fuzz_file.hpp"
#include "fuzz/readers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz_file file;
  (void)fuzz::questions(file.write("questions.jsonl", data, size));
  return 0;
}
