//! Stops a container: its stop signal, and KILL when it takes too long.

use std::time::Duration;

use lite_core::{Kind, Result};

use crate::engine::Engine;
use crate::events::Event;
use crate::record::{Config, Record};
use crate::signals::Signal;
use crate::state::Phase;
use crate::supervisor::Handle;

/// How long a container gets that says nothing else, in seconds.
const DEFAULT_GRACE_S: i32 = 10;

/// Stops the container and returns when it has ended; one that does not run
/// is fine. `timeout_s` goes over the container's own, negative means wait for
/// ever; `signal` too, and is not given when empty. Goes on to its end when
/// the caller stops waiting.
///
/// # Errors
/// NotFound; InvalidArgument for the signal; what the runtime says.
pub async fn stop(
    engine: &Engine,
    container: &str,
    timeout_s: Option<i32>,
    signal: &str,
) -> Result<()> {
    let handle = engine.find(container)?;
    let record = handle.record();
    if record.phase != Phase::Running && !record.run.restarting {
        return Ok(());
    }
    let signal = chosen_signal(signal, &record.config)?;
    let grace = grace(timeout_s, &record.config);
    let engine = engine.clone();
    let work = tokio::spawn(async move { end(&engine, &handle, &record, signal, grace).await });
    work.await
        .map_err(|join| Kind::Internal.error("stop container").because(join))?
}

async fn end(
    engine: &Engine,
    handle: &Handle,
    record: &Record,
    signal: Signal,
    grace: Option<Duration>,
) -> Result<()> {
    // Before the signal, so that the policy does not start it again.
    handle
        .change(|record| {
            record.run.stopped = true;
            record.run.restarting = false;
        })
        .await?;
    if handle.record().phase != Phase::Running {
        return Ok(());
    }
    if record.run.paused {
        handle.pause(false).await?;
    }
    send(engine, &record.id, signal).await?;
    if let Some(grace) = grace
        && tokio::time::timeout(grace, handle.not_running())
            .await
            .is_err()
    {
        send(engine, &record.id, Signal::KILL).await?;
    }
    handle.not_running().await;
    if record.config.auto_remove {
        handle.gone().await;
    }
    engine.emit(Event::of_container(&handle.record(), "stop"));
    Ok(())
}

/// Stops the container as [`stop`] does, and starts it again.
///
/// # Errors
/// Those of [`stop`] and of the start.
pub async fn restart(
    engine: &Engine,
    container: &str,
    timeout_s: Option<i32>,
    signal: &str,
) -> Result<()> {
    let handle = engine.find(container)?;
    let record = handle.record();
    if record.config.auto_remove && record.phase == Phase::Running {
        // It would remove itself between the two.
        handle
            .change(|record| record.config.auto_remove = false)
            .await?;
        let stopped = stop(engine, container, timeout_s, signal).await;
        let kept = handle
            .change(|record| record.config.auto_remove = true)
            .await;
        stopped.and(kept)?;
    } else {
        stop(engine, container, timeout_s, signal).await?;
    }
    handle.start(false, None).await?;
    engine.emit(Event::of_container(&handle.record(), "restart"));
    Ok(())
}

/// A process that has just ended needs no signal any more.
async fn send(engine: &Engine, id: &str, signal: Signal) -> Result<()> {
    match engine
        .core()
        .tasks
        .kill(engine.ns(), id, None, signal.number(), false)
        .await
    {
        Err(err) if err.kind() == Kind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn chosen_signal(typed: &str, config: &Config) -> Result<Signal> {
    if !typed.is_empty() {
        return Signal::parse(typed).map_err(|err| Kind::InvalidArgument.error(err.to_string()));
    }
    // An image may hold nonsense; that must not make its containers unstoppable.
    let own = config
        .stop_signal
        .as_deref()
        .and_then(|text| Signal::parse(text).ok());
    Ok(own.unwrap_or(Signal::TERM))
}

/// `None` means for ever.
fn grace(timeout_s: Option<i32>, config: &Config) -> Option<Duration> {
    let seconds = timeout_s
        .or(config.stop_timeout_s)
        .unwrap_or(DEFAULT_GRACE_S);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_goes_over_the_container_and_it_over_the_default() {
        let mut config = Config::default();
        assert_eq!(grace(None, &config), Some(Duration::from_secs(10)));
        config.stop_timeout_s = Some(-1);
        assert_eq!(grace(None, &config), None);
        assert_eq!(grace(Some(0), &config), Some(Duration::ZERO));

        assert_eq!(chosen_signal("", &config).unwrap(), Signal::TERM);
        config.stop_signal = Some("SIGQUIT".to_owned());
        assert_eq!(chosen_signal("", &config).unwrap().number(), 3);
        assert_eq!(chosen_signal("9", &config).unwrap(), Signal::KILL);
        assert_eq!(
            chosen_signal("nope", &config).unwrap_err().kind(),
            Kind::InvalidArgument
        );
        config.stop_signal = Some("nonsense".to_owned());
        assert_eq!(chosen_signal("", &config).unwrap(), Signal::TERM);
    }
}
