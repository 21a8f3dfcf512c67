//! The fuzz target's inputs, run without a fuzzer, so that neither it nor they rot.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/channel/mod.rs"]
mod channel;

#[test]
fn the_seeds_of_the_channel_pass() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/channel");
    let mut count = 0;
    for entry in std::fs::read_dir(seeds).unwrap() {
        let path = entry.unwrap().path();
        channel::run(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "there are no seeds in {seeds}");
}
