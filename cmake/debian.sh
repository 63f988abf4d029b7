# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034
# Sourced by examples/run.sh, tests/run.sh and .ci/run: where dro lies, the Debian packages it needs, and stages with
# their times.
dro_root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

# What the library and the examples need, and what the tests and benchmarks need beside it.
dro_library_packages=(g++ cmake ninja-build librandom123-dev libeigen3-dev libutf8proc-dev libstemmer-dev
  nlohmann-json3-dev zlib1g-dev libtbb-dev libcli11-dev)
dro_test_packages=(doctest-dev libbenchmark-dev libxtensor-dev)

# dro_stage "title" command...: runs a command and says how long it took.
dro_stage() {
  local title="$1" start=$SECONDS status=0
  shift
  echo "== $title"
  "$@" || status=$?
  echo "== $title: $((SECONDS - start)) s"
  return "$status"
}

# dro_quietly command...: shows what the command printed only if it fails.
dro_quietly() {
  local log status=0
  log="$(mktemp)"
  "$@" >"$log" 2>&1 || status=$?
  if ((status != 0)); then
    cat "$log" >&2
  fi
  rm -f "$log"
  return "$status"
}

# dro_missing_packages package...: prints those that are not installed, one a line.
dro_missing_packages() {
  local package
  for package in "$@"; do
    if [[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null)" != ii* ]]; then
      echo "$package"
    fi
  done
}

# dro_install_packages package...: installs those that are missing. Touches nothing, the network included, when all are
# there. Elsewhere than on Debian and its derivatives it says what is needed and leaves the rest to the build.
dro_install_packages() {
  local missing as_root=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "Not a Debian system: nothing installed. Needed, by Debian's names: $*"
    return 0
  fi
  mapfile -t missing < <(dro_missing_packages "$@")
  if ((${#missing[@]} == 0)); then
    return 0
  fi
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "Missing packages, and neither root nor sudo to install them. As root, run" >&2
      echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  dro_stage "install ${missing[*]}" dro_apt_get_install
}

# Uses missing and as_root of dro_install_packages.
dro_apt_get_install() {
  dro_quietly "${as_root[@]}" apt-get -q update &&
    dro_quietly "${as_root[@]}" apt-get -q install -y --no-install-recommends ca-certificates "${missing[@]}"
}

# dro_configure folder option...: configures dro in a build folder; quick when there is nothing to do.
dro_configure() {
  local folder="$1"
  shift
  dro_quietly cmake -S "$dro_root" -B "$folder" -G Ninja "$@"
}

# dro_build folder option...: builds; ninja's one changing line on a terminal, nothing but errors elsewhere.
dro_build() {
  if [[ -t 1 ]]; then
    cmake --build "$@"
  else
    dro_quietly cmake --build "$@"
  fi
}
