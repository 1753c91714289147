//! Where a command starts, what its paths refer to, and what it can open and create there.

use garth_tests::{Host, Ran, needs};

/// The output of `garth wrap` with these words, called from this directory of the test host.
fn from(host: &Host, dir: &str, words: &str) -> Ran {
    host.sh(&format!("cd {dir} && exec $GARTH wrap {words}")).run()
}

#[test]
fn a_command_begins_where_the_caller_is_if_that_is_there_inside() {
    needs!(root);
    let host = Host::new();
    // A private /tmp, so that nothing is left in the machine's.
    host.sh("mount -t tmpfs tmpfs /tmp; mkdir -p /tmp/job/below /run/job /srv/job").run().ok();
    for (dir, words) in [
        ("/srv/job", ""),
        ("/tmp/job", "--rw /tmp/job"),
        ("/tmp/job/below", "--rw /tmp/job"),
        ("/tmp/job", "-v /tmp/job:/tmp/job"),
        ("/run/job", "-v /run/job:/run/job:ro"),
    ] {
        let ran = from(&host, dir, &format!("{words} -- pwd"));
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, dir, ""), "{words}");
    }
    let ran = from(&host, "/tmp/job", "-- pwd");
    assert_eq!((ran.code, &*ran.stdout), (0, "/"), "{ran}");
    assert!(ran.stderr.contains("starts in /") && ran.stderr.contains("/tmp/job"), "{ran}");
    // Requested by name, it is an error.
    assert!(from(&host, "/tmp/job", "-w . -- pwd").fails(125).contains("no such directory"));
}

#[test]
fn a_directory_that_the_user_cannot_enter_is_the_root_unless_it_was_asked_for() {
    needs!(root);
    let host = Host::new();
    host.sh("mkdir -p /srv/home/clone; chmod 700 /srv/home").run().ok();
    let ran = from(&host, "/srv/home/clone", "-u www-data -- pwd");
    assert_eq!((ran.code, &*ran.stdout), (0, "/"), "{ran}");
    for word in ["starts in /", "/srv/home/clone", "EACCES"] {
        assert!(ran.stderr.contains(word), "{word}: {ran}");
    }
    assert_eq!(from(&host, "/srv/home/clone", "-- pwd").ok(), "/srv/home/clone");
    let asked = from(&host, "/srv/home/clone", "-u www-data -w . -- pwd");
    assert!(asked.fails(125).contains("the sandbox's user may not enter it"));
    // A process that joins it later is in the same place.
    let script = "cd /srv/home/clone && $GARTH wrap -d --name web -u www-data -- sleep 100 2>&1 &&
        cd / && $GARTH exec web -- pwd; $GARTH kill web KILL";
    let said = host.sh(script).run().ok();
    assert!(said.contains("starts in /") && said.ends_with("web\n/"), "{said}");
}

#[test]
fn paths_may_be_relative_have_dots_and_colons_and_need_be_no_text() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/a/real/file", "here\n");
    let bytes = r"n=$(printf 'x\377y'); mkdir -p '/srv/a/c:d' /srv/other /srv/a/$n; echo bytes >/srv/a/$n/file
        echo colon >'/srv/a/c:d/file'; ln -s /srv/a/real /srv/other/link; echo up >/srv/a/file";
    host.sh(bytes).run().ok();
    for (words, text) in [
        ("-v ./real:/mnt", "here"),
        ("-v real/../real:/mnt", "here"),
        ("-v ./real:/usr/../mnt/.", "here"),
        // As the kernel resolves it: from where the link leads.
        ("-v ../other/link/..:/mnt", "up"),
        (r"-v './c\:d:/mnt'", "colon"),
        (r#"--name bytes -v "./$(printf 'x\377y')":/mnt"#, "bytes"),
    ] {
        assert_eq!(
            from(&host, "/srv/a", &format!("{words} -- cat /mnt/file")).ok(),
            text,
            "{words}"
        );
    }
    from(&host, "/srv/a", "--rw ../a/real -- touch /srv/a/real/made").ok();
    assert_eq!(from(&host, "/srv/a", "-w real -- sh -c 'pwd; ls'").ok(), "/srv/a/real\nfile\nmade");
    assert!(from(&host, "/srv/a", "-v gone/../real:/mnt -- true").fails(125).contains("ENOENT"));
    host.assert_nothing_left();
}

#[test]
fn temporary_directories_are_for_everybody_that_a_daemon_of_root_becomes() {
    needs!(root, "setpriv");
    let host = Host::new();
    let script = "stat -c '%a %U' /tmp /var/tmp /dev/shm; \
        setpriv --reuid 33 --regid 33 --clear-groups touch /tmp/x /var/tmp/x /dev/shm/x; echo $?";
    let root = host.garth("wrap").script(script).run().ok();
    assert_eq!(root, "1777 root\n1777 root\n1777 root\n0");
    let user =
        host.garth("wrap -u www-data").script("stat -c '%a %U' /tmp /var/tmp /dev/shm").run();
    assert_eq!(user.ok(), "770 www-data\n770 www-data\n770 www-data");
}

