// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_WRITE_SAFETENSORS_HPP
#define DRO_DATA_WRITE_SAFETENSORS_HPP

/// \file
/// Weights to safetensors files, one or several with an index.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/json_records.hpp>
#include <dro/data/output_file.hpp>
#include <dro/data/safetensors.hpp>
#include <dro/error.hpp>
#include <dro/math/float16.hpp>

namespace dro::data {

/// A tensor to be written: a view of its elements, row-major.
template <std::floating_point T>
struct named_tensor {
  std::string name;
  tensor_shape shape;
  std::span<const T> values;
};

/// How weights are written.
struct safetensors_options {
  element_type type = element_type::f32;                ///< F64, F32, F16 or BF16; narrower ones by rounding
  std::uint64_t shard_bytes = std::uint64_t{1} << 62U;  ///< most bytes of elements in a file, but for a larger tensor
  /// Beside the tensors, in every file. Hugging Face's loaders ask for "format".
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
};

namespace detail {

[[noreturn]] inline void refuse_tensor(std::string_view name, const std::string& what) {
  throw option_error("tensor " + show_text(name) + " cannot be written: " + what);
}

template <std::floating_point T>
void check_writable(const std::vector<named_tensor<T>>& tensors, const safetensors_options& options) {
  if (options.type > element_type::bf16) {  // the floating-point types of 16 bits and more stand first
    throw option_error("weights cannot be written as " + std::string(name(options.type)) +
                       ", expected F64, F32, F16 or BF16");
  }
  for (const auto& [key, value] : options.metadata) {
    if (find_invalid_utf8(key) || find_invalid_utf8(value)) {
      throw option_error("metadata " + show_text(key) + " cannot be written: not valid UTF-8");
    }
  }
  std::set<std::string_view> names;
  for (const named_tensor<T>& tensor : tensors) {
    if (find_invalid_utf8(tensor.name)) refuse_tensor(tensor.name, "its name is not valid UTF-8");
    if (tensor.name == "__metadata__") refuse_tensor(tensor.name, "the name belongs to the format");
    if (!names.insert(tensor.name).second) refuse_tensor(tensor.name, "the name occurs twice");
    if (tensor.shape.size() > safetensors_bounds::dimensions) {
      refuse_tensor(tensor.name, "it has more than " + std::to_string(safetensors_bounds::dimensions) + " dimensions");
    }
    if (bytes_of(tensor.shape, element_type::u8) != tensor.values.size()) {
      throw shape_error("tensor " + show_text(tensor.name) + " of shape " + show_shape(tensor.shape) + " has " +
                        std::to_string(tensor.values.size()) + " elements");
    }
  }
}

/// Appends numbers, narrowed to `type` in pieces.
template <std::floating_point T>
void write_elements(output_file& file, std::span<const T> values, element_type type) {
  const auto write_as = [&]<class Stored, class Encode>(Stored, Encode encode) {
    constexpr std::size_t piece = std::size_t{1} << 15U;
    std::vector<Stored> buffer;
    for (; !values.empty(); values = values.subspan(buffer.size())) {
      buffer.resize(std::min(piece, values.size()));
      std::transform(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(buffer.size()), buffer.begin(),
                     encode);
      file.write({reinterpret_cast<const char*>(buffer.data()), buffer.size() * sizeof(Stored)});
    }
  };
  if (type == element_type::f16) {
    write_as(std::uint16_t{}, [](T x) { return math::to_float16(x).bits; });
  } else if (type == element_type::bf16) {
    write_as(std::uint16_t{}, [](T x) { return math::to_bfloat16(x).bits; });
  } else if (size_of(type) == sizeof(T)) {
    file.write({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  } else if (type == element_type::f32) {
    write_as(float{}, [](T x) { return static_cast<float>(x); });
  } else {
    write_as(double{}, [](T x) { return static_cast<double>(x); });
  }
}

/// Writes all but the name of one file: it is finished, not committed.
template <std::floating_point T>
[[nodiscard]] output_file write_shard(const std::filesystem::path& path, std::span<const named_tensor<T>> tensors,
                                      const safetensors_options& options) {
  using json = nlohmann::ordered_json;
  std::string text = "{";
  const auto add = [&](const std::string& key, const json& value) {
    text.append(text.size() > 1 ? "," : "").append(json(key).dump()).append(":").append(value.dump());
  };
  if (!options.metadata.empty()) add("__metadata__", options.metadata);
  std::uint64_t end = 0;
  for (const named_tensor<T>& tensor : tensors) {
    const std::uint64_t begin = end;
    end += tensor.values.size() * size_of(options.type);
    add(tensor.name, {{"dtype", name(options.type)}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}});
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the elements are aligned in a map
  if (text.size() > safetensors_bounds::header_bytes) {
    throw option_error("the header of " + path.string() + " would have " + std::to_string(text.size()) +
                       " bytes, the format takes " + std::to_string(safetensors_bounds::header_bytes));
  }
  const std::uint64_t length = text.size();
  output_file file(path);
  file.write({reinterpret_cast<const char*>(&length), sizeof length});
  file.write(text);
  for (const named_tensor<T>& tensor : tensors) write_elements(file, tensor.values, options.type);
  file.finish();
  return file;
}

/// The numbers of tensors that go to each file: as many as fit, in their order.
template <std::floating_point T>
[[nodiscard]] std::vector<std::size_t> shard_sizes(const std::vector<named_tensor<T>>& tensors,
                                                   const safetensors_options& options) {
  std::vector<std::size_t> sizes = {0};
  std::uint64_t bytes = 0;
  for (const named_tensor<T>& tensor : tensors) {
    const std::uint64_t more = tensor.values.size() * size_of(options.type);
    if (sizes.back() > 0 && more > options.shard_bytes - std::min(bytes, options.shard_bytes)) {
      sizes.push_back(0);
      bytes = 0;
    }
    bytes += more;
    ++sizes.back();
  }
  return sizes;
}

/// `00002`
[[nodiscard]] inline std::string five_digits(std::size_t number) {
  const std::string digits = std::to_string(number);
  return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
}

/// Refuses to leave two models of one name beside each other, of which a reader would take the old one.
inline void require_absent(const std::filesystem::path& other, const std::filesystem::path& path) {
  std::error_code unknown;
  if (std::filesystem::exists(other, unknown)) {
    throw file_error(path.string(), "cannot be written beside " + other.filename().string() + ": remove that first");
  }
}

}  // namespace detail

/// Writes tensors to `path`, such as `model.safetensors`; where they take more than `options.shard_bytes`, to
/// `model-00001-of-00003.safetensors` and so on beside it, with `model.safetensors.index.json`, as Hugging Face does.
/// Tensors stand in the order given. Narrower types are rounded to the nearest, ties to even; what is too large becomes
/// infinite, NaN stays.
///
/// Each file is there as a whole or not at all. Several are written in full before the first gets its name, and the
/// index comes last: only a crash between two renames can leave new files beside old ones.
///
/// \throws option_error for an element type that is no floating-point number of 16 bits or more, a name that is not
///         UTF-8, that the format keeps for itself or that occurs twice, more than 64 dimensions; shape_error where
///         shape and elements do not match; file_error where a file cannot be written, or where a single file stands in
///         the place of an index or the other way round. All but the last before anything is written.
///
/// Memory: the header and a small buffer.
template <std::floating_point T>
void write_safetensors(const std::filesystem::path& path, const std::vector<named_tensor<T>>& tensors,
                       const safetensors_options& options = {}) {
  detail::check_writable(tensors, options);
  const std::filesystem::path index_path = path.string() + ".index.json";
  const std::vector<std::size_t> sizes = detail::shard_sizes(tensors, options);
  std::span<const named_tensor<T>> rest = tensors;
  if (sizes.size() == 1) {
    detail::require_absent(index_path, path);
    detail::write_shard(path, rest, options).commit();
    return;
  }
  detail::require_absent(path, index_path);
  nlohmann::json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", nlohmann::json::object()}};
  std::uint64_t total = 0;
  std::vector<output_file> files;
  for (const std::size_t size : sizes) {
    const std::string shard = path.stem().string() + "-" + detail::five_digits(files.size() + 1) + "-of-" +
                              detail::five_digits(sizes.size()) + path.extension().string();
    for (const named_tensor<T>& tensor : rest.first(size)) {
      index["weight_map"][tensor.name] = shard;
      total += tensor.values.size() * size_of(options.type);
    }
    files.push_back(detail::write_shard(path.parent_path() / shard, rest.first(size), options));
    rest = rest.subspan(size);
  }
  index["metadata"]["total_size"] = total;
  for (output_file& file : files) file.commit();
  write_file_atomically(index_path, index.dump(2) + "\n");
}

}  // namespace dro::data

#endif
