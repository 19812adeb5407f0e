//! One namespace on one network: who it is, and what is asked for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cidr::Cidr;

/// A namespace's place on a network. Checked: a value of this type can be put
/// into a plugin's environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    container: String,
    interface: String,
    netns: Option<PathBuf>,
    args: Vec<(String, String)>,
    /// What is asked for, by the names of the specification's conventions.
    pub capabilities: Capabilities,
}

/// What cannot be told to plugins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAttachment {
    /// The container's id.
    #[error(
        "container id {0:?} is not letters, digits, '_', '.' and '-', the first a letter or digit"
    )]
    Container(String),
    /// The interface's name.
    #[error("{0:?} is not the name of an interface: 1 to 15 bytes without '/', ':' and spaces")]
    Interface(String),
    /// An extra argument.
    #[error("argument {0:?} holds ';', or '=' in its name")]
    Argument(String),
}

impl Attachment {
    /// The interface called `interface` of `container`.
    ///
    /// # Errors
    /// The name that the specification does not allow.
    pub fn new(container: &str, interface: &str) -> Result<Self, BadAttachment> {
        if !is_identifier(container) {
            return Err(BadAttachment::Container(container.to_owned()));
        }
        let allowed = |c: char| c != '/' && c != ':' && !c.is_whitespace() && !c.is_control();
        if !(1..=15).contains(&interface.len())
            || [".", ".."].contains(&interface)
            || !interface.chars().all(allowed)
        {
            return Err(BadAttachment::Interface(interface.to_owned()));
        }
        Ok(Self {
            container: container.to_owned(),
            interface: interface.to_owned(),
            netns: None,
            args: Vec::new(),
            capabilities: Capabilities::default(),
        })
    }

    /// In the namespace that is mounted on `path`. DEL may go without one, as
    /// the namespace may be gone.
    #[must_use]
    pub fn in_netns(mut self, path: &Path) -> Self {
        self.netns = Some(path.to_owned());
        self
    }

    /// Without a namespace, as that is gone.
    #[must_use]
    pub(crate) fn without_netns(mut self) -> Self {
        self.netns = None;
        self
    }

    /// With the extra argument `key`, as in `K8S_POD_NAME`.
    ///
    /// # Errors
    /// What cannot be written in `CNI_ARGS`.
    pub fn with_arg(mut self, key: &str, value: &str) -> Result<Self, BadAttachment> {
        let bad = |text: &str| text.contains([';', '\0']);
        if key.is_empty() || key.contains('=') || bad(key) || bad(value) {
            return Err(BadAttachment::Argument(format!("{key}={value}")));
        }
        self.args.push((key.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// With what is asked for.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// The container's id.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// The interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Where the namespace is mounted.
    #[must_use]
    pub fn netns(&self) -> Option<&Path> {
        self.netns.as_deref()
    }

    /// The extra arguments in their order.
    #[must_use]
    pub fn args(&self) -> &[(String, String)] {
        &self.args
    }
}

/// Whether `text` may name a container or a network: `[A-Za-z0-9_.-]`, the
/// first a letter or digit, and short enough for the name of a file.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 200
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// What may be asked for a namespace. A plugin is told what its configuration
/// says that it is capable of. The names are those of the specification's
/// `CONVENTIONS.md`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// Ports of the host that lead to ports of the namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// Limits of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Name servers that the container uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsCapability>,
    /// Addresses that it should get.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Cidr>,
    /// The interface's hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Names under which others find it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The pod's cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_path: Option<String>,
    /// A device that a device plugin gave to the pod.
    #[serde(rename = "deviceID", skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The pod's annotations.
    #[serde(
        rename = "io.kubernetes.cri.pod-annotations",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub pod_annotations: BTreeMap<String, String>,
}

impl Capabilities {
    /// Those that are asked for, by name.
    pub(crate) fn by_name(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(named)) => named,
            // Strings, numbers and maps with strings as keys always are one.
            _ => Map::new(),
        }
    }
}

/// A port of the host that leads to one of the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// On the host.
    pub host_port: u16,
    /// In the namespace.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The address of the host; empty for all of them.
    #[serde(rename = "hostIP", default, skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

/// Limits in bits a second, bursts in bits; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// Into the namespace.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_rate: u64,
    /// Into the namespace.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_burst: u64,
    /// Out of the namespace.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_rate: u64,
    /// Out of the namespace.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_burst: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Name servers that the container uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsCapability {
    /// Addresses.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options of resolv.conf.
    pub options: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mean_something_else_are_refused() {
        let ok = |container: &str, interface: &str| Attachment::new(container, interface).is_ok();
        assert!(ok("abc", "eth0"));
        for container in ["", "../x", "a b", "-a", "a;b", &"a".repeat(201)] {
            assert!(!ok(container, "eth0"), "{container:?}");
        }
        for interface in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx"] {
            assert!(!ok("abc", interface), "{interface:?}");
        }
    }

    #[test]
    fn an_argument_cannot_smuggle_in_another() {
        let with = |key: &str, value: &str| {
            let attachment = Attachment::new("abc", "eth0").expect("it is good");
            attachment.with_arg(key, value)
        };
        assert!(with("K8S_POD_NAME", "web=1").is_ok());
        assert!(with("K8S_POD_NAME", "web;IgnoreUnknown=1").is_err());
        assert!(with("A=B", "c").is_err());
        assert!(with("", "c").is_err());
    }

    #[test]
    fn capabilities_have_the_names_of_the_conventions() {
        let capabilities = Capabilities {
            bandwidth: Some(Bandwidth {
                ingress_rate: 8,
                ..Bandwidth::default()
            }),
            ips: vec!["10.0.0.2/24".parse().expect("it is one")],
            mac: Some("02:00:00:00:00:01".to_owned()),
            aliases: vec!["web".to_owned()],
            device_id: Some("0000:00:1f.6".to_owned()),
            cgroup_path: Some("/pod".to_owned()),
            ..Capabilities::default()
        };
        assert_eq!(
            Value::Object(capabilities.by_name()),
            serde_json::json!({
                "bandwidth": {"ingressRate": 8}, "ips": ["10.0.0.2/24"],
                "mac": "02:00:00:00:00:01", "aliases": ["web"],
                "deviceID": "0000:00:1f.6", "cgroupPath": "/pod",
            })
        );
        assert!(Capabilities::default().by_name().is_empty());
    }
}
