//! Groups that systemd makes, as the one writer of its host's tree.
//!
//! 1. [`Scope::named`] takes the `slice:prefix:name` of a config; [`Scope::path`] says where its group will be.
//! 2. [`Scope::start`] has systemd start a transient scope around a process, with the limits as properties, and waits for the job.
//!    The group is delegated: what is below it, and limits that systemd has no property for, are set as in any other group.
//! 3. [`Scope::update`] changes the properties, so that systemd does not set old limits again.
//! 4. [`Scope::stop`] ends the scope and has systemd forget it, even if it failed.
//!
//! Root talks to the system's bus, others to the one of their session.

mod annotation;
mod properties;

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::dbus::{BUS, Connection, Message, Target, Value};
use crate::limits::check_usage;
use crate::{Cgroup, Error, Layout, Result};

pub use annotation::Property;
pub use properties::rounded;

const MANAGER: Target = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

const PROPERTIES: Target = Target {
    interface: "org.freedesktop.DBus.Properties",
    ..MANAGER
};

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// From this version on a weight of 0 means `cpu.idle`.
const IDLE_VERSION: u32 = 252;
/// From this version on a scope has an `OOMPolicy`.
const OOM_POLICY_VERSION: u32 = 253;

/// A unit of systemd's that holds one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    slice: String,
    unit: String,
    /// What the container is called, for people.
    name: String,
    /// A unit of the user's own systemd.
    user: bool,
}

