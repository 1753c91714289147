#!/bin/busybox sh
# What is tried in the machine of tests/aarch64/run, as its first process. A check is a function whose
# commands all succeed; what it prints is shown when one does not.

equals() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; exit 1; }; }

# eventually COMMAND...: within 20 s, as the machine is slow.
eventually() {
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "not within 20 s: $*"
    exit 1
}

# code COMMAND...: its exit code.
code() { "$@" >/dev/null 2>&1 && echo 0 || echo $?; }

is_gone() { ! garth ps | grep -q "^$1 "; }

wrap_true() { garth wrap -- true; }

exit_codes() {
    equals "$(code garth wrap -- sh -c 'exit 7')" 7
    equals "$(code garth wrap -- sh -c 'kill -9 $$')" 137
    equals "$(code garth wrap -- nonesuch)" 127
}

inside() {
    equals "$(garth wrap -- readlink /proc/self)" 2
    equals "$(garth wrap --as-pid-1 -- readlink /proc/self)" 1
    equals "$(garth wrap -- cat /proc/1/comm)" memfd:garth-ini
    garth wrap -- grep -q 'Seccomp:.*2' /proc/self/status
    equals "$(code garth wrap -- mount -t tmpfs none /mnt)" 1
}

memory() {
    garth wrap --memory 64m -- true
    equals "$(code garth wrap --memory 16m -- sh -c 'head -c 100000000 /dev/zero | tail')" 137
}

detached() {
    garth wrap -d --name sleeper -- sleep 1000
    garth ps | grep -q '^sleeper .*running'
    garth exec sleeper -- true
    equals "$(code garth exec sleeper -- sh -c 'exit 5')" 5
    garth kill sleeper
    eventually is_gone sleeper
    equals "$(code garth wait sleeper)" 143
}

published() {
    garth wrap -d --name web -p 8080:80 -- httpd -f -p 80 -h /etc
    eventually wget -q -O /tmp/page http://127.0.0.1:8080/group
    grep -q root /tmp/page
    garth delete --force web
    eventually is_gone web
}

bundle() {
    cd /bundle
    garth spec
    sed -i 's/"terminal": true/"terminal": false/' config.json
    equals "$(echo 'echo inside; exit 3' | garth run one || echo $?)" "inside
3"
    sed -i 's|"sh"|"sleep", "1000"|' config.json
    garth create two
    garth state two | grep -q '"created"'
    garth start two
    garth state two | grep -q '"running"'
    equals "$(code garth exec two sh -c 'exit 4')" 4
    garth kill two KILL
    eventually sh -c 'garth state two | grep -q stopped'
    garth delete two
    equals "$(garth list -q)" ""
}

rate() { garth wrap --network private --rate up=10Mbit/s,down=5Mbit/s -- true; }

# There is no disk that a limit could be of.
doctor() {
    garth doctor >/tmp/doctor || true
    equals "$(grep -v -e '^ok ' -e '^missing  disk limit' /tmp/doctor)" ""
}

# The holder of the firewall's table goes with it, a while after the last sandbox.
has_no_table() { ! grep -q @garth-table- /proc/net/unix; }

nothing_is_left() {
    eventually has_no_table
    equals "$(garth gc)" "nothing to clean"
    equals "$(ls /run/garth/ | grep -v ended)" ""
}

if [ $# = 1 ]; then
    set -e
    "$1"
    exit
fi
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
echo /bin/modprobe >/proc/sys/kernel/modprobe
busybox uname -srm
passed=0 failed=0
for check in $(sed -n 's/^\([a-z_]*\)() {.*/\1/p' /checks | grep -vx -e equals -e eventually -e code -e is_gone -e has_no_table); do
    if sh /checks "$check" >/tmp/output 2>&1; then
        echo "ok      $check"
        passed=$((passed + 1))
    else
        echo "FAILED  $check"
        sed 's/^/        | /' /tmp/output
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
busybox poweroff -f
