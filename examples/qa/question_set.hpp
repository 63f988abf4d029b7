// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_QUESTION_SET_HPP
#define DRO_EXAMPLES_QA_QUESTION_SET_HPP

/// \file
/// The questions of a run: read, split where there is no dev file, checked against K.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <dro/data/question.hpp>
#include <dro/data/read_questions.hpp>
#include <dro/error.hpp>

#include "options.hpp"

namespace qa {

struct question_set {
  std::filesystem::path train_path;
  std::filesystem::path dev_path;  ///< empty: held out from the training file
  std::vector<dro::data::question> train;
  std::vector<dro::data::question> dev;
  dro::index_t select = 0;  ///< K
};

/// As many documents as the questions that need most do: the largest number of gold documents of a question, leaving
/// the top twentieth out; 3 where nobody annotated them.
[[nodiscard]] inline dro::index_t default_select(const std::vector<dro::data::question>& questions) {
  std::vector<dro::index_t> gold;
  for (const dro::data::question& q : questions) {
    if (q.gold_missing) gold.push_back(static_cast<dro::index_t>(q.supporting.size()) + *q.gold_missing);
  }
  if (gold.empty()) return 3;
  const auto place = gold.begin() + static_cast<std::ptrdiff_t>(gold.size() * 19 / 20);
  std::nth_element(gold.begin(), place, gold.end());
  return std::max<dro::index_t>(1, *place);
}

/// Reads the files of `o`, or those in `shipped`. Throws dro::file_error, dro::data_error, and dro::option_error if a
/// question has fewer documents than are to be selected.
[[nodiscard]] inline question_set load(const options& o, const std::filesystem::path& shipped) {
  question_set s;
  s.train_path = o.train.empty() ? shipped / "train.jsonl.gz" : o.train;
  s.train = dro::data::read_questions(s.train_path);
  if (!o.dev.empty() || o.train.empty()) {
    s.dev_path = o.train.empty() ? shipped / "dev.jsonl.gz" : o.dev;
    s.dev = dro::data::read_questions(s.dev_path);
  } else {
    std::vector<dro::data::question> all = std::exchange(s.train, {});
    if (all.size() < 2)
      throw dro::data_error(s.train_path.string(), 0, "has one question: none can be held out for --dev");
    for (std::size_t i = 0; i < all.size(); ++i) {
      const bool held_out = i % 5 == 4 || (all.size() < 5 && i + 1 == all.size());
      (held_out ? s.dev : s.train).push_back(std::move(all[i]));
    }
  }
  s.select = o.select.value_or(default_select(s.train));
  for (const auto* questions : {&s.train, &s.dev}) {
    for (const dro::data::question& q : *questions) {
      if (static_cast<dro::index_t>(q.documents.size()) < s.select) {
        throw dro::option_error("question \"" + q.id + "\" has " + std::to_string(q.documents.size()) +
                                " documents, fewer than the " + std::to_string(s.select) + " to select (--select)");
      }
    }
  }
  return s;
}

}  // namespace qa

#endif
