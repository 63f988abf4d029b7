// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_CHECKPOINT_FILE_HPP
#define DRO_DATA_CHECKPOINT_FILE_HPP

/// \file
/// A file of named arrays that is either wholly there or not at all.
///
/// Layout, little-endian: the 8 bytes "DROCKPT1"; for each entry the length of its name (u32), the name, the size of an
/// element (u8), the number of elements (u64) and the elements; at the end the CRC-32 (zlib) of all before it (u32).

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <zlib.h>

#include <dro/data/output_file.hpp>
#include <dro/error.hpp>

namespace dro::data {

static_assert(std::endian::native == std::endian::little,
              "dro: checkpoint files are written for little-endian machines");

/// Collects arrays and writes them as one checkpoint.
class checkpoint_writer {
 public:
  /// Adds an array under a name that has not been used.
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void add(std::string_view name, std::span<const T> values) {
    append(static_cast<std::uint32_t>(name.size()));
    bytes_.insert(bytes_.end(), name.begin(), name.end());
    append(static_cast<std::uint8_t>(sizeof(T)));
    append(static_cast<std::uint64_t>(values.size()));
    const auto* raw = reinterpret_cast<const char*>(values.data());
    bytes_.insert(bytes_.end(), raw, raw + values.size_bytes());
  }
  void add(std::string_view name, std::string_view text) { add(name, std::span<const char>(text.data(), text.size())); }

  /// A list of strings, kept as all their characters and, under the name with ".sizes", their lengths.
  void add(std::string_view name, std::span<const std::string> list) {
    std::string characters;
    std::vector<std::uint64_t> sizes;
    for (const std::string& item : list) {
      characters += item;
      sizes.push_back(item.size());
    }
    add(name, characters);
    add(std::string(name) + ".sizes", std::span<const std::uint64_t>(sizes));
  }

  /// Throws file_error; a file that was there before stays as it is then.
  void write(const std::filesystem::path& path) const {
    std::vector<char> file(magic.begin(), magic.end());
    file.insert(file.end(), bytes_.begin(), bytes_.end());
    const auto check =
        static_cast<std::uint32_t>(::crc32_z(0, reinterpret_cast<const unsigned char*>(file.data()), file.size()));
    const auto* raw = reinterpret_cast<const char*>(&check);
    file.insert(file.end(), raw, raw + sizeof check);
    write_file_atomically(path, file);
  }

  static constexpr std::string_view magic = "DROCKPT1";

 private:
  template <class T>
  void append(T value) {
    const auto* raw = reinterpret_cast<const char*>(&value);
    bytes_.insert(bytes_.end(), raw, raw + sizeof value);
  }

  std::vector<char> bytes_;
};

/// Reads a checkpoint into memory and hands out its arrays.
class checkpoint_reader {
 public:
  /// Throws file_error if the file cannot be read, checkpoint_error if it is not a whole checkpoint.
  explicit checkpoint_reader(const std::filesystem::path& path) : path_(path.string()) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) throw file_error(path_, std::string("cannot be read: ") + std::strerror(errno));
    char buffer[1 << 16];
    while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, file.get())) {
      bytes_.insert(bytes_.end(), buffer, buffer + n);
    }
    if (std::ferror(file.get()) != 0) throw file_error(path_, std::string("cannot be read: ") + std::strerror(errno));
    index();
  }

  /// The file as the caller named it.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  [[nodiscard]] bool has(std::string_view name) const { return entries_.find(name) != entries_.end(); }

  /// Throws checkpoint_error if there is no array of that name and element size.
  template <class T>
  requires std::is_trivially_copyable_v<T>
  [[nodiscard]] std::vector<T> get(std::string_view name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) throw checkpoint_error(path_, "has no \"" + std::string(name) + "\"");
    const entry& e = found->second;
    if (e.element_size != sizeof(T)) {
      throw checkpoint_error(path_, "\"" + std::string(name) + "\" has elements of " + std::to_string(e.element_size) +
                                        " bytes, expected " + std::to_string(sizeof(T)));
    }
    std::vector<T> values(e.count);
    if (e.count > 0) std::memcpy(values.data(), bytes_.data() + e.begin, e.count * sizeof(T));
    return values;
  }
  /// As get, into memory of the right size. Throws checkpoint_error if the number of elements differs.
  template <class T>
  void get_into(std::string_view name, std::span<T> target) const {
    const std::vector<T> values = get<T>(name);
    if (values.size() != target.size()) {
      throw checkpoint_error(path_, "\"" + std::string(name) + "\" has " + std::to_string(values.size()) +
                                        " elements, expected " + std::to_string(target.size()));
    }
    std::copy(values.begin(), values.end(), target.begin());
  }
  [[nodiscard]] std::string text(std::string_view name) const {
    const std::vector<char> characters = get<char>(name);
    return {characters.begin(), characters.end()};
  }
  /// A list of strings. Throws checkpoint_error if their lengths do not add up to the characters there are.
  [[nodiscard]] std::vector<std::string> strings(std::string_view name) const {
    const std::string characters = text(name);
    std::vector<std::string> list;
    std::size_t at = 0;
    for (const std::uint64_t size : get<std::uint64_t>(std::string(name) + ".sizes")) {
      if (characters.size() - at < size) throw checkpoint_error(path_, "\"" + std::string(name) + "\" is too short");
      list.push_back(characters.substr(at, static_cast<std::size_t>(size)));
      at += static_cast<std::size_t>(size);
    }
    if (at != characters.size()) throw checkpoint_error(path_, "\"" + std::string(name) + "\" is too long");
    return list;
  }

 private:
  struct entry {
    std::size_t begin;
    std::size_t count;
    std::size_t element_size;
  };

  void index() {
    constexpr std::string_view magic = checkpoint_writer::magic;
    const std::string damaged = "is not a whole checkpoint (damaged, or not one of dro's)";
    if (bytes_.size() < magic.size() + 4 || std::string_view(bytes_.data(), magic.size()) != magic) {
      throw checkpoint_error(path_, damaged);
    }
    const std::size_t end = bytes_.size() - 4;
    std::uint32_t check = 0;
    std::memcpy(&check, bytes_.data() + end, sizeof check);
    if (check != ::crc32_z(0, reinterpret_cast<const unsigned char*>(bytes_.data()), end)) {
      throw checkpoint_error(path_, damaged);
    }
    std::size_t at = magic.size();
    const auto take = [&](auto& value) {
      if (end - at < sizeof value) throw checkpoint_error(path_, damaged);
      std::memcpy(&value, bytes_.data() + at, sizeof value);
      at += sizeof value;
    };
    while (at < end) {
      std::uint32_t length = 0;
      take(length);
      if (end - at < length) throw checkpoint_error(path_, damaged);
      std::string name(bytes_.data() + at, length);
      at += length;
      std::uint8_t size = 0;
      std::uint64_t count = 0;
      take(size);
      take(count);
      if (size == 0 || (end - at) / size < count) throw checkpoint_error(path_, damaged);
      entries_.insert_or_assign(std::move(name), entry{at, static_cast<std::size_t>(count), size});
      at += static_cast<std::size_t>(count) * size;
    }
  }

  std::string path_;
  std::vector<char> bytes_;
  std::map<std::string, entry, std::less<>> entries_;
};

}  // namespace dro::data

#endif
