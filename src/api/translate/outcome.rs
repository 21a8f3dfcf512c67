//! From what happened to the public messages about it.

use std::time::{Duration, SystemTime};

use crate::{
    dispatch::{Finished, OutputStream, Summary, Told, Update},
    execution::{Display, LostCause, Outcome},
    proto::v1::{self, execute_response::Event as V1Event, finished::Outcome as V1Outcome},
    sandbox::{Event, OutputChunk},
};

/// The names of Linux's signals 1 to 31 (signal(7)), in order.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// One message of Execute's answer.
#[must_use]
pub fn response(update: Update, execution_id: &str, pool: &str) -> v1::ExecuteResponse {
    let event = match update {
        Update::Event(Event::Started(sandbox)) => V1Event::Started(v1::Started {
            execution_id: execution_id.to_owned(),
            sandbox_id: sandbox.to_string(),
            pool: pool.to_owned(),
        }),
        Update::Event(Event::Stdout(data)) => V1Event::Stdout(data),
        Update::Event(Event::Stderr(data)) => V1Event::Stderr(data),
        Update::Event(Event::File(chunk)) => V1Event::OutputFile(output_file(chunk)),
        Update::Event(Event::Display(shown)) => V1Event::Display(display(shown)),
        Update::Finished(end) => V1Event::Finished(finished(*end)),
    };
    v1::ExecuteResponse { event: Some(event) }
}

/// The same of a record.
#[must_use]
pub fn told(told: Told, execution_id: &str, pool: &str) -> v1::ExecuteResponse {
    match told {
        Told::Update(update) => response(update, execution_id, pool),
        Told::Gap {
            stream,
            offset,
            bytes,
        } => {
            let stream = match stream {
                OutputStream::Stdout => v1::gap::Stream::Stdout,
                OutputStream::Stderr => v1::gap::Stream::Stderr,
                OutputStream::Displays => v1::gap::Stream::Displays,
                OutputStream::Files => v1::gap::Stream::OutputFiles,
            };
            let gap = v1::Gap {
                stream: stream.into(),
                offset,
                bytes,
            };
            v1::ExecuteResponse {
                event: Some(V1Event::Gap(gap)),
            }
        }
    }
}

/// What is known of an execution.
#[must_use]
pub fn summary(summary: Summary) -> v1::ExecutionSummary {
    let [stdout_bytes, stderr_bytes] = summary.output;
    v1::ExecutionSummary {
        execution_id: summary.execution_id,
        sandbox_id: summary.sandbox.map(|it| it.to_string()).unwrap_or_default(),
        pool: summary.pool,
        labels: summary.labels.into_iter().collect(),
        create_time: timestamp(summary.created_at),
        stdout_bytes,
        stderr_bytes,
        finished: summary.finished.map(|end| finished(*end)),
    }
}

/// One piece of an output file.
#[must_use]
pub fn output_file(chunk: OutputChunk) -> v1::OutputFile {
    v1::OutputFile {
        path: chunk.path,
        mode: chunk.mode,
        size: chunk.size,
        offset: chunk.offset,
        content: chunk.content,
        last: chunk.last,
    }
}

/// The end.
#[must_use]
pub fn finished(end: Finished) -> v1::Finished {
    let Finished {
        outcome,
        usage,
        timings,
        error,
        context_ended,
        execution_count,
    } = end;
    let outcome = match outcome {
        Outcome::Exited(code) => V1Outcome::Exited(v1::Exited { code }),
        Outcome::Signaled(signal) => V1Outcome::Signaled(v1::Signaled {
            signal,
            name: signal_name(signal),
        }),
        Outcome::TimedOut(timeout) => V1Outcome::TimedOut(v1::TimedOut {
            timeout: duration(timeout),
        }),
        Outcome::OutOfMemory(memory_bytes) => {
            V1Outcome::OutOfMemory(v1::OutOfMemory { memory_bytes })
        }
        Outcome::DiskLimit(disk_bytes) => V1Outcome::DiskLimit(v1::DiskLimit { disk_bytes }),
        Outcome::OutputLimit(output_bytes) => {
            V1Outcome::OutputLimit(v1::OutputLimit { output_bytes })
        }
        Outcome::Cancelled(reason) => V1Outcome::Cancelled(v1::Cancelled { reason }),
        Outcome::Lost(cause, reason) => V1Outcome::SandboxLost(v1::SandboxLost {
            cause: match cause {
                LostCause::BeforeStart => v1::sandbox_lost::Cause::BeforeStart,
                LostCause::InfrastructureEvent => v1::sandbox_lost::Cause::InfrastructureEvent,
                LostCause::Unknown => v1::sandbox_lost::Cause::Unknown,
            }
            .into(),
            reason,
        }),
        Outcome::NotStarted(reason) => V1Outcome::NotStarted(v1::NotStarted { reason }),
    };
    v1::Finished {
        outcome: Some(outcome),
        usage: Some(v1::Usage {
            cpu_time: duration(usage.cpu_time),
            peak_memory_bytes: usage.peak_memory_bytes,
            stdout_bytes: usage.stdout_bytes,
            stderr_bytes: usage.stderr_bytes,
            output_files_omitted: usage.output_files_omitted,
            display_bytes: usage.display_bytes,
            displays_omitted: usage.displays_omitted,
        }),
        timings: Some(v1::Timings {
            queued: duration(timings.queued),
            leased: duration(timings.leased),
            started: timings.started.and_then(duration),
            first_output: timings.first_output.and_then(duration),
            finished: duration(timings.finished),
            warm: timings.warm,
        }),
        error: error.map(|error| v1::CodeError {
            name: error.name,
            value: error.value,
            traceback: error.traceback,
        }),
        context_ended,
        execution_count,
    }
}

/// What a cell shows.
#[must_use]
pub fn display(display: Display) -> v1::Display {
    let [stdout_offset, stderr_offset] = display.offsets;
    let omitted = display.omitted.into_iter();
    v1::Display {
        data: display.data.into_iter().collect(),
        metadata: display.metadata,
        is_result: display.is_result,
        omitted: omitted
            .map(|(mime_type, bytes)| v1::OmittedForm { mime_type, bytes })
            .collect(),
        stdout_offset,
        stderr_offset,
        ..v1::Display::default()
    }
}

fn signal_name(number: i32) -> String {
    usize::try_from(number)
        .ok()
        .and_then(|number| SIGNALS.get(number.checked_sub(1)?))
        .map_or_else(String::new, |name| format!("SIG{name}"))
}

/// `None` only beyond what protobuf's Duration holds, which is 10,000 years.
pub(in crate::api) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

/// `None` only before 1970.
pub(in crate::api) fn timestamp(time: SystemTime) -> Option<prost_types::Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        // Below 1,000,000,000.
        nanos: since.subsec_nanos() as i32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(11), "SIGSEGV");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(0), "");
        assert_eq!(signal_name(35), "");
    }
}
