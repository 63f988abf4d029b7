// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_INPUT_FILE_HPP
#define DRO_DATA_INPUT_FILE_HPP

/// \file
/// The bytes of a file, unpacked where it is gzip.

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include <zlib.h>

#include <dro/error.hpp>

namespace dro::data {

/// A file read front to back, once, in pieces; a pipe will do. Gzip is recognised by its first bytes, whatever the
/// name.
class input_file {
 public:
  /// \throws file_error where the file is missing, a folder, or may not be read.
  explicit input_file(const std::filesystem::path& path) : path_(path.string()) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) {
      throw file_error(path_, "is a folder, expected a file");
    }
    errno = 0;
    handle_.reset(gzopen(path_.c_str(), "rb"));
    if (handle_ == nullptr) {
      throw file_error(path_, std::string("cannot be opened: ") + std::strerror(errno));
    }
    gzbuffer(handle_.get(), buffer_size);
  }

  /// The file as the caller named it.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Fills `buffer` with up to `size` bytes (less than 2³¹) and returns how many there were; 0 at the end.
  ///
  /// \throws file_error where reading fails, and where gzip data are damaged or end early.
  [[nodiscard]] std::size_t read(char* buffer, std::size_t size) {
    errno = 0;
    const int count = gzread(handle_.get(), buffer, static_cast<unsigned>(size));
    if (count > 0) {
      return static_cast<std::size_t>(count);
    }
    int code = Z_OK;
    const char* const message = gzerror(handle_.get(), &code);
    if (code == Z_ERRNO) {
      throw file_error(path_, std::string("cannot be read: ") + std::strerror(errno));
    }
    if (code == Z_BUF_ERROR) {
      throw file_error(path_, "gzip data end early: the file is truncated");
    }
    if (code != Z_OK && code != Z_STREAM_END) {
      throw file_error(path_, std::string("gzip data are damaged: ") + message);
    }
    return 0;
  }

 private:
  static constexpr unsigned buffer_size = 1U << 17U;

  struct closer {
    void operator()(gzFile file) const noexcept { gzclose_r(file); }
  };

  std::string path_;
  std::unique_ptr<gzFile_s, closer> handle_;
};

}  // namespace dro::data

#endif
