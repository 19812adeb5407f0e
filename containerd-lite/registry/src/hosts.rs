//! Which servers answer for a registry, and how to reach each of them:
//! containerd's `hosts.toml`, and Docker's directories of certificates.
//!
//! 1. [`Hosts::of`] looks for the directory of a registry in each of the
//!    configured ones.
//! 2. [`parse`] reads its `hosts.toml`; a directory without that file is one
//!    of Docker's, with `*.crt`, `*.cert` and `*.key` for the registry itself.
//! 3. The answer is a list of [`Host`]s to try in order, the registry last.
//!
//! A file that cannot be read, or has a key that is not known, is an error that
//! names it: a mirror that is silently not used, or a certificate that is
//! silently not checked, is worse.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::endpoint::{default_base, is_loopback};
use crate::error::Error;

/// One server that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Where its API begins, without a slash at its end.
    pub(crate) base: Url,
    pub(crate) can_pull: bool,
    pub(crate) can_resolve: bool,
    pub(crate) can_push: bool,
    pub(crate) tls: TlsSettings,
    /// Sent with every question.
    pub(crate) headers: Vec<(String, String)>,
    /// Not the registry itself: it is told which one it stands in for.
    pub(crate) is_mirror: bool,
}

impl Host {
    /// A server that is no registry, by an address on it.
    pub(crate) fn plain(address: Url) -> Self {
        Self {
            base: address,
            can_pull: true,
            can_resolve: false,
            can_push: false,
            tls: TlsSettings::default(),
            headers: Vec::new(),
            is_mirror: false,
        }
    }
}

/// What differs from the machine's own trust.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TlsSettings {
    /// Further authorities, as PEM files.
    pub(crate) ca: Vec<PathBuf>,
    /// Certificates to show, each with the file of its key.
    pub(crate) client: Vec<(PathBuf, PathBuf)>,
    /// Accept whatever certificate the server has.
    pub(crate) skip_verify: bool,
}

/// Where to look.
#[derive(Debug)]
pub(crate) struct Hosts<'a> {
    /// Directories like `/etc/containerd/certs.d`; the first that knows a
    /// registry counts.
    pub(crate) dirs: &'a [PathBuf],
    /// Whether this registry is reached without TLS, where no file says.
    pub(crate) plain_http: bool,
}

impl Hosts<'_> {
    /// The servers for `domain`, in the order to try them.
    ///
    /// # Errors
    /// [`Error::Hosts`] naming the file and what is wrong with it.
    pub(crate) fn of(&self, domain: &str) -> Result<Vec<Host>, Error> {
        let own = Host {
            base: default_base(domain, self.plain_http)?,
            can_pull: true,
            can_resolve: true,
            can_push: true,
            tls: TlsSettings::default(),
            headers: Vec::new(),
            is_mirror: false,
        };
        let found = self
            .dirs
            .iter()
            .flat_map(|dir| candidates(dir, domain))
            .find(|dir| dir.is_dir());
        let Some(dir) = found else {
            return Ok(vec![own]);
        };
        let file = dir.join("hosts.toml");
        match fs::read_to_string(&file) {
            Ok(text) => parse(&text, &dir, own).map_err(|what| Error::Hosts { file, what }),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let tls = dockers(&dir).map_err(|err| Error::Hosts {
                    file: dir.clone(),
                    what: err.to_string(),
                })?;
                Ok(vec![Host { tls, ..own }])
            }
            Err(err) => Err(Error::Hosts {
                file,
                what: err.to_string(),
            }),
        }
    }
}

/// The names that a registry's directory may have, as containerd looks for
/// them: `host_port_` first, since some file systems know no colon.
fn candidates(dir: &Path, domain: &str) -> Vec<PathBuf> {
    let mut names = Vec::new();
    if let Some((host, port)) = domain.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names.push(domain.to_owned());
    names.push("_default".to_owned());
    names.into_iter().map(|name| dir.join(name)).collect()
}

