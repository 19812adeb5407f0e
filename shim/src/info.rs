//! `-v` and `-info`: what this shim and its runtime are.

use std::io::{self, Read, Write};

use prost::Message;
use prost_types::Any;
use proto::containerd::types::{RuntimeInfo, RuntimeVersion};

use crate::failure::{Failure, Result};
use crate::{options, runtime};

/// The program's name.
pub(crate) const NAME: &str = "containerd-shim-runc-rs-v2";

/// The runtime name that leads containerd to this program.
const RUNTIME: &str = "io.containerd.runc-rs.v2";

/// Options are small; more is no options.
const MAX_OPTIONS_BYTES: u64 = 1 << 20;

/// Prints the version.
pub(crate) fn version() -> Result<()> {
    print(format!("{NAME}:\n  Version:  {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
}

/// Prints a `RuntimeInfo`; the runtime's options may come on standard input.
pub(crate) fn info() -> Result<()> {
    let mut input = Vec::new();
    io::stdin()
        .take(MAX_OPTIONS_BYTES)
        .read_to_end(&mut input)
        .map_err(|err| Failure::because("read options", &err))?;
    let any =
        Any::decode(input.as_slice()).map_err(|err| Failure::because("read options", &err))?;
    let options = options::from_any(Some(&any))?;
    let features = runtime::features(&options.binary_name)?;
    let info = RuntimeInfo {
        name: RUNTIME.to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
        }),
        options: (!input.is_empty()).then_some(any),
        features: (!features.is_empty()).then(|| Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
                .to_owned(),
            value: features,
        }),
        annotations: Default::default(),
    };
    print(&info.encode_to_vec())
}

fn print(bytes: &[u8]) -> Result<()> {
    io::stdout()
        .write_all(bytes)
        .map_err(|err| Failure::because("print", &err))
}
