// SPDX-License-Identifier: Apache-2.0
// libFuzzer on the reader of tokenizer.json:
//
//   clang++-19 -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude tests/fuzz/fuzz_tokenizer_json.cpp
//     -o fuzz_tokenizer_json -lz -lutf8proc
//   ./fuzz_tokenizer_json -max_len=16384 -timeout=10 -rss_limit_mb=1024 work tests/fuzz/corpus/tokenizer_json
//
// The input is read as a file, and where it is JSON also as a change (RFC 7386) to a file that is well-formed, so that
// a few bytes reach far. A file may be refused with an exception of the library and in no other way; one that is taken
// must give tokens that stand for the text, and must be written so that it is read as the same tokenizer.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <dro/data/tokenizer_json.hpp>
#include <dro/error.hpp>
#include <dro/text/byte_alphabet.hpp>

namespace {

/// A file in memory, and the path under which it can be opened.
class memory_file {
 public:
  explicit memory_file(std::string_view content) : descriptor_(::memfd_create("tokenizer.json", MFD_CLOEXEC)) {
    if (descriptor_ < 0 || ::write(descriptor_, content.data(), content.size()) < 0) std::abort();
  }
  ~memory_file() { ::close(descriptor_); }
  memory_file(const memory_file&) = delete;
  memory_file& operator=(const memory_file&) = delete;
  [[nodiscard]] std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

/// Bytes, one merge, and a special and another added token.
const nlohmann::json& well_formed() {
  static const nlohmann::json file = [] {
    nlohmann::json vocabulary = nlohmann::json::object();
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      vocabulary[dro::text::to_byte_alphabet({&c, 1})] = byte;
    }
    vocabulary["ab"] = 256;
    auto base = nlohmann::json::parse(R"({
      "added_tokens": [
        {"id": 257, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
         "special": true},
        {"id": 258, "content": "<t>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": true,
         "special": false}],
      "normalizer": {"type": "NFC"},
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true},
      "post_processor": {"type": "ByteLevel"},
      "decoder": {"type": "ByteLevel"},
      "model": {"type": "BPE", "merges": [["a", "b"]]}})");
    base["model"]["vocab"] = std::move(vocabulary);
    return base;
  }();
  return file;
}

void check(const dro::text::byte_pair_tokenizer& tokenizer) {
  const auto& model = tokenizer.model();
  const std::string text = "abab's  \xFF<s> <t> \xC3\xA9 12\n\n<s>";
  const bool exact = !model.composed && !model.prefix_space && model.added.empty();
  require(!exact || tokenizer.decode(tokenizer.encode(text)) == text, "tokens stand for the text");
  for (const auto id : tokenizer.encode(text)) require(!tokenizer.is_special(id), "text gives no special token");
  (void)tokenizer.decode(tokenizer.encode(text, {.recognise_special = true, .framed = true}));
  static const auto written = std::filesystem::temp_directory_path() / ("fuzz-" + std::to_string(::getpid()));
  dro::data::write_tokenizer_json(tokenizer, written);
  require(dro::data::read_tokenizer_json(written) == tokenizer, "what is written is read as the same");
  std::filesystem::remove(written);
}

void read(std::string_view content) {
  const memory_file file(content);
  try {
    check(dro::data::read_tokenizer_json(file.path()));
  } catch (const dro::file_error& refusal) {
    require(refusal.path() == file.path().string(), "a refusal names the file");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view content(reinterpret_cast<const char*>(data), size);
  read(content);
  const auto change = nlohmann::json::parse(content, nullptr, false);
  if (change.is_object()) {
    nlohmann::json changed = well_formed();
    changed.merge_patch(change);
    read(changed.dump());
  }
  return 0;
}
