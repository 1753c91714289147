//! The exit codes of each verb compared with runc's: the same words, on a container in each state,
//! for both. Scripts and engines were written for runc's codes; where Garth's differ, the reason is
//! in the table below and, for users, in docs/engines.md.
//!
//! `RUNTIME` is the runtime under test, as in the suite `spec`; the listed differences are Garth's.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::env;
use std::path::Path;

use garth_tests::{Bundle, Host, needs, runtime, which};

/// Words without a container: `$R` is the runtime with its own state directory.
const WITHOUT: &[&str] = &[
    "$P",
    "$P --help",
    "$P help",
    "$P -v",
    "$P --version",
    "$P nosuch",
    "$P --nosuch",
    "$R --log-format yaml list",
    "$R --log /nowhere/log list",
    "$R --log /nowhere/log state $ID",
    "$R --log /nowhere/log create --bundle $B $ID",
    "$R --log /nowhere/log delete --force $ID",
    "$R --log /nowhere/log kill $ID",
    "$R create",
    "$R create $ID other",
    "$R create --nosuch $ID",
    "$R create --bundle /nowhere $ID",
    "$R create --bundle $B one/two",
    "$R create --bundle $B ''",
    "$R create --bundle $B ..",
    "$R state one/two",
    "$R kill one/two",
    "$R delete one/two",
    "$R delete --force one/two",
    "$R delete --force ''",
    "$R delete --force ..",
    "$R exec one/two true",
    "$R create --help",
    "$R checkpoint --help",
    "$R start",
    "$R start --nosuch $ID",
    "$R start $ID other",
    "$R run",
    "$R run --nosuch $ID",
    "$R run --bundle /nowhere $ID",
    "$R run --bundle $B/true $ID",
    "$R run --bundle $B/seven $ID",
    "$R run --bundle $B/killed $ID",
    "$R run --bundle $B/nosuch $ID",
    "$R run --bundle $B/plain $ID",
    "$R run --detach --bundle $B/seven $ID",
    "$R run --detach --bundle $B/nosuch $ID",
    "$R create --bundle $B/nosuch $ID",
    "$R state",
    "$R state $ID other",
    "$R state --nosuch $ID",
    "$R kill",
    "$R kill --nosuch $ID",
    "$R delete",
    "$R delete --nosuch $ID",
    "$R exec",
    "$R exec --nosuch $ID true",
    "$R list",
    "$R list other",
    "$R list --nosuch",
    "$R list --format json",
    "$R list --format yaml",
    "$R list -q",
    "$R ps",
    "$R ps --nosuch",
    "$R pause",
    "$R resume",
    "$R update",
    "$R update --nosuch $ID",
    "$R events",
    "$R events --nosuch $ID",
    "$R features",
    "$R features other",
    "cd /; $R spec --bundle $B",
    "$R spec --nosuch",
    "$R checkpoint",
    "$R restore",
];

/// Words about one container.
const WITH: &[&str] = &[
    "$R state $ID",
    "$R start $ID",
    "$R create --bundle $B $ID",
    "$R kill $ID",
    "$R kill $ID KILL",
    "$R kill $ID SIGTERM",
    "$R kill $ID 0",
    "$R kill $ID -1",
    "$R kill $ID 99",
    "$R kill $ID NOSUCH",
    "$R kill --all $ID KILL",
    "$R delete $ID",
    "$R delete --force $ID",
    "$R exec $ID",
    "$R exec $ID true",
    "$R exec $ID false",
    "$R exec $ID sh -c 'exit 7'",
    "$R exec $ID sh -c 'kill -9 $$'",
    "$R exec $ID nosuch",
    "$R exec $ID /etc/passwd",
    "$R exec --cwd /nowhere $ID true",
    "$R exec --user nosuch $ID true",
    "$R exec --process /nowhere $ID",
    "$R exec --detach $ID false",
    "$R exec --detach $ID nosuch",
    "$R pause $ID",
    "$R resume $ID",
    "$R ps $ID",
    "$R ps --format json $ID",
    "$R events --stats $ID",
    "$R update --pids-limit 100 $ID",
    "$R update --resources /nowhere $ID",
    "$R update --memory tea $ID",
];

