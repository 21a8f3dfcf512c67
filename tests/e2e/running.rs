//! Programs run as they do on a machine of their own.

use std::time::Duration;

use crate::harness::*;
use v1::finished::Outcome;

#[tokio::test]
async fn a_python_program_runs_in_a_warm_interpreter() {
    let (_server, client) = main_pool().await;
    let done = python("print(6*7)").run(&client).await.printed("42\n");
    assert!(done.timings().warm);
    let started = done.started.unwrap();
    assert_eq!(started.pool, "main");
    assert_eq!(started.execution_id.len(), 32, "an id is made up");
}

#[tokio::test]
async fn a_source_may_be_as_large_as_a_request() {
    let (_server, client) = main_pool().await;
    let long = "x".repeat(20_000_000);
    python(&format!("text = '{long}'\nprint(len(text))"))
        .run(&client)
        .await
        .printed("20000000\n");
}

#[tokio::test]
async fn a_traceback_shows_the_source_lines() {
    let (_server, client) = main_pool().await;
    let source = "def f():\n    return 1 / 0  # here\n\nf()\n";
    let done = python(source).run(&client).await.exited(1);
    let err = done.err();
    assert!(
        err.starts_with("Traceback (most recent call last):\n"),
        "{err}"
    );
    assert!(
        err.contains("main.py\", line 2, in f\n    return 1 / 0  # here\n"),
        "{err}"
    );
    assert!(
        err.ends_with("ZeroDivisionError: division by zero\n"),
        "{err}"
    );
    assert!(!err.contains("sitecustomize"), "{err}");
}

#[tokio::test]
async fn a_syntax_error_is_pythons_own() {
    let (_server, client) = main_pool().await;
    let done = python("x = 1\nif x\n").run(&client).await.exited(1);
    assert!(done.err().contains("line 2\n    if x\n"), "{}", done.err());
    assert!(
        done.err().contains("SyntaxError: expected ':'"),
        "{}",
        done.err()
    );
}

#[tokio::test]
async fn a_python_program_is_its_main_module() {
    let (_server, client) = main_pool().await;
    let source = "
import sys, __main__, inspect
print(__name__, __main__.__dict__ is globals(), sys.argv[1:], sys.argv[0] == __file__)
print(open(__file__).read() == inspect.getsource(__main__), __package__, __spec__)
print(sys.flags.interactive, sys.stdin.isatty(), 'sitecustomize' in ''.join(sys.path))
print('atexit' in sys.modules)
";
    python(source)
        .args(&["a b", "", "ü", "--x=$HOME"])
        .run(&client)
        .await
        .printed(
            "__main__ True ['a b', '', 'ü', '--x=$HOME'] True\nTrue None None\n0 False False\nFalse\n",
        );
}

#[tokio::test]
async fn input_reads_stdin_line_by_line() {
    let (_server, client) = main_pool().await;
    let source = "a = input(); b = input('? ')\nprint(a + b)\ntry:\n    input()\nexcept EOFError:\n    print('end')";
    python(source)
        .stdin("x\ny\n")
        .run(&client)
        .await
        .printed("? xy\nend\n");
}

#[tokio::test]
async fn atexit_and_threads_run_to_their_end() {
    let (_server, client) = main_pool().await;
    let source = "
import atexit, threading
atexit.register(print, 'atexit')
go = threading.Event()
def work():
    go.wait()
    print('thread')
threading.Thread(target=work).start()
print('main')
go.set()
";
    python(source)
        .run(&client)
        .await
        .printed("main\nthread\natexit\n");
}

#[tokio::test]
async fn every_kind_of_exit_has_its_code() {
    let (_server, client) = main_pool().await;
    for (source, code, err) in [
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit(256 + 7)", 7, ""),
        ("import sys; sys.exit('in words')", 1, "in words\n"),
        ("raise SystemExit((1, 2))", 1, "(1, 2)\n"),
        ("import os; os._exit(9)", 9, ""),
    ] {
        let done = python(source).run(&client).await.exited(code);
        assert_eq!(
            (done.out().as_str(), done.err().as_str()),
            ("", err),
            "{source}"
        );
    }
}

#[tokio::test]
async fn os_exit_skips_atexit_and_loses_nothing_that_was_written() {
    let (_server, client) = main_pool().await;
    let source = "
import atexit, os
atexit.register(print, 'atexit')
os.write(1, b'written')
os._exit(5)
";
    let done = python(source).run(&client).await.exited(5);
    assert_eq!(done.out(), "written");
}

#[tokio::test]
async fn multiprocessing_works_by_fork_and_by_spawn() {
    let (_server, client) = main_pool().await;
    let source = "
import multiprocessing as mp
def square(x):
    return x * x
if __name__ == '__main__':
    for method in 'fork', 'spawn':
        with mp.get_context(method).Pool(2) as pool:
            print(method, pool.map(square, range(5)))
";
    python(source)
        .run(&client)
        .await
        .printed("fork [0, 1, 4, 9, 16]\nspawn [0, 1, 4, 9, 16]\n");
}

