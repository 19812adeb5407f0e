//! `ctl cp`: files between here and a container, by Docker's rules: what ends in
//! a slash is a directory, `DIR/.` means what is in it, `-` is a tar.
//!
//! 1. [`Side::parse`] tells a container's path from one of ours.
//! 2. [`landing`] decides, from what is there, in which directory the copy goes
//!    and under which name: a pure function, for both directions.
//! 3. The tar is packed or unpacked here; the daemon does its side.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proto::engine::v1::{
    CopyFromRequest, CopyFromResponse, CopyToRequest, PathStat, StatPathRequest,
    copy_from_response, copy_to_request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::DONE;
use super::archive::{READ_AHEAD, pieces, read_whole};
use crate::cli::files::CpArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::local_tree;
use crate::out;
use crate::render::quantity::size;

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// One end of a copy, as typed.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    /// `-`.
    Pipe,
    Here(&'a str),
    Container(&'a str, &'a str),
}

impl<'a> Side<'a> {
    /// What has a colon is a container's, unless it is plainly a path.
    fn parse(typed: &'a str) -> Self {
        if typed == "-" {
            return Self::Pipe;
        }
        match typed.split_once(':') {
            Some((container, path)) if !typed.starts_with(['/', '.']) => {
                Self::Container(container, path)
            }
            _ => Self::Here(typed),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &CpArgs) -> Result<u8, Failure> {
    let (from, to) = (Side::parse(&args.from), Side::parse(&args.to));
    let told = match (&from, &to) {
        (Side::Container(..), Side::Container(..)) => {
            return Err(Failure::Client(
                "copying between containers is not supported".to_owned(),
            ));
        }
        (Side::Container(container, path), Side::Pipe) => {
            return to_stdout(client, args, container, path).await;
        }
        (Side::Container(container, path), Side::Here(to)) => {
            let bytes = from_container(client, args, container, path, to).await?;
            format!("Successfully copied {} to {to}", size(bytes))
        }
        (Side::Pipe, Side::Container(container, path)) => {
            return from_stdin(client, container, path).await;
        }
        (Side::Here(path), Side::Container(container, to)) => {
            let bytes = to_container(client, args, path, container, to).await?;
            format!("Successfully copied {} to {container}:{to}", size(bytes))
        }
        _ => {
            return Err(Failure::Client(
                "must specify at least one container source".to_owned(),
            ));
        }
    };
    if !args.quiet && stdout().is_terminal() {
        out::complain(&format!("{}\n", crate::render::clean::clean(&told)));
    }
    Ok(DONE)
}

/// What is where a copy begins or should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    Directory,
    Other,
}

/// Into which directory a copy goes, and what its first component is called
/// there; `None` for what is in the source, without the source itself.
#[derive(Debug, PartialEq, Eq)]
struct Landing {
    directory: String,
    name: Option<String>,
}

/// Docker's rules: see `docker cp`. `name` is the source's last part.
fn landing(
    from: &str,
    source: There,
    name: &str,
    to: &str,
    destination: There,
) -> Result<Landing, Failure> {
    let only_contents = from.ends_with("/.") || from == ".";
    match (source, destination) {
        (_, There::Directory) => Ok(Landing {
            directory: to.to_owned(),
            name: (!only_contents && !name.is_empty()).then(|| name.to_owned()),
        }),
        (There::Directory, There::Other) => {
            Err(Failure::Client("cannot copy directory".to_owned()))
        }
        (There::Directory, _) => Ok(beside(to)),
        (_, _) if to.ends_with('/') || to.ends_with("/.") => {
            Err(Failure::Client(match destination {
                There::Other => "not a directory".to_owned(),
                _ => format!("no such directory: {to}"),
            }))
        }
        _ => Ok(beside(to)),
    }
}

/// The directory of `path`, and its last part there.
fn beside(path: &str) -> Landing {
    let path = path.trim_end_matches("/.").trim_end_matches('/');
    let (directory, name) = match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None => (".", path),
    };
    Landing {
        directory: directory.to_owned(),
        name: Some(name.to_owned()),
    }
}

fn is_directory(stat: &PathStat) -> bool {
    stat.mode & 0o170_000 == 0o040_000
}

fn kind_of(stat: &PathStat) -> There {
    match is_directory(stat) {
        true => There::Directory,
        false => There::Other,
    }
}

async fn stat(client: &mut Engine, container: &str, path: &str) -> Result<PathStat, Failure> {
    let request = StatPathRequest {
        container: container.to_owned(),
        path: path.to_owned(),
    };
    Ok(client.stat_path(request).await?.into_inner())
}

