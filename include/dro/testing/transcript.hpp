// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTING_TRANSCRIPT_HPP
#define DRO_TESTING_TRANSCRIPT_HPP

/// \file
/// What a piece of work gave, in host memory, and the comparison of two such accounts.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/config.hpp>

namespace dro::testing {

/// How far a correct implementation may be from the exact result: `roundings` · u · `scale`, with u half the distance
/// from 1 to the next number, where `scale` is a number or the result's own size. Two correct implementations may
/// therefore differ by twice that. Bounds are derived where they are stated, from
///
/// - exp, log and log1p: 1 ulp, which is at most 2 u of the result;
/// - one operation, contracted with the next or not: at most u of its result;
/// - a sum of m terms in any order: at most (m − 1) u Σ|term|;
///
/// to first order in u.
struct bound {
  double roundings = 0;
  double scale = 0;
  bool is_relative = false;

  /// Equal to the last bit on every backend.
  [[nodiscard]] static constexpr bound exact() { return {}; }
  /// Of a result of any size up to `scale`.
  [[nodiscard]] static constexpr bound absolute(double roundings, double scale) { return {roundings, scale, false}; }
  /// In parts of the result itself.
  [[nodiscard]] static constexpr bound relative(double roundings) { return {roundings, 1, true}; }
};

/// One thing found wrong: where, in which result, and what.
struct finding {
  std::string where, quantity, what;
};

/// What a result is called: one name, or what it is of and then a name.
class label {
 public:
  // NOLINTBEGIN(google-explicit-constructor): a name is a label
  label(const char* name) : name_(name) {}
  label(const std::string& name) : name_(name) {}
  // NOLINTEND(google-explicit-constructor)
  label(std::string_view of, std::string_view name) : of_(of), name_(name) {}

  [[nodiscard]] std::string text() const {
    return of_.empty() ? std::string(name_) : std::string(of_) + ": " + std::string(name_);
  }

 private:
  std::string_view of_, name_;
};

namespace detail {

struct record {
  std::string quantity;
  index_t rows = 0;
  index_t cols = 0;
  double unit_roundoff = 0;  // 0 for integers
  bound allowed;
  std::vector<double> values;  // float, double and 32-bit integers are all exact in double
};

/// Equal to the bit, any NaN being equal to any other.
[[nodiscard]] inline bool same_number(double a, double b) {
  return a == b ? std::signbit(a) == std::signbit(b) : a != a && b != b;
}

[[nodiscard]] inline bool is_near(double a, double b, double tolerance) {
  return a == b || (a != a && b != b) || std::abs(a - b) <= tolerance;
}

}  // namespace detail

/// Results of a piece of work in the order in which it gave them.
class transcript {
 public:
  /// Notes what `m`, a matrix or view of backend `b`, holds. Floating results are equal within `allowed`, or to the bit
  /// where the backends run the same compiled programs; integers always to the bit. Reads.
  template <backend B, viewable<B> M>
  void note(B& b, const label& quantity, const M& m, const bound& allowed = bound::exact()) {
    using T = element_t<B, M>;
    const host_matrix<T> copy = read(b, m);
    double unit_roundoff = 0;
    if constexpr (std::floating_point<T>) unit_roundoff = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
    add(quantity, copy.rows(), copy.cols(), unit_roundoff, allowed,
        {copy.data(), copy.data() + copy.rows() * copy.cols()});
  }

  /// Notes a number that the host knows.
  void note(const label& quantity, double value, const bound& allowed = bound::exact()) {
    add(quantity, 1, 1, std::numeric_limits<double>::epsilon() / 2, allowed, {value});
  }

  /// Adds to `findings` every result of `other` that is not what it is here: to the bit if `to_the_bit`, else within
  /// twice its bound. One finding a result, which names the first element that is off and the worst one.
  void compare(const transcript& other, bool to_the_bit, std::string_view where, std::string_view against,
               std::vector<finding>& findings) const {
    const auto report = [&](const std::string& quantity, const std::string& what) {
      findings.push_back({std::string(where), quantity, what + " (" + std::string(against) + ")"});
    };
    for (std::size_t k = 0; k < records_.size(); ++k) {
      const detail::record& expected = records_[k];
      if (k >= other.records_.size() || other.records_[k].quantity != expected.quantity) {
        report(expected.quantity, "is missing");
        return;
      }
      const detail::record& found = other.records_[k];
      if (found.rows != expected.rows || found.cols != expected.cols) {
        report(expected.quantity, "is " + dro::detail::shape_text(found.rows, found.cols) + ", expected " +
                                      dro::detail::shape_text(expected.rows, expected.cols));
        continue;
      }
      const std::string what = difference(expected, found, to_the_bit);
      if (!what.empty()) report(expected.quantity, what);
    }
    if (other.records_.size() > records_.size()) report(other.records_[records_.size()].quantity, "is there as well");
  }

