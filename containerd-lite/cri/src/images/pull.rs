//! Pulls an image, with the credentials that came with the request.

use lite_core::{Credentials, Image, Kind, Platform, Reference, Result};
use tokio::sync::mpsc;

use super::normal_name;
use crate::hub::Cri;

/// Progress that waits for nobody: a kubelet is told of the end alone.
const WAITING: usize = 16;

/// Credentials as a kubelet has them; what is empty was not given.
#[derive(Clone, Default)]
pub struct Auth {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
    /// Both, as `name:password` in base64.
    pub auth: String,
    /// The registry that they are for; empty: the image's.
    pub server: String,
    /// A refresh token.
    pub identity_token: String,
    /// A token for the registry itself.
    pub registry_token: String,
}

impl Auth {
    /// What is shown to the registry `domain`.
    ///
    /// # Errors
    /// InvalidArgument for what is no pair of name and password.
    fn credentials(&self, domain: &str) -> Result<Option<Credentials>> {
        if !self.server.is_empty() && host_of(&self.server) != domain {
            return Ok(None);
        }
        if !self.username.is_empty() {
            return Ok(Some(Credentials::password(&self.username, &self.password)));
        }
        if !self.identity_token.is_empty() {
            let token = self.identity_token.clone();
            return Ok(Some(Credentials::Identity { token }));
        }
        if !self.registry_token.is_empty() {
            let token = self.registry_token.clone();
            return Ok(Some(Credentials::Bearer { token }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        // The text is a secret and not repeated.
        let bad = || Kind::InvalidArgument.error("auth: expected name:password in base64");
        Credentials::from_auth(&self.auth).map(Some).ok_or_else(bad)
    }
}

/// The host of an address like `https://index.docker.io/v1/`.
fn host_of(server: &str) -> &str {
    let bare = server
        .split_once("://")
        .map_or(server, |(_, address)| address);
    match bare.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// Pulls what `typed` refers to and returns the image's id.
///
/// # Errors
/// InvalidArgument for the reference or the credentials; else those of
/// [`lite_core::pull::pull_with`].
pub async fn pull(cri: &Cri, typed: &str, auth: &Auth) -> Result<String> {
    let bad = |why: &str| {
        Kind::InvalidArgument.error(format!("pull image: invalid reference {typed:?}: {why}"))
    };
    let name = normal_name(typed).ok_or_else(|| bad("expected [host/]name[:tag][@digest]"))?;
    let reference = Reference::parse(&name).map_err(|err| bad(&err.to_string()))?;
    let client = match auth.credentials(reference.domain())? {
        Some(credentials) => cri
            .core()
            .registry
            .with_credentials([(reference.domain().to_owned(), credentials)].into()),
        None => cri.core().registry.clone(),
    };
    let (progress, mut news) = mpsc::channel(WAITING);
    let drained = async { while news.recv().await.is_some() {} };
    let platform = Platform::host();
    let work = Box::pin(lite_core::pull::pull_with(
        &client,
        cri.core(),
        cri.ns(),
        &reference,
        &platform,
        progress,
    ));
    let (pulled, ()) = tokio::join!(work, drained);
    let image = pulled?.image;

    let cri = cri.clone();
    lite_core::blocking(move || {
        let by_digest = format!("{}@{}", reference.name(), image.target.digest);
        let (core, ns) = (cri.core(), cri.ns());
        core.images
            .put(ns, Image::new(by_digest, image.target.clone()))?;
        let resolved = lite_core::image::resolve(core, ns, &image.target, &platform)?;
        Ok(resolved.config.digest.to_string())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_in_four_forms_and_for_one_registry() {
        let of = |auth: Auth| auth.credentials("r.example");
        let pair = Some(Credentials::password("me", "secret"));
        let typed = Auth {
            username: "me".into(),
            password: "secret".into(),
            ..Auth::default()
        };
        assert_eq!(of(typed.clone()).unwrap(), pair);
        let coded = Auth {
            auth: "bWU6c2VjcmV0".into(),
            ..Auth::default()
        };
        assert_eq!(of(coded).unwrap(), pair);
        let elsewhere = Auth {
            server: "https://other.example/v1/".into(),
            ..typed.clone()
        };
        assert_eq!(of(elsewhere).unwrap(), None);
        let here = Auth {
            server: "https://r.example".into(),
            ..typed
        };
        assert_eq!(of(here).unwrap(), pair);
        let token = Auth {
            registry_token: "t".into(),
            ..Auth::default()
        };
        assert_eq!(
            of(token).unwrap(),
            Some(Credentials::Bearer { token: "t".into() })
        );
        let broken = Auth {
            auth: "???".into(),
            ..Auth::default()
        };
        assert_eq!(of(broken).unwrap_err().kind(), Kind::InvalidArgument);
        assert_eq!(of(Auth::default()).unwrap(), None);
    }

    #[test]
    fn dockers_own_registry_goes_by_several_names() {
        assert_eq!(host_of("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(host_of("localhost:5000"), "localhost:5000");
    }
}
