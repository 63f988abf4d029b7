// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "../../examples/qa/html_report.hpp"

using nlohmann::json;
using doubles = std::vector<double>;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) {
    ++n;
  }
  return n;
}

/// What stands between each `before` and the next `after`.
std::vector<std::string> all_between(std::string_view text, std::string_view before, std::string_view after) {
  std::vector<std::string> out;
  for (std::size_t at = 0; (at = text.find(before, at)) != std::string_view::npos;) {
    at += before.size();
    const std::size_t end = text.find(after, at);
    REQUIRE(end != std::string_view::npos);
    out.emplace_back(text.substr(at, end - at));
  }
  return out;
}

/// The first mistake in the nesting of tags, empty if there is none. Escaped text holds no '<'.
std::string nesting_mistake(std::string_view page) {
  static const std::set<std::string, std::less<>> never_closed = {"!DOCTYPE", "meta"};
  std::vector<std::string> open;
  for (std::size_t at = 0; (at = page.find('<', at)) != std::string_view::npos;) {
    const std::size_t end = page.find('>', at);
    if (end == std::string_view::npos) {
      return "unclosed '<'";
    }
    const std::string_view tag = page.substr(at + 1, end - at - 1);
    at = end;
    const bool closes = tag.starts_with('/');
    const std::string name{tag.substr(closes ? 1 : 0, tag.find_first_of(" /\n", 1) - (closes ? 1 : 0))};
    if (closes) {
      if (open.empty() || open.back() != tag.substr(1)) {
        return "</" + std::string{tag.substr(1)} + "> inside <" + (open.empty() ? "" : open.back()) + ">";
      }
      open.pop_back();
    } else if (!tag.ends_with('/') && !never_closed.contains(name)) {
      open.push_back(name);
    }
  }
  return open.empty() ? std::string{} : "<" + open.back() + "> is not closed";
}

std::vector<std::pair<double, double>> points_of(std::string text) {
  std::replace(text.begin(), text.end(), ',', ' ');
  std::istringstream in(text);
  std::vector<std::pair<double, double>> out;
  for (double x = 0, y = 0; in >> x >> y;) {
    out.emplace_back(x, y);
  }
  return out;
}

/// Polylines of a chart, each checked to lie in the view box.
std::vector<std::vector<std::pair<double, double>>> polylines(const std::string& svg) {
  const auto box = all_between(svg, "viewBox=\"0 0 ", "\"");
  REQUIRE(box.size() == 1);
  const auto corner = points_of(box[0]).at(0);
  std::vector<std::vector<std::pair<double, double>>> out;
  for (const std::string& points : all_between(svg, " points=\"", "\"")) {
    out.push_back(points_of(points));
    for (const auto& [x, y] : out.back()) {
      CHECK(x >= 0);
      CHECK(x <= corner.first);
      CHECK(y >= 0);
      CHECK(y <= corner.second);
    }
  }
  for (const char* attribute : {" cx=\"", " x1=\"", " x2=\"", " x=\""}) {
    for (const std::string& value : all_between(svg, attribute, "\"")) {
      CHECK(std::stod(value) >= 0);
      CHECK(std::stod(value) <= corner.first);
    }
  }
  for (const char* attribute : {" cy=\"", " y1=\"", " y2=\"", " y=\""}) {
    for (const std::string& value : all_between(svg, attribute, "\"")) {
      CHECK(std::stod(value) >= 0);
      CHECK(std::stod(value) <= corner.second);
    }
  }
  return out;
}

qa::line_chart chart_of(const doubles& x, const doubles& y) {
  return {"c", "title", "iteration", "nats", 2, {}, {}, {{"line", x, y}}};
}

