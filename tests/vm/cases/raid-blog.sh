# as: root
# guest: mdadm open-iscsi tgt dash fio
# The storage cluster of the posts by garth alone: three sandboxes export five volumes each, which are
# mirrored across them and striped, and mounted by sandboxes.
#
# ROUNDS (20) is how often something fails at random, as SEED has it; it is printed.

PREFIX=iqn.2015-06.net.example
# garth expands these braces, not the shell.
DISKS=("iscsi://10.0.1.1/$PREFIX:s1.vol{1..5}" "iscsi://10.0.2.1/$PREFIX:s2.vol{1..5}" "iscsi://10.0.3.1/$PREFIX:s3.vol{1..5}")

# Names that begin with _ are not cases.
_server() {
    garth export iscsi -d --name "s$1" --prefix $PREFIX --address "10.0.$1.1" /srv/"s$1"/vol{1..5}.img >/dev/null
}
# What an earlier volume had on the disks would be found on the next one.
_servers() {
    local server disk
    for server in 1 2 3; do
        ! garth ps -aq | grep -qx s$server || garth delete --force s$server
        mkdir -p /srv/s$server
        for disk in /srv/s$server/vol{1..5}.img; do truncate -s 0 $disk; truncate -s "${DISK}M" $disk; done
        _server $server
    done
}
# It is killed, with its network; or it does not answer any more.
_kill() { garth kill "s$1" KILL; garth wait "s$1" || true; }
_link() { printf garth0a00%02x01 "$1"; }
_hang() { ip link set "$(_link "$1")" down; }
_unhang() { ip link set "$(_link "$1")" up; }
_create() { garth volume create "$1" --mirrors 3 --layout "$2" --stripes 5 --assume-clean "${@:3}" "${DISKS[@]}"; }
# in the sandbox, with the volume: SCRIPT
_in() { garth wrap -v data:/srv/data -- bash -euc "cd /srv/data; $1"; }
_write() { _in "dd if=/dev/urandom of=$1 bs=1M count=$2 conv=fsync 2>/dev/null; sha256sum $1" >>/srv/oracle; }
# Read from the disks, not from memory.
_intact() {
    echo 3 >/proc/sys/vm/drop_caches
    _in 'sha256sum --quiet -c -' </srv/oracle || fail "data differs"
}
_status() { garth volume status "${1-data}" --format json || true; }
_lost_are() { equals "$(_status | jq '[.arrays[].members[] | select(.state != "in-sync")] | length')" "$1"; }
_all_are_logged_in() { [ "$(cat /sys/class/iscsi_session/*/state | sort -u)" = LOGGED_IN ]; }
_is_back() { _status | jq -e "[.arrays[].members[$1 - 1].connected] | all" >/dev/null; }
_ends() {
    garth volume destroy "${1-data}"
    _nothing_is_left
}

any_two_of_three_servers_may_die_and_the_third_after_their_return() {
    DISK=40
    rm -f /srv/oracle
    local begun=$SECONDS at
    _servers
    _create data 1e
    say "three servers of five volumes each, and the volume: $((SECONDS - begun)) s"
    garth volume status data | sed 's/^/# /'
    _write before 60

    _kill 1
    at=$SECONDS
    _write one-lost 8
    say "one server killed: written after $((SECONDS - at)) s"
    _lost_are 5
    _intact
    _hang 2
    at=$SECONDS
    _write two-lost 8
    say "another does not answer: written after $((SECONDS - at)) s"
    _lost_are 10
    _intact
    contains "$(garth volume status data || true)" "may still lose no device"

    _server 1
    _unhang 2
    eventually _all_are_logged_in
    at=$SECONDS
    garth volume repair data
    say "both back: their members are re-added and have caught up after $((SECONDS - at)) s"
    garth volume status data >/dev/null

    # What is read now was copied to them.
    _kill 3
    _intact
    _write other-lost 8
    _hang 2
    _intact
    _lost_are 10

    # The last copy.
    garth wrap -d --name user -v data:/srv/data -- sleep 1000
    _kill 1
    at=$SECONDS
    echo 3 >/proc/sys/vm/drop_caches
    contains "$(fails garth exec user -- dd if=/srv/data/before of=/dev/null bs=1M iflag=direct)" "Input/output error"
    say "all three lost: a read fails after $((SECONDS - at)) s"
    at=$SECONDS
    local code=0
    garth volume status data >/tmp/status || code=$?
    equals $code 2
    contains "$(cat /tmp/status)" FAILED
    say "and its status is known after $((SECONDS - at)) s"
    garth delete --force user

    # Nothing of it is lost.
    garth volume stop data
    _server 1
    _server 3
    _unhang 2
    garth volume assemble data || garth volume assemble --degraded data
    garth volume repair data
    _intact
    say "all is there again; $((SECONDS - begun)) s in all"
    _ends
}

