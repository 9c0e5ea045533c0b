#!/usr/bin/env bash
# Delivery to real syslog receivers: rsyslog (TCP, TLS, RELP, RELP over TLS) and syslog-ng (TCP, TLS, lines).
#   tests/interop/receivers.sh FOLDER
# Debian's packages are unpacked into the folder (unpack.sh) and run from there: installed, rsyslog and syslog-ng exclude
# each other.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?usage: $0 FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ ! -x "$folder/root/usr/sbin/rsyslogd" ] || [ ! -x "$folder/root/usr/sbin/syslog-ng" ]; then
    tests/interop/unpack.sh "$folder/root" rsyslog rsyslog-relp rsyslog-openssl syslog-ng-core
fi
command -v openssl >/dev/null || { echo "openssl is missing" >&2; exit 1; }

TRAILSPOOL_TEST_RECEIVERS=$folder/root cargo test --locked --quiet --test interop_receivers -- --nocapture
