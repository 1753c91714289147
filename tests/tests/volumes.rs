//! Named volumes: `-v NAME:TARGET`, and the key `volume`.

use garth_tests::{Call, Host, needs, until};

const VOLUMES: &str = "/var/lib/garth/volumes";

fn owner(host: &Host, path: &str) -> String {
    host.sh(&format!("stat -c '%u:%g %a' {path}")).run().ok()
}

/// Nothing is left but the volumes, which users remove themselves.
#[track_caller]
fn assert_nothing_else_left(host: &Host) {
    host.sh(&format!("! [ -e {VOLUMES} ] || rm -r {VOLUMES}")).run().ok();
    host.assert_nothing_left();
}

/// A shell script of an ordinary user, in a directory of their own.
fn ordinary(host: &Host, home: &str, script: &str) -> Call {
    host.sh(
        "mkdir -p /srv/home /srv/bin && chown 4321:4321 /srv/home && cp $GARTH /srv/bin/garth &&
        cd /srv/home && exec env -i PATH=/srv/bin:$PATH HOME=$HOME_OF \
        setpriv --reuid 4321 --regid 4321 --clear-groups sh -c \"$SCRIPT\"",
    )
    .env("SCRIPT", script)
    .env("HOME_OF", home)
}

#[test]
fn a_volume_is_made_for_the_commands_user_and_kept() {
    needs!(root);
    let host = Host::with_services();
    let write = "wrap -v data:/data -u nobody";
    host.garth(write).script("echo one > /data/file").run().ok();
    let nobody = owner(&host, &format!("{VOLUMES}/data"));
    assert_eq!(nobody, "65534:65534 755");
    assert_eq!(owner(&host, VOLUMES), "0:0 700");
    // Another sandbox, another user, another place; no one's start changes what is there.
    let read = "wrap --name other -v data:/srv/x:ro";
    let ran = host.garth(read).script("cat /srv/x/file; echo two > /srv/x/file").run();
    assert!(ran.code != 0 && ran.stdout == "one" && ran.stderr.contains("Read-only"), "{ran}");
    host.garth("wrap -v data:/data -u www-data true").run().ok();
    assert_eq!(owner(&host, &format!("{VOLUMES}/data")), nobody);
    host.garth("gc").run().ok();
    assert_eq!(host.read(&format!("{VOLUMES}/data/file")), "one\n");
    assert_nothing_else_left(&host);
}

#[test]
fn starts_at_the_same_time_make_one_volume() {
    needs!(root);
    let host = Host::with_services();
    let script = "for n in 1 2 3 4 5 6 7 8; do
            $GARTH wrap -v data:/data -u nobody -- touch /data/$n || echo failed $n &
        done; wait; ls -A /var/lib/garth/volumes /var/lib/garth/volumes/data | tr '\\n' ' '";
    let expected = "/var/lib/garth/volumes: data  /var/lib/garth/volumes/data: 1 2 3 4 5 6 7 8";
    assert_eq!(host.sh(script).run().ok().trim(), expected);
    assert_nothing_else_left(&host);
}

#[test]
fn a_volume_of_a_user_namespace_belongs_to_the_id_that_is_mapped() {
    needs!(root, userns);
    let host = Host::with_services();
    for (user, owned) in [("www-data", "300033:300033 755"), ("root", "300000:300000 755")] {
        let words = format!("wrap --userns=300000:65536 -v {user}:/data -u {user}");
        let ran = host.garth(&words).script("touch /data/file && stat -c %U /data/file").run();
        assert_eq!(ran.ok(), user);
        assert_eq!(owner(&host, &format!("{VOLUMES}/{user}")), owned);
    }
    // What is mounted in one is not mounted on the host.
    host.sh("mkdir /srv/place && mount --make-shared /var/lib").run().ok();
    let script = "mount -t tmpfs none /srv/place && touch /srv/place/inside";
    let words = "wrap --profile compat --userns=300000:65536 -v root:/srv/place";
    host.garth(words).script(script).run().ok();
    let seen = host.sh(&format!("ls {VOLUMES}/root; mount --make-private /var/lib"));
    assert_eq!(seen.run().ok(), "file");
    host.garth("wrap --userns=300000:10 -u www-data -v new:/data true").run().refused(125, "id 33");
    assert!(!host.path(&format!("{VOLUMES}/new")).exists());
    assert_nothing_else_left(&host);
}

#[test]
fn an_ordinary_users_volumes_are_in_their_home_directory() {
    needs!(root, userns, "setpriv");
    let host = Host::with_services();
    for user in ["", "-u 33"] {
        let script = format!("garth wrap {user} -v data:/data -- sh -c 'echo >> /data/file'");
        ordinary(&host, "/srv/home", &script).run().ok();
    }
    let data = "/srv/home/.local/state/garth/volumes/data";
    assert_eq!(owner(&host, data), "4321:4321 755");
    assert_eq!(host.read(&format!("{data}/file")), "\n\n");
    // After su, HOME is another user's, and the state directory does not outlive a reboot.
    let lost = ordinary(&host, "/root", "garth wrap -v data:/data true").run();
    lost.refused(125, "-v data:/data: a volume needs a directory that outlives a reboot");
    assert_nothing_else_left(&host);
}

