//! Completion scripts of shells, made from the table. They need nothing but the shell itself.

use std::fmt::Write as _;

use super::table::{COMMANDS, Does, Spec, ValueKind, leaves};

/// A shell whose completion can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The script.
pub(super) fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

fn bash() -> String {
    let mut script = String::from(
        "# bash completion of trailspool; `trailspool completion bash` prints it.\n\
         _trailspool() {\n    \
             local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n    \
             local command= files= words= i\n    \
             for ((i = 1; i < COMP_CWORD; i++)); do\n        \
                 case \"$command ${COMP_WORDS[i]}\" in\n",
    );
    for spec in COMMANDS {
        let name = spec.name;
        let _ = writeln!(script, "            \" {name}\") command={name} ;;");
        for leaf in inner(spec) {
            let _ = writeln!(script, "            \"{name} {0}\") command=\"{name} {0}\" ;;", leaf.name);
        }
    }
    script.push_str("        esac\n    done\n    case \"$command $prev\" in\n");
    for (words, spec) in leaves() {
        for option in spec.options {
            let Some(value) = &option.value else { continue };
            let gives = gives(value.kind);
            let _ = writeln!(script, "        \"{} --{}\") {gives} ;;", words.join(" "), option.name);
        }
    }
    script.push_str("        *) case \"$command\" in\n");
    let names: Vec<_> = COMMANDS.iter().map(|spec| spec.name).collect();
    let _ = writeln!(script, "            \"\") words=\"{} --help --version\" ;;", names.join(" "));
    for spec in COMMANDS.iter().filter(|spec| matches!(spec.does, Does::Group(_))) {
        let names: Vec<_> = inner(spec).iter().map(|leaf| leaf.name).collect();
        let _ = writeln!(script, "            {}) words=\"{} --help\" ;;", spec.name, names.join(" "));
    }
    for (path, spec) in leaves() {
        let mut words: Vec<_> = spec.options.iter().map(|option| format!("--{}", option.name)).collect();
        words.push("--help".to_owned());
        let mut files = "";
        match spec.operands.as_ref().map(|operands| operands.kind) {
            Some(ValueKind::Words(known)) => words.extend(known.iter().map(|word| (*word).to_owned())),
            Some(ValueKind::File) => files = "files=1; ",
            Some(ValueKind::Text) | None => {}
        }
        let _ =
            writeln!(script, "            \"{}\") {files}words=\"{}\" ;;", path.join(" "), words.join(" "));
    }
    script.push_str(
        "        esac ;;\n    esac\n    \
         COMPREPLY=()\n    \
         if [ -n \"$words\" ]; then mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\"); fi\n    \
         if [ -n \"$files\" ] && [ \"${#COMPREPLY[@]}\" -eq 0 ]; then\n        \
             compopt -o filenames 2>/dev/null\n        \
             mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n    \
         fi\n\
         }\n\
         complete -F _trailspool trailspool\n",
    );
    script
}

/// What completes a value, in bash.
fn gives(kind: ValueKind) -> String {
    match kind {
        ValueKind::File => "files=1".to_owned(),
        ValueKind::Words(words) => format!("words=\"{}\"", words.join(" ")),
        ValueKind::Text => ":".to_owned(),
    }
}

fn zsh() -> String {
    let mut script = String::from(
        "#compdef trailspool\n\
         # zsh completion of trailspool; `trailspool completion zsh` prints it.\n\
         _trailspool() {\n    local -a commands\n",
    );
    script.push_str("    if (( CURRENT == 2 )); then\n");
    described(&mut script, "        ", COMMANDS);
    script.push_str("        return\n    fi\n    shift words; (( CURRENT-- ))\n    case \"$words[1]\" in\n");
    for spec in COMMANDS {
        let _ = writeln!(script, "    {})", spec.name);
        match &spec.does {
            Does::Command(_) => arguments(&mut script, "        ", spec),
            Does::Group(inner) => {
                script.push_str("        if (( CURRENT == 2 )); then\n");
                described(&mut script, "            ", inner);
                script.push_str(
                    "            return\n        fi\n        shift words; (( CURRENT-- ))\n        \
                     case \"$words[1]\" in\n",
                );
                for leaf in *inner {
                    let _ = writeln!(script, "        {})", leaf.name);
                    arguments(&mut script, "            ", leaf);
                    script.push_str("            ;;\n");
                }
                script.push_str("        esac\n");
            }
        }
        script.push_str("        ;;\n");
    }
    // Sourced it defines; from $fpath it is the function's body.
    script.push_str(
        "    esac\n}\nif [ \"$funcstack[1]\" = \"_trailspool\" ]; then _trailspool \"$@\"; \
         else compdef _trailspool trailspool; fi\n",
    );
    script
}

