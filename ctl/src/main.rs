//! The docker-like command line client: parses what was typed, sends it to
//! the daemon, renders what comes back.
//!
//! 1. [`cli`] says what may be typed, [`parse`] turns values into types.
//! 2. [`client`] connects to the daemon, starting one if none was named.
//! 3. [`build_source`] is where a build's context comes from, [`build_context`] what the build may see of it.
//! 4. [`credentials`] are where Docker keeps them; a [`local_tree`] is this side
//!    of a copy.
//! 5. [`commands`] has one file for each command; those that stay with a
//!    process hold a [`session`].
//! 6. [`render`] turns answers into text; [`out`] writes it.
//! 7. A [`failure`] becomes one line on stderr and an exit code here.

mod build_context;
mod build_source;
mod cli;
mod client;
mod commands;
mod credentials;
mod failure;
mod local_tree;
mod out;
mod parse;
mod render;
mod session;

use std::process::exit;

use cli::whole::SystemAction;
use cli::{Action, BuilderAction, Cli, ContainerAction, ImageAction};
use commands::{
    archive, attach, build, change, completion, copy, create, each, events, exec, images, inspect,
    load, logs, networks, prune, ps, pull, registry, run, start, system, tag, version, volumes,
    watch,
};
use failure::Failure;
use parse::host::Host;

/// Docker's exit code for `run` when the container could not be run at all.
const RUN_INFRASTRUCTURE: u8 = 125;

fn main() {
    let argv: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(failure) = client::launch(&argv) {
        out::report(&failure);
        exit(failure.exit_code(1).into());
    }
    let code = match cli::parse(&argv) {
        Ok(cli) => finish(&cli, perform(&cli)),
        Err(error) => refuse(&argv, &error),
    };
    // Not a return: a thread may still wait for the terminal's next key.
    exit(code.into())
}

fn refuse(argv: &[std::ffi::OsString], error: &clap::Error) -> u8 {
    let words: Vec<String> = argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let refusal = cli::refusal::refuse(&cli::command(), &words, error);
    if !refusal.asked_for {
        out::complain(&refusal.text);
        return refusal.code;
    }
    match out::text(&refusal.text) {
        Ok(()) => refusal.code,
        Err(failure) => failure.exit_code(1),
    }
}

/// Reports what is left to report and returns the exit code.
fn finish(cli: &Cli, result: Result<u8, Failure>) -> u8 {
    let failure = match result {
        Ok(code) => return code,
        Err(failure) => failure,
    };
    let is_run = matches!(
        cli.action,
        Action::Run(_) | Action::Container(ContainerAction::Run(_))
    );
    let is_create = matches!(
        cli.action,
        Action::Create(_) | Action::Container(ContainerAction::Create(_))
    );
    // What was typed wrong; what the daemon refuses is 1 for a create.
    let typed = is_create && matches!(failure, Failure::Typed(_));
    let code = failure.exit_code(if is_run || typed {
        RUN_INFRASTRUCTURE
    } else {
        1
    });
    out::report(&failure);
    match failure {
        Failure::Detached => out::complain("read escape sequence\n"),
        Failure::Typed(_) if is_run => {
            out::complain("\nRun 'ctl run --help' for more information\n");
        }
        _ => {}
    }
    code
}

fn perform(cli: &Cli) -> Result<u8, Failure> {
    if let Action::Completion(args) = &cli.action {
        return completion::run(args);
    }
    if let Action::Logout(args) = &cli.action {
        return registry::logout(args);
    }
    let state = std::env::var_os("CONTAINERD_LITE_STATE").map(Into::into);
    let host = Host::parse(cli.host.as_deref(), state).map_err(Failure::Typed)?;
    // One thread: a client waits far more than it works, and starts sooner.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|err| Failure::io("start the event loop", &err))?;
    runtime.block_on(dispatch(&host, &cli.action))
}

async fn dispatch(host: &Host, action: &Action) -> Result<u8, Failure> {
    if let Action::Version(args) = action {
        return version::run(host, args).await;
    }
    let client = &mut client::connect(host).await?;
    match action {
        Action::Run(args) | Action::Container(ContainerAction::Run(args)) => {
            run::run(client, args).await
        }
        Action::Create(args) | Action::Container(ContainerAction::Create(args)) => {
            create::run(client, args).await
        }
        Action::Start(args) | Action::Container(ContainerAction::Start(args)) => {
            start::run(client, args).await
        }
        Action::Stop(args) | Action::Container(ContainerAction::Stop(args)) => {
            each::stop(client, args).await
        }
        Action::Kill(args) | Action::Container(ContainerAction::Kill(args)) => {
            each::kill(client, args).await
        }
        Action::Rm(args) | Action::Container(ContainerAction::Rm(args)) => {
            each::rm(client, args).await
        }
        Action::Ps(args) | Action::Container(ContainerAction::Ls(args)) => {
            ps::run(client, args).await
        }
        Action::Logs(args) | Action::Container(ContainerAction::Logs(args)) => {
            logs::run(client, args).await
        }
        Action::Exec(args) | Action::Container(ContainerAction::Exec(args)) => {
            exec::run(client, args).await
        }
        Action::Attach(args) | Action::Container(ContainerAction::Attach(args)) => {
            attach::run(client, args).await
        }
        Action::Wait(args) | Action::Container(ContainerAction::Wait(args)) => {
            each::wait(client, args).await
        }
        Action::Container(ContainerAction::Inspect(args)) => {
            inspect::containers(client, args).await
        }
        _ => work(client, action).await,
    }
}

