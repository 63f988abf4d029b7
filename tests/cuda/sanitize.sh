#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every test that needs a GPU under compute-sanitizer's memcheck, racecheck and initcheck: a process for each test
# case and tool, as many at once as there are cores. Prints what was found; ends with a line "N passed, N failed".
#   tests/cuda/sanitize.sh build     # a build folder with -DDRO_CUDA=ON
set -euo pipefail

programs="${1:?usage: tests/cuda/sanitize.sh build-folder}/tests/cuda"
if ! compgen -G "$programs/cuda.cuda_*" >/dev/null; then
  echo "no tests of the kernels in $programs: configure with -DDRO_CUDA=ON, build the target cuda_tests" >&2
  exit 2
fi
nvidia-smi -L >&2

# Shared with the processes of xargs. check "program|tool|test case"
check() {
  local program tool name log status=0
  local -a options=()
  IFS='|' read -r program tool name <<<"$1"
  case "$tool $(basename "$program")" in
    # Tests of errors provoke some of the API's.
    "memcheck cuda.cuda_backend") options=(--report-api-errors no) ;;
    # Of cuBLAS's kernels for double, racecheck keeps more than 128 GiB.
    "racecheck cuda.cuda_transformer") options=(--kernel-name kernel_substring=dro) ;;
  esac
  log="$(mktemp)"
  # A comma would part two names.
  timeout 900 compute-sanitizer --tool "$tool" --error-exitcode 9 "${options[@]}" \
    "$program" "--test-case=${name//,/?}" >"$log" 2>&1 || status=$?
  if ((status == 0)) && grep -q '^\[doctest\] test cases: *1 ' "$log"; then
    echo "passed|$tool|$name"
  else
    echo "FAILED|$tool|$name ($(basename "$program"), exit status $status)"
    head -n 40 "$log"
  fi
  rm -f "$log"
}
export -f check

# shellcheck disable=SC2016  # $1 is for the shell that xargs starts
found="$(
  printf '%s\n' "$programs"/cuda.cuda_* | sort -r | while IFS= read -r program; do  # about the slowest first
    "$program" --list-test-cases | grep -v -e '^\[doctest\]' -e '^===' | while IFS= read -r name; do
      for tool in racecheck initcheck memcheck; do
        # Initcheck does not see what cuBLAS's kernels for bf16 and tf32 write, whoever calls them, and takes what is read
        # afterwards for uninitialised; racecheck reports a race inside one of them.
        [[ "$name" == "lower precisions"* && "$tool" != memcheck ]] || echo "$program|$tool|$name"
      done
    done
  done | xargs -d '\n' -P "$(nproc)" -I{} bash -c 'check "$1"' check {} | tee >(cat >&2)
)"
failed="$(grep -c '^FAILED|' <<<"$found" || true)"
echo "$(grep -c '^passed|' <<<"$found" || true) passed, $failed failed"
((failed == 0))
