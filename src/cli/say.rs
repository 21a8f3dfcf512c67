//! Lines for whoever reads them. Nobody need: `println!` would panic where a pipe is closed.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Prints a line; false: nobody reads any further. Who does not, such as `head`, has had what they wanted.
pub(super) fn say(line: &str) -> bool {
    writeln!(io::stdout(), "{line}").is_ok()
}

/// Tells on stderr what went wrong.
pub(super) fn complain(trouble: impl Display) {
    let _ = writeln!(io::stderr(), "sandpool: {trouble}");
}
