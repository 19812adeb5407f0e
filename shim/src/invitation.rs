//! What `start` was asked for, in both forms that daemons ask.
//!
//! Up to containerd 2.2 the parameters come as flags and in the environment,
//! with the runtime's options as an `Any` on standard input. From 2.3 on they
//! come as one `BootstrapParams` on standard input, beside flags that say the
//! same. An `Any` decodes as `BootstrapParams` as well, so what tells them
//! apart is that the latter repeats the flags' id and namespace.

use std::path::PathBuf;

use prost::Message;
use prost_types::Any;
use proto::containerd::runtime::bootstrap::v1::{BootstrapParams, BootstrapResult, LogLevel};
use serde_json::json;

use crate::args::Args;
use crate::bundle::Options;
use crate::failure::Result;
use crate::options;

/// The version of the Task service that is offered; 2 answers as well.
const VERSION: i32 = 3;

/// How the daemon wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The plain address, which every containerd understands.
    Address,
    /// JSON with version, address and protocol.
    Json,
    /// A `BootstrapResult`.
    Protobuf,
}

/// A daemon's wish for a shim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// The daemon's gRPC socket; the shim's address is derived from it.
    pub(crate) daemon: String,
    /// Where the daemon takes events; none if it did not say.
    pub(crate) events: Option<String>,
    /// Where the shim's socket is to be, if the daemon minds.
    pub(crate) socket_dir: Option<PathBuf>,
    /// Whether to say more.
    pub(crate) debug: bool,
    /// The runtime's options, as far as they concern the shim.
    pub(crate) options: Options,
    answer: Answer,
}

/// The environment variables that say something about a start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `TTRPC_ADDRESS`.
    pub(crate) events: Option<String>,
    /// `GRPC_ADDRESS`.
    pub(crate) daemon: Option<String>,
    /// `MAX_SHIM_VERSION`.
    pub(crate) max_version: Option<String>,
}

impl Environment {
    /// This process's.
    pub(crate) fn read() -> Self {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            events: var("TTRPC_ADDRESS"),
            daemon: var("GRPC_ADDRESS"),
            max_version: var("MAX_SHIM_VERSION"),
        }
    }
}

impl Invitation {
    /// Puts together what flags, environment and standard input say.
    pub(crate) fn read(args: &Args, environment: Environment, input: &[u8]) -> Result<Self> {
        match BootstrapParams::decode(input) {
            Ok(params) if params.instance_id == args.id && params.namespace == args.namespace => {
                Self::from_params(params)
            }
            _ => Self::from_flags(args, environment, input),
        }
    }

