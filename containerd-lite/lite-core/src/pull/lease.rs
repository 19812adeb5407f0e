//! A lease for the time of a transfer.

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

/// A transfer that the daemon did not survive is over after this time at the
/// latest, and what it brought may go.
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
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("ns", &self.ns)
            .finish_non_exhaustive()
    }
}

impl TransferLease {
    /// Makes a lease whose id begins with `purpose`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take(core: &Core, ns: &Namespace, purpose: &str) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = format!(
            "{purpose}-{}-{}-{}",
            std::process::id(),
            since.as_nanos(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let labels = Labels::from([(gc::EXPIRE.to_owned(), to_rfc3339(now + LONGEST_TRANSFER))]);
        let held = Held {
            leases: core.leases.clone(),
            ns: ns.clone(),
        };
        // The guard first: should the caller go away in between, it still ends
        // the lease.
        let lease = Self {
            held: Some(held),
            id: id.clone(),
        };
        let (leases, ns) = (core.leases.clone(), ns.clone());
        blocking(move || leases.create(&ns, &id, &labels)).await?;
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
        let Some(Held { leases, ns }) = self.held.take() else {
            return Ok(());
        };
        let id = self.id.clone();
        blocking(move || leases.delete(&ns, &id)).await
    }
}

impl Drop for TransferLease {
    fn drop(&mut self) {
        let Some(Held { leases, ns }) = self.held.take() else {
            return;
        };
        let id = std::mem::take(&mut self.id);
        let end = move || {
            // One that could not be ended expires.
            if let Err(err) = leases.delete(&ns, &id) {
                tracing::debug!(lease = id, error = %crate::error::chain(&err), "transfer lease not ended");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}
