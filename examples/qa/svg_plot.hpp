// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_SVG_PLOT_HPP
#define DRO_EXAMPLES_QA_SVG_PLOT_HPP

/// \file
/// Line and bar charts as inline SVG. Colours and fonts are CSS classes (`svg_style`), so that a chart follows the
/// page it stands in, dark or light.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "table.hpp"

namespace qa {

/// `utf8` as text or attribute value of HTML and SVG: & < > " ' become entities; invalid bytes and control characters
/// other than tab and line ends, which neither format allows, become U+FFFD.
[[nodiscard]] inline std::string escape_markup(std::string_view utf8) {
  std::string out;
  out.reserve(utf8.size());
  for_each_code_point(utf8, [&](utf8proc_int32_t code_point, std::string_view bytes) {
    switch (code_point) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default: {
        const bool control = (code_point < 0x20 && code_point != '\t' && code_point != '\n' && code_point != '\r') ||
                             (code_point >= 0x7F && code_point < 0xA0);
        const bool allowed = !control && code_point != 0xFFFD && code_point != 0xFFFE && code_point != 0xFFFF;
        out += allowed ? bytes : std::string_view{"\uFFFD"};
      }
    }
  });
  return out;
}

/// `number` as people write it: a minus sign (U+2212) in place of the hyphen.
[[nodiscard]] inline std::string with_minus_sign(std::string number) {
  if (number.starts_with('-')) {
    number.replace(0, 1, "−");
  }
  return number;
}

/// Numbers that a chart can place: finite and of a size that leaves room for arithmetic. Charts skip all others.
[[nodiscard]] inline bool plottable(double value) { return std::isfinite(value) && std::abs(value) <= 1e15; }

/// Round positions on an axis.
struct axis_ticks {
  std::vector<double> values;  ///< ascending multiples of the step, at least 2; the first and last enclose the data
  double step = 1;             ///< 1, 2 or 5 times a power of ten
  int exponent = 0;            ///< k of that power

  [[nodiscard]] double low() const { return values.front(); }
  [[nodiscard]] double high() const { return values.back(); }
  /// A tick's label: with the decimals of the step, in scientific notation where that would be long.
  [[nodiscard]] std::string label(double value) const {
    const double magnitude = std::max(std::abs(low()), std::abs(high()));
    if (exponent >= -6 && magnitude < 1e6) {
      return with_minus_sign(fixed(value, -exponent));
    }
    const int digits = std::clamp(static_cast<int>(std::floor(std::log10(magnitude))) - exponent, 0, 17);
    std::array<char, 32> buffer;
    const auto end =
        std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific, digits);
    return with_minus_sign(std::string(buffer.data(), end.ptr));
  }
};

/// Ticks that enclose [low, high]: multiples of the smallest step of 1, 2, 5 · 10^k (not below `smallest_step`) of
/// which `at_most` suffice. `at_most` below 3 counts as 3, since a range around 0 needs as many. A range narrower than
/// a millionth of its values is widened by a tenth of them on each side, one around 0 (below 1e-100) by 0.5. Both ends
/// have to be `plottable`, low ≤ high. Constant time.
[[nodiscard]] inline axis_ticks nice_ticks(double low, double high, int at_most, double smallest_step = 0) {
  const double magnitude = std::max(std::abs(low), std::abs(high));
  if (high - low <= 1e-6 * magnitude || magnitude < 1e-100) {
    const double half = magnitude < 1e-100 ? 0.5 : 0.1 * magnitude;
    low -= half;
    high += half;
  }
  at_most = std::max(at_most, 3);
  const double least = std::max((high - low) / (at_most - 1), smallest_step);
  for (int exponent = static_cast<int>(std::floor(std::log10(least)));; ++exponent) {
    for (const int factor : {1, 2, 5}) {
      // Dividing by a power of ten that is exact rounds once: 3 · 1 / 10 is 0.3, 3 · 0.1 is not.
      const double power = std::pow(10.0, std::abs(exponent));
      const auto multiple = [&](double i) { return exponent < 0 ? i * factor / power : i * factor * power; };
      const double step = multiple(1);
      // An end that lies on a tick but for rounding takes no further one.
      const double first = std::floor(low / step + 1e-9);
      const double last = std::max(std::ceil(high / step - 1e-9), first + 1);
      if (step < smallest_step || last - first + 1 > at_most) {
        continue;
      }
      axis_ticks ticks;
      ticks.step = step;
      ticks.exponent = exponent;
      for (double i = first; i <= last; ++i) {
        ticks.values.push_back(i == 0 ? 0.0 : multiple(i));
      }
      return ticks;
    }
  }
}

/// One line of a chart. `x` ascends; a `y` that is not `plottable` leaves a gap.
struct line_series {
  std::string label;
  std::vector<double> x;
  std::vector<double> y;
};

