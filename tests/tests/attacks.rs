//! What a workload tries in order to get out, and what a hostile root file system or state
//! directory tries on the caller.

use garth_tests::{Yard, needs};

/// Between its start and its execve pid 1 shares the caller's memory and has its descriptors.
#[test]
fn the_command_never_runs_beside_an_init_that_still_is_a_part_of_the_caller() {
    needs!(root, "strace");
    let yard = Yard::new();
    let attack = "for i in 1 2 3 4 5; do
            (exec 3<>/proc/1/mem) && echo memory
            readlink /proc/1/exe
            ls /proc/1/fd
        done 2>/dev/null; true";
    for user in ["", "-u www-data"] {
        for more in ["", "--pids-limit 50"] {
            // The init's execve takes a second.
            let ran = yard
                .sh(&format!(
                    "exec strace -f -o /dev/null -e inject=execveat:delay_enter=1000000 \
                        $GARTH wrap {user} {more} -- sh -c '{attack}'"
                ))
                .run();
            assert_eq!(ran.ok(), "", "wrap {user} {more}");
        }
    }
    yard.assert_nothing_left();
}