#[test]
fn standard_output_can_be_opened_by_its_name() {
    needs!(root, "script");
    let host = Host::new();
    let script = "echo out >/dev/stdout; echo error >/dev/stderr";
    let run = |how: &str| host.sh(&how.replace("RUN", &format!("sh -c '{script}'"))).run();
    run("$GARTH wrap -- RUN >/srv/out 2>/srv/error").ok();
    assert_eq!((&*host.read("/srv/out"), &*host.read("/srv/error")), ("out\n", "error\n"));
    // A pipe belongs to its owner, a different user.
    assert_eq!(run("$GARTH wrap -u www-data -- RUN 2>&1 | cat").ok(), "out\nerror");
    let terminal =
        host.sh("script -qec \"$GARTH wrap -- sh -c 'echo term >/dev/stdout'\" /dev/null");
    assert_eq!(terminal.run().ok().trim(), "term");
    // A descriptor opened read-only cannot be reopened for more this way, though its mount is the
    // host's.
    host.write("/srv/in", "kept\n");
    let ran = host.sh("$GARTH wrap -- sh -c 'echo x >/proc/self/fd/0' </srv/in").run();
    assert!(ran.code != 0 && ran.stderr.contains("Permission denied"), "{ran}");
    assert_eq!(host.read("/srv/in"), "kept\n");
}

#[test]
fn no_file_that_gives_its_owners_rights_is_left_behind() {
    needs!(root, "/usr/bin/python3");
    let host = Host::new();
    host.sh("mkdir /srv/open; touch /srv/open/f").run().ok();
    // chmod, fchmodat, fchmodat2, mknod, open with O_CREAT and O_TMPFILE, openat2
    let python = r#"
import ctypes, os
c = ctypes.CDLL(None, use_errno=True).syscall
d, at = b"/srv/open", -100
for bits in 0o4755, 0o2755:
    for number, *args in (
        (90, d + b"/f", bits), (91, os.open(d + b"/f", os.O_RDWR), bits), (268, at, d + b"/f", bits),
        (452, at, d + b"/f", bits, 0), (133, d + b"/n", 0o100000 | bits, 0),
        (259, at, d + b"/n", 0o100000 | bits, 0), (85, d + b"/c", bits),
        (2, d + b"/o", os.O_CREAT | os.O_RDWR, bits), (257, at, d + b"/o", os.O_CREAT | os.O_RDWR, bits),
        (2, d, os.O_TMPFILE | os.O_RDWR, bits), (257, at, d, os.O_TMPFILE | os.O_RDWR, bits),
        (437, at, d, (ctypes.c_uint64 * 3)(os.O_TMPFILE | os.O_RDWR, bits, 0), 24),
    ):
        if c(number, *args) >= 0: print("made by", number, oct(bits))
os.close(os.open(d + b"/plain", os.O_CREAT | os.O_RDWR, 0o755))
os.chmod(d + b"/f", 0o1755)
os.mkdir(d + b"/dir", 0o6755)
"#;
    host.write("/srv/try.py", python);
    let tried = "/usr/bin/python3 /srv/try.py; find /srv/open -perm /6000";
    assert_eq!(host.garth("wrap --rw /srv/open").script(tried).run().ok(), "");
    // Nor can the file behind standard output become one, which the caller has made.
    let script = "$GARTH wrap -- sh -c 'chmod 4755 /proc/self/fd/1' >/srv/out; stat -c %a /srv/out";
    assert_eq!(host.sh(script).run().ok(), "644");
    let allowed = "chmod 4755 /srv/open/f; stat -c %a /srv/open/f";
    assert_eq!(host.garth("wrap --rw /srv/open --allow-suid").script(allowed).run().ok(), "4755");
}

