//! Examples: what is wanted, and the line for it. They end the help of a verb and make a section of
//! its manual page.

use std::fmt::Write;

use clap::Command;

/// An example belongs to the verb, or the verbs, that its line names.
const EXAMPLES: &[(&str, &str)] = &[
    ("what a command sees in a sandbox", "garth wrap -- sh -c 'id; ps ax; ls /tmp'"),
    ("a shell, with a terminal of its own", "garth wrap -it -- bash"),
    ("a build without network that can write only here", "garth wrap --rw . -- make"),
    (
        "a web server, at port 8080 of this host",
        "garth wrap -p 8080:80 --rw /var/log/nginx -- nginx -g 'daemon off;'",
    ),
    (
        "a daemon in the background, with limits",
        "garth wrap -d --name cache -u nobody -p 11211:11211 --memory 256m -- memcached",
    ),
    (
        "downloads into this directory, at a rate",
        "garth wrap --network private --rate 5Mbit/s --rw . -- wget -i urls",
    ),
    (
        "what a start would do, without doing it",
        "garth explain wrap -p 8080:80 -- nginx -g 'daemon off;'",
    ),
    ("as JSON, for a program", "garth explain wrap --json -- true"),
    ("a shell in a running sandbox", "garth exec -it cache -- sh"),
    ("one command as another user", "garth exec -u daemon cache -- id"),
    ("the terminal of one that was started by wrap -dt", "garth attach cache"),
    ("left by ctrl-x instead of ctrl-p ctrl-q", "garth attach --detach-keys ctrl-x cache"),
    ("more memory, while it runs", "garth update --memory 512m cache"),
    ("another rate; none removes it", "garth update --rate up=20Mbit/s,down=none cache"),
    ("ask its command to end", "garth kill cache"),
    ("ask a daemon to read its configuration again", "garth kill cache HUP"),
    ("wait for its end; the exit status is the command's", "garth wait cache"),
    ("end it if it runs, and release what it had", "garth delete --force cache"),
    ("what it has outside, and whether that works", "garth check cache"),
    ("hold a running process to a rate", "garth limit --pid 13424 --rate 8Mbit/s"),
    ("limit a command from its start", "garth limit --rate 2MB/s -- rsync -a src/ host:dst/"),
    (
        "let a sandbox run 40 % of the time, for an hour",
        "garth limit --name cache --duty 40% --for 1h",
    ),
    ("the services of ./garth.toml, or what has changed in it", "garth up"),
    ("those of another file, without waiting for their health", "garth up -d -f /etc/shop.toml"),
    ("one of them, and those that it depends on", "garth up web"),
    ("what up would do, without doing it", "garth explain up"),
    ("the services of ./garth.toml, in the opposite order", "garth down"),
    ("one of them", "garth down web"),
    ("before a shutdown: garth up --resume starts them again", "garth down --all --resumable"),
    ("a service file from a unit of systemd", "garth import systemd nginx >garth.toml"),
    ("a unit for a service of ./garth.toml", "garth export systemd web"),
    (
        "five disks for other machines, at an address of this host",
        "garth export iscsi -d --name s1 --address 10.0.1.1 --chap chap vol{1..5}.img",
    ),
    (
        "a disk for clients of one network",
        "garth export nbd --name s1 --client 10.0.1.0/24 /dev/sdb",
    ),
    ("what a file means, with its variables", "garth config"),
    ("as JSON, for a program", "garth config --format json"),
    ("the output of two services, as it comes", "garth logs -f web db"),
    ("the last 100 lines of the last hour, with times", "garth logs -n 100 --since 1h -t web"),
    ("sandboxes, with their states, addresses and ports", "garth ps"),
    ("also those that ended within the last day, and how", "garth ps --all"),
    ("for scripts", "garth ps --format json"),
    ("what each sandbox and container uses now", "garth stats"),
    ("one of them, every five seconds", "garth stats -f -i 5s web"),
    ("with the time on the wire, for a program", "garth stats --layer wire --json"),
    ("the same on the whole terminal", "garth top"),
    ("usage for Prometheus", "garth metrics"),
    ("for its scraper, while this runs", "garth metrics --listen 127.0.0.1:9776"),
    ("what fork, posix_spawn and others cost here", "garth bench spawn"),
    (
        "with a chart, and for a comparison later",
        "garth bench spawn --svg spawn.svg --json spawn.json",
    ),
    ("beside bwrap, runc, crun and what else is installed", "garth bench start"),
    ("what has changed since", "garth bench start --compare start.json"),
    ("what a published port costs, and which layer which tool shows", "garth bench link"),
    ("a page of all reports in a directory", "garth bench report reports"),
    ("a receiver for transfers of your own", "garth wrap -p 5000:5000 -- garth bench sink 5000"),
    ("every cipher and MAC of OpenSSH", "garth bench ssh-ciphers"),
    ("some of them, in a minute", "garth bench ssh-ciphers --cipher gcm --cipher chacha"),
    ("a bundle, with rootfs/ and config.json, until it ends", "garth run --bundle /srv/web web"),
    (
        "the bundle in this directory, in the background",
        "garth run --detach --pid-file /run/web.pid web",
    ),
    ("prepare a container; its program waits", "garth create --bundle /srv/web web"),
    ("start the program of a created container", "garth start web"),
    ("its state, pid and bundle", "garth state web"),
    ("all containers", "garth list"),
    ("their IDs only", "garth list --quiet"),
    ("stop all its processes for now", "garth pause web"),
    ("let them continue", "garth resume web"),
    ("usage every second", "garth events --interval 1s web"),
    ("usage once", "garth events --stats web"),
    ("an example in this directory, beside rootfs/", "garth spec"),
    ("one for an unprivileged user", "garth spec --rootless"),
    ("what this runtime supports", "garth features"),
    ("add the mounts in a file", "garth mounts add web mounts.json"),
    ("remove them again", "garth mounts remove web mounts.json"),
    ("write it to files; the container ends", "garth checkpoint --image-path /srv/web/images web"),
    (
        "continue it from those files",
        "garth restore --image-path /srv/web/images --bundle /srv/web web",
    ),
    (
        "two copies of everything, on two servers",
        "garth volume create db --mirrors 2 'iscsi://10.0.{1,2}.1/iqn.2020-01.com.x:a'",
    ),
    (
        "two copies on this machine, in files",
        "garth volume create --mirrors 2 --layout mirror --size 1G pair one.img two.img",
    ),
    (
        "what that would run, without running it",
        "garth explain volume create data --mirrors 2 /dev/sdb /dev/sdc",
    ),
    ("how it would be started", "garth explain volume assemble --degraded data"),
    ("what stopping it would run", "garth explain volume stop data"),
    ("what would be removed, and from where", "garth explain volume destroy data"),
    ("how members would come back", "garth explain volume repair data"),
    ("how one would be taken out", "garth explain volume fail data /dev/sdc"),
    ("how another would take its place", "garth explain volume replace data /dev/sdc /dev/sdd"),
    ("how they would be compared", "garth explain volume scrub data"),
    ("how it is, and what may still fail", "garth volume status data"),
    ("while it is being rebuilt", "garth volume status --watch data"),
    ("for scripts: 0 healthy, 1 degraded, 2 not there", "garth volume status data --format json"),
    ("when a server is back", "garth volume repair data"),
    ("before its disk is pulled", "garth volume fail data /dev/sdc"),
    ("a new disk for it", "garth volume replace data /dev/sdc /dev/sdd"),
    ("do all members have the same?", "garth volume scrub data"),
    ("after its devices have grown", "garth volume grow data"),
    ("after a reboot", "garth volume assemble data"),
    ("without a server that is gone", "garth volume assemble --degraded data"),
    ("disconnect it, before a reboot", "garth volume stop data"),
    ("remove it from its devices", "garth volume destroy data"),
    ("with a server that is gone for good", "garth volume destroy data --without 10.0.2.1"),
    ("all volumes", "garth volume ls"),
    ("what works here, and how to get the rest", "garth doctor"),
    ("for scripts", "garth doctor --format json"),
    ("release what crashes have left behind", "garth gc"),
    ("in this shell", "source <(garth completions bash)"),
    (
        "in every bash of this user",
        "garth completions bash >~/.local/share/bash-completion/completions/garth",
    ),
    ("zsh: in a directory of $fpath", "garth completions zsh >~/.zfunc/_garth"),
    ("fish: for this user", "garth completions fish >~/.config/fish/completions/garth.fish"),
    ("elvish: in rc.elv", "eval (garth completions elvish | slurp)"),
    ("PowerShell: in $PROFILE", "garth completions powershell | Out-String | Invoke-Expression"),
    ("for this user", "garth man ~/.local/share/man"),
    ("for everyone", "garth man /usr/local/share/man"),
    ("read one without installing it", "garth man /tmp/man && man -M /tmp/man garth-wrap"),
];

