# as: root
# guest: mdadm open-iscsi strace
# What keeps RAID volumes whole: members that come back, others in their place, and what is refused.
# The servers are those of lib.sh.

_create() { garth volume create data --mirrors 3 --stripes 2 --assume-clean "$@" "${DISKS[@]}"; }

# What is on the volume, and an oracle of it.
_write() { dd if=/dev/urandom of="/mnt/$1" bs=1M count="${2:-4}" conv=fsync && (cd /mnt && sha256sum "$1") >>/srv/oracle; }
_mount() { mount "$(_device)" /mnt; }
_intact() { echo 3 >/proc/sys/vm/drop_caches; (cd /mnt && sha256sum --quiet -c /srv/oracle) || fail "data differs"; }
_new() { rm -f /srv/oracle; _servers; _create; _mount; _write before 16; }
_end() {
    ! mountpoint -q /mnt || umount /mnt
    _up 1; _up 2; _up 3
    garth volume destroy data
    _nothing_is_left
}
# exits CODE COMMAND...: its output too.
_exits() {
    local expected=$1 code=0
    shift
    "$@" 2>&1 || code=$?
    [ $code = "$expected" ] || fail "exit $code, not $expected: $*"
}

servers_that_are_back_are_members_again() {
    _new
    _down 1
    _write one
    _down 2
    _write two
    _exits 1 garth volume status data
    # Without them, it says so and does no harm.
    contains "$(_exits 1 garth volume repair data)" "connect to 10.0.1.1:3260"
    _up 1
    contains "$(_exits 1 garth volume repair data)" "connect to 10.0.2.1:3260"
    _up 2
    begun=$SECONDS
    _exits 0 garth volume repair data
    say "repaired after $((SECONDS - begun)) s"
    _exits 0 garth volume repair data
    # Now only what was copied is there.
    _down 3
    _write three
    _intact
    umount /mnt
    _end
}

members_that_were_missing_at_the_start_are_members_again() {
    _new
    umount /mnt
    garth volume stop data
    _down 1
    garth volume assemble --degraded data
    _mount
    _write one
    _up 1
    garth volume repair --no-wait data || true
    _exits 0 garth volume repair data
    _down 2
    _down 3
    _intact
    _write last
    umount /mnt
    _end
}

members_that_others_went_on_without_are_not_taken_for_the_volume() {
    _new
    _down 1
    _write one
    _exits 1 garth volume status data
    umount /mnt
    garth volume stop data
    _up 1; _down 2; _down 3
    contains "$(fails garth volume assemble --degraded data)" "the latest data is on iscsi://10.0.2.1"
    _health_is stopped
    # On whose word it is given up.
    garth volume assemble --stale data
    _mount
    [ ! -e /mnt/one ]
    sed -i "/ one$/d" /srv/oracle
    _intact
    _write instead
    umount /mnt
    garth volume stop data
    _up 2; _up 3
    garth volume assemble data
    contains "$(_exits 1 garth volume status data)" "given up"
    contains "$(_exits 1 garth volume repair data)" "--force overwrites it"
    _exits 0 garth volume repair --force data
    lacks "$(garth volume status data)" "given up"
    _mount
    _down 1
    _intact
    _write more
    _end
}

all_servers_lost_and_back() {
    _new
    _down 1
    _write one
    _down 2
    _write two
    _down 3
    local begun=$SECONDS
    ! dd if=/dev/urandom of=/mnt/lost bs=1M count=4 conv=fsync
    say "an error after $((SECONDS - begun)) s"
    contains "$(_exits 2 garth volume status data)" FAILED
    _up 1; _up 2; _up 3
    eventually _is_there_again
    contains "$(fails garth volume repair data)" "refuses writes"
    umount /mnt
    garth volume stop data
    garth volume assemble data
    _exits 0 garth volume repair data
    _mount
    _intact
    _end
}
_is_there_again() { ! grep -L LOGGED_IN /sys/class/iscsi_session/session*/state | grep -q .; }

servers_that_are_gone_for_good_do_not_keep_a_volume() {
    _new
    umount /mnt
    garth volume stop data
    _down 3
    contains "$(fails garth volume destroy data)" "connect to 10.0.3.1:3260"
    contains "$(fails garth volume destroy data --without 10.0.9.1)" "no server and no device"
    contains "$(garth volume destroy data --without 10.0.3.1 2>&1)" "s3.vol2 keeps its superblock"
    _up 3
    _nothing_is_left
}

