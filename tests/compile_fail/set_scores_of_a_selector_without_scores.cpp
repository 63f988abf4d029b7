// SPDX-License-Identifier: Apache-2.0
// The score of a set needs a selector that shows its scores; the message says which members that takes.
// EXPECT: dro: this estimator works on the scores of a Plackett–Luce selector: it needs `scores` and
#include <dro/backend/host.hpp>
#include <dro/em/m_step.hpp>
#include <dro/em/set_scores.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/model/archetypes.hpp>

using backend = dro::host_backend;
#ifdef DRO_COMPILE_FAIL_CONTROL
using selector = dro::archetype::scored_selector<backend, double>;
#else
using selector = dro::archetype::selector<backend, double>;
#endif

struct no_step {
  template <class Model>
  void step(backend&, Model&) {}
};

void learn(backend& b, selector& s, dro::archetype::generator<backend, double>& g, const dro::archetype::queries& batch,
           dro::e_step_result<backend, double>& e) {
  dro::m_step(b, s, g, batch, e, dro::set_scores<dro::evidence<>>{}, no_step{}, dro::frozen{});
}