/// A horizontal dashed line, named at its end.
struct reference_line {
  std::string label;
  double y;
};

struct line_chart {
  std::string id;                  ///< unique in the page, letters, digits and hyphens
  std::string title;               ///< for people who hear the page
  std::string x_label;             ///< whole numbers, such as "iteration"
  std::string y_label;             ///< with the unit
  int decimals = 2;                ///< of values in tooltips and in the description
  std::vector<double> y_includes;  ///< values that the y axis has to reach
  std::vector<reference_line> references;
  std::vector<line_series> series;  ///< at most 4 have a colour of their own
};

struct bar {
  std::string label;
  double value;                          ///< not below 0; not `plottable`: shown as absent
  std::optional<double> standard_error;  ///< drawn as a whisker of ± 1
  bool hollow = false;                   ///< drawn as an outline
};

/// Bars under a common heading.
struct bar_group {
  std::string heading;
  std::vector<bar> bars;
};

struct bar_chart {
  std::string id;                 ///< unique in the page, letters, digits and hyphens
  std::string title;              ///< for people who hear the page
  std::string x_label;            ///< with the unit
  int decimals = 1;               ///< of the values beside the bars
  std::vector<bar_group> groups;  ///< at most 4 have a colour of their own
};

/// What charts need from the page's stylesheet, which gives --text, --muted, --grid, --page and --c0 … --c3.
inline constexpr std::string_view svg_style = R"(
svg.chart{display:block;width:100%;height:auto;font:12px system-ui,sans-serif;fill:var(--text);overflow:visible}
svg .grid{stroke:var(--grid);stroke-width:1}
svg .axis{stroke:var(--muted);stroke-width:1}
svg .tick,svg .unit,svg .group{fill:var(--muted);font-size:11px;font-variant-numeric:tabular-nums}
svg .group{font-weight:600}
svg .value{font-size:11px;font-variant-numeric:tabular-nums}
svg .reference{stroke:var(--muted);stroke-width:1;stroke-dasharray:4 3}
svg .leader{stroke:var(--muted);stroke-width:.75}
svg polyline{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
svg circle{stroke:var(--page);stroke-width:1}
svg .name{font-weight:600}
svg .whisker{stroke:var(--text);stroke-width:1.25}
svg .hollow{fill-opacity:.18;stroke-width:1.25}
svg .l0{stroke:var(--c0)}svg .l1{stroke:var(--c1)}svg .l2{stroke:var(--c2)}svg .l3{stroke:var(--c3)}
svg .f0{fill:var(--c0)}svg .f1{fill:var(--c1)}svg .f2{fill:var(--c2)}svg .f3{fill:var(--c3)}
)";

namespace detail {

inline constexpr int chart_width = 420;
inline constexpr double text_height = 14;

[[nodiscard]] inline std::string colour_class(char kind, std::size_t series) {
  return std::string(1, kind) + std::to_string(series % 4);
}

/// ` name="1.5"`, with the decimals that a screen can show.
[[nodiscard]] inline std::string at(std::string_view name, double value) {
  return " " + std::string{name} + "=\"" + fixed(value, 1) + "\"";
}

[[nodiscard]] inline std::string svg_line(std::string_view css, double x1, double y1, double x2, double y2) {
  return "<line class=\"" + std::string{css} + "\"" + at("x1", x1) + at("y1", y1) + at("x2", x2) + at("y2", y2) +
         "/>\n";
}

/// `anchor`: start, middle or end of the text is at x.
[[nodiscard]] inline std::string svg_text(std::string_view css, double x, double y, std::string_view anchor,
                                          std::string_view utf8) {
  return "<text class=\"" + std::string{css} + "\"" + at("x", x) + at("y", y) + " text-anchor=\"" +
         std::string{anchor} + "\">" + escape_markup(utf8) + "</text>\n";
}

[[nodiscard]] inline std::string svg_begin(std::string_view id, double height, std::string_view title,
                                           std::string_view description) {
  const std::string name{id};
  return "<svg class=\"chart\" viewBox=\"0 0 " + std::to_string(chart_width) + " " + fixed(height, 0) +
         "\" role=\"img\" aria-labelledby=\"" + name + "-title " + name + "-desc\">\n<title id=\"" + name +
         "-title\">" + escape_markup(title) + "</title>\n<desc id=\"" + name + "-desc\">" + escape_markup(description) +
         "</desc>\n";
}

/// Moves `wanted` positions apart until neighbours have `distance`, in their order, and back into [low, high] as far as
/// they fit; returned in the order given.
[[nodiscard]] inline std::vector<double> spread_apart(const std::vector<double>& wanted, double distance, double low,
                                                      double high) {
  std::vector<std::size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return wanted[a] != wanted[b] ? wanted[a] < wanted[b] : a < b; });
  std::vector<double> placed(wanted);
  double limit = high;
  for (auto i = order.rbegin(); i != order.rend(); ++i, limit -= distance) {
    limit = placed[*i] = std::min(placed[*i], limit);
  }
  limit = low;
  for (const std::size_t i : order) {
    limit = placed[i] = std::max(placed[i], limit);
    limit += distance;
  }
  return placed;
}

}  // namespace detail

