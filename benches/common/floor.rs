//! The floor: an interpreter in a sandbox of the same bundle that went through the same boot and
//! warm-up, given its program by a plain loop over `runsc exec`, without agent and gRPC.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What a waiting interpreter runs first.
pub const BOOT: &str = include_str!("../../src/agent/boot/sitecustomize.py");

/// Puts boot script and program where they are in a sandbox of Sandpool's, and starts the
/// interpreter with the socket on stdin as descriptor 3, too.
const START: &str = r#"
mkdir -p /run/sandpool/boot /run/sandpool/1
printf %s "$1" >/run/sandpool/boot/sitecustomize.py
printf %s "$2" >/run/sandpool/1/main.py
PYTHONPATH=/run/sandpool/boot exec /usr/bin/python3 /run/sandpool/1/main.py 3<&0 </dev/null
"#;

/// When things happened after the program was given.
pub struct Sample {
    pub first_output: Duration,
    /// Both outputs are at their end.
    pub end_of_output: Duration,
    /// `runsc exec` has ended: the exit code is known.
    pub exited: Duration,
}

/// One sandbox of a bundle like Sandpool's, in which nothing runs but `sleep`.
pub struct Sleeper {
    dir: PathBuf,
    id: String,
}

impl Sleeper {
    /// `like`: a directory with the config.json of a sandbox of Sandpool's.
    pub fn start(like: &Path) -> Self {
        let id = format!("floor-{:08x}", rand::random::<u32>());
        let dir = std::env::temp_dir().join(&id);
        std::fs::create_dir(&dir).unwrap();
        let bundle = std::fs::read(like.join("config.json")).unwrap();
        let mut bundle: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
        bundle["process"]["args"] = serde_json::json!(["/bin/sleep", "infinity"]);
        bundle["linux"]["cgroupsPath"] = serde_json::json!(format!("/sandpool-floor/{id}"));
        std::fs::write(dir.join("config.json"), bundle.to_string()).unwrap();
        let sandbox = Self { dir, id };
        let started = sandbox
            .runsc()
            .args(["run", "--detach", "--bundle"])
            .args([&sandbox.dir, Path::new(&sandbox.id)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(started.success());
        sandbox
    }

    fn runsc(&self) -> Command {
        let mut command = Command::new("runsc");
        command.arg("--root").arg(self.dir.join("state")).args([
            "--platform=systrap",
            "--network=none",
            "--overlay2=none",
            "--file-access-mounts=exclusive",
        ]);
        command
    }

    /// A command in the sandbox, its texts as arguments (`--env` splits values at commas), with the environment that Sandpool's programs have.
    pub fn exec(&self, args: &[&str]) -> Command {
        let mut command = self.runsc();
        command.args(["exec", "--user", "65532:65532", "--cwd", "/workspace"]);
        let usual = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/home/sandbox"),
            ("LANG", "C.UTF-8"),
        ];
        for (name, value) in usual {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.arg(&self.id).args(args);
        command
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.runsc().args(["delete", "--force", &self.id]).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// One sandbox with one waiting interpreter.
pub struct Floor {
    control: UnixStream,
    exec: Child,
    /// Dropped after the interpreter has been waited for.
    _sandbox: Sleeper,
}

impl Floor {
    pub fn start(like: &Path, preload: &str, program: &str) -> Self {
        let sandbox = Sleeper::start(like);
        let (mut control, theirs) = UnixStream::pair().unwrap();
        let exec = sandbox
            .exec(&["/bin/sh", "-c", START, "sh", BOOT, program])
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(control, "{preload}").unwrap();
        let mut ready = [0];
        control.read_exact(&mut ready).unwrap();
        Self {
            control,
            exec,
            _sandbox: sandbox,
        }
    }

    /// Gives the program and waits for its end.
    pub fn run(mut self) -> Sample {
        let record = b"/workspace\x000\0";
        let mut start = u32::try_from(record.len()).unwrap().to_be_bytes().to_vec();
        start.extend_from_slice(record);
        let mut stdout = self.exec.stdout.take().unwrap();
        let mut output = [0; 4096];

        let given = Instant::now();
        self.control.write_all(&start).unwrap();
        assert!(stdout.read(&mut output).unwrap() > 0);
        let first_output = given.elapsed();
        while stdout.read(&mut output).unwrap() > 0 {}
        let end_of_output = given.elapsed();
        assert!(self.exec.wait().unwrap().success());
        Sample {
            first_output,
            end_of_output,
            exited: given.elapsed(),
        }
    }
}
