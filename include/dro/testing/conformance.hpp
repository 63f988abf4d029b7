// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTING_CONFORMANCE_HPP
#define DRO_TESTING_CONFORMANCE_HPP

/// \file
/// The conformance suite: whether a backend, yours or the library's, gives what the host gives. With doctest:
///
///     #include <dro/testing/conformance.hpp>
///     DRO_CONFORMANCE_SUITE("my backend", my_backend);           // test cases for float and double
///
/// for a backend that needs no arguments, or, of one that you made,
///
///     TEST_CASE("my backend") {
///       my_backend b(device);
///       dro::testing::check_conformance<float>(b);
///     }
///
/// Every algorithm of the library is run on fixed inputs, twice on the backend and once on a host_backend of one
/// thread. Rankings, statuses and all other integers must be equal to the bit, and the second run must equal the first
/// to the bit. Floating results must equal the host's to the bit where the backend is host_executed, since then it runs
/// the very same compiled programs; else they must lie within bounds that are derived, beside each result, from the
/// rounding of one operation. The suite has no row program of its own: what a backend was compiled with is enough.
///
/// All of it takes a compiler about a minute for each backend. DRO_CONFORMANCE_BASICS, _RANKINGS, _WEIGHTS,
/// _SCORE_SPACE and _STEPS register one group each, for a file of its own. Without doctest, include the groups' headers
/// and look at the `findings` that their check_… functions fill.

#include <string>
#include <utility>

#include <doctest/doctest.h>

#include <dro/backend/concept.hpp>
#include <dro/testing/basics.hpp>
#include <dro/testing/rankings.hpp>
#include <dro/testing/score_space.hpp>
#include <dro/testing/steps.hpp>
#include <dro/testing/transcript.hpp>
#include <dro/testing/weights.hpp>

namespace dro::testing {

/// All that `b` does otherwise than it should, by every group of the suite, for numbers of type T.
template <class T, backend B>
[[nodiscard]] findings conformance(B& b) {
  findings found;
  check_basics(b, found);
  check_draws<T>(b, found);
  check_proposals<T>(b, found);
  check_weights<T>(b, found);
  check_calibrations<T>(b, found);
  check_objectives<T>(b, found);
  check_score_space<T>(b, found);
  check_sets<T>(b, found);
  check_steps<T>(b, found);
  check_proposal_steps<T>(b, found);
  return found;
}

/// Reports findings to doctest, each as a failed check of the running test case.
inline void report(const findings& found) {
  for (const finding& f : found.list) {
    const std::string text = f.where + ": " + f.quantity + " " + f.what;
    ADD_FAIL_CHECK_AT(__FILE__, __LINE__, text);
  }
  CHECK(found.cases > 0);
}

/// Runs the whole suite for T on `b` and reports to doctest.
template <class T, backend B>
void check_conformance(B& b) {
  report(conformance<T>(b));
}

}  // namespace dro::testing

#define DRO_CONFORMANCE_OF_TYPES(name, check, ...)      \
  TEST_CASE_TEMPLATE(name, dro_scalar, float, double) { \
    __VA_ARGS__ dro_b{};                                \
    dro::testing::findings dro_found;                   \
    dro::testing::check<dro_scalar>(dro_b, dro_found);  \
    dro::testing::report(dro_found);                    \
  }                                                     \
  static_assert(true)

// One group of the suite each.
#define DRO_CONFORMANCE_BASICS(name, ...)         \
  TEST_CASE(name ": basics") {                    \
    __VA_ARGS__ dro_b{};                          \
    dro::testing::findings dro_found;             \
    dro::testing::check_basics(dro_b, dro_found); \
    dro::testing::report(dro_found);              \
  }                                               \
  static_assert(true)
#define DRO_CONFORMANCE_RANKINGS(name, ...)                           \
  DRO_CONFORMANCE_OF_TYPES(name ": draws", check_draws, __VA_ARGS__); \
  DRO_CONFORMANCE_OF_TYPES(name ": proposals", check_proposals, __VA_ARGS__)
#define DRO_CONFORMANCE_WEIGHTS(name, ...)                                          \
  DRO_CONFORMANCE_OF_TYPES(name ": weights", check_weights, __VA_ARGS__);           \
  DRO_CONFORMANCE_OF_TYPES(name ": calibrations", check_calibrations, __VA_ARGS__); \
  DRO_CONFORMANCE_OF_TYPES(name ": objectives", check_objectives, __VA_ARGS__)
#define DRO_CONFORMANCE_SCORE_SPACE(name, ...)                                            \
  DRO_CONFORMANCE_OF_TYPES(name ": gradients by scores", check_score_space, __VA_ARGS__); \
  DRO_CONFORMANCE_OF_TYPES(name ": sets", check_sets, __VA_ARGS__)
#define DRO_CONFORMANCE_STEPS(name, ...) DRO_CONFORMANCE_OF_TYPES(name ": steps", check_steps, __VA_ARGS__)
#define DRO_CONFORMANCE_PROPOSAL_STEPS(name, ...) \
  DRO_CONFORMANCE_OF_TYPES(name ": steps with proposals", check_proposal_steps, __VA_ARGS__)

/// Registers all test cases of the suite, each for float and double, for the default-constructible backend type that
/// the arguments after `name`, a string literal, spell.
#define DRO_CONFORMANCE_SUITE(name, ...)          \
  DRO_CONFORMANCE_BASICS(name, __VA_ARGS__);      \
  DRO_CONFORMANCE_RANKINGS(name, __VA_ARGS__);    \
  DRO_CONFORMANCE_WEIGHTS(name, __VA_ARGS__);     \
  DRO_CONFORMANCE_SCORE_SPACE(name, __VA_ARGS__); \
  DRO_CONFORMANCE_STEPS(name, __VA_ARGS__);       \
  DRO_CONFORMANCE_PROPOSAL_STEPS(name, __VA_ARGS__)

#endif
