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
        unix::{fs::FileExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::{
    RUN_DIR, WORKSPACE,
    boot::{BOOTS, Boot, Hook, OutputReader, StartRecord},
    marks::Mark,
    pipes::{DirectPair, Outputs, Pipes},
    processes,
    stream::DescriptorPair,
    terminal::Terminal,
};
use crate::{
    proto::agent::{Code, Language},
    reaper::{Process, Reaper},
};

/// How long an interpreter may take to import and warm up before it counts as failed.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the start of a replacement is put off, so that it does not share the processor with the
/// beginning of the program that took the last one.
const REPLACE_DELAY: Duration = Duration::from_millis(25);

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
    /// Memory that it had then, in bytes.
    pub(super) memory_before: u64,
    /// What only its start needed. Closing it costs system calls, which the program would have to
    /// share the processor with: not before it has ended.
    pub(super) used_for_start: Option<(DescriptorPair, File)>,
    /// What it is the only one to need.
    pub(super) directory: Option<PathBuf>,
}

/// An interpreter before its main script.
struct Spare {
    process: Process,
    pipes: Pipes,
    control: DescriptorPair,
    /// The main script, still empty.
    main: File,
    boot: Boot,
    cpu_time: Duration,
    memory_bytes: u64,
    directory: PathBuf,
}

/// What a program runs with.
pub(super) struct Setting<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) working_directory: &'a str,
    /// How many processes and threads the sandbox's user may have.
    pub(super) processes: u64,
    pub(super) terminal: Option<Terminal>,
    /// In a sandbox that lives on.
    pub(super) mark: Option<Mark>,
}

/// What a program gets as stdin, stdout and stderr.
enum Ends {
    /// Of which the last two may be the server's.
    Pipes(Option<DirectPair>),
    Terminal(Terminal),
}

/// A language as the pool configures it.
#[derive(Clone)]
struct Configured {
    boot: Boot,
    interpreter: String,
    preload: String,
    spares: usize,
}

