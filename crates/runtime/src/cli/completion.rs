//! `completion`: scripts by which shells complete this program's command lines, made from the same tables that parse
//! them.

use std::fmt::Write;

use super::flags::{Flag, Parsed, Takes};
use super::global::{self, Global};
use super::{COMMANDS, Command, NAME, invalid, print};
use crate::Error;

pub(crate) const COMMAND: Command = Command {
    name: "completion",
    usage: "print a shell's completion script",
    arguments: "bash|zsh|fish",
    description: "To use it at once: source <(rcr-runtime completion bash), and so for zsh; for fish,\n\
        rcr-runtime completion fish | source. make install puts the scripts where the shells look for them.",
    flags: &[],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(_: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let shell = parsed.rest[0].to_string_lossy();
    match shell.as_ref() {
        "bash" => print(&bash(COMMANDS)),
        "zsh" => print(&zsh(COMMANDS)),
        "fish" => print(&fish(COMMANDS)),
        _ => Err(invalid(format!("no completion for shell {shell:?}: it is bash, zsh or fish"))),
    }
}

fn shown(flags: &'static [Flag]) -> impl Iterator<Item = &'static Flag> {
    flags.iter().filter(|flag| !flag.hidden)
}

/// Each of a flag's spellings.
fn spellings(flag: &Flag) -> impl Iterator<Item = String> {
    let short = flag.short.map(|short| format!("-{short}"));
    std::iter::once(format!("--{}", flag.name)).chain(short)
}

/// What a command's arguments are.
#[derive(PartialEq)]
enum Argument {
    Container,
    File,
    Words(&'static str),
    None,
}

fn argument(command: &Command) -> Argument {
    match command.arguments.split_ascii_whitespace().next() {
        Some("<container-id>") if matches!(command.name, "create" | "run" | "restore") => Argument::None,
        Some("<container-id>") => Argument::Container,
        Some("bash|zsh|fish") => Argument::Words("bash zsh fish"),
        Some(_) => Argument::File,
        None => Argument::None,
    }
}

/// The flags whose value is the next word, as a shell's pattern.
fn with_value(flags: &'static [Flag], between: &str) -> String {
    let valued = shown(flags).filter(|flag| flag.takes != Takes::Switch).flat_map(spellings);
    valued.collect::<Vec<_>>().join(between)
}

fn all(flags: &'static [Flag]) -> String {
    let names = shown(flags).flat_map(spellings).chain(["--help".to_owned()]);
    names.collect::<Vec<_>>().join(" ")
}

fn bash(commands: &'static [Command]) -> String {
    let names: Vec<&str> = commands.iter().map(|command| command.name).collect();
    let mut cases = String::new();
    for command in commands {
        let words = match argument(command) {
            Argument::Container => format!("$({NAME} \"${{root[@]}}\" list -q 2>/dev/null)"),
            Argument::Words(words) => words.to_owned(),
            Argument::File | Argument::None => String::new(),
        };
        let _ = writeln!(
            cases,
            "    {}) flags='{}' valued='{}' files={} words=\"{words}\" ;;",
            command.name,
            all(command.flags),
            with_value(command.flags, " "),
            u8::from(argument(command) == Argument::File),
        );
    }
    // `=` breaks words in readline: --root=DIR is three.
    format!(
        r#"# bash completion for {NAME}
_rcr_runtime() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} command='' i root=()
    local global='{global}' global_valued='{global_valued}' flags='' valued='' words='' files=0
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
        --root) [ "${{COMP_WORDS[i + 1]}}" = = ] && ((i++)); ((i++)); root=(--root "${{COMP_WORDS[i]}}") ;;
        {patterns}) [ "${{COMP_WORDS[i + 1]}}" = = ] && ((i++)); ((i++)) ;;
        -* | =) ;;
        *) command=${{COMP_WORDS[i]}}; break ;;
        esac
    done
    if [ "$cur" = = ]; then cur=''; elif [ "$prev" = = ]; then prev=${{COMP_WORDS[COMP_CWORD - 2]}}; fi
    case $command in
    '') flags="$global" words='{names} help' ;;
    help) words='{names}' ;;
{cases}    esac
    case " $valued $global_valued " in
    *" $prev "*) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    esac
    case $cur in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;
    *)
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
        [ "$files" = 0 ] || COMPREPLY+=($(compgen -f -- "$cur"))
        ;;
    esac
}}
complete -o filenames -F _rcr_runtime {NAME}
"#,
        global = all(global::FLAGS),
        global_valued = with_value(global::FLAGS, " "),
        patterns = with_value(global::FLAGS, " | ").replace("--root | ", ""),
        names = names.join(" "),
    )
}

