// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_UNIT_DATA_FILES_HPP
#define DRO_TESTS_UNIT_DATA_FILES_HPP

/// \file
/// Files for the tests of the data readers.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <zlib.h>

/// A fresh folder that goes away with this object.
class temporary_folder {
 public:
  temporary_folder() {
    static std::atomic<int> count{0};
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    path_ =
        std::filesystem::temp_directory_path() / ("dro-test-" + std::to_string(now) + "-" + std::to_string(count++));
    if (!std::filesystem::create_directory(path_)) {
      throw std::runtime_error("cannot make a folder of its own: " + path_.string());
    }
  }
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// Writes a file and returns its path.
  [[nodiscard]] std::string write(const std::string& name, std::string_view content) const {
    const auto file = path_ / name;
    std::ofstream(file, std::ios::binary) << content;
    return file.string();
  }

 private:
  std::filesystem::path path_;
};

/// The content of a file.
[[nodiscard]] inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The text as a gzip file.
[[nodiscard]] inline std::string gzipped(const std::string& text) {
  const temporary_folder folder;
  const std::string name = (folder.path() / "packed").string();
  const gzFile file = gzopen(name.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  return read_bytes(name);
}

#endif
