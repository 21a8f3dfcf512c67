//! A language whose interpreter is the agent itself and whose programs all print one line.
//!
//! The first run of any code costs milliseconds in gVisor: each page of the agent is fetched at
//! its first use. So the server runs one program in this language, through the whole path, before
//! a sandbox counts as warm.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::FromRawFd,
};

/// Its name, and the agent's argument that makes it the interpreter.
pub const REHEARSAL: &str = "rehearsal";

/// Waits and starts as the boot scripts do (see `boot/sitecustomize.py`), and prints a line.
///
/// # Errors
/// When descriptor 3 is not what an interpreter gets.
pub fn rehearse() -> io::Result<()> {
    // SAFETY: the agent starts this process with descriptor 3, and nothing else here uses it.
    let mut control = unsafe { File::from_raw_fd(3) };
    let mut byte = [0];
    while byte != *b"\n" {
        control.read_exact(&mut byte)?;
    }
    control.write_all(b"r")?;
    let mut length = [0; 4];
    control.read_exact(&mut length)?;
    let length = u64::from(u32::from_be_bytes(length));
    io::copy(&mut control.take(length), &mut io::sink())?;
    io::stdout().write_all(b"ok\n")
}
