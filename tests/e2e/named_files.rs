//! Files of sandboxes that live on.

use bytes::Bytes;
use tonic::Code;

use crate::harness::*;
use v1::{path_info::Kind, write_file_start::How};

#[tokio::test]
async fn what_is_written_is_read_and_programs_see_it() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    for length in [0, 1, 1 << 20, (5 << 20) + 3] {
        let data: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
        let info = named.write("deep/er/data", &data).await.unwrap();
        assert_eq!(info.path, "/workspace/deep/er/data");
        assert_eq!(
            (info.kind(), info.size, info.mode),
            (Kind::File, u64::from(length), 0o644)
        );
        assert_eq!(named.read("/workspace/deep/er/data").await.unwrap(), data);
        let (_, rest) = named.begin_read("deep/er/data", 1, None).await.unwrap();
        assert_eq!(
            content(rest).await.unwrap(),
            data.get(1..).unwrap_or_default()
        );
    }
    let (_, middle) = named
        .begin_read("deep/er/data", 250, Some(3))
        .await
        .unwrap();
    assert_eq!(content(middle).await.unwrap(), [250, 0, 1]);
    let (_, beyond) = named
        .begin_read("deep/er/data", 1 << 40, None)
        .await
        .unwrap();
    assert!(content(beyond).await.unwrap().is_empty());

    let mut script = named.file("run.sh");
    script.mode = 0o755;
    named
        .write_as(script, b"#!/bin/sh\nwc -c < deep/er/data\n")
        .await
        .unwrap();
    command(&["/workspace/run.sh"])
        .within(&named.id)
        .run(&client)
        .await
        .printed("5242883\n");
    bash("echo of a program > ~/made; umask 077; echo x > private")
        .within(&named.id)
        .run(&client)
        .await
        .exited(0);
    assert_eq!(
        named.read("/home/sandbox/made").await.unwrap(),
        b"of a program\n"
    );
    assert_eq!(named.stat("private").await.unwrap().mode, 0o600);
    named.delete().await;
}

#[tokio::test]
async fn a_file_is_replaced_at_once_created_once_or_written_into() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    named.write("f", b"old content").await.unwrap();
    // A reader of the old one keeps it.
    let (start, written) = client.begin_write(named.file("f"));
    let written = tokio::spawn(written);
    start.send(Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(named.read("f").await.unwrap(), b"old content");
    drop(start);
    soon("its end", written).await.unwrap().unwrap();
    assert_eq!(named.read("f").await.unwrap(), b"new");

    let with = |how: How, offset| {
        let mut start = named.file("f");
        (start.how, start.offset) = (how.into(), offset);
        start
    };
    let exists = named
        .write_as(with(How::Create, 0), b"x")
        .await
        .unwrap_err();
    assert_eq!(exists.code(), Code::AlreadyExists, "{exists}");
    named.write_as(with(How::Update, 2), b"XYZ").await.unwrap();
    assert_eq!(named.read("f").await.unwrap(), b"neXYZ");
    named.remove("f", false).await.unwrap();
    let gone = named
        .write_as(with(How::Update, 0), b"x")
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    named
        .write_as(with(How::Create, 0), b"created")
        .await
        .unwrap();
    assert_eq!(named.read("f").await.unwrap(), b"created");
    let names = named.list(".", 0, "").await.unwrap().entries;
    assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
    named.delete().await;
}

#[tokio::test]
async fn nothing_is_left_of_a_write_that_was_given_up() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let (start, written) = client.begin_write(named.file("f"));
    let written = tokio::spawn(written);
    // More than fits anywhere on the way: the sandbox has some of it.
    for _ in 0..8 {
        start.send(Bytes::from(vec![b'x'; 1 << 20])).await.unwrap();
    }
    let listed = named.list("", 0, "").await.unwrap_err();
    assert_eq!(listed.code(), Code::InvalidArgument, "{listed}");
    assert_eq!(named.list(".", 0, "").await.unwrap().entries.len(), 1);
    written.abort();
    soon("the end of the write", async {
        while !named.list(".", 0, "").await.unwrap().entries.is_empty() {}
    })
    .await;
    named.delete().await;
}

#[tokio::test]
async fn a_full_volume_is_an_error_and_leaves_no_partial_file() {
    let (_server, client) = main_pool().await;
    // 16 MiB, and 4 of /tmp.
    let named = client
        .named_with(|request| request.pool = "tight".into())
        .await;
    for path in ["big", "/tmp/big"] {
        let full = named.write(path, &vec![1; 20 << 20]).await.unwrap_err();
        assert_eq!(full.code(), Code::ResourceExhausted, "{full}");
        assert!(full.message().contains("volume is full"), "{full}");
    }
    for directory in [".", "/tmp"] {
        let entries = named.list(directory, 0, "").await.unwrap().entries;
        assert_eq!(entries, [], "{directory}");
    }
    named.write("small", b"fits").await.unwrap();
    named.delete().await;
}

