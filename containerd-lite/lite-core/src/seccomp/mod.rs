//! The default seccomp profile, resolved for one container: [`resolve`] drops
//! the rules whose conditions (capabilities, architecture, kernel) do not hold
//! and writes the rest as runtime-spec `linux.seccomp`.

mod custom;
mod rules;

pub use custom::custom;

use serde_json::{Value, json};

/// What a rule does with a call.
#[derive(Debug, Clone, Copy)]
enum Action {
    Allow,
    /// Answer this error number.
    Errno(u32),
}

#[derive(Debug, Clone, Copy)]
enum Compare {
    Less,
    Equal,
    Greater,
    /// The argument and the value have no bit in common.
    MaskedEqual,
}

/// A condition on one argument of the call.
#[derive(Debug)]
struct Arg {
    index: u32,
    value: u64,
    op: Compare,
}

/// One row of the profile. Empty lists set no condition; `arches` and `caps`
/// want one, or all, of what they list; `not_…` want none of it.
#[derive(Debug)]
struct Rule {
    names: &'static [&'static str],
    action: Action,
    args: &'static [Arg],
    min_kernel: Option<(u32, u32)>,
    arches: &'static [&'static str],
    caps: &'static [&'static str],
    not_arches: &'static [&'static str],
    not_caps: &'static [&'static str],
}

/// What the conditions of the profile look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Go's name of the machine: `amd64`, `arm64`.
    pub arch: &'a str,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// The bounding set, as `CAP_…`.
    pub caps: &'a [&'a str],
}

impl Rule {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let is_here = |arch: &&str| *arch == facts.arch;
        let granted = |cap: &&str| facts.caps.contains(cap);
        (self.arches.is_empty() || self.arches.iter().any(is_here))
            && self.caps.iter().all(granted)
            && self.min_kernel.is_none_or(|least| facts.kernel >= least)
            && !self.not_arches.iter().any(is_here)
            && !self.not_caps.iter().any(granted)
    }

    fn json(&self) -> Value {
        let mut rule = json!({ "names": self.names });
        match self.action {
            Action::Allow => rule["action"] = json!("SCMP_ACT_ALLOW"),
            Action::Errno(number) => {
                rule["action"] = json!("SCMP_ACT_ERRNO");
                rule["errnoRet"] = json!(number);
            }
        }
        if !self.args.is_empty() {
            rule["args"] = self.args.iter().map(Arg::json).collect();
        }
        rule
    }
}

impl Arg {
    fn json(&self) -> Value {
        let op = match self.op {
            Compare::Less => "SCMP_CMP_LT",
            Compare::Equal => "SCMP_CMP_EQ",
            Compare::Greater => "SCMP_CMP_GT",
            Compare::MaskedEqual => "SCMP_CMP_MASKED_EQ",
        };
        json!({ "index": self.index, "value": self.value, "op": op })
    }
}

/// The profile as runtime-spec `linux.seccomp`. What no rule names answers
/// `EPERM`.
#[must_use]
pub fn resolve(facts: &Facts<'_>) -> Value {
    let architectures: &[&str] = match facts.arch {
        "amd64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "arm64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        "loong64" => &["SCMP_ARCH_LOONGARCH64"],
        // Without a list the runtime filters its own architecture.
        _ => &[],
    };
    let rules = rules::RULES
        .iter()
        .filter(|rule| rule.holds(facts))
        .map(Rule::json);
    let mut profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "syscalls": rules.collect::<Vec<_>>(),
    });
    if !architectures.is_empty() {
        profile["architectures"] = json!(architectures);
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_for<'a>(profile: &'a Value, call: &str) -> Vec<&'a Value> {
        let rules = profile["syscalls"].as_array().unwrap();
        rules
            .iter()
            .filter(|r| r["names"].as_array().unwrap().iter().any(|n| n == call))
            .collect()
    }

    fn profile(arch: &str, kernel: (u32, u32), caps: &[&str]) -> Value {
        resolve(&Facts { arch, kernel, caps })
    }

    #[test]
    fn clone3_answers_enosys_without_sys_admin_and_is_allowed_with_it() {
        let plain = profile("amd64", (6, 1), &[]);
        let clone3 = rules_for(&plain, "clone3");
        assert_eq!(clone3.len(), 1);
        assert_eq!(clone3[0]["errnoRet"], 38);
        let admin = profile("amd64", (6, 1), &["CAP_SYS_ADMIN"]);
        let clone3 = rules_for(&admin, "clone3");
        assert_eq!(clone3.len(), 1);
        assert_eq!(clone3[0]["action"], "SCMP_ACT_ALLOW");
    }

    #[test]
    fn clone_without_sys_admin_may_make_no_namespace() {
        let plain = profile("amd64", (6, 1), &[]);
        let clone = rules_for(&plain, "clone");
        assert_eq!(clone.len(), 1);
        assert_eq!(
            clone[0]["args"][0],
            json!({"index": 0, "value": 0x7e02_0000, "op": "SCMP_CMP_MASKED_EQ"})
        );
    }

    #[test]
    fn rules_of_other_machines_and_newer_kernels_are_left_out() {
        let old = profile("amd64", (4, 4), &[]);
        assert!(rules_for(&old, "ptrace").is_empty());
        assert!(!rules_for(&profile("amd64", (5, 0), &[]), "ptrace").is_empty());
        assert!(rules_for(&old, "s390_pci_mmio_read").is_empty());
        assert!(rules_for(&profile("arm64", (6, 1), &[]), "arch_prctl").is_empty());
        assert!(!rules_for(&old, "arch_prctl").is_empty());
    }

    #[test]
    fn a_capability_opens_its_calls() {
        assert!(rules_for(&profile("amd64", (6, 1), &[]), "reboot").is_empty());
        assert_eq!(
            rules_for(&profile("amd64", (6, 1), &["CAP_SYS_BOOT"]), "reboot").len(),
            1
        );
    }
}