# A mirror of two files, and others that might be members.
_files() {
    mkdir -p /srv/files
    modprobe md-mod
    # As fast as it goes, though the members are in use.
    echo 100000 >/proc/sys/dev/raid/speed_limit_min
    truncate -s 64M /srv/files/{one,two,new,taken}.img
    truncate -s 8M /srv/files/small.img
    garth volume create data --layout mirror --mirrors 2 --assume-clean "$@" /srv/files/{one,two}.img
}
_no_files() {
    ! mountpoint -q /mnt || umount /mnt
    garth volume destroy data
    _nothing_is_left
    equals "$(losetup --list --noheadings | grep /srv/ || true)" ""
    rm -r /srv/files
}
_has_superblock() { mdadm --examine "$1" >/dev/null 2>&1; }
_is_attached() { losetup --list --noheadings | grep -q "$1"; }

another_device_takes_the_place_of_a_member() {
    rm -f /srv/oracle
    _files
    mkfs.ext4 -q -F /srv/files/taken.img
    _mount
    _write before
    contains "$(fails garth volume replace data /srv/files/none.img /srv/files/new.img)" "no device of volume"
    contains "$(fails garth volume replace data /srv/files/one.img /srv/files/two.img)" "already"
    contains "$(fails garth volume replace data /srv/files/one.img /srv/files/small.img)" "needs"
    contains "$(fails garth volume replace data /srv/files/one.img /srv/files/taken.img)" ext4
    ! _is_attached small.img && ! _is_attached taken.img
    _exits 0 garth volume status data

    # Interrupted before anything was written, it is taken back, or continued.
    for again in "new.img one.img" "one.img new.img"; do
        strace -o /dev/null -e trace=clone -e inject=clone:signal=KILL:when=1 \
            garth volume replace data /srv/files/one.img /srv/files/new.img || true
        contains "$(garth volume status data)" "takes the place of"
        garth volume replace data /srv/files/${again% *} /srv/files/${again#* }
        _exits 0 garth volume status data
        lacks "$(garth volume status data)" "takes the place of"
        [ "$again" = "one.img new.img" ] || ! _is_attached new.img
    done
    contains "$(garth volume status data)" new.img
    ! _is_attached one.img
    ! _has_superblock /srv/files/one.img

    garth volume fail data /srv/files/two.img
    contains "$(_exits 1 garth volume status data)" faulty
    contains "$(fails garth volume fail data /srv/files/new.img)" "the only copy"
    _write degraded
    garth volume repair data
    garth volume fail data /srv/files/new.img
    _write on-the-other
    _exits 0 garth volume replace --force data /srv/files/new.img /srv/files/taken.img
    garth volume fail data /srv/files/two.img
    _intact
    umount /mnt
    garth volume stop data
    garth volume assemble --degraded data
    _mount
    _intact
    _no_files
}

members_are_compared() {
    _files --fs none
    _exits 0 garth volume scrub data
    dd if=/dev/urandom of=/srv/files/two.img bs=1M seek=30 count=1 conv=fsync,notrunc
    contains "$(_exits 1 garth volume scrub data)" "sectors differed"
    contains "$(garth volume status data)" "differed in the last check"
    _exits 0 garth volume scrub --repair data
    _exits 0 garth volume scrub data
    local md
    md=/sys/block/$(basename "$(_device)")/md
    echo 500 >"$md/sync_speed_min"
    echo 500 >"$md/sync_speed_max"
    garth volume scrub --no-wait data
    contains "$(garth volume status data)" check
    contains "$(fails garth volume scrub --repair --stop data)" "cannot be used"
    garth volume scrub --stop data
    equals "$(cat "$md/sync_action")" idle
    echo 100000 >"$md/sync_speed_max"
    _exits 0 garth volume scrub data
    _no_files
}

an_array_with_parity_says_that_it_survives_nothing_before_it_is_built() {
    mkdir -p /srv/files
    modprobe md-mod
    truncate -s 64M /srv/files/{one,two,new}.img
    echo 1000 >/proc/sys/dev/raid/speed_limit_min
    echo 2000 >/proc/sys/dev/raid/speed_limit_max
    contains "$(garth volume create data --layout raid5 --fs none /srv/files/{one,two,new}.img 2>&1)" \
        "may still lose no device"
    contains "$(_exits 1 garth volume status data)" "any 1 device when all members are built"
    contains "$(timeout 2 garth volume status --watch --format json data | head -n 1)" '"recovery"'
    echo 200000 >/proc/sys/dev/raid/speed_limit_max
    _exits 0 garth volume repair data
    contains "$(garth volume status data)" "may still lose any 1 device"
    _no_files
}

volumes_grow_with_their_devices() {
    rm -f /srv/oracle
    _files
    _mount
    _write before 40
    contains "$(garth volume grow data 2>&1)" "use all of it already"
    truncate -s 128M /srv/files/{one,two}.img
    garth volume grow data
    _write after 60
    _intact
    _exits 0 garth volume repair data
    umount /mnt
    garth volume stop data
    garth volume assemble data
    _mount
    _intact
    _no_files

    # A stripe, which has to be unmounted.
    rm -f /srv/oracle
    mkdir -p /srv/files
    truncate -s 64M /srv/files/{a,b,c,d}.img
    garth volume create data --mirrors 2 --stripes 2 --assume-clean /srv/files/{a,b,c,d}.img
    _mount
    _write before 60
    truncate -s 128M /srv/files/{a,b,c,d}.img
    contains "$(fails garth volume grow data)" "unmount it first"
    umount /mnt
    garth volume grow data
    _mount
    _write after 80
    _intact
    umount /mnt
    e2fsck -fn "$(_device)"
    _exits 0 garth volume repair data
    garth volume scrub data
    _no_files
}

# What changes something: a command is begun, or has ended; a record; a loop device; a removal.
CALLS=clone,clone3,wait4,waitid,rename,renameat,renameat2,unlink,unlinkat,rmdir,ioctl,fsync,fdatasync

# kill_points VERB...: where it can be killed, as CALL NUMBER. It is done.
_kill_points() {
    strace -o /tmp/calls -e trace=$CALLS garth volume "$@" >/dev/null || [ $? = 1 ]
    sed -n 's/^\([a-z0-9]*\)(.*/\1/p' /tmp/calls | sort | uniq -c | while read -r many call; do
        seq -f "$call %g" "$many"
    done
}
# killed CALL NUMBER VERB...: it is killed there, and the volume says how it is. Some points are reached
# only sometimes: nothing is noted that is known, and waiting differs.
_killed() {
    local code=0 call=$1 number=$2
    shift 2
    # In a shell of its own, which says that it was killed.
    (strace -o /dev/null -e "trace=$call" -e "inject=$call:signal=KILL:when=$number" \
        garth volume "$@" >/tmp/killed 2>&1 || exit $?) 2>/dev/null || code=$?
    case $code in
    137) kills=$((kills + 1)) ;;
    [0-2]) ;;
    *) fail "exit $code at $call $number: $(cat /tmp/killed)" ;;
    esac
    code=0
    garth volume status data >/tmp/status 2>&1 || code=$?
    [ $code -le 2 ] || grep -qE "no RAID volume named data|the creation of volume data ended before it began" /tmp/status || fail "$(cat /tmp/status)"
}

