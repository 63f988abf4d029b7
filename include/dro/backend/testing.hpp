// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_TESTING_HPP
#define DRO_BACKEND_TESTING_HPP

/// \file
/// Backends for tests: one that does nothing until somebody asks for a result, one that counts the asking, and one that
/// runs each row by several threads.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// A matrix whose memory the deferred backend keeps until the work queued on it is done. Column-major, so that code
/// which assumes rows are contiguous fails on it.
template <class T>
class deferred_matrix {
 public:
  deferred_matrix() = default;
  deferred_matrix(std::shared_ptr<T[]> elements, index_t rows, index_t cols)
      : elements_(std::move(elements)), rows_(rows), cols_(cols) {}

  deferred_matrix(deferred_matrix&&) noexcept = default;
  deferred_matrix& operator=(deferred_matrix&&) noexcept = default;

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] T* data() const { return elements_.get(); }

 private:
  std::shared_ptr<T[]> elements_;
  index_t rows_ = 0;
  index_t cols_ = 0;
};

/// Behaves as a GPU does, on the host: `run`, `matmul` and `write` only queue, and everything queued is carried out, in
/// order, at the next `read` or `synchronise`. New memory holds NaN (or −1), so that a result nobody wrote shows. Code
/// that looks at memory without `read` sees that poison.
class deferred_backend {
 public:
  template <class T>
  using matrix = deferred_matrix<T>;

  static constexpr bool runs_on_host = true;

  explicit deferred_backend(int threads = 1) : host_(threads) {}

  [[nodiscard]] int threads() const { return host_.threads(); }

  template <class T>
  [[nodiscard]] matrix<T> make(index_t rows, index_t cols) {
    if (rows < 0 || cols < 0) throw shape_error("deferred_matrix of shape " + detail::shape_text(rows, cols));
    const auto count = static_cast<std::size_t>(rows * cols);
    std::shared_ptr<T[]> elements(new T[count]);
    std::memset(elements.get(), 0xFF, count * sizeof(T));
    kept_.push_back(elements);
    return matrix<T>(std::move(elements), rows, cols);
  }
  template <class T>
  [[nodiscard]] matrix_view<T> view(matrix<T>& m) const {
    return {m.data(), m.rows(), m.cols(), 1, m.rows()};
  }
  template <class T>
  [[nodiscard]] matrix_view<const T> view(const matrix<T>& m) const {
    return {m.data(), m.rows(), m.cols(), 1, m.rows()};
  }

  template <class Program>
  void run(index_t rows, const Program& program) {
    queue_.push_back([this, rows, program] { host_.run(rows, program); });
  }

  template <class T>
  void matmul(T alpha, matrix_view<const T> a, matrix_view<const T> x, T beta, matrix_view<T> c,
              const matmul_options& options) {
    queue_.push_back([=, this] { host_.matmul(alpha, a, x, beta, c, options); });
  }

  template <class T>
  void write(const T* source, matrix_view<T> target) {
    std::vector<T> copy(source, source + target.rows * target.cols);
    queue_.push_back([this, copy = std::move(copy), target] { host_.write(copy.data(), target); });
  }

  /// Carries out what is queued, then copies.
  template <class T>
  void read(matrix_view<const T> source, T* target) {
    ++reads_;
    flush();
    host_.read(source, target);
  }

  void synchronise() {
    ++synchronisations_;
    flush();
  }

  /// Calls of `read` so far.
  [[nodiscard]] std::size_t reads() const { return reads_; }
  /// Calls of `synchronise` so far.
  [[nodiscard]] std::size_t synchronisations() const { return synchronisations_; }
  /// Calls of `run`, `matmul` and `write` that have not been carried out.
  [[nodiscard]] std::size_t pending() const { return queue_.size(); }

 private:
  void flush() {
    const auto work = std::exchange(queue_, {});
    for (const auto& item : work) item();
    std::erase_if(kept_, [](const std::shared_ptr<void>& memory) { return memory.use_count() == 1; });
  }

  host_base host_;
  std::vector<std::function<void()>> queue_;
  std::vector<std::shared_ptr<void>> kept_;
  std::size_t reads_ = 0;
  std::size_t synchronisations_ = 0;
};

/// Any backend, with its reads, writes, programs and synchronisations counted.
template <class Base>
class counting_backend : public Base {
 public:
  using Base::Base;

  template <class Program>
  void run(index_t rows, const Program& program) {
    ++runs_;
    Base::run(rows, program);
  }
  template <class T>
  void read(matrix_view<const T> source, T* target) {
    ++reads_;
    Base::read(source, target);
  }
  template <class T>
  void write(const T* source, matrix_view<T> target) {
    ++writes_;
    Base::write(source, target);
  }
  void synchronise() {
    ++synchronisations_;
    Base::synchronise();
  }

  [[nodiscard]] std::size_t runs() const { return runs_; }
  [[nodiscard]] std::size_t reads() const { return reads_; }
  [[nodiscard]] std::size_t writes() const { return writes_; }
  [[nodiscard]] std::size_t synchronisations() const { return synchronisations_; }

