//! The commands of docs/blog.md work.

use garth_tests::{Host, needs};

const PAGE: &str = include_str!("../../docs/blog.md");

#[test]
fn the_commands_of_the_posts_work() {
    needs!(root, netns, "ssh", "/usr/sbin/sshd", "nc", "ip");
    let host = Host::with_changes_of(&["/tmp"]);
    host.sh("mkdir /srv/bin && ln -s $GARTH /srv/bin/garth").run().ok();
    let blocks = PAGE.split("```console\n").skip(1).map(|text| text.split_once("\n```").unwrap().0);
    let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands {
        let command = command.strip_prefix("$ ").expect("a line of a block is a command");
        let ran = host.sh(&format!("cd /srv; PATH=/srv/bin:$PATH; {command}")).run();
        assert_eq!(ran.code, 0, "{command}: {ran}");
        // What the post found.
        let shows = match command {
            "garth bench spawn --quick" => "fork: ",
            "garth bench link --quick" => "iftop would show",
            "garth wrap -- ip -br link" => "lo ",
            "garth wrap --network private -- ip -br address" => "eth0",
            _ => "",
        };
        assert!(ran.stdout.contains(shows), "{command}: {ran}");
    }
    host.assert_nothing_left();
}