impl Scope {
    /// The unit of a container by its `cgroupsPath`, which is `slice:prefix:name` or left away.
    ///
    /// # Errors
    /// If it is anything else, or systemd is not what runs here.
    pub fn named(path: Option<&Path>, id: &str, user: bool) -> Result<Self> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(Error::refused(
                "systemd not running on this host, cannot use systemd cgroups manager",
            ));
        }
        Self::parse(path.and_then(Path::to_str).unwrap_or_default(), id, user)
    }

    fn parse(path: &str, id: &str, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        let (slice, prefix, name) = if path.is_empty() {
            ("", "runc", id)
        } else {
            let mut parts = path.split(':');
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
                _ => {
                    return Err(Error::refused(format!(
                        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
                    )));
                }
            }
        };
        let slice = if slice.is_empty() { default } else { slice };
        expand(slice)?;
        let unit = if name.ends_with(".slice") {
            name.to_owned()
        } else {
            format!("{prefix}-{name}.scope")
        };
        if unit.contains('/') {
            return Err(Error::refused(format!("unit name {unit:?}: has a slash")));
        }
        Ok(Self {
            slice: slice.to_owned(),
            unit,
            name: name.to_owned(),
            user,
        })
    }

    /// A unit that a state file recorded.
    #[must_use]
    pub fn recorded(unit: &str, user: bool) -> Self {
        Self {
            slice: String::new(),
            unit: unit.to_owned(),
            name: String::new(),
            user,
        }
    }

    /// Its name, as in `runc-box.scope`.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Whether it is a unit of the user's own systemd.
    #[must_use]
    pub fn user(&self) -> bool {
        self.user
    }

    /// Where its group will be, from the root of the hierarchy.
    ///
    /// # Errors
    /// If the user's systemd cannot be asked for its own place.
    pub fn path(&self) -> Result<PathBuf> {
        let below = expand(&self.slice)?.join(&self.unit);
        if !self.user {
            return Ok(Path::new("/").join(below));
        }
        let own = manager_property(&mut self.connect()?, "ControlGroup")?;
        Ok(Path::new("/").join(own.trim_start_matches('/')).join(below))
    }

    fn connect(&self) -> Result<Connection> {
        if self.user {
            Connection::user()
        } else {
            Connection::system()
        }
    }

    /// Has systemd make the scope around process `pid`, with these limits and further properties.
    ///
    /// # Errors
    /// If there is a unit of the name, or systemd refuses a property; with its words.
    pub fn start(
        &self,
        pid: i32,
        layout: Layout,
        resources: &LinuxResources,
        further: &[Property],
    ) -> Result<()> {
        let mut bus = self.connect()?;
        let mut all = self.birth(pid, layout);
        all.extend(further.iter().map(|p| (p.name.clone(), p.value.clone())));
        let version = if properties::depends_on_version(resources) {
            version(&mut bus)?
        } else {
            0
        };
        if version >= OOM_POLICY_VERSION
            && let Some(policy) = properties::oom_policy(resources)
        {
            all.push(("OOMPolicy".to_owned(), Value::text(policy)));
        }
        all.extend(properties::devices(resources)?);
        all.extend(properties::limits(
            resources,
            layout,
            version >= IDLE_VERSION,
        )?);
        self.run(&mut bus, &all)
    }

    /// What a scope has from the start on.
    fn birth(&self, pid: i32, layout: Layout) -> Vec<(String, Value)> {
        let own = |name: &str, value: Value| (name.to_owned(), value);
        let accounting = if layout == Layout::V2 {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        };
        let pid = u32::try_from(pid).unwrap_or(0);
        let mut all = vec![own(
            "Description",
            Value::text(format!("libcontainer container {}", self.name)),
        )];
        if self.unit.ends_with(".slice") {
            let slice = Value::Array("s".to_owned(), vec![Value::text(&self.slice)]);
            all.push(own("Wants", slice));
        } else {
            all.push(own("Slice", Value::text(&self.slice)));
            all.push(own("Delegate", Value::Bool(true)));
            all.push(own(
                "PIDs",
                Value::Array("u".to_owned(), vec![Value::U32(pid)]),
            ));
        }
        for name in [
            "MemoryAccounting",
            "CPUAccounting",
            accounting,
            "TasksAccounting",
        ] {
            all.push(own(name, Value::Bool(true)));
        }
        all.push(own("DefaultDependencies", Value::Bool(false)));
        all
    }

    /// Starts the unit; one that failed earlier and was not forgotten is, once.
    fn run(&self, bus: &mut Connection, all: &[(String, Value)]) -> Result<()> {
        subscribe(bus)?;
        let start = Message::call(
            MANAGER,
            "StartTransientUnit",
            vec![
                Value::text(&self.unit),
                Value::text("replace"),
                list(all),
                Value::Array("(sa(sv))".to_owned(), Vec::new()),
            ],
        );
        let about = |e: Error| e.about(format!("unable to start unit {:?}", self.unit));
        let job = match bus.call(&start) {
            Err(e) if e.answer() == Some(UNIT_EXISTS) => {
                self.forget(bus);
                bus.call(&start).map_err(about)?
            }
            other => other.map_err(about)?,
        };
        let result = finished(bus, &job)?;
        if result != "done" {
            self.forget(bus);
            return Err(Error::refused(format!(
                "error creating systemd unit `{}`: got `{result}`",
                self.unit
            )));
        }
        Ok(())
    }

    /// Changes the limits; device rules stay as they are. On v1 systemd writes device rules anew with each change and denies
    /// everything for a moment, so that the group is stopped meanwhile.
    ///
    /// # Errors
    /// If systemd refuses one; with its words.
    pub fn update(&self, cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
        check_usage(cgroup, resources)?;
        let mut bus = self.connect()?;
        let idle = properties::depends_on_version(resources) && version(&mut bus)? >= IDLE_VERSION;
        let limits = properties::limits(resources, cgroup.layout(), idle)?;
        if limits.is_empty() {
            return Ok(());
        }
        let freeze = cgroup.layout() != Layout::V2 && !cgroup.is_frozen()?;
        if freeze {
            cgroup.freeze(true)?;
        }
        let set = bus.call(&Message::call(
            MANAGER,
            "SetUnitProperties",
            vec![
                Value::text(&self.unit),
                // Until the next boot.
                Value::Bool(true),
                list(&limits),
            ],
        ));
        if freeze {
            cgroup.freeze(false)?;
        }
        set.map(drop)
            .map_err(|e| e.about("unable to set unit properties"))
    }

    /// Ends the scope. One that is gone is success.
    ///
    /// # Errors
    /// If systemd cannot be asked, or does not get it done in time.
    pub fn stop(&self) -> Result<()> {
        let mut bus = self.connect()?;
        subscribe(&mut bus)?;
        let stop = Message::call(
            MANAGER,
            "StopUnit",
            vec![Value::text(&self.unit), Value::text("replace")],
        );
        match bus.call(&stop) {
            Err(e) if e.answer() == Some(NO_SUCH_UNIT) => return Ok(()),
            Err(e) => return Err(e.about(format!("stop unit {:?}", self.unit))),
            Ok(job) => finished(&mut bus, &job)?,
        };
        self.forget(&mut bus);
        Ok(())
    }

    /// A unit that has not failed is none to be forgotten, and systemd says so.
    fn forget(&self, bus: &mut Connection) {
        let reset = Message::call(MANAGER, "ResetFailedUnit", vec![Value::text(&self.unit)]);
        let _nothing_to_forget = bus.call(&reset);
    }
}