 private:
  std::size_t runs_ = 0;
  std::size_t reads_ = 0;
  std::size_t writes_ = 0;
  std::size_t synchronisations_ = 0;
};

/// One thread of a team of several, on the host: as hard on a row program as the contract of a team allows, harder than
/// a GPU is. See concurrent_backend.
class concurrent_team {
 public:
  /// What the threads of one team share.
  class shared_state {
   public:
    shared_state(index_t size, std::size_t scratch_bytes)
        : slots_(static_cast<std::size_t>(2 * size)),
          scratch_((scratch_bytes + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t)) {}

   private:
    friend class concurrent_team;

    // What a thread tells the others, twice so that one can be written while the other is still read. Each word holds
    // in its upper half which exchange it belongs to, and so needs no order between the words.
    struct alignas(64) slot {
      std::atomic<std::uint64_t> call{0}, low{0}, high{0};
    };

    std::vector<slot> slots_;
    std::vector<std::max_align_t> scratch_;
  };

  concurrent_team(shared_state& shared, index_t size, index_t rank) : shared_(&shared), size_(size), rank_(rank) {}

  [[nodiscard]] index_t size() const { return size_; }
  [[nodiscard]] index_t rank() const { return rank_; }

  template <class F>
  void for_each(index_t n, F&& f) {
    const index_t first = begin_call(kind::for_each, n);
    for (index_t i = first; i < n; i += size_) f(i);
  }

  /// Every size()-th item from each of the first ones on, and then these sums from the left.
  template <class T, class F>
  [[nodiscard]] T sum(index_t n, F&& f) {
    const index_t first = begin_call(kind::sum, n);
    T partial{};
    for (index_t i = first; i < n; i += size_) partial += f(i);
    using part = detail::summand<T>;
    T total{};
    for (int k = 0; k < part::size; ++k) {
      exchange<std::memory_order_relaxed>(part::at(partial, k),
                                          [&](index_t, typename part::number other) { part::at(total, k) += other; });
    }
    return total;
  }

  template <class T, class F>
  [[nodiscard]] T max(index_t n, T lowest, F&& f) {
    const index_t first = begin_call(kind::max, n);
    T best = lowest;
    for (index_t i = first; i < n; i += size_) {
      const T value = f(i);
      best = value > best ? value : best;
    }
    T largest = lowest;
    exchange<std::memory_order_relaxed>(best, [&](index_t, T other) { largest = other > largest ? other : largest; });
    return largest;
  }

  template <class T, class F>
  [[nodiscard]] index_t arg_max(index_t n, T lowest, F&& f) {
    const index_t first = begin_call(kind::arg_max, n);
    T best = lowest;
    index_t where = n;
    for (index_t i = first; i < n; i += size_) {
      const T value = f(i);
      if (value > best) {
        best = value;
        where = i;
      }
    }
    T largest = lowest;
    exchange<std::memory_order_relaxed>(best, [&](index_t, T other) { largest = other > largest ? other : largest; });
    index_t smallest = n;
    exchange<std::memory_order_relaxed>(
        best == largest ? where : n, [&](index_t, index_t other) { smallest = other < smallest ? other : smallest; });
    return smallest;
  }

  /// As many items at a time as there are threads, from the left.
  template <class T, class F, class Out>
  T inclusive_scan(index_t n, F&& f, Out&& out) {
    const index_t first = begin_call(kind::inclusive_scan, n);
    T before{};
    for (index_t begin = 0; begin < n; begin += size_) {
      const index_t i = begin + first;
      T here = before;
      exchange<std::memory_order_relaxed>(i < n ? static_cast<T>(f(i)) : T{}, [&](index_t k, T other) {
        before += other;
        if (k == first) here = before;
      });
      if (i < n) out(i, here);
    }
    return before;
  }

  [[nodiscard]] bool any(bool mine) {
    begin_call(kind::any, 0);
    bool found = false;
    exchange<std::memory_order_relaxed>(mine, [&](index_t, bool other) { found = found || other; });
    return found;
  }

  void barrier() {
    begin_call(kind::barrier, 0);
    exchange<std::memory_order_acq_rel>(index_t{0}, [](index_t, index_t) {});
  }

