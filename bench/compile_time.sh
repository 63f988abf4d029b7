#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How long a unit takes that includes dro and does nothing with it: processor seconds (user + system, which other
# programs on the machine disturb little), median of five. Fails above the limit.
#   bench/compile_time.sh [compiler [option...]]        g++ if none is named
set -euo pipefail
LC_ALL=C
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
compiler=("${@:-g++}")
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

# processor_seconds file: of one compilation
processor_seconds() {
  local TIMEFORMAT='%U %S' spent
  spent="$({ time "${compiler[@]}" -std=c++20 -I "$root/include" -isystem /usr/include/eigen3 -c "$1" -o "$1.o" \
    2>"$folder/errors"; } 2>&1)" || { cat "$folder/errors" >&2; return 1; }
  awk '{ printf "%.2f\n", $1 + $2 }' <<<"$spent"
}

# check "title" limit include...
check() {
  local title="$1" limit="$2" unit="$folder/unit.cpp" one
  local -a times=()
  shift 2
  printf '#include <%s>\n' "$@" >"$unit"
  while ((${#times[@]} < 5)); do
    one="$(processor_seconds "$unit")" || return 1
    times+=("$one")
  done
  mapfile -t times < <(printf '%s\n' "${times[@]}" | sort -g)
  printf '%-36s %s s, limit %s s\n' "$title" "${times[2]}" "$limit"
  awk -v median="${times[2]}" -v limit="$limit" 'BEGIN { exit !(median <= limit) }'
}

status=0
check "<dro/dro.hpp>" 2.5 dro/dro.hpp || status=1
check "<dro/dro.hpp> with Eigen" 5 dro/dro.hpp dro/backend/eigen.hpp || status=1
exit "$status"
