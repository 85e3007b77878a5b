//! The compiler against what profiles say: decisions of compiled programs, by interpreting them.

use super::evaluate::{Call, evaluate};
use super::*;
use oci::runtime::{
    Capability, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn decide(filter: &Filter, audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
    evaluate(&filter.program, &Call { number, audit, arguments }).0
}

/// A decision of `json`'s profile on x86_64 with two arguments.
fn on_x86_64(json: &str, number: u32, a: u64, b: u64) -> u32 {
    decide(&compile_for("x86_64", &profile(json)).unwrap(), X86_64, number, [a, b, 0, 0, 0, 0])
}

/// `{"names": ["socket"], "action": ALLOW, "args": [...]}` over a default of EPERM.
fn socket_with(args: &str) -> String {
    format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO",
             "syscalls": [{{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}]}}"#
    )
}

const SOCKET: u32 = 41;

#[test]
fn every_operator_compares_64_bits() {
    let (high, big) = (1u64 << 32, u64::MAX);
    let cases: [(&str, u64, &[u64], &[u64]); 6] = [
        ("NE", high | 5, &[5, high, 0, big], &[high | 5]),
        ("LT", high | 5, &[0, 6, high, high | 4], &[high | 5, high | 6, 2 << 32, big]),
        ("LE", high | 5, &[0, 6, high | 5], &[high | 6, 2 << 32, big]),
        ("EQ", high | 5, &[high | 5], &[5, high, big]),
        ("GE", high | 5, &[high | 5, high | 6, 2 << 32, big], &[0, 6, high | 4]),
        ("GT", high | 5, &[high | 6, 2 << 32, big], &[6, high, high | 5]),
    ];
    for (operator, value, yes, no) in cases {
        let json = socket_with(&format!(r#"{{"index": 1, "op": "SCMP_CMP_{operator}", "value": {value}}}"#));
        for x in yes {
            assert_eq!(on_x86_64(&json, SOCKET, 0, *x), ALLOW, "{x:#x} {operator} {value:#x}");
        }
        for x in no {
            assert_eq!(on_x86_64(&json, SOCKET, 0, *x), EPERM, "{x:#x} {operator} {value:#x}");
        }
    }
    let masked = |mask: u64, value: u64| {
        socket_with(&format!(
            r#"{{"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": {mask}, "valueTwo": {value}}}"#
        ))
    };
    assert_eq!(on_x86_64(&masked(0xf0, 0x20), SOCKET, 0, big & !0xf0 | 0x20), ALLOW);
    assert_eq!(on_x86_64(&masked(0xf0, 0x20), SOCKET, 0, 0x30), EPERM);
    assert_eq!(on_x86_64(&masked(high | 1, high), SOCKET, 0, high | 2), ALLOW);
    assert_eq!(on_x86_64(&masked(high | 1, high), SOCKET, 0, 2), EPERM);
    // As in libseccomp, bits outside of the mask are ignored on both sides.
    assert_eq!(on_x86_64(&masked(0xf0, 0x2f), SOCKET, 0, 0x21), ALLOW);
    // 32-bit ABIs compare what their registers hold.
    let filter = compile_for(
        "x86",
        &profile(&socket_with(r#"{"index": 1, "op": "SCMP_CMP_EQ", "value": 18446744073709551615}"#)),
    )
    .unwrap();
    assert_eq!(decide(&filter, X86, 359, [0, 0xffff_ffff, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn conditions_on_different_arguments_are_and_on_one_argument_or() {
    let and = socket_with(
        r#"{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}, {"index": 1, "op": "SCMP_CMP_EQ", "value": 2}"#,
    );
    let or = socket_with(
        r#"{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}, {"index": 0, "op": "SCMP_CMP_EQ", "value": 2}"#,
    );
    let decisions = |json: &str| [(1, 2), (1, 0), (0, 2), (2, 0)].map(|(a, b)| on_x86_64(json, SOCKET, a, b));
    assert_eq!(decisions(&and), [ALLOW, EPERM, EPERM, EPERM]);
    assert_eq!(decisions(&or), [ALLOW, ALLOW, EPERM, ALLOW]);
}

#[test]
fn a_rule_without_conditions_beats_those_with_and_the_default_action_is_no_rule() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["socket"], "action": "SCMP_ACT_LOG"},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["bind"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "SCMP_CMP_GE", "value": 5}]},
        {"names": ["bind"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_GE", "value": 3}]}]}"#;
    assert_eq!(on_x86_64(json, SOCKET, 1, 0), 0x7ffc_0000);
    assert_eq!([5, 4, 2].map(|a| on_x86_64(json, 49, a, 0)), [0x0003_0000, ALLOW, EPERM]);
}

#[test]
fn actions_carry_their_data() {
    for (action, errno, value) in [
        ("KILL", "", KILL),
        ("KILL_THREAD", "", KILL),
        ("KILL_PROCESS", "", 0x8000_0000),
        ("TRAP", "", 0x0003_0000),
        ("ERRNO", "", EPERM),
        ("ERRNO", r#", "errnoRet": 38"#, ENOSYS),
        ("TRACE", "", 0x7ff0_0001),
        ("TRACE", r#", "errnoRet": 500"#, 0x7ff0_01f4),
        ("LOG", "", 0x7ffc_0000),
        ("ALLOW", "", ALLOW),
        ("NOTIFY", "", 0x7fc0_0000),
    ] {
        let default = if action == "ALLOW" { "LOG" } else { "ALLOW" };
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_{default}",
                 "syscalls": [{{"names": ["socket"], "action": "SCMP_ACT_{action}"{errno}}}]}}"#
        );
        assert_eq!(on_x86_64(&json, SOCKET, 0, 0), value, "{action}");
        assert_eq!(compile(&profile(&json)).unwrap().listener, action == "NOTIFY");
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist_unless_it_lets_them_pass() {
    let with = |default: &str| {
        format!(
            r#"{{"defaultAction": "{default}", "architectures": ["SCMP_ARCH_X86"],
                 "syscalls": [{{"names": ["read", "openat2", "no_such_call"], "action": "SCMP_ACT_NOTIFY"}},
                              {{"names": ["close_range"], "action": "{default}"}}]}}"#
        )
    };
    for (default, newer) in [
        ("SCMP_ACT_ERRNO", ENOSYS),
        ("SCMP_ACT_KILL", ENOSYS),
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
    ] {
        let filter = compile_for("x86_64", &profile(&with(default))).unwrap();
        for audit in [X86_64, X86] {
            assert_eq!(decide(&filter, audit, 437, [0; 6]), 0x7fc0_0000, "openat2");
            // Named, so not newer: the number after it is.
            assert_eq!(decide(&filter, audit, 438, [0; 6]), newer);
            assert_eq!(decide(&filter, audit, 0x3fff_ffff, [0; 6]), newer);
        }
    }
    // A profile without names knows nothing to be newer than.
    assert_eq!(on_x86_64(r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#, 5000, 0, 0), EPERM);
}

#[test]
fn other_abis_are_killed_unless_the_profile_names_them() {
    let json = |architectures: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": [{architectures}],
                 "syscalls": [{{"names": ["read", "execve"], "action": "SCMP_ACT_ALLOW"}}]}}"#
        )
    };
    let filter = compile_for("x86_64", &profile(&json(r#""SCMP_ARCH_AARCH64""#))).unwrap();
    assert_eq!(decide(&filter, X86_64, 0, [0; 6]), ALLOW);
    for (audit, number) in [(X86, 3), (X86_64, X32), (X86_64, X32 | 520), (0xc000_00b7, 63)] {
        assert_eq!(decide(&filter, audit, number, [0; 6]), KILL);
    }
    // -1 is how a tracer skips a call.
    assert_eq!(decide(&filter, X86_64, u32::MAX, [0; 6]), EPERM);
    let all = r#""SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32""#;
    let filter = compile_for("x86_64", &profile(&json(all))).unwrap();
    for (audit, number) in [(X86_64, 59), (X86, 3), (X86, 11), (X86_64, X32), (X86_64, X32 | 520)] {
        assert_eq!(decide(&filter, audit, number, [0; 6]), ALLOW, "{number:#x}");
    }
    // x86_64's execve has another number in x32.
    assert_eq!(decide(&filter, X86_64, X32 | 59, [0; 6]), EPERM);
    let filter = compile_for("aarch64", &profile(&json(r#""SCMP_ARCH_ARM""#))).unwrap();
    assert_eq!(decide(&filter, 0xc000_00b7, 63, [0; 6]), ALLOW);
    assert_eq!(decide(&filter, 0x4000_0028, 3, [0; 6]), ALLOW);
    assert_eq!(decide(&filter, X86_64, 0, [0; 6]), KILL);
}

#[test]
fn multiplexed_calls_are_as_strict_as_what_they_multiplex() {
    let with = |default: &str, action: &str, args: &str| {
        let json = format!(
            r#"{{"defaultAction": "{default}", "architectures": ["SCMP_ARCH_X86"],
                 "syscalls": [{{"names": ["socket", "shmat"], "action": "{action}", "args": [{args}]}}]}}"#
        );
        let filter = compile_for("x86_64", &profile(&json)).unwrap();
        // socketcall(SYS_SOCKET), socketcall(SYS_BIND), ipc(SHMAT).
        [(102, 1), (102, 2), (117, 21)].map(|(number, a)| decide(&filter, X86, number, [a, 0, 0, 0, 0, 0]))
    };
    let condition = r#"{"index": 0, "op": "SCMP_CMP_EQ", "value": 2}"#;
    assert_eq!(with("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", ""), [ALLOW, EPERM, ALLOW]);
    assert_eq!(with("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", condition), [EPERM, EPERM, EPERM]);
    assert_eq!(with("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", condition), [EPERM, ALLOW, EPERM]);
}

#[test]
fn flags_are_the_kernels() {
    let flags = |flags: &str, action: &str| {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW"{flags},
                 "syscalls": [{{"names": ["mkdir"], "action": "{action}"}}]}}"#
        );
        compile(&profile(&json)).unwrap().flags
    };
    let kill = "SCMP_ACT_KILL";
    assert_eq!(flags("", kill), 4);
    assert_eq!(flags(r#", "flags": []"#, kill), 0);
    let all = r#", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                             "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
    assert_eq!(flags(all, kill), 2 | 4);
    assert_eq!(flags(all, "SCMP_ACT_NOTIFY"), 2 | 4 | 8 | 32);
}

#[test]
fn profiles_that_make_no_sense_are_refused_with_their_place() {
    let many: Vec<String> = (0..5000)
        .map(|i| {
            format!(
                r#"{{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                     "args": [{{"index": 1, "op": "SCMP_CMP_EQ", "value": {i}}}]}}"#
            )
        })
        .collect();
    let rules = |list: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{list}]}}"#);
    for (json, place) in [
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(),
            "defaultAction: SCMP_ACT_NOTIFY cannot be used",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#.to_owned(),
            "defaultErrnoRet: 4096",
        ),
        (
            rules(r#"{"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}"#),
            "syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            rules(r#"{"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536}"#),
            "syscalls[0].errnoRet: 65536",
        ),
        (
            rules(
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 1}]}"#,
            ),
            "syscalls[0].args[0].index: 6",
        ),
    ] {
        let error = compile(&profile(&json)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("linux.seccomp.{place}")), "{error}");
        assert_eq!(error.what(), ErrorKind::Invalid);
    }
    let error = compile(&profile(&rules(&many.join(",")))).unwrap_err();
    assert!(error.to_string().contains("the kernel takes 4096"), "{error}");
    assert!(compile_for("vax", &profile(&rules(""))).is_err());
}

