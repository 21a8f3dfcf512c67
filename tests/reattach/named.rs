//! Several programs, and file operations, over the connections of one sandbox that lives on.

use std::time::Duration;

use bytes::Bytes;
use sandpool::{
    execution::{FileOperation, Outcome, Spec, WriteHow},
    sandbox::{FileOutput, Input, Operation, OperationError, Sandbox},
};
use tokio::sync::{mpsc, watch};

use crate::{
    program::{Plan, in_one_sandbox, run_in, run_in_and_see},
    relay::{Fault, When},
};

const MIB: usize = 1 << 20;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// Does something with files: the content that comes of it.
async fn operate(
    sandbox: &Sandbox,
    id: &str,
    operation: FileOperation,
    content: &[u8],
) -> Result<Vec<u8>, OperationError> {
    let (to_sandbox, mut input) = mpsc::channel(2);
    let (output, mut received) = mpsc::channel(2);
    let (_stopper, stop) = watch::channel(None);
    let spec = Spec::file_operation(operation);
    let operate = async {
        let operation = Operation {
            id,
            spec: &spec,
            input: &mut input,
            output: &output,
            stop,
            reattach_timeout: Duration::from_secs(30),
        };
        let rest = sandbox.operate(operation).await;
        drop(output);
        rest
    };
    let send = async {
        for piece in content.chunks(100_000) {
            let piece = Input::Data(Bytes::copy_from_slice(piece));
            to_sandbox.send(piece).await.unwrap();
        }
        to_sandbox.send(Input::Close).await.unwrap();
    };
    let take = async {
        let mut given = Vec::new();
        while let Some(output) = received.recv().await {
            given.push(output);
        }
        given
    };
    let (rest, (), mut given) = tokio::join!(operate, send, take);
    given.extend(rest?);
    let content = given.into_iter().filter_map(|given| match given {
        FileOutput::Content(content) => Some(content),
        FileOutput::Info(_) => None,
    });
    Ok(content.collect::<Vec<_>>().concat())
}

fn write(path: &str) -> FileOperation {
    FileOperation::Write {
        path: path.into(),
        mode: 0o644,
        how: WriteHow::Replace,
    }
}

fn read(path: &str) -> FileOperation {
    FileOperation::Read {
        path: path.into(),
        offset: 0,
        length: None,
    }
}

#[test]
fn no_byte_is_lost_or_doubled_of_anything_by_cuts_that_all_see() {
    let source = "import sys\nfor n in range(400_000): print(n)";
    let numbers: String = (0..400_000).map(|n| format!("{n}\n")).collect();
    let data = pattern(20 * MIB);
    in_one_sandbox(
        |faults| {
            for (at, fault) in (1..=8).zip([Fault::Cut, Fault::Reset].into_iter().cycle()) {
                faults.plan(When::FromAgent(at * 500_000), fault);
                faults.plan(When::ToAgent(at * 400_000), fault);
            }
        },
        async |sandbox, faults| {
            operate(sandbox, "w1", write("/workspace/first"), &data)
                .await
                .unwrap();
            let programs = async {
                tokio::join!(
                    run_in(sandbox, "a", Plan::python(source)),
                    run_in(sandbox, "b", Plan::python(source)),
                )
            };
            let (programs, read_back, written) = tokio::join!(
                programs,
                operate(sandbox, "r1", read("/workspace/first"), b""),
                operate(sandbox, "w2", write("/workspace/second"), &data),
            );
            for (ended, stdout) in [programs.0, programs.1] {
                assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
                assert!(stdout == numbers.as_bytes());
            }
            assert!(read_back.unwrap() == data);
            written.unwrap();
            let second = operate(sandbox, "r2", read("/workspace/second"), b"").await;
            assert!(second.unwrap() == data);
            assert!(faults.connections() > 10, "{}", faults.connections());
        },
    );
}

#[test]
fn a_start_that_was_not_confirmed_is_sent_again_and_runs_once() {
    in_one_sandbox(
        |faults| faults.plan(When::EndAfter(b"Starting gVisor"), Fault::Cut),
        async |sandbox, _| {
            let source = "open('ran', 'a').write('x'); print(open('ran').read())";
            let (ended, stdout) = run_in(sandbox, "once", Plan::python(source)).await;
            assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
            assert_eq!(stdout, b"x\n");
        },
    );
}

#[test]
fn a_connection_that_was_cut_between_two_programs_costs_nothing() {
    for fault in [Fault::Cut, Fault::Reset] {
        in_one_sandbox(
            |_| {},
            async |sandbox, faults| {
                for (number, id) in ["1", "2", "3"].into_iter().enumerate() {
                    let (ended, stdout) = run_in(sandbox, id, Plan::python("print('ran')")).await;
                    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
                    assert_eq!(stdout, b"ran\n");
                    faults.connected(number + 1).await;
                    faults.now(fault);
                }
            },
        );
    }
}

#[test]
fn a_program_that_times_out_while_nobody_reaches_it_ends_all_the_same() {
    in_one_sandbox(
        |_| {},
        async |sandbox, faults| {
            let mut plan = Plan::python("import time\nprint('here', flush=True)\ntime.sleep(1000)");
            plan.spec.limits.timeout = Duration::from_secs(2);
            let (ended, _) = run_in_and_see(sandbox, "sleeps", plan, |stdout| {
                assert_eq!(stdout, b"here\n");
                faults.refuse(true);
                faults.now(Fault::Cut);
            })
            .await;
            assert!(matches!(ended.unwrap().outcome, Outcome::TimedOut(_)));
            faults.refuse(false);
            let count = "
import glob
def line(path):
    try: return open(path, 'rb').read()
    except OSError: return b''
print(sum(b'main.py' in line(path) for path in glob.glob('/proc/[0-9]*/cmdline')))
";
            // Itself, and the interpreter that waits.
            let (_, stdout) = run_in(sandbox, "counts", Plan::python(count)).await;
            let processes: u32 = String::from_utf8(stdout).unwrap().trim().parse().unwrap();
            assert!(processes <= 2, "{processes}");
        },
    );
}
