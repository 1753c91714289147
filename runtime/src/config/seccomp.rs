//! `linux.seccomp` of the OCI runtime specification 1.3 (config-linux.md, "Seccomp").
//!
//! The types accept what the specification allows and ignore unknown keys, as it requires for a
//! `config.json`. A profile in a file of its own is read by [`Profile::parse`], which is strict: a
//! misspelt key in a security profile must not pass for a looser profile.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// The largest profile file that is read, in bytes. Docker's default is 13 kB.
pub const MAX_BYTES: usize = 1 << 20;

/// An enum whose variants are spelled as in the specification, and the list of the spellings.
macro_rules! spelled {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[allow(clippy::upper_case_acronyms)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// All spellings, for `features`.
            pub const NAMES: &[&str] = &[$($text),*];

            /// The spelling in a profile.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

spelled! {
    /// What happens to a system call.
    Action {
        /// The thread dies by SIGSYS; the same as [`Action::KillThread`].
        Kill = "SCMP_ACT_KILL",
        /// The thread group dies by SIGSYS.
        KillProcess = "SCMP_ACT_KILL_PROCESS",
        /// The thread dies by SIGSYS.
        KillThread = "SCMP_ACT_KILL_THREAD",
        /// SIGSYS is delivered.
        Trap = "SCMP_ACT_TRAP",
        /// The call fails with `errnoRet`.
        Errno = "SCMP_ACT_ERRNO",
        /// A tracer decides; without one, ENOSYS.
        Trace = "SCMP_ACT_TRACE",
        /// The call is allowed.
        Allow = "SCMP_ACT_ALLOW",
        /// The call is allowed and logged.
        Log = "SCMP_ACT_LOG",
        /// A supervisor behind `listenerPath` decides (seccomp_unotify(2)).
        Notify = "SCMP_ACT_NOTIFY",
    }
}

spelled! {
    /// How an argument is compared; all comparisons are unsigned.
    Op {
        /// Not equal.
        Ne = "SCMP_CMP_NE",
        /// Less than.
        Lt = "SCMP_CMP_LT",
        /// Less than or equal.
        Le = "SCMP_CMP_LE",
        /// Equal.
        Eq = "SCMP_CMP_EQ",
        /// Greater than or equal.
        Ge = "SCMP_CMP_GE",
        /// Greater than.
        Gt = "SCMP_CMP_GT",
        /// The argument masked with `value` equals `valueTwo` masked with `value`.
        MaskedEq = "SCMP_CMP_MASKED_EQ",
    }
}

spelled! {
    /// An architecture that the profile covers.
    Arch {
        /// i386.
        X86 = "SCMP_ARCH_X86",
        /// x86_64, 64-bit pointers.
        X86_64 = "SCMP_ARCH_X86_64",
        /// x86_64, 32-bit pointers.
        X32 = "SCMP_ARCH_X32",
        /// 32-bit ARM.
        Arm = "SCMP_ARCH_ARM",
        /// 64-bit ARM.
        Aarch64 = "SCMP_ARCH_AARCH64",
        /// LoongArch.
        Loongarch64 = "SCMP_ARCH_LOONGARCH64",
        /// Motorola 68000.
        M68k = "SCMP_ARCH_M68K",
        /// MIPS.
        Mips = "SCMP_ARCH_MIPS",
        /// MIPS 64.
        Mips64 = "SCMP_ARCH_MIPS64",
        /// MIPS 64 with 32-bit pointers.
        Mips64n32 = "SCMP_ARCH_MIPS64N32",
        /// MIPS, little endian.
        Mipsel = "SCMP_ARCH_MIPSEL",
        /// MIPS 64, little endian.
        Mipsel64 = "SCMP_ARCH_MIPSEL64",
        /// MIPS 64 with 32-bit pointers, little endian.
        Mipsel64n32 = "SCMP_ARCH_MIPSEL64N32",
        /// PA-RISC.
        Parisc = "SCMP_ARCH_PARISC",
        /// PA-RISC 64.
        Parisc64 = "SCMP_ARCH_PARISC64",
        /// PowerPC.
        Ppc = "SCMP_ARCH_PPC",
        /// PowerPC 64.
        Ppc64 = "SCMP_ARCH_PPC64",
        /// PowerPC 64, little endian.
        Ppc64le = "SCMP_ARCH_PPC64LE",
        /// RISC-V.
        Riscv64 = "SCMP_ARCH_RISCV64",
        /// S/390.
        S390 = "SCMP_ARCH_S390",
        /// S/390 64-bit.
        S390x = "SCMP_ARCH_S390X",
        /// SuperH, little endian.
        Sh = "SCMP_ARCH_SH",
        /// SuperH.
        Sheb = "SCMP_ARCH_SHEB",
    }
}

spelled! {
    /// A flag of seccomp(2).
    Flag {
        /// All threads of the process at once. Not in the specification, but found in practice.
        Tsync = "SECCOMP_FILTER_FLAG_TSYNC",
        /// Log every action but ALLOW.
        Log = "SECCOMP_FILTER_FLAG_LOG",
        /// Leave the speculative store bypass mitigation off (Linux 4.17).
        SpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        /// A call waiting for the supervisor is interrupted only by fatal signals (Linux 5.19).
        WaitKillableRecv = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}

/// A filter: a default, and rules that depart from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// For calls that no rule matches.
    pub default_action: Action,
    /// The error number of the default action; EPERM if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Architectures besides the native one, which is always included.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Arch>,
    /// How to load the filter.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// The socket on which a supervisor waits for the listener's descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// Passed on to the supervisor uninterpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<Rule>,
}

/// An action for some calls, optionally only with certain arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls, by name.
    #[serde(deserialize_with = "or_null")]
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// The error number of the action; EPERM if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions, all of which must hold; but if one argument is named twice, any one condition
    /// suffices (what runc does, and profiles rely on).
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg>,
    /// The reason for the rule. Not in the specification; Docker's profiles have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// Which argument, from 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask of [`Op::MaskedEq`].
    pub value: u64,
    /// What the masked argument is compared with.
    #[serde(default, deserialize_with = "or_null")]
    pub value_two: u64,
    /// The comparison.
    pub op: Op,
}

/// Whether it is a file in the format of the crate seccompiler. That is an object of filters by
/// name, where an OCI profile is an object of actions and lists. The contents are checked when it
/// is compiled.
pub fn is_seccompilers(json: &[u8]) -> bool {
    use serde_json::{Map, Value};
    if json.len() > MAX_BYTES {
        return false;
    }
    serde_json::from_slice::<Map<String, Value>>(json).is_ok_and(|filters| {
        let is_filter = |value: &Value| value.get("filter").is_some_and(Value::is_array);
        !filters.is_empty() && filters.values().all(is_filter)
    })
}

/// Go writes an empty list as null.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl Profile {
    /// Reads a profile; `what` names it in errors. Unknown keys, an oversized file and
    /// contradictory contents are errors.
    pub fn parse(json: &[u8], what: &str) -> Result<Profile> {
        let refused = |cause: String| Error::new(format!("seccomp profile {what}: {cause}"));
        if json.len() > MAX_BYTES {
            return Err(refused(format!(
                "{} bytes, more than the maximum of {MAX_BYTES}",
                json.len()
            )));
        }
        let profile: Profile = serde_json::from_slice(json).map_err(|e| refused(e.to_string()))?;
        let tree = serde_json::from_slice(json).map_err(|e| refused(e.to_string()))?;
        if let Some((path, known)) = unknown_key(&tree) {
            return Err(refused(format!("unknown key {path}"))
                .hint(format!("valid keys: {}", known.join(", "))));
        }
        profile.validate().map_err(|e| e.within(format_args!("seccomp profile {what}")))?;
        Ok(profile)
    }

    /// What the types alone cannot check.
    pub fn validate(&self) -> Result<()> {
        check_errno("defaultErrnoRet", self.default_action, self.default_errno_ret)?;
        if self.default_action == Action::Notify {
            return Err(Error::new("defaultAction cannot be SCMP_ACT_NOTIFY").hint(
                "the loader itself could not pass on the listener; list the system calls instead",
            ));
        }
        if self.listener_metadata.is_some() && self.listener_path.is_none() {
            return Err(Error::new("listenerMetadata without listenerPath"));
        }
        let notifies = self.syscalls.iter().any(|rule| rule.action == Action::Notify);
        if self.flags.contains(&Flag::WaitKillableRecv) && !notifies {
            return Err(Error::new(format!(
                "{} without a rule with SCMP_ACT_NOTIFY",
                Flag::WaitKillableRecv.name()
            )));
        }
        for (at, rule) in self.syscalls.iter().enumerate() {
            rule.validate().map_err(|e| e.within(format_args!("syscalls[{at}]")))?;
        }
        Ok(())
    }
}

