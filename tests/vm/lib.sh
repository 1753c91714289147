# What the cases use. Runs one of them: lib.sh FUNCTION. A case is a function whose commands all
# succeed; its output is shown if one does not, and lines that begin with "# " always.
set -euo pipefail
# Some sessions lack them.
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '# %s\n' "$*"; }
fail() { printf 'here: %s\n' "$*"; exit 1; }

# contains TEXT WORDS: fails, showing the text, if it does not.
contains() { case $1 in *"$2"*) ;; *) fail "no \"$2\" in: $1" ;; esac; }
lacks() { case $1 in *"$2"*) fail "\"$2\" in: $1" ;; esac; }
equals() { [ "$1" = "$2" ] || fail "\"$1\" is not \"$2\""; }

# fails COMMAND...: prints its output, if it fails.
fails() { if "$@" 2>&1; then fail "this succeeds: $*"; fi; }

# eventually COMMAND...: within 30 s, as the machine is slow.
eventually() {
    { set +x; } 2>/dev/null
    for _ in $(seq 150); do
        if "$@" >/dev/null 2>&1; then
            set -x
            return
        fi
        sleep 0.2
    done
    fail "not within 30 s: $*"
}

# unit [PROPERTY...] -- COMMAND...: as ExecStart of a unit, with its output and exit code.
unit() {
    local properties=()
    while [ "$1" != -- ]; do properties+=(-p "$1"); shift; done
    shift
    systemd-run ${USER_UNITS:+--user} --quiet --pipe --wait --collect "${properties[@]}" -- "$@" 2>&1
}

# unit_is UNIT PROPERTY VALUE
unit_is() { [ "$(systemctl show -P "$2" "$1")" = "$3" ]; }

# starts_under PROPERTY...: a sandbox starts as ExecStart of such a unit. So does bwrap's, or that
# is reported.
starts_under() {
    local output
    output=$(unit "$@" -- bwrap --ro-bind / / --dev /dev --unshare-pid true) || say "bwrap does not: $output"
    output=$(unit "$@" -- garth wrap -- readlink /proc/self) || fail "$*: $output"
    # The pid shows that it was a sandbox; a message about what was left out may precede it.
    equals "$(tail -n 1 <<<"$output")" 2
    unit "$@" -- garth wrap -- sh -c 'echo x >/dev/null; cat /dev/null; head -c 1 /dev/urandom >/dev/zero'
}

# daemon NAME CHECK -- WRAP...: it is started, answers, and ends when told to.
daemon() {
    local name=$1 check=$2
    shift 3
    garth wrap -d --name "$name" "$@"
    eventually bash -c "$check"
    garth kill "$name"
    eventually is_gone "$name"
}

# Debian's containerd, without CRI, and in it localhost/box:latest: busybox. It is a job of the shell; its log is
# /tmp/containerd/log.
containerd_with_image() {
    rm -rf /tmp/image /tmp/containerd
    mkdir -p /tmp/image/root/{bin,proc,dev,sys,tmp} /tmp/containerd
    cp /usr/bin/busybox /tmp/image/root/bin/
    chroot /tmp/image/root /bin/busybox --install -s /bin
    tar -C /tmp/image/root --numeric-owner -cf /tmp/image/layer.tar .
    local sum
    sum=$(sha256sum </tmp/image/layer.tar)
    echo '{"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:'"${sum%% *}"'"]}}' >/tmp/image/config.json
    echo '[{"Config": "config.json", "RepoTags": ["localhost/box:latest"], "Layers": ["layer.tar"]}]' >/tmp/image/manifest.json
    tar -C /tmp/image -cf /tmp/image.tar manifest.json config.json layer.tar
    printf 'version = 2\nroot = "/tmp/containerd/root"\nstate = "/run/containerd/state"\n
        disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "/run/containerd/containerd.sock"\n' >/tmp/containerd/config.toml
    containerd --config /tmp/containerd/config.toml >/tmp/containerd/log 2>&1 &
    eventually ctr version
    ctr image import /tmp/image.tar
}

