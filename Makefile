agent:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile agent --no-default-features --features agent --bin sandpool-agent --target x86_64-unknown-linux-gnu --target-dir target/agent
