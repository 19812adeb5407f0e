//! Credentials where Docker and its relatives keep them: `config.json`, and
//! the helper programs that it names.
//!
//! 1. `credHelpers` names a helper for one registry, `credsStore` one for all:
//!    `docker-credential-<name>` is run, and speaks JSON.
//! 2. Else `auths` holds them in the file itself, a password in base64 or a
//!    refresh token.
//!
//! The file is read on request and written only by [`DockerConfig::store`] and
//! [`DockerConfig::erase`], which replace it as a whole, readable by its owner
//! alone, and keep what they do not know.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::config::Credentials;
use crate::error::Error;
use crate::reference::DEFAULT_DOMAIN;

/// Under which Docker keeps the credentials of its own registry.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name that says that the secret is a refresh token.
const TOKEN_USER: &str = "<token>";

/// A `config.json`.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    file: PathBuf,
    content: Map<String, Value>,
}

impl DockerConfig {
    /// Reads `file`; one that does not exist is an empty one.
    ///
    /// # Errors
    /// [`Error::Hosts`] naming the file.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let fault = |what: String| Error::Hosts {
            file: file.to_path_buf(),
            what,
        };
        let content = match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|err| fault(err.to_string()))?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(err) => return Err(fault(err.to_string())),
        };
        Ok(Self {
            file: file.to_path_buf(),
            content,
        })
    }

    /// The credentials for the registry `domain`, if there are any.
    ///
    /// # Errors
    /// [`Error::Credentials`] if its helper does not work.
    pub async fn credentials(&self, domain: &str) -> Result<Option<Credentials>, Error> {
        if let Some(helper) = self.helper(domain) {
            for key in keys(domain) {
                if let Some(found) = ask_helper(&helper, &key, domain).await? {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        Ok(keys(domain)
            .iter()
            .find_map(|key| self.content.get("auths")?.get(key))
            .and_then(credentials_of))
    }

    /// Keeps `credentials` for `domain`: with the helper where there is one,
    /// else in the file. Returns whether they lie in the file.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub async fn store(&mut self, domain: &str, credentials: &Credentials) -> Result<bool, Error> {
        let key = own_key(domain);
        let (username, secret) = match credentials {
            Credentials::Password { username, password } => (username.as_str(), password),
            Credentials::Identity { token } | Credentials::Bearer { token } => (TOKEN_USER, token),
        };
        if let Some(helper) = self.helper(domain) {
            let input = json!({"ServerURL": key, "Username": username, "Secret": secret});
            run_helper(&helper, "store", &input.to_string(), domain).await?;
            return Ok(false);
        }
        let entry = match credentials {
            Credentials::Password { username, password } => {
                json!({"auth": BASE64.encode(format!("{username}:{password}"))})
            }
            Credentials::Identity { token } => json!({"identitytoken": token}),
            Credentials::Bearer { token } => json!({"registrytoken": token}),
        };
        self.auths(domain)?.insert(key, entry);
        self.write(domain)?;
        Ok(true)
    }

    /// Forgets what is kept for `domain`; returns whether there was anything.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub async fn erase(&mut self, domain: &str) -> Result<bool, Error> {
        let mut known = false;
        if let Some(helper) = self.helper(domain) {
            for key in keys(domain) {
                if ask_helper(&helper, &key, domain).await?.is_some() {
                    run_helper(&helper, "erase", &key, domain).await?;
                    known = true;
                }
            }
        }
        let auths = self.auths(domain)?;
        let before = auths.len();
        for key in keys(domain) {
            auths.remove(&key);
        }
        if auths.len() != before {
            known = true;
            self.write(domain)?;
        }
        Ok(known)
    }

    fn helper(&self, domain: &str) -> Option<String> {
        let own = keys(domain)
            .iter()
            .find_map(|key| self.content.get("credHelpers")?.get(key))
            .or_else(|| self.content.get("credsStore"))?;
        let name = own.as_str()?;
        (!name.is_empty()).then(|| format!("docker-credential-{name}"))
    }

    fn auths(&mut self, domain: &str) -> Result<&mut Map<String, Value>, Error> {
        let fault = fault(
            domain,
            format!("auths in {} is no object", self.file.display()),
        );
        self.content
            .entry("auths")
            .or_insert_with(|| json!({}))
            .as_object_mut()
            .ok_or(fault)
    }

    fn write(&self, domain: &str) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(&self.content).unwrap_or_default();
        replace(&self.file, text.as_bytes())
            .map_err(|err| fault(domain, format!("write {}: {err}", self.file.display())))
    }
}

