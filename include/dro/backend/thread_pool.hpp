// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_THREAD_POOL_HPP
#define DRO_BACKEND_THREAD_POOL_HPP

/// \file
/// Independent rows over threads: oneTBB with DRO_THREADS_TBB, OpenMP with DRO_THREADS_OPENMP, else one thread.

#include <algorithm>
#include <string>

#include <dro/config.hpp>
#include <dro/error.hpp>

#if defined(DRO_THREADS_TBB)
#include <memory>

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#elif defined(DRO_THREADS_OPENMP)
#include <exception>

#include <omp.h>
#endif

#if defined(__SANITIZE_THREAD__)
#define DRO_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DRO_THREAD_SANITIZER
#endif
#endif
#if defined(DRO_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
#endif

namespace dro {

namespace detail {

/// Tells a thread sanitizer what it cannot see inside the thread libraries, which are not compiled for it: that ranges
/// begin after what their caller did, and end before what it does next. Of two ranges it says nothing, so that a place
/// that both write is reported. Nothing at all without that sanitizer.
class fork_and_join {
 public:
#if defined(DRO_THREAD_SANITIZER)
  fork_and_join() { __tsan_release(&fork_); }
  void begin_range() { __tsan_acquire(&fork_); }
  void end_range() { __tsan_release(&join_); }
  void join() { __tsan_acquire(&join_); }

 private:
  char fork_ = 0;
  char join_ = 0;
#else
  static void begin_range() {}
  static void end_range() {}
  static void join() {}
#endif
};

}  // namespace detail

/// A fixed number of threads of the chosen library.
class thread_pool {
 public:
  /// Name of the library this program was built with.
  static constexpr const char* library =
#if defined(DRO_THREADS_TBB)
      "tbb";
#elif defined(DRO_THREADS_OPENMP)
      "openmp";
#else
      "none";
#endif

  /// More are refused.
  static constexpr int most_threads = 4096;

  /// `threads` = 0: as many as the machine offers. Without a thread library there is one, whatever is asked for.
  /// Throws option_error if `threads` is negative or above most_threads.
  explicit thread_pool(int threads = 0) {
    if (threads < 0 || threads > most_threads) {
      throw option_error("threads is " + std::to_string(threads) + ", expected 0 (all) to " +
                         std::to_string(most_threads));
    }
#if defined(DRO_THREADS_TBB)
    threads_ = threads == 0 ? tbb::this_task_arena::max_concurrency() : threads;
    arena_ = std::make_unique<tbb::task_arena>(threads_);
#elif defined(DRO_THREADS_OPENMP)
    threads_ = threads == 0 ? omp_get_max_threads() : threads;
#endif
  }

  [[nodiscard]] int threads() const { return threads_; }

  /// Calls body(begin, end) for disjoint ranges that cover [0, n). Which thread runs which range is not fixed; a body
  /// that writes only what belongs to its range gives the same result for any number of threads. May be nested. The
  /// first exception of a body is thrown again here.
  template <class Body>
  void for_ranges(index_t n, Body&& body) const {
    if (n <= 0) return;
#if defined(DRO_THREADS_TBB)
    if (threads_ > 1 && n > 1) {
      const auto grain = static_cast<std::size_t>(grain_for(n));
      detail::fork_and_join order;
      arena_->execute([&] {
        tbb::parallel_for(tbb::blocked_range<index_t>(0, n, grain), [&](const tbb::blocked_range<index_t>& range) {
          order.begin_range();
          body(range.begin(), range.end());
          order.end_range();
        });
      });
      order.join();
      return;
    }
#elif defined(DRO_THREADS_OPENMP)
    if (threads_ > 1 && n > 1) {
      std::exception_ptr failure;
      const index_t grain = grain_for(n);
      const index_t ranges = (n + grain - 1) / grain;
      detail::fork_and_join order;
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
      for (index_t range = 0; range < ranges; ++range) {
        order.begin_range();
        try {
          body(range * grain, std::min(n, (range + 1) * grain));
        } catch (...) {
#pragma omp critical(dro_thread_pool_failure)
          if (!failure) failure = std::current_exception();
        }
        order.end_range();
      }
      order.join();
      if (failure) std::rethrow_exception(failure);
      return;
    }
#endif
    body(index_t{0}, n);
  }

 private:
  // Eight ranges a thread balance rows of unequal cost and keep the cost of handing them out small.
  [[nodiscard]] index_t grain_for(index_t n) const { return std::max<index_t>(1, n / (8 * index_t{threads_})); }

  int threads_ = 1;
#if defined(DRO_THREADS_TBB)
  std::unique_ptr<tbb::task_arena> arena_;
#endif
};

}  // namespace dro

#endif
