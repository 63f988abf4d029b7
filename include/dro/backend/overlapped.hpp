// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_OVERLAPPED_HPP
#define DRO_BACKEND_OVERLAPPED_HPP

/// \file
/// Loops of a team that read much memory and compute little. A compiler has to assume that what an item writes is what
/// the next one reads, so that a thread of a GPU waits for the memory item by item, and so many threads as a
/// multiprocessor has are too few to keep the memory busy. Here each thread reads for four items before it writes.

#include <dro/backend/team.hpp>
#include <dro/config.hpp>

namespace dro {

namespace detail {

/// A team of one thread on the host, whose plain loops the compiler makes vector code of.
template <class Team>
inline constexpr bool is_one_thread = false;
template <>
inline constexpr bool is_one_thread<host_team> = true;

}  // namespace detail

/// Calls write(i, read(i)) for each i in [0, n): team.for_each, where read(i) writes nothing, and reads nothing that
/// write changes for another i.
template <class Team, class Read, class Write>
DRO_HOST_DEVICE void for_each_overlapped(Team& team, index_t n, Read&& read, Write&& write) {
  index_t done = 0;
  if constexpr (!detail::is_one_thread<Team>) {
    const index_t quarter = n / 4;  // neighbouring threads have neighbouring items
    team.for_each(quarter, [&](index_t i) {
      const auto first = read(i);
      const auto second = read(i + quarter);
      const auto third = read(i + 2 * quarter);
      const auto fourth = read(i + 3 * quarter);
      write(i, first);
      write(i + quarter, second);
      write(i + 2 * quarter, third);
      write(i + 3 * quarter, fourth);
    });
    done = 4 * quarter;
  }
  team.for_each(n - done, [&](index_t i) { write(done + i, read(done + i)); });
}

/// Σ f(i) over i in [0, n), in an order of its own: team.sum, with an error of as many roundings and two more.
template <class T, class Team, class F>
[[nodiscard]] DRO_HOST_DEVICE T sum_overlapped(Team& team, index_t n, F&& f) {
  if constexpr (detail::is_one_thread<Team>) {
    return team.template sum<T>(n, f);
  } else {
    const index_t quarter = n / 4;
    const index_t rest = n - 4 * quarter;  // up to three, of the first items of the loop
    return team.template sum<T>(quarter < rest ? rest : quarter, [&](index_t i) {
      T sum = i < rest ? f(4 * quarter + i) : T{};
      if (i < quarter) sum += (f(i) + f(i + quarter)) + (f(i + 2 * quarter) + f(i + 3 * quarter));
      return sum;
    });
  }
}

}  // namespace dro

#endif
