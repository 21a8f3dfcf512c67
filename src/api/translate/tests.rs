//! Every rule has a case here: a good spec with one thing broken.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use prost_types::Duration as ProtoDuration;
use tonic::Status;

use super::*;
use crate::{
    api::status::Refusal,
    execution::{Limits, Program},
    proto::v1::execution_spec::Program as V1Program,
};

/// Stands wherever a client may have a secret, in the good spec and in the broken ones.
const SECRET: &str = "hunter2";
const MIB: u64 = 1024 * 1024;

fn rules() -> PoolRules {
    let default = Limits {
        timeout: Duration::from_secs(30),
        queue_timeout: Duration::from_secs(10),
        memory_bytes: 512 * MIB,
        disk_bytes: 2 * MIB,
        output_bytes: 16 * MIB,
        output_file_bytes: 16 * MIB,
        processes: 64,
    };
    let max = Limits {
        timeout: Duration::from_secs(600),
        queue_timeout: Duration::from_secs(60),
        memory_bytes: 1024 * MIB,
        disk_bytes: 4 * MIB,
        output_bytes: 64 * MIB,
        output_file_bytes: 64 * MIB,
        processes: 256,
    };
    PoolRules {
        languages: vec!["bash".to_owned(), "python".to_owned()],
        bounds: LimitBounds { default, max },
        named: NamedRules {
            default_lifetime: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            default_idle_timeout: Duration::from_secs(60),
        },
    }
}

fn code(language: &str, source: &str, args: &[&str]) -> V1Program {
    V1Program::Code(v1::Code {
        language: language.to_owned(),
        source: source.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
    })
}

fn command(args: &[&str]) -> V1Program {
    V1Program::Command(v1::Command {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
    })
}

fn file(path: &str) -> v1::InputFile {
    v1::InputFile {
        path: path.to_owned(),
        content: Bytes::from_static(SECRET.as_bytes()),
        mode: 0,
    }
}

fn seconds(seconds: i64) -> Option<ProtoDuration> {
    Some(ProtoDuration { seconds, nanos: 0 })
}

fn good() -> v1::ExecutionSpec {
    v1::ExecutionSpec {
        context_id: String::new(),
        pool: "default".to_owned(),
        program: Some(code("python", "print('hunter2')", &["hunter2", ""])),
        env: [("TOKEN".to_owned(), SECRET.to_owned())].into(),
        working_directory: "./job//1".to_owned(),
        files: vec![
            file("data/in.csv"),
            v1::InputFile {
                mode: 0o755,
                ..file("/workspace/tool")
            },
        ],
        output_paths: vec!["./out//*.csv".to_owned(), "**/[a-z]?.png".to_owned()],
        known_files: vec![v1::KnownFile {
            path: "out/a.csv".to_owned(),
            size: 3,
            sha256: vec![7; 32].into(),
        }],
        limits: Some(v1::Limits {
            timeout: Some(ProtoDuration {
                seconds: 1,
                nanos: 500_000_000,
            }),
            queue_timeout: seconds(60),
            memory_bytes: 1024 * MIB,
            disk_bytes: 3 * MIB,
            output_bytes: 1,
            output_file_bytes: 2,
            processes: 256,
        }),
        stdin_open: true,
        terminal: None,
        keep_after_disconnect: None,
        sandbox_id: String::new(),
        execution_id: "Job-7_a.b".to_owned(),
        labels: [("team".to_owned(), "résumé".to_owned())].into(),
    }
}

