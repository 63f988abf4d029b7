// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_PROGRAMS_TRAIN_QA_HPP
#define DRO_TESTS_PROGRAMS_TRAIN_QA_HPP

/// \file
/// Runs of train_qa and answer, on a part of the questions that ship with the project.

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/read_questions.hpp>
#include <dro/data/write_questions.hpp>

#include "program.hpp"

[[nodiscard]] inline std::vector<std::string> joined(std::vector<std::string> words,
                                                     const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// Every `step`-th of the shipped questions of "train" or "dev", written to `folder`. Returns the path.
[[nodiscard]] inline std::string every_nth(const temporary_folder& folder, const std::string& part, std::size_t step) {
  const auto all = dro::data::read_questions(std::string(DRO_SOURCE_DIR "/examples/data/") + part + ".jsonl.gz");
  std::vector<dro::data::question> some;
  for (std::size_t i = 0; i < all.size(); i += step) some.push_back(all[i]);
  const auto path = folder.path() / (part + ".jsonl");
  dro::data::write_questions(path, some);
  return path.string();
}

/// A few questions, in a folder of their own, for runs of a second.
struct small_data {
  temporary_folder folder;
  std::string train = every_nth(folder, "train", 6);
  std::string dev = every_nth(folder, "dev", 6);

  /// Arguments of train_qa for these questions and an output folder.
  [[nodiscard]] std::vector<std::string> arguments(const std::filesystem::path& out,
                                                   const std::vector<std::string>& more) const {
    return joined({"--train", train, "--dev", dev, "--out", out.string()}, more);
  }
};

[[nodiscard]] inline outcome train_qa(const std::vector<std::string>& arguments, run_limits limits = {}) {
  return run_program(joined({DRO_TRAIN_QA}, arguments), std::move(limits));
}

[[nodiscard]] inline outcome answer(const std::vector<std::string>& arguments, run_limits limits = {}) {
  return run_program(joined({DRO_ANSWER}, arguments), std::move(limits));
}

/// Name and content of every file in a folder.
[[nodiscard]] inline std::map<std::string, std::string> files_in(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files[entry.path().filename().string()] = read_bytes(entry.path());
  }
  return files;
}

[[nodiscard]] inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& [name, content] : files_in(folder)) names.push_back(name);
  return names;
}

/// The report in an output folder.
[[nodiscard]] inline nlohmann::json report_in(const std::filesystem::path& folder) {
  return nlohmann::json::parse(read_bytes(folder / "report.json"));
}

/// The report as it is written, without what may differ between two runs of the same options.
[[nodiscard]] inline std::string report_without_timing(const std::filesystem::path& folder) {
  auto report = report_in(folder);
  report.erase("timing");
  return report.dump(2);
}

#endif
