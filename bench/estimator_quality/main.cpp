// SPDX-License-Identifier: Apache-2.0
// How good every estimator of the selector's gradient is, against exact enumeration.
//   estimator_quality                        prints the tables
//   estimator_quality --write PAGE           puts them into a page, between its two markers
//   estimator_quality --check PAGE           exit status 1 if what the page says is not what is found (timings apart)
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <dro/em/advisor.hpp>

#include "estimators.hpp"
#include "fixture.hpp"
#include "measure.hpp"

namespace {

using quality::index_t;

constexpr std::array<index_t, 4> sample_counts = {2, 4, 8, 16};
constexpr index_t replicates = 8;
constexpr const char* begin_marker = "<!-- estimator_quality: begin -->\n";
constexpr const char* end_marker = "<!-- estimator_quality: end -->\n";

struct cell {
  std::size_t estimator;
  quality::measured values;
};

/// All estimators that are defined for m calls on a fixture.
struct table {
  const quality::fixture* on;
  index_t samples;
  double tail_index;
  std::vector<cell> cells;
};

std::string number(double x) {
  if (std::isnan(x)) return "–";
  char text[32];
  const double size = std::abs(x);
  std::snprintf(text, sizeof text, size >= 1000 ? "%.2e" : size >= 100 ? "%.0f" : size >= 10 ? "%.1f" : "%.2f", x);
  return text;
}

const cell* find(const table& t, std::size_t estimator) {
  const auto c = std::find_if(t.cells.begin(), t.cells.end(), [&](const cell& x) { return x.estimator == estimator; });
  return c == t.cells.end() ? nullptr : &*c;
}

std::size_t index_of(const std::vector<quality::estimator>& all, const std::string& name) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].name == name) return i;
  }
  throw std::logic_error("no estimator \"" + name + "\"");
}

/// Whether an estimator says that it is unbiased on a fixture.
bool is_unbiased(const quality::estimator& e, const quality::fixture& f) {
  return e.unbiased && (f.order_free || !e.order_free);
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  const std::size_t half = x.size() / 2;
  return x.size() % 2 == 1 ? x[half] : (x[half - 1] + x[half]) / 2;
}

/// The estimator that dro::recommend_estimator names for a fixture and m calls, knowing what a step's summary says.
std::size_t recommended(const std::vector<quality::estimator>& all, const table& t) {
  const auto advice = dro::recommend_estimator(
      {.samples = t.samples, .rankings = static_cast<double>(t.on->log_likelihood.cols()), .tail_index = t.tail_index});
  return index_of(all, dro::to_string(advice.choice));
}

/// The tail index of draws from the selector.
double tail_index(dro::host_backend& b, const quality::fixture& f, index_t m) {
  const quality::rows batch{quality::query_count * replicates * quality::groups};
  const quality::row_selector selector(f);
  const quality::row_generator generator(f);
  dro::random_state<dro::host_backend> random(b, 11);
  dro::step_totals<dro::host_backend> totals(b);
  const auto e = dro::e_step(b, selector, generator, batch, {m, quality::select}, random);
  totals.add(b, e.z, e.scores(b), e.weights);
  return dro::tail_index(totals.take(b));
}

std::string report(const std::vector<quality::estimator>& all, const std::vector<table>& tables) {
  std::ostringstream out;
  const std::size_t plain = index_of(all, "evidence, no baseline");
  const std::size_t usual = index_of(all, "evidence, centred");

  out << "### Error at equal generator calls\n\nE‖g‖² ‖∇‖² / (E g·∇)² − 1; m from left to right in each fixture.\n\n| "
         "estimator |";
  for (const table& t : tables) out << ' ' << t.on->name << ' ' << t.samples << " |";
  out << "\n|---|";
  for (std::size_t i = 0; i < tables.size(); ++i) out << "--:|";
  out << '\n';
  for (std::size_t e = 0; e < all.size(); ++e) {
    out << "| " << all[e].name << " |";
    for (const table& t : tables) {
      const cell* c = find(t, e);
      out << ' ' << (c != nullptr ? number(c->values.error) : "–") << " |";
    }
    out << '\n';
  }

  out << "\n### The default and the advice\n\n| fixture | m | plain over default | tail index | advised | advised over "
         "best | best "
         "|\n"
         "|---|--:|--:|--:|---|--:|---|\n";
  std::vector<double> gains;
  double worst = 0;
  for (const table& t : tables) {
    const auto best = std::min_element(t.cells.begin(), t.cells.end(), [&](const cell& x, const cell& y) {
      const auto error = [&](const cell& c) {
        return !all[c.estimator].compared || (all[c.estimator].order_free && !t.on->order_free) ? INFINITY
                                                                                                : c.values.error;
      };
      return error(x) < error(y);
    });
    const std::size_t choice = recommended(all, t);
    gains.push_back(find(t, plain)->values.error / find(t, usual)->values.error);
    const double over = find(t, choice)->values.error / best->values.error;
    worst = std::max(worst, over);
    out << "| " << t.on->name << " | " << t.samples << " | " << number(gains.back()) << " | " << number(t.tail_index)
        << " | " << all[choice].name << " | " << number(over) << " | " << all[best->estimator].name << " |\n";
  }
  out << "\nMedian of plain over default: " << number(median(gains))
      << ". Worst of advised over best: " << number(worst) << ".\n";

  for (const table& t : tables) {
    out << "\n### " << t.on->name << ", m = " << t.samples
        << "\n\n| estimator | relative bias | relative variance | cosine | error | calls | ns a sample |\n"
           "|---|--:|--:|--:|--:|--:|--:|\n";
    for (const cell& c : t.cells) {
      const auto& v = c.values;
      out << "| " << all[c.estimator].name << " | "
          << (is_unbiased(all[c.estimator], *t.on) ? "0 (" + number(v.bias_z) + " se)" : number(v.relative_bias))
          << " | " << number(v.relative_variance) << " | " << number(v.cosine) << " | " << number(v.error) << " | "
          << number(v.calls) << " | " << number(v.nanoseconds) << " |\n";
    }
  }
  return out.str();
}

