#!/usr/bin/env bash
# Debian's packages, with what they need and this machine does not have, unpacked and not installed: so no service is
# started here, and packages that exclude each other stand side by side.
#   tests/interop/unpack.sh FOLDER PACKAGE...
# They are below FOLDER afterwards, as below /.
set -euo pipefail
folder=${1:?usage: $0 FOLDER PACKAGE...}
shift

apt-get update -qq
missing=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances "$@" | grep '^[a-z0-9]' | grep -v ':' | sort -u |
    while read -r package; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done)
debs=$(mktemp -d)
trap 'rm -rf "$debs"' EXIT
rm -rf "$folder"
mkdir -p "$folder"
# names without a file of their own (virtual packages) are left out
for package in $missing; do
    (cd "$debs" && apt-get -o APT::Sandbox::User=root download -qq "$package" 2>/dev/null) || true
done
for deb in "$debs"/*.deb; do
    dpkg -x "$deb" "$folder"
done