/// Programs by the thousand, against a reader of the profile that shares nothing with the compiler.
#[test]
fn random_profiles_decide_as_a_plain_reading_does() {
    const NAMES: [&str; 10] =
        ["read", "write", "openat", "ioctl", "clone", "clone3", "execve", "waitid", "futex_wake", "keyctl"];
    const ACTIONS: [LinuxSeccompAction; 4] = [
        LinuxSeccompAction::ScmpActAllow,
        LinuxSeccompAction::ScmpActErrno,
        LinuxSeccompAction::ScmpActKillProcess,
        LinuxSeccompAction::ScmpActLog,
    ];
    const OPERATORS: [LinuxSeccompOperator; 7] = [
        LinuxSeccompOperator::ScmpCmpNe,
        LinuxSeccompOperator::ScmpCmpLt,
        LinuxSeccompOperator::ScmpCmpLe,
        LinuxSeccompOperator::ScmpCmpEq,
        LinuxSeccompOperator::ScmpCmpGe,
        LinuxSeccompOperator::ScmpCmpGt,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
    ];
    const VALUES: [u64; 9] = [0, 1, 2, 0xff, 0xffff_ffff, 1 << 32, (1 << 32) | 1, 1 << 63, u64::MAX];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..100 {
        let mut syscalls = Vec::new();
        for _ in 0..random(30) {
            let args = (0..random(4))
                .map(|_| {
                    LinuxSeccompArgBuilder::default()
                        .index(random(3))
                        .op(OPERATORS[random(7)])
                        .value(VALUES[random(9)])
                        .value_two(VALUES[random(9)])
                        .build()
                        .unwrap()
                })
                .collect();
            let mut entry = LinuxSyscall::default();
            entry.set_names(vec![NAMES[random(10)].to_owned()]).set_action(ACTIONS[random(4)]);
            entry.set_errno_ret(Some(u32::try_from(random(3)).unwrap())).set_args(Some(args));
            syscalls.push(entry);
        }
        let mut profile = LinuxSeccomp::default();
        profile.set_default_action(ACTIONS[random(4)]).set_syscalls(Some(syscalls));
        profile.set_architectures(Some(vec![Arch::ScmpArchX86]));
        let filter = compile_for("x86_64", &profile).unwrap();
        for abi in &abi::family("x86_64")[..2] {
            for name in NAMES {
                for _ in 0..20 {
                    let mut arguments = [0u64; 6];
                    for a in arguments.iter_mut().take(3) {
                        *a = VALUES[random(9)] & if abi.wide { u64::MAX } else { 0xffff_ffff };
                    }
                    let number = (abi.number)(name).unwrap();
                    let want = read(&profile, abi, name, &arguments);
                    let call = Call { number, audit: abi.audit, arguments };
                    assert_eq!(evaluate(&filter.program, &call).0, want, "{call:x?} of {profile:#?}");
                }
            }
        }
    }
}

