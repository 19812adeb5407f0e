//! The configuration of a network: a list of plugins that work on a namespace
//! one after the other.
//!
//! [`Network::parse_list`] reads a `.conflist`, [`Network::parse_single`] a
//! `.conf` or `.json` with one plugin, which is a list of one. Both are pure.
//! What a plugin is sent is made by [`Plugin::request`]: its own part of the
//! list as it was written, and beside it what the specification has the
//! runtime add.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::attachment::{Capabilities, is_identifier};
use crate::outcome::Outcome;
use crate::version::{self, UnknownVersion, Version};

/// A network's configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Its name, unique on the host.
    pub name: String,
    /// What plugins are spoken to in.
    pub version: Version,
    /// Whether the administrator wants no CHECK.
    pub disable_check: bool,
    /// Whether the administrator wants no GC.
    pub disable_gc: bool,
    /// Whether more plugins stand in files of their own ([`crate::directory`]).
    pub load_only_inlined: bool,
    /// Who works on a namespace, in this order.
    pub plugins: Vec<Plugin>,
}

/// One plugin of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// The name of its program.
    pub kind: String,
    /// The capabilities that it says it has.
    pub capabilities: BTreeSet<String>,
    /// Its part of the list, as written.
    fields: Map<String, Value>,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadConfig {
    /// Not JSON.
    #[error("configuration is not JSON")]
    Json(#[source] serde_json::Error),
    /// A field that is missing or of another type.
    #[error("{field} is not {expected}")]
    Field {
        /// Where, as in `plugins[1].type`.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The version is none that is known.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// A list without plugins.
    #[error("list has no plugins")]
    Empty,
    /// A file larger than any configuration is.
    #[error("configuration is larger than {0} bytes")]
    TooLarge(u64),
}

impl Network {
    /// Reads a list of plugins.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_list(text: &[u8]) -> Result<Self, BadConfig> {
        let fields = object(text)?;
        let mut plugins = Vec::new();
        match fields.get("plugins") {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                for (at, plugin) in list.iter().enumerate() {
                    plugins.push(Plugin::read(plugin, &format!("plugins[{at}]."))?);
                }
            }
            Some(_) => return Err(wrong("plugins", "a list")),
        }
        let load_only_inlined = flag(&fields, "loadOnlyInlinedPlugins")?;
        let network = Self {
            name: name(&fields)?,
            version: newest_named(&fields)?,
            disable_check: flag(&fields, "disableCheck")?,
            disable_gc: flag(&fields, "disableGC")?,
            load_only_inlined,
            plugins,
        };
        // Without an own `plugins`, they may all stand in files of their own.
        if network.plugins.is_empty() && (load_only_inlined || fields.contains_key("plugins")) {
            return Err(BadConfig::Empty);
        }
        Ok(network)
    }

    /// Reads a configuration of one plugin.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_single(text: &[u8]) -> Result<Self, BadConfig> {
        let fields = object(text)?;
        if fields.contains_key("plugins") {
            return Err(wrong("plugins", "allowed outside a .conflist"));
        }
        Ok(Self {
            name: name(&fields)?,
            version: newest_named(&fields)?,
            disable_check: false,
            disable_gc: false,
            load_only_inlined: true,
            plugins: vec![Plugin::read(&Value::Object(fields), "")?],
        })
    }

    /// The loopback interface as a network, for callers that have the plugin
    /// bring it up.
    #[must_use]
    pub fn loopback() -> Self {
        let mut fields = Map::new();
        fields.insert("type".to_owned(), "loopback".into());
        Self {
            name: "cni-loopback".to_owned(),
            version: Version::V0_3_1,
            disable_check: false,
            disable_gc: false,
            load_only_inlined: true,
            plugins: vec![Plugin {
                kind: "loopback".to_owned(),
                capabilities: BTreeSet::new(),
                fields,
            }],
        }
    }

    /// The list as [`parse_list`](Self::parse_list) reads it, with all plugins
    /// in it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let plugins = self
            .plugins
            .iter()
            .map(|plugin| Value::Object(plugin.fields.clone()))
            .collect();
        let mut list = Map::new();
        list.insert("cniVersion".to_owned(), self.version.as_str().into());
        list.insert("name".to_owned(), self.name.clone().into());
        for (key, set) in [
            ("disableCheck", self.disable_check),
            ("disableGC", self.disable_gc),
        ] {
            if set {
                list.insert(key.to_owned(), true.into());
            }
        }
        list.insert("loadOnlyInlinedPlugins".to_owned(), true.into());
        list.insert("plugins".to_owned(), Value::Array(plugins));
        Value::Object(list)
    }
}

