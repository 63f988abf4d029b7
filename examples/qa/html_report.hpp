// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_HTML_REPORT_HPP
#define DRO_EXAMPLES_QA_HTML_REPORT_HPP

/// \file
/// The report of train_qa as a page for a browser.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "svg_plot.hpp"
#include "table.hpp"

namespace qa {

namespace detail {

using nlohmann::json;

inline constexpr std::string_view page_style = R"(
:root{color-scheme:light dark;--page:#fff;--card:#f6f7f9;--text:#1b1f24;--muted:#59636e;--grid:#e1e5ea;
--c0:#1f5fbf;--c1:#b4490a;--c2:#13794a;--c3:#8a3aa8;--good:#13794a}
@media screen and (prefers-color-scheme:dark){:root{--page:#14171c;--card:#1d2229;--text:#e6e9ee;--muted:#9aa5b1;
--grid:#313843;--c0:#79b0ff;--c1:#f3a261;--c2:#5fcf97;--c3:#d39bf0;--good:#5fcf97}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.25rem 3rem;max-width:62rem;background:var(--page);color:var(--text);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;overflow-wrap:break-word}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .4rem}
h2{font-size:1.25rem;margin:2.75rem 0 .5rem;padding-top:.9rem;border-top:1px solid var(--grid)}
h3{font-size:1rem;margin:0 0 .5rem}
p{margin:.5rem 0;max-width:50rem}
.lead,.note,figcaption,caption{color:var(--muted)}
.note,figcaption{font-size:.875rem}
dl.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.5rem 0}
dl.tiles div{background:var(--card);border-radius:.5rem;padding:.75rem 1rem}
dl.tiles dt{color:var(--muted);font-size:.875rem}
dl.tiles dd{margin:0;font-variant-numeric:tabular-nums}
dl.tiles .big{font-size:1.7rem;font-weight:600;line-height:1.25}
dl.tiles .small{color:var(--muted);font-size:.8125rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:2rem 2.5rem;margin:1.25rem 0}
figure{margin:0;break-inside:avoid}
figcaption{margin-top:.4rem}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:0 0 .5rem;font-size:.875rem}
th,td{padding:.35rem .75rem .35rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--grid)}
th+th,td+td,th+td{padding-left:.75rem}
thead th{border-bottom:1px solid var(--muted);vertical-align:bottom;font-weight:600}
tbody th{font-weight:600}
.n{text-align:right;white-space:nowrap}
tbody th[colspan]{padding-top:1rem;color:var(--muted);font-size:.8125rem}
tbody th{white-space:nowrap}
.what{display:block;max-width:17rem;min-width:9rem;white-space:normal;font-weight:400;color:var(--muted);font-size:.8125rem;line-height:1.35}
.se{color:var(--muted)}
.warning{border-left:.25rem solid var(--c1);padding:.5rem 1rem;background:var(--card)}
article{background:var(--card);border-radius:.5rem;padding:1rem 1.25rem;margin:1rem 0;break-inside:avoid}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:.75rem 2rem}
h4{font-size:.875rem;margin:.75rem 0 .25rem;color:var(--muted)}
ol{margin:.25rem 0;padding-left:1.4rem}
.gold{color:var(--good);font-weight:600;font-size:.8125rem;white-space:nowrap}
summary{cursor:pointer;margin:1rem 0 0}
@media print{body{max-width:none;padding:0;font-size:10pt}.scroll{overflow:visible}h2,h3{break-after:avoid}
article,dl.tiles div{border:1px solid var(--grid)}thead{display:table-header-group}tr{break-inside:avoid}}
)";

/// The number with its decimals, a true minus sign, `no_number` if absent.
[[nodiscard]] inline std::string shown(std::optional<double> value, int decimals) {
  return value ? with_minus_sign(fixed(*value, decimals)) : std::string{no_number};
}

/// A count without decimals, any other number with `decimals`.
[[nodiscard]] inline std::string shown_count(double value, int decimals) {
  return shown(value, value == std::floor(value) ? 0 : decimals);
}

/// A change with its sign.
[[nodiscard]] inline std::string shown_change(double value, int decimals) {
  const std::string text = shown(value, decimals);
  return value > 0 && text.find_first_of("123456789") != std::string::npos ? "+" + text : text;
}

