// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ERROR_HPP
#define DRO_ERROR_HPP

/// \file
/// The exceptions the library throws. Each message names the place (file, line, record, field, argument) and the
/// value that was found there. Numerical trouble inside a step never throws: see `dro::status`.

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

namespace dro {

/// Base of every exception thrown on purpose by the library.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A matrix, list or batch has a size that the call cannot take.
class shape_error : public error {
 public:
  using error::error;
};

/// An option or argument lies outside what the call can take.
class option_error : public error {
 public:
  using error::error;
};

/// A file cannot be opened, read or written. `path()` names it.
class file_error : public error {
 public:
  file_error(const std::string& path, const std::string& what) : file_error(path, path, what) {}
  /// The file as the caller named it.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 protected:
  file_error(std::string path, const std::string& place, const std::string& what)
      : error(place + ": " + what), path_(std::move(path)) {}

 private:
  std::string path_;
};

/// A file was read but what it says is not what its format asks for. `line()` is 1-based, 0 where lines mean nothing.
class data_error : public file_error {
 public:
  data_error(const std::string& path, std::size_t line, const std::string& what)
      : file_error(path, line == 0 ? path : path + ":" + std::to_string(line), what), line_(line) {}
  [[nodiscard]] std::size_t line() const noexcept { return line_; }

 private:
  std::size_t line_;
};

/// A checkpoint is damaged, or was written by a run with other options.
class checkpoint_error : public file_error {
 public:
  using file_error::file_error;
};

}  // namespace dro

#endif
