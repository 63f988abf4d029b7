#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing (Debian 12), builds train_qa, trains every method on the data that ships with dro and prints
# the comparison. Further arguments go to train_qa:
#   examples/run.sh --iterations 20 --seed 7 --out results
set -euo pipefail
# shellcheck source=cmake/debian.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../cmake/debian.sh"

output="$dro_root/out"
arguments=("$@")
given=no
while (($# > 0)); do
  case "$1" in
    --out) given=yes output="${2-}" ;;
    --out=*) given=yes output="${1#--out=}" ;;
  esac
  shift
done
if [[ "$given" == no ]]; then
  arguments+=(--out "$output")
fi
if [[ -f "$output/checkpoint.dro" ]]; then
  echo "$output holds a run that was stopped: going on with it (delete the folder to start anew)"
  arguments+=(--resume)
fi

build="$dro_root/build/examples"
dro_install_packages "${dro_library_packages[@]}"
dro_stage "configure" dro_configure "$build" -DCMAKE_BUILD_TYPE=Release \
  -DDRO_BUILD_EXAMPLES=ON -DDRO_BUILD_TESTS=OFF -DDRO_BUILD_BENCHMARKS=OFF
dro_stage "build" dro_build "$build" --target train_qa --target answer
dro_stage "train and compare" "$build/examples/train_qa" --compare "${arguments[@]}"
if [[ -f "$output/report.html" ]]; then
  echo "The report: $output/report.html"
fi
