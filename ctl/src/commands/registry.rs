//! Registries: login, logout, search, push.

use std::io::{BufRead, IsTerminal, Read, stdin};

use proto::engine::v1::{
    LoginRequest, PushImageRequest, RegistryAuth, SearchImagesRequest, push_image_response,
};
use serde_json::json;

use super::DONE;
use crate::cli::registry::{LoginArgs, LogoutArgs, PushArgs, SearchArgs};
use crate::client::Engine;
use crate::credentials::{self, DEFAULT_DOMAIN, DockerConfig, HUB_KEY, Kept};
use crate::failure::Failure;
use crate::out;
use crate::parse::has_default_tag;
use crate::render::clean::clean;
use crate::render::format::{self, Columns};
use crate::render::names::ellipsis;
use crate::render::progress::Board;
use crate::session::{self, Silent};

/// `ctl push`: the last line is what the tag is now; with `-q` the only one is
/// the reference.
pub(crate) async fn push(client: &mut Engine, args: &PushArgs) -> Result<u8, Failure> {
    if !args.quiet && !args.all_tags && has_default_tag(&args.reference) {
        out::line("Using default tag: latest")?;
    }
    let request = PushImageRequest {
        reference: args.reference.clone(),
        all_tags: args.all_tags,
        platform: args.platform.clone().unwrap_or_default(),
        auth: credentials::of_reference(&args.reference)?,
    };
    let mut board = Board::new(session::columns(false));
    let mut messages = client.push_image(request).await?.into_inner();
    let mut pushed = false;
    while let Some(message) = messages.message().await? {
        match message.message {
            Some(push_image_response::Message::Progress(progress)) if !args.quiet => {
                out::text(&board.update(&progress))?;
            }
            Some(push_image_response::Message::Done(done)) => {
                pushed = true;
                out::line(&told(args.quiet, &done))?;
            }
            Some(push_image_response::Message::Progress(_)) | None => {}
        }
    }
    match pushed {
        true => Ok(DONE),
        false => Err(Failure::Setup(
            "the daemon ended the push without a result".to_owned(),
        )),
    }
}

fn told(quiet: bool, done: &push_image_response::Done) -> String {
    if quiet {
        return done.reference.clone();
    }
    let last = done.reference.rsplit('/').next().unwrap_or_default();
    let tag = match (last.split_once('@'), last.split_once(':')) {
        (None, Some((_, tag))) => tag,
        _ => &done.digest,
    };
    format!("{tag}: digest: {} size: {}", done.digest, done.size_bytes)
}

/// `ctl login`: keeps what the registry takes.
pub(crate) async fn login(client: &mut Engine, args: &LoginArgs) -> Result<u8, Failure> {
    let server = args.server.clone().unwrap_or_default();
    let mut config = DockerConfig::of_user()?;
    let known = match (&args.username, &args.password, args.password_stdin) {
        (None, None, false) => config.credentials(server_domain(&server))?,
        _ => None,
    };
    if let Some(known) = known {
        out::line("Authenticating with existing credentials...")?;
        let request = LoginRequest {
            server: server.clone(),
            auth: Some(known),
        };
        match client.login(request).await.map_err(Failure::from) {
            Ok(_) => return succeeded(),
            Err(failure) => {
                out::report(&failure);
                out::complain("Login did not succeed\n");
            }
        }
    }
    let auth = asked_for(args)?;
    let request = LoginRequest {
        server,
        auth: Some(auth),
    };
    let answer = client.login(request).await?.into_inner();
    let keep = answer.keep.unwrap_or_default();
    config.adopt_helper();
    match config.store(&answer.domain, &keep, args.plain_text)? {
        Kept::ByHelper => succeeded(),
        Kept::InTheFile => {
            out::complain(&format!(
                "WARNING! Your credentials are stored unencrypted in '{}'.\n",
                clean(&config.file().display().to_string())
            ));
            succeeded()
        }
        Kept::Nowhere => Err(Failure::Client(format!(
            "the credentials for {} are good, but nothing is there to keep them safe, so they were not kept: install docker-credential-pass or docker-credential-secretservice and name it in {} (\"credsStore\": \"pass\"), or use --plain-text to keep them readable in that file",
            answer.domain,
            config.file().display()
        ))),
    }
}

