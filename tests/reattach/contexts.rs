//! A context and its cells over connections that are cut.

use sandpool::{
    execution::{Display, Outcome},
    sandbox::{Event, Sandbox},
};

use crate::{
    program::{Plan, in_one_sandbox, run_in_for_events},
    relay::{Fault, When},
};

const CONTEXT: &str = "kept";

/// Runs a cell: what it wrote to stdout, and what it displayed.
async fn cell(sandbox: &Sandbox, number: u64, source: &str) -> (Vec<u8>, Vec<Display>) {
    let (mut stdout, mut displays) = (Vec::new(), Vec::new());
    let plan = Plan::cell(CONTEXT, number, source);
    let id = format!("cell-{number}");
    let ended = run_in_for_events(sandbox, &id, plan, |event| match event {
        Event::Stdout(data) => stdout.extend_from_slice(&data),
        Event::Display(display) => {
            assert!(
                stdout.len() as u64 >= display.offsets[0],
                "it came too early"
            );
            displays.push(display);
        }
        Event::Started(_) | Event::Stderr(_) | Event::File(_) => {}
    });
    let ended = ended.await.unwrap();
    assert_eq!(ended.outcome, Outcome::Exited(0));
    assert!(!ended.context_ended);
    (stdout, displays)
}

#[test]
fn no_output_and_no_display_of_a_cell_is_lost_or_doubled_by_cuts() {
    in_one_sandbox(
        |faults| {
            for (at, fault) in (1..=12).zip([Fault::Cut, Fault::Reset].into_iter().cycle()) {
                faults.plan(When::FromAgent(at * 300_000), fault);
            }
        },
        async |sandbox, faults| {
            let mut started = false;
            let context = run_in_for_events(sandbox, "context", Plan::context(CONTEXT), |_| {});
            tokio::pin!(context);
            let cells = async {
                let source = "total = 0\nfor n in range(40):\n    print('x' * 50_000)\n    \
                              display({'text/plain': str(n), 'text/html': 'y' * 50_000}, raw=True)\n    total += n";
                let mut number = 0;
                // The first cells may come before the context is there.
                while !started {
                    number += 1;
                    let plan = Plan::cell(CONTEXT, number, "0");
                    let id = format!("cell-{number}");
                    let ended = run_in_for_events(sandbox, &id, plan, |_| {}).await.unwrap();
                    started = ended.outcome == Outcome::Exited(0);
                }
                let (stdout, displays) = cell(sandbox, 1000, source).await;
                let line = [&[b'x'; 50_000][..], b"\n"].concat();
                assert!(stdout == line.repeat(40));
                let shown: Vec<_> = displays
                    .iter()
                    .map(|it| it.data["text/plain"].clone())
                    .collect();
                let expected: Vec<_> = (0..40).map(|n| n.to_string()).collect();
                assert_eq!(shown, expected);
                assert!(
                    displays
                        .iter()
                        .all(|it| it.data["text/html"].len() == 50_000)
                );
                let (_, displays) = cell(sandbox, 1001, "total").await;
                assert_eq!(displays[0].data["text/plain"], "780");
                assert!(faults.connections() > 3, "{}", faults.connections());
                let plan = Plan::cell(CONTEXT, 1002, "import os; os._exit(3)");
                let ended = run_in_for_events(sandbox, "last", plan, |_| {})
                    .await
                    .unwrap();
                assert_eq!(
                    (ended.outcome, ended.context_ended),
                    (Outcome::Exited(3), true)
                );
            };
            let (ended, ()) = tokio::join!(&mut context, cells);
            assert_eq!(ended.unwrap().outcome, Outcome::Exited(3));
        },
    );
}
