//! Sends a signal to a container's main process.

use lite_core::{Error, Kind, Result};

use crate::engine::Engine;
use crate::events::Event;
use crate::signals::Signal;
use crate::state::Phase;

/// Sends `signal`, or KILL where it is empty. After KILL the container has
/// ended when this returns, as scripts rely on with Docker.
///
/// # Errors
/// NotFound; InvalidArgument for the signal; FailedPrecondition when the
/// container does not run.
pub async fn kill(engine: &Engine, container: &str, signal: &str) -> Result<()> {
    let signal = match signal {
        "" => Signal::KILL,
        typed => {
            Signal::parse(typed).map_err(|err| Kind::InvalidArgument.error(err.to_string()))?
        }
    };
    let handle = engine.find(container)?;
    let record = handle.record();
    if record.phase != Phase::Running {
        return Err(not_running(container, &record.id));
    }
    let own = record
        .config
        .stop_signal
        .as_deref()
        .and_then(|text| Signal::parse(text).ok());
    if signal == Signal::KILL || signal == own.unwrap_or(Signal::TERM) {
        handle.change(|record| record.run.stopped = true).await?;
    }
    match engine
        .core()
        .tasks
        .kill(engine.ns(), &record.id, None, signal.number(), false)
        .await
    {
        Err(err) if err.kind() == Kind::NotFound => return Err(not_running(container, &record.id)),
        outcome => outcome?,
    }
    engine.emit(Event::of_container(&record, "kill").with("signal", signal.number()));
    if signal == Signal::KILL {
        handle.not_running().await;
    }
    Ok(())
}

fn not_running(typed: &str, id: &str) -> Error {
    Kind::FailedPrecondition.error(format!(
        "cannot kill container: {typed}: container {id} is not running"
    ))
}
