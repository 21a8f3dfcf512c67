#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    kept::{MAX_PIECES, SMALL},
    *,
};
use crate::{
    dispatch::Update,
    sandbox::{Events, OutputChunk},
};

fn record(kept: usize) -> (Arc<Record>, Sink) {
    let record = Record::new(NewRecord {
        execution_id: "e".into(),
        pool: "p".into(),
        labels: BTreeMap::new(),
        fingerprint: 1,
        keep: Some(Duration::from_secs(600)),
        kept,
    });
    let sink = Sink::Kept(record.clone());
    sink.give(Event::Started(SandboxId::new("p", "s", 1)));
    (record, sink)
}

fn stdout(data: &[u8]) -> Event {
    Event::Stdout(Bytes::copy_from_slice(data))
}

fn stderr(data: &[u8]) -> Event {
    Event::Stderr(Bytes::copy_from_slice(data))
}

/// What a reader is told, in short.
async fn told(reader: &mut Reader) -> String {
    let text = |data: Bytes| String::from_utf8(data.to_vec()).unwrap();
    match reader.next().await {
        None => "over".into(),
        Some(Told::Gap {
            stream,
            offset,
            bytes,
        }) => format!("{stream:?} gap {offset}+{bytes}"),
        Some(Told::Update(Update::Event(event))) => match event {
            Event::Started(_) => "started".into(),
            Event::Stdout(data) => format!("out {}", text(data)),
            Event::Stderr(data) => format!("err {}", text(data)),
            Event::File(piece) => format!("file {} {}", piece.offset, text(piece.content)),
            Event::Display(display) => format!("display {}", display.metadata),
        },
        Some(Told::Update(Update::Finished(..))) => "finished".into(),
    }
}

async fn end(sink: &Sink) {
    sink.finish(Vec::new(), Finished::exited(0), Duration::ZERO)
        .await;
}

