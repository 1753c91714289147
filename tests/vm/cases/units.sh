# as: root
# `garth wrap` as ExecStart of units: limits stay within the unit's, and stopping the unit stops
# everything.

# Allocates 150 MB, and reports it.
EAT='b = bytearray(150 << 20); print("150 MB")'

a_limit_does_not_leave_the_units_memory() {
    for delegate in no yes; do
        output=$(unit MemoryMax=48M MemorySwapMax=0 Delegate=$delegate -- \
            garth wrap --pids-limit 50 -- python3 -c "$EAT") && fail "Delegate=$delegate: $output"
        lacks "$output" '150 MB'
    done
}

a_delegated_unit_has_the_sandbox_below_itself() {
    output=$(unit Delegate=yes -- garth wrap --profile compat --memory 64m -- cat /proc/self/cgroup)
    contains "$output" .service/garth/
    systemd-run --quiet --unit=inner -p Delegate=yes garth wrap --name inner --memory 64m --cpus 1 -- sleep 100
    eventually is_there inner
    found=$(tree inner.service)
    contains "$found" inner.service/garth.launcher/cgroup.procs
    contains "$found" inner.service/garth/inner/cgroup.procs
    equals "$(cat /sys/fs/cgroup/system.slice/inner.service/garth/inner/memory.max)" 67108864
    say "$(echo "$found" | sed 's,/sys/fs/cgroup,,' | tr '\n' ' ')"
    [ ! -e /sys/fs/cgroup/garth ] || fail 'a directory of ours where systemd writes'
    # Freezing the unit is freezing the sandbox.
    systemctl freeze inner.service
    grep -q 'frozen 1' /sys/fs/cgroup/system.slice/inner.service/garth/inner/cgroup.events
    systemctl thaw inner.service
    systemctl stop inner.service
    eventually is_gone inner
    [ ! -e /sys/fs/cgroup/system.slice/inner.service ]
}

others_in_a_delegated_unit_make_room() {
    output=$(unit Delegate=yes -- sh -c 'sleep 1000 & garth wrap --memory 64m -- echo in; garth wrap --cpus 1 -- echo again')
    equals "$output" "in
again"
}

a_unit_that_delegates_nothing_gets_a_scope_beside_it_under_its_limits() {
    systemd-run --quiet --unit=outer --slice=special.slice -p MemoryMax=100M -p TasksMax=77 -p IPAddressDeny=any \
        garth wrap --name outer --pids-limit 50 -- sleep 100
    eventually is_there outer
    scope=$(systemctl list-units --plain --no-legend 'garth-outer-*.scope' | cut -d' ' -f1)
    eventually test -n "$scope"
    show=$(systemctl show -p Slice,MemoryMax,TasksMax,IPAddressDeny,Delegate "$scope")
    for line in Slice=special.slice MemoryMax=104857600 TasksMax=77 Delegate=yes; do contains "$show" "$line"; done
    # systemd does not define the order.
    for addresses in ::/0 0.0.0.0/0; do contains "$(grep ^IPAddressDeny= <<<"$show")" $addresses; done
    equals "$(cat "/sys/fs/cgroup/special.slice/$scope/garth/outer/pids.max")" 50
    say "$scope: $(echo "$show" | tr '\n' ' ')"
    garth exec outer -- true
    systemctl daemon-reload
    equals "$(cat "/sys/fs/cgroup/special.slice/$scope/garth/outer/pids.max")" 50
    systemctl stop outer.service
    eventually is_gone outer
    eventually test ! -e "/sys/fs/cgroup/special.slice/$scope"
    equals "$(systemctl list-units --all --plain --no-legend 'garth-outer-*')" ''
}

the_address_filter_of_a_unit_holds_for_its_sandbox() {
    busybox httpd -f -p 127.0.0.1:8099 -h /etc &
    server=$!
    eventually curl -s http://127.0.0.1:8099/hostname
    for delegate in no yes; do
        output=$(unit IPAddressDeny=any Delegate=$delegate -- \
            garth wrap --network host --pids-limit 50 -- curl -s -m 3 http://127.0.0.1:8099/hostname) &&
            fail "Delegate=$delegate: the page came"
    done
    kill $server
}

a_login_session_of_root_gets_a_scope() {
    garth wrap -d --name session --memory 64m -- sleep 100
    eventually is_there session
    scope=$(systemctl list-units --plain --no-legend 'garth-session-*.scope' | cut -d' ' -f1)
    equals "$(systemctl show -P Slice "$scope")" user-0.slice
    garth kill session
    eventually is_gone session
}

a_scope_can_be_asked_for() {
    output=$(unit Delegate=yes -- garth --systemd-cgroup wrap --profile compat -- cat /proc/self/cgroup)
    contains "$output" '0::/system.slice/garth-'
}

without_a_limit_the_command_stays_where_it_is() {
    contains "$(unit -- garth explain wrap -- true)" 'execve'
    lacks "$(unit -- garth explain wrap -- true)" systemd
    output=$(unit MemoryMax=48M MemorySwapMax=0 -- garth wrap -- python3 -c "$EAT") && fail "$output"
    lacks "$output" '150 MB'
}

a_killed_launcher_takes_its_sandbox_along() {
    systemd-run --quiet --unit=killed -p Delegate=yes garth wrap --name killed --memory 64m -- sleep 1000
    eventually is_there killed
    systemctl kill -s KILL --kill-whom=main killed.service
    eventually test ! -e /sys/fs/cgroup/system.slice/killed.service
    garth gc
    is_gone killed
}

the_limit_is_seen_inside() {
    equals "$(garth wrap --memory 64m -- cat /sys/fs/cgroup/memory.max)" 67108864
    equals "$(unit -- garth wrap --memory 64m -- cat /sys/fs/cgroup/memory.max)" 67108864
    output=$(garth wrap --memory 64m -- sh -c 'echo 1 >/sys/fs/cgroup/memory.max') && fail "$output"
    return 0
}

the_unit_of_the_documentation() {
    cat >/etc/systemd/system/docs.service <<'END'
[Service]
ExecStart=/usr/local/bin/garth wrap --name web -p 8080:80 --memory 256m \
    --rw /var/log/nginx --rw /var/lib/nginx -- nginx -g 'daemon off;'
Delegate=yes
Restart=on-failure
END
    systemctl daemon-reload
    systemctl start docs.service
    eventually curl -sf http://127.0.0.1:8080/
    systemctl stop docs.service
    equals "$(systemctl show -P Result docs.service)" success
    eventually is_gone web
}
