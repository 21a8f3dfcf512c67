//! docs/reference/cli.md, from the command line's own description.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

use crate::markdown;

const HEAD: &str = "\
<!-- Written by `make docs` from the sources. -->

# Command line

`run`, `attach`, `executions`, `sandbox`, `context`, `shell`, `cp`, `mcp` and `pools` speak with a running server:
the one of `--address` or `SANDPOOL_ADDRESS`. `serve`, `config` and `doctor` read the
[configuration](../configuration.md). [What `run` exits with](../sandbox.md#exit-codes-of-sandpool-run) is its
program's exit code; every other command exits with 0, with 1 after an error, and with 2 if it was not understood.

With `--output json`, what lists or shows prints the API's message as one JSON document, as
[protobuf maps it](https://protobuf.dev/programming-guides/json/): names in lowerCamelCase, 64-bit integers as
strings, durations as `\"1.5s\"`, times as RFC 3339 has them. What is empty is there, too: a list of nothing is
`[]`. All pages of a list are one. `pools --watch` prints a document on each line. No control character is
printed as such, whatever a sandbox has named.

```console
$ sandpool pools --output json | jq -r '.pools[] | \"\\(.spec.name) \\(.counts.idle)\"'
default 4
$ sandpool sandbox list -o json | jq -r '.sandboxes[].sandboxId' | xargs -r sandpool sandbox delete
```

Completions, for bash, zsh and fish:

```console
$ sandpool completions bash > /usr/share/bash-completion/completions/sandpool
$ sandpool completions zsh > /usr/local/share/zsh/site-functions/_sandpool
$ sandpool completions fish > ~/.config/fish/completions/sandpool.fish
```

And the manual, after which `man sandpool-run` shows it:

```console
$ sandpool man --directory /usr/local/share/man/man1
```
";

pub fn render() -> String {
    let mut command = sandpool::cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = HEAD.to_owned();
    for subcommand in command.get_subcommands() {
        section(&mut page, subcommand, 2);
    }
    page
}

fn section(page: &mut String, command: &Command, level: usize) {
    let name = command.get_bin_name().expect("it is built");
    let _ = writeln!(page, "\n{} {name}\n", "#".repeat(level));
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, "{}\n", sentence(&markdown::text(&about)));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let _ = writeln!(page, "```text\n{usage}\n```");
    let arguments = command.get_arguments().filter(|it| is_its_own(it));
    let mut arguments: Vec<&Arg> = arguments.collect();
    // In the order in which `--help` has them: what has a place first.
    arguments.sort_by_key(|it| !it.is_positional());
    if !arguments.is_empty() {
        page.push_str("\n| argument | meaning |\n|---|---|\n");
    }
    for argument in arguments {
        let _ = writeln!(page, "| {} | {} |", shape(argument), meaning(argument));
    }
    for subcommand in command.get_subcommands() {
        section(page, subcommand, level + 1);
    }
}

/// Every command has --help.
fn is_its_own(argument: &Arg) -> bool {
    let asks = matches!(
        argument.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    !asks && !argument.is_hide_set()
}

fn shape(argument: &Arg) -> String {
    // clap shows the short one where there is no other.
    let short = argument
        .get_short()
        .filter(|_| argument.get_long().is_some());
    let short = short.map(|short| format!("-{short}, "));
    let shape = format!("{}{argument}", short.unwrap_or_default());
    format!("`{}`", shape.replace('|', "\\|"))
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut meaning = sentence(&markdown::cell(&help));
    if argument.get_action().takes_values() {
        for value in argument.get_possible_values() {
            let help = value.get_help().map(ToString::to_string);
            let help = help.map(|help| format!(": {}", markdown::cell(&help)));
            let help = help.unwrap_or_default();
            let _ = write!(meaning, "<br>`{}`{help}", value.get_name());
        }
        let defaults = argument.get_default_values().iter();
        let defaults = defaults.map(|value| value.to_string_lossy());
        for default in defaults.filter(|value| !value.is_empty()) {
            let _ = write!(meaning, "<br>Default: `{default}`");
        }
    }
    if let Some(variable) = argument.get_env() {
        let variable = variable.to_string_lossy();
        let _ = write!(meaning, "<br>Variable: `{variable}`");
    }
    meaning.trim_start_matches("<br>").to_owned()
}

/// clap takes the full stop from what is one line.
fn sentence(text: &str) -> String {
    let ended = text.is_empty() || text.ends_with(['.', ':', '`', ']']);
    format!("{text}{}", if ended { "" } else { "." })
}
