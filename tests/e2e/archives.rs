//! Whole directories, as tar archives.

use std::{fs, io::Read};

use tar::{Archive, Builder, EntryType, Header};
use tonic::Code;

use crate::harness::*;

/// An archive of one entry that the library would not make.
fn entry(name: &str, kind: EntryType) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.extend([0; 1024]);
    archive
}

#[tokio::test]
async fn a_tree_goes_in_and_comes_out_as_it_was() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let local = tempfile::tempdir().unwrap();
    fs::create_dir_all(local.path().join("deep/er")).unwrap();
    fs::write(local.path().join("deep/er/small"), "small").unwrap();
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(local.path().join("large"), &large).unwrap();
    fs::write(local.path().join("empty"), "").unwrap();
    let long = "n".repeat(200);
    fs::write(local.path().join(&long), "long name").unwrap();
    std::os::unix::fs::symlink("deep/er", local.path().join("link")).unwrap();
    let mut builder = Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", local.path()).unwrap();
    let archive = builder.into_inner().unwrap();

    let info = named.upload("tree", &archive).await.unwrap();
    assert_eq!(info.path, "/workspace/tree");
    assert_eq!(named.read("tree/deep/er/small").await.unwrap(), b"small");
    assert_eq!(named.read("tree/link/small").await.unwrap(), b"small");
    bash("mkfifo tree/pipe; chmod 750 tree/deep; wc -c < tree/large")
        .within(&named.id)
        .run(&client)
        .await
        .printed("5000000\n");

    let downloaded = named.download("tree").await.unwrap();
    let back = tempfile::tempdir().unwrap();
    Archive::new(&downloaded[..]).unpack(back.path()).unwrap();
    let read = |name: &str| fs::read(back.path().join(name)).unwrap();
    assert!(read("large") == large);
    assert_eq!(
        (read("empty"), read(&long)),
        (Vec::new(), b"long name".to_vec())
    );
    assert_eq!(read("deep/er/small"), b"small");
    let link = fs::read_link(back.path().join("link")).unwrap();
    assert_eq!(link.to_str(), Some("deep/er"));
    assert!(!back.path().join("pipe").exists());
    named.delete().await;
}

#[tokio::test]
async fn a_bad_archive_is_refused_and_leads_nowhere_outside() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    for (archive, words) in [
        (vec![b'x'; 5000], "the archive cannot be unpacked"),
        (
            entry("pipe", EntryType::Fifo),
            "\"pipe\" is neither a file nor",
        ),
        (
            entry("../out", EntryType::Regular),
            "\"../out\" leads out of the directory",
        ),
    ] {
        let status = named.upload("tree", &archive).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    // Through a link that it brings along.
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "out", "/tmp").unwrap();
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "out/file", &b"x"[..])
        .unwrap();
    let archive = builder.into_inner().unwrap();
    assert!(named.upload("tree", &archive).await.is_err());
    let nothing = named.stat("/tmp/file").await.unwrap_err();
    assert_eq!(nothing.code(), Code::NotFound, "{nothing}");

    named.write("file", b"").await.unwrap();
    let not_one = named.download("file").await.unwrap_err();
    assert_eq!(not_one.code(), Code::FailedPrecondition, "{not_one}");
    let missing = named.download("missing").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    named.delete().await;
}

#[tokio::test]
async fn an_archive_that_does_not_fit_is_an_error() {
    let (_server, client) = main_pool().await;
    let tight = client
        .named_with(|request| request.pool = "tight".into())
        .await;
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(20 << 20);
    header.set_mode(0o644);
    let content = std::io::repeat(1).take(20 << 20);
    builder.append_data(&mut header, "large", content).unwrap();
    let archive = builder.into_inner().unwrap();
    let full = tight.upload(".", &archive).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted, "{full}");
    let partial = tight.stat("large").await.unwrap_err();
    assert_eq!(partial.code(), Code::NotFound, "{partial}");
    tight.delete().await;
}
