#!/bin/bash
# Garth's shim under load and under kill -9, through ctr. SHIM is the program. Short by default; in full:
#   CYCLES=1000 RUNS=10000 ROUNDS=100
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

: "${CYCLES:=40}" "${RUNS:=200}" "${ROUNDS:=8}"
private_containerd
IMAGE=localhost/testimage:latest
SHIM_NAME=containerd-shim-garth-v1
use_shim $SHIM_NAME || die "no SHIM"
echo 'Root = "/run/test/runtime"' >"$TEST_HOST/shim.toml"

ctr() { timeout -k 5 60 ctr "$@"; }
run() { ctr run --runtime io.containerd.garth.v1 --runtime-config-path "$TEST_HOST/shim.toml" "$@"; }
known() { "$RUNTIME" --root /run/test/runtime/default list -q; }
shims() { pgrep -f "$SHIM_NAME -namespace" || true; }
pid() { ctr task list | awk -v id="$1" '$1 == id { print $2 }'; }
state() { ctr task list | awk -v id="$1" '$1 == id { print $3 }'; }
idle() { run -d "${@:2}" $IMAGE "$1" sh -c 'trap "exit 9" TERM; while :; do sleep 1000 & wait; done'; }
tidy() {
    local id
    for id in $(ctr task list -q); do
        ctr task kill -s KILL "$id" || true
        until_ok ctr task rm -f "$id" || return 1
    done
    for id in $(ctr container list -q); do
        ctr container rm "$id" || return 1
    done
    # A client that lost its daemon has left this.
    for id in $(ctr snapshot list | awk '$3 == "Active" { print $1 }'); do
        ctr snapshot rm "$id"
    done
}
# What containers and their shims leave on a host: nothing.
nothing_is_left() {
    until_is '' shims
    is state "$(known)" ''
    is sockets "$(find /run/containerd/s -mindepth 1)" ''
    is mounts "$(grep -c rootfs /proc/self/mountinfo)" 0
    is bundles "$(find /run/test/state/io.containerd.runtime.v2.task/default -mindepth 1 -maxdepth 1)" ''
    is cgroups "$(find /sys/fs/cgroup -mindepth 3 -path '*/default/*' -type d)" ''
}

start_containerd
import_image

check_many_at_once() {
    local i ids=()
    for i in {1..100}; do
        idle "many$i" &
        ids+=($!)
        # Not all clients at once: they would want gigabytes.
        ((i % 10)) || wait "${ids[@]}"
    done
    wait
    is running "$(ctr task list | grep -c RUNNING)" 100
    is shims "$(shims | wc -l)" 100
    for i in {1..100}; do
        ctr task kill -s KILL "many$i" &
        ((i % 10)) || wait
    done
    wait
    stopped() { [ "$(ctr task list | grep -c STOPPED)" = 100 ]; }
    until_ok stopped
    tidy
    nothing_is_left
}

# Its users are others outside: who opens what it is connected to needs to own that. The option says so, and without it the
# user of the program does.
check_io_of_a_user_namespace() {
    case $(ctr --version) in
    *' 1.'*) ;;
    *) skip "with a user namespace, ctr 2 reads the options as runc's, whatever the runtime" ;;
    esac
    local said="cat /proc/self/uid_map; echo from stdout >/proc/self/fd/1; echo from stderr >/proc/self/fd/2"
    printf 'Root = "/run/test/runtime"\nIoUid = 100000\nIoGid = 100000\n' >"$TEST_HOST/mapped.toml"
    mapped() {
        ctr run --rm --runtime io.containerd.garth.v1 --runtime-config-path "$TEST_HOST/$1.toml" \
            --uidmap 0:100000:65536 --gidmap 0:100000:65536 $IMAGE "$1" sh -c "$said" 2>&1
    }
    has "$(mapped mapped)" 100000 'from stdout' 'from stderr'
    has "$(mapped shim)" 100000 'from stdout' 'from stderr'
}

# Not a process, descriptor, mount, cgroup or socket more than before.
check_cycles() {
    local i before
    before=$(find /proc/"$(cat "$TEST_HOST/pid")"/fd | wc -l)
    for ((i = 0; i < CYCLES; i++)); do
        run --rm $IMAGE "cycle$i" true
    done
    nothing_is_left
    no_more() { [ "$(find /proc/"$(cat "$TEST_HOST/pid")"/fd | wc -l)" -le $((before + 4)) ]; }
    until_ok no_more
}

