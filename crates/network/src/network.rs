//! A network as it is described and kept: name, driver, subnets, options.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How containers are joined to a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// By a cable to a bridge of the host, which translates addresses for them.
    #[default]
    Bridge,
    /// As hosts of their own on the wire of one of the host's links.
    Macvlan,
    /// As further IP addresses of one of the host's links.
    Ipvlan,
}

/// One range of addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The addresses that are on the network.
    pub subnet: IpNet,
    /// The address of the host on a bridge; of a router elsewhere.
    pub gateway: Option<IpAddr>,
    /// Those that are given to containers that ask for none; all of `subnet` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<IpNet>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// How containers are joined to it.
    pub driver: Driver,
    /// The bridge, or the host's link that macvlan and ipvlan build on.
    pub link: String,
    /// IPv4 first.
    pub subnets: Vec<Subnet>,
    /// Nothing beyond the network can be reached from it.
    #[serde(default)]
    pub internal: bool,
    /// Longest packet, in bytes; the kernel's choice if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Labels that somebody gave it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

impl Subnet {
    /// A subnet with its first address as gateway.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is too small for a gateway and a container, or `gateway` or `ip_range` lies outside.
    pub fn new(subnet: IpNet, gateway: Option<IpAddr>, ip_range: Option<IpNet>) -> Result<Subnet, Error> {
        let subnet = subnet.trunc();
        // A gateway, a container, and for IPv4 the network's own address and broadcast.
        let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
        if host_bits < 2 {
            return Err(Error::Invalid(format!("subnet {subnet} has no room for a gateway and a container")));
        }
        let gateway = gateway.or_else(|| subnet.hosts().find(|ip| *ip != subnet.network()));
        if let Some(outside) = gateway.filter(|ip| !subnet.contains(ip)) {
            return Err(Error::Invalid(format!("gateway {outside} is not in subnet {subnet}")));
        }
        if let Some(outside) = ip_range.filter(|range| !subnet.contains(range)) {
            return Err(Error::Invalid(format!("ip range {outside} is not in subnet {subnet}")));
        }
        Ok(Subnet { subnet, gateway, ip_range: ip_range.map(|range| range.trunc()) })
    }

    /// Addresses for containers, lowest first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let Subnet { subnet, gateway, ip_range } = *self;
        let (first, last) = (subnet.network(), subnet.broadcast());
        ip_range.unwrap_or(subnet).hosts().filter(move |ip| {
            // hosts() leaves out the ends of the range, not those of the subnet.
            *ip != first && (*ip != last || last.is_ipv6()) && Some(*ip) != gateway
        })
    }
}

impl Network {
    /// Where its containers are known by name: the bridge's address.
    pub fn name_server(&self) -> Option<IpAddr> {
        let has_one = self.driver == Driver::Bridge && self.name != crate::DEFAULT;
        self.subnets.iter().filter(|_| has_one).find_map(|subnet| subnet.gateway)
    }

    /// Where the host's resolvers can be asked through the bridge, on a network without names.
    pub fn stand_in(&self) -> Option<IpAddr> {
        let has_one = self.driver == Driver::Bridge && self.name == crate::DEFAULT && !self.internal;
        self.subnets.iter().filter(|_| has_one).find_map(|subnet| subnet.gateway)
    }
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(text: &str) -> Result<Driver, Error> {
        match text {
            "bridge" => Ok(Driver::Bridge),
            "macvlan" => Ok(Driver::Macvlan),
            "ipvlan" => Ok(Driver::Ipvlan),
            _ => {
                let text: String = text.chars().take(100).collect();
                Err(Error::Invalid(format!("no such driver {text:?}: wants bridge, macvlan or ipvlan")))
            }
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str, range: Option<&str>) -> Subnet {
        Subnet::new(text.parse().unwrap(), None, range.map(|r| r.parse().unwrap())).unwrap()
    }

    #[test]
    fn containers_get_neither_the_ends_nor_the_gateway() {
        let of = |subnet: Subnet| subnet.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>();
        assert_eq!(of(subnet("10.1.2.7/30", None)), ["10.1.2.6"]);
        assert_eq!(subnet("10.1.2.0/24", None).gateway, Some("10.1.2.1".parse().unwrap()));
        assert_eq!(subnet("10.1.2.0/24", None).addresses().count(), 253);
        assert_eq!(of(subnet("10.1.2.0/24", Some("10.1.2.8/30"))), ["10.1.2.9", "10.1.2.10"]);
        let six = subnet("fd00::/64", None);
        assert_eq!(six.gateway, Some("fd00::1".parse().unwrap()));
        assert_eq!(six.addresses().next(), Some("fd00::2".parse().unwrap()));
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let new = |net: &str, gateway: &str| Subnet::new(net.parse().unwrap(), gateway.parse().ok(), None);
        assert!(new("10.0.0.0/24", "10.0.1.1").unwrap_err().to_string().contains("10.0.1.1"));
        assert!(new("10.0.0.0/31", "").is_err() && new("fd00::/127", "").is_err());
        assert!(Subnet::new("10.0.0.0/24".parse().unwrap(), None, "10.0.0.0/16".parse().ok()).is_err());
    }
}