#[test]
fn with_a_state_directory_volumes_are_below_it_and_seen_only_where_asked_for() {
    needs!(root);
    let host = Host::with_services();
    host.garth("--root /srv/state wrap -v data:/data").script("echo x > /data/file").run().ok();
    assert_eq!(host.read("/srv/state/volumes/data/file"), "x\n");
    assert!(!host.path(VOLUMES).exists());
    host.garth("wrap -v own:/data true").run().ok();
    for (root, dir) in [("--root /srv/state", "/srv/state/volumes"), ("", "/var/lib/garth")] {
        let ran = host.garth(&format!("{root} wrap ls -A {dir}")).run();
        assert!(ran.code == 0 && ran.stdout.is_empty(), "{ran}");
        // Of the same start that makes it.
        let ran = host.garth(&format!("{root} wrap -v new:/data ls -A {dir}")).run();
        assert!(ran.code == 0 && ran.stdout.is_empty(), "{ran}");
    }
    assert_nothing_else_left(&host);
}

#[test]
fn services_share_a_volume_which_outlives_restart_and_down() {
    needs!(root);
    let host = Host::with_services();
    host.write("/srv/own/file", "beside\n");
    host.write(
        "/srv/garth.toml",
        r#"[service.db]
        command = ["sh", "-c", "echo run >> /data/runs; exec sleep 1000"]
        user = "nobody"
        volume = ["data:/data", "./own:/own"]
        restart = "always"
        [service.reader]
        command = ["sh", "-c", "cat /data/runs /own/file; exec sleep 1000"]
        user = "www-data"
        volume = ["data:/data:ro", "./own:/own:ro"]
        after = ["db"]
        "#,
    );
    let runs = || host.read(&format!("{VOLUMES}/data/runs")).lines().count();
    let up = || host.garth("up -f /srv/garth.toml").run().ok();
    up();
    assert_eq!(host.garth("logs reader").run().ok(), "run\nbeside");
    assert!(up().contains("db      is up already"));
    host.garth("kill --signal KILL db").run().ok();
    until("it has run twice", || (runs() == 2).then_some(()));
    host.garth("down -f /srv/garth.toml").run().ok();
    // But the beginning of one whose maker was killed is.
    host.sh("mkdir /var/lib/garth/volumes/.new").run().ok();
    let gone = host.garth("gc").run().ok();
    assert!(gone.contains("removed unfinished volume"), "{gone}");
    up();
    until("it has run again", || (runs() == 3).then_some(()));
    host.garth("down -f /srv/garth.toml").run().ok();
    assert_eq!(owner(&host, &format!("{VOLUMES}/data")), "65534:65534 755");
    assert_nothing_else_left(&host);
}

#[test]
fn explaining_makes_no_volume() {
    needs!(root);
    let host = Host::with_services();
    let text = host.garth("explain wrap -u nobody -v data:/data true").run().ok();
    let made = format!("volume data: make {VOLUMES}/data for uid 65534, gid 65534");
    assert!(text.contains(&made), "{text}");
    assert!(text.contains(&format!("bind {VOLUMES}/data on /data")), "{text}");
    assert!(!host.path("/var/lib/garth").exists());
}

#[test]
fn one_that_could_be_another_thing_is_refused() {
    needs!(root);
    let host = Host::with_services();
    host.garth("wrap -v data:/data true").run().ok();
    for name in ["..", ".", "-x", ".new"] {
        let says = format!("\"{name}\" is not a valid volume name");
        host.garth(&format!("wrap -v={name}:/data true")).run().refused(125, &says);
    }
    let with = |setup: &str, name: &str, says: &str| {
        host.sh(&format!("cd {VOLUMES}; {setup}")).run().ok();
        host.garth(&format!("wrap -v {name}:/data ls /data")).run().refused(125, says);
        host.garth(&format!("explain wrap -v {name}:/data true")).run().refused(125, says);
    };
    with("ln -s /etc link", "link", "volumes/link is not a directory");
    with("touch file", "file", "volumes/file is not a directory");
    with("chmod 711 .", "data", "can be entered by others");
    with("chmod 700 .; chmod 777 ..", "data", "is writable by others");
    with("chmod 700 ..; chown 4321 .", "data", "belongs to another user");
    with("cd ..; mv volumes old; ln -s old volumes", "data", "garth/volumes is not a directory");
}

#[test]
fn a_new_volume_with_the_name_of_a_file_here_is_pointed_out() {
    needs!(root);
    let host = Host::with_services();
    host.write("/srv/data/file", "path\n");
    let run = |script: &str| host.sh(&format!("cd /srv; {script}")).run();
    let ran = run("$GARTH wrap -v data:/data -- ls /data");
    assert!(ran.code == 0 && ran.stdout.is_empty(), "{ran}");
    assert!(ran.stderr.contains("a new volume, not data; for that, write ./data"), "{ran}");
    let ran = run("$GARTH wrap -v data:/data -- ls /data");
    assert!(ran.code == 0 && ran.stderr.is_empty(), "{ran}");
    assert_eq!(run("$GARTH wrap -v ./data:/data -- cat /data/file").ok(), "path");
}
