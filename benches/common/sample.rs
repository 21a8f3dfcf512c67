//! One program through Sandpool, and when its stages were reached.

use std::time::{Duration, Instant};

use sandpool::proto::v1::{self, ExecuteRequest, execute_request, execute_response::Event};

use super::{Executions, median_and_p99, ms, python};

/// Times since the request.
pub struct Sample {
    pub started: Duration,
    pub first_output: Duration,
    pub finished: Duration,
    /// The same as the server saw it.
    pub timings: v1::Timings,
}

/// Runs a Python program that prints something.
pub async fn execute(client: &mut Executions, source: &str) -> Sample {
    let request = ExecuteRequest {
        event: Some(execute_request::Event::Start(python(source))),
    };
    let sent = Instant::now();
    let mut answers = client
        .execute(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let (mut started, mut first_output) = (None, None);
    loop {
        match answers.message().await.unwrap().unwrap().event.unwrap() {
            Event::Started(_) => started = Some(sent.elapsed()),
            Event::Stdout(_) => _ = first_output.get_or_insert_with(|| sent.elapsed()),
            Event::Finished(finished) => {
                return Sample {
                    started: started.unwrap(),
                    first_output: first_output.unwrap(),
                    finished: sent.elapsed(),
                    timings: finished.timings.unwrap(),
                };
            }
            _ => {}
        }
    }
}

/// The median and the 99th percentile of one stage.
pub fn stage(samples: &[Sample], of: impl Fn(&Sample) -> Duration) -> [Duration; 2] {
    median_and_p99(&mut samples.iter().map(of).collect::<Vec<_>>())
}

/// Prints where the time goes.
pub fn print_stages(samples: &[Sample]) {
    println!("\nwhere it goes, p50 and p99 in ms since the request:");
    type Stage = fn(&Sample) -> Duration;
    let stages: [(&str, Stage); 7] = [
        ("server: leased", |s| server_time(s.timings.leased)),
        ("server: started", |s| server_time(s.timings.started)),
        ("client: Started", |s| s.started),
        ("server: first output", |s| {
            server_time(s.timings.first_output)
        }),
        ("client: first output", |s| s.first_output),
        ("server: finished", |s| server_time(s.timings.finished)),
        ("client: Finished", |s| s.finished),
    ];
    for (name, of) in stages {
        let [p50, p99] = stage(samples, of);
        println!("  {name:<22} {:>7} {:>7}", ms(p50), ms(p99));
    }
}

fn server_time(time: Option<prost_types::Duration>) -> Duration {
    time.unwrap().try_into().unwrap()
}
