//! The fuzz targets' inputs, run without a fuzzer, so that neither they nor the targets rot.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../fuzz/channel/mod.rs"]
mod channel;
#[path = "../fuzz/exec/mod.rs"]
mod exec;

fn run_all(target: &str, run: fn(&[u8])) {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&seeds).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "there are no seeds in {}", seeds.display());
}

#[test]
fn the_seeds_of_the_channel_pass() {
    run_all("channel", channel::run);
}

#[test]
fn the_seeds_of_the_exec_pass() {
    run_all("exec", exec::run);
}
