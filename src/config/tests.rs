//! The layers together, what is refused, and that the documents say what the code does.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;

fn from_text(text: &str) -> Result<Loaded, ConfigError> {
    load(text, &[])
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sandpool.toml");
    fs::write(&path, text).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let sources = Sources {
        file: Some(path),
        variables: variables.collect(),
        ..Sources::default()
    };
    sources.load()
}

/// The whole message, for a text that must be refused.
fn refusal(text: &str) -> String {
    match from_text(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn without_any_source_the_defaults_are_in_force() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config, Config::default());
    let pool = &config.pools["default"];
    let languages: Vec<&str> = pool.languages().map(|(name, _)| name.as_str()).collect();
    assert_eq!(languages, ["bash", "node", "python"]);
    assert!(config.threads >= 1);
    assert_eq!(pool.max_queued_per_caller, 50);
    assert_eq!(pool.limits.default.disk, pool.volumes.total());
}

#[test]
fn a_variable_is_over_the_file_and_a_flag_over_both() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sandpool.toml");
    fs::write(&path, "listen = '127.0.0.1:1'\nlog.level = 'warn'").unwrap();
    let mut sources = Sources {
        file: Some(path),
        ..Sources::default()
    };
    assert_eq!(Config::load(&sources).unwrap().listen.port(), 1);
    sources
        .variables
        .push(("SANDPOOL_LISTEN".into(), "127.0.0.1:2".into()));
    assert_eq!(Config::load(&sources).unwrap().listen.port(), 2);
    sources.listen = Some("127.0.0.1:3".into());
    let loaded = sources.load().unwrap();
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.origin("listen").as_deref(), Some("flag --listen"));
    assert!(
        loaded
            .origin("log.level")
            .unwrap()
            .ends_with("sandpool.toml")
    );
    assert_eq!(loaded.origin("log.format"), None);
}

#[test]
fn variables_reach_every_depth_and_type() {
    let config = load(
        "",
        &[
            ("SANDPOOL_LOG__LEVEL", "info,sandpool::pool=debug"),
            ("SANDPOOL_POOLS__DEFAULT__MIN_IDLE", "7"),
            ("SANDPOOL_POOLS__DEFAULT__CPUS", "2"),
            ("SANDPOOL_POOLS__DEFAULT__LIMITS__MAX__TIMEOUT", "1h"),
            (
                "SANDPOOL_POOLS__DEFAULT__LANGUAGES__PYTHON__PRELOAD",
                "['numpy']",
            ),
            ("SANDPOOL_POOLS__DEFAULT__ENV__Mixed_Case", "12"),
            ("SANDPOOL_CONFIG", "read elsewhere"),
            ("SANDPOOL_SERVICE_HOST", "set by Kubernetes"),
            ("OTHER", "1"),
        ],
    )
    .unwrap()
    .config;
    assert_eq!(config.log.level, "info,sandpool::pool=debug");
    let pool = &config.pools["default"];
    assert_eq!((pool.min_idle, pool.cpus), (7, 2.0));
    assert_eq!(pool.limits.max.timeout.as_secs(), 3600);
    assert_eq!(pool.limits.max.processes, 256);
    assert_eq!(pool.languages["python"].preload, ["numpy"]);
    assert_eq!(pool.env.variables()["Mixed_Case"], "12");
}

#[test]
fn metrics_are_answered_nowhere_or_at_any_address_of_their_own() {
    let listen = |text: &str| from_text(text).unwrap().config.metrics.listen;
    assert_eq!(listen(""), None);
    assert_eq!(listen("metrics.listen = ''"), None);
    assert_eq!(
        listen("metrics.listen = '[::]:9464'"),
        Some("[::]:9464".parse().unwrap())
    );
    let any_port = "listen = '127.0.0.1:0'\nmetrics.listen = '127.0.0.1:0'";
    assert_eq!(listen(any_port), Some("127.0.0.1:0".parse().unwrap()));
}

#[test]
fn a_pool_that_names_languages_has_no_others_and_a_file_with_pools_no_built_in_one() {
    let config = from_text("default_pool = 'py'\n[pools.py.languages.python]\n")
        .unwrap()
        .config;
    let names: Vec<&String> = config.pools.keys().collect();
    assert_eq!(names, ["py"]);
    let languages: Vec<&String> = config.pools["py"].languages.keys().collect();
    assert_eq!(languages, ["python"]);
}

