//! The command line.

use sandpool::{
    config::{Config, Sources},
    serve,
};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter("info")
        .with_writer(std::io::stderr)
        .init();
    let path = std::env::args().nth(3);
    let config = match Config::load(&Sources::from_process(
        path.as_ref().map(std::path::Path::new),
    )) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("sandpool: {error}");
            return 2.into();
        }
    };
    let shutdown = async {
        let mut term =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = async { match &mut term { Some(term) => term.recv().await, None => std::future::pending().await } } => {}
        }
    };
    let result = serve::run(config, shutdown, |running| {
        #[allow(clippy::print_stdout)]
        {
            println!("listening on {}", running.address);
        }
        tokio::spawn(async move {
            if running.warm.await.is_ok() {
                #[allow(clippy::print_stdout)]
                {
                    println!("ready");
                }
            }
        });
    })
    .await;
    match result {
        Ok(()) => 0.into(),
        Err(error) => {
            eprintln!("sandpool: {error}");
            1.into()
        }
    }
}
