#!/bin/sh
# Every method of getting credentials that moto can serve, an independent implementation, with the real binary: the
# instance metadata service, STS with policies, external ids and signatures checked, S3.
#   tests/interop/moto_creds.sh FOLDER-OF-MOTO_SERVER-AND-PYTHON
set -eu
bin=${1:?usage: $0 FOLDER-OF-MOTO_SERVER-AND-PYTHON}
cd "$(dirname "$0")/../.."
cargo build --quiet --bin trailspool
exec "$bin/python3" tests/interop/moto_creds.py "$bin/moto_server" "${CARGO_TARGET_DIR:-target}/debug/trailspool"