/// What `profile` says of a call that it knows, read entry by entry.
fn read(profile: &LinuxSeccomp, abi: &Abi, name: &str, arguments: &[u64; 6]) -> u32 {
    let value = |action: LinuxSeccompAction, errno: Option<u32>| action.as_u32(errno);
    let default = value(profile.default_action(), profile.default_errno_ret());
    let bits = if abi.wide { u64::MAX } else { 0xffff_ffff };
    let holds = |arg: &LinuxSeccompArg| {
        let (x, v) = (arguments[arg.index()] & bits, arg.value() & bits);
        match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => x != v,
            LinuxSeccompOperator::ScmpCmpLt => x < v,
            LinuxSeccompOperator::ScmpCmpLe => x <= v,
            LinuxSeccompOperator::ScmpCmpEq => x == v,
            LinuxSeccompOperator::ScmpCmpGe => x >= v,
            LinuxSeccompOperator::ScmpCmpGt => x > v,
            LinuxSeccompOperator::ScmpCmpMaskedEq => x & v == arg.value_two().unwrap() & v,
        }
    };
    let entries = profile.syscalls().as_ref().unwrap().iter();
    let mut found = None;
    for entry in entries.filter(|e| e.names()[0] == name) {
        let action = value(entry.action(), entry.errno_ret());
        if action == default {
            continue;
        }
        let args = entry.args().as_ref().unwrap();
        let twice = args.iter().enumerate().any(|(i, a)| args[..i].iter().any(|b| b.index() == a.index()));
        if args.is_empty() {
            return action;
        }
        if found.is_none() && if twice { args.iter().any(holds) } else { args.iter().all(holds) } {
            found = Some(action);
        }
    }
    let numbers = profile.syscalls().iter().flatten().flat_map(|e| e.names());
    let newest = numbers.filter_map(|n| (abi.number)(n)).max();
    let number = (abi.number)(name);
    let lenient =
        matches!(profile.default_action(), LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog);
    found.unwrap_or(if !lenient && newest.is_some() && number > newest { ENOSYS } else { default })
}

