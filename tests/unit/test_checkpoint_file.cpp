// SPDX-License-Identifier: Apache-2.0
// Checkpoints: what is written comes back, and whatever else is read is refused.

#include <sys/resource.h>
#include <zlib.h>

#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <dro/data/checkpoint_file.hpp>
#include <dro/error.hpp>

#include "data_files.hpp"

using dro::data::checkpoint_reader;
using dro::data::checkpoint_writer;
using dro::data::write_file_atomically;

namespace {

const std::vector<double> numbers = {0.0, -0.0, 1.5, -std::numeric_limits<double>::infinity(), 5e-324};
const std::vector<std::uint32_t> words = {0, 1, 0xFFFFFFFF};
const std::vector<std::string> names = {"", "Ada", std::string("a\0b", 3), "Żółw"};

checkpoint_writer example() {
  checkpoint_writer writer;
  writer.add("numbers", std::span<const double>(numbers));
  writer.add("words", std::span<const std::uint32_t>(words));
  writer.add("text", "Who?");
  writer.add("nothing", std::span<const double>());
  writer.add("names", std::span<const std::string>(names));
  return writer;
}

/// The bytes of the example, and a place to put others.
struct example_file {
  temporary_folder folder;
  std::string path = (folder.path() / "checkpoint").string();
  std::string bytes = [this] {
    example().write(path);
    return read_bytes(path);
  }();
};

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// The bytes with the checksum of the layout behind them.
std::string with_checksum(const std::string& bytes) {
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  return bytes + raw(static_cast<std::uint32_t>(crc32(0, data, static_cast<uInt>(bytes.size()))));
}

constexpr const char* not_whole = "is not a whole checkpoint (damaged, or not one of dro's)";

/// What reading a file of these bytes throws; it must be a checkpoint_error.
std::string refusal(const std::string& bytes) {
  static const temporary_folder folder;
  const std::string path = folder.write("file", bytes);
  try {
    const checkpoint_reader reader(path);
  } catch (const dro::checkpoint_error& e) {
    CHECK(e.path() == path);
    return std::string(e.what()).substr(path.size() + 2);
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("what is written comes back") {
  const example_file file;
  const checkpoint_reader reader(file.path);
  const auto same_bits = [](const std::vector<double>& a, const std::vector<double>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
  };
  CHECK(same_bits(reader.get<double>("numbers"), numbers));
  CHECK(reader.get<std::uint32_t>("words") == words);
  CHECK(reader.text("text") == "Who?");
  CHECK(reader.get<double>("nothing").empty());
  CHECK(reader.strings("names") == names);
  std::vector<double> target(numbers.size());
  reader.get_into("numbers", std::span(target));
  CHECK(same_bits(target, numbers));
  CHECK(reader.has("text"));
  CHECK_FALSE(reader.has("texts"));
}

TEST_CASE("the layout is the documented one") {
  const temporary_folder folder;
  const auto path = folder.path() / "checkpoint";
  checkpoint_writer writer;
  writer.add("ab", std::span<const std::uint32_t>(words));
  writer.write(path);
  const std::string body = "DROCKPT1" + raw(std::uint32_t{2}) + "ab" + raw(std::uint8_t{4}) + raw(std::uint64_t{3}) +
                           raw(words[0]) + raw(words[1]) + raw(words[2]);
  CHECK(read_bytes(path) == with_checksum(body));
}

TEST_CASE("an empty checkpoint is whole") {
  const temporary_folder folder;
  const auto path = folder.path() / "checkpoint";
  checkpoint_writer().write(path);
  CHECK_FALSE(checkpoint_reader(path).has(""));
}

TEST_CASE("asking for what is not there") {
  const example_file file;
  const checkpoint_reader reader(file.path);
  const auto message = [&](const std::string& what) { return file.path + ": " + what; };
  CHECK_THROWS_WITH_AS((void)reader.get<double>("weights"), message("has no \"weights\"").c_str(),
                       dro::checkpoint_error);
  CHECK_THROWS_WITH_AS((void)reader.get<float>("numbers"),
                       message("\"numbers\" has elements of 8 bytes, expected 4").c_str(), dro::checkpoint_error);
  std::vector<double> target(3, 7.0);
  CHECK_THROWS_WITH_AS(reader.get_into("numbers", std::span(target)),
                       message("\"numbers\" has 5 elements, expected 3").c_str(), dro::checkpoint_error);
  CHECK(target == std::vector<double>(3, 7.0));
  CHECK_THROWS_WITH_AS((void)reader.strings("text"), message("has no \"text.sizes\"").c_str(), dro::checkpoint_error);
}

TEST_CASE("lengths of strings that do not fit their characters") {
  const temporary_folder folder;
  const auto path = folder.path() / "checkpoint";
  constexpr auto huge = std::numeric_limits<std::uint64_t>::max();
  for (const std::vector<std::uint64_t>& sizes :
       std::vector<std::vector<std::uint64_t>>{{4}, {2, 2}, {huge}, {1, huge}, {1}, {}}) {
    checkpoint_writer writer;
    writer.add("names", "abc");
    writer.add("names.sizes", std::span<const std::uint64_t>(sizes));
    writer.write(path);
    CHECK_THROWS_AS((void)checkpoint_reader(path).strings("names"), dro::checkpoint_error);
  }
}

TEST_CASE("cut at any place") {
  const example_file file;
  for (std::size_t size = 0; size < file.bytes.size(); ++size) {
    CAPTURE(size);
    CHECK(refusal(file.bytes.substr(0, size)) == not_whole);
  }
  CHECK(refusal(file.bytes + '\0') == not_whole);
}

TEST_CASE("any bit flipped") {
  const example_file file;
  for (std::size_t bit = 0; bit < 8 * file.bytes.size(); ++bit) {
    CAPTURE(bit);
    std::string bytes = file.bytes;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    CHECK(refusal(bytes) == not_whole);
  }
}

// The checksum finds accidents. A file can also be wrong on purpose, or by a mistake of the program that wrote it.
TEST_CASE("any bit flipped or any place cut, with a checksum that fits") {
  const example_file file;
  const std::string body = file.bytes.substr(0, file.bytes.size() - 4);
  int taken = 0;
  int refused = 0;
  const auto read_all = [&](const std::string& bytes) {
    const std::string path = file.folder.write("changed", with_checksum(bytes));
    try {
      const checkpoint_reader reader(path);
      const auto count = reader.get<double>("numbers").size() + reader.get<std::uint32_t>("words").size() +
                         reader.text("text").size() + reader.strings("names").size();
      CHECK(count <= body.size());
      ++taken;
    } catch (const dro::checkpoint_error&) {
      ++refused;
    }
  };
  for (std::size_t bit = 0; bit < 8 * body.size(); ++bit) {
    std::string bytes = body;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    read_all(bytes);
  }
  for (std::size_t size = 8; size < body.size(); ++size) read_all(body.substr(0, size));
  // A flip within the values of an array goes unnoticed; every cut, and a flip in any of the names asked for, does not.
  CHECK(taken > 0);
  CHECK(refused >= static_cast<int>(body.size() - 8));
}

TEST_CASE("sizes larger than the file") {
  const std::string magic = "DROCKPT1";
  const auto entry = [](std::uint32_t name, std::uint8_t size, std::uint64_t count) {
    return raw(name) + "a" + raw(size) + raw(count);
  };
  CHECK(refusal(with_checksum(magic + entry(1, 0, 1))) == not_whole);           // elements of no size
  CHECK(refusal(with_checksum(magic + entry(1, 8, 1))) == not_whole);           // elements that are not there
  CHECK(refusal(with_checksum(magic + entry(0xFFFFFFFF, 8, 0))) == not_whole);  // a name longer than the file
  // numbers of elements whose size in bytes overflows to 0 and to 8
  CHECK(refusal(with_checksum(magic + entry(1, 8, std::uint64_t{1} << 61))) == not_whole);
  CHECK(refusal(with_checksum(magic + entry(1, 8, (std::uint64_t{1} << 61) + 1) + raw(1.0))) == not_whole);
}

TEST_CASE("no checkpoint") {
  CHECK(refusal("") == not_whole);
  CHECK(refusal("DROCKPT1") == not_whole);
  CHECK(refusal(with_checksum("DROCKPT2")) == not_whole);
  CHECK(refusal(R"({"options": {"method": "dro"}})") == not_whole);
  CHECK(refusal(gzipped("DROCKPT1")) == not_whole);
}

TEST_CASE("files that cannot be read") {
  const temporary_folder folder;
  const auto none = (folder.path() / "none").string();
  CHECK_THROWS_WITH_AS(checkpoint_reader{none}, (none + ": cannot be read: No such file or directory").c_str(),
                       dro::file_error);
  const std::string itself = folder.path().string();
  CHECK_THROWS_WITH_AS(checkpoint_reader{itself}, (itself + ": cannot be read: Is a directory").c_str(),
                       dro::file_error);
}

TEST_CASE("writing replaces the file and leaves nothing else") {
  const temporary_folder folder;
  const std::string path = folder.write("file", "a longer text before");
  const std::string text = "after";
  write_file_atomically(path, text);
  CHECK(read_bytes(path) == text);
  write_file_atomically(path, {});
  CHECK(read_bytes(path).empty());
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a write that fails leaves the old file") {
  const temporary_folder folder;
  const std::string path = folder.write("file", "before");
  const std::string below = path + "/file";
  CHECK_THROWS_WITH_AS(write_file_atomically(below, path), (below + ": cannot be written: Not a directory").c_str(),
                       dro::file_error);
  std::filesystem::create_directory(folder.path() / "taken");
  const std::string taken = (folder.path() / "taken").string();
  CHECK_THROWS_WITH_AS(write_file_atomically(taken, path), (taken + ": cannot be written: Is a directory").c_str(),
                       dro::file_error);
  CHECK(std::filesystem::is_directory(taken));

  // A file-size limit, as on a full disk: part of the new file is written, then no more.
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto action = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message;
  try {
    write_file_atomically(path, std::string(1000, 'x'));
  } catch (const dro::file_error& e) {
    message = e.what();
  }
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, action);
  CHECK(message == path + ": cannot be written: File too large");
  CHECK(read_bytes(path) == "before");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 2);
}
