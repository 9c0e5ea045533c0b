#!/usr/bin/env bash
# Pictures of the status page in its states, light, dark and at a phone's width, by a headless Chromium:
#   tests/interop/status_page.sh CHROMIUM
# They stay in target/ci/status. Fails when the browser finds something to complain about.
set -euo pipefail
cd "$(dirname "$0")/../.."
chromium=$1
pages=$PWD/target/ci/status
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

cargo test --locked -q --lib status::html::tests::pages_of_every_state_are_written -- --ignored >/dev/null

# shot PAGE NAME SIZE [FLAG]
shot() {
    rm -rf "${profile:?}/it"
    timeout 60 "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
        --disable-background-networking --disable-component-update --disable-sync --user-data-dir="$profile/it" \
        --hide-scrollbars --enable-logging=stderr --window-size="$3" ${4:+"$4"} \
        --screenshot="$pages/$1-$2.png" "file://$pages/$1.html" 2>"$profile/log"
    test -s "$pages/$1-$2.png"
    # What the console of the page says stands in the log.
    if grep -E 'CONSOLE' "$profile/log"; then
        echo "$1: the browser complains" >&2
        exit 1
    fi
}

for page in healthy trouble fresh; do
    shot "$page" light 1200,1500
    shot "$page" dark 1200,1500 --blink-settings=preferredColorScheme=0
    shot "$page" phone 500,2600
done
echo "pictures of the status page: $pages"