/// The lines of a page up to and with the first marker, between the markers, and from the second on.
struct page {
  std::string before, tables, after;
};

page read_page(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path + ": cannot be read");
  std::ostringstream all;
  all << in.rdbuf();
  const std::string text = all.str();
  const auto begin = text.find(begin_marker);
  const auto end = text.find(end_marker);
  if (begin == std::string::npos || end == std::string::npos || end < begin) {
    throw std::runtime_error(path + ": has not the markers of this program");
  }
  const auto from = begin + std::char_traits<char>::length(begin_marker);
  return {text.substr(0, from), text.substr(from, end - from), text.substr(end)};
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) parts.push_back(part);
  return parts;
}

/// Whether two cells say the same. Numbers may differ in what another compiler's rounding does to a few draws.
bool same_cell(const std::string& a, const std::string& b) {
  if (a == b) return true;
  char* end_a = nullptr;
  char* end_b = nullptr;
  const double x = std::strtod(a.c_str(), &end_a);
  const double y = std::strtod(b.c_str(), &end_b);
  if (end_a == a.c_str() || end_b == b.c_str()) return false;
  return std::abs(x - y) <= 0.02 + 0.05 * std::max(std::abs(x), std::abs(y));
}

/// The differences between what a page says and what was found, one a line. The last column is passed over where it is
/// a time, or the name of the best estimator: two may be as good as each other.
std::vector<std::string> differences(const std::string& said, const std::string& found) {
  const auto a = split(said, '\n');
  const auto b = split(found, '\n');
  if (a.size() != b.size())
    return {"the page has " + std::to_string(a.size()) + " lines, expected " + std::to_string(b.size())};
  std::vector<std::string> all;
  bool open_ended = false;
  for (std::size_t line = 0; line < a.size(); ++line) {
    const auto x = split(a[line], '|');
    const auto y = split(b[line], '|');
    const auto has = [&](const char* text) { return a[line].find(text) != std::string::npos; };
    if (has("| ns a sample |") || has("| best |")) open_ended = true;
    if (a[line].rfind("###", 0) == 0) open_ended = false;
    bool same = x.size() == y.size();
    const std::size_t columns = open_ended && x.size() > 1 ? x.size() - 1 : x.size();
    for (std::size_t c = 0; same && c < columns; ++c) same = same_cell(x[c], y[c]);
    if (!same) all.push_back("page:  " + a[line] + "\n  found: " + b[line]);
  }
  return all;
}

int run(const std::string& mode, const std::string& path) {
  dro::host_backend b(1);
  const auto all = quality::estimators();
  const auto fixtures = quality::fixtures(b);
  std::vector<table> tables;
  bool unbiased = true;
  for (const auto& f : fixtures) {
    for (const index_t m : sample_counts) {
      std::fprintf(stderr, "%s, m = %td\n", f.name.c_str(), m);
      table t{&f, m, tail_index(b, f, m), {}};
      for (std::size_t e = 0; e < all.size(); ++e) {
        if (m < all[e].least || m > all[e].most) continue;
        t.cells.push_back({e, quality::measure(f, all[e], m, replicates, 7)});
        const auto& v = t.cells.back().values;
        if (is_unbiased(all[e], f) && !(std::abs(v.bias_z) <= 4)) {
          std::fprintf(stderr, "%s, m = %td: \"%s\" is off by %.1f standard errors\n", f.name.c_str(), m,
                       all[e].name.c_str(), v.bias_z);
          unbiased = false;
        }
      }
      tables.push_back(std::move(t));
    }
  }
  const std::string found = "\n" + report(all, tables) + "\n";
  int status = unbiased ? 0 : 1;
  if (mode.empty()) {
    std::cout << found;
  } else {
    const page old = read_page(path);
    if (mode == "--write") {
      std::ofstream(path, std::ios::binary) << old.before << found << old.after;
    } else {
      const auto stale = differences(old.tables, found);
      for (const auto& line : stale) std::fprintf(stderr, "%s\n", line.c_str());
      if (!stale.empty()) {
        std::fprintf(stderr, "%s is stale: %zu lines; write it again with --write\n", path.c_str(), stale.size());
        status = 1;
      }
    }
  }
  return status;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string mode = count > 1 ? arguments[1] : "";
  if (!(count == 1 || (count == 3 && (mode == "--write" || mode == "--check")))) {
    std::fprintf(stderr, "usage: %s [--write PAGE | --check PAGE]\n", arguments[0]);
    return 2;
  }
  try {
    return run(mode, count == 3 ? arguments[2] : "");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
