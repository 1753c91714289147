//! A program that uses only the library: it does what the examples do, runs nginx as a daemon with
//! a port, and a bundle; and process trees try to write the program's file.
//!
//! The tree's program is a link to /proc/self/exe: the child, which is still this program, executes
//! this file again as root of the sandbox, which changes the file's mode and could then do what it
//! likes to it (CVE-2019-5736). Without Landlock, only the protection of the file prevents that.

#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::fs;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use garth::config::{Mount, Root};
use garth::container::{self, AfterEnd, Detached};
use garth::{Container, Journal, Options, Sandbox};
use oci_spec::runtime as oci;

/// Each is a program that this one can run as.
#[path = "../examples"]
mod examples {
    pub mod bundle;
    pub mod limit;
    pub mod publish;
    pub mod spawn;
    pub mod wrap;
}

/// What this program does when it is run again by itself.
const ROLE: &str = "ROLE";

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("inside") => attack(),
        Ok("shown") => println!("{}", std::io::stdin().is_terminal()),
        Ok("terminal") => print!("{}", shown()),
        Ok("example bundle") => examples::bundle::main().unwrap(),
        Ok("example limit") => examples::limit::main().unwrap(),
        Ok("example publish") => examples::publish::main().unwrap(),
        Ok("example spawn") => examples::spawn::main().unwrap(),
        Ok("example wrap") => examples::wrap::main().unwrap(),
        Ok("container") => println!("{}", contained()),
        Ok("activated") => activated(),
        Ok("naked") => println!(
            "{}",
            outcome(|sandbox| {
                let plan = sandbox.explain(&Options::default())?.plan;
                garth::start::run(&plan, None, |_| Ok(()))?.wait().map(|ended| ended.code())
            })
        ),
        Ok("protected") => {
            garth::protect_own_program().unwrap();
            println!("{}", outcome(spawn));
        }
        Ok(_) => println!("{}", outcome(spawn)),
        Err(_) => test(),
    }
}

/// Inside: exit code 0 if the file can be written.
fn attack() {
    let changed = fs::set_permissions("/proc/self/exe", PermissionsExt::from_mode(0o777));
    std::process::exit(i32::from(changed.is_err()));
}

/// What this program writes on a terminal, inside a tree that is not trusted.
fn shown() -> String {
    let sandbox = Sandbox {
        command: vec!["/attack".into()],
        env: vec![(ROLE.into(), "shown".into())],
        root: Root::Dir { path: std::env::var("TREE").unwrap().into(), read_only: false },
        terminal: true,
        ..Sandbox::default()
    };
    let mut child = sandbox.spawn(&Options::default()).unwrap();
    let terminal = child.take_terminal().unwrap();
    let mut text = String::new();
    // EIO: no process has it open any more.
    let _end = terminal.master().read_to_string(&mut text);
    assert_eq!(child.wait().unwrap().code(), 0);
    text
}

fn spawn(sandbox: &Sandbox) -> garth::Result<i32> {
    sandbox.spawn(&Options::default())?.wait().map(|ended| ended.code())
}

fn outcome(start: impl Fn(&Sandbox) -> garth::Result<i32>) -> String {
    let dir = std::env::var("TREE").unwrap();
    let sandbox = Sandbox {
        landlock: false,
        init: false,
        env: vec![(ROLE.into(), "inside".into())],
        ..match std::env::var("KIND").as_deref() {
            Ok("tree") => Sandbox {
                command: vec!["/attack".into()],
                root: Root::Dir { path: dir.into(), read_only: false },
                ..Sandbox::default()
            },
            // Where an earlier sandbox could write; by its path, or by a link on the host.
            kind => Sandbox {
                command: vec![match kind {
                    Ok("link") => format!("{dir}.link").into(),
                    _ => format!("{dir}/attack").into(),
                }],
                mounts: [Sandbox::default().mounts, vec![Mount::writable(&dir).unwrap()]].concat(),
                ..Sandbox::default()
            },
        }
    };
    match start(&sandbox) {
        Ok(code) => format!("ended with {code}"),
        Err(error) => error.to_string(),
    }
}

/// Runs this in the tree, as a created container, and as one that is run and waited for.
fn in_containers(args: &[&str], env: &[String]) -> i32 {
    let process = oci::ProcessBuilder::default()
        .args(args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
        .env(env.to_vec())
        .cwd("/")
        .build()
        .unwrap();
    let root = oci::RootBuilder::default().path(std::env::var("TREE").unwrap()).build().unwrap();
    let mut spec = oci::Spec::default();
    spec.set_process(Some(process)).set_root(Some(root));
    let containers = Journal::at(std::env::var("STATE").unwrap()).containers();
    let options =
        container::CreateOptions { no_cgroup: true, ..container::CreateOptions::default() };
    let first = Container::create(&containers, "first", &spec, &options).unwrap();
    assert_eq!(*first.oci_state().unwrap().status(), oci::ContainerState::Created);
    first.start().unwrap();
    first.wait().unwrap();
    assert_eq!(*first.oci_state().unwrap().status(), oci::ContainerState::Stopped);
    let config = Some(Box::new((&first.spec().unwrap()).try_into().unwrap()));
    first.delete(false).unwrap();
    let options = container::CreateOptions { config, ..options };
    let fate = (Detached::No, AfterEnd::Delete);
    let ended = container::run(&containers, "second", &options, fate).unwrap().unwrap();
    assert!(containers.ids().unwrap().is_empty());
    ended.code()
}

fn contained() -> String {
    format!("ended with {}", in_containers(&["/attack"], &[format!("{ROLE}=inside")]))
}

/// Runs this as root on a private host: mounts, network, /run.
fn on_a_host(script: &str, dir: &Path) -> Output {
    let script = format!(
        "set -e; mount -t tmpfs -o mode=755 tmpfs /run; ip link set lo up; cd {}; {script}",
        dir.display()
    );
    Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--", "sh", "-c", &script])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

type Test = fn(&Path);

fn test() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|line| line.starts_with("Uid:\t0\t0")) {
        return println!("skipped: needs root");
    }
    let dir = Path::new("/var/lib").join(format!("garth-downstream-{}", std::process::id()));
    let tests: [(&str, Test); 6] = [
        ("the_file_of_a_program_is_not_written_by_what_it_starts", attempts),
        ("a_second_start_passes_the_terminal_on", terminal),
        ("the_examples_do_what_they_say", what_examples_say),
        ("a_program_leaves_nginx_behind_with_a_port", nginx),
        ("a_bundle_is_given_in_the_types_of_oci_spec", bundle),
        ("sockets_for_the_program_reach_its_containers", sockets),
    ];
    for (name, test) in tests {
        fs::create_dir_all(dir.join("tree")).unwrap();
        symlink("/proc/self/exe", dir.join("tree/attack")).unwrap();
        symlink(dir.join("tree/attack"), dir.join("tree.link")).unwrap();
        fs::copy(std::env::current_exe().unwrap(), dir.join("program")).unwrap();
        let result = std::panic::catch_unwind(|| test(&dir));
        fs::remove_dir_all(&dir).unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        println!("test {name} ... ok");
    }
}

