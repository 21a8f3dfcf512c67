//! Cuts at the moments at which they hurt most, and what has to be applied exactly once.

use std::time::Duration;

use sandpool::execution::Outcome;

use crate::{
    program::{IdleCut, Plan},
    relay::{Fault, When},
};

const SIGUSR1: i32 = 10;

#[test]
fn what_never_confirmed_its_start_is_handed_back() {
    // The kernel's log is in the preparation's answer. Of the execution nothing passes then, so
    // the start message arrives and its confirmation does not.
    let (ended, seen) = Plan::python("print(1)").run(
        |faults| faults.plan(When::EndAfter(b"Starting gVisor"), Fault::Cut),
        async |client| client.rest().await,
    );
    assert!(ended.is_err());
    assert_eq!((seen.started, seen.stdout), (0, Vec::new()));
}

#[test]
fn a_cut_right_after_the_start_costs_nothing() {
    for fault in [Fault::Cut, Fault::Reset] {
        let (ended, seen) = Plan::python("print(input())").run(
            |_| {},
            async |mut client| {
                client.started().await;
                client.faults.now(fault);
                client.send("hello\n").await;
                client.rest().await
            },
        );
        assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
        assert_eq!((seen.started, &seen.stdout[..]), (1, &b"hello\n"[..]));
    }
}

