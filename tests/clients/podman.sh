#!/bin/bash
# podman, as root: networks by netavark, storage by overlay.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

podman_files "$TEST_HOST/graph" /run/containers
# For --userns auto.
for file in subuid subgid; do
    echo containers:300000:100000 >>/etc/$file
done

podman() { timeout -k 5 60 /usr/bin/podman "$@"; }
remove_all() {
    case $(podman ps -a --format '{{.IsInfra}}') in
    '') ;;
    *true*) podman pod rm -fa -t 0 && podman rm -fa -t 0 ;;
    *) podman rm -fa -t 0 ;;
    esac
}
# Retried, since podman's cleanup after a container's end and its rm disturb each other.
tidy() { until_ok remove_all; }
# What the runtime knows about; podman passes no --root.
known() { "$RUNTIME" list -q; }
inspect() { podman inspect -f "$2" "$1"; }
pid() { inspect "$1" '{{.State.Pid}}'; }
state() { inspect "$1" '{{.State.Status}}'; }
# A container that does nothing, and exits immediately when told to.
idle() { podman run -d --name "$@" testimage sh -c 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done'; }
idle_with() { idle "$@" >"$TEST_HOST/id"; }
run() { podman run --rm "$@"; }

podman load -q -i "$TEST_HOST/testimage.tar" >"$TEST_HOST/log" 2>&1 || die "podman load: $(cat "$TEST_HOST/log")"
podman tag localhost/testimage:latest testimage

# docs/nested.md: what works where.
check_a_sandbox_inside() {
    local inside="-v $GARTH:/garth:ro"
    # shellcheck disable=SC2086
    {
        fails 3 run $inside testimage /garth wrap -- sh -c 'exit 3'
        fails 3 run $inside testimage /garth wrap --network host -- sh -c 'exit 3'
        fails 3 run $inside testimage /garth limit --rate 1MB/s -- sh -c 'exit 3'
        has "$(fails 125 run $inside testimage /garth wrap --hostname mine -- true)" 'set the host name to mine' EPERM
        fails 3 run $inside --cap-add SYS_ADMIN testimage /garth wrap -- sh -c 'exit 3'
    }
}

check_run_leaves_nothing() {
    is output "$(run testimage echo hello)" hello
    is state "$(known)" ''
    is containers "$(podman ps -aq)" ''
}

check_the_runtime_is_used() {
    idle_with box
    is container "$(known)" "$(cat "$TEST_HOST/id")"
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
    has "$(fails 127 run testimage nothing-there)" nothing-there 'not found'
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
    has "$(fails 126 run testimage /etc/plain)" 'permission denied'
    fails 126 run testimage /etc
    is state "$(known)" ''
}

check_stdin() {
    is output "$(echo typed | run -i testimage cat)" typed
}

check_stderr_is_apart() {
    is stdout "$(run testimage sh -c 'echo out; echo err >&2' 2>/dev/null)" out
    is stderr "$(run testimage sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)" err
}

check_script_with_interpreter() {
    is output "$(run testimage greet)" 'from a script'
}

check_workdir() {
    is directory "$(run -w /home/app testimage pwd)" /home/app
}

check_user() {
    is id "$(run -u app testimage id -u):$(run -u app testimage id -g):$(run -u app testimage id -G)" '1000:1000:1000 2000'
    is id "$(run -u 5:6 testimage sh -c 'id -u; id -g' | tr '\n' ' ')" '5 6 '
    is groups "$(run -u app --group-add 77 testimage id -G)" '1000 77 2000'
    is home "$(run -u app testimage sh -c 'echo $HOME')" /home/app
}

check_hostname_and_hosts() {
    is name "$(run --hostname inside --add-host other:192.0.2.9 testimage sh -c 'hostname; grep -c 192.0.2.9 /etc/hosts' | tr '\n' ' ')" 'inside 1 '
}

check_tty_of_run() {
    local said
    said=$(on_tty "podman run --rm -it testimage sh -c '$WAIT_SIZE; tty; test -t 0 && test -t 2 && echo on a terminal; exit 5'") && false || is code $? 5
    has "$said" '33 77' '/dev/pts/0' 'on a terminal'
}

check_tty_typed() {
    has "$(printf 'echo $((6 * 7))\nexit\n' | on_tty 'podman run --rm -it testimage sh')" $'\n42\n'
}

check_tty_of_exec() {
    idle_with box
    local said
    said=$(on_tty "podman exec -it box sh -c '$WAIT_SIZE; tty; exit 6'") && false || is code $? 6
    has "$said" '33 77' /dev/pts/
    has "$(printf 'echo $((6 * 7))\nexit\n' | on_tty 'podman exec -it box sh')" $'\n42\n'
}

check_tty_detached() {
    podman run -dt --name box testimage sh -c 'tty; sleep 1000'
    until_has /dev/pts/0 podman logs box
}

check_exec() {
    idle_with box -e MINE=1
    is output "$(podman exec box echo hello)" hello
    is output "$(echo typed | podman exec -i box cat)" typed
    is environment "$(podman exec -e MORE=2 box sh -c 'echo $MINE $MORE')" '1 2'
    is directory "$(podman exec -w /tmp box pwd)" /tmp
    is user "$(podman exec -u app box id -u)" 1000
    is groups "$(podman exec -u app box id -G)" '1000 2000'
    is 'pid 1' "$(podman exec box cat /proc/1/comm)" sh
}

check_exec_exit_codes() {
    idle_with box
    fails 7 podman exec box sh -c 'exit 7'
    fails 137 podman exec box sh -c 'kill -KILL $$'
    fails 143 podman exec box sh -c 'kill $$; sleep 9'
    has "$(fails 127 podman exec box nothing-there)" nothing-there
    has "$(fails 126 podman exec box /etc/plain)" 'permission denied'
}

check_exec_detached() {
    idle_with box
    podman exec -d box sh -c 'echo done >/tmp/there'
    until_is done podman exec box cat /tmp/there
}

check_exec_of_many_at_once() {
    idle_with box
    local i pids=()
    for i in 1 2 3 4 5 6; do
        podman exec box sh -c "exit $i" &
        pids+=($!)
    done
    for i in 1 2 3 4 5 6; do
        local code=0
        wait "${pids[i - 1]}" || code=$?
        is "code of $i" "$code" "$i"
    done
}

check_exec_in_stopped_container() {
    podman create --name box testimage true
    has "$(fails 255 podman exec box true)" 'running'
}

check_network_none() {
    is links "$(run --network none testimage ls /sys/class/net)" lo
    has "$(run --network none testimage ip addr show lo)" 127.0.0.1 UP
}

check_network_host() {
    is namespace "$(run --network host testimage readlink /proc/self/ns/net)" "$(readlink /proc/self/ns/net)"
}

check_network_bridge() {
    local said
    said=$(run testimage ip -o -4 addr show eth0)
    has "$said" 10.88.0.
    run testimage ping -c 1 -W 5 10.88.0.1
}

check_rates_by_annotation() {
    "$RUNTIME" update --help | grep -q -e --rate || skip 'this runtime knows no rates'
    local before
    before=$(tc qdisc show)
    idle_with box --annotation dev.garth.rate.up=2MB/s --annotation dev.garth.rate.down=10Mbit/s
    has "$(tc qdisc show)" 'rate 16Mbit' 'rate 10Mbit'
    "$RUNTIME" update "$(cat "$TEST_HOST/id")" --rate up=none,down=3Mbit/s
    has "$(tc qdisc show)" 'rate 3Mbit'
    podman exec box ip addr show eth0
    podman rm -f -t 0 box
    is left "$(tc qdisc show)" "$before"
    has "$(fails 126 podman run --rm --network host --annotation dev.garth.rate.up=2MB/s testimage true)" \
        "shares the host's network"
}

check_network_of_two() {
    podman network create net
    podman run -d --name server --network net testimage httpd -f -p 80 -h /srv
    local address
    address=$(inspect server '{{.NetworkSettings.Networks.net.IPAddress}}')
    until_is hello run --network net testimage wget -qO - "http://$address/hello"
    # By name: aardvark-dns.
    until_is hello run --network net testimage wget -qO - "http://server/hello"
    podman rm -f -t 0 server
    podman network rm net
}

check_published_port() {
    podman run -d --name box -p 127.0.0.1:8080:80 testimage httpd -f -p 80 -h /srv
    until_is hello curl -sS --max-time 5 http://127.0.0.1:8080/hello
    podman rm -f -t 0 box
    fails 7 curl -sS --max-time 5 http://127.0.0.1:8080/hello
}

check_published_port_by_annotation() {
    "$RUNTIME" update --help | grep -q -e --rate || skip 'this runtime knows no annotations'
    podman run -d --name box --annotation dev.garth.publish=8080:80 testimage httpd -f -p 80 -h /srv
    until_is hello curl -sS --max-time 5 http://127.0.0.1:8080/hello
    podman rm -f -t 0 box
    fails 7 curl -sS --max-time 5 http://127.0.0.1:8080/hello
}

check_network_of_another() {
    idle_with box
    is namespace "$(run --network container:box testimage readlink /proc/self/ns/net)" "$(podman exec box readlink /proc/self/ns/net)"
}

check_namespaces_of_the_host() {
    local kind
    for kind in pid ipc uts; do
        is "$kind" "$(run --$kind host testimage readlink /proc/self/ns/$kind)" "$(readlink /proc/self/ns/$kind)"
    done
}

check_namespaces_are_new() {
    local kind inside
    inside=$(run testimage sh -c 'for kind in pid ipc uts net mnt; do readlink /proc/self/ns/$kind; done')
    for kind in pid ipc uts net mnt; do
        [[ $inside != *"$(readlink /proc/self/ns/$kind)"* ]]
    done
}

check_pids_are_own() {
    is pids "$(run testimage sh -c 'echo $$')" 1
}

check_pod() {
    podman pod create --name pod -p 127.0.0.1:8081:80
    podman run -d --pod pod --name server testimage httpd -f -p 80 -h /srv
    idle_with other --pod pod
    until_is hello podman exec other wget -qO - http://127.0.0.1/hello
    until_is hello curl -sS --max-time 5 http://127.0.0.1:8081/hello
    local kind
    for kind in net ipc uts; do
        is "$kind" "$(podman exec server readlink /proc/self/ns/$kind)" "$(podman exec other readlink /proc/self/ns/$kind)"
    done
    [ "$(podman exec server readlink /proc/self/ns/pid)" != "$(podman exec other readlink /proc/self/ns/pid)" ]
    podman pod stop -t 1 pod
    is state "$(podman pod inspect --format '{{.State}}' pod)" Exited
    podman pod start pod
    is state "$(state other)" running
    podman pod rm -f -t 0 pod
    is state "$(known)" ''
}

check_pod_with_shared_pids() {
    podman pod create --name pod --share pid,ipc
    idle_with first --pod pod
    idle_with second --pod pod
    is namespace "$(podman exec first readlink /proc/self/ns/pid)" "$(podman exec second readlink /proc/self/ns/pid)"
}

check_stats() {
    idle_with box --memory 64m
    local said
    said=$(podman stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' box)
    has "$said" 'box ' ' / 67.11MB'
    has "${said##* }" 2
}

check_top() {
    idle_with box
    has "$(podman top box pid args)" 'sleep 1000'
}

check_pause() {
    # It counts for as long as it runs.
    podman run -d --name box testimage sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/count; done'
    until_ok podman exec box test -s /tmp/count
    podman pause box
    is state "$(state box)" paused
    local file before
    file=/proc/$(pid box)/root/tmp/count
    before=$(cat "$file")
    cp "$file" /dev/null
    is count "$(cat "$file")" "$before"
    has "$(fails 255 podman exec box true)" 'running containers'
    podman unpause box
    is state "$(state box)" running
    counted() { [ -s "$file" ] && [ "$(cat "$file")" != "$before" ]; }
    until_ok counted
}

check_stop_of_paused() {
    idle_with box
    podman pause box
    podman rm -f -t 0 box
    is state "$(known)" ''
}

check_update() {
    idle_with box --memory 64m
    podman update --memory 96m --cpus 0.5 box
    is memory "$(cgroup_file "$(pid box)" memory memory.limit_in_bytes)" $((96 << 20))
    is quota "$(cgroup_file "$(pid box)" cpu cpu.cfs_quota_us)" 50000
}

check_memory_limit() {
    idle_with box --memory 64m --memory-reservation 32m
    is limit "$(cgroup_file "$(pid box)" memory memory.limit_in_bytes)" $((64 << 20))
    is reservation "$(cgroup_file "$(pid box)" memory memory.soft_limit_in_bytes)" $((32 << 20))
}

check_out_of_memory() {
    fails 137 run --memory 32m testimage tail /dev/zero
    # conmon watches the cgroup and makes this file where podman was started; podman 4.3 looks for
    # it elsewhere, so that .State.OOMKilled stays false.
    mkdir "$TEST_HOST/cwd"
    cd "$TEST_HOST/cwd"
    podman run -d --name box --memory 32m testimage sh -c 'tail /dev/zero; sleep 1000'
    until_ok test -e oom
    is state "$(state box)" running
}

check_cpu_limit() {
    idle_with box --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0
    is quota "$(cgroup_file "$(pid box)" cpu cpu.cfs_quota_us)" 50000
    is shares "$(cgroup_file "$(pid box)" cpu cpu.shares)" 512
    is cpus "$(cgroup_file "$(pid box)" cpuset cpuset.cpus)" 0
    has "$(podman exec box grep Cpus_allowed_list /proc/self/status)" $'\t0'
}

check_pids_limit() {
    idle_with box --pids-limit 9
    is limit "$(cgroup_file "$(pid box)" pids pids.max)" 9
    has "$(run --pids-limit 5 testimage sh -c 'for i in 1 2 3 4 5 6; do sleep 9 & done; true' 2>&1)" "can't fork"
}

check_exec_is_in_the_cgroup() {
    idle_with box
    is cgroup "$(podman exec box cat /proc/self/cgroup)" "$(podman exec box cat /proc/1/cgroup)"
}

check_no_cgroup() {
    [ "$NAME" != runc ] || skip "runc cannot run without a cgroup"
    is output "$(run --cgroups disabled testimage echo hello)" hello
}

check_kill() {
    podman run -d --name box testimage sh -c 'trap "echo got it" USR1; echo ready; while :; do sleep 1000 & wait; done'
    until_has ready podman logs box
    podman kill -s USR1 box
    until_has 'got it' podman logs box
    is state "$(state box)" running
    podman kill box
    until_is exited state box
    is code "$(inspect box '{{.State.ExitCode}}')" 137
    has "$(fails 255 podman kill box)" running
}

check_stop() {
    idle_with box
    podman stop -t 20 box
    is code "$(inspect box '{{.State.ExitCode}}')" 0
    is state "$(state box)" exited
    is runtime "$(known)" ''
}

check_stop_that_must_kill() {
    podman run -d --name box testimage sleep 1000
    podman stop -t 1 box
    is code "$(inspect box '{{.State.ExitCode}}')" 137
}

check_stop_signal() {
    podman run -d --name box --stop-signal USR1 testimage sh -c 'trap "exit 9" USR1; echo ready; while :; do sleep 1000 & wait; done'
    until_has ready podman logs box
    podman stop -t 20 box
    is code "$(inspect box '{{.State.ExitCode}}')" 9
}

check_restart() {
    idle_with box
    local before
    before=$(pid box)
    podman restart -t 5 box
    is state "$(state box)" running
    [ "$(pid box)" != "$before" ]
    is output "$(podman exec box echo hello)" hello
}

check_start_again_keeps_files() {
    podman run --name box testimage sh -c 'echo more >>/tmp/file; cat /tmp/file'
    is output "$(podman start -a box | tr '\n' ' ')" 'more more '
}

check_restart_policy() {
    podman run -d --name box --restart on-failure:2 testimage sh -c 'echo once; exit 1'
    three() { [ "$(podman logs box | grep -c once)" = 3 ]; }
    until_ok three
    until_is exited state box
}

check_remove_running() {
    idle_with box
    fails 2 podman rm box
    podman rm -f -t 0 box
    is containers "$(podman ps -aq)" ''
    is state "$(known)" ''
}

check_wait() {
    podman run -d --name box testimage sh -c 'exit 4'
    is code "$(podman wait box)" 4
}

check_logs() {
    podman run --name box testimage sh -c 'echo first; echo second >&2'
    is logs "$(podman logs box 2>&1 | tr '\n' ' ')" 'first second '
    is stderr "$(podman logs box 2>&1 >/dev/null)" second
}

check_healthcheck() {
    podman run -d --name box --health-cmd 'test -e /tmp/well' --health-interval disable testimage sleep 1000
    fails 1 podman healthcheck run box
    podman exec box touch /tmp/well
    podman healthcheck run box
    is health "$(inspect box '{{.State.Health.Status}}')" healthy
}

check_read_only() {
    # Below /run and /tmp there are tmpfs, with the image's contents.
    has "$(run --read-only testimage sh -c 'echo x >/run/a && echo x >/tmp/b && stat -c %a /tmp; echo x >/c' 2>&1 || true)" 1777 'Read-only file system'
    has "$(fails 1 run --read-only --read-only-tmpfs=false testimage touch /tmp/b)" 'Read-only file system'
}

check_tmpfs() {
    has "$(run --tmpfs /mine:rw,size=1m,mode=700,noexec testimage sh -c 'stat -c %a /mine; grep " /mine " /proc/mounts')" 700 tmpfs noexec size=1024k
}

check_tmpfs_copies_up() {
    # podman asks for tmpcopyup.
    is file "$(run --tmpfs /srv testimage cat /srv/hello)" hello
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
    podman volume rm named
}

check_mount_options() {
    mkdir "$TEST_HOST/options"
    mount --bind "$TEST_HOST/options" "$TEST_HOST/options"
    mount --make-shared "$TEST_HOST/options"
    has "$(run --mount "type=bind,src=$TEST_HOST/options,dst=/v,ro=true,bind-propagation=rslave" testimage grep ' /v ' /proc/self/mountinfo)" ' ro' master:
    has "$(run -v "$TEST_HOST/options:/v:nosuid,nodev,noexec" testimage grep ' /v ' /proc/mounts)" nosuid nodev noexec
}

check_workdir_is_made() {
    has "$(fails 126 run -w /nothing/there testimage pwd)" /nothing/there
}

check_device() {
    is bytes "$(run --device /dev/zero:/dev/mine testimage sh -c 'head -c 3 /dev/mine | wc -c')" 3
    [ -c /dev/fuse ] || skip "no device that is not allowed to all"
    run --device /dev/fuse:/dev/mine testimage sh -c ': <>/dev/mine'
    run --device /dev/fuse:/dev/mine:r testimage sh -c ': </dev/mine'
    has "$(fails 1 run --device /dev/fuse:/dev/mine:r testimage sh -c ': <>/dev/mine')" ermitted
}

check_devices_of_all() {
    run testimage sh -c 'for name in null zero full random urandom tty; do test -c /dev/$name || exit 1; done; echo >/dev/null; head -c 1 /dev/urandom >/dev/null; test -d /dev/pts; test -d /dev/shm; test -L /dev/fd'
    has "$(fails 1 run --cap-add MKNOD testimage sh -c 'mknod /tmp/kmsg c 1 11 && echo made && cat /tmp/kmsg')" made ermitted
}

check_capabilities() {
    # The default set, less, more, none.
    is plain "$(run testimage grep CapEff /proc/self/status)" $'CapEff:\t00000000800425fb'
    is drop "$(run --cap-drop CHOWN testimage grep CapEff /proc/self/status)" $'CapEff:\t00000000800425fa'
    is add "$(run --cap-add NET_ADMIN testimage grep CapEff /proc/self/status)" $'CapEff:\t00000000800435fb'
    is none "$(run --cap-drop all testimage grep CapBnd /proc/self/status)" $'CapBnd:\t0000000000000000'
    is user "$(run -u app testimage grep CapEff /proc/self/status)" $'CapEff:\t0000000000000000'
    is inherited "$(run testimage grep CapInh /proc/self/status)" $'CapInh:\t0000000000000000'
}

check_ambient_capabilities() {
    is ambient "$(run -u app --cap-add NET_ADMIN testimage grep CapAmb /proc/self/status)" $'CapAmb:\t0000000000001000'
}

check_no_new_privileges() {
    is default "$(run testimage grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t0'
    is asked "$(run --security-opt no-new-privileges testimage grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t1'
}

check_seccomp() {
    is default "$(run testimage grep Seccomp: /proc/self/status)" $'Seccomp:\t2'
    is none "$(run --security-opt seccomp=unconfined testimage grep Seccomp: /proc/self/status)" $'Seccomp:\t0'
    echo '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}' >"$TEST_HOST/profile"
    has "$(fails 1 run --security-opt "seccomp=$TEST_HOST/profile" testimage mkdir /x)" 'No space left'
    idle_with box --security-opt "seccomp=$TEST_HOST/profile"
    has "$(fails 1 podman exec box mkdir /x)" 'No space left'
}

check_masked_paths() {
    has "$(run testimage sh -c 'cat /proc/kcore | wc -c; ls /proc/acpi | wc -l; ls /sys/firmware | wc -l' | tr '\n' ' ')" '0 0 0 '
    has "$(fails 1 run testimage sh -c 'echo 1 >/proc/sys/kernel/panic')" 'ead-only'
}

check_ulimit() {
    # If one of them is given, podman asks for more processes than allowed without privilege.
    is files "$(run --ulimit nofile=111:222 --ulimit "nproc=$(ulimit -Hu)" testimage sh -c 'ulimit -Sn; ulimit -Hn' | tr '\n' ' ')" '111 222 '
}

check_sysctl() {
    is value "$(run --sysctl net.ipv4.ip_default_ttl=33 testimage cat /proc/sys/net/ipv4/ip_default_ttl)" 33
    has "$(fails 126 run --sysctl net.nothing=1 testimage true)" net
}

check_shm_size() {
    has "$(run --shm-size 3m testimage grep ' /dev/shm ' /proc/mounts)" size=3072k
}

check_umask() {
    is umask "$(run --umask 0027 testimage sh -c umask)" 0027
}

check_init() {
    # The small init reaps; it is pid 1 and the command is its child.
    has "$(run --init testimage sh -c 'cat /proc/1/cmdline | tr "\0" " "')" /podman-init
    fails 3 run --init testimage sh -c 'exit 3'
}

check_oom_score() {
    is score "$(run --oom-score-adj 500 testimage cat /proc/self/oom_score_adj)" 500
}

check_user_namespace() {
    local map
    map=$(run --uidmap 0:100000:5000 --gidmap 0:200000:6000 testimage sh -c 'cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c %u:%g /srv/hello; stat -c %u /home/app')
    is map "$(echo $map)" '0 100000 5000 0 200000 6000 0 0:0 1000'
    idle_with box --uidmap 0:100000:5000
    is owner "$(stat -c %u "/proc/$(pid box)")" 100000
    is exec "$(podman exec -u app box id -u)" 1000
}

check_user_namespace_auto() {
    local first second
    first=$(run --userns auto:size=2000 testimage cat /proc/self/uid_map)
    [[ $(echo $first) = '0 '*' 2000' ]]
    [[ $(echo $first) != '0 0 '* ]]
}

check_user_namespace_with_tty_and_volume() {
    mkdir "$TEST_HOST/mapped"
    chown 100000:100000 "$TEST_HOST/mapped"
    has "$(on_tty "podman run --rm -it --uidmap 0:100000:5000 -v $TEST_HOST/mapped:/v testimage sh -c 'touch /v/file; tty; stat -c owner=%u /dev/pts/0'")" /dev/pts/0 owner=0
    is owner "$(stat -c %u "$TEST_HOST/mapped/file")" 100000
}

check_preserved_fds() {
    is read "$(exec 3<"$TEST_HOST/rootfs/srv/hello"; run --preserve-fds 1 testimage sh -c 'cat <&3')" hello
}

check_no_fds_leak() {
    is fds "$(run testimage sh -c 'ls /proc/self/fd | wc -l')" 4
}

check_privileged() {
    local have
    have=$((0x$(awk '/CapBnd/ { print $2 }' /proc/self/status)))
    ((have & 1 << 24)) || skip "the host has no CAP_SYS_RESOURCE"
    has "$(run --privileged testimage cat /proc/self/status)" "CapEff:"$'\t'"$(printf %016x $have)"
}

check_attach() {
    podman run -di --name box testimage sh -c 'read line; echo "got $line"'
    has "$(echo word | podman attach box)" 'got word'
}

check_copy() {
    idle_with box
    echo copied >"$TEST_HOST/copied"
    podman cp "$TEST_HOST/copied" box:/tmp/copied
    is file "$(podman exec box cat /tmp/copied)" copied
    podman cp box:/srv/hello "$TEST_HOST/back"
    is file "$(cat "$TEST_HOST/back")" hello
}

check_commit_and_diff() {
    podman run --name box testimage touch /new
    has "$(podman diff box)" 'A /new'
}

check_annotations_reach_the_state() {
    idle_with box --annotation org.example.mine=yes
    has "$("$RUNTIME" state "$(cat "$TEST_HOST/id")")" org.example.mine '"status": "running"'
}

check_create_then_start() {
    podman create --name box testimage echo hello
    is state "$(state box)" created
    podman init box
    is state "$(state box)" initialized
    has "$("$RUNTIME" state "$(inspect box '{{.Id}}')")" '"status": "created"'
    is output "$(podman start -a box)" hello
}

check_many_at_once() {
    local i pids=()
    for i in {1..10}; do
        run testimage sh -c "echo $i; exit $i" >"$TEST_HOST/many.$i" 2>"$TEST_HOST/many.$i.err" &
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

check_cgroups_are_removed() {
    is cgroups "$(find /sys/fs/cgroup -path '*libpod-*' -type d)" ''
}

run_checks "$@"
