// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_PROGRAM_HPP
#define DRO_EXAMPLES_PROGRAM_HPP

/// \file
/// What the example programs with a command line have in common: options, errors, exit status, output.

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include <dro/error.hpp>

namespace program {

/// CRC-32 of a file's bytes, by which a resumed run knows its data again; 0 of a pipe, which cannot be read twice.
/// Throws dro::file_error.
[[nodiscard]] inline std::uint32_t file_crc(const std::filesystem::path& path) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(path, failure)) return 0;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) throw dro::file_error(path.string(), "cannot be read");
  unsigned char buffer[1 << 15];
  uLong crc = 0;
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, file.get())) crc = ::crc32_z(crc, buffer, n);
  return static_cast<std::uint32_t>(crc);
}

/// Seconds since it was made.
class stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// JSON knows neither NaN nor infinity: they become null.
[[nodiscard]] inline nlohmann::json number(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

/// For options of an unsigned type, where CLI11 lets -1 wrap around and takes the largest number there is for a larger
/// one: what is wrong with `text`, empty if nothing is.
inline std::string is_natural(const std::string& text) {
  if (text.starts_with('-')) return "is " + text + ", expected at least 0";
  std::uint64_t value = 0;
  const bool fits = std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc::result_out_of_range;
  return fits ? "" : "is " + text + ", expected at most " + std::to_string(std::numeric_limits<std::uint64_t>::max());
}

/// Writes out what is buffered: results that go to the standard output are results too. Throws dro::file_error if this,
/// or printing before it, failed.
inline void finish_standard_output() {
  errno = 0;
  const bool failed_before = std::ferror(stdout) != 0;
  if (std::fflush(stdout) == 0 && !failed_before) return;
  throw dro::file_error("standard output", std::string("cannot be written") +
                                               (errno == 0 ? "" : std::string(": ") + std::strerror(errno)));
}

/// Reads the options of `app`, which has a name, and returns what `run()` returns: the exit status. It is 2 for what
/// the user can mend (options, files, memory) and 1 for a fault of the program; either way a line on the standard error
/// says what happened.
template <class Run>
int start(CLI::App& app, int argc, char** argv, Run&& run) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  std::signal(SIGXFSZ, SIG_IGN);  // a full disk or file-size limit is an error of the write, not the end of the program
  const auto fail = [&](const char* kind, const char* what, int status) {
    std::fprintf(stderr, "%s: %s%s\n", app.get_name().c_str(), kind, what);
    return status;
  };
  try {
    return std::forward<Run>(run)();
  } catch (const dro::error& e) {
    return fail("", e.what(), 2);
  } catch (const std::bad_alloc&) {
    return fail("", "not enough memory for these questions and options", 2);
  } catch (const std::exception& e) {
    return fail("internal error: ", e.what(), 1);
  }
}

}  // namespace program

#endif
