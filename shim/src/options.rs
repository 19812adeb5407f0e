//! The runtime's options, in the three forms that daemons send them.
//!
//! | type | from | contents |
//! |---|---|---|
//! | `containerd.runc.v1.Options` | clients of containerd; CRI for runc's own shim | fields |
//! | `runtimeoptions.v1.Options` | CRI, for every runtime name it does not know | the runtime's section of containerd's configuration, as TOML: in the message, or in a file |
//! | anything else | CRI, for shims of other kinds | nothing that concerns us |

use std::fs;

use prost::Message;
use prost_types::Any;
use proto::containerd::runc::v1 as runc;
use proto::runtimeoptions::v1 as generic;

use crate::bundle::Options;
use crate::failure::{Failure, Result};

/// The options in `any`; the default if there are none.
pub(crate) fn from_any(any: Option<&Any>) -> Result<Options> {
    let Some(any) = any else {
        return Ok(Options::default());
    };
    if any.type_url.ends_with("containerd.runc.v1.Options") {
        let options = runc::Options::decode(any.value.as_slice())
            .map_err(|err| Failure::invalid(format!("runtime options: {err}")))?;
        return Ok(from_runc(options));
    }
    if any.type_url.ends_with("runtimeoptions.v1.Options") {
        let options = generic::Options::decode(any.value.as_slice())
            .map_err(|err| Failure::invalid(format!("runtime options: {err}")))?;
        return from_generic(options);
    }
    Ok(Options::default())
}

fn from_runc(options: runc::Options) -> Options {
    Options {
        binary_name: options.binary_name,
        root: options.root,
        systemd_cgroup: options.systemd_cgroup,
        no_pivot_root: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        io_uid: options.io_uid,
        io_gid: options.io_gid,
        shim_cgroup: options.shim_cgroup,
        criu_image_path: options.criu_image_path,
        criu_work_path: options.criu_work_path,
    }
}

fn from_generic(options: generic::Options) -> Result<Options> {
    let body = if options.config_path.is_empty() {
        options.config_body
    } else {
        fs::read(&options.config_path)
            .map_err(|err| Failure::because(format!("read {}", options.config_path), &err))?
    };
    from_toml(&String::from_utf8_lossy(&body))
}

/// Reads a flat table of TOML by the names that containerd's configuration
/// has for them. Keys of no meaning here are passed over, as containerd does;
/// a value of the wrong kind is an error, as it would else be without effect.
fn from_toml(text: &str) -> Result<Options> {
    let mut options = Options::default();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', '[']) {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(Failure::invalid(format!(
                "runtime options: {line:?} is not key = value"
            )));
        };
        let (key, value) = (key.trim().trim_matches('"'), value.trim());
        match key {
            "BinaryName" => options.binary_name = string(key, value)?,
            "Root" => options.root = string(key, value)?,
            "ShimCgroup" => options.shim_cgroup = string(key, value)?,
            "CriuImagePath" => options.criu_image_path = string(key, value)?,
            "CriuWorkPath" => options.criu_work_path = string(key, value)?,
            "SystemdCgroup" => options.systemd_cgroup = truth(key, value)?,
            "NoPivotRoot" => options.no_pivot_root = truth(key, value)?,
            "NoNewKeyring" => options.no_new_keyring = truth(key, value)?,
            "IoUid" => options.io_uid = number(key, value)?,
            "IoGid" => options.io_gid = number(key, value)?,
            _ => {}
        }
    }
    Ok(options)
}

fn wrong(key: &str, value: &str, expected: &str) -> Failure {
    Failure::invalid(format!(
        "runtime options: {key} = {value}: expected {expected}"
    ))
}

/// A string of TOML: bare between single quotes, with escapes between double.
fn string(key: &str, value: &str) -> Result<String> {
    let expected = "a string";
    if let Some(rest) = value.strip_prefix('\'') {
        let end = rest.find('\'').ok_or_else(|| wrong(key, value, expected))?;
        return Ok(rest[..end].to_owned());
    }
    let end = value
        .strip_prefix('"')
        .and_then(closing_quote)
        .ok_or_else(|| wrong(key, value, expected))?;
    // JSON's escapes are those of TOML, but for \U and \e, which no path has.
    serde_json::from_str(&value[..end + 2]).map_err(|_| wrong(key, value, expected))
}

/// Where the first quote stands that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// The value without a comment behind it.
fn bare(value: &str) -> &str {
    value.split('#').next().unwrap_or_default().trim()
}

fn truth(key: &str, value: &str) -> Result<bool> {
    bare(value)
        .parse()
        .map_err(|_| wrong(key, value, "true or false"))
}

fn number(key: &str, value: &str) -> Result<u32> {
    bare(value)
        .parse()
        .map_err(|_| wrong(key, value, "a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(options: &generic::Options) -> Any {
        Any {
            type_url: "runtimeoptions.v1.Options".into(),
            value: options.encode_to_vec(),
        }
    }

    #[test]
    fn runcs_own_message_is_read() {
        let options = runc::Options {
            binary_name: "crun".into(),
            shim_cgroup: "/shims".into(),
            io_uid: 7,
            ..Default::default()
        };
        let any = Any {
            type_url: "types.containerd.io/containerd.runc.v1.Options".into(),
            value: options.encode_to_vec(),
        };
        let read = from_any(Some(&any)).unwrap();
        assert_eq!(
            (
                read.binary_name.as_str(),
                read.shim_cgroup.as_str(),
                read.io_uid
            ),
            ("crun", "/shims", 7)
        );
    }

    #[test]
    fn a_section_of_containerds_configuration_is_read() {
        let body = r#"
            # what CRI sends
            BinaryName = "/usr/local/bin/runc \"2\""
            Root = '/run/x'
            SystemdCgroup = true # as kubelet has it
            IoGid = 12
            CriuPath = ""
        "#;
        let any = generic(&generic::Options {
            config_body: body.into(),
            ..Default::default()
        });
        let expected = Options {
            binary_name: "/usr/local/bin/runc \"2\"".into(),
            root: "/run/x".into(),
            systemd_cgroup: true,
            io_gid: 12,
            ..Options::default()
        };
        assert_eq!(from_any(Some(&any)).unwrap(), expected);
    }

    #[test]
    fn a_file_stands_in_for_the_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("options.toml");
        fs::write(&path, "NoPivotRoot = true\n").unwrap();
        let any = generic(&generic::Options {
            config_path: path.to_str().unwrap().into(),
            config_body: "NoPivotRoot = false".into(),
            ..Default::default()
        });
        assert!(from_any(Some(&any)).unwrap().no_pivot_root);
        fs::remove_file(&path).unwrap();
        assert!(from_any(Some(&any)).is_err());
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_told() {
        for (body, words) in [
            (
                "SystemdCgroup = \"yes\"",
                "SystemdCgroup = \"yes\": expected true or false",
            ),
            ("BinaryName = crun", "BinaryName = crun: expected a string"),
            (
                "BinaryName = \"crun",
                "BinaryName = \"crun: expected a string",
            ),
            ("IoUid = -1", "IoUid = -1: expected a number"),
            ("nonsense", "\"nonsense\" is not key = value"),
        ] {
            let err = from_toml(body).unwrap_err();
            assert_eq!(err.to_string(), format!("runtime options: {words}"));
        }
    }

    #[test]
    fn options_of_other_shims_say_nothing() {
        let any = Any {
            type_url: "x.Options".into(),
            value: vec![0xff],
        };
        assert_eq!(from_any(Some(&any)).unwrap(), Options::default());
        assert_eq!(from_any(None).unwrap(), Options::default());
    }
}
