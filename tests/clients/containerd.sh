#!/bin/bash
# containerd, through ctr and containerd's runc shim; or, with SHIM in the environment, through Garth's own.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

private_containerd
IMAGE=localhost/testimage:latest
CTR="ctr run --runc-binary $RUNTIME --runc-root /run/test/runtime"
SHIM_NAME=containerd-shim-runc-v2
if use_shim containerd-shim-garth-v1; then
    SHIM_NAME=containerd-shim-garth-v1
    echo 'Root = "/run/test/runtime"' >"$TEST_HOST/shim.toml"
    CTR="ctr run --runtime io.containerd.garth.v1 --runtime-config-path $TEST_HOST/shim.toml"
fi

ctr() { timeout -k 5 60 ctr "$@"; }
stop_containerd() {
    kill "$1" "$(cat "$TEST_HOST/pid")"
    gone() { ! kill -0 "$(cat "$TEST_HOST/pid")"; }
    until_ok gone
}
tidy() {
    local id
    for id in $(ctr task list -q); do
        ctr task kill -s KILL "$id" || true
        until_ok ctr task rm -f "$id" || return 1
    done
    for id in $(ctr container list -q); do
        ctr container rm "$id"
    done
}
run() { $CTR --rm "$@"; }
# What the runtime knows about, in containerd's namespace.
known() { "$RUNTIME" --root /run/test/runtime/default list -q; }
state() { ctr task list | awk -v id="$1" '$1 == id { print $3 }'; }
pid() { ctr task list | awk -v id="$1" '$1 == id { print $2 }'; }
# idle ID [OPTION...]: does nothing, and exits with 9 when told to.
idle() {
    local id=$1
    shift
    $CTR -d "$@" "$IMAGE" "$id" sh -c 'trap "exit 9" TERM; while :; do sleep 1000 & wait; done'
}

start_containerd
import_image

check_run_leaves_nothing() {
    is output "$(run $IMAGE box echo hello)" hello
    is containers "$(ctr container list -q)" ''
    is state "$(known)" ''
}

check_the_runtime_is_used() {
    idle box
    is container "$(known)" box
    has "$("$RUNTIME" --root /run/test/runtime/default state box)" '"status": "running"' "$(pid box)"
}

check_exit_codes() {
    fails 0 run $IMAGE box true
    fails 7 run $IMAGE box sh -c 'exit 7'
    # Pid 1 is immune to signals it does not handle; its child is not.
    fails 137 run $IMAGE box sh -c 'sh -c "kill -KILL \$\$"; exit $?'
}

# The program is executed only by `start`; with runc, after that has returned.
check_command_is_no_program() {
    has "$(run $IMAGE box headless 2>&1 || :)" headless 'exec format error'
    has "$(run $IMAGE box2 dos 2>&1 || :)" dos 'no such file or directory'
    is state "$(known)" ''
}

check_command_not_found() {
    has "$(fails 1 run $IMAGE box nothing-there)" nothing-there 'executable file not found'
    has "$(fails 1 run $IMAGE box2 /nothing/there)" /nothing/there 'no such file or directory'
    has "$(fails 1 run $IMAGE box3 /etc/plain)" /etc/plain 'permission denied'
    is state "$(known)" ''
}

check_stdin_and_stderr() {
    # This ctr does not pass on the end of its input.
    is output "$(echo typed | run $IMAGE box head -n 1)" typed
    is stdout "$(run $IMAGE box sh -c 'echo out; echo err >&2' 2>/dev/null)" out
    is stderr "$(run $IMAGE box sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)" err
}

check_much_output() {
    is bytes "$(run $IMAGE box head -c 3000000 /dev/zero | wc -c)" 3000000
}

check_environment_and_directory() {
    has "$(run --env MINE=1 $IMAGE box env)" FROM_IMAGE=yes PATH=/usr/bin:/bin MINE=1
    is directory "$(run --cwd /home/app $IMAGE box pwd)" /home/app
}

check_tty_of_run() {
    local said
    said=$(on_tty "$CTR --rm -t $IMAGE box sh -c '$WAIT_SIZE; tty; test -t 0 && test -t 2 && echo on a terminal; exit 5'") && false || is code $? 5
    has "$said" '33 77' '/dev/pts/0' 'on a terminal'
}

check_tty_typed() {
    has "$(printf 'echo $((6 * 7))\nexit\n' | on_tty "$CTR --rm -t $IMAGE box sh")" $'\n42\n'
}

check_tty_of_exec() {
    idle box
    local said
    said=$(on_tty "ctr task exec -t --exec-id e1 box sh -c '$WAIT_SIZE; tty; exit 6'") && false || is code $? 6
    has "$said" '33 77' /dev/pts/
    has "$(printf 'echo $((6 * 7))\nexit\n' | on_tty 'ctr task exec -t --exec-id e2 box sh')" $'\n42\n'
}

