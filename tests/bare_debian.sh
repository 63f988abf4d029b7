#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The newcomer's machine: a Debian 12 tree with git and nothing else, a fresh clone in a folder with a space in its name,
# and the two commands, twice each.
#   sudo tests/bare_debian.sh FOLDER [MIRROR]
# FOLDER must not exist and have no space in its name (debootstrap would fail); it takes about 1.5 GB and stays, to be
# looked at. Only what is committed is tested. Needs root,
# debootstrap and mount; http_proxy and https_proxy are passed on.
set -euo pipefail
if (($# < 1 || $# > 2)); then
  echo "usage: $0 FOLDER [MIRROR]" >&2
  exit 2
fi
repository="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
tree="$1"
mirror="${2:-http://deb.debian.org/debian}"
if [[ -e "$tree" ]]; then
  echo "$tree exists: name a folder that does not" >&2
  exit 2
fi

debootstrap --variant=minbase --include=git bookworm "$tree" "$mirror"
tree="$(cd -- "$tree" && pwd)"
mount -t proc proc "$tree/proc"
trap 'umount "$tree/proc"' EXIT
cp /etc/resolv.conf "$tree/etc/resolv.conf"
git clone --quiet --no-hardlinks "file://$repository" "$tree/srv/a clone"

for command in examples/run.sh tests/run.sh examples/run.sh tests/run.sh; do
  start=$SECONDS
  echo "#### $command"
  chroot "$tree" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    http_proxy="${http_proxy-}" https_proxy="${https_proxy-}" "/srv/a clone/$command"
  echo "#### $command: $((SECONDS - start)) s"
done
