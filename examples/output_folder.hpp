// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_OUTPUT_FOLDER_HPP
#define DRO_EXAMPLES_OUTPUT_FOLDER_HPP

/// \file
/// The folder that a training program writes to.

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <dro/data/output_file.hpp>
#include <dro/error.hpp>

namespace program {

/// A run's own for as long as this lives: a second run is refused, which would write over the first one's checkpoint.
/// The system takes the lock back however the program ends.
class output_folder {
 public:
  /// Makes the folder and sees that a run may write there, before any work is done. With `resume` a run that was
  /// stopped is gone on with. Throws dro::file_error if it cannot be made, locked or written to, dro::option_error if
  /// another run has it, or has left there what this one would destroy.
  output_folder(const std::filesystem::path& where, bool resume) : folder_(open(where)) {
    try {
      lock(where);
      remove_leftovers(where);
      require_writable(where);
      require_free(where, resume);
    } catch (...) {
      ::close(folder_);
      throw;
    }
  }
  ~output_folder() { ::close(folder_); }
  output_folder(const output_folder&) = delete;
  output_folder& operator=(const output_folder&) = delete;

 private:
  static int open(const std::filesystem::path& where) {
    std::error_code failure;
    std::filesystem::create_directories(where, failure);
    if (failure) throw dro::file_error(where.string(), "cannot be made: " + failure.message());
    const int folder = ::open(where.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) return folder;
    throw dro::file_error(where.string(), errno == ENOTDIR ? "is not a folder"
                                                           : std::string("cannot be opened: ") + std::strerror(errno));
  }

  void lock(const std::filesystem::path& where) const {
    // Some network file systems lock no folders: there two runs are the user's to keep apart.
    if (::flock(folder_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      throw dro::option_error(where.string() + " is another run's, which has not ended: name another folder");
    }
  }

  /// What a run that was killed in the middle of a write left behind.
  static void remove_leftovers(const std::filesystem::path& where) {
    std::error_code failure;
    for (const auto& entry : std::filesystem::directory_iterator(where, failure)) {
      if (entry.path().extension() == ".part") std::filesystem::remove(entry.path(), failure);
    }
  }

  static void require_writable(const std::filesystem::path& where) {
    const std::filesystem::path probe = where / ".writable";
    dro::data::write_file_atomically(probe, {});
    std::error_code failure;
    std::filesystem::remove(probe, failure);
  }

  static void require_free(const std::filesystem::path& where, bool resume) {
    std::error_code failure;
    const bool is_stopped = std::filesystem::exists(where / "checkpoint.dro", failure);
    if (!resume && is_stopped) {
      throw dro::option_error(where.string() +
                              " holds a run that was stopped: go on with --resume, or name another folder");
    }
    if (resume && !is_stopped && std::filesystem::exists(where / "report.json", failure)) {
      throw dro::option_error(
          where.string() + " holds a run that has finished: name another folder, or leave out --resume to replace it");
    }
  }

  int folder_;
};

}  // namespace program

#endif
