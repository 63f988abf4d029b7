// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_READ_OPTIONS_HPP
#define DRO_DATA_READ_OPTIONS_HPP

/// \file
/// What a reader of questions may be told.

#include <cstddef>
#include <limits>

namespace dro::data {

struct read_options {
  /// Stop after so many questions; what follows in the file is neither read nor checked.
  std::size_t limit = std::numeric_limits<std::size_t>::max();
  /// false: a question without answers is taken with `answers` empty instead of refused (test sets, questions to be
  /// answered).
  bool require_answers = true;
  /// true: a document whose text is blank is left out (and counts as missing if it was gold) instead of refused.
  bool drop_empty_documents = false;
};

}  // namespace dro::data

#endif
