// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_FUZZ_FUZZ_FILE_HPP
#define DRO_TESTS_FUZZ_FUZZ_FILE_HPP

/// \file
/// A fuzzer's input as a file, for readers that take a path.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

/// A folder of this process that goes away at its end, with one file that each input replaces.
class fuzz_file {
 public:
  fuzz_file() {
    std::string name = (std::filesystem::temp_directory_path() / "dro-fuzz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
  }
  ~fuzz_file() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  fuzz_file(const fuzz_file&) = delete;
  fuzz_file& operator=(const fuzz_file&) = delete;

  [[nodiscard]] const std::filesystem::path& folder() const noexcept { return folder_; }

  /// Writes a file of that name and returns its path.
  [[nodiscard]] std::filesystem::path write(std::string_view name, const std::uint8_t* data, std::size_t size) const {
    const auto path = folder_ / name;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    return path;
  }

 private:
  std::filesystem::path folder_;
};

#endif
