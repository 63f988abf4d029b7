// SPDX-License-Identifier: Apache-2.0
// What is not a backend is refused at the call, by the name of the concept.
// EXPECT(GNU): no matching function for call to 'e_step(
// EXPECT(Clang): no matching function for call to 'e_step'
// EXPECT: backend
#include <dro/backend/host.hpp>
#include <dro/em/e_step.hpp>
#include <dro/models/table.hpp>

#ifdef DRO_COMPILE_FAIL_CONTROL
using place = dro::host_backend;
#else
using place = dro::host_base;  // runs programs, but knows no matrix
#endif

void run(place& b, dro::models::table_selector<dro::host_backend>& selector,
         dro::models::table_generator<dro::host_backend>& generator, dro::random_state<dro::host_backend>& random) {
  static_cast<void>(dro::e_step(b, selector, generator, dro::models::table_rows{0, 1}, {8, 2}, random));
}
