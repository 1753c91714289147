//! Calls that a shim cannot meet: each is answered with the code that containerd decides by and one line that names what is
//! wrong, as its users read it in `kubectl describe pod`. Afterwards the shim is as it was.

use garth_tests::shim::{Shim, TASK, assert_refused};
use garth_tests::ttrpc::{self, Answer, Connection, REQUEST, any, header, number, text};
use garth_tests::{Bundle, Host, needs, shim_binary, until};
use serde_json::{Value, json};

// google/rpc/code.proto
const UNKNOWN: u64 = 2;
const INVALID_ARGUMENT: u64 = 3;
const NOT_FOUND: u64 = 5;
const ALREADY_EXISTS: u64 = 6;
const PERMISSION_DENIED: u64 = 7;
const FAILED_PRECONDITION: u64 = 9;
const UNIMPLEMENTED: u64 = 12;
// containerd.v1.types.Status
const STOPPED: u64 = 3;

const METHODS: [&str; 17] = [
    "State",
    "Create",
    "Start",
    "Delete",
    "Pids",
    "Pause",
    "Resume",
    "Checkpoint",
    "Kill",
    "Exec",
    "ResizePty",
    "CloseIO",
    "Update",
    "Wait",
    "Stats",
    "Connect",
    "Shutdown",
];
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// It begins like a field, and ends in the middle of its number.
const BROKEN: [u8; 2] = [0xff, 0xff];

/// CreateTaskRequest of this bundle, with more fields.
fn create(bundle: &Bundle<'_>, more: &[Vec<u8>]) -> Vec<u8> {
    [text(1, &bundle.id), text(2, bundle.dir("")), more.concat()].concat()
}

/// ExecProcessRequest.
fn exec(bundle: &Bundle<'_>, exec_id: &str, spec: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let ids = [text(1, &bundle.id), text(2, exec_id)].concat();
    [ids, text(7, any(PROCESS, spec)), more.concat()].concat()
}

/// The ids of a program in a container, and more fields.
fn ids(bundle: &Bundle<'_>, exec_id: &str, more: &[Vec<u8>]) -> Vec<u8> {
    [text(1, &bundle.id), text(2, exec_id), more.concat()].concat()
}

fn sleep() -> Value {
    json!({"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}})
}

fn sleeping<'a>(host: &'a Host, id: &str) -> Bundle<'a> {
    let mut bundle = Bundle::named(host, id);
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.save();
    bundle
}

#[test]
fn a_start_that_fails_leaves_a_container_that_has_stopped() {
    needs!(root);
    let host = Host::new();
    let shim = Shim::start(&host);
    // Nothing that the kernel could execute, which only it finds out.
    let mut bundle = Bundle::named(&host, "headless");
    host.write(&bundle.rootfs("headless"), "echo headless");
    host.sh(&format!("chmod 755 {}", bundle.rootfs("headless"))).run().ok();
    bundle.config["process"]["args"] = json!(["/headless"]);
    bundle.save();
    for _ in 0..20 {
        shim.ok("Create", &create(&bundle, &[]));
        shim.refuses("Start", &text(1, &bundle.id), UNKNOWN, "exec format error");
        // As containerd's clients do: what is not stopped is not deleted.
        let state = ttrpc::fields(&shim.ok("State", &text(1, &bundle.id)));
        let status = ttrpc::find(&state, 4).map(|field| field.value);
        assert_eq!(status, Some(STOPPED), "{state:?}");
        shim.ok("Delete", &text(1, &bundle.id));
    }
    shim.end();
}

