//! Packs the demo image: busybox with a greeting, as `docker save` would
//! write it. The same busybox gives the same bytes.
//!
//! `pack-image FILE NAME:TAG`

use std::process::ExitCode;

use serde_json::json;
use tests::image::Image;
use tests::tar::Tar;

/// What the demo's container does.
const GREETING: &str = r#"#!/bin/sh
echo "Hello from a container."
echo "  process $$ on host $(hostname), user $(id -un), kernel $(uname -r)"
echo "  root file system: $(awk '$2 == "/" { print $3 }' /proc/mounts), network: $(ls /sys/class/net | xargs)"
"#;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, name] = args.as_slice() else {
        eprintln!("usage: pack-image FILE NAME:TAG");
        return ExitCode::from(2);
    };
    let greeting = Tar::new().file("bin/greet", 0o755, GREETING.as_bytes());
    let image = Image::busybox()
        .layer(greeting)
        .with("Cmd", json!(["greet"]));
    match std::fs::write(file, image.docker_archive(&[name])) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("pack-image: write {file}: {err}");
            ExitCode::FAILURE
        }
    }
}
