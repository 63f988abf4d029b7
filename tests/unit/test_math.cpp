// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <dro/math/binary_format.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Distance of `got` from `exact` in ulps of T: in units of the last place of the binade of T that `exact` lies in.
template <class T, class Exact>
double ulps(Exact exact, T got) {
  int exponent = 0;
  std::frexp(exact, &exponent);
  const int digits = std::numeric_limits<T>::digits;
  const int unit = std::max(exponent - digits, std::numeric_limits<T>::min_exponent - digits);
  return static_cast<double>(std::ldexp(std::fabs(static_cast<Exact>(got) - exact), -unit));
}

struct exp_function {
  template <class T>
  static T ours(T x) {
    return dro::math::exp(x);
  }
  template <class T>
  static T reference(T x) {
    return std::exp(x);
  }
};
struct log_function {
  template <class T>
  static T ours(T x) {
    return dro::math::log(x);
  }
  template <class T>
  static T reference(T x) {
    return std::log(x);
  }
};
struct log1p_function {
  template <class T>
  static T ours(T x) {
    return dro::math::log1p(x);
  }
  template <class T>
  static T reference(T x) {
    return std::log1p(x);
  }
};

// Collects arguments and compares our function with the reference in the wider type, 4096 at a time, so that what is
// tested is the code that the compiler makes of a loop.
template <class Function, class T, class Wide>
class comparison {
 public:
  void add(T x) {
    arguments_[count_++] = x;
    if (count_ == size) flush();
  }
  void add_bits(typename dro::math::detail::binary_format<T>::word bits) { add(dro::math::bit_cast<T>(bits)); }

  double worst() {
    flush();
    INFO("worst argument ", worst_argument_, ", first misclassified argument ", misclassified_argument_);
    CHECK(misclassified_ == 0);
    return worst_;
  }

 private:
  static constexpr std::size_t size = 4096;

  void flush() {
    for (std::size_t i = 0; i < count_; ++i) results_[i] = Function::template ours<T>(arguments_[i]);
    for (std::size_t i = 0; i < count_; ++i) compare(arguments_[i], results_[i]);
    count_ = 0;
  }

  void compare(T x, T got) {
    const Wide exact = Function::template reference<Wide>(static_cast<Wide>(x));
    const T rounded = static_cast<T>(exact);
    // NaN, and infinities of the exact value, have to be met. At the limit of overflow 1 ulp is the step to infinity.
    const bool special = std::isnan(exact) || std::isinf(exact) || std::isnan(got) || std::isinf(got);
    if (special) {
      const bool met = std::isnan(exact) ? std::isnan(got) : got == rounded;
      if (!met && misclassified_++ == 0) misclassified_argument_ = x;
    } else if (std::isfinite(rounded)) {
      const double distance = ulps<T>(exact, got);
      if (distance > worst_) {
        worst_ = distance;
        worst_argument_ = x;
      }
    }
  }

  std::vector<T> arguments_ = std::vector<T>(size);
  std::vector<T> results_ = std::vector<T>(size);
  std::size_t count_ = 0;
  double worst_ = 0;
  T worst_argument_ = 0;
  int misclassified_ = 0;
  T misclassified_argument_ = 0;
};

// SplitMix64 (Steele, Lea, Flood 2014): arguments for the tests, independent of the library's own generator.
class split_mix {
 public:
  explicit split_mix(std::uint64_t seed) : state_(seed) {}
  std::uint64_t operator()() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }
  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>((*this)() >> 11U) * 0x1p-53);
  }

 private:
  std::uint64_t state_;
};

// Every float, with DRO_EXHAUSTIVE set; else every 1021st, every float within 512 places of a power of two (so within
// all subnormals near 0, both infinities and ±1), of √2 times one, and of the multiples of ½ ln 2, where exp and log
// change from one reduction to the next.
template <class Function>
double worst_float() {
  comparison<Function, float, double> check;
  const std::uint64_t step = std::getenv("DRO_EXHAUSTIVE") != nullptr ? 1 : 1021;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32U); bits += step) {
    check.add_bits(static_cast<std::uint32_t>(bits));
  }
  const auto around = [&](float x) {
    const auto bits = dro::math::bit_cast<std::uint32_t>(x);
    for (std::uint32_t i = 0; i < 1024; ++i) check.add_bits(bits + i - 512);
  };
  for (int exponent = -150; exponent <= 128; ++exponent) {
    for (const double factor : {1.0, std::sqrt(2.0)}) {
      around(static_cast<float>(std::ldexp(factor, exponent)));
      around(static_cast<float>(-std::ldexp(factor, exponent)));
    }
  }
  for (int i = -310; i <= 260; ++i) around(static_cast<float>(0.5 * i * std::log(2.0)));
  return check.worst();
}