/// The chart as an SVG element that scales with the page, with title, description and the value of each point as a
/// tooltip; lines are named at their ends. Points not `plottable` are skipped, a point without neighbours is a dot, and
/// a chart without any point is an empty string. O(points).
[[nodiscard]] inline std::string render(const line_chart& chart) {
  constexpr double left = 46, right = 320, top = 24, bottom = 206, height = 244;
  constexpr std::size_t most_dots = 40;  // more would hide the line

  constexpr double infinity = std::numeric_limits<double>::infinity();
  double x_low = infinity, x_high = -infinity, y_low = infinity, y_high = -infinity;
  const auto reach = [&](double y) {
    if (plottable(y)) {
      y_low = std::min(y_low, y);
      y_high = std::max(y_high, y);
    }
  };
  const auto size = [](const line_series& s) { return std::min(s.x.size(), s.y.size()); };
  const auto shown = [](const line_series& s, std::size_t i) { return plottable(s.x[i]) && plottable(s.y[i]); };
  for (const line_series& s : chart.series) {
    for (std::size_t i = 0; i < size(s); ++i) {
      if (shown(s, i)) {
        x_low = std::min(x_low, s.x[i]);
        x_high = std::max(x_high, s.x[i]);
        reach(s.y[i]);
      }
    }
  }
  if (x_low > x_high) {
    return {};
  }
  std::for_each(chart.y_includes.begin(), chart.y_includes.end(), reach);
  for (const reference_line& r : chart.references) {
    reach(r.y);
  }
  const axis_ticks y_ticks = nice_ticks(y_low, y_high, 6);
  const axis_ticks x_ticks = nice_ticks(x_low, x_high, 8, 1.0);
  const auto x_of = [&](double x) {
    return x_low == x_high ? (left + right) / 2 : left + (right - left) * ((x - x_low) / (x_high - x_low));
  };
  const auto y_of = [&](double y) {
    return bottom - (bottom - top) * ((y - y_ticks.low()) / (y_ticks.high() - y_ticks.low()));
  };

  using detail::svg_line;
  using detail::svg_text;
  const auto value_text = [&](double y) { return with_minus_sign(fixed(y, chart.decimals)); };
  std::string description = chart.y_label + " by " + chart.x_label + ".";
  std::string body;
  for (const double y : y_ticks.values) {
    body += svg_line("grid", left, y_of(y), right, y_of(y));
    body += svg_text("tick", left - 6, y_of(y) + 4, "end", y_ticks.label(y));
  }
  body += svg_line("axis", left, bottom, right, bottom);
  for (const double x : x_ticks.values) {
    if (x >= x_low && x <= x_high) {
      body += svg_line("axis", x_of(x), bottom, x_of(x), bottom + 4);
      body += svg_text("tick", x_of(x), bottom + 16, "middle", x_ticks.label(x));
    }
  }
  body += svg_text("unit", left, top - 12, "start", chart.y_label);
  body += svg_text("unit", (left + right) / 2, bottom + 32, "middle", chart.x_label);

  struct name {
    std::string css, text;
    double x, y;
  };
  std::vector<name> names;
  for (const reference_line& r : chart.references) {
    if (plottable(r.y)) {
      body += svg_line("reference", left, y_of(r.y), right, y_of(r.y));
      names.push_back({"tick", r.label, right, y_of(r.y)});
    }
  }
  std::string dots;
  for (std::size_t n = 0; n < chart.series.size(); ++n) {
    const line_series& s = chart.series[n];
    std::optional<std::size_t> first, last;
    for (std::size_t begin = 0; begin < size(s);) {
      if (!shown(s, begin)) {
        ++begin;
        continue;
      }
      std::size_t end = begin;
      std::string points;
      for (; end < size(s) && shown(s, end); ++end) {
        points += (points.empty() ? "" : " ") + fixed(x_of(s.x[end]), 1) + "," + fixed(y_of(s.y[end]), 1);
      }
      if (end - begin > 1) {
        body += "<polyline class=\"" + detail::colour_class('l', n) + "\" points=\"" + points + "\"/>\n";
      }
      for (std::size_t i = begin; i < end && (end - begin == 1 || size(s) <= most_dots); ++i) {
        dots +=
            "<circle class=\"" + detail::colour_class('f', n) + "\"" + detail::at("cx", x_of(s.x[i])) +
            detail::at("cy", y_of(s.y[i])) + " r=\"3\"><title>" +
            escape_markup(s.label + ", " + chart.x_label + " " + x_ticks.label(s.x[i]) + ": " + value_text(s.y[i])) +
            "</title></circle>\n";
      }
      first = first.value_or(begin);
      last = end - 1;
      begin = end;
    }
    if (last) {
      names.push_back({"name " + detail::colour_class('f', n), s.label, x_of(s.x[*last]), y_of(s.y[*last])});
      description +=
          " " + s.label + ": " + value_text(s.y[*first]) + " at first, " + value_text(s.y[*last]) + " at last.";
    }
  }
  std::vector<double> wanted;
  for (const name& label : names) {
    wanted.push_back(label.y);
  }
  const std::vector<double> placed = detail::spread_apart(wanted, detail::text_height, top, bottom);
  constexpr double beside = right + 14;
  for (std::size_t i = 0; i < names.size(); ++i) {
    body += svg_line("leader", names[i].x, names[i].y, beside - 3, placed[i]);
    dots += svg_text(names[i].css, beside, placed[i] + 4, "start", names[i].text);
  }
  return detail::svg_begin(chart.id, height, chart.title, description) + body + dots + "</svg>\n";
}