  /// Largest |difference| / allowed difference over all results of both that have a bound; above 1, `compare` reports.
  [[nodiscard]] double used_share(const transcript& other) const {
    double share = 0;
    for (std::size_t k = 0; k < std::min(records_.size(), other.records_.size()); ++k) {
      const detail::record& a = records_[k];
      const detail::record& b = other.records_[k];
      for (std::size_t i = 0; i < std::min(a.values.size(), b.values.size()); ++i) {
        const double allowed = tolerance(a, a.values[i]);
        const double off = std::abs(a.values[i] - b.values[i]);
        if (allowed > 0 && off > 0) share = std::max(share, off / allowed);
      }
    }
    return share;
  }

 private:
  void add(const label& quantity, index_t rows, index_t cols, double unit_roundoff, const bound& allowed,
           std::vector<double> values) {
    records_.push_back({quantity.text(), rows, cols, unit_roundoff, allowed, std::move(values)});
  }

  [[nodiscard]] static double tolerance(const detail::record& r, double expected) {
    const double size = r.allowed.is_relative ? std::abs(expected) : r.allowed.scale;
    return std::isfinite(size) ? 2 * r.allowed.roundings * r.unit_roundoff * size : 0;
  }

  [[nodiscard]] static std::string difference(const detail::record& expected, const detail::record& found,
                                              bool to_the_bit) {
    std::size_t wrong = 0, first = 0;
    double worst = 0;
    for (std::size_t i = 0; i < expected.values.size(); ++i) {
      const double a = expected.values[i], b = found.values[i];
      const bool fine = to_the_bit ? detail::same_number(a, b) : detail::is_near(a, b, tolerance(expected, a));
      if (fine) continue;
      if (wrong++ == 0) first = i;
      worst = std::max(worst, std::abs(a - b));
    }
    if (wrong == 0) return {};
    const auto cols = static_cast<std::size_t>(expected.cols);
    return std::to_string(wrong) + " of " + std::to_string(expected.values.size()) + " elements are off, the first (" +
           std::to_string(first / cols) + ", " + std::to_string(first % cols) + ") " + text(found.values[first]) +
           ", expected " + text(expected.values[first]) +
           (to_the_bit ? " to the bit" : " ± " + text(tolerance(expected, expected.values[first]))) +
           ", the worst by " + text(worst);
  }

  /// Seventeen digits, which tell any two numbers apart.
  [[nodiscard]] static std::string text(double value) {
    char buffer[32];
    const int length = std::snprintf(buffer, sizeof buffer, "%.17g", value);
    return {buffer, static_cast<std::size_t>(length)};
  }

  std::vector<detail::record> records_;
};

/// What a backend was found to do otherwise than it should, and how many comparisons were made to find it.
struct findings {
  std::vector<finding> list;
  std::size_t cases = 0;
  double used_share = 0;  ///< of the derived bounds, the largest part that a correct result took; 0: equal to the bit

  [[nodiscard]] bool empty() const { return list.empty(); }
  void add(std::string where, std::string quantity, std::string what) {
    list.push_back({std::move(where), std::move(quantity), std::move(what)});
  }
};

/// Does `work(backend, transcript)` on a host backend of one thread and twice on `b`, and adds to `found` where the
/// results differ: the second time to the bit; from the host's to the bit where `b` runs the host's programs
/// (host_executed), within the bounds stated with the results else. An exception is a finding, too.
template <backend B, class Work>
void run_case(B& b, std::string_view name, const Work& work, findings& found) {
  ++found.cases;
  transcript on_host, first, second;
  host_backend host(1);
  work(host, on_host);
  try {
    work(b, first);
    work(b, second);
  } catch (const std::exception& e) {
    found.add(std::string(name), "all", std::string("throws: ") + e.what());
    return;
  }
  on_host.compare(first, host_executed<B>, name, "against the host", found.list);
  first.compare(second, true, name, "the second time against the first", found.list);
  found.used_share = std::max(found.used_share, on_host.used_share(first));
}

}  // namespace dro::testing

#endif
