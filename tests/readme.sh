#!/usr/bin/env bash
# Runs every command of the README: its shell blocks in order, in the checkout, with its configuration. The bucket is one
# on an S3 server that verifies signatures; paths under /var/tmp become paths of a temporary folder.
#   tests/readme.sh PATH-OF-S3S-FS
set -euo pipefail
cd "$(dirname "$0")/.."
server=$1
work=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export AWS_SECRET_ACCESS_KEY=a-secret-of-the-readme

# An object of an hour ago in the README's bucket.
stamp=$(date -u -d '1 hour ago' +%Y%m%dT%H%MZ)
day=$(date -u -d '1 hour ago' +%Y/%m/%d)
folder=$work/buckets/acme-cloudtrail/AWSLogs/111122223333/CloudTrail/us-west-2/$day
record='{"eventVersion":"1.08","eventID":"00000000-0000-0000-0000-000000000001","eventName":"GetObject"}'
mkdir -p "$folder"
printf '{"Records":[%s]}' "$record" | gzip -n \
    >"$folder/111122223333_CloudTrail_us-west-2_${stamp}_0123456789abcdef.json.gz"

"$server" --access-key AKIAIOSFODNN7EXAMPLE --secret-key "$AWS_SECRET_ACCESS_KEY" --host 127.0.0.1 --port "$port" \
    "$work/buckets" >"$work/server.log" 2>&1 &
trap 'kill %1 2>/dev/null || true; rm -rf "$work" trailspool.toml' EXIT

# blocks LANGUAGE: the fenced blocks of the README in that language, separated by lines of "--".
blocks() {
    awk -v fence="\`\`\`$1" '$0 == fence { inside = 1; next } inside && $0 == "```" { inside = 0; print "--" } inside' README.md
}

test ! -e trailspool.toml
blocks toml | sed '/^--$/,$d' \
    | sed "s|^region = .*|&\nendpoint = \"http://127.0.0.1:$port\"|; s|/var/tmp|$work|" >trailspool.toml

block=
blocks sh | sed "s|/var/tmp|$work|" | while IFS= read -r line; do
    if [ "$line" != -- ]; then
        block+=$line$'\n'
        continue
    fi
    case $block in
    'cargo run --release --example demo'* | 'cargo test'*)
        # Steps of their own in .ci/run, with the lock file held.
        grep -q "${block%% --*}.*" .ci/run
        ;;
    *' run --config '*)
        # The service: it says what it does, and ends cleanly when told.
        echo "\$ $block"
        # shellcheck disable=SC2086 # a simple command, in words
        timeout --preserve-status --signal TERM 5 $block >"$work/out"
        ;;
    *)
        echo "\$ $block"
        bash -euo pipefail -c "$block" >"$work/out"
        case $block in *'--once'*) test "$(cat "$work/out")" = "$record" ;; esac
        ;;
    esac
    block=
done
echo "every command of the README ran"
