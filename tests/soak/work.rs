//! What is done in a sandbox: a function for each kind of it, each of which checks that all that it reads is its own.

use std::{
    io::Read,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use ring::digest::{SHA256, digest};
use tar::{Archive, Builder, Header};
use tokio::time::sleep;

use crate::harness::{named::Named, *};
use v1::{
    execute_request::Event as Input, finished::Outcome, path_info::Kind as PathKind,
    write_input_request::Event as Write,
};

/// How much there may be of whatever is sent and read.
const MOST_BYTES: usize = 1 << 18;
/// How long to wait before a listing is asked for again, which alone tells of some ends.
const BETWEEN_LISTINGS: Duration = Duration::from_millis(100);

/// All that is done. A further kind is a line here, one in [`KINDS`] and one in [`Work::of`].
#[derive(Clone, Copy, Debug)]
enum Kind {
    Output,
    Stdin,
    File,
    Archive,
    Terminal,
    Detached,
    Signaled,
    Cancelled,
    Listings,
    Cells,
}

const KINDS: [Kind; 10] = [
    Kind::Output,
    Kind::Stdin,
    Kind::File,
    Kind::Archive,
    Kind::Terminal,
    Kind::Detached,
    Kind::Signaled,
    Kind::Cancelled,
    Kind::Listings,
    Kind::Cells,
];

static BEGUN: AtomicU64 = AtomicU64::new(0);

/// How many pieces of work there were.
pub(crate) fn count() -> u64 {
    BEGUN.load(Ordering::Relaxed)
}

/// Does all kinds of work in a sandbox, each beside another one, or as many as there is time for; `first` says with
/// which to begin.
pub(crate) async fn all_kinds(client: &Client, named: &Named, first: usize, until: Instant) {
    for turn in first..first + KINDS.len() {
        let [one, other] = [turn, turn + KINDS.len() / 2].map(|n| KINDS[n % KINDS.len()]);
        tokio::join!(
            Work::begin(client, named).of(one),
            Work::begin(client, named).of(other)
        );
        if Instant::now() >= until {
            return;
        }
    }
}

/// One piece of work, and where it is done.
struct Work<'a> {
    client: &'a Client,
    named: &'a Named,
    /// Like no other's: an id, a label, a name of files, and what their content comes from.
    mark: String,
    random: SmallRng,
}

impl<'a> Work<'a> {
    fn begin(client: &'a Client, named: &'a Named) -> Self {
        let number = BEGUN.fetch_add(1, Ordering::Relaxed);
        Self {
            client,
            named,
            mark: format!("mark-{number}-"),
            random: SmallRng::seed_from_u64(number),
        }
    }

    async fn of(mut self, kind: Kind) {
        match kind {
            Kind::Output => output(&mut self).await,
            Kind::Stdin => stdin(&mut self).await,
            Kind::File => file(&mut self).await,
            Kind::Archive => archive(&mut self).await,
            Kind::Terminal => terminal(&self).await,
            Kind::Detached => detached(&self).await,
            Kind::Signaled => signaled(&self).await,
            Kind::Cancelled => cancelled(&self).await,
            Kind::Listings => listings(&self).await,
            Kind::Cells => cells(&self).await,
        }
    }

    /// In this sandbox, with as much time as everything may take.
    fn here(&self, program: Spec) -> Spec {
        program.within(&self.named.id).timeout(PATIENCE)
    }

    /// The same, to be found by its mark.
    fn marked(&self, program: Spec) -> Spec {
        let mark = &self.mark;
        self.here(program).id(mark).label("test", mark)
    }

    /// Bytes that nobody else has.
    fn content(&mut self) -> Vec<u8> {
        let mut content = self.mark.clone().into_bytes();
        content.resize(self.random.random_range(content.len()..MOST_BYTES), 0);
        self.random.fill(&mut content[self.mark.len()..]);
        content
    }

