// SPDX-License-Identifier: Apache-2.0
// One question, four documents, of which the reader sees two. Only with documents 1 and 3 does it lean to the right
// answer. Nobody tells the selector; it finds out, while the reader learns too.

// [program]
#include <cstdio>

#include <dro/dro.hpp>
#include <dro/models/table.hpp>

int main() {
  dro::host_backend b;
  const auto rankings = dro::enumerate_rankings(4, 2);   // 12 ordered pairs of documents
  dro::host_matrix<double> logits(12, 3), scores(1, 4);  // the reader's belief in 3 answers; the selector's scores
  for (int z = 0; z < 12; ++z) logits(z, 2) = rankings(z, 0) % 2 == 1 && rankings(z, 1) % 2 == 1 ? 1 : -2;
  dro::host_matrix<std::int32_t> gold(1, 1);
  gold(0, 0) = 2;
  const dro::models::table_rows question{.first = 0, .count = 1};
  dro::models::table_selector selector(b, scores);
  dro::models::table_generator reader(b, 4, 2, logits, gold);
  dro::sgd<dro::host_backend> selector_sgd(b, {.learning_rate = 0.2}), reader_sgd(b, {.learning_rate = 0.2});
  dro::random_state random(b, /*seed=*/1);
  for (int step = 0; step <= 100; ++step) {
    const auto exact = dro::e_step(b, selector, reader, dro::exhaustive(4), question, {.select = 2}, random);
    if (step % 25 == 0) std::printf("step %3d: log p(y|x) = %.3f\n", step, exact.weights.log_evidence(0, 0));
    auto e = dro::e_step(b, selector, reader, question, {.samples = 8, .select = 2}, random);
    dro::m_step(b, selector, reader, question, e, dro::evidence<>{}, selector_sgd, reader_sgd);
  }
}
// [program]
