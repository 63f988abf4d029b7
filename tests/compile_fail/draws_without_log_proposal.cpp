// SPDX-License-Identifier: Apache-2.0
// Weights can never be formed from draws whose log q nobody knows: there is no way to make them.
// EXPECT(GNU): no matching function for call to 'dro::draws<dro::host_backend, double>::draws(
// EXPECT(Clang): no matching constructor for initialization of 'dro::draws<dro::host_backend, double>'
#include <dro/backend/host.hpp>
#include <dro/ranking/draws.hpp>

dro::draws<dro::host_backend, double> draw(dro::host_backend& b) {
  dro::host_matrix<dro::document_t> rankings(8, 2);
#ifdef DRO_COMPILE_FAIL_CONTROL
  return dro::draws<dro::host_backend, double>(b, rankings, dro::host_matrix<double>(8, 1),
                                               dro::grouping::uniform(2, 4));
#else
  return dro::draws<dro::host_backend, double>(b, rankings, dro::grouping::uniform(2, 4));
#endif
}
