//! What the instructions of a stage do to its image, one after the other: the configuration changes, and what changes files
//! comes out as an [`Op`]. No I/O.

use std::collections::BTreeMap;

use crate::config::{Health, History, ImageConfig};
use crate::dockerfile::instruction::{
    Command, Copy, Healthcheck, Instruction, Located, Run, Script, Source,
};
use crate::dockerfile::{Mistake, parse, word};
use crate::modes::Mode;
use crate::mounts;
use crate::ops::{self, CopyOp, CopySource, Network, Op, RunOp};
use crate::paths;
use crate::ports;

/// The path in images that have none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Build arguments that need no ARG, and decide nothing about the cache.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// A stage while its instructions are taken.
#[derive(Debug, Clone)]
pub struct State<'a> {
    /// The image so far.
    pub image: ImageConfig,
    global: &'a BTreeMap<String, String>,
    build_args: &'a BTreeMap<String, String>,
    escape: char,
    /// ARGs that were declared, in order.
    args: Vec<(String, Option<String>)>,
    /// CMD stood in this stage: ENTRYPOINT leaves it alone.
    cmd_is_own: bool,
}

/// What one instruction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The change of files, if it is one.
    pub op: Option<Op>,
    /// The line of the image's history.
    pub history: String,
}

/// Of changes outside a build there are no arguments.
static NO_ARGUMENTS: BTreeMap<String, String> = BTreeMap::new();

/// Takes Dockerfile instructions that change nothing but the configuration, as
/// `commit --change` has them.
///
/// # Errors
/// The first mistake in them.
pub fn change(image: ImageConfig, instructions: &[String]) -> Result<ImageConfig, Mistake> {
    let mut state = State {
        image,
        global: &NO_ARGUMENTS,
        build_args: &NO_ARGUMENTS,
        escape: '\\',
        args: Vec::new(),
        cmd_is_own: false,
    };
    for instruction in parse::changes(&instructions.join("\n"))? {
        state.take(&instruction)?;
    }
    Ok(state.image)
}

impl<'a> State<'a> {
    /// A stage that begins with `image`, and the triggers that the image brings.
    ///
    /// # Errors
    /// A trigger that cannot be read; told at `from`.
    pub fn begin(
        mut image: ImageConfig,
        global: &'a BTreeMap<String, String>,
        build_args: &'a BTreeMap<String, String>,
        escape: char,
        from: &Located<Instruction>,
    ) -> Result<(Self, Vec<Located<Instruction>>), Mistake> {
        if image.config.variable("PATH").is_none() {
            image.config.set_variable("PATH", DEFAULT_PATH);
        }
        let texts = image.config.on_build.take().unwrap_or_default();
        let mut triggers = Vec::new();
        for text in texts {
            let mut trigger = parse::trigger(&text).map_err(|mistake| {
                let message = format!("ONBUILD of the base image, {text:?}: {}", mistake.message);
                Mistake::new(from.place, 4, message)
            })?;
            trigger.place = from.place;
            triggers.push(trigger);
        }
        let state = Self {
            image,
            global,
            build_args,
            escape,
            args: Vec::new(),
            cmd_is_own: false,
        };
        Ok((state, triggers))
    }

    /// Takes one instruction.
    ///
    /// # Errors
    /// A mistake in it that shows only now: a variable that must be set, a port that is none.
    pub fn take(&mut self, at: &Located<Instruction>) -> Result<Taken, Mistake> {
        self.apply(&at.value, at).map_err(|what| {
            let name = at.value.name();
            Mistake::new(at.place, name.len(), format!("{name}: {what}"))
        })
    }

    fn apply(&mut self, found: &Instruction, at: &Located<Instruction>) -> Result<Taken, String> {
        let line = at.text.clone();
        match found {
            Instruction::Run(run) => self.run(run),
            Instruction::Copy(copy) => self.copy(copy, &line),
            Instruction::Workdir(text) => {
                let typed = self.expand(text)?;
                let path = paths::join(&self.workdir(), &typed);
                self.image.config.working_dir.clone_from(&path);
                Ok(Taken {
                    history: format!("WORKDIR {path}"),
                    op: Some(Op::MakeDir { path }),
                })
            }
            Instruction::Arg(list) => self.argument(list, line),
            _ => {
                let history = self.configure(found)?.unwrap_or(line);
                Ok(Taken { op: None, history })
            }
        }
    }

