#!/bin/bash
# podman as an ordinary user: subordinate ids, slirp4netns, no cgroups.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

# The user walker exists only on this private host.
echo "walker:x:4321:4321::$TEST_HOST/home:/bin/bash" >>/etc/passwd
echo walker:x:4321: >>/etc/group
for file in subuid subgid; do
    echo walker:500000:65536 >>/etc/$file
done
install -d -o 4321 -g 4321 "$TEST_HOST/home"
install -d /run/user
install -d -m 700 -o 4321 -g 4321 /run/user/4321
# As udev leaves it; without udev it often belongs to root alone.
if [ -c /dev/net/tun ]; then
    mknod -m 666 "$TEST_HOST/tun" c 10 200
    mount --bind "$TEST_HOST/tun" /dev/net/tun
fi
podman_files "$TEST_HOST/home/graph" /run/user/4321/containers
# Containers of this user see the host's mounts only where / is shared.
mount --make-rshared /

mkdir "$TEST_HOST/walker"
cat >"$TEST_HOST/walker/podman" <<END
#!/bin/sh
exec env HOME=$TEST_HOST/home USER=walker XDG_RUNTIME_DIR=/run/user/4321 \\
    setpriv --reuid 4321 --regid 4321 --init-groups -- /usr/bin/podman "\$@"
END
chmod 755 "$TEST_HOST/walker/podman"
PODMAN=$TEST_HOST/walker/podman
cd "$TEST_HOST/home" || exit 2