# Stops and starts of a mirror of two files.
_start() { rm -f /srv/oracle; _files; _mount; _write before; }

# _stops_and_starts_are_killed LEFT: of the volume that there is. LEFT fails if something is left of it.
_stops_and_starts_are_killed() {
    local call number verb other kills
    _mount
    _write before
    umount /mnt
    { set +x; } 2>/dev/null
    for verb in stop assemble; do
        [ $verb = stop ] && other=assemble || other=stop
        _kill_points $verb data >/tmp/points
        kills=0
        while read -r call number; do
            garth volume $other data >/dev/null
            _killed "$call" "$number" $verb data
            garth volume $verb data >/dev/null || fail "after $call $number"
            case $verb in
            stop) "$1" || fail "left after $call $number" ;;
            assemble) _mount && _intact && umount /mnt ;;
            esac
        done </tmp/points
        say "$verb: killed at $kills of $(wc -l </tmp/points) points"
    done
}

a_stop_or_assemble_that_is_killed_is_done_by_the_next_one() {
    _none_is_attached() { ! _is_attached /srv/; }
    rm -f /srv/oracle
    _files
    _stops_and_starts_are_killed _none_is_attached
    _no_files
}

a_stop_or_assemble_over_the_network_that_is_killed_is_done_by_the_next_one() {
    _nothing_is_known() { ! ls -d /sys/class/iscsi_session/session* /etc/iscsi/nodes/* 2>/dev/null; }
    rm -f /srv/oracle
    _servers
    garth volume create data --mirrors 2 --assume-clean "iscsi://10.0.1.1/$IQN:s1.vol1" "iscsi://10.0.2.1/$IQN:s2.vol1"
    _stops_and_starts_are_killed _nothing_is_known
    garth volume destroy data
    _nothing_is_left
}

a_repair_that_is_killed_is_done_by_the_next_one() {
    local call number kills=0
    _start
    garth volume fail data /srv/files/one.img
    _write more
    { set +x; } 2>/dev/null
    _kill_points repair --no-wait data 2>/dev/null >/tmp/points
    while read -r call number; do
        garth volume repair data 2>/dev/null
        garth volume fail data /srv/files/one.img
        dd if=/dev/urandom of=/mnt/noise bs=64k count=1 conv=fsync 2>/dev/null
        _killed "$call" "$number" repair --no-wait data
        garth volume repair data 2>/dev/null || fail "after $call $number"
    done </tmp/points
    say "killed at $kills of $(wc -l </tmp/points) points"
    garth volume fail data /srv/files/two.img
    _intact
    _no_files
}

a_replacement_that_is_killed_is_done_by_the_next_one() {
    local call number kills=0 old=one new=new swap
    _start
    { set +x; } 2>/dev/null
    _kill_points replace --no-wait data /srv/files/{one,new}.img 2>/dev/null >/tmp/points
    garth volume repair data 2>/dev/null
    while read -r call number; do
        swap=$old old=$new new=$swap
        _killed "$call" "$number" replace --no-wait data /srv/files/$old.img /srv/files/$new.img
        # One that had done its work already has left nothing to be done.
        if garth volume status data | grep -q "/$old.img"; then
            garth volume replace data /srv/files/$old.img /srv/files/$new.img 2>/dev/null || fail "after $call $number"
        fi
        ! _is_attached $old.img || fail "attached after $call $number: $(cat /tmp/killed /tmp/status /proc/mdstat; garth volume status data)"
        ! _has_superblock /srv/files/$old.img || fail "superblock after $call $number"
    done </tmp/points
    say "killed at $kills of $(wc -l </tmp/points) points"
    garth volume fail data /srv/files/two.img
    _intact
    _no_files
}

a_removal_that_is_killed_is_done_by_the_next_one() {
    local call number kills=0
    _files --fs none
    { set +x; } 2>/dev/null
    _kill_points destroy data >/tmp/points
    while read -r call number; do
        _files --fs none >/dev/null 2>&1
        _killed "$call" "$number" destroy data
        [ -z "$(garth volume ls -q)" ] || garth volume destroy data
        _nothing_is_left
        ! _is_attached /srv/ || fail "attached after $call $number"
        ! _has_superblock /srv/files/one.img && ! _has_superblock /srv/files/two.img || fail "superblock"
    done </tmp/points
    say "killed at $kills of $(wc -l </tmp/points) points"
    rm -r /srv/files
}

# _creations_are_killed DEVICE...: at every point; what is left is continued, or undone, by turns.
_creations_are_killed() {
    local call number kills=0 turn=0
    local create=(create data --layout mirror --mirrors 2 --assume-clean "$@")
    _blank
    _kill_points "${create[@]}" 2>/dev/null >/tmp/points
    garth volume destroy data
    while read -r call number; do
        _blank
        _killed "$call" "$number" "${create[@]}"
        turn=$((turn + 1))
        if [ $((turn % 2)) = 0 ]; then
            _health_is healthy || garth volume "${create[@]}" >/tmp/again 2>&1 || fail "after $call $number: $(cat /tmp/again)"
            rm -f /srv/oracle
            _mount
            _write before 2>/dev/null
            _intact
            umount /mnt
        fi
        [ -z "$(garth volume ls -q)" ] || garth volume destroy data >/tmp/again 2>&1 || fail "after $call $number: $(cat /tmp/again)"
        _nothing_is_left
        ! _is_attached /srv/files || fail "attached after $call $number"
    done </tmp/points
    say "killed at $kills of $(wc -l </tmp/points) points"
}

a_creation_that_is_killed_is_continued_or_undone() {
    _blank() { rm -rf /srv/files; mkdir -p /srv/files; truncate -s 32M /srv/files/{one,two}.img; }
    { set +x; } 2>/dev/null
    _creations_are_killed /srv/files/{one,two}.img
    rm -r /srv/files
}

a_creation_over_the_network_that_is_killed_is_continued_or_undone() {
    _blank() { _servers; }
    { set +x; } 2>/dev/null
    _creations_are_killed "iscsi://10.0.1.1/$IQN:s1.vol1" "iscsi://10.0.2.1/$IQN:s2.vol1"
}
