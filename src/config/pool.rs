//! `[pools.NAME]`: one pool of warm sandboxes.

use std::{collections::BTreeMap, fmt, num::NonZero, path::PathBuf, thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    backend::BackendKind,
    check::Check,
    language::{LANGUAGES, LanguageConfig, LanguageName},
    limits::PoolLimits,
    named::NamedConfig,
    pod::PodConfig,
    units::{self, ByteSize},
};

/// One pool of warm sandboxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// Directory that becomes the sandbox's read-only root file system; "" (the default) takes
    /// this machine's own system directories. An absolute path.
    #[serde(with = "units::path_or_empty")]
    pub rootfs: Option<PathBuf>,
    /// How many sandboxes wait. A number, at most max_sandboxes; default 4.
    pub min_idle: u32,
    /// How many sandboxes there are at once, in whatever state. A number from 1 to 10000;
    /// default 16.
    pub max_sandboxes: u32,
    /// How many sandboxes start at once. A number; 0 (the default) takes the number of
    /// processors, at least 2: a start is mostly work for a processor.
    pub max_starting: u32,
    /// How long the start of a replacement that no request waits for is put off, so that it does
    /// not share the processor with the program that took the sandbox. A duration of at most 10s;
    /// default 25ms.
    #[serde(with = "units::duration")]
    pub start_delay: Duration,
    /// How many of the sandboxes that wait keep a connection: those that are taken next. One without
    /// costs its program the time to connect: on Kubernetes an exec, a tenth of a second. A number;
    /// default 500.
    pub connected_idle: u32,
    /// How many requests wait for a sandbox; further ones are refused. A number, at most 1000000;
    /// default 100.
    pub max_queued: u32,
    /// How many of them may be one caller's. A number, at most max_queued; 0 (the default) takes
    /// half of max_queued.
    pub max_queued_per_caller: u32,
    /// How old a waiting sandbox gets before another one replaces it. A duration from 10s to 30d;
    /// default 1h.
    #[serde(with = "units::duration")]
    pub max_idle_age: Duration,
    /// User that programs run as: a number, not 0; default 65532.
    pub user: u32,
    /// Group that programs run as: a number, not 0; default 65532.
    pub group: u32,
    /// Processors that one sandbox may use: a number of more than 0, fractions allowed;
    /// default 1.0.
    pub cpus: f64,
    /// What a sandbox may use beyond memory limit and volumes before the machine kills it: gVisor
    /// and agent live of it. A size of at least 64MiB; default 64MiB.
    pub memory_headroom: ByteSize,
    /// Added to the environment of every program. A table of texts; default empty.
    pub env: PoolEnv,
    /// Sizes of the writable directories.
    pub volumes: Volumes,
    /// What its pods are, on Kubernetes.
    pub pod: PodConfig,
    /// The bounds of one execution.
    pub limits: PoolLimits,
    /// The bounds of sandboxes that callers keep.
    pub named: NamedConfig,
    /// The languages by name: those that the pool's section names or, if it names none, python,
    /// bash and (optional) node.
    pub languages: BTreeMap<String, LanguageConfig>,
}

/// A pool's own environment. It may hold secrets, so it has no values in logs or listings.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolEnv(BTreeMap<String, String>);

impl PoolEnv {
    /// The variables, by name.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl fmt::Debug for PoolEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Sizes of the writable directories, which are held in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volumes {
    /// /workspace. A size of at least 1MiB; default 256MiB.
    pub workspace: ByteSize,
    /// /tmp. A size of at least 1MiB; default 64MiB.
    pub tmp: ByteSize,
    /// HOME. A size of at least 1MiB; default 64MiB.
    pub home: ByteSize,
}

impl Volumes {
    /// All of them together.
    #[must_use]
    pub fn total(&self) -> ByteSize {
        [self.workspace, self.tmp, self.home]
            .into_iter()
            .fold(ByteSize::default(), |sum, size| {
                ByteSize::new(sum.bytes().saturating_add(size.bytes()))
            })
    }
}

impl Default for Volumes {
    fn default() -> Self {
        Self {
            workspace: ByteSize::mib(256),
            tmp: ByteSize::mib(64),
            home: ByteSize::mib(64),
        }
    }
}

impl Default for PoolConfig {
    /// What the configuration starts from: a 0 still stands for what is derived from others.
    fn default() -> Self {
        Self {
            rootfs: None,
            min_idle: 4,
            max_sandboxes: 16,
            max_starting: 0,
            start_delay: Duration::from_millis(25),
            connected_idle: 500,
            max_queued: 100,
            max_queued_per_caller: 0,
            max_idle_age: Duration::from_secs(3600),
            user: 65_532,
            group: 65_532,
            cpus: 1.0,
            memory_headroom: ByteSize::mib(64),
            env: PoolEnv::default(),
            volumes: Volumes::default(),
            pod: PodConfig::default(),
            limits: PoolLimits::default(),
            named: NamedConfig::default(),
            languages: default_languages(),
        }
    }
}

