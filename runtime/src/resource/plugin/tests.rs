//! Against the schema, and against one-line programs. The protocol as a whole is tested by
//! tests/tests/plugins.rs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::*;

/// A directory with one sh script.
struct Place(PathBuf);

impl Place {
    fn new(script: &str) -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("garth-plugin-{}-{number}", std::process::id());
        let place = Place(std::env::temp_dir().join(name));
        fs::create_dir(&place.0).unwrap();
        // Written by another process: a child forked by another test briefly inherits our file
        // descriptor open for writing, and then the script cannot be executed (ETXTBSY).
        let mut write = std::process::Command::new("tee");
        write.arg(place.program()).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut write = write.spawn().unwrap();
        write!(write.stdin.take().unwrap(), "#!/bin/sh\n{script}").unwrap();
        assert!(write.wait().unwrap().success());
        place.mode(0o755);
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    fn program(&self) -> PathBuf {
        self.0.join("it")
    }

    fn mode(&self, mode: u32) {
        fs::set_permissions(self.program(), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn find(&self) -> Result<PathBuf> {
        find(std::slice::from_ref(&self.0), "it").map(|(program, _)| program)
    }

    fn call(&self, input: &[u8], milliseconds: u64) -> Result<Vec<String>> {
        let answer = call::call(&self.program(), input, Duration::from_millis(milliseconds))?;
        call::read(true, &answer).map(|words| words.there)
    }

    fn says(script: &str) -> String {
        Place::new(script).call(b"{}", 20_000).unwrap_err().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_request_has_the_keys_of_the_schema() {
    let schema = include_str!("../../../specs/schema/plugin.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let request = &schema["$defs"]["request"];
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let config = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
    for verb in [Verb::Add, Verb::Check, Verb::Del] {
        let process = Some(Process { pid: 1, netns: "/proc/1/ns/net".into() });
        let sent = Request {
            protocol: PROTOCOL,
            garth_version: "0",
            verb,
            plugin: "it",
            kind: "sandbox",
            id: "web",
            directory: "/x".into(),
            process,
            config: &config,
        };
        let sent = serde_json::to_value(&sent).unwrap();
        let properties = &request["properties"];
        assert_eq!(keys(&sent), keys(properties));
        assert_eq!(keys(&sent["process"]), keys(&properties["process"]["properties"]));
        assert_eq!(sent["protocol"], properties["protocol"]["const"]);
        assert!(properties["verb"]["enum"].as_array().unwrap().contains(&sent["verb"]), "{sent}");
        let mut required: Vec<&str> =
            request["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        required.push("process");
        required.sort_unstable();
        assert_eq!(keys(&sent), required);
    }
}

#[test]
fn what_it_says_is_passed_on() {
    let there = Place::new(r#"cat >/dev/null; echo '{"protocol":1,"there":["a","b"],"new":1}'"#);
    assert_eq!(there.call(b"{}", 20_000).unwrap(), ["a", "b"]);
    let cases = [
        (r#"echo '{"protocol":1,"error":"no room"}'; exit 1"#, "no room"),
        (r#"echo '{"protocol":1,"error":"no room"}'"#, "no room"),
        (r#"echo '{"protocol":2}'"#, "its response is of protocol 2, not 1"),
        ("echo first >&2; echo last >&2; exit 3", "last (exited with code 3)"),
        ("exit 3", "exited with code 3 without a message"),
        ("kill -9 $$", "killed by signal 9 without a message"),
        ("exit 0", "no response"),
    ];
    for (script, said) in cases {
        assert_eq!(Place::says(script), said, "{script}");
    }
    let garbage = Place::says(r"printf 'hello\n\033[31mworld'");
    assert!(garbage.starts_with("invalid response \"hello  [31mworld\": "), "{garbage}");
}

#[test]
fn it_is_not_waited_for_without_end() {
    // The shell's child must be killed too: it would keep the output open.
    let hangs = Place::new("sleep 1000 & wait");
    let error = hangs.call(b"{}", 200).unwrap_err().to_string();
    assert!(error.starts_with("timed out after 200ms and was killed"), "{error}");
    let error = Place::says("yes >&1");
    assert!(error.starts_with("killed: its response exceeds 64 KiB"), "{error}");
    // A flood on standard error does not block it, and is not kept.
    let talks = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1";
    assert_eq!(Place::says(talks), "end (exited with code 1)");
}

#[test]
fn one_that_does_not_read_may_answer_and_one_that_leaves_a_daemon_is_done() {
    let deaf = Place::new(r#"exec <&-; echo '{"protocol":1}'"#);
    assert!(deaf.call(&vec![b' '; 1 << 20], 20_000).unwrap().is_empty());
    let daemon = Place::new(r#"sleep 7 & echo '{"protocol":1,"there":["x"]}'"#);
    assert_eq!(daemon.call(b"{}", 5_000).unwrap(), ["x"]);
}

#[test]
fn only_files_that_nobody_else_can_change_are_run() {
    let place = Place::new("");
    place.find().unwrap();
    place.mode(0o775);
    assert!(place.find().unwrap_err().to_string().contains("can be changed by other users"));
    place.mode(0o644);
    assert!(
        place.find().unwrap_err().to_string().contains("is not executable; run chmod +x on it")
    );
    place.mode(0o755);
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(place.find().unwrap_err().to_string().contains("or its directory can be changed"));
    let error = find(&[place.0.clone(), "/nowhere".into()], "other").unwrap_err().to_string();
    let looked = format!("plugin other: not found in {} or /nowhere; ", place.0.display());
    assert!(error.starts_with(&looked), "{error}");
}
