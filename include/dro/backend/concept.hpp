// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CONCEPT_HPP
#define DRO_BACKEND_CONCEPT_HPP

/// \file
/// What a backend is: the place where matrices live and where row programs run.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/config.hpp>

namespace dro {

/// The owning matrix type of backend B for elements T.
template <class B, class T>
using matrix_t = typename B::template matrix<T>;

namespace detail {

struct empty_program {
  template <class Team>
  DRO_HOST_DEVICE void operator()(Team&, index_t) const {}
};

template <class B, class T>
concept backend_of = std::movable<matrix_t<B, T>> &&
    requires(B& b, matrix_t<B, T>& m, const matrix_t<B, T>& c, index_t n, const T* source, T* target) {
  { b.template make<T>(n, n) } -> std::same_as<matrix_t<B, T>>;
  { b.view(m) } -> std::same_as<matrix_view<T>>;
  { b.view(c) } -> std::same_as<matrix_view<const T>>;
  b.read(matrix_view<const T>{}, target);
  b.write(source, matrix_view<T>{});
};

}  // namespace detail

/// A backend owns what running needs (threads, a stream, a workspace) and knows one owning matrix type.
///
///     template <class T> using matrix = …;                  // owning, movable, default: empty
///     matrix<T> make<T>(index_t rows, index_t cols);        // contents unspecified
///     matrix_view<T> view(matrix<T>&);                      // and matrix_view<const T> view(const matrix<T>&)
///     void run(index_t rows, Program);                      // Program(team, row) for each row, in any order, queued
///     void read(matrix_view<const T>, T* host);             // row-major copy to the host; waits; the only way out
///     void write(const T* host, matrix_view<T>);            // row-major copy from the host
///     void synchronise();                                   // waits until all queued work is done
///
/// for T ∈ {float, double, std::int32_t, std::uint32_t}. Work runs in the order in which it was queued. A matrix may
/// be destroyed while work on it is queued: the backend keeps the memory until that work is done.
///
/// A program keeps to what team.hpp says of teams, and may state
///
///     std::size_t scratch_bytes() const;   // the memory each of its rows may take from the team, or
///     template <class Team> std::size_t scratch_bytes(index_t threads) const;      // from a Team of so many threads
///     index_t width() const;               // items in the widest loop of a row, or what is typical if rows differ
///
/// A GPU chooses by the width how many threads share a row, one for a width of 1 or less; without it a row is taken by
/// 32 threads. `static constexpr index_t items_of_thread = 4` says that where rows fill a GPU, fewer threads with so
/// many items each are better. `static constexpr bool lives_in_scratch = true` says that most of the work goes to
/// scratch memory: then a second kernel is made for scratch memory that is known to be on the chip. That kernel calls
/// `void in_scratch(Team&, index_t row) const` where a program has it: what it does for rows that take scratch memory,
/// without the code for rows that take none. `static constexpr std::size_t scratch_word = 4` says that nothing there is
/// larger than that, or moved in larger pieces: 4, 8 (which is assumed), 16 or 32 bytes. `static constexpr int
/// registers = 72` keeps a thread to so many registers. None of it changes a result but the order of sums. The other
/// functions are called on the host.
///
/// A tensor type of your own needs `matrix`, `make` and `view` on top of host_backend: see docs/backends.md.
template <class B>
concept backend = detail::backend_of<B, float> && detail::backend_of<B, double> &&
    detail::backend_of<B, std::int32_t> && detail::backend_of<B, std::uint32_t> && requires(B& b, index_t n) {
  b.run(n, detail::empty_program{});
  b.synchronise();
};

/// A backend whose memory the host may touch inside a row program and whose rows each run on one thread, so that a
/// program may call ordinary C++ functions. States `static constexpr bool runs_on_host = true`.
template <class B>
concept host_executed = backend<B> && B::runs_on_host;

namespace detail {

/// Bytes of scratch memory that a row of `program` takes from a Team of so many threads.
template <class Team, class Program>
[[nodiscard]] std::size_t scratch_bytes_of(const Program& program, [[maybe_unused]] index_t threads) {
  if constexpr (requires { program.template scratch_bytes<Team>(threads); }) {
    return program.template scratch_bytes<Team>(threads);
  } else if constexpr (requires { program.scratch_bytes(); }) {
    return program.scratch_bytes();
  } else {
    return 0;
  }
}

}  // namespace detail

namespace detail {

template <class M>
inline constexpr bool is_matrix_view = false;
template <class T>
inline constexpr bool is_matrix_view<matrix_view<T>> = true;

/// What `m` looks like: itself if it is a view already, else what the backend says.
template <class B, class M>
[[nodiscard]] auto view_of(B& b, const M& m) {
  if constexpr (is_matrix_view<M>) {
    return matrix_view<const typename M::element_type>(m);
  } else {
    return b.view(m);
  }
}

/// The same for a result that keeps the view: only of what is still there after the call, a named matrix or a view.
template <class B, class M>
[[nodiscard]] auto kept_view_of(B& b, M&& m) {
  static_assert(std::is_lvalue_reference_v<M> || is_matrix_view<std::remove_cv_t<M>>,
                "dro: what is returned looks at this matrix, so it must not be a temporary: give it a name");
  return view_of(b, std::as_const(m));
}

}  // namespace detail

/// Something that backend B can view: its own matrix, or a matrix_view already.
template <class M, class B>
concept viewable = detail::is_matrix_view<std::remove_cvref_t<M>> || requires(B& b, const M& m) {
  b.view(m).data;
};

/// Element type of what backend B sees in M, without const.
template <class B, class M>
using element_t =
    std::remove_const_t<typename decltype(detail::view_of(std::declval<B&>(), std::declval<const M&>()))::element_type>;

namespace detail {

template <class T>
struct fill_program {
  matrix_view<T> target;
  T value;
  [[nodiscard]] index_t width() const { return target.cols; }
  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.for_each(target.cols, [&](index_t col) { target(row, col) = value; });
  }
};

template <class T>
struct copy_program {
  matrix_view<const T> source;
  matrix_view<T> target;
  [[nodiscard]] index_t width() const { return target.cols; }
  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    for_each_overlapped(
        team, target.cols, [&](index_t col) { return source(row, col); },
        [&](index_t col, T value) { target(row, col) = value; });
  }
};

}  // namespace detail

/// Copies `source` to `target`, of the same shape and any strides, which may not overlap. Throws shape_error. Queues
/// one program.
template <backend B, class T>
void copy(B& b, std::type_identity_t<matrix_view<const T>> source, matrix_view<T> target) {
  require_shape(source, target.rows, target.cols, "copy: source");
  b.run(target.rows, detail::copy_program<T>{source, target});
}

/// Sets every element of `target` to `value`. Queues one program.
template <backend B, class T>
void fill(B& b, matrix_view<T> target, std::type_identity_t<T> value) {
  b.run(target.rows, detail::fill_program<T>{target, value});
}

/// A new [rows × cols] matrix with every element equal to `value`. Queues one program.
template <class T, backend B>
[[nodiscard]] matrix_t<B, T> make_filled(B& b, index_t rows, index_t cols, std::type_identity_t<T> value) {
  auto m = b.template make<T>(rows, cols);
  fill(b, b.view(m), value);
  return m;
}

}  // namespace dro

#endif