podman() { timeout -k 5 60 "$PODMAN" "$@"; }
remove_all() {
    case $(podman ps -a --format '{{.IsInfra}}') in
    '') ;;
    *true*) podman pod rm -fa -t 0 && podman rm -fa -t 0 ;;
    *) podman rm -fa -t 0 ;;
    esac
}
# Retried, since podman's cleanup after a container's end and its rm disturb each other.
tidy() { until_ok remove_all; }
# What the runtime knows about, queried where podman does: as root of walker's user namespace.
known() { podman unshare "$RUNTIME" list -q; }
inspect() { podman inspect -f "$2" "$1"; }
pid() { inspect "$1" '{{.State.Pid}}'; }
state() { inspect "$1" '{{.State.Status}}'; }
idle() { podman run -d --name "$@" testimage sh -c 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done'; }
idle_with() { idle "$@" >"$TEST_HOST/id"; }
run() { podman run --rm "$@"; }
needs_tun() { [ -c /dev/net/tun ] || skip "no /dev/net/tun for slirp4netns"; }

podman load -q -i "$TEST_HOST/testimage.tar" >"$TEST_HOST/log" 2>&1 || die "podman load: $(cat "$TEST_HOST/log")"
podman tag localhost/testimage:latest testimage

check_run_leaves_nothing() {
    is output "$(run --network none testimage echo hello)" hello
    is state "$(known)" ''
    is containers "$(podman ps -aq)" ''
}

check_who_it_is() {
    is inside "$(run testimage id -u)" 0
    is inside "$(run -u app testimage sh -c 'id -u; id -G' | tr '\n' ' ')" '1000 1000 2000 '
    idle_with box
    is outside "$(stat -c %u "/proc/$(pid box)")" 4321
    podman rm -f -t 0 box
    idle_with box -u app
    is outside "$(stat -c %u "/proc/$(pid box)")" $((500000 + 999))
}

check_the_runtime_is_used() {
    idle_with box
    is container "$(known)" "$(cat "$TEST_HOST/id")"
}

check_exit_codes() {
    fails 7 run testimage sh -c 'exit 7'
    fails 137 run testimage sh -c 'sh -c "kill -KILL \$\$"; exit $?'
    has "$(fails 127 run testimage nothing-there)" nothing-there 'not found'
    has "$(fails 126 run testimage /etc/plain)" 'permission denied'
    is state "$(known)" ''
}

check_files_belong_to_the_user() {
    mkdir -m 777 volume
    run -v "$PWD/volume:/v" testimage touch /v/file
    is owner "$(stat -c %u volume/file)" 4321
    run -v "$PWD/volume:/v" -u app testimage touch /v/app
    is owner "$(stat -c %u volume/app)" $((500000 + 999))
    has "$(fails 1 run -v "$PWD/volume:/v:ro" testimage touch /v/new)" 'Read-only file system'
}

check_tty_of_run() {
    local said
    said=$(on_tty "$PODMAN run --rm -it testimage sh -c '$WAIT_SIZE; tty; test -t 0 && test -t 2 && echo on a terminal; exit 5'") && false || is code $? 5
    has "$said" '33 77' '/dev/pts/0' 'on a terminal'
    has "$(printf 'echo $((6 * 7))\nexit\n' | on_tty "$PODMAN run --rm -it testimage sh")" $'\n42\n'
}

check_exec() {
    idle_with box -e MINE=1
    is output "$(podman exec box echo hello)" hello
    is output "$(echo typed | podman exec -i box cat)" typed
    is environment "$(podman exec -e MORE=2 box sh -c 'echo $MINE $MORE')" '1 2'
    is user "$(podman exec -u app -w /tmp box sh -c 'id -u; pwd' | tr '\n' ' ')" '1000 /tmp '
    fails 7 podman exec box sh -c 'exit 7'
    has "$(fails 127 podman exec box nothing-there)" nothing-there
}

check_tty_of_exec() {
    idle_with box
    local said
    said=$(on_tty "$PODMAN exec -it box sh -c '$WAIT_SIZE; tty; exit 6'") && false || is code $? 6
    has "$said" '33 77' /dev/pts/
}

check_network_none() {
    is links "$(run --network none testimage ls /sys/class/net)" lo
}

check_network_host() {
    is namespace "$(run --network host testimage readlink /proc/self/ns/net)" "$(readlink /proc/self/ns/net)"
}

check_network_slirp() {
    needs_tun
    has "$(run --network slirp4netns testimage ip -o -4 addr show tap0)" 10.0.2.100
}

check_published_port() {
    needs_tun
    podman run -d --name box -p 127.0.0.1:8080:80 testimage httpd -f -p 80 -h /srv
    until_is hello curl -sS --max-time 5 http://127.0.0.1:8080/hello
    podman rm -f -t 0 box
    fails 7 curl -sS --max-time 5 http://127.0.0.1:8080/hello
}

check_network_bridge() {
    # In a network namespace made by podman.
    needs_tun
    podman network create net
    podman run -d --name server --network net testimage httpd -f -p 80 -h /srv
    local address
    address=$(inspect server '{{.NetworkSettings.Networks.net.IPAddress}}')
    until_is hello run --network net testimage wget -qO - "http://$address/hello"
    podman rm -f -t 0 server
    podman network rm net
}

check_pod() {
    podman pod create --name pod
    podman run -d --pod pod --name server testimage httpd -f -p 80 -h /srv
    idle_with other --pod pod
    until_is hello podman exec other wget -qO - http://127.0.0.1/hello
    local kind
    for kind in net ipc uts user; do
        is "$kind" "$(podman exec server readlink /proc/self/ns/$kind)" "$(podman exec other readlink /proc/self/ns/$kind)"
    done
    podman pod rm -f -t 0 pod
    is state "$(known)" ''
}

check_namespaces_are_new() {
    local kind inside
    inside=$(run testimage sh -c 'for kind in user pid ipc uts net mnt; do readlink /proc/self/ns/$kind; done')
    for kind in user pid ipc uts net mnt; do
        [[ $inside != *"$(readlink /proc/self/ns/$kind)"* ]]
    done
}

check_keep_id() {
    is id "$(run --userns keep-id testimage sh -c 'id -u; id -g' | tr '\n' ' ')" '4321 4321 '
    mkdir kept
    chown 4321:4321 kept
    run --userns keep-id -v "$PWD/kept:/v" testimage touch /v/file
    is owner "$(stat -c %u kept/file)" 4321
}

check_uid_map() {
    is map "$(echo $(run --uidmap 0:1:2000 --gidmap 0:1:2000 testimage cat /proc/self/uid_map))" '0 1 2000'
    is map "$(echo $(run --userns nomap testimage cat /proc/self/uid_map))" '0 1 65536'
}

check_kill() {
    podman run -d --name box testimage sh -c 'trap "echo got it" USR1; echo ready; while :; do sleep 1000 & wait; done'
    until_has ready podman logs box
    podman kill -s USR1 box
    until_has 'got it' podman logs box
    podman kill box
    until_is exited state box
    is code "$(inspect box '{{.State.ExitCode}}')" 137
}

check_kill_of_all_processes() {
    # Without a cgroup and a pid namespace the runtime has no list of them; with the namespace, they
    # all end with the first.
    podman run -d --name box testimage sh -c 'sleep 12345 & exec sleep 12346'
    sleeps() { pgrep -f '^sleep 1234[56]' | wc -l; }
    until_is 2 sleeps
    podman rm -f -t 0 box
    until_is 0 sleeps
}

check_stop_and_restart() {
    idle_with box
    podman stop -t 20 box
    is code "$(inspect box '{{.State.ExitCode}}')" 0
    podman start box
    local before
    before=$(pid box)
    podman restart -t 5 box
    [ "$(pid box)" != "$before" ]
    is output "$(podman exec box echo hello)" hello
    podman rm -f -t 0 box
    is state "$(known)" ''
}

check_pause_is_refused() {
    # There is no freezer that this user can write to; the container keeps running.
    idle_with box
    fails 125 podman pause box
    is output "$(podman exec box echo hello)" hello
}

check_limits_are_left_out() {
    # podman leaves limits out where there is no cgroup of version 2, and says so.
    has "$(run --memory 64m testimage echo hello 2>&1)" hello 'limits are not supported'
}

check_read_only_and_tmpfs() {
    has "$(fails 1 run --read-only testimage touch /new)" 'Read-only file system'
    has "$(run --read-only testimage sh -c 'echo x >/run/a && echo x >/tmp/b && stat -c %a /tmp')" 1777
    is file "$(run --tmpfs /srv testimage cat /srv/hello)" hello
}

check_privileges() {
    is capabilities "$(run testimage grep CapEff /proc/self/status)" $'CapEff:\t00000000800425fb'
    is none "$(run --cap-drop all testimage grep CapBnd /proc/self/status)" $'CapBnd:\t0000000000000000'
    is user "$(run -u app testimage grep CapEff /proc/self/status)" $'CapEff:\t0000000000000000'
    is seccomp "$(run testimage grep Seccomp: /proc/self/status)" $'Seccomp:\t2'
    is privileges "$(run --security-opt no-new-privileges testimage grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t1'
}

check_device() {
    # It is bound, since devices cannot be made.
    is bytes "$(run --device /dev/zero:/dev/mine testimage sh -c 'head -c 3 /dev/mine | wc -c')" 3
    run testimage sh -c 'for name in null zero full random urandom tty; do test -c /dev/$name || exit 1; done; echo >/dev/null'
}

check_sysctl_and_ulimit() {
    is value "$(run --sysctl net.ipv4.ip_default_ttl=33 testimage cat /proc/sys/net/ipv4/ip_default_ttl)" 33
    is files "$(run --ulimit nofile=111:222 testimage sh -c 'ulimit -Sn; ulimit -Hn' | tr '\n' ' ')" '111 222 '
}

check_masked_paths() {
    is masked "$(run testimage sh -c 'cat /proc/kcore | wc -c; ls /sys/firmware | wc -l' | tr '\n' ' ')" '0 0 '
    has "$(fails 1 run testimage sh -c 'echo 1 >/proc/sys/kernel/panic')" 'ead-only'
}

check_namespaces_of_the_host() {
    local kind
    # For ipc, podman wants the host's /dev/mqueue, which a nested host may lack.
    for kind in pid uts $([ ! -d /dev/mqueue ] || echo ipc); do
        is "$kind" "$(run --$kind host testimage readlink /proc/self/ns/$kind)" "$(readlink /proc/self/ns/$kind)"
    done
}

check_init() {
    has "$(run --init testimage sh -c 'cat /proc/1/cmdline | tr "\0" " "')" /podman-init
}

check_copy_and_logs() {
    idle_with box
    echo copied >copied
    podman cp copied box:/tmp/copied
    is file "$(podman exec box cat /tmp/copied)" copied
    podman run --name other testimage sh -c 'echo first; echo second >&2'
    is logs "$(podman logs other 2>&1 | tr '\n' ' ')" 'first second '
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

check_no_cgroups_are_made() {
    is cgroups "$(find /sys/fs/cgroup -mindepth 2 -type d)" ''
}

run_checks "$@"