// For every exponent and sign 64 random significands and the 16 numbers on either side of the power of two and of √2
// times it; the multiples of ½ ln 2; and random numbers in [low, high].
template <class Function>
double worst_double(double low, double high) {
  comparison<Function, double, long double> check;
  split_mix random(1);
  const auto around = [&](double x) {
    const auto bits = dro::math::bit_cast<std::uint64_t>(x);
    for (std::uint64_t i = 0; i < 32; ++i) check.add_bits(bits + i - 16);
  };
  for (std::uint64_t exponent = 0; exponent < 2048; ++exponent) {
    for (std::uint64_t sign = 0; sign < 2; ++sign) {
      const std::uint64_t base = (sign << 63U) | (exponent << 52U);
      for (int i = 0; i < 64; ++i) check.add_bits(base | (random() >> 12U));
      around(dro::math::bit_cast<double>(base));
      around(dro::math::bit_cast<double>(base | 0x6a09e667f3bcdU));
    }
  }
  for (int i = -2160; i <= 2060; ++i) around(0.5 * i * std::log(2.0));
  for (int i = 0; i < 1000000; ++i) check.add(random.uniform(low, high));
  return check.worst();
}

TEST_CASE_TEMPLATE("exp, log and log1p at special values", T, float, double) {
  using limits = std::numeric_limits<T>;
  const T inf = limits::infinity();
  CHECK(dro::math::exp(T(0)) == T(1));
  CHECK(dro::math::exp(T(-0.0)) == T(1));
  CHECK(dro::math::exp(inf) == inf);
  CHECK(dro::math::exp(-inf) == T(0));
  CHECK(std::isnan(dro::math::exp(T(nan))));
  CHECK(std::isnan(dro::math::exp(-T(nan))));
  CHECK(dro::math::exp(limits::max()) == inf);
  CHECK(dro::math::exp(limits::lowest()) == T(0));
  CHECK(dro::math::exp(limits::denorm_min()) == T(1));

  CHECK(dro::math::log(T(1)) == T(0));
  CHECK_FALSE(std::signbit(dro::math::log(T(1))));
  CHECK(dro::math::log(T(0)) == -inf);
  CHECK(dro::math::log(T(-0.0)) == -inf);
  CHECK(dro::math::log(inf) == inf);
  CHECK(std::isnan(dro::math::log(-inf)));
  CHECK(std::isnan(dro::math::log(T(-1))));
  CHECK(std::isnan(dro::math::log(-limits::denorm_min())));
  CHECK(std::isnan(dro::math::log(T(nan))));
  CHECK(std::isnan(dro::math::log(-T(nan))));

  CHECK(dro::math::log1p(T(0)) == T(0));
  CHECK(dro::math::log1p(T(-1)) == -inf);
  CHECK(dro::math::log1p(inf) == inf);
  CHECK(std::isnan(dro::math::log1p(-inf)));
  CHECK(std::isnan(dro::math::log1p(T(-1) - limits::epsilon())));
  CHECK(std::isnan(dro::math::log1p(T(nan))));
  for (const T tiny : {limits::denorm_min(), limits::min(), limits::epsilon() / 4}) {
    CHECK(dro::math::log1p(tiny) == tiny);
    CHECK(dro::math::log1p(-tiny) == -tiny);
  }
}

// The bounds are those of the docstrings. A double reference is off by less than 2^-28 ulp of float, an 80-bit one by
// less than 2^-10 ulp of double; the worst values found are below 0.93, so neither can hide a violation.
TEST_CASE("float exp, log and log1p are within 1 ulp over all floats") {
  CHECK(worst_float<exp_function>() <= 1.0);
  CHECK(worst_float<log_function>() <= 1.0);
  CHECK(worst_float<log1p_function>() <= 1.0);
}

TEST_CASE("double exp, log and log1p are within 1 ulp") {
  static_assert(std::numeric_limits<long double>::digits >= 64, "the reference needs a long double wider than double");
  CHECK(worst_double<exp_function>(-746, 711) <= 1.0);
  CHECK(worst_double<log_function>(0.4, 3) <= 1.0);
  CHECK(worst_double<log1p_function>(-1, 2) <= 1.0);
}

TEST_CASE_TEMPLATE("log_of_normal is the logarithm of a number with another exponent", T, float, double) {
  using wide = std::conditional_t<std::is_same_v<T, float>, double, long double>;
  split_mix random(2);
  double worst = 0;
  for (int i = 0; i < 100000; ++i) {
    const int exponent = static_cast<int>(random.uniform(-100, 100));
    const int power = i % 3 == 0 ? -exponent : static_cast<int>(random.uniform(-300, 300));  // a third of them near 1
    const T x = std::ldexp(static_cast<T>(random.uniform(1, 2)), exponent);
    const wide exact = std::log(std::ldexp(static_cast<wide>(x), power));
    worst = std::max(worst, ulps<T>(exact, dro::math::log_of_normal(x, static_cast<T>(power))));
  }
  CHECK(worst <= 1.0);
  CHECK(dro::math::log_of_normal(T(1), T(0)) == T(0));
  CHECK(dro::math::log_of_normal(T(8), T(-3)) == T(0));
}

