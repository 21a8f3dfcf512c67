//! The flags of the commands that read the configuration.

use std::path::PathBuf;

use clap::Args;

use crate::config::Sources;

/// Where the configuration comes from.
#[derive(Args)]
pub(super) struct SourceArgs {
    /// TOML file; without one the defaults are in force [docs/configuration.md].
    #[arg(long, value_name = "PATH", env = "SANDPOOL_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port, for example 127.0.0.1:50051.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// error, warn, info, debug, trace, or tracing directives.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// auto, human or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl SourceArgs {
    pub(super) fn into_sources(self) -> Sources {
        Sources {
            listen: self.listen,
            log_level: self.log_level,
            log_format: self.log_format,
            ..Sources::from_process(self.config.as_deref())
        }
    }
}
