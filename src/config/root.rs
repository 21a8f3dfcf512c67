//! The whole configuration.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{
    BackendConfig, ConfigError, ExecutionsConfig, LogConfig, PoolConfig, ShutdownConfig, Sources,
    check::Check, units,
};

/// The whole configuration, as [`Config::load`] checked it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the server listens: an address of the loopback interface and a port.
    /// Default 127.0.0.1:50051.
    #[serde(with = "units::address")]
    pub listen: SocketAddr,
    /// Pool of a request that names none. Default default.
    pub default_pool: String,
    /// How the server ends.
    pub shutdown: ShutdownConfig,
    /// What is logged, and how.
    pub log: LogConfig,
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
            shutdown: ShutdownConfig::default(),
            log: LogConfig::default(),
            executions: ExecutionsConfig::default(),
            backend: BackendConfig::default(),
            pools: BTreeMap::new(),
        }
    }

    pub(super) fn resolve(&mut self) {
        self.pools.values_mut().for_each(PoolConfig::resolve);
    }

    pub(super) fn check(&self, check: &mut Check) {
        if !self.listen.ip().is_loopback() {
            check.problem(
                "listen",
                "a loopback address such as 127.0.0.1:50051, until sandpool has access control: \
                 whoever reaches the server may run programs on it",
            );
        }
        if !self.pools.contains_key(&self.default_pool) {
            let names: Vec<&str> = self.pools.keys().map(String::as_str).collect();
            check.problem(
                "default_pool",
                format!("one of the pools: {}", names.join(", ")),
            );
        }
        self.shutdown.check(check);
        self.log.check(check);
        self.executions.check(check);
        self.backend.check(check);
        for (name, pool) in &self.pools {
            pool.check(name, self.backend.kind, check);
        }
    }
}
