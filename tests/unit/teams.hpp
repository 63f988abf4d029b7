// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_UNIT_TEAMS_HPP
#define DRO_TESTS_UNIT_TEAMS_HPP

/// \file
/// A calculation on the host, one thread a row, against the same with teams of several threads.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/config.hpp>

#include "support/check.hpp"

namespace test {

/// What a calculation gave, matrix by matrix.
class results {
 public:
  template <class B, class M>
  void add(B& b, std::string name, const M& m) {
    const auto values = read(b, m);
    part p{std::move(name), values.rows(), values.cols(), {}, true};
    p.is_exact = std::is_integral_v<std::remove_cvref_t<decltype(values(0, 0))>>;
    for (dro::index_t i = 0; i < values.rows(); ++i) {
      for (dro::index_t j = 0; j < values.cols(); ++j) p.values.push_back(static_cast<double>(values(i, j)));
    }
    parts_.push_back(std::move(p));
  }

  /// Integers must be equal. Numbers may differ by what another order of summation can change: no sum here has more
  /// than 64 terms, each order of which is off by at most 64 u Σ|terms|; terms are up to 16 times as large as the
  /// largest number of the result, and at most four sums follow upon each other: 2 · 4 · 16 · 64 u = 2^13 u.
  void check_against(const results& expected) const {
    REQUIRE(parts_.size() == expected.parts_.size());
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      const part& a = parts_[k];
      const part& e = expected.parts_[k];
      REQUIRE(a.rows == e.rows);
      REQUIRE(a.cols == e.cols);
      double largest = 1;
      for (const double v : e.values)
        largest = std::abs(v) < infinity<double> ? std::max(largest, std::abs(v)) : largest;
      const double tolerance = a.is_exact ? 0 : 8192 * unit_roundoff<double> * largest;
      for (std::size_t i = 0; i < a.values.size(); ++i) {
        const bool agree =
            (std::isnan(a.values[i]) && std::isnan(e.values[i])) ||
            near(static_cast<real>(a.values[i]), static_cast<real>(e.values[i]), static_cast<real>(tolerance));
        CHECK_MESSAGE(agree, a.name, " [", i, "] is ", a.values[i], ", expected ", e.values[i]);
      }
    }
  }

 private:
  struct part {
    std::string name;
    dro::index_t rows, cols;
    std::vector<double> values;
    bool is_exact;
  };
  std::vector<part> parts_;
};

/// Runs calculation(backend, results) with one thread a row, and then with teams of 1, 2, 3 and 5.
template <class Calculation>
void check_teams(Calculation&& calculation) {
  dro::host_backend host(1);
  results expected;
  calculation(host, expected);
  for (const int size : {1, 2, 3, 5}) {
    CAPTURE(size);
    dro::concurrent_backend b(size);
    results found;
    calculation(b, found);
    found.check_against(expected);
  }
}

}  // namespace test

#endif
