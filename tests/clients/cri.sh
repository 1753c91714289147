#!/bin/bash
# containerd's CRI plugin, which kubelet talks to: pods and their containers, requested over gRPC.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

mkdir /run/test "$TEST_HOST/cni" "$TEST_HOST/logs"
# What holds a pod's namespaces: the same files, and a command that keeps running.
mkdir "$TEST_HOST/pause"
sed 's/"Cmd": \["sh"\]/"Cmd": ["sleep", "1000000"]/' "$TEST_HOST/image/config.json" >"$TEST_HOST/pause/config.json"
sed 's,localhost/testimage,localhost/pause,' "$TEST_HOST/image/manifest.json" >"$TEST_HOST/pause/manifest.json"
cp "$TEST_HOST/image/layer.tar" "$TEST_HOST/pause/"
tar -C "$TEST_HOST/pause" -cf "$TEST_HOST/pause.tar" manifest.json config.json layer.tar
# Ports of the host need iptables.
PORTMAP=
[ ! -x /usr/lib/cni/portmap ] || ! iptables -t nat -S >/dev/null 2>&1 ||
    PORTMAP=', {"type": "portmap", "capabilities": {"portMappings": true}}'
cat >"$TEST_HOST/cni/10-test.conflist" <<END
{"cniVersion": "0.4.0", "name": "test", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "routes": [{"dst": "0.0.0.0/0"}],
   "dataDir": "$TEST_HOST/ipam"}}$PORTMAP]}
END
# With SHIM in the environment, through Garth's own.
KIND='io.containerd.runc.v2' OPTIONS="BinaryName = \"$RUNTIME\"
        Root = \"/run/test/runtime\""
if use_shim containerd-shim-garth-v1; then
    echo 'Root = "/run/test/runtime"' >"$TEST_HOST/shim.toml"
    KIND='io.containerd.garth.v1' OPTIONS="ConfigPath = \"$TEST_HOST/shim.toml\""
fi
# Lowering what the caller does not have needs CAP_SYS_RESOURCE, which a nested host may lack.
cat >"$TEST_HOST/containerd.toml" <<END
version = 2
root = "$TEST_HOST/containerd"
state = "/run/test/state"
[grpc]
  address = "/run/test/sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$TEST_HOST/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$TEST_HOST/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "tested"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
      runtime_type = "$KIND"
      pod_annotations = ["dev.garth.*"]
      container_annotations = ["dev.garth.*"]
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
        $OPTIONS
END

HERE=$(dirname "$(realpath "$0")")
# -B: nothing is written beside the client.
# Another machine, on a wire with this one, which is 192.0.2.1.
ip netns add outside
ip link add lab type veth peer name eth0 netns outside
ip addr add 192.0.2.1/24 dev lab
ip link set lab up
nsenter --net=/run/netns/outside sh -c 'ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up'
outside() { nsenter --net=/run/netns/outside timeout 20 curl -s --max-time 15 "$@"; }

cri() { timeout -k 5 90 /usr/bin/python3 -B "$HERE/cri.py" /run/test/sock "$@"; }
POD='"metadata": {"name": "pod", "uid": "u1", "namespace": "test", "attempt": 0},
    "hostname": "pod", "log_directory": "'$TEST_HOST/logs'",
    "dns_config": {"servers": ["192.0.2.53"], "searches": ["example.org"]}'
