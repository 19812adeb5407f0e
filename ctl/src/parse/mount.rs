//! `--mount type=bind,source=…,target=…`: key and value pairs, as the daemon
//! takes them.

use std::str::FromStr;

use proto::engine::v1::MountRequest;

use super::size::Bytes;

/// One `--mount`, as typed. A relative source of a bind is made absolute by
/// the command, which knows where it was typed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mount(pub(crate) MountRequest);

impl FromStr for Mount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mount = MountRequest {
            r#type: "volume".to_owned(),
            ..MountRequest::default()
        };
        for field in fields(text) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
                None => (field.to_ascii_lowercase(), None),
            };
            apply(&mut mount, &key, value, &field)?;
        }
        if mount.target.is_empty() {
            return Err("target is required".to_owned());
        }
        Ok(Self(mount))
    }
}

fn apply(
    mount: &mut MountRequest,
    key: &str,
    value: Option<&str>,
    field: &str,
) -> Result<(), String> {
    let Some(value) = value else {
        // What needs no value.
        match key {
            "readonly" | "ro" => mount.read_only = true,
            "volume-nocopy" => mount.no_copy = true,
            "bind-nonrecursive" => mount.non_recursive = true,
            "bind-create-src" => mount.create_source = true,
            _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
        }
        return Ok(());
    };
    let switch = || super::switch(value).map_err(|_| format!("invalid value for {key}: {value}"));
    match key {
        "type" => mount.r#type = value.to_ascii_lowercase(),
        "source" | "src" => value.clone_into(&mut mount.source),
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "readonly" | "ro" => mount.read_only = switch()?,
        "consistency" => {}
        "bind-propagation" => mount.propagation = value.to_ascii_lowercase(),
        "bind-nonrecursive" => mount.non_recursive = switch()?,
        "bind-recursive" => match value {
            "enabled" | "writable" | "readonly" => {}
            "disabled" => mount.non_recursive = true,
            _ => return Err(format!("invalid value for {key}: {value}")),
        },
        "bind-create-src" => mount.create_source = switch()?,
        "volume-nocopy" => mount.no_copy = switch()?,
        "volume-subpath" => value.clone_into(&mut mount.subpath),
        "volume-driver" => value.clone_into(&mut mount.driver),
        "volume-label" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            mount.labels.insert(name.to_owned(), value.to_owned());
        }
        "tmpfs-size" => {
            let bytes: Bytes = value
                .parse()
                .map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_bytes = Some(bytes.0);
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8)
                .map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_mode = Some(mode);
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

/// The fields of a line of comma-separated values, which may be quoted.
pub(super) fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => {
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_short_forms() {
        let mount: Mount = "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave"
            .parse()
            .unwrap();
        assert_eq!(
            (
                mount.0.r#type.as_str(),
                mount.0.source.as_str(),
                mount.0.target.as_str()
            ),
            ("bind", "/a", "/b")
        );
        assert!(mount.0.read_only && mount.0.propagation == "rslave");
        let mount: Mount = "target=/b,\"volume-label=a=x,y\"".parse().unwrap();
        assert_eq!(
            (mount.0.r#type.as_str(), mount.0.labels["a"].as_str()),
            ("volume", "x,y")
        );
        let mount: Mount = "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700"
            .parse()
            .unwrap();
        assert_eq!(
            (mount.0.tmpfs_bytes, mount.0.tmpfs_mode),
            (Some(1 << 20), Some(0o700))
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        let words = |text: &str| text.parse::<Mount>().unwrap_err();
        assert_eq!(words("type=bind"), "target is required");
        assert_eq!(
            words("target=/a,bogus=1"),
            "unexpected key 'bogus' in 'bogus=1'"
        );
        assert_eq!(
            words("target=/a,bogus"),
            "invalid field 'bogus' must be a key=value pair"
        );
        assert_eq!(words("target=/a,ro=x"), "invalid value for ro: x");
    }
}