#[test]
fn a_good_spec_passes_with_all_that_it_says() {
    let spec = spec(good(), &rules(), None).unwrap();
    let Program::Code {
        language,
        source,
        args,
    } = &spec.program
    else {
        panic!("code became a command");
    };
    assert_eq!(
        (language.as_str(), source.as_str()),
        ("python", "print('hunter2')")
    );
    assert_eq!(args, &["hunter2", ""]);
    assert_eq!(spec.env["TOKEN"], SECRET);
    assert_eq!(spec.working_directory, "/workspace/job/1");
    let files: Vec<(&str, u32)> = spec
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.mode))
        .collect();
    assert_eq!(
        files,
        [
            ("/workspace/job/1/data/in.csv", 0o644),
            ("/workspace/tool", 0o755)
        ]
    );
    assert_eq!(spec.files[0].content, SECRET);
    assert_eq!(spec.output_paths, ["out/*.csv", "**/[a-z]?.png"]);
    assert_eq!(
        (spec.known_files[0].size, spec.known_files[0].sha256),
        (3, [7; 32])
    );
    let limits = Limits {
        timeout: Duration::from_millis(1500),
        queue_timeout: Duration::from_secs(60),
        memory_bytes: 1024 * MIB,
        disk_bytes: 3 * MIB,
        output_bytes: 1,
        output_file_bytes: 2,
        processes: 256,
    };
    assert_eq!(spec.limits, limits);
    assert!(spec.stdin_open);
    assert_eq!(spec.labels["team"], "résumé");
}

#[test]
fn what_is_not_set_has_its_default() {
    for limits in [
        None,
        Some(v1::Limits::default()),
        Some(v1::Limits {
            timeout: seconds(0),
            ..v1::Limits::default()
        }),
    ] {
        let request = v1::ExecutionSpec {
            program: Some(command(&["/bin/true"])),
            limits,
            ..v1::ExecutionSpec::default()
        };
        let spec = spec(request, &rules(), None).unwrap();
        assert!(matches!(spec.program, Program::Command { args } if args == ["/bin/true"]));
        assert_eq!(spec.limits, rules().bounds.default);
        assert_eq!(spec.working_directory, "/workspace");
        assert!(!spec.stdin_open);
    }
}

/// Breaks a good spec: what is done to it, the field at fault, and what its text must say.
struct Case {
    spoil: fn(&mut v1::ExecutionSpec),
    field: &'static str,
    says: &'static [&'static str],
}

macro_rules! case {
    ($spec:ident => $spoil:expr, $field:literal, $($says:literal),+) => {
        Case {
            spoil: |$spec: &mut v1::ExecutionSpec| {
                $spoil;
            },
            field: $field,
            says: &[$($says),+],
        }
    };
}

fn env(spec: &mut v1::ExecutionSpec, name: &str) {
    spec.env.insert(name.to_owned(), SECRET.to_owned());
}

fn limits(spec: &mut v1::ExecutionSpec) -> &mut v1::Limits {
    spec.limits.get_or_insert_default()
}

fn program_cases() -> Vec<Case> {
    vec![
        case!(s => s.program = None, "program", "missing", "set either code or command"),
        case!(s => s.program = Some(code("python", "", &[SECRET])), "code.source", "blank", "give the text"),
        case!(s => s.program = Some(code("python", " \n\t", &[SECRET])), "code.source", "blank", "give the text"),
        case!(s => s.program = Some(code("ruby", SECRET, &[])), "code.language", "\"ruby\"", "use bash or python"),
        case!(s => s.program = Some(code("", SECRET, &[])), "code.language", "empty", "bash or python"),
        case!(s => s.program = Some(code("bash", SECRET, &["a", "hunter2\0"])), "code.args[1]", "NUL", "leave it out"),
        case!(s => s.program = Some(command(&[])), "command.args", "empty", "args[0] is the program"),
        case!(s => s.program = Some(command(&["", SECRET])), "command.args[0]", "empty", "absolute path or a name"),
        case!(s => s.program = Some(command(&["ls", "hunter2\0"])), "command.args[1]", "NUL", "leave it out"),
        case!(s => s.program = Some(command(&[SECRET; 4097])), "command.args", "4097", "at most 4096", "file or on stdin"),
        case!(s => s.program = Some(command(&["ls", &SECRET.repeat(20_000)])), "command.args[1]", "140000", "at most 131071", "file or on stdin"),
        case!(s => s.program = Some(command(&[&*SECRET.repeat(17_000); 9])), "command.args", "1071000", "at most 1048576", "file or on stdin"),
    ]
}