# pod [MORE]: a pod with these fields in its "linux" part; prints its id. To create a container, the
# caller must repeat the pod's configuration.
pod() {
    echo "${1-}" >"$TEST_HOST/linux"
    cri RunPodSandbox "{\"config\": {$POD, \"linux\": {${1-}}}}" id
}
# container POD COMMAND-LINE [MORE [LINUX]]: creates one; prints its id.
container() {
    local more=${3-} linux=${4-}
    cri CreateContainer "{\"sandbox\": \"$1\", \"sandbox_config\": {$POD, \"linux\": {$(cat "$TEST_HOST/linux")}},
        \"config\": {\"metadata\": {\"name\": \"box\"}, \"image\": {\"image\": \"localhost/testimage:latest\"},
            \"command\": [\"sh\", \"-c\", \"$2\"], \"log_path\": \"box.log\" ${more:+, $more},
            \"linux\": {$linux}}}" id
}
start() { cri StartContainer "{\"id\": \"$1\"}" >/dev/null; }
# idle POD [MORE [LINUX]]: one that runs, does nothing, and exits with 9 when told to; prints its
# id.
idle() {
    local id
    id=$(container "$1" "trap 'exit 9' TERM; while :; do sleep 1000 & wait; done" "${2-}" "${3-}")
    start "$id"
    echo "$id"
}
status() { cri ContainerStatus "{\"id\": \"$1\"}" "status.$2"; }
# in_box ID COMMAND-LINE [FIELD]: ExecSync; prints its output, or another field of the answer.
in_box() { cri ExecSync "{\"id\": \"$1\", \"cmd\": [\"sh\", \"-c\", \"$2\"], \"timeout\": 20}" "${3-stdout}"; }
# streams CODE ID COMMAND-LINE [MORE]...: Exec with all streams, in files out and err; it exits with CODE.
streams() {
    local wanted=$1 code=0
    cri Exec "{\"id\": \"$2\", \"cmd\": [\"sh\", \"-c\", \"$3\"], \"stdin\": true, \"stdout\": true, \"stderr\": true}" \
        "${@:4}" >"$TEST_HOST/out" 2>"$TEST_HOST/err" || code=$?
    is "code, with $(tail -n 1 "$TEST_HOST/err")" $code "$wanted"
}
known() { "$RUNTIME" --root /run/test/runtime/k8s.io list -q; }
pid() { "$RUNTIME" --root /run/test/runtime/k8s.io state "$1" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'; }
CREATED=0 RUNNING=1 EXITED=2

tidy() {
    local id
    for id in $(cri ListPodSandbox '{}' items); do
        # Stops it, too.
        cri RemovePodSandbox "{\"id\": \"$id\"}" || return 1
    done
    rm -f "$TEST_HOST"/logs/*
}
start_containerd() {
    containerd --config "$TEST_HOST/containerd.toml" >>"$TEST_HOST/log" 2>&1 &
    echo $! >"$TEST_HOST/pid"
    until_ok cri Version || die "containerd: $(tail -n 5 "$TEST_HOST/log")"
}
start_containerd
for image in testimage pause; do
    ctr --address /run/test/sock -n k8s.io image import "$TEST_HOST/$image.tar" >>"$TEST_HOST/log" 2>&1 ||
        die "ctr image import: $(tail -n 5 "$TEST_HOST/log")"
done

check_pod_and_container() {
    local pod box
    pod=$(pod)
    is pods "$(known)" "$pod"
    is state "$(cri PodSandboxStatus "{\"id\": \"$pod\"}" status.state)" 0
    box=$(container "$pod" 'echo to the log; echo to stderr >&2; exit 7')
    is created "$(status "$box" state)" $CREATED
    start "$box"
    until_is $EXITED status "$box" state
    is code "$(status "$box" exit_code)" 7
    has "$(cat "$TEST_HOST/logs/box.log")" 'stdout F to the log' 'stderr F to stderr'
    cri RemoveContainer "{\"id\": \"$box\"}"
    cri StopPodSandbox "{\"id\": \"$pod\"}"
    cri RemovePodSandbox "{\"id\": \"$pod\"}"
    is left "$(known)" ''
    is pods "$(cri ListPodSandbox '{}' items)" ''
}

check_exec_sync() {
    local box
    box=$(idle "$(pod)")
    is stdout "$(in_box "$box" 'echo out; echo err >&2')" out
    is stderr "$(in_box "$box" 'echo out; echo err >&2' stderr)" err
    is code "$(in_box "$box" 'exit 7' exit_code)" 7
    is signal "$(in_box "$box" 'kill -9 $$' exit_code)" 137
    # 8 MB; containerd keeps 16.
    cmp <(in_box "$box" 'seq 1200000') <(seq 1200000; echo)
    has "$(fails 1 cri ExecSync "{\"id\": \"$box\", \"cmd\": [\"nosuch\"]}")" 'executable file not found'
    has "$(fails 1 cri ExecSync "{\"id\": \"$box\", \"cmd\": [\"/etc/plain\"]}")" 'permission denied'
    has "$(fails 1 cri ExecSync "{\"id\": \"$box\", \"cmd\": [\"sleep\", \"60\"], \"timeout\": 1}")" 'deadline'
    is state "$(status "$box" state)" $RUNNING
}

# kubectl exec -i: the program's input ends when ours does, which a WebSocket has no word for.
check_exec_streams() {
    local box
    box=$(idle "$(pod)")
    streams 7 "$box" 'cat; echo error >&2; exit 7' <<<input
    is stdout "$(cat "$TEST_HOST/out")" input
    is stderr "$(cat "$TEST_HOST/err")" error
    streams 8 "$box" 'read line; echo $line; echo error >&2; exit 8' websocket <<<input
    is stdout "$(cat "$TEST_HOST/out")" input
    is stderr "$(cat "$TEST_HOST/err")" error
    seq 300000 >"$TEST_HOST/much"
    streams 0 "$box" cat <"$TEST_HOST/much"
    cmp "$TEST_HOST/out" "$TEST_HOST/much"
    # A program that ends before its input. runc's shim goes on holding the pipe, unread, and containerd
    # waits until it can write the rest.
    if [ -n "${SHIM-}" ]; then
        streams 5 "$box" 'head -c 100000; exit 5' <"$TEST_HOST/much"
        cmp "$TEST_HOST/out" <(head -c 100000 "$TEST_HOST/much")
    fi
    has "$(fails 1 cri Exec "{\"id\": \"$box\", \"cmd\": [\"nosuch\"], \"stdout\": true}")" 'executable file not found'
}

# The size comes when the program runs already.
check_exec_on_a_terminal() {
    local box how said
    box=$(idle "$(pod)")
    for how in spdy websocket; do
        said=$(fails 6 cri Exec "{\"id\": \"$box\", \"cmd\": [\"sh\", \"-c\", \"${WAIT_SIZE//\"/\\\"}; read line; echo got \$line; exit 6\"],
            \"tty\": true, \"stdin\": true, \"stdout\": true}" $how 33x77 <<<typed)
        has "$said" '33 77' $'\ngot typed\r'
    done
}

# kubectl run -i: where not on a terminal, the end of the input is the container's, once.
check_attach() {
    local pod box other said
    pod=$(pod)
    box=$(container "$pod" 'cat; echo error >&2; exit 5' '"stdin": true, "stdin_once": true')
    start "$box"
    cri Attach "{\"id\": \"$box\", \"stdin\": true, \"stdout\": true, \"stderr\": true}" \
        <<<input >"$TEST_HOST/out" 2>"$TEST_HOST/err"
    is stdout "$(cat "$TEST_HOST/out")" input
    is stderr "$(cat "$TEST_HOST/err")" error
    until_is 5 status "$box" exit_code
    has "$(cat "$TEST_HOST/logs/box.log")" 'stdout F input' 'stderr F error'
    has "$(fails 1 cri Attach "{\"id\": \"$box\", \"stdout\": true}")" CONTAINER_EXITED
    other=$(container "$pod" "${WAIT_SIZE//\"/\\\"}; read line; echo got \$line; exit 4" \
        '"metadata": {"name": "other"}, "stdin": true, "tty": true')
    start "$other"
    said=$(cri Attach "{\"id\": \"$other\", \"tty\": true, \"stdin\": true, \"stdout\": true}" websocket 33x77 <<<typed)
    has "$said" '33 77' $'\ngot typed\r'
    until_is 4 status "$other" exit_code
}

check_command_not_found() {
    local pod box
    pod=$(pod)
    box=$(cri CreateContainer "{\"sandbox\": \"$pod\", \"sandbox_config\": {$POD}, \"config\": {
        \"metadata\": {\"name\": \"box\"}, \"image\": {\"image\": \"localhost/testimage:latest\"},
        \"command\": [\"nosuch\"]}}" id)
    has "$(fails 1 cri StartContainer "{\"id\": \"$box\"}")" 'executable file not found'
    is state "$(status "$box" state)" $EXITED
    is code "$(status "$box" exit_code)" 128
    is reason "$(status "$box" reason)" StartError
}

# The program is executed only by `start`; with runc, after that has returned: then its log has the
# message.
check_command_is_no_program() {
    local pod box said
    pod=$(pod)
    box=$(cri CreateContainer "{\"sandbox\": \"$pod\", \"sandbox_config\": {$POD}, \"config\": {
        \"metadata\": {\"name\": \"box\"}, \"image\": {\"image\": \"localhost/testimage:latest\"},
        \"command\": [\"headless\"], \"log_path\": \"box.log\"}}" id)
    said=$(cri StartContainer "{\"id\": \"$box\"}" 2>&1 || :)
    for _ in {1..100}; do
        [ "$(status "$box" state)" != "$RUNNING" ] && break
        sleep 0.1
    done
    has "$said $(cat "$TEST_HOST/logs/box.log")" headless 'exec format error'
}

check_stop() {
    local box
    box=$(idle "$(pod)")
    cri StopContainer "{\"id\": \"$box\", \"timeout\": 20}"
    is state "$(status "$box" state)" $EXITED
    is code "$(status "$box" exit_code)" 9
    has "$(fails 1 in_box "$box" true)" CONTAINER_EXITED
}

check_stop_of_who_does_not_listen() {
    local pod box
    pod=$(pod)
    box=$(container "$pod" 'trap : TERM; while :; do sleep 1000 & wait; done')
    start "$box"
    cri StopContainer "{\"id\": \"$box\", \"timeout\": 1}"
    is code "$(status "$box" exit_code)" 137
}

check_stats() {
    local box used
    box=$(idle "$(pod)")
    in_box "$box" 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'
    used=$(cri ContainerStats "{\"id\": \"$box\"}" stats.cpu.used.value)
    [ "$used" -gt 1000000 ] || { echo "cpu: $used ns" >&2; return 1; }
    used=$(cri ContainerStats "{\"id\": \"$box\"}" stats.memory.used.value)
    [ "$used" -gt 4096 ] || { echo "memory: $used" >&2; return 1; }
    is id "$(cri ContainerStats "{\"id\": \"$box\"}" stats.attributes.id)" "$box"
}

check_limits_and_their_update() {
    local box resources='"cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512'
    box=$(idle "$(pod '"cgroup_parent": "/kubepods/one"')" '' \
        "\"resources\": {$resources, \"memory_limit_in_bytes\": 67108864}")
    is memory "$(cgroup_file "$(pid "$box")" memory memory.limit_in_bytes)" 67108864
    is quota "$(cgroup_file "$(pid "$box")" cpu cpu.cfs_quota_us)" 50000
    is shares "$(cgroup_file "$(pid "$box")" cpu cpu.shares)" 512
    has "$(cat "/proc/$(pid "$box")/cgroup")" "/kubepods/one/$box"
    cri UpdateContainerResources "{\"id\": \"$box\", \"linux\": {\"memory_limit_in_bytes\": 134217728}}"
    is memory "$(cgroup_file "$(pid "$box")" memory memory.limit_in_bytes)" 134217728
}

check_out_of_memory() {
    local box pod
    pod=$(pod)
    box=$(container "$pod" 'tail /dev/zero' '' '"resources": {"memory_limit_in_bytes": 33554432}')
    start "$box"
    until_is $EXITED status "$box" state
    is code "$(status "$box" exit_code)" 137
    until_is OOMKilled status "$box" reason
}

check_containers_of_a_pod_share() {
    local pod one two kind own='"security_context": {"namespace_options": {"pid": 1}}'
    pod=$(pod "$own")
    one=$(idle "$pod" '' "$own")
    two=$(container "$pod" 'sleep 1000' '"metadata": {"name": "other"}' "$own")
    start "$two"
    for kind in net ipc uts; do
        is $kind "$(readlink "/proc/$(pid "$one")/ns/$kind")" "$(readlink "/proc/$(pid "$pod")/ns/$kind")"
        is $kind "$(readlink "/proc/$(pid "$two")/ns/$kind")" "$(readlink "/proc/$(pid "$one")/ns/$kind")"
    done
    for kind in pid mnt; do
        [ "$(readlink "/proc/$(pid "$two")/ns/$kind")" != "$(readlink "/proc/$(pid "$one")/ns/$kind")" ]
    done
    is hostname "$(in_box "$one" hostname)" pod
    has "$(in_box "$one" 'cat /etc/resolv.conf')" 'nameserver 192.0.2.53' 'search example.org'
}

check_processes_of_a_pod_shared() {
    local pod one
    pod=$(pod '"security_context": {"namespace_options": {"pid": 0}}')
    one=$(idle "$pod" '' '"security_context": {"namespace_options": {"pid": 0}}')
    is pid "$(readlink "/proc/$(pid "$one")/ns/pid")" "$(readlink "/proc/$(pid "$pod")/ns/pid")"
    has "$(in_box "$one" 'cat /proc/1/cmdline')" sleep
}

check_network_of_a_pod() {
    local pod one ip
    pod=$(pod)
    one=$(idle "$pod")
    ip=$(cri PodSandboxStatus "{\"id\": \"$pod\"}" status.network.ip)
    has "$ip" 10.88.
    has "$(in_box "$one" 'ip addr')" "$ip/16"
    in_box "$one" 'httpd -p 8080 -h /srv'
    until_is hello wget -q -O - "http://$ip:8080/hello"
}

check_port_forward() {
    local pod ask=$'GET /hello HTTP/1.0\r\n\r\n'
    pod=$(pod)
    in_box "$(idle "$pod")" 'httpd -p 127.0.0.1:8080 -h /srv'
    # As kubectl does it: one connection to the pod for each of ours, by way of one to containerd.
    is answers "$(cri PortForward "{\"id\": \"$pod\", \"port\": [8080, 8080]}" <<<"$ask" | grep -ac '^hello')" 2
    has "$(fails 1 cri PortForward "{\"id\": \"$pod\", \"port\": [8081]}" <<<"$ask")" 8081 'connection refused'
}

# From another host; the rules go with the pod.
check_port_of_the_host() {
    local pod POD="$POD, \"port_mappings\": [{\"protocol\": 0, \"container_port\": 8080, \"host_port\": 8000}]"
    [ -n "$PORTMAP" ] || skip "no portmap of CNI's, or iptables does not work"
    pod=$(pod)
    in_box "$(idle "$pod")" 'httpd -p 8080 -h /srv'
    until_is hello outside http://192.0.2.1:8000/hello
    cri StopPodSandbox "{\"id\": \"$pod\"}"
    fails 7 outside http://192.0.2.1:8000/hello
    is rules "$(iptables -t nat -S | grep 8080 || :)" ''
}

check_network_of_the_host() {
    local one POD=${POD/'"hostname": "pod",'/} host='"security_context": {"namespace_options": {"network": 2}}'
    one=$(idle "$(pod "$host")" '' "$host")
    is net "$(readlink "/proc/$(pid "$one")/ns/net")" "$(readlink /proc/self/ns/net)"
}

check_security() {
    local one status
    one=$(idle "$(pod)" '' '"security_context": {"readonly_rootfs": true, "no_new_privs": true,
        "run_as_user": {"value": 1000}, "run_as_group": {"value": 2000}, "seccomp": {"profile_type": 0},
        "masked_paths": ["/proc/version"], "readonly_paths": ["/proc/sys"],
        "capabilities": {"add_capabilities": ["NET_ADMIN"], "drop_capabilities": ["CHOWN"]}}')
    is ids "$(in_box "$one" 'echo $(id -u) $(id -g)')" '1000 2000'
    status=$(in_box "$one" 'cat /proc/self/status')
    has "$status" $'NoNewPrivs:\t1' $'Seccomp:\t2'
    # NET_ADMIN is 12, CHOWN 0.
    local bounding=$((16#$(awk '$1 == "CapBnd:" { print $2 }' <<<"$status")))
    is net_admin $((bounding >> 12 & 1)) 1
    is chown $((bounding & 1)) 0
    has "$(in_box "$one" 'echo x >/etc/x' stderr)" 'Read-only'
    has "$(in_box "$one" 'cat /proc/self/mountinfo')" ' /proc/version ' ' /proc/sys ro,'
}

check_privileged() {
    local one
    one=$(idle "$(pod '"security_context": {"privileged": true}')" '' '"security_context": {"privileged": true}')
    has "$(in_box "$one" 'cat /proc/self/status')" $'Seccomp:\t0'
    in_box "$one" 'test -c /dev/fuse -o -c /dev/kmsg' exit_code | grep -qx 0
}

check_sysctl_and_mounts() {
    local one
    echo shared >"$TEST_HOST/shared"
    one=$(idle "$(pod '"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}')" \
        "\"mounts\": [{\"container_path\": \"/srv/shared\", \"host_path\": \"$TEST_HOST/shared\", \"readonly\": true}],
        \"envs\": [{\"key\": \"MINE\", \"value\": \"two words\"}], \"working_dir\": \"/srv\"")
    is sysctl "$(in_box "$one" 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start')" 80
    is mounted "$(in_box "$one" 'cat /srv/shared; echo x >/srv/shared')" shared
    is environment "$(in_box "$one" 'echo $MINE in $(pwd)')" 'two words in /srv'
}

check_runtime_handler() {
    local pod
    has "$(fails 1 cri RunPodSandbox "{\"runtime_handler\": \"nosuch\", \"config\": {$POD}}")" 'no runtime for "nosuch"'
    is left "$(known; cri ListPodSandbox '{}' items; ls /run/netns)" outside
    pod=$(cri RunPodSandbox "{\"runtime_handler\": \"tested\", \"config\": {$POD}}" id)
    is handler "$(cri PodSandboxStatus "{\"id\": \"$pod\"}" status.runtime_handler)" tested
    is pods "$(known)" "$pod"
}

check_many_pods_at_once() {
    local n
    for n in {1..6}; do
        POD=${POD/'"uid": "u1"'/"\"uid\": \"u$n\""} pod >"$TEST_HOST/pod.$n" &
    done
    wait $(jobs -p | grep -vx "$(cat "$TEST_HOST/pid")")
    is pods "$(known | wc -l)" 6
}

check_daemon_restart() {
    local pod one
    pod=$(pod)
    one=$(idle "$pod")
    kill "$(cat "$TEST_HOST/pid")"
    gone() { ! kill -0 "$(cat "$TEST_HOST/pid")"; }
    until_ok gone
    start_containerd
    is state "$(status "$one" state)" $RUNNING
    is output "$(in_box "$one" 'echo still here')" 'still here'
    cri StopContainer "{\"id\": \"$one\", \"timeout\": 20}"
    is code "$(status "$one" exit_code)" 9
}

# annotated TEXT [NAME]: a pod with these annotations, and a container that serves; prints the pod's id. It is asked for
# by both, as containerd passes them on to each.
annotated() {
    local pod one POD=${POD/'"hostname"'/"\"annotations\": {$1}, \"hostname\""}
    POD=${POD/'"uid": "u1"'/"\"uid\": \"${2-u1}\""}
    pod=$(pod) || return
    one=$(container "$pod" 'dd if=/dev/zero of=/srv/big bs=1M count=3 2>/dev/null; exec httpd -f -p 80 -h /srv')
    start "$one"
    echo "$pod"
}
not_of_runc() { [ "$NAME" != runc ] || skip "annotations are Garth's"; }

# From another machine; then from everywhere else.
check_published_port_and_rate() {
    not_of_runc
    local pod other speed localnet=/proc/sys/net/ipv4/conf/cni0/route_localnet before
    # portmap leaves it on.
    before=$(cat $localnet 2>/dev/null || echo 0)
    pod=$(annotated '"dev.garth.publish": "0.0.0.0:8080:80", "dev.garth.rate.up": "8Mbit/s"')
    until_is hello outside http://192.0.2.1:8080/hello
    speed=$(outside -o /dev/null -w '%{speed_download}' http://192.0.2.1:8080/big)
    ((speed > 700000 && speed < 1150000)) || { echo "$speed bytes a second, not a million" >&2; return 1; }
    is loopback "$(curl -s --max-time 5 http://127.0.0.1:8080/hello)" hello
    is itself "$(nsenter --net="/proc/$(pid "$pod")/ns/net" curl -s --max-time 5 http://192.0.2.1:8080/hello)" hello
    other=$(annotated '"dev.garth.publish": "192.0.2.1:8081:80"' u2)
    until_is hello outside http://192.0.2.1:8081/hello
    speed=$(outside -o /dev/null -w '%{speed_download}' http://192.0.2.1:8081/big)
    ((speed > 3000000)) || { echo "$speed bytes a second without a rate" >&2; return 1; }
    is neighbour "$(nsenter --net="/proc/$(pid "$other")/ns/net" curl -s --max-time 5 http://192.0.2.1:8080/hello)" hello
    has "$(fails 1 annotated '"dev.garth.publish": "192.0.2.1:8081:80"' u3)" 'dev.garth.publish' 'port 8081'
    # The whole goes with the pods.
    tidy
    is elements "$(nft list table inet garth 2>/dev/null | grep 10.88 || :)" ''
    fails 7 outside http://192.0.2.1:8080/hello
    table() { nft list tables | grep garth; }
    gone() { ! table; }
    until_ok gone
    is localnet "$(cat $localnet)" "$before"
}

check_rate_group_of_two_pods() {
    not_of_runc
    local one two group='"dev.garth.rate.group": "office:up=16Mbit/s", "dev.garth.publish"'
    one=$(annotated "$group: \"192.0.2.1:8080:80\"")
    two=$(annotated "$group: \"192.0.2.1:8081:80\"" u2)
    until_is hello outside http://192.0.2.1:8080/hello
    until_is hello outside http://192.0.2.1:8081/hello
    outside -o /dev/null -w '%{speed_download}' http://192.0.2.1:8080/big >"$TEST_HOST/speed" &
    speed=$(outside -o /dev/null -w '%{speed_download}' http://192.0.2.1:8081/big)
    wait $!
    speed=$((speed + $(cat "$TEST_HOST/speed")))
    ((speed > 1400000 && speed < 2500000)) || { echo "$speed bytes a second, not two million" >&2; return 1; }
    is members "$("$RUNTIME" --root /run/test/runtime/k8s.io list -q | grep -c -e "$one" -e "$two")" 2
}

check_nothing_is_left() {
    is state "$(known)" ''
    is cgroups "$(find /sys/fs/cgroup -mindepth 3 -type d -path '*/k8s.io/*')" ''
    is shims "$(pgrep -f containerd-shim || true)" ''
}

run_checks "$@"
