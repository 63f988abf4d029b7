// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/matrix_view.hpp>
#include <dro/backend/team.hpp>
#include <dro/estimate/pareto.hpp>

#include "support/check.hpp"
#include "support/reference.hpp"

namespace {

using dro::index_t;
using dro::tail_fit;
using test::real;

/// smooth_tail of one query on the host; `x` is smoothed in place.
template <class T>
dro::pareto_tail<T> smooth(std::vector<T>& x, double relative_efficiency = 1) {
  const auto size = static_cast<index_t>(x.size());
  const auto groups = dro::grouping::uniform(1, size);
  std::vector<std::int32_t> draw(x.size(), -1), rank(x.size(), -1);
  std::vector<T> log_excess(x.size(), test::nan<T>);
  const dro::tail_workspace<T> work{{dro::row_major_view(draw.data(), size, 1), groups, "draw"},
                                    {dro::row_major_view(rank.data(), size, 1), groups, "rank"},
                                    {dro::row_major_view(log_excess.data(), size, 1), groups, "log_excess"}};
  dro::host_team team;
  return dro::smooth_tail<T>(
      team, 0, size, [&](index_t i) -> T& { return x[static_cast<std::size_t>(i)]; }, [](index_t) { return T(1); },
      work, relative_efficiency);
}

/// What make_cases.py says a case's log-weights are.
enum class family { log_normal, pareto, power, laplace, uniform };

class variates {
 public:
  explicit variates(std::uint64_t seed) : words_(seed) {}

  double operator()(family f) {
    switch (f) {
      case family::log_normal: {
        double total = -6;
        for (int i = 0; i < 12; ++i) total += uniform();
        return total;
      }
      case family::pareto:
        return exponential();
      case family::power:
        return -exponential();
      case family::laplace: {
        const double first = exponential();
        return first - exponential();
      }
      case family::uniform:
        break;
    }
    return uniform();
  }

 private:
  double uniform() { return static_cast<double>(words_.word() >> 11U) * 0x1p-53; }
  /// Von Neumann's: runs of descending uniforms.
  double exponential() {
    for (double whole = 0;; whole += 1) {
      const double first = uniform();
      double last = first;
      for (int length = 1;; ++length) {
        const double next = uniform();
        if (next >= last) {
          if (length % 2 == 1) return whole + first;
          break;
        }
        last = next;
      }
    }
  }

