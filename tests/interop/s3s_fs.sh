#!/bin/sh
# Runs the S3 interoperability test against s3s-fs, an independent server that verifies signatures.
#   tests/interop/s3s_fs.sh PATH-OF-S3S-FS
set -eu
server=${1:?usage: $0 PATH-OF-S3S-FS}
cd "$(dirname "$0")/../.."

folder=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$server" --access-key AKIAIOSFODNN7EXAMPLE --secret-key interop-secret --host 127.0.0.1 --port "$port" \
    "$folder" >"$folder.log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$folder" "$folder.log"' EXIT

tries=0
until python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 50 ]; then
        echo "s3s-fs did not start:" >&2
        cat "$folder.log" >&2
        exit 69
    fi
    sleep 0.1
done

TRAILSPOOL_TEST_S3_ENDPOINT="http://127.0.0.1:$port" \
TRAILSPOOL_TEST_S3_ACCESS_KEY=AKIAIOSFODNN7EXAMPLE \
TRAILSPOOL_TEST_S3_SECRET_KEY=interop-secret \
TRAILSPOOL_TEST_S3_BUCKET=interop \
    cargo test --quiet --test interop_s3 -- --nocapture
