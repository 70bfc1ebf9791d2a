#!/usr/bin/env bash
# A real Slurm on this machine, in a folder of its own, for tests: munge, slurmctld and a slurmd a node, all listening on the loopback only.
#   tests/slurm.sh start FOLDER [NODES [CORES [MEMORY]]]   e.g. `start /tmp/slurm 2 2 8000`: two nodes of two cores and 8000 MB, and one GPU each in name
#   eval "$(tests/slurm.sh env FOLDER)"                    then sbatch, squeue, scontrol and Snakemake's Slurm executor speak to it
#   tests/slurm.sh lose FOLDER NODE                        kills the slurmd of a node and all that ran on it, with no word to Slurm, as a node that lost its power
#   tests/slurm.sh back FOLDER NODE                        starts it again
#   tests/slurm.sh stop FOLDER                             ends what `start` and `back` started; FOLDER stays, with its logs
# It needs Debian's or Ubuntu's slurm-wlm and munge (apt install slurm-wlm munge; 22.05 or later) and root, for slurmd starts jobs as their owners.
# It needs no cgroups, no database, no free port of Slurm's own and no /etc/slurm. The GPUs are counted, not looked for: no such device is opened.
set -euo pipefail
say() { echo "slurm.sh: $*" >&2; }
fail() { say "$*"; exit 1; }
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
action=$1; folder=$(realpath -m "$2"); conf=$folder/slurm.conf

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
alive() { [ -s "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null; }
wait_for() {  # WHAT SECONDS COMMAND...: until the command succeeds
    local what=$1 until=$((SECONDS + $2)); shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || fail "$what did not come up; the logs are in $folder"
        sleep .2
    done
}
up() { case $(sinfo -h -n "$1" -o %T) in idle|mixed|allocated) ;; *) false;; esac; }
begin() {  # NAME COMMAND...: in the background, its process id kept
    local name=$1; shift
    nohup "$@" >>"$folder/$name.out" 2>&1 </dev/null & echo $! >"$folder/$name.pid"
}
begin_node() { mkdir -p "$folder/spool-$1"; begin "slurmd-$1" slurmd -D -N "$1" -f "$conf"; }
end() {  # NAME: by its own process id, and wait
    alive "$1" || { rm -f "$folder/$1.pid"; return 0; }
    local pid; pid=$(cat "$folder/$1.pid")
    kill "$pid"; for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep .1; done
    if kill -9 "$pid" 2>/dev/null; then say "$1 had to be killed"; fi
    rm -f "$folder/$1.pid"
}
shepherd() { local p; p=$(ps -o ppid= -p "$1" 2>/dev/null | tr -d ' '); case $(ps -o comm= -p "${p:-0}" 2>/dev/null) in slurmstepd) echo "$p";; esac; }

start() {
    local nodes=${1:-1} cores=${2:-2} memory=${3:-4000} host names i
    for c in munged slurmctld slurmd sinfo; do command -v $c >/dev/null || fail "$c is not installed: apt install slurm-wlm munge"; done
    [ "$(id -u)" = 0 ] || fail "slurmd starts jobs as their owners and has to be root"
    [ ! -e "$conf" ] || fail "$folder holds a Slurm already: stop it and remove the folder, or name another"
    host=$(hostname -s); names=$(seq -s, -f "mpst%g" 1 "$nodes")
    mkdir -p "$folder/state"; chmod 711 "$folder"
    (umask 077; head -c 1024 /dev/urandom >"$folder/munge.key")
    cat >"$conf" <<CONF
ClusterName=mpst
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld-own.pid
SlurmdPidFile=$folder/slurmd-%n-own.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
# no cgroups in a container: processes are followed by their parents, and memory by looking at it
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
# no database: finished jobs are remembered for an hour, which is what squeue is asked for
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
MinJobAge=3600
# a node that is silent for 20 s is lost, and its jobs are put back into the queue at once
SlurmdTimeout=20
KillWait=5
JobRequeue=1
ReturnToService=2
GresTypes=gpu
CONF
    for i in $(seq "$nodes"); do echo "NodeName=mpst$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=$cores RealMemory=$memory Gres=gpu:1"; done >>"$conf"
    echo "PartitionName=all Nodes=$names Default=YES MaxTime=INFINITE State=UP" >>"$conf"
    echo "NodeName=$names Name=gpu File=/dev/null" >"$folder/gres.conf"
    echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf"
    # Snakemake takes SLURM_* out of the environment of a job before it calls srun in it; here srun has no other way to know its Slurm
    mkdir -p "$folder/bin"; printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$conf" "$(command -v srun)" >"$folder/bin/srun"; chmod +x "$folder/bin/srun"
    trap 'stop' ERR
    begin munge munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munge-own.pid" --log-file="$folder/munge.log" --seed-file="$folder/munge.seed"
    wait_for munged 10 munge -n -S "$folder/munge.socket"
    begin slurmctld slurmctld -D -f "$conf"
    wait_for slurmctld 20 scontrol ping
    for i in $(seq "$nodes"); do begin_node "mpst$i"; done
    for i in $(seq "$nodes"); do wait_for "slurmd of mpst$i" 30 up "mpst$i"; done
    say "$(sinfo -V): $nodes node(s) of $cores cores and $memory MB are up"
}
running() {  # [NODE]: the processes that this Slurm's jobs have (on that node), and the shepherd of each: their environment says whose they are
    local job pids="" shepherds
    for job in /proc/[0-9]*; do
        if tr '\0' '\n' 2>/dev/null <"$job/environ" | awk -v c="SLURM_CONF=$conf" -v n="SLURMD_NODENAME=${1:-}" '$0 == c {a=1} n == "SLURMD_NODENAME=" ? /^SLURMD_NODENAME=/ : $0 == n {b=1} END {exit !(a && b)}'; then pids+=" ${job#/proc/}"; fi
    done
    shepherds=$(for job in $pids; do shepherd "$job"; done | sort -u)
    [ -n "${1:-}" ] || for job in $(ps -C slurmstepd -o pid=); do if tr '\0' '\n' 2>/dev/null <"/proc/$job/environ" | grep -qx "SLURM_CONF=$conf"; then shepherds+=" $job"; fi; done
    echo $shepherds $pids  # shepherds first: they are the ones who would report
}
lose() {  # as a node without power: nothing of it says goodbye, and Slurm has to notice
    alive "slurmd-$1" || fail "$1 is not up"
    local pids; pids=$(running "$1")
    kill -9 $pids "$(cat "$folder/slurmd-$1.pid")" 2>/dev/null || true
    rm -f "$folder/slurmd-$1.pid"
}
stop() {
    local f pids
    trap - ERR
    if alive slurmctld && timeout 5 scancel -u "$(id -un)" 2>/dev/null; then
        for f in $(seq 50); do [ -n "$(timeout 5 squeue -h -t R,CG 2>/dev/null)" ] || break; sleep .2; done
    fi
    for f in "$folder"/slurmd-*.pid; do case $f in *-own.pid|*\**) ;; *) end "$(basename "$f" .pid)";; esac; done
    pids=$(running); [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
    end slurmctld; end munge
}
export SLURM_CONF=$conf
case $action in
    start) shift 2; start "$@";;
    env) [ -e "$conf" ] || fail "there is no Slurm in $folder"; echo "export SLURM_CONF='$conf' PATH='$folder/bin':\"\$PATH\"";;
    lose|back) [ $# = 3 ] || usage; if [ "$action" = lose ]; then lose "$3"; else begin_node "$3"; wait_for "slurmd of $3" 30 up "$3"; fi;;
    stop) stop;;
    *) usage;;
esac
