//! Lines for whoever reads them. Nobody need: `println!` would panic where a pipe is closed.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Prints a line; false: nobody reads any further. Who does not, such as `head`, has had what they wanted.
pub(super) fn say(line: &str) -> bool {
    writeln!(io::stdout(), "{line}").is_ok()
}

/// Prints a text as it is; an error, unless nobody reads it.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Tells on stderr what went wrong.
pub(super) fn complain(trouble: impl Display) {
    let _ = writeln!(io::stderr(), "sandpool: {trouble}");
}
