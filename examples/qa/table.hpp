// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_TABLE_HPP
#define DRO_EXAMPLES_QA_TABLE_HPP

/// \file
/// Text tables for the terminal, and the two that train_qa prints from its report. Plain UTF-8, no colour codes, so
/// that the output can go to a file.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <utf8proc.h>

#include <dro/error.hpp>

namespace qa {

/// What stands where a number is absent or not finite.
inline constexpr std::string_view no_number = "–";

/// Calls f(code_point, bytes) for each code point of `utf8` in order; each byte that is no part of valid UTF-8 comes
/// alone, as U+FFFD. Linear.
template <class F>
void for_each_code_point(std::string_view utf8, F&& f) {
  while (!utf8.empty()) {
    utf8proc_int32_t code_point = -1;
    const auto length =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(utf8.data()),
                         static_cast<utf8proc_ssize_t>(std::min<std::size_t>(utf8.size(), 4)), &code_point);
    const std::size_t bytes = length > 0 ? static_cast<std::size_t>(length) : 1;
    f(length > 0 ? code_point : utf8proc_int32_t{0xFFFD}, utf8.substr(0, bytes));
    utf8.remove_prefix(bytes);
  }
}

/// Columns that a terminal gives to `utf8`: 2 for a wide character, 0 for a combining or control character, else 1.
[[nodiscard]] inline std::size_t display_width(std::string_view utf8) {
  std::size_t width = 0;
  for_each_code_point(utf8, [&](utf8proc_int32_t code_point, std::string_view) {
    width += static_cast<std::size_t>(std::max(0, utf8proc_charwidth(code_point)));
  });
  return width;
}

/// `value` with that many decimals, correctly rounded, never "-0.0"; `no_number` where it is not finite.
[[nodiscard]] inline std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) {
    return std::string{no_number};
  }
  std::array<char, 400> buffer;  // the longest double has 309 digits before the point
  const int most = static_cast<int>(buffer.size()) - 320;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed,
                                 std::clamp(decimals, 0, most));
  std::string text(buffer.data(), end.ptr);
  if (text.front() == '-' && text.find_first_of("123456789") == std::string::npos) {
    text.erase(0, 1);
  }
  return text;
}

/// Rows of cells under headings, as wide as their contents:
///
///     method     F1 %        seconds
///     -----------------------------
///     dro        40.8 ± 0.4      3.1
///     replug      9.5 ± 1.2     12.0
class table {
 public:
  enum class side { left, right };
  struct column {
    std::string heading;
    side align = side::left;
  };
  /// One cell. Where some row of a column has a `spread`, all values of that column stand before a common ±.
  struct cell {
    cell(std::string shown) : text(std::move(shown)) {}
    cell(const char* shown) : text(shown) {}
    /// A number with its decimals; absent: `no_number`. A standard error is shown with the same decimals.
    cell(std::optional<double> value, int decimals, std::optional<double> standard_error = std::nullopt)
        : text(value ? fixed(*value, decimals) : std::string{no_number}),
          spread(value && standard_error ? fixed(*standard_error, decimals) : std::string{}) {}
    std::string text;
    std::string spread;
  };

  explicit table(std::vector<column> columns) : columns_(std::move(columns)) {
    for (column& c : columns_) {
      c.heading = one_line(c.heading);
    }
  }

  /// Adds a row. Control characters (line ends too) become spaces. Throws `dro::shape_error` unless there are as many
  /// cells as columns.
  table& add_row(std::vector<cell> cells) {
    if (cells.size() != columns_.size()) {
      throw dro::shape_error("table: a row of " + std::to_string(cells.size()) + " cells for " +
                             std::to_string(columns_.size()) + " columns");
    }
    for (cell& c : cells) {
      c.text = one_line(c.text);
      c.spread = one_line(c.spread);
    }
    rows_.push_back(std::move(cells));
    return *this;
  }

  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }

  /// The table: headings, a rule, the rows; columns two spaces apart, each line without trailing spaces and ended by
  /// '\n'. Without columns: an empty string.
  [[nodiscard]] std::string render() const {
    if (columns_.empty()) {
      return {};
    }
    std::vector<widths> measured(columns_.size());
    for (const auto& row : rows_) {
      for (std::size_t c = 0; c < row.size(); ++c) {
        measured[c].text = std::max(measured[c].text, display_width(row[c].text));
        measured[c].spread = std::max(measured[c].spread, display_width(row[c].spread));
      }
    }
    std::string headings;
    std::size_t total = 0;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      widths& w = measured[c];
      w.whole = std::max(w.content(), display_width(columns_[c].heading));
      total += w.whole + (c == 0 ? 0 : gap.size());
      put(headings, c, columns_[c].heading, w.whole);
    }
    std::string out = without_trailing_spaces(std::move(headings)) + '\n' + std::string(total, '-') + '\n';
    for (const auto& row : rows_) {
      std::string line;
      for (std::size_t c = 0; c < row.size(); ++c) {
        put(line, c, with_spread(row[c], measured[c], columns_[c].align), measured[c].whole);
      }
      out += without_trailing_spaces(std::move(line)) + '\n';
    }
    return out;
  }

 private:
  static constexpr std::string_view gap = "  ";
  static constexpr std::string_view plus_minus = " ± ";

  struct widths {
    std::size_t text = 0, spread = 0, whole = 0;
    [[nodiscard]] std::size_t content() const { return spread == 0 ? text : text + display_width(plus_minus) + spread; }
  };

  [[nodiscard]] static std::string padded(std::string_view text, std::size_t width, side align) {
    const std::string space(width - std::min(width, display_width(text)), ' ');
    return align == side::left ? std::string{text} + space : space + std::string{text};
  }

  [[nodiscard]] static std::string with_spread(const cell& c, const widths& w, side align) {
    std::string text = padded(c.text, w.text, align);
    if (w.spread > 0) {
      text += c.spread.empty() ? std::string(display_width(plus_minus) + w.spread, ' ')
                               : std::string{plus_minus} + padded(c.spread, w.spread, side::right);
    }
    return text;
  }

  void put(std::string& line, std::size_t c, std::string_view text, std::size_t width) const {
    if (c > 0) {
      line += gap;
    }
    line += padded(text, width, columns_[c].align);
  }

  [[nodiscard]] static std::string without_trailing_spaces(std::string line) {
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
  }

  [[nodiscard]] static std::string one_line(std::string_view text) {
    std::string out;
    for_each_code_point(text, [&](utf8proc_int32_t code_point, std::string_view bytes) {
      if (utf8proc_category(code_point) == UTF8PROC_CATEGORY_CC) {
        out += ' ';
      } else if (code_point == 0xFFFD) {
        out += "\uFFFD";
      } else {
        out += bytes;
      }
    });
    return out;
  }

  std::vector<column> columns_;
  std::vector<std::vector<cell>> rows_;
};

