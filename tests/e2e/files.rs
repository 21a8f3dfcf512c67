//! Files go in before the program and come out after it.

use crate::harness::*;

#[tokio::test]
async fn input_files_are_there_with_their_modes() {
    let (_server, client) = main_pool().await;
    let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let source = "
stat -c '%a %s %u %n' plain deep/er/run.sh empty big
cat plain deep/er/run.sh; ./deep/er/run.sh; md5sum < big > sum; python3 - <<X
print(open('big', 'rb').read() == bytes(i % 251 for i in range(300_000)))
X
";
    bash(source)
        .file("plain", "plain\n")
        .file_with_mode("deep/er/run.sh", "#!/bin/sh\necho ran\n", 0o750)
        .file_with_mode("/workspace/empty", "", 0o400)
        .file("./big", content)
        .run(&client)
        .await
        .printed(
            "644 6 65532 plain\n750 19 65532 deep/er/run.sh\n400 0 65532 empty\n644 300000 65532 big\n\
             plain\n#!/bin/sh\necho ran\nran\nTrue\n",
        );
}

#[tokio::test]
async fn files_and_globs_are_relative_to_the_working_directory() {
    let (_server, client) = main_pool().await;
    let done = bash("cat in; echo out > out; echo no > ../above")
        .directory("sub/dir")
        .file("in", "in\n")
        .output("*")
        .run(&client)
        .await
        .printed("in\n");
    let paths: Vec<&String> = done.files.keys().collect();
    assert_eq!(paths, ["in", "out"]);
}

#[tokio::test]
async fn output_files_come_by_their_globs() {
    let (_server, client) = main_pool().await;
    let source = "
import os
os.makedirs('a/b/c'); os.makedirs('.hidden')
for name in 'one.txt', 'two.txt', 'three.csv', 'a/four.txt', 'a/b/c/five.txt', '.hidden/six.txt', 'x1', 'x2', 'é.txt':
    open(name, 'w').write(name)
os.chmod('two.txt', 0o600)
";
    let run = |globs: &'static [&'static str]| {
        let client = client.clone();
        async move {
            let spec = globs
                .iter()
                .fold(python(source), |spec, glob| spec.output(glob));
            spec.run(&client).await.exited(0)
        }
    };
    let done = run(&["*.txt", "x[2-9]", "a/**", "one.txt", "nothing*"]).await;
    let paths: Vec<&String> = done.files.keys().collect();
    assert_eq!(
        paths,
        [
            "a/b/c/five.txt",
            "a/four.txt",
            "one.txt",
            "two.txt",
            "x2",
            "é.txt"
        ]
    );
    for (path, file) in &done.files {
        assert_eq!(file.content, path.as_bytes());
    }
    assert_eq!(
        (done.files["two.txt"].mode, done.files["one.txt"].mode),
        (0o600, 0o644)
    );
    assert_eq!(done.usage().output_files_omitted, 0);
    let done = run(&["**/*.txt", "?hree.csv"]).await;
    assert!(done.files.contains_key("a/b/c/five.txt") && done.files.contains_key("three.csv"));
}

#[tokio::test]
async fn links_pipes_and_directories_are_not_output() {
    let (_server, client) = main_pool().await;
    let source = "
echo real > real.txt
ln -s /etc/passwd link.txt
ln -s /run/sandpool linked
mkfifo pipe.txt
mkdir dir.txt
";
    let done = bash(source)
        .output("*.txt")
        .output("linked/*")
        .output("linked/**")
        .run(&client)
        .await
        .exited(0);
    let paths: Vec<&String> = done.files.keys().collect();
    assert_eq!(
        paths,
        ["real.txt"],
        "what a link leads to is not the program's output"
    );
}

#[tokio::test]
async fn a_large_file_comes_whole() {
    let (_server, client) = main_pool().await;
    let source = "open('big', 'wb').write(bytes(i % 251 for i in range(251)) * 30000)";
    let done = python(source).output("big").run(&client).await.exited(0);
    let expected: Vec<u8> = (0..=250).collect::<Vec<u8>>().repeat(30_000);
    assert!(done.files["big"].content == expected);
}

#[tokio::test]
async fn what_is_over_the_budget_is_left_out_and_counted() {
    let (_server, client) = main_pool().await;
    let source =
        "head -c 5000 /dev/zero > a; head -c 6000 /dev/zero > b; head -c 4000 /dev/zero > c";
    let done = bash(source)
        .output("*")
        .limits(|limits| limits.output_file_bytes = 10_000)
        .run(&client)
        .await
        .exited(0);
    let paths: Vec<&String> = done.files.keys().collect();
    assert_eq!(paths, ["a", "c"]);
    assert_eq!(done.usage().output_files_omitted, 1);
}

