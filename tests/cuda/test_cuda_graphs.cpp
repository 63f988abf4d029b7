// SPDX-License-Identifier: Apache-2.0
// A whole step of training with every estimator, captured in a graph. What a capture must not do throws, so that it
// succeeds shows that nothing waits for the host; and the replay must give what the next step would have given.
#include <dro/backend/cuda.hpp>
#include <dro/testing/conformance.hpp>

#include "cuda/devices.hpp"

namespace {

template <class T, class Step>
void check_capture(const char* name, const Step& step, bool stays) {
  if (!stays) return;
  INFO(name);
  dro::cuda_backend b;
  dro::testing::training<dro::cuda_backend, T> plain(b), captured(b);
  step(b, plain);  // the first step makes the optimisers' memory
  step(b, captured);
  auto graph = dro::capture(b, [&] { step(b, captured); });
  for (int i = 0; i < 2; ++i) {
    step(b, plain);
    graph.launch();
  }
  dro::testing::transcript expected, found;
  plain.note(b, expected, dro::testing::bound::exact());
  captured.note(b, found, dro::testing::bound::exact());
  std::vector<dro::testing::finding> differences;
  expected.compare(found, true, name, "replayed against queued", differences);
  for (const auto& d : differences) FAIL_CHECK(d.quantity << " " << d.what);
}

}  // namespace

TEST_CASE_TEMPLATE("every estimator's step is captured and replayed", T, float, double) {
  if (!test::has_devices(1)) return;
  int captured = 0;
  dro::testing::for_each_estimator([&](const char* name, const auto& step, bool stays) {
    check_capture<T>(name, step, stays);
    captured += stays ? 1 : 0;
  });
  CHECK(captured > 20);
}

TEST_CASE_TEMPLATE("every proposal's step is captured and replayed", T, float, double) {
  if (!test::has_devices(1)) return;
  dro::testing::for_each_proposal(
      [&](const char* name, const auto& step, bool stays) { check_capture<T>(name, step, stays); });
}