check_exec() {
    idle box
    is output "$(ctr task exec --exec-id e1 box echo hello)" hello
    is output "$(echo typed | ctr task exec --exec-id e2 box cat)" typed
    is directory "$(ctr task exec --exec-id e3 --cwd /tmp box pwd)" /tmp
    is user "$(ctr task exec --exec-id e4 --user 5 box id -u)" 5
    is 'pid 1' "$(ctr task exec --exec-id e5 box cat /proc/1/comm)" sh
    is cgroup "$(ctr task exec --exec-id e6 box cat /proc/self/cgroup)" "$(ctr task exec --exec-id e7 box cat /proc/1/cgroup)"
}

check_exec_exit_codes() {
    idle box
    fails 7 ctr task exec --exec-id e1 box sh -c 'exit 7'
    fails 137 ctr task exec --exec-id e2 box sh -c 'kill -KILL $$'
    has "$(fails 1 ctr task exec --exec-id e3 box nothing-there)" nothing-there 'executable file not found'
    has "$(fails 1 ctr task exec --exec-id e4 box /etc/plain)" /etc/plain 'permission denied'
    # A failed one is forgotten: its id is free.
    fails 0 ctr task exec --exec-id e3 box true
}

check_exec_of_many_at_once() {
    idle box
    local i pids=()
    for i in 1 2 3 4 5 6 7 8; do
        ctr task exec --exec-id "e$i" box sh -c "exit $i" &
        pids+=($!)
    done
    for i in 1 2 3 4 5 6 7 8; do
        local code=0
        wait "${pids[i - 1]}" || code=$?
        is "code of $i" "$code" "$i"
    done
}

check_second_of_the_same_id() {
    idle box
    has "$(fails 1 idle box)" box 'already exists'
    is state "$(state box)" RUNNING
}

check_network_of_the_host() {
    is namespace "$(run --net-host $IMAGE box readlink /proc/self/ns/net)" "$(readlink /proc/self/ns/net)"
    is links "$(run $IMAGE box ls /sys/class/net)" lo
}

