//! Compiles the protos, without protoc, and keeps their descriptors for server reflection.

use std::{env, error::Error, fs, path::PathBuf};

const PUBLIC: [&str; 5] = [
    "sandpool/v1/execution.proto",
    "sandpool/v1/file.proto",
    "sandpool/v1/pool.proto",
    "sandpool/v1/sandbox.proto",
    "sandpool/v1/server.proto",
];
/// Environment, files, source, input and output are their owner's secrets: what carries them
/// cannot be printed.
const SECRET: [&str; 19] = [
    ".sandpool.v1.Code",
    ".sandpool.v1.Command",
    ".sandpool.v1.CodeError",
    ".sandpool.v1.CreateContextRequest",
    ".sandpool.v1.CreateSandboxRequest",
    ".sandpool.v1.Display",
    ".sandpool.v1.ExecuteRequest",
    ".sandpool.v1.ExecuteResponse",
    ".sandpool.v1.ExecutionSpec",
    ".sandpool.v1.InputFile",
    ".sandpool.v1.KnownFile",
    ".sandpool.v1.OutputFile",
    ".sandpool.v1.ReadFileResponse",
    ".sandpool.v1.RunRequest",
    ".sandpool.v1.RunResponse",
    ".sandpool.v1.DownloadArchiveResponse",
    ".sandpool.v1.UploadArchiveRequest",
    ".sandpool.v1.WriteFileRequest",
    ".sandpool.v1.WriteInputRequest",
];
const AGENT: [&str; 1] = ["sandpool/agent/v1/agent.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let agent = protox::compile(AGENT, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".sandpool.agent.v1")
        .codec_path("crate::proto::SmallBuffers")
        .skip_debug([".sandpool.agent.v1"])
        .compile_fds(agent)?;

    if env::var_os("CARGO_FEATURE_SERVER").is_some() {
        let public = protox::compile(PUBLIC, ["proto"])?;
        // So that their code can lie on huge pages (src/huge_pages.rs).
        println!("cargo:rustc-link-arg-bin=sandpool=-Wl,-z,max-page-size=2097152");
        println!("cargo:rustc-link-arg-benches=-Wl,-z,max-page-size=2097152");
        fs::write(
            out.join("sandpool_v1.fds"),
            prost::Message::encode_to_vec(&public),
        )?;
        // The command line shows messages as JSON, and finds their descriptors by name.
        let mut names = prost_build::Config::new();
        names.enable_type_names();
        tonic_prost_build::configure()
            .bytes(".sandpool.v1")
            .skip_debug(SECRET)
            .compile_fds_with_config(public, names)?;
    }
    Ok(())
}