#[test]
fn what_is_no_request_is_refused_and_others_are_served() {
    needs!(root);
    let host = Host::new();
    let shim = Shim::start(&host);
    for service in TASK {
        for method in METHODS {
            let answer = shim.connection.borrow_mut().call(service, method, &BROKEN);
            let part = format!("{method}: the request cannot be decoded: ");
            assert_refused(method, &answer, INVALID_ARGUMENT, &part);
        }
        let answer = shim.connection.borrow_mut().call(service, "Fly", b"");
        assert_refused("Fly", &answer, UNIMPLEMENTED, "Fly");
    }
    // ttrpc's own answer; Go's has UNIMPLEMENTED.
    for service in ["containerd.task.v9.Task", "containerd.runtime.sandbox.v1.Sandbox", ""] {
        let answer = shim.connection.borrow_mut().call(service, "Create", b"");
        assert_refused("Create", &answer, INVALID_ARGUMENT, service);
    }
    let open = || Connection::open(&shim.socket);
    // Too long: it is read, answered, and what follows is understood.
    let mut other = open();
    other.send(1, REQUEST, &vec![0; (4 << 20) + 1]);
    let (_, answer) = other.answer().unwrap();
    assert_refused("4 MiB", &answer, INVALID_ARGUMENT, "4194305");
    other.call(TASK[1], "Connect", &text(1, "pod")).unwrap();
    // No message, and a number that only servers use.
    other.send(1, REQUEST, &BROKEN);
    assert_refused("broken", &other.answer().unwrap().1, INVALID_ARGUMENT, "");
    other.send(2, REQUEST, b"");
    assert_refused("even", &other.answer().unwrap().1, INVALID_ARGUMENT, "odd");
    // Other kinds are passed over: a response, data of no stream, one that is yet to be invented.
    other.send(1, 2, b"");
    other.send(1, 9, &BROKEN);
    other.call(TASK[1], "Connect", &text(1, "pod")).unwrap();
    // Cut short: within the header, the message, one that would be too long.
    for bytes in
        [vec![0; 3], [header(100, 1, REQUEST), vec![0; 9]].concat(), header(u32::MAX, 1, REQUEST)]
    {
        let mut cut = open();
        cut.send_bytes(&bytes);
        drop(cut);
    }
    // Hung up before the answer, also by who waits for ever.
    for method in ["Create", "Wait"] {
        let mut cut = open();
        let request = [text(1, TASK[0]), text(2, method), text(3, text(1, "none"))].concat();
        cut.send(1, REQUEST, &request);
    }
    drop(other);
    shim.end();
}

#[test]
fn what_is_not_there_is_not_found() {
    needs!(root);
    let host = Host::new();
    let bundle = sleeping(&host, "box");
    let shim = Shim::start(&host);
    for method in METHODS {
        match method {
            // Connect is also asked of a shim without containers.
            "Create" | "Connect" | "Shutdown" => {}
            _ => shim.refuses(method, &text(1, "none"), NOT_FOUND, "container none: not found"),
        }
    }
    shim.run(&bundle);
    for method in ["State", "Start", "Delete", "ResizePty", "CloseIO", "Wait"] {
        shim.refuses(method, &ids(&bundle, "e9", &[]), NOT_FOUND, "exec e9: not found");
    }
    // Signals have the number of the program in another field.
    shim.refuses("Kill", &ids(&bundle, "e9", &[number(3, 9)]), NOT_FOUND, "exec e9: not found");
    shim.delete("box");
    shim.refuses("Delete", &text(1, "box"), NOT_FOUND, "container box: not found");
    shim.end();
}