/// Replaces `file`; after a crash it holds all of the old or all of the new.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link leads to the file that is meant.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let dir = file.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir)?;
    let mut new = file.clone().into_os_string();
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    let mut options = fs::OpenOptions::new();
    let written = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut opened| {
            opened.write_all(bytes)?;
            opened.sync_all()
        })
        .and_then(|()| fs::rename(&new, &file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn own_key(domain: &str) -> String {
    if domain == DEFAULT_DOMAIN {
        HUB_KEY.to_owned()
    } else {
        domain.to_owned()
    }
}

/// Every form under which the credentials of `domain` may be kept.
fn keys(domain: &str) -> Vec<String> {
    let mut keys = vec![own_key(domain)];
    if domain == DEFAULT_DOMAIN {
        keys.extend(["index.docker.io", "docker.io", "registry-1.docker.io"].map(str::to_owned));
    }
    keys.push(format!("https://{domain}"));
    keys.push(format!("https://{domain}/v2/"));
    keys.push(format!("https://{domain}/v1/"));
    keys
}

fn credentials_of(entry: &Value) -> Option<Credentials> {
    let text = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    if let Some(token) = text("identitytoken") {
        return Some(Credentials::Identity { token });
    }
    if let Some(token) = text("registrytoken") {
        return Some(Credentials::Bearer { token });
    }
    if let Some(auth) = text("auth") {
        return Credentials::from_auth(&auth);
    }
    Some(Credentials::password(text("username")?, text("password")?))
}

async fn ask_helper(helper: &str, key: &str, domain: &str) -> Result<Option<Credentials>, Error> {
    let output = match run_helper(helper, "get", key, domain).await {
        Ok(output) => output,
        // The words by which every helper says that it has none.
        Err(Error::Credentials { what, .. }) if what.contains("credentials not found") => {
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    let answer: Value = serde_json::from_slice(&output)
        .map_err(|err| fault(domain, format!("{helper} answers no JSON: {err}")))?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    let (username, secret) = (text("Username"), text("Secret"));
    if secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(if username == TOKEN_USER {
        Credentials::Identity {
            token: secret.to_owned(),
        }
    } else {
        Credentials::password(username, secret)
    }))
}

async fn run_helper(helper: &str, verb: &str, input: &str, domain: &str) -> Result<Vec<u8>, Error> {
    let failed = |what: &dyn std::fmt::Display| fault(domain, format!("run {helper}: {what}"));
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| failed(&err))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why on its output.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(|err| failed(&err))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    Err(failed(&if out.is_empty() { err } else { out }))
}

fn fault(domain: &str, what: String) -> Error {
    Error::Credentials {
        host: domain.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, DockerConfig) {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("config.json");
        fs::write(&file, text).expect("file");
        let config = DockerConfig::read(&file).expect("config");
        (dir, config)
    }

    #[tokio::test]
    async fn what_the_file_holds_is_found_under_every_name() {
        let (_dir, config) = config(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "bWU6c2VjOnJldA=="},
                "https://r.example": {"identitytoken": "t"},
                "other.example:5000": {"username": "u", "password": "p"}
            }}"#,
        );
        let find = async |domain| config.credentials(domain).await.expect("credentials");
        assert_eq!(
            find("docker.io").await,
            Some(Credentials::password("me", "sec:ret"))
        );
        let token = "t".to_owned();
        assert_eq!(
            find("r.example").await,
            Some(Credentials::Identity { token })
        );
        assert_eq!(
            find("other.example:5000").await,
            Some(Credentials::password("u", "p"))
        );
        assert_eq!(find("other.example").await, None);
    }

    #[tokio::test]
    async fn what_is_kept_is_its_owners_alone_and_the_rest_of_the_file_stays() {
        let (dir, mut config) = config(r#"{"detachKeys": "ctrl-e", "auths": {"a": {}}}"#);
        let file = dir.path().join("config.json");
        let kept = Credentials::password("u", "p");
        assert!(config.store("r.example", &kept).await.expect("store"));
        assert_eq!(
            fs::metadata(&file).expect("file").permissions().mode() & 0o777,
            0o600
        );
        let mut again = DockerConfig::read(&file).expect("config");
        assert_eq!(
            again.credentials("r.example").await.expect("read"),
            Some(kept)
        );
        assert_eq!(again.content.get("detachKeys"), Some(&json!("ctrl-e")));
        assert!(again.erase("r.example").await.expect("erase"));
        assert!(!again.erase("r.example").await.expect("erase"));
        assert_eq!(again.credentials("r.example").await.expect("read"), None);
    }
}
