//! Programs on terminals.

use tonic::Code;

use crate::harness::*;
use v1::execute_request::Event;

fn size(rows: u32, columns: u32) -> v1::Terminal {
    v1::Terminal { rows, columns }
}

#[tokio::test]
async fn a_program_has_a_terminal_of_the_size_that_was_asked_for() {
    let (_server, client) = main_pool().await;
    let program = "test -t 0 && test -t 1 && test -t 2 && stty size; echo err >&2";
    let done = bash(program).terminal(33, 99).run(&client).await.exited(0);
    assert_eq!(done.out(), "33 99\r\nerr\r\n");
    assert_eq!(done.err(), "");
    let source = "import os, sys; print(sys.stdin.isatty(), *os.get_terminal_size())";
    let done = python(source).terminal(10, 40).run(&client).await.exited(0);
    assert_eq!(done.out(), "True 40 10\r\n");
    assert!(!done.timings().warm);
}

#[tokio::test]
async fn what_is_typed_goes_through_the_terminal_and_ctrl_c_interrupts() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let program = "trap 'echo interrupted' INT; echo ready; read -r line; echo \"got $line\"; sh -c 'echo started; exec sleep 1000'";
    let mut execution = command(&["/bin/bash", "-c", program])
        .within(&named.id)
        .terminal(24, 80)
        .start(&client)
        .await;
    execution.until_stdout("ready\r\n").await;
    execution.send("hello\n").await;
    // Echoed, and then taken.
    execution.until_stdout("hello\r\ngot hello\r\n").await;
    execution.until_stdout("\r\nstarted\r\n").await;
    execution.send("\x03").await;
    let done = execution.finish().await;
    assert!(
        // Linux's terminal would show ^C before it, gVisor's does not.
        done.out().contains("interrupted\r\n"),
        "{}",
        done.describe()
    );
    named.delete().await;
}

#[tokio::test]
async fn a_terminal_is_resized_and_ends_with_its_input() {
    let (_server, client) = main_pool().await;
    let program =
        "trap 'stty size' WINCH; echo ready; while read -r line; do echo \"$line\"; done; echo end";
    let mut execution = command(&["/bin/bash", "-c", program])
        .terminal(24, 80)
        .start(&client)
        .await;
    execution.until_stdout("ready\r\n").await;
    execution.send_event(Event::Resize(size(50, 132))).await;
    // Bash looks at its traps once the line is there that it reads.
    execution.send("line\n").await;
    execution.until_stdout("50 132\r\n").await;
    execution.close_stdin().await;
    let done = execution.finish().await.exited(0);
    assert!(done.out().ends_with("end\r\n"), "{}", done.describe());
}

#[tokio::test]
async fn a_shell_has_job_control() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let mut shell = command(&["/bin/bash", "--norc", "-i"])
        .within(&named.id)
        .env("PS1", "$ ")
        .terminal(24, 200)
        .start(&client)
        .await;
    shell.until_stdout("$ ").await;
    shell.send("sh -c 'echo started; exec sleep 1000'\n").await;
    shell.until_stdout("\r\nstarted\r\n").await;
    shell.send("\x1a").await;
    shell.until_stdout("Stopped").await;
    shell.send("kill %1; fg; exit 7\n").await;
    let done = shell.finish().await.exited(7);
    assert!(
        !done.out().contains("no job control"),
        "{}",
        done.describe()
    );
    named.delete().await;
}

#[tokio::test]
async fn sizes_that_no_terminal_has_are_refused() {
    let (_server, client) = main_pool().await;
    for (rows, columns, words) in [
        (
            0,
            80,
            "start.terminal.rows is 0, where 1 to 4096 are allowed",
        ),
        (
            24,
            5000,
            "start.terminal.columns is 5000, where 1 to 4096 are allowed",
        ),
    ] {
        let status = bash("echo never")
            .terminal(rows, columns)
            .refused(&client)
            .await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(words), "{status}");
    }
    for (program, event, words) in [
        (
            bash("cat").stdin_open(),
            size(24, 80),
            "resize came for a program without a terminal",
        ),
        (
            bash("cat").terminal(24, 80),
            size(24, 0),
            "resize.columns is 0",
        ),
    ] {
        let execution = program.start(&client).await;
        execution.send_event(Event::Resize(event)).await;
        let (_, status) = execution.fails().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(words), "{status}");
    }
}