  template <class T>
  [[nodiscard]] T* scratch(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(shared_->scratch_.data()) + byte_offset);
  }

  /// Fills the scratch with 0xFF and waits for all: before each row.
  void begin_row() {
    barrier();
    auto& memory = shared_->scratch_;
    if (rank_ == 0 && !memory.empty()) std::memset(memory.data(), 0xFF, memory.size() * sizeof(std::max_align_t));
    barrier();
  }

 private:
  enum class kind : std::uint32_t { for_each, sum, max, arg_max, inclusive_scan, any, barrier };

  /// Notes that a member is called; returns the first item of this thread, another one at each call.
  index_t begin_call(kind member, index_t n) {
    shift_ = (shift_ + 1) % size_;
    signature_ = (signature_ * 31 + static_cast<std::uint32_t>(member)) * 31 + static_cast<std::uint32_t>(n);
    return (rank_ + shift_) % size_;
  }

  /// Calls take(k, value) with the value of the thread whose first item is k, k = 0 … size() − 1. If `Order` is relaxed
  /// no other memory becomes visible by it.
  template <std::memory_order Order, class T, class Take>
  void exchange(T value, Take&& take) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    constexpr bool orders = Order != std::memory_order_relaxed;
    constexpr auto release = orders ? std::memory_order_release : std::memory_order_relaxed;
    constexpr auto acquire = orders ? std::memory_order_acquire : std::memory_order_relaxed;
    ++exchanges_;
    const std::uint64_t tag = std::uint64_t{exchanges_} << 32;
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    auto* slots = shared_->slots_.data() + static_cast<index_t>(exchanges_ % 2) * size_;
    auto& own = slots[rank_];
    own.low.store(tag | (bits & 0xFFFFFFFFU), std::memory_order_relaxed);
    own.high.store(tag | (bits >> 32), std::memory_order_relaxed);
    own.call.store(tag | signature_, release);
    const auto wait_for = [&](const std::atomic<std::uint64_t>& word) {
      std::uint64_t seen = word.load(acquire);
      while (seen >> 32 != exchanges_) {
        std::this_thread::yield();
        seen = word.load(acquire);
      }
      return seen & 0xFFFFFFFFU;
    };
    for (index_t k = 0; k < size_; ++k) {
      const index_t other = (k + size_ - shift_) % size_;
      if (wait_for(slots[other].call) != signature_) {
        throw error("the threads of a team called different members, or in another order");
      }
      bits = wait_for(slots[other].low) | wait_for(slots[other].high) << 32;
      std::memcpy(&value, &bits, sizeof(T));
      take(k, value);
    }
  }

  shared_state* shared_;
  index_t size_;
  index_t rank_;
  index_t shift_ = 0;
  std::uint32_t exchanges_ = 0;
  std::uint32_t signature_ = 0;
};

/// Runs each row by a team of several threads, and several rows at a time, as a GPU does, on the host: what a program
/// forgets about its team, or about other rows, shows.
/// A local variable changed by several threads or a value that only one of them has written is wrong in the result, or
/// in a thread sanitizer's report, which here is exact: a sum, a maximum or a scan makes the threads wait for each
/// other without any memory becoming visible, only barrier() does that; which thread runs an item changes from call to
/// call. Threads that do not call the same members in the same order end the program with a message. Scratch holds NaN
/// (or −1) before each row, and so does new memory.
///
/// The order of a sum depends on the team's size and on n. A program may not throw, and host_executed is not met: what
/// calls a user's C++ function for each row is not run by several threads.
class concurrent_backend : public host_backend {
 public:
  static constexpr bool runs_on_host = false;

  /// Throws option_error unless 1 ≤ team_size ≤ 64 and 1 ≤ teams ≤ 64.
  explicit concurrent_backend(int team_size = 3, int teams = 2)
      : host_backend(1), team_size_(team_size), teams_(teams) {
    if (team_size < 1 || team_size > 64 || teams < 1 || teams > 64) {
      throw option_error("concurrent_backend: " + std::to_string(teams) + " teams of " + std::to_string(team_size) +
                         ", expected 1 to 64 of 1 to 64");
    }
  }

  /// Threads that share a row.
  [[nodiscard]] int team_size() const { return team_size_; }
  /// Rows at a time.
  [[nodiscard]] int teams() const { return teams_; }

  template <class T>
  [[nodiscard]] matrix<T> make(index_t rows, index_t cols) const {
    matrix<T> m(rows, cols);
    if (rows * cols > 0) std::memset(m.data(), 0xFF, static_cast<std::size_t>(rows * cols) * sizeof(T));
    return m;
  }

  /// Calls program(team, row) for each row in [0, rows); team k takes every teams()-th row from row k on.
  template <class Program>
  void run(index_t rows, const Program& program) const {
    const std::size_t scratch_bytes = detail::scratch_bytes_of<concurrent_team>(program, team_size_);
    std::vector<concurrent_team::shared_state> shared;
    shared.reserve(static_cast<std::size_t>(teams_));
    for (index_t k = 0; k < teams_; ++k) shared.emplace_back(team_size_, scratch_bytes);
    const auto work = [&](index_t k, index_t rank) {
      concurrent_team team(shared[static_cast<std::size_t>(k)], team_size_, rank);
      for (index_t row = k; row < rows; row += teams_) {
        team.begin_row();
        program(team, row);
      }
      team.barrier();  // a thread that is done while others are not has left something out
    };
    std::vector<std::thread> threads;
    for (index_t k = 0; k < teams_ && k < rows; ++k) {
      for (index_t rank = 0; rank < team_size_; ++rank) threads.emplace_back(work, k, rank);
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  int team_size_;
  int teams_;
};

static_assert(backend<deferred_backend> && backend<counting_backend<host_backend>> && backend<concurrent_backend>);

}  // namespace dro

#endif