/// How a container gets into each state.
const STATES: &[(&str, &str)] = &[
    ("none", ":"),
    ("created", "$R create --bundle $B $ID"),
    ("running", "$R run --detach --bundle $B $ID"),
    ("paused", "$R run --detach --bundle $B $ID; $R pause $ID"),
    (
        "stopped",
        "$R run --detach --bundle $B $ID; $R kill $ID KILL
        until $R state $ID | grep -q stopped; do sleep 0.02; done",
    ),
];

/// Where Garth's code differs: state and words, Garth's and runc's, and why.
const DIFFERENT: &[(&str, i32, i32, &str)] = &[
    ("-: $P nosuch", 125, 3, "no verb: the code of `wrap`, where 3 could be the command's"),
    ("-: $P --nosuch", 125, 1, "no verb, again"),
    ("-: $R --log /nowhere/log delete --force $ID", 0, 1, "removing must work on a full disk"),
    ("-: $R ps", 0, 1, "lists the sandboxes of `wrap`"),
];

/// A line `CODE STATE: WORDS` for each.
fn codes(program: &Path) -> Vec<String> {
    let host = Host::new();
    let mut bundle = Bundle::new(&host);
    bundle.script("exec sleep 600");
    bundle.save();
    let whole = bundle.config.clone();
    for (name, args) in [
        ("true", &["true"][..]),
        ("seven", &["sh", "-c", "exit 7"]),
        ("killed", &["sh", "-c", "kill -9 $$; sleep 9"]),
        ("nosuch", &["nosuch"]),
        ("plain", &["/etc/passwd"]),
    ] {
        let mut config = whole.clone();
        config["process"]["args"] = args.into();
        config["root"]["path"] = "../rootfs".into();
        host.write(&bundle.dir(&format!("{name}/config.json")), &config.to_string());
    }
    let functions = format!(
        "P={program}; R=\"$P --root /run/codes\"
        try() {{
            ( eval \"$2\" ) </dev/null >/dev/null 2>&1
            ( eval \"$3\" ) </dev/null >/dev/null 2>&1
            echo \"$? $1: $3\"
            $R delete --force $ID </dev/null >/dev/null 2>&1
        }}\n",
        program = program.display()
    );
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    // One state at a time, since each call takes time.
    let ask = |state: &str, setup: &str, lines: &[&str]| {
        let lines: String = lines
            .iter()
            .map(|words| format!("try {state} {} {}\n", quoted(setup), quoted(words)))
            .collect();
        bundle.sh(&format!("{functions}{lines}")).run().ok()
    };
    let mut said: Vec<String> = WITHOUT.chunks(40).map(|lines| ask("-", ":", lines)).collect();
    said.extend(STATES.iter().map(|(state, setup)| ask(state, setup, WITH)));
    said.iter().flat_map(|said| said.lines()).map(str::to_owned).collect()
}

#[test]
fn the_exit_codes_are_those_of_runc() {
    needs!(root, "runc");
    let runc = which("runc").unwrap();
    let ours = env::var_os("RUNTIME").is_none_or(|path| path.is_empty());
    let (got, wanted) = (codes(&runtime()), codes(&runc));
    assert_eq!(got.len(), WITHOUT.len() + STATES.len() * WITH.len(), "{got:?}");
    assert_eq!(got.len(), wanted.len(), "{wanted:?}");
    let mut known: Vec<_> = DIFFERENT.iter().filter(|_| ours).collect();
    let mut wrong = Vec::new();
    for (got, wanted) in got.iter().zip(&wanted) {
        let ((code, words), (other, _)) =
            (got.split_once(' ').unwrap(), wanted.split_once(' ').unwrap());
        let (code, other): (i32, i32) = (code.parse().unwrap(), other.parse().unwrap());
        let listed = known.iter().position(|(listed, ..)| *listed == words);
        let expected = match listed.map(|at| known.remove(at)) {
            Some((_, ours, theirs, _)) => (*ours, *theirs),
            None => (other, other),
        };
        if (code, other) != expected {
            wrong.push(format!("{code}, runc {other}: {words}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), got.len(), wrong.join("\n"));
    assert!(known.is_empty(), "listed, but not asked: {known:?}");
    println!("{} exit codes, {} of them listed as others than runc's", got.len(), DIFFERENT.len());
}