/// What the runtime adds to a plugin's configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Additions<'a> {
    /// What is asked for one namespace; a plugin gets what it is capable of.
    pub capabilities: Option<&'a Capabilities>,
    /// What the plugin before it, or an ADD of this list, came to.
    pub previous: Option<&'a Outcome>,
    /// GC: the attachments that are still in use, as (container, interface).
    pub valid: Option<&'a [(String, String)]>,
}

impl Plugin {
    pub(crate) fn read(plugin: &Value, at: &str) -> Result<Self, BadConfig> {
        let Value::Object(fields) = plugin else {
            return Err(wrong(at.trim_end_matches('.'), "an object"));
        };
        let kind = match fields.get("type") {
            // The name of a program in one of the plugin directories.
            Some(Value::String(kind))
                if !kind.is_empty() && kind != "." && kind != ".." && !kind.contains('/') =>
            {
                kind.clone()
            }
            _ => return Err(wrong(&format!("{at}type"), "the name of a plugin")),
        };
        let mut capabilities = BTreeSet::new();
        match fields.get("capabilities") {
            None | Some(Value::Null) => {}
            Some(Value::Object(all)) => {
                for (capability, on) in all {
                    match on {
                        Value::Bool(true) => {
                            capabilities.insert(capability.clone());
                        }
                        Value::Bool(false) => {}
                        _ => {
                            let field = format!("{at}capabilities.{capability}");
                            return Err(wrong(&field, "true or false"));
                        }
                    }
                }
            }
            Some(_) => return Err(wrong(&format!("{at}capabilities"), "an object")),
        }
        Ok(Self {
            kind,
            capabilities,
            fields: fields.clone(),
        })
    }

    /// What the plugin gets on its standard input.
    #[must_use]
    pub fn request(&self, network: &Network, additions: Additions<'_>) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("name".to_owned(), network.name.clone().into());
        fields.insert("cniVersion".to_owned(), network.version.as_str().into());
        if let Some(wanted) = additions.capabilities {
            let mut wanted = wanted.by_name();
            wanted.retain(|name, _| self.capabilities.contains(name));
            if !wanted.is_empty() {
                fields.insert("runtimeConfig".to_owned(), Value::Object(wanted));
            }
        }
        if let Some(previous) = additions.previous {
            fields.insert("prevResult".to_owned(), previous.to_json(network.version));
        }
        if let Some(valid) = additions.valid {
            let valid = valid
                .iter()
                .map(|(container, interface)| {
                    serde_json::json!({"containerID": container, "ifname": interface})
                })
                .collect();
            fields.insert("cni.dev/valid-attachments".to_owned(), Value::Array(valid));
        }
        Value::Object(fields)
    }
}

fn object(text: &[u8]) -> Result<Map<String, Value>, BadConfig> {
    match serde_json::from_slice(text).map_err(BadConfig::Json)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(wrong("configuration", "an object")),
    }
}

fn wrong(field: &str, expected: &'static str) -> BadConfig {
    BadConfig::Field {
        field: field.to_owned(),
        expected,
    }
}

fn name(fields: &Map<String, Value>) -> Result<String, BadConfig> {
    match fields.get("name") {
        Some(Value::String(name)) if is_identifier(name) => Ok(name.clone()),
        _ => Err(wrong(
            "name",
            "a network's name: letters, digits, '_', '.' and '-', the first a letter or digit",
        )),
    }
}

fn flag(fields: &Map<String, Value>, key: &str) -> Result<bool, BadConfig> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(set)) => Ok(*set),
        // Lists in the field have these quoted.
        Some(Value::String(text)) if text == "true" => Ok(true),
        Some(Value::String(text)) if text == "false" => Ok(false),
        Some(_) => Err(wrong(key, "true or false")),
    }
}

