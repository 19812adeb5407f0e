//! `ctl version`: what client and daemon are.

use proto::engine::v1::VersionResponse;
use serde_json::{Value, json};

use super::DONE;
use crate::cli::whole::VersionArgs;
use crate::client::{self};
use crate::failure::Failure;
use crate::out;
use crate::parse::host::Host;
use crate::render::clean::clean;
use crate::render::template;

/// Runs the command. The client's half is printed without a daemon, too.
pub(crate) async fn run(host: &Host, args: &VersionArgs) -> Result<u8, Failure> {
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(format) => Some(template::parse(format)?),
    };
    let as_object = args
        .format
        .as_deref()
        .is_some_and(|format| !format.is_empty());
    let client = client_version();
    if !as_object {
        out::text(&format!(
            "Client:\n Version:           {}\n API version:       {}\n OS/Arch:           {}/{}\n Context:           default\n",
            text(&client["Version"]),
            text(&client["ApiVersion"]),
            text(&client["Os"]),
            text(&client["Arch"]),
        ))?;
    }
    let server = client::connect(host).await?.version(()).await?.into_inner();
    let both = json!({ "Client": client, "Server": server_version(&server) });
    match template {
        Some(template) => out::line(&template.render(&both)?)?,
        None if as_object => out::line(&both.to_string())?,
        None => out::text(&server_text(&server))?,
    }
    Ok(DONE)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn client_version() -> Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": "1.0",
        "Os": std::env::consts::OS,
        "Arch": go_arch(std::env::consts::ARCH),
        "Context": "default",
    })
}

fn server_version(server: &VersionResponse) -> Value {
    json!({
        "Version": server.version,
        "ApiVersion": server.api_version,
        "GitCommit": server.revision,
        "Os": server.os,
        "Arch": server.arch,
        "KernelVersion": server.kernel,
    })
}

fn server_text(server: &VersionResponse) -> String {
    let rows = [
        ("Version", &server.version),
        ("API version", &server.api_version),
        ("Git commit", &server.revision),
        ("OS/Arch", &format!("{}/{}", server.os, server.arch)),
        ("Kernel", &server.kernel),
    ];
    let mut all = "\nServer:\n Engine:\n".to_owned();
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        all += &format!("  {:<18}{}\n", format!("{name}:"), clean(value));
    }
    all
}

/// An architecture's name in Go, which images and Docker use.
fn go_arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
