#!/bin/sh
# Collects from moto's S3, an independent server, with the real binary: every object once, byte for byte.
#   tests/interop/moto.sh FOLDER-OF-MOTO_SERVER-AND-PYTHON
set -eu
bin=${1:?usage: $0 FOLDER-OF-MOTO_SERVER-AND-PYTHON}
cd "$(dirname "$0")/../.."
cargo build --quiet --bin trailspool
exec "$bin/python3" tests/interop/moto.py "$bin/moto_server" "${CARGO_TARGET_DIR:-target}/debug/trailspool"
