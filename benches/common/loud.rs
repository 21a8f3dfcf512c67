//! A program that is loud on stdout, and how fast that is read.

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sandpool::proto::v1::{self, ExecuteRequest, execute_request, execute_response::Event};

use super::{Executions, python};

/// Writes this many MB in blocks of 64 KiB.
pub fn loud(megabytes: usize) -> String {
    format!(
        "import os\nb = b'x' * 65536\nn = {megabytes} * 1000000\nwhile n > 0: n -= os.write(1, b[:min(n, 65536)])\n"
    )
}

/// Writes a time to stderr every 10 ms while a thread is loud on stdout.
pub fn loud_beside_stderr(megabytes: usize) -> String {
    format!(
        "import threading, time, sys\ndef tick():\n while True:\n  sys.stderr.write(f'{{time.time_ns()}}\\n'); time.sleep(.01)\nthreading.Thread(target=tick, daemon=True).start()\n{}",
        loud(megabytes)
    )
}

/// Runs it through Sandpool: MB/s from the first byte, and how late each time on stderr came.
pub async fn through_sandpool(
    client: &mut Executions,
    source: &str,
    megabytes: usize,
) -> (f64, Vec<Duration>) {
    let mut spec = python(source);
    spec.limits = Some(v1::Limits {
        output_bytes: 4 << 30,
        timeout: Some(prost_types::Duration {
            seconds: 300,
            nanos: 0,
        }),
        ..v1::Limits::default()
    });
    let request = ExecuteRequest {
        event: Some(execute_request::Event::Start(spec)),
    };
    let mut answers = client
        .execute(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let (mut bytes, mut begun, mut delays, mut line) = (0, None, Vec::new(), Vec::new());
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.event.unwrap() {
            Event::Stdout(data) => {
                begun.get_or_insert_with(Instant::now);
                bytes += data.len();
            }
            Event::Stderr(data) => {
                let now = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap();
                line.extend_from_slice(&data);
                while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    let text: Vec<u8> = line.drain(..=end).collect();
                    let sent: u64 = String::from_utf8(text).unwrap().trim().parse().unwrap();
                    delays.push(now.saturating_sub(Duration::from_nanos(sent)));
                }
            }
            _ => {}
        }
    }
    assert_eq!(bytes, megabytes * 1_000_000);
    (
        megabytes as f64 / begun.unwrap().elapsed().as_secs_f64(),
        delays,
    )
}

/// Reads what a command prints: MB/s from the first byte.
pub fn through_a_pipe(mut command: Command, megabytes: usize) -> f64 {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = stdout.read(&mut buffer).unwrap();
    let begun = Instant::now();
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            n => bytes += n,
        }
    }
    let rate = megabytes as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(bytes, megabytes * 1_000_000);
    assert!(child.wait().unwrap().success());
    rate
}

/// Prints a table of rates, each side's by its name, and the ratio of the medians of the first two.
pub fn print_rates(sides: &mut [(&str, Vec<f64>)]) {
    println!("| | lowest | median | highest |\n|---|---|---|---|");
    let mut medians = Vec::new();
    for (name, rates) in sides {
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        println!(
            "| {name} | {:.0} | {median:.0} | {:.0} |",
            rates[0],
            rates[rates.len() - 1]
        );
        medians.push(median);
    }
    println!("\nratio of the medians: {:.2}", medians[0] / medians[1]);
}
