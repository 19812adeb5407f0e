//! A user's own profile in Docker's form, resolved for one container: rules
//! whose `includes` and `excludes` do not hold are dropped, `archMap` becomes
//! the list of architectures, and what is left is the runtime's.

use crate::error::{Kind, Result};
use serde_json::{Value, json};

use super::Facts;

/// The profile in `text` as runtime-spec `linux.seccomp`.
///
/// # Errors
/// InvalidArgument, saying where it is not a profile.
pub fn custom(text: &str, facts: &Facts<'_>) -> Result<Value> {
    let invalid = |why: &str| Kind::InvalidArgument.error(format!("seccomp profile: {why}"));
    let mut profile: Value = serde_json::from_str(text).map_err(|err| {
        Kind::InvalidArgument
            .error("decode seccomp profile")
            .because(err)
    })?;
    let Some(object) = profile.as_object_mut() else {
        return Err(invalid("expected an object"));
    };
    if !object.get("defaultAction").is_some_and(Value::is_string) {
        return Err(invalid("/defaultAction is missing"));
    }
    let map = object.remove("archMap");
    if let Some(maps) = map.as_ref().and_then(Value::as_array) {
        object.insert(
            "architectures".to_owned(),
            json!(architectures(maps, facts.arch)),
        );
    }
    let rules = object.remove("syscalls").unwrap_or_else(|| json!([]));
    let rules = rules
        .as_array()
        .ok_or_else(|| invalid("/syscalls is not a list"))?;
    let kept: Vec<Value> = rules
        .iter()
        .filter(|rule| {
            holds(&rule["includes"], facts, true) && holds(&rule["excludes"], facts, false)
        })
        .map(of_runtime)
        .collect();
    object.insert("syscalls".to_owned(), json!(kept));
    Ok(profile)
}

/// Whether one side of a rule's conditions lets it through: of `includes` all
/// must hold, of `excludes` none may.
fn holds(conditions: &Value, facts: &Facts<'_>, including: bool) -> bool {
    let words = |key: &str| -> Vec<&str> {
        let list = conditions[key].as_array();
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let (arches, caps) = (words("arches"), words("caps"));
    let kernel = conditions["minKernel"].as_str().and_then(version);
    if including {
        (arches.is_empty() || arches.contains(&facts.arch))
            && caps.iter().all(|cap| facts.caps.contains(cap))
            && kernel.is_none_or(|least| facts.kernel >= least)
    } else {
        !arches.contains(&facts.arch)
            && !caps.iter().any(|cap| facts.caps.contains(cap))
            && kernel.is_none_or(|least| facts.kernel < least)
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A rule without what only Docker reads.
fn of_runtime(rule: &Value) -> Value {
    let mut rule = rule.clone();
    if let Some(fields) = rule.as_object_mut() {
        for key in ["includes", "excludes", "comment"] {
            fields.remove(key);
        }
        // The old form has one name in place of a list.
        if let Some(name) = fields.remove("name").filter(Value::is_string) {
            fields.insert("names".to_owned(), json!([name]));
        }
        fields.retain(|_, value| !value.is_null());
    }
    rule
}

fn architectures(maps: &[Value], arch: &str) -> Vec<String> {
    let own = match arch {
        "amd64" => "SCMP_ARCH_X86_64",
        "arm64" => "SCMP_ARCH_AARCH64",
        "s390x" => "SCMP_ARCH_S390X",
        "riscv64" => "SCMP_ARCH_RISCV64",
        "loong64" => "SCMP_ARCH_LOONGARCH64",
        _ => return Vec::new(),
    };
    let mut found = vec![own.to_owned()];
    for map in maps.iter().filter(|map| map["architecture"] == own) {
        let others = map["subArchitectures"].as_array();
        found.extend(
            others
                .into_iter()
                .flatten()
                .filter_map(|other| Some(other.as_str()?.to_owned())),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_a_profile_are_those_of_the_container() {
        let text = r#"{
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
                {"names": ["a"], "action": "SCMP_ACT_ALLOW", "comment": "c", "includes": {}, "excludes": {}},
                {"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["c"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"name": "d", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"names": ["e"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}}
            ]}"#;
        let facts = Facts {
            arch: "amd64",
            kernel: (6, 1),
            caps: &[],
        };
        let profile = custom(text, &facts).unwrap();
        let names: Vec<_> = profile["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| &rule["names"][0])
            .collect();
        assert_eq!(names, ["a", "c", "d"]);
        assert_eq!(
            profile["architectures"],
            json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
        );
        assert_eq!(
            profile["syscalls"][0],
            json!({"names": ["a"], "action": "SCMP_ACT_ALLOW"})
        );
        assert!(custom("{", &facts).is_err());
        assert!(custom("{}", &facts).is_err());
    }
}
