// SPDX-License-Identifier: Apache-2.0
// Safetensors: what Hugging Face's package wrote is read, what we write is what it writes, and whatever else is read is
// refused with the whole message stated here.

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/data/safetensors.hpp>
#include <dro/data/write_safetensors.hpp>
#include <dro/error.hpp>

#include "data_files.hpp"

using dro::data::element_type;
using dro::data::named_tensor;
using dro::data::safetensors_file;
using dro::data::safetensors_options;
using dro::data::safetensors_set;
using dro::data::tensor_shape;
using dro::data::write_safetensors;

namespace {

const std::filesystem::path golden = std::filesystem::path(DRO_SOURCE_DIR) / "tests/golden/safetensors";
constexpr double infinity = std::numeric_limits<double>::infinity();

template <class T>
std::vector<T> values_of(const dro::data::mapped_tensor& tensor) {
  std::vector<T> values(tensor.size());
  tensor.read(std::span(values));
  return values;
}

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// A file of this header and as many bytes of tensors.
std::string file_of(const std::string& header, std::size_t bytes = 0) {
  return raw(std::uint64_t{header.size()}) + header + std::string(bytes, '\1');
}

/// A file of one tensor.
std::string file_of(const std::string& type, const std::string& shape, const std::string& offsets, std::size_t bytes) {
  return file_of(R"({"w":{"dtype":)" + type + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", bytes);
}

/// What reading a file of these bytes throws, after its path; it must be a data_error.
std::string refusal(const std::string& bytes) {
  static const temporary_folder folder;
  const std::string path = folder.write("model.safetensors", bytes);
  try {
    const safetensors_file file(path);
  } catch (const dro::data_error& e) {
    CHECK(e.path() == path);
    return std::string(e.what()).substr(path.size() + 2);
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("every element type that Hugging Face writes") {
  const safetensors_file file(golden / "types.safetensors");
  CHECK(file.path() == (golden / "types.safetensors").string());
  CHECK(file.metadata().size() == 2);
  CHECK(file.metadata().at("note") == "a\nb");
  CHECK(file.tensors().size() == 16);
  for (const char* const name : {"float64", "float32", "float16", "bfloat16"}) {
    CAPTURE(name);
    const auto& tensor = file.tensor(name);
    CHECK(tensor.shape() == tensor_shape{6});
    const std::vector<double> expected = {0.0, -0.0, 1.5, -6.103515625e-05, infinity, -infinity};
    const auto values = values_of<double>(tensor);
    CHECK(values == expected);
    CHECK(std::signbit(values[1]));
    CHECK(values_of<float>(tensor) == std::vector<float>(expected.begin(), expected.end()));
  }
  CHECK(values_of<double>(file.tensor("float16.subnormal")) == std::vector{std::ldexp(1, -24), -std::ldexp(3, -24)});
  CHECK(values_of<double>(file.tensor("bfloat16.subnormal")) == std::vector{std::ldexp(1, -133), -std::ldexp(3, -133)});
  CHECK(file.tensor("float16").type() == element_type::f16);
  CHECK(file.tensor("scalar").shape().empty());
  CHECK(values_of<float>(file.tensor("scalar")) == std::vector{2.5F});
  CHECK(file.tensor("empty").shape() == tensor_shape{3, 0, 2});
  CHECK(values_of<float>(file.tensor("empty")).empty());
  const auto& quoted = file.tensor("Żółw \"quoted\"");
  CHECK(quoted.shape() == tensor_shape{2, 2, 1});
  CHECK(values_of<float>(quoted) == std::vector{1.0F, 2.0F, 3.0F, 4.0F});

  // the others are there, with their bytes, but are no numbers to compute with
  CHECK(file.tensor("int16").bytes() == std::string_view("\1\0\2\0\3\0", 6));
  CHECK(file.tensor("bool").bytes() == std::string_view("\1\0", 2));
  const std::vector<std::pair<const char*, element_type>> others = {
      {"int64", element_type::i64},     {"int32", element_type::i32}, {"int16", element_type::i16},
      {"int8", element_type::i8},       {"uint8", element_type::u8},  {"bool", element_type::boolean},
      {"float8", element_type::f8_e4m3}};
  for (const auto& [name, type] : others) {
    CAPTURE(name);
    CHECK(file.tensor(name).type() == type);
    CHECK_THROWS_WITH_AS((void)values_of<float>(file.tensor(name)),
                         (file.path() + ": tensor \"" + name + "\": has elements of type " +
                          std::string(dro::data::name(type)) + ", expected F32, F16, BF16 or F64")
                             .c_str(),
                         dro::data_error);
  }
}

TEST_CASE("what we write is byte for byte what Hugging Face writes") {
  const temporary_folder folder;
  const std::vector<double> numbers = {0.0,  -0.0,     1.0,     -1.5, 1.0 / 3,  -std::ldexp(1.0, -20) / 3,
                                       1e-7, 65519.99, 65520.0, 3e38, infinity, -infinity};
  const std::vector<float> a(numbers.begin(), numbers.end());
  const std::vector<float> b = {0, 1, 2, 3, 4, 5};
  const std::vector<float> c = {-1};
  const std::vector<named_tensor<float>> tensors = {{"a", {12}, a}, {"b", {2, 3}, b}, {"c", {}, c}};
  // the same numbers as doubles: every narrowing starts from a float, so the bytes must not change
  const std::vector<double> wide_a(a.begin(), a.end());
  const std::vector<double> wide_b(b.begin(), b.end());
  const std::vector<double> wide_c(c.begin(), c.end());
  const std::vector<named_tensor<double>> wide = {{"a", {12}, wide_a}, {"b", {2, 3}, wide_b}, {"c", {}, wide_c}};
  const std::vector<std::pair<const char*, element_type>> types = {
      {"float32", element_type::f32}, {"float16", element_type::f16}, {"bfloat16", element_type::bf16}};
  for (const auto& [name, type] : types) {
    CAPTURE(name);
    const std::string expected = read_bytes(golden / (std::string(name) + ".safetensors"));
    const auto path = folder.path() / name;
    write_safetensors(path, tensors, {.type = type});
    CHECK(read_bytes(path) == expected);
    write_safetensors(path, wide, {.type = type});
    CHECK(read_bytes(path) == expected);
    // and what Hugging Face wrote is read as numbers that are written as the same bytes
    const safetensors_file file(golden / (std::string(name) + ".safetensors"));
    const auto again = values_of<float>(file.tensor("a"));
    write_safetensors<float>(path, {{"a", {12}, again}, {"b", {2, 3}, b}, {"c", {}, c}}, {.type = type});
    CHECK(read_bytes(path) == expected);
  }
}

TEST_CASE("doubles are kept as F64 and read as floats by rounding") {
  const temporary_folder folder;
  const auto path = folder.path() / "model.safetensors";
  const std::vector<double> values = {1.0 / 3, 1e300, -5e-324};
  write_safetensors<double>(path, {{"w", {3}, values}}, {.type = element_type::f64, .metadata = {}});
  const safetensors_file file(path);
  CHECK(file.metadata().empty());
  CHECK(values_of<double>(file.tensor("w")) == values);
  CHECK(values_of<float>(file.tensor("w")) == std::vector{1.0F / 3, std::numeric_limits<float>::infinity(), -0.0F});
  const std::vector<float> narrow = {0.1F};
  write_safetensors<float>(path, {{"w", {1}, narrow}}, {.type = element_type::f64});
  CHECK(values_of<double>(safetensors_file(path).tensor("w")) == std::vector{static_cast<double>(0.1F)});
}

TEST_CASE("a large tensor, whole and in parts") {
  const temporary_folder folder;
  const auto path = folder.path() / "model.safetensors";
  std::vector<float> values(100'003);  // several times the writer's buffer
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251) - 125;  // exact in bfloat16
  for (const element_type type : {element_type::f64, element_type::f32, element_type::f16, element_type::bf16}) {
    write_safetensors<float>(path, {{"w", {values.size()}, values}}, {.type = type});
    const safetensors_file file(path);
    const auto& tensor = file.tensor("w");
    CHECK(values_of<float>(tensor) == values);
    std::vector<double> part(50'001);
    tensor.read(std::span(part), 50'002);
    CHECK(std::equal(part.begin(), part.end(), values.begin() + 50'002));
    tensor.read(std::span<double>(), values.size());
    CHECK_THROWS_WITH_AS(tensor.read(std::span(part), 50'003),
                         "tensor \"w\": elements 50003 to 50003 + 50001 asked for, it has 100003", dro::shape_error);
    CHECK_THROWS_AS(tensor.read(std::span(part), std::numeric_limits<std::size_t>::max()), dro::shape_error);
  }
}

TEST_CASE("elements need no alignment") {
  std::string header = R"({"w":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}})";
  if (header.size() % 2 == 0) header += ' ';  // no element stands where a double may
  std::string bytes = file_of(header);
  bytes += raw(1.5) + raw(-2.0);
  const temporary_folder folder;
  CHECK(values_of<double>(safetensors_file(folder.write("w", bytes)).tensor("w")) == std::vector{1.5, -2.0});
}

TEST_CASE("a tensor is asked for by name and shape") {
  const safetensors_file file(golden / "float32.safetensors");
  const std::string path = file.path();
  CHECK(file.contains("a"));
  CHECK_FALSE(file.contains("aa"));
  CHECK_THROWS_WITH_AS((void)file.tensor("aa"), (path + ": has no tensor \"aa\"").c_str(), dro::data_error);
  std::vector<float> values(6);
  file.tensor("b").read(tensor_shape{2, 3}, std::span(values));
  CHECK(values == std::vector<float>{0, 1, 2, 3, 4, 5});
  CHECK_THROWS_WITH_AS(file.tensor("b").read(tensor_shape{3, 2}, std::span(values)),
                       (path + ": tensor \"b\": has the shape [2, 3], expected [3, 2]").c_str(), dro::data_error);
  CHECK_THROWS_AS(file.tensor("b").read(tensor_shape{2}, std::span(values)), dro::data_error);
  CHECK_THROWS_AS(file.tensor("b").read(tensor_shape{2, 3, 1}, std::span(values)), dro::data_error);
  CHECK_THROWS_WITH_AS(file.tensor("b").read(tensor_shape{2, 3}, std::span(values).first(5)),
                       "tensor \"b\": has 6 elements, to be read to 5", dro::shape_error);
}

TEST_CASE("a tensor outlives its file, and the file its name") {
  const temporary_folder folder;
  const auto path = folder.path() / "model.safetensors";
  const std::vector<float> values = {1, 2};
  write_safetensors<float>(path, {{"w", {2}, values}});
  const auto tensor = safetensors_file(path).tensor("w");
  const std::vector<float> others = {3, 4};
  write_safetensors<float>(path, {{"w", {2}, others}});  // renamed over it
  CHECK(values_of<float>(tensor) == values);
  CHECK(values_of<float>(safetensors_file(path).tensor("w")) == others);
  std::filesystem::remove(path);
  CHECK(values_of<float>(tensor) == values);
}

TEST_CASE("Hugging Face's shards") {
  const auto check_values = [](const safetensors_set& set) {
    CHECK(set.tensors().size() == 21);
    float k = 0;
    for (const auto& [name, tensor] : set.tensors()) {  // by name, as make_cases.py numbers them
      CAPTURE(name);
      const auto values = values_of<float>(tensor);
      for (std::size_t i = 0; i < values.size(); ++i) {
        REQUIRE(values[i] == (1000 * k + static_cast<float>(i)) / 1024);
      }
      ++k;
    }
  };
  const auto folder = golden / "tiny_llama";
  check_values(safetensors_set(folder));
  check_values(safetensors_set(folder / "model.safetensors.index.json"));
  CHECK(safetensors_set(golden / "float16.safetensors").tensors().size() == 3);
}

TEST_CASE("shards hold what fits, in order") {
  const temporary_folder folder;
  const auto path = folder.path() / "model.safetensors";
  const std::vector<float> values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto first = [&](std::size_t n) { return std::span(values).first(n); };
  // 8 and 4 bytes fit into 12, 20 do not but have a file to themselves, then 8 and 0
  const std::vector<named_tensor<float>> tensors = {
      {"e", {2}, first(2)}, {"d", {1}, first(1)}, {"c", {10}, first(10)}, {"b", {2}, first(2)}, {"a", {0}, first(0)}};
  write_safetensors(path, tensors, {.shard_bytes = 12});
  const auto shard = [&](const char* number) {
    const safetensors_file file(folder.path() / (std::string("model-0000") + number + "-of-00003.safetensors"));
    CHECK(file.metadata().at("format") == "pt");
    std::string names;
    for (const auto& [name, tensor] : file.tensors()) names += name;
    return names;
  };
  CHECK(shard("1") == "de");
  CHECK(shard("2") == "c");
  CHECK(shard("3") == "ab");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 4);  // nothing temporary
  const safetensors_set set(folder.path());
  CHECK(set.tensors().size() == 5);
  for (const auto& tensor : tensors) {
    CHECK(set.tensor(tensor.name).shape() == tensor.shape);
    CHECK(values_of<float>(set.tensor(tensor.name)) == std::vector<float>(tensor.values.begin(), tensor.values.end()));
  }
  CHECK(read_bytes(folder.path() / "model.safetensors.index.json").find("\"total_size\": 60") != std::string::npos);
  // the first tensor too large for a file: it has one to itself
  const temporary_folder two;
  write_safetensors<float>(two.path() / "model.safetensors", {{"a", {4}, first(4)}, {"b", {1}, first(1)}},
                           {.shard_bytes = 12});
  CHECK(std::filesystem::exists(two.path() / "model-00001-of-00002.safetensors"));
  CHECK(safetensors_set(two.path()).tensors().size() == 2);
  // written again in place
  write_safetensors(path, tensors, {.shard_bytes = 12});
  CHECK(safetensors_set(folder.path()).tensors().size() == 5);
  // a single file beside them would be taken by some readers and not by others
  CHECK_THROWS_WITH_AS(
      write_safetensors(path, tensors),
      (path.string() + ": cannot be written beside model.safetensors.index.json: remove that first").c_str(),
      dro::file_error);
  std::filesystem::remove(path.string() + ".index.json");
  write_safetensors(path, tensors);
  CHECK_THROWS_WITH_AS(
      write_safetensors(path, tensors, {.shard_bytes = 12}),
      (path.string() + ".index.json: cannot be written beside model.safetensors: remove that first").c_str(),
      dro::file_error);
  // both by other hands
  (void)folder.write("model.safetensors.index.json", "{}");
  CHECK_THROWS_WITH_AS(
      safetensors_set{folder.path()},
      (folder.path().string() + ": has both model.safetensors and model.safetensors.index.json: name one").c_str(),
      dro::file_error);
}

TEST_CASE("what cannot be written leaves the old file") {
  const temporary_folder folder;
  const std::string path = folder.write("model.safetensors", "before");
  const std::vector<float> one = {1};
  const auto message = [&](const std::vector<named_tensor<float>>& tensors, const safetensors_options& options = {}) {
    std::string what = "nothing thrown";
    try {
      write_safetensors(path, tensors, options);
    } catch (const dro::option_error& e) {
      what = e.what();
    } catch (const dro::shape_error& e) {
      what = e.what();
    }
    CHECK(read_bytes(path) == "before");
    return what;
  };
  CHECK(message({{"a", {1}, one}, {"a", {1}, one}}) == "tensor \"a\" cannot be written: the name occurs twice");
  CHECK(message({{"__metadata__", {1}, one}}) ==
        "tensor \"__metadata__\" cannot be written: the name belongs to the format");
  CHECK(message({{"\xFF", {1}, one}}) == "tensor \"\\ufffd\" cannot be written: its name is not valid UTF-8");
  CHECK(message({{"a", tensor_shape(65, 1), one}}) == "tensor \"a\" cannot be written: it has more than 64 dimensions");
  CHECK(message({{"a", {1, 2}, one}}) == "tensor \"a\" of shape [1, 2] has 1 elements");
  CHECK(message({{"a", {std::uint64_t{1} << 32U, std::uint64_t{1} << 32U}, {}}}) ==
        "tensor \"a\" of shape [4294967296, 4294967296] has 0 elements");
  CHECK(message({{"a", {1}, one}}, {.type = element_type::f8_e4m3}) ==
        "weights cannot be written as F8_E4M3, expected F64, F32, F16 or BF16");
  CHECK(message({{"a", {1}, one}}, {.metadata = {{"note", "\xFF"}}}) ==
        "metadata \"note\" cannot be written: not valid UTF-8");
  CHECK_THROWS_AS(write_safetensors<float>(path + "/below", {{"a", {1}, one}}), dro::file_error);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("files that cannot be opened") {
  const temporary_folder folder;
  const auto message = [](const std::string& path, auto open) {
    try {
      open(path);
    } catch (const dro::data_error&) {
      return std::string("not this type");
    } catch (const dro::file_error& e) {
      return std::string(e.what()).substr(path.size() + 2);
    }
    return std::string("nothing thrown");
  };
  const auto file = [](const std::string& path) { const safetensors_file opened(path); };
  const auto set = [](const std::string& path) { const safetensors_set opened(path); };
  const std::string none = (folder.path() / "none").string();
  CHECK(message(none, file) == "cannot be opened: No such file or directory");
  CHECK(message(none, set) == "cannot be opened: No such file or directory");
  CHECK(message(folder.path().string(), file) == "is a folder, expected a file");
  CHECK(message(folder.path().string(), set) == "has neither model.safetensors nor model.safetensors.index.json");
  const std::string pipe = (folder.path() / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(message(pipe, file) == "is a device or a pipe, expected a file");  // and does not wait for a writer
  CHECK(message("/dev/null", file) == "is a device or a pipe, expected a file");
}

TEST_CASE("a header's length") {
  CHECK(refusal("") == "has 0 bytes, too few for the length of a header");
  CHECK(refusal("1234567") == "has 7 bytes, too few for the length of a header");
  CHECK(refusal(raw(std::uint64_t{0})) == "header, byte 1: expected '{', found nothing");
  CHECK(refusal(raw(std::uint64_t{3}) + "{}") == "the header's length is 3, but only 2 bytes follow");
  CHECK(refusal(raw(std::uint64_t{100'000'000}) + "{}") == "the header's length is 100000000, but only 2 bytes follow");
  CHECK(refusal(raw(std::uint64_t{100'000'001}) + "{}") ==
        "the header's length is 100000001, expected at most 100000000");
  CHECK(refusal(raw(std::numeric_limits<std::uint64_t>::max()) + "{}") ==
        "the header's length is 18446744073709551615, expected at most 100000000");
  CHECK(refusal(file_of("{}")) == "nothing thrown");
  CHECK(refusal(file_of("{} \n")) == "nothing thrown");
}

TEST_CASE("cut at any place") {
  const std::string bytes = read_bytes(golden / "types.safetensors");
  REQUIRE(refusal(bytes) == "nothing thrown");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CAPTURE(size);
    CHECK(refusal(bytes.substr(0, size)) != "nothing thrown");
  }
}

TEST_CASE("a header that is not JSON") {
  CHECK(refusal(file_of(" {}")) == "header, byte 1: expected '{', found ' '");
  CHECK(refusal(file_of("[]")) == "header, byte 1: expected '{', found '['");
  CHECK(refusal(file_of("\xEF\xBB\xBF{}")) == "header, byte 1: expected '{', found byte 0xEF");
  CHECK(refusal(file_of("{} x")) ==
        "header, byte 4: malformed JSON: syntax error while parsing value - invalid literal; last read: '{} x'; "
        "expected end of input");
  CHECK(refusal(file_of(std::string("{}\0 ", 4))) == "header, byte 3: malformed JSON: found byte 0x00");
  CHECK(refusal(file_of(R"({"w")")).starts_with("header, byte 5: malformed JSON: syntax error"));
  CHECK(refusal(file_of("{\"\xFF\":{}}")).find("ill-formed UTF-8 byte") != std::string::npos);
  CHECK(refusal(file_of(R"({"\ud800":{}})")).find("surrogate") != std::string::npos);
}

TEST_CASE("a header of other fields") {
  CHECK(refusal(file_of(R"({"w":1})")) == "header, \"w\": expected an object, found 1");
  CHECK(refusal(file_of(R"({"w":[]})")) == "header, \"w\": expected an object, found a list");
  CHECK(refusal(file_of(R"({"w":null})")) == "header, \"w\": expected an object, found null");
  CHECK(refusal(file_of(R"({"w":{}})")) == "header, \"w\", field \"dtype\": is missing");
  CHECK(refusal(file_of(R"({"w":{"shape":[],"dtype":"F32"}})")) == "header, \"w\", field \"data_offsets\": is missing");
  CHECK(refusal(file_of(R"({"w":{"type":"F32"}})")) == "header, \"w\", field \"type\": is no field of a tensor");
  CHECK(refusal(file_of(R"({"w":{"shape":[],"shape":[]}})")) == "header, \"w\", field \"shape\": stands twice");
  const std::string w = R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  CHECK(refusal(file_of("{" + w + "," + w + "}", 1)) == "header, \"w\": stands twice in the header");
  CHECK(refusal(file_of(R"({"__metadata__":{},"__metadata__":{}})")) ==
        "header, \"__metadata__\": stands twice in the header");
  CHECK(refusal(file_of(R"({"__metadata__":{"a":1}})")) ==
        "header, \"__metadata__\", field \"a\": expected a string, found 1");
  CHECK(refusal(file_of(R"({"__metadata__":{"a":{}}})")) ==
        "header, \"__metadata__\", field \"a\": expected a string, found an object");
  CHECK(refusal(file_of(R"({"__metadata__":{"a":"","a":""}})")) ==
        "header, \"__metadata__\", field \"a\": stands twice");
  CHECK(refusal(file_of(R"({"__metadata__":{"a":"b"}})")) == "nothing thrown");
  // a name is shown in ASCII, and not the whole of a long one
  CHECK(refusal(file_of("{\"ż" + std::string(100, 'x') + "\":1}")) ==
        "header, \"\\u017c" + std::string(53, 'x') + "...: expected an object, found 1");
}

TEST_CASE("values of other types") {
  CHECK(refusal(file_of("7", "[1]", "[0,4]", 4)) == "header, \"w\", field \"dtype\": expected a string, found 7");
  CHECK(refusal(file_of("[]", "[1]", "[0,4]", 4)) == "header, \"w\", field \"dtype\": expected a string, found a list");
  CHECK(refusal(file_of("\"F33\"", "[1]", "[0,4]", 4)) ==
        "header, \"w\", field \"dtype\": unknown element type \"F33\"");
  CHECK(refusal(file_of("\"F4\"", "[2]", "[0,1]", 1)) == "header, \"w\", field \"dtype\": unknown element type \"F4\"");
  CHECK(refusal(file_of("\"F32\"", "1", "[0,4]", 4)) ==
        "header, \"w\", field \"shape\": expected a list of whole numbers, found 1");
  for (const std::string bad : {"-1", "1.0", "1e0", "true", "null", "[1]", "{}", "\"1\"", "99999999999999999999"}) {
    CAPTURE(bad);
    const std::string shown = bad == "[1]" ? "a list" : bad == "{}" ? "an object" : bad;
    CHECK(refusal(file_of("\"F32\"", "[" + bad + "]", "[0,4]", 4)).find("found " + shown) != std::string::npos);
    CHECK(refusal(file_of("\"F32\"", "[1]", "[0," + bad + "]", 4))
              .starts_with("header, \"w\", field \"data_offsets\": expected "));
  }
  CHECK(refusal(file_of("\"F32\"", "[1]", "[0]", 4)) ==
        "header, \"w\", field \"data_offsets\": expected two numbers, found [0]");
  CHECK(refusal(file_of("\"F32\"", "[1]", "[0,4,4]", 4)) ==
        "header, \"w\", field \"data_offsets\": expected two numbers, found more");
  std::string ones = "[1";
  for (int i = 1; i < 64; ++i) ones += ",1";
  CHECK(refusal(file_of("\"F32\"", ones + "]", "[0,4]", 4)) == "nothing thrown");
  CHECK(refusal(file_of("\"F32\"", ones + ",1]", "[0,4]", 4)) ==
        "header, \"w\", field \"shape\": has more than 64 dimensions");
}

TEST_CASE("shapes and bytes that do not match") {
  CHECK(refusal(file_of("\"F32\"", "[1]", "[0,4]", 4)) == "nothing thrown");
  CHECK(refusal(file_of("\"F32\"", "[2]", "[0,4]", 4)) ==
        "tensor \"w\": bytes 0 to 4 are not those of a shape of [2] and type F32, which takes 8");
  CHECK(refusal(file_of("\"F64\"", "[]", "[0,4]", 4)) ==
        "tensor \"w\": bytes 0 to 4 are not those of a shape of [] and type F64, which takes 8");
  CHECK(refusal(file_of("\"F32\"", "[1]", "[4,0]", 4)) == "tensor \"w\": bytes 4 to 0 descend");
  CHECK(refusal(file_of("\"F32\"", "[2]", "[0,8]", 4)) ==
        "tensor \"w\": bytes 0 to 8 run past the end of the file, which has 4");
  CHECK(refusal(file_of("\"F32\"", "[1]", "[18446744073709551612,0]", 4)) ==
        "tensor \"w\": bytes 18446744073709551612 to 0 descend");
  // 2^62 floats and 2^63 pairs of bytes: their bytes, counted in 64 bits, are none
  for (const char* const shape : {"[4611686018427387904]", "[2147483648,2147483648]", "[9223372036854775808,2]"}) {
    CAPTURE(shape);
    CHECK(refusal(file_of("\"F32\"", shape, "[0,0]", 0)).ends_with("and type F32, which takes more than 2^64"));
  }
  CHECK(refusal(file_of("\"F32\"", "[0,18446744073709551615]", "[0,0]", 0)) == "nothing thrown");
}

TEST_CASE("tensors that do not tile the file") {
  const auto two = [](const std::string& a, const std::string& b, std::size_t bytes) {
    const auto tensor = [](const std::string& range) {
      const auto comma = range.find(',');
      const int size = std::stoi(range.substr(comma + 1)) - std::stoi(range.substr(0, comma));
      return R"({"dtype":"U8","shape":[)" + std::to_string(size) + R"(],"data_offsets":[)" + range + "]}";
    };
    return refusal(file_of("{\"a\":" + tensor(a) + ",\"b\":" + tensor(b) + "}", bytes));
  };
  CHECK(two("0,2", "2,5", 5) == "nothing thrown");
  CHECK(two("3,5", "0,3", 5) == "nothing thrown");  // the order of the names is not that of the bytes
  CHECK(two("0,0", "0,3", 3) == "nothing thrown");
  CHECK(two("3,3", "0,3", 3) == "nothing thrown");
  CHECK(two("0,3", "2,5", 5) ==
        "tensor \"b\": begins at byte 2, but the tensors before it end at byte 3: they overlap");
  CHECK(two("0,3", "0,3", 3) ==
        "tensor \"b\": begins at byte 0, but the tensors before it end at byte 3: they overlap");
  CHECK(two("0,5", "1,2", 5) ==
        "tensor \"b\": begins at byte 1, but the tensors before it end at byte 5: they overlap");
  CHECK(two("0,5", "2,2", 5) ==
        "tensor \"b\": begins at byte 2, but the tensors before it end at byte 5: they overlap");
  CHECK(two("0,2", "3,5", 5) ==
        "tensor \"b\": begins at byte 3, but the tensors before it end at byte 2: there is a hole");
  CHECK(two("1,2", "2,5", 5) ==
        "tensor \"a\": begins at byte 1, but the tensors before it end at byte 0: there is a hole");
  CHECK(two("0,2", "2,5", 6) == "the last tensor ends at byte 5, but the file has 6 bytes of tensors");
  CHECK(refusal(file_of("{}", 1)) == "the last tensor ends at byte 0, but the file has 1 bytes of tensors");
}

TEST_CASE("an index that does not fit its files") {
  const temporary_folder folder;
  const std::vector<float> one = {1};
  write_safetensors<float>(folder.path() / "a.safetensors", {{"a", {1}, one}, {"both", {1}, one}});
  write_safetensors<float>(folder.path() / "b.safetensors", {{"b", {1}, one}, {"both", {1}, one}});
  const auto message = [&](const std::string& index) {
    const std::string path = folder.write("model.safetensors.index.json", index);
    try {
      const safetensors_set set(folder.path());
      return "tensors: " + std::to_string(set.tensors().size());
    } catch (const dro::file_error& e) {
      return std::string(e.what()).substr(folder.path().string().size() + 1);
    }
  };
  const auto map = [](const std::string& entries) { return R"({"metadata": {}, "weight_map": {)" + entries + "}}"; };
  CHECK(message(map(R"("a": "a.safetensors", "both": "b.safetensors")")) == "tensors: 2");
  const std::string index = "model.safetensors.index.json: ";
  CHECK(message(map(R"("b": "a.safetensors")")) ==
        index + R"(field "weight_map.b": the file "a.safetensors" has no such tensor)");
  CHECK(message(map(R"("a": "c.safetensors")")) == "c.safetensors: cannot be opened: No such file or directory");
  for (const std::string bad :
       {"../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", ".", "", "a\\\\b", "\\u0000"}) {
    CAPTURE(bad);
    CHECK(message(map(R"("a": ")" + bad + "\"")) ==
          index + R"(field "weight_map.a": expected the name of a file in the same folder, found ")" + bad + "\"");
  }
  CHECK(message(map(R"("a": 1)")) == index + R"(field "weight_map.a": expected a string, found 1)");
  CHECK(message(map(R"("a": "a.safetensors", "a": "a.safetensors")")) ==
        index + R"(the name "a" stands twice in one object)");
  CHECK(message(R"({"weight_map": []})") == index + R"(field "weight_map": expected an object, found [])");
  CHECK(message("{}") == index + R"(field "weight_map": is missing)");
  CHECK(message("[]") == "model.safetensors.index.json:1: expected an object");
  CHECK(message("") == "model.safetensors.index.json:1: the file is empty");
  CHECK(message("{\n\n1}").starts_with("model.safetensors.index.json:3: malformed JSON: syntax error"));
  CHECK(message(std::string("{}\0x", 4)) == "model.safetensors.index.json:1: malformed JSON: found byte 0x00");
  CHECK(message("{\"a\": " + std::string(100'000, '[')) == index + "lists and objects more than 32 deep");
  CHECK(message(std::string((std::size_t{1} << 26U) + 1, ' ')) ==
        index + "has 67108865 bytes, expected at most 67108864");
}
