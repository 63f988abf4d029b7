// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_SAFETENSORS_HPP
#define DRO_DATA_SAFETENSORS_HPP

/// \file
/// Weights from safetensors files, one or several with an index, without reading them into memory first.
///
/// Layout of a file, little-endian: the length of the header (u64); the header, a JSON object, that gives for each
/// tensor its element type, shape and first and last byte, and for "__metadata__" strings; the tensors, each row-major,
/// that fill the rest of the file without a gap.

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/json_document.hpp>
#include <dro/data/json_field.hpp>
#include <dro/data/memory_map.hpp>
#include <dro/error.hpp>
#include <dro/math/float16.hpp>

namespace dro::data {

static_assert(std::endian::native == std::endian::little,
              "dro: safetensors files are read as a little-endian machine has them in memory");

/// What the elements of a tensor are.
enum class element_type : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
};

namespace detail {

struct element_type_entry {
  element_type type;
  std::string_view name;  ///< in the header
  std::size_t bytes;      ///< of an element
};

inline constexpr std::array element_types = {
    element_type_entry{element_type::f64, "F64", 8},         element_type_entry{element_type::f32, "F32", 4},
    element_type_entry{element_type::f16, "F16", 2},         element_type_entry{element_type::bf16, "BF16", 2},
    element_type_entry{element_type::f8_e4m3, "F8_E4M3", 1}, element_type_entry{element_type::f8_e5m2, "F8_E5M2", 1},
    element_type_entry{element_type::i64, "I64", 8},         element_type_entry{element_type::i32, "I32", 4},
    element_type_entry{element_type::i16, "I16", 2},         element_type_entry{element_type::i8, "I8", 1},
    element_type_entry{element_type::u64, "U64", 8},         element_type_entry{element_type::u32, "U32", 4},
    element_type_entry{element_type::u16, "U16", 2},         element_type_entry{element_type::u8, "U8", 1},
    element_type_entry{element_type::boolean, "BOOL", 1},
};

static_assert(std::all_of(element_types.begin(), element_types.end(),
                          [](const element_type_entry& entry) {
                            return &entry == &element_types[static_cast<std::size_t>(entry.type)];
                          }),
              "dro: the list is in the order of the enumeration");

}  // namespace detail

/// How the format calls a type.
[[nodiscard]] constexpr std::string_view name(element_type type) noexcept {
  return detail::element_types[static_cast<std::size_t>(type)].name;
}

/// Bytes of an element.
[[nodiscard]] constexpr std::size_t size_of(element_type type) noexcept {
  return detail::element_types[static_cast<std::size_t>(type)].bytes;
}

/// The sizes of a tensor along its dimensions, the outermost first; empty for a single number.
using tensor_shape = std::vector<std::uint64_t>;

namespace detail {

/// The bounds of the format, and one of our own: no more dimensions than any framework takes.
struct safetensors_bounds {
  static constexpr std::uint64_t header_bytes = 100'000'000;
  static constexpr std::size_t dimensions = 64;
};

/// A tensor as the header describes it; bytes are counted from the end of the header.
struct tensor_header {
  element_type type = element_type::f32;
  tensor_shape shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// `[2, 3]`, for messages.
[[nodiscard]] inline std::string show_shape(std::span<const std::uint64_t> shape) {
  std::string shown = "[";
  for (const std::uint64_t size : shape) shown.append(shown.size() > 1 ? ", " : "").append(std::to_string(size));
  return shown + "]";
}

/// The number of bytes of a tensor; nullopt where it overflows.
[[nodiscard]] constexpr std::optional<std::uint64_t> bytes_of(std::span<const std::uint64_t> shape,
                                                              element_type type) noexcept {
  std::uint64_t bytes = size_of(type);
  for (const std::uint64_t size : shape) {
    if (size != 0 && bytes > std::numeric_limits<std::uint64_t>::max() / size) return std::nullopt;
    bytes *= size;
  }
  return bytes;
}

/// Takes a header apart while it is being parsed, so that no more of it is kept than the tensors.
class safetensors_header_parser final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit safetensors_header_parser(const std::string& path) : path_(path) {}