/// Any JSON value as escaped text: strings as they are, the rest as JSON.
[[nodiscard]] inline std::string shown_json(const json& value) {
  return escape_markup(value.is_string() ? value.get<std::string>()
                                         : value.dump(-1, ' ', false, json::error_handler_t::replace));
}

/// A table of the page. Headings are plain text, cells are markup already.
struct html_table {
  struct column {
    std::string heading;
    bool numeric = true;
  };
  std::string caption;
  std::vector<column> columns;
  std::string rows = {};

  /// Adds a row, its first cell as the row's heading.
  void add(const std::vector<std::string>& cells) {
    rows += "<tr>";
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string css = columns[c].numeric ? " class=\"n\"" : "";
      rows += c == 0 ? "<th scope=\"row\"" + css + ">" + cells[c] + "</th>" : "<td" + css + ">" + cells[c] + "</td>";
    }
    rows += "</tr>\n";
  }

  void add_heading(std::string_view text) {
    rows += "<tr><th scope=\"rowgroup\" colspan=\"" + std::to_string(columns.size()) + "\">" + escape_markup(text) +
            "</th></tr>\n";
  }

  /// The table, empty if it has no rows.
  [[nodiscard]] std::string render() const {
    if (rows.empty()) {
      return {};
    }
    // A table that is too wide for the window scrolls on its own, by keyboard too.
    std::string out = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"" + escape_markup(caption) +
                      "\"><table>\n<caption>" + escape_markup(caption) + "</caption>\n<thead><tr>";
    for (const column& c : columns) {
      out +=
          std::string{"<th scope=\"col\""} + (c.numeric ? " class=\"n\">" : ">") + escape_markup(c.heading) + "</th>";
    }
    return out + "</tr></thead>\n<tbody>\n" + rows + "</tbody></table></div>\n";
  }
};

/// A section with its heading, empty if its content is.
[[nodiscard]] inline std::string section(std::string_view heading, const std::string& content) {
  return content.empty() ? std::string{}
                         : "<section>\n<h2>" + std::string{heading} + "</h2>\n" + content + "</section>\n";
}

/// A chart under its title and above its caption, empty if the chart is.
[[nodiscard]] inline std::string figure(std::string_view title, const std::string& chart, std::string_view caption) {
  return chart.empty() ? std::string{}
                       : "<figure>\n<h3>" + std::string{title} + "</h3>\n" + chart + "<figcaption>" +
                             std::string{caption} + "</figcaption>\n</figure>\n";
}

// ---- What a reader sees first -----------------------------------------------------------------------------------

[[nodiscard]] inline std::string page_heading(const json& report) {
  const json& options = member(report, "options");
  const json& data = member(report, "data");
  const json& timing = member(report, "timing");
  std::string what = text(report, "program");
  if (what.empty()) {
    what = "Training";
  }
  const std::string method = text(options, "method");
  std::vector<std::string> facts;
  const auto add = [&](const json& from, const char* key, const std::string& before, const std::string& after,
                       int decimals) {
    if (const auto value = number(from, key)) {
      facts.push_back(before + shown_count(*value, decimals) + after);
    }
  };
  add(data, "train_questions", "", " training questions", 0);
  add(data, "dev_questions", "", " dev questions", 0);
  add(data, "mean_documents", "", " candidate documents a question on average", 2);
  add(options, "select", "K\u00A0=\u00A0", " chosen", 0);
  add(options, "samples", "m\u00A0=\u00A0", " samples a question", 0);
  add(options, "iterations", "", " iterations", 0);
  add(options, "seed", "seed ", "", 0);
  add(timing, "seconds", "", " s", 1);
  add(timing, "peak_memory_mib", "", " MiB at most", 0);
  std::string line;
  for (const std::string& fact : facts) {
    line += (line.empty() ? "" : " · ") + fact;
  }
  return "<header>\n<h1>" + escape_markup(what) + (method.empty() ? "" : ": method " + escape_markup(method)) +
         "</h1>\n" + (line.empty() ? "" : "<p class=\"lead\">" + line + "</p>\n") + "</header>\n";
}