json full_report() {
  return json::parse(R"({
    "program": "train_qa", "version": "9.8.7",
    "options": {"method": "dro", "samples": 8, "select": 2, "iterations": 2, "seed": 1, "train": "a.jsonl"},
    "data": {"train_questions": 1092, "dev_questions": 358, "mean_documents": 9.99},
    "initial": {"em": 0.1, "f1": 0.25, "recall_at_k": 0.5, "all_gold_at_k": 0.3, "evidence": -5},
    "final": {"em": 0.3, "f1": 0.375, "recall_at_k": 0.8, "all_gold_at_k": 0.2, "evidence": -3.25},
    "iterations": [
      {"iteration": 1, "em": 0.2, "f1": 0.3, "recall_at_k": 0.7, "all_gold_at_k": 0.4, "evidence": -4, "elbo": null,
       "ess": 5.1, "weight_variance": 0.8, "no_hit_share": 0.3, "all_hit_share": 0.2, "flagged": 5,
       "status": {"ok": 1087, "impossible": 5}},
      {"iteration": 2, "em": 0.3, "f1": 0.375, "recall_at_k": 0.8, "all_gold_at_k": 0.2, "evidence": -3.25,
       "elbo": -3.5, "ess": 6, "weight_variance": 0.4, "no_hit_share": 0.2, "all_hit_share": 0.4, "flagged": 2,
       "status": {"ok": 1090, "impossible": 2}}],
    "examples": [{"id": "q7", "question": "Who?", "answers": ["Ada", "A. L."],
      "before": {"documents": [{"title": "Babbage", "gold": false}], "answer": "Charles", "f1": 0.0},
      "after": {"documents": [{"title": "Lovelace", "gold": true}], "answer": "Ada", "f1": 1.0}}],
    "comparison": [
      {"method": "emdr2", "description": "independent", "em": 0.2, "f1": 0.3, "recall_at_k": 0.4, "all_gold_at_k": 0.2,
       "evidence": -4, "seconds": 2, "standard_error": {"f1": 0.01}, "group": "document-independent"},
      {"method": "gold", "description": "told", "em": 0.3, "f1": 0.4, "recall_at_k": 0.9, "all_gold_at_k": 0.8,
       "evidence": -3, "seconds": 3, "uses_gold_documents": true, "group": "control"}],
    "timing": {"seconds": 40, "read_seconds": 1, "prepare_seconds": 9, "train_seconds": 26, "evaluate_seconds": 4,
               "peak_memory_mib": 310, "iteration_seconds": [13, 13.25]}})");
}

}  // namespace

TEST_CASE("markup is escaped, and what markup cannot hold is replaced") {
  CHECK(qa::escape_markup("<a href=\"x\">&'</a>") == "&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt;");
  CHECK(qa::escape_markup("Kieślowski ✓ 日本\n\t") == "Kieślowski ✓ 日本\n\t");
  CHECK(qa::escape_markup(std::string_view("a\0b\x1B", 4)) == "a\uFFFDb\uFFFD");
  CHECK(qa::escape_markup("x\xC3") == "x\uFFFD");
  CHECK(qa::escape_markup("\xFF<\xE2\x82") == "\uFFFD&lt;\uFFFD\uFFFD");
  CHECK(qa::escape_markup("\xC0\xBC") == "\uFFFD\uFFFD");  // '<' in an overlong form is not '<'
  CHECK(qa::escape_markup("").empty());
}

TEST_CASE("ticks are the round numbers a person would write") {
  CHECK(qa::nice_ticks(0, 1, 6).values == doubles{0, 0.2, 0.4, 0.6, 0.8, 1});
  CHECK(qa::nice_ticks(0.1, 0.3, 5).values == doubles{0.1, 0.15, 0.2, 0.25, 0.3});
  CHECK(qa::nice_ticks(-4.6, -3.1, 6).values == doubles{-5, -4.5, -4, -3.5, -3});
  CHECK(qa::nice_ticks(0, 8, 6).values == doubles{0, 2, 4, 6, 8});
  CHECK(qa::nice_ticks(1, 12, 8, 1).values == doubles{0, 2, 4, 6, 8, 10, 12});
  CHECK(qa::nice_ticks(1, 3, 8, 1).values == doubles{1, 2, 3});  // no half iterations
  CHECK(qa::nice_ticks(-1, 1, 0).values == doubles{-1, 0, 1});
  CHECK(qa::nice_ticks(0, 0, 6).values == doubles{-0.5, 0, 0.5});
  CHECK(qa::nice_ticks(5, 5, 6).low() < 5);
  CHECK(qa::nice_ticks(5, 5, 6).high() > 5);
}

