// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_OVERLAPPED_HPP
#define DRO_BACKEND_OVERLAPPED_HPP

/// \file
/// Loops of a team that read much memory and compute little. A compiler has to assume that what an item writes is what
/// the next one reads, so that a thread of a GPU waits for the memory item by item, and so many threads as a
/// multiprocessor has are too few to keep the memory busy. Here each thread reads for four items before it writes; and
/// values that lie one after the other in memory are read and written 16 bytes at a time.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dro/backend/grouping.hpp>
#include <dro/backend/team.hpp>
#include <dro/config.hpp>

namespace dro {

namespace detail {

/// A team of one thread on the host, whose plain loops the compiler makes vector code of.
template <class Team>
inline constexpr bool is_one_thread = false;
template <>
inline constexpr bool is_one_thread<host_team> = true;

/// What a thread of a GPU reads or writes at once, seen in memory that holds values of T.
template <class T>
struct alignas(16) [[gnu::may_alias]] piece {
  static constexpr index_t size = 16 / sizeof(T);
  T values[static_cast<std::size_t>(size)];
};

/// How many of the n first values of a row can be moved in pieces.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE index_t pieces_of(const row_view<T>& row, index_t n) {
  using whole = piece<std::remove_const_t<T>>;
  return row.stride == 1 && reinterpret_cast<std::uintptr_t>(row.data) % sizeof(whole) == 0 ? n / whole::size : 0;
}

template <class T>
[[nodiscard]] DRO_HOST_DEVICE piece<T> load_piece(const row_view<const T>& row, index_t k) {
  return reinterpret_cast<const piece<T>*>(row.data)[k];
}

}  // namespace detail

/// Calls take(i, row[i], …) for each i in [0, n), with a value of each of the `rows`.
template <class Team, class Take, class T, class... Rows>
DRO_HOST_DEVICE void read_rows(Team& team, index_t n, Take&& take, const row_view<const T>& row, const Rows&... rows) {
  index_t done = 0;
  if constexpr (!detail::is_one_thread<Team>) {
    constexpr index_t size = detail::piece<T>::size;
    const index_t all = detail::pieces_of(row, n);
    if (((detail::pieces_of(rows, n) == all) && ... && true)) {
      team.for_each(all, [&](index_t k) {
        const auto take_all = [&](const auto&... pieces) {
          for (index_t j = 0; j < size; ++j) take(k * size + j, pieces.values[j]...);
        };
        take_all(detail::load_piece(row, k), detail::load_piece(rows, k)...);
      });
      done = all * size;
    }
  }
  team.for_each(n - done, [&](index_t i) { take(done + i, row[done + i], rows[done + i]...); });
}

/// Sets row[i] to f(i) for each i in [0, n).
template <class Team, class T, class F>
DRO_HOST_DEVICE void write_row(Team& team, index_t n, const row_view<T>& row, F&& f) {
  index_t done = 0;
  if constexpr (!detail::is_one_thread<Team>) {
    using piece = detail::piece<T>;
    const index_t pieces = detail::pieces_of(row, n);
    team.for_each(pieces, [&](index_t k) {
      piece p;
      for (index_t j = 0; j < piece::size; ++j) p.values[j] = f(k * piece::size + j);
      reinterpret_cast<piece*>(row.data)[k] = p;
    });
    done = pieces * piece::size;
  }
  team.for_each(n - done, [&](index_t i) { row[done + i] = f(done + i); });
}

/// Sets row[i] to from[i] for each i in [0, n), where `from` begins at a multiple of 16 bytes.
template <class Team, class T>
DRO_HOST_DEVICE void copy_to_row(Team& team, index_t n, const row_view<T>& row, const T* from) {
  using piece = detail::piece<T>;
  const index_t pieces = detail::pieces_of(row, n);
  team.for_each(pieces,
                [&](index_t k) { reinterpret_cast<piece*>(row.data)[k] = reinterpret_cast<const piece*>(from)[k]; });
  const index_t done = pieces * piece::size;
  team.for_each(n - done, [&](index_t i) { row[done + i] = from[done + i]; });
}

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
