//! What `--network` asks for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The network a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// An own network namespace with nothing but loopback in it.
    None,
    /// The host's network namespace.
    Host,
    /// The network namespace of the container with this name or ID, which runs.
    Container(String),
    /// An own network namespace that CNI plugins join to these networks.
    Cni(Vec<Join>),
    /// An own network namespace that is joined to these networks, the default route through the first.
    Joined(Vec<Join>),
}

/// A wish to be on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Name or ID of the network.
    pub network: String,
    /// The IPv4 address to have, if it is not to be chosen.
    #[serde(default)]
    pub ip: Option<Ipv4Addr>,
    /// The IPv6 address to have.
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    /// The address on the wire to have.
    #[serde(default)]
    pub mac: Option<[u8; 6]>,
    /// Further names to be found by.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// The network `bridge`, as docker's users expect.
impl Default for Mode {
    fn default() -> Mode {
        Mode::Joined(vec![Join { network: crate::DEFAULT.to_owned(), ..Join::default() }])
    }
}

/// Why a text is not a network mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid network {text:?}: {why}")]
pub struct ParseModeError {
    text: String,
    why: &'static str,
}

/// One `--network`: `none`, `host`, `container:NAME`, or `[cni:]NAME[:KEY=VALUE,…]` with the keys `ip`, `ip6`, `mac` and
/// `alias`.
impl FromStr for Mode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why| Err(ParseModeError { text: text.chars().take(100).collect(), why });
        match text {
            "none" => return Ok(Self::None),
            "host" => return Ok(Self::Host),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("container:") {
            return if name.is_empty() {
                fail("wants container:NAME")
            } else {
                Ok(Self::Container(name.to_owned()))
            };
        }
        // A network may be called cni, too: what follows its name are options.
        let is_name = |rest: &&str| !rest.split([':', ',']).next().is_some_and(|word| word.contains('='));
        let plugins = text.strip_prefix("cni:").filter(is_name);
        let (name, options) =
            plugins.unwrap_or(text).split_once(':').unwrap_or((plugins.unwrap_or(text), ""));
        if name.is_empty() && plugins.is_some() {
            return fail("wants cni:NAME, with the name of a list of plugins in /etc/cni/net.d");
        }
        if name.is_empty() {
            return fail("wants none, host, or the name of a network");
        }
        // docker's word for the network of containers that name none.
        let name = if name == "default" && plugins.is_none() { crate::DEFAULT } else { name };
        let mut join = Join { network: name.to_owned(), ..Join::default() };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("ip", value)) => match value.parse() {
                    Ok(IpAddr::V4(ip)) => join.ip = Some(ip),
                    Ok(IpAddr::V6(ip)) => join.ip6 = Some(ip),
                    Err(_) => return fail("ip wants an address"),
                },
                Some(("ip6", value)) => match value.parse() {
                    Ok(ip) => join.ip6 = Some(ip),
                    Err(_) => return fail("ip6 wants an IPv6 address"),
                },
                Some(("mac", value)) => match parse_mac(value) {
                    Some(mac) => join.mac = Some(mac),
                    None => return fail("mac wants six bytes such as 02:00:00:00:00:01"),
                },
                Some(("alias", value)) if !value.is_empty() => join.aliases.push(value.to_owned()),
                _ => return fail("after the colon wants ip=, ip6=, mac= or alias="),
            }
        }
        Ok(if plugins.is_some() { Self::Cni(vec![join]) } else { Self::Joined(vec![join]) })
    }
}

/// `02:00:00:00:00:01`, not that of a group.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|part| if part.len() == 2 { u8::from_str_radix(part, 16).ok() } else { None })
        .collect();
    bytes?.try_into().ok().filter(|mac: &[u8; 6]| mac[0] & 1 == 0)
}