TEST_CASE("ticks enclose the range, are few, and no smaller round step would do") {
  for (int exponent = -12; exponent <= 12; ++exponent) {
    for (const double low : {-7.3, -1.0, 0.0, 0.21, 3.0}) {
      for (const double width : {0.013, 0.3, 1.0, 4.7, 99.0}) {
        for (const int at_most : {3, 4, 6, 11}) {
          const double scale = std::pow(10.0, exponent);
          const double a = low * scale, b = (low + width) * scale;
          const auto ticks = qa::nice_ticks(a, b, at_most);
          CAPTURE(a);
          CAPTURE(b);
          CAPTURE(at_most);
          const double slack = 1e-8 * ticks.step;  // ends within 1e-9 of a tick count as on it; rounding adds less
          CHECK(ticks.low() <= a + slack);
          CHECK(ticks.high() >= b - slack);
          CHECK(ticks.values.size() >= 2);
          CHECK(ticks.values.size() <= static_cast<std::size_t>(at_most));
          const double mantissa = ticks.step / std::pow(10.0, std::floor(std::log10(ticks.step) + 1e-9));
          const bool round =
              std::abs(mantissa - 1) < 1e-9 || std::abs(mantissa - 2) < 1e-9 || std::abs(mantissa - 5) < 1e-9;
          CHECK(round);
          const double smaller = std::abs(mantissa - 5) < 1e-9 ? ticks.step / 2.5 : ticks.step / 2;
          CHECK(std::ceil(b / smaller - 1e-9) - std::floor(a / smaller + 1e-9) + 1 > at_most);
          for (std::size_t i = 1; i < ticks.values.size(); ++i) {
            CHECK(ticks.label(ticks.values[i]) != ticks.label(ticks.values[i - 1]));
          }
        }
      }
    }
  }
}

TEST_CASE("tick labels have the decimals of the step") {
  const auto shares = qa::nice_ticks(0, 1, 6);
  CHECK(shares.label(0.2) == "0.2");
  CHECK(shares.label(0) == "0.0");
  CHECK(qa::nice_ticks(-40, 10, 6).label(-20) == "−20");
  CHECK(qa::nice_ticks(0, 5e9, 6).label(1e9) == "1e+09");
}

TEST_CASE("a line goes where its numbers say") {
  const auto svg = qa::render(chart_of({1, 2, 3}, {0, 10, 20}));
  CHECK(nesting_mistake(svg).empty());
  const auto lines = polylines(svg);
  REQUIRE(lines.size() == 1);
  REQUIRE(lines[0].size() == 3);
  // equal steps of the data are equal steps on the page; each coordinate is rounded to 0.1, so a difference of two
  // steps is off by up to 4 · 0.05
  CHECK(std::abs((lines[0][2].first - lines[0][1].first) - (lines[0][1].first - lines[0][0].first)) <= 0.2001);
  CHECK(std::abs((lines[0][2].second - lines[0][1].second) - (lines[0][1].second - lines[0][0].second)) <= 0.2001);
  CHECK(lines[0][0].first < lines[0][1].first);
  CHECK(lines[0][0].second > lines[0][1].second);  // up is smaller
  // 0 and 20 are ticks: the grid lines there pass through the points
  for (const std::size_t i : {std::size_t{0}, std::size_t{2}}) {
    CHECK(contains(svg, "y1=\"" + qa::fixed(lines[0][i].second, 1) + "\" x2="));
  }
  CHECK(contains(svg, "<title>line, iteration 3: 20.00</title>"));
  CHECK(contains(svg, "line: 0.00 at first, 20.00 at last."));
}

TEST_CASE("invalid numbers leave a gap, a lone point is a dot") {
  const auto svg = qa::render(chart_of({1, 2, 3, 4, 5, 6}, {1, 2, not_a_number, 7, -infinity, 1e300}));
  const auto lines = polylines(svg);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].size() == 2);
  CHECK(count(svg, "<circle") == 3);
  CHECK_FALSE(contains(svg, "nan"));
  CHECK_FALSE(contains(svg, "inf"));

  const auto dot = qa::render(chart_of({7}, {-3.5}));
  CHECK(polylines(dot).empty());
  CHECK(count(dot, "<circle") == 1);
  CHECK(contains(dot, ">7</text>"));

  CHECK(qa::render(chart_of({1, 2}, {not_a_number, infinity})).empty());
  CHECK(qa::render(chart_of({}, {})).empty());
}

