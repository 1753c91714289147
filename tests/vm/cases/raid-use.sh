# as: root
# guest: mdadm open-iscsi dash busybox-static containerd
# RAID volumes in sandboxes, services and containers.

# What a case that failed has left does not disturb the next.
_clean() {
    garth down --all
    for name in $(garth ps -q); do garth delete --force "$name"; done
    [ -z "$(garth volume ls -q)" ] || garth volume destroy data
}
_create() { _clean; _servers; garth volume create data --mirrors 3 --stripes 2 --assume-clean "${DISKS[@]}"; }
_destroy() {
    garth volume destroy data
    equals "$(garth volume ls -q)" ""
    lacks "$(cat /proc/mdstat)" active
}
_device_name() { basename "$(_device)"; }
# Nothing of it is mounted, in any mount namespace.
_is_mounted() { grep -l " /dev/$(_device_name) " /proc/[0-9]*/mountinfo; }
_is_not_mounted() { ! _is_mounted; }
_users() { ls -d /var/lib/garth/raid/data/user.* 2>/dev/null || true; }

a_volume_is_mounted_for_the_user_of_the_command() {
    _create
    explained=$(garth explain wrap -v data:/srv/data -u nobody true)
    contains "$explained" "RAID volume data is healthy, mount it for /srv/data, attached nowhere else"
    contains "$explained" "attach /dev/md/garth-data to /srv/data"
    garth wrap -v data:/srv/data -u nobody -- sh -c 'echo one >/srv/data/file; mkdir -m 700 /srv/data/own'
    # What mkfs made is not in the way of a program that wants an empty directory.
    equals "$(garth wrap -v data:/x -- ls /x)" "file
own"
    equals "$(garth wrap -v data:/x -- stat -c '%U %G %a' /x)" "nobody nogroup 755"
    garth wrap -v data:/x -- grep ' /x ' /proc/self/mountinfo >/tmp/mounted
    contains "$(cat /tmp/mounted)" nosuid,nodev
    contains "$(fails garth wrap -v data:/x:ro -- touch /x/new)" "Read-only"
    # Another user does not get it.
    contains "$(fails garth wrap -v data:/x -u daemon -- touch /x/new)" "Permission denied"
    # Two places, one file system.
    garth wrap -v data:/a -v data:/b:ro -- sh -c 'echo two >/a/file && grep two /b/file'
    # A user namespace.
    equals "$(garth wrap --userns=300000:65536 -v data:/x -- stat -c %u /x)" 65534
    _is_not_mounted
    equals "$(_users)" ""
    garth volume stop data
    output=$(garth wrap -v data:/x -- cat /x/file 2>&1)
    contains "$output" "RAID volume data was stopped: it is assembled"
    contains "$output" two
    _health_is healthy
    _destroy
}

# As the annotations of a pod: each of its containers has them.
a_pod_of_containerd_has_a_volume() {
    _create
    containerd_with_image
    local run=(ctr run --runtime io.containerd.garth.v1 --annotation dev.garth.volume=data:/srv/data)
    "${run[@]}" --rm localhost/box:latest one sh -c 'echo one >/srv/data/file'
    _is_not_mounted
    equals "$(_users)" ""
    for name in pod box; do
        "${run[@]}" -d --annotation io.kubernetes.cri.sandbox-id=pod localhost/box:latest $name sleep 1000 </dev/null >/dev/null 2>&1
    done
    equals "$(pgrep -fc 'containerd-shim-garth-v[1] -n')" 1
    equals "$(ctr task exec --exec-id cat box cat /srv/data/file </dev/null)" one
    said=$(fails garth volume stop data)
    contains "$said" "container box"
    contains "$said" "container pod"
    ctr task kill -s KILL box
    eventually ctr task rm box
    contains "$(fails garth volume stop data)" "in use by container pod;"
    # containerd releases it by the shim's delete.
    pkill -KILL -f 'containerd-shim-garth-v[1] -n'
    eventually _is_not_mounted
    eventually eval '[ -z "$(_users)" ]'
    ctr container rm pod box
    # What is none, and what does not exist.
    contains "$(fails "${run[@]/data:/none:}" --rm localhost/box:latest two true)" none
    equals "$(ctr task ls -q)" ""
    kill %%
    wait
    _destroy
}

a_volume_that_is_used_is_not_stopped() {
    _create
    garth wrap -d --name one -v data:/srv/data -- sleep 1000
    garth wrap -d --name two -v data:/srv/data -u nobody -- sh -c 'echo $$ >/srv/data/two 2>/dev/null; exec sleep 1000'
    said=$(fails garth volume stop data)
    contains "$said" "volume data is in use by sandbox one, sandbox two"
    contains "$(fails garth volume destroy data)" "in use by sandbox one"
    contains "$(garth check one)" "RAID volume data is healthy: $(_device) at /srv/data"
    garth kill one
    eventually is_gone one
    contains "$(fails garth volume stop data)" "in use by sandbox two;"
    garth delete --force two
    _is_not_mounted
    equals "$(_users)" ""
    garth volume stop data
    _health_is stopped
    garth volume assemble data
    _destroy
}

