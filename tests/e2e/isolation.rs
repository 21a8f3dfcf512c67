//! No run sees anything of another one, and the log nothing of any.

use crate::harness::*;

#[tokio::test]
async fn random_numbers_of_two_sandboxes_differ() {
    let (_server, client) = main_pool().await;
    let source = "
import random, uuid, os, secrets, tempfile
import numpy
print(random.random())
print(numpy.random.random(), numpy.random.default_rng().random())
print(uuid.uuid4())
print(uuid.uuid1())
print(hash('x'))
print(os.urandom(8).hex(), secrets.token_hex(8))
print(tempfile.mktemp())
";
    let run = || python(source).pool("numpy").run(&client);
    let (first, second) = (run().await.exited(0), run().await.exited(0));
    assert!(first.timings().warm && second.timings().warm);
    let (first, second) = (first.out(), second.out());
    assert_eq!(first.lines().count(), 7);
    for (a, b) in first.lines().zip(second.lines()) {
        for (a, b) in a.split_whitespace().zip(b.split_whitespace()) {
            assert_ne!(a, b);
        }
    }
}

#[tokio::test]
async fn a_preloaded_module_is_there_at_once() {
    let (_server, client) = main_pool().await;
    let source = "import sys; print('numpy' in sys.modules); import numpy; print(int(numpy.arange(5).sum()))";
    python(source)
        .pool("numpy")
        .run(&client)
        .await
        .printed("True\n10\n");
}

#[tokio::test]
async fn nothing_of_one_run_is_there_in_the_next() {
    let (_server, client) = main_pool().await;
    let write = "
for dir in /workspace /tmp /home/sandbox /dev/shm /run/sandpool /var/tmp; do
  echo x > $dir/left-behind 2>/dev/null
done
exit 0
";
    let wrote = bash(write).run(&client).await.exited(0);
    // The host's /usr is read-only, and large.
    let look = "find / \\( -path /proc -o -path /usr \\) -prune -o -name 'left-behind*' -print 2>/dev/null; ls -A /workspace /tmp /home/sandbox; exit 0";
    for _ in 0..3 {
        let done = bash(look).run(&client).await;
        assert_ne!(done.sandbox(), wrote.sandbox());
        done.printed("/home/sandbox:\n\n/tmp:\n\n/workspace:\n");
    }
}

#[tokio::test]
async fn no_secret_of_a_run_is_logged_or_listed() {
    let (server, client) = main_pool().await;
    let mut secrets = Vec::new();
    let mut secret = |name: &str| {
        // Said nowhere else, and not whole in this source.
        secrets.push(format!("{name}{}secret", "-never-logged-"));
        secrets.last().unwrap().clone()
    };
    let source = format!(
        "import sys, os\nprint(sys.stdin.read())\nsys.stderr.write('{}')\nopen('out', 'w').write('{}')\nraise ValueError('{}')",
        secret("stderr"),
        secret("output-file"),
        secret("source"),
    );
    let spec = python(&source)
        .args(&[&secret("argument")])
        .env("TOKEN", &secret("env"))
        .file("in", secret("input-file"))
        .output("out")
        .stdin(secret("stdin"))
        .label("visible", "label-in-the-log");
    spec.clone().run(&client).await.exited(1);
    spec.clone().run_whole(&client, true).await.unwrap();
    // Refused, cancelled, not started: errors tell no more.
    spec.clone().directory("..").refused(&client).await;
    drop(spec.clone().start(&client).await);
    command(&["/no/such", &secret("command")])
        .env("TOKEN", &secret("env2"))
        .run(&client)
        .await;
    let mut bad_env = spec;
    bad_env = bad_env.env("PYTHONSTARTUP", &secret("env3"));
    bad_env.run(&client).await;

    let log = server.log();
    assert!(log.contains("label-in-the-log"), "labels are for the log");
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
    }
    let pools = client
        .pools
        .clone()
        .list_pools(v1::ListPoolsRequest {})
        .await
        .unwrap();
    assert!(!format!("{pools:?}").contains("never-logged"));
}
