//! Who answers, on what host, and what is wrong with it.

use engine::Engine;
use engine::system::{self, Verdict};
use lite_core::Result;
use proto::engine::v1 as wire;

/// Version of `engine.v1`, counted up when something is added to it.
const API_VERSION: &str = "1.0";

pub(super) async fn info(engine: &Engine) -> Result<wire::InspectResponse> {
    let info = system::info(engine, env!("CARGO_PKG_VERSION")).await?;
    Ok(wire::InspectResponse {
        json: info.to_string(),
    })
}

pub(super) async fn doctor(engine: &Engine) -> Result<wire::DoctorResponse> {
    use wire::doctor_response::{Check, Verdict as Word};
    let checks = system::doctor(engine).await?.into_iter();
    let checks = checks.map(|check| Check {
        name: check.name.to_owned(),
        verdict: match check.verdict {
            Verdict::Good => Word::Good,
            Verdict::Warning => Word::Warning,
            Verdict::Bad => Word::Bad,
        }
        .into(),
        found: check.found,
        fix: check.fix,
    });
    Ok(wire::DoctorResponse {
        checks: checks.collect(),
    })
}

pub(super) fn version() -> wire::VersionResponse {
    let kernel = nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |uname| uname.release().to_string_lossy().into_owned(),
    );
    let platform = lite_core::Platform::host();
    wire::VersionResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("CONTAINERD_LITE_REVISION")
            .unwrap_or_default()
            .to_owned(),
        api_version: API_VERSION.to_owned(),
        os: platform.os,
        arch: platform.architecture,
        kernel,
    }
}
