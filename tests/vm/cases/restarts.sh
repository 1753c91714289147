# as: root
# Units that are stopped, killed and started again.

a_killed_launcher_comes_back_with_its_ports() {
    systemd-run --quiet --unit=again -p Restart=on-failure -p RestartSec=100ms \
        garth wrap --name again -p 8080:80 -- busybox httpd -f -p 80 -h /etc
    eventually curl -sf http://127.0.0.1:8080/hostname
    for _ in 1 2 3; do
        main=$(systemctl show -P MainPID again.service)
        kill -KILL "$main"
        eventually unit_is again.service ActiveState active
        eventually bash -c "[ \$(systemctl show -P MainPID again.service) != $main ]"
        eventually curl -sf http://127.0.0.1:8080/hostname
    done
    say "$(systemctl show -p NRestarts,Result,ActiveState again.service | tr '\n' ' ')"
    systemctl stop again.service
    eventually is_gone again
}

a_stopped_unit_has_not_failed() {
    systemd-run --quiet --unit=quiet garth wrap -- sleep 1000
    eventually pgrep -x sleep
    systemctl stop quiet.service
    # A failed one would still be listed.
    equals "$(systemctl list-units --all --plain --no-legend quiet.service)" ''
}

a_restarted_unit_is_limited_and_not_left_frozen() {
    systemd-run --quiet --unit=busy -p Restart=always sh -c 'while :; do :; done'
    eventually unit_is busy.service ActiveState active
    main=$(systemctl show -P MainPID busy.service)
    garth limit --duty 30% --pid "$main" --for 10s >/tmp/limit.said 2>&1 &
    limit=$!
    sleep 2
    systemctl restart busy.service
    wait $limit || true
    main=$(systemctl show -P MainPID busy.service)
    contains "$(grep State: "/proc/$main/status")" R
    grep -q 'frozen 0' "/sys/fs/cgroup$(systemctl show -P ControlGroup busy.service)/cgroup.events"
    systemctl stop busy.service
}

a_sandbox_gets_other_limits_while_it_runs() {
    garth wrap -d --name grows --memory 64m --cpus 0.5 --pids-limit 50 -- sleep 1000
    eventually is_there grows
    dir=/sys/fs/cgroup$(garth exec grows -- cat /proc/1/cgroup 2>/dev/null | cut -d: -f3)
    [ -e "$dir/memory.max" ] || dir=$(find /sys/fs/cgroup -type d -name grows)
    garth update grows --memory 128m --cpus 1 --pids-limit 60
    equals "$(cat "$dir/memory.max" "$dir/pids.max" | tr '\n' ' ')" '134217728 60 '
    equals "$(cut -d' ' -f1 "$dir/cpu.max")" 100000
    garth delete --force grows
}
