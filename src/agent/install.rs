//! `sandpool-agent install PATH`: how the agent gets from its own image into another one's container.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

/// Beside the agent, for what only its installer may reach, and the file in it that Kubernetes mounts
/// another one over: where a container may leave its last words.
const PRIVATE: &str = "private";
const TERMINATION_LOG: &str = "termination-log";

/// Copies this program to `to`, executable for everyone, and makes a directory beside it that nobody
/// else can enter.
///
/// # Errors
/// When it cannot be read or written.
pub fn install(to: &Path) -> io::Result<()> {
    fs::copy("/proc/self/exe", to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o555))?;
    let private = to.with_file_name(PRIVATE);
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    fs::write(private.join(TERMINATION_LOG), "")
}
