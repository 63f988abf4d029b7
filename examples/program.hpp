// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_PROGRAM_HPP
#define DRO_EXAMPLES_PROGRAM_HPP

/// \file
/// What the example programs with a command line have in common: options, errors, exit status, output.

#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <dro/error.hpp>

namespace program {

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

/// For options of an unsigned type, where CLI11 lets -1 wrap around: what is wrong with `text`, empty if nothing is.
inline std::string not_negative(const std::string& text) {
  return text.starts_with('-') ? "is " + text + ", expected at least 0" : "";
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