#[test]
fn a_number_without_a_unit_is_refused_with_key_value_origin_and_remedy() {
    let text = refusal("[shutdown]\ngrace = 30");
    assert!(text.contains("shutdown.grace is 30 (from /"), "{text}");
    assert!(
        text.contains("sandpool.toml), allowed is a duration with its unit"),
        "{text}"
    );
    let text = refusal("[pools.default.limits.max]\nmemory = '512'");
    assert!(
        text.contains("pools.default.limits.max.memory is \"512\""),
        "{text}"
    );
    assert!(text.contains("such as \"512MiB\""), "{text}");
}

#[test]
fn an_unknown_key_is_refused_with_those_that_there_are() {
    let text = refusal("[pools.default]\nmin_idel = 3");
    assert!(
        text.contains("unknown key pools.default.min_idel (from /"),
        "{text}"
    );
    assert!(text.contains("min_idle, max_sandboxes"), "{text}");
    let text = refusal("[pools.default.languages.perl]");
    assert!(text.contains("pools.default.languages.perl"), "{text}");
    assert!(text.contains("allowed are python, bash, node"), "{text}");
    let error = load("", &[("SANDPOOL_LISTEM", "127.0.0.1:1")])
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains("unknown key listem (from environment variable SANDPOOL_LISTEM)"),
        "{text}"
    );
}

#[test]
fn others_reach_only_a_server_that_is_guarded_or_said_not_to_be() {
    let tls = "tls = { certificate = '/c', key = '/k' }\n";
    let tokens = "access.tokens = '/t'\n";
    let open = "listen = '0.0.0.0:1'\n";
    for good in [
        [open, tls, tokens].concat(),
        [open, tls, "access.allow_anonymous = true"].concat(),
        [open, tokens, "tls.allow_plaintext = true"].concat(),
        ["listen = '[::1]:1'\n", tokens].concat(),
    ] {
        from_text(&good).map(|_| ()).expect(&good);
    }
    for (bad, expected) in [
        ([open, tls].concat(), "unless there is access.tokens"),
        ([open, tokens].concat(), "unless there are tls.certificate"),
        ("tls.key = '/k'".into(), "tls.certificate"),
        ("tls.certificate = 'c'".into(), "an absolute path"),
        (
            "tls.client_ca = '/c'".into(),
            "a certificate where clients need one",
        ),
        (
            [tls, "[access]\ntokens = '/t'\nallow_anonymous = true"].concat(),
            "false where access.tokens",
        ),
        (
            "access.kubernetes = { audience = 'a', callers = ['b'] }".into(),
            "where backend.kind is not kubernetes",
        ),
        (
            "access.kubernetes.callers = ['b']".into(),
            "what tokens are issued for",
        ),
    ] {
        let text = refusal(&bad);
        assert!(text.contains(expected), "{bad}: {text}");
    }
}

#[test]
fn all_bad_values_are_named_at_once() {
    let text =
        refusal("listen = '0.0.0.0:50051'\ndefault_pool = 'nope'\n[pools.default]\ncpus = 0");
    assert!(text.contains("listen is \"0.0.0.0:50051\""), "{text}");
    assert!(text.contains("loopback address"), "{text}");
    assert!(
        text.contains("allowed is one of the pools: default"),
        "{text}"
    );
    assert!(text.contains("pools.default.cpus is 0"), "{text}");
}

