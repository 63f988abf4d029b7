// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_STANDARD_OUTPUT_HPP
#define DRO_EXAMPLES_QA_STANDARD_OUTPUT_HPP

/// \file
/// Results that go to the standard output are results too: that they could not be written is an error.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include <dro/error.hpp>

namespace qa {

/// Writes out what is buffered. Throws dro::file_error if this, or printing before it, failed.
inline void finish_standard_output() {
  errno = 0;
  const bool failed_before = std::ferror(stdout) != 0;
  if (std::fflush(stdout) == 0 && !failed_before) return;
  throw dro::file_error("standard output", std::string("cannot be written") +
                                               (errno == 0 ? "" : std::string(": ") + std::strerror(errno)));
}

}  // namespace qa

#endif
