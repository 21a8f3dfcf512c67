//! An agent that says anything, against the server's end of its byte stream.
//!
//! What is checked stands in `../channel/mod.rs`. To run it for three minutes, from the root:
//!
//! ```text
//! cargo install cargo-fuzz
//! mkdir -p fuzz/corpus/channel
//! cargo +nightly fuzz run channel fuzz/corpus/channel fuzz/seeds/channel -- \
//!     -max_total_time=180 -max_len=4096 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=64
//! ```
//!
//! An input that fails is kept in fuzz/artifacts; once it is fixed, it belongs into fuzz/seeds,
//! which `cargo test --test fuzz_seeds` runs without any of this.
#![no_main]

#[path = "../channel/mod.rs"]
mod channel;

libfuzzer_sys::fuzz_target!(|data: &[u8]| channel::run(data));
