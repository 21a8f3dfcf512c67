//! The configuration: one TOML file, environment variables over it, flags over both.
//!
//! `root` holds the whole, each section has its file, `load` brings the layers together, `check`
//! and `error` say what is wrong with them, and `show` prints what is in force. Sections know
//! nothing of where their values came from.

mod access;
mod backend;
mod check;
mod error;
mod executions;
mod language;
mod layer;
mod limits;
mod load;
mod log;
mod metrics;
mod named;
mod pod;
mod pool;
mod root;
mod show;
mod shutdown;
#[cfg(test)]
mod tests;
mod tls;
mod units;

pub use access::{AccessConfig, KubernetesAccessConfig};
pub use backend::{BackendConfig, BackendKind, KubernetesConfig, LocalConfig, Network, Platform};
pub use error::{ConfigError, Problem};
pub use executions::ExecutionsConfig;
pub use language::{LANGUAGES, LanguageConfig, LanguageName};
pub use limits::{Limits, PoolLimits};
pub use load::{Loaded, Sources};
pub use log::{LogConfig, LogFormat};
pub use metrics::MetricsConfig;
pub use pod::{PodConfig, TolerationConfig, VolumeConfig};
pub use pool::{PoolConfig, PoolEnv, Volumes};
pub use root::Config;
pub use shutdown::ShutdownConfig;
pub use tls::{TlsConfig, TlsFiles};
pub use units::ByteSize;
