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

/// A call to a GPU's runtime or to its BLAS failed. The message is the call, with the arguments that matter, and the
/// library's own text; for work that was queued earlier also what was queued last.
class device_error : public error {
 public:
  device_error(const std::string& call, const std::string& reason) : error(call + ": " + reason), call_(call) {}
  /// The call that said so, which need not be the one whose work failed: kernels run after they are queued.
  [[nodiscard]] const std::string& call() const noexcept { return call_; }

 private:
  std::string call_;
};

/// A GPU has no memory left for a matrix or a workspace.
class device_memory_error : public device_error {
 public:
  device_memory_error(const std::string& call, std::size_t bytes_asked, std::size_t bytes_free)
      : device_error(call, "out of memory: " + std::to_string(bytes_asked) + " bytes asked for, " +
                               std::to_string(bytes_free) + " free on the device"),
        bytes_asked_(bytes_asked),
        bytes_free_(bytes_free) {}
  [[nodiscard]] std::size_t bytes_asked() const noexcept { return bytes_asked_; }
  /// Free when the call failed, in pieces that may each be too small.
  [[nodiscard]] std::size_t bytes_free() const noexcept { return bytes_free_; }

 private:
  std::size_t bytes_asked_;
  std::size_t bytes_free_;
};

/// There is no GPU, no driver, or a driver too old for the program.
class no_device_error : public device_error {
 public:
  using device_error::device_error;
};

/// The program holds no code for the GPU it runs on: it was compiled for other architectures.
class device_architecture_error : public device_error {
 public:
  using device_error::device_error;
};

/// Something was asked of a stream that is being captured which cannot become part of a graph: a wait, or a copy whose
/// host memory the graph would have to keep.
class device_capture_error : public device_error {
 public:
  using device_error::device_error;
};

}  // namespace dro

#endif
