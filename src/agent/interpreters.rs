//! Interpreters that wait for code.
//!
//! Each language has a boot script that the interpreter itself runs before its main script (see
//! `boot/`). It imports, warms up and waits; once told to start it returns, and the interpreter
//! runs the main script as it always does. So a warm run is a real run of `python3 main.py`.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::FileExt, process::CommandExt},
    },
    path::Path,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    RUN_DIR, WORKSPACE,
    boot::{BOOTS, Boot, Hook, StartRecord},
    pipes::{DirectPair, Outputs, Pipes},
    processes,
};
use crate::{
    proto::agent::{Code, Language},
    reaper::{Process, Reaper},
};

/// How long an interpreter may take to import and warm up before it counts as failed.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Variables that interpreters and libraries read only when a process starts: a program that is
/// given one of them gets a fresh interpreter, since a waiting one would ignore it.
const START_ONLY_PREFIXES: [&str; 8] = [
    "PYTHON",
    "NODE_",
    "BASH",
    "LD_",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "MALLOC_",
];
const START_ONLY_NAMES: [&str; 6] = [
    "LANG",
    "LANGUAGE",
    "GLIBC_TUNABLES",
    "GOMAXPROCS",
    "SHELLOPTS",
    "UV_THREADPOOL_SIZE",
];

/// What a shell takes from its environment in a way of its own, or not at all.
const SHELL_NAMES: [&str; 14] = [
    "IFS", "UID", "EUID", "PPID", "PWD", "OLDPWD", "SECONDS", "RANDOM", "SRANDOM", "LINENO",
    "HISTCMD", "OPTIND", "SHLVL", "REPLY",
];