    fn from_params(params: BootstrapParams) -> Result<Self> {
        let debug = params.log_level <= LogLevel::Debug as i32;
        let options = params
            .extensions
            .iter()
            .filter_map(|extension| extension.value.as_ref())
            .find(|any| any.type_url.ends_with(".v1.Options"));
        Ok(Self {
            daemon: params.containerd_grpc_address,
            events: Some(params.containerd_ttrpc_address).filter(|path| !path.is_empty()),
            socket_dir: params
                .socket_dir
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from),
            debug,
            options: options::from_any(options)?,
            answer: Answer::Protobuf,
        })
    }

    fn from_flags(args: &Args, environment: Environment, input: &[u8]) -> Result<Self> {
        // What is no Any is no options either: old daemons send nothing.
        let options = Any::decode(input).ok();
        let max_version = environment.max_version.and_then(|v| v.parse::<i32>().ok());
        Ok(Self {
            daemon: Some(args.address.clone())
                .filter(|path| !path.is_empty())
                .or(environment.daemon)
                .unwrap_or_default(),
            events: environment.events,
            socket_dir: None,
            debug: args.debug,
            options: options::from_any(options.as_ref())?,
            answer: match max_version {
                Some(VERSION..) => Answer::Json,
                _ => Answer::Address,
            },
        })
    }

    /// What to print once the shim listens at `address`.
    pub(crate) fn answer(&self, address: &str) -> Vec<u8> {
        match self.answer {
            Answer::Address => address.into(),
            Answer::Json => json!({ "version": VERSION, "address": address, "protocol": "ttrpc" })
                .to_string()
                .into_bytes(),
            Answer::Protobuf => BootstrapResult {
                version: VERSION,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::containerd::runc::v1 as runc;
    use proto::containerd::runtime::bootstrap::v1::Extension;

    const ADDRESS: &str = "unix:///run/s/a";

    fn args() -> Args {
        let line = "-namespace n -address /c.sock -publish-binary /c -id web start";
        crate::args::parse(line.split(' ').map(str::to_owned)).unwrap()
    }

    fn some_options() -> Any {
        let options = runc::Options {
            shim_cgroup: "/shims".into(),
            ..Default::default()
        };
        Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.encode_to_vec(),
        }
    }

    fn params() -> BootstrapParams {
        BootstrapParams {
            instance_id: "web".into(),
            namespace: "n".into(),
            log_level: LogLevel::Debug as i32,
            containerd_ttrpc_address: "/e.sock".into(),
            containerd_grpc_address: "/g.sock".into(),
            extensions: vec![Extension {
                value: Some(some_options()),
            }],
            socket_dir: Some("/run/sockets".into()),
            ..Default::default()
        }
    }

    #[test]
    fn bootstrap_parameters_say_everything() {
        let input = params().encode_to_vec();
        let read = Invitation::read(&args(), Environment::default(), &input).unwrap();
        assert_eq!(
            (
                read.daemon.as_str(),
                read.events.as_deref(),
                read.socket_dir.clone(),
                read.debug
            ),
            (
                "/g.sock",
                Some("/e.sock"),
                Some("/run/sockets".into()),
                true
            )
        );
        assert_eq!(read.options.shim_cgroup, "/shims");
        let result = BootstrapResult::decode(read.answer(ADDRESS).as_slice()).unwrap();
        assert_eq!(
            (
                result.version,
                result.address.as_str(),
                result.protocol.as_str()
            ),
            (3, ADDRESS, "ttrpc")
        );
    }

    #[test]
    fn an_informative_log_is_not_debugging() {
        let mut params = params();
        params.log_level = LogLevel::Info as i32;
        params.socket_dir = None;
        let read =
            Invitation::read(&args(), Environment::default(), &params.encode_to_vec()).unwrap();
        assert_eq!((read.debug, read.socket_dir), (false, None));
    }

    #[test]
    fn parameters_of_another_container_are_none() {
        let mut params = params();
        params.instance_id = "other".into();
        let read =
            Invitation::read(&args(), Environment::default(), &params.encode_to_vec()).unwrap();
        assert_eq!(
            (read.daemon.as_str(), read.answer(ADDRESS)),
            ("/c.sock", ADDRESS.into())
        );
    }

    #[test]
    fn flags_environment_and_options_say_it_as_well() {
        let environment = Environment {
            events: Some("/e.sock".into()),
            max_version: Some("3".into()),
            ..Default::default()
        };
        let input = some_options().encode_to_vec();
        let read = Invitation::read(&args(), environment, &input).unwrap();
        assert_eq!(
            (read.daemon.as_str(), read.events.as_deref(), read.debug),
            ("/c.sock", Some("/e.sock"), false)
        );
        assert_eq!(read.options.shim_cgroup, "/shims");
    }

    #[test]
    fn only_who_asks_for_version_3_gets_json() {
        let answer = |max_version: Option<&str>| {
            let environment = Environment {
                max_version: max_version.map(str::to_owned),
                ..Default::default()
            };
            let read = Invitation::read(&args(), environment, &[]).unwrap();
            String::from_utf8(read.answer(ADDRESS)).unwrap()
        };
        for plain in [None, Some("2"), Some("x")] {
            assert_eq!(answer(plain), ADDRESS);
        }
        let json: serde_json::Value = serde_json::from_str(&answer(Some("3"))).unwrap();
        assert_eq!(
            json,
            json!({ "version": 3, "address": ADDRESS, "protocol": "ttrpc" })
        );
    }

    #[test]
    fn the_daemons_address_may_be_in_the_environment_alone() {
        let mut args = args();
        args.address = String::new();
        let environment = Environment {
            daemon: Some("/g.sock".into()),
            ..Default::default()
        };
        let read = Invitation::read(&args, environment, &[]).unwrap();
        assert_eq!(read.daemon, "/g.sock");
    }
}