fn map_cases() -> Vec<Case> {
    vec![
        case!(s => env(s, "A=B"), "env[\"A=B\"]", "'='", "name ends before it"),
        case!(s => env(s, ""), "env[\"\"]", "empty name", "name the variable"),
        case!(s => env(s, "A\0B"), "env[\"A\\0B\"]", "NUL in its name", "leave it out"),
        case!(s => s.env.insert("N".into(), "hunter2\0".into()), "env[\"N\"]", "NUL in its value", "leave it out"),
        case!(s => s.env.insert("BIG".into(), SECRET.repeat(20_000)), "env", "at most 131072", "into files"),
        case!(s => s.env.extend((0..1024).map(|i| (format!("V{i}"), SECRET.to_owned()))), "env", "has 10", "at most 1024"),
        case!(s => s.labels.extend((0..32).map(|i| (format!("l{i}"), String::new()))), "labels", "has 3", "at most 32"),
        case!(s => s.labels.insert(String::new(), String::new()), "labels[\"\"]", "empty key", "name the label"),
        case!(s => s.labels.insert("x".repeat(64), String::new()), "labels[\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"]", "64", "at most 63"),
        case!(s => s.labels.insert("long".into(), "é".repeat(257)), "labels[\"long\"]", "value of 257", "at most 256"),
        case!(s => s.labels.insert("c\n".into(), String::new()), "labels[\"c\\n\"]", "control character in its key", "leave it out"),
        case!(s => s.labels.insert("esc".into(), "\u{1b}[2J".into()), "labels[\"esc\"]", "control character in its value", "leave it out"),
        case!(s => s.execution_id = "a b".into(), "execution_id", "\"a b\"", "' '", "only A-Z"),
        case!(s => s.execution_id = "x".repeat(129), "execution_id", "129", "at most 128"),
    ]
}

fn file_cases() -> Vec<Case> {
    vec![
        case!(s => s.working_directory = "../etc".into(), "working_directory", "\"../etc\"", "'..'", "leave it out"),
        case!(s => s.working_directory = "/etc".into(), "working_directory", "\"/etc\"", "outside /workspace", "relative path"),
        case!(s => s.working_directory = "a\0".into(), "working_directory", "NUL", "leave it out"),
        case!(s => s.files.push(file("../up")), "files[2].path", "\"../up\"", "'..'", "leave it out"),
        case!(s => s.files.push(file("/etc/passwd")), "files[2].path", "\"/etc/passwd\"", "outside", "within /workspace"),
        case!(s => s.files.push(file("")), "files[2].path", "empty", "give a path"),
        case!(s => s.files.push(file("data/")), "files[2].path", "\"data/\"", "directory", "path of a file"),
        case!(s => s.files.push(file(&"d/".repeat(2100))), "files[2].path", "4200 bytes", "at most 4095"),
        case!(s => s.files.push(file(&"c".repeat(256))), "files[2].path", "256 bytes", "at most 255"),
        case!(s => s.files.push(file("/workspace//tool")), "files[2].path", "\"/workspace/tool\"", "files[1]", "once"),
        case!(s => s.files.push(file("/workspace/tool/x")), "files[1].path", "directory of files[2]", "rename"),
        case!(s => s.files.push(file("/workspace/job")), "files[2].path", "\"/workspace/job\"", "working directory"),
        case!(s => s.files.push(v1::InputFile { mode: 0o4755, ..file("suid") }), "files[2].mode", "0o4755", "at most 0o777"),
        case!(s => s.files.extend((0..999).map(|i| file(&format!("f{i}")))), "files", "1001", "at most 1000", "archive"),
        case!(s => s.files[0].content = SECRET.repeat(460_000).into(), "files", "3220007 bytes", "limits.disk_bytes", "3145728"),
        case!(s => s.output_paths.push(String::new()), "output_paths[2]", "empty", "give a glob"),
        case!(s => s.output_paths.push("/workspace/*".into()), "output_paths[2]", "\"/workspace/*\"", "absolute", "relative"),
        case!(s => s.output_paths.push("a/../*".into()), "output_paths[2]", "\"a/../*\"", "'..'", "leave it out"),
        case!(s => s.output_paths.push("out/".into()), "output_paths[2]", "\"out/\"", "directory", "add **/*"),
        case!(s => s.output_paths.push("a[".into()), "output_paths[2]", "\"a[\"", "not a glob, from character 2", "[*]"),
        case!(s => s.output_paths.push("a**".into()), "output_paths[2]", "\"a**\"", "not a glob"),
        case!(s => s.output_paths.push("a\0".into()), "output_paths[2]", "NUL", "leave it out"),
        case!(s => s.output_paths.push("a".repeat(4096)), "output_paths[2]", "4096 bytes", "at most 4095"),
        case!(s => s.output_paths = vec!["*".into(); 101], "output_paths", "101", "at most 100"),
        case!(s => s.known_files[0].sha256 = "07".repeat(32).into(), "known_files[0].sha256", "64 bytes", "not in hexadecimal"),
        case!(s => s.known_files = vec![v1::KnownFile::default(); 10_001], "known_files", "10001", "at most 10000"),
    ]
}

