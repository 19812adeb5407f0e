//! Who answers.

use proto::engine::v1 as wire;

/// Version of `engine.v1`, counted up when something is added to it.
const API_VERSION: &str = "1.0";

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
