#!/bin/bash
# Slurm: a controller and two nodes, each in a network and mount namespace of its own; steps run in containers that the
# runtime makes, as oci.conf says.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

NODES="1 2"
# shellcheck disable=SC2086
machines 10.78.0 $NODES

# Whoever may use the shared secret is trusted by all.
mkdir -p /run/munge /etc/slurm "$TEST_HOST/slurm"
dd if=/dev/urandom of="$TEST_HOST/munge.key" bs=128 count=1 2>/dev/null
chmod 600 "$TEST_HOST/munge.key"
chmod 755 /run/munge
munged --force --num-threads 2 --key-file "$TEST_HOST/munge.key" --socket /run/munge/munge.socket.2 \
    --pid-file "$TEST_HOST/munged.pid" --log-file "$TEST_HOST/munged.log" --seed-file "$TEST_HOST/munged.seed" \
    >>"$TEST_HOST/log" 2>&1 || die "munged: $(tail -n 3 "$TEST_HOST/log" "$TEST_HOST/munged.log")"

cat >/etc/slurm/slurm.conf <<END
ClusterName=test
SlurmctldHost=test(10.78.0.254)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=/run/munge/munge.socket.2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SchedulerType=sched/builtin
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation=$TEST_HOST/slurm/state
SlurmdSpoolDir=$TEST_HOST/slurm/%n
SlurmctldPidFile=$TEST_HOST/slurm/controller.pid
SlurmdPidFile=$TEST_HOST/slurm/%n.pid
ReturnToService=2
SlurmdTimeout=10
KillWait=2
SlurmdParameters=config_overrides
NodeName=node1 NodeAddr=10.78.0.1 CPUs=2 State=UNKNOWN
NodeName=node2 NodeAddr=10.78.0.2 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=10 State=UP
END
# With `exec`, so that signals reach the runtime and not a shell. With RunTimeCreate and RunTimeStart, Slurm 22.05 waits until the output of `create` is at its end, and the program has
# that output: it would never start.
# The runtime is run by the user, %u; %U, the number, ends slurmstepd of 22.05 by a signal.
mkdir -p -m 1777 "$TEST_HOST/slurm/containers"
R="$RUNTIME --root $TEST_HOST/slurm/containers/%u-%n"
cat >/etc/slurm/oci.conf <<END
CreateEnvFile=false
RunTimeQuery="$R state %n.%u.%j.%s.%t"
RunTimeRun="exec $R run --bundle %b %n.%u.%j.%s.%t"
RunTimeKill="$R kill %n.%u.%j.%s.%t KILL"
RunTimeDelete="$R delete --force %n.%u.%j.%s.%t"
END

start_node() {
    mkdir "$TEST_HOST/slurm/node$1"
    nsenter --net="/run/netns/node$1" unshare --mount --pid --fork --kill-child --mount-proc --uts --propagation private \
        sh -c "hostname node$1; exec slurmd -D" >>"$TEST_HOST/log.$1" 2>&1 &
}
mkdir -p "$TEST_HOST/slurm/state"
slurmctld -D >>"$TEST_HOST/log" 2>&1 &
for n in $NODES; do
    start_node "$n"
done
idle() { [ "$(sinfo -h -o '%D %t')" = '2 idle' ]; }
until_ok idle || die "nodes: $(sinfo 2>&1; tail -n 5 "$TEST_HOST/log" "$TEST_HOST"/log.*)"

# Slurm fetches no images: a step names a bundle.
bundle() {
    install -d -o "$2" -g "$2" "$TEST_HOST/$1"
    cp -a "$TEST_HOST/rootfs" "$TEST_HOST/$1/rootfs"
    chown "$2:$2" "$TEST_HOST/$1/rootfs"
    (cd "$TEST_HOST/$1" && as "$2" "$RUNTIME" spec "${@:3}")
    sed -i 's/"terminal": true/"terminal": false/' "$TEST_HOST/$1/config.json"
}
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
bundle roots 0
bundle users 1000 --rootless

slurm() { timeout -k 5 60 "$@"; }
step() { slurm srun --container "$TEST_HOST/roots" "$@"; }
ended() { [ -z "$(squeue -h)" ]; }
known() { find "$TEST_HOST/slurm/containers" -mindepth 2 -maxdepth 2; }

tidy() {
    scancel --user root
    until_ok ended
}

check_plain_step() {
    is nodes "$(slurm srun -N 2 hostname | sort | tr '\n' ' ')" 'node1 node2 '
}

check_step_in_a_container() {
    is output "$(step cat /srv/hello)" hello
    has "$(step ls /)" srv
    is pid "$(step sh -c 'echo $$')" 1
}

# One task a node: for two containers on one, slurmstepd of 22.05 ends by a signal before it calls the runtime.
check_a_container_on_each_node() {
    is tasks "$(step -N 2 -n 2 --label sh -c 'echo $SLURM_NTASKS tasks on $SLURM_STEP_NODELIST' | sort)" \
        $'0: 2 tasks on node[1-2]\n1: 2 tasks on node[1-2]'
}

check_exit_code() {
    has "$(fails 7 step sh -c 'echo to stderr >&2; exit 7')" 'to stderr' 'exit code 7'
}

check_input() {
    is output "$(seq 20000 | step wc -l)" 20000
}

check_output_whole() {
    is output "$(step seq 200000 | md5sum)" "$(seq 200000 | md5sum)"
}

check_no_such_command() {
    has "$(fails 127 step nosuch)" nosuch
}

check_batch() {
    local job
    printf '#!/bin/sh\ncat /srv/hello\nexit 3\n' >"$TEST_HOST/batch"
    job=$(slurm sbatch --parsable --container "$TEST_HOST/roots" --output "$TEST_HOST/batch.out" "$TEST_HOST/batch")
    until_ok ended
    has "$(cat "$TEST_HOST/batch.out")" hello
    has "$(scontrol show job "$job")" 'ExitCode=3:0'
}

check_cancel() {
    local job
    step --job-name long sleep 1000 &
    until_has 'long R' squeue -h -o '%j %t'
    job=$(squeue -h -o %A)
    running() { pgrep -fx 'sleep 1000' >/dev/null; }
    until_ok running
    scancel "$job"
    until_ok ended
    gone() { ! running; }
    until_ok gone
}

check_of_a_user() {
    is output "$(as 1000 timeout -k 5 60 srun --container "$TEST_HOST/users" sh -c 'id -u; echo $$')" $'0\n1'
}

check_nothing_is_left() {
    none() { [ -z "$(known)" ]; }
    until_ok none || { known >&2; false; }
}

run_checks "$@"
