//! rcr on a real kernel. One module per subject; each lists its cases at the top.

mod attacks;
mod bad_input;
mod bundle;
mod cdi;
mod checkpoint;
mod checkpoint_kept;
mod checkpoint_refusals;
mod clients;
mod cni;
mod command_line;
mod commands;
mod container_fields;
mod containers;
mod counts;
mod crash;
mod demo;
mod detached;
mod events;
mod exec;
mod files;
mod foreground;
mod health;
mod hostile_images;
mod joining;
mod killed;
mod killed_on_a_network;
mod lifecycle;
mod limits;
mod links;
mod logs;
mod manners;
mod merged_root;
mod mount_fields;
mod mounts;
mod names;
mod net_devices;
mod network;
mod process_fields;
mod processes;
mod prune;
mod published;
mod reach;
mod resources;
mod restart;
mod rootless;
mod run;
mod run_flags;
mod stress;
mod systemd;
mod unified;
mod update;
mod userns;
mod userns_beside;
mod volumes;
mod walk;
mod watch;

fn main() {
    let cases = [
        demo::CASES,
        run::CASES,
        network::CASES,
        run_flags::CASES,
        cdi::CASES,
        volumes::CASES,
        files::CASES,
        prune::CASES,
        names::CASES,
        joining::CASES,
        links::CASES,
        reach::CASES,
        cni::CASES,
        published::CASES,
        walk::CASES,
        exec::CASES,
        watch::CASES,
        manners::CASES,
        containers::CASES,
        detached::CASES,
        killed::CASES,
        killed_on_a_network::CASES,
        logs::CASES,
        health::CASES,
        restart::CASES,
        bad_input::CASES,
        bundle::CASES,
        lifecycle::CASES,
        foreground::CASES,
        commands::CASES,
        resources::CASES,
        systemd::CASES,
        unified::CASES,
        rootless::CASES,
        checkpoint::CASES,
        checkpoint_kept::CASES,
        checkpoint_refusals::CASES,
        command_line::CASES,
        process_fields::CASES,
        container_fields::CASES,
        mount_fields::CASES,
        net_devices::CASES,
        limits::CASES,
        update::CASES,
        userns::CASES,
        userns_beside::CASES,
        events::CASES,
        processes::CASES,
        clients::CASES,
        clients::podman::CASES,
        clients::docker::CASES,
        clients::containerd::CASES,
        clients::cri::CASES,
        attacks::CASES,
        hostile_images::CASES,
        merged_root::CASES,
        mounts::CASES,
        crash::CASES,
        stress::CASES,
        counts::CASES,
    ];
    harness::main(cases.into_iter().flatten(), harness::registry::stop);
}