/// A tile for each score: its value after training, and before.
[[nodiscard]] inline std::string score_tiles(const json& report) {
  std::string tiles;
  const auto add = [&](const measure& m) {
    const auto before = m.of(member(report, "initial"));
    const auto after = m.of(member(report, "final"));
    if (!after) {
      return;
    }
    tiles += "<div><dt>" + escape_markup(m.heading) + "</dt><dd class=\"big\">" + shown(after, m.decimals) + "</dd>";
    if (before) {
      tiles += "<dd class=\"small\">before training " + shown(before, m.decimals) + " (" +
               shown_change(*after - *before, m.decimals) + ")</dd>";
    }
    tiles += "</div>\n";
  };
  std::for_each(scores.begin(), scores.end(), add);
  add(evidence);
  return tiles.empty() ? std::string{} : "<dl class=\"tiles\">\n" + tiles + "</dl>\n";
}

// ---- Training, iteration by iteration ---------------------------------------------------------------------------

/// The measure by iteration; `start` supplies iteration 0 where it has the measure.
[[nodiscard]] inline line_series series_of(const json& iterations, const std::string& label, const measure& m,
                                           const json& start = nullptr) {
  line_series out{label, {}, {}};
  if (const auto value = m.of(start)) {
    out.x.push_back(0);
    out.y.push_back(*value);
  }
  double position = 0;
  for (const json& iteration : iterations) {
    position = number(iteration, "iteration").value_or(position + 1);
    out.x.push_back(position);
    out.y.push_back(m.of(iteration).value_or(std::nan("")));
  }
  return out;
}

[[nodiscard]] inline std::string training_figures(const json& report, const json& iterations) {
  const json& start = member(report, "initial");
  const auto series = [&](const char* key, const char* label, double scale) {
    return series_of(iterations, label, measure{key, label, scale, 0});
  };
  const auto score = [&](const char* key, const char* label) {
    return series_of(iterations, label, measure{key, label, 100, 1}, start);
  };
  line_chart bounds{"evidence",  "Evidence and ELBO by iteration",
                    "iteration", "nats a question",
                    3,           {},
                    {},          {series("evidence", "evidence", 1), series("elbo", "ELBO", 1)}};
  line_chart quality{"scores",    "Scores by iteration",
                     "iteration", "% of dev questions (F1: mean)",
                     1,           {0},
                     {},          {score("f1", "F1"), score("em", "EM"), score("all_gold_at_k", "all-gold@K")}};
  line_chart ess{
      "ess", "Effective sample size by iteration", "iteration", "samples", 2, {1}, {}, {series("ess", "ESS", 1)}};
  line_chart variance{"variance",  "Weight variance by iteration",
                      "iteration", "variance of m w̄ (no unit)",
                      3,           {0, 0.1},
                      {},          {series("weight_variance", "variance", 1)}};
  line_chart hits{"hits",      "Hit shares by iteration",
                  "iteration", "% of dev questions",
                  1,           {0, 100},
                  {},          {series("no_hit_share", "no sample", 100), series("all_hit_share", "all samples", 100)}};
  if (const auto samples = number(member(report, "options"), "samples")) {
    ess.references.push_back({"m = " + shown_count(*samples, 1), *samples});
  }
  return figure("Scores", render(quality),
                "Exact match and word-overlap F1 of the answers on the dev questions, and the share of questions for "
                "which the K chosen documents include every gold document; higher is better, and iteration 0, where "
                "there is one, is before training.") +
         figure("Evidence and ELBO", render(bounds),
                "The mean over dev questions of the log of the average sample weight (evidence; it estimates log "
                "p(answer | question), on average from below) and of the average log weight (ELBO, never above it); "
                "higher is better, and the two meet where all samples of a question weigh the same.") +
         figure("Effective sample size", render(ess),
                "The mean of 1/Σw̄² over dev questions, from 1 (one sample carries all the weight) to m (all weigh "
                "the same); it is m when every sample is equally good and also when none contains the answer, so "
                "neither high nor low is good in itself: read it with the hit shares.") +
         figure("Weight variance", render(variance),
                "The mean over dev questions of the variance of m w̄, which is m/ESS − 1 for each question: 0 when "
                "all samples weigh the same, m − 1 when one carries all the weight; like ESS it does not tell equally "
                "good samples from equally useless ones.") +
         figure("Hit shares", render(hits),
                "The share of dev questions for which no sample, and for which every sample, has the answer in "
                "its chosen documents; the remaining questions, between the two, are those where samples differ in "
                "what matters and the selector has most to learn from.");
}

