// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_TEAM_HPP
#define DRO_BACKEND_TEAM_HPP

/// \file
/// What a row program may ask of the team that runs a row, and the team of the host: a single thread whose loops
/// vectorise.

#include <cstddef>
#include <utility>

#include <dro/config.hpp>

namespace dro {

/// N numbers that one sum of a team adds up side by side: team.template sum<pack<T, N>>(n, f).
template <class T, int N>
struct pack {
  static_assert(N > 0);
  T values[static_cast<std::size_t>(N)];

  [[nodiscard]] DRO_HOST_DEVICE constexpr const T& operator[](int k) const { return values[k]; }
  [[nodiscard]] DRO_HOST_DEVICE constexpr T& operator[](int k) { return values[k]; }
  DRO_HOST_DEVICE constexpr pack& operator+=(const pack& other) {
    for (int k = 0; k < N; ++k) values[k] += other.values[k];
    return *this;
  }
  [[nodiscard]] friend DRO_HOST_DEVICE constexpr pack operator*(T factor, pack p) {
    for (int k = 0; k < N; ++k) p.values[k] *= factor;
    return p;
  }
};

namespace detail {

/// The numbers in what a team sums: one, or those of a pack.
template <class T>
struct summand {
  using number = T;
  static constexpr int size = 1;
  template <class Sum>  // T or const T
  [[nodiscard]] DRO_HOST_DEVICE static constexpr Sum& at(Sum& sum, int) {
    return sum;
  }
};
template <class T, int N>
struct summand<pack<T, N>> {
  using number = T;
  static constexpr int size = N;
  template <class Sum>
  [[nodiscard]] DRO_HOST_DEVICE static constexpr auto& at(Sum& sum, int k) {
    return sum[k];
  }
};

}  // namespace detail

/// A row program is written once against this interface. Here a team is one thread; on a GPU it is 1, 2, 4, …, 32
/// threads of a warp or a whole block, which run the program together:
///
/// - Every member is called by all threads of the team, with the same arguments, in the same order. So conditions and
///   loops around a call depend on what is the same in all threads: members of the program, what a sum, maximum or scan
///   returned, memory behind a barrier.
/// - An item of for_each, sum, max, arg_max or inclusive_scan is run by exactly one thread, alone, and calls no member
///   of the team. Which thread it is is not said, and may differ between two calls. Of size() items each thread runs
///   one.
/// - A loop has fewer than 2^31 items.
/// - A local variable is each thread's own: one changed by the items of a for_each, or where rank() == 0, holds
///   something else in every thread.
/// - sum, max, arg_max, inclusive_scan and any give the same result to all threads, but make no memory visible: between
///   one thread's writing and another's reading of the same place, and between one's reading and another's overwriting,
///   a barrier() is needed. That goes for scratch as for matrices; only rows are apart from each other anyway.
/// - The order of a sum depends on n and on the team's size alone: equal items give equal sums.
///
/// concurrent_backend (testing.hpp) shows on any machine whether a program keeps to this.
class host_team {
 public:
  /// `scratch` points to as many bytes as the program asked for, aligned for any fundamental type.
  explicit host_team(std::byte* scratch = nullptr) : scratch_(scratch) {}

  /// Threads in the team, and this thread's number.
  [[nodiscard]] static constexpr index_t size() { return 1; }
  [[nodiscard]] static constexpr index_t rank() { return 0; }

  /// Calls f(i) once for each i in [0, n); the calls of one for_each are independent of each other. No barrier.
  template <class F>
  void for_each(index_t n, F&& f) {
    for (index_t i = 0; i < n; ++i) f(i);
  }

  /// Σ f(i) over i in [0, n); 0 for n = 0. Eight partial sums in a fixed order: the loop vectorises, and the result
  /// depends neither on the vector width nor on the number of threads. |error| ≤ (n/8 + 3) ε Σ|f(i)|. T is a number or
  /// a pack of them.
  template <class T, class F>
  [[nodiscard]] T sum(index_t n, F&& f) {
    using part = detail::summand<T>;
    using numbers = std::make_integer_sequence<int, part::size>;
    typename part::number partial[part::size][lanes] = {};
    index_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      for (index_t lane = 0; lane < lanes; ++lane) add(f(i + lane), partial, lane, numbers{});
    }
    for (index_t lane = 0; i < n; ++i, ++lane) add(f(i), partial, lane, numbers{});
    T total{};
    for (int k = 0; k < part::size; ++k) {
      const auto& p = partial[k];
      part::at(total, k) = ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
    }
    return total;
  }

  /// Largest of `lowest` and f(i), i in [0, n). A NaN is passed over: test for it separately.
  template <class T, class F>
  [[nodiscard]] T max(index_t n, T lowest, F&& f) {
    T partial[lanes];
    for (T& best : partial) best = lowest;
    index_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      for (index_t lane = 0; lane < lanes; ++lane) {
        const T value = f(i + lane);
        partial[lane] = value > partial[lane] ? value : partial[lane];
      }
    }
    T best = lowest;
    for (; i < n; ++i) {
      const T value = f(i);
      best = value > best ? value : best;
    }
    for (const T value : partial) best = value > best ? value : best;
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

  /// Calls out(i, f(0) + … + f(i)) for each i in [0, n), summed from the left; returns the whole sum.
  template <class T, class F, class Out>
  T inclusive_scan(index_t n, F&& f, Out&& out) {
    T running{};
    for (index_t i = 0; i < n; ++i) {
      running += f(i);
      out(i, running);
    }
    return running;
  }

  /// Whether `mine` is true in any thread: what the items that a thread ran have noted in a local variable of its own.
  [[nodiscard]] static constexpr bool any(bool mine) { return mine; }

  /// Makes writes of the whole team visible to the whole team.
  static void barrier() {}

  /// The row's scratch memory, as asked for by the program's scratch_bytes(), the same for all of the team; contents
  /// unspecified. The next row finds it free.
  template <class T>
  [[nodiscard]] T* scratch(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(scratch_ + byte_offset);
  }

 private:
  static constexpr index_t lanes = 8;

  // Side by side for each number: a loop over the lanes stays one loop, and becomes vector code.
  template <class T, class Number, int... K>
  static void add(const T& value, Number (&partial)[sizeof...(K)][lanes], index_t lane,
                  std::integer_sequence<int, K...>) {
    ((partial[K][lane] += detail::summand<T>::at(value, K)), ...);
  }

  std::byte* scratch_;
};

}  // namespace dro

#endif
