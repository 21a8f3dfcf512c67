//! No byte of output or input is lost or doubled, wherever a connection is cut.

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use sandpool::{execution::Outcome, sandbox::Event};
use sha2::{Digest, Sha256};

use crate::{
    program::{Client, Plan},
    relay::{Fault, Faults, When},
};

const MIB: u64 = 1 << 20;
/// What the output repeats, each time after the repetition's number.
const BLOCK: usize = 1_000_003;
const BLOCKS: u64 = 100;
const LINES: u64 = 20_000;

fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SmallRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// Faults after random numbers of bytes: of two connections one lasts long, one hardly begins.
fn random_faults(faults: &Faults, seed: u64, count: u32, when: fn(u64) -> When, most: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    for number in 0..count {
        // The first one has to last until the program has started.
        let bytes = match number % 2 {
            0 => random.random_range(MIB..most),
            _ => random.random_range(0..2000),
        };
        let fault = [Fault::Cut, Fault::Reset][random.random_range(0..2)];
        faults.plan(when(bytes), fault);
    }
}

/// Checks a stream piece by piece against what it should be.
struct Checked<F> {
    expected: F,
    waiting: Vec<u8>,
    next: u64,
    length: u64,
}

impl<F: FnMut(u64) -> Option<Vec<u8>>> Checked<F> {
    fn new(expected: F) -> Self {
        Self {
            expected,
            waiting: Vec::new(),
            next: 0,
            length: 0,
        }
    }

    fn take(&mut self, data: &[u8]) {
        while self.waiting.len() < data.len() {
            let more = (self.expected)(self.next).expect("more than there should be");
            self.waiting.extend(more);
            self.next += 1;
        }
        let same = self.waiting.drain(..data.len()).eq(data.iter().copied());
        assert!(same, "other bytes after {}", self.length);
        self.length += data.len() as u64;
    }

    fn end(mut self) -> u64 {
        let rest = self.waiting.is_empty() && (self.expected)(self.next).is_none();
        assert!(rest, "it ends after {}", self.length);
        self.length
    }
}

/// Reads all events, with stdout and stderr checked on the way; returns their lengths.
async fn check(
    client: &mut Client,
    stdout: impl FnMut(u64) -> Option<Vec<u8>>,
    stderr: impl FnMut(u64) -> Option<Vec<u8>>,
) -> (u64, u64) {
    let (mut stdout, mut stderr) = (Checked::new(stdout), Checked::new(stderr));
    while let Some(event) = client.events.recv().await {
        match event {
            Event::Stdout(data) => stdout.take(&data),
            Event::Stderr(data) => stderr.take(&data),
            Event::Started(_) | Event::File(_) | Event::Display(_) => {}
        }
    }
    (stdout.end(), stderr.end())
}

#[test]
fn output_is_whole_however_often_it_is_cut() {
    let block = random_bytes(1, BLOCK);
    let source = format!(
        r#"
import os, sys, threading
block = open("block", "rb").read()
def lines():
    for i in range({LINES}):
        os.write(2, b"line %d\n" % i)
thread = threading.Thread(target=lines)
thread.start()
for i in range({BLOCKS}):
    sys.stdout.buffer.write(i.to_bytes(8, "big") + block)
thread.join()
"#
    );
    let plan = Plan::python(&source).file("block", Bytes::from(block.clone()));
    let (ended, (lengths, connections)) = plan.run(
        |faults| random_faults(faults, 2, 16, When::FromAgent, 11 * MIB),
        async |mut client| {
            let stdout = |i: u64| (i < BLOCKS).then(|| [&i.to_be_bytes()[..], &block[..]].concat());
            let stderr = |i: u64| (i < LINES).then(|| format!("line {i}\n").into_bytes());
            let lengths = check(&mut client, stdout, stderr).await;
            (lengths, client.faults.connections())
        },
    );
    let ended = ended.unwrap();
    assert_eq!(ended.outcome, Outcome::Exited(0));
    assert_eq!(lengths.0, BLOCKS * (8 + BLOCK as u64));
    assert_eq!(
        (ended.usage.stdout_bytes, ended.usage.stderr_bytes),
        lengths
    );
    assert_eq!(connections, 17, "not every planned cut happened");
}

#[test]
fn input_is_whole_however_often_it_is_cut() {
    let connections = what_cat_is_given_comes_back(|faults| {
        // `cat` gives back what it takes, so the output's way is cut as often.
        random_faults(faults, 4, 8, When::ToAgent, 3 * MIB);
        random_faults(faults, 5, 8, When::FromAgent, 3 * MIB);
    });
    assert_eq!(connections, 17, "not every planned cut happened");
}