fn described(script: &mut String, margin: &str, specs: &[Spec]) {
    let _ = writeln!(script, "{margin}commands=(");
    for spec in specs {
        let _ = writeln!(script, "{margin}    {}", quoted(&format!("{}:{}", spec.name, spec.about)));
    }
    let _ = writeln!(script, "{margin})\n{margin}_describe -t commands command commands");
}

fn arguments(script: &mut String, margin: &str, spec: &Spec) {
    let _ = write!(script, "{margin}_arguments '--help[show the help]'");
    for option in spec.options {
        let about = option.about.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
        let takes = option.value.as_ref().map(|value| format!(":{}:{}", value.name, action(value.kind)));
        let text = format!("--{}[{about}]{}", option.name, takes.unwrap_or_default());
        let _ = write!(script, " \\\n{margin}    {}", quoted(&text));
    }
    if let Some(operands) = &spec.operands {
        let many = if operands.most == Some(1) { "" } else { "*" };
        let text = format!("{many}:{}:{}", operands.name, action(operands.kind));
        let _ = write!(script, " \\\n{margin}    {}", quoted(&text));
    }
    script.push('\n');
}

/// What completes a value, in zsh's `_arguments`.
fn action(kind: ValueKind) -> String {
    match kind {
        ValueKind::File => "_files".to_owned(),
        ValueKind::Words(words) => format!("({})", words.join(" ")),
        ValueKind::Text => " ".to_owned(),
    }
}

fn fish() -> String {
    let mut script = String::from(
        "# fish completion of trailspool; `trailspool completion fish` prints it.\ncomplete -c trailspool -f\n",
    );
    let mut line = |condition: &str, rest: &str| {
        let _ = writeln!(script, "complete -c trailspool -n {} {rest}", quoted(condition));
    };
    line("__fish_use_subcommand", "-s V -l version -d 'show the version'");
    for spec in COMMANDS {
        let within = format!("__fish_seen_subcommand_from {}", spec.name);
        line("__fish_use_subcommand", &format!("-a {} -d {}", spec.name, quoted(spec.about)));
        let leaves = inner(spec);
        let names: Vec<_> = leaves.iter().map(|leaf| leaf.name).collect();
        let unchosen = format!("{within}; and not __fish_seen_subcommand_from {}", names.join(" "));
        for leaf in leaves {
            line(&unchosen, &format!("-a {} -d {}", leaf.name, quoted(leaf.about)));
            let chosen = format!("{within}; and __fish_seen_subcommand_from {}", leaf.name);
            fish_arguments(&mut line, &chosen, leaf);
        }
        fish_arguments(&mut line, &within, spec);
    }
    script.push_str("complete -c trailspool -s h -l help -d 'show the help'\n");
    script
}

fn fish_arguments(line: &mut impl FnMut(&str, &str), within: &str, spec: &Spec) {
    for option in spec.options {
        let takes = match option.value.as_ref().map(|value| value.kind) {
            None => String::new(),
            Some(ValueKind::File) => " -r -F".to_owned(),
            Some(ValueKind::Words(words)) => format!(" -x -a {}", quoted(&words.join(" "))),
            Some(ValueKind::Text) => " -x".to_owned(),
        };
        line(within, &format!("-l {}{takes} -d {}", option.name, quoted(option.about)));
    }
    match spec.operands.as_ref().map(|operands| operands.kind) {
        Some(ValueKind::File) => line(within, "-F"),
        Some(ValueKind::Words(words)) => line(within, &format!("-a {}", quoted(&words.join(" ")))),
        Some(ValueKind::Text) | None => {}
    }
}

fn inner(spec: &Spec) -> &'static [Spec] {
    match spec.does {
        Does::Group(inner) => inner,
        Does::Command(_) => &[],
    }
}

/// In single quotes, for any of the shells.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_knows_every_command_and_option() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for (words, spec) in leaves() {
                assert!(words.iter().all(|word| script.contains(word)), "{shell:?}: {words:?}");
                for option in spec.options {
                    let fish = format!("-l {} ", option.name);
                    let other = format!("--{}", option.name);
                    assert!(script.contains(&fish) || script.contains(&other), "{shell:?}: {}", option.name);
                }
            }
        }
    }
}
