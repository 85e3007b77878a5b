//! `rcr container prune`, `rcr image prune`, `rcr system prune`: what is not needed any more goes.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use engine::{ContainerSummary, Engine, ImageSummary, RemovedImage};

use super::{agreed, images, network, say, volume};
use crate::error::Error;
use crate::filter::{self, Filter};
use crate::print::human;

/// What is pruned by a command of one of docker's groups.
#[derive(Debug)]
pub(crate) enum Prune {
    Containers(Containers),
    Images(Images),
}

/// Remove containers that do not run
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rcr container prune -f --filter until=24h")]
pub(crate) struct Containers {
    /// Remove those that fit only: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER", value_parser = filter::parse_prune)]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove images without a name, and what no image needs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rcr image prune -af --filter until=240h")]
pub(crate) struct Images {
    /// Remove also images with a name that no container uses
    #[arg(short, long)]
    all: bool,
    /// Remove those that fit only: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=BOOL
    #[arg(long, value_name = "FILTER", value_parser = parse_image_filter)]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove containers that do not run, networks without any, images without a name, and what no image needs
#[derive(Debug, Args)]
pub(crate) struct System {
    /// Remove also images with a name that no container uses
    #[arg(short, long)]
    all: bool,
    /// Remove what fits only: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER", value_parser = filter::parse_prune)]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove also volumes without a name that no container uses
    #[arg(long)]
    volumes: bool,
}

fn parse_image_filter(text: &str) -> Result<Filter, String> {
    let dangling = filter::parse(text, &["dangling"]);
    match dangling.as_ref().map(|filter| filter.value.as_str()) {
        Ok("true" | "1" | "false" | "0") => dangling,
        Ok(_) => Err("dangling wants true or false".to_owned()),
        Err(_) => filter::parse_prune(text).map_err(|why| why.replace(" label!", " label! dangling")),
    }
}

impl Prune {
    /// `prune` as a command of one of docker's groups.
    pub(crate) fn command_of_group(group: &str) -> Command {
        let command = Command::new("prune");
        if group == "image" { Images::augment_args(command) } else { Containers::augment_args(command) }
    }

    /// What was typed, if it was the `prune` of that group.
    pub(crate) fn of_group(group: &str, matches: &mut ArgMatches) -> Option<Result<Self, clap::Error>> {
        let (_, mut typed) =
            (matches.subcommand_name()? == "prune").then(|| matches.remove_subcommand())??;
        Some(match group {
            "image" => Images::from_arg_matches_mut(&mut typed).map(Self::Images),
            _ => Containers::from_arg_matches_mut(&mut typed).map(Self::Containers),
        })
    }

    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        match self {
            Self::Containers(containers) => containers.execute(engine),
            Self::Images(images) => images.execute(engine),
        }
    }
}

impl Containers {
    fn execute(self, engine: &Engine) -> Result<(), Error> {
        if !self.force && !agreed("This removes all containers that do not run.")? {
            return Ok(());
        }
        let (ids, bytes) = remove_containers(engine, &self.filter)?;
        say(&format!("{}{}", deleted("Containers", &ids), reclaimed(bytes)))
    }
}

impl Images {
    fn execute(mut self, engine: &Engine) -> Result<(), Error> {
        // The last one counts, as of any flag.
        let dangling = self.filter.iter().rfind(|filter| filter.key == "dangling");
        let all = dangling.map_or(self.all, |filter| matches!(filter.value.as_str(), "false" | "0"));
        self.filter.retain(|filter| filter.key != "dangling");
        if !self.force && !agreed(&format!("This removes {}.", which_images(all)))? {
            return Ok(());
        }
        let (images, bytes) = remove_images(engine, all, &self.filter)?;
        say(&format!("{}{}", deleted_images(&images), reclaimed(bytes)))
    }
}

impl System {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        if self.volumes && self.filter.iter().any(|filter| filter.key == "until") {
            let why = "the filter until is not supported with --volumes, which outlive what wrote them";
            return Err(Error::Usage(format!("{why}; see 'rcr system prune --help'")));
        }
        let volumes = if self.volumes { ", all volumes without a name that no container uses" } else { "" };
        let what = format!(
            "This removes all containers that do not run, all networks without any{volumes}, and {}.",
            which_images(self.all)
        );
        if !self.force && !agreed(&what)? {
            return Ok(());
        }
        let (containers, mut bytes) = remove_containers(engine, &self.filter)?;
        let networks = network::prune(engine, &self.filter)?;
        let mut text = deleted("Containers", &containers) + &deleted("Networks", &networks);
        if self.volumes {
            let (names, more) = volume::remove_unused(engine, false, &self.filter)?;
            text += &deleted("Volumes", &names);
            bytes += more;
        }
        let (images, more) = remove_images(engine, self.all, &self.filter)?;
        say(&format!("{text}{}{}", deleted_images(&images), reclaimed(bytes + more)))
    }
}

fn remove_containers(engine: &Engine, filters: &[Filter]) -> Result<(Vec<String>, u64), Error> {
    let fits =
        |container: &ContainerSummary| filter::prunable(filters, Some(container.created), &container.labels);
    Ok(engine::prune_containers(engine, fits)?)
}

fn remove_images(engine: &Engine, all: bool, filters: &[Filter]) -> Result<(Vec<RemovedImage>, u64), Error> {
    let fits = |image: &ImageSummary| {
        (all || image.names.is_empty()) && filter::prunable(filters, images::created(image), &image.labels)
    };
    Ok(engine::prune_images(engine, fits)?)
}

fn which_images(all: bool) -> &'static str {
    if all { "all images that no container uses" } else { "all images without a name" }
}

/// docker's list of what went; nothing for nothing.
pub(super) fn deleted(what: &str, names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("Deleted {what}:\n{}\n\n", names.join("\n")),
    }
}

/// As docker words it here, and not as `rmi`.
fn deleted_images(images: &[RemovedImage]) -> String {
    let line = |image: &RemovedImage| match image {
        RemovedImage::Untagged(name) => format!("untagged: {}", name.familiar()),
        RemovedImage::Deleted(id) => format!("deleted: {id}"),
    };
    deleted("Images", &images.iter().map(line).collect::<Vec<_>>())
}

pub(super) fn reclaimed(bytes: u64) -> String {
    format!("Total reclaimed space: {}\n", human::size(bytes))
}
