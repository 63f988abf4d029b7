// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_TEAM_HPP
#define DRO_BACKEND_TEAM_HPP

/// \file
/// The team that runs one row of a row program on the host: a single thread whose loops vectorise.

#include <cstddef>

#include <dro/config.hpp>

namespace dro {

/// A row program is written once against this interface; on a GPU the same members are carried out by the threads of a
/// part of a warp, a warp or a block together.
class host_team {
 public:
  /// `scratch` points to as many bytes as the program asked for, aligned for any fundamental type.
  explicit host_team(std::byte* scratch = nullptr) : scratch_(scratch) {}

  /// Threads in the team, and this thread's number.
  [[nodiscard]] static constexpr index_t size() { return 1; }
  [[nodiscard]] static constexpr index_t rank() { return 0; }

  /// Calls f(i) once for each i in [0, n); the calls of one for_each are independent of each other.
  template <class F>
  void for_each(index_t n, F&& f) {
    for (index_t i = 0; i < n; ++i) f(i);
  }

  /// Σ f(i) over i in [0, n); 0 for n = 0. Eight partial sums in a fixed order: the loop vectorises, and the result
  /// depends neither on the vector width nor on the number of threads. |error| ≤ (n/8 + 3) ε Σ|f(i)|.
  template <class T, class F>
  [[nodiscard]] T sum(index_t n, F&& f) {
    constexpr index_t lanes = 8;
    T partial[lanes] = {};
    index_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      for (index_t lane = 0; lane < lanes; ++lane) partial[lane] += f(i + lane);
    }
    for (index_t lane = 0; i < n; ++i, ++lane) partial[lane] += f(i);
    return ((partial[0] + partial[4]) + (partial[2] + partial[6])) +
           ((partial[1] + partial[5]) + (partial[3] + partial[7]));
  }

  /// Largest of `lowest` and f(i), i in [0, n). A NaN is passed over: test for it separately.
  template <class T, class F>
  [[nodiscard]] T max(index_t n, T lowest, F&& f) {
    T best = lowest;
    for (index_t i = 0; i < n; ++i) {
      const T value = f(i);
      best = value > best ? value : best;
    }
    return best;
  }

  /// Smallest i in [0, n) with the largest f(i) > `lowest`; n if there is none.
  template <class T, class F>
  [[nodiscard]] index_t arg_max(index_t n, T lowest, F&& f) {
    T best = lowest;
    index_t where = n;
    for (index_t i = 0; i < n; ++i) {
      const T value = f(i);
      if (value > best) {
        best = value;
        where = i;
      }
    }
    return where;
  }

  /// Calls out(i, f(0) + … + f(i)) for each i in [0, n), summed from the left.
  template <class T, class F, class Out>
  void inclusive_scan(index_t n, F&& f, Out&& out) {
    T running{};
    for (index_t i = 0; i < n; ++i) {
      running += f(i);
      out(i, running);
    }
  }

  /// Makes writes of the whole team visible to the whole team.
  static void barrier() {}

  /// The row's scratch memory, as asked for by the program's scratch_bytes(); contents unspecified.
  template <class T>
  [[nodiscard]] T* scratch(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(scratch_ + byte_offset);
  }

 private:
  std::byte* scratch_;
};

}  // namespace dro

#endif
