# as: root
# guest: mdadm open-iscsi tgt nbd-server netcat-openbsd dash libc-bin
# Storage servers by garth export, three on this host, and volumes over them.

PREFIX=iqn.2015-06.net.example
# garth expands these braces, not the shell.
DISKS=("iscsi://10.0.1.1/$PREFIX:s1.vol{1..2}" "iscsi://10.0.2.1/$PREFIX:s2.vol{1..2}" "iscsi://10.0.3.1/$PREFIX:s3.vol{1..2}")

# Names that begin with _ are not cases. _server NUMBER [FLAG...]
_server() {
    local number=$1
    shift
    garth export iscsi -d --name s$number --prefix $PREFIX --address 10.0.$number.1 "$@" \
        /srv/s$number/vol1.img /srv/s$number/vol2.img
}
_servers() {
    local server disk
    for server in 1 2 3; do
        _end $server
        mkdir -p /srv/s$server
        for disk in 1 2; do
            truncate -s 0 /srv/s$server/vol$disk.img
            truncate -s 48M /srv/s$server/vol$disk.img
        done
        _server $server "$@"
    done
}
_end() {
    ! garth ps -aq | grep -qx s$1 || garth delete --force s$1
}
_ends() { for server in 1 2 3; do _end $server; done; }
_chap() {
    echo 'joe correct-horse-battery' >/srv/chap
    echo 'joe wrong-horse-battery' >/srv/wrong
    chmod 600 /srv/chap /srv/wrong
}
_all_are_logged_in() { [ "$(cat /sys/class/iscsi_session/*/state | sort -u)" = LOGGED_IN ]; }
_create() { garth volume create data --mirrors 3 --stripes 2 --assume-clean "$@" "${DISKS[@]}"; }
_device() { garth volume status ${1-data} --format json | jq -r .device; }
_health() { garth volume status ${1-data} --format json | jq -r .health || true; }
_nothing_is_left() {
    equals "$(garth volume ls -q)" ""
    lacks "$(cat /proc/mdstat)" active
    ! ls -d /sys/class/iscsi_session/session* 2>/dev/null || fail "sessions"
    ! ls -d /etc/iscsi/nodes/* 2>/dev/null || fail "node records"
}

three_servers_in_sandboxes_carry_a_volume_with_an_account() {
    _chap
    _servers --chap /srv/chap
    contains "$(fails _create)" "demands another account"
    _nothing_is_left
    contains "$(fails _create --chap /srv/wrong)" "--chap FILE"
    _nothing_is_left
    _create --chap /srv/chap
    ! ps axww | grep '[c]orrect-horse' || fail "the password is on a command line"
    # Only root's files have it.
    ! find /etc/iscsi /var/lib/garth /run/garth -type f -perm /077 -exec grep -l correct-horse {} +
    mount "$(_device)" /mnt
    dd if=/dev/urandom of=/mnt/before bs=1M count=20
    sum=$(sha256sum </mnt/before)
    sync
    garth kill s2 KILL
    begun=$SECONDS
    dd if=/dev/urandom of=/mnt/degraded bs=1M count=4 conv=fsync
    say "with one server killed, a write went on after $((SECONDS - begun)) s"
    equals "$(_health)" degraded
    garth wait s2 || true
    _server 2 --chap /srv/chap
    eventually _all_are_logged_in
    echo 3 >/proc/sys/vm/drop_caches
    equals "$(sha256sum </mnt/before)" "$sum"
    umount /mnt
    garth volume stop data
    _nothing_but_the_record
    garth volume assemble --degraded data
    garth volume destroy data
    _nothing_is_left
    _ends
}
_nothing_but_the_record() { ! ls -d /sys/class/iscsi_session/session* 2>/dev/null || fail "sessions"; }

a_client_that_is_not_admitted_and_a_port_that_is_none_are_refused() {
    _servers --initiator iqn.2015-06.net.example:somebody
    contains "$(fails _create)" "is this host's initiator name allowed there?"
    _nothing_is_left
    _ends
    _servers --initiator "$(sed -n 's/^InitiatorName=//p' /etc/iscsi/initiatorname.iscsi)"
    _create
    garth volume destroy data
    _nothing_is_left
    local pair=(garth volume create data --mirrors 2 "iscsi://10.0.2.1/$PREFIX:s2.vol1")
    contains "$(fails "${pair[@]}" "iscsi://10.0.1.1:81/$PREFIX:s1.vol1")" ECONNREFUSED
    _nothing_is_left
    # It accepts connections, and says nothing.
    nc.openbsd -lk 127.0.0.1 3999 >/dev/null < <(sleep 300) &
    local silent=$! begun refused
    sleep 1
    begun=$SECONDS
    refused=$(fails "${pair[@]}" "iscsi://127.0.0.1:3999/$PREFIX:s1.vol1")
    contains "$refused" "discovery -t sendtargets -o nonpersistent -p 127.0.0.1:3999"
    lacks "$refused" ECONNREFUSED
    say "a server that never answers costs $((SECONDS - begun)) s"
    kill $silent
    _nothing_is_left
    # Nobody has this address.
    ip link add silent type veth peer name silent0
    ip link set silent0 up
    ip address add 10.0.9.254/24 dev silent
    ip link set silent up
    begun=$SECONDS
    contains "$(fails "${pair[@]}" "iscsi://10.0.9.1/$PREFIX:s1.vol1")" "connect to 10.0.9.1:3260"
    say "an address that nobody has costs $((SECONDS - begun)) s"
    ip link delete silent
    _nothing_is_left
    _ends
}

exports_by_nbd_make_a_mirror_of_which_one_is_lost() {
    local number name sum begun
    # nbd-server listens while it looks for prime numbers, often for longer than the firewall remembers a
    # half-closed connection: what it says later goes nowhere, and its sockets outlive it.
    modprobe nf_conntrack
    sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close_wait=1
    for number in 1 2; do
        _end $number
        mkdir -p /srv/s$number
        truncate -s 0 /srv/s$number/vol1.img
        truncate -s 48M /srv/s$number/vol1.img
        garth export nbd -d --name s$number --address 10.0.$number.1 --client 10.0.$number.0/31 /srv/s$number/vol1.img
    done
    # By name; what is printed are addresses.
    echo "10.0.2.1 store2.example" >>/etc/hosts
    local exports=(nbd://10.0.1.1/vol1 nbd://store2.example/vol1)
    contains "$(fails garth volume create data --mirrors 2 nbd://10.0.1.1/none ${exports[1]})" "no such export"
    contains "$(fails garth volume create data --mirrors 2 nbd://10.0.2.1/vol1 ${exports[1]})" "given twice"
    _nothing_is_left
    garth volume create data --mirrors 2 --assume-clean "${exports[@]}"
    equals "$(cat /sys/block/nbd*/backend 2>/dev/null | sort | tr '\n' ' ')" "nbd://10.0.1.1/vol1 nbd://10.0.2.1/vol1 "
    contains "$(fails garth volume replace data ${exports[0]} ${exports[1]})" "a member of volume data already"
    mount "$(_device)" /mnt
    dd if=/dev/urandom of=/mnt/before bs=1M count=12
    sum=$(sha256sum </mnt/before)
    sync
    # It does not close its connections: it is stopped.
    for name in $(pgrep -f 'nbd-serve[r] -C'); do
        ! grep -q s2 /proc/$name/cgroup || kill -STOP $name
    done
    begun=$SECONDS
    dd if=/dev/urandom of=/mnt/degraded bs=1M count=4 conv=fsync
    say "with one server that does not answer, a write went on after $((SECONDS - begun)) s"
    equals "$(_health)" degraded
    echo 3 >/proc/sys/vm/drop_caches
    equals "$(sha256sum </mnt/before)" "$sum"
    umount /mnt
    garth volume stop data
    ! cat /sys/block/nbd*/backend 2>/dev/null || fail "connections"
    _end 2
    garth export nbd -d --name s2 --address 10.0.2.1 /srv/s2/vol1.img
    garth volume assemble --degraded data
    mount "$(_device)" /mnt
    equals "$(sha256sum </mnt/before)" "$sum"
    umount /mnt
    garth volume destroy data
    _nothing_is_left
    sed -i /store2.example/d /etc/hosts
    _ends
}

