//! Bad input: ids and config.json. An error, soon, and nothing left.

use garth_tests::{Bundle, needs};
use serde_json::json;

/// A create with this text as config.json must fail.
fn config_is_refused(text: &str) {
    bundle!(host, bundle);
    host.write("/srv/config.json", text);
    let create = "mv /srv/config.json $B/config.json; exec $R create --bundle $B $ID </dev/null";
    let ran = bundle.sh(create).run();
    assert!(ran.code > 0, "{ran}");
    assert!(!(bundle.log_text() + &ran.stderr).is_empty(), "failed without a word");
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("goroutine"), "{ran}");
    bundle.assert_nothing_left();
}

#[test]
fn no_config() {
    bundle!(host, bundle);
    let ran = bundle.sh("rm $B/config.json; exec $R create --bundle $B $ID </dev/null").run();
    assert!(ran.code > 0, "{ran}");
    bundle.assert_nothing_left();
}

#[test]
fn no_bundle() {
    bundle!(host, bundle);
    let ran = bundle.call(&format!("create --bundle /srv/nothing {}", bundle.id)).run();
    assert!(ran.code > 0, "{ran}");
    bundle.assert_nothing_left();
}

#[test]
fn an_empty_config() {
    config_is_refused("");
}

#[test]
fn a_config_that_is_no_json() {
    config_is_refused("tea");
}

#[test]
fn a_config_that_is_not_an_object() {
    config_is_refused("[1, 2]");
    config_is_refused("null");
}

#[test]
fn a_truncated_config() {
    config_is_refused("{\"ociVersion\": \"1.0.2\", \"process\": {\"args\": [\"sh\"");
}

#[test]
fn a_config_with_values_of_the_wrong_type() {
    config_is_refused("{\"ociVersion\": 1, \"root\": {\"path\": \"rootfs\"}}");
    config_is_refused(
        "{\"ociVersion\": \"1.0.2\", \"process\": {\"args\": \"sh\"}, \"root\": {\"path\": 3}}",
    );
}

#[test]
fn a_config_that_is_nested_without_end() {
    config_is_refused(&("[".repeat(100_000)));
}

#[test]
fn a_config_with_a_nul_in_an_argument() {
    bundle!(host, bundle);
    bundle.config["process"]["args"] = json!(["echo", "one\u{0}two"]);
    let ran = bundle.run();
    assert_ne!(ran.code, 0, "{ran}");
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_huge_config_that_is_right_runs() {
    bundle!(host, bundle);
    for number in 0..20_000 {
        bundle.config["annotations"][format!("org.example.{number}")] = "x".repeat(50).into();
    }
    assert_eq!(bundle.script("echo runs").run().ok(), "runs");
}

#[test]
fn unknown_properties_are_ignored() {
    bundle!(host, bundle);
    bundle.config["tea"] = json!({"green": true});
    bundle.config["process"]["tea"] = "green".into();
    bundle.config["linux"]["tea"] = json!([1, 2]);
    assert_eq!(bundle.script("echo runs").run().ok(), "runs");
}

fn id_is_refused(id: &str) {
    bundle!(host, bundle);
    bundle.save();
    let look = || host.sh("find /run -not -path '/run/garth*' -not -path /run/spec").run().ok();
    let before = look();
    let create = format!("create --bundle {}", bundle.dir(""));
    let ran = bundle.call(&create).arg(id).run();
    assert!(ran.code > 0, "{id:?}: {ran}");
    assert!(!ran.stderr.contains("panicked"), "{ran}");
    bundle.assert_nothing_left();
    assert_eq!(look(), before);
}

#[test]
fn an_id_with_a_slash() {
    id_is_refused("one/two");
}

#[test]
fn an_id_that_leads_out_of_the_state_directory() {
    id_is_refused("../out");
    id_is_refused("..");
    id_is_refused(".");
}

#[test]
fn an_id_with_a_newline_or_a_blank() {
    id_is_refused("one\ntwo");
    id_is_refused("one two");
}

#[test]
fn an_empty_id() {
    id_is_refused("");
}

#[test]
fn an_id_of_1025_characters() {
    id_is_refused(&"x".repeat(1025));
}

#[test]
fn an_id_with_everything_that_is_allowed() {
    bundle!(host, one);
    drop(one);
    let mut bundle = Bundle::named(&host, "A-z_0.9+x");
    assert_eq!(bundle.script("echo runs").run().ok(), "runs");
}

/// Makes `/bin/entry` the program: `start` must fail with these words, as `run` does, and name it.
fn start_fails(file: &[u8], words: &str) {
    bundle!(host, bundle);
    let path = host.path(&bundle.rootfs("bin/entry"));
    std::fs::write(&path, file).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.config["process"]["args"] = json!(["/bin/entry"]);
    let ran = bundle.run();
    assert_ne!(ran.code, 0, "{ran}");
    let of_run = bundle.logged_error();
    bundle.create().ok();
    let ran = bundle.start();
    assert_ne!(ran.code, 0, "{ran}");
    let error = bundle.logged_error();
    assert!(error.contains("/bin/entry") && error.to_lowercase().contains(words), "{error}");
    assert_eq!(error, of_run);
}

#[test]
fn start_tells_that_it_is_no_program() {
    start_fails(b"echo no interpreter is named\n", "exec format error");
}

#[test]
fn start_tells_that_the_program_is_for_another_machine() {
    let mut program = std::fs::read("/proc/self/exe").unwrap();
    // EM_AARCH64 in e_machine of elf(5).
    program[18..20].copy_from_slice(&183u16.to_le_bytes());
    start_fails(&program, "exec format error");
}

#[test]
fn start_tells_that_the_interpreter_is_missing() {
    start_fails(b"#!/no/such/interpreter\n", "no such file or directory");
}

#[test]
fn start_tells_that_a_line_ends_in_a_carriage_return() {
    start_fails(b"#!/bin/sh\r\necho runs\r\n", "no such file or directory");
}

/// As its parent, starts a container that fails, and looks after a while at which children have
/// ended.
const ENGINE: &str = r#"
import ctypes, os, subprocess, threading, time
ctypes.CDLL(None).prctl(36, 1)
runtime = os.environ["R"].split()
subprocess.run(runtime + ["create", "--bundle", os.environ["B"], "--pid-file", "/srv/pid", os.environ["ID"]],
    check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
pid = int(open("/srv/pid").read())
seen = []
def look():
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    time.sleep(0.05)
    os.waitpid(pid, 0)
    seen.append(pid)
looking = threading.Thread(target=look)
looking.start()
started = subprocess.run(runtime + ["start", os.environ["ID"]], stderr=subprocess.DEVNULL)
print(started.returncode != 0, seen == [pid])
looking.join()
"#;

/// Otherwise containerd says "task must be stopped before deletion", and the container stays for
/// good.
#[test]
fn the_end_of_a_container_whose_start_failed_is_seen_before_start_returns() {
    needs!("python3");
    bundle!(host, bundle);
    bundle.config["process"]["args"] = json!(["/bin/entry"]);
    host.write(&bundle.rootfs("bin/entry"), "no program\n");
    bundle.sh("chmod 755 $B/rootfs/bin/entry").run().ok();
    bundle.save();
    host.write("/srv/engine.py", ENGINE);
    assert_eq!(bundle.sh("exec python3 /srv/engine.py").run().ok(), "True True");
    bundle.delete().ok();
    bundle.assert_nothing_left();
}