  test::numbers words_;
};

/// What one implementation made of a case: k̂, twelve of the normalised log-weights and the mean of all.
struct golden_fit {
  double shape;
  double some[12];
  double mean;
};

struct golden_case {
  std::uint64_t number;
  family kind;
  index_t size;
  double scale, shift, step;
  golden_fit arviz, loo;
};

const golden_case golden_cases[] = {
#include "golden/psis/cases.inc"
};

std::vector<double> inputs(const golden_case& c) {
  variates next(c.number);
  std::vector<double> x(static_cast<std::size_t>(c.size));
  // Not contracted: the product is rounded before the sum, as it was where the values were made.
  for (double& v : x) {
    const volatile double product = c.scale * next(c.kind);
    v = product + c.shift;
    if (c.step > 0) v = std::floor(v / c.step) * c.step;
  }
  return x;
}

/// k̂ and the smoothed log-weights of distinct x, from the published formulas as they stand. long double holds e^±11000.
template <class T>
std::pair<real, std::vector<real>> from_definitions(const std::vector<T>& log_weights) {
  std::vector<real> w(log_weights.begin(), log_weights.end());
  std::sort(w.begin(), w.end());
  const real top = w.back();
  for (real& v : w) v = std::exp(v - top);
  const auto m = static_cast<std::size_t>(dro::pareto_tail_length(static_cast<index_t>(w.size())));
  const auto length = static_cast<real>(m);
  const real cutoff = w[w.size() - m - 1];
  std::vector<real> x(w.end() - static_cast<std::ptrdiff_t>(m), w.end());
  for (real& v : x) v -= cutoff;
  const auto shape = [&](real theta) {
    real sum = 0;
    for (const real v : x) sum += std::log1p(-theta * v);
    return sum / length;
  };
  const real points = 30 + std::floor(std::sqrt(length));
  std::vector<real> theta, profile;
  for (real j = 1; j <= points; ++j) {
    theta.push_back(1 / x.back() + (1 - std::sqrt(points / (j - 0.5L))) / (3 * x[(m + 2) / 4 - 1]));
    const real k = shape(theta.back());
    profile.push_back(length * (std::log(-theta.back() / k) - k - 1));
  }
  const std::vector<real> share = test::softmax(profile);
  const real mean = std::inner_product(theta.begin(), theta.end(), share.begin(), real(0));
  const real sigma = -shape(mean) / mean;
  const real k = (length * shape(mean) + 5) / (length + 10);
  std::vector<real> smoothed;
  for (std::size_t j = 0; j < m; ++j) {
    const real p = (static_cast<real>(j) + 0.5L) / length;
    const real quantile = sigma * std::expm1(-k * std::log1p(-p)) / k;
    smoothed.push_back(std::min<real>(top, top + std::log(cutoff + quantile)));
  }
  return {k, smoothed};
}

std::vector<double> normalised(const std::vector<double>& x) {
  const real total = test::log_sum_exp({x.begin(), x.end()});
  std::vector<double> result;
  for (const double v : x) result.push_back(static_cast<double>(v - total));
  return result;
}

void check_fit(const golden_case& c, const golden_fit& expected, const std::vector<double>& raw,
               const std::vector<double>& smoothed, const dro::pareto_tail<double>& found) {
  constexpr double tolerance = 1e-6;
  if (std::isinf(expected.shape)) {
    CHECK(found.fit == tail_fit::tied);
    CHECK(std::isnan(found.shape));
  } else {
    CHECK(found.fit == tail_fit::fitted);
    DRO_CHECK_NEAR(found.shape, expected.shape, tolerance);
  }
  std::vector<std::size_t> down(raw.size());
  std::iota(down.begin(), down.end(), std::size_t{0});
  std::sort(down.begin(), down.end(), [&](auto i, auto j) { return raw[i] > raw[j] || (raw[i] == raw[j] && i > j); });
  const auto tail = static_cast<std::size_t>(dro::pareto_tail_length(c.size));
  for (std::size_t j = 0; j < 12; ++j) {
    DRO_CHECK_NEAR(smoothed[down[j * (tail + 1) / 11]], expected.some[j], tolerance);
  }
  const real sum = std::accumulate(smoothed.begin(), smoothed.end(), real(0));
  DRO_CHECK_NEAR(sum / static_cast<real>(c.size), expected.mean, tolerance);
}

}  // namespace

TEST_CASE("k̂ and smoothed log-weights are those of ArviZ and of loo") {
  index_t untied = 0, tied = 0, tied_and_fitted = 0;
  for (const golden_case& c : golden_cases) {
    CAPTURE(c.number);
    const std::vector<double> raw = inputs(c);
    std::vector<double> x = raw;
    const auto found = smooth(x);
    x = normalised(x);
    check_fit(c, c.loo, raw, x, found);
    check_fit(c, c.arviz, raw, x, found);
    untied += c.step == 0;
    tied += c.step > 0;
    tied_and_fitted += c.step > 0 && found.fit == tail_fit::fitted;
  }
  CHECK(untied >= 200);
  CHECK(tied >= 20);
  CHECK(tied_and_fitted >= 10);
}

TEST_CASE("tail lengths and thresholds are the published ones") {
  CHECK(dro::pareto_tail_length(0) == 0);
  CHECK(dro::pareto_tail_length(1) == 1);
  CHECK(dro::pareto_tail_length(20) == 4);
  CHECK(dro::pareto_tail_length(21) == 5);
  CHECK(dro::pareto_tail_length(225) == 45);    // where S/5 = 3 √S
  CHECK(dro::pareto_tail_length(400) == 60);    // 3 · 20, and not 80
  CHECK(dro::pareto_tail_length(4000) == 190);  // 3 · 63.2
  CHECK(dro::pareto_tail_length(400, 0.25) == 80);
  CHECK(dro::pareto_tail_length(400, 4) == 30);
  DRO_CHECK_NEAR(dro::pareto_shape_threshold(100), 0.5, 1e-15);
  DRO_CHECK_NEAR(dro::pareto_shape_threshold(1000), 2. / 3, 1e-15);
  CHECK(dro::pareto_shape_threshold(2200) == 0.7);  // 1 − 1/3.342 = 0.7008
}

TEST_CASE("the relative efficiency moves the cut-off") {
  variates next(1);
  std::vector<double> raw(400);
  for (double& v : raw) v = next(family::pareto);
  for (const double efficiency : {0.25, 1.0, 4.0}) {
    auto x = raw;
    CHECK(smooth(x, efficiency).fit == tail_fit::fitted);
    index_t changed = 0;
    for (std::size_t i = 0; i < x.size(); ++i) changed += x[i] != raw[i];
    CHECK(changed <= dro::pareto_tail_length(400, efficiency));
    CHECK(changed >= dro::pareto_tail_length(400, efficiency) - 3);  // those held at the largest
  }
}