async fn copy_from(
    client: &mut Engine,
    container: &str,
    path: &str,
    follow: bool,
) -> Result<(PathStat, Streaming<CopyFromResponse>), Failure> {
    let request = CopyFromRequest {
        container: container.to_owned(),
        path: path.to_owned(),
        follow,
    };
    let mut messages = client.copy_from(request).await?.into_inner();
    match messages.message().await?.and_then(|first| first.message) {
        Some(copy_from_response::Message::About(about)) => Ok((about, messages)),
        _ => Err(Failure::Setup(
            "the daemon does not say what it copies".to_owned(),
        )),
    }
}

fn chunk(message: CopyFromResponse) -> Option<bytes::Bytes> {
    match message.message {
        Some(copy_from_response::Message::Chunk(bytes)) => Some(bytes),
        _ => None,
    }
}

async fn to_stdout(
    client: &mut Engine,
    args: &CpArgs,
    container: &str,
    path: &str,
) -> Result<u8, Failure> {
    if stdout().is_terminal() {
        return Err(Failure::Client(
            "cowardly refusing to write a tar to a terminal: redirect it".to_owned(),
        ));
    }
    let (_, mut messages) = copy_from(client, container, path, args.follow_link).await?;
    while let Some(message) = messages.message().await? {
        if let Some(bytes) = chunk(message) {
            stdout()
                .write_all(&bytes)
                .map_err(|err| Failure::output(&err))?;
        }
    }
    Ok(DONE)
}

async fn from_container(
    client: &mut Engine,
    args: &CpArgs,
    container: &str,
    path: &str,
    to: &str,
) -> Result<i64, Failure> {
    let (about, mut messages) = copy_from(client, container, path, args.follow_link).await?;
    let destination = local_tree::look(to, true)?;
    let there = match &destination {
        None => There::Nothing,
        Some(found) if found.is_dir() => There::Directory,
        Some(_) => There::Other,
    };
    let source = match args.follow_link {
        // A link that was followed is what it leads to, for the rules.
        true => follow(client, container, path).await?,
        false => kind_of(&about),
    };
    let landing = landing(path, source, &about.name, to, there)?;
    let directory = Path::new(&landing.directory);
    if !directory.is_dir() {
        return Err(Failure::Client(format!(
            "no such directory: {}",
            directory.display()
        )));
    }
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let unpacking = local_tree::Unpacking {
        directory: directory.to_owned(),
        first: (!about.name.is_empty()).then(|| about.name.clone()),
        name: landing.name,
        keep_owners: args.archive,
    };
    let unpacker = tokio::task::spawn_blocking(move || unpacking.run(receiver));
    let mut failed = None;
    loop {
        match messages.message().await {
            Ok(None) => break,
            Ok(Some(message)) => {
                let Some(bytes) = chunk(message) else {
                    continue;
                };
                if sender.send(Ok(bytes)).await.is_err() {
                    break;
                }
            }
            Err(status) => {
                let broken = std::io::Error::other("the daemon broke off");
                let _ended = sender.send(Err(broken)).await;
                failed = Some(Failure::from(status));
                break;
            }
        }
    }
    drop(sender);
    let unpacked = unpacker.await;
    match (failed, unpacked) {
        (Some(failure), _) => Err(failure),
        (None, Ok(Ok(bytes))) => Ok(bytes),
        (None, Ok(Err(err))) => Err(Failure::io(format!("write {to}"), &err)),
        (None, Err(err)) => Err(Failure::Client(format!("write {to}: {err}"))),
    }
}

/// What a path leads to at last.
async fn follow(client: &mut Engine, container: &str, path: &str) -> Result<There, Failure> {
    let mut found = stat(client, container, path).await?;
    for _ in 0..MOST_LINKS {
        if found.link_target.is_empty() {
            return Ok(kind_of(&found));
        }
        let target = found.link_target.clone();
        found = stat(client, container, &target).await?;
    }
    Err(Failure::Client(format!("{path}: too many links")))
}

async fn from_stdin(client: &mut Engine, container: &str, path: &str) -> Result<u8, Failure> {
    let found = resolved(client, container, path).await?;
    match found {
        (path, There::Directory) => {
            send(client, container, &path, "standard input", |message| {
                pieces(stdin(), message)
            })
            .await?;
            Ok(DONE)
        }
        (path, There::Other) => Err(Failure::Client(format!(
            "destination \"{container}:{path}\" must be a directory"
        ))),
        (path, There::Nothing) => Err(Failure::Client(format!(
            "Could not find the file {path} in container {container}"
        ))),
    }
}

