//! From the arguments to the request.

use std::{
    collections::HashMap,
    env, fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::RunArgs;
use crate::proto::v1::{Code, Command, ExecutionSpec, InputFile, Limits, execution_spec::Program};

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpecError {
    #[error("nothing to run: name a file, or use -c SOURCE or --command PROGRAM")]
    Nothing,
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{0} is not text in UTF-8")]
    NotText(String),
    #[error("cannot tell the language of {0}: say --language python, bash or node")]
    UnknownLanguage(String),
    #[error("-c needs --language python, bash or node")]
    NoLanguage,
    #[error("--env {0}: there is no such variable in UTF-8 here to hand on")]
    NoVariable(String),
    #[error("--file {0}: name a file, or LOCAL:REMOTE")]
    BadFile(String),
    #[error("--timeout or --keep is too long")]
    BadTimeout,
}

/// The request that the arguments describe, with all files read.
pub(super) fn build(args: &RunArgs) -> Result<ExecutionSpec, SpecError> {
    let takes_stdin =
        args.command || args.source.is_some() || args.args.first().is_none_or(|file| file != "-");
    // What is cancelled from here ends, wherever it runs.
    let keep = if args.detach {
        args.keep
    } else {
        Duration::ZERO
    };
    Ok(ExecutionSpec {
        pool: args.pool.clone().unwrap_or_default(),
        sandbox_id: args.sandbox.clone().unwrap_or_default(),
        context_id: args.context.clone().unwrap_or_default(),
        keep_after_disconnect: Some(keep.try_into().map_err(|_| SpecError::BadTimeout)?),
        program: Some(program(args)?),
        env: variables(&args.env)?,
        working_directory: args.workdir.clone().unwrap_or_default(),
        files: args
            .file
            .iter()
            .map(|text| input_file(text))
            .collect::<Result<_, _>>()?,
        output_paths: args.output.clone(),
        limits: Some(Limits {
            timeout: args
                .timeout
                .map(|timeout| timeout.try_into().map_err(|_| SpecError::BadTimeout))
                .transpose()?,
            memory_bytes: args.memory.map_or(0, |size| size.bytes()),
            ..Limits::default()
        }),
        stdin_open: takes_stdin && !args.detach,
        ..ExecutionSpec::default()
    })
}

fn program(args: &RunArgs) -> Result<Program, SpecError> {
    if args.command {
        if args.args.is_empty() {
            return Err(SpecError::Nothing);
        }
        let args = args.args.clone();
        return Ok(Program::Command(Command { args }));
    }
    if let Some(source) = &args.source {
        let of_context = args.context.as_ref().map(|_| String::new());
        let language = args.language.clone().or(of_context);
        return Ok(Program::Code(Code {
            language: language.ok_or(SpecError::NoLanguage)?,
            source: source.clone(),
            args: args.args.clone(),
        }));
    }
    let (file, rest) = args.args.split_first().ok_or(SpecError::Nothing)?;
    let source = read_script(file)?;
    let language = match &args.language {
        Some(language) => language.clone(),
        None if args.context.is_some() => String::new(),
        None => guess_language(Path::new(file), &source)
            .ok_or_else(|| SpecError::UnknownLanguage(file.clone()))?
            .to_owned(),
    };
    Ok(Program::Code(Code {
        language,
        source,
        args: rest.to_vec(),
    }))
}

fn read_script(file: &str) -> Result<String, SpecError> {
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes = bytes.map_err(|source| SpecError::Unreadable {
        path: file.into(),
        source,
    })?;
    String::from_utf8(bytes).map_err(|_| SpecError::NotText(file.to_owned()))
}

/// By the file's ending, or else by the interpreter that its first line names.
fn guess_language(file: &Path, source: &str) -> Option<&'static str> {
    let by_ending = match file.extension().and_then(|ending| ending.to_str()) {
        Some("py") => Some("python"),
        Some("sh" | "bash") => Some("bash"),
        Some("js" | "mjs" | "cjs") => Some("node"),
        _ => None,
    };
    by_ending.or_else(|| by_first_line(source.lines().next()?))
}

/// `#!/usr/bin/python3 -u`, `#!/usr/bin/env node`, `#! /usr/bin/env -S bash -e`.
fn by_first_line(line: &str) -> Option<&'static str> {
    let mut words = line.strip_prefix("#!")?.split_whitespace();
    let mut program = words.next()?.rsplit('/').next()?;
    if program == "env" {
        program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        program = program.rsplit('/').next()?;
    }
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    match name {
        "python" => Some("python"),
        "bash" | "sh" => Some("bash"),
        "node" | "nodejs" => Some("node"),
        _ => None,
    }
}

fn variables(texts: &[String]) -> Result<HashMap<String, String>, SpecError> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => match env::var(text) {
                Ok(value) => Ok((text.clone(), value)),
                Err(_) => Err(SpecError::NoVariable(text.clone())),
            },
        })
        .collect()
}

