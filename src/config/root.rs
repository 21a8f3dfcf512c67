//! The whole configuration.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{
    AccessConfig, BackendConfig, ConfigError, ExecutionsConfig, LogConfig, MetricsConfig,
    PoolConfig, ShutdownConfig, Sources, TlsConfig, check::Check, pool::processors, units,
};

/// More would only pass requests around.
const MAX_THREADS: u32 = 1024;

/// The whole configuration, as [`Config::load`] checked it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the server listens: an IP address and a port. One that others can reach needs `tls`
    /// and `access`. Default 127.0.0.1:50051.
    #[serde(with = "units::address")]
    pub listen: SocketAddr,
    /// Pool of a request that names none. Default default.
    pub default_pool: String,
    /// How many threads the server's own work is spread over. Default a quarter of the processors,
    /// at least one: passing a request from thread to thread takes longer than the work itself,
    /// and the sandboxes need the processors, too.
    pub threads: u32,
    /// The server's certificate.
    pub tls: TlsConfig,
    /// Who may call.
    pub access: AccessConfig,
    /// How the server ends.
    pub shutdown: ShutdownConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where metrics and probes are answered.
    pub metrics: MetricsConfig,
    /// What is remembered of executions.
    pub executions: ExecutionsConfig,
    /// Where sandboxes come from.
    pub backend: BackendConfig,
    /// The pools by name: those that the configuration names or, if it names none, one called
    /// default.
    pub pools: BTreeMap<String, PoolConfig>,
}

impl Default for Config {
    /// What is in force without any file, variable or flag.
    fn default() -> Self {
        let mut config = Self {
            pools: BTreeMap::from([("default".to_owned(), PoolConfig::default())]),
            ..Self::without_pools()
        };
        config.resolve();
        config
    }
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Every unknown key and bad value that was found, or why the file could not be read.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Ok(sources.load()?.config)
    }

    /// The defaults of everything but the pools.
    pub(super) fn without_pools() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50_051)),
            default_pool: "default".to_owned(),
            threads: 0,
            tls: TlsConfig::default(),
            access: AccessConfig::default(),
            shutdown: ShutdownConfig::default(),
            log: LogConfig::default(),
            metrics: MetricsConfig::default(),
            executions: ExecutionsConfig::default(),
            backend: BackendConfig::default(),
            pools: BTreeMap::new(),
        }
    }

    pub(super) fn resolve(&mut self) {
        if self.threads == 0 {
            self.threads = (processors() / 4).clamp(1, MAX_THREADS);
        }
        self.pools.values_mut().for_each(PoolConfig::resolve);
    }

    pub(super) fn check(&self, check: &mut Check) {
        self.check_listen(check);
        if !self.pools.contains_key(&self.default_pool) {
            let names: Vec<&str> = self.pools.keys().map(String::as_str).collect();
            check.problem(
                "default_pool",
                format!("one of the pools: {}", names.join(", ")),
            );
        }
        check.range("threads", self.threads, 0, MAX_THREADS);
        self.tls.check(check);
        self.access.check(self.backend.kind, check);
        self.shutdown.check(check);
        self.log.check(check);
        self.metrics.check(self.listen, check);
        self.executions.check(check);
        self.backend.check(check);
        for (name, pool) in &self.pools {
            pool.check(name, self.backend.kind, check);
        }
    }

    /// Whoever reaches the server may run programs on it, so others than this machine reach it only
    /// by a connection that is secret and a token, or where the operator has said otherwise.
    fn check_listen(&self, check: &mut Check) {
        if self.listen.ip().is_loopback() {
            return;
        }
        if self.tls.files().is_none() && !self.tls.allow_plaintext {
            check.problem(
                "listen",
                "a loopback address such as 127.0.0.1:50051, unless there are tls.certificate and \
                 tls.key, or tls.allow_plaintext says that something else encrypts",
            );
        }
        if !self.access.is_guarded() && !self.access.allow_anonymous {
            check.problem(
                "listen",
                "a loopback address such as 127.0.0.1:50051, unless there is access.tokens or \
                 access.kubernetes.audience, or access.allow_anonymous says that whoever reaches \
                 the server may run programs and change pools",
            );
        }
    }
}