/// All numbers behind the charts, folded away. Columns without a number are left out.
[[nodiscard]] inline std::string iteration_table(const json& report, const json& iterations) {
  std::vector<measure> measures(scores.begin(), scores.end());
  measures.insert(measures.end(), {{"evidence", "evidence, nats", 1, 3},
                                   {"elbo", "ELBO, nats", 1, 3},
                                   {"ess", "ESS", 1, 2},
                                   {"weight_variance", "weight variance", 1, 3},
                                   {"no_hit_share", "no sample hits %", 100, 1},
                                   {"all_hit_share", "all hit %", 100, 1},
                                   {"flagged", "flagged", 1, 0}});
  std::erase_if(measures, [&](const measure& m) {
    return std::none_of(iterations.begin(), iterations.end(), [&](const json& i) { return m.of(i).has_value(); });
  });
  if (measures.empty()) {
    return {};
  }
  const json& seconds = member(member(report, "timing"), "iteration_seconds");
  const bool timed = seconds.is_array() && seconds.size() == iterations.size();
  html_table table{"Every iteration in numbers", {{"iteration"}}};
  for (const measure& m : measures) {
    table.columns.push_back({m.heading});
  }
  if (timed) {
    table.columns.push_back({"seconds"});
  }
  const auto add = [&](const std::string& name, const json& values, const json& time) {
    std::vector<std::string> cells = {name};
    for (const measure& m : measures) {
      cells.push_back(shown(m.of(values), m.decimals));
    }
    if (timed) {
      cells.push_back(time.is_number() ? shown(time.get<double>(), 2) : std::string{no_number});
    }
    table.add(cells);
  };
  if (member(report, "initial").is_object()) {
    add("before", member(report, "initial"), nullptr);
  }
  for (std::size_t i = 0; i < iterations.size(); ++i) {
    const auto position = number(iterations[i], "iteration").value_or(static_cast<double>(i + 1));
    add(shown_count(position, 1), iterations[i], timed ? seconds[i] : json(nullptr));
  }
  return "<details>\n<summary>The numbers behind the charts</summary>\n" + table.render() + "</details>\n";
}

/// How many questions, summed over iterations, took no part in a step, by the reason.
[[nodiscard]] inline std::string trouble(const json& iterations) {
  std::map<std::string, double> counts;
  for (const json& iteration : iterations) {
    const json& status = member(iteration, "status");
    if (status.is_object()) {
      for (const auto& [name, value] : status.items()) {
        counts[name] += number(status, name.c_str()).value_or(0);
      }
    }
  }
  std::string reasons;
  for (const auto& [name, count] : counts) {
    if (name != "ok" && count > 0) {
      reasons += (reasons.empty() ? "" : ", ") + escape_markup(name) + ": " + shown(count, 0);
    }
  }
  return reasons.empty() ? std::string{}
                         : "<p class=\"warning\">Questions that took no part in a step because of numerical trouble, "
                           "summed over iterations: " +
                               reasons + ". Their coefficients were 0.</p>\n";
}

[[nodiscard]] inline std::string training_section(const json& report) {
  const json& iterations = member(report, "iterations");
  if (!iterations.is_array() || iterations.empty()) {
    return {};
  }
  const std::string figures = training_figures(report, iterations);
  return trouble(iterations) +
         (figures.empty() ? std::string{}
                          : "<p class=\"note\">A gap in a line is a value of −∞ or one that is not a number.</p>\n"
                            "<div class=\"figures\">\n" +
                                figures + "</div>\n") +
         iteration_table(report, iterations);
}

// ---- Methods side by side ---------------------------------------------------------------------------------------

struct method_group {
  std::string name;
  std::vector<std::reference_wrapper<const json>> rows;
};

