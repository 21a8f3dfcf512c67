//! A program that is loud on stdout, and how fast that is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sandpool::proto::v1::{
    self, ExecuteRequest, ExecuteResponse, execute_request, execute_response::Event,
};
use tonic::Streaming;

use super::{Executions, ms, python, quantile, rates::rate};

/// Writes this many MB in blocks of 64 KiB.
pub fn loud(megabytes: usize) -> String {
    format!(
        "import os\nb = b'x' * 65536\nn = {megabytes} * 1000000\nwhile n > 0: n -= os.write(1, b[:min(n, 65536)])\n"
    )
}

/// Writes the time to stderr every 10 ms.
pub const TICKS: &str = "
import sys, time
def tick():
    while True:
        sys.stderr.write(f'{time.time_ns()}\\n')
        time.sleep(.01)
";

/// Ticks in a thread while it is loud on stdout.
pub fn loud_beside_stderr(megabytes: usize) -> String {
    let loud = loud(megabytes);
    format!("{TICKS}\nimport threading\nthreading.Thread(target=tick, daemon=True).start()\n{loud}")
}

/// How late the times on stderr came.
#[derive(Default)]
struct Delays {
    line: Vec<u8>,
    seen: Vec<Duration>,
}

impl Delays {
    fn hear(&mut self, data: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.line.extend_from_slice(data);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let text: Vec<u8> = self.line.drain(..=end).collect();
            let sent: u64 = String::from_utf8(text).unwrap().trim().parse().unwrap();
            self.seen
                .push(now.saturating_sub(Duration::from_nanos(sent)));
        }
    }
}

async fn start(client: &mut Executions, source: &str) -> Streaming<ExecuteResponse> {
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
    let answers = client.execute(tokio_stream::once(request)).await;
    answers.unwrap().into_inner()
}

/// Runs it through Sandpool: MB/s from the first byte, and how late each time on stderr came.
pub async fn through_sandpool(
    client: &mut Executions,
    source: &str,
    megabytes: usize,
) -> (f64, Vec<Duration>) {
    let mut answers = start(client, source).await;
    let (mut bytes, mut begun, mut delays) = (0, None, Delays::default());
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.event.unwrap() {
            Event::Stdout(data) => {
                begun.get_or_insert_with(Instant::now);
                bytes += data.len();
            }
            Event::Stderr(data) => delays.hear(&data),
            _ => {}
        }
    }
    let rate = rate(bytes, begun.unwrap());
    assert_eq!(bytes, megabytes * 1_000_000);
    (rate, delays.seen)
}

/// Ticks in a sandbox of its own until `until` resolves: how late each time came.
pub async fn ticks_during<T>(
    client: &mut Executions,
    until: impl Future<Output = T>,
) -> Vec<Duration> {
    let mut answers = start(client, &format!("{TICKS}\ntick()\n")).await;
    let mut delays = Delays::default();
    let mut until = std::pin::pin!(until);
    loop {
        tokio::select! {
            _ = &mut until => return delays.seen,
            answer = answers.message() => {
                if let Some(Event::Stderr(data)) = answer.unwrap().unwrap().event {
                    delays.hear(&data);
                }
            }
        }
    }
}

/// Prints how late the times came that a program wrote to stderr while one was loud.
pub fn print_delays(whose: &str, mut delays: Vec<Duration>) {
    let [p50, p99] = [0.5, 0.99].map(|q| ms(quantile(&mut delays, q)));
    println!(
        "\na line every 10 ms on stderr of {whose} meanwhile, from write to client, n = {}: \
         p50 {p50} ms, p99 {p99} ms",
        delays.len()
    );
}
