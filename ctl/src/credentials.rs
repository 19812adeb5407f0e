//! Credentials where Docker and its relatives keep them: `config.json`, and
//! the helper programs that it names.
//!
//! 1. `credHelpers` names a helper for one registry, `credsStore` one for all:
//!    `docker-credential-<name>` is run, and speaks JSON.
//! 2. Else `auths` holds them in the file itself, a password in base64 or a
//!    refresh token.
//!
//! Nothing is kept in the file unless the user asks for that: base64 hides
//! nothing from whoever can read it. The file is read on request and written only
//! by [`DockerConfig::store`] and [`DockerConfig::erase`], which replace it as a
//! whole, readable by its owner alone, and keep what they do not know.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proto::engine::v1::RegistryAuth;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, reason};

/// The registry of names that name none.
pub(crate) const DEFAULT_DOMAIN: &str = "docker.io";

/// Under which Docker keeps the credentials of its own registry.
pub(crate) const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name that says that the secret is a refresh token.
const TOKEN_USER: &str = "<token>";

/// Helpers for Linux that Docker knows, best first.
const HELPERS: [&str; 2] = ["pass", "secretservice"];

/// A `config.json`.
#[derive(Debug, Clone)]
pub(crate) struct DockerConfig {
    file: PathBuf,
    content: Map<String, Value>,
}

/// Where credentials were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A helper has them.
    ByHelper,
    /// They are in the file, for everybody who can read it.
    InTheFile,
    /// There is no helper, and the file was not allowed.
    Nowhere,
}

