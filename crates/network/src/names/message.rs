//! DNS messages (RFC 1035), as much of them as a server needs that knows addresses and names of containers: a question is
//! read, an answer written. Whatever comes is untrusted: nothing here panics, loops or follows a pointer.

use std::net::IpAddr;

/// Length of the header, in bytes.
const HEADER: usize = 12;
/// Longest name (RFC 1035, 2.3.4), as text without the last dot.
const MAX_NAME: usize = 253;
/// Longest answer by UDP for who does not say more (RFC 1035, 4.2.1), and for who does: what crosses any wire whole.
const SHORT: u16 = 512;
const LONG: u16 = 1232;
/// For how long an answer may be kept, in seconds: not at all, as containers come and go.
const TTL: u32 = 0;

/// RR types (IANA's "DNS parameters").
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
}

/// The class of the internet.
pub(crate) const INTERNET: u16 = 1;

/// Response codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// A question, and what of its message an answer repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    id: [u8; 2],
    recursion_desired: bool,
    /// In lower case, without the last dot.
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    /// Name, type and class as they came.
    raw: Vec<u8>,
    /// Longest answer by UDP, if it knows EDNS (RFC 6891).
    edns: Option<u16>,
}

/// What an answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Addresses of one family; none of them is no error: the name has others.
    Addresses(Vec<IpAddr>),
    /// A name.
    Name(String),
    /// Nothing but a code.
    Only(Code),
}

impl Query {
    /// One of our own.
    #[cfg(test)]
    pub(super) fn new(name: &str, kind: u16) -> Query {
        let raw = [&write_name(name), &kind.to_be_bytes()[..], &INTERNET.to_be_bytes()].concat();
        let name = name.to_ascii_lowercase();
        Query { id: [0, 0], recursion_desired: true, name, kind, class: INTERNET, raw, edns: None }
    }

    /// A number that differs from question to question.
    pub(super) fn number(&self) -> usize {
        u16::from_be_bytes(self.id).into()
    }

    /// Reads a message; `Err` is the answer to send, if there is any to what is no question at all.
    pub(crate) fn read(message: &[u8]) -> Result<Query, Option<Vec<u8>>> {
        let header: &[u8; HEADER] = message.first_chunk().ok_or(None)?;
        // An answer is never answered, or two servers would keep each other busy for ever.
        if header[2] & 0x80 != 0 {
            return Err(None);
        }
        let fail = |code| Err(Some(bare(header, code)));
        if header[2] & 0x78 != 0 {
            return fail(Code::NotImplemented);
        }
        if header[4..6] != [0, 1] {
            return fail(Code::FormatError);
        }
        let Some((name, length)) = read_name(&message[HEADER..]) else { return fail(Code::FormatError) };
        let end = HEADER + length + 4;
        let Some(raw) = message.get(HEADER..end) else { return fail(Code::FormatError) };
        let word = |at: usize| u16::from_be_bytes([raw[at], raw[at + 1]]);
        Ok(Query {
            id: [header[0], header[1]],
            recursion_desired: header[2] & 1 != 0,
            name,
            kind: word(length),
            class: word(length + 2),
            raw: raw.to_vec(),
            edns: edns(header, &message[end..]),
        })
    }

    /// Whether this message answers it.
    pub(crate) fn is_answered_by(&self, message: &[u8]) -> bool {
        let (header, rest) = message.split_at_checked(HEADER).unwrap_or_default();
        // Servers may change the case of a name only if they were asked so.
        header.get(..2) == Some(&self.id[..])
            && header[2] & 0x80 != 0
            && rest.get(..self.raw.len()).is_some_and(|raw| raw.eq_ignore_ascii_case(&self.raw))
    }

    /// The answer as a message; by UDP cut off where it gets too long, and marked so that the asker tries TCP.
    pub(crate) fn answer(&self, answer: &Answer, udp: bool) -> Vec<u8> {
        let longest = if udp { self.edns.unwrap_or(SHORT) } else { u16::MAX };
        let (code, records) = match answer {
            Answer::Only(code) => (*code, Vec::new()),
            Answer::Name(name) => (Code::NoError, vec![record(kind::PTR, &write_name(name))]),
            Answer::Addresses(addresses) => {
                (Code::NoError, addresses.iter().map(|ip| address(*ip)).collect())
            }
        };
        // Root, type, the size that we take, and no extended code, flags or data.
        let room = LONG.to_be_bytes();
        let opt: &[u8] = match self.edns {
            Some(_) => &[0, 0, kind::OPT.to_be_bytes()[1], room[0], room[1], 0, 0, 0, 0, 0, 0],
            None => &[],
        };
        let room = usize::from(longest).saturating_sub(HEADER + self.raw.len() + opt.len());
        let mut body: Vec<u8> = Vec::new();
        let mut count = 0u16;
        for record in &records {
            if body.len() + record.len() > room {
                break;
            }
            body.extend(record);
            count += 1;
        }
        let truncated = usize::from(count) < records.len();
        let mut message = Vec::with_capacity(HEADER + self.raw.len() + body.len() + opt.len());
        message.extend(self.id);
        // It is an answer, with authority; recursion is available.
        message.push(0x84 | u8::from(truncated) << 1 | u8::from(self.recursion_desired));
        message.push(0x80 | code as u8);
        for word in [1, count, 0, u16::from(self.edns.is_some())] {
            message.extend(word.to_be_bytes());
        }
        message.extend(&self.raw);
        message.extend(body);
        message.extend(opt);
        message
    }
}