  std::map<std::string, tensor_header, std::less<>> tensors;
  std::map<std::string, std::string, std::less<>> metadata;

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { unexpected(std::to_string(value)); }  // a negative one
  bool number_float(number_float_t, const string_t& text) override { unexpected(text); }
  bool binary(binary_t&) override { unexpected("bytes"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (level_ != level::list) unexpected(std::to_string(value));
    if (field_ == "shape" && numbers_.size() == safetensors_bounds::dimensions) {
      fail("has more than " + std::to_string(safetensors_bounds::dimensions) + " dimensions");
    }
    if (field_ == "data_offsets" && numbers_.size() == 2) fail("expected two numbers, found more");
    numbers_.push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (level_ == level::metadata) {
      metadata.insert_or_assign(field_, std::move(value));
    } else if (level_ == level::tensor && field_ == "dtype") {
      const auto* const found = std::find_if(element_types.begin(), element_types.end(),
                                             [&](const element_type_entry& entry) { return entry.name == value; });
      if (found == element_types.end()) fail("unknown element type " + show_text(value));
      tensor_.type = found->type;
    } else {
      unexpected(show_text(value));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (level_ == level::outside) {
      level_ = level::entries;
    } else if (level_ == level::entries) {
      level_ = name_ == "__metadata__" ? level::metadata : level::tensor;
      tensor_ = {};
      has_ = {};
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    field_.clear();
    if (level_ == level::tensor) {
      for (std::size_t i = 0; i < fields.size(); ++i) {
        if (!has_[i]) {
          field_ = fields[i];
          fail("is missing");
        }
      }
      tensors.emplace(std::move(name_), std::move(tensor_));
    }
    level_ = level_ == level::entries ? level::outside : level::entries;
    name_.clear();
    return true;
  }

  bool start_array(std::size_t) override {
    if (level_ != level::tensor || field_ == "dtype") unexpected("a list");
    level_ = level::list;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    level_ = level::tensor;
    if (field_ == "shape") {
      tensor_.shape = numbers_;
    } else {
      if (numbers_.size() != 2) fail("expected two numbers, found " + show_shape(numbers_));
      tensor_.begin = numbers_[0];
      tensor_.end = numbers_[1];
    }
    return true;
  }

  bool key(string_t& value) override {
    if (level_ == level::entries) {
      name_ = std::move(value);
      const bool again = name_ == "__metadata__" ? std::exchange(has_metadata_, true) : tensors.contains(name_);
      if (again) fail("stands twice in the header");
      return true;
    }
    field_ = std::move(value);
    if (level_ == level::metadata) {
      if (metadata.contains(field_)) fail("stands twice");
      return true;
    }
    const auto* const found = std::find(fields.begin(), fields.end(), field_);
    if (found == fields.end()) fail("is no field of a tensor");
    if (std::exchange(has_[static_cast<std::size_t>(found - fields.begin())], true)) fail("stands twice");
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    throw data_error(
        path_, 0, "header, byte " + std::to_string(position) + ": malformed JSON: " + parser_complaint(error.what()));
  }

 private:
  enum class level : std::uint8_t { outside, entries, metadata, tensor, list };
  static constexpr std::array<std::string_view, 3> fields = {"dtype", "shape", "data_offsets"};

  [[noreturn]] void fail(const std::string& what) const {
    std::string place = "header";
    if (!name_.empty() || level_ != level::entries) place += ", " + show_text(name_);
    if (!field_.empty()) place += ", field " + show_text(field_);
    throw data_error(path_, 0, place + ": " + what);
  }

  [[noreturn]] void unexpected(const std::string& found) const {
    const bool is_text = level_ == level::metadata || field_ == "dtype";
    const char* const expected = level_ == level::list      ? "a whole number of at least 0"
                                 : level_ == level::entries ? "an object"
                                 : is_text                  ? "a string"
                                                            : "a list of whole numbers";
    fail(std::string("expected ") + expected + ", found " + found);
  }

  const std::string& path_;
  level level_ = level::outside;
  std::string name_;   // of the tensor, or "__metadata__"
  std::string field_;  // within it
  tensor_header tensor_;
  std::array<bool, 3> has_{};  // which fields the tensor has had
  bool has_metadata_ = false;
  std::vector<std::uint64_t> numbers_;
};

/// Refuses tensors that do not cover `bytes` bytes, each of them once, or whose bytes are not those of their shape.
inline void check_layout(const std::string& path, const std::map<std::string, tensor_header, std::less<>>& tensors,
                         std::uint64_t bytes) {
  const auto fail = [&](const std::string& tensor, const std::string& what) {
    throw data_error(path, 0, "tensor " + show_text(tensor) + ": " + what);
  };
  std::vector<const std::pair<const std::string, tensor_header>*> by_place;
  by_place.reserve(tensors.size());
  for (const auto& entry : tensors) {
    const auto& [name, t] = entry;
    const std::string range = "bytes " + std::to_string(t.begin) + " to " + std::to_string(t.end);
    if (t.begin > t.end) fail(name, range + " descend");
    if (t.end > bytes) fail(name, range + " run past the end of the file, which has " + std::to_string(bytes));
    const auto expected = bytes_of(t.shape, t.type);
    if (expected != t.end - t.begin) {
      fail(name, range + " are not those of a shape of " + show_shape(t.shape) + " and type " +
                     std::string(data::name(t.type)) + ", which takes " +
                     (expected ? std::to_string(*expected) : "more than 2^64"));
    }
    by_place.push_back(&entry);
  }
  std::sort(by_place.begin(), by_place.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t covered = 0;
  for (const auto* const entry : by_place) {
    const auto& [name, t] = *entry;
    if (t.begin != covered) {
      fail(name, "begins at byte " + std::to_string(t.begin) + ", but the tensors before it end at byte " +
                     std::to_string(covered) + (t.begin < covered ? ": they overlap" : ": there is a hole"));
    }
    covered = t.end;
  }
  if (covered != bytes) {
    throw data_error(path, 0,
                     "the last tensor ends at byte " + std::to_string(covered) + ", but the file has " +
                         std::to_string(bytes) + " bytes of tensors");
  }
}

}  // namespace detail

/// A tensor in a mapped file, which stays mapped as long as one of its tensors is there. Cheap to copy, but for its
/// name and shape.
class mapped_tensor {
 public:
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] element_type type() const noexcept { return type_; }
  [[nodiscard]] const tensor_shape& shape() const noexcept { return shape_; }
  /// The number of its elements.
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size() / size_of(type_); }
  /// The elements as they are in the file, row-major, without any alignment.
  [[nodiscard]] std::string_view bytes() const noexcept { return bytes_; }
  /// The file it is in, as the caller named it.
  [[nodiscard]] const std::string& path() const noexcept { return file_->path(); }

  /// \throws data_error, with both shapes, where the tensor has another shape than a model needs.
  void require_shape(std::span<const std::uint64_t> expected) const {
    if (!std::equal(expected.begin(), expected.end(), shape_.begin(), shape_.end())) {
      fail("has the shape " + detail::show_shape(shape_) + ", expected " + detail::show_shape(expected));
    }
  }

  /// Writes `out.size()` elements, row-major from element `first` on, to `out`. F32, F16 and BF16 become float or
  /// double exactly, with subnormals, infinities and NaN; F64 becomes float by rounding to the nearest. Cost: one pass
  /// over the bytes, at the speed of memory or, at the first touch, of the disk.
  ///
  /// \throws shape_error where the tensor has no such elements; data_error where they are no floating-point numbers of
  ///         16 bits or more.
  template <std::floating_point T>
  void read(std::span<T> out, std::size_t first = 0) const {
    if (first > size() || out.size() > size() - first) {
      throw shape_error("tensor " + detail::show_text(name_) + ": elements " + std::to_string(first) + " to " +
                        std::to_string(first) + " + " + std::to_string(out.size()) + " asked for, it has " +
                        std::to_string(size()));
    }
    const char* const from = bytes_.data() + first * size_of(type_);
    switch (type_) {
      case element_type::f64:
        return convert<double>(from, out, [](double x) { return x; });
      case element_type::f32:
        return convert<float>(from, out, [](float x) { return x; });
      case element_type::f16:
        return convert<std::uint16_t>(from, out, [](std::uint16_t x) { return math::to_float(math::float16{x}); });
      case element_type::bf16:
        return convert<std::uint16_t>(from, out, [](std::uint16_t x) { return math::to_float(math::bfloat16{x}); });
      default:
        fail("has elements of type " + std::string(data::name(type_)) + ", expected F32, F16, BF16 or F64");
    }
  }

  /// The whole tensor, of the shape that a model needs. \throws as `require_shape` and `read` do, and shape_error where
  /// `out` is of another size.
  template <std::floating_point T>
  void read(std::span<const std::uint64_t> expected_shape, std::span<T> out) const {
    require_shape(expected_shape);
    if (out.size() != size()) {
      throw shape_error("tensor " + detail::show_text(name_) + ": has " + std::to_string(size()) +
                        " elements, to be read to " + std::to_string(out.size()));
    }
    read(out);
  }

 private:
  friend class safetensors_file;

  mapped_tensor(std::string name, detail::tensor_header header, std::shared_ptr<const memory_map> file,
                std::string_view bytes)
      : name_(std::move(name)),
        type_(header.type),
        shape_(std::move(header.shape)),
        file_(std::move(file)),
        bytes_(bytes) {}

  template <class Stored, class T, class Decode>
  static void convert(const char* from, std::span<T> out, Decode decode) {
    if (out.empty()) return;
    if constexpr (std::same_as<Stored, T>) {
      std::memcpy(out.data(), from, out.size_bytes());
    } else {
      for (std::size_t i = 0; i < out.size(); ++i) {
        Stored stored;
        std::memcpy(&stored, from + i * sizeof stored, sizeof stored);
        out[i] = static_cast<T>(decode(stored));
      }
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw data_error(path(), 0, "tensor " + detail::show_text(name_) + ": " + what);
  }

  std::string name_;
  element_type type_;
  tensor_shape shape_;
  std::shared_ptr<const memory_map> file_;
  std::string_view bytes_;  // of the map
};

/// Tensors by their names, as a file or a set of files has them.
class tensor_collection {
 public:
  using map = std::map<std::string, mapped_tensor, std::less<>>;

  /// The file or folder as the caller named it.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// All tensors, sorted by name.
  [[nodiscard]] const map& tensors() const noexcept { return tensors_; }
  [[nodiscard]] bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// The tensor of that name. \throws data_error where there is none.
  [[nodiscard]] const mapped_tensor& tensor(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw data_error(path_, 0, "has no tensor " + detail::show_text(name));
    return found->second;
  }

 protected:
  explicit tensor_collection(std::string path) : path_(std::move(path)) {}
  void add(mapped_tensor tensor) { tensors_.emplace(tensor.name(), std::move(tensor)); }

 private:
  std::string path_;
  map tensors_;
};

/// One safetensors file. Its header is checked as a whole when it is opened, so that no tensor can lie outside the file
/// or over another; the elements are read where they are asked for. While it is open nobody may shorten the file (see
/// `memory_map`).
///
/// Element types that this library does not compute in may occur; only to `read` them is an error.
class safetensors_file : public tensor_collection {
 public:
  /// \throws file_error where the file cannot be read. data_error, naming tensor and field, for a header that is longer
  ///         than the file or 100 MB, is not JSON or not UTF-8, has a name twice, a field too many or too few or of
  ///         another type, an element type that is unknown or not of whole bytes, more than 64 dimensions, and for
  ///         bytes that descend, run past the end, overlap, leave a hole or a rest, or do not match shape and type.
  ///
  /// Memory: names and shapes, at most about 10 times the header. Time: that of parsing it.
  explicit safetensors_file(const std::filesystem::path& path) : tensor_collection(path.string()) {
    const auto file = std::make_shared<const memory_map>(path);
    const std::string_view bytes = file->bytes();
    std::uint64_t length = 0;
    if (bytes.size() < sizeof length) {
      fail("has " + std::to_string(bytes.size()) + " bytes, too few for the length of a header");
    }
    std::memcpy(&length, bytes.data(), sizeof length);
    const std::string_view rest = bytes.substr(sizeof length);
    if (length > detail::safetensors_bounds::header_bytes) {
      fail("the header's length is " + std::to_string(length) + ", expected at most " +
           std::to_string(detail::safetensors_bounds::header_bytes));
    }
    if (length > rest.size()) {
      fail("the header's length is " + std::to_string(length) + ", but only " + std::to_string(rest.size()) +
           " bytes follow");
    }
    const std::string_view header = rest.substr(0, static_cast<std::size_t>(length));
    const std::string_view data = rest.substr(header.size());
    if (header.empty() || header.front() != '{') {
      fail("header, byte 1: expected '{', found " + (header.empty() ? "nothing" : detail::show_byte(header.front())));
    }
    // to the parser it is the end, whatever stands behind it
    if (const std::size_t zero = header.find('\0'); zero != std::string_view::npos) {
      fail("header, byte " + std::to_string(zero + 1) + ": malformed JSON: found byte 0x00");
    }
    detail::safetensors_header_parser parser(this->path());
    nlohmann::json::sax_parse(header.begin(), header.end(), &parser);
    detail::check_layout(this->path(), parser.tensors, data.size());
    metadata_ = std::move(parser.metadata);
    while (!parser.tensors.empty()) {
      auto node = parser.tensors.extract(parser.tensors.begin());
      const auto begin = static_cast<std::size_t>(node.mapped().begin);
      const std::string_view elements = data.substr(begin, static_cast<std::size_t>(node.mapped().end) - begin);
      add(mapped_tensor(std::move(node.key()), std::move(node.mapped()), file, elements));
    }
  }

  /// What stands beside the tensors, such as "format": "pt".
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const noexcept { return metadata_; }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw data_error(path(), 0, what); }

  std::map<std::string, std::string, std::less<>> metadata_;
};

/// The tensors of a model: of one safetensors file, or of several that an index, `model.safetensors.index.json`, names.
/// Tensors of those files that the index does not name do not belong to the set.
class safetensors_set : public tensor_collection {
 public:
  /// `path` is a folder with either `model.safetensors` or `model.safetensors.index.json`, an index (`.json`), or a
  /// safetensors file.
  ///
  /// \throws file_error where a file cannot be read, or a folder has neither or both; data_error as `safetensors_file`
  ///         does, and for an index that is no JSON or has a name twice, that names a file outside its folder (only
  ///         plain names are taken), or a tensor that its file does not have.
  explicit safetensors_set(const std::filesystem::path& path) : tensor_collection(path.string()) {
    const std::filesystem::path file = chosen_file(path);
    if (file.extension() != ".json") {
      add_from(safetensors_file(file));
      return;
    }
    const nlohmann::json document = read_json_document(file, {.bytes = std::size_t{1} << 26U});
    const record_place place{file.string(), 0, 0, {}};
    std::map<std::string, safetensors_file, std::less<>> shards;
    for (const auto& [tensor, field] : json_field(document, place)["weight_map"].members()) {
      const std::string& shard = field.string();
      if (shard.empty() || shard == "." || shard == ".." ||
          shard.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
        field.fail("expected the name of a file in the same folder, found " + detail::show_text(shard));
      }
      auto found = shards.find(shard);
      if (found == shards.end()) {
        found = shards.emplace(shard, safetensors_file(file.parent_path() / shard)).first;
      }
      if (!found->second.contains(tensor)) {
        field.fail("the file " + detail::show_text(shard) + " has no such tensor");
      }
      add(found->second.tensor(tensor));
    }
  }

 private:
  [[nodiscard]] static std::filesystem::path chosen_file(const std::filesystem::path& path) {
    std::error_code unknown;  // opening the file will say what the matter is
    if (!std::filesystem::is_directory(path, unknown)) return path;
    const std::filesystem::path single = path / "model.safetensors";
    const std::filesystem::path index = path / "model.safetensors.index.json";
    const bool has_single = std::filesystem::exists(single, unknown);
    const bool has_index = std::filesystem::exists(index, unknown);
    if (has_single != has_index) return has_single ? single : index;
    throw file_error(path.string(), has_single ? "has both model.safetensors and model.safetensors.index.json: name one"
                                               : "has neither model.safetensors nor model.safetensors.index.json");
  }

  void add_from(const safetensors_file& file) {
    for (const auto& [name, tensor] : file.tensors()) add(tensor);
  }
};

}  // namespace dro::data

#endif