TEST_CASE("constant, huge and tiny values stay in the view box") {
  for (const double value : {0.0, 8.0, -1e-9, 1e15, -1e15, 1e-290, 1e-310}) {
    CAPTURE(value);
    const auto lines = polylines(qa::render(chart_of({1, 2, 3}, {value, value, value})));
    REQUIRE(lines.size() == 1);
    CHECK(lines[0][0].second == lines[0][2].second);
  }
  polylines(qa::render(chart_of({1, 2, 3}, {-1e15, 0, 1e15})));
  polylines(qa::render(chart_of({1, 2, 3}, {3, 3 + 1e-15, 3})));
}

TEST_CASE("a long line has no dots but those without neighbours") {
  doubles x, y;
  for (int i = 0; i < 1000; ++i) {
    x.push_back(i);
    y.push_back(i == 500 || i == 502 ? not_a_number : std::sin(0.01 * i));
  }
  const auto svg = qa::render(chart_of(x, y));
  CHECK(polylines(svg).size() == 2);
  CHECK(count(svg, "<circle") == 1);
}

TEST_CASE("names at the ends of lines keep their distance and their order") {
  auto chart = chart_of({1, 2}, {5, 5});
  chart.series.push_back({"second", {1, 2}, {5, 5.001}});
  chart.series.push_back({"third", {1, 2}, {5, 4.999}});
  chart.references.push_back({"m", 9});
  const auto svg = qa::render(chart);
  CHECK(nesting_mistake(svg).empty());
  polylines(svg);
  doubles y;
  for (const char* name : {">m<", ">second<", ">line<", ">third<"}) {
    const std::size_t end = svg.find(name);
    REQUIRE(end != std::string::npos);
    const std::size_t at = svg.rfind(" y=\"", end);
    y.push_back(std::stod(svg.substr(at + 4)));
  }
  for (std::size_t i = 1; i < y.size(); ++i) {
    CHECK(y[i] - y[i - 1] >= 14 - 0.1001);  // both rounded to 0.1
  }
}

TEST_CASE("bars have the length of their values, whiskers that of their errors") {
  qa::bar_chart chart{"b",
                      "title",
                      "F1 %",
                      1,
                      {{"one", {{"a", 10, 2.0}, {"b", 20, std::nullopt, true}}},
                       {"two", {{"c", not_a_number, 1.0}, {"d", 40, std::nullopt}}}}};
  const auto svg = qa::render(chart);
  CHECK(nesting_mistake(svg).empty());
  polylines(svg);
  doubles widths;
  for (const std::string& width : all_between(svg, " width=\"", "\"")) {
    widths.push_back(std::stod(width));
  }
  REQUIRE(widths.size() == 3);
  CHECK(std::abs(widths[1] - 2 * widths[0]) <= 0.1501);  // 0.05 and twice 0.05
  CHECK(std::abs(widths[2] - 4 * widths[0]) <= 0.2501);
  CHECK(count(svg, "class=\"whisker\"") == 3);  // one whisker with two caps
  const auto ends = all_between(svg, "class=\"whisker\"", "/>");
  const double from = std::stod(all_between(ends[0], "x1=\"", "\"")[0]);
  const double to = std::stod(all_between(ends[0], "x2=\"", "\"")[0]);
  CHECK(std::abs((to - from) - 0.4 * widths[0]) <= 0.1201);  // 2 · 2 of 10; 0.05 twice and 0.4 · 0.05
  CHECK(contains(svg, ">10.0 ± 2.0</text>"));
  CHECK(contains(svg, ">–</text>"));
  CHECK(qa::render(qa::bar_chart{"b", "", "", 1, {}}).empty());
  chart.groups = {{"", {{"z", 0, std::nullopt}}}};
  CHECK(contains(qa::render(chart), " width=\"0.0\""));
}