/// An answer to what could not be read: the header alone.
fn bare(header: &[u8; HEADER], code: Code) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message[..2].copy_from_slice(&header[..2]);
    message[2] = 0x80 | header[2] & 0x79;
    message[3] = 0x80 | code as u8;
    message
}

/// A name in a question, where nothing can be pointed to yet, and how many bytes it took.
fn read_name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        // The two high bits mark pointers and what nobody uses.
        let label = bytes.get(at..at + length).filter(|_| length < 64)?;
        at += length;
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            // What is in no container's name is never found; it stays one character.
            name.push(if byte.is_ascii_graphic() && *byte != b'.' {
                char::from(byte.to_ascii_lowercase())
            } else {
                '\u{fffd}'
            });
        }
        if at > MAX_NAME + 1 {
            return None;
        }
    }
}

/// What the pseudo record at the end says about the longest answer.
fn edns(header: &[u8; HEADER], rest: &[u8]) -> Option<u16> {
    // Between the question and it there is nothing in a question.
    if header[6..10] != [0; 4] || header[10..12] == [0; 2] {
        return None;
    }
    let record: &[u8; 5] = rest.first_chunk()?;
    let found = record[..3] == [0, 0, kind::OPT.to_be_bytes()[1]];
    found.then(|| u16::from_be_bytes([record[3], record[4]]).clamp(SHORT, LONG))
}

/// A record about the name of the question, which is pointed to.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 0x0c];
    record.extend(kind.to_be_bytes());
    record.extend(INTERNET.to_be_bytes());
    record.extend(TTL.to_be_bytes());
    record.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    record.extend(data);
    record
}

fn address(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => record(kind::A, &ip.octets()),
        IpAddr::V6(ip) => record(kind::AAAA, &ip.octets()),
    }
}

