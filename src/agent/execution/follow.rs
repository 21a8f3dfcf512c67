//! A program from its start to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep},
};

use super::{AFTER_EXIT, Execution, State};
use crate::{
    agent::{
        files::{OutputFiles, Step},
        interpreters::Program,
        memory::Overrun,
        pipes::Outputs,
    },
    proto::agent::{Exited, Start, Stream, exited, start},
    reaper::End,
};

impl Execution {
    /// Follows a program to its end.
    pub(super) async fn follow(self: Arc<Self>, program: Program, start: Start) {
        let (ended, has_ended) = watch::channel(None);
        let Program {
            process,
            pipes,
            cpu_time_before,
            used_for_start,
            directory,
            memory_before,
            ..
        } = program;
        let mark = self.state().mark;
        let by_the_server = matches!(pipes.outputs, Outputs::Direct(_));
        let feeder = tokio::spawn(self.clone().feed(pipes.stdin));
        let output = async {
            match pipes.outputs {
                Outputs::Direct(_) => {}
                Outputs::Read { stdout, stderr } => {
                    tokio::join!(
                        self.clone().pump(Stream::Stdout, stdout, has_ended.clone()),
                        self.clone().pump(Stream::Stderr, stderr, has_ended),
                    );
                }
                Outputs::Terminal(terminal) => {
                    self.clone().watch_terminal(terminal, has_ended).await;
                }
            }
        };

        let prepared = self.sandbox.prepared().ok();
        let peak = AtomicU64::new(0);
        let mut share = match (start.named, mark, &prepared) {
            (Some(named), Some(mark), Some(prepared)) => {
                let (own, all) = (start.memory_bytes, named.memory_bytes);
                Some(prepared.shares.watch(mark, memory_before, own, all))
            }
            _ => None,
        };
        let exit = async {
            let mut overrun = None;
            let mut exit = process.exit;
            let watch = async {
                match (&mut share, &prepared) {
                    (Some(share), _) => share.overrun().await,
                    (None, Some(prepared)) => {
                        prepared
                            .memory
                            .overrun(start.memory_bytes, start.disk_bytes, &peak)
                            .await
                    }
                    (None, None) => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                exit = &mut exit => return (exit, overrun),
                passed = watch => overrun = Some(passed),
            }
            self.kill();
            (exit.await, overrun)
        };
        let exit = async {
            let exit = exit.await;
            self.change(|state| {
                // It may become another process's.
                state.pid = None;
                state.terminal = None;
            });
            ended.send_replace(Some(Instant::now() + AFTER_EXIT));
            exit
        };
        let ((exit, overrun), ()) = tokio::join!(exit, output);
        feeder.abort();
        drop(used_for_start);
        if let Some(share) = &share {
            peak.store(share.peak(), Ordering::Relaxed);
        }
        if let Some(mark) = mark.filter(|_| !by_the_server) {
            mark.kill_all();
        }
        self.change(State::drop_input);

        let omitted = self.collect(&start).await;
        let (end, cpu_time) = match exit {
            Ok(exit) => (exit.end, exit.cpu_time.saturating_sub(cpu_time_before)),
            // The reaper never drops what it has not answered.
            Err(_) => (End::Signal(libc::SIGKILL), Duration::ZERO),
        };
        let end = match (overrun, end) {
            (Some(Overrun::Memory(bytes)), _) => exited::End::OutOfMemory(bytes),
            (Some(Overrun::Disk(bytes)), _) => exited::End::DiskLimit(bytes),
            (None, End::Code(code)) => exited::End::Code(code),
            (None, End::Signal(signal)) => exited::End::Signal(signal),
        };
        let exited = Exited {
            end: Some(end),
            cpu_time_us: u64::try_from(cpu_time.as_micros()).unwrap_or(u64::MAX),
            peak_memory_bytes: peak.load(Ordering::Relaxed),
            output_files_omitted: omitted,
            ..Exited::default()
        };
        if let Some(start::Program::Context(context)) = &start.program {
            self.sandbox.contexts.end(&context.id, &exited);
        }
        self.has_exited(exited);
        let Some(mark) = mark else { return };
        if by_the_server && mark.is_on_anyone() {
            // The server reads what they write meanwhile.
            sleep(AFTER_EXIT).await;
            mark.kill_all();
        }
        if let Some(directory) = directory {
            // What is left of it costs a little memory.
            let _ = std::fs::remove_dir_all(directory);
        }
    }

    /// Gives the server the output files; returns how many were left out.
    pub(super) async fn collect(&self, start: &Start) -> u32 {
        if start.output_paths.is_empty() {
            // Not even a look for the directory.
            return 0;
        }
        let mut files = OutputFiles::find(
            &start.working_directory,
            &start.output_paths,
            &start.known_files,
            start.output_file_bytes,
        );
        while let Some(step) = files.step() {
            match step {
                Step::Piece(bytes) => self.fill(2, bytes.into()).await,
                // The agent has one thread, and other executions.
                Step::Nothing => yield_now().await,
            }
        }
        files.omitted
    }
}
