//! Where a client finds the streams of a command, of a container, or of ports:
//! URLs of the streaming server, and what happens when one is opened.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lite_core::ids::Id;
use lite_core::session::{Endpoint, Output, Reader, Session, Writer};
use lite_core::{Because, Kind, Result, chain};
use network::netns;
use streaming::forward::Dial;
pub use streaming::remote::Wanted;
use streaming::remote::{Run, Streams};
use streaming::status::Ended;
use tokio::sync::mpsc;

use crate::containers::process;
use crate::hub::{Cri, absent_is_fine};
use crate::namespaces::Place;
use crate::record::{ContainerRecord, ContainerState, PodState};

/// How long a port of a pod may take to answer.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// The URL at which `args` are run in the container `id`.
///
/// # Errors
/// NotFound; FailedPrecondition unless it runs; InvalidArgument without a
/// command or without any stream; ResourceExhausted when too many URLs wait;
/// those of listening.
pub async fn exec(cri: &Cri, id: &str, args: Vec<String>, wanted: Wanted) -> Result<String> {
    let record = running(cri, id)?;
    check(wanted)?;
    if args.is_empty() {
        return Err(Kind::InvalidArgument.error("exec: no command specified"));
    }
    let cri_of_run = cri.clone();
    let run: Run = Box::new(move |streams| {
        Box::pin(async move {
            let outcome = run_exec(&cri_of_run, &record, &args, wanted, streams).await;
            outcome.unwrap_or_else(|err| Ended::Failed(chain(&err)))
        })
    });
    issued(cri.streaming().await?.exec(wanted, run))
}

/// The URL at which a client is attached to the container `id`.
///
/// # Errors
/// As [`exec`].
pub async fn attach(cri: &Cri, id: &str, wanted: Wanted) -> Result<String> {
    let record = running(cri, id)?;
    check(wanted)?;
    let cri_of_run = cri.clone();
    let run: Run = Box::new(move |streams| {
        Box::pin(async move {
            let outcome = run_attach(&cri_of_run, &record, streams).await;
            outcome.unwrap_or_else(|err| Ended::Failed(chain(&err)))
        })
    });
    issued(cri.streaming().await?.attach(wanted, run))
}

/// The URL at which a client reaches ports of the pod `id`.
///
/// # Errors
/// NotFound; FailedPrecondition unless it is ready; InvalidArgument for a port
/// that is none; ResourceExhausted.
pub async fn port_forward(cri: &Cri, id: &str, ports: &[i32]) -> Result<String> {
    let pod = cri.pod(id)?;
    if pod.state != PodState::Ready {
        return Err(Kind::FailedPrecondition.error(format!("pod sandbox {} is not ready", pod.id)));
    }
    let number = |port: &i32| {
        let good = u16::try_from(*port).ok().filter(|port| *port != 0);
        good.ok_or_else(|| Kind::InvalidArgument.error(format!("port {port}: expected 1 to 65535")))
    };
    let ports = ports.iter().map(number).collect::<Result<_>>()?;
    let net = (!pod.on_host_network()).then(|| Place::at(cri.pod_dir(&pod.id)).namespace("net"));
    let dial: Dial = Arc::new(move |port| {
        let net = net.clone();
        Box::pin(async move {
            let dialled = tokio::task::spawn_blocking(move || dial(net, port)).await;
            let stream = dialled.map_err(io::Error::other)??;
            stream.set_nonblocking(true)?;
            tokio::net::TcpStream::from_std(stream)
        })
    });
    issued(cri.streaming().await?.port_forward(ports, dial))
}

/// Connects to a port of the loopback interface in a namespace, or in ours.
fn dial(net: Option<PathBuf>, port: u16) -> io::Result<std::net::TcpStream> {
    let connect = move || {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        // The first error is the one to tell.
        std::net::TcpStream::connect_timeout(&v4, DIAL_TIME)
            .or_else(|err| std::net::TcpStream::connect_timeout(&v6, DIAL_TIME).map_err(|_| err))
    };
    match net {
        None => connect(),
        Some(path) => netns::inside(netns::open(&path)?.as_fd(), connect),
    }
}

fn issued(url: std::result::Result<String, streaming::TooMany>) -> Result<String> {
    url.map_err(|err| Kind::ResourceExhausted.error("make a URL").because(err))
}

fn check(wanted: Wanted) -> Result<()> {
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Kind::InvalidArgument.error("one of stdin, stdout and stderr must be wanted"));
    }
    if wanted.terminal && wanted.stderr {
        return Err(Kind::InvalidArgument.error("with a terminal there is no stderr of its own"));
    }
    Ok(())
}

