//! Keeps the firewall's table in place: whoever flushes all rules of the host
//! takes ours along, and with them the published ports.

use std::time::Duration;

use lite_core::chain;
use network::deletions::Deletions;

use crate::engine::Engine;

/// How long whoever changes the rules may take for the rest of it.
const SETTLING: Duration = Duration::from_millis(200);

/// Watches for deletions as long as the daemon runs.
pub(crate) fn guard(engine: &Engine) {
    let deletions = match Deletions::open() {
        Ok(deletions) => deletions,
        Err(err) => {
            tracing::warn!(error = %err, "changes of the firewall are not watched");
            return;
        }
    };
    let engine = engine.clone();
    tokio::spawn(async move {
        while deletions.next().await.is_ok() {
            tokio::time::sleep(SETTLING).await;
            let engine = engine.clone();
            let restored =
                lite_core::blocking(move || engine.fabric().state().restore_firewall()).await;
            match restored {
                Ok(true) => tracing::info!("the firewall's rules were deleted: restored"),
                Ok(false) => {}
                Err(err) => {
                    tracing::warn!(error = %chain(&err), "restore the firewall's rules");
                }
            }
        }
    });
}
