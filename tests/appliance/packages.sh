#!/usr/bin/env bash
# The packages of the commit that is checked out: tests/appliance/packages.sh TARGET
# They are built twice, here and in a clone somewhere else, and must be the same byte for byte: binary, deb and tar.
# Link-time optimisation keeps one core busy, so the two builds run side by side.
# For what a target needs see cross/dist.sh and systemd/package.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${1:?usage: $0 TARGET}
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
    echo "$0 compares builds of a commit, and there are changes that are in none" >&2
    exit 65
fi

elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
clone=$elsewhere/another/folder
git clone --quiet . "$clone"
# The tools, and Debian's rustc, are the same.
mkdir "$clone/target"
ln -s "$PWD/target/ci" "$clone/target/ci"
unset CARGO_TARGET_DIR

# built FOLDER: makes binary and packages there, and keeps their sums in FOLDER/target/TARGET.sums
# (to be run with "&": where its outcome is asked for in the same command, bash goes on after a failure)
built() (
    cd "$1"
    cross/dist.sh "$target"
    systemd/package.sh "$target" >"target/$target.packages"
    # The paths within the folder: the same for both.
    # shellcheck disable=SC2046 # two names without blanks
    sha256sum "target/$target/dist/trailspool" $(sed "s|^$PWD/||" "target/$target.packages") >"target/$target.sums"
)

built "$PWD" >"$elsewhere/here.log" 2>&1 &
here=$!
built "$clone" >"$elsewhere/there.log" 2>&1 &
there=$!
failed=
wait $here || failed=here
wait $there || failed+=" there"
for log in $failed; do
    tail -n 40 "$elsewhere/$log.log"
    echo "the packages of $target could not be built"
done
[ -z "$failed" ] || exit 1
diff "target/$target.sums" "$clone/target/$target.sums" || { echo "two builds of one commit in two folders differ"; exit 1; }
cat "target/$target.sums"
echo "$target: the same bytes from two folders"
