# shellcheck shell=bash
# Shared by the client scripts: a private host, an image, and running the checks.
#
# usage of each script: tests/clients/CLIENT.sh RUNTIME [CHECK...]
#
# A script starts its engine with RUNTIME as the only OCI runtime and runs its checks, functions
# named check_..., in the order of the file. It prints `ok NAME`, `not ok NAME: why` or
# `skip NAME: why` for each, and exits with 1 if any failed. VERBOSE=1 prints the output of a failed
# check, and the end of the engine's log.
#
# The private host: its own mount, network, pid, host name, ipc and cgroup namespaces; /etc, /var
# and /root are overlays of the machine's, /run and /dev/shm are empty; each cgroup tree is a
# directory of this script's in the machine's tree. When its pid 1 ends, so does everything in it,
# and the directories are removed. Nothing that an engine does is visible outside.
#
# ENGINE, if set, is a directory with another version of the engine's programs.
set -u
PATH=${ENGINE:+$ENGINE:}/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C

die() {
    echo "${0##*/}: $*" >&2
    exit 2
}

# --- Outside: the private host -------------------------------------------------------------------

# Lines "point dir controllers": where a cgroup tree is mounted, our directory there, and what it
# controls (v2 for version 2). The directory is below our own cgroup, so that limits on us hold for
# everything we start.
cgroup_dirs() {
    local root point rest kind options controllers path
    while read -r _ _ _ root point rest; do
        kind=${rest#* - }
        options=,${kind##* },
        kind=${kind%% *}
        case $kind in cgroup | cgroup2) ;; *) continue ;; esac
        while IFS=: read -r _ controllers path; do
            case $kind:$options in
            cgroup2:*) [ -z "$controllers" ] || continue ;;
            *",${controllers%%,*},"*) [ -n "$controllers" ] || continue ;;
            *) continue ;;
            esac
            # A tree may be mounted from below its root.
            [ "$root" = / ] || path=${path#"$root"}
            echo "$point ${point}${path%/}/garth-clients-$$ ${controllers:-v2}"
        done </proc/self/cgroup
    done </proc/self/mountinfo
}

remove_cgroups() {
    local _ dir
    while read -r _ dir _; do
        # A process that has just died may hold its cgroup for a moment.
        for _ in {1..100}; do
            [ -d "$dir" ] || break
            find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null
            [ ! -d "$dir" ] || sleep 0.05
        done
        [ ! -d "$dir" ] || echo "${0##*/}: left behind: $dir" >&2
    done <<<"$trees"
}

