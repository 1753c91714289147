//! `--io`: that a disk limit holds, and is refused where it would not.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::path::{Path, PathBuf};

use garth_tests::{Bundle, Host, needs, second_kernel};

/// How far a rate may be from the requested one, and how often to try: other load may keep the
/// machine from reaching it, but nothing may let it be exceeded.
const BOUND: f64 = 0.03;
const TRIES: u32 = 3;

fn assert_close(name: &str, ratios: &[f64]) {
    println!("{name}: {ratios:.3?} of what was asked");
    let most = ratios.iter().copied().fold(0.0, f64::max);
    assert!(!ratios.is_empty() && most < 1.0 + BOUND, "{name}: too fast: {ratios:?}");
    assert!(most > 1.0 - BOUND, "{name}: too slow: {ratios:?}");
}

/// The ratio of dd(1)'s rate to the requested one, from its last line: `... bytes (...) copied, 5.0
/// s, ...`.
fn ratio(dd: &str, asked: f64) -> f64 {
    let line = dd.lines().find(|line| line.contains("copied")).unwrap_or_else(|| panic!("{dd}"));
    let bytes: f64 = line.split(' ').next().unwrap().parse().unwrap();
    let seconds = line.split("copied, ").nth(1).unwrap().split(' ').next().unwrap();
    bytes / seconds.parse::<f64>().unwrap() / asked
}

/// A file of 24 MiB on the disk that the tests are built on, if that is a disk.
struct OnDisk(PathBuf);

