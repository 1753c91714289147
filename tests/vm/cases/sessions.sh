# as: ada, bob
# An ordinary user in a plain ssh session.

limits_are_made_by_the_users_systemd() {
    output=$(garth wrap --memory 64m --cpus 1 --pids-limit 50 -- python3 -c 'b = bytearray(150 << 20); print("150 MB")') &&
        fail "$output"
    lacks "$output" '150 MB'
    garth wrap -d --name mine --memory 64m --cpus 0.5 --pids-limit 50 -- sleep 100
    eventually is_there mine
    scope=$(systemctl --user list-units --plain --no-legend 'garth-mine-*.scope' | cut -d' ' -f1)
    contains "$(systemctl --user show -P ControlGroup "$scope")" /app.slice/garth-mine-
    equals "$(garth exec mine -- echo in)" in
    say "$(systemctl --user show -P ControlGroup "$scope")"
    garth kill mine
    eventually is_gone mine
    equals "$(systemctl --user list-units --all --plain --no-legend 'garth-mine-*')" ''
}

a_limit_does_not_leave_a_unit_of_the_users() {
    USER_UNITS=1
    for delegate in no yes; do
        output=$(unit MemoryMax=48M MemorySwapMax=0 Delegate=$delegate -- \
            garth wrap --pids-limit 50 -- python3 -c 'b = bytearray(150 << 20); print("150 MB")') && fail "$output"
        lacks "$output" '150 MB'
    done
    output=$(unit Delegate=yes -- sh -c 'garth wrap --memory 64m -- true; find /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup) -maxdepth 0')
    contains "$output" garth.launcher
}

controllers_that_are_lacking_are_named() {
    output=$(fails garth wrap --cpuset-cpus 0 -- true)
    contains "$output" 'user@.service'
    contains "$output" 'Delegate=cpu cpuset io memory pids'
    output=$(fails garth wrap --io read=10MB/s:/ -- true)
    contains "$output" 'user@.service'
}

the_limit_is_seen_inside() {
    equals "$(garth wrap --memory 64m -- cat /sys/fs/cgroup/memory.max)" 67108864
}