TEST_CASE("a tail that cannot be fitted is left alone and says why") {
  const auto check = [](std::vector<double> x, tail_fit expected) {
    const std::vector<double> before = x;
    const auto found = smooth(x);
    CHECK(found.fit == expected);
    CHECK(std::isnan(found.shape) == (expected != tail_fit::fitted));
    CHECK((x == before) == (expected != tail_fit::fitted));
  };
  std::vector<double> x(100);
  for (std::size_t i = 0; i < 100; ++i) x[i] = -0.01 * static_cast<double>(i * i);
  check(x, tail_fit::fitted);
  check({x.begin(), x.begin() + 20}, tail_fit::too_short);
  check({x.begin(), x.begin() + 21}, tail_fit::fitted);
  check({}, tail_fit::too_short);

  auto equal_tail = x;
  std::fill_n(equal_tail.begin(), 20, 1);
  check(equal_tail, tail_fit::tied);
  check(std::vector<double>(100, -3), tail_fit::tied);
  // The lower quarter of a tail of 20 is 5 draws: tied with the cut-off, or all but one.
  auto equal_quarter = x;
  std::fill_n(equal_quarter.begin() + 15, 6, x[15]);
  check(equal_quarter, tail_fit::tied);
  equal_quarter[15] += 0.001;
  check(equal_quarter, tail_fit::fitted);

  // Twenty-one possible draws are a tail of twenty and its cut-off.
  auto impossible = x;
  std::fill(impossible.begin() + 21, impossible.end(), -test::infinity<double>);
  check(impossible, tail_fit::fitted);
  impossible[20] = -test::infinity<double>;
  check(impossible, tail_fit::impossible);
  check(std::vector<double>(100, -test::infinity<double>), tail_fit::impossible);
}

TEST_CASE_TEMPLATE("weights thousands of nats apart are fitted as the definitions have it", T, float, double) {
  for (const T scale : {T(0.25), T(1), T(4), T(40), T(400)}) {
    for (const index_t size : {25, 100, 400}) {
      CAPTURE(scale);
      CAPTURE(size);
      variates next(static_cast<std::uint64_t>(size));
      std::vector<T> x(static_cast<std::size_t>(size));
      for (T& v : x) v = scale * static_cast<T>(next(family::pareto));
      const auto [k, tail] = from_definitions(x);
      const auto found = smooth(x);
      CHECK(found.fit == tail_fit::fitted);
      // M of the log-likelihoods, M ≤ 60, are off by (M/8 + 3 + a few) u relative to k: the share of a grid point by
      // about 20 M k u < 1200 u k, and k̂ by no more than that share of itself. Smoothed log-weights move by k̂'s error
      // times log 2M < 5, on top of a few u of themselves.
      const real tolerance = 1200 * static_cast<real>(test::unit_roundoff<T>) * std::max<real>(1, k * k);
      DRO_CHECK_NEAR(found.shape, k, tolerance);
      std::sort(x.begin(), x.end());
      for (std::size_t j = 0; j < tail.size(); ++j) {
        DRO_CHECK_NEAR(x[x.size() - tail.size() + j], tail[j],
                       6 * tolerance + 8 * std::abs(tail[j]) * static_cast<real>(test::unit_roundoff<T>));
      }
    }
  }
}

TEST_CASE("log((e^y − 1)/y) does not cancel") {
  constexpr double u = test::unit_roundoff<double>;
  CHECK(dro::detail::log_exprel(0.0) == 0);
  for (const real size : {1e-300L, 1e-17L, 1e-12L, 1e-8L, 1e-3L, 0.3L, 0.999L, 1.001L, 3.L, 50.L, 700.L, 5000.L}) {
    for (const double y : {static_cast<double>(size), -static_cast<double>(size)}) {
      const real expected = std::log(std::expm1(static_cast<real>(y)) / y);
      // The logarithm of something near 1: a few u. Beyond 1, a few roundings of y.
      DRO_CHECK_NEAR(dro::detail::log_exprel(y), expected, 4 * u * std::max<real>(1, size));
      if (y > 0) {
        DRO_CHECK_NEAR(dro::detail::log_expm1(y), std::log(std::expm1(static_cast<real>(y))),
                       4 * u * std::max<real>(std::abs(std::log(size)), size));
      }
    }
  }
}