fn succeeded() -> Result<u8, Failure> {
    out::line("Login Succeeded")?;
    Ok(DONE)
}

/// What the user typed, or types now.
fn asked_for(args: &LoginArgs) -> Result<RegistryAuth, Failure> {
    let typed = |text: &str| Failure::Client(text.to_owned());
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if args.password.is_some() && args.password_stdin {
        return Err(typed(
            "--password and --password-stdin are mutually exclusive",
        ));
    }
    if args.password.is_some() {
        out::complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
    }
    if args.password_stdin && given(&args.username).is_none() {
        return Err(typed("Must provide --username with --password-stdin"));
    }
    let interactive = || match stdin().is_terminal() {
        true => Ok(()),
        false => Err(typed(
            "Cannot perform an interactive login from a non TTY device: use --username and --password-stdin",
        )),
    };
    let username = match given(&args.username) {
        Some(username) => username,
        None => {
            interactive()?;
            question("Username: ")?
        }
    };
    let password = match given(&args.password) {
        Some(password) => password,
        None if args.password_stdin => {
            let mut text = String::new();
            stdin()
                .read_to_string(&mut text)
                .map_err(|err| Failure::io("read the password from standard input", &err))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => {
            interactive()?;
            let _silent = Silent::set();
            let password = question("Password: ")?;
            out::text("\n")?;
            password
        }
    };
    if username.is_empty() || password.is_empty() {
        return Err(typed("username and password are needed"));
    }
    Ok(RegistryAuth {
        username,
        password,
        ..RegistryAuth::default()
    })
}

fn question(text: &str) -> Result<String, Failure> {
    out::text(text)?;
    let mut answer = String::new();
    stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|err| Failure::io("read the answer", &err))?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}

/// The registry that a server's address means.
fn server_domain(server: &str) -> &str {
    let bare = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    match bare.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN,
        host => host,
    }
}

/// `ctl logout`: forgets what is kept. Needs no daemon.
pub(crate) fn logout(args: &LogoutArgs) -> Result<u8, Failure> {
    let domain = server_domain(args.server.as_deref().unwrap_or_default());
    let shown = if domain == DEFAULT_DOMAIN {
        HUB_KEY
    } else {
        domain
    };
    out::line(&format!("Removing login credentials for {shown}"))?;
    DockerConfig::of_user()?.erase(domain)?;
    Ok(DONE)
}

const COLUMNS: Columns = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

/// Columns of a shortened description.
const SHORT: usize = 45;

/// `ctl search`.
pub(crate) async fn search(client: &mut Engine, args: &SearchArgs) -> Result<u8, Failure> {
    let request = SearchImagesRequest {
        term: args.term.clone(),
        limit: args.limit.unwrap_or_default(),
        filters: args.filter.clone(),
        auth: credentials::of_reference(&args.term)?,
    };
    let hits = client.search_images(request).await?.into_inner().hits;
    let rows: Vec<_> = hits
        .iter()
        .map(|hit| {
            let description = hit.description.replace(['\n', '\r'], " ");
            json!({
                "Name": hit.name,
                "Description": match args.no_trunc {
                    true => description,
                    false => ellipsis(&description, SHORT),
                },
                "StarCount": hit.stars.to_string(),
                "IsOfficial": if hit.official { "[OK]" } else { "" },
                "IsAutomated": "",
            })
        })
        .collect();
    let shown = ["Name", "Description", "StarCount", "IsOfficial"];
    out::text(&format::rows(
        args.format.as_deref(),
        COLUMNS,
        &shown,
        &rows,
    )?)?;
    Ok(DONE)
}
