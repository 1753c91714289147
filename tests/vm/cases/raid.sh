# as: root
# guest: mdadm open-iscsi
# RAID volumes over iSCSI: three servers, each in a network namespace of its own, export two disks each
# by the kernel's own target.

_create() { garth volume create data --mirrors 3 --stripes 2 --assume-clean "$@" "${DISKS[@]}"; }

a_volume_over_three_servers_is_made_and_removed() {
    _servers
    _create
    garth volume status data
    mount "$(_device)" /mnt
    contains "$(fails garth volume stop data)" "in use"
    contains "$(fails garth volume destroy data)" "in use"
    contains "$(fails _create)" "already exists"
    umount /mnt
    garth volume stop data
    _health_is stopped
    garth volume assemble data
    _health_is healthy
    garth volume destroy data
    _nothing_is_left
}

two_servers_may_die_and_come_back() {
    _servers
    _create
    mount "$(_device)" /mnt
    dd if=/dev/urandom of=/mnt/before bs=1M count=40
    sum=$(sha256sum </mnt/before)
    sync
    _down 1
    begun=$SECONDS
    dd if=/dev/urandom of=/mnt/degraded bs=1M count=4 conv=fsync
    say "with one server down, a write went on after $((SECONDS - begun)) s"
    _health_is degraded
    _down 2
    dd if=/dev/urandom of=/mnt/more bs=1M count=4 conv=fsync
    echo 3 >/proc/sys/vm/drop_caches
    equals "$(sha256sum </mnt/before)" "$sum"
    code=0
    status=$(garth volume status data) || code=$?
    equals $code 1
    contains "$status" "may still lose no device"
    umount /mnt
    garth volume stop data
    contains "$(fails garth volume assemble data)" "connect to 10.0.1.1:3260"
    garth volume assemble --degraded data
    mount "$(_device)" /mnt
    equals "$(sha256sum </mnt/before)" "$sum"
    umount /mnt
    _up 1
    _up 2
    garth volume destroy data
    _nothing_is_left
}

a_creation_that_was_killed_is_continued_or_undone() {
    local killed=0
    for tenths in 1 3 6 10 15 20 25 30 40 50; do
        _servers
        _create >/tmp/create 2>&1 &
        pid=$!
        sleep $((tenths / 10)).$((tenths % 10))
        kill -9 $(pgrep -P $pid) $pid 2>/dev/null && killed=$((killed + 1)) || true
        wait $pid || true
        if [ $((tenths % 2)) = 0 ]; then
            _health_is healthy || _create
            mount "$(_device)" /mnt
            umount /mnt
        fi
        [ -z "$(garth volume ls -q)" ] || garth volume destroy data
        _nothing_is_left
    done
    say "$killed of 10 were killed before their end"
    [ $killed -ge 3 ]
}

what_is_wrong_is_refused_and_leaves_nothing() {
    _servers
    contains "$(fails _create --size 1T)" "the devices hold up to"
    _nothing_is_left
    contains "$(fails garth volume create data --mirrors 2 iscsi://10.0.1.1/$IQN:s1.vol1 \
        iscsi://10.0.2.1/$IQN:none)" none
    _nothing_is_left
    contains "$(fails garth volume create data --mirrors 2 iscsi://10.0.1.1:81/$IQN:s1.vol1 \
        iscsi://10.0.2.1/$IQN:s2.vol1)" ECONNREFUSED
    _nothing_is_left
    contains "$(fails garth volume create data --mirrors 2 "iscsi://10.0.1.1/$IQN:s1.vol{1..2}")" 10.0.1.1
    _nothing_is_left
}

files_of_this_machine_make_a_mirror() {
    truncate -s 64M /srv/one.img /srv/two.img /srv/taken.img
    mkfs.ext4 -q -F /srv/taken.img
    contains "$(fails garth volume create files --layout mirror --mirrors 2 /srv/one.img /srv/taken.img)" ext4
    equals "$(losetup --list --noheadings | grep /srv/ || true)" ""
    garth volume create files --layout mirror --mirrors 2 --assume-clean /srv/one.img /srv/two.img
    garth volume status files
    garth volume stop files
    garth volume assemble files
    garth volume status files
    garth volume destroy files
    equals "$(losetup --list --noheadings | grep /srv/ || true)" ""
    _nothing_is_left
}
