// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_REPORT_HPP
#define DRO_EXAMPLES_QA_REPORT_HPP

/// \file
/// The results of a session as JSON and as a table for the terminal.

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/version.hpp>

#include "../program.hpp"
#include "methods.hpp"
#include "options.hpp"
#include "question_set.hpp"
#include "run.hpp"

namespace qa {

/// Mean and standard error of the mean; the latter is NaN for one value.
struct mean_and_error {
  double mean = std::numeric_limits<double>::quiet_NaN();
  double error = std::numeric_limits<double>::quiet_NaN();
};

[[nodiscard]] inline mean_and_error summarise(std::span<const double> values) {
  mean_and_error m;
  if (values.empty()) return m;
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double v : values) sum += v;
  m.mean = sum / n;
  if (values.size() < 2) return m;
  double squares = 0;
  for (const double v : values) squares += (v - m.mean) * (v - m.mean);
  m.error = std::sqrt(squares / (n - 1) / n);
  return m;
}

inline constexpr const char* score_keys[] = {"em",   "f1",  "recall_at_k",     "all_gold_at_k", "evidence",
                                             "elbo", "ess", "weight_variance", "no_hit_share",  "all_hit_share"};

/// F1 of each dev question, averaged over the seeds of a method.
[[nodiscard]] inline std::vector<double> question_f1(const json& results, std::string_view method) {
  std::vector<double> mean;
  double runs = 0;
  for (const json& result : results) {
    if (result.at("method") != method) continue;
    const auto f1 = result.at("question_f1").get<std::vector<double>>();
    mean.resize(f1.size());
    for (std::size_t i = 0; i < f1.size(); ++i) mean[i] += f1[i];
    runs += 1;
  }
  for (double& f1 : mean) f1 /= runs;
  return mean;
}

/// One row for each method: means over its seeds of the final scores, with standard errors; and how far its F1 lies
/// above that of `reference`, with the standard error of that difference paired over dev questions.
[[nodiscard]] inline json comparison(const json& results, std::string_view reference) {
  const std::vector<double> reference_f1 = question_f1(results, reference);
  json rows = json::array();
  for (const method& m : methods) {
    json row;
    for (const char* key : score_keys) {
      std::vector<double> values;
      for (const json& result : results) {
        if (result.at("method") == m.name && result.at("final").at(key).is_number()) {
          values.push_back(result.at("final").at(key).get<double>());
        }
      }
      const mean_and_error s = summarise(values);
      row[key] = program::number(s.mean);
      row["standard_error"][key] = program::number(s.error);
    }
    std::vector<double> seconds;
    for (const json& result : results) {
      if (result.at("method") == m.name) seconds.push_back(result.at("seconds").get<double>());
    }
    if (seconds.empty()) continue;
    std::vector<double> gain = question_f1(results, m.name);
    for (std::size_t i = 0; i < gain.size(); ++i) gain[i] -= reference_f1[i];
    const mean_and_error paired = summarise(gain);
    row["f1_gain"] = program::number(paired.mean);
    row["standard_error"]["f1_gain"] = program::number(paired.error);
    row["method"] = m.name;
    row["description"] = m.description;
    row["group"] = to_string(m.group);
    row["uses_gold_documents"] = m.id == method_id::gold_supervised;
    row["runs"] = seconds.size();
    rows.push_back(row);
  }
  return rows;
}

/// The whole report. Everything outside "timing" is the same for each run of the same options.
[[nodiscard]] inline json make_report(const options& o, const question_set& data, const session& s) {
  const json& results = s.results();
  const json& main = results.at(0);
  double documents = 0;
  for (const dro::data::question& q : data.train) documents += static_cast<double>(q.documents.size());
  json report = {{"program", "train_qa"}, {"version", dro::version_string}};
  report["options"] = {{"method", o.method},
                       {"departures", o.departures},
                       {"samples", o.samples},
                       {"select", data.select},
                       {"iterations", o.iterations},
                       {"seed", o.seed},
                       {"seeds", o.seeds},
                       {"compare", o.compare},
                       {"train", data.train_path.filename().string()},
                       {"dev", data.dev_path.empty() ? "held out" : data.dev_path.filename().string()}};
  report["data"] = {{"train_questions", data.train.size()},
                    {"dev_questions", data.dev.size()},
                    {"mean_documents", documents / static_cast<double>(data.train.size())}};
  for (const char* key : {"initial", "iterations", "final", "examples"}) report[key] = main.at(key);
  if (results.size() > 1) report["comparison"] = comparison(results, o.method);
  report["timing"] = s.timing();
  report["timing"]["runs"] = json::array();
  for (const json& result : results) {
    report["timing"]["runs"].push_back(
        {{"method", result.at("method")}, {"seed", result.at("seed")}, {"seconds", result.at("seconds")}});
  }
  return report;
}

/// The report with the mean seconds of each method's runs in its row of the comparison, for showing.
[[nodiscard]] inline json with_seconds(json report) {
  if (!report.contains("comparison")) return report;
  for (json& row : report["comparison"]) {
    std::vector<double> seconds;
    for (const json& run : report.at("timing").at("runs")) {
      if (run.at("method") == row.at("method")) seconds.push_back(run.at("seconds").get<double>());
    }
    row["seconds"] = program::number(summarise(seconds).mean);
  }
  return report;
}

}  // namespace qa

#endif