fn limit_cases() -> Vec<Case> {
    vec![
        case!(s => limits(s).timeout = seconds(601), "limits.timeout", "601s", "maximum of 600s"),
        case!(s => limits(s).timeout = seconds(-1), "limits.timeout", "-1s is negative", "30s", "600s"),
        case!(s => limits(s).timeout = Some(ProtoDuration { seconds: 0, nanos: -1 }), "limits.timeout", "-1ns is negative", "600s"),
        case!(s => limits(s).timeout = Some(ProtoDuration { seconds: 5, nanos: -1 }), "limits.timeout", "5s and -1ns is negative"),
        case!(s => limits(s).timeout = seconds(i64::MIN), "limits.timeout", "-9223372036854775808s is negative"),
        case!(s => limits(s).timeout = seconds(i64::MAX), "limits.timeout", "9223372036854775807s", "at most 600s"),
        case!(s => limits(s).timeout = Some(ProtoDuration { seconds: i64::MAX, nanos: i32::MAX }), "limits.timeout", "2147483647 nanos", "carry"),
        case!(s => limits(s).queue_timeout = seconds(61), "limits.queue_timeout", "61s", "maximum of 60s"),
        case!(s => limits(s).queue_timeout = seconds(-61), "limits.queue_timeout", "-61s", "negative"),
        case!(s => limits(s).memory_bytes = u64::MAX, "limits.memory_bytes", "18446744073709551615", "maximum of 1073741824"),
        case!(s => limits(s).disk_bytes = 4 * MIB + 1, "limits.disk_bytes", "4194305", "maximum of 4194304"),
        case!(s => limits(s).output_bytes = 64 * MIB + 1, "limits.output_bytes", "67108865", "maximum of 67108864"),
        case!(s => limits(s).output_file_bytes = 64 * MIB + 1, "limits.output_file_bytes", "67108865", "maximum of 67108864"),
        case!(s => limits(s).processes = 257, "limits.processes", "257", "maximum of 256"),
    ]
}

fn cases() -> Vec<Case> {
    let mut all = program_cases();
    all.extend(map_cases());
    all.extend(file_cases());
    all.extend(limit_cases());
    all
}

