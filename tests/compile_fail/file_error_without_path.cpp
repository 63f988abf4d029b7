// SPDX-License-Identifier: Apache-2.0
// A file_error always names its file.
// EXPECT(GNU): no matching function for call to 'dro::file_error::file_error(const char [12])'
// EXPECT(Clang): no matching conversion for functional-style cast from 'const char[12]' to 'dro::file_error'
#include <dro/error.hpp>

#ifdef DRO_COMPILE_FAIL_CONTROL
const dro::file_error failure = dro::file_error("train.jsonl", "unreadable!");
#else
const dro::file_error failure = dro::file_error("unreadable!");
#endif