/// Rows by their "group", groups in the order of their first row.
[[nodiscard]] inline std::vector<method_group> grouped(const json& comparison) {
  std::vector<method_group> groups;
  for (const json& row : comparison) {
    const std::string name = text(row, "group");
    auto found = std::find_if(groups.begin(), groups.end(), [&](const method_group& g) { return g.name == name; });
    if (found == groups.end()) {
      found = groups.insert(groups.end(), {name, {}});
    }
    found->rows.emplace_back(row);
  }
  return groups;
}

[[nodiscard]] inline std::string comparison_section(const json& report) {
  const json& comparison = member(report, "comparison");
  if (!comparison.is_array() || comparison.empty()) {
    return {};
  }
  const std::vector<method_group> groups = grouped(comparison);
  std::vector<measure> measures(scores.begin(), scores.end());
  measures.push_back(evidence);
  measures.push_back({"seconds", "seconds", 1, 1});
  html_table table{"Every method on the same data, models and seeds", {{"method", false}}};
  for (const measure& m : measures) {
    table.columns.push_back({m.heading});
  }
  bool any_error = false, any_gold = false;
  for (const method_group& group : groups) {
    if (!group.name.empty()) {
      table.add_heading(group.name);
    }
    for (const json& row : group.rows) {
      const bool gold = member(row, "uses_gold_documents") == true;
      any_gold = any_gold || gold;
      const std::string what = text(row, "description");
      std::vector<std::string> cells = {
          escape_markup(text(row, "method")) + (gold ? " *" : "") +
          (what.empty() ? std::string{} : "<span class=\"what\">" + escape_markup(what) + "</span>")};
      for (const measure& m : measures) {
        const auto value = m.of(row);
        const auto error = m.of(member(row, "standard_error"));
        any_error = any_error || (value && error);
        cells.push_back(shown(value, m.decimals) +
                        (value && error ? " <span class=\"se\">± " + shown(error, m.decimals) + "</span>" : ""));
      }
      table.add(cells);
    }
  }
  const std::string gold_note = any_gold ? " Methods marked * (outlined bars) were shown the gold documents." : "";
  const std::string error_note =
      any_error ? " ± and whiskers are one standard error over seeds. Methods ran on the same seeds, so the error of a "
                  "difference is that of the paired differences, which whiskers do not show."
                : "";
  const auto bars = [&](const char* id, const measure& m, const std::string& x_label) {
    bar_chart chart{id, x_label + " by method", x_label, m.decimals, {}};
    for (const method_group& group : groups) {
      bar_group shown_group{group.name, {}};
      for (const json& row : group.rows) {
        shown_group.bars.push_back({text(row, "method"), m.of(row).value_or(std::nan("")),
                                    m.of(member(row, "standard_error")), member(row, "uses_gold_documents") == true});
      }
      chart.groups.push_back(std::move(shown_group));
    }
    return render(chart);
  };
  return table.render() +
         (gold_note.empty() && error_note.empty() ? std::string{}
                                                  : "<p class=\"note\">" + gold_note + error_note + "</p>\n") +
         "<div class=\"figures\">\n" +
         figure(
             "Answers: F1", bars("bars-f1", scores[1], "mean F1, %"),
             "How far the words of a method's answers agree with those accepted, averaged over dev questions; longer "
             "is better.") +
         figure("Selection: all gold documents chosen", bars("bars-gold", scores[3], "all-gold@K, % of questions"),
                "For how many dev questions the K documents a method chose include every gold document, which is what "
                "an answer that combines documents needs; longer is better.") +
         "</div>\n";
}

// ---- Examples ---------------------------------------------------------------------------------------------------

[[nodiscard]] inline std::string example_side(std::string_view heading, const json& side) {
  if (!side.is_object()) {
    return {};
  }
  std::string out = "<div>\n<h4>" + std::string{heading} + "</h4>\n";
  if (const json& documents = member(side, "documents"); documents.is_array() && !documents.empty()) {
    out += "<ol>\n";
    for (const json& document : documents) {
      const std::string title = text(document, "title");
      out += "<li>" + (title.empty() ? "(no title)" : escape_markup(title)) +
             (member(document, "gold") == true ? " <span class=\"gold\">✓ gold</span>" : "") + "</li>\n";
    }
    out += "</ol>\n";
  }
  const std::string answer = text(side, "answer");
  const auto f1 = number(side, "f1");
  return out + "<p>Answer: " + (answer.empty() ? "(none)" : "<strong>" + escape_markup(answer) + "</strong>") +
         (f1 ? " <span class=\"se\">· F1 " + shown(f1, 2) + "</span>" : "") + "</p>\n</div>\n";
}

