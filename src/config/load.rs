//! Brings the layers together and checks the whole once.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use figment::{Figment, value::Value};

use super::{
    Config, ConfigError, PoolConfig, Problem,
    check::{Check, Finding},
    error::Wrong,
    layer::{DEFAULTS, Layer},
};

/// What the configuration is read from, the weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file; without one the defaults are the ground.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with SANDPOOL_ are not looked at.
    pub variables: Vec<(String, String)>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
}

/// The configuration in force, and where each value came from.
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    figment: Figment,
}

impl Loaded {
    /// Where the value of the dotted `key` came from; `None` for a default.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<String> {
        origin(&self.figment, key)
    }
}

impl Sources {
    /// `file` and this process's environment, without flags.
    #[must_use]
    pub fn from_process(file: Option<&Path>) -> Self {
        // What is not UTF-8 is kept, marked, so that it is refused where it is used.
        let variables = env::vars_os()
            .map(|(name, value)| {
                let name = name.to_string_lossy().into_owned();
                (name, value.to_string_lossy().into_owned())
            })
            .collect();
        Self {
            file: file.map(Path::to_owned),
            variables,
            ..Self::default()
        }
    }

    /// Reads and checks.
    ///
    /// # Errors
    /// Every unknown key and bad value that was found, or why the file could not be read.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut given = Figment::new();
        for layer in self.layers()? {
            given = given.merge(layer);
        }
        let figment = Figment::from(defaults_for(&given)?).merge(given);

        let mut config: Config = figment
            .extract()
            .map_err(|error| from_figment(&figment, error))?;
        config.resolve();
        let mut check = Check::default();
        config.check(&mut check);
        if check.findings.is_empty() {
            return Ok(Loaded { config, figment });
        }
        let problems = check
            .findings
            .into_iter()
            .map(|finding| from_finding(&figment, finding))
            .collect();
        Err(ConfigError::Invalid(problems))
    }

    fn layers(&self) -> Result<Vec<Layer>, ConfigError> {
        let mut layers = Vec::new();
        if let Some(path) = &self.file {
            layers.push(Layer::file(path)?);
        }
        layers.extend(
            self.variables
                .iter()
                .filter_map(|(name, value)| Layer::variable(name, value)),
        );
        for (name, key, value) in [
            ("listen", "listen", &self.listen),
            ("log-level", "log.level", &self.log_level),
            ("log-format", "log.format", &self.log_format),
        ] {
            layers.extend(value.iter().map(|value| Layer::flag(name, key, value)));
        }
        Ok(layers)
    }
}

/// The defaults below what is given: each pool that is given has its own, and the built-in pool
/// and languages are there only where none are given.
fn defaults_for(given: &Figment) -> Result<Layer, ConfigError> {
    let mut pools = BTreeMap::new();
    match given.find_value("pools").ok() {
        Some(Value::Dict(_, given_pools)) if !given_pools.is_empty() => {
            for (name, pool) in given_pools {
                if !is_pool_name(&name) {
                    return Err(ConfigError::Invalid(vec![bad_pool_name(given, name)]));
                }
                let mut defaults = PoolConfig::default();
                let languages = pool.as_dict().and_then(|pool| pool.get("languages"));
                if languages.is_some_and(|value| value.as_dict().is_none_or(|d| !d.is_empty())) {
                    defaults.languages.clear();
                }
                pools.insert(name, defaults);
            }
        }
        _ => {
            pools.insert("default".to_owned(), PoolConfig::default());
        }
    }
    let config = Config {
        pools,
        ..Config::without_pools()
    };
    let values = Value::serialize(config)
        .ok()
        .and_then(Value::into_dict)
        .unwrap_or_default();
    Ok(Layer::defaults(values))
}

/// The name goes into directory names, cgroups and pod names, beside a server's id and a number.
fn is_pool_name(name: &str) -> bool {
    name.len() <= 20
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn bad_pool_name(given: &Figment, name: String) -> Problem {
    Problem {
        origin: origin(given, "pools"),
        key: format!("pools.{name}"),
        wrong: Wrong::Value {
            value: Some(format!("{name:?}")),
            expected: "a pool's name: at most 20 characters of a-z, 0-9 and '-', beginning with \
                       a letter"
                .to_owned(),
        },
    }
}

fn origin(figment: &Figment, key: &str) -> Option<String> {
    let name = &figment.find_metadata(key)?.name;
    (name != DEFAULTS).then(|| name.to_string())
}

/// The value as TOML; nothing for an environment, which may hold secrets.
fn value(figment: &Figment, key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    if let ["pools", _, "env", ..] = parts[..] {
        return None;
    }
    let value = figment.find_value(key).ok()?;
    Some(toml::Value::try_from(value).ok()?.to_string())
}

fn from_finding(figment: &Figment, finding: Finding) -> Problem {
    match finding {
        Finding::Value { key, expected } => Problem {
            origin: origin(figment, &key),
            wrong: Wrong::Value {
                value: value(figment, &key),
                expected,
            },
            key,
        },
        Finding::Unknown { key, allowed } => Problem {
            origin: origin(figment, &key),
            wrong: Wrong::Unknown { allowed },
            key,
        },
    }
}

fn from_figment(figment: &Figment, error: figment::Error) -> ConfigError {
    use figment::error::Kind;
    let problems = error
        .into_iter()
        .map(|error| {
            let key = error.path.join(".");
            let finding = match &error.kind {
                Kind::UnknownField(_, allowed) => {
                    let allowed = allowed.iter().map(|&name| name.to_owned()).collect();
                    Finding::Unknown { key, allowed }
                }
                kind => Finding::Value {
                    key,
                    expected: expected(kind),
                },
            };
            from_finding(figment, finding)
        })
        .collect();
    ConfigError::Invalid(problems)
}

/// What would have been right. The actual value is told apart, from the layers.
fn expected(kind: &figment::error::Kind) -> String {
    use figment::error::Kind;
    match kind {
        Kind::InvalidType(_, expected)
        | Kind::InvalidValue(_, expected)
        | Kind::InvalidLength(_, expected) => expected.clone(),
        Kind::UnknownVariant(_, [only]) => format!("{only:?}, the only value for now"),
        Kind::UnknownVariant(_, allowed) => {
            let quoted: Vec<String> = allowed.iter().map(|name| format!("{name:?}")).collect();
            format!("one of {}", quoted.join(", "))
        }
        other => other.to_string(),
    }
}
