// SPDX-License-Identifier: Apache-2.0
// A tensor type that cannot be made is no backend, and the compiler names what is missing.
// EXPECT(GNU): static assertion failed: my_backend
// EXPECT(Clang): static assertion failed: my_backend
// EXPECT(GNU): the required expression 'b.make<T>(n, n)' is invalid
// EXPECT(Clang): no member named 'make' in 'my_backend'
#include <dro/backend/host.hpp>

class my_backend : public dro::host_base {
 public:
  template <class T>
  using matrix = dro::host_matrix<T>;

#ifdef DRO_COMPILE_FAIL_CONTROL
  template <class T>
  matrix<T> make(dro::index_t rows, dro::index_t cols) const {
    return matrix<T>(rows, cols);
  }
#endif
  template <class T>
  dro::matrix_view<T> view(matrix<T>& m) const {
    return dro::row_major_view(m.data(), m.rows(), m.cols());
  }
  template <class T>
  dro::matrix_view<const T> view(const matrix<T>& m) const {
    return dro::row_major_view(m.data(), m.rows(), m.cols());
  }
};

static_assert(dro::backend<my_backend>, "my_backend");
