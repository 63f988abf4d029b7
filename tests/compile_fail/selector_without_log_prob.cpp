// SPDX-License-Identifier: Apache-2.0
// A selector that cannot score is told what to write.
// EXPECT: dro: the selector needs `matrix_t<B, scalar_type> log_prob(B&, const Queries&, const draws<B,
// EXPECT: see docs/bring-your-own-model.md
#include <cstddef>

#include <dro/backend/host.hpp>
#include <dro/em/e_step.hpp>

namespace {

using backend = dro::host_backend;
using draws = dro::draws<backend, double>;
using column = dro::host_matrix<double>;

struct batch {
  std::size_t size() const { return 1; }
};

struct my_selector {
  using scalar_type = double;
  draws draw(backend&, const batch&, const dro::draw_options&, const dro::random_source&) const;
#ifdef DRO_COMPILE_FAIL_CONTROL
  column log_prob(backend&, const batch&, const draws&) const;
#endif
  void accumulate_gradient(backend&, const batch&, const draws&, const column&);
};

struct my_generator {
  column log_likelihood(backend&, const batch&, const draws&) const;
  void accumulate_gradient(backend&, const batch&, const draws&, const column&);
};

}  // namespace

void train(backend& b, my_selector& selector, my_generator& generator, dro::random_state<backend>& random) {
  static_cast<void>(dro::e_step(b, selector, generator, batch{}, {8, 2}, random));
}
