#!/usr/bin/env bash
# A collection by a binary for any of the targets, from an S3 server, compared record by record:
#   cross/collect.sh TARGET BINARY S3S-FS
# What this machine cannot run itself runs under qemu's user emulation (qemu-user-static); if it is linked dynamically, with
# the C library of gcc-aarch64-linux-gnu or gcc-arm-linux-gnueabihf. Needs python3.
set -euo pipefail
usage="usage: cross/collect.sh TARGET BINARY S3S-FS"
target=${1:?$usage}
binary=$(readlink -f "${2:?$usage}")
server=$(readlink -f "${3:?$usage}")
cd "$(dirname "$0")/.."
case $target in
"$(uname -m)"-*) emulator= ;;
aarch64-*) emulator="qemu-aarch64-static -L /usr/aarch64-linux-gnu" ;;
armv7-*) emulator="qemu-arm-static -L /usr/arm-linux-gnueabihf" ;;
*)
    echo "what runs a program for $target?" >&2
    exit 64
    ;;
esac

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
echo "$target: $(wc -l <"$dir/out.ndjson") records collected, byte for byte and once"