    /// The execution with this mark, which must be the only one and run here.
    async fn listed(&self) -> v1::ExecutionSummary {
        let mut listed = self
            .client
            .list_executions(&self.named.id, &self.mark)
            .await;
        assert_eq!(listed.len(), 1, "{listed:?}");
        let mine = listed.remove(0);
        assert_eq!(mine.execution_id, self.mark);
        assert_eq!(mine.sandbox_id, self.named.id);
        mine
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A program tells the hash of what it prints.
async fn output(work: &mut Work<'_>) {
    let source = "
import hashlib, random, sys
mark, length = sys.argv[1], int(sys.argv[2])
data = mark.encode() + random.Random(mark).randbytes(length)
sys.stdout.buffer.write(data)
print(hashlib.sha256(data).hexdigest(), file=sys.stderr)
";
    let length = work.random.random_range(0..MOST_BYTES);
    let program = python(source).args(&[&work.mark, &length.to_string()]);
    let done = work.here(program).run(work.client).await.exited(0);
    assert_eq!(done.stdout.len(), work.mark.len() + length);
    assert!(done.stdout.starts_with(work.mark.as_bytes()));
    assert_eq!(done.err().trim_end(), sha256(&done.stdout));
}

/// A program prints what it reads.
async fn stdin(work: &mut Work<'_>) {
    let content = work.content();
    let program = command(&["/bin/cat"]).stdin(content.clone());
    let done = work.here(program).run(work.client).await.exited(0);
    assert!(done.stdout == content, "what comes is not what was sent");
}

/// A file that a program finds, is read, moved and removed.
async fn file(work: &mut Work<'_>) {
    let (content, mark) = (work.content(), work.mark.clone());
    let info = work.named.write(&mark, &content).await.unwrap();
    assert_eq!(info.size, content.len() as u64);
    let hash = bash("sha256sum < \"$1\"").args(&[&mark]);
    let done = work.here(hash).run(work.client).await;
    done.printed(&format!("{}  -\n", sha256(&content)));
    let directory = format!("{mark}d");
    work.named.make_directory(&directory, 0).await.unwrap();
    let moved = format!("{directory}/f");
    work.named.move_path(&mark, &moved, false).await.unwrap();
    let page = work.named.list(&directory, 0, "").await.unwrap();
    assert_eq!(page.entries.len(), 1, "{page:?}");
    assert_eq!(page.entries[0].path, format!("/workspace/{moved}"));
    assert_eq!(page.entries[0].kind(), PathKind::File);
    assert!(work.named.read(&moved).await.unwrap() == content);
    work.named.remove(&directory, true).await.unwrap();
}

/// A directory that comes as an archive, is added to by a program, and goes as one.
async fn archive(work: &mut Work<'_>) {
    let (content, mark) = (work.content(), work.mark.clone());
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "deep/file", &content[..])
        .unwrap();
    let sent = builder.into_inner().unwrap();
    work.named.upload(&mark, &sent).await.unwrap();
    let program = bash("sha256sum < deep/file > hash").directory(&mark);
    work.here(program).run(work.client).await.printed("");
    let received = work.named.download(&mark).await.unwrap();
    let mut files = Vec::new();
    for entry in Archive::new(&received[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if entry.header().entry_type().is_file() {
            files.push((entry.path().unwrap().display().to_string(), bytes));
        }
    }
    files.sort();
    let hash = format!("{}  -\n", sha256(&content)).into_bytes();
    assert!(files == [("deep/file".to_owned(), content), ("hash".to_owned(), hash)]);
    work.named.remove(&mark, true).await.unwrap();
}

/// A program on a terminal, which is typed at and resized.
async fn terminal(work: &Work<'_>) {
    let program = "echo ready; read -r line; while [ \"$(stty size)\" != '50 132' ]; do sleep 0.1; done; echo \"got $line\"";
    let program = command(&["/bin/bash", "-c", program]).terminal(24, 80);
    let mut execution = work.here(program).start(work.client).await;
    execution.until_stdout("ready\r\n").await;
    execution.send(format!("{}\n", work.mark)).await;
    let size = v1::Terminal {
        rows: 50,
        columns: 132,
    };
    execution.send_event(Input::Resize(size)).await;
    let done = execution.finish().await.exited(0);
    let mark = &work.mark;
    assert_eq!(done.out(), format!("ready\r\n{mark}\r\ngot {mark}\r\n"));
}

/// A program goes on without its call, is listed, attached to and written to.
async fn detached(work: &Work<'_>) {
    let mark = &work.mark;
    let program = bash("echo \"first $1\"; read -r line; echo \"got $line\"; exit 3");
    let program = work.marked(program.args(&[mark])).stdin_open();
    let mut execution = program.start(work.client).await;
    let first = format!("first {mark}\n");
    execution.until_stdout(&first).await;
    drop(execution);
    assert!(work.listed().await.finished.is_none());
    let offset = first.len() as u64;
    let attached = work.client.attach(mark, [offset, 0]).await.unwrap();
    let line = Write::Stdin(format!("line {mark}\n").into());
    work.client.write_input(mark, line).await.unwrap();
    let rest = format!("got line {mark}\n");
    assert_eq!(attached.finish().await.exited(3).out(), rest);
    let whole = work.client.attach(mark, [0, 0]).await.unwrap();
    assert_eq!(whole.finish().await.exited(3).out(), first + &rest);
}

/// A program that goes on without its call ends by a signal.
async fn signaled(work: &Work<'_>) {
    let program = command(&["/bin/sh", "-c", "echo $0; exec sleep 1000", &work.mark]);
    let mut execution = work.marked(program).start(work.client).await;
    execution.until_stdout(&work.mark).await;
    drop(execution);
    let terminate = Write::Signal(v1::Signal { number: 15 });
    let written = work.client.write_input(&work.mark, terminate).await;
    written.unwrap();
    let attached = work.client.attach(&work.mark, [0, 0]).await.unwrap();
    let done = attached.finish().await.signaled(15, "SIGTERM");
    assert_eq!(done.out(), format!("{}\n", work.mark));
}

/// A program whose caller goes away ends with all that it has started.
async fn cancelled(work: &Work<'_>) {
    let program = bash("echo ready; sleep 1000 & sleep 1000").keep(Duration::ZERO);
    drop(ready(work.marked(program), work.client).await);
    let ended = async {
        loop {
            if let Some(finished) = work.listed().await.finished {
                return finished;
            }
            sleep(BETWEEN_LISTINGS).await;
        }
    };
    let finished = soon("its end", ended).await;
    assert!(
        matches!(&finished.outcome, Some(Outcome::Cancelled(_))),
        "{finished:?}"
    );
}

/// The sandbox and what is known of it are found under its labels and its id, and nothing else is.
async fn listings(work: &Work<'_>) {
    let id = &work.named.id;
    let labels = work.named.get().await.labels;
    let request = v1::ListSandboxesRequest {
        labels,
        ..Default::default()
    };
    let mut sandboxes = work.client.sandboxes.clone();
    let listed = soon("a page", sandboxes.list_sandboxes(request)).await;
    let listed = listed.unwrap().into_inner().sandboxes;
    let ids: Vec<_> = listed.iter().map(|it| &it.sandbox_id).collect();
    assert_eq!(ids, [id]);
    let executions = work.client.list_executions(id, "").await;
    assert!(executions.iter().all(|it| it.sandbox_id == *id));
}

/// A context that keeps what its cells have left, and ends: by itself, or since it is deleted in the middle of one.
async fn cells(work: &Work<'_>) {
    let context = work.named.context().await;
    let cell = |source: &str| work.here(python(source).cell_of(&context));
    let mark = &work.mark;
    let first = cell(&format!("mark = '{mark}'\nprint(mark)\nmark"));
    let done = first.run(work.client).await.printed(&format!("{mark}\n"));
    assert_eq!(done.shown(), [format!("'{mark}'")]);
    let many = "for n in range(100):\n    print('x' * 1000)\n    display(mark + str(n))";
    let done = cell(many).run(work.client).await.exited(0);
    let expected: Vec<_> = (0..100).map(|n| format!("'{mark}{n}'")).collect();
    assert_eq!(done.shown(), expected);
    let done = cell("unknown").run(work.client).await.exited(1);
    done.raised("NameError");
    if mark.contains('7') {
        let ends = cell("import os; os._exit(3)").run(work.client).await;
        assert!(ends.exited(3).finished.unwrap().context_ended);
    } else {
        let sleeps = cell("import time; print('ready', flush=True); time.sleep(1000)");
        let running = ready(sleeps, work.client).await;
        work.named
            .delete_context(&context.context_id)
            .await
            .unwrap();
        let done = running.finish().await;
        assert!(
            matches!(done.outcome(), Outcome::Cancelled(_)),
            "{}",
            done.describe()
        );
    }
}