fn running(cri: &Cri, id: &str) -> Result<Arc<ContainerRecord>> {
    let record = cri.container(id)?;
    if record.state == ContainerState::Running {
        return Ok(record);
    }
    Err(Kind::FailedPrecondition.error(format!("container {} is not running", record.id)))
}

async fn run_exec(
    cri: &Cri,
    record: &Arc<ContainerRecord>,
    args: &[String],
    wanted: Wanted,
    streams: Streams,
) -> Result<Ended> {
    let exec = Id::generate().op(|| "make an id".to_owned())?;
    let exec = exec.as_str();
    let spec = {
        let (cri, record, args) = (cri.clone(), Arc::clone(record), args.to_vec());
        lite_core::blocking(move || process(&cri, &record, &args, wanted.terminal)).await?
    };
    let endpoint = Endpoint {
        socket: cri.session_socket(exec),
        log: None,
        stdin: wanted.stdin.then_some(true),
    };
    let (tasks, ns, id) = (&cri.core().tasks, cri.ns(), record.id.as_str());
    tasks
        .exec(ns, id, exec, endpoint.streams(wanted.terminal), spec)
        .await?;
    let done = async {
        let (reader, writer) = Session::connect(&endpoint.socket).await?.split();
        tasks.start(ns, id, Some(exec)).await?;
        let target = Target {
            cri,
            container: id,
            exec: Some(exec),
            closes_input: true,
        };
        target.pump(reader, writer, streams).await?;
        let exit = tasks.wait(ns, id, Some(exec)).await?;
        Ok(Ended::Exited(i32::try_from(exit.code).unwrap_or(i32::MAX)))
    };
    let done = done.await;
    let deleted = tasks.delete_process(ns, id, exec).await;
    if let Err(err) = absent_is_fine(deleted.map(drop)) {
        tracing::warn!(container = id, exec, error = %chain(&err), "delete exec");
    }
    done
}

async fn run_attach(cri: &Cri, record: &ContainerRecord, streams: Streams) -> Result<Ended> {
    let socket = cri.session_socket(&record.id);
    let (reader, writer) = Session::connect(&socket).await?.split();
    let target = Target {
        cri,
        container: &record.id,
        exec: None,
        closes_input: record.config.stdin_once,
    };
    target.pump(reader, writer, streams).await?;
    Ok(Ended::Detached)
}

/// Whose streams they are.
struct Target<'a> {
    cri: &'a Cri,
    container: &'a str,
    exec: Option<&'a str>,
    /// The end of the client's input is that of the process's.
    closes_input: bool,
}

impl Target<'_> {
    /// Streams both ways until the output is finished or the client has left.
    async fn pump(&self, reader: Reader, writer: Writer, streams: Streams) -> Result<()> {
        let Streams {
            stdin,
            stdout,
            stderr,
            sizes,
            mut left,
        } = streams;
        tokio::select! {
            finished = output(reader, stdout, stderr) => finished,
            () = self.input(writer, stdin) => Ok(()),
            () = self.sizes(sizes) => Ok(()),
            () = left.wait() => Ok(()),
        }
    }

    /// Never ends: when the client sends nothing more, the writer stays open, as
    /// its end would be a detach.
    async fn input(&self, mut writer: Writer, stdin: Option<mpsc::Receiver<bytes::Bytes>>) {
        if let Some(mut stdin) = stdin {
            while let Some(bytes) = stdin.recv().await {
                // A process that ends meanwhile is told by the output's end.
                let _ = writer.stdin(&bytes).await;
            }
            if self.closes_input {
                let _ = writer.close_stdin().await;
            }
        }
        std::future::pending::<()>().await;
        drop(writer);
    }

    /// Never ends either.
    async fn sizes(&self, sizes: Option<mpsc::Receiver<streaming::remote::Size>>) {
        if let Some(mut sizes) = sizes {
            let (tasks, ns) = (&self.cri.core().tasks, self.cri.ns());
            while let Some(size) = sizes.recv().await {
                let (width, height) = (size.columns.into(), size.rows.into());
                let resized = tasks.resize(ns, self.container, self.exec, width, height);
                if let Err(err) = resized.await {
                    tracing::debug!(container = self.container, error = %chain(&err), "resize");
                }
            }
        }
        std::future::pending().await
    }
}

/// Passes output on; what the client does not want is dropped.
async fn output(
    mut reader: Reader,
    stdout: Option<mpsc::Sender<bytes::Bytes>>,
    stderr: Option<mpsc::Sender<bytes::Bytes>>,
) -> Result<()> {
    while let Some(part) = reader.next().await? {
        let (to, bytes) = match part {
            Output::Stdout(bytes) => (&stdout, bytes),
            Output::Stderr(bytes) => (&stderr, bytes),
        };
        if let Some(to) = to {
            // A client that has left is told of elsewhere.
            let _ = to.send(bytes).await;
        }
    }
    Ok(())
}