fn input_file(text: &str) -> Result<InputFile, SpecError> {
    let (local, remote) = match text.rsplit_once(':') {
        Some((local, remote)) => (Path::new(local), Some(remote.to_owned())),
        None => (Path::new(text), None),
    };
    let name = || Some(local.file_name()?.to_str()?.to_owned());
    let remote = remote
        .or_else(name)
        .filter(|remote| !remote.is_empty() && !local.as_os_str().is_empty())
        .ok_or_else(|| SpecError::BadFile(text.to_owned()))?;
    let unreadable = |source| SpecError::Unreadable {
        path: local.to_owned(),
        source,
    };
    let content = fs::read(local).map_err(unreadable)?;
    let mode = fs::metadata(local)
        .map_err(unreadable)?
        .permissions()
        .mode();
    Ok(InputFile {
        path: remote,
        content: content.into(),
        mode: mode & 0o777,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn spec(words: &[&str]) -> Result<ExecutionSpec, SpecError> {
        let words = ["run"].iter().chain(words);
        build(&Line::try_parse_from(words).unwrap().run)
    }

    #[test]
    fn a_language_is_known_by_ending_and_by_first_line() {
        for (file, source, language) in [
            ("a.py", "", Some("python")),
            ("a.sh", "#!/usr/bin/python3", Some("bash")),
            ("a.bash", "", Some("bash")),
            ("dir.py/a.js", "", Some("node")),
            ("a.mjs", "", Some("node")),
            ("a", "#!/usr/bin/python3.11 -u\nx", Some("python")),
            ("a", "#!/bin/sh", Some("bash")),
            ("a.txt", "#! /usr/bin/env -S A=1 bash -e", Some("bash")),
            ("-", "#!/usr/bin/env node", Some("node")),
            ("a", "#!/usr/bin/perl", None),
            ("a", "#!", None),
            ("a", "#!/usr/bin/env", None),
            ("a", "print('#!/bin/sh')", None),
            ("a.PY", "", None),
            ("a", "", None),
        ] {
            assert_eq!(
                guess_language(Path::new(file), source),
                language,
                "{file} {source}"
            );
        }
    }

    #[test]
    fn what_follows_the_script_is_the_scripts() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("a.py");
        fs::write(&script, "print()").unwrap();
        let script = script.to_str().unwrap();
        for words in [
            vec![script, "--timeout", "x", "-c"],
            vec!["--", script, "--timeout", "x", "-c"],
        ] {
            let Some(Program::Code(code)) = spec(&words).unwrap().program else {
                panic!("no code");
            };
            assert_eq!(code.language, "python");
            assert_eq!(code.args, ["--timeout", "x", "-c"]);
        }
    }

    #[test]
    fn source_and_command_take_arguments_too() {
        let words = ["-l", "bash", "-c", "-x", "a", "-b"];
        let Some(Program::Code(code)) = spec(&words).unwrap().program else {
            panic!("no code");
        };
        assert_eq!(
            (code.source.as_str(), code.args),
            ("-x", vec!["a".into(), "-b".into()])
        );
        let words = ["--command", "ls", "-l", "--", "x"];
        let Some(Program::Command(command)) = spec(&words).unwrap().program else {
            panic!("no command");
        };
        assert_eq!(command.args, ["ls", "-l", "--", "x"]);
    }

    #[test]
    fn a_file_is_put_under_its_own_name_or_the_given_one_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let local = directory.path().join("data.csv");
        fs::write(&local, [0, 255]).unwrap();
        fs::set_permissions(&local, fs::Permissions::from_mode(0o4750)).unwrap();
        let local = local.to_str().unwrap();
        let file = input_file(local).unwrap();
        assert_eq!((file.path.as_str(), file.mode), ("data.csv", 0o750));
        assert_eq!(file.content.as_ref(), [0, 255]);
        assert_eq!(input_file(&format!("{local}:in/x")).unwrap().path, "in/x");
        for text in ["", ":x", "/", "x:"] {
            assert!(
                matches!(input_file(text), Err(SpecError::BadFile(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn stdin_is_the_programs_unless_the_script_came_from_it() {
        assert!(spec(&["-l", "python", "-c", ""]).unwrap().stdin_open);
        assert!(spec(&["--command", "-"]).unwrap().stdin_open);
    }

    #[test]
    fn variables_have_a_value_or_are_handed_on() {
        let given = variables(&["A=1=2".into(), "B=".into()]).unwrap();
        assert_eq!((given["A"].as_str(), given["B"].as_str()), ("1=2", ""));
        assert_eq!(variables(&["PATH".into()]).unwrap().len(), 1);
        assert!(variables(&["SANDPOOL_TEST_NOT_SET".into()]).is_err());
    }
}