/// Docker's form: authorities in `*.crt`, certificates to show in `*.cert`
/// beside a `*.key` of the same name.
fn dockers(dir: &Path) -> io::Result<TlsSettings> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    files.sort();
    let mut tls = TlsSettings::default();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => tls.ca.push(file),
            Some("cert") => {
                let key = file.with_extension("key");
                tls.client.push((file, key));
            }
            _ => {}
        }
    }
    Ok(tls)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    server: Option<String>,
    #[serde(default)]
    capabilities: Option<Vec<String>>,
    ca: Option<Files>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    override_path: Option<bool>,
    #[serde(default)]
    header: toml::Table,
    #[serde(default)]
    host: toml::Table,
    /// Known to containerd; our own limit is on every connection.
    #[serde(rename = "dial_timeout")]
    _dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    capabilities: Option<Vec<String>>,
    ca: Option<Files>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    override_path: Option<bool>,
    #[serde(default)]
    header: toml::Table,
    #[serde(rename = "dial_timeout")]
    _dial_timeout: Option<String>,
}

/// One file or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Files {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

/// A file that holds certificate and key, several of those, or pairs.
#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    One(PathBuf),
    Many(Vec<PathBuf>),
    Pairs(Vec<(PathBuf, PathBuf)>),
}

/// Reads `hosts.toml`, whose paths are relative to `dir`. `own` is the registry
/// as it is reached without the file.
fn parse(text: &str, dir: &Path, own: Host) -> Result<Vec<Host>, String> {
    let raw: RawFile = toml::from_str(text).map_err(|err| err.to_string().trim().to_owned())?;
    let mut hosts = Vec::new();
    for (address, settings) in raw.host {
        let within = |what: String| format!("host {address:?}: {what}");
        let settings: RawHost = settings
            .try_into()
            .map_err(|err: toml::de::Error| within(err.message().to_owned()))?;
        hosts.push(host(&address, settings, dir).map_err(within)?);
    }
    let settings = RawHost {
        capabilities: raw.capabilities,
        ca: raw.ca,
        client: raw.client,
        skip_verify: raw.skip_verify,
        override_path: raw.override_path,
        header: raw.header,
        _dial_timeout: None,
    };
    let last = match raw.server {
        Some(address) => host(&address, settings, dir).map_err(|what| format!("server: {what}"))?,
        None => {
            let address = own.base.to_string();
            let mut last = host(&address, settings, dir)?;
            last.base = own.base;
            last
        }
    };
    hosts.push(Host {
        is_mirror: false,
        ..last
    });
    Ok(hosts)
}

fn host(address: &str, settings: RawHost, dir: &Path) -> Result<Host, String> {
    let full = if address.contains("://") {
        address.to_owned()
    } else {
        let guess = Url::parse(&format!("https://{address}")).map_err(|err| err.to_string())?;
        let scheme = if is_loopback(&guess) { "http" } else { "https" };
        format!("{scheme}://{address}")
    };
    let mut base = Url::parse(&full).map_err(|err| err.to_string())?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(format!("{address} is neither http nor https"));
    }
    let path = base.path().trim_end_matches('/').to_owned();
    let path = if settings.override_path == Some(true) || path.ends_with("/v2") {
        path
    } else {
        format!("{path}/v2")
    };
    base.set_path(&path);
    base.set_query(None);
    let capabilities = settings
        .capabilities
        .unwrap_or_else(|| ["pull", "resolve", "push"].map(str::to_owned).to_vec());
    for name in &capabilities {
        if !matches!(name.as_str(), "pull" | "resolve" | "push" | "referrers") {
            return Err(format!("unknown capability {name:?}"));
        }
    }
    let can = |name: &str| capabilities.iter().any(|has| has == name);
    let absolute = |path: PathBuf| dir.join(path);
    let client = match settings.client {
        None => Vec::new(),
        Some(Client::One(both)) => vec![(both.clone(), both)],
        Some(Client::Many(all)) => all.into_iter().map(|both| (both.clone(), both)).collect(),
        Some(Client::Pairs(pairs)) => pairs,
    };
    Ok(Host {
        can_pull: can("pull"),
        can_resolve: can("resolve"),
        can_push: can("push"),
        tls: TlsSettings {
            ca: match settings.ca {
                None => Vec::new(),
                Some(Files::One(file)) => vec![absolute(file)],
                Some(Files::Many(files)) => files.into_iter().map(absolute).collect(),
            },
            client: client
                .into_iter()
                .map(|(cert, key)| (absolute(cert), absolute(key)))
                .collect(),
            skip_verify: settings.skip_verify == Some(true),
        },
        headers: headers(settings.header)?,
        is_mirror: true,
        base,
    })
}