#[tokio::test]
async fn directories_are_made_listed_moved_and_removed() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let made = named.make_directory("a/b", 0).await.unwrap();
    assert_eq!(
        (made.kind(), made.mode, made.path.as_str()),
        (Kind::Directory, 0o755, "/workspace/a/b")
    );
    named.make_directory("a/b", 0o700).await.unwrap();
    assert_eq!(named.stat("a/b").await.unwrap().mode, 0o755, "it was there");
    for mode in [0o777, 0o700] {
        let path = format!("{mode:o}/below");
        let made = named.make_directory(&path, mode).await.unwrap();
        let above = named.stat(&format!("{mode:o}")).await.unwrap();
        assert_eq!((made.mode, above.mode), (mode, mode));
    }
    named.write("a/b/x", b"1").await.unwrap();
    named.write("a/b/y", b"22").await.unwrap();
    let exists = named.move_path("a/b/x", "a/b/y", false).await.unwrap_err();
    assert_eq!(exists.code(), Code::AlreadyExists, "{exists}");
    let moved = named.move_path("a/b/x", "a/b/y", true).await.unwrap();
    assert_eq!((moved.path.as_str(), moved.size), ("/workspace/a/b/y", 1));
    named.move_path("a/b", "c", false).await.unwrap();
    assert_eq!(named.read("c/y").await.unwrap(), b"1");
    let not_empty = named.remove("c", false).await.unwrap_err();
    assert_eq!(not_empty.code(), Code::FailedPrecondition, "{not_empty}");
    named.remove("c", true).await.unwrap();
    let gone = named.remove("c", true).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    for volume in [".", "/tmp", "/home/sandbox"] {
        let refused = named.remove(volume, true).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    }
    named.delete().await;
}

#[tokio::test]
async fn a_directory_of_ten_thousand_files_is_one_page() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    python("for n in range(10_001): open(f'{n:05}', 'w').close()")
        .within(&named.id)
        .timeout(PATIENCE)
        .run(&client)
        .await
        .exited(0);
    let page = named.list(".", 10_000, "").await.unwrap();
    assert_eq!(page.entries.len(), 10_000);
    assert_eq!(page.next_page_token, "09999");
    let last = named
        .list(".", 10_000, &page.next_page_token)
        .await
        .unwrap();
    assert_eq!(last.entries.len(), 1);
    assert_eq!(last.entries[0].path, "/workspace/10000");
    assert_eq!(last.next_page_token, "");
    let names = page.entries.iter().map(|it| it.path.as_str());
    assert!(names.is_sorted());
    named.delete().await;
}

#[tokio::test]
async fn links_are_told_and_lead_nowhere_outside() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    named.write("real", b"real").await.unwrap();
    bash("ln -s real in; ln -s /etc/passwd out; ln -s /etc dir; ln -s nowhere dangling; mkfifo pipe; ln -s / /tmp/root")
        .within(&named.id)
        .run(&client)
        .await
        .exited(0);
    let link = named.stat("in").await.unwrap();
    assert_eq!((link.kind(), link.target.as_str()), (Kind::Link, "real"));
    assert_eq!(named.read("in").await.unwrap(), b"real");
    named.write("in", b"through the link").await.unwrap();
    assert_eq!(named.read("real").await.unwrap(), b"through the link");
    assert_eq!(named.stat("in").await.unwrap().kind(), Kind::Link);
    for path in ["out", "dir/passwd", "/tmp/root/etc/passwd"] {
        let outside = named.read(path).await.unwrap_err();
        assert_eq!(
            outside.code(),
            Code::FailedPrecondition,
            "{path}: {outside}"
        );
        let outside = named.write(path, b"x").await.unwrap_err();
        assert_eq!(
            outside.code(),
            Code::FailedPrecondition,
            "{path}: {outside}"
        );
    }
    let archive = tar::Builder::new(Vec::new()).into_inner().unwrap();
    for outside in [
        named.list("dir", 0, "").await.err(),
        named.stat("dir/passwd").await.err(),
        named.make_directory("dir/made", 0).await.err(),
        named.move_path("real", "dir/real", true).await.err(),
        named.move_path("dir/passwd", "mine", false).await.err(),
        named.remove("dir/passwd", false).await.err(),
        named.upload("dir", &archive).await.err(),
        named.download("dir").await.err(),
    ] {
        let outside = outside.expect("it is outside");
        assert_eq!(outside.code(), Code::FailedPrecondition, "{outside}");
    }
    let dangling = named.read("dangling").await.unwrap_err();
    assert_eq!(dangling.code(), Code::NotFound, "{dangling}");
    assert_eq!(named.stat("pipe").await.unwrap().kind(), Kind::Special);
    for nothing in [named.read("pipe").await, named.read(".").await] {
        let status = nothing.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
    // The link goes, and not what it leads to.
    named.remove("dir", true).await.unwrap();
    named.delete().await;
}