#[tokio::test]
async fn a_reader_is_told_everything_in_order_and_the_end_once() {
    let (record, sink) = record(1000);
    for event in [stdout(b"a"), stdout(b"b"), stderr(b"c"), stdout(b"d")] {
        sink.give(event);
    }
    end(&sink).await;
    let mut reader = record.attach([0; 3], 0);
    for expected in ["started", "out ab", "err c", "out d", "finished", "over"] {
        assert_eq!(told(&mut reader).await, expected);
    }
    let mut again = record.attach([1, 1, 0], 0);
    for expected in ["started", "out b", "out d", "finished", "over"] {
        assert_eq!(told(&mut again).await, expected);
    }
    assert_eq!(told(&mut reader).await, "over", "another one has attached");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_kept_is_told() {
    let (record, sink) = record(10);
    tokio::time::advance(PAUSED_FOR).await;
    sink.give(stdout(&[b'a'; SMALL]));
    sink.give(stdout(b"last"));
    sink.give(stdout(&[b'b'; SMALL]));
    let mut reader = record.attach([1, 0, 0], 0);
    let gap = format!("Stdout gap 1+{}", SMALL + 3);
    let last = format!("out {}", "b".repeat(SMALL));
    for expected in ["started", &gap, &last] {
        assert_eq!(told(&mut reader).await, expected);
    }
    record.forget_output();
    end(&sink).await;
    let mut late = record.attach([0; 3], 0);
    let gap = format!("Stdout gap 0+{}", 2 * SMALL + 4);
    for expected in ["started", &gap, "finished"] {
        assert_eq!(told(&mut late).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn output_that_nobody_takes_pauses_the_program_for_a_while() {
    let (record, sink) = record(10);
    let reader = record.attach([0; 3], 0);
    sink.give(stdout(&[b'a'; 20]));
    let begun = Instant::now();
    let waited = timeout(Duration::from_secs(3600), sink.room()).await;
    assert!(waited.is_err(), "a reader who is there is waited for");
    drop(reader);
    sink.room().await;
    let since = begun.elapsed().as_secs() - 3600;
    assert_eq!(since, PAUSED_FOR.as_secs());
    sink.gone().await;
    assert_eq!(begun.elapsed().as_secs() - 3600, 600);
}

#[tokio::test]
async fn who_listens_to_what_another_one_has_called_is_told_the_newest_and_each_gap_once() {
    let (record, _) = record(10);
    let (caller, _updates) = tokio::sync::mpsc::channel(100);
    let sink = Sink::Caller(caller, record.clone());
    sink.give(stdout(b"12345678"));
    sink.give(stdout(b"too much"));
    sink.give(display("1", 20));
    let mut reader = record.attach([0; 3], 0);
    assert_eq!(told(&mut reader).await, "started");
    let early = timeout(Duration::ZERO, told(&mut reader)).await;
    assert!(early.is_err(), "nobody knows where the gap ends");
    sink.give(stdout(b"a"));
    for expected in ["Stdout gap 0+16", "out a"] {
        assert_eq!(told(&mut reader).await, expected);
    }
    for _ in 0..20 {
        sink.give(stdout(&[b'b'; SMALL]));
    }
    sink.give(display("2", 20));
    let newest = format!("out {}", "b".repeat(SMALL));
    let gap = format!("Stdout gap 17+{}", 19 * SMALL);
    for expected in ["Displays gap 0+1", &gap, &newest, "display 2"] {
        assert_eq!(told(&mut reader).await, expected);
    }
    end(&sink).await;
    for expected in ["finished", "over"] {
        assert_eq!(told(&mut reader).await, expected);
    }
}

#[tokio::test]
async fn single_bytes_do_not_cost_more_than_they_are() {
    let (record, sink) = record(1 << 20);
    for _ in 0..100_000 {
        sink.give(stdout(b"o"));
        sink.give(stderr(b"e"));
    }
    let state = record.state();
    for stream in &state.streams {
        assert_eq!((stream.bytes, stream.end), (100_000, 100_000));
        assert!(stream.pieces.len() <= MAX_PIECES);
    }
}

fn display(name: &str, size: usize) -> Event {
    Event::Display(Display {
        data: BTreeMap::from([("a/b".to_owned(), vec![b'x'; size].into())]),
        metadata: name.to_owned(),
        ..Display::default()
    })
}

#[tokio::test(start_paused = true)]
async fn displays_stand_between_the_output_and_are_kept_as_it_is() {
    let (record, sink) = record(1000);
    for event in [
        stdout(b"a"),
        display("1", 10),
        stdout(b"b"),
        display("2", 10),
    ] {
        sink.give(event);
    }
    let mut reader = record.attach([0; 3], 0);
    for expected in ["started", "out a", "display 1", "out b", "display 2"] {
        assert_eq!(told(&mut reader).await, expected);
    }
    sink.room().await;
    sink.give(display("3", 2000));
    assert!(timeout(Duration::from_secs(60), sink.room()).await.is_err());
    assert_eq!(told(&mut reader).await, "display 3");
    sink.room().await;
    drop(reader);
    // Nobody comes again for the older ones.
    tokio::time::advance(PAUSED_FOR).await;
    sink.give(display("4", 2000));
    end(&sink).await;
    let mut late = record.attach([2, 0, 1], 0);
    for expected in ["started", "Displays gap 1+2", "display 4", "finished"] {
        assert_eq!(told(&mut late).await, expected);
    }
    assert!(record.held() > 2000);
    record.forget_output();
    let mut later = record.attach([2, 0, 3], 0);
    for expected in ["started", "Displays gap 3+1", "finished", "over"] {
        assert_eq!(told(&mut later).await, expected);
    }
}

fn piece(offset: u64, content: &[u8], last: bool) -> Event {
    Event::File(OutputChunk {
        path: "file".into(),
        mode: 0o644,
        size: 4,
        offset,
        content: Bytes::copy_from_slice(content),
        last,
    })
}

#[tokio::test]
async fn a_reader_waits_for_the_rest_of_a_file() {
    let (record, sink) = record(1000);
    let mut reader = record.attach([0; 3], 0);
    sink.give(piece(0, b"", false));
    sink.give(piece(0, b"ab", false));
    for expected in ["started", "file 0 ab"] {
        assert_eq!(told(&mut reader).await, expected);
    }
    let (next, ()) = tokio::join!(told(&mut reader), async {
        tokio::task::yield_now().await;
        sink.give(piece(2, b"cd", true));
    });
    assert_eq!(next, "file 2 cd");
}

#[tokio::test]
async fn files_come_whole_to_whoever_attaches_again() {
    let (record, sink) = record(1000);
    let mut reader = record.attach([0; 3], 0);
    for event in [
        piece(0, b"ab", false),
        piece(2, b"cd", true),
        piece(0, b"", true),
        piece(0, b"efgh", true),
    ] {
        sink.give(event);
    }
    end(&sink).await;
    for expected in ["started", "file 0 ab", "file 2 cd", "file 0 "] {
        assert_eq!(told(&mut reader).await, expected);
    }
    drop(reader);
    let mut again = record.attach([0; 3], 1);
    for expected in ["started", "file 0 ", "file 0 efgh", "finished", "over"] {
        assert_eq!(told(&mut again).await, expected);
    }
    record.forget_output();
    let mut late = record.attach([0; 3], 1);
    for expected in ["started", "Files gap 1+2", "finished", "over"] {
        assert_eq!(told(&mut late).await, expected);
    }
}

#[tokio::test]
async fn a_file_that_is_no_longer_kept_whole_is_missing() {
    let (record, sink) = record(1000);
    let mut reader = record.attach([0; 3], 0);
    let large = vec![b'x'; ON_ITS_WAY];
    sink.give(piece(0, &large, false));
    for expected in ["started", &format!("file 0 {}", "x".repeat(ON_ITS_WAY))] {
        assert_eq!(told(&mut reader).await, expected);
    }
    // The reader has had the first piece, which is given up for the second.
    sink.give(piece(ON_ITS_WAY as u64, &large, false));
    drop(reader);
    let mut again = record.attach([0; 3], 0);
    for expected in ["started", "Files gap 0+1"] {
        assert_eq!(told(&mut again).await, expected);
    }
    sink.give(piece(2 * ON_ITS_WAY as u64, b"end", true));
    sink.give(piece(0, b"next", true));
    end(&sink).await;
    for expected in ["file 0 next", "finished", "over"] {
        assert_eq!(told(&mut again).await, expected);
    }
}
