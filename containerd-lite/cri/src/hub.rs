//! What all use cases share: the stores, and whose everything is.

use lite_core::{Core, Namespace, Result};

/// The tenant of everything that Kubernetes makes; containerd's own name for
/// it, so that its clients look in the right place.
const NAMESPACE: &str = "k8s.io";

/// Whether something that a kubelet asks for is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Kubernetes' word for it.
    pub name: &'static str,
    /// One word and a sentence, where it is not.
    pub fault: Option<(&'static str, String)>,
}

/// Kubernetes' view of a core. Clones share everything.
#[derive(Clone)]
pub struct Cri {
    core: Core,
    ns: Namespace,
}

impl Cri {
    /// Opens it over `core`.
    ///
    /// # Errors
    /// None but those of the name of its tenant, which is a good one.
    pub fn open(core: Core) -> Result<Self> {
        Ok(Self {
            core,
            ns: Namespace::parse(NAMESPACE)?,
        })
    }

    /// Whether pods can be run, and whether they get a network.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        ["RuntimeReady", "NetworkReady"]
            .map(|name| Condition { name, fault: None })
            .into()
    }

    /// The settings, for people.
    #[must_use]
    pub fn about(&self) -> serde_json::Value {
        let config = &self.core.config;
        serde_json::json!({
            "root": config.root,
            "state": config.state,
            "namespace": self.ns.as_str(),
        })
    }

    /// The stores.
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// The tenant that all pods, containers and images belong to.
    pub(crate) fn ns(&self) -> &Namespace {
        &self.ns
    }
}