impl DockerConfig {
    /// The user's: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    ///
    /// # Errors
    /// As [`DockerConfig::read`].
    pub(crate) fn of_user() -> Result<Self, Failure> {
        let dir = match std::env::var_os("DOCKER_CONFIG") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()))
                .join(".docker"),
        };
        Self::read(&dir.join("config.json"))
    }

    /// Where no helper is named, names the first of Docker's own that is
    /// installed. The file says so from the next write on.
    pub(crate) fn adopt_helper(&mut self) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = |name: &&&str| {
            let program = format!("docker-credential-{name}");
            std::env::split_paths(&path).any(|dir| dir.join(&program).is_file())
        };
        let named = self.content.contains_key("credsStore");
        if let (false, Some(name)) = (named, HELPERS.iter().find(installed)) {
            self.content.insert("credsStore".to_owned(), json!(name));
        }
    }

    /// Where it is.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Reads `file`; one that does not exist is an empty one.
    ///
    /// # Errors
    /// A failure that names the file.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let content = match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|err| Failure::Client(format!("read {}: {err}", file.display())))?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(err) => return Err(Failure::io(format!("read {}", file.display()), &err)),
        };
        Ok(Self {
            file: file.to_path_buf(),
            content,
        })
    }

    /// The credentials for the registry `domain`, if there are any.
    ///
    /// # Errors
    /// A failure if its helper does not work.
    pub(crate) fn credentials(&self, domain: &str) -> Result<Option<RegistryAuth>, Failure> {
        if let Some(helper) = self.helper(domain) {
            for key in keys(domain) {
                if let Some(found) = ask_helper(&helper, &key, domain)? {
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

    /// Keeps `credentials` for `domain` with the helper where there is one; else,
    /// if `in_the_file` allows it, in the file. Returns where they are.
    ///
    /// # Errors
    /// A failure that names helper or file.
    pub(crate) fn store(
        &mut self,
        domain: &str,
        credentials: &RegistryAuth,
        in_the_file: bool,
    ) -> Result<Kept, Failure> {
        let key = own_key(domain);
        let RegistryAuth {
            username,
            password,
            identity_token: token,
            ..
        } = credentials;
        if let Some(helper) = self.helper(domain) {
            let (username, secret) = match token.as_str() {
                "" => (username.as_str(), password),
                _ => (TOKEN_USER, token),
            };
            let input = json!({"ServerURL": key, "Username": username, "Secret": secret});
            run_helper(&helper, "store", &input.to_string(), domain)?;
            // An entry without a secret, by which others see that there is one.
            self.auths(domain)?.insert(key, json!({}));
            self.write()?;
            return Ok(Kept::ByHelper);
        }
        if !in_the_file {
            return Ok(Kept::Nowhere);
        }
        let entry = match token.as_str() {
            "" => json!({"auth": BASE64.encode(format!("{username}:{password}"))}),
            _ => json!({
                "auth": BASE64.encode(format!("{username}:")),
                "identitytoken": token,
            }),
        };
        self.auths(domain)?.insert(key, entry);
        self.write()?;
        Ok(Kept::InTheFile)
    }

    /// Forgets what is kept for `domain`; returns whether there was anything.
    ///
    /// # Errors
    /// A failure that names helper or file.
    pub(crate) fn erase(&mut self, domain: &str) -> Result<bool, Failure> {
        let mut known = false;
        if let Some(helper) = self.helper(domain) {
            for key in keys(domain) {
                if ask_helper(&helper, &key, domain)?.is_some() {
                    run_helper(&helper, "erase", &key, domain)?;
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
            self.write()?;
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

    fn auths(&mut self, domain: &str) -> Result<&mut Map<String, Value>, Failure> {
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

    fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.content).unwrap_or_default();
        replace(&self.file, text.as_bytes())
            .map_err(|err| Failure::io(format!("write {}", self.file.display()), &err))
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

fn credentials_of(entry: &Value) -> Option<RegistryAuth> {
    let text = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    if let Some(identity_token) = text("identitytoken") {
        return Some(RegistryAuth {
            identity_token,
            ..RegistryAuth::default()
        });
    }
    if let Some(registry_token) = text("registrytoken") {
        return Some(RegistryAuth {
            registry_token,
            ..RegistryAuth::default()
        });
    }
    if let Some(auth) = text("auth") {
        let pair = String::from_utf8(BASE64.decode(auth).ok()?).ok()?;
        let (username, password) = pair.split_once(':')?;
        return Some(password_of(username, password.trim_end_matches('\0')));
    }
    Some(password_of(&text("username")?, &text("password")?))
}

fn password_of(username: &str, password: &str) -> RegistryAuth {
    RegistryAuth {
        username: username.to_owned(),
        password: password.to_owned(),
        ..RegistryAuth::default()
    }
}

fn ask_helper(helper: &str, key: &str, domain: &str) -> Result<Option<RegistryAuth>, Failure> {
    let output = match run_helper(helper, "get", key, domain) {
        Ok(output) => output,
        // The words by which every helper says that it has none.
        Err(err)
            if err
                .message()
                .is_some_and(|said| said.contains("credentials not found")) =>
        {
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
        RegistryAuth {
            identity_token: secret.to_owned(),
            ..RegistryAuth::default()
        }
    } else {
        password_of(username, secret)
    }))
}

fn run_helper(helper: &str, verb: &str, input: &str, domain: &str) -> Result<Vec<u8>, Failure> {
    let failed = |what: &str| fault(domain, format!("run {helper}: {what}"));
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| failed(&reason(&err)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why on its output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|err| failed(&reason(&err)))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    Err(failed(if out.is_empty() { &err } else { &out }))
}

fn fault(domain: &str, what: String) -> Failure {
    Failure::Client(format!("credentials for {domain}: {what}"))
}

/// The registry of the reference `typed`.
pub(crate) fn domain_of(typed: &str) -> &str {
    match typed.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN,
            domain => domain,
        },
        _ => DEFAULT_DOMAIN,
    }
}

/// What the user has for the registry of the reference `typed`.
///
/// # Errors
/// A failure if the file or its helper does not work.
pub(crate) fn of_reference(typed: &str) -> Result<Option<RegistryAuth>, Failure> {
    let domain = domain_of(typed);
    DockerConfig::of_user()?.credentials(domain)
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

    #[test]
    fn what_the_file_holds_is_found_under_every_name() {
        let (_dir, config) = config(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "bWU6c2VjOnJldA=="},
                "https://r.example": {"identitytoken": "t"},
                "other.example:5000": {"username": "u", "password": "p"}
            }}"#,
        );
        let find = |domain: &str| config.credentials(domain).expect("credentials");
        assert_eq!(find("docker.io"), Some(password_of("me", "sec:ret")));
        let token = find("r.example").expect("a token");
        assert_eq!(token.identity_token, "t");
        assert_eq!(find("other.example:5000"), Some(password_of("u", "p")));
        assert_eq!(find("other.example"), None);
    }

    #[test]
    fn what_is_kept_is_its_owners_alone_and_the_rest_of_the_file_stays() {
        let (dir, mut config) = config(r#"{"detachKeys": "ctrl-e", "auths": {"a": {}}}"#);
        let file = dir.path().join("config.json");
        let kept = password_of("u", "p");
        let stored = config.store("r.example", &kept, false).expect("store");
        assert_eq!(stored, Kept::Nowhere);
        assert_eq!(config.credentials("r.example").expect("read"), None);
        let stored = config.store("r.example", &kept, true).expect("store");
        assert_eq!(stored, Kept::InTheFile);
        assert_eq!(
            fs::metadata(&file).expect("file").permissions().mode() & 0o777,
            0o600
        );
        let mut again = DockerConfig::read(&file).expect("config");
        assert_eq!(again.credentials("r.example").expect("read"), Some(kept));
        assert_eq!(again.content.get("detachKeys"), Some(&json!("ctrl-e")));
        assert!(again.erase("r.example").expect("erase"));
        assert!(!again.erase("r.example").expect("erase"));
        assert_eq!(again.credentials("r.example").expect("read"), None);
    }

    #[test]
    fn a_references_registry_is_its_first_part_if_it_looks_like_one() {
        for (typed, domain) in [
            ("busybox", "docker.io"),
            ("me/busybox:1", "docker.io"),
            ("localhost/x", "localhost"),
            ("r.example/x/y@sha256:00", "r.example"),
            ("host:5000/x", "host:5000"),
            ("busybox:5000", "docker.io"),
            ("index.docker.io/library/x", "docker.io"),
        ] {
            assert_eq!(domain_of(typed), domain, "{typed}");
        }
    }
}
