//! The runtime's own file, which a process that is about to become the container's still executes.

use garth_tests::until;
use serde_json::json;

/// Whoever inside opens the file of a process that is not busybox for writing says so: while it is
/// executed, and when it is not any more.
const ATTACK: &str = "
    for p in /proc/[0-9]*; do
        case $(readlink $p/exe) in
            */busybox|'') ;;
            *)  echo seen
                (exec 3>>$p/exe) && echo written
                exec 4<$p/exe
                kill -9 ${p#/proc/}
                while kill -0 ${p#/proc/}; do usleep 10000; done
                (exec 3>>/proc/self/fd/4) && echo written
                (exec 3<>/proc/self/fd/4) && echo written;;
        esac
    done 2>/dev/null; true";

/// The runtime reads its standard input there, for as long as the attack takes.
fn attacked_in_exec(program: &str) -> String {
    let yard = garth_tests::Yard::new();
    let mut bundle = garth_tests::Bundle::new(&yard);
    let script = format!("{}/usr/bin/script", bundle.rootfs(""));
    yard.write(&script, "#!/proc/self/exe update\n");
    yard.sh(&format!("chmod 755 {script}")).run().ok();
    bundle.sleeping();
    let hold = format!(
        "mkfifo /srv/fifo; exec 9<>/srv/fifo; $R exec $ID {program} <&9 >/dev/null 2>&1 & wait"
    );
    let running = bundle.sh(&hold).start();
    until("the runtime is inside", || {
        let script = "for p in /proc/[0-9]*; do readlink $p/exe; done 2>/dev/null; true";
        let text = bundle.exec("", script).ok();
        text.lines().any(|line| !line.ends_with("/busybox")).then_some(())
    });
    let text = bundle.exec("", ATTACK).ok();
    drop(running);
    text
}

#[test]
fn cve_2019_5736_exec_of_proc_self_exe() {
    garth_tests::needs!(root);
    assert_eq!(attacked_in_exec("/proc/self/exe mounts add x"), "seen");
}

#[test]
fn cve_2019_5736_exec_of_a_script_for_proc_self_exe() {
    garth_tests::needs!(root);
    assert_eq!(attacked_in_exec("/usr/bin/script --resources -"), "seen");
}

#[test]
fn cve_2019_5736_the_container_itself_is_proc_self_exe() {
    bundle!(yard, bundle);
    bundle.config["process"]["args"] = json!(["/proc/self/exe", "mounts", "add", "x"]);
    bundle.save();
    let run = "mkfifo /srv/fifo; exec 9<>/srv/fifo; exec $R run --detach --bundle $B $ID <&9 \
        >/dev/null 2>&1";
    bundle.sh(run).run().ok();
    // It is pid 1, which nobody inside can kill; what the file is open for is told all the same.
    let attack = "echo $(readlink /proc/1/exe | grep -vc busybox); exec 4</proc/1/exe
        (exec 3>>/proc/1/exe) 2>/dev/null && echo written; exec sleep 600 <&4";
    let held = bundle.call(&format!("exec {} sh -c", bundle.id)).arg(attack).start();
    assert_eq!(held.line(), "1");
    // From outside, through the descriptor that was opened inside.
    let pid = bundle.sh("$R ps --format json $ID | tr -d '[]\\n' | tr , ' '").run().ok();
    let sleeper = pid
        .split_whitespace()
        .find(|pid| yard.read(&format!("/proc/{pid}/cmdline")).starts_with("sleep"));
    let fd = format!("/proc/{}/fd/4", sleeper.unwrap());
    yard.sh(&format!("kill -9 {}", bundle.pid())).run().ok();
    let ran = yard.sh(&format!("test -e {fd} && (exec 3>>{fd}) && echo written")).run();
    assert_eq!(ran.stdout, "");
}

/// There is no loader that a root file system could bring along.
#[test]
fn cve_2019_5736_no_library_of_the_image_is_loaded() {
    bundle!(yard, bundle);
    bundle.config["process"]["args"] = json!(["/proc/self/exe", "--version"]);
    let text = bundle.run().ok();
    assert!(text.starts_with("garth"), "{text}");
}
