use std::{
    io::{IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command},
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};

use super::*;

#[test]
fn a_shell_record_quotes_everything() {
    let record = StartRecord {
        working_directory: "/workspace/it's",
        reader: OutputReader::Agent,
        args: &["a b".into(), "$(id)".into()],
        env: &BTreeMap::from([("A", "x'y")]),
    };
    assert_eq!(
        String::from_utf8(record.shell_commands()).unwrap(),
        "unset REPLY; cd -- '/workspace/it'\\''s' || exit; unset OLDPWD; export A='x'\\''y'; set -- 'a b' '$(id)'\0"
    );
}

/// The interpreter of a context, and the agent's end of its socket.
struct Interpreter {
    process: Child,
    socket: UnixStream,
}

impl Interpreter {
    /// The machine's own Python, as the agent starts one; its cells' output goes nowhere.
    fn start(dir: &Path) -> Self {
        write_boot_scripts(dir).unwrap();
        let main = dir.join("1/main.py");
        fs::create_dir(dir.join("1")).unwrap();
        fs::write(&main, BOOTS[0].context.unwrap()).unwrap();
        let (mut socket, theirs) = UnixStream::pair().unwrap();
        let raw = theirs.as_raw_fd();
        let mut command = Command::new("python3");
        // SAFETY: dup and dup2 are async-signal-safe. A copy, since it may be 3 itself, which closes on exec.
        unsafe {
            command.pre_exec(move || match libc::dup2(libc::dup(raw), 3) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let process = command.arg(main).spawn().unwrap();
        assert_eq!(read(&mut socket, 1), b"c");
        let nowhere = fs::File::create("/dev/null").unwrap();
        let outputs = [nowhere.as_fd(), nowhere.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&outputs));
        sendmsg(
            &socket,
            &[IoSlice::new(b"x")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        let mut started = Self { process, socket };
        started.hear();
        started
    }

    fn hear(&mut self) -> Vec<u8> {
        let length = read(&mut self.socket, 4).try_into().unwrap();
        read(&mut self.socket, u32::from_be_bytes(length) as usize)
    }

    fn begin(&mut self, number: u64, source: &str) {
        let length = (source.len() as u32).to_be_bytes();
        let cell = [&number.to_be_bytes(), &length[..], source.as_bytes()].concat();
        self.socket.write_all(&cell).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Whatever is done meanwhile, it finds all of it at once.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let process = WaitId::Pid(Pid::from_child(&self.process));
        waitid(process, WaitIdOptions::STOPPED).unwrap();
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn read(socket: &mut UnixStream, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    socket.read_exact(&mut data).unwrap();
    data
}

#[test]
fn an_interrupt_is_the_cell_s_that_it_was_sent_to_however_late_the_interpreter_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut interpreter = Interpreter::start(dir.path());
    for is_next_ones in [true, false] {
        interpreter.begin(1, "1;");
        interpreter.hear();
        interpreter.stop();
        if !is_next_ones {
            interpreter.signal(Signal::INT);
        }
        let answer = [u8::from(!is_next_ones)];
        interpreter.socket.write_all(&answer).unwrap();
        interpreter.begin(2, "import time\nfor _ in range(20): time.sleep(0.05)");
        if is_next_ones {
            interpreter.signal(Signal::INT);
        }
        interpreter.signal(Signal::CONT);
        let end = String::from_utf8_lossy(&interpreter.hear()).into_owned();
        assert_eq!(end.contains("KeyboardInterrupt"), is_next_ones, "{end}");
        interpreter
            .socket
            .write_all(&[u8::from(is_next_ones)])
            .unwrap();
    }
}