/// Horizontal bars from 0, one a row, with the value beside each and a whisker of ± 1 standard error where there is
/// one. Groups follow each other under their headings. A value that is not `plottable` shows `no_number` and no bar;
/// without any bar the chart is an empty string.
[[nodiscard]] inline std::string render(const bar_chart& chart) {
  constexpr double left = 122, right = 336, row_height = 19, bar_height = 11, heading_height = 24;
  double high = 0, rows = 0, headings = 0;
  for (const bar_group& group : chart.groups) {
    rows += static_cast<double>(group.bars.size());
    headings += group.heading.empty() ? 0 : 1;
    for (const bar& b : group.bars) {
      if (plottable(b.value)) {
        const double error = b.standard_error.value_or(0);
        high = std::max(high, b.value + (plottable(error) ? error : 0));
      }
    }
  }
  if (rows == 0) {
    return {};
  }
  const axis_ticks ticks = nice_ticks(0, high > 0 ? high : 1, 6);
  const auto x_of = [&](double value) { return left + (right - left) * std::clamp(value / ticks.high(), 0.0, 1.0); };
  const double bottom = rows * row_height + headings * heading_height + 4;

  using detail::svg_line;
  using detail::svg_text;
  std::string body;
  for (const double value : ticks.values) {
    body += svg_text("tick", x_of(value), bottom + 14, "middle", ticks.label(value));
  }
  body += svg_text("unit", (left + right) / 2, bottom + 30, "middle", chart.x_label);
  std::string description = chart.x_label + ".";
  double y = 0;
  for (std::size_t g = 0; g < chart.groups.size(); ++g) {
    const bar_group& group = chart.groups[g];
    if (!group.heading.empty()) {
      body += svg_text("group", 0, y + heading_height - 8, "start", group.heading);
      y += heading_height;
    }
    for (const double value : ticks.values) {
      const double end = y + static_cast<double>(group.bars.size()) * row_height;
      body += svg_line(value == 0 ? "axis" : "grid", x_of(value), y, x_of(value), end);
    }
    for (const bar& b : group.bars) {
      const double middle = y + row_height / 2;
      const bool drawn = plottable(b.value);
      const bool whisker = drawn && b.standard_error && plottable(*b.standard_error) && *b.standard_error >= 0;
      std::string value{no_number};
      double value_x = left;
      if (drawn) {
        value = with_minus_sign(fixed(b.value, chart.decimals));
        value_x = x_of(b.value);
        const std::string css =
            detail::colour_class('f', g) + (b.hollow ? " hollow " + detail::colour_class('l', g) : std::string{});
        body += "<rect class=\"" + css + "\"" + detail::at("x", left) + detail::at("y", middle - bar_height / 2) +
                detail::at("width", value_x - left) + detail::at("height", bar_height) + "/>\n";
      }
      if (whisker) {
        value += " ± " + fixed(*b.standard_error, chart.decimals);
        const double from = x_of(b.value - *b.standard_error), to = x_of(b.value + *b.standard_error);
        body += svg_line("whisker", from, middle, to, middle);
        body += svg_line("whisker", from, middle - 3, from, middle + 3);
        body += svg_line("whisker", to, middle - 3, to, middle + 3);
        value_x = to;
      }
      body += svg_text("label", left - 8, middle + 4, "end", b.label);
      body += svg_text("value", value_x + 6, middle + 4, "start", value);
      description += " " + b.label + ": " + value + ".";
      y += row_height;
    }
  }
  return detail::svg_begin(chart.id, bottom + 36, chart.title, description) + body + "</svg>\n";
}

}  // namespace qa

#endif
