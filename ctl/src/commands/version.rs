//! `ctl version`: what client and daemon are.

use super::DONE;
use crate::client::{self};
use crate::failure::Failure;
use crate::out;
use crate::parse::host::Host;
use crate::render::clean::clean;

/// Runs the command. The client's half is printed without a daemon, too.
pub(crate) async fn run(host: &Host) -> Result<u8, Failure> {
    let os = std::env::consts::OS;
    let arch = go_arch(std::env::consts::ARCH);
    let version = env!("CARGO_PKG_VERSION");
    out::text(&format!(
        "Client:\n Version:           {version}\n OS/Arch:           {os}/{arch}\n"
    ))?;
    let server = client::connect(host).await?.version(()).await?.into_inner();
    let rows = [
        ("Version", &server.version),
        ("API version", &server.api_version),
        ("Git commit", &server.revision),
        ("OS/Arch", &format!("{}/{}", server.os, server.arch)),
        ("Kernel", &server.kernel),
    ];
    out::text("\nServer:\n")?;
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        out::text(&format!(" {:<19}{}\n", format!("{name}:"), clean(value)))?;
    }
    Ok(DONE)
}

/// An architecture's name in Go, which images and Docker use.
fn go_arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
