//! `sandpool` as people type it.

use std::{
    fs::{self, File, Permissions},
    io::{self, PipeWriter, Read, Write},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::Path,
    process::{Output, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
};

use super::{Server, soon};

/// Addressed to a server, without input.
pub fn sandpool(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
    command
        .args(args)
        .env("SANDPOOL_ADDRESS", server.address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Makes a program of a text, to be run in the place of another one.
pub fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// What a command may write to, and nobody reads.
pub fn unread() -> PipeWriter {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer
}

/// What it has said at its end.
pub async fn output(mut command: Command) -> Output {
    soon("the end of sandpool", command.output()).await.unwrap()
}

/// grpcurl with these arguments and the server's address before the last of them.
pub fn grpcurl(server: &Server, options: &[&str], rest: &[&str]) -> String {
    let output = std::process::Command::new("grpcurl")
        .arg("-plaintext")
        .args(options)
        .arg(server.address.to_string())
        .args(rest)
        .output()
        .expect("grpcurl is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "grpcurl {options:?} {rest:?}: {text}{err}"
    );
    text
}

/// `sandpool` on a terminal, as a person has it.
pub struct Typed {
    child: Child,
    master: File,
    slave: OwnedFd,
    seen: String,
}

impl Typed {
    /// On a terminal of that size.
    pub fn start(server: &Server, args: &[&str], rows: u16, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut command = sandpool(server, args);
        command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .env("TERM", "xterm");
        tcsetwinsize(&slave, size(rows, columns)).unwrap();
        Self {
            child: command.spawn().unwrap(),
            master: File::from(master),
            slave,
            seen: String::new(),
        }
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.slave, size(rows, columns)).unwrap();
        self.signal(libc::SIGWINCH);
    }

    /// To sandpool itself.
    pub fn signal(&self, number: i32) {
        if let Some(pid) = self.child.id() {
            super::kill(pid as i32, number);
        }
    }

    /// Whether what is typed is echoed by the terminal itself, and sent by lines.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows that.
    pub async fn until(&mut self, text: &str) -> &str {
        while !self.seen.contains(text) {
            let mut master = self.master.try_clone().unwrap();
            let more = spawn_blocking(move || {
                let mut piece = [0; 4096];
                let read = master.read(&mut piece).unwrap();
                String::from_utf8_lossy(&piece[..read]).into_owned()
            });
            self.seen += &soon(text, more).await.unwrap();
        }
        &self.seen
    }

    /// Waits for its end; its exit code.
    pub async fn ended(&mut self) -> i32 {
        let status = soon("the end of sandpool", self.child.wait())
            .await
            .unwrap();
        status.code().expect("an exit code")
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
