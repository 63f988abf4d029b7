// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_OUTPUT_FILE_HPP
#define DRO_DATA_OUTPUT_FILE_HPP

/// \file
/// A file that is written piece by piece and appears as a whole.

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include <dro/error.hpp>

namespace dro::data {

/// Writes a file so that a reader, also after a crash, sees the old content or the new, never a part: the bytes go to a
/// temporary file beside it, which `commit` flushes to the disk and renames. Without a commit nothing remains of it. A
/// link is followed.
class output_file {
 public:
  /// \throws file_error where the file cannot be made, also for what is there and is no file.
  explicit output_file(const std::filesystem::path& where) {
    std::error_code no_link;
    const std::filesystem::path target = std::filesystem::canonical(where, no_link);
    path_ = no_link ? where : target;
    if (!no_link && !std::filesystem::is_regular_file(path_) && !std::filesystem::is_directory(path_)) {
      throw file_error(where.string(), "cannot be written: it is a device or a pipe, not a file");
    }
    // A name of its own, so that two programs that write the same file do not write into each other's.
    temporary_ = path_.string() + "." + std::to_string(::getpid()) + ".part";
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file_ < 0) fail(errno);
  }
  output_file(output_file&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_(std::exchange(other.temporary_, {})),
        file_(std::exchange(other.file_, -1)) {}
  output_file& operator=(output_file&&) = delete;
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;
  ~output_file() {
    if (file_ >= 0) ::close(file_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  /// Appends to the file. \throws file_error where the disk does not take it.
  void write(std::span<const char> bytes) {
    while (!bytes.empty()) {
      const ::ssize_t n = ::write(file_, bytes.data(), bytes.size());
      if (n >= 0) {
        bytes = bytes.subspan(static_cast<std::size_t>(n));
      } else if (errno != EINTR) {
        fail(errno);
      }
    }
  }

  /// Puts what was written on the disk and closes the file; it has still its temporary name. Several files that belong
  /// together are each finished before the first is committed, so that all that takes time or space lies behind.
  /// \throws file_error
  void finish() {
    if (file_ < 0) return;
    const int flushed = ::fsync(file_) == 0 ? 0 : errno;
    const int closed = ::close(std::exchange(file_, -1)) == 0 ? 0 : errno;
    if (flushed != 0 || closed != 0) fail(flushed != 0 ? flushed : closed);
  }

  /// Finishes the file and gives it its name. \throws file_error; the old file is there then.
  void commit() {
    finish();
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
    temporary_.clear();
  }

 private:
  [[noreturn]] void fail(int error) const {
    throw file_error(path_.string(), std::string("cannot be written: ") + std::strerror(error));
  }

  std::filesystem::path path_;
  std::string temporary_;  // empty where there is none
  int file_ = -1;
};

/// Writes `bytes` to `path` as a whole. \throws file_error as `output_file` does, and the old file stays.
inline void write_file_atomically(const std::filesystem::path& path, std::span<const char> bytes) {
  output_file file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace dro::data

#endif