# exported FILE SERVICE [FLAG...]: its unit is known to systemd.
exported() {
    local file=$1 service=$2
    shift 2
    chmod 644 "$file"
    garth export systemd "$@" -f "$file" "$service" >"/run/systemd/system/garth-$service.service"
    systemd-analyze verify "garth-$service.service"
    systemctl daemon-reload
}

# ends_cleanly SERVICE: without a failure, and with nothing left of its sandbox.
ends_cleanly() {
    systemctl stop "garth-$1.service"
    unit_is "garth-$1.service" Result success
    eventually is_gone "$1"
    rm "/run/systemd/system/garth-$1.service"
    systemctl daemon-reload
}

# Of sandboxes, by name.
is_there() { garth ps -q | grep -qx "$1"; }
is_gone() { ! is_there "$1"; }

# tree NAME: the processes in the cgroups of a unit.
tree() { find "/sys/fs/cgroup$(systemctl show -P ControlGroup "$1")" -name cgroup.procs -exec grep -H . {} +; }

# Of RAID volumes: three servers, each in a network namespace of its own, export two disks each by the
# kernel's own target.
# The size of a disk in MiB; the first case decides.
DISK=48
IQN=iqn.2015-06.net.example
TARGETS=/sys/kernel/config/target
# garth expands these braces, not the shell.
DISKS=("iscsi://10.0.1.1/$IQN:s1.vol{1..2}" "iscsi://10.0.2.1/$IQN:s2.vol{1..2}" "iscsi://10.0.3.1/$IQN:s3.vol{1..2}")

# The servers are up, and their disks blank: what an earlier volume had would be found on the next one,
# and not overwritten.
_servers() {
    modprobe -a target_core_file iscsi_target_mod
    mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
    mkdir -p /srv/disks
    local server disk backing portal
    for disk in /srv/disks/*; do [ ! -f "$disk" ] || { truncate -s 0 "$disk"; truncate -s ${DISK}M "$disk"; }; done
    for server in 1 2 3; do
        [ ! -e "/run/netns/raid$server" ] || { _up "$server"; continue; }
        ip netns add raid$server
        ip link add raid$server type veth peer name eth0 netns raid$server
        ip address add 10.0.$server.254/24 dev raid$server
        ip link set raid$server up
        ip -n raid$server address add 10.0.$server.1/24 dev eth0
        ip -n raid$server link set eth0 up
        for disk in 1 2; do
            backing=$TARGETS/core/fileio_$server/vol$disk
            truncate -s ${DISK}M /srv/disks/s${server}vol$disk
            mkdir -p $backing
            echo -n "fd_dev_name=/srv/disks/s${server}vol$disk,fd_dev_size=$((DISK << 20))" >$backing/control
            echo 1 >$backing/enable
            portal=$TARGETS/iscsi/$IQN:s$server.vol$disk/tpgt_1
            mkdir -p $portal/lun/lun_0
            ln -s $backing $portal/lun/lun_0/disk
            echo 0 >$portal/attrib/authentication
            echo 0 >$portal/attrib/demo_mode_write_protect
            echo 1 >$portal/attrib/generate_node_acls
            echo 1 >$portal/attrib/cache_dynamic_acls
            # Not by ip netns exec, which mounts another /sys.
            nsenter --net=/run/netns/raid$server mkdir $portal/np/10.0.$server.1:3260
            echo 1 >$portal/enable
        done
    done
}
_up() { ip -n "raid$1" link set eth0 up; }
_down() { ip -n "raid$1" link set eth0 down; }

_device() { garth volume status data --format json | jq -r .device; }
_health() { garth volume status data --format json | jq -r .health || true; }
_health_is() { [ "$(_health)" = "$1" ]; }
# Neither volumes, nor arrays, nor what open-iscsi knows.
_nothing_is_left() {
    equals "$(garth volume ls -q)" ""
    lacks "$(cat /proc/mdstat)" active
    ! ls -d /sys/class/iscsi_session/session* 2>/dev/null || fail "sessions"
    ! ls -d /etc/iscsi/nodes/* 2>/dev/null || fail "node records"
}

. "$CASES/cases.sh"
set -x
"$1"
