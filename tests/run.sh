#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing (Debian 12), builds everything with warnings as errors, and runs every test. Further arguments
# go to ctest:
#   tests/run.sh -R philox
set -euo pipefail
# shellcheck source=cmake/debian.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../cmake/debian.sh"

build="$dro_root/build/tests"
dro_install_packages "${dro_library_packages[@]}" "${dro_test_packages[@]}"
# -Og compiles in a quarter of the time of -O3, and most of this is compiled once and run for a second. What must not
# depend on such flags, tests/reproducibility builds with all of them.
dro_stage "configure" dro_configure "$build" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-Og -DNDEBUG" \
  -DDRO_WARNINGS_AS_ERRORS=ON -DDRO_BUILD_TESTS=ON -DDRO_BUILD_EXAMPLES=ON -DDRO_BUILD_BENCHMARKS=ON
dro_stage "build" dro_build "$build"
echo "== test"
exec ctest --test-dir "$build" --output-on-failure -j "$(nproc)" "$@"