#[test]
fn each_of_these_is_refused_naming_its_key() {
    for (text, key) in [
        ("listen = 'localhost:1'", "listen"),
        ("pools = 3", "pools"),
        ("[log]\nformat = 'xml'", "log.format is \"xml\""),
        ("[log]\nlevel = 'sandpool=loud'", "log.level"),
        ("[metrics]\nlisten = ':9464'", "metrics.listen is \":9464\""),
        (
            "[metrics]\nlisten = '127.0.0.1:50051'",
            "another address than that of `listen`",
        ),
        ("[shutdown]\ngrace = '0'", "shutdown.grace"),
        ("[shutdown]\ngrace = '2h'", "shutdown.grace"),
        ("threads = 1025", "threads"),
        ("threads = -1", "threads"),
        ("[executions]\nremembered = 0", "executions.remembered"),
        ("[executions]\nremembered = -1", "executions.remembered"),
        (
            "[backend.local]\nnetwork = 'host'",
            "backend.local.network is \"host\"",
        ),
        (
            "[backend.local]\nplatform = 'xen'",
            "\"systrap\", \"kvm\", \"ptrace\"",
        ),
        (
            "[backend.local]\nstate_dir = 'run'",
            "backend.local.state_dir",
        ),
        ("[backend.local]\nagent = 'a'", "backend.local.agent"),
        ("[backend]\nkind = 'docker'", "\"local\", \"kubernetes\""),
        (
            "[backend]\nreattach_timeout = '1ms'",
            "backend.reattach_timeout",
        ),
        (
            "[backend]\nkind = 'kubernetes'",
            "backend.kubernetes.agent_image is \"\"",
        ),
        (
            "[backend]\nkind = 'kubernetes'",
            "pools.default.pod.image is \"\"",
        ),
        (
            "[backend]\nkind = 'kubernetes'\n[pools.default]\nrootfs = '/'",
            "pools.default.rootfs is \"/\"",
        ),
        (
            "[pools.default.pod]\nhost_network = true",
            "pools.default.pod.host_network",
        ),
        (
            "[pools.default.pod]\nhost_pid = true",
            "pools.default.pod.host_pid",
        ),
        (
            "[backend]\nkind = 'kubernetes'\n[pools.default.pod.annotations]\n'dev.gvisor.internal.x' = '1'",
            "pools.default.pod.annotations.\"dev.gvisor.internal.x\"",
        ),
        ("[pools.Default]", "pools.Default"),
        ("[pools.'a.b']", "pools.a.b"),
        (
            "[pools.abcdefghijklmnopqrstu]",
            "pools.abcdefghijklmnopqrstu",
        ),
        ("[pools.default]\nmin_idle = 17", "pools.default.min_idle"),
        (
            "[pools.default]\nmax_queued = 4\nmax_queued_per_caller = 5",
            "max_queued_per_caller",
        ),
        ("[pools.default]\nuser = 0", "pools.default.user"),
        ("[pools.default]\ncpus = nan", "pools.default.cpus"),
        ("[pools.default]\nrootfs = 'x'", "pools.default.rootfs"),
        (
            "[pools.default]\nmemory_headroom = '1MiB'",
            "pools.default.memory_headroom",
        ),
        (
            "[pools.default]\nmax_idle_age = '1s'",
            "pools.default.max_idle_age",
        ),
        (
            "[pools.default.volumes]\ntmp = '0B'",
            "pools.default.volumes.tmp",
        ),
        (
            "[pools.default.limits.default]\ntimeout = '11m'",
            "pools.default.limits.default.timeout",
        ),
        (
            "[pools.default.limits.max]\ndisk = '1GiB'",
            "pools.default.limits.max.disk",
        ),
        (
            "[pools.default.languages.bash]\npreload = ['x']",
            "languages.bash.preload",
        ),
        (
            "[pools.default.languages.python]\npreload = ['a; b']",
            "languages.python.preload",
        ),
        (
            "[pools.default.languages.python]\ninterpreter = 'python'",
            "languages.python.interpreter",
        ),
        (
            "[pools.default.languages]\npython = 3",
            "languages.python is 3",
        ),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(key), "{text}\n{refusal}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    let text = refusal("listen = ");
    assert!(
        text.contains("sandpool.toml is not TOML: ") && text.contains("line 1"),
        "{text}"
    );
    let sources = Sources {
        file: Some("/nonexistent/sandpool.toml".into()),
        ..Sources::default()
    };
    let text = sources.load().err().unwrap().to_string();
    assert!(
        text.contains("cannot read the configuration file /nonexistent/sandpool.toml"),
        "{text}"
    );
}

#[test]
fn a_volume_of_the_nodes_or_with_credentials_is_refused() {
    for source in ["hostPath", "projected", "downwardAPI"] {
        let refusal = refusal(&format!(
            "[backend]\nkind = 'kubernetes'\n[backend.kubernetes]\nagent_image = 'a'\n\
             [pools.default.pod]\nimage = 'b'\n\
             volumes = [{{ mount_path = '/data', source = {{ {source} = {{ }} }} }}]"
        ));
        assert!(
            refusal.contains("pools.default.pod.volumes") && refusal.contains("configMap, csi"),
            "{refusal}"
        );
    }
}

#[test]
fn values_of_a_pools_environment_are_in_no_message_and_no_listing() {
    let loaded = from_text("[pools.default.env]\nTOKEN = 'hunter2'\n'a.b' = 'hunter2'").unwrap();
    let listing = loaded.to_toml();
    assert!(listing.contains("TOKEN = \"(not shown)\""), "{listing}");
    assert!(!listing.contains("hunter2"));
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));
    for text in [
        "[pools.default.env]\nTOKEN = 4711",
        "[pools.default.env]\n'A=B' = '4711'",
        "[pools.default]\nenv = ['4711']",
        "[pools.default]\nenv = 4711",
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains("pools.default.env"), "{refusal}");
        assert!(!refusal.contains("4711"), "{refusal}");
    }
}