/// The newest known one of `cniVersions`, or `cniVersion`; the oldest there is
/// where neither stands.
fn newest_named(fields: &Map<String, Value>) -> Result<Version, BadConfig> {
    let single = match fields.get("cniVersion") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return Err(wrong("cniVersion", "a version")),
    };
    let mut named: Vec<&str> = single.into_iter().collect();
    match fields.get("cniVersions") {
        None | Some(Value::Null) => {}
        Some(Value::Array(all)) => {
            for version in all {
                let Value::String(version) = version else {
                    return Err(wrong("cniVersions", "a list of versions"));
                };
                named.push(version);
            }
        }
        Some(_) => return Err(wrong("cniVersions", "a list of versions")),
    }
    let Some(first) = named.first() else {
        return Ok(version::ALL[0]);
    };
    let known = named.iter().filter_map(|text| text.parse().ok()).max();
    known.ok_or_else(|| UnknownVersion((*first).to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIDGE: &str = r#"{
        "cniVersion": "1.0.0", "name": "pods", "keepMe": 1,
        "plugins": [
            {"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local"}},
            {"type": "portmap", "capabilities": {"portMappings": true, "bandwidth": false}}
        ]}"#;

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let err = Network::parse_list(text.as_bytes()).expect_err(text);
        assert_eq!(err.to_string(), why, "{text}");
    }

    #[test]
    fn a_list_is_read() {
        let network = Network::parse_list(BRIDGE.as_bytes()).expect("it is good");
        assert_eq!(network.name, "pods");
        assert_eq!(network.version, Version::V1_0_0);
        let kinds: Vec<_> = network.plugins.iter().map(|p| p.kind.as_str()).collect();
        assert_eq!(kinds, ["bridge", "portmap"]);
        assert!(network.plugins[1].capabilities.contains("portMappings"));
        assert!(!network.plugins[1].capabilities.contains("bandwidth"));
    }

    #[test]
    fn a_list_survives_being_written() {
        let network = Network::parse_list(BRIDGE.as_bytes()).expect("it is good");
        let again = Network::parse_list(network.to_json().to_string().as_bytes());
        let again = again.expect("what is written can be read");
        assert_eq!(again.plugins, network.plugins);
        assert_eq!((again.name, again.version), (network.name, network.version));
    }

    #[test]
    fn what_is_wrong_is_named() {
        refused("{", "configuration is not JSON");
        refused("[]", "configuration is not an object");
        refused(
            r#"{"name": "a/b", "plugins": [{"type": "x"}]}"#,
            "name is not a network's name: letters, digits, '_', '.' and '-', the first a letter or digit",
        );
        refused(r#"{"name": "a", "plugins": []}"#, "list has no plugins");
        refused(
            r#"{"name": "a", "plugins": [{"type": "../../bin/sh"}]}"#,
            "plugins[0].type is not the name of a plugin",
        );
        refused(
            r#"{"name": "a", "plugins": [{"type": "x", "capabilities": {"ips": 1}}]}"#,
            "plugins[0].capabilities.ips is not true or false",
        );
        refused(
            r#"{"name": "a", "cniVersion": "9.0.0", "plugins": [{"type": "x"}]}"#,
            "CNI version \"9.0.0\" is unknown: known are 0.1.0 to 0.4.0, 1.0.0 and 1.1.0",
        );
    }

    #[test]
    fn of_several_versions_the_newest_known_is_spoken() {
        let text = r#"{"name": "a", "cniVersion": "0.4.0", "cniVersions": ["1.1.0", "7.0.0", "1.0.0"],
            "plugins": [{"type": "x"}]}"#;
        let network = Network::parse_list(text.as_bytes()).expect("it is good");
        assert_eq!(network.version, Version::V1_1_0);
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let network = Network::parse_single(br#"{"name": "lo", "type": "loopback"}"#);
        let network = network.expect("it is good");
        assert_eq!(network.version, Version::V0_1_0);
        assert_eq!(network.plugins.len(), 1);
    }

    #[test]
    fn a_plugin_is_sent_what_it_is_capable_of() {
        let network = Network::parse_list(BRIDGE.as_bytes()).expect("it is good");
        let capabilities = Capabilities {
            port_mappings: vec![crate::attachment::PortMapping {
                host_port: 80,
                container_port: 8080,
                protocol: "tcp".to_owned(),
                host_ip: String::new(),
            }],
            mac: Some("02:00:00:00:00:01".to_owned()),
            ..Capabilities::default()
        };
        let additions = Additions {
            capabilities: Some(&capabilities),
            ..Additions::default()
        };
        let bridge = network.plugins[0].request(&network, additions);
        assert_eq!(bridge["name"], "pods");
        assert_eq!(bridge["bridge"], "cni0");
        assert!(bridge.get("runtimeConfig").is_none(), "{bridge}");
        let portmap = network.plugins[1].request(&network, additions);
        assert_eq!(
            portmap["runtimeConfig"],
            serde_json::json!({"portMappings":
                [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]})
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,200}") {
            let _ = Network::parse_list(text.as_bytes());
            let _ = Network::parse_single(text.as_bytes());
        }
    }
}