#[test]
fn a_container_that_cannot_be_made_leaves_nothing() {
    needs!(root);
    let host = Host::new();
    let bundle = sleeping(&host, "box");
    let shim = Shim::start(&host);
    let options = |kind: &str, value: &[u8]| vec![text(10, any(kind, value))];
    let colour = text(3, "Colour = \"red\"\n");
    let mount = |kind: &str, source: &str, more: Vec<u8>| {
        vec![text(3, [text(1, kind), text(2, source), more].concat())]
    };
    for (more, code, part) in [
        (options("vmm.Options", b""), INVALID_ARGUMENT, "options of type \"vmm.Options\": unknown"),
        (options("", b"x"), INVALID_ARGUMENT, "options of type \"\": unknown"),
        (
            options("containerd.runc.v1.Options", &BROKEN),
            INVALID_ARGUMENT,
            "options containerd.runc.v1.Options: ",
        ),
        (options("runtimeoptions.v1.Options", &colour), INVALID_ARGUMENT, "`Colour`"),
        (
            options("runtimeoptions.v1.Options", &text(2, "/none/x.toml")),
            INVALID_ARGUMENT,
            "read /none/x.toml: ENOENT",
        ),
        (vec![text(8, "/none/images")], NOT_FOUND, "box: checkpoint /none/images"),
        (mount("nofs", "x", vec![]), UNKNOWN, "mount nofs x at /srv/box/rootfs: ENODEV"),
        (mount("bind", "/none", text(4, "rbind")), UNKNOWN, "mount bind /none"),
        // The first is mounted already when the second fails.
        (
            [mount("tmpfs", "tmpfs", vec![]), mount("bind", "/none", text(4, "rbind"))].concat(),
            UNKNOWN,
            "mount bind /none",
        ),
        (vec![number(4, 1)], UNKNOWN, "a terminal is expected, and process.terminal is false"),
    ] {
        shim.refuses("Create", &create(&bundle, &more), code, part);
        shim.is_as_before();
    }
    for (dir, code, part) in [
        ("", INVALID_ARGUMENT, "bundle \"\": not an absolute path"),
        ("box", INVALID_ARGUMENT, "bundle \"box\": not an absolute path"),
        ("/srv/none", NOT_FOUND, "bundle /srv/none: ENOENT"),
        ("/srv/box/config.json", INVALID_ARGUMENT, "bundle /srv/box/config.json: not a directory"),
        ("/srv/box\0", INVALID_ARGUMENT, "bundle /srv/box"),
    ] {
        shim.refuses("Create", &[text(1, "box"), text(2, dir)].concat(), code, part);
    }
    for id in ["", "..", "../x", "a/b", "a\nb", "-x", &"a".repeat(201)] {
        let message = [text(1, id), text(2, "/srv/box")].concat();
        shim.refuses("Create", &message, INVALID_ARGUMENT, "invalid container id");
    }
    for (script, code, part) in [
        ("rm -r rootfs", UNKNOWN, "root.path /srv/box/rootfs: ENOENT"),
        ("echo '{' >config.json", INVALID_ARGUMENT, "/srv/box/config.json: config.json: EOF"),
        ("echo '{\"process\": 7}' >config.json", INVALID_ARGUMENT, "process: invalid type"),
        ("echo '{}' >config.json", INVALID_ARGUMENT, "/srv/box/config.json: "),
        ("rm config.json", NOT_FOUND, "read /srv/box/config.json: ENOENT"),
        ("mkfifo config.json", INVALID_ARGUMENT, "/srv/box/config.json: not a regular file"),
    ] {
        host.sh(&format!("cd /srv/box; {script}")).run().ok();
        shim.refuses("Create", &create(&bundle, &[]), code, part);
    }
    shim.end();
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    needs!(root);
    let host = Host::new();
    let bundle = sleeping(&host, "box");
    host.sh("mkdir /srv/dir; echo hello >/srv/file; mkfifo /srv/fifo").run().ok();
    let shim = Shim::start(&host);
    let cases = [
        ("stdin", 4, "/srv/none", NOT_FOUND, "stdin: stat /srv/none: ENOENT"),
        ("stdin", 4, "/srv/dir", INVALID_ARGUMENT, "stdin: /srv/dir: not a fifo"),
        // It would be watched in vain, or for ever.
        ("stdin", 4, "/srv/file", INVALID_ARGUMENT, "stdin: /srv/file: not a fifo"),
        ("stdin", 4, "/dev/null", INVALID_ARGUMENT, "stdin: /dev/null: not a fifo"),
        ("stdin", 4, "fifo:///srv/dir", INVALID_ARGUMENT, "stdin: /srv/dir: not a fifo"),
        ("stdin", 4, "foo://x", INVALID_ARGUMENT, "stdin: foo://x: \"foo\" is no known scheme"),
        ("stdout", 5, "/srv/none", NOT_FOUND, "stdout: stat /srv/none: ENOENT"),
        ("stdout", 5, "/srv/dir", INVALID_ARGUMENT, "stdout: open /srv/dir: EISDIR"),
        ("stdout", 5, "fifo:///srv/file", INVALID_ARGUMENT, "stdout: /srv/file: not a fifo"),
        ("stdout", 5, "foo://x", INVALID_ARGUMENT, "stdout: foo://x: \"foo\" is no known scheme"),
        (
            "stdout",
            5,
            "binary:///srv/none",
            NOT_FOUND,
            "stdout: start the logger: execute /srv/none",
        ),
        ("stderr", 6, "/srv/none", NOT_FOUND, "stderr: stat /srv/none: ENOENT"),
        ("stderr", 6, "/srv/file/x", INVALID_ARGUMENT, "stderr: stat /srv/file/x: ENOTDIR"),
        (
            "stderr",
            6,
            "binary:///bin/true",
            INVALID_ARGUMENT,
            "stderr: a logger, and stdout has none",
        ),
    ];
    for (_, field, name, code, part) in cases {
        shim.refuses("Create", &create(&bundle, &[text(field + 1, name)]), code, part);
        shim.is_as_before();
    }
    shim.run(&bundle);
    let running = shim.holds();
    for (which, field, name, code, part) in cases {
        for closed in [false, true] {
            shim.ok("Exec", &exec(&bundle, "e", &sleep().to_string(), &[text(field, name)]));
            if closed {
                shim.ok("CloseIO", &ids(&bundle, "e", &[number(3, 1)]));
            }
            shim.refuses("Start", &ids(&bundle, "e", &[]), code, part);
            shim.ok("Delete", &ids(&bundle, "e", &[]));
            assert_eq!(shim.holds(), running, "{which} {name}");
        }
    }
    shim.delete("box");
    shim.end();
}

