// SPDX-License-Identifier: Apache-2.0
// The core, the Eigen backend and the text and data components in one program.
#include <cstdio>

#include <dro/backend/eigen.hpp>
#include <dro/data/question.hpp>
#include <dro/dro.hpp>
#include <dro/text/normalise.hpp>

int main() { std::printf("dro %s\n", dro::version_string); }
