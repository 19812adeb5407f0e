//! What is attached, on disk: so that a namespace can be taken from its
//! networks after a restart, by the configuration that it was put there with
//! and not by the one that has taken its place since.
//!
//! One file for each attachment, in the form and under the name that the
//! reference implementation uses (`cniCacheV1` in `results/`), so that either
//! can take over from the other. Only the daemon writes here. A file is
//! replaced, never edited. The directory belongs below `/run` or `/var/lib`;
//! after a power cut the namespaces are gone anyway, so nothing is synced.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attachment::{Attachment, Capabilities};
use crate::config::Network;
use crate::outcome::Outcome;

/// The first word of every file.
const KIND: &str = "cniCacheV1";

/// An attachment as it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Attached {
    /// The network by which it was made.
    pub network: Network,
    /// Who is attached.
    pub attachment: Attachment,
    /// What it has. `None`: what the file says cannot be read any more.
    pub outcome: Option<Outcome>,
}

/// The directory of what is attached.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    container_id: String,
    /// The list of plugins, in base64.
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default)]
    netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
}

impl Cache {
    /// What is attached is kept below `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.join("results"),
        }
    }

    fn path(&self, network: &str, container: &str, interface: &str) -> PathBuf {
        self.dir.join(format!("{network}-{container}-{interface}"))
    }

    /// Writes down that `attachment` is on `network`.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn store(
        &self,
        network: &Network,
        attachment: &Attachment,
        outcome: Option<&Outcome>,
    ) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let file = File {
            kind: KIND.to_owned(),
            container_id: attachment.container().to_owned(),
            config: BASE64.encode(network.to_json().to_string()),
            if_name: attachment.interface().to_owned(),
            network_name: network.name.clone(),
            netns: attachment
                .netns()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            cni_args: Some(attachment.args().to_vec()),
            capability_args: Some(Value::Object(attachment.capabilities.by_name())),
            result: outcome.map(|outcome| outcome.to_json(network.version)),
        };
        let mut temporary = tempfile::NamedTempFile::new_in(&self.dir)?;
        temporary.write_all(&serde_json::to_vec(&file)?)?;
        let path = self.path(
            &network.name,
            attachment.container(),
            attachment.interface(),
        );
        temporary.persist(path).map_err(|err| err.error)?;
        Ok(())
    }

    /// What is known of this attachment; `None` where nothing is, or a file
    /// that nobody can read.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn load(
        &self,
        network: &str,
        container: &str,
        interface: &str,
    ) -> io::Result<Option<Attached>> {
        match fs::read(self.path(network, container, interface)) {
            Ok(text) => Ok(parse(&text)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Forgets an attachment. One that is not known is fine.
    ///
    /// # Errors
    /// Those of removing the file.
    pub fn forget(&self, network: &str, container: &str, interface: &str) -> io::Result<()> {
        match fs::remove_file(self.path(network, container, interface)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }

    /// All attachments, by container and interface. Files that are none are
    /// passed over.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub fn all(&self) -> io::Result<Vec<Attached>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = BTreeMap::new();
        for entry in entries {
            let path = entry?.path();
            // One that is being removed is no longer attached.
            if let Some(attached) = fs::read(&path).ok().and_then(|text| parse(&text)) {
                all.insert(path, attached);
            }
        }
        Ok(all.into_values().collect())
    }
}

fn parse(text: &[u8]) -> Option<Attached> {
    let file: File = serde_json::from_slice(text).ok()?;
    if file.kind != KIND {
        return None;
    }
    let config = BASE64.decode(&file.config).ok()?;
    let network = Network::parse_list(&config)
        .or_else(|_| Network::parse_single(&config))
        .ok()?;
    let mut attachment = Attachment::new(&file.container_id, &file.if_name).ok()?;
    if !file.netns.is_empty() {
        attachment = attachment.in_netns(Path::new(&file.netns));
    }
    for (key, value) in file.cni_args.unwrap_or_default() {
        attachment = attachment.with_arg(&key, &value).ok()?;
    }
    let capabilities: Option<Capabilities> = file
        .capability_args
        .and_then(|args| serde_json::from_value(args).ok());
    let outcome = file
        .result
        .and_then(|result| Outcome::parse(result.to_string().as_bytes()).ok());
    Some(Attached {
        network,
        attachment: attachment.with_capabilities(capabilities.unwrap_or_default()),
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::PortMapping;

    fn network() -> Network {
        let text = br#"{"name": "pods", "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}"#;
        Network::parse_list(text).expect("it is good")
    }

    fn attachment() -> Attachment {
        Attachment::new("abc", "eth0")
            .expect("it is good")
            .in_netns(Path::new("/run/netns/abc"))
            .with_arg("K8S_POD_NAME", "web")
            .expect("it is good")
            .with_capabilities(Capabilities {
                port_mappings: vec![PortMapping {
                    host_port: 80,
                    container_port: 8080,
                    protocol: "tcp".to_owned(),
                    host_ip: String::new(),
                }],
                ..Capabilities::default()
            })
    }

    #[test]
    fn what_was_attached_is_found_again_whole() {
        let dir = tempfile::tempdir().expect("it can be made");
        let outcome = Outcome::parse(br#"{"ips": [{"address": "10.0.0.2/24"}]}"#).expect("good");
        Cache::new(dir.path())
            .store(&network(), &attachment(), Some(&outcome))
            .expect("it can be written");
        let cache = Cache::new(dir.path());
        let found = cache.load("pods", "abc", "eth0").expect("it can be read");
        let found = found.expect("it is there");
        assert_eq!(found.attachment, attachment());
        assert_eq!(found.network.plugins, network().plugins);
        assert_eq!(found.outcome, Some(outcome));
        assert_eq!(cache.all().expect("it can be read"), [found]);

        cache
            .forget("pods", "abc", "eth0")
            .expect("it can be removed");
        cache
            .forget("pods", "abc", "eth0")
            .expect("once more is fine");
        assert_eq!(cache.load("pods", "abc", "eth0").expect("fine"), None);
    }

    #[test]
    fn garbage_in_the_directory_hides_nothing() {
        let dir = tempfile::tempdir().expect("it can be made");
        let cache = Cache::new(dir.path());
        cache
            .store(&network(), &attachment(), None)
            .expect("it can be written");
        fs::write(dir.path().join("results/x"), "{").expect("it can be written");
        fs::write(
            dir.path().join("results/pods-b-eth0"),
            br#"{"kind": "other"}"#,
        )
        .expect("it can be written");
        assert_eq!(cache.all().expect("it can be read").len(), 1);
        assert_eq!(
            cache.load("pods", "b", "eth0").expect("it can be read"),
            None
        );
    }

    #[test]
    fn a_file_of_the_reference_implementation_is_read() {
        let text = r#"{"kind":"cniCacheV1","containerId":"c1","config":"eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoibiIsInBsdWdpbnMiOlt7InR5cGUiOiJicmlkZ2UifV19","ifName":"eth0","networkName":"n","netns":"/n","cniArgs":[["IgnoreUnknown","1"]],"capabilityArgs":{"portMappings":[{"hostPort":1,"containerPort":2,"protocol":"tcp","hostIP":""}]},"result":{"cniVersion":"1.0.0","dns":{},"ips":[{"address":"10.0.0.2/24"}]}}"#;
        let found = parse(text.as_bytes()).expect("it is one");
        assert_eq!(found.network.name, "n");
        assert_eq!(
            found.attachment.args(),
            [("IgnoreUnknown".to_owned(), "1".to_owned())]
        );
        assert_eq!(found.attachment.capabilities.port_mappings[0].host_port, 1);
        assert!(found.outcome.is_some());
    }
}