/// Text inside single quotes of a shell.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn zsh(commands: &'static [Command]) -> String {
    let specs = |flags: &'static [Flag], indent: &str| {
        let mut text = String::new();
        for flag in shown(flags) {
            // Brackets and colons mean something to _arguments.
            let usage = quoted(flag.usage).replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
            let usage = usage.replace("'\\\\''", "'\\''").replace(':', "\\:");
            let value = match flag.takes {
                Takes::Switch => "",
                Takes::Value | Takes::List => ":value:_files",
            };
            let many = if flag.takes == Takes::List { "*" } else { "" };
            match flag.short {
                Some(short) if many.is_empty() => {
                    let _ = writeln!(
                        text,
                        "{indent}'(-{short} --{0})'{{-{short},--{0}}}'[{usage}]{value}' \\",
                        flag.name
                    );
                }
                Some(short) => {
                    let _ = writeln!(text, "{indent}'*'{{-{short},--{}}}'[{usage}]{value}' \\", flag.name);
                }
                None => {
                    let _ = writeln!(text, "{indent}'{many}--{}[{usage}]{value}' \\", flag.name);
                }
            }
        }
        text
    };
    let mut names = String::new();
    let mut cases = String::new();
    for command in commands {
        let _ = writeln!(names, "        '{}:{}'", command.name, quoted(command.usage).replace(':', "\\:"));
        let rest = match argument(command) {
            Argument::Container => "'1:container:_rcr_runtime_containers' '*::command:_normal'",
            Argument::File => "'*:file:_files'",
            Argument::Words(words) => &format!("'1:shell:({words})'"),
            Argument::None => "'1:container: '",
        };
        let _ = writeln!(
            cases,
            "        {})\n            _arguments \\\n{}                '(-h --help)'{{-h,--help}}'[show help]' {rest} ;;",
            command.name,
            specs(command.flags, "                "),
        );
    }
    format!(
        r#"#compdef {NAME}
# zsh completion for {NAME}
_rcr_runtime_containers() {{
    local -a ids
    ids=(${{(f)"$({NAME} ${{opt_args[--root]:+--root}} ${{opt_args[--root]}} list -q 2>/dev/null)"}})
    compadd -a ids
}}
_rcr_runtime() {{
    local curcontext=$curcontext state line
    local -A opt_args
    local -a commands
    commands=(
{names}        'help:show help'
    )
    _arguments -C \
{global}        '(-h --help)'{{-h,--help}}'[show help]' \
        '1: :->command' '*:: :->arguments'
    case $state in
    command) _describe command commands ;;
    arguments)
        case $words[1] in
        help) _describe command commands ;;
{cases}        esac
        ;;
    esac
}}
if [ "$funcstack[1]" = _{file} ]; then _rcr_runtime "$@"; else compdef _rcr_runtime {NAME}; fi
"#,
        global = specs(global::FLAGS, "        "),
        file = NAME,
    )
}

fn fish(commands: &'static [Command]) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut text = format!("# fish completion for {NAME}\ncomplete -c {NAME} -f\n");
    let mut line = |condition: &str, flag: &Flag| {
        let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
        let value = if flag.takes == Takes::Switch { "" } else { " -r -F" };
        let _ = writeln!(
            text,
            "complete -c {NAME}{condition} -l {}{short}{value} -d '{}'",
            flag.name,
            quoted(flag.usage)
        );
    };
    for flag in shown(global::FLAGS) {
        line("", flag);
    }
    for command in commands {
        for flag in shown(command.flags) {
            line(&format!(" -n '__fish_seen_subcommand_from {}'", command.name), flag);
        }
    }
    for command in commands {
        let _ = writeln!(
            text,
            "complete -c {NAME} -n __fish_use_subcommand -a {} -d '{}'",
            command.name,
            quoted(command.usage)
        );
        let words = match argument(command) {
            Argument::Container => format!("-a '({NAME} list -q 2>/dev/null)'"),
            Argument::Words(words) => format!("-a '{words}'"),
            Argument::File => "-F".to_owned(),
            Argument::None => continue,
        };
        let _ =
            writeln!(text, "complete -c {NAME} -n '__fish_seen_subcommand_from {}' {words}", command.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_is_in_every_script() {
        let scripts = [("bash", bash(COMMANDS)), ("zsh", zsh(COMMANDS)), ("fish", fish(COMMANDS))];
        for (shell, script) in &scripts {
            for command in COMMANDS {
                assert!(script.contains(command.name), "{shell}: {}", command.name);
                for flag in shown(command.flags).chain(shown(global::FLAGS)) {
                    let spelling = match *shell {
                        "fish" => format!("-l {}", flag.name),
                        _ => format!("--{}", flag.name),
                    };
                    assert!(script.contains(&spelling), "{shell}: {} {spelling}", command.name);
                }
            }
            assert!(!script.contains("obsoleted"), "{shell}: a hidden flag");
        }
    }
}
