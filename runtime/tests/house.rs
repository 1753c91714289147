//! The rules of the house, checked against the source: imports only go downward, unsafe code lives
//! in `sys`, and no test is ignored without a reason. Each rule is also tried on a text that breaks
//! it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first. A file may use what is on its own floor or below.
const FLOORS: [(&str, u32); 16] = [
    ("sys", 0),
    ("wire", 1),
    ("config", 1),
    ("plan", 2),
    ("facts", 3),
    ("journal", 4),
    ("cgroup", 5),
    ("network", 5),
    ("volume", 5),
    ("resource", 6),
    ("start", 7),
    ("container", 8),
    ("service", 9),
    ("limit", 8),
    ("measure", 10),
    ("cli", 11),
];

/// `error.rs` stands beside the house: every file may use it, and it only knows `sys`.
fn floor(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

/// The room of a file below src/: its first directory, or its own name.
fn room(relative: &Path) -> String {
    let first = relative.iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Every `crate::ROOM` and `crate::{ROOM, ...}` in the code, comments aside.
fn uses(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let code = code.join("\n");
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(list) => {
                let mut depth = 1;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => start = true,
                        _ if start && c.is_alphanumeric() => {
                            rooms.push(word(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    rooms
}

fn upward(room: &str, text: &str) -> Vec<String> {
    let Some(own) = floor(room) else { return Vec::new() };
    let above = |used: &String| match floor(used) {
        Some(floor) => floor > own || (floor == own && used != room),
        None => false,
    };
    uses(text).into_iter().filter(above).collect()
}

fn unsafe_outside_sys(room: &str, text: &str) -> bool {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    let has = |line: &str| {
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|w| line.contains(w))
            || line.contains("allow(unsafe_code)")
    };
    room != "sys" && code.into_iter().any(has)
}

fn ignored_without_reason(text: &str) -> bool {
    text.lines().any(|line| line.trim() == concat!("#[", "ignore]"))
}

fn each_source(mut check: impl FnMut(&str, &str, &Path)) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&src);
    assert!(files.len() > 20, "the source was not found");
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        check(&room(relative), &fs::read_to_string(&file).unwrap(), relative);
    }
}

#[test]
fn imports_go_downward_only() {
    each_source(|room, text, file| {
        let found = upward(room, text);
        assert!(found.is_empty(), "{}: imports from above: {found:?}", file.display());
    });
    assert_eq!(upward("plan", "use crate::start::run;"), ["start"]);
    assert_eq!(upward("cgroup", "use crate::{error::Error, cli::{a, b}, sys};"), ["cli"]);
    assert_eq!(upward("limit", "let x = crate::container::Y;"), ["container"]);
    assert!(upward("start", "use crate::{plan, sys::raw}; // crate::cli").is_empty());
}

#[test]
fn unsafe_code_lives_in_sys() {
    each_source(|room, text, file| {
        assert!(!unsafe_outside_sys(room, text), "{}: unsafe code", file.display());
    });
    assert!(unsafe_outside_sys("plan", "let x = unsafe { y() };"));
    assert!(!unsafe_outside_sys("sys", "let x = unsafe { y() };"));
}

/// Programs started with `std::process` inherit blocked signals and the caller's descriptors.
fn starts_a_program_by_itself(text: &str) -> bool {
    let code = text.split("#[cfg(test)]").next().unwrap_or("");
    code.contains("use std::process::") && code.contains(" Command::new(")
}

#[test]
fn programs_are_started_by_sys_program_alone() {
    each_source(|_, text, file| {
        let for_tests = file.ends_with("tests.rs") || file.ends_with("seccomp/reference.rs");
        // It measures how other programs start theirs.
        let measures = file == Path::new("sys/spawners.rs");
        if !for_tests && !measures && file != Path::new("sys/program.rs") {
            let file = file.display();
            assert!(!starts_a_program_by_itself(text), "{file}: use crate::sys::program");
        }
    });
    assert!(starts_a_program_by_itself("use std::process::Command;\nlet x = Command::new(\"a\");"));
    assert!(!starts_a_program_by_itself("use clap::Command;\nlet x = Command::new(\"a\");"));
}

#[test]
fn no_test_is_ignored_without_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for dir in ["runtime/src", "runtime/tests", "tests"] {
        for file in sources(&root.join(dir)) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(!ignored_without_reason(&text), "{}: ignored test", file.display());
        }
    }
    assert!(ignored_without_reason(concat!("    #[", "ignore]\n")));
    assert!(!ignored_without_reason("    #[ignore = \"needs a second machine\"]\n"));
}