#[test]
fn a_mount_point_that_is_missing_on_the_host_is_there_inside_and_nothing_else_changes() {
    needs!(root, userns);
    let host = Host::new();
    host.sh(
        "mkdir -p /srv/tree/dir/deep; echo f >/srv/tree/dir/deep/file; ln -s dir /srv/tree/link
        chmod 751 /srv/tree; chown 1:2 /srv/tree; mkdir /srv/tree/other
        mount -t tmpfs tmpfs /srv/tree/other; touch /srv/tree/other/mounted",
    )
    .run()
    .ok();
    let words =
        "wrap -v /etc:/srv/tree/new/below --tmpfs /srv/tree/tmp -v /etc/group:/srv/tree/hosts";
    let script =
        "cd /srv/tree && ls && stat -c '%a %u:%g' . && cat link/deep/file && readlink link &&
        cmp hosts /etc/group && test -e new/below/passwd && ls other && echo x >tmp/x &&
        for d in . dir other new; do touch $d/x 2>&1; done";
    let ran = host.garth(words).script(script).run();
    let expected = "dir\nhosts\nlink\nnew\nother\ntmp\n751 1:2\nf\ndir\nmounted\n";
    assert_eq!(
        ran.stdout.strip_prefix(expected).map(|rest| rest.lines().count()),
        Some(4),
        "{ran}"
    );
    assert_eq!(ran.stdout.matches("Read-only file system").count(), 4, "{ran}");
    assert_eq!(host.sh("ls /srv/tree").run().ok(), "dir\nlink\nother");
    // In the root itself, with and without privileges over it.
    for words in ["wrap", "wrap --userns=100000:65536", "wrap -u www-data"] {
        let words = format!("{words} --tmpfs /cache --tmpfs /store/a -v /etc:/var/web");
        let ran = host
            .garth(&words)
            .script("touch /cache/x /store/a/x && cat /var/web/hostname; touch /x");
        let ran = ran.run();
        assert_eq!(ran.stdout, host.read("/etc/hostname").trim(), "{ran}");
        assert!(ran.stderr.contains("Read-only file system"), "{ran}");
    }
    // What the host creates later is visible.
    let script = "mkdir /srv/hold; mkfifo /srv/hold/go; \
        $GARTH wrap --tmpfs /srv/tree/tmp -- sh -c 'read x </srv/hold/go; cat /srv/tree/dir/later' & \
        ls /srv/tree/dir/later 2>/dev/null; echo late >/srv/tree/dir/later; echo >/srv/hold/go; wait";
    assert_eq!(host.sh(script).run().ok(), "late");
}

#[test]
fn what_is_mounted_on_the_root_is_the_root() {
    needs!(root, "busybox");
    let host = Host::new();
    host.sh("mkdir -p /srv/root/bin && cp $(command -v busybox) /srv/root/bin/busybox").run().ok();
    let run = |words: &str, script: &str| {
        let call = host.garth(words).arg("--").arg("/bin/busybox").arg("sh").arg("-c").arg(script);
        call.run()
    };
    host.sh("mkdir -p /srv/root/proc /srv/root/dev /srv/root/sys").run().ok();
    let ran = run("wrap -v /srv/root:/:ro", "/bin/busybox ls /bin /proc/self/comm; : >/bin/x");
    assert!(ran.stdout.contains("busybox") && ran.stdout.contains("/proc/self/comm"), "{ran}");
    assert!(ran.stderr.contains("Read-only file system"), "{ran}");
    let ran =
        run("wrap --tmpfs / -v /srv/root/bin:/bin", "/bin/busybox ls / && : >/x && echo made");
    assert!(ran.stdout.ends_with("made") && !ran.stdout.contains("srv"), "{ran}");
    // The host's own, where its file systems allow it: here /srv is the test's.
    let ran = host.garth("wrap --rw /").script("echo x >/srv/made && ls -A /tmp").run();
    assert_eq!((ran.code, &*ran.stdout, &*host.read("/srv/made")), (0, "", "x\n"), "{ran}");
}

#[test]
fn a_directory_below_run_belongs_to_the_user() {
    needs!(root);
    let host = Host::new();
    let script = "stat -c '%a %U %n' /run/web /run/a/b";
    let ran = host.garth("wrap -u www-data --run-dir web --run-dir a/b").script(script).run();
    assert_eq!(ran.ok(), "755 www-data /run/web\n755 www-data /run/a/b");
    let ran = host.garth("wrap --run-dir sshd").script("stat -c '%a %U %n' /run/sshd").run();
    assert_eq!(ran.ok(), "755 root /run/sshd");
    for name in ["/run/x", "../x", "."] {
        let ran = host.sh(&format!("$GARTH wrap --run-dir {name} -- true")).run();
        assert!(ran.fails(125).contains("not a relative path below /run"), "{name}");
    }
    let compat = host.garth("wrap --profile compat --run-dir x -- true").run();
    assert!(compat.fails(125).contains("no private /run"));
}

#[test]
fn what_cannot_be_mounted_says_why() {
    needs!(root);
    let host = Host::new();
    host.write("/srv/file", "");
    for (volume, hint) in [
        ("/srv/file:/etc", "a file cannot be mounted on a directory"),
        ("/srv:/etc/hosts", "a directory on a file"),
        ("/srv:/etc/hosts/x", "anything below a file"),
        ("/srv/gone:/mnt", "no such file or directory on the host"),
        ("/srv/file:/proc/new", "the mount point is missing"),
    ] {
        let ran = host.garth(&format!("wrap -v {volume} -- true")).run();
        let error = ran.fails(125);
        assert!(error.contains(hint), "{volume}: {error}");
    }
}
