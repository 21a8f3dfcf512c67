//! `sandpool sandbox`, `sandpool run --sandbox` and `sandpool cp`, as docs/sandboxes.md has them.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use crate::harness::*;

async fn sandpool_says(server: &Server, args: &[&str]) -> String {
    let output = output(sandpool(server, args)).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

async fn sandpool_fails(server: &Server, args: &[&str]) -> String {
    let output = output(sandpool(server, args)).await;
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_sandbox_is_created_used_listed_extended_and_deleted() {
    let (server, _client) = main_pool().await;
    let label = format!("task=cli-{}", std::process::id());
    let create = [
        "sandbox",
        "create",
        "--pool",
        "named",
        "--lifetime",
        "1h",
        "--label",
        &label,
        "--env",
        "WHO=me",
    ];
    let id = sandpool_says(&server, &create).await.trim().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("sales.csv"), "region,amount\nwest,2\neast,1\n").unwrap();
    fs::set_permissions(at("sales.csv"), fs::Permissions::from_mode(0o600)).unwrap();
    sandpool_says(&server, &["cp", &at("sales.csv"), &format!("{id}:")]).await;
    let source =
        "sort sales.csv > sorted.csv; chmod 640 sorted.csv; echo $WHO; stat -c %a sales.csv";
    let run = ["run", "--sandbox", &id, "--language", "bash", "-c", source];
    assert_eq!(sandpool_says(&server, &run).await, "me\n600\n");
    sandpool_says(&server, &["cp", &format!("{id}:sorted.csv"), &at("")]).await;
    let copied = fs::read_to_string(at("sorted.csv")).unwrap();
    assert_eq!(copied, "east,1\nregion,amount\nwest,2\n");
    let mode = fs::metadata(at("sorted.csv")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    let listed = sandpool_says(&server, &["sandbox", "list", "--label", &label]).await;
    let [head, row] = listed.lines().collect::<Vec<_>>()[..] else {
        panic!("{listed}");
    };
    assert!(head.starts_with("SANDBOX"), "{head}");
    assert!(row.starts_with(&id) && row.ends_with(&label), "{row}");
    let extended = sandpool_says(&server, &["sandbox", "extend", &id, "2h"]).await;
    assert_ne!(extended.lines().nth(1), Some(row));
    sandpool_says(&server, &["sandbox", "delete", &id]).await;
    let gone = sandpool_fails(&server, &["sandbox", "get", &id]).await;
    assert!(
        gone.contains("NOT_FOUND") && gone.contains("deleted by its caller"),
        "{gone}"
    );
}

#[tokio::test]
async fn a_shell_is_a_terminal_and_takes_its_sandbox_along() {
    let server =
        Server::with("[pools.main]\nmin_idle = 1\nmax_sandboxes = 2\nlanguages.bash = {}\n");
    let server = server.start();
    let client = server.client().await;
    let mut shell = Typed::start(&server, &["shell", "--pool", "main"], 30, 100);
    shell.until("$ ").await;
    assert!(!shell.is_cooked());
    shell.type_in("stty size; echo $TERM $((6*7))\r");
    shell.until("30 100\r\nxterm 42\r\n").await;
    shell.type_in("until [ \"$(stty size)\" = '40 120' ]; do :; done; echo re\"\"sized\r");
    shell.resize(40, 120);
    shell.until("resized").await;
    // To what runs in there, and not to sandpool.
    shell.type_in("sh -c 'echo started; exec sleep 1000'\r");
    // What is typed has no line end there.
    shell.until("started\r\n").await;
    shell.type_in("\x03");
    shell.type_in("exit 7\r");
    assert_eq!(shell.ended().await, 7);
    assert!(shell.is_cooked(), "the terminal is as it was");
    client.wait_full("main").await;

    let piped = output(sandpool(&server, &["shell"])).await;
    assert_eq!(piped.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("stdin is not a terminal"));
}

#[tokio::test]
async fn a_shell_that_is_told_to_end_leaves_its_sandbox_and_its_terminal_as_they_were() {
    let (server, client) = main_pool().await;
    let named = client.named().await;
    named.write("here", b"").await.unwrap();
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        let mut shell = Typed::start(&server, &["shell", "--sandbox", &named.id], 30, 100);
        shell.until("$ ").await;
        shell.type_in("ls\r");
        shell.until("here\r\n").await;
        shell.signal(signal);
        assert_eq!(shell.ended().await, 128 + signal);
        assert!(shell.is_cooked());
    }
    let program = [
        "shell",
        "--sandbox",
        &named.id,
        "--",
        "sh",
        "-c",
        "echo it; exit 5",
    ];
    let mut program = Typed::start(&server, &program, 30, 100);
    program.until("it\r\n").await;
    assert_eq!(program.ended().await, 5);
    named.get().await;
    named.delete().await;
}

#[tokio::test]
async fn what_is_copied_shows_how_far_it_is_as_far_as_that_is_known() {
    let (server, client) = main_pool().await;
    let named = client.named().await;
    let local = tempfile::tempdir().unwrap();
    let file = local.path().join("file");
    fs::write(&file, vec![b'x'; 3 << 20]).unwrap();
    let (file, directory) = (file.to_str().unwrap(), local.path().to_str().unwrap());
    let (there, back) = (format!("{}:there/", named.id), format!("{directory}/back"));
    for (from, to, is_known) in [
        (file, &there, true),
        (&format!("{there}file"), &back, true),
        (directory, &there, false),
        (
            &format!("{}:there", named.id),
            &back.replace("back", "tree"),
            false,
        ),
    ] {
        let mut copy = Typed::start(&server, &["cp", from, to], 30, 100);
        let shown = copy.until("MiB/s\r\n").await.to_owned();
        assert_eq!(copy.ended().await, 0, "{shown}");
        assert_eq!(shown.contains("100%"), is_known, "{shown}");
    }
    named.delete().await;
}

#[tokio::test]
async fn what_was_left_running_is_listed_and_attached_to() {
    let (server, client) = main_pool().await;
    let named = client.named().await;
    let source =
        "echo first; until [ -e go ]; do sleep 0.05; done; echo last; echo err >&2; exit 6";
    let run = [
        "run",
        "--detach",
        "--sandbox",
        &named.id,
        "--language",
        "bash",
        "-c",
        source,
    ];
    let id = sandpool_says(&server, &run).await.trim().to_owned();
    let executions = ["executions", "--sandbox", &named.id];
    let listed = sandpool_says(&server, &executions).await;
    let row = listed.lines().nth(1).expect("it is listed");
    assert!(row.starts_with(&id) && row.contains("runs"), "{listed}");
    named.write("go", b"").await.unwrap();
    let attached = output(sandpool(&server, &["attach", &id])).await;
    assert_eq!(attached.status.code(), Some(6));
    assert_eq!(String::from_utf8_lossy(&attached.stdout), "first\nlast\n");
    assert_eq!(String::from_utf8_lossy(&attached.stderr), "err\n");
    let listed = sandpool_says(&server, &executions).await;
    assert!(listed.contains("exit 6"), "{listed}");
    let unknown = output(sandpool(&server, &["attach", "no-such"])).await;
    assert_eq!(unknown.status.code(), Some(125));
    named.delete().await;
}

#[tokio::test]
async fn a_listing_that_nobody_reads_is_no_crash() {
    let (server, _client) = main_pool().await;
    for args in [&["pools"][..], &["executions"], &["sandbox", "list"]] {
        let mut command = sandpool(&server, args);
        command.stdout(unread());
        let listed = soon("its end", command.spawn().unwrap().wait_with_output()).await;
        let listed = listed.unwrap();
        assert_eq!(
            listed.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&listed.stderr)
        );
    }
}

