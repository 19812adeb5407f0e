//! The daemon's entry: reads the command line, sets up logging and the runtime,
//! and turns the outcome into an exit code and one line on standard error.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use containerd_lite::config::{Cli, Command, Config, ConfigCommand, File, LogLevel};
use containerd_lite::{init, publish, serve};
use tracing::level_filters::LevelFilter;

/// Two threads: clients are few, and the slow work runs on blocking threads
/// that come and go.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    let argv: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if init::is_wanted(&argv) {
        return ExitCode::from(init::run(&argv));
    }
    let cli = Cli::parse();
    if let Some(Command::Config(args)) = &cli.command
        && matches!(args.what, ConfigCommand::Default)
    {
        return show(&File::default());
    }
    let config = match Config::of(cli.flags) {
        Ok(config) => config,
        Err(err) => {
            eprintln!("containerd-lite: {err}");
            return ExitCode::FAILURE;
        }
    };
    if matches!(cli.command, Some(Command::Config(_))) {
        return show(&config.to_file());
    }
    log_to_stderr(config.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(err) => {
            eprintln!("containerd-lite: start runtime: {err}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Some(Command::Publish(args)) => publish::run(&config.grpc_socket(), &args).await,
            _ => serve::run(&config).await,
        }
    });
    // Blocking work that ignores the end of the daemon must not keep it alive.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("containerd-lite: {}", serve::chain(&err));
            ExitCode::FAILURE
        }
    }
}

/// Prints a configuration.
fn show(file: &File) -> ExitCode {
    match io::stdout().write_all(file.to_toml().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn log_to_stderr(level: LogLevel) {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from(level))
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
}
