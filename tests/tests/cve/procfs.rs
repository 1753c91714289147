//! Writes to /proc by the runtime, redirected; and files there that belong to the whole host.

use serde_json::json;

const SYSCTL: &str = "net.ipv4.ip_default_ttl";

/// Another mount namespace, in which a file has been mounted over the one to be written.
#[test]
fn cve_2025_52881_a_sysctl_is_not_written_to_what_is_mounted_over_it() {
    bundle!(host, bundle);
    host.write("/srv/victim", "");
    host.sh("mkdir -p /srv/fake/sys/net/ipv4; echo >/srv/fake/sys/net/ipv4/ip_default_ttl")
        .run()
        .ok();
    let file = "/proc/sys/net/ipv4/ip_default_ttl";
    for hostile in [
        format!("mount --bind /srv/victim {file}"),
        "mount --bind /srv/fake/sys/net /proc/sys/net".into(),
        "mount --bind /srv/fake /proc".into(),
        "mount --bind /proc/sys/net/ipv6 /proc/sys/net/ipv4".into(),
    ] {
        let script = format!("unshare -m -n sh -c '{hostile}; echo; exec sleep 600'");
        let holder = host.sh(&format!("exec {script}")).start();
        holder.line();
        let pid = host.sh("for p in /proc/[0-9]*; do test \"$(tr '\\0' ' ' <$p/cmdline)\" = 'sleep 600 ' && echo ${p#/proc/}; done 2>/dev/null; true").run().ok();
        bundle.namespace("mount", Some(&format!("/proc/{pid}/ns/mnt")));
        // Each network namespace has its own files there.
        bundle.namespace("network", Some(&format!("/proc/{pid}/ns/net")));
        bundle.config["mounts"] = json!([]);
        bundle.config["linux"]["maskedPaths"] = json!([]);
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        bundle.config["linux"]["sysctl"] = json!({SYSCTL: "77"});
        let ran = bundle.script("echo it runs").run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{hostile}: {ran}");
        let files = host.sh("cat /srv/victim /srv/fake/sys/net/ipv4/*").run().ok();
        assert_eq!(files, "", "{hostile}");
        drop(holder);
    }
}

/// The root file system has files where a proc file system would be, and a volume lies over it.
#[test]
fn cve_2025_52881_sysctls_are_the_kernels() {
    bundle!(host, bundle);
    let fake = bundle.rootfs("/proc/sys/net/ipv4/ip_default_ttl");
    host.write(&fake, "");
    bundle.config["linux"]["sysctl"] = json!({SYSCTL: "77"});
    assert_eq!(bundle.script("cat /proc/sys/net/ipv4/ip_default_ttl").run().ok(), "77");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.script("true").run().ok();
    assert_eq!(host.read(&fake), "");
}

#[test]
fn sysctls_of_the_whole_host_are_refused() {
    bundle!(host, bundle);
    for name in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "net/x/../../kernel/core_pattern",
        "fs.suid_dumpable",
        "kernel.hostname",
        "net",
        "net/",
        "/kernel/core_pattern",
        "fs/mqueue/../suid_dumpable",
    ] {
        bundle.config["linux"]["sysctl"] = json!({name: "1"});
        let ran = bundle.script("echo it runs").run();
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{name}: {ran}");
    }
    // Both spellings of names with dots in them refer to one file.
    for name in ["net.ipv4.conf.lo.rp_filter", "net/ipv4/conf/lo/rp_filter"] {
        bundle.config["linux"]["sysctl"] = json!({name: "2"});
        assert_eq!(bundle.script("cat /proc/sys/net/ipv4/conf/lo/rp_filter").run().ok(), "2");
    }
}

/// By any path: nothing is written, and each file that can be opened is named.
#[test]
fn core_pattern_and_the_like_cannot_be_opened_for_writing() {
    bundle!(host, bundle);
    let script = "for root in '' /proc/self/root /proc/1/root /proc/self/cwd /proc/self/task/1/root; do
            for file in sys/kernel/core_pattern sys/kernel/modprobe sysrq-trigger irq/default_smp_affinity \
                sys/fs/binfmt_misc/register sys/vm/drop_caches bus/pci; do
                (exec 3>>$root/proc/$file) 2>/dev/null && echo $root/proc/$file
            done
        done
        mount -t proc proc /mnt 2>/dev/null && echo mounted
        mount -o remount,rw /proc/sys 2>/dev/null && echo remounted
        umount /proc/sys 2>/dev/null && echo unmounted
        true";
    assert_eq!(bundle.script(script).run().ok(), "");
    bundle.sleeping();
    assert_eq!(bundle.exec("", script).ok(), "");
}
