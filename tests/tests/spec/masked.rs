//! linux.maskedPaths and linux.readonlyPaths.

use serde_json::json;

#[test]
fn a_masked_file_reads_as_empty() {
    bundle!(host, bundle);
    host.write(&bundle.rootfs("secret"), "secret");
    bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/proc/version"]);
    let script = "wc -c </secret; wc -c </proc/version; echo x >/secret; cat /secret";
    assert_eq!(bundle.script(script).run().ok(), "0\n0");
    assert_eq!(host.read(&bundle.rootfs("secret")), "secret");
}

#[test]
fn a_masked_directory_is_empty_and_read_only() {
    bundle!(host, bundle);
    host.write(&bundle.rootfs("secrets/one"), "secret");
    bundle.config["linux"]["maskedPaths"] = json!(["/secrets"]);
    let script = "ls -A /secrets; cat /secrets/one; touch /secrets/made && echo made; true";
    assert_eq!(bundle.script(script).run().ok(), "");
}

#[test]
fn a_masked_path_that_is_not_there_is_ignored() {
    bundle!(host, bundle);
    bundle.config["linux"]["maskedPaths"] = json!(["/nothing", "/proc/nothing/at/all"]);
    bundle.run().ok();
}

#[test]
fn a_masked_path_stays_inside_the_root_file_system() {
    bundle!(host, bundle);
    host.write("/srv/outside", "outside");
    let rootfs = bundle.rootfs("");
    host.sh(&format!("cd {rootfs} && ln -s /srv/outside link && ln -s ../../../srv/outside up"))
        .run()
        .ok();
    bundle.config["linux"]["maskedPaths"] = json!(["/link", "/up"]);
    bundle.run();
    assert_eq!(host.read("/srv/outside"), "outside");
}

#[test]
fn readonly_paths() {
    bundle!(host, bundle);
    host.write(&bundle.rootfs("etc/file"), "text");
    host.write(&bundle.rootfs("tree/file"), "text");
    bundle.config["linux"]["readonlyPaths"] = json!(["/etc/file", "/tree"]);
    let script = "(echo x >/etc/file) 2>&1; (echo x >/tree/file) 2>&1; (echo x >/tree/new) 2>&1;
        echo x >/etc/other && cat /etc/file /tree/file";
    let text = bundle.script(script).run().ok();
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    assert!(text.ends_with("texttext"), "{text}");
}

#[test]
fn readonly_proc_sys() {
    bundle!(host, bundle);
    let text = bundle.script("(echo x >/proc/sys/kernel/domainname) 2>&1").run().stdout;
    assert!(text.contains("Read-only file system"), "{text}");
}

#[test]
fn a_readonly_path_that_is_not_there_is_ignored() {
    bundle!(host, bundle);
    bundle.config["linux"]["readonlyPaths"] = json!(["/nothing", "/proc/nothing/at/all"]);
    bundle.run().ok();
}

#[test]
fn masked_paths_hold_for_exec() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/version"]);
    bundle.sleeping();
    assert_eq!(bundle.exec("", "wc -c </proc/version").ok(), "0");
}