# read MiB of each server, of a stream over all of $1
_reads_of() {
    local before after server device=$1
    echo 3 >/proc/sys/vm/drop_caches
    before=$(_sectors)
    dd if="$device" of=/dev/null bs=4M status=none
    after=$(_sectors)
    for server in 1 2 3; do
        echo $((($(sed -n ${server}p <<<"$after") - $(sed -n ${server}p <<<"$before")) / 2048))
    done
}
# read from each server so far
_sectors() {
    local server disk sum
    for server in 1 2 3; do
        sum=0
        for disk in $(_status | jq -r ".arrays[].members[] | select(.server == \"10.0.$server.1\" or .server == \"10.0.$server.1:3260\") | .device"); do
            sum=$((sum + $(gawk '{ print $3 }' "/sys/block/$(basename "$(readlink -f "$disk")")/stat")))
        done
        echo $sum
    done
}

all_members_serve_reads() {
    DISK=40
    local layout all=() least most
    say "MiB read of a stream    server 1  server 2  server 3"
    for layout in 1e mirror; do
        _servers
        _create data $layout --fs none
        mapfile -t all < <(_reads_of "$(_device)")
        say "$(printf '%-23s %8d  %8d  %8d' $layout "${all[@]}")"
        least=$(printf '%s\n' "${all[@]}" | sort -n | head -n 1)
        most=$(printf '%s\n' "${all[@]}" | sort -n | tail -n 1)
        [ "$most" -gt 50 ] || fail "little was read"
        # md's near balancing of a mirror is by stream, and there is one.
        [ $layout = mirror ] || [ $((least * 2)) -ge "$most" ] || fail "not all serve reads"
        _ends
    done
}

