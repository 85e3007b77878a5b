# What a process can see of the container it is in, for comparing two runtimes. Left out is what two containers differ in
# anyway, the signals that the caller ignores, and the options by which runtimes make the same thing (a tmpfs as a mask, its size).
id
pwd
hostname
env | sort
grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Umask)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj /proc/self/uid_map /proc/self/setgroups
awk '{ for (i = 7; $i != "-"; i++); print $5, $6, $(i + 1) }' /proc/self/mountinfo | grep -v '^/sys/fs/cgroup ' | sort
find /dev -exec stat -c '%n %F %a %u:%g %t:%T' {} + | sort
sed 's/[0-9a-f]\{64\}/ID/g' /proc/self/cgroup
for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes \
    memory/memory.swappiness cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus \
    pids/pids.max devices/devices.list memory.max memory.swap.max memory.low cpu.max cpu.weight cpuset.cpus pids.max
do
    test -e /sys/fs/cgroup/$file && echo $file $(cat /sys/fs/cgroup/$file)
done
for name in net/ipv4/ip_unprivileged_port_start kernel/shm_rmid_forced fs/mqueue/msg_max; do cat /proc/sys/$name; done
for path in /proc/kcore /proc/keys /proc/timer_list /proc/acpi /proc/scsi /sys/firmware; do
    echo $path $(ls $path 2>&1 | wc -l) $(cat $path 2>&1 | head -c 1 | wc -c)
done
for path in /proc/sysrq-trigger /proc/sys/kernel/hostname /proc/irq /sys/kernel; do test -w $path && echo can write $path; done
ls /proc/self/fd | wc -l
cat /proc/1/comm
stty -a 2>&1 | head -n 2
exit 0
