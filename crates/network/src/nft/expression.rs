//! The parts of a rule: what it loads from a packet, compares, looks up, and does.

use std::net::IpAddr;

use ipnet::IpNet;
use sys::netlink::Body;

use super::Family;

/// The first of the 32-bit registers (NFT_REG32_00); an address of IPv6 takes four.
pub(crate) const REGISTER: u32 = 8;

/// A field of a packet, or a fact about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// IPv4 source and destination.
    Ip4Source,
    Ip4Destination,
    /// IPv6 source and destination.
    Ip6Source,
    Ip6Destination,
    /// Protocol above IP: `IPPROTO_TCP`, …
    Protocol,
    /// Destination port of TCP, UDP or SCTP.
    Port,
    /// Name of the link that it came from, or goes to.
    InputName,
    OutputName,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    NetworkProtocol,
    /// `RTN_LOCAL` for one of this host's own destination addresses.
    DestinationType,
    /// Bits of conntrack's view: `NF_CT_STATE_BIT(…)`, and `IPS_*`.
    ConnectionState,
    ConnectionStatus,
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Op {
    Equal = 0,
    NotEqual = 1,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Jump(&'static str),
}

/// One step of a rule; the first that does not hold ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Loads a field into a register.
    Load(Field, u32),
    /// Compares a register.
    Compare(u32, Op, Vec<u8>),
    /// Masks a register.
    Mask(u32, Vec<u8>),
    /// Looks up what begins at the first register in a map, and puts what it finds at the second.
    LookUp(&'static str, u32, u32),
    /// New destination: address and port begin at these registers.
    DestinationNat(Family, u32, u32),
    /// New source: the address of the link that the packet leaves by.
    Masquerade,
    /// Counts packets and bytes, for whoever lists the rules.
    Counter,
    Verdict(Verdict),
}

impl Field {
    /// Bytes it takes in a concatenation.
    pub(super) fn room(self) -> u32 {
        match self {
            Field::Ip6Source | Field::Ip6Destination => 16,
            Field::InputName | Field::OutputName => 16,
            _ => 4,
        }
    }

    /// nft(8)'s number for its type, so that a map is listed in words.
    pub(super) fn shown_as(self) -> u32 {
        match self {
            Field::Ip4Source | Field::Ip4Destination => 7,
            Field::Ip6Source | Field::Ip6Destination => 8,
            Field::Protocol => 12,
            Field::Port => 13,
            _ => 0,
        }
    }

    fn load(self, register: u32) -> (&'static str, Vec<(u16, u32)>) {
        // Where in the packet: NFT_PAYLOAD_NETWORK_HEADER 1, NFT_PAYLOAD_TRANSPORT_HEADER 2; offset, length.
        let payload =
            |base, offset, length| ("payload", vec![(1, register), (2, base), (3, offset), (4, length)]);
        // NFT_META_*.
        let meta = |key| ("meta", vec![(2, key), (1, register)]);
        // NFT_CT_*.
        let conntrack = |key| ("ct", vec![(2, key), (1, register)]);
        match self {
            Field::Ip4Source => payload(1, 12, 4),
            Field::Ip4Destination => payload(1, 16, 4),
            Field::Ip6Source => payload(1, 8, 16),
            Field::Ip6Destination => payload(1, 24, 16),
            Field::Port => payload(2, 2, 2),
            Field::InputName => meta(6),
            Field::OutputName => meta(7),
            Field::NetworkProtocol => meta(15),
            Field::Protocol => meta(16),
            Field::ConnectionState => conntrack(0),
            Field::ConnectionStatus => conntrack(2),
            // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR.
            Field::DestinationType => ("fib", vec![(1, register), (2, 3), (3, 2)]),
        }
    }
}

impl Expression {
    pub(super) fn encode(&self) -> Body {
        let data = |value: &[u8]| {
            let mut data = Body::default();
            data.put(1, value);
            data
        };
        let mut body = Body::default();
        let put = |body: &mut Body, pairs: &[(u16, u32)]| {
            for (kind, value) in pairs {
                body.put(*kind, &value.to_be_bytes());
            }
        };
        let name = match self {
            Expression::Load(field, register) => {
                let (name, pairs) = field.load(*register);
                put(&mut body, &pairs);
                name
            }
            Expression::Compare(register, op, value) => {
                put(&mut body, &[(1, *register), (2, *op as u32)]);
                body.put_nested(3, &data(value));
                "cmp"
            }
            Expression::Mask(register, mask) => {
                let length = u32::try_from(mask.len()).unwrap_or(0);
                put(&mut body, &[(1, *register), (2, *register), (3, length)]);
                body.put_nested(4, &data(mask)).put_nested(5, &data(&vec![0; mask.len()]));
                "bitwise"
            }
            Expression::LookUp(map, from, to) => {
                body.put_text(1, map);
                put(&mut body, &[(2, *from), (3, *to)]);
                "lookup"
            }
            Expression::DestinationNat(family, address, port) => {
                // NFT_NAT_DNAT.
                put(&mut body, &[(1, 1), (2, *family as u32), (3, *address), (5, *port)]);
                "nat"
            }
            Expression::Masquerade => "masq",
            Expression::Counter => {
                body.put(1, &[0; 8]).put(2, &[0; 8]);
                "counter"
            }
            Expression::Verdict(verdict) => {
                let (code, chain) = match verdict {
                    Verdict::Drop => (0, None),
                    Verdict::Accept => (1, None),
                    // NFT_JUMP.
                    Verdict::Jump(chain) => (-3, Some(chain)),
                };
                let mut inside = Body::default();
                inside.put(1, &i32::to_be_bytes(code));
                if let Some(chain) = chain {
                    inside.put_text(2, chain);
                }
                let mut value = Body::default();
                value.put_nested(2, &inside);
                // NFT_REG_VERDICT.
                put(&mut body, &[(1, 0)]);
                body.put_nested(2, &value);
                "immediate"
            }
        };
        let mut expression = Body::default();
        expression.put_text(1, name).put_nested(2, &body);
        expression
    }

    /// A field has this value, or any other.
    pub(crate) fn field(field: Field, op: Op, value: &[u8]) -> [Expression; 2] {
        [Expression::Load(field, REGISTER), Expression::Compare(REGISTER, op, value.to_vec())]
    }

    /// The packet came from, or goes to, the link of this name, or not.
    pub(crate) fn link(field: Field, op: Op, name: &str) -> [Expression; 2] {
        // IFNAMSIZ, filled up with NULs.
        let mut value = name.as_bytes().to_vec();
        value.resize(16, 0);
        Expression::field(field, op, &value)
    }

    /// The packet's source, or destination, is in a network.
    pub(crate) fn within(net: IpNet, source: bool) -> Vec<Expression> {
        let (protocol, field, bytes, mask) = match (net.network(), net.netmask(), source) {
            (IpAddr::V4(ip), IpAddr::V4(mask), source) => {
                let field = if source { Field::Ip4Source } else { Field::Ip4Destination };
                (Family::Ip, field, ip.octets().to_vec(), mask.octets().to_vec())
            }
            (IpAddr::V6(ip), IpAddr::V6(mask), source) => {
                let field = if source { Field::Ip6Source } else { Field::Ip6Destination };
                (Family::Ip6, field, ip.octets().to_vec(), mask.octets().to_vec())
            }
            // A network and its mask are of one family.
            _ => return Vec::new(),
        };
        let mut out = Expression::protocol(protocol).to_vec();
        out.extend([
            Expression::Load(field, REGISTER),
            Expression::Mask(REGISTER, mask),
            Expression::Compare(REGISTER, Op::Equal, bytes),
        ]);
        out
    }

    /// The packet is of IPv4, or IPv6.
    pub(crate) fn protocol(family: Family) -> [Expression; 2] {
        Expression::field(Field::NetworkProtocol, Op::Equal, &[family as u8])
    }

    /// One of these bits is set.
    pub(crate) fn any_bit(field: Field, bits: u32) -> [Expression; 3] {
        [
            Expression::Load(field, REGISTER),
            Expression::Mask(REGISTER, bits.to_ne_bytes().to_vec()),
            Expression::Compare(REGISTER, Op::NotEqual, vec![0; 4]),
        ]
    }
}