/// The languages, and the interpreters that wait.
pub(super) struct Interpreters {
    reaper: Reaper,
    next: AtomicU64,
    /// How many files a program may open, unless it is as many as the agent may.
    files: Option<u64>,
    /// Held by the one who replaces spares.
    replacing: tokio::sync::Mutex<()>,
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
            files: processes::raise_own_files(),
            replacing: tokio::sync::Mutex::default(),
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
                let ends = Ends::Pipes(pair);
                let spare = self.spawn(*boot, &language.interpreter, &BTreeMap::new(), ends);
                booting.push((language.name.clone(), preload.clone(), spare));
            }
            let configured = Configured {
                boot: *boot,
                interpreter: language.interpreter,
                preload,
                spares: language.spares as usize,
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
    /// what is read at a process's start only, or it is to run on a terminal.
    pub(super) async fn run(&self, code: Code, setting: Setting<'_>) -> io::Result<Program> {
        self.start_in(code, setting, false).await
    }

    /// Has a waiting interpreter, or a fresh one, wait for cells: with it comes the socket to tell it of them.
    pub(super) async fn context(
        &self,
        language: String,
        setting: Setting<'_>,
    ) -> io::Result<Program> {
        let boot = self.state().languages.get(&language).map(|it| it.boot);
        let script = boot.and_then(|boot| boot.context);
        let code = Code {
            source: script.ok_or_else(no_such_language)?.to_owned(),
            language,
            args: Vec::new(),
        };
        self.start_in(code, setting, true).await
    }

    async fn start_in(
        &self,
        code: Code,
        setting: Setting<'_>,
        is_context: bool,
    ) -> io::Result<Program> {
        let Setting {
            env,
            working_directory,
            processes,
            terminal,
            mark,
        } = setting;
        let fresh = terminal.is_some() || env.keys().any(|name| is_read_at_start_only(name));
        let waiting = if fresh {
            None
        } else {
            self.state().take_spare(&code.language)
        };
        let warm = waiting.is_some();
        let mut spare = match waiting {
            Some(spare) => spare,
            None => {
                let (boot, interpreter) = match self.state().languages.get(&code.language) {
                    Some(language) => (language.boot, language.interpreter.clone()),
                    None => return Err(no_such_language()),
                };
                let ends = terminal.map_or(Ends::Pipes(None), Ends::Terminal);
                let mut spare = self.spawn(boot, &interpreter, env, ends)?;
                spare.control.write_all(b"\n").await?;
                spare
            }
        };
        // Before the program can start others.
        processes::limit_processes(spare.process.pid, processes);
        if let Some(mark) = mark {
            mark.put_on(spare.process.pid);
        }
        spare.main.write_all_at(code.source.as_bytes(), 0)?;
        let record = StartRecord {
            working_directory,
            reader: match spare.pipes.outputs {
                _ if is_context => OutputReader::AgentByCell,
                Outputs::Read { .. } => OutputReader::Agent,
                Outputs::Direct(_) | Outputs::Terminal(_) => OutputReader::Server,
            },
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
            memory_before: spare.memory_bytes,
            used_for_start: Some((spare.control, spare.main)),
            directory: Some(spare.directory),
        })
    }

    /// Starts as many interpreters of a language as should wait and do not, one after the other. What
    /// fails is tried again with the next replacement.
    pub(super) async fn replace_spares(&self, language: &str) {
        sleep(REPLACE_DELAY).await;
        let _alone = self.replacing.lock().await;
        loop {
            let configured = {
                let mut state = self.state();
                let waiting = state.spares.entry(language.to_owned()).or_default();
                waiting.retain(Spare::waits);
                let waiting = waiting.len();
                state
                    .languages
                    .get(language)
                    .filter(|it| waiting < it.spares)
                    .cloned()
            };
            let Some(configured) = configured else { return };
            let Configured {
                boot,
                interpreter,
                preload,
                ..
            } = configured;
            let ends = Ends::Pipes(None);
            let Ok(spare) = self.spawn(boot, &interpreter, &BTreeMap::new(), ends) else {
                return;
            };
            let Ok(spare) = spare.warm_up(&preload).await else {
                return;
            };
            let mut state = self.state();
            state
                .spares
                .entry(language.to_owned())
                .or_default()
                .push(spare);
        }
    }

    /// Starts any program.
    pub(super) fn command(&self, args: &[String], setting: Setting<'_>) -> io::Result<Program> {
        let (program, rest) = args
            .split_first()
            .ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(program);
        command
            .args(rest)
            .envs(&self.state().env)
            .envs(setting.env)
            .current_dir(setting.working_directory);
        if let Some(mark) = setting.mark {
            // It may start others at once.
            // SAFETY: only calls setrlimit, which is async-signal-safe.
            unsafe { command.pre_exec(move || mark.put_on_oneself()) };
        }
        let ends = setting.terminal.map_or(Ends::Pipes(None), Ends::Terminal);
        let (process, pipes) = self.start(command, ends)?;
        processes::limit_processes(process.pid, setting.processes);
        Ok(Program {
            process,
            pipes,
            warm: false,
            cpu_time_before: Duration::ZERO,
            memory_before: 0,
            used_for_start: None,
            directory: None,
        })
    }

    /// Starts an interpreter, which then runs its boot script.
    fn spawn(
        &self,
        boot: Boot,
        interpreter: &str,
        env: &BTreeMap<String, String>,
        ends: Ends,
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

        let (control, theirs) = UnixStream::pair()?;
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
        let (process, pipes) = self.start(command, ends)?;
        Ok(Spare {
            process,
            pipes,
            control: DescriptorPair::of_socket(control.into())?,
            main: main_file,
            boot,
            cpu_time: Duration::ZERO,
            memory_bytes: 0,
            directory: dir,
        })
    }

    fn start(&self, mut command: Command, ends: Ends) -> io::Result<(Process, Pipes)> {
        // The command, and with it the program's ends of the pipes, is dropped in there: the
        // agent must not keep them open.
        let (process, pipes) = match ends {
            Ends::Pipes(direct) => {
                let pipes = Pipes::attach(&mut command, direct)?;
                (self.reaper.spawn(command)?, pipes)
            }
            Ends::Terminal(terminal) => {
                terminal.attach(&mut command)?;
                let process = self.reaper.spawn_as_it_is(command)?;
                (process, Pipes::of_terminal(terminal))
            }
        };
        if let Some(files) = self.files {
            processes::limit_files(process.pid, files);
        }
        Ok((process, pipes))
    }
}

fn no_such_language() -> io::Error {
    io::Error::other("the agent does not know the language")
}

impl State {
    fn take_spare(&mut self, language: &str) -> Option<Spare> {
        let spares = self.spares.get_mut(language)?;
        // Programs of a sandbox that lives on may have killed some.
        std::iter::from_fn(|| spares.pop()).find(Spare::waits)
    }
}

impl Spare {
    /// Whether it has not ended.
    fn waits(&self) -> bool {
        self.process.exit.is_empty()
    }

    async fn warm_up(mut self, preload: &str) -> Result<Self, String> {
        let waits = async {
            self.control.write_all(preload.as_bytes()).await?;
            self.control.write_all(b"\n").await?;
            let said = self.control.read_u8().await;
            self.control.rest();
            said
        };
        match tokio::time::timeout(WARM_UP_TIMEOUT, waits).await {
            Ok(Ok(_)) => {
                (self.cpu_time, self.memory_bytes) = processes::used(self.process.pid);
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
