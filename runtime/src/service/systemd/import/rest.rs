//! Every other directive: true of each sandbox, or not carried over, with the reason.

use crate::service::systemd::reader::UnitReader;
use crate::service::systemd::values::boolean;

/// What becomes of a directive.
enum Fate {
    /// Each sandbox is so.
    Implied,
    /// It has no meaning without systemd.
    Systemds,
    /// Why it is not carried over.
    Lost(&'static str),
}

/// Says what became of the directives that nothing has read.
pub fn rest(r: &mut UnitReader<'_>) {
    let mut about_systemd = Vec::new();
    let mut untaken = r.untaken();
    untaken.sort_by_key(|(_, key, _)| key.starts_with("Condition") || key.starts_with("Assert"));
    let devices = untaken.iter().any(|(_, key, _)| key == "PrivateDevices");
    let mut unchecked = Vec::new();
    for (section, key, value) in untaken {
        if section.starts_with("X-") || key.starts_with("X-") {
            continue;
        }
        if key.starts_with("Condition") || key.starts_with("Assert") {
            unchecked.push(format!("{key}={value}"));
            continue;
        }
        let fate = match section.as_str() {
            "Install" => Fate::Systemds,
            "Unit" => of_unit(&key),
            "Service" => of_service(&key, &value),
            _ => Fate::Lost("a section that Garth does not know"),
        };
        match fate {
            Fate::Implied => r.draft.implied.push(key),
            Fate::Systemds => about_systemd.push(key),
            Fate::Lost(why) => r.draft.note(format!("{key}={}", short(&value)), why),
        }
    }
    if !devices {
        let text = "no PrivateDevices: /dev has no hardware (volume = [\"/dev/x:/dev/x:dev\"])";
        r.draft.stricter.push(text.into());
    }
    r.draft.stricter.push(
        "/run is private: for syslog, volume = [\"/run/systemd/journal/dev-log:/dev/log\"]; for \
         D-Bus and other sockets, name them in volume likewise"
            .into(),
    );
    let filter =
        "a filter of system calls (seccomp = \"log\" allows and logs what it would refuse)";
    r.draft.stricter.push(filter.into());
    if !unchecked.is_empty() {
        r.draft.note(unchecked.join(", "), "conditions are not checked");
    }
    if !about_systemd.is_empty() {
        about_systemd.dedup();
        r.draft.note(
            about_systemd.join(", "),
            "about systemd's other units; garth.service starts again at boot what was up",
        );
    }
}

fn short(value: &str) -> String {
    match value.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

fn of_unit(key: &str) -> Fate {
    match key {
        "StartLimitAction"
        | "FailureAction"
        | "SuccessAction"
        | "OnFailure"
        | "OnSuccess"
        | "FailureActionExitStatus"
        | "SuccessActionExitStatus"
        | "OnFailureJobMode"
        | "OnSuccessJobMode" => Fate::Lost("nothing else is started when it has failed or ended"),
        "JobTimeoutSec" | "JobTimeoutAction" | "JobRunningTimeoutSec" => {
            Fate::Lost("a start has no time limit")
        }
        "RequiresMountsFor" | "WantsMountsFor" => Fate::Lost("mounts are not waited for"),
        _ => Fate::Systemds,
    }
}

/// `yes` or another value that asks for protection.
fn asked(value: &str) -> bool {
    boolean(value) != Some(false)
}

fn of_service(key: &str, value: &str) -> Fate {
    if key.ends_with("Action") {
        return of_unit(key);
    }
    const LESS: Fate = Fate::Lost("a sandbox has it all the same");
    match key {
        "PrivateDevices"
        | "PrivateIPC"
        | "PrivateMounts"
        | "ProtectHostname"
        | "ProtectClock"
        | "ProtectKernelTunables"
        | "ProtectKernelModules"
        | "ProtectKernelLogs"
        | "ProtectControlGroups"
        | "RestrictSUIDSGID"
        | "RemoveIPC" => {
            if asked(value) {
                Fate::Implied
            } else {
                LESS
            }
        }
        "RestrictNamespaces" if boolean(value) == Some(true) => Fate::Implied,
        "RestrictNamespaces" if boolean(value) == Some(false) => {
            Fate::Lost("no namespaces can be made in a sandbox; a filter of your own may allow it")
        }
        "RestrictNamespaces" => Fate::Lost("no namespaces at all can be made in a sandbox"),
        "RestrictRealtime" => {
            if asked(value) {
                Fate::Implied
            } else {
                Fate::Lost("real-time priorities need cap-add = [\"sys_nice\"]")
            }
        }
        "ProtectProc" if value == "default" => LESS,
        "ProtectProc" | "MountFlags" | "MountAPIVFS" | "DevicePolicy" | "KeyringMode"
        | "UtmpIdentifier" | "UtmpMode" => Fate::Implied,
        "SystemCallArchitectures" if value == "native" => Fate::Implied,
        "SystemCallFilter"
        | "SystemCallErrorNumber"
        | "SystemCallArchitectures"
        | "SystemCallLog" => Fate::Lost(
            "Garth has a filter of its own; for another, seccomp = \"FILE\" in the format of OCI",
        ),
        "MemoryDenyWriteExecute" => Fate::Lost("memory may be writable and executable"),
        "LockPersonality" => Fate::Lost("the filter refuses only those that weaken protection"),
        "PrivateUsers" => Fate::Lost("userns = true gives it ids of its own, which own no files"),
        "ProcSubset" => Fate::Lost("/proc has all files, the dangerous ones masked or read-only"),
        "ExecPaths" | "NoExecPaths" => {
            Fate::Lost("every file may be executed, except in /tmp, /run and the like")
        }
        "DeviceAllow" => Fate::Lost("a device is passed in by volume = [\"/dev/x:/dev/x:dev\"]"),
        "SupplementaryGroups" => {
            Fate::Lost("a user without :GROUP has the groups of /etc/group; add it there")
        }
        "PAMName" => Fate::Lost("no PAM session is opened"),
        "AppArmorProfile" | "SELinuxContext" | "SmackProcessLabel" => {
            Fate::Lost("wrap sets no label")
        }
        "SecureBits" => Fate::Lost("they are locked in a sandbox"),
        "RootImage"
        | "RootImageOptions"
        | "RootHash"
        | "RootVerity"
        | "MountImages"
        | "ExtensionImages"
        | "ExtensionDirectories"
        | "RootEphemeral" => {
            Fate::Lost("images are not mounted: mount it and use rootfs or volume")
        }
        "NetworkNamespacePath" | "JoinsNamespaceOf" | "IPCNamespacePath" => {
            Fate::Lost("a sandbox joins only networks, by network = \"ns:PATH\"")
        }
        "IPAddressAllow"
        | "IPAddressDeny"
        | "IPIngressFilterPath"
        | "IPEgressFilterPath"
        | "SocketBindAllow"
        | "SocketBindDeny"
        | "RestrictNetworkInterfaces"
        | "RestrictFileSystems" => {
            Fate::Lost("use a private network (network = \"private\"), or none")
        }
        "SetCredential"
        | "SetCredentialEncrypted"
        | "LoadCredentialEncrypted"
        | "ImportCredential" => Fate::Lost("pass a file in: secret = [\"FILE:NAME\"]"),
        "Nice"
        | "CPUSchedulingPolicy"
        | "CPUSchedulingPriority"
        | "CPUSchedulingResetOnFork"
        | "IOSchedulingClass"
        | "IOSchedulingPriority"
        | "NUMAPolicy"
        | "NUMAMask" => Fate::Lost("start garth itself with it: nice, chrt, ionice, numactl"),
        "OOMScoreAdjust"
        | "OOMPolicy"
        | "ManagedOOMSwap"
        | "ManagedOOMMemoryPressure"
        | "MemoryHigh"
        | "MemoryLow"
        | "MemoryMin"
        | "DefaultMemoryLow"
        | "MemoryZSwapMax"
        | "CPUWeight"
        | "CPUShares"
        | "StartupCPUWeight"
        | "IOWeight"
        | "IODeviceWeight"
        | "BlockIOWeight"
        | "IODeviceLatencyTargetSec"
        | "AllowedMemoryNodes"
        | "CPUQuotaPeriodSec"
        | "StartupCPUShares" => {
            Fate::Lost("there are limits (memory, cpus, io), but no weights and no protection")
        }
        "StandardOutput"
        | "StandardError"
        | "StandardInput"
        | "SyslogIdentifier"
        | "SyslogFacility"
        | "SyslogLevel"
        | "SyslogLevelPrefix"
        | "LogLevelMax"
        | "LogRateLimitIntervalSec"
        | "LogRateLimitBurst"
        | "LogNamespace"
        | "LogExtraFields"
        | "TTYPath"
        | "TTYReset"
        | "TTYVHangup"
        | "TTYVTDisallocate" => {
            Fate::Lost("the output is kept in the service's log (garth logs); input is empty")
        }
        "RuntimeDirectoryMode"
        | "RuntimeDirectoryPreserve"
        | "StateDirectoryMode"
        | "CacheDirectoryMode"
        | "LogsDirectoryMode"
        | "ConfigurationDirectoryMode" => Fate::Lost(
            "a run-dir belongs to the user and is private; other directories stay as they are",
        ),
        "ExecStartPost" | "ExecStopPost" | "ExecCondition" => {
            Fate::Lost("a service is one command")
        }
        "RemainAfterExit" => Fate::Lost("it is over when its command is"),
        "GuessMainPID" | "NotifyAccess" | "BusName" | "RestartMode" | "ExitType" => Fate::Systemds,
        "WatchdogSec" | "WatchdogSignal" | "FileDescriptorStoreMax" => {
            Fate::Lost("a health check takes the place of the watchdog: health = { ... }")
        }
        "TimeoutStartSec"
        | "TimeoutStartFailureMode"
        | "RuntimeMaxSec"
        | "TimeoutAbortSec"
        | "RuntimeRandomizedExtraSec"
        | "TimeoutStopFailureMode" => {
            Fate::Lost("only its end has a time limit (stop-timeout), and its health check")
        }
        "SuccessExitStatus" | "RestartPreventExitStatus" | "RestartForceExitStatus" => {
            Fate::Lost("a failure is an exit code that is not 0, or a signal")
        }
        "SendSIGHUP" | "SendSIGKILL" | "FinalKillSignal" | "RestartKillSignal"
        | "WatchdogKillSignal" => {
            Fate::Lost("the command gets stop-signal, and after stop-timeout all get SIGKILL")
        }
        "Sockets" => Fate::Lost("sockets of systemd are not passed to a service of a file"),
        "Delegate" | "DelegateSubgroup" | "Slice" => {
            Fate::Lost("its cgroup is read-only inside, and where Garth puts it")
        }
        "CPUAccounting" | "MemoryAccounting" | "TasksAccounting" | "IOAccounting"
        | "IPAccounting" | "BlockIOAccounting" => Fate::Systemds,
        "IgnoreSIGPIPE" => Fate::Lost("signals are as the caller of garth has them"),
        "CoredumpFilter" | "TimerSlackNSec" | "Personality" => Fate::Lost("it is not set"),
        _ => Fate::Lost("not known to Garth"),
    }
}
