// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_TESTING_HPP
#define DRO_BACKEND_TESTING_HPP

/// \file
/// Two backends for tests: one that does nothing until somebody asks for a result, and one that counts the asking.

#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>

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

/// Behaves as a GPU does, on the host: `run` and `write` only queue, and everything queued is carried out, in order, at
/// the next `read` or `synchronise`. New memory holds NaN (or −1), so that a result nobody wrote shows. Code that looks
/// at memory without `read` sees that poison.
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
  /// Calls of `run` and `write` that have not been carried out.
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

static_assert(backend<deferred_backend> && backend<counting_backend<host_backend>>);

}  // namespace dro

#endif