#[test]
fn output_that_passes_beside_the_connection_does_not_notice_its_cuts() {
    let connections = what_cat_is_given_comes_back(|faults| {
        faults.let_output_pass_beside();
        random_faults(faults, 7, 8, When::ToAgent, 2 * MIB);
    });
    assert_eq!(connections, 9, "not every planned cut happened");
}

/// Returns how many connections it took.
fn what_cat_is_given_comes_back(faults: impl FnOnce(&Faults)) -> usize {
    let input = random_bytes(3, 20 << 20);
    let pieces: Vec<Bytes> = input.chunks(300_000).map(Bytes::copy_from_slice).collect();
    let (ended, (lengths, connections)) =
        Plan::command(&["/usr/bin/cat"]).run(faults, async |mut client| {
            let to_program = client.input.take().unwrap();
            let given = pieces.clone();
            let feeder = tokio::spawn(async move {
                for piece in given {
                    let piece = sandpool::sandbox::Input::Data(piece);
                    assert!(to_program.send(piece).await.is_ok(), "input is not taken");
                }
            });
            let stdout = |i: u64| pieces.get(i as usize).map(|piece| piece.to_vec());
            let lengths = check(&mut client, stdout, |_| None).await;
            feeder.await.unwrap();
            (lengths, client.faults.connections())
        });
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    assert_eq!(lengths, (input.len() as u64, 0));
    connections
}

/// As Python prints it.
fn hash(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    digits + "\n"
}

#[test]
fn output_files_are_whole_although_they_are_cut() {
    let source = r#"
import pathlib, random
for name in "ab":
    pathlib.Path(name).write_bytes(random.Random(name).randbytes(3_000_000))
import hashlib
for name in "ab":
    print(hashlib.sha256(pathlib.Path(name).read_bytes()).hexdigest())
"#;
    let mut plan = Plan::python(source);
    plan.spec.output_paths = vec!["*".into()];
    let (ended, (files, said)) = plan.run(
        |faults| random_faults(faults, 6, 4, When::FromAgent, 2 * MIB),
        async |mut client| {
            let mut files = std::collections::BTreeMap::<String, Vec<u8>>::new();
            let mut said = Vec::new();
            while let Some(event) = client.events.recv().await {
                if let Event::Stdout(data) = event {
                    said.extend_from_slice(&data);
                } else if let Event::File(chunk) = event {
                    let file = files.entry(chunk.path).or_default();
                    assert_eq!(chunk.offset, file.len() as u64);
                    file.extend_from_slice(&chunk.content);
                    assert_eq!(chunk.last, file.len() == 3_000_000);
                }
            }
            (files, said)
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "b"]);
    let hashes: String = files.values().map(|content| hash(content)).collect();
    assert_eq!(String::from_utf8(said).unwrap(), hashes);
}

/// On Kubernetes whatever ends a program ends the exec, too: it is a process of the sandbox.
#[test]
fn output_files_of_a_program_that_was_ended_are_whole_although_they_are_cut() {
    let source = r#"
open("big", "wb").write(bytes(8_000_000))
print("x" * 100_000)
input()
"#;
    let mut plan = Plan::python(source);
    plan.spec.output_paths = vec!["big".into()];
    plan.spec.limits.output_bytes = 50_000;
    let (ended, length) = plan.run(
        |faults| faults.plan(When::FromAgent(2 * MIB), Fault::Cut),
        async |mut client| {
            let mut length = 0;
            while let Some(event) = client.events.recv().await {
                if let Event::File(chunk) = event {
                    assert_eq!(chunk.offset, length);
                    length += chunk.content.len() as u64;
                }
            }
            length
        },
    );
    let outcome = ended.unwrap().outcome;
    assert!(matches!(outcome, Outcome::OutputLimit(_)), "{outcome:?}");
    assert_eq!(length, 8_000_000);
}

#[test]
fn many_small_output_files_all_come() {
    let source = r#"
for i in range(500):
    open(f"{i}.txt", "w").write(str(i))
"#;
    let mut plan = Plan::python(source);
    plan.spec.output_paths = vec!["*.txt".into()];
    let (ended, files) = plan.run(
        |_| {},
        async |mut client| {
            let mut files = std::collections::BTreeSet::new();
            while let Some(event) = client.events.recv().await {
                if let Event::File(chunk) = event {
                    let name = chunk.path.strip_suffix(".txt").map(str::as_bytes);
                    assert_eq!(name, Some(&chunk.content[..]));
                    files.insert(chunk.path);
                }
            }
            files
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    assert_eq!(files.len(), 500);
}
