#!/bin/bash
# docker: dockerd with a containerd of its own.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

export DOCKER_HOST=unix://$TEST_HOST/docker.sock DOCKER_CONFIG=$TEST_HOST/docker-config

docker() { timeout -k 5 60 /usr/bin/docker "$@"; }
# This docker knows no other shim; with SHIM in the environment, Garth's own has its name.
use_shim containerd-shim-runc-v2

start_dockerd() {
    # Below /run, since socket names must be short; live-restore, so that containers outlive the
    # daemon.
    dockerd --host "$DOCKER_HOST" --data-root "$TEST_HOST/data" --exec-root /run/docker-test \
        --pidfile "$TEST_HOST/dockerd.pid" --add-runtime "tested=$RUNTIME" --default-runtime tested \
        --live-restore --exec-opt native.cgroupdriver=cgroupfs --storage-driver overlay2 \
        >>"$TEST_HOST/log" 2>&1 &
    echo $! >"$TEST_HOST/pid"
    until_ok docker version || die "dockerd: $(tail -n 5 "$TEST_HOST/log")"
}

stop_dockerd() {
    kill "$(cat "$TEST_HOST/pid")"
    gone() { ! kill -0 "$(cat "$TEST_HOST/pid")"; }
    until_ok gone
}

tidy() {
    local left
    left=$(docker ps -aq)
    # shellcheck disable=SC2086
    [ -z "$left" ] || docker rm -f $left
}
# What the runtime knows about, of containers that docker has not removed.
known() { "$RUNTIME" --root "/run/docker-test/runtime-runc/moby" list -q; }
inspect() { docker inspect -f "$2" "$1"; }
pid() { inspect "$1" '{{.State.Pid}}'; }
state() { inspect "$1" '{{.State.Status}}'; }
idle() { docker run -d --name "$@" testimage sh -c 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done'; }
idle_with() { idle "$@" >"$TEST_HOST/id"; }
run() { docker run --rm "$@"; }

start_dockerd
docker load -q -i "$TEST_HOST/testimage.tar" >>"$TEST_HOST/log" 2>&1 || die "docker load: $(tail -n 5 "$TEST_HOST/log")"
docker tag localhost/testimage:latest testimage

# docs/nested.md: what works where.
check_a_sandbox_inside() {
    local inside="-v $GARTH:/garth:ro"
    # shellcheck disable=SC2086
    {
        has "$(fails 125 run $inside testimage /garth wrap -- true)" 'a seccomp filter in force here forbids it'
        fails 3 run $inside testimage /garth limit --rate 1MB/s -- sh -c 'exit 3'
        fails 3 run $inside --security-opt seccomp=unconfined testimage /garth wrap -- sh -c 'exit 3'
        has "$(fails 125 run $inside --cap-add SYS_ADMIN testimage /garth wrap -- true)" 'pivot into the root' \
            'a seccomp filter in force here forbids it'
    }
}

check_run_leaves_nothing() {
    is output "$(run testimage echo hello)" hello
    is containers "$(docker ps -aq)" ''
    is state "$(known)" ''
}

check_the_runtime_is_used() {
    idle_with box
    is runtime "$(inspect box '{{.HostConfig.Runtime}}')" tested
    is container "$(known)" "$(cat "$TEST_HOST/id")"
    has "$("$RUNTIME" --root /run/docker-test/runtime-runc/moby state "$(cat "$TEST_HOST/id")")" '"status": "running"'
}

check_the_shim_is_used() {
    [ -n "${SHIM-}" ] || skip "that of containerd"
    idle_with box
    is inode "$(stat -L -c %i "/proc/$(pgrep -f 'containerd-shim-runc-v2.* -id')/exe")" "$(stat -L -c %i "$SHIM")"
}

check_environment_of_image() {
    has "$(run -e MINE=1 -e EMPTY= testimage env)" FROM_IMAGE=yes PATH=/usr/bin:/bin MINE=1 EMPTY=
}

check_exit_codes() {
    fails 0 run testimage true
    fails 7 run testimage sh -c 'exit 7'
    # Pid 1 is immune to signals it does not handle; its child is not.
    fails 137 run testimage sh -c 'sh -c "kill -KILL \$\$"; exit $?'
    fails 143 run testimage sh -c 'sh -c "kill \$\$; sleep 9"; exit $?'
}

check_command_not_found() {
    has "$(fails 127 run testimage nothing-there)" nothing-there 'executable file not found'
    has "$(fails 127 run testimage /nothing/there)" /nothing/there 'no such file or directory'
    is state "$(known)" ''
}

# The program is executed only by `start`; with runc, after that has returned.
check_command_is_no_program() {
    has "$(run testimage headless 2>&1 || :)" headless 'exec format error'
    has "$(run testimage dos 2>&1 || :)" dos 'no such file or directory'
    is state "$(known)" ''
}

check_command_not_executable() {
    has "$(fails 126 run testimage /etc/plain)" /etc/plain 'permission denied'
    has "$(fails 126 run testimage /etc)" /etc
    is state "$(known)" ''
}

check_stdin_and_stderr() {
    is output "$(echo typed | run -i testimage cat)" typed
    is stdout "$(run testimage sh -c 'echo out; echo err >&2' 2>/dev/null)" out
    is stderr "$(run testimage sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)" err
}

check_much_output() {
    is bytes "$(run testimage head -c 3000000 /dev/zero | wc -c)" 3000000
}

check_workdir() {
    is directory "$(run -w /home/app testimage pwd)" /home/app
    # docker creates a missing one.
    is directory "$(run -w /nothing/there testimage pwd)" /nothing/there
}

check_user() {
    is id "$(run -u app testimage sh -c 'id -u; id -g; id -G; echo $HOME' | tr '\n' ' ')" '1000 1000 1000 2000 /home/app '
    is id "$(run -u 5:6 --group-add 77 testimage sh -c 'id -u; id -G' | tr '\n' ' ')" '5 6 77 '
    has "$(fails 125 run -u nobody-at-all testimage true)" nobody-at-all
}

check_hostname_and_hosts() {
    is name "$(run --hostname inside --add-host other:192.0.2.9 testimage sh -c 'hostname; grep -c 192.0.2.9 /etc/hosts' | tr '\n' ' ')" 'inside 1 '
}

check_tty_of_run() {
    local said
    said=$(on_tty "docker run --rm -it testimage sh -c '$WAIT_SIZE; tty; test -t 0 && test -t 2 && echo on a terminal; exit 5'") && false || is code $? 5
    has "$said" '33 77' '/dev/pts/0' 'on a terminal'
}

check_tty_typed() {
    has "$(printf 'echo $((6 * 7))\nexit\n' | on_tty 'docker run --rm -it testimage sh')" $'\n42\n'
}

check_tty_of_exec() {
    idle_with box
    local said
    said=$(on_tty "docker exec -it box sh -c '$WAIT_SIZE; tty; exit 6'") && false || is code $? 6
    has "$said" '33 77' /dev/pts/
    has "$(printf 'echo $((6 * 7))\nexit\n' | on_tty 'docker exec -it box sh')" $'\n42\n'
}

check_tty_detached() {
    docker run -dt --name box testimage sh -c 'tty; sleep 1000'
    until_has /dev/pts/0 docker logs box
}

check_attach() {
    docker run -di --name box testimage sh -c 'read line; echo "got $line"'
    # Its last output may arrive after docker has let go of a container that has ended.
    echo word | docker attach box
    until_is 'got word' docker logs box
}

check_exec() {
    idle_with box -e MINE=1
    is output "$(docker exec box echo hello)" hello
    is output "$(echo typed | docker exec -i box cat)" typed
    is environment "$(docker exec -e MORE=2 box sh -c 'echo $MINE $MORE')" '1 2'
    is directory "$(docker exec -w /tmp box pwd)" /tmp
    is user "$(docker exec -u app box sh -c 'id -u; id -G' | tr '\n' ' ')" '1000 1000 2000 '
    is user "$(docker exec -u 5:6 box sh -c 'id -u; id -g' | tr '\n' ' ')" '5 6 '
    is 'pid 1' "$(docker exec box cat /proc/1/comm)" sh
    is cgroup "$(docker exec box cat /proc/self/cgroup)" "$(docker exec box cat /proc/1/cgroup)"
}

check_exec_exit_codes() {
    idle_with box
    fails 7 docker exec box sh -c 'exit 7'
    fails 137 docker exec box sh -c 'kill -KILL $$'
    fails 143 docker exec box sh -c 'kill $$; sleep 9'
    has "$(fails 127 docker exec box nothing-there)" nothing-there 'executable file not found'
    has "$(fails 127 docker exec box /nothing/there)" /nothing/there 'no such file or directory'
    has "$(fails 126 docker exec box /etc/plain)" /etc/plain 'permission denied'
}

check_exec_privileges() {
    idle_with box --cap-drop all
    is capabilities "$(docker exec box grep CapEff /proc/self/status)" $'CapEff:\t0000000000000000'
    is seccomp "$(docker exec box grep Seccomp: /proc/self/status)" $'Seccomp:\t2'
    has "$(fails 1 docker exec box chown app /tmp)" ermitted
}

check_exec_detached() {
    idle_with box
    docker exec -d box sh -c 'echo done >/tmp/there'
    until_is done docker exec box cat /tmp/there
}

check_exec_of_many_at_once() {
    idle_with box
    local i pids=()
    for i in 1 2 3 4 5 6; do
        docker exec box sh -c "exit $i" &
        pids+=($!)
    done
    for i in 1 2 3 4 5 6; do
        local code=0
        wait "${pids[i - 1]}" || code=$?
        is "code of $i" "$code" "$i"
    done
}

check_exec_in_stopped_container() {
    docker create --name box testimage true
    has "$(fails 1 docker exec box true)" 'not running'
}

check_network_none() {
    is links "$(run --network none testimage ls /sys/class/net)" lo
    has "$(run --network none testimage ip addr show lo)" 127.0.0.1 UP
}

check_network_host() {
    is namespace "$(run --network host testimage readlink /proc/self/ns/net)" "$(readlink /proc/self/ns/net)"
}

check_network_bridge() {
    # The runtime hook that moves the link is docker's; both ends must exist.
    has "$(run testimage ip -o -4 addr show eth0)" 172.17.0.
    run testimage ping -c 1 -W 5 172.17.0.1
}

check_network_of_two() {
    docker network create net
    docker run -d --name server --network net testimage httpd -f -p 80 -h /srv
    # By name: docker's own name server.
    until_is hello run --network net testimage wget -qO - http://server/hello
    docker rm -f server
    docker network rm net
}

check_network_connected_later() {
    docker network create later
    idle_with box
    docker network connect later box
    has "$(docker exec box ls /sys/class/net)" eth0 eth1
    docker network disconnect later box
    docker network rm later
}

check_published_port() {
    docker run -d --name box -p 127.0.0.1:8080:80 testimage httpd -f -p 80 -h /srv
    until_is hello curl -sS --max-time 5 http://127.0.0.1:8080/hello
    docker rm -f box
    fails 7 curl -sS --max-time 5 http://127.0.0.1:8080/hello
}

check_namespaces_of_another() {
    idle_with box --ipc shareable
    local kind
    for kind in net ipc pid; do
        local option=--$kind
        [ $kind != net ] || option=--network
        is "$kind" "$(run $option container:box testimage readlink /proc/self/ns/$kind)" "$(docker exec box readlink /proc/self/ns/$kind)"
    done
}

check_namespaces_of_the_host() {
    local kind
    for kind in pid ipc uts; do
        is "$kind" "$(run --$kind host testimage readlink /proc/self/ns/$kind)" "$(readlink /proc/self/ns/$kind)"
    done
}

check_host_pids_are_killed() {
    # Without a pid namespace, the others do not end with the first process.
    docker run -d --name box --pid host testimage sh -c 'sleep 12345 & exec sleep 12346'
    sleeps() { pgrep -f '^sleep 1234[56]' | wc -l; }
    until_is 2 sleeps
    docker rm -f box
    until_is 0 sleeps
}

check_namespaces_are_new() {
    local kind inside
    inside=$(run testimage sh -c 'echo $$; for kind in pid ipc uts net mnt; do readlink /proc/self/ns/$kind; done')
    has "$inside" 1
    for kind in pid ipc uts net mnt; do
        [[ $inside != *"$(readlink /proc/self/ns/$kind)"* ]]
    done
}

check_cgroup_namespace() {
    is root "$(run --cgroupns private testimage sed -n 's/.*:memory:\|.*:pids://p' /proc/self/cgroup | sort -u)" /
    run --cgroupns private testimage test -e /sys/fs/cgroup/memory/memory.limit_in_bytes
}

check_stats() {
    idle_with box --memory 64m
    local said
    said=$(docker stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' box)
    has "$said" 'box ' ' / 64MiB 2'
}

check_top() {
    idle_with box
    has "$(docker top box)" 'sleep 1000'
    has "$(docker top box -eo pid,comm)" "$(pid box)"
}

check_pause() {
    # It counts for as long as it runs.
    docker run -d --name box testimage sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/count; done'
    until_ok docker exec box test -s /tmp/count
    docker pause box
    is state "$(state box)" paused
    local file before
    file=/proc/$(pid box)/root/tmp/count
    before=$(cat "$file")
    has "$(fails 1 docker exec box true)" paused
    is count "$(cat "$file")" "$before"
    docker unpause box
    is state "$(state box)" running
    counted() { [ -s "$file" ] && [ "$(cat "$file")" != "$before" ]; }
    until_ok counted
}

check_remove_paused() {
    idle_with box
    docker pause box
    docker rm -f box
    is state "$(known)" ''
}

check_update() {
    idle_with box --memory 64m
    docker update --memory 96m --memory-swap -1 --cpus 0.5 --pids-limit 77 box
    is memory "$(cgroup_file "$(pid box)" memory memory.limit_in_bytes)" $((96 << 20))
    is quota "$(cgroup_file "$(pid box)" cpu cpu.cfs_quota_us)" 50000
    is pids "$(cgroup_file "$(pid box)" pids pids.max)" 77
    docker restart -t 5 box
    is memory "$(cgroup_file "$(pid box)" memory memory.limit_in_bytes)" $((96 << 20))
}

check_limits() {
    idle_with box --memory 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 9
    is limit "$(cgroup_file "$(pid box)" memory memory.limit_in_bytes)" $((64 << 20))
    is reservation "$(cgroup_file "$(pid box)" memory memory.soft_limit_in_bytes)" $((32 << 20))
    is quota "$(cgroup_file "$(pid box)" cpu cpu.cfs_quota_us)" 50000
    is shares "$(cgroup_file "$(pid box)" cpu cpu.shares)" 512
    is cpus "$(cgroup_file "$(pid box)" cpuset cpuset.cpus)" 0
    is pids "$(cgroup_file "$(pid box)" pids pids.max)" 9
    has "$(docker exec box sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done; true' 2>&1)" "can't fork"
}

check_cgroup_parent() {
    idle_with box --cgroup-parent /own/parent
    is cgroup "$(awk -F: '$2 == "memory" { print $3 }' "/proc/$(pid box)/cgroup")" "/own/parent/$(cat "$TEST_HOST/id")"
}

check_out_of_memory() {
    fails 137 docker run --name box --memory 32m testimage tail /dev/zero
    until_is true inspect box '{{.State.OOMKilled}}'
    is code "$(inspect box '{{.State.ExitCode}}')" 137
}

check_kill() {
    docker run -d --name box testimage sh -c 'trap "echo got it" USR1; echo ready; while :; do sleep 1000 & wait; done'
    until_has ready docker logs box
    docker kill -s USR1 box
    until_has 'got it' docker logs box
    is state "$(state box)" running
    docker kill box
    until_is exited state box
    is code "$(inspect box '{{.State.ExitCode}}')" 137
    has "$(fails 1 docker kill box)" 'not running'
}

check_stop() {
    idle_with box
    docker stop -t 20 box
    is code "$(inspect box '{{.State.ExitCode}}')" 0
    is state "$(state box)" exited
    is runtime "$(known)" ''
}

check_stop_that_must_kill() {
    docker run -d --name box testimage sleep 1000
    docker stop -t 1 box
    is code "$(inspect box '{{.State.ExitCode}}')" 137
}

check_stop_signal() {
    docker run -d --name box --stop-signal USR1 testimage sh -c 'trap "exit 9" USR1; echo ready; while :; do sleep 1000 & wait; done'
    until_has ready docker logs box
    docker stop -t 20 box
    is code "$(inspect box '{{.State.ExitCode}}')" 9
}

check_restart() {
    idle_with box
    local before
    before=$(pid box)
    docker restart -t 5 box
    is state "$(state box)" running
    [ "$(pid box)" != "$before" ]
    is output "$(docker exec box echo hello)" hello
}

check_start_again_keeps_files() {
    docker run --name box testimage sh -c 'echo more >>/tmp/file; cat /tmp/file'
    is output "$(docker start -a box | tr '\n' ' ')" 'more more '
}

check_restart_policy() {
    docker run -d --name box --restart on-failure:2 testimage sh -c 'echo once; exit 1'
    three() { [ "$(docker logs box | grep -c once)" = 3 ]; }
    until_ok three
    until_is exited state box
    is restarts "$(inspect box '{{.RestartCount}}')" 2
}

check_remove_running() {
    idle_with box
    has "$(fails 1 docker rm box)" running
    docker rm -f box
    is containers "$(docker ps -aq)" ''
    is state "$(known)" ''
}

check_wait() {
    docker run -d --name box testimage sh -c 'read line; exit 4'
    is code "$(docker wait box)" 4
}

check_logs() {
    docker run --name box testimage sh -c 'echo first; echo second >&2'
    is stdout "$(docker logs box 2>/dev/null)" first
    is stderr "$(docker logs box 2>&1 >/dev/null)" second
}

check_inspect_state() {
    idle_with box
    is state "$(inspect box '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}} {{.State.Error}}')" 'running true false 0 '
    is command "$(cat "/proc/$(pid box)/comm")" sh
    docker stop -t 9 box
    is state "$(inspect box '{{.State.Status}} {{.State.Running}} {{.State.Pid}}')" 'exited false 0'
    fails 127 docker run --name wrong testimage nothing-there
    has "$(inspect wrong '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}')" 'created 127' 'executable file not found'
}

check_rename() {
    idle_with box
    docker rename box other
    is output "$(docker exec other echo hello)" hello
}

check_copy() {
    idle_with box
    echo copied >"$TEST_HOST/copied"
    docker cp "$TEST_HOST/copied" box:/tmp/copied
    is file "$(docker exec box cat /tmp/copied)" copied
    docker cp box:/srv/hello "$TEST_HOST/back"
    is file "$(cat "$TEST_HOST/back")" hello
}

check_diff() {
    docker run --name box testimage touch /new
    has "$(docker diff box)" 'A /new'
}

check_health() {
    docker run -d --name box --health-cmd 'test -e /tmp/well' --health-interval 100ms --health-retries 2 testimage sleep 1000
    until_is unhealthy inspect box '{{.State.Health.Status}}'
    docker exec box touch /tmp/well
    until_is healthy inspect box '{{.State.Health.Status}}'
}

check_init() {
    has "$(run --init testimage sh -c 'tr "\0" " " </proc/1/cmdline')" /sbin/docker-init
    fails 3 run --init testimage sh -c 'exit 3'
    docker run -d --name box --init testimage sleep 1000
    docker stop -t 20 box
    is code "$(inspect box '{{.State.ExitCode}}')" 143
}

check_read_only() {
    has "$(fails 1 run --read-only testimage touch /new)" 'Read-only file system'
    has "$(run --read-only --tmpfs /mine:size=1m,mode=700 testimage sh -c 'touch /mine/file; stat -c %a /mine; grep " /mine " /proc/mounts')" 700 tmpfs noexec nosuid size=1024k
}

check_volume() {
    mkdir "$TEST_HOST/volume"
    echo outside >"$TEST_HOST/volume/file"
    is file "$(run -v "$TEST_HOST/volume:/v:ro" testimage cat /v/file)" outside
    has "$(fails 1 run -v "$TEST_HOST/volume:/v:ro" testimage touch /v/new)" 'Read-only file system'
    run -v "$TEST_HOST/volume:/v" testimage sh -c 'echo inside >/v/new'
    is new "$(cat "$TEST_HOST/volume/new")" inside
    run -v "$TEST_HOST/volume/file:/etc/one" testimage sh -c 'echo changed >/etc/one'
    is file "$(cat "$TEST_HOST/volume/file")" changed
}

check_named_volume() {
    run -v named:/srv testimage sh -c 'cat /srv/hello; echo kept >/srv/kept'
    is kept "$(run -v named:/srv testimage cat /srv/kept)" kept
    docker volume rm named
}

check_mount_propagation() {
    mkdir -p "$TEST_HOST/propagation"
    mount --bind "$TEST_HOST/propagation" "$TEST_HOST/propagation"
    mount --make-shared "$TEST_HOST/propagation"
    mkdir "$TEST_HOST/propagation/below"
    idle_with box --mount "type=bind,src=$TEST_HOST/propagation,dst=/v,bind-propagation=rslave"
    has "$(docker exec box grep ' /v ' /proc/self/mountinfo)" master:
    # Later mounts are visible inside.
    mount -t tmpfs mark "$TEST_HOST/propagation/below"
    touch "$TEST_HOST/propagation/below/later"
    docker exec box test -e /v/below/later
    umount "$TEST_HOST/propagation/below"
}

check_device() {
    is bytes "$(run --device /dev/zero:/dev/mine testimage sh -c 'head -c 3 /dev/mine | wc -c')" 3
    [ -c /dev/fuse ] || skip "no device that is not allowed to all"
    run --device /dev/fuse:/dev/mine testimage sh -c ': <>/dev/mine'
    has "$(fails 1 run --device /dev/fuse:/dev/mine:r testimage sh -c ': <>/dev/mine')" ermitted
}

check_device_rule() {
    [ -c /dev/fuse ] || skip "no device that is not allowed to all"
    run --device-cgroup-rule 'c 10:229 rmw' testimage sh -c 'mknod /tmp/fuse c 10 229 && : <>/tmp/fuse'
    has "$(fails 1 run testimage sh -c 'mknod /tmp/fuse c 10 229 && : <>/tmp/fuse')" ermitted
}

check_capabilities() {
    is plain "$(run testimage grep CapEff /proc/self/status)" $'CapEff:\t00000000a80425fb'
    is drop "$(run --cap-drop CHOWN testimage grep CapEff /proc/self/status)" $'CapEff:\t00000000a80425fa'
    is add "$(run --cap-add NET_ADMIN testimage grep CapEff /proc/self/status)" $'CapEff:\t00000000a80435fb'
    is none "$(run --cap-drop all testimage grep CapBnd /proc/self/status)" $'CapBnd:\t0000000000000000'
    is user "$(run -u app testimage grep CapEff /proc/self/status)" $'CapEff:\t0000000000000000'
    is inherited "$(run testimage grep CapInh /proc/self/status)" $'CapInh:\t0000000000000000'
}

check_no_new_privileges() {
    is default "$(run testimage grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t0'
    is asked "$(run --security-opt no-new-privileges testimage grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t1'
}

check_seccomp() {
    is default "$(run testimage grep Seccomp: /proc/self/status)" $'Seccomp:\t2'
    is none "$(run --security-opt seccomp=unconfined testimage grep Seccomp: /proc/self/status)" $'Seccomp:\t0'
    has "$(fails 1 run testimage unshare --user true)" ermitted
    echo '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}' >"$TEST_HOST/profile"
    has "$(fails 1 run --security-opt "seccomp=$TEST_HOST/profile" testimage mkdir /x)" 'No space left'
}

check_masked_paths() {
    is masked "$(run testimage sh -c 'cat /proc/kcore | wc -c; ls /proc/acpi /sys/firmware | grep -v : | grep -c .' | tr '\n' ' ')" '0 0 '
    has "$(fails 1 run testimage sh -c 'echo 1 >/proc/sys/kernel/panic')" 'ead-only'
    has "$(fails 1 run testimage sh -c 'echo 1 >/sys/kernel/profiling')" 'ead-only'
}

check_ulimit() {
    is files "$(run --ulimit nofile=111:222 --ulimit core=0 testimage sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c' | tr '\n' ' ')" '111 222 0 '
}

check_sysctl() {
    is value "$(run --sysctl net.ipv4.ip_default_ttl=33 testimage cat /proc/sys/net/ipv4/ip_default_ttl)" 33
    is value "$(run --sysctl kernel.shm_rmid_forced=1 testimage cat /proc/sys/kernel/shm_rmid_forced)" 1
    has "$(fails 125 run --sysctl net.nothing=1 testimage true)" nothing
}

check_shm_size() {
    has "$(run --shm-size 3m testimage grep ' /dev/shm ' /proc/mounts)" size=3072k
}

check_oom_score() {
    is score "$(run --oom-score-adj 500 testimage cat /proc/self/oom_score_adj)" 500
}

check_no_fds_leak() {
    is fds "$(run testimage sh -c 'ls /proc/self/fd | wc -l')" 4
}

check_create_then_start() {
    docker create --name box testimage echo hello
    is state "$(state box)" created
    is output "$(docker start -a box)" hello
}

check_many_at_once() {
    local i pids=()
    for i in {1..10}; do
        run --network none testimage sh -c "echo $i; exit $i" >"$TEST_HOST/many.$i" 2>"$TEST_HOST/many.$i.err" &
        pids+=($!)
    done
    for i in {1..10}; do
        local code=0
        wait "${pids[i - 1]}" || code=$?
        is "code of $i, which said $(cat "$TEST_HOST/many.$i.err")" "$code" "$i"
        is "output of $i" "$(cat "$TEST_HOST/many.$i")" "$i"
    done
    is state "$(known)" ''
}

check_daemon_restart() {
    idle_with box
    local before
    before=$(pid box)
    stop_dockerd
    kill -0 "$before"
    start_dockerd
    is state "$(state box)" running
    is pid "$(pid box)" "$before"
    is output "$(docker exec box echo hello)" hello
    docker stop -t 20 box
    is code "$(inspect box '{{.State.ExitCode}}')" 0
}

check_cgroups_are_removed() {
    # The parent may stay.
    is cgroups "$(find /sys/fs/cgroup -mindepth 3 -path '*/docker/*' -type d)" ''
}

run_checks "$@"
