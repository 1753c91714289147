#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;
use crate::resource::record::Record;
use crate::service::file::ServiceFile;
use crate::start::Options;

fn asked(keys: &str) -> AskedService {
    let text = format!("[service.web]\ncommand = \"true\"\n{keys}");
    let file = ServiceFile::parse(&text, Path::new("/x/garth.toml"), &|_| None).unwrap();
    let service = file.services["web"].clone();
    let resolved = service.settings.clone().resolve_for_service(None, Path::new("/x")).unwrap();
    AskedService {
        file: file.path,
        service,
        sandbox: resolved.sandbox,
        options: Options::default(),
        reaches: Vec::new(),
    }
}

fn found(before: &str, after: &str, is_kept: bool) -> Action {
    let record = Record::new("web", asked(before), Resources::default());
    action(Some(&Known { record, is_up: true, is_kept }), &asked(after))
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn what_did_not_change_is_left_alone() {
    let text = "memory = \"64m\"\nenv = [\"A=b\"]\nafter = []";
    assert_eq!(found(text, text, true), Action::Keep);
    assert_eq!(found(text, text, false), Action::TakeUp);
    assert_eq!(action(None, &asked(text)), Action::Start);
    let record = Record::new("web", asked(text), Resources::default());
    let known = Known { record, is_up: false, is_kept: false };
    assert_eq!(action(Some(&known), &asked(text)), Action::Start);
}

#[test]
fn limits_and_decisions_change_while_it_runs() {
    let change = |names: &[&str]| Action::Change(keys(names));
    assert_eq!(found("memory = \"64m\"", "memory = \"32m\"", true), change(&["memory"]));
    assert_eq!(found("memory = \"64m\"", "memory = \"64m\"\ncpus = 2", true), change(&["cpus"]));
    assert_eq!(found("", "restart = \"always\"", true), change(&["restart"]));
    assert_eq!(found("", "stop-timeout = \"1s\"", false), change(&["stop-timeout"]));
    let network = "network = \"private\"\n";
    let rate = |rate: &str| format!("{network}rate = \"{rate}\"");
    assert_eq!(found(network, &rate("1Mbit/s"), true), change(&["rate"]));
    assert_eq!(found(&rate("1Mbit/s"), &rate("up=2Mbit/s"), true), change(&["rate"]));
    assert_eq!(found(&rate("1Mbit/s"), network, true), change(&["rate"]));
}

#[test]
fn everything_else_is_a_restart() {
    let restart = |names: &[&str]| Action::Restart(keys(names));
    // There is no cgroup to limit.
    assert_eq!(found("", "memory = \"32m\"", true), restart(&["memory"]));
    // A limit is not taken away.
    assert_eq!(found("memory = \"32m\"\ncpus = 1", "cpus = 1", true), restart(&["memory"]));
    assert_eq!(found("env = \"A=b\"", "env = \"A=c\"", true), restart(&["env"]));
    let (before, after) = ("memory = \"32m\"", "memory = \"64m\"\nread-only = true");
    assert_eq!(found(before, after, true), restart(&["memory", "read-only"]));
    assert_eq!(found("", "health = { tcp = 80 }", true), restart(&["health"]));
}
