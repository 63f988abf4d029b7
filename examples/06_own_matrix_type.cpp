// SPDX-License-Identifier: Apache-2.0
// A backend around a matrix type of your own: say what the matrix is, make one, show one. Everything the library does
// then runs on it, here with two threads where the build has a thread library.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include <dro/dro.hpp>
#include <dro/models/table.hpp>

// [backend]
/// Somebody's tensor: rows are padded to whole cache lines, as image and SIMD libraries do.
template <class T>
struct padded_tensor {
  dro::index_t rows = 0, cols = 0, pitch = 0;
  std::vector<T> memory;
};

class padded_backend : public dro::host_base {
 public:
  template <class T>
  using matrix = padded_tensor<T>;

  using host_base::host_base;  // padded_backend(threads)

  template <class T>
  matrix<T> make(dro::index_t rows, dro::index_t cols) const {
    const dro::index_t line = 64 / static_cast<dro::index_t>(sizeof(T));
    const dro::index_t pitch = (cols + line - 1) / line * line;
    return {rows, cols, pitch, std::vector<T>(static_cast<std::size_t>(rows * pitch))};
  }
  template <class T>
  dro::matrix_view<T> view(matrix<T>& m) const {
    return {m.memory.data(), m.rows, m.cols, /*row_stride=*/m.pitch, /*col_stride=*/1};
  }
  template <class T>
  dro::matrix_view<const T> view(const matrix<T>& m) const {
    return {m.memory.data(), m.rows, m.cols, m.pitch, 1};
  }
};
static_assert(dro::backend<padded_backend>);
// [backend]

/// The exact evidence of a toy after some training on backend b.
template <dro::backend B>
double train(B& b) {
  dro::host_matrix<double> scores(1, 4), logits(dro::ranking_count(4, 2), 2);
  for (dro::index_t z = 0; z < logits.rows(); ++z) logits(z, 0) = z % 5 == 0 ? 2 : -2;
  dro::models::table_selector selector(b, scores);
  dro::models::table_generator reader(b, 4, 2, logits, dro::host_matrix<std::int32_t>(1, 1));
  dro::adamw<B> selector_optimizer(b, {.learning_rate = 0.05}), reader_optimizer(b, {.learning_rate = 0.05});
  const dro::models::table_rows question{.first = 0, .count = 1};
  dro::random_state random(b, /*seed=*/5);
  for (int step = 0; step < 50; ++step) {
    auto e = dro::e_step(b, selector, reader, question, {.samples = 8, .select = 2}, random);
    dro::m_step(b, selector, reader, question, e, dro::evidence<>{}, selector_optimizer, reader_optimizer);
  }
  const auto e = dro::e_step(b, selector, reader, dro::exhaustive(4), question, {.select = 2}, random);
  return dro::read(b, e.weights.log_evidence)(0, 0);
}

int main() {
  // [use]
  padded_backend own(/*threads=*/2);
  dro::host_backend plain(/*threads=*/1);
  const double on_own = train(own);
  const double on_plain = train(plain);
  // [use]
  std::printf(
      "log p(y|x) after 50 steps\n  padded tensors, threads: %d   %.17g\n  plain matrices, threads: %d   %.17g\n",
      own.threads(), on_own, plain.threads(), on_plain);
  std::printf("The same to the last bit: results depend neither on the layout nor on the threads.\n");
  return on_own == on_plain ? EXIT_SUCCESS : EXIT_FAILURE;
}
