#!/bin/bash
# Docker Swarm: three dockerd, each in a network and pid namespace of its own, with the runtime as their default. A
# service's replicas run on all of them; one is killed.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

use_shim containerd-shim-runc-v2
NODES="1 2 3"
# shellcheck disable=SC2086
machines 10.77.0 $NODES

docker() { timeout -k 5 90 /usr/bin/docker "$@"; }
on() { docker --host "unix://$TEST_HOST/node$1.sock" "${@:2}"; }
start_node() {
    nsenter --net="/run/netns/node$1" unshare --mount --pid --fork --kill-child --mount-proc --uts --propagation private \
        sh -c "hostname node$1; exec dockerd --host unix://$TEST_HOST/node$1.sock --data-root $TEST_HOST/data$1 \
            --exec-root /run/node$1 --pidfile $TEST_HOST/node$1.pid --add-runtime tested=$RUNTIME --default-runtime tested \
            --exec-opt native.cgroupdriver=cgroupfs --storage-driver overlay2" >>"$TEST_HOST/log.$1" 2>&1 &
    echo $! >"$TEST_HOST/node$1.unshare"
}
for n in $NODES; do
    start_node "$n"
done
for n in $NODES; do
    until_ok on "$n" version || die "dockerd $n: $(tail -n 5 "$TEST_HOST/log.$n")"
    on "$n" load -q -i "$TEST_HOST/testimage.tar" >/dev/null || die "docker load on $n"
done
on 1 swarm init --advertise-addr 10.77.0.1 --dispatcher-heartbeat 1s >"$TEST_HOST/log" 2>&1 ||
    die "swarm init: $(tail -n 3 "$TEST_HOST/log")"
TOKEN=$(on 1 swarm join-token -q worker)
for n in 2 3; do
    on "$n" swarm join --advertise-addr "10.77.0.$n" --token "$TOKEN" 10.77.0.1:2377 >>"$TEST_HOST/log" 2>&1 ||
        die "swarm join of $n: $(tail -n 3 "$TEST_HOST/log")"
done

# Lines "node port": where a replica that runs serves.
places() {
    local n
    for n in "$@"; do
        on "$n" ps --format '{{.Ports}}' | sed -n "s/^0.0.0.0:\([0-9]*\)->80.*/$n \1/p"
    done
}
hello() { curl -s --max-time 2 "http://10.77.0.$1:$2/hello"; }
replicas() { on 1 service ls --format '{{.Replicas}}'; }

check_replicas_on_all_nodes() {
    on 1 service create --detach --name web --replicas 6 --endpoint-mode dnsrr --publish mode=host,target=80 \
        --no-resolve-image --update-order start-first --update-delay 100ms --stop-grace-period 3s \
        localhost/testimage:latest httpd -f -p 80 -h /srv
    until_is 6/6 replicas
    local n port
    for n in $NODES; do
        is "replicas on node $n" "$(places "$n" | wc -l)" 2
        is runtime "$(on "$n" inspect -f '{{.HostConfig.Runtime}}' "$(on "$n" ps -q | head -n 1)")" tested
    done
    # shellcheck disable=SC2086
    places $NODES | while read -r n port; do
        is "answer of $n:$port" "$(hello "$n" "$port")" hello
    done
}

# A client that asks the next replica when one has gone, as with several addresses of a name.
check_update_without_a_failed_request() {
    on 1 service update --detach --env-add VERSION=2 web
    local asked=0 unanswered=0 line answered
    updated() { [ "$(on 1 service inspect -f '{{.UpdateStatus.State}}' web)" = completed ]; }
    until updated; do
        answered=
        while read -r line; do
            # shellcheck disable=SC2086
            [ "$(hello $line)" != hello ] || { answered=1; break; }
        done < <(places 1 2 3)
        asked=$((asked + 1))
        [ -n "$answered" ] || unanswered=$((unanswered + 1))
        ((asked < 500))
    done
    ((asked > 3))
    is unanswered $unanswered 0
    is replicas "$(replicas)" 6/6
    has "$(on 2 exec "$(on 2 ps -q | head -n 1)" env)" VERSION=2
}

check_a_node_dies() {
    kill -KILL "$(cat "$TEST_HOST/node3.unshare")"
    on_two() { [ "$(places 1 2 | wc -l)" = 6 ]; }
    local end=$((SECONDS + 60))
    until on_two; do
        sleep 0.5
        ((SECONDS < end))
    done
    local n port
    places 1 2 | while read -r n port; do
        is "answer of $n:$port" "$(hello "$n" "$port")" hello
    done
    has "$(on 1 node ls)" Down
}

check_end() {
    on 1 service rm web
    none() { [ "$(on 1 ps -q; on 2 ps -q)" = '' ]; }
    until_ok none
}

run_checks "$@"