# One shim, many programs: none of it stays in it.
check_cycles_of_exec() {
    local i before
    idle box
    ctr task exec --exec-id e box true
    before=$(find "/proc/$(shims)/fd" | wc -l)
    for ((i = 0; i < CYCLES; i++)); do
        ctr task exec --exec-id "e$i" box true
    done
    no_more() { [ "$(find "/proc/$(shims)/fd" | wc -l)" -le "$before" ]; }
    until_ok no_more
    is children "$(pgrep -c -P "$(shims)")" 1
}

# Every word of a program that writes it and exits is seen.
check_short_output() {
    local i j
    for ((i = 0; i < RUNS; i += 4)); do
        for j in 0 1 2 3; do
            run --rm $IMAGE "word$j" echo "word $i $j" >"$TEST_HOST/word$j" 2>&1 &
        done
        wait
        for j in 0 1 2 3; do
            is "output of run $i" "$(cat "$TEST_HOST/word$j")" "word $i $j"
        done
    done
}

check_a_slow_reader_holds_up_no_exit() {
    # It reads nothing; the pipe is full.
    mkfifo "$TEST_HOST/slow"
    sleep 1000 <"$TEST_HOST/slow" &
    local reader=$! start=$SECONDS
    run -d $IMAGE box sleep 1000 >"$TEST_HOST/slow"
    ctr task exec --exec-id e1 box sh -c 'head -c 60000 /dev/zero; kill -KILL $$' >"$TEST_HOST/slow" &
    gone() { ! ctr task ps box | grep -q exec; }
    until_ok gone
    ctr task kill -s KILL box
    until_is STOPPED state box
    ((SECONDS - start < 15))
    kill $reader
}

check_loggers() {
    run -d --log-uri "file://$TEST_HOST/some%20where/log" $IMAGE box sh -c 'echo out; echo err >&2; sleep 1000'
    until_is $'out\nerr' cat "$TEST_HOST/some where/log"
    # It can add to the log, and do nothing else to it.
    is kind "$(readlink "/proc/$(pid box)/fd/1" | cut -d: -f1)" pipe
    tidy
    cat >"$TEST_HOST/logger" <<'END'
#!/bin/bash
exec 6>"$2"
echo "$1 $CONTAINER_NAMESPACE $CONTAINER_ID" >&6
exec 5>&-
cat <&3 >&6
cat <&4 >&6
END
    chmod 755 "$TEST_HOST/logger"
    run -d --log-uri "binary://$TEST_HOST/logger?said=$TEST_HOST/said.log" $IMAGE box sh -c 'echo out; echo err >&2'
    until_is $'said default box\nout\nerr' cat "$TEST_HOST/said.log"
    until_is STOPPED state box
    tidy
    has "$(fails 1 run -d --log-uri binary:///nothing/there $IMAGE box true)" /nothing/there
    ctr container rm box
    nothing_is_left
}

check_what_is_wrong_is_said() {
    has "$(fails 1 ctr run --runtime io.containerd.garth.v1 --runtime-config-path /nothing $IMAGE box true)" 'read /nothing'
    ctr container rm box || true
    echo 'Colour = "red"' >"$TEST_HOST/bad.toml"
    has "$(fails 1 ctr run --runtime io.containerd.garth.v1 --runtime-config-path "$TEST_HOST/bad.toml" $IMAGE box2 true)" Colour
    ctr container rm box2 || true
    idle box3
    has "$(fails 1 ctr task exec --exec-id e1 --cwd nowhere box3 true)" 'absolute path'
    has "$(fails 1 ctr task kill --exec-id none box3)" 'not found'
}

# Killed at any moment: what is left is found and removed, by containerd itself, and the name is free again.
check_kills() {
    local round id victim client
    for ((round = 0; round < ROUNDS; round++)); do
        id=victim$round
        (run --rm $IMAGE "$id" sh -c 'sleep 0.2' || true) >/dev/null 2>&1 &
        client=$!
        sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
        if ((round % 4 == 3)); then
            kill -KILL "$(cat "$TEST_HOST/pid")"
            wait $client
            start_containerd
        else
            for victim in $(shims); do
                kill -KILL "$victim" 2>/dev/null || true
            done
            wait $client
        fi
        all_gone() { [ "$(ctr task list -q)" = '' ] || tidy; }
        until_ok all_gone
        tidy
        is "output in round $round" "$(run --rm $IMAGE "$id" echo hello)" hello
    done
    nothing_is_left
}

run_checks "$@"
