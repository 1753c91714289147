//! mounts.

use garth_tests::{Bundle, Host, needs, until};
use serde_json::{Value, json};

use crate::{Mounted, mount_of, mounted, refused};

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|one| one == word)
}

#[test]
fn the_default_file_systems() {
    bundle!(host, bundle);
    let table = bundle.script("cat /proc/self/mountinfo").run().ok();
    for (point, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
    ] {
        let mount = mounted(&table, point).unwrap_or_else(|| panic!("no {point} in\n{table}"));
        assert_eq!(mount.kind, kind);
    }
}

#[test]
fn tmpfs_with_size_and_mode() {
    bundle!(host, bundle);
    bundle.mount("/scratch", "tmpfs", "scratch", &["size=64k", "mode=1700", "nosuid"]);
    let mount = mount_of(&mut bundle, "/scratch");
    assert_eq!((&*mount.kind, &*mount.source), ("tmpfs", "scratch"));
    assert!(has(&mount.superblock, "size=64k") && has(&mount.options, "nosuid"), "{mount:?}");
    assert_eq!(bundle.script("stat -c %a /scratch").run().ok(), "1700");
}

#[test]
fn devpts_with_gid_and_mode() {
    bundle!(host, bundle);
    let mount = mount_of(&mut bundle, "/dev/pts");
    for word in ["gid=5", "mode=620", "ptmxmode=666"] {
        assert!(has(&mount.superblock, word), "{mount:?}");
    }
}

#[test]
fn proc_with_options() {
    bundle!(host, bundle);
    bundle.config["mounts"][0]["options"] = json!(["nosuid", "nodev", "noexec", "hidepid=2"]);
    let mount = mount_of(&mut bundle, "/proc");
    assert!(has(&mount.options, "noexec"), "{mount:?}");
    assert!(mount.superblock.iter().any(|word| word.starts_with("hidepid=")), "{mount:?}");
}

#[test]
fn are_made_in_the_listed_order() {
    bundle!(host, bundle);
    bundle.mount("/a", "tmpfs", "first", &[]);
    bundle.mount("/a/b", "tmpfs", "second", &[]);
    bundle.mount("/a/b/c", "tmpfs", "third", &[]);
    bundle.mount("/a/b", "tmpfs", "fourth", &[]);
    let table = bundle.script("cat /proc/self/mountinfo").run().ok();
    assert_eq!(mounted(&table, "/a/b").unwrap().source, "fourth");
    assert_eq!(mounted(&table, "/a/b/c").unwrap().source, "third");
}

#[test]
fn bind_can_be_written() {
    bundle!(host, bundle);
    host.write("/srv/data/file", "text");
    bundle.mount("/data", "bind", "/srv/data", &["bind"]);
    let text = bundle.script("cat /data/file; echo new >/data/made").run().ok();
    assert_eq!((&*text, &*host.read("/srv/data/made")), ("text", "new\n"));
}

#[test]
fn bind_ro() {
    bundle!(host, bundle);
    host.write("/srv/data/file", "text");
    bundle.mount("/data", "none", "/srv/data", &["bind", "ro"]);
    let text = bundle.script("cat /data/file; touch /data/made 2>&1").run().stdout;
    assert!(text.starts_with("text") && text.contains("Read-only file system"), "{text}");
    // The source stays unchanged.
    host.write("/srv/data/other", "");
}

#[test]
fn bind_of_a_file() {
    bundle!(host, bundle);
    host.write("/srv/file", "text");
    bundle.mount("/etc/inside", "bind", "/srv/file", &["bind", "ro"]);
    let text = bundle.script("cat /etc/inside; (echo x >/etc/inside) 2>&1").run().stdout;
    assert!(text.starts_with("text") && text.contains("Read-only file system"), "{text}");
}

#[test]
fn bind_from_a_relative_source() {
    bundle!(host, bundle);
    host.write(&bundle.dir("beside/file"), "text");
    bundle.mount("/data", "bind", "beside", &["bind"]);
    assert_eq!(bundle.script("cat /data/file").run().ok(), "text");
}