/// A number as written in source: decimal, hexadecimal or octal, perhaps shifted; without a cast.
fn number(text: &str) -> Option<i128> {
    let text = text.split(" as ").next()?.replace('_', "");
    let text = text.trim().trim_start_matches('(').trim_end_matches(')');
    if let Some((left, right)) = text.split_once("<<") {
        return number(left)?.checked_shl(u32::try_from(number(right)?).ok()?);
    }
    let (minus, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let value = match (digits.strip_prefix("0x"), digits.strip_prefix("0o")) {
        (Some(hex), _) => i128::from_str_radix(hex, 16),
        (_, Some(octal)) => i128::from_str_radix(octal, 8),
        _ => digits.parse(),
    };
    value.ok().map(|value| minus * value)
}

/// Every `const NAME: TYPE = VALUE;` in a source, as (name, type, value).
fn constants(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    text.match_indices("const ").filter_map(|(at, word)| {
        let (declared, _) = text[at + word.len()..].split_once(';')?;
        let (declared, value) = declared.split_once('=')?;
        let (name, kind) = declared.split_once(':')?;
        let is_name =
            name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        (is_name && name.len() > 2).then(|| (name, kind.trim(), value.trim()))
    })
}

/// What the libc crate defines for Linux with glibc, by name; `None`: not a plain number there.
fn of_libc() -> HashMap<String, Vec<Option<i128>>> {
    // Crates of other platforms need not be here.
    let platform = format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let libc = packages.iter().find(|package| package["name"] == "libc").unwrap();
    let src = Path::new(libc["manifest_path"].as_str().unwrap()).with_file_name("src");
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for file in sources(&src) {
        let path = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        let others = ["android", "emscripten", "musl", "uclibc", "l4re", "/b32/", "mips", "sparc"];
        if !path.contains("linux") || others.iter().any(|other| path.contains(other)) {
            continue;
        }
        for (name, kind, value) in constants(&fs::read_to_string(&file).unwrap()) {
            // Some clone3 flags are truncated to 0 by a type too small for them.
            let value = number(value);
            let cut = kind.ends_with("c_int") && value.is_some_and(|value| value > 0xffff_ffff);
            if !cut {
                found.entry(name.to_owned()).or_default().push(value);
            }
        }
    }
    found
}

fn written_by_hand(text: &str, libc: &HashMap<String, Vec<Option<i128>>>) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let has = |(name, _, value): &(&str, &str, &str)| {
        let value = number(value);
        let known =
            libc.get(*name).is_some_and(|known| known.iter().any(|k| *k == value || k.is_none()));
        value.is_some() && known
    };
    constants(&code.join("\n")).filter(has).map(|(name, ..)| name.to_owned()).collect()
}

#[test]
fn numbers_that_libc_has_are_libcs() {
    let libc = of_libc();
    assert!(libc.len() > 3000, "the source of libc was not understood");
    each_source(|_, text, file| {
        // The init and the keeper are programs without crates.
        let found = written_by_hand(text, &libc);
        let own = file.starts_with("sys/init") || file.starts_with("sys/keeper");
        let found = if own { Vec::new() } else { found };
        assert!(found.is_empty(), "{}: use those of libc: {found:?}", file.display());
    });
    let of = |text| written_by_hand(text, &libc);
    assert_eq!(of("const CLONE_NEWTIME: u64 = 0x80;"), ["CLONE_NEWTIME"]);
    assert_eq!(of("pub const UTIME_OMIT: i64 = 1073741822;"), ["UTIME_OMIT"]);
    assert_eq!(of("    const NLA_TYPE_MASK: u16 = 0x3fff;"), ["NLA_TYPE_MASK"]);
    assert!(of("const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;").is_empty());
    assert!(of("const CLONE_NEWTIME: u64 = libc::CLONE_NEWTIME as u64;").is_empty());
    assert!(of("const ENOSYS: u32 = 7; // const CLONE_NEWTIME: u64 = 0x80;").is_empty());
}