/// Signals of jobs are sent to those who ask for them.
fn subscribe(bus: &mut Connection) -> Result<()> {
    let rule = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
    bus.call(&Message::call(BUS, "AddMatch", vec![Value::text(rule)]))?;
    bus.call(&Message::call(MANAGER, "Subscribe", Vec::new()))
        .map(drop)
}

/// Waits for the job that a call has answered with; says how it ended: `done`, `failed`, `timeout`, ….
fn finished(bus: &mut Connection, answer: &[Value]) -> Result<String> {
    let job = answer.first().and_then(Value::as_str).unwrap_or_default();
    bus.signal(|signal| match signal.body.as_slice() {
        [
            Value::U32(_),
            Value::Path(ended),
            Value::Str(_),
            Value::Str(result),
        ] if signal.member == "JobRemoved" && ended == job => Some(result.clone()),
        _ => None,
    })
}

fn list(all: &[(String, Value)]) -> Value {
    let pair = |(name, value): &(String, Value)| {
        Value::Struct(vec![
            Value::text(name),
            Value::Variant(Box::new(value.clone())),
        ])
    };
    Value::Array("(sv)".to_owned(), all.iter().map(pair).collect())
}

fn manager_property(bus: &mut Connection, name: &str) -> Result<String> {
    let answer = bus.call(&Message::call(
        PROPERTIES,
        "Get",
        vec![Value::text(MANAGER.interface), Value::text(name)],
    ))?;
    let text = answer.first().and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| Error::refused(format!("ask systemd for {name}: it answers with no text")))
}

/// `252.39-1~deb12u2`, `v245.4`: the number in front.
fn version(bus: &mut Connection) -> Result<u32> {
    let text = manager_property(bus, "Version")?;
    let digits: String = text
        .trim_start_matches('v')
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Ok(digits.parse().unwrap_or(0))
}

/// `a-b.slice` lies in `a.slice`: the directories from the root down. `-.slice` is the root itself.
fn expand(slice: &str) -> Result<PathBuf> {
    let invalid = || Error::refused(format!("invalid slice name: {slice}"));
    let stem = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if stem == "-" {
        return Ok(PathBuf::new());
    }
    if stem.contains('/') || stem.split('-').any(str::is_empty) {
        return Err(invalid());
    }
    let ends = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .chain([stem.len()]);
    Ok(ends.map(|end| format!("{}.slice", &stem[..end])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_one_another() {
        let path = |slice: &str| expand(slice).map(|p| p.display().to_string()).ok();
        assert_eq!(path("system.slice").as_deref(), Some("system.slice"));
        assert_eq!(
            path("kube-pods-x.slice").as_deref(),
            Some("kube.slice/kube-pods.slice/kube-pods-x.slice")
        );
        assert_eq!(path("-.slice").as_deref(), Some(""));
        for wrong in ["x", ".slice", "a--b.slice", "-a.slice", "a/b.slice"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_units() {
        let unit = |path: &str, user: bool| {
            let scope = Scope::parse(path, "box", user).unwrap();
            format!("{} {}", scope.slice, scope.unit)
        };
        assert_eq!(unit("", false), "system.slice runc-box.scope");
        assert_eq!(unit("", true), "user.slice runc-box.scope");
        assert_eq!(
            unit("machine.slice:docker:12", false),
            "machine.slice docker-12.scope"
        );
        assert_eq!(unit(":docker:12", false), "system.slice docker-12.scope");
        for wrong in [
            "/a/b",
            "a.slice:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a.slice:b:../c",
        ] {
            assert!(Scope::parse(wrong, "box", false).is_err(), "{wrong}");
        }
    }
}