impl Rule {
    fn validate(&self) -> Result<()> {
        if self.names.is_empty() {
            return Err(Error::new("names: empty"));
        }
        check_errno("errnoRet", self.action, self.errno_ret)?;
        if self.names.iter().any(String::is_empty) {
            return Err(Error::new("names: an empty name"));
        }
        // The descriptor of the listener leaves the sandbox through write(2).
        if self.action == Action::Notify && self.names.iter().any(|name| name == "write") {
            return Err(Error::new("SCMP_ACT_NOTIFY is not possible for write"));
        }
        match self.args.iter().position(|arg| arg.index > 5) {
            Some(at) => Err(Error::new(format!("args[{at}]: index {}", self.args[at].index))
                .hint("arguments are numbered 0 to 5")),
            None => Ok(()),
        }
    }
}

/// An error number only where the action has one, and one the kernel passes on unchanged: it caps
/// numbers at MAX_ERRNO (4095), and a tracer gets 16 bits.
fn check_errno(key: &str, action: Action, errno: Option<u32>) -> Result<()> {
    let most = match (action, errno) {
        (_, None) => return Ok(()),
        (Action::Errno, _) => 4095,
        (Action::Trace, _) => 0xffff,
        (_, Some(_)) => {
            return Err(Error::new(format!("{key}: {} takes no error number", action.name())));
        }
    };
    match errno {
        Some(number) if number > most => {
            Err(Error::new(format!("{key}: {number} is more than {most}")))
        }
        _ => Ok(()),
    }
}

