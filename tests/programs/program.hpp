// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_PROGRAMS_PROGRAM_HPP
#define DRO_TESTS_PROGRAMS_PROGRAM_HPP

/// \file
/// A program as its user meets it: arguments, what it prints, how it ends, and signals on the way.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "unit/data_files.hpp"

/// How a program ended and what it printed.
struct outcome {
  int status = -1;  ///< exit status; -1 if a signal ended it
  int signal = 0;   ///< the signal that ended it, 0 if it exited
  bool in_time = true;
  std::string out;
  std::string err;
};

struct run_limits {
  std::chrono::seconds time{300};                   ///< the program is killed after so long
  std::optional<rlim_t> file_size = {};             ///< bytes, of each file it writes
  std::optional<std::string> standard_output = {};  ///< a file that takes its standard output, instead of outcome::out
};

/// A program that runs beside this one. It is killed if this object goes away first.
class running_program {
 public:
  explicit running_program(std::vector<std::string> command, run_limits limits = {}) : limits_(std::move(limits)) {
    const std::string out = limits_.standard_output.value_or((folder_.path() / "out").string());
    const std::string err = (folder_.path() / "err").string();
    std::vector<char*> arguments;
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    id_ = ::fork();
    if (id_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (id_ == 0) become(arguments.data(), out.c_str(), err.c_str());
  }
  ~running_program() {
    if (id_ <= 0) return;
    ::kill(id_, SIGKILL);
    int ignored = 0;
    ::waitpid(id_, &ignored, 0);
  }
  running_program(const running_program&) = delete;
  running_program& operator=(const running_program&) = delete;

  /// Sends a signal. Nothing happens where the program has ended.
  void send(int signal) const { ::kill(id_, signal); }

  /// True once the program has ended.
  [[nodiscard]] bool has_ended() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(id_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == id_;
  }

  /// What it has printed on its standard error by now.
  [[nodiscard]] std::string errors_so_far() const { return read_bytes(folder_.path() / "err"); }

  /// Waits until `wanted()` is true (then true) or the program has ended.
  template <class F>
  bool wait_until(F&& wanted) const {
    while (!wanted()) {
      if (has_ended() || out_of_time()) return wanted();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  /// Waits for the end. To be called once.
  [[nodiscard]] outcome wait() {
    outcome o;
    o.in_time = wait_until([&] { return has_ended(); });
    if (!o.in_time) send(SIGKILL);
    int status = 0;
    ::waitpid(id_, &status, 0);
    id_ = -1;
    if (WIFEXITED(status)) o.status = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) o.signal = WTERMSIG(status);
    if (!limits_.standard_output) o.out = read_bytes(folder_.path() / "out");
    o.err = errors_so_far();
    return o;
  }

 private:
  [[nodiscard]] bool out_of_time() const { return std::chrono::steady_clock::now() - start_ > limits_.time; }

  /// In the new process. Ends it with status 127 where the program cannot be started.
  [[noreturn]] void become(char* const* arguments, const char* out, const char* err) const {
    const int in_file = ::open("/dev/null", O_RDONLY);
    const int out_file = ::open(out, O_WRONLY | O_CREAT, 0600);
    const int err_file = ::open(err, O_WRONLY | O_CREAT, 0600);
    bool ready = ::dup2(in_file, STDIN_FILENO) >= 0 && ::dup2(out_file, STDOUT_FILENO) >= 0 &&
                 ::dup2(err_file, STDERR_FILENO) >= 0;
    if (limits_.file_size) {
      const rlimit limit{*limits_.file_size, *limits_.file_size};
      ready = ready && ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
    }
    if (ready) ::execv(arguments[0], arguments);
    ::_exit(127);
  }

  run_limits limits_;
  temporary_folder folder_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  pid_t id_ = -1;
};

/// Runs a program to its end.
[[nodiscard]] inline outcome run_program(std::vector<std::string> command, run_limits limits = {}) {
  return running_program(std::move(command), std::move(limits)).wait();
}

#endif
