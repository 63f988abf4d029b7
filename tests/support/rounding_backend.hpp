// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_ROUNDING_BACKEND_HPP
#define DRO_TESTS_SUPPORT_ROUNDING_BACKEND_HPP

/// \file
/// A backend on the host that multiplies bfloat16 matrices, as a GPU does.

#include <vector>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>

namespace test {

/// Base, and products of bfloat16 as those of the same numbers in float. Rounding pays always, so that what is rounded
/// on a GPU for large matrices is rounded here for small ones.
template <class Base>
class rounding_backend : public Base {
 public:
  using Base::Base;

  static constexpr dro::index_t rounding_pays = 1;

  template <class T>
  void matmul(T alpha, dro::matrix_view<const T> a, dro::matrix_view<const T> x, T beta, dro::matrix_view<T> c,
              const dro::matmul_options& options) {
    ++exact_;
    Base::matmul(alpha, a, x, beta, c, options);
  }
  void matmul(float alpha, dro::matrix_view<const dro::bfloat16> a, dro::matrix_view<const dro::bfloat16> x, float beta,
              dro::matrix_view<float> c, const dro::matmul_options& options) {
    ++rounded_;
    for (dro::index_t i = 0; i < options.batch; ++i) {
      dro::matrix_view<float> out = c;
      out.data += i * options.stride_c;
      const auto left = widened(a, i * options.stride_a), right = widened(x, i * options.stride_b);
      Base::matmul(alpha, dro::row_major_view(left.data(), a.rows, a.cols),
                   dro::row_major_view(right.data(), x.rows, x.cols), beta, out, dro::matmul_options{});
    }
  }

  /// Products so far, a batch being one, of exact factors and of rounded ones.
  [[nodiscard]] int exact() const { return exact_; }
  [[nodiscard]] int rounded() const { return rounded_; }

 private:
  static std::vector<float> widened(dro::matrix_view<const dro::bfloat16> view, dro::index_t offset) {
    view.data += offset;
    std::vector<float> values;
    for (dro::index_t i = 0; i < view.rows; ++i) {
      for (dro::index_t j = 0; j < view.cols; ++j) values.push_back(dro::math::to_float(view(i, j)));
    }
    return values;
  }

  int exact_ = 0;
  int rounded_ = 0;
};

}  // namespace test

#endif