// ---- Reading a report: whatever is absent, null or of another type counts as absent ----------------------------

/// The member of that name, or a JSON null.
[[nodiscard]] inline const nlohmann::json& member(const nlohmann::json& object, const char* key) {
  static const nlohmann::json null;
  if (!object.is_object()) {
    return null;
  }
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

/// The member as a finite number.
[[nodiscard]] inline std::optional<double> number(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = member(object, key);
  if (!value.is_number() || !std::isfinite(value.get<double>())) {
    return std::nullopt;
  }
  return value.get<double>();
}

/// The member as text; empty where it is no string.
[[nodiscard]] inline std::string text(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string{};
}

/// A number of the report as people read it: `scale` × the value under `key`, with `decimals`.
struct measure {
  const char* key;
  const char* heading;
  double scale;
  int decimals;

  [[nodiscard]] std::optional<double> of(const nlohmann::json& object) const {
    const std::optional<double> value = number(object, key);
    return value ? std::optional<double>{*value * scale} : std::nullopt;
  }
};

/// What a selector and a reader are judged by, per cent of 1.
inline constexpr std::array<measure, 4> scores = {{{"em", "EM %", 100, 1},
                                                   {"f1", "F1 %", 100, 1},
                                                   {"recall_at_k", "recall@K %", 100, 1},
                                                   {"all_gold_at_k", "all-gold@K %", 100, 1}}};
inline constexpr measure evidence = {"evidence", "evidence, nats", 1, 3};

/// The rows of report["comparison"]: method, what it is, scores (± standard error where a row has one), how far
/// its F1 lies above the main method's (± paired standard error; only if a row says so), seconds. A method that was
/// shown the gold documents bears a *. Empty table: no such rows.
[[nodiscard]] inline table comparison_table(const nlohmann::json& comparison) {
  using column = table::column;
  std::vector<column> columns = {column{"method"}, column{"what it is"}};
  for (const measure& score : scores) {
    columns.push_back({score.heading, table::side::right});
  }
  const measure gain{"f1_gain", "F1 gain %", 100, 1};
  const bool has_gain =
      comparison.is_array() && std::any_of(comparison.begin(), comparison.end(),
                                           [&](const nlohmann::json& row) { return gain.of(row).has_value(); });
  if (has_gain) columns.push_back({gain.heading, table::side::right});
  columns.push_back({"seconds", table::side::right});
  table out(std::move(columns));
  if (!comparison.is_array()) {
    return out;
  }
  for (const nlohmann::json& row : comparison) {
    const bool gold = member(row, "uses_gold_documents") == true;
    std::vector<table::cell> cells = {text(row, "method") + (gold ? " *" : ""), text(row, "description")};
    for (const measure& score : scores) {
      cells.emplace_back(score.of(row), score.decimals, score.of(member(row, "standard_error")));
    }
    if (has_gain) cells.emplace_back(gain.of(row), gain.decimals, gain.of(member(row, "standard_error")));
    cells.emplace_back(number(row, "seconds"), 1, number(member(row, "standard_error"), "seconds"));
    out.add_row(std::move(cells));
  }
  return out;
}

/// One run: each score and the evidence before training and after it. Empty table: the report has neither.
[[nodiscard]] inline table summary_table(const nlohmann::json& report) {
  using column = table::column;
  table out({column{""}, column{"before", table::side::right}, column{"after", table::side::right}});
  const auto add = [&](const measure& m) {
    const auto before = m.of(member(report, "initial"));
    const auto after = m.of(member(report, "final"));
    if (before || after) {
      out.add_row({m.heading, {before, m.decimals}, {after, m.decimals}});
    }
  };
  std::for_each(scores.begin(), scores.end(), add);
  add(evidence);
  return out;
}

}  // namespace qa

#endif