async fn to_container(
    client: &mut Engine,
    args: &CpArgs,
    from: &str,
    container: &str,
    to: &str,
) -> Result<i64, Failure> {
    let slashed = from.ends_with('/') || from.ends_with("/.");
    let source = local_tree::look(from, args.follow_link || slashed)?
        .ok_or_else(|| Failure::Client(format!("lstat {from}: no such file or directory")))?;
    if slashed && !source.is_dir() {
        return Err(Failure::Client(format!("{from}: not a directory")));
    }
    let (to, there) = resolved(client, container, to).await?;
    let kind = match source.is_dir() {
        true => There::Directory,
        false => There::Other,
    };
    let name = local_tree::name_of(from)?;
    let landing = landing(from, kind, &name, &to, there)?;
    let packing = local_tree::Packing {
        source: from.into(),
        name: landing.name,
        follow: args.follow_link || slashed,
        keep_owners: args.archive,
    };
    send(client, container, &landing.directory, from, |message| {
        packing.run(message)
    })
    .await
}

/// The path that `path` leads to when links at its end are followed, and what is
/// there. What is not there may be made.
async fn resolved(
    client: &mut Engine,
    container: &str,
    path: &str,
) -> Result<(String, There), Failure> {
    let mut path = match path {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    for _ in 0..MOST_LINKS {
        match stat(client, container, &path).await {
            Ok(found) if found.link_target.is_empty() => return Ok((path, kind_of(&found))),
            Ok(found) => path = found.link_target,
            Err(failure) if failure.is_not_found() => {
                // The container itself may be what is not there.
                stat(client, container, "/").await?;
                return Ok((path, There::Nothing));
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Client(format!("{path}: too many links")))
}

/// Sends a tar that `pack` writes, in its own thread, into a directory; returns
/// how many bytes it has.
async fn send(
    client: &mut Engine,
    container: &str,
    directory: &str,
    name: &str,
    pack: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> bool) -> std::io::Result<()> + Send + 'static,
) -> Result<i64, Failure> {
    use copy_to_request::{Message, Target};
    let target = Target {
        container: container.to_owned(),
        path: directory.to_owned(),
    };
    let (messages, receiver) = mpsc::channel(READ_AHEAD);
    let total = Arc::new(AtomicI64::new(0));
    let sent = Arc::clone(&total);
    let packer = tokio::task::spawn_blocking(move || {
        let send = |message| {
            let message = CopyToRequest {
                message: Some(message),
            };
            messages.blocking_send(message).is_ok()
        };
        if !send(Message::Target(target)) {
            return Ok(());
        }
        pack(&mut |bytes| {
            sent.fetch_add(i64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
            send(Message::Chunk(bytes.into()))
        })
    });
    let answer = client.copy_to(ReceiverStream::new(receiver)).await;
    read_whole(packer, name).await?;
    answer?;
    Ok(total.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_containers_path_unless_it_is_plainly_ours() {
        for (typed, want) in [
            ("-", Side::Pipe),
            ("c1:/a:b", Side::Container("c1", "/a:b")),
            ("c1:", Side::Container("c1", "")),
            ("/a:b", Side::Here("/a:b")),
            ("./c1:/a", Side::Here("./c1:/a")),
            ("file", Side::Here("file")),
        ] {
            assert_eq!(Side::parse(typed), want, "{typed}");
        }
    }

    #[test]
    fn where_a_copy_lands_follows_dockers_table() {
        use There::{Directory, Nothing, Other};
        let check = |from: &str, source, to: &str, there, want: Option<(&str, Option<&str>)>| {
            let got = landing(from, source, "src", to, there).ok();
            let got = got
                .as_ref()
                .map(|l| (l.directory.as_str(), l.name.as_deref()));
            assert_eq!(got, want, "{from} {source:?} -> {to} {there:?}");
        };
        // A file: to a new name, into a directory, over a file.
        check("src", Other, "/a/new", Nothing, Some(("/a", Some("new"))));
        check("src", Other, "/a/new/", Nothing, None);
        check("src", Other, "/a", Directory, Some(("/a", Some("src"))));
        check("src", Other, "/a/", Directory, Some(("/a/", Some("src"))));
        check("src", Other, "/a", Other, Some(("/", Some("a"))));
        check("src", Other, "/a/", Other, None);
        // A directory: as a new one, into one, its contents alone, never over a file.
        check(
            "src",
            Directory,
            "/a/new",
            Nothing,
            Some(("/a", Some("new"))),
        );
        check("src", Directory, "new/", Nothing, Some((".", Some("new"))));
        check("src", Directory, "/a", Directory, Some(("/a", Some("src"))));
        check("src/.", Directory, "/a", Directory, Some(("/a", None)));
        check(
            "src/.",
            Directory,
            "/new",
            Nothing,
            Some(("/", Some("new"))),
        );
        check("src", Directory, "/a", Other, None);
    }
}