#[tokio::test]
async fn a_file_that_is_as_it_is_known_neither_comes_nor_counts() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let (before, mut after) = (vec![b'x'; 9_000], vec![b'x'; 9_000]);
    after[0] = b'y';
    // By a mapping, which gVisor gives no time of change.
    let source = "import mmap; f = open('b', 'r+'); m = mmap.mmap(f.fileno(), 0); m[0] = ord('y')";
    for spec in [
        cell(source, &context),
        python(source).within(&named.id),
        python(source),
    ] {
        let done = spec
            .file("a", before.clone())
            .file("b", before.clone())
            .known("a", &before)
            .known("b", &before)
            .output("*")
            .limits(|limits| limits.output_file_bytes = 10_000)
            .run(&client)
            .await
            .printed("");
        let paths: Vec<&String> = done.files.keys().collect();
        assert_eq!(paths, ["b"]);
        assert!(done.files["b"].content == after);
        assert_eq!(done.usage().output_files_omitted, 0);
    }
    named.delete().await;
}

#[tokio::test]
async fn files_come_whatever_the_end_was() {
    let (_server, client) = main_pool().await;
    let write = "echo partial > out; ";
    let killed = bash(&format!("{write} kill -9 $$"))
        .output("out")
        .run(&client)
        .await
        .signaled(9, "SIGKILL");
    assert_eq!(killed.files["out"].content, b"partial\n");
    let late = bash(&format!("{write} sleep 1000"))
        .output("out")
        .timeout(std::time::Duration::from_secs(4))
        .run(&client)
        .await
        .timed_out();
    assert_eq!(late.files["out"].content, b"partial\n");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_starts_nothing() {
    let (_server, client) = main_pool().await;
    // The whole fits into the volumes together, and not into the one that it goes to.
    let done = bash("echo ran")
        .file("a", vec![0; 20 << 20])
        .pool("tight")
        .run(&client)
        .await;
    let v1::finished::Outcome::NotStarted(not_started) = done.outcome() else {
        panic!("{}", done.describe())
    };
    assert!(
        not_started.reason.contains("cannot write /workspace/a: "),
        "{}",
        not_started.reason
    );
    assert!(
        not_started.reason.contains("No space left"),
        "{}",
        not_started.reason
    );
    // Nor does a part of it stay where others would find it, nor does a link lead it out.
    let tight = client
        .named_with(|request| request.pool = "tight".into())
        .await;
    bash("ln -s /dev/shm out")
        .within(&tight.id)
        .run(&client)
        .await
        .exited(0);
    for (path, content, words) in [
        ("a", vec![0; 20 << 20], "No space left"),
        ("out/b", vec![0], "a link leads to /dev/shm/b"),
    ] {
        let done = bash("echo ran").file(path, content).within(&tight.id);
        let done = done.run(&client).await;
        let v1::finished::Outcome::NotStarted(not_started) = done.outcome() else {
            panic!("{}", done.describe())
        };
        assert!(not_started.reason.contains(words), "{}", not_started.reason);
    }
    let left = bash("ls -A . /dev/shm").within(&tight.id);
    left.run(&client).await.printed(".:\nout\n\n/dev/shm:\n");
    tight.delete().await;
}

#[tokio::test]
async fn a_file_that_a_program_made_unreadable_is_counted() {
    let (_server, client) = main_pool().await;
    let done = bash("echo x > a; chmod 0 a; echo y > b")
        .output("*")
        .run(&client)
        .await
        .exited(0);
    assert!(done.files.contains_key("b"));
    assert_eq!(
        done.files.len() as u32 + done.usage().output_files_omitted,
        2
    );
}

#[tokio::test]
async fn node_finds_modules_in_the_working_directory() {
    let (_server, client) = main_pool().await;
    let source = "
const own = require('./own'), data = require('./data.json'), it = require('it');
console.log(own.twice(data.n), it);
try { require('./none') } catch (e) { console.log(e.code, e.message.split('\\n')[0]) }
";
    node(source)
        .pool("node")
        .directory("project")
        .file("own.js", "exports.twice = require('./other')")
        .file("other.js", "module.exports = (n) => 2 * n")
        .file("data.json", "{\"n\": 21}")
        .file("node_modules/it/index.js", "module.exports = 'it'")
        .run(&client)
        .await
        .printed("42 it\nMODULE_NOT_FOUND Cannot find module './none'\n");
}