#[test]
fn what_is_printed_can_be_loaded_and_is_the_same() {
    let loaded = load(
        "[pools.default.languages.python]\npreload = ['numpy']",
        &[("SANDPOOL_POOLS__DEFAULT__MIN_IDLE", "2")],
    )
    .unwrap();
    let text = loaded.to_toml();
    assert!(
        text.contains(
            "min_idle = 2 # from environment variable SANDPOOL_POOLS__DEFAULT__MIN_IDLE\n"
        ),
        "{text}"
    );
    assert_eq!(from_text(&text).unwrap().config, loaded.config);
}

#[test]
fn the_example_file_is_the_defaults() {
    let text = fs::read_to_string(project().join("deploy/sandpool.toml")).unwrap();
    let config = from_text(&text).unwrap().config;
    assert_eq!(config, Config::default());
    // Not because its lines are missing or commented out.
    for (key, _) in documented_keys() {
        let name = key.rsplit('.').next().unwrap();
        let there = text.lines().any(|line| {
            line.trim_start().starts_with(name)
                || line.contains(&format!(" {name} ="))
                || line.contains(&format!(".{name}]"))
        });
        assert!(there, "{key} is not in deploy/sandpool.toml");
    }
}

#[test]
fn every_key_is_documented_with_its_default_and_its_variable() {
    let path = project().join("docs/configuration.md");
    let mut document = fs::read_to_string(&path).unwrap();
    let keys = documented_keys();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        document = with_columns_of_the_source(&document, &keys);
        fs::write(path, &document).unwrap();
    }
    let rows: Vec<&str> = document.lines().filter(|l| l.starts_with("| `")).collect();
    for (key, default) in &keys {
        let start = format!("| `{key}` | `{default}` | ");
        let end = format!(" | `{}` |", variable(key));
        let found = rows
            .iter()
            .any(|r| r.starts_with(&start) && r.ends_with(&end));
        assert!(found, "docs/configuration.md needs: {start}...{end}");
    }
    assert_eq!(rows.len(), keys.len(), "a row is about no key");
}

fn variable(key: &str) -> String {
    format!("SANDPOOL_{}", key.to_uppercase().replace('.', "__"))
}

/// The tables with what the source knows of each key; units and meanings are written by hand.
fn with_columns_of_the_source(document: &str, keys: &[(String, String)]) -> String {
    let mut lines = Vec::new();
    for line in document.lines() {
        let key = line
            .strip_prefix("| `")
            .and_then(|row| row.split('`').next());
        let known = keys.iter().find(|(known, _)| Some(known.as_str()) == key);
        lines.push(
            match (known, line.split(" | ").collect::<Vec<_>>().as_slice()) {
                (Some((key, default)), [_, _, by_hand @ .., _]) => {
                    let by_hand = by_hand.join(" | ");
                    format!(
                        "| `{key}` | `{default}` | {by_hand} | `{}` |",
                        variable(key)
                    )
                }
                _ => line.to_owned(),
            },
        );
    }
    lines.join("\n") + "\n"
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every key, with placeholders for the free names, and its default as TOML.
fn documented_keys() -> Vec<(String, String)> {
    let mut keys = Vec::new();
    let config = toml::Table::try_from(Config::without_pools()).unwrap();
    leaves("", &config, &mut keys);
    keys.retain(|(key, _)| key != "pools");
    let mut pool = toml::Table::try_from(PoolConfig::default()).unwrap();
    pool.remove("languages");
    leaves("pools.NAME.", &pool, &mut keys);
    let language = toml::Table::try_from(LanguageConfig::default()).unwrap();
    leaves("pools.NAME.languages.LANG.", &language, &mut keys);
    keys
}

fn leaves(prefix: &str, table: &toml::Table, keys: &mut Vec<(String, String)>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => {
                leaves(&format!("{prefix}{key}."), inner, keys);
            }
            value => keys.push((format!("{prefix}{key}"), value.to_string())),
        }
    }
}