/// The first unknown key, with its path, and the keys that are known there.
fn unknown_key(profile: &serde_json::Value) -> Option<(String, &'static [&'static str])> {
    use serde_json::Value;
    const PROFILE: &[&str] = &[
        "defaultAction",
        "defaultErrnoRet",
        "architectures",
        "flags",
        "listenerPath",
        "listenerMetadata",
        "syscalls",
    ];
    const RULE: &[&str] = &["names", "action", "errnoRet", "args", "comment"];
    const ARG: &[&str] = &["index", "value", "valueTwo", "op"];

    fn stranger<'a>(object: &'a Value, known: &[&str]) -> Option<&'a str> {
        object.as_object()?.keys().map(String::as_str).find(|key| !known.contains(key))
    }
    fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
        object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    if let Some(key) = stranger(profile, PROFILE) {
        return Some((key.to_string(), PROFILE));
    }
    for (at, rule) in list(profile, "syscalls").iter().enumerate() {
        if let Some(key) = stranger(rule, RULE) {
            return Some((format!("syscalls[{at}].{key}"), RULE));
        }
        for (index, arg) in list(rule, "args").iter().enumerate() {
            if let Some(key) = stranger(arg, ARG) {
                return Some((format!("syscalls[{at}].args[{index}].{key}"), ARG));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        Profile::parse(json.as_bytes(), "p.json").unwrap_err().to_string()
    }

    #[test]
    fn every_field_of_the_specification_is_read_and_written() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_S390X"],
            "flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "listenerPath":"/run/agent.sock","listenerMetadata":"x",
            "syscalls":[{"names":["read","openat2"],"action":"SCMP_ACT_NOTIFY","comment":"why",
                "args":[{"index":5,"value":18446744073709551615,"valueTwo":1,
                    "op":"SCMP_CMP_MASKED_EQ"}]},
                {"names":["write"],"action":"SCMP_ACT_TRACE","errnoRet":65535}]}"#;
        let profile = Profile::parse(json.as_bytes(), "p.json").unwrap();
        assert_eq!(profile.syscalls[0].args[0].value, u64::MAX);
        let again = serde_json::to_value(&profile).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(json).unwrap());
    }

    #[test]
    fn go_writes_empty_lists_as_null() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":null,"flags":null,
            "syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","args":null}]}"#;
        assert!(Profile::parse(json.as_bytes(), "p.json").unwrap().syscalls[0].args.is_empty());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        assert_eq!(
            error(r#"{"defaultAction":"SCMP_ACT_ALLOW","syscall":[]}"#),
            "seccomp profile p.json: unknown key syscall; valid keys: defaultAction, \
             defaultErrnoRet, architectures, flags, listenerPath, listenerMetadata, syscalls"
        );
        let rule = r#"{"names":["read"],"action":"SCMP_ACT_LOG","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ","valuetwo":3}]}"#;
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
        assert!(error(&json).contains("unknown key syscalls[0].args[0].valuetwo;"), "{json}");
        // A config.json may have keys of later specifications; the types ignore them.
        assert!(serde_json::from_str::<Profile>(&json).is_ok());
    }

    #[test]
    fn contradictions_are_refused_with_their_place() {
        let with = |rest: &str| error(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{rest}}}"#));
        let rule = |rest: &str| with(&format!(r#""syscalls":[{{"names":["read"],{rest}}}]"#));
        for (error, expected) in [
            (
                with(r#""defaultErrnoRet":1"#),
                "defaultErrnoRet: SCMP_ACT_ALLOW takes no error number",
            ),
            (with(r#""listenerMetadata":"x""#), "listenerMetadata without listenerPath"),
            (with(r#""architectures":["SCMP_ARCH_Z80"]"#), "unknown variant `SCMP_ARCH_Z80`"),
            (
                rule(r#""action":"SCMP_ACT_KILL","errnoRet":1"#),
                "syscalls[0]: errnoRet: SCMP_ACT_KILL",
            ),
            (rule(r#""action":"SCMP_ACT_ERRNO","errnoRet":4096"#), "4096 is more than 4095"),
            (
                rule(
                    r#""action":"SCMP_ACT_LOG","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]"#,
                ),
                "syscalls[0]: args[0]: index 6; arguments are numbered 0 to 5",
            ),
            (error(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#), "cannot be SCMP_ACT_NOTIFY"),
        ] {
            assert!(error.starts_with("seccomp profile p.json: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }
}
