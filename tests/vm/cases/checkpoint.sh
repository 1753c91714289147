# as: root
# guest: criu runc iptables containerd busybox-static dash
# Checkpoint and restore by criu, which this kernel, unlike some of those that build, suits.

# A container that counts, by this runtime.
_bundle() {
    rm -rf /srv/counter
    mkdir -p /srv/counter/rootfs/{bin,proc,dev,sys,tmp}
    cp /usr/bin/busybox /srv/counter/rootfs/bin/
    chroot /srv/counter/rootfs /bin/busybox --install -s /bin
    (cd /srv/counter && "$1" spec)
    jq '.process.terminal = false | .root.readonly = false
        | .process.args = ["sh", "-c", "n=0; while :; do n=$((n + 1)); echo $n >/tmp/count; usleep 50000; done"]
        | .mounts |= map(select(.type != "cgroup"))' \
        /srv/counter/config.json >/srv/counter/new
    mv /srv/counter/new /srv/counter/config.json
}
_count() { cat /srv/counter/rootfs/tmp/count; }
_counts() {
    before=$(_count)
    eventually eval '[ "$(_count)" -gt "$before" ]'
}
# Debian's alternatives are not in packages. criu closes the container's network with them meanwhile.
_iptables() { for name in {iptables,ip6tables}{,-restore,-save}; do ln -sf xtables-nft-multi "/usr/sbin/$name"; done; }
_goes_on_after_a_restore() {
    _iptables
    _bundle "$1"
    runc delete --force counter 2>/dev/null || true
    "$1" run --detach --bundle /srv/counter counter </dev/null >/dev/null 2>&1
    eventually test -s /srv/counter/rootfs/tmp/count
    sleep 1
    rm -rf /tmp/images
    "$1" checkpoint --image-path /tmp/images --work-path /tmp/logs counter || { grep -h -a -B3 Error /tmp/logs/*.log; false; }
    left=$(_count)
    [ "$left" -gt 5 ]
    sleep 0.5
    equals "$(_count)" "$left"
    "$1" delete --force counter 2>/dev/null || true
    "$1" restore --detach --bundle /srv/counter --image-path /tmp/images --work-path /tmp/logs counter </dev/null >/dev/null 2>/tmp/err ||
        { cat /tmp/err; grep -a -B5 Error /tmp/logs/restore.log; false; }
    eventually eval '[ "$(_count)" -gt "$left" ]'
    [ "$(_count)" -lt $((left + 1000)) ]
    contains "$("$1" state counter)" '"running"'
    "$1" kill counter KILL
    sleep 0.3
    "$1" delete --force counter
}

a_container_goes_on_where_it_was_with_runc() { _goes_on_after_a_restore runc; }
a_container_goes_on_where_it_was() { _goes_on_after_a_restore garth; }

# By containerd: into an image, and from it into another container.
_through_containerd() {
    _iptables
    containerd_with_image
    rm -rf /srv/out
    mkdir -p /srv/out
    ctr run -d --runtime "$1" --mount type=bind,src=/srv/out,dst=/tmp,options=rbind:rw localhost/box:latest one \
        sh -c 'n=0; while :; do n=$((n + 1)); echo $n >/tmp/count; echo $n; usleep 50000; done' </dev/null >/dev/null 2>&1
    eventually test -s /srv/out/count
    sleep 1
    ctr containers checkpoint --task --rw --image one localhost/box:saved || { tail -n 5 /tmp/containerd/log; find /tmp /run -name dump.log -exec grep -a -B3 Error {} +; false; }
    before=$(cat /srv/out/count)
    ctr task kill -s KILL one
    eventually eval '! ctr task ls | grep -q RUNNING'
    ctr task rm one || true
    ctr container rm one
    left=$(cat /srv/out/count)
    ctr containers restore --live --rw two localhost/box:saved </dev/null >/dev/null 2>/tmp/err || { cat /tmp/err; tail -n 5 /tmp/containerd/log; find /tmp /run -name restore.log -exec grep -a -B3 Error {} +; false; }
    eventually eval '[ "$(cat /srv/out/count)" != "$left" ]'
    [ "$(cat /srv/out/count)" -ge "$before" ]
    contains "$(ctr task ls)" "RUNNING"
    ctr task kill -s KILL two
    eventually eval '! ctr task ls | grep -q RUNNING'
    ctr task rm two || true
    ctr container rm two
    kill %1
    wait
}
containerd_goes_on_with_runc() { _through_containerd io.containerd.runc.v2; }
containerd_goes_on_with_the_shim() { _through_containerd io.containerd.garth.v1; }
