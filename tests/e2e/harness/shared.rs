//! One server for all tests that need nothing special.
//!
//! It has a pool for each purpose, so that tests that look at a pool's counts are not disturbed.
//! It is started by the first test that asks for it, and ended, and looked at, when the test
//! binary exits.

use std::{
    ops::Deref,
    sync::{Arc, Condvar, Mutex, OnceLock},
    thread,
};

use tokio::sync::MutexGuard;

use super::{Client, Server, deployed::Deployed};

/// How many tests use it at once, however many threads there are: a sandbox is real work.
const SEATS: u32 = 4;

const CONFIG: &str = include_str!("shared.toml");

static SERVER: OnceLock<Server> = OnceLock::new();
static SEATS_LEFT: (Mutex<u32>, Condvar) = (Mutex::new(SEATS), Condvar::new());

/// A test's place at the shared server.
pub struct Seat(&'static Server);

impl Deref for Seat {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.print_log_tail();
        }
        *SEATS_LEFT.0.lock().unwrap() += 1;
        SEATS_LEFT.1.notify_one();
    }
}

/// The shared server. Blocks while many tests use it.
pub fn shared() -> Seat {
    // First, since a server that does not start must not keep the seat.
    let server = SERVER.get_or_init(|| {
        // SAFETY: the function is plain, and may run at any time after this.
        unsafe { libc::atexit(end_shared) };
        match Deployed::given() {
            Some(deployed) => Server::deployed(deployed),
            None => Server::with(CONFIG).start(),
        }
    });
    let mut left = SEATS_LEFT
        .1
        .wait_while(SEATS_LEFT.0.lock().unwrap(), |left| *left == 0)
        .unwrap();
    *left -= 1;
    drop(left);
    Seat(server)
}

/// The shared server and a connection to it.
pub async fn main_pool() -> (Seat, Client) {
    let server = shared();
    let client = server.client().await;
    (server, client)
}

/// What the test binary leaves is looked at, too. It can only fail here by ending badly.
extern "C" fn end_shared() {
    let Some(server) = SERVER.get() else { return };
    let ended = thread::spawn(|| server.end()).join();
    server.remove_directories();
    if ended.is_err() {
        // SAFETY: ends the process without running this again.
        unsafe { libc::_exit(101) };
    }
}

/// A pool that no other test uses meanwhile.
pub struct Exclusive {
    _guard: MutexGuard<'static, ()>,
    pub name: &'static str,
}

/// The pool "watched" for one test alone, with all its sandboxes idle.
pub async fn exclusive(client: &Client) -> Exclusive {
    static LOCK: OnceLock<Arc<tokio::sync::Mutex<()>>> = OnceLock::new();
    let lock = LOCK.get_or_init(Arc::default);
    let guard = lock.lock().await;
    client.wait_full("watched").await;
    Exclusive {
        _guard: guard,
        name: "watched",
    }
}