/// What users of Docker know about its default profile.
#[test]
fn the_default_profile_allows_what_dockers_does() {
    let plain = compile_for("x86_64", &default_profile(&[])).unwrap();
    let number = |name: &str| (abi::family("x86_64")[0].number)(name).unwrap_or_else(|| panic!("{name}"));
    let call = |filter: &Filter, name: &str, a: u64| decide(filter, X86_64, number(name), [a, 0, 0, 0, 0, 0]);
    for name in
        "read openat2 execve clone futex_waitv statx ptrace mseal chmod mknod setuid arch_prctl epoll_pwait2
                 landlock_restrict_self memfd_create name_to_handle_at seccomp capset process_vm_readv"
            .split_whitespace()
    {
        assert_eq!(call(&plain, name, 0), ALLOW, "{name}");
    }
    for name in "mount umount2 setns unshare bpf keyctl add_key request_key kexec_load io_uring_setup userfaultfd
                 open_by_handle_at reboot swapon init_module perf_event_open syslog settimeofday iopl pivot_root chroot
                 quotactl acct move_pages mbind kcmp vhangup nfsservctl fsopen open_tree move_mount pidfd_getfd"
        .split_whitespace()
    {
        assert_eq!(call(&plain, name, 0), EPERM, "{name}");
    }
    assert_eq!(call(&plain, "clone3", 0), ENOSYS);
    assert_eq!(call(&plain, "clone", 17), ALLOW);
    for flag in [0x2_0000u64, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(call(&plain, "clone", flag | 17), EPERM, "{flag:#x}");
    }
    for (persona, decision) in
        [(0, ALLOW), (8, ALLOW), (0x2_0008, ALLOW), (0xffff_ffff, ALLOW), (0x4_0000, EPERM)]
    {
        assert_eq!(call(&plain, "personality", persona), decision, "ADDR_NO_RANDOMIZE and others");
    }
    assert_eq!(decide(&plain, X86_64, 600, [0; 6]), ENOSYS);

    for (capability, names) in [
        (Capability::SysAdmin, "mount setns unshare bpf clone3 fsopen move_mount syslog"),
        (Capability::SysPtrace, "kcmp pidfd_getfd"),
        (Capability::SysChroot, "chroot"),
        (Capability::SysBoot, "reboot"),
        (Capability::SysTime, "settimeofday clock_settime"),
        (Capability::DacReadSearch, "open_by_handle_at"),
        (Capability::Syslog, "syslog"),
        (Capability::SysNice, "mbind set_mempolicy"),
        (Capability::Perfmon, "perf_event_open"),
        (Capability::Bpf, "bpf"),
    ] {
        let filter = compile_for("x86_64", &default_profile(&[capability])).unwrap();
        for name in names.split_whitespace() {
            assert_eq!(call(&filter, name, 0), ALLOW, "{name} with {capability:?}");
        }
    }
    let admin = compile_for("x86_64", &default_profile(&[Capability::SysAdmin])).unwrap();
    assert_eq!(call(&admin, "clone", 0x7e02_0000), ALLOW);
    assert_eq!(call(&admin, "kexec_load", 0), EPERM);
}

