#!/bin/sh
# Collection by messages from moto's SQS, an independent server, with the real binary: every shape of message, a FIFO queue,
# notifications of moto's own S3, a sweep beside a queue, and several agents on one queue.
#   tests/interop/moto_sqs.sh FOLDER-OF-MOTO_SERVER-AND-PYTHON
set -eu
bin=${1:?usage: $0 FOLDER-OF-MOTO_SERVER-AND-PYTHON}
cd "$(dirname "$0")/../.."
cargo build --quiet --bin trailspool
exec "$bin/python3" tests/interop/moto_sqs.py "$bin/moto_server" "${CARGO_TARGET_DIR:-target}/debug/trailspool"
