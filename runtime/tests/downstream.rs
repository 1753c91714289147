//! A program that uses the library, and a tree that tries to write its file.
//!
//! The tree's program is a link to /proc/self/exe: the child, which still is this program, executes this
//! file once more, as root of the sandbox, who gives it another mode and so can do what it likes to
//! it (CVE-2019-5736). Without Landlock nothing but the protection of the file is in its way.

#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use garth::config::{Mount, Root};
use garth::{Options, Sandbox};

/// What this program is to be, when it is called by itself.
const ROLE: &str = "ROLE";

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("inside") => attack(),
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
            // Where an earlier sandbox could write; by its path, or by a link of the host's own.
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

fn test() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|line| line.starts_with("Uid:\t0\t0")) {
        return println!("skipped: needs root");
    }
    let dir = Path::new("/var/lib").join(format!("garth-downstream-{}", std::process::id()));
    let (program, tree) = (dir.join("program"), dir.join("tree"));
    fs::create_dir_all(&tree).unwrap();
    symlink("/proc/self/exe", tree.join("attack")).unwrap();
    symlink(tree.join("attack"), dir.join("tree.link")).unwrap();
    let result = std::panic::catch_unwind(|| attempts(&program, &tree));
    fs::remove_dir_all(&dir).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    println!("test the_file_of_a_program_is_not_written_by_what_it_starts ... ok");
}

fn attempts(program: &Path, tree: &Path) {
    for kind in ["tree", "bind", "link"] {
        for (role, said, mode) in [
            // The attack is one.
            ("naked", "ended with 0", 0o777),
            // The library sees to it.
            ("itself", "ended with 1", 0o700),
            ("protected", "ended with 1", 0o700),
        ] {
            fs::copy(std::env::current_exe().unwrap(), program).unwrap();
            fs::set_permissions(program, PermissionsExt::from_mode(0o700)).unwrap();
            let ran = Command::new(program)
                .envs([(ROLE, role), ("KIND", kind)])
                .env("TREE", tree)
                .output()
                .unwrap();
            let output = String::from_utf8_lossy(&ran.stdout);
            assert!(output.contains(said), "{kind} {role}: {ran:?}");
            let now = fs::metadata(program).unwrap().permissions().mode() & 0o7777;
            assert_eq!(now, mode, "{kind} {role}: {ran:?}");
            fs::remove_file(program).unwrap();
        }
    }
}
