// SPDX-License-Identifier: Apache-2.0
// A generator that cannot learn is told what to write.
// EXPECT: dro: a model that learns needs `void accumulate_gradient(B&, const Queries&, const draws<B, T>&,
// EXPECT: see docs/bring-your-own-model.md
#include <cstddef>

#include <dro/backend/host.hpp>
#include <dro/em/m_step.hpp>
#include <dro/gradient/evidence.hpp>

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
  column log_prob(backend&, const batch&, const draws&) const;
  void accumulate_gradient(backend&, const batch&, const draws&, const column&);
};

struct my_generator {
  column log_likelihood(backend&, const batch&, const draws&) const;
#ifdef DRO_COMPILE_FAIL_CONTROL
  void accumulate_gradient(backend&, const batch&, const draws&, const column&);
#endif
};

struct steps {
  void step(backend&, my_generator&) const;
};

}  // namespace

void train(backend& b, my_selector& selector, my_generator& generator, dro::random_state<backend>& random) {
  auto e = dro::e_step(b, selector, generator, batch{}, {8, 2}, random);
  dro::m_step(b, selector, generator, batch{}, e, dro::evidence<>{}, dro::frozen{}, steps{});
}