/// The languages of a pool that names none.
fn default_languages() -> BTreeMap<String, LanguageConfig> {
    LANGUAGES
        .into_iter()
        .map(|language| {
            let config = LanguageConfig {
                optional: language == LanguageName::Node,
                ..LanguageConfig::default()
            };
            (language.as_str().to_owned(), config)
        })
        .collect()
}

/// How many processors this process may use.
pub(super) fn processors() -> u32 {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(processors).unwrap_or(u32::MAX)
}

impl PoolConfig {
    /// The languages, in a fixed order.
    pub fn languages(&self) -> impl Iterator<Item = (LanguageName, &LanguageConfig)> {
        self.languages
            .iter()
            .filter_map(|(name, config)| Some((LanguageName::parse(name)?, config)))
    }

    /// What the machine gives one sandbox before it kills it: the largest memory limit, the
    /// volumes and the headroom.
    #[must_use]
    pub fn host_memory(&self) -> ByteSize {
        let parts = [
            self.limits.max.memory,
            self.volumes.total(),
            self.memory_headroom,
        ];
        let bytes = parts
            .iter()
            .fold(0u64, |sum, part| sum.saturating_add(part.bytes()));
        ByteSize::new(bytes)
    }

    /// Puts what is in force where 0 stands for something derived.
    pub(super) fn resolve(&mut self) {
        if self.max_starting == 0 {
            self.max_starting = processors().max(2).min(self.max_sandboxes);
        }
        if self.max_queued_per_caller == 0 {
            self.max_queued_per_caller = self.max_queued.div_ceil(2);
        }
        self.named.resolve(self.max_sandboxes);
        self.limits.resolve(&self.volumes);
    }

    pub(super) fn check(&self, name: &str, backend: BackendKind, check: &mut Check) {
        let key = |last: &str| format!("pools.{name}.{last}");
        if backend == BackendKind::Kubernetes {
            self.pod.check(&key("pod"), check);
            if self.rootfs.is_some() {
                check.problem(key("rootfs"), "\"\": on Kubernetes it is pod.image");
            }
        }
        if self.rootfs.as_ref().is_some_and(|path| !path.is_absolute()) {
            check.problem(key("rootfs"), "an absolute path, or \"\"");
        }
        check.range(key("max_sandboxes"), self.max_sandboxes, 1, 10_000);
        if self.min_idle > self.max_sandboxes {
            let expected = format!("at most max_sandboxes, {}", self.max_sandboxes);
            check.problem(key("min_idle"), expected);
        }
        if self.max_starting > self.max_sandboxes {
            let expected = format!("at most max_sandboxes, {}", self.max_sandboxes);
            check.problem(key("max_starting"), expected);
        }
        if self.start_delay > Duration::from_secs(10) {
            check.problem(key("start_delay"), "a duration of at most 10s");
        }
        check.range(key("max_queued"), self.max_queued, 0, 1_000_000);
        if self.max_queued_per_caller > self.max_queued {
            let expected = format!("at most max_queued, {}", self.max_queued);
            check.problem(key("max_queued_per_caller"), expected);
        }
        let (least, most) = (Duration::from_secs(10), Duration::from_secs(30 * 24 * 3600));
        if self.max_idle_age < least || self.max_idle_age > most {
            check.problem(key("max_idle_age"), "a duration from 10s to 30d");
        }
        check.range(key("user"), self.user, 1, u32::MAX - 1);
        check.range(key("group"), self.group, 1, u32::MAX - 1);
        if !(self.cpus >= 0.01 && self.cpus <= 4096.0) {
            check.problem(key("cpus"), "a number from 0.01 to 4096");
        }
        if self.memory_headroom < ByteSize::mib(64) {
            check.problem(key("memory_headroom"), "a size of at least 64MiB");
        }
        self.check_env(&key("env"), check);
        for (volume, size) in [
            ("workspace", self.volumes.workspace),
            ("tmp", self.volumes.tmp),
            ("home", self.volumes.home),
        ] {
            if size < ByteSize::mib(1) {
                check.problem(
                    format!("{}.{volume}", key("volumes")),
                    "a size of at least 1MiB",
                );
            }
        }
        self.limits.check(&key("limits"), &self.volumes, check);
        self.named.check(&key("named"), self.max_sandboxes, check);
        for (language, config) in &self.languages {
            let key = format!("{}.{language}", key("languages"));
            match LanguageName::parse(language) {
                Some(name) => config.check(&key, name, check),
                None => check.unknown(key, LANGUAGES.map(LanguageName::as_str)),
            }
        }
    }

    fn check_env(&self, key: &str, check: &mut Check) {
        for (variable, value) in self.env.variables() {
            if variable.is_empty() || variable.contains(['=', '\0']) {
                check.problem(
                    key,
                    format!(
                        "names that are not empty and hold neither '=' nor NUL, unlike {variable:?}"
                    ),
                );
            }
            if value.contains('\0') {
                check.problem(
                    key,
                    format!("values without NUL, unlike that of {variable}"),
                );
            }
        }
    }
}
