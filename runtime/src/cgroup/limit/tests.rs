//! Writing, on plain files.

use std::collections::BTreeMap;
use std::fs;

use super::super::tests::Scratch;
use super::*;
use crate::config::Limits;
use crate::config::units::Size;

#[test]
fn unified_takes_the_names_of_files_that_are_there() {
    let tree = Scratch::new().with(&[("box/memory.high", ""), ("memory.high", "")]);
    let dir = tree.0.join("box");
    let one = |file: &str| BTreeMap::from([(file.to_owned(), "5".to_owned())]);
    write_unified(&dir, &one("memory.high")).unwrap();
    assert_eq!(fs::read_to_string(dir.join("memory.high")).unwrap(), "5");
    for file in ["../memory.high", "/memory.high", "memory", "", "..", ".high"] {
        let words = write_unified(&dir, &one(file)).unwrap_err().to_string();
        assert!(words.contains("not a cgroup file name"), "{words}");
    }
    let words = write_unified(&dir, &one("hugetlb.1GB.max")).unwrap_err().to_string();
    assert!(
        words.starts_with("unified \"hugetlb.1GB.max\": write ")
            && words.contains("hugetlb is not available here"),
        "{words}"
    );
    assert_eq!(fs::read_to_string(tree.0.join("memory.high")).unwrap(), "");
}

#[test]
fn a_missing_file_names_what_was_asked() {
    let tree = Scratch::new().with(&[("cgroup.controllers", "cpu\n")]);
    let dir = &tree.0;
    let none = Resources::default();
    let source = LimitSource::Config(&none);
    let words = |controller, field, file, optional| {
        let value = Setting::new(field, file, 9).optional(optional);
        write_all(dir, controller, vec![value], source).map_err(|error| error.to_string())
    };
    let no_pids = words(Controller::Pids, "pids.limit", "pids.max", false).unwrap_err();
    assert!(no_pids.starts_with("pids.limit 9: no pids controller in "), "{no_pids}");
    words(Controller::Pids, "pids.limit", "pids.max", true).unwrap();
    let no_file = words(Controller::Cpu, "cpu.burst", "cpu.max.burst", false).unwrap_err();
    assert!(no_file.starts_with("cpu.burst 9: write \"9\" to "), "{no_file}");
    let swap = || words(Controller::Memory, "memory.swap", "memory.swap.max", false).unwrap_err();
    assert!(swap().starts_with("memory.swap 9: no memory controller in "), "{}", swap());
    fs::write(dir.join("cgroup.controllers"), "cpu memory\n").unwrap();
    assert!(swap().contains("has no swap accounting"), "{}", swap());
}

#[test]
fn a_file_that_takes_no_limit_is_told_by_its_flag() {
    let tree = Scratch::new().with(&[("memory.limit_in_bytes/", "")]);
    let limits = Limits { memory: Some(Size(1 << 20)), ..Limits::default() };
    let source = LimitSource::Flags(&limits);
    let of = |file| vec![Setting::new("memory.limit", file, 1 << 20)];
    let words = |file| {
        let written = write_all(&tree.0, Controller::Memory, of(file), source);
        written.unwrap_err().to_string()
    };
    let there = words("memory.limit_in_bytes");
    assert!(there.starts_with("--memory 1m: write \"1048576\" to "), "{there}");
    assert!(words("memory.max").starts_with("--memory 1m: write "), "{}", words("memory.max"));
}
