//! `RUN --mount`: what is put into the file system of one step, and is gone after it.

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is seen.
    pub target: String,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Files of the context, a stage or an image.
    Bind {
        /// Where from; the context where not given.
        from: Option<String>,
        /// The path there.
        source: String,
        /// What is written is thrown away, not refused.
        writable: bool,
    },
    /// A directory that stays from build to build.
    Cache {
        /// Its name.
        id: String,
        /// What builds at the same time do.
        sharing: Sharing,
        /// It cannot be written.
        read_only: bool,
        /// Of a new one.
        mode: u32,
        /// Of a new one.
        owner: (u32, u32),
    },
    /// Memory.
    Tmpfs {
        /// Its size in bytes.
        size: Option<u64>,
    },
    /// A secret of the client.
    Secret {
        /// Its name.
        id: String,
        /// A variable to put it into, instead of a file or beside one.
        env: Option<String>,
        /// Without it, the step fails.
        required: bool,
        /// Of the file.
        mode: u32,
        /// Of the file.
        owner: (u32, u32),
    },
}

/// What builds that use a cache directory at the same time do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Use it together.
    Shared,
    /// Get another one.
    Private,
    /// Wait.
    Locked,
}

/// Reads one `--mount` whose variables have been replaced. Relative targets are below `workdir`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse(text: &str, workdir: &str) -> Result<Mount, String> {
    let mut fields = Fields::read(text)?;
    let kind = fields.take(&["type"]).unwrap_or_else(|| "bind".to_owned());
    let target = fields.take(&["target", "dst", "destination"]);
    let target = target.map(|path| crate::paths::join(workdir, &path));
    let needs_target = || {
        target
            .clone()
            .filter(|path| path != "/")
            .ok_or_else(|| format!("{text}: target= is missing, or is the root"))
    };
    let mount = match kind.as_str() {
        "bind" => {
            let writable = fields.writable(false)?;
            Mount {
                target: needs_target()?,
                kind: Kind::Bind {
                    from: fields.take(&["from"]),
                    source: fields.take(&["source", "src"]).unwrap_or_default(),
                    writable,
                },
            }
        }
        "cache" => cache(&mut fields, needs_target()?)?,
        "tmpfs" => {
            let size = fields.take(&["size"]);
            let size = size.map(|size| {
                bytes(&size).ok_or(format!(
                    "size={size}: expected bytes, or a number with k, m or g"
                ))
            });
            Mount {
                target: needs_target()?,
                kind: Kind::Tmpfs {
                    size: size.transpose()?,
                },
            }
        }
        "secret" => secret(&mut fields, target, text)?,
        other => {
            return Err(format!(
                "mount type {other:?} is not supported: expected bind, cache, tmpfs or secret"
            ));
        }
    };
    fields.end()?;
    Ok(mount)
}

fn cache(fields: &mut Fields, target: String) -> Result<Mount, String> {
    let sharing = match fields.take(&["sharing"]).as_deref() {
        None | Some("shared") => Sharing::Shared,
        Some("private") => Sharing::Private,
        Some("locked") => Sharing::Locked,
        Some(other) => {
            return Err(format!(
                "sharing={other}: expected shared, private or locked"
            ));
        }
    };
    if let Some(from) = fields.take(&["from"]) {
        return Err(format!("from={from}: a cache mount begins empty here"));
    }
    let read_only = !fields.writable(true)?;
    Ok(Mount {
        kind: Kind::Cache {
            id: fields.take(&["id"]).unwrap_or_else(|| target.clone()),
            sharing,
            read_only,
            mode: fields.octal("mode", 0o755)?,
            owner: (fields.number("uid")?, fields.number("gid")?),
        },
        target,
    })
}

