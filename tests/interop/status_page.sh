#!/usr/bin/env bash
# The status page in a headless Chromium:
#   tests/interop/status_page.sh CHROMIUM TRAILSPOOL
#  1. pictures of its states, light, dark and at a phone's width;
#  2. the page of a running agent, with the headers that it is sent with, where a folder's name is markup: shown as text.
# The pictures stay in target/ci/status. Fails when the browser finds something to complain about.
set -euo pipefail
cd "$(dirname "$0")/../.."
chromium=${1:?usage: $0 CHROMIUM TRAILSPOOL} trailspool=$(readlink -f "${2:?usage: $0 CHROMIUM TRAILSPOOL}")
pages=$PWD/target/ci/status
dir=$(mktemp -d) agent=
trap '[ -z "$agent" ] || kill "$agent" 2>/dev/null || true; rm -rf "$dir"' EXIT

# browse FLAG... ADDRESS: a run of the browser; what the page's console says is a fault.
browse() {
    rm -rf "$dir/profile"
    timeout 60 "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --no-proxy-server \
        --disable-background-networking --disable-component-update --disable-sync --user-data-dir="$dir/profile" \
        --hide-scrollbars --enable-logging=stderr "$@" 2>"$dir/log"
    if grep -E 'CONSOLE' "$dir/log" >&2; then
        echo "the browser complains of ${*: -1}" >&2
        exit 1
    fi
}
# shot NAME SIZE ADDRESS [FLAG]
shot() {
    browse --window-size="$2" --screenshot="$pages/$1.png" ${4:+"$4"} "$3"
    test -s "$pages/$1.png"
}

cargo test --locked -q --lib status::html::tests::pages_of_every_state_are_written -- --ignored >/dev/null
for page in healthy trouble fresh; do
    shot "$page-light" 1200,1500 "file://$pages/$page.html"
    shot "$page-dark" 1200,1500 "file://$pages/$page.html" --blink-settings=preferredColorScheme=0
    shot "$page-phone" 500,2600 "file://$pages/$page.html"
    # Light and dark are told apart, and so are the widths.
    for other in dark phone; do
        ! cmp -s "$pages/$page-light.png" "$pages/$page-$other.png" || { echo "$page: light and $other are one picture" >&2; exit 1; }
    done
done

# The folder is named in the trouble of a source that reaches no server.
markup="<b id=bold>bold</b><script>document.title='taken over'</script><img src=x onerror=document.title=1>"
read -r closed port < <(python3 -c '
import socket
a, b = socket.socket(), socket.socket()
a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0))
print(a.getsockname()[1], b.getsockname()[1])')
(umask 077 && printf secret >"$dir/secret")
cat >"$dir/trailspool.toml" <<TOML
[agent]
state_dir = "$dir/state"
status_listen = "127.0.0.1:$port"
[[source]]
name = "prod"
bucket = "acme-logs/$markup"
region = "us-east-1"
endpoint = "http://127.0.0.1:$closed"
  [source.credentials]
  method = "iam-user"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_key_file = "$dir/secret"
[[output]]
name = "out"
kind = "file"
path = "$dir/out"
TOML
"$trailspool" run --config "$dir/trailspool.toml" 2>"$dir/agent.log" &
agent=$!
python3 - "http://127.0.0.1:$port/" <<'PYTHON' || { cat "$dir/agent.log" >&2; exit 1; }
import sys, time, urllib.request
browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        if b"refuses the connection" in browser.open(sys.argv[1]).read():
            sys.exit()
    except OSError:
        pass
    time.sleep(0.1)
sys.exit("the page does not say what the source lacks")
PYTHON
shot live-light 1200,1200 "http://127.0.0.1:$port/"
shot live-phone 500,1600 "http://127.0.0.1:$port/"
browse --dump-dom "http://127.0.0.1:$port/" >"$dir/dom"
grep -F '&lt;b id=bold&gt;bold&lt;/b&gt;' "$dir/dom" >/dev/null || { echo "the folder's name is not in the page" >&2; exit 1; }
if grep -E '<script|<b id|<img|taken over</title>' "$dir/dom" >&2; then
    echo "the folder's name became part of the page" >&2
    exit 1
fi
echo "pictures of the status page: $(ls "$pages"/*.png | wc -l) in $pages; markup in a name is shown as text"