#[test]
fn a_fifo_that_may_not_be_opened_is_named() {
    needs!(root, "setpriv");
    let host = Host::new();
    let bundle = sleeping(&host, "box");
    host.sh("mkfifo -m 0 /srv/fifo; chown 1000:1000 /srv/fifo").run().ok();
    let shim = Shim::start_by(&host, "setpriv --bounding-set=-dac_override,-dac_read_search");
    for (field, which) in [(5, "stdin"), (6, "stdout"), (7, "stderr")] {
        let part = format!("create failed: {which}: open /srv/fifo: EACCES");
        let message = create(&bundle, &[text(field, "/srv/fifo")]);
        shim.refuses("Create", &message, PERMISSION_DENIED, &part);
        shim.is_as_before();
    }
    shim.end();
}

#[test]
fn a_call_that_does_not_suit_a_container_changes_nothing() {
    needs!(root);
    let host = Host::new();
    let bundle = sleeping(&host, "box");
    let shim = Shim::start_by(&host, "env PATH=/none");
    let own = text(1, "box");
    shim.ok("Create", &create(&bundle, &[]));
    shim.refuses("Create", &create(&bundle, &[]), ALREADY_EXISTS, "container box: already exists");
    shim.refuses("Resume", &own, FAILED_PRECONDITION, "container not paused");
    shim.refuses("Checkpoint", &own, FAILED_PRECONDITION, "in created state");
    shim.ok("Start", &own);
    let again = "start container box: it is already running";
    shim.refuses("Start", &own, FAILED_PRECONDITION, again);
    let wrong = "container box must be stopped before it is deleted";
    shim.refuses("Delete", &own, FAILED_PRECONDITION, wrong);
    shim.refuses("ResizePty", &own, FAILED_PRECONDITION, "the process has no terminal");
    shim.refuses("Resume", &own, FAILED_PRECONDITION, "container not paused");
    shim.refuses("Checkpoint", &own, UNKNOWN, "criu is not installed");
    let checkpoint = |kind: &str, value: &[u8]| [own.clone(), text(3, any(kind, value))].concat();
    for (kind, value, part) in [
        ("vmm.Checkpoint", &b""[..], "options of type \"vmm.Checkpoint\": unknown"),
        ("containerd.runc.v1.CheckpointOptions", &BROKEN, "containerd.runc.v1.CheckpointOptions: "),
    ] {
        shim.refuses("Checkpoint", &checkpoint(kind, value), INVALID_ARGUMENT, part);
    }
    let update = |text_of: &str| [own.clone(), text(2, any("LinuxResources", text_of))].concat();
    for (resources, code, part) in [
        ("{", INVALID_ARGUMENT, "container box: resources: EOF"),
        ("[]", INVALID_ARGUMENT, "container box: resources: invalid type"),
        (
            r#"{"memory":{"limit":"x"}}"#,
            INVALID_ARGUMENT,
            "box: resources: memory.limit: invalid type",
        ),
        (r#"{"cpu":{"cpus":"9999"}}"#, UNKNOWN, "cpu.cpus 9999"),
    ] {
        shim.refuses("Update", &update(resources), code, part);
    }
    let rate = text(3, [text(1, "dev.garth.rate.up"), text(2, "soon")].concat());
    shim.refuses("Update", &[own.clone(), rate].concat(), INVALID_ARGUMENT, "soon");
    for signal in [65, 1000, 1 << 31, u64::from(u32::MAX)] {
        for all in [0, 1] {
            let message = [own.clone(), number(3, signal), number(4, all)].concat();
            shim.refuses("Kill", &message, INVALID_ARGUMENT, &format!("signal {signal}: "));
        }
    }
    for (spec, part) in [
        ("{", "exec e1: process.json: EOF"),
        ("", "exec e1: process.json: EOF"),
        (r#"{"args":7}"#, "exec e1: process.json: args: invalid type"),
        (r#"{"args":["a\u0000b"]}"#, "args[0]: a string contains a NUL byte"),
    ] {
        shim.refuses("Exec", &exec(&bundle, "e1", spec, &[]), INVALID_ARGUMENT, part);
    }
    let nameless = exec(&bundle, "", &sleep().to_string(), &[]);
    shim.refuses("Exec", &nameless, INVALID_ARGUMENT, "exec in container box: no id");
    for (key, value, part) in [
        ("args", json!([]), "exec failed: process args cannot be empty"),
        ("args", json!(["none"]), "exec failed: exec: \"none\": executable file not found"),
        ("cwd", json!("none"), "exec failed: Cwd must be an absolute path"),
        ("cwd", json!("/none"), "exec failed: "),
    ] {
        let mut process = sleep();
        process[key] = value;
        shim.ok("Exec", &exec(&bundle, "e1", &process.to_string(), &[]));
        shim.refuses("Start", &ids(&bundle, "e1", &[]), UNKNOWN, part);
        shim.ok("Delete", &ids(&bundle, "e1", &[]));
    }
    let joining = exec(&bundle, "e", &sleep().to_string(), &[]);
    let kill = ids(&bundle, "e", &[number(3, 9)]);
    shim.ok("Exec", &joining);
    shim.refuses("Exec", &joining, ALREADY_EXISTS, "exec e: already exists");
    shim.refuses("Kill", &kill, FAILED_PRECONDITION, "exec e has not been started");
    shim.ok("Start", &ids(&bundle, "e", &[]));
    shim.refuses("Start", &ids(&bundle, "e", &[]), FAILED_PRECONDITION, "exec e has been started");
    let wrong = "exec e must be stopped before it is deleted";
    shim.refuses("Delete", &ids(&bundle, "e", &[]), FAILED_PRECONDITION, wrong);
    let silly = ids(&bundle, "e", &[number(3, 65)]);
    shim.refuses("Kill", &silly, INVALID_ARGUMENT, "signal 65: ");
    shim.ok("Kill", &kill);
    shim.ok("Wait", &ids(&bundle, "e", &[]));
    shim.refuses("Kill", &kill, NOT_FOUND, "process already finished");
    shim.ok("Delete", &ids(&bundle, "e", &[]));
    shim.ok("Pause", &own);
    shim.ok("Exec", &joining);
    let paused = "exec failed: cannot exec in a paused container";
    shim.refuses("Start", &ids(&bundle, "e", &[]), FAILED_PRECONDITION, paused);
    shim.ok("Resume", &own);
    shim.ok("Kill", &[own.clone(), number(3, 9)].concat());
    shim.ok("Wait", &own);
    let not_running = "first process is not running";
    shim.refuses("Start", &ids(&bundle, "e", &[]), FAILED_PRECONDITION, not_running);
    for (method, part) in [
        ("Start", "start container box: it has stopped"),
        ("Pause", "container not running"),
        ("Resume", "container not paused"),
        ("Update", "container not running"),
        ("Stats", "not running"),
        ("Checkpoint", "in stopped state"),
    ] {
        shim.refuses(method, &own, FAILED_PRECONDITION, part);
    }
    let kill = [own.clone(), number(3, 9)].concat();
    shim.refuses("Kill", &kill, NOT_FOUND, "process already finished");
    shim.ok("Delete", &own);
    shim.end();
}

/// The limit on its descriptors is raised one by one: a step fails after the other.
#[test]
fn a_shim_that_runs_out_of_descriptors_leaves_nothing_half_made() {
    needs!(root, "prlimit");
    let host = Host::new();
    let bundle = sleeping(&host, "box");
    host.sh("mkfifo /srv/in /srv/out").run().ok();
    let shim = Shim::start(&host);
    let limit = |most: u64| {
        host.sh(&format!("prlimit --pid {} --nofile={most}:4096", shim.pid)).run().ok();
    };
    let stdio = |first: u64| {
        vec![
            text(first, "/srv/in"),
            text(first + 1, "/srv/out"),
            text(first + 2, "file:///srv/log"),
        ]
    };
    // Until it succeeds; how often it did not.
    let raise = |attempt: &dyn Fn() -> Answer, after: &dyn Fn()| {
        for most in 8.. {
            limit(most);
            let answer = attempt();
            limit(4096);
            match answer {
                Ok(_) => return most,
                Err((_, words)) => {
                    assert!(words.contains("EMFILE") || words.contains("Too many"), "{words}");
                    after();
                }
            }
        }
        unreachable!("no limit is enough")
    };
    let first = 8;
    let enough =
        raise(&|| shim.call("Create", &create(&bundle, &stdio(5))), &|| shim.is_as_before());
    assert!(enough > first + 9, "{enough}");
    shim.ok("Start", &text(1, "box"));
    let running = shim.holds();
    let joining = exec(&bundle, "e", &sleep().to_string(), &stdio(4));
    let enough = raise(
        &|| {
            shim.ok("Exec", &joining);
            shim.call("Start", &ids(&bundle, "e", &[]))
        },
        &|| {
            shim.ok("Delete", &ids(&bundle, "e", &[]));
            until("what was started has ended", || (shim.holds() == running).then_some(()));
        },
    );
    assert!(enough > first + 9, "{enough}");
    shim.ok("Kill", &ids(&bundle, "e", &[number(3, 9)]));
    shim.ok("Wait", &ids(&bundle, "e", &[]));
    let state = ttrpc::fields(&shim.ok("State", &text(1, "box")));
    // RUNNING
    assert_eq!(ttrpc::find(&state, 4).unwrap().value, 2, "{state:?}");
    shim.delete("box");
    shim.end();
}

#[test]
fn an_id_has_one_shim_and_one_container() {
    needs!(root);
    let host = Host::new();
    let bundle = sleeping(&host, "box");
    let shim = Shim::start(&host);
    shim.run(&bundle);
    // All at once, by one daemon, for the id that has one and for one that has none.
    let [old, new] = ["pod", "box"].map(|id| {
        let daemon = host
            .sh(&format!(
                "cd /srv/{id}
                for i in 1 2 3 4 5 6 7 8; do
                    {} -namespace test -address /run/c.sock -id {id} start >$i &
                done
                wait; for i in 1 2 3 4 5 6 7 8; do cat $i; echo; done
                exec sleep 1000",
                shim_binary().display()
            ))
            .start();
        let first = daemon.line();
        (1..8).for_each(|_| assert_eq!(daemon.line(), first));
        (daemon, first)
    });
    assert_eq!(host.path(old.1.strip_prefix("unix://").unwrap()), shim.socket);
    assert_ne!(old.1, new.1);
    // Not pgrep's own shell.
    let count = "pgrep -fc '[c]ontainerd-shim-garth-v1 -namespace test -id'";
    assert_eq!(host.sh(count).run().ok(), "2", "shims");
    assert_eq!(host.read("/srv/pod/shim.pid"), shim.pid);
    // That of another containerd cannot make this container once more, nor take its root away.
    let mut other = Connection::open(&host.path(new.1.strip_prefix("unix://").unwrap()));
    let answer = other.call(TASK[0], "Create", &create(&bundle, &[]));
    assert_refused("Create", &answer, ALREADY_EXISTS, "container box: already exists");
    shim.delete("box");
    // A pod whose container cannot be made is given up.
    other.call(TASK[0], "Shutdown", &text(1, "box")).unwrap();
    shim.end();
    until("all shims have ended", || {
        let left = host.sh("pgrep -f '[c]ontainerd-shim-garth-v1 -namespace'").run().stdout;
        left.is_empty().then_some(())
    });
}