    /// Instructions that change nothing but the configuration; the history line where it is not the text itself.
    fn configure(&mut self, found: &Instruction) -> Result<Option<String>, String> {
        match found {
            Instruction::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                let line = joined("ENV", &pairs);
                for (name, value) in &pairs {
                    self.image.config.set_variable(name, value);
                }
                return Ok(Some(line));
            }
            Instruction::Label(pairs) => {
                let pairs = self.pairs(pairs)?;
                let line = joined("LABEL", &pairs);
                let labels = self.image.config.labels.get_or_insert_default();
                labels.extend(pairs);
                return Ok(Some(line));
            }
            Instruction::Expose(list) => {
                let mut found = Vec::new();
                for text in list {
                    for field in self.fields(text)? {
                        found.extend(ports::parse(&field)?);
                    }
                }
                let line = format!("EXPOSE [{}]", found.join(" "));
                let ports = self.image.config.exposed_ports.get_or_insert_default();
                ports.extend(found.into_iter().map(|port| (port, serde_json::Map::new())));
                return Ok(Some(line));
            }
            Instruction::Volume(list) => {
                let mut found = Vec::new();
                for text in list {
                    let path = self.expand(text)?;
                    if path.trim().is_empty() {
                        return Err("a path is empty".to_owned());
                    }
                    found.push(path);
                }
                let volumes = self.image.config.volumes.get_or_insert_default();
                volumes.extend(found.into_iter().map(|path| (path, serde_json::Map::new())));
            }
            Instruction::User(text) => {
                let user = self.expand(text)?;
                let line = format!("USER {user}");
                self.image.config.user = user;
                return Ok(Some(line));
            }
            Instruction::StopSignal(text) => {
                let signal = self.expand(text)?;
                if signal.is_empty() {
                    return Err("the signal is empty".to_owned());
                }
                self.image.config.stop_signal = Some(signal);
            }
            Instruction::Cmd(command) => {
                self.cmd_is_own = true;
                self.image.config.cmd = Some(self.argv(command));
            }
            Instruction::Entrypoint(command) => {
                self.image.config.entrypoint = Some(self.argv(command));
                if !self.cmd_is_own {
                    self.image.config.cmd = None;
                }
            }
            Instruction::Shell(list) => self.image.config.shell = Some(list.clone()),
            Instruction::Onbuild(text) => {
                let triggers = self.image.config.on_build.get_or_insert_default();
                triggers.push(text.clone());
            }
            Instruction::Healthcheck(check) => {
                self.image.config.healthcheck = Some(health(check));
            }
            Instruction::Maintainer(name) => {
                let author = serde_json::Value::from(name.clone());
                self.image.rest.insert("author".to_owned(), author);
            }
            // These are taken elsewhere.
            Instruction::From(_)
            | Instruction::Run(_)
            | Instruction::Copy(_)
            | Instruction::Workdir(_)
            | Instruction::Arg(_) => {}
        }
        Ok(None)
    }

    /// Records a step in the image's history.
    pub fn remember(&mut self, created: &str, line: String, empty: bool) {
        self.image.history.push(History {
            created: Some(created.to_owned()),
            created_by: Some(line),
            empty_layer: empty,
            ..History::default()
        });
    }

    /// The names of build arguments that an ARG of this stage asked for.
    #[must_use]
    pub fn declared(&self) -> Vec<&str> {
        self.args.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn workdir(&self) -> String {
        match self.image.config.working_dir.as_str() {
            "" => "/".to_owned(),
            dir => dir.to_owned(),
        }
    }

    fn argument(
        &mut self,
        list: &[(String, Option<String>)],
        line: String,
    ) -> Result<Taken, String> {
        for (name, default) in list {
            let default = default
                .as_deref()
                .map(|text| self.expand(text))
                .transpose()?;
            let value = self.build_args.get(name).cloned();
            let value = value.or(default).or_else(|| self.global.get(name).cloned());
            self.args.retain(|(other, _)| other != name);
            self.args.push((name.clone(), value));
        }
        Ok(Taken {
            op: None,
            history: line,
        })
    }

    fn run(&self, run: &Run) -> Result<Taken, String> {
        let mut mounts = Vec::new();
        for text in &run.mounts {
            mounts.push(mounts::parse(&self.expand(text)?, &self.workdir())?);
        }
        let (argv, script) = self.script(&run.command);
        let own = |name: &str| self.image.config.variable(name).is_some();
        let passed = self.args.iter().filter(|(name, _)| !own(name));
        let passed: Vec<String> = passed
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect();
        let mut history = "RUN".to_owned();
        if !passed.is_empty() {
            history.push_str(&format!(" |{} {}", passed.len(), passed.join(" ")));
        }
        history.push_str(&format!(" {}", argv.join(" ")));
        let mut env = self.image.config.env.clone().unwrap_or_default();
        env.extend(passed);
        let proxy = |name: &&str| {
            let value = self.build_args.get(*name)?;
            (!own(name) && !self.declared().contains(name)).then(|| format!("{name}={value}"))
        };
        let op = RunOp {
            argv,
            env,
            unkeyed_env: PROXIES.iter().filter_map(proxy).collect(),
            cwd: self.workdir(),
            user: self.image.config.user.clone(),
            mounts,
            network: network(run.network.as_deref())?,
            insecure: insecure(run.security.as_deref())?,
            script,
        };
        Ok(Taken {
            op: Some(Op::Run(op)),
            history,
        })
    }

    /// The command line, and the script that must be a file.
    fn script(&self, script: &Script) -> (Vec<String>, Option<(String, String)>) {
        match script {
            Script::Command(Command::Exec(argv), _) => (argv.clone(), None),
            Script::Command(Command::Shell(line), heredocs) => {
                let mut text = line.clone();
                for heredoc in heredocs {
                    text.push('\n');
                    text.push_str(&heredoc.content);
                    text.push_str(&heredoc.name);
                }
                (self.with_shell(text), None)
            }
            Script::Heredoc(heredoc) if heredoc.content.starts_with("#!") => {
                let path = format!("/dev/pipes/{}", paths::last(&heredoc.name));
                (vec![path.clone()], Some((path, heredoc.content.clone())))
            }
            Script::Heredoc(heredoc) => (self.with_shell(heredoc.content.clone()), None),
        }
    }

    fn argv(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(argv) => argv.clone(),
            Command::Shell(line) => self.with_shell(line.clone()),
        }
    }

    fn with_shell(&self, line: String) -> Vec<String> {
        let default = || ["/bin/sh", "-c"].map(str::to_owned).to_vec();
        let mut argv = self.image.config.shell.clone().unwrap_or_else(default);
        argv.push(line);
        argv
    }

    fn copy(&self, copy: &Copy, line: &str) -> Result<Taken, String> {
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.push(match source {
                Source::Path(text) => {
                    let text = self.expand(text)?;
                    match copy.add {
                        true => ops::added(text)?,
                        false => CopySource::Path(text),
                    }
                }
                Source::Inline(heredoc) => CopySource::Inline {
                    name: heredoc.name.clone(),
                    content: if heredoc.expand {
                        word::expand_text(&heredoc.content, '\\', &|name| self.variable(name))
                            .map_err(|bad| bad.to_string())?
                    } else {
                        heredoc.content.clone()
                    },
                },
            });
        }
        let is_address = |source: &CopySource| matches!(source, CopySource::Address(_));
        if copy.checksum.is_some() && !(sources.len() == 1 && sources.iter().all(is_address)) {
            return Err("--checksum is for one source that is an address".to_owned());
        }
        let destination = self.expand(&copy.destination)?;
        if sources.len() > 1 && !paths::is_directory(&destination) {
            return Err(format!(
                "with more than one source the destination must be a directory and end with a slash: {destination:?}"
            ));
        }
        let owner = copy
            .chown
            .as_deref()
            .map(|text| self.expand(text))
            .transpose()?;
        let mode = match &copy.chmod {
            Some(text) => Some(Mode::parse(&self.expand(text)?)?),
            None => None,
        };
        let exclude: Result<Vec<String>, String> =
            copy.exclude.iter().map(|text| self.expand(text)).collect();
        let op = CopyOp {
            from: copy.from.clone(),
            add: copy.add,
            sources,
            destination: paths::join(&self.workdir(), &destination),
            into_directory: paths::is_directory(&destination),
            owner: owner.filter(|text| !text.is_empty()),
            mode,
            parents: copy.parents,
            exclude: exclude?,
            unpack: copy.unpack,
            checksum: copy
                .checksum
                .as_deref()
                .map(|text| self.expand(text))
                .transpose()?,
        };
        Ok(Taken {
            op: Some(Op::Copy(op)),
            history: line.to_owned(),
        })
    }

    fn pairs(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, String> {
        let pair = |(name, value): &(String, String)| {
            let name = self.expand(name)?;
            if name.is_empty() {
                return Err("a name is empty".to_owned());
            }
            Ok((name, self.expand(value)?))
        };
        pairs.iter().map(pair).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        let own = self.image.config.variable(name).map(str::to_owned);
        let declared = || self.args.iter().find(|(arg, _)| arg == name);
        own.or_else(|| declared()?.1.clone())
    }

    fn expand(&self, text: &str) -> Result<String, String> {
        word::expand(text, self.escape, &|name| self.variable(name))
            .map_err(|bad| format!("{text}: {bad}"))
    }

    fn fields(&self, text: &str) -> Result<Vec<String>, String> {
        word::expand_fields(text, self.escape, &|name| self.variable(name))
            .map_err(|bad| format!("{text}: {bad}"))
    }
}

fn joined(name: &str, pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    format!("{name} {}", pairs.join(" "))
}

fn network(text: Option<&str>) -> Result<Network, String> {
    match text {
        None | Some("default") => Ok(Network::Default),
        Some("none") => Ok(Network::None),
        Some("host") => Ok(Network::Host),
        Some(other) => Err(format!("--network={other}: expected default, none or host")),
    }
}

fn insecure(text: Option<&str>) -> Result<bool, String> {
    match text {
        None | Some("sandbox") => Ok(false),
        Some("insecure") => Err("--security=insecure: this build is not allowed to".to_owned()),
        Some(other) => Err(format!("--security={other}: expected sandbox")),
    }
}

fn health(check: &Healthcheck) -> Health {
    Health {
        test: check.test.clone(),
        interval: check.interval_ns,
        timeout: check.timeout_ns,
        start_period: check.start_period_ns,
        start_interval: check.start_interval_ns,
        retries: i64::from(check.retries),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
