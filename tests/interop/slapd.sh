#!/usr/bin/env bash
# Accounts resolved in a real directory, OpenLDAP's slapd.
#   tests/interop/slapd.sh FOLDER
# Debian's package is unpacked into the folder (unpack.sh) and run from there, as processes of the test with their own
# configuration.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?usage: $0 FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

[ -x "$folder/root/usr/sbin/slapd" ] || tests/interop/unpack.sh "$folder/root" slapd

TRAILSPOOL_TEST_SLAPD=$folder/root cargo test --locked --quiet --test interop_directory -- --nocapture