check_network_by_cni() {
    mkdir -p /etc/cni/net.d
    rm -f /etc/cni/net.d/*
    cat >/etc/cni/net.d/10-test.conflist <<END
{"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "bridge", "bridge": "test0", "isGateway": true,
 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/24"}]], "dataDir": "$TEST_HOST/cni"}}]}
END
    # ctr only looks for the plugins here.
    mount -t tmpfs tmpfs /opt
    mkdir -p /opt/cni
    ln -s /usr/lib/cni /opt/cni/bin
    has "$(run --cni $IMAGE box ip -o -4 addr show eth0)" 10.99.0.
    umount /opt
}

check_namespaces_are_new() {
    local kind inside
    inside=$(run $IMAGE box sh -c 'echo $$; for kind in pid ipc uts net mnt; do readlink /proc/self/ns/$kind; done')
    has "$inside" 1
    for kind in pid ipc uts net mnt; do
        [[ $inside != *"$(readlink /proc/self/ns/$kind)"* ]]
    done
}

check_namespace_by_path() {
    idle box
    local inside
    inside=$(run --with-ns "network:/proc/$(pid box)/ns/net" --with-ns "ipc:/proc/$(pid box)/ns/ipc" $IMAGE box2 sh -c 'readlink /proc/self/ns/net; readlink /proc/self/ns/ipc')
    is namespaces "$inside" "$(readlink "/proc/$(pid box)/ns/net" "/proc/$(pid box)/ns/ipc")"
}

check_limits() {
    idle box --memory-limit $((64 << 20)) --cpus 0.5 --cpu-shares 512
    is memory "$(cgroup_file "$(pid box)" memory memory.limit_in_bytes)" $((64 << 20))
    is quota "$(cgroup_file "$(pid box)" cpu cpu.cfs_quota_us)" 50000
    is shares "$(cgroup_file "$(pid box)" cpu cpu.shares)" 512
}

check_out_of_memory() {
    fails 137 run --memory-limit $((32 << 20)) $IMAGE box tail /dev/zero
}

check_out_of_memory_is_told() {
    ctr events >"$TEST_HOST/events" &
    local events=$!
    idle box --memory-limit $((32 << 20))
    ctr task exec --exec-id e1 box tail /dev/zero || true
    until_has /tasks/oom cat "$TEST_HOST/events"
    kill $events
    is state "$(state box)" RUNNING
}

check_own_cgroup() {
    idle box --cgroup /own/place
    is cgroup "$(awk -F: '$2 == "memory" { print $3 }' "/proc/$(pid box)/cgroup")" /own/place
    ctr task kill -s KILL box
    until_is STOPPED state box
    ctr task rm box
    [ ! -e /sys/fs/cgroup/memory/own/place ]
}

check_metrics() {
    idle box --memory-limit $((64 << 20))
    has "$(ctr task metrics --format json box)" '"limit": 67108864' '"pids"' '"current": 2'
    has "$(ctr task metrics box)" pids.current memory.usage_in_bytes
}

check_ps() {
    idle box
    has "$(ctr task ps box)" "$(pid box)"
    is lines "$(ctr task ps box | wc -l)" 3
}

check_pause() {
    # It counts for as long as it runs.
    $CTR -d $IMAGE box sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/count; done'
    until_ok ctr task exec --exec-id e1 box test -s /tmp/count
    ctr task pause box
    is state "$(state box)" PAUSED
    local file before
    file=/proc/$(pid box)/root/tmp/count
    before=$(cat "$file")
    has "$(fails 1 ctr task exec --exec-id e2 box true)" paused
    is count "$(cat "$file")" "$before"
    ctr task resume box
    is state "$(state box)" RUNNING
    counted() { [ -s "$file" ] && [ "$(cat "$file")" != "$before" ]; }
    until_ok counted
}

check_kill() {
    # The image's file is new in each container: the effect of a signal is read from there.
    $CTR -d $IMAGE box sh -c 'trap "echo got it >/tmp/got" USR1; echo >/tmp/ready; while :; do sleep 1000 & wait; done'
    local root
    root=/proc/$(pid box)/root
    until_ok test -e "$root/tmp/ready"
    ctr task kill -s USR1 box
    until_is 'got it' cat "$root/tmp/got"
    is state "$(state box)" RUNNING
    ctr task kill -s KILL box
    until_is STOPPED state box
    has "$(ctr task rm box 2>&1)" 'exit code 137'
    has "$(fails 1 ctr task kill box)" 'not found'
}

check_kill_that_is_handled() {
    idle box
    ctr task kill box
    until_is STOPPED state box
    has "$(ctr task rm box 2>&1)" 'exit code 9'
    is state "$(known)" ''
}

check_kill_of_all() {
    idle box
    ctr task kill -a -s KILL box
    until_is STOPPED state box
}

check_kill_of_exec() {
    idle box
    ctr task exec --exec-id e1 box sleep 12345 &
    local exec=$!
    until_has sleep sh -c "cat /proc/[0-9]*/cmdline | tr '\0' ' ' | grep -o 'sleep 1234[5]'"
    killed() { ctr task kill --exec-id e1 -s KILL box; }
    until_ok killed
    local code=0
    wait $exec || code=$?
    is code "$code" 137
    is state "$(state box)" RUNNING
}

check_kill_of_paused() {
    idle box
    ctr task pause box
    ctr task kill -s KILL box
    ctr task resume box || true
    until_is STOPPED state box
}

check_remove() {
    idle box
    has "$(fails 1 ctr task rm box)" 'running'
    has "$(ctr task rm -f box 2>&1)" 'exit code 137'
    is tasks "$(ctr task list -q)" ''
    is state "$(known)" ''
    ctr container rm box
    # The id is free again.
    is output "$(run $IMAGE box echo hello)" hello
}

check_read_only() {
    has "$(fails 1 run --read-only $IMAGE box touch /new)" 'Read-only file system'
}

check_mounts() {
    mkdir "$TEST_HOST/volume"
    echo outside >"$TEST_HOST/volume/file"
    is file "$(run --mount "type=bind,src=$TEST_HOST/volume,dst=/v,options=rbind:ro" $IMAGE box cat /v/file)" outside
    has "$(fails 1 run --mount "type=bind,src=$TEST_HOST/volume,dst=/v,options=rbind:ro" $IMAGE box touch /v/new)" 'Read-only file system'
    run --mount "type=bind,src=$TEST_HOST/volume,dst=/v,options=rbind:rw" $IMAGE box sh -c 'echo inside >/v/new'
    is new "$(cat "$TEST_HOST/volume/new")" inside
    has "$(run --mount "type=tmpfs,src=tmpfs,dst=/mine,options=size=1m:mode=700" $IMAGE box grep ' /mine ' /proc/mounts)" tmpfs size=1024k mode=700
    has "$(fails 1 run --mount "type=bind,src=/nothing/there,dst=/v,options=rbind" $IMAGE box true)" /nothing/there 'no such file'
}

check_rootfs_propagation() {
    idle box --rootfs-propagation rslave
    is state "$(state box)" RUNNING
}

