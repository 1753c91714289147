//! The caller's terminal, which a program inside may have as its standard input.

use crate::with_intruder;

/// Typing into the caller's terminal (TIOCSTI) needs it as the controlling terminal; a program in a
/// session of its own has none.
#[test]
fn cve_2016_2568_the_callers_terminal_does_not_control_a_program_inside() {
    bundle!(host, bundle);
    garth_tests::needs!("script");
    with_intruder(&bundle);
    let look = "test -t 0 && echo terminal
        (: </dev/tty) 2>/dev/null && echo controls
        cut -d\" \" -f7 /proc/self/stat
        for request in 5412 100005412 7fffffff00005412 541c; do intruder type $request; done";
    let clean = |text: String| text.replace('\r', "").trim().replace('\n', " ");
    let refused = |text: &str| {
        let rest = text.strip_prefix("terminal 0 ").unwrap_or_else(|| panic!("{text}"));
        assert!(rest.split("errno").skip(1).count() == 4, "{text}");
    };
    host.write(&bundle.rootfs("/look"), look);
    bundle.script("sh /look");
    let run = bundle.sh("exec script -qec \"$R run --bundle $B $ID\" /dev/null").run().ok();
    refused(&clean(run));
    bundle.sleeping();
    let exec = bundle.sh("exec script -qec \"$R exec $ID sh /look\" /dev/null").run().ok();
    refused(&clean(exec));
}