TEST_CASE_TEMPLATE("log_add_exp", T, float, double) {
  using dro::math::log_add_exp;
  const T inf = T(infinity);
  const T u = std::numeric_limits<T>::epsilon() / 2;
  CHECK(log_add_exp(-inf, -inf) == -inf);
  CHECK(log_add_exp(-inf, T(3)) == T(3));
  CHECK(log_add_exp(T(3), -inf) == T(3));
  CHECK(std::fabs(log_add_exp(T(3), T(3)) - T(3 + 0.69314718055994531)) <= 8 * u);  // one place in [2, 4)
  CHECK(log_add_exp(inf, T(3)) == inf);
  CHECK(log_add_exp(inf, inf) == inf);
  CHECK(log_add_exp(inf, -inf) == inf);
  CHECK(std::isnan(log_add_exp(T(nan), T(3))));
  CHECK(std::isnan(log_add_exp(T(3), T(nan))));
  CHECK(std::isnan(log_add_exp(T(nan), inf)));
  CHECK(std::isnan(log_add_exp(-inf, T(nan))));

  // Off by at most 2.5 u, plus half an ulp (so u |result|) of the result: see the docstring.
  split_mix random(2);
  for (int i = 0; i < 20000; ++i) {
    const T a = static_cast<T>(random.uniform(-30, 30));
    const T b = static_cast<T>(random.uniform(-30, 30));
    const long double exact = std::log(std::exp(static_cast<long double>(a)) + std::exp(static_cast<long double>(b)));
    const T got = log_add_exp(a, b);
    REQUIRE(std::fabs(static_cast<long double>(got) - exact) <=
            static_cast<long double>(u) * (2.5L + std::fabs(exact)));
    REQUIRE(got == log_add_exp(b, a));
  }
}

TEST_CASE_TEMPLATE("log_sum_exp meets its bound and does not overflow", T, float, double) {
  const T u = std::numeric_limits<T>::epsilon() / 2;
  split_mix random(3);
  for (const int n : {1, 2, 7, 8, 9, 31, 1000}) {
    for (const double centre : {0.0, -2000.0, 1e4}) {
      std::vector<T> x;
      for (int i = 0; i < n; ++i) x.push_back(static_cast<T>(centre + random.uniform(-20, 20)));
      long double sum = 0;
      for (const T value : x) sum += std::exp(static_cast<long double>(value) - static_cast<long double>(centre));
      const long double exact = std::log(sum) + static_cast<long double>(centre);
      // (n/8 + 3 ln n + 5) u, plus one ulp (at most 2 u |result|) of the result: see the docstring.
      const long double bound = static_cast<long double>(u) *
                                (n / 8.0L + 3 * std::log(static_cast<long double>(n)) + 5 + 2 * std::fabs(exact));
      const T got = dro::math::log_sum_exp(x.data(), n);
      CHECK(std::fabs(static_cast<long double>(got) - exact) <= bound);
    }
  }
}

TEST_CASE_TEMPLATE("log_sum_exp at its edges", T, float, double) {
  using dro::math::log_sum_exp;
  const T inf = T(infinity);
  CHECK(log_sum_exp<T>(nullptr, 0) == -inf);
  for (const int n : {1, 8, 11}) {
    for (int at = 0; at < n; ++at) {
      const auto with = [&](T fill, T value) {
        std::vector<T> x(static_cast<std::size_t>(n), fill);
        x[static_cast<std::size_t>(at)] = value;
        return log_sum_exp(x.data(), n);
      };
      CHECK(with(-inf, -inf) == -inf);
      CHECK(with(-inf, T(-5000)) == T(-5000));
      CHECK(with(T(1), inf) == inf);
      CHECK(with(-inf, inf) == inf);
      CHECK(with(inf, inf) == inf);
      CHECK(std::isnan(with(T(1), T(nan))));
      CHECK(std::isnan(with(-inf, T(nan))));
      CHECK(std::isnan(with(inf, T(nan))));
      if (n > 1) CHECK(std::isnan(with(T(nan), T(1))));
    }
  }
}

TEST_CASE_TEMPLATE("log_sum_exp adds in the order it states, whatever the stride", T, float, double) {
  split_mix random(4);
  constexpr int n = 1006;
  std::vector<T> x;
  for (int i = 0; i < n; ++i) x.push_back(static_cast<T>(random.uniform(-10, 0)));
  const T contiguous = dro::math::log_sum_exp(x.data(), n);
  const T largest = *std::max_element(x.begin(), x.end());
  T sum[8] = {};
  for (std::size_t i = 0; i < n; ++i) sum[i % 8] += dro::math::exp(x[i] - largest);
  const T total = ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
  CHECK(contiguous == largest + dro::math::log(total));

  std::vector<T> spread(3 * n, T(1000));
  for (std::size_t i = 0; i < n; ++i) spread[3 * i] = x[i];
  CHECK(dro::math::log_sum_exp(spread.data(), n, 3) == contiguous);
  std::reverse(x.begin(), x.end());
  CHECK(dro::math::log_sum_exp(x.data() + n - 1, n, -1) == contiguous);
}

}  // namespace