#[test]
fn bind_by_its_option_alone() {
    bundle!(host, bundle);
    host.write("/srv/data/file", "text");
    let mount = json!({"destination": "/data", "source": "/srv/data", "options": ["bind"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    assert_eq!(bundle.script("cat /data/file").run().ok(), "text");
}

/// /srv/data with a mount in it, on /srv/data/sub.
fn tree(host: &Host) {
    let script =
        "mkdir -p /srv/data/sub; mount -t tmpfs sub /srv/data/sub; echo text >/srv/data/sub/file";
    host.sh(script).run().ok();
}

fn fell(host: &Host) {
    host.sh("umount /srv/data/sub").run().ok();
}

#[test]
fn bind_leaves_what_is_mounted_below() {
    bundle!(host, bundle);
    tree(&host);
    bundle.mount("/data", "bind", "/srv/data", &["bind"]);
    assert_eq!(bundle.script("ls /data/sub").run().ok(), "");
    fell(&host);
}

#[test]
fn rbind_takes_what_is_mounted_below() {
    bundle!(host, bundle);
    tree(&host);
    bundle.mount("/data", "bind", "/srv/data", &["rbind", "ro"]);
    let script = "cat /data/sub/file; touch /data/new || echo top; touch /data/sub/new && echo sub";
    assert_eq!(bundle.script(script).run().ok(), "text\ntop\nsub");
    fell(&host);
}

fn recursive(option: &str, found: &str) {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    tree(&host);
    bundle.mount("/data", "bind", "/srv/data", &["rbind", option]);
    let table = bundle.script("cat /proc/self/mountinfo").run().ok();
    for point in ["/data", "/data/sub"] {
        let mount = mounted(&table, point).unwrap();
        assert!(has(&mount.options, found), "{option}: {mount:?}");
    }
    fell(&host);
}

macro_rules! recursive {
    ($($name:ident $option:literal $found:literal),+) => {
        $(#[test] fn $name() { needs!(root); recursive($option, $found); })+
    };
}

recursive!(recursive_rro "rro" "ro", recursive_rnosuid "rnosuid" "nosuid",
    recursive_rnodev "rnodev" "nodev", recursive_rnoexec "rnoexec" "noexec",
    recursive_rnoatime "rnoatime" "noatime", recursive_rnodiratime "rnodiratime" "nodiratime",
    recursive_rrelatime "rrelatime" "relatime", recursive_rnosymfollow "rnosymfollow" "nosymfollow");

/// An option of the mount below is removed.
fn recursive_clears(option: &str, from: &str) {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    tree(&host);
    host.sh(&format!("mount -o remount,bind,{from} /srv/data/sub")).run().ok();
    bundle.mount("/data", "bind", "/srv/data", &["rbind", option]);
    let mount = mount_of(&mut bundle, "/data/sub");
    assert!(!has(&mount.options, from), "{option}: {mount:?}");
    fell(&host);
}

macro_rules! recursive_clears {
    ($($name:ident $option:literal $from:literal),+) => {
        $(#[test] fn $name() { needs!(root); recursive_clears($option, $from); })+
    };
}

recursive_clears!(recursive_rsuid "rsuid" "nosuid", recursive_rdev "rdev" "nodev",
    recursive_rexec "rexec" "noexec", recursive_ratime "ratime" "noatime",
    recursive_rdiratime "rdiratime" "nodiratime", recursive_rstrictatime "rstrictatime" "relatime",
    recursive_rsymfollow "rsymfollow" "nosymfollow");

#[test]
fn recursive_rrw_takes_read_only_away() {
    bundle!(host, bundle);
    tree(&host);
    host.sh("mount -o remount,bind,ro /srv/data/sub").run().ok();
    bundle.mount("/data", "bind", "/srv/data", &["rbind", "rrw"]);
    assert!(has(&mount_of(&mut bundle, "/data/sub").options, "rw"));
    fell(&host);
}

fn flag(options: &[&str], found: &[&str], missing: &[&str]) {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.write("/srv/data/file", "text");
    let bind: Vec<&str> = [&["bind"], options].concat();
    bundle.mount("/bound", "bind", "/srv/data", &bind);
    bundle.mount("/made", "tmpfs", "made", options);
    let table = bundle.script("cat /proc/self/mountinfo").run().ok();
    for point in ["/bound", "/made"] {
        let mount = mounted(&table, point).unwrap();
        assert!(found.iter().all(|word| has(&mount.options, word)), "{options:?}: {mount:?}");
        assert!(!missing.iter().any(|word| has(&mount.options, word)), "{options:?}: {mount:?}");
    }
}

macro_rules! flags {
    ($($name:ident $options:tt $found:tt $missing:tt),+) => {
        $(#[test] fn $name() { needs!(root); flag(&$options, &$found, &$missing); })+
    };
}

flags!(
    flag_ro ["ro"] ["ro"] ["rw"],
    flag_rw ["rw"] ["rw"] ["ro"],
    flag_nosuid ["nosuid"] ["nosuid"] [],
    flag_nodev ["nodev"] ["nodev"] [],
    flag_noexec ["noexec"] ["noexec"] [],
    flag_noatime ["noatime"] ["noatime"] ["relatime"],
    flag_nodiratime ["nodiratime"] ["nodiratime"] [],
    flag_relatime ["relatime"] ["relatime"] ["noatime"],
    flag_strictatime ["strictatime"] ["rw"] ["noatime", "relatime"],
    flag_nosymfollow ["nosymfollow"] ["nosymfollow"] [],
    flag_the_last_word_wins ["noexec", "nosuid", "exec", "suid", "ro", "rw"] ["rw"] ["noexec", "nosuid", "ro"],
    flag_defaults ["defaults"] ["rw"] ["nosuid", "nodev", "noexec"]
);

fn sync_flag(option: &str) {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.mount("/made", "tmpfs", "made", &[option]);
    let mount = mount_of(&mut bundle, "/made");
    assert!(has(&mount.superblock, option), "{mount:?}");
}

#[test]
fn flag_sync() {
    needs!(root);
    sync_flag("sync");
}

#[test]
fn flag_lazytime() {
    needs!(root);
    sync_flag("lazytime");
}

#[test]
fn flag_remount_changes_what_is_mounted() {
    bundle!(host, bundle);
    bundle.mount("/made", "tmpfs", "made", &["mode=755"]);
    bundle.mount("/made", "tmpfs", "made", &["remount", "ro", "nosuid"]);
    let script = "grep -c ' /made ' /proc/self/mountinfo; touch /made/x 2>&1";
    let text = bundle.script(script).run().stdout;
    assert!(text.starts_with("1\n") && text.contains("Read-only file system"), "{text}");
    assert!(has(&mount_of(&mut bundle, "/made").options, "nosuid"));
}

#[test]
fn flag_remount_of_what_is_not_mounted_is_refused() {
    bundle!(host, bundle);
    bundle.mount("/etc", "tmpfs", "made", &["remount", "ro"]);
    refused(&mut bundle);
}

#[test]
fn flag_dirsync() {
    needs!(root);
    sync_flag("dirsync");
}

#[test]
fn nosymfollow_is_felt() {
    bundle!(host, bundle);
    host.sh("mkdir /srv/data; echo text >/srv/data/file; ln -s file /srv/data/link").run().ok();
    bundle.mount("/data", "bind", "/srv/data", &["bind", "nosymfollow"]);
    let text = bundle.script("cat /data/file; cat /data/link 2>&1").run().stdout;
    assert!(text.starts_with("text\n") && text.contains("Too many levels"), "{text}");
}

/// The propagation of /data, from a mount that is shared.
fn propagation(option: &str) -> Mounted {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    host.sh("mkdir /srv/data; mount -t tmpfs data /srv/data; mount --make-shared /srv/data")
        .run()
        .ok();
    bundle.mount("/data", "bind", "/srv/data", &["rbind", option]);
    let mount = mount_of(&mut bundle, "/data");
    host.sh("umount /srv/data").run().ok();
    mount
}

macro_rules! propagation {
    ($($name:ident $option:literal $found:expr),+) => {
        $(#[test] fn $name() {
            needs!(root);
            let mount = propagation($option);
            let found: fn(&[String]) -> bool = $found;
            assert!(found(&mount.propagation), "{mount:?}");
        })+
    };
}

fn starts(list: &[String], word: &str) -> bool {
    list.iter().any(|one| one.starts_with(word))
}

propagation!(
    propagation_private "private" |list| list.is_empty(),
    propagation_rprivate "rprivate" |list| list.is_empty(),
    propagation_slave "slave" |list| starts(list, "master:") && !starts(list, "shared:"),
    propagation_rslave "rslave" |list| starts(list, "master:") && !starts(list, "shared:"),
    propagation_shared "shared" |list| starts(list, "shared:"),
    propagation_rshared "rshared" |list| starts(list, "shared:"),
    propagation_unbindable "unbindable" |list| starts(list, "unbindable"),
    propagation_runbindable "runbindable" |list| starts(list, "unbindable")
);

#[test]
fn propagation_slave_sees_what_is_mounted_later() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    host.sh("mkdir /srv/data; mount -t tmpfs data /srv/data; mount --make-shared /srv/data
        mkdir /srv/data/later")
        .run()
        .ok();
    bundle.config["linux"]["rootfsPropagation"] = "rslave".into();
    bundle.mount("/data", "bind", "/srv/data", &["rbind", "rslave"]);
    bundle.sleeping();
    host.sh("mount -t tmpfs later /srv/data/later; echo text >/srv/data/later/file").run().ok();
    until("it is seen inside", || {
        (bundle.exec("", "cat /data/later/file").stdout == "text").then_some(())
    });
    bundle.delete_force().ok();
    host.sh("umount /srv/data/later /srv/data").run().ok();
}

#[test]
fn propagation_shared_is_seen_outside() {
    bundle!(host, bundle);
    host.sh("mkdir /srv/data; mount -t tmpfs data /srv/data; mount --make-shared /srv/data
        mkdir /srv/data/later")
        .run()
        .ok();
    bundle.config["linux"]["rootfsPropagation"] = "shared".into();
    bundle.mount("/data", "bind", "/srv/data", &["rbind", "rshared"]);
    bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    bundle.script("mount -t tmpfs later /data/later && echo text >/data/later/file; sleep 600");
    bundle.detach().ok();
    until("it is seen outside", || host.path("/srv/data/later/file").exists().then_some(()));
    bundle.delete_force().ok();
    host.sh("umount /srv/data/later /srv/data").run().ok();
}

#[test]
fn tmpcopyup() {
    bundle!(host, bundle);
    host.write(&bundle.rootfs("tree/dir/file"), "text");
    host.sh(&format!("chmod 750 {0}; chown 7:8 {0}/dir/file", bundle.rootfs("tree"))).run().ok();
    bundle.mount("/tree", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let script = "cat /tree/dir/file; echo; stat -c %u:%g /tree/dir/file; echo new >/tree/new
        grep -c ' /tree ' /proc/self/mountinfo";
    assert_eq!(bundle.script(script).run().ok(), "text\n7:8\n1");
    assert!(!host.path(&bundle.rootfs("tree/new")).exists());
}

fn map(host: u32, container: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": 65536}])
}

/// A bind mount of /srv/data with a mapping: ids that are 0 there are 5000 in it.
fn mapped(bundle: &mut Bundle, options: &[&str]) {
    bundle.mount("/data", "bind", "/srv/data", options);
    let mount = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    mount["uidMappings"] = map(5000, 0);
    mount["gidMappings"] = map(6000, 0);
}

#[test]
fn idmap() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    host.sh("mkdir /srv/data; touch /srv/data/file; chown 7:8 /srv/data/file").run().ok();
    mapped(&mut bundle, &["bind", "idmap"]);
    let script = "stat -c %u:%g /data /data/file";
    assert_eq!(bundle.script(script).run().ok(), "5000:6000\n5007:6008");
}

#[test]
fn idmap_with_a_user_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    host.sh("mkdir /srv/data; touch /srv/data/file").run().ok();
    bundle.user_namespace(5000);
    bundle.config["linux"]["gidMappings"] = map(6000, 0);
    host.sh(&format!("chown -hR 5000:6000 {}", bundle.rootfs(""))).run().ok();
    mapped(&mut bundle, &["bind", "idmap"]);
    bundle.script("stat -c %u:%g /data/file; touch /data/made");
    assert_eq!(bundle.run().ok(), "0:0");
    assert_eq!(host.sh("stat -c %u:%g /srv/data/made").run().ok(), "0:0");
}

#[test]
fn idmap_with_the_mapping_of_the_user_namespace() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    host.sh("mkdir /srv/data; touch /srv/data/file").run().ok();
    bundle.user_namespace(200_000);
    bundle.mount("/data", "bind", "/srv/data", &["bind", "idmap"]);
    assert_eq!(bundle.script("stat -c %u:%g /data/file").run().ok(), "0:0");
}

#[test]
fn idmap_is_not_recursive() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    tree(&host);
    mapped(&mut bundle, &["rbind", "idmap"]);
    let script = "stat -c %u:%g /data /data/sub/file";
    assert_eq!(bundle.script(script).run().ok(), "5000:6000\n0:0");
    fell(&host);
}

#[test]
fn ridmap_is_recursive() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    tree(&host);
    mapped(&mut bundle, &["rbind", "ridmap"]);
    let script = "stat -c %u:%g /data /data/sub/file";
    assert_eq!(bundle.script(script).run().ok(), "5000:6000\n5000:6000");
    fell(&host);
}

#[test]
fn idmap_without_any_mapping_is_refused() {
    bundle!(host, bundle);
    host.write("/srv/data/file", "");
    bundle.mount("/data", "bind", "/srv/data", &["bind", "idmap"]);
    refused(&mut bundle);
}

#[test]
fn a_relative_destination_is_below_the_root() {
    bundle!(host, bundle);
    bundle.mount("some/where", "tmpfs", "tmpfs", &[]);
    assert_eq!(mount_of(&mut bundle, "/some/where").kind, "tmpfs");
}

#[test]
fn a_destination_that_is_not_there_is_made() {
    bundle!(host, bundle);
    host.write("/srv/data/file", "text");
    bundle.mount("/a/b/dir", "bind", "/srv/data", &["bind"]);
    bundle.mount("/c/d/file", "bind", "/srv/data/file", &["bind"]);
    bundle.mount("/e/f", "tmpfs", "tmpfs", &[]);
    let script = "cat /a/b/dir/file /c/d/file; grep -c ' /e/f ' /proc/self/mountinfo";
    assert_eq!(bundle.script(script).run().ok(), "texttext1");
}

#[test]
fn a_destination_by_symbolic_links_stays_inside() {
    bundle!(host, bundle);
    host.sh(&format!(
        "mkdir /srv/victim; cd {}; mkdir -p real srv/victim; ln -s /real absolute; ln -s ../../../../srv/victim up
        ln -s /srv/victim out",
        bundle.rootfs("")
    ))
    .run()
    .ok();
    bundle.mount("/absolute", "tmpfs", "one", &[]);
    bundle.mount("/up/made", "tmpfs", "two", &[]);
    bundle.mount("/out/here", "tmpfs", "three", &[]);
    let table = bundle.script("cat /proc/self/mountinfo").run().ok();
    for (point, source) in
        [("/real", "one"), ("/srv/victim/made", "two"), ("/srv/victim/here", "three")]
    {
        let mount = mounted(&table, point).unwrap_or_else(|| panic!("no {point} in\n{table}"));
        assert_eq!(mount.source, source);
    }
    assert_eq!(host.sh("ls /srv/victim").run().ok(), "");
}

#[test]
fn a_bind_on_a_symbolic_link_to_a_file_stays_inside() {
    bundle!(host, bundle);
    host.write("/srv/file", "new");
    host.write("/srv/victim", "old");
    host.write(&bundle.rootfs("srv/victim"), "inner");
    host.sh(&format!("ln -s /srv/victim {}", bundle.rootfs("etc/link"))).run().ok();
    bundle.mount("/etc/link", "bind", "/srv/file", &["bind"]);
    assert_eq!(bundle.script("cat /etc/link").run().ok(), "new");
    assert_eq!(host.read("/srv/victim"), "old");
}

#[test]
fn a_source_that_is_not_there_is_refused() {
    bundle!(host, bundle);
    bundle.mount("/data", "bind", "/srv/nothing", &["bind"]);
    refused(&mut bundle);
}

#[test]
fn an_unknown_file_system_is_refused() {
    bundle!(host, bundle);
    bundle.mount("/data", "teafs", "tea", &[]);
    refused(&mut bundle);
}

#[test]
fn an_option_that_the_file_system_rejects_is_refused() {
    bundle!(host, bundle);
    bundle.mount("/data", "tmpfs", "tmpfs", &["tea=green"]);
    refused(&mut bundle);
}

#[test]
fn a_file_on_a_directory_is_refused() {
    bundle!(host, bundle);
    host.write("/srv/file", "");
    bundle.mount("/etc", "bind", "/srv/file", &["bind"]);
    refused(&mut bundle);
}

#[test]
fn proc_anywhere_but_on_a_real_proc_is_refused() {
    bundle!(host, bundle);
    host.write("/srv/data/file", "");
    bundle.mount("/proc/self", "bind", "/srv/data", &["bind"]);
    refused(&mut bundle);
}

#[test]
fn overlay() {
    bundle!(host, bundle);
    host.sh("cd /srv; mkdir lower upper work; echo text >lower/file").run().ok();
    bundle.mount(
        "/data",
        "overlay",
        "overlay",
        &["lowerdir=/srv/lower", "upperdir=/srv/upper", "workdir=/srv/work"],
    );
    assert_eq!(bundle.script("cat /data/file; echo new >/data/new").run().ok(), "text");
    assert_eq!(host.read("/srv/upper/new"), "new\n");
}

#[test]
fn cgroup_shows_the_containers_own() {
    garth_tests::needs!(v1);
    bundle!(host, bundle);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let script = "head -n 1 /sys/fs/cgroup/memory/cgroup.procs
        touch /sys/fs/cgroup/x && echo made; mkdir /sys/fs/cgroup/memory/x && echo made; true";
    assert_eq!(bundle.script(script).run().ok(), "1");
}

#[test]
fn cgroup_rro() {
    bundle!(host, bundle);
    bundle.namespace("cgroup", None);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "rro"]);
    let script = "touch /sys/fs/cgroup/x && echo made
        mkdir /sys/fs/cgroup/memory/x && echo made; echo end";
    assert_eq!(bundle.script(script).run().ok(), "end");
}

