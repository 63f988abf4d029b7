// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_HOST_HPP
#define DRO_BACKEND_HOST_HPP

/// \file
/// Running row programs on the host, and a backend with a plain matrix of its own and no dependency.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host_matmul.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/team.hpp>
#include <dro/backend/thread_pool.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// Everything a backend needs on the host except a matrix type. Derive from it and add `matrix`, `make` and `view`.
/// Work is done when a call returns. Results do not depend on the number of threads.
class host_base {
 public:
  static constexpr bool runs_on_host = true;

  /// `threads` = 0: as many as the machine offers.
  explicit host_base(int threads = 0) : pool_(threads) {}

  [[nodiscard]] int threads() const { return pool_.threads(); }

  /// Calls program(team, row) for each row in [0, rows).
  template <class Program>
  void run(index_t rows, const Program& program) const {
    const std::size_t scratch_bytes = detail::scratch_bytes_of<host_team>(program, 1);
    pool_.for_ranges(rows, [&](index_t begin, index_t end) {
      std::vector<std::max_align_t> scratch((scratch_bytes + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t));
      host_team team(reinterpret_cast<std::byte*>(scratch.data()));
      for (index_t row = begin; row < end; ++row) program(team, row);
    });
  }

  /// Copies `source` [rows × cols] to `target`, rows × cols elements, row by row.
  template <class T>
  void read(matrix_view<const T> source, T* target) const {
    for (index_t i = 0; i < source.rows; ++i) {
      for (index_t j = 0; j < source.cols; ++j) *target++ = source(i, j);
    }
  }

  /// Copies rows × cols elements from `source`, row by row, to `target` [rows × cols].
  template <class T>
  void write(const T* source, matrix_view<T> target) const {
    for (index_t i = 0; i < target.rows; ++i) {
      for (index_t j = 0; j < target.cols; ++j) target(i, j) = *source++;
    }
  }

  /// C ← α A X + β C, see dro::matmul. Precision is always full. Blocked, over threads, each element summed from the
  /// left: the result does not depend on the threads.
  template <class T>
  void matmul(T alpha, matrix_view<const T> a, matrix_view<const T> x, T beta, matrix_view<T> c,
              const matmul_options& options) const {
    detail::host_matmul(pool_, alpha, a, x, beta, c, options);
  }

  /// Nothing is ever pending here.
  void synchronise() const {}

 protected:
  /// For what a derived backend does over threads by itself.
  [[nodiscard]] const thread_pool& pool() const { return pool_; }

 private:
  thread_pool pool_;
};

/// A plain row-major matrix in host memory. Movable and copyable.
template <class T>
class host_matrix {
 public:
  host_matrix() = default;
  /// Contents are zero. Throws shape_error if a size is negative, or if there are more than about 2^41 elements, rows
  /// or columns.
  host_matrix(index_t rows, index_t cols) : rows_(rows), cols_(cols) {
    constexpr index_t most = std::numeric_limits<std::int32_t>::max() * index_t{1024};
    if (rows < 0 || cols < 0 || rows > most || cols > most || (cols > 0 && rows > most / cols)) {
      throw shape_error("host_matrix of shape " + detail::shape_text(rows, cols));
    }
    elements_.resize(static_cast<std::size_t>(rows * cols));
  }

  /// `values`, row by row. Throws shape_error unless there are rows × cols of them.
  host_matrix(index_t rows, index_t cols, std::initializer_list<T> values) : host_matrix(rows, cols) {
    if (values.size() != elements_.size()) {
      throw shape_error("host_matrix: " + std::to_string(values.size()) + " values for shape " +
                        detail::shape_text(rows, cols));
    }
    std::copy(values.begin(), values.end(), elements_.begin());
  }

  host_matrix(const host_matrix&) = default;
  host_matrix& operator=(const host_matrix&) = default;
  // What was moved from has no rows, as it has no elements: shapes that are checked find it out.
  host_matrix(host_matrix&& other) noexcept
      : elements_(std::move(other.elements_)),
        rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  host_matrix& operator=(host_matrix&& other) noexcept {
    elements_ = std::exchange(other.elements_, std::vector<T>());  // right for a matrix moved to itself, too
    rows_ = std::exchange(other.rows_, 0);
    cols_ = std::exchange(other.cols_, 0);
    return *this;
  }
  ~host_matrix() = default;

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] T* data() { return elements_.data(); }
  [[nodiscard]] const T* data() const { return elements_.data(); }
  [[nodiscard]] T& operator()(index_t row, index_t col) { return elements_[offset(row, col)]; }
  [[nodiscard]] const T& operator()(index_t row, index_t col) const { return elements_[offset(row, col)]; }

 private:
  [[nodiscard]] std::size_t offset(index_t row, index_t col) const {
    return static_cast<std::size_t>(row * cols_ + col);
  }

  std::vector<T> elements_;
  index_t rows_ = 0;
  index_t cols_ = 0;
};

/// The host backend without any dependency.
class host_backend : public host_base {
 public:
  template <class T>
  using matrix = host_matrix<T>;

  using host_base::host_base;

  template <class T>
  [[nodiscard]] matrix<T> make(index_t rows, index_t cols) const {
    return matrix<T>(rows, cols);
  }
  template <class T>
  [[nodiscard]] matrix_view<T> view(matrix<T>& m) const {
    return row_major_view(m.data(), m.rows(), m.cols());
  }
  template <class T>
  [[nodiscard]] matrix_view<const T> view(const matrix<T>& m) const {
    return row_major_view(m.data(), m.rows(), m.cols());
  }
};

static_assert(backend<host_backend>);

/// A copy of a backend matrix (or view) in host memory. Waits for the work queued before it.
template <backend B, viewable<B> M>
[[nodiscard]] host_matrix<element_t<B, M>> read(B& b, const M& m) {
  const matrix_view<const element_t<B, M>> source = detail::view_of(b, m);
  host_matrix<element_t<B, M>> copy(source.rows, source.cols);
  b.read(source, copy.data());
  return copy;
}

/// A copy of a host matrix in the backend's memory.
template <backend B, class T>
[[nodiscard]] matrix_t<B, T> write(B& b, const host_matrix<T>& source) {
  auto m = b.template make<T>(source.rows(), source.cols());
  b.write(source.data(), b.view(m));
  return m;
}

}  // namespace dro

#endif
