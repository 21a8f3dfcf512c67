//! The server's certificate, and its clients'.

use std::{fs, net::TcpStream, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::harness::*;

const POOL: &str = "[pools.main]\nmin_idle = 1\nmax_sandboxes = 2\n\
                    limits.default.queue_timeout = \"80s\"\nlanguages.bash = {}\n";

/// Whoever signs certificates.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for `name`, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Puts a certificate for 127.0.0.1 where a server looks for it.
    fn sign_server(&self, dir: &Path) {
        let (certificate, key) = self.sign("127.0.0.1");
        fs::write(dir.join("tls.crt"), certificate).unwrap();
        fs::write(dir.join("tls.key"), key).unwrap();
    }
}

/// A server with a certificate.
struct Secure {
    server: Server,
    dir: TempDir,
}

impl Secure {
    fn start(ca: &Ca, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca.sign_server(dir.path());
        fs::write(dir.path().join("ca.crt"), &ca.pem).unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| dir.path().join(name));
        let config = format!("{POOL}[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{more}\n");
        let server = Server::with(&config).start();
        Self { server, dir }
    }

    async fn connect(&self, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.server.address)).unwrap();
        let connecting = endpoint.tls_config(tls).unwrap();
        soon("an answer to a greeting", connecting.connect()).await
    }
}

fn trusting(ca: &Ca) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca.pem))
}

/// With TLS 1.3 a client hears only at its first call that its certificate was not accepted.
async fn is_served(channel: Channel) -> bool {
    let client = Client::of(channel, None);
    let mut pools = client.pools.clone();
    let answer = pools.list_pools(v1::ListPoolsRequest {});
    soon("an answer", answer).await.is_ok()
}

#[tokio::test]
async fn with_a_certificate_only_those_who_trust_it_are_served() {
    let ca = Ca::new();
    let secure = Secure::start(&ca, "");
    let channel = secure.connect(trusting(&ca)).await.unwrap();
    let client = Client::of(channel, None);
    bash("echo secret").run(&client).await.printed("secret\n");

    assert!(secure.connect(trusting(&Ca::new())).await.is_err());
    let plain = Endpoint::from_shared(format!("http://{}", secure.server.address)).unwrap();
    if let Ok(channel) = plain.connect().await {
        assert!(!is_served(channel).await);
    }
    // And who greets by half, or not at all, keeps nobody waiting.
    let silent: Vec<_> = (0..50)
        .map(|_| TcpStream::connect(secure.server.address).unwrap())
        .collect();
    secure.connect(trusting(&ca)).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn sandpool_run_and_grpcurl_speak_tls() {
    let ca = Ca::new();
    let secure = Secure::start(&ca, "");
    let trusted = secure.dir.path().join("ca.crt");
    let trusted = trusted.to_str().unwrap();
    let address = format!("https://{}", secure.server.address);
    let run = |options: &[&str]| {
        let program = ["--language", "bash", "-c", "echo in"];
        let server = ["run", "--address", &address];
        let command = sandpool(&secure.server, &[&server, options, &program].concat());
        output(command)
    };
    assert_eq!(run(&["--ca", trusted]).await.stdout, b"in\n");
    let refused = run(&[]).await;
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(
        complaint.contains("invalid peer certificate"),
        "{complaint}"
    );

    let listed = std::process::Command::new("grpcurl")
        .args([
            "-cacert",
            trusted,
            &secure.server.address.to_string(),
            "list",
        ])
        .output()
        .expect("grpcurl is installed");
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.contains("sandpool.v1.ExecutionService"), "{listed}");
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_a_restart() {
    let (old, new) = (Ca::new(), Ca::new());
    let secure = Secure::start(&old, "");
    let before = secure.connect(trusting(&old)).await.unwrap();
    assert!(secure.connect(trusting(&new)).await.is_err());

    fs::write(secure.dir.path().join("tls.key"), "half of a key").unwrap();
    let refused = |line: &str| line.contains("a change is not taken");
    secure
        .server
        .logged("the refusal of the key", refused)
        .await;
    assert!(is_served(secure.connect(trusting(&old)).await.unwrap()).await);

    new.sign_server(secure.dir.path());
    let taken = |line: &str| line.contains("read again after a change");
    secure.server.logged("the new certificate", taken).await;
    assert!(is_served(secure.connect(trusting(&new)).await.unwrap()).await);
    assert!(secure.connect(trusting(&old)).await.is_err());
    assert!(
        is_served(before).await,
        "a connection that there was goes on"
    );
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_asked_for() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let dir = tempfile::tempdir().unwrap();
    let client_ca = dir.path().join("clients.crt");
    fs::write(&client_ca, &clients.pem).unwrap();
    let secure = Secure::start(&ca, &format!("client_ca = {client_ca:?}"));
    let showing = |signer: &Ca| {
        let (certificate, key) = signer.sign("client");
        trusting(&ca).identity(Identity::from_pem(certificate, key))
    };
    for (tls, expected) in [
        (showing(&clients), true),
        (showing(&ca), false),
        (trusting(&ca), false),
    ] {
        let served = match secure.connect(tls).await {
            Ok(channel) => is_served(channel).await,
            Err(_) => false,
        };
        assert_eq!(served, expected);
    }
}