two_volumes_share_a_target() {
    modprobe -a target_core_file iscsi_target_mod
    [ -d /sys/kernel/config/target ] || mount -t configfs none /sys/kernel/config
    _servers
    local targets=/sys/kernel/config/target disk portal
    portal=$targets/iscsi/$PREFIX:both/tpgt_1
    for disk in 1 2; do
        truncate -s 0 /srv/both$disk && truncate -s 48M /srv/both$disk
        mkdir -p $targets/core/fileio_9/both$disk $portal/lun/lun_$disk
        echo -n "fd_dev_name=/srv/both$disk,fd_dev_size=$((48 << 20))" >$targets/core/fileio_9/both$disk/control
        echo 1 >$targets/core/fileio_9/both$disk/enable
        ln -s $targets/core/fileio_9/both$disk $portal/lun/lun_$disk/disk
    done
    echo 0 >$portal/attrib/authentication
    echo 0 >$portal/attrib/demo_mode_write_protect
    echo 1 >$portal/attrib/generate_node_acls
    echo 1 >$portal/attrib/cache_dynamic_acls
    mkdir $portal/np/127.0.0.1:3777
    echo 1 >$portal/enable
    local both=iscsi://127.0.0.1:3777/$PREFIX:both
    contains "$(fails garth volume create one --mirrors 2 $both/1 $both)" "may be the same disk"
    for disk in 1 2; do
        garth volume create v$disk --mirrors 2 --assume-clean $both/$disk iscsi://10.0.$disk.1/$PREFIX:s$disk.vol1
    done
    equals "$(iscsiadm -m session | grep -c :both)" 1
    garth volume stop v1
    equals "$(_health v2)" healthy
    equals "$(iscsiadm -m session | grep -c :both)" 1
    garth volume assemble v1
    garth volume destroy v2
    equals "$(_health v1)" healthy
    garth volume destroy v1
    _nothing_is_left
    echo 0 >$portal/enable
    rmdir $portal/np/*
    for disk in 1 2; do
        rm $portal/lun/lun_$disk/disk
        rmdir $portal/lun/lun_$disk
    done
    rmdir $portal $targets/iscsi/$PREFIX:both $targets/core/fileio_9/both?
    _ends
}
