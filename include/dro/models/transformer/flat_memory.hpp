// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_FLAT_MEMORY_HPP
#define DRO_MODELS_TRANSFORMER_FLAT_MEMORY_HPP

/// \file
/// Memory in one piece for many matrices.

#include <string>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro::models::detail {

/// Numbers that lie in one piece on any backend, cut into row-major matrices.
template <backend B, class T>
class flat_memory {
 public:
  flat_memory() = default;
  flat_memory(B& b, index_t count) { grow(b, count); }

  /// Makes room for `count` numbers, letting go of what is there if it is too small.
  void grow(B& b, index_t count) {
    if (count <= count_) return;
    count_ = 0;
    memory_ = b.template make<T>(1, count);
    const matrix_view<T> all = b.view(memory_);
    if (count > 1 && all.col_stride != 1) {
      throw shape_error("transformer: the elements of a matrix of one row lie " + std::to_string(all.col_stride) +
                        " apart, expected 1");
    }
    data_ = all.data;
    count_ = count;
  }
  [[nodiscard]] matrix_view<T> at(index_t offset, index_t rows, index_t cols) const {
    return row_major_view(data_ + offset, rows, cols);
  }

 private:
  matrix_t<B, T> memory_;
  T* data_ = nullptr;
  index_t count_ = 0;
};

}  // namespace dro::models::detail

#endif
