// SPDX-License-Identifier: Apache-2.0
// A callback whose member is misspelled is not ignored.
// EXPECT: dro: a callback needs on_batch(const loop_progress&) or on_iteration(const loop_progress&, const Summary&)
#include <cstddef>
#include <span>

#include <dro/em/training_loop.hpp>

namespace {

struct source {
  std::size_t size() const { return 4; }
  int batch(std::span<const dro::index_t>) const { return 0; }
};

struct my_callback {
#ifdef DRO_COMPILE_FAIL_CONTROL
  void on_iteration(const dro::loop_progress&, int) {}
#else
  void on_iterations(const dro::loop_progress&, int) {}
#endif
};

}  // namespace

bool train(dro::loop_position& position) {
  return dro::training_loop(
      source{}, {}, position, [](int) {}, [] { return 0; }, my_callback{});
}