#[tokio::test]
async fn a_signal_that_ends_a_program_is_told() {
    let (_server, client) = main_pool().await;
    for (signal, name) in [(6, "SIGABRT"), (9, "SIGKILL"), (11, "SIGSEGV"), (34, "")] {
        let source = format!("import os; os.kill(os.getpid(), {signal})");
        python(&source).run(&client).await.signaled(signal, name);
    }
}

#[tokio::test]
async fn a_bash_script_runs() {
    let (_server, client) = main_pool().await;
    let done = bash("echo \"$# $1|$2\"; read -r line; echo \"$line\" >&2; exit 4")
        .args(&["a b", "$HOME"])
        .stdin("from stdin\n")
        .run(&client)
        .await
        .exited(4);
    assert_eq!(done.out(), "2 a b|$HOME\n");
    assert_eq!(done.err(), "from stdin\n");
    assert!(done.timings().warm);
}

#[tokio::test]
async fn bash_sees_nothing_of_how_it_was_started() {
    let (_server, client) = main_pool().await;
    bash("echo \"[${BASH_ENV-unset}] [${REPLY-unset}] $- ${BASH_SOURCE[0]##*/}\"")
        .run(&client)
        .await
        .printed("[unset] [unset] hB main.sh\n");
}

#[tokio::test]
async fn a_node_program_runs() {
    let (_server, client) = main_pool().await;
    let source = "
process.stdin.on('data', d => process.stdout.write('got ' + d));
process.stdin.on('end', () => { console.error(process.argv.slice(2)); process.exitCode = 6; });
";
    let done = node(source)
        .args(&["a b"])
        .stdin("x")
        .run(&client)
        .await
        .exited(6);
    assert_eq!(done.out(), "got x");
    assert_eq!(done.err(), "[ 'a b' ]\n");
    assert!(done.timings().warm);
    let done = node("throw new Error('mine')").run(&client).await.exited(1);
    assert!(
        done.err().contains("throw new Error('mine')"),
        "{}",
        done.err()
    );
}

