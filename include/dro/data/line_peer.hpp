// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_LINE_PEER_HPP
#define DRO_DATA_LINE_PEER_HPP

/// \file
/// Another process with which lines of text are exchanged, over a pair of pipes or anything else with descriptors.

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dro/error.hpp>

namespace dro::data {

namespace detail {

/// A file descriptor that is closed with this object.
class owned_descriptor {
 public:
  explicit owned_descriptor(int number = -1) : number_(number) {}
  ~owned_descriptor() { close(); }
  owned_descriptor(const owned_descriptor&) = delete;
  owned_descriptor& operator=(const owned_descriptor&) = delete;
  owned_descriptor(owned_descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  owned_descriptor& operator=(owned_descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }

  [[nodiscard]] int get() const { return number_; }
  void close() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
  }

 private:
  int number_;
};

/// Both ends of a pipe, not inherited by programs that are started, and none of them one of the three standard numbers.
struct pipe_ends {
  owned_descriptor read;
  owned_descriptor write;

  /// `name` is for the message of the file_error.
  explicit pipe_ends(const std::string& name) {
    std::array<int, 2> ends{};
    bool made = ::pipe2(ends.data(), O_CLOEXEC) == 0;
    if (made) {
      read = owned_descriptor(ends[0]);
      write = owned_descriptor(ends[1]);
      made = lift(read) && lift(write);
    }
    if (!made) throw file_error(name, std::string("cannot be started: ") + std::strerror(errno));
  }