/// Whether a waiting interpreter would not honour the variable as a new one does.
fn is_read_at_start_only(name: &str) -> bool {
    let is_shell_variable = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    name.starts_with("LC_")
        || !is_shell_variable
        || SHELL_NAMES.contains(&name)
        || START_ONLY_NAMES.contains(&name)
        || START_ONLY_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// A started program.
pub(super) struct Program {
    pub(super) process: Process,
    pub(super) pipes: Pipes,
    /// Whether an interpreter that had waited took it.
    pub(super) warm: bool,
    /// CPU time that the process had used before it was the program.
    pub(super) cpu_time_before: Duration,
    /// What only its start needed. Closing it costs system calls, which the program would have to
    /// share the processor with: not before it has ended.
    pub(super) used_for_start: Option<(UnixStream, File)>,
}

/// An interpreter before its main script.
struct Spare {
    process: Process,
    pipes: Pipes,
    control: UnixStream,
    /// The main script, still empty.
    main: File,
    boot: Boot,
    cpu_time: Duration,
}

/// A language as the pool configures it.
struct Configured {
    boot: Boot,
    interpreter: String,
}

/// The languages, and the interpreters that wait.
pub(super) struct Interpreters {
    reaper: Reaper,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    languages: HashMap<String, Configured>,
    env: BTreeMap<String, String>,
    spares: HashMap<String, Vec<Spare>>,
}

impl Interpreters {
    pub(super) fn new(reaper: Reaper) -> Self {
        Self {
            reaper,
            next: AtomicU64::new(1),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the spares, all at once, each with a pair of `direct` while there are any, and waits
    /// until each waits. Returns what failed.
    pub(super) async fn prepare(
        &self,
        languages: Vec<Language>,
        env: BTreeMap<String, String>,
        mut direct: Vec<DirectPair>,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        let mut booting = Vec::new();
        self.state().env = env;
        for language in languages {
            let Some(boot) = BOOTS.iter().find(|boot| boot.name == language.name) else {
                failures.push(format!("{}: no such language", language.name));
                continue;
            };
            let preload = language.preload.join(" ");
            for _ in 0..language.spares {
                let pair = direct.pop();
                let spare = self.spawn(*boot, &language.interpreter, &BTreeMap::new(), pair);
                booting.push((language.name.clone(), preload.clone(), spare));
            }
            let configured = Configured {
                boot: *boot,
                interpreter: language.interpreter,
            };
            self.state().languages.insert(language.name, configured);
        }
        for (language, preload, spare) in booting {
            let warm = match spare {
                Ok(spare) => spare.warm_up(&preload).await,
                Err(error) => Err(error.to_string()),
            };
            match warm {
                Ok(spare) => self.state().spares.entry(language).or_default().push(spare),
                Err(reason) => failures.push(format!("{language}: {reason}")),
            }
        }
        failures
    }

    /// Gives code to a waiting interpreter, or to a fresh one where none waits or `env` holds
    /// what is read at a process's start only. `processes`: how many the sandbox's user may have.
    pub(super) async fn run(
        &self,
        code: Code,
        env: &BTreeMap<String, String>,
        working_directory: &str,
        processes: u64,
    ) -> io::Result<Program> {
        let fresh = env.keys().any(|name| is_read_at_start_only(name));
        let waiting = if fresh {
            None
        } else {
            self.state()
                .spares
                .get_mut(&code.language)
                .and_then(Vec::pop)
        };
        let warm = waiting.is_some();
        let mut spare = match waiting {
            Some(spare) => spare,
            None => {
                let (boot, interpreter) = match self.state().languages.get(&code.language) {
                    Some(language) => (language.boot, language.interpreter.clone()),
                    None => return Err(io::Error::other("the agent does not know the language")),
                };
                let mut spare = self.spawn(boot, &interpreter, env, None)?;
                spare.control.write_all(b"\n").await?;
                spare
            }
        };
        // Before the program can start others.
        processes::limit_processes(spare.process.pid, processes);
        spare.main.write_all_at(code.source.as_bytes(), 0)?;
        let record = StartRecord {
            working_directory,
            read_by_agent: matches!(spare.pipes.outputs, Outputs::Read { .. }),
            args: &code.args,
            env: &env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        };
        spare
            .control
            .write_all(&(spare.boot.start)(&record))
            .await?;
        // The boot script of one that did not wait has yet to say that it does, and must not find
        // that nobody hears.
        Ok(Program {
            process: spare.process,
            pipes: spare.pipes,
            warm,
            cpu_time_before: spare.cpu_time,
            used_for_start: Some((spare.control, spare.main)),
        })
    }

    /// Starts any program, in `working_directory`.
    pub(super) fn command(
        &self,
        args: &[String],
        env: &BTreeMap<String, String>,
        working_directory: &str,
        processes: u64,
    ) -> io::Result<Program> {
        let (program, rest) = args
            .split_first()
            .ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(program);
        command
            .args(rest)
            .envs(&self.state().env)
            .envs(env)
            .current_dir(working_directory);
        let (process, pipes) = self.start(command, None)?;
        processes::limit_processes(process.pid, processes);
        Ok(Program {
            process,
            pipes,
            warm: false,
            cpu_time_before: Duration::ZERO,
            used_for_start: None,
        })
    }

    /// Starts an interpreter, which then runs its boot script.
    fn spawn(
        &self,
        boot: Boot,
        interpreter: &str,
        env: &BTreeMap<String, String>,
        direct: Option<DirectPair>,
    ) -> io::Result<Spare> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(RUN_DIR).join(number.to_string());
        fs::create_dir_all(&dir)?;
        let main = dir.join(boot.main);
        // Bash opens its script before it reads BASH_ENV, so the file has to be there.
        let main_file = File::create(&main)?;
        let script = Path::new(RUN_DIR).join("boot").join(boot.script_name);

        let mut all = self.state().env.clone();
        all.extend(env.iter().map(|(k, v)| (k.clone(), v.clone())));
        let mut command = Command::new(interpreter);
        command.envs(&all).current_dir(WORKSPACE);
        match boot.hook {
            Hook::Directory(variable) => {
                let mut path = Path::new(RUN_DIR).join("boot").into_os_string();
                if let Some(given) = all.get(variable) {
                    path.push(":");
                    path.push(given);
                }
                command.env(variable, path).arg(&main)
            }
            Hook::Script(variable) => command.env(variable, &script).arg(&main),
            Hook::Option(option) => command.arg(option).arg(&script).arg(&main),
            Hook::Argument(argument) => command.arg(argument),
        };

        let (control, theirs) = std::os::unix::net::UnixStream::pair()?;
        control.set_nonblocking(true)?;
        let raw = theirs.as_raw_fd();
        // SAFETY: between fork and exec only dup2 and fcntl are called, which are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                // dup2 of a descriptor to itself would leave it close-on-exec.
                let result = if raw == 3 {
                    libc::fcntl(3, libc::F_SETFD, 0)
                } else {
                    libc::dup2(raw, 3)
                };
                if result < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let (process, pipes) = self.start(command, direct)?;
        Ok(Spare {
            process,
            pipes,
            control: UnixStream::from_std(control)?,
            main: main_file,
            boot,
            cpu_time: Duration::ZERO,
        })
    }

    fn start(
        &self,
        mut command: Command,
        direct: Option<DirectPair>,
    ) -> io::Result<(Process, Pipes)> {
        let pipes = Pipes::attach(&mut command, direct)?;
        // The command, and with it the program's ends of the pipes, is dropped in there: the
        // agent must not keep them open.
        let process = self.reaper.spawn(command)?;
        Ok((process, pipes))
    }
}

impl Spare {
    async fn warm_up(mut self, preload: &str) -> Result<Self, String> {
        let waits = async {
            self.control.write_all(preload.as_bytes()).await?;
            self.control.write_all(b"\n").await?;
            self.control.read_u8().await
        };
        match tokio::time::timeout(WARM_UP_TIMEOUT, waits).await {
            Ok(Ok(_)) => {
                self.cpu_time = processes::cpu_time(self.process.pid);
                Ok(self)
            }
            Ok(Err(_)) => Err(self.last_words().await),
            Err(_) => Err(format!("not ready after {WARM_UP_TIMEOUT:?}")),
        }
    }

    async fn last_words(mut self) -> String {
        let words = self.pipes.last_words().await;
        format!("ended while it started: {}", words.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_only_a_new_process_reads_are_known() {
        for name in [
            "PYTHONHASHSEED",
            "LD_PRELOAD",
            "OMP_NUM_THREADS",
            "LANG",
            "LC_ALL",
            "NODE_OPTIONS",
        ] {
            assert!(is_read_at_start_only(name), "{name}");
        }
        for name in ["TZ", "API_KEY", "FOO", "USER"] {
            assert!(!is_read_at_start_only(name), "{name}");
        }
    }
}
