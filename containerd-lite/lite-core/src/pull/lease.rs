//! A lease for the time of a transfer.
//!
//! Most transfers start over when they are interrupted: their lease ends with
//! them, at the latest when the stores are opened again. A pull goes on where it
//! was, so what an interrupted one has brought stays for the next pull of the
//! same name, which takes the lease over. It ends when such a pull comes to its
//! end, when the image is removed, or after [`LONGEST_TRANSFER`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::blocking::blocking;
use crate::core::Core;
use crate::error::Result;
use crate::gc;
use crate::labels::Labels;
use crate::leases::Leases;
use crate::namespace::Namespace;
use crate::time::to_rfc3339;

/// After this time what a transfer brought may go, whatever became of it.
const LONGEST_TRANSFER: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps what a transfer has brought from collection. Ends when it is dropped
/// or, with errors told, by [`TransferLease::end`].
#[derive(Debug)]
pub struct TransferLease {
    held: Option<Held>,
    id: String,
}

struct Held {
    leases: Leases,
    ns: Namespace,
    /// What of, if what it has brought is to stay when it is interrupted.
    resumes: Option<String>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("ns", &self.ns)
            .field("resumes", &self.resumes)
            .finish_non_exhaustive()
    }
}

impl TransferLease {
    /// Makes a lease whose id begins with `purpose`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take(core: &Core, ns: &Namespace, purpose: &str) -> Result<Self> {
        Self::hold(core, ns, purpose, None).await
    }

    /// Makes a lease for a pull of `image`, or takes over the one that an
    /// interrupted pull of it has left.
    pub(super) async fn of_pull(core: &Core, ns: &Namespace, image: String) -> Result<Self> {
        Self::hold(core, ns, "pull", Some(image)).await
    }

    async fn hold(
        core: &Core,
        ns: &Namespace,
        purpose: &str,
        resumes: Option<String>,
    ) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = format!(
            "{purpose}-{}-{}-{}",
            std::process::id(),
            since.as_nanos(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let held = Held {
            leases: core.leases.clone(),
            ns: ns.clone(),
            resumes: resumes.clone(),
        };
        // The guard first: should the caller go away in between, it still ends
        // the lease.
        let mut lease = Self {
            held: Some(held),
            id: id.clone(),
        };
        let expiry = to_rfc3339(now + LONGEST_TRANSFER);
        let (leases, ns) = (core.leases.clone(), ns.clone());
        lease.id = blocking(move || match resumes {
            Some(image) => leases.begin_pull(&ns, &id, &image, &expiry),
            None => {
                let labels = Labels::from([
                    (gc::EXPIRE.to_owned(), expiry),
                    (gc::OF_PROCESS.to_owned(), "transfer".to_owned()),
                ]);
                leases.create(&ns, &id, &labels).map(|_| id)
            }
        })
        .await?;
        Ok(lease)
    }

    /// Its id, for the stores.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Ends the lease; from then on what nothing else holds may be collected.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end(mut self) -> Result<()> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let id = std::mem::take(&mut self.id);
        blocking(move || held.end(&id)).await
    }
}

impl Held {
    fn end(self, id: &str) -> Result<()> {
        self.leases.delete(&self.ns, id)?;
        match &self.resumes {
            Some(image) => self.leases.end_interrupted(&self.ns, image),
            None => Ok(()),
        }
    }

    /// The transfer went away before it came to an end.
    fn interrupt(self, id: &str) -> Result<()> {
        match &self.resumes {
            Some(_) => self.leases.interrupt(&self.ns, id),
            None => self.leases.delete(&self.ns, id),
        }
    }
}

impl Drop for TransferLease {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        let id = std::mem::take(&mut self.id);
        let end = move || {
            // One that could not be ended expires.
            if let Err(err) = held.interrupt(&id) {
                tracing::debug!(lease = id, error = %crate::error::chain(&err), "transfer lease not ended");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}
