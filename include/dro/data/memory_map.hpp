// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_MEMORY_MAP_HPP
#define DRO_DATA_MEMORY_MAP_HPP

/// \file
/// The bytes of a file, without reading it into memory first.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <dro/error.hpp>

namespace dro::data {

/// A whole regular file in the address space, read-only; pages come from the disk when they are first touched, and
/// processes that map the same file share them. Its size is taken once, when it is opened.
///
/// Nobody may shorten the file while it is mapped: touching a page behind its new end raises SIGBUS, which no exception
/// reports. A file that is replaced by renaming another one over it, as all of this library's files are, stays whole
/// here. Views of the bytes are valid as long as the map, also after it has been moved.
class memory_map {
 public:
  /// \throws file_error where the file is missing, may not be read, or is a folder, a pipe or a device.
  explicit memory_map(const std::filesystem::path& path) : path_(path.string()) {
    // without O_NONBLOCK a pipe would wait here for its writer
    const int file = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) throw file_error(path_, std::string("cannot be opened: ") + std::strerror(errno));
    const std::string failure = map(file);
    ::close(file);
    if (!failure.empty()) throw file_error(path_, failure);
  }
  memory_map(memory_map&& other) noexcept
      : path_(std::move(other.path_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  memory_map& operator=(memory_map&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  memory_map(const memory_map&) = delete;
  memory_map& operator=(const memory_map&) = delete;
  ~memory_map() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }

  /// The file as the caller named it.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// All its bytes; they begin at an address that is a multiple of the page size.
  [[nodiscard]] std::string_view bytes() const noexcept { return {static_cast<const char*>(data_), size_}; }

 private:
  /// What went wrong; empty where nothing did.
  [[nodiscard]] std::string map(int file) {
    struct stat about {};
    if (::fstat(file, &about) != 0) return std::string("cannot be read: ") + std::strerror(errno);
    if (S_ISDIR(about.st_mode)) return "is a folder, expected a file";
    if (!S_ISREG(about.st_mode)) return "is a device or a pipe, expected a file";
    if (about.st_size == 0) return {};  // nothing to map
    if (static_cast<std::uintmax_t>(about.st_size) > std::numeric_limits<std::size_t>::max() / 2) {
      return "is larger than the address space";
    }
    const auto size = static_cast<std::size_t>(about.st_size);
    void* const data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) return std::string("cannot be mapped: ") + std::strerror(errno);
    data_ = data;
    size_ = size;
    return {};
  }

  std::string path_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace dro::data

#endif
