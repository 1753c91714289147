//! Killed at any point, Garth leaves nothing that `garth gc` does not find.
//!
//! A point is the n-th call of one system call that changes something. strace counts them once;
//! then the same command runs again for each point and is killed there, on entering the call, so
//! that all before it has happened and it has not. strace counts for each process by itself:
//! without `-f` the points are those of Garth's own process, with `-f` also those of the child
//! that becomes the command; there a Garth that survives its child has to clean up.
//!
//! `KILLPOINTS=all` takes every point; a number takes so many, spread evenly; the default is 16.
#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::collections::BTreeMap;

use garth_tests::{Ran, Yard, needs};

const CHANGES: &str = "clone,clone3,fork,vfork,execve,execveat,exit_group,unshare,setns,\
    mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,symlink,symlinkat,link,linkat,\
    open,openat,openat2,write,pwrite64,writev,ftruncate,fallocate,fchmod,fchown,fsync,fdatasync,\
    flock,fcntl,memfd_create,socket,bind,connect,listen,sendto,sendmsg,sendmmsg,recvfrom,recvmsg,\
    mount,umount2,pivot_root,open_tree,move_mount,mount_setattr,fsopen,fsmount,fsconfig,chroot,\
    sethostname,setsid,setresuid,setresgid,setgroups,capset,prctl,seccomp,prlimit64,kill,\
    pidfd_send_signal,wait4,waitid,close,close_range";

/// Its mark, if it stays, is a file below the state root.
const PLUGIN: &str = r#"#!/bin/sh
case $(cat) in
*'"verb":"add"'*) mkdir -p /run/garth/marks && : >/run/garth/marks/mark ;;
*'"verb":"del"'*) rm -f /run/garth/marks/mark ;;
esac
"#;

/// `-f` or nothing, and garth's words.
fn strace(yard: &Yard, follow: &str, options: &str, words: &str) -> Ran {
    let call = yard.sh(&format!("exec strace {follow} {options} $GARTH {words}"));
    call.env("GARTH_PLUGIN_PATH", "/srv/plugins").run()
}

/// The points of a command: a system call and how often the busiest process makes it.
fn points(yard: &Yard, follow: &str, words: &str) -> Vec<(String, u32)> {
    strace(yard, follow, &format!("-o /srv/trace -e trace={CHANGES}"), words).ok();
    yard.assert_nothing_left();
    counted(yard, follow)
}

/// Those of the trace that was written.
fn counted(yard: &Yard, follow: &str) -> Vec<(String, u32)> {
    let mut counts = BTreeMap::<(String, String), u32>::new();
    for line in yard.read("/srv/trace").lines() {
        // `1234 mkdir("/run", 0755) = 0`; the pid only with -f.
        let (pid, call) =
            if follow.is_empty() { ("", line) } else { line.split_once(' ').unwrap() };
        let call = call.trim_start();
        if let Some((name, _)) = call.split_once('(').filter(|_| !call.starts_with(['<', '-', '+']))
        {
            *counts.entry((name.to_owned(), pid.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::<String, u32>::new();
    for ((name, _), count) in counts {
        let entry = most.entry(name).or_default();
        *entry = count.max(*entry);
    }
    let all: Vec<_> = most
        .into_iter()
        .flat_map(|(name, count)| (1..=count).map(move |n| (name.clone(), n)))
        .collect();
    let wanted = match std::env::var("KILLPOINTS").as_deref() {
        Ok("all") => all.len(),
        Ok(number) => number.parse().expect("KILLPOINTS is `all` or a number"),
        Err(_) => 16,
    };
    let wanted = wanted.clamp(1, all.len());
    (0..wanted).map(|i| all[i * all.len() / wanted].clone()).collect()
}

fn survives(follow: &str, words: &str) {
    let yard = Yard::with_neighbour();
    yard.write("/srv/plugins/mark", PLUGIN);
    yard.sh("chmod 755 /srv/plugins /srv/plugins/mark").run().ok();
    let points = points(&yard, follow, words);
    println!("garth {words}: {} points", points.len());
    for (call, n) in points {
        let options = format!("-o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={n}");
        let killed = strace(&yard, follow, &options, words);
        let point = format!("{call} {n}, exit code {}", killed.code);
        // The first may come while the kernel still ends the sandbox, or a keeper cleans up too.
        for _ in 0..20 {
            let gc = yard.garth("gc").run();
            assert_eq!(gc.code, 0, "gc after a kill at {point}: {gc}");
            if yard.left().is_empty() {
                break;
            }
        }
        println!("killed at {point}");
        yard.assert_nothing_left();
        // And all can be had again.
        let again = yard.garth(words).env("GARTH_PLUGIN_PATH", "/srv/plugins").run();
        assert_eq!(again.code, 0, "again after a kill at {point}: {again}");
        yard.assert_nothing_left();
    }
}

const WRAP: &str = "wrap -p 8080:80 -p [::1]:8081:81/udp --memory 64m --pids-limit 64 -- true";
const WITH_PLUGIN: &str = "wrap --plugin mark --memory 64m -- true";
const RATED: &str = "wrap --network private --rate up=10Mbit/s,down=2MB/s -- true";
const GROUPED: &str =
    "wrap --network private --rate-group all:up=10Mbit/s,down=2MB/s,share=2 -- true";
const DETACHED: &str = "wrap -d --name web -p 8080:80 --pids-limit 64 -- true";

#[test]
fn garth_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("", WRAP);
}

#[test]
fn any_process_of_a_start_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("-f", WRAP);
}

#[test]
fn a_detaching_garth_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("", DETACHED);
}

#[test]
fn any_process_of_a_detached_start_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("-f", DETACHED);
}

#[test]
fn garth_may_be_killed_at_any_point_beside_a_plugin() {
    needs!(root, "strace");
    survives("", WITH_PLUGIN);
}

#[test]
fn any_process_may_be_killed_at_any_point_the_plugins_too() {
    needs!(root, "strace");
    survives("-f", WITH_PLUGIN);
}

#[test]
fn a_garth_that_keeps_a_rate_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("", RATED);
}

#[test]
fn the_first_and_last_of_a_rate_group_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    survives("", GROUPED);
}

#[test]
fn an_update_may_be_killed_at_any_point() {
    needs!(root, netns, "strace");
    let yard = Yard::with_neighbour();
    let start = || {
        yard.garth("wrap -d --name web --network private -- sleep 1000").run().ok();
    };
    start();
    const UPDATE: &str = "update web --rate up=10Mbit/s,down=2MB/s";
    strace(&yard, "", &format!("-o /srv/trace -e trace={CHANGES}"), UPDATE).ok();
    yard.garth("delete --force web").run().ok();
    yard.assert_nothing_left();
    for (call, n) in counted(&yard, "") {
        start();
        let options = format!("-o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={n}");
        let killed = strace(&yard, "", &options, UPDATE);
        println!("killed at {call} {n}, exit code {}", killed.code);
        // What was begun can be finished, and what was left can be released.
        yard.garth("update web --rate up=1Mbit/s").run().ok();
        assert!(yard.garth("ps").run().ok().contains("up=1Mbit/s"), "after a kill at {call} {n}");
        yard.garth("delete --force web").run().ok();
        yard.assert_nothing_left();
    }
}
