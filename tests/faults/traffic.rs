//! Programs that say and hear much, of which every byte is looked at.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::harness::*;

/// Prints what cannot be mistaken for something else, and at the end the hash of its input.
const SOURCE: &str = "
import hashlib, sys, threading, time
total, piece, pause = map(int, sys.argv[1:4])
def say():
    number = 0
    for _ in range(total // piece):
        lines = bytearray()
        while len(lines) < piece:
            lines += b'%015d\\n' % number
            number += 1
        sys.stdout.buffer.write(lines[:piece])
        sys.stdout.buffer.flush()
        time.sleep(pause / 1000)
thread = threading.Thread(target=say)
thread.start()
digest = hashlib.sha256()
while data := sys.stdin.buffer.read1(65536):
    digest.update(data)
thread.join()
print(digest.hexdigest(), file=sys.stderr, end='')
";

/// How much a program says and hears, and how fast.
#[derive(Clone, Copy)]
pub struct Traffic {
    /// Bytes of output; a whole number of pieces.
    pub output: usize,
    /// Bytes of input.
    pub input: usize,
    /// Bytes of one piece, either way.
    pub piece: usize,
    /// After each of them.
    pub pause: Duration,
}

/// A program that runs.
pub struct Flow {
    pub sandbox: String,
    traffic: Traffic,
    done: JoinHandle<Done>,
}

impl Traffic {
    /// Starts a program, and says to it what there is to say.
    pub async fn start(self, client: &Client) -> Flow {
        let numbers = [self.output, self.piece, self.pause.as_millis() as usize];
        let numbers = numbers.map(|number| number.to_string());
        let mut execution = python(SOURCE)
            .args(&numbers.each_ref().map(String::as_str))
            .stdin_open()
            .start(client)
            .await;
        let sandbox = execution.started().await;
        let input = execution.take_input();
        tokio::spawn(async move {
            for piece in input_of(self.input).chunks(self.piece) {
                input.send(piece.to_vec()).await;
                tokio::time::sleep(self.pause).await;
            }
            input.close_stdin().await;
        });
        Flow {
            sandbox,
            traffic: self,
            done: tokio::spawn(execution.finish()),
        }
    }
}

impl Flow {
    /// Waits for its end, and asserts that nothing is missing and nothing came twice.
    pub async fn whole(self) {
        let done = soon("the end", self.done).await.unwrap().exited(0);
        let Traffic { output, input, .. } = self.traffic;
        assert!(
            done.stdout == output_of(output),
            "{} bytes came: not those of {output}",
            done.stdout.len()
        );
        assert_eq!(done.err(), sha256(&input_of(input)));
    }
}

fn output_of(length: usize) -> Vec<u8> {
    (0..length / 16)
        .flat_map(|number| format!("{number:015}\n").into_bytes())
        .collect()
}

fn input_of(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number % 251) as u8).collect()
}

/// The hash by coreutils: no crate for that.
fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    String::from_utf8(output).unwrap()[..64].to_owned()
}