#[tokio::test]
async fn a_command_runs_by_path_and_by_name() {
    let (_server, client) = main_pool().await;
    command(&["/bin/echo", "a  b", "*"])
        .run(&client)
        .await
        .printed("a  b *\n");
    let done = command(&["sh", "-c", "echo out; echo err >&2; exit 7"])
        .run(&client)
        .await
        .exited(7);
    assert_eq!(
        (done.out().as_str(), done.err().as_str()),
        ("out\n", "err\n")
    );
    assert!(!done.timings().warm);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_not_started() {
    let (_server, client) = main_pool().await;
    for (program, reason) in [
        ("/no/such/program", "No such file or directory"),
        ("no-such-program", "No such file or directory"),
        ("/usr", "Permission denied"),
    ] {
        let done = command(&[program]).run(&client).await;
        let Outcome::NotStarted(not_started) = done.outcome() else {
            panic!("{}", done.describe())
        };
        assert!(
            not_started.reason.contains(program),
            "{}",
            not_started.reason
        );
        assert!(
            not_started.reason.contains(reason),
            "{}",
            not_started.reason
        );
        assert!(done.started.is_none());
    }
}

#[tokio::test]
async fn more_env_than_comes_in_one_read_is_seen() {
    let (_server, client) = main_pool().await;
    let long = "x".repeat(100_000);
    for spec in [
        python("import os; print(len(os.environ['LONG']))"),
        bash("echo ${#LONG}"),
        node("console.log(process.env.LONG.length)"),
    ] {
        let done = spec.env("LONG", &long).run(&client).await;
        let done = done.printed("100000\n");
        assert!(done.timings().warm);
    }
}

#[tokio::test]
async fn env_is_seen_by_the_program_and_its_children() {
    let (_server, client) = main_pool().await;
    let source = "
import os, subprocess
print(os.environ['A'], os.getenv('EMPTY') == '', os.environb[b'U'].decode())
print(subprocess.check_output(['sh', '-c', 'echo \"$A $U\"'], text=True), end='')
print(os.environ['HOME'], os.environ['PATH'])
print(sorted(k for k in os.environ if k.startswith(('PYTHON', 'SANDPOOL'))))
";
    let spec = python(source)
        .env("A", "a=b c")
        .env("EMPTY", "")
        .env("U", "ü\n'");
    let expected = "a=b c True ü\n'\na=b c ü\n'\n/home/sandbox /usr/local/bin:/usr/bin:/bin\n[]\n";
    let done = spec.run(&client).await.printed(expected);
    assert!(done.timings().warm, "no variable needs a fresh interpreter");
    bash("echo \"$A\"; sh -c 'echo $A'")
        .env("A", "x'y")
        .run(&client)
        .await
        .printed("x'y\nx'y\n");
    node("console.log(process.env.A)")
        .env("A", "x'y")
        .run(&client)
        .await
        .printed("x'y\n");
    command(&["printenv", "A"])
        .env("A", "x'y")
        .run(&client)
        .await
        .printed("x'y\n");
}

#[tokio::test]
async fn variables_that_are_read_at_process_start_get_a_fresh_interpreter() {
    let (_server, client) = main_pool().await;
    let hash = "print(hash('x'))";
    let first = python(hash)
        .env("PYTHONHASHSEED", "7")
        .run(&client)
        .await
        .exited(0);
    let second = python(hash)
        .env("PYTHONHASHSEED", "7")
        .run(&client)
        .await
        .exited(0);
    assert_eq!(first.out(), second.out());
    assert!(!first.timings().warm);

    let source = "import sys, locale; print(sys.flags.utf8_mode, locale.getlocale())";
    let done = python(source)
        .env("PYTHONUTF8", "1")
        .env("LANG", "C")
        .run(&client)
        .await
        .exited(0);
    assert!(done.out().starts_with("1 "), "{}", done.out());
    assert!(!done.timings().warm);

    let done = python("import mine; print(mine.X)")
        .file("lib/mine.py", "X = 'from the path'")
        .env("PYTHONPATH", "/workspace/lib")
        .run(&client)
        .await
        .printed("from the path\n");
    assert!(!done.timings().warm);
}

#[tokio::test]
async fn tz_holds_in_a_warm_interpreter() {
    let (_server, client) = main_pool().await;
    let source = "import time; print(time.tzname[0], time.localtime(0).tm_hour)";
    let done = python(source)
        .env("TZ", "XYZ-5")
        .run(&client)
        .await
        .printed("XYZ 5\n");
    assert!(done.timings().warm);
    bash("date -d @0 +%H%Z")
        .env("TZ", "XYZ-5")
        .run(&client)
        .await
        .printed("05XYZ\n");
}

#[tokio::test]
async fn a_program_starts_in_its_working_directory() {
    let (_server, client) = main_pool().await;
    // Like every script of another directory, it has that one first in its path.
    let where_am_i = "import os, sys; print(os.getcwd(), sys.path[1])";
    python(where_am_i)
        .run(&client)
        .await
        .printed("/workspace /workspace\n");
    python(where_am_i)
        .directory("new/dir")
        .run(&client)
        .await
        .printed("/workspace/new/dir /workspace/new/dir\n");
    bash("pwd")
        .directory("/workspace/it's")
        .run(&client)
        .await
        .printed("/workspace/it's\n");
    command(&["pwd"])
        .directory("d")
        .run(&client)
        .await
        .printed("/workspace/d\n");
    python("import sibling")
        .file("sibling.py", "print('imported')")
        .run(&client)
        .await
        .printed("imported\n");
}

#[tokio::test]
async fn run_gives_the_same_whole() {
    let (_server, client) = main_pool().await;
    let spec =
        python("import sys; print('ü'); sys.stderr.write('e'); open('o.txt', 'w').write(input())")
            .output("*.txt")
            .stdin("content\n");
    let text = spec.clone().run_whole(&client, true).await.unwrap();
    assert_eq!(
        (text.stdout_text.as_str(), text.stderr_text.as_str()),
        ("ü\n", "e")
    );
    assert!(text.stdout.is_empty() && text.cut.is_none());
    assert_eq!(text.output_files[0].path, "o.txt");
    assert_eq!(&text.output_files[0].content[..], b"content");
    assert_eq!(
        text.finished.unwrap().outcome,
        Some(Outcome::Exited(v1::Exited { code: 0 }))
    );
    let bytes = spec.run_whole(&client, false).await.unwrap();
    assert_eq!(&bytes.stdout[..], "ü\n".as_bytes());
    assert!(bytes.stdout_text.is_empty());
    assert_ne!(
        bytes.sandbox_id, text.sandbox_id,
        "each run has a sandbox of its own"
    );
}

#[tokio::test]
async fn what_run_cannot_hold_is_cut_and_counted() {
    let (_server, client) = main_pool().await;
    let spec =
        python("import sys; sys.stdout.write('x' * 6_000_000)").timeout(Duration::from_secs(60));
    let response = spec.run_whole(&client, false).await.unwrap();
    let cut = response.cut.expect("something was cut");
    assert_eq!(response.stdout.len() as u64 + cut.stdout_bytes, 6_000_000);
    assert_eq!(
        response.finished.unwrap().usage.unwrap().stdout_bytes,
        6_000_000
    );
}

#[tokio::test]
async fn usage_leaves_the_warm_up_out() {
    let (_server, client) = main_pool().await;
    let cpu = |done: &Done| Duration::try_from(done.usage().cpu_time.unwrap()).unwrap();
    let idle = python("pass").run(&client).await.exited(0);
    let source = "import time\nwhile time.process_time() < 0.6: pass";
    // The process has used some CPU time before it was given the program.
    let busy = python(source).run(&client).await.exited(0);
    assert!(cpu(&idle) < Duration::from_millis(300), "{:?}", cpu(&idle));
    assert!(cpu(&busy) > cpu(&idle), "{:?}", cpu(&busy));
}