what_is_killed_leaves_no_mount() {
    _create
    garth wrap -d --name one -v data:/srv/data -- sleep 1000
    # The keeper is the parent of the sandbox's first process.
    first=$(garth ps --json | jq '.[0].pid')
    keeper=$(sed -n 's/^PPid:\t//p' /proc/$first/status)
    kill -9 "$keeper"
    # It lives on, and has the volume.
    contains "$(fails garth volume stop data)" "in use by sandbox one"
    kill -9 "$first"
    eventually _is_not_mounted
    eventually garth volume stop data
    contains "$(_users)" user.0
    contains "$(garth gc)" one
    equals "$(_users)" ""
    garth volume assemble data
    # garth itself, in the foreground.
    garth wrap --name one -v data:/srv/data -- sleep 1000 &
    pid=$!
    eventually is_there one
    eventually _is_mounted
    kill -9 $pid
    wait $pid || true
    eventually _is_not_mounted
    eventually garth volume stop data
    garth gc
    # The state directory is lost, as by a reboot.
    garth wrap -d --name one -v data:/srv/data -- sleep 1000
    first=$(garth ps --json | jq '.[0].pid')
    rm -r /run/garth/sandboxes/one
    kill -9 "$first"
    eventually _is_not_mounted
    contains "$(garth gc)" "removed use of volume data by sandbox one"
    _destroy
}

a_name_means_one_volume() {
    garth wrap -v data:/x -- touch /x/file
    _servers
    said=$(fails garth volume create data --mirrors 3 --stripes 2 --assume-clean "${DISKS[@]}")
    contains "$said" "a directory has the name data"
    rm -r /var/lib/garth/volumes/data
    _create
    mkdir /var/lib/garth/volumes/data
    contains "$(fails garth wrap -v data:/x -- true)" "data is a RAID volume, and the directory /var/lib/garth/volumes/data"
    rmdir /var/lib/garth/volumes/data
    _destroy
}

a_volume_without_a_file_system_is_refused() {
    _servers
    garth volume create data --fs none --mirrors 3 --stripes 2 --assume-clean "${DISKS[@]}"
    contains "$(fails garth wrap -v data:/x -- true)" "it was made without a file system"
    equals "$(_users)" ""
    _destroy
}

a_service_has_a_volume() {
    _create
    cat >/srv/garth.toml <<'TOML'
[service.db]
command = ["sh", "-c", "echo run >>/data/runs; exec sleep 1000"]
user = "nobody"
network = "none"
volume = ["data:/data"]
[service.reader]
command = ["sh", "-c", "cat /data/runs; exec sleep 1000"]
user = "daemon"
network = "none"
volume = ["data:/data:ro"]
after = ["db"]
TOML
    garth volume stop data
    # Both want it assembled.
    contains "$(garth up -f /srv/garth.toml 2>&1)" "RAID volume data was stopped: it is assembled"
    eventually test "$(garth logs reader)" = run
    contains "$(fails garth volume stop data)" "in use by sandbox db, sandbox reader"
    garth kill --signal KILL reader
    garth down -f /srv/garth.toml
    _is_not_mounted
    garth up -f /srv/garth.toml db
    equals "$(garth wrap -v data:/x -- cat /x/runs)" "run
run"
    garth down -f /srv/garth.toml
    _destroy
}

# _bundle ANNOTATION VALUE COMMAND...
_bundle() {
    rm -rf /srv/bundle
    mkdir -p /srv/bundle/rootfs/bin
    cp /usr/bin/busybox /srv/bundle/rootfs/bin/
    ln -s busybox /srv/bundle/rootfs/bin/sh
    (cd /srv/bundle && garth spec)
    jq --arg key "$1" --arg value "$2" --args \
        '.annotations[$key] = $value | .process.terminal = false | .process.args = $ARGS.positional' \
        -- "${@:3}" </srv/bundle/config.json >/srv/bundle/new
    mv /srv/bundle/new /srv/bundle/config.json
}

