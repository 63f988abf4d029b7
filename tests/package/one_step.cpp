// SPDX-License-Identifier: Apache-2.0
// A step of training on the one backend that the project's CMakeLists.txt has chosen.
#include <cstdio>
#include <cstdlib>

#if defined(CONSUMER_eigen)
#include <dro/backend/eigen.hpp>
using backend = dro::eigen_backend<>;
#elif defined(CONSUMER_xtensor)
#include <dro/backend/xtensor.hpp>
using backend = dro::xtensor_backend<>;
#elif defined(CONSUMER_host)
#include <dro/backend/host.hpp>
using backend = dro::host_backend;
#endif
#include <dro/dro.hpp>
#include <dro/models/table.hpp>

int main() {
  backend b;
  const dro::host_matrix<double> logits(dro::ranking_count(3, 2), 2, {3, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  dro::models::table_selector selector(b, dro::host_matrix<double>(1, 3));
  const dro::models::table_generator reader(b, 3, 2, logits, dro::host_matrix<std::int32_t>(1, 1));
  dro::sgd<backend> uphill(b, {.learning_rate = 1});
  const dro::models::table_rows question{.first = 0, .count = 1};
  dro::random_state<backend> random(b, /*seed=*/1);
  const auto evidence = [&] {
    const auto e = dro::e_step(b, selector, reader, dro::exhaustive(3), question, {.select = 2}, random);
    return dro::read(b, e.weights.log_evidence)(0, 0);
  };
  const double before = evidence();
  auto e = dro::e_step(b, selector, reader, dro::exhaustive(3), question, {.select = 2}, random);
  dro::frozen still;
  dro::m_step(b, selector, reader, question, e, dro::evidence<>{}, uphill, still);
  if (!(evidence() > before)) return EXIT_FAILURE;
  std::printf("dro %s\n", dro::version_string);
}