check_device() {
    [ -c /dev/fuse ] || skip "no device that is not allowed to all"
    run --device /dev/fuse $IMAGE box sh -c ': <>/dev/fuse'
    has "$(fails 1 run --cap-add CAP_MKNOD $IMAGE box sh -c 'mknod /tmp/fuse c 10 229 && : <>/tmp/fuse')" ermitted
}

check_capabilities() {
    is plain "$(run $IMAGE box grep CapEff /proc/self/status)" $'CapEff:\t00000000a80425fb'
    is drop "$(run --cap-drop CAP_CHOWN $IMAGE box grep CapEff /proc/self/status)" $'CapEff:\t00000000a80425fa'
    is add "$(run --cap-add CAP_NET_ADMIN $IMAGE box grep CapEff /proc/self/status)" $'CapEff:\t00000000a80435fb'
    is privileges "$(run $IMAGE box grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t1'
    is privileges "$(run --allow-new-privs $IMAGE box grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t0'
}

check_seccomp() {
    is none "$(run $IMAGE box grep Seccomp: /proc/self/status)" $'Seccomp:\t0'
    is default "$(run --seccomp $IMAGE box grep Seccomp: /proc/self/status)" $'Seccomp:\t2'
    has "$(fails 1 run --seccomp $IMAGE box unshare --user true)" ermitted
}

check_user_namespace() {
    local map
    # With user namespaces, ctr 2 reads the options as runc's, whatever the runtime.
    map=$(CTR=${CTR% --runtime-config-path *} run --uidmap 0:100000:5000 --gidmap 0:200000:6000 $IMAGE box sh -c 'cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c %u:%g /srv/hello')
    is map "$(echo $map)" '0 100000 5000 0 200000 6000 0 0:0'
}

check_privileged() {
    is seccomp "$(run --privileged $IMAGE box grep Seccomp: /proc/self/status)" $'Seccomp:\t0'
}

check_bundle_of_ones_own() {
    # A root file system that is not an image, and the log that containerd reads.
    mkdir "$TEST_HOST/own"
    tar -C "$TEST_HOST/own" -xf "$TEST_HOST/image/layer.tar"
    is output "$(run --rootfs "$TEST_HOST/own" box /bin/cat /srv/hello)" hello
}

check_checkpoint_without_criu() {
    # If criu is installed, hide it.
    local criu
    criu=$(command -v criu) && mount --bind /dev/null "$criu"
    idle box
    has "$(fails 1 ctr task checkpoint --image-path "$TEST_HOST/checkpoint" box)" criu
    is state "$(state box)" RUNNING
    is output "$(ctr task exec --exec-id e1 box echo hello)" hello
    [ -z "$criu" ] || umount "$criu"
}

check_daemon_restart() {
    idle box
    local before signal
    before=$(pid box)
    for signal in -TERM -KILL; do
        stop_containerd $signal
        kill -0 "$before"
        start_containerd
        is state "$(state box)" RUNNING
        is pid "$(pid box)" "$before"
        is output "$(ctr task exec --exec-id e$signal box echo hello)" hello
    done
    ctr task kill -s KILL box
    until_is STOPPED state box
    has "$(ctr task rm box 2>&1)" 'exit code 137'
    is state "$(known)" ''
}

check_end_without_daemon() {
    # It ends while containerd is away, which learns of it from the shim.
    idle box
    local before
    before=$(pid box)
    stop_containerd -TERM
    kill -TERM "$before"
    ended() { ! kill -0 "$before"; }
    until_ok ended
    start_containerd
    case $(containerd --version) in
    *' 1.6.'*)
        until_is STOPPED state box
        has "$(ctr task rm box 2>&1)" 'exit code 9'
        ;;
    *)
        # Later ones delete it.
        until_is '' state box
        until_is '' known
        ;;
    esac
}

check_death_of_the_shim() {
    # containerd cleans up through the shim's `delete`, which calls the runtime's.
    idle box
    local shim
    shim=$(pgrep -f "$SHIM_NAME.* -id box")
    kill -KILL "$shim"
    until_is '' ctr task list -q
    until_is '' known
    ctr container rm box
    is output "$(run $IMAGE box echo hello)" hello
}

check_many_at_once() {
    local i pids=()
    for i in {1..10}; do
        run $IMAGE "many$i" sh -c "echo $i; exit $i" >"$TEST_HOST/many.$i" 2>"$TEST_HOST/many.$i.err" &
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

check_nothing_is_left() {
    is state "$(known)" ''
    is cgroups "$(find /sys/fs/cgroup -mindepth 3 -path '*/default/*' -type d)" ''
    is shims "$(pgrep -fc containerd-shim || true)" 0
}

run_checks "$@"
