//! An API server that says anything, against the server's end of an exec's websocket.
//!
//! What is checked stands in `../exec/mod.rs`. To run it for three minutes, from the root:
//!
//! ```text
//! mkdir -p fuzz/corpus/exec
//! cargo +nightly fuzz run exec fuzz/corpus/exec fuzz/seeds/exec -- \
//!     -max_total_time=180 -max_len=4096 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=64
//! ```
#![no_main]

#[path = "../exec/mod.rs"]
mod exec;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exec::run(data));
