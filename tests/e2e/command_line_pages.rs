//! The completions and the manual, as the programs see them that they are for.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

fn sandpool(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
    command.args(args).env("SOURCE_DATE_EPOCH", "1700000000");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// None, if this machine does not have the program.
fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("{program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn bash_completes_commands_their_options_and_values() {
    let script = sandpool(&["completions", "bash"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sandpool.bash");
    fs::write(&path, script).unwrap();
    let completed = |words: &str| {
        let count = words.split(' ').count() - 1;
        let source = format!(
            "source {path:?}; complete -p sandpool >&2; COMP_WORDS=({words}); COMP_CWORD={count}\n\
             [ -n \"${{COMP_WORDS[{count}]}}\" ] || COMP_WORDS[{count}]=\n\
             _sandpool sandpool \"${{COMP_WORDS[{count}]}}\" \"${{COMP_WORDS[{count}-1]}}\"\n\
             echo \"${{COMPREPLY[@]}}\""
        );
        let output = run("bash", &["-c", &source]).expect("bash is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(" -F _sandpool sandpool\n"), "{said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("sandpool sand"), "sandbox");
    assert_eq!(completed("sandpool sandbox ex"), "extend");
    assert_eq!(completed("sandpool run --output-d"), "--output-dir");
    assert_eq!(completed("sandpool pools --output j"), "json");
    assert_eq!(completed("sandpool completions z"), "zsh");
}

#[test]
fn zsh_and_fish_read_their_completions() {
    for shell in ["zsh", "fish"] {
        let script = sandpool(&["completions", shell]);
        assert!(script.contains("sandbox"), "{script}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("completions");
        fs::write(&path, script).unwrap();
        if let Some(output) = run(shell, &["-n", path.to_str().unwrap()]) {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && said.is_empty(),
                "{shell}: {said}"
            );
        }
    }
}

#[test]
fn every_page_of_the_manual_is_read_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    sandpool(&["man", "--directory", pages.to_str().unwrap()]);
    let mut names: Vec<_> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in ["sandpool.1", "sandpool-run.1", "sandpool-sandbox-create.1"] {
        assert!(names.iter().any(|page| page == name), "{names:?}");
    }
    let printed = sandpool(&["man"]);
    assert!(printed.contains(" 2023-11-14 \"sandpool "), "{printed}");
    assert_eq!(
        printed,
        fs::read_to_string(pages.join("sandpool.1")).unwrap()
    );
    for name in &names {
        let page = pages.join(name);
        let page = page.to_str().unwrap();
        for (program, args) in [
            (
                "groff",
                &["-ww", "-z", "-man", "-Tutf8", "-K", "utf8", page][..],
            ),
            ("mandoc", &["-T", "lint", "-W", "warning", page]),
        ] {
            if let Some(output) = run(program, args) {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                // clap_mangen parts a list from what is before it twice, which every reader makes one of.
                let complaint = said.lines().find(|line| !line.contains(" macro: br "));
                assert_eq!(complaint, None, "{program} {name}");
            }
        }
    }
}

#[test]
fn a_manual_that_cannot_be_written_is_said_to_be() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
    command.args(["man", "--directory", "/dev/null/man1"]);
    let output = command.stdout(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("sandpool: cannot write the pages to /dev/null/man1: "),
        "{said}"
    );
}