# The same by hand, as somebody would who knows how.
_by_hand() {
    local server disk session target device devices=() arrays=()
    local -A disks
    for server in 1 2 3; do
        iscsiadm -m discovery -t sendtargets -p 10.0.$server.1 >/dev/null
    done
    iscsiadm -m node -o update -n node.session.timeo.replacement_timeout -v 3
    iscsiadm -m node -o update -n node.conn[0].timeo.noop_out_interval -v 2
    iscsiadm -m node -o update -n node.conn[0].timeo.noop_out_timeout -v 2
    iscsiadm -m node -L all >/dev/null
    until devices=(/sys/class/iscsi_session/session*/device/target*/*/block/sd*); [ ${#devices[@]} = 15 ]; do sleep 0.02; done
    for session in /sys/class/iscsi_session/session*; do
        read -r target <$session/targetname
        device=$(echo $session/device/target*/*/block/sd*)
        disks[${target##*:}]=/dev/${device##*/}
    done
    for disk in 1 2 3 4 5; do
        devices=()
        for server in 1 2 3; do devices+=("${disks[s$server.vol$disk]}"); done
        mdadm --create /dev/md/hand$disk --run --level=10 --layout=o3 --raid-devices=3 --bitmap=internal --assume-clean "${devices[@]}"
        arrays+=("/dev/md/hand$disk")
    done
    mdadm --create /dev/md/hand --run --level=0 --raid-devices=5 "${arrays[@]}"
    mkfs.ext4 -q /dev/md/hand
}
_by_garth() { _create hand 1e; }
_undo_hand() {
    mdadm --stop /dev/md/hand
    for disk in 1 2 3 4 5; do mdadm --stop /dev/md/hand$disk; done
    iscsiadm -m node -U all >/dev/null
    iscsiadm -m node -o delete
    iscsiadm -m discoverydb -o delete 2>/dev/null || true
}
_milliseconds() {
    local begun
    begun=$(date +%s%N)
    "$@" >/tmp/made 2>&1 || fail "$(cat /tmp/made)"
    echo $((($(date +%s%N) - begun) / 1000000))
}
_median() { sort -n "$1" | sed -n 3p; }

creating_takes_as_long_as_by_hand() {
    DISK=40
    rm -f /tmp/took.*
    { set +x; } 2>/dev/null
    for round in 1 2 3 4 5; do
        _servers
        _milliseconds _by_hand >>/tmp/took.hand
        _undo_hand >/dev/null 2>&1
        _servers
        _milliseconds _by_garth >>/tmp/took.garth
        garth volume destroy hand
        _nothing_is_left
    done
    local hand garth
    hand=$(_median /tmp/took.hand)
    garth=$(_median /tmp/took.garth)
    say "15 disks of 3 servers to a file system, medians of 5: by hand $hand ms, by garth $garth ms," \
        "$((100 * garth / hand)) % (by hand: $(sort -n /tmp/took.hand | tr '\n' ' '), by garth: $(sort -n /tmp/took.garth | tr '\n' ' '))"
    [ $((100 * garth)) -le $((120 * hand)) ] || fail "it takes $((100 * garth / hand)) % of the time by hand"
}

# It writes what it can recognize, and reads it again.
_fio() {
    garth wrap -v data:/srv/data -- fio --name=verify --directory=/srv/data --rw=randwrite --size=6M --bsrange=4k-64k \
        --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1 --fallocate=none --randseed="$1"
}

whatever_fails_at_random_no_bit_differs() {
    DISK=24
    local rounds=${ROUNDS:-20} seed=${SEED:-$(date +%s)} round server down="" pid at kinds=""
    rm -f /srv/oracle
    # Those that are down, or are not members again: " 1 3"; how: hung or killed.
    local -A state=([1]=up [2]=up [3]=up)
    _servers
    _create data 1e
    _write before 24
    say "$rounds rounds, SEED=$seed"
    RANDOM=$seed
    { set +x; } 2>/dev/null
    for round in $(seq "$rounds"); do
        _fio $((seed % 100000 + round)) >/tmp/fio 2>&1 &
        pid=$!
        sleep "$((RANDOM % 3)).$((RANDOM % 10))"
        server=$((RANDOM % 3 + 1))
        down=$(printf '%s\n' "${state[@]}" | grep -vc up || true)
        case ${state[$server]} in
        up)
            # Of the last one that has all, nothing but an error would be left.
            if [ "$down" -lt 2 ]; then
                if [ $((RANDOM % 2)) = 0 ]; then
                    _kill $server
                    state[$server]=killed
                else
                    _hang $server
                    state[$server]=hung
                fi
            fi ;;
        *)
            if [ "${state[$server]}" = killed ]; then _server $server; else _unhang $server; fi
            eventually _is_back $server
            state[$server]=up
            # Those that are still away are no members again; that is said.
            garth volume repair data >/tmp/repair 2>&1 || [ "$(printf '%s\n' "${state[@]}" | grep -vc up)" -gt 0 ] || fail "$(cat /tmp/repair)"
            ;;
        esac
        kinds+=" $server:${state[$server]}"
        wait $pid || fail "round $round, SEED=$seed:$kinds: fio: $(cat /tmp/fio)"
        _write "round$((round % 4))" 2
        _only_the_newest
        _intact
    done
    say "$kinds"
    for server in 1 2 3; do
        case ${state[$server]} in
        killed) _server $server ;;
        hung) _unhang $server ;;
        esac
        eventually _is_back $server
    done
    garth volume repair data
    _intact
    garth volume scrub data
    say "$rounds rounds, and no bit differs, nor do the members"
    _ends
}
# Of a file that was written again, the last sum counts.
_only_the_newest() {
    tac /srv/oracle | gawk '!seen[$2]++' >/srv/oracle.new
    mv /srv/oracle.new /srv/oracle
}