/// Kernel modules of the host that a socket loads (CVE-2026-31431), and the hypervisor's sockets.
#[test]
fn the_default_profile_has_no_sockets_to_the_hosts_kernel() {
    let filter = compile_for("x86_64", &default_profile(&[])).unwrap();
    for (audit, number) in [(X86_64, 41), (X86_64, X32 | 41), (X86, 359)] {
        let socket = |family: u64| decide(&filter, audit, number, [family, 1, 0, 0, 0, 0]);
        for family in [0, 1, 2, 10, 16, 17, 29, 31, 37, 39, 41, 45] {
            assert_eq!(socket(family), ALLOW, "{family}");
        }
        assert_eq!([socket(38), socket(40)], [EPERM, EPERM]);
    }
    // The kernel looks at the lower 32 bits of the family only.
    for family in [1 << 32 | 38, 1 << 32 | 40, 1 << 63 | 38, u64::from(u32::MAX) << 32 | 40] {
        assert_eq!(decide(&filter, X86_64, 41, [family, 1, 0, 0, 0, 0]), EPERM, "{family:#x}");
    }
}

#[test]
fn filters_are_short_and_their_decisions_shorter() {
    let filter = compile_for("x86_64", &default_profile(&[])).unwrap();
    assert!(filter.program.len() < 800, "{} instructions", filter.program.len());
    for (audit, numbers) in [(X86_64, 0..470), (X86, 0..470), (X86_64, X32..X32 + 550)] {
        let steps = numbers.map(|number| {
            let call = Call { number, audit, arguments: [u64::MAX; 6] };
            evaluate(&filter.program, &call).1
        });
        let (total, count) = steps.fold((0, 0), |(total, count), n| (total + n, count + 1));
        assert!(total / count < 14, "{} instructions on average", total / count);
    }
}
