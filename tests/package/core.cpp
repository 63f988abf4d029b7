// SPDX-License-Identifier: Apache-2.0
// The core alone: one include, no backend library.
#include <cstdio>

#include <dro/dro.hpp>

int main() { std::printf("dro %s\n", dro::version_string); }