[[nodiscard]] inline std::string example_section(const json& report) {
  const json& examples = member(report, "examples");
  if (!examples.is_array()) {
    return {};
  }
  std::string out;
  for (const json& example : examples) {
    if (!example.is_object()) {
      continue;
    }
    out += "<article>\n<h3>" + escape_markup(text(example, "question")) + "</h3>\n";
    std::string answers;
    if (const json& accepted = member(example, "answers"); accepted.is_array()) {
      for (const json& answer : accepted) {
        answers += (answers.empty() ? "" : " · ") + shown_json(answer);
      }
    }
    const std::string id = text(example, "id");
    if (!answers.empty() || !id.empty()) {
      out += "<p class=\"note\">" + (answers.empty() ? "" : "Accepted: " + answers) +
             (answers.empty() || id.empty() ? "" : " — ") + (id.empty() ? "" : "question " + escape_markup(id)) +
             "</p>\n";
    }
    out += "<div class=\"sides\">\n" + example_side("Before training", member(example, "before")) +
           example_side("After training", member(example, "after")) + "</div>\n</article>\n";
  }
  return out;
}

// ---- How the run was made ---------------------------------------------------------------------------------------

[[nodiscard]] inline std::string run_section(const json& report) {
  html_table options{"Options and data", {{"name", false}, {"value", false}}};
  for (const char* part : {"options", "data"}) {
    if (const json& values = member(report, part); values.is_object()) {
      for (const auto& [name, value] : values.items()) {
        options.add({escape_markup(name), shown_json(value)});
      }
    }
  }
  const json& timing = member(report, "timing");
  html_table times{"Where the time went", {{"part", false}, {"seconds"}, {"share %"}}};
  const auto whole = number(timing, "seconds");
  for (const auto& [key, name] : std::array<std::pair<const char*, const char*>, 5>{{{"read_seconds", "reading"},
                                                                                     {"prepare_seconds", "features"},
                                                                                     {"train_seconds", "training"},
                                                                                     {"evaluate_seconds", "evaluation"},
                                                                                     {"seconds", "whole run"}}}) {
    if (const auto seconds = number(timing, key)) {
      const bool share = whole && *whole > 0;
      times.add({name, shown(seconds, 2), shown(share ? std::optional{100 * *seconds / *whole} : std::nullopt, 0)});
    }
  }
  return times.render() + options.render();
}

}  // namespace detail

/// The report of train_qa as one HTML page: scores before and after, charts over iterations, the comparison of methods,
/// examples, options and times. The page needs nothing else: no scripts, no requests (its content policy forbids them),
/// style and charts inline; it follows the reader's light or dark setting and prints.
///
/// \param report what report.json holds. Parts that are absent, null or of another type are left out, numbers that are
/// not finite (null in JSON) are shown as `no_number` and are gaps in charts; nothing in it makes this throw but lack
/// of memory. All text of the report is escaped; bytes that are not UTF-8 become U+FFFD.
///
/// Linear in the size of the report.
[[nodiscard]] inline std::string render_html(const nlohmann::json& report) {
  const std::string program = text(report, "program");
  const std::string version = text(report, "version");
  const std::string method = text(member(report, "options"), "method");
  const std::string title = (program.empty() ? "Training" : program) + (method.empty() ? "" : ": " + method);
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         escape_markup(title) + "</title>\n<style>" + std::string{detail::page_style} + std::string{svg_style} +
         "</style>\n</head>\n<body>\n" + detail::page_heading(report) + "<main>\n" + detail::score_tiles(report) +
         detail::section("Comparison of methods", detail::comparison_section(report)) +
         detail::section("Training", detail::training_section(report)) +
         detail::section("Questions before and after training", detail::example_section(report)) +
         detail::section("The run", detail::run_section(report)) + "</main>\n" +
         (version.empty() ? ""
                          : "<footer><p class=\"note\">" + escape_markup(program) + " " + escape_markup(version) +
                                "</p></footer>\n") +
         "</body>\n</html>\n";
}

}  // namespace qa

#endif
