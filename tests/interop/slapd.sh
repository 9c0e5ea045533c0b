#!/usr/bin/env bash
# Accounts resolved in a real directory, OpenLDAP's slapd.
#   tests/interop/slapd.sh FOLDER
# Debian's package is unpacked into the folder and run from there, as processes of the test with their own configuration:
# nothing is installed, and no service is started on this machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?usage: $0 FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ ! -x "$folder/root/usr/sbin/slapd" ]; then
    apt-get update -qq
    # what it needs and this machine does not have
    missing=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances slapd | grep '^[a-z0-9]' | grep -v ':' | sort -u |
        while read -r package; do
            dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
        done)
    rm -rf "$folder/debs" "$folder/root"
    mkdir -p "$folder/debs" "$folder/root"
    # names without a file of their own (virtual packages) are left out
    for package in $missing; do
        (cd "$folder/debs" && apt-get -o APT::Sandbox::User=root download -qq "$package" 2>/dev/null) || true
    done
    for deb in "$folder"/debs/*.deb; do
        dpkg -x "$deb" "$folder/root"
    done
    rm -rf "$folder/debs"
fi

TRAILSPOOL_TEST_SLAPD=$folder/root cargo test --locked --quiet --test interop_directory -- --nocapture