impl Mode {
    /// Several `--network` together: networks only. None at all is the default one.
    ///
    /// # Errors
    /// `none` or `host` beside another one; a network twice.
    pub fn merge(modes: Vec<Mode>) -> Result<Mode, String> {
        let mut modes = modes.into_iter();
        let Some(first) = modes.next() else { return Ok(Mode::default()) };
        let join = |mut all: Vec<Join>, more: Vec<Join>| {
            for join in more {
                if all.iter().any(|other| other.network == join.network) {
                    return Err(format!("network {} is given twice", join.network));
                }
                all.push(join);
            }
            Ok(all)
        };
        modes.try_fold(first, |all, mode| match (all, mode) {
            (Mode::Joined(all), Mode::Joined(more)) => join(all, more).map(Mode::Joined),
            (Mode::Cni(all), Mode::Cni(more)) => join(all, more).map(Mode::Cni),
            (all, mode) if all == mode => Ok(all),
            (all, mode) => Err(format!("network {all} cannot be combined with {mode}")),
        })
    }

    /// The networks of rcr's own that are joined.
    pub fn joins(&self) -> &[Join] {
        match self {
            Mode::Joined(joins) => joins,
            Mode::None | Mode::Host | Mode::Container(_) | Mode::Cni(_) => &[],
        }
    }

    /// Whether the network namespace is nobody else's.
    pub fn is_own(&self) -> bool {
        !matches!(self, Mode::Host | Mode::Container(_))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(name) => write!(f, "container:{name}"),
            Self::Cni(joins) => {
                let names: Vec<String> = joins.iter().map(|join| format!("cni:{}", join.network)).collect();
                f.write_str(&names.join(","))
            }
            // It was taken off all of them.
            Self::Joined(joins) if joins.is_empty() => f.write_str("none"),
            Self::Joined(joins) => {
                let names: Vec<&str> = joins.iter().map(|join| join.network.as_str()).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Mode {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn modes_and_networks() {
        assert_eq!((parse("none"), parse("host")), (Mode::None, Mode::Host));
        let join = |network: &str| Join { network: network.to_owned(), ..Join::default() };
        assert_eq!(parse("web"), Mode::Joined(vec![join("web")]));
        assert_eq!(parse("default"), parse("bridge"));
        assert_eq!(parse("container:web"), Mode::Container("web".to_owned()));
        let full = parse("web:ip=10.0.0.5,ip6=fd00::5,mac=02:00:00:00:00:01,alias=a,alias=b");
        let wanted = Join {
            ip: "10.0.0.5".parse().ok(),
            ip6: "fd00::5".parse().ok(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            aliases: vec!["a".to_owned(), "b".to_owned()],
            ..join("web")
        };
        assert_eq!(full, Mode::Joined(vec![wanted]));
        let plugins = parse("cni:web:ip=10.0.0.5");
        assert_eq!(plugins, Mode::Cni(vec![Join { ip: "10.0.0.5".parse().ok(), ..join("web") }]));
        assert_eq!(plugins.to_string(), "cni:web");
        assert!(plugins.joins().is_empty() && plugins.is_own());
        assert_eq!(parse("cni:default"), Mode::Cni(vec![join("default")]));
        assert_eq!(
            parse("cni:alias=a"),
            Mode::Joined(vec![Join { aliases: vec!["a".to_owned()], ..join("cni") }]),
            "a network may be called so"
        );
        assert_eq!(parse("cni"), Mode::Joined(vec![join("cni")]));
        for bad in [
            "",
            "cni:",
            "cni::ip=10.0.0.5",
            "container:",
            ":ip=1.2.3.4",
            "web:ip=x",
            "web:mac=01:00:00:00:00:01",
            "web:mac=1",
            "web:x=y",
            "web:alias=",
        ] {
            assert!(bad.parse::<Mode>().is_err(), "{bad}");
        }
    }

    #[test]
    fn several_networks_are_merged() {
        let merge = |texts: &[&str]| Mode::merge(texts.iter().map(|t| parse(t)).collect());
        assert_eq!(merge(&["a", "b"]).unwrap().to_string(), "a,b");
        assert_eq!(merge(&["cni:a", "cni:b"]).unwrap().to_string(), "cni:a,cni:b");
        assert!(merge(&["cni:a", "b"]).is_err() && merge(&["cni:a", "cni:a"]).is_err());
        assert_eq!(merge(&[]).unwrap(), parse("bridge"));
        assert_eq!(merge(&["host", "host"]).unwrap(), Mode::Host);
        for bad in
            [&["a", "host"][..], &["none", "a"], &["a", "b", "a"], &["none", "host"], &["container:x", "a"]]
        {
            assert!(merge(bad).is_err(), "{bad:?}");
        }
    }
}