TEST_CASE("the page holds the whole report and needs nothing else") {
  const std::string page = qa::render_html(full_report());
  CHECK(nesting_mistake(page) == "");
  for (const std::string part : {"<title>train_qa: dro</title>",
                                 "9.8.7",
                                 "1092 training questions",
                                 "9.99 candidate documents",
                                 "310 MiB",
                                 "a.jsonl",
                                 "37.5",
                                 "before training 25.0 (+12.5)",
                                 "(−10.0)",
                                 "−3.250",
                                 "Babbage",
                                 "Lovelace",
                                 "✓ gold",
                                 "Ada · A. L.",
                                 "impossible: 7.",
                                 "30.0 <span class=\"se\">± 1.0</span>",
                                 "gold *",
                                 "document-independent",
                                 ">m = 8</text>",
                                 "prefers-color-scheme:dark",
                                 "13.25"}) {
    CAPTURE(part);
    CHECK(contains(page, part));
  }
  CHECK(count(page, "<svg") == 7);
  for (const std::string absent : {"<script", "://", "src=", "href=", "url(", "@import", "nan", "null"}) {
    CAPTURE(absent);
    CHECK_FALSE(contains(page, absent));
  }
  std::set<std::string> ids;
  for (const std::string& id : all_between(page, " id=\"", "\"")) {
    CAPTURE(id);
    CHECK(ids.insert(id).second);
  }
  for (const std::string& names : all_between(page, "aria-labelledby=\"", "\"")) {
    std::istringstream in(names);
    for (std::string name; in >> name;) {
      CHECK(ids.contains(name));
    }
  }
  CHECK(count(page, "<svg") == count(page, "<desc id="));
}

