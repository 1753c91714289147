//! RAID volumes as far as no RAID is needed: which volume a name means, who uses one, and what is
//! refused. With md and servers: tests/vm/cases/raid-use.sh.

use garth_tests::{Host, needs};

const RAID: &str = "/var/lib/garth/raid";

/// A volume that is stopped: nothing listens where its only server is.
fn record(name: &str) -> String {
    format!(
        r#"{{"name": "{name}", "host": "here", "phase": "ready",
        "devices": ["iscsi://127.0.0.1:1/iqn.2020-01.com.example:a", "/srv/other.img"],
        "places": {{"shape": {{"layout": "mirror", "arrays": 1, "members": 2, "copies": 2}},
            "arrays": [[0, 1]]}},
        "chunk": 524288, "size": null, "capacity": null,
        "arrays": ["11223344:55667788:99aabbcc:ddeeff00"], "stripe": null,
        "file_system": "ext4"}}"#
    )
}

fn with_volume(host: &Host) {
    host.write(&format!("{RAID}/data/record.json"), &record("data"));
}

/// What was written by hand is removed.
#[track_caller]
fn assert_nothing_left(host: &Host) {
    host.sh("rm -rf /var/lib/garth").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_name_means_a_raid_volume_if_there_is_one() {
    needs!(root);
    let host = Host::with_services();
    with_volume(&host);
    host.write("/srv/data/file", "beside\n");
    let explained = host.garth("explain wrap -v data:/data true").run().ok();
    for line in [
        "out  assemble RAID volume data (garth volume assemble), mount it for /data, attached nowhere else",
        "attach /dev/md/garth-data to /data",
    ] {
        assert!(explained.contains(line), "{explained}");
    }
    let ran = host.sh("cd /srv && $GARTH wrap --name web -v data:/data -- true").run();
    assert!(ran.stderr.contains("garth volume assemble --degraded data"), "{ran}");
    ran.refused(125, "RAID volume data: connect to 127.0.0.1:1: ECONNREFUSED");
    // Nobody uses it, and no directory was made in its place.
    assert_eq!(
        host.sh(&format!("ls {RAID}/data /var/lib/garth")).run().ok().matches("user.").count(),
        0
    );
    assert!(!host.path("/var/lib/garth/volumes").exists());
    assert_nothing_left(&host);
}

#[test]
fn a_name_of_two_volumes_is_refused() {
    needs!(root);
    let host = Host::with_services();
    host.garth("wrap -v data:/data true").run().ok();
    let files = "/srv/one.img /srv/other.img";
    let create = format!("volume create data --layout mirror --mirrors 2 --size 16M {files}");
    host.sh(&format!("truncate -s 32M {files}")).run().ok();
    let ran = host.garth(&create).run();
    assert!(ran.code == 125 && ran.stderr.contains("a directory has the name data"), "{ran}");
    assert!(!host.path(RAID).exists());
    with_volume(&host);
    let says = "data is a RAID volume, and the directory /var/lib/garth/volumes/data";
    host.garth("wrap -v data:/data true").run().refused(125, says);
    host.garth("explain wrap -v data:/data true").run().refused(125, says);
    // A path is a path.
    host.garth("wrap -v /var/lib/garth/volumes/data:/data true").run().ok();
    assert_nothing_left(&host);
}

#[test]
fn without_root_a_raid_volume_is_refused() {
    needs!(root, userns, "setpriv");
    let host = Host::with_services();
    host.write("/srv/home/.local/state/garth/raid/data/record.json", &record("data"));
    let ran = host.sh(
        "mkdir -p /srv/bin && chown -R 4321:4321 /srv/home && cp $GARTH /srv/bin/garth && cd /srv/home &&
        exec env -i PATH=/srv/bin:$PATH HOME=/srv/home \
        setpriv --reuid 4321 --regid 4321 --clear-groups garth wrap -v data:/data true",
    );
    ran.run().refused(125, "RAID volume data: only root can mount it");
    assert_nothing_left(&host);
}

#[test]
fn who_uses_a_volume_is_said_by_name_and_forgotten_when_gone() {
    needs!(root);
    let host = Host::with_services();
    with_volume(&host);
    host.garth("wrap -d --name web sleep 1000").run().ok();
    host.sh(&format!(
        "cd {RAID}/data && ln -s 'sandbox web /run/garth' user.0 &&
        ln -s 'sandbox gone /run/garth' user.1 && ln -s 'container web /run/garth' user.7"
    ))
    .run()
    .ok();
    for verb in ["stop", "destroy"] {
        let ran = host.garth(&format!("volume {verb} data")).run();
        ran.refused(125, "volume data is in use by sandbox web; end what uses it first");
    }
    let gone = host.garth("gc").run().ok();
    for user in ["sandbox gone", "container web"] {
        assert!(gone.contains(&format!("removed use of volume data by {user}")), "{gone}");
    }
    assert_eq!(host.sh(&format!("ls {RAID}/data")).run().ok(), "record.json\nuser.0");
    host.garth("delete --force web").run().ok();
    assert!(host.garth("gc").run().ok().contains("by sandbox web"));
    assert_nothing_left(&host);
}

#[test]
fn a_creation_that_was_killed_before_its_record_is_in_nobodys_way() {
    needs!(root);
    let host = Host::with_services();
    with_volume(&host);
    host.sh(&format!("mkdir -m 700 {RAID}/new")).run().ok();
    let says =
        "the creation of volume new ended before it began; repeat it, or garth volume destroy new";
    for words in ["volume status new", "volume assemble new", "wrap -v new:/data true"] {
        let ran = host.garth(words).run();
        assert!(ran.code == 125 && ran.stderr.contains(says), "{words}: {ran}");
    }
    let listed = host.garth("volume ls").run();
    assert!(listed.code == 0 && listed.stdout.contains("data"), "{listed}");
    assert!(listed.stderr.contains("garth volume destroy new"), "{listed}");
    assert_eq!(host.garth("volume ls -q").run().ok(), "data\nnew");
    // Other volumes can be made: it gets as far as to the devices.
    let create = host.garth("volume create more --mirrors 2 /srv/none.img /srv/none2.img").run();
    assert!(create.stderr.contains("/srv/none.img"), "{create}");
    host.garth("volume destroy new").run().ok();
    assert_eq!(host.garth("volume ls -q").run().ok(), "data");
}