#[tokio::test]
async fn bad_paths_are_refused_by_field() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    for (path, words) in [
        ("", "path \"\" is empty"),
        ("a\0b", "path \"a\\0b\" holds a NUL"),
        ("../etc/passwd", "path \"../etc/passwd\" holds '..'"),
        (
            "/etc/passwd",
            "path \"/etc/passwd\" is in none of /workspace, /tmp and /home/sandbox",
        ),
        (&"x/".repeat(2048), "path \"x/x/"),
        (&"n".repeat(256), "path \"nnn"),
    ] {
        for status in [
            named.stat(path).await.unwrap_err(),
            named.read(path).await.unwrap_err(),
            named.remove(path, true).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(status.message().starts_with(words), "{status}");
        }
    }
    let mut start = named.file("f");
    start.mode = 0o1777;
    let status = named.write_as(start, b"").await.unwrap_err();
    assert!(
        status.message().starts_with("start.mode 0o1777 has more"),
        "{status}"
    );
    let mut start = named.file("f");
    start.offset = 1;
    let status = named.write_as(start, b"").await.unwrap_err();
    assert!(
        status
            .message()
            .starts_with("start.offset 1 is for UPDATE only"),
        "{status}"
    );
    for (size, sent) in [(5, "four"), (3, "four")] {
        let mut start = named.file("f");
        start.size = Some(size);
        let status = named.write_as(start, sent.as_bytes()).await.unwrap_err();
        assert!(status.message().starts_with("start.size "), "{status}");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    soon("the end of what was written", async {
        while !named.list(".", 0, "").await.unwrap().entries.is_empty() {}
    })
    .await;
    let missing = named.read("no/such").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    let id = named.id.clone();
    named.delete().await;
    let request = v1::StatPathRequest {
        sandbox_id: id,
        path: "f".into(),
    };
    let status = client.files.clone().stat_path(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}

#[tokio::test]
async fn a_reader_that_takes_its_time_holds_nothing_else_back() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let data: Vec<u8> = (0..100_u32 << 20).map(|n| (n % 251) as u8).collect();
    named.write("large", &data).await.unwrap();
    let (info, mut slow) = named.begin_read("large", 0, None).await.unwrap();
    assert_eq!(info.size, data.len() as u64);
    let first = soon("the first piece", slow.message())
        .await
        .unwrap()
        .unwrap();
    assert!(first.event.is_some());
    for _ in 0..20 {
        bash("echo meanwhile")
            .within(&named.id)
            .run(&client)
            .await
            .printed("meanwhile\n");
        named.write("small", b"x").await.unwrap();
    }
    drop(slow);
    assert!(named.read("large").await.unwrap() == data);
    named.delete().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_does_not_keep_a_deleted_sandbox() {
    let (server, client) = main_pool().await;
    let named = client.named().await;
    named.write("large", &vec![1; 64 << 20]).await.unwrap();
    let (_, stalled) = named.begin_read("large", 0, None).await.unwrap();
    let id = named.id.clone();
    named.delete().await;
    let is_gone = |_: &v1::Pool| !server.sandbox(&id).exists();
    client.wait_for("named", "its end", is_gone).await;
    drop(stalled);
}

#[tokio::test]
async fn a_slow_write_that_is_given_up_is_not_taken_for_a_whole_one() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    for length in [1, 1 << 16, 1 << 20] {
        let (start, written) = client.begin_write(named.file("f"));
        let written = tokio::spawn(written);
        start.send(Bytes::from(vec![b'x'; length])).await.unwrap();
        // All of it has been written when it is there.
        soon("all of it", async {
            loop {
                let entries = named.list(".", 0, "").await.unwrap().entries;
                if entries.iter().any(|entry| entry.size == length as u64) {
                    break;
                }
            }
        })
        .await;
        written.abort();
        soon("the end of the write", async {
            loop {
                let entries = named.list(".", 0, "").await.unwrap().entries;
                assert!(
                    entries.iter().all(|it| it.path != "/workspace/f"),
                    "{entries:?}"
                );
                if entries.is_empty() {
                    break;
                }
            }
        })
        .await;
    }
    named.delete().await;
}