#[tokio::test]
async fn a_directory_is_copied_whole() {
    let (server, client) = main_pool().await;
    let named = client.named().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(at("tree/deep")).unwrap();
    fs::write(at("tree/deep/file"), "content").unwrap();
    sandpool_says(&server, &["cp", &at("tree"), &format!("{}:", named.id)]).await;
    bash("cat tree/deep/file; ln -s /etc/passwd tree/deep/out; chmod u+s tree/deep/file")
        .within(&named.id)
        .run(&client)
        .await
        .printed("content");
    let back = [&format!("{}:tree", named.id)[..], &at("back")];
    let output = output(sandpool(&server, &[&["cp"], &back[..]].concat())).await;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 links were left out"));
    assert_eq!(fs::read_to_string(at("back/deep/file")).unwrap(), "content");
    let mode = fs::metadata(at("back/deep/file"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7000, 0);
    assert_eq!(fs::read_dir(at("back/deep")).unwrap().count(), 1);
    named.delete().await;
}

#[tokio::test]
async fn a_copy_that_fails_says_why_and_leaves_nothing() {
    let (server, client) = main_pool().await;
    let named = client.named().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (from, to, words) in [
        (
            format!("{}:nothing", named.id),
            at("x"),
            "NOT_FOUND: there is no such path",
        ),
        (
            at("nothing"),
            format!("{}:x", named.id),
            "No such file or directory",
        ),
        (at("x"), at("y"), "one of the two must be SANDBOX:PATH"),
        (
            format!("{}:/etc/passwd", named.id),
            at("x"),
            "INVALID_ARGUMENT",
        ),
        (
            "no-such:x".to_owned(),
            at("x"),
            "NOT_FOUND: there is no sandbox \"no-such\"",
        ),
    ] {
        let said = sandpool_fails(&server, &["cp", &from, &to]).await;
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    named.delete().await;
}

#[tokio::test]
async fn a_table_is_plotted_in_a_context_and_fetched() {
    let (server, _client) = main_pool().await;
    let id = sandpool_says(&server, &["sandbox", "create", "--pool", "named"]).await;
    let id = id.trim().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("sales.csv"), "region,amount\nwest,2\neast,5\n").unwrap();
    sandpool_says(&server, &["cp", &at("sales.csv"), &format!("{id}:")]).await;
    let context = sandpool_says(&server, &["context", "create", &id]).await;
    let context = context.trim().to_owned();
    let cell = ["run", "--sandbox", &id, "--context", &context];

    let read = "import pandas as pd\nsales = pd.read_csv('sales.csv')\nsales";
    let shown = sandpool_says(
        &server,
        &[&cell[..], &["--timeout", "60s", "-c", read]].concat(),
    )
    .await;
    assert_eq!(
        shown,
        "  region  amount\n0   west       2\n1   east       5\n"
    );
    let plot =
        "axes = sales.plot.bar(x='region')\naxes.figure.savefig('sales.png')\nprint('drawn')";
    fs::write(at("plot.py"), plot).unwrap();
    let (shown_to, script) = (at("shown"), at("plot.py"));
    let rest = ["--timeout", "60s", "--output-dir", &shown_to, &script];
    let shown = sandpool_says(&server, &[&cell[..], &rest].concat()).await;
    assert_eq!(shown, "drawn\n<Figure size 640x480 with 1 Axes>\n");
    sandpool_says(&server, &["cp", &format!("{id}:sales.png"), &at("")]).await;
    for png in ["shown/display-1.png", "sales.png"] {
        assert!(fs::read(at(png)).unwrap().starts_with(b"\x89PNG"), "{png}");
    }

    let fails = sandpool(
        &server,
        &[&cell[..], &["-c", "print(len(sales))\n1/0"]].concat(),
    );
    let failed = output(fails).await;
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(failed.stdout, b"2\n");
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(
        said.starts_with("Traceback") && said.ends_with("ZeroDivisionError: division by zero\n")
    );
    let ends = sandpool(
        &server,
        &[&cell[..], &["-c", "import os; os._exit(4)"]].concat(),
    );
    let ended = output(ends).await;
    assert_eq!(ended.status.code(), Some(4));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(
        said,
        "sandpool: the context has ended, and its state is gone\n"
    );
    let listed = sandpool_says(&server, &["context", "list", &id]).await;
    let row = listed.lines().nth(1).unwrap();
    assert!(
        row.starts_with(&context) && row.ends_with("exit code 4"),
        "{row}"
    );
    sandpool_says(&server, &["context", "delete", &id, &context]).await;
    assert_eq!(
        sandpool_says(&server, &["context", "list", &id])
            .await
            .lines()
            .count(),
        1
    );
    sandpool_says(&server, &["sandbox", "delete", &id]).await;
}

/// The most that a process has had so far, in bytes.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = peak.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[tokio::test]
async fn a_file_of_a_gibibyte_is_copied_in_little_memory() {
    only_local!("the memory of a server in a cluster is not this machine's");
    const GIBIBYTE: u64 = 1 << 30;
    // The sandbox has no room for the file twice.
    let pool = "[pools.main]\nmin_idle = 1\nmax_sandboxes = 2\nlanguages.bash = {}\n\
                volumes.workspace = \"1100MiB\"\n";
    let server = Server::with(pool).start();
    let client = server.client().await;
    let named = client
        .named_with(|request| request.pool = "main".into())
        .await;
    let local = tempfile::tempdir().unwrap();
    let (there, back) = (format!("{}:file", named.id), local.path().join("back"));
    let file = local.path().join("file");
    File::create(&file).unwrap().set_len(GIBIBYTE).unwrap();
    for (from, to) in [
        (file.to_str().unwrap(), there.as_str()),
        (there.as_str(), back.to_str().unwrap()),
    ] {
        let mut copy = sandpool(&server, &["cp", from, to]).spawn().unwrap();
        let (pid, mut peak) = (copy.id().unwrap(), 0);
        let end = loop {
            tokio::select! {
                end = copy.wait() => break end.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    peak = peak_memory(pid).unwrap_or(peak);
                }
            }
        };
        assert!(end.success());
        assert!((1..GIBIBYTE / 4).contains(&peak), "{from}: {peak}");
    }
    assert_eq!(back.metadata().unwrap().len(), GIBIBYTE);
    let peak = peak_memory(server.pid()).unwrap();
    assert!(peak < GIBIBYTE / 4, "the server: {peak}");
    named.delete().await;
}