#[test]
fn each_rule_names_its_field_the_value_and_what_is_allowed() {
    for case in cases() {
        let mut request = good();
        (case.spoil)(&mut request);
        let Err(invalid) = spec(request, &rules(), None) else {
            panic!("{} {:?} passed", case.field, case.says);
        };
        let [violation] = invalid.violations.as_slice() else {
            panic!("{} and no other: {invalid:?}", case.field);
        };
        assert_eq!(violation.field, case.field, "{violation:?}");
        for text in case.says {
            assert!(violation.text.contains(text), "{text:?} in {violation:?}");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let request = v1::ExecutionSpec {
        program: Some(code("ruby", "", &["\0"])),
        env: [("A=B".to_owned(), String::new())].into(),
        working_directory: "/etc".to_owned(),
        files: vec![file("../x"), file("ok"), file("/workspace/ok")],
        output_paths: vec!["[".to_owned()],
        limits: Some(v1::Limits {
            timeout: seconds(-1),
            processes: 1_000_000,
            ..v1::Limits::default()
        }),
        execution_id: "/".to_owned(),
        labels: [("\n".to_owned(), String::new())].into(),
        ..v1::ExecutionSpec::default()
    };
    let invalid = spec(request, &rules(), None).err().unwrap();
    let fields: Vec<&str> = invalid
        .violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "code.language",
            "code.source",
            "code.args[0]",
            "env[\"A=B\"]",
            "working_directory",
            "limits.timeout",
            "limits.processes",
            "files[0].path",
            "files[2].path",
            "output_paths[0]",
            "execution_id",
            "labels[\"\\n\"]",
        ]
    );
}

#[test]
fn a_refused_disk_limit_does_not_refuse_the_files_as_well() {
    let mut request = good();
    limits(&mut request).disk_bytes = 100 * MIB;
    request.files[0].content = SECRET.repeat(500_000).into();
    let invalid = spec(request, &rules(), None).err().unwrap();
    assert_eq!(invalid.violations.len(), 1, "{invalid:?}");
}

#[test]
fn two_stars_at_the_end_of_a_glob_mean_the_files_below() {
    let mut request = good();
    request.output_paths = vec!["out/**".to_owned(), "**".to_owned(), "**/x".to_owned()];
    let spec = spec(request, &rules(), None).unwrap();
    assert_eq!(spec.output_paths, ["out/**/*", "**/*", "**/x"]);
}

#[test]
fn a_pool_without_languages_says_so() {
    let pool = PoolRules {
        languages: Vec::new(),
        ..rules()
    };
    let invalid = spec(good(), &pool, None).err().unwrap();
    assert!(invalid.violations[0].text.contains("has only commands"));
}

proptest! {
    #[test]
    fn no_secret_is_ever_repeated(
        chosen in prop::sample::subsequence((0..cases().len()).collect::<Vec<_>>(), 1..12)
    ) {
        let all = cases();
        let mut request = good();
        for index in chosen {
            (all[index].spoil)(&mut request);
        }
        if let Err(invalid) = spec(request, &rules(), None) {
            let told = format!("{invalid:?}");
            prop_assert!(!told.contains(SECRET), "{}", told);
            let status = Status::from(Refusal::from(invalid));
            let details = String::from_utf8_lossy(status.details()).into_owned();
            prop_assert!(!status.message().contains(SECRET) && !details.contains(SECRET));
        }
    }

    #[test]
    fn whatever_the_texts_are_the_answer_is_bounded(
        texts in prop::collection::vec(".{0,300}", 8),
        copies in 1..200usize,
    ) {
        let mut request = good();
        request.working_directory.clone_from(&texts[0]);
        request.execution_id.clone_from(&texts[1]);
        request.program = Some(code(&texts[2], &texts[3], &[]));
        request.env.extend((0..copies).map(|i| (format!("{}={i}", texts[4]), String::new())));
        request.files.extend((0..copies).map(|_| file(&texts[5])));
        request.output_paths = vec![texts[6].clone(); copies];
        request.labels.insert(texts[7].clone(), "\0".to_owned());
        let invalid = spec(request, &rules(), None).err().unwrap();
        let response = Status::from(Refusal::from(invalid)).into_http::<()>();
        let bytes: usize = response
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum();
        prop_assert!(bytes < 8 * 1024, "{bytes}");
    }
}
