//! The shim itself: serves the Task service until it is told to shut down.
//!
//! 1. It becomes a subreaper and listens for SIGCHLD before anything forks.
//! 2. The listening socket came as standard input, from `start`.
//! 3. Requests, events and exits are handled on this one thread.
//! 4. After Shutdown, with no container left, events are flushed, the socket
//!    goes and the process ends.
//!
//! SIGTERM and SIGINT end a shim without containers; one with containers
//! stays, because they could not be told of.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::LocalSet;

use crate::address;
use crate::args::Args;
use crate::events::Publisher;
use crate::failure::{Failure, Result, warn};
use crate::reaper::Reaper;
use crate::rest::{Due, Rest};
use crate::sandbox::Sandbox;
use crate::service;
use crate::signals::{Signal, Signals};
use crate::task::Shim;

/// How long the last events may take to reach a daemon.
const FLUSH: Duration = Duration::from_secs(3);

/// How many events are taken from the kernel at once; a thousand, as is usual,
/// need three pages.
const EVENTS: usize = 64;

/// Time for the answer to Shutdown to leave.
const LAST_ANSWER: Duration = Duration::from_millis(10);

/// Serves until shutdown.
pub(crate) fn serve(args: &Args) -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|err| Failure::because("become a subreaper", &err))?;
    let due = Due::default();
    let runtime = {
        let due = due.clone();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_io_events_per_tick(EVENTS)
            .on_thread_park(move || due.before_sleep())
            .build()
            .map_err(|err| Failure::because("start the event loop", &err))?
    };
    LocalSet::new()
        .block_on(&runtime, run(args, due))
        .map_err(|err| Failure::because("serve", &err))
}

async fn run(args: &Args, due: Due) -> io::Result<()> {
    let signals = Signals::listen()?;
    let (listener, socket) = listener(args)?;
    let socket_dir = socket.parent().unwrap_or(Path::new("/run")).to_owned();
    let reaper = Rc::new(Reaper::default());
    let daemon = std::env::var_os("TTRPC_ADDRESS")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let publisher = Rc::new(Publisher::new(args.namespace.clone(), daemon));
    let shim = Shim::new(
        args.namespace.clone(),
        socket_dir,
        Rc::clone(&reaper),
        Rc::clone(&publisher),
        Rest::new(due),
    );
    {
        let publisher = Rc::clone(&publisher);
        tokio::task::spawn_local(async move { publisher.run().await });
    }
    {
        let shim = Rc::clone(&shim);
        tokio::task::spawn_local(async move { shim.rest.run().await });
    }
    let server = {
        let shim = Rc::clone(&shim);
        let sandbox = Sandbox::new(Rc::clone(&shim));
        ttrpc_wire::serve(listener, move |request| {
            let (shim, sandbox) = (Rc::clone(&shim), Rc::clone(&sandbox));
            async move {
                let answer = service::answer(Rc::clone(&shim), sandbox, request).await;
                shim.rest.put_off();
                answer
            }
        })
    };
    let signalled = async {
        loop {
            match signals.next().await {
                Ok(Signal::Child) => reaper.reap(),
                Ok(Signal::Terminate) => shim.shut_down(),
                Err(err) => return Err(err),
            }
        }
    };
    // Requests are answered until the end: the socket goes before the
    // connections do, so that who sees them close finds nothing left.
    let ending = async {
        shim.ended.notified().await;
        tokio::time::sleep(LAST_ANSWER).await;
        if tokio::time::timeout(FLUSH, publisher.flushed())
            .await
            .is_err()
        {
            warn(
                "shut down with events that nobody took",
                &io::Error::from(io::ErrorKind::TimedOut),
            );
        }
        address::remove(&socket)
    };
    tokio::select! {
        ended = server => ended,
        ended = ending => ended,
        ended = signalled => ended,
    }
}

/// The socket that came as standard input, and its path. Standard input is
/// /dev/null from then on, so that no child inherits the socket.
fn listener(args: &Args) -> io::Result<(UnixListener, PathBuf)> {
    // Not std's standard input, which keeps a buffer of two pages.
    let inherited = rustix::stdio::stdin().try_clone_to_owned()?;
    let listener = std::os::unix::net::UnixListener::from(inherited);
    let path = listener
        .local_addr()
        .ok()
        .and_then(|address| address.as_pathname().map(Path::to_owned));
    let (listener, path) = match path {
        Some(path) => (listener, path),
        // Started by hand: listen where `start` would have.
        None if !args.socket.as_os_str().is_empty() => match address::listen(&args.socket)? {
            address::Listening::New(listener) => (listener, args.socket.clone()),
            address::Listening::Taken => return Err(io::ErrorKind::AddrInUse.into()),
        },
        None => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "standard input is no listening socket and no -socket was given",
            ));
        }
    };
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, path))
}