impl OnDisk {
    fn new(name: &str) -> OnDisk {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = dir.join(format!("{name}-{}", std::process::id()));
        std::fs::write(&file, vec![7; 24 << 20]).unwrap();
        std::fs::File::open(&file).unwrap().sync_all().unwrap();
        OnDisk(file)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn reading_is_limited_on_this_kernel() {
    needs!(root);
    let host = Host::new();
    let file = OnDisk::new("read");
    let words = |limit: &str| {
        format!(
            "wrap --io {limit}:{file} -v {file}:{file} -- \
             dd if={file} of=/dev/null bs=128k iflag=direct",
            file = file.0.display()
        )
    };
    // Where the tests are not built on a disk, or no tree has the controller, that is reported.
    let explained = host.garth(&format!("explain {}", words("read=4MB/s"))).run();
    if explained.code != 0 {
        assert!(explained.stderr.contains("--io "), "{explained}");
        return garth_tests::skip(
            "disk",
            "a disk below the target directory and the io controller",
        );
    }
    assert!(explained.stdout.contains("out  limit "), "{explained}");
    let mut ratios = Vec::new();
    for _ in 0..TRIES {
        let ran = host.garth(&words("read=4MB/s")).run();
        assert_eq!(ran.code, 0, "{ran}");
        ratios.push(ratio(&ran.stderr, 4e6));
        if ratios.last().is_some_and(|ratio| *ratio > 1.0 - BOUND) {
            break;
        }
    }
    assert_close("read", &ratios);
    // 192 requests at 64 a second, of 128 KiB each.
    let ran = host.garth(&words("riops=64")).run();
    assert!(ratio(&ran.stderr, 64.0 * f64::from(128 << 10)) < 1.0 + BOUND, "{ran}");
    // A control: without a limit it is faster.
    let words = words("read=1GB/s");
    assert!(ratio(&host.garth(&words).run().stderr, 4e6) > 2.0);
    host.assert_nothing_left();
}

#[test]
fn a_sandbox_that_runs_is_given_another_limit() {
    needs!(root);
    let host = Host::new();
    let file = OnDisk::new("live");
    let path = file.0.display();
    // A checkout may be below /tmp, which is a different one inside.
    let wrap = format!("wrap -d --name web --io read=100MB/s:{path} -v {path}:{path} -- sleep 600");
    let started = host.garth(&wrap).run();
    if started.code != 0 {
        assert!(started.stderr.contains("--io "), "{started}");
        return garth_tests::skip(
            "disk",
            "a disk below the target directory and the io controller",
        );
    }
    host.garth(&format!("update --io read=4MB/s:{path} web")).run().ok();
    let dd = format!("exec web -- dd if={path} of=/dev/null bs=128k count=64 iflag=direct");
    let ran = host.garth(&dd).run();
    // In two seconds, the first tenth of a second, which is free, counts for more.
    assert!(ratio(&ran.stderr, 4e6) < 1.1, "{ran}");
    host.garth(&format!("update --io read=none:{path} web")).run().ok();
    let ran = host.garth(&dd).run();
    assert!(ratio(&ran.stderr, 4e6) > 2.0, "the limit was taken off: {ran}");
    host.garth("update --io read=4MB/s:/srv web")
        .run()
        .refused(125, "a limit has no effect on tmpfs");
    host.garth("delete --force web").run().ok();
    host.garth("wrap -d --name bare -- sleep 600").run().ok();
    let update = format!("update --io read=4MB/s:{path} bare");
    host.garth(&update).run().refused(125, "created without the io controller");
    host.garth("delete --force bare").run().ok();
    let update = format!("update --io read=4MB/s:{path} nobody");
    host.garth(&update).run().refused(1, "container \"nobody\" does not exist");
    host.assert_nothing_left();
}

#[test]
fn bad_input_is_refused_in_one_line() {
    needs!(root);
    let host = Host::new();
    for (limit, why) in [
        ("read=50:/", "rate \"50\": missing unit"),
        ("read=0MB/s:/", "less than one bit per second"),
        ("riops=0:/", "not between 1 and 4294967295"),
        ("read=5MB/s", "no PATH"),
        ("read=5MB/s:/not/there", "--io /not/there: stat /not/there: ENOENT"),
        ("read=5MB/s:/run", "--io /run: a limit has no effect on tmpfs: it is in memory"),
        ("riops=5:/proc", "a limit has no effect on proc"),
        ("read=1MB/s:/srv,speed=2MB/s", "unknown key \"speed\""),
        ("read=1MB/s:/dev/null", "has no effect"),
    ] {
        let ran = host.garth(&format!("wrap --io {limit} -- true")).run();
        if ran.stderr.contains("no io controller") {
            return garth_tests::skip("disk", "the io controller");
        }
        ran.refused(125, why);
    }
    host.assert_nothing_left();
}

#[test]
fn a_container_that_runs_is_given_limits_by_path() {
    needs!(root);
    let host = Host::new();
    let file = OnDisk::new("update");
    let explain = format!("explain wrap --io read=5MB/s:{} -- true", file.0.display());
    if host.garth(&explain).run().code != 0 {
        return garth_tests::skip(
            "disk",
            "a disk below the target directory and the io controller",
        );
    }
    let mut bundle = Bundle::new(&host);
    bundle.sleeping();
    let update = |limits: &str| {
        let words = format!("update --io {limits}:{} {}", file.0.display(), bundle.id);
        bundle.call(&words).run()
    };
    update("read=5MB/s,riops=70").ok();
    let limits = |file: &str| host.sh(&format!("cat /sys/fs/cgroup/blkio/{}/{file}", bundle.id));
    let v1 = limits("blkio.throttle.read_bps_device").run();
    match v1.code {
        0 => {
            assert!(v1.stdout.ends_with(" 5000000"), "{v1}");
            let operations = limits("blkio.throttle.read_iops_device").run();
            assert!(operations.stdout.ends_with(" 70"), "{operations}");
            assert!(update("write=5MB/s").fails(1).contains("cannot attribute buffered writes"));
        }
        _ => assert!(bundle.cgroup("io", "io.max").contains("rbps=5000000")),
    }
    let ran = bundle.call(&format!("update --io read=5MB/s:/srv {}", bundle.id)).run();
    assert!(ran.fails(1).contains("a limit has no effect on tmpfs"));
}

/// Loop devices on files in memory; ext4 on the first; a RAID 5 of the next three, with ext4 on it.
const DISKS: &str = r#"
for module in loop dm-mod dm-raid raid456; do modprobe $module || echo no $module; done
cd /tmp
for n in 0 1 2 3; do truncate -s 64M image$n; losetup /dev/loop$n image$n; done
table='0 131072 raid raid5_ls 3 128 region_size 1024 3 - /dev/loop1 - /dev/loop2 - /dev/loop3'
DM_DISABLE_UDEV=1 dmsetup create five --noudevsync --table "$table"
mkdir /run/a /run/b
mkfs.ext4 -q /dev/loop0 && mount /dev/loop0 /run/a
mkfs.ext4 -q /dev/mapper/five && mount /dev/mapper/five /run/b
head -c 20000000 /dev/zero >/run/a/file; head -c 20000000 /dev/zero >/run/b/file; sync
try() { # NAME LIMIT DIR DD...
    name=$1 limit=$2 dir=$3; shift 3
    echo "$name $($GARTH wrap -v $dir:/mnt --io $limit:$dir -- dd bs=250k "$@" 2>&1 | grep copied)"
}
"#;

#[test]
fn limits_are_held_within_three_percent_in_the_unified_tree() {
    needs!(root, "linux.uml", uml, "mkfs.ext4", "dmsetup");
    let said = second_kernel(
        "io",
        &format!(
            "{DISKS}
            try read read=4MB/s /run/a if=/mnt/file of=/dev/null iflag=direct
            try write write=4MB/s /run/a if=/dev/zero of=/mnt/new count=80 oflag=direct
            try buffered write=4MB/s /run/a if=/dev/zero of=/mnt/new count=80 conv=fsync
            try riops riops=80 /run/a if=/mnt/file of=/dev/null iflag=direct bs=50k
            try array-read read=4MB/s /run/b if=/mnt/file of=/dev/null iflag=direct
            try array-write write=4MB/s /run/b if=/dev/zero of=/mnt/new count=80 oflag=direct
            $GARTH wrap -d --name host --io read=4MB/s,wiops=50:/run/a -- sleep 60
            cat /sys/fs/cgroup/garth/host/io.max
            $GARTH delete --force host; $GARTH gc
            $GARTH explain wrap --io read=4MB/s:/run/b -- true | grep limit
            $GARTH wrap --io read=4MB/s:/usr -- true; echo hostfs $?
            mkdir -p /run/one/rootfs; mount --bind / /run/one/rootfs; cd /run/one; $GARTH spec
            sed -i 's/\"sh\"/\"sleep\", \"60\"/; s/\"terminal\": true/\"terminal\": false/' config.json
            $GARTH run -d one </dev/null >/dev/null 2>&1
            of_one() {{ echo $1 $(cat $(find /sys/fs/cgroup -name io.max -path '*one*' | head -1)); }}
            $GARTH update --io read=4MB/s,riops=90:/run/a one; of_one set
            $GARTH update --io riops=none:/run/a one; of_one less
            $GARTH update --io none:/run/a one; of_one off
            $GARTH delete --force one"
        ),
    );
    let of = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{said}")).to_owned()
    };
    for name in ["read", "write", "array-read", "array-write"] {
        assert_close(name, &[ratio(&of(name), 4e6)]);
    }
    // 80 requests a second of 50 KiB each; the file system's own reads count too.
    assert_close("riops", &[ratio(&of("riops"), 80.0 * f64::from(50 << 10))]);
    // Metadata and the journal are written too, and count.
    let buffered = ratio(&of("buffered"), 4e6);
    println!("buffered: {buffered:.3}");
    assert!((0.8..1.0 + BOUND).contains(&buffered), "buffered: {buffered}");
    for line in [
        "7:0 rbps=4000000 wbps=max riops=max wiops=50",
        "nothing to clean up",
        "ext4 on dm-0 (five) over loop1 over the file /tmp/image1, loop2",
        "a limit has no effect on hostfs: it is not on a block device",
        "hostfs 125",
        "set 7:0 rbps=4000000 wbps=max riops=90 wiops=max",
        "less 7:0 rbps=4000000 wbps=max riops=max wiops=max",
        "off\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}