TEST_CASE("text of the report cannot become markup") {
  const std::string evil = "</td></svg></style>\"'><script>alert(1)</script>&amp;";
  json report = full_report();
  // every string of the report, and a name
  const auto poison = [&](auto&& self, json& value) -> void {
    if (value.is_string()) {
      value = evil;
    } else if (value.is_structured()) {
      for (json& part : value) {
        self(self, part);
      }
    }
  };
  poison(poison, report);
  report["options"][evil] = {{"nested", evil}};
  report["iterations"][0]["status"][evil] = 1;
  const std::string page = qa::render_html(report);
  CHECK(nesting_mistake(page) == "");
  CHECK_FALSE(contains(page, "<script"));
  CHECK(contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;"));
  CHECK(count(page, "</style>") == 1);
}

TEST_CASE("text that is not UTF-8 becomes a page that is") {
  json report = full_report();
  report["examples"][0]["question"] = "caf\xE9?";
  report["options"]["odd"] = json::array({"\xFF"});
  report["comparison"][0]["method"] = "\xC3(";
  const std::string page = qa::render_html(report);
  CHECK(contains(page, "caf\uFFFD?"));
  bool valid = true;
  qa::for_each_code_point(page, [&](utf8proc_int32_t code_point, std::string_view bytes) {
    valid = valid && (code_point != 0xFFFD || bytes == "\uFFFD");
  });
  CHECK(valid);
}

TEST_CASE("any part may be absent, null or of another type") {
  const json full = full_report();
  std::vector<json> reports = {nullptr, json::object(), json::array(), 3, "text"};
  std::vector<json::json_pointer> places;
  const auto collect = [&](auto&& self, const json& value, const json::json_pointer& place) -> void {
    if (!place.empty()) {
      places.push_back(place);
    }
    if (value.is_object()) {
      for (const auto& [name, part] : value.items()) {
        self(self, part, place / name);
      }
    } else if (value.is_array()) {
      for (std::size_t i = 0; i < value.size(); ++i) {
        self(self, value[i], place / i);
      }
    }
  };
  collect(collect, full, json::json_pointer{});
  REQUIRE(places.size() > 100);
  for (const json::json_pointer& place : places) {
    for (const json& wrong : {json(nullptr), json("x"), json(-1), json(true), json::array(), json::array({nullptr}),
                              json::object(), json(1e300), json(not_a_number)}) {
      reports.push_back(full);
      reports.back()[place] = wrong;
    }
    reports.push_back(full);
    json& parent = reports.back()[place.parent_pointer()];
    if (parent.is_object()) {
      parent.erase(place.back());
    } else {
      parent.erase(std::stoul(place.back()));
    }
  }
  for (const json& report : reports) {
    std::string page;
    CHECK_NOTHROW(page = qa::render_html(report));
    CHECK_MESSAGE(nesting_mistake(page) == "", report.dump());
    std::string tables;
    CHECK_NOTHROW(tables = qa::summary_table(report).render());
    CHECK_NOTHROW(tables += qa::comparison_table(qa::member(report, "comparison")).render());
    CHECK(contains(tables, "recall@K %"));
  }
}

TEST_CASE("sections without content are left out") {
  const std::string page = qa::render_html(json::object());
  CHECK(count(page, "<h2>") == 0);
  CHECK(count(page, "<svg") == 0);
  json report = full_report();
  report.erase("comparison");
  report["iterations"] = json::array({report["iterations"][0]});
  const std::string one = qa::render_html(report);
  CHECK_FALSE(contains(one, "Comparison of methods"));
  CHECK(count(one, "<svg") == 5);
  CHECK(count(one, "<polyline") == 3);  // the scores, from before training to iteration 1
}

TEST_CASE("a number of the report is finite or absent") {
  const json object = {{"a", -2}, {"b", not_a_number}, {"c", infinity}, {"d", "1"}, {"e", nullptr}, {"f", true}};
  CHECK(qa::number(object, "a") == -2.0);
  for (const std::string key : {"b", "c", "d", "e", "f", "g"}) {
    CAPTURE(key);
    CHECK_FALSE(qa::number(object, key.c_str()).has_value());
  }
  CHECK_FALSE(qa::number(json::array({1}), "a").has_value());
  CHECK(qa::scores[1].of({{"f1", 0.25}}) == 25.0);
}

TEST_CASE("numbers with fixed decimals") {
  CHECK(qa::fixed(12.345, 1) == "12.3");
  CHECK(qa::fixed(0.125, 2) == "0.12");  // exactly half way: to even
  CHECK(qa::fixed(2.5, 0) == "2");
  CHECK(qa::fixed(-0.04, 1) == "0.0");
  CHECK(qa::fixed(-0.06, 1) == "-0.1");
  CHECK(qa::fixed(7, -3) == "7");
  CHECK(qa::fixed(not_a_number, 1) == "–");
  CHECK(qa::fixed(-infinity, 1) == "–");
  CHECK(qa::fixed(-1e308, 80).size() == 1 + 309 + 1 + 80);
}

TEST_CASE("width is counted in columns of the terminal") {
  CHECK(qa::display_width("") == 0);
  CHECK(qa::display_width("Kieślowski ±") == 12);
  CHECK(qa::display_width("e\u0301") == 1);
  CHECK(qa::display_width("日本") == 4);
  CHECK(qa::display_width("a\xFF") == 2);
}

TEST_CASE("a table lines up") {
  using side = qa::table::side;
  qa::table table({{"method"}, {"F1 %", side::right}, {"recall@K %", side::right}, {"note"}});
  table.add_row({"dro", {40.84, 1, 0.4}, {90.0, 1}, "Kieślowski"});
  table.add_row({"日本", {9.5, 1, 12.0}, {std::nullopt, 1}, ""});
  table.add_row({"read-all", {39.5, 1}, {100.0, 1}, "two\nlines\x1B[31m"});
  CHECK(table.render() ==
        "method           F1 %  recall@K %  note\n"
        "-------------------------------------------------\n"
        "dro       40.8 ±  0.4        90.0  Kieślowski\n"
        "日本       9.5 ± 12.0           –\n"
        "read-all  39.5              100.0  two lines [31m\n");
  CHECK_THROWS_WITH_AS(table.add_row({"a"}), "table: a row of 1 cells for 4 columns", dro::shape_error);
  CHECK(qa::table({}).render().empty());
}

TEST_CASE("the tables of train_qa") {
  CHECK(qa::summary_table(full_report()).render() ==
        "                before   after\n"
        "------------------------------\n"
        "EM %              10.0    30.0\n"
        "F1 %              25.0    37.5\n"
        "recall@K %        50.0    80.0\n"
        "all-gold@K %      30.0    20.0\n"
        "evidence, nats  -5.000  -3.250\n");
  CHECK(qa::comparison_table(full_report()["comparison"]).render() ==
        "method  what it is   EM %        F1 %  recall@K %  all-gold@K %  seconds\n"
        "------------------------------------------------------------------------\n"
        "emdr2   independent  20.0  30.0 ± 1.0        40.0          20.0      2.0\n"
        "gold *  told         30.0  40.0              90.0          80.0      3.0\n");
  CHECK(qa::comparison_table(nullptr).empty());
  CHECK(qa::summary_table(nullptr).empty());
}
