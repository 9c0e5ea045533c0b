#!/usr/bin/env bash
# What the binary prints for others to read, read by them: the manual by mandoc, which may not find anything to warn of,
# and the completions by the shells, each asked to complete a word of every kind.
#   tests/interop/shells.sh TRAILSPOOL
# Needs mandoc, zsh and fish.
set -euo pipefail
trailspool=$(readlink -f "${1:?usage: $0 TRAILSPOOL}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export HOME=$dir
cd "$dir"

"$trailspool" man >trailspool.8
mandoc -T lint -W warning trailspool.8
mandoc -T utf8 trailspool.8 | sed 's/.\x08//g' | grep '^ *quarantine show ' >/dev/null
echo "ok: the manual, by mandoc"

"$trailspool" completion bash >trailspool.bash
"$trailspool" completion zsh >_trailspool
"$trailspool" completion fish >trailspool.fish
echo >a-file.toml

# same SHELL LINE WANTED FOUND: what the shell offers for the line, in words.
same() {
    [ "$3" = "$4" ] || { echo "$1 completes '$2' with '$4' instead of '$3'" >&2; exit 1; }
}

in_bash() {
    bash --norc --noprofile -c '
        . ./trailspool.bash
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        # What was said by "complete -F" is what bash calls.
        set -- $(complete -p trailspool)
        "$3"
        echo "${COMPREPLY[*]}"
    ' bash "$@"
}
in_fish() {
    fish --no-config -c 'source ./trailspool.fish; complete -C "$argv"' "$*" | cut -f 1 | paste -sd ' '
}
# What stands on the line after a tab, in an interactive zsh.
in_zsh() {
    timeout 30 zsh -f -c '
        zmodload zsh/zpty
        zpty shell "zsh -f -i"
        zpty -w shell "PROMPT= RPROMPT=; unsetopt zle_bracketed_paste; fpath=($PWD \$fpath); autoload -Uz compinit; compinit -u -d $PWD/dump"
        zpty -w shell "show() { print -r -- \"<\$BUFFER>\" }; zle -N show; bindkey ^X show; echo re\"\"ady"
        zpty -r shell out "*ready*"
        zpty -w -n shell "$1"$'"'\\t\\x18'"'
        zpty -r shell out "*<*>*"
        print -r -- "${${out##*<}%%>*}"
    ' zsh "$*"
}

for shell in bash fish; do
    same $shell 'trailspool po' policy "$(in_$shell trailspool po)"
    same $shell 'trailspool spool ' 'cat ls verify' "$(in_$shell trailspool spool '' | tr ' ' '\n' | grep -v -e -- | sort | paste -sd ' ')"
    same $shell 'trailspool run --o' --once "$(in_$shell trailspool run --o)"
    same $shell 'trailspool completion f' fish "$(in_$shell trailspool completion f)"
    same $shell 'trailspool check --config a-f' a-file.toml "$(in_$shell trailspool check --config a-f)"
    echo "ok: the completion of $shell"
done
same zsh 'trailspool po' 'trailspool policy ' "$(in_zsh trailspool po)"
same zsh 'trailspool spool v' 'trailspool spool verify ' "$(in_zsh trailspool spool v)"
same zsh 'trailspool run --o' 'trailspool run --once ' "$(in_zsh trailspool run --o)"
same zsh 'trailspool completion f' 'trailspool completion fish ' "$(in_zsh trailspool completion f)"
same zsh 'trailspool check --config a-f' 'trailspool check --config a-file.toml ' "$(in_zsh trailspool check --config a-f)"
echo "ok: the completion of zsh"