/// The commands that change containers or watch them at work.
async fn work(client: &mut client::Engine, action: &Action) -> Result<u8, Failure> {
    use ContainerAction as On;
    match action {
        Action::Pause(args) | Action::Container(On::Pause(args)) => {
            change::pause(client, args).await
        }
        Action::Unpause(args) | Action::Container(On::Unpause(args)) => {
            change::unpause(client, args).await
        }
        Action::Restart(args) | Action::Container(On::Restart(args)) => {
            change::restart(client, args).await
        }
        Action::Rename(args) | Action::Container(On::Rename(args)) => {
            change::rename(client, args).await
        }
        Action::Commit(args) | Action::Container(On::Commit(args)) => {
            change::commit(client, args).await
        }
        Action::Cp(args) | Action::Container(On::Cp(args)) => copy::run(client, args).await,
        Action::Diff(args) | Action::Container(On::Diff(args)) => archive::diff(client, args).await,
        Action::Export(args) | Action::Container(On::Export(args)) => {
            archive::export(client, args).await
        }
        Action::Update(args) | Action::Container(On::Update(args)) => {
            change::update(client, args).await
        }
        Action::Top(args) | Action::Container(On::Top(args)) => watch::top(client, args).await,
        Action::Stats(args) | Action::Container(On::Stats(args)) => {
            watch::stats(client, args).await
        }
        Action::Port(args) | Action::Container(On::Port(args)) => {
            networks::port(client, args).await
        }
        Action::Container(On::Prune(args)) => prune::containers(client, args).await,
        _ => keep(client, action).await,
    }
}

/// The commands on images, registries, and the daemon as a whole.
async fn keep(client: &mut client::Engine, action: &Action) -> Result<u8, Failure> {
    match action {
        Action::Pull(args) | Action::Image(ImageAction::Pull(args)) => {
            pull::run(client, args).await
        }
        Action::Push(args) | Action::Image(ImageAction::Push(args)) => {
            registry::push(client, args).await
        }
        Action::Login(args) => registry::login(client, args).await,
        Action::Search(args) => registry::search(client, args).await,
        Action::Import(args) | Action::Image(ImageAction::Import(args)) => {
            archive::import(client, args).await
        }
        Action::Save(args) | Action::Image(ImageAction::Save(args)) => {
            archive::save(client, args).await
        }
        Action::Image(ImageAction::Prune(args)) => prune::images(client, args).await,
        Action::Images(args) | Action::Image(ImageAction::Ls(args)) => {
            images::run(client, args).await
        }
        Action::Rmi(args) | Action::Image(ImageAction::Rm(args)) => each::rmi(client, args).await,
        Action::Build(args)
        | Action::Builder(BuilderAction::Build(args))
        | Action::Image(ImageAction::Build(args)) => build::run(client, args).await,
        Action::Builder(BuilderAction::Prune(args)) => build::prune(client, args).await,
        Action::Load(args) | Action::Image(ImageAction::Load(args)) => {
            load::run(client, args).await
        }
        Action::Image(ImageAction::Inspect(args)) => inspect::images(client, args).await,
        Action::Inspect(args) => inspect::run(client, args).await,
        Action::Info(args) | Action::System(SystemAction::Info(args)) => {
            system::info(client, args).await
        }
        Action::System(SystemAction::Df(args)) => system::df(client, args).await,
        Action::System(SystemAction::Prune(args)) => system::prune(client, args).await,
        Action::Doctor(_) => system::doctor(client).await,
        Action::Events(args) | Action::System(SystemAction::Events(args)) => {
            events::run(client, args).await
        }
        Action::Network(action) => networks::run(client, action).await,
        Action::Volume(action) => volumes::run(client, action).await,
        Action::Tag(args) | Action::Image(ImageAction::Tag(args)) => tag::run(client, args).await,
        Action::History(args) | Action::Image(ImageAction::History(args)) => {
            tag::history(client, args).await
        }
        // Answered in `perform` and above: they need no connection.
        _ => Ok(commands::DONE),
    }
}
