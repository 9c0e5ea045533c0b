#!/usr/bin/env bash
# Delivery to real syslog receivers: rsyslog (TCP, TLS, RELP, RELP over TLS) and syslog-ng (TCP, TLS, lines).
#   tests/interop/receivers.sh FOLDER
# Debian's packages are unpacked into the folder and run from there: rsyslog and syslog-ng exclude each other as
# installed packages, and no service is started on this machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?usage: $0 FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ ! -x "$folder/root/usr/sbin/rsyslogd" ] || [ ! -x "$folder/root/usr/sbin/syslog-ng" ]; then
    packages=(rsyslog rsyslog-relp rsyslog-openssl syslog-ng-core)
    apt-get update -qq
    # what they need and this machine does not have
    missing=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "${packages[@]}" | grep '^[a-z0-9]' | grep -v ':' | sort -u |
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
command -v openssl >/dev/null || { echo "openssl is missing" >&2; exit 1; }

TRAILSPOOL_TEST_RECEIVERS=$folder/root cargo test --locked --quiet --test interop_receivers -- --nocapture