fn attempts(dir: &Path) {
    let (program, tree) = (dir.join("program"), dir.join("tree"));
    for kind in ["tree", "bind", "link", "container"] {
        for (role, said, mode) in [
            // Without protection the attack works.
            ("naked", "ended with 0", 0o777),
            // The library prevents it.
            ("itself", "ended with 1", 0o700),
            ("protected", "ended with 1", 0o700),
        ] {
            let role = match (kind, role) {
                ("container", "itself") => "container",
                ("container", _) => continue,
                (_, role) => role,
            };
            fs::remove_file(&program).unwrap();
            fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
            fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
            let ran = Command::new(&program)
                .envs([(ROLE, role), ("KIND", kind)])
                .env("TREE", &tree)
                .env("STATE", dir.join("state"))
                .output()
                .unwrap();
            let output = String::from_utf8_lossy(&ran.stdout);
            assert!(output.contains(said), "{kind} {role}: {ran:?}");
            let now = fs::metadata(&program).unwrap().permissions().mode() & 0o7777;
            assert_eq!(now, mode, "{kind} {role}: {ran:?}");
        }
    }
}

fn terminal(dir: &Path) {
    let mut program = Command::new(dir.join("program"));
    let ran = program.env(ROLE, "terminal").env("TREE", dir.join("tree")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "true\r\n", "{ran:?}");
}

fn says(ran: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && words.iter().all(|word| said.contains(word)), "{ran:?}");
}

fn what_examples_say(dir: &Path) {
    says(&on_a_host("ROLE='example spawn' ./program", dir), &["0 said small beside 256 MiB"]);
    says(&on_a_host("ROLE='example wrap' ./program", dir), &[" steps", "file\n", "ended with 0"]);
    // The times that it prints are for docs/limit.md to promise.
    let script = "yes >/dev/null & ROLE='example limit' ./program /run/garth $! 40%; kill $!";
    says(&on_a_host(script, dir), &["duty "]);
}

fn bundle(dir: &Path) {
    let script = "mkdir -p tree/bin; cp /bin/busybox tree/bin/echo
        ROLE='example bundle' ./program /run/garth tree";
    says(&on_a_host(script, dir), &["created\n", "inside\n", "stopped\n"]);
}

/// Each container says which sockets it has.
fn activated() {
    let script = "echo $LISTEN_FDS $LISTEN_PID; cat <&3; ls /dev/fd/4";
    in_containers(&["/bin/sh", "-c", script], &[]);
}

/// The descriptors stay where they are, also through the second start of an unprotected program.
/// Both containers read the same open file.
fn sockets(dir: &Path) {
    let script = "mkdir -p tree/bin; for name in sh cat ls; do cp /bin/busybox tree/bin/$name; done
        echo one >one; echo two >two
        LISTEN_FDS=1 TREE=$PWD/tree STATE=$PWD/state ROLE=activated \
            sh -c 'LISTEN_PID=$$ exec ./program' 3<one 4<two";
    says(&on_a_host(script, dir), &["1 1\none\n1 1\n"]);
}

/// The package's daemon: it changes its user, forks, and serves a page.
fn nginx(dir: &Path) {
    let conf = "pid /tmp/pid; error_log stderr; events {}
        http { access_log off; client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy;
        fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
        server { listen 80; location / { return 200 'a page'; } } }";
    fs::write(dir.join("nginx.conf"), conf).unwrap();
    // It keeps running while the program that left it behind does something else, and ends cleanly.
    let script = "mkfifo line
        ROLE='example publish' ./program /run/garth 8080 \
            nginx -c $PWD/nginx.conf -g 'daemon off;' <line & program=$!
        exec 3>line
        n=0; until page=$(curl -s http://127.0.0.1:8080/); do
            n=$((n + 1)); [ $n -lt 200 ] || { echo no page; cat /run/garth/*/web/output.*; exit 1; }
            sleep 0.05
        done
        echo \"<$page>\"; echo >&3; wait $program; ! curl -s http://127.0.0.1:8080/";
    says(&on_a_host(script, dir), &["web runs", "web running", "8080", "<a page>", "exited 0"]);
}