fn headers(table: toml::Table) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for (name, value) in table {
        let values = match value {
            toml::Value::String(one) => vec![one],
            toml::Value::Array(many) => many
                .into_iter()
                .map(|value| match value {
                    toml::Value::String(text) => Ok(text),
                    other => Err(format!("header {name:?}: {other} is no text")),
                })
                .collect::<Result<_, _>>()?,
            other => return Err(format!("header {name:?}: {other} is no text")),
        };
        all.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(dirs: &[PathBuf], domain: &str) -> Result<Vec<Host>, Error> {
        Hosts {
            dirs,
            plain_http: false,
        }
        .of(domain)
    }

    fn file(name: &str, text: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().expect("directory");
        let own = dir.path().join(name);
        fs::create_dir_all(&own).expect("directory");
        fs::write(own.join("hosts.toml"), text).expect("file");
        let dirs = vec![dir.path().to_path_buf()];
        (dir, dirs)
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file_and_the_registry_last() {
        let (dir, dirs) = file(
            "docker.io",
            r#"
            [host."https://z.example"]
            capabilities = ["pull", "resolve"]
            ca = "z.pem"
            client = [["z.crt", "/keys/z.key"]]
            [host."https://z.example".header]
            x-a = ["1", "2"]
            [host."http://a.example:5000/prefix"]
            skip_verify = true
            [host."https://b.example/v2/own"]
            override_path = true
            "#,
        );
        let hosts = hosts(&dirs, "docker.io").expect("hosts");
        let bases: Vec<_> = hosts.iter().map(|host| host.base.as_str()).collect();
        assert_eq!(
            bases,
            [
                "https://z.example/v2",
                "http://a.example:5000/prefix/v2",
                "https://b.example/v2/own",
                "https://registry-1.docker.io/v2"
            ]
        );
        let own = dir.path().join("docker.io");
        assert_eq!(
            hosts[0].tls,
            TlsSettings {
                ca: vec![own.join("z.pem")],
                client: vec![(own.join("z.crt"), PathBuf::from("/keys/z.key"))],
                skip_verify: false,
            }
        );
        assert_eq!(hosts[0].headers.len(), 2);
        assert!(!hosts[0].can_push && hosts[0].is_mirror && hosts[1].can_push);
        assert!(hosts[1].tls.skip_verify && !hosts[3].is_mirror);
    }

    #[test]
    fn the_port_is_part_of_the_name_and_default_is_for_the_others() {
        let (_dir, dirs) = file("r.example_5000_", r#"server = "https://one.example""#);
        let at = |domain| hosts(&dirs, domain).expect("hosts")[0].base.to_string();
        assert_eq!(at("r.example:5000"), "https://one.example/v2");
        assert_eq!(at("r.example"), "https://r.example/v2");
        let (_dir, dirs) = file("_default", r#"server = "https://two.example""#);
        let at = |domain| hosts(&dirs, domain).expect("hosts")[0].base.to_string();
        assert_eq!(at("any.example"), "https://two.example/v2");
    }

    #[test]
    fn what_is_wrong_is_named_with_the_file() {
        for (text, what) in [
            ("mirror = 1", "mirror"),
            ("[host.\"https://x\"]\nskipverify = true", "skipverify"),
            ("[host.\"ftp://x\"]", "neither http nor https"),
            ("[host.\"https://x\"]\ncapabilities = [\"sing\"]", "sing"),
        ] {
            let (_dir, dirs) = file("r.example", text);
            let err = hosts(&dirs, "r.example").expect_err("refused").to_string();
            assert!(err.contains(what) && err.contains("hosts.toml"), "{err}");
        }
    }

    #[test]
    fn a_directory_of_dockers_holds_the_registrys_own_certificates() {
        let dir = tempfile::tempdir().expect("directory");
        let own = dir.path().join("r.example:5000");
        fs::create_dir_all(&own).expect("directory");
        for name in ["ca.crt", "me.cert", "me.key"] {
            fs::write(own.join(name), "").expect("file");
        }
        let hosts = hosts(&[dir.path().to_path_buf()], "r.example:5000").expect("hosts");
        assert_eq!(hosts[0].tls.ca, [own.join("ca.crt")]);
        assert_eq!(
            hosts[0].tls.client,
            [(own.join("me.cert"), own.join("me.key"))]
        );
    }
}