 private:
  // A program that was itself started without standard input gets 0 as a new descriptor.
  static bool lift(owned_descriptor& end) {
    if (end.get() > STDERR_FILENO) return true;
    owned_descriptor higher(::fcntl(end.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    std::swap(end, higher);
    return end.get() >= 0;
  }
};

/// While this object lives, a write to a pipe that nobody reads gives EPIPE to this thread and not SIGPIPE to the
/// process, whatever the program has done about signals.
class sigpipe_guard {
 public:
  sigpipe_guard() {
    sigset_t pending;
    ::sigpending(&pending);
    was_pending_ = ::sigismember(&pending, SIGPIPE) == 1;
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~sigpipe_guard() {
    const int saved = errno;
    constexpr timespec at_once{};
    if (!was_pending_) {
      while (::sigtimedwait(&pipe_, nullptr, &at_once) < 0 && errno == EINTR) {
      }
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = saved;
  }
  sigpipe_guard(const sigpipe_guard&) = delete;
  sigpipe_guard& operator=(const sigpipe_guard&) = delete;

 private:
  sigset_t pipe_{};
  sigset_t before_{};
  bool was_pending_ = false;
};

}  // namespace detail

struct line_peer_options {
  /// How long to wait when the other end neither reads nor writes; 0: for as long as it is there.
  std::chrono::milliseconds timeout{0};
  /// How long a process that was started here may take to end once its input is closed, before it is killed.
  std::chrono::milliseconds patience{10'000};
};

/// The other end of an exchange of lines: a process that is started here, or whatever is behind two descriptors. It is
/// written to and read from at the same time, so neither end has to know when the other reads. Not for use by several
/// threads at once. POSIX.
class line_peer {
 public:
  /// Starts a program, looked for on PATH, whose standard input and output are the exchange; standard error and the
  /// environment are this program's. No shell is involved. \throws option_error for an empty command, file_error
  /// where the program cannot be started.
  explicit line_peer(std::vector<std::string> command, const line_peer_options& options = {})
      : line_peer(options, joined(command)) {
    detail::pipe_ends to(name_);
    detail::pipe_ends from(name_);
    start(command, to.read.get(), from.write.get());
    read_ = std::move(from.read);
    write_ = std::move(to.write);
    become_nonblocking();
  }

  /// Takes over two descriptors, which are closed with this object and made non-blocking; for a socket give a duplicate
  /// as one of them. `name` is for messages. \throws file_error where they are not open.
  line_peer(std::string name, int read_descriptor, int write_descriptor, const line_peer_options& options = {})
      : line_peer(options, std::move(name)) {
    read_ = detail::owned_descriptor(read_descriptor);
    write_ = detail::owned_descriptor(write_descriptor);
    become_nonblocking();
  }

  /// Closes the exchange, which tells the other end to finish, and waits for a process that was started here to end; it
  /// is killed when `patience` is over.
  ~line_peer() {
    write_.close();
    read_.close();
    if (process_ > 0 && !has_ended_within(options_.patience)) {
      ::kill(process_, SIGKILL);
      while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
  }
  line_peer(const line_peer&) = delete;
  line_peer& operator=(const line_peer&) = delete;

  /// The command, or the name that was given.
  [[nodiscard]] const std::string& name() const { return name_; }

  /// Sends `outgoing` lines and takes `incoming` ones, and returns when both is done. `write(i, text)` appends line i
  /// and its line feed to `text`; it is called as the lines are needed, so that only a part is in memory.
  /// `read(line, number)` is given each line without its line feed, and its number since the beginning, from 1;
  /// blank lines are passed over. What either throws ends the exchange.
  ///
  /// \throws file_error where the other end closes the exchange before that, where it does nothing for `timeout`, and
  /// where an exchange failed before: nobody knows then which line answers what.
  template <class Write, class Read>
  void exchange(std::size_t outgoing, Write&& write, std::size_t incoming, Read&& read) {
    if (failed_) fail("cannot be used any more: an exchange failed before");
    failed_ = true;
    std::string text;
    std::size_t sent = 0;
    std::size_t next = 0;
    bool listens = true;  // an end that reads no more may still have said something: that is taken first
    for (;;) {
      take_lines(incoming, read);
      if (listens && sent == text.size()) {
        text.clear();
        sent = 0;
        while (next < outgoing && text.size() < piece) write(next++, text);
      }
      if (text.empty() && incoming == 0) break;
      if (!listens && incoming == 0) fail(ending());
      const bool to_send = listens && !text.empty();
      wait(to_send, incoming);
      receive(incoming);
      if (to_send) listens = send(std::string_view(text).substr(sent), sent, incoming);
    }
    failed_ = false;
  }

 private:
  static constexpr std::size_t piece = std::size_t{1} << 16U;

  // Options first, or {"program", "argument"} could mean a name.
  line_peer(const line_peer_options& options, std::string name) : name_(std::move(name)), options_(options) {
    constexpr std::chrono::hours longest{24 * 365};
    for (const auto time : {options.timeout, options.patience}) {
      if (time.count() < 0 || time > longest) {
        throw option_error(name_ + ": timeout or patience is " + std::to_string(time.count()) +
                           " ms, expected 0 to a year");
      }
    }
  }

  [[nodiscard]] static std::string joined(const std::vector<std::string>& command) {
    if (command.empty()) throw option_error("line_peer: the command is empty");
    std::string all;
    for (const std::string& word : command) all += (all.empty() ? "" : " ") + word;
    return all;
  }

  void start(std::vector<std::string>& command, int input, int output) {
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    // Programs expect to end by SIGPIPE, also where this one ignores it.
    sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGPIPE);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    const int failure = ::posix_spawnp(&process_, arguments[0], &actions, &attributes, arguments.data(), ::environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (failure != 0) {
      process_ = -1;
      fail(std::string("cannot be started: ") + std::strerror(failure));
    }
  }

  void become_nonblocking() {
    for (const int descriptor : {read_.get(), write_.get()}) {
      const int flags = ::fcntl(descriptor, F_GETFL);
      if (flags < 0 || ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) {
        fail(std::string("cannot be used: ") + std::strerror(errno));
      }
    }
  }

  /// Hands out whole lines that have been received, as long as some are wanted.
  template <class Read>
  void take_lines(std::size_t& incoming, Read& read) {
    std::size_t begin = 0;
    while (incoming > 0) {
      const std::size_t end = received_.find('\n', std::max(begin, searched_));
      if (end == std::string::npos) {
        searched_ = received_.size();
        break;
      }
      const auto line = std::string_view(received_).substr(begin, end - begin);
      begin = end + 1;
      searched_ = begin;
      ++line_;
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      --incoming;
      read(line, line_);
    }
    received_.erase(0, begin);
    searched_ -= begin;
  }

  /// Waits until something can be read or, if there is something to send, written.
  void wait(bool to_send, std::size_t incoming) {
    std::array<pollfd, 2> both{{{read_.get(), POLLIN, 0}, {to_send ? write_.get() : -1, POLLOUT, 0}}};
    const auto limit =
        std::min<std::chrono::milliseconds::rep>(options_.timeout.count(), std::numeric_limits<int>::max());
    const int ready = ::poll(both.data(), both.size(), limit > 0 ? static_cast<int>(limit) : -1);
    if (ready == 0) {
      fail("did nothing for " + std::to_string(limit) + " ms" + still_expected(incoming) +
           " (the option `timeout`; does it flush every line?)");
    }
    if (ready < 0 && errno != EINTR) fail(std::string("cannot be waited for: ") + std::strerror(errno));
  }

  /// Takes what is there to read.
  void receive(std::size_t incoming) {
    std::array<char, piece> buffer;
    const ::ssize_t count = ::read(read_.get(), buffer.data(), buffer.size());
    if (count > 0) {
      received_.append(buffer.data(), static_cast<std::size_t>(count));
      constexpr std::size_t longest_line = std::size_t{1} << 26U;
      if (received_.size() > longest_line && received_.find('\n') == std::string::npos) {
        fail("sends a line of more than 64 MiB" + still_expected(incoming));
      }
    } else if (count == 0) {
      fail(ending() + still_expected(incoming));
    } else if (!is_passing(errno)) {
      fail(std::string("cannot be read: ") + std::strerror(errno) + still_expected(incoming));
    }
  }

  /// Sends what fits of `text` and adds to `sent` how much that was; false if the other end reads no more.
  [[nodiscard]] bool send(std::string_view text, std::size_t& sent, std::size_t incoming) {
    const detail::sigpipe_guard guard;
    const ::ssize_t count = ::write(write_.get(), text.data(), text.size());
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
      return true;
    }
    if (errno == EPIPE) return false;
    if (!is_passing(errno)) fail(std::string("cannot be written: ") + std::strerror(errno) + still_expected(incoming));
    return true;
  }

  [[nodiscard]] static bool is_passing(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;  // NOLINT(misc-redundant-expression)
  }

  [[nodiscard]] static std::string still_expected(std::size_t incoming) {
    return incoming == 0 ? std::string() : ", with " + std::to_string(incoming) + " more lines expected of it";
  }

  /// Waits for the process to end; true if it has.
  [[nodiscard]] bool has_ended_within(std::chrono::milliseconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    for (auto pause = std::chrono::milliseconds(1);; pause = std::min(2 * pause, std::chrono::milliseconds(50))) {
      const pid_t ended = ::waitpid(process_, &status_, WNOHANG);
      if (ended == process_ || (ended < 0 && errno != EINTR)) {
        process_ = -1;
        return true;
      }
      if (std::chrono::steady_clock::now() >= until) return false;
      std::this_thread::sleep_for(pause);
    }
  }

  /// What became of the other end, which does not read or write any more.
  [[nodiscard]] std::string ending() {
    if (process_ > 0 && has_ended_within(std::chrono::seconds(1))) {
      if (WIFEXITED(status_)) return "ended with exit status " + std::to_string(WEXITSTATUS(status_));
      if (WIFSIGNALED(status_)) return "was ended by signal " + std::to_string(WTERMSIG(status_));
    }
    return "closed the exchange";
  }

  [[noreturn]] void fail(const std::string& what) const { throw file_error(name_, what); }

  std::string name_;
  line_peer_options options_;
  detail::owned_descriptor read_;
  detail::owned_descriptor write_;
  pid_t process_ = -1;  // where it was started here and has not ended
  int status_ = 0;
  std::string received_;      // not yet handed out
  std::size_t searched_ = 0;  // so far there is no line feed in it
  std::size_t line_ = 0;
  bool failed_ = false;
};

}  // namespace dro::data

#endif