/// The examples of the verb with this path, such as `garth explain wrap`. A verb that has further
/// ones below it has theirs.
pub fn of(path: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = move |line: &str| {
        let after = line.split_once(path).map(|(_, after)| after);
        after.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '-'))
    };
    EXAMPLES.iter().copied().filter(move |(_, line)| own(line))
}

/// With the examples of the verb, and of those below it, as the end of their help texts.
pub fn added(verb: Command, parent: &str) -> Command {
    let path = format!("{parent} {}", verb.get_name());
    let verb = verb.mut_subcommands(|below| added(below, &path));
    let styles = verb.get_styles().clone();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = format!("{header}Examples:{header:#}");
    for (what, line) in of(&path) {
        let _ = write!(text, "\n  # {what}\n  {literal}{line}{literal:#}");
    }
    verb.after_help(text)
}

#[cfg(test)]
mod tests {
    use super::super::{command, each, parse};
    use super::*;

    /// The words of a line up to a redirection, a pipe or another command, as a shell reads them.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
        for c in line[line.find("garth ").unwrap()..].chars() {
            match c {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                ' ' if !quoted => words.extend(word.take()),
                ')' | '|' | '&' | '>' | ';' if !quoted => break,
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        assert!(!quoted, "{line}");
        words
    }

    #[test]
    fn every_example_is_understood_by_the_parser() {
        for (what, line) in EXAMPLES {
            let args: Vec<_> = words(line).into_iter().map(Into::into).collect();
            parse(&args).unwrap_or_else(|error| panic!("{what}: {line}: {error}"));
        }
        assert_eq!(
            words("x <(garth wrap -- a 'b; c' ''>d)"),
            ["garth", "wrap", "--", "a", "b; c", ""]
        );
        let bad = ["garth", "wrap", "--memorie", "1m", "true"].map(Into::into);
        assert!(parse(&bad).is_err());
    }

    #[test]
    fn every_verb_has_an_example_in_its_help() {
        let mut all = Vec::new();
        each(&command(), "garth", &mut all);
        assert!(all.len() > 25, "the verbs were not found");
        for (path, mut verb) in all {
            let (what, line) = of(&path).next().unwrap_or_else(|| panic!("{path}: no example"));
            let help = verb.render_long_help().to_string();
            assert!(help.contains(&format!("  # {what}\n  {line}")), "{path}: {help}");
        }
        let below = of("garth mounts add").count() + of("garth mounts remove").count();
        assert_eq!(of("garth mounts").count(), below);
        assert!(of("garth wrap").all(|(_, line)| !line.contains("explain")));
    }

    #[test]
    fn an_example_fits_on_a_line_and_has_a_description() {
        for (what, line) in EXAMPLES {
            assert!(!what.is_empty() && what.len() <= 74, "{what}");
            assert!(line.len() <= 78, "{} columns: {line}", line.len());
        }
    }
}
