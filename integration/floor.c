// The floor that `bench` compares with: what the kernel itself takes to make the container of `runc spec`. The same namespaces,
// cgroups, mounts, devices, masks, pivot_root and exec as rcr-runtime's, and nothing else: nothing is read, checked, recorded or undone on failure.
// usage: floor ROOTFS NAME CGROUP_DIRECTORY... -- PROGRAM [ARG...]
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call) do { if ((call) < 0) err(1, "floor: %s", #call); } while (0)
#define FIXED (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static void make_mount(const char *type, const char *at, unsigned long flags, const char *data) {
    mkdir(at, 0755);
    MUST(mount(type, at, type, flags, data));
}

static void in_the_container(const char *rootfs, char **cgroups, int n, char **program) {
    MUST(sethostname("floor", 5));
    MUST(mount("", "/", NULL, MS_REC | MS_SLAVE, NULL));
    MUST(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
    MUST(chdir(rootfs));
    make_mount("proc", "proc", 0, NULL);
    make_mount("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    make_mount("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    make_mount("tmpfs", "dev/shm", FIXED, "mode=1777,size=65536k");
    make_mount("mqueue", "dev/mqueue", FIXED, NULL);
    make_mount("sysfs", "sys", FIXED | MS_RDONLY, NULL);
    make_mount(n > 1 ? "tmpfs" : "cgroup2", "sys/fs/cgroup", FIXED, n > 1 ? "mode=755" : NULL);
    for (int i = 0; i < n && n > 1; i++) {
        char at[4096];
        const char *hierarchy = cgroups[i] + strlen("/sys/fs/cgroup/");
        snprintf(at, sizeof at, "sys/fs/cgroup/%.*s", (int)strcspn(hierarchy, "/"), hierarchy);
        mkdir(at, 0755);
        MUST(mount(cgroups[i], at, NULL, MS_BIND | MS_REC, NULL));
        MUST(mount(NULL, at, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | FIXED, NULL));
    }
    const struct { const char *at; int minor; } devices[] = {
        {"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9}};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        MUST(mknod(devices[i].at, S_IFCHR | 0666, makedev(1, devices[i].minor)));
    MUST(mknod("dev/tty", S_IFCHR | 0666, makedev(5, 0)));
    MUST(symlink("/proc/self/fd", "dev/fd"));
    MUST(symlink("/proc/self/fd/0", "dev/stdin"));
    MUST(symlink("/proc/self/fd/1", "dev/stdout"));
    MUST(symlink("/proc/self/fd/2", "dev/stderr"));
    MUST(symlink("pts/ptmx", "dev/ptmx"));
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    MUST(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
    const char *readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++)
        if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) == 0)
            MUST(mount(NULL, readonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | FIXED, NULL));
    const char *files[] = {"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) mount("/dev/null", files[i], NULL, MS_BIND, NULL);
    const char *directories[] = {"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware"};
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        if (access(directories[i], F_OK) == 0) MUST(mount("tmpfs", directories[i], "tmpfs", MS_RDONLY, NULL));
    MUST(setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 1024}));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        if (capability != 5 && capability != 10 && capability != 29) MUST(prctl(PR_CAPBSET_DROP, capability));
    execv(program[0], program);
    err(1, "floor: exec %s", program[0]);
}

int main(int argc, char **argv) {
    int end = 3;
    while (end < argc && strcmp(argv[end], "--")) end++;
    if (argc < 5 || end + 1 >= argc) errx(2, "usage: floor ROOTFS NAME CGROUP_DIRECTORY... -- PROGRAM [ARG...]");
    int n = end - 3, v2 = -1, tasks[32];
    char *made[32];
    for (int i = 0; i < n && i < 32; i++) {
        if (asprintf(&made[i], "%s/%s", argv[3 + i], argv[2]) < 0) err(1, "floor");
        MUST(mkdir(made[i], 0755));
        int dir = open(made[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        MUST(dir);
        // Version 2 has no such file; a process is born in its cgroup. One of cpuset takes nobody before it has processors.
        tasks[i] = openat(dir, "tasks", O_WRONLY | O_CLOEXEC);
        if (tasks[i] < 0) { v2 = dir; continue; }
        const char *inherited[] = {"cpuset.cpus", "cpuset.mems"};
        for (int k = 0; k < 2; k++) {
            char value[256];
            int file = openat(dir, inherited[k], O_WRONLY | O_CLOEXEC), above = openat(dir, k ? "../cpuset.mems" : "../cpuset.cpus", O_RDONLY | O_CLOEXEC);
            if (file < 0) continue;
            ssize_t length = read(above, value, sizeof value);
            MUST(write(file, value, length));
            close(file);
            close(above);
        }
    }
    struct clone_args args = {.exit_signal = SIGCHLD, .cgroup = v2,
        .flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | (n > 1 ? 0 : CLONE_NEWCGROUP) | (v2 >= 0 ? CLONE_INTO_CGROUP : 0)};
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    MUST(pid);
    if (pid == 0) {
        for (int i = 0; i < n; i++)
            if (tasks[i] >= 0) MUST(write(tasks[i], "0", 1));
        in_the_container(argv[1], made, n, argv + end + 1);
    }
    int status;
    MUST(waitpid(pid, &status, 0));
    for (int i = 0; i < n; i++) MUST(rmdir(made[i]));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