/// A name of our own as labels; what does not fit is cut.
fn write_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        if bytes.len() + label.len() + 2 > MAX_NAME + 2 {
            break;
        }
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// The address whose name is asked for (`4.3.2.1.in-addr.arpa`, 32 digits and `ip6.arpa`).
pub(crate) fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = rest.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| octets.into());
    }
    let mut bits = 0u128;
    let mut labels = name.strip_suffix(".ip6.arpa")?.split('.');
    for place in 0..32 {
        let digit = labels.next().filter(|label| label.len() == 1)?;
        bits |= u128::from_str_radix(digit, 16).ok()? << (4 * place);
    }
    labels.next().is_none().then(|| IpAddr::V6(bits.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(write_name(name));
        message.extend(kind.to_be_bytes());
        message.extend(INTERNET.to_be_bytes());
        message
    }

    fn with_edns(name: &str, size: u16) -> Vec<u8> {
        let mut message = question(name, kind::A);
        message[11] = 1;
        message.extend([0, 0, 41]);
        message.extend(size.to_be_bytes());
        message.extend([0; 6]);
        message
    }

    #[test]
    fn a_question_and_its_answer() {
        let query = Query::read(&question("Web.Example", kind::A)).unwrap();
        assert_eq!((query.name.as_str(), query.kind, query.class), ("web.example", kind::A, INTERNET));
        let answer = query.answer(&Answer::Addresses(vec![[10, 9, 0, 2].into()]), true);
        let mut wanted = vec![0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        wanted.extend(b"\x03Web\x07Example\0\0\x01\0\x01");
        wanted.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\x09\0\x02");
        assert_eq!(answer, wanted);
        assert!(query.is_answered_by(&answer));
        assert!(!Query::read(&question("other", kind::A)).unwrap().is_answered_by(&answer));
        assert!(!query.is_answered_by(&question("web.example", kind::A)));
        let none = query.answer(&Answer::Only(Code::NoSuchName), true);
        assert_eq!((none[3] & 15, &none[6..8]), (3, &[0, 0][..]));
        let six = query.answer(&Answer::Addresses(vec!["fd00::2".parse().unwrap()]), true);
        assert!(six.ends_with(&[0, 2]) && six.len() == wanted.len() + 12);
    }

    #[test]
    fn long_answers_are_cut_by_udp_alone() {
        let many = Answer::Addresses((0..200).map(|n| [10, 0, 0, n].into()).collect());
        let query = Query::read(&question("web", kind::A)).unwrap();
        let (cut, whole) = (query.answer(&many, true), query.answer(&many, false));
        assert!(cut.len() <= 512 && cut[2] & 2 != 0, "{}", cut.len());
        assert_eq!((whole[2] & 2, u16::from_be_bytes([whole[6], whole[7]])), (0, 200));
        for (size, longest) in [(0, 512), (600, 600), (65535, 1232)] {
            let answer = Query::read(&with_edns("web", size)).unwrap().answer(&many, true);
            assert!(answer.len() <= longest && answer.len() > longest - 16, "{size}: {}", answer.len());
            assert_eq!(answer[11], 1, "EDNS is answered with EDNS");
        }
    }

    #[test]
    fn names_of_addresses() {
        assert_eq!(reversed("2.0.9.10.in-addr.arpa"), "10.9.0.2".parse().ok());
        let six = format!("2{}.d.f.ip6.arpa", ".0".repeat(29));
        assert_eq!(reversed(&six), "fd00::2".parse().ok());
        for bad in [
            "in-addr.arpa",
            "1.2.3.in-addr.arpa",
            "5.4.3.2.1.in-addr.arpa",
            "256.0.0.1.in-addr.arpa",
            "1.ip6.arpa",
            "x",
        ] {
            assert_eq!(reversed(bad), None, "{bad}");
        }
        let query = Query::read(&question("2.0.9.10.in-addr.arpa", kind::PTR)).unwrap();
        let answer = query.answer(&Answer::Name("db.back".to_owned()), true);
        assert!(answer.ends_with(b"\0\x09\x02db\x04back\0"), "{answer:?}");
    }

    #[test]
    fn what_is_no_question_gets_a_short_answer_or_none() {
        let code = |message: &[u8]| Query::read(message).unwrap_err().map(|answer| answer[3] & 15);
        assert_eq!(code(&[]), None);
        assert_eq!(code(&[0; 11]), None);
        let mut answer = question("web", kind::A);
        answer[2] |= 0x80;
        assert_eq!(code(&answer), None, "an answer is never answered");
        let mut update = question("web", kind::A);
        update[2] |= 5 << 3;
        assert_eq!(code(&update), Some(4));
        let mut two = question("web", kind::A);
        two[5] = 2;
        assert_eq!(code(&two), Some(1));
        let short = question("web", kind::A);
        assert_eq!(code(&short[..short.len() - 1]), Some(1));
        let mut pointer = question("", kind::A);
        pointer.splice(12..13, [0xc0, 0x0c]);
        assert_eq!(code(&pointer), Some(1));
        let long = question(&["x".repeat(63).as_str(); 3].join("."), kind::A);
        let mut longer = long.clone();
        longer.splice(12..12, long[12..12 + 64 * 3].to_vec());
        assert_eq!(code(&longer), Some(1));
    }

    /// Random bytes, and questions with random bytes in them, by a fixed generator (xorshift).
    #[test]
    fn nothing_that_comes_makes_it_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()
        };
        let seeds = [question("web.example.org", kind::AAAA), with_edns("a", 4096)];
        for round in 0..50_000 {
            let noise: Vec<u8> = (0..8).flat_map(|_| random()).collect();
            let mut message = if round % 3 == 0 { noise.clone() } else { seeds[round % 2].clone() };
            for at in noise.chunks_exact(2).take(round % 6) {
                let place = usize::from(at[0]) % message.len();
                message[place] = at[1];
            }
            message.truncate(usize::from(noise[31]) % (message.len() + 1));
            match Query::read(&message) {
                Ok(query) => {
                    let many = Answer::Addresses(vec![[10, 0, 0, 1].into(); usize::from(noise[0])]);
                    let answer = query.answer(&many, true);
                    // No more comes back than the asker said that it takes.
                    assert!(answer.len() <= usize::from(LONG) && query.is_answered_by(&answer));
                    assert!(query.name.chars().count() <= MAX_NAME);
                    reversed(&query.name);
                }
                Err(answer) => assert!(answer.is_none_or(|answer| answer.len() == HEADER)),
            }
        }
    }
}
