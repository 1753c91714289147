//! Help: groups of verbs, examples that work, completions, manual pages, hints, colours.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use garth_tests::{Host, binary, needs, until};

/// Runs a script with bash, with garth in PATH.
fn bash(script: &str, variables: &[(&str, &str)]) -> Output {
    let garth = binary().parent().unwrap().display().to_string();
    let path = garth + ":" + &std::env::var("PATH").unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).env("PATH", path).env_remove("NO_COLOR").env("TERM", "xterm");
    bash.envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// The output of a script that has no errors.
fn output(script: &str) -> String {
    let ran = bash(script, &[]);
    assert_eq!(text(ran.stderr), "", "{script}");
    text(ran.stdout)
}

/// The verbs by the groups in which `garth --help` shows them.
fn groups() -> Vec<(String, Vec<String>)> {
    let help = output("garth --help");
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for line in help.lines().take_while(|line| *line != "Options:") {
        match (line.strip_suffix(':'), line.strip_prefix("  ")) {
            (Some(title), _) => groups.push((title.into(), Vec::new())),
            (_, Some(verb)) => {
                let verb = verb.split(' ').next().unwrap().to_owned();
                groups.last_mut().unwrap().1.push(verb);
            }
            _ => {}
        }
    }
    groups
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("garth-help-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn help_shows_the_verbs_in_four_groups() {
    let groups = groups();
    let titles: Vec<&str> = groups.iter().map(|(title, _)| title.as_str()).collect();
    assert_eq!(titles, ["Sandboxes", "Services", "Containers (OCI)", "Host"]);
    for (group, verb) in [(0, "wrap"), (1, "ps"), (2, "create"), (3, "doctor")] {
        assert!(groups[group].1.iter().any(|other| other == verb), "{groups:?}");
    }
    assert_eq!(output("garth"), output("garth -h"));
}

#[test]
fn the_help_of_every_verb_has_an_example() {
    let verbs: Vec<String> = groups().into_iter().flat_map(|(_, verbs)| verbs).collect();
    assert!(verbs.len() > 25, "{verbs:?}");
    for verb in verbs {
        let help = output(&format!("garth {verb} --help"));
        let (_, examples) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{help}"));
        assert!(examples.contains(&format!("garth {verb}")), "{examples}");
        assert_eq!(help, output(&format!("garth help {verb}")));
    }
}

#[test]
fn the_examples_of_a_sandbox_in_the_background_work_one_after_the_other() {
    needs!(root, netns, cgroups, "memcached", "bash");
    let host = Host::new();
    for (verb, line) in [
        ("wrap", "garth wrap -d --name cache -u nobody -p 11211:11211 --memory 256m -- memcached"),
        ("exec", "garth exec -u daemon cache -- id"),
        ("update", "garth update --memory 512m cache"),
        ("update", "garth update --rate up=20Mbit/s,down=none cache"),
        ("check", "garth check cache"),
        ("ps", "garth ps"),
        ("kill", "garth kill cache"),
        ("wait", "garth wait cache"),
        ("ps", "garth ps --all"),
        ("delete", "garth delete --force cache"),
        ("gc", "garth gc"),
    ] {
        let help = host.garth(&format!("{verb} --help")).run().ok();
        assert!(help.contains(&format!("\n  {line}")), "{line} is not in: {help}");
        if verb == "kill" {
            // It must be beyond its start to obey.
            until("memcached answers", || {
                let ask = "printf 'version\\r\\nquit\\r\\n' | nc -w 5 127.0.0.1 11211";
                host.sh(ask).run().stdout.contains("VERSION").then_some(())
            });
        }
        let ran = host.sh(&line.replace("garth ", "$GARTH ")).run();
        assert_eq!(ran.code, 0, "{line}: {ran}");
    }
    host.assert_nothing_left();
}

#[test]
fn examples_that_only_look_or_write_a_file_work() {
    needs!(root, "bash");
    let scratch = Scratch::new("examples");
    let home = scratch.0.display();
    // Those that need no program, sandbox, volume or directory that may not be here.
    let works = [
        "wrap -- sh",
        "explain wrap",
        "explain up",
        "explain volume create",
        "config",
        "ps",
        "list",
        "features",
        "spec",
        "completions",
        "man ~",
    ];
    let others = ["# ", "eval ", "garth completions powershell"];
    let mut count = 0;
    for verb in groups().into_iter().flat_map(|(_, verbs)| verbs) {
        let help = output(&format!("garth {verb} --help"));
        let lines = help.split_once("\nExamples:\n").unwrap().1.lines();
        for line in lines.filter_map(|line| line.strip_prefix("  ")) {
            let works = works.iter().any(|words| line.contains(&format!("garth {words}")));
            if !works || others.iter().any(|start| line.starts_with(start)) {
                continue;
            }
            count += 1;
            let script = format!(
                "mkdir -p {home}/{count} && cd {home}/{count} && export HOME=$PWD && mkdir -p \
                 .local/share/bash-completion/completions .config/fish/completions .zfunc && \
                 printf '[service.web]\ncommand = \"true\"\n' >garth.toml && {line}"
            );
            let state = format!("{home}/{count}/state");
            let ran = bash(&script, &[("GARTH_ROOT", &state)]);
            assert!(ran.status.success(), "{line}: {ran:?}");
        }
    }
    assert!(count > 12, "only {count} examples were run");
}

#[test]
fn a_verb_a_flag_or_a_value_that_is_nearly_right_leads_to_the_right_one() {
    for (line, hint) in [
        ("wrp", "'wrap'"),
        ("help wrp", "'wrap'"),
        ("mounts ad", "'add'"),
        ("wrap --memry 5m -- true", "'--memory'"),
        ("--rot /x ps", "'--root'"),
        ("ps --frmat json", "'--format'"),
        ("ps --format jsn", "'json'"),
        ("wrap --profile compt -- true", "'compat'"),
        ("completions zssh", "'zsh'"),
        ("rm web", "; use delete"),
        ("stop web", "; use kill"),
        ("xyzzy", "; see --help"),
    ] {
        let ran = bash(&format!("garth {line}"), &[]);
        let stderr = text(ran.stderr);
        assert_eq!(text(ran.stdout), "", "{line}");
        assert!(stderr.starts_with("garth: ") && stderr.lines().count() == 1, "{line}: {stderr}");
        assert!(stderr.contains(hint), "{line}: {stderr}");
    }
}

#[test]
fn colours_are_for_terminals_and_obey_the_environment() {
    needs!("script");
    let (plain, coloured) = ("garth: unrecognized", "\x1b[1m\x1b[31mgarth:\x1b[0m unrecognized");
    let on_a_terminal = |line: &str| format!("script -qec '{line}' /dev/null");
    for (variables, terminal, pipe) in [
        (&[][..], true, false),
        (&[("NO_COLOR", "1")], false, false),
        (&[("TERM", "dumb")], false, false),
        (&[("CLICOLOR", "0")], false, false),
        (&[("CLICOLOR_FORCE", "1")], true, true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
    ] {
        for (wants, script) in [
            (terminal, on_a_terminal("garth --help; garth wrap -h; garth xyzzy")),
            (pipe, "(garth --help; garth wrap -h; garth xyzzy) 2>&1 | cat".into()),
        ] {
            let text = text(bash(&script, variables).stdout);
            let heading = if wants { "\x1b[1m\x1b[4mExamples:\x1b[0m" } else { "\nExamples:" };
            let error = if wants { coloured } else { plain };
            assert!(text.contains(heading), "{variables:?} {script}: {text:?}");
            assert!(text.contains(error), "{variables:?} {script}: {text:?}");
            assert_eq!(text.contains('\x1b'), wants, "{variables:?} {script}: {text:?}");
        }
    }
    // Not by where the other output goes.
    let piped = output(&on_a_terminal("garth --help | cat; garth doctor | cat"));
    assert!(piped.contains("Sandboxes:") && !piped.contains('\x1b'), "{piped:?}");
    let found = output(&on_a_terminal("garth doctor"));
    assert!(found.contains("\x1b[32mok      \x1b[0m kernel"), "{found:?}");
}

#[test]
fn bash_completes_verbs_flags_values_and_commands() {
    needs!("bash");
    output("garth completions bash | bash -n");
    for (words, offers, not) in [
        ("garth wr", "wrap", "run"),
        ("garth ''", "doctor", "--memory"),
        ("garth wrap --mem", "--memory", "--name"),
        ("garth help wr", "wrap", "wait"),
        ("garth mounts a", "add", "remove"),
        ("garth --log-format ''", "json", "wrap"),
        ("garth completions f", "fish", "bash"),
        ("garth wrap -p 80:80 -- bas", "bash", "--base"),
    ] {
        // As bash calls it: the words, the place of the cursor, and three arguments.
        let script = format!(
            "source <(garth completions bash); COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             $(complete -p garth | sed 's/.*-F \\([^ ]*\\) .*/\\1/') garth \
             \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let offered = output(&script);
        let offered: Vec<&str> = offered.lines().collect();
        assert!(offered.contains(&offers) && !offered.contains(&not), "{words}: {offered:?}");
    }
}

#[test]
fn bash_completes_the_names_of_sandboxes() {
    needs!(root, "bash");
    let host = Host::new();
    host.garth("wrap -d --name box-1 -- sleep 1000").run().ok();
    for (words, offered) in [
        ("garth kill ''", "box-1"),
        ("garth kill -s HUP b", "box-1"),
        ("garth exec --user root b", "box-1"),
        ("garth kill -s ''", ""),
        ("garth run b", ""),
        ("garth kill box-1 b", ""),
    ] {
        let script = format!(
            "garth() {{ \"$GARTH\" \"$@\"; }}; source <(garth completions bash); \
             cd /dev/shm; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _garth_more garth \"${{COMP_WORDS[COMP_CWORD]}}\" x; printf '%s' \"${{COMPREPLY[*]}}\""
        );
        let text = host.sh("bash -c \"$SCRIPT\"").env("SCRIPT", &script).run().ok();
        assert_eq!(text.contains("box-1"), !offered.is_empty(), "{words}: {text}");
    }
    host.garth("delete --force box-1").run().ok();
    host.assert_nothing_left();
}

#[test]
fn zsh_reads_its_completions() {
    needs!("zsh");
    output("garth completions zsh | zsh -n");
    let defined = "autoload -U compinit; compinit -D; source <(garth completions zsh); \
                   whence -w _garth _garth_names; print $_comps[garth]";
    assert_eq!(
        output(&format!("zsh -fc '{defined}'")),
        "_garth: function\n_garth_names: function\n_garth\n"
    );
}

#[test]
fn zsh_completes_verbs_flags_users_and_commands() {
    needs!("zsh");
    let scratch = Scratch::new("zsh");
    // A terminal with a shell, as a user has it: each line ends with the tab key.
    let script = r#"
        zmodload zsh/zpty
        zpty -b z env TERM=dumb PS1= zsh -f -i
        zpty -w z 'autoload -U compinit; compinit -D -u; source <(garth completions zsh); echo rea""dy'
        zpty -r z seen '*ready*'
        ask() { zpty -w -n z "$1"$'\t'; zpty -r z seen "*$2*"; print -r -- "$2"; zpty -w -n z $'\C-u' }
        ask 'garth wra' 'wrap '
        ask 'garth wrap --memory-s' 'memory-swap'
        ask 'garth wrap -u nobo' 'nobody'
        ask 'garth wrap -- zsh-and-no-other' 'zsh-and-no-other-command'
        zpty -d z
    "#;
    let dir = scratch.0.display();
    let command = format!("{dir}/zsh-and-no-other-command");
    fs::write(&command, "#!/bin/sh\n").unwrap();
    output(&format!("chmod +x {command}"));
    fs::write(scratch.0.join("ask"), script).unwrap();
    let seen = output(&format!("cd {dir} && PATH=$PWD:$PATH timeout 60 zsh -f ./ask"));
    let expected = "wrap \nmemory-swap\nnobody\nzsh-and-no-other-command\n";
    assert_eq!(seen, expected);
}

#[test]
fn fish_completes_verbs_and_flags() {
    needs!("fish");
    output("garth completions fish | fish -n");
    for (line, offers) in [("garth wr", "wrap\t"), ("garth wrap --mem", "--memory\t")] {
        let script = format!("garth completions fish | source; complete -C \"{line}\"");
        let offered = output(&format!("HOME=/dev/shm fish -c '{script}' 2>/dev/null"));
        assert!(offered.lines().any(|line| line.starts_with(offers)), "{line}: {offered}");
    }
}

#[test]
fn manual_pages_are_complete_and_clean() {
    needs!("man");
    let scratch = Scratch::new("man");
    let dir = scratch.0.display();
    output(&format!("garth man {dir}"));
    let pages = output(&format!("cd {dir} && ls -d man*/*"));
    assert!(pages.contains("man8/garth.8\n") && pages.contains("man1/garth.1\n"), "{pages}");
    for (_, verbs) in groups() {
        for verb in verbs {
            assert!(pages.contains(&format!("man1/garth-{verb}.1\n")), "{verb}: {pages}");
        }
    }
    for page in pages.lines() {
        // Warnings are what output() refuses.
        let text = output(&format!("LC_ALL=C.UTF-8 MANWIDTH=100 man --warnings -l {dir}/{page}"));
        assert!(text.contains("NAME\n"), "{page}: {text}");
    }
    let found = output(&format!("LC_ALL=C.UTF-8 man -M {dir} garth-wrap"));
    assert!(found.contains("--pids-limit") && found.contains("EXAMPLES"), "{found}");
    let found = output(&format!("LC_ALL=C.UTF-8 man -M {dir} 8 garth"));
    assert!(found.contains("STATE DIRECTORY") && found.contains("garth gc"), "{found}");
}

#[test]
fn mandoc_finds_no_fault_in_the_manual_pages() {
    needs!("mandoc");
    let scratch = Scratch::new("mandoc");
    let dir = scratch.0.display();
    output(&format!("garth man {dir}"));
    assert_eq!(output(&format!("mandoc -T lint -W warning {dir}/man*/*")), "");
}

#[test]
fn pages_that_cannot_be_written_are_an_error() {
    let ran = bash("garth man /dev/null/man", &[]);
    assert!(!ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
    let stderr = text(ran.stderr);
    assert!(stderr.starts_with("garth: write /dev/null/man/man1: ENOTDIR"), "{stderr}");
}
