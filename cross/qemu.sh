#!/usr/bin/env bash
# The arm64 binary at work, under qemu's user emulation: cross/qemu.sh S3S-FS
#  1. the tests of the cores, built for arm64: the splitter's NEON masks, the decoder, signatures, frames;
#  2. a collection by target/aarch64-unknown-linux-gnu/dist/trailspool from an S3 server, compared record by record.
# After cross/dist.sh aarch64-unknown-linux-gnu. Needs qemu-aarch64-static (qemu-user-static), the C library of
# gcc-aarch64-linux-gnu, and python3.
set -euo pipefail
server=$(readlink -f "${1:?usage: cross/qemu.sh S3S-FS}")
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
emulator="qemu-aarch64-static -L /usr/aarch64-linux-gnu"

# In a folder of their own: cargo's other work on the project need not wait.
RUSTC=$PWD/target/ci/debian-rust/bin/rustc \
    CARGO_TARGET_DIR=$PWD/target/ci/arm64 CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$emulator PROPTEST_CASES=16 \
    cargo test --locked --quiet --lib --target $target -- \
    decode:: select:: spool::frame aws::sigv4 deliver::batch deliver::format discover::key pulse watchdog

binary=target/$target/dist/trailspool
$emulator "$binary" --version
dir=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$dir/s3/acme-cloudtrail"
python3 tests/appliance/objects.py "$dir/s3/acme-cloudtrail" 0 60 >"$dir/wanted"
"$server" --access-key AKIAIOSFODNN7EXAMPLE --secret-key interop-secret --host 127.0.0.1 --port "$port" "$dir/s3" \
    >"$dir/s3.log" 2>&1 &
pid=$!
for _ in $(seq 100); do
    python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null && break
    sleep 0.1
done
(umask 077 && printf interop-secret >"$dir/secret")
cat >"$dir/trailspool.toml" <<TOML
[agent]
state_dir = "$dir/state"
status_listen = ""
[[source]]
name = "prod"
bucket = "acme-cloudtrail"
region = "us-east-1"
start = "all"
endpoint = "http://127.0.0.1:$port"
path_style = true
unfiltered = true
  [source.credentials]
  method = "iam-user"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_key_file = "$dir/secret"
[[output]]
name = "out"
kind = "file"
path = "$dir/out.ndjson"
TOML
$emulator "$binary" run --once --timeout 100 --config "$dir/trailspool.toml"
cmp <(sort "$dir/wanted") <(sort "$dir/out.ndjson")
echo "arm64: $(wc -l <"$dir/out.ndjson") records collected, byte for byte and once"