# Runs the calling script again, inside.
enter_host() {
    local script=$1 runtime=${2-} work trees
    [ "$(id -u)" = 0 ] || die "must be root"
    [ -x "$runtime" ] || die "usage: ${0##*/} RUNTIME [CHECK...]; not a program: $runtime"
    shift 2
    work=$(mktemp -d "/tmp/garth-clients-$$.XXXXXX") || exit 2
    chmod 755 "$work"
    trees=$(cgroup_dirs)
    trap 'remove_cgroups; rmdir "$work"' EXIT
    local point dir file
    while read -r point dir _; do
        mkdir "$dir" || exit 2
        # A cpuset of version 1 is empty at first, and no process can be put in it.
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$dir/$file" ] || cat "${dir%/*}/$file" >"$dir/$file"
        done 2>/dev/null
    done <<<"$trees"
    (
        # The cgroup namespace is rooted at our directories. In a version 2 tree we then go one
        # level down, since controllers can only be enabled where there are no processes.
        while read -r point dir _; do
            echo "$BASHPID" >"$dir/cgroup.procs" || exit 2
        done <<<"$trees"
        # shellcheck disable=SC2016
        exec unshare --cgroup bash -c '
            trees=$1; shift
            while read -r point dir _; do
                [ "$point" = /sys/fs/cgroup ] || continue
                mkdir "$dir/init"
                echo $$ >"$dir/init/cgroup.procs"
                for name in $(cat "$dir/cgroup.controllers"); do
                    echo "+$name" >"$dir/cgroup.subtree_control"
                done
            done <<<"$trees"
            exec "$@"' _ "$trees" \
            unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc \
            --propagation private -- env TEST_HOST="$work" TREES="$trees" bash "$(realpath "$script")" "$(realpath -s "$runtime")" "$@"
    ) </dev/null &
    # A signal must find us waiting, not the shell busy with a child in the foreground: then the
    # private host is killed and what it had outside is removed.
    local child=$!
    trap 'kill -KILL "$child" 2>/dev/null; wait "$child" 2>/dev/null; exit 130' INT TERM HUP
    wait "$child"
    exit
}

# --- Inside --------------------------------------------------------------------------------------

furnish_host() {
    local dir version=2
    mount -t tmpfs -o mode=755 tmpfs "$TEST_HOST"
    for dir in etc var root; do
        mkdir -p "$TEST_HOST/host/$dir" "$TEST_HOST/host/$dir.work"
        mount -t overlay -o "lowerdir=/$dir,upperdir=$TEST_HOST/host/$dir,workdir=$TEST_HOST/host/$dir.work" \
            overlay "/$dir"
    done
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mkdir -p /run/lock "$TEST_HOST/tmp" "$TEST_HOST/bin"
    # Engines and CNI bind namespaces here and make it shared.
    mkdir /run/netns
    mount -t tmpfs tmpfs /run/netns
    chmod 1777 "$TEST_HOST/tmp"
    # This network namespace's /sys, and the cgroup trees as this cgroup namespace sees them.
    umount -Rl /sys
    mount -t sysfs sysfs /sys
    if [[ $TREES != "/sys/fs/cgroup "* ]]; then
        version=1
        mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    fi
    local point controllers
    while read -r point _ controllers; do
        # Old crun mistakes a version 2 tree next to those of version 1 for a version that it does
        # not know.
        [ "$NAME:$controllers:$version" != crun:v2:1 ] || continue
        mkdir -p "$point"
        case $controllers in
        v2) mount -t cgroup2 cgroup2 "$point" ;;
        name=*) mount -t cgroup -o "none,$controllers" cgroup "$point" ;;
        *) mount -t cgroup -o "$controllers" cgroup "$point" ;;
        esac
    done <<<"$TREES"
    ip link set lo up
    hostname test
    export TMPDIR=$TEST_HOST/tmp HOME=/root
    unset XDG_RUNTIME_DIR XDG_CONFIG_HOME DBUS_SESSION_BUS_ADDRESS NOTIFY_SOCKET LISTEN_FDS
    cd "$TEST_HOST" || exit 2
}

# An image, as `docker save` makes it, in $TEST_HOST/testimage.tar: busybox, three users, a page to serve.
make_image() {
    local root=$TEST_HOST/rootfs diff
    mkdir -p "$root"/{bin,dev,etc,home/app,proc,root,run,srv,sys,tmp,usr,var}
    cp "$(command -v busybox)" "$root/bin/busybox"
    chroot "$root" /bin/busybox --install -s /bin
    ln -s ../bin "$root/usr/bin"
    chmod 1777 "$root/tmp"
    echo hello >"$root/srv/hello"
    echo 'not a program' >"$root/etc/plain"
    printf '#!/bin/sh\necho from a script\n' >"$root/bin/greet"
    printf 'echo headless\n' >"$root/bin/headless"
    printf '#!/bin/sh\r\necho from DOS\r\n' >"$root/bin/dos"
    chmod 755 "$root"/bin/{greet,headless,dos}
    printf '%s:x:%s:%s::%s:/bin/sh\n' root 0 0 /root app 1000 1000 /home/app \
        nobody 65534 65534 / >"$root/etc/passwd"
    printf '%s:x:%s:%s\n' root 0 '' app 1000 '' extra 2000 app nogroup 65534 '' >"$root/etc/group"
    chown 1000:1000 "$root/home/app"
    mkdir "$TEST_HOST/image"
    tar -C "$root" --numeric-owner -cf "$TEST_HOST/image/layer.tar" .
    diff=$(sha256sum <"$TEST_HOST/image/layer.tar")
    cat >"$TEST_HOST/image/config.json" <<END
{"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
 "config": {"Env": ["PATH=/usr/bin:/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:${diff%% *}"]},
 "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "tests"}]}
END
    echo '[{"Config": "config.json", "RepoTags": ["localhost/testimage:latest"], "Layers": ["layer.tar"]}]' \
        >"$TEST_HOST/image/manifest.json"
    tar -C "$TEST_HOST/image" -cf "$TEST_HOST/testimage.tar" manifest.json config.json layer.tar
}

# use_shim NAME: with SHIM in the environment, containerd finds that program under this name.
use_shim() {
    [ -n "${SHIM-}" ] || return 1
    ln -s "$SHIM" "$TEST_HOST/bin/$1"
    PATH=$TEST_HOST/bin:$PATH
}

# What containerd needs to be this script's alone, without CRI.
private_containerd() {
    containerd --version >>"$TEST_HOST/log"
    # Below /run, since socket names must be short.
    mkdir /run/test
    cat >"$TEST_HOST/containerd.toml" <<END
version = 2
root = "$TEST_HOST/containerd"
state = "/run/test/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/run/test/sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$TEST_HOST/opt"
END
    export CONTAINERD_ADDRESS=/run/test/sock
}
start_containerd() {
    containerd --config "$TEST_HOST/containerd.toml" >>"$TEST_HOST/log" 2>&1 &
    echo $! >"$TEST_HOST/pid"
    until_ok ctr version || die "containerd: $(tail -n 5 "$TEST_HOST/log")"
}
import_image() {
    ctr image import "$TEST_HOST/testimage.tar" >>"$TEST_HOST/log" 2>&1 ||
        die "ctr image import: $(tail -n 5 "$TEST_HOST/log")"
}

# machines PREFIX NUMBER...: a network namespace node1, ... for each, on one wire, with the address PREFIX.NUMBER; this host
# is PREFIX.254.
machines() {
    local prefix=$1 n
    ip link add lan type bridge
    ip addr add "$prefix.254/24" dev lan
    ip link set lan up
    for n in "${@:2}"; do
        ip netns add "node$n"
        ip link add "lan$n" type veth peer name eth0 netns "node$n"
        ip link set "lan$n" master lan up
        nsenter --net="/run/netns/node$n" sh -c "ip link set lo up; ip addr add $prefix.$n/24 dev eth0; ip link set eth0 up"
    done
}

# podman_files GRAPHROOT RUNROOT: podman's configuration, with the runtime as its only one.
podman_files() {
    # Raising a limit needs CAP_SYS_RESOURCE, which a nested host may lack: no more than we have.
    cat >"$TEST_HOST/containers.conf" <<END
[containers]
default_capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE",
    "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=$(ulimit -Hu):$(ulimit -Hu)"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "$NAME"
runtime_supports_json = ["$NAME"]
runtime_supports_nocgroup = ["crun", "garth"]
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman", "/usr/bin"]
init_path = "/usr/bin/catatonit"
[engine.runtimes]
$NAME = ["$RUNTIME"]
[network]
network_backend = "netavark"
END
    cat >"$TEST_HOST/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$1"
runroot = "$2"
END
    export CONTAINERS_CONF=$TEST_HOST/containers.conf CONTAINERS_STORAGE_CONF=$TEST_HOST/storage.conf
}

# --- Checks --------------------------------------------------------------------------------------

# is WHAT GOT WANTED
is() {
    [ "$2" = "$3" ] || {
        echo "$1 is '$2', not '$3'" >&2
        return 1
    }
}

# has TEXT PART...: every part is somewhere in the text, ignoring case.
has() {
    local text=$1 part
    shift
    for part; do
        [[ ${text,,} = *"${part,,}"* ]] || {
            echo "'$part' is not in '$text'" >&2
            return 1
        }
    done
}

# fails CODE COMMAND...: it exits with that code; prints its output, stderr included.
fails() {
    local wanted=$1 code=0 said
    shift
    said=$("$@" 2>&1) || code=$?
    printf '%s\n' "$said"
    [ "$code" = "$wanted" ] || {
        echo "exit code of '$*' is $code, not $wanted: $said" >&2
        return 1
    }
}

# until_ok COMMAND...: retries until it succeeds, for a limited time.
until_ok() {
    local end=$((SECONDS + 20))
    until "$@" >"$TEST_HOST/until" 2>&1; do
        if ((SECONDS > end)); then
            echo "waited in vain for '$*': $(tail -n 3 "$TEST_HOST/until")" >&2
            return 1
        fi
        sleep 0.05
    done
}

# until_is WANTED COMMAND...: until it prints that.
until_is() {
    local wanted=$1
    shift
    # shellcheck disable=SC2016
    prints() { [ "$("${@:2}" 2>&1)" = "$1" ] || { "${@:2}"; return 1; }; }
    until_ok prints "$wanted" "$@"
}

# until_has PART COMMAND...: until its output contains that.
until_has() {
    local part=$1
    shift
    shows() { has "$("${@:2}" 2>&1)" "$1"; }
    until_ok shows "$part" "$@"
}

# on_tty COMMAND-LINE: runs it on a terminal of 33 lines and 77 columns; types what it reads from
# stdin. Ends as the command does. Its output has no carriage returns.
on_tty() {
    set -o pipefail
    timeout -k 5 40 script -qefc "stty rows 33 cols 77; $1" /dev/null | tr -d '\r'
}

# For use inside: waits until the terminal has its size, which engines set after the start.
# shellcheck disable=SC2034
WAIT_SIZE='i=0; until [ "$(stty size)" = "33 77" ] || [ $i = 200 ]; do i=$((i+1)); sleep 0.05; done; stty size'

# cgroup_file PID CONTROLLER FILE: the contents of a file of the process's cgroup.
cgroup_file() {
    local path
    path=$(awk -F: -v name="$2" '("," $2 ",") ~ ("," name ",") { print $3 }' "/proc/$1/cgroup")
    cat "/sys/fs/cgroup/$2$path/$3"
}

# skip WHY: leaves the check.
skip() {
    echo "$*" >&2
    exit 77
}

# A function of the script: called after each check, it removes what the check has left behind.
tidy() { :; }

# Runs the checks of the script, or the named ones.
run_checks() {
    local names=("$@") name code why failed=0 number=0 start=$SECONDS
    [ $# != 0 ] || mapfile -t names < <(sed -n 's/^check_\([a-z0-9_]*\)() .*/\1/p' "$0")
    for name in "${names[@]}"; do
        declare -F "check_$name" >/dev/null || die "no such check: $name"
        number=$((number + 1))
        # Not in a condition: there `set -e` would have no effect.
        (
            # shellcheck disable=SC2154
            trap 'code=$?; echo "line $LINENO: $BASH_COMMAND: exit code $code" >&2' ERR
            set -eE
            "check_$name"
        ) >"$TEST_HOST/said" 2>&1 </dev/null
        code=$?
        case $code in
        0) echo "ok $name" ;;
        77) echo "skip $name: $(tail -n 1 "$TEST_HOST/said")" ;;
        *)
            failed=$((failed + 1))
            # Without the call stack through our own functions.
            why=$(grep -avE '^$|^line [0-9]+: (timeout|return)' "$TEST_HOST/said" | tail -n 3 | tr '\n' '|' | cut -c 1-600)
            echo "not ok $name: ${why%|}"
            [ -z "${VERBOSE-}" ] || {
                sed 's/^/    /' "$TEST_HOST/said"
                [ ! -e "$TEST_HOST/log" ] || tail -n 15 "$TEST_HOST/log" | sed 's/^/    log: /'
            }
            ;;
        esac
        tidy >"$TEST_HOST/tidied" 2>&1 </dev/null || {
            failed=$((failed + 1))
            echo "not ok $name: cannot be tidied: $(grep -v '^$' "$TEST_HOST/tidied" | tail -n 2 | tr '\n' '|')"
        }
    done
    echo "# $number checks, $failed failed, $((SECONDS - start)) s, $NAME"
    [ "$failed" = 0 ]
}

[ -n "${TEST_HOST-}" ] || enter_host "$0" "$@"
# The runtime is copied: a rebuild meanwhile does not disturb us, and any user may run it.
NAME=${1##*/}
furnish_host
cp "$1" "$TEST_HOST/bin/$NAME"
chmod 755 "$TEST_HOST/bin/$NAME"
RUNTIME=$TEST_HOST/bin/$NAME
shift
make_image