#[test]
fn a_cut_while_nothing_flows_is_mended_at_once() {
    let (ended, seen) = Plan::python("print('ready')\nprint(input())").run(
        |_| {},
        async |mut client| {
            client.until("ready\n").await;
            for connections in 1..=3 {
                client.faults.connected(connections).await;
                client.faults.now(Fault::Cut);
            }
            client.faults.connected(4).await;
            client.send("still there\n").await;
            client.rest().await
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    assert_eq!(seen.stdout, b"ready\nstill there\n");
}

#[test]
fn a_cut_before_the_program_comes_costs_nothing() {
    for idle in [IdleCut::Mended, IdleCut::NotMended] {
        let mut plan = Plan::python("print(input())");
        plan.idle = idle;
        let (ended, (seen, connections)) = plan.run(
            |_| {},
            async |client| {
                client.send("hello\n").await;
                let faults = client.faults.clone();
                (client.rest().await, faults.connections())
            },
        );
        assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
        assert_eq!((seen.started, &seen.stdout[..]), (1, &b"hello\n"[..]));
        // The program may come while the second one is being made, which is given up then.
        assert!((2..=3).contains(&connections), "{connections}");
    }
}

/// As from an API server that accepts the exec and cannot reach the node yet.
#[test]
fn a_new_connection_that_says_nothing_costs_the_idle_sandbox_nothing() {
    let mut plan = Plan::python("print(input())");
    plan.idle = IdleCut::NotAnswered;
    let (ended, seen) = plan.run(
        |faults| {
            faults.plan(When::Told, Fault::Cut);
            faults.plan(When::FromAgent(0), Fault::Stall);
        },
        async |client| {
            client.send("hello\n").await;
            client.rest().await
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    assert_eq!((seen.started, &seen.stdout[..]), (1, &b"hello\n"[..]));
}

#[test]
fn the_end_is_told_again_when_it_was_lost() {
    for fault in [Fault::Cut, Fault::Reset] {
        let source = "import sys\nprint('last words')\nsys.exit(7)";
        let (ended, (seen, connections)) = Plan::python(source).run(
            |faults| faults.plan(When::EndAfter(b"last words\n"), fault),
            async |client| {
                let faults = client.faults.clone();
                (client.rest().await, faults.connections())
            },
        );
        assert_eq!(ended.unwrap().outcome, Outcome::Exited(7));
        assert_eq!(seen.stdout, b"last words\n");
        assert_eq!(connections, 2);
    }
}

#[test]
fn a_reattach_that_is_cut_itself_is_tried_again() {
    let (ended, (seen, connections)) = Plan::python("print('ready')\nprint(input())").run(
        |faults| {
            faults.plan(When::Told, Fault::Cut);
            for bytes in [0, 8, 20, 60, 90] {
                faults.plan(When::FromAgent(bytes), Fault::Cut);
                faults.plan(When::ToAgent(bytes * 2), Fault::Reset);
            }
        },
        async |mut client| {
            client.until("ready\n").await;
            client.faults.now(Fault::Reset);
            client.send("after all\n").await;
            let faults = client.faults.clone();
            (client.rest().await, faults.connections())
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    assert_eq!(seen.stdout, b"ready\nafter all\n");
    assert_eq!(connections, 12);
}

#[test]
fn a_reattach_that_stalls_is_given_up_for_another() {
    let (ended, seen) = Plan::python("print('ready')\nprint(input())").run(
        |faults| {
            faults.plan(When::Told, Fault::Cut);
            faults.plan(When::FromAgent(0), Fault::Stall);
        },
        async |mut client| {
            client.until("ready\n").await;
            client.faults.now(Fault::Cut);
            client.send("after all\n").await;
            client.rest().await
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    assert_eq!(seen.stdout, b"ready\nafter all\n");
}

/// Counts what reaches it. Signals are waited for, since handlers would merge them.
const COUNTER: &str = r#"
import os, signal, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
def read():
    for line in sys.stdin:
        os.write(1, b"line " + line.encode())
thread = threading.Thread(target=read)
thread.start()
os.write(1, b"ready\n")
signals = 0
while True:
    if signal.sigtimedwait([signal.SIGUSR1], 0.1):
        signals += 1
        os.write(1, b"signal %d\n" % signals)
    elif not thread.is_alive():
        break
print("in all", signals)
"#;

#[test]
fn signals_and_input_around_a_cut_are_applied_once() {
    // Two cuts each, and those planned: fewer than a sandbox is forgiven.
    const ROUNDS: usize = 6;
    let (ended, seen) = Plan::python(COUNTER).run(
        |faults| {
            faults.plan(When::Told, Fault::Cut);
            // Somewhere in the message that is sent, or in its acknowledgement.
            for round in 0..ROUNDS as u64 / 2 {
                faults.plan(When::ToAgent(170 + 23 * round), Fault::Cut);
                faults.plan(When::FromAgent(70 + 23 * round), Fault::Cut);
            }
        },
        async |mut client| {
            client.until("ready\n").await;
            for round in 1..=ROUNDS {
                client.signal(SIGUSR1).await;
                client.faults.now(Fault::Cut);
                client.until(&format!("signal {round}\n")).await;
                client.send(format!("{round}\n")).await;
                client.faults.now(Fault::Cut);
                client.until(&format!("line {round}\n")).await;
            }
            client.input = None;
            client.rest().await
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    let expected: String = (1..=ROUNDS)
        .map(|round| format!("signal {round}\nline {round}\n"))
        .chain([format!("in all {ROUNDS}\n")])
        .collect();
    let expected = format!("ready\n{expected}");
    assert_eq!(String::from_utf8_lossy(&seen.stdout), expected);
}

#[test]
fn a_signal_reaches_a_program_whose_stdin_is_closed() {
    for open in [true, false] {
        let mut plan = Plan::python(
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n\
             print('ready')\nsignal.sigwait([signal.SIGUSR1])\nprint('told')",
        );
        plan.spec.stdin_open = open;
        let (ended, seen) = plan.run(
            |_| {},
            async |mut client| {
                client.close_input().await;
                client.until("ready\n").await;
                client.signal(SIGUSR1).await;
                client.rest().await
            },
        );
        assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
        assert_eq!(seen.stdout, b"ready\ntold\n");
    }
}

#[test]
fn a_program_that_kills_everyone_keeps_its_second_connection() {
    // `attach` dies of it, which brought that connection.
    let source =
        "import os\nprint('ready')\ninput()\nos.kill(-1, 9)\nprint('alone')\nprint(input())";
    let (ended, (seen, connections)) = Plan::python(source).run(
        |_| {},
        async |mut client| {
            client.until("ready\n").await;
            client.faults.now(Fault::Cut);
            client.faults.connected(2).await;
            client.send("\n").await;
            client.until("alone\n").await;
            client.send("and heard\n").await;
            let faults = client.faults.clone();
            (client.rest().await, faults.connections())
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    assert_eq!(seen.stdout, b"ready\nalone\nand heard\n");
    assert_eq!(connections, 2);
}

#[test]
fn a_program_is_timed_out_over_its_second_connection() {
    let mut plan = Plan::python("print('ready')\nwhile True: pass");
    plan.spec.limits.timeout = Duration::from_secs(3);
    let (ended, seen) = plan.run(
        |_| {},
        async |mut client| {
            client.until("ready\n").await;
            client.faults.now(Fault::Cut);
            client.rest().await
        },
    );
    let timed_out = Outcome::TimedOut(Duration::from_secs(3));
    assert_eq!(ended.unwrap().outcome, timed_out);
    assert_eq!(seen.stdout, b"ready\n");
}