a_container_has_a_volume_by_an_annotation() {
    _create
    _bundle dev.garth.volume data:/srv/data sh -c 'echo one >/srv/data/file; busybox stat -c %u /srv/data; busybox grep /srv/data /proc/mounts'
    jq '.process.user = {"uid": 65534, "gid": 65534}' </srv/bundle/config.json >/srv/bundle/new
    mv /srv/bundle/new /srv/bundle/config.json
    # An engine's state directory is not the one that the volume is on record in.
    ran=$(garth --root /run/engine run --bundle /srv/bundle c1)
    contains "$ran" 65534
    contains "$ran" nosuid,nodev
    equals "$(_users)" ""
    _bundle dev.garth.volume.more data:/x:ro sh -c 'busybox cat /x/file; ! echo two >/x/file'
    equals "$(garth --root /run/engine run --bundle /srv/bundle c2 2>/dev/null)" one
    _bundle dev.garth.volume data:/x busybox sleep 1000
    garth --root /run/engine create --bundle /srv/bundle c3 </dev/null >/dev/null 2>&1
    contains "$(fails garth volume stop data)" "in use by container c3"
    garth --root /run/engine start c3
    contains "$(garth --root /run/engine check c3)" "RAID volume data is healthy"
    garth --root /run/engine delete --force c3
    _is_not_mounted
    equals "$(_users)" ""
    # With a user namespace.
    _bundle dev.garth.volume data:/x busybox cat /x/file
    jq '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        | .linux.gidMappings = .linux.uidMappings' </srv/bundle/config.json >/srv/bundle/new
    mv /srv/bundle/new /srv/bundle/config.json
    chown -R 100000:100000 /srv/bundle/rootfs
    equals "$(garth --root /run/engine run --bundle /srv/bundle c4)" one
    _bundle dev.garth.volume nothing:/x true
    contains "$(fails garth --root /run/engine run --bundle /srv/bundle c5)" "no RAID volume named nothing"
    garth volume stop data
    _bundle dev.garth.volume data:/x busybox cat /x/file
    contains "$(garth --root /run/engine run --bundle /srv/bundle c6 2>&1)" "was stopped: it is assembled"
    _destroy
}

a_degraded_volume_is_used_with_a_caution_and_a_lost_one_refused() {
    _create
    garth wrap -v data:/x -- sh -c 'echo one >/x/file'
    _down 1
    garth wrap -v data:/x -- dd if=/dev/zero of=/x/more bs=4k count=1 conv=fsync
    eventually _health_is degraded
    output=$(garth wrap -v data:/x -- cat /x/file 2>&1)
    contains "$output" "RAID volume data is degraded, may still lose any 1 device or any 1 server"
    garth wrap -d --name one -v data:/x -- sleep 1000
    contains "$(fails garth check one)" "RAID volume data is degraded"
    garth delete --force one
    garth volume stop data
    said=$(fails garth wrap -v data:/x -- true)
    contains "$said" "connect to 10.0.1.1:3260"
    contains "$said" "garth volume assemble --degraded data goes on without what is lost"
    garth volume assemble --degraded data
    garth wrap -v data:/x -- cat /x/file
    _down 2
    _down 3
    sleep 10
    contains "$(fails garth wrap -v data:/x -- true)" "RAID volume data"
    equals "$(_users)" ""
    _up 1
    _up 2
    _up 3
    eventually garth volume stop data
    _destroy
}

_log_says() { garth logs "$1" | grep -qF -- "$2"; }
_writes() { timeout 60 garth wrap -v data:/x -- dd if=/dev/zero of=/x/more bs=4k count=1 conv=fsync; }
# What is lost comes back by hand.
_re_add() {
    for disk in $({ garth volume status data --format json || true; } | jq -r '.arrays[] | .device as $md | .members[] | select(.state != "in-sync") | $md + "," + .device'); do
        mdadm "${disk%,*}" --remove "${disk#*,}" || true
        mdadm "${disk%,*}" --re-add "${disk#*,}"
    done
}

what_happens_to_a_volume_is_in_the_log_of_who_uses_it() {
    _create
    cat >/srv/garth.toml <<'TOML'
[service.db]
command = ["sleep", "1000"]
network = "none"
volume = ["data:/data"]
TOML
    garth up -f /srv/garth.toml
    garth wrap -d --name one -v data:/data -- sleep 1000
    garth wrap -d --name filed --log /srv/filed -v data:/data -- sleep 1000
    garth wrap --name front -v data:/data -- sleep 1000 2>/srv/front &
    keepers=$(pgrep -f ^garth-keeper)
    before=$(for pid in $keepers; do grep VmRSS /proc/$pid/status; done)
    _down 1
    _writes
    lost="RAID volume data: 2 members on 10.0.1.1 are lost; it is degraded, may still lose any 1 device or any 1 server"
    eventually _log_says db "$lost"
    eventually _log_says one "$lost"
    eventually grep -F "$lost" /srv/filed
    eventually grep -F "$lost" /srv/front
    _up 1
    _connected() { { garth volume status data --format json || true; } | jq -e '[.arrays[].members[].connected] | all' >/dev/null; }
    eventually _connected
    _re_add
    eventually _health_is healthy
    for name in db one; do
        # By hand they come back one by one.
        eventually _log_says $name "back; it is healthy"
        equals "$(garth logs $name | grep -c "members on 10.0.1.1 are lost")" 1
    done
    garth logs one | sed 's/^/# /'
    say "keepers: $(echo $before), after: $(for pid in $keepers; do grep VmRSS /proc/$pid/status; done | tr '\n' ' ')"
    # One process each, as before.
    equals "$(pgrep -f ^garth-keeper | wc -l)" "$(wc -w <<<"$keepers")"
    garth kill front
    garth delete --force one
    garth delete --force filed
    garth down -f /srv/garth.toml
    _destroy
}
