// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_QUESTION_HPP
#define DRO_DATA_QUESTION_HPP

/// \file
/// A question with its candidate documents, as every reader in data/ returns it.

#include <optional>
#include <string>
#include <vector>

#include <dro/config.hpp>

namespace dro::data {

/// One candidate document. Text is valid UTF-8; the title may be empty, the text may not.
struct document {
  std::string title;
  std::string text;
  friend bool operator==(const document&, const document&) = default;
};

/// One query x with its answers y and its n candidates d_1..d_n.
struct question {
  std::string id;                    ///< unique within a file
  std::string text;                  ///< the question; for dialogues one utterance a line, the last is to be answered
  std::vector<std::string> answers;  ///< accepted answers, the canonical one first; never empty
  std::vector<document> documents;   ///< candidates in the order of the file; never empty
  std::vector<document_t>
      supporting;                   ///< positions of the gold documents, ascending; empty where nobody annotated them
  std::optional<int> gold_missing;  ///< gold documents that are not among the candidates; nullopt: not annotated
  friend bool operator==(const question&, const question&) = default;
};

}  // namespace dro::data

#endif
