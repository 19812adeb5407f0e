//! What a Dockerfile can say. Texts are as typed: quotes and variables are still in them.

use super::line::Heredoc;
use super::text::Place;

/// Something, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// Its first character.
    pub place: Place,
    /// Its last line.
    pub last_line: usize,
    /// The joined text of its line.
    pub text: String,
    /// The thing itself.
    pub value: T,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `FROM`: a stage begins.
    From(From),
    /// `RUN`: a command makes a layer.
    Run(Run),
    /// `COPY` or `ADD`: files make a layer.
    Copy(Copy),
    /// `WORKDIR`.
    Workdir(String),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `ARG`: names and defaults.
    Arg(Vec<(String, Option<String>)>),
    /// `EXPOSE`: ports and ranges.
    Expose(Vec<String>),
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `USER`.
    User(String),
    /// `LABEL`: names and values.
    Label(Vec<(String, String)>),
    /// `ONBUILD`: the instruction as text, for a build that is based on this image.
    Onbuild(String),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `SHELL`: replaces `/bin/sh -c`.
    Shell(Vec<String>),
    /// `MAINTAINER`.
    Maintainer(String),
}

/// Every instruction's name.
pub const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The platform as typed.
    pub platform: Option<String>,
    /// An image, the name of an earlier stage, or `scratch`.
    pub base: String,
    /// The stage's name, in lower case.
    pub name: Option<String>,
}

/// A command line in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The arguments, as a JSON array.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub command: Script,
    /// `--mount` options, as typed.
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: Option<String>,
    /// `--security`.
    pub security: Option<String>,
}

/// What `RUN` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// A command, with the here-documents that a shell reads after it.
    Command(Command, Vec<Heredoc>),
    /// A here-document alone: a script, with its own `#!` or for the shell.
    Heredoc(Heredoc),
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// It is `ADD`: archives are unpacked, addresses fetched.
    pub add: bool,
    /// What is copied.
    pub sources: Vec<Source>,
    /// Where to.
    pub destination: String,
    /// `--from`: a stage, a named context or an image.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, each time it is given.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--unpack`, where it is given.
    pub unpack: Option<bool>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern, or with `ADD` an address.
    Path(String),
    /// A here-document, which becomes a file of its name.
    Inline(Heredoc),
}

/// `HEALTHCHECK`, as the image's configuration holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Nanoseconds between checks; zero is the default.
    pub interval_ns: i64,
    /// Nanoseconds that one may take.
    pub timeout_ns: i64,
    /// Nanoseconds in which failures do not count.
    pub start_period_ns: i64,
    /// Nanoseconds between checks in that time.
    pub start_interval_ns: i64,
    /// Failures in a row that make a container unhealthy.
    pub retries: u32,
}

impl Instruction {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::From(_) => "FROM",
            Self::Run(_) => "RUN",
            Self::Copy(copy) if copy.add => "ADD",
            Self::Copy(_) => "COPY",
            Self::Workdir(_) => "WORKDIR",
            Self::Env(_) => "ENV",
            Self::Arg(_) => "ARG",
            Self::Expose(_) => "EXPOSE",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Volume(_) => "VOLUME",
            Self::User(_) => "USER",
            Self::Label(_) => "LABEL",
            Self::Onbuild(_) => "ONBUILD",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Shell(_) => "SHELL",
            Self::Maintainer(_) => "MAINTAINER",
        }
    }
}