#[test]
fn cgroup_in_a_cgroup_namespace() {
    garth_tests::needs!(v1);
    bundle!(host, bundle);
    bundle.namespace("cgroup", None);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let script = "cat /sys/fs/cgroup/memory/cgroup.procs | head -n 1
        grep :memory: /proc/self/cgroup; cat /proc/self/mountinfo";
    let text = bundle.script(script).run().ok();
    let (first, table) = text.split_once("/\n").unwrap();
    assert!(first.starts_with("1\n") && first.ends_with(":memory:"), "{text}");
    let mount = mounted(table, "/sys/fs/cgroup/memory").unwrap();
    assert_eq!((&*mount.kind, &*mount.root), ("cgroup", "/"));
}

#[test]
fn cgroup_that_can_be_written() {
    garth_tests::needs!(v1);
    bundle!(host, bundle);
    bundle.namespace("cgroup", None);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    let script =
        "cd /sys/fs/cgroup/pids; mkdir sub && cat sub/cgroup.procs && rmdir sub && echo ok";
    assert_eq!(bundle.script(script).run().ok(), "ok");
}

#[test]
fn a_read_only_tmpfs_has_the_mode_of_the_directory_that_it_covers() {
    bundle!(host, bundle);
    host.sh(&format!("mkdir -m 751 {}", bundle.rootfs("data"))).run().ok();
    bundle.mount("/data", "tmpfs", "tmpfs", &["ro"]);
    let script = "stat -c %a /data; touch /data/file 2>/dev/null || echo read-only";
    assert_eq!(bundle.script(script).run().ok(), "751\nread-only");
}

#[test]
fn a_tmpfs_with_nothing_to_copy_is_everybodys() {
    bundle!(host, bundle);
    bundle.mount("/none", "tmpfs", "tmpfs", &["tmpcopyup"]);
    assert_eq!(bundle.script("stat -c %a /none").run().ok(), "1777");
}

#[test]
fn a_source_that_is_locked_read_only_stays_so_or_is_refused_with_the_reason() {
    garth_tests::needs!(userns);
    bundle!(host, bundle);
    host.sh("mkdir /srv/locked; mount --bind /srv/locked /srv/locked; mount -o remount,bind,ro /srv/locked")
        .run()
        .ok();
    bundle.user_namespace(100_000);
    bundle.mount("/mnt", "bind", "/srv/locked", &["rbind", "rw"]);
    let ran = bundle.script("touch /mnt/file && echo written || cat /proc/self/mountinfo").run();
    host.sh("umount /srv/locked").run().ok();
    if ran.code == 0 {
        assert!(mounted(&ran.ok(), "/mnt").unwrap().options.contains(&"ro".to_owned()));
    } else {
        assert!(bundle.logged_error().contains("locked"), "{ran}");
    }
}