#[test]
fn files_stay_short_enough_to_be_one_thought() {
    const LINES: usize = 620;
    each_source(|_, text, file| {
        if file.ends_with("tests.rs") {
            return;
        }
        let lines = text.lines().count();
        assert!(lines <= LINES, "{} has {lines} lines: is it two files?", file.display());
    });
}

/// What a file uses from other files: `crate::a::b::X` and `super::X`, down to the defining file.
mod files {
    use std::collections::{BTreeMap, BTreeSet};

    type Module = Vec<String>;

    /// The source by module, without comments and tests.
    pub struct Files(BTreeMap<Module, String>);

    impl Files {
        pub fn new<'a>(files: impl Iterator<Item = (&'a str, String)>) -> Files {
            let module = |path: &str| -> Module {
                let names = path.trim_end_matches(".rs").split('/').map(str::to_owned);
                names.filter(|name| name != "mod" && name != "lib").collect()
            };
            let code = |text: String| -> String {
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("").to_owned();
                let lines = text.lines().map(|line| line.split("//").next().unwrap_or(""));
                lines.collect::<Vec<_>>().join("\n")
            };
            Files(files.map(|(path, text)| (module(path), code(text))).collect())
        }

        /// Groups of files that use each other, directly or indirectly.
        pub fn circles(&self) -> Vec<Vec<String>> {
            let mut reached = BTreeMap::new();
            for from in self.0.keys() {
                let mut seen = BTreeSet::new();
                let mut next = vec![from.clone()];
                while let Some(module) = next.pop() {
                    for used in self.used_by(&module) {
                        if seen.insert(used.clone()) {
                            next.push(used);
                        }
                    }
                }
                reached.insert(from, seen);
            }
            let mut circles = BTreeSet::new();
            for (module, seen) in reached.iter().filter(|(module, seen)| seen.contains(**module)) {
                let back =
                    |other: &&&Module| seen.contains(**other) && reached[**other].contains(*module);
                circles.insert(reached.keys().filter(back).map(|m| m.join("::")).collect());
            }
            circles.into_iter().collect()
        }

        fn used_by(&self, module: &Module) -> BTreeSet<Module> {
            let Some(text) = self.0.get(module) else { return BTreeSet::new() };
            let mut paths = Vec::new();
            let mut rest = String::new();
            // A door only re-exports: `pub use`.
            for part in text.split_inclusive(';') {
                let line = part.trim_start();
                match line.rsplit_once("use ").filter(|(before, _)| is_use(before)) {
                    Some((before, tree)) if !before.contains("pub") => {
                        expand(tree.trim_end_matches(';'), &mut paths);
                    }
                    Some(_) => {}
                    None => rest.push_str(part),
                }
            }
            for head in ["crate::", "super::"] {
                for (at, _) in rest.match_indices(head) {
                    let end = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
                    paths.push(rest[at..].split(end).next().unwrap_or("").to_owned());
                }
            }
            let found = paths.iter().filter_map(|path| self.resolve(module, path, 0));
            found.filter(|used| used != module).collect()
        }

        /// The file that defines what a path names, through doors.
        fn resolve(&self, from: &Module, path: &str, depth: usize) -> Option<Module> {
            let mut parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
            let mut at = match *parts.first()? {
                "crate" => Module::new(),
                "super" | "self" => from.clone(),
                child if self.0.contains_key(&[from.as_slice(), &[child.into()]].concat()) => {
                    from.clone()
                }
                _ => return None,
            };
            while let Some(first @ ("crate" | "super" | "self")) = parts.first().copied() {
                if first == "super" {
                    at.pop();
                }
                parts.remove(0);
            }
            while let Some(name) = parts.first() {
                let below = [at.as_slice(), &[(*name).to_owned()]].concat();
                if !self.0.keys().any(|module| module.starts_with(&below)) {
                    break;
                }
                at = below;
                parts.remove(0);
            }
            let through = parts.first().filter(|_| depth < 6).and_then(|name| {
                let shown = self.shown(&at, name)?;
                let rest = parts[1..].iter().map(|part| format!("::{part}")).collect::<String>();
                self.resolve(&at, &(shown + &rest), depth + 1)
            });
            through.or_else(|| self.0.contains_key(&at).then_some(at))
        }

        /// What a door's `pub use` means by `name`.
        fn shown(&self, door: &Module, name: &str) -> Option<String> {
            let text = self.0.get(door)?;
            let mut paths = Vec::new();
            for part in text.split(';') {
                if let Some((before, tree)) = part.trim_start().rsplit_once("use ")
                    && is_use(before)
                    && before.contains("pub")
                {
                    expand(tree, &mut paths);
                }
            }
            paths.into_iter().find(|path| path.rsplit("::").next() == Some(name))
        }
    }

    /// Is this only what may precede `use`?
    fn is_use(before: &str) -> bool {
        let words = before.split_whitespace().filter(|word| !word.starts_with("#["));
        let before: String = words.collect();
        before.is_empty() || (before.starts_with("pub") && !before.contains(['{', '}', '=']))
    }

    /// The leaves of a use tree.
    fn expand(tree: &str, paths: &mut Vec<String>) {
        let tree = tree.trim();
        let Some((before, rest)) = tree.split_once('{') else {
            paths.push(tree.split(" as ").next().unwrap_or("").trim().to_owned());
            return;
        };
        let (mut depth, mut leaf) = (0, String::new());
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth < 0 || (depth == 0 && c == ',') {
                if !leaf.trim().is_empty() {
                    expand(&format!("{}{}", before.trim(), leaf.trim()), paths);
                }
                leaf.clear();
                if depth < 0 {
                    return;
                }
            } else {
                leaf.push(c);
            }
        }
    }
}

fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let files = files.iter().map(|(path, text)| (*path, (*text).to_owned()));
    files::Files::new(files).circles()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut all = Vec::new();
    each_source(|_, text, file| {
        let name = file.file_stem().unwrap().to_str().unwrap();
        if !["tests", "fuzz", "reference", "main"].contains(&name) {
            all.push((file.to_str().unwrap().to_owned(), text.to_owned()));
        }
    });
    let all = all.iter().map(|(file, text)| (file.as_str(), text.clone()));
    let circles = files::Files::new(all).circles();
    assert!(circles.is_empty(), "these use each other: {circles:#?}");

    let circle = [
        ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub fn f() {}"),
        ("a/b.rs", "use super::c::{\n    C, D,\n};\npub struct B;"),
        ("a/c.rs", "fn g() { crate::a::B; }"),
        ("d.rs", "use crate::a::{B, f}; // use crate::d::X;"),
    ];
    assert_eq!(circles_of(&circle), [["a::b", "a::c"]]);
    assert_eq!(circles_of(&circle[..2]), [[""; 0]; 0]);
    // A door that does something itself is also a file of the circle.
    let door = [("a/mod.rs", "use b::B;\npub fn f() {}"), ("a/b.rs", "use super::f;")];
    assert_eq!(circles_of(&door), [["a", "a::b"]]);
}

/// Names of public types, by the files that define them.
fn public_types(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let name = |line: &str| -> Option<String> {
        let line = line.strip_prefix("pub")?;
        let line =
            line.strip_prefix('(').map_or(Some(line), |rest| Some(rest.split_once(')')?.1))?;
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        let name = words.next()?.split(|c: char| !c.is_alphanumeric()).next()?;
        ["struct", "enum", "trait", "type", "union"].contains(&kind).then(|| name.to_owned())
    };
    text.lines().filter_map(name).collect()
}

#[test]
fn one_name_is_one_type() {
    let mut all = std::collections::BTreeMap::<String, Vec<String>>::new();
    each_source(|room, text, file| {
        // The words of the command line are named like its verbs, and the types of config.json as
        // in the specification.
        if room != "cli" && !file.starts_with("config/oci") {
            for name in public_types(text) {
                all.entry(name).or_default().push(file.display().to_string());
            }
        }
    });
    assert!(all.len() > 100, "the types were not found");
    all.retain(|_, files| files.len() > 1);
    assert!(all.is_empty(), "types of the same name: {all:#?}");
    let text = "pub struct A;\npub(crate) enum B<T> {}\nstruct C;\n#[cfg(test)]\nmod tests {\npub type D = A;";
    assert_eq!(public_types(text), ["A", "B"]);
}