fn secret(fields: &mut Fields, target: Option<String>, text: &str) -> Result<Mount, String> {
    let env = fields.take(&["env"]);
    let id = fields.take(&["id"]);
    let id = id.or_else(|| {
        let target = target.as_deref().unwrap_or_default();
        let name = target.rsplit('/').next().unwrap_or_default();
        (!name.is_empty()).then(|| name.to_owned())
    });
    let id = id.ok_or_else(|| format!("{text}: id= is missing"))?;
    let target = match (target, &env) {
        (Some(target), _) => target,
        (None, Some(_)) => String::new(),
        (None, None) => format!("/run/secrets/{id}"),
    };
    Ok(Mount {
        target,
        kind: Kind::Secret {
            env,
            required: fields.switch("required", false)?,
            mode: fields.octal("mode", 0o400)?,
            owner: (fields.number("uid")?, fields.number("gid")?),
            id,
        },
    })
}

/// `key=value` or `key`, each taken once.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(text: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for field in text.split(',').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let key = key.trim().to_ascii_lowercase();
            if fields.iter().any(|(other, _)| *other == key) {
                return Err(format!("{text}: {key} is given twice"));
            }
            fields.push((key, value.trim().to_owned()));
        }
        Ok(Self(fields))
    }

    fn take(&mut self, names: &[&str]) -> Option<String> {
        let at = self
            .0
            .iter()
            .position(|(key, _)| names.contains(&key.as_str()))?;
        Some(self.0.remove(at).1).filter(|value| !value.is_empty())
    }

    fn switch(&mut self, name: &str, default: bool) -> Result<bool, String> {
        let Some(at) = self.0.iter().position(|(key, _)| key == name) else {
            return Ok(default);
        };
        match self.0.remove(at).1.as_str() {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(format!("{name}={other}: expected true or false")),
        }
    }

    fn writable(&mut self, default: bool) -> Result<bool, String> {
        let mut writable = default;
        for name in ["rw", "readwrite"] {
            writable = self.switch(name, writable)?;
        }
        for name in ["ro", "readonly"] {
            writable = !self.switch(name, !writable)?;
        }
        Ok(writable)
    }

    fn octal(&mut self, name: &str, default: u32) -> Result<u32, String> {
        match self.take(&[name]) {
            None => Ok(default),
            Some(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)
                .ok_or_else(|| format!("{name}={text}: expected an octal mode such as 0755")),
        }
    }

    fn number(&mut self, name: &str) -> Result<u32, String> {
        match self.take(&[name]) {
            None => Ok(0),
            Some(text) => text
                .parse()
                .map_err(|_| format!("{name}={text}: expected a number")),
        }
    }

    fn end(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(format!("unexpected key {key:?} in a mount")),
        }
    }
}

fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match lower[digits.len()..].trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let bind = parse("from=b,source=/x,dst=y,rw", "/w").unwrap();
        assert_eq!(bind.target, "/w/y");
        let Kind::Bind {
            from,
            source,
            writable,
        } = bind.kind
        else {
            panic!()
        };
        assert_eq!(
            (from.as_deref(), source.as_str(), writable),
            (Some("b"), "/x", true)
        );
        let cache = parse(
            "type=cache,target=/root/.cache,sharing=locked,mode=0700,uid=5",
            "/",
        )
        .unwrap();
        let want = Kind::Cache {
            id: "/root/.cache".to_owned(),
            sharing: Sharing::Locked,
            read_only: false,
            mode: 0o700,
            owner: (5, 0),
        };
        assert_eq!(cache.kind, want);
        assert_eq!(
            parse("type=tmpfs,target=/t,size=2m", "/").unwrap().kind,
            Kind::Tmpfs {
                size: Some(2 << 20)
            }
        );
        let secret = parse("type=secret,id=key", "/").unwrap();
        assert_eq!(secret.target, "/run/secrets/key");
        let secret = parse("type=secret,id=key,env=KEY,required", "/").unwrap();
        assert!(
            secret.target.is_empty() && matches!(secret.kind, Kind::Secret { required: true, .. })
        );
    }

    #[test]
    fn mistakes() {
        for bad in [
            "type=cache",
            "type=bind,target=/",
            "type=x,target=/a",
            "target=/a,target=/b",
            "target=/a,color=red",
            "type=cache,target=/a,sharing=no",
            "type=tmpfs,target=/a,size=x",
            "type=cache,target=/a,mode=9",
        ] {
            assert!(parse(bad, "/").is_err(), "{bad}");
        }
    }
}
